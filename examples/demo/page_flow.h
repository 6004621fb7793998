/* page_flow: the pipeline on the page: its stages, the bottleneck, the queue over time. */
#ifndef CRUNCH_PAGE_FLOW_H
#define CRUNCH_PAGE_FLOW_H
#include <stdio.h>

#include "measure.h"

void page_flow_write(FILE *out, const struct measurement *m);

#endif

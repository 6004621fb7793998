/* page_legend: every pattern at work, and what it does here. */
#ifndef CRUNCH_PAGE_LEGEND_H
#define CRUNCH_PAGE_LEGEND_H
#include <stdio.h>

#include "measure.h"

void page_legend_write(FILE *out, const struct measurement *m);

#endif

/* page_lanes: what each thread did, as JSON for the script of the page. */
#ifndef CRUNCH_PAGE_LANES_H
#define CRUNCH_PAGE_LANES_H
#include <stdio.h>

#include "measure.h"

void page_lanes_write(FILE *out, const struct measurement *m);

const char *page_label(const struct config *config, char label[32]); /* "2 workers" */

#endif

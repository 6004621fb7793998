/* page: the measurement as a picture, one HTML file that needs nothing else. */
#ifndef CRUNCH_PAGE_H
#define CRUNCH_PAGE_H
#include "measure.h"

/* 0, or an errno value: then there is no page, rather than half of one. */
int page_write(const struct measurement *m, const char *path);

#endif

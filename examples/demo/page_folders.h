/* page_folders: the largest folders of the corpus. */
#ifndef CRUNCH_PAGE_FOLDERS_H
#define CRUNCH_PAGE_FOLDERS_H
#include <stdio.h>

#include "measure.h"

void page_folders_write(FILE *out, const struct measurement *m);

#endif

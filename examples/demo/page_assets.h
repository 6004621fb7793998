/* page_assets: the parts of the page that are the same for every measurement. */
#ifndef CRUNCH_PAGE_ASSETS_H
#define CRUNCH_PAGE_ASSETS_H

extern const char *const page_style[], *const page_script[]; /* lines; NULL ends them */

#endif

/* team_pool.c with the counter by which sleepers are called starting just below its wrap. */
#define WRAP 1
#include "team_pool.c"

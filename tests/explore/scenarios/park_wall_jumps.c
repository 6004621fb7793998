/* EXPLORE: --wall-jumps
   EXPLORE-BACKENDS: no-futex no-futex-pthread
   As park_deadline.c, when somebody sets the clock on the wall. */
#include "park_deadline.c"

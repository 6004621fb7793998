/* EXPLORE: --fail=cond
   EXPLORE-BACKENDS: no-futex no-futex-pthread
   As park_deadline.c, when a condition cannot be made. */
#include "park_deadline.c"

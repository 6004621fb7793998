/* EXPLORE: --no-futex
   EXPLORE-BACKENDS: futex
   As park_deadline.c, where the kernel (a sandbox) has no futex: waiting goes on without sleep. */
#define ALL_YIELD 1
#include "park_deadline.c"

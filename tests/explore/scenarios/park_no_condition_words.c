/* EXPLORE: --fail=cond
   EXPLORE-BACKENDS: no-futex no-futex-pthread
   As park_words.c, when a condition cannot be made. */
#include "park_words.c"

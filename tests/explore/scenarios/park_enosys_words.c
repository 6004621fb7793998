/* EXPLORE: --no-futex
   EXPLORE-BACKENDS: futex
   As park_words.c, where the kernel (a sandbox) has no futex. */
#include "park_words.c"

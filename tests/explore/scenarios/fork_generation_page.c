/* EXPLORE: --mmap --polling
   As fork_generation.c, where the kernel can wipe a page on fork. */
#include "fork_generation.c"

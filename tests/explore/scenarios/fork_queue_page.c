/* EXPLORE: --mmap --polling
   As fork_queue.c, where the kernel can wipe a page on fork. */
#include "fork_queue.c"

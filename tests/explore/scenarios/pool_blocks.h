/* pool_blocks.h: pool_common.h for pools that are abandoned: their last thread frees them, and
   nobody joins it. */
#ifndef POOL_BLOCKS_H
#define POOL_BLOCKS_H

#include <stdatomic.h>
#include <stddef.h>

static void *counted_malloc(size_t size);
static void counted_free(void *memory);
#define TWILL_MALLOC(size) counted_malloc(size)
#define TWILL_FREE(memory) counted_free(memory)
#include "pool_common.h"

static _Atomic int blocks;

#ifndef NO_MEMORY /* whether an allocation fails */
#define NO_MEMORY() 0
#endif

static void *counted_malloc(size_t size)
{
    if (NO_MEMORY())
        return NULL;
    atomic_fetch_add(&blocks, 1);
    return malloc(size);
}

static void counted_free(void *memory)
{
    free(memory);
    if (memory)
        atomic_fetch_sub(&blocks, 1);
}

static inline void until_freed(void)
{
    while (atomic_load(&blocks)) { /* exit: the last thread comes to its end */
        (void)twill_sleep(twill_within(TWILL_US(1)));
        twill__yield(); /* time may pass while it could go on */
    }
}
#endif

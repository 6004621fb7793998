/* resource_common.h: what the scenarios of the resource pool share. Each is a program of one run;
   compile with -DTWILL__SPIN=0. Resources are numbers from 1: none is lent twice, none is destroyed
   twice, there are never more than max, and the books balance at the end. */
#ifndef RESOURCE_COMMON_H
#define RESOURCE_COMMON_H

#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TWILL_IMPLEMENTATION
#include "twill_resource_pool.h"

enum { THINGS = 16 };
static atomic_int made, existing, destroyed[THINGS], used[THINGS];
static int most = 1; /* of resources at once */
static atomic_int refuse;

static inline int make(void **resource, const twill_task *task)
{
    int number;
    (void)task;
    if (atomic_load(&refuse) && atomic_fetch_sub(&refuse, 1) > 0)
        return 7;
    number = atomic_fetch_add(&made, 1) + 1;
    assert(atomic_fetch_add(&existing, 1) < most && number < THINGS);
    *resource = (void *)(uintptr_t)number;
    return 0;
}

static inline void end_thing(void *resource, twill_resource_end why, const twill_task *task)
{
    int number = (int)(uintptr_t)resource;
    (void)why, (void)task;
    assert(atomic_load(&used[number]) == 0 && atomic_fetch_add(&destroyed[number], 1) == 0);
    atomic_fetch_sub(&existing, 1);
}

struct side {
    twill__thrd thread;
    twill_resource_pool *pool;
    twill_until until;
    twill_lease lease;
    twill_status status;
    bool discard, keep;
};

static inline bool go(struct side *side, void (*fn)(void *side), twill_resource_pool *pool)
{
    memset(&side->thread, 0, sizeof side->thread);
    side->thread.fn = fn;
    side->thread.arg = side;
    side->thread.cpu = UINT_MAX;
    side->pool = pool;
    return twill__thread_start(&side->thread);
}

static inline void end(struct side *side)
{
    twill__thread_join(&side->thread);
}

static inline void use(const twill_lease *lease)
{
    int number = (int)(uintptr_t)lease->resource;
    assert(atomic_fetch_add(&used[number], 1) == 0);
    atomic_fetch_sub(&used[number], 1);
}

static inline void borrow(void *side_)
{
    struct side *side = side_;
    side->status = twill_resource_pool_acquire_until(side->pool, &side->lease, side->until);
    if (side->status != TWILL_OK)
        return;
    use(&side->lease);
    if (!side->keep)
        assert((side->discard ? twill_resource_pool_discard
                              : twill_resource_pool_release)(side->pool, &side->lease) == TWILL_OK);
}

static inline twill_resource_pool *pool_of(twill_resource_pool_options options)
{
    twill_resource_pool *pool;
    options.create = make;
    options.destroy = end_thing;
    if (twill_resource_pool_create(&pool, &options) != TWILL_OK)
        exit(0); /* a sweep of failures */
    return pool;
}

/* Nobody is inside: all capacity is there, and destroy leaves nothing. */
static inline void finish(twill_resource_pool *pool)
{
    twill_resource_pool_stats s;
    twill_resource_pool_get_stats(pool, &s);
    assert(s.total == s.idle && s.leased == 0 && s.creating == 0 && s.waiting == 0);
    assert(s.acquires == s.releases + s.discards + s.detached);
    assert(twill_resource_pool_destroy(pool) == TWILL_OK);
    assert(atomic_load(&existing) == 0);
    for (int k = 1; k <= atomic_load(&made); k++)
        assert(atomic_load(&destroyed[k]) == 1);
}
#endif

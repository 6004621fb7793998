/* A full pool whose callers run their tasks themselves, and one that waits until it is idle: who
   has found the stand-in gone finds what its task has submitted, although that came in without the
   lock, and waits for its end, too. */
#include "explore.h"
#include "pool_common.h"

static _Atomic unsigned begun;
static _Atomic uint32_t gate;

static int waits(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    while (!atomic_load_explicit(&gate, memory_order_relaxed))
        twill__park(&gate, 0, 0);
    return 0;
}

static int has_a_child(void *pool, void *result, const twill_task *task)
{
    (void)result, (void)task;
    atomic_store_explicit(&begun, 1, memory_order_relaxed);
    assert(twill_pool_submit(pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    return 0;
}

static void submit_beside(void *side_)
{
    struct side *side = side_;

    assert(twill_pool_submit(side->pool, has_a_child, side->pool, NULL, NULL) == TWILL_OK);
}

int main(void)
{
    struct side other = {0};
    unsigned before;

    other.pool = pool_of(&(twill_pool_options){
        .run.workers = 1, .capacity = 1, .overflow = TWILL_OVERFLOW_CALLER_RUNS});
    assert(twill_pool_submit(other.pool, waits, NULL, NULL, NULL) == TWILL_OK);
    go(&other, submit_beside); /* it stands in, or its task fills the pool */
    before = atomic_load_explicit(&begun, memory_order_relaxed);
    if (before)
        EXPLORE_REACHED("it had begun");
    atomic_store_explicit(&gate, 1, memory_order_relaxed);
    twill__wake(&gate, 1);
    assert(twill_pool_wait_idle(other.pool) == TWILL_OK);
    assert(atomic_load_explicit(&ran, memory_order_relaxed) >= before);
    end(&other);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    assert(ran == 1);
    return 0;
}

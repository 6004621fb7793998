/* A borrower that comes after close ends an idle resource, and the callback ends its thread. It
   holds nothing then: the pool may go, and is not touched again. */
#include "resource_common.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

static uint64_t main_thread;
static atomic_int left;

static void end_both(void *resource, twill_resource_end why, const twill_task *task)
{
    end_thing(resource, why, task);
    if (twill__thread_number() == main_thread)
        return;
    atomic_store(&left, 1);
    END_THREAD();
}

static void borrow_once(void *side)
{
    borrow(side);
    atomic_store(&left, 1);
}

int main(void)
{
    struct side one = {.until = {1, NULL}};
    twill_resource_pool *pool;
    twill_resource_pool_options options = {
        .max = 2, .destroy = end_both, .max_uses = 9 /* no desk */};

    main_thread = twill__thread_number();
    if (twill_resource_pool_create(&pool, &options) != TWILL_OK)
        return 0;
    for (uintptr_t k = 1; k <= 2; k++) {
        atomic_fetch_add(&made, 1);
        atomic_fetch_add(&existing, 1);
        assert(twill_resource_pool_add(pool, (void *)k) == TWILL_OK);
    }
    if (go(&one, borrow_once, pool)) {
        (void)twill_resource_pool_close(pool);
        while (!atomic_load(&left))
            twill__yield();
    }
    while (twill_resource_pool_destroy(pool) == TWILL_BUSY)
        twill__yield();
    if (one.thread.fn)
        end(&one);
    assert(atomic_load(&existing) == 0);
    return 0;
}

/* A strict call on a pool that has too few threads: refused before any callback, though the pool's
   thread looks for work all the while. */
#include "fan_common.h"
#include "twill_worker_pool.h"

static int never(const void *in, void *out, const twill_task *me)
{
    (void)in;
    (void)out;
    (void)me;
    assert(!"a strict call has run something");
    return 0;
}

static int start(void **state, const twill_task *me)
{
    (void)state;
    (void)me;
    assert(!"a strict call has started a worker");
    return 0;
}

int main(void)
{
    int items[2] = {0, 1};
    twill_pool *pool;

    quiet();
    assert(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}) == TWILL_OK);
    assert(twill_fan_out_fan_in(
               items, sizeof *items, 2, never, sizeof(int), NULL,
               &(twill_fan_options){
                   .run = {.workers = 2, .pool = pool, .strict = true, .worker_start = start}}) ==
           TWILL_NO_THREAD);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}

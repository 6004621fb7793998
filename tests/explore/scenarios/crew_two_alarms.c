/* Two crews on the threads of one pool, each with something that comes due; the first one's work
   waits for the second one's. Who wakes for the first instant is busy then: the other worker, just
   about to sleep, must know of the second. */
#include "pool_common.h"

#include "twill_fan_out_fan_in.h"

typedef struct thing {
    twill__crew crew;
    twill_ns due;
    _Atomic uint32_t taken;
    struct thing *waits_for;
    _Alignas(TWILL__LINE) char memory[2048];
} thing;

static thing first, second;

static bool ready(void *thing_)
{
    thing *it = thing_;

    if (atomic_load(&it->taken))
        return false;
    if (twill__clock_now() >= it->due)
        return true;
    twill__crew_alarm(&it->crew, it->due);
    return false;
}

static void work(void *thing_, twill_task *task)
{
    thing *it = thing_;

    (void)task;
    if (atomic_exchange(&it->taken, 1))
        return;
    twill__wake(&it->taken, INT_MAX);
    while (it->waits_for && !atomic_load(&it->waits_for->taken)) /* exit: it is due */
        twill__park(&it->waits_for->taken, 0, 0);
}

static void open_one(thing *it, twill_pool *pool, twill_ns due)
{
    static const twill__crew_table table = {{NULL, NULL, NULL, NULL, NULL}, ready, work, NULL};

    assert(twill__crew_bytes(1, 0) <= sizeof it->memory);
    it->due = due;
    assert(twill__crew_open(&it->crew, &(twill_run){.pool = pool}, 1, 0, false, &table, it,
                            it->memory) == TWILL_OK);
    twill__crew_alarm(&it->crew, due);
}

int main(void)
{
    twill_pool *pool = pool_of(&(twill_pool_options){.run.workers = 2});
    twill_ns now = twill_now();

    first.waits_for = &second;
    open_one(&second, pool, now + 5000);
    open_one(&first, pool, now + 2000);
    while (!atomic_load(&second.taken)) /* exit: as above */
        twill__park(&second.taken, 0, 0);
    while (!atomic_load(&first.taken))
        twill__park(&first.taken, 0, 0);
    twill__crew_close(&first.crew, NULL);
    twill__crew_close(&second.crew, NULL);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    return 0;
}

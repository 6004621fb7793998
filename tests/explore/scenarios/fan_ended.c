/* A task ends its thread, inline or in a worker: it is LOST, and the others run. */
#include "fan_common.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

static twill_fan *fan;

static int deadly(void *arg, void *result, const twill_task *me)
{
    (void)result;
    (void)me;
    atomic_fetch_add(&ran[(intptr_t)arg], 1);
    END_THREAD();
    return 0;
}

static int outer(void *arg, void *result, const twill_task *me)
{
    (void)result;
    (void)me;
    atomic_fetch_add(&ran[(intptr_t)arg], 1);
    assert(twill_fan_go(fan, deadly, tag(1), tag(1)) == TWILL_OK);
    return 0;
}

int main(void)
{
    twill_report report;

    quiet();
    assert(twill_fan_create(&fan, &(twill_fan_options){.run = {.workers = 1, .report = &report},
                                                       .in_flight = 1 + (size_t)choose(2)}) ==
           TWILL_OK);
    assert(twill_fan_go(fan, outer, tag(0), tag(0)) == TWILL_OK);
    assert(twill_fan_go(fan, task, tag(2), tag(2)) == TWILL_OK);
    assert(twill_fan_close(fan) == TWILL_OK);
    assert(read_all(fan) == 3);
    check_books(3);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    counts_add_up(&report, 3);
    return 0;
}

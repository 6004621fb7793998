/* A hook ends its thread: LOST, and another runner takes the next. */
#include "shutdown_common.h"

static int ran;

static int ends(const twill_task *task)
{
    (void)task;
    ran++;
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static int next(const twill_task *task)
{
    (void)task;
    ran += 10; /* plain: the hooks are ordered */
    return 0;
}

int main(void)
{
    twill_shutdown_step steps[2];
    twill_shutdown *shutdown = make((twill_shutdown_options){.steps = steps, .steps_capacity = 2});

    assert(twill_shutdown_add(shutdown, "next", next, NULL, 0) == TWILL_OK);
    assert(twill_shutdown_add(shutdown, "ends", ends, NULL, 0) == TWILL_OK);
    assert(twill_shutdown_finish(shutdown, NULL) == TWILL_FAILED);
    assert(steps[0].status == TWILL_LOST && steps[1].status == TWILL_OK && ran == 11);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    return 0;
}

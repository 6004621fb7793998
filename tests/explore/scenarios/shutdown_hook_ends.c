/* A hook ends its thread: LOST, and another runner takes the next. Or on_phase does, when it hears
   of the end: what it did comes before the return of finish. */
#include "explore.h"
#include "shutdown_common.h"

static int ran; /* plain: all is ordered */

static void end_thread(void)
{
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static int ends(const twill_task *task)
{
    (void)task;
    ran++;
    end_thread();
    return 0;
}

static int next(const twill_task *task)
{
    (void)task;
    ran += 10;
    return 0;
}

static void ends_at_last(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    (void)reason;
    (void)task;
    if (phase != TWILL_SHUTDOWN_STOPPED)
        return;
    ran = 100;
    end_thread();
}

static void a_hook(void)
{
    twill_shutdown_step steps[2];
    twill_shutdown *shutdown = make((twill_shutdown_options){.steps = steps, .steps_capacity = 2});

    assert(twill_shutdown_add(shutdown, "next", next, NULL, 0) == TWILL_OK);
    assert(twill_shutdown_add(shutdown, "ends", ends, NULL, 0) == TWILL_OK);
    assert(twill_shutdown_finish(shutdown, NULL) == TWILL_FAILED);
    assert(steps[0].status == TWILL_LOST && steps[1].status == TWILL_OK && ran == 11);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
}

static void the_last_phase(void)
{
    twill_shutdown *shutdown = make((twill_shutdown_options){.on_phase = ends_at_last});

    assert(twill_shutdown_finish(shutdown, NULL) == TWILL_OK);
    assert(ran == 100);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
}

int main(void)
{
    if (EXPLORE_CHOICE(2, 0))
        the_last_phase();
    else
        a_hook();
    return 0;
}

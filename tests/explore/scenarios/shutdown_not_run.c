/* A hook is given to a runner that is still at what came before it, and ends its thread there: the
   hook has not run, and is not said to have. */
#include "shutdown_common.h"

static void ends(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    (void)reason;
    (void)task;
    if (phase == TWILL_SHUTDOWN_HOOKS)
#ifdef TWILL_USE_PTHREAD
        pthread_exit(NULL);
#else
        thrd_exit(0);
#endif
}

static int never(const twill_task *task)
{
    (void)task;
    assert(0);
    return 0;
}

int main(void)
{
    twill_shutdown *shutdown = make((twill_shutdown_options){.on_phase = ends});
    int code = 0;

    assert(twill_shutdown_add(shutdown, "never", never, NULL, 0) == TWILL_OK);
    /* finish, but for the wait before the hook: with bad luck there is none that helps */
    twill__lock(&shutdown->lock);
    shutdown->finishing = true;
    twill__shutdown_unlock(shutdown);
    twill__shutdown_ask(shutdown, 9);
    twill__shutdown_drain(shutdown);
    assert(twill__shutdown_run_guarded(shutdown, shutdown->hooks, 0, TWILL_FOREVER, TWILL_FOREVER,
                                       &code) == TWILL_TIMEOUT);
    twill__lock(&shutdown->lock);
    shutdown->finishing = false;
    twill__shutdown_unlock(shutdown);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    return 0;
}

/* Solution: please stop. The task is in ../graceful_shutdown.c. */
#define TWILL_IMPLEMENTATION
#include "twill_graceful_shutdown.h"

#include <signal.h>
#include <stdio.h>

/* A hook runs in an ordinary thread, when all work has ended: it may print, lock and allocate. The
   signal handler itself may do next to nothing; it only writes a byte to a pipe. */
static int close_it(const twill_task *task)
{
    printf("%s closed\n", (const char *)task->context);
    return 0;
}

int main(void)
{
    twill_shutdown *stop;
    twill_shutdown_report report;
    int rounds = 0;
    if (twill_shutdown_create(&stop, NULL) != TWILL_OK) /* SIGINT and SIGTERM from here on */
        return 1;
    twill_shutdown_add(stop, "log", close_it, "log", 0);
    twill_shutdown_add(stop, "listener", close_it, "listener", 0); /* built last, closed first */
    /* Asking and going in are one step: nobody enters who could have seen the request, and whoever
       is in is waited for. `if (!stopping) work();` has a gap between the two. */
    while (twill_shutdown_enter(stop) == TWILL_OK) {
        if (++rounds == 5)
            raise(SIGTERM); /* in life somebody else does */
        twill_shutdown_leave(stop);
    }
    printf("worked %d rounds\n", rounds);
    twill_shutdown_finish(stop, &report); /* drain, cancel, hooks: in 20 s at most */
    printf("signal %d, %s\n", report.reason,
           report.stuck ? "somebody is stuck" : "nobody is stuck");
    twill_shutdown_destroy(stop);
    return 0; /* twill_shutdown_exit(stop, 0) would die by the signal, so that the shell sees it */
}

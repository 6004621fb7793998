/* Exercise: please stop.
 *
 *     cc -std=c11 -pthread -I patterns examples/exercises/graceful_shutdown.c && ./a.out
 *     make exercises E=graceful_shutdown
 *
 * A program works in rounds until somebody sends SIGTERM (here: it does so itself in round 5). The
 * round that has begun is finished; then what was built is closed, the last first:
 *
 *     worked 5 rounds
 *     listener closed
 *     log closed
 *     signal 15, nobody is stuck
 *
 * Hints: twill_shutdown_create, _add for the two things that are closed, _enter and _leave around a
 * round, _finish. For the check to see a status of 0, end with twill_shutdown_destroy and
 * `return 0`; a real program ends with twill_shutdown_exit: why? What may a signal handler do, and
 * who prints here?
 */
#define TWILL_IMPLEMENTATION
#include "twill_graceful_shutdown.h"

#include <signal.h>
#include <stdio.h>

int main(void)
{
    /* TODO */
    puts("not solved yet");
    return 0;
}

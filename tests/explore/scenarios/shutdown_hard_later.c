/* The program has asked to stop, and hangs; a signal comes at any moment, before that or after,
   also when total is over: the process ends, by that signal. */
#include "explore.h"
#include "shutdown_common.h"

#include <signal.h>

static _Atomic uint32_t never;

static void press(void *side_)
{
    struct side *side = side_;
    come(side->shutdown, SIGTERM);
}

int main(void)
{
    twill_shutdown *shutdown = make((twill_shutdown_options){.total = TWILL_US(5)});
    struct side side = {0};

    explore_may_end(128 + SIGTERM);
    shutdown->kind[SIGTERM] = TWILL__STOPS;
    go(&side, press, shutdown);
    twill_shutdown_request(shutdown, 9);
    end(&side);
    for (;;) /* hangs */
        twill__park(&never, 0, 0);
}

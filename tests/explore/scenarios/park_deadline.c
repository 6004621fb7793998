/* A park with a deadline meets a wake: late only when it is late, in time only when the word may
   have changed or for no reason; and three sleepers in one bucket of whom the middle one leaves. */
#include "cancel_common.h"

#include "explore.h"

static _Atomic uint32_t word;
static twill_ns soon;

static void sleep_until_soon(void *unused)
{
    (void)unused;
    while (!atomic_load(&word))
        if (!twill__park(&word, 0, soon)) {
            assert(twill__clock_now() >= soon);
            EXPLORE_REACHED("late");
            return;
        }
    EXPLORE_REACHED("told");
}

static void sleep_long(void *unused)
{
    (void)unused;
    while (!atomic_load(&word))
        if (!twill__park(&word, 0, soon + TWILL_SEC(3600))) {
            assert(twill__clock_now() >= soon + TWILL_SEC(3600));
            return;
        }
}

int main(void)
{
    twill__thrd threads[3];

#ifndef ALL_YIELD
    EXPLORE_MUST_REACH("late");
    EXPLORE_MUST_REACH("told");
#endif
    soon = twill__clock_now() + TWILL_MS(1);
    go(&threads[0], sleep_long, NULL);
    go(&threads[1], sleep_until_soon, NULL);
    go(&threads[2], sleep_long, NULL);
    (void)twill_sleep((twill_until){.deadline = soon});
    atomic_store(&word, 1);
    twill__wake(&word, INT_MAX);
    end(threads, 3);
    while (twill__park(&word, 1, soon)) { /* for no reason; in the end it is late */
    }
    return 0;
}

/* Exercise: an answer in time.
 *
 *     cc -std=c11 -pthread -I patterns examples/exercises/timeout_fallback.c && ./a.out
 *     make exercises E=timeout_fallback
 *
 * `ask` is somebody else's function: it does not look at any deadline, and takes as many
 * milliseconds as its argument says. Ask it with 5, and wait for at most 5 s; then with 2000, and
 * wait for at most 0.05 s. Print the price, or the last price that is known where there is none in
 * time:
 *
 *     price 105
 *     price 100, which is old: TWILL_TIMEOUT
 *     1 still runs
 *     none any more
 *
 * Hints: twill_call_with_timeout takes a fallback value. It copies what `ask` gets and what it
 * writes: why must it? (Where would a pointer of yours point when `ask` comes back late?) The last
 * two lines: twill_timeout_abandoned and twill_timeout_drain, with NULL for the calls of this kind.
 */
#define TWILL_IMPLEMENTATION
#include "twill_timeout_fallback.h"

#include <stdio.h>

static int ask(const void *in, void *out, const twill_task *task)
{
    (void)task;
    twill_sleep(twill_within(TWILL_MS(*(const int *)in)));
    *(int *)out = 105;
    return 0;
}

int main(void)
{
    int quick = 5, slow = 2000, old = 100;
    (void)ask, (void)quick, (void)slow, (void)old;
    /* TODO */
    puts("not solved yet");
    return 0;
}

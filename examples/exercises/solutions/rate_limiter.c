/* Solution: not too fast. The task is in ../rate_limiter.c. */
#define TWILL_IMPLEMENTATION
#include "twill_rate_limiter.h"

#include <stdio.h>

int main(void)
{
    /* A bucket of three tokens, into which one comes each tenth of a second. It is full now: three
       calls at once, then each waits for its own token. Its due time counts from when the one
       before was due, not from when that one woke: lateness does not add up. The memory is ours,
       there is no thread, and there is nothing to destroy. */
    twill_rate_limiter service, game;
    if (twill_rate_limiter_init_per_second(&service, 10, 3) != TWILL_OK ||
        twill_rate_limiter_init_per_second(&game, 10, 3) != TWILL_OK)
        return 1;
    int calls = 0;
    while (calls < 8 && twill_rate_limiter_acquire(&service, 1) == TWILL_OK)
        calls++;
    printf("%d calls\nin the game:", calls);
    /* Nothing here depends on how fast the machine is: that is how one tests what has to do with
       time. */
    calls = 0;
    for (int ms = 0; calls < 8; ms++)
        while (calls < 8 && twill_rate_limiter_try_acquire_at(&game, 1, TWILL_MS(ms)) == TWILL_OK) {
            printf(" %d", ms);
            calls++;
        }
    printf("\n");
    return 0;
}

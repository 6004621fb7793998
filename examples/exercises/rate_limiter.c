/* Exercise: not too fast.
 *
 *     cc -std=c11 -pthread -I patterns examples/exercises/rate_limiter.c && ./a.out
 *     make exercises E=rate_limiter
 *
 * A service allows ten calls a second, and three at once after a pause. Make eight calls from this
 * thread as fast as it allows. Then do it once more in a game, whose clock is an int that counts
 * milliseconds: ask in every one of them, without waiting, and print when the eight calls are made:
 *
 *     8 calls
 *     in the game: 0 0 0 100 200 300 400 500
 *
 * It takes 0.5 s. Hints: "sleep 0.1 s before each call" takes 0.8 s, and what the calls themselves
 * take on top. A call whose sleeper woke late: does the next one come later, too? For the game:
 * twill_rate_limiter_try_acquire_at, which is told what time it is; a limiter follows one clock.
 */
#define TWILL_IMPLEMENTATION
#include "twill_rate_limiter.h"

#include <stdio.h>

int main(void)
{
    twill_rate_limiter service, game;
    (void)service, (void)game;
    /* TODO */
    puts("not solved yet");
    return 0;
}

/* twill's rate limiter. */
#include "bench_limiter.h"

#define TWILL_IMPLEMENTATION
#include "twill_rate_limiter.h"

static twill_rate_limiter limiter;

static void limiter_open(double per_second, uint64_t burst)
{
    if (twill_rate_limiter_init_per_second(&limiter, per_second, burst) != TWILL_OK)
        exit(4);
}

static int limiter_try(void)
{
    return twill_rate_limiter_try_acquire(&limiter, 1) == TWILL_OK;
}

static void limiter_wait(void)
{
    if (twill_rate_limiter_acquire(&limiter, 1) != TWILL_OK)
        exit(4);
}

int main(int argc, char **argv)
{
    return bench_limiter_main(argc, argv);
}

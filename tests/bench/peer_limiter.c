/* The limiter of the textbook: a mutex around the clock, a double of tokens, a sleep under the lock
 * (the scheme of the document that twill follows: the next slot counts from when the sleeper
 * woke). */
#include "bench_limiter.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static double rate, most, tokens;
static int64_t last;

static void limiter_open(double per_second, uint64_t burst)
{
    rate = per_second * 1e-9;
    most = tokens = (double)burst;
    last = bench_now();
}

static int limiter_try(void)
{
    int taken = 0;
    int64_t now = bench_now();
    pthread_mutex_lock(&mutex);
    tokens += (double)(now - last) * rate;
    if (tokens > most)
        tokens = most;
    last = now;
    if (tokens >= 1) {
        tokens -= 1;
        taken = 1;
    }
    pthread_mutex_unlock(&mutex);
    return taken;
}

static void limiter_wait(void)
{
    static int64_t called;
    pthread_mutex_lock(&mutex);
    int64_t wait = called + (int64_t)(1 / rate) - bench_now();
    if (called && wait > 0)
        nanosleep(&(struct timespec){wait / 1000000000, wait % 1000000000}, NULL);
    called = bench_now();
    pthread_mutex_unlock(&mutex);
}

int main(int argc, char **argv)
{
    return bench_limiter_main(argc, argv);
}

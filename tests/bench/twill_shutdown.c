/* From the request to the moment when the last of 8 blocked threads of six kinds is out: pop, push,
   rate limiter, bulkhead, retry's sleep, sleep. Median of some rounds; ENTRY: call, or signal (the
   request comes as SIGTERM). */
#include "bench.h"

#include <signal.h>

#define TWILL_IMPLEMENTATION
#include "twill_graceful_shutdown.h"
#include "twill_producer_consumer.h"
#include "twill_rate_limiter.h"
#include "twill_retry_backoff.h"

enum { THREADS = 8, ROUNDS = 21 };

static twill_shutdown *stop;
static twill_queue *full, *empty;
static twill_rate_limiter limiter;
static twill_bulkhead bulkhead;
static _Atomic int blocked;

static void fails(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(4);
}

static twill_status block(int kind)
{
    twill_until until = {0, twill_shutdown_drain_token(stop)};
    int item = 0;
    twill_retry retry;
    switch (kind) {
    case 0:
        return twill_queue_pop_until(empty, &item, until);
    case 1:
        return twill_queue_push_until(full, &item, until);
    case 2:
        return twill_rate_limiter_acquire_until(&limiter, 1, until);
    case 3:
        return twill_bulkhead_enter_until(&bulkhead, until);
    case 4:
        if (twill_retry_init(&retry, &(twill_retry_options){.base = TWILL_SEC(100),
                                                            .cap = TWILL_SEC(100),
                                                            .jitter = TWILL_JITTER_NONE,
                                                            .until = until}) != TWILL_OK)
            fails("retry");
        (void)twill_retry_next(&retry);
        twill_retry_result(&retry, 1);
        return twill_retry_next(&retry) ? TWILL_OK : TWILL_CANCELLED;
    default:
        return twill_sleep(until);
    }
}

static void run(void *arg)
{
    int kind = *(int *)arg;
    atomic_fetch_add(&blocked, 1);
    if (block(kind) != TWILL_CANCELLED)
        bench_wrong("a wait that was not cancelled", (size_t)kind);
    atomic_fetch_sub(&blocked, 1);
}

static int64_t one_round(bool by_signal)
{
    twill__thrd threads[THREADS];
    int kinds[THREADS];
    int64_t begun, took;
    if (twill_shutdown_create(&stop, NULL) != TWILL_OK)
        fails("create");
    for (int i = 0; i < THREADS; i++) {
        memset(&threads[i], 0, sizeof threads[i]);
        kinds[i] = i % 6;
        threads[i].fn = run;
        threads[i].arg = &kinds[i];
        threads[i].cpu = UINT_MAX;
        if (!twill__thread_start(&threads[i]))
            fails("thread");
    }
    while (atomic_load(&blocked) < THREADS)
        (void)twill_sleep(twill_within(TWILL_US(100)));
    (void)twill_sleep(twill_within(TWILL_MS(2))); /* all are parked */
    begun = bench_now();
    if (by_signal)
        raise(SIGTERM);
    else
        twill_shutdown_request(stop, 1);
    for (int i = 0; i < THREADS; i++)
        twill__thread_join(&threads[i]);
    took = bench_now() - begun;
    if (twill_shutdown_finish(stop, NULL) != TWILL_OK || twill_shutdown_destroy(stop) != TWILL_OK)
        fails("finish");
    return took;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    bool by_signal = argc > 1 && strcmp(argv[1], "signal") == 0;
    int64_t took[ROUNDS];
    int item = 0;
    twill_queue_options one = {.capacity = 1};
    if (twill_queue_create(&full, sizeof item, &one) != TWILL_OK ||
        twill_queue_create(&empty, sizeof item, &one) != TWILL_OK ||
        twill_queue_push(full, &item) != TWILL_OK ||
        twill_rate_limiter_init_per_second(&limiter, 0.001, 1) != TWILL_OK ||
        twill_rate_limiter_acquire(&limiter, 1) != TWILL_OK ||
        twill_bulkhead_init(&bulkhead, 1, THREADS) != TWILL_OK ||
        twill_bulkhead_enter(&bulkhead) != TWILL_OK)
        fails("what to wait for");
    for (int i = 0; i < ROUNDS; i++)
        took[i] = one_round(by_signal);
    qsort(took, ROUNDS, sizeof took[0], compare);
    bench_report("out", (double)took[ROUNDS / 2]);
    return 0;
}

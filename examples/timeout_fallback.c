/* timeout_fallback: a page of prices, assembled within a bound of time. Each supplier is a function
 * that may be slow, may fail, or may never answer: the page takes its price, else the cached one,
 * else the catalogue's, else it says that there is none. What is late is not lost: it refreshes the
 * cache.
 *
 *     cc -std=c11 -pthread -I patterns examples/timeout_fallback.c && ./a.out
 *
 * TEST-RUN:
 */
#include <stdatomic.h>
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_timeout_fallback.h"

enum { ITEMS = 6, NONE = -1 };

static const struct supplier {
    const char *name;
    int price;
    enum { QUICK, FAILS, SLEEPS_TILL_TOLD, HANGS } habit;
} suppliers[ITEMS] = {{"bolts", 12, QUICK}, {"nuts", 7, FAILS},    {"gears", 90, SLEEPS_TILL_TOLD},
                      {"belts", 31, HANGS}, {"chains", 44, HANGS}, {"pins", 2, QUICK}};

static const int catalogue[ITEMS] = {15, 9, 99, NONE, 50, 3};
static _Atomic int cache[ITEMS] = {0, 0, 88, 0, 0, 0}; /* 0: never seen */
static atomic_bool network_is_back;

/* Stands for a request over the network. */
static int ask(const void *in, void *out, const twill_task *task)
{
    const struct supplier *supplier = &suppliers[*(const int *)in];
    *(int *)out = supplier->price;
    switch (supplier->habit) {
    case QUICK:
        return 0;
    case FAILS:
        return 503;
    case SLEEPS_TILL_TOLD: /* looks at its token */
        twill_sleep(task->until);
        return 1;
    default: /* does not, and cannot be stopped */
        while (!atomic_load(&network_is_back))
            twill_sleep(twill_within(TWILL_MS(1)));
        return 0;
    }
}

static int from_cache(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(int *)out = atomic_load(&cache[*(const int *)in]);
    return *(int *)out == 0; /* not there: the next one's turn */
}

static int from_catalogue(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(int *)out = catalogue[*(const int *)in];
    return *(int *)out == NONE;
}

/* A result that nobody has waited for. */
static void keep(void *in, void *result, int code, const twill_task *task)
{
    (void)task;
    if (code == 0)
        atomic_store(&cache[*(int *)in], *(int *)result);
}

static void print_page(twill_timeout *prices)
{
    static const char *const sources[] = {"-", "supplier", "hedge", "fallback", "constant"};
    for (int item = 0; item < ITEMS; item++) {
        twill_timeout_report report;
        int price;
        twill_status status = twill_timeout_call(prices, &item, sizeof item, &price, sizeof price,
                                                 ask, (twill_until){0, NULL}, &report);
        printf("%-7s %3d  %-8s %u  (%s; supplier: %s)\n", suppliers[item].name, price,
               sources[report.source], report.level, twill_status_name(status),
               twill_status_name(report.primary));
    }
}

int main(void)
{
    const twill_fallback chain[] = {{from_cache, TWILL_SEC(5)}, {from_catalogue, 0}};
    const int none = NONE;
    twill_timeout *prices;
    twill_timeout_stats stats;
    size_t left;

    if (twill_timeout_create(&prices, &(twill_timeout_options){.timeout = TWILL_SEC(1),
                                                               .fallbacks = chain,
                                                               .fallback_count = 2,
                                                               .fallback_value = &none,
                                                               .fallback_value_size = sizeof none,
                                                               .fallback_on_failure = true,
                                                               .discard = keep}) != TWILL_OK)
        return 1;
    print_page(prices);
    twill_timeout_drain(prices, twill_within(0), &left);
    printf("%zu requests still hang; the page did not wait for them\n", left);

    atomic_store(&network_is_back, true);
    if (twill_timeout_drain(prices, twill_within(TWILL_SEC(10)), &left) != TWILL_OK)
        return 1;
    printf("late answers have refreshed the cache: belts %d, chains %d\n", cache[3], cache[4]);
    twill_timeout_get_stats(prices, &stats);
    printf("%llu calls: %llu served, %llu timed out, %llu failed\n",
           (unsigned long long)stats.calls, (unsigned long long)stats.ok,
           (unsigned long long)stats.timeouts, (unsigned long long)stats.failed);
    return twill_timeout_destroy(prices) != TWILL_OK;
}

/* rate_limiter: twenty pages are fetched by many workers, from a server that allows a hundred
 * starts a second, and by at most three calls at once. In front of it stands our own service, which
 * answers each client twice in a while and says how long the others have to wait.
 *
 *     cc -std=c11 -pthread -I patterns examples/rate_limiter.c && ./a.out
 *
 * TEST-RUN:
 */
#include <stdatomic.h>
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#include "twill_rate_limiter.h"

enum { PAGES = 20, WORKERS = 8 };

static twill_rate_limiter limit;
static twill_bulkhead door;
static twill_ns started[PAGES];
static atomic_int inside, crowd;

/* Stands for a call over the network. */
static int fetch(const twill_task *task)
{
    if (twill_bulkhead_enter_until(&door, task->until) != TWILL_OK)
        return 1;
    int now = atomic_fetch_add(&inside, 1) + 1, most = atomic_load(&crowd);
    while (now > most && !atomic_compare_exchange_weak(&crowd, &most, now))
        continue;
    twill_sleep(twill_within(TWILL_MS(5)));
    atomic_fetch_sub(&inside, 1);
    return twill_bulkhead_leave(&door) != TWILL_OK;
}

static int page(const twill_task *task)
{
    /* before each start; a deadline that cannot be met would be refused at once */
    if (twill_rate_limiter_acquire_until(&limit, 1, task->until) != TWILL_OK)
        return 1;
    started[task->index] = twill_now();
    return fetch(task);
}

static void serve(uint64_t client, twill_rate_keys *clients)
{
    twill_status status = twill_rate_keys_try_acquire(clients, client, 1);
    if (status == TWILL_OK)
        printf("client %d: 200\n", (int)client);
    else
        printf("client %d: 429, Retry-After: %d\n", (int)client,
               (int)((twill_rate_keys_wait_time(clients, client, 1) + TWILL_SEC(1) - 1) /
                     TWILL_SEC(1)));
}

int main(void)
{
    twill_rate_keys *clients;
    twill_ns begun = twill_now(), took;
    if (twill_rate_limiter_init_per_second(&limit, 100, 1) != TWILL_OK ||
        twill_bulkhead_init(&door, 3, SIZE_MAX) != TWILL_OK)
        return 1;
    twill_parallel_options options = {.run.workers = WORKERS};
    twill_status status = twill_parallel_for(PAGES, page, &options);
    took = twill_now() - begun;

    int starts = 0;
    for (int k = 0; k < PAGES; k++)
        starts += started[k] != 0;
    printf("%s: %d pages; at least 190 ms: %s; at most three at once: %s\n",
           twill_status_name(status), starts, took >= TWILL_MS(190) ? "yes" : "NO",
           atomic_load(&crowd) <= 3 ? "yes" : "NO");

    /* two requests in a minute for each client */
    if (twill_rate_keys_create(&clients, 1000,
                               &(twill_rate_limiter_options){
                                   .tokens = 2, .per = TWILL_SEC(60), .burst = 2}) != TWILL_OK)
        return 1;
    for (int k = 0; k < 3; k++)
        serve(7, clients);
    serve(8, clients);
    return twill_rate_keys_destroy(clients) != TWILL_OK;
}

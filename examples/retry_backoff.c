/* retry_backoff: a flaky service is asked by several callers. A failure that may pass is tried
 * again, later and later; a permanent one is not; and when the service is down altogether, a budget
 * that all callers share keeps their retries from making it worse.
 *
 *     cc -std=c11 -pthread -I patterns examples/retry_backoff.c && ./a.out
 *
 * TEST-RUN:
 */
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_retry_backoff.h"

struct service {
    int busy; /* so many calls are refused, then one is answered */
    int calls;
};

enum { BUSY = 503, NOT_FOUND = 404 };

/* Stands for a request over the network. */
static int fetch(const void *name, void *page, const twill_task *task)
{
    struct service *service = task->context;
    service->calls++;
    if (*(const char *)name == '?')
        return NOT_FOUND;
    if (service->busy > 0) {
        service->busy--;
        return BUSY;
    }
    *(const char **)page = name;
    return 0;
}

static twill_ns judge(int code, const void *page, const twill_task *task)
{
    (void)page;
    (void)task;
    return code == NOT_FOUND ? TWILL_RETRY_NEVER : 0;
}

static void tell(const twill_retry_attempt *failed, twill_ns delay, const twill_task *task)
{
    (void)task;
    printf("  attempt %zu failed (%d), again in %.1f s\n", failed->number + 1, failed->code,
           (double)delay * 1e-9);
}

static void report(const char *what, const twill_retry_report *r)
{
    printf("%s: %s after %zu calls, %s\n", what, twill_status_name(r->status), r->attempts,
           twill_retry_end_name(r->end));
}

int main(void)
{
    const char *page = NULL;
    struct service service = {.busy = 2};
    twill_retry_report r;
    twill_retry_options options = {.max_attempts = 3,
                                   .base = TWILL_MS(100),
                                   .jitter = TWILL_JITTER_NONE, /* so that this prints the same */
                                   .until = twill_within(TWILL_SEC(60)),
                                   .context = &service,
                                   .after_failure = judge,
                                   .on_retry = tell};
    (void)twill_retry_call("a page", &page, fetch, &options, &r);
    report("a flaky service", &r);

    (void)twill_retry_call("?", &page, fetch, &options, &r);
    report("a wrong name", &r);

    /* The service is down: ten callers, a budget for four retries. As a loop, for a change. */
    static twill_retry_budget budget;
    if (twill_retry_budget_init(
            &budget, &(twill_retry_budget_options){.capacity = 20, .retry_cost = 5}) != TWILL_OK)
        return 1;
    service = (struct service){.busy = 1000};
    options = (twill_retry_options){.base = TWILL_MS(1), .budget = &budget};
    int refused = 0;
    for (int caller = 0; caller < 10; caller++) {
        twill_retry retry;
        if (twill_retry_init(&retry, &options) != TWILL_OK)
            return 1;
        while (twill_retry_next(&retry)) {
            twill_task task = {.context = &service};
            twill_retry_result(&retry, fetch("a page", &page, &task));
        }
        (void)twill_retry_finish(&retry, &r);
        refused += r.end == TWILL_RETRY_NO_BUDGET;
    }
    printf("a service that is down: 10 callers made %d calls; %d were told: no budget\n",
           service.calls, refused);
    return 0;
}

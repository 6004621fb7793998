/* Solution: once more. The task is in ../retry_backoff.c. */
#define TWILL_IMPLEMENTATION
#include "twill_retry_backoff.h"

#include <stdio.h>

static int get(const void *page, void *out, const twill_task *task)
{
    (void)out;
    if (*(const int *)page == 2)
        return 404;
    return task->index < 2 ? 503 : 0;
}

/* A failure that stays is not cured by waiting. Without this, page 2 would cost five calls and 0.3
   s. */
static twill_ns judge(int code, const void *out, const twill_task *task)
{
    (void)out, (void)task;
    return code == 404 ? TWILL_RETRY_NEVER
                       : 0; /* 0: as usual; more: "not before", as servers say */
}

static void tell(const twill_retry_attempt *failed, twill_ns delay, const twill_task *task)
{
    (void)task;
    printf("%d, again in %d ms\n", failed->code, (int)(delay / TWILL_MS(1)));
}

int main(void)
{
    for (int page = 1; page <= 2; page++) {
        twill_retry_report report;
        twill_status status = twill_retry_call(
            &page, NULL, get,
            &(twill_retry_options){
                .max_attempts = 5, /* calls, the first one included */
                .base = TWILL_MS(20),
                .jitter = TWILL_JITTER_NONE,         /* a real program: FULL, the default */
                .until = twill_within(TWILL_SEC(5)), /* and all of it has an end */
                .after_failure = judge,
                .on_retry = tell},
            &report);
        printf("page %d: %s", page, twill_status_name(status));
        if (status != TWILL_OK)
            printf(" with %d", report.code); /* what get said, not what we make of it */
        printf(" after %zu calls\n", report.attempts);
    }
    return 0;
}

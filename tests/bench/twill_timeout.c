/* twill_timeout (an object, whose threads serve again) and twill_call_with_timeout: "one" as the
 * first argument. */
#include "bench_timeout.h"

#define TWILL_IMPLEMENTATION
#include "twill_timeout_fallback.h"

static twill_timeout *timeout; /* NULL: the one-call form */

static int run(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(int64_t *)out = bench_task(*(const int64_t *)in);
    return 0;
}

static int timeout_call(int64_t in, int64_t *out, int64_t deadline_ns)
{
    if (timeout)
        return twill_timeout_call(timeout, &in, sizeof in, out, sizeof *out, run,
                                  twill_within(deadline_ns), NULL) == TWILL_OK;
    return twill_call_with_timeout(&in, sizeof in, out, sizeof *out, run, deadline_ns, NULL) ==
           TWILL_OK;
}

int main(int argc, char **argv)
{
    int one = argc > 1 && strcmp(argv[1], "one") == 0, status;
    if (!one && twill_timeout_create(&timeout, &(twill_timeout_options){
                                                   .timeout = TWILL_FOREVER}) != TWILL_OK)
        return 4;
    status = bench_timeout_main(argc - one, argv + one);
    if (twill_timeout_drain(timeout, twill_within(TWILL_SEC(10)), NULL) != TWILL_OK)
        return 3;
    return status;
}

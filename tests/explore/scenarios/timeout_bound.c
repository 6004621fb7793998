/* Two callers, one place: never two functions at once, whoever is abandoned. */
#include "timeout_common.h"

static atomic_int inside;

static int alone(const void *in, void *out, const twill_task *task)
{
    int code;
    assert(atomic_fetch_add(&inside, 1) == 0);
    code = work(in, out, task);
    atomic_fetch_sub(&inside, 1);
    return code;
}

static void call_alone(void *side_)
{
    struct side *side = side_;
    side->status = call(side->timeout, side->in, alone, (twill_until){0, NULL});
    assert(side->status == TWILL_OK || side->status == TWILL_TIMEOUT || side->status == TWILL_BUSY);
}

int main(void)
{
    struct side one = {.in = 2}, two = {.in = 0};
    twill_timeout *timeout =
        timeout_of((twill_timeout_options){.timeout = TWILL_US(2), .max_abandoned = 1});

    if (!go(&one, call_alone, timeout))
        return 0;
    call_alone(&(struct side){.timeout = timeout, .in = two.in});
    end(&one);
    finish(timeout, 2);
    return 0;
}

/* The caller's token fires while the function runs, ends, or is not begun yet; the token goes when
   the call has returned, and the straggler does not need it. */

#include "timeout_common.h"

static twill_cancel *token; /* on the heap: a late access is seen */

static void fire(void *side)
{
    (void)side;
    twill_cancel_fire(token, 7);
}

int main(void)
{
    struct side firer = {.in = 0};
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = TWILL_FOREVER});
    twill_status status;

    token = malloc(sizeof *token);
    assert(token);
    twill_cancel_init(token, NULL);
    if (!go(&firer, fire, timeout))
        return 0;
    status = call(timeout, 1, obeys, twill_until_cancelled(token));
    assert(status == TWILL_CANCELLED);
    end(&firer);
    free(token);
    finish(timeout, 1);
    return 0;
}

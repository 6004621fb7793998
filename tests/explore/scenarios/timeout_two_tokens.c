/* A call under two tokens ends while its function looks whether it is cancelled: the function does
   not look at the token of both any more when that goes. A request on either of them at any moment
   is seen by the next look. */
#include "explore.h"
#include "timeout_common.h"

static twill_cancel own, all;
static atomic_bool asked;

static void request(void *side_)
{
    struct side *side = side_;
    twill_cancel_request(side->in ? &all : &own, 5);
    atomic_store(&asked, true);
}

static int looks(const void *in, void *out, const twill_task *task)
{
    atomic_fetch_add(&ran, 1);
    for (int k = 0; k < 3; k++) {
        bool was = atomic_load(&asked);
        if (twill_task_cancelled(task))
            break;
        assert(!was || twill_cancel_fired(task->until.cancel)); /* told meanwhile */
        (void)twill_sleep(twill_within(TWILL_US(1)));
    }
    *(int *)out = *(const int *)in + 100;
    return 0;
}

int main(void)
{
    static struct side side;
    twill_timeout *timeout;
    twill_status status;
    bool requests = explore_choice(2);

    timeout = timeout_of((twill_timeout_options){.timeout = TWILL_US(2), .run.until.cancel = &all});
    side.in = (int)explore_choice(2);
    requests = requests && go(&side, request, timeout);
    status = call(timeout, 1, looks, twill_until_cancelled(&own));
    assert(status == TWILL_OK || status == TWILL_TIMEOUT ||
           (requests && status == TWILL_CANCELLED));
    if (requests)
        end(&side);
    finish(timeout, 1);
    return 0;
}

/* Two wait for the stragglers, one of them not for ever; the last straggler answers them. Or one
   waits, and the object is destroyed: it is told, and whoever leaves last frees. */
#include "explore.h"
#include "timeout_common.h"

static void drain(void *side_)
{
    struct side *side = side_;
    size_t left = 9;
    side->status = twill_timeout_drain(side->timeout, side->until, &left);
    assert(side->status == TWILL_OK ? left == 0 : side->status == TWILL_TIMEOUT && left <= 1);
}

static void drain_destroyed(void *side_)
{
    struct side *side = side_;
    size_t left = 9;
    side->status = twill_timeout_drain(side->timeout, side->until, &left);
    assert(side->status == TWILL_OK ? left == 0 : side->status == TWILL_CLOSED && left <= 1);
}

static int destroyed(void)
{
    static struct side one;
    twill_timeout *timeout = timeout_of((twill_timeout_options){.timeout = TWILL_US(1)});
    bool inside = false, over = false;

    (void)call(timeout, 3, work, (twill_until){0, NULL});
    if (go(&one, drain_destroyed, timeout)) {
        while (!inside && !over) { /* exit: it waits, or has nothing to wait for */
            twill__lock(&timeout->books.lock);
            inside = timeout->books.waiters.first != NULL;
            over = !timeout->books.abandoned;
            twill__unlock(&timeout->books.lock);
            twill__yield();
        }
        if (!inside)
            end(&one);
        assert(twill_timeout_destroy(timeout) == TWILL_OK);
        if (inside)
            end(&one);
    } else {
        assert(twill_timeout_destroy(timeout) == TWILL_OK);
    }
    while (atomic_load(&live))
        twill_sleep(twill_within(TWILL_US(5)));
    assert(atomic_load(&freed) == 1);
    return 0;
}

int main(void)
{
    struct side one = {.in = 0}, two = {.in = 0};
    twill_timeout *timeout;

    if (explore_choice(2))
        return destroyed();
    timeout = timeout_of((twill_timeout_options){.timeout = TWILL_US(1)});
    (void)call(timeout, 3, work, (twill_until){0, NULL});
    two.until = twill_within(TWILL_US(2));
    if (go(&one, drain, timeout)) {
        if (go(&two, drain, timeout))
            end(&two);
        end(&one);
        assert(one.status == TWILL_OK);
    }
    finish(timeout, 1);
    return 0;
}

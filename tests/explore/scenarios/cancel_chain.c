/* Three levels of tokens, sleepers on two of them and one with a deadline; the fire comes from
   the top. */
#include "cancel_common.h"

static twill_cancel top, middle, low;
static twill_status answer[3];

static void sleep_low(void *arg)
{
    (void)arg;
    answer[0] = sleep_on_heap(twill_until_cancelled(&low));
}

static void sleep_middle(void *arg)
{
    (void)arg;
    answer[1] = sleep_on_heap(twill_until_cancelled(&middle));
}

static void sleep_a_little(void *arg)
{
    (void)arg;
    answer[2] = sleep_on_heap(twill_within_or_cancelled(TWILL_MS(1), &low));
}

int main(void)
{
    twill__thrd threads[3];

    twill_cancel_init(&middle, &top);
    twill_cancel_init(&low, &middle);
    go(&threads[0], sleep_low, NULL);
    go(&threads[1], sleep_middle, NULL);
    go(&threads[2], sleep_a_little, NULL);
    twill_cancel_fire(&top, 7);
    end(threads, 3);
    assert(answer[0] == TWILL_CANCELLED && answer[1] == TWILL_CANCELLED);
    assert(answer[2] == TWILL_TIMEOUT || answer[2] == TWILL_CANCELLED);
    twill_cancel_detach(&low);
    twill_cancel_detach(&middle);
    assert(twill_cancel_reason(&low) == 7);
    assert(bare(&low) && bare(&middle) && bare(&top));
    return 0;
}

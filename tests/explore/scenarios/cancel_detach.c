/* Tokens on the heap, waited on and left, while two threads fire their parent. */
#include "cancel_common.h"

static twill_cancel parent;

static void run_of_its_own(void *arg)
{
    twill_cancel *token = malloc(sizeof *token);
    twill_status status;

    (void)arg;
    assert(token);
    twill_cancel_init(token, &parent);
    status = sleep_on_heap(twill_within_or_cancelled(TWILL_US(1), token));
    assert(status == TWILL_TIMEOUT || status == TWILL_CANCELLED);
    twill_cancel_detach(token);
    free(token);
}

static void fire_three(void *arg)
{
    (void)arg;
    twill_cancel_fire(&parent, 3);
}

int main(void)
{
    twill__thrd threads[3];

    go(&threads[0], run_of_its_own, NULL);
    go(&threads[1], run_of_its_own, NULL);
    go(&threads[2], fire_three, NULL);
    twill_cancel_fire(&parent, 4);
    end(threads, 3);
    assert(bare(&parent));
    assert(twill_cancel_reason(&parent) == 3 || twill_cancel_reason(&parent) == 4);
    return 0;
}

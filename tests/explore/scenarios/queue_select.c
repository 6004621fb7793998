/* A select waits in two queues while both get an item and one of them closes: exactly one case. */
#include "queue_common.h"

static twill_queue *a, *b;

static void push_and_close(void *side_)
{
    push_one(side_);
    (void)twill_queue_close(((struct side *)side_)->queue);
}

int main(void)
{
    struct side left = {.item = 1}, right = {.item = 2};
    int item = 0, rest = 0;
    size_t chosen = 9;

    a = queue_of(1);
    b = queue_of(TWILL_RENDEZVOUS);
    right.until = twill_within(TWILL_MS(1));
    twill_queue_case cases[2] = {{.queue = a, .item = &item}, {.queue = b, .item = &item}};
    go(&left, push_and_close, a);
    go(&right, push_one, b);
    assert(twill_queue_select_until(cases, 2, TWILL_SELECT_IN_ORDER, &chosen,
                                    (twill_until){0, NULL}) == TWILL_OK);
    end(&left);
    end(&right);
    assert(left.status == TWILL_OK);
    assert(chosen < 2 && item == (chosen == 0 ? 1 : 2));
    assert((right.status == TWILL_OK) == (chosen == 1));
    assert(twill_queue_try_pop(a, &rest) == (chosen == 1 ? TWILL_OK : TWILL_CLOSED));
    check_books(a);
    check_books(b);
    assert(twill_queue_destroy(a) == TWILL_OK && twill_queue_destroy(b) == TWILL_OK);
    return 0;
}

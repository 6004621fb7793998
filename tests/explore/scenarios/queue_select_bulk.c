/* A select over a queue and a meeting place where a bulk waits: it gets an item from one of them,
   and the bulk gives all it has, one by one, whoever was first. */
#include "queue_common.h"

static void push_two(void *side_)
{
    struct side *side = side_;
    int items[2] = {2, 3};
    side->status = twill_queue_push_many_until(side->queue, items, 2, NULL, side->until);
}

int main(void)
{
    struct side one = {.item = 1}, two = {.item = 0};
    twill_queue *stored = queue_of(1), *met = queue_of(TWILL_RENDEZVOUS);
    int item = 0, rest = 0;
    size_t chosen = 9;
    twill_queue_case cases[2] = {{.queue = stored, .item = &item}, {.queue = met, .item = &item}};

    go(&one, push_one, stored);
    go(&two, push_two, met);
    assert(twill_queue_select_until(cases, 2, TWILL_SELECT_IN_ORDER, &chosen,
                                    (twill_until){0, NULL}) == TWILL_OK);
    assert(chosen == 0 ? item == 1 : chosen == 1 && item == 2);
    if (chosen == 0)
        assert(twill_queue_pop(met, &rest) == TWILL_OK && rest == 2);
    assert(twill_queue_pop(met, &rest) == TWILL_OK && rest == 3);
    if (chosen == 1)
        assert(twill_queue_pop(stored, &rest) == TWILL_OK && rest == 1);
    end(&one);
    end(&two);
    assert(one.status == TWILL_OK && two.status == TWILL_OK);
    check_books(stored);
    check_books(met);
    assert(twill_queue_destroy(stored) == TWILL_OK && twill_queue_destroy(met) == TWILL_OK);
    return 0;
}

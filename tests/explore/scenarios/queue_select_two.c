/* A select over two queues beside a pop on one of them; each gets one item, and both end. */
#include "queue_common.h"

int main(void)
{
    struct side left = {.item = 1}, right = {.item = 2}, pop = {.item = 0};
    twill_queue *a = queue_of(1), *b = queue_of(1);
    int item = 0, rest = 0;
    size_t chosen = 9;

    twill_queue_case cases[2] = {{.queue = a, .item = &item}, {.queue = b, .item = &item}};
    go(&pop, pop_one, a);
    go(&left, push_one, a);
    go(&right, push_one, b);
    assert(twill_queue_select_until(cases, 2, TWILL_SELECT_IN_ORDER, &chosen,
                                    (twill_until){0, NULL}) == TWILL_OK);
    if (chosen == 0) { /* the pop's item is still to come */
        assert(item == 1);
        assert(twill_queue_push(a, &item) == TWILL_OK);
        assert(twill_queue_pop(b, &rest) == TWILL_OK && rest == 2);
    } else {
        assert(chosen == 1 && item == 2);
    }
    end(&pop);
    end(&left);
    end(&right);
    assert(pop.status == TWILL_OK && pop.item == 1);
    assert(left.status == TWILL_OK && right.status == TWILL_OK);
    check_books(a);
    check_books(b);
    assert(twill_queue_destroy(a) == TWILL_OK && twill_queue_destroy(b) == TWILL_OK);
    return 0;
}

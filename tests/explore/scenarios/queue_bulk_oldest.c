/* A bulk of two comes into a ring for two that drops its oldest, beside a pop: what the pop is
   about to take is not dropped, too, and the two stay side by side. */
#include "queue_common.h"

#include "explore.h"

static void try_one(void *side_)
{
    struct side *side = side_;
    int item = 0;
    side->status = twill_queue_try_pop(side->queue, &item);
    assert(side->status == TWILL_OK || item == 0);
    side->item = item;
}

int main(void)
{
    int first[] = {7, 8}, bulk[] = {1, 2}, item;
    struct side pop = {.item = 0};
    twill_queue *queue;
    twill_queue_stats s;

    assert(twill_queue_create(
               &queue, sizeof(int),
               &(twill_queue_options){.capacity = 2, .overflow = TWILL_OVERFLOW_DROP_OLDEST}) ==
           TWILL_OK);
    for (int k = EXPLORE_CHOICE(2, 0); k < 2; k++)
        assert(twill_queue_push(queue, &first[k]) == TWILL_OK);
    go(&pop, try_one, queue);
    assert(twill_queue_push_bulk_until(queue, bulk, 2, (twill_until){0, NULL}) == TWILL_OK);
    end(&pop);
    assert(pop.item == 7 || pop.item == 8 || pop.item == 1);
    for (int k = pop.item == 1; k < 2; k++)
        assert(twill_queue_try_pop(queue, &item) == TWILL_OK && item == bulk[k]);
    twill_queue_get_stats(queue, &s);
    assert(s.length == 0 && s.accepted == s.popped + s.dropped);
    check_books(queue);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}

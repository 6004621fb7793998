/* A full queue of priorities drops its oldest or its newest item, wherever those stand among the
   priorities, while a pop takes the most urgent one at any moment. */
#include "queue_common.h"

#include "explore.h"

static int priority_of(const void *item, const twill_task *task)
{
    (void)task;
    return *(const int *)item;
}

int main(void)
{
    static const int items[] = {1, 5, 3}, last = 2;
    bool oldest = explore_choice(2);
    twill_queue_options options = {.capacity = 3,
                                   .order = TWILL_ORDER_PRIORITY,
                                   .priority_of = priority_of,
                                   .overflow = oldest ? TWILL_OVERFLOW_DROP_OLDEST
                                                      : TWILL_OVERFLOW_DROP_NEWEST};
    struct side pop = {.item = 0};
    twill_queue *queue;
    int left[4], count = 0;

    assert(twill_queue_create(&queue, sizeof(int), &options) == TWILL_OK);
    for (int i = 0; i < 3; i++)
        assert(twill_queue_push(queue, &items[i]) == TWILL_OK);
    go(&pop, pop_one, queue);
    assert(twill_queue_push(queue, &last) == TWILL_OK);
    end(&pop);
    while (twill_queue_try_pop(queue, &left[count]) == TWILL_OK)
        count++;
    assert(pop.status == TWILL_OK && pop.item == 5);
    if (count == 3) /* the pop came first: nothing was dropped */
        assert(left[0] == 3 && left[1] == 2 && left[2] == 1);
    else
        assert(count == 2 && left[0] == (oldest ? 3 : 2) && left[1] == (oldest ? 2 : 1));
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}

/* Two pushes, one of which may stand between its claim and its stamp: what has been pushed by then
   is found by clear and by ready, as by a pop. */
#include "explore.h"
#include "queue_common.h"

static _Atomic int cleared_items;

static void note_drop(void *item, twill_status why, const twill_task *task)
{
    (void)item;
    (void)task;
    assert(why == TWILL_CANCELLED);
    cleared_items++;
}

int main(void)
{
    struct side other = {.item = 7};
    twill_queue_stats s;
    twill_queue *queue;
    int mine = 8, item;
    size_t cleared;

    assert(twill_queue_create(&queue, sizeof(int),
                              &(twill_queue_options){.capacity = 2, .drop = note_drop}) ==
           TWILL_OK);
    go(&other, push_one, queue);
    assert(twill_queue_push(queue, &mine) == TWILL_OK);
    if (EXPLORE_CHOICE(2, 0))
        assert(twill_queue_ready_until(queue, twill_within(0)) == TWILL_OK);
    cleared = twill_queue_clear(queue);
    assert(cleared >= 1 && (int)cleared == cleared_items);
    end(&other);
    assert(twill_queue_try_pop(queue, &item) == (cleared == 2 ? TWILL_EMPTY : TWILL_OK));
    twill_queue_get_stats(queue, &s);
    assert(s.cleared == cleared && s.accepted == 2 && s.length == 0);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}

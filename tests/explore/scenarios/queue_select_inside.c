/* A select inside a callback of one of its queues may not wait: it gives up in the instant in which
   another thread pushes into the other queue. It has that item, or the queue has. */
#include "queue_common.h"

static twill_queue *outer, *other;
static twill_status answer = TWILL_EMPTY;
static int item;

static void drop(void *old, twill_status why, const twill_task *task)
{
    int none;
    twill_queue_case cases[2] = {{.queue = outer, .item = &none}, {.queue = other, .item = &item}};
    (void)task;
    assert(*(int *)old == 1 && why == TWILL_CANCELLED);
    answer =
        twill_queue_select_until(cases, 2, TWILL_SELECT_IN_ORDER, NULL, (twill_until){0, NULL});
}

int main(void)
{
    struct side pusher = {.item = 7};

    assert(twill_queue_create(&outer, sizeof(int),
                              &(twill_queue_options){.capacity = 1, .drop = drop}) == TWILL_OK);
    other = queue_of(1);
    assert(twill_queue_push(outer, &(int){1}) == TWILL_OK);
    go(&pusher, push_one, other);
    assert(twill_queue_clear(outer) == 1);
    end(&pusher);
    assert(pusher.status == TWILL_OK);
    assert(answer == TWILL_OK || answer == TWILL_DEADLOCK);
    if (answer == TWILL_DEADLOCK)
        assert(twill_queue_try_pop(other, &item) == TWILL_OK);
    assert(item == 7 && twill_queue_length(other) == 0);
    check_books(outer);
    check_books(other);
    assert(twill_queue_destroy(outer) == TWILL_OK && twill_queue_destroy(other) == TWILL_OK);
    return 0;
}

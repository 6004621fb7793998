/* Destroy comes while a push is about to tell the level that it has reached: it is told, and waited
   for. */
#include "queue_common.h"

static int told;

static void on_level(bool high, size_t length, const twill_task *task)
{
    (void)task;
    assert(high && length == 1);
    told++;
}

int main(void)
{
    twill_queue_options options = {
        .capacity = 2, .high_mark = 1, .low_mark = 0, .on_level = on_level};
    struct side push = {.item = 1};
    twill_queue *queue;

    assert(twill_queue_create(&queue, sizeof(int), &options) == TWILL_OK);
    go(&push, push_one, queue);
    while (twill_queue_length(queue) == 0) /* it is inside, or has been */
        twill__yield();
    assert(twill_queue_destroy(queue) == TWILL_OK);
    assert(told == 1);
    end(&push);
    assert(push.status == TWILL_OK);
    return 0;
}

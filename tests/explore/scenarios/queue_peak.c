/* Two pushes, nobody pops: whichever notes its length last, the peak is 2. */
#include "queue_common.h"

int main(void)
{
    struct side other = {.item = 2};
    twill_queue *queue = queue_of(2);
    twill_queue_stats s;
    int item = 1;

    go(&other, push_one, queue);
    assert(twill_queue_push(queue, &item) == TWILL_OK);
    end(&other);
    twill_queue_get_stats(queue, &s);
    assert(other.status == TWILL_OK && s.length == 2 && s.peak == 2);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}

/* A close comes while a push is between its claim and its stamp: who asks whether there is
   something is not told CLOSED, "and no more will come", as long as that item is still to come. */
#include "queue_common.h"

int main(void)
{
    struct side push = {.item = 7};
    twill_queue *queue = queue_of(1);
    twill_status ready;
    int item = 0;

    go(&push, push_one, queue);
    assert(twill_queue_close(queue) == TWILL_OK);
    ready = twill_queue_ready_until(queue, (twill_until){0, NULL});
    end(&push);
    assert(push.status == TWILL_OK || push.status == TWILL_CLOSED);
    assert(ready == push.status);
    assert(twill_queue_pop(queue, &item) == push.status);
    assert(item == (push.status == TWILL_OK ? 7 : 0));
    check_books(queue);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}

/* Destroy with a push and a pop with a deadline inside, or on their way out. */
#include "queue_common.h"

int main(void)
{
    struct side one = {.item = 1}, two = {.item = 2};
    twill_queue *queue = queue_of(1);
    twill_queue_stats s;

    assert(twill_queue_try_push(queue, &one.item) == TWILL_OK);
    two.until = twill_within(TWILL_MS(1)); /* a nap at the lock is shorter */
    go(&one, push_one, queue);
    go(&two, push_one, queue);
    do { /* both inside, or the second gone again */
        twill__yield();
        twill_queue_get_stats(queue, &s);
    } while (s.push_waits < 2);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    end(&one);
    end(&two);
    assert(one.status == TWILL_CLOSED);
    assert(two.status == TWILL_CLOSED || two.status == TWILL_TIMEOUT);
    return 0;
}

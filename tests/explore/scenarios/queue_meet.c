/* One comes as another goes to sleep: a pop meets a push in an empty queue, a push meets a pop, or
   a pop of many, in a full one. Whoever comes sees that somebody waits, or is seen. Each side reads
   what the other one wrote, and old values of all of it.
   EXPLORE-TREE: --preemptions=1 --stale=3 --faults=0 */
#include "explore.h"
#include "queue_common.h"

int main(void)
{
    struct side waits = {.item = 2};
    twill_queue *queue = queue_of(1);
    int how = EXPLORE_CHOICE(3, 0), item[2] = {1};
    size_t count = 1;

    if (how)
        assert(twill_queue_push(queue, item) == TWILL_OK);
    go(&waits, how ? push_one : pop_one, queue);
    if (how == 0)
        assert(twill_queue_push(queue, item) == TWILL_OK);
    else if (how == 1)
        assert(twill_queue_pop(queue, item) == TWILL_OK);
    else
        assert(twill_queue_pop_many_until(queue, item, 2, &count, (twill_until){0, NULL}) ==
               TWILL_OK);
    end(&waits);
    assert(waits.status == TWILL_OK && item[0] == 1 && count == 1 && (how || waits.item == 1));
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}

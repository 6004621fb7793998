/* Two that push, two that pop, room for one, nobody waits too long: every item comes out once, and
   nobody sleeps on. Small enough to be exhausted in a minute or two: make explore T=two_by_two
   SECS=150 EXPLORE-TREE: --preemptions=2 --stale=1 --faults=0 */
#include "queue_common.h"

int main(void)
{
    struct side push[2] = {{.item = 1}, {.item = 2}}, pop[2] = {{.item = 0}, {.item = 0}};
    twill_queue *queue = queue_of(1);

    go(&push[0], push_one, queue);
    go(&push[1], push_one, queue);
    go(&pop[0], pop_one, queue);
    pop[1].queue = queue;
    pop_one(&pop[1]);
    end(&push[0]);
    end(&push[1]);
    end(&pop[0]);
    for (int i = 0; i < 2; i++)
        assert(push[i].status == TWILL_OK && pop[i].status == TWILL_OK);
    assert(pop[0].item + pop[1].item == 3 && pop[0].item != pop[1].item);
    check_books(queue);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}

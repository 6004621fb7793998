/* A pop waits; two pushes and another pop come at once. Of two pushes the first to claim may be the
   last to tell, and another pop may take its item while it looks: the item behind it must be given
   all the same. The other way round: a push waits, two pops and another push come. */
#include "queue_common.h"

extern int sim_choice(int n) __attribute__((weak));

int main(void)
{
    struct side waits = {.item = 0}, one = {.item = 1}, two = {.item = 2}, other = {.item = 3};
    twill_queue *queue = queue_of(2);
    bool full = sim_choice && sim_choice(2);

    for (int k = 0; full && k < 2; k++)
        assert(twill_queue_push(queue, &k) == TWILL_OK);
    go(&waits, full ? push_one : pop_one, queue);
    while (!atomic_load(full ? &queue->givers : &queue->takers)) /* exit: it waits */
        twill__yield();
    go(&one, full ? pop_one : push_one, queue);
    go(&two, full ? pop_one : push_one, queue);
    go(&other, full ? push_one : pop_one, queue);
    end(&waits);
    end(&one);
    end(&two);
    end(&other);
    assert(waits.status == TWILL_OK && other.status == TWILL_OK);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}

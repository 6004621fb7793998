/* Destroy meets two pops that give up, for their token fires: whoever leaves last tells the
   destroyer, and has left the section before the memory goes. */
#define QUEUE_ENGINE TWILL_ENGINE_LOCK
#include "queue_common.h"

#include "explore.h"

static twill_cancel token;

static void fire(void *unused)
{
    (void)unused;
    twill_cancel_fire(&token, 1);
}

int main(void)
{
    struct side one = {.item = 1, .until = {0}}, two = {.item = 2, .until = {0}}, firer;
    twill_queue *queue = queue_of(1);
    twill_queue_stats s;

    EXPLORE_MUST_REACH("one is told, one has given up");
    twill_cancel_init(&token, NULL);
    one.until.cancel = two.until.cancel = &token;
    go(&one, pop_one, queue);
    go(&two, pop_one, queue);
    do {
        twill__yield();
        twill_queue_get_stats(queue, &s);
    } while (s.waiting_pop < 2);
    go(&firer, fire, NULL);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    end(&one);
    end(&two);
    end(&firer);
    twill_cancel_detach(&token);
    assert(one.status == TWILL_CLOSED || one.status == TWILL_CANCELLED);
    assert(two.status == TWILL_CLOSED || two.status == TWILL_CANCELLED);
    if (one.status != two.status)
        EXPLORE_REACHED("one is told, one has given up");
    return 0;
}

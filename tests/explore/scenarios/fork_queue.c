/* EXPLORE: --polling
   A fork at any moment of another thread's push. The child is told that the old queue is not its
   own, and a new one works there, threads and waits included; the parent notices nothing. */
#include "queue_common.h"

#include "explore.h"

extern int fork(void);

static void use_own(void)
{
    struct side push = {.item = 5}, pop = {.item = 0};
    twill_queue *own = queue_of(1);

    go(&push, push_one, own);
    go(&pop, pop_one, own);
    end(&push);
    end(&pop);
    assert(push.status == TWILL_OK && pop.status == TWILL_OK && pop.item == 5);
    assert(twill_queue_destroy(own) == TWILL_OK);
}

int main(void)
{
    struct side push = {.item = 1}, pop = {.item = 0};
    twill_queue *queue = queue_of(1);
    int item = 2;

    EXPLORE_MUST_REACH("parent");
    EXPLORE_MUST_REACH("child");
    go(&push, push_one, queue);
    if (fork() == 0) {
        EXPLORE_REACHED("child");
        assert(twill_queue_push(queue, &item) == TWILL_FORKED);
        assert(twill_queue_pop(queue, &item) == TWILL_FORKED);
        assert(twill_queue_close(queue) == TWILL_FORKED);
        assert(twill_queue_destroy(queue) == TWILL_FORKED);
        twill_queue_abandon(queue);
        use_own();
        return 0;
    }
    EXPLORE_REACHED("parent");
    go(&pop, pop_one, queue);
    end(&push);
    end(&pop);
    assert(push.status == TWILL_OK && pop.item == 1);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    return 0;
}

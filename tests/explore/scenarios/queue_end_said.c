/* What was written before a queue was closed, or failed, is there for who sees that it is, without
   waiting. */
#include "queue_common.h"

static int before_close, before_fail;

static void close_it(void *side_)
{
    struct side *side = side_;
    before_close = 5;
    assert(twill_queue_close(side->queue) == TWILL_OK);
}

static void fail_it(void *side_)
{
    struct side *side = side_;
    before_fail = 6;
    assert(twill_queue_fail(side->queue, 7) == TWILL_OK);
}

int main(void)
{
    static struct side one, two;
    twill_queue *closed = queue_of(1), *failed = queue_of(1);

    go(&one, close_it, closed);
    go(&two, fail_it, failed);
    assert(!twill_queue_is_closed(closed) || before_close == 5);
    assert(twill_queue_code(failed) != 7 || before_fail == 6);
    end(&one);
    end(&two);
    assert(twill_queue_is_closed(closed) && twill_queue_code(failed) == 7);
    assert(twill_queue_destroy(closed) == TWILL_OK && twill_queue_destroy(failed) == TWILL_OK);
    return 0;
}

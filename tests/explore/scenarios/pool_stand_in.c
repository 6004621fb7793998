/* A full pool whose callers run their tasks themselves: one beside submits, and main waits until
   the pool is idle: what had begun before has ended then, with the task that it submitted in its
   turn. And a close at any moment: after it none begins, and the end finds all that were
   accepted. */
#define TWILL__STAND_INS 4 /* one for each of both */
#include "pool_common.h"

static _Atomic unsigned begun, ended, closed;

static int has_a_child(void *pool, void *result, const twill_task *task)
{
    (void)result;
    atomic_fetch_add(&begun, 1);
    assert(twill_pool_submit(pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    assert(task->until.cancel);
    atomic_fetch_add(&ended, 1);
    return 0;
}

static void submit_beside(void *side_)
{
    struct side *side = side_;

    for (unsigned i = 0; i < 2; i++) {
        bool late = atomic_load(&closed);
        twill_status status = twill_pool_submit(side->pool, has_a_child, side->pool, NULL, NULL);
        assert(status == TWILL_OK || status == TWILL_CLOSED);
        assert(!late || status == TWILL_CLOSED);
        side->outcome.attempts += status == TWILL_OK;
    }
}

int main(void)
{
    struct side other = {0};
    unsigned before, accepted;

    other.pool = pool_of(&(twill_pool_options){
        .run.workers = 1, .capacity = 1, .overflow = TWILL_OVERFLOW_CALLER_RUNS});
    assert(twill_pool_submit(other.pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    go(&other, submit_beside);
    assert(twill_pool_submit(other.pool, run_it, NULL, NULL, NULL) == TWILL_OK);
    before = atomic_load(&begun);
    assert(twill_pool_wait_idle(other.pool) == TWILL_OK);
    assert(atomic_load(&ended) >= before && atomic_load(&ran) >= 2 + before);
    assert(twill_pool_close(other.pool) == TWILL_OK);
    atomic_store(&closed, 1);
    assert(twill_pool_stop(other.pool, twill_within(TWILL_FOREVER), twill_within(TWILL_FOREVER),
                           NULL) == TWILL_OK);
    end(&other);
    accepted = other.outcome.attempts;
    assert(ended == accepted && ran == 2 + accepted);
    balanced(other.pool, 2 + 2 * accepted);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    return 0;
}

/* Two submitters at the door of a pool with one worker, and a close at any moment: what was
   accepted ran, each submitter's in the order of its calls, with numbers that no other task has;
   what came after the close was refused. */
#include "pool_common.h"

static unsigned next_of[2];
static size_t number[2][2];
static _Atomic unsigned numbers;

struct mark {
    unsigned who, which;
};
static struct mark marks[2][2];

static int in_order(void *mark_, void *result, const twill_task *task)
{
    const struct mark *mark = mark_;

    (void)result;
    assert(next_of[mark->who]++ == mark->which); /* plain: one worker */
    assert(!(atomic_fetch_or(&numbers, 1u << task->index) & 1u << task->index));
    number[mark->who][mark->which] = task->index;
    atomic_fetch_add(&ran, 1);
    return 0;
}

static unsigned submit_two(twill_pool *pool, unsigned who)
{
    unsigned accepted = 0;

    for (unsigned i = 0; i < 2; i++) {
        marks[who][i] = (struct mark){who, i};
        twill_status status = twill_pool_submit(pool, in_order, &marks[who][i], NULL, NULL);
        assert(status == TWILL_OK || status == TWILL_CLOSED);
        assert(status == TWILL_CLOSED || accepted == i);
        accepted += status == TWILL_OK;
    }
    return accepted;
}

static void submit_beside(void *side_)
{
    struct side *side = side_;

    side->outcome.attempts = submit_two(side->pool, 1);
}

static void close_it(void *side_)
{
    struct side *side = side_;

    assert(twill_pool_close(side->pool) == TWILL_OK);
    assert(twill_pool_submit(side->pool, run_it, NULL, NULL, NULL) == TWILL_CLOSED);
}

int main(void)
{
    struct side other = {0}, closer = {0};
    twill_pool_stats stats;
    unsigned accepted;

    other.pool = closer.pool = pool_of(&(twill_pool_options){.run.workers = 1, .capacity = 3});
    go(&other, submit_beside);
    go(&closer, close_it);
    accepted = submit_two(other.pool, 0);
    end(&other);
    end(&closer);
    accepted += other.outcome.attempts;
    assert(twill_pool_wait_idle(other.pool) == TWILL_OK);
    assert(ran == accepted);
    assert(numbers == (1u << accepted) - 1);
    balanced(other.pool, accepted);
    twill_pool_get_stats(other.pool, &stats);
    assert(stats.refused == 5 - accepted && stats.queued_peak <= 3);
    assert(twill_pool_destroy(other.pool) == TWILL_OK);
    return 0;
}

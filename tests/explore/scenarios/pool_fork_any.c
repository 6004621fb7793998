/* EXPLORE: --polling
   A fork anywhere about a pool. Each schedule draws tasks: plain ones and ones with a future, that
   return, fail, make another task and wait for it, or make a parallel call; they run on workers, on
   who waits for them, or on who submits (CALLER_RUNS). One of them forks, or the main thread does
   while they run; the process goes on as the parent or as the child.

   In the child the pool and its futures say FORKED and nothing waits, whatever the other threads
   held; a pool that is made there works; and if it is a worker that is left, it ends with the task.
   In the parent nothing is noticed: each task runs once.
   EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "explore.h"

#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

extern int fork(void);

enum { TASKS = 4, ITEMS = 2, CODE = 5, MAIN = TASKS };
enum { RETURNS, FAILS, ASKS, LOOPS, KINDS };

static struct job {
    int kind;
    bool with_future;
    atomic_int ran;
    twill_status accepted;
    twill_future future;
    atomic_bool known; /* the future: a child's copy of it may be torn before */
} jobs[TASKS];

static twill_pool *pool;
static int forks; /* which of them does */
static bool child;
static atomic_int inner, items;

static int choose(int n)
{
    return EXPLORE_CHOICE(n, 0);
}

static int item(const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&items, 1);
    return 0;
}

static int nested(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    atomic_fetch_add(&inner, 1);
    return 0;
}

/* All that the parent's pool says in the child, and one of its own. */
static void look_round(void)
{
    twill_pool *own;
    twill_pool_stats stats;
    twill_future future;
    assert(twill_pool_submit(pool, nested, NULL, NULL, NULL) == TWILL_FORKED);
    assert(twill_pool_try_submit(pool, nested, NULL, &future, NULL) == TWILL_FORKED);
    assert(twill_pool_wait_idle(pool) == TWILL_FORKED);
    assert(twill_parallel_for(ITEMS, item, &(twill_parallel_options){.run.pool = pool}) ==
           TWILL_FORKED);
    twill_pool_get_stats(pool, &stats);
    for (int k = 0; k < TASKS; k++)
        if (atomic_load_explicit(&jobs[k].known, memory_order_acquire)) {
            assert(twill_future_wait(jobs[k].future, NULL, NULL) == TWILL_FORKED);
            assert(twill_future_cancel(jobs[k].future) == TWILL_FORKED);
        }
    assert(twill_pool_create(&own, &(twill_pool_options){.run.workers = 1}) == TWILL_OK);
    assert(twill_pool_submit(own, nested, NULL, &future, NULL) == TWILL_OK);
    assert(twill_future_wait(future, NULL, NULL) == TWILL_OK);
    twill_future_release(future);
    assert(twill_pool_destroy(own) == TWILL_OK);
}

static void fork_here(void)
{
    if (fork() == 0) {
        EXPLORE_REACHED("child");
        child = true;
        look_round();
    }
}

static int run(void *job_, void *result, const twill_task *task)
{
    struct job *job = job_;
    twill_future future;
    (void)result, (void)task;
    assert(atomic_fetch_add(&job->ran, 1) == 0);
    if (job == &jobs[forks % TASKS] && forks < TASKS)
        fork_here();
    switch (job->kind) {
    case FAILS:
        return CODE;
    case ASKS:
        if (twill_pool_submit(pool, nested, NULL, &future, NULL) == TWILL_OK) {
            assert(!child && twill_future_wait(future, NULL, NULL) == TWILL_OK);
            twill_future_release(future);
        } else {
            assert(child);
        }
        break;
    case LOOPS:
        assert(twill_parallel_for(ITEMS, item, &(twill_parallel_options){.run.pool = pool}) ==
               (child ? TWILL_FORKED : TWILL_OK));
        break;
    default:
        break;
    }
    return 0;
}

static void submit(struct job *job)
{
    job->kind = choose(KINDS);
    job->with_future = choose(2);
    job->accepted = twill_pool_submit(pool, run, job, job->with_future ? &job->future : NULL, NULL);
    assert(child || job->accepted == TWILL_OK);
    if (job->future.slot) /* pairs with the acquire in look_round */
        atomic_store_explicit(&job->known, true, memory_order_release);
}

int main(void)
{
    twill_pool_options options = {.run.workers = 1 + (unsigned)choose(2), .capacity = 2};
    EXPLORE_MUST_REACH("child");
    EXPLORE_MUST_REACH("parent");
    if (choose(2))
        options.overflow = TWILL_OVERFLOW_CALLER_RUNS;
    forks = choose(TASKS + 1);
    assert(twill_pool_create(&pool, &options) == TWILL_OK);
    for (int k = 0; k < TASKS && !child; k++)
        submit(&jobs[k]);
    if (forks == MAIN && !child)
        fork_here();
    for (int k = 0; k < TASKS; k++)
        if (atomic_load_explicit(&jobs[k].known, memory_order_acquire)) {
            twill_status status = twill_future_wait(jobs[k].future, NULL, NULL);
            if (child) /* it may have run here, on who waits */
                assert(status == TWILL_FORKED || atomic_load(&jobs[k].ran));
            else
                assert(status == (jobs[k].kind == FAILS ? TWILL_FAILED : TWILL_OK));
            twill_future_release(jobs[k].future);
        }
    assert(twill_pool_destroy(pool) == TWILL_OK);
    for (int k = 0; k < TASKS && !child; k++)
        assert(atomic_load(&jobs[k].ran) == 1);
    if (!child)
        EXPLORE_REACHED("parent");
    return 0;
}

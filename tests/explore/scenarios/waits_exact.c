/* Every call that can wait, one a schedule: it ends at its deadline, or when its token fires, at
   that very instant, in every order of steps, as long as no thread is held up; and says which it
   was. (To a millisecond: see pool_exact.)
   EXPLORE: --punctual
   EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "explore.h"

#define TWILL__NO_SIGNALS 1
#define TWILL_IMPLEMENTATION
#include "twill.h"

static bool by_token;
static twill_cancel token, release; /* of the call; of callbacks that listen to nothing else */
static twill__thrd firer;
static twill_ns begun;
static atomic_int staying;

static void fire(void *unused)
{
    (void)unused;
    (void)twill_sleep(twill_within(TWILL_MS(10)));
    twill_cancel_fire(&token, 1);
}

/* A deadline in 20 ms, or a token that fires in 10 ms. */
static twill_until soon(void)
{
    begun = twill_now();
    if (!by_token)
        return twill_within(TWILL_MS(20));
    firer.fn = fire;
    firer.cpu = UINT_MAX;
    assert(twill__thread_start(&firer));
    return twill_until_cancelled(&token);
}

static void is_after(twill_ns since, twill_ns time)
{
    twill_ns took = twill_now() - since;
    assert(took >= time && took < time + TWILL_MS(1));
}

static void ended(twill_status status)
{
    assert(status == (by_token ? TWILL_CANCELLED : TWILL_TIMEOUT));
    is_after(begun, by_token ? TWILL_MS(10) : TWILL_MS(20));
}

/* A deadline that cannot be met is refused before it. */
static void refused(twill_status status)
{
    if (by_token) {
        ended(status);
    } else {
        assert(status == TWILL_TIMEOUT);
        is_after(begun, 0);
    }
}

/* ---- callbacks ---- */

static void stay(void)
{
    atomic_fetch_add(&staying, 1);
    assert(twill_sleep(twill_until_cancelled(&release)) == TWILL_CANCELLED);
}

static void until_one_stays(void)
{
    while (atomic_load(&staying) == 0) /* exit: it is on its way */
        (void)twill_sleep(twill_within(TWILL_US(1)));
}

static int stays(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    stay();
    return 0;
}

static int stays_with(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    stay();
    return 0;
}

static int batch_stays(twill_batch *batch, const twill_task *task)
{
    (void)batch, (void)task;
    stay();
    return 0;
}

static int obeys(const twill_task *task)
{
    (void)twill_sleep(task->until);
    return twill_task_skip(task);
}

static int obeys_with(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    return obeys(task);
}

static int batch_obeys(twill_batch *batch, const twill_task *task)
{
    (void)batch;
    return obeys(task);
}

static int flat_obeys(const twill_batch *batch, const twill_task *task)
{
    (void)batch;
    return obeys(task);
}

static int item_obeys(void *item, const twill_task *task)
{
    (void)item;
    return obeys(task);
}

static int fold_obeys(void *acc, size_t begin, size_t end, const twill_task *task)
{
    (void)acc, (void)begin, (void)end;
    (void)twill_sleep(task->until);
    return 0;
}

static int combine(void *left, void *right, const twill_task *task)
{
    (void)left, (void)right, (void)task;
    return 0;
}

static bool test_obeys(const void *item, const twill_task *task)
{
    (void)item;
    (void)twill_sleep(task->until);
    return false;
}

static int one_more(void *out, const twill_task *task)
{
    *(int *)out = (int)task->index;
    return 0;
}

static int push_for_ever(twill_queue *queue, const twill_task *task)
{
    int item = 1;
    (void)task;
    while (twill_queue_push(queue, &item) == TWILL_OK)
        continue; /* exit: the end of the call */
    return 0;
}

static int fails(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out, (void)task;
    return 5;
}

static int create(void **resource, const twill_task *task)
{
    (void)task;
    *resource = &staying;
    return 0;
}

static int use(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    return 0;
}

/* ---- what waits ---- */

static void sleeps(int which)
{
    twill_status status;
    (void)which;
    status = twill_sleep(soon());
    ended(status == TWILL_OK ? TWILL_TIMEOUT : status);
}

static void queues(int which)
{
    static const twill_queue_engine engines[] = {TWILL_ENGINE_LOCK, TWILL_ENGINE_RING};
    bool meets = which < 2 && EXPLORE_CHOICE(3, 0) == 0;
    twill_queue_options options = {.capacity = meets ? TWILL_RENDEZVOUS : 1};
    twill_queue *queue;
    int items[2] = {0};
    size_t n;
    if (!meets)
        options.engine = engines[EXPLORE_CHOICE(2, 0)];
    assert(twill_queue_create(&queue, sizeof(int), &options) == TWILL_OK);
    twill_queue_case cases[] = {{.queue = queue, .item = items}, {.queue = queue, .item = items}};
    if (!meets && (which == 0 || which >= 7))
        assert(twill_queue_push(queue, items) == TWILL_OK);
    switch (which) {
    case 0:
        ended(twill_queue_push_until(queue, items, soon()));
        break;
    case 1:
        ended(twill_queue_pop_until(queue, items, soon()));
        break;
    case 2:
        ended(twill_queue_pop_many_until(queue, items, 2, &n, soon()));
        break;
    case 3:
        ended(twill_queue_pop_batch_until(queue, items, 2, &n, TWILL_MS(1), soon()));
        break;
    case 4:
        ended(twill_queue_ready_until(queue, soon()));
        break;
    case 5:
        ended(twill_queue_select_until(cases, 2, TWILL_SELECT_FAIR, &n, soon()));
        break;
    case 6: /* one goes in, the other waits */
        ended(twill_queue_push_many_until(queue, items, 2, &n, soon()));
        assert(n == 1);
        break;
    case 7:
        ended(twill_queue_push_bulk_until(queue, items, 1, soon()));
        break;
    default: /* it was popped, and is not finished */
        assert(twill_queue_pop(queue, items) == TWILL_OK);
        ended(twill_queue_join_until(queue, soon()));
    }
    assert(twill_queue_destroy(queue) == TWILL_OK);
}

static void pools(int which)
{
    twill_pool *pool;
    twill_future future;
    size_t n;
    assert(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1, .capacity = 1}) ==
           TWILL_OK);
    assert(twill_pool_submit(pool, stays, NULL, &future, NULL) == TWILL_OK);
    until_one_stays();
    switch (which) {
    case 0:
        assert(twill_pool_submit(pool, stays, NULL, NULL, NULL) == TWILL_OK);
        ended(twill_pool_submit_until(pool, stays, NULL, NULL, soon(), NULL));
        break;
    case 1:
        ended(twill_pool_wait_idle_until(pool, soon()));
        break;
    case 2:
        ended(twill_pool_each_worker(pool, stays, NULL, soon()));
        break;
    case 3:
        ended(twill_pool_stop(pool, twill_within(0), soon(), NULL));
        break;
    case 4:
        ended(twill_future_wait_until(future, NULL, NULL, soon()));
        break;
    case 5:
        ended(twill_future_wait_any(&future, 1, &n, soon()));
        break;
    default:
        ended(twill_future_wait_all(&future, 1, soon()));
    }
    twill_cancel_fire(&release, 1);
    twill_future_release(future);
    assert(twill_pool_destroy(pool) == TWILL_OK);
}

static void fans(int which)
{
    twill_fan *fan;
    twill_outcome outcome;
    twill_fan_options options = {.run.workers = 1, .in_flight = 1};
    assert(twill_fan_create(&fan, &options) == TWILL_OK);
    assert(twill_fan_go(fan, stays, NULL, NULL) == TWILL_OK);
    if (which == 0)
        ended(twill_fan_go_until(fan, stays, NULL, NULL, soon()));
    else if (which == 1)
        ended(twill_fan_next_until(fan, NULL, &outcome, soon()));
    else {
        until_one_stays();
        ended(twill_fan_stop(fan, twill_within(0), soon(), NULL));
    }
    twill_cancel_fire(&release, 1);
    assert(twill_fan_destroy(fan) == TWILL_OK);
}

static void pipelines(int which)
{
    static const twill_stage stage = {.work = stays_with, .workers = 1};
    twill_pipeline *pipeline;
    int item = 1;
    assert(twill_pipeline_create(&pipeline, sizeof item, &stage, 1,
                                 &(twill_pipeline_options){.tokens = 1}) == TWILL_OK);
    assert(twill_pipeline_push(pipeline, &item) == TWILL_OK);
    until_one_stays(); /* or the call below would work on it */
    if (which == 0)
        ended(twill_pipeline_push_until(pipeline, &item, soon()));
    else if (which == 1)
        ended(twill_pipeline_join_until(pipeline, soon()));
    else
        ended(twill_pipeline_stop(pipeline, twill_within(0), soon(), NULL));
    twill_cancel_fire(&release, 1);
    assert(twill_pipeline_destroy(pipeline) == TWILL_OK);
}

static void batchers(int which)
{
    twill_batcher *batcher;
    twill_batch_options options = {.run.workers = 1, .max_items = 1, .capacity = 1};
    int item = 1;
    assert(twill_batcher_create(&batcher, batch_stays, &options) == TWILL_OK);
    assert(twill_batcher_add(batcher, &item, NULL) == TWILL_OK);
    if (which == 0)
        ended(twill_batcher_add_until(batcher, &item, NULL, soon()));
    else if (which == 1)
        ended(twill_batcher_flush_until(batcher, soon()));
    else {
        until_one_stays();
        ended(twill_batcher_stop(batcher, twill_within(0), soon(), NULL));
    }
    twill_cancel_fire(&release, 1);
    assert(twill_batcher_destroy(batcher) == TWILL_OK);
}

static void limits(int which)
{
    twill_rate_limiter limiter, *one[] = {&limiter};
    twill_bulkhead bulkhead;
    twill_rate_limiter_options slow = {.tokens = 1, .per = TWILL_SEC(1000)};
    assert(twill_rate_limiter_init(&limiter, &slow) == TWILL_OK);
    assert(twill_rate_limiter_acquire(&limiter, 1) == TWILL_OK);
    assert(twill_bulkhead_init(&bulkhead, 1, 1) == TWILL_OK);
    assert(twill_bulkhead_enter(&bulkhead) == TWILL_OK);
    if (which == 0)
        refused(twill_rate_limiter_acquire_until(&limiter, 1, soon()));
    else if (which == 1)
        refused(twill_rate_limiter_acquire_all_until(one, 1, 1, soon()));
    else
        ended(twill_bulkhead_enter_until(&bulkhead, soon()));
}

static void resources(int which)
{
    twill_resource_pool *pool;
    twill_lease lease = {0}, more[2] = {{0}};
    twill_resource_pool_options options = {.max = which == 1 ? 2 : 1, .create = create};
    assert(twill_resource_pool_create(&pool, &options) == TWILL_OK);
    assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
    switch (which) {
    case 0:
        ended(twill_resource_pool_acquire_until(pool, more, soon()));
        break;
    case 1:
        ended(twill_resource_pool_acquire_many_until(pool, more, 2, soon()));
        break;
    case 2:
        ended(
            twill_with_resource(pool, use, NULL, &(twill_with_resource_options){.until = soon()}));
        break;
    default:
        assert(twill_resource_pool_close(pool) == TWILL_OK);
        ended(twill_resource_pool_drain_until(pool, soon()));
    }
    assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
    assert(twill_resource_pool_destroy(pool) == TWILL_OK);
}

static void timeouts(int which)
{
    twill_timeout *timeout;
    twill_timeout_options options = {.timeout = which ? TWILL_MS(1) : TWILL_FOREVER};
    assert(twill_timeout_create(&timeout, &options) == TWILL_OK);
    if (which == 0) {
        ended(twill_timeout_call(timeout, NULL, 0, NULL, 0, stays_with, soon(), NULL));
    } else {
        assert(twill_timeout_call(timeout, NULL, 0, NULL, 0, stays_with, (twill_until){0}, NULL) ==
               TWILL_TIMEOUT);
        ended(twill_timeout_drain(timeout, soon(), NULL));
    }
    twill_cancel_fire(&release, 1);
    assert(twill_timeout_drain(timeout, (twill_until){0}, NULL) == TWILL_OK);
    assert(twill_timeout_destroy(timeout) == TWILL_OK);
}

static void others(int which)
{
    twill_shutdown *stop;
    if (which == 0) {
        twill_retry_options options = {.base = TWILL_SEC(1), .jitter = TWILL_JITTER_NONE};
        options.until = soon();
        refused(twill_retry_call(NULL, NULL, fails, &options, NULL));
        return;
    }
    assert(twill_shutdown_create(&stop, &(twill_shutdown_options){.no_signals = true}) == TWILL_OK);
    ended(twill_shutdown_wait(stop, soon()));
    assert(twill_shutdown_destroy(stop) == TWILL_OK);
}

static void calls(int which)
{
    enum { N = 4 };
    static const twill_stage stage = {.work = obeys_with, .workers = 2};
    static const twill_reducer reducer = {.size = 1, .fold = fold_obeys, .combine = combine};
    static int items[N];
    twill_run run = {.workers = 2, .until = soon()};
    twill_parallel_options options = {.run = run};
    void *values;
    size_t n;
    char result;
    switch (which) {
    case 0:
        ended(twill_parallel_for(N, obeys, &options));
        break;
    case 1:
        ended(twill_parallel_reduce(N, &reducer, &result, &options));
        break;
    case 2:
        ended(twill_parallel_find(items, sizeof *items, N, &n, test_obeys, &options));
        break;
    case 3:
        ended(twill_run_all(items, sizeof *items, NULL, 0, N, obeys_with, NULL,
                            &(twill_run_all_options){.run = run}));
        break;
    case 4:
        ended(twill_fan_out_fan_in(items, sizeof *items, N, obeys_with, 0, NULL,
                                   &(twill_fan_options){.run = run}));
        break;
    case 5:
        ended(twill_fan_stream(one_more, sizeof *items, obeys_with, 0, NULL,
                               &(twill_fan_options){.run = run}));
        break;
    case 6:
        ended(twill_pipeline_run(one_more, sizeof *items, &stage, 1,
                                 &(twill_pipeline_options){.run = run}));
        break;
    case 7:
        ended(twill_produce_consume(
            sizeof *items, push_for_ever, item_obeys,
            &(twill_produce_consume_options){.run = run, .queue.capacity = 1}));
        break;
    case 8:
        ended(twill_batch_process(items, sizeof *items, NULL, 0, N, batch_obeys,
                                  &(twill_batch_options){.run = run, .max_items = 1}));
        break;
    case 9:
        ended(twill_batch_flat_map(items, sizeof *items, N, flat_obeys, 1, &values, &n,
                                   &(twill_batch_options){.run = run, .max_items = 1}));
        twill_batch_free(values);
        break;
    default:
        ended(twill_map_with_progress(items, sizeof *items, items, sizeof *items, N, obeys_with,
                                      &(twill_map_with_progress_options){
                                          .run = run, .progress.style = TWILL_PROGRESS_SILENT}));
    }
}

static const struct {
    void (*wait)(int which);
    int n;
} all[] = {{sleeps, 1}, {queues, 9},    {pools, 7},    {fans, 3},   {pipelines, 3}, {batchers, 3},
           {limits, 3}, {resources, 4}, {timeouts, 2}, {others, 2}, {calls, 11}};

int main(void)
{
    int which = 0, of = 0, n = 0;
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++)
        n += all[k].n;
    for (which = EXPLORE_CHOICE(n, 0); which >= all[of].n; of++)
        which -= all[of].n;
    by_token = EXPLORE_CHOICE(2, 0);
    all[of].wait(which);
    if (by_token)
        twill__thread_join(&firer);
    twill_cancel_detach(&token);
    return 0;
}

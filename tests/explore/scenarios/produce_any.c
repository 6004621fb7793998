/* Any one call of producers and consumers. Each schedule draws one: how many of both, batches,
   capacity, what a full queue does, order, ages, the run's policy for errors, its deadline and
   token, threads of its own or of a pool, hooks, drop, dead_letter; producers that push in every
   way, fail, stop, close, clear, end their thread; items that fail, stop, skip, sleep deafly or
   until they are told, push another one, end the thread that consumes them; threads and memory that
   cannot be had, and worker_start that fails.

   Whatever it is: each producer begins at most once, each accepted item is consumed or dropped,
   once, a refused one never; no more consume at once than asked; the report, the queue's books and
   what the callbacks have seen agree; the error is one that happened, the lowest where the policy
   says so; and after the return nothing runs. */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static int thread_fails(void);
static void *maybe_malloc(size_t size);
#define TWILL__FAIL_THREAD() thread_fails()
#define TWILL_MALLOC(size)   maybe_malloc(size)
#define TWILL_FREE(block)    free(block)
#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"
#include "twill_worker_pool.h"

#include "explore.h"

enum { PRODUCERS = 3, EACH = 4, EXTRA = 4, ITEMS = PRODUCERS * EACH + EXTRA, WORKERS = 8 };
enum { GOOD, FAILS, STOPS, SKIPS, DEAF, OBEYS, ENDS, FIRES, PUSHES, KINDS };
enum { NOT_RUN, DONE, FAILED, SKIPPED, LOST };
enum { NOT_ASKED = -1, LEFT = -2, EITHER = -3, CODE = 7, PRODUCER_CODE = 9, START_CODE = 11 };

static twill_produce_consume_options drawn;
static twill_queue_stats stats;
static twill_report report;
static twill_cancel token;
static _Atomic(twill_queue *) inside;
static twill_status answer;
static twill__thrd caller;

static int kind[ITEMS], ending[PRODUCERS], many[PRODUCERS], answers[ITEMS];
static size_t number[ITEMS];
static _Atomic int consumed[ITEMS], dropped[ITEMS], outcome[ITEMS], dead[ITEMS], begun[PRODUCERS];
static _Atomic int running, extra, over, failed_producers, starts, stops, alive;
static _Atomic unsigned long numbers;
static _Thread_local bool stays;
static bool no_threads, no_memory; /* some cannot be had, while `armed` */
static unsigned refuses;           /* the numbers whose worker_start fails */
static _Atomic int armed, threadless, memoryless, refused;

static bool one_in(int n)
{
    return EXPLORE_CHOICE(n, 0) == 0;
}

static int thread_fails(void)
{
    bool fails = atomic_load(&armed) && no_threads && one_in(2);
    atomic_fetch_add(&threadless, fails);
    return fails;
}

static void *maybe_malloc(size_t size)
{
    bool fails = atomic_load(&armed) && no_memory && one_in(3);
    atomic_fetch_add(&memoryless, fails);
    return fails ? NULL : malloc(size);
}

static void rest(void)
{
    if (one_in(3))
        (void)twill_sleep(twill_within(TWILL_US(3)));
}

static void leave_thread(void)
{
    stays = true;
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static int priority_of(const void *item, const twill_task *task)
{
    (void)task;
    return *(const int *)item % 2;
}

/* ---- producers ---- */

static bool in(int status)
{
    return status == TWILL_OK || status == TWILL_DROPPED;
}

enum { FOR_EVER, TRIES, UNTIL, SELECTS, MANY, BULK };

static void check_push(twill_status status, int way, twill_until until)
{
    twill_overflow overflow = drawn.queue.overflow;
    bool tries = way == TRIES, blocks = overflow == TWILL_OVERFLOW_BLOCK ||
                                        overflow == TWILL_OVERFLOW_CALLER_RUNS || way == SELECTS;
    if (status == TWILL_FULL)
        assert(overflow == TWILL_OVERFLOW_REJECT || (blocks && tries));
    else if (status == TWILL_DROPPED)
        assert(overflow == TWILL_OVERFLOW_DROP_INCOMING);
    else if (status == TWILL_TIMEOUT)
        assert(blocks && !tries && until.deadline && twill_now() >= until.deadline);
    else if (status == TWILL_CANCELLED)
        assert(blocks && !tries && twill_cancel_fired(until.cancel));
    else
        assert(status == TWILL_OK || status == TWILL_CLOSED);
}

static twill_status push(twill_queue *queue, int first, int n, const twill_task *task)
{
    int items[EACH], way = n > 1 ? MANY + EXPLORE_CHOICE(2, 0) : EXPLORE_CHOICE(6, 0);
    twill_queue_case one = {.queue = queue, .push = true, .item = items};
    twill_until until = way == FOR_EVER ? (twill_until){0, NULL} : task->until;
    size_t count = 0;
    twill_status status;
    for (int k = 0; k < n; k++) {
        items[k] = first + k;
        answers[first + k] = LEFT;
    }
    if (way == MANY)
        status = twill_queue_push_many_until(queue, items, (size_t)n, &count, until);
    else
        status = way == BULK       ? twill_queue_push_bulk_until(queue, items, (size_t)n, until)
                 : way == FOR_EVER ? twill_queue_push(queue, items)
                 : way == TRIES    ? twill_queue_try_push(queue, items)
                 : way == UNTIL    ? twill_queue_push_until(queue, items, until)
                                : twill_queue_select_until(&one, 1, TWILL_SELECT_FAIR, NULL, until);
    if (way == BULK && drawn.queue.priority_of)
        assert(status == TWILL_INVALID);
    else if (way == BULK && n > (int)drawn.queue.capacity)
        assert(status == TWILL_TOO_BIG);
    else
        check_push(status, way, until);
    if (way != MANY)
        count = status == TWILL_OK ? (size_t)n : 0;
    for (int k = 0; k < n; k++)
        answers[first + k] = status == TWILL_DROPPED ? EITHER
                             : k < (int)count        ? TWILL_OK
                                                     : (int)status;
    return status;
}

enum { RETURNS, ERRS, STOPS_ALL, CLOSES, FAILS_QUEUE, CLEARS, LEAVES, CANCELS, ENDINGS };

static int produce(twill_queue *queue, const twill_task *task)
{
    int me = (int)task->index, k = 0;
    twill_status status = TWILL_OK;
    assert(!atomic_load(&over) && me < (int)(drawn.producers ? drawn.producers : 1));
    assert(atomic_fetch_add(&begun[me], 1) == 0);
    atomic_store(&inside, queue);
    while (k < many[me] && status != TWILL_CLOSED) {
        int n = one_in(3) ? many[me] - k : 1;
        status = push(queue, me * EACH + k, n, task);
        k += n;
        rest();
    }
    switch (ending[me]) {
    case ERRS:
        atomic_fetch_add(&failed_producers, 1);
        return PRODUCER_CODE;
    case STOPS_ALL:
        return twill_task_stop(task);
    case CLOSES:
        (void)twill_queue_close(queue);
        break;
    case FAILS_QUEUE:
        if (twill_queue_fail(queue, PRODUCER_CODE) == TWILL_OK)
            atomic_fetch_add(&failed_producers, 1);
        break;
    case CLEARS:
        (void)twill_queue_clear(queue);
        break;
    case CANCELS:
        twill_cancel_fire(&token, 1);
        break;
    case LEAVES:
        if (!stays) {
            atomic_fetch_add(&failed_producers, 1);
            leave_thread();
        }
        break;
    default:
        break;
    }
    return status == TWILL_CLOSED ? (int)TWILL_CLOSED : 0;
}

/* ---- consumers ---- */

static void note(int item, const twill_task *task)
{
    unsigned long bit = 1ul << task->index;
    assert(!atomic_load(&over) && task->index < 64);
    assert(!(atomic_fetch_or_explicit(&numbers, bit, memory_order_relaxed) & bit));
    number[item] = task->index;
}

static int end_item(int item, int how, int code)
{
    atomic_store(&outcome[item], how);
    atomic_fetch_sub(&running, 1);
    return code;
}

static int consume(void *item_, const twill_task *task)
{
    int item = *(int *)item_, more;
    bool limited = drawn.queue.overflow != TWILL_OVERFLOW_CALLER_RUNS && drawn.run.workers;
    assert(atomic_fetch_add(&consumed[item], 1) == 0 && atomic_load(&dropped[item]) == 0);
    note(item, task);
    more = atomic_fetch_add(&running, 1) + 1;
    assert(!limited || more <= (int)drawn.run.workers);
    rest();
    switch (kind[item]) {
    case FAILS:
        return end_item(item, FAILED, CODE);
    case STOPS:
        return end_item(item, DONE, twill_task_stop(task));
    case SKIPS:
        return end_item(item, SKIPPED, twill_task_skip(task));
    case DEAF:
        (void)twill_sleep(twill_within(TWILL_US(10)));
        break;
    case OBEYS:
        (void)twill_sleep(twill_within_or_cancelled(TWILL_US(20), task->until.cancel));
        break;
    case FIRES:
        twill_cancel_fire(&token, 1);
        break;
    case PUSHES:
        more = atomic_fetch_add(&extra, 1);
        if (more < EXTRA) {
            int other = PRODUCERS * EACH + more;
            answers[other] = LEFT;
            answers[other] = (int)twill_queue_try_push(atomic_load(&inside), &other);
            check_push((twill_status)answers[other], TRIES, task->until);
        }
        break;
    case ENDS:
        if (stays)
            break;
        (void)end_item(item, LOST, 0);
        leave_thread();
        break;
    default:
        break;
    }
    return end_item(item, DONE, 0);
}

static void drop(void *item_, twill_status why, const twill_task *task)
{
    int item = *(int *)item_;
    assert(why == TWILL_CANCELLED || why == TWILL_TIMEOUT || why == TWILL_DROPPED);
    assert(why != TWILL_TIMEOUT || drawn.queue.max_age);
    assert(atomic_fetch_add(&dropped[item], 1) == 0 && atomic_load(&consumed[item]) == 0);
    note(item, task);
    rest();
}

static void dead_letter(void *item_, int code, const twill_task *task)
{
    int item = *(int *)item_;
    assert(code == CODE && atomic_load(&outcome[item]) == FAILED);
    assert(task->index == number[item] && atomic_fetch_add(&dead[item], 1) == 0);
    assert(!atomic_load(&over));
}

static int worker_start(void **state, const twill_task *task)
{
    assert(task->worker < WORKERS);
    if (refuses >> task->worker & 1) {
        atomic_fetch_add(&refused, 1);
        return START_CODE;
    }
    *state = &starts;
    atomic_fetch_add(&starts, 1);
    return 0;
}

static void worker_stop(void *state, const twill_task *task)
{
    assert(state == &starts && task->worker < WORKERS);
    atomic_fetch_add(&stops, 1);
}

/* ---- what must hold ---- */

static struct { /* at the end */
    int consumed, dropped, outcome, dead;
} seen[ITEMS];

static void look_back(void)
{
    for (int i = 0; i < ITEMS; i++) {
        seen[i].consumed = atomic_load(&consumed[i]);
        seen[i].dropped = atomic_load(&dropped[i]);
        seen[i].outcome = atomic_load(&outcome[i]);
        seen[i].dead = atomic_load(&dead[i]);
    }
}

static bool in_time(twill_on_error policy)
{
    return policy == TWILL_ON_ERROR_FIRST || policy == TWILL_ON_ERROR_LIMIT;
}

/* An error above an item that stops is none: the serial loop would not have come there. */
static void check_error(size_t lowest, size_t bad)
{
    const twill_item_error *error = &report.first_error;
    twill_on_error policy = drawn.run.on_error;
    assert((answer == TWILL_FAILED) == (error->status != 0));
    for (int i = 0; i < ITEMS; i++)
        if (kind[i] == STOPS && seen[i].outcome == DONE && number[i] < lowest)
            return;
    if (answer != TWILL_FAILED)
        return;
    if (error->index == SIZE_MAX && error->code == START_CODE) {
        assert(atomic_load(&refused) && bad == 0);
        return;
    }
    if (error->index == SIZE_MAX) {
        assert(atomic_load(&failed_producers) && (bad == 0 || in_time(policy)));
        return;
    }
    assert(bad > 0);
    if (!in_time(policy))
        assert(error->index == lowest);
    for (int i = 0; i < ITEMS; i++)
        if ((seen[i].consumed || seen[i].dropped) && number[i] == error->index) {
            assert(seen[i].outcome == (error->status == TWILL_LOST ? LOST : FAILED));
            assert(error->code == (seen[i].outcome == FAILED ? CODE : 0));
        } else if ((policy == TWILL_ON_ERROR_DEFAULT || policy == TWILL_ON_ERROR_LOWEST) &&
                   seen[i].dropped && drawn.queue.order == TWILL_ORDER_FIFO &&
                   !drawn.queue.max_age && drawn.queue.overflow == TWILL_OVERFLOW_BLOCK &&
                   !drawn.run.until.deadline) {
            bool cleared = false; /* by somebody else */
            for (int k = 0; k < PRODUCERS; k++)
                cleared |= ending[k] == CLEARS || ending[k] == CANCELS;
            for (int k = 0; k < ITEMS; k++)
                cleared |= kind[k] == FIRES || kind[k] == ENDS || kind[k] == STOPS;
            assert(cleared || alive || number[i] > error->index);
        }
}

static void check_items(void)
{
    size_t accepted = 0, unknown = 0, ran = 0, good = 0, bad = 0, lowest = SIZE_MAX;
    for (int i = 0; i < ITEMS; i++) {
        bool once = seen[i].consumed || seen[i].dropped;
        unknown += answers[i] == LEFT || (answers[i] == EITHER && !drawn.queue.drop && !once);
        accepted += in(answers[i]) || (answers[i] == EITHER && (once || !drawn.queue.drop));
        if (answers[i] == TWILL_OK)
            assert(once || !drawn.queue.drop);
        else if (answers[i] != LEFT && answers[i] != EITHER)
            assert(!seen[i].consumed && (!seen[i].dropped || answers[i] == TWILL_DROPPED));
        ran += (size_t)seen[i].consumed;
        good += seen[i].outcome == DONE;
        if (seen[i].outcome == FAILED || seen[i].outcome == LOST) {
            bad++;
            lowest = number[i] < lowest ? number[i] : lowest;
        }
        assert(seen[i].dead == (drawn.dead_letter && seen[i].outcome == FAILED));
    }
    assert(report.total == report.done + report.failed + report.skipped);
    assert(report.total == stats.accepted);
    assert(stats.accepted >= accepted && stats.accepted <= accepted + unknown);
    assert(stats.accepted == stats.popped + stats.dropped + stats.expired + stats.cleared);
    assert(stats.popped == ran && stats.length == 0);
    assert(report.done == good && report.failed == bad);
    check_error(lowest, bad);
}

/* Nothing has run. */
static void check_refused(void)
{
    if (answer == TWILL_NO_MEMORY)
        assert(atomic_load(&memoryless));
    else /* or the pool has too few */
        assert(drawn.run.strict && (atomic_load(&threadless) || drawn.run.pool));
    assert(report.total == 0 && !atomic_load(&starts));
    for (int k = 0; k < PRODUCERS; k++)
        assert(!atomic_load(&begun[k]));
}

static void check_answer(void)
{
    bool stopped = false;
    assert(answer == report.status);
    if (answer == TWILL_CANCELLED)
        assert(drawn.run.until.cancel && twill_cancel_fired(&token));
    else if (answer == TWILL_TIMEOUT)
        assert(drawn.run.until.deadline && twill_now() >= drawn.run.until.deadline);
    else if (answer == TWILL_NO_MEMORY || answer == TWILL_NO_THREAD)
        check_refused();
    else
        assert(answer == TWILL_OK || answer == TWILL_FAILED);
    for (int k = 0; k < ITEMS; k++)
        stopped |= kind[k] == STOPS && seen[k].outcome == DONE;
    for (int k = 0; k < PRODUCERS; k++)
        stopped |= ending[k] == STOPS_ALL || ending[k] == CLOSES;
    if (answer == TWILL_OK && !stopped)
        for (unsigned k = 0; k < (drawn.producers ? drawn.producers : 1); k++)
            assert(begun[k] == 1);
    assert(atomic_load(&starts) == atomic_load(&stops));
    assert(atomic_load(&running) == 0);
}

/* ---- the program ---- */

static void draw_queue(twill_queue_options *o)
{
    static const twill_overflow full[] = {TWILL_OVERFLOW_BLOCK,       TWILL_OVERFLOW_BLOCK,
                                          TWILL_OVERFLOW_REJECT,      TWILL_OVERFLOW_DROP_INCOMING,
                                          TWILL_OVERFLOW_DROP_OLDEST, TWILL_OVERFLOW_DROP_NEWEST,
                                          TWILL_OVERFLOW_CALLER_RUNS};
    o->capacity = 1 + (size_t)EXPLORE_CHOICE(3, 0);
    o->overflow = full[EXPLORE_CHOICE(7, 0)];
    if (one_in(3)) {
        o->order = (twill_queue_order)EXPLORE_CHOICE(3, 0);
        o->priority_of = o->order == TWILL_ORDER_PRIORITY ? priority_of : NULL;
        o->max_age = one_in(3) ? TWILL_US(4) : 0;
    } else if (one_in(3)) {
        o->engine = TWILL_ENGINE_LOCK;
    }
    o->drop = one_in(4) ? NULL : drop;
}

static void draw(void)
{
    twill_run *run = &drawn.run;
    drawn.producers = (unsigned)EXPLORE_CHOICE(PRODUCERS + 1, 0);
    drawn.batch = (size_t)EXPLORE_CHOICE(4, 0);
    drawn.dead_letter = one_in(3) ? NULL : dead_letter;
    drawn.queue_stats = &stats;
    run->report = &report;
    run->workers = 1 + (unsigned)EXPLORE_CHOICE(2, 0);
    run->on_error = (twill_on_error)EXPLORE_CHOICE(5, 0);
    run->max_errors = run->on_error == TWILL_ON_ERROR_LIMIT ? (size_t)EXPLORE_CHOICE(3, 0) : 0;
    if (one_in(2)) {
        run->worker_start = worker_start;
        run->worker_stop = worker_stop;
    }
    if (one_in(4))
        run->until.deadline = twill_now() + TWILL_US(8);
    if (one_in(3))
        run->until.cancel = &token;
    draw_queue(&drawn.queue);
    no_threads = one_in(3);
    no_memory = one_in(5);
    refuses = one_in(4) ? (unsigned)EXPLORE_CHOICE(16, 0) : 0;
    run->strict = no_threads && one_in(3);
    for (int i = 0; i < ITEMS; i++) {
        answers[i] = NOT_ASKED;
        kind[i] = one_in(2) ? GOOD : EXPLORE_CHOICE(KINDS, 0);
    }
    for (int k = 0; k < PRODUCERS; k++) {
        many[k] = EXPLORE_CHOICE(EACH + 1, 0);
        ending[k] = one_in(2) ? RETURNS : EXPLORE_CHOICE(ENDINGS, 0);
    }
}

static void call(void *unused)
{
    (void)unused;
    atomic_store(&armed, 1);
    answer = twill_produce_consume(sizeof(int), produce, consume, &drawn);
}

int main(void)
{
    twill_pool *pool = NULL;
    stays = true;
    draw();
    if (one_in(2))
        assert(twill_pool_create(
                   &pool, &(twill_pool_options){
                              .run.workers = 1 + (unsigned)EXPLORE_CHOICE(2, 0)}) == TWILL_OK);
    drawn.run.pool = pool;
    caller.fn = call;
    caller.cpu = UINT_MAX;
    assert(twill__thread_start(&caller));
    if (drawn.run.until.cancel && one_in(3)) {
        rest();
        atomic_store(&alive, 1);
        twill_cancel_fire(&token, 1);
    }
    twill__thread_join(&caller);
    atomic_store(&armed, 0);
    atomic_store(&over, 1);
    answer = report.status; /* the caller's thread may have ended in a callback */
    look_back();
    check_answer();
    check_items();
    assert(twill_pool_destroy(pool) == TWILL_OK);
    twill_cancel_detach(&token);
    return 0;
}

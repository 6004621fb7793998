/* Any program on a pool. Each schedule draws one: workers, fixed, lazy or as many as are needed,
   capacity and what a full queue does, order and ageing, the watch, levels, events, hooks that
   refuse, threads and memory that cannot be had; a few tasks from two threads, each with options of
   its own, and what else these threads do: wait, cancel, let go, pause, resize, call each worker,
   wait for idleness, close, stop. A task fails, skips, is deaf or obeys, blocks, ends its thread,
   submits and waits, waits for any other, cancels, fires, closes, resizes, pauses, asks for what it
   may not. Then a stop or none, and destroy or abandon, while the other thread may still wait for a
   future.

   Whatever it is: an accepted task runs or is dropped, once, and ends in one way that its future,
   on_done, the events and the books tell alike; a refused one does nothing; a result is taken or
   discarded; no wait goes on for ever, or says what cannot be; nothing is left. */
#include "explore.h"

static int no_thread(void);
static int no_memory(void);
#define TWILL__FAIL_THREAD() no_thread()
#define TWILL__GROW_AFTER    TWILL_US(10)
#define NO_MEMORY()          no_memory()
#include "pool_blocks.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

enum { OWN = 5, MOST = 16, WORKERS = 8, TURNS = 3, CODE = 7, INDICES = 64 * MOST };
enum { GOOD, FAILS, SKIPS, DEAF, OBEYS, ENDS, BLOCKS, SIMPLE }; /* what a child may do */
enum { NESTS = SIMPLE, LEAVES, WAITS, CANCELS, FIRES, CLOSES, RESIZES, PAUSES, ASKS, KINDS };
enum { NOT_ASKED = -1, LEFT = -2 /* the thread has ended in submit */ };

typedef struct one_task {
    struct one_task *lead; /* whose options, key and context it has; itself but in submit_many */
    int last;              /* of those */
    int kind;
    twill_submit_options options;
    bool asks;
    int said;              /* by submit */
    _Atomic int known;     /* 1: there is a future for others; 2: it has been let go */
    _Atomic int cancelled; /* somebody asked for it */
    twill_cancel token;
    _Atomic int ran, dropped, told, discarded, taken, returned, lost, inlined;
    twill_outcome outcome, seen; /* of on_done; of the future */
    twill_ns when;               /* about to be submitted */
} one_task;

typedef struct frame { /* a task that runs on this thread */
    int i;
    struct frame *around;
} frame;

static twill_pool *shared;
static twill_pool_options drawn;
static one_task tasks[MOST];
static twill_future futures[MOST]; /* theirs */
static twill_cancel run_token;
static _Atomic int settled; /* nobody asks for a future any more: main looks at them */
static _Atomic int next_task, refused, stops_asked, starts[WORKERS], ends[WORKERS];
static _Atomic int events[5], state_of[INDICES]; /* by index: events of a task */
static _Atomic int busy_on[WORKERS], active;
static _Atomic int refusals, no_threads,
    no_blocks; /* so many more, of hooks, threads, allocations */
static void *context_of[INDICES];
static bool was_high, abandoned, refuses; /* refuses: some of those three */
static _Thread_local bool ours; /* this thread does not end in a callback, or does already */
static _Thread_local frame *frames;
static _Thread_local unsigned worker = WORKERS; /* whose outermost task runs here */
static _Thread_local const one_task *submitting;

static bool one_of(int m)
{
    return EXPLORE_CHOICE(m, 0) == 0;
}

/* Perhaps, and then it is one less. */
static bool fails(_Atomic int *left)
{
    if (atomic_load(left) <= 0 || !one_of(2))
        return false;
    return atomic_fetch_sub(left, 1) > 0;
}

static int no_thread(void)
{
    return fails(&no_threads);
}

static int no_memory(void)
{
    return fails(&no_blocks);
}

/* A moment from now, or never. */
static twill_ns soon(int m)
{
    return one_of(m) ? TWILL_US(1 + EXPLORE_CHOICE(12, 0)) : 0;
}

static twill_until some_until(void)
{
    twill_ns ns = soon(2);
    return ns ? twill_within(ns) : (twill_until){0, NULL};
}

/* ---- callbacks ---- */

static void ask(void)
{
    twill_stopped stopped;
    assert(twill_pool_destroy(shared) == TWILL_DEADLOCK);
    assert(twill_pool_stop(shared, twill_within(0), twill_within(0), &stopped) == TWILL_DEADLOCK);
    assert(twill_pool_wait_idle(shared) == TWILL_DEADLOCK);
    assert(twill_pool_each_worker(shared, run_it, NULL, (twill_until){0, NULL}) == TWILL_DEADLOCK);
}

/* From any callback outside of a task; `ends`: a task waits for its return. */
static void ask_outside(bool ends)
{
    twill_until forever = {0, NULL};
    if (!one_of(8))
        return;
    assert(twill_pool_destroy(shared) == TWILL_DEADLOCK);
    if (!ends)
        return;
    assert(twill_pool_stop(shared, forever, forever, NULL) == TWILL_DEADLOCK);
    assert(twill_pool_wait_idle(shared) == TWILL_DEADLOCK);
}

static void on_event(const twill_task_info *info, const twill_task *task)
{
    atomic_fetch_add(&events[info->event], 1);
    ask_outside(info->event == TWILL_EVENT_QUEUED);
    if (info->event == TWILL_EVENT_REFUSED) {
        assert(info->index == SIZE_MAX && info->status != TWILL_OK);
        return;
    }
    assert(info->index < INDICES);
    if (info->event == TWILL_EVENT_QUEUED)
        context_of[info->index] = task->context;
    assert(task->index == info->index && task->context == context_of[info->index]);
    assert(!info->key || info->key == task->context);
    if (info->event == TWILL_EVENT_QUEUED)
        assert(atomic_exchange(&state_of[info->index], 1) == 0);
    else if (info->event == TWILL_EVENT_STARTED)
        assert(atomic_fetch_or(&state_of[info->index], 2) == 1);
    else if (info->event == TWILL_EVENT_ENDED)
        assert((atomic_fetch_or(&state_of[info->index], 4) & 5) == 1);
    else
        assert(drawn.stuck_after && (atomic_fetch_or(&state_of[info->index], 8) & 10) == 2);
}

static void on_level(bool high, size_t length, const twill_task *task)
{
    (void)length, (void)task;
    assert(high != was_high);
    was_high = high;
    ask_outside(false);
}

static int worker_start(void **state, const twill_task *task)
{
    assert(task->worker < WORKERS);
    if (fails(&refusals))
        return 3;
    *state = &starts[task->worker];
    assert(atomic_fetch_add(&starts[task->worker], 1) == atomic_load(&ends[task->worker]));
    return 0;
}

static void worker_stop(void *state, const twill_task *task)
{
    assert(state == &starts[task->worker]);
    assert(atomic_fetch_add(&ends[task->worker], 1) + 1 == atomic_load(&starts[task->worker]));
}

static void drop_any(void *task_, twill_status why, const twill_task *task)
{
    one_task *t = task_;
    (void)task;
    ask_outside(true);
    assert(why == TWILL_CANCELLED || why == TWILL_TIMEOUT || why == TWILL_DROPPED);
    assert(atomic_fetch_add(&t->dropped, 1) == 0 && atomic_load(&t->ran) == 0);
    assert(atomic_load(&t->told) == 0);
}

static void discard_any(void *task_, void *result, int code, const twill_task *task)
{
    one_task *t = task_;
    (void)task;
    assert(atomic_load(&t->returned) == 1 && code == (t->kind == FAILS ? CODE : 0));
    assert(!t->options.result_size || *(int *)result == 100 + (int)(t - tasks));
    assert(atomic_fetch_add(&t->discarded, 1) == 0);
}

static void done_any(const twill_outcome *outcome, void *result, const twill_task *task)
{
    one_task *t = outcome->key;
    (void)task;
    ask_outside(false);
    if (t->asks && one_of(4))
        assert(twill_future_wait(futures[t - tasks], NULL, NULL) == TWILL_DEADLOCK ||
               atomic_load(&t->known) >= 2);
    assert(atomic_fetch_add(&t->told, 1) == 0);
    t->outcome = *outcome;
    if (result && t->options.result_size)
        assert(*(int *)result == 100 + (int)(t - tasks));
}

/* ---- what both tasks and threads do ---- */

static void check_wait(twill_status status, const twill_outcome *outcome, twill_until until)
{
    if (status == TWILL_OK || status == TWILL_FAILED)
        assert((outcome->status == TWILL_OK) == (status == TWILL_OK));
    else if (status == TWILL_TIMEOUT)
        assert(until.deadline && twill_now() >= until.deadline);
    else if (status == TWILL_CANCELLED)
        assert(twill_cancel_fired(until.cancel));
    else
        assert(status == TWILL_STALE || (status == TWILL_DEADLOCK && frames));
}

static void wait_for(int i, twill_until until)
{
    one_task *t = &tasks[i];
    twill_outcome outcome = {0};
    int result = -1;
    bool takes = t->options.result_size && one_of(2);
    twill_status status =
        twill_future_wait_until(futures[t - tasks], takes ? &result : NULL, &outcome, until);
    check_wait(status, &outcome, until);
    assert(status != TWILL_STALE || atomic_load(&t->known) >= 2);
    if (status == TWILL_OK || status == TWILL_FAILED) {
        assert(outcome.key == t->lead);
        assert(result == -1 || result == 100 + i);
        assert(status != TWILL_OK || !takes || result != -1);
    }
    if (result != -1)
        atomic_store(&t->taken, 1);
}

static void cancel(int i)
{
    twill_status status;
    atomic_store(&tasks[i].cancelled, 1);
    status = twill_future_cancel(futures[i]);
    assert(status == TWILL_OK || (status == TWILL_STALE && atomic_load(&tasks[i].known) >= 2));
}

static void draw_task_options(one_task *t)
{
    bool plain = one_of(4);
    t->asks = !one_of(3);
    t->lead = t;
    t->last = (int)(t - tasks);
    t->options = (twill_submit_options){.context = t};
    if (plain && !t->asks)
        return;
    t->options.key = t;
    t->options.result_size = one_of(2) ? sizeof(int) : 0;
    if (one_of(3)) /* simple */
        return;
    t->options.priority = one_of(3) ? EXPLORE_CHOICE(3, 0) - 1 : 0;
    t->options.start_at = one_of(4) ? twill_now() + TWILL_US(EXPLORE_CHOICE(10, 0)) : 0;
    t->options.start_by = one_of(4) ? twill_now() + TWILL_US(EXPLORE_CHOICE(10, 0)) : 0;
    t->options.timeout = one_of(4) ? TWILL_US(5) : 0;
    t->options.cancel = one_of(4) ? &t->token : NULL;
    t->options.on_done = one_of(4) ? NULL : done_any;
    t->options.drop = one_of(4) ? NULL : drop_any;
    t->options.discard = one_of(2) ? NULL : discard_any;
}

static int run_any(void *task_, void *result, const twill_task *task);

static void note_answer(one_task *t, twill_status status)
{
    t->said = (int)status;
    switch (status) {
    case TWILL_OK:
        break;
    case TWILL_DROPPED:
        assert(drawn.overflow == TWILL_OVERFLOW_DROP_INCOMING);
        break;
    default:
        assert(status == TWILL_FULL || status == TWILL_CLOSED || status == TWILL_TIMEOUT ||
               (status == TWILL_NO_MEMORY && refuses));
        atomic_fetch_add(&refused, 1);
        return;
    }
    if (t->asks) {
        int none = 0; /* else the handle was given back already, as that of an abandoned pool */
        (void)atomic_compare_exchange_strong(&t->known, &none, 1);
    }
}

/* -1: none is left. */
static int submit_one(int kinds, bool never_waits)
{
    int i = atomic_fetch_add(&next_task, 1), form = never_waits ? 0 : EXPLORE_CHOICE(3, 0);
    one_task *t = &tasks[i];
    twill_future *future;
    const one_task *outer = submitting;
    twill_status status;
    if (i >= MOST)
        return -1;
    t->kind = EXPLORE_CHOICE(kinds, 0);
    draw_task_options(t);
    future = t->asks && !atomic_load(&settled) ? &futures[t - tasks] : NULL;
    t->said = LEFT;
    t->when = twill_now();
    submitting = t;
    if (form == 0) {
        status = twill_pool_try_submit(shared, run_any, t, future, &t->options);
    } else if (form == 1) {
        twill_until until = some_until();
        status = twill_pool_submit_until(shared, run_any, t, future, until, &t->options);
        assert(status != TWILL_TIMEOUT || (until.deadline && twill_now() >= until.deadline));
    } else {
        status = twill_pool_submit(shared, run_any, t, future, &t->options);
        assert(status != TWILL_TIMEOUT);
    }
    submitting = outer;
    note_answer(t, status);
    return atomic_load(&t->known) ? i : -1;
}

/* Two or three at once, with the same options. */
static void submit_many(int kinds)
{
    int n = 2 + EXPLORE_CHOICE(2, 0), first = atomic_fetch_add(&next_task, n);
    one_task *lead = &tasks[first];
    const one_task *outer = submitting;
    void *args[3];
    size_t accepted = 9;
    twill_status status;
    if (first + n > MOST)
        return;
    draw_task_options(lead);
    lead->last = first + n - 1;
    lead->options.on_done = NULL; /* it could not tell which one */
    for (int i = 0; i < n; i++) {
        one_task *t = &tasks[first + i];
        args[i] = t;
        t->kind = EXPLORE_CHOICE(kinds, 0);
        t->lead = lead;
        t->options = lead->options;
        t->asks = lead->asks;
        t->said = LEFT;
        t->when = twill_now();
    }
    submitting = lead;
    status = twill_pool_submit_many(shared, run_any, args, (size_t)n,
                                    lead->asks && !atomic_load(&settled) ? &futures[first] : NULL,
                                    &accepted, &lead->options);
    submitting = outer;
    assert(accepted <= (size_t)n &&
           (accepted == (size_t)n) == (status == TWILL_OK || status == TWILL_DROPPED));
    for (int i = 0; i < n; i++) {
        one_task *t = &tasks[first + i];
        if (i < (int)accepted)
            note_answer(t, TWILL_OK);
        else if (i == (int)accepted)
            note_answer(t, status);
        else
            t->said = NOT_ASKED;
    }
}

static int pick(void)
{
    int i = EXPLORE_CHOICE(MOST, 0);
    return atomic_load(&tasks[i].known) ? i : -1;
}

/* Nobody else lets it go. */
static int claim(void)
{
    int i = EXPLORE_CHOICE(MOST, 0), one = 1;
    return atomic_compare_exchange_strong(&tasks[i].known, &one, 4) ? i : -1;
}

/* Only one can be the first. */
static void close_it(void)
{
    static _Atomic int firsts;
    twill_status status = twill_pool_close(shared);
    assert(status == TWILL_OK ? atomic_fetch_add(&firsts, 1) == 0 : status == TWILL_CLOSED);
}

static void resize(void)
{
    unsigned workers = 1 + (unsigned)EXPLORE_CHOICE(2, 0), most = 0;
    twill_status status;
    if (one_of(2))
        most = workers + (unsigned)EXPLORE_CHOICE(2, 0);
    status = twill_pool_resize(shared, workers, most);
    assert(status == TWILL_OK || status == TWILL_CLOSED ||
           ((status == TWILL_NO_THREAD || status == TWILL_NO_MEMORY) && refuses));
}

static void pause_a_while(void)
{
    twill_status status = twill_pool_pause(shared);
    assert(status == TWILL_OK || status == TWILL_CLOSED);
    if (one_of(2))
        (void)submit_one(SIMPLE, true);
    (void)twill_sleep(twill_within(TWILL_US(4)));
    assert(twill_pool_resume(shared) == TWILL_OK);
}

/* ---- tasks ---- */

/* Not again while it ends: POSIX leaves that undefined. */
static void end_thread(void)
{
    if (ours)
        return;
    if (worker < WORKERS) /* before another thread has that number */
        atomic_store(&busy_on[worker], 0);
    for (; frames; frames = frames->around) {
        one_task *t = &tasks[frames->i];
        atomic_store(&t->lost, 1);
        atomic_fetch_sub(&active, 1);
        for (int i = frames->i + 1; atomic_load(&t->inlined) && i <= t->lead->last; i++)
            tasks[i].said = NOT_ASKED; /* the others of submit_many */
    }
    ours = true;
    END_THREAD();
}

static void act(one_task *t, const twill_task *task)
{
    int other;
    switch (t->kind) {
    case DEAF:
        (void)twill_sleep(twill_within(TWILL_US(6)));
        break;
    case OBEYS:
        (void)twill_sleep(twill_within_or_cancelled(TWILL_US(20), task->until.cancel));
        break;
    case ENDS:
        end_thread();
        break;
    case BLOCKS:
        twill_task_block_begin(task);
        (void)twill_sleep(twill_within(TWILL_US(9)));
        twill_task_block_end(task);
        break;
    case NESTS:
        other = submit_one(one_of(2) ? SIMPLE : LEAVES + 1, false);
        if (other >= 0)
            wait_for(other, one_of(2) ? task->until : some_until());
        break;
    case LEAVES:
        if (one_of(3))
            submit_many(SIMPLE);
        else
            (void)submit_one(SIMPLE, one_of(2));
        break;
    case WAITS:
        if ((other = pick()) >= 0)
            wait_for(other, some_until());
        break;
    case CANCELS:
        if ((other = pick()) >= 0)
            cancel(other);
        break;
    case FIRES:
        twill_cancel_fire(one_of(3) ? &run_token : &tasks[EXPLORE_CHOICE(MOST, 0)].token, 2);
        break;
    case CLOSES:
        close_it();
        break;
    case RESIZES:
        resize();
        break;
    case PAUSES:
        pause_a_while();
        break;
    case ASKS:
        ask();
        break;
    }
}

static int run_any(void *task_, void *result, const twill_task *task)
{
    one_task *t = task_;
    frame me = {(int)(t - tasks), frames};
    bool outermost = task->worker != UINT_MAX && !frames;
    assert(atomic_fetch_add(&t->ran, 1) == 0 && atomic_load(&t->dropped) == 0);
    assert(task->context == t->lead && task->index < INDICES);
    assert(task->worker == UINT_MAX || task->worker < task->workers);
    assert(twill_now() >= t->options.start_at);
    assert(!t->options.start_by || t->when < t->options.start_by);
    assert(drawn.run.worker_start == NULL || task->worker == UINT_MAX ||
           task->worker_state == &starts[task->worker]);
    if (drawn.on_event)
        assert(atomic_load(&state_of[task->index]) >= 2);
    if (submitting == t->lead)
        atomic_store(&t->inlined, 1);
    frames = &me;
    atomic_fetch_add(&active, 1);
    if (outermost) {
        assert(atomic_fetch_add(&busy_on[task->worker], 1) == 0);
        worker = task->worker;
    }
    act(t, task);
    if (outermost)
        atomic_store(&busy_on[worker], 0);
    frames = me.around;
    if (t->options.result_size)
        *(int *)result = 100 + (int)(t - tasks);
    atomic_store(&t->returned, 1);
    atomic_fetch_sub(&active, 1);
    if (t->kind == SKIPS || (t->kind == OBEYS && twill_task_cancelled(task)))
        return twill_task_skip(task);
    return t->kind == FAILS ? CODE : 0;
}

/* ---- threads ---- */

static int on_each(void *arg, void *result, const twill_task *task)
{
    (void)result;
    assert(task->worker < WORKERS && twill_pool_current() == shared);
    atomic_fetch_add((_Atomic int *)arg, 1);
    return 0;
}

static void call_each(void)
{
    _Atomic int count = 0;
    twill_until until = some_until();
    twill_status status = twill_pool_each_worker(shared, on_each, &count, until);
    assert(status == TWILL_OK || status == TWILL_CLOSED ||
           (status == TWILL_TIMEOUT && until.deadline && twill_now() >= until.deadline));
}

/* ---- a call on the pool ---- */

typedef struct item {
    int kind;
    _Atomic int ran;
} item;

static int run_item(const void *item_, void *out, const twill_task *task)
{
    item *it = (item *)(uintptr_t)item_;
    (void)out, (void)task;
    assert(atomic_fetch_add(&it->ran, 1) == 0);
    if (it->kind == DEAF)
        (void)twill_sleep(twill_within(TWILL_US(3)));
    if (it->kind == ENDS)
        end_thread();
    return it->kind == FAILS ? CODE : 0;
}

static void call_all(void)
{
    item items[3] = {{0}};
    twill_outcome outcomes[3];
    twill_run_all_options options = {.run.pool = shared, .run.workers = 2};
    bool well = true, all = true;
    twill_status status;
    for (int i = 0; i < 3; i++)
        items[i].kind = EXPLORE_CHOICE(BLOCKS, 0);
    status = twill_run_all(items, sizeof items[0], NULL, 0, 3, run_item, outcomes, &options);
    for (int i = 0; i < 3; i++) {
        bool ran_it = atomic_load(&items[i].ran) == 1;
        assert(ran_it == (outcomes[i].attempts == 1));
        all = all && ran_it;
        if (!ran_it)
            continue;
        well = well && outcomes[i].status == TWILL_OK;
        if (items[i].kind == FAILS)
            assert(outcomes[i].status == TWILL_FAILED && outcomes[i].code == CODE);
        else
            assert(outcomes[i].status == TWILL_OK ||
                   (outcomes[i].status == TWILL_LOST && items[i].kind == ENDS));
    }
    if (status == TWILL_OK || status == TWILL_FAILED)
        assert(all && well == (status == TWILL_OK));
    else
        assert((status == TWILL_NO_MEMORY && refuses) || status == TWILL_CLOSED);
}

static void wait_many(void)
{
    twill_future some[2];
    twill_until until = some_until();
    size_t which = 9;
    int n = 0, i;
    twill_status status;
    for (int k = 0; k < 2; k++)
        if ((i = pick()) >= 0 && atomic_load(&tasks[i].known) == 1)
            some[n++] = futures[i];
    if (!n)
        return;
    if (one_of(2)) {
        status = twill_future_wait_any(some, (size_t)n, &which, until);
        assert(status != TWILL_OK || which < (size_t)n);
        assert(status != TWILL_FAILED);
    } else {
        status = twill_future_wait_all(some, (size_t)n, until);
    }
    assert(status == TWILL_OK || status == TWILL_FAILED || status == TWILL_STALE ||
           (status == TWILL_TIMEOUT && until.deadline && twill_now() >= until.deadline));
}

static void stop_some(void)
{
    twill_stopped stopped;
    twill_until drain = some_until(), join = some_until();
    twill_status status;
    atomic_fetch_add(&stops_asked, 1);
    status = twill_pool_stop(shared, drain, join, &stopped);
    assert(status == TWILL_OK ||
           (status == TWILL_TIMEOUT && join.deadline && twill_now() >= join.deadline));
    assert(status != TWILL_OK || stopped.stuck == 0);
}

static void do_some(int turns)
{
    for (int k = 0; k < turns; k++) {
        int i;
        switch (EXPLORE_CHOICE(16, 0)) {
        default:
            (void)submit_one(KINDS, false);
            break;
        case 6:
            call_all();
            break;
        case 7:
            submit_many(KINDS);
            break;
        case 8:
            if ((i = pick()) >= 0)
                wait_for(i, some_until());
            break;
        case 9:
            if ((i = pick()) >= 0)
                cancel(i);
            break;
        case 10:
            if (one_of(2) && (i = claim()) >= 0) {
                atomic_store(&tasks[i].known, 2);
                twill_future_release(futures[i]);
            } else {
                wait_many();
            }
            break;
        case 11:
            pause_a_while();
            break;
        case 12:
            resize();
            break;
        case 13:
            call_each();
            break;
        case 14: {
            twill_until until = some_until();
            twill_status status = twill_pool_wait_idle_until(shared, until);
            assert(status == TWILL_OK || (status == TWILL_TIMEOUT && until.deadline));
            break;
        }
        case 15:
            if (one_of(2))
                stop_some();
            else
                close_it();
            break;
        }
    }
}

/* At its end it may only wait, and the pool may go. */
static void beside(void *side_)
{
    struct side *side = side_;
    int i;
    ours = true;
    do_some(EXPLORE_CHOICE(TURNS + 1, 0));
    i = claim();
    atomic_store(&dropped, 1); /* of pool_common.h: it may */
    if (i >= 0) {
        wait_for(i, some_until());
        atomic_store(&tasks[i].known, 1);
    }
    (void)side;
}

/* ---- the program ---- */

static void draw_options(void)
{
    static const twill_ns ageings[] = {0, TWILL_US(2), TWILL_FOREVER};
    drawn.run.workers = 1 + (unsigned)EXPLORE_CHOICE(2, 0);
    if (one_of(3))
        drawn.max_workers = drawn.run.workers + (unsigned)EXPLORE_CHOICE(2, 0);
    drawn.lazy = one_of(3);
    drawn.idle_after = one_of(2) ? TWILL_US(5) : 0;
    drawn.grow_after = one_of(2) ? TWILL_US(3) : 0;
    drawn.capacity = (size_t)EXPLORE_CHOICE(4, 0);
    drawn.overflow = (twill_overflow)EXPLORE_CHOICE(6, 0);
    drawn.newest_first = one_of(4);
    drawn.ageing = ageings[EXPLORE_CHOICE(3, 0)];
    if (one_of(4)) {
        drawn.stuck_after = TWILL_US(8);
        drawn.max_abandoned = (unsigned)EXPLORE_CHOICE(3, 0);
    }
    if (one_of(4)) {
        drawn.high_mark = 2;
        drawn.low_mark = (size_t)EXPLORE_CHOICE(2, 0);
        drawn.on_level = on_level;
    }
    drawn.on_event = one_of(2) ? on_event : NULL;
    if (one_of(3)) {
        drawn.run.worker_start = worker_start;
        drawn.run.worker_stop = worker_stop;
        drawn.run.strict = one_of(2);
    }
    if ((refuses = one_of(3))) { /* then destroy may find nobody to run what is left */
        atomic_store(&refusals, drawn.run.worker_start ? EXPLORE_CHOICE(3, 0) : 0);
        atomic_store(&no_threads, EXPLORE_CHOICE(3, 0));
        atomic_store(&no_blocks, EXPLORE_CHOICE(3, 0));
    }
    drawn.run.until.cancel = one_of(3) ? &run_token : NULL;
}

/* ---- what must hold ---- */

static bool accepted(const one_task *t)
{
    if (t->said == LEFT) /* the thread ended: its task ran, inside */
        return true;
    return t->said == TWILL_OK || t->said == TWILL_DROPPED;
}

static void check_status(const one_task *t, const twill_outcome *outcome)
{
    twill_status status = outcome->status;
    twill_ns limit = t->options.timeout, by = t->options.start_by;
    bool given_up = drawn.max_abandoned != 0;
    assert(outcome->key == t->lead && outcome->code == (status == TWILL_FAILED ? CODE : 0));
    assert(outcome->finished >= outcome->queued && outcome->queued >= t->when - 300);
    assert((outcome->attempts == 1) == (t->ran == 1));
    if (!t->ran) {
        assert((status == TWILL_TIMEOUT && by && outcome->finished >= by) ||
               (status == TWILL_DROPPED && drawn.overflow >= TWILL_OVERFLOW_DROP_INCOMING &&
                drawn.overflow <= TWILL_OVERFLOW_DROP_NEWEST) ||
               (status == TWILL_CANCELLED && (t->cancelled || stops_asked || refuses)));
        assert(!t->options.drop || t->dropped == 1);
        return;
    }
    assert(t->dropped == 0 && outcome->started >= outcome->queued &&
           outcome->finished >= outcome->started && outcome->started >= t->options.start_at);
    if (status == TWILL_TIMEOUT)
        assert(limit && outcome->finished >= outcome->started + limit);
    else if (limit && status != TWILL_LOST)
        assert(outcome->finished < outcome->started + limit);
    if (status == TWILL_TIMEOUT)
        return;
    if (status == TWILL_LOST)
        assert(t->lost || given_up);
    else if (t->kind == OBEYS)
        assert(!t->lost && (status == TWILL_OK || status == TWILL_CANCELLED));
    else
        assert(!t->lost && status == (t->kind == FAILS   ? TWILL_FAILED
                                      : t->kind == SKIPS ? TWILL_CANCELLED
                                                         : TWILL_OK));
}

/* When all have ended, or, in an abandoned pool, are about to. */
static void let_go(one_task *t)
{
    twill_status status;
    int result = -1, i = (int)(t - tasks);
    bool takes = t->options.result_size && one_of(2);
    while ((status = twill_future_try_wait(futures[t - tasks], takes ? &result : NULL, &t->seen)) ==
           TWILL_EMPTY) {
        assert(abandoned);
        (void)twill_sleep(twill_within(TWILL_US(5)));
        twill__yield();
    }
    assert(status == (t->seen.status == TWILL_OK ? TWILL_OK : TWILL_FAILED));
    assert(result == -1 || result == 100 + i);
    if (result != -1)
        t->taken = 1;
    t->known = 3;
    twill_future_release(futures[t - tasks]);
}

static void check_tasks(void)
{
    for (int i = 0; i < MOST; i++) {
        one_task *t = &tasks[i];
        atomic_fetch_add(&ran, 1); /* or it would look like polling */
        if (!accepted(t)) {
            assert(t->ran + t->dropped + t->told + t->discarded == 0);
            assert(!futures[t - tasks].slot);
            continue;
        }
        assert(t->ran + t->dropped <= 1);
        assert(t->told == (t->options.on_done != NULL));
        if (t->told)
            check_status(t, &t->outcome);
        if (t->known == 3)
            check_status(t, &t->seen);
        if (t->known == 3 && t->told)
            assert(memcmp(&t->seen, &t->outcome, sizeof t->seen) == 0);
        if (!t->options.discard || !t->returned)
            assert(t->discarded == 0);
        else if (t->options.result_size)
            assert(t->discarded + t->taken == 1);
        else
            assert(t->discarded <= 1);
    }
}

/* At rest. */
static void check_stats(void)
{
    twill_pool_stats s;
    uint64_t in = 0, started = 0, inlined = 0;
    twill_pool_get_stats(shared, &s);
    for (int i = 0; i < MOST; i++) {
        in += accepted(&tasks[i]);
        started += (uint64_t)tasks[i].ran;
        inlined += (uint64_t)tasks[i].inlined;
    }
    assert(s.submitted == in && s.started == started && s.caller_ran == inlined);
    assert(s.refused == (uint64_t)refused);
    assert(s.submitted == s.done + s.failed + s.timed_out + s.cancelled + s.dropped + s.lost);
    assert(s.queued == 0 && s.queued_peak <= s.capacity && s.busy == 0 && s.blocked == 0);
    if (drawn.on_event) {
        assert(events[TWILL_EVENT_QUEUED] == (int)in && events[TWILL_EVENT_ENDED] == (int)in);
        assert(events[TWILL_EVENT_STARTED] == (int)started);
        assert(events[TWILL_EVENT_REFUSED] == (int)refused);
    }
}

static void end_pool(void)
{
    int how = EXPLORE_CHOICE(4, 0);
    if (how == 0) {
        atomic_fetch_add(&stops_asked, 1);
        abandoned = true;
        assert(twill_pool_abandon(shared, NULL) == TWILL_OK);
        return;
    }
    if (how == 1) {
        assert(twill_pool_stop(shared, (twill_until){0, NULL}, (twill_until){0, NULL}, NULL) ==
               TWILL_OK);
        check_stats();
    }
    assert(twill_pool_destroy(shared) == TWILL_OK);
}

int main(void)
{
    struct side other = {0};
    bool joined = false;
    int left;
    twill_status status;

    quiet();
    ours = true;
    for (int i = 0; i < MOST; i++)
        tasks[i].said = NOT_ASKED;
    draw_options();
    status = twill_pool_create(&shared, &drawn);
    if (status != TWILL_OK) {
        assert((status == TWILL_NO_THREAD || status == TWILL_NO_MEMORY) && refuses && !shared);
        assert(!atomic_load(&blocks));
        return 0;
    }
    left = atomic_exchange(&no_threads, 0);
    go(&other, beside);
    atomic_store(&no_threads, left);
    do_some(EXPLORE_CHOICE(TURNS + 1, 0));
    if ((joined = one_of(2)))
        end(&other);
    while (!atomic_load(&dropped)) { /* exit: it comes to its last wait */
        (void)twill_sleep(twill_within(TWILL_US(1)));
        twill__yield();
    }
    end_pool();
    if (!joined)
        end(&other);
    atomic_store(&settled, abandoned); /* before: a task that is not seen below sees it */
    while (atomic_load(&active)) {     /* in an abandoned pool */
        assert(abandoned);
        (void)twill_sleep(twill_within(TWILL_US(5)));
        twill__yield();
    }
    for (int i = 0; i < MOST; i++)
        if (futures[i].slot && atomic_load(&tasks[i].known) != 2)
            let_go(&tasks[i]);
    until_freed();
    check_tasks();
    for (int k = 0; k < WORKERS; k++)
        assert(atomic_load(&starts[k]) == atomic_load(&ends[k]));
    for (int i = 0; i < MOST; i++)
        twill_cancel_detach(&tasks[i].token);
    atomic_fetch_add(&ran, 1);
    twill_cancel_detach(&run_token);
    return 0;
}

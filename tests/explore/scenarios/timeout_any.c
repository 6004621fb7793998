/* Any program on a timeout. Each schedule draws one: mode, timeout and grace, up to two fallbacks
   with limits of their own, a constant, bounds on what runs and on idle threads, hedges, the run's
   deadline and token, a worker_start that fails; up to four calls from two threads, each with a
   deadline or a token of its own or without, its input copied or not. The function succeeds, fails,
   sleeps deafly or until it is told, calls on the same object with its own `until`, drains, fires
   a token, ends its thread; fallbacks do likewise, and may end one of the callers. Then a drain or
   none, a close or none, and destroy, whatever still runs.

   Whatever it is: each function's result is taken once or discarded once, each input freed once,
   the report says who made what is in out, the figures add up, and nothing hangs, polls or is
   left. */
#include "explore.h"
#include "timeout_common.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

enum { OWN = 4, CALLS = 16, TICKETS = 64, VALUE = -5, CODE = 3, LEVELS = 2 };
enum { GOOD, FAILS, DEAF, OBEYS, NESTS, DRAINS, FIRES, ENDS, KINDS };

typedef struct input { /* what a function is given */
    int kind, call;
} input;

typedef struct one_call {
    input in;
    bool made, copied, returned;
    int out;
    twill_status status;
    twill_timeout_report report;
    twill_cancel token; /* its own; may be gone when the call has returned */
} one_call;

static twill_timeout *shared;
static twill_timeout_options drawn;
static one_call calls[CALLS]; /* beyond OWN: nested ones */
static int n, split, fallback_kind[LEVELS];
static bool start_fails, leaves; /* leaves: destroy comes whatever still runs, nested calls, too */
static twill_cancel run_token, own_token;
static atomic_int nested = OWN, tickets = 1, starts, stops;
static atomic_int freed_of[CALLS], won[TICKETS], lost[TICKETS];
static _Thread_local bool ours; /* this thread does not end in a callback, or does already */

static bool one_of(int m)
{
    return EXPLORE_CHOICE(m, 0) == 0;
}

/* Not again while it ends: POSIX leaves that undefined. */
static void end_thread(void)
{
    if (ours)
        return;
    ours = true;
    END_THREAD();
}

static void make_call(int k, twill_until until);

/* ---- the callbacks ---- */

/* Each function has a ticket, and its result is the ticket. */
static int act(const input *in, int *out, const twill_task *task, bool fallback)
{
    int k, ticket = atomic_fetch_add(&tickets, 1);
    twill_status status;
    assert(ticket < TICKETS && *out == 0);
    assert(in->call >= 0 && in->call < CALLS && calls[in->call].made);
    *out = ticket;
    switch (in->kind) {
    case FAILS:
        return CODE;
    case DEAF:
        (void)twill_sleep(twill_within(TWILL_US(6)));
        break;
    case OBEYS:
        (void)twill_sleep(twill_within_or_cancelled(TWILL_US(20), task->until.cancel));
        return twill_task_cancelled(task) ? CODE : 0;
    case NESTS:
        if (!leaves) /* a second one, perhaps */
            assert(twill_timeout_destroy(shared) == TWILL_DEADLOCK);
        k = atomic_fetch_add(&nested, 1);
        if (k < CALLS) {
            calls[k].in.kind = EXPLORE_CHOICE(NESTS, 0);
            make_call(k, task->until);
        }
        break;
    case DRAINS:
        status = twill_timeout_drain(shared, twill_within(TWILL_US(4)), NULL);
        assert(status == TWILL_OK || status == TWILL_TIMEOUT || status == TWILL_DEADLOCK ||
               status == TWILL_CLOSED);
        break;
    case FIRES:
        twill_cancel_fire(EXPLORE_CHOICE(2, 0) ? &own_token : &run_token, 2);
        break;
    case ENDS:
        if (fallback && !ours)
            atomic_store(&won[ticket], 1); /* nobody is told of it */
        end_thread();
        break;
    }
    return 0;
}

static int function(const void *in, void *out, const twill_task *task)
{
    assert(task->index < 1 + (drawn.hedge_after ? drawn.max_hedges : 0));
    return act(in, out, task, false);
}

static int fallback(const void *in, void *out, const twill_task *task)
{
    input mine = *(const input *)in;
    size_t level = task->index - 1;
    assert(task->worker == UINT_MAX && level < drawn.fallback_count);
    mine.kind = fallback_kind[level];
    return act(&mine, out, task, true);
}

static void discard(void *in, void *result, int code, const twill_task *task)
{
    int ticket = *(int *)result;
    (void)task;
    assert(calls[((input *)in)->call].made);
    assert(code == 0 || code == CODE || code == INT_MIN);
    assert(ticket > 0 && ticket < TICKETS && atomic_fetch_add(&lost[ticket], 1) == 0);
}

static void free_input(void *in_, const twill_task *task)
{
    input *in = in_;
    (void)task;
    assert(atomic_fetch_add(&freed_of[in->call], 1) == 0);
    in->call = -1; /* nobody else reads it any more */
}

static int worker_start(void **state, const twill_task *task)
{
    (void)task;
    if (start_fails && EXPLORE_CHOICE(2, 0))
        return 9;
    *state = &starts;
    atomic_fetch_add(&starts, 1);
    return 0;
}

static void worker_stop(void *state, const twill_task *task)
{
    (void)task;
    assert(state == &starts);
    atomic_fetch_add(&stops, 1);
}

/* ---- the calls ---- */

static void check_call(const one_call *call)
{
    twill_timeout_source source = call->report.source;
    if (call->status == TWILL_OK) {
        assert(source == TWILL_FROM_PRIMARY || source == TWILL_FROM_HEDGE ||
               source == TWILL_FROM_FALLBACK);
        assert((call->report.primary == TWILL_OK) == (source != TWILL_FROM_FALLBACK));
        assert(call->out > 0 && call->out < TICKETS);
        assert(atomic_fetch_add(&won[call->out], 1) == 0);
    } else {
        assert(call->status == call->report.primary || call->status == TWILL_CANCELLED);
        assert(source == TWILL_FROM_NOTHING || source == TWILL_FROM_VALUE);
        assert(call->out == (source == TWILL_FROM_VALUE ? VALUE : -1));
        assert(source == TWILL_FROM_NOTHING || drawn.fallback_value);
    }
    assert((call->report.level != 0) ==
           (source == TWILL_FROM_HEDGE || source == TWILL_FROM_FALLBACK));
    assert(!call->report.abandoned || drawn.mode == TWILL_TIMEOUT_ABANDON);
}

static void make_call(int k, twill_until until)
{
    one_call *call = &calls[k];
    call->in.call = k;
    call->out = -1;
    call->copied = one_of(2);
    call->made = true;
    call->status = twill_timeout_call(shared, &call->in, call->copied ? sizeof call->in : 0,
                                      &call->out, sizeof call->out, function, until, &call->report);
    call->returned = true;
    check_call(call);
}

static void make_calls(int from, int to)
{
    for (int k = from; k < to; k++) {
        twill_until until = {one_of(3) ? twill_now() + TWILL_US(4) : 0, NULL};
        if (one_of(3))
            until.cancel = &own_token;
        else if (one_of(2))
            until.cancel = one_of(3) ? &run_token : &calls[k].token;
        make_call(k, until);
        memset(&calls[k].token, 0xff, sizeof calls[k].token);
    }
}

static void other_caller(void *side_)
{
    struct side *side = side_;
    ours = side->in != 0;
    make_calls(split, n);
}

static void fire(void *side_)
{
    struct side *side = side_;
    twill_cancel *token = side->in ? &own_token : &run_token;
    (void)twill_sleep(twill_within(side->out * TWILL_US(1)));
    if (side->in == 2)
        twill_cancel_request(token, 1); /* wakes nobody, and is seen all the same */
    else
        twill_cancel_fire(token, 1);
}

/* ---- the program ---- */

static void draw_options(void)
{
    static const twill_ns timeouts[] = {TWILL_US(3), 0, TWILL_FOREVER};
    static twill_fallback fallbacks[LEVELS];
    static const int value = VALUE;
    drawn.mode = (twill_timeout_mode)EXPLORE_CHOICE(3, 0);
    drawn.timeout = timeouts[EXPLORE_CHOICE(3, 0)];
    drawn.grace = one_of(3) ? TWILL_US(5) : 0;
    drawn.fallback_count = (size_t)EXPLORE_CHOICE(LEVELS + 1, 0);
    for (size_t k = 0; k < drawn.fallback_count; k++) {
        fallback_kind[k] = EXPLORE_CHOICE(KINDS, 0);
        fallbacks[k] = (twill_fallback){fallback, one_of(2) ? TWILL_US(2) : 0};
    }
    drawn.fallbacks = drawn.fallback_count ? fallbacks : NULL;
    if (one_of(2)) {
        drawn.fallback_value = &value;
        drawn.fallback_value_size = sizeof value;
    }
    drawn.fallback_on_failure = one_of(2);
    drawn.free_input = free_input;
    drawn.discard = discard;
    drawn.max_abandoned = (size_t)EXPLORE_CHOICE(3, 0);
    drawn.max_running = (size_t)EXPLORE_CHOICE(3, 0);
    drawn.idle_threads = (size_t)EXPLORE_CHOICE(3, 0);
    if (drawn.mode != TWILL_TIMEOUT_COOPERATE) {
        drawn.hedge_after = one_of(2) ? TWILL_US(1) : 0;
        drawn.max_hedges = 1 + (size_t)EXPLORE_CHOICE(2, 0);
        drawn.hedge_budget = one_of(2) ? 1 : 0;
        drawn.run.worker_start = worker_start;
        drawn.run.worker_stop = worker_stop;
        start_fails = one_of(4);
    }
    drawn.run.until.deadline = one_of(4) ? twill_now() + TWILL_US(8) : 0;
    drawn.run.until.cancel = one_of(3) ? &run_token : NULL;
}

static void check_stats(bool drained)
{
    twill_timeout_stats s, own = {0};
    twill_timeout_get_stats(shared, &s);
    assert(s.abandoned <= s.running && s.abandoned <= s.abandoned_peak);
    if (!drained)
        return;
    for (int k = 0; k < CALLS; k++) {
        const twill_timeout_report *report = &calls[k].report;
        own.calls += calls[k].made;
        own.ok += calls[k].made && report->primary == TWILL_OK;
        own.timeouts += report->primary == TWILL_TIMEOUT;
        own.cancelled += report->primary == TWILL_CANCELLED;
        own.failed += report->primary == TWILL_FAILED || report->primary == TWILL_LOST;
        own.fallbacks += report->source == TWILL_FROM_FALLBACK;
        own.values += report->source == TWILL_FROM_VALUE;
    }
    assert(s.running == 0 && s.abandoned == 0);
    assert(s.calls == s.ok + s.failed + s.timeouts + s.cancelled + s.refused);
    assert(s.calls == own.calls && s.ok == own.ok && s.failed == own.failed);
    assert(s.timeouts == own.timeouts && s.cancelled == own.cancelled);
    assert(s.fallbacks == own.fallbacks && s.values == own.values);
}

/* After everything: destroy waits for no straggler. */
static void check_end(void)
{
    while (atomic_load(&live)) /* exit: no function is deaf for ever */
        (void)twill_sleep(twill_within(TWILL_US(50)));
    for (int k = 0; k < CALLS; k++)
        assert(atomic_load(&freed_of[k]) == calls[k].made);
    for (int k = 1; k < atomic_load(&tickets); k++)
        /* an addition, since many looks in a row that change nothing would be a poll */
        assert(atomic_fetch_add(&won[k], 1) + atomic_load(&lost[k]) == 1);
    assert(atomic_load(&starts) == atomic_load(&stops));
}

int main(void)
{
    struct side caller = {.in = one_of(2)};
    struct side firer = {.in = EXPLORE_CHOICE(3, 0), .out = EXPLORE_CHOICE(6, 0)};
    bool drained = false, fires = one_of(2);

    ours = true;
    n = 1 + EXPLORE_CHOICE(OWN, 0);
    split = EXPLORE_CHOICE(n + 1, 0);
    for (int k = 0; k < n; k++)
        calls[k].in.kind = EXPLORE_CHOICE(KINDS, 0);
    leaves = one_of(2);
    draw_options();
    assert(twill_timeout_create(&shared, &drawn) == TWILL_OK);
    assert(go(&caller, other_caller, shared));
    if (fires)
        assert(go(&firer, fire, shared));
    make_calls(0, split);
    if (one_of(6))
        assert(twill_timeout_close(shared) == TWILL_OK);
    if (one_of(4))
        (void)twill_timeout_drain(shared, twill_within(TWILL_US(5)), NULL);
    end(&caller);
    if (fires)
        end(&firer);
    if (!leaves)
        drained = twill_timeout_drain(shared, (twill_until){0, NULL}, NULL) == TWILL_OK;
    check_stats(drained);
    assert(twill_timeout_destroy(shared) == TWILL_OK);
    check_end();
    twill_cancel_detach(&own_token);
    twill_cancel_detach(&run_token);
    return 0;
}

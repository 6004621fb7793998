/* twill: retry_backoff - call what may fail for a moment again, later and later, and know when to
   stop.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    A call fails now and would succeed in a moment: a server is busy, a lock is taken, a name does
    not resolve yet. The call is made again a bounded number of times, with pauses that grow and are
    uneven (so that a thousand clients do not come back in step), within a deadline, and not at all
    when the failure is permanent or the caller has been told to stop.
WHEN NOT
    What is called must bear being called twice: THIS PATTERN MAY RUN A TASK MORE THAN ONCE. A call
    that timed out may have been done all the same; give it a key by which the other side knows it
    again. A failure that stays (bad arguments, no permission) is not cured by retries: say so in
    after_failure. One layer retries: three layers of three tries are 27 calls at the bottom.

EXAMPLE:
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_retry_backoff.h"

static int fetch(const void *url, void *page, const twill_task *task)
{
    if (task->index < 2)                                    // index: 0 is the first call
        return 503;                                         // busy; any code but 0 is a failure
    *(const char **)page = url;
    return 0;
}

int main(void)
{
    const char *page = NULL;
    twill_retry_report report;
    twill_status status = twill_retry_call("example.org/a", &page, fetch,
        &(twill_retry_options){ .max_attempts = 5, .base = TWILL_MS(1) }, &report);
    printf("%s after %zu calls: %s\n", twill_status_name(status), report.attempts, page);
    return 0;
}
END OF EXAMPLE
OUTPUT:
TWILL_OK after 3 calls: example.org/a
END OF OUTPUT

THREE FORMS
    One call        twill_retry_call(in, out, fn, options, report): makes the calls, sleeps between.
    A loop          twill_retry r; twill_retry_init(&r, options);
                    while (twill_retry_next(&r)) twill_retry_result(&r, attempt(...));
                    status = twill_retry_finish(&r, &report);
    Without sleep   twill_retry_next_at(&r, &due) instead of next says WHEN to make the next call;
                    event loops arm a timer, and work in a pool is submitted again at `due`. Do not
                    use the sleeping forms in a pool's worker: ten failing jobs that sleep stall the
                    jobs that would succeed.

OPTIONS (twill_retry_options; zeroed or NULL: 3 calls, 100 ms doubling to 10 s, full jitter)
    max_attempts    total calls, the first included. 0: 3. Above INT32_MAX: INVALID
    unlimited       no bound on calls; then max_attempts is 0 and there is a deadline or a token
    base            the first delay before jitter. 0: 100 ms
    cap             no delay is longer, jitter included (a hint may be). 0: 10 s
    multiplier      0: 2. From 1 to 1e9
    jitter          e is the delay without it. FULL: uniform in 0..e (default: the least load on the
                    other side). NONE: e. EQUAL: e/2 + uniform in 0..e/2. DECORRELATED: uniform in
                    base..3 x the delay before. PROPORTIONAL: e +- jitter_factor x e. ADDITIVE: e +
                    uniform in 0..jitter_add
    jitter_factor   PROPORTIONAL. 0: 0.5. At most 1
    jitter_add      ADDITIVE. 0: base
    max_elapsed     a limit on the whole, from the first call. 0: none
    attempt_timeout a limit on each call: in task->until, for fn to heed. 0: none
    max_hint        a longer hint ends the retry at once. 0: 5 min
    last_try_at_deadline  instead of giving up early: one last call just before the deadline (before
                    it by what the last call took, at least 1 ms), unless a hint forbids
    immediate_first_retry  the first retry does not sleep; the schedule begins with the second
    until           deadline and token of the whole
    context         task->context of all callbacks
    after_failure   looks at a failure (out: NULL in the loop forms). 0: back off as usual. Above 0:
                    wait at least this (a server's Retry-After), plus up to a tenth, since the whole
                    fleet got the same hint. TWILL_RETRY_NEVER, or anything below 0: permanent
    on_retry        told before each pause. In both, task->index is the failed attempt
    budget          shared by many retries and threads: see twill_retry_budget
    seed            the same seed gives the same delays on every machine. 0: a fresh one
    history         the caller's array of history_count attempts: keeps the last ones, oldest first
    Whatever makes no sense is refused: TWILL_INVALID, and nothing is called.

ERRORS              report.end says why it stopped, report.code is what the last call returned
    TWILL_OK        a call returned 0
    TWILL_FAILED    ATTEMPTS: all calls used up. PERMANENT. NO_BUDGET. HINT_TOO_LONG. Also: a loop
                    LEFT after a failure
    TWILL_TIMEOUT   DEADLINE: over (also after a pause: no call begins then), or the next pause
                    would pass it (report.next_delay: that pause)
    TWILL_CANCELLED CANCELLED: the token fired. It is asked before the code: a cancelled call is
                    never retried as a failure
    TWILL_INVALID   REFUSED: an option, or NULL where something is needed. Nothing was called
    TWILL_LOST      LEFT: the loop ended, or fn ended its thread, before any call had a result
    But for INVALID, and a token or deadline that was over before the first call, fn has run at
    least once. The first call is never delayed. After the last one there is no pause.

THREADS      A twill_retry belongs to one thread at a time; a budget to any number.
BLOCKS       call and next sleep; the token ends the sleep. fn is never interrupted: it overruns its
             limit unless it heeds task->until; timeout_fallback returns in time from one that does
             not.
ORDERING     A budget publishes nothing: relaxed.
ALLOCATES    Nothing. No thread, no lock. Leaving a loop early leaks nothing.
OWNERSHIP    in, out, context, budget and history are the caller's, and outlive the call. out is not
             cleared between calls.
COSTS        Between two calls: a clock reading or two, one multiplication, one sleep.
FORK         A child goes on; with seed 0 it draws other delays than its parent.
PITFALLS     A retry inside a retry multiplies. Without a deadline a pause may take 10 s by default.
             In a signal handler nothing here may be called. */
#ifndef TWILL_RETRY_BACKOFF_H
#define TWILL_RETRY_BACKOFF_H

#include "base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum twill_jitter {
    TWILL_JITTER_FULL = 0,
    TWILL_JITTER_NONE,
    TWILL_JITTER_EQUAL,
    TWILL_JITTER_DECORRELATED,
    TWILL_JITTER_PROPORTIONAL,
    TWILL_JITTER_ADDITIVE
} twill_jitter;

#define TWILL_RETRY_NEVER ((twill_ns)-1) /* as a hint: permanent, stop */

typedef struct twill_retry_attempt {
    size_t number; /* from 0 */
    int code;      /* what the call returned */
    twill_ns started, took, slept_before;
} twill_retry_attempt;

/* ---- budget ---- */

/* So many retries and no more, together, however many callers there are: when everything fails,
   retries must not multiply the load. The caller's memory; zeroed: ready, with the defaults. */
typedef struct twill_retry_budget {
    TWILL_PRIVATE(8);
} twill_retry_budget;

typedef struct twill_retry_budget_options {
    uint32_t capacity;     /* tokens; starts full. 0: 500 */
    uint32_t retry_cost;   /* of a retry. 0: 5. A success after retries gives the last one's back */
    uint32_t timeout_cost; /* of a retry after an attempt that ran into attempt_timeout. 0: 10 */
    uint32_t success_milli; /* what a success at the first call adds, in thousandths. 0: 1000 */
    /* The other known model: each failure costs 1, each success adds success_milli (0: 100), and
       retries are made only while more than half is there. capacity 0: 10. No costs. */
    bool half_rule;
} twill_retry_budget_options;

/* INVALID: NULL, a cost above the capacity, costs beside half_rule. Not while it is in use. */
TWILL__DECL twill_status twill_retry_budget_init(twill_retry_budget *budget,
                                                 const twill_retry_budget_options *options);
/* Whole tokens that are there. NULL: 0. */
TWILL__DECL uint64_t twill_retry_budget_left(const twill_retry_budget *budget);

/* ---- one call ---- */

typedef struct twill_retry_options { /* see OPTIONS above */
    size_t max_attempts;
    bool unlimited;
    twill_ns base;
    twill_ns cap;
    double multiplier;
    twill_jitter jitter;
    double jitter_factor;
    twill_ns jitter_add;
    twill_ns max_elapsed;
    twill_ns attempt_timeout;
    twill_ns max_hint;
    bool last_try_at_deadline;
    bool immediate_first_retry;
    twill_until until;
    void *context;
    twill_ns (*after_failure)(int code, const void *out, const twill_task *task);
    void (*on_retry)(const twill_retry_attempt *failed, twill_ns delay, const twill_task *task);
    twill_retry_budget *budget;
    uint64_t seed;
    twill_retry_attempt *history;
    size_t history_count;
} twill_retry_options;

typedef enum twill_retry_end {
    TWILL_RETRY_SUCCEEDED = 0,
    TWILL_RETRY_ATTEMPTS,
    TWILL_RETRY_PERMANENT,
    TWILL_RETRY_DEADLINE,
    TWILL_RETRY_CANCELLED,
    TWILL_RETRY_NO_BUDGET,
    TWILL_RETRY_HINT_TOO_LONG,
    TWILL_RETRY_REFUSED,
    TWILL_RETRY_LEFT
} twill_retry_end;

typedef struct twill_retry_report {
    twill_status status;  /* what the call returned */
    twill_retry_end end;  /* why it stopped */
    int code;             /* of the last call that returned; 0: none did, or it succeeded */
    size_t attempts;      /* calls made */
    twill_ns wall, slept; /* from the first call to the end; of that, in pauses */
    twill_ns next_delay;  /* the pause that would have come next, when it gave up before one */
} twill_retry_report;

/* "TWILL_RETRY_PERMANENT" and so on, for logs; static. "unknown" for other values. */
TWILL__DECL const char *twill_retry_end_name(twill_retry_end end);

/* Calls fn(in, out, task) until it returns 0 or something above says stop. task->index: the
   attempt, from 0; task->until: its deadline, and the token. `report` may be NULL. */
TWILL__DECL twill_status twill_retry_call(const void *in, void *out, twill_map_fn *fn,
                                          const twill_retry_options *options,
                                          twill_retry_report *report);

/* ---- a loop ---- */

/* The caller's, on the stack; holds no resource. Copies of it are independent. */
typedef struct twill_retry {
    twill_retry_options options;
    TWILL_PRIVATE(24);
} twill_retry;

/* INVALID: next is false, and finish says REFUSED. */
TWILL__DECL twill_status twill_retry_init(twill_retry *retry, const twill_retry_options *options);
/* Whether to make a call now; sleeps before it says yes. Once false, always false. Without a result
   for the attempt before (asserted), that one counts as failed, with code -1. */
TWILL__DECL bool twill_retry_next(twill_retry *retry);
/* The same without sleeping: true: make the call at *due (an instant, perhaps past). Between then
   and now the caller listens to the token. */
TWILL__DECL bool twill_retry_next_at(twill_retry *retry, twill_ns *due);
/* How long this attempt may take, and the token. */
TWILL__DECL twill_until twill_retry_until(const twill_retry *retry);
/* Number of this attempt, from 0. */
TWILL__DECL size_t twill_retry_attempt_number(const twill_retry *retry);
/* How this attempt ended; 0: success. Once for each attempt (asserted). */
TWILL__DECL void twill_retry_result(twill_retry *retry, int code);
/* Before the result: a hint, as after_failure returns it, which is not asked then. Serves once. */
TWILL__DECL void twill_retry_hint(twill_retry *retry, twill_ns wait);
/* The status of the whole; also when the loop was left early. `report` may be NULL. */
TWILL__DECL twill_status twill_retry_finish(twill_retry *retry, twill_retry_report *report);

/* The schedule alone: the delay before retry k (from 0). *state is the generator: begin with the
   seed; *previous the delay before, 0 at first. -1: refused options, or NULL. For k in order these
   are the delays of the loop. Takes up to k steps. */
TWILL__DECL twill_ns twill_retry_delay(const twill_retry_options *options, size_t k,
                                       uint64_t *state, twill_ns *previous);

#ifdef __cplusplus
}
#endif
#endif

#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__RETRY_BACKOFF_IMPLEMENTATION
#define TWILL__RETRY_BACKOFF_IMPLEMENTATION

#include "engine/backoff.h"
#include "engine/call.h"
#include "engine/status.h"
#include "retry_backoff/budget.h"
#include "retry_backoff/schedule.h"

TWILL__DEFINE const char *twill_retry_end_name(twill_retry_end end)
{
    static const char *const names[] = {
        "TWILL_RETRY_SUCCEEDED",     "TWILL_RETRY_ATTEMPTS",  "TWILL_RETRY_PERMANENT",
        "TWILL_RETRY_DEADLINE",      "TWILL_RETRY_CANCELLED", "TWILL_RETRY_NO_BUDGET",
        "TWILL_RETRY_HINT_TOO_LONG", "TWILL_RETRY_REFUSED",   "TWILL_RETRY_LEFT"};
    return (unsigned)end < sizeof names / sizeof names[0] ? names[end] : "unknown";
}

/* ---- one attempt ---- */

enum {
    TWILL__RETRY_RESTING /* before the first call, or after a result */,
    TWILL__RETRY_RUNNING /* next or next_at has said yes */,
    TWILL__RETRY_OVER
};

typedef struct TWILL__VIEW twill__retry { /* the private words of a twill_retry */
    twill__backoff shape;
    twill__delays delays;
    twill_ns begun;    /* the first call; 0: none yet */
    twill_ns deadline; /* of the whole; TWILL_FOREVER: none */
    twill_ns started, ended, slept, slept_before, hint, next_delay;
    size_t number; /* of the attempt, from 0 */
    const void *out;
    uint32_t generation, paid; /* paid: what this attempt took from the budget, in tokens */
    int code;
    uint8_t phase, end;
    bool last_try, hinted, ready; /* ready: init has accepted the options */
} twill__retry;
_Static_assert(sizeof(twill__retry) <= sizeof(((twill_retry *)0)->private_words),
               "twill_retry is too small");
_Static_assert((int)TWILL__JITTER_FULL == (int)TWILL_JITTER_FULL &&
                   (int)TWILL__JITTER_ADDITIVE == (int)TWILL_JITTER_ADDITIVE &&
                   (int)TWILL__JITTER_PROPORTIONAL == (int)TWILL_JITTER_PROPORTIONAL &&
                   (int)TWILL__JITTER_DECORRELATED == (int)TWILL_JITTER_DECORRELATED,
               "the engine's jitter modes are the public ones");

static inline twill__retry *twill__retry_of(const twill_retry *retry)
{
    return (twill__retry *)(uintptr_t)retry->private_words;
}

static inline twill_task twill__retry_task(const twill_retry *retry, bool running)
{
    twill__retry *me = twill__retry_of(retry);
    twill_task task = {me->number, retry->options.context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    if (running) {
        task.worker = 0;
        task.workers = 1;
        task.until = twill_retry_until(retry);
    }
    return task;
}

static inline bool twill__retry_stop(twill__retry *me, twill_retry_end end)
{
    me->phase = TWILL__RETRY_OVER;
    me->end = (uint8_t)end;
    return false;
}

static inline void twill__retry_begin(twill__retry *me, twill_ns at)
{
    me->phase = TWILL__RETRY_RUNNING;
    me->started = at;
    me->hinted = false;
    me->hint = 0;
}

/* Before the first call: the token, then the deadline. */
static inline bool twill__retry_first(twill_retry *retry, twill_ns now)
{
    twill__retry *me = twill__retry_of(retry);
    const twill_retry_options *options = &retry->options;
    twill_ns limit = options->max_elapsed ? options->max_elapsed : TWILL_FOREVER;
    me->begun = me->ended = now;
    me->deadline =
        twill__no_deadline(options->until.deadline) ? TWILL_FOREVER : options->until.deadline;
    if (limit < TWILL_FOREVER - now && now + limit < me->deadline)
        me->deadline = now + limit;
    if (twill_cancel_fired(options->until.cancel))
        return twill__retry_stop(me, TWILL_RETRY_CANCELLED);
    if (now >= me->deadline)
        return twill__retry_stop(me, TWILL_RETRY_DEADLINE);
    twill__retry_begin(me, now);
    return true;
}

static inline void twill__retry_attempt_of(const twill__retry *me, twill_retry_attempt *attempt)
{
    attempt->number = me->number;
    attempt->code = me->code;
    attempt->started = me->started;
    attempt->took = me->ended - me->started;
    attempt->slept_before = me->slept_before;
}

static inline void twill__retry_remember(const twill_retry *retry)
{
    const twill_retry_options *options = &retry->options;
    twill__retry *me = twill__retry_of(retry);
    size_t at = me->number, count = options->history_count;
    if (!count)
        return;
    if (at >= count) { /* the oldest goes */
        memmove(options->history, options->history + 1, (count - 1) * sizeof *options->history);
        at = count - 1;
    }
    twill__retry_attempt_of(me, &options->history[at]);
}

/* Whether the attempt ran into its own limit. */
static inline bool twill__retry_overran(const twill_retry *retry)
{
    twill__retry *me = twill__retry_of(retry);
    twill_ns limit = retry->options.attempt_timeout;
    return limit && me->ended - me->started >= limit;
}

/* ---- what comes after a failure ---- */

/* What the user says about it. False: stop. */
static inline bool twill__retry_worth_it(twill_retry *retry)
{
    twill__retry *me = twill__retry_of(retry);
    const twill_retry_options *options = &retry->options;
    if (!me->hinted && options->after_failure) {
        twill_task task = twill__retry_task(retry, false);
        me->hint = options->after_failure(me->code, me->out, &task);
    }
    if (me->hint < 0)
        return twill__retry_stop(me, TWILL_RETRY_PERMANENT);
    if (options->budget)
        twill__budget_failure(options->budget);
    if (!options->unlimited &&
        me->number + 1 >= (options->max_attempts ? options->max_attempts : TWILL__RETRY_CALLS))
        return twill__retry_stop(me, TWILL_RETRY_ATTEMPTS);
    if (me->hint > (options->max_hint ? options->max_hint : TWILL__RETRY_HINT)) {
        me->next_delay = me->hint;
        return twill__retry_stop(me, TWILL_RETRY_HINT_TOO_LONG);
    }
    return true;
}

/* The pause: the schedule's, or the hint and a little if that is longer. */
static inline twill_ns twill__retry_pause(twill_retry *retry)
{
    twill__retry *me = twill__retry_of(retry);
    uint64_t delay = 0, hint = (uint64_t)me->hint;
    if (!retry->options.seed && me->generation != twill__generation()) { /* not in step with the
                                                                            parent process */
        me->generation = twill__generation();
        me->delays.random = twill__random_begin(0, retry);
    }
    if (!retry->options.immediate_first_retry || me->number)
        delay = (uint64_t)twill__backoff_next(&me->shape, &me->delays);
    if (hint) {
        delay = delay > hint ? delay : hint;
        delay += twill__random_to(&me->delays.random, hint / 10);
    }
    return delay < (uint64_t)TWILL_FOREVER ? (twill_ns)delay : TWILL_FOREVER - 1;
}

/* When the next call is made: *at. False: not in time. */
static inline bool twill__retry_place(twill_retry *retry, twill_ns now, twill_ns *at)
{
    twill__retry *me = twill__retry_of(retry);
    twill_ns delay = twill__retry_pause(retry), took = me->ended - me->started;
    me->next_delay = delay;
    if (!me->last_try && delay < TWILL_FOREVER - now && now + delay < me->deadline) {
        *at = now + delay;
        return true;
    }
    took = took > TWILL_MS(1) ? took : TWILL_MS(1);
    if (retry->options.last_try_at_deadline && !me->last_try && me->deadline < TWILL_FOREVER &&
        me->deadline - now > took && me->deadline - now - took >= me->hint) {
        me->last_try = true;
        *at = me->deadline - took;
        return true;
    }
    return twill__retry_stop(me, TWILL_RETRY_DEADLINE);
}

static inline void twill__retry_refund(void *retry_)
{
    twill_retry *retry = (twill_retry *)retry_;
    twill__retry *me = twill__retry_of(retry);
    if (retry->options.budget)
        twill__budget_give(retry->options.budget, me->paid); /* once: it ends, or pays anew */
}

/* A callback that ends its thread: the call it was told of, which is paid for, is not made. */
static inline void twill__retry_tell(twill_retry *retry, twill_ns delay)
{
    twill_retry_attempt failed;
    twill_task task = twill__retry_task(retry, false);
    twill__retry_attempt_of(twill__retry_of(retry), &failed);
    TWILL__GUARD_PUSH(twill__retry_refund, retry);
    retry->options.on_retry(&failed, delay, &task);
    TWILL__GUARD_POP(0);
}

/* Decides what a failure leads to. True: a call at *at, paid for. */
static inline bool twill__retry_decide(twill_retry *retry, twill_ns now, twill_ns *at)
{
    twill__retry *me = twill__retry_of(retry);
    const twill_retry_options *options = &retry->options;
    if (twill_cancel_fired(options->until.cancel))
        return twill__retry_stop(me, TWILL_RETRY_CANCELLED);
    if (!twill__retry_worth_it(retry) || !twill__retry_place(retry, now, at))
        return false;
    if (options->budget &&
        !twill__budget_take(options->budget, twill__retry_overran(retry), &me->paid))
        return twill__retry_stop(me, TWILL_RETRY_NO_BUDGET);
    me->next_delay = 0;
    if (options->on_retry)
        twill__retry_tell(retry, *at - now);
    return true;
}

/* Both forms of next. */
static inline bool twill__retry_go(twill_retry *retry, twill_ns *due)
{
    twill__retry *me = twill__retry_of(retry);
    twill_ns now, at = 0;
    TWILL_ASSERT(me->phase != TWILL__RETRY_RUNNING); /* a result for the attempt before */
    if (me->phase == TWILL__RETRY_RUNNING)
        twill_retry_result(retry, -1);
    if (!me->ready || me->phase == TWILL__RETRY_OVER)
        return false;
    now = twill__clock_now();
    if (!me->begun) {
        *due = now;
        return twill__retry_first(retry, now);
    }
    if (!twill__retry_decide(retry, now, &at))
        return false;
    *due = at;
    return true;
}

static inline void twill__retry_again(twill__retry *me, twill_ns at)
{
    me->number++;
    me->slept_before = at - me->ended;
    me->slept += me->slept_before;
    twill__retry_begin(me, at);
}

/* After the pause: the call that is paid for is not made. */
static inline bool twill__retry_give_up(twill_retry *retry, twill_retry_end end)
{
    twill__retry *me = twill__retry_of(retry);
    twill__retry_refund(retry);
    me->slept += twill__clock_now() - me->ended;
    return twill__retry_stop(me, end);
}

/* ---- the public functions ---- */

TWILL__DEFINE twill_status twill_retry_init(twill_retry *retry, const twill_retry_options *options)
{
    static const twill_retry_options none;
    twill__retry *me;
    if (!retry)
        return TWILL_INVALID;
    me = twill__retry_of(retry);
    memset(me, 0, sizeof *me);
    retry->options = options ? *options : none;
    me->ready = twill__retry_valid(&retry->options);
    if (!me->ready)
        return TWILL_INVALID;
    me->shape = twill__retry_shape(&retry->options);
    me->generation = twill__generation();
    me->delays.random = twill__random_begin(retry->options.seed, retry);
    return TWILL_OK;
}

TWILL__DEFINE bool twill_retry_next(twill_retry *retry)
{
    twill__retry *me;
    twill_ns due = 0;
    if (!retry || !twill__retry_go(retry, &due))
        return false;
    me = twill__retry_of(retry);
    if (me->phase == TWILL__RETRY_RUNNING) /* the first call */
        return true;
    if (twill_sleep((twill_until){due, retry->options.until.cancel}) != TWILL_OK ||
        twill_cancel_fired(retry->options.until.cancel))
        return twill__retry_give_up(retry, TWILL_RETRY_CANCELLED);
    due = twill__clock_now();
    if (due >= me->deadline) /* a callback took its time, or the thread woke late */
        return twill__retry_give_up(retry, TWILL_RETRY_DEADLINE);
    twill__retry_again(me, due);
    return true;
}

TWILL__DEFINE bool twill_retry_next_at(twill_retry *retry, twill_ns *due)
{
    twill_ns at = 0;
    if (!retry || !due || !twill__retry_go(retry, &at))
        return false;
    if (twill__retry_of(retry)->phase != TWILL__RETRY_RUNNING)
        twill__retry_again(twill__retry_of(retry), at);
    *due = at;
    return true;
}

TWILL__DEFINE twill_until twill_retry_until(const twill_retry *retry)
{
    twill_until until = {0, NULL};
    const twill__retry *me;
    twill_ns limit;
    if (!retry)
        return until;
    me = twill__retry_of(retry);
    limit = retry->options.attempt_timeout;
    until.cancel = retry->options.until.cancel;
    if (!me->begun) /* no attempt yet */
        return retry->options.until;
    until.deadline = me->deadline;
    if (limit && limit < TWILL_FOREVER - me->started && me->started + limit < until.deadline)
        until.deadline = me->started + limit;
    return until;
}

TWILL__DEFINE size_t twill_retry_attempt_number(const twill_retry *retry)
{
    return retry ? twill__retry_of(retry)->number : 0;
}

TWILL__DEFINE void twill_retry_result(twill_retry *retry, int code)
{
    twill__retry *me;
    if (!retry)
        return;
    me = twill__retry_of(retry);
    TWILL_ASSERT(me->phase == TWILL__RETRY_RUNNING); /* an attempt, and one result for it */
    if (me->phase != TWILL__RETRY_RUNNING)
        return;
    me->ended = twill__clock_now();
    if (me->ended < me->started) /* next_at, and called before its time */
        me->ended = me->started;
    me->code = code;
    me->phase = TWILL__RETRY_RESTING;
    twill__retry_remember(retry);
    if (code)
        return;
    if (retry->options.budget)
        twill__budget_success(retry->options.budget, me->number ? me->paid : 0, me->number == 0);
    (void)twill__retry_stop(me, TWILL_RETRY_SUCCEEDED);
}

TWILL__DEFINE void twill_retry_hint(twill_retry *retry, twill_ns wait)
{
    twill__retry *me;
    if (!retry)
        return;
    me = twill__retry_of(retry);
    TWILL_ASSERT(me->phase == TWILL__RETRY_RUNNING); /* before the result */
    if (me->phase != TWILL__RETRY_RUNNING)
        return;
    me->hint = wait;
    me->hinted = true;
}

static inline twill_status twill__retry_status(const twill__retry *me)
{
    switch ((twill_retry_end)me->end) {
    case TWILL_RETRY_SUCCEEDED:
        return TWILL_OK;
    case TWILL_RETRY_DEADLINE:
        return TWILL_TIMEOUT;
    case TWILL_RETRY_CANCELLED:
        return TWILL_CANCELLED;
    case TWILL_RETRY_REFUSED:
        return TWILL_INVALID;
    case TWILL_RETRY_LEFT:
        return me->code ? TWILL_FAILED : TWILL_LOST;
    default:
        return TWILL_FAILED;
    }
}

TWILL__DEFINE twill_status twill_retry_finish(twill_retry *retry, twill_retry_report *report)
{
    twill__retry *me;
    twill_status status;
    if (!retry) {
        if (report)
            *report = (twill_retry_report){.status = TWILL_INVALID, .end = TWILL_RETRY_REFUSED};
        return TWILL_INVALID;
    }
    me = twill__retry_of(retry);
    if (!me->ready) {
        (void)twill__retry_stop(me, TWILL_RETRY_REFUSED);
    } else if (me->phase != TWILL__RETRY_OVER) {
        /* next_at has promised a call whose time has not come: it was not made, nor waited for */
        if (me->phase == TWILL__RETRY_RUNNING && twill__clock_now() < me->started) {
            twill__retry_refund(retry);
            me->number--; /* the first call's time is never to come */
            me->slept -= me->slept_before;
        }
        (void)twill__retry_stop(me, TWILL_RETRY_LEFT);
    }
    status = twill__retry_status(me);
    if (report) {
        memset(report, 0, sizeof *report);
        report->status = status;
        report->end = (twill_retry_end)me->end;
        report->code = me->code;
        report->attempts = me->started ? me->number + 1 : 0;
        report->slept = me->slept;
        report->wall = me->begun ? twill__clock_now() - me->begun : 0;
        report->next_delay = me->next_delay;
    }
    return status;
}

TWILL__DEFINE twill_ns twill_retry_delay(const twill_retry_options *options, size_t k,
                                         uint64_t *state, twill_ns *previous)
{
    static const twill_retry_options none;
    twill__backoff shape;
    uint64_t grown;
    options = options ? options : &none;
    if (!state || !previous || *previous < 0 || !twill__retry_valid(options))
        return -1;
    if (options->immediate_first_retry && k-- == 0)
        return 0;
    shape = twill__retry_shape(options);
    grown = twill__backoff_first(&shape);
    for (; k > 0; k--) { /* also ends where it no longer grows */
        uint64_t next = twill__backoff_grow(&shape, grown);
        if (next == grown)
            break;
        grown = next;
    }
    *previous = (twill_ns)twill__backoff_jittered(&shape, grown, (uint64_t)*previous, state);
    return *previous;
}

/* ---- one call ---- */

typedef struct twill__retry_calling {
    twill_retry retry;
    twill_retry_report *report;
} twill__retry_calling;

/* At the end, and when fn or a callback ends the thread: the report may outlive it. */
static inline void twill__retry_called(void *calling_)
{
    twill__retry_calling *calling = (twill__retry_calling *)calling_;
    (void)twill_retry_finish(&calling->retry, calling->report);
}

TWILL__DEFINE twill_status twill_retry_call(const void *in, void *out, twill_map_fn *fn,
                                            const twill_retry_options *options,
                                            twill_retry_report *report)
{
    twill__retry_calling calling;
    twill__retry *me;
    (void)twill_retry_init(&calling.retry, options);
    calling.report = report;
    me = twill__retry_of(&calling.retry);
    me->out = out;
    if (!fn)
        me->ready = false;
    TWILL__GUARD_PUSH(twill__retry_called, &calling);
    while (twill_retry_next(&calling.retry)) {
        twill_task task = twill__retry_task(&calling.retry, true);
        twill_retry_result(&calling.retry, fn(in, out, &task));
    }
    TWILL__GUARD_POP(1);
    return twill__retry_status(me);
}
#endif
#endif

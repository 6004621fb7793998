/* twill: timeout_fallback - a function with a deadline, and what serves instead.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    A function may take longer than its caller can wait, and cannot be trusted to look at a clock: a
    library call, a disk, a peer. The call returns at the deadline whatever the function does, with
    its result, with a fallback's, or with a constant, and says which. What is left behind keeps
    valid memory, is bounded in number and counted, and its late result goes to a callback once.
WHEN NOT
    The function looks at a token or a deadline by itself: give it twill_within(...). Many tasks at
    once: worker_pool. Trying again: retry_backoff (and give each attempt a deadline from here).
    A thread cannot be killed: a function that never returns keeps its thread for good. If that
    happens often, put it into a process.

EXAMPLE:
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_timeout_fallback.h"

static int fetch(const void *in, void *out, const twill_task *task)
{
    int key = *(const int *)in;
    if (key == 7)                                       // a server that does not answer; this
        twill_sleep(task->until);                       // function happens to look at its token
    *(int *)out = key * 100;
    return twill_task_cancelled(task) ? -1 : 0;         // not 0: it has failed
}

int main(void)
{
    int last_price = 42, price = 0;
    for (int key = 6; key < 8; key++) {
        twill_status status = twill_call_with_timeout(&key, sizeof key, &price, sizeof price,
                                                      fetch, TWILL_SEC(1), &last_price);
        printf("%d: %d (%s)\n", key, price, twill_status_text(status));
    }
    return twill_timeout_drain(NULL, twill_within(TWILL_SEC(10)), NULL) != TWILL_OK;
}
END OF EXAMPLE
OUTPUT:
6: 600 (success)
7: 42 (the deadline passed)
END OF OUTPUT

OPTIONS (twill_timeout_options; zeroed or NULL: 5 s, a thread a call, no fallback)
    timeout         bounds the primary. 0: 5 s; TWILL_FOREVER: none of its own
    run.until       bounds every call, with what the call itself is given: the earliest counts
    mode            ABANDON: returns at the deadline. COOPERATE: no thread; the function runs in the
                    caller and is told by its task. JOIN: a thread; the token fires at the deadline,
                    the call waits for the end: punctual as the function is, nothing stays behind
    grace           ABANDON: after the token fired, so much more for a function that obeys
    fallbacks       functions tried in order, in the caller's thread, while `until` allows it: the
                    timeout above is over then. One that fails, or that returns after its own limit,
                    is passed over. Copied at create, as the constant is
    fallback_value  the last resort; must have the size of the call's out
    fallback_on_failure   false: a code of the primary's own is TWILL_FAILED at once
    free_input      once for each call's copy of the input, by its last user, in whichever thread
                    that is; where no memory was left for a copy it gets the caller's bytes. Not
                    for a call that is refused with INVALID, TOO_BIG or FORKED
    discard         once for each result that nobody takes: it came late, lost against another copy,
                    came with a code (INT_MIN: the function has ended its thread), or is that of a
                    fallback that was passed over. In the function's thread, with the input copy
    max_abandoned   ABANDON: functions that run, with their call or after it; 0: 64. Beyond: BUSY
    max_running     the same in every mode; 0: no further bound
    idle_threads    kept for the next call; 0: 4
    hedge_after     a second copy of the function starts when the first has not ended after so long,
                    a third after that ..: the first result wins, the others are told and discarded.
                    The function must bear being run twice; task->index says which copy it is, 0 the
                    first. 0: none. Not with COOPERATE
    max_hedges      copies beside the first, a call; 0: 1
    hedge_budget    extra copies for each call, on average (0..1); 0: 0.05. Saved up to 10, begins
                    at 1. Without budget, place, memory or thread a copy is skipped
    run.context, stack_size, name, worker_start, worker_stop (in the thread, at its begin and end)
                    but for `context` not with COOPERATE. Other fields of run: INVALID

STATUS AND ERRORS
    TWILL_OK        a function has made the bytes in out: report.source and level say which
    else            how the primary did, and out holds the constant (source FROM_VALUE), or what it
                    held before. A constant never hides that there was a timeout
    TIMEOUT         the deadline passed; also when the function gave up after it, whatever its code
    FAILED          it returned report.code before the deadline, and no result came. Whatever the
                    number: a function's own TWILL_TIMEOUT is a failure, not the deadline
    CANCELLED       a token fired, also between two fallbacks: nothing further runs, no constant
    LOST            it ended its thread
    BUSY, NO_MEMORY, NO_THREAD   it did not start (NO_THREAD: or worker_start said report.code)
    CLOSED          no fallback, no constant
    INVALID, TOO_BIG, FORKED     refused: nothing ran, nothing is counted
    A result that is there wins over the deadline. COOPERATE and JOIN also give a result that comes
    late: report.wall shows it.

THREADS      All functions by any thread, calls also from inside a function (max_running 1: BUSY,
             not a hang). destroy when the calls have returned, but for those that stragglers make:
             they are answered, later ones CLOSED; the token of run.until must outlive them. The
             threads are the object's own, never a pool's: a straggler would take a worker of it.
NESTING      Give task->until to what the function calls: it carries the deadline and a token that
             fires with the caller's, so 5 s inside 1 s is 1 s. The token outlives the call, the
             caller's own need not. A twill_cancel_request on the caller's, or on run.until's, is
             seen when the function looks with twill_task_cancelled.
ORDERING     What came before the call is visible to the function, what it did to who gets its
             result (the caller, or discard); what a straggler did to who sees drain return OK.
OWNERSHIP    The function writes into memory of the call's block, never into out, which may live on
             the caller's stack. The input is a copy, shared read-only by all copies of the function
             and the fallbacks. in_size 0: the pointer itself; it must stay until discard or drain.
ALLOCATES    A block a call: head, input, results. A record a thread. create: one block.
BLOCKS       A call: until the deadline plus grace plus one wake-up, never for a straggler. destroy:
             never for one either. User code runs under no lock; hooks that a function adds to its
             token run in the caller's thread at the deadline.
COSTS        Two wake-ups a call when a thread is idle; one more thread when not. An abandoned
             function: its block and its thread.
FORK         In the child an object answers FORKED, so does a call whose callback has forked, and
             nothing more is called there; destroy frees its memory. The one-call form begins anew.
             Signal handlers: nothing of this header.
PITFALLS     exit() while stragglers run destroys what they use (statics, stdio): drain first, and
             if something is left, _Exit. dlclose of their code: the same, and drain sees a function
             off its books, not out of its last instructions. in_size 0 with a pointer to the stack.
             After NO_MEMORY a fallback writes into out itself, since there is nothing else. */
#ifndef TWILL_TIMEOUT_FALLBACK_H
#define TWILL_TIMEOUT_FALLBACK_H

#include "base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- one call ---- */

/* Runs fn on a thread of its own, with a copy of the input, and returns at the deadline at the
   latest. TWILL_OK: out holds the function's result. TWILL_FAILED: fn returned something else than
   0; out is untouched. TWILL_TIMEOUT, LOST, BUSY, NO_THREAD, NO_MEMORY: out holds the bytes of
   *fallback, and is untouched if that is NULL. TWILL_INVALID, TOO_BIG: nothing ran. timeout: 0:
   over already, fn is not called; TWILL_FOREVER: no deadline; below 0: TWILL_INVALID. */
TWILL__DECL twill_status twill_call_with_timeout(const void *in, size_t in_size, void *out,
                                                 size_t out_size, twill_map_fn *fn,
                                                 twill_ns timeout, const void *fallback);

/* ---- the object ---- */

typedef struct twill_timeout twill_timeout;

typedef enum twill_timeout_mode {
    TWILL_TIMEOUT_ABANDON = 0, /* a thread for each function; on time always */
    TWILL_TIMEOUT_COOPERATE,   /* in the caller's thread; as punctual as the function's looks */
    TWILL_TIMEOUT_JOIN         /* a thread for each function; waits for its end */
} twill_timeout_mode;

typedef struct twill_fallback {
    twill_map_fn *fn; /* runs in the caller's thread; task->index: 1, 2, ... */
    twill_ns timeout; /* its own limit; 0: what is left of the whole call */
} twill_fallback;

typedef struct twill_timeout_options { /* see OPTIONS above */
    twill_run run;
    twill_ns timeout;
    twill_ns grace;
    twill_timeout_mode mode;
    const twill_fallback *fallbacks;
    size_t fallback_count;
    const void *fallback_value;
    size_t fallback_value_size;
    bool fallback_on_failure;
    void (*free_input)(void *in, const twill_task *task);
    twill_discard_fn *discard;
    size_t max_abandoned;
    size_t max_running;
    size_t idle_threads;
    twill_ns hedge_after;
    size_t max_hedges;
    double hedge_budget;
} twill_timeout_options;

typedef enum twill_timeout_source {
    TWILL_FROM_NOTHING = 0,
    TWILL_FROM_PRIMARY,
    TWILL_FROM_HEDGE,
    TWILL_FROM_FALLBACK,
    TWILL_FROM_VALUE
} twill_timeout_source;

/* "TWILL_FROM_FALLBACK" and so on, for logs; static. "unknown" for other values. */
TWILL__DECL const char *twill_timeout_source_name(twill_timeout_source source);

typedef struct twill_timeout_report {
    twill_status
        primary; /* why the primary did not serve, or TWILL_OK. Set before a fallback runs */
    int code;    /* of the function that decided; 0 when none did */
    twill_timeout_source source; /* where the bytes in out come from */
    unsigned level;              /* the hedge's or the fallback's number, from 1; else 0 */
    bool abandoned;              /* this call has left a function behind */
    twill_ns wall;
} twill_timeout_report;

/* calls == ok + failed + timeouts + cancelled + refused once every call has returned. They count
   how the primary (or a hedge) did, whatever a fallback did after it; failed: FAILED and LOST. */
typedef struct twill_timeout_stats {
    uint64_t calls, ok, failed, timeouts, cancelled, refused;
    uint64_t hedges, hedges_skipped; /* started; not started: no budget, place, memory, thread */
    uint64_t late;                   /* functions that ended after their call had returned */
    uint64_t fallbacks, values;      /* calls that a fallback, or the constant, has served */
    size_t running;                  /* functions, the abandoned ones included */
    size_t abandoned, abandoned_peak;
} twill_timeout_stats;

/* TWILL_OK: *out is the object. Else *out is NULL: INVALID, TOO_BIG, NO_MEMORY. No thread yet. */
TWILL__DECL twill_status twill_timeout_create(twill_timeout **out,
                                              const twill_timeout_options *options);

/* One call. `until` bounds all of it (the timeout bounds the primary); give a task's own `until`
   to nest. report: may be NULL, else filled on every return. Any thread, also inside a function of
   the same object. */
TWILL__DECL twill_status twill_timeout_call(twill_timeout *timeout, const void *in, size_t in_size,
                                            void *out, size_t out_size, twill_map_fn *fn,
                                            twill_until until, twill_timeout_report *report);

/* How many functions run whose call has returned. NULL, here and below: those of
   twill_call_with_timeout, of the whole process. */
TWILL__DECL size_t twill_timeout_abandoned(const twill_timeout *timeout);

/* Waits until there are none: TWILL_OK, and their callbacks have returned. Else TIMEOUT or
   CANCELLED; CLOSED: destroyed meanwhile; DEADLOCK: asked by one of them. *left (may be NULL): how
   many there are then. */
TWILL__DECL twill_status twill_timeout_drain(twill_timeout *timeout, twill_until until,
                                             size_t *left);

/* One moment's figures. NULL, or the object of a parent process: zeroes. */
TWILL__DECL void twill_timeout_get_stats(twill_timeout *timeout, twill_timeout_stats *out);

/* New calls answer TWILL_CLOSED; those inside go on. A second one: CLOSED, and nothing changed. */
TWILL__DECL twill_status twill_timeout_close(twill_timeout *timeout);

/* Closes, joins the idle threads, and returns; the last straggler frees what is left. The calls
   must have returned, but for those made by stragglers. NULL: TWILL_OK. From a callback of its own:
   TWILL_DEADLOCK, and nothing changed. */
TWILL__DECL twill_status twill_timeout_destroy(twill_timeout *timeout);

#ifdef __cplusplus
}
#endif
#endif

#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__TIMEOUT_FALLBACK_IMPL
#define TWILL__TIMEOUT_FALLBACK_IMPL

#include "timeout_fallback/call.h"

TWILL__DEFINE const char *twill_timeout_source_name(twill_timeout_source source)
{
    static const char *const names[] = {"TWILL_FROM_NOTHING", "TWILL_FROM_PRIMARY",
                                        "TWILL_FROM_HEDGE", "TWILL_FROM_FALLBACK",
                                        "TWILL_FROM_VALUE"};
    return (unsigned)source < sizeof names / sizeof names[0] ? names[source] : "unknown";
}

/* ---- create ---- */

static inline bool twill__timeout_run_valid(const twill_run *run, twill_timeout_mode mode)
{
    if (run->pool || run->workers || run->strict || run->on_error || run->max_errors ||
        run->errors || run->errors_capacity || run->statuses || run->codes || run->cpus ||
        run->cpu_count || run->report)
        return false;
    return mode != TWILL_TIMEOUT_COOPERATE ||
           !(run->worker_start || run->worker_stop || run->stack_size || run->name);
}

static inline bool twill__timeout_options_valid(const twill_timeout_options *options)
{
    if (!twill__timeout_run_valid(&options->run, options->mode) || options->timeout < 0 ||
        options->grace < 0 || (unsigned)options->mode > TWILL_TIMEOUT_JOIN ||
        !options->fallbacks != !options->fallback_count ||
        !options->fallback_value != !options->fallback_value_size || options->hedge_after < 0 ||
        !(options->hedge_budget >= 0 && options->hedge_budget <= 1) /* NaN, too */ ||
        (options->hedge_after && options->mode == TWILL_TIMEOUT_COOPERATE))
        return false;
    for (size_t k = 0; k < options->fallback_count; k++)
        if (!options->fallbacks[k].fn || options->fallbacks[k].timeout < 0)
            return false;
    return true;
}

static inline void twill__timeout_defaults(twill_timeout_options *options)
{
    if (!options->timeout)
        options->timeout = TWILL_SEC(5);
    if (!options->max_abandoned)
        options->max_abandoned = TWILL__TIMEOUT_PLACES;
    if (!options->idle_threads)
        options->idle_threads = 4;
    if (!options->max_hedges)
        options->max_hedges = 1;
    if (!(options->hedge_budget > 0))
        options->hedge_budget = 0.05;
}

TWILL__DEFINE twill_status twill_timeout_create(twill_timeout **out,
                                                const twill_timeout_options *options)
{
    static const twill_timeout_options none;
    size_t bytes = 0, chain = 0;
    twill_timeout *made;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    if (!options)
        options = &none;
    if (!twill__timeout_options_valid(options))
        return TWILL_INVALID;
    /* the user's chain is in memory: this cannot be too much */
    (void)twill__timeout_add(&bytes, 1, sizeof *made);
    (void)twill__timeout_add(&chain, options->fallback_count, sizeof(twill_fallback));
    (void)twill__timeout_add(&bytes, 1, chain);
    if (options->max_hedges > UINT_MAX - 1 ||
        !twill__timeout_add(&bytes, 1, options->fallback_value_size))
        return TWILL_TOO_BIG;
    made = (twill_timeout *)TWILL_MALLOC(bytes);
    if (!made)
        return TWILL_NO_MEMORY;
    memset(made, 0, sizeof *made);
    made->options = *options;
    twill__timeout_defaults(&made->options);
    if (options->fallback_count)
        made->options.fallbacks = (const twill_fallback *)memcpy(
            (char *)made + (sizeof *made + 15) / 16 * 16, options->fallbacks,
            options->fallback_count * sizeof(twill_fallback));
    if (options->fallback_value)
        made->options.fallback_value =
            memcpy((char *)made + (sizeof *made + 15) / 16 * 16 + chain, options->fallback_value,
                   options->fallback_value_size);
    for (size_t i = 0; options->run.name && options->run.name[i] && i < sizeof made->name - 1; i++)
        made->name[i] = options->run.name[i];
    /* nobody else knows the object yet */
    atomic_store_explicit(&made->books.lock, 0, memory_order_relaxed);
    atomic_store_explicit(&made->books.generation, twill__generation(), memory_order_relaxed);
    made->references = 1;
    made->hedges_left = 1;
    *out = made;
    return TWILL_OK;
}

/* ---- call ---- */

TWILL__DEFINE twill_status twill_timeout_call(twill_timeout *timeout, const void *in,
                                              size_t in_size, void *out, size_t out_size,
                                              twill_map_fn *fn, twill_until until,
                                              twill_timeout_report *report)
{
    twill__timeout_call call;
    twill_ns begun = twill__clock_now();
    twill_status status = TWILL_INVALID;
    memset(&call, 0, sizeof call);
    call.report = report ? report : &call.own_report;
    memset(call.report, 0, sizeof *call.report);
    call.report->primary = TWILL_INVALID;
    if (timeout && !twill__books_here(&timeout->books)) {
        status = call.report->primary = TWILL_FORKED;
    } else if (timeout && (!timeout->options.fallback_value ||
                           timeout->options.fallback_value_size == out_size)) {
        call.books = &timeout->books;
        call.owner = timeout;
        call.options = &timeout->options;
        call.value = timeout->options.fallback_value;
        call.in = in;
        call.in_size = in_size;
        call.out = out;
        call.out_size = out_size;
        call.fn = fn;
        call.until = until;
        status = twill__timeout_run(&call, timeout->options.timeout);
        if (status == TWILL_TOO_BIG)
            call.report->primary = status;
    }
    call.report->wall = twill__clock_now() - begun;
    return status;
}

TWILL__DEFINE twill_status twill_call_with_timeout(const void *in, size_t in_size, void *out,
                                                   size_t out_size, twill_map_fn *fn,
                                                   twill_ns timeout, const void *fallback)
{
    static const twill_timeout_options options = {.max_abandoned = TWILL__TIMEOUT_PLACES};
    twill__timeout_call call;
    if (timeout < 0)
        return TWILL_INVALID;
    memset(&call, 0, sizeof call);
    call.report = &call.own_report;
    call.books = twill__process_books();
    call.options = &options;
    call.value = fallback;
    call.in = in;
    call.in_size = in_size;
    call.out = out;
    call.out_size = out_size;
    call.fn = fn;
    return twill__timeout_run(&call, timeout);
}

/* ---- stragglers ---- */

/* Is this thread in a call of the object? */
static inline bool twill__timeout_calls(const twill_timeout *timeout)
{
    const twill__timeout_visit *visit = (const twill__timeout_visit *)twill__thread()->visit;
    while (visit && visit->owner != timeout)
        visit = visit->outer;
    return visit != NULL;
}

/* Under the lock: does this thread run a function, or a callback, of these books? */
static inline bool twill__timeout_inside(const twill__stragglers *books,
                                         const struct twill_timeout *owner)
{
    uint64_t me = twill__thread_number();
    /* relaxed: only one's own number matters, and one has written it oneself */
    for (const twill__timeout_hand *hand = owner ? owner->hands : NULL; hand; hand = hand->next)
        if (atomic_load_explicit(&hand->number, memory_order_relaxed) == me)
            return true;
    for (const twill__timeout_block *block = owner ? NULL : books->blocks; block;
         block = block->next)
        if (atomic_load_explicit(&block->runner->thread, memory_order_relaxed) == me)
            return true;
    return false;
}

static inline twill__stragglers *twill__timeout_books(const twill_timeout *timeout)
{
    return timeout ? (twill__stragglers *)(uintptr_t)&timeout->books : twill__process_books();
}

TWILL__DEFINE size_t twill_timeout_abandoned(const twill_timeout *timeout)
{
    twill__stragglers *books = twill__timeout_books(timeout);
    size_t abandoned;
    if (!twill__books_here(books))
        return 0;
    twill__lock(&books->lock);
    abandoned = books->abandoned;
    twill__unlock(&books->lock);
    return abandoned;
}

TWILL__DEFINE twill_status twill_timeout_drain(twill_timeout *timeout, twill_until until,
                                               size_t *left)
{
    twill__stragglers *books = twill__timeout_books(timeout);
    twill_status status = TWILL_OK;
    twill__node node;
    bool last = false;
    size_t abandoned = 0;
    if (left)
        *left = 0;
    if (!twill__books_here(books))
        return TWILL_FORKED;
    twill__lock(&books->lock);
    if (timeout && timeout->destroyed) { /* by one that was left behind: it would be waited for */
        status = TWILL_CLOSED;
        abandoned = books->abandoned;
    } else if (books->abandoned && twill__timeout_inside(books, timeout)) {
        status = TWILL_DEADLOCK;
        abandoned = books->abandoned;
    } else if (books->abandoned) {
        twill__node_init(&node);
        twill__list_append(&books->waiters, &node);
        if (timeout)
            timeout->references++;
        twill__unlock(&books->lock);
        status = twill__wait(&node, until);
        twill__lock(&books->lock);
        if (status != TWILL_OK)
            twill__list_remove(&books->waiters, &node);
        else
            status = (twill_status)node.answer;
        if (status != TWILL_OK)
            abandoned = books->abandoned;
        if (timeout)
            last = twill__timeout_unref(timeout);
    }
    twill__unlock(&books->lock);
    if (last)
        TWILL_FREE(timeout);
    if (left)
        *left = abandoned;
    return status;
}

TWILL__DEFINE void twill_timeout_get_stats(twill_timeout *timeout, twill_timeout_stats *out)
{
    if (!out)
        return;
    memset(out, 0, sizeof *out);
    if (!timeout || !twill__books_here(&timeout->books))
        return;
    twill__lock(&timeout->books.lock);
    *out = timeout->counts;
    out->running = timeout->books.running;
    out->abandoned = timeout->books.abandoned;
    twill__unlock(&timeout->books.lock);
}

/* ---- close, destroy ---- */

TWILL__DEFINE twill_status twill_timeout_close(twill_timeout *timeout)
{
    bool closed;
    if (!timeout)
        return TWILL_INVALID;
    if (!twill__books_here(&timeout->books))
        return TWILL_FORKED;
    twill__lock(&timeout->books.lock);
    closed = timeout->closed;
    timeout->closed = true;
    twill__unlock(&timeout->books.lock);
    return closed ? TWILL_CLOSED : TWILL_OK;
}

/* In a forked child: its parent's threads are not here, and whoever held the lock is not, either:
   then the lists may be torn, and only the object itself goes. */
static inline twill_status twill__timeout_bury(twill_timeout *timeout)
{
    twill__timeout_hand *hand;
    twill__timeout_block *block;
    if (twill__timeout_calls(timeout))
        return TWILL_DEADLOCK;
    /* relaxed: one thread */
    if (!(atomic_load_explicit(&timeout->books.lock, memory_order_relaxed) & 1)) {
        if (twill__timeout_inside(&timeout->books, timeout))
            return TWILL_DEADLOCK;
        while ((hand = timeout->hands)) {
            timeout->hands = hand->next;
            TWILL_FREE(hand);
        }
        while ((block = timeout->books.blocks)) {
            timeout->books.blocks = block->next;
            TWILL_FREE(block);
        }
    }
    TWILL_FREE(timeout);
    return TWILL_OK;
}

/* Under the lock: busy threads are let go, and those that a straggler's call is just starting, for
   it looks at them once more; the others, as a list by `next_over`, are to be joined. */
static inline twill__timeout_hand *twill__timeout_dismiss(twill_timeout *timeout)
{
    twill__timeout_hand *join = NULL, *hand;
    while (timeout->idle.last) {
        twill__node *node = timeout->idle.last;
        (void)twill__grant(&timeout->idle, node); /* its hand has nothing to run: the end */
        twill__wake(&node->word, 1);
    }
    while ((hand = timeout->hands)) {
        twill__hand_unlink(timeout, hand);
        if (hand->busy || !hand->published) {
            hand->let_go = true;
            if (hand->published)
                twill__thread_let_go(&hand->thread);
        } else {
            hand->next_over = join;
            join = hand;
            timeout->references--;
        }
    }
    timeout->over = NULL;
    return join;
}

TWILL__DEFINE twill_status twill_timeout_destroy(twill_timeout *timeout)
{
    twill__timeout_hand *join;
    bool last;
    if (!timeout)
        return TWILL_OK;
    if (!twill__books_here(&timeout->books))
        return twill__timeout_bury(timeout);
    twill__lock(&timeout->books.lock);
    if (twill__timeout_calls(timeout) || twill__timeout_inside(&timeout->books, timeout)) {
        twill__unlock(&timeout->books.lock);
        return TWILL_DEADLOCK;
    }
    timeout->closed = timeout->destroyed = true;
    join = twill__timeout_dismiss(timeout);
    twill__answer_all(&timeout->books.waiters, TWILL_CLOSED);
    twill__unlock(&timeout->books.lock);
    twill__hands_join(join);
    twill__lock(&timeout->books.lock);
    last = twill__timeout_unref(timeout);
    twill__unlock(&timeout->books.lock);
    if (last)
        TWILL_FREE(timeout);
    return TWILL_OK;
}

#endif
#endif

/* twill: producer_consumer - a bounded queue between threads that make items and threads that take
   them.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    Some threads make work, others do it, and neither side may run away from the other: a full
    queue holds the producers back, an empty one lets the consumers sleep. The end is a state
    (close), not an item: no sentinels, no magic values, every consumer learns of it.
WHEN NOT
    All items are there already: parallel_map. A tree of tasks: worker_pool.

EXAMPLE:
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"

static int produce(twill_queue *queue, const twill_task *task)
{
    (void)task;
    for (int i = 0; i < 20; i++)
        if (twill_queue_push(queue, &i) != TWILL_OK)        // closed: somebody has failed
            break;
    return 0;
}

static int consume(void *item, const twill_task *task)
{
    int i = *(int *)item, *results = task->context;
    results[task->index] = i * i;                           // index: the item's accept number
    return 0;                                               // not 0: this item has failed
}

int main(void)
{
    int results[20], sum = 0;
    twill_status status = twill_produce_consume(sizeof(int), produce, consume,
        &(twill_produce_consume_options){ .run.workers = 2, .run.context = results,
                                          .queue.capacity = 5 });
    for (int i = 0; i < 20; i++)
        sum += results[i];
    printf("%s, sum %d\n", twill_status_name(status), sum);
    return 0;
}
END OF EXAMPLE
OUTPUT:
TWILL_OK, sum 2470
END OF OUTPUT

OPTIONS OF A QUEUE (twill_queue_options; zeroed or NULL: 1024 items, first in first out, full: wait)
    capacity        exact; 0: 1024. TWILL_RENDEZVOUS: nothing is stored, push returns once a pop has
                    taken the item; then no LIFO, PRIORITY, evicting policy, bytes, age or level
    overflow        what a full queue does. BLOCK: push waits. REJECT: TWILL_FULL, the caller keeps
                    the item. DROP_INCOMING: TWILL_DROPPED, the item goes to `drop`. DROP_OLDEST,
                    DROP_NEWEST (of those inside): TWILL_OK, that one goes to `drop`. Only BLOCK
                    ever waits; with the others the forms _until ignore how long they might
    order           FIFO, LIFO or PRIORITY (larger priority_of leaves sooner, equal ones FIFO)
    ageing          PRIORITY: what one step of priority is worth in waiting time; 0: 1 s;
                    TWILL_FOREVER: none. Nothing that enters later than ageing x (difference of
                    priorities) after an item can overtake it. Costs no thread and no scan
    max_bytes       a second limit, on the sum of bytes_of; a larger item: TWILL_TOO_BIG
    max_age         older items go to `drop` (TWILL_TIMEOUT), found when they are next, or the
                    oldest while a push needs room (where several pushers wait, expiry may change
                    their order). TWILL_FOREVER: none expires, but ages are measured. 0: neither
    drop            called for each accepted item that will never be popped: DROPPED, TIMEOUT,
                    CANCELLED (clear, destroy). task->index: its accept number. With it items have
                    at most 4096 bytes (TWILL_TOO_BIG): send a pointer
    on_level        told true when length reaches high_mark, false when it has fallen to low_mark
                    after that; in order, one call at a time, perhaps late. high > low, <= capacity
    producers       attached from the start; the last detach closes. 0: close it yourself
    memory          NULL: one allocation at create. Else memory_bytes of yours, at least
                    twill_queue_bytes
    engine          RING: items in a ring without a lock, on 64-bit machines, for FIFO queues that
                    BLOCK, REJECT or DROP_OLDEST and have no bytes_of, max_age or on_level (else
                    INVALID). LOCK: for all. 0: the ring where it serves. They answer alike; see
                    PROGRESS, THREADS, peak
    context         task->context of all these callbacks
    Whatever makes no sense is refused: TWILL_INVALID; sizes beyond size_t: TWILL_TOO_BIG.

OPTIONS OF THE CALL (twill_produce_consume_options)
    run             workers: consumers at once, 0: the pool's, those of the call around it, or the
                    CPUs. statuses and codes must be NULL. The call runs on threads of its own or on
                    run.pool
    producers       0: 1. Each index is called once; an error or a stop spares those not yet begun.
                    One that returns TWILL_CLOSED, as push has told it, has not failed if the queue
                    is closed
    queue           as above, with producers 0. context 0: run.context. CALLER_RUNS: a
                    producer's push that finds the queue full consumes the next item itself
    batch           a consumer takes up to so many a visit; 0: 1
    dead_letter     sees an item whose consume has failed, after that
    queue_stats     filled at the end
    The queue is the call's: an item is finished when its consume and dead_letter have returned, so
    a producer may wait for all that was accepted (twill_queue_join); each producer is attached, and
    detached at its return. task_done is for items that a producer popped itself (skipped in the
    report).

ERRORS
    push            OK; CLOSED; FULL, DROPPED (see overflow); FULL (try); CANCELLED, TIMEOUT
    pop             OK; then CLOSED, or FAILED after twill_queue_fail; EMPTY (try); CANCELLED,
                    TIMEOUT
    TWILL_DEADLOCK  a call that would have to wait, from inside `drop` or `on_level` of the same
                    queue; destroy from there; join in a consume, destroy of a call's queue
    TWILL_INVALID   NULL where something is needed; an option; task_done more often than popped
    TWILL_TOO_BIG   an item beyond max_bytes, a bulk beyond the capacity, sizes
    TWILL_FORKED    a queue of the parent process; also the answer of a call whose callback has
                    forked, in the child: nothing more is run there. twill_queue_abandon frees it
    An item comes before all other answers: an expired deadline or a fired token still gets what is
    there. A blocked push that is told CLOSED has not given its item away.
    twill_produce_consume answers FAILED when an item or a producer failed; report.first_error says
    which: the lowest accept number, code as returned; index SIZE_MAX: a producer, the code of
    twill_queue_fail, or LOST: `drop` or on_level has ended the thread of a consumer.

HOW THE CALL ENDS
    By itself: the last producer has returned, the consumers have taken everything.
    By an error (default policy): items with a lower accept number are run to their end, the token
    of every other callback fires, the queue closes (blocked producers are told CLOSED; what they
    return then does not count), and what is left goes to `drop` (CANCELLED). With one producer and
    FIFO it is the same error in every run; with more, the accept order itself is a race. LIFO and
    PRIORITY: the lowest of those that ran. A producer's error ranks after all that was accepted
    until then. ON_ERROR_COLLECT runs everything.
    By run.until; OK if all was produced and consumed by then. By twill_task_stop: in consume, no
    item above it; in a producer, nothing more is accepted and what is inside is still consumed.
    report.total is the number of accepted items: done + failed + skipped (dropped, expired,
    cleared, or given up). Nothing is lost: `consume` or `drop` is called for each, never both.
    Threads that cannot be started: fewer consumers and TWILL_REPORT_DEGRADED; with none, a push
    that finds the queue full runs one item itself. strict: NO_THREAD, and nothing ran.

THREADS      All functions by any thread; destroy last. A call that waits inside, or has reached the
             queue's lock, when destroy comes is answered and waited for; so is one in a callback.
             With a ring every other call must have returned: join the threads first.
PROGRESS     First come, first served on each side, but for those who find what they want at once.
             With a ring a newcomer may be quicker than a thread that has just been woken, but never
             than a bulk. A thread that stops between two steps of a push or pop holds up the others
             until it goes on, as one that holds a lock would.
ORDERING     What came before a push comes before the return of the pop (or the drop) of that item;
             what came before the pop that made room, before the return of the push that used it;
             close before every answer CLOSED; task_done before the join it completes.
ALLOCATES    create: one block, or none. select of more than 16 cases: one. The call: two before
             anything runs (with queue.memory one; above 64 threads one more). Else nothing.
BLOCKS       Only what the name says; no user code runs under a lock.
OWNERSHIP    Items are bytes, copied in and out. What callbacks are given is as aligned as its type,
             up to 64 bytes.
COSTS        Ring: one compare-and-swap and the copy. Lock: one lock, held for the copy. A waiter
             spins a moment, then sleeps; one wake for each who slept. No thread.
PITFALLS     Without `drop` an evicted pointer leaks. A `drop` that pushes into its own evicting
             queue has no end. Consumers that push into their own queue can all wait for room:
             try_push, or a worker_pool. length and ready_until may be wrong a moment later.
             The items of a select that were not chosen are untouched. In a signal handler nothing
             here may be called. priority_of and bytes_of run before the lock and must not depend on
             the queue. With PRIORITY, DROP_NEWEST looks at every item, DROP_OLDEST at the first of
             each priority. */
#ifndef TWILL_PRODUCER_CONSUMER_H
#define TWILL_PRODUCER_CONSUMER_H

#include "base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct twill_queue twill_queue;

typedef enum twill_queue_order {
    TWILL_ORDER_FIFO = 0,
    TWILL_ORDER_LIFO,
    TWILL_ORDER_PRIORITY
} twill_queue_order;

/* How it is built. A ring serves a queue that is FIFO, blocks, rejects or drops its oldest, and
   has no bytes_of, max_age, on_level or rendezvous; elsewhere RING is refused. For tests and
   comparisons. */
typedef enum twill_queue_engine {
    TWILL_ENGINE_DEFAULT = 0, /* a ring where it serves */
    TWILL_ENGINE_LOCK,
    TWILL_ENGINE_RING
} twill_queue_engine;

#define TWILL_RENDEZVOUS ((size_t)-1)

typedef struct twill_queue_options { /* see OPTIONS above */
    size_t capacity;
    twill_overflow overflow;
    twill_queue_order order;
    int (*priority_of)(const void *item, const twill_task *task);
    twill_ns ageing;
    size_t max_bytes;
    size_t (*bytes_of)(const void *item, const twill_task *task);
    twill_ns max_age;
    twill_drop_fn *drop;
    void (*on_level)(bool high, size_t length, const twill_task *task);
    size_t high_mark, low_mark;
    unsigned producers;
    twill_queue_engine engine;
    void *context;
    void *memory;
    size_t memory_bytes;
} twill_queue_options;

/* Bytes that `memory` must have, whatever its alignment; 0: the options are refused. */
TWILL__DECL size_t twill_queue_bytes(size_t item_size, const twill_queue_options *options);

/* TWILL_OK: *out is the queue. Else *out is NULL: INVALID, TOO_BIG, NO_MEMORY. */
TWILL__DECL twill_status twill_queue_create(twill_queue **out, size_t item_size,
                                            const twill_queue_options *options);

/* Closes, answers everybody who waits, waits until they have left, gives what is inside to `drop`
   (CANCELLED), frees. NULL: TWILL_OK. If `drop` ends the thread, another one may destroy the
   rest. */
TWILL__DECL twill_status twill_queue_destroy(twill_queue *queue);

/* One item in: for ever, without waiting, or until. */
TWILL__DECL twill_status twill_queue_push(twill_queue *queue, const void *item);
TWILL__DECL twill_status twill_queue_try_push(twill_queue *queue, const void *item);
TWILL__DECL twill_status twill_queue_push_until(twill_queue *queue, const void *item,
                                                twill_until until);

/* One item out. */
TWILL__DECL twill_status twill_queue_pop(twill_queue *queue, void *item);
TWILL__DECL twill_status twill_queue_try_pop(twill_queue *queue, void *item);
TWILL__DECL twill_status twill_queue_pop_until(twill_queue *queue, void *item, twill_until until);

/* n items, in pieces as room appears. *count (may be NULL) says how many went in, whatever the
   status; the rest is the caller's, but under DROP_INCOMING. */
TWILL__DECL twill_status twill_queue_push_many_until(twill_queue *queue, const void *items,
                                                     size_t n, size_t *count, twill_until until);

/* All n side by side, or none. While it waits, later pushes wait behind it; where it evicts, one
   item after the other, they may take that room. Not with PRIORITY or bytes_of (INVALID). */
TWILL__DECL twill_status twill_queue_push_bulk_until(twill_queue *queue, const void *items,
                                                     size_t n, twill_until until);

/* Waits for the first item, takes up to max (0: INVALID). OK: *count >= 1. */
TWILL__DECL twill_status twill_queue_pop_many_until(twill_queue *queue, void *items, size_t max,
                                                    size_t *count, twill_until until);

/* Likewise, and then waits for up to `linger` (and never beyond `until`) for max to be full. */
TWILL__DECL twill_status twill_queue_pop_batch_until(twill_queue *queue, void *items, size_t max,
                                                     size_t *count, twill_ns linger,
                                                     twill_until until);

/* Waits until there is something to pop, and takes nothing: others may. CLOSED or FAILED once there
   never will be. */
TWILL__DECL twill_status twill_queue_ready_until(twill_queue *queue, twill_until until);

/* No more pushes; what is inside still comes out. Blocked pushes answer CLOSED. A second one:
   CLOSED, and nothing changed. */
TWILL__DECL twill_status twill_queue_close(twill_queue *queue);

/* Close, and after the drain pops answer FAILED. */
TWILL__DECL twill_status twill_queue_fail(twill_queue *queue, int code);

/* The code given to fail, else 0. */
TWILL__DECL int twill_queue_code(const twill_queue *queue);

/* What is inside now goes to `drop` (CANCELLED); returns how many. Blocked pushes go on then. */
TWILL__DECL size_t twill_queue_clear(twill_queue *queue);

/* One producer more; CLOSED when it is too late. The last detach closes; INVALID: none attached but
   those of a call. Each attach wants one detach, by any thread: until then the queue stays open,
   and the call goes on, although its producers have returned. */
TWILL__DECL twill_status twill_queue_attach(twill_queue *queue);
TWILL__DECL twill_status twill_queue_detach(twill_queue *queue);

/* A popped item is finished. */
TWILL__DECL twill_status twill_queue_task_done(twill_queue *queue);

/* Waits until each accepted item is finished, or dropped (its callback has returned). Goes on after
   close; a destroy answers CLOSED. */
TWILL__DECL twill_status twill_queue_join(twill_queue *queue);
TWILL__DECL twill_status twill_queue_join_until(twill_queue *queue, twill_until until);

/* Hints; never block. */
TWILL__DECL size_t twill_queue_length(const twill_queue *queue);
TWILL__DECL bool twill_queue_is_closed(const twill_queue *queue);

/* In a forked child alone: frees, no callbacks. Elsewhere it does nothing. */
TWILL__DECL void twill_queue_abandon(twill_queue *queue);

/* accepted == popped + dropped + expired + cleared + length, always. peak: of a ring, seen by
   pushes: too small by a 16th of the capacity at most. rejected: answers FULL, of try_select
   by each queue that had no room.
   push_waits, pop_waits: calls that slept, or were about to; the times are theirs. age_...: of
   popped items, measured with max_age only. */
typedef struct twill_queue_stats {
    uint64_t accepted, popped, dropped, expired, cleared, rejected;
    uint64_t push_waits, pop_waits, wakes;
    size_t length, peak, capacity, bytes, waiting_push, waiting_pop;
    twill_ns push_wait_total, push_wait_max, pop_wait_total, pop_wait_max, age_total, age_max;
} twill_queue_stats;
/* One moment's figures. NULL or a parent process's queue: zeroes. */
TWILL__DECL void twill_queue_get_stats(twill_queue *queue, twill_queue_stats *out);

/* ---- select ---- */

typedef struct twill_queue_case {
    twill_queue *queue; /* NULL: left out */
    bool push;
    void *item; /* to push, or where to pop to */
    /* out: OK: the chosen one; CLOSED, FAILED: out; FULL, EMPTY: not ready, or not asked */
    twill_status status;
} twill_queue_case;

typedef enum twill_select_order {
    TWILL_SELECT_FAIR = 0, /* begins anywhere */
    TWILL_SELECT_IN_ORDER  /* of several that are ready, the first */
} twill_select_order;

/* Exactly one of the cases: TWILL_OK (or, with DROP_INCOMING, DROPPED), and *chosen is its index.
   CLOSED or FAILED when all are out. Nothing ready: FULL or EMPTY of the first case (try), else
   waits. TOO_BIG: the item of *chosen. NO_MEMORY: more than 16 cases. The same queue may stand in
   it twice. */
TWILL__DECL twill_status twill_queue_try_select(twill_queue_case *cases, size_t n,
                                                twill_select_order order, size_t *chosen);
TWILL__DECL twill_status twill_queue_select_until(twill_queue_case *cases, size_t n,
                                                  twill_select_order order, size_t *chosen,
                                                  twill_until until);

/* ---- one call ---- */

/* task->index: which producer. */
typedef int twill_produce_fn(twill_queue *queue, const twill_task *task);
/* task->index: the accept number of the item, which it may change. */
typedef int twill_consume_fn(void *item, const twill_task *task);

typedef struct twill_produce_consume_options { /* see OPTIONS above */
    twill_run run;
    unsigned producers;
    twill_queue_options queue;
    size_t batch;
    void (*dead_letter)(void *item, int code, const twill_task *task);
    twill_queue_stats *queue_stats;
} twill_produce_consume_options;

/* Runs producers and consumers, and returns when all have. The caller runs producers, then helps to
   consume. TWILL_OK, FAILED, CANCELLED, TIMEOUT; refusals: INVALID, TOO_BIG, NO_MEMORY, NO_THREAD,
   CLOSED (the pool), FORKED. */
TWILL__DECL twill_status twill_produce_consume(size_t item_size, twill_produce_fn *produce,
                                               twill_consume_fn *consume,
                                               const twill_produce_consume_options *options);

/* ---- a typed layer ---- */
/* TWILL_QUEUE(jobs, struct job) defines jobs_create, jobs_push, jobs_pop ...: no sizeof, no wrong
   type. */
#define TWILL__TYPED __attribute__((unused)) static inline twill_status
#define TWILL_QUEUE(NAME, T)                                                          \
    TWILL__TYPED NAME##_create(twill_queue **out, const twill_queue_options *options) \
    {                                                                                 \
        return twill_queue_create(out, sizeof(T), options);                           \
    }                                                                                 \
    TWILL__TYPED NAME##_push(twill_queue *queue, T item)                              \
    {                                                                                 \
        return twill_queue_push(queue, &item);                                        \
    }                                                                                 \
    TWILL__TYPED NAME##_try_push(twill_queue *queue, T item)                          \
    {                                                                                 \
        return twill_queue_try_push(queue, &item);                                    \
    }                                                                                 \
    TWILL__TYPED NAME##_push_until(twill_queue *queue, T item, twill_until until)     \
    {                                                                                 \
        return twill_queue_push_until(queue, &item, until);                           \
    }                                                                                 \
    TWILL__TYPED NAME##_pop(twill_queue *queue, T *item)                              \
    {                                                                                 \
        return twill_queue_pop(queue, item);                                          \
    }                                                                                 \
    TWILL__TYPED NAME##_try_pop(twill_queue *queue, T *item)                          \
    {                                                                                 \
        return twill_queue_try_pop(queue, item);                                      \
    }                                                                                 \
    TWILL__TYPED NAME##_pop_until(twill_queue *queue, T *item, twill_until until)     \
    {                                                                                 \
        return twill_queue_pop_until(queue, item, until);                             \
    }

#ifdef __cplusplus
}
#endif
#endif

#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__PRODUCER_CONSUMER_IMPL
#define TWILL__PRODUCER_CONSUMER_IMPL

#include "producer_consumer/select.h"
#include "producer_consumer/call.h"

#endif
#endif

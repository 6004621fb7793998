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
    memory          NULL: one allocation at create. Else at least twill_queue_bytes of yours
    engine          RING: items in a ring without a lock, for FIFO queues that BLOCK, REJECT or
                    DROP_OLDEST and have no bytes_of, max_age or on_level (else INVALID). LOCK: for
                    all. 0: the ring where it serves. They answer alike; see PROGRESS, THREADS, peak
    context         task->context of all these callbacks
    Whatever makes no sense is refused: TWILL_INVALID; sizes beyond size_t: TWILL_TOO_BIG.

OPTIONS OF THE CALL (twill_produce_consume_options)
    run             workers: consumers at once, 0: the CPUs. statuses and codes must be NULL. The
                    call runs on threads of its own or on run.pool
    producers       0: 1. Each index is called once; an error or a stop spares those not yet begun
    queue           as above, with producers 0. context 0: run.context. CALLER_RUNS: a
                    producer's push that finds the queue full consumes the next item itself
    batch           a consumer takes up to so many a visit; 0: 1
    dead_letter     sees an item whose consume has failed, after that
    queue_stats     filled at the end

ERRORS
    push            OK; CLOSED; FULL, DROPPED (see overflow); FULL (try); CANCELLED, TIMEOUT
    pop             OK; then CLOSED, or FAILED after twill_queue_fail; EMPTY (try); CANCELLED,
                    TIMEOUT
    TWILL_DEADLOCK  a call that would have to wait, from inside `drop` or `on_level` of the same
                    queue; destroy from there
    TWILL_INVALID   NULL where something is needed; an option; task_done more often than popped
    TWILL_TOO_BIG   an item beyond max_bytes, a bulk beyond the capacity, sizes
    TWILL_FORKED    a queue of the parent process; also the answer of a call whose callback has forked,
                    in the child: nothing more is run there. twill_queue_abandon frees it
    An item comes before all other answers: an expired deadline or a fired token still gets what is
    there. A blocked push that is told CLOSED has not given its item away.
    twill_produce_consume answers FAILED when an item or a producer failed; report.first_error says
    which: the lowest accept number, code as returned; index SIZE_MAX: a producer, or the code of
    twill_queue_fail.

HOW THE CALL ENDS
    By itself: the last producer has returned, the consumers have taken everything.
    By an error (default policy): items with a lower accept number are run to their end, the token
    of every other callback fires, the queue closes (blocked producers are told CLOSED; what they
    return then does not count), and what is left goes to `drop` (CANCELLED). With one producer and
    FIFO it is the same error in every run; with more, the accept order itself is a race. LIFO and
    PRIORITY: the lowest of those that ran. A producer's error ranks after all that was accepted
    until then. ON_ERROR_COLLECT runs everything.
    By run.until. By twill_task_stop: in consume, no item above it; in a producer, nothing more is
    accepted and what is inside is still consumed.
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
ALLOCATES    create: one block, or none. select of more than 16 cases: one. Else nothing.
BLOCKS       Only what the name says; no user code runs under a lock.
OWNERSHIP    Items are bytes, copied in and out.
COSTS        Ring: one compare-and-swap and the copy. Lock: one lock, held for the copy. A waiter
             spins a moment, then sleeps; one wake for each who slept. No thread.
PITFALLS     Without `drop` an evicted pointer leaks. A hint stays a hint: length and ready_until
             may be wrong a moment later. The items of a select that were not chosen are untouched.
             In a signal handler nothing here may be called. priority_of and bytes_of run before the
             lock and must not depend on the queue. With PRIORITY, DROP_OLDEST and DROP_NEWEST look
             at every item. */
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
   has no bytes_of, max_age, on_level or rendezvous; elsewhere RING is refused. For tests and comparisons. */
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
   (CANCELLED), frees. NULL: TWILL_OK. */
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

/* All n side by side, or none. While it waits, later pushes wait behind it. Not with PRIORITY or
   bytes_of (INVALID). */
TWILL__DECL twill_status twill_queue_push_bulk_until(twill_queue *queue, const void *items,
                                                     size_t n, twill_until until);

/* Waits for the first item, takes up to max. OK: *count >= 1. */
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

/* What is inside now goes to `drop` (CANCELLED); returns how many. Frees blocked pushes. */
TWILL__DECL size_t twill_queue_clear(twill_queue *queue);

/* One producer more; CLOSED when it is too late. The last detach closes; INVALID: none attached. */
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
   pushes: too small by a 16th of the capacity at most. rejected: answers FULL.
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
    void *item;          /* to push, or where to pop to */
    twill_status status; /* out: OK: the chosen one; CLOSED, FAILED: out; FULL, EMPTY: not ready */
} twill_queue_case;

typedef enum twill_select_order {
    TWILL_SELECT_FAIR = 0, /* begins anywhere */
    TWILL_SELECT_IN_ORDER  /* of several that are ready, the first */
} twill_select_order;

/* Exactly one of the cases: TWILL_OK (or, with DROP_INCOMING, DROPPED), and *chosen is its index.
   CLOSED or FAILED when all are out. Nothing ready: FULL or EMPTY of the first case (try), else
   waits. The same queue may stand in it twice. */
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
#define TWILL_QUEUE(NAME, T)                                                                    \
    static inline twill_status NAME##_create(twill_queue **out,                                 \
                                             const twill_queue_options *options)                \
    {                                                                                           \
        return twill_queue_create(out, sizeof(T), options);                                     \
    }                                                                                           \
    static inline twill_status NAME##_push(twill_queue *queue, T item)                          \
    {                                                                                           \
        return twill_queue_push(queue, &item);                                                  \
    }                                                                                           \
    static inline twill_status NAME##_try_push(twill_queue *queue, T item)                      \
    {                                                                                           \
        return twill_queue_try_push(queue, &item);                                              \
    }                                                                                           \
    static inline twill_status NAME##_push_until(twill_queue *queue, T item, twill_until until) \
    {                                                                                           \
        return twill_queue_push_until(queue, &item, until);                                     \
    }                                                                                           \
    static inline twill_status NAME##_pop(twill_queue *queue, T *item)                          \
    {                                                                                           \
        return twill_queue_pop(queue, item);                                                    \
    }                                                                                           \
    static inline twill_status NAME##_try_pop(twill_queue *queue, T *item)                      \
    {                                                                                           \
        return twill_queue_try_pop(queue, item);                                                \
    }                                                                                           \
    static inline twill_status NAME##_pop_until(twill_queue *queue, T *item, twill_until until) \
    {                                                                                           \
        return twill_queue_pop_until(queue, item, until);                                       \
    }

#ifdef __cplusplus
}
#endif
#endif

#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__PRODUCER_CONSUMER_IMPL
#define TWILL__PRODUCER_CONSUMER_IMPL

#include "engine/queue.h"
#include "engine/run.h"

/* ---- create ---- */

typedef struct twill__queue_plan {              /* what the options come to */
    size_t capacity, cells, heap, items, bytes; /* offsets behind the queue; 0: none */
    bool ring;
} twill__queue_plan;

/* Whether a ring can do it. Its positions need 64 bits that are swapped in one step. */
static inline bool twill__queue_plain(const twill_queue_options *options)
{
    return UINTPTR_MAX > 0xffffffffu && options->capacity != TWILL_RENDEZVOUS &&
           options->order == TWILL_ORDER_FIFO &&
           (options->overflow == TWILL_OVERFLOW_BLOCK ||
            options->overflow == TWILL_OVERFLOW_REJECT ||
            options->overflow == TWILL_OVERFLOW_DROP_OLDEST) &&
           !options->bytes_of && !options->max_age && !options->on_level;
}

static inline bool twill__queue_options_valid(const twill_queue_options *options)
{
    bool priority = options->order == TWILL_ORDER_PRIORITY;
    bool evicts = options->overflow == TWILL_OVERFLOW_DROP_OLDEST ||
                  options->overflow == TWILL_OVERFLOW_DROP_NEWEST;
    size_t capacity = options->capacity ? options->capacity : 1024;
    if ((unsigned)options->overflow > TWILL_OVERFLOW_DROP_NEWEST ||
        (unsigned)options->order > TWILL_ORDER_PRIORITY ||
        (unsigned)options->engine > TWILL_ENGINE_RING ||
        (options->engine == TWILL_ENGINE_RING && !twill__queue_plain(options)) ||
        priority != !!options->priority_of || (options->ageing && !priority) ||
        options->ageing < 0 || options->max_age < 0 || (options->max_bytes && !options->bytes_of) ||
        (options->memory_bytes && !options->memory))
        return false;
    if (options->on_level ? options->high_mark <= options->low_mark || options->high_mark > capacity
                          : options->high_mark || options->low_mark)
        return false;
    return options->capacity != TWILL_RENDEZVOUS ||
           !(options->order || evicts || options->bytes_of || options->max_age ||
             options->on_level);
}

/* Adds count * size to *total, in multiples of 16; false: too big. */
static inline bool twill__queue_add(size_t *total, size_t count, size_t size)
{
    if (count > (SIZE_MAX / 2 - 16) / size || *total > SIZE_MAX / 2 - 16 - count * size)
        return false;
    *total += (count * size + 15) / 16 * 16;
    return true;
}

static inline twill_status twill__queue_plan_of(twill__queue_plan *plan, size_t item_size,
                                                const twill_queue_options *options)
{
    bool priority = options->order == TWILL_ORDER_PRIORITY;
    bool unordered = options->order == TWILL_ORDER_LIFO ||
                     options->overflow == TWILL_OVERFLOW_DROP_INCOMING ||
                     options->overflow == TWILL_OVERFLOW_DROP_NEWEST;
    bool cells = options->bytes_of || options->max_age || (unordered && !priority);
    memset(plan, 0, sizeof *plan);
    if (!item_size || !twill__queue_options_valid(options))
        return TWILL_INVALID;
    if (options->drop && item_size > TWILL__KEPT)
        return TWILL_TOO_BIG;
    plan->capacity = options->capacity == TWILL_RENDEZVOUS ? 0
                     : options->capacity                   ? options->capacity
                                                           : 1024;
    plan->bytes = (sizeof(twill__queue) + 15) / 16 * 16;
    if (cells) {
        plan->cells = plan->bytes;
        if (!twill__queue_add(&plan->bytes, plan->capacity, sizeof(twill__cell)))
            return TWILL_TOO_BIG;
    }
    if (priority) {
        plan->heap = plan->bytes;
        if (!twill__queue_add(&plan->bytes, plan->capacity, sizeof(twill__ranked)))
            return TWILL_TOO_BIG;
    }
    plan->ring = options->engine != TWILL_ENGINE_LOCK && twill__queue_plain(options);
    plan->items = plan->bytes;
    if (item_size > SIZE_MAX / 2 ||
        !twill__queue_add(&plan->bytes, plan->capacity,
                          plan->ring ? twill__ring_stride(item_size) : item_size))
        return TWILL_TOO_BIG;
    plan->bytes += TWILL__LINE; /* to align the first */
    return TWILL_OK;
}

static inline const twill_queue_options *twill__queue_defaults(const twill_queue_options *options)
{
    static const twill_queue_options none;
    return options ? options : &none;
}

static inline void twill__queue_init(twill__queue *queue, size_t item_size,
                                     const twill__queue_plan *plan,
                                     const twill_queue_options *options)
{
    char *base = (char *)queue;
    memset(queue, 0, sizeof *queue);
    queue->store.size = item_size;
    queue->store.capacity = plan->capacity;
    queue->store.items = base + plan->items;
    queue->store.lifo = options->order == TWILL_ORDER_LIFO;
    if (plan->cells)
        queue->store.cells = (twill__cell *)(void *)(base + plan->cells);
    if (plan->heap)
        queue->store.heap = (twill__ranked *)(void *)(base + plan->heap);
    if (plan->ring)
        twill__ring_init(&queue->ring, item_size, plan->capacity, base + plan->items);
    for (size_t k = 0; plan->heap && k < plan->capacity; k++)
        queue->store.heap[k].place = k;
    queue->generation = twill__generation();
    /* set: generation was asked */
    queue->mark = atomic_load_explicit(&twill__process()->mark, memory_order_acquire);
    queue->overflow = options->overflow;
    queue->times = options->max_age != 0;
    queue->max_age = options->max_age ? options->max_age : TWILL_FOREVER;
    queue->max_bytes = options->max_bytes;
    queue->high_mark = options->high_mark;
    queue->low_mark = options->low_mark;
    queue->ageing = options->ageing ? options->ageing : TWILL_SEC(1);
    queue->priority_of = options->priority_of;
    queue->bytes_of = options->bytes_of;
    queue->drop = options->drop;
    queue->on_level = options->on_level;
    queue->context = options->context;
    queue->producers = options->producers;
    queue->brief = plan->capacity && !plan->ring;
}

TWILL__DEFINE size_t twill_queue_bytes(size_t item_size, const twill_queue_options *options)
{
    twill__queue_plan plan;
    options = twill__queue_defaults(options);
    return twill__queue_plan_of(&plan, item_size, options) == TWILL_OK ? plan.bytes : 0;
}

TWILL__DEFINE twill_status twill_queue_create(twill_queue **out, size_t item_size,
                                              const twill_queue_options *options)
{
    twill__queue_plan plan;
    twill_status status;
    char *memory;
    twill_queue *queue;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    options = twill__queue_defaults(options);
    status = twill__queue_plan_of(&plan, item_size, options);
    if (status != TWILL_OK)
        return status;
    if (options->memory && options->memory_bytes < plan.bytes)
        return TWILL_INVALID;
    memory = (char *)options->memory;
    if (!memory)
        memory = (char *)TWILL_MALLOC(plan.bytes);
    if (!memory)
        return TWILL_NO_MEMORY;
    queue = (twill_queue *)(void *)(memory +
                                    (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE);
    twill__queue_init(queue, item_size, &plan, options);
    queue->memory = options->memory ? NULL : memory;
    *out = queue;
    return TWILL_OK;
}

/* ---- calls ---- */

/* Room for an item that a drop callback sees, on the stack of who needs it. */
typedef struct twill__kept {
    _Alignas(16) char item[TWILL__KEPT];
} twill__kept;

static inline twill_status twill__queue_check(const twill_queue *queue, const void *item)
{
    if (!queue || !item)
        return TWILL_INVALID;
    return twill__queue_here(queue) ? TWILL_OK : TWILL_FORKED;
}

/* Asks the user's callbacks what they say of an item. */
static inline twill_status twill__queue_weigh(const twill_queue *queue, const void *item,
                                              twill__cell *cell)
{
    if (queue->bytes_of) {
        twill_task task = twill__queue_task(queue, SIZE_MAX);
        cell->bytes = queue->bytes_of(item, &task);
        if (queue->max_bytes && cell->bytes > queue->max_bytes)
            return TWILL_TOO_BIG;
    }
    if (queue->priority_of) {
        twill_task task = twill__queue_task(queue, SIZE_MAX);
        int64_t priority = queue->priority_of(item, &task), gain = 0;
        /* the order of two items never changes while they wait: so a fixed key is enough */
        if (queue->ageing == TWILL_FOREVER)
            cell->key = -priority;
        else if (__builtin_mul_overflow(priority, queue->ageing, &gain) ||
                 __builtin_sub_overflow(twill__clock_now(), gain, &cell->key))
            cell->key = priority > 0 ? INT64_MIN : INT64_MAX;
    }
    return TWILL_OK;
}

static __attribute__((noinline)) twill_status
twill__put_dropping(twill_queue *queue, twill__waiter *waiter, twill_until until, bool wait)
{
    twill__kept kept;
    return twill__queue_put(queue, waiter, until, wait, kept.item);
}

static __attribute__((noinline)) twill_status
twill__get_dropping(twill_queue *queue, twill__waiter *waiter, twill_until until, bool wait)
{
    twill__kept kept;
    return twill__queue_get(queue, waiter, until, wait, kept.item);
}

static __attribute__((noinline)) twill_status twill__push(twill_queue *queue, const void *items,
                                                          size_t n, bool whole, size_t *count,
                                                          twill_until until, bool wait)
{
    twill__waiter waiter;
    twill__cell cell = {0, 0, 0, 0};
    twill_status status;
    bool brief = n == 1 && queue->brief;
    if (queue->ring.cells) {
        size_t put = twill__quick_put(queue, (const char *)items, n, whole ? n : 1, until, wait);
        if (count)
            *count += put;
        if (put == n)
            return TWILL_OK;
        items = (const char *)items + put * queue->store.size;
        n -= put;
    }
    if (queue->bytes_of || queue->priority_of) {
        status = twill__queue_weigh(queue, items, &cell);
        if (status != TWILL_OK)
            return status;
    }
    if (brief && twill__brief_put(queue, items, cell)) {
        if (count)
            ++*count;
        return TWILL_OK;
    }
    memset(&waiter, 0, sizeof waiter);
    waiter.inside = brief;
    waiter.from = (const char *)items;
    waiter.n = n;
    waiter.whole = whole;
    waiter.cell = cell;
    status = queue->drop ? twill__put_dropping(queue, &waiter, until, wait)
                         : twill__queue_put(queue, &waiter, until, wait, NULL);
    if (count)
        *count += waiter.done;
    return status;
}

static __attribute__((noinline)) twill_status twill__pop(twill_queue *queue, void *items, size_t n,
                                                         bool whole, size_t *count,
                                                         twill_until until, bool wait)
{
    twill__waiter waiter;
    twill_status status;
    bool brief = n == 1 && queue->brief;
    if (queue->ring.cells) {
        size_t taken = twill__quick_take(queue, (char *)items, NULL, n, until, wait);
        if (count)
            *count += taken;
        if (whole ? taken == n : taken > 0)
            return TWILL_OK;
        items = (char *)items + taken * queue->store.size;
        n -= taken;
    } else if (brief && twill__brief_take(queue, items)) {
        if (count)
            ++*count;
        return TWILL_OK;
    }
    memset(&waiter, 0, sizeof waiter);
    waiter.inside = brief;
    waiter.to = (char *)items;
    waiter.n = n;
    waiter.whole = whole;
    status = queue->drop ? twill__get_dropping(queue, &waiter, until, wait)
                         : twill__queue_get(queue, &waiter, until, wait, NULL);
    if (count)
        *count += waiter.done;
    return status;
}

TWILL__DEFINE twill_status twill_queue_push_until(twill_queue *queue, const void *item,
                                                  twill_until until)
{
    twill_status status = twill__queue_check(queue, item);
    if (status == TWILL_OK && queue->ring.cells && twill__quick_put_one(queue, item))
        return TWILL_OK;
    return status ? status : twill__push(queue, item, 1, false, NULL, until, true);
}

TWILL__DEFINE twill_status twill_queue_push(twill_queue *queue, const void *item)
{
    return twill_queue_push_until(queue, item, (twill_until){0, NULL});
}

TWILL__DEFINE twill_status twill_queue_try_push(twill_queue *queue, const void *item)
{
    twill_status status = twill__queue_check(queue, item);
    return status ? status
                  : twill__push(queue, item, 1, false, NULL, (twill_until){0, NULL}, false);
}

TWILL__DEFINE twill_status twill_queue_pop_until(twill_queue *queue, void *item, twill_until until)
{
    twill_status status = twill__queue_check(queue, item);
    if (status == TWILL_OK && queue->ring.cells && twill__quick_take_one(queue, item))
        return TWILL_OK;
    return status ? status : twill__pop(queue, item, 1, false, NULL, until, true);
}

TWILL__DEFINE twill_status twill_queue_pop(twill_queue *queue, void *item)
{
    return twill_queue_pop_until(queue, item, (twill_until){0, NULL});
}

TWILL__DEFINE twill_status twill_queue_try_pop(twill_queue *queue, void *item)
{
    twill_status status = twill__queue_check(queue, item);
    return status ? status : twill__pop(queue, item, 1, false, NULL, (twill_until){0, NULL}, false);
}

/* One of many, after the first was DROPPED: the caller has given up all of them, also one that is
   too big, or that comes after a close. */
static __attribute__((noinline)) void twill__push_or_drop(twill_queue *queue, const void *item,
                                                          size_t *pushed, twill_until until)
{
    twill_status status = twill__push(queue, item, 1, false, pushed, until, true);
    twill__queue_turn turn;
    twill__dropped dropped = {(const char *)item, 1, 0, TWILL_DROPPED};
    twill__kept kept;
    if (status == TWILL_OK || status == TWILL_DROPPED || status == TWILL_FORKED)
        return;
    twill__queue_enter(queue, &turn);
    dropped.number = queue->store.next++;
    queue->counts.accepted++;
    queue->counts.dropped++;
    if (twill__queue_drop(queue, &turn, &dropped, kept.item))
        twill__queue_exit(queue, &turn);
}

TWILL__DEFINE twill_status twill_queue_push_many_until(twill_queue *queue, const void *items,
                                                       size_t n, size_t *count, twill_until until)
{
    size_t pushed = 0;
    twill_status status = twill__queue_check(queue, items);
    if (status == TWILL_OK && n && (queue->bytes_of || queue->priority_of)) {
        /* each item has a key or a size of its own */
        for (size_t k = 0; k < n && status == TWILL_OK; k++)
            status = twill__push(queue, (const char *)items + k * queue->store.size, 1, false,
                                 &pushed, until, true);
        if (status == TWILL_DROPPED) /* the rest, likewise */
            for (size_t k = pushed + 1; k < n && twill__queue_here(queue); k++)
                twill__push_or_drop(queue, (const char *)items + k * queue->store.size, &pushed,
                                    until);
    } else if (status == TWILL_OK && n) {
        status = twill__push(queue, items, n, false, &pushed, until, true);
    }
    if (count)
        *count = pushed;
    return status;
}

TWILL__DEFINE twill_status twill_queue_push_bulk_until(twill_queue *queue, const void *items,
                                                       size_t n, twill_until until)
{
    twill_status status = twill__queue_check(queue, items);
    if (status != TWILL_OK || !n)
        return status;
    if (queue->bytes_of || queue->priority_of)
        return TWILL_INVALID;
    if (n > queue->store.capacity && n != 1) /* one is more than a rendezvous has room for */
        return TWILL_TOO_BIG;
    return twill__push(queue, items, n, true, NULL, until, true);
}

TWILL__DEFINE twill_status twill_queue_pop_many_until(twill_queue *queue, void *items, size_t max,
                                                      size_t *count, twill_until until)
{
    return twill_queue_pop_batch_until(queue, items, max, count, 0, until);
}

TWILL__DEFINE twill_status twill_queue_pop_batch_until(twill_queue *queue, void *items, size_t max,
                                                       size_t *count, twill_ns linger,
                                                       twill_until until)
{
    size_t popped = 0;
    twill_status status = max ? twill__queue_check(queue, items) : TWILL_INVALID;
    if (status == TWILL_OK)
        status = twill__pop(queue, items, max, false, &popped, until, true);
    if (status == TWILL_OK && popped < max && linger > 0) {
        twill_until fill = twill_within_or_cancelled(linger, until.cancel);
        if (twill__no_deadline(fill.deadline) ||
            (!twill__no_deadline(until.deadline) && until.deadline < fill.deadline))
            fill.deadline = until.deadline;
        /* its end says only that no more came */
        (void)twill__pop(queue, (char *)items + popped * queue->store.size, max - popped, true,
                         &popped, fill, true);
    }
    if (count)
        *count = popped;
    return status;
}

TWILL__DEFINE twill_status twill_queue_ready_until(twill_queue *queue, twill_until until)
{
    twill_status status = twill__queue_check(queue, queue);
    return status ? status : twill__queue_watch(queue, false, until);
}

TWILL__DEFINE twill_status twill_queue_close(twill_queue *queue)
{
    twill_status status = twill__queue_check(queue, queue);
    return status ? status : twill__queue_close(queue, TWILL_CLOSED, 0);
}

TWILL__DEFINE twill_status twill_queue_fail(twill_queue *queue, int code)
{
    twill_status status = twill__queue_check(queue, queue);
    return status ? status : twill__queue_close(queue, TWILL_FAILED, code);
}

TWILL__DEFINE int twill_queue_code(const twill_queue *queue)
{
    /* acquire: pairs with the release in twill__queue_close */
    if (!queue || atomic_load_explicit(&queue->closed, memory_order_acquire) != TWILL_FAILED)
        return 0;
    return atomic_load_explicit(&queue->code, memory_order_relaxed);
}

TWILL__DEFINE size_t twill_queue_clear(twill_queue *queue)
{
    twill__kept kept;
    if (twill__queue_check(queue, queue) != TWILL_OK)
        return 0;
    return twill__queue_clear(queue, kept.item);
}

TWILL__DEFINE twill_status twill_queue_attach(twill_queue *queue)
{
    twill__queue_turn turn;
    twill_status status = twill__queue_check(queue, queue);
    if (status != TWILL_OK)
        return status;
    twill__queue_enter(queue, &turn);
    if (twill__queue_closed(queue))
        status = TWILL_CLOSED;
    else if (queue->producers == UINT_MAX)
        status = TWILL_TOO_BIG;
    else
        queue->producers++;
    twill__queue_exit(queue, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_queue_detach(twill_queue *queue)
{
    twill__queue_turn turn;
    twill_status status = twill__queue_check(queue, queue);
    if (status != TWILL_OK)
        return status;
    twill__queue_enter(queue, &turn);
    if (!queue->producers)
        status = TWILL_INVALID;
    else if (--queue->producers == 0)
        twill__queue_end(queue, TWILL_CLOSED, 0);
    twill__queue_exit(queue, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_queue_task_done(twill_queue *queue)
{
    twill__queue_turn turn;
    twill_status status = twill__queue_check(queue, queue);
    if (status != TWILL_OK)
        return status;
    twill__queue_enter(queue, &turn);
    if (queue->finished == twill__queue_popped(queue))
        status = TWILL_INVALID;
    else
        queue->finished++;
    twill__queue_exit(queue, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_queue_join_until(twill_queue *queue, twill_until until)
{
    twill_status status = twill__queue_check(queue, queue);
    return status ? status : twill__queue_watch(queue, true, until);
}

TWILL__DEFINE twill_status twill_queue_join(twill_queue *queue)
{
    return twill_queue_join_until(queue, (twill_until){0, NULL});
}

TWILL__DEFINE size_t twill_queue_length(const twill_queue *queue)
{
    if (!queue)
        return 0;
    if (queue->ring.cells)
        return twill__ring_length(&queue->ring);
    /* a hint */
    return atomic_load_explicit(&queue->length, memory_order_relaxed);
}

TWILL__DEFINE bool twill_queue_is_closed(const twill_queue *queue)
{
    /* pairs with the release in twill__queue_end */
    return queue && atomic_load_explicit(&queue->closed, memory_order_acquire) != 0;
}

TWILL__DEFINE twill_status twill_queue_destroy(twill_queue *queue)
{
    twill_status status;
    if (!queue)
        return TWILL_OK;
    if (!twill__queue_here(queue))
        return TWILL_FORKED;
    status = twill__queue_desert(queue);
    if (status != TWILL_OK)
        return status;
    if (twill__queue_length(queue))
        (void)twill_queue_clear(queue);
    if (queue->memory)
        TWILL_FREE(queue->memory);
    return TWILL_OK;
}

TWILL__DEFINE void twill_queue_abandon(twill_queue *queue)
{
    if (queue && !twill__queue_here(queue) && queue->memory)
        TWILL_FREE(queue->memory);
}

static inline size_t twill__queue_waiting(const twill__queue_list *list)
{
    size_t count = 0;
    for (const twill__waiter *waiter = list->first; waiter; waiter = waiter->next)
        count++;
    return count;
}

TWILL__DEFINE void twill_queue_get_stats(twill_queue *queue, twill_queue_stats *out)
{
    twill__queue_turn turn;
    const twill__queue_counts *counts;
    if (!out)
        return;
    memset(out, 0, sizeof *out);
    if (twill__queue_check(queue, queue) != TWILL_OK)
        return;
    twill__queue_enter(queue, &turn);
    counts = &queue->counts;
    out->accepted = counts->accepted;
    out->popped = counts->popped;
    out->length = queue->store.length;
    out->peak = counts->peak;
    if (queue->ring.cells) {
        do { /* exit: nobody has taken a whole ring of items between the two */
            out->popped = twill__ring_popped(&queue->ring);
            out->accepted = twill__ring_pushed(&queue->ring);
        } while (out->accepted - out->popped > queue->ring.capacity);
        out->length = (size_t)(out->accepted - out->popped);
        out->popped -= counts->cleared + counts->dropped;
        /* relaxed: a figure */
        out->peak = (size_t)atomic_load_explicit(&queue->ring.peak, memory_order_relaxed);
    }
    out->dropped = counts->dropped;
    out->expired = counts->expired;
    out->cleared = counts->cleared;
    out->rejected = counts->rejected;
    out->push_waits = counts->push_waits;
    out->pop_waits = counts->pop_waits;
    out->wakes = counts->wakes;
    out->capacity = queue->store.capacity;
    out->bytes = queue->bytes;
    out->waiting_push = twill__queue_waiting(&queue->pushers);
    out->waiting_pop = twill__queue_waiting(&queue->poppers);
    out->push_wait_total = counts->push_wait_total;
    out->push_wait_max = counts->push_wait_max;
    out->pop_wait_total = counts->pop_wait_total;
    out->pop_wait_max = counts->pop_wait_max;
    out->age_total = counts->age_total;
    out->age_max = counts->age_max;
    twill__queue_exit(queue, &turn);
}

/* ---- select ---- */

enum { TWILL__SELECT_SMALL = 16 };

typedef struct twill__select {
    twill_queue_case *cases;
    twill__waiter *waiters; /* n == 0: the case is out */
    size_t n, start, chosen, live;
    bool inside, nap; /* nap: see twill__queue_naps */
    bool unable;      /* this thread cannot relieve a queue */
    bool many;        /* the waiters are to be freed */
    twill_status status;
    twill__node node;
    char *kept;
} twill__select;

static inline int twill__select_case(twill__select *select, size_t i, bool listing)
{
    twill_queue *queue = select->cases[i].queue;
    bool push = select->cases[i].push;
    twill__waiter *waiter = &select->waiters[i];
    twill__queue_turn turn;
    twill__dropped dropped = {NULL, 0, 0, TWILL_OK};
    int answer;
    waiter->shared = listing;
    if (!twill__queue_here(queue)) /* a callback has forked */
        return TWILL_FORKED;
    twill__queue_enter(queue, &turn);
    do { /* exit: each turn drops an item */
        answer = push ? twill__push_now(queue, &turn, waiter, select->kept, &dropped)
                      : twill__pop_now(queue, &turn, waiter, select->kept, &dropped);
        if (dropped.count && !twill__queue_drop(queue, &turn, &dropped, select->kept))
            return TWILL_FORKED;
    } while (answer == TWILL__AGAIN ||
             (!listing && (answer == TWILL_FULL || answer == TWILL_EMPTY) &&
              twill__queue_see(queue, &turn, waiter)));
    if (listing && (answer == TWILL_FULL || answer == TWILL_EMPTY)) {
        waiter->since = twill__clock_now();
        select->inside = select->inside || twill__queue_inside(queue);
        twill__enlist(queue, push ? &queue->pushers : &queue->poppers, waiter, false);
        if (push)
            queue->counts.push_waits++;
        else
            queue->counts.pop_waits++;
        twill__queue_settle(queue, &turn);
        select->nap = select->nap || twill__queue_on_its_way(queue, waiter) ||
                      /* the others have gone since we asked */
                      (push && queue->relief && !select->unable && !atomic_load(queue->others));
    }
    twill__queue_exit(queue, &turn);
    return answer;
}

/* Before a wait: where nobody else makes room, this thread does. True: look again. */
static inline bool twill__select_relieve(twill__select *select)
{
    for (size_t i = 0; i < select->n && !select->unable; i++) {
        twill_queue *queue = select->cases[i].queue;
        twill__queue_turn turn;
        bool inside;
        int relieved;
        if (!select->waiters[i].n || !select->cases[i].push || !queue->relief)
            continue;
        twill__queue_enter(queue, &turn);
        inside = twill__queue_inside(queue);
        twill__queue_exit(queue, &turn);
        if (inside)
            return false;
        relieved = queue->relief(queue->relief_data);
        if (relieved > 0)
            return true;
        select->unable = relieved < 0;
    }
    return false;
}

/* Tries each case, and (listing) gets in line where it fails. OK, DROPPED: *chosen; ELSEWHERE: a
   queue has answered meanwhile; else the answer when nothing is ready. */
static inline int twill__select_round(twill__select *select, bool listing)
{
    int answer = TWILL_CLOSED, first = -1;
    select->live = 0;
    for (size_t k = 0; k < select->n; k++) {
        size_t left = select->n - select->start, i = k < left ? select->start + k : k - left;
        twill_queue_case *at = &select->cases[i];
        if (!select->waiters[i].n) {
            if (at->status == TWILL_FAILED)
                answer = TWILL_FAILED;
            continue;
        }
        int now = twill__select_case(select, i, listing);
        if (now == TWILL__ELSEWHERE || now == TWILL__ANEW || now == TWILL_FORKED)
            return now;
        at->status = (twill_status)now;
        if (now == TWILL_OK || now == TWILL_DROPPED) {
            select->chosen = i;
            return now;
        }
        if (now == TWILL_CLOSED || now == TWILL_FAILED) {
            select->waiters[i].n = 0;
            if (now == TWILL_FAILED)
                answer = TWILL_FAILED;
            continue;
        }
        select->live++;
        if (first < 0)
            first = now;
    }
    return first < 0 ? answer : first;
}

/* Out of all lines; who has been granted is out of his already. */
static inline void twill__select_leave(twill__select *select)
{
    for (size_t i = 0; i < select->n; i++) {
        twill_queue *queue = select->cases[i].queue;
        twill__waiter *waiter = &select->waiters[i];
        twill__queue_turn turn;
        if (!waiter->listed || !twill__queue_here(queue))
            continue;
        twill__queue_enter(queue, &turn);
        twill__queue_waited(queue, waiter);
        twill__delist(queue, select->cases[i].push ? &queue->pushers : &queue->poppers, waiter);
        twill__queue_exit(queue, &turn);
    }
}

/* In line everywhere, and waits. OK, DROPPED: chosen. AGAIN: look again. */
static inline int twill__select_wait(twill__select *select, twill_until until)
{
    twill_status status = TWILL_OK;
    uint32_t word;
    int answer;
    twill__node_init(&select->node);
    select->nap = false;
    answer = twill__select_round(select, true);
    if (answer == TWILL_FORKED)
        return answer;
    if (answer == TWILL__ANEW) { /* ours: no queue may answer any more */
        twill__select_leave(select);
        return TWILL__AGAIN;
    }
    if (answer != TWILL__ELSEWHERE &&
        (!select->live || select->inside || answer == TWILL_OK || answer == TWILL_DROPPED)) {
        /* nobody may answer from here on. The exchange is won, or lost to a queue that answers */
        if (answer != TWILL_OK && answer != TWILL_DROPPED && select->live &&
            (atomic_fetch_or_explicit(&select->node.word, TWILL__LEAVING, memory_order_acq_rel) &
             TWILL__TAKEN))
            answer = TWILL__ELSEWHERE;
        else
            answer = answer == TWILL_OK || answer == TWILL_DROPPED || !select->live
                         ? answer
                         : (int)TWILL_DEADLOCK;
    } else if (answer != TWILL__ELSEWHERE) {
        status = twill__wait(&select->node, select->nap ? twill__queue_soon(until) : until);
        answer = TWILL__ELSEWHERE;
        /* pairs with the CAS in twill__own */
        if (status != TWILL_OK &&
            !(atomic_load_explicit(&select->node.word, memory_order_acquire) & TWILL__TAKEN))
            answer = status == TWILL_TIMEOUT && select->nap && !twill__expired(until.deadline)
                         ? (int)TWILL__AGAIN
                         : (int)status;
    }
    if (answer != TWILL__ELSEWHERE) {
        twill__select_leave(select);
        return answer;
    }
    twill__await(&select->node);
    word = atomic_load_explicit(&select->node.word, memory_order_acquire);
    twill__select_leave(select);
    if (word & TWILL__RETRY)
        return TWILL__AGAIN;
    select->chosen = (size_t)((twill__waiter *)select->node.value - select->waiters);
    select->cases[select->chosen].status = (twill_status)select->node.answer;
    if (select->node.answer == TWILL_OK)
        return TWILL_OK;
    select->waiters[select->chosen].n = 0; /* closed; the queue may be gone */
    return TWILL__AGAIN;
}

static inline twill_status twill__select_run(twill__select *select, twill_until until, bool wait)
{
    for (;;) { /* exit: chosen, all out, or over; else an item consumed, or another's progress */
        int answer = twill__select_round(select, false);
        twill_status over;
        if (answer == TWILL_OK || answer == TWILL_DROPPED || answer == TWILL_FORKED ||
            !select->live || !wait)
            return (twill_status)answer;
        over = twill__over(until);
        if (over != TWILL_OK)
            return over;
        if (twill__select_relieve(select))
            continue;
        answer = twill__select_wait(select, until);
        if (answer == TWILL_TIMEOUT || answer == TWILL_CANCELLED) {
            over = (twill_status)answer;
            answer = twill__select_round(select, false); /* what came while we left */
            if (answer != TWILL_OK && answer != TWILL_DROPPED && answer != TWILL_FORKED &&
                select->live)
                return twill_cancel_fired(until.cancel) ? TWILL_CANCELLED : over;
        }
        if (answer != TWILL__AGAIN)
            return (twill_status)answer;
    }
}

/* A drop callback has ended the thread: it leaves all lines; what a queue has given it meanwhile is
   in its case, where a thread that goes on would find it. */
static inline void twill__select_ended(void *select_)
{
    twill__select *select = (twill__select *)select_;
    if (atomic_fetch_or_explicit(&select->node.word, TWILL__LEAVING, memory_order_acq_rel) &
        TWILL__TAKEN)
        twill__await(&select->node);
    twill__select_leave(select);
    if (select->many)
        TWILL_FREE(select->waiters);
}

/* noinline: as twill__queue_call_drop */
static __attribute__((noinline)) void twill__select_guarded(twill__select *select,
                                                            twill_until until, bool wait)
{
    TWILL__GUARD_PUSH(twill__select_ended, select);
    select->status = twill__select_run(select, until, wait);
    TWILL__GUARD_POP(0);
}

static inline twill_status twill__select_check(const twill_queue_case *cases, size_t n,
                                               twill_select_order order)
{
    if (!cases || !n || (unsigned)order > TWILL_SELECT_IN_ORDER)
        return TWILL_INVALID;
    for (size_t i = 0; i < n; i++) {
        if (cases[i].queue && !cases[i].item)
            return TWILL_INVALID;
        if (cases[i].queue && !twill__queue_here(cases[i].queue))
            return TWILL_FORKED;
    }
    return TWILL_OK;
}

static inline twill_status twill__select_call(twill_queue_case *cases, size_t n,
                                              twill_select_order order, size_t *chosen,
                                              twill_until until, bool wait)
{
    twill__waiter few[TWILL__SELECT_SMALL];
    twill__kept kept;
    twill__select select;
    twill_status status = twill__select_check(cases, n, order);
    if (status != TWILL_OK)
        return status;
    memset(&select, 0, sizeof select);
    select.cases = cases;
    select.n = n;
    select.kept = kept.item;
    select.waiters = few;
    select.many = n > TWILL__SELECT_SMALL;
    if (select.many)
        select.waiters =
            n > SIZE_MAX / sizeof few[0] ? NULL : (twill__waiter *)TWILL_MALLOC(n * sizeof few[0]);
    if (!select.waiters)
        return TWILL_NO_MEMORY;
    if (order == TWILL_SELECT_FAIR)
        select.start = (size_t)(twill__ticks() * 0x9e3779b97f4a7c15u >> 33) % n;
    memset(select.waiters, 0, n * sizeof few[0]);
    for (size_t i = 0; i < n && status == TWILL_OK; i++) {
        twill__waiter *waiter = &select.waiters[i];
        cases[i].status = TWILL_CLOSED;
        if (!cases[i].queue)
            continue;
        waiter->node = &select.node;
        waiter->n = 1;
        if (cases[i].push) {
            waiter->from = (const char *)cases[i].item;
            status = twill__queue_weigh(cases[i].queue, cases[i].item, &waiter->cell);
        } else {
            waiter->to = (char *)cases[i].item;
        }
        select.chosen = i;
    }
    if (status == TWILL_OK) {
        twill__select_guarded(&select, until, wait);
        status = select.status;
    }
    if (chosen && (status == TWILL_OK || status == TWILL_DROPPED || status == TWILL_TOO_BIG))
        *chosen = select.chosen;
    if (select.many)
        TWILL_FREE(select.waiters);
    return status;
}

TWILL__DEFINE twill_status twill_queue_try_select(twill_queue_case *cases, size_t n,
                                                  twill_select_order order, size_t *chosen)
{
    return twill__select_call(cases, n, order, chosen, (twill_until){0, NULL}, false);
}

TWILL__DEFINE twill_status twill_queue_select_until(twill_queue_case *cases, size_t n,
                                                    twill_select_order order, size_t *chosen,
                                                    twill_until until)
{
    return twill__select_call(cases, n, order, chosen, until, true);
}
/* ---- one call ---- */
/* Producers and consumers are the workers of one call of the team (engine/run.h). Its unit is a
   role; an item is accounted for in the worker's slot under its accept number, so that limits,
   tokens and errors follow that number. */

typedef struct twill__pc_worker {
    _Atomic uint64_t owner; /* number of the thread that runs this worker's body, 0: none */
    twill_task *task;       /* of the body that runs; NULL: none */
    char *items;            /* batch of them */
    uint64_t *numbers;
    size_t at, count; /* in the batch */
    bool producing, relieving;
    size_t relieved; /* number of the item that a producer consumes */
} twill__pc_worker;

typedef struct twill__pc {
    const twill_produce_consume_options *options;
    twill_produce_fn *produce;
    twill_consume_fn *consume;
    twill_run run;
    twill_report inner;
    twill_queue *queue;
    twill__job *job;
    twill__call_table table;
    twill__pc_worker *workers;
    void *memory;
    unsigned producers, consumers;
    size_t batch;
    bool caller_runs;
    twill_status status;
    _Atomic uint32_t next_producer;
    _Atomic uint32_t consuming; /* how many; TWILL__PC_RELIEF: one is a producer, for one item */
    _Atomic uint32_t waiting;   /* for a place among them */
    /* who consumes, and threads of the call's own that are `promised`: they will, if nobody does.
       0: a producer that finds the queue full has to consume */
    _Atomic uint32_t others;
    _Atomic uint32_t promised;
    _Atomic uint32_t numbers; /* of helpers, not lost yet */
    _Atomic uint32_t ended;   /* by an error, a stop or run.until: what producers return is moot */
    _Atomic uint32_t failed;  /* a producer has: twill_status; who sets it writes the code */
    int code;
    twill_status cut; /* CANCELLED, TIMEOUT: run.until ended it */
} twill__pc;

#define TWILL__PC_RELIEF 0x80000000u

/* ---- endings ---- */

static inline void twill__pc_end(twill__pc *pc)
{
    atomic_store(&pc->ended, 1);
    (void)twill__queue_close(pc->queue, TWILL_CLOSED, 0);
}

/* Nothing is accepted any more; what was, may run, and everybody above is told. */
static inline void twill__pc_end_here(twill__pc *pc, bool stop)
{
    twill__queue_turn turn;
    size_t next;
    twill__pc_end(pc);
    twill__queue_enter(pc->queue, &turn);
    next = (size_t)twill__queue_accepted(pc->queue);
    twill__queue_exit(pc->queue, &turn);
    if (stop)
        twill__lower(&pc->job->stop_at, next);
    twill__lower(&pc->job->limit, next);
    twill__fire_from(pc->job, next);
}

static inline void twill__pc_producer_failed(twill__pc *pc, twill_status status, int code)
{
    twill__job *job = pc->job;
    uint32_t none = 0;
    size_t before, most = job->run->max_errors ? job->run->max_errors : 1;
    if (atomic_compare_exchange_strong(&pc->failed, &none, (uint32_t)status))
        pc->code = code; /* read after the join */
    if (job->policy == TWILL_ON_ERROR_COLLECT)
        return;
    if (job->policy == TWILL_ON_ERROR_LOWEST) {
        twill__pc_end_here(pc, false);
        return;
    }
    before = atomic_fetch_add(&job->failures, 1);
    if (before == 0)
        job->earliest = (twill_item_error){SIZE_MAX, status, code};
    if (before + 1 >= (job->policy == TWILL_ON_ERROR_FIRST ? 1 : most)) {
        twill__stop_all(job, TWILL_FAILED, true);
        twill__pc_end(pc);
    }
}

static inline void twill__pc_stop(const twill_task *task)
{
    twill__job *job = (twill__job *)task->private_;
    twill__pc *pc = (twill__pc *)job->data;
    if (task->worker < job->np && pc->workers[task->worker].producing &&
        !pc->workers[task->worker].relieving)
        twill__pc_end_here(pc, true);
    else
        twill__job_stop(task);
}

static inline bool twill__pc_over(twill__pc *pc)
{
    return twill__stopped(pc->job, pc->job->may_end ? twill__clock_now() : 0) ||
           atomic_load(&pc->job->limit) != SIZE_MAX;
}

/* So many of the others are gone. Whoever was blocked because of them looks again. */
static inline void twill__pc_gone(twill__pc *pc, uint32_t count)
{
    twill__queue_turn turn;
    if (!count || atomic_fetch_sub(&pc->others, count) != count)
        return;
    twill__queue_enter(pc->queue, &turn);
    for (twill__waiter *waiter = pc->queue->pushers.first; waiter; waiter = waiter->next)
        if (twill__own(waiter))
            twill__queue_retry(pc->queue, &turn, waiter);
    twill__queue_exit(pc->queue, &turn);
}

/* A helper consumes nothing: perhaps nobody else would notice that the call is over, or that no
   helper is left. */
static inline void twill__pc_missed(twill__job *job, twill__missed why)
{
    twill__pc *pc = (twill__pc *)job->data;
    uint32_t promised = atomic_load(&pc->promised);
    if (why == TWILL__MISSED_OVER) {
        twill__pc_end(pc);
        return;
    }
    if (why == TWILL__MISSED_ENDED) {
        while (promised && !atomic_compare_exchange_weak(&pc->promised, &promised, promised - 1)) {}
        twill__pc_gone(pc, promised > 0);
    }
    if (atomic_fetch_sub(&pc->numbers, 1) == 1)
        twill__pc_gone(pc, atomic_exchange(&pc->promised, 0));
}

/* A place among the consumers is free: 1, or 1 with TWILL__PC_RELIEF. seq_cst on both sides: who
   waits for it counts himself before he looks. */
static inline void twill__pc_left(twill__pc *pc, uint32_t place)
{
    atomic_fetch_sub(&pc->consuming, place);
    if (atomic_load(&pc->waiting))
        twill__wake(&pc->consuming, INT_MAX);
    twill__pc_gone(pc, 1);
}

/* ---- items ---- */

/* A popped item that nobody will consume: in the books it was cleared. */
static inline void twill__pc_spare(twill__pc *pc, void *item, uint64_t number)
{
    twill__queue_turn turn;
    twill_queue *queue = pc->queue;
    twill__queue_enter(queue, &turn);
    queue->counts.popped--; /* a ring derives it */
    queue->counts.cleared++;
    queue->gone++;
    twill__queue_exit(queue, &turn);
    if (queue->drop) {
        twill_task task = twill__queue_task(queue, (size_t)number);
        queue->drop(item, TWILL_CANCELLED, &task);
    }
}

static inline void twill__pc_item(twill__pc *pc, twill_task *task, void *item, uint64_t number)
{
    twill__job *job = pc->job;
    twill__slot *me = &job->slot[task->worker];
    size_t index = (size_t)number;
    bool stopped;
    int code;
    twill__set_begin(me, index);
    stopped = twill__stopped(job, job->may_end ? twill__clock_now() : 0);
    if (stopped) /* or producers could go on, and each item be spared, for ever */
        twill__pc_end(pc);
    /* seq_cst: see twill__set_begin */
    if (stopped || index >= atomic_load(&job->limit)) {
        twill__pc_spare(pc, item, number);
        return;
    }
    task->index = index;
    me->used = true;
    me->said = 0;
    me->inside = true;
    code = pc->consume(item, task);
    me->inside = false;
    if (!twill__queue_here(pc->queue)) /* forked: in the child nothing more is run, nor touched */
        return;
    twill__item_end(job, me, index, code);
    if (code && pc->options->dead_letter)
        pc->options->dead_letter(item, code, task);
    me->said = 0;
    if (twill__queue_here(pc->queue) && twill__pc_over(pc))
        twill__pc_end(pc);
}

static inline twill_status twill__pc_take(twill__pc *pc, twill__pc_worker *worker, size_t most,
                                          bool wait)
{
    twill__waiter waiter;
    twill_status status;
    worker->at = 0;
    if (pc->queue->ring.cells) {
        worker->count =
            twill__quick_take(pc->queue, worker->items, worker->numbers, most, pc->run.until, wait);
        if (worker->count)
            return TWILL_OK;
    }
    memset(&waiter, 0, sizeof waiter);
    waiter.to = worker->items;
    waiter.numbers = worker->numbers;
    waiter.n = most;
    status = pc->queue->drop ? twill__get_dropping(pc->queue, &waiter, pc->run.until, wait)
                             : twill__queue_get(pc->queue, &waiter, pc->run.until, wait, NULL);
    worker->count = waiter.done;
    return status;
}

static inline void twill__pc_batch(twill__pc *pc, twill__pc_worker *worker, twill_task *task)
{
    while (worker->at < worker->count && twill__queue_here(pc->queue)) {
        size_t k = worker->at++;
        twill__pc_item(pc, task, worker->items + k * pc->queue->store.size, worker->numbers[k]);
    }
}

/* ---- consumers ---- */

/* A callback has ended the thread. The engine counts its item as LOST. */
static inline void twill__pc_consumer_ended(void *worker_)
{
    twill__pc_worker *worker = (twill__pc_worker *)worker_;
    twill__job *job = (twill__job *)worker->task->private_;
    twill__pc *pc = (twill__pc *)job->data;
    if (job->policy != TWILL_ON_ERROR_COLLECT || worker->task->worker == 0)
        twill__pc_end(pc);
    while (worker->at < worker->count) {
        size_t k = worker->at++;
        twill__pc_spare(pc, worker->items + k * pc->queue->store.size, worker->numbers[k]);
    }
    worker->task = NULL;
    twill__pc_left(pc, 1);
}

/* noinline: as twill__queue_call_drop */
static __attribute__((noinline)) twill_status
twill__pc_consume_all(twill__pc *pc, twill__pc_worker *worker, twill_task *task)
{
    twill_status status = TWILL_OK;
    while (twill__queue_here(pc->queue) &&
           (status = twill__pc_take(pc, worker, pc->batch, true)) == TWILL_OK)
        twill__pc_batch(pc, worker, task);
    return status;
}

static inline void twill__pc_consume(twill__pc *pc, twill__pc_worker *worker, twill_task *task)
{
    twill_status status;
    twill__slot *me = &pc->job->slot[task->worker];
    TWILL__GUARD_PUSH(twill__pc_consumer_ended, worker);
    me->inside = false;
    status = twill__pc_consume_all(pc, worker, task);
    if (status == TWILL_CANCELLED || status == TWILL_TIMEOUT) {
        twill__stop_all(pc->job, status, true);
        twill__pc_end(pc);
    }
    TWILL__GUARD_POP(0);
    if (twill__queue_here(pc->queue))
        twill__pc_left(pc, 1);
}

/* A place among the consumers. If there is none because a producer has one for the moment, `wait`
   waits for that: else the place would stay empty when the producer goes. */
static inline bool twill__pc_may_consume(twill__pc *pc, bool wait)
{
    bool taken = false;
    atomic_fetch_add(&pc->waiting, 1);
    for (;;) { /* exit: taken, or none; a producer in relief ends with its item */
        uint32_t now = atomic_load(&pc->consuming);
        if ((now & ~TWILL__PC_RELIEF) < pc->consumers)
            taken = atomic_compare_exchange_weak(&pc->consuming, &now, now + 1);
        else if (wait && (now & TWILL__PC_RELIEF))
            twill__park(&pc->consuming, now, 0);
        else
            break;
        if (taken)
            break;
    }
    atomic_fetch_sub(&pc->waiting, 1);
    if (taken)
        atomic_fetch_add(&pc->others, 1);
    return taken;
}

/* A producer has consumed its item. With CALLER_RUNS that is no consumer's place. */
static inline void twill__pc_relieved(twill__pc *pc)
{
    if (pc->caller_runs)
        twill__pc_gone(pc, 1);
    else
        twill__pc_left(pc, 1 | TWILL__PC_RELIEF);
}

/* A push has found the queue full: with nobody to consume, the producer consumes one item. */
static inline int twill__pc_relief(void *pc_)
{
    twill__pc *pc = (twill__pc *)pc_;
    uint64_t thread = twill__thread_number();
    for (unsigned k = 0; k < pc->job->np; k++) {
        twill__pc_worker *worker = &pc->workers[k];
        twill_task task;
        bool taken;
        uint32_t none = 0;
        /* its own entry is the only one that this thread can take for its own */
        if (atomic_load_explicit(&pc->workers[k].owner, memory_order_relaxed) != thread)
            continue;
        if (!worker->producing || worker->relieving) /* a consumer has its batch in hand */
            return -1;
        if (!pc->caller_runs &&
            (atomic_load(&pc->others) ||
             !atomic_compare_exchange_strong(&pc->consuming, &none, 1 | TWILL__PC_RELIEF)))
            return 0;
        atomic_fetch_add(&pc->others, 1);
        task = *worker->task;
        taken = twill__pc_take(pc, worker, 1, false) == TWILL_OK;
        if (taken) {
            worker->relieving = true;
            worker->relieved = (size_t)worker->numbers[0];
            twill__pc_batch(pc, worker, &task);
            if (!twill__queue_here(pc->queue))
                return -1;
            worker->relieving = false;
            pc->job->slot[k].inside = false;
            twill__set_begin(&pc->job->slot[k], SIZE_MAX - 1);
        }
        twill__pc_relieved(pc);
        return taken;
    }
    return -1;
}

/* ---- producers ---- */

static inline void twill__pc_producer_ended(void *worker_)
{
    twill__pc_worker *worker = (twill__pc_worker *)worker_;
    twill__job *job = (twill__job *)worker->task->private_;
    twill__pc *pc = (twill__pc *)job->data;
    twill__slot *me = &job->slot[worker->task->worker];
    me->inside = false; /* the engine would take the producer's index for an item's */
    if (worker->relieving) {
        twill__item_failed(job, me, worker->relieved, worker->relieved, TWILL_LOST, 0);
        if (job->policy != TWILL_ON_ERROR_COLLECT)
            twill__pc_end(pc);
        twill__pc_relieved(pc);
    }
    twill__pc_producer_failed(pc, TWILL_LOST, 0);
    if (worker->task->worker == 0) /* the producers that wait for this thread will not come */
        twill__pc_end(pc);
    worker->task = NULL;
    worker->producing = false;
    (void)twill_queue_detach(pc->queue);
}

/* Runs the next producer; false: all have begun. */
static inline bool twill__pc_produce(twill__pc *pc, twill__pc_worker *worker, twill_task *task)
{
    uint32_t k = atomic_load(&pc->next_producer);
    twill__slot *me = &pc->job->slot[task->worker];
    int code;
    do
        if (k >= pc->producers)
            return false;
    while (!atomic_compare_exchange_weak(&pc->next_producer, &k, k + 1));
    if (!atomic_load(&pc->ended) && !twill__pc_over(pc)) {
        twill__set_begin(me, SIZE_MAX - 1); /* above all items */
        task->index = k;
        worker->producing = true;
        TWILL__GUARD_PUSH(twill__pc_producer_ended, worker);
        me->inside = false;
        code = pc->produce(pc->queue, task);
        TWILL__GUARD_POP(0);
        if (!twill__queue_here(pc->queue))
            return false;
        me->said = 0;
        worker->producing = false;
        if (code && !atomic_load(&pc->ended) &&
            !(code == (int)TWILL_CLOSED && twill_queue_is_closed(pc->queue)))
            twill__pc_producer_failed(pc, TWILL_FAILED, code);
    }
    if (twill__pc_over(pc))
        twill__pc_end(pc);
    (void)twill_queue_detach(pc->queue);
    return true;
}

/* ---- roles ---- */

static inline void twill__pc_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__pc *pc = (twill__pc *)job->data;
    twill__pc_worker *worker = &pc->workers[task->worker];
    bool caller = task->worker == 0;
    (void)begin;
    (void)end;
    job->slot[task->worker].from = SIZE_MAX;
    worker->task = task;
    /* read by this thread alone; other numbers differ */
    atomic_store_explicit(&worker->owner, twill__thread_number(), memory_order_relaxed);
    if (!caller && twill__queue_here(pc->queue) && twill__pc_may_consume(pc, false))
        twill__pc_consume(pc, worker, task);
    while (twill__queue_here(pc->queue) && twill__pc_produce(pc, worker, task)) {}
    /* in vain only beside consumers, who drain */
    if (twill__queue_here(pc->queue) && twill__pc_may_consume(pc, true))
        twill__pc_consume(pc, worker, task);
    worker->task = NULL;
    atomic_store_explicit(&worker->owner, 0, memory_order_relaxed);
}

static inline void twill__pc_steps(twill__job *job, void *data)
{
    twill__pc *pc = (twill__pc *)data;
    twill__pass pass;
    memset(&pass, 0, sizeof pass);
    pass.n = (size_t)pc->producers + pc->consumers;
    pass.body = twill__pc_body;
    pass.data = pc;
    pass.schedule = TWILL__DYNAMIC;
    pass.chunk = 1;
    pass.whole = pass.forced = true;
    pc->job = job;
    pc->table = *twill__job_table();
    pc->table.stop = twill__pc_stop;
    job->call.table = &pc->table;
    job->missed = twill__pc_missed;
    atomic_store(&pc->numbers, job->np - 1);
    if (((twill__call_record *)(void *)job)->has_own) { /* nobody else is here yet */
        atomic_store(&pc->promised, twill__team_threads(job->team));
        atomic_store(&pc->others, twill__team_threads(job->team));
    }
    twill__run_pass(job, &pass);
    /* all have left */
    if (atomic_load(&job->stop) != TWILL_FAILED)
        pc->cut = (twill_status)atomic_load(&job->stop);
}

/* ---- the call ---- */

static inline twill_status twill__pc_answer(const twill__pc *pc, const twill_queue_stats *stats,
                                            twill_report *report)
{
    uint32_t failed = atomic_load(&pc->failed);
    size_t bad = report->done + report->failed;
    twill_status inner = report->status;
    report->total = (size_t)stats->accepted;
    report->skipped = report->total - bad;
    if (inner >= TWILL_INVALID)
        return inner;
    if (report->first_error.status)
        return TWILL_FAILED;
    if (failed || twill__queue_closed(pc->queue) == TWILL_FAILED) {
        report->first_error.index = SIZE_MAX;
        report->first_error.status = failed ? (twill_status)failed : TWILL_FAILED;
        report->first_error.code = failed ? pc->code : twill_queue_code(pc->queue);
        return TWILL_FAILED;
    }
    if (!pc->job) /* over before it began */
        return inner;
    if (pc->cut && (report->skipped || atomic_load(&pc->ended) ||
                    atomic_load(&pc->next_producer) < pc->producers))
        return pc->cut;
    return TWILL_OK;
}

/* Also runs when a callback ends the calling thread. */
static inline void twill__pc_finish(void *pc_)
{
    twill__pc *pc = (twill__pc *)pc_;
    const twill_produce_consume_options *options = pc->options;
    twill_queue_stats stats;
    twill_report report = pc->inner;
    if (!twill__queue_here(pc->queue)) { /* forked in a callback: the call is the parent's */
        pc->status = TWILL_FORKED;
        twill_queue_abandon(pc->queue);
        TWILL_FREE(pc->memory);
        return;
    }
    (void)twill__queue_close(pc->queue, TWILL_CLOSED, 0);
    (void)twill_queue_clear(pc->queue);
    twill_queue_get_stats(pc->queue, &stats);
    pc->status = report.status = twill__pc_answer(pc, &stats, &report);
    (void)twill_queue_destroy(pc->queue);
    TWILL_FREE(pc->memory);
    if (options->queue_stats)
        *options->queue_stats = stats;
    if (options->run.report)
        *options->run.report = report;
}

static inline twill_status twill__pc_check(twill__pc *pc, size_t item_size)
{
    const twill_produce_consume_options *options = pc->options;
    const twill__job *outer = twill__thread()->job;
    pc->run = options->run;
    pc->run.report = &pc->inner;
    pc->producers = options->producers ? options->producers : 1;
    pc->batch = options->batch ? options->batch : 1;
    pc->caller_runs = options->queue.overflow == TWILL_OVERFLOW_CALLER_RUNS;
    if (!pc->produce || !pc->consume || !item_size || options->queue.producers ||
        options->run.statuses || options->run.codes)
        return TWILL_INVALID;
    if (twill__check_run(&pc->run) != TWILL_OK)
        return twill__check_run(&pc->run);
    pc->consumers = options->run.workers ? options->run.workers
                    : options->run.pool  ? twill__team_threads(options->run.pool->team)
                    : outer              ? outer->np
                                         : twill__cpus_hint();
    if (!pc->consumers) /* a lazy pool has no thread yet */
        pc->consumers = 1;
    if (pc->producers > TWILL__MAX_WORKERS - 1 ||
        pc->consumers > TWILL__MAX_WORKERS - pc->producers)
        return TWILL_TOO_BIG;
    pc->run.workers = pc->producers + pc->consumers;
    return TWILL_OK;
}

/* One block: the workers' records, numbers and items. */
static inline twill_status twill__pc_memory(twill__pc *pc, size_t item_size)
{
    size_t count = pc->run.workers, bytes = 0, numbers, items;
    char *at;
    (void)twill__queue_add(&bytes, count, sizeof(twill__pc_worker)); /* see TWILL__MAX_WORKERS */
    numbers = bytes;
    if (pc->batch > SIZE_MAX / 4 / count || pc->batch > SIZE_MAX / 4 / item_size ||
        !twill__queue_add(&bytes, count * pc->batch, sizeof(uint64_t)))
        return TWILL_TOO_BIG;
    items = bytes;
    if (!twill__queue_add(&bytes, count, (pc->batch * item_size + 15) / 16 * 16))
        return TWILL_TOO_BIG;
    at = (char *)TWILL_MALLOC(bytes);
    if (!at)
        return TWILL_NO_MEMORY;
    pc->memory = at;
    pc->workers = (twill__pc_worker *)(void *)at;
    memset(pc->workers, 0, count * sizeof *pc->workers);
    for (size_t k = 0; k < count; k++) {
        pc->workers[k].numbers = (uint64_t *)(void *)(at + numbers) + k * pc->batch;
        pc->workers[k].items = at + items + k * ((pc->batch * item_size + 15) / 16 * 16);
    }
    return TWILL_OK;
}

static inline twill_status twill__pc_queue(twill__pc *pc, size_t item_size)
{
    twill_queue_options options = pc->options->queue;
    twill_status status;
    if (pc->caller_runs)
        options.overflow = TWILL_OVERFLOW_BLOCK;
    if (!options.context)
        options.context = pc->run.context;
    options.producers = pc->producers;
    status = twill_queue_create(&pc->queue, item_size, &options);
    if (status != TWILL_OK)
        return status;
    pc->queue->relief = twill__pc_relief;
    pc->queue->relief_data = pc;
    pc->queue->others = &pc->others;
    status = twill__pc_memory(pc, item_size);
    if (status != TWILL_OK)
        (void)twill_queue_destroy(pc->queue);
    return status;
}

TWILL__DEFINE twill_status twill_produce_consume(size_t item_size, twill_produce_fn *produce,
                                                 twill_consume_fn *consume,
                                                 const twill_produce_consume_options *options)
{
    static const twill_produce_consume_options none;
    twill__pc pc;
    twill_status status;
    memset(&pc, 0, sizeof pc);
    pc.options = options ? options : &none;
    pc.produce = produce;
    pc.consume = consume;
    status = twill__pc_check(&pc, item_size);
    if (status == TWILL_OK)
        status = twill__pc_queue(&pc, item_size);
    if (status != TWILL_OK)
        return twill__refuse(&pc.options->run, 0, status);
    TWILL__GUARD_PUSH(twill__pc_finish, &pc);
    (void)twill__run_call(&pc.run, (size_t)pc.run.workers, true, twill__pc_steps, &pc);
    TWILL__GUARD_POP(1);
    return pc.status;
}
#endif
#endif

/* twill: resource_pool - a bounded set of costly things that threads borrow one at a time.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    Connections, handles, buffers, contexts: things that are costly to make, or that there may only
    be few of, and that one thread uses at a time. The pool makes them when they are needed, never
    more than max, lends each to one borrower, checks what comes back, and tells a leak, a double
    release and a deadlock by name.
WHEN NOT
    Only the number of calls at once is to be bounded: bulkhead (rate_limiter). One per thread for
    ever: worker_start of the pattern that has the threads.

EXAMPLE:
#include <stdio.h>
#include <stdlib.h>

#define TWILL_IMPLEMENTATION
#include "twill_resource_pool.h"

static int open_one(void **resource, const twill_task *task)
{
    (void)task;
    *resource = calloc(1, sizeof(int));                 // stands for a connection
    return *resource ? 0 : 1;                           // not 0: acquire answers FAILED
}

static void close_one(void *resource, twill_resource_end why, const twill_task *task)
{
    (void)why;
    (void)task;
    free(resource);
}

static int query(void *resource, const twill_task *task)
{
    int *count = resource;
    printf("query %d\n", ++*count);
    return *(int *)task->context;                       // not 0: FAILED, and given back anyway
}

int main(void)
{
    twill_resource_pool *pool;
    int code = 0;
    if (twill_resource_pool_create(&pool, &(twill_resource_pool_options){
            .max = 5, .create = open_one, .destroy = close_one }) != TWILL_OK)
        return 1;
    for (int k = 0; k < 3; k++)
        if (twill_with_resource(pool, query, &code, NULL) != TWILL_OK)
            return 1;
    return twill_resource_pool_destroy(pool) != TWILL_OK;
}
END OF EXAMPLE
OUTPUT:
query 1
query 2
query 3
END OF OUTPUT

OPTIONS (twill_resource_pool_options; NULL or zeroed: a fixed set of up to 8, given with `add`)
    max             resources at any moment, exact: idle, lent, and in any callback; 0: 8
    create          makes one, when nobody has given one back. NULL: a fixed set, given with `add`
    destroy         once for each that was created or added, but those detached. May be NULL
    validate        when one is borrowed again: not 0: it is destroyed, another is taken or made
    validate_after  only when it was idle for so long; 0: always
    reset           when one comes back: not 0: it is destroyed (release answers OK all the same)
    min_idle        kept ready by maintain; expiry by age leaves so many. max_idle: kept at most;
                    0: max
    max_idle_time, max_lifetime, max_uses    0: no limit. A lent one is never touched
    jitter_percent  each lifetime is shortened by up to so much, drawn at creation; 0: 10;
                    UINT_MAX: none. seed: of that; 0: from the clock
    max_creating    creations at once; 0: max. create_pause: after a failed one nobody creates
                    for so long: who waits is served by what comes back; 0: none
    fifo            false: the most recently used first (few stay warm, the rest expires); true: the
                    least recently used (all stay warm)
    barging         false: waiters in order of arrival; true: a newcomer may overtake them
    leases_stay     a promise: who acquires releases. Then DEADLOCK is found for plain leases, too
    leak_after      a lease that is held for longer is reported once, to on_leak, by maintain or by
                    who is about to wait; 0: never
    maintain_every  0: upkeep on use and in maintain. Else a thread called `name` does it; another
                    one, if a callback has ended it (if none can be started, nobody does)
    context         task->context of the callbacks. task->index: the slot. task->until, for create
                    and validate: what is left of the acquirer's wait

ANSWERS
    acquire         OK (also late, and with an expired deadline when one is there or can be made);
                    FAILED: create failed, lease.code; CLOSED; CANCELLED; TIMEOUT; EMPTY (try);
                    TOO_BIG (many: more than max); DEADLOCK: without deadline and token, and every
                    resource is with a thread that waits likewise, or in this thread's own hands
    release, discard, detach    OK; INVALID: empty, or another pool's; STALE: given back already
    One absolute deadline covers waiting, validating any number of stale ones, and creating. A
    callback is told by its task, never interrupted.
    INVALID, TOO_BIG, NO_MEMORY, NO_THREAD: create. FORKED: a pool of the parent process

THREADS      All functions by any thread; a lease may move to another one (but see leases_stay).
PROGRESS     Whatever frees capacity (a release, a discard, a failed creation, an expiry, a resize)
             serves the oldest waiter in the same moment. Callbacks run under no lock, and never
             delay who can have an idle resource.
ORDERING     All that was done to a resource comes before what its next borrower does.
OWNERSHIP    The pool's, from create or add to destroy or detach.
ALLOCATES    create: two blocks; resize up: one. Nothing else.
BLOCKS       acquire as it says; close and evict run `destroy` for the idle ones.
COSTS        An uncontended acquire or release: one compare-and-swap in a plain pool (max at most
             16, max_idle unset, no validate, reset, max_uses, nor an option that asks for times);
             else one lock round, and one reading of the clock if an option asks for times. On Linux
             a release in a plain pool that one thread alone uses for long is a store, unless leases
             move; then a call that needs the lock while one is out (a wait, stats) may take some us
             and interrupt the process's other threads, after 1024 lendings at the soonest. The
             first such pool of a process tells the kernel: some ms if threads run already. A
             waiter spins a moment, then sleeps; one wake each. In a plain pool he spins before he
             stands in line, too: the order of arrival is that of the line.
FORK         In a forked child all answers are FORKED; abandon frees the pool there. A callback that
             forks: nothing more is called in the child, and the call around it is FORKED.
PITFALLS     A copy of a lease that is kept for 2^32 lendings of its slot is not noticed. Oldest
             first keeps idle expiry from shrinking the pool under light load. A callback may call
             other pools; a wait on its own pool that only its own slot could serve is DEADLOCK.
             longjmp out of `use` is not supported. Nothing here may be called in a signal
             handler. */
#ifndef TWILL_RESOURCE_POOL_H
#define TWILL_RESOURCE_POOL_H

#include "base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct twill_resource_pool twill_resource_pool;

/* {0}: nothing held. A copy is the same lease, not a second one. */
typedef struct twill_lease {
    void *resource;
    twill_resource_pool *pool;
    uint32_t slot, generation; /* grows with every lending of the slot, and skips 0 */
    int code;                  /* create's own, when acquire answered FAILED */
} twill_lease;

typedef struct twill_lease_info {
    void *resource;
    const char *file; /* the borrower's place; NULL: not known */
    int line;
    twill_ns held; /* 0 when no option asks for times */
    size_t slot;
} twill_lease_info;

/* Why a resource is destroyed. */
typedef enum twill_resource_end {
    TWILL_RESOURCE_CLOSED = 1,
    TWILL_RESOURCE_IDLE,    /* max_idle_time */
    TWILL_RESOURCE_OLD,     /* max_lifetime */
    TWILL_RESOURCE_USED_UP, /* max_uses */
    TWILL_RESOURCE_INVALID, /* validate or reset said so */
    TWILL_RESOURCE_BROKEN,  /* discarded, or a callback ended its thread */
    TWILL_RESOURCE_EVICTED,
    TWILL_RESOURCE_SURPLUS, /* max_idle, or the pool has shrunk */
    TWILL_RESOURCE_END_COUNT
} twill_resource_end;

/* "TWILL_RESOURCE_BROKEN" and so on, for logs; static. "unknown" for other values. */
TWILL__DECL const char *twill_resource_end_name(twill_resource_end why);

typedef struct twill_resource_pool_options { /* see OPTIONS above */
    size_t max;
    size_t min_idle;
    size_t max_idle;
    int (*create)(void **resource, const twill_task *task);
    void (*destroy)(void *resource, twill_resource_end why, const twill_task *task);
    int (*validate)(void *resource, const twill_task *task);
    twill_ns validate_after;
    int (*reset)(void *resource, const twill_task *task);
    twill_ns max_idle_time, max_lifetime;
    unsigned jitter_percent;
    uint64_t seed;
    size_t max_uses;
    size_t max_creating;
    twill_ns create_pause;
    bool fifo;
    bool barging;
    bool leases_stay;
    twill_ns leak_after;
    void (*on_leak)(const twill_lease_info *info, const twill_task *task);
    twill_ns maintain_every;
    void *context;
    const char *name;
} twill_resource_pool_options;

/* TWILL_OK: *out is the pool, and no callback has run. Else *out is NULL: INVALID, TOO_BIG,
   NO_MEMORY, NO_THREAD (of maintain_every). */
TWILL__DECL twill_status twill_resource_pool_create(twill_resource_pool **out,
                                                    const twill_resource_pool_options *options);

/* Gives a resource to the pool, as of a fixed set. FULL: there are max already; CLOSED; the caller
   keeps it. */
TWILL__DECL twill_status twill_resource_pool_add(twill_resource_pool *pool, void *resource);

/* Borrows: for ever; without waiting for anybody (EMPTY); until. The macros note the borrower's
   place. OK: *lease is held. FAILED: create failed, lease->code. Else CLOSED, CANCELLED, TIMEOUT,
   DEADLOCK, and *lease is as before. *lease must be {0}, or given back. */
TWILL__DECL twill_status twill_resource_pool_acquire_at(twill_resource_pool *pool,
                                                        twill_lease *lease, twill_until until,
                                                        const char *file, int line);
TWILL__DECL twill_status twill_resource_pool_try_acquire_at(twill_resource_pool *pool,
                                                            twill_lease *lease, const char *file,
                                                            int line);
#define twill_resource_pool_acquire(pool, lease) \
    twill_resource_pool_acquire_at(pool, lease, twill_within(TWILL_FOREVER), __FILE__, __LINE__)
#define twill_resource_pool_try_acquire(pool, lease) \
    twill_resource_pool_try_acquire_at(pool, lease, __FILE__, __LINE__)
#define twill_resource_pool_acquire_until(pool, lease, until) \
    twill_resource_pool_acquire_at(pool, lease, until, __FILE__, __LINE__)

/* n at once, or none: no hold-and-wait, and nobody overtakes it. TOO_BIG: more than max. Not OK:
   all of leases are {0}, but for leases[0].code if create failed. */
TWILL__DECL twill_status twill_resource_pool_acquire_many_until(twill_resource_pool *pool,
                                                                twill_lease *leases, size_t n,
                                                                twill_until until);

/* Gives back; destroys (it is broken); takes it out of the pool for good. Empties *lease. INVALID:
   empty, or another pool's. STALE: given back already, by this lease or a copy. Refused: nothing
   changed, and whoever has the resource now is not disturbed. Also after close. */
TWILL__DECL twill_status twill_resource_pool_release(twill_resource_pool *pool, twill_lease *lease);
TWILL__DECL twill_status twill_resource_pool_discard(twill_resource_pool *pool, twill_lease *lease);
TWILL__DECL twill_status twill_resource_pool_detach(twill_resource_pool *pool, twill_lease *lease,
                                                    void **resource);

/* ---- one call ---- */

typedef int twill_resource_fn(void *resource, const twill_task *task);

typedef struct twill_with_resource_options {
    twill_until until;    /* over waiting, validating and creating; also task->until of `use` */
    twill_report *report; /* total 1 = done, failed (first_error.code) or skipped (none obtained) */
} twill_with_resource_options;

/* Borrows, calls `use`, gives back on every path. FAILED: `use` returned not 0, or create did (then
   the report says skipped). LOST in the report: `use` ended its thread; the resource is destroyed.
   task->index: the slot. */
TWILL__DECL twill_status twill_with_resource(twill_resource_pool *pool, twill_resource_fn *use,
                                             void *context,
                                             const twill_with_resource_options *options);

/* Inside `use`: destroy it afterwards instead of giving it back. Elsewhere: nothing. */
TWILL__DECL void twill_resource_pool_broken(const twill_task *task);

/* ---- upkeep and change ---- */

/* Ends what is expired, reports leaks, fills up to min_idle. FAILED: a creation failed, *code (may
   be NULL) is its code. TIMEOUT, CANCELLED: not filled up in time. CLOSED. Right after create: to
   prefill, and to fail at once. */
TWILL__DECL twill_status twill_resource_pool_maintain(twill_resource_pool *pool, int *code,
                                                      twill_until until);

/* Destroys the idle ones now, and when they come back the lent ones, and those whose creation has
   begun; returns how many now. */
TWILL__DECL size_t twill_resource_pool_evict(twill_resource_pool *pool);

/* Another max. Smaller: the surplus goes when it is idle, or comes back. INVALID: 0; TOO_BIG,
   NO_MEMORY, CLOSED: nothing changed. */
TWILL__DECL twill_status twill_resource_pool_resize(twill_resource_pool *pool, size_t max);

/* Who holds what: up to max infos; returns how many leases are out. */
TWILL__DECL size_t twill_resource_pool_leases(twill_resource_pool *pool, twill_lease_info *infos,
                                              size_t max);

/* ---- end ---- */

/* Who waits is told CLOSED, as later acquires are; idle resources are destroyed by this thread,
   lent ones when they come back. A second one: CLOSED, and nothing changed. */
TWILL__DECL twill_status twill_resource_pool_close(twill_resource_pool *pool);

/* After close: waits until nothing is out, and ends what is idle, since `destroy` has ended the
   thread that closed. INVALID before it; DEADLOCK inside a callback of the
   pool, or of twill_with_resource on it. */
TWILL__DECL twill_status twill_resource_pool_drain(twill_resource_pool *pool);
TWILL__DECL twill_status twill_resource_pool_drain_until(twill_resource_pool *pool,
                                                         twill_until until);

/* Closes, if nobody has, and frees. BUSY: leases are out, or callbacks run: nothing is freed, and
   the pool stays closed. Who waits inside is answered and waited for. NULL: TWILL_OK. */
TWILL__DECL twill_status twill_resource_pool_destroy(twill_resource_pool *pool);

/* In a forked child alone: frees the pool, and leaves the parent's resources alone. */
TWILL__DECL void twill_resource_pool_abandon(twill_resource_pool *pool);

/* total == idle + leased + (in callbacks, or held for a waiter) <= max (but after a resize);
   acquires == releases + discards + detached + leased. leased_peak: of a plain pool, while several
   come and go at once, as its borrowers saw it. use_...: only with an option that asks for
   times. */
typedef struct twill_resource_pool_stats {
    size_t total, idle, leased, creating, waiting, max, leased_peak, waiting_peak;
    uint64_t acquires, releases, discards, detached, waits, timeouts, cancelled;
    uint64_t created, create_failed, added, leaks, destroyed[TWILL_RESOURCE_END_COUNT];
    twill_ns wait_total, wait_max, use_total, use_max, create_total;
} twill_resource_pool_stats;
/* One moment's figures. NULL, or a parent process's pool: zeroes. */
TWILL__DECL void twill_resource_pool_get_stats(twill_resource_pool *pool,
                                               twill_resource_pool_stats *out);

#ifdef __cplusplus
}
#endif
#endif

#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__RESOURCE_POOL_IMPL
#define TWILL__RESOURCE_POOL_IMPL

#include "resource_pool/upkeep.h"

TWILL__DEFINE const char *twill_resource_end_name(twill_resource_end why)
{
    static const char *const names[TWILL_RESOURCE_END_COUNT - 1] = {
        "TWILL_RESOURCE_CLOSED",  "TWILL_RESOURCE_IDLE",    "TWILL_RESOURCE_OLD",
        "TWILL_RESOURCE_USED_UP", "TWILL_RESOURCE_INVALID", "TWILL_RESOURCE_BROKEN",
        "TWILL_RESOURCE_EVICTED", "TWILL_RESOURCE_SURPLUS"};
    return (unsigned)why - 1 < sizeof names / sizeof names[0] ? names[why - 1] : "unknown";
}

/* ---- create ---- */

static inline bool twill__resource_options_valid(const twill_resource_pool_options *options,
                                                 size_t max)
{
    if (options->validate_after < 0 || options->max_idle_time < 0 || options->max_lifetime < 0 ||
        options->create_pause < 0 || options->leak_after < 0 || options->maintain_every < 0)
        return false;
    if (!options->create && (options->min_idle || options->max_creating || options->create_pause))
        return false;
    return (options->jitter_percent <= 100 || options->jitter_percent == UINT_MAX) &&
           (options->validate || !options->validate_after) &&
           (options->leak_after || !options->on_leak) && options->min_idle <= max &&
           (!options->max_idle || options->max_idle >= options->min_idle);
}

/* The slots from `from` on are free. */
static inline void twill__resource_free_slots(struct twill_resource_pool *pool, uint32_t from)
{
    for (uint32_t k = pool->room; k-- > from;) {
        memset(&pool->slots[k], 0, sizeof pool->slots[k]);
        pool->slots[k].hotter = pool->free;
        pool->free = k;
    }
}

static inline void twill__resource_init(struct twill_resource_pool *pool,
                                        const twill_resource_pool_options *options, size_t max)
{
    memset(pool, 0, sizeof *pool);
    pool->options = *options;
    pool->max = max;
    pool->home = twill__home_here();
    pool->hot = pool->cold = pool->free = TWILL__RESOURCE_NONE;
    pool->random = twill__random_begin(options->seed, pool);
    if (!options->max_idle)
        pool->options.max_idle = SIZE_MAX; /* never above max */
    if (!options->max_creating)
        pool->options.max_creating = SIZE_MAX;
    if (!options->jitter_percent)
        pool->options.jitter_percent = 10;
    if (options->jitter_percent == UINT_MAX)
        pool->options.jitter_percent = 0;
    pool->timed = options->validate_after || options->max_idle_time || options->max_lifetime ||
                  options->leak_after || options->maintain_every;
    pool->checked =
        options->validate || options->max_idle_time || options->max_lifetime || options->max_uses;
    pool->examined =
        options->reset || options->max_idle_time || options->max_lifetime || options->max_uses;
    pool->plain = !pool->timed && !pool->checked && !pool->examined && max <= TWILL__DESK_SLOTS;
    pool->rested = TWILL__DESK_REST == 1;
    /* relaxed: nobody else has the pool yet */
    if (pool->plain && twill__fence_offered())
        atomic_store_explicit(&pool->desk.mode, TWILL__DESK_WARY, memory_order_relaxed);
}

TWILL__DEFINE twill_status twill_resource_pool_create(twill_resource_pool **out,
                                                      const twill_resource_pool_options *options)
{
    static const twill_resource_pool_options none;
    size_t max;
    twill_resource_pool *pool;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    if (!options)
        options = &none;
    max = options->max ? options->max : 8;
    if (!twill__resource_options_valid(options, max))
        return TWILL_INVALID;
    if (max >= UINT32_MAX || max > SIZE_MAX / 2 / sizeof(twill__resource_slot))
        return TWILL_TOO_BIG;
    pool = (twill_resource_pool *)TWILL_MALLOC(sizeof *pool);
    if (!pool)
        return TWILL_NO_MEMORY;
    twill__resource_init(pool, options, max);
    pool->slots = (twill__resource_slot *)TWILL_MALLOC(max * sizeof(twill__resource_slot));
    if (!pool->slots) {
        TWILL_FREE(pool);
        return TWILL_NO_MEMORY;
    }
    pool->room = (uint32_t)max;
    twill__resource_free_slots(pool, 0);
    if (options->maintain_every) {
        twill__lock(&pool->lock);
        pool->kept = twill__resource_start_keeper(pool);
        twill__unlock(&pool->lock);
    }
    if (pool->kept != (options->maintain_every != 0)) {
        TWILL_FREE(pool->slots);
        TWILL_FREE(pool);
        return TWILL_NO_THREAD;
    }
    *out = pool;
    return TWILL_OK;
}

/* Under the lock: as twill__resource_slot_new; also what who waits to create has in hand, and no
   resource is in yet: settle serves him. */
static inline uint32_t twill__resource_slot_to_add(struct twill_resource_pool *pool)
{
    if (pool->total == pool->max && pool->waiters.first)
        twill__resource_give_back(pool, (twill__resource_borrower *)pool->waiters.first->value);
    return twill__resource_slot_new(pool, twill__thread_number());
}

TWILL__DEFINE twill_status twill_resource_pool_add(twill_resource_pool *pool, void *resource)
{
    twill__resource_turn turn;
    twill_status status = TWILL_OK;
    twill__home home;
    uint32_t index;
    if (!pool)
        return TWILL_INVALID;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    home = pool->home;
    twill__resource_enter(pool, &turn);
    if (pool->closed) {
        status = TWILL_CLOSED;
    } else if ((index = twill__resource_slot_to_add(pool)) == TWILL__RESOURCE_NONE) {
        status = TWILL_FULL;
        twill__resource_settle(pool, &turn);
    } else {
        twill__resource_slot *slot = &pool->slots[index];
        slot->resource = resource;
        slot->there = true;
        slot->epoch = pool->epoch;
        twill__resource_live(pool, slot);
        pool->counts.added++;
        twill__resource_idle_in(pool, index);
        twill__resource_settle(pool, &turn);
    }
    twill__resource_leave(pool, &turn);
    return twill__resource_answered(home, status);
}

/* ---- acquire, release ---- */

/* With nothing idle at the desk, or no desk. */
static __attribute__((noinline)) twill_status
twill__resource_acquire_one(twill_resource_pool *pool, twill_lease *lease,
                            twill__resource_order order)
{
    twill__resource_glance glance = {NULL, 0, 0};
    twill_lease mine = {NULL, NULL, 0, 0, 0};
    twill_status status;
    int code = 0;
    if (!pool || !lease)
        return TWILL_INVALID;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    glance.pool = pool;
    if (!order.try_only && twill__resource_glance_for(&glance, order.until)) {
        twill__resource_desk_lend(
            pool, lease, glance.slot, glance.lending,
            twill__resource_desk_who(pool, twill__thread_number(), order.stays), order.file,
            order.line);
        return TWILL_OK;
    }
    order.leases = &mine;
    order.n = 1;
    status = twill__resource_acquire(pool, &order, &code);
    if (status == TWILL_OK)
        *lease = mine;
    else if (status == TWILL_FAILED)
        lease->code = code;
    return status;
}

static __attribute__((noinline)) twill_status
twill__resource_acquire_any(twill_resource_pool *pool, twill_lease *lease, twill_until until,
                            const char *file, int line)
{
    twill__resource_order order;
    if (twill__resource_desk_acquire(pool, lease, false, file, line))
        return TWILL_OK;
    order = (twill__resource_order){NULL, 1, until, false, false, file, line};
    return twill__resource_acquire_one(pool, lease, order);
}

TWILL__DEFINE twill_status twill_resource_pool_acquire_at(twill_resource_pool *pool,
                                                          twill_lease *lease, twill_until until,
                                                          const char *file, int line)
{
    if (twill__resource_desk_acquire_single(pool, lease, file, line))
        return TWILL_OK;
    return twill__resource_acquire_any(pool, lease, until, file, line);
}

TWILL__DEFINE twill_status twill_resource_pool_try_acquire_at(twill_resource_pool *pool,
                                                              twill_lease *lease, const char *file,
                                                              int line)
{
    twill__resource_order order;
    if (twill__resource_desk_acquire(pool, lease, false, file, line))
        return TWILL_OK;
    order = (twill__resource_order){NULL, 1, {0, NULL}, true, false, file, line};
    return twill__resource_acquire_one(pool, lease, order);
}

TWILL__DEFINE twill_status twill_resource_pool_acquire_many_until(twill_resource_pool *pool,
                                                                  twill_lease *leases, size_t n,
                                                                  twill_until until)
{
    twill__resource_order order = {leases, n, until, false, false, NULL, 0};
    twill_status status = TWILL_OK;
    int code = 0;
    if (!pool || (n && !leases))
        status = TWILL_INVALID;
    else if (!twill__resource_here(pool))
        status = TWILL_FORKED;
    else if (n)
        status = twill__resource_acquire(pool, &order, &code);
    if (status == TWILL_OK || !n || !leases)
        return status;
    memset(leases, 0, n * sizeof *leases);
    leases[0].code = code;
    return status;
}

static __attribute__((noinline)) twill_status
twill__resource_return_of(twill_resource_pool *pool, twill_lease *lease, int how, void **resource)
{
    if (!pool || !lease || lease->pool != pool)
        return TWILL_INVALID;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    return twill__resource_give(pool, lease, how, resource);
}

static __attribute__((noinline)) twill_status twill__resource_release_any(twill_resource_pool *pool,
                                                                          twill_lease *lease)
{
    twill_status status = twill__resource_desk_release(pool, lease, false);
    if (status != TWILL_EMPTY)
        return status;
    return twill__resource_return_of(pool, lease, TWILL__RESOURCE_GIVE_RELEASE, NULL);
}

TWILL__DEFINE twill_status twill_resource_pool_release(twill_resource_pool *pool,
                                                       twill_lease *lease)
{
    if (twill__resource_desk_release(pool, lease, true) == TWILL_OK)
        return TWILL_OK;
    return twill__resource_release_any(pool, lease);
}

TWILL__DEFINE twill_status twill_resource_pool_discard(twill_resource_pool *pool,
                                                       twill_lease *lease)
{
    return twill__resource_return_of(pool, lease, TWILL__RESOURCE_GIVE_DISCARD, NULL);
}

TWILL__DEFINE twill_status twill_resource_pool_detach(twill_resource_pool *pool, twill_lease *lease,
                                                      void **resource)
{
    if (!resource)
        return TWILL_INVALID;
    return twill__resource_return_of(pool, lease, TWILL__RESOURCE_GIVE_DETACH, resource);
}

/* ---- one call ---- */

typedef struct twill__resource_use { /* behind task->private_ of `use` */
    twill__call head;
    bool broken;
    twill_resource_pool *pool;
    twill_lease lease;
    twill_report *report;
    twill_ns begun;
} twill__resource_use;

static const twill__call_table *twill__resource_use_table(void)
{
    static const twill__call_table table = {NULL, NULL, NULL, NULL, NULL};
    return &table;
}

static inline void twill__resource_report(twill__resource_use *use, twill_status status, int code,
                                          bool used)
{
    twill_report *report = use->report;
    if (!report)
        return;
    memset(report, 0, sizeof *report);
    report->status = status;
    report->total = 1;
    report->done = status == TWILL_OK;
    report->failed = used && status != TWILL_OK;
    report->skipped = !used;
    report->workers_started = report->workers_used = 1;
    report->wall = twill__clock_now() - use->begun;
    if (status == TWILL_FAILED || status == TWILL_LOST) {
        report->first_error.status = status;
        report->first_error.code = code;
    }
}

/* `use` has ended its thread. */
static void twill__resource_use_lost(void *use_)
{
    twill__resource_use *use = (twill__resource_use *)use_;
    if (!use->lease.pool) /* `use` was over: given back already, and the pool may be gone */
        return;
    if (!twill__resource_here(use->pool))
        return;
    twill__resource_report(use, TWILL_LOST, 0, true);
    (void)twill_resource_pool_discard(use->pool, &use->lease);
}

static __attribute__((noinline)) twill_status twill__resource_use_run(twill__resource_use *record,
                                                                      twill_resource_fn *use,
                                                                      void *context,
                                                                      twill_until until)
{
    twill_task task = {record->lease.slot, context, UINT_MAX, 0, NULL, until, record};
    twill_status status = TWILL_LOST;
    TWILL__GUARD_PUSH(twill__resource_use_lost, record);
    int code = use(record->lease.resource, &task);
    status = twill__resource_answered(record->pool->home, code ? TWILL_FAILED : TWILL_OK);
    twill__resource_report(record, status, code, true);
    if (record->broken)
        (void)twill_resource_pool_discard(record->pool, &record->lease);
    else
        (void)twill_resource_pool_release(record->pool, &record->lease);
    TWILL__GUARD_POP(0);
    return status;
}

TWILL__DEFINE twill_status twill_with_resource(twill_resource_pool *pool, twill_resource_fn *use,
                                               void *context,
                                               const twill_with_resource_options *options)
{
    twill__resource_use record;
    twill__resource_order order = {NULL, 1, {0, NULL}, false, true, NULL, 0};
    twill_status status = TWILL_INVALID;
    memset(&record, 0, sizeof record);
    record.head.table = twill__resource_use_table();
    record.pool = pool;
    record.report = options ? options->report : NULL;
    record.begun = record.report ? twill__clock_now() : 0;
    if (options)
        order.until = options->until;
    if (use && twill__resource_desk_acquire(pool, &record.lease, true, NULL, 0))
        status = TWILL_OK;
    else if (use)
        status = twill__resource_acquire_one(pool, &record.lease, order);
    if (status != TWILL_OK) {
        twill__resource_report(&record, status, record.lease.code, false);
        return status;
    }
    return twill__resource_use_run(&record, use, context, order.until);
}

TWILL__DEFINE void twill_resource_pool_broken(const twill_task *task)
{
    if (task && task->private_ && twill__table_of(task) == twill__resource_use_table())
        ((twill__resource_use *)task->private_)->broken = true;
}

/* ---- upkeep and change ---- */

TWILL__DEFINE twill_status twill_resource_pool_maintain(twill_resource_pool *pool, int *code,
                                                        twill_until until)
{
    twill_status status;
    int first = 0;
    if (code)
        *code = 0;
    if (!pool)
        return TWILL_INVALID;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    status = twill__resource_maintain(pool, &first, until);
    if (code)
        *code = first;
    return status;
}

TWILL__DEFINE size_t twill_resource_pool_evict(twill_resource_pool *pool)
{
    twill__resource_turn turn;
    size_t ended = 0;
    if (!pool || !twill__resource_here(pool))
        return 0;
    twill__resource_enter(pool, &turn);
    pool->epoch++;
    pool->busy++;
    TWILL__GUARD_PUSH(twill__resource_not_busy, pool);
    ended = twill__resource_sweep(pool, 0, &turn);
    if (twill__resource_here(pool))
        twill__resource_exit(pool, &turn);
    TWILL__GUARD_POP(1);
    return ended;
}

/* `destroy` may end this thread; noinline: the caller's locals must not stand in the frame of a
   guard */
static __attribute__((noinline)) void
twill__resource_leave_behind(twill_resource_pool *pool, twill__resource_turn *turn, void *slots)
{
    TWILL__GUARD_PUSH(twill__guard_free, slots);
    twill__resource_leave(pool, turn);
    TWILL__GUARD_POP(1);
}

TWILL__DEFINE twill_status twill_resource_pool_resize(twill_resource_pool *pool, size_t max)
{
    twill__resource_turn turn;
    twill__resource_slot *slots = NULL, *old = NULL;
    twill__home home;
    uint32_t room = 0;
    twill_status status = TWILL_OK;
    if (!pool || !max)
        return TWILL_INVALID;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    if (max >= UINT32_MAX || max > SIZE_MAX / 2 / sizeof(twill__resource_slot))
        return TWILL_TOO_BIG;
    home = pool->home;
    twill__resource_enter(pool, &turn);
    if (max > pool->room) {
        pool->busy++;
        twill__resource_exit(pool, &turn);
        slots = (twill__resource_slot *)TWILL_MALLOC(max * sizeof *slots);
        room = (uint32_t)max;
        status = slots ? TWILL_OK : TWILL_NO_MEMORY;
        twill__resource_enter(pool, &turn);
        pool->busy--;
    }
    if (status == TWILL_OK && pool->closed)
        status = TWILL_CLOSED;
    old = slots;
    if (status == TWILL_OK) {
        if (slots && room > pool->room) {
            uint32_t from = pool->room;
            memcpy(slots, pool->slots, from * sizeof *slots);
            old = pool->slots;
            pool->slots = slots;
            pool->room = room;
            twill__resource_free_slots(pool, from);
            if (room > TWILL__DESK_SLOTS) /* no desk from now on: nobody looks there again */
                atomic_store_explicit(&pool->desk.full, false, memory_order_relaxed);
        }
        pool->max = max;
        twill__resource_settle(pool, &turn);
    }
    twill__resource_leave_behind(pool, &turn, old);
    return twill__resource_answered(home, status);
}

TWILL__DEFINE size_t twill_resource_pool_leases(twill_resource_pool *pool, twill_lease_info *infos,
                                                size_t max)
{
    twill__resource_turn turn;
    size_t out = 0;
    twill_ns now;
    if (!pool || !twill__resource_here(pool))
        return 0;
    now = twill__clock_now();
    twill__resource_enter(pool, &turn);
    for (uint32_t k = 0; k < pool->room; k++) {
        const twill__resource_slot *slot = &pool->slots[k];
        if (slot->state != TWILL__RESOURCE_LENT)
            continue;
        if (infos && out < max) {
            twill_ns held = slot->lent_at && now > slot->lent_at ? now - slot->lent_at : 0;
            infos[out] = (twill_lease_info){slot->resource, slot->file, slot->line, held, k};
            if (slot->signed_)
                twill__desk_place(&pool->desk, k, (uint32_t)slot->lendings, &infos[out]);
        }
        out++;
    }
    twill__resource_exit(pool, &turn);
    return out;
}

/* ---- end ---- */

/* With the lock, which it gives back. */
static inline void twill__resource_shut(twill_resource_pool *pool, twill__resource_turn *turn)
{
    twill__node *node = pool->waiters.first;
    pool->closed = true;
    while (node) { /* exit: who leaves, or looks again, is passed; the others are answered */
        twill__resource_borrower *borrower = (twill__resource_borrower *)node->value;
        node = node->next;
        twill__resource_give_back(pool, borrower);
        if (!borrower->retry)
            (void)twill__resource_answer(pool, borrower, TWILL_CLOSED, turn);
    }
    twill__resource_leave(pool, turn);
}

TWILL__DEFINE twill_status twill_resource_pool_close(twill_resource_pool *pool)
{
    twill__resource_turn turn;
    twill__home home;
    if (!pool)
        return TWILL_INVALID;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    home = pool->home;
    twill__resource_enter(pool, &turn);
    if (pool->closed) {
        twill__resource_exit(pool, &turn);
        return TWILL_CLOSED;
    }
    twill__resource_shut(pool, &turn);
    return twill__resource_answered(home, TWILL_OK);
}

/* With the lock of a closed pool, which it holds at the end: what is idle ends, since `destroy` has
   ended the thread that was to do it. False: this is a child, and there is no lock to hold. */
static inline bool twill__resource_end_rest(twill_resource_pool *pool, twill__resource_turn *turn)
{
    if (!pool->idle || pool->busy) /* busy: who is at it ends them, or tells who waits for it */
        return true;
    pool->busy++;
    TWILL__GUARD_PUSH(twill__resource_not_busy, pool);
    twill__resource_leave(pool, turn);
    TWILL__GUARD_POP(0);
    if (!twill__resource_here(pool))
        return false;
    twill__resource_enter(pool, turn);
    pool->busy--;
    return true;
}

/* Waits until nothing is left, or (EMPTY) until what is idle is left to this one, the heir. */
static inline twill_status twill__resource_drained(twill_resource_pool *pool, twill_until until,
                                                   bool heir)
{
    twill__resource_turn turn;
    twill_status status = TWILL_OK;
    twill__node node;
    twill__resource_enter(pool, &turn);
    pool->busy -= heir;
    if (pool->closed && !twill__resource_end_rest(pool, &turn))
        return TWILL_FORKED;
    if (!pool->closed) {
        status = TWILL_INVALID;
    } else if (pool->total) {
        size_t held = twill__resource_mark(pool, twill__thread_number(), false);
        status = held ? TWILL_DEADLOCK : TWILL_TIMEOUT;
    }
    if (status != TWILL_TIMEOUT) {
        twill__resource_exit(pool, &turn);
        return status;
    }
    twill__node_init(&node);
    twill__list_append(&pool->drainers, &node);
    twill__resource_exit(pool, &turn);
    status = twill__wait(&node, until);
    if (status == TWILL_OK && node.answer == TWILL_OK)
        return TWILL_OK; /* the pool may be gone */
    if (status == TWILL_OK)
        return TWILL_EMPTY;
    twill__resource_enter(pool, &turn);
    twill__list_remove(&pool->drainers, &node);
    twill__resource_exit(pool, &turn);
    return status;
}

TWILL__DEFINE twill_status twill_resource_pool_drain_until(twill_resource_pool *pool,
                                                           twill_until until)
{
    twill_status status;
    if (!pool)
        return TWILL_INVALID;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    status = twill__resource_drained(pool, until, false);
    while (status == TWILL_EMPTY) /* exit: each turn ends what a close has left, or waits */
        status = twill__resource_drained(pool, until, true);
    return status;
}

TWILL__DEFINE twill_status twill_resource_pool_drain(twill_resource_pool *pool)
{
    return twill_resource_pool_drain_until(pool, (twill_until){0, NULL});
}

TWILL__DEFINE twill_status twill_resource_pool_destroy(twill_resource_pool *pool)
{
    twill__resource_turn turn;
    twill__node node;
    if (!pool)
        return TWILL_OK;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    twill__resource_enter(pool, &turn);
    if (!pool->closed) {
        twill__resource_shut(pool, &turn);
        if (!twill__resource_here(pool))
            return TWILL_FORKED;
        twill__resource_enter(pool, &turn);
    } else if (!twill__resource_end_rest(pool, &turn)) {
        return TWILL_FORKED;
    }
    /* relaxed: only the keeper itself has this number */
    if (atomic_load_explicit(&pool->keeper_number, memory_order_relaxed) ==
        twill__thread_number()) {
        twill__resource_exit(pool, &turn);
        return TWILL_BUSY;
    }
    twill__resource_exit(pool, &turn);
    twill__resource_stop_keeper(pool);
    twill__resource_enter(pool, &turn);
    if (pool->total || pool->busy) {
        twill__resource_exit(pool, &turn);
        return TWILL_BUSY;
    }
    if (!twill__resource_deserted(pool)) {
        twill__node_init(&node);
        pool->destroyer = &node;
        twill__resource_exit(pool, &turn);
        twill__await(&node);
        twill__resource_enter(pool, &turn); /* whoever told us has left the section now */
    }
    twill__unlock(&pool->lock);
    TWILL_FREE(pool->slots);
    TWILL_FREE(pool);
    return TWILL_OK;
}

TWILL__DEFINE void twill_resource_pool_abandon(twill_resource_pool *pool)
{
    if (!pool || twill__resource_here(pool))
        return;
    TWILL_FREE(pool->slots);
    TWILL_FREE(pool);
}

TWILL__DEFINE void twill_resource_pool_get_stats(twill_resource_pool *pool,
                                                 twill_resource_pool_stats *out)
{
    twill__resource_turn turn;
    if (!out)
        return;
    memset(out, 0, sizeof *out);
    if (!pool || !twill__resource_here(pool))
        return;
    twill__resource_enter(pool, &turn);
    *out = pool->counts;
    out->total = pool->total;
    out->idle = pool->idle;
    out->leased = pool->leased;
    out->creating = pool->creating;
    out->max = pool->max;
    twill__resource_exit(pool, &turn);
}

#endif
#endif

/* borrow.h: how a slot is lent and comes back, with the callbacks on the way. No callback runs
   under the lock; the slot that it is about is TAKEN meanwhile. One may fork, and return in the
   child, too: another thread of the parent's may have had the lock, so nothing of the pool is
   touched there, nothing more is called, and the call around the callback says FORKED. */
#ifndef TWILL__RESOURCE_BORROW_H
#define TWILL__RESOURCE_BORROW_H

#include "resource_pool/slots.h"

/* ---- the end of a resource ---- */

typedef struct twill__resource_ending {
    struct twill_resource_pool *pool;
    uint32_t slot;
    twill_resource_end why;
    bool keep; /* the slot stays TAKEN */
} twill__resource_ending;

/* After the callback, also after one that has ended its thread. */
static void twill__resource_ended(void *ending_)
{
    twill__resource_ending *ending = (twill__resource_ending *)ending_;
    struct twill_resource_pool *pool = ending->pool;
    twill__resource_turn turn;
    if (!twill__resource_here(pool))
        return;
    twill__resource_enter(pool, &turn);
    pool->counts.destroyed[ending->why]++;
    pool->slots[ending->slot].there = false;
    if (!ending->keep) {
        twill__resource_slot_free(pool, ending->slot);
        twill__resource_settle(pool, &turn);
    }
    twill__resource_exit(pool, &turn);
}

/* The answer of a call that may have run callbacks, and after which the pool may be gone. */
static inline twill_status twill__resource_answered(twill__home home, twill_status status)
{
    return twill__at_home(home) ? status : TWILL_FORKED;
}

/* Destroys the resource of a TAKEN slot, and frees the slot unless it is to be kept. If not, the
   pool may be gone after it. */
static inline void twill__resource_destroy_one(struct twill_resource_pool *pool, uint32_t slot,
                                               void *resource, int why, bool keep)
{
    twill__resource_ending ending = {pool, slot, (twill_resource_end)why, keep};
    twill_task task = twill__resource_task(pool, slot, (twill_until){0, NULL});
    TWILL__GUARD_PUSH(twill__resource_ended, &ending);
    if (pool->options.destroy)
        pool->options.destroy(resource, ending.why, &task);
    TWILL__GUARD_POP(1);
}

/* Under the lock: one who waits for the end goes on with it; the pool stays until he is there. */
static inline void twill__resource_tell_heir(struct twill_resource_pool *pool,
                                             twill__resource_turn *turn)
{
    twill__node *node = pool->drainers.first;
    while (node && !pool->busy) { /* exit: told; one that leaves is put at the end once */
        twill__node *next = node->next;
        pool->busy += twill__wakes_grant(&turn->wakes, &pool->drainers, node, TWILL_EMPTY);
        node = next;
    }
}

static void twill__resource_not_busy(void *pool_)
{
    struct twill_resource_pool *pool = (struct twill_resource_pool *)pool_;
    twill__resource_turn turn;
    if (!twill__resource_here(pool))
        return;
    twill__resource_enter(pool, &turn);
    pool->busy--;
    if (pool->closed && pool->idle && !pool->busy) /* `destroy` has ended its thread */
        twill__resource_tell_heir(pool, &turn);
    twill__resource_exit(pool, &turn);
}

/* Under the lock: an idle resource that is not to stay, TAKEN for this thread; NO_SLOT: none.
   `expired`: also for its age. */
static inline uint32_t twill__resource_pick(struct twill_resource_pool *pool, bool expired,
                                            int *why, void **resource)
{
    uint32_t index = pool->cold;
    *why = 0;
    if (index == TWILL__RESOURCE_NONE)
        return index;
    if (pool->closed)
        *why = TWILL_RESOURCE_CLOSED;
    else if (pool->total > pool->max || pool->idle > pool->options.max_idle)
        *why = TWILL_RESOURCE_SURPLUS;
    else if (expired && pool->checked && pool->idle > pool->options.min_idle)
        *why = twill__resource_slot_verdict(pool, &pool->slots[index],
                                            pool->timed ? twill__clock_now() : 0);
    if (!*why)
        return TWILL__RESOURCE_NONE;
    *resource = pool->slots[index].resource;
    twill__resource_slot_take(pool, index, twill__thread_number());
    return index;
}

typedef struct twill__resource_shed { /* an idle resource that is not to stay */
    uint32_t slot;
    int why;
    void *resource;
} twill__resource_shed;

/* With the lock, which it gives back: ends this one, and all others that are not to stay. */
static __attribute__((noinline)) void twill__resource_end_idle(struct twill_resource_pool *pool,
                                                               twill__resource_shed *shed,
                                                               twill__resource_turn *turn)
{
    pool->busy++; /* the pool stays */
    TWILL__GUARD_PUSH(twill__resource_not_busy, pool);
    while (shed->slot != TWILL__RESOURCE_NONE) { /* exit: each turn takes one; a fork */
        twill__resource_exit(pool, turn);
        twill__resource_destroy_one(pool, shed->slot, shed->resource, shed->why, false);
        if (!twill__resource_here(pool))
            break;
        twill__resource_enter(pool, turn);
        shed->slot = twill__resource_pick(pool, false, &shed->why, &shed->resource);
    }
    if (shed->slot == TWILL__RESOURCE_NONE)
        twill__resource_exit(pool, turn);
    TWILL__GUARD_POP(1);
}

/* With the lock, which it gives back: the way out of every call that may have freed something. Ends
   all that is not to stay; but of those that are only expired, one: upkeep on use stays cheap. */
static inline void twill__resource_leave(struct twill_resource_pool *pool,
                                         twill__resource_turn *turn)
{
    twill__resource_shed shed = {TWILL__RESOURCE_NONE, 0, NULL};
    shed.slot = twill__resource_pick(pool, true, &shed.why, &shed.resource);
    if (shed.slot == TWILL__RESOURCE_NONE)
        twill__resource_exit(pool, turn);
    else
        twill__resource_end_idle(pool, &shed, turn);
}

/* ---- leaks ---- */

/* Tells of each lease that is held for too long, once. Called without the lock, and `busy`. */
static inline void twill__resource_leaks(struct twill_resource_pool *pool)
{
    twill__resource_turn turn;
    twill_lease_info info = {NULL, NULL, 0, 0, 0};
    uint32_t k = 0;
    bool found = pool->options.leak_after != 0;
    while (found && twill__resource_here(pool)) { /* exit: every slot has been looked at; a fork */
        twill_ns now = twill__clock_now();
        found = false;
        twill__resource_enter(pool, &turn);
        for (; k < pool->room && !found; k++) {
            twill__resource_slot *slot = &pool->slots[k];
            if (slot->state != TWILL__RESOURCE_LENT || slot->reported ||
                now - slot->lent_at < pool->options.leak_after)
                continue;
            slot->reported = found = true;
            pool->counts.leaks++;
            info =
                (twill_lease_info){slot->resource, slot->file, slot->line, now - slot->lent_at, k};
        }
        twill__resource_exit(pool, &turn);
        if (found && pool->options.on_leak) {
            twill_task task = twill__resource_task(pool, info.slot, (twill_until){0, NULL});
            pool->options.on_leak(&info, &task);
        }
    }
}

/* The same by somebody who is about to wait, with the lock, which it gives back meanwhile. False:
   this is a child, and there is no lock to hold. */
static inline bool twill__resource_leaks_waiting(struct twill_resource_pool *pool,
                                                 const twill__resource_borrower *borrower,
                                                 twill__resource_turn *turn)
{
    if (!pool->options.leak_after)
        return true;
    for (size_t k = 0; k < borrower->got; k++)
        pool->slots[borrower->leases[k].slot].stuck = false; /* not yet */
    pool->busy++;
    twill__resource_exit(pool, turn);
    TWILL__GUARD_PUSH(twill__resource_not_busy, pool);
    twill__resource_leaks(pool);
    TWILL__GUARD_POP(0);
    if (!twill__resource_here(pool))
        return false;
    twill__resource_enter(pool, turn);
    pool->busy--;
    return true;
}

/* ---- to wait ---- */

/* Under the lock: may this borrower go on, or what is the answer? EMPTY: it has to wait. `front`:
   it comes before all who wait. Only who is first of all waits with something in his hands: else
   two that want several could wait for one another. */
static inline twill_status twill__resource_try(struct twill_resource_pool *pool,
                                               twill__resource_borrower *borrower, bool front,
                                               twill__resource_turn *turn)
{
    twill__node *head = pool->waiters.first;
    twill_status status = TWILL_EMPTY;
    if (pool->closed)
        return TWILL_CLOSED;
    if (borrower->n > pool->max)
        return TWILL_TOO_BIG;
    if (head && !front && !pool->options.barging) {
        if (borrower->got) { /* while this one told of leaks, another has come first */
            twill__resource_give_back(pool, borrower);
            twill__resource_settle(pool, turn);
        }
        return TWILL_EMPTY;
    }
    if (head && front)
        twill__resource_give_back(pool, (twill__resource_borrower *)head->value);
    if (twill__resource_ready(pool, borrower))
        status = TWILL_OK;
    else if (head && !front)
        twill__resource_give_back(pool, borrower);
    if (head && (status == TWILL_OK || !front))
        twill__resource_settle(pool, turn);
    return status;
}

/* Under the lock, about to wait for ever: would it be for ever? Else what it holds is marked. */
static inline bool twill__resource_circle(struct twill_resource_pool *pool,
                                          const twill__resource_borrower *borrower)
{
    size_t held = twill__resource_mark(pool, borrower->thread, true);
    twill__resource_mark_hand(pool, borrower);
    if (!held || (held - borrower->got + borrower->n <= pool->max && !twill__resource_stuck(pool)))
        return false;
    (void)twill__resource_mark(pool, borrower->thread, false);
    return true;
}

/* Under the lock: into the list, where it stands until it is answered or leaves. Returns how long
   it may sleep. */
static inline twill_ns twill__resource_enlist(struct twill_resource_pool *pool,
                                              twill__resource_borrower *borrower, twill_ns deadline,
                                              bool front)
{
    /* it lacks nothing but the right to create, and a pause is the reason */
    bool paused = borrower->got == borrower->n && pool->not_before &&
                  pool->creating < pool->options.max_creating;
    twill__node_init(&borrower->node);
    borrower->node.value = borrower;
    borrower->retry = false;
    borrower->wakes_at = paused ? pool->not_before : 0;
    if (front)
        twill__resource_prepend(&pool->waiters, &borrower->node);
    else
        twill__list_append(&pool->waiters, &borrower->node);
    return paused ? twill__nearer(deadline, pool->not_before) : deadline;
}

/* With the lock. OK: all that the borrower needs is in hand, and the lock is held. Else nothing is
   in hand, and the lock is not held. */
static inline twill_status twill__resource_wait(struct twill_resource_pool *pool,
                                                twill__resource_borrower *borrower,
                                                twill_until until, bool front,
                                                twill__resource_turn *turn)
{
    twill_status status;
    bool listed = false; /* counted among those who wait */
    for (;;) {           /* exit: served, answered, the deadline or the token */
        twill_ns deadline;
        status = twill__resource_try(pool, borrower, front, turn);
        if (status == TWILL_EMPTY && !listed) {
            if (!twill__resource_leaks_waiting(pool, borrower, turn))
                return TWILL_FORKED;
            status = twill__resource_try(pool, borrower, front, turn);
        }
        if (status == TWILL_EMPTY && borrower->for_ever && twill__resource_circle(pool, borrower))
            status = TWILL_DEADLOCK;
        if (status != TWILL_EMPTY)
            break;
        if (!listed) {
            listed = true;
            borrower->since = twill__clock_now();
            pool->counts.waits++;
            if (++pool->counts.waiting > pool->counts.waiting_peak)
                pool->counts.waiting_peak = pool->counts.waiting;
        }
        deadline = twill__resource_enlist(pool, borrower, until.deadline, front);
        twill__resource_exit(pool, turn);
        status = twill__wait_sooner(&borrower->node, deadline, until);
        if (status == TWILL_OK && !borrower->retry) {
            status = (twill_status)borrower->node.answer;
            if (status != TWILL_OK)
                return status; /* the pool may be gone */
            twill__resource_enter(pool, turn);
            listed = false; /* who served it has counted */
            break;
        }
        twill__resource_enter(pool, turn);
        twill__list_remove(&pool->waiters, &borrower->node);
        front = true; /* it keeps its place */
        if (!pool->closed && (status == TWILL_CANCELLED || status == TWILL_TIMEOUT))
            break;
    }
    if (borrower->for_ever)
        (void)twill__resource_mark(pool, borrower->thread, false);
    if (listed)
        twill__resource_waited(pool, borrower->since);
    if (status == TWILL_OK)
        return TWILL_OK;
    pool->counts.timeouts += status == TWILL_TIMEOUT;
    pool->counts.cancelled += status == TWILL_CANCELLED;
    twill__resource_give_back(pool, borrower);
    twill__resource_settle(pool, turn);
    twill__resource_leave(pool, turn);
    return status;
}

/* ---- to make what is in hand fit to be lent ---- */

typedef struct twill__resource_visit { /* an acquire, on its thread's stack */
    struct twill_resource_pool *pool;
    twill__resource_borrower borrower;
    twill_until until;
    bool try_only;
    int doing; /* which callback runs now */
    uint32_t slot;
    void *resource; /* that it is about */
} twill__resource_visit;
enum { TWILL__DOING_NOTHING = 0, TWILL__DOING_VALIDATE, TWILL__DOING_CREATE };

/* Under the lock: a creation has failed. */
static inline void twill__resource_failed(struct twill_resource_pool *pool, int code)
{
    pool->counts.create_failed++;
    if (pool->options.create_pause) {
        pool->not_before = twill__instant_after(twill__clock_now(), pool->options.create_pause);
        pool->last_code = code;
    }
}

/* A callback has ended the thread. */
static void twill__resource_quit(void *visit_)
{
    twill__resource_visit *visit = (twill__resource_visit *)visit_;
    struct twill_resource_pool *pool = visit->pool;
    twill__resource_turn turn;
    if (visit->doing == TWILL__DOING_NOTHING && !visit->borrower.got)
        return; /* with nothing in hand: the pool may be gone */
    if (!twill__resource_here(pool))
        return;
    if (visit->doing == TWILL__DOING_VALIDATE) {
        twill__resource_destroy_one(pool, visit->slot, visit->resource, TWILL_RESOURCE_BROKEN,
                                    true);
        if (!twill__resource_here(pool))
            return;
    }
    twill__resource_enter(pool, &turn);
    if (visit->doing == TWILL__DOING_CREATE)
        twill__resource_failed(pool, 0);
    twill__resource_give_back(pool, &visit->borrower);
    twill__resource_settle(pool, &turn);
    twill__resource_leave(pool, &turn);
}

/* Under the lock: a resource's life begins; its end is drawn now, once. */
static inline void twill__resource_live(struct twill_resource_pool *pool,
                                        twill__resource_slot *slot)
{
    twill_ns lifetime = pool->options.max_lifetime;
    slot->idle_since = twill__clock_now();
    slot->came = ++pool->came;
    slot->dies = 0;
    slot->uses = 0; /* also where it takes the place of one that was refused */
    if (lifetime && lifetime != TWILL_FOREVER) {
        uint64_t most = twill__wide_scaled((uint64_t)lifetime, pool->options.jitter_percent, 100);
        lifetime -= (twill_ns)twill__random_to(&pool->random, most);
        slot->dies = twill_within(lifetime).deadline;
    }
}

/* With the lock, which it gives back meanwhile: a resource for an empty slot in hand, by creation.
   OK; FAILED: *code is its own; FORKED: this is a child, without the lock. */
static inline twill_status twill__resource_create_one(twill__resource_visit *visit, uint32_t index,
                                                      int *code, twill__resource_turn *turn)
{
    struct twill_resource_pool *pool = visit->pool;
    twill_task task = twill__resource_task(pool, index, visit->until);
    twill_ns begun = twill__clock_now();
    uint64_t epoch = pool->epoch; /* one that began before an evict ends like those before it */
    twill__resource_slot *slot;
    visit->resource = NULL;
    visit->slot = index;
    twill__resource_exit(pool, turn);
    visit->doing = TWILL__DOING_CREATE;
    *code = pool->options.create(&visit->resource, &task);
    visit->doing = TWILL__DOING_NOTHING;
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    twill__resource_enter(pool, turn);
    if (*code != 0) {
        twill__resource_failed(pool, *code);
        return TWILL_FAILED;
    }
    slot = &pool->slots[index];
    pool->not_before = 0;
    pool->counts.created++;
    slot->resource = visit->resource;
    slot->there = true;
    slot->epoch = epoch;
    twill__resource_live(pool, slot);
    pool->counts.create_total += slot->idle_since - begun;
    return TWILL_OK;
}

/* With the lock, which it gives back meanwhile: is this resource fit? OK; EMPTY: no, and it is
   destroyed, its slot has none; FORKED: as above. */
static inline twill_status twill__resource_fit(twill__resource_visit *visit, uint32_t index,
                                               twill__resource_turn *turn)
{
    struct twill_resource_pool *pool = visit->pool;
    twill__resource_slot *slot = &pool->slots[index];
    twill_ns now = pool->timed ? twill__clock_now() : 0;
    int why = twill__resource_slot_verdict(pool, slot, now);
    bool asked = pool->options.validate && (!pool->options.validate_after ||
                                            now - slot->idle_since >= pool->options.validate_after);
    if (!why && !asked)
        return TWILL_OK;
    visit->resource = slot->resource;
    visit->slot = index;
    twill__resource_exit(pool, turn);
    if (!why) {
        twill_task task = twill__resource_task(pool, index, visit->until);
        visit->doing = TWILL__DOING_VALIDATE;
        if (pool->options.validate(visit->resource, &task) != 0)
            why = TWILL_RESOURCE_INVALID;
    }
    visit->doing = TWILL__DOING_NOTHING;
    if (why && twill__resource_here(pool))
        twill__resource_destroy_one(pool, index, visit->resource, why, true);
    if (!twill__resource_here(pool))
        return TWILL_FORKED;
    twill__resource_enter(pool, turn);
    if (!why)
        return TWILL_OK;
    visit->borrower.empty++;
    return TWILL_EMPTY;
}

/* Under the lock: slot k in hand is empty: is there something else for it, or a right to create? */
static inline bool twill__resource_refit(twill__resource_visit *visit, size_t k)
{
    twill__resource_borrower *borrower = &visit->borrower;
    if (!visit->pool->options.create) { /* a fixed set: another one, or none */
        twill__resource_slot_free(visit->pool, borrower->leases[k].slot);
        borrower->leases[k].slot = borrower->leases[--borrower->got].slot;
        borrower->empty--;
    }
    return twill__resource_ready(visit->pool, borrower);
}

/* With the lock. OK: all in hand can be lent, and the lock is held. Else nothing is in hand, and
   the lock is not held. */
static inline twill_status twill__resource_prepare(twill__resource_visit *visit, int *code,
                                                   twill__resource_turn *turn)
{
    struct twill_resource_pool *pool = visit->pool;
    twill__resource_borrower *borrower = &visit->borrower;
    twill_status status = TWILL_OK;
    for (size_t k = 0; k < borrower->n && status == TWILL_OK;) {
        uint32_t index = borrower->leases[k].slot;
        if (pool->closed) {
            status = TWILL_CLOSED;
        } else if (pool->slots[index].there) {
            status = twill__resource_fit(visit, index, turn);
            k += status == TWILL_OK;
            if (status == TWILL_EMPTY)
                status = TWILL_OK; /* it gets another one */
        } else if (!twill__resource_refit(visit, k)) {
            /* neither an idle one nor a right to create: it waits again, first of all */
            if (visit->try_only) {
                status = TWILL_EMPTY;
            } else {
                status = twill__resource_wait(pool, borrower, visit->until, true, turn);
                if (status != TWILL_OK)
                    return status;
                k = 0; /* what it had in hand may have gone to one in front, and be another now */
            }
        } else if (!pool->slots[borrower->leases[k].slot].there) {
            status = twill__resource_create_one(visit, borrower->leases[k].slot, code, turn);
            borrower->empty -= status == TWILL_OK;
            k += status == TWILL_OK;
        }
    }
    if (status == TWILL_FORKED)
        return status;
    if (borrower->right) {
        pool->creating--;
        borrower->right = false;
    }
    if (status == TWILL_OK && pool->closed) /* created too late */
        status = TWILL_CLOSED;
    if (status != TWILL_OK) {
        twill__resource_give_back(pool, borrower);
        twill__resource_settle(pool, turn);
        twill__resource_leave(pool, turn);
    }
    return status;
}

/* ---- at the desk ---- */

/* A borrower who looks for an idle one, and waits nowhere. */
typedef struct twill__resource_glance {
    struct twill_resource_pool *pool;
    uint32_t slot;
    uint64_t lending;
} twill__resource_glance;

static bool twill__resource_glance_again(void *glance_)
{
    twill__resource_glance *glance = (twill__resource_glance *)glance_;
    return twill__desk_take(&glance->pool->desk, glance->pool->options.fifo, &glance->slot,
                            &glance->lending);
}

/* Nothing is idle, nor can be made: one that comes back in a moment costs less than to stand in
   line, and makes no others stand there. Who stands there is not overtaken: then there are no
   cells. */
static __attribute__((noinline)) bool twill__resource_glance_for(twill__resource_glance *glance,
                                                                 twill_until until)
{
    /* relaxed: a hint */
    if (!glance->pool->plain ||
        !atomic_load_explicit(&glance->pool->desk.full, memory_order_relaxed) ||
        twill__over(until) != TWILL_OK)
        return false;
    return twill__spin_for(twill__resource_glance_again, glance, TWILL__SPIN_WAIT,
                           TWILL__SPIN_YIELDS);
}

/* This process's plain pool? */
static inline bool twill__resource_desk_open(const struct twill_resource_pool *pool)
{
    return pool->plain && twill__resource_here(pool);
}

/* What the thread of this number signs with. */
static inline uint64_t twill__resource_desk_who(const struct twill_resource_pool *pool,
                                                uint64_t thread, bool stays)
{
    return thread * 2 + (stays || pool->options.leases_stay);
}

static inline void twill__resource_desk_lend(struct twill_resource_pool *pool, twill_lease *lease,
                                             uint32_t slot, uint64_t lending, uint64_t who,
                                             const char *file, int line)
{
    lease->pool = pool;
    lease->slot = slot;
    lease->generation = (uint32_t)lending;
    lease->code = 0;
    twill__desk_meet(&pool->desk, slot, who);
    lease->resource = twill__desk_sign(&pool->desk, slot, lending, who, file, line);
}

/* One resource without the lock. False: *lease is as before. */
static inline bool twill__resource_desk_acquire(struct twill_resource_pool *pool,
                                                twill_lease *lease, bool stays, const char *file,
                                                int line)
{
    uint64_t lending, who;
    uint32_t slot;
    if (!pool || !lease || !twill__resource_desk_open(pool))
        return false;
    /* asked for before the claim, since a call right after it waits until that is through */
    who = twill__resource_desk_who(pool, twill__thread_number(), stays);
    if (!twill__desk_take(&pool->desk, pool->options.fifo, &slot, &lending))
        return false;
    twill__resource_desk_lend(pool, lease, slot, lending, who, file, line);
    return true;
}

/* The same for the only resource, by a thread that has a number: without a call, which would keep
   what this one does not need. */
static inline bool twill__resource_desk_acquire_single(struct twill_resource_pool *pool,
                                                       twill_lease *lease, const char *file,
                                                       int line)
{
    uint64_t me = twill__thread_number_known(), lending;
    if (!pool || !lease || !me || !twill__resource_desk_open(pool) ||
        !twill__desk_take_single(&pool->desk, &lending))
        return false;
    twill__resource_desk_lend(pool, lease, 0, lending, twill__resource_desk_who(pool, me, false),
                              file, line);
    return true;
}

/* A resource back without the lock: OK or STALE. EMPTY: not so. `single`: the simplest case
   alone. */
static inline twill_status twill__resource_desk_release(struct twill_resource_pool *pool,
                                                        twill_lease *lease, bool single)
{
    twill_status status = TWILL_EMPTY;
    if (!pool || !lease || lease->pool != pool || !twill__resource_desk_open(pool))
        return TWILL_EMPTY;
    if (!single)
        status = twill__desk_back(&pool->desk, lease->slot, lease->generation);
    else if (twill__desk_back_single(&pool->desk, lease->slot, lease->generation))
        status = TWILL_OK;
    if (status == TWILL_OK)
        memset(lease, 0, sizeof *lease);
    return status;
}

/* ---- acquire ---- */

typedef struct twill__resource_order { /* what an acquire asks for */
    twill_lease *leases;
    size_t n;
    twill_until until;
    bool try_only, stays;
    const char *file;
    int line;
} twill__resource_order;

static inline void twill__resource_hand_out(struct twill_resource_pool *pool,
                                            const twill__resource_order *order, uint64_t thread)
{
    for (size_t k = 0; k < order->n; k++) {
        uint32_t index = order->leases[k].slot;
        pool->slots[index].file = order->file;
        pool->slots[index].line = order->line;
        twill__resource_slot_lend(pool, index, &order->leases[k], thread, order->stays);
    }
}

/* With the lock, and all that is asked for in hand: ends what is not to stay, as
   twill__resource_leave, but before anything is lent: `destroy` may end this thread. False: this is
   a child, and there is no lock to hold. */
static inline bool twill__resource_shed_first(struct twill_resource_pool *pool,
                                              twill__resource_turn *turn)
{
    twill__resource_shed shed = {TWILL__RESOURCE_NONE, 0, NULL};
    twill__resource_settle(pool, turn); /* another one may create */
    shed.slot = twill__resource_pick(pool, true, &shed.why, &shed.resource);
    if (shed.slot == TWILL__RESOURCE_NONE)
        return true;
    twill__resource_end_idle(pool, &shed, turn);
    if (!twill__resource_here(pool))
        return false;
    twill__resource_enter(pool, turn);
    return true;
}

/* All but the simplest case; with the lock, which it gives back. */
static __attribute__((noinline)) twill_status
twill__resource_acquire_slowly(struct twill_resource_pool *pool, const twill__resource_order *order,
                               int *code, twill__resource_turn *turn)
{
    twill__resource_visit visit;
    twill__resource_borrower *borrower = &visit.borrower;
    twill_status status = TWILL_OK;
    twill__home home = pool->home;
    memset(&visit, 0, sizeof visit);
    visit.pool = pool;
    visit.until = order->until;
    visit.try_only = order->try_only;
    if (order->try_only)
        visit.until = (twill_until){1, NULL}; /* over: be quick */
    borrower->leases = order->leases;
    borrower->n = order->n;
    borrower->thread = twill__thread_number();
    borrower->for_ever = twill__for_ever(visit.until);
    TWILL__GUARD_PUSH(twill__resource_quit, &visit);
    if (!order->try_only) {
        status = twill__resource_wait(pool, borrower, visit.until, false, turn);
    } else {
        status = twill__resource_try(pool, borrower, false, turn);
        if (status != TWILL_OK) {
            twill__resource_give_back(pool, borrower); /* all that it took: nothing was freed */
            twill__resource_leave(pool, turn);
        }
    }
    if (status == TWILL_OK) {
        status = twill__resource_prepare(&visit, code, turn);
        if (status == TWILL_OK && twill__resource_shed_first(pool, turn)) {
            twill__resource_hand_out(pool, order, borrower->thread);
            borrower->got = 0; /* they are the caller's */
            twill__resource_exit(pool, turn);
        }
    }
    TWILL__GUARD_POP(0);
    return twill__resource_answered(home, status);
}

static inline twill_status twill__resource_acquire(struct twill_resource_pool *pool,
                                                   const twill__resource_order *order, int *code)
{
    twill__resource_turn turn;
    uint32_t index;
    twill__resource_enter(pool, &turn);
    index = twill__resource_idle_next(pool);
    if (order->n == 1 && index != TWILL__RESOURCE_NONE && !pool->checked && !pool->closed &&
        (!pool->waiters.first || pool->options.barging) &&
        pool->slots[index].epoch == pool->epoch) {
        twill__resource_idle_out(pool, index);
        order->leases->slot = index;
        twill__resource_hand_out(pool, order, twill__thread_number());
        twill__resource_exit(pool, &turn);
        return TWILL_OK;
    }
    return twill__resource_acquire_slowly(pool, order, code, &turn);
}

/* ---- release ---- */

enum { TWILL__RESOURCE_GIVE_RELEASE, TWILL__RESOURCE_GIVE_DISCARD, TWILL__RESOURCE_GIVE_DETACH };

typedef struct twill__resource_return {
    struct twill_resource_pool *pool;
    uint32_t slot;
    void *resource;
} twill__resource_return;

/* `reset` has ended its thread. */
static void twill__resource_not_reset(void *back_)
{
    twill__resource_return *back = (twill__resource_return *)back_;
    if (twill__resource_here(back->pool))
        twill__resource_destroy_one(back->pool, back->slot, back->resource, TWILL_RESOURCE_BROKEN,
                                    false);
}

/* Under the lock: is this lease one of ours, and the latest of its slot? */
static inline twill_status twill__resource_lease_check(const struct twill_resource_pool *pool,
                                                       const twill_lease *lease)
{
    const twill__resource_slot *slot = lease->slot < pool->room ? &pool->slots[lease->slot] : NULL;
    if (!slot || slot->state != TWILL__RESOURCE_LENT ||
        (uint32_t)slot->lendings != lease->generation)
        return TWILL_STALE;
    return TWILL_OK;
}

/* Under the lock: a lease comes back. By another thread than the borrower: returns cannot be light
   in this pool. */
static inline void twill__resource_note_return(struct twill_resource_pool *pool, uint32_t index)
{
    const twill__resource_slot *slot = &pool->slots[index];
    uint64_t me = twill__thread_number(), lending;
    bool mine = slot->holder == me;
    if (slot->signed_)
        mine =
            twill__desk_own(&pool->desk, index, (uint32_t)slot->lendings, me, &lending) == TWILL_OK;
    if (pool->plain && !mine)
        twill__resource_set_mode(pool, TWILL__DESK_MOVING);
    else if (slot->signed_)
        twill__desk_note(&pool->desk, index, slot->lendings);
}

/* With the lock, which it gives back: the slot is TAKEN, and its resource comes back or ends. */
static __attribute__((noinline)) void twill__resource_take_back(twill__resource_return *back,
                                                                int why, twill__resource_turn *turn)
{
    struct twill_resource_pool *pool = back->pool;
    twill_task task = twill__resource_task(pool, back->slot, (twill_until){0, NULL});
    if (!why && pool->options.reset) {
        int code = 0;
        twill__resource_exit(pool, turn);
        TWILL__GUARD_PUSH(twill__resource_not_reset, back);
        code = pool->options.reset(back->resource, &task);
        TWILL__GUARD_POP(0);
        if (!twill__resource_here(pool))
            return;
        twill__resource_enter(pool, turn);
        if (pool->timed)
            pool->slots[back->slot].idle_since = twill__clock_now();
        why = code ? TWILL_RESOURCE_INVALID
                   : twill__resource_slot_verdict(pool, &pool->slots[back->slot],
                                                  pool->timed ? twill__clock_now() : 0);
    }
    if (!why && pool->total > pool->max)
        why = TWILL_RESOURCE_SURPLUS;
    if (why) {
        twill__resource_exit(pool, turn);
        twill__resource_destroy_one(pool, back->slot, back->resource, why, false);
        return;
    }
    twill__resource_idle_in(pool, back->slot);
    twill__resource_settle(pool, turn);
    twill__resource_leave(pool, turn);
}

static inline twill_status twill__resource_give(struct twill_resource_pool *pool,
                                                twill_lease *lease, int how, void **resource)
{
    twill__resource_turn turn;
    twill__resource_return back = {pool, lease->slot, NULL};
    twill__resource_slot *slot;
    twill_status status;
    twill_ns now = pool->timed ? twill__clock_now() : 0;
    twill__home home = pool->home;
    int why;
    twill__resource_enter(pool, &turn);
    status = twill__resource_lease_check(pool, lease);
    if (status != TWILL_OK) {
        twill__resource_exit(pool, &turn);
        return status;
    }
    slot = &pool->slots[back.slot];
    twill__resource_note_return(pool, back.slot);
    pool->leased--;
    if (pool->timed) {
        pool->counts.use_total += now - slot->lent_at;
        if (now - slot->lent_at > pool->counts.use_max)
            pool->counts.use_max = now - slot->lent_at;
        slot->idle_since = now;
    }
    pool->counts.releases += how == TWILL__RESOURCE_GIVE_RELEASE;
    pool->counts.discards += how == TWILL__RESOURCE_GIVE_DISCARD;
    pool->counts.detached += how == TWILL__RESOURCE_GIVE_DETACH;
    back.resource = slot->resource;
    memset(lease, 0, sizeof *lease);
    if (how == TWILL__RESOURCE_GIVE_RELEASE && !pool->examined && !pool->waiters.first &&
        !pool->closed && slot->epoch == pool->epoch && pool->total <= pool->max &&
        pool->idle < pool->options.max_idle) {
        twill__resource_idle_in(pool, back.slot);
        twill__resource_exit(pool, &turn);
        return TWILL_OK;
    }
    why = how == TWILL__RESOURCE_GIVE_DISCARD ? (int)TWILL_RESOURCE_BROKEN
                                              : twill__resource_slot_verdict(pool, slot, now);
    twill__resource_slot_take(pool, back.slot, twill__thread_number());
    if (how == TWILL__RESOURCE_GIVE_DETACH) {
        *resource = back.resource;
        twill__resource_slot_free(pool, back.slot);
        twill__resource_settle(pool, &turn);
        twill__resource_exit(pool, &turn);
    } else {
        twill__resource_take_back(&back, why, &turn);
    }
    return twill__resource_answered(home, TWILL_OK);
}

#endif

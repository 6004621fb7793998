/* upkeep.h: expiring, filling, shrinking, and the thread that may do it. */
#ifndef TWILL__RESOURCE_UPKEEP_H
#define TWILL__RESOURCE_UPKEEP_H

#include "resource_pool/borrow.h"

/* With the lock, which it gives back meanwhile, and for good in a child: ends idle resources for
   which `verdict` has a reason, from the coldest on, while more than `least` are idle. Returns how
   many. `busy`. */
static inline size_t twill__resource_sweep(struct twill_resource_pool *pool, size_t least,
                                           twill__resource_turn *turn)
{
    size_t ended = 0;
    uint32_t index = pool->cold;
    while (index != TWILL__RESOURCE_NONE && pool->idle > least) {
        /* exit: each turn ends one, or goes on to a hotter one; a fork */
        twill__resource_slot *slot = &pool->slots[index];
        void *resource = slot->resource;
        int why = twill__resource_slot_verdict(pool, slot, pool->timed ? twill__clock_now() : 0);
        if (!why) {
            index = slot->hotter;
            continue;
        }
        twill__resource_slot_take(pool, index, twill__thread_number());
        twill__resource_exit(pool, turn);
        twill__resource_destroy_one(pool, index, resource, why, false);
        ended++;
        if (!twill__resource_here(pool))
            break;
        twill__resource_enter(pool, turn);
        index = pool->cold; /* the list may be another one now */
    }
    return ended;
}

/* Under the lock: is an idle resource's time over? */
static inline bool twill__resource_any_expired(const struct twill_resource_pool *pool)
{
    twill_ns now = pool->timed ? twill__clock_now() : 0;
    for (uint32_t k = pool->cold; k != TWILL__RESOURCE_NONE; k = pool->slots[k].hotter)
        if (twill__resource_slot_verdict(pool, &pool->slots[k], now))
            return true;
    return false;
}

/* With the lock, which it gives back meanwhile: one more idle resource. As
   twill__resource_create_one. */
static inline twill_status twill__resource_add_one(twill__resource_visit *visit, int *code,
                                                   twill__resource_turn *turn)
{
    struct twill_resource_pool *pool = visit->pool;
    twill__resource_borrower *borrower = &visit->borrower;
    twill_status status;
    borrower->leases[0].slot = twill__resource_slot_new(pool, borrower->thread);
    borrower->n = borrower->got = borrower->empty = 1;
    borrower->right = true;
    pool->creating++;
    status = twill__resource_create_one(visit, borrower->leases[0].slot, code, turn);
    if (status == TWILL_FORKED)
        return status;
    twill__resource_give_back(pool, borrower); /* idle, or free */
    twill__resource_settle(pool, turn);
    return status;
}

/* Under the lock: may there be one more, since too few are idle, or (`old`) one has expired? */
static inline bool twill__resource_may_fill(const struct twill_resource_pool *pool, bool old)
{
    size_t least = pool->options.min_idle;
    return !pool->closed && pool->total < pool->max && !pool->waiters.first &&
           (pool->idle < least ||
            (pool->idle == least && old && twill__resource_any_expired(pool)));
}

/* Fills up to min_idle; while an expired one is among those, one more, which takes its place. With
   the lock, which it gives back meanwhile, and for good in a child: FORKED. */
static inline twill_status twill__resource_fill(twill__resource_visit *visit, int *code,
                                                twill__resource_turn *turn)
{
    struct twill_resource_pool *pool = visit->pool;
    size_t least = pool->options.min_idle;
    size_t old = least; /* so many may be replaced: not those, too, that were made for them */
    while (twill__resource_may_fill(pool, old != 0)) {
        /* exit: each turn makes one, and replaces at most one that has expired */
        twill_status status = TWILL_OK;
        old -= pool->idle == least;
        if (pool->not_before && twill__clock_now() < pool->not_before) {
            *code = pool->last_code;
            return TWILL_FAILED;
        }
        if (!twill__resource_may_create(pool))
            return TWILL_OK; /* others are at it */
        if (twill_cancel_fired(visit->until.cancel))
            return TWILL_CANCELLED;
        if (twill__expired(visit->until.deadline))
            return TWILL_TIMEOUT;
        status = twill__resource_add_one(visit, code, turn);
        if (status != TWILL_OK)
            return status;
        (void)twill__resource_sweep(pool, least, turn);
        if (!twill__resource_here(pool))
            return TWILL_FORKED;
    }
    return TWILL_OK;
}

typedef struct twill__resource_keeping {
    twill__resource_visit visit;
    twill_lease lease;
    twill_status status;
} twill__resource_keeping;

static void twill__resource_kept(void *keeping_)
{
    twill__resource_keeping *keeping = (twill__resource_keeping *)keeping_;
    twill__resource_quit(&keeping->visit);
    twill__resource_not_busy(keeping->visit.pool);
}

/* noinline: its locals must not stand in the frame of a guard */
static __attribute__((noinline)) void twill__resource_upkeep(twill__resource_keeping *keeping,
                                                             int *code)
{
    struct twill_resource_pool *pool = keeping->visit.pool;
    twill__resource_turn turn;
    twill__resource_leaks(pool);
    if (!twill__resource_here(pool))
        return;
    twill__resource_enter(pool, &turn);
    if (keeping->status == TWILL_OK)
        (void)twill__resource_sweep(pool, pool->options.min_idle, &turn);
    if (keeping->status == TWILL_OK && twill__resource_here(pool))
        keeping->status = twill__resource_fill(&keeping->visit, code, &turn);
    if (twill__resource_here(pool))
        twill__resource_leave(pool, &turn);
}

static inline twill_status twill__resource_maintain(struct twill_resource_pool *pool, int *code,
                                                    twill_until until)
{
    twill__home home = pool->home;
    twill__resource_keeping keeping;
    twill__resource_turn turn;
    *code = 0;
    memset(&keeping, 0, sizeof keeping);
    keeping.visit.pool = pool;
    keeping.visit.until = until;
    keeping.visit.borrower.leases = &keeping.lease;
    keeping.visit.borrower.thread = twill__thread_number();
    twill__resource_enter(pool, &turn);
    pool->busy++;
    if (pool->closed)
        keeping.status = TWILL_CLOSED;
    twill__resource_exit(pool, &turn);
    TWILL__GUARD_PUSH(twill__resource_kept, &keeping);
    twill__resource_upkeep(&keeping, code);
    TWILL__GUARD_POP(0);
    twill__resource_not_busy(pool);
    return twill__resource_answered(home, keeping.status);
}

/* ---- the keeper ---- */

static void twill__resource_keep(void *pool);

/* Under the lock, so that whoever looks for the keeper's handle finds it. */
static inline bool twill__resource_start_keeper(struct twill_resource_pool *pool)
{
    twill__thrd *keeper = &pool->keeper[pool->keeper_turn];
    memset(keeper, 0, sizeof *keeper);
    keeper->fn = twill__resource_keep;
    keeper->arg = pool;
    keeper->cpu = UINT_MAX;
    twill__thread_name(keeper, pool->options.name);
    return twill__thread_start(keeper);
}

/* Under the lock: the keeper to join, since another one has come in its place; or NULL. */
static inline twill__thrd *twill__resource_keeper_left(struct twill_resource_pool *pool)
{
    bool left = pool->keeper_left;
    pool->keeper_left = false;
    return left ? &pool->keeper[!pool->keeper_turn] : NULL;
}

/* A callback has ended the keeper: another one goes on. */
static void twill__resource_keeper_ended(void *pool_)
{
    struct twill_resource_pool *pool = (struct twill_resource_pool *)pool_;
    twill__resource_turn turn;
    if (!twill__resource_here(pool))
        return;
    twill__resource_enter(pool, &turn);
    if (!pool->stop) {
        pool->keeper_turn = !pool->keeper_turn;
        pool->keeper_left = twill__resource_start_keeper(pool);
        if (!pool->keeper_left)
            pool->keeper_turn = !pool->keeper_turn;
    }
    twill__resource_exit(pool, &turn);
}

static __attribute__((noinline)) void twill__resource_keep_on(struct twill_resource_pool *pool)
{
    twill__resource_turn turn;
    twill__thrd *left;
    twill__resource_enter(pool, &turn);
    left = twill__resource_keeper_left(pool);
    twill__resource_exit(pool, &turn);
    if (left)
        twill__thread_join(left);
    twill__resource_enter(pool, &turn);
    while (!pool->stop) { /* exit: destroy says so; a callback has forked, and this is the child */
        twill__node node;
        twill_status status;
        int code;
        twill__node_init(&node);
        twill__list_append(&pool->keeper_waits, &node);
        twill__resource_exit(pool, &turn);
        status = twill__wait(&node, twill_within(pool->options.maintain_every));
        twill__resource_enter(pool, &turn);
        if (status != TWILL_OK)
            twill__list_remove(&pool->keeper_waits, &node);
        if (pool->stop)
            break;
        twill__resource_exit(pool, &turn);
        if (twill__resource_maintain(pool, &code, (twill_until){0, NULL}) == TWILL_FORKED)
            return;
        twill__resource_enter(pool, &turn);
    }
    twill__resource_exit(pool, &turn);
}

static void twill__resource_keep(void *pool_)
{
    struct twill_resource_pool *pool = (struct twill_resource_pool *)pool_;
    /* relaxed: only this thread asks for its own number */
    atomic_store_explicit(&pool->keeper_number, twill__thread_number(), memory_order_relaxed);
    TWILL__GUARD_PUSH(twill__resource_keeper_ended, pool);
    twill__resource_keep_on(pool);
    TWILL__GUARD_POP(0);
}

/* Ends the keeper and joins it. The first caller does, and nobody needs it twice. */
static inline void twill__resource_stop_keeper(struct twill_resource_pool *pool)
{
    twill__resource_turn turn;
    twill__thrd *left;
    bool mine;
    twill__resource_enter(pool, &turn);
    mine = pool->kept;
    pool->kept = false;
    pool->stop = true;
    while (pool->keeper_waits.first) {
        twill__node *node = pool->keeper_waits.first;
        if (!twill__wakes_grant(&turn.wakes, &pool->keeper_waits, node, TWILL_OK))
            break; /* it looks at `stop` by itself */
    }
    left = mine ? twill__resource_keeper_left(pool) : NULL;
    twill__resource_exit(pool, &turn);
    if (left)
        twill__thread_join(left);
    if (mine)
        twill__thread_join(&pool->keeper[pool->keeper_turn]);
}

#endif

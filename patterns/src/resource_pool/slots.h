/* slots.h: the books of a resource pool: its slots, who waits, and the one function that hands
   capacity on. */
#ifndef TWILL__RESOURCE_SLOTS_H
#define TWILL__RESOURCE_SLOTS_H

#include "engine/call.h"
#include "engine/random.h"
#include "engine/status.h"
#include "engine/wakes.h"
#include "resource_pool/desk.h"

/* Resources are costly and their use is long, so one small lock guards it all, and each promise is
   a sentence about one critical section:
   - a slot that is not FREE is capacity in use; there are never more of them than max;
   - a slot that is TAKEN belongs to one thread, which runs a callback for it, or to one waiter;
   - whatever frees a slot or gives one back ends in twill__resource_settle, which serves the
     oldest waiter that can be served; so while the lock is free, nobody waits beside what he could
     have.
   A plain pool shows its idle and lent slots at the desk (desk.h) while the lock is free and nobody
   waits; whoever enters takes them back into the books first. So under the lock none is SHOWN. */
enum {
    TWILL__RESOURCE_FREE = 0,
    TWILL__RESOURCE_IDLE,
    TWILL__RESOURCE_LENT,
    TWILL__RESOURCE_TAKEN,
    TWILL__RESOURCE_SHOWN
};
#define TWILL__RESOURCE_NONE UINT32_MAX

typedef struct twill__resource_slot {
    void *resource;
    uint64_t lendings; /* so far, of 44 bits; the lowest 32 are the lease's generation */
    uint32_t state;
    uint32_t hotter, colder; /* idle: its neighbours; FREE: hotter is the next free one */
    uint64_t holder;         /* the thread that has borrowed it, or runs a callback for it */
    uint64_t epoch;          /* of the pool, when it was created */
    uint64_t came;           /* as the how manieth it was made or came back; idle: in this order */
    size_t uses;
    twill_ns dies, idle_since, lent_at; /* 0: not measured, or never */
    const char *file;
    int line;
    bool there;      /* it has a resource */
    bool stays;      /* lent: only its holder can give it back */
    bool stuck;      /* its holder waits for ever in this pool, for others than this one's like */
    bool reported;   /* as leaked */
    bool signed_;    /* lent at the desk: its site says by whom, not `holder` */
    bool shown_lent; /* when it was shown */
} twill__resource_slot;

typedef struct twill__resource_borrower { /* an acquire that wants n slots, on its thread's stack */
    twill__node node;
    twill_lease *leases; /* the slots in hand, so far */
    size_t n, got;
    size_t empty; /* of those in hand: without a resource */
    uint64_t thread;
    twill_ns since;    /* it waits since then */
    twill_ns wakes_at; /* the end of a pause that it sleeps no longer than */
    bool right;        /* may create: counted in `creating` */
    bool retry;        /* told to look again; it still stands in the list */
    bool for_ever;     /* waits without deadline and token */
} twill__resource_borrower;

typedef struct twill__resource_turn { /* whom to wake after unlocking */
    twill__wakes wakes;
} twill__resource_turn;

struct twill_resource_pool {
    _Atomic uint32_t lock;
    twill__home home;
    /* under the lock */
    twill__resource_slot *slots;
    uint32_t room; /* slots there are; those from max on are used up when the pool has shrunk */
    uint32_t free, hot, cold;
    uint64_t came; /* how many were made or came back */
    size_t max, total, idle, leased, creating;
    twill__list waiters, drainers;
    twill__node *destroyer;
    unsigned busy; /* calls that take the lock more than once and hold no slot meanwhile */
    bool closed;
    uint64_t epoch;
    twill_ns not_before; /* nobody creates until then; 0: no pause */
    int last_code;       /* of the creation that began the pause */
    uint64_t random;
    twill_resource_pool_stats counts;
    /* set at creation */
    twill_resource_pool_options options;
    bool timed;    /* the clock is read on the fast path */
    bool checked;  /* a resource may be refused to a borrower */
    bool examined; /* or to the pool, when it comes back */
    bool plain;    /* none of these, and few: there is a desk */
    /* under the lock */
    bool shown;  /* slots are at the desk */
    bool rested; /* the last time for long, and for one thread: next time returns are light */
    /* the thread of maintain_every */
    twill__thrd keeper[2]; /* by turns: a callback may end one */
    unsigned keeper_turn;
    _Atomic uint64_t keeper_number;
    twill__list keeper_waits;
    bool kept, stop;  /* it is there; it is to end */
    bool keeper_left; /* the other one has ended, and nobody has joined it */
    twill__desk desk;
};

static inline bool twill__resource_here(const struct twill_resource_pool *pool)
{
    return twill__at_home(pool->home);
}

static inline twill_task twill__resource_task(const struct twill_resource_pool *pool, size_t slot,
                                              twill_until until)
{
    twill_task task = {slot, pool->options.context, UINT_MAX, 0, NULL, until, NULL};
    return task;
}

/* ---- idle slots, under the lock ---- */

static inline void twill__resource_idle_out(struct twill_resource_pool *pool, uint32_t index)
{
    twill__resource_slot *slot = &pool->slots[index];
    if (slot->hotter != TWILL__RESOURCE_NONE)
        pool->slots[slot->hotter].colder = slot->colder;
    else
        pool->hot = slot->colder;
    if (slot->colder != TWILL__RESOURCE_NONE)
        pool->slots[slot->colder].hotter = slot->hotter;
    else
        pool->cold = slot->hotter;
    pool->idle--;
}

/* In its place by `came`: the hottest one, or behind the few that came back since it was taken.
   (What is gathered from the desk counts as coming back: it is behind nothing that somebody has in
   hand, who takes all that is idle before he wants more.) */
static inline void twill__resource_idle_put(struct twill_resource_pool *pool, uint32_t index)
{
    twill__resource_slot *slot = &pool->slots[index];
    uint32_t hotter = TWILL__RESOURCE_NONE, colder = pool->hot;
    while (colder != TWILL__RESOURCE_NONE && pool->slots[colder].came > slot->came) {
        /* exit: each turn goes on to a colder one */
        hotter = colder;
        colder = pool->slots[colder].colder;
    }
    slot->state = TWILL__RESOURCE_IDLE;
    slot->stuck = false;
    slot->hotter = hotter;
    slot->colder = colder;
    if (hotter != TWILL__RESOURCE_NONE)
        pool->slots[hotter].colder = index;
    else
        pool->hot = index;
    if (colder != TWILL__RESOURCE_NONE)
        pool->slots[colder].hotter = index;
    else
        pool->cold = index;
    pool->idle++;
}

/* It comes back now. */
static inline void twill__resource_idle_in(struct twill_resource_pool *pool, uint32_t index)
{
    pool->slots[index].came = ++pool->came;
    twill__resource_idle_put(pool, index);
}

/* ---- the desk ---- */

/* Under the lock: returns come so from now on, unless leases are known to move. */
static inline void twill__resource_set_mode(struct twill_resource_pool *pool, uint32_t mode)
{
    /* relaxed: who has the lock writes it */
    if (atomic_load_explicit(&pool->desk.mode, memory_order_relaxed) != TWILL__DESK_MOVING)
        /* release: pairs with the acquire in twill__desk_back; that they are not LIGHT any more, by
           the fences with twill__desk_back_lightly */
        atomic_store_explicit(&pool->desk.mode, mode, memory_order_release);
}

/* Under the lock: takes all cells away; each of them is IDLE or LENT, or 0 (there was none). */
static inline void twill__resource_take_cells(struct twill_resource_pool *pool,
                                              uint64_t cell[TWILL__DESK_SLOTS])
{
    /* relaxed: who has the lock writes it */
    bool light = atomic_load_explicit(&pool->desk.mode, memory_order_relaxed) == TWILL__DESK_LIGHT;
    pool->shown = false;
    if (light)
        twill__resource_set_mode(pool, TWILL__DESK_WARY);
    for (uint32_t k = 0; k < TWILL__DESK_SLOTS; k++) {
        cell[k] = 0;
        if (k < pool->room && pool->slots[k].state == TWILL__RESOURCE_SHOWN)
            /* acquire: pairs with the release of who gave it back */
            cell[k] = atomic_exchange_explicit(&pool->desk.slot[k].cell, 0, memory_order_acquire);
    }
    if (light && !twill__desk_join(&pool->desk, cell))
        twill__resource_set_mode(pool, TWILL__DESK_MOVING);
}

/* Under the lock: writes into the books what has happened at the desk. */
static __attribute__((noinline)) void twill__resource_gather(struct twill_resource_pool *pool)
{
    uint64_t cell[TWILL__DESK_SLOTS], sum = 0, lendings, lent;
    uint32_t idle[TWILL__DESK_SLOTS], count = 0, place, peak;
    twill__resource_take_cells(pool, cell);
    for (uint32_t k = 0; k < TWILL__DESK_SLOTS && k < pool->room; k++) {
        twill__resource_slot *slot = &pool->slots[k];
        if (slot->state != TWILL__RESOURCE_SHOWN)
            continue;
        lendings = cell[k] >> TWILL__DESK_LENDING_SHIFT;
        lent = (lendings - slot->lendings) & TWILL__DESK_LENDINGS;
        /* less those that would have been 0 */
        lent -= ((lendings >> 32) - (slot->lendings >> 32)) & (TWILL__DESK_LENDINGS >> 32);
        sum += lent;
        pool->counts.acquires += lent;
        pool->counts.releases += lent + slot->shown_lent;
        if (lent) {
            slot->lendings = lendings;
            slot->signed_ = true;
            slot->stuck = slot->reported = false;
        }
        if (twill__desk_state(cell[k]) == TWILL__DESK_LENT) {
            slot->state = TWILL__RESOURCE_LENT;
            pool->counts.releases--;
            pool->leased++;
            continue;
        }
        for (place = count++; place && twill__desk_later(cell[idle[place - 1]], cell[k]); place--)
            idle[place] = idle[place - 1];
        idle[place] = k;
    }
    /* relaxed, both: a hint */
    pool->rested = sum + 1 >= TWILL__DESK_REST &&
                   !atomic_load_explicit(&pool->desk.crowd, memory_order_relaxed);
    atomic_store_explicit(&pool->desk.crowd, false, memory_order_relaxed);
    for (place = 0; place < count; place++)
        twill__resource_idle_in(pool, idle[place]);
    /* relaxed: a figure */
    peak = atomic_load_explicit(&pool->desk.peak, memory_order_relaxed);
    if (peak > pool->counts.leased_peak)
        pool->counts.leased_peak = peak;
}

/* Under the lock: may the next ones come and go at the desk? */
static inline bool twill__resource_calm(const struct twill_resource_pool *pool)
{
    return pool->plain && !pool->waiters.first && !pool->closed && pool->total <= pool->max &&
           pool->room <= TWILL__DESK_SLOTS && pool->max <= pool->options.max_idle;
}

static inline void twill__resource_show_slot(struct twill_resource_pool *pool, uint32_t index,
                                             uint32_t stamp, bool light)
{
    twill__resource_slot *slot = &pool->slots[index];
    uint32_t state = TWILL__DESK_IDLE;
    slot->shown_lent = slot->state == TWILL__RESOURCE_LENT;
    if (slot->shown_lent) {
        state = TWILL__DESK_LENT;
        pool->leased--;
    } else if (light) {
        twill__desk_prepare(&pool->desk, index, slot->lendings, stamp);
    }
    if (light)
        state = TWILL__DESK_SPLIT;
    slot->state = TWILL__RESOURCE_SHOWN;
    pool->shown = true;
    /* relaxed: the cell carries it */
    atomic_store_explicit(&pool->desk.site[index].resource, slot->resource, memory_order_relaxed);
    /* release: pairs with the acquire in twill__desk_take */
    atomic_store_explicit(&pool->desk.slot[index].cell,
                          twill__desk_cell(slot->lendings, light ? 0 : stamp, state),
                          memory_order_release);
}

/* Under the lock, before slots are shown: how their returns shall come. Who was lent one under the
   lock is signed for as at the desk; and once returns are LIGHT, `done` is the borrower's. */
static inline bool twill__resource_show_mode(struct twill_resource_pool *pool, bool light)
{
    /* relaxed: who has the lock writes it */
    light = light && pool->rested &&
            atomic_load_explicit(&pool->desk.mode, memory_order_relaxed) != TWILL__DESK_MOVING;
    for (uint32_t k = 0; k < pool->room; k++) {
        twill__resource_slot *slot = &pool->slots[k];
        if (slot->state != TWILL__RESOURCE_LENT)
            continue;
        if (!slot->signed_) {
            twill__desk_sign(&pool->desk, k, slot->lendings, slot->holder * 2 + slot->stays,
                             slot->file, slot->line);
            slot->signed_ = true;
        }
        if (light)
            twill__desk_prepare(&pool->desk, k, slot->lendings - 1, 0);
    }
    twill__resource_set_mode(pool, light ? TWILL__DESK_LIGHT : TWILL__DESK_WARY);
    return light;
}

/* Under the lock, right before it is given back, and calm: what is idle or lent goes to the desk,
   but what was evicted stays in the books, to end when it comes back. */
static __attribute__((noinline)) void twill__resource_show(struct twill_resource_pool *pool)
{
    uint32_t stamp = 1, count = 0, beside = 0;
    bool light;
    for (uint32_t k = pool->cold; k != TWILL__RESOURCE_NONE; k = pool->slots[k].hotter)
        if (pool->slots[k].epoch != pool->epoch)
            return;
    for (uint32_t k = 0; k < pool->room; k++) {
        if (pool->slots[k].state != TWILL__RESOURCE_FREE)
            count = k + 1;
        beside +=
            pool->slots[k].state == TWILL__RESOURCE_LENT && pool->slots[k].epoch != pool->epoch;
    }
    /* relaxed, all: a hint; a figure; and the cells say what is in them */
    atomic_store_explicit(&pool->desk.full, pool->total == pool->max, memory_order_relaxed);
    atomic_store_explicit(&pool->desk.beside, beside, memory_order_relaxed);
    atomic_store_explicit(&pool->desk.count, count, memory_order_relaxed);
    /* an evicted one comes to the lock, and so do they all until then */
    light = twill__resource_show_mode(pool, !beside && (pool->idle || pool->leased));
    for (uint32_t k = pool->cold; k != TWILL__RESOURCE_NONE; k = pool->slots[k].hotter)
        twill__resource_show_slot(pool, k, stamp++, light);
    pool->hot = pool->cold = TWILL__RESOURCE_NONE;
    pool->idle = 0;
    for (uint32_t k = 0; k < count; k++)
        if (pool->slots[k].state == TWILL__RESOURCE_LENT && pool->slots[k].epoch == pool->epoch)
            twill__resource_show_slot(pool, k, 0, light);
}

/* ---- in and out ---- */

static inline void twill__resource_enter(struct twill_resource_pool *pool,
                                         twill__resource_turn *turn)
{
    twill__lock(&pool->lock);
    turn->wakes.count = 0;
    if (pool->shown)
        twill__resource_gather(pool);
}

/* Under the lock of a closed pool that has nothing left: nobody is inside, or on his way in or
   out. */
static inline bool twill__resource_deserted(const struct twill_resource_pool *pool)
{
    TWILL_ASSERT(pool->closed && !pool->total);
    return !pool->waiters.first && !pool->drainers.first && !pool->busy &&
           !twill__lock_wanted(&pool->lock);
}

static inline void twill__resource_exit(struct twill_resource_pool *pool,
                                        twill__resource_turn *turn)
{
    twill__node *destroyer = pool->destroyer;
    if (destroyer && twill__resource_deserted(pool)) {
        pool->destroyer = NULL;
        /* relaxed: the destroyer takes the lock, which we hold, before it frees */
        atomic_fetch_or_explicit(&destroyer->word, TWILL__GRANTED, memory_order_relaxed);
        twill__wakes_add(&turn->wakes, &destroyer->word);
    }
    if (twill__resource_calm(pool))
        twill__resource_show(pool);
    twill__unlock(&pool->lock);
    twill__wakes_send(&turn->wakes);
}

/* ---- slots, under the lock ---- */

/* The idle slot to lend next. */
static inline uint32_t twill__resource_idle_next(const struct twill_resource_pool *pool)
{
    return pool->options.fifo ? pool->cold : pool->hot;
}

static inline void twill__resource_slot_take(struct twill_resource_pool *pool, uint32_t index,
                                             uint64_t thread)
{
    twill__resource_slot *slot = &pool->slots[index];
    if (slot->state == TWILL__RESOURCE_IDLE)
        twill__resource_idle_out(pool, index);
    slot->state = TWILL__RESOURCE_TAKEN;
    slot->holder = thread;
    slot->stuck = slot->signed_ = false;
}

/* Capacity without a resource; NO_SLOT: there is none. */
static inline uint32_t twill__resource_slot_new(struct twill_resource_pool *pool, uint64_t thread)
{
    uint32_t index = pool->free;
    if (pool->total >= pool->max)
        return TWILL__RESOURCE_NONE;
    TWILL_ASSERT(index != TWILL__RESOURCE_NONE);
    pool->free = pool->slots[index].hotter;
    pool->total++;
    twill__resource_slot_take(pool, index, thread);
    return index;
}

static inline void twill__resource_slot_free(struct twill_resource_pool *pool, uint32_t index)
{
    pool->slots[index].state = TWILL__RESOURCE_FREE;
    pool->slots[index].there = false;
    pool->slots[index].hotter = pool->free;
    pool->free = index;
    pool->total--;
}

/* A TAKEN slot goes back: idle with its resource, where it was in the order, else free. */
static inline void twill__resource_slot_back(struct twill_resource_pool *pool, uint32_t index)
{
    if (pool->slots[index].there)
        twill__resource_idle_put(pool, index);
    else
        twill__resource_slot_free(pool, index);
}

static inline void twill__resource_slot_lend(struct twill_resource_pool *pool, uint32_t index,
                                             twill_lease *lease, uint64_t thread, bool stays)
{
    twill__resource_slot *slot = &pool->slots[index];
    slot->state = TWILL__RESOURCE_LENT;
    slot->lendings = twill__desk_after(slot->lendings) & TWILL__DESK_LENDINGS;
    slot->holder = thread;
    slot->uses++;
    slot->stuck = slot->reported = slot->signed_ = false;
    slot->stays = stays || pool->options.leases_stay;
    slot->lent_at = pool->timed ? twill__clock_now() : 0;
    pool->counts.acquires++;
    if (++pool->leased > pool->counts.leased_peak)
        pool->counts.leased_peak = pool->leased;
    lease->resource = slot->resource;
    lease->pool = pool;
    lease->slot = index;
    lease->generation = (uint32_t)slot->lendings;
    lease->code = 0;
}

/* Why a resource may not be lent (again); 0: it may. (What comes back now is idle since now.) */
static inline int twill__resource_slot_verdict(const struct twill_resource_pool *pool,
                                               const twill__resource_slot *slot, twill_ns now)
{
    const twill_resource_pool_options *options = &pool->options;
    if (pool->closed)
        return TWILL_RESOURCE_CLOSED;
    if (slot->epoch != pool->epoch)
        return TWILL_RESOURCE_EVICTED;
    if (options->max_uses && slot->uses >= options->max_uses)
        return TWILL_RESOURCE_USED_UP;
    if (slot->dies && now >= slot->dies)
        return TWILL_RESOURCE_OLD;
    if (options->max_idle_time && now - slot->idle_since >= options->max_idle_time)
        return TWILL_RESOURCE_IDLE;
    return 0;
}

/* ---- a wait that could never end, under the lock ---- */

/* Does this thread hold it, and nobody else can give it back? */
static inline bool twill__resource_holds(const struct twill_resource_pool *pool, uint32_t index,
                                         uint64_t thread)
{
    const twill__resource_slot *slot = &pool->slots[index];
    const twill__desk_site *site = &pool->desk.site[index];
    if (slot->state == TWILL__RESOURCE_TAKEN)
        return slot->holder == thread;
    if (slot->state != TWILL__RESOURCE_LENT)
        return false;
    if (!slot->signed_)
        return slot->holder == thread && slot->stays;
    /* relaxed: twill__desk_signed synchronises. Not signed yet: it is another thread's */
    return twill__desk_signed(&pool->desk, index, (uint32_t)slot->lendings) &&
           atomic_load_explicit(&site->who, memory_order_relaxed) == thread * 2 + 1;
}

/* Marks what this thread holds as held by one who waits for ever, or not any more. Returns how much
   that is. */
static inline size_t twill__resource_mark(struct twill_resource_pool *pool, uint64_t thread,
                                          bool stuck)
{
    size_t held = 0;
    for (uint32_t k = 0; k < pool->room; k++) {
        if (twill__resource_holds(pool, k, thread)) {
            pool->slots[k].stuck = stuck;
            held++;
        }
    }
    return held;
}

/* Is every slot held by a thread that waits here for ever? Then nothing will come back. */
static inline bool twill__resource_stuck(const struct twill_resource_pool *pool)
{
    if (pool->total < pool->max)
        return false;
    for (uint32_t k = 0; k < pool->room; k++)
        if (pool->slots[k].state != TWILL__RESOURCE_FREE && !pool->slots[k].stuck)
            return false;
    return true;
}

/* ---- who waits, under the lock ---- */

static inline bool twill__resource_may_create(const struct twill_resource_pool *pool)
{
    return pool->creating < pool->options.max_creating &&
           (!pool->not_before || twill__clock_now() >= pool->not_before);
}

/* What is in hand is stuck while more is wanted. Who has his number goes on, if only when he may
   create. */
static inline void twill__resource_mark_hand(struct twill_resource_pool *pool,
                                             const twill__resource_borrower *borrower)
{
    bool stuck = borrower->for_ever && borrower->got < borrower->n;
    for (size_t k = 0; k < borrower->got; k++)
        pool->slots[borrower->leases[k].slot].stuck = stuck;
}

/* What is there, up to n; a resource in place of an empty slot. */
static inline void twill__resource_collect(struct twill_resource_pool *pool,
                                           twill__resource_borrower *borrower)
{
    uint32_t index;
    while (borrower->got < borrower->n) {
        index = twill__resource_idle_next(pool);
        if (index != TWILL__RESOURCE_NONE) {
            twill__resource_slot_take(pool, index, borrower->thread);
        } else if (pool->options.create && (index = twill__resource_slot_new(
                                                pool, borrower->thread)) != TWILL__RESOURCE_NONE) {
            borrower->empty++;
        } else {
            break;
        }
        borrower->leases[borrower->got++].slot = index;
    }
    for (size_t k = 0; borrower->empty; k++) { /* exit: so many of those in hand are empty */
        uint32_t mine = borrower->leases[k].slot;
        TWILL_ASSERT(k < borrower->got);
        index = twill__resource_idle_next(pool);
        if (index == TWILL__RESOURCE_NONE)
            break;
        if (pool->slots[mine].there)
            continue;
        twill__resource_slot_free(pool, mine);
        twill__resource_slot_take(pool, index, borrower->thread);
        borrower->leases[k].slot = index;
        borrower->empty--;
    }
    twill__resource_mark_hand(pool, borrower);
}

/* Has it all that it needs to go on by itself? A right to create is counted, if it needs one. */
static inline bool twill__resource_ready(struct twill_resource_pool *pool,
                                         twill__resource_borrower *borrower)
{
    twill__resource_collect(pool, borrower);
    if (borrower->got < borrower->n)
        return false;
    if (borrower->empty && !borrower->right) {
        if (!twill__resource_may_create(pool))
            return false;
        pool->creating++;
        borrower->right = true;
    }
    return true;
}

/* Gives back what is in hand. */
static inline void twill__resource_give_back(struct twill_resource_pool *pool,
                                             twill__resource_borrower *borrower)
{
    while (borrower->got)
        twill__resource_slot_back(pool, borrower->leases[--borrower->got].slot);
    borrower->empty = 0;
    if (borrower->right)
        pool->creating--;
    borrower->right = false;
}

static inline void twill__resource_waited(struct twill_resource_pool *pool, twill_ns since)
{
    twill_ns waited = twill__clock_now() - since;
    pool->counts.wait_total += waited;
    if (waited > pool->counts.wait_max)
        pool->counts.wait_max = waited;
    pool->counts.waiting--;
}

/* Answers a waiter, and counts its wait. False: it is leaving by itself. */
static inline bool twill__resource_answer(struct twill_resource_pool *pool,
                                          twill__resource_borrower *borrower, twill_status answer,
                                          twill__resource_turn *turn)
{
    twill_ns since = borrower->since; /* whoever is answered no may be gone from then on */
    if (!twill__wakes_grant(&turn->wakes, &pool->waiters, &borrower->node, (int)answer))
        return false;
    twill__resource_waited(pool, since);
    return true;
}

/* Tells the head to look again; it keeps its place. */
static inline void twill__resource_rouse(struct twill_resource_pool *pool,
                                         twill__resource_borrower *borrower,
                                         twill__resource_turn *turn)
{
    borrower->retry = true;
    /* acq_rel: pairs with twill__wait. LEAVING was there: it comes anyway */
    atomic_fetch_or_explicit(&borrower->node.word, TWILL__GRANTED, memory_order_acq_rel);
    twill__wakes_add(&turn->wakes, &borrower->node.word);
    (void)pool;
}

static inline bool twill__resource_leaves(const twill__resource_borrower *borrower)
{
    /* a hint; the grant decides */
    return atomic_load_explicit(&borrower->node.word, memory_order_relaxed) & TWILL__LEAVING;
}

/* One waiter: true: it is served, or answered otherwise, and the next one may be looked at. */
static inline bool twill__resource_serve(struct twill_resource_pool *pool,
                                         twill__resource_borrower *borrower,
                                         twill__resource_turn *turn)
{
    if (borrower->n > pool->max) { /* the pool has shrunk */
        twill__resource_give_back(pool, borrower);
        if (borrower->for_ever)
            (void)twill__resource_mark(pool, borrower->thread, false);
        (void)twill__resource_answer(pool, borrower, TWILL_TOO_BIG, turn);
        return true;
    }
    if (pool->options.barging && borrower->n == 1 && pool->idle) {
        /* not handed over: a newcomer may be faster, and no thread has to run for it meanwhile */
        twill__resource_rouse(pool, borrower, turn);
        return false;
    }
    if (!twill__resource_ready(pool, borrower)) {
        /* a pause has begun, or moved */
        if (borrower->got == borrower->n && pool->not_before &&
            borrower->wakes_at != pool->not_before && pool->creating < pool->options.max_creating)
            twill__resource_rouse(pool, borrower, turn);
        return false;
    }
    if (!twill__resource_answer(pool, borrower, TWILL_OK, turn))
        twill__resource_give_back(pool, borrower); /* it leaves: to the next */
    return true;
}

/* Nothing will come back to those who wait: the youngest of them who holds a lease is told, since
   he can give it back. (There is one, or he looks again: nobody's hand is all there is.) */
static inline void twill__resource_untie(struct twill_resource_pool *pool,
                                         twill__resource_turn *turn)
{
    twill__node *node = pool->waiters.last;
    while (node) { /* exit: each turn goes on to an older one */
        twill__resource_borrower *borrower = (twill__resource_borrower *)node->value;
        node = node->previous;
        if (!borrower->for_ever || borrower->retry ||
            twill__resource_mark(pool, borrower->thread, true) == borrower->got)
            continue; /* all is marked already */
        twill__resource_give_back(pool, borrower);
        (void)twill__resource_mark(pool, borrower->thread, false);
        (void)twill__resource_answer(pool, borrower, TWILL_DEADLOCK, turn);
        return;
    }
}

/* Serves the line, the oldest waiter first, and nobody overtakes it. */
static inline void twill__resource_serve_line(struct twill_resource_pool *pool,
                                              twill__resource_turn *turn)
{
    twill__node *node = pool->closed ? NULL : pool->waiters.first; /* close has answered them */
    while (node) { /* exit: each turn serves one, or passes one that leaves */
        twill__resource_borrower *borrower = (twill__resource_borrower *)node->value;
        twill__node *next = node->next;
        if (borrower->retry)
            break;
        if (!twill__resource_leaves(borrower) && !twill__resource_serve(pool, borrower, turn))
            break;
        node = next;
    }
}

/* Hands on what is free. Every path that frees anything, or makes less of it, ends here. */
static inline void twill__resource_settle(struct twill_resource_pool *pool,
                                          twill__resource_turn *turn)
{
    twill__resource_serve_line(pool, turn);
    if (pool->waiters.first && !pool->closed && twill__resource_stuck(pool)) {
        twill__resource_untie(pool, turn); /* what went into the first hand has closed a circle */
        twill__resource_serve_line(pool, turn);
    }
    if (!pool->total)
        twill__wakes_grant_all(&turn->wakes, &pool->drainers, TWILL_OK);
}

static inline void twill__resource_prepend(twill__list *list, twill__node *node)
{
    TWILL__CHAIN_IN(list->first, list->last, NULL, node, previous, next);
}

#endif

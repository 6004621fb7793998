/* desk.h: where the resources of a plain pool are lent and given back without its lock. */
#ifndef TWILL__RESOURCE_DESK_H
#define TWILL__RESOURCE_DESK_H

#include "engine/spin.h"

/* One word a slot, its cell, says all that a borrower has to know: how often the slot was lent (the
   lowest 32 bits are the lease's generation), whether it is lent now, and when it came back. A cell
   of 0: the slot is in the books, under the lock. A borrower makes IDLE into LENT by a
   compare-and-swap, a return makes LENT into IDLE, of that lending alone: so one of two returns
   wins, and the other one is stale. Whoever has the lock takes all cells away first: a return
   before that is seen, and one after it fails, and comes to the lock. So nobody has to look for who
   waits: while anybody does, there are no cells. Each cell is decided by itself: acquire and
   release are enough.

   Those two are nearly all that a pair of calls costs. So where nobody has come to the lock for a
   while, returns are LIGHT: the cells are SPLIT, and say how often a slot was lent; a second word,
   `done`, says how many of these lendings have come back: idle is what has them all. It is written
   without a compare-and-swap, since only one thread writes it: the one that has borrowed. It notes
   in its site that this lending goes back, passes a light fence, looks whether returns are LIGHT,
   then writes `done`; or takes the note back and comes to the lock. Whoever has the lock says first
   that returns are not LIGHT any more, takes the cells, passes a heavy fence (platform/fence.h)
   and looks at `done` and at the notes: a return of which he sees neither will see what he has
   said; for one of which he sees the note alone, he waits a few steps. So none is under way once
   the cells are gone. The note stays: a second return by the same thread finds it.

   Another thread's return comes to the lock. From then on leases are MOVING in this pool: never
   again LIGHT. For a thread that gives back what another one gives back at the same time, by a
   copy, may be about to write to `done` at any time later: it is not read any more.

   Stamps keep the idle order: a return gets the one after the highest idle one. They are compared
   as distances, which are short: either the highest or the lowest goes first. 44 bits of lendings:
   the figures lose count after 2^44 of one slot with no call in between that needs the lock. */
enum {
    TWILL__DESK_SLOTS = 16,
    TWILL__DESK_IDLE = 1,
    TWILL__DESK_LENT = 2,
    TWILL__DESK_SPLIT = 3,
    TWILL__DESK_STATE = 3,
    TWILL__DESK_STAMP_SHIFT = 2,
    TWILL__DESK_LENDING_SHIFT = 20
};
#define TWILL__DESK_STAMPS   ((UINT32_C(1) << 18) - 1)
#define TWILL__DESK_LENDINGS ((UINT64_C(1) << 44) - 1)

enum {                         /* how returns come: */
       TWILL__DESK_MOVING = 0, /* by anybody */
       TWILL__DESK_WARY,       /* by a compare-and-swap, of the borrower */
       TWILL__DESK_LIGHT
};

/* A heavy fence costs as much as some hundred light returns spare: they are LIGHT after so many
   lendings without a call that needs the lock, and every so often a return comes there to see. A
   power of 2. And only while one thread alone comes and goes: where several do, a line of memory
   changes hands for each call, and a store is seen later than a compare-and-swap. */
#ifndef TWILL__DESK_REST
#define TWILL__DESK_REST 1024
#endif
#ifndef TWILL__DESK_ALONE
#define TWILL__DESK_ALONE true
#endif

typedef struct twill__desk_site { /* who has it: written by the borrower, after the claim */
    _Atomic(void *) resource;     /* by who shows the cell */
    _Atomic uint64_t who;         /* 2 x the thread's number + only he can give it back */
    _Atomic(const char *) file;
    _Atomic int line;
    _Atomic uint64_t lending; /* that the rest is about; stored last */
    _Atomic uint64_t back;    /* the lending that its borrower has given back, or is about to */
    char apart[TWILL__LINE - 48];
} twill__desk_site;

typedef struct twill__desk_slot { /* side by side: who needs one mostly needs the other, too */
    _Atomic uint64_t cell;
    _Atomic uint64_t done; /* by who gives back; by who shows LIGHT cells */
} twill__desk_slot;

typedef struct twill__desk {
    char before[TWILL__LINE]; /* apart from the lock */
    twill__desk_slot slot[TWILL__DESK_SLOTS];
    char aside[TWILL__LINE];
    _Atomic uint32_t mode;   /* MOVING, WARY, LIGHT: by who has the lock */
    _Atomic uint32_t count;  /* cells to look at */
    _Atomic uint32_t beside; /* lent ones that have none: evicted */
    _Atomic uint32_t peak;   /* of those lent, as the borrowers saw it */
    _Atomic bool full;       /* nothing can be created: it may be worth while to wait a moment */
    _Atomic bool crowd;      /* several threads have come since the cells were shown */
    char between[TWILL__LINE];
    _Atomic uint64_t last; /* the only slot's cell, when it came back; else 0 */
    char after[TWILL__LINE];
    twill__desk_site site[TWILL__DESK_SLOTS];
} twill__desk;

static inline uint64_t twill__desk_cell(uint64_t lendings, uint32_t stamp, uint32_t state)
{
    return lendings << TWILL__DESK_LENDING_SHIFT |
           (uint64_t)(stamp & TWILL__DESK_STAMPS) << TWILL__DESK_STAMP_SHIFT | state;
}

static inline uint32_t twill__desk_state(uint64_t cell)
{
    return (uint32_t)cell & TWILL__DESK_STATE;
}

static inline uint32_t twill__desk_stamp(uint64_t cell)
{
    return (uint32_t)(cell >> TWILL__DESK_STAMP_SHIFT) & TWILL__DESK_STAMPS;
}

/* The number of the lending after so many; of more than 44 bits when they are used up: what a cell
   holds of it is right. */
static inline uint64_t twill__desk_after(uint64_t lendings)
{
    lendings++;
    return lendings + ((uint32_t)lendings == 0); /* no generation is 0 */
}

/* Did a come back after b? */
static inline bool twill__desk_later(uint64_t a, uint64_t b)
{
    uint32_t distance = (twill__desk_stamp(a) - twill__desk_stamp(b)) & TWILL__DESK_STAMPS;
    return distance != 0 && distance <= TWILL__DESK_STAMPS / 2;
}

static inline void twill__desk_peak(twill__desk *desk, uint32_t lent)
{
    /* relaxed: a figure */
    uint32_t peak = atomic_load_explicit(&desk->peak, memory_order_relaxed);
    while (lent > peak) /* exit: raised, by this one or by another */
        if (atomic_compare_exchange_weak_explicit(&desk->peak, &peak, lent, memory_order_relaxed,
                                                  memory_order_relaxed))
            return;
}

/* What a split cell says, with what `done` says: IDLE or LENT. */
static inline uint64_t twill__desk_joined(uint64_t cell, uint64_t done)
{
    uint64_t lendings = cell >> TWILL__DESK_LENDING_SHIFT;
    return done >> TWILL__DESK_LENDING_SHIFT == lendings
               ? done
               : twill__desk_cell(lendings, 0, TWILL__DESK_LENT);
}

/* What the slot's cell says; *cell: what is in it. A guess for the CAS; but once that has found the
   cell as it was, what it says was right. */
static inline uint64_t twill__desk_look(const twill__desk *desk, uint32_t slot, uint64_t *cell)
{
    *cell = atomic_load_explicit(&desk->slot[slot].cell, memory_order_relaxed);
    if (twill__desk_state(*cell) != TWILL__DESK_SPLIT)
        return *cell;
    /* acquire: pairs with the release in twill__desk_back_lightly */
    return twill__desk_joined(*cell,
                              atomic_load_explicit(&desk->slot[slot].done, memory_order_acquire));
}

/* Makes an idle cell a lent one, if it is still `old`. */
static inline bool twill__desk_claim(twill__desk *desk, uint32_t slot, uint64_t old,
                                     uint64_t *lending)
{
    uint32_t state =
        twill__desk_state(old) == TWILL__DESK_SPLIT ? TWILL__DESK_SPLIT : TWILL__DESK_LENT;
    *lending = twill__desk_after(old >> TWILL__DESK_LENDING_SHIFT);
    /* acquire: pairs with the release of who gave it back, or showed it */
    return atomic_compare_exchange_strong_explicit(&desk->slot[slot].cell, &old,
                                                   twill__desk_cell(*lending, 0, state),
                                                   memory_order_acquire, memory_order_relaxed);
}

/* The one that has to go next, TWILL__DESK_SLOTS: none; with its cell, and how many are lent. */
static inline uint32_t twill__desk_next(const twill__desk *desk, bool fifo, uint64_t *cell,
                                        uint32_t *lent)
{
    uint32_t found = TWILL__DESK_SLOTS;
    uint64_t next = 0;
    /* relaxed, all: guesses for the CAS */
    uint32_t count = atomic_load_explicit(&desk->count, memory_order_relaxed);
    *lent = atomic_load_explicit(&desk->beside, memory_order_relaxed);
    for (uint32_t k = 0; k < count; k++) {
        uint64_t now, said = twill__desk_look(desk, k, &now);
        *lent += twill__desk_state(said) == TWILL__DESK_LENT;
        if (twill__desk_state(said) != TWILL__DESK_IDLE ||
            (found != TWILL__DESK_SLOTS && twill__desk_later(said, next) == fifo))
            continue;
        found = k;
        next = said;
        *cell = now;
    }
    return found;
}

/* Claims the one that has to go next. False: none was seen; the lock knows for certain. */
static __attribute__((noinline)) bool twill__desk_search(twill__desk *desk, bool fifo,
                                                         uint32_t *slot, uint64_t *lending)
{
    uint64_t cell = 0;
    uint32_t lent;
    for (;;) { /* exit: claimed, or none; each turn is another's claim, or who has the lock */
        *slot = twill__desk_next(desk, fifo, &cell, &lent);
        if (*slot == TWILL__DESK_SLOTS)
            return false;
        if (twill__desk_claim(desk, *slot, cell, lending)) {
            twill__desk_peak(desk, lent + 1);
            return true;
        }
    }
}

/* Is there one slot, the first one? Relaxed: a hint. */
static inline bool twill__desk_single(const twill__desk *desk)
{
    return atomic_load_explicit(&desk->count, memory_order_relaxed) == 1;
}

/* Claims the only slot while returns are LIGHT. False: there are more, or it was not seen to be
   idle. What its cell should be, if it is idle, `done` says: a cell that was just written is slow
   to read. */
static inline bool twill__desk_take_single(twill__desk *desk, uint64_t *lending)
{
    uint64_t done;
    /* relaxed: a hint */
    if (!twill__desk_single(desk) ||
        atomic_load_explicit(&desk->mode, memory_order_relaxed) != TWILL__DESK_LIGHT)
        return false;
    /* acquire: as in twill__desk_look */
    done = atomic_load_explicit(&desk->slot[0].done, memory_order_acquire);
    return twill__desk_claim(
        desk, 0, twill__desk_cell(done >> TWILL__DESK_LENDING_SHIFT, 0, TWILL__DESK_SPLIT),
        lending);
}

/* Claims an idle slot. False: as above. */
static inline bool twill__desk_take(twill__desk *desk, bool fifo, uint32_t *slot, uint64_t *lending)
{
    /* relaxed: what came back last, for the same reason */
    uint64_t cell =
        twill__desk_single(desk) ? atomic_load_explicit(&desk->last, memory_order_relaxed) : 0;
    *slot = 0;
    return twill__desk_take_single(desk, lending) ||
           (cell && twill__desk_claim(desk, 0, cell, lending)) ||
           twill__desk_search(desk, fifo, slot, lending);
}

/* After a claim: who has it. Returns the resource. */
static inline void *twill__desk_sign(twill__desk *desk, uint32_t slot, uint64_t lending,
                                     uint64_t who, const char *file, int line)
{
    twill__desk_site *site = &desk->site[slot];
    atomic_store_explicit(&site->who, who, memory_order_relaxed);
    atomic_store_explicit(&site->file, file, memory_order_relaxed);
    atomic_store_explicit(&site->line, line, memory_order_relaxed);
    /* release: pairs with twill__desk_signed */
    atomic_store_explicit(&site->lending, lending, memory_order_release);
    /* relaxed: the claim synchronises */
    return atomic_load_explicit(&site->resource, memory_order_relaxed);
}

/* After a claim, before that: was it another thread's before? */
static inline void twill__desk_meet(twill__desk *desk, uint32_t slot, uint64_t who)
{
    /* Relaxed, all: a hint. Looked for no longer than needed: another's line is slow to read. */
    if (TWILL__DESK_ALONE && !atomic_load_explicit(&desk->crowd, memory_order_relaxed)) {
        uint64_t last = atomic_load_explicit(&desk->site[slot].who, memory_order_relaxed);
        if (last && last / 2 != who / 2)
            atomic_store_explicit(&desk->crowd, true, memory_order_relaxed);
    }
}

/* Has the borrower of this lending written who he is? Else he is about to. */
static inline bool twill__desk_signed(const twill__desk *desk, uint32_t slot, uint32_t generation)
{
    return (uint32_t)atomic_load_explicit(&desk->site[slot].lending, memory_order_acquire) ==
           generation;
}

/* Where that was; NULL: not known yet. */
static inline void twill__desk_place(const twill__desk *desk, uint32_t slot, uint32_t generation,
                                     twill_lease_info *info)
{
    bool known = twill__desk_signed(desk, slot, generation);
    const twill__desk_site *site = &desk->site[slot];
    /* relaxed: twill__desk_signed synchronises */
    info->file = known ? atomic_load_explicit(&site->file, memory_order_relaxed) : NULL;
    info->line = known ? atomic_load_explicit(&site->line, memory_order_relaxed) : 0;
}

/* The stamp of what comes back now, where it is not the only one: that has 1. */
static __attribute__((noinline)) uint32_t twill__desk_new_stamp(const twill__desk *desk)
{
    /* relaxed: a hint */
    uint32_t count = atomic_load_explicit(&desk->count, memory_order_relaxed);
    uint64_t top = 0;
    for (uint32_t k = 0; k < count; k++) {
        uint64_t raw, cell = twill__desk_look(desk, k, &raw); /* two at once have no order */
        if (twill__desk_state(cell) == TWILL__DESK_IDLE && (!top || twill__desk_later(cell, top)))
            top = cell;
    }
    return twill__desk_stamp(top) + 1;
}

/* Notes that the borrower gives this lending back; 0: not yet, after all. */
static inline void twill__desk_note(twill__desk *desk, uint32_t slot, uint64_t lending)
{
    /* release: pairs with twill__desk_own; and by the two fences with who takes the cells away */
    atomic_store_explicit(&desk->site[slot].back, lending, memory_order_release);
}

/* Is the lending of this generation one that this thread, number `me`, has borrowed and not given
   back? OK: *lending; STALE: it has given it back; EMPTY: the lock decides. */
static inline __attribute__((always_inline)) twill_status
twill__desk_own(const twill__desk *desk, uint32_t slot, uint32_t generation, uint64_t me,
                uint64_t *lending)
{
    /* acquire: pairs with the release in twill__desk_note. What another thread notes here comes
       after what it has signed: so who does not see his own note any more sees that it is not his
       lending any more. */
    uint64_t back = atomic_load_explicit(&desk->site[slot].back, memory_order_acquire);
    /* relaxed: this thread wrote it, or was shown it; or sees another's */
    *lending = atomic_load_explicit(&desk->site[slot].lending, memory_order_relaxed);
    if ((uint32_t)*lending != generation ||
        atomic_load_explicit(&desk->site[slot].who, memory_order_relaxed) / 2 != me)
        return TWILL_EMPTY;
    return back == *lending ? TWILL_STALE : TWILL_OK;
}

/* Gives a lending back, while returns are LIGHT; the last store is the last access. */
static inline __attribute__((always_inline)) twill_status
twill__desk_back_lightly(twill__desk *desk, uint32_t slot, uint32_t generation, uint64_t me,
                         bool single)
{
    uint64_t lending;
    uint32_t stamp = 1;
    twill_status status = twill__desk_own(desk, slot, generation, me, &lending);
    if (status != TWILL_OK)
        return status;
    /* relaxed: a hint */
    if (generation % TWILL__DESK_REST == 0 &&
        atomic_load_explicit(&desk->crowd, memory_order_relaxed))
        return TWILL_EMPTY;
    if (!single)
        stamp = twill__desk_new_stamp(desk);
    twill__desk_note(desk, slot, lending);
    twill__fence_light();
    /* acquire: pairs with the release in twill__resource_set_mode: what was stored to `done` before
       comes before this */
    if (atomic_load_explicit(&desk->mode, memory_order_acquire) != TWILL__DESK_LIGHT) {
        twill__desk_note(desk, slot, 0);
        return TWILL_EMPTY;
    }
    /* release: pairs with the acquire of who borrows it next, or takes the cells away */
    atomic_store_explicit(&desk->slot[slot].done,
                          twill__desk_cell(lending, stamp, TWILL__DESK_IDLE), memory_order_release);
    return TWILL_OK;
}

/* The same by a compare-and-swap, which is the last access. */
static inline twill_status twill__desk_back_warily(twill__desk *desk, uint32_t slot,
                                                   uint32_t generation)
{
    /* What its borrower has signed is what is in the cell, if it is this lending; else the cell, in
       which the borrower's own claim, or 0, comes before his return. Relaxed: guesses for the CAS
       below */
    uint64_t cell = atomic_load_explicit(&desk->site[slot].lending, memory_order_relaxed), idle;
    if ((uint32_t)cell == generation)
        cell = twill__desk_cell(cell, 0, TWILL__DESK_LENT);
    else
        cell = atomic_load_explicit(&desk->slot[slot].cell, memory_order_relaxed);
    for (;;) { /* exit: back, or not here; each turn is who has the lock */
        bool single = twill__desk_single(desk);
        if (!cell || twill__desk_state(cell) == TWILL__DESK_SPLIT)
            return TWILL_EMPTY;
        if (twill__desk_state(cell) != TWILL__DESK_LENT ||
            (uint32_t)(cell >> TWILL__DESK_LENDING_SHIFT) != generation)
            return TWILL_STALE;
        idle = twill__desk_cell(cell >> TWILL__DESK_LENDING_SHIFT,
                                single ? 1 : twill__desk_new_stamp(desk), TWILL__DESK_IDLE);
        if (single) /* relaxed: a guess for who comes next */
            atomic_store_explicit(&desk->last, idle, memory_order_relaxed);
        /* release: pairs with the acquire in twill__desk_claim, or of who takes the cells away */
        if (atomic_compare_exchange_strong_explicit(&desk->slot[slot].cell, &cell, idle,
                                                    memory_order_release, memory_order_relaxed))
            return TWILL_OK;
    }
}

/* The same where returns may be LIGHT later: by the borrower, who notes it; and every so often not
   here. */
static inline twill_status twill__desk_back_noted(twill__desk *desk, uint32_t slot,
                                                  uint32_t generation, uint64_t me)
{
    uint64_t lending;
    twill_status status = twill__desk_own(desk, slot, generation, me, &lending);
    if (status != TWILL_OK)
        return status;
    if (generation % TWILL__DESK_REST == 0)
        return TWILL_EMPTY;
    twill__desk_note(desk, slot, lending);
    status = twill__desk_back_warily(desk, slot, generation);
    if (status == TWILL_EMPTY)
        twill__desk_note(desk, slot, 0);
    return status;
}

/* Gives a lending back: OK; STALE; EMPTY: the lock decides. */
static inline twill_status twill__desk_back(twill__desk *desk, uint32_t slot, uint32_t generation)
{
    uint64_t me = twill__thread_number();
    uint32_t mode;
    if (slot >= TWILL__DESK_SLOTS)
        return TWILL_EMPTY;
    /* acquire: pairs with the release in twill__resource_set_mode: the site */
    mode = atomic_load_explicit(&desk->mode, memory_order_acquire);
    if (mode == TWILL__DESK_LIGHT)
        return twill__desk_back_lightly(desk, slot, generation, me, twill__desk_single(desk));
    if (mode == TWILL__DESK_WARY)
        return twill__desk_back_noted(desk, slot, generation, me);
    return twill__desk_back_warily(desk, slot, generation);
}

/* The same for the only slot, lightly, by a thread that has a number: without a call. False: not
   so. */
static inline bool twill__desk_back_single(twill__desk *desk, uint32_t slot, uint32_t generation)
{
    uint64_t me = twill__thread_number_known();
    /* acquire: as above */
    return me && slot == 0 && twill__desk_single(desk) &&
           atomic_load_explicit(&desk->mode, memory_order_acquire) == TWILL__DESK_LIGHT &&
           twill__desk_back_lightly(desk, 0, generation, me, true) == TWILL_OK;
}

/* ---- by who has the lock and has taken the cells ---- */

typedef struct twill__desk_wait {
    const twill__desk *desk;
    uint32_t slot;
    uint64_t cell; /* split; then what it says */
} twill__desk_wait;

/* Is it known whether it is back? */
static bool twill__desk_settled(void *wait_)
{
    twill__desk_wait *wait = (twill__desk_wait *)wait_;
    /* acquire: pairs with the release in twill__desk_back_lightly */
    uint64_t said = twill__desk_joined(
        wait->cell, atomic_load_explicit(&wait->desk->slot[wait->slot].done, memory_order_acquire));
    /* relaxed: pairs by the two fences */
    uint64_t back = atomic_load_explicit(&wait->desk->site[wait->slot].back, memory_order_relaxed);
    if (twill__desk_state(said) != TWILL__DESK_IDLE &&
        twill__desk_cell(back, 0, TWILL__DESK_LENT) == said)
        return false;
    wait->cell = said;
    return true;
}

/* After the heavy fence: what a split cell of this slot says; a return that is under way is waited
   for. */
static inline uint64_t twill__desk_settle(const twill__desk *desk, uint32_t slot, uint64_t cell)
{
    twill__desk_wait wait = {desk, slot, cell};
    if (!twill__desk_settled(&wait) &&
        !twill__spin_for(twill__desk_settled, &wait, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS))
        while (!twill__desk_settled(&wait)) /* exit: it has a few steps to go, once it runs */
            twill__doze(TWILL_US(50));
    return wait.cell;
}

/* Returns are not LIGHT any more, and these cells are taken: makes those that are split IDLE or
   LENT. False: the kernel has taken its fence away. */
static __attribute__((noinline)) bool twill__desk_join(twill__desk *desk,
                                                       uint64_t cell[TWILL__DESK_SLOTS])
{
    bool lent = false, fenced = true;
    for (uint32_t k = 0; k < TWILL__DESK_SLOTS; k++) {
        uint64_t said;
        if (twill__desk_state(cell[k]) != TWILL__DESK_SPLIT)
            continue;
        /* acquire: as above */
        said = twill__desk_joined(cell[k],
                                  atomic_load_explicit(&desk->slot[k].done, memory_order_acquire));
        if (twill__desk_state(said) == TWILL__DESK_IDLE)
            cell[k] = said; /* and so it stays: who has borrowed it is through */
        else
            lent = true;
    }
    if (lent)
        fenced = twill__fence_heavy();
    for (uint32_t k = 0; lent && k < TWILL__DESK_SLOTS; k++)
        if (twill__desk_state(cell[k]) == TWILL__DESK_SPLIT)
            cell[k] = twill__desk_settle(desk, k, cell[k]);
    return fenced;
}

/* Before LIGHT cells are shown: so many lendings of the slot have come back. */
static inline void twill__desk_prepare(twill__desk *desk, uint32_t slot, uint64_t lendings,
                                       uint32_t stamp)
{
    /* relaxed: published by the mode, and by the cell */
    atomic_store_explicit(&desk->slot[slot].done,
                          twill__desk_cell(lendings, stamp, TWILL__DESK_IDLE),
                          memory_order_relaxed);
}

#endif

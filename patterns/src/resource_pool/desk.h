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

   Stamps keep the idle order: a return gets the one after the highest idle one. They are compared
   as distances, which are short: either the highest or the lowest goes first. 44 bits of lendings:
   the figures lose count after 2^44 of one slot with no call in between that needs the lock. */
enum {
    TWILL__DESK_SLOTS = 16,
    TWILL__DESK_IDLE = 1,
    TWILL__DESK_LENT = 2,
    TWILL__DESK_STATE = 3,
    TWILL__DESK_STAMP_SHIFT = 2,
    TWILL__DESK_LENDING_SHIFT = 20
};
#define TWILL__DESK_STAMPS ((UINT32_C(1) << 18) - 1)

typedef struct twill__desk_site { /* who has it: written by the borrower, after the claim */
    _Atomic(void *) resource;     /* by who shows the cell */
    _Atomic uint64_t holder;      /* who alone can give it back; 0: anybody */
    _Atomic(const char *) file;
    _Atomic int line;
    _Atomic uint64_t lending; /* that the rest is about; stored last */
    char apart[TWILL__LINE - 40];
} twill__desk_site;

typedef struct twill__desk {
    char before[TWILL__LINE]; /* apart from the lock */
    _Atomic uint64_t cell[TWILL__DESK_SLOTS];
    _Atomic uint32_t count;  /* cells to look at */
    _Atomic uint32_t beside; /* lent ones that have none: evicted */
    _Atomic uint32_t peak;   /* of those lent, as the borrowers saw it */
    _Atomic bool full;       /* nothing can be created: it may be worth while to wait a moment */
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
    while (lent > peak &&
           !atomic_compare_exchange_weak_explicit(&desk->peak, &peak, lent, memory_order_relaxed,
                                                  memory_order_relaxed)) {}
}

/* Makes an idle cell a lent one, if it is still `old`. */
static inline bool twill__desk_claim(twill__desk *desk, uint32_t slot, uint64_t old,
                                     uint64_t *lending)
{
    *lending = (old >> TWILL__DESK_LENDING_SHIFT) + 1;
    *lending += (uint32_t)*lending == 0; /* no generation is 0 */
    /* acquire: pairs with the release of who gave it back, or showed it */
    return atomic_compare_exchange_strong_explicit(&desk->cell[slot], &old,
                                                   twill__desk_cell(*lending, 0, TWILL__DESK_LENT),
                                                   memory_order_acquire, memory_order_relaxed);
}

/* The one that has to go next, TWILL__DESK_SLOTS: none; with its cell, and how many are lent. */
static inline uint32_t twill__desk_next(const twill__desk *desk, bool fifo, uint64_t *cell,
                                        uint32_t *lent)
{
    uint32_t found = TWILL__DESK_SLOTS;
    /* relaxed, all: guesses for the CAS */
    uint32_t count = atomic_load_explicit(&desk->count, memory_order_relaxed);
    *lent = atomic_load_explicit(&desk->beside, memory_order_relaxed);
    for (uint32_t k = 0; k < count; k++) {
        uint64_t now = atomic_load_explicit(&desk->cell[k], memory_order_relaxed);
        *lent += twill__desk_state(now) == TWILL__DESK_LENT;
        if (twill__desk_state(now) != TWILL__DESK_IDLE ||
            (found != TWILL__DESK_SLOTS && twill__desk_later(now, *cell) == fifo))
            continue;
        found = k;
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

/* Claims an idle slot. False: as above. */
static inline bool twill__desk_take(twill__desk *desk, bool fifo, uint32_t *slot, uint64_t *lending)
{
    /* A cell that was just written is slow to read. Where no order has to be looked for, what came
       back last says what is in it. Relaxed, all: guesses for the CAS, or cleared for the next. */
    uint64_t cell = atomic_load_explicit(&desk->last, memory_order_relaxed);
    if (cell && atomic_load_explicit(&desk->count, memory_order_relaxed) == 1 &&
        twill__desk_claim(desk, 0, cell, lending)) {
        *slot = 0;
        return true;
    }
    return twill__desk_search(desk, fifo, slot, lending);
}

/* After a claim: who has it. Returns the resource. */
static inline void *twill__desk_sign(twill__desk *desk, uint32_t slot, uint64_t lending,
                                     uint64_t holder, const char *file, int line)
{
    twill__desk_site *site = &desk->site[slot];
    atomic_store_explicit(&site->holder, holder, memory_order_relaxed);
    atomic_store_explicit(&site->file, file, memory_order_relaxed);
    atomic_store_explicit(&site->line, line, memory_order_relaxed);
    /* release: pairs with twill__desk_signed */
    atomic_store_explicit(&site->lending, lending, memory_order_release);
    /* relaxed: the claim synchronises */
    return atomic_load_explicit(&site->resource, memory_order_relaxed);
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

/* Under the same count of cells: the stamp of what comes back now. */
static __attribute__((noinline)) uint32_t twill__desk_new_stamp(const twill__desk *desk,
                                                                uint32_t count)
{
    uint64_t top = 0;
    for (uint32_t k = 0; k < count; k++) {
        /* relaxed: returns at the same time have no order */
        uint64_t cell = atomic_load_explicit(&desk->cell[k], memory_order_relaxed);
        if (twill__desk_state(cell) == TWILL__DESK_IDLE && (!top || twill__desk_later(cell, top)))
            top = cell;
    }
    return twill__desk_stamp(top) + 1;
}

/* Gives a lending back; the CAS is the last access. OK; STALE; EMPTY: it is in the books. */
static inline twill_status twill__desk_back(twill__desk *desk, uint32_t slot, uint32_t generation)
{
    uint64_t cell, idle;
    if (slot >= TWILL__DESK_SLOTS)
        return TWILL_EMPTY;
    /* What its borrower has signed is what is in the cell, if it is this lending; else the cell, in
       which the borrower's own claim, or 0, comes before his return. Relaxed: guesses for the CAS
       below */
    cell = atomic_load_explicit(&desk->site[slot].lending, memory_order_relaxed);
    if ((uint32_t)cell == generation)
        cell = twill__desk_cell(cell, 0, TWILL__DESK_LENT);
    else
        cell = atomic_load_explicit(&desk->cell[slot], memory_order_relaxed);
    for (;;) { /* exit: back, or not here; each turn is who has the lock */
        /* relaxed: a hint */
        uint32_t count = atomic_load_explicit(&desk->count, memory_order_relaxed);
        if (!cell)
            return TWILL_EMPTY;
        if (twill__desk_state(cell) != TWILL__DESK_LENT ||
            (uint32_t)(cell >> TWILL__DESK_LENDING_SHIFT) != generation)
            return TWILL_STALE;
        idle =
            twill__desk_cell(cell >> TWILL__DESK_LENDING_SHIFT,
                             count == 1 ? 1 : twill__desk_new_stamp(desk, count), TWILL__DESK_IDLE);
        if (count == 1) /* relaxed: a guess for who comes next */
            atomic_store_explicit(&desk->last, idle, memory_order_relaxed);
        /* release: pairs with the acquire in twill__desk_claim, or of who takes the cells away */
        if (atomic_compare_exchange_strong_explicit(&desk->cell[slot], &cell, idle,
                                                    memory_order_release, memory_order_relaxed))
            return TWILL_OK;
    }
}

#endif

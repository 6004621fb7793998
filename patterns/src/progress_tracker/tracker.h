/* tracker.h: one bar: its state, its locks, its counts. */
#ifndef TWILL__PROGRESS_TRACKER_H
#define TWILL__PROGRESS_TRACKER_H

#include "engine/map.h"
#include "platform/terminal.h"
#include "progress_tracker/count.h"
#include "progress_tracker/rate.h"
#include "progress_tracker/text.h"

#include <stdarg.h>
#include <stdio.h>

/* A family of bars shares a screen: the descriptor, who draws, what stands on the terminal. Three
   things are guarded apart, and taken in this order:
     turn  held by whoever samples, calls on_view and draws: one at a time
     io    held around a write, which may block; guards what the screen shows
     lock  short, never held around a callback or a system call that may block; guards the bars and
           their list
   The renderer thread may hang in a write for ever; whoever finishes then leaves it behind, and it
   must not touch a bar after that: `blocked` decides. */

enum {
    TWILL__SCREEN_FRAME = 16384, /* bytes of a frame; bars beyond it are not drawn */
    TWILL__SCREEN_LINE = 2304,   /* one line at most: JSON, every byte of the label escaped */
    TWILL__SCREEN_KEPT = 4096,   /* bytes of lines of children that end while suspended */
    TWILL__PROGRESS_LABEL = 256,
    TWILL__PROGRESS_UNIT = 32,
    TWILL__PROGRESS_CELLS = 40
};
#ifndef TWILL__SCREEN_STUCK
#define TWILL__SCREEN_STUCK TWILL_SEC(1) /* how long finish waits for a blocked terminal */
#endif
#ifndef TWILL__SCREEN_PERIOD              /* the explorer wants more */
#define TWILL__SCREEN_PERIOD TWILL_SEC(1) /* the renderer looks round so often at least */
#endif
#define TWILL__PROGRESS_SAMPLE TWILL_MS(10) /* views closer together share a sample */

enum { TWILL__PROGRESS_RUNNING, TWILL__PROGRESS_ENDING, TWILL__PROGRESS_ENDED }; /* a bar */
enum {
    TWILL__RENDERER_FREE,
    TWILL__RENDERER_BLOCKED,
    TWILL__RENDERER_ABANDONED
}; /* the renderer */

typedef struct twill__screen {
    _Atomic uint32_t refs; /* one a bar, one for the renderer */
    /* set at creation */
    twill__home home; /* the process that draws */
    int fd;
    unsigned width, columns; /* as asked for; of the environment */
    bool terminal, ascii, color, accessible;
    twill_progress_style style;
    twill_ns interval;
    twill_progress *root;
    /* who draws */
    _Atomic uint32_t draw_by;
    _Atomic uint32_t over;   /* the root is finished: nothing is drawn any more */
    _Atomic uint32_t broken; /* a write failed: as if SILENT */
    _Atomic uint32_t turn, io, lock;
    _Atomic uint64_t turn_owner; /* thread number, 0: nobody */
    _Atomic int64_t next_draw;
    /* the renderer */
    bool threaded; /* lock: it was started */
    _Atomic uint32_t requests, stop, ended, blocked;
    twill__thrd thread;
    /* lock */
    twill_progress *first, *last; /* each bar before its children */
    twill_progress *calling;      /* whose on_view runs */
    _Atomic uint32_t called;      /* callbacks that have returned */
    uint32_t pass;
    /* io */
    unsigned suspended;
    unsigned shown_lines; /* on the terminal; the cursor stands in the last one */
    unsigned shown_cells; /* COUNTER: of the text */
    uint64_t shown_hash;
    bool lost; /* nobody knows what is on the terminal */
    size_t kept_length;
    char frame[TWILL__SCREEN_FRAME];
    char kept[TWILL__SCREEN_KEPT]; /* for the first frame after a resume */
} twill__screen;

struct twill_progress {
    twill__tally counter;
    /* set at creation */
    _Alignas(TWILL__LINE) twill__screen *screen;
    void *block; /* as allocated */
    uint64_t weight;
    twill_ns created, quiet_for;
    bool slow, clear_at_end; /* slow: an update has to look who draws */
    void (*on_view)(const twill_progress_view *view, const twill_task *task);
    void *context;
    twill__print_unit unit;
    char unit_name[TWILL__PROGRESS_UNIT];
    _Atomic uint64_t total;
    _Atomic uint32_t total_known;
    _Atomic uint32_t state; /* changes under the lock; finish parks on it */
    /* under the screen's lock */
    twill_progress *parent, *next, *previous;
    unsigned depth;
    bool listed, included /* its last line is in the frame being written */,
        told /* on_view has seen the end */;
    uint32_t pass;
    twill_status outcome;
    twill_ns ended;
    twill__speed rate;
    uint64_t given[TWILL__TALLY_KINDS]; /* by children that have ended */
    uint64_t seen[TWILL__TALLY_KINDS];  /* the last count */
    uint32_t anchors;                   /* of the counter, from before that count */
    uint64_t live, live_rest;           /* of children that run, the rest in 2^-32 */
    _Atomic uint64_t teller;            /* the thread in on_view out of turn, 0: none */
    int decile;                         /* accessible: the last one said */
    twill_ns next_line;                 /* accessible, total unknown */
    unsigned steps;                     /* unknown total: where the marker stands */
    uint64_t stepped;
    char label[TWILL__PROGRESS_LABEL];
};

/* ---- gates: locks that may be held for long ---- */

/* Whoever waits until then takes the terminal for stuck. */
static inline twill_ns twill__screen_stuck_at(void)
{
    return twill__instant_after(twill__clock_now(), TWILL__SCREEN_STUCK);
}

static inline bool twill__screen_gate_try(_Atomic uint32_t *gate)
{
    uint32_t none = 0; /* acquire: pairs with the release in twill__screen_gate_leave */
    return atomic_compare_exchange_strong_explicit(gate, &none, 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

/* 0: for ever. A wake that reaches a waiter makes twill__park true, so none is lost to a deadline.
   */
static inline bool twill__screen_gate_enter(_Atomic uint32_t *gate, twill_ns deadline)
{
    if (twill__screen_gate_try(gate))
        return true;
    while (atomic_exchange_explicit(gate, 2, memory_order_acquire) !=
           0) /* 2: somebody sleeps. Pairs as above */
        if (!twill__park(gate, 2, deadline))
            return false;
    return true;
}

static inline void twill__screen_gate_leave(_Atomic uint32_t *gate)
{
    if (atomic_exchange_explicit(gate, 0, memory_order_release) ==
        2) /* pairs with the acquires above */
        twill__wake(gate, 1);
}

static inline void twill__screen_turn_taken(twill__screen *screen)
{
    /* relaxed: only compared with one's own number */
    atomic_store_explicit(&screen->turn_owner, twill__thread_number(), memory_order_relaxed);
}

static inline void twill__screen_turn_leave(twill__screen *screen)
{
    atomic_store_explicit(&screen->turn_owner, 0, memory_order_relaxed);
    twill__screen_gate_leave(&screen->turn);
}

static inline bool twill__screen_turn_mine(twill__screen *screen)
{
    return atomic_load_explicit(&screen->turn_owner, memory_order_relaxed) ==
           twill__thread_number();
}

static inline bool twill__progress_forked(const twill__screen *screen)
{
    return !twill__at_home(screen->home);
}

/* ---- counting, under the lock ---- */

/* The own counters. The number of anchors first: who sees one sees its base, and one that comes in
   between is seen the next time, which starts the rate anew. */
static inline void twill__progress_look(twill_progress *progress)
{
    /* acquire: pairs with twill__tally_set */
    progress->anchors = atomic_load_explicit(&progress->counter.anchors, memory_order_acquire);
    for (unsigned kind = 0; kind < TWILL__TALLY_KINDS; kind++)
        progress->seen[kind] =
            twill__tally_plus(twill__tally_read(&progress->counter, kind), progress->given[kind]);
}

/* Loads all counters, then adds each child's part to its parent, the innermost first. */
static inline void twill__screen_count(twill__screen *screen)
{
    for (twill_progress *p = screen->first; p; p = p->next) {
        twill__progress_look(p);
        p->live = p->live_rest = 0;
    }
    for (twill_progress *p = screen->last; p; p = p->previous) {
        uint64_t total = atomic_load_explicit(&p->total, memory_order_relaxed), processed, rest,
                 more;
        p->seen[TWILL__TALLY_DONE] = twill__tally_plus(
            p->seen[TWILL__TALLY_DONE], twill__tally_plus(p->live, p->live_rest >> 32));
        if (!p->parent || !p->weight || total == 0)
            continue;
        processed = twill__tally_plus(
            p->seen[TWILL__TALLY_DONE],
            twill__tally_plus(p->seen[TWILL__TALLY_FAILED], p->seen[TWILL__TALLY_SKIPPED]));
        if (processed > total)
            processed = total;
        p->parent->live = twill__tally_plus(p->parent->live,
                                            twill__tally_share(processed, p->weight, total, &rest));
        p->parent->live_rest += twill__tally_share(rest, UINT64_C(1) << 32, total, &more);
    }
}

/* A bar that is in no list counts for itself alone. */
static inline void twill__progress_count(twill_progress *progress)
{
    if (progress->listed) {
        twill__screen_count(progress->screen);
        return;
    }
    twill__progress_look(progress);
}

static inline uint64_t twill__progress_processed(const twill_progress *progress)
{
    return twill__tally_plus(progress->seen[TWILL__TALLY_DONE],
                             twill__tally_plus(progress->seen[TWILL__TALLY_FAILED],
                                               progress->seen[TWILL__TALLY_SKIPPED]));
}

/* Of the last count. */
static inline void twill__progress_sample(twill_progress *progress, twill_ns now)
{
    if (progress->rate.anchors != progress->anchors) {
        twill__speed_start(&progress->rate, progress->rate.memory, now,
                           twill__progress_processed(progress));
        progress->rate.anchors = progress->anchors;
    } else {
        twill__speed_tick(&progress->rate, now, twill__progress_processed(progress));
    }
}

static inline void twill__progress_total(const twill_progress *progress, uint64_t processed,
                                         twill_progress_view *view)
{
    /* acquire: who sees that it is known sees what it is (add_total); relaxed: a number that
       grows */
    view->total_known = atomic_load_explicit(&progress->total_known, memory_order_acquire) != 0;
    view->total = atomic_load_explicit(&progress->total, memory_order_relaxed);
    view->percent = view->total_known ? twill__tally_percent(processed, view->total) : -1;
}

static inline void twill__progress_view_of(twill_progress *progress, twill_ns now,
                                           twill_progress_view *view)
{
    uint64_t processed = twill__progress_processed(progress);
    bool running = atomic_load_explicit(&progress->state, memory_order_relaxed) ==
                   TWILL__PROGRESS_RUNNING; /* under the lock */
    memset(view, 0, sizeof *view);
    view->done = progress->seen[TWILL__TALLY_DONE];
    view->failed = progress->seen[TWILL__TALLY_FAILED];
    view->skipped = progress->seen[TWILL__TALLY_SKIPPED];
    twill__progress_total(progress, processed, view);
    view->elapsed = (running ? now : progress->ended) - progress->created;
    view->left = -1;
    if (!running) {
        view->finished = true;
        view->outcome = progress->outcome;
        view->left = 0;
        if (view->elapsed > 0 && processed > progress->rate.start)
            view->rate = (double)(processed - progress->rate.start) / (double)view->elapsed * 1e9;
        return;
    }
    view->rate = twill__speed_now(&progress->rate, view->total);
    view->stalled = twill__speed_stalled(&progress->rate, now);
    if (view->total_known)
        view->left = twill__speed_left(&progress->rate, view->total);
}

#endif

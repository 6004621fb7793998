/* twill: progress_tracker - counts work that many threads finish, and shows it without making any
   of them wait.
   SPDX-License-Identifier: MIT OR Unlicense
   Build: cc -std=c11 -pthread. In one .c file: #define TWILL_IMPLEMENTATION before the include.

WHEN TO USE IT
    Work that lasts longer than a second or two and whose end somebody waits for: a person at a
    terminal, a log, a program that reads JSON lines. An update is one atomic addition; a thread of
    the tracker's own draws.
WHEN NOT
    For a single number that only the program reads: an atomic counter does. For several programs on
    one terminal.

EXAMPLE:
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_progress_tracker.h"

int main(void)
{
    twill_progress *progress;
    twill_progress_create(&progress, &(twill_progress_options){ .total = 20, .label = "Hashing" });
    for (int file = 0; file < 20; file++) {                 // any number of threads may do this
        twill_sleep(twill_within(TWILL_MS(10)));            // the work
        if (file == 13)
            twill_progress_log(progress, "file %d is empty", file);     // above the bar
        if (file == 17)
            twill_progress_add_failed(progress, 1);
        else
            twill_progress_add(progress, 1);
    }
    twill_progress_finish(progress, TWILL_OK);              // the last frame, always
    return twill_progress_destroy(progress) == TWILL_OK ? 0 : 1;
}
END OF EXAMPLE

WHICH FORM
    twill_map_with_progress     a parallel map in one call; it counts its items itself
    twill_progress              any work: create, add from any thread, finish, destroy


OPTIONS (twill_progress_options; zeroed or NULL: a bar, or lines where there is no terminal, on
   standard error)
    total           0: unknown, unless total_is_zero says that there is nothing to do (100 % at
                    once)
    label           NULL: "Progress". Copied, up to 255 bytes; cut to fit the line
    style           AUTO: BAR if the descriptor is a terminal in whose foreground we are, and TERM
                    is set and not "dumb"; else LINES. The variable TWILL_PROGRESS (bar, counter,
                    lines, json, silent) overrides AUTO. COUNTER writes `\rLabel: c/t (p%)` to any
                    descriptor. JSON: one object a line
    draw_by         who draws; see the enumeration. EACH is for lessons and tests: it makes every
                    update a write
    fd              0: standard error. Never standard input
    interval        0: 100 ms; 10 s for LINES and JSON. With EACH it must be 0
    quiet_for       shows nothing before; work that ends sooner shows nothing at all, but for the
                    last line of LINES and JSON
    unit, unit_name plain numbers with a name behind them ("450/1000 files"), or bytes with binary
                    or decimal prefixes; there a name takes the place of "B". Copied, up to 31 bytes
    ascii           no character beyond ASCII; the default where LC_ALL, LC_CTYPE, LANG do not say
                    UTF-8
    no_color        as does the variable NO_COLOR, if not empty. Colour is used in BAR alone
    clear_at_end    BAR: the bar vanishes at the end instead of staying
    accessible      instead of BAR and COUNTER, and of the interval of LINES: a plain line at each
                    10 %, or each 10 s while the total is unknown. For screen readers
    width           columns. 0: asks the terminal at each frame, then COLUMNS, then 80
    memory          0: 15 s. The recent rate forgets nine tenths of a sample in that time
    on_view         called by whoever draws, at each interval and at the end, by one thread at a
                    time and with no lock of ours held. It may do anything but finish and destroy
                    (TWILL_DEADLOCK)
    parent, weight  drawn below the parent, by whoever draws that. The child stands for `weight`
                    items of the parent: while it runs, its finished part of them, rounded down,
                    counts as done; at its end all of them do, as done, failed (TWILL_FAILED) or
                    skipped (any other outcome). 0: only drawn together. The fields style, draw_by,
                    fd, interval, ascii, no_color, accessible and width are the root's: zero in a
                    child

ERRORS
    TWILL_INVALID   create: an option that is out of range or makes no sense. finish, once: more was
                    processed than the total said. (The bar stays at 100 %, the numbers are the true
                    ones.)
    TWILL_NO_MEMORY create. *out is then NULL, and all functions take NULL as "no progress wanted"
    TWILL_CLOSED    create: the parent's root is finished
    TWILL_DEADLOCK  finish and destroy, called by on_view
    TWILL_FORKED    set_label, finish, or create of a child, in a forked child
    A thread that cannot be started is no error: updaters draw (BY_UPDATER). Nor is a descriptor
    that fails: EPIPE, EIO, ENOSPC, EBADF and the like end the drawing, and counting goes on. No
    SIGPIPE reaches the program.

THREADS
    Everything may be called by any thread at any time, but destroy, which must be the last call;
    create of a child and destroy of its parent must not run at once. In a signal handler: the three
    add functions, unless draw_by is BY_UPDATER or EACH. Updates are relaxed: the last frame and
    view show all updates that happened before finish, so join the workers (or wait for their
    futures) first.
    set and add at once: each addition counts either before the set, which replaces it, or on top of
    it; none is lost and none counts twice. Of two sets at once either wins.
    The drawn number never goes down, except after set.

OWNERSHIP
    Texts are copied. The descriptor stays the caller's; it must stay open until finish. Children
    are destroyed before their parent.

COSTS
    add: one relaxed addition to one of 16 cells: see docs/progress_tracker.md for figures.
    BY_UPDATER reads the clock on top of it, EACH writes. About 3 KB a tracker and 17 KB a root,
    allocated by create; nothing is allocated later, but for log lines of more than 500 bytes. One
    thread a root, which wakes at each interval (each second, if that is longer). A frame is one
    write; one that equals the last is not written.

BLOCKS
    add, set, views: never for a terminal, but with EACH. finish waits for a blocked terminal for
    one second at most, then leaves the thread behind (it ends when the write does) and gives up the
    last frame. log and suspend wait as long as the terminal does: a log line is never dropped.

PITFALLS
    Two roots on one terminal overwrite each other: give them one parent. Output of the program
    itself on the same terminal: through log, or between suspend and resume.
    A background job writes no frame to its terminal; drawing resumes when it is in the foreground.
    Memory and counts survive a fork, the thread does not: the child's updates count, and nothing is
    drawn there. A bar that is asked for on a pipe gets a bar, control sequences and all. */
#ifndef TWILL_PROGRESS_TRACKER_H
#define TWILL_PROGRESS_TRACKER_H

#include "base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct twill_progress twill_progress;

typedef enum twill_progress_style {
    TWILL_PROGRESS_AUTO = 0, /* BAR on a foreground terminal, else LINES; see OPTIONS */
    TWILL_PROGRESS_BAR,
    TWILL_PROGRESS_COUNTER, /* \rLabel: c/t (p%), on any descriptor */
    TWILL_PROGRESS_LINES,
    TWILL_PROGRESS_JSON,
    TWILL_PROGRESS_SILENT /* counts, views and callback only; log still writes */
} twill_progress_style;

typedef enum twill_progress_draw_by {
    TWILL_PROGRESS_BY_THREAD = 0, /* a thread of the tracker's own */
    TWILL_PROGRESS_BY_UPDATER,    /* the updater that crosses the interval, if nobody else draws */
    TWILL_PROGRESS_BY_CALL,       /* only twill_progress_draw draws */
    TWILL_PROGRESS_EACH           /* every update draws, in order, under a lock */
} twill_progress_draw_by;

typedef enum twill_progress_unit {
    TWILL_UNIT_ITEMS = 0,
    TWILL_UNIT_BYTES_IEC, /* 1 KiB = 1024 B */
    TWILL_UNIT_BYTES_SI   /* 1 kB = 1000 B */
} twill_progress_unit;

typedef struct twill_progress_view {
    uint64_t done, failed,
        skipped;    /* processed = done + failed + skipped; weighted children included */
    uint64_t total; /* 0: unknown or empty */
    bool total_known, finished;
    int percent;          /* rounded down; 100 only when all is processed; -1 unknown */
    double rate;          /* processed a second; 0 while unknown; at the end over all the time */
    twill_ns elapsed;     /* since create; stands still from finish on */
    twill_ns stalled;     /* since the last update, while that is unusually long, else 0 */
    twill_ns left;        /* an estimate; -1 unknown */
    const char *label;    /* in on_view, valid during the call; else NULL */
    twill_status outcome; /* as given to finish */
} twill_progress_view;

typedef struct twill_progress_options { /* see OPTIONS above */
    uint64_t total;
    bool total_is_zero;
    const char *label;
    twill_progress_style style;
    twill_progress_draw_by draw_by;
    int fd;
    twill_ns interval;
    twill_ns quiet_for;
    twill_progress_unit unit;
    const char *unit_name;
    bool ascii, no_color, clear_at_end, accessible;
    unsigned width;
    twill_ns memory;
    void (*on_view)(const twill_progress_view *view, const twill_task *task);
    void *context; /* of on_view: task->context */
    twill_progress *parent;
    uint64_t weight;
} twill_progress_options;

/* Makes a tracker and begins to draw. Never blocks. */
TWILL__DECL twill_status twill_progress_create(twill_progress **out,
                                               const twill_progress_options *options);

/* n more are done, failed, skipped. */
TWILL__DECL void twill_progress_add(twill_progress *progress, uint64_t n);
TWILL__DECL void twill_progress_add_failed(twill_progress *progress, uint64_t n);
TWILL__DECL void twill_progress_add_skipped(twill_progress *progress, uint64_t n);

/* `done` are done by now, e.g. bytes of a file. Going back, and a first value (where an earlier run
   left off), start the rate anew; going forward is progress. */
TWILL__DECL void twill_progress_set(twill_progress *progress, uint64_t done);

/* n more are to do. An unknown total becomes known, an empty one is no longer empty. */
TWILL__DECL void twill_progress_add_total(twill_progress *progress, uint64_t n);

/* Copied; NULL: the default. TWILL_OK, TWILL_FORKED. */
TWILL__DECL twill_status twill_progress_set_label(twill_progress *progress, const char *label);

/* The state now. `progress` NULL: all zero, but percent and left -1. */
TWILL__DECL void twill_progress_get_view(const twill_progress *progress, twill_progress_view *view);

/* Draws now, all bars of the root. With BY_CALL only once the interval has passed, so a loop may
   call it at each turn. Does nothing while another thread is drawing, and drops a frame that a
   terminal cannot take at once. */
TWILL__DECL void twill_progress_draw(twill_progress *progress);

/* Writes a line above the bars, as printf would, and a line feed behind it; in JSON style as
   {"log": "..."}. Returns the number of bytes of the text, negative if it could not be written. May
   block on the terminal. */
#if defined __GNUC__
__attribute__((format(printf, 2, 3)))
#endif
TWILL__DECL int
twill_progress_log(twill_progress *progress, const char *format, ...);

/* Clears the bars for foreign output, and draws nothing until as many calls of resume. */
TWILL__DECL void twill_progress_suspend(twill_progress *progress);
TWILL__DECL void twill_progress_resume(twill_progress *progress);

/* Draws the last frame and ends the thread. An outcome other than TWILL_OK is written behind the
   true numbers. A child's line moves above the bars that still run. Later updates count and are not
   drawn. A second call does nothing. */
TWILL__DECL twill_status twill_progress_finish(twill_progress *progress, twill_status outcome);

/* Finishes (with TWILL_OK) what is not finished, and frees it; returns what finish said. NULL:
   TWILL_OK. With children: an assertion; without assertions they go on silently. */
TWILL__DECL twill_status twill_progress_destroy(twill_progress *progress);

/* ---- a parallel map that shows how far it is ---- */

typedef struct twill_map_with_progress_options {
    twill_run run;                   /* as in parallel_map; run.context goes to fn */
    twill_progress_options progress; /* total and total_is_zero must be zero: the call sets them */
} twill_map_with_progress_options;

/* results[i] = fn(items[i]) on threads, each item counted in the state that it ended in: done,
   failed, skipped (gave up, or never ran), so the total is reached on every path. Returns what the
   map says, and run.report holds it; that becomes the outcome of the display. Where there is no
   memory for a display the map runs without one. `options` NULL: all defaults.
   TWILL_INVALID, before anything has run: wrong arguments or options. */
TWILL__DECL twill_status twill_map_with_progress(const void *items, size_t item_size, void *results,
                                                 size_t result_size, size_t n, twill_map_fn *fn,
                                                 const twill_map_with_progress_options *options);

#ifdef __cplusplus
}
#endif
#endif

#ifdef TWILL_IMPLEMENTATION
#ifndef TWILL__PROGRESS_TRACKER_IMPL
#define TWILL__PROGRESS_TRACKER_IMPL

#include "engine/map.h"
#include "engine/progress_count.h"
#include "engine/progress_rate.h"
#include "engine/progress_text.h"
#include "platform/terminal.h"

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
    TWILL__PROGRESS_LABEL = 256,
    TWILL__PROGRESS_UNIT = 32,
    TWILL__PROGRESS_CELLS = 40
};
#define TWILL__SCREEN_STUCK    TWILL_SEC(1) /* how long finish waits for a blocked terminal */
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
    uint32_t generation; /* of the process that draws */
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
    char frame[TWILL__SCREEN_FRAME];
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
    uint64_t seen[TWILL__TALLY_KINDS], live,
        live_rest;      /* the last count; of children that run, the rest in 2^-32 */
    int decile;         /* accessible: the last one said */
    twill_ns next_line; /* accessible, total unknown */
    unsigned steps;     /* unknown total: where the marker stands */
    uint64_t stepped;
    char label[TWILL__PROGRESS_LABEL];
};

/* ---- gates: locks that may be held for long ---- */

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
    return screen->generation != twill__generation();
}

/* ---- counting, under the lock ---- */

/* Loads all counters, then adds each child's part to its parent, the innermost first. */
static inline void twill__screen_count(twill__screen *screen)
{
    for (twill_progress *p = screen->first; p; p = p->next) {
        for (unsigned kind = 0; kind < TWILL__TALLY_KINDS; kind++)
            p->seen[kind] = twill__tally_plus(twill__tally_read(&p->counter, kind), p->given[kind]);
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
    for (unsigned kind = 0; kind < TWILL__TALLY_KINDS; kind++)
        progress->seen[kind] =
            twill__tally_plus(twill__tally_read(&progress->counter, kind), progress->given[kind]);
}

static inline uint64_t twill__progress_processed(const twill_progress *progress)
{
    return twill__tally_plus(progress->seen[TWILL__TALLY_DONE],
                             twill__tally_plus(progress->seen[TWILL__TALLY_FAILED],
                                               progress->seen[TWILL__TALLY_SKIPPED]));
}

static inline void twill__progress_sample(twill_progress *progress, twill_ns now)
{
    /* acquire: pairs with twill__tally_set */
    uint32_t anchors = atomic_load_explicit(&progress->counter.anchors, memory_order_acquire);
    if (progress->rate.anchors != anchors) {
        twill__speed_start(&progress->rate, progress->rate.memory, now,
                           twill__progress_processed(progress));
        progress->rate.anchors = anchors;
    } else {
        twill__speed_tick(&progress->rate, now, twill__progress_processed(progress));
    }
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
    /* relaxed: a number that grows; acquire: who sees that it is known sees what it is (add_total)
       */
    view->total_known = atomic_load_explicit(&progress->total_known, memory_order_acquire) != 0;
    view->total = atomic_load_explicit(&progress->total, memory_order_relaxed);
    view->percent = view->total_known ? twill__tally_percent(processed, view->total) : -1;
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

/* ---- lines ---- */

/* A piece of a line in a buffer of its own, so that it can be left away. */
typedef struct twill__print_piece {
    twill__print text;
    char data[512];
} twill__print_piece;

static inline twill__print *twill__print_piece_init(twill__print_piece *piece)
{
    piece->text.data = piece->data;
    piece->text.capacity = sizeof piece->data;
    piece->text.length = 0;
    piece->text.cells = 0;
    return &piece->text;
}

static inline const char *twill__progress_outcome(twill_status outcome)
{
    return outcome == TWILL_FAILED      ? "failed"
           : outcome == TWILL_CANCELLED ? "cancelled"
           : outcome == TWILL_TIMEOUT   ? "timed out"
                                        : twill_status_text(outcome);
}

static inline void twill__print_count(twill__print *text, const twill_progress *progress,
                                      const twill_progress_view *view, bool ascii)
{
    twill__print_amount(text, twill__progress_processed(progress), &progress->unit,
                        !view->total_known, ascii);
    if (view->total_known) {
        twill__print_ascii(text, "/");
        twill__print_amount(text, view->total, &progress->unit, true, ascii);
    }
}

/* What the time says: how long it took, that nothing moves, or what is left (not while that is a
   guess). */
static inline void twill__print_tail(twill__print *text, const twill_progress *progress,
                                     const twill_progress_view *view)
{
    uint64_t processed = twill__progress_processed(progress), rest;
    if (view->finished) {
        twill__print_time(text, view->elapsed, true);
        if (view->outcome != TWILL_OK) {
            twill__print_ascii(text, ", ");
            twill__print_ascii(text, twill__progress_outcome(view->outcome));
        }
    } else if (view->stalled) {
        twill__print_ascii(text, "stalled ");
        twill__print_time(text, view->stalled, false);
    } else if (view->left >= 0 && view->elapsed >= TWILL_SEC(2) && view->total > 0 &&
               (processed >= 10 || (processed <= view->total &&
                                    twill__tally_share(processed, 50, view->total, &rest) >= 1))) {
        twill__print_time(text,
                          view->left < INT64_MAX - TWILL_SEC(1) ? view->left + TWILL_SEC(1) - 1
                                                                : view->left,
                          false);
        twill__print_ascii(text, " left"); /* rounded up: nothing takes 0 s */
    }
}

static inline void twill__print_trouble(twill__print *text, const twill_progress_view *view)
{
    if (view->failed) {
        twill__print_number(text, view->failed);
        twill__print_ascii(text, " failed");
    }
    if (view->skipped) {
        twill__print_ascii(text, view->failed ? ", " : "");
        twill__print_number(text, view->skipped);
        twill__print_ascii(text, " skipped");
    }
}

static inline void twill__print_json_time(twill__print *text, const char *key, twill_ns time)
{
    twill__print_ascii(text, key);
    if (time < 0)
        twill__print_ascii(text, "null");
    else
        twill__print_seconds(text, time);
}

static inline void twill__progress_line_json(twill__print *text, const twill_progress *progress,
                                             const twill_progress_view *view)
{
    static const char *const keys[] = {", \"done\": ", ", \"failed\": ", ", \"skipped\": "};
    double rate = view->rate < 1e15 ? view->rate : 1e15;
    twill__print_ascii(text, "{\"label\": ");
    twill__print_json(text, progress->label);
    for (unsigned kind = 0; kind < TWILL__TALLY_KINDS; kind++) {
        twill__print_ascii(text, keys[kind]);
        twill__print_number(text, progress->seen[kind]);
    }
    twill__print_ascii(text, ", \"total\": ");
    if (view->total_known)
        twill__print_number(text, view->total);
    else
        twill__print_ascii(text, "null");
    twill__print_ascii(text, ", \"percent\": ");
    if (view->percent >= 0)
        twill__print_number(text, (uint64_t)view->percent);
    else
        twill__print_ascii(text, "null");
    twill__print_ascii(text, ", \"rate\": ");
    twill__print_fixed(text, twill__print_whole(rate * 1000), 3);
    twill__print_json_time(text, ", \"elapsed\": ", view->elapsed);
    twill__print_json_time(text, ", \"stalled\": ", view->stalled);
    twill__print_json_time(text, ", \"left\": ", view->left);
    if (progress->unit.step || progress->unit.name[0]) {
        twill__print_ascii(text, ", \"unit\": ");
        twill__print_json(text, progress->unit.name);
    }
    if (view->finished) {
        twill__print_ascii(text, ", \"outcome\": ");
        twill__print_json(text, twill_status_name(view->outcome));
    }
    twill__print_ascii(text, view->finished ? ", \"finished\": true}" : ", \"finished\": false}");
}

/* "Label: c/t (p%)", which is all of COUNTER */
static inline void twill__print_plain(twill__print *text, const twill__screen *screen,
                                      const twill_progress *progress,
                                      const twill_progress_view *view, unsigned label_cells)
{
    twill__print_label(text, progress->label, label_cells, screen->ascii);
    twill__print_ascii(text, ": ");
    twill__print_count(text, progress, view, screen->ascii);
    if (view->percent >= 0) {
        twill__print_ascii(text, " (");
        twill__print_number(text, (uint64_t)view->percent);
        twill__print_ascii(text, "%)");
    }
}

static inline void twill__progress_line_plain(twill__print *text, const twill__screen *screen,
                                              const twill_progress *progress,
                                              const twill_progress_view *view)
{
    twill__print_piece tail, trouble;
    twill__print_plain(text, screen, progress, view, UINT_MAX);
    if (view->rate > 0) {
        twill__print_ascii(text, ", ");
        twill__print_rate(text, view->rate, &progress->unit, screen->ascii);
    }
    twill__print_trouble(twill__print_piece_init(&trouble), view);
    if (trouble.text.length) {
        twill__print_ascii(text, ", ");
        twill__print_text(text, &trouble.text);
    }
    twill__print_tail(twill__print_piece_init(&tail), progress, view);
    if (tail.text.length) {
        twill__print_ascii(text, ", ");
        twill__print_text(text, &tail.text);
    }
}

static inline void twill__progress_line_counter(twill__print *text, const twill__screen *screen,
                                                const twill_progress *progress,
                                                const twill_progress_view *view, unsigned cells)
{
    twill__print_piece numbers;
    unsigned room = UINT_MAX;
    if (screen->terminal) { /* a line that wraps could not be overwritten */
        twill__print_plain(twill__print_piece_init(&numbers), screen, progress, view, 0);
        room = cells > numbers.text.cells ? cells - numbers.text.cells : 0;
    }
    twill__print_plain(text, screen, progress, view, room);
    if (view->finished && view->outcome != TWILL_OK) {
        twill__print_ascii(text, " ");
        twill__print_ascii(text, twill__progress_outcome(view->outcome));
    }
}

/* `cells` of bar between brackets. */
static inline void twill__print_bar(twill__print *text, const twill__screen *screen,
                                    twill_progress *progress, const twill_progress_view *view,
                                    unsigned cells)
{
    static const char *const eighths[] = {" ",
                                          "\xe2\x96\x8f",
                                          "\xe2\x96\x8e",
                                          "\xe2\x96\x8d",
                                          "\xe2\x96\x8c",
                                          "\xe2\x96\x8b",
                                          "\xe2\x96\x8a",
                                          "\xe2\x96\x89",
                                          "\xe2\x96\x88"};
    uint64_t processed = twill__progress_processed(progress), rest, filled = 0;
    unsigned parts = screen->ascii ? 1 : 8, from = 0;
    if (view->total_known) {
        filled = view->percent == 100
                     ? (uint64_t)cells * parts
                     : twill__tally_share(processed, (uint64_t)cells * parts, view->total, &rest);
    } else if (
        !view->finished) { /* the marker walks when something has moved, so a stall can be seen */
        unsigned way = 2 * (cells - 3);
        if (progress->stepped != processed)
            progress->steps++;
        progress->stepped = processed;
        from = progress->steps % way;
        from = from > way / 2 ? way - from : from;
    }
    twill__print_ascii(text, "[");
    if (screen->color)
        twill__print_code(text, "\x1b[32m");
    for (unsigned i = 0; i < cells; i++) {
        uint64_t here = filled > (uint64_t)i * parts ? filled - (uint64_t)i * parts : 0;
        if (!view->total_known) {
            char mark[2] = {view->finished              ? (view->outcome ? ' ' : '=')
                            : i >= from && i < from + 3 ? "<=>"[i - from]
                                                        : ' ',
                            '\0'};
            twill__print_ascii(text, mark);
        } else if (screen->ascii) {
            twill__print_ascii(text, here > 1 || (here && view->percent == 100) ? "="
                                     : here                                     ? ">"
                                                                                : " ");
        } else {
            const char *block = eighths[here >= 8 ? 8 : here];
            twill__print_raw(text, block, strlen(block));
            text->cells++;
        }
    }
    if (screen->color)
        twill__print_code(text, "\x1b[0m");
    twill__print_ascii(text, "]");
}

/* Adds a piece to the list behind the bar if there is room: a space or a comma before it. */
static inline void twill__print_take(twill__print *rest, const twill__print *piece,
                                     const char *color, unsigned *room)
{
    unsigned gap = rest->length ? 2 : 1;
    if (piece->length == 0 || piece->cells + gap > *room)
        return;
    *room -= piece->cells + gap;
    twill__print_ascii(rest, gap == 2 ? ", " : " ");
    if (color)
        twill__print_code(rest, color);
    twill__print_text(rest, piece);
    if (color)
        twill__print_code(rest, "\x1b[0m");
}

/* "Label  45% [=====>     ] 450/1000 files, 36.8/s, 15 s left" in at most `cells`. What matters
   less goes first: the rate, the bar, the time, the label, the numbers. */
static inline void twill__progress_line_bar(twill__print *text, const twill__screen *screen,
                                            twill_progress *progress,
                                            const twill_progress_view *view, unsigned cells)
{
    twill__print_piece rest, count, tail, trouble, rate;
    unsigned percent = view->percent >= 0 ? 4 : 0, limit = cells / 3 > 6 ? cells / 3 : 6, room;
    if (limit + percent + 1 > cells)
        limit = cells > percent + 1 + 3 ? cells - percent - 1 : 0;
    twill__print_label(text, progress->label, limit, screen->ascii);
    if (percent && text->cells + percent <= cells) {
        twill__print_ascii(text, text->cells ? " " : "");
        twill__print_ascii(text, view->percent < 10 ? "  " : view->percent < 100 ? " " : "");
        twill__print_number(text, (uint64_t)view->percent);
        twill__print_ascii(text, "%");
    }
    room = cells > text->cells ? cells - text->cells : 0;
    twill__print_count(twill__print_piece_init(&count), progress, view, screen->ascii);
    twill__print_tail(twill__print_piece_init(&tail), progress, view);
    twill__print_trouble(twill__print_piece_init(&trouble), view);
    twill__print_piece_init(&rate);
    if (view->rate > 0)
        twill__print_rate(&rate.text, view->rate, &progress->unit, screen->ascii);
    twill__print_piece_init(&rest);
    twill__print_take(&rest.text, &count.text, NULL, &room);
    twill__print_take(&rest.text, &trouble.text,
                      !screen->color ? NULL
                      : view->failed ? "\x1b[31m"
                                     : "\x1b[33m",
                      &room);
    if (room >= rate.text.cells + 2 + tail.text.cells + 2 + 11)
        twill__print_take(&rest.text, &rate.text, NULL, &room);
    twill__print_take(&rest.text, &tail.text, NULL, &room);
    if (room >= 9) {
        twill__print_ascii(text, " ");
        twill__print_bar(text, screen, progress, view,
                         room - 3 < TWILL__PROGRESS_CELLS ? room - 3 : TWILL__PROGRESS_CELLS);
    }
    twill__print_text(text, &rest.text);
}

/* ---- frames, under io and lock ---- */

/* What to write, and what will then stand on the terminal. */
typedef struct twill__draft {
    twill__print text;
    const char *log; /* NULL, or lines to put above, "\n" included */
    size_t log_length;
    unsigned cells, rows; /* that may be used */
    bool due,
        visible; /* not: only what ends, and logs; suspended or in the background: only logs */
    bool closes; /* what ends is drawn for the last time */
    unsigned lines, shown_cells;
    uint64_t hash;
} twill__draft;

static inline uint64_t twill__draft_hash(const char *data, size_t length)
{
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)data[i]) * UINT64_C(1099511628211);
    return hash;
}

static inline bool twill__progress_ending(const twill_progress *progress)
{
    /* under the lock, which orders it; the root may be gone */
    return progress &&
           atomic_load_explicit(&progress->state, memory_order_relaxed) == TWILL__PROGRESS_ENDING;
}

static inline bool twill__draft_closes(const twill__draft *draft, const twill_progress *progress)
{
    return draft->closes && twill__progress_ending(progress);
}

static inline bool twill__draft_has_room(const twill__draft *draft)
{
    return draft->text.capacity - draft->text.length >= TWILL__SCREEN_LINE + 64;
}

static inline bool twill__progress_quiet(const twill_progress *progress, twill_ns now)
{
    twill_ns end = atomic_load_explicit(&progress->state, memory_order_relaxed) ==
                           TWILL__PROGRESS_RUNNING /* under the lock */
                       ? now
                       : progress->ended;
    return end - progress->created < progress->quiet_for;
}

/* Takes the bars off the terminal; the cursor is then where the first began. */
static inline void twill__draft_clear(twill__draft *draft, const twill__screen *screen)
{
    if (screen->style == TWILL_PROGRESS_COUNTER) {
        if (screen->shown_cells && screen->terminal) {
            twill__print_code(&draft->text, "\r");
            for (unsigned i = 0; i < screen->shown_cells; i++)
                twill__print_code(&draft->text, " ");
            twill__print_code(&draft->text, "\r");
        } else if (screen->shown_cells) {
            twill__print_code(&draft->text, "\n");
        }
    } else if (screen->shown_lines) {
        if (screen->shown_lines > 1) {
            twill__print_code(&draft->text, "\x1b[");
            twill__print_number(&draft->text, screen->shown_lines - 1);
            twill__print_code(&draft->text, "A");
        }
        twill__print_code(&draft->text, "\r\x1b[J");
    }
    draft->lines = draft->shown_cells = 0;
    draft->hash = 0;
}

static inline void twill__draft_bar(twill__draft *draft, const twill__screen *screen,
                                    twill_progress *progress, twill_ns now)
{
    twill_progress_view view;
    twill__print line = {draft->text.data + draft->text.length, TWILL__SCREEN_LINE, 0, 0};
    twill__progress_view_of(progress, now, &view);
    twill__progress_line_bar(&line, screen, progress, &view, draft->cells);
    draft->text.length += line.length;
    twill__print_code(&draft->text, "\x1b[K");
}

/* The lines of children that end stay, above the others. */
static inline void twill__draft_bars_ended(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    for (twill_progress *p = screen->first; p; p = p->next) {
        if (p == screen->root || !twill__draft_closes(draft, p) || !twill__draft_has_room(draft))
            continue;
        p->included = true;
        if (p->clear_at_end || twill__progress_quiet(p, now) || !draft->visible)
            continue;
        twill__draft_bar(draft, screen, p, now);
        twill__print_code(&draft->text, "\n\r");
    }
}

static inline bool twill__draft_child_ends(const twill__draft *draft, const twill__screen *screen)
{
    for (twill_progress *p = screen->first; p; p = p->next)
        if (p != screen->root && twill__draft_closes(draft, p))
            return true;
    return false;
}

static inline void twill__draft_bars_live(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    for (twill_progress *p = screen->first; p; p = p->next) {
        if ((p != screen->root && twill__draft_closes(draft, p) && p->included) ||
            twill__progress_quiet(p, now))
            continue;
        if (draft->lines >= draft->rows || !twill__draft_has_room(draft))
            break;
        twill__print_code(&draft->text, draft->lines ? "\n\r" : "\r");
        twill__draft_bar(draft, screen, p, now);
        draft->lines++;
    }
}

static inline void twill__draft_bars(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    bool final = twill__draft_closes(draft, screen->root),
         changes = draft->log_length || twill__draft_child_ends(draft, screen);
    size_t start;
    if (changes || (final && screen->root->clear_at_end)) {
        twill__draft_clear(draft, screen);
        twill__print_raw(&draft->text, draft->log, draft->log_length);
        twill__draft_bars_ended(draft, screen, now);
    } else if (screen->shown_lines > 1) {
        twill__print_code(&draft->text, "\x1b[");
        twill__print_number(&draft->text, screen->shown_lines - 1);
        twill__print_code(&draft->text, "A");
    }
    start = draft->text.length;
    draft->lines = 0;
    if (draft->visible && (draft->due || screen->shown_lines) &&
        !(final && screen->root->clear_at_end))
        twill__draft_bars_live(draft, screen, now);
    draft->hash = twill__draft_hash(draft->text.data + start, draft->text.length - start);
    if (!changes && !final && draft->hash == screen->shown_hash &&
        draft->lines == screen->shown_lines)
        draft->text.length = 0; /* nothing has changed */
    else if (!changes && draft->lines < screen->shown_lines &&
             !(final && screen->root->clear_at_end))
        twill__print_code(&draft->text, draft->lines ? "\x1b[J" : "\r\x1b[J");
    if (final && draft->lines) {
        twill__print_code(&draft->text, "\n");
        draft->lines = 0;
    }
}

static inline void twill__draft_counter(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    bool final = twill__draft_closes(draft, screen->root), redraw = false;
    twill_progress_view view;
    twill__print *text = &draft->text;
    size_t start;
    unsigned before = screen->shown_cells;
    if (draft->log_length) {
        twill__draft_clear(draft, screen);
        twill__print_raw(text, draft->log, draft->log_length);
        redraw = before != 0;
        before = 0;
    }
    for (twill_progress *p = screen->first; p; p = p->next)
        p->included = p != screen->root && twill__draft_closes(draft, p);
    if (!draft->visible || !(draft->due || before || redraw) ||
        twill__progress_quiet(screen->root, now))
        return;
    start = text->length;
    text->cells = 0;
    twill__progress_view_of(screen->root, now, &view);
    twill__print_code(text, "\r");
    twill__progress_line_counter(text, screen, screen->root, &view, draft->cells);
    draft->shown_cells = text->cells;
    draft->hash = twill__draft_hash(text->data + start, text->length - start);
    if (before && draft->hash == screen->shown_hash) {
        text->length = start;
    } else {
        for (unsigned cells = draft->shown_cells; cells < before; cells++)
            twill__print_code(text, " ");
    }
    if (final) {
        twill__print_code(text, "\n");
        draft->shown_cells = 0;
        draft->hash = 0;
    }
}

/* accessible: at each 10 %; 100 is left to the last line. */
static inline bool twill__progress_tenth(twill_progress *progress, const twill_progress_view *view,
                                         twill_ns now)
{
    int decile = view->percent / 10;
    if (view->percent < 0) {
        if (now < progress->next_line)
            return false;
        progress->next_line = now + TWILL_SEC(10);
        return true;
    }
    if (decile == progress->decile || decile == 10)
        return false;
    progress->decile = decile;
    return true;
}

static inline void twill__draft_lines(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    twill__print_raw(&draft->text, draft->log, draft->log_length);
    for (twill_progress *p = screen->first; p; p = p->next) {
        bool ending = twill__draft_closes(draft, p);
        twill_progress_view view;
        if (!twill__draft_has_room(draft))
            break;
        p->included = ending;
        if (!draft->visible || !(ending || (draft->due && !twill__progress_quiet(p, now))) ||
            atomic_load_explicit(&p->state, memory_order_relaxed) ==
                TWILL__PROGRESS_ENDED) /* under the lock */
            continue;
        twill__progress_view_of(p, now, &view);
        if (screen->style == TWILL_PROGRESS_JSON)
            twill__progress_line_json(&draft->text, p, &view);
        else if (!screen->accessible || ending || twill__progress_tenth(p, &view, now))
            twill__progress_line_plain(&draft->text, screen, p, &view);
        else
            continue;
        twill__print_code(&draft->text, "\n");
    }
}

static inline void twill__draft_all(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    draft->lines = screen->shown_lines;
    draft->shown_cells = screen->shown_cells;
    draft->hash = screen->shown_hash;
    /* relaxed: a stop, not a message */
    if (screen->style == TWILL_PROGRESS_SILENT ||
        atomic_load_explicit(&screen->over, memory_order_relaxed)) {
        twill__print_raw(&draft->text, draft->log, draft->log_length);
        for (twill_progress *p = screen->first; p; p = p->next)
            p->included = twill__draft_closes(draft, p);
    } else if (screen->style == TWILL_PROGRESS_BAR) {
        twill__draft_bars(draft, screen, now);
    } else if (screen->style == TWILL_PROGRESS_COUNTER) {
        twill__draft_counter(draft, screen, now);
    } else {
        twill__draft_lines(draft, screen, now);
    }
    if (twill__draft_closes(draft, screen->root))
        screen->root->included = true;
}

/* What is asked of the system for a frame. In the background the bars are taken for gone: others
   write there. */
static inline void twill__draft_prepare(twill__draft *draft, twill__screen *screen, char *buffer,
                                        size_t size)
{
    unsigned columns, rows;
    memset(draft, 0, sizeof *draft);
    draft->text.data = buffer;
    draft->text.capacity = size;
    draft->visible = screen->terminal ? twill__terminal_foreground(screen->fd) : true;
    if (!draft->visible || screen->lost) {
        screen->shown_lines = screen->shown_cells = 0;
        screen->shown_hash = 0;
        screen->lost = false;
    }
    twill__terminal_size(screen->fd, &columns, &rows);
    if (screen->width)
        columns = screen->width;
    else if (!columns)
        columns = screen->columns;
    draft->cells = columns - 1;
    draft->rows = rows > 1 ? rows - 1 : rows ? 1 : UINT_MAX;
}

static inline void twill__draft_written(const twill__draft *draft, twill__screen *screen,
                                        twill__wrote wrote)
{
    if (wrote == TWILL__WROTE) {
        screen->shown_lines = draft->lines;
        screen->shown_cells = draft->shown_cells;
        screen->shown_hash = draft->hash;
    } else if (wrote == TWILL__WROTE_NOT) {
        screen->shown_hash = 0;
    } else { /* relaxed: whoever misses it fails at his own write */
        atomic_store_explicit(&screen->broken, 1, memory_order_relaxed);
    }
}

/* ---- the end of a bar, under the lock ---- */

static inline void twill__progress_unlist(twill_progress *progress)
{
    twill__screen *screen = progress->screen;
    if (!progress->listed)
        return;
    if (progress->previous)
        progress->previous->next = progress->next;
    else
        screen->first = progress->next;
    if (progress->next)
        progress->next->previous = progress->previous;
    else
        screen->last = progress->previous;
    progress->listed = false;
}

/* It stands for its whole weight now. The root stays in its list, for views. */
static inline void twill__progress_settle(twill_progress *progress)
{
    twill__screen *screen = progress->screen;
    unsigned kind = progress->outcome == TWILL_OK       ? TWILL__TALLY_DONE
                    : progress->outcome == TWILL_FAILED ? TWILL__TALLY_FAILED
                                                        : TWILL__TALLY_SKIPPED;
    if (progress->parent) {
        progress->parent->given[kind] =
            twill__tally_plus(progress->parent->given[kind], progress->weight);
        twill__progress_count(progress);
        progress->parent = NULL;
    }
    progress->included = false;
    if (progress == screen->root)
        atomic_store_explicit(&screen->over, 1, memory_order_relaxed); /* a stop, not a message */
    else
        twill__progress_unlist(progress);
    /* release: pairs with the acquire of a second finish */
    atomic_store_explicit(&progress->state, TWILL__PROGRESS_ENDED, memory_order_release);
    twill__wake(&progress->state, INT_MAX);
}

static inline void twill__screen_settle(twill__screen *screen)
{
    bool final;
    twill__lock(&screen->lock);
    final = twill__progress_ending(screen->root) && screen->root->included;
    for (twill_progress *p = screen->first, *next; p; p = next) {
        next = p->next;
        if (p != screen->root && twill__progress_ending(p) && (p->included || final))
            twill__progress_settle(p);
    }
    if (final)
        twill__progress_settle(screen->root);
    twill__unlock(&screen->lock);
}

/* ---- a pass: sample, tell, draw; whoever has the turn ---- */

/* How long a pass may wait: the renderer for ever, being the only one that nobody waits for
   (finish: see `blocked`). */
typedef enum twill__screen_patience {
    TWILL__SCREEN_NO_WAIT,
    TWILL__SCREEN_A_SECOND,
    TWILL__SCREEN_ANY_TIME,
    TWILL__SCREEN_RENDERER
} twill__screen_patience;

/* The renderer says that it may hang now, and asks after it whether it was left behind: then the
   bars may be gone. */
static inline void twill__screen_may_hang(twill__screen *screen, twill__screen_patience patience)
{
    if (patience ==
        TWILL__SCREEN_RENDERER) /* seq_cst: rare, and the CAS below and that of finish decide */
        atomic_store(&screen->blocked, TWILL__RENDERER_BLOCKED);
}

static inline bool twill__screen_hung(twill__screen *screen, twill__screen_patience patience)
{
    uint32_t expected = TWILL__RENDERER_BLOCKED;
    return patience == TWILL__SCREEN_RENDERER &&
           !atomic_compare_exchange_strong(&screen->blocked, &expected, TWILL__RENDERER_FREE);
}

static inline bool twill__screen_enter(twill__screen *screen, _Atomic uint32_t *gate,
                                       twill__screen_patience patience)
{
    bool entered;
    if (patience == TWILL__SCREEN_NO_WAIT)
        return twill__screen_gate_try(gate);
    twill__screen_may_hang(screen, patience);
    entered = twill__screen_gate_enter(
        gate, patience == TWILL__SCREEN_A_SECOND ? twill__clock_now() + TWILL__SCREEN_STUCK : 0);
    if (entered && twill__screen_hung(screen, patience)) {
        twill__screen_gate_leave(gate);
        return false;
    }
    return entered;
}

/* Calls on_view of each bar that has one, without a lock. */
static inline void twill__screen_tell(twill__screen *screen, twill_ns now, bool due)
{
    twill_progress *progress;
    twill__lock(&screen->lock);
    screen->pass++;
    do {
        twill_task task = {SIZE_MAX, NULL, UINT_MAX, 0, NULL, {0, NULL}, NULL};
        twill_progress_view view;
        char label[TWILL__PROGRESS_LABEL];
        for (progress = screen->first; progress; progress = progress->next)
            if (progress->on_view && progress->pass != screen->pass && !progress->told &&
                (due || twill__progress_ending(progress)))
                break;
        if (!progress)
            break;
        progress->pass = screen->pass;
        /* under the lock. A frame may have ended it already, before its on_view was told */
        progress->told =
            atomic_load_explicit(&progress->state, memory_order_relaxed) != TWILL__PROGRESS_RUNNING;
        twill__progress_count(progress);
        twill__progress_view_of(progress, now, &view);
        memcpy(label, progress->label, sizeof label);
        view.label = label;
        task.context = progress->context;
        screen->calling = progress;
        twill__unlock(&screen->lock);
        progress->on_view(&view, &task);
        twill__lock(&screen->lock);
        screen->calling = NULL;
        atomic_fetch_add_explicit(&screen->called, 1, memory_order_relaxed); /* under the lock */
        twill__wake(&screen->called, INT_MAX);
    } while (progress);
    twill__unlock(&screen->lock);
}

/* Under the lock: afterwards no callback of this bar runs. Not from inside it. */
static inline void twill__screen_await_view(twill__screen *screen, const twill_progress *progress)
{
    while (screen->calling == progress) {
        uint32_t called =
            atomic_load_explicit(&screen->called, memory_order_relaxed); /* under the lock */
        twill__unlock(&screen->lock);
        twill__park(&screen->called, called, 0);
        twill__lock(&screen->lock);
    }
}

static inline twill__wrote twill__draft_write(const twill__draft *draft, twill__screen *screen,
                                              twill__screen_patience patience)
{
    bool plain = patience == TWILL__SCREEN_RENDERER || patience == TWILL__SCREEN_ANY_TIME;
    if (draft->text.length == 0 ||
        atomic_load_explicit(&screen->broken, memory_order_relaxed)) /* a stop */
        return TWILL__WROTE;
    if (!plain &&
        !twill__terminal_writable(screen->fd, patience == TWILL__SCREEN_NO_WAIT ? 0 : 1000))
        return TWILL__WROTE_NOT;
    return twill__write_calmly(screen->fd, draft->text.data, draft->text.length, false, true);
}

/* False: left behind; touch nothing but the screen. */
static inline bool twill__screen_show(twill__screen *screen, twill_ns now, bool due,
                                      twill__screen_patience patience)
{
    twill__draft draft;
    twill__wrote wrote;
    bool hung;
    if (!twill__screen_enter(screen, &screen->io, patience))
        return patience != TWILL__SCREEN_RENDERER;
    twill__draft_prepare(&draft, screen, screen->frame, sizeof screen->frame);
    draft.due = due;
    draft.closes = true;
    twill__lock(&screen->lock);
    if (screen->suspended && !twill__progress_ending(screen->root))
        draft.visible = false;
    twill__screen_count(screen);
    twill__draft_all(&draft, screen, now);
    twill__unlock(&screen->lock);
    twill__screen_may_hang(screen, patience);
    wrote = twill__draft_write(&draft, screen, patience);
    hung = twill__screen_hung(screen, patience);
    twill__draft_written(&draft, screen, wrote);
    twill__screen_gate_leave(&screen->io);
    if (hung)
        return false;
    twill__screen_settle(screen);
    return true;
}

static inline bool twill__screen_pass(twill__screen *screen, bool due,
                                      twill__screen_patience patience)
{
    twill_ns now = twill__clock_now();
    twill__lock(&screen->lock);
    twill__screen_count(screen);
    for (twill_progress *p = screen->first; p; p = p->next)
        if (atomic_load_explicit(&p->state, memory_order_relaxed) ==
            TWILL__PROGRESS_RUNNING) /* under the lock */
            twill__progress_sample(p, now);
    twill__unlock(&screen->lock);
    if (due) /* relaxed: a hint to updaters */
        atomic_store_explicit(&screen->next_draw, now + screen->interval, memory_order_relaxed);
    twill__screen_tell(screen, now, due);
    return twill__screen_show(screen, now, due, patience);
}

/* ---- the renderer ---- */

static inline void twill__screen_drop(twill__screen *screen)
{
    /* acq_rel: whoever frees it sees what the others did */
    if (atomic_fetch_sub_explicit(&screen->refs, 1, memory_order_acq_rel) == 1)
        TWILL_FREE(screen);
}

/* False: left behind. */
static inline bool twill__renderer_turn(twill__screen *screen, bool stop)
{
    bool alive, due = stop || twill__clock_now() >=
                                  atomic_load_explicit(&screen->next_draw, memory_order_relaxed);
    if (!twill__screen_enter(screen, &screen->turn, TWILL__SCREEN_RENDERER))
        return false;
    twill__screen_turn_taken(screen);
    alive = twill__screen_pass(screen, due, TWILL__SCREEN_RENDERER);
    twill__screen_turn_leave(screen);
    return alive;
}

static inline void twill__renderer_main(void *screen_)
{
    twill__screen *screen = (twill__screen *)screen_;
    const twill_ns period = screen->interval < TWILL_SEC(1) ? screen->interval : TWILL_SEC(1);
    for (;;) { /* exit: stopped, or left behind */
        /* acquire: pairs with the release of twill__screen_request; the order of the two loads
           makes a stop wake us */
        uint32_t requests = atomic_load_explicit(&screen->requests, memory_order_acquire);
        bool stop = atomic_load_explicit(&screen->stop, memory_order_acquire) != 0;
        twill_ns next;
        if (!twill__renderer_turn(screen, stop)) {
            twill__screen_drop(screen);
            return;
        }
        if (stop)
            break;
        next = twill__clock_now() + period;
        while (atomic_load_explicit(&screen->requests, memory_order_acquire) == requests &&
               twill__park(&screen->requests, requests, next))
            continue;
        if (twill__clock_now() > next + TWILL_SEC(1) && twill__screen_gate_try(&screen->io)) {
            screen->lost = true; /* we were stopped, and the shell has written: do not move up */
            twill__screen_gate_leave(&screen->io);
        }
    }
    atomic_store_explicit(&screen->ended, 1,
                          memory_order_release); /* pairs with the acquire in twill__renderer_end */
    twill__wake(&screen->ended, INT_MAX);
}

static inline void twill__screen_request(twill__screen *screen)
{
    atomic_fetch_add_explicit(&screen->requests, 1,
                              memory_order_release); /* pairs with the renderer's loads */
    twill__wake(&screen->requests, 1);
}

/* Under the lock. Signals stay with the program's threads, SIGTTOU above all: the renderer inherits
   a full mask. */
static inline void twill__renderer_start(twill__screen *screen)
{
    twill__signal_mask old;
    memset(&screen->thread, 0, sizeof screen->thread);
    screen->thread.fn = twill__renderer_main;
    screen->thread.arg = screen;
    memcpy(screen->thread.name, "twill progress", sizeof "twill progress");
    screen->thread.cpu = UINT_MAX;
    atomic_fetch_add_explicit(&screen->refs, 1, memory_order_relaxed); /* we hold one ourselves */
    twill__signals_hold(&old);
    screen->threaded = twill__thread_start(&screen->thread);
    twill__signals_restore(&old);
    if (!screen->threaded) {
        atomic_fetch_sub_explicit(&screen->refs, 1, memory_order_relaxed);
        atomic_store_explicit(&screen->draw_by, TWILL_PROGRESS_BY_UPDATER,
                              memory_order_relaxed); /* before others look */
    }
}

/* Lets the renderer draw the last frame. A callback is waited for, a terminal for a second. */
static inline void twill__renderer_end(twill__screen *screen)
{
    atomic_store_explicit(&screen->stop, 1,
                          memory_order_release); /* pairs with the renderer's load */
    twill__screen_request(screen);
    for (;;) { /* exit: it has ended, or hangs */
        twill_ns limit = twill__clock_now() + TWILL__SCREEN_STUCK;
        uint32_t blocked = TWILL__RENDERER_BLOCKED, ended;
        while (!(ended = atomic_load_explicit(&screen->ended,
                                              memory_order_acquire))) /* pairs with its release */
            if (!twill__park(&screen->ended, 0, limit))
                break;
        if (ended) {
            twill__thread_join(&screen->thread);
            twill__screen_drop(screen);
            return;
        }
        if (atomic_compare_exchange_strong(&screen->blocked, &blocked, TWILL__RENDERER_ABANDONED)) {
            twill__thread_let_go(&screen->thread);
            return;
        }
    }
}

/* ---- updates ---- */

static inline bool twill__screen_undrawn(twill__screen *screen)
{
    /* relaxed: what comes a moment too late is not drawn either */
    return atomic_load_explicit(&screen->over, memory_order_relaxed) ||
           twill__progress_forked(screen);
}

/* BY_UPDATER, after an update. */
static inline void twill__progress_updated(twill__screen *screen)
{
    if (atomic_load_explicit(&screen->draw_by, memory_order_relaxed) != TWILL_PROGRESS_BY_UPDATER ||
        twill__clock_now() < atomic_load_explicit(&screen->next_draw, memory_order_relaxed) ||
        twill__screen_undrawn(screen) || !twill__screen_gate_try(&screen->turn))
        return;
    twill__screen_turn_taken(screen);
    twill__screen_pass(screen, true, TWILL__SCREEN_NO_WAIT);
    twill__screen_turn_leave(screen);
}

/* EACH: the update and its frame are one step. False: no frame, the caller just counts. */
static inline bool twill__screen_each_begin(twill__screen *screen)
{
    if (atomic_load_explicit(&screen->draw_by, memory_order_relaxed) != TWILL_PROGRESS_EACH ||
        twill__screen_undrawn(screen) || twill__screen_turn_mine(screen))
        return false;
    twill__screen_gate_enter(&screen->turn, 0);
    twill__screen_turn_taken(screen);
    return true;
}

static inline void twill__screen_each_end(twill__screen *screen)
{
    twill__screen_pass(screen, true, TWILL__SCREEN_ANY_TIME);
    twill__screen_turn_leave(screen);
}

static inline void twill__progress_update(twill_progress *progress, unsigned kind, uint64_t n)
{
    bool each;
    if (!progress)
        return;
    if (!progress->slow) {
        twill__tally_add(&progress->counter, kind, n);
        return;
    }
    each = twill__screen_each_begin(progress->screen);
    twill__tally_add(&progress->counter, kind, n);
    if (each)
        twill__screen_each_end(progress->screen);
    else
        twill__progress_updated(progress->screen);
}

TWILL__DEFINE void twill_progress_add(twill_progress *progress, uint64_t n)
{
    twill__progress_update(progress, TWILL__TALLY_DONE, n);
}

TWILL__DEFINE void twill_progress_add_failed(twill_progress *progress, uint64_t n)
{
    twill__progress_update(progress, TWILL__TALLY_FAILED, n);
}

TWILL__DEFINE void twill_progress_add_skipped(twill_progress *progress, uint64_t n)
{
    twill__progress_update(progress, TWILL__TALLY_SKIPPED, n);
}

TWILL__DEFINE void twill_progress_set(twill_progress *progress, uint64_t done)
{
    bool each;
    if (!progress)
        return;
    each = progress->slow && twill__screen_each_begin(progress->screen);
    twill__tally_set(&progress->counter, done);
    if (each)
        twill__screen_each_end(progress->screen);
    else if (progress->slow)
        twill__progress_updated(progress->screen);
}

TWILL__DEFINE void twill_progress_add_total(twill_progress *progress, uint64_t n)
{
    uint64_t total;
    if (!progress)
        return;
    total = atomic_load_explicit(&progress->total, memory_order_relaxed); /* a guess for the CAS */
    while (!atomic_compare_exchange_weak_explicit(&progress->total, &total,
                                                  twill__tally_plus(total, n), memory_order_relaxed,
                                                  memory_order_relaxed))
        continue;
    atomic_store_explicit(&progress->total_known, 1,
                          memory_order_release); /* pairs with twill__progress_view_of */
}

/* ---- create ---- */

static inline bool twill__screen_says(const char *value, const char *word)
{
    for (; *word; word++, value++)
        if ((*value | 0x20) != *word)
            return false;
    return true;
}

static inline bool twill__screen_utf8(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i]);
        if (!value || !*value)
            continue;
        for (; *value; value++)
            if (twill__screen_says(value, "utf-8") || twill__screen_says(value, "utf8"))
                return true;
        return false;
    }
    return false;
}

static inline twill_progress_style twill__screen_style(const twill_progress_options *options,
                                                       int fd, bool terminal)
{
    static const char *const names[] = {"bar", "counter", "lines", "json", "silent"};
    const char *wanted = getenv("TWILL_PROGRESS"), *term = getenv("TERM");
    twill_progress_style style = options->style;
    if (style == TWILL_PROGRESS_AUTO) {
        bool able = terminal && term && *term && strcmp(term, "dumb") != 0;
        style = able && twill__terminal_foreground(fd) ? TWILL_PROGRESS_BAR : TWILL_PROGRESS_LINES;
        for (unsigned i = 0; wanted && i < sizeof names / sizeof names[0]; i++)
            if (strcmp(wanted, names[i]) == 0)
                style = (twill_progress_style)(TWILL_PROGRESS_BAR + i);
    }
    if (style == TWILL_PROGRESS_BAR && !TWILL__TERMINALS)
        style = TWILL_PROGRESS_LINES;
    if (options->accessible && (style == TWILL_PROGRESS_BAR || style == TWILL_PROGRESS_COUNTER))
        style = TWILL_PROGRESS_LINES;
    return style;
}

static inline bool twill__progress_valid(const twill_progress_options *options)
{
    if ((unsigned)options->style > TWILL_PROGRESS_SILENT ||
        (unsigned)options->draw_by > TWILL_PROGRESS_EACH ||
        (unsigned)options->unit > TWILL_UNIT_BYTES_SI || options->fd < 0 || options->interval < 0 ||
        options->quiet_for < 0 || options->memory < 0 ||
        (options->total_is_zero && options->total) ||
        (options->draw_by == TWILL_PROGRESS_EACH && options->interval) ||
        (options->context && !options->on_view))
        return false;
    if (!options->parent)
        return options->weight == 0;
    return !options->style && !options->draw_by && !options->fd && !options->interval &&
           !options->ascii && !options->no_color && !options->accessible && !options->width;
}

static inline twill__screen *twill__screen_create(const twill_progress_options *options)
{
    twill__screen *screen = (twill__screen *)TWILL_MALLOC(sizeof *screen);
    const char *columns = getenv("COLUMNS"), *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    if (!screen)
        return NULL;
    memset(screen, 0, offsetof(twill__screen, frame));
    screen->generation = twill__generation();
    screen->fd = options->fd ? options->fd : 2;
    screen->terminal = twill__terminal_is(screen->fd);
    screen->style = twill__screen_style(options, screen->fd, screen->terminal);
    screen->accessible = options->accessible && screen->style == TWILL_PROGRESS_LINES;
    screen->ascii = options->ascii || !twill__screen_utf8();
    screen->color =
        !options->no_color && !(no_color && *no_color) && !(term && strcmp(term, "dumb") == 0);
    screen->width = options->width;
    for (; columns && *columns >= '0' && *columns <= '9' && screen->columns < 10000; columns++)
        screen->columns = screen->columns * 10 + (unsigned)(*columns - '0');
    if (!screen->columns)
        screen->columns = 80;
    screen->interval = options->interval ? options->interval
                       : screen->accessible || (screen->style != TWILL_PROGRESS_LINES &&
                                                screen->style != TWILL_PROGRESS_JSON)
                           ? TWILL_MS(100)
                           : TWILL_SEC(10);
    atomic_init(&screen->draw_by, options->draw_by);
    return screen;
}

static inline twill_progress *twill__progress_new(const twill_progress_options *options)
{
    static const char *const bytes = "B";
    const char *name = options->unit_name ? options->unit_name : options->unit ? bytes : "";
    void *block = TWILL_MALLOC(sizeof(twill_progress) + TWILL__LINE - 1);
    twill_progress *progress;
    if (!block)
        return NULL;
    progress = (twill_progress *)(((uintptr_t)block + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE);
    memset(progress, 0, sizeof *progress);
    progress->block = block;
    progress->weight = options->weight;
    progress->created = twill__clock_now();
    progress->quiet_for = options->quiet_for;
    progress->clear_at_end = options->clear_at_end;
    progress->on_view = options->on_view;
    progress->context = options->context;
    progress->unit.step = options->unit == TWILL_UNIT_BYTES_IEC  ? 1024
                          : options->unit == TWILL_UNIT_BYTES_SI ? 1000
                                                                 : 0;
    twill__print_cut(progress->unit_name, sizeof progress->unit_name, name);
    progress->unit.name = progress->unit_name;
    twill__print_cut(progress->label, sizeof progress->label,
                     options->label ? options->label : "Progress");
    atomic_init(&progress->total, options->total);
    atomic_init(&progress->total_known, options->total || options->total_is_zero);
    progress->decile = -1;
    twill__speed_start(&progress->rate, options->memory ? options->memory : TWILL_SEC(15),
                       progress->created, 0);
    return progress;
}

/* Behind the parent and its descendants, and starts the renderer if there is something for it to
   do. */
static inline void twill__progress_list(twill_progress *progress, twill_progress *parent)
{
    twill__screen *screen = progress->screen;
    twill_progress *after = parent;
    progress->parent = parent;
    progress->depth = parent ? parent->depth + 1 : 0;
    while (after && after->next && after->next->depth > parent->depth)
        after = after->next;
    progress->previous = after;
    progress->next = after ? after->next : screen->first;
    if (after)
        after->next = progress;
    else
        screen->first = progress;
    if (progress->next)
        progress->next->previous = progress;
    else
        screen->last = progress;
    progress->listed = true;
    if (!screen->threaded &&
        atomic_load_explicit(&screen->draw_by, memory_order_relaxed) == TWILL_PROGRESS_BY_THREAD &&
        (screen->style != TWILL_PROGRESS_SILENT || progress->on_view))
        twill__renderer_start(screen); /* relaxed: it is written here alone, under the lock */
    progress->slow =
        atomic_load_explicit(&screen->draw_by, memory_order_relaxed) == TWILL_PROGRESS_BY_UPDATER ||
        atomic_load_explicit(&screen->draw_by, memory_order_relaxed) == TWILL_PROGRESS_EACH;
}

static inline twill_status twill__progress_join_family(twill_progress *progress,
                                                       twill_progress *parent)
{
    twill__screen *screen = parent->screen;
    bool over;
    twill__lock(&screen->lock);
    over = atomic_load_explicit(&screen->over, memory_order_relaxed) || /* under the lock */
           atomic_load_explicit(&parent->state, memory_order_relaxed) != TWILL__PROGRESS_RUNNING ||
           !parent->listed;
    if (!over) {
        atomic_fetch_add_explicit(&screen->refs, 1,
                                  memory_order_relaxed); /* the parent holds one */
        progress->screen = screen;
        twill__progress_list(progress, parent);
    }
    twill__unlock(&screen->lock);
    return over ? TWILL_CLOSED : TWILL_OK;
}

TWILL__DEFINE twill_status twill_progress_create(twill_progress **out,
                                                 const twill_progress_options *options)
{
    static const twill_progress_options defaults;
    twill_progress *progress;
    twill_status status = TWILL_OK;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    options = options ? options : &defaults;
    if (!twill__progress_valid(options))
        return TWILL_INVALID;
    if (options->parent && twill__progress_forked(options->parent->screen))
        return TWILL_FORKED;
    progress = twill__progress_new(options);
    if (!progress)
        return TWILL_NO_MEMORY;
    *out = progress; /* before anybody may call on_view, which may look there */
    if (options->parent) {
        status = twill__progress_join_family(progress, options->parent);
    } else if ((progress->screen = twill__screen_create(options)) == NULL) {
        status = TWILL_NO_MEMORY;
    } else {
        twill__screen *screen = progress->screen;
        atomic_init(&screen->refs, 1);
        screen->root = progress;
        twill__lock(&screen->lock);
        twill__progress_list(progress, NULL);
        twill__unlock(&screen->lock);
    }
    if (status != TWILL_OK) {
        *out = NULL;
        TWILL_FREE(progress->block);
    }
    return status;
}

/* ---- views, labels, drawing on request ---- */

TWILL__DEFINE twill_status twill_progress_set_label(twill_progress *progress, const char *label)
{
    if (!progress)
        return TWILL_OK;
    if (twill__progress_forked(progress->screen))
        return TWILL_FORKED;
    twill__lock(&progress->screen->lock);
    twill__print_cut(progress->label, sizeof progress->label, label ? label : "Progress");
    twill__unlock(&progress->screen->lock);
    return TWILL_OK;
}

/* After a fork the lock may be held by a thread that does not exist here: the own counters, without
   it. */
static inline void twill__progress_view_forked(const twill_progress *progress,
                                               twill_progress_view *view)
{
    uint64_t processed;
    view->done = twill__tally_read(&progress->counter, TWILL__TALLY_DONE);
    view->failed = twill__tally_read(&progress->counter, TWILL__TALLY_FAILED);
    view->skipped = twill__tally_read(&progress->counter, TWILL__TALLY_SKIPPED);
    processed = twill__tally_plus(view->done, twill__tally_plus(view->failed, view->skipped));
    view->total_known =
        atomic_load_explicit(&progress->total_known, memory_order_acquire) != 0; /* see add_total */
    view->total = atomic_load_explicit(&progress->total, memory_order_relaxed);
    if (view->total_known)
        view->percent = twill__tally_percent(processed, view->total);
    view->elapsed = twill__clock_now() - progress->created;
}

TWILL__DEFINE void twill_progress_get_view(const twill_progress *progress,
                                           twill_progress_view *view)
{
    twill_progress *p = (twill_progress *)(uintptr_t)progress;
    twill_ns now;
    if (!view)
        return;
    memset(view, 0, sizeof *view);
    view->percent = -1;
    view->left = -1;
    if (!p)
        return;
    if (twill__progress_forked(p->screen)) {
        twill__progress_view_forked(p, view);
        return;
    }
    twill__lock(&p->screen->lock);
    now = twill__clock_now();
    twill__progress_count(p);
    if (atomic_load_explicit(&p->state, memory_order_relaxed) ==
            TWILL__PROGRESS_RUNNING && /* under the lock */
        now - p->rate.at >= TWILL__PROGRESS_SAMPLE)
        twill__progress_sample(p, now);
    twill__progress_view_of(p, now, view);
    twill__unlock(&p->screen->lock);
}

TWILL__DEFINE void twill_progress_draw(twill_progress *progress)
{
    twill__screen *screen;
    if (!progress)
        return;
    screen = progress->screen;
    if (twill__screen_undrawn(screen) || /* relaxed: written before the object was ours; a hint */
        (atomic_load_explicit(&screen->draw_by, memory_order_relaxed) == TWILL_PROGRESS_BY_CALL &&
         twill__clock_now() < atomic_load_explicit(&screen->next_draw, memory_order_relaxed)) ||
        !twill__screen_gate_try(&screen->turn))
        return;
    twill__screen_turn_taken(screen);
    twill__screen_pass(screen, true, TWILL__SCREEN_NO_WAIT);
    twill__screen_turn_leave(screen);
}

/* ---- log, suspend ---- */

/* Composes and writes; `line` ends in \n. */
static inline bool twill__screen_log_write(twill__screen *screen, const char *line, size_t length,
                                           char *buffer, size_t size)
{
    twill__draft draft;
    twill__wrote wrote;
    twill__draft_prepare(&draft, screen, buffer, size);
    draft.log = line;
    draft.log_length = length;
    twill__lock(&screen->lock);
    if (screen->suspended)
        draft.visible = false;
    twill__screen_count(screen);
    twill__draft_all(&draft, screen, twill__clock_now());
    twill__unlock(&screen->lock);
    wrote = twill__write_calmly(screen->fd, draft.text.data, draft.text.length, true, false);
    twill__draft_written(&draft, screen, wrote);
    return wrote == TWILL__WROTE;
}

/* A line of text becomes what is written: with its \n, or an object of JSON. */
static inline size_t twill__screen_log_line(const twill__screen *screen, char *to, size_t size,
                                            const char *line)
{
    twill__print text = {to, size, 0, 0};
    if (screen->style == TWILL_PROGRESS_JSON) {
        twill__print_ascii(&text, "{\"log\": ");
        twill__print_json(&text, line);
        twill__print_ascii(&text, "}\n");
    } else {
        twill__print_ascii(&text, line);
        twill__print_ascii(&text, "\n");
    }
    return text.length;
}

enum { TWILL__SCREEN_SHORT = 512 }; /* a line that needs no memory */

static inline bool twill__screen_log_short(twill__screen *screen, const char *line)
{
    char to[6 * TWILL__SCREEN_SHORT + 16];
    size_t length = twill__screen_log_line(screen, to, sizeof to, line);
    return twill__screen_log_write(screen, to, length, screen->frame, sizeof screen->frame);
}

/* `block` holds the line, then what is written (size: at most), then the frame. */
static inline bool twill__screen_log_long(twill__screen *screen, char *block, size_t line_size,
                                          size_t size)
{
    size_t length = twill__screen_log_line(screen, block + line_size, size, block);
    return twill__screen_log_write(screen, block + line_size, length, block + line_size + size,
                                   size + TWILL__SCREEN_FRAME);
}

TWILL__DEFINE int twill_progress_log(twill_progress *progress, const char *format, ...)
{
    char line[TWILL__SCREEN_SHORT], *block = NULL;
    twill__screen *screen;
    size_t size = 0;
    va_list arguments;
    int length;
    bool written = false;
    if (!progress || !format)
        return progress ? -1 : 0;
    screen = progress->screen;
    if (twill__progress_forked(screen))
        return -1;
    va_start(arguments, format);
    length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length >= TWILL__SCREEN_SHORT) {
        size = (size_t)length * (screen->style == TWILL_PROGRESS_JSON ? 6 : 1) + 16;
        block = (char *)TWILL_MALLOC((size_t)length + 1 + 2 * size + TWILL__SCREEN_FRAME);
        if (block) {
            va_start(arguments, format);
            length = vsnprintf(block, (size_t)length + 1, format, arguments);
            va_end(arguments);
        } else {
            length = TWILL__SCREEN_SHORT - 1; /* no memory: its front part is better than nothing */
        }
    }
    if (length < 0) {
        TWILL_FREE(block);
        return -1;
    }
    twill__screen_gate_enter(&screen->io, 0);
    if (!atomic_load_explicit(&screen->broken, memory_order_relaxed)) /* a stop, not a message */
        written = block ? twill__screen_log_long(screen, block, (size_t)length + 1, size)
                        : twill__screen_log_short(screen, line);
    twill__screen_gate_leave(&screen->io);
    TWILL_FREE(block);
    return written ? length : -1;
}

TWILL__DEFINE void twill_progress_suspend(twill_progress *progress)
{
    twill__screen *screen = progress ? progress->screen : NULL;
    twill__draft draft;
    if (!screen || twill__progress_forked(screen))
        return;
    twill__screen_gate_enter(&screen->io, 0);
    if (screen->suspended++ == 0 &&
        !atomic_load_explicit(&screen->broken, memory_order_relaxed)) { /* a stop */
        twill__draft_prepare(&draft, screen, screen->frame, sizeof screen->frame);
        twill__draft_clear(&draft, screen);
        twill__draft_written(
            &draft, screen,
            twill__write_calmly(screen->fd, draft.text.data, draft.text.length, true, true));
    }
    twill__screen_gate_leave(&screen->io);
}

TWILL__DEFINE void twill_progress_resume(twill_progress *progress)
{
    twill__screen *screen = progress ? progress->screen : NULL;
    bool again = false;
    if (!screen || twill__progress_forked(screen))
        return;
    twill__screen_gate_enter(&screen->io, 0);
    if (screen->suspended)
        again = --screen->suspended == 0;
    twill__screen_gate_leave(&screen->io);
    if (!again || (screen->style != TWILL_PROGRESS_BAR && screen->style != TWILL_PROGRESS_COUNTER))
        return;
    atomic_store_explicit(&screen->next_draw, 0, memory_order_relaxed); /* a hint */
    twill__screen_request(screen);
}

/* ---- the end ---- */

/* With a renderer: it draws. Else we do. Either gives up a terminal that blocks. */
static inline void twill__progress_draw_last(twill_progress *progress, bool root, bool threaded)
{
    twill__screen *screen = progress->screen;
    if (threaded && root) {
        twill__renderer_end(screen);
    } else if (threaded) {
        twill_ns limit = twill__clock_now() + TWILL__SCREEN_STUCK;
        twill__screen_request(screen);
        /* acquire: pairs with twill__progress_settle */
        while (atomic_load_explicit(&progress->state, memory_order_acquire) ==
                   TWILL__PROGRESS_ENDING &&
               twill__park(&progress->state, TWILL__PROGRESS_ENDING, limit))
            continue;
    } else if (twill__screen_enter(screen, &screen->turn, TWILL__SCREEN_A_SECOND)) {
        twill__screen_turn_taken(screen);
        twill__screen_pass(screen, root, TWILL__SCREEN_A_SECOND);
        twill__screen_turn_leave(screen);
    }
}

/* What nobody has done by now: the bar ends, and its on_view is told. */
static inline bool twill__progress_end_surely(twill_progress *progress)
{
    twill__screen *screen = progress->screen;
    twill_task task = {SIZE_MAX, progress->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    twill_progress_view view;
    char label[TWILL__PROGRESS_LABEL];
    bool tell, over;
    twill__lock(&screen->lock);
    if (twill__progress_ending(progress))
        twill__progress_settle(progress);
    twill__screen_await_view(screen, progress);
    tell = progress->on_view && !progress->told;
    progress->told = true;
    twill__progress_count(progress);
    twill__progress_view_of(progress, progress->ended, &view);
    memcpy(label, progress->label, sizeof label);
    over = view.total_known && twill__progress_processed(progress) > view.total;
    twill__unlock(&screen->lock);
    view.label = label;
    if (tell)
        progress->on_view(&view, &task);
    return over;
}

TWILL__DEFINE twill_status twill_progress_finish(twill_progress *progress, twill_status outcome)
{
    twill__screen *screen;
    bool root, threaded, drawn;
    if (!progress)
        return TWILL_OK;
    screen = progress->screen;
    if (twill__progress_forked(screen))
        return TWILL_FORKED;
    if (twill__screen_turn_mine(screen))
        return TWILL_DEADLOCK;
    twill__lock(&screen->lock);
    if (atomic_load_explicit(&progress->state, memory_order_relaxed) !=
        TWILL__PROGRESS_RUNNING) { /* under the lock */
        twill__unlock(&screen->lock);
        /* acquire: pairs with twill__progress_settle */
        while (atomic_load_explicit(&progress->state, memory_order_acquire) ==
               TWILL__PROGRESS_ENDING)
            twill__park(&progress->state, TWILL__PROGRESS_ENDING,
                        0); /* exit: the first caller ends it */
        return TWILL_OK;
    }
    progress->outcome = outcome;
    progress->ended = twill__clock_now();
    atomic_store_explicit(&progress->state, TWILL__PROGRESS_ENDING,
                          memory_order_relaxed); /* under the lock */
    root = progress == screen->root;
    threaded = screen->threaded;
    drawn = progress->listed &&
            !atomic_load_explicit(&screen->over, memory_order_relaxed); /* under the lock */
    twill__unlock(&screen->lock);
    if (drawn)
        twill__progress_draw_last(progress, root, threaded);
    return twill__progress_end_surely(progress) ? TWILL_INVALID : TWILL_OK;
}

TWILL__DEFINE twill_status twill_progress_destroy(twill_progress *progress)
{
    twill__screen *screen;
    twill_status status;
    unsigned children = 0;
    if (!progress)
        return TWILL_OK;
    screen = progress->screen;
    if (twill__progress_forked(
            screen)) { /* one thread was here at the fork; the renderer's reference is nobody's */
        uint32_t nobody =
            screen->threaded && !atomic_load_explicit(&screen->ended, memory_order_relaxed);
        TWILL_FREE(progress->block);
        if (atomic_fetch_sub_explicit(&screen->refs, 1, memory_order_acq_rel) - 1 ==
            nobody) /* as in screen_drop */
            TWILL_FREE(screen);
        return TWILL_OK;
    }
    status = twill_progress_finish(progress, TWILL_OK);
    if (status == TWILL_DEADLOCK)
        return status;
    twill__lock(&screen->lock);
    for (twill_progress *p = screen->first, *next; p; p = next) {
        next = p->next;
        if (p->parent == progress) {
            p->parent = NULL;
            twill__progress_unlist(p);
            children++;
        }
    }
    twill__progress_unlist(progress);
    if (progress == screen->root)
        screen->root = NULL;
    twill__unlock(&screen->lock);
    TWILL_ASSERT(children == 0); /* destroy children before their parent */
    (void)children;
    TWILL_FREE(progress->block);
    twill__screen_drop(screen);
    return status;
}

/* ---- map with progress ---- */

typedef struct twill__progress_map {
    twill__map map; /* first: twill__map_body reads job->data as this */
    twill_map_fn *fn;
    twill_progress *progress;
    const twill_report *report;
    size_t n;
} twill__progress_map;

/* Stands in for the user's function and counts how the item ended. */
static inline int twill__progress_item(const void *in, void *out, const twill_task *task)
{
    const twill__job *job = (const twill__job *)task->private_;
    const twill__progress_map *data = (const twill__progress_map *)job->data;
    int code = data->fn(in, out, task);
    if (code)
        twill_progress_add_failed(data->progress, 1);
    else if (job->slot[task->worker].said & TWILL__SAID_SKIP)
        twill_progress_add_skipped(data->progress, 1);
    else
        twill_progress_add(data->progress, 1);
    return code;
}

static inline void twill__progress_steps(twill__job *job, void *data)
{
    twill__pass pass;
    memset(&pass, 0, sizeof pass);
    pass.n = ((const twill__progress_map *)data)->n;
    pass.body = twill__map_body;
    pass.data = data;
    pass.schedule = TWILL__AUTO;
    twill__run_pass(job, &pass);
}

/* What no callback could count: items that never ran, and those that ended their thread. */
static inline void twill__progress_rest(twill_progress *progress, const twill_report *report)
{
    uint64_t failed = progress ? twill__tally_sum(&progress->counter, TWILL__TALLY_FAILED) : 0;
    uint64_t skipped = progress ? twill__tally_sum(&progress->counter, TWILL__TALLY_SKIPPED) : 0;
    if (report->failed > failed)
        twill_progress_add_failed(progress, report->failed - failed);
    if (report->skipped > skipped)
        twill_progress_add_skipped(progress, report->skipped - skipped);
}

/* A callback has ended the calling thread, and the map is over. */
static inline void twill__progress_map_ended(void *data_)
{
    twill__progress_map *data = (twill__progress_map *)data_;
    twill__progress_rest(data->progress, data->report);
    (void)twill_progress_finish(data->progress, TWILL_LOST);
    (void)twill_progress_destroy(data->progress);
}

TWILL__DEFINE twill_status twill_map_with_progress(const void *items, size_t item_size,
                                                   void *results, size_t result_size, size_t n,
                                                   twill_map_fn *fn,
                                                   const twill_map_with_progress_options *options)
{
    static const twill_map_with_progress_options defaults;
    twill__progress_map data;
    twill_progress_options look;
    twill_report report;
    twill_run run;
    twill_status status = twill__map_check(items, item_size, results, result_size, n, fn);
    options = options ? options : &defaults;
    look = options->progress;
    run = options->run;
    if (status == TWILL_OK && (look.total || look.total_is_zero || !twill__progress_valid(&look)))
        status = TWILL_INVALID;
    if (status == TWILL_OK)
        status = twill__check_run(&run);
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    look.total = n;
    look.total_is_zero = n == 0;
    run.report = run.report ? run.report : &report;
    data.report = run.report;
    data.map.in = (const char *)items;
    data.map.out = (char *)results;
    data.map.in_size = item_size;
    data.map.out_size = result_size;
    data.map.fn = twill__progress_item;
    data.fn = fn;
    data.n = n;
    (void)twill_progress_create(&data.progress, &look); /* without one the map runs all the same */
    TWILL__GUARD_PUSH(twill__progress_map_ended, &data);
    status = twill__run_call(&run, n, false, twill__progress_steps, &data);
    TWILL__GUARD_POP(0);
    twill__progress_rest(data.progress, run.report);
    (void)twill_progress_finish(data.progress, status);
    (void)twill_progress_destroy(data.progress);
    return status;
}

#endif
#endif

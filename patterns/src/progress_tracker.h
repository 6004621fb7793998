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

OPTIONS (twill_progress_options; zeroed: a bar on standard error, or lines if it is no terminal)
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
                    time (who ends a bar waits a second for another one's) and with no lock of ours
                    held. It may do anything but finish and destroy (TWILL_DEADLOCK). It may end its
                    thread: if that is the tracker's own, draw, finish and log draw from then on
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
    TWILL_CLOSED    create: the parent is finished, or its root
    TWILL_DEADLOCK  finish and destroy, called by on_view
    TWILL_FORKED    set_label, finish, or create of a child, in a forked child
    A thread that cannot be started is no error: updaters draw (BY_UPDATER). Nor is a descriptor
    that fails: EPIPE, EIO, ENOSPC, EBADF and the like end the drawing, and counting goes on. No
    SIGPIPE reaches the program.

THREADS
    Everything may be called by any thread at any time, but destroy, which must be the last call;
    create of a child and destroy of its parent must not run at once. In a signal handler: the three
    add functions, where 64-bit atomics are lock-free, unless draw_by is BY_UPDATER or EACH. Updates
    are relaxed: the last frame and view show all updates that happened before finish, so join the
    workers (or wait for their futures) first.
    set and add at once: each addition counts either before the set, which replaces it, or on top of
    it; none is lost and none counts twice. Of two sets at once either wins.
    The drawn number never goes down, except after set, and in the parent of a weighted child that
    gets more to do.

OWNERSHIP
    Texts are copied. The descriptor stays the caller's; it must stay open until finish. Children
    are destroyed before their parent.

COSTS
    add: an addition to a word of the thread's own, beyond 16 threads a relaxed one to a word that
    some share: see docs/progress_tracker.md for figures.
    BY_UPDATER reads the clock on top of it, EACH writes. About 3 KB a tracker and 21 KB a root,
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

/* Writes a line above the bars, as printf would, and a line feed behind it if it has none; in JSON
   style as {"log": "..."}. Returns the number of bytes of the text, negative if it could not be
   written. May block on the terminal. */
#if defined __GNUC__
__attribute__((format(printf, 2, 3)))
#endif
TWILL__DECL int
twill_progress_log(twill_progress *progress, const char *format, ...);

/* Clears the bars for foreign output, and draws nothing until as many calls of resume. The last
   lines of children that end meanwhile come then, as far as 4 KB hold them. */
TWILL__DECL void twill_progress_suspend(twill_progress *progress);
TWILL__DECL void twill_progress_resume(twill_progress *progress);

/* Draws the last frame and ends the thread. An outcome other than TWILL_OK is written behind the
   true numbers. A child's line moves above the bars that still run. Later updates count and are not
   drawn. A second call waits for the first and does nothing else. */
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
   memory for a display, or its parent is finished, the map runs without one. `options` NULL: all
   defaults.
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

#include "progress_tracker/map.h"

#endif
#endif

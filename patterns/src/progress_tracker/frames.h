/* frames.h: who draws, when, and how a frame reaches the descriptor. */
#ifndef TWILL__PROGRESS_FRAMES_H
#define TWILL__PROGRESS_FRAMES_H

#include "progress_tracker/lines.h"

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
    bool held;   /* suspended: the last lines of what ends are kept */
    bool kept;   /* the text has those that were kept */
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

/* A bar that ends here is drawn with this frame, or needs no line. It is the frame's to take back
   (see settle): a log line that comes between the two must not forget it. */
static inline bool twill__draft_includes(const twill__draft *draft, twill_progress *progress)
{
    bool closes = twill__draft_closes(draft, progress);
    if (closes)
        progress->included = true;
    return closes;
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

/* What the text has from `start` on is kept while the bars are suspended, if there is room. */
static inline void twill__draft_keep(twill__draft *draft, twill__screen *screen, size_t start)
{
    size_t length = draft->text.length - start;
    if (!draft->held)
        return;
    draft->text.length = start;
    if (length > sizeof screen->kept - screen->kept_length)
        return;
    memcpy(screen->kept + screen->kept_length, draft->text.data + start, length);
    screen->kept_length += length;
}

static inline void twill__draft_kept(twill__draft *draft, const twill__screen *screen)
{
    if (!draft->visible)
        return;
    twill__print_raw(&draft->text, screen->kept, screen->kept_length);
    draft->kept = true;
}

/* The lines of children that end stay, above the others. */
static inline void twill__draft_bars_ended(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    for (twill_progress *p = screen->first; p; p = p->next) {
        size_t start = draft->text.length;
        if (p == screen->root || !twill__draft_has_room(draft) || !twill__draft_includes(draft, p))
            continue;
        if (p->clear_at_end || twill__progress_quiet(p, now) || !(draft->visible || draft->held))
            continue;
        twill__draft_bar(draft, screen, p, now);
        twill__print_code(&draft->text, "\n\r");
        twill__draft_keep(draft, screen, start);
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
        if ((p != screen->root && twill__draft_closes(draft, p)) || twill__progress_quiet(p, now))
            continue; /* what ends stands above, or in the next frame */
        if (draft->lines >= draft->rows || !twill__draft_has_room(draft))
            break;
        twill__print_code(&draft->text, draft->lines ? "\n\r" : "\r");
        twill__draft_bar(draft, screen, p, now);
        draft->lines++;
    }
}

static inline void twill__draft_bars(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    bool final = twill__draft_includes(draft, screen->root),
         vanishes = final && screen->root->clear_at_end,
         anew = vanishes || draft->log_length || (draft->visible && screen->kept_length) ||
                twill__draft_child_ends(draft, screen);
    size_t start;
    if (anew) {
        twill__draft_clear(draft, screen);
        twill__draft_kept(draft, screen);
        twill__print_raw(&draft->text, draft->log, draft->log_length);
        twill__draft_bars_ended(draft, screen, now);
    } else if (screen->shown_lines > 1) {
        twill__print_code(&draft->text, "\x1b[");
        twill__print_number(&draft->text, screen->shown_lines - 1);
        twill__print_code(&draft->text, "A");
    }
    start = draft->text.length;
    draft->lines = 0;
    if (draft->visible && (draft->due || screen->shown_lines) && !vanishes)
        twill__draft_bars_live(draft, screen, now);
    draft->hash = twill__draft_hash(draft->text.data + start, draft->text.length - start);
    if (!anew && !final && draft->hash == screen->shown_hash)
        draft->text.length = 0; /* nothing has changed */
    else if (!anew && draft->lines < screen->shown_lines)
        twill__print_code(&draft->text, "\x1b[J"); /* the terminal has become lower */
    if (final && draft->lines) {
        twill__print_code(&draft->text, "\n");
        draft->lines = 0;
    }
}

static inline void twill__draft_counter(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    bool final = twill__draft_closes(draft, screen->root), due = draft->due || screen->shown_cells;
    twill_progress_view view;
    twill__print *text = &draft->text;
    size_t start;
    unsigned before = screen->shown_cells;
    if (draft->log_length) {
        twill__draft_clear(draft, screen);
        twill__print_raw(text, draft->log, draft->log_length);
        before = 0;
    }
    for (twill_progress *p = screen->first; p; p = p->next)
        twill__draft_includes(draft, p);
    if (!draft->visible || !due || twill__progress_quiet(screen->root, now))
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

static inline void twill__draft_line(twill__draft *draft, const twill__screen *screen,
                                     twill_progress *progress, bool ending, twill_ns now)
{
    twill_progress_view view;
    twill__progress_view_of(progress, now, &view);
    if (screen->style == TWILL_PROGRESS_JSON)
        twill__progress_line_json(&draft->text, progress, &view);
    else if (!screen->accessible || ending || twill__progress_tenth(progress, &view, now))
        twill__progress_line_plain(&draft->text, screen, progress, &view);
    else
        return;
    twill__print_code(&draft->text, "\n");
}

/* What ends comes first: those that go on have another frame, if there is no room for all. */
static inline void twill__draft_lines(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    twill__draft_kept(draft, screen);
    twill__print_raw(&draft->text, draft->log, draft->log_length);
    for (twill_progress *p = screen->first; p && twill__draft_has_room(draft); p = p->next)
        if (twill__draft_includes(draft, p) && (draft->visible || draft->held)) {
            size_t start = draft->text.length;
            twill__draft_line(draft, screen, p, true, now);
            twill__draft_keep(draft, screen, start);
        }
    if (!draft->due || !draft->visible)
        return;
    for (twill_progress *p = screen->first; p && twill__draft_has_room(draft); p = p->next)
        if (!twill__draft_closes(draft, p) && !twill__progress_quiet(p, now))
            twill__draft_line(draft, screen, p, false, now);
}

static inline void twill__draft_all(twill__draft *draft, twill__screen *screen, twill_ns now)
{
    draft->lines = screen->shown_lines;
    draft->shown_cells = screen->shown_cells;
    draft->hash = screen->shown_hash;
    /* relaxed: a stop, not a message */
    if (screen->style == TWILL_PROGRESS_SILENT ||
        atomic_load_explicit(&screen->over, memory_order_relaxed)) {
        if (draft->log_length && (draft->lines || draft->shown_cells)) {
            twill__print_code(&draft->text, "\n"); /* the last frame was given up */
            draft->lines = draft->shown_cells = 0;
        }
        twill__print_raw(&draft->text, draft->log, draft->log_length);
        for (twill_progress *p = screen->first; p; p = p->next)
            twill__draft_includes(draft, p);
    } else if (screen->style == TWILL_PROGRESS_BAR) {
        twill__draft_bars(draft, screen, now);
    } else if (screen->style == TWILL_PROGRESS_COUNTER) {
        twill__draft_counter(draft, screen, now);
    } else {
        twill__draft_lines(draft, screen, now);
    }
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
        if (draft->kept)
            screen->kept_length = 0;
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
    TWILL__CHAIN_OUT(screen->first, screen->last, progress, previous, next);
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
        atomic_store_explicit(&screen->blocked, TWILL__RENDERER_BLOCKED, memory_order_seq_cst);
}

static inline bool twill__screen_hung(twill__screen *screen, twill__screen_patience patience)
{
    uint32_t expected = TWILL__RENDERER_BLOCKED;
    return patience == TWILL__SCREEN_RENDERER &&
           !atomic_compare_exchange_strong_explicit(&screen->blocked, &expected,
                                                    TWILL__RENDERER_FREE, memory_order_seq_cst,
                                                    memory_order_seq_cst);
}

static inline bool twill__screen_enter(twill__screen *screen, _Atomic uint32_t *gate,
                                       twill__screen_patience patience)
{
    bool entered;
    if (patience == TWILL__SCREEN_NO_WAIT)
        return twill__screen_gate_try(gate);
    twill__screen_may_hang(screen, patience);
    entered = twill__screen_gate_enter(
        gate, patience == TWILL__SCREEN_A_SECOND ? twill__screen_stuck_at() : 0);
    if (entered && twill__screen_hung(screen, patience)) {
        twill__screen_gate_leave(gate);
        return false;
    }
    return entered;
}

/* Under the lock: a callback has returned, or ended its thread. */
static inline void twill__screen_view_over(twill__screen *screen)
{
    atomic_fetch_add_explicit(&screen->called, 1, memory_order_relaxed); /* under the lock */
    twill__wake(&screen->called, INT_MAX);
}

/* Under the lock: afterwards no callback of this bar runs. Not from inside it. */
static inline void twill__screen_await_view(twill__screen *screen, const twill_progress *progress)
{
    /* relaxed, both: under the lock */
    while (screen->calling == progress ||
           atomic_load_explicit(&progress->teller, memory_order_relaxed)) {
        uint32_t called = atomic_load_explicit(&screen->called, memory_order_relaxed);
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

/* Who joins the renderer, or would ask it for a frame, sees it. */
static inline void twill__renderer_over(twill__screen *screen)
{
    atomic_store_explicit(&screen->ended, 1,
                          memory_order_release); /* pairs with the acquire in twill__renderer_end */
    twill__wake(&screen->ended, INT_MAX);
}

/* What was not written is drawn by the next frame, or given up by who waits for it. */
static inline void twill__screen_forget(twill__screen *screen)
{
    twill__lock(&screen->lock);
    for (twill_progress *p = screen->first; p; p = p->next)
        p->included = false;
    twill__unlock(&screen->lock);
}

/* False: left behind; touch nothing but the screen. */
static inline bool twill__screen_show(twill__screen *screen, twill_ns now, bool due,
                                      twill__screen_patience patience)
{
    twill__draft draft;
    twill__wrote wrote;
    bool hung;
    if (twill__progress_forked(screen) || !twill__screen_enter(screen, &screen->io, patience))
        return patience != TWILL__SCREEN_RENDERER;
    twill__draft_prepare(&draft, screen, screen->frame, sizeof screen->frame);
    draft.due = due;
    draft.closes = true;
    twill__lock(&screen->lock);
    draft.held = screen->suspended && !twill__progress_ending(screen->root);
    if (draft.held)
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
    if (wrote == TWILL__WROTE_NOT)
        twill__screen_forget(screen);
    else
        twill__screen_settle(screen);
    return true;
}

/* One look of whoever has the turn; in the frame of its guard. */
typedef struct twill__screen_look {
    twill__screen *screen;
    twill_ns now;
    bool due;
    twill__screen_patience patience;
} twill__screen_look;

/* on_view has ended the thread that has the turn: it draws the frame all the same, and ends. A
   renderer is gone then (first, so that a bar that ends now is drawn here, or by
   who ends it); draw and finish go on without one. */
static void twill__screen_viewer_gone(void *look_)
{
    const twill__screen_look *look = (const twill__screen_look *)look_;
    twill__screen *screen = look->screen;
    if (twill__progress_forked(screen)) /* see twill__screen_tell */
        return;
    twill__lock(&screen->lock);
    screen->calling = NULL;
    twill__screen_view_over(screen);
    twill__unlock(&screen->lock);
    if (look->patience == TWILL__SCREEN_RENDERER)
        twill__renderer_over(screen);
    (void)twill__screen_show(screen, look->now, look->due,
                             look->patience == TWILL__SCREEN_RENDERER ? TWILL__SCREEN_A_SECOND
                                                                      : look->patience);
    twill__screen_turn_leave(screen);
}

static __attribute__((noinline)) void twill__screen_call(twill__screen_look *look,
                                                         const twill_progress *progress,
                                                         const twill_progress_view *view)
{
    twill_task task = {SIZE_MAX, progress->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    TWILL__GUARD_PUSH(twill__screen_viewer_gone, look);
    progress->on_view(view, &task);
    TWILL__GUARD_POP(0);
}

/* Calls on_view of each bar that has one, without a lock. */
static inline void twill__screen_tell(twill__screen_look *look)
{
    twill__screen *screen = look->screen;
    twill_progress *progress;
    twill__lock(&screen->lock);
    screen->pass++;
    for (;;) { /* exit: each has been told in this pass */
        twill_progress_view view;
        char label[TWILL__PROGRESS_LABEL];
        for (progress = screen->first; progress; progress = progress->next)
            if (progress->on_view && progress->pass != screen->pass && !progress->told &&
                (look->due || twill__progress_ending(progress)))
                break;
        if (!progress)
            break;
        progress->pass = screen->pass;
        /* under the lock. A frame may have ended it already, before its on_view was told */
        progress->told =
            atomic_load_explicit(&progress->state, memory_order_relaxed) != TWILL__PROGRESS_RUNNING;
        twill__progress_count(progress);
        twill__progress_view_of(progress, look->now, &view);
        memcpy(label, progress->label, sizeof label);
        view.label = label;
        screen->calling = progress;
        twill__unlock(&screen->lock);
        twill__screen_call(look, progress, &view);
        if (twill__progress_forked(screen))
            return; /* it has forked: in the child the lock may be held by nobody, for ever */
        twill__lock(&screen->lock);
        screen->calling = NULL;
        twill__screen_view_over(screen);
    }
    twill__unlock(&screen->lock);
}

static inline bool twill__screen_pass(twill__screen *screen, bool due,
                                      twill__screen_patience patience)
{
    twill__screen_look look = {screen, twill__clock_now(), due, patience};
    twill__lock(&screen->lock);
    twill__screen_count(screen);
    for (twill_progress *p = screen->first; p; p = p->next)
        if (atomic_load_explicit(&p->state, memory_order_relaxed) ==
            TWILL__PROGRESS_RUNNING) /* under the lock */
            twill__progress_sample(p, look.now);
    twill__unlock(&screen->lock);
    if (due) /* relaxed: a hint to updaters */
        atomic_store_explicit(&screen->next_draw,
                              screen->interval < INT64_MAX - look.now ? look.now + screen->interval
                                                                      : INT64_MAX,
                              memory_order_relaxed);
    twill__screen_tell(&look);
    return twill__screen_show(screen, look.now, due, patience);
}

/* ---- the renderer ---- */

/* `nobody`: references that nobody holds. */
static inline void twill__screen_drop(twill__screen *screen, uint32_t nobody)
{
    /* acq_rel: whoever frees it sees what the others did */
    if (atomic_fetch_sub_explicit(&screen->refs, 1, memory_order_acq_rel) - 1 == nobody)
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
    const twill_ns period =
        screen->interval < TWILL__SCREEN_PERIOD ? screen->interval : TWILL__SCREEN_PERIOD;
    for (;;) { /* exit: stopped, or left behind */
        /* acquire: pairs with the release of twill__screen_request; the order of the two loads
           makes a stop wake us */
        uint32_t requests = atomic_load_explicit(&screen->requests, memory_order_acquire);
        bool stop = atomic_load_explicit(&screen->stop, memory_order_acquire) != 0;
        twill_ns next;
        if (!twill__renderer_turn(screen, stop)) {
            twill__screen_drop(screen, 0);
            return;
        }
        if (stop)
            break;
        next = twill__instant_after(twill__clock_now(), period);
        while (atomic_load_explicit(&screen->requests, memory_order_acquire) == requests &&
               twill__park(&screen->requests, requests, next))
            continue;
        if (twill__clock_now() - TWILL_SEC(1) > next && twill__screen_gate_try(&screen->io)) {
            screen->lost = true; /* we were stopped, and the shell has written: do not move up */
            twill__screen_gate_leave(&screen->io);
        }
    }
    twill__renderer_over(screen);
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

/* Lets the renderer draw the last frame. A callback is waited for, a terminal for a second. False:
   left behind. */
static inline bool twill__renderer_end(twill__screen *screen)
{
    atomic_store_explicit(&screen->stop, 1,
                          memory_order_release); /* pairs with the renderer's load */
    twill__screen_request(screen);
    for (;;) { /* exit: it has ended, or hangs */
        twill_ns limit = twill__screen_stuck_at();
        uint32_t blocked = TWILL__RENDERER_BLOCKED, ended;
        while (!(ended = atomic_load_explicit(&screen->ended,
                                              memory_order_acquire))) /* pairs with its release */
            if (!twill__park(&screen->ended, 0, limit))
                break;
        if (ended) {
            twill__thread_join(&screen->thread);
            twill__screen_drop(screen, 0);
            return true;
        }
        if (atomic_compare_exchange_strong_explicit(&screen->blocked, &blocked,
                                                    TWILL__RENDERER_ABANDONED, memory_order_seq_cst,
                                                    memory_order_seq_cst)) {
            twill__thread_let_go(&screen->thread);
            return false;
        }
    }
}

#endif

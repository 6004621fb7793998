/* updates.h: the public functions of a bar. */
#ifndef TWILL__PROGRESS_UPDATES_H
#define TWILL__PROGRESS_UPDATES_H

#include "progress_tracker/frames.h"

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
                          memory_order_release); /* pairs with twill__progress_total */
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
    screen->home = twill__home_here();
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
    TWILL__CHAIN_IN(screen->first, screen->last, after, progress, previous, next);
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

/* After a fork the lock may be held by a thread that does not exist here: the own counters and what
   children that have ended stand for, without it. */
static inline void twill__progress_view_forked(const twill_progress *progress,
                                               twill_progress_view *view)
{
    uint64_t processed;
    uint64_t counted[TWILL__TALLY_KINDS];
    for (unsigned kind = 0; kind < TWILL__TALLY_KINDS; kind++)
        counted[kind] =
            twill__tally_plus(twill__tally_read(&progress->counter, kind), progress->given[kind]);
    view->done = counted[TWILL__TALLY_DONE];
    view->failed = counted[TWILL__TALLY_FAILED];
    view->skipped = counted[TWILL__TALLY_SKIPPED];
    processed = twill__tally_plus(view->done, twill__tally_plus(view->failed, view->skipped));
    twill__progress_total(progress, processed, view);
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
    char line[TWILL__SCREEN_SHORT], *block = NULL, *text;
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
        if ((size_t)length <= SIZE_MAX / 16 - TWILL__SCREEN_FRAME)
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
    text = block ? block : line;
    if (length && text[length - 1] == '\n') /* as for printf: it is the one that would follow */
        text[length - 1] = '\0';
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

static inline bool twill__progress_still_ends(const twill_progress *progress)
{
    /* acquire: pairs with twill__progress_settle */
    return atomic_load_explicit(&progress->state, memory_order_acquire) == TWILL__PROGRESS_ENDING;
}

/* With a renderer: it draws. Else, and if its last frame was not taken, we do. Either gives up a
   terminal that blocks. */
static inline void twill__progress_draw_last(twill_progress *progress, bool root, bool threaded)
{
    twill__screen *screen = progress->screen;
    bool left_behind = false;
    if (threaded && root) {
        left_behind = !twill__renderer_end(screen);
    } else if (threaded && /* acquire: pairs with twill__renderer_over */
               !atomic_load_explicit(&screen->ended, memory_order_acquire)) {
        twill_ns limit = twill__screen_stuck_at();
        twill__screen_request(screen);
        while (twill__progress_still_ends(progress) &&
               twill__park(&progress->state, TWILL__PROGRESS_ENDING, limit))
            continue;
        left_behind = true;
    }
    if (!left_behind && twill__progress_still_ends(progress) &&
        twill__screen_enter(screen, &screen->turn, TWILL__SCREEN_A_SECOND)) {
        twill__screen_turn_taken(screen);
        twill__screen_pass(screen, root, TWILL__SCREEN_A_SECOND);
        twill__screen_turn_leave(screen);
    }
}

/* on_view of a bar that has ended, out of turn or in it. */
typedef struct twill__progress_last_view {
    twill_progress *progress;
    bool turn;
} twill__progress_last_view;

static void twill__progress_last_told(void *last_)
{
    const twill__progress_last_view *last = (const twill__progress_last_view *)last_;
    twill__screen *screen = last->progress->screen;
    if (last->turn)
        twill__screen_turn_leave(screen);
    if (twill__progress_forked(screen)) /* as in twill__screen_tell */
        return;
    twill__lock(&screen->lock);
    /* relaxed: under the lock, or compared with one's own number */
    atomic_store_explicit(&last->progress->teller, 0, memory_order_relaxed);
    twill__screen_view_over(screen);
    twill__unlock(&screen->lock); /* the bar may be gone from here on */
}

/* In turn, so that on_view runs once at a time; who is stuck cannot stop us. */
static __attribute__((noinline)) void twill__progress_tell_last(twill_progress *progress,
                                                                const twill_progress_view *view)
{
    twill__screen *screen = progress->screen;
    twill_task task = {SIZE_MAX, progress->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    twill__progress_last_view last = {progress, false};
    last.turn = twill__screen_enter(screen, &screen->turn, TWILL__SCREEN_A_SECOND);
    if (last.turn)
        twill__screen_turn_taken(screen);
    TWILL__GUARD_PUSH(twill__progress_last_told, &last);
    progress->on_view(view, &task);
    TWILL__GUARD_POP(1);
}

/* What nobody has done by now: the bar ends, and its on_view is told. True: over the total. */
static inline bool twill__progress_end_surely(twill_progress *progress)
{
    twill__screen *screen = progress->screen;
    twill_progress_view view;
    char label[TWILL__PROGRESS_LABEL];
    bool tell, over;
    twill__lock(&screen->lock);
    if (twill__progress_ending(progress))
        twill__progress_settle(progress);
    twill__screen_await_view(screen, progress);
    tell = progress->on_view && !progress->told;
    progress->told = true;
    if (tell) /* relaxed: under the lock */
        atomic_store_explicit(&progress->teller, twill__thread_number(), memory_order_relaxed);
    twill__progress_count(progress);
    twill__progress_view_of(progress, progress->ended, &view);
    memcpy(label, progress->label, sizeof label);
    over = view.total_known && twill__progress_processed(progress) > view.total;
    twill__unlock(&screen->lock);
    view.label = label;
    if (tell)
        twill__progress_tell_last(progress, &view);
    return over;
}

/* on_view of another bar has ended the thread that finishes this one. */
static void twill__progress_finisher_gone(void *progress_)
{
    twill_progress *progress = (twill_progress *)progress_;
    twill__screen *screen = progress->screen;
    if (twill__progress_forked(screen)) /* as in twill__screen_tell */
        return;
    twill__lock(&screen->lock);
    if (twill__progress_ending(progress))
        twill__progress_settle(progress);
    twill__unlock(&screen->lock);
}

static __attribute__((noinline)) bool twill__progress_end(twill_progress *progress, bool drawn,
                                                          bool root, bool threaded)
{
    bool over;
    TWILL__GUARD_PUSH(twill__progress_finisher_gone, progress);
    if (drawn)
        twill__progress_draw_last(progress, root, threaded);
    over = !twill__progress_forked(progress->screen) && twill__progress_end_surely(progress);
    TWILL__GUARD_POP(0);
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
    if (twill__screen_turn_mine(screen) ||
        atomic_load_explicit(&progress->teller, memory_order_relaxed) == twill__thread_number())
        return TWILL_DEADLOCK;
    twill__lock(&screen->lock);
    if (atomic_load_explicit(&progress->state, memory_order_relaxed) !=
        TWILL__PROGRESS_RUNNING) { /* under the lock */
        twill__unlock(&screen->lock);
        while (twill__progress_still_ends(progress)) /* exit: the first caller ends it */
            twill__park(&progress->state, TWILL__PROGRESS_ENDING, 0);
        (void)twill__progress_end_surely(progress); /* whoever comes first tells its on_view */
        return TWILL_OK;
    }
    progress->outcome = outcome;
    progress->ended = twill__clock_now();
    twill__progress_count(progress);
    twill__progress_sample(progress, progress->ended); /* a `set` that no frame has seen */
    atomic_store_explicit(&progress->state, TWILL__PROGRESS_ENDING,
                          memory_order_relaxed); /* under the lock */
    root = progress == screen->root;
    threaded = screen->threaded;
    drawn = progress->listed &&
            !atomic_load_explicit(&screen->over, memory_order_relaxed); /* under the lock */
    twill__unlock(&screen->lock);
    return twill__progress_end(progress, drawn, root, threaded) ? TWILL_INVALID : TWILL_OK;
}

/* One thread was here at the fork; the renderer's reference is nobody's. */
static inline void twill__progress_destroy_forked(twill_progress *progress)
{
    twill__screen *screen = progress->screen;
    uint32_t nobody =
        screen->threaded && !atomic_load_explicit(&screen->ended, memory_order_relaxed);
    TWILL_FREE(progress->block);
    twill__screen_drop(screen, nobody);
}

TWILL__DEFINE twill_status twill_progress_destroy(twill_progress *progress)
{
    twill__screen *screen;
    twill_status status = TWILL_OK;
    unsigned children = 0;
    if (!progress)
        return TWILL_OK;
    screen = progress->screen;
    if (!twill__progress_forked(screen))
        status = twill_progress_finish(progress, TWILL_OK);
    if (status == TWILL_DEADLOCK)
        return status;
    if (twill__progress_forked(screen)) { /* or now, by on_view */
        twill__progress_destroy_forked(progress);
        return TWILL_OK;
    }
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
    twill__screen_drop(screen, 0);
    return status;
}

#endif

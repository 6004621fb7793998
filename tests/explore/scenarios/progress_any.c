/* Any family of bars. Each schedule draws one: style, who draws, interval, totals that are known,
   unknown or nothing, views, a descriptor that is read at once, late, no more, or that is none;
   children, and theirs, with weights or none; and what two threads do with all of them: count, set,
   raise totals, rename, draw, log short and long lines, suspend, finish with any outcome, destroy,
   map with a bar. A view counts, logs, draws, suspends, asks for what it may not, or ends its
   thread. Memory and threads may be missing.

   Whatever it is: the counts add up, with the parts of children; numbers only grow; a view that
   says "finished" comes once, is the last, and is there when finish returns; those of a bar come
   one at a time; a log line is written once, whole and in order, a last line once; nothing else
   comes to a log file; and after destroy nothing is left.
   It reads the cells of some bars in a row.
   EXPLORE: --polling */
#undef NDEBUG
#include <assert.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *maybe_malloc(size_t size);
static void counted_free(void *memory);
static int thread_fails(void);
#define TWILL_MALLOC(size)   maybe_malloc(size)
#define TWILL_FREE(memory)   counted_free(memory)
#define TWILL__FAIL_THREAD() thread_fails()
#define TWILL__TALLY_CELLS   1
#define TWILL_IMPLEMENTATION
#include "twill_progress_tracker.h"

#include "explore.h"

enum { BARS = 6, TURNS = 4, LINES = 12, LONG = 520, TEXT = 60000, ITEMS = 3, CODE = 7 };
enum { READS_AT_ONCE, READS_LATE, READS_NO_MORE, NO_FILE, READERS };
enum { ABSENT, THERE, GOING, GONE };

typedef struct bar {
    twill_progress *progress;
    twill_progress_options options;
    char label[8];
    _Atomic int parent; /* 1 + its place; 0: none yet, or the root */
    int side;           /* of whom it is; -1: of both */
    bool is_root;
    _Atomic int state;
    _Atomic uint64_t counted[3], more; /* more: total */
    uint64_t base;                     /* of the last set; those of one side alone are set */
    bool was_set;
    _Atomic int tries;    /* to finish it, begun */
    _Atomic int outcomes; /* bits: those that were given */
    _Atomic int over;     /* one of them has returned */
    _Atomic int inside, finals, views;
    uint64_t seen;        /* by views, which come one at a time */
    bool map, sure;       /* of a call; that had a bar */
    twill_status outcome; /* of a call, or when it was destroyed */
    _Atomic int surely;   /* its last line is drawn, if there was one call of finish */
} bar;

static bar bars[BARS];
static _Atomic int bar_count, suspends, root_ends, left_views, blocks, lines;
static bool fills, no_memory, no_threads, ends, shrinks, quick_reader;
static int reader_kind, pipe_ends[2] = {-1, -1};
static struct log_line {
    int side, size, said;
} logs[LINES];
static char text[TEXT];
static size_t length;
static twill_ns began;
static _Thread_local bool stays;
static _Thread_local int in_view; /* 1 + the bar */
static _Thread_local int my_side = -1;

static int choose(int n)
{
    return EXPLORE_CHOICE(n, 0);
}

static bool one_in(int n)
{
    return choose(n) == 0;
}

static void *maybe_malloc(size_t size)
{
    if (no_memory && one_in(4))
        return NULL;
    atomic_fetch_add(&blocks, 1);
    return malloc(size);
}

static void counted_free(void *memory)
{
    free(memory);
    if (memory)
        atomic_fetch_sub(&blocks, 1);
}

static int thread_fails(void)
{
    return no_threads && one_in(2);
}

static void leave_thread(void)
{
    stays = true;
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static uint64_t processed(const twill_progress_view *view)
{
    return view->done + view->failed + view->skipped;
}

/* ---- what threads and views do ---- */

static void count(bar *b)
{
    uint64_t n = 1 + (uint64_t)choose(3);
    int kind = choose(4) % 3;
    if (!b->progress)
        return;
    atomic_fetch_add(&b->counted[kind], n);
    if (kind == 0)
        twill_progress_add(b->progress, n);
    else if (kind == 1)
        twill_progress_add_failed(b->progress, n);
    else
        twill_progress_add_skipped(b->progress, n);
}

static void log_line(bar *b)
{
    int i = atomic_fetch_add(&lines, 1);
    char name[LONG + 1];
    if (i >= LINES || !b->progress)
        return;
    logs[i].side = in_view ? -1 : my_side;
    logs[i].size = one_in(4) ? LONG : 8;
    memset(name, 'A' + i, LONG);
    name[logs[i].size] = '\0';
    logs[i].said = twill_progress_log(b->progress, "%s", name);
    assert(logs[i].said == logs[i].size || (logs[i].said < 0 && reader_kind >= READS_NO_MORE) ||
           (logs[i].said == 511 && logs[i].size == LONG && no_memory));
}

static void suspend(bar *b)
{
    atomic_fetch_add(&suspends, 1);
    twill_progress_suspend(b->progress);
    if (one_in(2))
        count(b);
    twill_progress_resume(b->progress);
}

static void look(bar *b)
{
    twill_progress_view view;
    bool over = atomic_load(&b->over) != 0;
    if (!b->progress)
        return;
    twill_progress_get_view(b->progress, &view);
    assert(view.percent >= -1 && view.percent <= 100 && (view.percent == -1) == !view.total_known);
    assert(view.percent < 100 || processed(&view) >= view.total);
    assert(!over || view.finished);
    assert(!view.finished || atomic_load(&b->outcomes) >> view.outcome & 1);
    assert(!view.label && view.elapsed >= 0 && view.left >= -1);
}

static void ask(bar *b)
{
    if (!b->progress) /* of a call */
        return;
    assert(twill_progress_finish(b->progress, TWILL_FAILED) == TWILL_DEADLOCK);
    assert(twill_progress_destroy(b->progress) == TWILL_DEADLOCK);
}

static void on_view(const twill_progress_view *view, const twill_task *task)
{
    bar *b = task->context;
    int around = in_view; /* of another bar, which has waited for its turn a second */
    assert(task->index == SIZE_MAX && task->worker == UINT_MAX);
    assert(atomic_exchange(&b->inside, 1) == 0); /* others may wait for their turn a second */
    assert(atomic_load(&b->finals) == 0);
    assert(atomic_load(&b->state) != GOING || atomic_load(&b->over) == 0);
    assert(shrinks || processed(view) >= b->seen);
    b->seen = processed(view);
    assert(!view->finished || atomic_load(&b->outcomes) >> view->outcome & 1);
    atomic_fetch_add(&b->views, 1);
    if (view->finished)
        atomic_fetch_add(&b->finals, 1);
    in_view = 1 + (int)(b - bars);
    switch (choose(view->finished ? 5 : 8)) {
    case 0:
        ask(b);
        break;
    case 1:
        if (ends && !stays && !around && one_in(2)) {
            atomic_fetch_add(&left_views, 1);
            atomic_store(&b->inside, 0);
            in_view = 0;
            leave_thread();
        }
        break;
    case 2:
        log_line(b);
        break;
    case 3:
        suspend(b);
        break;
    case 4:
        (void)twill_sleep(twill_within(TWILL_US(5)));
        break;
    case 5:
        count(b);
        break;
    case 6:
        twill_progress_draw(b->progress);
        break;
    default:
        look(b);
        break;
    }
    in_view = around;
    atomic_store(&b->inside, 0);
}

/* ---- bars ---- */

static void draw_bar(bar *b, bar *parent)
{
    twill_progress_options *o = &b->options;
    int i = (int)(b - bars);
    *o = (twill_progress_options){.parent = parent ? parent->progress : NULL};
    b->label[0] = 'b', b->label[1] = (char)('0' + i);
    o->label = b->label;
    b->parent = parent ? 1 + (int)(parent - bars) : 0;
    b->is_root = !parent;
    switch (choose(4)) {
    case 0:
        break;
    case 1:
        o->total_is_zero = true;
        break;
    default:
        o->total = 1 + (uint64_t)choose(12);
        break;
    }
    o->weight = parent && !one_in(3) ? 1 + (uint64_t)choose(9) : 0;
    o->clear_at_end = one_in(4);
    o->quiet_for = one_in(4) ? TWILL_US(20) : 0;
    if (!one_in(3)) {
        o->on_view = on_view;
        o->context = b;
    }
    atomic_store(&b->more, o->total);
}

static void create_bar(bar *parent, int side)
{
    int i = atomic_fetch_add(&bar_count, 1);
    bar *b = &bars[i];
    twill_status status;
    if (i >= BARS)
        return;
    draw_bar(b, parent);
    b->side = side;
    bool late = atomic_load(&parent->over) || atomic_load(&bars[0].over);
    status = twill_progress_create(&b->progress, &b->options);
    assert(!late || status != TWILL_OK);
    if (status == TWILL_OK) {
        atomic_store(&b->state, THERE);
        return;
    }
    assert(!b->progress && atomic_load(&b->views) == 0);
    if (status == TWILL_NO_MEMORY)
        assert(no_memory);
    else
        assert(status == TWILL_CLOSED &&
               (atomic_load(&parent->tries) || atomic_load(&bars[0].tries)));
}

/* Any bar that this thread may use. */
static bar *some_bar(void)
{
    bar *b = &bars[choose(BARS)];
    return atomic_load(&b->state) == THERE && (b->side < 0 || b->side == my_side) ? b : &bars[0];
}

static twill_status some_outcome(void)
{
    static const twill_status outcomes[] = {TWILL_OK, TWILL_FAILED, TWILL_CANCELLED, TWILL_TIMEOUT};
    return outcomes[choose(4)];
}

static bool root_over(void)
{
    return atomic_load(&root_ends) != 0;
}

static void check_finished(bar *b, twill_status status)
{
    assert(status == TWILL_OK || status == TWILL_INVALID);
    assert(atomic_load(&b->finals) == (b->options.on_view != NULL));
    atomic_store(&b->over, 1);
}

static void finish(bar *b)
{
    twill_status outcome = some_outcome();
    twill_ns begin = twill_now();
    bool early;
    atomic_fetch_or(&b->outcomes, 1 << outcome);
    atomic_fetch_add(&b->tries, 1);
    if (b->is_root)
        atomic_store(&root_ends, 1);
    early = b->is_root || !root_over();
    check_finished(b, twill_progress_finish(b->progress, outcome));
    if (early && (!root_over() || b->is_root) && twill_now() - begin < TWILL_SEC(1))
        atomic_store(&b->surely, 1); /* it has not given up */
}

static bool has_children(const bar *b)
{
    for (int i = 0; i < BARS; i++)
        if (atomic_load(&bars[i].state) == THERE && bars[i].parent == 1 + (int)(b - bars))
            return true;
    return false;
}

static void check_bar(bar *b);

/* Its own alone, and nobody else's child stands below it: no other thread knows it. */
static void destroy(bar *b)
{
    if (b->is_root || b->side != my_side || has_children(b))
        return;
    if (one_in(2)) {
        finish(b);
        if (!atomic_load(&left_views))
            check_bar(b);
    } else {
        atomic_fetch_or(&b->outcomes, 1 << TWILL_OK);
        atomic_fetch_add(&b->tries, 1);
    }
    twill_progress_view view;
    atomic_store(&b->state, GOING);
    twill_progress_get_view(b->progress, &view);
    b->outcome = view.outcome; /* OK, if it goes on */
    check_finished(b, twill_progress_destroy(b->progress));
    atomic_store(&b->state, GONE);
}

static int one_item(const void *in, void *out, const twill_task *task)
{
    (void)in;
    *(int *)out = (int)task->index;
    switch (choose(5)) {
    case 0:
        return CODE;
    case 1:
        return twill_task_skip(task);
    case 2:
        return twill_task_stop(task);
    default:
        return 0;
    }
}

/* A bar that only the call knows. */
static void map(bar *parent)
{
    int i = atomic_fetch_add(&bar_count, 1), items[ITEMS] = {0}, results[ITEMS];
    twill_map_with_progress_options options = {.run = {.workers = 1 + (unsigned)choose(2)}};
    bar *b = &bars[i];
    if (i >= BARS)
        return;
    draw_bar(b, parent);
    b->options.total = 0;
    b->options.total_is_zero = false;
    b->map = true;
    options.progress = b->options;
    atomic_store(&b->outcomes, -1);
    atomic_store(&b->tries, 1);
    b->outcome = TWILL_LOST; /* if this thread ends in it */
    b->outcome = twill_map_with_progress(items, sizeof *items, results, sizeof *results, ITEMS,
                                         one_item, &options);
    b->sure = !no_memory && !atomic_load(&parent->tries) && !root_over();
    if (b->options.on_view && atomic_load(&b->views))
        assert(atomic_load(&b->finals) == 1);
}

static void do_some(int turns)
{
    while (turns-- > 0) {
        bar *b = some_bar();
        switch (choose(12)) {
        case 0:
            create_bar(b, b->side >= 0 || one_in(2) ? my_side : -1);
            break;
        case 1:
            if (!shrinks)
                break;
            if (b->side == my_side) {
                b->was_set = true;
                b->base = (uint64_t)choose(20);
                twill_progress_set(b->progress, b->base);
            }
            break;
        case 2:
            if (shrinks || !b->options.weight) {
                atomic_fetch_add(&b->more, 2);
                twill_progress_add_total(b->progress, 2);
            }
            break;
        case 3:
            assert(twill_progress_set_label(b->progress, b->label) == TWILL_OK);
            twill_progress_draw(b->progress);
            break;
        case 4:
            log_line(b);
            break;
        case 5:
            suspend(b);
            break;
        case 6:
            look(b);
            break;
        case 7:
            if (!b->is_root || one_in(2))
                finish(b);
            break;
        case 8:
            destroy(b);
            break;
        case 9:
            map(b);
            break;
        case 10:
            (void)twill_sleep(twill_within(TWILL_US(10)));
            twill_progress_draw(b->progress);
            break;
        default:
            count(b);
            break;
        }
    }
}

static void beside(void *nothing)
{
    (void)nothing;
    my_side = 1;
    do_some(choose(TURNS + 1));
}

/* ---- the descriptor ---- */

static void reads(void *nothing)
{
    (void)nothing;
    for (int k = 0;; k++) { /* exit: nobody writes any more, or it does not read on */
        ssize_t got;
        if (fills && k == 0) /* others find no room */
            (void)twill_sleep(twill_within(TWILL_US(30)));
        if (reader_kind == READS_LATE && k < 3)
            (void)twill_sleep(twill_within(TWILL_MS(700)));
        if (reader_kind == READS_NO_MORE && k == 2)
            break;
        got = read(pipe_ends[0], text + length, sizeof text - length);
        if (got == 0)
            break;
        if (got > 0)
            length += (size_t)got;
    }
    close(pipe_ends[0]);
}

static void draw_root(void)
{
    static const twill_ns intervals[] = {0, TWILL_US(5), TWILL_US(30)};
    twill_progress_options *o = &bars[0].options;
    draw_bar(&bars[0], NULL);
    bars[0].side = -1;
    o->style = (twill_progress_style)choose(6);
    o->draw_by = (twill_progress_draw_by)choose(4);
    if (o->draw_by != TWILL_PROGRESS_EACH && reader_kind != READS_LATE)
        o->interval = intervals[choose(3)];
    o->width = (unsigned)choose(3) * 20;
    o->accessible = one_in(4);
    o->ascii = one_in(2);
    o->no_color = one_in(2);
    o->fd = reader_kind == NO_FILE ? 9 : pipe_ends[1];
}

/* ---- what must hold ---- */

/* At rest. */
static void check_bar(bar *b)
{
    twill_progress_view view;
    uint64_t least[3], most[3], sum = 0;
    double live = 0;
    twill_progress_get_view(b->progress, &view);
    for (int kind = 0; kind < 3; kind++)
        least[kind] = most[kind] = atomic_load(&b->counted[kind]);
    if (b->was_set) {
        least[0] = b->base;
        most[0] += b->base;
    }
    for (int i = 0; i < BARS; i++) {
        bar *c = &bars[i];
        twill_progress_view now;
        twill_status outcome;
        int kind;
        if (c->parent != 1 + (int)(b - bars) || !(c->progress || c->map))
            continue;
        outcome = c->outcome;
        if (c->progress && atomic_load(&c->state) == THERE) {
            twill_progress_get_view(c->progress, &now);
            if (!now.finished) {
                sum = processed(&now) < now.total ? processed(&now) : now.total;
                live += now.total ? (double)sum / (double)now.total * (double)c->options.weight : 0;
                continue;
            }
            outcome = now.outcome;
        }
        kind = outcome == TWILL_OK ? 0 : outcome == TWILL_FAILED ? 1 : 2;
        if (!c->map || c->sure)
            least[kind] += c->options.weight, most[kind] += c->options.weight;
        else
            for (kind = 0; kind < 3; kind++)
                most[kind] += c->options.weight;
    }
    if (b->is_root || !view.finished)
        least[0] += (uint64_t)(live > 0.001 ? live - 0.001 : 0); /* parts are cut to 2^-32 */
    most[0] += (uint64_t)(live + 0.001);
    assert(view.done >= least[0] && view.done <= most[0]);
    assert(view.failed >= least[1] && view.failed <= most[1]);
    assert(view.skipped >= least[2] && view.skipped <= most[2]);
    assert(view.total == atomic_load(&b->more));
    assert(view.finished == (atomic_load(&b->over) != 0) || atomic_load(&left_views));
}

static void check_logs(void)
{
    const char *last[2] = {text, text};
    char name[LONG + 2];
    bool json = bars[0].options.style == TWILL_PROGRESS_JSON;
    bool lost = twill_now() - began >= TWILL_SEC(1) && /* what the screen showed */
                bars[0].options.draw_by == TWILL_PROGRESS_BY_THREAD;
    if (!bars[0].progress)
        return;
    for (int i = 0; i < LINES && logs[i].size; i++) {
        int size = logs[i].said < 0 ? 0 : logs[i].said;
        const char *at;
        if (!size)
            continue;
        memset(name, 'A' + i, (size_t)size);
        name[size] = '\0';
        strcat(name, json ? "\"" : "\n");
        at = strstr(text, name);
        assert(at || reader_kind == READS_NO_MORE);
        if (!at)
            continue;
        assert(!strstr(at + 1, name));
        assert(at == text || at[-1] == '\n' || lost || at[-1] == '\r' || at[-1] == 'J' ||
               at[-1] == '"');
        if (logs[i].side >= 0) {
            assert(at >= last[logs[i].side]);
            last[logs[i].side] = at;
        }
    }
}

static void check_lines(void)
{
    twill_progress_style style = bars[0].options.style;
    int finals[BARS] = {0};
    if (style == TWILL_PROGRESS_COUNTER || style == TWILL_PROGRESS_BAR)
        return;
    assert(!strchr(text, '\r') && !strchr(text, '\x1b'));
    if (style != TWILL_PROGRESS_JSON)
        return;
    for (const char *at = text; (at = strstr(at, "{\"label\": \"b")) != NULL; at++) {
        const char *end = strchr(at, '\n'), *final = strstr(at, "\"finished\": true}");
        assert(end || reader_kind == READS_NO_MORE);
        if (end && final && final < end)
            finals[at[12] - '0']++;
    }
    for (int i = 0; i < BARS; i++) {
        bar *b = &bars[i];
        assert(finals[i] <= 1);
        if (b->progress && b->surely && b->tries == 1 && !suspends && quick_reader &&
            !atomic_load(&left_views))
            assert(finals[i] == 1);
    }
}

int main(void)
{
    twill__thrd other = {.fn = beside, .cpu = UINT_MAX}, reader = {.fn = reads, .cpu = UINT_MAX};
    twill_status status;
    char filler[4096]; /* what a pipe takes */
    bool pipes;

    stays = true;
    began = twill_now();
    my_side = 0;
    reader_kind = choose(READERS);
    shrinks = one_in(2);
    memset(filler, '\n', sizeof filler);
    pipes = reader_kind != NO_FILE;
    quick_reader = reader_kind == READS_AT_ONCE;
    if (pipes) {
        assert(pipe(pipe_ends) == 0);
        if (one_in(4)) { /* it says that it can be written to, and then that it cannot */
            quick_reader = false;
            assert(fcntl(pipe_ends[1], F_SETFL, O_NONBLOCK) == 0);
        }
        if ((fills = one_in(3)))
            assert(write(pipe_ends[1], filler, sizeof filler) == sizeof filler);
        assert(twill__thread_start(&reader));
    }
    draw_root();
    ends = one_in(3);
    no_memory = one_in(4);
    no_threads = one_in(4);
    bar_count = 1;
    status = twill_progress_create(&bars[0].progress, &bars[0].options);
    assert(status == TWILL_OK || (status == TWILL_NO_MEMORY && no_memory && !bars[0].progress));
    no_threads = false;
    if (status == TWILL_OK) {
        atomic_store(&bars[0].state, THERE);
        assert(twill__thread_start(&other));
        do_some(choose(TURNS + 1));
        twill__thread_join(&other);
        if (one_in(2))
            for (int i = BARS - 1; i > 0; i--)
                if (atomic_load(&bars[i].state) == THERE && one_in(2))
                    finish(&bars[i]);
        finish(&bars[0]);
        for (int i = 0; i < BARS; i++)
            if (atomic_load(&bars[i].state) == THERE)
                check_bar(&bars[i]);
        for (int i = BARS - 1; i >= 0;
             i--) /* children come later; who destroyed it may have ended */
            if (atomic_load(&bars[i].state) == THERE || atomic_load(&bars[i].state) == GOING) {
                atomic_fetch_or(&bars[i].outcomes, 1 << TWILL_OK);
                check_finished(&bars[i], twill_progress_destroy(bars[i].progress));
            }
    }
    while (atomic_load(&blocks)) { /* exit: a renderer that was left behind comes to its end */
        (void)twill_sleep(twill_within(TWILL_MS(1)));
        twill__yield();
    }
    if (pipes) {
        close(pipe_ends[1]);
        twill__thread_join(&reader);
    }
    check_logs();
    check_lines();
    return 0;
}

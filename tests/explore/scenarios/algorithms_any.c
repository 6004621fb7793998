/* Any reduce, filter, find, scan or sort, with any schedule, policy, hooks, threads or pool, with
   filters inside. What callbacks do is drawn, too: fail, stop, give up, wait, end their thread. The
   result is the serial loop's, and is written only by a call that answers TWILL_OK; each item is
   looked at once, each accumulator disposed of once. */
/* EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 -DTWILL__PIECE=2 */
#define MOST 40
#include "parallel_any.h"

enum { REDUCE, FILTER, FIND, SCAN, SORT, FORMS };
enum { WIDE = 150 };

/* The items first..end-1; how they were put together; a block of its own: who forgets it leaks. */
typedef struct span {
    int first, end;
    uint64_t hash;
    int *live;
} span;

static bool combine_fails; /* or ends its thread, or stops */
static bool in_order, disposes;
static bool typed; /* as the macros call the library */

static uint64_t mixed(uint64_t a, uint64_t b)
{
    return (a * 31 + b) ^ a >> 7;
}

/* ---- callbacks ---- */

/* 0, or what a callback that stands for no item does. */
static int odd(const twill_task *task)
{
    assert(!((call *)task->context)->over);
    if (atomic_fetch_sub(&to_fork, 1) == 1)
        fork_here();
    if (!combine_fails || !one_in(12))
        return 0;
    if (ends && !stays && one_in(3)) {
        atomic_store(&odd_ends, 1);
        leave_thread();
    }
    if (one_in(4)) {
        (void)twill_sleep(twill_within(TWILL_US(1)));
        return 0;
    }
    atomic_store(&odd_ends, 1);
    return 60;
}

static int empty(void *acc, const twill_task *task)
{
    span *s = acc;
    int code = odd(task);
    if (code)
        return code;
    *s = (span){-1, -1, 5, malloc(sizeof(int))};
    assert(s->live);
    *s->live = 1;
    return 0;
}

static void add(void *acc, int i)
{
    span *s = acc;
    if (s->first < 0 || (!s->end && !s->live))
        s->first = i;
    else
        assert(!in_order || s->end == i);
    s->end = i + 1;
    s->hash = mixed(s->hash, (uint64_t)i + 1);
}

static int fold(void *acc, size_t begin, size_t end, const twill_task *task)
{
    return act_range(task->context, begin, end, acc, task);
}

static void fold_typed(const void *items, size_t begin, size_t end, void *acc, bool more,
                       const twill_task *task)
{
    (void)items;
    assert(!more);
    memset(acc, 0, sizeof(span));
    (void)act_range(task->context, begin, end, acc, task);
}

static int combine(void *left_, void *right_, const twill_task *task)
{
    span *left = left_, *right = right_;
    const twill_run *run = &((call *)task->context)->options.run;
    int code = odd(task);
    if (code)
        return code;
    /* items that said stop, or were told to give up, are no reason */
    assert(combine_fails || run->until.cancel || run->until.deadline ||
           !twill_task_cancelled(task));
    assert(!disposes || (*left->live == 1 && *right->live == 1));
    assert(!in_order || left->end == right->first);
    if (left->first < 0 || (!in_order && right->first < left->first))
        left->first = right->first;
    if (in_order || left->end < right->end)
        left->end = right->end;
    left->hash = mixed(left->hash, right->hash);
    return 0;
}

static int append(void *left_, void *right_, const twill_task *task)
{
    span *left = left_, *right = right_;
    int code = odd(task);
    if (code)
        return code;
    assert(left->end == right->first);
    left->end = right->end;
    return 0;
}

static void dispose(void *acc, const twill_task *task)
{
    span *s = acc;
    assert(task->context && --*s->live == 0);
    free(s->live);
}

static bool wanted(int i)
{
    return i * 5 % 7 < 4;
}

static bool keep(const void *item, const twill_task *task)
{
    call *c = task->context;
    come_in(c, task);
    (void)act(c, (int)task->index, task);
    go_out(c, task);
    assert(*(const int *)item == (int)task->index);
    return wanted(*(const int *)item);
}

static bool match(const void *item, const twill_task *task)
{
    call *c = task->context;
    bool found = keep(item, task) && *(const int *)item >= c->least;
    if (found)
        decide(c, (int)task->index);
    return found;
}

/* The items begin..end-1, of which the k-th is begin + k. */
static void mark(const void *items, size_t n, uint64_t *words, const twill_task *task)
{
    size_t begin = (size_t) * (const int *)items;
    (void)act_range(task->context, begin, begin + n, NULL, task);
    *words = 0;
    for (size_t k = 0; k < n; k++)
        *words |= (uint64_t)wanted((int)(begin + k)) << k;
}

static size_t first(const void *items, size_t begin, size_t end, const twill_task *task)
{
    call *c = task->context;
    size_t i = begin;
    (void)items;
    while (i < end && !(wanted((int)i) && (int)i >= c->least))
        i++;
    (void)act_range(c, begin, i < end ? i + 1 : end, NULL, task);
    if (i < end)
        decide(c, (int)i);
    return i;
}

static int compare(const void *a, const void *b, const twill_task *task)
{
    int code = odd(task);
    if (code)
        (void)twill_task_stop(task);
    return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

/* ---- the calls and what they must give ---- */

static void no_failures(call *c)
{
    for (int i = 0; i < c->n; i++)
        if (c->act[i] == FAILS || c->act[i] == STOPS_AND_FAILS)
            c->act[i] = WELL;
}

static void reduce(call *c)
{
    twill_reducer reducer = {.size = sizeof(span), .fold = fold, .combine = combine};
    span result = {.hash = 77};
    int stop;
    reducer.blocks = (size_t)choose(3) * 9;
    reducer.unordered = !in_order;
    if (disposes)
        reducer.identity = empty, reducer.dispose = dispose;
    if (in_order && c->options.schedule == TWILL_SCHEDULE_COST)
        c->options.schedule = TWILL_SCHEDULE_AUTO;
    if (typed && in_order && !disposes) {
        no_failures(c);
        c->status = twill__parallel_reduced((size_t)c->n, &reducer, &reducer, 1, fold_typed,
                                            &result, &c->options);
    } else {
        c->status = twill_parallel_reduce((size_t)c->n, &reducer, &result, &c->options);
    }
    if (c->status != TWILL_OK) {
        assert(result.hash == 77 && !result.live);
        return;
    }
    assert(result.hash != 77);
    stop = lowest_stop(c);
    if (c->n && in_order)
        assert(result.first == 0 && result.end == (stop < c->n ? stop + 1 : c->n));
    if (disposes)
        dispose(&result, &(twill_task){.context = c});
}

static void filter(call *c)
{
    int in[MOST], out[MOST], *to = one_in(2) ? out : in;
    size_t kept = 99, k = 0;
    bool counts = one_in(5);
    for (int i = 0; i < MOST; i++)
        in[i] = i, out[i] = -1;
    no_failures(c);
    c->status = typed ? twill__parallel_filtered(in, sizeof *in, (size_t)c->n, counts ? NULL : to,
                                                 &kept, NULL, mark, &c->options)
                      : twill_parallel_filter(in, sizeof *in, (size_t)c->n, counts ? NULL : to,
                                              &kept, keep, &c->options);
    for (int i = 0; i < c->n && i <= lowest_stop(c) && c->status == TWILL_OK; i++)
        if (wanted(i))
            assert(counts ? ++k : to[k++] == i);
    assert(kept == k);
    for (int i = 0; i < c->n && c->status != TWILL_OK && !child; i++)
        assert(in[i] == i && out[i] == -1);
}

static void find(call *c)
{
    int in[MOST], lowest_match = 0;
    size_t index = 99;
    for (int i = 0; i < MOST; i++)
        in[i] = i;
    no_failures(c);
    c->least = choose(c->n + 1);
    while (lowest_match < c->n && !(wanted(lowest_match) && lowest_match >= c->least))
        lowest_match++;
    c->status =
        typed
            ? twill__parallel_found(in, sizeof *in, (size_t)c->n, &index, NULL, first, &c->options)
            : twill_parallel_find(in, sizeof *in, (size_t)c->n, &index, match, &c->options);
    if (refused(c->status))
        assert(index == (size_t)c->n);
    else if (c->status == TWILL_OK)
        assert((int)index == (lowest_match <= lowest_stop(c) ? lowest_match : c->n));
    else
        assert((int)index >= lowest_match && (int)index <= c->n);
}

static span *at(char *data, size_t stride, int i)
{
    return (span *)(void *)(data + (size_t)i * stride);
}

static void scan(call *c)
{
    _Alignas(16) char in[WIDE * 48], out[WIDE * 48];
    span start = {-1, 0, 9, NULL};
    _Alignas(16) char begin[320];
    char *to = one_in(2) ? out : in;
    bool before = one_in(2);
    size_t stride = c->n * 320 <= WIDE * 48 && one_in(3) ? 320 : sizeof(span);
    for (int i = 0; i < c->n; i++)
        *at(in, stride, i) = (span){i, i + 1, (uint64_t)i + 3, NULL};
    memcpy(begin, &start, sizeof start);
    if (c->options.schedule > TWILL_SCHEDULE_STATIC)
        c->options.schedule = (twill_schedule)choose(2);
    c->options.chunk = 0, c->options.cost_of = NULL;
    c->status = twill_parallel_scan(in, to, stride, (size_t)c->n, before ? begin : NULL, append,
                                    &c->options);
    for (int i = 0; i < c->n && c->status == TWILL_OK; i++)
        assert(at(to, stride, i)->end == (before ? i : i + 1) &&
               (before || at(to, stride, i)->first == 0));
}

typedef struct pair {
    int key, was;
} pair;
TWILL_DEFINE_SORT(sort_pairs, pair, a, b, compare(&a, &b, task) < 0)

static void sort(call *c)
{
    int data[WIDE * 18]; /* 72 bytes an item: sorted by pointers */
    size_t words = (size_t)(1 + choose(2)) * (one_in(3) ? 9 : 1);
    bool seen[WIDE] = {false}, sorted, ended;
    for (int i = 0; i < c->n; i++)
        data[(size_t)i * words] = i * 37 % 11 * 256;
    for (int i = 0; i < c->n && words > 1; i++)
        data[(size_t)i * words + 1] = i;
    c->options.schedule = TWILL_SCHEDULE_AUTO;
    c->options.chunk = 0, c->options.cost_of = NULL;
    c->status =
        words == 2 && one_in(2)
            ? sort_pairs((pair *)(void *)data, (size_t)c->n, &c->options)
            : twill_parallel_sort(data, (size_t)c->n, words * sizeof(int), compare, &c->options);
    ended = child || (ends && atomic_load(&odd_ends)); /* then some may be lost */
    for (int i = 0; i < c->n && words > 1 && !ended; i++) {
        int was = data[(size_t)i * words + 1];
        assert(was >= 0 && was < c->n && !seen[was]);
        seen[was] = true;
        assert(data[(size_t)i * words] == was * 37 % 11 * 256);
    }
    sorted = c->status == TWILL_OK && !atomic_load(&odd_ends);
    for (int i = 1; i < c->n && sorted; i++) {
        const int *a = &data[(size_t)(i - 1) * words], *b = a + words;
        assert(a[0] <= b[0] && (words == 1 || a[0] < b[0] || a[1] < b[1]));
    }
}

static void any_call(call *c, int depth)
{
    c->form = depth ? FILTER : choose(FORMS);
    c->depth = depth;
    c->checked = c->form == FILTER || (c->form == REDUCE && !combine_fails);
    c->n = depth ? 1 + choose(3) : one_in(2) ? choose(8) : choose(MOST);
    if (!depth && c->form >= SCAN && one_in(2))
        c->n = choose(WIDE);
    c->options.schedule = (twill_schedule)choose(5);
    c->options.chunk = (size_t)choose(3);
    c->options.cost_of = cost_of;
    c->last_stopped = -1;
    atomic_store(&c->lowest, WIDE);
    c->caller = &stays;
    draw_run(c);
    if (c->form < SCAN)
        draw_items(c);
    else
        c->options.run.statuses = NULL, c->options.run.codes = NULL;
    switch (c->form) {
    case REDUCE:
        reduce(c);
        break;
    case FILTER:
        filter(c);
        break;
    case FIND:
        find(c);
        break;
    case SCAN:
        scan(c);
        break;
    default:
        sort(c);
    }
    c->over = true;
    assert(c->status == c->report.status);
    assert(c->report.total == (size_t)c->n && c->report.skipped <= c->report.total);
    assert(c->report.done + c->report.failed + c->report.skipped == c->report.total);
    if (c->checked)
        check_call(c, false);
    atomic_store(&c->returned, true);
}

int main(void)
{
#ifdef FORKS
    EXPLORE_MUST_REACH("parent");
    EXPLORE_MUST_REACH("child");
    atomic_store(&to_fork, 1 + choose(one_in(2) ? MOST : 4 * MOST));
#endif
    combine_fails = one_in(2);
    in_order = one_in(2), disposes = one_in(2);
    typed = one_in(3);
    any_program();
    return 0;
}

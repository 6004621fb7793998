/* queue_any.h: what queue_any.c knows of each item and call, and what must hold of them. */
#ifndef QUEUE_ANY_H
#define QUEUE_ANY_H

#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"

#include "explore.h"

enum { SIDES = 3, QUEUES = 2, EACH = 12, ITEMS = EACH * (SIDES + 1), MISSES = 80, CODE = 7 };
enum { NOT_ASKED = -1, LEFT = -2, EITHER = -3, NOT_CHOSEN = -4 }; /* beside the answers */
enum { MISSED_ITEM, MISSED_ROOM, MISSED_CLEAR };

struct item {
    int id, twin;
};

static struct record { /* of an item; moments: see tick */
    int queue, answer, written;
    unsigned begin, end; /* of its push; 0: none */
    twill_ns begun, ended;
    _Atomic int out;                        /* popped or dropped: once */
    bool popped;                            /* else dropped */
    bool gone;                              /* at the end: it is out */
    unsigned leave_begin, leave_end, place; /* begin 0: not known */
    twill_ns taken;                         /* when the call began that took it */
    twill_status why;
} records[ITEMS];

static struct line {
    twill_queue *queue;
    twill_queue_options options;
    atomic_bool closing, closed, failing; /* before and after the call */
    atomic_int won;                       /* the close that answered OK */
    atomic_int clearing, popping, pops_closed, pops_failed;
    atomic_size_t cleared, rejected;
    atomic_size_t in, finished, out; /* accepted; task_done; dropped, its callback over */
    atomic_size_t drops[TWILL_LOST + 1];
    _Atomic uint64_t numbers; /* of what was dropped, a bit each */
    bool high, telling, destroying;
    bool lost; /* at the end: a thread has ended in a pop */
} lines[QUEUES];

static struct player {
    twill__thrd thread;
    int used, depth, inside[QUEUES];
    bool stays, telling[QUEUES];
    size_t dropping[QUEUES];
} players[SIDES + 1];

static struct miss { /* a call that found nothing, or nothing more */
    struct line *line;
    int kind;
    unsigned begin, end;
    size_t n;
    twill_ns at; /* it looked then, or later */
} misses[MISSES];

static atomic_int missing;
static atomic_uint moments;
static twill_cancel token;
static bool bounded, ends, pushing;
static struct line *only; /* it is being destroyed; the others may be gone */
static _Thread_local struct player *me;

static bool one_in(int n)
{
    return EXPLORE_CHOICE(n, 0) == 0;
}

/* relaxed: orders the calls, and nothing for them */
static unsigned tick(void)
{
    return atomic_fetch_add_explicit(&moments, 1, memory_order_relaxed) + 1;
}

static void rest(void)
{
    if (one_in(2))
        (void)twill_sleep(twill_within(TWILL_US(1 + EXPLORE_CHOICE(4, 0))));
}

static void may_end(void)
{
    if (!ends || me->stays || !one_in(5))
        return;
    me->stays = true;
    for (int k = 0; k < QUEUES; k++) { /* with all the callbacks that it is in */
        if (me->telling[k])
            lines[k].telling = false;
        atomic_fetch_add(&lines[k].out, me->dropping[k]);
    }
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static void go(struct player *player, void (*fn)(void *player))
{
    player->thread.fn = fn;
    player->thread.arg = player;
    player->thread.cpu = UINT_MAX;
    assert(twill__thread_start(&player->thread));
}

/* Main ends what others wait for. */
static twill_until draw_until(void)
{
    twill_until until = {0, NULL};
    if (bounded || me == &players[0] || one_in(3))
        until = twill_within(TWILL_US(2) * EXPLORE_CHOICE(4, 0));
    if (one_in(3))
        until.cancel = &token;
    return until;
}

static bool finite(twill_ns time)
{
    return time && time != TWILL_FOREVER;
}

static bool is_inside(const struct line *line)
{
    return me->inside[line - lines] > 0;
}

static size_t capacity_of(const struct line *line)
{
    return line->options.capacity == TWILL_RENDEZVOUS ? 0 : line->options.capacity;
}

/* ---- items ---- */

static int priority_of(const void *item, const twill_task *task)
{
    (void)task;
    return ((const struct item *)item)->id % 3;
}

static size_t bytes_of(const void *item, const twill_task *task)
{
    (void)task;
    return 1 + (size_t)((const struct item *)item)->id % 3;
}

static bool too_big(const struct line *line, int id)
{
    struct item item = {id, 0};
    return line->options.max_bytes && bytes_of(&item, NULL) > line->options.max_bytes;
}

static int new_items(struct line *line, struct item *in, size_t n)
{
    int first = (int)(me - players) * EACH + me->used;
    if (me->used + (int)n > EACH)
        return -1;
    me->used += (int)n;
    for (size_t k = 0; k < n; k++) {
        int id = first + (int)k;
        in[k] = (struct item){id, ~id};
        records[id].queue = (int)(line - lines);
        records[id].answer = LEFT;
        records[id].written = id;
        records[id].begin = tick();
        records[id].begun = twill_now();
    }
    return first;
}

static void pushed(int id, int answer)
{
    struct record *record = &records[id];
    record->answer = answer;
    record->end = tick();
    record->ended = twill_now();
    if (answer == TWILL_OK || answer == TWILL_DROPPED || answer == EITHER)
        atomic_fetch_add(&lines[record->queue].in, 1);
}

static struct record *left(struct line *line, const struct item *item)
{
    struct record *record = &records[item->id];
    assert(item->id >= 0 && item->id < ITEMS && item->twin == ~item->id);
    assert(record->written == item->id && &lines[record->queue] == line);
    assert(atomic_exchange_explicit(&record->out, 1, memory_order_relaxed) == 0);
    return record;
}

static void popped(struct line *line, const struct item *item, unsigned begin, int place,
                   twill_ns at)
{
    struct record *record = left(line, item);
    record->popped = true;
    record->leave_begin = begin;
    record->place = (unsigned)place;
    record->leave_end = tick();
    record->taken = at;
}

static void finish(struct line *line, size_t count)
{
    for (size_t k = 0; k < count && one_in(2); k++) {
        atomic_fetch_add(&line->finished, 1);
        assert(twill_queue_task_done(line->queue) == TWILL_OK);
    }
}

static void dropped(struct line *line, const struct item *item, twill_status why,
                    const twill_task *task)
{
    struct record *record = left(line, item);
    uint64_t bit = (uint64_t)1 << task->index;
    assert(task->worker == UINT_MAX && task->index < 64);
    assert(!(atomic_fetch_or_explicit(&line->numbers, bit, memory_order_relaxed) & bit));
    if (why == TWILL_DROPPED)
        assert(line->options.overflow >= TWILL_OVERFLOW_DROP_INCOMING);
    else if (why == TWILL_TIMEOUT)
        assert(line->options.max_age && twill_now() >= record->begun + line->options.max_age);
    else
        assert(why == TWILL_CANCELLED && (atomic_load(&line->clearing) || line->destroying));
    atomic_fetch_add(&line->drops[why], 1);
    record->why = why;
    record->leave_begin = line->destroying ? tick() : 0;
    record->leave_end = tick();
}

/* ---- answers ---- */

static void check_over(twill_status status, twill_until until, bool inside)
{
    if (status == TWILL_DEADLOCK)
        assert(inside);
    else if (status == TWILL_CANCELLED)
        assert(until.cancel && twill_cancel_fired(until.cancel));
    else
        assert(status == TWILL_TIMEOUT && until.deadline && twill_now() >= until.deadline);
}

/* Of a call that takes, or looks; deadline -1: it must not wait. */
static void check_wait(struct line *line, twill_status status, twill_until until)
{
    if (status == TWILL_CLOSED || status == TWILL_FAILED) {
        assert(atomic_load(status == TWILL_CLOSED ? &line->closing : &line->failing));
        assert(twill_queue_is_closed(line->queue));
        assert(twill_queue_code(line->queue) == (status == TWILL_FAILED ? CODE : 0));
        atomic_fetch_add(status == TWILL_CLOSED ? &line->pops_closed : &line->pops_failed, 1);
    } else if (until.deadline < 0) {
        assert(status == TWILL_EMPTY);
    } else {
        check_over(status, until, is_inside(line));
    }
}

static void check_push(struct line *line, twill_status status, int first, size_t n, bool bulk,
                       twill_until until)
{
    twill_overflow overflow = line->options.overflow;
    bool each = line->options.bytes_of || line->options.priority_of, big = false;
    if (bulk && each) {
        assert(status == TWILL_INVALID);
        return;
    }
    for (size_t k = 0; k < n; k++)
        big |= too_big(line, first + (int)k);
    if (bulk && n > 1 && n > capacity_of(line)) {
        assert(status == TWILL_TOO_BIG);
        return;
    }
    if (n == 1)
        assert((status == TWILL_TOO_BIG) == big);
    if (status == TWILL_TOO_BIG)
        assert(big);
    else if (status == TWILL_CLOSED)
        assert(atomic_load(&line->closing));
    else if (status == TWILL_FULL)
        assert(overflow == TWILL_OVERFLOW_REJECT ||
               (overflow == TWILL_OVERFLOW_BLOCK && until.deadline < 0));
    else if (status == TWILL_DROPPED)
        assert(overflow == TWILL_OVERFLOW_DROP_INCOMING);
    else if (status != TWILL_OK) {
        assert(overflow == TWILL_OVERFLOW_BLOCK && until.deadline >= 0);
        check_over(status, until, is_inside(line));
    }
}

static void missed(struct line *line, int kind, unsigned begin, size_t n, twill_ns at)
{
    int k = atomic_fetch_add(&missing, 1);
    if (k < MISSES)
        misses[k] = (struct miss){line, kind, begin, tick(), n, at};
}

/* ---- the books ---- */

static void check_books(struct line *line)
{
    twill_queue_stats s;
    twill_queue_get_stats(line->queue, &s);
    assert(s.accepted == s.popped + s.dropped + s.expired + s.cleared + s.length);
    assert(s.capacity == capacity_of(line));
    assert(s.peak <= s.capacity && s.length <= s.capacity);
    assert(!line->options.max_bytes || s.bytes <= line->options.max_bytes);
}

static void settle_accounts(struct line *line)
{
    twill_queue_stats s;
    size_t in = 0, out = 0, unknown = 0, length;
    only = line;
    check_books(line); /* a level that its thread had no time for is told here */
    for (int k = 0; k < ITEMS; k++) {
        struct record *record = &records[k];
        if (!record->begin || &lines[record->queue] != line)
            continue;
        unknown += record->answer == LEFT;
        in += record->answer == TWILL_OK || record->answer == TWILL_DROPPED ||
              record->answer == EITHER;
        out += record->popped;
    }
    twill_queue_get_stats(line->queue, &s);
    line->lost = atomic_load(&line->popping);
    length = s.length;
    assert(s.accepted >= in && s.accepted <= in + unknown);
    assert(s.popped == out || (s.popped > out && line->lost));
    assert(s.rejected == atomic_load(&line->rejected) || unknown);
    assert(s.waiting_push == 0 && s.waiting_pop == 0);
    assert(s.cleared == atomic_load(&line->cleared) || atomic_load(&line->clearing));
    if (line->options.drop) {
        assert(s.dropped == atomic_load(&line->drops[TWILL_DROPPED]) || unknown);
        assert(s.expired == atomic_load(&line->drops[TWILL_TIMEOUT]));
        assert(s.cleared == atomic_load(&line->drops[TWILL_CANCELLED]));
    }
    if (atomic_load(&line->won) == TWILL_FAILED)
        assert(atomic_load(&line->pops_closed) == 0);
    else if (atomic_load(&line->won))
        assert(atomic_load(&line->pops_failed) == 0);
    if (line->options.on_level && !ends) {
        assert(!(line->high && length <= line->options.low_mark));
        assert(line->high || length < line->options.high_mark);
    }
    atomic_store(&line->closing, true);
    line->destroying = true;
    assert(twill_queue_destroy(line->queue) == TWILL_OK);
    free(line->options.memory);
    for (int k = 0; k < ITEMS; k++)
        if (&lines[records[k].queue] == line)
            records[k].gone = records[k].begin && atomic_load(&records[k].out);
}

/* ---- the calls, in the order of their moments ---- */

static bool of(const struct line *line, int k)
{
    return records[k].begin && &lines[records[k].queue] == line;
}

/* Whether its push was over before the other one began. */
static bool earlier(const struct record *a, const struct record *b)
{
    return a->end && a->end < b->begin;
}

/* b was there when a was taken, and a went first: was it its turn? */
static bool out_of_turn(const struct line *line, const struct record *a, const struct record *b)
{
    twill_ns ageing = line->options.ageing ? line->options.ageing : TWILL_SEC(1);
    int pa = (int)(a - records) % 3, pb = (int)(b - records) % 3;
    if (line->options.order == TWILL_ORDER_FIFO)
        return earlier(b, a);
    if (b->end >= a->leave_begin || !b->end)
        return false;
    if (line->options.order == TWILL_ORDER_LIFO)
        return earlier(a, b);
    if (pa == pb)
        return earlier(b, a);
    if (ageing == TWILL_FOREVER)
        return pb > pa;
    return b->ended - pb * ageing < a->begun - pa * ageing;
}

static void check_order(const struct line *line, int i, int k)
{
    const struct record *a = &records[i], *b = &records[k];
    bool first;
    if (!a->popped || !b->gone || !b->leave_begin || !capacity_of(line))
        return;
    first = a->leave_end < b->leave_begin ||
            (b->popped && a->leave_begin == b->leave_begin && a->place < b->place);
    if (first)
        assert(!out_of_turn(line, a, b));
}

static void check_miss(const struct miss *miss)
{
    size_t there = 0;
    for (int k = 0; k < ITEMS; k++) {
        const struct record *record = &records[k];
        if (!of(miss->line, k))
            continue;
        if (miss->kind != MISSED_ROOM && record->end && record->end < miss->begin && record->gone)
            assert(record->leave_begin <= miss->end);
        if (miss->kind == MISSED_ROOM && finite(miss->line->options.max_age) && record->end &&
            record->ended + miss->line->options.max_age < miss->at)
            continue; /* it had to make room */
        there += record->begin < miss->end && record->begin != miss->begin &&
                 !(record->gone && record->leave_end < miss->begin) &&
                 !(record->answer >= 0 && record->answer != TWILL_OK &&
                   record->answer != TWILL_DROPPED && record->end < miss->begin);
    }
    if (miss->kind == MISSED_ROOM && !miss->line->options.max_bytes)
        assert(there + miss->n > capacity_of(miss->line));
}

static void check_items(const struct line *line)
{
    int n = atomic_load(&missing);
    for (int k = 0; k < ITEMS; k++) {
        const struct record *record = &records[k];
        bool out = record->gone;
        if (!of(line, k))
            continue;
        if (record->answer == TWILL_OK || record->answer == TWILL_DROPPED ||
            record->answer == EITHER)
            assert(out || !line->options.drop || (ends && line->lost));
        else if (record->answer != LEFT)
            assert(!out);
        if (record->answer == TWILL_DROPPED)
            assert(!out || (!record->popped && record->why == TWILL_DROPPED));
        if (out && record->popped && !capacity_of(line) && record->end)
            assert(record->end > record->leave_begin);
        if (out && record->popped && record->end && record->end < record->leave_begin)
            assert(!finite(line->options.max_age) ||
                   record->taken < record->ended + line->options.max_age);
        for (int i = 0; i < ITEMS; i++)
            if (i != k && of(line, i))
                check_order(line, i, k);
    }
    for (int k = 0; k < n && k < MISSES; k++)
        if (misses[k].line == line)
            check_miss(&misses[k]);
}
#endif

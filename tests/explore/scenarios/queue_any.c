/* Any program on two queues. Each schedule draws one: capacity, what a full queue does, order,
   ageing, bytes, ages, levels, producers, engine, whose memory; two or three threads that push and
   pop (one, many, in bulk, in batches), select, look, join, clear, close, fail, attach, with
   deadlines and a token; callbacks that rest, use either queue, and end their thread.

   Whatever it is: an accepted item is popped once or dropped once, a refused one never. Each call
   has a beginning and an end (tick), and no call may answer what no order of the calls explains:
   an item that was there throughout is not missed, nor is room; items leave in the order of the
   queue. The books add up at every moment. Nothing hangs, polls or is left. */
#include "queue_any.h"

static struct line *any_line(void)
{
    int k = EXPLORE_CHOICE(4, 0) == 0;
    return only ? only : &lines[k];
}

/* ---- one item or several in ---- */

enum { ONE, TRY, MANY, BULK, WAYS };

static twill_status push_so(struct line *line, int way, const struct item *in, size_t n,
                            size_t *count, twill_until until)
{
    twill_status status;
    if (way == MANY)
        return twill_queue_push_many_until(line->queue, in, n, count, until);
    status = way == BULK  ? twill_queue_push_bulk_until(line->queue, in, n, until)
             : way == TRY ? twill_queue_try_push(line->queue, in)
                          : twill_queue_push_until(line->queue, in, until);
    *count = status == TWILL_OK ? n : 0;
    return status;
}

static void push(struct line *line)
{
    int way = EXPLORE_CHOICE(WAYS, 0);
    size_t n = way < MANY ? 1 : 1 + (size_t)EXPLORE_CHOICE(3, 0), count = n + 1;
    struct item in[3];
    int first = new_items(line, in, n);
    bool late = atomic_load(&line->closed);
    twill_until until = draw_until();
    twill_status status;
    if (first < 0)
        return;
    status = push_so(line, way, in, n, &count, until);
    assert(count <= n);
    if (way == TRY)
        until = (twill_until){-1, NULL};
    check_push(line, status, first, n, way == BULK, until);
    assert(!late || (status != TWILL_OK && status != TWILL_DROPPED));
    if (status == TWILL_OK)
        assert(count == n);
    if (status == TWILL_FULL)
        atomic_fetch_add(&line->rejected, 1);
    for (size_t k = 0; k < n; k++)
        pushed(first + (int)k, status == TWILL_DROPPED ? EITHER
                               : k < count             ? (int)TWILL_OK
                                                       : (int)status);
    if (status == TWILL_FULL || status == TWILL_TIMEOUT || status == TWILL_CANCELLED ||
        status == TWILL_DEADLOCK)
        missed(line, MISSED_ROOM, records[first].begin, way == BULK ? n : 1, records[first].begun);
}

/* ---- out ---- */

static void pop(struct line *line)
{
    int way = EXPLORE_CHOICE(WAYS, 0);
    struct item out[3] = {{-1, 0}, {-1, 0}, {-1, 0}};
    size_t max = way < MANY ? 1 : 1 + (size_t)EXPLORE_CHOICE(3, 0), count = 9;
    twill_until until = draw_until();
    twill_ns linger = (twill_ns)EXPLORE_CHOICE(3, 0) * TWILL_US(2), at = twill_now();
    unsigned begin = tick();
    twill_status status;
    atomic_fetch_add(&line->popping, 1);
    if (way == MANY)
        status = twill_queue_pop_many_until(line->queue, out, max, &count, until);
    else if (way == BULK)
        status = twill_queue_pop_batch_until(line->queue, out, max, &count, linger, until);
    else
        status = way == TRY ? twill_queue_try_pop(line->queue, out)
                            : twill_queue_pop_until(line->queue, out, until);
    atomic_fetch_sub(&line->popping, 1);
    if (way < MANY)
        count = status == TWILL_OK;
    if (way == TRY)
        until = (twill_until){-1, NULL};
    assert(status == TWILL_OK ? count >= 1 && count <= max : count == 0);
    for (size_t k = 0; k < 3; k++)
        if (k < count)
            popped(line, &out[k], begin, (int)k, at);
        else if (status == TWILL_OK || !line->options.max_age)
            assert(out[k].id == -1);
    if (status != TWILL_OK) {
        check_wait(line, status, until);
        missed(line, MISSED_ITEM, begin, 1, 0);
    }
    finish(line, count);
}

/* ---- select ---- */

enum { CASES = 3 };

static void check_select(twill_queue_case *cases, size_t n, twill_status status, bool tries,
                         twill_until until)
{
    bool inside = false, closing = true, big = false;
    for (size_t k = 0; k < n; k++) {
        struct line *line = cases[k].queue == lines[0].queue ? &lines[0] : &lines[1];
        if (!cases[k].queue)
            continue;
        inside |= is_inside(line);
        closing &= atomic_load(&line->closing);
        big |= cases[k].push && too_big(line, ((struct item *)cases[k].item)->id);
    }
    switch (status) {
    case TWILL_OK:
    case TWILL_DROPPED:
        break;
    case TWILL_CLOSED:
    case TWILL_FAILED:
        assert(closing);
        break;
    case TWILL_FULL:
    case TWILL_EMPTY:
        assert(tries);
        break;
    case TWILL_TOO_BIG:
        assert(big);
        break;
    default:
        assert(!tries);
        check_over(status, until, inside);
    }
}

/* Not chosen: untouched, and not ready throughout, if the choice says so. */
static void not_chosen(struct line *line, const twill_queue_case *at, int id, unsigned begin,
                       bool looked, twill_ns when)
{
    if (at->push) {
        pushed(id, NOT_CHOSEN);
        if (looked && !atomic_load(&line->closing))
            missed(line, MISSED_ROOM, begin, 1, when);
    } else {
        assert(((struct item *)at->item)->id == -1);
        if (looked)
            missed(line, MISSED_ITEM, begin, 1, 0);
    }
}

static void select_some(void)
{
    twill_queue_case cases[CASES];
    struct item in[CASES];
    struct line *of[CASES];
    int ids[CASES];
    size_t n = 1 + (size_t)EXPLORE_CHOICE(CASES, 0), chosen = CASES;
    twill_select_order order = one_in(2) ? TWILL_SELECT_IN_ORDER : TWILL_SELECT_FAIR;
    bool tries = one_in(2);
    twill_until until = draw_until();
    twill_ns at = twill_now();
    unsigned begin = tick();
    twill_status status;
    for (size_t k = 0; k < n; k++) {
        of[k] = any_line();
        cases[k] = (twill_queue_case){of[k]->queue, one_in(2), &in[k], TWILL_OK};
        in[k] = (struct item){-1, 0};
        if (cases[k].push && (ids[k] = new_items(of[k], &in[k], 1)) < 0)
            cases[k].push = false;
    }
    for (size_t k = 0; k < n; k++)
        atomic_fetch_add(&of[k]->popping, !cases[k].push);
    status = tries ? twill_queue_try_select(cases, n, order, &chosen)
                   : twill_queue_select_until(cases, n, order, &chosen, until);
    for (size_t k = 0; k < n; k++)
        atomic_fetch_sub(&of[k]->popping, !cases[k].push);
    check_select(cases, n, status, tries, until);
    for (size_t k = 0; k < n; k++)
        if (status == TWILL_FULL || status == TWILL_EMPTY) /* each says so */
            atomic_fetch_add(&of[k]->rejected, cases[k].status == TWILL_FULL);
    for (size_t k = 0; k < n; k++) { /* at once: the thread may end in what follows */
        bool looked = status != TWILL_OK && status != TWILL_DROPPED && status != TWILL_TOO_BIG;
        if (!looked && status != TWILL_TOO_BIG && chosen == k) {
            assert(cases[k].status == status);
            if (cases[k].push)
                pushed(ids[k], (int)status);
            else
                popped(of[k], &in[k], begin, 0, at);
            continue;
        }
        looked |= status != TWILL_TOO_BIG && order == TWILL_SELECT_IN_ORDER && k < chosen;
        not_chosen(of[k], &cases[k], ids[k], begin, looked, at);
    }
    if (status == TWILL_OK && !cases[chosen].push)
        finish(of[chosen], 1);
}

/* ---- all the rest ---- */

static void end_line(struct line *line)
{
    bool fails = one_in(2);
    twill_status status;
    atomic_store(&line->closing, true);
    if (fails)
        atomic_store(&line->failing, true);
    status = fails ? twill_queue_fail(line->queue, CODE) : twill_queue_close(line->queue);
    atomic_store(&line->closed, true);
    assert(status == TWILL_OK || status == TWILL_CLOSED);
    if (status == TWILL_OK)
        assert(atomic_exchange(&line->won, fails ? TWILL_FAILED : TWILL_CLOSED) == 0);
    assert(twill_queue_is_closed(line->queue));
}

static void clear(struct line *line)
{
    unsigned begin = tick();
    size_t count;
    atomic_fetch_add(&line->clearing, 1);
    count = twill_queue_clear(line->queue);
    atomic_fetch_sub(&line->clearing, 1);
    atomic_fetch_add(&line->cleared, count);
    missed(line, MISSED_CLEAR, begin, 1, 0);
}

static void join(struct line *line)
{
    twill_until until = {twill_now() + 1 + EXPLORE_CHOICE(2, 0) * TWILL_US(3), NULL};
    size_t due = atomic_load(&line->in), gone;
    twill_status status = twill_queue_join_until(line->queue, until);
    gone = atomic_load(&line->finished) + atomic_load(&line->out);
    if (status == TWILL_OK)
        assert(!line->options.drop || gone >= due);
    else if (status == TWILL_CLOSED)
        assert(line->destroying && me->stays);
    else
        check_over(status, until, is_inside(line));
}

static void attach(struct line *line)
{
    twill_status status = twill_queue_attach(line->queue);
    if (status == TWILL_OK) {
        rest();
        push(line);
        atomic_store(&line->closing, true);
        assert(twill_queue_detach(line->queue) == TWILL_OK);
    } else {
        assert(status == TWILL_CLOSED && atomic_load(&line->closing));
    }
}

static void look(struct line *line)
{
    twill_until until = draw_until();
    unsigned begin = tick();
    twill_status status;
    check_books(line);
    assert(twill_queue_length(line->queue) <= capacity_of(line));
    status = twill_queue_ready_until(line->queue, until);
    if (status != TWILL_OK) {
        check_wait(line, status, until);
        missed(line, MISSED_ITEM, begin, 1, 0);
    }
}

static void move(void)
{
    struct line *line = any_line();
    int what = EXPLORE_CHOICE(16, 0);
    if (pushing && what > 4 && what < 12)
        what = what < 9 ? 0 : 10;
    if (what < 5)
        push(line);
    else if (what < 9)
        pop(line);
    else if (what < 11)
        select_some();
    else if (what == 11)
        look(line);
    else if (what == 12)
        clear(line);
    else if (what == 13)
        join(line);
    else if (what == 14 && one_in(2))
        attach(line);
    else if (what == 15 && one_in(2))
        end_line(line);
    else
        rest();
}

/* ---- callbacks ---- */

static void act(struct line *line)
{
    if (me->depth >= 2)
        return;
    me->depth++;
    me->inside[line - lines]++;
    if (one_in(3)) {
        rest();
        if (one_in(2))
            move();
        if (one_in(6))
            assert(twill_queue_destroy(line->queue) == TWILL_DEADLOCK);
    }
    me->inside[line - lines]--;
    me->depth--;
}

static void drop(void *item, twill_status why, const twill_task *task)
{
    struct line *line = task->context;
    dropped(line, item, why, task);
    me->dropping[line - lines]++;
    act(line);
    may_end();
    me->dropping[line - lines]--;
    atomic_fetch_add(&line->out, 1);
}

static void on_level(bool high, size_t length, const twill_task *task)
{
    struct line *line = task->context;
    assert(task->worker == UINT_MAX && length <= capacity_of(line));
    assert(high == !line->high && !line->telling); /* plain: one after the other */
    line->high = high;
    line->telling = me->telling[line - lines] = true;
    act(line);
    line->telling = me->telling[line - lines] = false;
    may_end();
}

/* ---- the program ---- */

static void draw_options(struct line *line)
{
    twill_queue_options *o = &line->options;
    bool plain;
    o->capacity = one_in(6) ? TWILL_RENDEZVOUS : 1 + (size_t)EXPLORE_CHOICE(3, 0);
    plain = o->capacity == TWILL_RENDEZVOUS || one_in(3);
    o->overflow = (twill_overflow)(one_in(2) ? 0 : EXPLORE_CHOICE(5, 0));
    if (o->capacity == TWILL_RENDEZVOUS && o->overflow > TWILL_OVERFLOW_DROP_INCOMING)
        o->overflow = TWILL_OVERFLOW_BLOCK;
    if (!plain) {
        o->order = (twill_queue_order)EXPLORE_CHOICE(3, 0);
        if (o->order == TWILL_ORDER_PRIORITY) {
            o->priority_of = priority_of;
            o->ageing = one_in(2) ? TWILL_FOREVER : one_in(2) ? TWILL_US(4) : 0;
        }
        o->bytes_of = one_in(4) ? bytes_of : NULL;
        o->max_bytes = o->bytes_of && !one_in(4) ? 2 + (size_t)EXPLORE_CHOICE(4, 0) : 0;
        o->max_age = one_in(3) ? one_in(4) ? TWILL_FOREVER : TWILL_US(1 + EXPLORE_CHOICE(5, 0)) : 0;
        if (one_in(4)) {
            o->on_level = on_level;
            o->high_mark = 1 + (size_t)EXPLORE_CHOICE((int)o->capacity, 0);
            o->low_mark = (size_t)EXPLORE_CHOICE((int)o->high_mark, 0);
        }
    }
    o->drop = one_in(4) ? NULL : drop;
    o->producers = one_in(5) ? 2 : 0;
    o->engine = one_in(3) ? TWILL_ENGINE_LOCK : TWILL_ENGINE_DEFAULT;
    o->context = line;
    if (one_in(2)) {
        o->memory_bytes = twill_queue_bytes(sizeof(struct item), o);
        o->memory = malloc(o->memory_bytes);
    }
    assert(twill_queue_create(&line->queue, sizeof(struct item), o) == TWILL_OK);
}

static void play(void *player)
{
    me = player;
    for (int moves = 1 + EXPLORE_CHOICE(4, 0); moves > 0; moves--)
        move();
    for (int k = 0; k < QUEUES; k++)
        if (lines[k].options.producers && me - players <= 2) {
            atomic_store(&lines[k].closing, true);
            assert(twill_queue_detach(lines[k].queue) == TWILL_OK);
        }
    if (one_in(3))
        twill_cancel_fire(&token, 1);
}

int main(void)
{
    int n = 2 + EXPLORE_CHOICE(2, 0);
    me = &players[0];
    me->stays = true;
    bounded = one_in(2), ends = one_in(3), pushing = one_in(4);
    for (int k = 0; k < QUEUES; k++)
        draw_options(&lines[k]);
    for (int k = 1; k <= n; k++)
        go(&players[k], play);
    if (one_in(2))
        move();
    rest();
    for (int k = 0; k < QUEUES && !bounded; k++)
        end_line(&lines[k]);
    for (int k = 1; k <= n; k++)
        twill__thread_join(&players[k].thread);
    for (int k = 0; k < QUEUES; k++)
        settle_accounts(&lines[k]);
    for (int k = 0; k < QUEUES; k++)
        check_items(&lines[k]);
    twill_cancel_detach(&token);
    return 0;
}

/* The queue and the call, row by row of the manual: answers, ends, policies, batches, select. */
#define HARNESS_FAULTS
#include "harness.h"

#include <limits.h>

#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"

/* test_producer_consumer_lock.c runs all of it on the lock engine. */
#ifndef TEST_ENGINE
#define TEST_ENGINE TWILL_ENGINE_DEFAULT
#endif

/* ---- kit ---- */

typedef struct actor { /* one call in a thread of its own */
    twill__thrd thread;
    void (*fn)(struct actor *actor);
    twill_queue *queue;
    twill_until until;
    int item, count;
    twill_status status;
    size_t moved;
    atomic_bool over;
} actor;

static void actor_main(void *arg)
{
    actor *me = arg;
    me->fn(me);
    atomic_store(&me->over, true);
}

static void go(actor *who, void (*fn)(actor *who), twill_queue *queue)
{
    memset(&who->thread, 0, sizeof who->thread);
    who->thread.fn = actor_main;
    who->thread.arg = who;
    who->thread.cpu = UINT_MAX;
    who->fn = fn;
    who->queue = queue;
    CHECK(twill__thread_start(&who->thread));
}

static void join(actor *who)
{
    twill__thread_join(&who->thread);
}

static void push_one(actor *me)
{
    me->status = twill_queue_push_until(me->queue, &me->item, me->until);
}

static void pop_one(actor *me)
{
    me->status = twill_queue_pop_until(me->queue, &me->item, me->until);
}

static twill_queue_stats stats_of(twill_queue *queue)
{
    twill_queue_stats stats;
    twill_queue_get_stats(queue, &stats);
    return stats;
}

static bool balanced(twill_queue *queue)
{
    twill_queue_stats s = stats_of(queue);
    return s.accepted == s.popped + s.dropped + s.expired + s.cleared + s.length;
}

/* Until so many wait inside; the tests' watchdog is the bound. */
static void until_waiting(twill_queue *queue, size_t pushes, size_t pops)
{
    for (;;) {
        twill_queue_stats s = stats_of(queue);
        if (s.waiting_push == pushes && s.waiting_pop == pops)
            return;
        twill_sleep(twill_within(TWILL_US(100)));
    }
}

static int drops[64];
static twill_status drop_why[64];
static size_t drop_index[64];
static atomic_int drop_count;

static twill_queue *queue_of(twill_queue_options options)
{
    twill_queue *queue = NULL;
    if (options.drop)
        atomic_store(&drop_count, 0);
    if (!options.engine)
        options.engine = TEST_ENGINE;
    CHECK_EQ(twill_queue_create(&queue, sizeof(int), &options), TWILL_OK);
    return queue;
}

static int by_value(const void *item, const twill_task *task);
static size_t as_bytes(const void *item, const twill_task *task);

static twill_status push(twill_queue *queue, int item)
{
    return twill_queue_push_until(queue, &item, twill_within(0));
}

/* -status, if nothing came */
static int pop(twill_queue *queue)
{
    int item = 0;
    twill_status status = twill_queue_try_pop(queue, &item);
    return status == TWILL_OK ? item : -(int)status;
}

static void note_drop(void *item, twill_status why, const twill_task *task)
{
    int k = atomic_fetch_add(&drop_count, 1);
    if (k < 64) {
        drops[k] = *(int *)item;
        drop_why[k] = why;
        drop_index[k] = task->index;
    }
}

/* ---- answers ---- */

TEST(capacity_is_exact)
{
    static const int some[20];
    for (size_t capacity = 1; capacity < 20; capacity++) {
        twill_queue *queue = queue_of((twill_queue_options){.capacity = capacity});
        for (size_t round = 0; round < 3; round++) {
            for (size_t k = 0; k < capacity; k++)
                CHECK_EQ(twill_queue_try_push(queue, &(int){(int)k}), TWILL_OK);
            CHECK_EQ(twill_queue_try_push(queue, &(int){0}), TWILL_FULL);
            CHECK_EQ(twill_queue_length(queue), capacity);
            for (size_t k = 0; k < capacity; k++)
                CHECK_EQ(pop(queue), k);
            CHECK_EQ(pop(queue), -TWILL_EMPTY);
        }
        CHECK_EQ(stats_of(queue).peak, capacity);
        CHECK_EQ(stats_of(queue).rejected, 3);
        CHECK(balanced(queue));
        CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
        queue = queue_of((twill_queue_options){.capacity = capacity});
        CHECK_EQ(twill_queue_push_many_until(queue, some, capacity, NULL, twill_within(0)),
                 TWILL_OK);
        CHECK_EQ(stats_of(queue).peak, capacity); /* of a batch, too */
        CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
    }
    CHECK_EQ(faults_live(), 0);
}

TEST(order_of_answers)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 1});
    twill_cancel token;
    int item = 7;
    twill_cancel_init(&token, NULL);
    twill_cancel_fire(&token, 1);
    twill_until both = twill_within_or_cancelled(0, &token);
    CHECK_EQ(twill_queue_push_until(queue, &item, both), TWILL_OK); /* room comes first */
    CHECK_EQ(twill_queue_push_until(queue, &item, both), TWILL_CANCELLED);
    CHECK_EQ(twill_queue_push_until(queue, &item, twill_within(0)), TWILL_TIMEOUT);
    CHECK_EQ(twill_queue_pop_until(queue, &item, both), TWILL_OK);
    CHECK_EQ(twill_queue_pop_until(queue, &item, both), TWILL_CANCELLED);
    CHECK_EQ(twill_queue_pop_until(queue, &item, twill_within(TWILL_MS(1))), TWILL_TIMEOUT);
    CHECK_EQ(push(queue, 1), TWILL_OK);
    CHECK_EQ(twill_queue_fail(queue, 42), TWILL_OK);
    CHECK_EQ(twill_queue_close(queue), TWILL_CLOSED);
    CHECK_EQ(twill_queue_fail(queue, 43), TWILL_CLOSED);
    CHECK_EQ(twill_queue_code(queue), 42);
    CHECK_EQ(twill_queue_push_until(queue, &item, both), TWILL_CLOSED);
    CHECK_EQ(twill_queue_ready_until(queue, both), TWILL_OK);
    CHECK_EQ(twill_queue_pop_until(queue, &item, both), TWILL_OK);
    CHECK_EQ(twill_queue_pop_until(queue, &item, both), TWILL_FAILED);
    CHECK_EQ(twill_queue_ready_until(queue, both), TWILL_FAILED);
    CHECK(twill_queue_is_closed(queue));
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
}

static void ignore_level(bool high, size_t length, const twill_task *task)
{
    (void)high;
    (void)length;
    (void)task;
}

TEST(options_that_make_no_sense)
{
    const twill_queue_options bad[] = {
        {.order = TWILL_ORDER_PRIORITY, .priority_of = by_value, .ageing = -1},
        {.priority_of = by_value},
        {.engine = (twill_queue_engine)3},
        {.on_level = ignore_level, .high_mark = 2, .low_mark = 2},
        {.on_level = ignore_level, .high_mark = 1025},
        {.on_level = ignore_level, .capacity = 4, .high_mark = 5},
        {.low_mark = 1},
        {.capacity = TWILL_RENDEZVOUS, .bytes_of = as_bytes},
        {.capacity = TWILL_RENDEZVOUS, .on_level = ignore_level, .high_mark = 1},
        {.capacity = TWILL_RENDEZVOUS, .overflow = TWILL_OVERFLOW_DROP_NEWEST},
    };
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        twill_queue *queue = (twill_queue *)&queue;
        CHECK_EQ(twill_queue_create(&queue, 4, &bad[k]), TWILL_INVALID);
        CHECK_PTR(queue, NULL);
        CHECK_EQ(twill_queue_bytes(4, &bad[k]), 0);
    }
}

TEST(sizes_beyond_size_t)
{
    const struct {
        size_t size;
        twill_queue_options options;
    } row[] = {
        {1, {.capacity = SIZE_MAX / 2 - 16, .engine = TWILL_ENGINE_LOCK}}, /* the sum */
        {SIZE_MAX / 2 + 1, {.capacity = 1}},
        {SIZE_MAX / 2 + 1, {.capacity = TWILL_RENDEZVOUS}},
        {1, {.capacity = SIZE_MAX / 32, .order = TWILL_ORDER_LIFO}}, /* the cells */
        {1,                                                          /* the heap beside them */
         {.capacity = SIZE_MAX / 2 / (sizeof(twill__cell) + sizeof(twill__ranked) / 2),
          .max_age = 1,
          .order = TWILL_ORDER_PRIORITY,
          .priority_of = by_value}},
    };
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        twill_queue *queue = (twill_queue *)&queue;
        CHECK_EQ(twill_queue_create(&queue, row[k].size, &row[k].options), TWILL_TOO_BIG);
        CHECK_PTR(queue, NULL);
        CHECK_EQ(twill_queue_bytes(row[k].size, &row[k].options), 0);
    }
}

TEST(nothing_where_something_is_needed)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 2});
    twill_queue_stats stats, zero;
    twill_until now = twill_within(0);
    int item = 0;
    size_t count = 9;
    CHECK_EQ(twill_queue_try_push(NULL, &item), TWILL_INVALID);
    CHECK_EQ(twill_queue_try_pop(NULL, &item), TWILL_INVALID);
    CHECK_EQ(twill_queue_try_push(queue, NULL), TWILL_INVALID);
    CHECK_EQ(twill_queue_try_pop(queue, NULL), TWILL_INVALID);
    CHECK_EQ(twill_queue_push_many_until(NULL, &item, 1, &count, now), TWILL_INVALID);
    CHECK_EQ(count, 0);
    CHECK_EQ(twill_queue_push_bulk_until(NULL, &item, 1, now), TWILL_INVALID);
    count = 9;
    CHECK_EQ(twill_queue_pop_batch_until(NULL, &item, 1, &count, 0, now), TWILL_INVALID);
    CHECK_EQ(count, 0);
    CHECK_EQ(twill_queue_ready_until(NULL, now), TWILL_INVALID);
    CHECK_EQ(twill_queue_close(NULL), TWILL_INVALID);
    CHECK_EQ(twill_queue_fail(NULL, 1), TWILL_INVALID);
    CHECK_EQ(twill_queue_attach(NULL), TWILL_INVALID);
    CHECK_EQ(twill_queue_detach(NULL), TWILL_INVALID);
    CHECK_EQ(twill_queue_task_done(NULL), TWILL_INVALID);
    CHECK_EQ(twill_queue_join(NULL), TWILL_INVALID);
    CHECK_EQ(twill_queue_code(NULL), 0);
    CHECK_EQ(twill_queue_code(queue), 0);
    CHECK_EQ(twill_queue_clear(NULL), 0);
    CHECK_EQ(twill_queue_length(NULL), 0);
    CHECK(!twill_queue_is_closed(NULL));
    twill_queue_abandon(NULL);
    memset(&zero, 0, sizeof zero);
    memset(&stats, 1, sizeof stats);
    twill_queue_get_stats(NULL, &stats);
    CHECK(memcmp(&stats, &zero, sizeof zero) == 0);
    twill_queue_get_stats(queue, NULL);
    /* none of it has done anything, and no items are as good as all of them */
    CHECK_EQ(twill_queue_push_many_until(queue, &item, 0, &count, now), TWILL_OK);
    CHECK_EQ(twill_queue_push_bulk_until(queue, &item, 0, now), TWILL_OK);
    CHECK_EQ(twill_queue_push_bulk_until(queue, NULL, 0, now), TWILL_OK);
    CHECK_EQ(twill_queue_push_many_until(queue, NULL, 0, NULL, now), TWILL_OK);
    CHECK_EQ(stats_of(queue).accepted, 0);
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
}

TEST(counts_that_nobody_asks_for)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 4});
    int items[4] = {1, 2, 3, 4}, out[4] = {0};
    CHECK_EQ(twill_queue_push_many_until(queue, items, 4, NULL, twill_within(0)), TWILL_OK);
    CHECK_EQ(twill_queue_pop_many_until(queue, out, 4, NULL, twill_within(0)), TWILL_OK);
    CHECK(memcmp(items, out, sizeof items) == 0);
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
}

TEST(producers_are_counted_to_the_last)
{
    twill_queue *queue = queue_of((twill_queue_options){.producers = UINT_MAX});
    CHECK_EQ(twill_queue_attach(queue), TWILL_TOO_BIG);
    CHECK_EQ(twill_queue_detach(queue), TWILL_OK);
    CHECK_EQ(twill_queue_attach(queue), TWILL_OK);
    CHECK(!twill_queue_is_closed(queue));
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
}

TEST(refusals)
{
    static char memory[64];
    twill_queue *queue = (twill_queue *)&queue;
    int item = 0;
    size_t count;
    CHECK_EQ(twill_queue_create(NULL, 4, NULL), TWILL_INVALID);
    CHECK_EQ(twill_queue_create(&queue, 0, NULL), TWILL_INVALID);
    CHECK_PTR(queue, NULL);
    const twill_queue_options bad[] = {
        {.order = TWILL_ORDER_PRIORITY},
        {.order = (twill_queue_order)3},
        {.overflow = TWILL_OVERFLOW_CALLER_RUNS},
        {.ageing = 1},
        {.max_age = -1},
        {.max_bytes = 1},
        {.high_mark = 1},
        {.memory_bytes = 1},
        {.memory = memory, .memory_bytes = sizeof memory},
        {.capacity = TWILL_RENDEZVOUS, .order = TWILL_ORDER_LIFO},
        {.capacity = TWILL_RENDEZVOUS, .overflow = TWILL_OVERFLOW_DROP_OLDEST},
        {.capacity = TWILL_RENDEZVOUS, .max_age = 1},
    };
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        CHECK_EQ(twill_queue_create(&queue, 4, &bad[k]), TWILL_INVALID);
        CHECK_PTR(queue, NULL);
    }
    CHECK_EQ(twill_queue_create(&queue, 16, &(twill_queue_options){.capacity = SIZE_MAX / 16}),
             TWILL_TOO_BIG);
    CHECK_EQ(twill_queue_create(&queue, 4097, &(twill_queue_options){.drop = note_drop}),
             TWILL_TOO_BIG);
    CHECK_EQ(twill_queue_push(NULL, &item), TWILL_INVALID);
    CHECK_EQ(twill_queue_pop(NULL, &item), TWILL_INVALID);
    CHECK_EQ(twill_queue_destroy(NULL), TWILL_OK);
    queue = queue_of((twill_queue_options){.capacity = 2});
    CHECK_EQ(twill_queue_push(queue, NULL), TWILL_INVALID);
    CHECK_EQ(twill_queue_detach(queue), TWILL_INVALID);
    CHECK_EQ(twill_queue_task_done(queue), TWILL_INVALID);
    CHECK_EQ(twill_queue_push_bulk_until(queue, drops, 3, twill_within(0)), TWILL_TOO_BIG);
    CHECK_EQ(twill_queue_pop_many_until(queue, &item, 0, &count, twill_within(0)), TWILL_INVALID);
    twill_queue_destroy(queue);
    faults_fail_alloc(1);
    CHECK_EQ(twill_queue_create(&queue, 4, NULL), TWILL_NO_MEMORY);
    CHECK_PTR(queue, NULL);
    CHECK_EQ(faults_live(), 0);
}

TEST(own_memory_and_no_allocation_after_create)
{
    twill_queue_options options = {.capacity = 3};
    size_t bytes = twill_queue_bytes(sizeof(int), &options);
    char *memory = malloc(bytes + 1);
    options.memory = memory + 1; /* any alignment */
    options.memory_bytes = bytes;
    twill_queue *queue = queue_of(options);
    for (int k = 0; k < 100; k++) {
        CHECK_EQ(push(queue, k), TWILL_OK);
        CHECK_EQ(pop(queue), k);
    }
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
    CHECK_EQ(faults_allocs(), 0);
    free(memory);
}

/* ---- the end ---- */

TEST(close_answers_all_who_wait)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 1});
    actor who[3] = {{.item = 10}, {.item = 11}, {.item = 12}};
    CHECK_EQ(push(queue, 1), TWILL_OK);
    for (int k = 0; k < 3; k++)
        go(&who[k], push_one, queue);
    until_waiting(queue, 3, 0);
    CHECK_EQ(twill_queue_close(queue), TWILL_OK);
    for (int k = 0; k < 3; k++) {
        join(&who[k]);
        CHECK_EQ(who[k].status, TWILL_CLOSED);
    }
    CHECK_EQ(pop(queue), 1); /* what is inside still comes out, and only that */
    CHECK_EQ(pop(queue), -TWILL_CLOSED);
    CHECK_EQ(stats_of(queue).accepted, 1);
    twill_queue_destroy(queue);

    queue = queue_of((twill_queue_options){.capacity = 1});
    for (int k = 0; k < 3; k++)
        go(&who[k], pop_one, queue);
    until_waiting(queue, 0, 3);
    CHECK_EQ(twill_queue_fail(queue, 9), TWILL_OK);
    for (int k = 0; k < 3; k++) {
        join(&who[k]);
        CHECK_EQ(who[k].status, TWILL_FAILED);
    }
    twill_queue_destroy(queue);
}

/* More than are woken by one look at a list of words. */
TEST(close_answers_very_many)
{
    static actor who[24];
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 1});
    memset(who, 0, sizeof who);
    for (int k = 0; k < 24; k++)
        go(&who[k], pop_one, queue);
    until_waiting(queue, 0, 24);
    CHECK_EQ(twill_queue_close(queue), TWILL_OK);
    for (int k = 0; k < 24; k++) {
        join(&who[k]);
        CHECK_EQ(who[k].status, TWILL_CLOSED);
    }
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
}

TEST(clear_frees_blocked_pushers)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 2, .drop = note_drop});
    actor who = {.item = 3};
    push(queue, 1);
    push(queue, 2);
    go(&who, push_one, queue);
    until_waiting(queue, 1, 0);
    CHECK_EQ(twill_queue_clear(queue), 2);
    join(&who);
    CHECK_EQ(who.status, TWILL_OK);
    CHECK_EQ(atomic_load(&drop_count), 2);
    CHECK_EQ(drops[0], 1);
    CHECK_EQ(drop_why[0], TWILL_CANCELLED);
    CHECK_EQ(drop_index[1], 1);
    CHECK(balanced(queue));
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK); /* the rest */
    CHECK_EQ(atomic_load(&drop_count), 3);
    CHECK_EQ(drops[2], 3);
}

TEST(the_last_producer_closes)
{
    twill_queue *queue = queue_of((twill_queue_options){.producers = 2});
    CHECK_EQ(twill_queue_attach(queue), TWILL_OK);
    CHECK_EQ(twill_queue_detach(queue), TWILL_OK);
    CHECK_EQ(twill_queue_detach(queue), TWILL_OK);
    CHECK(!twill_queue_is_closed(queue));
    CHECK_EQ(twill_queue_detach(queue), TWILL_OK);
    CHECK(twill_queue_is_closed(queue));
    CHECK_EQ(twill_queue_attach(queue), TWILL_CLOSED);
    CHECK_EQ(pop(queue), -TWILL_CLOSED);
    twill_queue_destroy(queue);
}

static void watch_one(actor *me)
{
    me->status = twill_queue_ready_until(me->queue, me->until);
}

static void join_one(actor *me)
{
    me->status = twill_queue_join_until(me->queue, me->until);
}

static bool has_joiner(twill_queue *queue)
{
    twill__queue_turn turn;
    bool has;
    twill__queue_enter(queue, &turn);
    has = queue->joiners.first != NULL;
    twill__queue_exit(queue, &turn);
    return has;
}

TEST(destroy_waits_for_those_inside)
{
    for (int round = 0; round < 20; round++) {
        twill_queue *queue = queue_of((twill_queue_options){.capacity = 1});
        actor who[3] = {{.item = 1}, {.item = 2}, {.item = 3}};
        push(queue, 1);
        who[1].until = twill_within(TWILL_MS(test_random_below(3)));
        go(&who[0], push_one, queue);
        go(&who[1], push_one, queue);
        go(&who[2], join_one, queue);
        /* a call that has not begun when destroy comes would be the test's mistake */
        while (!has_joiner(queue) ||
               !(stats_of(queue).push_waits == 2 ||
                 (atomic_load(&who[1].over) && stats_of(queue).waiting_push == 1)))
            twill_sleep(twill_within(TWILL_US(50)));
        if (round % 2) /* the second has left, or is about to */
            twill_sleep(who[1].until);
        CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
        for (int k = 0; k < 3; k++)
            join(&who[k]);
        CHECK_EQ(who[0].status, TWILL_CLOSED);
        CHECK(who[1].status == TWILL_CLOSED || who[1].status == TWILL_TIMEOUT);
        CHECK_EQ(who[2].status, TWILL_CLOSED);
    }
    CHECK_EQ(faults_live(), 0);
}

static atomic_bool gate_shut;

static void wait_at_gate(void)
{
    while (atomic_load(&gate_shut))
        twill_sleep(twill_within(TWILL_US(50)));
}

static void drop_at_gate(void *item, twill_status why, const twill_task *task)
{
    (void)item;
    (void)task;
    CHECK_EQ(why, TWILL_DROPPED);
    wait_at_gate();
}

static void level_at_gate(bool high, size_t length, const twill_task *task)
{
    (void)length;
    (void)task;
    if (high)
        wait_at_gate();
}

static void destroy_it(actor *me)
{
    me->status = twill_queue_destroy(me->queue);
}

/* A call that is in a callback is waited for. */
TEST(destroy_waits_for_callbacks)
{
    for (int level = 0; level < 2; level++) {
        twill_queue *queue = queue_of(
            level ? (twill_queue_options){.capacity = 4, .on_level = level_at_gate, .high_mark = 2}
                  : (twill_queue_options){.capacity = 1,
                                          .overflow = TWILL_OVERFLOW_DROP_INCOMING,
                                          .drop = drop_at_gate});
        actor inside = {.item = 2}, who = {.item = 0};
        atomic_store(&gate_shut, true);
        push(queue, 1);
        CHECK_EQ(pop(queue), 1);
        push(queue, 1);
        go(&inside, push_one, queue);
        while (stats_of(queue).accepted != 3)
            twill_sleep(twill_within(TWILL_US(50)));
        if (level)
            CHECK_EQ(pop(queue), 1);
        CHECK_EQ(pop(queue), level ? 2 : 1); /* nothing is left to drop */
        go(&who, destroy_it, queue);
        twill_sleep(twill_within(TWILL_MS(2)));
        CHECK(!atomic_load(&who.over));
        CHECK(!atomic_load(&inside.over));
        atomic_store(&gate_shut, false);
        join(&who);
        join(&inside);
        CHECK_EQ(who.status, TWILL_OK);
        CHECK_EQ(inside.status, level ? TWILL_OK : TWILL_DROPPED);
    }
}

TEST(join_counts_finished_items)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 4});
    actor who = {0};
    push(queue, 1);
    push(queue, 2);
    CHECK_EQ(twill_queue_join_until(queue, twill_within(0)), TWILL_TIMEOUT);
    go(&who, join_one, queue);
    CHECK_EQ(pop(queue), 1);
    CHECK_EQ(twill_queue_task_done(queue), TWILL_OK);
    CHECK_EQ(twill_queue_task_done(queue), TWILL_INVALID);
    CHECK_EQ(twill_queue_join_until(queue, twill_within(TWILL_MS(1))), TWILL_TIMEOUT);
    CHECK_EQ(twill_queue_clear(queue), 1);
    join(&who);
    CHECK_EQ(who.status, TWILL_OK);
    CHECK_EQ(twill_queue_join(queue), TWILL_OK);
    twill_queue_destroy(queue);
}

/* ---- waiting ---- */

static twill_cancel round_token;

TEST(timeouts_race_with_the_only_push)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 1});
    int delivered = 0, timeouts = 0;
    for (int round = 0; round < 400; round++) {
        actor popper = {.until = twill_within(TWILL_US(test_random_below(300)))};
        int item = round + 1, left;
        twill_cancel_init(&round_token, NULL);
        popper.until.cancel = &round_token;
        go(&popper, pop_one, queue);
        for (uint64_t spin = test_random_below(20000); spin; spin--)
            atomic_signal_fence(memory_order_seq_cst);
        if (round % 3 == 0)
            twill_cancel_fire(&round_token, 1);
        CHECK_EQ(twill_queue_push(queue, &item), TWILL_OK);
        join(&popper);
        left = pop(queue);
        if (popper.status == TWILL_OK) {
            CHECK_EQ(popper.item, item);
            CHECK_EQ(left, -TWILL_EMPTY);
            delivered++;
        } else {
            CHECK(popper.status == TWILL_TIMEOUT || popper.status == TWILL_CANCELLED);
            CHECK_EQ(left, item); /* not lost with its waiter */
            timeouts++;
        }
    }
    CHECK_EQ(delivered + timeouts, 400);
    CHECK(balanced(queue));
    twill_queue_destroy(queue);
}

TEST(waiters_use_no_processor)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 1});
    actor who[8];
    double spent = 1e9;
    memset(who, 0, sizeof who);
    for (int k = 0; k < 8; k++)
        go(&who[k], pop_one, queue);
    until_waiting(queue, 0, 8);
    /* whoever still spins; and a machine of many may bill one for what others took */
    for (int tries = 0; tries < 20 && spent >= 30; tries++) {
        clock_t before = clock();
        twill_sleep(twill_within(TWILL_MS(300)));
        spent = (double)(clock() - before) * 1e3 / CLOCKS_PER_SEC;
    }
    CHECK(spent < 30); /* ms, of 8 times 300 */
    twill_queue_close(queue);
    for (int k = 0; k < 8; k++)
        join(&who[k]);
    twill_queue_destroy(queue);
}

/* ---- exactly once ---- */

enum { SIDE = 8, EACH = 3000, FEW = 600 };
static int each; /* fewer where every item needs a switch of threads: a busy machine */
static atomic_uchar seen[SIDE * EACH];
static atomic_int broken_order;

static void push_all(actor *me)
{
    for (int k = 0; k < each; k++) {
        int item = me->item * each + k;
        twill_status status = TWILL_TIMEOUT;
        twill_ns patience =
            TWILL_US(k % 50);             /* grows, as nobody comes while this thread has the CPU */
        while (status == TWILL_TIMEOUT) { /* exit: consumers make room */
            status = k % 3 == 0   ? twill_queue_push(me->queue, &item)
                     : k % 3 == 1 ? twill_queue_push_until(me->queue, &item, twill_within(patience))
                                  : twill_queue_push_bulk_until(me->queue, &item, 1,
                                                                twill_within(TWILL_MS(50)));
            if (status == TWILL_INVALID) /* no bulk with priorities */
                status = twill_queue_push(me->queue, &item);
            patience = 2 * patience + TWILL_US(1);
        }
        if (status != TWILL_OK) {
            me->status = status;
            return;
        }
        me->count++;
    }
    me->status = twill_queue_detach(me->queue);
}

static void pop_all(actor *me)
{
    int last[SIDE], items[7];
    for (int k = 0; k < SIDE; k++)
        last[k] = -1;
    for (;;) { /* exit: closed */
        size_t count = 0;
        me->status = me->item % 2
                         ? twill_queue_pop_batch_until(me->queue, items, 7, &count, TWILL_US(20),
                                                       twill_within(TWILL_MS(5)))
                         : twill_queue_pop_until(me->queue, items, twill_within(TWILL_MS(5)));
        if (me->status == TWILL_TIMEOUT)
            continue;
        if (me->status != TWILL_OK)
            return;
        for (size_t k = 0; k < (me->item % 2 ? count : 1); k++) {
            atomic_fetch_add(&seen[items[k]], 1);
            if (items[k] % each <= last[items[k] / each])
                atomic_fetch_add(&broken_order, 1);
            last[items[k] / each] = items[k] % each;
            me->count++;
        }
    }
}

static void ledger(twill_queue_options options)
{
    actor pushers[SIDE], poppers[SIDE];
    int pushed = 0, popped = 0;
    options.producers = SIDE;
    each = options.capacity == TWILL_RENDEZVOUS || options.capacity == 1 ? FEW : EACH;
    for (int k = 0; k < SIDE * each; k++)
        atomic_store(&seen[k], 0);
    atomic_store(&broken_order, 0);
    twill_queue *queue = queue_of(options);
    memset(pushers, 0, sizeof pushers);
    memset(poppers, 0, sizeof poppers);
    for (int k = 0; k < SIDE; k++) {
        pushers[k].item = poppers[k].item = k;
        go(&poppers[k], pop_all, queue);
        go(&pushers[k], push_all, queue);
    }
    for (int k = 0; k < SIDE; k++) {
        join(&pushers[k]);
        join(&poppers[k]);
        pushed += pushers[k].count;
        popped += poppers[k].count;
        CHECK_EQ(pushers[k].status, TWILL_OK);
        CHECK_EQ(poppers[k].status, TWILL_CLOSED);
    }
    CHECK_EQ(pushed, SIDE * each);
    CHECK_EQ(popped, SIDE * each);
    for (int k = 0; k < SIDE * each; k++)
        if (atomic_load(&seen[k]) != 1)
            CHECK_EQ(atomic_load(&seen[k]), 1);
    if (!options.order)
        CHECK_EQ(atomic_load(&broken_order), 0);
    CHECK(stats_of(queue).peak <= (options.capacity == TWILL_RENDEZVOUS ? 0 : options.capacity));
    CHECK(balanced(queue));
    twill_queue_destroy(queue);
}

TEST(ledger_of_1)
{
    ledger((twill_queue_options){.capacity = 1});
}
TEST(ledger_of_5)
{
    ledger((twill_queue_options){.capacity = 5});
}
TEST(ledger_of_1024)
{
    ledger((twill_queue_options){.capacity = 1024});
}
TEST(ledger_of_a_rendezvous)
{
    ledger((twill_queue_options){.capacity = TWILL_RENDEZVOUS});
}
TEST(ledger_last_in_first_out)
{
    ledger((twill_queue_options){.capacity = 5, .order = TWILL_ORDER_LIFO});
}

static int by_value(const void *item, const twill_task *task)
{
    (void)task;
    return *(const int *)item % 7;
}

TEST(ledger_of_priorities)
{
    ledger((twill_queue_options){
        .capacity = 5, .order = TWILL_ORDER_PRIORITY, .priority_of = by_value});
}

/* Close, fail, clear and destroy at a random moment, among all kinds of calls. */
static void use_all(actor *me)
{
    int items[4] = {me->item, me->item, me->item, me->item};
    size_t moved = 0, chosen;
    twill_queue_case cases[2] = {{.queue = me->queue, .item = &items[0]},
                                 {.queue = me->queue, .push = true, .item = &items[1]}};
    me->status = TWILL_OK;
    for (int k = 0; me->status != TWILL_CLOSED && me->status != TWILL_FAILED; k++) {
        switch ((k + me->item) % 6) { /* exit: closed, sooner or later */
        case 0:
            me->status = twill_queue_push_until(me->queue, items, twill_within(TWILL_US(50)));
            break;
        case 1:
            me->status =
                twill_queue_pop_many_until(me->queue, items, 4, &moved, twill_within(TWILL_US(50)));
            break;
        case 2:
            me->status = twill_queue_push_many_until(me->queue, items, 4, &moved,
                                                     twill_within(TWILL_US(80)));
            break;
        case 3:
            me->status = twill_queue_pop_until(me->queue, items, twill_within(TWILL_US(50)));
            break;
        case 4:
            me->status = twill_queue_select_until(cases, 2, TWILL_SELECT_FAIR, &chosen,
                                                  twill_within(TWILL_US(80)));
            break;
        default:
            me->status =
                twill_queue_push_bulk_until(me->queue, items, 2, twill_within(TWILL_US(9)));
        }
    }
}

TEST(close_at_any_moment)
{
    for (int round = 0; round < 60; round++) {
        twill_queue *queue =
            queue_of((twill_queue_options){.capacity = (size_t)(2 + round % 3), .drop = note_drop});
        actor who[4];
        memset(who, 0, sizeof who);
        for (int k = 0; k < 4; k++) {
            who[k].item = k;
            go(&who[k], use_all, queue);
        }
        twill_sleep(twill_within(TWILL_US(test_random_below(1500))));
        if (round % 2)
            twill_queue_clear(queue);
        CHECK_EQ(round % 4 < 2 ? twill_queue_close(queue) : twill_queue_fail(queue, 5), TWILL_OK);
        for (int k = 0; k < 4; k++)
            join(&who[k]);
        CHECK(balanced(queue));
        twill_queue_destroy(queue);
    }
    CHECK_EQ(faults_live(), 0);
}

/* ---- policies ---- */

TEST(overflow_policies)
{
    const struct {
        twill_overflow overflow;
        twill_status answer;
        int left[2], dropped;
    } row[] = {{TWILL_OVERFLOW_REJECT, TWILL_FULL, {1, 2}, 0},
               {TWILL_OVERFLOW_DROP_INCOMING, TWILL_DROPPED, {1, 2}, 3},
               {TWILL_OVERFLOW_DROP_OLDEST, TWILL_OK, {2, 3}, 1},
               {TWILL_OVERFLOW_DROP_NEWEST, TWILL_OK, {1, 3}, 2}};
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        twill_queue *queue = queue_of(
            (twill_queue_options){.capacity = 2, .overflow = row[k].overflow, .drop = note_drop});
        int before = atomic_load(&drop_count);
        push(queue, 1);
        push(queue, 2);
        CHECK_EQ(twill_queue_push(queue, &(int){3}), row[k].answer); /* never waits */
        CHECK(balanced(queue));
        CHECK_EQ(pop(queue), row[k].left[0]);
        CHECK_EQ(pop(queue), row[k].left[1]);
        CHECK_EQ(atomic_load(&drop_count) - before, row[k].dropped != 0);
        if (row[k].dropped) {
            CHECK_EQ(drops[before], row[k].dropped);
            CHECK_EQ(drop_why[before], TWILL_DROPPED);
            CHECK_EQ(drop_index[before], row[k].dropped - 1);
        }
        CHECK_EQ(stats_of(queue).rejected, row[k].answer == TWILL_FULL);
        twill_queue_destroy(queue);
    }
    twill_queue *queue = queue_of((twill_queue_options){
        .capacity = 2, .overflow = TWILL_OVERFLOW_DROP_OLDEST, .drop = note_drop});
    for (int k = 1; k <= 4; k++)
        push(queue, k);
    CHECK_EQ(drops[1], 2);
    CHECK_EQ(drop_index[1], 1); /* each has its own number */
    twill_queue_destroy(queue);
}

static twill_queue *reentered;
static twill_status reentry[3];

static void drop_reenters(void *item, twill_status why, const twill_task *task)
{
    (void)why;
    (void)task;
    reentry[0] = twill_queue_destroy(reentered);
    while (twill_queue_try_pop(reentered, item) == TWILL_OK) {}
    reentry[1] = twill_queue_pop(reentered, item);
    reentry[2] = twill_queue_join(reentered);
}

TEST(a_wait_inside_a_callback_is_a_deadlock)
{
    reentered = queue_of((twill_queue_options){
        .capacity = 1, .overflow = TWILL_OVERFLOW_DROP_OLDEST, .drop = drop_reenters});
    push(reentered, 1);
    CHECK_EQ(push(reentered, 2), TWILL_OK);
    for (int k = 0; k < 3; k++)
        CHECK_EQ(reentry[k], TWILL_DEADLOCK);
    CHECK(balanced(reentered));
    CHECK_EQ(twill_queue_destroy(reentered), TWILL_OK);
}

/* ---- a callback that ends its thread ---- */

static void end_thread(void)
{
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static void drop_and_end(void *item, twill_status why, const twill_task *task)
{
    note_drop(item, why, task);
    if (*(int *)item == 1)
        end_thread();
}

static void level_ends(bool high, size_t length, const twill_task *task)
{
    (void)length;
    (void)task;
    atomic_fetch_add(&drop_count, high ? 1 : 100);
    if (high)
        end_thread();
}

/* Below the low mark again before it ends. */
static twill_queue *emptied_queue;

static void level_empties_and_ends(bool high, size_t length, const twill_task *task)
{
    int item;
    while (high && twill_queue_try_pop(emptied_queue, &item) == TWILL_OK) {}
    level_ends(high, length, task);
}

static void push_four(actor *me)
{
    int items[] = {1, 2, 3, 4};
    me->status = twill_queue_push_many_until(me->queue, items, 4, NULL, me->until);
}

static void clear_all(actor *me)
{
    (void)twill_queue_clear(me->queue);
    me->status = TWILL_LOST;
}

static void destroy_all(actor *me)
{
    me->status = twill_queue_destroy(me->queue);
}

/* In line before one queue, it drops an item of the other. */
static twill_queue *other_queue;

static void select_two(actor *me)
{
    twill_queue_case cases[20] = {{.queue = other_queue, .item = &me->count},
                                  {.queue = me->queue, .push = true, .item = &me->item}};
    me->status = twill_queue_select_until(cases, 20, TWILL_SELECT_IN_ORDER, NULL, me->until);
}

TEST(a_callback_ends_its_thread)
{
    void (*const calls[])(actor *) = {push_one, push_four, clear_all, select_two, destroy_all};
    long live = faults_live();
    for (int k = 0; k < 5; k++) { /* what a destroy has left, another one destroys */
        actor who = {.item = 9, .status = TWILL_EMPTY};
        twill_queue *queue = queue_of((twill_queue_options){
            .capacity = 2, .overflow = TWILL_OVERFLOW_DROP_OLDEST, .drop = drop_and_end});
        other_queue = queue_of((twill_queue_options){.capacity = 2});
        push(queue, 1);
        push(queue, 2);
        go(&who, calls[k], queue);
        join(&who);
        CHECK_EQ(who.status, TWILL_EMPTY); /* it did not return */
        CHECK_EQ(drops[0], 1);
        push(other_queue, 5); /* nobody is in line there */
        CHECK_EQ(pop(other_queue), 5);
        CHECK(balanced(queue));
        while (pop(queue) > 0)
            CHECK_EQ(twill_queue_task_done(queue), TWILL_OK);
        CHECK_EQ(twill_queue_join_until(queue, twill_within(0)), TWILL_OK);
        CHECK_EQ(twill_queue_destroy(other_queue), TWILL_OK);
        CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
    }
    CHECK_EQ(faults_live(), live);
    /* who comes later tells the next change */
    actor who = {.item = 9, .status = TWILL_EMPTY};
    twill_queue *queue = queue_of((twill_queue_options){
        .capacity = 4, .on_level = level_ends, .high_mark = 2, .low_mark = 1});
    atomic_store(&drop_count, 0);
    push(queue, 1);
    go(&who, push_one, queue);
    join(&who);
    CHECK_EQ(who.status, TWILL_EMPTY);
    CHECK_EQ(atomic_load(&drop_count), 1);
    CHECK_EQ(pop(queue), 1);
    CHECK_EQ(atomic_load(&drop_count), 101);
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
    /* also one that came while the last was told, even if his own item changes nothing */
    queue = emptied_queue = queue_of((twill_queue_options){
        .capacity = 4, .on_level = level_empties_and_ends, .high_mark = 2, .low_mark = 0});
    atomic_store(&drop_count, 0);
    push(queue, 1);
    go(&who, push_one, queue);
    join(&who);
    CHECK_EQ(atomic_load(&drop_count), 1);
    push(queue, 2);
    CHECK_EQ(atomic_load(&drop_count), 101);
    CHECK_EQ(pop(queue), 2);
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
}

/* Pushes six into a queue for two: the first time that it is full, the level is told before a
   moment outside the lock, the second time while the call waits in line. */
static int high_ends;
static bool high_empties;

static void level_of_six(bool high, size_t length, const twill_task *task)
{
    int highs = atomic_fetch_add(&drop_count, high ? 1 : 100) % 100 + high, item;
    bool ends = high && highs == high_ends;
    (void)length, (void)task;
    while (high && (!ends || high_empties) && twill_queue_try_pop(emptied_queue, &item) == TWILL_OK)
        CHECK(item <= 6);
    if (ends)
        end_thread();
}

static void push_six(actor *me)
{
    int items[] = {1, 2, 3, 4, 5, 6};
    me->status = twill_queue_push_many_until(me->queue, items, 6, NULL, me->until);
}

TEST(a_level_callback_ends_a_thread_that_is_about_to_wait)
{
    /* in the moment; in line; in line, where it has been answered meanwhile */
    static const struct {
        int ends;
        bool empties;
        unsigned accepted, left;
    } ways[] = {{1, false, 2, 2}, {2, false, 4, 2}, {2, true, 6, 0}};
    for (size_t k = 0; k < 3; k++) {
        actor who = {.status = TWILL_EMPTY};
        twill_queue *queue = emptied_queue =
            queue_of((twill_queue_options){.capacity = 2,
                                           .on_level = level_of_six,
                                           .high_mark = 2,
                                           .low_mark = 0,
                                           .engine = TWILL_ENGINE_LOCK});
        twill_queue_stats stats;
        high_ends = ways[k].ends;
        high_empties = ways[k].empties;
        atomic_store(&drop_count, 0);
        go(&who, push_six, queue);
        join(&who);
        CHECK_EQ(who.status, TWILL_EMPTY); /* it did not return */
        stats = stats_of(queue);
        CHECK_EQ(stats.accepted, ways[k].accepted);
        CHECK_EQ(stats.length, ways[k].left);
        CHECK_EQ(stats.waiting_push, 0);
        CHECK_EQ(queue->pushing, 0);
        CHECK(balanced(queue));
        high_ends = 0;
        (void)twill_queue_clear(queue);
        push(queue, 6);
        CHECK_EQ(pop(queue), 6);
        CHECK_EQ(twill_queue_destroy(queue), TWILL_OK); /* nobody is in line */
    }
}

/* A push into a large queue that is full tells the level before it stays away for a moment, and
   what the callback takes is room that it finds then. */
static void takes_one(bool high, size_t length, const twill_task *task)
{
    int item;
    (void)length, (void)task;
    if (high)
        CHECK_EQ(twill_queue_try_pop(emptied_queue, &item), TWILL_OK);
}

TEST(room_that_came_in_the_moment_before_a_wait_is_seen)
{
    int items[TWILL__RING_LARGE + 1];
    size_t count = 0;
    unsigned cpus = twill__cpus_hint();
    twill_queue *queue = emptied_queue =
        queue_of((twill_queue_options){.capacity = TWILL__RING_LARGE,
                                       .on_level = takes_one,
                                       .high_mark = TWILL__RING_LARGE,
                                       .low_mark = 0,
                                       .engine = TWILL_ENGINE_LOCK});
    for (int k = 0; k <= TWILL__RING_LARGE; k++)
        items[k] = k;
    atomic_store(&twill__process()->cpus, 2);
    CHECK_EQ(twill_queue_push_many_until(queue, items, TWILL__RING_LARGE + 1, &count,
                                         (twill_until){0, NULL}),
             TWILL_OK);
    atomic_store(&twill__process()->cpus, cpus);
    CHECK_EQ(count, TWILL__RING_LARGE + 1);
    CHECK_EQ(stats_of(queue).push_waits, 0);
    for (int k = 1; k <= TWILL__RING_LARGE; k++)
        CHECK_EQ(pop(queue), k);
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
}

/* Who finds no batch after he has stayed away, stays half as long the next time. */
TEST(patience_is_halved_where_items_come_one_at_a_time)
{
    int item;
    unsigned cpus = twill__cpus_hint();
    twill_queue *queue =
        queue_of((twill_queue_options){.capacity = TWILL__RING_LARGE, .engine = TWILL_ENGINE_RING});
    atomic_store(&twill__process()->cpus, 2);
    atomic_store(&queue->ring.head.patience, 100);
    twill__quick pops = {queue, NULL, (char *)&item, NULL, 1, 1, 0};
    CHECK(!twill__quick_wait(&pops, twill__quick_try_take, false));
    atomic_store(&twill__process()->cpus, cpus);
    CHECK_EQ(atomic_load(&queue->ring.head.patience), 50);
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
}

/* A batch takes what is young enough behind, or among, items that are not. */
static void drop_and_push(void *item, twill_status why, const twill_task *task)
{
    note_drop(item, why, task);
    if (*(int *)item == 2)
        CHECK_EQ(push(emptied_queue, 4), TWILL_OK);
}

TEST(a_batch_goes_on_behind_an_item_that_is_too_old)
{
    twill_queue *queue = emptied_queue =
        queue_of((twill_queue_options){.capacity = 4,
                                       .order = TWILL_ORDER_LIFO,
                                       .max_age = TWILL_SEC(3600),
                                       .drop = drop_and_push,
                                       .engine = TWILL_ENGINE_LOCK});
    int items[4] = {0};
    size_t count = 0;
    for (int item = 1; item <= 3; item++)
        push(queue, item);
    for (size_t k = 0; k < 2; k++)
        queue->store.cells[k].at -= TWILL_SEC(7200);
    CHECK_EQ(twill_queue_pop_batch_until(queue, items, 4, &count, 1, (twill_until){0, NULL}),
             TWILL_OK);
    CHECK_EQ(count, 2);
    CHECK_EQ(items[0], 3);
    CHECK_EQ(items[1], 4);
    CHECK_EQ(drops[0], 2);
    CHECK_EQ(drops[1], 1);
    CHECK_EQ(stats_of(queue).expired, 2);
    CHECK(balanced(queue));
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
}

/* Of two items the one that is accepted later is not the sooner, however far away its turn is. */
TEST(a_key_that_is_too_large_is_the_largest)
{
    twill_queue *queue = queue_of((twill_queue_options){
        .capacity = 2, .order = TWILL_ORDER_PRIORITY, .priority_of = by_value});
    twill__cell cell = {.at = 1000, .key = 5};
    twill__queue_rank(queue, &cell);
    CHECK_EQ(cell.key, 5);
    cell.at = 900; /* its clock was read before the other one's */
    twill__queue_rank(queue, &cell);
    CHECK_EQ(cell.key, 105);
    cell.key = INT64_MAX - 99;
    twill__queue_rank(queue, &cell);
    CHECK_EQ(cell.key, INT64_MAX);
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
}

/* Of a select that waits: it has an item of its first case, and nobody else will answer it. */
static void drop_and_push_seven(void *item, twill_status why, const twill_task *task)
{
    note_drop(item, why, task);
    CHECK_EQ(push(other_queue, 7), TWILL_OK);
}

static void low_level_ends(bool high, size_t length, const twill_task *task)
{
    (void)length;
    (void)task;
    if (!high)
        end_thread();
}

static void select_pops(actor *me)
{
    int items[2];
    twill_queue_case cases[] = {{.queue = other_queue, .item = &items[0]},
                                {.queue = me->queue, .item = &items[1]}};
    me->status = twill_queue_select_until(cases, 2, TWILL_SELECT_IN_ORDER, NULL, me->until);
}

TEST(a_select_that_has_its_item_ends_its_thread)
{
    actor who = {.status = TWILL_EMPTY};
    twill_queue *queue = queue_of(
        (twill_queue_options){.capacity = 2, .max_age = 1, .drop = drop_and_push_seven}); /* ns */
    other_queue =
        queue_of((twill_queue_options){.capacity = 2, .on_level = low_level_ends, .high_mark = 1});
    push(queue, 1);
    go(&who, select_pops, queue);
    join(&who);
    CHECK_EQ(who.status, TWILL_EMPTY); /* it did not return */
    CHECK_EQ(stats_of(other_queue).popped, 1);
    push(queue, 2); /* nobody is in line */
    CHECK_EQ(twill_queue_length(queue), 1);
    CHECK(balanced(queue));
    CHECK(balanced(other_queue));
    CHECK_EQ(twill_queue_destroy(other_queue), TWILL_OK);
    atomic_store(&drop_count, 0);
    other_queue = queue_of((twill_queue_options){.capacity = 2}); /* for what is dropped now */
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
    CHECK_EQ(twill_queue_destroy(other_queue), TWILL_OK);
}

TEST(last_in_first_out)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 3, .order = TWILL_ORDER_LIFO});
    for (int round = 0; round < 4; round++) {
        push(queue, 1);
        push(queue, 2);
        CHECK_EQ(pop(queue), 2);
        push(queue, 3);
        push(queue, 4);
        CHECK_EQ(push(queue, 5), TWILL_TIMEOUT);
        CHECK_EQ(pop(queue), 4);
        CHECK_EQ(pop(queue), 3);
        CHECK_EQ(pop(queue), 1);
    }
    twill_queue_destroy(queue);
}

static twill_queue *refilled;

static void drop_and_refill(void *item, twill_status why, const twill_task *task)
{
    int before = atomic_load(&drop_count);
    note_drop(item, why, task);
    if (before < 2) /* one in front of all, one behind */
        CHECK_EQ(push(refilled, before ? 7 : 6), TWILL_OK);
}

TEST(a_clear_leaves_what_comes_while_it_drops)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 8,
                                                        .order = TWILL_ORDER_PRIORITY,
                                                        .priority_of = by_value,
                                                        .drop = drop_and_refill});
    refilled = queue;
    for (int k = 0; k < 3; k++)
        CHECK_EQ(push(queue, 3), TWILL_OK);
    CHECK_EQ(twill_queue_clear(queue), 3);
    for (int k = 0; k < 3; k++)
        CHECK_EQ(drops[k], 3);
    CHECK_EQ(pop(queue), 6);
    CHECK_EQ(pop(queue), 7);
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
}

/* Against a plain model: a list, searched. */
TEST(priorities_against_a_model)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 40,
                                                        .order = TWILL_ORDER_PRIORITY,
                                                        .priority_of = by_value,
                                                        .ageing = TWILL_FOREVER});
    int model[40], count = 0;
    for (int step = 0; step < 4000; step++) {
        if (count < 40 && (count == 0 || test_random_below(5) < 3)) {
            model[count] = (int)test_random_below(100000);
            CHECK_EQ(push(queue, model[count]), TWILL_OK);
            count++;
        } else {
            int best = 0;
            for (int k = 1; k < count; k++)
                if (model[k] % 7 > model[best] % 7)
                    best = k;
            if (!CHECK_EQ(pop(queue), model[best]))
                break;
            memmove(&model[best], &model[best + 1], (size_t)(--count - best) * sizeof model[0]);
        }
    }
    twill_queue_destroy(queue);
}

TEST(waiting_raises_a_priority)
{
    for (bool in_time = false; !in_time;) {
        twill_queue *queue = queue_of((twill_queue_options){.capacity = 8,
                                                            .order = TWILL_ORDER_PRIORITY,
                                                            .priority_of = by_value,
                                                            .ageing = TWILL_MS(2)});
        twill_ns begun = twill_now();
        push(queue, 0);
        push(queue, 6);
        int first = pop(queue);
        in_time = twill_now() - begun < TWILL_MS(10); /* else the 0 may have aged by itself */
        CHECK(first == 6 || (!in_time && first == 0));
        twill_sleep(twill_within(TWILL_MS(30))); /* worth fifteen steps; the difference is six */
        push(queue, 6);
        CHECK_EQ(pop(queue), 6 - first);
        CHECK_EQ(pop(queue), 6);
        twill_queue_destroy(queue);
    }
}

static size_t as_bytes(const void *item, const twill_task *task)
{
    (void)task;
    return (size_t)(*(const int *)item);
}

TEST(a_limit_in_bytes)
{
    twill_queue *queue = queue_of((twill_queue_options){.max_bytes = 100, .bytes_of = as_bytes});
    actor large = {.item = 60}, small = {.item = 1};
    CHECK_EQ(push(queue, 101), TWILL_TOO_BIG);
    CHECK_EQ(push(queue, 100), TWILL_OK);
    CHECK_EQ(pop(queue), 100);
    CHECK_EQ(push(queue, 30), TWILL_OK);
    CHECK_EQ(push(queue, 70), TWILL_OK);
    CHECK_EQ(twill_queue_try_push(queue, &(int){1}), TWILL_FULL);
    CHECK_EQ(stats_of(queue).bytes, 100);
    go(&large, push_one, queue);
    until_waiting(queue, 1, 0);
    go(&small, push_one, queue);
    until_waiting(queue, 2, 0);
    CHECK_EQ(pop(queue), 30); /* room for the small one alone: it waits its turn */
    CHECK_EQ(stats_of(queue).waiting_push, 2);
    CHECK_EQ(pop(queue), 70);
    join(&large);
    join(&small);
    CHECK_EQ(pop(queue), 60);
    CHECK_EQ(pop(queue), 1);
    CHECK_EQ(stats_of(queue).bytes, 0);
    CHECK_EQ(push(queue, 40), TWILL_OK);
    CHECK_EQ(push(queue, 60), TWILL_OK);
    large.item = 40;
    go(&large, push_one, queue);
    until_waiting(queue, 1, 0);
    CHECK_EQ(pop(queue), 40); /* just enough */
    join(&large);
    CHECK_EQ(stats_of(queue).bytes, 100);
    twill_queue_destroy(queue);
}

TEST(sizes_alone_limit_nothing)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 2, .bytes_of = as_bytes});
    CHECK_EQ(push(queue, 1000000), TWILL_OK);
    CHECK_EQ(push(queue, 7), TWILL_OK);
    CHECK_EQ(stats_of(queue).bytes, 1000007);
    CHECK_EQ(pop(queue), 1000000);
    CHECK_EQ(stats_of(queue).bytes, 7);
    twill_queue_destroy(queue);
}

static int wide_priority(const void *item, const twill_task *task)
{
    (void)task;
    return *(const int *)item;
}

/* priority x ageing beyond what a time can hold: first or last, and equal ones in order. */
TEST(priorities_beyond_all_waiting)
{
    const twill_ns ageing[] = {TWILL_FOREVER - 1, TWILL_FOREVER / 2, TWILL_FOREVER};
    for (int k = 0; k < 3; k++) {
        twill_queue *queue = queue_of((twill_queue_options){.capacity = 8,
                                                            .order = TWILL_ORDER_PRIORITY,
                                                            .priority_of = wide_priority,
                                                            .ageing = ageing[k]});
        const int in[] = {0, -2, 3, 0, INT_MIN, INT_MAX};
        for (int i = 0; i < 6; i++)
            CHECK_EQ(push(queue, in[i]), TWILL_OK);
        int first = pop(queue), second = pop(queue);
        CHECK(first == (k == 2 ? INT_MAX : 3)); /* both are beyond: in order of arrival */
        CHECK(second == (k == 2 ? 3 : INT_MAX));
        CHECK_EQ(pop(queue), 0);
        CHECK_EQ(pop(queue), 0);
        CHECK_EQ(pop(queue), -2);
        CHECK_EQ(pop(queue), INT_MIN);
        twill_queue_destroy(queue);
    }
}

TEST(many_that_have_sizes)
{
    const struct {
        twill_overflow overflow;
        twill_status status;
        size_t count;
        int drops;
    } row[] = {{TWILL_OVERFLOW_REJECT, TWILL_FULL, 2, 0},
               {TWILL_OVERFLOW_DROP_INCOMING, TWILL_DROPPED, 2, 3},
               {TWILL_OVERFLOW_DROP_OLDEST, TWILL_OK, 5, 3},
               {TWILL_OVERFLOW_BLOCK, TWILL_TIMEOUT, 2, 0}};
    const int items[] = {1, 2, 3, 4, 5};
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        twill_queue *queue = queue_of((twill_queue_options){
            .capacity = 2, .bytes_of = as_bytes, .overflow = row[k].overflow, .drop = note_drop});
        size_t count = 9;
        CHECK_EQ(twill_queue_push_many_until(queue, items, 5, &count, twill_within(0)),
                 row[k].status);
        CHECK_EQ(count, row[k].count);
        CHECK_EQ(atomic_load(&drop_count), row[k].drops);
        for (int d = 0; d < row[k].drops; d++)
            CHECK_EQ(drops[d], row[k].overflow == TWILL_OVERFLOW_DROP_INCOMING ? 3 + d : 1 + d);
        CHECK_EQ(stats_of(queue).bytes, row[k].overflow == TWILL_OVERFLOW_DROP_OLDEST ? 9 : 3);
        CHECK(balanced(queue));
        CHECK_EQ(twill_queue_push_bulk_until(queue, items, 1, twill_within(0)), TWILL_INVALID);
        twill_queue_destroy(queue);
    }
}

/* Of priorities, the oldest and the newest are looked for. */
TEST(a_heap_evicts_by_age)
{
    for (int newest = 0; newest < 2; newest++) {
        twill_queue *queue = queue_of((twill_queue_options){
            .capacity = 5,
            .order = TWILL_ORDER_PRIORITY,
            .priority_of = wide_priority,
            .ageing = TWILL_FOREVER,
            .overflow = newest ? TWILL_OVERFLOW_DROP_NEWEST : TWILL_OVERFLOW_DROP_OLDEST,
            .drop = note_drop});
        const int in[] = {2, 5, 1, 4, 3};
        for (int i = 0; i < 5; i++)
            CHECK_EQ(push(queue, in[i]), TWILL_OK);
        CHECK_EQ(push(queue, 0), TWILL_OK);
        CHECK_EQ(drops[0], newest ? 3 : 2);
        CHECK_EQ(push(queue, 6), TWILL_OK);
        CHECK_EQ(drops[1], newest ? 0 : 5);
        const int out[2][5] = {{6, 4, 3, 1, 0}, {6, 5, 4, 2, 1}};
        for (int i = 0; i < 5; i++)
            CHECK_EQ(pop(queue), out[newest][i]);
        CHECK(balanced(queue));
        twill_queue_destroy(queue);
    }
}

static int last_digit(const void *item, const twill_task *task)
{
    (void)task;
    return *(const int *)item % 10;
}

/* Priorities that are seldom equal, and such that often are; a place in the middle of the heap:
   what fills it may have to go up. */
TEST(evictions_keep_a_heap_in_order)
{
    static char memory[8192]; /* as it may have been left by others */
    for (int round = 0; round < 8; round++) {
        bool newest = round & 1, often = round & 2;
        memset(memory, round & 4 ? 0x7f : 0xff, sizeof memory);
        twill_queue *queue = queue_of((twill_queue_options){
            .capacity = 15,
            .order = TWILL_ORDER_PRIORITY,
            .priority_of = often ? last_digit : wide_priority,
            .ageing = round & 4 ? TWILL_SEC(1000) : TWILL_FOREVER, /* more than the test takes */
            .overflow = newest ? TWILL_OVERFLOW_DROP_NEWEST : TWILL_OVERFLOW_DROP_OLDEST,
            .memory = memory,
            .memory_bytes = sizeof memory});
        int last[15], count = 0; /* the model: what is inside, in order of arrival */
        for (int step = 0; step < 600; step++) {
            int item = (int)test_random_below(1000000);
            if (count == 15 && !newest)
                memmove(last, last + 1, (size_t)--count * sizeof last[0]);
            count -= count == 15;
            last[count++] = item;
            CHECK_EQ(push(queue, item), TWILL_OK);
            for (uint64_t pops = test_random_below(9) / 5; pops && count; pops--) {
                int best = 0;
                for (int k = 1; k < count; k++)
                    if (often ? last[k] % 10 > last[best] % 10 : last[k] > last[best])
                        best = k;
                if (!CHECK_EQ(pop(queue), last[best]))
                    return;
                memmove(&last[best], &last[best + 1], (size_t)(--count - best) * sizeof last[0]);
            }
        }
        CHECK(balanced(queue));
        twill_queue_destroy(queue);
    }
}

/* Where one is not enough, more go. */
TEST(evictions_until_there_is_room)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 8,
                                                        .bytes_of = as_bytes,
                                                        .max_bytes = 10,
                                                        .overflow = TWILL_OVERFLOW_DROP_OLDEST,
                                                        .drop = note_drop});
    const int in[] = {1, 2, 7};
    for (int k = 0; k < 3; k++)
        CHECK_EQ(push(queue, in[k]), TWILL_OK);
    CHECK_EQ(push(queue, 9), TWILL_OK);
    CHECK_EQ(atomic_load(&drop_count), 3);
    for (int k = 0; k < 3; k++)
        CHECK_EQ(drops[k], in[k]);
    CHECK_EQ(push(queue, 1), TWILL_OK);
    CHECK_EQ(atomic_load(&drop_count), 3);
    CHECK_EQ(pop(queue), 9);
    CHECK_EQ(pop(queue), 1);
    CHECK(balanced(queue));
    twill_queue_destroy(queue);
}

/* A blocked push goes in when an item is old enough, if that is before its own end. */
TEST(age_makes_room_in_time_or_not)
{
    for (int in_time = 0; in_time < 2; in_time++) {
        twill_queue *queue = queue_of((twill_queue_options){
            .capacity = 1, .max_age = in_time ? TWILL_MS(3) : TWILL_SEC(60), .drop = note_drop});
        CHECK_EQ(push(queue, 1), TWILL_OK);
        CHECK_EQ(twill_queue_push_until(queue, &(int){2},
                                        twill_within(in_time ? TWILL_SEC(60) : TWILL_MS(3))),
                 in_time ? TWILL_OK : TWILL_TIMEOUT);
        CHECK_EQ(atomic_load(&drop_count), in_time);
        CHECK_EQ(stats_of(queue).expired, in_time);
        CHECK(balanced(queue));
        twill_queue_destroy(queue);
    }
}

TEST(ages_are_measured)
{
    const twill_ns max_age[] = {TWILL_FOREVER, TWILL_FOREVER - 1};
    for (int k = 0; k < 2; k++) {
        twill_queue *queue = queue_of((twill_queue_options){.capacity = 2, .max_age = max_age[k]});
        int both[2] = {0, 0};
        size_t count = 0;
        push(queue, 1);
        twill_sleep(twill_within(TWILL_MS(2)));
        push(queue, 2);
        CHECK_EQ(pop(queue), 1);
        CHECK_EQ(pop(queue), 2);
        CHECK(stats_of(queue).age_max >= TWILL_MS(2));
        CHECK(stats_of(queue).age_total >= stats_of(queue).age_max);
        CHECK_EQ(stats_of(queue).expired, 0);
        push(queue, 3);
        push(queue, 4);
        CHECK_EQ(twill_queue_pop_many_until(queue, both, 2, &count, twill_within(0)), TWILL_OK);
        CHECK_EQ(count, 2); /* none is too old */
        CHECK(both[0] == 3 && both[1] == 4);
        twill_queue_destroy(queue);
    }
}

/* Many at once, where items are dropped that find no room: each that is not in is dropped, also one
   that would never fit, or that comes after a close. */
static twill_queue *closes_at_drop;

static void drop_and_close(void *item, twill_status why, const twill_task *task)
{
    note_drop(item, why, task);
    if (closes_at_drop)
        twill_queue_close(closes_at_drop);
}

TEST(many_are_in_or_dropped)
{
    const int items[] = {60, 70, 101, 5, 80, 6};
    for (int closes = 0; closes < 2; closes++) {
        size_t in = 0;
        twill_queue *queue =
            queue_of((twill_queue_options){.max_bytes = 100,
                                           .bytes_of = as_bytes,
                                           .overflow = TWILL_OVERFLOW_DROP_INCOMING,
                                           .drop = drop_and_close});
        closes_at_drop = closes ? queue : NULL;
        CHECK_EQ(twill_queue_push_many_until(queue, items, 6, &in, (twill_until){0, NULL}),
                 TWILL_DROPPED);
        CHECK_EQ(in, closes ? 1 : 3);
        CHECK_EQ(atomic_load(&drop_count) + (int)in, 6);
        CHECK_EQ(drops[1], 101);
        CHECK_EQ(drop_why[1], TWILL_DROPPED);
        CHECK_EQ(drop_index[1], 2);
        CHECK(balanced(queue));
        CHECK_EQ(stats_of(queue).accepted, 6);
        twill_queue_destroy(queue);
    }
}

TEST(items_expire)
{
    twill_queue *queue =
        queue_of((twill_queue_options){.capacity = 2, .max_age = TWILL_MS(20), .drop = note_drop});
    actor who = {.item = 3};
    push(queue, 1);
    push(queue, 2);
    go(&who, push_one, queue); /* gets the room of an item that has expired */
    join(&who);
    CHECK_EQ(who.status, TWILL_OK);
    CHECK(atomic_load(&drop_count) >= 1);
    CHECK_EQ(drops[0], 1);
    CHECK_EQ(drop_why[0], TWILL_TIMEOUT);
    twill_sleep(twill_within(TWILL_MS(40)));
    CHECK_EQ(pop(queue), -TWILL_EMPTY);
    CHECK_EQ(stats_of(queue).expired, 3);
    CHECK(balanced(queue));
    CHECK_EQ(twill_queue_join(queue), TWILL_OK);
    twill_queue_destroy(queue);
}

static int levels[16];
static size_t level_count;

static void note_level(bool high, size_t length, const twill_task *task)
{
    (void)task;
    if (level_count < 16)
        levels[level_count++] = (high ? 100 : 0) + (int)length;
}

TEST(levels_have_hysteresis)
{
    twill_queue *queue = queue_of((twill_queue_options){
        .capacity = 4, .on_level = note_level, .high_mark = 3, .low_mark = 1});
    level_count = 0;
    for (int round = 0; round < 2; round++) {
        for (int k = 0; k < 4; k++)
            push(queue, k);
        for (int k = 0; k < 4; k++)
            pop(queue);
    }
    const int expected[] = {103, 1, 103, 1};
    CHECK_EQ(level_count, 4);
    for (size_t k = 0; k < 4; k++)
        CHECK_EQ(levels[k], expected[k]);
    twill_queue_destroy(queue);
}

TEST(rendezvous_hands_over)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = TWILL_RENDEZVOUS});
    actor who = {.item = 5};
    int item = 1, got = 0;
    CHECK_EQ(twill_queue_try_push(queue, &item), TWILL_FULL);
    CHECK_EQ(pop(queue), -TWILL_EMPTY);
    go(&who, push_one, queue);
    until_waiting(queue, 1, 0);
    CHECK_EQ(twill_queue_length(queue), 0);
    CHECK_EQ(twill_queue_ready_until(queue, twill_within(0)), TWILL_OK);
    CHECK(!atomic_load(&who.over)); /* not before a pop */
    CHECK_EQ(pop(queue), 5);
    join(&who);
    CHECK_EQ(who.status, TWILL_OK);
    go(&who, pop_one, queue);
    until_waiting(queue, 0, 1);
    CHECK_EQ(twill_queue_try_push(queue, &item), TWILL_OK);
    join(&who);
    CHECK_EQ(who.item, 1);
    go(&who, push_one, queue);
    until_waiting(queue, 1, 0);
    CHECK_EQ(twill_queue_close(queue), TWILL_OK);
    join(&who);
    CHECK_EQ(who.status, TWILL_CLOSED);
    CHECK_EQ(twill_queue_pop(queue, &got), TWILL_CLOSED);
    CHECK(balanced(queue));
    twill_queue_destroy(queue);
}

/* ---- batches ---- */

static void push_many(actor *me)
{
    int items[10];
    for (int k = 0; k < 10; k++)
        items[k] = me->item + k;
    me->status = twill_queue_push_many_until(me->queue, items, 10, &me->moved, me->until);
}

static void push_bulk(actor *me)
{
    int items[3] = {7, 8, 9};
    me->status = twill_queue_push_bulk_until(me->queue, items, 3, me->until);
}

TEST(batches)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 4});
    actor who = {.item = 0}, bulk = {.until = {0, NULL}}, late = {.item = 99};
    int items[16];
    size_t count = 0, all = 0;
    go(&who, push_many, queue);
    while (all < 10) {
        CHECK_EQ(twill_queue_pop_many_until(queue, items, 16, &count, twill_within(TWILL_SEC(100))),
                 TWILL_OK);
        for (size_t k = 0; k < count; k++)
            CHECK_EQ(items[k], all + k);
        all += count;
    }
    join(&who);
    CHECK_EQ(who.moved, 10);
    who.until = twill_within(TWILL_MS(5));
    go(&who, push_many, queue);
    join(&who);
    CHECK_EQ(who.status, TWILL_TIMEOUT);
    CHECK_EQ(who.moved, 4); /* exact: the rest is the caller's */
    CHECK_EQ(twill_queue_length(queue), 4);
    CHECK_EQ(pop(queue), 0);
    go(&bulk, push_bulk, queue);
    until_waiting(queue, 1, 0);
    CHECK_EQ(twill_queue_try_push(queue, &(int){1}), TWILL_FULL); /* behind the bulk */
    go(&late, push_one, queue);
    until_waiting(queue, 2, 0);
    CHECK_EQ(pop(queue), 1);
    CHECK_EQ(stats_of(queue).waiting_push, 2);
    CHECK_EQ(pop(queue), 2);
    join(&bulk);
    const int expected[] = {3, 7, 8, 9, 99};
    for (int k = 0; k < 5; k++) {
        if (k == 1)
            join(&late);
        CHECK_EQ(pop(queue), expected[k]);
    }
    push(queue, 1);
    push(queue, 2);
    CHECK_EQ(twill_queue_pop_batch_until(queue, items, 3, &count, TWILL_MS(10), twill_within(0)),
             TWILL_OK);
    CHECK_EQ(count, 2); /* until is over: it lingers no longer */
    go(&who, push_many, queue);
    CHECK_EQ(twill_queue_pop_batch_until(queue, items, 4, &count, TWILL_SEC(100), (twill_until){0}),
             TWILL_OK);
    CHECK_EQ(count, 4);
    join(&who);
    twill_queue_destroy(queue);
}

TEST(a_batch_lingers_no_longer_than_it_may)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 4});
    const struct {
        twill_ns linger, within;
    } row[] = {{TWILL_MS(2), TWILL_FOREVER},
               {TWILL_FOREVER, TWILL_MS(2)},
               {TWILL_SEC(300), TWILL_MS(2)},
               {TWILL_MS(2), TWILL_SEC(300)}};
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        int items[3] = {0};
        size_t count = 9;
        twill_ns begun = twill_now();
        push(queue, 7);
        CHECK_EQ(twill_queue_pop_batch_until(queue, items, 3, &count, row[k].linger,
                                             twill_within(row[k].within)),
                 TWILL_OK);
        CHECK_EQ(count, 1);
        CHECK_EQ(items[0], 7);
        CHECK(twill_now() - begun >= TWILL_MS(2));
        CHECK(twill_now() - begun < TWILL_SEC(100));
    }
    twill_queue_destroy(queue);
}

TEST(ready_takes_nothing)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 1});
    actor who[2];
    memset(who, 0, sizeof who);
    CHECK_EQ(twill_queue_ready_until(queue, twill_within(TWILL_MS(1))), TWILL_TIMEOUT);
    go(&who[0], watch_one, queue);
    go(&who[1], watch_one, queue);
    twill_sleep(twill_within(TWILL_MS(2)));
    push(queue, 4);
    join(&who[0]);
    join(&who[1]);
    CHECK_EQ(who[0].status, TWILL_OK);
    CHECK_EQ(who[1].status, TWILL_OK);
    CHECK_EQ(pop(queue), 4);
    twill_queue_destroy(queue);
}

/* ---- select ---- */

TEST(select_answers)
{
    twill_queue *a = queue_of((twill_queue_options){.capacity = 1});
    twill_queue *b = queue_of((twill_queue_options){.capacity = 1});
    int x = 0, y = 5;
    size_t chosen = 9;
    twill_queue_case cases[3] = {
        {.queue = a, .item = &x}, {.queue = NULL}, {.queue = b, .push = true, .item = &y}};
    CHECK_EQ(twill_queue_try_select(cases, 0, TWILL_SELECT_FAIR, &chosen), TWILL_INVALID);
    CHECK_EQ(twill_queue_try_select(cases, 3, TWILL_SELECT_FAIR, &chosen), TWILL_OK);
    CHECK_EQ(chosen, 2);
    CHECK_EQ(cases[0].status, TWILL_EMPTY); /* asked or not: it is not out */
    CHECK_EQ(cases[1].status, TWILL_CLOSED);
    CHECK_EQ(cases[2].status, TWILL_OK);
    CHECK_EQ(twill_queue_try_select(cases, 3, TWILL_SELECT_IN_ORDER, &chosen), TWILL_EMPTY);
    CHECK_EQ(cases[2].status, TWILL_FULL);
    CHECK_EQ(stats_of(b).rejected, 1);
    CHECK_EQ(
        twill_queue_select_until(cases, 3, TWILL_SELECT_FAIR, &chosen, twill_within(TWILL_MS(2))),
        TWILL_TIMEOUT);
    CHECK_EQ(stats_of(a).waiting_pop, 0);
    CHECK_EQ(stats_of(b).rejected, 1); /* it has waited */
    push(a, 3);
    CHECK_EQ(pop(b), 5);
    CHECK_EQ(twill_queue_select_until(cases, 3, TWILL_SELECT_IN_ORDER, &chosen, twill_within(0)),
             TWILL_OK);
    CHECK_EQ(chosen, 0);
    CHECK_EQ(cases[2].status, TWILL_FULL); /* not asked */
    CHECK_EQ(x, 3);
    CHECK_EQ(pop(b), -TWILL_EMPTY); /* exactly one */
    twill_queue_close(a);
    twill_queue_fail(b, 1);
    CHECK_EQ(twill_queue_select_until(cases, 3, TWILL_SELECT_FAIR, &chosen, (twill_until){0}),
             TWILL_CLOSED);
    CHECK_EQ(cases[0].status, TWILL_CLOSED);
    cases[2].push = false;
    CHECK_EQ(twill_queue_try_select(cases, 3, TWILL_SELECT_FAIR, &chosen), TWILL_FAILED);
    twill_queue_destroy(a);
    twill_queue_destroy(b);
}

/* Nobody meets himself. */
TEST(select_on_both_ends_of_a_rendezvous)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = TWILL_RENDEZVOUS});
    int x = 0, y = 5;
    size_t chosen = 9;
    actor who = {.item = 8};
    twill_queue_case cases[] = {{.queue = queue, .item = &x},
                                {.queue = queue, .push = true, .item = &y}};
    CHECK_EQ(twill_queue_try_select(cases, 2, TWILL_SELECT_IN_ORDER, &chosen), TWILL_EMPTY);
    CHECK_EQ(twill_queue_select_until(cases, 2, TWILL_SELECT_IN_ORDER, &chosen,
                                      twill_within(TWILL_MS(2))),
             TWILL_TIMEOUT);
    go(&who, push_one, queue);
    CHECK_EQ(twill_queue_select_until(cases, 2, TWILL_SELECT_IN_ORDER, &chosen, (twill_until){0}),
             TWILL_OK);
    join(&who);
    CHECK_EQ(chosen, 0);
    CHECK_EQ(x, 8);
    CHECK_EQ(stats_of(queue).accepted, 1);
    twill_queue_destroy(queue);
}

/* Many at once, from hand to hand. */
TEST(many_to_those_who_wait)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = TWILL_RENDEZVOUS});
    actor who[3];
    const int items[3] = {4, 5, 6};
    int sum = 0;
    size_t count = 0;
    memset(who, 0, sizeof who);
    for (int k = 0; k < 3; k++)
        go(&who[k], pop_one, queue);
    until_waiting(queue, 0, 3);
    CHECK_EQ(twill_queue_push_many_until(queue, items, 3, &count, twill_within(0)), TWILL_OK);
    CHECK_EQ(count, 3);
    for (int k = 0; k < 3; k++) {
        join(&who[k]);
        CHECK_EQ(who[k].status, TWILL_OK);
        sum += who[k].item;
    }
    CHECK_EQ(sum, 15);
    twill_queue_destroy(queue);
}

TEST(select_refuses)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 1});
    int x = 0;
    size_t chosen = 9;
    twill_queue_case one = {.queue = queue, .item = &x}, bare = {.queue = queue};
    CHECK_EQ(twill_queue_try_select(NULL, 1, TWILL_SELECT_FAIR, &chosen), TWILL_INVALID);
    CHECK_EQ(twill_queue_try_select(&one, 1, (twill_select_order)2, &chosen), TWILL_INVALID);
    CHECK_EQ(twill_queue_try_select(&bare, 1, TWILL_SELECT_FAIR, &chosen), TWILL_INVALID);
    CHECK_EQ(chosen, 9);
    twill_queue_case many[17];
    for (int k = 0; k < 17; k++)
        many[k] = one;
    faults_fail_alloc(1);
    CHECK_EQ(twill_queue_try_select(many, 17, TWILL_SELECT_FAIR, &chosen), TWILL_NO_MEMORY);
    faults_fail_alloc(0);
    CHECK_EQ(twill_queue_try_select(many, 17, TWILL_SELECT_FAIR, &chosen), TWILL_EMPTY);
    push(queue, 4);
    CHECK_EQ(twill_queue_try_select(many, 17, TWILL_SELECT_FAIR, NULL), TWILL_OK);
    CHECK_EQ(x, 4);
    twill_queue_destroy(queue);
}

/* A push by select is what a push is: dropped, refused for its size, evicting. */
TEST(select_pushes_by_the_policy)
{
    twill_queue_options options = {
        .capacity = 1, .bytes_of = as_bytes, .max_bytes = 10, .drop = note_drop};
    const struct {
        twill_overflow overflow;
        twill_status status;
        int dropped, left;
    } row[] = {{TWILL_OVERFLOW_DROP_INCOMING, TWILL_DROPPED, 2, 1},
               {TWILL_OVERFLOW_DROP_OLDEST, TWILL_OK, 1, 2},
               {TWILL_OVERFLOW_REJECT, TWILL_FULL, 0, 1}};
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        options.overflow = row[k].overflow;
        twill_queue *queue = queue_of(options);
        int x = 2, large = 11;
        size_t chosen = 9;
        twill_queue_case cases[] = {{.queue = NULL},
                                    {.queue = queue, .push = true, .item = &x},
                                    {.queue = queue, .push = true, .item = &large},
                                    {.queue = queue, .push = true, .item = &x}};
        push(queue, 1);
        CHECK_EQ(twill_queue_try_select(cases, 2, TWILL_SELECT_IN_ORDER, &chosen), row[k].status);
        CHECK_EQ(chosen, row[k].status == TWILL_FULL ? 9 : 1);
        CHECK_EQ(atomic_load(&drop_count), row[k].dropped != 0);
        if (row[k].dropped)
            CHECK_EQ(drops[0], row[k].dropped);
        for (size_t n = 3; n <= 4; n++) {
            CHECK_EQ(twill_queue_try_select(cases, n, TWILL_SELECT_IN_ORDER, &chosen),
                     TWILL_TOO_BIG);
            CHECK_EQ(chosen, 2);
        }
        CHECK_EQ(pop(queue), row[k].left);
        CHECK(balanced(queue));
        twill_queue_destroy(queue);
    }
}

static twill_queue *chosen_inside;
static twill_status select_inside[3];

static void drop_selects(void *item, twill_status why, const twill_task *task)
{
    twill_queue_case one = {.queue = chosen_inside, .item = item}, two[2] = {one, one};
    size_t chosen;
    (void)why;
    (void)task;
    while (twill_queue_try_pop(chosen_inside, item) == TWILL_OK) {}
    select_inside[0] =
        twill_queue_select_until(&one, 1, TWILL_SELECT_FAIR, &chosen, (twill_until){0, NULL});
    select_inside[1] = twill_queue_try_select(&one, 1, TWILL_SELECT_FAIR, &chosen);
    select_inside[2] =
        twill_queue_select_until(two, 2, TWILL_SELECT_FAIR, &chosen, (twill_until){0, NULL});
}

TEST(a_select_that_waits_inside_a_callback_is_a_deadlock)
{
    chosen_inside = queue_of((twill_queue_options){
        .capacity = 1, .overflow = TWILL_OVERFLOW_DROP_OLDEST, .drop = drop_selects});
    push(chosen_inside, 1);
    CHECK_EQ(push(chosen_inside, 2), TWILL_OK);
    CHECK_EQ(select_inside[0], TWILL_DEADLOCK);
    CHECK_EQ(select_inside[1], TWILL_EMPTY);
    CHECK_EQ(select_inside[2], TWILL_DEADLOCK);
    CHECK_EQ(stats_of(chosen_inside).waiting_pop, 0);
    CHECK(balanced(chosen_inside));
    CHECK_EQ(twill_queue_destroy(chosen_inside), TWILL_OK);
}

static void choose_one(actor *me)
{
    twill_queue_case cases[] = {{.queue = chosen_inside, .item = &me->item},
                                {.queue = me->queue, .item = &me->item}};
    me->status = twill_queue_select_until(cases, 2, TWILL_SELECT_IN_ORDER, &me->moved, me->until);
}

/* One queue has failed; the other one's end is the last. */
TEST(select_remembers_a_failed_queue)
{
    for (int fired = 0; fired < 2; fired++) {
        twill_queue *b = queue_of((twill_queue_options){.capacity = 1});
        actor who = {.item = 0};
        twill_cancel token;
        twill_cancel_init(&token, NULL);
        who.until = twill_until_cancelled(&token);
        chosen_inside = queue_of((twill_queue_options){.capacity = 1});
        CHECK_EQ(twill_queue_fail(chosen_inside, 3), TWILL_OK);
        go(&who, choose_one, b);
        until_waiting(b, 0, 1);
        if (fired)
            twill_cancel_fire(&token, 1);
        else
            twill_queue_close(b);
        join(&who);
        CHECK_EQ(who.status, fired ? TWILL_CANCELLED : TWILL_FAILED);
        twill_cancel_detach(&token);
        twill_queue_destroy(b);
        twill_queue_destroy(chosen_inside);
    }
}

typedef struct chooser {
    actor actor; /* first */
    twill_queue *queue[20];
    size_t n;
    bool push;
    int sum, count;
} chooser;

static void choose(actor *me_)
{
    chooser *me = (chooser *)(void *)me_;
    twill_queue_case cases[20];
    int item = 1;
    size_t chosen;
    for (size_t k = 0; k < me->n; k++)
        cases[k] = (twill_queue_case){.queue = me->queue[k], .push = me->push, .item = &item};
    for (int k = 0; !me->push || k < me_->item; k++) {
        me_->status =
            twill_queue_select_until(cases, me->n, TWILL_SELECT_FAIR, &chosen,
                                     k % 5 ? (twill_until){0} : twill_within(TWILL_US(9)));
        if (me_->status == TWILL_TIMEOUT) {
            k -= me->push;
            continue;
        }
        if (me_->status != TWILL_OK)
            return;
        me->sum += item;
        me->count++;
    }
}

static void select_ledger(size_t capacity, size_t n)
{
    static chooser from[3], to[3];
    twill_queue *queue[20];
    int sent = 0, got = 0;
    memset(from, 0, sizeof from);
    memset(to, 0, sizeof to);
    for (size_t k = 0; k < n; k++)
        queue[k] = queue_of((twill_queue_options){.capacity = capacity});
    for (int k = 0; k < 3; k++) {
        memcpy(from[k].queue, queue, sizeof queue);
        memcpy(to[k].queue, queue, sizeof queue);
        from[k].n = to[k].n = n;
        from[k].push = true;
        from[k].actor.item = 1500;
        go(&to[k].actor, choose, NULL);
        go(&from[k].actor, choose, NULL);
    }
    for (int k = 0; k < 3; k++) {
        join(&from[k].actor);
        CHECK_EQ(from[k].actor.status, TWILL_OK);
        sent += from[k].count;
    }
    for (size_t k = 0; k < n; k++)
        CHECK_EQ(twill_queue_close(queue[k]), TWILL_OK);
    for (int k = 0; k < 3; k++) {
        join(&to[k].actor);
        CHECK_EQ(to[k].actor.status, TWILL_CLOSED);
        got += to[k].sum;
    }
    CHECK_EQ(sent, 4500);
    CHECK_EQ(got, 4500);
    for (size_t k = 0; k < n; k++) {
        CHECK(balanced(queue[k]));
        twill_queue_destroy(queue[k]);
    }
    CHECK_EQ(faults_live(), 0);
}

TEST(select_ledger_of_two)
{
    select_ledger(1, 2);
}
TEST(select_ledger_of_a_rendezvous)
{
    select_ledger(TWILL_RENDEZVOUS, 2);
}
TEST(select_ledger_of_twenty)
{
    select_ledger(2, 20);
}

/* ---- fork ---- */

TEST(a_forked_child_is_told)
{
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 2});
    twill_queue_stats stats;
    int item = 1, status = 0;
    push(queue, 1);
    pid_t child = fork();
    if (child == 0) {
        size_t chosen;
        twill_queue_case one = {.queue = queue, .item = &item};
        CHECK_EQ(twill_queue_push(queue, &item), TWILL_FORKED);
        CHECK_EQ(twill_queue_pop(queue, &item), TWILL_FORKED);
        CHECK_EQ(twill_queue_close(queue), TWILL_FORKED);
        CHECK_EQ(twill_queue_join(queue), TWILL_FORKED);
        CHECK_EQ(twill_queue_try_select(&one, 1, TWILL_SELECT_FAIR, &chosen), TWILL_FORKED);
        CHECK_EQ(twill_queue_destroy(queue), TWILL_FORKED);
        CHECK_EQ(twill_queue_clear(queue), 0);
        twill_queue_get_stats(queue, &stats);
        CHECK_EQ(stats.accepted, 0);
        twill_queue_abandon(queue);
        CHECK_EQ(faults_live(), 0);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    twill_queue_abandon(queue); /* not forked: nothing */
    static _Alignas(64) char memory[4096];
    twill_queue *mine = queue_of(
        (twill_queue_options){.capacity = 2, .memory = memory, .memory_bytes = sizeof memory});
    child = fork();
    if (child == 0) {
        twill_queue_abandon(mine); /* the memory is its owner's */
        CHECK_EQ(twill_queue_length(mine), 0);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK_EQ(twill_queue_destroy(mine), TWILL_OK);
    CHECK_EQ(pop(queue), 1);
    twill_queue_destroy(queue);
}

/* A callback forks while the lock is held (by itself, in the place of another thread): in the child
   it stays locked, and nothing of the queue may be waited for, nor any item run. */
#if HARNESS_FORKS
extern unsigned alarm(unsigned seconds);

static pid_t forked;
static twill_queue *fork_queue;

/* Ends a forked child, for which the thread sanitizer would tell of the parent's threads that were
   over, and not joined yet. */
static void leave_child(int status)
{
#ifdef TWILL__UNDER_TSAN
    (void)syscall(SYS_exit_group, status);
#endif
    _exit(status);
}

static void fork_once(void)
{
    if (forked == 0)
        _exit(2); /* nothing is run in the child */
    if (forked > 0)
        return;
    twill__queue_lock(fork_queue);
    forked = fork();
    if (forked == 0)
        alarm(20); /* instead of a hang */
    else
        twill__light_unlock(&fork_queue->lock);
}

static void drop_and_fork(void *item, twill_status why, const twill_task *task)
{
    note_drop(item, why, task);
    fork_once();
}

static void the_child_has_ended(void)
{
    int status = -1;
    CHECK(forked > 0);
    CHECK_EQ(waitpid(forked, &status, 0), forked);
    CHECK_EQ(status, 0);
}

static twill_status call_that_drops(int which, twill_queue *queue, twill_queue *other)
{
    int items[] = {1, 2, 3, 4}, got;
    twill_queue_case cases[] = {{.queue = other, .item = &got},
                                {.queue = queue, .push = true, .item = items}};
    switch (which) {
    case 0:
        return twill_queue_push(queue, items);
    case 1:
        return twill_queue_push_many_until(queue, items, 4, NULL, (twill_until){0, NULL});
    case 2:
        return twill_queue_select_until(cases, 2, TWILL_SELECT_IN_ORDER, NULL,
                                        (twill_until){0, NULL});
    default:
        (void)twill_queue_clear(queue);
        return twill_queue_push(queue, items);
    }
}

TEST(a_drop_forks)
{
    for (int which = 0; which < 4; which++) {
        pid_t self = getpid();
        twill_queue *other = queue_of((twill_queue_options){.capacity = 2});
        twill_queue *queue = queue_of((twill_queue_options){
            .capacity = 2, .overflow = TWILL_OVERFLOW_DROP_OLDEST, .drop = drop_and_fork});
        twill_status status;
        forked = -1;
        fork_queue = queue;
        push(queue, 7);
        push(queue, 8);
        status = call_that_drops(which, queue, other);
        if (getpid() != self)
            leave_child(status == TWILL_FORKED ? 0 : 1);
        CHECK_EQ(status, TWILL_OK);
        the_child_has_ended();
        CHECK(balanced(queue));
        CHECK_EQ(twill_queue_destroy(other), TWILL_OK);
        CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
    }
}

static void level_and_fork(bool high, size_t length, const twill_task *task)
{
    (void)high, (void)length, (void)task;
    fork_once();
}

static void drop_and_end_in_the_child(void *item, twill_status why, const twill_task *task)
{
    drop_and_fork(item, why, task);
    if (forked == 0)
        end_thread();
}

/* A push, which tells the level; a pop, which drops what is too old; and a drop whose thread ends
   in the child. */
TEST(other_callbacks_of_a_queue_fork)
{
    static const twill_queue_options options[] = {
        {.capacity = 3, .on_level = level_and_fork, .high_mark = 1},
        {.capacity = 3, .max_age = 1, .drop = drop_and_fork},
        {.capacity = 1, .overflow = TWILL_OVERFLOW_DROP_OLDEST, .drop = drop_and_end_in_the_child}};
#ifdef TWILL__UNDER_TSAN
    const size_t ways = 2; /* the only thread of a forked child cannot end there */
#else
    const size_t ways = 3;
#endif
    for (size_t which = 0; which < ways; which++) {
        pid_t self = getpid();
        int item = 5;
        twill_status status;
        twill_queue *queue = fork_queue = queue_of(options[which]);
        forked = -1;
        if (which > 0)
            push(queue, 7);
        status = which == 1 ? twill_queue_try_pop(queue, &item) : twill_queue_push(queue, &item);
        if (getpid() != self)
            leave_child(status == (which == 0 ? TWILL_OK : TWILL_FORKED) ? 0 : 1);
        CHECK_EQ(status, which == 1 ? TWILL_EMPTY : TWILL_OK);
        the_child_has_ended();
        CHECK(balanced(queue));
        CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
    }
}

/* In the child a call around the callback says FORKED, and neither waits nor calls. */
static void after_fork(pid_t self, twill_status status, twill_status expected)
{
    if (getpid() != self)
        leave_child(status == TWILL_FORKED ? 0 : 1);
    CHECK_EQ(status, expected);
    the_child_has_ended();
}

static void drop_second_and_fork(void *item, twill_status why, const twill_task *task)
{
    note_drop(item, why, task);
    if (atomic_load(&drop_count) == 2)
        fork_once();
}

/* Among many that have a size of their own, after the first one was dropped. */
TEST(a_drop_among_many_forks)
{
    for (int big = 0; big < 2; big++) {
        pid_t self = getpid();
        const int items[] = {1, 2, big ? 9 : 3, 4};
        size_t count = 0;
        twill_queue *queue =
            queue_of((twill_queue_options){.capacity = 1,
                                           .overflow = TWILL_OVERFLOW_DROP_INCOMING,
                                           .bytes_of = as_bytes,
                                           .max_bytes = 8,
                                           .drop = drop_second_and_fork});
        twill_status status;
        forked = -1;
        fork_queue = queue;
        status = twill_queue_push_many_until(queue, items, 4, &count, (twill_until){0, NULL});
        after_fork(self, status, TWILL_DROPPED);
        CHECK_EQ(count, 1);
        CHECK_EQ(atomic_load(&drop_count), 3);
        CHECK(balanced(queue));
        CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
    }
}

static int fork_at_high;

static void empty_and_fork(bool high, size_t length, const twill_task *task)
{
    int item;
    (void)length, (void)task;
    if (high && --fork_at_high == 0)
        fork_once();
    while (high && forked != 0 && twill_queue_try_pop(fork_queue, &item) == TWILL_OK)
        CHECK(item <= 6);
}

/* Six are pushed into a queue for two: the level is told before a moment outside the lock, and then
   by a call that waits in line. */
TEST(a_level_callback_forks_before_a_wait)
{
    for (int high = 1; high <= 2; high++) {
        pid_t self = getpid();
        const int items[] = {1, 2, 3, 4, 5, 6};
        size_t count = 0;
        twill_queue *queue = queue_of((twill_queue_options){.capacity = 2,
                                                            .on_level = empty_and_fork,
                                                            .high_mark = 2,
                                                            .low_mark = 0,
                                                            .engine = TWILL_ENGINE_LOCK});
        twill_status status;
        forked = -1;
        fork_at_high = high;
        fork_queue = queue;
        status = twill_queue_push_many_until(queue, items, 6, &count, (twill_until){0, NULL});
        after_fork(self, status, TWILL_OK);
        CHECK_EQ(count, 6);
        CHECK(balanced(queue));
        CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
    }
}

/* A producer joins, and consumes since CALLER_RUNS says so; what it finds is too old, and its drop
   forks. */
static atomic_int relief_consumes, relief_goes_on;

static void drop_and_fork_later(void *item, twill_status why, const twill_task *task)
{
    note_drop(item, why, task);
    if (atomic_load(&relief_consumes)) {
        fork_once();
        atomic_store(&relief_goes_on, 1);
    }
}

static int produce_and_join(twill_queue *queue, const twill_task *task)
{
    int item = 1;
    (void)task;
    fork_queue = queue;
    for (twill_ns nap = 100; !atomic_load(&relief_consumes); nap *= 2) {
        int before = atomic_load(&drop_count); /* a consumer who does not wait in line drops it */
        if (twill_queue_push(queue, &item) != TWILL_OK)
            return 1;
        while (!atomic_load(&relief_consumes) && atomic_load(&drop_count) == before)
            twill__yield();
        (void)twill_sleep(twill_within(nap));
    }
    if (twill_queue_push(queue, &item) != TWILL_OK)
        return 2;
    (void)twill_sleep(twill_within(10));
    return twill_queue_join(queue) == TWILL_OK ? 0 : 3;
}

static int consume_until_forked(void *item, const twill_task *task)
{
    (void)item, (void)task;
    atomic_store(&relief_consumes, 1);
    while (!atomic_load(&relief_goes_on))
        twill__yield();
    return 0;
}

TEST(a_drop_forks_in_relief)
{
    pid_t self = getpid();
    twill_status status;
    forked = -1;
    atomic_store(&drop_count, 0);
    atomic_store(&relief_consumes, 0);
    atomic_store(&relief_goes_on, 0);
    status = twill_produce_consume(
        sizeof(int), produce_and_join, consume_until_forked,
        &(twill_produce_consume_options){.run.workers = 1,
                                         .queue.capacity = 4,
                                         .queue.max_age = 1,
                                         .queue.overflow = TWILL_OVERFLOW_CALLER_RUNS,
                                         .queue.drop = drop_and_fork_later});
    after_fork(self, status, TWILL_OK);
}

static void fork_when_low(bool high, size_t length, const twill_task *task)
{
    (void)length, (void)task;
    if (!high)
        fork_once();
}

/* A pop that finds nothing tells that an expired item has made it low, before its moment. */
TEST(a_level_callback_forks_before_a_pop_waits)
{
    pid_t self = getpid();
    int item = 3;
    twill_queue *queue = queue_of((twill_queue_options){
        .capacity = 2, .on_level = fork_when_low, .high_mark = 1, .low_mark = 0, .max_age = 1});
    twill_status status;
    forked = -1;
    fork_queue = queue;
    push(queue, item);
    (void)twill_sleep(twill_within(TWILL_US(1)));
    status = twill_queue_pop_until(queue, &item, twill_within(TWILL_MS(2)));
    if (getpid() != self &&
        status == TWILL_TIMEOUT) /* it had no time to wait: it is told at the end */
        leave_child(0);
    after_fork(self, status, TWILL_TIMEOUT);
    CHECK(balanced(queue));
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
}

static size_t bytes_and_fork(const void *item, const twill_task *task)
{
    fork_once();
    return as_bytes(item, task);
}

static int value_and_fork(const void *item, const twill_task *task)
{
    fork_once();
    return by_value(item, task);
}

TEST(a_look_at_an_item_forks)
{
    for (int which = 0; which < 4; which++) {
        pid_t self = getpid();
        const int item = which == 3 ? 9 : 3;
        twill_queue_options options = {.order = TWILL_ORDER_PRIORITY,
                                       .priority_of = value_and_fork};
        twill_queue *queue;
        if (which % 2) { /* and what is too big has no priority */
            options.priority_of = by_value;
            options.bytes_of = bytes_and_fork;
            options.max_bytes = 8;
        }
        queue = queue_of(options);
        twill_queue_case one = {.queue = queue, .push = true, .item = (void *)(uintptr_t)&item};
        forked = -1;
        fork_queue = queue;
        after_fork(self,
                   which < 2 ? twill_queue_push(queue, &item)
                             : twill_queue_try_select(&one, 1, TWILL_SELECT_FAIR, NULL),
                   which == 3 ? TWILL_TOO_BIG : TWILL_OK);
        CHECK_EQ(twill_queue_length(queue), which != 3);
        CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
    }
}

static bool fork_high;

static void level_forks(bool high, size_t length, const twill_task *task)
{
    (void)length;
    (void)task;
    if (high == fork_high)
        fork_once();
}

/* An item that is too old goes, and the level with it. */
TEST(a_level_forks_in_a_select)
{
    pid_t self = getpid();
    int items[2];
    twill_queue *queue = queue_of((twill_queue_options){
        .capacity = 2, .max_age = 1, .on_level = level_forks, .high_mark = 1}); /* ns */
    twill_queue *other = queue_of((twill_queue_options){.capacity = 2});
    twill_queue_case cases[] = {{.queue = queue, .item = &items[0]},
                                {.queue = other, .item = &items[1]}};
    forked = -1;
    fork_high = false;
    fork_queue = queue;
    push(queue, 7);
    after_fork(self, twill_queue_try_select(cases, 2, TWILL_SELECT_IN_ORDER, NULL), TWILL_EMPTY);
    CHECK_EQ(stats_of(queue).expired, 1);
    CHECK_EQ(twill_queue_destroy(other), TWILL_OK);
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
}

static void push_behind(actor *me)
{
    until_waiting(me->queue, 1, 0);
    push_one(me);
}

static void fire_behind(actor *me)
{
    until_waiting(me->queue, 2, 0);
    twill_cancel_fire(me->until.cancel, 1);
}

/* It leaves a line, and lets in who stood behind it. */
TEST(a_level_forks_as_a_select_gives_up)
{
    pid_t self = getpid();
    int item = 9, got;
    twill_cancel token = {0};
    actor behind = {.item = 3}, firing = {.until = {0, &token}};
    twill_queue *queue = queue_of((twill_queue_options){.capacity = 4,
                                                        .bytes_of = as_bytes,
                                                        .max_bytes = 12,
                                                        .on_level = level_forks,
                                                        .high_mark = 2});
    twill_queue *other = queue_of((twill_queue_options){.capacity = 2});
    twill_queue_case cases[] = {{.queue = queue, .push = true, .item = &item},
                                {.queue = other, .item = &got}};
    twill_status status;
    forked = -1;
    fork_high = true;
    fork_queue = queue;
    push(queue, 5);
    go(&behind, push_behind, queue);
    go(&firing, fire_behind, queue);
    status = twill_queue_select_until(cases, 2, TWILL_SELECT_IN_ORDER, NULL,
                                      twill_until_cancelled(&token));
    after_fork(self, status, TWILL_CANCELLED);
    join(&behind);
    join(&firing);
    CHECK_EQ(behind.status, TWILL_OK);
    CHECK_EQ(stats_of(other).waiting_pop, 0);
    CHECK_EQ(twill_queue_length(queue), 2);
    twill_cancel_detach(&token);
    CHECK_EQ(twill_queue_destroy(other), TWILL_OK);
    CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
}

/* Its deadline is the instant from which on the item in its way is too old: it has waited, looks
   once more, and drops it. */
static void drop_and_shut(void *item, twill_status why, const twill_task *task)
{
    note_drop(item, why, task);
    twill_queue_close(fork_queue);
}

TEST(the_last_look_of_a_select)
{
    for (int closes = 0; closes < 2; closes++) {
        pid_t self = getpid();
        int item = 2;
        twill_queue *queue = queue_of((twill_queue_options){
            .capacity = 1, .max_age = TWILL_MS(2), .drop = closes ? drop_and_shut : drop_and_fork});
        twill_queue_case one = {.queue = queue, .push = true, .item = &item};
        twill_until until = {0, NULL};
        twill_status status;
        forked = -1;
        fork_queue = queue;
        push(queue, 1);
        until.deadline = twill__queue_expiry(queue, TWILL__OLDEST);
        status = twill_queue_select_until(&one, 1, TWILL_SELECT_FAIR, NULL, until);
        if (closes)
            CHECK_EQ(status, TWILL_CLOSED);
        else
            after_fork(self, status, TWILL_OK);
        CHECK_EQ(stats_of(queue).expired, 1);
        CHECK_EQ(twill_queue_destroy(queue), TWILL_OK);
    }
}

/* In line before one queue, it drops an item of another one: that forks, and ends its thread there,
   or returns; or it pushes to the first queue, which answers, and ends its thread. */
enum in_line { LINE_CHILD_ENDS, LINE_CHILD_RETURNS, LINE_ANSWERED };
static enum in_line in_line;
static twill_queue *lines[3];
static twill_ns drop_waits_until;

static void drop_and_wait(void *item, twill_status why, const twill_task *task)
{
    note_drop(item, why, task);
    (void)twill_sleep((twill_until){drop_waits_until, NULL});
}

static void drop_in_line(void *item, twill_status why, const twill_task *task)
{
    if (in_line == LINE_ANSWERED)
        CHECK_EQ(push(lines[0], 7), TWILL_OK);
    else
        drop_and_fork(item, why, task);
    if (in_line == LINE_ANSWERED || (in_line == LINE_CHILD_ENDS && forked == 0))
        end_thread();
}

static void select_three(actor *me)
{
    pid_t self = getpid();
    int items[3] = {0, 2, 0};
    twill_queue_case cases[] = {{.queue = lines[0], .item = &items[0]},
                                {.queue = lines[1], .push = true, .item = &items[1]},
                                {.queue = lines[2], .item = &items[2]}};
    me->status = twill_queue_select_until(cases, 3, TWILL_SELECT_IN_ORDER, NULL, me->until);
    if (getpid() != self)
        leave_child(me->status == TWILL_FORKED ? 0 : 1);
}

static void drop_while_in_line(enum in_line way)
{
    actor who = {.status = TWILL_EMPTY};
    in_line = way;
    lines[0] = queue_of((twill_queue_options){.capacity = 2});
    lines[1] = queue_of(
        (twill_queue_options){.capacity = 1, .max_age = TWILL_MS(10), .drop = drop_in_line});
    lines[2] = /* what is too old here takes until that is too old, too: they are all waited for */
        queue_of((twill_queue_options){.capacity = 1, .max_age = 1, .drop = drop_and_wait});
    forked = -1;
    fork_queue = lines[0];
    push(lines[2], 1);
    push(lines[1], 1);
    drop_waits_until = twill__queue_expiry(lines[1], TWILL__OLDEST);
    go(&who, select_three, lines[0]);
    join(&who);
    CHECK_EQ(who.status, way == LINE_ANSWERED ? TWILL_EMPTY : TWILL_OK);
    if (way != LINE_ANSWERED)
        the_child_has_ended();
    for (int k = 0; k < 3; k++) {
        CHECK_EQ(stats_of(lines[k]).waiting_pop + stats_of(lines[k]).waiting_push, 0);
        CHECK(balanced(lines[k]));
        in_line = LINE_CHILD_RETURNS;
        forked = 1;
        CHECK_EQ(twill_queue_destroy(lines[k]), TWILL_OK);
    }
}

TEST(a_select_in_line_drops_and_forks)
{
    drop_while_in_line(LINE_CHILD_RETURNS);
}

TEST(a_select_in_line_is_answered_and_ends)
{
    drop_while_in_line(LINE_ANSWERED);
}

TEST(a_select_in_line_ends_in_a_child)
{
#if defined __SANITIZE_ADDRESS__ || defined TWILL__UNDER_TSAN
    SKIP("a sanitizer looks at a child whose last thread ends");
#endif
    drop_while_in_line(LINE_CHILD_ENDS);
}

typedef struct forking { /* of the call */
    int at;              /* the item; -1: the producer does it */
    bool fails;          /* it fails, and its dead letter forks */
    bool selects;        /* the producer pushes by select */
    bool joins;          /* it joins, and so consumes */
    int seen[40];
} forking;

static int produce_40(twill_queue *queue, const twill_task *task)
{
    const forking *f = task->context;
    fork_queue = queue;
    for (int i = 0; i < 40; i++) {
        twill_queue_case one = {.queue = queue, .push = true, .item = &i};
        twill_status status = f->selects ? twill_queue_select_until(&one, 1, TWILL_SELECT_FAIR,
                                                                    NULL, (twill_until){0, NULL})
                                         : twill_queue_push(queue, &i);
        if (status != TWILL_OK)
            return (int)status;
        if (i == 20 && f->at < 0) {
            fork_once();
            if (forked == 0)
                return 0;
        }
    }
    return f->joins ? (int)twill_queue_join(queue) : 0;
}

static int consume_one(void *item, const twill_task *task)
{
    forking *f = task->context;
    int i = *(int *)item;
    if ((i == f->at && !f->fails) || forked == 0)
        fork_once();
    f->seen[i]++;
    return i == f->at && f->fails;
}

static void bury_one(void *item, int code, const twill_task *task)
{
    (void)item, (void)code, (void)task;
    fork_once();
}

static void spare_one(void *item, twill_status why, const twill_task *task)
{
    (void)item, (void)task;
    CHECK_EQ(why, TWILL_CANCELLED);
    fork_once();
}

TEST(a_callback_of_the_call_forks)
{
    /* the caller alone: while it relieves the queue; after that; in the producer; in a dead letter;
       while it relieves it in a select, or in a join; in the drop of an item in its hand */
    enum how { PLAIN, FAILS, SELECTS, JOINS, SPARES };
    static const struct {
        int at;
        size_t capacity, batch;
        enum how how;
    } ways[] = {{10, 4, 0, PLAIN},   {10, 100, 0, PLAIN}, {10, 100, 8, PLAIN}, {39, 4, 0, PLAIN},
                {-1, 4, 0, PLAIN},   {-1, 100, 0, PLAIN}, {10, 100, 8, FAILS}, {10, 4, 0, SELECTS},
                {10, 100, 0, JOINS}, {10, 100, 8, SPARES}};
    for (size_t k = 0; k < sizeof ways / sizeof ways[0]; k++) {
        pid_t self = getpid();
        long live = faults_live();
        enum how how = ways[k].how;
        bool fails = how == FAILS || how == SPARES;
        forking f = {
            .at = ways[k].at, .fails = fails, .selects = how == SELECTS, .joins = how == JOINS};
        twill_status status;
        forked = -1;
        faults_fail_thread(1);
        status = twill_produce_consume(
            sizeof(int), produce_40, consume_one,
            &(twill_produce_consume_options){.run.workers = 1,
                                             .run.context = &f,
                                             .run.on_error = how == FAILS ? TWILL_ON_ERROR_COLLECT
                                                                          : TWILL_ON_ERROR_DEFAULT,
                                             .batch = ways[k].batch,
                                             .dead_letter = how == SPARES ? NULL : bury_one,
                                             .queue = {.capacity = ways[k].capacity,
                                                       .engine = TEST_ENGINE,
                                                       .drop = how == SPARES ? spare_one : NULL}});
        faults_fail_thread(0);
        if (getpid() != self)
            leave_child(status == TWILL_FORKED && faults_live() == live ? 0 : 1);
        CHECK_EQ(status, fails ? TWILL_FAILED : TWILL_OK);
        the_child_has_ended();
        for (int i = 0; i < 40; i++)
            CHECK_EQ(f.seen[i], how != SPARES || i <= f.at);
    }
}
#endif

/* ---- the last numbers of size_t ---- */

static int produce_the_last(twill_queue *queue, const twill_task *task)
{
    twill__queue_turn turn;
    (void)task;
    twill__queue_enter(queue, &turn);
    queue->store.next = (uint64_t)SIZE_MAX - 3;
    twill__queue_exit(queue, &turn);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(twill_queue_push(queue, &i), TWILL_OK);
    return 0;
}

static int count_one(void *item, const twill_task *task)
{
    (void)item;
    atomic_fetch_add((atomic_int *)task->context, 1);
    return 0;
}

static void drop_none(void *item, twill_status why, const twill_task *task)
{
    (void)item, (void)why, (void)task;
    CHECK(!"nothing is dropped");
}

TEST(items_are_consumed_where_numbers_end)
{
    atomic_int count = 0;
    twill_status status =
        twill_produce_consume(sizeof(int), produce_the_last, count_one,
                              &(twill_produce_consume_options){
                                  .run = {.workers = 1, .context = &count},
                                  .queue = {.engine = TWILL_ENGINE_LOCK, .drop = drop_none}});
    CHECK_EQ(status, TWILL_OK);
    CHECK_EQ(atomic_load(&count), 4);
}

/* ---- typed ---- */

typedef struct job {
    double a;
    char text[30];
} job;
TWILL_QUEUE(jobs, job)

TEST(typed_queues)
{
    twill_queue *queue;
    job out = {0, ""};
    CHECK_EQ(jobs_create(&queue, NULL), TWILL_OK);
    CHECK_EQ(jobs_push(queue, (job){1.5, "one"}), TWILL_OK);
    CHECK_EQ(jobs_try_push(queue, (job){2.5, "two"}), TWILL_OK);
    CHECK_EQ(jobs_push_until(queue, (job){3.5, "three"}, twill_within(0)), TWILL_OK);
    CHECK_EQ(jobs_pop(queue, &out), TWILL_OK);
    CHECK_STR(out.text, "one");
    CHECK_EQ(jobs_try_pop(queue, &out), TWILL_OK);
    CHECK_EQ(jobs_pop_until(queue, &out, twill_within(0)), TWILL_OK);
    CHECK_STR(out.text, "three");
    CHECK(out.a > 3.4);
    twill_queue_destroy(queue);
}

/* ---- the two engines ---- */

TEST(a_ring_where_it_serves)
{
    twill_queue *queue;
    twill_queue_options refused[] = {
        {.order = TWILL_ORDER_LIFO},
        {.overflow = TWILL_OVERFLOW_DROP_INCOMING},
        {.overflow = TWILL_OVERFLOW_DROP_NEWEST},
        {.max_age = TWILL_SEC(1)},
        {.capacity = TWILL_RENDEZVOUS},
        {.engine = (twill_queue_engine)3},
    };
    for (size_t k = 0; k < sizeof refused / sizeof refused[0]; k++) {
        if (!refused[k].engine)
            refused[k].engine = TWILL_ENGINE_RING;
        CHECK_EQ(twill_queue_create(&queue, 4, &refused[k]), TWILL_INVALID);
        CHECK_EQ(twill_queue_bytes(4, &refused[k]), 0);
        CHECK(!queue);
    }
    for (int engine = 0; engine < 3; engine++) {
        CHECK_EQ(twill_queue_create(&queue, 4,
                                    &(twill_queue_options){.engine = (twill_queue_engine)engine}),
                 TWILL_OK);
        CHECK_EQ(queue->ring.cells != NULL, engine != TWILL_ENGINE_LOCK);
        twill_queue_destroy(queue);
    }
}

typedef struct twin { /* the same calls on both engines: the lock is the oracle */
    twill_queue *queue[2];
    int next;
} twin;

static void twin_push(twin *twins, size_t capacity)
{
    int items[9];
    size_t n = 1 + test_random_below(9), moved[2] = {0, 0};
    unsigned how = (unsigned)test_random_below(4);
    twill_status status[2];
    for (size_t k = 0; k < n; k++)
        items[k] = twins->next + (int)k;
    for (int e = 0; e < 2; e++) {
        twill_queue *queue = twins->queue[e];
        if (how == 0)
            status[e] = twill_queue_try_push(queue, items);
        else if (how == 1)
            status[e] = twill_queue_push_until(queue, items, twill_within(0));
        else if (how == 2)
            status[e] = twill_queue_push_many_until(queue, items, n, &moved[e], twill_within(0));
        else
            status[e] = twill_queue_push_bulk_until(queue, items, n, twill_within(0));
        if (how != 2)
            moved[e] = status[e] ? 0 : how == 3 ? n : 1;
    }
    CHECK_EQ(status[0], status[1]);
    CHECK_EQ(moved[0], moved[1]);
    CHECK(twill_queue_length(twins->queue[0]) <= capacity);
    twins->next += (int)moved[0];
}

static void twin_pop(twin *twins)
{
    int items[2][9] = {{0}};
    size_t n = 1 + test_random_below(9), moved[2] = {0, 0};
    unsigned how = (unsigned)test_random_below(3);
    twill_status status[2];
    for (int e = 0; e < 2; e++) {
        twill_queue *queue = twins->queue[e];
        if (how == 0)
            status[e] = twill_queue_try_pop(queue, items[e]);
        else if (how == 1)
            status[e] = twill_queue_pop_until(queue, items[e], twill_within(0));
        else
            status[e] = twill_queue_pop_many_until(queue, items[e], n, &moved[e], twill_within(0));
    }
    CHECK_EQ(status[0], status[1]);
    CHECK_EQ(moved[0], moved[1]);
    CHECK(memcmp(items[0], items[1], sizeof items[0]) == 0);
}

TEST(items_of_any_size)
{
    for (int engine = TWILL_ENGINE_LOCK; engine <= TWILL_ENGINE_RING; engine++)
        for (size_t size = 1; size <= 33; size++) {
            unsigned char in[33], out[34];
            twill_queue *queue;
            CHECK_EQ(twill_queue_create(&queue, size,
                                        &(twill_queue_options){
                                            .capacity = 3, .engine = (twill_queue_engine)engine}),
                     TWILL_OK);
            for (int round = 0; round < 8; round++) {
                for (size_t k = 0; k < size; k++)
                    in[k] = (unsigned char)test_random();
                memset(out, 0x5a, sizeof out);
                CHECK_EQ(twill_queue_try_push(queue, in), TWILL_OK);
                CHECK_EQ(twill_queue_try_pop(queue, out), TWILL_OK);
                CHECK(memcmp(in, out, size) == 0 && out[size] == 0x5a);
            }
            twill_queue_destroy(queue);
        }
}

TEST(both_engines_say_the_same)
{
    static const size_t capacities[] = {1, 2, 3, 5, 8, 63, 64, 65, 1, 2, 5, 8};
    for (size_t k = 0; k < sizeof capacities / sizeof capacities[0]; k++) {
        twill_overflow overflow = k < 8 ? TWILL_OVERFLOW_BLOCK : TWILL_OVERFLOW_DROP_OLDEST;
        twin twins = {{NULL, NULL}, 0};
        for (int e = 0; e < 2; e++)
            CHECK_EQ(twill_queue_create(&twins.queue[e], sizeof(int),
                                        &(twill_queue_options){.capacity = capacities[k],
                                                               .overflow = overflow,
                                                               .engine = e ? TWILL_ENGINE_LOCK
                                                                           : TWILL_ENGINE_RING}),
                     TWILL_OK);
        for (int step = 0; step < 3000; step++) {
            if (test_random_below(2))
                twin_push(&twins, capacities[k]);
            else
                twin_pop(&twins);
            if (test_random_below(200) == 0)
                CHECK_EQ(twill_queue_clear(twins.queue[0]), twill_queue_clear(twins.queue[1]));
            if (step == 2900)
                CHECK_EQ(twill_queue_close(twins.queue[0]), twill_queue_close(twins.queue[1]));
            CHECK_EQ(twill_queue_length(twins.queue[0]), twill_queue_length(twins.queue[1]));
        }
        twill_queue_stats ring = stats_of(twins.queue[0]), lock = stats_of(twins.queue[1]);
        CHECK_EQ(ring.accepted, lock.accepted);
        CHECK_EQ(ring.popped, lock.popped);
        CHECK_EQ(ring.cleared, lock.cleared);
        CHECK_EQ(ring.rejected, lock.rejected);
        CHECK_EQ(ring.dropped, lock.dropped);
        CHECK_EQ(ring.dropped > 0, overflow == TWILL_OVERFLOW_DROP_OLDEST);
        CHECK(ring.peak <= lock.peak && lock.peak - ring.peak <= capacities[k] / 16);
        for (int e = 0; e < 2; e++) {
            CHECK(balanced(twins.queue[e]));
            CHECK_EQ(twill_queue_destroy(twins.queue[e]), TWILL_OK);
        }
    }
}

HARNESS_MAIN

/* test_rate_waiting.c - those who wait for a limiter or a bulkhead: order, deadlines, tokens,
   close, several limiters at once, forks, signals, and the rate on a real clock. */
#define _GNU_SOURCE
#define HARNESS_FAULTS
#include "harness.h"

#define TWILL_IMPLEMENTATION
#include "twill_rate_limiter.h"

#include <sys/time.h>

/* ---- kit ---- */

typedef struct caller { /* one call in a thread of its own */
    twill__thrd thread;
    void (*fn)(struct caller *me);
    twill_rate_limiter *limiter;
    twill_bulkhead *bulkhead;
    twill_until until;
    uint64_t n;
    twill_status status;
    int order; /* the how-manieth it was to return */
    twill_ns at;
} caller;

static atomic_int returned;

static void caller_main(void *arg)
{
    caller *me = arg;
    me->fn(me);
    me->at = twill_now();
    me->order = atomic_fetch_add(&returned, 1);
}

static void go(caller *me, void (*fn)(caller *me))
{
    memset(&me->thread, 0, sizeof me->thread);
    me->thread.fn = caller_main;
    me->thread.arg = me;
    me->thread.cpu = UINT_MAX;
    me->fn = fn;
    CHECK(twill__thread_start(&me->thread));
}

static void join(caller *me)
{
    twill__thread_join(&me->thread);
}

static void acquire(caller *me)
{
    me->status = twill_rate_limiter_acquire_until(me->limiter, me->n, me->until);
}

static void enter(caller *me)
{
    me->status = twill_bulkhead_enter_until(me->bulkhead, me->until);
}

static twill_rate_limiter_stats stats_of(twill_rate_limiter *limiter)
{
    twill_rate_limiter_stats stats;
    twill_rate_limiter_get_stats(limiter, &stats);
    return stats;
}

static void until_waiting(twill_rate_limiter *limiter, size_t waiting)
{
    while (stats_of(limiter).waiting != waiting)
        twill_sleep(twill_within(TWILL_US(100)));
}

static uint64_t bulkhead_waiting(twill_bulkhead *bulkhead)
{
    twill__bulkhead *me = twill__bulkhead_of(bulkhead);
    twill__bulkhead_lock(me);
    uint64_t waiting = me->waiting;
    twill__unlock(&me->lock);
    return waiting;
}

static void until_outside(twill_bulkhead *bulkhead, uint64_t waiting)
{
    while (bulkhead_waiting(bulkhead) != waiting)
        twill_sleep(twill_within(TWILL_US(100)));
}

/* One token, then none for a long time. */
static twill_rate_limiter slow(twill_rate_limiter_options options)
{
    twill_rate_limiter limiter;
    options.tokens = 1;
    options.per = TWILL_SEC(1000);
    options.counted = true;
    options.used = options.burst ? options.burst : 1;
    CHECK_EQ(twill_rate_limiter_init(&limiter, &options), TWILL_OK);
    return limiter;
}

/* ---- order ---- */

TEST(waiters_are_served_as_they_came)
{
    twill_rate_limiter limiter = slow((twill_rate_limiter_options){.burst = 8});
    caller who[6] = {0};
    atomic_store(&returned, 0);
    for (int k = 0; k < 6; k++) {
        who[k].limiter = &limiter;
        who[k].n = 1;
        go(&who[k], acquire);
        until_waiting(&limiter, (size_t)k + 1);
    }
    CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, 1), TWILL_EMPTY);
    CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, 9), TWILL_TOO_BIG);
    for (int k = 0; k < 6; k++) {
        twill_rate_limiter_give_back(&limiter, 1);
        join(&who[k]);
        CHECK_EQ(who[k].status, TWILL_OK);
        CHECK_EQ(who[k].order, k);
    }
    twill_rate_limiter_stats stats = stats_of(&limiter);
    CHECK_EQ(stats.waiting_peak, 6);
    CHECK_EQ(stats.granted, 6);
    CHECK(stats.waited > 0);
}

TEST(who_gives_up_takes_nothing)
{
    twill_rate_limiter limiter = slow((twill_rate_limiter_options){.burst = 8});
    twill_cancel token[6] = {{{0}}};
    caller who[6] = {0};
    for (int k = 0; k < 6; k++) {
        who[k].limiter = &limiter;
        who[k].n = k == 0 ? 5 : 1;
        who[k].until.cancel = &token[k];
        go(&who[k], acquire);
        until_waiting(&limiter, (size_t)k + 1);
    }
    twill_cancel_fire(&token[3], 1); /* in the middle */
    join(&who[3]);
    CHECK_EQ(who[3].status, TWILL_CANCELLED);
    twill_rate_limiter_give_back(&limiter, 4); /* the head wants 5: the others wait behind it */
    CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, 1), TWILL_EMPTY);
    CHECK_EQ(stats_of(&limiter).waiting, 5);
    twill_cancel_fire(&token[0], 1); /* the head: those behind it move up at once */
    for (int k = 0; k < 6; k++)
        if (k != 3)
            join(&who[k]);
    CHECK_EQ(who[0].status, TWILL_CANCELLED);
    CHECK_EQ(who[1].status, TWILL_OK);
    CHECK_EQ(who[5].status, TWILL_OK);
    CHECK_EQ(twill_rate_limiter_available(&limiter), 0);
    twill_rate_limiter_stats stats = stats_of(&limiter);
    CHECK_EQ(stats.granted, 4);
    CHECK_EQ(stats.cancelled, 2);
    CHECK_EQ(stats.waiting, 0);
}

TEST(what_stands_in_front_is_reckoned)
{
    twill_rate_limiter limiter; /* a token each 100 s */
    CHECK_EQ(twill_rate_limiter_init(
                 &limiter, &(twill_rate_limiter_options){.tokens = 1, .per = TWILL_SEC(100)}),
             TWILL_OK);
    CHECK_EQ(twill_rate_limiter_acquire(&limiter, 1), TWILL_OK);
    twill_cancel token = {0};
    caller who[3] = {0};
    for (int k = 0; k < 3; k++) {
        who[k].limiter = &limiter;
        who[k].n = 1;
        who[k].until.cancel = &token;
        go(&who[k], acquire);
        until_waiting(&limiter, (size_t)k + 1);
    }
    twill_ns begun = twill_now();
    CHECK_EQ(twill_rate_limiter_acquire_until(&limiter, 1, twill_within(TWILL_SEC(350))),
             TWILL_TIMEOUT);
    CHECK(twill_now() - begun < TWILL_SEC(100));
    twill_ns wait = twill_rate_limiter_wait_time(&limiter, 1);
    CHECK(wait > TWILL_SEC(340) && wait <= TWILL_SEC(400));
    twill_reservation reservation;
    CHECK_EQ(twill_rate_limiter_reserve(&limiter, 1, TWILL_FOREVER, &reservation), TWILL_BUSY);
    CHECK_EQ(twill_rate_limiter_available(&limiter), 0);
    twill_cancel_fire(&token, 1);
    for (int k = 0; k < 3; k++) {
        join(&who[k]);
        CHECK_EQ(who[k].status, TWILL_CANCELLED);
    }
    CHECK_EQ(twill_rate_limiter_reserve(&limiter, 1, TWILL_FOREVER, &reservation), TWILL_OK);
}

/* In a window of one each of those in front takes a window of its own. */
TEST(windows_of_those_in_front_are_reckoned)
{
    static const twill_ns pers[] = {TWILL_SEC(1000), TWILL_FOREVER - 1};
    for (size_t p = 0; p < sizeof pers / sizeof *pers; p++) {
        twill_ns starts[2], wait;
        twill_rate_limiter limiter;
        twill_cancel token = {0};
        caller who[3] = {0};
        CHECK_EQ(twill_rate_limiter_init(&limiter,
                                         &(twill_rate_limiter_options){.tokens = 1,
                                                                       .used = 1,
                                                                       .per = pers[p],
                                                                       .kind = TWILL_RATE_WINDOW,
                                                                       .starts = starts,
                                                                       .starts_count = 2}),
                 TWILL_OK);
        for (int k = 0; k < 3; k++) {
            who[k].limiter = &limiter;
            who[k].n = 1;
            who[k].until.cancel = &token;
            go(&who[k], acquire);
        }
        until_waiting(&limiter, 3);
        CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, 1), TWILL_EMPTY);
        wait = twill_rate_limiter_wait_time(&limiter, 1);
        CHECK(p ? wait == TWILL_FOREVER : wait > TWILL_SEC(3900) && wait <= TWILL_SEC(4000));
        CHECK_EQ(twill_rate_limiter_acquire_until(&limiter, 1, twill_within(TWILL_SEC(3000))),
                 TWILL_TIMEOUT);
        twill_cancel_fire(&token, 1);
        for (int k = 0; k < 3; k++)
            join(&who[k]);
        wait = twill_rate_limiter_wait_time(&limiter, 1);
        CHECK(p ? wait > TWILL_SEC(4000) : wait <= TWILL_SEC(1000));
    }
}

/* What those in front owe is more than 64 bits of units: it is no small number, and goes with
   them. */
TEST(more_is_waited_for_than_a_word_holds)
{
    enum { MANY = 16 }; /* of 2^60 units each */
    twill_rate_limiter limiter = slow((twill_rate_limiter_options){.oversize = TWILL_RATE_DEBT});
    twill__rate *me = twill__rate_of(&limiter);
    twill_cancel token = {0};
    caller who[MANY] = {0};
    CHECK(twill_rate_limiter_wait_time(&limiter, 1) <= TWILL_SEC(1000));
    for (int k = 0; k < MANY; k++) {
        who[k].limiter = &limiter;
        who[k].n = TWILL__RATE_MOST >> me->shift;
        who[k].until.cancel = &token;
        go(&who[k], acquire);
    }
    until_waiting(&limiter, MANY);
    CHECK_EQ(twill_rate_limiter_wait_time(&limiter, 1), TWILL_FOREVER);
    twill_cancel_fire(&token, 1);
    for (int k = 0; k < MANY; k++)
        join(&who[k]);
    CHECK(twill_rate_limiter_wait_time(&limiter, 1) <= TWILL_SEC(1000));
}

TEST(nobody_goes_past_those_who_wait)
{
    twill_rate_limiter limiter = slow((twill_rate_limiter_options){.burst = 8});
    caller who = {.limiter = &limiter, .n = 5};
    go(&who, acquire);
    until_waiting(&limiter, 1);
    twill_rate_limiter_give_back(&limiter, 3);
    CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, 1), TWILL_EMPTY);
    CHECK_EQ(twill_rate_limiter_take_up_to(&limiter, 9), 0);
    twill_rate_limiter_give_back(&limiter, 2);
    join(&who);
    CHECK_EQ(who.status, TWILL_OK);
}

TEST(barging_goes_past_those_who_wait)
{
    twill_rate_limiter limiter = slow((twill_rate_limiter_options){.burst = 8, .barging = true});
    caller who = {.limiter = &limiter, .n = 5};
    go(&who, acquire);
    until_waiting(&limiter, 1);
    twill_rate_limiter_give_back(&limiter, 3);
    CHECK_EQ(twill_rate_limiter_available(&limiter), 3);
    CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, 1), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_take_up_to(&limiter, 9), 2);
    CHECK_EQ(twill_rate_limiter_acquire_until(&limiter, 1, twill_within(0)), TWILL_TIMEOUT);
    twill_rate_limiter_give_back(&limiter, 5);
    join(&who);
    CHECK_EQ(who.status, TWILL_OK);
}

TEST(max_waiters)
{
    twill_rate_limiter limiter = slow((twill_rate_limiter_options){.max_waiters = 1});
    twill_cancel token = {0};
    caller who = {.limiter = &limiter, .n = 1, .until.cancel = &token};
    go(&who, acquire);
    until_waiting(&limiter, 1);
    CHECK_EQ(twill_rate_limiter_acquire(&limiter, 1), TWILL_FULL);
    CHECK_EQ(twill_rate_limiter_acquire_until(&limiter, 1, twill_within(0)), TWILL_TIMEOUT);
    CHECK_EQ(stats_of(&limiter).refused, 1);
    twill_cancel_fire(&token, 1);
    join(&who);
    CHECK_EQ(who.status, TWILL_CANCELLED);
}

TEST(close_tells_all)
{
    twill_rate_limiter limiter = slow((twill_rate_limiter_options){.burst = 4});
    caller who[4] = {0};
    for (int k = 0; k < 4; k++) {
        who[k].limiter = &limiter;
        who[k].n = 1 + (uint64_t)k;
        go(&who[k], acquire);
    }
    until_waiting(&limiter, 4);
    CHECK_EQ(twill_rate_limiter_close(&limiter), TWILL_OK);
    for (int k = 0; k < 4; k++) {
        join(&who[k]);
        CHECK_EQ(who[k].status, TWILL_CLOSED);
    }
    CHECK_EQ(twill_rate_limiter_acquire(&limiter, 1), TWILL_CLOSED);
}

TEST(a_new_rate_is_for_those_who_wait_too)
{
    twill_rate_limiter limiter = slow((twill_rate_limiter_options){.burst = 4});
    caller big = {.limiter = &limiter, .n = 4}, small = {.limiter = &limiter, .n = 1};
    go(&big, acquire);
    until_waiting(&limiter, 1);
    go(&small, acquire);
    until_waiting(&limiter, 2);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 1000, 0, 2), TWILL_OK);
    join(&big); /* more than the new burst */
    CHECK_EQ(big.status, TWILL_TOO_BIG);
    join(&small);
    CHECK_EQ(small.status, TWILL_OK);
}

TEST(split_debt_and_strict_wait)
{
    for (int k = 0; k < 3; k++) {
        twill_rate_limiter limiter;
        twill_rate_limiter_options options = {.tokens = 1000,
                                              .burst = 2,
                                              .used = 2,
                                              .oversize = k == 0   ? TWILL_RATE_SPLIT
                                                          : k == 1 ? TWILL_RATE_DEBT
                                                                   : TWILL_RATE_REFUSE,
                                              .strict_spacing = k != 1};
        twill_ns begun = twill_now();
        CHECK_EQ(twill_rate_limiter_init(&limiter, &options), TWILL_OK);
        CHECK_EQ(twill_rate_limiter_acquire(&limiter, k == 2 ? 2 : 20), TWILL_OK);
        CHECK(twill_now() - begun >= (k == 0 ? TWILL_MS(19) : TWILL_MS(1)));
        CHECK_EQ(twill_rate_limiter_acquire(&limiter, 1), TWILL_OK);
        CHECK(twill_now() - begun >= (k == 2 ? TWILL_MS(2) : TWILL_MS(20)));
    }
}

/* Late wake-ups may not bring two starts together. */
TEST(strict_spacing_is_never_closer)
{
    twill_rate_limiter limiter;
    twill_ns last = 0;
    CHECK_EQ(twill_rate_limiter_init(
                 &limiter, &(twill_rate_limiter_options){.tokens = 1000, .strict_spacing = true}),
             TWILL_OK);
    for (int k = 0; k < 40; k++) {
        twill_ns before = twill_now();
        CHECK_EQ(twill_rate_limiter_acquire(&limiter, 1), TWILL_OK);
        twill_ns now = twill_now();
        /* the grant was between these two */
        CHECK(!last || now - last >= TWILL_MS(1) || before < last + TWILL_MS(1));
        CHECK(!last || now >= last + TWILL_MS(1));
        last = before > last + TWILL_MS(1) ? before : last + TWILL_MS(1);
    }
}

/* ---- window ---- */

TEST(a_window_waits)
{
    twill_ns starts[3], before = 0, begun = twill_now();
    twill_status status;
    twill_rate_limiter limiter;
    CHECK_EQ(
        twill_rate_limiter_init(&limiter, &(twill_rate_limiter_options){.tokens = 3,
                                                                        .per = TWILL_MS(5),
                                                                        .kind = TWILL_RATE_WINDOW,
                                                                        .starts = starts,
                                                                        .starts_count = 3}),
        TWILL_OK);
    for (int k = 0; k < 9; k++) {
        before = twill_now();
        CHECK_EQ(twill_rate_limiter_acquire(&limiter, 1), TWILL_OK);
    }
    CHECK(twill_now() - begun >= TWILL_MS(10));
    status = twill_rate_limiter_acquire_until(&limiter, 3, twill_within(TWILL_US(1)));
    CHECK(status == TWILL_TIMEOUT || twill_now() - before >= TWILL_MS(5)); /* a busy machine */
    CHECK_EQ(twill_rate_limiter_acquire_until(&limiter, 4, twill_within(0)), TWILL_TOO_BIG);
    CHECK_EQ(twill_rate_limiter_acquire(&limiter, 3), TWILL_OK);
}

/* ---- several at once ---- */

static twill_rate_limiter pair[2];
static atomic_int pair_taken;

static void both(caller *me)
{
    twill_rate_limiter *order[3] = {&pair[me->n & 1], &pair[~me->n & 1], &pair[me->n & 1]};
    size_t count = 2 + (me->n & 1);
    for (int k = 0; k < 50; k++) {
        me->status = twill_rate_limiter_acquire_all_until(order, count, 1, me->until);
        CHECK_EQ(me->status, TWILL_OK);
        atomic_fetch_add(&pair_taken, (int)count);
    }
}

TEST(limits_together_do_not_block_one_another)
{
    caller who[4] = {0};
    atomic_store(&pair_taken, 0);
    for (uint64_t k = 0; k < 2; k++)
        CHECK_EQ(twill_rate_limiter_init(&pair[k],
                                         &(twill_rate_limiter_options){.tokens = 20000 + 10000 * k,
                                                                       .burst = 4 - 2 * k,
                                                                       .counted = true}),
                 TWILL_OK);
    for (int k = 0; k < 4; k++) {
        who[k].n = (uint64_t)k;
        go(&who[k], both);
    }
    for (int k = 0; k < 4; k++)
        join(&who[k]);
    CHECK_EQ(stats_of(&pair[0]).granted + stats_of(&pair[1]).granted,
             (uint64_t)atomic_load(&pair_taken));
    CHECK_EQ(stats_of(&pair[0]).waiting + stats_of(&pair[1]).waiting, 0);
}

TEST(all_or_nothing)
{
    twill_rate_limiter a, b = slow((twill_rate_limiter_options){.burst = 4});
    twill_rate_limiter *two[2] = {&a, &b}, *many[17];
    CHECK_EQ(
        twill_rate_limiter_init(
            &a, &(twill_rate_limiter_options){.tokens = 1, .per = TWILL_SEC(1000), .burst = 4}),
        TWILL_OK);
    CHECK_EQ(twill_rate_limiter_acquire_all_until(two, 2, 1, twill_within(0)), TWILL_TIMEOUT);
    CHECK_EQ(twill_rate_limiter_available(&a), 4);
    caller who = {.limiter = &a, .n = 4};
    twill_rate_limiter_give_back(&b, 1);
    CHECK_EQ(twill_rate_limiter_acquire_all_until(two, 2, 1, twill_within(0)), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_available(&a), 3);
    CHECK_EQ(twill_rate_limiter_available(&b), 0);
    two[1] = &a; /* twice the same: 2n */
    CHECK_EQ(twill_rate_limiter_acquire_all_until(two, 2, 1, twill_within(0)), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_available(&a), 1);
    CHECK_EQ(twill_rate_limiter_acquire_all_until(two, 2, 3, twill_within(0)), TWILL_TOO_BIG);
    CHECK_EQ(twill_rate_limiter_acquire_all_until(two, 2, UINT64_MAX, twill_within(0)),
             TWILL_TOO_BIG);
    for (int k = 0; k < 17; k++)
        many[k] = &a;
    CHECK_EQ(twill_rate_limiter_acquire_all_until(many, 3, UINT64_MAX / 2 + 1, twill_within(0)),
             TWILL_TOO_BIG); /* the sum is no number */
    CHECK_EQ(twill_rate_limiter_acquire_all_until(many, 17, 1, twill_within(0)), TWILL_TOO_BIG);
    CHECK_EQ(twill_rate_limiter_acquire_all_until(many, 16, 0, twill_within(0)), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_acquire_all_until(NULL, 0, 1, twill_within(0)), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_close(&b), TWILL_OK);
    two[1] = &b;
    CHECK_EQ(twill_rate_limiter_acquire_all_until(two, 2, 1, twill_within(0)), TWILL_CLOSED);
    CHECK_EQ(twill_rate_limiter_available(&a), 1);
    (void)who;
}

/* ---- the rate, in real time ---- */

static atomic_uint_least64_t storm_taken;

static void storm(caller *me)
{
    while (twill_rate_limiter_acquire_until(me->limiter, 1, me->until) == TWILL_OK)
        atomic_fetch_add(&storm_taken, 1);
}

TEST(long_run_rate_is_exact)
{
    static const uint64_t rates[] = {1000, 5000};
    for (int r = 0; r < 2; r++) {
        twill_rate_limiter limiter;
        twill_ns begun = twill_now();
        CHECK_EQ(twill_rate_limiter_init_per_second(&limiter, (double)rates[r], 1), TWILL_OK);
        uint64_t n = 250;
        for (uint64_t k = 0; k <= n; k++)
            CHECK_EQ(twill_rate_limiter_acquire(&limiter, 1), TWILL_OK);
        twill_ns took = twill_now() - begun;
        CHECK(took >= (twill_ns)(n * TWILL_SEC(1) / rates[r]) - TWILL_MS(1));
        CHECK(took < TWILL_SEC(100)); /* the machine may be busy; bench measures it */
    }
}

/* Many tries a microsecond: by the tick counter, where there is one to trust. */
TEST(no_try_is_early)
{
    twill_rate_limiter limiter;
    twill_ns begun = twill_now(), took = 0;
    uint64_t taken = 0, tries = 0;
    CHECK_EQ(twill_rate_limiter_init_per_second(&limiter, 1e6, 3), TWILL_OK);
    for (; took < TWILL_MS(60); tries++) {
        bool got = twill_rate_limiter_try_acquire(&limiter, 1) == TWILL_OK;
        taken += got;
        if (!got || tries % 64 == 0) {
            took = twill_now() - begun;
            CHECK(taken <= 3 + (uint64_t)took / 1000 + 2); /* 0.3 us, and a token in part */
        }
    }
    CHECK(taken > 3);
    while (twill_rate_limiter_wait_time(&limiter, 1)) {}
    CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, 1), TWILL_OK); /* what is due is there */
}

TEST(many_threads_share_one_rate)
{
    twill_rate_limiter limiter;
    caller who[6] = {0};
    twill_ns begun = twill_now();
    atomic_store(&storm_taken, 0);
    CHECK_EQ(
        twill_rate_limiter_init(
            &limiter, &(twill_rate_limiter_options){.tokens = 2000, .burst = 3, .counted = true}),
        TWILL_OK);
    twill_until until = twill_within(TWILL_MS(150));
    for (int k = 0; k < 6; k++) {
        who[k].limiter = &limiter;
        who[k].until = until;
        go(&who[k], storm);
    }
    for (int k = 0; k < 6; k++)
        join(&who[k]);
    twill_ns took = twill_now() - begun;
    uint64_t taken = atomic_load(&storm_taken);
    CHECK(taken <= 3 + (uint64_t)took * 2000 / (uint64_t)TWILL_SEC(1) + 1);
    CHECK(taken >= 3); /* the burst; the rest, if the machine has time for it */
    CHECK_EQ(stats_of(&limiter).granted, taken);
    CHECK_EQ(stats_of(&limiter).waiting, 0);
}

/* Everything at once, for its ledger and for the sanitizers. */
static void mix(caller *me)
{
    uint64_t taken = 0;
    for (int k = 0; k < 400; k++) {
        twill_reservation reservation;
        switch (test_random_below(9)) {
        case 0:
            twill_rate_limiter_penalise(me->limiter, 1000);
            break;
        case 1:
            CHECK_EQ(twill_rate_limiter_set_rate(me->limiter, 1000000 + test_random_below(1000000),
                                                 0, 1 + test_random_below(8)),
                     TWILL_OK);
            break;
        case 2:
            if (twill_rate_limiter_reserve(me->limiter, 1, TWILL_SEC(1), &reservation) ==
                    TWILL_OK &&
                !twill_rate_limiter_cancel(me->limiter, &reservation))
                taken++;
            break;
        case 3:
            taken += twill_rate_limiter_take_up_to(me->limiter, 2);
            break;
        case 4:
            (void)twill_rate_limiter_available(me->limiter);
            (void)twill_rate_limiter_wait_time(me->limiter, 1);
            break;
        case 5:
            twill_rate_limiter_give_back(me->limiter, 0);
            break;
        case 6:
            taken += twill_rate_limiter_acquire_until(me->limiter, 1, twill_within(TWILL_MS(1))) ==
                     TWILL_OK;
            break;
        default:
            taken += twill_rate_limiter_try_acquire(me->limiter, 1) == TWILL_OK;
        }
    }
    me->n = taken;
}

TEST(everything_at_once)
{
    twill_rate_limiter limiter;
    caller who[4] = {0};
    uint64_t taken = 0;
    CHECK_EQ(twill_rate_limiter_init(
                 &limiter,
                 &(twill_rate_limiter_options){.tokens = 1000000, .burst = 4, .counted = true}),
             TWILL_OK);
    for (int k = 0; k < 4; k++) {
        who[k].limiter = &limiter;
        go(&who[k], mix);
    }
    for (int k = 0; k < 4; k++) {
        join(&who[k]);
        taken += who[k].n;
    }
    twill_rate_limiter_stats stats = stats_of(&limiter);
    /* a hole that is had again, and a lost one, count as granted, too */
    CHECK(stats.granted >= taken);
    CHECK(stats.granted - stats.given_back <= taken + stats.lost_in_cancel);
    CHECK_EQ(stats.waiting, 0);
}

/* ---- signals, forks ---- */

static twill_rate_limiter in_handler;
static atomic_ulong handler_calls, handler_taken;

static void handler(int number)
{
    (void)number;
    atomic_fetch_add(&handler_calls, 1);
    if (twill_rate_limiter_try_acquire(&in_handler, 1) == TWILL_OK)
        atomic_fetch_add(&handler_taken, 1);
}

TEST(try_in_a_signal_handler)
{
#if HARNESS_FORKS
    struct sigaction action = {.sa_handler = handler}, old;
    struct itimerval storm_timer = {{0, 200}, {0, 200}}, off = {{0, 0}, {0, 0}};
    uint64_t taken = 0;
    atomic_store(&handler_calls, 0);
    atomic_store(&handler_taken, 0);
    CHECK_EQ(twill_rate_limiter_init(
                 &in_handler,
                 &(twill_rate_limiter_options){.tokens = 1000000, .burst = 100, .counted = true}),
             TWILL_OK);
    CHECK_EQ(sigaction(SIGALRM, &action, &old), 0);
    CHECK_EQ(setitimer(ITIMER_REAL, &storm_timer, NULL), 0);
    for (twill_ns end = twill_now() + TWILL_MS(150); twill_now() < end;) {
        taken += twill_rate_limiter_try_acquire(&in_handler, 1) == TWILL_OK;
        taken += twill_rate_limiter_acquire(&in_handler, 1) == TWILL_OK;
        twill_rate_limiter_give_back(&in_handler, 1); /* holds the lock */
        (void)twill_rate_limiter_available(&in_handler);
    }
    CHECK_EQ(setitimer(ITIMER_REAL, &off, NULL), 0);
    CHECK_EQ(sigaction(SIGALRM, &old, NULL), 0);
    CHECK(atomic_load(&handler_calls) > 0);
    CHECK_EQ(stats_of(&in_handler).granted, taken + atomic_load(&handler_taken));
#else
    SKIP("no signals");
#endif
}

TEST(a_child_has_no_waiters)
{
#if HARNESS_FORKS
    twill_rate_limiter limiter = slow((twill_rate_limiter_options){.burst = 4});
    twill_bulkhead bulkhead;
    twill_rate_keys *keys;
    twill_cancel token = {0};
    caller who = {.limiter = &limiter, .n = 1, .until.cancel = &token};
    caller outside = {.bulkhead = &bulkhead, .until.cancel = &token};
    CHECK_EQ(twill_bulkhead_init(&bulkhead, 1, 9), TWILL_OK);
    CHECK_EQ(twill_bulkhead_enter(&bulkhead), TWILL_OK);
    CHECK_EQ(twill_rate_keys_create(&keys, 1, &(twill_rate_limiter_options){.tokens = 1}),
             TWILL_OK);
    go(&who, acquire);
    go(&outside, enter);
    until_waiting(&limiter, 1);
    until_outside(&bulkhead, 1);
    pid_t child = fork();
    if (child == 0) {
        CHECK_EQ(stats_of(&limiter).waiting, 0);
        twill_rate_limiter_give_back(&limiter, 1);
        CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, 1), TWILL_OK);
        CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, 1), TWILL_EMPTY);
        CHECK_EQ(bulkhead_waiting(&bulkhead), 0);
        CHECK_EQ(twill_bulkhead_try_enter(&bulkhead), TWILL_FULL);
        CHECK_EQ(twill_bulkhead_leave(&bulkhead), TWILL_OK);
        CHECK_EQ(twill_bulkhead_enter(&bulkhead), TWILL_OK);
        CHECK_EQ(twill_rate_keys_try_acquire(keys, 1, 1), TWILL_FORKED);
        CHECK_EQ(twill_rate_keys_destroy(keys), TWILL_OK);
        _exit(0);
    }
    CHECK(child > 0);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    CHECK_EQ(stats_of(&limiter).waiting, 1);
    twill_cancel_fire(&token, 1);
    join(&who);
    join(&outside);
    CHECK_EQ(who.status, TWILL_CANCELLED);
    CHECK_EQ(outside.status, TWILL_CANCELLED);
    CHECK_EQ(twill_rate_keys_destroy(keys), TWILL_OK);
#else
    SKIP("no fork");
#endif
}

/* ---- keys, by many ---- */

static twill_rate_keys *shared_keys;
static atomic_uint_least64_t key_taken[32];

static void use_keys(caller *me)
{
    (void)me;
    for (int k = 0; k < 3000; k++) {
        uint64_t key = test_random_below(32);
        if (twill_rate_keys_try_acquire(shared_keys, key, 1) == TWILL_OK)
            atomic_fetch_add(&key_taken[key], 1);
    }
}

TEST(keys_by_many_threads)
{
    caller who[4] = {0};
    CHECK_EQ(twill_rate_keys_create(
                 &shared_keys, 32,
                 &(twill_rate_limiter_options){.tokens = 1, .per = TWILL_SEC(1000), .burst = 20}),
             TWILL_OK);
    for (int k = 0; k < 32; k++)
        atomic_store(&key_taken[k], 0);
    for (int k = 0; k < 4; k++)
        go(&who[k], use_keys);
    for (int k = 0; k < 4; k++)
        join(&who[k]);
    for (int k = 0; k < 32; k++)
        CHECK_EQ(atomic_load(&key_taken[k]), 20);
    CHECK_EQ(twill_rate_keys_destroy(shared_keys), TWILL_OK);
}

/* ---- bulkhead ---- */

TEST(bulkhead_answers)
{
    twill_bulkhead bulkhead, zeroed = {{0}};
    twill_cancel token = {0};
    CHECK_EQ(twill_bulkhead_init(NULL, 1, 1), TWILL_INVALID);
    CHECK_EQ(twill_bulkhead_init(&bulkhead, 0, 1), TWILL_INVALID);
    CHECK_EQ(twill_bulkhead_enter(&zeroed), TWILL_INVALID);
    CHECK_EQ(twill_bulkhead_try_enter(&zeroed), TWILL_INVALID);
    CHECK_EQ(twill_bulkhead_leave(&zeroed), TWILL_INVALID);
    CHECK_EQ(twill_bulkhead_close(&zeroed), TWILL_INVALID);
    CHECK_EQ(twill_bulkhead_enter(NULL), TWILL_INVALID);
    CHECK_EQ(twill_bulkhead_try_enter(NULL), TWILL_INVALID);
    CHECK_EQ(twill_bulkhead_leave(NULL), TWILL_INVALID);
    CHECK_EQ(twill_bulkhead_close(NULL), TWILL_INVALID);
    CHECK_EQ(twill_bulkhead_init(&bulkhead, 2, 1), TWILL_OK);
    twill_cancel_fire(&token, 1);
    CHECK_EQ(twill_bulkhead_leave(&bulkhead), TWILL_INVALID);
    CHECK_EQ(twill_bulkhead_enter_until(&bulkhead, twill_within_or_cancelled(0, &token)), TWILL_OK);
    CHECK_EQ(twill_bulkhead_try_enter(&bulkhead), TWILL_OK);
    CHECK_EQ(twill_bulkhead_try_enter(&bulkhead), TWILL_FULL);
    CHECK_EQ(twill_bulkhead_enter_until(&bulkhead, twill_within_or_cancelled(0, &token)),
             TWILL_CANCELLED);
    CHECK_EQ(twill_bulkhead_enter_until(&bulkhead, twill_within(0)), TWILL_TIMEOUT);
    for (int k = 0; k < 2; k++) /* who gives up frees his place in the line */
        CHECK_EQ(twill_bulkhead_enter_until(&bulkhead, twill_within(TWILL_US(100))), TWILL_TIMEOUT);
    caller who = {.bulkhead = &bulkhead};
    go(&who, enter);
    until_outside(&bulkhead, 1);
    CHECK_EQ(twill_bulkhead_enter(&bulkhead), TWILL_FULL); /* max_waiting */
    CHECK_EQ(twill_bulkhead_leave(&bulkhead), TWILL_OK);   /* handed over */
    join(&who);
    CHECK_EQ(who.status, TWILL_OK);
    CHECK_EQ(twill_bulkhead_try_enter(&bulkhead), TWILL_FULL);
    go(&who, enter);
    until_outside(&bulkhead, 1);
    CHECK_EQ(twill_bulkhead_close(&bulkhead), TWILL_OK);
    CHECK_EQ(twill_bulkhead_close(&bulkhead), TWILL_CLOSED);
    join(&who);
    CHECK_EQ(who.status, TWILL_CLOSED);
    CHECK_EQ(twill_bulkhead_leave(&bulkhead), TWILL_OK); /* those inside go on */
    CHECK_EQ(twill_bulkhead_leave(&bulkhead), TWILL_OK);
    CHECK_EQ(twill_bulkhead_leave(&bulkhead), TWILL_INVALID);
    CHECK_EQ(twill_bulkhead_try_enter(&bulkhead), TWILL_CLOSED);
    CHECK_EQ(twill_bulkhead_init(&bulkhead, 1, 0), TWILL_OK);
    CHECK_EQ(twill_bulkhead_enter(&bulkhead), TWILL_OK);
    CHECK_EQ(twill_bulkhead_enter(&bulkhead), TWILL_FULL); /* nobody waits */
}

TEST(bulkhead_is_first_come_first_served)
{
    twill_bulkhead bulkhead;
    caller who[5] = {0};
    CHECK_EQ(twill_bulkhead_init(&bulkhead, 1, SIZE_MAX), TWILL_OK);
    CHECK_EQ(twill_bulkhead_enter(&bulkhead), TWILL_OK);
    atomic_store(&returned, 0);
    for (int k = 0; k < 5; k++) {
        who[k].bulkhead = &bulkhead;
        go(&who[k], enter);
        until_outside(&bulkhead, (uint64_t)k + 1);
    }
    for (int k = 0; k < 5; k++) {
        CHECK_EQ(twill_bulkhead_leave(&bulkhead), TWILL_OK);
        join(&who[k]);
        CHECK_EQ(who[k].order, k);
        CHECK_EQ(who[k].status, TWILL_OK);
    }
}

static twill_bulkhead crowd;
static atomic_int inside, most_inside;

static void in_and_out(caller *me)
{
    for (int k = 0; k < 300; k++) {
        me->status = k % 3 ? twill_bulkhead_enter(&crowd)
                           : twill_bulkhead_enter_until(&crowd, twill_within(TWILL_US(20)));
        if (me->status != TWILL_OK)
            continue;
        int now = atomic_fetch_add(&inside, 1) + 1, most = atomic_load(&most_inside);
        while (now > most && !atomic_compare_exchange_weak(&most_inside, &most, now)) {}
        twill__yield();
        atomic_fetch_sub(&inside, 1);
        CHECK_EQ(twill_bulkhead_leave(&crowd), TWILL_OK);
    }
}

TEST(never_more_inside)
{
    caller who[6] = {0};
    atomic_store(&most_inside, 0);
    CHECK_EQ(twill_bulkhead_init(&crowd, 3, SIZE_MAX), TWILL_OK);
    for (int k = 0; k < 6; k++)
        go(&who[k], in_and_out);
    for (int k = 0; k < 6; k++)
        join(&who[k]);
    CHECK(atomic_load(&most_inside) <= 3);
    CHECK(atomic_load(&most_inside) > 0);
    CHECK_EQ(twill_bulkhead_leave(&crowd), TWILL_INVALID); /* as many out as in */
}

HARNESS_MAIN

/* test_rate_limiter.c - what a limiter admits, and when: on the caller's clock, so every instant is
   exact. Those who wait are in test_rate_waiting.c. */
#define HARNESS_FAULTS
#include "harness.h"

static atomic_int asserted; /* the header's assertions are counted, not fatal */
#define TWILL_ASSERT(condition) ((condition) ? (void)0 : (void)atomic_fetch_add(&asserted, 1))
#define TWILL_IMPLEMENTATION
#include "twill_rate_limiter.h"

#include <float.h>
#include <math.h>

/* ---- kit ---- */

#define S TWILL_SEC(1)

static twill_rate_limiter limiter_of(twill_rate_limiter_options options)
{
    twill_rate_limiter limiter;
    options.counted = true;
    CHECK_EQ(twill_rate_limiter_init(&limiter, &options), TWILL_OK);
    return limiter;
}

static twill_status try_at(twill_rate_limiter *limiter, uint64_t n, twill_ns now)
{
    return twill_rate_limiter_try_acquire_at(limiter, n, now);
}

/* How many single tokens there are at `now`; takes them. */
static unsigned drain_at(twill_rate_limiter *limiter, twill_ns now)
{
    unsigned count = 0;
    while (try_at(limiter, 1, now) == TWILL_OK)
        count++;
    return count;
}

static uint64_t any_width(unsigned bits)
{
    return test_random() >> (64 - bits + test_random_below(bits));
}

static twill_rate_limiter_stats stats_of(twill_rate_limiter *limiter)
{
    twill_rate_limiter_stats stats;
    twill_rate_limiter_get_stats(limiter, &stats);
    return stats;
}

/* ---- the rate ---- */

/* R65, R68: ten a second, no storm after a pause. */
TEST(ten_a_second)
{
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){.tokens = 10});
    for (int k = 0; k < 100; k++) {
        CHECK_EQ(try_at(&limiter, 1, k * S / 10), TWILL_OK);
        CHECK_EQ(try_at(&limiter, 1, k * S / 10), TWILL_EMPTY);
        CHECK_EQ(try_at(&limiter, 1, (k + 1) * S / 10 - 1), TWILL_EMPTY);
    }
    CHECK_EQ(drain_at(&limiter, 100 * S), 1);
    CHECK_EQ(drain_at(&limiter, 100 * S + S / 10), 1);
    CHECK_EQ(stats_of(&limiter).granted, 102);
}

/* R70: a burst of 5 at ten a second. */
TEST(burst)
{
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){.tokens = 10, .burst = 5});
    CHECK_EQ(drain_at(&limiter, 0), 5);
    for (int k = 1; k < 50; k++)
        CHECK_EQ(drain_at(&limiter, k * S / 10), 1);
    CHECK_EQ(drain_at(&limiter, 4 * S + 9 * S / 10 + 3 * S / 10), 3);
    CHECK_EQ(drain_at(&limiter, 1000 * S), 5);
    CHECK_EQ(try_at(&limiter, 5, 1001 * S), TWILL_OK);
    CHECK_EQ(try_at(&limiter, 1, 1001 * S), TWILL_EMPTY);
}

TEST(starts_full_empty_or_between)
{
    for (uint64_t used = 0; used <= 5; used++) {
        twill_rate_limiter limiter =
            limiter_of((twill_rate_limiter_options){.tokens = 1, .burst = 5, .used = used});
        CHECK_EQ(drain_at(&limiter, 7777), 5 - used); /* time begins with the first instant */
        CHECK_EQ(drain_at(&limiter, 7777 + S - 1), 0);
        CHECK_EQ(drain_at(&limiter, 7777 + S), 1);
    }
}

#ifdef __SIZEOF_INT128__
__extension__ typedef unsigned __int128 u128;

/* A greedy caller that never lets credit be cut off gets exactly burst + rate * time, whatever the
   rate, with no sum of errors over a long time. */
TEST(any_rate_is_exact)
{
    for (int round = 0; round < 400; round++) {
        uint64_t tokens = 1 + any_width(40), per = 1 + any_width(40);
        uint64_t burst = 8 + any_width(20); /* no credit is cut off by the steps below */
        if (tokens > 2 * per)
            tokens = 2 * per;
        twill_rate_limiter limiter = limiter_of(
            (twill_rate_limiter_options){.tokens = tokens, .per = (twill_ns)per, .burst = burst});
        unsigned shift = twill__rate_of(&limiter)->shift;
        uint64_t elapsed = 0, taken = 0, step = 1 + (uint64_t)((u128)burst * per / tokens / 2);
        for (int k = 0; k < 200; k++) {
            uint64_t n = burst, whole;
            for (; n > 0; n /= 2) /* all there is, in some steps */
                while (try_at(&limiter, n, -1000 + (twill_ns)elapsed) == TWILL_OK)
                    taken += n;
            whole = (uint64_t)((u128)elapsed * tokens / per);
            /* one more only within a unit of it */
            if (taken - burst == whole + 1)
                CHECK((u128)(((u128)elapsed * tokens) % per + 1) << shift >=
                      ((u128)per << shift) - per);
            else
                CHECK_EQ(taken - burst, whole);
            elapsed += 1 + test_random_below(step);
            if (elapsed > UINT64_C(1) << 60)
                break;
        }
    }
}

/* Admissions of a greedy caller at random instants: no window has more than it may. */
TEST(no_window_has_more_than_the_bound)
{
    enum { MANY = 160 };
    for (int round = 0; round < 200; round++) {
        uint64_t tokens = 1 + any_width(40), per = 1 + any_width(40),
                 burst = 1 + test_random_below(8);
        if (tokens > 2 * per)
            tokens = 2 * per;
        twill_rate_limiter limiter = limiter_of(
            (twill_rate_limiter_options){.tokens = tokens, .per = (twill_ns)per, .burst = burst});
        unsigned shift = twill__rate_of(&limiter)->shift;
        twill_ns at[MANY], now = 1000;
        uint64_t n[MANY];
        size_t count = 0;
        uint64_t step = 1 + per / tokens;
        while (count < MANY) {
            uint64_t want = 1 + test_random_below(burst);
            if (try_at(&limiter, want, now) == TWILL_OK) {
                at[count] = now;
                n[count++] = want;
            } else {
                now += (twill_ns)(1 + test_random_below(2 * step));
            }
        }
        for (size_t a = 0; a < count; a++) {
            u128 sum = 0;
            for (size_t b = a; b < count; b++) {
                u128 w = (u128)(uint64_t)(at[b] - at[a]);
                sum += n[b];
                /* (sum - burst) * per <= w * tokens + per * 2^-shift */
                if (sum > burst)
                    CHECK(((sum - burst) * per) << shift <= ((w * tokens) << shift) + per);
            }
        }
    }
}

/* Token k beyond the burst is due at k / rate: never early by more than a unit, never late by more
   than a nanosecond, for years. */
TEST(no_drift)
{
    static const struct {
        uint64_t tokens;
        twill_ns per;
    } rate[] = {{10, TWILL_SEC(1)},
                {3, 7},
                {1000, TWILL_SEC(1)},
                {700000000, TWILL_SEC(1)},
                {1, TWILL_SEC(86400)},
                {2, 1},
                {1, 1},
                {UINT64_C(1) << 40, INT64_MAX},
                {1, 3}};
    for (size_t r = 0; r < sizeof rate / sizeof rate[0]; r++) {
        twill__scale scale;
        memset(&scale, 0, sizeof scale);
        CHECK(twill__scale_make(&scale, rate[r].tokens, (uint64_t)rate[r].per, 0, 1));
        scale.origin = 5;
        for (int k = 0; k < 2000; k++) {
            uint64_t e = any_width(60), v = twill__scale_at(&scale, 5 + (twill_ns)e);
            u128 exact = (((u128)e * rate[r].tokens) << (scale.shift > 20 ? 20 : scale.shift)) /
                         (uint64_t)rate[r].per;
            unsigned cut = scale.shift > 20 ? scale.shift - 20 : 0;
            CHECK(v >> cut == (uint64_t)exact || (v - 1) >> cut == (uint64_t)exact);
            /* when() is the first instant */
            twill_ns when = twill__scale_when(&scale, v);
            CHECK(when <= 5 + (twill_ns)e);
            CHECK(v == 0 || twill__scale_at(&scale, when) >= v);
            CHECK(v == 0 || twill__scale_at(&scale, when - 1) < v);
        }
    }
}
#endif

TEST(per_second_takes_doubles_exactly)
{
    twill_rate_limiter limiter;
    const double bad[] = {0, -1, -0.0, NAN, INFINITY, -INFINITY, 2.1e9, 1e300};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++)
        CHECK_EQ(twill_rate_limiter_init_per_second(&limiter, bad[k], 1), TWILL_INVALID);
    CHECK_EQ(twill_rate_limiter_init_per_second(NULL, 1, 1), TWILL_INVALID);
    CHECK_EQ(twill_rate_limiter_init_per_second(&limiter, 2.5, 0), TWILL_OK);
    CHECK_EQ(drain_at(&limiter, 0), 1);
    for (int k = 1; k < 100; k++) {
        CHECK_EQ(drain_at(&limiter, k * S * 2 / 5 - 1), 0);
        CHECK_EQ(drain_at(&limiter, k * S * 2 / 5), 1);
    }
    CHECK_EQ(twill_rate_limiter_init_per_second(&limiter, 2e9, 1), TWILL_OK);
    CHECK_EQ(drain_at(&limiter, 0), 1);
    CHECK_EQ(drain_at(&limiter, 1), 1);
    CHECK_EQ(twill_rate_limiter_init_per_second(&limiter, 1e-300, 1),
             TWILL_OK); /* as good as never */
    CHECK_EQ(drain_at(&limiter, 0), 1);
    CHECK_EQ(drain_at(&limiter, INT64_MAX), 0);
    CHECK_EQ(twill_rate_limiter_init_per_second(&limiter, DBL_TRUE_MIN, 7), TWILL_OK);
    CHECK_EQ(drain_at(&limiter, 0), 7);
    CHECK_EQ(twill_rate_limiter_wait_time(&limiter, 1), TWILL_FOREVER);
    CHECK_EQ(twill_rate_limiter_init_per_second(&limiter, 1e-9, 1), TWILL_OK); /* 31 years */
    CHECK_EQ(drain_at(&limiter, 0), 1);
    CHECK_EQ(drain_at(&limiter, TWILL_SEC(999999999)), 0);
    CHECK_EQ(drain_at(&limiter, TWILL_SEC(1000000001)), 1);
}

TEST(odd_numbers_are_refused)
{
    twill_rate_limiter limiter, zeroed = {{0}};
    twill_ns starts[4];
    twill_reservation reservation;
    const twill_rate_limiter_options bad[] = {
        {.tokens = 0},
        {.tokens = 1, .per = -1},
        {.tokens = 3, .per = 1},
        {.tokens = UINT64_MAX, .per = 1},
        {.tokens = 1, .burst = UINT64_MAX},
        {.tokens = 1, .burst = UINT64_C(1) << 61},
        {.tokens = 1, .used = 2},
        {.tokens = 1, .burst = 5, .used = 6},
        {.tokens = 1, .kind = (twill_rate_kind)2},
        {.tokens = 1, .oversize = (twill_rate_oversize)3},
        {.tokens = 1, .starts = starts},
        {.tokens = 1, .starts_count = 1},
        {.tokens = 1, .kind = TWILL_RATE_WINDOW},
        {.tokens = 5, .kind = TWILL_RATE_WINDOW, .starts = starts, .starts_count = 4},
        {.tokens = 1, .kind = TWILL_RATE_WINDOW, .starts = starts, .starts_count = 4, .burst = 1},
        {.tokens = 1, .kind = TWILL_RATE_WINDOW, .starts = starts, .starts_count = 4, .used = 2},
        {.tokens = 1,
         .kind = TWILL_RATE_WINDOW,
         .starts = starts,
         .starts_count = 4,
         .oversize = TWILL_RATE_DEBT},
        {.tokens = 1,
         .kind = TWILL_RATE_WINDOW,
         .starts = starts,
         .starts_count = 4,
         .strict_spacing = true},
    };
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++)
        CHECK_EQ(twill_rate_limiter_init(&limiter, &bad[k]), TWILL_INVALID);
    CHECK_EQ(twill_rate_limiter_init(&limiter, NULL), TWILL_INVALID);
    CHECK_EQ(twill_rate_limiter_init(NULL, &(twill_rate_limiter_options){.tokens = 1}),
             TWILL_INVALID);
    for (int k = 0; k < 2; k++) {
        twill_rate_limiter *none = k ? &zeroed : NULL;
        CHECK_EQ(twill_rate_limiter_acquire(none, 1), TWILL_INVALID);
        CHECK_EQ(twill_rate_limiter_try_acquire(none, 1), TWILL_INVALID);
        CHECK_EQ(twill_rate_limiter_acquire_until(none, 1, twill_within(0)), TWILL_INVALID);
        CHECK_EQ(twill_rate_limiter_take_up_to(none, 1), 0);
        CHECK_EQ(twill_rate_limiter_reserve(none, 1, 0, &reservation), TWILL_INVALID);
        CHECK(!twill_rate_limiter_cancel(none, &reservation));
        twill_rate_limiter_give_back(none, 1);
        twill_rate_limiter_penalise(none, 1);
        CHECK_EQ(twill_rate_limiter_available(none), 0);
        CHECK_EQ(twill_rate_limiter_wait_time(none, 1), TWILL_FOREVER);
        CHECK_EQ(twill_rate_limiter_set_rate(none, 1, 1, 1), TWILL_INVALID);
        CHECK_EQ(twill_rate_limiter_close(none), TWILL_INVALID);
        CHECK_EQ(stats_of(none).granted, 0);
        CHECK_EQ(twill_rate_limiter_acquire_all_until(&none, 1, 1, twill_within(0)), TWILL_INVALID);
    }
    CHECK_EQ(twill_rate_limiter_acquire_all_until(NULL, 1, 1, twill_within(0)), TWILL_INVALID);
    limiter = limiter_of((twill_rate_limiter_options){.tokens = 1});
    CHECK_EQ(twill_rate_limiter_reserve(&limiter, 1, 0, NULL), TWILL_INVALID);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 0, 1, 1), TWILL_INVALID);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 1, -1, 1), TWILL_INVALID);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 3, 1, 1), TWILL_INVALID);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 3, 1, 0), TWILL_INVALID);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 1, 1, UINT64_MAX), TWILL_INVALID);
    CHECK_EQ(try_at(NULL, 1, 0), TWILL_INVALID);
    CHECK_EQ(try_at(&zeroed, 1, 0), TWILL_INVALID);
    CHECK(!twill_rate_limiter_cancel(&limiter, NULL));
    CHECK_EQ(twill_rate_limiter_take_up_to(&limiter, 0), 0);
    CHECK_EQ(twill_rate_limiter_wait_time(&limiter, 0), 0);
    twill_rate_limiter_get_stats(&limiter, NULL);
    CHECK_EQ(stats_of(&limiter).granted + stats_of(&limiter).refused, 0); /* none has counted */
}

/* The arithmetic at its ends. */
TEST(instants_at_the_ends)
{
    twill__scale scale = {0};
    uint64_t tokens;
    int power;
    CHECK_EQ(twill__rate_between(INT64_MIN, INT64_MAX), TWILL_FOREVER);
    CHECK_EQ(twill__rate_between(INT64_MIN, -1), INT64_MAX);
    CHECK_EQ(twill__rate_between(5, 4), 0);
    CHECK_EQ(twill__rate_bits(0), 0);
    CHECK_EQ(twill__rate_bits(UINT64_MAX), 64);
    CHECK(twill__scale_make(&scale, 2, 1, 0, 1)); /* 2 a nanosecond just fit */
    CHECK_EQ(scale.shift, 0);
    CHECK_EQ(twill__scale_at(&scale, 1000), 2000);
    CHECK_EQ(twill__scale_when(&scale, 2000), 1000);
    CHECK(
        !twill__scale_make(&scale, UINT64_MAX, UINT64_MAX / 2, 0, 1)); /* a little more does not */
    CHECK(!twill__scale_make(&scale, 2, 1, 1, 1));
    CHECK(twill__scale_split(DBL_MIN, &tokens, &power)); /* as good as never, and still a rate */
    CHECK(twill__scale_make(&scale, tokens, TWILL_SEC(1), power, 1));
    CHECK_EQ(twill__scale_at(&scale, INT64_MAX), 0);
    CHECK_EQ(twill__scale_when(&scale, 1), TWILL_FOREVER);
    CHECK(twill__scale_make(&scale, 1, UINT64_C(1) << 62, 0, 1)); /* once in 146 years */
    CHECK_EQ(twill__scale_when(&scale, scale.burst), TWILL_FOREVER);
    CHECK(twill__scale_when(&scale, scale.burst / 4) < TWILL_FOREVER);
}

TEST(who_barges_waits_for_nobody)
{
    twill_rate_limiter limiter =
        limiter_of((twill_rate_limiter_options){.tokens = 1, .per = S, .barging = true, .used = 1});
    twill_ns wait = twill_rate_limiter_wait_time(&limiter, 1);
    CHECK(wait > 0 && wait <= S);
    CHECK_EQ(twill_rate_limiter_wait_time(&limiter, 2), TWILL_FOREVER); /* beyond the burst */
}

TEST(the_clock_never_makes_tokens)
{
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){.tokens = 10, .burst = 3});
    CHECK_EQ(drain_at(&limiter, 100 * S), 3);
    CHECK_EQ(drain_at(&limiter, 50 * S), 0);
    CHECK_EQ(drain_at(&limiter, 100 * S), 0);
    CHECK_EQ(drain_at(&limiter, -INT64_MAX), 0);
    CHECK_EQ(drain_at(&limiter, 100 * S + S / 10), 1);
    CHECK_EQ(drain_at(&limiter, INT64_MAX), 3); /* far ahead: the burst, no more */
    CHECK_EQ(drain_at(&limiter, INT64_MAX), 0);
    CHECK_EQ(drain_at(&limiter, 100 * S), 0);
    limiter = limiter_of((twill_rate_limiter_options){.tokens = 10, .burst = 3});
    CHECK_EQ(drain_at(&limiter, INT64_MIN), 3); /* the axis may begin anywhere */
    CHECK_EQ(drain_at(&limiter, INT64_MIN + S / 10), 1);
    CHECK_EQ(drain_at(&limiter, INT64_MAX), 3);
}

/* ---- n, and what is too much ---- */

TEST(order_of_answers)
{
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){.tokens = 1, .burst = 2});
    twill_cancel token = {0};
    twill_cancel_fire(&token, 1);
    twill_until over = twill_within_or_cancelled(0, &token);
    CHECK_EQ(twill_rate_limiter_acquire_until(&limiter, 2, over), TWILL_OK); /* success first */
    CHECK_EQ(twill_rate_limiter_acquire_until(&limiter, 2, over), TWILL_CANCELLED);
    CHECK_EQ(twill_rate_limiter_acquire_until(&limiter, 2, twill_within(0)), TWILL_TIMEOUT);
    CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, 2), TWILL_EMPTY);
    CHECK_EQ(twill_rate_limiter_acquire_until(&limiter, 3, over), TWILL_TOO_BIG);
    CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, 3), TWILL_TOO_BIG);
    CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, UINT64_MAX), TWILL_TOO_BIG);
    CHECK_EQ(twill_rate_limiter_close(&limiter), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_close(&limiter), TWILL_CLOSED);
    CHECK_EQ(twill_rate_limiter_acquire_until(&limiter, 3, over), TWILL_CLOSED);
    CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, 1), TWILL_CLOSED);
    CHECK_EQ(twill_rate_limiter_acquire(&limiter, 0), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, 0), TWILL_OK);
    twill_reservation reservation;
    CHECK_EQ(twill_rate_limiter_reserve(&limiter, 1, TWILL_FOREVER, &reservation), TWILL_CLOSED);
    CHECK_EQ(twill_rate_limiter_reserve(&limiter, 0, 0, &reservation), TWILL_OK);
    CHECK(!twill_rate_limiter_cancel(&limiter, &reservation));
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 1, 1, 1), TWILL_CLOSED);
    CHECK_EQ(twill_rate_limiter_take_up_to(&limiter, 1), 0);
    CHECK_EQ(twill_rate_limiter_available(&limiter), 0);
    CHECK_EQ(twill_rate_limiter_wait_time(&limiter, 1), TWILL_FOREVER);
    twill_rate_limiter_stats stats = stats_of(&limiter);
    CHECK_EQ(stats.granted, 2);
    CHECK_EQ(stats.refused, 1);
    CHECK_EQ(stats.timed_out, 1);
    CHECK_EQ(stats.cancelled, 1);
}

TEST(a_deadline_that_cannot_be_met_fails_at_once)
{
    twill_rate_limiter limiter =
        limiter_of((twill_rate_limiter_options){.tokens = 1, .per = 1000 * S, .used = 1});
    twill_ns begun = twill_now();
    CHECK_EQ(twill_rate_limiter_acquire_until(&limiter, 1, twill_within(900 * S)), TWILL_TIMEOUT);
    CHECK(twill_now() - begun < 100 * S);
    twill_ns wait = twill_rate_limiter_wait_time(&limiter, 1);
    CHECK(wait > 900 * S && wait <= 1000 * S);
}

TEST(take_up_to_takes_what_is_there)
{
    twill_rate_limiter limiter =
        limiter_of((twill_rate_limiter_options){.tokens = 1, .per = 1000 * S, .burst = 10});
    CHECK_EQ(twill_rate_limiter_take_up_to(&limiter, 0), 0);
    CHECK_EQ(twill_rate_limiter_available(&limiter), 10);
    CHECK_EQ(twill_rate_limiter_take_up_to(&limiter, 4), 4);
    CHECK_EQ(twill_rate_limiter_take_up_to(&limiter, 3), 3); /* by the word alone */
    CHECK_EQ(twill_rate_limiter_available(&limiter), 3);
    CHECK_EQ(twill_rate_limiter_take_up_to(&limiter, UINT64_MAX), 3);
    CHECK_EQ(twill_rate_limiter_take_up_to(&limiter, 1), 0);
    CHECK_EQ(stats_of(&limiter).granted, 10);
    twill_rate_limiter_give_back(&limiter, 5);
    CHECK_EQ(twill_rate_limiter_close(&limiter), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_take_up_to(&limiter, 3), 0);
    CHECK_EQ(stats_of(&limiter).granted, 10);
}

TEST(grants_are_counted_when_asked)
{
    twill_rate_limiter limiter;
    CHECK_EQ(twill_rate_limiter_init_per_second(&limiter, 1, 5), TWILL_OK);
    CHECK_EQ(drain_at(&limiter, 0), 5);
    CHECK_EQ(stats_of(&limiter).granted, 0);
    CHECK_EQ(stats_of(&limiter).refused, 1);
}

TEST(debt_goes_when_full_and_those_who_follow_pay)
{
    twill_rate_limiter limiter = limiter_of(
        (twill_rate_limiter_options){.tokens = 10, .burst = 5, .oversize = TWILL_RATE_DEBT});
    CHECK_EQ(try_at(&limiter, 25, 0), TWILL_OK);
    CHECK_EQ(try_at(&limiter, 1, 2 * S), TWILL_EMPTY);
    CHECK_EQ(try_at(&limiter, 1, 2 * S + S / 10), TWILL_OK);
    CHECK_EQ(try_at(&limiter, 25, 2 * S + 5 * S / 10), TWILL_EMPTY); /* not full */
    CHECK_EQ(try_at(&limiter, 25, 2 * S + 6 * S / 10), TWILL_OK);
    CHECK_EQ(try_at(&limiter, 1, 4 * S + 6 * S / 10), TWILL_EMPTY);
    CHECK_EQ(try_at(&limiter, UINT64_C(1) << 60, 100 * S), TWILL_TOO_BIG);
}

TEST(split_waits_as_single_ones_would)
{
    twill_rate_limiter limiter = limiter_of(
        (twill_rate_limiter_options){.tokens = 10, .burst = 5, .oversize = TWILL_RATE_SPLIT});
    twill_reservation reservation;
    CHECK_EQ(try_at(&limiter, 25, 0), TWILL_EMPTY); /* never at once */
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 25, TWILL_FOREVER, 0, &reservation), TWILL_OK);
    CHECK_EQ(reservation.due, 2 * S);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 0, &reservation), TWILL_OK);
    CHECK_EQ(reservation.due, 2 * S + S / 10);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, UINT64_MAX, TWILL_FOREVER, 0, &reservation),
             TWILL_TOO_BIG);
}

/* ---- reservations ---- */

TEST(reservations_are_due_in_turn)
{
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){.tokens = 10, .burst = 2});
    twill_reservation r[6];
    for (int k = 0; k < 6; k++) {
        CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 0, &r[k]), TWILL_OK);
        CHECK_EQ(r[k].due, k < 2 ? 0 : (k - 1) * S / 10);
    }
    twill_reservation late;
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, S / 2 - 1, 0, &late), TWILL_TIMEOUT);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, -5, 0, &late), TWILL_TIMEOUT);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, S / 2, 0, &late), TWILL_OK);
    CHECK(twill_rate_limiter_cancel(&limiter, &late)); /* the last one: as if it had never been */
    CHECK(!twill_rate_limiter_cancel(&limiter, &late));
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, S / 2, 0, &late), TWILL_OK);
    CHECK_EQ(late.due, S / 2);
    CHECK(!twill_rate_limiter_cancel(&limiter, &r[0])); /* due already */
    CHECK_EQ(stats_of(&limiter).given_back, 1);
}

TEST(a_hole_in_the_middle_is_used_again)
{
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){.tokens = 10});
    twill_reservation r[8], again;
    for (int k = 0; k < 8; k++)
        CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 0, &r[k]), TWILL_OK);
    CHECK(twill_rate_limiter_cancel(&limiter, &r[3]));
    CHECK(twill_rate_limiter_cancel(&limiter, &r[5]));
    CHECK_EQ(try_at(&limiter, 1, S / 10), TWILL_EMPTY); /* nothing moves ahead */
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 0, &again), TWILL_OK);
    CHECK_EQ(again.due, 3 * S / 10);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 4 * S / 10, &again),
             TWILL_OK);
    CHECK_EQ(again.due, 5 * S / 10);
    CHECK(twill_rate_limiter_cancel(&limiter, &again));
    /* cancelled from the end: the hole goes with them */
    CHECK(twill_rate_limiter_cancel(&limiter, &r[7]));
    CHECK(twill_rate_limiter_cancel(&limiter, &r[6]));
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 4 * S / 10, &again),
             TWILL_OK);
    CHECK_EQ(again.due, 5 * S / 10);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 4 * S / 10, &again),
             TWILL_OK);
    CHECK_EQ(again.due, 6 * S / 10);
    CHECK_EQ(stats_of(&limiter).lost_in_cancel, 0);
}

TEST(sixteen_holes_and_no_more)
{
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){.tokens = 10});
    twill_reservation r[20];
    for (int k = 0; k < 20; k++)
        CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 0, &r[k]), TWILL_OK);
    for (int k = 1; k < 19; k++)
        CHECK_EQ(twill_rate_limiter_cancel(&limiter, &r[k]), k <= 16);
    CHECK_EQ(stats_of(&limiter).lost_in_cancel, 2);
    CHECK_EQ(stats_of(&limiter).given_back, 16);
}

/* Storms of reserve, cancel, try and give_back; what remains admitted keeps the bound. */
TEST(cancelled_reservations_never_admit_too_many)
{
    enum { MANY = 400 };
    for (int round = 0; round < 150; round++) {
        uint64_t burst = 1 + test_random_below(4);
        twill_rate_limiter limiter =
            limiter_of((twill_rate_limiter_options){.tokens = 10, .burst = burst});
        static twill_reservation r[MANY];
        static uint64_t n[MANY];
        static bool live[MANY];
        size_t count = 0;
        twill_ns now = 0;
        while (count < MANY) {
            uint64_t dice = test_random_below(10);
            now += (twill_ns)test_random_below((uint64_t)S / 8);
            if (dice < 5) {
                n[count] = 1 + test_random_below(burst);
                if (twill_rate_limiter_reserve_at(&limiter, n[count], 2 * S, now, &r[count]) ==
                    TWILL_OK)
                    live[count++] = true;
            } else if (dice < 7) {
                n[count] = 1;
                if (try_at(&limiter, 1, now) == TWILL_OK) {
                    r[count].due = now;
                    live[count++] = true;
                }
            } else if (count) {
                size_t back = count - 1 - test_random_below(count < 12 ? count : 12);
                twill_reservation copy = r[back];
                bool early = r[back].due > twill__rate_of(&limiter)->latest;
                if (live[back] && r[back].due > now && early) {
                    bool done = twill_rate_limiter_cancel(&limiter, &copy);
                    live[back] = false; /* lost or back, it does not start */
                    (void)done;
                }
            }
        }
        for (size_t a = 0; a < count; a++) { /* any window that begins with a start */
            for (size_t b = 0; b < count; b++) {
                if (!live[a] || !live[b] || r[b].due < r[a].due || b - a > 60)
                    continue;
                uint64_t sum = 0;
                for (size_t k = a > 40 ? a - 40 : 0; k < count && k < a + 100; k++)
                    if (live[k] && r[k].due >= r[a].due && r[k].due <= r[b].due)
                        sum += n[k];
                CHECK(sum <= (uint64_t)(r[b].due - r[a].due + 1) * 10 / (uint64_t)S + burst);
                b += 7;
            }
        }
    }
}

/* Random calls against whole nanoseconds: one token in `per`, so all instants are exact. `taken`:
   up to where tokens are taken, as an instant. */
TEST(random_calls_against_a_model)
{
    for (int round = 0; round < 200; round++) {
        twill_ns per = 1 + (twill_ns)test_random_below(5000), now = 0, taken = 0;
        uint64_t burst = 1 + test_random_below(20);
        twill_ns depth = (twill_ns)burst * per;
        twill_rate_limiter limiter =
            limiter_of((twill_rate_limiter_options){.tokens = 1, .per = per, .burst = burst});
        uint64_t granted = 0;
        for (int k = 0; k < 300; k++) {
            uint64_t n = 1 + test_random_below(burst + 1);
            twill_ns cost = (twill_ns)n * per, from = taken > now ? taken : now;
            twill_ns due = from + cost - depth > now ? from + cost - depth : now;
            twill_ns patience = (twill_ns)test_random_below((uint64_t)(2 * depth)) - per;
            twill_reservation later = {0};
            twill_status status = n > burst ? TWILL_TOO_BIG : due > now ? TWILL_EMPTY : TWILL_OK;
            if (test_random_below(3)) {
                CHECK_EQ(try_at(&limiter, n, now), status);
                taken = status == TWILL_OK ? from + cost : taken;
                granted += status == TWILL_OK ? n : 0;
            } else {
                if (n <= burst)
                    status = due > now && due - now > patience ? TWILL_TIMEOUT : TWILL_OK;
                CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, n, patience, now, &later), status);
                if (status == TWILL_OK) {
                    CHECK_EQ(later.due, due);
                    granted += n;
                    taken = from + cost;
                    if (test_random_below(2)) {
                        CHECK_EQ(twill_rate_limiter_cancel(&limiter, &later), due > now);
                        taken -= due > now ? cost : 0;
                    }
                }
                if (test_random_below(8) == 0) {
                    twill_rate_limiter_penalise(&limiter, patience);
                    if (patience > 0 && taken < now + patience + depth - per)
                        taken = now + patience + depth - per;
                }
            }
            now += (twill_ns)test_random_below(2 * (uint64_t)per + 1);
        }
        CHECK_EQ(stats_of(&limiter).granted, granted);
    }
}

TEST(give_back)
{
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){.tokens = 10, .burst = 5});
    CHECK_EQ(try_at(&limiter, 5, 0), TWILL_OK);
    twill_rate_limiter_give_back(&limiter, 2);
    CHECK_EQ(drain_at(&limiter, 0), 2);
    twill_rate_limiter_give_back(&limiter, UINT64_MAX); /* full at most */
    CHECK_EQ(drain_at(&limiter, 0), 5);
    twill_reservation r;
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 0, &r), TWILL_OK);
    twill_rate_limiter_give_back(&limiter, 3); /* what is to come is not moved ahead */
    CHECK_EQ(drain_at(&limiter, 0), 0);
    CHECK_EQ(drain_at(&limiter, 2 * S / 10), 1);
    limiter = limiter_of(
        (twill_rate_limiter_options){.tokens = 10, .burst = 5, .oversize = TWILL_RATE_DEBT});
    CHECK_EQ(try_at(&limiter, 100, 0), TWILL_OK);
    twill_rate_limiter_give_back(&limiter, 97); /* debt is let off */
    CHECK_EQ(drain_at(&limiter, 0), 2);
}

/* ---- changes ---- */

TEST(set_rate_keeps_the_credit)
{
    twill_rate_limiter limiter =
        limiter_of((twill_rate_limiter_options){.tokens = 10, .burst = 10});
    twill_reservation r;
    CHECK_EQ(try_at(&limiter, 4, 0), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, 0, 0, &r), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 100, 0, 20), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_available(&limiter), 5);
    CHECK_EQ(drain_at(&limiter, 0), 5);
    CHECK_EQ(drain_at(&limiter, S / 100), 1);
    CHECK_EQ(drain_at(&limiter, 10 * S), 20);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 10 * S, &r), TWILL_OK);
    CHECK_EQ(r.due, 10 * S + S / 100);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 1, 0, 3), TWILL_OK);
    CHECK(!twill_rate_limiter_cancel(&limiter, &r)); /* of the rate before */
    CHECK_EQ(drain_at(&limiter, 12 * S - 1), 0);     /* it owed one token */
    CHECK_EQ(drain_at(&limiter, 12 * S), 1);
    CHECK_EQ(drain_at(&limiter, 100 * S), 3);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 1, 1, 1), TWILL_OK);
    for (int k = 0; k < 300; k++) { /* any rate after any, and no credit from it */
        uint64_t tokens = 1 + any_width(30), per = 1 + any_width(50), burst = 1 + any_width(30);
        twill_ns now = 1000 * S + k;
        while (try_at(&limiter, 1, now) == TWILL_OK)
            (void)try_at(&limiter, twill_rate_limiter_available(&limiter), now);
        if (tokens > per)
            tokens = per;
        CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, 0, now, &r), TWILL_TIMEOUT);
        CHECK_EQ(twill_rate_limiter_set_rate(&limiter, tokens, (twill_ns)per, burst), TWILL_OK);
        CHECK_EQ(twill_rate_limiter_available(&limiter), 0);
        CHECK_EQ(try_at(&limiter, 1, now), TWILL_EMPTY);
    }
}

TEST(set_rate_before_the_first_instant)
{
    twill_rate_limiter limiter =
        limiter_of((twill_rate_limiter_options){.tokens = 10, .burst = 10});
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 1, 0, 2), TWILL_OK);
    CHECK_EQ(stats_of(&limiter).granted, 0);
    int before = atomic_load(&asserted);
    CHECK_EQ(drain_at(&limiter, -5000 * S), 2);
    CHECK_EQ(drain_at(&limiter, -4999 * S), 1);
    CHECK_EQ(atomic_load(&asserted), before);
    (void)twill_rate_limiter_try_acquire(&limiter, 1); /* the other clock */
    CHECK(atomic_load(&asserted) > before);
}

TEST(penalise)
{
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){.tokens = 10, .burst = 5});
    CHECK_EQ(try_at(&limiter, 1, 0), TWILL_OK);
    twill_rate_limiter_penalise(&limiter, 0);
    twill_rate_limiter_penalise(&limiter, -1);
    CHECK_EQ(drain_at(&limiter, 0), 4);
    twill_reservation r;
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 10 * S, &r), TWILL_OK);
    twill_rate_limiter_penalise(&limiter, 3 * S);
    twill_rate_limiter_give_back(&limiter, 5); /* does not undo it */
    CHECK_EQ(drain_at(&limiter, 13 * S - 1), 0);
    CHECK_EQ(drain_at(&limiter, 13 * S), 1);
    CHECK_EQ(drain_at(&limiter, 13 * S + S / 10), 1);
    CHECK_EQ(drain_at(&limiter, 100 * S), 5);
    for (int k = 0; k < 200; k++) { /* exactly then, for any rate */
        uint64_t tokens = 1 + any_width(30), per = 1 + any_width(50);
        twill_ns wait = 1 + (twill_ns)per + (twill_ns)any_width(50); /* not due later anyway */
        limiter = limiter_of((twill_rate_limiter_options){.tokens = tokens < per ? tokens : per,
                                                          .per = (twill_ns)per,
                                                          .burst = 1 + any_width(8)});
        CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, 0, 77, &r), TWILL_OK);
        twill_rate_limiter_penalise(&limiter, wait);
        CHECK_EQ(try_at(&limiter, 1, 77 + wait - 1), TWILL_EMPTY);
        uint64_t unit = 1 + per / (tokens < per ? tokens : per) / (UINT64_C(1) << 40);
        CHECK_EQ(try_at(&limiter, 1, 77 + wait + (twill_ns)(unit > 1 ? unit : 0)), TWILL_OK);
    }
}

/* What is cancelled after it does not shorten it. */
TEST(a_penalty_outlasts_what_is_cancelled)
{
    twill_reservation r[4], again;
    for (int middle = 0; middle < 2; middle++) {
        twill_rate_limiter limiter =
            limiter_of((twill_rate_limiter_options){.tokens = 1, .burst = 1});
        for (int k = 0; k < 4; k++) {
            CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 0, &r[k]), TWILL_OK);
            CHECK_EQ(r[k].due, k * S);
        }
        twill_rate_limiter_penalise(&limiter, S + S / 2);
        if (middle) { /* a hole before its end is none; one behind it is */
            CHECK(!twill_rate_limiter_cancel(&limiter, &r[1]));
            CHECK(twill_rate_limiter_cancel(&limiter, &r[2]));
            CHECK_EQ(stats_of(&limiter).lost_in_cancel, 1);
        } else {
            for (int k = 3; k > 0; k--)
                CHECK(twill_rate_limiter_cancel(&limiter, &r[k]));
            twill_rate_limiter_give_back(&limiter, 1);
        }
        CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 0, &again), TWILL_OK);
        CHECK_EQ(again.due, middle ? 2 * S : S + S / 2);
        CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 0, &again), TWILL_OK);
        CHECK_EQ(again.due, middle ? 4 * S : 2 * S + S / 2);
    }
}

/* Nor does another rate, nor make it longer: a server said how long, and the program slows down. */
TEST(a_penalty_is_a_time_whatever_the_rate)
{
    static const uint64_t rates[] = {1, 10, 1000, 1000000};
    twill_reservation r;
    for (int from = 0; from < 4; from++)
        for (int to = 0; to < 4; to++) {
            twill_rate_limiter limiter =
                limiter_of((twill_rate_limiter_options){.tokens = rates[from], .burst = 5});
            CHECK_EQ(try_at(&limiter, 5, 0), TWILL_OK);
            twill_rate_limiter_penalise(&limiter, 60 * S);
            CHECK_EQ(twill_rate_limiter_set_rate(&limiter, rates[to], 0, 3), TWILL_OK);
            CHECK_EQ(drain_at(&limiter, 60 * S - 1), 0);
            CHECK_EQ(drain_at(&limiter, 60 * S), 1);
            CHECK_EQ(drain_at(&limiter, 60 * S), 0);
            CHECK_EQ(drain_at(&limiter, 70 * S), 3);
        }
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){.tokens = 1, .burst = 1});
    CHECK_EQ(try_at(&limiter, 1, 0), TWILL_OK);
    twill_rate_limiter_penalise(&limiter, 10 * S);
    for (int k = 0; k < 2; k++) { /* one token more than there will be */
        CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 0, &r), TWILL_OK);
        CHECK_EQ(r.due, (10 + k) * S);
    }
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 10, 0, 1), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 0, &r), TWILL_OK);
    CHECK_EQ(r.due, 10 * S + 2 * S / 10);
    twill_rate_limiter_penalise(&limiter, TWILL_FOREVER);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 1, 1, 5), TWILL_OK);
    CHECK_EQ(drain_at(&limiter, INT64_C(2000000000) * S), 0); /* 63 years */
    /* and more than a word of the new rate holds */
    const uint64_t unit = UINT64_C(1) << 50;
    limiter = limiter_of(
        (twill_rate_limiter_options){.tokens = 2, .per = 1, .oversize = TWILL_RATE_DEBT});
    CHECK_EQ(try_at(&limiter, 500 * unit, 0), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 2, 1, 1), TWILL_OK);
    twill_rate_limiter_penalise(&limiter, (twill_ns)(2040 * unit));
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1024 * unit, TWILL_FOREVER, 0, &r), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, UINT32_MAX, INT64_C(1) << 32, 1024 * unit - 1),
             TWILL_OK);
    CHECK_EQ(drain_at(&limiter, (twill_ns)(2040 * unit) - 1), 0);
}

TEST(a_change_of_rate_survives_a_fork_in_the_middle)
{
    twill_rate_limiter limiter =
        limiter_of((twill_rate_limiter_options){.tokens = 10, .burst = 10});
    twill__rate *me = twill__rate_of(&limiter);
    CHECK_EQ(try_at(&limiter, 4, 0), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 100, 0, 20), TWILL_OK);
    /* as a child would find it: the lock held, half of the change carried out */
    atomic_store(&me->lock, 3);
    atomic_store(&me->changing, 1);
    atomic_store(&me->base, 12345);
    atomic_store(&me->word, TWILL__RATE_SLOW | 1);
    atomic_store(&me->generation, 0x7ffffff);
    CHECK_EQ(drain_at(&limiter, 0), 6);
    CHECK_EQ(drain_at(&limiter, S / 100), 1);
}

/* A signal handler that has interrupted the one who makes it the child's does not wait for him. */
TEST(a_try_in_a_handler_does_not_wait_after_a_fork)
{
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){.tokens = 10});
    twill__rate *me = twill__rate_of(&limiter);
    uint32_t mine = atomic_load(&me->generation);
    CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, 0), TWILL_OK);
    atomic_store(&me->generation, 0x80000000u | mine);
    CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, 1), TWILL_EMPTY);
    atomic_store(&me->generation, mine);
    CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, 1), TWILL_OK);
}

/* ---- WINDOW ---- */

TEST(window_is_strict)
{
    twill_ns starts[4];
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){
        .tokens = 4, .kind = TWILL_RATE_WINDOW, .starts = starts, .starts_count = 4});
    CHECK_EQ(drain_at(&limiter, 100), 4);
    CHECK_EQ(drain_at(&limiter, 100 + S - 1), 0);
    CHECK_EQ(try_at(&limiter, 2, 100 + S), TWILL_OK); /* half-open */
    CHECK_EQ(drain_at(&limiter, 100 + 3 * S / 2), 2);
    CHECK_EQ(drain_at(&limiter, 100 + 2 * S), 2);
    CHECK_EQ(try_at(&limiter, 5, 100 * S), TWILL_TOO_BIG);
    CHECK_EQ(try_at(&limiter, 4, 100 * S), TWILL_OK);
    CHECK_EQ(drain_at(&limiter, 50 * S), 0); /* an earlier instant */
    CHECK_EQ(drain_at(&limiter, INT64_MAX - 1), 4);
    CHECK_EQ(drain_at(&limiter, INT64_MAX - 1), 0);
}

/* What a try would get is what `available` says, until the end. */
TEST(available_in_a_window)
{
    twill_ns starts[4];
    for (uint64_t n = 0; n <= 4; n++) {
        twill_rate_limiter limiter =
            limiter_of((twill_rate_limiter_options){.tokens = 4,
                                                    .per = 3600 * S,
                                                    .kind = TWILL_RATE_WINDOW,
                                                    .starts = starts,
                                                    .starts_count = 4});
        CHECK_EQ(twill_rate_limiter_try_acquire(&limiter, n), TWILL_OK);
        CHECK_EQ(twill_rate_limiter_available(&limiter), 4 - n);
        twill_rate_limiter_close(&limiter);
        CHECK_EQ(twill_rate_limiter_available(&limiter), 0);
    }
}

/* The largest burst at the fastest rate, taken when the clock stands still: no more than that. */
TEST(the_largest_burst_at_the_end_of_time)
{
    const uint64_t most = (UINT64_C(1) << 61) - 1;
    const twill_ns late = INT64_C(1) << 61;
    for (int anew = 0; anew < 2; anew++) {
        twill_rate_limiter limiter =
            limiter_of((twill_rate_limiter_options){.tokens = 2, .per = 1, .burst = most});
        CHECK_EQ(try_at(&limiter, 1, 0), TWILL_OK);
        if (anew) /* the highest base that there is */
            CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 2, 1, most), TWILL_OK);
        CHECK_EQ(try_at(&limiter, most, late), TWILL_OK);
        CHECK_EQ(try_at(&limiter, 1, late), TWILL_EMPTY);
        CHECK_EQ(twill_rate_limiter_available(&limiter), 0);
        CHECK_EQ(try_at(&limiter, 1, INT64_MAX), TWILL_EMPTY);
    }
}

/* 73 years after its first instant a limiter's clock stands still: it is full, and does not
   wrap. */
TEST(the_clock_of_a_rate_ends)
{
    twill__scale scale;
    uint64_t last;
    memset(&scale, 0, sizeof scale);
    CHECK(twill__scale_make(&scale, 2, 1, 0, 5));
    scale.origin = INT64_MIN / 2;
    last = twill__scale_at(&scale, scale.origin + (INT64_C(1) << 61));
    CHECK(last > twill__scale_at(&scale, scale.origin + (INT64_C(1) << 61) - 1));
    CHECK_EQ(twill__scale_at(&scale, scale.origin + (INT64_C(1) << 61) + 1), last);
    CHECK_EQ(twill__scale_at(&scale, scale.origin + (INT64_C(1) << 62)), last);
    CHECK_EQ(twill__scale_at(&scale, INT64_MAX), last);
}

TEST(window_begins_used)
{
    twill_ns starts[3];
    for (uint64_t used = 0; used <= 3; used++) {
        twill_rate_limiter limiter =
            limiter_of((twill_rate_limiter_options){.tokens = 3,
                                                    .used = used,
                                                    .kind = TWILL_RATE_WINDOW,
                                                    .starts = starts,
                                                    .starts_count = 3});
        CHECK_EQ(drain_at(&limiter, -9 * S), 3 - used);
        CHECK_EQ(drain_at(&limiter, -8 * S), 3);
    }
}

/* It lasts as long as it would have, whatever the axis of the caller's instants. */
TEST(a_penalty_before_the_first_instant)
{
    twill_ns starts[1];
    twill_rate_limiter_options options = {.tokens = 1, .per = 1};
    for (int window = 0; window < 2; window++) {
        if (window)
            options = (twill_rate_limiter_options){.tokens = 1,
                                                   .per = 1,
                                                   .kind = TWILL_RATE_WINDOW,
                                                   .starts = starts,
                                                   .starts_count = 1};
        twill_rate_limiter limiter = limiter_of(options);
        twill_rate_limiter_penalise(&limiter, 1000 * S);
        CHECK_EQ(try_at(&limiter, 1, -5 * S), TWILL_EMPTY);
        CHECK_EQ(try_at(&limiter, 1, 995 * S - 1), TWILL_EMPTY);
        CHECK_EQ(try_at(&limiter, 1, 2000 * S), TWILL_OK); /* init and it are some time apart */
    }
}

/* A start that was overwritten when the window was shorter may lie in the longer one. */
TEST(a_longer_window_keeps_what_was_before)
{
    twill_ns starts[1];
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){
        .tokens = 1, .kind = TWILL_RATE_WINDOW, .starts = starts, .starts_count = 1});
    CHECK_EQ(try_at(&limiter, 1, 0), TWILL_OK);
    CHECK_EQ(try_at(&limiter, 1, S), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 1, 10 * S, 0), TWILL_OK);
    twill_rate_limiter_give_back(&limiter, 1);
    CHECK_EQ(stats_of(&limiter).given_back, 0);
    CHECK_EQ(drain_at(&limiter, 11 * S - 1), 0);
    CHECK_EQ(drain_at(&limiter, 11 * S), 1);
    twill_rate_limiter_give_back(&limiter, 2);
    CHECK_EQ(stats_of(&limiter).given_back, 1); /* the one since */
    CHECK_EQ(drain_at(&limiter, 11 * S), 1);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 1, 5 * S, 0), TWILL_OK); /* shorter */
    twill_rate_limiter_give_back(&limiter, 1);
    CHECK_EQ(drain_at(&limiter, 11 * S), 1);
}

TEST(window_changes)
{
    twill_ns starts[8];
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){
        .tokens = 2, .kind = TWILL_RATE_WINDOW, .starts = starts, .starts_count = 8});
    twill_rate_limiter_give_back(&limiter, 3); /* none was taken */
    CHECK_EQ(stats_of(&limiter).given_back, 0);
    CHECK_EQ(drain_at(&limiter, 0), 2);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 9, 0, 0), TWILL_TOO_BIG);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 2, 0, 1), TWILL_INVALID);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 5, 0, 0), TWILL_OK);
    CHECK_EQ(drain_at(&limiter, 0), 3); /* those of before count */
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 3, 2 * S, 0), TWILL_OK);
    CHECK_EQ(drain_at(&limiter, S), 0);
    CHECK_EQ(drain_at(&limiter, 2 * S), 3);
    twill_rate_limiter_give_back(&limiter, 2);
    CHECK_EQ(drain_at(&limiter, 2 * S), 2);
    twill_reservation r;
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, 0, 3 * S, &r), TWILL_TIMEOUT);
    twill_rate_limiter_penalise(&limiter, 10 * S);
    CHECK_EQ(drain_at(&limiter, 13 * S - 1), 0);
    CHECK_EQ(drain_at(&limiter, 13 * S), 3);
    CHECK_EQ(stats_of(&limiter).given_back, 2);
    twill_rate_limiter_give_back(&limiter, 100); /* no window had more than 3 */
    CHECK_EQ(stats_of(&limiter).given_back, 5);
    CHECK_EQ(drain_at(&limiter, 13 * S), 3);
}

/* ---- windows by the real clock, and far ahead ---- */

TEST(a_window_gives_what_it_has)
{
    twill_ns starts[5];
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){.tokens = 5,
                                                                         .per = TWILL_SEC(3600),
                                                                         .kind = TWILL_RATE_WINDOW,
                                                                         .starts = starts,
                                                                         .starts_count = 5});
    CHECK_EQ(twill_rate_limiter_available(&limiter), 5);
    CHECK_EQ(twill_rate_limiter_take_up_to(&limiter, 3), 3);
    CHECK_EQ(twill_rate_limiter_available(&limiter), 2);
    CHECK_EQ(twill_rate_limiter_take_up_to(&limiter, 9), 2);
    CHECK_EQ(twill_rate_limiter_take_up_to(&limiter, 9), 0);
    CHECK_EQ(twill_rate_limiter_take_up_to(&limiter, 0), 0);
    CHECK_EQ(twill_rate_limiter_available(&limiter), 0);
    CHECK(twill_rate_limiter_wait_time(&limiter, 1) > TWILL_SEC(3500));
    twill_rate_limiter_give_back(&limiter, 2);
    CHECK_EQ(twill_rate_limiter_available(&limiter), 2);
    CHECK_EQ(stats_of(&limiter).granted, 5);
}

/* One window after another; what is reserved is not unused. */
TEST(a_window_is_reserved_ahead)
{
    twill_ns starts[8];
    twill_reservation r, late;
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){
        .tokens = 2, .kind = TWILL_RATE_WINDOW, .starts = starts, .starts_count = 8});
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 2, TWILL_FOREVER, 0, &r), TWILL_OK);
    CHECK_EQ(r.due, 0);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 2, TWILL_FOREVER, 0, &r), TWILL_OK);
    CHECK_EQ(r.due, S);
    twill_rate_limiter_give_back(&limiter, 2); /* the newest are reserved: nothing is unused */
    CHECK_EQ(stats_of(&limiter).given_back, 0);
    CHECK_EQ(try_at(&limiter, 1, S / 2), TWILL_EMPTY);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, S / 2, &late), TWILL_OK);
    CHECK_EQ(late.due, 2 * S);
    twill_rate_limiter_penalise(&limiter, 10 * S); /* from the newest instant on */
    twill_rate_limiter_penalise(&limiter, 1);      /* a smaller one changes nothing */
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, S / 2, &late), TWILL_OK);
    CHECK_EQ(late.due, S / 2 + 10 * S);
}

TEST(a_window_longer_than_time)
{
    twill_ns starts[2];
    twill_reservation r;
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){.tokens = 1,
                                                                         .per = TWILL_FOREVER - 1,
                                                                         .kind = TWILL_RATE_WINDOW,
                                                                         .starts = starts,
                                                                         .starts_count = 2});
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, S, &r), TWILL_OK);
    CHECK_EQ(r.due, S);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, S, &r), TWILL_TIMEOUT);
    CHECK_EQ(drain_at(&limiter, INT64_MAX - 1), 0);
    twill_rate_limiter_give_back(&limiter, 1); /* long before there was time */
    CHECK_EQ(drain_at(&limiter, INT64_MAX - 1), 1);
    CHECK_EQ(try_at(&limiter, 1, INT64_MAX), TWILL_EMPTY); /* due for ever is not due now */
}

/* A start that was not used leaves none, also where one a window earlier is no instant. */
TEST(a_window_before_all_time)
{
    static const twill_ns instants[] = {INT64_MIN + 1, INT64_MIN / 2, -1};
    for (size_t k = 0; k < sizeof instants / sizeof *instants; k++) {
        twill_ns starts[2], now = instants[k], per = INT64_C(6000000000) * S;
        twill_rate_limiter limiter =
            limiter_of((twill_rate_limiter_options){.tokens = 1,
                                                    .per = per,
                                                    .kind = TWILL_RATE_WINDOW,
                                                    .starts = starts,
                                                    .starts_count = 2});
        CHECK_EQ(drain_at(&limiter, now), 1);
        twill_rate_limiter_give_back(&limiter, 1);
        CHECK_EQ(drain_at(&limiter, now), 1);
        twill_rate_limiter_give_back(&limiter, 1);
        CHECK_EQ(drain_at(&limiter, now + 1), 1);
        CHECK_EQ(try_at(&limiter, 1, now + per), TWILL_EMPTY);
        CHECK_EQ(try_at(&limiter, 1, now + per + 1), TWILL_OK);
    }
}

/* ---- reservations that are more, or later, than there can be ---- */

TEST(reservations_at_the_ends)
{
    twill_reservation r, s, t;
    twill_rate_limiter debt = limiter_of(
        (twill_rate_limiter_options){.tokens = 10, .burst = 4, .oversize = TWILL_RATE_DEBT});
    CHECK_EQ(twill_rate_limiter_reserve_at(&debt, 9, TWILL_FOREVER, 0, &r), TWILL_OK); /* a debt */
    CHECK_EQ(twill_rate_limiter_reserve_at(&debt, 1, TWILL_FOREVER, 0, &s), TWILL_OK);
    CHECK_EQ(s.due, 6 * S / 10);
    CHECK_EQ(twill_rate_limiter_reserve_at(&debt, 9, TWILL_FOREVER, 0, &t), TWILL_OK);
    CHECK_EQ(t.due, 10 * S / 10);
    CHECK_EQ(twill_rate_limiter_reserve_at(&debt, 1, TWILL_FOREVER, 0, &r), TWILL_OK);
    CHECK(!twill_rate_limiter_cancel(&debt, &t)); /* a debt with another behind it: no hole */
    CHECK(twill_rate_limiter_cancel(&debt, &s));  /* a hole */
    CHECK_EQ(twill_rate_limiter_reserve_at(&debt, 9, TWILL_FOREVER, 0, &t), TWILL_OK);
    CHECK(t.due > r.due); /* a debt takes no hole */
    CHECK_EQ(twill_rate_limiter_reserve_at(&debt, 1, 0, 0, &s), TWILL_TIMEOUT);
    CHECK_EQ(twill_rate_limiter_reserve_at(&debt, 1, TWILL_FOREVER, 0, &s), TWILL_OK);
    CHECK_EQ(s.due, 6 * S / 10);
    CHECK(twill_rate_limiter_cancel(&debt, &s));
    twill_rate_limiter_penalise(&debt, 100 * S); /* holes are lost */
    CHECK_EQ(stats_of(&debt).lost_in_cancel, 9 + 1);
    CHECK_EQ(twill_rate_limiter_reserve_at(&debt, 1, 99 * S, 0, &s), TWILL_TIMEOUT);
    /* one a century: the second is beyond all time */
    twill_rate_limiter slow =
        limiter_of((twill_rate_limiter_options){.tokens = 1, .per = TWILL_FOREVER - 1, .burst = 1});
    CHECK_EQ(twill_rate_limiter_reserve_at(&slow, 1, TWILL_FOREVER, S, &r), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_reserve_at(&slow, 1, TWILL_FOREVER, S, &r), TWILL_TIMEOUT);
    /* and more than any word holds */
    twill_rate_limiter wide = limiter_of((twill_rate_limiter_options){
        .tokens = 1, .per = 1, .burst = UINT64_C(1) << 60, .oversize = TWILL_RATE_SPLIT});
    twill_status status = TWILL_OK;
    for (int k = 0; k < 64 && status == TWILL_OK; k++)
        status = twill_rate_limiter_reserve_at(&wide, UINT64_C(1) << 60, TWILL_FOREVER, S, &r);
    CHECK(status == TWILL_TOO_BIG || status == TWILL_TIMEOUT);
    const uint64_t most = (UINT64_C(1) << 61) - 1;
    twill_rate_limiter high =
        limiter_of((twill_rate_limiter_options){.tokens = 2, .per = 1, .burst = most});
    CHECK_EQ(try_at(&high, most, 0), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_reserve_at(&high, most, TWILL_FOREVER, 0, &t), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_reserve_at(&high, most, TWILL_FOREVER, 0, &r), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_reserve_at(&high, most, TWILL_FOREVER, 0, &s), TWILL_TOO_BIG);
    CHECK(twill_rate_limiter_cancel(&high, &r));
    CHECK_EQ(twill_rate_limiter_reserve_at(&high, UINT64_C(1) << 60, TWILL_FOREVER, 0, &s),
             TWILL_OK);
}

/* Tokens that came before the time of a reservation that was cancelled: a slow rate takes them
   over. */
TEST(set_rate_after_a_cancelled_reservation)
{
    twill_rate_limiter limiter =
        limiter_of((twill_rate_limiter_options){.tokens = 1, .per = 1, .burst = 10});
    twill_reservation r;
    CHECK_EQ(try_at(&limiter, 10, 0), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 5, TWILL_FOREVER, 0, &r), TWILL_OK);
    CHECK_EQ(r.due, 5);
    CHECK(twill_rate_limiter_cancel(&limiter, &r));
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 10, 0, 3, &r), TWILL_TIMEOUT);
    CHECK_EQ(twill_rate_limiter_available(&limiter), 3);
    CHECK_EQ(try_at(&limiter, 2, 3), TWILL_OK);
    twill_rate_limiter_give_back(&limiter, 9); /* no more than was taken since */
    CHECK_EQ(twill_rate_limiter_available(&limiter), 3);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 1, 0, 4), TWILL_OK);
    CHECK_EQ(twill_rate_limiter_available(&limiter), 3);
    CHECK_EQ(drain_at(&limiter, 3), 3);
    twill_rate_limiter_give_back(&limiter, 2);
    CHECK_EQ(drain_at(&limiter, 3), 2);
}

/* Holes are of the rate that they came from: another one finds none of them. */
TEST(set_rate_loses_all_holes)
{
    twill_rate_limiter limiter = limiter_of((twill_rate_limiter_options){.tokens = 10});
    twill_reservation r[4];
    for (int k = 0; k < 4; k++)
        CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 0, &r[k]), TWILL_OK);
    CHECK(twill_rate_limiter_cancel(&limiter, &r[1]));
    CHECK(twill_rate_limiter_cancel(&limiter, &r[2]));
    CHECK_EQ(stats_of(&limiter).lost_in_cancel, 0);
    CHECK_EQ(twill_rate_limiter_set_rate(&limiter, 10, 0, 1), TWILL_OK);
    CHECK_EQ(stats_of(&limiter).lost_in_cancel, 2);
    CHECK_EQ(twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 0, &r[1]), TWILL_OK);
    CHECK_EQ(r[1].due, r[3].due + TWILL_SEC(1) / 10);
}

TEST(slower_than_a_unit_in_years)
{
    twill_rate_limiter limiter;
    twill_reservation r;
    for (int power = -1074; power < -40; power += 11) {
        CHECK_EQ(twill_rate_limiter_init_per_second(&limiter, ldexp(1, power), 1), TWILL_OK);
        CHECK_EQ(try_at(&limiter, 1, 0), TWILL_OK);
        CHECK_EQ(try_at(&limiter, 1, TWILL_SEC(1000000)), TWILL_EMPTY);
        (void)twill_rate_limiter_reserve_at(&limiter, 1, TWILL_FOREVER, 0, &r);
    }
}

/* Try, reserve, cancel and give back at random: no half-open window has more than N. */
TEST(no_window_of_n_has_more)
{
    enum { MANY = 300 };
    for (int round = 0; round < 150; round++) {
        twill_ns starts[6], at[MANY];
        bool live[MANY];
        twill_reservation r[MANY];
        uint64_t tokens = 1 + test_random_below(4);
        twill_rate_limiter limiter =
            limiter_of((twill_rate_limiter_options){.tokens = tokens,
                                                    .per = 100,
                                                    .kind = TWILL_RATE_WINDOW,
                                                    .starts = starts,
                                                    .starts_count = tokens + test_random_below(3)});
        size_t count = 0, previous = MANY;
        twill_ns now = 1000;
        while (count < MANY) {
            uint64_t dice = test_random_below(10);
            now += (twill_ns)test_random_below(30);
            if (dice < 5) {
                if (try_at(&limiter, 1, now) == TWILL_OK) {
                    at[count] = now;
                    r[count].private_words[2] = 0;
                    previous = count;
                    live[count++] = true;
                }
            } else if (dice < 8) {
                if (twill_rate_limiter_reserve_at(&limiter, 1, 300, now, &r[count]) == TWILL_OK) {
                    at[count] = r[count].due;
                    previous = MANY;
                    live[count++] = true;
                }
            } else if (dice < 9) {
                size_t k = count ? count - 1 - test_random_below(count < 4 ? count : 4) : 0;
                if (count && twill_rate_limiter_cancel(&limiter, &r[k]))
                    live[k] = false;
            } else if (previous < MANY) { /* the latest was not used after all */
                live[previous] = false;
                previous = MANY;
                twill_rate_limiter_give_back(&limiter, 1);
            }
        }
        for (size_t a = 0; a < count; a++) {
            uint64_t sum = 0;
            for (size_t b = 0; b < count; b++)
                sum += live[b] && at[b] >= at[a] && at[b] < at[a] + 100;
            CHECK(sum <= tokens);
        }
    }
}

/* ---- keys ---- */

TEST(keys_have_limits_of_their_own)
{
    twill_rate_keys *keys;
    twill_rate_limiter_options options = {.tokens = 1, .per = 1000 * S, .burst = 3};
    CHECK_EQ(twill_rate_keys_create(&keys, 4, &options), TWILL_OK);
    for (uint64_t key = 0; key < 4; key++) {
        CHECK_EQ(twill_rate_keys_wait_time(keys, key, 3), 0);
        for (int k = 0; k < 3; k++)
            CHECK_EQ(twill_rate_keys_try_acquire(keys, key, 1), TWILL_OK);
        CHECK_EQ(twill_rate_keys_try_acquire(keys, key, 1), TWILL_EMPTY);
        twill_ns wait = twill_rate_keys_wait_time(keys, key, 1);
        CHECK(wait > 900 * S && wait <= 1000 * S);
    }
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 99, 1), TWILL_FULL);
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 99, 0), TWILL_OK);
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 99, 4), TWILL_TOO_BIG);
    CHECK_EQ(twill_rate_keys_wait_time(keys, 99, 4), TWILL_FOREVER);
    twill_ns room = twill_rate_keys_wait_time(keys, 99, 1); /* no less than one token takes */
    CHECK(room > 900 * S && room <= 3000 * S);
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 2, 1), TWILL_EMPTY); /* and nobody was forgotten */
    CHECK_EQ(twill_rate_keys_destroy(keys), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

TEST(keys_that_are_full_again_make_room)
{
    twill_rate_keys *keys;
    twill_rate_limiter_options options = {.tokens = 1, .per = TWILL_MS(2)};
    CHECK_EQ(twill_rate_keys_create(&keys, 100, &options), TWILL_OK);
    unsigned granted = 0;
    for (int round = 0; round < 20; round++) {
        for (uint64_t key = 0; key < 100; key++)
            granted +=
                twill_rate_keys_try_acquire(keys, (uint64_t)round * 1000 + key, 1) == TWILL_OK;
        twill_sleep(twill_within(TWILL_MS(3)));
    }
    CHECK_EQ(granted, 2000);
    CHECK_EQ(twill_rate_keys_destroy(keys), TWILL_OK);
}

/* A full store: a key that was full again, and is not any more, is none to let go of. */
TEST(keys_in_use_again_stay)
{
    twill_rate_keys *keys;
    CHECK_EQ(twill_rate_keys_create(
                 &keys, 1, &(twill_rate_limiter_options){.tokens = 1, .per = 1000 * S, .burst = 2}),
             TWILL_OK);
    CHECK_EQ(twill_rate_keys_wait_time(keys, 7, 1), 0); /* of one that has not asked yet */
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 7, 2), TWILL_OK);
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 8, 1), TWILL_FULL);
    keys->scale.origin -= 3000 * S; /* time goes by */
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 7, 1), TWILL_OK);
    CHECK_EQ(twill_rate_keys_wait_time(keys, 7, 1), 0); /* it has another */
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 8, 1), TWILL_FULL);
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 7, 2), TWILL_EMPTY);
    keys->scale.origin -= 3000 * S;
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 8, 1), TWILL_OK);
    CHECK_EQ(twill_rate_keys_destroy(keys), TWILL_OK);
}

TEST(keys_debt)
{
    twill_rate_keys *keys;
    twill_rate_limiter_options options = {
        .tokens = 1, .per = S, .burst = 2, .oversize = TWILL_RATE_DEBT};
    CHECK_EQ(twill_rate_keys_create(&keys, 0, &options), TWILL_OK);
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 5, 1000), TWILL_OK);
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 5, 1), TWILL_EMPTY);
    twill_ns wait = twill_rate_keys_wait_time(keys, 5, 1);
    CHECK(wait > 900 * S && wait <= 999 * S);
    CHECK(twill_rate_keys_wait_time(keys, 5, 10) > wait);
    CHECK_EQ(twill_rate_keys_destroy(keys), TWILL_OK);
}

TEST(keys_refusals)
{
    twill_rate_keys *keys = (twill_rate_keys *)&keys;
    twill_ns starts[1];
    const twill_rate_limiter_options bad[] = {
        {.tokens = 0},
        {.tokens = 1, .kind = TWILL_RATE_WINDOW, .starts = starts, .starts_count = 1},
        {.tokens = 1, .used = 1},
        {.tokens = 1, .kind = TWILL_RATE_WINDOW},
        {.tokens = 1, .oversize = TWILL_RATE_SPLIT},
        {.tokens = 1, .barging = true},
        {.tokens = 1, .strict_spacing = true},
        {.tokens = 1, .max_waiters = 1},
        {.tokens = 1, .counted = true},
        {.tokens = 3, .per = 1},
    };
    twill_rate_limiter_options good = {.tokens = 1};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        CHECK_EQ(twill_rate_keys_create(&keys, 1, &bad[k]), TWILL_INVALID);
        CHECK_PTR(keys, NULL);
    }
    CHECK_EQ(twill_rate_keys_create(&keys, 1, NULL), TWILL_INVALID);
    CHECK_EQ(twill_rate_keys_create(NULL, 1, &good), TWILL_INVALID);
    CHECK_EQ(twill_rate_keys_create(&keys, SIZE_MAX, &good), TWILL_TOO_BIG);
    faults_fail_alloc(1);
    CHECK_EQ(twill_rate_keys_create(&keys, 1, &good), TWILL_NO_MEMORY);
    CHECK_PTR(keys, NULL);
    CHECK_EQ(twill_rate_keys_try_acquire(NULL, 1, 1), TWILL_INVALID);
    CHECK_EQ(twill_rate_keys_wait_time(NULL, 1, 1), TWILL_FOREVER);
    CHECK_EQ(twill_rate_keys_create(&keys, 1, &good), TWILL_OK);
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 1, 0), TWILL_OK);
    CHECK_EQ(twill_rate_keys_wait_time(keys, 1, 0), 0);
    CHECK_EQ(twill_rate_keys_wait_time(keys, 1, 1), 0);
    CHECK_EQ(twill_rate_keys_wait_time(keys, 1, 2), TWILL_FOREVER);
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 1, 2), TWILL_TOO_BIG);
    CHECK_EQ(twill_rate_keys_destroy(keys), TWILL_OK);
    good.oversize = TWILL_RATE_DEBT;
    CHECK_EQ(twill_rate_keys_create(&keys, 1, &good), TWILL_OK);
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 1, UINT64_MAX), TWILL_TOO_BIG);
    CHECK_EQ(twill_rate_keys_wait_time(keys, 1, UINT64_C(1) << 60), TWILL_FOREVER);
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 1, 1), TWILL_OK); /* none was taken by that */
    CHECK_EQ(twill_rate_keys_destroy(keys), TWILL_OK);
    good.oversize = 0;
    good.tokens = 1;
    good.per = TWILL_FOREVER; /* a key that is never full again */
    CHECK_EQ(twill_rate_keys_create(&keys, 1, &good), TWILL_OK);
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 1, 1), TWILL_OK);
    CHECK_EQ(twill_rate_keys_try_acquire(keys, 1, 1), TWILL_EMPTY);
    CHECK_EQ(twill_rate_keys_wait_time(keys, 1, 1), TWILL_FOREVER);
    CHECK_EQ(twill_rate_keys_destroy(keys), TWILL_OK);
    CHECK_EQ(twill_rate_keys_destroy(NULL), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* Units of one rate in those of another are rounded up, and end at the top. */
TEST(units_of_another_scale)
{
    CHECK_EQ(twill__rate_units(5, 3, 3), 5);
    CHECK_EQ(twill__rate_units(8, 3, 1), 2);
    CHECK_EQ(twill__rate_units(9, 3, 1), 3);
    CHECK_EQ(twill__rate_units(9, 1, 3), 36);
    CHECK_EQ(twill__rate_units(UINT64_C(1) << 61, 0, 2), UINT64_C(1) << 63);
    CHECK_EQ(twill__rate_units(UINT64_C(1) << 62, 0, 2), UINT64_MAX);
}

HARNESS_MAIN

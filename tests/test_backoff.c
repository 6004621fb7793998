/* test_backoff.c - the engine parts below retries: wide products, the generator, growing delays.
   Compiled from the parts, since more than one pattern stands on them. */
#include "harness.h"

#define TWILL_IMPLEMENTATION
#include "twill_retry_backoff.h"

#define LARGEST ((uint64_t)INT64_MAX)

/* ---- wide ---- */

static twill__wide slow_product(uint64_t a, uint64_t b) /* bit by bit */
{
    twill__wide sum = {0, 0};
    for (int bit = 63; bit >= 0; bit--) {
        sum.high = sum.high << 1 | sum.low >> 63;
        sum.low <<= 1;
        if (b >> bit & 1) {
            uint64_t before = sum.low;
            sum.low += a;
            sum.high += sum.low < before;
        }
    }
    return sum;
}

static uint64_t any_width(void)
{
    return test_random() >> test_random_below(64);
}

TEST(products_are_exact)
{
    uint64_t edges[] = {0, 1, 2, 0xffffffffu, UINT64_C(0x100000000), LARGEST, UINT64_MAX};
    for (int k = 0; k < 20000; k++) {
        uint64_t a = k < 49 ? edges[k % 7] : any_width(), b = k < 49 ? edges[k / 7] : any_width();
        twill__wide fast = twill__wide_product(a, b), slow = slow_product(a, b);
        CHECK_EQ(fast.high, slow.high);
        CHECK_EQ(fast.low, slow.low);
    }
}

TEST(quotients_undo_products)
{
    for (int k = 0; k < 20000; k++) {
        uint64_t a = any_width(), by = any_width() | 1, rest = 7, add = test_random() % by;
        twill__wide value = twill__wide_product(a, by);
        value.low += add;
        value.high += value.low < add;
        CHECK_EQ(twill__wide_quotient(value, by, &rest), a);
        CHECK_EQ(rest, add);
    }
    uint64_t rest;
    CHECK_EQ(twill__wide_quotient((twill__wide){5, 0}, 5, &rest), UINT64_MAX); /* does not fit */
    CHECK_EQ(twill__wide_scaled(UINT64_MAX, UINT64_MAX, UINT64_MAX), UINT64_MAX);
    CHECK_EQ(twill__wide_scaled(1000, 1000000, 3), 333333333);
}

TEST(shifts_saturate)
{
    twill__wide value = {1, 2};
    CHECK_EQ(twill__wide_shifted(value, 0), UINT64_MAX);
    CHECK_EQ(twill__wide_shifted(value, 1), (UINT64_C(1) << 63) + 1);
    CHECK_EQ(twill__wide_shifted(value, 64), 1);
    CHECK_EQ(twill__wide_shifted(value, 127), 0);
    CHECK_EQ(twill__wide_shifted((twill__wide){0, 9}, 0), 9);
    CHECK_EQ(twill__saturated_sum(UINT64_MAX, 1), UINT64_MAX);
    CHECK_EQ(twill__saturated_sum(UINT64_MAX - 1, 1), UINT64_MAX);
}

/* ---- generator ---- */

TEST(generator_is_the_published_one)
{
    uint64_t state = 0, other = 1234567;
    CHECK_EQ(twill__random(&state), UINT64_C(0xe220a8397b1dcdaf));
    CHECK_EQ(twill__random(&state), UINT64_C(0x6e789e6aa1b965f4));
    CHECK_EQ(twill__random(&state), UINT64_C(0x06c45d188009454f));
    CHECK_EQ(twill__random(&other), UINT64_C(6457827717110365317));
    CHECK_EQ(twill__random(&other), UINT64_C(3203168211198807973));
}

TEST(ranges_have_both_ends)
{
    uint64_t state = 1, seen[4] = {0}, most = 0;
    for (int k = 0; k < 4000; k++)
        seen[twill__random_to(&state, 3)]++;
    for (int k = 0; k < 4; k++)
        CHECK(seen[k] > 800 && seen[k] < 1200);
    CHECK_EQ(twill__random_to(&state, 0), 0);
    for (int k = 0; k < 100; k++) {
        uint64_t number = twill__random_to(&state, LARGEST);
        CHECK(number <= LARGEST);
        most = number > most ? number : most;
    }
    CHECK(most > LARGEST / 2);
    CHECK(twill__random_to(&state, UINT64_MAX) != twill__random_to(&state, UINT64_MAX));
}

TEST(a_seed_of_0_is_a_fresh_one)
{
    int here = 0, there = 0;
    CHECK_EQ(twill__random_begin(5, &here), 5);
    CHECK(twill__random_begin(0, &here) != twill__random_begin(0, &there));
}

/* ---- delays ---- */

static twill__backoff shape_of(int jitter)
{
    twill__backoff shape = twill__backoff_usual(TWILL_MS(100), TWILL_SEC(10));
    shape.jitter = jitter;
    return shape;
}

TEST(growth_stops_at_the_cap)
{
    twill__backoff shape = shape_of(TWILL__JITTER_NONE);
    twill__delays delays = {1, 0, 0};
    twill_ns expected = TWILL_MS(100);
    for (int k = 0; k < 100; k++) {
        CHECK_EQ(twill__backoff_next(&shape, &delays), expected);
        expected = expected * 2 < TWILL_SEC(10) ? expected * 2 : TWILL_SEC(10);
    }
    shape.cap = shape.base = LARGEST;
    delays.grown = 0;
    CHECK_EQ(twill__backoff_next(&shape, &delays), INT64_MAX);
    shape.cap = 7; /* below the base */
    delays.grown = 0;
    CHECK_EQ(twill__backoff_next(&shape, &delays), 7);
}

TEST(doubles_become_exact_fractions)
{
    CHECK_EQ(twill__fixed(2.0), UINT64_C(1) << 33);
    CHECK_EQ(twill__fixed(0.5), UINT64_C(1) << 31);
    CHECK_EQ(twill__fixed(1.0 + 1.0 / 8589934592.0), (UINT64_C(1) << 32) + 1); /* half: up */
    CHECK_EQ(twill__fixed(1.1), UINT64_C(4724464026));
    CHECK_EQ(twill__fixed(1e9), UINT64_C(1000000000) << 32);
}

/* The same numbers under every compiler, on every machine: computed apart, with big integers. */
TEST(a_seed_gives_the_same_delays_everywhere)
{
    static const twill_ns expected[6][4] = {
        {74156488, 31982078, 111440452, 275352573},   {100000000, 200000000, 400000000, 800000000},
        {87078244, 115991039, 255720226, 537676286},  {248312976, 203132437, 241918666, 315379405},
        {124156488, 131982078, 311440452, 675352573}, {174156488, 215991039, 427860113, 834419071},
    };
    for (int jitter = 0; jitter < 6; jitter++) {
        twill__backoff shape = shape_of(jitter);
        twill__delays delays = {42, 0, 0};
        for (int k = 0; k < 4; k++)
            CHECK_EQ(twill__backoff_next(&shape, &delays), expected[jitter][k]);
    }
}

TEST(no_delay_is_above_the_cap)
{
    for (int k = 0; k < 3000; k++) {
        twill__backoff shape = {any_width() & LARGEST,
                                any_width() & LARGEST,
                                any_width() & LARGEST,
                                twill__fixed(1.0 + (double)test_random_below(1000000000)),
                                test_random_below((UINT64_C(1) << 32) + 1),
                                (int)test_random_below(6)};
        twill__delays delays = {test_random(), 0, 0};
        for (int retry = 0; retry < 80; retry++) {
            twill_ns delay = twill__backoff_next(&shape, &delays);
            CHECK(delay >= 0 && (uint64_t)delay <= shape.cap);
        }
    }
}

TEST(each_mode_has_its_mean)
{
    /* thousandths of the first delay before jitter; decorrelated: between base and 3 base */
    static const uint64_t mean[6] = {500, 1000, 750, 2000, 1000, 1500};
    for (int jitter = 0; jitter < 6; jitter++) {
        twill__backoff shape = shape_of(jitter);
        uint64_t random = 7, sum = 0, rounds = 20000;
        for (uint64_t k = 0; k < rounds; k++) {
            twill__delays delays = {random, 0, 0};
            sum += (uint64_t)twill__backoff_next(&shape, &delays);
            random = delays.random;
        }
        CHECK(sum / rounds > (uint64_t)TWILL_MS(100) * (mean[jitter] - 15) / 1000);
        CHECK(sum / rounds < (uint64_t)TWILL_MS(100) * (mean[jitter] + 15) / 1000);
    }
}

HARNESS_MAIN

/* test_histogram.c - engine parts below the pool: percentiles, and places in its queue. */
#include "harness.h"

#define TWILL_IMPLEMENTATION
#include "twill_worker_pool.h"

static twill__histogram one, other;
static twill__histogram_sum sum;

static void clear(void)
{
    memset(&one, 0, sizeof one);
    memset(&other, 0, sizeof other);
    memset(&sum, 0, sizeof sum);
}

TEST(classes_lie_side_by_side)
{
    for (unsigned at = 0; at + 1 < TWILL__CLASSES; at++) {
        uint64_t end = twill__class_end(at);
        CHECK_EQ(twill__class_of(end), at);
        CHECK_EQ(twill__class_of(end + 1), at + 1);
    }
    for (unsigned ns = 0; ns < 32; ns++) /* exact */
        CHECK_EQ(twill__class_end(twill__class_of(ns)), ns);
    CHECK_EQ(twill__class_end(TWILL__CLASSES - 1), (UINT64_C(1) << 48) - 1);
    CHECK_EQ(twill__class_of(UINT64_C(1) << 48), TWILL__CLASSES - 1);
    CHECK_EQ(twill__class_of(UINT64_MAX), TWILL__CLASSES - 1);
}

TEST(a_class_is_a_sixteenth_wide_at_most)
{
    for (unsigned at = 1; at < TWILL__CLASSES; at++) {
        uint64_t begin = twill__class_end(at - 1) + 1, end = twill__class_end(at);
        CHECK(end >= begin);
        CHECK(end - begin <= begin / 16);
    }
}

TEST(percentiles_of_few_are_exact)
{
    clear();
    twill__histogram_sum_up(&sum, &one);
    CHECK_EQ(twill__percentile(&sum, 50), 0);
    CHECK_EQ(twill__percentile(&sum, 100), 0);
    for (uint64_t ns = 1; ns <= 10; ns++)
        twill__histogram_add(&one, ns);
    twill__histogram_sum_up(&sum, &one);
    CHECK_EQ(sum.total, 10);
    CHECK_EQ(sum.longest, 10);
    CHECK_EQ(twill__percentile(&sum, 50), 5);
    CHECK_EQ(twill__percentile(&sum, 51), 6);
    CHECK_EQ(twill__percentile(&sum, 90), 9);
    CHECK_EQ(twill__percentile(&sum, 91), 10);
    CHECK_EQ(twill__percentile(&sum, 100), 10);
}

TEST(percentiles_stay_when_a_class_is_full)
{
    clear();
    atomic_store_explicit(&one.count[1], UINT32_MAX, memory_order_relaxed);
    atomic_store_explicit(&one.count[8], UINT32_MAX / 4 * 3, memory_order_relaxed);
    twill__histogram_add(&one, 9);
    twill__histogram_add(&one, 1);
    twill__histogram_sum_up(&sum, &one);
    CHECK_EQ(sum.count[1], (UINT64_C(1) << 31) + 1);
    CHECK_EQ(sum.count[9], 1); /* what is rare is not forgotten */
    CHECK_EQ(twill__percentile(&sum, 50), 1);
    CHECK_EQ(twill__percentile(&sum, 99), 8);
    CHECK_EQ(twill__percentile(&sum, 100), 9);
}

TEST(a_percentile_is_never_above_the_longest)
{
    clear();
    twill__histogram_add(&one, 1000); /* within a class that ends later */
    twill__histogram_sum_up(&sum, &one);
    CHECK(twill__class_end(twill__class_of(1000)) > 1000);
    CHECK_EQ(twill__percentile(&sum, 50), 1000);
    clear();
    twill__histogram_add(&one, 1000);
    twill__histogram_add(&one, 5000);
    twill__histogram_sum_up(&sum, &one);
    CHECK_EQ(twill__percentile(&sum, 50), twill__class_end(twill__class_of(1000)));
    CHECK_EQ(twill__percentile(&sum, 99), 5000);
}

TEST(what_is_above_all_classes_counts_as_the_longest)
{
    clear();
    twill__histogram_add(&one, UINT64_C(1) << 60);
    twill__histogram_sum_up(&sum, &one);
    CHECK_EQ(twill__percentile(&sum, 50), UINT64_C(1) << 60);
}

TEST(sums_of_several_know_the_longest_of_all)
{
    for (int turned = 0; turned < 2; turned++) {
        clear();
        twill__histogram_add(&one, 7000);
        twill__histogram_add(&one, 3);
        twill__histogram_add(&other, 500);
        CHECK_EQ(atomic_load(&one.longest), 7000);
        twill__histogram_sum_up(&sum, turned ? &other : &one);
        twill__histogram_sum_up(&sum, turned ? &one : &other);
        CHECK_EQ(sum.total, 3);
        CHECK_EQ(sum.longest, 7000);
        CHECK_EQ(twill__percentile(&sum, 33), 3);
        CHECK_EQ(twill__percentile(&sum, 100), 7000);
    }
}

/* ---- instants of two clocks ---- */

/* What handed a task over may have had a counter ahead of the clock that its end is read from. */
TEST(a_task_ends_no_sooner_than_it_began)
{
    static twill__errand work;
    static twill__hand runner;
    twill_pool *pool;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
    for (int k = 0; k < 4; k++) {
        twill_ns began = twill__clock_now() + TWILL_SEC(1);
        work.record.simple = k & 1;
        runner.outside = k & 2;
        work.record.outcome.started = began;
        CHECK_EQ(twill__hand_now(twill__pool_of(pool), &runner, &work), began);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* ---- months of a pool ---- */

static int count_up_to(void *count, void *result, const twill_task *task)
{
    (void)result, (void)task;
    atomic_fetch_add((atomic_uint *)count, 1);
    return 0;
}

/* Each letting go of the queue takes a turn of places: near the last ones it stays held. */
TEST(a_pool_does_not_come_to_the_end_of_its_places)
{
    static const uint64_t far[] = {TWILL__INSIDE / 2, TWILL__INSIDE};
    for (unsigned i = 0; i < 2; i++) {
        atomic_uint count = 0;
        twill_pool *pool;
        twill__todos *todos;
        uint64_t more;
        CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
        CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
        todos = &twill__pool_of(pool)->todos;
        more = far[i] - 8 * twill__todos_ring(todos)->size;
        twill__lock(&twill__pool_of(pool)->lock); /* held: nobody else writes these */
        todos->seen += more;
        twill__todos_tail_to(todos, twill__todos_tail(todos) + more);
        twill__unlock(&twill__pool_of(pool)->lock);
        CHECK_EQ(twill_pool_resume(pool), TWILL_OK);
        for (unsigned k = 0; k < 40; k++) {
            CHECK_EQ(twill_pool_submit(pool, count_up_to, &count, NULL, NULL), TWILL_OK);
            CHECK_EQ(twill_pool_pause(pool), TWILL_OK);
            CHECK_EQ(twill_pool_submit(pool, count_up_to, &count, NULL, NULL), TWILL_OK);
            CHECK_EQ(twill_pool_resume(pool), TWILL_OK);
            CHECK_EQ(twill_pool_wait_idle(pool), TWILL_OK);
            CHECK_EQ(atomic_load(&count), 2 * k + 2);
        }
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

HARNESS_MAIN

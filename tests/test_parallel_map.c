/* test_parallel_map.c - what the manual of twill_parallel_map.h promises: loops and algorithms. */
#include "harness.h"
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

#include "parallel_kit.h"

/* ---- the smallest uses ---- */

static int square(const void *in, void *out, const twill_task *task)
{
    int64_t x = *(const int *)in;

    (void)task;
    *(int64_t *)out = x * x;
    return 0;
}

static int64_t sum_of_squares(size_t n, const twill_parallel_options *options, int64_t *last)
{
    int in[100] = {0};
    int64_t out[100] = {0}, sum = 0;

    for (size_t i = 0; i < n; i++)
        in[i] = (int)i;
    CHECK_EQ(twill_parallel_map(in, sizeof *in, out, sizeof *out, n, square, options), TWILL_OK);
    for (size_t i = 0; i < n; i++)
        sum += out[i];
    *last = out[n - 1];
    return sum;
}

TEST(map_sums_of_squares)
{
    int64_t last;

    CHECK_EQ(sum_of_squares(100, NULL, &last), 328350);
    CHECK_EQ(sum_of_squares(20, NULL, &last), 2470);
    CHECK_EQ(last, 361);
    for (unsigned workers = 1; workers <= 70; workers += 3) {
        twill_parallel_options options = {.run.workers = workers};

        CHECK_EQ(sum_of_squares(100, &options, &last), 328350);
        CHECK_EQ(sum_of_squares(20, &options, &last), 2470);
    }
}

static int triple_in_place(const void *in, void *out, const twill_task *task)
{
    const unsigned char *from = (const unsigned char *)in;
    unsigned char *to = (unsigned char *)out;

    (void)task;
    for (int i = 0; i < 3; i++)
        to[i] = (unsigned char)(from[i] + 1);
    return 0;
}

TEST(map_may_write_over_its_input)
{
    static unsigned char items[3 * 5000];
    twill_parallel_options options = {.run.workers = 4};

    for (size_t i = 0; i < sizeof items; i++)
        items[i] = (unsigned char)(i % 251);
    CHECK_EQ(twill_parallel_map(items, 3, items, 3, 5000, triple_in_place, &options), TWILL_OK);
    for (size_t i = 0; i < sizeof items; i++)
        if (!CHECK_EQ(items[i], (unsigned char)(i % 251 + 1)))
            break;
}

/* ---- everything at once, against the model ---- */

static void many_random_calls(const char *where, unsigned most_workers, twill_pool *const *pools)
{
    twill_ns end = twill_now() + TWILL_MS(500);

    for (int round = 0; round < 3000 && (round < 20 || twill_now() < end); round++) {
        kit_call *call = kit_draw(KIT_MAX);
        twill_status status;

        if (most_workers)
            call->options.run.workers = 1 + (unsigned)test_random_below(most_workers);
        if (pools)
            call->options.run.pool = pools[test_random_below(3)];
        if (pools && test_random_below(3) == 0)
            call->options.run.workers = 1 + (unsigned)test_random_below(6);
        status = kit_run(call);
        kit_check_and_free(call, status, where);
        if (atomic_load(&harness_failures) > 20)
            return;
    }
}

TEST(random_calls_choose_their_threads)
{
    many_random_calls("own threads, chosen", 0, NULL);
}

TEST(random_calls_on_few_threads)
{
    many_random_calls("own threads, 1 to 6", 6, NULL);
}

TEST(random_calls_on_many_threads)
{
    many_random_calls("own threads, 1 to 64", 64, NULL);
}

TEST(random_calls_on_pools)
{
    twill_pool *pools[3];

    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(twill_pool_create(&pools[i], &(twill_pool_options){.run.workers = 1u << i}),
                 TWILL_OK);
    many_random_calls("pools of 1, 2, 4", 0, pools);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(twill_pool_destroy(pools[i]), TWILL_OK);
}

typedef struct nest {
    kit_call *inner[4];
    twill_status status[4];
} nest;

static int run_inner(const twill_task *task)
{
    nest *outer = (nest *)task->context;

    outer->status[task->index] = kit_run(outer->inner[task->index]);
    return 0;
}

static void many_nested_calls(twill_pool *pool, bool pool_inside)
{
    twill_ns end = twill_now() + TWILL_MS(300);

    for (int round = 0; round < 800 && (round < 10 || twill_now() < end); round++) {
        nest outer;
        twill_parallel_options options = {.run.context = &outer};
        size_t n = 1 + (size_t)test_random_below(4);

        for (size_t i = 0; i < n; i++) {
            outer.inner[i] = kit_draw(300);
            if (pool_inside)
                outer.inner[i]->options.run.pool = pool;
            if (test_random_below(4) == 0)
                outer.inner[i]->options.run.workers = 1 + (unsigned)test_random_below(5);
        }
        options.run.pool = pool;
        options.run.workers = test_random_below(2) ? 0 : 1 + (unsigned)test_random_below(4);
        CHECK_EQ(twill_parallel_for(n, run_inner, &options), TWILL_OK);
        for (size_t i = 0; i < n; i++)
            kit_check_and_free(outer.inner[i], outer.status[i], pool ? "nested, pool" : "nested");
        if (atomic_load(&harness_failures) > 20)
            return;
    }
}

TEST(random_nested_calls_on_own_threads)
{
    many_nested_calls(NULL, false);
}

TEST(random_nested_calls_on_pools)
{
    for (unsigned size = 1; size <= 4; size *= 2) {
        twill_pool *pool;

        CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = size}), TWILL_OK);
        many_nested_calls(pool, size != 2);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

/* ---- the error of the serial loop ---- */

typedef struct slow_fail {
    size_t fails; /* fails after 20 ms; every item above it fails at once */
    atomic_uint told;
} slow_fail;

static int fail_slowly(const twill_task *task)
{
    slow_fail *plan = (slow_fail *)task->context;

    if (task->index < plan->fails)
        return 0;
    if (task->index > plan->fails)
        return 1000 + (int)task->index;
    for (int i = 0; i < 20; i++) {
        kit_pause(TWILL_MS(1));
        if (twill_task_cancelled(task))
            atomic_fetch_add(&plan->told, 1);
    }
    return 7;
}

TEST(lowest_error_wins_though_it_is_the_slowest)
{
    for (int schedule = 0; schedule < 5; schedule++) {
        for (unsigned workers = 1; workers <= 5; workers += 2) {
            slow_fail plan = {(size_t)test_random_below(40), 0};
            twill_report report;
            twill_parallel_options options = {
                .run = {.workers = workers, .context = &plan, .report = &report},
                .schedule = (twill_schedule)schedule,
                .cost_of = kit_cost,
            };

            CHECK_EQ(twill_parallel_for(60, fail_slowly, &options), TWILL_FAILED);
            CHECK_EQ(report.first_error.index, plan.fails);
            CHECK_EQ(report.first_error.status, TWILL_FAILED);
            CHECK_EQ(report.first_error.code, 7);
            CHECK_EQ(report.done, plan.fails);
            CHECK_EQ(atomic_load(&plan.told), 0);
        }
    }
}

/* An internal stop reaches an item that sleeps above it, and never one below. */
typedef struct sleepers {
    size_t ends; /* the item that ends it, by `how` */
    char how;    /* f: fails, s: stops */
    atomic_uint asleep;
    twill_status below, above;
} sleepers;

static int sleep_around(const twill_task *task)
{
    sleepers *plan = (sleepers *)task->context;

    if (task->index == plan->ends) {
        kit_wait_for(&plan->asleep, 2);
        kit_pause(TWILL_MS(5));
        return plan->how == 'f' ? 3 : twill_task_stop(task);
    }
    atomic_fetch_add(&plan->asleep, 1);
    if (task->index < plan->ends) /* the limit is there only so that a bug cannot hang the test */
        plan->below = twill_sleep(twill_within_or_cancelled(TWILL_MS(60), task->until.cancel));
    else
        plan->above = twill_sleep(twill_within_or_cancelled(TWILL_SEC(100), task->until.cancel));
    return 0;
}

static int fail_first(const twill_task *task)
{
    return task->index == 0 ? 7 : 0;
}

static __attribute__((noinline)) void litter(void)
{
    volatile unsigned char stack[16384];

    for (size_t i = 0; i < sizeof stack; i++)
        stack[i] = 0xa5;
}

/* A loop that may be over before it needs helpers has room for 64 of them. */
TEST(a_brief_loop_may_fail_on_a_pool_of_many)
{
    twill_pool *pool = NULL;

    if (!CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 140}), TWILL_OK))
        return;
    for (int round = 0; round < 3; round++) {
        litter();
        CHECK_EQ(
            twill_parallel_for(100000, fail_first, &(twill_parallel_options){.run.pool = pool}),
            TWILL_FAILED);
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(internal_stop_wakes_items_above_and_only_them)
{
    for (int round = 0; round < 10; round++) {
        sleepers plan = {1, round % 2 ? 'f' : 's', 0, TWILL_LOST, TWILL_LOST};
        twill_report report;
        twill_parallel_options options = {
            .run = {.workers = 3, .context = &plan, .report = &report}};
        twill_ns begin = twill_now();

        options.schedule = round % 3 == 0 ? TWILL_SCHEDULE_AUTO : TWILL_SCHEDULE_DYNAMIC;
        CHECK_EQ(twill_parallel_for(3, sleep_around, &options),
                 round % 2 ? TWILL_FAILED : TWILL_OK);
        CHECK_EQ(plan.below, TWILL_OK);
        CHECK_EQ(plan.above, TWILL_CANCELLED);
        CHECK(twill_now() - begin < TWILL_SEC(100));
        CHECK_EQ(report.done + report.failed, 3);
    }
}

static int fail_three(const twill_task *task)
{
    return task->index % 10 == 3 ? (int)task->index : 0;
}

/* Item 1 stops; item 2 is told so and says so with a code, as `return status` does; item 0 is slow
   and must not notice, whatever the policy. */
static int stop_in_the_middle(const twill_task *task)
{
    sleepers *plan = (sleepers *)task->context;

    if (task->index == 1) {
        kit_wait_for(&plan->asleep, 2);
        return twill_task_stop(task);
    }
    atomic_fetch_add(&plan->asleep, 1);
    if (task->index == 2)
        return (int)(plan->above = twill_sleep(
                         twill_within_or_cancelled(TWILL_SEC(100), task->until.cancel)));
    plan->below = twill_sleep(twill_within_or_cancelled(TWILL_MS(20), task->until.cancel));
    return 0;
}

TEST(what_fails_because_of_a_stop_does_not_outweigh_it)
{
    for (int policy = 0; policy <= TWILL_ON_ERROR_LIMIT; policy++) {
        sleepers plan = {1, 's', 0, TWILL_LOST, TWILL_LOST};
        twill_report report;
        twill_parallel_options options = {.run = {.workers = 3,
                                                  .context = &plan,
                                                  .on_error = (twill_on_error)policy,
                                                  .report = &report}};

        CHECK_EQ(twill_parallel_for(3, stop_in_the_middle, &options), TWILL_OK);
        CHECK_EQ(report.first_error.status, TWILL_OK);
        CHECK_EQ(plan.below, TWILL_OK);
        CHECK_EQ(plan.above, TWILL_CANCELLED);
        CHECK_EQ(report.done, 2);
        CHECK_EQ(report.failed, 1);
    }
}

TEST(errors_are_the_lowest_and_sorted)
{
    for (size_t room = 0; room <= 12; room++) {
        twill_item_error errors[12];
        twill_report report;
        twill_parallel_options options = {
            .run = {.workers = 1 + (unsigned)test_random_below(6),
                    .on_error = TWILL_ON_ERROR_COLLECT,
                    .errors = errors,
                    .errors_capacity = room,
                    .report = &report},
            .schedule = (twill_schedule)test_random_below(4),
        };
        size_t want = room < 10 ? room : 10;

        CHECK_EQ(twill_parallel_for(100, fail_three, &options), TWILL_FAILED);
        CHECK_EQ(report.failed, 10);
        CHECK_EQ(report.errors_stored, want);
        for (size_t i = 0; i < want; i++) {
            CHECK_EQ(errors[i].index, i * 10 + 3);
            CHECK_EQ(errors[i].code, (int)i * 10 + 3);
            CHECK_EQ(errors[i].status, TWILL_FAILED);
        }
    }
}

TEST(limit_stops_after_so_many)
{
    for (size_t most = 0; most < 5; most++) {
        twill_report report;
        twill_parallel_options options = {
            .run = {.workers = 1,
                    .on_error = TWILL_ON_ERROR_LIMIT,
                    .max_errors = most,
                    .report = &report},
        };

        CHECK_EQ(twill_parallel_for(100, fail_three, &options), TWILL_FAILED);
        CHECK_EQ(report.failed, most ? most : 1);
        CHECK_EQ(report.first_error.index, 3);
        CHECK_EQ(report.skipped, 100 - report.done - report.failed);
        CHECK(report.skipped > 0);
    }
}

/* ---- refusals ---- */

static atomic_uint calls;

static int count_for(const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&calls, 1);
    return 0;
}

static int count_range(size_t begin, size_t end, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&calls, end > begin);
    return 0;
}

static int count_map(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    return count_for(task);
}

static int count_tile(size_t row, size_t row_end, size_t col, size_t col_end,
                      const twill_task *task)
{
    (void)row, (void)row_end, (void)col, (void)col_end;
    return count_for(task);
}

static bool count_test(const void *item, const twill_task *task)
{
    (void)item;
    (void)count_for(task);
    return false;
}

static twill_report refused;

static bool is_refused(twill_status got, twill_status want, size_t n)
{
    twill_report report = refused;

    memset(&refused, 0x5a, sizeof refused);
    return CHECK_EQ(got, want) && CHECK_EQ(report.status, want) && CHECK_EQ(report.total, n) &&
           CHECK_EQ(report.skipped, n) && CHECK_EQ(report.done, 0) && CHECK_EQ(report.failed, 0) &&
           CHECK_EQ(report.errors_stored, 0) && CHECK_EQ(report.first_error.status, TWILL_OK) &&
           CHECK_EQ(atomic_load(&calls), 0);
}

TEST(invalid_loops_run_nothing)
{
    twill_parallel_options ok = {.run.report = &refused};
    int in[4] = {0}, out[4];
    const size_t s = sizeof *in;

    atomic_store(&calls, 0);
    is_refused(twill_parallel_map(in, s, out, s, 4, NULL, &ok), TWILL_INVALID, 4);
    is_refused(twill_parallel_map(NULL, s, out, s, 4, count_map, &ok), TWILL_INVALID, 4);
    is_refused(twill_parallel_map(in, s, NULL, s, 4, count_map, &ok), TWILL_INVALID, 4);
    is_refused(twill_parallel_map(in, 0, out, s, 4, count_map, &ok), TWILL_INVALID, 4);
    is_refused(twill_parallel_map(in, s, out, 0, 4, count_map, &ok), TWILL_INVALID, 4);
    is_refused(twill_parallel_map(in, s, in, 2, 4, count_map, &ok), TWILL_INVALID, 4);
    is_refused(twill_parallel_map(in, s, out, s, SIZE_MAX / s + 1, count_map, &ok), TWILL_TOO_BIG,
               SIZE_MAX / s + 1);
    is_refused(twill_parallel_map(in, 1, out, s, SIZE_MAX / s + 1, count_map, &ok), TWILL_TOO_BIG,
               SIZE_MAX / s + 1);
    is_refused(twill_parallel_for(4, NULL, &ok), TWILL_INVALID, 4);
    is_refused(twill_parallel_range(4, NULL, &ok), TWILL_INVALID, 4);
    CHECK_EQ(twill_parallel_for(4, NULL, NULL), TWILL_INVALID);
}

TEST(invalid_options_run_nothing)
{
    twill_parallel_options bad[8];
    twill_item_error error;

    atomic_store(&calls, 0);
    memset(bad, 0, sizeof bad);
    bad[0].schedule = (twill_schedule)5;
    bad[1].schedule = (twill_schedule)-1;
    bad[2].schedule = TWILL_SCHEDULE_COST; /* without cost_of */
    bad[3].run.on_error = (twill_on_error)5;
    bad[4].run.on_error = (twill_on_error)-1;
    bad[5].run.errors_capacity = 1; /* without errors */
    bad[6].run.cpu_count = 1;       /* without cpus */
    bad[7].run.errors = &error;     /* fine: room for none */
    for (int i = 0; i < 7; i++) {
        bad[i].run.report = &refused;
        is_refused(twill_parallel_for(9, count_for, &bad[i]), TWILL_INVALID, 9);
        is_refused(twill_parallel_range(9, count_range, &bad[i]), TWILL_INVALID, 9);
    }
    CHECK_EQ(twill_parallel_for(9, count_for, &bad[7]), TWILL_OK);
    CHECK_EQ(atomic_load(&calls), 9);
}

static int start_says_much(void **state, const twill_task *task)
{
    *state = NULL;
    CHECK_EQ(task->index, SIZE_MAX);
    (void)twill_task_stop(task); /* above no item */
    (void)twill_task_skip(task);
    return 0;
}

TEST(a_start_that_stops_and_skips_is_about_no_item)
{
    for (unsigned workers = 1; workers <= 3; workers++) {
        twill_report report;
        twill_parallel_options options = {
            .run.workers = workers, .run.worker_start = start_says_much, .run.report = &report};

        atomic_store(&calls, 0);
        CHECK_EQ(twill_parallel_for(100, count_for, &options), TWILL_OK);
        CHECK_EQ(atomic_load(&calls), 100);
        CHECK_EQ(report.done, 100);
    }
}

TEST(invalid_algorithms_run_nothing)
{
    twill_parallel_options ok = {.run.report = &refused};
    twill_for_fn *fns[2] = {count_for, NULL};
    int in[4] = {0};
    size_t at;

    atomic_store(&calls, 0);
    is_refused(twill_parallel_invoke(NULL, 2, &ok), TWILL_INVALID, 2);
    is_refused(twill_parallel_invoke(fns, 2, &ok), TWILL_INVALID, 2);
    CHECK_EQ(twill_parallel_tiles(4, 4, 2, 2, NULL, &ok), TWILL_INVALID);
    CHECK_EQ(twill_parallel_tiles(SIZE_MAX, SIZE_MAX, 1, 1, count_tile, &ok), TWILL_TOO_BIG);
    CHECK_EQ(refused.status, TWILL_TOO_BIG);
    is_refused(twill_parallel_find(in, 4, 4, NULL, count_test, &ok), TWILL_INVALID, 4);
    is_refused(twill_parallel_find(in, 4, 4, &at, NULL, &ok), TWILL_INVALID, 4);
    is_refused(twill_parallel_find(NULL, 4, 4, &at, count_test, &ok), TWILL_INVALID, 4);
    is_refused(twill_parallel_find(in, 0, 4, &at, count_test, &ok), TWILL_INVALID, 4);
    is_refused(twill_parallel_find(in, 4, SIZE_MAX / 2, &at, count_test, &ok), TWILL_TOO_BIG,
               SIZE_MAX / 2);
}

TEST(nothing_to_do_is_ok)
{
    twill_cancel fired = {{0}};
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 3, .report = &report}};
    size_t at = 5;

    atomic_store(&calls, 0);
    twill_cancel_fire(&fired, 1);
    for (int over = 0; over < 3; over++) { /* also when it is over before it begins */
        options.run.until = over == 0   ? twill_within(TWILL_FOREVER)
                            : over == 1 ? twill_within(0)
                                        : twill_until_cancelled(&fired);
        memset(&report, 0x5a, sizeof report);
        CHECK_EQ(twill_parallel_map(NULL, 0, NULL, 0, 0, count_map, &options), TWILL_OK);
        CHECK_EQ(report.total + report.done + report.failed + report.skipped, 0);
        CHECK_EQ(report.status, TWILL_OK);
        CHECK_EQ(twill_parallel_for(0, count_for, &options), TWILL_OK);
        CHECK_EQ(twill_parallel_range(0, count_range, &options), TWILL_OK);
        CHECK_EQ(twill_parallel_tiles(0, 7, 1, 1, count_tile, &options), TWILL_OK);
        CHECK_EQ(twill_parallel_tiles(7, 0, 0, 0, count_tile, &options), TWILL_OK);
        CHECK_EQ(twill_parallel_invoke(NULL, 0, &options), TWILL_OK);
        CHECK_EQ(twill_parallel_find(NULL, 4, 0, &at, count_test, &options), TWILL_OK);
        CHECK_EQ(at, 0);
    }
    CHECK_EQ(atomic_load(&calls), 0);
}

/* ---- very many items ---- */

static size_t stop_here;
static atomic_bool past_end;

static int stop_soon(const twill_task *task)
{
    atomic_fetch_add(&calls, 1);
    if (task->index >= stop_here)
        return twill_task_stop(task);
    return 0;
}

static int fail_soon(size_t begin, size_t end, const twill_task *task)
{
    if (begin >= end)
        atomic_store(&past_end, true);
    atomic_fetch_add(&calls, 1);
    if (end > stop_here)
        return twill_task_fail(task, begin > stop_here ? begin : stop_here, 5);
    return 0;
}

TEST(every_n_is_valid_and_ends_early)
{
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 2, (size_t)1 << 32,
                                   ((size_t)1 << 32) - 1};

    stop_here = 1000;
    for (int schedule = 0; schedule < 4; schedule++) {
        for (unsigned workers = 1; workers <= 4; workers += 3) {
            for (size_t k = 0; k < 5; k++) {
                twill_report report;
                twill_parallel_options options = {
                    .run = {.workers = workers, .report = &report},
                    .schedule = (twill_schedule)schedule,
                };
                twill_ns begin = twill_now();

                CHECK_EQ(twill_parallel_for(sizes[k], stop_soon, &options), TWILL_OK);
                CHECK(report.done >= 1001);
                CHECK_EQ(report.total, sizes[k]);
                CHECK_EQ(report.done + report.skipped, sizes[k]);
                CHECK_EQ(twill_parallel_range(sizes[k], fail_soon, &options), TWILL_FAILED);
                CHECK_EQ(report.first_error.index, 1000);
                CHECK_EQ(report.first_error.code, 5);
                CHECK(twill_now() - begin < TWILL_SEC(100));
            }
        }
    }
    CHECK(!atomic_load(&past_end));
}

static atomic_size_t lengths;

static int add_length(size_t begin, size_t end, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&lengths, end - begin);
    return 0;
}

TEST(more_items_than_ranges_can_count)
{
    size_t n = SIZE_MAX >> 31; /* in blocks of several */
    twill_parallel_options options = {.run.workers = 2, .chunk = (size_t)1 << 22};

    atomic_store(&lengths, 0);
    CHECK_EQ(twill_parallel_range(n, add_length, &options), TWILL_OK);
    CHECK_EQ(atomic_load(&lengths), n);
}

/* ---- tokens and deadlines ---- */

TEST(over_before_it_begins)
{
    twill_cancel fired = {{0}};
    twill_status statuses[50];
    twill_report report;

    twill_cancel_fire(&fired, 4);
    atomic_store(&calls, 0);
    for (unsigned workers = 0; workers < 4; workers++) {
        for (int which = 0; which < 3; which++) {
            twill_status want = which == 0 ? TWILL_TIMEOUT : TWILL_CANCELLED;
            twill_parallel_options options = {
                .run = {.workers = workers, .report = &report, .statuses = statuses},
            };

            options.run.until = which == 0   ? twill_within(-1)
                                : which == 1 ? twill_until_cancelled(&fired)
                                             : twill_within_or_cancelled(0, &fired);
            CHECK_EQ(twill_parallel_for(50, count_for, &options), want);
            CHECK_EQ(report.status, want);
            CHECK_EQ(report.skipped, 50);
            for (int i = 0; i < 50; i++)
                CHECK_EQ(statuses[i], want);
            CHECK_EQ(twill_parallel_range(50, count_range, &options), want);
        }
    }
    CHECK_EQ(atomic_load(&calls), 0);
}

typedef struct ending {
    twill_cancel token;
    size_t at; /* the item that fires it */
    atomic_uint ran;
} ending;

static int fire_at(const twill_task *task)
{
    ending *plan = (ending *)task->context;

    atomic_fetch_add(&plan->ran, 1);
    if (task->index == plan->at)
        twill_cancel_fire(&plan->token, 3);
    kit_pause(TWILL_US(100));
    return 0;
}

TEST(token_ends_a_call)
{
    for (unsigned workers = 1; workers <= 5; workers += 2) {
        for (int schedule = 0; schedule < 4; schedule++) {
            ending plan = {.at = 20};
            static twill_status statuses[100000];
            twill_report report;
            twill_parallel_options options = {
                .run = {.workers = workers,
                        .context = &plan,
                        .report = &report,
                        .statuses = statuses},
                .schedule = (twill_schedule)schedule,
            };
            size_t ran = 0, cancelled = 0;
            twill_ns begin = twill_now();

            twill_cancel_init(&plan.token, NULL);
            options.run.until = twill_until_cancelled(&plan.token);
            CHECK_EQ(twill_parallel_for(100000, fire_at, &options), TWILL_CANCELLED);
            CHECK_EQ(report.done, atomic_load(&plan.ran));
            CHECK_EQ(report.failed, 0);
            for (size_t i = 0; i < 100000; i++) {
                ran += statuses[i] == TWILL_OK;
                cancelled += statuses[i] == TWILL_CANCELLED;
            }
            CHECK_EQ(ran, report.done);
            CHECK_EQ(cancelled, report.skipped);
            CHECK(twill_now() - begin < TWILL_SEC(100));
        }
    }
}

static int sleep_or_be_told(const twill_task *task)
{
    /* a wait that is given task->until ends with the call, whatever ends that */
    twill_status ended = twill_sleep(
        (twill_until){task->until.deadline ? task->until.deadline : twill_now() + TWILL_SEC(300),
                      task->until.cancel});

    return ended == TWILL_OK || ended == TWILL_CANCELLED ? twill_task_skip(task) : 99;
}

TEST(deadline_ends_sleeping_callbacks)
{
    for (unsigned workers = 1; workers <= 4; workers++) {
        twill_status statuses[8];
        unsigned told = 0;
        twill_report report;
        twill_parallel_options options = {
            .run = {.workers = workers, .report = &report, .statuses = statuses},
        };
        twill_ns begin = twill_now(), took;

        options.run.until = twill_within(TWILL_MS(30));
        CHECK_EQ(twill_parallel_for(8, sleep_or_be_told, &options), TWILL_TIMEOUT);
        took = twill_now() - begin;
        CHECK(took >= TWILL_MS(30) && took < TWILL_SEC(100));
        CHECK_EQ(report.skipped, 8);
        for (int i = 0; i < 8; i++) { /* who was told has said skip; the others never ran */
            CHECK(statuses[i] == TWILL_TIMEOUT || statuses[i] == TWILL_CANCELLED);
            told += statuses[i] == TWILL_CANCELLED;
        }
        CHECK(told <= workers);
    }
}

static void *fire_later(void *token)
{
    kit_pause(TWILL_MS(20));
    twill_cancel_fire((twill_cancel *)token, 6);
    return NULL;
}

TEST(token_of_another_thread_ends_sleeping_callbacks)
{
    for (unsigned workers = 1; workers <= 4; workers++) {
        twill_cancel token = {{0}};
        twill_report report;
        twill_parallel_options options = {.run = {.workers = workers, .report = &report}};
        pthread_t firer;

        options.run.until = twill_until_cancelled(&token);
        CHECK_EQ(pthread_create(&firer, NULL, fire_later, &token), 0);
        CHECK_EQ(twill_parallel_for(8, sleep_or_be_told, &options), TWILL_CANCELLED);
        CHECK_EQ(report.skipped, 8);
        pthread_join(firer, NULL);
        twill_cancel_detach(&token);
    }
}

/* What ended all the same is not undone; a failure is not hidden by the token that it caused. */
static int fire_last(const twill_task *task)
{
    ending *plan = (ending *)task->context;

    if (task->index != plan->at)
        return 0;
    kit_wait_for(&plan->ran, 0);
    twill_cancel_fire(&plan->token, 3);
    return plan->ran ? 8 : 0;
}

TEST(success_and_failure_come_before_cancelled)
{
    for (int fails = 0; fails < 2; fails++) {
        ending plan = {.at = 9};
        twill_report report;
        twill_parallel_options options = {
            .run = {.workers = 1, .context = &plan, .report = &report}};

        atomic_store(&plan.ran, (unsigned)fails);
        options.run.until = twill_until_cancelled(&plan.token);
        CHECK_EQ(twill_parallel_for(10, fire_last, &options), fails ? TWILL_FAILED : TWILL_OK);
        CHECK_EQ(report.done, fails ? 9 : 10);
        CHECK_EQ(twill_cancel_reason(&plan.token), 3);
        twill_cancel_init(&plan.token, NULL);
        plan.at = 5; /* now items are left */
        CHECK_EQ(twill_parallel_for(10000000, fire_last, &options),
                 fails ? TWILL_FAILED : TWILL_CANCELLED);
        CHECK_EQ(report.first_error.code, fails ? 8 : 0);
    }
}

/* An item that gives up because of the token is no success, wherever in the call it stands. */
static int fire_and_give_up(const twill_task *task)
{
    ending *plan = (ending *)task->context;

    if (task->index == plan->at)
        twill_cancel_fire(&plan->token, 3);
    return twill_task_cancelled(task) ? twill_task_skip(task) : 0;
}

TEST(giving_up_makes_the_call_cancelled)
{
    for (unsigned workers = 0; workers <= 3; workers++) {
        for (size_t n = 1; n <= 70; n += 23) {
            ending plan = {.at = n - 1};
            twill_report report;
            twill_parallel_options options = {
                .run = {.workers = workers, .context = &plan, .report = &report}};

            options.run.until = twill_until_cancelled(&plan.token);
            CHECK_EQ(twill_parallel_for(n, fire_and_give_up, &options), TWILL_CANCELLED);
            CHECK(report.skipped >= 1);
        }
    }
}

/* Chunks grew while items were quick; then each takes 2 ms, and the call must still end. */
static int quick_then_slow(const twill_task *task)
{
    if (task->index > 300000)
        kit_pause(TWILL_MS(2));
    return 0;
}

TEST(deadline_is_seen_between_items_that_turn_slow)
{
    for (unsigned workers = 1; workers <= 3; workers += 2) {
        for (int schedule = 0; schedule < 4; schedule++) {
            twill_ns begin = twill_now();
            twill_parallel_options options = {
                .run = {.workers = workers, .until = twill_within(TWILL_MS(40))},
                .schedule = (twill_schedule)schedule,
                .chunk = schedule == TWILL_SCHEDULE_DYNAMIC ? 50000 : 0};

            CHECK_EQ(twill_parallel_for(1000000, quick_then_slow, &options), TWILL_TIMEOUT);
            CHECK(twill_now() - begin < TWILL_SEC(100));
        }
    }
}

/* ---- schedules ---- */

typedef struct pieces {
    size_t begin[4096], end[4096];
    unsigned worker[4096];
    atomic_uint count;
} pieces;

static int note_piece(size_t begin, size_t end, const twill_task *task)
{
    pieces *all = (pieces *)task->context;
    unsigned at = atomic_fetch_add(&all->count, 1);

    if (at < 4096) {
        all->begin[at] = begin;
        all->end[at] = end;
        all->worker[at] = task->worker;
    }
    kit_burn(300);
    return 0;
}

static void sort_pieces(pieces *all)
{
    for (unsigned i = 1; i < atomic_load(&all->count); i++)
        for (unsigned k = i; k > 0 && all->begin[k] < all->begin[k - 1]; k--) {
            size_t begin = all->begin[k], end = all->end[k];

            all->begin[k] = all->begin[k - 1], all->end[k] = all->end[k - 1];
            all->begin[k - 1] = begin, all->end[k - 1] = end;
        }
}

static bool covers(pieces *all, size_t n)
{
    size_t at = 0;

    sort_pieces(all);
    for (unsigned i = 0; i < atomic_load(&all->count); at = all->end[i++])
        if (!CHECK_EQ(all->begin[i], at))
            return false;
    return CHECK_EQ(at, n);
}

TEST(static_cuts_differ_by_one_at_most)
{
    for (int round = 0; round < 60; round++) {
        static pieces all;
        unsigned workers = 1 + (unsigned)test_random_below(9);
        size_t n = 1 + (size_t)test_random_below(200), w = workers < n ? workers : n;
        twill_parallel_options options = {.run = {.workers = workers, .context = &all},
                                          .schedule = TWILL_SCHEDULE_STATIC};

        atomic_store(&all.count, 0);
        CHECK_EQ(twill_parallel_range(n, note_piece, &options), TWILL_OK);
        CHECK_EQ(atomic_load(&all.count), w);
        covers(&all, n);
        for (unsigned i = 0; i < atomic_load(&all.count); i++) {
            CHECK(all.end[i] - all.begin[i] >= n / w);
            CHECK(all.end[i] - all.begin[i] <= n / w + 1);
        }
    }
}

TEST(dynamic_claims_are_as_long_as_asked)
{
    for (int round = 0; round < 60; round++) {
        static pieces all;
        size_t n = 1 + (size_t)test_random_below(2000), chunk = (size_t)test_random_below(30);
        size_t each = chunk ? chunk : 1;
        twill_parallel_options options = {
            .run = {.workers = 1 + (unsigned)test_random_below(4), .context = &all},
            .schedule = TWILL_SCHEDULE_DYNAMIC,
            .chunk = chunk};

        atomic_store(&all.count, 0);
        CHECK_EQ(twill_parallel_range(n, note_piece, &options), TWILL_OK);
        CHECK_EQ(atomic_load(&all.count), (n + each - 1) / each);
        covers(&all, n);
        for (unsigned i = 0; i + 1 < atomic_load(&all.count); i++)
            CHECK_EQ(all.end[i] - all.begin[i], each);
    }
}

TEST(guided_claims_shrink_to_the_chunk)
{
    for (int round = 0; round < 60; round++) {
        static pieces all;
        unsigned workers = 2 + (unsigned)test_random_below(4);
        size_t n = 200 + (size_t)test_random_below(2000), chunk = 1 + (size_t)test_random_below(20);
        twill_parallel_options options = {.run = {.workers = workers, .context = &all},
                                          .schedule = TWILL_SCHEDULE_GUIDED,
                                          .chunk = chunk};

        atomic_store(&all.count, 0);
        CHECK_EQ(twill_parallel_range(n, note_piece, &options), TWILL_OK);
        covers(&all, n);
        for (unsigned i = 0; i + 1 < atomic_load(&all.count); i++) {
            size_t want = (n - all.begin[i]) / workers / 2;

            CHECK_EQ(all.end[i] - all.begin[i], want > chunk ? want : chunk);
        }
    }
}

static atomic_uint costed[500], cost_calls_late;
static pthread_t cost_caller;

static uint64_t cost_once(size_t index, const twill_task *task)
{
    if (atomic_load(&calls) || !pthread_equal(pthread_self(), cost_caller) ||
        task->context != costed)
        atomic_fetch_add(&cost_calls_late, 1);
    atomic_fetch_add(&costed[index], 1);
    return index == 77   ? UINT64_MAX
           : index == 78 ? UINT64_MAX / 2
           : index % 3   ? 0
                         : index; /* sums saturate */
}

static size_t begun_first;

static int note_first(const twill_task *task)
{
    if (atomic_fetch_add(&calls, 1) == 0)
        begun_first = task->index;
    return 0;
}

TEST(cost_is_asked_once_and_the_dearest_comes_first)
{
    for (unsigned workers = 1; workers <= 4; workers++) {
        twill_parallel_options options = {.run = {.workers = workers, .context = costed},
                                          .schedule = TWILL_SCHEDULE_COST,
                                          .cost_of = cost_once};

        cost_caller = pthread_self();
        atomic_store(&calls, 0);
        atomic_store(&cost_calls_late, 0);
        for (int i = 0; i < 500; i++)
            atomic_store(&costed[i], 0);
        CHECK_EQ(twill_parallel_for(500, note_first, &options), TWILL_OK);
        CHECK_EQ(atomic_load(&calls), 500);
        CHECK_EQ(atomic_load(&cost_calls_late), 0);
        for (int i = 0; i < 500; i++)
            CHECK_EQ(atomic_load(&costed[i]), 1);
        if (workers == 1)
            CHECK_EQ(begun_first, 77);
    }
}

static size_t order[300];

static int note_order(const twill_task *task)
{
    order[atomic_fetch_add(&calls, 1) % 300] = task->index;
    return 0;
}

TEST(one_worker_keeps_the_serial_order)
{
    for (int schedule = 0; schedule < 4; schedule++) {
        twill_report report;
        twill_parallel_options options = {.run = {.workers = 1, .report = &report},
                                          .schedule = (twill_schedule)schedule};

        atomic_store(&calls, 0);
        CHECK_EQ(twill_parallel_for(300, note_order, &options), TWILL_OK);
        for (size_t i = 0; i < 300; i++)
            CHECK_EQ(order[i], i);
        CHECK_EQ(report.workers_started, 1);
        CHECK_EQ(report.workers_used, 1);
        CHECK(report.flags & TWILL_REPORT_SERIAL);
    }
}

/* ---- workers ---- */

static int meet_all(const twill_task *task)
{
    kit_call *call = (kit_call *)task->context;

    kit_enter(call, task);
    CHECK(kit_wait_for(&call->peak, task->workers)); /* ends only when all are in at once */
    kit_pause(TWILL_MS(5));
    return kit_leave(call, task, 0);
}

TEST(workers_asked_for_start_before_the_first_item)
{
    for (unsigned workers = 2; workers <= 12; workers += 5) {
        for (int schedule = 0; schedule < 4; schedule++) {
            kit_call *call = (kit_call *)calloc(1, sizeof *call);
            twill_parallel_options options = {
                .run = {.workers = workers, .context = call, .report = &call->report},
                .schedule = (twill_schedule)schedule};

            CHECK_EQ(twill_parallel_for(workers, meet_all, &options), TWILL_OK);
            CHECK_EQ(atomic_load(&call->peak), workers);
            CHECK_EQ(call->report.workers_started, workers);
            CHECK_EQ(call->report.workers_used, workers);
            CHECK_EQ(atomic_load(&call->crowded) + atomic_load(&call->odd_task), 0);
            free(call);
        }
    }
}

static int pause_1ms(const twill_task *task)
{
    (void)task;
    kit_pause(TWILL_MS(1));
    return 0;
}

TEST(report_tells_the_balance)
{
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 4, .report = &report}};

    CHECK_EQ(twill_parallel_for(40, pause_1ms, &options), TWILL_OK);
    CHECK_EQ(report.workers_started, 4);
    /* a thread may come too late where the machine is busy; see the test above */
    CHECK(report.workers_used >= 1 && report.workers_used <= 4);
    CHECK(report.wall >= TWILL_MS(40) / report.workers_used);
    CHECK(report.busy >= TWILL_MS(40) && report.busy <= 4 * report.wall);
    CHECK(report.busiest >= TWILL_MS(10) && report.busiest <= report.wall);
    CHECK_EQ(report.flags & (TWILL_REPORT_SERIAL | TWILL_REPORT_NESTED | TWILL_REPORT_DEGRADED), 0);
}

/* ---- hooks ---- */

static int start_fails(void **state, const twill_task *task)
{
    (void)state;
    atomic_fetch_add(&calls, 1);
    return task->worker == *(const unsigned *)task->context ? -4 : 0;
}

static void stop_counts(void *state, const twill_task *task)
{
    (void)state, (void)task;
    atomic_fetch_add(&calls, 1000);
}

static int pause_short(const twill_task *task)
{
    (void)task;
    kit_pause(TWILL_US(300));
    return 0;
}

TEST(start_that_fails_on_the_caller_fails_the_call)
{
    for (unsigned workers = 1; workers <= 4; workers++) {
        twill_status statuses[30];
        unsigned failing = 0;
        twill_report report;
        twill_parallel_options options = {.run = {.workers = workers,
                                                  .context = &failing,
                                                  .worker_start = start_fails,
                                                  .worker_stop = stop_counts,
                                                  .report = &report,
                                                  .statuses = statuses}};

        atomic_store(&calls, 0);
        CHECK_EQ(twill_parallel_for(30, pause_short, &options), TWILL_FAILED);
        CHECK_EQ(report.first_error.index, SIZE_MAX);
        CHECK_EQ(report.first_error.status, TWILL_FAILED);
        CHECK_EQ(report.first_error.code, -4);
        CHECK_EQ(report.skipped, 30);
        CHECK_EQ(report.done + report.failed, 0);
        for (int i = 0; i < 30; i++)
            CHECK_EQ(statuses[i], TWILL_CANCELLED);
        CHECK_EQ(atomic_load(&calls), 1); /* no other start, no stop */
    }
}

static int until_both_started(const twill_task *task)
{
    (void)task;
    return kit_wait_for(&calls, 2) ? 0 : 1;
}

TEST(start_that_fails_on_a_helper_degrades_the_call)
{
    unsigned failing = 1;
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 2,
                                              .context = &failing,
                                              .worker_start = start_fails,
                                              .worker_stop = stop_counts,
                                              .report = &report}};

    atomic_store(&calls, 0);
    CHECK_EQ(twill_parallel_for(30, until_both_started, &options), TWILL_OK);
    CHECK_EQ(report.done, 30);
    CHECK_EQ(report.workers_used, 1);
    CHECK(report.flags & TWILL_REPORT_DEGRADED);
    CHECK_EQ(atomic_load(&calls), 1002);
}

/* ---- range forms ---- */

static int range_codes(size_t begin, size_t end, const twill_task *task)
{
    (void)end;
    if (begin == 20)
        return twill_task_fail(task, 26, 3);
    if (begin == 40)
        return twill_task_skip(task);
    if (begin == 60)
        return twill_task_fail(task, 5, 4); /* not in this range: the first item is meant */
    return begin == 80 ? 6 : 0;
}

TEST(range_form_says_which_item_failed)
{
    twill_item_error errors[5];
    twill_status statuses[100];
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 3,
                                              .on_error = TWILL_ON_ERROR_COLLECT,
                                              .errors = errors,
                                              .errors_capacity = 5,
                                              .statuses = statuses,
                                              .report = &report},
                                      .schedule = TWILL_SCHEDULE_DYNAMIC,
                                      .chunk = 10};

    CHECK_EQ(twill_parallel_range(100, range_codes, &options), TWILL_FAILED);
    CHECK_EQ(report.errors_stored, 3);
    CHECK(errors[0].index == 26 && errors[0].code == 3);
    CHECK(errors[1].index == 60 && errors[1].code == 4);
    CHECK(errors[2].index == 80 && errors[2].code == 6);
    CHECK_EQ(report.failed, 3);
    CHECK_EQ(report.done, 100 - 10 - 10 - 10 - 10 + 6);
    for (size_t i = 0; i < 100; i++)
        CHECK_EQ(statuses[i],
                 i == 26 || i == 60 || i == 80 ? TWILL_FAILED
                 : i / 10 == 4 || (i > 26 && i < 30) || (i > 60 && i < 70) || (i > 80 && i < 90)
                     ? TWILL_CANCELLED
                     : TWILL_OK);
}

static int range_stops(size_t begin, size_t end, const twill_task *task)
{
    atomic_fetch_add(&calls, (unsigned)(end - begin));
    return begin <= 500 && 500 < end ? twill_task_stop(task) : 0;
}

TEST(range_form_stops_at_the_end_of_its_chunk)
{
    for (int schedule = 0; schedule < 4; schedule++) {
        twill_report report;
        twill_parallel_options options = {.run = {.workers = 3, .report = &report},
                                          .schedule = (twill_schedule)schedule,
                                          .chunk = 7};

        atomic_store(&calls, 0);
        CHECK_EQ(twill_parallel_range(100000, range_stops, &options), TWILL_OK);
        CHECK(report.done >= 501);
        CHECK_EQ(report.done, atomic_load(&calls));
        CHECK_EQ(report.done + report.skipped, 100000);
    }
}

HARNESS_MAIN

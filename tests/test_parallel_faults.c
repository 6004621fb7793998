/* test_parallel_faults.c - allocation k fails, thread k cannot be started, for every k and every
   public function of twill_parallel_map.h: the answer is documented, nothing leaks, nothing ran in
   vain. */
#define HARNESS_FAULTS
#include "harness.h"

/* Counts the joins of the library: a thread that nobody joins may end all the same, later. */
#include <pthread.h>
static atomic_ulong joins;

static inline int join_counted(pthread_t thread, void **result)
{
    atomic_fetch_add(&joins, 1);
    return pthread_join(thread, result);
}
#define pthread_join join_counted
#if !defined __STDC_NO_THREADS__ && !defined __APPLE__
#include <threads.h>

static inline int c11_join_counted(thrd_t thread, int *result)
{
    atomic_fetch_add(&joins, 1);
    return thrd_join(thread, result);
}
#define thrd_join c11_join_counted
#endif

#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"
#undef pthread_join
#undef thrd_join

#include "parallel_kit.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

enum { N = 700, WIDE = 48 };
#ifdef TWILL__UNDER_TSAN
enum { MOST_ALLOCATIONS = 3, STEP = 40 }; /* threads are dear there */
#else
enum { MOST_ALLOCATIONS = 8, STEP = 16 };
#endif

static atomic_uint called; /* callbacks of all kinds */
static uint32_t input[N], output[N];
static unsigned char wide[N * WIDE];

static void reset(void)
{
    atomic_store(&called, 0);
    for (uint32_t i = 0; i < N; i++) {
        input[i] = i * 7919 % N;
        memset(wide + i * WIDE, (int)(input[i] % 256), WIDE);
        memcpy(wide + i * WIDE, &input[i], 4);
    }
    memset(output, 0, sizeof output);
}

static void count(void)
{
    atomic_fetch_add_explicit(&called, 1, memory_order_relaxed); /* a count */
    kit_burn(50);
}

/* ---- one use of each function, and whether its result is right ---- */

static int add_one(const void *in, void *out, const twill_task *task)
{
    (void)task;
    count();
    *(uint32_t *)out = *(const uint32_t *)in + 1;
    return 0;
}

static twill_status use_map(const twill_parallel_options *options)
{
    return twill_parallel_map(input, 4, output, 4, N, add_one, options);
}

static bool map_right(void)
{
    for (size_t i = 0; i < N; i++)
        if (output[i] != input[i] + 1)
            return false;
    return true;
}

static int set_item(const twill_task *task)
{
    count();
    output[task->index] = input[task->index] + 1;
    return 0;
}

static twill_status use_for(const twill_parallel_options *options)
{
    return twill_parallel_for(N, set_item, options);
}

static int set_range(size_t begin, size_t end, const twill_task *task)
{
    (void)task;
    count();
    for (size_t i = begin; i < end; i++)
        output[i] = input[i] + 1;
    return 0;
}

static twill_status use_range(const twill_parallel_options *options)
{
    return twill_parallel_range(N, set_range, options);
}

static int set_tile(size_t row, size_t row_end, size_t col, size_t col_end, const twill_task *task)
{
    (void)task;
    count();
    for (size_t r = row; r < row_end; r++)
        for (size_t c = col; c < col_end; c++)
            output[r * 20 + c] = input[r * 20 + c] + 1;
    return 0;
}

static twill_status use_tiles(const twill_parallel_options *options)
{
    return twill_parallel_tiles(N / 20, 20, 3, 7, set_tile, options);
}

static twill_status use_invoke(const twill_parallel_options *options)
{
    twill_for_fn *fns[N];

    for (size_t i = 0; i < N; i++)
        fns[i] = set_item;
    return twill_parallel_invoke(fns, N, options);
}

static uint64_t reduced;
static atomic_int accumulators;

typedef struct sum {
    uint64_t value;
    unsigned char more[4992];
} sum;

static int make_sum(void *acc, const twill_task *task)
{
    (void)task;
    count();
    atomic_fetch_add(&accumulators, 1);
    memset(acc, 0, sizeof(uint64_t));
    return 0;
}

static int fold_sum(void *acc, size_t begin, size_t end, const twill_task *task)
{
    (void)task;
    count();
    for (size_t i = begin; i < end; i++)
        *(uint64_t *)acc += input[i] + 1;
    return 0;
}

static int add_sums(void *left, void *right, const twill_task *task)
{
    (void)task;
    count();
    *(uint64_t *)left += *(uint64_t *)right;
    return 0;
}

static void drop_sum(void *acc, const twill_task *task)
{
    (void)acc, (void)task;
    atomic_fetch_sub(&accumulators, 1);
}

static twill_status reduce_by(size_t size, bool unordered, const twill_parallel_options *options)
{
    twill_reducer reducer = {.size = size,
                             .identity = make_sum,
                             .fold = fold_sum,
                             .combine = add_sums,
                             .dispose = drop_sum,
                             .unordered = unordered};
    static sum result;
    twill_status status;

    atomic_store(&accumulators, 0);
    memset(&result, 0x33, sizeof result);
    status = twill_parallel_reduce(N, &reducer, &result, options);
    reduced = status == TWILL_OK ? result.value : 0;
    CHECK_EQ(atomic_load(&accumulators), status == TWILL_OK);
    CHECK(status == TWILL_OK || result.value == UINT64_C(0x3333333333333333));
    return status;
}

static twill_status use_reduce(const twill_parallel_options *options)
{
    return reduce_by(sizeof(uint64_t), false, options);
}

static twill_status use_reduce_large(const twill_parallel_options *options)
{
    return reduce_by(sizeof(sum), false, options);
}

static twill_status use_reduce_unordered(const twill_parallel_options *options)
{
    return reduce_by(sizeof(sum), true, options);
}

TWILL_DEFINE_REDUCE(sum_typed, uint32_t, uint64_t, x, (count(), x + UINT64_C(1)), a, b, a + b, 0)

static twill_status use_reduce_typed(const twill_parallel_options *options)
{
    reduced = 7;
    return sum_typed(input, N, &reduced, options);
}

static bool reduce_right(void)
{
    return reduced == (uint64_t)N * (N - 1) / 2 + N;
}

static int add_numbers(void *left, void *right, const twill_task *task)
{
    (void)task;
    count();
    *(uint32_t *)left += *(uint32_t *)right;
    return 0;
}

static twill_status use_scan(const twill_parallel_options *options)
{
    return twill_parallel_scan(input, output, 4, N, NULL, add_numbers, options);
}

TWILL_DEFINE_SCAN(scan_typed, uint32_t, a, b, (count(), a + b))

static twill_status use_scan_typed(const twill_parallel_options *options)
{
    return scan_typed(input, output, N, NULL, options);
}

static bool scan_right(void)
{
    uint32_t all = 0;

    for (size_t i = 0; i < N; i++)
        if (output[i] != (all += input[i]))
            return false;
    return true;
}

static size_t filtered, found;

static bool is_even(const void *item, const twill_task *task)
{
    (void)task;
    count();
    return *(const uint32_t *)item % 2 == 0;
}

static twill_status use_filter(const twill_parallel_options *options)
{
    return twill_parallel_filter(input, 4, N, output, &filtered, is_even, options);
}

TWILL_DEFINE_FILTER(filter_typed, uint32_t, x, (count(), x % 2 == 0))

static twill_status use_filter_typed(const twill_parallel_options *options)
{
    return filter_typed(input, N, output, &filtered, options);
}

static bool filter_right(void)
{
    size_t at = 0;

    for (size_t i = 0; i < N; i++)
        if (input[i] % 2 == 0 && output[at++] != input[i])
            return false;
    return at == filtered;
}

static bool is_last(const void *item, const twill_task *task)
{
    (void)item;
    count();
    return task->index == N - 1;
}

static twill_status use_find(const twill_parallel_options *options)
{
    return twill_parallel_find(input, 4, N, &found, is_last, options);
}

TWILL_DEFINE_FIND(find_typed, uint32_t, x, (count(), x == input[N - 1]))

static twill_status use_find_typed(const twill_parallel_options *options)
{
    return find_typed(input, N, &found, options);
}

static bool find_right(void)
{
    return found == N - 1;
}

static int by_number(const void *a, const void *b, const twill_task *task)
{
    uint32_t x, y;

    (void)task;
    count();
    memcpy(&x, a, 4);
    memcpy(&y, b, 4);
    return x < y ? -1 : x > y;
}

static twill_status use_sort(const twill_parallel_options *options)
{
    memcpy(output, input, sizeof output);
    return twill_parallel_sort(output, N, 4, by_number, options);
}

static bool sort_right(void)
{
    for (uint32_t i = 0; i < N; i++)
        if (output[i] != i)
            return false;
    return true;
}

static twill_status use_sort_wide(const twill_parallel_options *options)
{
    return twill_parallel_sort(wide, N, WIDE, by_number, options);
}

static bool sort_wide_right(void)
{
    for (uint32_t i = 0; i < N; i++)
        if (memcmp(wide + i * WIDE, &i, 4) != 0 || wide[i * WIDE + WIDE - 1] != i % 256)
            return false;
    return true;
}

typedef struct use {
    const char *name;
    twill_status (*run)(const twill_parallel_options *options);
    bool (*right)(void);
    bool schedules; /* takes them */
    bool frugal;    /* needs no memory up to 64 workers */
} use;

static const use uses[] = {
    {"map", use_map, map_right, true, true},
    {"for", use_for, map_right, true, true},
    {"range", use_range, map_right, true, true},
    {"tiles", use_tiles, map_right, true, true},
    {"invoke", use_invoke, map_right, true, true},
    {"find", use_find, find_right, true, true},
    {"find, typed", use_find_typed, find_right, true, true},
    {"reduce", use_reduce, reduce_right, true, false},
    {"reduce, typed", use_reduce_typed, reduce_right, true, false},
    {"reduce, large", use_reduce_large, reduce_right, true, false},
    {"reduce, unordered", use_reduce_unordered, reduce_right, true, false},
    {"scan", use_scan, scan_right, false, false},
    {"scan, typed", use_scan_typed, scan_right, false, false},
    {"filter", use_filter, filter_right, true, false},
    {"filter, typed", use_filter_typed, filter_right, true, false},
    {"sort", use_sort, sort_right, false, false},
    {"sort, wide", use_sort_wide, sort_wide_right, false, false},
};
enum { USES = sizeof uses / sizeof *uses };

/* Whatever happened: the answer is one of these, and what it promises holds. */
static void check_use(const use *one, twill_status status, twill_status refusal,
                      const twill_report *report, const char *what, unsigned long k)
{
    unsigned before = atomic_load(&harness_failures);

    CHECK(status == TWILL_OK || status == refusal);
    CHECK_EQ(report->status, status);
    CHECK_EQ(report->total, report->done + report->failed + report->skipped);
    CHECK_EQ(faults_live(), 0);
    if (status == TWILL_OK) {
        CHECK(one->right());
        CHECK_EQ(report->skipped + report->failed, 0);
    } else {
        CHECK_EQ(atomic_load(&called), 0);
        CHECK_EQ(report->done + report->failed, 0);
    }
    if (atomic_load(&harness_failures) != before)
        harness_say("    in: %s, %s %lu, status %s\n", one->name, what, k,
                    twill_status_name(status));
}

/* ---- memory ---- */

static void fail_every_allocation(const use *one, unsigned workers, int schedule)
{
    int threads = kit_threads();
    bool last = false; /* it asks for no more: nothing has failed */

    for (unsigned long k = 1; k <= MOST_ALLOCATIONS && !last; k++) {
        for (int after = 0; after < 2; after++) {
            twill_report report;
            twill_parallel_options options = {.run = {.workers = workers, .report = &report},
                                              .schedule = (twill_schedule)schedule,
                                              .cost_of = schedule == TWILL_SCHEDULE_COST ? kit_cost
                                                                                         : NULL};
            twill_status status;
            unsigned long before = faults_allocs();

            reset();
            if (after)
                faults_fail_alloc_from(k);
            else
                faults_fail_alloc(k);
            status = one->run(&options);
            faults_fail_alloc(0);
            if (status == TWILL_INVALID && schedule == TWILL_SCHEDULE_COST)
                return; /* it has no use for costs */
            check_use(one, status, TWILL_NO_MEMORY, &report,
                      after ? "no memory from" : "allocation", k);
            last = faults_allocs() - before < k;
        }
    }
    CHECK(kit_threads_back_to(threads));
}

TEST(every_allocation_fails_once_or_for_good)
{
    for (int i = 0; i < USES; i++) {
        fail_every_allocation(&uses[i], 4, TWILL_SCHEDULE_AUTO);
        fail_every_allocation(&uses[i], 1, TWILL_SCHEDULE_AUTO);
        fail_every_allocation(&uses[i], 70, TWILL_SCHEDULE_AUTO);
        if (uses[i].schedules)
            fail_every_allocation(&uses[i], 70, TWILL_SCHEDULE_COST);
    }
}

TEST(loops_need_no_memory_up_to_64_workers)
{
    twill_pool *pool;

    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 3}), TWILL_OK);
    for (int i = 0; i < USES; i++) {
        if (!uses[i].frugal)
            continue;
        for (unsigned workers = 0; workers <= 64; workers += STEP) {
            for (int schedule = 0; schedule < 5; schedule++) {
                unsigned long before = faults_allocs();
                twill_parallel_options options = {.run.workers = workers,
                                                  .schedule = (twill_schedule)schedule,
                                                  .cost_of = kit_cost};

                reset();
                CHECK_EQ(uses[i].run(&options), TWILL_OK);
                options.run.pool = pool;
                CHECK_EQ(uses[i].run(&options), TWILL_OK);
                CHECK_EQ(faults_allocs(), before);
            }
        }
    }
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

TEST(more_than_64_workers_fall_back_without_memory)
{
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 100, .report = &report}};

    reset();
    faults_fail_alloc_from(1);
    CHECK_EQ(use_for(&options), TWILL_OK);
    CHECK(report.flags & TWILL_REPORT_DEGRADED);
    CHECK(report.workers_started > 1 && report.workers_started <= 64);
    CHECK(map_right());
    options.run.strict = true;
    reset();
    CHECK_EQ(use_for(&options), TWILL_NO_MEMORY);
    CHECK_EQ(atomic_load(&called), 0);
    faults_fail_alloc_from(0);
    CHECK_EQ(use_for(&options), TWILL_OK);
    CHECK_EQ(report.workers_started, 100);
}

/* ---- threads ---- */

TEST(every_thread_fails_to_start)
{
    int threads = kit_threads();

    for (int i = 0; i < USES; i++) {
        for (unsigned long k = 1; k <= 5; k++) {
            for (int strict = 0; strict < 2; strict++) {
                twill_report report;
                twill_parallel_options options = {
                    .run = {.workers = 5, .strict = strict, .report = &report}};
                twill_status status;

                reset();
                faults_fail_thread(k);
                status = uses[i].run(&options);
                faults_fail_thread(0);
                check_use(&uses[i], status, TWILL_NO_THREAD, &report,
                          strict ? "strict, thread" : "thread", k);
                if (report.total < 5)
                    continue;
                CHECK_EQ(status, strict && k < 5 ? TWILL_NO_THREAD : TWILL_OK);
                if (status == TWILL_OK) {
                    CHECK_EQ(report.workers_started, k);
                    CHECK_EQ(!(report.flags & TWILL_REPORT_DEGRADED), k == 5);
                }
            }
        }
        reset();
        CHECK_EQ(uses[i].run(NULL), TWILL_OK); /* the next call is well again */
        CHECK(uses[i].right());
    }
    CHECK(kit_threads_back_to(threads));
}

static int slow_item(const twill_task *task)
{
    kit_pause(TWILL_US(200));
    return set_item(task);
}

TEST(threads_that_fail_behind_the_probe)
{
    for (unsigned long k = 1; k <= 3; k++) {
        twill_report report;
        twill_parallel_options options = {.run.report = &report};

        reset();
        faults_fail_thread(k);
        CHECK_EQ(twill_parallel_for(N, slow_item, &options), TWILL_OK);
        faults_fail_thread(0);
        CHECK(map_right());
        CHECK_EQ(report.done, N);
        CHECK(report.workers_started <= k);
        CHECK_EQ(!(report.flags & TWILL_REPORT_DEGRADED), k >= twill_cpus());
    }
}

/* ---- the calling thread ends ---- */

static atomic_uint ends_at;
static twill_parallel_options ending_options;
static pthread_t ending;

static void count_and_end(void)
{
    count();
    if (pthread_equal(pthread_self(), ending) && atomic_load(&called) >= atomic_load(&ends_at))
        END_THREAD();
}

static int end_item(const twill_task *task)
{
    (void)task;
    count_and_end();
    return 0;
}

/* Slow enough to be worth threads, which are there then when a combine ends the caller. */
static int slow_fold(void *acc, size_t begin, size_t end, const twill_task *task)
{
    kit_pause(TWILL_US(30));
    return fold_sum(acc, begin, end, task);
}

static int end_fold(void *acc, size_t begin, size_t end, const twill_task *task)
{
    count_and_end();
    return fold_sum(acc, begin, end, task);
}

static int end_add(void *left, void *right, const twill_task *task)
{
    count_and_end();
    return add_sums(left, right, task);
}

static int end_compare(const void *a, const void *b, const twill_task *task)
{
    count_and_end();
    return by_number(a, b, task);
}

static bool end_test(const void *item, const twill_task *task)
{
    count_and_end();
    return is_even(item, task);
}

static int end_scan(void *left, void *right, const twill_task *task)
{
    count_and_end();
    return add_numbers(left, right, task);
}

static void *run_which(void *which)
{
    twill_reducer reducer = {.size = sizeof(sum),
                             .identity = make_sum,
                             .fold = *(int *)which == 1 ? end_fold : slow_fold,
                             .combine = *(int *)which == 1 ? add_sums : end_add,
                             .dispose = drop_sum};
    static sum result;

    ending = pthread_self();
    switch (*(int *)which) {
    case 0:
        (void)twill_parallel_for(N, end_item, &ending_options);
        break;
    case 1:
    case 2:
        (void)twill_parallel_reduce(N, &reducer, &result, &ending_options);
        atomic_fetch_sub(&accumulators, 1); /* it has returned */
        break;
    case 3:
        (void)twill_parallel_sort(wide, N, WIDE, end_compare, &ending_options);
        break;
    case 4:
        (void)twill_parallel_filter(input, 4, N, output, &filtered, end_test, &ending_options);
        break;
    case 5:
        (void)twill_parallel_scan(input, output, 4, N, NULL, end_scan, &ending_options);
        break;
    default:
        break;
    }
    return NULL;
}

TEST(nothing_leaks_when_a_callback_ends_the_calling_thread)
{
    int threads = kit_threads();

    for (int round = 0; round < 120; round++) {
        static const unsigned workers[] = {0, 1, 3, 70};
        int which = round % 6;
        twill_report report;
        pthread_t thread;
        unsigned long begun = faults_threads(), joined = atomic_load(&joins);

        reset();
        memset(&ending_options, 0, sizeof ending_options);
        memset(&report, 0, sizeof report);
        ending_options.run.workers = workers[round / 6 % 4];
        ending_options.run.report = round % 2 ? &report : NULL;
        atomic_store(&ends_at, 1 + (unsigned)test_random_below(300));
        atomic_store(&accumulators, 0);
        CHECK_EQ(pthread_create(&thread, NULL, run_which, &which), 0);
        pthread_join(thread, NULL);
        CHECK_EQ(atomic_load(&joins) - joined, faults_threads() - begun);
        CHECK_EQ(faults_live(), 0);
        CHECK_EQ(atomic_load(&accumulators), 0);
        CHECK_EQ(report.total, report.done + report.failed + report.skipped);
        if (atomic_load(&harness_failures)) {
            harness_say("    in: which %d, workers %u\n", which, ending_options.run.workers);
            break;
        }
    }
    CHECK(kit_threads_back_to(threads));
}

HARNESS_MAIN

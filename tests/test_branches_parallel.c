/* test_branches_parallel.c - ways of twill_parallel_map.h that no other test takes for certain:
   refusals of each form, sizes that are copied in their own way, stops at the edge of a word,
   accumulators that cannot be made or combined. */
#define HARNESS_FAULTS
#include "harness.h"

#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

#include <pthread.h>

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#include <threads.h>
#define END_THREAD() thrd_exit(0)
#endif

#include <limits.h>

#include "parallel_kit.h"

enum { ITEMS = 1000, WIDEST = 16 };

static int map_it(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(char *)out = *(const char *)in;
    return 0;
}

TWILL_DEFINE_MAP(same_bytes, char, char, x, x)

static int nothing(const twill_task *task)
{
    (void)task;
    return 0;
}

static int no_range(size_t begin, size_t end, const twill_task *task)
{
    (void)begin, (void)end, (void)task;
    return 0;
}

static int no_tile(size_t row, size_t row_end, size_t col, size_t col_end, const twill_task *task)
{
    (void)row, (void)row_end, (void)col, (void)col_end, (void)task;
    return 0;
}

static bool keep_any(const void *item, const twill_task *task)
{
    (void)item, (void)task;
    return true;
}

static int by_byte(const void *a, const void *b, const twill_task *task)
{
    (void)task;
    return *(const unsigned char *)a - *(const unsigned char *)b;
}

/* ---- refusals ---- */

TEST(an_unknown_schedule_is_refused_by_each_form)
{
    twill_parallel_options bad = {.schedule = (twill_schedule)99};
    twill_for_fn *const fns[] = {nothing};
    char in[4] = "abc", out[4];
    size_t n;

    CHECK_EQ(twill_parallel_map(in, 1, out, 1, 3, map_it, &bad), TWILL_INVALID);
    CHECK_EQ(twill_parallel_for(3, nothing, &bad), TWILL_INVALID);
    CHECK_EQ(twill_parallel_range(3, no_range, &bad), TWILL_INVALID);
    CHECK_EQ(twill_parallel_tiles(3, 3, 1, 1, no_tile, &bad), TWILL_INVALID);
    CHECK_EQ(twill_parallel_invoke(fns, 1, &bad), TWILL_INVALID);
    CHECK_EQ(twill_parallel_filter(in, 1, 3, out, &n, keep_any, &bad), TWILL_INVALID);
    CHECK_EQ(twill_parallel_find(in, 1, 3, &n, keep_any, &bad), TWILL_INVALID);
    CHECK_EQ(twill_parallel_sort(in, 3, 1, by_byte, &bad), TWILL_INVALID);
    CHECK_EQ(same_bytes(in, out, 3, &bad), TWILL_INVALID);
    CHECK_EQ(same_bytes(NULL, out, 3, NULL), TWILL_INVALID);
    CHECK_EQ(same_bytes(NULL, out, 0, NULL), TWILL_OK);
}

/* ---- filter ---- */

/* Items are marked in their first byte; the rest tells the item, so that a wrong copy is seen. */
static void fill(unsigned char *items, size_t size, unsigned third)
{
    for (size_t i = 0; i < ITEMS; i++) {
        for (size_t k = 0; k < size; k++)
            items[i * size + k] = (unsigned char)(i * 7 + k);
        items[i * size] = i % 3 < third;
    }
}

static bool keep_marked(const void *item, const twill_task *task)
{
    (void)task;
    return *(const unsigned char *)item;
}

static void filter_and_compare(size_t size, unsigned third, unsigned workers)
{
    static unsigned char items[ITEMS * WIDEST], wanted[ITEMS * WIDEST];
    twill_parallel_options options = {.run.workers = workers};
    size_t n = 0, got;

    fill(items, size, third);
    for (size_t i = 0; i < ITEMS; i++)
        if (items[i * size]) {
            memcpy(wanted + n * size, items + i * size, size);
            n++;
        }
    CHECK_EQ(twill_parallel_filter(items, size, ITEMS, items, &got, keep_marked, &options),
             TWILL_OK);
    CHECK_EQ(got, n);
    CHECK(memcmp(items, wanted, n * size) == 0);
}

TEST(a_filter_copies_items_of_every_size)
{
    static const size_t sizes[] = {1, 4, 8, 12, 16};

    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (unsigned third = 0; third <= 3; third++)
            for (unsigned workers = 1; workers <= 3; workers += 2)
                filter_and_compare(sizes[s], third, workers);
}

typedef struct stop {
    size_t at;
} stop;

static bool keep_until(const void *item, const twill_task *task)
{
    (void)item;
    if (task->index == ((const stop *)task->context)->at)
        twill_task_stop(task);
    return true;
}

TEST(a_stopped_filter_keeps_what_lies_below)
{
    static const size_t stops[] = {0, 62, 63, 64, 100, 127, ITEMS - 1};
    static int in[ITEMS], out[ITEMS];

    for (int i = 0; i < ITEMS; i++)
        in[i] = i;
    for (size_t s = 0; s < sizeof stops / sizeof *stops; s++) {
        stop where = {stops[s]};
        twill_parallel_options options = {.run = {.workers = 2, .context = &where}};
        size_t got = 0;
        CHECK_EQ(twill_parallel_filter(in, sizeof *in, ITEMS, out, &got, keep_until, &options),
                 TWILL_OK);
        CHECK_EQ(got, where.at + 1);
        CHECK(memcmp(in, out, got * sizeof *in) == 0);
    }
}

TEST(a_large_filter_needs_memory)
{
    enum { MANY = 1 << 20 };
    char *items = calloc(MANY, 1);
    size_t got = 1;

    CHECK(items);
    faults_fail_alloc_from(1);
    CHECK_EQ(twill_parallel_filter(items, 1, MANY, NULL, &got, keep_marked, NULL), TWILL_NO_MEMORY);
    faults_fail_alloc_from(0);
    CHECK_EQ(got, 0);
    free(items);
}

/* Wide enough to be written by several threads, if several have tested. */
TEST(a_filter_of_many_blocks)
{
    enum { MANY = 66 * 4096 };
    unsigned char *in = calloc(MANY, 1), *out = malloc(MANY);
    CHECK(in && out);
    for (unsigned workers = 1; workers <= 2; workers++) {
        size_t got = 0;
        memset(out, 0, MANY);
        for (size_t i = 0; i < MANY; i += 3)
            in[i] = (unsigned char)(1 + i % 251);
        CHECK_EQ(twill_parallel_filter(in, 1, MANY, out, &got, keep_marked,
                                       &(twill_parallel_options){.run.workers = workers}),
                 TWILL_OK);
        CHECK_EQ(got, MANY / 3);
        for (size_t i = 0; i < got; i++)
            if (out[i] != 1 + 3 * i % 251) {
                CHECK_EQ(out[i], 1 + 3 * i % 251);
                break;
            }
    }
    free(in);
    free(out);
}

/* ---- reduce ---- */

static int no_identity(void *acc, const twill_task *task)
{
    (void)acc, (void)task;
    return 5;
}

static int add_range(void *acc, size_t begin, size_t end, const twill_task *task)
{
    (void)task;
    for (size_t i = begin; i < end; i++)
        *(uint64_t *)acc += i;
    return 0;
}

static int add_right(void *left, void *right, const twill_task *task)
{
    (void)task;
    *(uint64_t *)left += *(uint64_t *)right;
    return 0;
}

static int refuse_right(void *left, void *right, const twill_task *task)
{
    (void)left, (void)right, (void)task;
    return 6;
}

TEST(an_identity_that_fails_for_no_items_is_told)
{
    twill_reducer reducer = {
        .size = 8, .identity = no_identity, .fold = add_range, .combine = add_right};
    twill_report report;
    uint64_t sum = 77;

    CHECK_EQ(
        twill_parallel_reduce(0, &reducer, &sum, &(twill_parallel_options){.run.report = &report}),
        TWILL_FAILED);
    CHECK_EQ(report.first_error.code, 5);
    CHECK_EQ(report.first_error.status, TWILL_FAILED);
    CHECK(report.first_error.index == SIZE_MAX);
    CHECK_EQ(twill_parallel_reduce(0, &reducer, &sum, NULL), TWILL_FAILED);
    CHECK_EQ(twill_parallel_reduce(10, &reducer, &sum, NULL), TWILL_FAILED);
}

static void combine_fails(bool unordered)
{
    twill_reducer reducer = {
        .size = 8, .fold = add_range, .combine = refuse_right, .unordered = unordered, .blocks = 8};
    twill_report report;
    uint64_t sum = 77;
    twill_status status = twill_parallel_reduce(
        ITEMS, &reducer, &sum,
        &(twill_parallel_options){.run = {.workers = 2, .report = &report}, .chunk = 50});

    /* unordered: one worker may have done all, and then nothing is combined */
    CHECK(status == TWILL_FAILED || (unordered && status == TWILL_OK));
    if (status == TWILL_FAILED) {
        CHECK_EQ(report.first_error.code, 6);
        CHECK_EQ(sum, 77);
    } else {
        CHECK_EQ(sum, (uint64_t)ITEMS * (ITEMS - 1) / 2);
    }
}

static atomic_uint inside;

/* Not before both workers are in a fold. */
static int add_range_together(void *acc, size_t begin, size_t end, const twill_task *task)
{
    twill_ns patience = twill_now() + TWILL_SEC(100);
    atomic_fetch_or(&inside, 1u << task->worker);
    while (atomic_load(&inside) != 3 && twill_now() < patience)
        (void)twill_sleep(twill_within(TWILL_US(20)));
    return add_range(acc, begin, end, task);
}

TEST(the_sums_of_two_workers_cannot_be_combined)
{
    twill_reducer reducer = {
        .size = 8, .fold = add_range_together, .combine = refuse_right, .unordered = true};
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 2, .report = &report}, .chunk = 50};
    uint64_t sum = 77;
    atomic_store(&inside, 0);
    CHECK_EQ(twill_parallel_reduce(ITEMS, &reducer, &sum, &options), TWILL_FAILED);
    CHECK_EQ(report.first_error.code, 6);
    CHECK_EQ(sum, 77);
    reducer.combine = add_right;
    CHECK_EQ(twill_parallel_reduce(ITEMS, &reducer, &sum, &options), TWILL_OK);
    CHECK_EQ(sum, (uint64_t)ITEMS * (ITEMS - 1) / 2);
}

TEST(a_combine_that_fails_fails_the_call)
{
    for (int round = 0; round < 20; round++) {
        combine_fails(false);
        combine_fails(true);
    }
}

/* An accumulator of WIDE words: how many items were folded and, in each block and combine, that
   they stand side by side: first..end. */
enum { WIDE = 16 };
typedef struct wide {
    uint64_t first, end, filling[WIDE - 2];
} wide;
static struct {
    atomic_uint folds, combines; /* so many there were */
    unsigned combine_fails;      /* the how-manieth and all later ones, 0: none */
    size_t stops_at;             /* the fold of this item says stop */
    twill_cancel *fires;         /* by the fold of the last one, which gives up */
    atomic_int live;
    size_t size;
} wides;

static int make_wide(void *acc, const twill_task *task)
{
    (void)task;
    memset(acc, 0, wides.size);
    atomic_fetch_add(&wides.live, 1);
    return 0;
}

static void drop_wide(void *acc, const twill_task *task)
{
    (void)acc, (void)task;
    atomic_fetch_sub(&wides.live, 1);
}

static int fold_wide(void *acc, size_t begin, size_t end, const twill_task *task)
{
    wide *to = (wide *)acc;
    atomic_fetch_add(&wides.folds, 1);
    to->first = begin;
    to->end = end;
    if (begin <= wides.stops_at && wides.stops_at < end)
        return twill_task_stop(task);
    if (wides.fires && end == ITEMS) {
        twill_cancel_fire(wides.fires, 1);
        return twill_task_skip(task);
    }
    return 0;
}

static int combine_wide(void *left_, void *right_, const twill_task *task)
{
    wide *left = (wide *)left_, *right = (wide *)right_;
    (void)task;
    CHECK_EQ(left->end, right->first);
    left->end = right->end;
    return atomic_fetch_add(&wides.combines, 1) + 1 >= wides.combine_fails ? 8 : 0;
}

static twill_reducer wide_reducer(size_t size, size_t blocks)
{
    twill_reducer reducer = {
        .size = size, .fold = fold_wide, .combine = combine_wide, .blocks = blocks};
    wides.size = size;
    wides.combine_fails = UINT_MAX;
    wides.stops_at = SIZE_MAX;
    wides.fires = NULL;
    atomic_store(&wides.folds, 0);
    atomic_store(&wides.combines, 0);
    atomic_store(&wides.live, 0);
    return reducer;
}

TEST(wide_accumulators_that_nobody_disposes_of)
{
    for (unsigned workers = 1; workers <= 2; workers++) {
        twill_reducer reducer = wide_reducer(sizeof(wide), 0);
        wide sum;
        CHECK_EQ(twill_parallel_reduce(ITEMS, &reducer, &sum,
                                       &(twill_parallel_options){.run.workers = workers}),
                 TWILL_OK);
        CHECK(sum.first == 0 && sum.end == ITEMS);
    }
}

/* Then groups of blocks run one after the other. */
TEST(a_reduce_without_memory_for_all_accumulators)
{
    twill_reducer reducer = wide_reducer(64, 256);
    wide sum;
    faults_fail_alloc_from(1);
    CHECK_EQ(twill_parallel_reduce(ITEMS, &reducer, &sum, NULL), TWILL_OK);
    faults_fail_alloc_from(0);
    CHECK(sum.first == 0 && sum.end == ITEMS);
    CHECK_EQ(atomic_load(&wides.folds), 250); /* of 4 items */
    CHECK_EQ(faults_live(), 0);
}

/* So large that a few at a time are alive: 16 blocks a group. Each combine fails once: within a
   group, of two groups, and of what is left in the end. */
TEST(a_reduce_in_groups)
{
    enum { LARGE = 65536, BLOCKS = 48 };
    static char sum[LARGE];
    twill_parallel_options alone = {.run.workers = 1};
    for (unsigned fails = 1; fails <= BLOCKS; fails++) {
        twill_reducer reducer = wide_reducer(LARGE, BLOCKS);
        bool works = fails == BLOCKS; /* one combine less than blocks */
        if (fails % 2) {
            reducer.identity = make_wide;
            reducer.dispose = drop_wide;
        }
        wides.combine_fails = fails;
        memset(sum, 7, 16);
        CHECK_EQ(twill_parallel_reduce(BLOCKS, &reducer, sum, &alone),
                 works ? TWILL_OK : TWILL_FAILED);
        CHECK_EQ(atomic_load(&wides.combines), works ? BLOCKS - 1 : fails);
        CHECK(works ? ((wide *)(void *)sum)->end == BLOCKS : sum[0] == 7 && sum[15] == 7);
        CHECK_EQ(atomic_load(&wides.live), 0);
    }
    for (size_t last = 0; last < BLOCKS; last += 5) {
        twill_reducer reducer = wide_reducer(LARGE, BLOCKS);
        wides.stops_at = last;
        CHECK_EQ(twill_parallel_reduce(BLOCKS, &reducer, sum, &alone), TWILL_OK);
        CHECK_EQ(((wide *)(void *)sum)->end, last + 1);
        CHECK_EQ(atomic_load(&wides.folds), last + 1);
    }
    CHECK_EQ(faults_live(), 0);
}

/* A combine fails whose right operand is blocks 192 to 255: however many are in a group. */
static int adds_but_not_a_quarter(void *left, void *right, const twill_task *task)
{
    wide *l = left, *r = right;

    (void)task;
    CHECK_EQ(l->end, r->first);
    if (r->first == 192 && r->end == 256)
        return 7;
    l->end = r->end;
    return 0;
}

static int spans(void *acc, size_t begin, size_t end, const twill_task *task)
{
    *(wide *)acc = (wide){.first = begin, .end = end};
    return begin % 16 == 3 ? *(const int *)task->context : 0;
}

TEST(a_combine_of_groups_that_fails_is_told_as_its_right_operand)
{
    static char sum[65536];

    for (unsigned workers = 1; workers <= 8; workers *= 2) {
        int well = 0;
        twill_report report;
        twill_reducer reducer = wide_reducer(sizeof sum, 256);
        twill_parallel_options options = {
            .run = {.workers = workers, .context = &well, .report = &report}};

        reducer.fold = spans;
        reducer.combine = adds_but_not_a_quarter;
        CHECK_EQ(twill_parallel_reduce(256, &reducer, sum, &options), TWILL_FAILED);
        CHECK_EQ(report.first_error.index, 192);
        CHECK_EQ(report.first_error.code, 7);
        CHECK_EQ(report.done, 255);
    }
}

TEST(a_reduce_in_groups_that_collects_errors_folds_all_of_them)
{
    static char sum[65536];

    for (unsigned workers = 1; workers <= 2; workers++) {
        int code = 9;
        twill_item_error errors[20];
        twill_report report;
        twill_reducer reducer = wide_reducer(sizeof sum, 256);
        twill_parallel_options options = {.run = {.workers = workers,
                                                  .context = &code,
                                                  .on_error = TWILL_ON_ERROR_COLLECT,
                                                  .errors = errors,
                                                  .errors_capacity = 20,
                                                  .report = &report}};

        reducer.fold = spans;
        reducer.combine = adds_but_not_a_quarter;
        if (workers == 2) {
            reducer.identity = make_wide;
            reducer.dispose = drop_wide;
        }
        CHECK_EQ(twill_parallel_reduce(256, &reducer, sum, &options), TWILL_FAILED);
        CHECK_EQ(report.done, 240);
        CHECK_EQ(report.failed, 16);
        CHECK_EQ(report.errors_stored, 16);
        for (size_t i = 0; i < 16; i++)
            CHECK_EQ(errors[i].index, 16 * i + 3);
        CHECK_EQ(atomic_load(&wides.live), 0);
    }
    CHECK_EQ(faults_live(), 0);
}

#if HARNESS_FORKS
/* The folds are cheap, so the caller may do all; then a helper is in a combine, and the caller
   forks in another one. The child lacks what the helper had in hand. */
typedef struct tree_forks {
    wide *left, *right; /* the helper's */
    atomic_uint helped, forked;
    unsigned combined; /* by the caller */
    bool child, taken; /* taken: the child has disposed of one of those */
    pid_t pid;
} tree_forks;

static int forks_in_a_tree(void *left, void *right, const twill_task *task)
{
    tree_forks *all = task->context;
    wide *l = left, *r = right;

    if (task->worker && !atomic_load(&all->helped)) {
        all->left = l;
        all->right = r;
        atomic_store(&all->helped, 1);
        CHECK(kit_wait_for(&all->forked, 1));
    } else if (task->worker == 0 && ++all->combined <= 15) {
        kit_pause(TWILL_US(50)); /* worth helpers */
    } else if (task->worker == 0 && !all->child && !atomic_load(&all->forked)) {
        CHECK(kit_wait_for(&all->helped, 1));
        all->pid = fork();
        all->child = all->pid == 0;
        atomic_store(&all->forked, 1);
    }
    if (all->child && l->end != r->first)
        _exit(2); /* it goes on with what is not whole */
    CHECK_EQ(l->end, r->first);
    l->end = r->end;
    return 0;
}

static void drops_in_a_tree(void *acc, const twill_task *task)
{
    tree_forks *all = task->context;

    if (all->child && (acc == all->left || acc == all->right))
        all->taken = true;
}

static int well_spanned(void *acc, size_t begin, size_t end, const twill_task *task)
{
    (void)task;
    *(wide *)acc = (wide){.first = begin, .end = end};
    return 0;
}

TEST(a_child_forked_in_a_shared_tree_has_no_result_and_leaves_what_a_helper_had)
{
    for (int disposes = 0; disposes < 2; disposes++) {
        twill_pool *pool = NULL;
        tree_forks all = {.left = NULL};
        twill_reducer reducer = {.size = sizeof(wide),
                                 .fold = well_spanned,
                                 .combine = forks_in_a_tree,
                                 .dispose = disposes ? drops_in_a_tree : NULL,
                                 .blocks = 256};
        twill_parallel_options options = {.run.context = &all};
        wide result = {.first = 77};
        twill_status status;
        int exited = 0;

        CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
        options.run.pool = pool;
        status = twill_parallel_reduce(256, &reducer, &result, &options);
        if (all.child)
            _exit(status != TWILL_FORKED || result.first != 77 ? 3 : all.taken ? 4 : 0);
        CHECK_EQ(status, TWILL_OK);
        CHECK_EQ(result.end, 256);
        CHECK_EQ(waitpid(all.pid, &exited, 0), all.pid);
        CHECK(WIFEXITED(exited) && WEXITSTATUS(exited) == 0);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}
#endif

/* From one of them on, while trees of 16 blocks are combined beside one another: those above are
   left. */
TEST(a_tree_of_combines_that_fail)
{
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 2, .report = &report}};
    for (unsigned from = 100; from < 1000; from += 150) {
        twill_reducer reducer = wide_reducer(16, ITEMS);
        wide sum;
        wides.combine_fails = from;
        sum.first = 77;
        CHECK_EQ(twill_parallel_reduce(ITEMS, &reducer, &sum, &options), TWILL_FAILED);
        CHECK_EQ(report.first_error.code, 8);
        CHECK(report.first_error.index < ITEMS);
        CHECK_EQ(report.done + report.failed + report.skipped, ITEMS);
        CHECK_EQ(sum.first, 77);
    }
}

/* The last fold has given up, and says why: the result lacks it, and is not told. */
TEST(a_fold_that_gives_up_because_of_the_token)
{
    twill_cancel token;
    twill_reducer reducer = wide_reducer(16, 10);
    twill_parallel_options options = {.run = {.workers = 1, .until.cancel = &token}};
    wide sum = {.first = 77};
    twill_cancel_init(&token, NULL);
    wides.fires = &token;
    CHECK_EQ(twill_parallel_reduce(ITEMS, &reducer, &sum, &options), TWILL_CANCELLED);
    CHECK_EQ(atomic_load(&wides.folds), 10);
    CHECK_EQ(sum.first, 77);
}

/* The trees of more than 16 blocks are shared, too. The helper's thread ends in its first combine;
   the caller, when it has done the first tree, waits for that. */
typedef struct tree_ends {
    atomic_uint ended;
    unsigned combined; /* by the caller */
    atomic_int live;
} tree_ends;

static int makes_one(void *acc, const twill_task *task)
{
    *(uint64_t *)acc = 0;
    atomic_fetch_add(&((tree_ends *)task->context)->live, 1);
    return 0;
}

static void drops_one(void *acc, const twill_task *task)
{
    (void)acc;
    atomic_fetch_sub(&((tree_ends *)task->context)->live, 1);
}

static int ends_in_a_tree(void *left, void *right, const twill_task *task)
{
    tree_ends *ends = task->context;

    CHECK_EQ(task->index, SIZE_MAX);
    if (task->worker) {
        atomic_store(&ends->ended, 1);
        END_THREAD();
    }
    if (++ends->combined <= 15)
        kit_pause(TWILL_US(50)); /* worth helpers */
    else
        CHECK(kit_wait_for(&ends->ended, 1));
    *(uint64_t *)left += *(uint64_t *)right;
    return 0;
}

TEST(a_helper_that_ends_in_a_combine_fails_the_reduce)
{
    tree_ends ends = {.combined = 0};
    twill_report report;
    twill_reducer reducer = {.size = sizeof(uint64_t),
                             .identity = makes_one,
                             .fold = add_range,
                             .combine = ends_in_a_tree,
                             .dispose = drops_one,
                             .blocks = 64};
    twill_parallel_options options = {.run = {.workers = 2, .context = &ends, .report = &report}};
    uint64_t result = 7;

    CHECK_EQ(twill_parallel_reduce(ITEMS, &reducer, &result, &options), TWILL_FAILED);
    CHECK_EQ(result, 7);
    CHECK_EQ(report.first_error.status, TWILL_LOST);
    CHECK_EQ(report.failed, 1);
    CHECK_EQ(report.done, ITEMS - 1);
    CHECK_EQ(report.skipped, 0);
    CHECK_EQ(atomic_load(&ends.live), 0);
    CHECK_EQ(faults_live(), 0);
}

/* Block 1 says stop while block 2 is run, whose worker is told to give up. */
typedef struct told_off {
    atomic_uint begun[4], told;
} told_off;

static int folds_below_a_stop(void *acc, size_t begin, size_t end, const twill_task *task)
{
    told_off *blocks = task->context;
    twill_ns limit = twill_now() + TWILL_SEC(100);

    atomic_store(&blocks->begun[begin], 1);
    if (begin < 2)
        CHECK(kit_wait_for(&blocks->begun[begin + 1], 1));
    if (begin == 1)
        (void)twill_task_stop(task);
    while (begin == 2 && !twill_task_cancelled(task) && CHECK(twill_now() < limit))
        kit_pause(TWILL_US(20));
    return add_range(acc, begin, end, task);
}

static int looks_and_adds(void *left, void *right, const twill_task *task)
{
    atomic_fetch_add(&((told_off *)task->context)->told, twill_task_cancelled(task));
    return add_right(left, right, task);
}

TEST(a_combine_below_a_stop_is_not_told_to_give_up)
{
    for (int unordered = 0; unordered < 2; unordered++) {
        told_off blocks = {.told = 0};
        twill_report report;
        twill_reducer reducer = {.size = 8,
                                 .fold = folds_below_a_stop,
                                 .combine = looks_and_adds,
                                 .unordered = unordered,
                                 .blocks = unordered ? 0 : 4};
        twill_parallel_options options = {
            .run = {.workers = 2, .context = &blocks, .report = &report},
            .schedule = TWILL_SCHEDULE_DYNAMIC};
        uint64_t sum = 7;

        CHECK_EQ(twill_parallel_reduce(4, &reducer, &sum, &options), TWILL_OK);
        CHECK(unordered || sum == 1);
        CHECK_EQ(atomic_load(&blocks.told), 0);
    }
}

TEST(costs_do_not_cut_an_ordered_reduce)
{
    twill_reducer reducer = {.size = 8, .fold = add_range, .combine = add_right};
    uint64_t sum = 77;

    CHECK_EQ(twill_parallel_reduce(3, &reducer, &sum,
                                   &(twill_parallel_options){.schedule = TWILL_SCHEDULE_COST}),
             TWILL_INVALID);
    reducer.size = 0;
    CHECK_EQ(twill_parallel_reduce(3, &reducer, &sum, NULL), TWILL_INVALID);
    CHECK_EQ(sum, 77);
}

/* ---- scan ---- */

static struct {
    size_t size;
    unsigned calls, fails_at, stops_at; /* the how-manieth combine */
    unsigned told;                      /* to give up, though all below a stop must be done */
} scans;

static int add_elements(void *left, void *right, const twill_task *task)
{
    unsigned char *l = (unsigned char *)left, *r = (unsigned char *)right;
    scans.told += twill_task_cancelled(task);
    for (size_t k = 0; k < scans.size; k++)
        l[k] = (unsigned char)(l[k] + r[k]);
    if (++scans.calls == scans.stops_at)
        (void)twill_task_stop(task);
    return scans.calls == scans.fails_at ? 9 : 0;
}

enum { SCANNED = 64, SCAN_WIDEST = 16 };
static unsigned char scan_in[SCANNED * SCAN_WIDEST], scan_out[SCANNED * SCAN_WIDEST];

/* STATIC: all blocks but the first are summed, and written by a second pass, whoever runs them. */
static twill_status scan_sums(size_t size, twill_report *report)
{
    twill_parallel_options options = {.run = {.workers = 1, .report = report},
                                      .schedule = TWILL_SCHEDULE_STATIC};
    scans.size = size;
    scans.calls = 0;
    for (size_t i = 0; i < SCANNED * size; i++)
        scan_in[i] = (unsigned char)(i * 7 + i / size);
    memset(scan_out, 0, sizeof scan_out);
    return twill_parallel_scan(scan_in, scan_out, size, SCANNED, NULL, add_elements, &options);
}

/* How many elements of the result are right, from the first on. */
static size_t right_sums(size_t size)
{
    unsigned char sum[SCAN_WIDEST] = {0};
    for (size_t i = 0; i < SCANNED; i++)
        for (size_t k = 0; k < size; k++) {
            sum[k] = (unsigned char)(sum[k] + scan_in[i * size + k]);
            if (scan_out[i * size + k] != sum[k])
                return i;
        }
    return SCANNED;
}

TEST(scans_of_every_size)
{
    static const size_t sizes[] = {1, 4, 8, 12, 16};
    scans.fails_at = scans.stops_at = 0;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        CHECK_EQ(scan_sums(sizes[s], NULL), TWILL_OK);
        CHECK_EQ(right_sums(sizes[s]), SCANNED);
    }
}

/* In the block that is written at once, in a sum, between the passes, in the second pass. */
TEST(each_combine_of_a_scan_fails_or_stops_it)
{
    unsigned calls;
    twill_report report;
    scans.fails_at = scans.stops_at = 0;
    CHECK_EQ(scan_sums(8, NULL), TWILL_OK);
    calls = scans.calls;
    for (unsigned k = 1; k <= calls; k++) {
        scans.fails_at = k;
        CHECK_EQ(scan_sums(8, &report), TWILL_FAILED);
        CHECK_EQ(report.first_error.code, 9);
        CHECK(report.first_error.index < SCANNED);
        CHECK_EQ(report.done + report.failed + report.skipped, SCANNED);
        scans.fails_at = 0;
        scans.stops_at = k;
        scans.told = 0;
        CHECK_EQ(scan_sums(8, &report), TWILL_OK);
        CHECK_EQ(scans.told, 0);
        CHECK(right_sums(8) >= report.done);
        CHECK_EQ(report.done + report.skipped, SCANNED);
        CHECK_EQ(report.done % 16, 0); /* it takes effect at the end of a block */
        scans.stops_at = 0;
    }
}

/* The pool becomes larger when the call has planned for two workers, and asks for memory. */
static twill_pool *grows;
static atomic_uint strangers;

static void *grows_instead(size_t size)
{
    if (size > 4096 && grows) {
        twill_pool *pool = grows;

        grows = NULL;
        CHECK_EQ(twill_pool_resize(pool, 7, 7), TWILL_OK);
    }
    return test_malloc(size);
}

static int adds_300(void *left, void *right, const twill_task *task)
{
    unsigned char *l = (unsigned char *)left, *r = (unsigned char *)right;

    if (task->worker > 1)
        atomic_fetch_add(&strangers, 1);
    kit_pause(TWILL_US(20));
    for (size_t k = 0; k < 300; k++)
        l[k] = (unsigned char)(l[k] + r[k]);
    return 0;
}

TEST(a_scan_on_a_pool_that_grows_uses_the_memory_that_it_has)
{
    enum { N = 200 };
    static unsigned char in[N * 300], out[N * 300];
    twill_pool *pool;
    twill_parallel_options options = {.run.workers = 8};

    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (unsigned char)(i * 7);
    test_allocates = grows_instead;
    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 1}), TWILL_OK);
    options.run.pool = grows = pool;
    CHECK_EQ(twill_parallel_scan(in, out, 300, N, NULL, adds_300, &options), TWILL_OK);
    CHECK(!grows);
    CHECK_EQ(atomic_load(&strangers), 0);
    for (size_t i = 300; i < sizeof in; i++)
        in[i] = (unsigned char)(in[i] + in[i - 300]);
    CHECK(memcmp(in, out, sizeof in) == 0);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    test_allocates = test_malloc;
    CHECK_EQ(faults_live(), 0);
}

/* One worker, too, hears of the token. */
static int fires_at_the_tenth(void *left, void *right, const twill_task *task)
{
    unsigned char *sum = left;

    *sum = (unsigned char)(*sum + *(unsigned char *)right);
    if (*sum == 10)
        twill_cancel_fire((twill_cancel *)task->context, 1);
    return 0;
}

TEST(a_scan_by_one_worker_ends_with_its_token)
{
    unsigned char items[200];
    twill_cancel token;
    twill_report report;
    twill_parallel_options options = {
        .run = {.workers = 1, .until.cancel = &token, .context = &token, .report = &report}};

    twill_cancel_init(&token, NULL);
    memset(items, 1, sizeof items);
    CHECK_EQ(twill_parallel_scan(items, items, 1, sizeof items, NULL, fires_at_the_tenth, &options),
             TWILL_CANCELLED);
    CHECK(report.done >= 10 && report.done < 100);
    CHECK_EQ(report.done + report.skipped, sizeof items);
}

typedef struct on_two_lines {
    _Alignas(128) uint32_t sum;
} on_two_lines;

static atomic_uint crooked_sums;

static int adds_on_lines(void *left, void *right, const twill_task *task)
{
    (void)task;
    if ((uintptr_t)left % 128 || (uintptr_t)right % 128)
        atomic_fetch_add(&crooked_sums, 1);
    ((on_two_lines *)left)->sum += ((on_two_lines *)right)->sum;
    return 0;
}

TEST(a_scan_combines_elements_as_aligned_as_they_are)
{
    static on_two_lines items[300];

    for (int i = 0; i < 300; i++)
        items[i].sum = 1;
    for (unsigned workers = 1; workers <= 2; workers++) {
        twill_parallel_options options = {.run.workers = workers,
                                          .schedule = TWILL_SCHEDULE_STATIC};
        CHECK_EQ(
            twill_parallel_scan(items, items, sizeof *items, 300, NULL, adds_on_lines, &options),
            TWILL_OK);
    }
    CHECK_EQ(items[299].sum, 300 * 301 / 2);
    CHECK_EQ(atomic_load(&crooked_sums), 0);
}

/* ---- sort ---- */

/* Items that must stand on a multiple of their size, wherever a comparison sees them. */
typedef struct on_line {
    _Alignas(64) uint32_t key;
} on_line;

static atomic_uint crooked;

static int by_key_on_line(const void *a, const void *b, const twill_task *task)
{
    (void)task;
    if ((uintptr_t)a % 64 || (uintptr_t)b % 64)
        atomic_fetch_add(&crooked, 1);
    return ((const on_line *)a)->key < ((const on_line *)b)->key ? -1 : 1;
}

TEST(a_comparison_sees_items_as_aligned_as_they_are)
{
    static const uint32_t counts[] = {13, 29, 61, 125, 253}; /* the last few, at any depth */
    static on_line items[253];

    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        for (uint32_t i = 0; i < counts[c]; i++)
            items[i].key = i * 7 % counts[c];
        CHECK_EQ(twill_parallel_sort(items, counts[c], sizeof *items, by_key_on_line, NULL),
                 TWILL_OK);
        for (uint32_t i = 0; i < counts[c]; i++)
            CHECK_EQ(items[i].key, i);
    }
    CHECK_EQ(atomic_load(&crooked), 0);
}

static int by_first_word(const void *a, const void *b, const twill_task *task)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    (void)task;
    return x < y ? -1 : x > y;
}

TEST(sorted_items_of_every_size)
{
    static const size_t sizes[] = {4, 8, 12, 16, 40};
    static const unsigned counts[] = {1, 6, 7, 13, 25, 50, 200, ITEMS};
    static uint32_t items[ITEMS * 10], kept[ITEMS * 10];
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            size_t words = sizes[s] / 4;
            for (uint32_t i = 0; i < counts[c] * words; i++)
                items[i] = i;
            memcpy(kept, items, counts[c] * sizes[s]);
            CHECK_EQ(twill_parallel_sort(items, counts[c], sizes[s], by_first_word,
                                         &(twill_parallel_options){.run.workers = 1}),
                     TWILL_OK);
            CHECK(memcmp(items, kept, counts[c] * sizes[s]) == 0);
        }
}

/* How many runs there are depends on how many could help. */
TEST(a_sort_for_many_workers)
{
    static uint32_t items[ITEMS];
    static const unsigned workers[] = {2, 9, 33};
    for (size_t k = 0; k < sizeof workers / sizeof *workers; k++) {
        for (uint32_t i = 0; i < ITEMS; i++)
            items[i] = i * 37 % ITEMS;
        CHECK_EQ(twill_parallel_sort(items, ITEMS, 4, by_first_word,
                                     &(twill_parallel_options){.run.workers = workers[k]}),
                 TWILL_OK);
        for (uint32_t i = 0; i < ITEMS; i++)
            if (items[i] != i) {
                CHECK_EQ(items[i], i);
                break;
            }
    }
}

/* ---- whatever the options ---- */

/* A loop whose items may fail, stop, skip or fire the token of the whole: no item runs twice, the
   report and the statuses add up and say the same, and a loop that nothing has ended gives its
   result. */
enum { ODD_MOST = 400, NEVER = ODD_MOST };
static struct odd {
    size_t n, fails_at, stops_at, skips_at, fires_at, slow_from;
    twill_cancel token;
    atomic_uchar ran[ODD_MOST];
    atomic_int live; /* accumulators */
} odd;

static size_t below(size_t limit)
{
    return (size_t)test_random_below(limit);
}

static size_t seldom(size_t n)
{
    return below(3) || !n ? NEVER : below(n);
}

static int odd_item(size_t i, const twill_task *task)
{
    CHECK_EQ(atomic_fetch_add(&odd.ran[i], 1), 0);
    if (i >= odd.slow_from) {
        twill_ns end = twill_now() + TWILL_US(15);
        while (twill_now() < end) {}
    }
    if (i == odd.fires_at)
        twill_cancel_fire(&odd.token, 1);
    if (i == odd.stops_at)
        return twill_task_stop(task);
    if (i == odd.skips_at)
        return twill_task_skip(task);
    return i == odd.fails_at ? 100 + (int)i : 0;
}

static int odd_for(const twill_task *task)
{
    return odd_item(task->index, task);
}

static int odd_map(const void *in, void *out, const twill_task *task)
{
    CHECK_EQ(*(const uint32_t *)in, task->index);
    *(uint32_t *)out = *(const uint32_t *)in * 2;
    return odd_item(task->index, task);
}

static int odd_range(size_t begin, size_t end, const twill_task *task)
{
    for (size_t i = begin; i < end; i++) {
        int code = odd_item(i, task);
        if (i == odd.stops_at || i == odd.skips_at) /* said of the range */
            return 0;
        if (code)
            return twill_task_fail(task, i, code);
    }
    return 0;
}

static uint64_t odd_cost(size_t index, const twill_task *task)
{
    (void)task;
    return index % 7;
}

static bool odd_test(const void *item, const twill_task *task)
{
    (void)odd_item(task->index, task);
    return *(const uint32_t *)item % 5 == 2;
}

static int odd_identity(void *acc, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&odd.live, 1);
    memset(acc, 0, 200);
    return 0;
}

static void odd_dispose(void *acc, const twill_task *task)
{
    (void)acc, (void)task;
    atomic_fetch_sub(&odd.live, 1);
}

static int odd_fold(void *acc, size_t begin, size_t end, const twill_task *task)
{
    for (size_t i = begin; i < end; i++) {
        int code = odd_item(i, task);
        *(uint64_t *)acc += i + 1;
        if (code)
            return code;
    }
    return 0;
}

static int odd_sum(void *left, void *right, const twill_task *task)
{
    (void)task;
    *(uint32_t *)left += *(uint32_t *)right;
    return 0;
}

static twill_parallel_options odd_options(void)
{
    twill_parallel_options o = {.run.workers = (unsigned)below(5), .chunk = below(2) * below(9)};
    size_t n = odd.n = below(8) ? below(60) : below(ODD_MOST);
    o.schedule = (twill_schedule)below(TWILL_SCHEDULE_COST + 1);
    o.cost_of = o.schedule == TWILL_SCHEDULE_COST ? odd_cost : NULL;
    o.run.on_error = (twill_on_error)below(TWILL_ON_ERROR_LIMIT + 1);
    o.run.max_errors = o.run.on_error == TWILL_ON_ERROR_LIMIT ? 1 + below(3) : 0;
    o.run.until.cancel = below(2) ? &odd.token : NULL;
    if (!below(8))
        o.run.until.deadline = twill_now() + TWILL_US((twill_ns)below(100));
    odd.fails_at = seldom(n);
    odd.stops_at = seldom(n);
    odd.skips_at = seldom(n);
    odd.fires_at = seldom(n);
    odd.slow_from = below(4) ? NEVER : below(n + 1);
    memset((void *)odd.ran, 0, sizeof odd.ran);
    atomic_store(&odd.live, 0);
    return o;
}

/* Nothing has ended it, and nothing was left out. */
static bool odd_is_whole(const twill_parallel_options *o)
{
    return odd.fails_at == NEVER && odd.stops_at == NEVER && odd.skips_at == NEVER &&
           (odd.fires_at == NEVER || !o->run.until.cancel) && !o->run.until.deadline;
}

static void check_odd(const twill_report *report, const twill_status *statuses)
{
    size_t counts[3] = {0, 0, 0};
    CHECK_EQ(report->total, odd.n);
    CHECK_EQ(report->total, report->done + report->failed + report->skipped);
    for (size_t i = 0; statuses && i < odd.n; i++)
        counts[statuses[i] == TWILL_OK ? 0 : statuses[i] == TWILL_FAILED ? 1 : 2]++;
    if (statuses) {
        CHECK_EQ(counts[0], report->done);
        CHECK_EQ(counts[1], report->failed);
        CHECK_EQ(counts[2], report->skipped);
    }
}

TEST(loops_add_up_whatever_the_options)
{
    static uint32_t in[ODD_MOST], out[ODD_MOST];
    static twill_status statuses[ODD_MOST];
    static int codes[ODD_MOST];
    for (uint32_t i = 0; i < ODD_MOST; i++)
        in[i] = i;
    for (int round = 0; round < 300; round++) {
        twill_parallel_options o = odd_options();
        twill_report report;
        twill_status status;
        bool asks = below(2);
        twill_cancel_init(&odd.token, NULL);
        o.run.report = &report;
        o.run.statuses = asks ? statuses : NULL;
        o.run.codes = asks && below(2) ? codes : NULL;
        if (round % 3 == 0)
            status = twill_parallel_for(odd.n, odd_for, &o);
        else if (round % 3 == 1)
            status = twill_parallel_map(in, 4, out, 4, odd.n, odd_map, &o);
        else
            status = twill_parallel_range(odd.n, odd_range, &o);
        CHECK_EQ(status, report.status);
        check_odd(&report, o.run.statuses);
        if (odd_is_whole(&o)) {
            CHECK_EQ(status, TWILL_OK);
            CHECK_EQ(report.done, odd.n);
        }
        if (report.first_error.status) /* none where the serial loop stops before it */
            CHECK_EQ(report.first_error.index, odd.fails_at);
        for (size_t i = 0; o.run.codes && i < odd.n; i++)
            CHECK_EQ(codes[i], statuses[i] == TWILL_FAILED ? 100 + (int)i : 0);
        for (size_t i = 0; round % 3 == 1 && i < odd.n && status == TWILL_OK; i++)
            if (asks && statuses[i] == TWILL_OK)
                CHECK_EQ(out[i], 2 * i);
        twill_cancel_detach(&odd.token);
        CHECK_EQ(faults_live(), 0);
    }
}

static int odd_order(const void *a, const void *b, const twill_task *task)
{
    uint32_t x = *(const uint32_t *)a / 4, y = *(const uint32_t *)b / 4;
    (void)task;
    if (odd.fires_at != NEVER && x == odd.fires_at)
        twill_cancel_fire(&odd.token, 1);
    return x < y ? -1 : x > y;
}

TEST(algorithms_give_their_result_or_say_why_not)
{
    static uint32_t in[ODD_MOST], out[ODD_MOST];
    for (int round = 0; round < 300; round++) {
        twill_parallel_options o = odd_options();
        twill_status status;
        bool whole;
        size_t got = 77;
        uint64_t sum[25] = {77};
        twill_cancel_init(&odd.token, NULL);
        if (round % 5 && o.schedule == TWILL_SCHEDULE_COST) {
            o.schedule = TWILL_SCHEDULE_AUTO;
            o.cost_of = NULL;
        }
        whole = odd_is_whole(&o);
        for (uint32_t i = 0; i < ODD_MOST; i++)
            in[i] = i;
        if (round % 5 == 0) {
            status = twill_parallel_find(in, 4, odd.n, &got, odd_test, &o);
            if (status == TWILL_OK && whole)
                CHECK_EQ(got, odd.n > 2 ? 2 : odd.n);
            CHECK(got == odd.n || got % 5 == 2);
        } else if (round % 5 == 1) {
            status = twill_parallel_filter(in, 4, odd.n, below(2) ? in : NULL, &got, odd_test, &o);
            if (status == TWILL_OK && whole)
                CHECK_EQ(got, (odd.n + 2) / 5);
            if (status != TWILL_OK)
                CHECK_EQ(got, 0);
        } else if (round % 5 == 2) {
            twill_reducer reducer = {.size = below(2) ? 200 : 8,
                                     .fold = odd_fold,
                                     .combine = add_right,
                                     .unordered = below(2),
                                     .blocks = below(2) * below(20)};
            if (reducer.size == 200) {
                reducer.identity = odd_identity;
                reducer.dispose = odd_dispose;
            }
            o.schedule = TWILL_SCHEDULE_AUTO;
            o.cost_of = NULL;
            status = twill_parallel_reduce(odd.n, &reducer, sum, &o);
            if (status == TWILL_OK && whole)
                CHECK_EQ(sum[0], (uint64_t)odd.n * (odd.n + 1) / 2);
            if (status != TWILL_OK)
                CHECK_EQ(sum[0], 77);
            if (reducer.dispose)
                CHECK_EQ(atomic_load(&odd.live), status == TWILL_OK);
        } else if (round % 5 == 3) {
            uint32_t start = 5;
            status = twill_parallel_scan(in, out, 4, odd.n, below(2) ? &start : NULL, odd_sum, &o);
            if (status == TWILL_OK && odd.n > 1)
                CHECK(out[odd.n - 1] == odd.n * (odd.n - 1) / 2 ||
                      out[odd.n - 1] == 5 + (odd.n - 1) * (odd.n - 2) / 2);
        } else {
            o.chunk = 0;
            o.schedule = TWILL_SCHEDULE_AUTO;
            o.cost_of = NULL;
            for (size_t i = 0; i < odd.n; i++)
                in[i] = (uint32_t)((i * 37) % (odd.n ? odd.n : 1));
            status = twill_parallel_sort(in, odd.n, 4, odd_order, &o);
            for (size_t i = 1; i < odd.n && status == TWILL_OK; i++)
                CHECK(in[i - 1] / 4 <= in[i] / 4);
        }
        if (whole)
            CHECK(status == TWILL_OK || status == TWILL_INVALID);
        twill_cancel_detach(&odd.token);
        CHECK_EQ(faults_live(), 0);
    }
}

/* ---- calls with one wish ---- */

static int fails_at_3(const twill_task *task)
{
    atomic_fetch_add((atomic_uint *)task->context, 1);
    return task->index == 3 ? 9 : 0;
}

static void never_called(void *state, const twill_task *task)
{
    (void)state, (void)task;
    CHECK(false);
}

TEST(a_wish_alone_is_granted)
{
    atomic_uint ran = 0;
    twill_parallel_options options = {.run.context = &ran};
    twill_status statuses[8];
    int codes[8];

    options.run.until.deadline = 1; /* long ago */
    CHECK_EQ(twill_parallel_for(8, fails_at_3, &options), TWILL_TIMEOUT);
    CHECK_EQ(atomic_load(&ran), 0);
    options.run.codes = codes;
    codes[3] = 5;
    CHECK_EQ(twill_parallel_for(8, fails_at_3, &options), TWILL_TIMEOUT);
    CHECK_EQ(codes[3], 0);
    options = (twill_parallel_options){.run = {.context = &ran, .worker_stop = never_called}};
    CHECK_EQ(twill_parallel_for(3, fails_at_3, &options), TWILL_OK);
    CHECK_EQ(atomic_exchange(&ran, 0), 3);
    options = (twill_parallel_options){.run = {.context = &ran, .on_error = TWILL_ON_ERROR_FIRST}};
    CHECK_EQ(twill_parallel_for(8, fails_at_3, &options), TWILL_FAILED);
    CHECK(atomic_exchange(&ran, 0) >= 1);
    options =
        (twill_parallel_options){.run = {.context = &ran, .on_error = TWILL_ON_ERROR_COLLECT}};
    CHECK_EQ(twill_parallel_for(8, fails_at_3, &options), TWILL_FAILED);
    CHECK_EQ(atomic_exchange(&ran, 0), 8);
    options = (twill_parallel_options){.run = {.context = &ran, .statuses = statuses}};
    CHECK_EQ(twill_parallel_for(3, fails_at_3, &options), TWILL_OK);
    CHECK(statuses[0] == TWILL_OK && statuses[1] == TWILL_OK && statuses[2] == TWILL_OK);
}

static int naps(const twill_task *task)
{
    twill_ns soon = twill_now() + TWILL_US(100);

    CHECK_EQ(twill_sleep((twill_until){soon, task->until.cancel}), TWILL_OK);
    return 0;
}

/* Whose token was waited on is let go before the call returns. */
TEST(items_of_a_plain_loop_may_wait_on_their_token)
{
    CHECK_EQ(twill_parallel_for(3, naps, NULL), TWILL_OK);
}

TEST(a_lazy_pool_without_threads_leaves_all_to_the_caller)
{
    twill_pool *pool;
    twill_report report;
    atomic_uint ran = 0;
    twill_parallel_options options = {.run.context = &ran};

    CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2, .lazy = true}),
             TWILL_OK);
    options.run.pool = pool;
    CHECK_EQ(twill_parallel_for(3, fails_at_3, &options), TWILL_OK);
    options.run.report = &report;
    CHECK_EQ(twill_parallel_for(3, fails_at_3, &options), TWILL_OK);
    CHECK_EQ(atomic_load(&ran), 6);
    CHECK_EQ(report.workers_started, 1);
    CHECK_EQ(report.flags, TWILL_REPORT_SERIAL);
    CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
}

/* More workers than there may be, and neither memory nor threads for those: the caller does it. */
TEST(seventy_thousand_workers_may_be_one)
{
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 70000, .report = &report}};

    faults_fail_alloc_from(1);
    faults_fail_thread(1);
    CHECK_EQ(twill_parallel_for(70000, nothing, &options), TWILL_OK);
    faults_fail_thread(0);
    faults_fail_alloc(0);
    CHECK_EQ(report.done, 70000);
    CHECK(report.flags & TWILL_REPORT_DEGRADED);
    CHECK(report.workers_started <= 64);
}

typedef struct pieces {
    size_t next, longest, slow_from, slow_size;
} pieces;

static int one_piece(size_t begin, size_t end, const twill_task *task)
{
    pieces *p = task->context;

    CHECK_EQ(begin, p->next);
    p->next = end;
    if (end - begin > p->longest)
        p->longest = end - begin;
    for (twill_ns until = twill_now() + TWILL_US(300);
         end > p->slow_from && end - begin >= p->slow_size && twill_now() < until;)
        continue;
    return 0;
}

/* A range that may end by time comes in pieces: longer ones while they are quick, shorter ones, and
   at last single items, while they are not. */
TEST(pieces_of_a_range_that_may_time_out_follow_their_cost)
{
    pieces quick = {.slow_from = 10000}, slow = {.slow_from = 0}, both = {.slow_size = 4};
    twill_parallel_options options = {
        .run = {.workers = 1, .until = twill_within(TWILL_SEC(100)), .context = &quick}};

    CHECK_EQ(twill_parallel_range(10000, one_piece, &options), TWILL_OK);
    CHECK_EQ(quick.next, 10000);
    options.run.context = &slow;
    CHECK_EQ(twill_parallel_range(10, one_piece, &options), TWILL_OK);
    CHECK_EQ(slow.next, 10);
    CHECK_EQ(slow.longest, 1);
    options.run.context = &both;
    CHECK_EQ(twill_parallel_range(100, one_piece, &options), TWILL_OK);
    CHECK_EQ(both.next, 100);
    CHECK(both.longest <= 4);
}

static int no_crumbs(size_t begin, size_t end, const twill_task *task)
{
    for (twill_ns until = twill_now() + TWILL_US(30); begin >= 500 && twill_now() < until;)
        continue;
    CHECK(end - begin >= *(const size_t *)task->context);
    return 0;
}

/* ... but never less than was asked for. */
TEST(pieces_of_a_range_that_may_time_out_are_no_smaller_than_a_chunk)
{
    size_t least = 100;
    twill_parallel_options options = {
        .run = {.workers = 1, .until = twill_within(TWILL_SEC(100)), .context = &least},
        .chunk = least};

    CHECK_EQ(twill_parallel_range(100 + 200 + 400 + 800, no_crumbs, &options), TWILL_OK);
    options.schedule = TWILL_SCHEDULE_GUIDED;
    least = options.chunk = 500;
    CHECK_EQ(twill_parallel_range(1500, no_crumbs, &options), TWILL_OK);
}

typedef struct depths {
    unsigned here, serial_at;
} depths;

static int one_deeper(const twill_task *task)
{
    depths *all = task->context;
    twill_report report;
    twill_parallel_options options = {.run = {.context = all, .report = &report}};

    if (task->index || all->here == 20)
        return 0;
    all->here++;
    CHECK_EQ(twill_parallel_for(2, one_deeper, &options), TWILL_OK);
    CHECK(report.flags & TWILL_REPORT_NESTED);
    CHECK_EQ(report.done, 2);
    if (report.flags & TWILL_REPORT_SERIAL)
        all->serial_at++;
    return 0;
}

/* A team helps 16 calls at once; those further below are their callers' alone. */
TEST(calls_below_more_calls_than_a_team_can_help)
{
    depths all = {0};

    CHECK_EQ(twill_parallel_for(2, one_deeper,
                                &(twill_parallel_options){.run = {.workers = 2, .context = &all}}),
             TWILL_OK);
    CHECK_EQ(all.here, 20);
    CHECK(all.serial_at >= 5);
}

/* Item 1 says stop while item 2 is run, whose worker is told to give up. */
typedef struct stops_told {
    atomic_uint begun[4], told;
    unsigned stops;
} stops_told;

static int gives_up_behind_a_stop(const twill_task *task)
{
    stops_told *all = task->context;
    twill_ns limit = twill_now() + TWILL_SEC(100);

    atomic_store(&all->begun[task->index], 1);
    if (task->index < 2)
        CHECK(kit_wait_for(&all->begun[task->index + 1], 1));
    if (task->index == 1)
        return twill_task_stop(task);
    while (task->index == 2 && !twill_task_cancelled(task) && CHECK(twill_now() < limit))
        kit_pause(TWILL_US(20));
    return 0;
}

static int starts_gladly(void **state, const twill_task *task)
{
    *state = task->context;
    return 0;
}

static void stops_with_a_call(void *state, const twill_task *task)
{
    stops_told *all = state;
    twill_parallel_options options = {.run.until = task->until};

    all->stops++;
    atomic_fetch_add(&all->told, twill_task_cancelled(task));
    CHECK_EQ(twill_parallel_for(10, nothing, &options), TWILL_OK);
}

TEST(a_worker_is_stopped_in_peace)
{
    stops_told all = {.stops = 0};
    twill_parallel_options options = {.run = {.workers = 2,
                                              .context = &all,
                                              .worker_start = starts_gladly,
                                              .worker_stop = stops_with_a_call},
                                      .schedule = TWILL_SCHEDULE_DYNAMIC};

    CHECK_EQ(twill_parallel_for(4, gives_up_behind_a_stop, &options), TWILL_OK);
    CHECK_EQ(all.stops, 2);
    CHECK_EQ(atomic_load(&all.told), 0);
}

static int fails_third(const twill_task *task)
{
    return task->index == 2;
}

TEST(a_worker_is_stopped_in_peace_after_a_failure)
{
    for (unsigned workers = 1; workers <= 2; workers++) {
        stops_told all = {.stops = 0};
        twill_report report;
        twill_parallel_options options = {.run = {.workers = workers,
                                                  .context = &all,
                                                  .on_error = TWILL_ON_ERROR_FIRST,
                                                  .worker_start = starts_gladly,
                                                  .worker_stop = stops_with_a_call,
                                                  .report = &report}};

        CHECK_EQ(twill_parallel_for(20, fails_third, &options), TWILL_FAILED);
        CHECK_EQ(report.first_error.index, 2);
        CHECK(all.stops);
        CHECK_EQ(atomic_load(&all.told), 0);
    }
}

typedef struct seats {
    twill_pool *pool;
    unsigned depth, ran;
} seats;

static int one_seat_more(const twill_task *task)
{
    seats *all = task->context;
    twill_report report;
    twill_parallel_options options = {
        .run = {.pool = all->pool, .context = all, .report = &report}};

    all->ran++;
    if (task->index || all->ran > 1000)
        return 0;
    if (++all->depth < 17)
        return twill_parallel_for(1, one_seat_more, &options) != TWILL_OK;
    all->ran = 1000; /* no further down */
    options.run.workers = 2;
    CHECK_EQ(twill_parallel_for(2, one_seat_more, &options), TWILL_OK);
    CHECK(report.flags & TWILL_REPORT_DEGRADED);
    options.run.strict = true;
    all->ran = 2000;
    CHECK_EQ(twill_parallel_for(2, one_seat_more, &options), TWILL_NO_THREAD);
    CHECK_EQ(report.skipped, 2);
    CHECK_EQ(all->ran, 2000);
    return 0;
}

/* Two workers are asked for, and the pool is full of calls. */
TEST(who_finds_no_seat_has_fewer_workers_than_asked)
{
    seats all = {.depth = 0};
    twill_parallel_options options = {.run.context = &all};

    CHECK_EQ(twill_pool_create(&all.pool, &(twill_pool_options){.run.workers = 2}), TWILL_OK);
    options.run.pool = all.pool;
    CHECK_EQ(twill_parallel_for(1, one_seat_more, &options), TWILL_OK);
    CHECK_EQ(all.depth, 17);
    CHECK_EQ(twill_pool_destroy(all.pool), TWILL_OK);
}

/* One fails, which ends the call; only then the one below says that nothing above it counts. */
static int stops_too_late(const twill_task *task)
{
    atomic_bool *begun = task->context;
    twill_ns end = twill_now() + TWILL_SEC(100);

    if (task->index) {
        while (!atomic_load(begun) && twill_now() < end)
            twill_sleep(twill_within(TWILL_US(20)));
        return 8;
    }
    atomic_store(begun, true);
    while (!twill_task_cancelled(task) && twill_now() < end)
        twill_sleep(twill_within(TWILL_US(20)));
    return twill_task_stop(task);
}

TEST(a_stop_after_the_last_failure_that_was_allowed_hides_it_not)
{
    atomic_bool begun = false;
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 2,
                                              .on_error = TWILL_ON_ERROR_LIMIT,
                                              .report = &report,
                                              .context = &begun},
                                      .schedule = TWILL_SCHEDULE_DYNAMIC,
                                      .chunk = 1};

    CHECK_EQ(twill_parallel_for(2, stops_too_late, &options), TWILL_FAILED);
    CHECK_EQ(report.first_error.index, 1);
    CHECK_EQ(report.first_error.code, 8);
    CHECK_EQ(report.done, 1);
    CHECK_EQ(report.failed, 1);
}

/* ---- more items than 32 bits hold ---- */

#if SIZE_MAX > 0xffffffffu
typedef struct vast {
    twill_cancel token;
    atomic_uint ran;
} vast;

static int fires_soon(size_t begin, size_t end, const twill_task *task)
{
    vast *v = task->context;

    CHECK(begin < end);
    if (atomic_fetch_add(&v->ran, 1) == 20)
        twill_cancel_fire(&v->token, 1);
    return 0;
}

/* Ranges of a vast loop come in pieces: a token or a deadline need not wait for a chunk. */
TEST(a_vast_range_ends_within_its_first_chunks)
{
    vast v = {.ran = 0};
    twill_parallel_options options = {
        .run = {.workers = 2, .context = &v, .until.cancel = &v.token}};

    twill_cancel_init(&v.token, NULL);
    CHECK_EQ(twill_parallel_range(SIZE_MAX / 2, fires_soon, &options), TWILL_CANCELLED);
    CHECK(atomic_load(&v.ran) > 20);
    twill_cancel_detach(&v.token);
}

static int ends_its_thread(const twill_task *task)
{
    if (task->index == 0)
        END_THREAD();
    return 0;
}

static void *loops_till_its_end(void *schedule)
{
    twill_parallel_options options = {
        .run.workers = 2, .schedule = *(const twill_schedule *)schedule, .chunk = 10};

    /* comes back, if a helper met the item */
    CHECK_EQ(twill_parallel_for((size_t)1 << 33, ends_its_thread, &options), TWILL_FAILED);
    return NULL;
}

TEST(a_thread_may_end_in_a_vast_loop)
{
    twill_schedule schedules[] = {TWILL_SCHEDULE_AUTO, TWILL_SCHEDULE_DYNAMIC};
    pthread_t thread;

    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_create(&thread, NULL, loops_till_its_end, &schedules[i]), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
}
#endif

/* ---- memory that there is not ---- */

static int no_compare(const void *a, const void *b, const twill_task *task)
{
    (void)a, (void)b, (void)task;
    CHECK(false);
    return 0;
}

static int no_combine(void *left, void *right, const twill_task *task)
{
    (void)left, (void)right, (void)task;
    CHECK(false);
    return 0;
}

TEST(accumulators_and_items_as_large_as_all_memory)
{
    char here[8] = {0};
    twill_reducer reducer = {.size = SIZE_MAX / 2, .fold = add_range, .combine = add_right};
    for (int unordered = 0; unordered < 2; unordered++) {
        reducer.unordered = unordered;
        CHECK_EQ(twill_parallel_reduce(100, &reducer, here, NULL), TWILL_NO_MEMORY);
        reducer.size = SIZE_MAX - 4;
        CHECK_EQ(twill_parallel_reduce(100, &reducer, here, NULL), TWILL_NO_MEMORY);
    }
    CHECK_EQ(twill_parallel_scan(here, here, SIZE_MAX / 3, 3, NULL, no_combine, NULL),
             TWILL_NO_MEMORY);
    CHECK_EQ(twill_parallel_sort(here, 3, SIZE_MAX / 3, no_compare, NULL), TWILL_NO_MEMORY);
    CHECK_EQ(twill_parallel_sort(here, 3, 1, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_parallel_sort(here, 3, 1, no_compare, &(twill_parallel_options){.chunk = 1}),
             TWILL_INVALID);
    CHECK_EQ(
        twill_parallel_sort(here, 3, 1, no_compare, &(twill_parallel_options){.cost_of = odd_cost}),
        TWILL_INVALID);
    CHECK_EQ(faults_live(), 0);
}

HARNESS_MAIN

/* Two libraries, each built with a header of its own, behave as one in a program: one state of the
   thread, one of the process, nested calls that find the pool around them, wakes that find the
   sleeper. */
#include "../harness.h"
#include "linking.h"

#include <pthread.h>

TEST(one_state_a_thread_and_a_process)
{
    CHECK_PTR(map_thread(), pool_thread());
    CHECK_PTR(map_process(), pool_process());
}

struct seen {
    const void *map_thread, *pool_thread;
};

static void *look(void *arg)
{
    struct seen *seen = arg;

    seen->map_thread = map_thread();
    seen->pool_thread = pool_thread();
    return NULL;
}

TEST(another_thread_has_another_state)
{
    struct seen seen = {NULL, NULL};
    pthread_t thread;

    if (!CHECK_EQ(pthread_create(&thread, NULL, look, &seen), 0))
        return;
    pthread_join(thread, NULL);
    CHECK_PTR(seen.map_thread, seen.pool_thread);
    CHECK(seen.map_thread != map_thread());
}

/* ---- nesting ---- */

enum { INNER = 64 };

struct nested {
    twill_report report;
    twill_status status;
    atomic_size_t items;
};

static int count_items(size_t begin, size_t end, const twill_task *task)
{
    struct nested *nested = task->context;

    atomic_fetch_add(&nested->items, end - begin);
    return 0;
}

/* A map of one library, called from a task or callback of the other's pool; nobody tells it of the
   pool. */
static void call_inside(struct nested *nested)
{
    twill_parallel_options options = {.run.report = &nested->report, .run.context = nested};

    nested->status = map_range(INNER, count_items, &options);
}

static void check_nested(struct nested *nested)
{
    CHECK_EQ(nested->status, TWILL_OK);
    CHECK_EQ(nested->report.done, INNER);
    CHECK_EQ(atomic_load(&nested->items), INNER);
    CHECK((nested->report.flags & TWILL_REPORT_NESTED) != 0);
}

#ifdef POOL_SUBMITS
static int task_calls_map(void *arg, void *result, const twill_task *task)
{
    (void)result, (void)task;
    call_inside(arg);
    return 0;
}

TEST(a_map_inside_a_task_of_the_other_librarys_pool_is_nested)
{
    struct nested nested = {.status = TWILL_LOST};
    twill_pool *pool = NULL;

    if (!CHECK_EQ(pool_create(&pool, 3), TWILL_OK))
        return;
    CHECK_EQ(pool_run(pool, task_calls_map, &nested), TWILL_OK);
    check_nested(&nested);
    CHECK_EQ(pool_destroy(pool), TWILL_OK);
}
#endif

static int range_calls_map(size_t begin, size_t end, const twill_task *task)
{
    struct nested *nested = task->context;

    for (size_t i = begin; i < end; i++)
        call_inside(&nested[i]);
    return 0;
}

TEST(a_map_inside_a_map_on_the_other_librarys_pool_is_nested)
{
    struct nested nested[8] = {{.status = TWILL_OK}};
    twill_parallel_options options = {.run.context = nested};
    twill_pool *pool = NULL;

    if (!CHECK_EQ(pool_create(&pool, 3), TWILL_OK))
        return;
    options.run.pool = pool;
    CHECK_EQ(map_range(8, range_calls_map, &options), TWILL_OK);
    for (int i = 0; i < 8; i++)
        check_nested(&nested[i]);
    CHECK_EQ(pool_destroy(pool), TWILL_OK);
}

/* ---- waking ---- */

struct sleeper {
    twill_cancel cancel;
    twill_status (*wait)(twill_ns ns, twill_cancel *cancel);
    twill_status status;
};

static void *sleep_on(void *arg)
{
    struct sleeper *sleeper = arg;

    sleeper->status = sleeper->wait(TWILL_SEC(20), &sleeper->cancel);
    return NULL;
}

/* One library parks a thread, the other one fires its token: a lost wake would be a TIMEOUT. This
   file calls no twill function itself, as the libraries may hide them. */
static void check_wake(twill_status (*wait)(twill_ns, twill_cancel *),
                       void (*fire)(twill_cancel *, int))
{
    for (int i = 0; i < 20; i++) {
        struct sleeper sleeper = {.wait = wait, .status = TWILL_LOST};
        pthread_t thread;

        if (!CHECK_EQ(pthread_create(&thread, NULL, sleep_on, &sleeper), 0))
            return;
        if (i % 2)
            map_wait(TWILL_MS(5), NULL); /* it is parked by now; else perhaps not yet */
        fire(&sleeper.cancel, 7);
        pthread_join(thread, NULL);
        CHECK_EQ(sleeper.status, TWILL_CANCELLED);
    }
}

TEST(a_sleeper_of_one_library_is_woken_through_the_other)
{
    check_wake(map_wait, pool_fire);
    check_wake(pool_wait, map_fire);
}

HARNESS_MAIN

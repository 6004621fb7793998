/* twill_pool: BLOCK, or CALLER_RUNS with a third argument "caller". */
#include "bench_tasks.h"

#define TWILL_IMPLEMENTATION
#include "twill_worker_pool.h"

typedef struct errand {
    bench_task *task;
    void *arg;
    long number;
} errand;

static twill_pool *pool;
static twill_overflow overflow;

static int run_leaf(void *mark, void *result, const twill_task *task)
{
    (void)result, (void)task;
    bench_leaf(mark, 0);
    return 0;
}

static int run_errand(void *errand_, void *result, const twill_task *task)
{
    errand *e = errand_;
    (void)result, (void)task;
    e->task(e->arg, e->number);
    free(e);
    return 0;
}

static void tasks_open(unsigned workers)
{
    if (twill_pool_create(&pool, &(twill_pool_options){.run.workers = workers,
                                                       .overflow = overflow}) != TWILL_OK)
        exit(4);
}

static void tasks_submit(bench_task *task, void *arg, long number)
{
    twill_status status;
    if (task == bench_leaf) {
        status = twill_pool_submit(pool, run_leaf, arg, NULL, NULL);
    } else {
        errand *e = malloc(sizeof *e);
        if (!e)
            exit(4);
        *e = (errand){task, arg, number};
        status = twill_pool_submit(pool, run_errand, e, NULL, NULL);
    }
    if (status != TWILL_OK)
        bench_wrong("submit", (size_t)status);
}

static void tasks_wait(void)
{
    if (twill_pool_wait_idle(pool) != TWILL_OK)
        bench_wrong("wait", 0);
}

static void tasks_futures(bench_task *task, char *marks, long n)
{
    static twill_future futures[1000];
    (void)task;
    for (long i = 0; i < n; i += 1000) {
        long m = n - i < 1000 ? n - i : 1000;
        for (long k = 0; k < m; k++)
            if (twill_pool_submit(pool, run_leaf, marks + i + k, &futures[k], NULL) != TWILL_OK)
                bench_wrong("submit", (size_t)k);
        for (long k = 0; k < m; k++) {
            if (twill_future_wait(futures[k], NULL, NULL) != TWILL_OK)
                bench_wrong("wait", (size_t)k);
            twill_future_release(futures[k]);
        }
    }
}

static void tasks_trip(bench_task *task, char *mark)
{
    tasks_futures(task, mark, 1);
}

int main(int argc, char **argv)
{
    if (argc > 3 && strcmp(argv[3], "caller") == 0)
        overflow = TWILL_OVERFLOW_CALLER_RUNS;
    return bench_tasks_main(argc, argv);
}

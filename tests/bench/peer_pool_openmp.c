/* OpenMP: `omp task` from one thread, which then helps (libgomp, libomp). Past a number of tasks of
 * its own the runtime runs them at once, on the thread that creates them.
 * usage: peer_pool_openmp outside n */
#include "bench_tasks.h"

static void tasks_open(unsigned workers)
{
    (void)workers; /* OMP_NUM_THREADS */
}

static void tasks_submit(bench_task *task, void *arg, long number)
{
#pragma omp task firstprivate(task, arg, number)
    task(arg, number);
}

static void tasks_wait(void)
{
#pragma omp taskwait
}

static void tasks_futures(bench_task *task, char *marks, long n)
{
    (void)task, (void)marks, (void)n;
    exit(4); /* it has none */
}

static void tasks_trip(bench_task *task, char *mark)
{
    tasks_submit(task, mark, 0);
    tasks_wait();
}

int main(int argc, char **argv)
{
    int status = 0;
#pragma omp parallel
#pragma omp single
#pragma omp taskgroup
    status = bench_tasks_main(argc, argv);
    return status;
}

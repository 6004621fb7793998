/* The least that could be done by hand: 8 threads in one condition variable, a flag, a
   broadcast. */
#include "bench.h"

#include <pthread.h>
#include <stdbool.h>

enum { THREADS = 8, ROUNDS = 21 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static bool stop;
static int blocked;

static void *run(void *arg)
{
    pthread_mutex_lock(&mutex);
    blocked++;
    while (!stop)
        pthread_cond_wait(&condition, &mutex);
    pthread_mutex_unlock(&mutex);
    return arg;
}

static int64_t one_round(void)
{
    pthread_t threads[THREADS];
    int64_t begun;
    bool all = false;
    blocked = 0;
    stop = false;
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, run, NULL) != 0)
            exit(4);
    while (!all) {
        nanosleep(&(struct timespec){0, 2000000}, NULL);
        pthread_mutex_lock(&mutex);
        all = blocked == THREADS;
        pthread_mutex_unlock(&mutex);
    }
    begun = bench_now();
    pthread_mutex_lock(&mutex);
    stop = true;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return bench_now() - begun;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

int main(void)
{
    int64_t took[ROUNDS];
    for (int i = 0; i < ROUNDS; i++)
        took[i] = one_round();
    qsort(took, ROUNDS, sizeof took[0], compare);
    bench_report("out", (double)took[ROUNDS / 2]);
    return 0;
}

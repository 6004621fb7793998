/* The pool that most tutorials build: a list of allocated jobs, one mutex, one condition for work,
 * one for "all over"; for futures a flag in the job and a condition for all. No bound. */
#include "bench_tasks.h"

#include <pthread.h>

typedef struct job {
    struct job *next;
    bench_task *task;
    void *arg;
    long number;
    int asked, over;
} job;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t has = PTHREAD_COND_INITIALIZER, none = PTHREAD_COND_INITIALIZER,
                      ended = PTHREAD_COND_INITIALIZER;
static job *head, *tail;
static long pending;

static void *run(void *arg)
{
    pthread_mutex_lock(&mutex);
    for (;;) {
        while (!head)
            pthread_cond_wait(&has, &mutex);
        job *j = head;
        head = j->next;
        if (!head)
            tail = NULL;
        pthread_mutex_unlock(&mutex);
        j->task(j->arg, j->number);
        pthread_mutex_lock(&mutex);
        j->over = 1;
        if (j->asked)
            pthread_cond_broadcast(&ended);
        else
            free(j);
        if (--pending == 0)
            pthread_cond_broadcast(&none);
    }
    return arg;
}

static void tasks_open(unsigned workers)
{
    pthread_t thread;
    for (unsigned k = 0; k < workers; k++)
        if (pthread_create(&thread, NULL, run, NULL) != 0 || pthread_detach(thread) != 0)
            exit(4);
}

static job *send(bench_task *task, void *arg, long number, int asked)
{
    job *j = malloc(sizeof *j);
    if (!j)
        exit(4);
    *j = (job){NULL, task, arg, number, asked, 0};
    pthread_mutex_lock(&mutex);
    if (tail)
        tail->next = j;
    else
        head = j;
    tail = j;
    pending++;
    pthread_cond_signal(&has);
    pthread_mutex_unlock(&mutex);
    return j;
}

static void tasks_submit(bench_task *task, void *arg, long number)
{
    (void)send(task, arg, number, 0);
}

static void tasks_wait(void)
{
    pthread_mutex_lock(&mutex);
    while (pending)
        pthread_cond_wait(&none, &mutex);
    pthread_mutex_unlock(&mutex);
}

static void tasks_futures(bench_task *task, char *marks, long n)
{
    static job *jobs[1000];
    for (long i = 0; i < n; i += 1000) {
        long m = n - i < 1000 ? n - i : 1000;
        for (long k = 0; k < m; k++)
            jobs[k] = send(task, marks + i + k, 0, 1);
        for (long k = 0; k < m; k++) {
            pthread_mutex_lock(&mutex);
            while (!jobs[k]->over)
                pthread_cond_wait(&ended, &mutex);
            pthread_mutex_unlock(&mutex);
            free(jobs[k]);
        }
    }
}

static void tasks_trip(bench_task *task, char *mark)
{
    tasks_futures(task, mark, 1);
}

int main(int argc, char **argv)
{
    return bench_tasks_main(argc, argv);
}

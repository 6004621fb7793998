/* The textbook: a detached thread a call, a mutex and a condition variable, two owners of the
 * result. */
#include "bench_timeout.h"

#include <pthread.h>

struct job {
    pthread_mutex_t mutex;
    pthread_cond_t done;
    int64_t in, out;
    int finished, owners;
};

static void leave(struct job *job) /* with the mutex locked */
{
    int last = --job->owners == 0;
    pthread_mutex_unlock(&job->mutex);
    if (last) {
        pthread_cond_destroy(&job->done);
        pthread_mutex_destroy(&job->mutex);
        free(job);
    }
}

static void *run(void *job_)
{
    struct job *job = job_;
    int64_t out = bench_task(job->in);
    pthread_mutex_lock(&job->mutex);
    job->out = out;
    job->finished = 1;
    pthread_cond_signal(&job->done);
    leave(job);
    return NULL;
}

static int timeout_call(int64_t in, int64_t *out, int64_t deadline_ns)
{
    struct job *job = bench_memory(sizeof *job);
    int64_t at = bench_now() + deadline_ns;
    struct timespec deadline = {(time_t)(at / 1000000000), (long)(at % 1000000000)};
    pthread_condattr_t monotonic;
    pthread_attr_t detached;
    pthread_t thread;
    int in_time, failed;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&job->mutex, NULL);
    pthread_cond_init(&job->done, &monotonic);
    job->in = in;
    job->owners = 2;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    failed = pthread_create(&thread, &detached, run, job);
    pthread_attr_destroy(&detached);
    pthread_condattr_destroy(&monotonic);
    if (failed)
        exit(4);
    pthread_mutex_lock(&job->mutex);
    while (!job->finished && pthread_cond_timedwait(&job->done, &job->mutex, &deadline) == 0)
        continue;
    in_time = job->finished;
    if (in_time)
        *out = job->out;
    leave(job);
    return in_time;
}

int main(int argc, char **argv)
{
    return bench_timeout_main(argc, argv);
}

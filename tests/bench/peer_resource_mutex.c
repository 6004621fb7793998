/* The pool of the textbook: a stack, a mutex, a condition variable. */
#include "bench_resource.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t freed = PTHREAD_COND_INITIALIZER;
static bench_resource *stack[BENCH_MOST];
static size_t height;

static void resource_open(size_t resources)
{
    while (height < resources) {
        stack[height] = &bench_resources[height];
        height++;
    }
}

static void resource_use(uint64_t pairs)
{
    while (pairs--) {
        bench_resource *resource;
        pthread_mutex_lock(&mutex);
        while (!height)
            pthread_cond_wait(&freed, &mutex);
        resource = stack[--height];
        pthread_mutex_unlock(&mutex);
        resource->uses++;
        pthread_mutex_lock(&mutex);
        stack[height++] = resource;
        pthread_mutex_unlock(&mutex);
        pthread_cond_signal(&freed);
    }
}

int main(int argc, char **argv)
{
    return bench_resource_main(argc, argv);
}

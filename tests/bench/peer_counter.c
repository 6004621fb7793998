/* Counting progress by hand. usage: peer_counter atomic|mutex threads updates-each
 *  atomic  one shared word and a relaxed addition: the bare minimum that is exact
 *  mutex   a lock around ++ */
#include "bench_counter.h"
#include <stdatomic.h>

static _Atomic uint64_t shared;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t guarded;

static void update_atomic(size_t updates)
{
    for (; updates; updates--)
        atomic_fetch_add_explicit(&shared, 1, memory_order_relaxed);
}

static uint64_t count_atomic(void)
{
    return atomic_load(&shared);
}

static void update_mutex(size_t updates)
{
    for (; updates; updates--) {
        pthread_mutex_lock(&lock);
        guarded++;
        pthread_mutex_unlock(&lock);
    }
}

static uint64_t count_mutex(void)
{
    return guarded;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s atomic|mutex threads updates-each\n", argv[0]);
        return 2;
    }
    unsigned threads = (unsigned)strtoul(argv[2], NULL, 10);
    size_t each = strtoul(argv[3], NULL, 10);
    if (argv[1][0] == 'a')
        bench_counter(threads, each, update_atomic, count_atomic);
    else
        bench_counter(threads, each, update_mutex, count_mutex);
    return 0;
}

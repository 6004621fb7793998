/* Not a scheduler: the least that two threads need to share a loop. The other one spins on a word,
 * the items are cut in two once and for all, and a word says that the second half is done. Nobody
 * can join, steal, fail or sleep. What is left is two lines that change caches, and the items. */
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>

static _Alignas(128) _Atomic uint64_t asked;
static _Alignas(128) _Atomic uint64_t answered;
static _Alignas(128) const bench_map *work; /* NULL: the end */

static void *second_half(void *unused)
{
    for (uint64_t call = 1;; call++) {
        while (atomic_load_explicit(&asked, memory_order_acquire) != call) {}
        const bench_map *m = work;
        if (!m)
            return unused;
        bench_squares(m->in, m->out, m->n / 2, m->n);
        atomic_store_explicit(&answered, call, memory_order_release);
    }
}

static void share(const bench_map *m)
{
    static uint64_t call;
    work = m;
    atomic_store_explicit(&asked, ++call, memory_order_release);
    if (!m)
        return;
    bench_squares(m->in, m->out, 0, m->n / 2);
    while (atomic_load_explicit(&answered, memory_order_acquire) != call) {}
}

static void map(void *context)
{
    share((const bench_map *)context);
}

int main(int argc, char **argv)
{
    static const bench_entry entries[] = {{"map", BENCH_MAP, map}};
    pthread_t other;
    if (pthread_create(&other, NULL, second_half, NULL) != 0)
        return 4;
    int status = bench_main(argc, argv, entries, BENCH_COUNT(entries));
    share(NULL);
    pthread_join(other, NULL);
    return status;
}

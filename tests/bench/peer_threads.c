/* What many programs do by hand: threads are made for each call and joined at its end. */
#include "bench.h"
#include <pthread.h>

enum { MOST_THREADS = 256 };

typedef struct part {
    bench_map *map;
    size_t begin, end;
} part;

static void *run_part(void *argument)
{
    part *p = argument;
    bench_squares(p->map->in, p->map->out, p->begin, p->end);
    return NULL;
}

static unsigned threads;

static void map(void *context)
{
    bench_map *m = context;
    pthread_t ids[MOST_THREADS];
    part parts[MOST_THREADS];
    for (unsigned k = 0; k < threads; k++) {
        parts[k] = (part){m, m->n * k / threads, m->n * (k + 1) / threads};
        if (k > 0 && pthread_create(&ids[k], NULL, run_part, &parts[k]) != 0) {
            fprintf(stderr, "pthread_create failed\n");
            exit(4);
        }
    }
    run_part(&parts[0]);
    for (unsigned k = 1; k < threads; k++)
        pthread_join(ids[k], NULL);
}

int main(int argc, char **argv)
{
    static const bench_entry entries[] = {{"map", BENCH_MAP, map}};
    threads = bench_threads();
    if (threads > MOST_THREADS)
        threads = MOST_THREADS;
    return bench_main(argc, argv, entries, BENCH_COUNT(entries));
}

/* bench_resource.h: what the C contenders of the resource pool share: threads borrow and give back;
 * wall time over pairs, from before the first thread starts until the last has ended. Each
 * resource counts its users, which no lock protects but the pool.
 * usage: contender threads resources pairs */
#ifndef BENCH_RESOURCE_H
#define BENCH_RESOURCE_H

#include "bench.h"
#include <pthread.h>

enum { BENCH_MOST = 64 };

typedef struct bench_resource {
    uint64_t uses;
    char pad[120];
} bench_resource;
static bench_resource bench_resources[BENCH_MOST];

/* A contender's part: so many of bench_resources, and one thread's pairs, each with a use. */
static void resource_open(size_t resources);
static void resource_use(uint64_t pairs);

static void *bench_borrower(void *pairs)
{
    resource_use(*(uint64_t *)pairs);
    return NULL;
}

static inline int bench_resource_main(int argc, char **argv)
{
    uint64_t number[3] = {1, 1, 1000000}, total = 0;
    pthread_t thread[BENCH_MOST];
    for (int k = 1; k < argc && k < 4; k++)
        number[k - 1] = strtoul(argv[k], NULL, 10);
    if (number[0] - 1 >= BENCH_MOST || number[1] - 1 >= BENCH_MOST || !number[2])
        return 2;
    uint64_t each = number[2] / number[0];
    resource_open((size_t)number[1]);
    int64_t start = bench_now();
    for (uint64_t k = 0; k < number[0]; k++)
        if (pthread_create(&thread[k], NULL, bench_borrower, &each) != 0)
            return 4;
    for (uint64_t k = 0; k < number[0]; k++)
        pthread_join(thread[k], NULL);
    double took = (double)(bench_now() - start);
    for (uint64_t k = 0; k < number[1]; k++)
        total += bench_resources[k].uses;
    if (total != each * number[0])
        bench_wrong("the sum of uses", (size_t)total);
    bench_report("ns/pair", took / (double)total);
    return 0;
}
#endif

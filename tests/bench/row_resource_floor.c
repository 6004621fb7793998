/* Not a pool: the least that a pair of calls can cost in which both take part in one decision with
 * all other threads, a compare-and-swap each. The word to be expected is known from the last call,
 * and nothing is looked at, or noted, but what is lent. For one thread and one resource. */
#include "bench_resource.h"

#include <stdatomic.h>

static _Alignas(128) _Atomic uint64_t word;
static _Alignas(128) uint64_t expected; /* apart: a line that was just locked is slow to read */

static void resource_open(size_t resources)
{
    if (resources != 1)
        exit(2);
}

static __attribute__((noinline)) bench_resource *lend(void)
{
    uint64_t idle = expected;
    expected = idle + 1;
    return atomic_compare_exchange_strong(&word, &idle, idle + 1) ? &bench_resources[0] : NULL;
}

static __attribute__((noinline)) int back(bench_resource *resource)
{
    uint64_t lent = expected;
    expected = lent + 1;
    return resource && atomic_compare_exchange_strong(&word, &lent, lent + 1);
}

static void resource_use(uint64_t pairs)
{
    while (pairs--) {
        bench_resource *resource = lend();
        if (!resource)
            bench_wrong("acquire", (size_t)pairs);
        resource->uses++;
        if (!back(resource))
            bench_wrong("release", (size_t)pairs);
    }
}

int main(int argc, char **argv)
{
    return bench_resource_main(argc, argv);
}

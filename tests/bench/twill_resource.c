/* twill_resource_pool: acquire and release; "barging" as the fourth argument: newcomers may
 * overtake. */
#include "bench_resource.h"

#define TWILL_IMPLEMENTATION
#include "twill_resource_pool.h"

static twill_resource_pool *pool;
static int barging;

static int make(void **resource, const twill_task *task)
{
    *resource = &bench_resources[task->index];
    return 0;
}

static void resource_open(size_t resources)
{
    if (twill_resource_pool_create(
            &pool, &(twill_resource_pool_options){
                       .max = resources, .create = make, .barging = barging != 0}) != TWILL_OK)
        exit(4);
}

static void resource_use(uint64_t pairs)
{
    while (pairs--) {
        twill_lease lease = {0};
        if (twill_resource_pool_acquire(pool, &lease) != TWILL_OK)
            bench_wrong("acquire", (size_t)pairs);
        ((bench_resource *)lease.resource)->uses++;
        if (twill_resource_pool_release(pool, &lease) != TWILL_OK)
            bench_wrong("release", (size_t)pairs);
    }
}

int main(int argc, char **argv)
{
    barging = argc > 4 && strcmp(argv[4], "barging") == 0;
    return bench_resource_main(argc, argv);
}

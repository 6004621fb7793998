/* A library with one twill header: parallel_map. */
#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#undef TWILL_IMPLEMENTATION
#include "linking.h"

const void *map_thread(void)
{
    return twill__thread();
}

const void *map_process(void)
{
    return twill__process();
}

twill_status map_range(size_t n, twill_range_fn *fn, const twill_parallel_options *options)
{
    return twill_parallel_range(n, fn, options);
}

twill_status map_wait(twill_ns ns, twill_cancel *cancel)
{
    return twill_sleep(twill_within_or_cancelled(ns, cancel));
}

void map_fire(twill_cancel *cancel, int reason)
{
    twill_cancel_fire(cancel, reason);
}

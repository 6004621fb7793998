/* Two libraries that carry a twill header each, and what they show of it. */
#ifndef MATRIX_LINKING_H
#define MATRIX_LINKING_H
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

#define SHOWN __attribute__((visibility("default")))

/* Where the library's own code finds the state of the thread and of the process. */
SHOWN const void *map_thread(void);
SHOWN const void *map_process(void);
SHOWN const void *pool_thread(void);
SHOWN const void *pool_process(void);

/* Calls into the library's own copy of the code, even if the library hides its twill functions. */
SHOWN twill_status map_range(size_t n, twill_range_fn *fn, const twill_parallel_options *options);
SHOWN twill_status map_wait(twill_ns ns, twill_cancel *cancel);
SHOWN void map_fire(twill_cancel *cancel, int reason);
SHOWN twill_status pool_wait(twill_ns ns, twill_cancel *cancel);
SHOWN void pool_fire(twill_cancel *cancel, int reason);
SHOWN twill_status pool_create(twill_pool **out, unsigned workers);
SHOWN twill_status pool_run(twill_pool *pool, twill_task_fn *fn, void *arg); /* submit, then wait */
SHOWN twill_status pool_destroy(twill_pool *pool);

#endif

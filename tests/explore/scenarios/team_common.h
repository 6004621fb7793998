/* team_common.h: what the scenarios of calls and teams share. Each is a program of one run: the
   explorer runs it once a schedule, and it ends well or by assert. Compile with -DTWILL__SPIN=0
   -DTWILL__TICKS=0: a spin only multiplies schedules, and ticks are not virtual time. Three workers
   are the fewest that find a late fire of a token. */
#ifndef TEAM_COMMON_H
#define TEAM_COMMON_H

#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#include "twill_worker_pool.h"

/* The explorer's: any number below n, each in some schedule. In a program without the explorer: 1,
   so that every scenario runs as it is. */
extern int sim_choice(int n) __attribute__((weak));

static inline int choose(int n)
{
    return sim_choice ? sim_choice(n) : n > 1;
}

/* What would only cost schedules: reading files for the number of CPUs, a page for the fork
   mark. */
static inline void quiet(void)
{
    twill__global *global = twill__process();

    atomic_store(&global->cpus, 2);
    atomic_store(&global->generation, 1);
    atomic_store(&global->own_mark, 1);
    atomic_store(&global->mark, &global->own_mark);
}

static inline void counts_add_up(const twill_report *report, size_t n)
{
    assert(report->total == n);
    assert(report->done + report->failed + report->skipped == n);
}
#endif

/* pipe_common.h: what the scenarios of the pipeline share. Each is a program of one run. */
#ifndef PIPE_COMMON_H
#define PIPE_COMMON_H

#undef NDEBUG
#include <assert.h>
#include <string.h>

#define TWILL_IMPLEMENTATION
#include "twill_pipeline.h"

extern int sim_choice(int n) __attribute__((weak));

static inline int choose(int n)
{
    return sim_choice ? sim_choice(n) : n > 1;
}

/* What would only cost schedules: reading files, a page for the fork mark. */
static inline void quiet(void)
{
    twill__global *global = twill__process();

    atomic_store(&global->cpus, 2);
    atomic_store(&global->generation, 1);
    atomic_store(&global->own_mark, 1);
    atomic_store(&global->mark, &global->own_mark);
}

enum { ITEMS_MOST = 8 };
static _Atomic int seen[ITEMS_MOST], dropped[ITEMS_MOST];
static int items = 3, last = -1;

static inline int number(void *out, const twill_task *task)
{
    if ((int)task->index == items)
        return twill_task_stop(task);
    *(int *)out = (int)task->index;
    return 0;
}

static inline int pass_on(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(int *)out = *(const int *)in;
    return 0;
}

/* A sink in order. */
static inline int deliver(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in;
    (void)out;
    assert(i == (int)task->index && i > last);
    last = i;
    atomic_fetch_add(&seen[i], 1);
    return 0;
}

static inline void drop(void *item, twill_status why, const twill_task *task)
{
    (void)why;
    (void)task;
    atomic_fetch_add(&dropped[*(int *)item], 1);
}

static inline void books(const twill_pipeline_report *r)
{
    assert(r->run.total == r->run.done + r->run.failed + r->run.skipped);
    for (int i = 0; i < ITEMS_MOST; i++)
        assert(seen[i] + dropped[i] <= 1);
}

struct side {
    twill__thrd thread;
    twill_pipeline *pipeline;
    twill_until until;
    int item;
    twill_status status;
};

static inline void go(struct side *side, void (*fn)(void *side), twill_pipeline *pipeline)
{
    memset(&side->thread, 0, sizeof side->thread);
    side->thread.fn = fn;
    side->thread.arg = side;
    side->thread.cpu = UINT_MAX;
    side->pipeline = pipeline;
    assert(twill__thread_start(&side->thread));
}

static inline void end(struct side *side)
{
    twill__thread_join(&side->thread);
}

static inline void push_one(void *side_)
{
    struct side *side = side_;
    side->status = twill_pipeline_push_until(side->pipeline, &side->item, side->until);
}
#endif

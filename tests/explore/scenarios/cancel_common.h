/* cancel_common.h: what the scenarios of waiting and cancelling share. Each is a program of one
   run: the explorer runs it once a schedule, and it ends well or by assert. Compile with
   -DTWILL__SPIN=0: a spin only multiplies schedules. */
#ifndef CANCEL_COMMON_H
#define CANCEL_COMMON_H

#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"

/* Threads, told apart by a number. */
typedef void body(void *arg);

static inline void go(twill__thrd *thread, body *fn, void *arg)
{
    memset(thread, 0, sizeof *thread);
    thread->fn = fn;
    thread->arg = arg;
    thread->cpu = UINT_MAX;
    assert(twill__thread_start(thread));
}

static inline void end(twill__thrd *threads, int count)
{
    for (int i = 0; i < count; i++)
        twill__thread_join(&threads[i]);
}

static inline bool bare(twill_cancel *cancel)
{
    twill__token *token = twill__token_of(cancel);

    return !token->head.link && !token->firing && !atomic_load(&token->lock);
}

/* A dead frame on a stack is still memory; a freed block is not. So the nodes come from the heap
   here. */
static inline twill__node *node_new(void)
{
    twill__node *node = malloc(sizeof *node);

    assert(node);
    twill__node_init(node);
    return node;
}

static inline twill_status sleep_on_heap(twill_until until)
{
    twill__node *node = node_new();
    twill_status status = twill__wait(node, until);

    free(node);
    return status;
}
#endif

/* queue_linear.h: calls of a queue, told to the explorer as a history. */
#ifndef QUEUE_LINEAR_H
#define QUEUE_LINEAR_H

#include "linear.h"
#include "queue_common.h"

static inline long long linear_status(twill_status status)
{
    return status == TWILL_OK       ? LINEAR_OK
           : status == TWILL_CLOSED ? LINEAR_CLOSED
           : status == TWILL_FULL   ? LINEAR_FULL
           : status == TWILL_EMPTY  ? LINEAR_EMPTY
                                    : LINEAR_LATE;
}

static inline void told_capacity(size_t capacity)
{
    explore_return(explore_call("capacity", (long long)capacity), LINEAR_OK);
}

static inline void told_push(twill_queue *queue, int item, twill_until until)
{
    int call = explore_call("push", item);
    explore_return(call, linear_status(twill_queue_push_until(queue, &item, until)));
}

static inline void told_try_push(twill_queue *queue, int item)
{
    int call = explore_call("push", item);
    explore_return(call, linear_status(twill_queue_try_push(queue, &item)));
}

static inline void told_pop(twill_queue *queue, twill_until until)
{
    int call = explore_call("pop", 0), item = 0;
    twill_status status = twill_queue_pop_until(queue, &item, until);
    explore_return(call, status == TWILL_OK ? item : linear_status(status));
}

static inline void told_try_pop(twill_queue *queue)
{
    int call = explore_call("pop", 0), item = 0;
    twill_status status = twill_queue_try_pop(queue, &item);
    explore_return(call, status == TWILL_OK ? item : linear_status(status));
}

static inline void told_close(twill_queue *queue)
{
    int call = explore_call("close", 0);
    assert(twill_queue_close(queue) == TWILL_OK);
    explore_return(call, LINEAR_OK);
}
#endif

/* queue_common.h: what the scenarios of the queue share. Each is a program of one run; compile with
   -DTWILL__SPIN=0. */
#ifndef QUEUE_COMMON_H
#define QUEUE_COMMON_H

#undef NDEBUG
#include <assert.h>
#include <string.h>

#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"

#ifndef QUEUE_ENGINE /* queue_lock_*.c take the other one */
#define QUEUE_ENGINE TWILL_ENGINE_DEFAULT
#endif

struct side {
    twill__thrd thread;
    twill_queue *queue;
    twill_until until;
    int item;
    twill_status status;
};

static inline void go(struct side *side, void (*fn)(void *side), twill_queue *queue)
{
    memset(&side->thread, 0, sizeof side->thread);
    side->thread.fn = fn;
    side->thread.arg = side;
    side->thread.cpu = UINT_MAX;
    side->queue = queue;
    assert(twill__thread_start(&side->thread));
}

static inline void end(struct side *side)
{
    twill__thread_join(&side->thread);
}

static inline void push_one(void *side_)
{
    struct side *side = side_;
    side->status = twill_queue_push_until(side->queue, &side->item, side->until);
}

static inline void pop_one(void *side_)
{
    struct side *side = side_;
    side->status = twill_queue_pop_until(side->queue, &side->item, side->until);
}

static inline twill_queue *queue_of(size_t capacity)
{
    twill_queue *queue;
    assert(twill_queue_create(&queue, sizeof(int), &(twill_queue_options){.capacity = capacity,
                                                                       .engine = QUEUE_ENGINE}) ==
           TWILL_OK);
    return queue;
}

static inline void check_books(twill_queue *queue)
{
    twill_queue_stats s;
    twill_queue_get_stats(queue, &s);
    assert(s.accepted == s.popped + s.dropped + s.expired + s.cleared + s.length);
    assert(s.waiting_push == 0 && s.waiting_pop == 0 && s.peak <= 2);
}
#endif

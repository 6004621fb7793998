/* create.h: a queue from its options. */
#ifndef TWILL__QUEUE_CREATE_H
#define TWILL__QUEUE_CREATE_H

#include "engine/queue.h"

typedef struct twill__queue_plan {                    /* what the options come to */
    size_t capacity, cells, heap, ends, items, bytes; /* offsets behind the queue; 0: none */
    bool ring;
} twill__queue_plan;

/* Whether a ring can do it. Its positions need 64 bits that are swapped in one step. */
static inline bool twill__queue_plain(const twill_queue_options *options)
{
    return UINTPTR_MAX > 0xffffffffu && options->capacity != TWILL_RENDEZVOUS &&
           options->order == TWILL_ORDER_FIFO &&
           (options->overflow == TWILL_OVERFLOW_BLOCK ||
            options->overflow == TWILL_OVERFLOW_REJECT ||
            options->overflow == TWILL_OVERFLOW_DROP_OLDEST) &&
           !options->bytes_of && !options->max_age && !options->on_level;
}

static inline bool twill__queue_options_valid(const twill_queue_options *options)
{
    bool priority = options->order == TWILL_ORDER_PRIORITY;
    bool evicts = options->overflow == TWILL_OVERFLOW_DROP_OLDEST ||
                  options->overflow == TWILL_OVERFLOW_DROP_NEWEST;
    size_t capacity = options->capacity ? options->capacity : 1024;
    if ((unsigned)options->overflow > TWILL_OVERFLOW_DROP_NEWEST ||
        (unsigned)options->order > TWILL_ORDER_PRIORITY ||
        (unsigned)options->engine > TWILL_ENGINE_RING ||
        (options->engine == TWILL_ENGINE_RING && !twill__queue_plain(options)) ||
        priority != !!options->priority_of || (options->ageing && !priority) ||
        options->ageing < 0 || options->max_age < 0 || (options->max_bytes && !options->bytes_of) ||
        (options->memory_bytes && !options->memory))
        return false;
    if (options->on_level ? options->high_mark <= options->low_mark || options->high_mark > capacity
                          : options->high_mark || options->low_mark)
        return false;
    return options->capacity != TWILL_RENDEZVOUS ||
           !(options->order || evicts || options->bytes_of || options->max_age ||
             options->on_level);
}

/* Adds count * size to *total, in multiples of 16; false: too big. */
static inline bool twill__queue_add(size_t *total, size_t count, size_t size)
{
    if (count > (SIZE_MAX / 2 - 16) / size || *total > SIZE_MAX / 2 - 16 - count * size)
        return false;
    *total += (count * size + 15) / 16 * 16;
    return true;
}

static inline twill_status twill__queue_plan_of(twill__queue_plan *plan, size_t item_size,
                                                const twill_queue_options *options)
{
    bool priority = options->order == TWILL_ORDER_PRIORITY;
    bool unordered = options->order == TWILL_ORDER_LIFO ||
                     options->overflow == TWILL_OVERFLOW_DROP_INCOMING ||
                     options->overflow == TWILL_OVERFLOW_DROP_NEWEST;
    bool cells = options->bytes_of || options->max_age || (unordered && !priority);
    memset(plan, 0, sizeof *plan);
    if (!item_size || !twill__queue_options_valid(options))
        return TWILL_INVALID;
    if (options->drop && item_size > TWILL__KEPT)
        return TWILL_TOO_BIG;
    plan->capacity = options->capacity == TWILL_RENDEZVOUS ? 0
                     : options->capacity                   ? options->capacity
                                                           : 1024;
    plan->bytes = (sizeof(twill__queue) + 15) / 16 * 16;
    if (cells) {
        plan->cells = plan->bytes;
        if (!twill__queue_add(&plan->bytes, plan->capacity, sizeof(twill__cell)))
            return TWILL_TOO_BIG;
    }
    if (priority) {
        plan->ends = plan->bytes;
        plan->bytes += sizeof(size_t) << TWILL__CHAIN_BITS; /* twill__queue_add sees to it */
        plan->heap = plan->bytes;
        if (!twill__queue_add(&plan->bytes, plan->capacity, 2 * sizeof(twill__ranked)))
            return TWILL_TOO_BIG;
    }
    plan->ring = options->engine != TWILL_ENGINE_LOCK && twill__queue_plain(options);
    plan->items = plan->bytes;
    if (item_size > SIZE_MAX / 2 ||
        !twill__queue_add(&plan->bytes, plan->capacity,
                          plan->ring ? twill__ring_stride(item_size) : item_size))
        return TWILL_TOO_BIG;
    plan->bytes += TWILL__LINE; /* to align the first */
    return TWILL_OK;
}

static inline const twill_queue_options *twill__queue_defaults(const twill_queue_options *options)
{
    static const twill_queue_options none;
    return options ? options : &none;
}

static inline void twill__queue_init(twill__queue *queue, size_t item_size,
                                     const twill__queue_plan *plan,
                                     const twill_queue_options *options)
{
    char *base = (char *)queue;
    memset(queue, 0, sizeof *queue);
    queue->store.size = item_size;
    queue->store.capacity = plan->capacity;
    queue->store.items = base + plan->items;
    queue->store.lifo = options->order == TWILL_ORDER_LIFO;
    if (plan->cells)
        queue->store.cells = (twill__cell *)(void *)(base + plan->cells);
    if (plan->ring)
        twill__ring_init(&queue->ring, item_size, plan->capacity, base + plan->items);
    if (plan->heap)
        twill__heap_init(&queue->store, (twill__ranked *)(void *)(base + plan->heap),
                         (size_t *)(void *)(base + plan->ends));
    queue->generation = twill__generation();
    /* set: generation was asked */
    queue->mark = atomic_load_explicit(&twill__process()->mark, memory_order_acquire);
    queue->overflow = options->overflow;
    queue->times = options->max_age != 0;
    queue->max_age = options->max_age ? options->max_age : TWILL_FOREVER;
    queue->max_bytes = options->max_bytes;
    queue->high_mark = options->high_mark;
    queue->low_mark = options->low_mark;
    queue->ageing = options->ageing ? options->ageing : TWILL_SEC(1);
    queue->priority_of = options->priority_of;
    queue->bytes_of = options->bytes_of;
    queue->drop = options->drop;
    queue->on_level = options->on_level;
    queue->context = options->context;
    queue->producers = options->producers;
    queue->brief = plan->capacity && !plan->ring;
}

TWILL__DEFINE size_t twill_queue_bytes(size_t item_size, const twill_queue_options *options)
{
    twill__queue_plan plan;
    options = twill__queue_defaults(options);
    return twill__queue_plan_of(&plan, item_size, options) == TWILL_OK ? plan.bytes : 0;
}

TWILL__DEFINE twill_status twill_queue_create(twill_queue **out, size_t item_size,
                                              const twill_queue_options *options)
{
    twill__queue_plan plan;
    twill_status status;
    char *memory;
    twill_queue *queue;
    if (!out)
        return TWILL_INVALID;
    *out = NULL;
    options = twill__queue_defaults(options);
    status = twill__queue_plan_of(&plan, item_size, options);
    if (status != TWILL_OK)
        return status;
    if (options->memory && options->memory_bytes < plan.bytes)
        return TWILL_INVALID;
    memory = (char *)options->memory;
    if (!memory)
        memory = (char *)TWILL_MALLOC(plan.bytes);
    if (!memory)
        return TWILL_NO_MEMORY;
    queue = (twill_queue *)(void *)(memory +
                                    (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE);
    twill__queue_init(queue, item_size, &plan, options);
    queue->memory = options->memory ? NULL : memory;
    *out = queue;
    return TWILL_OK;
}

#endif

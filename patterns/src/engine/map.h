/* map.h: the loop over items with one input and one output each; parallel_map and map_with_progress
   stand on it. */
#ifndef TWILL__ENGINE_MAP_H
#define TWILL__ENGINE_MAP_H

#include "engine/brief.h"

typedef struct twill__map { /* job->data of twill__map_body points to it */
    const char *in;
    char *out;
    size_t in_size, out_size;
    twill_map_fn *fn;
} twill__map;

static inline twill_status twill__map_check(const void *in, size_t in_size, const void *out,
                                            size_t out_size, size_t n, twill_map_fn *fn)
{
    if (!fn)
        return TWILL_INVALID;
    if (n == 0)
        return TWILL_OK;
    if (!in || !out || !in_size || !out_size || (in == out && in_size != out_size))
        return TWILL_INVALID;
    return n > SIZE_MAX / in_size || n > SIZE_MAX / out_size ? TWILL_TOO_BIG : TWILL_OK;
}

static inline void twill__map_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__map *map = (const twill__map *)job->data;
    twill__slot *me = &job->slot[task->worker];
    const char *in = map->in + begin * map->in_size;
    char *out = map->out + begin * map->out_size;
    twill_map_fn *fn = map->fn;
    size_t in_size = map->in_size, out_size = map->out_size, look;
    twill__loop loop;
    size_t i = twill__loop_begin(&loop, job, me, begin, end);
    while ((look = twill__loop_look(&loop, i, end)) > i) {
        int code;
        do { /* few values: what does not fit into registers is loaded for each item */
            task->index = i;
            code = fn(in, out, task);
            i++;
            in += in_size;
            out += out_size;
        } while (!twill__loop_odd(me, code) && i < look);
        if (!twill__loop_goes_on(&loop, i - 1, code))
            end = i;
    }
    twill__loop_end(me, i);
}

#endif

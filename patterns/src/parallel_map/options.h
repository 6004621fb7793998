/* options.h: what all forms check. */
#ifndef TWILL__PARALLEL_MAP_OPTIONS_H
#define TWILL__PARALLEL_MAP_OPTIONS_H

#include "engine/map.h"

_Static_assert((int)TWILL_SCHEDULE_AUTO == (int)TWILL__AUTO &&
                   (int)TWILL_SCHEDULE_STATIC == (int)TWILL__STATIC &&
                   (int)TWILL_SCHEDULE_DYNAMIC == (int)TWILL__DYNAMIC &&
                   (int)TWILL_SCHEDULE_GUIDED == (int)TWILL__GUIDED &&
                   (int)TWILL_SCHEDULE_COST == (int)TWILL__COST,
               "the engine takes the schedule as it is");

static inline const twill_parallel_options *
twill__parallel_options(const twill_parallel_options *options)
{
    static const twill_parallel_options none;
    return options ? options : &none;
}

static inline bool twill__parallel_valid(const twill_parallel_options *options)
{
    return (unsigned)options->schedule <= TWILL_SCHEDULE_COST &&
           (options->schedule != TWILL_SCHEDULE_COST || options->cost_of);
}

#endif

/* future_common.h: an object that is nothing but records, for scenarios of their protocol alone.
   Each is a program of one run; compile with -DTWILL__SPIN=0. */
#ifndef FUTURE_COMMON_H
#define FUTURE_COMMON_H

#define TWILL__FIRST_RECORDS 1
#include "pool_common.h"

static _Atomic unsigned forgotten;

static inline bool help_nobody(twill__record *record, bool idle)
{
    (void)record, (void)idle;
    return false;
}

static inline void forget_it(twill__record *record)
{
    (void)record;
    atomic_fetch_add(&forgotten, 1);
}

static inline twill__core *core_of(void)
{
    static const twill__record_table table = {.help = help_nobody, .forget = forget_it};

    quiet();
    return twill__core_create(sizeof(twill__record), &table);
}

/* As a runner does whom nobody can overrule. */
static inline void end_well(void *side_)
{
    struct side *side = side_;
    twill__record *record = side->future.slot;

    record->outcome.status = TWILL_OK;
    record->outcome.code = 7;
    if (!twill__record_finish_alone(record))
        twill__record_finish(record, true);
}

#endif

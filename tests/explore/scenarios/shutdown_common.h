/* shutdown_common.h: what the scenarios of graceful_shutdown share. Without signals:
   the explorer has none. What a handler does, twill__shutdown_signal, a thread does here: to the
   object it is the same. Beside those of a scenario run the object's own two threads. */
#ifndef SHUTDOWN_COMMON_H
#define SHUTDOWN_COMMON_H

#undef NDEBUG
#include <assert.h>
#include <string.h>

#define TWILL__NO_SIGNALS 1
#define TWILL_IMPLEMENTATION
#include "twill_graceful_shutdown.h"

struct side {
    twill__thrd thread;
    twill_shutdown *shutdown;
    twill_until until;
    twill_status status;
    int number;
    unsigned count;
};

static inline void go(struct side *side, void (*fn)(void *side), twill_shutdown *shutdown)
{
    memset(&side->thread, 0, sizeof side->thread);
    side->thread.fn = fn;
    side->thread.arg = side;
    side->thread.cpu = UINT_MAX;
    side->shutdown = shutdown;
    assert(twill__thread_start(&side->thread));
}

static inline void end(struct side *side)
{
    twill__thread_join(&side->thread);
}

static inline twill_shutdown *make(twill_shutdown_options options)
{
    twill_shutdown *shutdown;
    options.no_signals = true;
    if (!options.total) /* time passes by choice: else any total may be over at any moment */
        options.total = TWILL_FOREVER;
    assert(twill_shutdown_create(&shutdown, &options) == TWILL_OK);
    return shutdown;
}

/* As if signal `number` came now. */
static inline void come(twill_shutdown *shutdown, int number)
{
    assert(!twill__shutdown_signal(shutdown, number, twill__clock_now()));
}
#endif

/* tempo.h: how fast the tick counter runs, as the monotonic clock has it: for who asks for the time
   millions of times a second. */
#ifndef TWILL__PLATFORM_TEMPO_H
#define TWILL__PLATFORM_TEMPO_H

#include "platform/ticks.h"

/* A reading of the clock is a reading of the counter, a fence in front of it, and a conversion; the
   counter alone costs half. So the clock is read once in a while, with the counter around it: an
   anchor. For the next TWILL__TEMPO_SPAN ticks (some 0.1 ms) the time is the anchor's and the ticks
   since, at the tempo that older anchors had. Nothing is assumed about the counter but what each
   anchor shows anew:
   - the clock was read within TWILL__TEMPO_WIDTH ns: so it is the counter that the kernel's own
     clock reads, and the thread was not interrupted. An anchor says too little by as much;
   - the tempo comes from two anchors that are 4096 times as far apart as their readings took.
   So within a span the time is right to 0.3 us; it may go back by as much at the next anchor. With
   a counter that has jumped, or that differs from one CPU to the other, it is wrong for one span,
   by no more than a span. */
#ifndef TWILL__TEMPO
#if TWILL__TICKS && defined __x86_64__
#define TWILL__TEMPO 1
#else
#define TWILL__TEMPO 0 /* all readings are the clock's */
#endif
#endif

enum {
    TWILL__TEMPO_SPAN = 1 << 18,
    TWILL__TEMPO_WIDTH = 256,
    TWILL__TEMPO_APART = 4096,
    TWILL__TEMPO_LONG = 1 << 28 /* ticks after which a tempo is measured from a new anchor */
};
#define TWILL__TEMPO_ONE  (UINT64_C(1) << 32) /* 1 ns a tick; slower counters do not pay */
#define TWILL__TEMPO_LOST (UINT64_C(1) << 32) /* ticks, or ns, after which nothing is known */

/* Zeroed: nothing is known. One thread at a time. */
typedef struct TWILL__VIEW twill__tempo {
    uint64_t factor;      /* ns a tick, times 2^32; 0: not known */
    uint64_t tick, width; /* the anchor that it is measured from */
    twill_ns clock;
} twill__tempo;

/* The clock was read between two ticks. True: that is an anchor, at the later one, and me->factor
   says how to go on from there. */
static inline bool twill__tempo_anchor(twill__tempo *me, twill_ns clock, uint64_t before,
                                       uint64_t after)
{
    uint64_t width = after - before, ticks = after - me->tick;
    uint64_t time = (uint64_t)clock - (uint64_t)me->clock;
    bool lost = !me->clock || ticks >= TWILL__TEMPO_LOST || time >= TWILL__TEMPO_LOST;
    if (width >= TWILL__TEMPO_LONG)
        return false;
    if (lost)
        me->factor = 0;
    else if (ticks > TWILL__TEMPO_APART * (width + me->width))
        me->factor = (time << 32) / ticks;
    if (lost || ticks >= TWILL__TEMPO_LONG) {
        me->tick = after;
        me->width = width;
        me->clock = clock;
    }
    return me->factor && me->factor <= TWILL__TEMPO_ONE &&
           width * me->factor >> 32 < TWILL__TEMPO_WIDTH;
}

/* A clock made of that. Zeroed: not wound up. One thread at a time. */
typedef struct TWILL__VIEW twill__ticker {
    twill__tempo tempo;
    uint64_t tick; /* the last anchor */
    twill_ns now;
    bool runs; /* from it */
} twill__ticker;

static __attribute__((noinline, cold)) twill_ns twill__ticker_anchor(twill__ticker *me)
{
    uint64_t before = twill__ticks();
    me->now = twill__clock_now();
    me->tick = twill__ticks();
    me->runs = twill__tempo_anchor(&me->tempo, me->now, before, me->tick);
    return me->now;
}

/* The counter for twill__ticker_at, a little later; 0: it is not used here. */
static inline uint64_t twill__ticker_read(void)
{
    return TWILL__TEMPO ? twill__ticks() : 0;
}

/* The time when the counter was read, just now. (Before the last anchor: then it is now.) */
static inline twill_ns twill__ticker_at(twill__ticker *me, uint64_t ticks)
{
    uint64_t since = ticks - me->tick;
    if (!TWILL__TEMPO)
        return twill__clock_now();
    if (!me->runs || since >= TWILL__TEMPO_SPAN)
        return twill__ticker_anchor(me);
    return me->now + (twill_ns)(since * me->tempo.factor >> 32);
}

static inline twill_ns twill__ticker_now(twill__ticker *me)
{
    return twill__ticker_at(me, twill__ticker_read());
}

#endif

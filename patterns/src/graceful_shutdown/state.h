/* graceful_shutdown/state.h: the object, and all that a signal handler does with it. */
#ifndef TWILL__GRACEFUL_SHUTDOWN_STATE_H
#define TWILL__GRACEFUL_SHUTDOWN_STATE_H

#include "engine/call.h"
#include "engine/status.h"
#include "platform/signals.h"

#include <stdio.h>

/* ---- the object ---- */

typedef struct twill__shutdown_hook {
    struct twill__shutdown_hook *earlier; /* added before it, so run after it; later: run before */
    twill_shutdown_fn *fn;
    void *context;
    twill_ns limit;
    char name[];
} twill__shutdown_hook;

/* The thread that runs user code. One that does not come back is abandoned: then it owns this
   record, and touches nothing else of ours. */
typedef struct twill__runner {
    struct twill_shutdown *shutdown;
    twill__thrd thread;
    _Atomic uint32_t state;
    _Atomic uint64_t number; /* the thread's; 0 until it runs */
    twill_cancel token;      /* of the hook that it runs */
} twill__runner;
enum {
    TWILL__RUNNER_IDLE,
    TWILL__RUNNER_BUSY,    /* in user code */
    TWILL__RUNNER_PARTING, /* being abandoned */
    TWILL__RUNNER_ABANDONED,
    TWILL__RUNNER_GONE /* user code has ended the thread */
};

typedef struct twill__shutdown_job { /* one hook, given to the runner */
    twill__shutdown_hook *hook;      /* NULL: none */
    size_t index;
    twill_ns until;
    bool taken, done, lost;
    int code;
} twill__shutdown_job;

#define TWILL__STOPS 1 /* in `kind`: a signal that stops; from 2 on: that of action kind - 2 */

struct twill_shutdown {
    /* set at create */
    twill_shutdown_options options;
    twill_signal_action *actions;
    const char *message;
    size_t message_length;
    twill__home home;
    bool owner; /* of the process's signals */
    uint8_t kind[TWILL__SIGNAL_COUNT];
#if TWILL__SIGNALS
    bool installed[TWILL__SIGNAL_COUNT];
    twill__action old[TWILL__SIGNAL_COUNT];
#endif
#if TWILL__BELLS
    twill__bell flag; /* its out end is what poll loops get; written once, never read */
#endif
    twill__bell bell; /* wakes the watcher */
    /* written in handlers and by whoever asks */
    _Atomic int64_t asked_at;
    _Atomic int32_t asked;   /* 0; the reason; a signal that came: minus its number */
    _Atomic int32_t stopper; /* 0; the first signal that stops, whoever had asked before it */
    _Atomic uint32_t presses, hurry;
    _Atomic uint32_t seen;    /* the program has been told by a function's answer */
    _Atomic int64_t press_at; /* the last one that counted */
    _Atomic uint32_t raised[TWILL__SIGNAL_COUNT];
#if TWILL__CONSOLE
    _Atomic int64_t over_at; /* when the system ends the process; 0: it does not */
#endif
    /* work: phase, WAITED, tasks inside, tasks ever */
    _Alignas(TWILL__LINE) _Atomic uint64_t work;
    _Atomic uint64_t halves;
    _Alignas(TWILL__LINE) _Atomic uint32_t pulse; /* what finish parks on: bit 0: all out */
    /* guarded by lock, from here on */
    _Atomic uint32_t lock;
    twill__list waiters, idle, settlers; /* in wait; the runner; finish */
    twill__node *destroyer;
    twill_shutdown_phase told, news; /* the phase; the last that the runner has taken up */
    twill_ns drain_end, cancel_end, end;
    uint64_t after_drain, after_cancel; /* tasks inside */
    twill__shutdown_hook *hooks, *ran;
    twill__shutdown_job job;
    twill__runner *runner;  /* NULL: none could be started */
    bool starting;          /* somebody makes a new one */
    unsigned firing;        /* threads that fire a token of ours */
    uint64_t inline_thread; /* runs user code in place of a runner */
    size_t hung;            /* runners abandoned */
    bool finishing, finished, closed, quit;
    twill_shutdown_report report;
    twill_cancel drain_token, cancel_token;
    twill__thrd watcher;
};

static inline bool twill__shutdown_here(const twill_shutdown *shutdown)
{
    return twill__at_home(shutdown->home);
}

/* ---- the word of work ---- */

/* Phase and count are one word: entering is one step with looking at the phase. The total has 36
   bits; `halves` counts how often its top bit has turned. */
#define TWILL__WORK_PHASE  UINT64_C(7)
#define TWILL__WORK_WAITED UINT64_C(8) /* who leaves last says so in `pulse` */
#define TWILL__WORK_INSIDE UINT64_C(0xffffff0)
#define TWILL__WORK_ONE    UINT64_C(0x10)
#define TWILL__WORK_TOTAL  (UINT64_C(1) << 28)

static inline uint64_t twill__work_inside(uint64_t work)
{
    return (work & TWILL__WORK_INSIDE) / TWILL__WORK_ONE;
}

/* Goes on to `phase`, from RUNNING or from the one before; returns what was there. */
static inline uint64_t twill__work_advance(twill_shutdown *shutdown, twill_shutdown_phase phase)
{
    /* a guess for the CAS */
    uint64_t seen = atomic_load_explicit(&shutdown->work, memory_order_relaxed);
    do
        if ((seen & TWILL__WORK_PHASE) >= (uint64_t)phase)
            return seen;
    while (!atomic_compare_exchange_weak_explicit(&shutdown->work, &seen,
                                                  (seen & ~TWILL__WORK_PHASE) | (uint64_t)phase,
                                                  memory_order_seq_cst, memory_order_seq_cst));
    return seen;
}

/* All who ever entered; nobody enters any more. */
static inline uint64_t twill__work_total(const twill_shutdown *shutdown)
{
    uint64_t total = atomic_load_explicit(&shutdown->work, memory_order_seq_cst) >> 28;
    uint64_t halves = atomic_load_explicit(&shutdown->halves, memory_order_seq_cst);
    if ((halves & 1) != total >> 35) /* the one who turned the bit has not come to count it */
        halves++;
    return (halves << 35) + (total & ((UINT64_C(1) << 35) - 1));
}

/* ---- asking: async-signal-safe, like all up to the end of this file ---- */

/* The first one wins. `asked`: see the field. */
static inline void twill__shutdown_ask(twill_shutdown *shutdown, int32_t asked)
{
    int64_t never = 0;
    int32_t none = 0, nobody = 0;
    bool arms = asked < 0 &&
                atomic_compare_exchange_strong_explicit(&shutdown->stopper, &nobody, -asked,
                                                        memory_order_seq_cst, memory_order_seq_cst);
    /* before `asked`, which publishes it */
    atomic_compare_exchange_strong_explicit(&shutdown->asked_at, &never, twill__clock_now(),
                                            memory_order_relaxed, memory_order_relaxed);
    /* acq_rel: pairs with the acquire in twill__shutdown_asked */
    if (!atomic_compare_exchange_strong_explicit(&shutdown->asked, &none, asked,
                                                 memory_order_acq_rel, memory_order_relaxed)) {
        if (arms) /* there is a hard stop from now on */
            twill__bell_ring(&shutdown->bell);
        return;
    }
    twill__work_advance(shutdown, TWILL_SHUTDOWN_DRAINING);
    twill_cancel_request(&shutdown->drain_token, asked < 0 ? -asked : asked);
#if TWILL__BELLS
    twill__bell_ring(&shutdown->flag);
#endif
    twill__bell_ring(&shutdown->bell); /* the flags are set: whoever hears it finds them */
}

/* 0, or `asked`. Who has seen it here is not let in by enter. */
static inline int32_t twill__shutdown_asked(const twill_shutdown *shutdown)
{
    /* acquire: pairs with the CAS in ask */
    int32_t asked = atomic_load_explicit(&shutdown->asked, memory_order_acquire);
    if (asked && !(atomic_load_explicit(&shutdown->work, memory_order_seq_cst) &
                   TWILL__WORK_PHASE)) /* ask is about to do it */
        twill__work_advance((twill_shutdown *)(uintptr_t)shutdown, TWILL_SHUTDOWN_DRAINING);
    return asked;
}

static inline void twill__shutdown_seen(const twill_shutdown *shutdown)
{
    _Atomic uint32_t *seen = &((twill_shutdown *)(uintptr_t)shutdown)->seen;
    /* relaxed: destroy reads it, after all that the program does */
    if (!atomic_load_explicit(seen, memory_order_relaxed))
        atomic_store_explicit(seen, 1, memory_order_relaxed);
}

/* As twill__shutdown_asked, for an answer to the program. */
static inline int32_t twill__shutdown_answer(const twill_shutdown *shutdown)
{
    int32_t asked = twill__shutdown_asked(shutdown);
    if (asked)
        twill__shutdown_seen(shutdown);
    return asked;
}

/* ---- signals ---- */

/* Which press this is: 1, 2..; 0: the same as the last, seen again (sent to the group and
   forwarded). */
static inline uint32_t twill__shutdown_press(twill_shutdown *shutdown, twill_ns now)
{
    int64_t at = atomic_load_explicit(&shutdown->press_at, memory_order_seq_cst);
    if (at && now - at <= shutdown->options.same_press)
        return 0;
    if (!atomic_compare_exchange_strong_explicit(&shutdown->press_at, &at, now,
                                                 memory_order_seq_cst, memory_order_seq_cst))
        return 0; /* another thread has just taken one */
    return atomic_fetch_add_explicit(&shutdown->presses, 1, memory_order_seq_cst) + 1;
}

/* What the handler does. True: this press ends the process, at once. */
static inline bool twill__shutdown_signal(twill_shutdown *shutdown, int number, twill_ns now)
{
    twill_second_signal second = shutdown->options.second;
    uint32_t press;
    if (shutdown->kind[number] != TWILL__STOPS) {
        atomic_store_explicit(&shutdown->raised[number], 1, memory_order_seq_cst);
        twill__bell_ring(&shutdown->bell);
        return false;
    }
    press = twill__shutdown_press(shutdown, now);
    if (press >= 2 && second != TWILL_SECOND_IGNORED) {
        if (second == TWILL_SECOND_KILLS || press >= 3)
            return true;
        atomic_store_explicit(&shutdown->hurry, 1, memory_order_seq_cst);
        twill__bell_ring(&shutdown->bell);
    }
    twill__shutdown_ask(shutdown, -number);
#if TWILL__SIGNALS
    if (press == 1 && shutdown->message_length)
        twill__say(shutdown->message, shutdown->message_length);
#endif
    return false;
}

/* The owner of the signals, or NULL; twill__owner_release follows. */
static inline twill_shutdown *twill__shutdown_pin(void)
{
    twill_shutdown *shutdown = (twill_shutdown *)twill__owner_pin();
    /* a child that has just claimed the signals: the object is still the parent's */
    if (shutdown && !twill__shutdown_here(shutdown)) {
        twill__owner_release();
        return NULL;
    }
    return shutdown;
}

#if TWILL__SIGNALS
static void twill__shutdown_handler(int number)
{
    int saved = errno;
    twill_shutdown *shutdown = twill__shutdown_pin();
    twill__signal_again(number, twill__shutdown_handler);
    if (shutdown) { /* else: a forked child, or the object is just coming or going */
        if (number > 0 && number < TWILL__SIGNAL_COUNT && shutdown->kind[number] &&
            twill__shutdown_signal(shutdown, number, twill__clock_now()))
            twill__signal_die(number, shutdown->options.exit_code);
        twill__owner_release();
    } else if (twill__signal_is_plain(number)) { /* we began, and then another thread put it back */
        raise(number);
    }
    errno = saved;
}

#if TWILL__CONSOLE
/* The console is closed: as its signal, if that is one that stops. With the return of this thread
   the process is over: it stays for as long as it may, or until the program has ended by itself. */
TWILL__CONSOLE_HANDLER(twill__shutdown_console)
{
    twill_shutdown *shutdown = twill__console_goes(event) ? twill__shutdown_pin() : NULL;
    bool stops = shutdown && shutdown->kind[TWILL__CONSOLE_SIGNAL] == TWILL__STOPS;
    if (stops) {
        /* before the request: its windows go by it */
        atomic_store_explicit(&shutdown->over_at, twill__clock_now() + TWILL__CONSOLE_GRACE,
                              memory_order_seq_cst);
        twill__shutdown_ask(shutdown, -TWILL__CONSOLE_SIGNAL);
        twill__bell_ring(&shutdown->bell); /* perhaps it had been asked before */
    }
    if (shutdown)
        twill__owner_release();
    if (stops)
        (void)twill_sleep(twill_within(TWILL__CONSOLE_GRACE));
    return stops;
}
#endif
#endif

#endif

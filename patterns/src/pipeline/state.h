/* state.h: the records of a pipeline: steps, tickets, hands, waiters. */
#ifndef TWILL__PIPELINE_STATE_H
#define TWILL__PIPELINE_STATE_H

#include "engine/crew.h"

/* The words. A TICKET is one of the pipeline's tokens: it carries one source item, from the source
   until the last that came of it has gone. A PIECE is what travels: a ticket and a sub-number; a
   step with many outputs makes several pieces of one. A STEP is a stage and the edge before it. A
   HAND is a worker number at work: a burst of pieces (LOADS) that it has taken at one step.

   All is decided under one lock, taken once a burst; user code never runs under it. Memory has
   a fixed place for each piece before each step, so outputs are written where the next step
   reads them. */
enum { TWILL__FLOW_BURST = 256 };
/* calls between two looks at the time; with a deadline or a token: they may turn slow */
enum { TWILL__FLOW_LOOK_MOST = 64, TWILL__FLOW_LOOK_TIMED = 16 };
enum { TWILL__FLOW_HELP = 20 };    /* bursts' time that a push helps, although there is a ticket */
#define TWILL__FLOW_BURST_NS 50000 /* what a burst shall last: its turn under the lock vanishes */
#define TWILL__FLOW_SPIN     5000  /* ns: a burst of 256 is shown in a microsecond or two */
#define TWILL__FLOW_LOOK_NS  8000  /* what quick calls last together between two looks */

enum {
    TWILL__FLOW_AGAIN_WORK = -1
}; /* an answer beside the public ones: there is work, look again */

/* How a load ended. */
typedef enum twill__flow_end {
    TWILL__FLOW_END_NONE = 0, /* not begun, or running */
    TWILL__FLOW_END_DONE,
    TWILL__FLOW_END_FILTERED,
    TWILL__FLOW_END_FAILED,
    TWILL__FLOW_END_SKIPPED,
    TWILL__FLOW_END_DROPPED
} twill__flow_end;

typedef struct twill__flow_piece {
    uint32_t ticket, sub;
} twill__flow_piece;

typedef struct twill__flow_ticket { /* under the lock; `number` is also read by who has a piece */
    uint64_t number;
    /* its pieces, and one more until the last in-order step has let its number pass */
    uint32_t holds;
    bool failed, skipped, fruit; /* fruit: something of it left the last step */
} twill__flow_ticket;

typedef struct twill__flow_load {
    /* place in the serial loop: number, then sub-number; the cut compares it */
    size_t key;
    uint64_t number;
    twill__flow_piece piece;
    uint32_t outs;
    uint8_t end; /* twill__flow_end */
    bool plain;  /* done, one output, one piece a ticket */
} twill__flow_load;

typedef enum twill__flow_mood {                        /* what a step's time goes into */
                                TWILL__FLOW_MOOD_BUSY, /* it runs, or waits for a worker */
                                TWILL__FLOW_MOOD_STARVED,
                                TWILL__FLOW_MOOD_HELD
} twill__flow_mood;

typedef struct twill__flow_step {
    /* set at creation */
    twill_stage user;
    char *in; /* the pieces before it; of the one behind the last step: what nobody takes */
    size_t in_size;
    uint32_t spread; /* pieces before it that one ticket may have */
    uint32_t most;   /* outputs a piece */
    size_t scale;    /* of sub-numbers in keys */
    uint32_t limit;  /* calls at once */
    size_t room;     /* pieces that may wait before it; SIZE_MAX: tickets alone bound them */
    uint32_t order;  /* the first in-order step behind this one; n_steps: none */
    bool in_order;
    bool single; /* a batch whose outputs are counted by the call, not by the piece */
    /* any order: a ring of pieces, by arrival */
    twill__flow_piece *queue;
    uint32_t mask;
    /* in order: a ring by number; an entry is 0 until all pieces of its number have come or are
       known not to, then (ticket + 1) * 2, and 1 more while a piece is there. [next, front) are
       complete; `next` has a piece, or is front */
    uint32_t *ring;
    /* in order, many pieces a ticket: still to come; there; which */
    uint32_t *due, *left;
    uint64_t *bits;
    twill_ns *came; /* batches with a linger: when each piece arrived */
    /* under the lock; what each turn writes stands together */
    _Alignas(TWILL__LINE) uint32_t ready; /* pieces that it could take */
    uint32_t waiting;                     /* pieces before it that no hand has */
    uint32_t live;                        /* pieces before it and in its calls */
    uint32_t reserved;                    /* room promised to calls of the step before */
    uint32_t running;                     /* calls */
    uint32_t burst;                       /* pieces a burst: about TWILL__FLOW_BURST_NS */
    uint32_t head;                        /* of queue */
    twill__flow_mood mood;
    uint64_t next, front; /* of ring */
    uint64_t pace;        /* ticks a piece, lately */
    uint64_t count_in, count_out;
    uint64_t busy; /* figures, in ticks */
    uint64_t longest, starved, held, since;
    uint64_t filtered, failed, dropped;
    uint32_t waiting_peak, reorder_peak, running_peak;
} twill__flow_step;

enum { TWILL__FLOW_SAID_FILTER = 4 }; /* beside those of engine/job.h */

struct twill_pipeline;
typedef struct twill__flow_hand {
    _Alignas(TWILL__LINE) twill__call call; /* first: task->private_ points here */
    struct twill_pipeline *pipe;
    twill__slot *slot; /* the crew's, of this number; NULL: of nobody */
    twill__flow_load *load;
    char *scratch; /* a batch side by side, or an output that is not emitted yet */
    bool starting; /* in worker_start; left so: the hook has ended its thread */
    const struct twill__flow_waiter *helper; /* a caller, until its own wait is over; or NULL */
    /* the running call's: the owner's alone */
    uint32_t at;      /* its load */
    uint32_t emitted; /* outputs */
    unsigned said;
    uint32_t calls; /* loads that work, batch or source is running for; 0: none, or drop */
    /* whether slot->begin is of this burst yet */
    _Atomic uint32_t begun;
    /* under the lock; the owner may read what he alone writes */
    bool active, whole; /* whole: one call has all loads */
    bool used;
    uint32_t step; /* n_steps: the source */
    uint32_t n, published;
    uint64_t first;    /* source, in order: number of the first load */
    uint64_t pace;     /* of the step, when the burst began */
    uint32_t reserved; /* room at the step behind: a load, or */
    bool single;       /* for all of them */
    uint64_t busy;     /* ticks */
    size_t bursts;
} twill__flow_hand;

typedef struct twill__flow_error {
    size_t key;
    uint64_t number;
    uint32_t stage; /* n_steps: the source */
    twill_status status;
    int code;
} twill__flow_error;

typedef struct twill_pipeline {
    _Atomic uint32_t lock;
    /* under the lock */
    twill__list pushers, joiners;
    unsigned inside; /* calls that will take the lock again: destroy waits for them */
    twill__node *destroyer;
    bool opened;   /* the crew is there */
    bool shut;     /* no more items: closed, ended, cut */
    bool closed;   /* by the user */
    bool natural;  /* the stream came to its end by itself */
    bool sourcing; /* a hand is at the source */
    bool ended;    /* nothing is inside, and nothing will come */
    bool closing, crew_closed;
    bool sent;     /* the workers are at home: what is left is being dropped */
    bool tell_all; /* the hands' tokens are to be fired */
    bool dead;     /* no worker could start: nobody will run anything */
    uint32_t over; /* CANCELLED, TIMEOUT; 0: neither */
    uint32_t *free;
    uint32_t free_count;
    uint64_t issued, done, failed, skipped, filtered, delivered;
    size_t in_flight_peak;
    uint32_t working;        /* threads in twill__flow_work */
    uint32_t blocked_inside; /* of these, in a push */
    twill__list helpers;     /* callers that are at work for it, outside the lock */
    uint32_t starting;       /* threads in worker_start */
    uint32_t refused;        /* worker numbers whose worker_start failed */
    int start_code;
    twill_ns due, armed; /* the next linger, or the deadline; 0: none. The last alarm set */
    uint64_t failures;
    twill__flow_error lowest, earliest;
    size_t stop_key;
    size_t errors_count; /* of run.errors, a heap */
    uint32_t source_burst;
    uint64_t source_pace;
    twill_ns ended_at;
    uint64_t ended_ticks;
    twill_report crew_report;
    /* read by hands before each item, written seldom */
    _Alignas(TWILL__LINE) _Atomic size_t limit; /* keys from here on need not run */
    _Atomic uint32_t hungry;  /* somebody has looked for work since the last call, and found none */
    _Atomic uint32_t failing; /* an error is why */
    _Atomic uint32_t halted;  /* nothing more shall run at all */
    /* threads that have left the lock, and still call workers */
    _Atomic uint32_t leaving;
    /* set at creation */
    _Alignas(TWILL__LINE) uint32_t n_steps;
    twill__flow_step *step; /* n_steps, and one behind them */
    twill__flow_ticket *ticket;
    uint32_t tickets;
    uint32_t first_order; /* the first in-order step; n_steps: none */
    uint32_t ring_mask;
    uint32_t np;
    uint32_t burst_most;    /* pieces: tokens for a burst a worker, and one to spare */
    twill__flow_hand *hand; /* np, and one for who drops what is left */
    bool call;              /* one call: its caller is one of the workers */
    bool timed;
    bool thin; /* one piece a ticket, everywhere */
    int (*user_start)(void **worker_state, const twill_task *task);
    twill_source_fn *source; /* NULL: the caller pushes */
    const char *map_items;
    char *map_results;
    size_t map_n;
    twill_run run;
    twill_pipeline_options options;
    twill_cancel_hook hook;
    bool hooked;
    uint64_t goal;
    twill_ns began_at;
    uint64_t began_ticks;
    twill__home home;
    void *memory;
    twill__crew crew;
} twill__flow;

typedef struct twill__flow_waiter {
    twill__node node;
    const void *item; /* to push; NULL: joins */
    twill_until until;
    uint64_t thread; /* its number */
    bool helps;      /* may be called for work */
    bool stays;      /* counted in `inside` */
    bool told;       /* has been: it stays in the list, and looks again by itself */
    bool inside;     /* in a callback of this pipeline */
} twill__flow_waiter;

static inline bool twill__flow_here(const twill__flow *p)
{
    return twill__at_home(p->home);
}

static inline size_t twill__flow_limit(const twill__flow *p)
{
    return atomic_load_explicit(&p->limit, memory_order_seq_cst);
}

static inline char *twill__flow_step_at(const twill__flow_step *step, twill__flow_piece piece)
{
    return step->in + ((size_t)piece.ticket * step->spread + piece.sub) * step->in_size;
}

/* thin: its number is its place. */
static inline size_t twill__flow_step_key(const twill__flow *p, const twill__flow_step *step,
                                          uint64_t number, uint32_t sub)
{
    uint64_t key =
        p->thin ? number : number * p->step[p->n_steps].spread + (uint64_t)sub * step->scale;
    /* where size_t has 32 bits they end some day: then all that follow stand in one place, and only
       which of their errors is the lowest is not known */
    return key < SIZE_MAX ? (size_t)key : SIZE_MAX - 1;
}

static inline twill_task twill__flow_task(const twill__flow *p, uint64_t number, void *context)
{
    twill_task task = {(size_t)number, context, UINT_MAX, p->np, NULL, {0, NULL}, NULL};
    return task;
}

static inline void *twill__flow_step_context(const twill__flow *p, const twill__flow_step *step)
{
    return step->user.context ? step->user.context : p->run.context;
}

#endif

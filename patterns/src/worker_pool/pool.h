/* pool.h: what a pool consists of, its counts, and who is told when something changes. */
#ifndef TWILL__WORKER_POOL_POOL_H
#define TWILL__WORKER_POOL_POOL_H

#include "engine/duty.h"
#include "engine/future.h"
#include "engine/histogram.h"
#include "engine/tasks.h"
#include "engine/team.h"
#include "engine/wakes.h"
#include "platform/tempo.h"

/* One lock guards the pool. Its tasks wait in engine/tasks.h; its threads are a team
   (engine/team.h) whose main loop looks for tasks, too, so that one set of threads serves tasks and
   parallel calls. Taking a task out of the queue decides who answers for it: a worker, a waiter
   that helps, a cancel, a drop policy, a timer, the end. No user code runs under the lock.

   A busy worker takes its next task without the lock (twill__worker_goes_on), and a task comes in
   without it (twill__order_joins), as long as there is nothing but the order of arrival to mind
   (twill__pool_in_order, twill__pool_open). Whatever else there is to mind, a pause, a time, a
   sender that waits for room, holds the queue first: then all take the lock. A worker reports its
   ended tasks when it takes the lock again, which it does before it is idle.

   Who runs a plain task himself because the queue is full (CALLER_RUNS), or a task that he waits
   for because it is the next one, takes no lock, if he finds a stand-in free.

   A task without future and without options but the context is plain: it lives in the queue's cell
   alone. Any other one is a twill__errand, a record of engine/record.h. */

#define TWILL__QUICK 1000 /* ns: to call somebody for such a task costs more than the task */
#define TWILL__TINY  64   /* ns: two who take such tasks side by side are slower than one */
#define TWILL__TURN  128  /* ns: of the pool itself, between two tasks with a future */

typedef enum twill__counted {
    TWILL__N_STARTED,
    TWILL__N_DONE,
    TWILL__N_FAILED,
    TWILL__N_TIMED_OUT,
    TWILL__N_CANCELLED,
    TWILL__N_DROPPED,
    TWILL__N_LOST,
    TWILL__N_CALLER_RAN,
    TWILL__N_INLINED, /* plain ones among them */
    TWILL__TALLIES
} twill__counted;

typedef enum twill__whereabouts {
    TWILL__NOWHERE,
    TWILL__LATER, /* not before its start_at */
    TWILL__READY,
    TWILL__RUNNING
} twill__whereabouts;

typedef enum twill__stage {
    TWILL__UNTOLD,
    TWILL__BEGUN,       /* STARTED was told */
    TWILL__ENDED_UNTOLD /* before that: who tells STARTED tells ENDED, too */
} twill__stage;

struct twill__pool;
struct twill__hand;

/* A task that is not plain. Its `outcome` has what was known at its submission (index, key, queued)
   and then (started), before it has ended. `where` is a twill__whereabouts, under the pool's lock,
   as the entry is; RUNNING stays until the next use, and one that was taken without the lock stays
   READY (twill__errand_queued). `simple`: the options below are 0. `clean`: the token is the pool's
   child, and nobody has used it or come to its gate.
   `stopped`, under the pool's lock: a stop has fired its token, or is about to. */
typedef struct twill__errand {
    twill__record record;
    struct twill__pool *pool;
    struct twill__errand *below; /* that the same runner is in the middle of */
    twill__todo_entry entry;
    /* of those that a stop, the watch are about to end: each takes a task once */
    struct twill__errand *stop_chain, *stuck_chain;
    bool timed; /* it has, or will have, a timer */
    /* set at submission */
    int priority;
    twill_ns start_at, start_by, timeout;
    void (*on_done)(const twill_outcome *outcome, void *result, const twill_task *task);
    twill_drop_fn *drop;
    twill_discard_fn *discard;
    int code;               /* for it: what the callback returned, however that counts */
    twill_cancel token;     /* task->until.cancel */
    twill_cancel_hook hook; /* on the pool's token, if the task has one of its own, too */
    bool hooked;
    _Atomic uint32_t gate; /* of those who fire the token */
    /* with on_event: a twill__stage, so that STARTED is told before ENDED, whoever says the
       latter */
    _Atomic uint32_t stage;
} twill__errand;

/* A thread that runs tasks: a worker, or one that helps, or has to run its own. */
typedef struct twill__hand {
    twill__call call; /* first: task->private_ */
    struct twill__pool *pool;
    struct twill__hand *next, *previous; /* of the pool; under the lock */
    struct twill__hand *outer;           /* what this thread was before; its own */
    /* its claim is the innermost record that it runs, or is about to take: by the owner, under the
       lock or before a take without it. relaxed: whoever reads it has the lock, and holds the
       queue */
    twill__taker taker;
    /* under the lock */
    bool busy, plain; /* `plain`: its outermost task is */
    bool told /* that it is stuck */, given_up;
    size_t forgiven;  /* tasks that nobody waits for any more */
    unsigned blocked; /* regions of twill_task_block_begin */
    twill_ns since;   /* it is busy; only in a pool with a watch */
    size_t index;     /* of that task */
    void *about;      /* its context, if it is plain */
    /* its own */
    unsigned worker, workers;       /* `workers`: as tasks are told; copied under the lock */
    bool outside, fired;            /* not a worker; `fired`: under the lock */
    struct twill__stand_in *stands; /* of a stand-in: that */
    bool looks;                     /* counted in `looking`; its own */
    twill__self *self;              /* the thread that is it */
    void *state, *context;
    unsigned said, depth;       /* TWILL__SAID_...; tasks on its stack */
    size_t ended;               /* tasks that the pool does not know of yet */
    size_t number, numbers_end; /* for inlined tasks: the next, and the end of those reserved */
    twill_ns now; /* the end of the last task, if the next one begins at once; else 0 */
    twill__ticker ticker;
    twill_cancel token;    /* of plain tasks */
    _Atomic uint32_t gate; /* of those who fire it */
    /* relaxed, by the owner: statistics */
    _Atomic uint64_t tally[TWILL__TALLIES];
    twill__histogram *waited, *ran; /* NULL: not kept */
} twill__hand;

/* What those outside run a task as, without the lock: a plain one at once, because the queue is
   full, or the next one of the queue, for which they wait. Runners that stay, so that it takes two
   steps. The pool's lock comes in only while somebody looks: who waits for the pool, or has closed
   it. */
#ifndef TWILL__STAND_INS   /* the explorer wants fewer */
#define TWILL__STAND_INS 4 /* a thread has one of them, if no other one uses it just now */
#endif
enum { TWILL__STANDING = 1, TWILL__WATCHED = 2 }; /* of stand_in.word */

typedef struct twill__stand_in {
    /* STANDING: it runs a task; WATCHED: it ends, or would begin, under the lock */
    _Alignas(TWILL__LINE) _Atomic uint32_t word;
    /* relaxed: so many tasks of its thread go on without a look whether there is room by now */
    _Atomic uint32_t runs_on;
    _Atomic uint64_t over; /* tasks of the queue that it has run: see twill__pool_unfinished */
    twill__hand runner;
} twill__stand_in;

typedef enum twill__life {
    TWILL__NO_THREAD_YET,
    TWILL__COMING, /* started, and not through worker_start */
    TWILL__LIVE,
    TWILL__GIVEN_UP /* its task is stuck; it is not counted any more */
} twill__life;

typedef struct twill__everyone { /* one twill_pool_each_worker */
    struct twill__everyone *next;
    twill_task_fn *fn;
    void *arg;
    twill_until until;
    uint64_t number;
    unsigned left, inside, failed;
} twill__everyone;

typedef struct twill__worker {
    twill__hand runner;
    void *memory;
    twill__life life; /* under the lock, as all down to each_seen */
    twill__thrd thread, past;
    bool has_past;       /* a thread that has left, and was not joined */
    bool going;          /* counted in the pool's `going` */
    bool woke;           /* it comes from sleep: its own, as the next */
    bool naps;           /* counted in the pool's `napping` */
    uint64_t naps_since; /* what was submitted then */
    bool gives_way;      /* another one is enough: its own, as the next two */
    twill_ns naps_at;    /* its nap began then, */
    uint64_t naps_taken; /* after so many tasks */
    twill_ns idle_since;
    uint64_t each_seen;
    twill__everyone *each; /* that it is in; its own */
    /* its own; relaxed for readers */
    _Atomic uint64_t born, idle_ticks;
    twill__histogram waited, ran;
} twill__worker;

typedef struct twill__pool {
    twill_pool head; /* first: what others know of it */
    _Alignas(TWILL__LINE) _Atomic uint32_t lock;
    /* under the lock */
    bool paused, closed; /* closed: to those outside */
    bool sealed;         /* to tasks, too */
    bool ending;         /* a stop has begun: it sees to what is left */
    bool leaving;        /* workers go when there is nothing to do */
    bool forsaken, gone; /* twill_pool_abandon; the memory goes */
    bool telling, is_high;
    twill__todos todos;
    size_t later, reserved; /* tasks that wait for their time; that are on their way in */
    size_t timed;           /* works with timers, set or to be set */
    uint64_t over;          /* of those that were submitted; see twill__pool_unfinished */
    uint64_t refused, level_turns, level_told, each_number;
    twill__list senders;     /* who wait for room */
    twill__list watchers;    /* who wait for something to change */
    unsigned visitors;       /* calls in either */
    _Atomic uint32_t waited; /* calls in the latter; written under the lock */
    twill__everyone *each;
    twill__hand *runners;
    twill__worker **worker; /* by number */
    unsigned numbers;       /* entries of it */
    unsigned least, most;   /* workers wanted; at most */
    unsigned going;         /* workers that have decided to leave, and still count as live */
    unsigned live, coming, abandoned, outside, blocked, live_peak;
    twill_ns failed_at;                  /* the last thread that could not be started; 0: none */
    twill_ns grown_at, cpu_at, cpu_then; /* growth: the last one; the last look at the CPU clock */
    twill__thrd watch;
    bool has_watch, watch_ends;
    _Atomic twill_ns watch_until; /* it sleeps until then; 0: it does not */
    /* the task that was measured last took less than TWILL__QUICK, TWILL__TINY */
    _Atomic bool quick, tiny;
    /* relaxed: plain tasks whose number has one of these bits are not measured */
    _Atomic size_t sample;
    /* while the queue is held, a guess for who is full anyway, else 0; written under the lock */
    _Atomic size_t used;
    /* workers that are about to take the lock and look: they count themselves before they publish
       an outcome, so whoever has seen it, and submits, need call nobody */
    _Atomic uint32_t looking;
    _Atomic uint32_t napping; /* idle workers that look again soon, unasked */
    _Atomic bool on_way;      /* an idle worker was called, and has not looked yet */
    _Atomic uint32_t watch_word;
    /* relaxed: counts of threads that are no runners */
    _Atomic uint64_t tally[TWILL__TALLIES];
    /* by who is inside (twill__todos_enter), or, while shut, under the lock */
    _Alignas(TWILL__LINE) size_t next_index;
    size_t peak;
    size_t lingering;           /* submits that look for room out there; they come back */
    twill__ticker ticker;       /* of those who come in */
    _Atomic uint64_t submitted; /* relaxed for others: see twill__pool_unfinished */
    /* relaxed: how many numbers of workers there may be, as tasks are told; under the lock */
    _Alignas(TWILL__LINE) _Atomic unsigned told;
    /* set at creation */
    size_t capacity;
    twill_pool_options options;
    char name[16];
    uint64_t tick_scale; /* ns in 2^20 ticks */
    twill__core *core;
    twill__team team;
    twill__stand_in stand_in[TWILL__STAND_INS];
} twill__pool;

/* ---- where this thread is ---- */

static inline twill__pool *twill__pool_of(twill_pool *pool)
{
    return (twill__pool *)(void *)pool;
}

static inline bool twill__pool_here(const twill__pool *pool)
{
    return twill__team_here(&pool->team);
}

/* What this thread runs tasks of this pool as; NULL: it is none of its runners. */
static inline twill__hand *twill__hand_here(const twill__pool *pool)
{
    twill__hand *runner = (twill__hand *)twill__thread()->runner;
    while (runner && runner->pool != pool)
        runner = runner->outer;
    return runner;
}

/* What a thread that is in a callback of the pool's, but not in a task, has to do for it afterwards
   (engine/duty.h). */
enum {
    TWILL__LEAVE = 1, /* a call that the end waits for */
    TWILL__END_TASK,  /* it, or what depends on it, is in this thread's hands */
    TWILL__FREE_WORKER,
    TWILL__BE_WORKER
}; /* or the watch */

/* Whether this thread is a part of something that the pool's end waits for. */
static inline bool twill__pool_inside(const twill__pool *pool)
{
    const twill__self *self = twill__thread();
    if (self->team == &pool->team || twill__hand_here(pool) ||
        twill__duty_to(pool) >= TWILL__BE_WORKER)
        return true;
    for (const twill__job *job = self->job; job; job = job->outer)
        if (job->team == &pool->team || job->from == &pool->team)
            return true;
    for (const twill__record *record = (const twill__record *)self->record; record;
         record = record->outer)
        if (record->core == pool->core)
            return true;
    return false;
}

/* Whether this thread works for a call that was made by a task of the pool, whatever threads the
   call has: then that task waits for it. */
static inline bool twill__pool_counts_on_us(const twill__pool *pool)
{
    for (const twill__job *job = twill__thread()->job; job; job = job->outer)
        if (job->from == &pool->team)
            return true;
    return false;
}

/* ---- tokens that end while others may fire them ---- */

#define TWILL__GATE_SHUT 0x80000000u

/* Fires, unless the token's owner has done with it; who comes to the gate first is waited for. */
static inline void twill__gate_fire(const twill__pool *pool, _Atomic uint32_t *gate,
                                    twill_cancel *token, int reason)
{
    if (!(atomic_fetch_add_explicit(gate, 1, memory_order_seq_cst) & TWILL__GATE_SHUT)) {
        twill__duty_begin(pool, NULL, TWILL__FREE_WORKER); /* in hooks of the token */
        twill_cancel_fire(token, reason);
        twill__duty_over();
    }
    if (atomic_fetch_sub_explicit(gate, 1, memory_order_seq_cst) == (TWILL__GATE_SHUT | 1))
        twill__wake(gate, 1); /* the owner */
}

/* The owner's: nobody fires any more. */
static inline void twill__gate_shut(_Atomic uint32_t *gate)
{
    uint32_t word =
        atomic_fetch_or_explicit(gate, TWILL__GATE_SHUT, memory_order_seq_cst) | TWILL__GATE_SHUT;
    while (word != TWILL__GATE_SHUT) { /* exit: hooks return */
        if (!twill__spin(gate, word, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS))
            twill__park(gate, word, 0);
        word = atomic_load_explicit(gate, memory_order_seq_cst);
    }
}

/* ---- counts ---- */

static inline bool twill__hand_is_busy(const twill__hand *runner)
{
    /* seq_cst: a stop has set WATCHED before it looks, so none begins after that */
    return runner->busy ||
           (runner->stands &&
            atomic_load_explicit(&runner->stands->word, memory_order_seq_cst) & TWILL__STANDING);
}

/* How many numbers there are, or may come to be. */
static inline unsigned twill__pool_told(const twill__pool *pool)
{
    return atomic_load_explicit(&pool->told, memory_order_relaxed); /* a number */
}

static inline void twill__count(twill__pool *pool, twill__hand *runner, twill__counted what)
{
    if (runner)
        atomic_store_explicit(&runner->tally[what],
                              atomic_load_explicit(&runner->tally[what], memory_order_relaxed) + 1,
                              memory_order_relaxed);
    else
        atomic_fetch_add_explicit(&pool->tally[what], 1, memory_order_relaxed);
}

static inline twill__counted twill__counted_of(twill_status status)
{
    switch (status) {
    case TWILL_OK:
        return TWILL__N_DONE;
    case TWILL_TIMEOUT:
        return TWILL__N_TIMED_OUT;
    case TWILL_CANCELLED:
    case TWILL_CLOSED:
        return TWILL__N_CANCELLED;
    case TWILL_DROPPED:
        return TWILL__N_DROPPED;
    case TWILL_LOST:
        return TWILL__N_LOST;
    default:
        return TWILL__N_FAILED;
    }
}

static inline uint64_t twill__ticks_ns(const twill__pool *pool, uint64_t ticks)
{
    return (ticks >> 20) * pool->tick_scale + ((ticks & 0xfffff) * pool->tick_scale >> 20);
}

/* Whether the task of that number is. relaxed: a guess */
static inline bool twill__pool_measures(const twill__pool *pool, size_t index)
{
    return !(index & atomic_load_explicit(&pool->sample, memory_order_relaxed));
}

/* ---- a turn under the lock ---- */

typedef struct twill__turn { /* what to do after it */
    unsigned call;           /* idle workers to call */
    bool watch;              /* wake the watch */
    bool level;              /* tell the level */
    twill__wakes wakes;
    twill__errand *late;  /* a work whose time is over: to be ended */
    twill__errand *stale; /* pinned: running, and over time */
} twill__turn;

static inline void twill__turn_begin(twill__pool *pool, twill__turn *turn)
{
    turn->call = turn->wakes.count = 0;
    turn->watch = turn->level = false;
    turn->late = turn->stale = NULL;
    twill__lock(&pool->lock);
}

static inline void twill__pool_free(twill__pool *pool);

/* Under the lock: whether a stand-in runs a task. Then its end will come to the lock, and change
   something. */
static inline bool twill__pool_stood_in(twill__pool *pool)
{
    bool busy = false;
    for (unsigned i = 0; i < TWILL__STAND_INS; i++) {
        _Atomic uint32_t *stands = &pool->stand_in[i].word;
        /* seq_cst: see twill__stand_in_ends; acquire: pairs with its end, at which it finds the
           bit */
        uint32_t word = atomic_load_explicit(stands, memory_order_seq_cst);
        if (word == TWILL__STANDING)
            (void)atomic_compare_exchange_strong_explicit(
                stands, &word, TWILL__STANDING | TWILL__WATCHED, memory_order_acquire,
                memory_order_acquire);
        busy = busy || word & TWILL__STANDING;
    }
    return busy;
}

/* Whether nobody will ever come back to an abandoned pool. */
static inline bool twill__pool_empty(twill__pool *pool)
{
    return pool->forsaken && !pool->gone && !pool->live && !pool->abandoned && !pool->outside &&
           !pool->visitors && !pool->lingering && !pool->has_watch && !twill__pool_stood_in(pool);
}

/* Whether workers may take tasks without the lock: none of what they would overlook is there.
   Whoever brings such a thing about, holds the queue. */
static inline bool twill__pool_in_order(const twill__pool *pool)
{
    const twill__todos *todos = &pool->todos;
    return !todos->keyed && !todos->holes && !todos->newest_first && !pool->timed &&
           !pool->paused && !pool->sealed && !pool->each && !pool->senders.first &&
           !pool->has_watch && !pool->options.on_level && pool->live - pool->going <= pool->most;
}

/* Under the lock: whether a task is accepted, and not over. Whoever reports that a task is over has
   seen that it was accepted. First the stand-ins: what their tasks submitted is seen then. And
   `submitted` last: so the sum never passes it, and if they are equal, they were equal before. */
static inline bool twill__pool_unfinished(twill__pool *pool)
{
    uint64_t over = pool->over;
    if (twill__pool_stood_in(pool))
        return true;
    for (unsigned i = 0; i < TWILL__STAND_INS; i++)
        /* acquire: pairs with the release in twill__stand_in_ends */
        over += atomic_load_explicit(&pool->stand_in[i].over, memory_order_acquire);
    return atomic_load_explicit(&pool->submitted, memory_order_relaxed) != over;
}

/* How many workers are not inside a region that blocks. */
static inline unsigned twill__pool_active(const twill__pool *pool)
{
    return pool->live > pool->blocked ? pool->live - pool->blocked : 0;
}

/* Whether others may push without the lock: what they would overlook is not there either.
   Whoever brings such a thing about, shuts the door. */
static inline bool twill__pool_open(const twill__pool *pool)
{
    return !pool->closed && !pool->reserved &&
           /* nobody would have to start a thread */
           (pool->live >= pool->most || twill__pool_active(pool) >= pool->least);
}

static inline size_t twill__pool_used(twill__pool *pool)
{
    return twill__todos_length(&pool->todos) + pool->later + pool->reserved;
}

/* Whether there is no room. One look at how far the workers have come is spared as long as there
   was room when somebody looked last: they make more. */
static inline bool twill__pool_full(twill__pool *pool)
{
    size_t beside = pool->later + pool->reserved;
    return twill__todos_at_most(&pool->todos) + beside >= pool->capacity &&
           twill__pool_used(pool) >= pool->capacity;
}

/* At the end of a turn in which the queue was shut, and perhaps held. */
static inline void twill__pool_unhold(twill__pool *pool)
{
    size_t used = 0;
    if (pool->todos.held) {
        if (twill__pool_in_order(pool) && twill__todos_may_let_go(&pool->todos))
            twill__todos_let_go(&pool->todos);
        else if (!pool->sealed)
            used = twill__pool_used(pool);
        atomic_store_explicit(&pool->used, used, memory_order_relaxed); /* a guess for others */
    }
    if (!pool->todos.held && twill__pool_open(pool))
        twill__todos_open(&pool->todos);
}

/* Calls workers for what has come up, and the watch. The pool is there. */
static inline void twill__turn_call(twill__pool *pool, twill__turn *turn)
{
    if (turn->call)
        twill__call_helpers(&pool->team, turn->call);
    if (turn->watch) {
        /* relaxed: see twill__watch_looks */
        atomic_fetch_add_explicit(&pool->watch_word, 1, memory_order_relaxed);
        twill__wake(&pool->watch_word, 1);
    }
    turn->call = 0;
    turn->watch = false;
}

/* Unlocks, and does what is left to do, but for `level`, `late` and `stale`. The pool may be gone
   then, if the caller is not a part of it: who has left it calls before (twill__turn_call). */
static inline void twill__turn_end(twill__pool *pool, twill__turn *turn)
{
    bool last = twill__pool_empty(pool);
    if (twill__todos_are_shut(&pool->todos))
        twill__pool_unhold(pool);
    if (last)
        pool->gone = true;
    twill__unlock(&pool->lock);
    if (last) {
        twill__pool_free(pool);
        turn->call = 0;
        turn->watch = false;
    }
    twill__turn_call(pool, turn);
    twill__wakes_send(&turn->wakes);
}

/* Something has changed that somebody may wait for: all look again. */
static inline void twill__pool_changed(twill__pool *pool, twill__turn *turn)
{
    while (pool->watchers.first) {
        twill__node *node = pool->watchers.first;
        _Atomic uint32_t *word = &node->word;
        twill__list_remove(&pool->watchers, node);
        /* acq_rel: pairs with twill__wait; whoever leaves finds that it is not listed */
        node->answer = TWILL_OK;
        atomic_fetch_or_explicit(word, TWILL__GRANTED, memory_order_acq_rel);
        twill__wakes_add(&turn->wakes, word);
    }
}

/* A visitor leaves for good: the destroyer may wait for it. */
static inline void twill__pool_left(twill__pool *pool, twill__turn *turn)
{
    pool->visitors--;
    twill__pool_changed(pool, turn);
}

/* Waits under the lock, which it lets go meanwhile, until `there` says so. */
static inline twill_status twill__pool_await(twill__pool *pool, twill__turn *turn,
                                             twill_until until,
                                             bool (*there)(twill__pool *pool, const void *data),
                                             const void *data)
{
    twill_status status = TWILL_OK;
    pool->visitors++;
    /* before the first look: see twill__stand_in_ends */
    atomic_fetch_add_explicit(&pool->waited, 1, memory_order_seq_cst);
    while (status == TWILL_OK && !there(pool, data)) { /* exit: there, or the wait is over */
        twill__node me;
        twill__node_init(&me);
        me.answer = TWILL_EMPTY;
        twill__list_append(&pool->watchers, &me);
        twill__turn_end(pool, turn);
        status = twill__wait(&me, until);
        twill__turn_begin(pool, turn);
        if (status != TWILL_OK && me.answer == TWILL_EMPTY)
            twill__list_remove(&pool->watchers, &me);
    }
    if (status != TWILL_OK && there(pool, data))
        status = TWILL_OK;
    atomic_fetch_sub_explicit(&pool->waited, 1, memory_order_relaxed); /* one too many costs time */
    twill__pool_left(pool, turn);
    return status;
}

/* ---- the level of the queue ---- */

/* After the queue has grown or shrunk, under the lock. While the door is open it has only shrunk,
   by us, and nobody wants to know. */
static inline void twill__pool_level(twill__pool *pool, twill__turn *turn)
{
    size_t length;
    if (twill__todos_are_shut(&pool->todos) && !pool->todos.held)
        twill__todos_see(&pool->todos);
    else if (!pool->todos.held)
        return;
    length = twill__todos_length(&pool->todos) + pool->later;
    if (length > pool->peak)
        pool->peak = length;
    if (!pool->options.on_level)
        return;
    if (pool->is_high ? length <= pool->options.low_mark : length >= pool->options.high_mark) {
        pool->is_high = !pool->is_high;
        pool->level_turns++;
        turn->level = true;
    }
}

/* After the turn: tells each edge once, in turn; one thread at a time tells all there are. */
static inline void twill__pool_tell_level(twill__pool *pool)
{
    twill_task task = {SIZE_MAX, pool->options.run.context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    twill__turn turn;
    twill__turn_begin(pool, &turn);
    if (!pool->telling) {
        pool->telling = true;
        pool->visitors++;
        while (pool->level_told != pool->level_turns) { /* exit: all told */
            bool high = pool->level_told++ % 2 == 0;
            size_t length = twill__todos_length(&pool->todos) + pool->later;
            twill__turn_end(pool, &turn);
            twill__duty_begin(pool, NULL, TWILL__LEAVE);
            pool->options.on_level(high, length, &task);
            twill__duty_over();
            twill__turn_begin(pool, &turn);
        }
        pool->telling = false;
        twill__pool_left(pool, &turn);
    }
    twill__turn_end(pool, &turn);
}

/* ---- events ---- */

static inline twill_task twill__task_about(const twill__pool *pool, size_t index, void *context)
{
    twill_task task = {index, context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    (void)pool;
    return task;
}

static inline void twill__event(twill__pool *pool, twill_event event, twill_status status,
                                size_t index, void *key, unsigned worker, const twill_task *task)
{
    twill_task_info info;
    if (!pool->options.on_event)
        return;
    info.event = event;
    info.status = status;
    info.index = index;
    info.key = key;
    info.worker = worker;
    info.when = twill__clock_now();
    pool->options.on_event(&info, task);
}

#endif

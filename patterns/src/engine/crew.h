/* crew.h: the workers of an object: threads of its own, or those of a pool, who come when there is
   work and leave when there is none. */
#ifndef TWILL__ENGINE_CREW_H
#define TWILL__ENGINE_CREW_H

#include "engine/run.h"

/* A crew is a job (engine/job.h) whose work is given by three functions of the object:

       ready   is there work for one worker more? Any thread, often; it may take the object's lock.
               When it answers no although something is due later, it says when
               (twill__crew_alarm)
       work    on a worker: works until nothing is ready. It must not sleep: a thread of a pool
               has other things to do, and one of the crew's own parks in the team
       ended   inside work a callback has ended the thread: puts the books in order. Other
               workers may be at work already, under the same number, when it has returned

   All else is the team's: worker numbers, worker_start and worker_stop, tokens, waking, guards.
   task->until is the deadline of the run and the token of the worker number; task->private_ is the
   crew's job, whose table is crew_table.calls: an object that wants one of its own puts its own
   record there in a copy of the task. */
typedef struct twill__crew {
    twill__job job;
    twill__team own;
    twill_run run; /* a copy */
    twill__helper *helper;
    twill__home home;
    bool has_own;
} twill__crew;

/* Of the block that a crew of so many workers needs behind it, in multiples of a line. */
static inline size_t twill__crew_bytes(unsigned workers, unsigned own_threads)
{
    size_t bytes = (size_t)workers * sizeof(twill__slot) +
                   (size_t)own_threads * sizeof(twill__helper) +
                   2 * sizeof(uint64_t) * twill__words(workers);
    return (bytes + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
}

static inline void twill__crew_init(twill__crew *crew, const twill_run *run, unsigned workers,
                                    const twill__crew_table *table, void *object, void *memory)
{
    twill__job *job = &crew->job;
    _Atomic uint64_t *bits;
    memset(crew, 0, sizeof *crew);
    crew->run = *run;
    job->call.table = &table->calls;
    job->crew = table;
    job->data = object;
    job->run = &crew->run;
    job->np = workers;
    job->slot = (twill__slot *)memory;
    job->block = job->unit = 1;
    bits = (_Atomic uint64_t *)(void *)(job->slot + workers);
    job->taken = bits;
    job->ready = bits + twill__words(workers);
    for (unsigned word = 0; word < 2 * twill__words(workers); word++)
        atomic_init(&bits[word], 0);
    atomic_init(&job->limit, SIZE_MAX);
    atomic_init(&job->stop_at, SIZE_MAX);
    job->until = run->until;
    job->may_end = !twill__for_ever(run->until);
    crew->home = twill__home_here();
    job->generation = crew->home.generation;
    crew->helper = (twill__helper *)(void *)(bits + 2 * twill__words(workers));
}

/* Whether this process opened it. */
static inline bool twill__crew_here(const twill__crew *crew)
{
    return twill__at_home(crew->home);
}

/* Opens a crew of `workers` numbers. `memory`: twill__crew_bytes, aligned to TWILL__LINE. Threads:
   those of run->pool, if it has any, and a seat; or, for a call that ends before the callback
   around it does (`nested`), those of the call around it; else `own_threads` are started. Fewer
   than that, even none, is no failure (flag DEGRADED, and callers help), but with run->strict. The
   object must be ready to be asked. OK; INVALID, FORKED, CLOSED (pool), NO_THREAD: nothing is
   open. */
static inline twill_status twill__crew_open(twill__crew *crew, const twill_run *run,
                                            unsigned workers, unsigned own_threads, bool nested,
                                            const twill__crew_table *table, void *object,
                                            void *memory)
{
    const twill__self *self = twill__thread();
    twill__job *job = &crew->job, *outer = self->job;
    twill_status status = twill__check_run(run);
    bool all = true;
    if (status != TWILL_OK)
        return status;
    twill__crew_init(crew, run, workers, table, object, memory);
    if (run->pool)
        job->team = run->pool->team;
    else if (nested && outer && outer->team && !run->workers)
        job->team = outer->team;
    if (nested) { /* its callbacks are a part of what this thread is in: it waits for them */
        job->outer = outer;
        job->from = (twill__team *)self->team;
        job->record = self->record;
    }
    if (job->team) {
        job->seat = twill__take_seat(job->team);
        if (!job->seat && run->pool &&
            (atomic_load_explicit(&job->team->seat[0].word, memory_order_seq_cst) &
             TWILL__SEAT_SHUT))
            return TWILL_CLOSED;
        /* seq_cst, after the seat was taken: see twill__pool_threads */
        if (job->seat && run->pool && own_threads &&
            !atomic_load_explicit(&job->team->threads, memory_order_seq_cst)) {
            /* a lazy pool: its threads come with its first tasks, not for us */
            twill__release(job->seat);
            job->seat = NULL;
        }
        if (job->seat && nested && outer && outer->team == job->team) {
            job->parent = outer;
            job->flags |= TWILL_REPORT_NESTED;
        }
    }
    if (!job->seat) { /* no team asked for, or none of its threads can come */
        if (job->team)
            job->flags |= TWILL_REPORT_DEGRADED;
        twill__team_init(&crew->own, crew->helper);
        crew->has_own = true;
        job->team = &crew->own;
        job->seat = twill__take_seat(job->team);
    }
    job->tick_rate = job->team->tick_rate;
    if (crew->has_own) /* before anybody works here: a call nested below reads the team */
        all = twill__team_grow(&crew->own, own_threads, run);
    else if (run->pool && twill__team_threads(job->team) < own_threads)
        all = false;
    if (!all && run->strict) { /* before anybody can come in */
        twill__release(job->seat);
        if (crew->has_own)
            (void)twill__team_close(&crew->own);
        return TWILL_NO_THREAD;
    }
    if (!all)
        job->flags |= TWILL_REPORT_DEGRADED;
    twill__open(job, 0);
    return TWILL_OK;
}

/* Work has come up for `need` workers more: after it was published (under the lock that `ready`
   takes, or by a seq_cst RMW). Without sleepers one RMW and one load. */
static inline void twill__crew_call(twill__crew *crew, unsigned need)
{
    twill__call_helpers(crew->job.team, need);
}

/* Something is due at `instant`: an idle thread asks `ready` then. */
static inline void twill__crew_alarm(twill__crew *crew, twill_ns instant)
{
    twill__team *team = crew->job.team;
    twill_ns alarm = atomic_load_explicit(&team->alarm, memory_order_seq_cst);
    while (instant < alarm) /* exit: set, or an earlier one is */
        if (atomic_compare_exchange_weak_explicit(&team->alarm, &alarm, instant,
                                                  memory_order_seq_cst, memory_order_seq_cst)) {
            twill__call_helpers(team, 1); /* a parked one has read the later alarm */
            return;
        }
}

/* Whether this thread is inside a callback of the crew, or of a call nested below one: then it must
   not wait for the crew's end. */
static inline bool twill__crew_inside(const twill__crew *crew)
{
    for (const twill__job *job = twill__thread()->job; job; job = job->outer)
        if (job == &crew->job)
            return true;
    return false;
}

/* Whether a thread that waits should work: it is itself one of those that the crew could wait for,
   or works for a call that one of those waits for. */
static inline bool twill__crew_counts_on_us(const twill__crew *crew)
{
    const twill__team *team = crew->job.team;
    const twill__self *self = twill__thread();
    if (self->team == team)
        return true;
    for (const twill__job *job = self->job; job; job = job->outer)
        if (job->team == team || job->from == team)
            return true;
    return false;
}

/* The calling thread takes part until nothing is ready. False: nothing was, or no number is free,
   or its worker_start failed. A crew's own callback may help, too, if the object can bear it. */
static inline bool twill__crew_help(twill__crew *crew)
{
    twill__job *job = &crew->job;
    bool served;
    if (!twill__enter(job->seat))
        return false;
    served = twill__serve(job->seat, job, UINT_MAX);
    /* one who found no number free meanwhile may have parked */
    if (served && job->crew->ready(job->data))
        twill__call_helpers(job->team, 1);
    twill__leave(job->seat);
    return served;
}

/* A worker begins on something numbered `number`; at the end of all, SIZE_MAX. A fire from
   twill__crew_fire_from that is meant for an earlier, higher one cannot hit it. */
static inline void twill__crew_begin(twill__crew *crew, unsigned worker, size_t number)
{
    twill__set_begin(&crew->job.slot[worker], number);
}

/* Fires the tokens of the workers that are on a number from `least` on. */
static inline void twill__crew_fire_from(twill__crew *crew, size_t least)
{
    twill__fire_from(&crew->job, least);
}

/* Shuts the door, waits for those inside (who leave when nothing is ready), ends the own threads,
   runs worker_stop here, in worker order, and gives back the seat. From no callback of the crew
   (twill__crew_inside). Fills workers_started, workers_used and the flags of *report, if there is
   one. In a forked child it does nothing but fill. */
static inline void twill__crew_close(twill__crew *crew, twill_report *report)
{
    twill__job *job = &crew->job;
    unsigned threads = twill__team_threads(job->team);
    if (twill__crew_here(crew)) {
        twill__meet(job, NULL, false);
        twill__stop_workers(job);
        if (!crew->has_own)
            job->flags |= twill__team_flags(job->team);
        twill__release(job->seat);
        if (crew->has_own)
            job->flags |= twill__team_close(&crew->own);
        for (unsigned worker = 0; worker < job->np; worker++)
            if ((atomic_load_explicit(&job->ready[worker / 64], memory_order_seq_cst) &
                 twill__bit(worker)) &&
                twill__token_used(twill__token_of(&job->slot[worker].token)))
                twill_cancel_detach(&job->slot[worker].token);
    }
    if (!report)
        return;
    report->workers_started = threads < job->np ? threads : job->np;
    for (unsigned worker = 0; worker < job->np; worker++)
        if (atomic_load_explicit(&job->ready[worker / 64], memory_order_seq_cst) &
            twill__bit(worker))
            report->workers_used += job->slot[worker].used;
    /* relaxed: after the join */
    if (atomic_load_explicit(&job->degraded, memory_order_relaxed))
        job->flags |= TWILL_REPORT_DEGRADED;
    report->flags = job->flags;
}

#endif

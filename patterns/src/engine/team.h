/* team.h: threads that help calls, and how a call meets them. */
#ifndef TWILL__ENGINE_TEAM_H
#define TWILL__ENGINE_TEAM_H

#include "engine/claim.h"

#define TWILL__SEATS     16    /* calls with helpers at once, on one team; others run alone */
#define TWILL__IDLE_SPIN 50000 /* ns a thread looks for the next call before it parks */

/* A seat's word. Jobs live on callers' stacks; helpers reach them through a seat, which outlives
   them. A seat is free only when its owner has cleared it: open bit off and count 0 is not free. */
#define TWILL__SEAT_OPEN  0x80000000u /* helpers may come in */
#define TWILL__SEAT_WAIT  0x40000000u /* the caller sleeps on the word */
#define TWILL__SEAT_OWNED 0x20000000u /* a call has it */
#define TWILL__SEAT_SHUT  0x10000000u /* the team closes: no call may have it */
#define TWILL__SEAT_BYE   0x08000000u /* the closing thread sleeps until the call is over */
#define TWILL__SEAT_COUNT 0x07ffffffu /* helpers inside */

typedef struct twill__seat {
    _Alignas(TWILL__LINE) _Atomic uint32_t word;
    /* for threads that spin: whether so little is left for them that tiny items would be over
       before they have come in; the epoch that the last opening made << 32 | openings so far */
    _Atomic uint32_t little;
    _Atomic uint64_t opened;
    /* written by the owner before it opens; who is not in may fetch their lines, and no more */
    _Atomic(twill__job *) job;
    _Atomic(twill__slot *) slot;
} twill__seat;

typedef struct twill__helper {
    twill__thrd thread;
    struct twill__team *team;
    unsigned number;
    struct twill__helper *next; /* replacements */
} twill__helper;

typedef struct twill__team {
    /* One more for each call that opens, and at the close. Alone in its line: those who spin on it
       take it from whoever writes, once a call */
    _Alignas(TWILL__LINE) _Atomic uint32_t epoch;
    _Alignas(TWILL__LINE) _Atomic uint32_t idle; /* threads with nothing to do: spin or parked */
    /* what seldom changes */
    _Alignas(TWILL__LINE) _Atomic uint32_t parked;
    _Atomic uint32_t hint; /* the seat that opened last */
    _Atomic uint32_t closed;
    _Atomic twill_ns alarm;   /* some idle thread looks round then; TWILL_FOREVER: never */
    _Atomic uint32_t keepers; /* threads that are parked until then, not for ever */
    unsigned spinners;        /* so many of them may spin: one CPU is the caller's */
    _Atomic unsigned threads; /* started, and not ended */
    _Atomic uint32_t flags;   /* a pool's: what its threads could not have */
    twill__home home;         /* the process that started them */
    uint64_t tick_rate;       /* see platform/ticks.h */
    twill__helper *helper;
    _Atomic(twill__helper *) replacements; /* for threads that ended in a callback of a crew */
    _Atomic uint32_t lost;                 /* of them, those that nobody replaces */
    twill__seat seat[TWILL__SEATS];
} twill__team;

/* ---- in and out of a seat ---- */

/* A newcomer reads the job's head from the caller's cache, line by line: all of them at once take
   no longer than one. */
static inline void twill__fetch(const twill__job *job)
{
    for (size_t at = 0; at <= offsetof(twill__job, next); at += TWILL__FETCHED)
        __builtin_prefetch((const char *)job + at);
}

/* For one that spins, has seen the seat open, and is about to come in. */
static inline void twill__fetch_ahead(const twill__seat *seat)
{
    /* relaxed: only their lines are fetched */
    const twill__job *job = atomic_load_explicit(&seat->job, memory_order_relaxed);
    twill__prefetch(seat);
    twill__prefetch(atomic_load_explicit(&seat->slot, memory_order_relaxed));
    twill__prefetch(&job->limit);
    twill__fetch(job);
}

static inline twill__job *twill__enter(twill__seat *seat)
{
    uint32_t word;
    while ((word = atomic_load_explicit(&seat->word, memory_order_seq_cst)) & TWILL__SEAT_OPEN)
        if (atomic_compare_exchange_weak_explicit(&seat->word, &word, word + 1,
                                                  memory_order_seq_cst, memory_order_relaxed))
            /* relaxed: the word orders it, and tells it anew */
            return atomic_load_explicit(&seat->job, memory_order_relaxed);
    return NULL;
}

/* The caller, asleep on the word, has something to do again. */
static inline void twill__rouse(twill__seat *seat)
{
    if (atomic_load_explicit(&seat->word, memory_order_seq_cst) & TWILL__SEAT_WAIT) {
        atomic_fetch_and_explicit(&seat->word, ~TWILL__SEAT_WAIT, memory_order_seq_cst);
        twill__wake(&seat->word, INT_MAX);
    }
}

/* After the fetch_sub the job may be gone; the seat stays. */
static inline void twill__leave(twill__seat *seat)
{
    uint32_t word = atomic_fetch_sub_explicit(&seat->word, 1, memory_order_seq_cst) - 1;
    if (!(word & TWILL__SEAT_COUNT) && (word & TWILL__SEAT_WAIT))
        twill__rouse(seat);
}

/* Work has come up in this call: wakes its caller and those of the calls around it, who may run it.
   Read-modify-write (by whoever made the work visible), then load: the sleeper does the same the
   other way round. */
static inline void twill__rouse_callers(twill__job *job)
{
    for (; job; job = job->parent)
        if (job->seat)
            twill__rouse(job->seat);
}

/* After the epoch was raised: how many of those who sleep on it are to be woken for `need` of
   them. */
static inline int twill__sleepers_of(twill__team *team, unsigned need)
{
    uint32_t parked = atomic_load_explicit(&team->parked, memory_order_seq_cst), idle;
    if (!parked)
        return 0;
    idle = atomic_load_explicit(&team->idle, memory_order_seq_cst);
    if (idle > parked) { /* those who spin see the epoch */
        if (idle - parked >= need)
            return 0;
        need -= idle - parked;
    }
    return need > INT_MAX ? INT_MAX : (int)need;
}

/* Tells up to `need` idle threads to look round. Returns how many of those who sleep on the epoch
   are still to be woken: for that, the team may be gone. */
static inline int twill__call_round(twill__team *team, unsigned need)
{
    atomic_fetch_add_explicit(&team->epoch, 1, memory_order_seq_cst);
    return twill__sleepers_of(team, need);
}

static inline void twill__call_helpers(twill__team *team, unsigned need)
{
    int sleepers = twill__call_round(team, need);
    if (sleepers)
        twill__wake(&team->epoch, sleepers);
}

/* Work has come up in this call, which somebody who looked a moment ago has not seen. */
static inline void twill__call_another(twill__job *job)
{
    if (atomic_load_explicit(&job->team->idle, memory_order_seq_cst) && twill__number_free(job))
        twill__call_helpers(job->team, 1);
}

/* ---- taking part ---- */

/* The caller is the only worker, and has claimed all there is. */
static inline bool twill__all_mine(const twill__job *job, const twill__slot *me)
{
    uint64_t range =
        atomic_load_explicit(&me->range, memory_order_relaxed); /* ours until another is in */
    return twill__lo(range) >= twill__hi(range) && job->schedule == TWILL__AUTO && job->np <= 64 &&
           atomic_load_explicit(&job->ready[0], memory_order_seq_cst) == 1;
}

/* Nothing is left for helpers: who came now would only be waited for. The seat is open. True:
   nobody is inside, and nobody will be. */
static inline bool twill__shut_out(twill__job *job)
{
    /* takes off a bit that is set: cheaper than an and whose result is asked for */
    return !(atomic_fetch_sub_explicit(&job->seat->word, TWILL__SEAT_OPEN, memory_order_seq_cst) &
             TWILL__SEAT_COUNT);
}

/* begin..end-1: a first chunk that is claimed already, or none. True: it was the only worker, and
   the seat is shut: there is nobody to wait for. */
static __attribute__((noinline)) bool twill__work_on(twill__job *job, unsigned worker,
                                                     twill_task *task, twill__pace *pace,
                                                     size_t begin, size_t end)
{
    twill__slot *me = &job->slot[worker];
    bool claimed = begin < end, open = worker == 0, alone = false;
    twill__pace_start(pace);
    /* exit: no work left to claim, or stopped; each turn claims, steals or returns */
    for (;;) {
        if (twill__stopped(job, job->may_end ? twill__clock_now() : 0)) {
            if (job->missed)
                job->missed(job, TWILL__MISSED_OVER);
            break;
        }
        if (claimed || twill__claim(job, worker, me, pace, &begin, &end)) {
            if (open && twill__all_mine(job, me)) {
                alone = twill__shut_out(job);
                open = false;
            }
            if (alone)
                twill__begin_alone(me, begin);
            else if (!claimed)
                twill__set_begin(me, begin);
            claimed = false;
            /* seq_cst: see twill__set_begin */
            if (begin >= atomic_load_explicit(&job->limit, memory_order_seq_cst))
                continue;
            twill__run_chunk(job, me, task, begin, end);
            twill__pace_on(job, pace, twill__blocks_of(job, end - begin));
            continue;
        }
        if (alone || !twill__steal(job, worker, me, pace))
            break;
        /* one who looked between the theft and its publishing saw nothing */
        twill__rouse_callers(job);
        twill__call_another(job);
    }
    me->busy += pace->at - pace->since;
    return alone;
}

/* noinline: its locals must not stand in the frame of a guard, which may be a setjmp */
static __attribute__((noinline)) void twill__take_part(twill__job *job, unsigned worker,
                                                       twill_task *task)
{
    twill__pace pace;
    if (job->crew) {
        job->slot[worker].used = true;
        job->crew->work(job->data, task);
        return;
    }
    twill__pace_init(job, &pace);
    (void)twill__work_on(job, worker, task, &pace, 0, 0);
}

/* What is left of a chunk, from place `from` on, goes back into the worker's range, where others
   find it. */
static inline void twill__hand_back(twill__job *job, twill__slot *me, size_t from, size_t end)
{
    uint64_t range, back;
    if (end <= from || job->block != 1 || job->n - job->start > 0xffffffffu)
        return;
    /* a guess for the CAS */
    range = atomic_load_explicit(&me->range, memory_order_relaxed);
    do
        back =
            twill__pack(from - job->start,
                        twill__lo(range) < twill__hi(range) ? twill__hi(range) : end - job->start);
    /* seq_cst: then it looks for who sleeps; relaxed: another guess */
    while (!atomic_compare_exchange_weak_explicit(&me->range, &range, back, memory_order_seq_cst,
                                                  memory_order_relaxed));
}

/* A thread ends inside a callback: its item is LOST, what is left of its chunk goes back. */
static inline void twill__thread_ended(twill__job *job, unsigned worker, const twill_task *task)
{
    twill__slot *me = &job->slot[worker];
    size_t item = task->index, at;
    me->said = 0;
    if (!me->inside || item == SIZE_MAX) {
        me->refused = true; /* it ended inside a hook, or in another call's callback */
        return;
    }
    at = twill__place_of(job, item);
    me->inside = false;
    if (me->from != SIZE_MAX && !job->whole)
        twill__loop_end(me, item);
    if (!job->whole)
        twill__hand_back(job, me, at + 1, me->end);
    else if (me->from != SIZE_MAX)
        twill__hand_back(job, me, me->end, me->from);
    twill__item_failed(job, me, at, item, TWILL_LOST, 0);
    atomic_store_explicit(&me->begin, SIZE_MAX, memory_order_seq_cst);
    twill__rouse_callers(job);
}

/* ---- a helper ---- */

/* what the clean-up needs when a callback ends the thread */
typedef struct twill__visit {
    twill__seat *seat;
    twill__job *job, *outer;
    void *record; /* of this thread, before */
    unsigned worker;
    twill_task task;
} twill__visit;

static inline void twill__helper_main(void *helper);

/* How many threads it has: a number, which a pool changes as it likes. */
static inline unsigned twill__team_threads(const twill__team *team)
{
    return atomic_load_explicit(&team->threads, memory_order_relaxed);
}

#ifndef TWILL__REPLACE_AFTER /* the explorer wants less */
#define TWILL__REPLACE_AFTER TWILL_MS(10)
#endif

/* Another thread in the place of this one. False: without memory or threads there is none. */
static inline bool twill__succeed(twill__team *team, const twill__helper *dying)
{
    twill__helper *fresh = (twill__helper *)TWILL_MALLOC(sizeof *fresh);
    if (!fresh)
        return false;
    memset(fresh, 0, sizeof *fresh);
    fresh->team = team;
    fresh->number = dying->number;
    fresh->thread.fn = twill__helper_main;
    fresh->thread.arg = fresh;
    fresh->thread.stack_size = dying->thread.stack_size;
    fresh->thread.cpu = dying->thread.cpu;
    memcpy(fresh->thread.name, dying->thread.name, sizeof fresh->thread.name);
    if (!twill__thread_start(&fresh->thread)) {
        TWILL_FREE(fresh);
        return false;
    }
    /* release: pairs with the exchange in twill__team_close; relaxed: a guess for the CAS */
    fresh->next = atomic_load_explicit(&team->replacements, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&team->replacements, &fresh->next, fresh,
                                                  memory_order_release, memory_order_relaxed)) {}
    return true;
}

/* A thread of the team has ended in a callback, and is in no seat any more: another one takes its
   place. If there is none, and this was the last one (whoever makes `lost` full, is), it stays
   until there is, or the team closes: nobody else would do what comes up. Whoever closes the team
   joins the dying thread first, and then finds what it has left. */
static inline void twill__replace(twill__team *team)
{
    const twill__helper *dying = (const twill__helper *)twill__thread()->helper;
    if (!dying || dying->team != team) /* its own team's: it may be a guest of a pool's */
        return;
    if (twill__succeed(team, dying) ||
        /* relaxed, here and below: a count; one thread finds itself the last */
        atomic_fetch_add_explicit(&team->lost, 1, memory_order_relaxed) + 1 <
            twill__team_threads(team))
        return;
    for (;;) { /* exit: closed, or replaced */
        uint32_t epoch = atomic_load_explicit(&team->epoch, memory_order_seq_cst);
        if (atomic_load_explicit(&team->closed, memory_order_seq_cst))
            return;
        (void)twill__park(&team->epoch, epoch,
                          twill__instant_after(twill__clock_now(), TWILL__REPLACE_AFTER));
        if (twill__succeed(team, dying)) { /* one that comes while the team closes is joined, too */
            atomic_fetch_sub_explicit(&team->lost, 1, memory_order_relaxed);
            return;
        }
    }
}

static inline void twill__visit_ended(void *visit_)
{
    twill__visit *visit = (twill__visit *)visit_;
    twill__job *job = visit->job;
    twill__team *team = job->team; /* stays for a thread of its own */
    /* the outermost: no clean-up of this thread comes after it. A call that has made its threads
       for itself goes on with fewer */
    bool replaced = !visit->outer && (job->crew || job->parent);
    twill__thread()->job = visit->outer;
    twill__thread()->record = visit->record;
    if (job->crew) {
        job->crew->ended(job->data, &visit->task);
        twill__give_number(job, visit->worker);
        twill__call_another(job); /* one who found no number free meanwhile may have parked */
    } else {
        twill__thread_ended(job, visit->worker, &visit->task);
        twill__call_another(job);
        /* the number stays taken: its slot holds the item's end */
        atomic_store_explicit(&job->degraded, 1, memory_order_seq_cst);
        if (job->missed)
            job->missed(job, TWILL__MISSED_ENDED);
    }
    twill__leave(visit->seat); /* the job may be gone then */
    if (replaced)
        twill__replace(team);
}

/* worker_start, once a number and call. False: this number runs nothing. */
static inline bool twill__worker_ready(twill__job *job, unsigned worker, twill_task *task,
                                       int *code)
{
    twill__slot *me = &job->slot[worker];
    *code = 0;
    twill__task_init(job, worker, task);
    if (!job->run->worker_start || me->started)
        return !me->refused;
    *code = job->run->worker_start(&me->state, task);
    me->said = 0;
    if (*code) {
        me->refused = true;
        return false;
    }
    me->started = true;
    task->worker_state = me->state;
    return true;
}

/* An alarm is set, and nobody is parked until then. A keeper takes himself off before he looks, and
   asks this before he goes to work: the last one who does wakes somebody who has parked for ever.
   So, all seq_cst, an alarm finds one who is parked until then, or awake; and who has something due
   no earlier than that need call nobody. */
static inline bool twill__team_unkept(const twill__team *team)
{
    return atomic_load_explicit(&team->alarm, memory_order_seq_cst) != TWILL_FOREVER &&
           !atomic_load_explicit(&team->keepers, memory_order_seq_cst);
}

static inline bool twill__other_open(const twill__team *team, const twill__seat *seat)
{
    for (unsigned i = 0; i < TWILL__SEATS; i++)
        if (&team->seat[i] != seat &&
            (atomic_load_explicit(&team->seat[i].word, memory_order_seq_cst) & TWILL__SEAT_OPEN))
            return true;
    return false;
}

/* Inside a seat: work on its job under a free number. False: nothing to do there. */
static inline bool twill__serve(twill__seat *seat, twill__job *job, unsigned prefer)
{
    twill__visit visit;
    twill__self *self = twill__thread();
    int code;
    if (!twill__has_work(job) || (visit.worker = twill__take_number(job, prefer)) == UINT_MAX)
        return false;
    if (atomic_load_explicit(&job->team->parked, memory_order_seq_cst)) {
        if (twill__team_unkept(job->team))
            twill__call_helpers(job->team, 1);
        else if ((twill__number_free(job) && twill__has_work(job)) ||
                 twill__other_open(job->team, seat))
            /* the next one: two calls may have counted on the same idle thread */
            twill__wake(&job->team->epoch, 1);
    }
    visit.seat = seat;
    visit.job = job;
    visit.outer = self->job;
    visit.record = self->record;
    self->job = job;
    /* the helper's items are a part of the task that made the call; those of an object are not */
    if (!job->crew || job->record)
        self->record = job->record;
    TWILL__GUARD_PUSH(twill__visit_ended, &visit);
    if (twill__worker_ready(job, visit.worker, &visit.task, &code)) {
        twill__take_part(job, visit.worker, &visit.task);
        twill__give_number(job, visit.worker);
    } else {
        /* and the number stays taken */
        atomic_store_explicit(&job->degraded, 1, memory_order_seq_cst);
        if (job->missed)
            job->missed(job, TWILL__MISSED_REFUSED);
    }
    TWILL__GUARD_POP(0);
    self->job = visit.outer;
    self->record = visit.record;
    return true;
}

static inline bool twill__serve_seat(twill__team *team, unsigned seat, unsigned prefer)
{
    twill__seat *at = &team->seat[seat];
    twill__job *job = twill__enter(at);
    bool served;
    if (!job)
        return false;
    twill__fetch(job);
    served = twill__serve(at, job, prefer);
    twill__leave(at);
    return served;
}

static inline bool twill__serve_team(twill__team *team, unsigned prefer)
{
    unsigned hint = atomic_load_explicit(&team->hint, memory_order_seq_cst) % TWILL__SEATS;
    if (twill__serve_seat(team, hint, prefer))
        return true;
    for (unsigned seat = 0; seat < TWILL__SEATS; seat++)
        if (seat != hint && twill__serve_seat(team, seat, prefer))
            return true;
    return false;
}

/* Whether some call wants another thread. It only looks: who serves must not count as idle, or a
   call takes him for one that spins and wakes nobody. */
static inline bool twill__call_waits(twill__team *team)
{
    for (unsigned i = 0; i < TWILL__SEATS; i++) {
        twill__job *job = twill__enter(&team->seat[i]);
        bool wanted;
        if (!job)
            continue;
        wanted = twill__number_free(job) && twill__has_work(job);
        twill__leave(&team->seat[i]);
        if (wanted)
            return true;
    }
    return false;
}

/* It is due. Who takes it looks round, but stays with the first work that he finds: so another one
   looks, too, and all who are about to sleep; the crews that they ask set theirs anew. */
static inline void twill__take_alarm(twill__team *team, twill_ns alarm)
{
    if (atomic_compare_exchange_strong_explicit(&team->alarm, &alarm, TWILL_FOREVER,
                                                memory_order_seq_cst, memory_order_seq_cst))
        twill__call_helpers(team, 1);
}

/* For a thread that has always something to do: whether the alarm is due, which it takes then. */
static inline bool twill__team_due(twill__team *team)
{
    /* relaxed: what is not seen now is seen the next time */
    twill_ns alarm = atomic_load_explicit(&team->alarm, memory_order_relaxed);
    if (alarm == TWILL_FOREVER || twill__clock_now() < alarm)
        return false;
    twill__take_alarm(team, alarm);
    return true;
}

/* Until the epoch changes, an alarm is due, or `until`. False: this was an alarm. */
static inline bool twill__nap(twill__team *team, uint32_t epoch, twill_ns until)
{
    twill_ns alarm = atomic_load_explicit(&team->alarm, memory_order_seq_cst),
             end = alarm < until ? alarm : until;
    bool keeps = alarm != TWILL_FOREVER;
    if (keeps)
        /* see twill__team_unkept */
        atomic_fetch_add_explicit(&team->keepers, 1, memory_order_seq_cst);
    if (end == TWILL_FOREVER)
        twill__park(&team->epoch, epoch, 0);
    else if (twill__clock_now() < end)
        (void)twill__park(&team->epoch, epoch, end);
    if (!keeps)
        return true;
    atomic_fetch_sub_explicit(&team->keepers, 1, memory_order_seq_cst);
    if (twill__clock_now() < alarm)
        return true;
    twill__take_alarm(team, alarm);
    return false;
}

/* Whether this process made the team: a forked child has none of its threads. */
static inline bool twill__team_here(const twill__team *team)
{
    return twill__at_home(team->home);
}

static inline void twill__helper_main(void *helper_)
{
    twill__helper *helper = (twill__helper *)helper_;
    twill__team *team = helper->team;
    twill__thread()->team = team;
    twill__thread()->helper = helper;
    for (;;) { /* exit: closed; or a callback has forked, and this is the child */
        uint32_t epoch = atomic_load_explicit(&team->epoch, memory_order_seq_cst);
        if (twill__serve_team(team, helper->number))
            continue;
        if (atomic_load_explicit(&team->closed, memory_order_seq_cst) || !twill__team_here(team))
            break;
        /* then look again: a thief that saw no idle thread calls none */
        atomic_fetch_add_explicit(&team->idle, 1, memory_order_seq_cst);
        if (!twill__call_waits(team) &&
            /* relaxed, down to the nap, which it may spare: a park compares the epoch, after
               `parked` was raised */
            atomic_load_explicit(&team->epoch, memory_order_relaxed) == epoch &&
            !(atomic_load_explicit(&team->idle, memory_order_relaxed) -
                      atomic_load_explicit(&team->parked, memory_order_relaxed) <=
                  team->spinners &&
              twill__spin(&team->epoch, epoch, TWILL__IDLE_SPIN, 0))) {
            atomic_fetch_add_explicit(&team->parked, 1, memory_order_seq_cst);
            if (atomic_load_explicit(&team->epoch, memory_order_relaxed) == epoch)
                (void)twill__nap(team, epoch, TWILL_FOREVER);
            atomic_fetch_sub_explicit(&team->parked, 1, memory_order_seq_cst);
        }
        atomic_fetch_sub_explicit(&team->idle, 1, memory_order_seq_cst);
    }
    twill__thread()->team = NULL;
    twill__thread()->helper = NULL;
}

/* ---- a team's life ---- */

static inline void twill__team_init(twill__team *team, twill__helper *helper)
{
    unsigned cpus = twill__cpus_hint();
    memset(team, 0, sizeof *team);
    atomic_init(&team->alarm, TWILL_FOREVER);
    team->spinners = cpus - 1;
    team->home = twill__home_here();
    team->tick_rate = twill__ticks_per_us();
    team->helper = helper;
}

/* Starts threads until there are `upto`. False: one could not be started; those that could,
   help. */
static inline bool twill__team_grow(twill__team *team, unsigned upto, const twill_run *run)
{
    for (unsigned k; (k = twill__team_threads(team)) < upto;) {
        twill__helper *helper = &team->helper[k];
        memset(helper, 0, sizeof *helper);
        helper->thread.fn = twill__helper_main;
        helper->thread.arg = helper;
        twill__thread_name(&helper->thread, run->name);
        helper->thread.stack_size = run->stack_size;
        helper->thread.cpu = run->cpu_count ? run->cpus[k % run->cpu_count] : UINT_MAX;
        helper->team = team;
        helper->number = k + 1;
        if (!twill__thread_start(&helper->thread))
            return false;
        atomic_fetch_add_explicit(&team->threads, 1, memory_order_relaxed);
    }
    return true;
}

/* What its threads could not have: TWILL_REPORT_NO_... */
static inline uint32_t twill__team_flags(const twill__team *team)
{
    /* relaxed, here and below: set before a thread does anything */
    uint32_t flags = atomic_load_explicit(&team->flags, memory_order_relaxed);
    for (unsigned k = 0; team->helper && k < twill__team_threads(team); k++)
        flags |= atomic_load_explicit(&team->helper[k].thread.flags, memory_order_relaxed);
    return flags;
}

/* It looks round by itself now and then: a call that was never open does not wake it, nor does the
   token. */
static inline twill_status twill__seat_shut(_Atomic uint32_t *word, twill_until until)
{
    twill_status over;
    uint32_t seen = atomic_load_explicit(word, memory_order_seq_cst);
    while (!(seen & TWILL__SEAT_SHUT)) { /* exit: free, once the call that has it is over */
        if (seen == 0)
            atomic_compare_exchange_weak_explicit(word, &seen, TWILL__SEAT_SHUT,
                                                  memory_order_seq_cst, memory_order_seq_cst);
        else if ((over = twill__over(until)) != TWILL_OK)
            return over;
        else if (!(seen & TWILL__SEAT_BYE))
            atomic_compare_exchange_weak_explicit(word, &seen, seen | TWILL__SEAT_BYE,
                                                  memory_order_seq_cst, memory_order_seq_cst);
        else
            (void)twill__park(word, seen,
                              twill__nearer(until.deadline, twill__clock_now() + TWILL_MS(1)));
        seen = atomic_load_explicit(word, memory_order_seq_cst);
    }
    return TWILL_OK;
}

/* Lets no further call in, and waits for those that are on it: OK; TIMEOUT, CANCELLED: ask
   again. */
static inline twill_status twill__team_shut(twill__team *team, twill_until until)
{
    twill_status status = TWILL_OK;
    for (unsigned i = 0; i < TWILL__SEATS && status == TWILL_OK; i++)
        status = twill__seat_shut(&team->seat[i].word, until);
    return status;
}

/* Ends the threads, after the calls that are on it: those that come later find no seat. Returns the
   flags that its threads have raised. In a forked child there is nobody to join. */
static inline uint32_t twill__team_close(twill__team *team)
{
    twill_until forever = {0, NULL};
    uint32_t flags = 0;
    if (!twill__team_here(team))
        return 0;
    (void)twill__team_shut(team, forever);
    atomic_store_explicit(&team->closed, 1, memory_order_seq_cst);
    twill__call_helpers(team, UINT_MAX);
    for (unsigned k = 0; k < twill__team_threads(team); k++) {
        twill__thread_join(&team->helper[k].thread);
        /* after the join */
        flags |= atomic_load_explicit(&team->helper[k].thread.flags, memory_order_relaxed);
    }
    /* acquire: pairs with twill__replace. Those that it joins may leave further ones */
    for (twill__helper *fresh;
         (fresh = atomic_exchange_explicit(&team->replacements, NULL, memory_order_acquire));)
        while (fresh) {
            twill__helper *next = fresh->next;
            twill__thread_join(&fresh->thread);
            TWILL_FREE(fresh);
            fresh = next;
        }
    return flags;
}

/* ---- a call meets its helpers ---- */

/* A seat keeps the team alive until twill__release. NULL: all are taken, or the team closes. */
static inline twill__seat *twill__take_seat(twill__team *team)
{
    for (unsigned i = 0; i < TWILL__SEATS; i++) {
        uint32_t none = 0; /* the relaxed load spares RMWs that would fail */
        if (atomic_load_explicit(&team->seat[i].word, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong_explicit(&team->seat[i].word, &none, TWILL__SEAT_OWNED,
                                                    memory_order_seq_cst, memory_order_seq_cst))
            return &team->seat[i];
    }
    return NULL;
}

static inline void twill__release(twill__seat *seat)
{
    /* Shut and with nobody inside: only a closing thread may write here. A plain store spares a
       tiny call an RMW; it may wipe out the BYE of one that comes just now, which looks again by
       itself. release: pairs with the CAS of the next owner */
    if (!(atomic_load_explicit(&seat->word, memory_order_relaxed) & TWILL__SEAT_BYE)) {
        atomic_store_explicit(&seat->word, 0, memory_order_release);
    } else {
        atomic_store_explicit(&seat->word, 0, memory_order_seq_cst);
        twill__wake(&seat->word, INT_MAX);
    }
}

/* twill__team_shut if no call is on it; else false, and nothing has changed: it takes each seat as
   a call does, so that calls which come meanwhile run alone and whoever shuts waits, and gives all
   of them back if it cannot have one. */
static inline bool twill__team_try_shut(twill__team *team)
{
    bool mine[TWILL__SEATS];
    for (unsigned i = 0; i < TWILL__SEATS; i++) {
        uint32_t seen = 0;
        mine[i] =
            atomic_compare_exchange_strong_explicit(&team->seat[i].word, &seen, TWILL__SEAT_OWNED,
                                                    memory_order_seq_cst, memory_order_seq_cst);
        if (mine[i] || seen & TWILL__SEAT_SHUT)
            continue;
        while (i-- > 0) /* exit: all that came before */
            if (mine[i])
                twill__release(&team->seat[i]);
        return false;
    }
    for (unsigned i = 0; i < TWILL__SEATS; i++)
        if (mine[i] &&
            atomic_exchange_explicit(&team->seat[i].word, TWILL__SEAT_SHUT, memory_order_seq_cst) &
                TWILL__SEAT_BYE)
            twill__wake(&team->seat[i].word, INT_MAX);
    return true;
}

/* Opens the job's seat to the team. */
static inline void twill__open(twill__job *job, unsigned need)
{
    twill__team *team = job->team;
    uint32_t seat = (uint32_t)(job->seat - team->seat);
    uint64_t opened;
    int sleepers;
    /* relaxed, here and below: who comes in has seen the word; for others they are hints, which
       `opened` makes valid */
    atomic_store_explicit(&job->seat->job, job, memory_order_relaxed);
    atomic_store_explicit(&job->seat->slot, job->slot, memory_order_relaxed);
    atomic_store_explicit(&job->seat->little,
                          job->schedule == TWILL__AUTO && !job->crew &&
                              job->n - job->start <= 2 * (size_t)job->np,
                          memory_order_relaxed);
    /* a store, as in twill__release; seq_cst, since idle threads and callers around this one are
       looked at below */
    atomic_store_explicit(&job->seat->word, TWILL__SEAT_OWNED | TWILL__SEAT_OPEN,
                          memory_order_seq_cst);
    /* relaxed: hints. The look spares taking a line from those who read it */
    if (atomic_load_explicit(&team->hint, memory_order_relaxed) != seat)
        atomic_store_explicit(&team->hint, seat, memory_order_relaxed);
    opened = atomic_load_explicit(&job->seat->opened, memory_order_relaxed); /* an owner's store */
    opened = (uint64_t)(atomic_fetch_add_explicit(&team->epoch, 1, memory_order_seq_cst) + 1)
                 << 32 |
             (uint32_t)(opened + 1);
    /* relaxed: only compared with the epoch */
    atomic_store_explicit(&job->seat->opened, opened, memory_order_relaxed);
    sleepers = twill__sleepers_of(team, need);
    if (sleepers)
        twill__wake(&team->epoch, sleepers);
    if (job->parent)
        twill__rouse_callers(job->parent);
}

static inline bool twill__is_below(const twill__job *job, const twill__job *top)
{
    for (; job; job = job->parent)
        if (job == top)
            return true;
    return false;
}

/* While the caller waits: calls nested below its own, which the serial loop would run under the
   same locks. */
static inline bool twill__serve_below(twill__job *top)
{
    twill__team *team = top->team;
    for (unsigned i = 0; i < TWILL__SEATS; i++) {
        twill__job *job;
        bool served;
        if (&team->seat[i] == top->seat ||
            !(atomic_load_explicit(&team->seat[i].word, memory_order_seq_cst) & TWILL__SEAT_OPEN) ||
            !(job = twill__enter(&team->seat[i])))
            continue;
        served = twill__is_below(job, top) && twill__serve(&team->seat[i], job, UINT_MAX);
        twill__leave(&team->seat[i]);
        if (served)
            return true;
    }
    return false;
}

/* Work has come back while the caller waited: those who have left may come in again, or an item of
   several would wait behind one that sleeps. */
static inline void twill__resume(twill__job *job, twill_task *task)
{
    /* seq_cst: he takes all of it, and then looks for idle ones */
    atomic_fetch_or_explicit(&job->seat->word, TWILL__SEAT_OPEN, memory_order_seq_cst);
    twill__take_part(job, 0, task);
    atomic_fetch_and_explicit(&job->seat->word, ~TWILL__SEAT_OPEN, memory_order_seq_cst);
}

/* Waits for those who came in, and only for them. Meanwhile it runs what comes up. */
static inline void twill__meet(twill__job *job, twill_task *task, bool may_run)
{
    twill__seat *seat = job->seat;
    bool spun = false;
    uint32_t word = atomic_load_explicit(&seat->word, memory_order_seq_cst);
    if (word & TWILL__SEAT_OPEN)
        word = atomic_fetch_and_explicit(&seat->word, ~TWILL__SEAT_OPEN, memory_order_seq_cst) &
               ~TWILL__SEAT_OPEN;
    /* exit: helpers leave; what they wait for is strictly below. One that ended may have left
       work */
    while ((word & TWILL__SEAT_COUNT) || (may_run && twill__has_work(job))) {
        if (twill__left_alone(job))
            break;
        if (!(word & TWILL__SEAT_COUNT)) {
            twill__resume(job, task);
        } else if (!spun) {
            spun = true;
            twill__spin(&seat->word, word, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS);
        } else if (may_run && twill__serve_below(job)) {
            spun = false;
        } else if (may_run && twill__has_work(job)) {
            twill__resume(job, task);
            spun = false;
        } else if (word & TWILL__SEAT_WAIT) {
            twill__park(&seat->word, word, 0);
            spun = false;
        } else {
            /* then look once more */
            atomic_fetch_or_explicit(&seat->word, TWILL__SEAT_WAIT, memory_order_seq_cst);
        }
        word = atomic_load_explicit(&seat->word, memory_order_seq_cst);
    }
}

/* ---- what a header with run.pool knows of a pool ---- */

#define TWILL__POOL_LAYOUT 3
struct twill_pool {
    unsigned layout;
    twill__team *team;
};

#endif

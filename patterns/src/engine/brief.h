/* brief.h: a loop without wishes, which may be over before it needs helpers: its first items run
   with the few fields of a call that callbacks can see. Is the rest worth helpers, it goes on as a
   whole call (engine/run.h); else it has cost little more than the serial loop. */
#ifndef TWILL__ENGINE_BRIEF_H
#define TWILL__ENGINE_BRIEF_H

#include "engine/run.h"

/* A loop that was cheap a moment ago may cost so many times a helper's price before its items are
   timed by themselves: a bound of their time is what it is judged by. */
#define TWILL__BRIEF_TRUST 2

/* Whether a thread keeps the record of its last such loop on a pool. In the explorer, where ticks
   are the clock, the threads' own memory stands at one address, and tokens in it would be one
   another. */
#define TWILL__BRIEF_KEPT TWILL__TICKS

typedef struct twill__brief {
    twill__job job; /* first: task->private_ points here */
    twill__slot slot;
    twill_task task;
    twill__self *self; /* of a record that is kept, NULL: it must be set anew */
    uintptr_t key;     /* the user's function */
    /* where the rest begins, if it is worth helpers: how many, and their first chunk */
    size_t at, chunk0;
    unsigned helpers;
} twill__brief;

/* Whether nobody asks how the call went, and nothing but its items can end it. */
static inline bool twill__has_no_wishes(const twill_run *run)
{
    bool starts = run->worker_start; /* without it worker_stop is for nobody */
    uintptr_t asked = (uintptr_t)run->errors | run->errors_capacity | (uintptr_t)run->statuses |
                      (uintptr_t)run->codes | (uintptr_t)run->report | (uintptr_t)run->cpus |
                      run->cpu_count | (uintptr_t)run->until.cancel | run->workers | run->strict;
    return !(asked | starts) && twill__no_deadline(run->until.deadline) &&
           (unsigned)run->on_error <= TWILL_ON_ERROR_LOWEST;
}

/* What callbacks, and calls nested in them, may look at. The rest is not set. */
static inline __attribute__((always_inline)) void
twill__brief_init(twill__brief *brief, const twill_run *run, size_t n, twill__body_fn *body,
                  void *data, const twill__plan *plan)
{
    twill__job *job = &brief->job;
    job->call.table = twill__job_table();
    job->n = n;
    job->first = 0;
    job->unit = 1;
    job->starts = NULL;
    job->detail = job->may_end = job->settled = false;
    job->data = data;
    job->body = body;
    job->crew = NULL;
    job->run = run;
    job->policy = TWILL_ON_ERROR_LOWEST;
    job->np = plan->np < 64 ? plan->np : 64; /* `ready` is one word here */
    job->generation = 0;
    job->slot = &brief->slot;
    job->ready = &job->bits[1];
    job->outer = plan->outer;
    job->from = NULL; /* nobody else comes in */
    job->parent = plan->parent;
    job->team = plan->team;
    job->seat = plan->seat;
    atomic_init(&job->limit, SIZE_MAX);
    atomic_init(&job->stop_at, SIZE_MAX);
    atomic_init(&job->stop, 0);
    atomic_init(&job->bits[1], 1);
    twill__slot_reset(&brief->slot, NULL);
    brief->task.index = SIZE_MAX;
    brief->task.context = run->context;
    brief->task.worker = 0;
    brief->task.workers = plan->np;
    brief->task.worker_state = NULL;
    brief->task.until.deadline = run->until.deadline;
    brief->task.until.cancel = &brief->slot.token;
    brief->task.private_ = job;
}

/* Runs the items begin..end-1. True: those were all, or the last that had to run. always_inline: a
   tiny call takes two steps. */
static inline __attribute__((always_inline)) bool twill__brief_step(twill__brief *brief,
                                                                    size_t begin, size_t end)
{
    twill__job *job = &brief->job;
    brief->slot.end = end; /* for a stop in a range; `begin` is for others, and nobody is here */
    job->body(job, &brief->task, begin, end);
    return end == job->n || !twill__may_run(job, end);
}

/* Notes that this loop is cheap: judged at `now`. The next one like it runs a quarter of a worker's
   share before it looks at the ticks. */
static inline void twill__brief_cheap(const twill__brief *brief, uint64_t rate, uint64_t now)
{
    const twill__job *job = &brief->job;
    twill__self *self = brief->self;
    size_t first = job->n / brief->task.workers / 4 & ~(size_t)7;
    uint64_t price = twill__judge_price(rate, job->team != NULL);
    if (first >= 8) { /* and no more than so cheap a loop has: nothing overflows */
        self->cheap = brief->key;
        self->cheap_team = job->team;
        self->cheap_n = job->n;
        self->cheap_first = first;
        self->cheap_most = TWILL__BRIEF_TRUST * price * first / (job->n - first);
        self->ticked = now;
    }
}

/* Is it the loop that was cheap a moment ago? Then one reading of the ticks will do: what has
   passed since the last one is more than its first items took. Should it have become dear, it is
   noticed here. True: cheap again, and all has run, or all that must; else *at items have. */
static inline bool twill__brief_again(twill__brief *brief, size_t *at, uint64_t *now)
{
    twill__job *job = &brief->job;
    twill__self *self = brief->self;
    uint64_t since = self->ticked, most = self->cheap_most;
    size_t first = self->cheap_first;
    if (!since || self->cheap != brief->key || self->cheap_n != job->n ||
        self->cheap_team != job->team)
        return false;
    if (twill__brief_step(brief, 0, first))
        return true;
    *now = twill__ticks();
    *at = first;
    if (*now - since > most)
        return false;
    self->ticked = *now;
    (void)twill__brief_step(brief, first, job->n);
    return true;
}

/* From item `at` on: until they have been judged. since: when the first of them began. */
static __attribute__((noinline)) bool twill__brief_probe(twill__brief *brief, size_t at,
                                                         uint64_t since)
{
    twill__job *job = &brief->job;
    twill__judge judge;
    size_t from = at, size;
    uint64_t now;
    judge.few = twill__is_few(job->n, brief->task.workers);
    judge.hired = job->team != NULL;
    judge.helpers = brief->task.workers - 1;
    judge.rate = job->team ? job->team->tick_rate : twill__ticks_per_us();
    size = twill__probe_size(job->n, judge.few);
    brief->self->ticked = 0;
    for (;;) { /* exit: all done, or the rest is worth threads */
        if (twill__brief_step(brief, at, at + size)) /* more is left: see twill__judge_rest */
            return true;
        at += size;
        now = twill__ticks();
        judge.spent = (now - since) | 1;
        judge.items = at - from;
        judge.left = job->n - at;
        switch (twill__judge_rest(&judge)) {
        case TWILL__ALONE:
            twill__brief_cheap(brief, judge.rate, now);
            (void)twill__brief_step(brief, at, job->n);
            return true;
        case TWILL__UNSURE:
            size *= 4;
            break;
        case TWILL__SHARED:
            brief->at = at;
            brief->chunk0 = judge.chunk0;
            brief->helpers = judge.helpers;
            return false;
        }
    }
}

/* The items that the caller runs alone. True: those were all; false: the rest is worth helpers.
   always_inline: in a frame of its own a tiny call would save the registers twice. */
static inline __attribute__((always_inline)) bool twill__brief_run(twill__brief *brief)
{
    size_t at = 0;
    uint64_t since = 0;
    if (twill__brief_again(brief, &at, &since))
        return true;
    return twill__brief_probe(brief, at, since ? since : twill__ticks());
}

static inline void twill__brief_end(twill__brief *brief)
{
    twill__token *token = twill__token_of(&brief->slot.token);
    brief->self->job = brief->job.outer;
    if (twill__token_used(token))
        twill_cancel_detach(&brief->slot.token);
}

/* A callback ends the thread. */
static inline void twill__brief_ended(void *brief)
{
    twill__brief_end((twill__brief *)brief);
    twill__release(((twill__brief *)brief)->job.seat);
    ((twill__brief *)brief)->self = NULL;
}

/* On a pool: its seat must not stay taken if a callback ends the thread. */
static __attribute__((noinline)) bool twill__brief_guarded(twill__brief *brief)
{
    bool over;
    TWILL__GUARD_PUSH(twill__brief_ended, brief);
    brief->self->job = &brief->job;
    over = twill__brief_run(brief);
    TWILL__GUARD_POP(0);
    return over;
}

static __attribute__((noinline)) bool twill__brief_unguarded(twill__brief *brief)
{
    return twill__brief_run(brief);
}

/* ---- as a whole call ---- */

/* Whether it is the loop that was worth its helpers a moment ago: then they are called before the
   first item. */
static inline bool twill__brief_dear(const twill__brief *brief, size_t n, twill__plan *plan)
{
    const twill__self *self = brief->self;
    /* a loop that is noted had a team */
    if (self->dear != brief->key || self->dear_n != n || self->dear_team != plan->team)
        return false;
    plan->chunk0 = self->dear_chunk;
    plan->kept = self->dear_kept;
    plan->helpers = plan->np - 1;
    return true;
}

/* Helpers have read the record of the last such loop, and it most likely stands in the same place
   again: fetches its lines, all at once and while the seat's is on its way. Somewhere else they are
   lines of this stack, and nothing is lost. */
static inline void twill__brief_fetch(const twill__self *self)
{
    const char *job = (const char *)self->dear_job;
    for (size_t at = 0; at <= offsetof(twill__job, next); at += TWILL__FETCHED)
        twill__prefetch(job + at);
    twill__prefetch(self->dear_slot);
}

static inline void twill__brief_steps(twill__job *job, void *pass)
{
    twill__run_pass(job, (const twill__pass *)pass);
}

/* The plan by value: its address would keep it in memory */
static __attribute__((noinline)) twill_status twill__run_at_length(twill__plan plan,
                                                                   const twill_run *run,
                                                                   twill__body_fn *body, void *data,
                                                                   bool whole)
{
    twill__pass pass = {.n = plan.total, .body = body, .data = data, .whole = whole};
    return twill__run_planned(&plan, run, twill__brief_steps, &pass);
}

/* The rest, which is worth helpers. */
static __attribute__((noinline)) twill_status twill__brief_whole(const twill__brief *brief)
{
    const twill__job *job = &brief->job;
    twill__plan plan = {.outer = job->outer,
                        .team = job->team,
                        .seat = job->seat,
                        .parent = job->parent,
                        .np = brief->task.workers,
                        .total = job->n,
                        .key = brief->key,
                        .at = brief->at,
                        .chunk0 = brief->chunk0,
                        .helpers = brief->helpers};
    return twill__run_at_length(plan, job->run, job->body, job->data, job->whole);
}

/* After twill__brief_end. over: all has run, or all that must; else the rest is worth helpers. */
static inline __attribute__((always_inline)) twill_status twill__brief_answer(twill__brief *brief,
                                                                              bool over)
{
    if (!over)
        return twill__brief_whole(brief);
    if (brief->job.seat)
        twill__release(brief->job.seat);
    /* in order, by one thread: what has failed stands in no way behind a stop */
    return brief->slot.failed ? TWILL_FAILED : TWILL_OK;
}

/* ---- the loop that was cheap a moment ago, on a pool ---- */

/* A tiny call waits for its own stores, at the seat's compare-exchange and where it reads the
   ticks: most of what a record costs is to write it. So each thread keeps one, as the last call has
   left it. Only the outermost call of a thread uses it. */
static inline twill__brief *twill__brief_here(void)
{
    static _Thread_local twill__brief brief;
    return &brief;
}

/* Is it the loop that was cheap, and would be a brief call again? */
static inline bool twill__brief_is_known(const twill__self *self, const twill_run *run, size_t n,
                                         uintptr_t key)
{
    return TWILL__BRIEF_KEPT && self->ticked && self->cheap == key && self->cheap_n == n &&
           !self->job && run->pool && self->cheap_team == run->pool->team &&
           !twill__is_few(n, twill__team_threads(self->cheap_team)) &&
           twill__team_threads(self->cheap_team) > 1;
}

/* Whether the record is that of this loop: then only what its options say must be set. */
static inline bool twill__brief_fits(const twill__brief *kept, const twill__self *self, size_t n,
                                     twill__body_fn *body)
{
    return kept->self == self && kept->key == self->cheap && kept->job.body == body &&
           kept->job.n == n && kept->job.team == self->cheap_team &&
           kept->task.workers == twill__team_threads(self->cheap_team);
}

/* Whether the call has left the record as it was: no item failed, stopped, or did anything to its
   token. */
static inline bool twill__brief_is_clean(const twill__brief *kept)
{
    const twill__slot *slot = &kept->slot;
    const twill__token *token = twill__token_of(&slot->token);
    /* relaxed: nobody else is here */
    return atomic_load_explicit(&kept->job.limit, memory_order_relaxed) == SIZE_MAX &&
           atomic_load_explicit(&kept->job.stop_at, memory_order_relaxed) == SIZE_MAX &&
           slot->fail_index == SIZE_MAX && !(slot->failed | slot->said) &&
           !twill__token_used(token) && !atomic_load_explicit(&token->state, memory_order_relaxed);
}

static __attribute__((noinline)) void twill__brief_renew(twill__brief *kept, twill__self *self,
                                                         const twill_run *run, size_t n,
                                                         twill__body_fn *body)
{
    twill__plan plan = {.team = self->cheap_team, .np = twill__team_threads(self->cheap_team)};
    twill__brief_init(kept, run, n, body, NULL, &plan);
    kept->self = self;
    kept->key = self->cheap;
}

/* With a seat. */
static inline __attribute__((always_inline)) twill_status
twill__run_known(twill__self *self, twill__seat *seat, const twill_run *run, size_t n,
                 twill__body_fn *body, void *data, bool whole)
{
    twill__brief *kept = twill__brief_here();
    bool over, clean;
    if (!twill__brief_fits(kept, self, n, body))
        twill__brief_renew(kept, self, run, n, body);
    kept->job.run = run;
    kept->job.data = data;
    kept->job.seat = seat;
    kept->job.whole = whole;
    kept->task.context = run->context;
    kept->task.until.deadline = run->until.deadline;
    over = twill__brief_guarded(kept);
    clean = twill__brief_is_clean(kept);
    twill__brief_end(kept);
    if (!clean)
        kept->self = NULL;
    return twill__brief_answer(kept, over);
}

/* Any other one. */
static __attribute__((noinline)) twill_status twill__run_anew(const twill_run *run, size_t n,
                                                              uintptr_t key, twill__body_fn *body,
                                                              void *data, bool whole)
{
    twill__self *self = twill__thread_here();
    twill__brief brief;
    twill__plan plan;
    bool over;
    brief.self = self;
    brief.key = key;
    if (self->dear == key)
        twill__brief_fetch(self);
    twill__make_plan(&plan, self, run, 0, n);
    if (run->pool && !twill__plan_seat(&plan))
        return TWILL_CLOSED;
    if (plan.np == 1 || (plan.team && twill__is_few(n, plan.np)) ||
        twill__brief_dear(&brief, n, &plan)) {
        plan.key = key;
        return twill__run_at_length(plan, run, body, data, whole);
    }
    twill__brief_init(&brief, run, n, body, data, &plan);
    brief.job.whole = whole;
    over = brief.job.seat ? twill__brief_guarded(&brief) : twill__brief_unguarded(&brief);
    twill__brief_end(&brief);
    return twill__brief_answer(&brief, over);
}

/* key: the user's function. */
static inline twill_status twill__run_brief(const twill_run *run, size_t n, uintptr_t key,
                                            twill__body_fn *body, void *data, bool whole)
{
    twill__self *self = twill__thread_here();
    twill__seat *seat;
    twill_status status = run->pool ? twill__check_pool(run->pool) : TWILL_OK;
    if (status != TWILL_OK)
        return status;
    if (twill__brief_is_known(self, run, n, key) && (seat = twill__take_seat(self->cheap_team)))
        return twill__run_known(self, seat, run, n, body, data, whole);
    return twill__run_anew(run, n, key, body, data, whole);
}

#endif

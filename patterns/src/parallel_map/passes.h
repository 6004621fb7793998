/* passes.h: what calls of several passes share. */
#ifndef TWILL__PARALLEL_MAP_PASSES_H
#define TWILL__PARALLEL_MAP_PASSES_H

#include "parallel_map/loops.h"

/* ---- calls of several passes ---- */

/* Whether the call will answer TWILL_OK, once its passes over the items are over. */
static inline bool twill__all_well(twill__job *job, size_t total)
{
    /* relaxed: after the join */
    size_t stop_at = atomic_load_explicit(&job->stop_at, memory_order_relaxed);
    uint32_t stop = atomic_load_explicit(&job->stop, memory_order_relaxed);
    size_t ended = 0, own = job->slot[0].done + job->slot[0].failed;
    for (unsigned worker = 0; worker < job->np; worker++) {
        const twill__slot *slot = &job->slot[worker];
        if (!(atomic_load_explicit(&job->ready[worker / 64], memory_order_seq_cst) &
              twill__bit(worker)))
            continue;
        if (slot->failed && slot->low <= stop_at)
            return false;
        ended += slot->done + slot->failed;
    }
    if (own != total && twill__left_alone(job)) /* as in twill__answer */
        return false;
    return ended == total ? stop != TWILL_FAILED /* FIRST, LIMIT: FAILED in any case */
                          : !stop;
}

/* After the last pass over the items, before a result is given: likewise. If items were skipped,
   and the token has fired or the deadline passed by now, they may have given up because of it; if
   not by now, it comes too late. */
static inline bool twill__ends_well(twill__job *job, size_t total)
{
    /* relaxed: after the join */
    if (job->may_end && atomic_load_explicit(&job->stop_at, memory_order_relaxed) == SIZE_MAX)
        (void)twill__stopped(job, twill__clock_now());
    if (!twill__all_well(job, total))
        return false;
    job->may_end = false; /* twill__answer does not look again */
    job->settled = true;
    return true;
}

/* Between passes, if a callback has said stop: what lies below goes on, and a combine that looks
   must not find itself told to give up. */
static inline void twill__go_on_below(twill__job *job)
{
    /* relaxed: nobody else is here */
    if (atomic_load_explicit(&job->stop_at, memory_order_relaxed) == SIZE_MAX)
        return;
    atomic_store_explicit(&job->limit, SIZE_MAX, memory_order_relaxed);
    twill__renew(&job->slot[0], SIZE_MAX);
}

/* A pass after the last item is done, when token and deadline come too late: it runs to its end. */
static inline void twill__run_deaf(twill__job *job, const twill__pass *pass)
{
    /* nobody else is here; opening publishes */
    memset(&job->until, 0, sizeof job->until);
    atomic_store_explicit(&job->stop, 0, memory_order_relaxed);
    twill__run_pass(job, pass);
    job->until = job->run->until;
}

/* Whether block k of a pass over blocks is to be run. */
static inline bool twill__block_may_run(twill__job *job, size_t k)
{
    bool dated = job->may_end && !twill__no_deadline(job->until.deadline);
    return twill__may_run(job, k) &&
           !(job->may_end && twill__stopped(job, dated ? twill__clock_now() : 0));
}

/* Whether helpers have come in before: the work is known to be worth them. */
static inline bool twill__was_shared(const twill__job *job)
{
    return !(job->flags & TWILL_REPORT_SERIAL);
}

/* Keeps the calling thread as the only one from here on. */
static inline void twill__run_alone(twill__job *job)
{
    ((twill__call_record *)(void *)job)->want = 0;
}

static inline size_t twill__round_up(size_t size, size_t to)
{
    return size > SIZE_MAX - to ? SIZE_MAX / to * to : (size + to - 1) / to * to;
}

static inline char *twill__aligned(char *memory)
{
    return memory + (TWILL__LINE - (uintptr_t)memory % TWILL__LINE) % TWILL__LINE;
}

/* A task for callbacks outside of the call's workers. */
static inline twill_task twill__task_outside(const twill_run *run)
{
    twill_task task = {SIZE_MAX, run->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    return task;
}

#endif

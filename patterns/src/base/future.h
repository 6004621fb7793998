/* future.h: the answer of a task that runs elsewhere: wait for it, cancel it, let it go. */
#ifndef TWILL_BASE_FUTURE_H
#define TWILL_BASE_FUTURE_H

#include "base/run.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A twill_future is a handle: copy it freely, {0} is none. It is good until it is released, also
   when the object that gave it (a pool, a batcher) is gone. All functions may be called by any
   thread. A handle of {0} is TWILL_INVALID, a released one TWILL_STALE (as long as its object, or
   another future of it, is there), one of a parent process TWILL_FORKED.

   A wait says how the TASK ended: TWILL_OK, or TWILL_FAILED with the rest in *outcome: FAILED and
   the task's code, TIMEOUT, CANCELLED, DROPPED, LOST. TWILL_TIMEOUT and TWILL_CANCELLED as the
   wait's own answer speak of the wait alone: ask again. A task that has ended answers at once, also
   past the deadline. `result` (NULL: not wanted) gets the bytes of the task's result if its
   callback has returned, else it is left alone; `outcome` may be NULL, too. Any number of threads
   may wait, any number of times.

   A worker that waits for a task that nobody has begun runs that task itself, and never another
   one. TWILL_DEADLOCK: the wait could never end, because what it waits for waits for it. */
TWILL__DECL twill_status twill_future_wait(twill_future future, void *result,
                                           twill_outcome *outcome);
/* TWILL_EMPTY: not yet. */
TWILL__DECL twill_status twill_future_try_wait(twill_future future, void *result,
                                               twill_outcome *outcome);
TWILL__DECL twill_status twill_future_wait_until(twill_future future, void *result,
                                                 twill_outcome *outcome, twill_until until);

/* Until one of n has ended: *which is its place (the lowest, if several have), and it is neither
   taken nor released. TWILL_OK however it ended. n == 0: TWILL_INVALID. More than 16: one
   allocation, TWILL_NO_MEMORY. */
TWILL__DECL twill_status twill_future_wait_any(const twill_future *futures, size_t n, size_t *which,
                                               twill_until until);
/* Until all of n have ended: TWILL_OK, or TWILL_FAILED if any ended otherwise. n == 0: OK. */
TWILL__DECL twill_status twill_future_wait_all(const twill_future *futures, size_t n,
                                               twill_until until);

/* Not begun: it never will be, and ends CANCELLED now. Running: its token fires, and how it ends is
   its own affair. Ended, or cancelled before: nothing. */
TWILL__DECL twill_status twill_future_cancel(twill_future future);

/* Gives the handle back; the task goes on. {0} or released before: nothing. */
TWILL__DECL void twill_future_release(twill_future future);

#ifdef __cplusplus
}
#endif
#endif

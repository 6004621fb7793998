/* cancel.h: the cancel token, which ends every kind of wait. */
#ifndef TWILL__BASE_CANCEL_H
#define TWILL__BASE_CANCEL_H

#include "base/time.h"

#ifdef __cplusplus
extern "C" {
#endif

struct twill_task;

/* A cancel token. The caller owns it; zeroed, it is ready and has no parent. It must outlive every
   call that it is given to, and its children. All functions may be called by any thread, but for
   _init. */
struct twill_cancel {
    TWILL_PRIVATE(8);
};

/* Makes `cancel` ready, as a child of `parent` (NULL: none). Costs nothing until somebody waits on
   it. */
TWILL__DECL void twill_cancel_init(twill_cancel *cancel, twill_cancel *parent);

/* Before the memory of a token goes: leaves the parent and waits for a fire that is calling its
   hooks in another thread. Children first. A token without parent needs it only when its own hooks
   may be running; a twill_cancel_fire on this very token must have returned. Zeroed and never used:
   harmless. NULL: nothing. */
TWILL__DECL void twill_cancel_detach(twill_cancel *cancel);

/* Fires the token and its children: wakes every wait below it, then calls the hooks. The first
   reason stays; a reason of 0 counts as 1. Fired already: nothing more happens. */
TWILL__DECL void twill_cancel_fire(twill_cancel *cancel, int reason);

/* Async-signal-safe: stores the reason and wakes nobody. Polls see it at once, waits that begin
   later too; one that sleeps already does not, until somebody fires the token. For signals use
   graceful_shutdown. */
TWILL__DECL void twill_cancel_request(twill_cancel *cancel, int reason);

/* Whether this token or one above it has fired; NULL: false. Never blocks. */
TWILL__DECL bool twill_cancel_fired(const twill_cancel *cancel);
/* Its reason, 0 while it has not fired. */
TWILL__DECL int twill_cancel_reason(const twill_cancel *cancel);

/* A callback for the moment of firing; the caller owns the memory. `fn` runs once, in the thread
   that fires, and must return. NULL as token, below: one that never fires. */
typedef struct twill_cancel_hook {
    void (*fn)(int reason, const struct twill_task *task); /* task->context is the hook's */
    void *context;
    TWILL_PRIVATE(4);
} twill_cancel_hook;

/* Adds a hook; when the token has fired already, fn runs at once, in this thread. */
TWILL__DECL void twill_cancel_add_hook(twill_cancel *cancel, twill_cancel_hook *hook);
/* After it fn neither runs nor will run: it waits for one that runs in another thread (not for its
   own caller). */
TWILL__DECL void twill_cancel_remove_hook(twill_cancel *cancel, twill_cancel_hook *hook);

#ifdef __cplusplus
}
#endif
#endif

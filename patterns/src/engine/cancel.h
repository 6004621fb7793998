/* cancel.h: waiting and cancelling: one protocol for every wait of the library. docs/internals.md
   argues it. */
#ifndef TWILL__ENGINE_CANCEL_H
#define TWILL__ENGINE_CANCEL_H

#include "engine/chain.h"
#include "engine/lock.h"

/* ---- lists ---- */

/* A place in a token's list: of a waiting thread, a hook, or a child token. Guarded by that token's
   lock; `linked` is also read without it, as a hint. */
struct twill__link;
/* a pointer in such storage; a struct, since gcc 12 -flto crashes on less */
typedef struct TWILL__VIEW twill__place {
    struct twill__link *link;
} twill__place;
typedef struct TWILL__VIEW twill__link {
    twill__place next, *previous;
    /* while linked; a hook that runs: the generation it runs in */
    uint32_t kind;
    _Atomic uint32_t linked; /* 0, or the generation of the process that linked it */
} twill__link;
enum { TWILL__LINK_NODE = 1, TWILL__LINK_HOOK, TWILL__LINK_CHILD };

static inline void twill__link_in(twill__place *head, twill__link *link, uint32_t kind)
{
    link->kind = kind;
    link->next = *head;
    link->previous = head;
    if (link->next.link)
        link->next.link->previous = &link->next;
    head->link = link;
    /* pairs with the acquire in twill__link_up */
    atomic_store_explicit(&link->linked, twill__generation(), memory_order_release);
}

static inline void twill__link_out(twill__link *link)
{
    *link->previous = link->next;
    if (link->next.link)
        link->next.link->previous = link->previous;
    /* read back under the lock, or as a hint */
    atomic_store_explicit(&link->linked, 0, memory_order_relaxed);
}

/* A waiting thread, on its own stack. `word` alone decides how the wait ends; the rest is guarded
   by the object. */
typedef struct twill__node {
    _Atomic uint32_t word;
    int answer; /* the object's, written before GRANTED */
    void *value;
    struct twill__node *next, *previous;
    twill__link in_token;
} twill__node;
enum {
    TWILL__GRANTED = 1 /* the object decided */,
    TWILL__LEAVING = 2 /* the waiter decided */,
    TWILL__NUDGED = 4 /* a token fired */
};

typedef struct twill__list { /* in order of arrival */
    twill__node *first, *last;
} twill__list;

static inline void twill__node_init(twill__node *node)
{
    memset(node, 0, sizeof *node);
    /* nobody else knows it yet */
    atomic_store_explicit(&node->word, 0, memory_order_relaxed);
}

static inline void twill__list_append(twill__list *list, twill__node *node)
{
    TWILL__CHAIN_IN(list->first, list->last, list->last, node, previous, next);
}

static inline void twill__list_remove(twill__list *list, twill__node *node)
{
    TWILL__CHAIN_OUT(list->first, list->last, node, previous, next);
}

/* Under the object's lock, the answer written: true: the node is granted, unlinked, and no longer
   ours; after unlocking wake the address of its word (take it before). False: it is leaving, and
   unlinks itself. */
static inline bool twill__grant(twill__list *list, twill__node *node)
{
    /* a shortcut; the RMW decides */
    if (atomic_load_explicit(&node->word, memory_order_relaxed) & TWILL__LEAVING)
        return false;
    twill__list_remove(list, node);
    /* acq_rel: pairs with the waiter's load of the word and its fetch_or(LEAVING) */
    if (atomic_fetch_or_explicit(&node->word, TWILL__GRANTED, memory_order_acq_rel) &
        TWILL__LEAVING) {
        twill__list_append(list, node);
        return false;
    }
    return true;
}

/* Under the object's lock: answers and wakes all who wait; one that leaves is passed. */
static inline void twill__answer_all(twill__list *list, int answer)
{
    for (twill__node *node = list->first, *next; node; node = next) {
        /* ends: one that leaves is put at the end once */
        _Atomic uint32_t *word = &node->word;
        next = node->next;
        node->answer = answer;
        if (twill__grant(list, node))
            twill__wake(word, 1);
    }
}

/* Grants whoever waits in a list that only this lock guards, whether leaving or not. */
static inline void twill__grant_all(twill__list *list)
{
    while (list->first) {
        twill__node *node = list->first;
        _Atomic uint32_t *word = &node->word;
        twill__list_remove(list, node);
        /* pairs with twill__await */
        atomic_fetch_or_explicit(word, TWILL__GRANTED, memory_order_acq_rel);
        twill__wake(word, 1);
    }
}

/* Waits for GRANTED and nothing else: for waits that are sure to end. */
static inline void twill__await(twill__node *node)
{
    for (;;) {
        /* pairs with the grant */
        uint32_t word = atomic_load_explicit(&node->word, memory_order_acquire);
        if (word & TWILL__GRANTED)
            return;
        if (!twill__spin(&node->word, word, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS))
            twill__park(&node->word, word, 0);
    }
}

/* ---- the token ---- */

typedef struct twill__firing { /* on the stack of the thread that calls hooks */
    pthread_t thread; /* not its number: another copy of the library may give it another one */
    bool hook_gone, token_gone; /* what its own hook took away meanwhile */
    twill__list waiters;        /* who waits for the hook, or the whole firing, to end */
} twill__firing;

typedef struct TWILL__VIEW twill__token {
    twill__link me; /* in the parent's list */
    struct twill__token *parent;
    twill__place head; /* waiting threads, hooks, children */
    twill__firing *firing;
    _Atomic uint32_t lock;
    _Atomic int32_t state;       /* 0, or the reason */
    _Atomic uint32_t generation; /* of the process that used it last; 0: never used */
    uint32_t reserved;
} twill__token;
_Static_assert(sizeof(twill__token) <= sizeof(twill_cancel), "the public token is too small");
_Static_assert(_Alignof(twill__token) <= _Alignof(twill_cancel),
               "the public token is aligned too little");

typedef struct TWILL__VIEW twill__hook {
    void (*fn)(int reason, const twill_task *task);
    void *context;
    twill__link link;
    twill__firing *firing;
} twill__hook;
_Static_assert(sizeof(twill__hook) <= sizeof(twill_cancel_hook), "the public hook is too small");
_Static_assert(offsetof(twill_cancel_hook, private_words) <= offsetof(twill__hook, link),
               "the hook's head");

static inline bool twill__fired_here(const twill__firing *firing)
{
    return pthread_equal(firing->thread, pthread_self());
}

static inline twill__token *twill__token_of(const twill_cancel *cancel)
{
    return (twill__token *)(uintptr_t)cancel;
}

/* Of a token of an older process nothing is left: its lists are of threads that are not here. */
static inline void twill__token_adopt(twill__token *token)
{
    if (twill__adopt(&token->generation)) {
        atomic_store_explicit(&token->lock, 0, memory_order_relaxed);
        atomic_store_explicit(&token->me.linked, 0, memory_order_relaxed);
        token->head.link = NULL;
        token->firing = NULL;
        twill__adopted(&token->generation);
    }
}

/* Whether anybody ever locked it: only then can it be linked, or be firing. */
static inline bool twill__token_used(const twill__token *token)
{
    /* pairs with twill__adopted */
    return atomic_load_explicit(&token->generation, memory_order_acquire) != 0;
}

static inline void twill__token_lock(twill__token *token)
{
    twill__token_adopt(token);
    twill__lock(&token->lock);
}

/* The reason, or 0. A reason found above is stored below, so that it never changes for one who has
   seen it. */
static inline int twill__token_poll(twill__token *token)
{
    for (twill__token *t = token; t; t = t->parent) {
        /* pairs with fire and request */
        int32_t reason = atomic_load_explicit(&t->state, memory_order_acquire);
        if (!reason)
            continue;
        int32_t none = 0;
        if (t != token &&
            !atomic_compare_exchange_strong_explicit(&token->state, &none, reason,
                                                     memory_order_acq_rel, memory_order_acquire))
            reason = none;
        return reason;
    }
    return 0;
}

/* Links a token into its parent, the top of the chain first: whoever fires above then finds what is
   below. */
static inline void twill__link_up(twill__token *token)
{
    twill__token *parent = token->parent;
    if (!parent)
        return;
    twill__token_adopt(token);
    /* pairs with twill__link_in */
    if (atomic_load_explicit(&token->me.linked, memory_order_acquire))
        return;
    twill__link_up(parent);
    twill__token_lock(parent);
    if (!atomic_load_explicit(&token->me.linked, memory_order_relaxed) &&
        !twill__token_poll(parent))
        twill__link_in(&parent->head, &token->me, TWILL__LINK_CHILD);
    twill__unlock(&parent->lock);
}

/* ---- firing ---- */

/* Under the token's lock: tells the waiting thread; its node is not touched after the fetch_or. */
static inline void twill__nudge(twill__link *link)
{
    _Atomic uint32_t *word =
        &((twill__node *)(void *)((char *)link - offsetof(twill__node, in_token)))->word;
    twill__link_out(link);
    /* pairs with the load in twill__wait */
    atomic_fetch_or_explicit(word, TWILL__NUDGED, memory_order_acq_rel);
    twill__wake(word, 1);
}

/* Pass 1, under the token's lock: every wait below is told before any hook runs. No user code. */
static inline void twill__tell(twill__token *token, int reason)
{
    int32_t none = 0;
    /* release: pairs with the acquire in poll. acquire: pairs with a request: hooks here and below
       are called with its reason */
    if (!atomic_compare_exchange_strong_explicit(&token->state, &none, reason, memory_order_acq_rel,
                                                 memory_order_acquire))
        /* requested here before: what is below hears the nearest reason */
        reason = none;
    for (twill__link *link = token->head.link, *next; link; link = next) {
        next = link->next.link;
        if (link->kind == TWILL__LINK_NODE) {
            twill__nudge(link);
        } else if (link->kind == TWILL__LINK_CHILD) {
            twill__token *child = (twill__token *)(void *)link;
            twill__token_lock(child);
            twill__tell(child, reason);
            twill__unlock(&child->lock);
        }
    }
}

/* Calls one hook without the lock. False: the hook took the token away. A hook must return: one
   that ends its thread leaves whoever waits for it waiting. */
static inline bool twill__call_hook(twill__token *token, twill__hook *hook, twill__firing *firing)
{
    int reason = atomic_load_explicit(&token->state, memory_order_relaxed); /* under the lock */
    twill_task task = {SIZE_MAX, hook->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
    hook->firing = firing;
    hook->link.kind = twill__generation();
    firing->hook_gone = false;
    twill__unlock(&token->lock);
    hook->fn(reason, &task);
    if (firing->token_gone)
        return false;
    twill__token_lock(token);
    if (!firing->hook_gone)
        hook->firing = NULL;
    twill__grant_all(&firing->waiters);
    return true;
}

/* Pass 2, called with the token locked and token->firing == firing: the hooks, this token's and
   those below. It ends early when the token is made ready again (a team does so for a worker that
   goes on to a lower item). */
static inline void twill__drain(twill__token *token, twill__firing *firing)
{
    twill__link *link;
    /* under the lock */
    while ((link = token->head.link) && atomic_load_explicit(&token->state, memory_order_relaxed)) {
        if (link->kind == TWILL__LINK_NODE) {
            twill__nudge(link);
        } else if (link->kind == TWILL__LINK_HOOK) {
            twill__hook *hook = (twill__hook *)(void *)((char *)link - offsetof(twill__hook, link));
            twill__link_out(link);
            if (!twill__call_hook(token, hook, firing))
                return;
        } else {
            twill__token *child = (twill__token *)(void *)link;
            twill__firing below = {firing->thread, false, false, {NULL, NULL}};
            twill__link_out(link);
            twill__token_lock(child);
            if (child->firing) {
                twill__unlock(&child->lock);
                continue;
            }
            child->firing = &below; /* pins it: a detach waits */
            twill__unlock(&token->lock);
            twill__drain(child, &below);
            if (firing->token_gone) /* a hook below has taken this token away, too */
                return;
            twill__token_lock(token);
        }
    }
    token->firing = NULL;
    twill__grant_all(&firing->waiters);
    twill__unlock(&token->lock);
}

/* Fires if `begin` is NULL, or, looked at under the lock, *begin is an item from `least` on
   (SIZE_MAX: none). */
static inline void twill__fire(twill__token *token, int reason, const _Atomic size_t *begin,
                               size_t least)
{
    twill__firing firing = {pthread_self(), false, false, {NULL, NULL}};
    int earlier;
    twill__token_lock(token);
    if (begin) {
        /* written under this lock when it goes down */
        size_t at = atomic_load_explicit(begin, memory_order_relaxed);
        if (at == SIZE_MAX || at < least) {
            twill__unlock(&token->lock);
            return;
        }
    }
    earlier = twill__token_poll(token);
    twill__tell(token, earlier ? earlier : reason);
    if (token->firing) {
        twill__unlock(&token->lock);
        return;
    }
    token->firing = &firing;
    twill__drain(token, &firing);
}

/* Under the token's lock: until the other thread that fires it has come to the end of a hook, or of
   all. */
static inline void twill__wait_firing(twill__token *token)
{
    twill__node me;
    twill__node_init(&me);
    TWILL_ASSERT(token->firing);
    twill__list_append(&token->firing->waiters, &me);
    twill__unlock(&token->lock);
    twill__await(&me);
    twill__token_lock(token);
}

/* ---- the public functions ---- */

TWILL__WEAK void twill_cancel_init(twill_cancel *cancel, twill_cancel *parent)
{
    twill__token *token = twill__token_of(cancel);
    memset(token, 0, sizeof *token);
    /* relaxed: nobody else knows it yet; others may have known what stood here before */
    atomic_store_explicit(&token->lock, 0, memory_order_relaxed);
    atomic_store_explicit(&token->state, 0, memory_order_relaxed);
    atomic_store_explicit(&token->generation, 0, memory_order_relaxed);
    atomic_store_explicit(&token->me.linked, 0, memory_order_relaxed);
    token->parent = twill__token_of(parent);
}

/* Leaves the parent, and waits for a fire that calls hooks in another thread. The pointer to the
   parent stays: whoever still fires this very token may read it. */
static inline void twill__token_leave(twill__token *token)
{
    twill__token *parent = token->parent;
    if (!twill__token_used(token))
        return;
    if (parent) {
        twill__token_adopt(token);
        twill__token_lock(parent);
        /* under the lock */
        if (atomic_load_explicit(&token->me.linked, memory_order_relaxed))
            twill__link_out(&token->me);
        twill__unlock(&parent->lock);
    }
    twill__token_lock(token);
    while (token->firing && !twill__fired_here(token->firing))
        twill__wait_firing(token); /* exit: hooks end */
    if (token->firing) { /* by us, in a hook, after which the firing looks at its own frame alone */
        token->firing->token_gone = true;
        token->firing = NULL;
    }
    twill__unlock(&token->lock);
}

TWILL__WEAK void twill_cancel_detach(twill_cancel *cancel)
{
    twill__token *token = twill__token_of(cancel);
    if (!token)
        return;
    twill__token_leave(token);
    token->parent = NULL;
}

TWILL__WEAK void twill_cancel_fire(twill_cancel *cancel, int reason)
{
    if (cancel)
        twill__fire(twill__token_of(cancel), reason ? reason : 1, NULL, 0);
}

TWILL__WEAK void twill_cancel_request(twill_cancel *cancel, int reason)
{
    int32_t none = 0;
    if (cancel) /* acq_rel: pairs with the acquire in poll */
        atomic_compare_exchange_strong_explicit(&twill__token_of(cancel)->state, &none,
                                                reason ? reason : 1, memory_order_acq_rel,
                                                memory_order_relaxed);
}

TWILL__WEAK bool twill_cancel_fired(const twill_cancel *cancel)
{
    return cancel && twill__token_poll(twill__token_of(cancel)) != 0;
}

TWILL__WEAK int twill_cancel_reason(const twill_cancel *cancel)
{
    return cancel ? twill__token_poll(twill__token_of(cancel)) : 0;
}

TWILL__WEAK void twill_cancel_add_hook(twill_cancel *cancel, twill_cancel_hook *public_hook)
{
    twill__token *token = twill__token_of(cancel);
    twill__hook *hook = (twill__hook *)(void *)public_hook;
    int reason;
    if (!token) /* a token that never fires */
        return;
    twill__link_up(token);
    hook->firing = NULL;
    /* ours alone until it is linked */
    atomic_store_explicit(&hook->link.linked, 0, memory_order_relaxed);
    twill__token_lock(token);
    reason = twill__token_poll(token);
    if (!reason)
        twill__link_in(&token->head, &hook->link, TWILL__LINK_HOOK);
    twill__unlock(&token->lock);
    if (reason) {
        twill_task task = {SIZE_MAX, hook->context, UINT_MAX, 0, NULL, {0, NULL}, NULL};
        hook->fn(reason, &task);
    }
}

TWILL__WEAK void twill_cancel_remove_hook(twill_cancel *cancel, twill_cancel_hook *public_hook)
{
    twill__token *token = twill__token_of(cancel);
    twill__hook *hook = (twill__hook *)(void *)public_hook;
    uint32_t now = twill__generation();
    if (!token)
        return;
    twill__token_lock(token);
    /* under the lock */
    if (atomic_load_explicit(&hook->link.linked, memory_order_relaxed) == now) {
        twill__link_out(&hook->link);
    } else {
        while (hook->firing) { /* exit: the hook ends */
            /* it runs in the parent process, not here; or its token was detached in a hook, and the
               firing may be gone */
            if (hook->link.kind != now || token->firing != hook->firing) {
                hook->firing = NULL;
                break;
            }
            if (twill__fired_here(hook->firing)) {
                hook->firing->hook_gone = true;
                hook->firing = NULL;
                break;
            }
            twill__wait_firing(token);
        }
    }
    twill__unlock(&token->lock);
}

/* ---- THE wait ---- */

static inline twill_ns twill__nearer(twill_ns a, twill_ns b)
{
    return twill__no_deadline(a) ? b : twill__no_deadline(b) ? a : a < b ? a : b;
}

static inline bool twill__expired(twill_ns deadline)
{
    return !twill__no_deadline(deadline) && twill__clock_now() >= deadline;
}

/* Likewise; the instant is known, and recent. */
static inline bool twill__past(twill_ns deadline, twill_ns now)
{
    return !twill__no_deadline(deadline) && now >= deadline;
}

/* Whether nothing ends it but what it waits for. */
static inline bool twill__for_ever(twill_until until)
{
    return !until.cancel && twill__no_deadline(until.deadline);
}

/* A wait until then: is it over already? The token comes first. */
static inline twill_status twill__over(twill_until until)
{
    if (until.cancel && twill_cancel_fired(until.cancel))
        return TWILL_CANCELLED;
    return twill__expired(until.deadline) ? TWILL_TIMEOUT : TWILL_OK;
}

/* The node stands in its object's list already (or in none). TWILL_OK: granted, and the object is
   not touched again. TIMEOUT, CANCELLED: the caller locks the object and unlinks the node. A
   deadline that finds the token fired hides behind it, whether its firer has come this far or
   not. */
static inline twill_status twill__wait(twill__node *node, twill_until until)
{
    twill__token *token = twill__token_of(until.cancel);
    twill_status status = TWILL_OK;
    bool listed = false;
    if (twill__spin(&node->word, 0, TWILL__SPIN_WAIT, TWILL__SPIN_YIELDS) &&
        /* pairs with the grant */
        (atomic_load_explicit(&node->word, memory_order_acquire) & TWILL__GRANTED))
        return TWILL_OK;
    if (token) {
        twill__link_up(token);
        twill__token_lock(token);
        /* under the lock: or a fire between look and link is missed */
        if (twill__token_poll(token)) {
            status = TWILL_CANCELLED;
        } else {
            twill__link_in(&token->head, &node->in_token, TWILL__LINK_NODE);
            listed = true;
        }
        twill__unlock(&token->lock);
    }
    while (status == TWILL_OK) { /* exit: granted, nudged, or the deadline */
        /* pairs with grant and nudge */
        uint32_t word = atomic_load_explicit(&node->word, memory_order_acquire);
        if (word & TWILL__GRANTED)
            break;
        if (word & TWILL__NUDGED)
            status = TWILL_CANCELLED;
        else if (!twill__park(&node->word, word, until.deadline))
            status = TWILL_TIMEOUT;
    }
    /* acq_rel: pairs with the fetch_or of grant and nudge; the first one decides */
    if (status != TWILL_OK) {
        uint32_t word = atomic_fetch_or_explicit(&node->word, TWILL__LEAVING, memory_order_acq_rel);
        if (word & TWILL__GRANTED)
            status = TWILL_OK;
        else if ((word & TWILL__NUDGED) || twill_cancel_fired(until.cancel))
            status = TWILL_CANCELLED;
    }
    /* acquire: pairs with the nudge, whose last access to the node this is */
    if (listed && !(atomic_load_explicit(&node->word, memory_order_acquire) & TWILL__NUDGED)) {
        /* NUDGED: the firer has unlinked it, and the token may be gone */
        twill__token_lock(token);
        /* under the lock */
        if (atomic_load_explicit(&node->in_token.linked, memory_order_relaxed))
            twill__link_out(&node->in_token);
        twill__unlock(&token->lock);
    }
    return status;
}

/* The same until `sooner`, an instant not after the deadline at which the caller has to look again:
   EMPTY. */
static inline twill_status twill__wait_sooner(twill__node *node, twill_ns sooner, twill_until until)
{
    twill_status status = twill__wait(node, (twill_until){sooner, until.cancel});
    return status == TWILL_TIMEOUT && !twill__expired(until.deadline) ? TWILL_EMPTY : status;
}

/* ---- time ---- */

TWILL__WEAK twill_ns twill_now(void)
{
    return twill__clock_now();
}

TWILL__WEAK unsigned twill_cpus(void)
{
    return twill__cpus_now();
}

TWILL__WEAK twill_until twill_within_or_cancelled(twill_ns ns, twill_cancel *cancel)
{
    twill_until until = {0, cancel};
    twill_ns now;
    if (ns == TWILL_FOREVER)
        return until;
    now = twill__clock_now();
    until.deadline = ns <= 0 ? 1 : ns >= TWILL_FOREVER - now ? TWILL_FOREVER - 1 : now + ns;
    return until;
}

TWILL__WEAK twill_until twill_within(twill_ns ns)
{
    return twill_within_or_cancelled(ns, NULL);
}

TWILL__WEAK twill_until twill_until_cancelled(twill_cancel *cancel)
{
    return twill_within_or_cancelled(TWILL_FOREVER, cancel);
}

TWILL__WEAK twill_status twill_sleep(twill_until until)
{
    twill__node me;
    twill_status status;
    if (twill__for_ever(until))
        return TWILL_DEADLOCK;
    if (twill__expired(until.deadline))
        return TWILL_OK;
    if (twill_cancel_fired(until.cancel))
        return TWILL_CANCELLED;
    twill__node_init(&me);
    status = twill__wait(&me, until);
    return twill__expired(until.deadline) ? TWILL_OK : status; /* slept enough: a success */
}

#endif

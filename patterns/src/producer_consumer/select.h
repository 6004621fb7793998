/* select.h: one of several pushes and pops. */
#ifndef TWILL__QUEUE_SELECT_H
#define TWILL__QUEUE_SELECT_H

#include "producer_consumer/calls.h"

enum { TWILL__SELECT_SMALL = 16 };

typedef struct twill__select {
    twill_queue_case *cases;
    twill__waiter *waiters; /* n == 0: the case is out */
    size_t n, start, chosen, live;
    bool inside, nap; /* nap: see twill__queue_naps */
    bool ours;        /* this thread has taken its own word: no queue will grant it */
    bool unable;      /* this thread cannot relieve a queue */
    bool many;        /* the waiters are to be freed */
    twill_ns alarm;   /* when an item expires that is in the way; TWILL_FOREVER: never */
    twill_status status;
    twill__node node;
    char *kept;
} twill__select;

static inline int twill__select_case(twill__select *select, size_t i, bool listing)
{
    twill_queue *queue = select->cases[i].queue;
    bool push = select->cases[i].push;
    twill__waiter *waiter = &select->waiters[i];
    twill__queue_home home = twill__queue_home_of(queue);
    twill__queue_turn turn;
    twill__dropped dropped = {NULL, 0, 0, TWILL_OK};
    int answer;
    waiter->shared = listing;
    twill__queue_enter(queue, &turn);
    do { /* exit: each turn drops an item */
        answer = push ? twill__push_now(queue, &turn, waiter, select->kept, &dropped)
                      : twill__pop_now(queue, &turn, waiter, select->kept, &dropped);
        select->ours = listing && (answer == TWILL_OK || answer == TWILL__ANEW);
        if (dropped.count && !twill__queue_drop(queue, &turn, &dropped, select->kept))
            return TWILL_FORKED;
    } while (answer == TWILL__AGAIN ||
             (!listing && (answer == TWILL_FULL || answer == TWILL_EMPTY) &&
              twill__queue_see(queue, &turn, waiter)));
    if (listing && (answer == TWILL_FULL || answer == TWILL_EMPTY)) {
        waiter->since = twill__clock_now();
        select->inside = select->inside || twill__queue_inside(queue);
        twill__enlist(queue, push ? &queue->pushers : &queue->poppers, waiter, false);
        if (push)
            queue->counts.push_waits++;
        else
            queue->counts.pop_waits++;
        twill__queue_settle(queue, &turn);
        if (push && twill__queue_expiry(queue, TWILL__OLDEST) < select->alarm)
            select->alarm = twill__queue_expiry(queue, TWILL__OLDEST);
        select->nap = select->nap || twill__queue_on_its_way(queue, waiter) ||
                      /* the others have gone since we asked */
                      (push && queue->relief && !select->unable &&
                       !atomic_load_explicit(queue->others, memory_order_seq_cst));
    }
    twill__queue_exit(queue, &turn);
    return twill__queue_is_home(home) ? answer : (int)TWILL_FORKED; /* by on_level */
}

/* Before a wait: where nobody else makes room, this thread does. AGAIN: look again. OK: it has
   taken the item of the case that is chosen now, from a rendezvous. EMPTY: neither. FORKED: its
   callback has. */
static inline int twill__select_relieve(twill__select *select)
{
    for (size_t i = 0; i < select->n && !select->unable; i++) {
        twill_queue *queue = select->cases[i].queue;
        twill__queue_turn turn;
        bool inside;
        int relieved;
        if (!select->waiters[i].n || !select->cases[i].push || !queue->relief)
            continue;
        twill__queue_enter(queue, &turn);
        inside = twill__queue_inside(queue);
        twill__queue_leave(queue, &turn, true, NULL); /* nothing has changed: calls nobody */
        if (inside)
            return TWILL_EMPTY;
        relieved = queue->relief(queue->relief_data, &select->waiters[i]);
        if (!twill__queue_here(queue))
            return TWILL_FORKED;
        if (relieved > 0 && select->waiters[i].done) {
            select->chosen = i;
            select->cases[i].status = TWILL_OK;
            twill__queue_enter(queue, &turn); /* for those who join: see twill__pc_done */
            twill__queue_exit(queue, &turn);
            return TWILL_OK;
        }
        if (relieved > 0)
            return TWILL__AGAIN;
        select->unable = relieved < 0;
    }
    return TWILL_EMPTY;
}

/* Tries each case, and (listing) gets in line where it fails. OK, DROPPED: *chosen; ELSEWHERE: a
   queue has answered meanwhile; else the answer when nothing is ready. */
static inline int twill__select_round(twill__select *select, bool listing)
{
    int answer = TWILL_CLOSED, first = -1;
    select->live = 0;
    for (size_t k = 0; k < select->n; k++) {
        size_t left = select->n - select->start, i = k < left ? select->start + k : k - left;
        twill_queue_case *at = &select->cases[i];
        if (!select->waiters[i].n) {
            if (at->status == TWILL_FAILED)
                answer = TWILL_FAILED;
            continue;
        }
        int now = twill__select_case(select, i, listing);
        if (now == TWILL__ELSEWHERE || now == TWILL__ANEW || now == TWILL_FORKED)
            return now;
        at->status = (twill_status)now;
        if (now == TWILL_OK || now == TWILL_DROPPED) {
            select->chosen = i;
            return now;
        }
        if (now == TWILL_CLOSED || now == TWILL_FAILED) {
            select->waiters[i].n = 0;
            if (now == TWILL_FAILED)
                answer = TWILL_FAILED;
            continue;
        }
        select->live++;
        if (first < 0)
            first = now;
    }
    return first < 0 ? answer : first;
}

/* Out of all lines; who has been granted is out of his already. False: this is a forked child. */
static inline bool twill__select_leave(twill__select *select)
{
    for (size_t i = 0; i < select->n; i++) {
        twill_queue *queue = select->cases[i].queue;
        twill__waiter *waiter = &select->waiters[i];
        twill__queue_home home;
        twill__queue_turn turn;
        if (!waiter->listed)
            continue;
        home = twill__queue_home_of(queue);
        if (twill__queue_is_home(home)) {
            twill__queue_enter(queue, &turn);
            twill__queue_waited(queue, waiter);
            twill__delist(queue, select->cases[i].push ? &queue->pushers : &queue->poppers, waiter);
            twill__queue_exit(queue, &turn);
        }
        if (!twill__queue_is_home(home)) /* by on_level */
            return false;
    }
    return true;
}

/* In line everywhere, and waits. OK: chosen. AGAIN: look again. (A case that could be DROPPED never
   waits.) */
static inline int twill__select_wait(twill__select *select, twill_until until)
{
    twill_status status = TWILL_OK;
    twill_until soon;
    int answer;
    twill__node_init(&select->node);
    select->nap = false;
    select->alarm = TWILL_FOREVER;
    answer = twill__select_round(select, true);
    if (answer == TWILL_FORKED)
        return answer;
    if ((answer == TWILL_FULL || answer == TWILL_EMPTY) && select->inside) {
        /* nobody may answer from here on. The exchange is won, or lost to a queue that answers */
        answer =
            atomic_fetch_or_explicit(&select->node.word, TWILL__LEAVING, memory_order_acq_rel) &
                    TWILL__TAKEN
                ? TWILL__ELSEWHERE
                : (int)TWILL_DEADLOCK;
    } else if (answer == TWILL_FULL || answer == TWILL_EMPTY) {
        soon = select->nap ? twill__queue_soon(until) : until;
        if (select->alarm != TWILL_FOREVER &&
            (twill__no_deadline(soon.deadline) || select->alarm < soon.deadline))
            soon.deadline = select->alarm;
        status = twill__wait(&select->node, soon);
        answer = TWILL__ELSEWHERE;
        /* relaxed: twill__wait has said LEAVING, so TAKEN was there before, or never comes */
        if (status != TWILL_OK &&
            !(atomic_load_explicit(&select->node.word, memory_order_relaxed) & TWILL__TAKEN))
            answer = status == TWILL_TIMEOUT && !twill__expired(until.deadline) ? (int)TWILL__AGAIN
                                                                                : (int)status;
    }
    if (answer == TWILL__ELSEWHERE)
        twill__await(&select->node);
    if (!twill__select_leave(select))
        return TWILL_FORKED;
    if (answer != TWILL__ELSEWHERE) /* ANEW: ours, no queue has answered */
        return answer == TWILL__ANEW ? TWILL__AGAIN : answer;
    /* relaxed: RETRY came with the GRANTED that twill__await has seen */
    if (atomic_load_explicit(&select->node.word, memory_order_relaxed) & TWILL__RETRY)
        return TWILL__AGAIN;
    select->chosen = (size_t)((twill__waiter *)select->node.value - select->waiters);
    select->cases[select->chosen].status = (twill_status)select->node.answer;
    if (select->node.answer == TWILL_OK)
        return TWILL_OK;
    select->waiters[select->chosen].n = 0; /* closed; the queue may be gone */
    return TWILL__AGAIN;
}

/* Nothing was ready, and nobody waits: each queue that had no room has said so. */
static inline void twill__select_refused(const twill__select *select)
{
    for (size_t i = 0; i < select->n; i++) {
        const twill_queue_case *at = &select->cases[i];
        twill__queue_turn turn;
        if (!select->waiters[i].n || at->status != TWILL_FULL)
            continue;
        twill__queue_enter(at->queue, &turn);
        at->queue->counts.rejected++;
        twill__queue_leave(at->queue, &turn, true, NULL); /* as above */
    }
}

static inline twill_status twill__select_run(twill__select *select, twill_until until, bool wait)
{
    for (;;) { /* exit: chosen, all out, or over; else an item consumed, or another's progress */
        int answer = twill__select_round(select, false);
        twill_status over;
        if (answer == TWILL_OK || answer == TWILL_DROPPED || answer == TWILL_FORKED ||
            !select->live)
            return (twill_status)answer;
        if (!wait) {
            twill__select_refused(select);
            return (twill_status)answer;
        }
        over = twill__over(until);
        if (over != TWILL_OK)
            return over;
        answer = twill__select_relieve(select);
        if (answer == TWILL_OK || answer == TWILL_FORKED)
            return (twill_status)answer;
        if (answer == TWILL__AGAIN)
            continue;
        answer = twill__select_wait(select, until);
        if (answer == TWILL_TIMEOUT || answer == TWILL_CANCELLED) {
            over = (twill_status)answer;
            answer = twill__select_round(select, false); /* what came while we left */
            if (answer != TWILL_OK && answer != TWILL_FORKED && select->live)
                return twill_cancel_fired(until.cancel) ? TWILL_CANCELLED : over;
        }
        if (answer != TWILL__AGAIN)
            return (twill_status)answer;
    }
}

/* A callback has ended the thread: it leaves all lines; what a queue has given it meanwhile is
   in its case, where a thread that goes on would find it. */
static inline void twill__select_ended(void *select_)
{
    twill__select *select = (twill__select *)select_;
    if ((atomic_fetch_or_explicit(&select->node.word, TWILL__LEAVING, memory_order_acq_rel) &
         TWILL__TAKEN) &&
        !select->ours)
        twill__await(&select->node);
    (void)twill__select_leave(select);
    if (select->many)
        TWILL_FREE(select->waiters);
}

/* noinline: as twill__queue_call_drop */
static __attribute__((noinline)) void twill__select_guarded(twill__select *select,
                                                            twill_until until, bool wait)
{
    TWILL__GUARD_PUSH(twill__select_ended, select);
    select->status = twill__select_run(select, until, wait);
    TWILL__GUARD_POP(0);
}

static inline twill_status twill__select_check(const twill_queue_case *cases, size_t n,
                                               twill_select_order order)
{
    if (!cases || !n || (unsigned)order > TWILL_SELECT_IN_ORDER)
        return TWILL_INVALID;
    for (size_t i = 0; i < n; i++) {
        if (cases[i].queue && !cases[i].item)
            return TWILL_INVALID;
        if (cases[i].queue && !twill__queue_here(cases[i].queue))
            return TWILL_FORKED;
    }
    return TWILL_OK;
}

static inline twill_status twill__select_call(twill_queue_case *cases, size_t n,
                                              twill_select_order order, size_t *chosen,
                                              twill_until until, bool wait)
{
    twill__waiter few[TWILL__SELECT_SMALL];
    twill__kept kept;
    twill__select select;
    twill_status status = twill__select_check(cases, n, order);
    if (status != TWILL_OK)
        return status;
    memset(&select, 0, sizeof select);
    select.cases = cases;
    select.n = n;
    select.kept = kept.item;
    select.waiters = few;
    select.many = n > TWILL__SELECT_SMALL;
    if (select.many)
        select.waiters =
            n > SIZE_MAX / sizeof few[0] ? NULL : (twill__waiter *)TWILL_MALLOC(n * sizeof few[0]);
    if (!select.waiters)
        return TWILL_NO_MEMORY;
    if (order == TWILL_SELECT_FAIR)
        select.start = (size_t)(twill__ticks() * 0x9e3779b97f4a7c15u >> 33) % n;
    memset(select.waiters, 0, n * sizeof few[0]);
    /* a case before which another one is chosen stays so: it has not been asked, and is not out */
    for (size_t i = 0; i < n; i++)
        cases[i].status = !cases[i].queue ? TWILL_CLOSED : cases[i].push ? TWILL_FULL : TWILL_EMPTY;
    for (size_t i = 0; i < n && status == TWILL_OK; i++) {
        twill__waiter *waiter = &select.waiters[i];
        if (!cases[i].queue)
            continue;
        waiter->node = &select.node;
        waiter->n = 1;
        if (cases[i].push) {
            waiter->from = (const char *)cases[i].item;
            status = twill__queue_weigh(cases[i].queue, cases[i].item, &waiter->cell);
        } else {
            waiter->to = (char *)cases[i].item;
        }
        select.chosen = i;
    }
    if (status == TWILL_OK) {
        twill__select_guarded(&select, until, wait);
        status = select.status;
    }
    if (chosen && (status == TWILL_OK || status == TWILL_DROPPED || status == TWILL_TOO_BIG))
        *chosen = select.chosen;
    if (select.many)
        TWILL_FREE(select.waiters);
    return status;
}

TWILL__DEFINE twill_status twill_queue_try_select(twill_queue_case *cases, size_t n,
                                                  twill_select_order order, size_t *chosen)
{
    return twill__select_call(cases, n, order, chosen, (twill_until){0, NULL}, false);
}

TWILL__DEFINE twill_status twill_queue_select_until(twill_queue_case *cases, size_t n,
                                                    twill_select_order order, size_t *chosen,
                                                    twill_until until)
{
    return twill__select_call(cases, n, order, chosen, until, true);
}

#endif

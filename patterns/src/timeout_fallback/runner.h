/* runner.h: a function under a deadline, from its start to the last use of its block; the threads
   that run it. */
#ifndef TWILL__TIMEOUT_RUNNER_H
#define TWILL__TIMEOUT_RUNNER_H

#include "timeout_fallback/books.h"

/* ---- a call's block ---- */

typedef struct twill__timeout_runner { /* one start of the function: the primary, or a hedge */
    twill__call head;                  /* first: task.private_ points here */
    struct twill__timeout_block *block;
    void *result; /* written by the function alone, read when it has ended */
    twill_task task;
    _Atomic uint64_t thread; /* that runs it; read only to be compared with one's own */
    /* under the lock */
    bool started, ended;
    bool late; /* its call has returned */
} twill__timeout_runner;

/* All of a call that outlives it: one allocation, with the input, the results and the scratch
   area behind it. Freed by the last of: the call, and each function that was started. */
typedef struct twill__timeout_block {
    /* set before the first function starts */
    twill__stragglers *books;
    struct twill_timeout *owner; /* NULL: the one-call form */
    twill_map_fn *fn;
    const void *in;
    char *scratch; /* for the fallbacks' results; NULL: none */
    twill_until until;
    twill_cancel token; /* has no parent: the caller's token may go before the functions end */
    unsigned runners;
    bool watched;       /* the call has a token */
    twill__thrd thread; /* the one-call form's */
    /* under the lock */
    struct twill__timeout_block *next, *previous;
    unsigned references, started, finished, ended; /* finished: judged; ended: left the books */
    bool told;                                     /* the token fires, or has */
    bool gone;                                     /* the call takes no result any more */
    bool cancelled;
    const twill_cancel *asked[2]; /* the caller's token and the run's; NULL once the call is over */
    twill__timeout_runner *winner;
    twill_status verdict; /* of the last that was judged and has no result to give */
    int code;
    twill__list waiter; /* the caller, or nobody */
    twill__timeout_runner runner[];
} twill__timeout_block;

/* ---- the object ---- */

typedef struct twill__timeout_hand { /* a thread of an object */
    twill__thrd thread;
    struct twill_timeout *owner;
    twill__node node;                            /* waits here while it is idle */
    _Atomic uint64_t number;                     /* read only to be compared with one's own */
    struct twill__timeout_hand *next, *previous; /* of all */
    struct twill__timeout_hand *next_over;
    twill__timeout_runner *runner; /* what to run next; NULL: the end */
    bool busy;                     /* has a function, or is about to */
    bool published;                /* who started it does not touch it any more */
    bool over;                     /* its last access has come */
    bool let_go;                   /* nobody joins it: it frees itself */
} twill__timeout_hand;

typedef struct twill__timeout_visit {   /* a call of an object, on its caller's stack */
    struct twill__timeout_visit *outer; /* of the same thread, of any object */
    const struct twill_timeout *owner;
} twill__timeout_visit;

struct twill_timeout {
    twill__stragglers books;
    twill_timeout_options options; /* what it points to stands behind */
    char name[16];
    /* under the lock */
    size_t references; /* the owner's, and one for each block, hand and drain */
    bool closed, destroyed;
    twill__timeout_hand *hands, *over; /* all; those to be joined */
    twill__list idle;                  /* the last one is the warmest */
    size_t idle_count;
    double hedges_left;
    twill_timeout_stats counts;
};

/* Under the lock; the caller frees the object, after unlocking, when it is true. */
static inline bool twill__timeout_unref(struct twill_timeout *owner)
{
    return --owner->references == 0;
}

/* ---- leaving ---- */

typedef struct twill__timeout_life { /* of the thread that runs a function, on its stack */
    twill__stragglers *books;
    struct twill_timeout *owner;
    twill__timeout_hand *hand; /* NULL: the one-call form's thread, or the caller's */
    twill__timeout_runner *runner;
    int step;
    bool dying;   /* a callback has ended the thread */
    bool started; /* worker_start has been called and has returned 0 */
    int how, code;
    void *worker_state;
    twill_task task; /* for callbacks beside the function */
} twill__timeout_life;
enum {
    TWILL__LIFE_START,
    TWILL__LIFE_RUN,
    TWILL__LIFE_JUDGE,
    TWILL__LIFE_DISCARD,
    TWILL__LIFE_RELEASE,
    TWILL__LIFE_LEAVE,
    TWILL__LIFE_IDLE,
    TWILL__LIFE_STOP,
    TWILL__LIFE_OVER,
    TWILL__LIFE_END
};
enum {
    TWILL__HOW_RETURNED,
    TWILL__HOW_LOST /* ended its thread */,
    TWILL__HOW_UNFIT /* no start */
};

/* Under the lock: a function has ended. Its place is free, and its thread ready for the next. */
static inline void twill__timeout_leave(twill__timeout_life *life, bool late)
{
    twill__stragglers *books = life->books;
    struct twill_timeout *owner = life->owner;
    twill__timeout_hand *hand = life->hand;
    books->running--;
    if (late) {
        books->abandoned--;
        if (owner)
            owner->counts.late++;
        if (!books->abandoned)
            twill__answer_all(&books->waiters, TWILL_OK);
    }
    life->runner = NULL;
    life->step = hand ? TWILL__LIFE_STOP : TWILL__LIFE_END;
    if (!hand)
        return;
    hand->busy = false;
    if (life->dying || life->how == TWILL__HOW_UNFIT || owner->destroyed ||
        owner->idle_count >= owner->options.idle_threads)
        return;
    twill__node_init(&hand->node);
    hand->node.value = hand;
    hand->runner = NULL;
    twill__list_append(&owner->idle, &hand->node);
    owner->idle_count++;
    life->step = TWILL__LIFE_IDLE;
}

/* Under the lock: tells the caller, if it sleeps. Returns the address to wake after unlocking. */
static inline const void *twill__timeout_tell(twill__timeout_block *block)
{
    twill__node *node = block->waiter.first;
    return node && twill__grant(&block->waiter, node) ? &node->word : NULL;
}

static inline void twill__timeout_unlock(twill__stragglers *books, const void *sleeper)
{
    twill__unlock(&books->lock);
    if (sleeper)
        twill__wake(sleeper, 1);
}

/* Under the lock: takes a block out of the books, for whoever was its last owner. */
static inline void twill__timeout_unlink(twill__timeout_block *block)
{
    if (block->next)
        block->next->previous = block->previous;
    if (block->previous)
        block->previous->next = block->next;
    else
        block->books->blocks = block->next;
}

static inline void twill__timeout_free_input(struct twill_timeout *owner, const void *in,
                                             const twill_task *task)
{
    if (owner && owner->options.free_input)
        owner->options.free_input((void *)(uintptr_t)in, task);
}

/* ---- the steps of a life ---- */

static inline void twill__life_start(twill__timeout_life *life)
{
    const twill_run *run = life->owner ? &life->owner->options.run : NULL;
    life->step = TWILL__LIFE_RUN;
    if (!life->hand || !run->worker_start)
        return;
    life->how = TWILL__HOW_UNFIT; /* also if it ends the thread */
    life->step = TWILL__LIFE_JUDGE;
    life->code = run->worker_start(&life->worker_state, &life->runner->task);
    if (life->code != 0)
        return;
    life->started = true;
    life->step = TWILL__LIFE_RUN;
}

static inline void twill__life_run(twill__timeout_life *life)
{
    twill__timeout_runner *runner = life->runner;
    twill_task *task = &runner->task;
    task->worker_state = life->worker_state;
    /* relaxed: only this thread asks for its own number */
    atomic_store_explicit(&runner->thread, twill__thread_number(), memory_order_relaxed);
    life->task = *task;
    life->step = TWILL__LIFE_JUDGE;
    life->how = TWILL__HOW_LOST; /* unless it returns */
    life->code = INT_MIN;
    life->code = runner->block->fn(runner->block->in, runner->result, task);
    life->how = TWILL__HOW_RETURNED;
}

/* Whose result is it? Decided once, under the lock: the call takes it, or `discard` does. */
static inline void twill__life_judge(twill__timeout_life *life)
{
    twill__timeout_runner *runner = life->runner;
    twill__timeout_block *block = runner->block;
    const void *sleeper = NULL;
    bool value = life->how == TWILL__HOW_RETURNED && life->code == 0;
    bool over = !value && twill__expired(block->until.deadline);
    twill__lock(&life->books->lock);
    block->finished++;
    if (value && !block->gone && !block->winner) {
        block->winner = runner;
        block->ended++;
        runner->ended = true;
        block->references--; /* the caller has one */
        twill__timeout_leave(life, false);
        sleeper = twill__timeout_tell(block);
        twill__timeout_unlock(life->books, sleeper);
        return;
    }
    /* a copy that could not start says nothing where another one has run */
    if (!value && (life->how != TWILL__HOW_UNFIT || block->verdict == TWILL_OK)) {
        block->code = life->how == TWILL__HOW_LOST ? 0 : life->code;
        block->verdict = life->how == TWILL__HOW_UNFIT  ? TWILL_NO_THREAD
                         : life->how == TWILL__HOW_LOST ? TWILL_LOST
                         : block->cancelled             ? TWILL_CANCELLED
                         : over || block->told          ? TWILL_TIMEOUT
                                                        : TWILL_FAILED;
    }
    life->step = life->how == TWILL__HOW_UNFIT ? TWILL__LIFE_RELEASE : TWILL__LIFE_DISCARD;
    twill__unlock(&life->books->lock);
}

static inline void twill__life_discard(twill__timeout_life *life)
{
    twill__timeout_runner *runner = life->runner;
    life->step = TWILL__LIFE_RELEASE;
    if (life->owner && life->owner->options.discard)
        life->owner->options.discard((void *)(uintptr_t)runner->block->in, runner->result,
                                     life->code, &runner->task);
}

/* The caller is still there: it frees the block. Or this is the last owner. */
static inline void twill__life_release(twill__timeout_life *life)
{
    twill__timeout_runner *runner = life->runner;
    twill__timeout_block *block = runner->block;
    const void *sleeper;
    twill__lock(&life->books->lock);
    if (block->references > 1) {
        block->references--;
        block->ended++;
        runner->ended = true;
        twill__timeout_leave(life, runner->late);
        sleeper = twill__timeout_tell(block);
        twill__timeout_unlock(life->books, sleeper);
        return;
    }
    twill__timeout_unlink(block);
    life->step = TWILL__LIFE_LEAVE;
    twill__unlock(&life->books->lock);
    life->task = runner->task;
    twill__timeout_free_input(life->owner, block->in, &life->task);
}

/* After free_input: the last owner of a block frees it; only a late one comes here. */
static inline void twill__life_leave(twill__timeout_life *life)
{
    struct twill_timeout *owner = life->owner;
    bool last = false;
    TWILL_FREE(life->runner->block);
    twill__lock(&life->books->lock);
    twill__timeout_leave(life, true);
    if (owner)
        last = twill__timeout_unref(owner);
    TWILL_ASSERT(!last); /* the hand holds it, too */
    twill__unlock(&life->books->lock);
    (void)last;
}

static inline void twill__life_idle(twill__timeout_life *life)
{
    twill__timeout_hand *hand = life->hand;
    twill__await(&hand->node);
    life->runner = hand->runner;
    life->step = life->runner ? TWILL__LIFE_RUN : TWILL__LIFE_STOP;
}

static inline void twill__life_stop(twill__timeout_life *life)
{
    const twill_run *run = &life->owner->options.run;
    life->step = TWILL__LIFE_OVER;
    if (life->started && run->worker_stop) {
        life->task.until = (twill_until){0, NULL};
        life->task.private_ = NULL;
        run->worker_stop(life->worker_state, &life->task);
    }
}

/* The hand's last access to the object: it will be joined, or frees itself. */
static inline void twill__life_over(twill__timeout_life *life)
{
    struct twill_timeout *owner = life->owner;
    twill__timeout_hand *hand = life->hand;
    bool mine, last = false;
    life->step = TWILL__LIFE_END;
    twill__lock(&life->books->lock);
    hand->over = true;
    mine = hand->published && hand->let_go;
    if (mine) {
        last = twill__timeout_unref(owner);
    } else if (hand->published && !owner->destroyed) { /* destroy joins it else */
        hand->next_over = owner->over;
        owner->over = hand;
    }
    twill__unlock(&life->books->lock);
    if (mine)
        TWILL_FREE(hand);
    if (last)
        TWILL_FREE(owner);
}

static void twill__life_quit(void *life);

/* Each step says what comes after it before it calls the user, so that a callback that ends the
   thread ends that step and no other. */
static inline void twill__life_go(twill__timeout_life *life)
{
    TWILL__GUARD_PUSH(twill__life_quit, life);
    while (life->step != TWILL__LIFE_END) { /* exit: each life comes to its end */
        if (!twill__books_here(life->books)) {
            life->step = TWILL__LIFE_END; /* a callback has forked: nothing of it is here */
            break;
        }
        switch (life->step) {
        case TWILL__LIFE_START:
            twill__life_start(life);
            break;
        case TWILL__LIFE_RUN:
            twill__life_run(life);
            break;
        case TWILL__LIFE_JUDGE:
            twill__life_judge(life);
            break;
        case TWILL__LIFE_DISCARD:
            twill__life_discard(life);
            break;
        case TWILL__LIFE_RELEASE:
            twill__life_release(life);
            break;
        case TWILL__LIFE_LEAVE:
            twill__life_leave(life);
            break;
        case TWILL__LIFE_IDLE:
            twill__life_idle(life);
            break;
        case TWILL__LIFE_STOP:
            twill__life_stop(life);
            break;
        default:
            twill__life_over(life);
            break;
        }
    }
    TWILL__GUARD_POP(0);
}

static void twill__life_quit(void *life_)
{
    twill__timeout_life *life = (twill__timeout_life *)life_;
    life->dying = true;
    twill__life_go(life);
}

/* ---- threads ---- */

static inline void twill__life_of(twill__timeout_life *life, twill__timeout_runner *runner,
                                  twill__timeout_hand *hand)
{
    memset(life, 0, sizeof *life);
    life->books = runner->block->books;
    life->owner = runner->block->owner;
    life->runner = runner;
    life->hand = hand;
    life->task = runner->task;
}

static inline void twill__hand_main(void *hand_)
{
    twill__timeout_hand *hand = (twill__timeout_hand *)hand_;
    twill__timeout_life life;
    /* relaxed: only this thread asks for its own number */
    atomic_store_explicit(&hand->number, twill__thread_number(), memory_order_relaxed);
    twill__life_of(&life, hand->runner, hand);
    twill__life_go(&life);
}

static inline void twill__call_main(void *block)
{
    twill__timeout_life life;
    twill__life_of(&life, ((twill__timeout_block *)block)->runner, NULL);
    twill__life_go(&life);
}

/* Under the lock: a hand that is not in the books any more. */
static inline void twill__hand_unlink(struct twill_timeout *owner, twill__timeout_hand *hand)
{
    if (hand->next)
        hand->next->previous = hand->previous;
    if (hand->previous)
        hand->previous->next = hand->next;
    else
        owner->hands = hand->next;
}

/* Under the lock: those to be joined, as a list by next_over. */
static inline twill__timeout_hand *twill__hands_over(struct twill_timeout *owner)
{
    twill__timeout_hand *list = owner->over;
    for (twill__timeout_hand *hand = list; hand; hand = hand->next_over) {
        twill__hand_unlink(owner, hand);
        owner->references--; /* who asks has one */
    }
    owner->over = NULL;
    return list;
}

static inline void twill__hands_join(twill__timeout_hand *list)
{
    while (list) {
        twill__timeout_hand *hand = list;
        list = hand->next_over;
        twill__thread_join(&hand->thread);
        TWILL_FREE(hand);
    }
}

/* A new thread for a function that is in the books already. */
static inline twill_status twill__timeout_hire(struct twill_timeout *owner,
                                               twill__timeout_runner *runner)
{
    twill__timeout_hand *hand = (twill__timeout_hand *)TWILL_MALLOC(sizeof *hand);
    bool started, mine = false;
    if (!hand)
        return TWILL_NO_MEMORY;
    memset(hand, 0, sizeof *hand);
    hand->thread.fn = twill__hand_main;
    hand->thread.arg = hand;
    hand->thread.cpu = UINT_MAX;
    hand->thread.stack_size = owner->options.run.stack_size;
    twill__thread_name(&hand->thread, owner->name);
    hand->owner = owner;
    hand->runner = runner;
    hand->busy = true;
    twill__lock(&owner->books.lock);
    hand->let_go = owner->destroyed; /* a straggler has called: destroy has been here */
    if (!hand->let_go) {
        hand->next = owner->hands;
        if (hand->next)
            hand->next->previous = hand;
        owner->hands = hand;
    }
    owner->references++;
    twill__unlock(&owner->books.lock);
    started = twill__thread_start(&hand->thread);
    twill__lock(&owner->books.lock);
    hand->published = true;
    if (!started || (hand->let_go && hand->over)) {
        if (!hand->let_go)
            twill__hand_unlink(owner, hand);
        owner->references--; /* who calls has one */
        mine = true;
    }
    if (started && hand->let_go) { /* destroyed, perhaps meanwhile */
        twill__thread_let_go(&hand->thread);
    } else if (started && hand->over) {
        hand->next_over = owner->over;
        owner->over = hand;
    }
    twill__unlock(&owner->books.lock);
    if (mine)
        TWILL_FREE(hand);
    return started ? TWILL_OK : TWILL_NO_THREAD;
}

/* Starts runner k of a block, whose place is taken already. Else the place is free again. */
static inline twill_status twill__timeout_start(twill__timeout_block *block, unsigned k)
{
    struct twill_timeout *owner = block->owner;
    twill__timeout_runner *runner = &block->runner[k];
    twill__timeout_hand *over = NULL;
    twill_status status;
    twill__lock(&block->books->lock);
    block->references++;
    block->started++;
    runner->started = true;
    if (owner)
        over = twill__hands_over(owner);
    if (owner && owner->idle.last) {
        twill__node *node = owner->idle.last;
        twill__timeout_hand *hand = (twill__timeout_hand *)node->value;
        owner->idle_count--;
        hand->runner = runner;
        hand->busy = true;
        (void)twill__grant(&owner->idle, node); /* an idle hand never leaves */
        twill__timeout_unlock(block->books, &node->word);
        twill__hands_join(over);
        return TWILL_OK;
    }
    twill__unlock(&block->books->lock);
    twill__hands_join(over);
    if (owner) {
        status = twill__timeout_hire(owner, runner);
    } else {
        block->thread.fn = twill__call_main;
        block->thread.arg = block;
        block->thread.cpu = UINT_MAX;
        status = twill__thread_start(&block->thread) ? TWILL_OK : TWILL_NO_THREAD;
    }
    if (status == TWILL_OK)
        return TWILL_OK;
    twill__lock(&block->books->lock);
    block->references--;
    block->started--;
    runner->started = false;
    block->books->running--;
    twill__unlock(&block->books->lock);
    return status;
}

#endif

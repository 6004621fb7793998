/* test_cancel.c: tokens, hooks and the one wait, against each other: who wakes, who is told
   what, and that nobody touches memory that has gone. The scenarios are those of the protocol's
   proof, natively and many times over. */
#define _GNU_SOURCE
#include "harness.h"

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"

#if defined __SANITIZE_ADDRESS__ || defined TWILL__UNDER_TSAN
#define ROUNDS 60
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define ROUNDS 60
#endif
#endif
#ifndef ROUNDS
#define ROUNDS 300
#endif
#define LOOSE TWILL_SEC(50) /* "soon" on a loaded machine; a hang is longer */

typedef void body(void *arg);

static void go(twill__thrd *thread, body *fn, void *arg)
{
    memset(thread, 0, sizeof *thread);
    thread->fn = fn;
    thread->arg = arg;
    thread->cpu = UINT_MAX;
    if (!CHECK(twill__thread_start(thread)))
        abort();
}

/* The steps of threads that follow one another; waiting for one is not part of what is tested. */
static void set(_Atomic uint32_t *step, uint32_t value)
{
    atomic_store(step, value);
    twill__wake(step, INT_MAX);
}

static void await(_Atomic uint32_t *step, uint32_t value)
{
    uint32_t seen;

    while ((seen = atomic_load(step)) < value)
        twill__park(step, seen, 0);
}

static twill_ns moment(twill_ns most)
{
    return (twill_ns)test_random_below((uint64_t)most);
}

static bool token_is_bare(twill_cancel *cancel)
{
    twill__token *token = twill__token_of(cancel);

    return !token->head.link && !token->firing && !atomic_load(&token->lock);
}

/* ---- the words of a token ---- */

static void count_hook(int reason, const twill_task *task)
{
    (void)reason;
    atomic_fetch_add((_Atomic int *)task->context, 1);
}

TEST(zeroed_token_is_ready)
{
    twill_cancel token = {{0}};

    CHECK(!twill_cancel_fired(&token));
    CHECK_EQ(twill_cancel_reason(&token), 0);
    CHECK_EQ(twill_sleep(twill_within_or_cancelled(TWILL_MS(1), &token)), TWILL_OK);
    twill_cancel_fire(&token, 9);
    CHECK(twill_cancel_fired(&token));
    CHECK_EQ(twill_cancel_reason(&token), 9);
    twill_cancel_detach(&token);
}

TEST(no_token_never_fires)
{
    twill_cancel_hook hook = {count_hook, NULL, {0}};

    CHECK(!twill_cancel_fired(NULL));
    CHECK_EQ(twill_cancel_reason(NULL), 0);
    twill_cancel_fire(NULL, 1);
    twill_cancel_request(NULL, 1);
    twill_cancel_add_hook(NULL, &hook); /* task->until.cancel may be NULL: nothing will ever fire */
    twill_cancel_remove_hook(NULL, &hook);
    twill_cancel_detach(NULL);
}

TEST(first_reason_stays)
{
    twill_cancel a = {{0}}, b = {{0}}, c = {{0}};

    twill_cancel_fire(&a, 5);
    twill_cancel_fire(&a, 6);
    twill_cancel_request(&a, 7);
    CHECK_EQ(twill_cancel_reason(&a), 5);
    twill_cancel_request(&b, -3);
    twill_cancel_fire(&b, 4);
    CHECK_EQ(twill_cancel_reason(&b), -3);
    twill_cancel_fire(&c, INT_MIN);
    CHECK_EQ(twill_cancel_reason(&c), INT_MIN);
}

TEST(reason_zero_counts_as_one)
{
    twill_cancel a = {{0}}, b = {{0}};

    twill_cancel_fire(&a, 0);
    CHECK_EQ(twill_cancel_reason(&a), 1);
    twill_cancel_request(&b, 0);
    CHECK_EQ(twill_cancel_reason(&b), 1);
}

TEST(child_of_a_fired_parent)
{
    twill_cancel parent = {{0}}, child;

    twill_cancel_fire(&parent, 8);
    twill_cancel_init(&child, &parent);
    CHECK(twill_cancel_fired(&child));
    CHECK_EQ(twill_cancel_reason(&child), 8);
    CHECK_EQ(twill_sleep(twill_until_cancelled(&child)), TWILL_CANCELLED);
    twill_cancel_detach(&child);
    CHECK(token_is_bare(&parent));
}

/* What a child has been seen to say it goes on saying, also when its parent is gone. */
TEST(reason_is_kept_by_the_child)
{
    twill_cancel parent = {{0}}, child, late;

    twill_cancel_init(&child, &parent);
    twill_cancel_init(&late, &parent);
    twill_cancel_request(&parent, 3);
    CHECK_EQ(twill_cancel_reason(&child), 3);
    twill_cancel_fire(&child, 4);
    CHECK_EQ(twill_cancel_reason(&child), 3);
    twill_cancel_detach(&child);
    CHECK_EQ(twill_cancel_reason(&child), 3);
    twill_cancel_detach(&late); /* nobody had asked it */
    CHECK_EQ(twill_cancel_reason(&late), 0);
}

TEST(child_does_not_fire_its_parent)
{
    twill_cancel parent = {{0}}, child, sister;

    twill_cancel_init(&child, &parent);
    twill_cancel_init(&sister, &parent);
    twill_cancel_fire(&child, 2);
    CHECK(twill_cancel_fired(&child));
    CHECK(!twill_cancel_fired(&parent));
    CHECK(!twill_cancel_fired(&sister));
    twill_cancel_detach(&child);
    twill_cancel_detach(&sister);
}

/* A token below one that was only asked to stop, and fired by the one above: its reason is the
   nearest one's. */
TEST(nearest_reason_is_inherited)
{
    twill_cancel top = {{0}}, middle, low;
    _Atomic int calls = 0;
    twill_cancel_hook hook = {count_hook, &calls, {0}};

    twill_cancel_init(&middle, &top);
    twill_cancel_init(&low, &middle);
    twill_cancel_add_hook(&low, &hook); /* links low and middle */
    twill_cancel_request(&middle, 5);
    twill_cancel_fire(&top, 9);
    CHECK_EQ(calls, 1);
    CHECK_EQ(twill_cancel_reason(&middle), 5);
    CHECK_EQ(twill_cancel_reason(&low), 5);
    CHECK_EQ(twill_cancel_reason(&top), 9);
    twill_cancel_detach(&low);
    twill_cancel_detach(&middle);
}

TEST(deep_chain)
{
    enum { DEEP = 100 };
    twill_cancel chain[DEEP] = {{{0}}};
    _Atomic int calls = 0;
    twill_cancel_hook hooks[DEEP];

    for (int i = 1; i < DEEP; i++)
        twill_cancel_init(&chain[i], &chain[i - 1]);
    CHECK(!twill_cancel_fired(&chain[DEEP - 1]));
    for (int i = 0; i < DEEP; i++) {
        hooks[i] = (twill_cancel_hook){count_hook, &calls, {0}};
        twill_cancel_add_hook(&chain[(i * 37) % DEEP], &hooks[i]);
    }
    CHECK_EQ(twill_sleep(twill_within_or_cancelled(TWILL_US(10), &chain[DEEP - 1])), TWILL_OK);
    twill_cancel_fire(&chain[DEEP / 2], 6);
    CHECK_EQ(calls, DEEP / 2);
    CHECK(!twill_cancel_fired(&chain[DEEP / 2 - 1]));
    CHECK_EQ(twill_cancel_reason(&chain[DEEP - 1]), 6);
    twill_cancel_fire(&chain[0], 7);
    CHECK_EQ(calls, DEEP);
    CHECK_EQ(twill_cancel_reason(&chain[DEEP / 2 - 1]), 7);
    CHECK_EQ(twill_cancel_reason(&chain[DEEP - 1]), 6);
    for (int i = DEEP - 1; i >= 0; i--) {
        twill_cancel_detach(&chain[i]);
        CHECK(token_is_bare(&chain[i]));
    }
}

/* ---- sleepers ---- */

struct family {
    twill_cancel top, middle, low;
    _Atomic uint32_t ready;
    twill_status answer[3];
};

static void sleep_low(void *arg)
{
    struct family *f = arg;
    f->answer[0] = twill_sleep(twill_until_cancelled(&f->low));
}

static void sleep_middle(void *arg)
{
    struct family *f = arg;
    f->answer[1] = twill_sleep(twill_until_cancelled(&f->middle));
}

static void sleep_a_little(void *arg)
{
    struct family *f = arg;
    f->answer[2] = twill_sleep(twill_within_or_cancelled(moment(TWILL_US(200)), &f->low));
}

/* Sleepers on two levels and one with a deadline; the fire comes from the top, at any moment. */
TEST(fire_reaches_every_level)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct family f = {{{0}}, {{0}}, {{0}}, 0, {TWILL_LOST, TWILL_LOST, TWILL_LOST}};
        twill__thrd threads[3];

        twill_cancel_init(&f.middle, &f.top);
        twill_cancel_init(&f.low, &f.middle);
        go(&threads[0], sleep_low, &f);
        go(&threads[1], sleep_middle, &f);
        go(&threads[2], sleep_a_little, &f);
        if (round % 2)
            twill_sleep(twill_within(moment(TWILL_US(150))));
        twill_cancel_fire(&f.top, 7);
        for (int i = 0; i < 3; i++)
            twill__thread_join(&threads[i]);
        CHECK_EQ(f.answer[0], TWILL_CANCELLED);
        CHECK_EQ(f.answer[1], TWILL_CANCELLED);
        CHECK(f.answer[2] == TWILL_OK || f.answer[2] == TWILL_CANCELLED);
        twill_cancel_detach(&f.low);
        twill_cancel_detach(&f.middle);
        CHECK_EQ(twill_cancel_reason(&f.low), 7);
        CHECK(token_is_bare(&f.low) && token_is_bare(&f.middle) && token_is_bare(&f.top));
    }
}

/* A request wakes nobody who sleeps; a fire after it does, and the reason is the request's. */
TEST(request_then_fire)
{
    struct family f = {{{0}}, {{0}}, {{0}}, 0, {TWILL_LOST, TWILL_LOST, TWILL_LOST}};
    twill__thrd thread;

    twill_cancel_init(&f.middle, &f.top);
    twill_cancel_init(&f.low, &f.middle);
    go(&thread, sleep_low, &f);
    while (!atomic_load(&twill__token_of(&f.low)
                             ->me.linked)) /* linked before it looks at the state under the lock */
        twill__yield();
    for (bool listed = false; !listed; twill__yield()) {
        twill__token_lock(twill__token_of(&f.low));
        listed = twill__token_of(&f.low)->head.link != NULL;
        twill__unlock(&twill__token_of(&f.low)->lock);
    }
    twill_cancel_request(&f.top, 3);
    CHECK(twill_cancel_fired(&f.middle));
    CHECK_EQ(twill_sleep(twill_until_cancelled(&f.middle)),
             TWILL_CANCELLED); /* a wait that begins later sees it */
    twill_sleep(twill_within(TWILL_MS(5)));
    CHECK(twill__token_of(&f.low)->head.link != NULL); /* it sleeps on */
    twill_cancel_fire(&f.top, 9);
    twill__thread_join(&thread);
    CHECK_EQ(f.answer[0], TWILL_CANCELLED);
    CHECK_EQ(twill_cancel_reason(&f.low), 3);
    twill_cancel_detach(&f.low);
    twill_cancel_detach(&f.middle);
}

struct race {
    twill_cancel token;
    _Atomic uint32_t start;
};

static void fire_race(void *arg)
{
    struct race *race = arg;
    await(&race->start, 1);
    twill_cancel_fire(&race->token, 1);
}

static void request_race(void *arg)
{
    struct race *race = arg;
    await(&race->start, 1);
    twill_cancel_request(&race->token, 2);
}

TEST(request_against_fire)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct race race = {{{0}}, 0};
        twill__thrd threads[2];
        int first;

        go(&threads[0], fire_race, &race);
        go(&threads[1], request_race, &race);
        set(&race.start, 1);
        while (!(first = twill_cancel_reason(&race.token)))
            twill__yield();
        for (int i = 0; i < 2; i++)
            twill__thread_join(&threads[i]);
        CHECK(first == 1 || first == 2);
        CHECK_EQ(twill_cancel_reason(&race.token), first);
        CHECK_EQ(twill_sleep(twill_until_cancelled(&race.token)), TWILL_CANCELLED);
    }
}

/* A run's token on the heap: waited on, left and freed while two threads fire the parent. */
static void run_of_its_own(void *arg)
{
    twill_cancel *token = malloc(sizeof *token);
    twill_status status;

    if (!CHECK(token != NULL))
        return;
    twill_cancel_init(token, arg);
    status = twill_sleep(twill_within_or_cancelled(moment(TWILL_US(100)), token));
    CHECK(status == TWILL_OK || status == TWILL_CANCELLED);
    twill_cancel_detach(token);
    free(token);
}

static void fire_three(void *arg)
{
    twill_cancel_fire(arg, 3);
}

TEST(detach_against_fire)
{
    for (int round = 0; round < ROUNDS; round++) {
        twill_cancel parent = {{0}};
        twill__thrd threads[3];

        go(&threads[0], run_of_its_own, &parent);
        go(&threads[1], run_of_its_own, &parent);
        go(&threads[2], fire_three, &parent);
        twill_cancel_fire(&parent, 4);
        for (int i = 0; i < 3; i++)
            twill__thread_join(&threads[i]);
        CHECK(token_is_bare(&parent));
        CHECK(twill_cancel_reason(&parent) == 3 || twill_cancel_reason(&parent) == 4);
    }
}

TEST(token_serves_again_after_init)
{
    twill_cancel parent = {{0}}, token;

    for (int i = 1; i < 20; i++) {
        twill_cancel_init(&token, i % 2 ? &parent : NULL);
        CHECK(!twill_cancel_fired(&token));
        CHECK_EQ(twill_sleep(twill_within_or_cancelled(1, &token)), TWILL_OK);
        twill_cancel_fire(&token, i);
        CHECK_EQ(twill_cancel_reason(&token), i);
        twill_cancel_detach(&token);
    }
    CHECK(token_is_bare(&parent));
}

/* ---- hooks ---- */

struct seen {
    int calls, reason;
    uint64_t thread;
    twill_task task;
};

static void look(int reason, const twill_task *task)
{
    struct seen *seen = task->context;

    seen->calls++;
    seen->reason = reason;
    seen->thread = twill__thread_number();
    seen->task = *task;
}

TEST(hook_is_told)
{
    twill_cancel token = {{0}};
    struct seen seen = {0, 0, 0, {0, NULL, 0, 0, NULL, {0, NULL}, NULL}};
    twill_cancel_hook hook = {look, &seen, {0}};

    twill_cancel_add_hook(&token, &hook);
    CHECK_EQ(seen.calls, 0);
    twill_cancel_request(&token, 11);
    CHECK_EQ(seen.calls, 0);
    twill_cancel_fire(&token, 12);
    twill_cancel_fire(&token, 13);
    CHECK_EQ(seen.calls, 1);
    CHECK_EQ(seen.reason, 11);
    CHECK_EQ(seen.thread, twill__thread_number());
    CHECK_PTR(seen.task.context, &seen);
    CHECK_EQ(seen.task.index, SIZE_MAX);
    CHECK_EQ(seen.task.worker, UINT_MAX);
    CHECK_PTR(seen.task.private_, NULL);
    twill_cancel_remove_hook(&token, &hook);
}

TEST(hook_on_a_fired_token_runs_at_once)
{
    twill_cancel parent = {{0}}, token;
    struct seen seen = {0, 0, 0, {0, NULL, 0, 0, NULL, {0, NULL}, NULL}};
    twill_cancel_hook hook = {look, &seen, {0}};

    memset(hook.private_words, 0xa5,
           sizeof hook.private_words); /* add_hook needs no zeroed memory */
    twill_cancel_init(&token, &parent);
    twill_cancel_request(&parent, 21);
    twill_cancel_add_hook(&token, &hook);
    CHECK_EQ(seen.calls, 1);
    CHECK_EQ(seen.reason, 21);
    twill_cancel_remove_hook(&token, &hook);
    twill_cancel_fire(&parent, 1);
    CHECK_EQ(seen.calls, 1);
    twill_cancel_detach(&token);
}

TEST(removed_hook_does_not_run)
{
    twill_cancel token = {{0}};
    _Atomic int calls[3] = {0, 0, 0};
    twill_cancel_hook hooks[3];

    for (int i = 0; i < 3; i++) {
        hooks[i] = (twill_cancel_hook){count_hook, &calls[i], {0}};
        twill_cancel_add_hook(&token, &hooks[i]);
    }
    twill_cancel_remove_hook(&token, &hooks[1]);
    twill_cancel_remove_hook(&token, &hooks[1]); /* twice: nothing */
    twill_cancel_fire(&token, 1);
    CHECK_EQ(calls[0], 1);
    CHECK_EQ(calls[1], 0);
    CHECK_EQ(calls[2], 1);
}

/* Every wait is told before any hook runs: a hook may wait for a sleeper of another branch to
   come home. */
struct order {
    twill_cancel top, left, right;
    twill_cancel_hook hook;
    _Atomic uint32_t home;
    bool came;
};

static void sleeper_right(void *arg)
{
    struct order *o = arg;

    CHECK_EQ(twill_sleep(twill_until_cancelled(&o->right)), TWILL_CANCELLED);
    set(&o->home, 1);
}

static void wait_for_home(int reason, const twill_task *task)
{
    struct order *o = task->context;
    twill_ns limit = twill_now() + LOOSE;

    (void)reason;
    while (!atomic_load(&o->home) && twill_now() < limit)
        twill__park(&o->home, 0, limit);
    o->came = atomic_load(&o->home) != 0;
}

TEST(waits_are_told_before_hooks_run)
{
    for (int round = 0; round < ROUNDS / 4; round++) {
        struct order o = {{{0}}, {{0}}, {{0}}, {wait_for_home, &o, {0}}, 0, false};
        twill__thrd thread;

        twill_cancel_init(&o.left, &o.top);
        twill_cancel_init(&o.right, &o.top);
        go(&thread, sleeper_right, &o);
        if (round % 2)
            twill_sleep(twill_within(TWILL_US(100)));
        twill_cancel_add_hook(round % 3 ? &o.left : &o.top, &o.hook);
        twill_cancel_fire(&o.top, 1);
        CHECK(o.came);
        twill__thread_join(&thread);
        twill_cancel_detach(&o.left);
        twill_cancel_detach(&o.right);
    }
}

/* The removal waits for a hook that runs elsewhere: token, hook and what it uses go right after. */
struct owner {
    twill_cancel token;
    twill_cancel_hook hook;
    int alive;
};
struct crowd {
    twill_cancel parent, child;
    _Atomic int calls;
};

static void use_owner(int reason, const twill_task *task)
{
    struct owner *owner = task->context;

    (void)reason;
    owner->alive++; /* a race, or freed memory, if the removal did not wait */
}

static void add_remove_free(void *arg)
{
    struct crowd *crowd = arg;
    struct owner *owner = calloc(1, sizeof *owner);

    if (!CHECK(owner != NULL))
        return;
    twill_cancel_init(&owner->token, &crowd->parent);
    owner->hook.fn = use_owner;
    owner->hook.context = owner;
    twill_cancel_add_hook(&owner->token, &owner->hook);
    twill_sleep(twill_within(moment(TWILL_US(40))));
    twill_cancel_remove_hook(&owner->token, &owner->hook);
    CHECK(owner->alive == 0 || owner->alive == 1);
    owner->alive = 100;
    twill_cancel_detach(&owner->token);
    free(owner);
}

TEST(remove_hook_waits)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct crowd crowd = {{{0}}, {{0}}, 0};
        twill__thrd threads[2];

        for (int i = 0; i < 2; i++)
            go(&threads[i], add_remove_free, &crowd);
        twill_sleep(twill_within(moment(TWILL_US(80))));
        twill_cancel_fire(&crowd.parent, 4);
        for (int i = 0; i < 2; i++)
            twill__thread_join(&threads[i]);
        CHECK(token_is_bare(&crowd.parent));
    }
}

/* The same, the token living on: only the hook's memory goes. */
static void add_remove_hook_alone(void *arg)
{
    struct crowd *crowd = arg;
    struct owner *owner = calloc(1, sizeof *owner);

    if (!CHECK(owner != NULL))
        return;
    owner->hook.fn = use_owner;
    owner->hook.context = owner;
    twill_cancel_add_hook(&crowd->child, &owner->hook);
    twill_cancel_remove_hook(&crowd->child, &owner->hook);
    CHECK(owner->alive == 0 || owner->alive == 1);
    free(owner);
}

TEST(hook_memory_goes_token_stays)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct crowd crowd = {{{0}}, {{0}}, 0};
        twill__thrd threads[2];

        twill_cancel_init(&crowd.child, &crowd.parent);
        for (int i = 0; i < 2; i++)
            go(&threads[i], add_remove_hook_alone, &crowd);
        twill_cancel_fire(round % 2 ? &crowd.parent : &crowd.child, 4);
        for (int i = 0; i < 2; i++)
            twill__thread_join(&threads[i]);
        twill_cancel_detach(&crowd.child);
        CHECK(token_is_bare(&crowd.parent) && token_is_bare(&crowd.child));
    }
}

/* The one case that must wait, made sure: the hook runs while the remover is there. */
struct slow {
    twill_cancel parent, token;
    twill_cancel_hook hook;
    _Atomic uint32_t step;
    bool done, by_detach;
    uint64_t number;
};

static void slow_hook(int reason, const twill_task *task)
{
    struct slow *slow = task->context;

    (void)reason;
    set(&slow->step, 1);
    twill_sleep(twill_within(TWILL_MS(10)));
    slow->done = true;
}

static void take_away(void *arg)
{
    struct slow *slow = arg;

    await(&slow->step, 1);
    if (slow->by_detach)
        twill_cancel_detach(&slow->token);
    else
        twill_cancel_remove_hook(&slow->token, &slow->hook);
    CHECK(slow->done);
}

TEST(removal_and_detach_wait_for_a_slow_hook)
{
    for (int way = 0; way < 4; way++) {
        struct slow slow = {.hook = {slow_hook, &slow, {0}}, .by_detach = way % 2 == 1};
        twill__thrd thread;

        twill_cancel_init(&slow.token, &slow.parent);
        twill_cancel_add_hook(&slow.token, &slow.hook);
        go(&thread, take_away, &slow);
        twill_cancel_fire(way / 2 ? &slow.parent : &slow.token, 1);
        CHECK(slow.done);
        twill__thread_join(&thread);
        twill_cancel_detach(&slow.token);
    }
}

/* Of two copies of the library in one program (that of a plugin, and the program's own) each one
   numbers the threads by itself: two of them may have one number, and one has two. */
static void take_away_with_its_number(void *arg)
{
    struct slow *slow = arg;

    *twill__thread_number_copy() = slow->number;
    take_away(slow);
}

static void take_away_by_other_number(int reason, const twill_task *task)
{
    struct slow *slow = task->context;
    uint64_t number = twill__thread_number();

    (void)reason;
    *twill__thread_number_copy() = number + 1000;
    twill_cancel_remove_hook(&slow->token, &slow->hook); /* of this thread: it does not wait */
    twill_cancel_detach(&slow->token);
    *twill__thread_number_copy() = number;
    slow->done = true;
}

TEST(hooks_know_their_thread_whatever_its_number)
{
    for (int way = 0; way < 2; way++) {
        struct slow slow = {.hook = {slow_hook, &slow, {0}}, .by_detach = way == 1};
        twill__thrd thread;

        slow.number = twill__thread_number();
        twill_cancel_add_hook(&slow.token, &slow.hook);
        go(&thread, take_away_with_its_number, &slow);
        twill_cancel_fire(&slow.token, 1);
        twill__thread_join(&thread);
        slow = (struct slow){.hook = {take_away_by_other_number, &slow, {0}}};
        twill_cancel_add_hook(&slow.token, &slow.hook);
        twill_cancel_fire(&slow.token, 1);
        CHECK(slow.done);
    }
}

/* A token that its hook has detached, and whoever cleans up, too. */
static void detach_in_hook(int reason, const twill_task *task)
{
    struct slow *slow = task->context;

    (void)reason;
    twill_cancel_detach(&slow->token);
    CHECK(token_is_bare(&slow->token));
    if (slow->by_detach) /* and the rest of a clean-up, whose order is the user's */
        twill_cancel_remove_hook(&slow->token, &slow->hook);
    slow->done = true;
}

static void fire_slow(void *arg)
{
    struct slow *slow = arg;

    twill_cancel_fire(&slow->parent, 1);
}

TEST(detached_by_its_hook_and_again)
{
    for (int way = 0; way < 2; way++) {
        struct slow slow = {.hook = {detach_in_hook, &slow, {0}}, .by_detach = way == 1};
        twill__thrd thread;

        twill_cancel_init(&slow.token, &slow.parent);
        twill_cancel_add_hook(&slow.token, &slow.hook);
        go(&thread, fire_slow, &slow);
        twill__thread_join(&thread);
        CHECK(slow.done && token_is_bare(&slow.parent));
        /* nobody is there whom these could wait for */
        twill_cancel_remove_hook(&slow.token, &slow.hook);
        twill_cancel_detach(&slow.token);
        CHECK_EQ(twill_cancel_reason(&slow.token), 1);
    }
}

/* A hook that removes itself and frees its token, while two threads fire the parent. */
static _Atomic int self_removed;

static void remove_self_and_free(int reason, const twill_task *task)
{
    struct owner *owner = task->context;

    (void)reason;
    twill_cancel_remove_hook(&owner->token, &owner->hook);
    twill_cancel_detach(&owner->token);
    free(owner);
    atomic_fetch_add(&self_removed, 1);
}

TEST(hook_may_free_its_token)
{
    for (int round = 0; round < ROUNDS; round++) {
        twill_cancel parent = {{0}};
        twill__thrd thread;

        atomic_store(&self_removed, 0);
        for (int i = 0; i < 2; i++) {
            struct owner *owner = calloc(1, sizeof *owner);
            if (!CHECK(owner != NULL))
                return;
            twill_cancel_init(&owner->token, &parent);
            owner->hook.fn = remove_self_and_free;
            owner->hook.context = owner;
            twill_cancel_add_hook(&owner->token, &owner->hook);
        }
        go(&thread, fire_three, &parent);
        twill_cancel_fire(&parent, 4);
        twill__thread_join(&thread);
        CHECK_EQ(self_removed, 2);
        CHECK(token_is_bare(&parent));
    }
}

/* A whole family that goes in one hook: child first, then the parent through which it was fired. */
struct household {
    twill_cancel top, parent, child;
    twill_cancel_hook hook;
    _Atomic int *calls;
};

static void end_household(int reason, const twill_task *task)
{
    struct household *h = task->context;
    _Atomic int *calls = h->calls;

    (void)reason;
    twill_cancel_detach(&h->child);
    twill_cancel_detach(&h->parent);
    twill_cancel_detach(&h->top);
    memset(h, 0xa5, sizeof *h);
    free(h);
    atomic_fetch_add(calls, 1);
}

TEST(hook_may_free_child_parent_and_top)
{
    for (int way = 0; way < 3; way++) { /* fired from each level; the hook is the lowest one's */
        struct household *h = calloc(1, sizeof *h);
        _Atomic int calls = 0;

        if (!CHECK(h != NULL))
            return;
        h->calls = &calls;
        twill_cancel_init(&h->parent, &h->top);
        twill_cancel_init(&h->child, &h->parent);
        h->hook.fn = end_household;
        h->hook.context = h;
        twill_cancel_add_hook(&h->child, &h->hook);
        twill_cancel_fire(way == 0 ? &h->top : way == 1 ? &h->parent : &h->child, 1);
        CHECK_EQ(calls, 1);
    }
}

/* Hooks that touch the token that calls them. */
struct nest {
    twill_cancel token;
    twill_cancel_hook first, second, late;
    _Atomic int calls;
};

static void busy_hook(int reason, const twill_task *task)
{
    struct nest *nest = task->context;

    CHECK_EQ(reason, 6);
    twill_cancel_fire(&nest->token, 7);                    /* it is being fired: nothing more */
    twill_cancel_remove_hook(&nest->token, &nest->second); /* has not run: never will */
    nest->late = (twill_cancel_hook){count_hook, &nest->calls, {0}};
    twill_cancel_add_hook(&nest->token, &nest->late); /* fired: runs at once */
    CHECK_EQ(nest->calls, 1);
    CHECK_EQ(twill_sleep(twill_until_cancelled(&nest->token)), TWILL_CANCELLED);
    twill_cancel_remove_hook(&nest->token, &nest->first); /* itself: does not wait */
}

TEST(hook_may_use_its_token)
{
    struct nest nest = {
        {{0}}, {busy_hook, &nest, {0}}, {count_hook, &nest.calls, {0}}, {NULL, NULL, {0}}, 0};

    twill_cancel_add_hook(&nest.token, &nest.second);
    twill_cancel_add_hook(&nest.token, &nest.first); /* the last one in is the first one called */
    twill_cancel_fire(&nest.token, 6);
    CHECK_EQ(nest.calls, 1);
    CHECK(token_is_bare(&nest.token));
}

TEST(many_children_and_hooks)
{
    enum { MANY = 200 };
    static twill_cancel children[MANY];
    static twill_cancel_hook hooks[MANY];
    twill_cancel parent = {{0}};
    _Atomic int calls = 0;

    for (int i = 0; i < MANY; i++) {
        twill_cancel_init(&children[i], &parent);
        hooks[i] = (twill_cancel_hook){count_hook, &calls, {0}};
        twill_cancel_add_hook(&children[i], &hooks[i]);
    }
    for (int i = 0; i < MANY; i += 2) { /* half of them go before */
        twill_cancel_remove_hook(&children[i], &hooks[i]);
        twill_cancel_detach(&children[i]);
    }
    twill_cancel_fire(&parent, 1);
    CHECK_EQ(calls, MANY / 2);
    for (int i = 1; i < MANY; i += 2)
        twill_cancel_detach(&children[i]);
    CHECK(token_is_bare(&parent));
}

/* ---- a small object on the protocol: a bounded box of numbers ---- */

struct box {
    _Atomic uint32_t lock;
    int capacity, count, head, arrived;
    bool closed;
    int items[4];
    twill__list pushers, poppers;
    twill__node *destroyer;
};

/* The tail of every critical section: who sees that a destroyer waits and nobody else is here
   lets him go on. */
static void box_unlock(struct box *box)
{
    if (box->destroyer && !box->pushers.first && !box->poppers.first &&
        !twill__lock_wanted(&box->lock)) {
        _Atomic uint32_t *word = &box->destroyer->word;
        box->destroyer = NULL;
        atomic_fetch_or(word, TWILL__GRANTED);
        twill__unlock(&box->lock);
        twill__wake(word, 1);
        return;
    }
    twill__unlock(&box->lock);
}

static void box_put(struct box *box, int item)
{
    box->items[(box->head + box->count++) % box->capacity] = item;
}

/* Waits in `list`, which the node has joined; gives the lock back meanwhile. */
static twill_status box_wait(struct box *box, twill__list *list, twill__node *node,
                             twill_until until)
{
    twill_status status;

    twill__list_append(list, node);
    box_unlock(box);
    status = twill__wait(node, until);
    if (status == TWILL_OK)
        return (twill_status)node->answer;
    twill__lock(&box->lock);
    twill__list_remove(list, node);
    box_unlock(box);
    return status;
}

static twill_status box_push(struct box *box, int item, twill_until until)
{
    twill__node me, *next;

    twill__lock(&box->lock);
    box->arrived++;
    if (box->closed) {
        box_unlock(box);
        return TWILL_CLOSED;
    }
    for (twill__node *node = box->poppers.first; node; node = next) {
        _Atomic uint32_t *word = &node->word;
        next = node->next;
        node->answer = TWILL_OK;
        node->value = (void *)(intptr_t)item;
        if (twill__grant(&box->poppers, node)) {
            box_unlock(box);
            twill__wake(word, 1);
            return TWILL_OK;
        }
    }
    if (box->count < box->capacity) {
        box_put(box, item);
        box_unlock(box);
        return TWILL_OK;
    }
    twill__node_init(&me);
    me.value = (void *)(intptr_t)item;
    return box_wait(box, &box->pushers, &me, until);
}

static twill_status box_pop(struct box *box, int *item, twill_until until)
{
    twill__node me, *next;
    twill_status status;

    twill__lock(&box->lock);
    box->arrived++;
    if (box->count) {
        *item = box->items[box->head];
        box->head = (box->head + 1) % box->capacity;
        box->count--;
        for (twill__node *node = box->pushers.first; node; node = next) {
            _Atomic uint32_t *word = &node->word;
            int value = (int)(intptr_t)node->value;
            next = node->next;
            node->answer = TWILL_OK;
            if (twill__grant(&box->pushers, node)) {
                box_put(box, value);
                box_unlock(box);
                twill__wake(word, 1);
                return TWILL_OK;
            }
        }
        box_unlock(box);
        return TWILL_OK;
    }
    if (box->closed) {
        box_unlock(box);
        return TWILL_CLOSED;
    }
    twill__node_init(&me);
    status = box_wait(box, &box->poppers, &me, until);
    if (status == TWILL_OK)
        *item = (int)(intptr_t)me.value;
    return status;
}

static void box_tell_closed(twill__list *list)
{
    twill__node *last = list->last, *next;

    for (twill__node *node = list->first; node; node = next) {
        _Atomic uint32_t *word = &node->word;
        bool end = node == last; /* those that are leaving are put behind it */
        next = node->next;
        node->answer = TWILL_CLOSED;
        if (twill__grant(list, node))
            twill__wake(word, 1);
        if (end)
            return;
    }
}

static void box_close(struct box *box)
{
    twill__lock(&box->lock);
    box->closed = true;
    box_tell_closed(&box->pushers);
    box_tell_closed(&box->poppers);
    box_unlock(box);
}

static struct box *box_new(int capacity)
{
    struct box *box = calloc(1, sizeof *box);

    if (!CHECK(box != NULL))
        abort();
    box->capacity = capacity;
    return box;
}

static void box_destroy(struct box *box)
{
    twill__node me;

    twill__node_init(&me);
    twill__lock(&box->lock);
    box->closed = true;
    box_tell_closed(&box->pushers);
    box_tell_closed(&box->poppers);
    if (box->pushers.first || box->poppers.first || twill__lock_wanted(&box->lock)) {
        box->destroyer = &me;
        twill__unlock(&box->lock);
        twill__await(&me);
        twill__lock(&box->lock); /* so that he who told us has left the section */
    }
    memset(box, 0xa5, sizeof *box);
    free(box);
}

/* Callers that have reached the lock: from then on a destroy must serve them. */
static int box_arrived(struct box *box)
{
    int arrived;

    twill__lock(&box->lock);
    arrived = box->arrived;
    box_unlock(box);
    return arrived;
}

struct user {
    struct box *box;
    twill_until until;
    int item, repeats;
    twill_status status;
    int done;
};

static void pop_once(void *arg)
{
    struct user *user = arg;
    user->status = box_pop(user->box, &user->item, user->until);
}

static void push_once(void *arg)
{
    struct user *user = arg;
    user->status = box_push(user->box, user->item, user->until);
}

/* Hand-over against cancel and deadline: the item goes to one of them or stays, never lost,
   never twice. */
TEST(hand_over_against_cancel_and_deadline)
{
    int handed = 0;

    for (int round = 0; round < ROUNDS; round++) {
        twill_cancel token = {{0}};
        struct box *box = box_new(1);
        struct user a = {box, {0, &token}, 0, 0, TWILL_LOST, 0}, b = a,
                    pusher = {box, {0, NULL}, 5, 0, TWILL_LOST, 0};
        twill__thrd threads[3];

        b.until = twill_within_or_cancelled(moment(TWILL_US(100)), &token);
        go(&threads[0], pop_once, &a);
        go(&threads[1], pop_once, &b);
        go(&threads[2], push_once, &pusher);
        twill_sleep(twill_within(moment(TWILL_US(120))));
        twill_cancel_fire(&token, 1);
        for (int i = 0; i < 3; i++)
            twill__thread_join(&threads[i]);
        CHECK_EQ(pusher.status, TWILL_OK);
        CHECK(a.status == TWILL_OK || a.status == TWILL_CANCELLED);
        CHECK(b.status == TWILL_OK || b.status == TWILL_CANCELLED || b.status == TWILL_TIMEOUT);
        CHECK_EQ((a.status == TWILL_OK) + (b.status == TWILL_OK) + box->count, 1);
        CHECK(a.status != TWILL_OK || a.item == 5);
        CHECK(b.status != TWILL_OK || b.item == 5);
        CHECK(!box->poppers.first && !box->pushers.first);
        CHECK(token_is_bare(&token));
        handed += box->count == 0;
        box_destroy(box);
    }
    CHECK(handed > 0);
}

/* A push against its deadline: the item is in the box exactly if the push says so. */
TEST(push_against_its_deadline)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct box *box = box_new(1);
        struct user users[3];
        twill__thrd threads[3];
        int stored;

        CHECK_EQ(box_push(box, 1, twill_within(0)),
                 TWILL_OK); /* it can at once: an old deadline does not matter */
        for (int i = 0; i < 3; i++)
            users[i] = (struct user){box, {0, NULL}, i + 2, 0, TWILL_LOST, 0};
        users[0].until = twill_within(moment(TWILL_US(100)));
        users[1].until = twill_within(moment(TWILL_US(100)));
        go(&threads[0], push_once, &users[0]);
        go(&threads[1], push_once, &users[1]);
        go(&threads[2], pop_once, &users[2]);
        for (int i = 0; i < 3; i++)
            twill__thread_join(&threads[i]);
        CHECK_EQ(users[2].status, TWILL_OK);
        CHECK_EQ(users[2].item, 1);
        stored = (users[0].status == TWILL_OK) + (users[1].status == TWILL_OK);
        CHECK_EQ(stored, box->count);
        CHECK(stored == 0 || box->items[box->head] == (users[0].status == TWILL_OK ? 2 : 3));
        CHECK(!box->pushers.first);
        box_destroy(box);
    }
}

/* What a wait could do at once it does, however late it is; what it cannot, it gives up at once. */
TEST(expired_wait_and_fired_token)
{
    struct box *box = box_new(1);
    twill_cancel token = {{0}};
    int item = 0;

    CHECK_EQ(box_pop(box, &item, twill_within(0)), TWILL_TIMEOUT);
    CHECK_EQ(box_pop(box, &item, twill_within(-5)), TWILL_TIMEOUT);
    twill_cancel_fire(&token, 1);
    CHECK_EQ(box_pop(box, &item, twill_until_cancelled(&token)), TWILL_CANCELLED);
    CHECK_EQ(box_pop(box, &item, twill_within_or_cancelled(0, &token)),
             TWILL_CANCELLED); /* goes before TIMEOUT */
    CHECK_EQ(box_push(box, 3, twill_within_or_cancelled(0, &token)), TWILL_OK);
    CHECK_EQ(box_push(box, 4, twill_within_or_cancelled(0, &token)), TWILL_CANCELLED);
    CHECK_EQ(box_pop(box, &item, twill_within_or_cancelled(0, &token)), TWILL_OK);
    CHECK_EQ(item, 3);
    CHECK(!box->poppers.first && !box->pushers.first);
    box_destroy(box);
}

static void push_many(void *arg)
{
    struct user *user = arg;

    for (int i = 0; i < user->repeats; i++)
        user->done += box_push(user->box, i, user->until) == TWILL_OK;
}

static void pop_many(void *arg)
{
    struct user *user = arg;
    int item = 0;

    for (int i = 0; i < user->repeats; i++)
        user->done += box_pop(user->box, &item, user->until) == TWILL_OK;
}

/* Both sides, capacity 1, closed in the middle: the books balance. */
TEST(close_in_the_middle)
{
    for (int round = 0; round < ROUNDS / 3; round++) {
        struct box *box = box_new(1);
        struct user users[4];
        twill__thrd threads[4];

        for (int i = 0; i < 4; i++) {
            users[i] = (struct user){box, {0, NULL}, 0, 8, TWILL_LOST, 0};
            go(&threads[i], i % 2 ? pop_many : push_many, &users[i]);
        }
        twill_sleep(twill_within(moment(TWILL_US(100))));
        box_close(box);
        for (int i = 0; i < 4; i++)
            twill__thread_join(&threads[i]);
        CHECK_EQ(users[0].done + users[2].done, users[1].done + users[3].done + box->count);
        CHECK(!box->poppers.first && !box->pushers.first);
        box_destroy(box);
    }
}

/* A storm of short waits with tokens and deadlines: every item pushed is popped or still there. */
static void push_hurried(void *arg)
{
    struct user *user = arg;

    for (int i = 0; i < user->repeats; i++)
        user->done += box_push(user->box, i,
                               twill_within_or_cancelled(moment(TWILL_US(20)),
                                                         user->until.cancel)) == TWILL_OK;
}

static void pop_hurried(void *arg)
{
    struct user *user = arg;
    int item = 0;

    for (int i = 0; i < user->repeats; i++)
        user->done += box_pop(user->box, &item,
                              twill_within_or_cancelled(moment(TWILL_US(20)),
                                                        user->until.cancel)) == TWILL_OK;
}

TEST(hurried_users_lose_nothing)
{
    for (int round = 0; round < 8; round++) {
        struct box *box = box_new(2);
        twill_cancel token = {{0}};
        struct user users[4];
        twill__thrd threads[4];

        for (int i = 0; i < 4; i++) {
            users[i] = (struct user){box, {0, round % 2 ? &token : NULL}, 0, ROUNDS, TWILL_LOST, 0};
            go(&threads[i], i % 2 ? pop_hurried : push_hurried, &users[i]);
        }
        twill_sleep(twill_within(TWILL_MS(3)));
        twill_cancel_fire(&token, 1);
        for (int i = 0; i < 4; i++)
            twill__thread_join(&threads[i]);
        CHECK_EQ(users[0].done + users[2].done, users[1].done + users[3].done + box->count);
        CHECK(!box->poppers.first && !box->pushers.first && token_is_bare(&token));
        box_destroy(box);
    }
}

/* Destroy with waiters inside: one for ever, one timed, one cancelled at the same time. */
TEST(destroy_with_waiters)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct box *box = box_new(1);
        twill_cancel token = {{0}};
        struct user users[3];
        twill__thrd threads[4];

        for (int i = 0; i < 3; i++)
            users[i] = (struct user){box, {0, NULL}, 0, 0, TWILL_LOST, 0};
        users[1].until = twill_within(moment(TWILL_US(150)));
        users[2].until.cancel = &token;
        for (int i = 0; i < 3; i++)
            go(&threads[i], pop_once, &users[i]);
        while (box_arrived(box) < 3)
            twill__yield();
        go(&threads[3], fire_three, &token);
        if (round % 2)
            twill_sleep(twill_within(moment(TWILL_US(60))));
        box_destroy(box);
        for (int i = 0; i < 4; i++)
            twill__thread_join(&threads[i]);
        CHECK_EQ(users[0].status, TWILL_CLOSED);
        CHECK(users[1].status == TWILL_CLOSED || users[1].status == TWILL_TIMEOUT);
        CHECK(users[2].status == TWILL_CLOSED || users[2].status == TWILL_CANCELLED);
    }
}

/* Destroy while callers still wait for the lock itself: they were counted there, so they are
   served. */
TEST(destroy_with_callers_at_the_lock)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct box *box = box_new(1);
        struct user popper = {box, {0, NULL}, 0, 0, TWILL_LOST, 0}, pusher = popper;
        twill__thrd threads[2];

        pusher.item = 1;
        pusher.until = twill_within(moment(TWILL_US(100)));
        twill__lock(&box->lock);
        go(&threads[0], pop_once, &popper);
        go(&threads[1], push_once, &pusher);
        while (atomic_load(&box->lock) / TWILL__WAITER < 2)
            twill__yield();
        box_unlock(box);
        box_destroy(box);
        for (int i = 0; i < 2; i++)
            twill__thread_join(&threads[i]);
        if (popper.status == TWILL_OK)
            CHECK_EQ(pusher.status, TWILL_OK);
        else
            CHECK(popper.status == TWILL_CLOSED &&
                  (pusher.status == TWILL_CLOSED || pusher.status == TWILL_OK));
    }
}

/* First come, first served, whoever leaves in between. */
TEST(served_in_order)
{
    struct box *box = box_new(1);
    twill_cancel token = {{0}};
    struct user users[4];
    twill__thrd threads[4];

    for (int i = 0; i < 4; i++) {
        users[i] = (struct user){box, {0, i == 1 ? &token : NULL}, 0, 0, TWILL_LOST, 0};
        go(&threads[i], pop_once, &users[i]);
        while (box_arrived(box) < i + 1)
            twill__yield();
    }
    twill_cancel_fire(&token, 1);
    twill__thread_join(&threads[1]);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(box_push(box, 100 + i, twill_within(0)), TWILL_OK);
    for (int i = 0; i < 4; i++)
        if (i != 1)
            twill__thread_join(&threads[i]);
    CHECK_EQ(users[0].item, 100);
    CHECK_EQ(users[1].status, TWILL_CANCELLED);
    CHECK_EQ(users[2].item, 101);
    CHECK_EQ(users[3].item, 102);
    box_destroy(box);
}

/* ---- everything at once ---- */

struct storm {
    twill_cancel *root;
    int ran;
};

static void storm_sleep(struct storm *storm, twill_cancel *token)
{
    twill_cancel *child = malloc(sizeof *child);

    if (!CHECK(child != NULL))
        return;
    twill_cancel_init(child, token);
    twill_sleep(twill_within_or_cancelled(moment(TWILL_US(10)), child));
    if (twill_cancel_fired(child))
        CHECK_EQ(twill_cancel_reason(child), 5);
    twill_cancel_detach(child);
    free(child);
    storm->ran++;
}

static void storm_hook(struct storm *storm, twill_cancel *token)
{
    twill_cancel_hook *hook = malloc(sizeof *hook);
    _Atomic int mine = 0;

    if (!CHECK(hook != NULL))
        return;
    *hook = (twill_cancel_hook){count_hook, &mine, {0}};
    twill_cancel_add_hook(token, hook);
    if (test_random_below(2))
        twill__yield();
    twill_cancel_remove_hook(token, hook);
    free(hook);
    CHECK(mine <= 1);
    CHECK(mine == 0 || twill_cancel_fired(token));
    storm->ran++;
}

static void storm_thread(void *arg)
{
    struct storm *storm = arg;
    twill_cancel token;

    twill_cancel_init(&token, storm->root);
    while (!twill_cancel_fired(&token)) {
        twill_cancel *on = test_random_below(2) ? &token : storm->root;
        if (test_random_below(2))
            storm_sleep(storm, on);
        else
            storm_hook(storm, on);
    }
    storm_hook(storm, &token);
    twill_cancel_detach(&token);
}

TEST(storm_of_everything)
{
    for (int round = 0; round < ROUNDS / 3; round++) {
        twill_cancel root = {{0}};
        struct storm storms[4];
        twill__thrd threads[4];

        for (int i = 0; i < 4; i++) {
            storms[i] = (struct storm){&root, 0};
            go(&threads[i], storm_thread, &storms[i]);
        }
        twill_sleep(twill_within(moment(TWILL_US(300))));
        twill_cancel_fire(&root, 5);
        for (int i = 0; i < 4; i++) {
            twill__thread_join(&threads[i]);
            CHECK(storms[i].ran > 0);
        }
        CHECK(token_is_bare(&root));
    }
}

/* ---- fork ---- */

/* Runs fn(arg) in a forked child, which must come to its end. */
static void in_child(body *fn, void *arg)
{
    int status = -1;
    pid_t child = fork();

    if (child == 0) {
        alarm(20);
        fn(arg);
        _exit(0);
    }
    if (!CHECK(child > 0))
        return;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    CHECK_EQ(status, 0);
}

struct forked {
    twill_cancel parent, token;
    twill_cancel_hook hook, running;
    _Atomic uint32_t locked, release, in_hook, leave_hook;
    _Atomic int calls;
    uint32_t generation;
};

static void use_inherited(void *arg)
{
    struct forked *f = arg;
    _Atomic int calls = 0;
    twill_cancel_hook hook = {count_hook, &calls, {0}};

    CHECK(twill__generation() > f->generation);
    twill_cancel_remove_hook(&f->token, &f->hook); /* added by the parent process */
    twill_cancel_remove_hook(&f->token, &f->hook);
    CHECK_EQ(twill_sleep(twill_within_or_cancelled(TWILL_MS(1), &f->token)), TWILL_OK);
    twill_cancel_add_hook(&f->token, &hook);
    twill_cancel_fire(&f->parent, 6);
    CHECK_EQ(calls, 1);
    CHECK_EQ(twill_cancel_reason(&f->token), 6);
    CHECK_EQ(twill_sleep(twill_until_cancelled(&f->token)), TWILL_CANCELLED);
    twill_cancel_detach(&f->token);
    twill_cancel_detach(&f->parent);
    CHECK(token_is_bare(&f->token) && token_is_bare(&f->parent));
    CHECK_EQ(f->calls, 0);
}

static void use_inherited_twice(void *arg)
{
    struct forked *f = arg;

    CHECK_EQ(twill_sleep(twill_within_or_cancelled(TWILL_US(50), &f->token)), TWILL_OK);
    f->generation = twill__generation();
    in_child(use_inherited, f);
    f->generation--;
    use_inherited(f);
}

static void hold_locks(void *arg)
{
    struct forked *f = arg;

    twill__token_lock(twill__token_of(&f->parent));
    twill__token_lock(twill__token_of(&f->token));
    set(&f->locked, 1);
    await(&f->release, 1);
    twill__unlock(&twill__token_of(&f->token)->lock);
    twill__unlock(&twill__token_of(&f->parent)->lock);
}

static void sleep_on_token(void *arg)
{
    struct forked *f = arg;
    CHECK_EQ(twill_sleep(twill_until_cancelled(&f->token)), TWILL_CANCELLED);
}

/* At the fork one thread of the parent sleeps on the token, and another one holds its lock and
   the parent's. */
TEST(forked_child_takes_tokens_over)
{
    for (int way = 0; way < 2; way++) {
        struct forked f = {.hook = {count_hook, &f.calls, {0}}};
        twill__thrd sleeper, holder;

        twill_cancel_init(&f.token, &f.parent);
        go(&sleeper, sleep_on_token, &f);
        while (!atomic_load(&twill__token_of(&f.token)->me.linked))
            twill__yield();
        twill_sleep(twill_within(TWILL_MS(2)));
        twill_cancel_add_hook(&f.token, &f.hook); /* stands before the sleeper in the list */
        go(&holder, hold_locks, &f);
        await(&f.locked, 1);
        f.generation = twill__generation();
        in_child(way ? use_inherited_twice : use_inherited, &f);
        CHECK_EQ(twill__generation(), f.generation);
        set(&f.release, 1);
        twill__thread_join(&holder);
        CHECK(!twill_cancel_fired(&f.token)); /* the child's fire was the child's */
        twill_cancel_fire(&f.parent, 1);
        twill__thread_join(&sleeper);
        CHECK_EQ(f.calls, 1);
        twill_cancel_detach(&f.token);
    }
}

static void stay_in_hook(int reason, const twill_task *task)
{
    struct forked *f = task->context;

    (void)reason;
    set(&f->in_hook, 1);
    await(&f->leave_hook, 1);
}

static void fire_parent(void *arg)
{
    twill_cancel_fire(&((struct forked *)arg)->parent, 2);
}

static void take_running_hook_away(void *arg)
{
    struct forked *f = arg;
    _Atomic int calls = 0;
    twill_cancel_hook hook = {count_hook, &calls, {0}};

    twill_cancel_remove_hook(&f->token, &f->running); /* its thread does not exist here */
    CHECK_EQ(twill_cancel_reason(&f->token), 2);
    twill_cancel_add_hook(&f->token, &hook);
    CHECK_EQ(calls, 1);
    twill_cancel_fire(&f->parent, 3);
    twill_cancel_detach(&f->token);
    twill_cancel_detach(&f->parent);
}

TEST(forked_child_removes_a_hook_that_ran)
{
    struct forked f = {.running = {stay_in_hook, &f, {0}}};
    twill__thrd thread;

    twill_cancel_init(&f.token, &f.parent);
    twill_cancel_add_hook(&f.token, &f.running);
    go(&thread, fire_parent, &f);
    await(&f.in_hook, 1);
    in_child(take_running_hook_away, &f);
    set(&f.leave_hook, 1);
    twill__thread_join(&thread);
    twill_cancel_remove_hook(&f.token, &f.running);
    twill_cancel_detach(&f.token);
}

static void go_on_after_fork_in_hook(void *arg)
{
    struct forked *f = arg;

    twill_cancel_fire(&f->token, 5); /* being fired in the parent; here nobody is */
    CHECK_EQ(twill_sleep(twill_until_cancelled(&f->token)), TWILL_CANCELLED);
    twill_cancel_remove_hook(&f->token, &f->hook);
}

static void fork_in_hook(int reason, const twill_task *task)
{
    CHECK_EQ(reason, 4);
    in_child(go_on_after_fork_in_hook, task->context);
}

TEST(fork_inside_a_hook)
{
    struct forked f = {.hook = {fork_in_hook, &f, {0}}};

    twill_cancel_init(&f.token, &f.parent);
    twill_cancel_add_hook(&f.token, &f.hook);
    twill_cancel_fire(&f.parent, 4);
    CHECK_EQ(twill_cancel_reason(&f.token), 4);
    twill_cancel_remove_hook(&f.token, &f.hook);
    twill_cancel_detach(&f.token);
    CHECK(token_is_bare(&f.token) && token_is_bare(&f.parent));
}

/* ---- a token that is made ready again while its hooks run ---- */

typedef struct renewal {
    twill_cancel token;
    twill_cancel_hook first, second;
    twill__node node;
    bool asks;
    int called;
} renewal;

static void count_renewal(int reason, const twill_task *task)
{
    (void)reason;
    ((renewal *)task->context)->called++;
}

/* As a team does for a worker that goes on to a lower item; there somebody waits, and then there is
   a request, which tells nobody. */
static void renew(int reason, const twill_task *task)
{
    renewal *r = task->context;
    twill__token *token = twill__token_of(&r->token);

    count_renewal(reason, task);
    twill__token_lock(token);
    atomic_store(&token->state, 0);
    if (r->asks) {
        twill__node_init(&r->node);
        twill__link_in(&token->head, &r->node.in_token, TWILL__LINK_NODE);
    }
    twill__unlock(&token->lock);
    if (r->asks)
        twill_cancel_request(&r->token, 7);
}

TEST(a_renewed_token_calls_no_further_hook_and_tells_who_waits)
{
    for (int asks = 0; asks < 2; asks++) {
        renewal r = {.asks = asks};

        twill_cancel_init(&r.token, NULL);
        r.first = (twill_cancel_hook){.fn = renew, .context = &r};
        r.second = (twill_cancel_hook){.fn = count_renewal, .context = &r};
        twill_cancel_add_hook(&r.token, &r.second);
        twill_cancel_add_hook(&r.token, &r.first); /* the last is called first */
        twill_cancel_fire(&r.token, 1);
        CHECK_EQ(r.called, 1 + asks);
        CHECK_EQ(twill_cancel_reason(&r.token), asks ? 7 : 0);
        if (asks)
            CHECK(atomic_load(&r.node.word) & TWILL__NUDGED);
        twill_cancel_remove_hook(&r.token, &r.first);
        twill_cancel_remove_hook(&r.token, &r.second);
        twill_cancel_detach(&r.token);
    }
}

HARNESS_MAIN

/* graceful_shutdown with real signals. What ends a process runs in a forked child, seen from
   outside as a shell sees it. Not under ThreadSanitizer, which delays handlers. */
#define HARNESS_FAULTS 1
#include "harness.h"

#define TWILL_IMPLEMENTATION
#include "twill_graceful_shutdown.h"
#include "twill_producer_consumer.h"

#if defined TWILL__UNDER_TSAN || !TWILL__SIGNALS
TEST(signals)
{
    SKIP("handlers are late under ThreadSanitizer, or there are none");
}
#else

#define ME getpid()

static twill_shutdown *make(const twill_shutdown_options *options)
{
    twill_shutdown *shutdown = NULL;
    CHECK_EQ(twill_shutdown_create(&shutdown, options), TWILL_OK);
    return shutdown;
}

static void end(twill_shutdown *shutdown)
{
    CHECK_EQ(twill_shutdown_destroy(shutdown), TWILL_OK);
}

static void nap(twill_ns ns)
{
    (void)twill_sleep(twill_within(ns));
}

/* Runs fn in a child. 0..255: its exit status; 256 + n: killed by signal n. */
static int run(void (*fn)(void))
{
    int status = -1;
    pid_t child;
    fflush(stdout);
    child = fork();
    if (child == 0) {
        fn();
        _exit(99);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void set(int number, void (*handler)(int))
{
    twill__action action;
    twill__action_make(&action, handler, NULL, 0);
    CHECK_EQ(twill__sigaction(number, &action, NULL), 0);
}

static void (*get(int number))(int)
{
    twill__action action;
    CHECK_EQ(twill__sigaction(number, NULL, &action), 0);
    return action.TWILL__ACTION_HANDLER;
}

struct thread {
    twill__thrd thread;
    void (*fn)(struct thread *me);
    twill_shutdown *shutdown;
    twill_ns gap;
    pid_t target;
    size_t count;
    atomic_int stage, sent;
};

static void thread_main(void *me)
{
    ((struct thread *)me)->fn(me);
}

static void go(struct thread *me, void (*fn)(struct thread *me))
{
    memset(&me->thread, 0, sizeof me->thread);
    me->fn = fn;
    me->thread.fn = thread_main;
    me->thread.arg = me;
    me->thread.cpu = UINT_MAX;
    CHECK(twill__thread_start(&me->thread));
}

/* ---- one signal ---- */

TEST(a_signal_is_a_request)
{
    static const int list[] = {SIGUSR1, SIGTERM};
    for (int i = 0; i < 2; i++) {
        twill_shutdown *s =
            make(i ? &(twill_shutdown_options){.signals = list, .signal_count = 2} : NULL);
        twill_shutdown_report report;
        CHECK(!twill_shutdown_requested(NULL));
        errno = 77;
        raise(list[1 - i]);
        CHECK_EQ(errno, 77);
        CHECK(twill_shutdown_requested(NULL) && twill_shutdown_requested(s));
        CHECK_EQ(twill_shutdown_reason(NULL), list[1 - i]);
        CHECK_EQ(twill_shutdown_enter(s), TWILL_CLOSED);
        CHECK(twill_cancel_fired(twill_shutdown_drain_token(s)));
        CHECK_EQ(twill_shutdown_wait(s, twill_within(TWILL_SEC(100))), TWILL_OK);
        CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_OK);
        CHECK_EQ(report.reason, list[1 - i]);
        end(s);
    }
}

static void request_in_handler(int number)
{
    twill_shutdown_request(NULL, 1000 + number);
    if (!twill_shutdown_requested(NULL) || twill_shutdown_reason(NULL) != 1000 + number)
        _exit(98);
}

TEST(a_handler_may_ask)
{
    twill_shutdown *s = make(NULL);
    set(SIGUSR2, request_in_handler);
    raise(SIGUSR2);
    CHECK_EQ(twill_shutdown_wait(s, twill_within(TWILL_SEC(100))), TWILL_OK);
    CHECK_EQ(twill_shutdown_reason(s), 1000 + SIGUSR2);
    set(SIGUSR2, SIG_DFL);
    end(s);
}

static void wait_for(struct thread *me)
{
    me->count = (size_t)twill_shutdown_wait(me->shutdown, (twill_until){0});
}

TEST(a_signal_is_seen_where_all_hold_it_off)
{
    twill__signal_mask old;
    twill_shutdown *s;
    struct thread waits = {.count = 99};
    twill__signals_hold(&old); /* the watcher alone can take it */
    s = make(NULL);
    waits.shutdown = s;
    go(&waits, wait_for);
    kill(ME, SIGTERM);
    twill__thread_join(&waits.thread);
    CHECK_EQ(waits.count, TWILL_OK);
    CHECK_EQ(twill_shutdown_reason(s), SIGTERM);
    end(s);
    twill__signals_restore(&old);
}

/* ---- dispositions ---- */

static void own_handler(int number)
{
    (void)number;
}

/* Bit for bit, but for what glibc sets at each call: SA_RESTORER, the mask beyond 64 signals. */
static bool same_action(const twill__action *a, const twill__action *b)
{
    for (int number = 1; number < TWILL__SIGNAL_COUNT; number++)
        if (sigismember(&a->TWILL__ACTION_MASK, number) !=
            sigismember(&b->TWILL__ACTION_MASK, number))
            return false;
    return a->TWILL__ACTION_HANDLER == b->TWILL__ACTION_HANDLER &&
           ((a->TWILL__ACTION_FLAGS ^ b->TWILL__ACTION_FLAGS) & ~0x04000000) == 0;
}

TEST(what_was_there_comes_back)
{
    static const int list[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
    twill__action before[4], after, own;
    memset(&own, 0, sizeof own);
    own.TWILL__ACTION_HANDLER = own_handler;
    sigemptyset(&own.TWILL__ACTION_MASK);
    sigaddset(&own.TWILL__ACTION_MASK, SIGPIPE);
    CHECK_EQ(twill__sigaction(SIGUSR1, &own, NULL), 0);
    set(SIGUSR2, SIG_IGN);
    set(SIGINT, SIG_DFL); /* a script that runs the tests with `&` has it ignored */
    memset(before, 0, sizeof before);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(twill__sigaction(list[i], NULL, &before[i]), 0);
    for (int k = 0; k < 2; k++) {
        twill_shutdown *s = make(&(twill_shutdown_options){.signals = list, .signal_count = 4});
        for (int i = 0; i < 4; i++)
            CHECK(get(list[i]) == twill__shutdown_handler);
        if (k) {
            raise(SIGTERM);
            CHECK(twill_shutdown_requested(s));
        }
        end(s);
        for (int i = 0; i < 4; i++) {
            memset(&after, 0, sizeof after);
            CHECK_EQ(twill__sigaction(list[i], NULL, &after), 0);
            CHECK(same_action(&before[i], &after));
        }
    }
}

TEST(another_s_handler_is_left_alone)
{
    twill_shutdown *s = make(NULL);
    set(SIGINT, own_handler);
    end(s);
    CHECK(get(SIGINT) == own_handler);
    CHECK(get(SIGTERM) == SIG_DFL);
    set(SIGINT, SIG_DFL);
}

TEST(ignored_stays_ignored)
{
    twill_shutdown *s;
    set(SIGINT, SIG_IGN);
    s = make(NULL);
    CHECK(get(SIGINT) == SIG_IGN);
    CHECK(get(SIGTERM) == twill__shutdown_handler);
    raise(SIGINT);
    CHECK(!twill_shutdown_requested(s));
    end(s);
    CHECK(get(SIGINT) == SIG_IGN);
    s = make(&(twill_shutdown_options){.take_ignored = true});
    raise(SIGINT);
    CHECK(twill_shutdown_requested(s));
    end(s);
    CHECK(get(SIGINT) == SIG_IGN);
    set(SIGINT, SIG_DFL);
}

TEST(a_quit_that_is_ignored_stays_so)
{
    static const int quit[] = {SIGQUIT, SIGUSR1};
    set(SIGQUIT, SIG_IGN);
    set(SIGUSR1, SIG_IGN); /* of this one nobody keeps that */
    twill_shutdown *s = make(&(twill_shutdown_options){.signals = quit, .signal_count = 2});
    CHECK(get(SIGQUIT) == SIG_IGN);
    CHECK(get(SIGUSR1) == twill__shutdown_handler);
    raise(SIGQUIT);
    CHECK(!twill_shutdown_requested(s));
    end(s);
    CHECK(get(SIGUSR1) == SIG_IGN);
    set(SIGQUIT, SIG_DFL);
    set(SIGUSR1, SIG_DFL);
}

TEST(one_owner)
{
    twill_shutdown *s = make(NULL), *other = (twill_shutdown *)(uintptr_t)8, *quiet;
    CHECK_EQ(twill_shutdown_create(&other, NULL), TWILL_BUSY);
    CHECK_PTR(other, NULL);
    quiet = make(&(twill_shutdown_options){.no_signals = true});
    raise(SIGTERM);
    CHECK(twill_shutdown_requested(s) && !twill_shutdown_requested(quiet));
    end(quiet);
    end(s);
    s = make(NULL);
    CHECK(!twill_shutdown_requested(s));
    end(s);
}

TEST(create_fails_and_installs_nothing)
{
    static const int no[] = {SIGTERM, 33}; /* glibc keeps 33 for itself; elsewhere it is fine */
    twill_shutdown *s;
    for (unsigned long k = 1; k <= 2; k++) {
        faults_fail_alloc(k);
        CHECK_EQ(twill_shutdown_create(&s, NULL), TWILL_NO_MEMORY);
        faults_fail_alloc(0);
        CHECK(get(SIGTERM) == SIG_DFL);
        faults_fail_thread(k);
        CHECK_EQ(twill_shutdown_create(&s, NULL), TWILL_NO_THREAD);
        faults_fail_thread(0);
        CHECK(get(SIGTERM) == SIG_DFL && get(SIGINT) == SIG_DFL);
    }
    if (twill_shutdown_create(&s, &(twill_shutdown_options){.signals = no, .signal_count = 2}) ==
        TWILL_OK)
        end(s);
    else
        CHECK_PTR(s, NULL);
    CHECK(get(SIGTERM) == SIG_DFL);
    CHECK_EQ(faults_live(), 0);
    s = make(NULL); /* and nobody is left as the owner */
    end(s);
}

/* ---- actions ---- */

static atomic_int reloads;
static atomic_uint_least64_t reload_thread;

static void reload(int number, const twill_task *task)
{
    CHECK_EQ(number, SIGHUP);
    CHECK_PTR(task->context, &reloads);
    atomic_store(&reload_thread, twill__thread_number());
    atomic_fetch_add(&reloads, 1);
    nap(TWILL_MS(1));
}

TEST(an_action_is_never_lost)
{
    twill_signal_action action = {SIGHUP, reload, &reloads};
    twill_shutdown *s = make(&(twill_shutdown_options){.actions = &action, .action_count = 1});
    atomic_store(&reloads, 0);
    action.signal = SIGUSR1; /* it was copied */
    for (int k = 0; k < 20; k++) {
        int before = atomic_load(&reloads);
        twill_ns until = twill_now() + TWILL_SEC(100);
        for (int i = 0; i < 3; i++)
            raise(SIGHUP);
        while (atomic_load(&reloads) == before && twill_now() < until)
            nap(TWILL_US(50));
        CHECK(atomic_load(&reloads) > before);
    }
    CHECK(atomic_load(&reloads) <= 60);
    CHECK(atomic_load(&reload_thread) != twill__thread_number());
    CHECK(!twill_shutdown_requested(s));
    raise(SIGHUP); /* served before destroy returns */
    nap(TWILL_MS(5));
    int before = atomic_load(&reloads);
    raise(SIGHUP);
    end(s);
    CHECK(atomic_load(&reloads) > before);
    CHECK(get(SIGHUP) == SIG_DFL);
}

static void action_waits(int number, const twill_task *task)
{
    struct thread *gate = task->context;
    (void)number;
    atomic_store(&gate->stage, 1);
    while (atomic_load(&gate->stage) == 1)
        nap(TWILL_US(50));
}

static void destroys(struct thread *me)
{
    end(me->shutdown);
    atomic_store(&me->sent, 1);
}

static int no_hook(const twill_task *task)
{
    (void)task;
    return 0;
}

/* destroy waits for an action; who comes meanwhile is told. */
TEST(a_destroy_that_waits)
{
    struct thread gate = {.count = 0}, who = {.count = 0};
    twill_signal_action action = {SIGHUP, action_waits, &gate};
    twill_shutdown *s = make(&(twill_shutdown_options){.actions = &action, .action_count = 1});
    raise(SIGHUP);
    while (!atomic_load(&gate.stage))
        nap(TWILL_US(50));
    who.shutdown = s;
    go(&who, destroys);
    while (twill_shutdown_wait(s, twill_within(0)) != TWILL_CLOSED)
        nap(TWILL_US(50));
    CHECK_EQ(twill_shutdown_add(s, "", no_hook, NULL, 0), TWILL_CLOSED);
    CHECK_EQ(twill_shutdown_destroy(s), TWILL_BUSY);
    CHECK(!atomic_load(&who.sent));
    atomic_store(&gate.stage, 2);
    twill__thread_join(&who.thread);
    CHECK_EQ(faults_live(), 0);
}

static void action_exits(int number, const twill_task *task)
{
    (void)number;
    atomic_fetch_add((atomic_int *)task->context, 1);
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

TEST(an_action_may_end_its_thread)
{
    atomic_int calls = 0;
    twill_signal_action action = {SIGHUP, action_exits, &calls};
    twill_shutdown *s = make(&(twill_shutdown_options){.actions = &action, .action_count = 1});
    for (int k = 1; k <= 3; k++) { /* another runner each time */
        twill_ns until = twill_now() + TWILL_SEC(100);
        raise(SIGHUP);
        while (atomic_load(&calls) < k && twill_now() < until)
            nap(TWILL_US(100));
        CHECK_EQ(atomic_load(&calls), k);
    }
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    end(s);
}

/* There was no other thread to be had then; it is asked for again when there is something to do. */
TEST(an_action_is_called_though_its_thread_was_missing)
{
    atomic_int calls = 0;
    twill_ns until = twill_now() + TWILL_SEC(100);
    twill_signal_action action = {SIGHUP, action_exits, &calls};
    twill_shutdown *s = make(&(twill_shutdown_options){.actions = &action, .action_count = 1});
    bool missing = false;
    faults_fail_thread(1);
    raise(SIGHUP);
    while (!missing && twill_now() < until) {
        nap(TWILL_US(100));
        twill__lock(&s->lock);
        missing = !s->runner && !s->starting;
        twill__shutdown_unlock(s);
    }
    CHECK(missing);
    faults_fail_thread(0);
    raise(SIGHUP);
    while (atomic_load(&calls) < 2 && twill_now() < until)
        nap(TWILL_US(100));
    CHECK_EQ(atomic_load(&calls), 2);
    end(s);
}

static void action_hangs(int number, const twill_task *task)
{
    (void)number;
    atomic_store((atomic_int *)task->context, 1);
    for (;;)
        nap(TWILL_MS(10));
}

static int hook_counts(const twill_task *task)
{
    atomic_fetch_add((atomic_int *)task->context, 1);
    return 0;
}

static twill_ns hang_total;

static void hang_in_an_action(void)
{
    static atomic_int hangs, hooks;
    twill_signal_action action = {SIGHUP, action_hangs, &hangs};
    twill_shutdown *s =
        make(&(twill_shutdown_options){.actions = &action, .action_count = 1, .total = hang_total});
    twill_shutdown_report report;
    CHECK_EQ(twill_shutdown_add(s, "", hook_counts, &hooks, 0), TWILL_OK);
    raise(SIGHUP);
    while (!atomic_load(&hangs))
        nap(TWILL_US(100));
    twill_shutdown_request(s, 1);
    CHECK_EQ(twill_sleep(twill_within_or_cancelled(TWILL_SEC(100), twill_shutdown_cancel_token(s))),
             TWILL_CANCELLED); /* the watcher runs no user code */
    CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_TIMEOUT);
    twill_shutdown_exit(s, atomic_load(&hooks) ? 12 : 14);
}

static bool the_hook_runs_all_the_same(twill_ns total)
{
    hang_total = total;
    int how = run(hang_in_an_action);
    CHECK(how == 12 || how == 14);
    return how == 12;
}

TEST(a_hung_action_holds_up_nothing)
{
    CHECK(test_in_time(TWILL_MS(200), the_hook_runs_all_the_same));
}

/* ---- the second press ---- */

static atomic_int deaf_ready;

static void deaf(struct thread *me)
{
    (void)me;
    atomic_fetch_add(&deaf_ready, 1);
    for (;;)
        atomic_fetch_add_explicit(&reloads, 0, memory_order_relaxed);
}

/* Everybody computes, or holds the signals off; a child of this process presses. */
static void all_stuck(const twill_shutdown_options *options, int first, int second, twill_ns gap)
{
    static struct thread threads[2];
    twill_shutdown *s = make(options);
    pid_t parent = getpid(), child;
    (void)s;
    for (int i = 0; i < 2; i++)
        go(&threads[i], deaf);
    while (atomic_load(&deaf_ready) < 2)
        nap(TWILL_US(100));
    child = fork();
    if (child == 0) {
        kill(parent, first);
        /* exit: it dies. What reaches a busy machine late may count as the first one's echo */
        for (nap(gap); getppid() == parent; nap(gap))
            kill(parent, second);
        _exit(0);
    }
    for (;;)
        twill__pause();
}

static void press_twice(void)
{
    all_stuck(NULL, SIGINT, SIGINT, TWILL_MS(300));
}

static void press_both(void)
{
    all_stuck(NULL, SIGINT, SIGTERM, TWILL_MS(300));
}

static void press_twice_code(void)
{
    all_stuck(&(twill_shutdown_options){.exit_code = true, .same_press = 1}, SIGTERM, SIGINT,
              TWILL_MS(300));
}

static void press_twice_held_off(void)
{
    twill__signal_mask old;
    twill__signals_hold(&old);
    all_stuck(NULL, SIGTERM, SIGTERM, TWILL_MS(300));
}

TEST(the_second_press_always_works)
{
    CHECK_EQ(run(press_twice), 256 + SIGINT);
    CHECK_EQ(run(press_both), 256 + SIGTERM);
    CHECK_EQ(run(press_twice_code), 128 + SIGINT);
    CHECK_EQ(run(press_twice_held_off), 256 + SIGTERM);
}

static void press_within(void)
{
    twill_shutdown *s = make(&(twill_shutdown_options){.same_press = TWILL_SEC(1000)});
    for (int i = 0; i < 20; i++)
        raise(i % 2 ? SIGINT : SIGTERM);
    CHECK_EQ(twill_shutdown_reason(s), SIGTERM);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    end(s);
    _exit(0);
}

static void press_ignored(void)
{
    twill_shutdown *s =
        make(&(twill_shutdown_options){.same_press = 1, .second = TWILL_SECOND_IGNORED});
    for (int i = 0; i < 20; i++)
        raise(SIGINT);
    CHECK_EQ(twill_shutdown_get_phase(s), TWILL_SHUTDOWN_DRAINING);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    end(s);
    _exit(0);
}

static void press_hurries(void)
{
    twill_shutdown *s = make(&(twill_shutdown_options){
        .total = TWILL_SEC(1000), .same_press = 1, .second = TWILL_SECOND_HURRIES});
    twill_shutdown_report report;
    CHECK_EQ(twill_shutdown_enter(s), TWILL_OK);
    raise(SIGINT);
    nap(TWILL_MS(5));
    CHECK(!twill_cancel_fired(twill_shutdown_cancel_token(s)));
    raise(SIGINT);
    CHECK_EQ(twill_sleep(twill_within_or_cancelled(TWILL_SEC(100), twill_shutdown_cancel_token(s))),
             TWILL_CANCELLED);
    twill_shutdown_leave(s);
    CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_OK);
    CHECK_EQ(report.left_in_cancel, 1);
    CHECK(report.wall < TWILL_SEC(100));
    raise(SIGTERM);
}

TEST(presses_are_counted)
{
    CHECK_EQ(run(press_within), 0);
    CHECK_EQ(run(press_ignored), 0);
    CHECK_EQ(run(press_hurries), 256 + SIGTERM);
}

/* ---- how it ends ---- */

static void quiet_exit(int reason, const twill_shutdown_options *options)
{
    twill_shutdown *s = make(options);
    if (reason < 0)
        raise(-reason);
    else if (reason)
        twill_shutdown_request(s, reason);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    twill_shutdown_exit(s, 5);
}

static void exits_by_int(void)
{
    quiet_exit(-SIGINT, NULL);
}

static void exits_by_term(void)
{
    quiet_exit(-SIGTERM, NULL);
}

static void exits_by_code(void)
{
    quiet_exit(-SIGTERM, &(twill_shutdown_options){.exit_code = true});
}

static void exits_by_call(void)
{
    quiet_exit(SIGTERM, NULL); /* the number says nothing: it did not come as a signal */
}

static void exits_unasked(void)
{
    quiet_exit(0, NULL);
}

static void exits_null(void)
{
    twill_shutdown_exit(NULL, 6);
}

/* Its time is over: what is printed has its 0.1 s all the same. */
static void exits_late(void)
{
    twill_shutdown *s = make(&(twill_shutdown_options){.no_hard_stop = true});
    raise(SIGTERM);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    twill__lock(&s->lock);
    s->end = 1;
    twill__unlock(&s->lock);
    twill_shutdown_exit(s, 7);
}

static void not_reached(void)
{
    _exit(97);
}

static void exits_stuck(void)
{
    twill_shutdown *s = make(&(twill_shutdown_options){.total = TWILL_MS(40)});
    atexit(not_reached); /* it would destroy what the stuck thread uses */
    CHECK_EQ(twill_shutdown_enter(s), TWILL_OK);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_TIMEOUT);
    twill_shutdown_exit(s, 8);
}

static int never_returns(const twill_task *task)
{
    while (task)
        pause();
    return 0;
}

static void exits_in_a_hook(void)
{
    twill_shutdown *s = make(NULL);
    atexit(not_reached); /* likewise */
    CHECK_EQ(twill_shutdown_add(s, "", never_returns, NULL, TWILL_MS(5)), TWILL_OK);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_TIMEOUT);
    twill_shutdown_exit(s, 9);
}

TEST(the_exit_status_says_why)
{
    CHECK_EQ(run(exits_by_int), 256 + SIGINT);
    CHECK_EQ(run(exits_by_term), 256 + SIGTERM);
    CHECK_EQ(run(exits_by_code), 128 + SIGTERM);
    CHECK_EQ(run(exits_by_call), 5);
    CHECK_EQ(run(exits_unasked), 5);
    CHECK_EQ(run(exits_null), 6);
    CHECK_EQ(run(exits_late), 256 + SIGTERM);
    CHECK_EQ(run(exits_stuck), 8);
    CHECK_EQ(run(exits_in_a_hook), 9);
}

static int said[2];

static void says(void)
{
    twill_shutdown *s = make(&(twill_shutdown_options){.message = "stopping\n"});
    dup2(said[1], 2);
    dup2(said[1], 1);
    raise(SIGTERM);
    raise(SIGTERM); /* the same press: once */
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    printf("flushed");
    twill_shutdown_exit(s, 0);
}

/* A thread that flushes has 0.1 s: on a machine that stands still so long, nothing comes of it. */
TEST(the_message_and_what_was_printed)
{
    bool flushed = false;
    for (int k = 0; k < 20 && !flushed; k++) {
        char text[64] = {0};
        if (!CHECK(pipe(said) == 0))
            return;
        CHECK_EQ(run(says), 256 + SIGTERM);
        ssize_t size = read(said[0], text, sizeof text - 1);
        flushed = size == 16;
        CHECK(flushed || size == 9);
        CHECK_STR(text, flushed ? "stopping\nflushed" : "stopping\n");
        close(said[0]);
        close(said[1]);
    }
    CHECK(flushed);
}

static void says_much(void)
{
    static char long_message[5001];
    memset(long_message, 'm', sizeof long_message - 1);
    twill_shutdown *s = make(&(twill_shutdown_options){.message = long_message});
    dup2(said[1], 2);
    raise(SIGTERM);
    end(s);
    _exit(0);
}

TEST(a_message_has_an_end)
{
    static char text[6000];
    int how;
    if (!CHECK(pipe(said) == 0))
        return;
    how = run(says_much);
    /* if nobody could be told before destroy it is raised again, else the watcher was quick */
    CHECK(how == 256 + SIGTERM || how == 0);
    CHECK_EQ(read(said[0], text, sizeof text), 4096);
    close(said[0]);
    close(said[1]);
}

static void fails_memory(void)
{
    faults_fail_alloc_from(1);
}

static void fails_threads(void)
{
    faults_fail_thread(1);
}

static void (*exit_fails)(void);
static bool exit_stuck;

static void says_in_need(void)
{
    twill_shutdown *s =
        make(&(twill_shutdown_options){.total = TWILL_SEC(20), .no_hard_stop = true});
    dup2(said[1], 1);
    raise(SIGTERM);
    if (exit_stuck)
        CHECK_EQ(twill_shutdown_enter(s), TWILL_CLOSED);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    if (exit_stuck) {
        twill__lock(&s->lock);
        s->hung = 1; /* as if a hook had been passed over */
        twill__unlock(&s->lock);
    }
    printf("flushed");
    exit_fails();
    twill_shutdown_exit(s, 0);
}

/* Without a thread of its own that flushes, exit does it itself, unless somebody is stuck. */
TEST(what_was_printed_without_memory_or_thread)
{
    void (*fails[])(void) = {fails_memory, fails_threads};
    for (int k = 0; k < 4; k++) {
        char text[64] = {0};
        exit_fails = fails[k / 2];
        exit_stuck = k % 2;
        if (!CHECK(pipe(said) == 0))
            return;
        CHECK_EQ(run(says_in_need), 256 + SIGTERM);
        close(said[1]);
        CHECK_EQ(read(said[0], text, sizeof text - 1), exit_stuck ? 0 : 7);
        CHECK_STR(text, exit_stuck ? "" : "flushed");
        close(said[0]);
    }
}

static int leaves[2];

static void heard(int number)
{
    (void)number;
}

static void says_into_a_full_pipe(void)
{
    static const char filler[4096]; /* of the size of a page: nothing more goes in */
    twill_shutdown *s =
        make(&(twill_shutdown_options){.total = TWILL_SEC(60), .no_hard_stop = true});
    dup2(said[1], 1);
    close(said[0]);
    raise(SIGTERM);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    for (struct pollfd room = {1, POLLOUT, 0}; poll(&room, 1, 0) == 1;)
        CHECK_EQ(write(1, filler, sizeof filler), sizeof filler);
    printf("flushed");
    CHECK_EQ(write(leaves[1], "", 1), 1);
    twill_shutdown_exit(s, 0);
}

/* Nobody reads for a while, and signals come: exit waits on until all is written. */
TEST(signals_do_not_end_the_flush)
{
    static char text[1 << 17];
    size_t length = 0;
    ssize_t got;
    int status;
    pid_t child;
    twill__action action;
    if (!CHECK(pipe(said) == 0) || !CHECK(pipe(leaves) == 0))
        return;
    twill__action_make(&action, heard, NULL, 0);
    action.TWILL__ACTION_FLAGS -= TWILL__ACTION_RESTART; /* it ends what waits */
    CHECK_EQ(twill__sigaction(SIGUSR1, &action, NULL), 0);
    fflush(stdout);
    child = fork();
    if (child == 0) {
        says_into_a_full_pipe();
        _exit(99);
    }
    close(said[1]);
    close(leaves[1]);
    CHECK_EQ(read(leaves[0], text, 1), 1);
    for (int k = 0; k < 20; k++) {
        nap(TWILL_MS(1));
        kill(child, SIGUSR1);
    }
    while ((got = read(said[0], text + length, sizeof text - length)) > 0)
        length += (size_t)got;
    CHECK(length > 7 && memcmp(text + length - 7, "flushed", 7) == 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    set(SIGUSR1, SIG_DFL);
    close(leaves[0]);
    close(said[0]);
}

extern void flockfile(FILE *file); /* -std=c11 hides it */

static void holds_a_stream(struct thread *me)
{
    flockfile(stdout);
    atomic_store(&me->stage, 1);
    for (;;)
        nap(TWILL_SEC(1));
}

static void a_stream_is_held(void)
{
    static struct thread holds;
    twill_shutdown *s =
        make(&(twill_shutdown_options){.total = TWILL_MS(20), .no_hard_stop = true});
    go(&holds, holds_a_stream);
    while (!atomic_load(&holds.stage))
        nap(TWILL_US(50));
    raise(SIGTERM);
    (void)twill_shutdown_finish(s, NULL); /* also if it comes late: nothing can be said here */
    twill_shutdown_exit(s, 0);
}

TEST(a_stream_that_is_held_for_ever)
{
    twill_ns start = twill_now();
    CHECK_EQ(run(a_stream_is_held), 256 + SIGTERM);
    CHECK(twill_now() - start >= TWILL_MS(100) && twill_now() - start < TWILL_SEC(100));
}

static void says_to_nobody(void)
{
    twill_shutdown *s = make(&(twill_shutdown_options){.message = "stopping\n"});
    dup2(said[1], 2);
    close(said[0]);
    close(said[1]);
    raise(SIGTERM); /* SIGPIPE would be the end */
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    end(s);
    _exit(0);
}

TEST(nobody_reads_the_message)
{
    if (!CHECK(pipe(said) == 0))
        return;
    close(said[0]);
    said[0] = dup(0);
    CHECK_EQ(run(says_to_nobody), 0);
    close(said[0]);
    close(said[1]);
}

/* ---- the hard stop ---- */

static void never_finishes(void)
{
    (void)make(&(twill_shutdown_options){.total = TWILL_MS(80)});
    raise(SIGTERM);
    nap(TWILL_SEC(30));
}

static void never_finishes_code(void)
{
    (void)make(&(twill_shutdown_options){.total = TWILL_MS(80), .exit_code = true});
    raise(SIGTERM);
    nap(TWILL_SEC(30));
}

static void no_hard_stop(void)
{
    (void)make(&(twill_shutdown_options){.total = TWILL_MS(20), .no_hard_stop = true});
    raise(SIGTERM);
    nap(TWILL_MS(150));
    _exit(3);
}

static void no_hard_stop_by_call(void)
{
    twill_shutdown_request(make(&(twill_shutdown_options){.total = TWILL_MS(20)}), SIGTERM);
    nap(TWILL_MS(150));
    _exit(3);
}

/* The program has asked by itself, and hangs; then somebody presses Ctrl-C, once. */
static void a_signal_after_a_request(void)
{
    twill_shutdown *s = make(&(twill_shutdown_options){.total = TWILL_MS(40)});
    twill_shutdown_request(s, 9);
    raise(SIGTERM);
    CHECK_EQ(twill_shutdown_reason(s), 9);
    nap(TWILL_SEC(30));
}

static void a_signal_after_the_end(void)
{
    twill_shutdown *s = make(&(twill_shutdown_options){.total = TWILL_MS(1)});
    twill_shutdown_request(s, 9);
    nap(TWILL_MS(20));
    raise(SIGINT);
    nap(TWILL_SEC(30));
}

static int hangs_for_ever(const twill_task *task)
{
    while (task)
        twill__pause();
    return 0;
}

static void everything_hangs(void)
{
    twill_shutdown *s = make(&(twill_shutdown_options){.total = TWILL_MS(200)});
    static struct thread thread;
    (void)twill_shutdown_add(s, "", hangs_for_ever, NULL, 0);
    (void)twill_shutdown_add(s, "", hangs_for_ever, NULL, TWILL_MS(20));
    go(&thread, deaf);
    (void)twill_shutdown_enter(s);
    raise(SIGINT);
    (void)twill_shutdown_finish(s, NULL);
    twill_shutdown_exit(s, 1);
}

TEST(the_hard_stop)
{
    twill_ns start = twill_now();
    CHECK_EQ(run(never_finishes), 256 + SIGTERM);
    CHECK(twill_now() - start >= TWILL_MS(80) && twill_now() - start < TWILL_SEC(100));
    CHECK_EQ(run(never_finishes_code), 128 + SIGTERM);
    CHECK_EQ(run(no_hard_stop), 3);
    CHECK_EQ(run(no_hard_stop_by_call), 3);
    CHECK_EQ(run(a_signal_after_a_request), 256 + SIGTERM);
    CHECK_EQ(run(a_signal_after_the_end), 256 + SIGINT);
    start = twill_now();
    CHECK_EQ(run(everything_hangs), 256 + SIGINT);
    CHECK(twill_now() - start >= TWILL_MS(199) && twill_now() - start < TWILL_SEC(100));
}

/* ---- forks ---- */

static twill_shutdown *inherited;

static void child_hears_nothing(void)
{
    struct pollfd fd = {inherited->flag.out, POLLIN, 0};
    raise(SIGTERM); /* the parent's handler: not meant */
    raise(SIGINT);
    CHECK(!twill_shutdown_requested(inherited) && !twill_shutdown_requested(NULL));
    twill_shutdown_request(NULL, 4);
    CHECK_EQ(poll(&fd, 1, 0), 0);
    CHECK_EQ(twill_shutdown_destroy(inherited), TWILL_FORKED);
    CHECK(get(SIGTERM) == SIG_DFL);
    raise(SIGTERM);
}

static void child_has_its_own(void)
{
    twill_shutdown *s = make(NULL);
    raise(SIGTERM);
    CHECK_EQ(twill_shutdown_reason(NULL), SIGTERM);
    CHECK_EQ(twill_shutdown_destroy(inherited), TWILL_FORKED); /* the child's handlers stay */
    CHECK(get(SIGTERM) == twill__shutdown_handler);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    end(s);
    CHECK(get(SIGTERM) == SIG_DFL); /* not the parent's handler */
    _exit(4);
}

static void child_exits(void)
{
    twill_shutdown_exit(inherited, 9);
}

/* The parent has TERM and INT; of what the child takes, one is new and one not the parent's any
   more. */
static void child_has_others(void)
{
    static const int some[] = {SIGUSR1, SIGTERM};
    set(SIGTERM, SIG_IGN);
    twill_shutdown *s = make(&(twill_shutdown_options){.signals = some, .signal_count = 2});
    CHECK(get(SIGUSR1) == twill__shutdown_handler);
    CHECK(get(SIGTERM) == twill__shutdown_handler);
    end(s);
    CHECK(get(SIGUSR1) == SIG_DFL);
    CHECK(get(SIGTERM) == SIG_IGN);
    CHECK_EQ(twill_shutdown_destroy(inherited), TWILL_FORKED);
    _exit(harness_failures ? 1 : 4);
}

TEST(a_forked_child)
{
    struct pollfd fd;
    inherited = make(NULL);
    fd = (struct pollfd){twill_shutdown_fd(inherited), POLLIN, 0};
    CHECK_EQ(run(child_hears_nothing), 256 + SIGTERM);
    CHECK_EQ(run(child_exits), 9);
#ifndef __SANITIZE_ADDRESS__ /* it knows nothing of new threads in a child of many */
    CHECK_EQ(run(child_has_its_own), 4);
    CHECK_EQ(run(child_has_others), 4);
#else
    (void)child_has_its_own;
    (void)child_has_others;
#endif
    CHECK_EQ(poll(&fd, 1, 20), 0); /* nothing came through the pipe that they share */
    CHECK(!twill_shutdown_requested(inherited));
    raise(SIGTERM);
    CHECK_EQ(poll(&fd, 1, 10000), 1);
    end(inherited);
}

/* ---- storms ---- */

static void storm(struct thread *me)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
    while (!atomic_load(&me->stage)) {
        kill(ME, numbers[atomic_fetch_add(&me->sent, 1) % 4]);
        if (me->gap)
            nap((twill_ns)test_random_below((uint64_t)me->gap));
    }
}

static void count_action(int number, const twill_task *task)
{
    (void)number;
    atomic_fetch_add((atomic_int *)task->context, 1);
}

static void storm_work(struct thread *me)
{
    while (!atomic_load(&me->stage)) {
        if (twill_shutdown_enter(me->shutdown) == TWILL_OK) {
            me->count++;
            free(malloc(100));
            twill_shutdown_leave(me->shutdown);
        } else {
            nap(TWILL_US(20));
        }
    }
}

/* Signals all the time while an object comes, works, finishes, goes. */
static void storm_over(twill_ns gap, int rounds)
{
    static struct thread storms[2];
    atomic_int actions = 0;
    twill_signal_action list[] = {{SIGHUP, count_action, &actions},
                                  {SIGUSR1, count_action, &actions}};
    const int all[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
    for (int i = 0; i < 4; i++)
        set(all[i], own_handler);
    for (int i = 0; i < 2; i++) {
        storms[i].gap = gap;
        go(&storms[i], storm);
    }
    for (int k = 0; k < rounds; k++) {
        twill_shutdown_report report;
        twill_shutdown *s = make(&(twill_shutdown_options){
            .actions = list, .action_count = 2, .same_press = 1, .second = TWILL_SECOND_IGNORED});
        struct thread work = {.shutdown = s};
        go(&work, storm_work);
        CHECK_EQ(twill_shutdown_wait(s, twill_within(TWILL_SEC(100))), TWILL_OK);
        CHECK_EQ(twill_shutdown_finish(s, &report), TWILL_OK);
        atomic_store(&work.stage, 1);
        twill__thread_join(&work.thread);
        CHECK_EQ(report.entered, work.count);
        CHECK_EQ(report.left_in_drain + report.left_in_cancel, work.count);
        end(s);
    }
    for (int i = 0; i < 2; i++) {
        atomic_store(&storms[i].stage, 1);
        twill__thread_join(&storms[i].thread);
    }
    CHECK_EQ(faults_live(), 0);
    _exit(harness_failures ? 1 : 11);
}

static void storm_dense(void)
{
    storm_over(0, 40);
}

static void storm_thin(void)
{
    storm_over(TWILL_US(300), 100);
}

TEST(storms)
{
    CHECK_EQ(run(storm_dense), 11);
    CHECK_EQ(run(storm_thin), 11);
}

static void stopped_watcher(void)
{
    twill_shutdown *s = make(&(twill_shutdown_options){.same_press = TWILL_SEC(1000)});
    twill__lock(&s->lock); /* the watcher stands still: the pipes fill up */
    for (int i = 0; i < 70000; i++)
        raise(SIGTERM);
    for (int i = 0; i < 70000; i++)
        twill__bell_ring(&s->bell);
    twill__unlock(&s->lock);
    CHECK_EQ(twill_shutdown_wait(s, twill_within(TWILL_SEC(100))), TWILL_OK);
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    end(s);
    _exit(0);
}

TEST(a_full_pipe_loses_nothing)
{
    CHECK_EQ(run(stopped_watcher), 0);
}

/* ---- coming and going ---- */

static atomic_uint own_count;

static void own_counts(int number)
{
    (void)number;
    atomic_fetch_add(&own_count, 1);
}

static atomic_uint object_count;

static void one_at_a_time(struct thread *me)
{
    while (!atomic_load(&me->stage)) {
        unsigned before = atomic_load(&own_count) + atomic_load(&object_count);
        twill_ns until = twill_now() + TWILL_SEC(100);
        kill(ME, SIGTERM);
        me->count++;
        while (atomic_load(&own_count) + atomic_load(&object_count) == before &&
               twill_now() < until)
            twill__yield();
        if (!CHECK(atomic_load(&own_count) + atomic_load(&object_count) == before + 1))
            return;
    }
}

static void told_there(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    CHECK(phase == TWILL_SHUTDOWN_DRAINING && reason == SIGTERM);
    atomic_store((atomic_bool *)task->context, true);
}

/* Each signal is seen: by the handler before, by the object, or by the handler after. */
static void come_and_go(void)
{
    static struct thread sender;
    set(SIGTERM, own_counts);
    go(&sender, one_at_a_time);
    for (int k = 0; k < 400; k++) {
        atomic_bool told = false;
        twill_shutdown *s =
            make(&(twill_shutdown_options){.on_phase = told_there, .context = &told});
        bool asked;
        if (k % 2)
            nap(TWILL_US(test_random_below(100)));
        asked = k % 3 && twill_shutdown_requested(s);
        end(s);
        atomic_fetch_add(&object_count, asked || atomic_load(&told));
    }
    CHECK(get(SIGTERM) == own_counts);
    atomic_store(&sender.stage, 1);
    twill__thread_join(&sender.thread);
    CHECK_EQ(sender.count, atomic_load(&own_count) + atomic_load(&object_count));
    _exit(harness_failures ? 1 : 13);
}

TEST(no_signal_is_lost_between)
{
    CHECK_EQ(run(come_and_go), 13);
}

/* D24: a handler that takes a lock hangs within seconds when it meets a push. */
static void push_all_the_time(void)
{
    twill_shutdown *s = make(&(twill_shutdown_options){.same_press = TWILL_SEC(1000)});
    static struct thread storms = {.gap = 1};
    twill_queue *queue;
    int item = 1, pushed = 0;
    set(SIGHUP, own_handler);
    set(SIGUSR1, own_handler);
    CHECK_EQ(twill_queue_create(&queue, sizeof item, NULL), TWILL_OK);
    go(&storms, storm);
    while (atomic_load(&storms.sent) < 5000) {
        pushed += twill_queue_try_push(queue, &item) == TWILL_OK;
        pushed -= twill_queue_try_pop(queue, &item) == TWILL_OK;
        free(malloc(16));
    }
    CHECK_EQ(pushed, 0);
    atomic_store(&storms.stage, 1);
    twill__thread_join(&storms.thread);
    CHECK(twill_shutdown_requested(s));
    CHECK_EQ(twill_shutdown_finish(s, NULL), TWILL_OK);
    end(s);
    twill_queue_destroy(queue);
    _exit(harness_failures ? 1 : 15);
}

TEST(handlers_take_no_lock)
{
    CHECK_EQ(run(push_all_the_time), 15);
}
#endif

HARNESS_MAIN

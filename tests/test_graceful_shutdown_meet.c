/* test_graceful_shutdown_meet.c - signals that come while an object is created or destroyed, at one
   step: what installs the handler is replaced. Each in a forked child. */
#define _GNU_SOURCE
#include "harness.h"

#include <signal.h>

static int meets(int number, const struct sigaction *action, struct sigaction *old);
#define sigaction(number, action, old) meets(number, action, old)
#define TWILL_IMPLEMENTATION
#include "twill_graceful_shutdown.h"
#undef sigaction

/* What happens right before an action is asked for, or set. */
static void (*meeting)(int number);

static int meets(int number, const struct sigaction *action, struct sigaction *old)
{
    if (meeting)
        meeting(number);
    return sigaction(number, action, old);
}

#if defined TWILL__UNDER_TSAN || !TWILL__SIGNALS
TEST(signals)
{
    SKIP("handlers are late under ThreadSanitizer, or there are none");
    (void)meets(0, NULL, NULL);
}
#else

static void (*get(int number))(int)
{
    struct sigaction action;
    CHECK_EQ(sigaction(number, NULL, &action), 0);
    return action.sa_handler;
}

/* Runs fn in a child. 0..255: its exit status; 256 + n: killed by signal n. */
static int run(void (*fn)(void))
{
    int status = -1;
    pid_t child;
    fflush(stdout);
    child = fork();
    if (child == 0) {
        signal(SIGTERM, SIG_DFL);
        fn();
        _exit(99);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void takes_long(int number)
{
    (void)number;
    (void)twill_sleep(twill_within(TWILL_MS(20)));
}

/* It waited for the object, which was all that the program held it off for. */
static void held_off_before(void)
{
    twill__signal_mask old;
    twill_shutdown *s;
    twill__signals_hold(&old);
    kill(getpid(), SIGTERM);
    meeting = takes_long;
    CHECK_EQ(twill_shutdown_create(&s, NULL), TWILL_OK);
    meeting = NULL;
    CHECK(get(SIGTERM) == twill__shutdown_handler);
    CHECK_EQ(twill_shutdown_wait(s, twill_within(TWILL_SEC(100))), TWILL_OK);
    CHECK_EQ(twill_shutdown_reason(s), SIGTERM);
    CHECK_EQ(twill_shutdown_destroy(s), TWILL_OK);
    _exit(harness_failures ? 1 : 12);
}

static atomic_int own_count;

static void own_handler(int number)
{
    (void)number;
    atomic_fetch_add(&own_count, 1);
}

static void terminates(int number)
{
    if (number == 32) { /* the C library's own: nobody gets it */
        meeting = NULL;
        raise(SIGTERM);
    }
}

static void during_a_create_that_fails(void)
{
    static const int list[] = {SIGTERM, 32};
    struct sigaction own = {.sa_handler = own_handler};
    twill_shutdown *s;
    CHECK_EQ(sigaction(SIGTERM, &own, NULL), 0);
    meeting = terminates;
    CHECK_EQ(
        twill_shutdown_create(&s, &(twill_shutdown_options){.signals = list, .signal_count = 2}),
        TWILL_INVALID);
    CHECK_EQ(atomic_load(&own_count), 1);
    _exit(harness_failures ? 1 : 11);
}

/* The handler began in a thread that went on only when another one had destroyed the object. */
static void late_in_its_handler(void)
{
    twill_shutdown *s;
    CHECK_EQ(twill_shutdown_create(&s, NULL), TWILL_OK);
    CHECK_EQ(twill_shutdown_destroy(s), TWILL_OK);
    twill__shutdown_handler(SIGTERM);
    _exit(10);
}

TEST(a_signal_that_was_held_off)
{
    CHECK_EQ(run(held_off_before), 12);
}

TEST(a_signal_meets_a_create_that_fails)
{
    CHECK_EQ(run(during_a_create_that_fails), 11);
}

TEST(a_signal_meets_destroy)
{
    CHECK_EQ(run(late_in_its_handler), 256 + SIGTERM);
}
#endif

HARNESS_MAIN

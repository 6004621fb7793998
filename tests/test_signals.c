/* platform/signals.h: what it declares in place of the system is what the system has. */
#define _GNU_SOURCE 1
#include <signal.h>
#include <stddef.h>

#define TWILL__OWN_ACTION 1
#define TWILL_IMPLEMENTATION
#include "twill_graceful_shutdown.h"

#include "harness.h"

TEST(our_struct_is_the_system_s)
{
#ifdef TWILL__ACTION_OWN
    CHECK_EQ(sizeof(twill__action), sizeof(struct sigaction));
    CHECK_EQ(offsetof(twill__action, handler), offsetof(struct sigaction, sa_handler));
    CHECK_EQ(offsetof(twill__action, mask), offsetof(struct sigaction, sa_mask));
    CHECK_EQ(offsetof(twill__action, flags), offsetof(struct sigaction, sa_flags));
#if defined __linux__
    CHECK_EQ(offsetof(twill__action, restorer), offsetof(struct sigaction, sa_restorer));
#endif
#else
    SKIP("a processor on which the system's own is used");
#endif
}

TEST(our_numbers_are_the_system_s)
{
    CHECK_EQ(TWILL__SIGNALS_BLOCK, SIG_BLOCK);
    CHECK_EQ(TWILL__SIGNALS_UNBLOCK, SIG_UNBLOCK);
    CHECK_EQ(TWILL__SIGNALS_SET, SIG_SETMASK);
#if TWILL__SIGNALS
    CHECK_EQ(TWILL__ACTION_RESTART, SA_RESTART);
    CHECK_EQ(TWILL__ACTION_ONSTACK, SA_ONSTACK);
#endif
#if TWILL__SIGNALS && defined __linux__
    int ends[2];
    if (CHECK(twill__pipe(ends)))
        for (int i = 0; i < 2; i++) {
            CHECK_EQ(fcntl(ends[i], F_GETFD), FD_CLOEXEC);
            CHECK(fcntl(ends[i], F_GETFL) & O_NONBLOCK);
            close(ends[i]);
        }
#endif
}

#if TWILL__SIGNALS
static volatile sig_atomic_t seen;

static void see(int number)
{
    seen = number;
}

TEST(our_call_is_the_system_s)
{
    twill__action ours, old;
    struct sigaction system;
    int list[] = {SIGUSR1, SIGUSR2};
    twill__action_make(&ours, see, list, 2);
    CHECK_EQ(twill__sigaction(SIGUSR1, &ours, &old), 0);
    CHECK_EQ(sigaction(SIGUSR1, NULL, &system), 0);
    CHECK(system.sa_handler == see);
    CHECK_EQ(system.sa_flags & (SA_RESTART | SA_ONSTACK), SA_RESTART | SA_ONSTACK);
    CHECK(sigismember(&system.sa_mask, SIGUSR2) == 1);
    CHECK(sigismember(&system.sa_mask, SIGHUP) == 0);
    raise(SIGUSR1);
    CHECK_EQ(seen, SIGUSR1);
    CHECK_EQ(twill__sigaction(SIGUSR1, &old, NULL), 0);
    CHECK_EQ(sigaction(SIGUSR1, NULL, &system), 0);
    CHECK(system.sa_handler == SIG_DFL);
}
#endif

#if TWILL__BELLS
/* A bell that has rung, or whose time is over, is not waited for. */
TEST(a_bell_is_heard_at_once)
{
    twill_ns far = TWILL_SEC(100000), since = twill_now();
    twill__bell bell = {0};

    if (!CHECK(twill__bell_make(&bell)))
        return;
    twill__bell_wait(&bell, 1);
    twill__bell_ring(&bell);
    twill__bell_wait(&bell, 0);
    twill__bell_ring(&bell);
    twill__bell_wait(&bell, since + far);
    twill__bell_ring(&bell);
    twill__bell_ring(&bell);
    twill__bell_wait(&bell, since + TWILL_SEC(100));
    twill__bell_wait(&bell, since + 1); /* and it is taken off */
    CHECK(twill_now() - since < TWILL_SEC(100));
    twill__bell_end(&bell);
}

/* What cannot take it at once is not written to: a full pipe, one that nobody reads. */
TEST(nothing_is_said_to_who_does_not_listen)
{
    int ends[2] = {0}, saved = dup(2);
    char block[4096] = {0};
    size_t full = 0, got = 0;
    ssize_t n;

    CHECK(twill__pipe(ends));
    while ((n = write(ends[1], block, sizeof block)) > 0)
        full += (size_t)n;
    CHECK_EQ(dup2(ends[1], 2), 2);
    twill__say("x", 1);
    while ((n = read(ends[0], block, sizeof block)) > 0)
        got += (size_t)n;
    CHECK_EQ(got, full);
    twill__say("xyz", 3);
    CHECK_EQ(read(ends[0], block, sizeof block), 3);
    close(ends[0]);
    twill__say("x", 1); /* no SIGPIPE */
    CHECK_EQ(dup2(saved, 2), 2);
    close(ends[1]);
    close(saved);
}
#endif

HARNESS_MAIN

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

HARNESS_MAIN

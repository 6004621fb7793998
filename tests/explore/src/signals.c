/* signals.c: signals. One that is sent goes to a thread that does not block it, chosen by the
   search, and its handler runs on that thread's stack before the thread's next step; a call that
   blocks is interrupted. One that comes from outside (explore_signal) arrives at any step.

   What a handler must not call (POSIX's list of what is async-signal-safe) is refused there. */
#include "explorer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { SIGNALS = 65, COMING = 8 };

static struct {
    uint32_t run;
    struct sigaction action[SIGNALS];
    uint64_t pending;    /* sent to the process, blocked by all */
    int coming[COMING];  /* from outside, on their way */
    uint64_t may_end[4]; /* statuses with which the process may end: 128 + n by signal n */
} process;

static uint64_t bit(int number)
{
    return UINT64_C(1) << (number - 1);
}

static uint64_t mask_of(const sigset_t *set)
{
    uint64_t mask;

    memcpy(&mask, set, sizeof mask);
    return mask & ~(bit(SIGKILL) | bit(SIGSTOP));
}

static void set_of(uint64_t mask, sigset_t *set)
{
    sigemptyset(set);
    memcpy(set, &mask, sizeof mask);
}

void signals_reset(void)
{
    if (process.run != x.run)
        memset(&process, 0, sizeof process);
    process.run = x.run;
    x.coming = 0;
}

static int error(int number)
{
    self()->error = number;
    return -1;
}

static void name_signal(int number, char *text, size_t size)
{
    static const struct {
        int number;
        const char *name;
    } names[] = {{SIGINT, "SIGINT"},   {SIGTERM, "SIGTERM"}, {SIGHUP, "SIGHUP"},
                 {SIGQUIT, "SIGQUIT"}, {SIGUSR1, "SIGUSR1"}, {SIGUSR2, "SIGUSR2"},
                 {SIGPIPE, "SIGPIPE"}, {SIGALRM, "SIGALRM"}, {SIGCHLD, "SIGCHLD"},
                 {SIGKILL, "SIGKILL"}, {SIGABRT, "SIGABRT"}, {SIGWINCH, "SIGWINCH"}};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].number == number) {
            snprintf(text, size, "%s", names[i].name);
            return;
        }
    snprintf(text, size, "signal %d", number);
}

static const char *words(bool sent, int number)
{
    static char texts[2][SIGNALS][24];
    char *text = texts[sent][number], name[16];

    if (!text[0]) {
        name_signal(number, name, sizeof name);
        snprintf(text, sizeof texts[0][0], "%s %s", sent ? "sends" : "gets", name);
    }
    return text;
}

/* ---- how the process may end ---- */

EXPORT void explore_may_end(int status)
{
    process.may_end[(unsigned)status / 64 % 4] |= UINT64_C(1) << (unsigned)status % 64;
}

bool may_end(int status)
{
    return process.may_end[(unsigned)status / 64 % 4] >> (unsigned)status % 64 & 1;
}

static void die_by(int number)
{
    char name[16];

    name_signal(number, name, sizeof name);
    if (!may_end(128 + number))
        fail("killed by %s", name);
    x.finished = x.died = true;
    finish();
}

/* ---- delivery ---- */

static bool ignored_by_default(int number)
{
    return number == SIGCHLD || number == SIGURG || number == SIGWINCH || number == SIGCONT;
}

static bool ignored(int number)
{
    const struct sigaction *a = &process.action[number];

    if (a->sa_flags & SA_SIGINFO)
        return false;
    return a->sa_handler == SIG_IGN || (a->sa_handler == SIG_DFL && ignored_by_default(number));
}

static void run_handler(int number)
{
    struct sigaction a = process.action[number];
    thread *t = self();
    uint64_t before = t->mask;

    if ((unsigned)a.sa_flags & SA_RESETHAND)
        memset(&process.action[number], 0, sizeof a);
    t->mask |= mask_of(&a.sa_mask) | (a.sa_flags & SA_NODEFER ? 0 : bit(number));
    t->in_handler++;
    t->restarts = t->restarts && (a.sa_flags & SA_RESTART);
    if (a.sa_flags & SA_SIGINFO) {
        siginfo_t info;
        memset(&info, 0, sizeof info);
        info.si_signo = number;
        a.sa_sigaction(number, &info, NULL);
    } else {
        a.sa_handler(number);
    }
    t->in_handler--;
    t->mask = before;
}

/* The current thread takes what was sent to it. */
void signals_run(void)
{
    thread *t = self();
    uint64_t ready;

    t->restarts = true;
    while ((ready = t->pending & ~t->mask) != 0) {
        int number = 1 + __builtin_ctzll(ready);
        t->pending &= ~bit(number);
        if (ignored(number))
            continue;
        trace(words(false, number), NULL, 0, 0, NO_ORDER, false, NULL);
        if (!(process.action[number].sa_flags & SA_SIGINFO) &&
            process.action[number].sa_handler == SIG_DFL)
            die_by(number);
        run_handler(number);
    }
}

/* It sleeps in sigwait for this one. */
static bool awaits(const thread *t, int number)
{
    return t->state == BLOCKED && strcmp(t->waits_in, "sigwait") == 0 &&
           *(const uint64_t *)t->waits_on & bit(number);
}

static void send_to(thread *t, int number)
{
    step_reaches(t, false);
    t->pending |= bit(number);
    if (awaits(t, number)) {
        wake(t, false);
    } else if (t->state == BLOCKED && !(t->mask & bit(number)) && !ignored(number)) {
        wake(t, false);
        t->interrupted = true;
    }
}

/* To one of those that do not block it. */
static void send_to_process(int number)
{
    int able[MAX_THREADS], count = 0;

    progress();
    step_on(&process, true, 4);
    for (int i = 0; i < x.thread_count; i++) {
        const thread *t = &x.threads[i];
        if (awaits(t, number)) {
            send_to(&x.threads[i], number);
            return;
        }
        if (t->state != ENDED && !(t->mask & bit(number)))
            able[count++] = i;
    }
    if (count && ignored(number)) /* blocked by all, it waits all the same, as in Linux */
        return;
    if (count)
        send_to(&x.threads[able[choose(count)]], number);
    else
        process.pending |= bit(number);
}

/* What the process keeps, for a thread that has just unblocked it. */
static void take_pending(void)
{
    thread *t = self();

    step_on(&process, true, 4);
    t->pending |= process.pending & ~t->mask;
    process.pending &= t->mask;
    signals_run();
}

/* ---- from outside ---- */

EXPORT void explore_signal(int number)
{
    if (x.coming == COMING)
        limit("too many signals from outside: 8");
    process.coming[x.coming++] = number;
}

/* One of those on their way is there. */
void signal_arrives(void)
{
    int number = process.coming[0], current;

    x.coming--;
    memmove(process.coming, process.coming + 1, sizeof process.coming - sizeof process.coming[0]);
    current = x.current;
    x.current = CLOCK;
    trace(words(true, number), NULL, 0, 0, NO_ORDER, false, NULL);
    x.current = current;
    step_of_clock(&process);
    send_to_process(number);
}

/* ---- in a handler ---- */

void not_in_handler(const char *call)
{
    if (self()->in_handler && x.active)
        fail("%s in a signal handler: it is not async-signal-safe", call);
}

/* ---- what the program calls ---- */

EXPORT int explore_sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
    if (number < 1 || number >= SIGNALS || (action && (number == SIGKILL || number == SIGSTOP)))
        return error(EINVAL);
    point();
    step_on(&process, true, 4);
    if (old)
        *old = process.action[number];
    if (action)
        process.action[number] = *action;
    return 0;
}

typedef void handler_fn(int);

static handler_fn *set_handler(int number, handler_fn *handler, int flags)
{
    struct sigaction action, old;

    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    return explore_sigaction(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

EXPORT handler_fn *explore_signal_bsd(int number, handler_fn *handler)
{
    return set_handler(number, handler, SA_RESTART);
}

/* What plain -std=c11 makes of signal(): the handler serves once. */
EXPORT handler_fn *explore_signal_sysv(int number, handler_fn *handler)
{
    return set_handler(number, handler, (int)(SA_RESETHAND | SA_NODEFER));
}

static bool exists(int number)
{
    return number >= 0 && number < SIGNALS;
}

EXPORT int explore_raise(int number)
{
    if (!exists(number) || number == 0)
        return error(EINVAL);
    point();
    trace(words(true, number), NULL, 0, 0, NO_ORDER, false, PC);
    send_to(self(), number);
    signals_run();
    return 0;
}

EXPORT int explore_pthread_kill(pthread_t id, int number)
{
    if (!exists(number))
        return EINVAL;
    if (id == 0 || id > (pthread_t)x.thread_count)
        fail("pthread_kill: not a thread");
    point();
    if (x.threads[id - 1].state == ENDED)
        return ESRCH;
    if (number) {
        trace(words(true, number), NULL, 0, 0, NO_ORDER, false, PC);
        send_to(&x.threads[id - 1], number);
        signals_run();
    }
    return 0;
}

EXPORT int explore_kill(int pid, int number)
{
    if (!exists(number))
        return error(EINVAL);
    point();
    if (pid != 0 && pid != x.pid)
        return error(ESRCH);
    if (!number)
        return 0;
    trace(words(true, number), NULL, 0, 0, NO_ORDER, false, PC);
    if (number == SIGKILL)
        die_by(SIGKILL);
    send_to_process(number);
    signals_run();
    return 0;
}

EXPORT int explore_pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    thread *t = self();

    point();
    if (old)
        set_of(t->mask, old);
    if (!set)
        return 0;
    if (how == SIG_BLOCK)
        t->mask |= mask_of(set);
    else if (how == SIG_UNBLOCK)
        t->mask &= ~mask_of(set);
    else if (how == SIG_SETMASK)
        t->mask = mask_of(set);
    else
        return EINVAL;
    take_pending();
    return 0;
}

EXPORT int explore_sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
    int status = explore_pthread_sigmask(how, set, old);

    return status ? error(status) : 0;
}

EXPORT int explore_sigpending(sigset_t *set)
{
    point();
    step_on(&process, true, 4);
    set_of((self()->pending | process.pending) & self()->mask, set);
    return 0;
}

EXPORT int explore_pause(void)
{
    thread *t = self();

    point();
    do
        block("pause", &t->mask, 0, false, PC);
    while (!t->interrupted);
    return error(EINTR);
}

EXPORT int explore_sigsuspend(const sigset_t *set)
{
    thread *t = self();
    uint64_t before = t->mask;

    point();
    t->mask = mask_of(set);
    t->interrupted = ((t->pending | process.pending) & ~t->mask) != 0;
    if (t->interrupted)
        take_pending();
    while (!t->interrupted)
        block("sigsuspend", &t->mask, 0, false, PC);
    t->mask = before;
    return error(EINTR);
}

/* They must be blocked in all threads. */
EXPORT int explore_sigwait(const sigset_t *set, int *number)
{
    uint64_t wanted = mask_of(set), ready;
    thread *t = self();

    point();
    while (!(ready = (t->pending | process.pending) & wanted))
        block("sigwait", &wanted, 0, false, PC);
    step_on(&process, true, 4);
    *number = 1 + __builtin_ctzll(ready);
    t->pending &= ~bit(*number);
    process.pending &= ~bit(*number);
    trace(words(false, *number), NULL, 0, 0, NO_ORDER, false, PC);
    return 0;
}

/* A handler on a stack of its own runs on the thread's all the same. */
EXPORT int explore_sigaltstack(const stack_t *stack, stack_t *old)
{
    (void)stack;
    if (old) {
        memset(old, 0, sizeof *old);
        old->ss_flags = SS_DISABLE;
    }
    return 0;
}

EXPORT int explore_siginterrupt(int number, int interrupts)
{
    if (number < 1 || number >= SIGNALS)
        return error(EINVAL);
    if (interrupts)
        process.action[number].sa_flags &= ~SA_RESTART;
    else
        process.action[number].sa_flags |= SA_RESTART;
    return 0;
}

/* In a forked child: nothing is pending, nothing on its way. */
void signals_in_child(void)
{
    self()->pending = process.pending = 0;
    x.coming = 0;
}

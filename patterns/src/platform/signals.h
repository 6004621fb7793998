/* signals.h: masks, actions, and a bell that a signal handler may ring. What a handler may use here
   says so. */
#ifndef TWILL__PLATFORM_SIGNALS_H
#define TWILL__PLATFORM_SIGNALS_H

#include "platform/threads.h"

#include <signal.h>

/* TWILL__SIGNALS 1: handlers can be installed. 0: masks alone, or not even these. A build may say
   TWILL__NO_SIGNALS. TWILL__BELLS 1: a bell has a descriptor, `out`, to be polled. TWILL__CONSOLE
   1: the system ends the process some seconds after its console has been closed. */

#ifdef TWILL__POSIX
#include <fcntl.h>
#include <poll.h>
#include <sys/select.h> /* sigset_t, also where <signal.h> hides it */
#include <unistd.h>

/* ---- masks ---- */

#ifndef __APPLE__ /* hidden by -std=c11 */
extern int pthread_sigmask(int, const sigset_t *, sigset_t *);
extern int sigemptyset(sigset_t *);
extern int sigfillset(sigset_t *);
extern int sigaddset(sigset_t *, int);
extern int sigdelset(sigset_t *, int);
extern int sigismember(const sigset_t *, int);
extern int sigpending(sigset_t *);
extern int sigwait(const sigset_t *, int *);
#endif
#ifdef SIG_BLOCK
enum {
    TWILL__SIGNALS_BLOCK = SIG_BLOCK,
    TWILL__SIGNALS_UNBLOCK = SIG_UNBLOCK,
    TWILL__SIGNALS_SET = SIG_SETMASK
};
#elif defined __linux__ && !defined __mips__
enum { TWILL__SIGNALS_BLOCK = 0, TWILL__SIGNALS_UNBLOCK = 1, TWILL__SIGNALS_SET = 2 };
#else
enum { TWILL__SIGNALS_BLOCK = 1, TWILL__SIGNALS_UNBLOCK = 2, TWILL__SIGNALS_SET = 3 };
#endif

typedef sigset_t twill__signal_mask;

/* A thread reports a fault of its own by these: they are never held off. */
static inline bool twill__signal_is_fault(int number)
{
    switch (number) {
    case SIGSEGV:
    case SIGILL:
    case SIGFPE:
    case SIGABRT:
#ifdef SIGBUS
    case SIGBUS:
#endif
#ifdef SIGTRAP
    case SIGTRAP:
#endif
#ifdef SIGSYS
    case SIGSYS:
#endif
        return true;
    default:
        return false;
    }
}

#define TWILL__SIGNAL_COUNT 65 /* numbers below it; Linux has 64, but for MIPS */

/* Holds off every signal but the faults. A thread started now inherits it. */
static inline void twill__signals_hold(twill__signal_mask *old)
{
    sigset_t all;
    sigfillset(&all);
    for (int number = 1; number < 32; number++)
        if (twill__signal_is_fault(number))
            sigdelset(&all, number);
    pthread_sigmask(TWILL__SIGNALS_BLOCK, &all, old);
}

static inline void twill__signals_restore(const twill__signal_mask *old)
{
    pthread_sigmask(TWILL__SIGNALS_SET, old, NULL);
}

/* For the calling thread. Async-signal-safe. */
static inline void twill__signal_unblock(int number)
{
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, number);
    pthread_sigmask(TWILL__SIGNALS_UNBLOCK, &one, NULL);
}

/* ---- actions ---- */

/* Never C's signal(): undefined in programs with threads, and -std=c11 makes it the one-shot form
   on glibc. Where struct sigaction is hidden, it stands here as the platform has it;
   tests/test_signals.c compares it with the system's own. */
#if defined TWILL__NO_SIGNALS
#define TWILL__SIGNALS 0
#elif defined SA_RESTART && !defined TWILL__OWN_ACTION /* tests compare the two */
#define TWILL__SIGNALS        1
typedef struct sigaction twill__action;
#define TWILL__ACTION_HANDLER sa_handler
#define TWILL__ACTION_MASK    sa_mask
#define TWILL__ACTION_FLAGS   sa_flags
#if defined SA_ONSTACK
enum { TWILL__ACTION_RESTART = SA_RESTART, TWILL__ACTION_ONSTACK = SA_ONSTACK };
#elif defined __linux__ /* hidden by _POSIX_C_SOURCE */
enum { TWILL__ACTION_RESTART = SA_RESTART, TWILL__ACTION_ONSTACK = 0x08000000 };
#else
enum { TWILL__ACTION_RESTART = SA_RESTART, TWILL__ACTION_ONSTACK = 0 };
#endif
static inline int twill__sigaction(int number, const twill__action *action, twill__action *old)
{
    return sigaction(number, action, old);
}
#elif defined __linux__ &&                                                               \
    (defined __x86_64__ || defined __i386__ || defined __aarch64__ || defined __arm__ || \
     defined __riscv || defined __powerpc__ || defined __loongarch__)
#define TWILL__SIGNALS        1
#define TWILL__ACTION_OWN     1
#define TWILL__ACTION_HANDLER handler
#define TWILL__ACTION_MASK    mask
#define TWILL__ACTION_FLAGS   flags
typedef struct twill__action { /* glibc and musl alike on these processors */
    void (*handler)(int);
    sigset_t mask;
    int flags;
    void (*restorer)(void);
} twill__action;
enum { TWILL__ACTION_RESTART = 0x10000000, TWILL__ACTION_ONSTACK = 0x08000000 };
/* under a name of our own: a file that does show sigaction may be compiled into the same program */
extern int twill__sigaction(int, const twill__action *, twill__action *) __asm__("sigaction");
#else
#define TWILL__SIGNALS 0
#endif
#define TWILL__BELLS   TWILL__SIGNALS
#define TWILL__CONSOLE 0

#if TWILL__SIGNALS
/* The action of `handler`, during which the others of the list are held off. */
static inline void twill__action_make(twill__action *action, void (*handler)(int),
                                      const int *numbers, size_t count)
{
    memset(action, 0, sizeof *action);
    action->TWILL__ACTION_HANDLER = handler;
    action->TWILL__ACTION_FLAGS = TWILL__ACTION_RESTART | TWILL__ACTION_ONSTACK;
    sigemptyset(&action->TWILL__ACTION_MASK);
    for (size_t i = 0; i < count; i++)
        sigaddset(&action->TWILL__ACTION_MASK, numbers[i]);
}

/* Async-signal-safe: whether it has the system's own action. */
static inline bool twill__signal_is_plain(int number)
{
    twill__action now;
    return twill__sigaction(number, NULL, &now) == 0 && now.TWILL__ACTION_HANDLER == SIG_DFL;
}

/* In a handler: it stays installed. */
static inline void twill__signal_again(int number, void (*handler)(int))
{
    (void)number;
    (void)handler;
}
#endif

static inline uint32_t twill__pid(void)
{
    return (uint32_t)getpid();
}

#else
#include "platform/signals_windows.h"
#endif

/* Async-signal-safe: gives this process an end that its parent sees as death by `number` (a shell
   shows 128 + number, and stops its script); with `code`, or where the default action does not kill
   (process 1), an exit with 128 + number. Runs no exit functions. */
_Noreturn static inline void twill__signal_die(int number, bool code)
{
#if TWILL__SIGNALS
    if (!code) {
        twill__action plain;
        twill__action_make(&plain, SIG_DFL, NULL, 0);
        twill__sigaction(number, &plain, NULL);
        twill__signal_unblock(number);
        raise(number);
    }
#else
    (void)code;
#endif
    _Exit(128 + number);
}

#if TWILL__SIGNALS
/* Whether `action` is that of `handler`. */
static inline bool twill__action_is(const twill__action *action, void (*handler)(int))
{
    return action->TWILL__ACTION_HANDLER == handler;
}
#endif

/* ---- who owns the signals ---- */

/* The claim names the owner by its process id, so that a handler that runs in a forked child knows
   that it is not meant, and counts who uses the owner's object just now, so that it outlives
   them. All but claim and disclaim are async-signal-safe, as _Atomic uint64_t has no lock. */
#if TWILL__SIGNALS
/* on i386 clang says "sometimes": of a long long, which may be aligned to 4 there */
#ifdef __GCC_HAVE_SYNC_COMPARE_AND_SWAP_8
_Static_assert(ATOMIC_LLONG_LOCK_FREE &&ATOMIC_POINTER_LOCK_FREE == 2,
               "signal handlers need atomics without a lock");
#else
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_POINTER_LOCK_FREE == 2,
               "signal handlers need atomics without a lock");
#endif
#endif

static inline uint64_t twill__process_id(void)
{
    return (uint64_t)twill__pid() << 32;
}

/* The owner, or NULL: nobody, or another process. Not NULL: twill__owner_release follows. */
static inline void *twill__owner_pin(void)
{
    twill__global *global = twill__process();
    uint64_t mine = twill__process_id();
    uint64_t seen = atomic_load_explicit(&global->signal_claim, memory_order_relaxed);
    void *owner;
    do
        if (seen >> 32 != mine >> 32) /* also in a child by vfork, whose memory is the parent's */
            return NULL;
    while (!atomic_compare_exchange_weak_explicit(&global->signal_claim, &seen, seen + 1,
                                                  memory_order_seq_cst, memory_order_seq_cst));
    owner = atomic_load_explicit(&global->signal_owner, memory_order_seq_cst);
    if (!owner)
        atomic_fetch_sub_explicit(&global->signal_claim, 1, memory_order_seq_cst);
    return owner;
}

static inline void twill__owner_release(void)
{
    /* pairs with the CAS in twill__owner_leave: what was done comes before the object's end */
    atomic_fetch_sub_explicit(&twill__process()->signal_claim, 1, memory_order_seq_cst);
}

/* False: somebody in this process owns them. A parent's claim is void in its child: then *parent is
   the parent's object, a copy of it; else NULL. */
static inline bool twill__owner_claim(void **parent)
{
    twill__global *global = twill__process();
    uint64_t mine = twill__process_id();
    uint64_t seen = atomic_load_explicit(&global->signal_claim, memory_order_relaxed);
    do
        if (seen >> 32 == mine >> 32)
            return false;
    while (!atomic_compare_exchange_weak_explicit(&global->signal_claim, &seen, mine,
                                                  memory_order_seq_cst, memory_order_seq_cst));
    /* after the claim: nobody else here makes an object and ends it meanwhile */
    *parent = seen ? atomic_load_explicit(&global->signal_owner, memory_order_seq_cst) : NULL;
    return true;
}

/* In a forked child: this copy goes. False: the child has an owner of its own. */
static inline bool twill__owner_forget(const void *object)
{
    twill__global *global = twill__process();
    if (atomic_load_explicit(&global->signal_owner, memory_order_seq_cst) == object)
        atomic_store_explicit(&global->signal_owner, NULL, memory_order_seq_cst);
    return atomic_load_explicit(&global->signal_claim, memory_order_seq_cst) >> 32 !=
           twill__process_id() >> 32;
}

static inline void twill__owner_publish(void *object)
{
    /* pairs with the load in twill__owner_pin */
    atomic_store_explicit(&twill__process()->signal_owner, object, memory_order_seq_cst);
}

/* The object goes: nobody finds it any more, and who had found it has let go. */
static inline void twill__owner_leave(void)
{
    twill__global *global = twill__process();
    uint64_t mine = twill__process_id();
    atomic_store_explicit(&global->signal_owner, NULL, memory_order_seq_cst);
    /* seq_cst here and in pin: whoever counts himself after this load finds no owner */
    for (;;) { /* ends: a handler takes a bounded number of steps */
        uint64_t alone = mine;
        if (atomic_compare_exchange_weak_explicit(&global->signal_claim, &alone, 0,
                                                  memory_order_seq_cst, memory_order_seq_cst))
            return;
        twill__yield();
    }
}

/* ---- a bell: rung in a handler, heard by one thread ---- */

#if TWILL__BELLS
typedef struct twill__bell {
    int in, out;
} twill__bell;

/* Both ends non-blocking, and closed by an exec. */
static inline bool twill__pipe(int ends[2])
{
    int saved = errno;
    bool made;
#ifdef __linux__
    extern int pipe2(int[2], int);
#ifdef O_CLOEXEC
    made = pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0;
#else
    made = pipe2(ends, 02000000 | O_NONBLOCK) == 0; /* every processor named above has this one */
#endif
#else
    made = pipe(ends) == 0;
    for (int i = 0; made && i < 2; i++) {
        (void)fcntl(ends[i], F_SETFD, FD_CLOEXEC);
        (void)fcntl(ends[i], F_SETFL, O_NONBLOCK);
    }
#endif
    errno = saved;
    return made;
}

static inline bool twill__bell_make(twill__bell *bell)
{
    int ends[2];
    if (!twill__pipe(ends))
        return false;
    bell->out = ends[0];
    bell->in = ends[1];
    return true;
}

static inline void twill__bell_end(twill__bell *bell)
{
    int saved = errno;
    close(bell->in);
    close(bell->out);
    errno = saved;
}

/* Async-signal-safe. A full pipe rings already. */
static inline void twill__bell_ring(twill__bell *bell)
{
    int saved = errno;
    ssize_t wrote = write(bell->in, "", 1);
    (void)wrote;
    errno = saved;
}

/* Waits for a ring, or the deadline (0: none), and takes the rings off. What the ringer has stored
   before is to be read after this. */
static inline void twill__bell_wait(twill__bell *bell, twill_ns deadline)
{
    struct pollfd one = {bell->out, POLLIN, 0};
    int saved = errno, ms = -1;
    char taken[64];
    if (!twill__no_deadline(deadline)) {
        twill_ns left = deadline - twill__clock_now(), limit = 1000000; /* some 17 minutes */
        left = left > 0 ? left / 1000000 + (left % 1000000 != 0) : 0;
        ms = (int)(left < limit ? left : limit);
    }
    (void)poll(&one, 1, ms);
    while (read(bell->out, taken, sizeof taken) == (ssize_t)sizeof taken)
        continue; /* ends: each takes 64 rings off; at worst ringers keep it busy */
    errno = saved;
}

/* Async-signal-safe: some text to standard error, if it takes it at once. Neither a terminal that
   is held nor a reader that is gone (SIGPIPE) may harm the one who was only asked to stop. */
static inline void twill__say(const char *text, size_t length)
{
    struct pollfd one = {2, POLLOUT, 0};
    int saved = errno;
    if (poll(&one, 1, 0) == 1 && one.revents == POLLOUT) {
        ssize_t wrote = write(2, text, length);
        (void)wrote;
    }
    errno = saved;
}

#else
/* nothing to poll: a word to park on */
typedef struct twill__bell {
    _Atomic uint32_t rung;
} twill__bell;

static inline bool twill__bell_make(twill__bell *bell)
{
    atomic_init(&bell->rung, 0);
    return true;
}

static inline void twill__bell_end(twill__bell *bell)
{
    (void)bell;
}

static inline void twill__bell_ring(twill__bell *bell)
{
    if (!atomic_exchange_explicit(&bell->rung, 1, memory_order_seq_cst))
        twill__wake(&bell->rung, 1);
}

static inline void twill__bell_wait(twill__bell *bell, twill_ns deadline)
{
    /* exit: a ring, or the deadline */
    while (!atomic_exchange_explicit(&bell->rung, 0, memory_order_seq_cst))
        if (!twill__park(&bell->rung, 0, deadline))
            return;
}
#endif

#endif

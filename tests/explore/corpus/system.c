/* system.c: signals, pipes, fork: what goes wrong with them, and what is right. */
#define _GNU_SOURCE
#include "corpus.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

static void on(int number, void (*handler)(int), int flags)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    assert(sigaction(number, &action, NULL) == 0);
}

/* ---- D24: the handler takes a lock that the interrupted code may hold ---- */
static _Atomic uint32_t spin;
static atomic_int accepted, stopping, fd_out;
static mtx_t mutex;

static void spin_lock(void)
{
    while (atomic_exchange(&spin, 1))
        thrd_yield();
}

static void stop_with_spin(int number)
{
    (void)number;
    spin_lock();
    atomic_store(&stopping, 1);
    atomic_store(&spin, 0);
}

static int handler_spins(void)
{
    on(SIGINT, stop_with_spin, SA_RESTART);
    explore_signal(SIGINT);
    for (int i = 0; i < 3; i++) {
        spin_lock();
        atomic_fetch_add(&accepted, 1);
        atomic_store(&spin, 0);
    }
    return 0;
}

static void stop_with_mutex(int number)
{
    (void)number;
    mtx_lock(&mutex);
    atomic_store(&stopping, 1);
    mtx_unlock(&mutex);
}

static int handler_locks(void)
{
    mtx_init(&mutex, mtx_plain);
    on(SIGINT, stop_with_mutex, SA_RESTART);
    explore_signal(SIGINT);
    for (int i = 0; i < 3; i++) {
        mtx_lock(&mutex);
        mtx_unlock(&mutex);
    }
    return 0;
}

static void stop_with_malloc(int number)
{
    (void)number;
    free(malloc(8));
}

static int handler_allocates(void)
{
    on(SIGTERM, stop_with_malloc, 0);
    assert(raise(SIGTERM) == 0);
    return 0;
}

/* ---- D28: the signal sets a flag that nobody waits for ---- */
static mtx_t guard;
static cnd_t changed;

static void set_flag(int number)
{
    (void)number;
    atomic_store(&stopping, 1);
}

static int flag_of_nobody(void)
{
    mtx_init(&guard, mtx_plain);
    cnd_init(&changed);
    on(SIGTERM, set_flag, SA_RESTART);
    explore_signal(SIGTERM);
    mtx_lock(&guard);
    while (!atomic_load(&stopping))
        cnd_wait(&changed, &guard); /* a signal between the test and the wait: nobody tells */
    mtx_unlock(&guard);
    return 0;
}

/* ---- the flag is looked at, then a call sleeps for ever: the classic race of pause() ---- */
static int test_then_pause(void)
{
    on(SIGTERM, set_flag, 0);
    explore_signal(SIGTERM);
    while (!atomic_load(&stopping))
        pause();
    return 0;
}

static int sigsuspend_right(void)
{
    sigset_t term, before;

    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &term, &before);
    on(SIGTERM, set_flag, 0);
    explore_signal(SIGTERM);
    while (!atomic_load(&stopping))
        assert(sigsuspend(&before) == -1 && errno == EINTR);
    return 0;
}

/* ---- EINTR is taken for an end ---- */
static int read_cut_short(void)
{
    int fds[2];
    char byte;

    assert(pipe(fds) == 0);
    on(SIGUSR1, set_flag, 0); /* no SA_RESTART */
    explore_signal(SIGUSR1);
    thrd_yield();
    assert(write(fds[1], "x", 1) == 1);
    assert(read(fds[0], &byte, 1) == 1);
    assert(poll(&(struct pollfd){.fd = fds[0], .events = POLLIN}, 1, 1000) == 0);
    close(fds[0]);
    close(fds[1]);
    return 0;
}

/* ---- the self-pipe: never lost ---- */
static void write_byte(int number)
{
    int saved = errno;

    (void)number;
    atomic_store(&stopping, 1);
    (void)!write(atomic_load(&fd_out), "!", 1);
    errno = saved;
}

BODY(work_on)
{
    (void)unused;
    for (int i = 0; i < 3; i++)
        atomic_fetch_add(&accepted, 1);
    return 0;
}

static int self_pipe(void)
{
    int fds[2], got;
    thrd_t worker;
    struct pollfd wait = {.events = POLLIN};
    char byte;

    assert(pipe2(fds, O_NONBLOCK | O_CLOEXEC) == 0);
    wait.fd = fds[0];
    atomic_store(&fd_out, fds[1]);
    on(SIGTERM, write_byte, SA_RESTART);
    assert(thrd_create(&worker, work_on, NULL) == thrd_success);
    explore_signal(SIGTERM);
    do
        got = poll(&wait, 1, -1);
    while (got == -1 && errno == EINTR);
    assert(got == 1 && read(fds[0], &byte, 1) == 1 && atomic_load(&stopping));
    assert(read(fds[0], &byte, 1) == -1 && errno == EAGAIN);
    thrd_join(worker, NULL);
    on(SIGTERM, SIG_DFL, 0);
    close(fds[0]);
    close(fds[1]);
    return 0;
}

static int pipe_left_open(void)
{
    int fds[2];

    assert(pipe(fds) == 0);
    close(fds[0]);
    return 0;
}

/* ---- the byte first, the flag after: whoever wakes by the byte finds no reason ---- */
static void flag_after_write(int number)
{
    (void)number;
    (void)!write(atomic_load(&fd_out), "!", 1);
    atomic_store(&stopping, number);
}

static int flag_too_late(void)
{
    int fds[2];
    char byte;
    thrd_t worker;

    assert(pipe(fds) == 0);
    atomic_store(&fd_out, fds[1]);
    on(SIGTERM, flag_after_write, SA_RESTART);
    assert(thrd_create(&worker, work_on, NULL) == thrd_success);
    explore_signal(SIGTERM);
    assert(read(fds[0], &byte, 1) == 1);
    assert(atomic_load(&stopping) == SIGTERM);
    thrd_join(worker, NULL);
    close(fds[0]);
    close(fds[1]);
    return 0;
}

/* ---- dispositions ---- */
static int dies_by_default(void)
{
    explore_signal(SIGTERM);
    return work_on(NULL);
}

static int may_die(void)
{
    explore_may_end(128 + SIGTERM);
    (void)malloc(8);
    raise(SIGTERM);
    return 7;
}

static atomic_int outer;

static void nested(int number)
{
    int before = atomic_fetch_add(&outer, 1);

    if (number == SIGUSR1)
        raise(SIGUSR2); /* comes at once: only SIGUSR1 is blocked */
    assert(atomic_load(&outer) == before + (number == SIGUSR1 ? 2 : 1));
}

static int masks(void)
{
    sigset_t set, old;

    on(SIGUSR1, nested, 0);
    on(SIGUSR2, nested, 0);
    raise(SIGUSR1);
    assert(atomic_load(&outer) == 2);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, &old);
    kill(getpid(), SIGUSR2);
    assert(atomic_load(&outer) == 2);
    sigpending(&set);
    assert(sigismember(&set, SIGUSR2));
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    assert(atomic_load(&outer) == 3);
    on(SIGUSR2, SIG_IGN, 0);
    raise(SIGUSR2);
    assert(atomic_load(&outer) == 3);
    return 0;
}

BODY(wait_for_signal)
{
    sigset_t set;
    int number;

    (void)unused;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    assert(sigwait(&set, &number) == 0 && number == SIGHUP);
    return 0;
}

static int signal_thread(void)
{
    sigset_t set;
    thrd_t waiter;

    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    assert(thrd_create(&waiter, wait_for_signal, NULL) == thrd_success);
    kill(getpid(), SIGHUP);
    thrd_join(waiter, NULL);
    return 0;
}

/* Sent to just that thread, before it sleeps or after; once more as one that is ignored unless
   blocked. */
static void *wait_for_two(void *set)
{
    int number;

    assert(sigwait(set, &number) == 0 && number == SIGHUP);
    assert(sigwait(set, &number) == 0 && number == SIGCHLD);
    return NULL;
}

static int signal_to_thread(void)
{
    sigset_t set;
    pthread_t waiter;

    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    assert(pthread_create(&waiter, NULL, wait_for_two, &set) == 0);
    pthread_kill(waiter, SIGHUP);
    kill(getpid(), SIGCHLD);
    pthread_join(waiter, NULL);
    return 0;
}

static int deeper(int n)
{
    volatile char frame[4096];

    frame[0] = (char)n;
    return n ? deeper(n - 1) + frame[0] : 0;
}

static int stack_too_small(void)
{
    return deeper(1000) == 1;
}

/* ---- fork: what other threads hold, they hold for ever ---- */
BODY(hold_lock)
{
    (void)unused;
    mtx_lock(&mutex);
    mtx_unlock(&mutex);
    return 0;
}

static int fork_and_lock(void)
{
    thrd_t holder;
    int pid;

    mtx_init(&mutex, mtx_plain);
    assert(thrd_create(&holder, hold_lock, NULL) == thrd_success);
    pid = fork();
    mtx_lock(&mutex);
    mtx_unlock(&mutex);
    if (pid)
        thrd_join(holder, NULL);
    return 0;
}

static void before_fork(void)
{
    mtx_lock(&mutex);
}

static void after_fork(void)
{
    mtx_unlock(&mutex);
}

static int atfork_right(void)
{
    assert(pthread_atfork(before_fork, after_fork, after_fork) == 0);
    return fork_and_lock();
}

static int wiped_page(void)
{
    unsigned char *page =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int pid;

    assert(page != MAP_FAILED && madvise(page, 4096, -1) != 0);
    assert(madvise(page, 4096, 18) == 0);
    page[0] = 7;
    EXPLORE_MUST_REACH("parent");
    EXPLORE_MUST_REACH("child");
    pid = fork();
    EXPLORE_REACHED(pid ? "parent" : "child");
    assert(page[0] == (pid ? 7 : 0));
    return 0;
}

/* What another thread stores at the moment of the fork: the child may miss it, but not what it has
   released. */
static atomic_int first, second;
static int half[2];

static int store_both(void *order)
{
    atomic_store_explicit(&first, 1, memory_order_relaxed);
    atomic_store_explicit(&second, 1, *(memory_order *)order);
    return 0;
}

/* In the child: the second store is there, and the first is not. It stays as it is. */
static int torn_copy(memory_order order)
{
    thrd_t thread;
    int one = 0, two = 0;
    bool child;

    assert(thrd_create(&thread, store_both, &order) == thrd_success);
    child = fork() == 0;
    if (child) {
        two = atomic_load_explicit(&second, memory_order_relaxed);
        one = atomic_load_explicit(&first, memory_order_relaxed);
        for (int i = 0; i < 4; i++) {
            assert(atomic_load_explicit(&first, memory_order_relaxed) == one);
            assert(atomic_fetch_add_explicit(&second, 0, memory_order_seq_cst) == two);
        }
        return two == 1 && one == 0;
    }
    thrd_join(thread, NULL);
    assert(atomic_load(&first) == 1 && atomic_load(&second) == 1);
    return 0;
}

static int fork_misses_store(void)
{
    return torn_copy(memory_order_relaxed);
}

static int fork_has_released(void)
{
    return torn_copy(memory_order_release);
}

static int write_halves(void *unused)
{
    (void)unused;
    half[0] = half[1] = 1;
    atomic_store_explicit(&second, 1, memory_order_release);
    return 0;
}

static int halves(bool looks)
{
    thrd_t thread;
    int sum = 0;

    half[0] = half[1] = 0;
    assert(thrd_create(&thread, write_halves, NULL) == thrd_success);
    if (fork() == 0) {
        if (looks || atomic_load_explicit(&second, memory_order_relaxed)) {
            sum = half[0] + half[1];
            assert(sum == 0 || sum == 2);
        } else {
            half[0] = half[1] = 5;
            assert(half[0] + half[1] == 10);
        }
        return 0;
    }
    thrd_join(thread, NULL);
    return 0;
}

static int fork_reads_halves(void)
{
    return halves(true);
}

static int fork_looks_first(void)
{
    return halves(false);
}

/* ---- what libc keeps for itself: the time of day, numbers by chance, handlers of the end, texts
   ---- */

static int time_of_day(void)
{
    struct timespec wall, before, after;
    struct timeval day;
    clock_t busy = clock();

    clock_gettime(CLOCK_REALTIME, &wall);
    assert(gettimeofday(&day, NULL) == 0);
    assert(day.tv_sec == wall.tv_sec && day.tv_usec == wall.tv_nsec / 1000);
    clock_gettime(CLOCK_MONOTONIC, &before);
    sleep(3600);
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert(after.tv_sec == before.tv_sec + 3600);
    assert((clock() - busy) / CLOCKS_PER_SEC == 3600);
    return 0;
}

static _Atomic(int) drawn[2];

BODY(draw)
{
    (void)unused;
    drawn[0] = rand() % 5;
    return 0;
}

BODY(draw_too)
{
    (void)unused;
    drawn[1] = (int)(random() % 5);
    return 0;
}

static int by_chance(void)
{
    srand((unsigned)explore_choice(100));
    TOGETHER(draw, draw_too);
    return drawn[0] == 3 && drawn[1] == 3;
}

static char *kept;

static void give_back(void)
{
    free(kept);
}

static int at_the_end(void)
{
    int *numbers = reallocarray(NULL, 3, sizeof *numbers);
    char *text = strndup("letters", 3), *line;

    assert(atexit(give_back) == 0 && numbers && text);
    assert(asprintf(&line, "%s %d", text, 7) == 5 && strcmp(line, "let 7") == 0);
    pthread_setname_np(pthread_self(), line);
    kept = malloc(3);
    free(numbers);
    free(text);
    free(line);
    return 0;
}

/* ---- mutexes that nobody has initialised, and that a macro has ---- */

static int mutex_kinds(void)
{
    static pthread_mutex_t again = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP,
                           strict = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;

    pthread_mutex_lock(&again);
    assert(pthread_mutex_lock(&again) == 0 && pthread_mutex_unlock(&again) == 0);
    pthread_mutex_unlock(&again);
    assert(pthread_mutex_unlock(&strict) == EPERM && pthread_mutex_lock(&strict) == 0);
    assert(pthread_mutex_lock(&strict) == EDEADLK && pthread_mutex_unlock(&strict) == 0);
    return 0;
}

static int mutex_of_nobody(void)
{
    pthread_mutex_t *m = malloc(sizeof *m);

    pthread_mutex_lock(m);
    pthread_mutex_unlock(m);
    free(m);
    return 0;
}

const struct corpus_case system_cases[] = {
    {"time_of_day", time_of_day},
    {"by_chance", by_chance},
    {"at_the_end", at_the_end},
    {"mutex_kinds", mutex_kinds},
    {"mutex_of_nobody", mutex_of_nobody},
    {"handler_spins", handler_spins},
    {"handler_locks", handler_locks},
    {"handler_allocates", handler_allocates},
    {"flag_of_nobody", flag_of_nobody},
    {"test_then_pause", test_then_pause},
    {"sigsuspend_right", sigsuspend_right},
    {"read_cut_short", read_cut_short},
    {"self_pipe", self_pipe},
    {"pipe_left_open", pipe_left_open},
    {"flag_too_late", flag_too_late},
    {"dies_by_default", dies_by_default},
    {"may_die", may_die},
    {"masks", masks},
    {"signal_thread", signal_thread},
    {"signal_to_thread", signal_to_thread},
    {"stack_too_small", stack_too_small},
    {"fork_and_lock", fork_and_lock},
    {"fork_misses_store", fork_misses_store},
    {"fork_has_released", fork_has_released},
    {"fork_reads_halves", fork_reads_halves},
    {"fork_looks_first", fork_looks_first},
    {"atfork_right", atfork_right},
    {"wiped_page", wiped_page},
    {NULL, NULL},
};

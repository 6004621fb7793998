/* harness.h - the test harness of twill: one header, C11, no dependency beyond POSIX.
 *
 *     #include "harness.h"
 *
 *     TEST(addition)
 *     {
 *         CHECK(1 + 1 == 2);
 *         CHECK_EQ(1 + 1, 2);
 *         CHECK_STR("two", "two");
 *     }
 *
 *     HARNESS_MAIN
 *
 * A failed check is printed and counted, in any thread or forked child, and the test goes on: a
 * worker that fails must still reach its barrier. Checks are values:
 * `if (!CHECK(p != NULL)) return;`. A check that holds costs no read-modify-write and no fence, so
 * it hides no wrong memory order. A test in which no check ran fails: it would pass whatever the
 * code does.
 *
 * The tests run in a child process and the parent watches: a crash, an early exit, a sanitizer's
 * report at exit or a test that outlives its limit is a counted failure, and the next test runs.
 *
 *     program [-r repeats] [-s seed] [-t seconds] [-d] [-l] [-v] [filter...]
 *         -r  run every test this often, each time with the next seed
 *         -s  the seed of test_random(); a failure prints the one that it had
 *         -t  the limit for one run of one test, in seconds (480; 0 = none)
 *         -d  no child process: for a debugger
 *         -l  list the tests; -v say every test and its time
 *         filter: only tests whose name contains one of these
 *
 * The last line is `N passed, N failed` (and `, N skipped` if any); exit status 0 only if 0 failed.
 *
 * With HARNESS_FAULTS defined before this header, it defines TWILL_MALLOC, TWILL_FREE and
 * TWILL__FAIL_THREAD, so include it before the twill headers; see "faults" below. Compiled with
 * HARNESS_SHARED, as a test is that shares the code in twill.c, it sets the hooks there instead.
 */
#ifndef TWILL_HARNESS_H
#define TWILL_HARNESS_H

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if !defined(_WIN32)
#include <poll.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#define HARNESS_FORKS 1
/* -std=c11 hides these two; the tests need not ask for more than the headers do. */
extern int kill(pid_t pid, int sig);
#if !defined(SIGKILL)
#define SIGKILL 9
#endif
#if !defined(SIGHUP)
#define SIGHUP  1
#define SIGQUIT 3
#endif
#else
#define HARNESS_FORKS 0
#endif

/* ---- what a test uses ---- */

/* Defines and registers a test. */
#define TEST(name)                                                            \
    static void harness_run_##name(void);                                     \
    __attribute__((constructor)) static void harness_add_##name(void)         \
    {                                                                         \
        static struct harness_test entry = {#name, harness_run_##name, NULL}; \
        harness_add(&entry);                                                  \
    }                                                                         \
    static void harness_run_##name(void)

/* Each is true if the check holds. Integers are compared by value: -1 is not UINT64_MAX. */
#define CHECK(cond) harness_check((cond) ? true : false, #cond, __FILE__, __LINE__)
#define CHECK_EQ(a, b)                                                                    \
    harness_check_eq((unsigned long long)(a), HARNESS_SIGNED(a), (unsigned long long)(b), \
                     HARNESS_SIGNED(b), #a " == " #b, __FILE__, __LINE__)
#define CHECK_STR(a, b) harness_check_str((a), (b), #a " == " #b, __FILE__, __LINE__)
#define CHECK_PTR(a, b) \
    harness_check_ptr((const void *)(a), (const void *)(b), #a " == " #b, __FILE__, __LINE__)

/* Ends this test as skipped; `why` names what is missing. */
#define SKIP(why)          \
    do {                   \
        harness_skip(why); \
        return;            \
    } while (0)

#define HARNESS_MAIN                     \
    int main(int argc, char **argv)      \
    {                                    \
        return harness_main(argc, argv); \
    }

/* The next number of this test's generator, from any thread; one thread gets the same sequence
   for the same seed. */
static inline uint64_t test_random(void);

/* A number below `limit`, which is > 0. */
static inline uint64_t test_random_below(uint64_t limit);

/* How long this machine takes for something has no bound, so a test that must be done with it
   within some time tries with `ns`, twice that, and so on: `attempt` returns false, and has checked
   nothing that hangs on it, if this time was too short. False if 16 s were. */
static inline bool test_in_time(int64_t ns, bool (*attempt)(int64_t ns));

/* ---- state ---- */

struct harness_test {
    const char *name;
    void (*fn)(void);
    struct harness_test *next;
};

enum { HARNESS_MAX_PRINTED = 20 }; /* failed checks printed for one run of one test */

static struct harness_test *harness_first, **harness_last = &harness_first;
static const char *harness_current = "(no test)";
static int harness_pipe = -1;         /* records for the parent; -1: no parent */
static atomic_bool harness_any_check; /* a check ran in this test */
static atomic_uint harness_failures;  /* failed checks of this test, in this process */
static atomic_uint_least64_t harness_random_state;
static bool harness_skipped;
static uint64_t harness_seed;
static unsigned harness_repeats = 1, harness_limit = 480;
static bool harness_verbose;
static char **harness_filters;
static int harness_filter_count;

static inline void harness_add(struct harness_test *test)
{
    *harness_last = test;
    harness_last = &test->next;
}

/* ---- checks ---- */

/* What a child tells its parent; one write, so that records of many threads never mix. */
enum harness_kind {
    HARNESS_BEGIN = 1,
    HARNESS_CHECK_FAILED,
    HARNESS_PASS,
    HARNESS_FAIL,
    HARNESS_SKIP,
    HARNESS_END
};
struct harness_record {
    int kind;
    unsigned test, repeat;
};

static inline void harness_tell(enum harness_kind kind, unsigned test, unsigned repeat)
{
#if HARNESS_FORKS
    struct harness_record record = {(int)kind, test, repeat};

    if (harness_pipe < 0)
        return;
    while (write(harness_pipe, &record, sizeof record) < 0 && errno == EINTR)
        continue;
#else
    (void)kind, (void)test, (void)repeat;
#endif
}

/* One write for a line: lines of threads and processes do not mix. */
static inline void harness_print(FILE *file, const char *format, va_list args)
{
    char line[1024];
    int length = vsnprintf(line, sizeof line, format, args);

    if (length < 0)
        return;
    if ((size_t)length >= sizeof line) {
        length = (int)sizeof line - 1;
        line[length - 1] = '\n';
    }
    fwrite(line, 1, (size_t)length, file);
    fflush(file);
}

__attribute__((format(printf, 1, 2))) static inline void harness_say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    harness_print(stdout, format, args);
    va_end(args);
}

__attribute__((format(printf, 1, 2))) static inline void harness_failed(const char *format, ...)
{
    int error = errno; /* a check must not disturb what the test looks at next */
    va_list args;
    unsigned before = atomic_fetch_add(&harness_failures, 1);

    harness_tell(HARNESS_CHECK_FAILED, 0, 0);
    if (before < HARNESS_MAX_PRINTED) {
        va_start(args, format);
        harness_print(stdout, format, args);
        va_end(args);
    } else if (before == HARNESS_MAX_PRINTED) {
        harness_say("... more failed checks in %s, not printed\n", harness_current);
    }
    errno = error;
}

static inline bool harness_checked(bool holds)
{
    if (!atomic_load_explicit(&harness_any_check, memory_order_relaxed))
        atomic_store_explicit(&harness_any_check, true, memory_order_relaxed);
    return holds;
}

static inline bool harness_check(bool holds, const char *text, const char *file, int line)
{
    if (!harness_checked(holds))
        harness_failed("%s:%d: %s: failed: %s\n", file, line, harness_current, text);
    return holds;
}

/* 1 if the (promoted) type of x is signed; a floating argument does not compile, as == on a
   truncated value is never what was meant. */
#define HARNESS_SIGNED(x)                                                         \
    (_Generic((x), unsigned : 0, unsigned long : 0, unsigned long long : 0, float \
              : harness_integers_only, double                                     \
              : harness_integers_only, default : 1))
extern const struct harness_integers_only {
    int unused;
} harness_integers_only;

static inline void harness_number(char *text, size_t size, unsigned long long value, int is_signed)
{
    if (is_signed)
        snprintf(text, size, "%lld", (long long)value);
    else
        snprintf(text, size, "%llu", value);
}

static inline bool harness_check_eq(unsigned long long a, int a_signed, unsigned long long b,
                                    int b_signed, const char *text, const char *file, int line)
{
    bool a_negative = a_signed && (long long)a < 0, b_negative = b_signed && (long long)b < 0;
    bool holds = a == b && a_negative == b_negative;
    char a_text[32], b_text[32];

    if (!harness_checked(holds)) {
        harness_number(a_text, sizeof a_text, a, a_signed);
        harness_number(b_text, sizeof b_text, b, b_signed);
        harness_failed("%s:%d: %s: failed: %s (%s and %s)\n", file, line, harness_current, text,
                       a_text, b_text);
    }
    return holds;
}

static inline bool harness_check_str(const char *a, const char *b, const char *text,
                                     const char *file, int line)
{
    bool holds = a && b ? strcmp(a, b) == 0 : a == b;

    if (!harness_checked(holds))
        harness_failed("%s:%d: %s: failed: %s (\"%s\" and \"%s\")\n", file, line, harness_current,
                       text, a ? a : "(null)", b ? b : "(null)");
    return holds;
}

static inline bool harness_check_ptr(const void *a, const void *b, const char *text,
                                     const char *file, int line)
{
    if (!harness_checked(a == b))
        harness_failed("%s:%d: %s: failed: %s (%p and %p)\n", file, line, harness_current, text,
                       (void *)(uintptr_t)a, (void *)(uintptr_t)b);
    return a == b;
}

static inline void harness_skip(const char *why)
{
    harness_skipped = true;
    harness_say("SKIP %s: %s\n", harness_current, why);
}

/* ---- random numbers ---- */

/* splitmix64 (Steele, Lea, Flood 2014): the state is a counter, so threads may share it. */
static inline uint64_t harness_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline uint64_t test_random(void)
{
    const uint64_t step = UINT64_C(0x9e3779b97f4a7c15);

    return harness_mix(
        atomic_fetch_add_explicit(&harness_random_state, step, memory_order_relaxed) + step);
}

static inline uint64_t test_random_below(uint64_t limit)
{
    return test_random() % limit;
}

static inline bool test_in_time(int64_t ns, bool (*attempt)(int64_t ns))
{
    while (!attempt(ns)) {
        if (ns >= INT64_C(16000000000))
            return false;
        ns *= 2;
    }
    return true;
}

/* ---- faults ---- */
#ifdef HARNESS_FAULTS

static atomic_ulong harness_fail_alloc, harness_fail_alloc_from, harness_fail_thread;
static atomic_ulong harness_allocs, harness_threads;
static atomic_long harness_live;

/* The k-th allocation from now fails, once; 0 = none. */
static inline void faults_fail_alloc(unsigned long k)
{
    atomic_store(&harness_fail_alloc_from, 0);
    atomic_store(&harness_fail_alloc, k ? atomic_load(&harness_allocs) + k : 0);
}

/* The k-th allocation from now and all later ones fail; 0 = none. */
static inline void faults_fail_alloc_from(unsigned long k)
{
    atomic_store(&harness_fail_alloc, 0);
    atomic_store(&harness_fail_alloc_from, k ? atomic_load(&harness_allocs) + k : 0);
}

/* Allocations asked for since the test began, those that failed included. */
static inline unsigned long faults_allocs(void)
{
    return atomic_load(&harness_allocs);
}

/* Blocks that are allocated and not yet freed, over the whole program. */
static inline long faults_live(void)
{
    return atomic_load(&harness_live);
}

/* The k-th creation of a thread from now and all later ones fail; 0 = none. */
static inline void faults_fail_thread(unsigned long k)
{
    atomic_store(&harness_fail_thread, k ? atomic_load(&harness_threads) + k : 0);
}

/* Creations of threads asked for since the test began, those that failed included. */
static inline unsigned long faults_threads(void)
{
    return atomic_load(&harness_threads);
}

static inline void *test_malloc(size_t size)
{
    unsigned long number = atomic_fetch_add(&harness_allocs, 1) + 1;
    unsigned long from = atomic_load(&harness_fail_alloc_from);
    void *block;

    if (number == atomic_load(&harness_fail_alloc) || (from && number >= from))
        return NULL;
    if (size / 1048576 > 262144) /* no machine has it; sanitizers end the program that asks */
        return NULL;
    block = malloc(size);
    if (block) {
        memset(block, 0xa5, size); /* who counts on zeroes shall see it */
        atomic_fetch_add(&harness_live, 1);
    }
    return block;
}

static inline void test_free(void *block)
{
    if (block)
        atomic_fetch_sub(&harness_live, 1);
    free(block);
}

static inline int harness_thread_fails(void)
{
    unsigned long number = atomic_fetch_add(&harness_threads, 1) + 1;
    unsigned long from = atomic_load(&harness_fail_thread);

    return from && number >= from;
}

#ifdef HARNESS_SHARED
#include "faults.h"

static inline void harness_hook(void)
{
    if (test_frees == test_free)
        return; /* once: a thread of an earlier test may still read them */
    test_allocates = test_malloc;
    test_frees = test_free;
    test_thread_fails = harness_thread_fails;
}
#else
#define TWILL_MALLOC(size)   test_malloc(size)
#define TWILL_FREE(block)    test_free(block)
#define TWILL__FAIL_THREAD() harness_thread_fails()

static inline void harness_hook(void)
{
}
#endif

static inline void harness_reset_faults(void)
{
    harness_hook();
    faults_fail_alloc(0);
    faults_fail_thread(0);
    atomic_store(&harness_allocs, 0);
    atomic_store(&harness_threads, 0);
}

#else

static inline void harness_reset_faults(void)
{
}

#endif

/* ---- running ---- */

struct harness_counts {
    unsigned passed, failed, skipped;
};

static inline bool harness_selected(const struct harness_test *test)
{
    for (int i = 0; i < harness_filter_count; i++)
        if (strstr(test->name, harness_filters[i]))
            return true;
    return harness_filter_count == 0;
}

static inline double harness_seconds(void)
{
    struct timespec now;

#if HARNESS_FORKS
    timespec_get(&now, TIME_UTC);
#else
    clock_gettime(CLOCK_REALTIME, &now); /* MinGW's C library has no timespec_get */
#endif
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline void harness_say_seed(unsigned repeat)
{
    harness_say("     again with: -s %llu %s\n", (unsigned long long)(harness_seed + repeat),
                harness_current);
}

/* One run of one test, in the process that has it. */
static inline enum harness_kind harness_run(const struct harness_test *test, unsigned repeat)
{
    uint64_t seed = harness_mix(harness_seed + repeat + 1);

    for (const char *c = test->name; *c; c++)
        seed = harness_mix(seed ^ (unsigned char)*c);
    atomic_store(&harness_random_state, seed);
    atomic_store(&harness_any_check, false);
    atomic_store(&harness_failures, 0);
    harness_skipped = false;
    harness_reset_faults();
    test->fn();
    harness_reset_faults();
    if (atomic_load(&harness_failures))
        return HARNESS_FAIL;
    if (harness_skipped)
        return HARNESS_SKIP;
    if (!atomic_load(&harness_any_check)) {
        harness_failed("%s: failed: no check ran\n", test->name);
        return HARNESS_FAIL;
    }
    return HARNESS_PASS;
}

static inline void harness_count(struct harness_counts *counts, enum harness_kind kind,
                                 unsigned repeat, double seconds)
{
    if (kind == HARNESS_FAIL) {
        counts->failed++;
        harness_say("FAIL %s\n", harness_current);
        harness_say_seed(repeat);
    } else if (kind == HARNESS_SKIP) {
        counts->skipped++;
    } else {
        counts->passed++;
        if (harness_verbose)
            harness_say("ok   %s (%.0f ms)\n", harness_current, seconds * 1e3);
    }
}

/* All repeats of all selected tests from number `first` on, telling a parent if there is one. */
static inline void harness_run_all(unsigned first, struct harness_counts *counts)
{
    unsigned number = 0;

    for (const struct harness_test *test = harness_first; test; test = test->next, number++) {
        enum harness_kind kind = HARNESS_PASS;
        double start = harness_seconds();
        unsigned repeat = 0;

        if (number < first || !harness_selected(test))
            continue;
        harness_current = test->name;
        for (; repeat < harness_repeats && kind == HARNESS_PASS; repeat++) {
            harness_tell(HARNESS_BEGIN, number, repeat);
            kind = harness_run(test, repeat);
        }
        if (harness_pipe < 0)
            harness_count(counts, kind, repeat - 1, harness_seconds() - start);
        harness_tell(kind, number, repeat - 1);
    }
    harness_current = "(after the last test)";
    harness_tell(HARNESS_END, number, 0);
}

#if HARNESS_FORKS

/* What the parent knows of the child. */
struct harness_watch {
    pid_t child;
    int fd;
    bool running, ended;   /* in a test; behind the last one */
    unsigned test, repeat; /* the test begun last */
    unsigned failures;     /* failed checks since it began, of all processes */
    double begun, first_begun;
};

static inline const char *harness_name(unsigned number)
{
    const struct harness_test *test = harness_first;

    while (test && number--)
        test = test->next;
    return test ? test->name : "(no test)";
}

static inline void harness_heard(struct harness_watch *watch, const struct harness_record *record,
                                 struct harness_counts *counts)
{
    enum harness_kind kind = (enum harness_kind)record->kind;

    switch (kind) {
    case HARNESS_BEGIN:
        watch->running = true;
        watch->test = record->test;
        watch->repeat = record->repeat;
        watch->begun = harness_seconds();
        if (record->repeat == 0) {
            watch->first_begun = watch->begun;
            watch->failures = 0;
        }
        harness_current = harness_name(record->test);
        break;
    case HARNESS_CHECK_FAILED:
        watch->failures++;
        break;
    case HARNESS_END:
        watch->ended = true;
        watch->begun = harness_seconds();
        break;
    default:
        if (watch->failures)
            kind = HARNESS_FAIL; /* a forked child of the test's own had one */
        harness_count(counts, kind, record->repeat, harness_seconds() - watch->first_begun);
        watch->running = false;
        watch->failures = 0;
        break;
    }
}

/* Waits for a record or 20 ms; false when there will be no more. */
static inline bool harness_listen(struct harness_watch *watch, struct harness_counts *counts)
{
    struct pollfd wait_for = {watch->fd, POLLIN, 0};
    struct harness_record record;
    ssize_t got;

    if (poll(&wait_for, 1, 20) <= 0)
        return true;
    got = read(watch->fd, &record, sizeof record);
    if (got == (ssize_t)sizeof record)
        harness_heard(watch, &record, counts);
    return got > 0 || (got < 0 && errno == EINTR);
}

/* Reads what was said before the end. */
static inline void harness_drain(struct harness_watch *watch, struct harness_counts *counts)
{
    struct pollfd wait_for = {watch->fd, POLLIN, 0};

    while (poll(&wait_for, 1, 0) > 0)
        if (!harness_listen(watch, counts))
            break;
}

/* Says how a child ended that should not have ended so, and counts it. */
static inline void harness_judge(struct harness_watch *watch, int status, bool late,
                                 struct harness_counts *counts)
{
    if (!watch->running)
        harness_current = "(after the last test)";
    if (late)
        harness_say("%s: failed: no end after %u s\n", harness_current, harness_limit);
    else if (WIFSIGNALED(status))
        harness_say("%s: failed: killed by signal %d\n", harness_current, WTERMSIG(status));
    else if (watch->running || !watch->ended)
        harness_say("%s: failed: exit with status %d in the middle of it\n", harness_current,
                    WEXITSTATUS(status));
    else if (watch->failures)
        harness_say("%s: failed: a check after the last test\n", harness_current);
    else if (WEXITSTATUS(status))
        harness_say("%s: failed: exit status %d\n", harness_current, WEXITSTATUS(status));
    else
        return;
    harness_count(counts, HARNESS_FAIL, watch->repeat, 0);
}

/* Watches one child to its end. Returns whether it came to the end of its list. */
static inline bool harness_attend(struct harness_watch *watch, struct harness_counts *counts)
{
    int status = 0;
    bool late = false, more = true;
    double seen = harness_seconds();

    while (waitpid(watch->child, &status, WNOHANG) == 0) {
        double now;
        if (more)
            more = harness_listen(watch, counts);
        else
            poll(NULL, 0, 1);
        now = harness_seconds();
        if (now < seen || now > seen + 1) /* the clock was set, or all stood still */
            watch->begun += now - seen;
        seen = now;
        if (harness_limit && harness_seconds() - watch->begun > (double)harness_limit) {
            late = true;
            kill(watch->child, SIGKILL);
            while (waitpid(watch->child, &status, 0) < 0 && errno == EINTR)
                continue;
            break;
        }
    }
    harness_drain(watch, counts);
    harness_judge(watch, status, late, counts);
    return watch->ended;
}

/* Runs the tests in a child; after a crash, the rest in a new one. */
static inline void harness_supervise(struct harness_counts *counts)
{
    unsigned first = 0;

    for (;;) {
        struct harness_watch watch = {0};
        int ends[2];
        bool finished;

        fflush(stdout);
        fflush(stderr);
        if (pipe(ends) != 0) {
            harness_say("failed: no pipe: %s\n", strerror(errno));
            counts->failed++;
            return;
        }
        watch.fd = ends[0];
        watch.begun = harness_seconds();
        watch.test = first;
        watch.child = fork();
        if (watch.child < 0) {
            harness_say("failed: no child process: %s\n", strerror(errno));
            counts->failed++;
            return;
        }
        if (watch.child == 0) {
            /* as they are in the foreground: `nohup` and `cmd &` leave some ignored */
            for (int i = 0; i < 3; i++)
                signal((int[]){SIGINT, SIGHUP, SIGQUIT}[i], SIG_DFL);
            close(ends[0]);
            harness_pipe = ends[1];
            harness_run_all(first, counts);
            exit(0);
        }
        close(ends[1]);
        finished = harness_attend(&watch, counts);
        close(ends[0]);
        if (finished)
            return;
        first = watch.test + 1;
    }
}

#endif

static inline int harness_usage(const char *program)
{
    fprintf(stderr, "usage: %s [-r repeats] [-s seed] [-t seconds] [-d] [-l] [-v] [filter...]\n",
            program);
    return 2;
}

static inline bool harness_number_option(const char *text, unsigned long long *value)
{
    char *end;

    if (!text || *text < '0' || *text > '9')
        return false;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return *end == '\0' && errno == 0;
}

/* Reads the options; false if they are wrong. */
static inline bool harness_options(int argc, char **argv, bool *direct, bool *list)
{
    int i = 1;

    for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
        unsigned long long value = 0;
        char option = argv[i][1];

        if (argv[i][2])
            return false;
        if (strchr("rst", option) &&
            !harness_number_option(i + 1 < argc ? argv[++i] : NULL, &value))
            return false;
        if (option == 'r')
            harness_repeats = value > UINT32_MAX ? UINT32_MAX : (unsigned)value;
        else if (option == 's')
            harness_seed = value;
        else if (option == 't')
            harness_limit = value > UINT32_MAX ? UINT32_MAX : (unsigned)value;
        else if (option == 'd')
            *direct = true;
        else if (option == 'l')
            *list = true;
        else if (option == 'v')
            harness_verbose = true;
        else
            return false;
    }
    harness_filters = argv + i;
    harness_filter_count = argc - i;
    return harness_repeats > 0;
}

static inline int harness_main(int argc, char **argv)
{
    struct harness_counts counts = {0, 0, 0};
    bool direct = !HARNESS_FORKS, list = false;

    harness_seed = (uint64_t)(harness_seconds() * 1e6) % 1000000000u;
    if (!harness_options(argc, argv, &direct, &list))
        return harness_usage(argv[0]);
    if (list) {
        for (const struct harness_test *test = harness_first; test; test = test->next)
            if (harness_selected(test))
                printf("%s\n", test->name);
        return 0;
    }
#if HARNESS_FORKS
    if (!direct)
        harness_supervise(&counts);
#endif
    if (direct)
        harness_run_all(0, &counts);
    if (counts.passed + counts.failed + counts.skipped == 0) {
        harness_say("no test is called so\n");
        counts.failed = 1;
    }
    harness_say("%u passed, %u failed", counts.passed, counts.failed);
    if (counts.skipped)
        harness_say(", %u skipped", counts.skipped);
    harness_say("\n");
    return counts.failed != 0;
}

#endif

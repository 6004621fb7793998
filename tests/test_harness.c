/* The harness tests itself: with HARNESS_CASE in the environment this program is a set of odd tests
   (failing, crashing, endless, ...); without it, it runs itself so and looks at what came out. */
#define _GNU_SOURCE
#define HARNESS_FAULTS
#include "harness.h"

#include <pthread.h>

static const char *own_path;

/* ---- the odd tests ---- */

static bool odd(const char *name)
{
    const char *chosen = getenv("HARNESS_CASE");

    return chosen && strcmp(chosen, name) == 0;
}

static void *fail_often(void *unused)
{
    (void)unused;
    for (int i = 0; i < 1000; i++)
        CHECK(i < 0);
    return NULL;
}

static bool went_on;

static void odd_checks(void)
{
    CHECK(1 + 1 == 3);
    CHECK_EQ(-1, UINT64_MAX);
    CHECK_STR("left", NULL);
    CHECK_PTR(&went_on, NULL);
    CHECK(true);
    went_on = true;
}

static void odd_threads(void)
{
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, fail_often, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(atomic_load(&harness_failures), 4000);
    harness_say("counted %u\n", atomic_load(&harness_failures));
}

static void odd_fork(void)
{
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        CHECK(child > 0);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

static void odd_seed(void)
{
    for (int i = 0; i < 3; i++)
        harness_say("random %llu\n", (unsigned long long)test_random());
    CHECK(true);
}

static void odd_slow(void)
{
    CHECK(true);
    for (;;)
        poll(NULL, 0, 1000);
}

TEST(odd_first)
{
    CHECK(!odd("checks_before") || went_on);
    if (odd("checks"))
        odd_checks();
    else if (odd("threads"))
        odd_threads();
    else if (odd("fork"))
        odd_fork();
    else if (odd("seed"))
        odd_seed();
    else if (odd("slow"))
        odd_slow();
    else if (odd("crash"))
        raise(SIGSEGV);
    else if (odd("exit"))
        exit(0);
    else if (odd("nothing"))
        atomic_store(&harness_any_check, false);
    else if (odd("skip"))
        SKIP("for the test");
    CHECK(!odd("skip"));
    if (odd("nothing"))
        atomic_store(&harness_any_check, false);
}

TEST(odd_second)
{
    CHECK(true);
}

static void exit_badly(void)
{
    _exit(3);
}

TEST(odd_third)
{
    CHECK(true);
    if (odd("end"))
        atexit(exit_badly);
}

/* ---- looking at them ---- */

static char output[16384];

/* Runs this program as `odd_case` with the arguments, its output into `output`; its exit status. */
static int run_odd(const char *odd_case, const char *arguments)
{
    char command[4096];
    size_t length;
    int status;
    FILE *pipe_in;

    snprintf(command, sizeof command, "HARNESS_CASE=%s '%s' %s 2>&1", odd_case, own_path,
             arguments);
    fflush(stdout);
    pipe_in = popen(command, "r");
    if (!CHECK(pipe_in != NULL))
        return -1;
    length = fread(output, 1, sizeof output - 1, pipe_in);
    output[length] = '\0';
    status = pclose(pipe_in);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool said(const char *text)
{
    return strstr(output, text) != NULL;
}

static const char *last_line(void)
{
    size_t length = strlen(output);

    if (length && output[length - 1] == '\n')
        output[--length] = '\0';
    while (length && output[length - 1] != '\n')
        length--;
    return output + length;
}

TEST(all_pass)
{
    CHECK_EQ(run_odd("none", "odd_"), 0);
    CHECK_STR(last_line(), "3 passed, 0 failed");
}

TEST(failed_checks_are_printed_and_counted_and_the_test_goes_on)
{
    CHECK_EQ(run_odd("checks", "odd_"), 1);
    CHECK(said("odd_first: failed: 1 + 1 == 3\n"));
    CHECK(said("-1 == UINT64_MAX (-1 and 18446744073709551615)"));
    CHECK(said("(\"left\" and \"(null)\")"));
    CHECK(said("&went_on == NULL"));
    CHECK(said("FAIL odd_first\n"));
    CHECK(said("test_harness.c:"));
    CHECK_STR(last_line(), "2 passed, 1 failed");
}

TEST(failures_of_threads_are_all_counted)
{
    CHECK_EQ(run_odd("threads", "odd_first"), 1);
    CHECK(said("counted 4000\n"));
    CHECK(said("more failed checks"));
    CHECK_STR(last_line(), "0 passed, 1 failed");
}

TEST(failures_of_a_forked_child_count)
{
    CHECK_EQ(run_odd("fork", "odd_"), 1);
    CHECK(said("failed: child > 0"));
    CHECK_STR(last_line(), "2 passed, 1 failed");
}

TEST(a_crash_is_counted_and_the_rest_runs)
{
    CHECK_EQ(run_odd("crash", "odd_"), 1);
    CHECK(said("FAIL odd_first\n"));
    CHECK_STR(last_line(), "2 passed, 1 failed");
}

TEST(an_early_exit_is_a_failure)
{
    CHECK_EQ(run_odd("exit", "odd_"), 1);
    CHECK(said("in the middle of it"));
    CHECK_STR(last_line(), "2 passed, 1 failed");
}

TEST(a_bad_exit_status_after_the_last_test_is_a_failure)
{
    CHECK_EQ(run_odd("end", "odd_"), 1);
    CHECK(said("exit status 3"));
    CHECK_STR(last_line(), "3 passed, 1 failed");
}

TEST(the_watchdog_ends_an_endless_test)
{
    CHECK_EQ(run_odd("slow", "-t 1 odd_"), 1);
    CHECK(said("no end after 1 s"));
    CHECK_STR(last_line(), "2 passed, 1 failed");
}

TEST(a_test_without_a_check_fails)
{
    CHECK_EQ(run_odd("nothing", "odd_first"), 1);
    CHECK(said("no check ran"));
    CHECK_STR(last_line(), "0 passed, 1 failed");
}

TEST(skipping)
{
    CHECK_EQ(run_odd("skip", "odd_"), 0);
    CHECK(said("SKIP odd_first: for the test"));
    CHECK_STR(last_line(), "2 passed, 0 failed, 1 skipped");
}

TEST(filters)
{
    CHECK_EQ(run_odd("none", "-v d_sec"), 0);
    CHECK(said("ok   odd_second"));
    CHECK(!said("odd_first"));
    CHECK_STR(last_line(), "1 passed, 0 failed");
    CHECK_EQ(run_odd("none", "odd_second odd_third"), 0);
    CHECK_STR(last_line(), "2 passed, 0 failed");
    CHECK_EQ(run_odd("none", "no_such_test"), 1);
    CHECK_STR(last_line(), "0 passed, 1 failed");
}

TEST(wrong_options)
{
    CHECK_EQ(run_odd("none", "-r"), 2);
    CHECK_EQ(run_odd("none", "-r 0"), 2);
    CHECK_EQ(run_odd("none", "-s x1"), 2);
    CHECK_EQ(run_odd("none", "-q"), 2);
}

TEST(repeats_and_no_child)
{
    CHECK_EQ(run_odd("none", "-d -r 50 odd_"), 0);
    CHECK_STR(last_line(), "3 passed, 0 failed");
    CHECK_EQ(run_odd("checks", "-d -r 2 -s 7 odd_"), 1);
    CHECK(said("again with: -s 7 odd_first"));
    CHECK_STR(last_line(), "2 passed, 1 failed");
}

TEST(a_seed_gives_the_same_numbers_again)
{
    char first[sizeof output];

    CHECK_EQ(run_odd("seed", "-s 5 odd_first"), 0);
    memcpy(first, output, sizeof first);
    CHECK_EQ(run_odd("seed", "-s 5 odd_first"), 0);
    CHECK_STR(output, first);
    CHECK_EQ(run_odd("seed", "-s 6 odd_first"), 0);
    CHECK(strcmp(output, first) != 0);
}

TEST(random_numbers_spread)
{
    unsigned counts[8] = {0};

    for (int i = 0; i < 8000; i++)
        counts[test_random_below(8)]++;
    for (int i = 0; i < 8; i++)
        CHECK(counts[i] > 800 && counts[i] < 1200);
}

TEST(the_allocation_that_is_told_to_fail_fails)
{
    long live = faults_live();
    unsigned char *block = test_malloc(10);

    if (!CHECK(block != NULL))
        return;
    CHECK_EQ(block[0], 0xa5);
    CHECK_EQ(block[9], 0xa5);
    CHECK_EQ(faults_live(), live + 1);
    test_free(block);
    test_free(NULL);
    CHECK_EQ(faults_live(), live);
    CHECK_EQ(faults_allocs(), 1);
    faults_fail_alloc(2);
    for (int i = 1; i <= 4; i++) {
        void *next = TWILL_MALLOC(1);

        CHECK((next == NULL) == (i == 2));
        TWILL_FREE(next);
    }
    faults_fail_alloc_from(2);
    for (int i = 1; i <= 4; i++) {
        void *next = TWILL_MALLOC(1);

        CHECK((next == NULL) == (i >= 2));
        TWILL_FREE(next);
    }
    CHECK_EQ(faults_allocs(), 9);
    CHECK_EQ(faults_live(), live);
}

TEST(threads_from_the_kth_on_fail)
{
    CHECK_EQ(TWILL__FAIL_THREAD(), 0);
    faults_fail_thread(2);
    CHECK_EQ(TWILL__FAIL_THREAD(), 0);
    CHECK_EQ(TWILL__FAIL_THREAD(), 1);
    CHECK_EQ(TWILL__FAIL_THREAD(), 1);
    faults_fail_thread(0);
    CHECK_EQ(TWILL__FAIL_THREAD(), 0);
    CHECK_EQ(faults_threads(), 5);
}

TEST(faults_end_with_their_test)
{
    void *block = test_malloc(1);

    CHECK(block != NULL);
    CHECK_EQ(faults_allocs(), 1);
    CHECK_EQ(TWILL__FAIL_THREAD(), 0);
    test_free(block);
}

int main(int argc, char **argv)
{
    own_path = argv[0];
    return harness_main(argc, argv);
}

/* main.c: options, and the loop over the runs. */
#define _GNU_SOURCE /* dl_iterate_phdr */
#include "explorer.h"

#include <limits.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

explorer x;

char *locals_address; /* the program's _Thread_local block: one place, changed at each switch */
size_t locals_size, locals_image_size;
const void *locals_image;

static char *data, *data_copy; /* the program's variables, and their values before it began */
static size_t data_size;

static struct {
    uint64_t schedules, first, trials, sweep;
    double seconds;
    bool keep_going, sweep_allocations, sweep_creations, expect_failure, replay, rising, shrink;
    bool keep_counters;
    const char *resume; /* a file, or NULL */
} options = {.schedules = 100000, .trials = 1, .shrink = true};

/* ---- --keep-counters: gcov's are variables of the program, and must outlive a run ---- */

enum { COUNTERS = 1 << 14 };
static struct {
    char *address, *copy;
    size_t size;
} counters[COUNTERS];
static size_t counter_count;

static void keep_counter(char *address, size_t size)
{
    if (counter_count == COUNTERS)
        limit("too many counters");
    counters[counter_count].address = address;
    counters[counter_count].size = size;
    counters[counter_count++].copy = big(size);
}

static void restore_variables(void)
{
    for (size_t i = 0; i < counter_count; i++)
        memcpy(counters[i].copy, counters[i].address, counters[i].size);
    memcpy(data, data_copy, data_size);
    for (size_t i = 0; i < counter_count; i++)
        memcpy(counters[i].address, counters[i].copy, counters[i].size);
}

/* ---- labels that some run must reach ---- */

enum { LABELS = 32 };
static struct {
    char name[80];
    uint64_t count;
} labels[LABELS];
static int label_count;

void must_reach(const char *name, bool reached)
{
    int i = 0;

    while (i < label_count && strcmp(labels[i].name, name) != 0)
        i++;
    if (i == LABELS)
        limit("too many labels to reach");
    if (i == label_count)
        snprintf(labels[label_count++].name, sizeof labels[0].name, "%s", name);
    labels[i].count += reached;
}

uint32_t labels_to_reach(void)
{
    return (uint32_t)label_count;
}

EXPORT void explore_must_reach(const char *label)
{
    must_reach(label, false);
}

EXPORT void explore_reached(const char *label)
{
    must_reach(label, true);
}

EXPORT int explore_choice(int n)
{
    int taken = choose(n);

    trace("choice", NULL, 0, (uint64_t)taken, NO_ORDER, false, PC);
    return taken;
}

EXPORT int explore_sim_choice(int n) __attribute__((alias("explore_choice"))); /* its old name */

EXPORT long long explore_now(void)
{
    step_on(&x.now, false, 4);
    return (long long)x.now;
}

EXPORT unsigned explore_steps(void)
{
    return self()->steps;
}

/* ---- one run ---- */

static bool fault_met; /* what --fail-alloc and --fail-thread ask for, in some run */

enum { GUARD = 4096 };

static int find_locals(struct dl_phdr_info *info, size_t size, void *nothing)
{
    (void)size, (void)nothing;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_TLS) {
            locals_address = info->dlpi_tls_data;
            locals_size = info->dlpi_phdr[i].p_memsz;
            locals_image = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
            locals_image_size = info->dlpi_phdr[i].p_filesz;
        }
    return 1; /* the first is the program */
}

/* The lowest page of a stack is a guard. */
static bool in_guard(const void *address)
{
    return (uintptr_t)address - (uintptr_t)self()->stack < GUARD;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    sigset_t mask;

    (void)context;
    if (!x.active)
        _Exit(128 + number);
    sigemptyset(&mask);
    sigaddset(&mask, number);
    sigprocmask(SIG_UNBLOCK, &mask, NULL);
    if (number == SIGSEGV && in_guard(info->si_addr))
        fail("stack overflow: T%d needs more than %d KiB", x.current, STACK_SIZE / 1024);
    fail("%s", number == SIGFPE   ? "arithmetic error (SIGFPE)"
               : number == SIGILL ? "illegal instruction (SIGILL)"
                                  : "invalid memory access (SIGSEGV)");
}

/* A loop without a step is never left: the explorer looks every now and then (of its own processor
   time) whether there was one. */
enum { LOOK_US = 200000, PATIENCE = 3 };

static void on_alarm(int number, siginfo_t *info, void *context)
{
    static uint64_t last_runs;
    static uint32_t last_steps;
    static int still;
    sigset_t mask;

    (void)info, (void)context;
    still = x.active && last_runs == x.runs && last_steps == x.steps ? still + 1 : 0;
    last_runs = x.runs;
    last_steps = x.steps;
    if (still < PATIENCE)
        return;
    still = 0;
    sigemptyset(&mask);
    sigaddset(&mask, number);
    sigprocmask(SIG_UNBLOCK, &mask, NULL);
    fail("T%d runs and runs without a step: an endless loop", x.current);
}

static void watch_for_endless_loops(void)
{
    struct itimerval look = {{0, LOOK_US}, {0, LOOK_US}};
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_alarm;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigaction(SIGVTALRM, &action, NULL);
    setitimer(ITIMER_VIRTUAL, &look, NULL);
}

static void catch_signals(void)
{
    stack_t stack = {.ss_sp = big(1 << 17), .ss_size = 1 << 17};
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_signal;
    action.sa_flags = (int)(SA_SIGINFO | SA_NODEFER | SA_ONSTACK);
    sigaltstack(&stack, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
    sigaction(SIGILL, &action, NULL);
}

static void check_end(void)
{
    if (x.failed || x.pruned || !x.check_leaks || x.died || x.in_child)
        return;
    x.failed = heap_leak(x.message, sizeof x.message) || files_leak(x.message, sizeof x.message);
    for (int i = 1; i < x.thread_count && !x.failed; i++)
        if (!x.threads[i].joined && !x.threads[i].detached) {
            snprintf(x.message, sizeof x.message, "T%d was neither joined nor detached", i);
            x.failed = true;
        }
}

/* True: the run failed. */
bool run_once(uint64_t number)
{
    restore_variables();
    heap_reset();
    trace_reset();
    x.run++;
    x.era++;
    x.thread_count = x.current = 0;
    x.failed = x.finished = x.died = x.in_child = false;
    x.pid = 1000;
    x.details[0] = '\0';
    x.steps = x.idle_yields = x.polite_yields = 0;
    x.polite = false;
    x.runnable = x.timed = 0;
    x.now = TIME_BEGINS;
    x.wall = UINT64_C(1700000000000000000);
    x.reads_of_now = 0;
    x.allocations = x.creations = 0;
    x.fault_hit = false;
    x.sc_order = 0;
    x.registered = false;
    x.lowest_priority = 0;
    memset(&x.sc_view, 0, sizeof x.sc_view);
    x.runs++;
    x.reducing = x.strategy == EXHAUSTIVE && x.reduction;
    reduce_begin_run();
    signals_reset();
    search_begin_run(number);
    thread_create(NULL, NULL, NULL, NULL);
    x.active = true;
    stack_switch(&x.driver, x.threads[0].sp);
    x.active = false;
    check_end();
    search_learn();
    x.total_steps += x.steps;
    if (x.steps > x.longest)
        x.longest = x.steps;
    fault_met |= x.fault_hit;
    return x.failed;
}

/* ---- many runs ---- */

/* The run that has just failed once more, for its report. PCT goes by what it has learnt since, and
   an endless loop takes its time: their reports do without. */
static void run_with_callers(uint64_t number)
{
    uint64_t runs = x.runs, total_steps = x.total_steps;
    bool reduction = x.reduction;

    if (x.callers || x.strategy == PCT || strstr(x.message, "endless loop"))
        return;
    x.callers = true;
    x.reduction = false;
    if (!run_once(number))
        limit("in the same schedule the program has done something else: it depends on what the "
              "explorer does not know, as another clock, random numbers, or what a library keeps");
    x.callers = false;
    x.reduction = reduction;
    x.runs = runs;
    x.total_steps = total_steps;
}

static bool run_and_report(uint64_t number)
{
    if (!run_once(number))
        return false;
    x.failures++;
    if (x.quiet)
        return true;
    if (options.shrink && !options.replay && may_shrink()) {
        shrink();
    } else {
        run_with_callers(number);
        report_failure();
    }
    return true;
}

static double wall_clock(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double started;

static bool unfinished; /* the search: what it has not reached, it might have */
static bool continued;  /* or has: it began in another process */

static bool out_of_time(uint64_t i)
{
    if (options.seconds > 0 && i % 64 == 63 && wall_clock() - started > options.seconds)
        unfinished = true;
    return unfinished;
}

/* Both return the number of runs up to and including the first failure, or 0. */
static uint64_t explore_by_number(void)
{
    uint64_t found = 0;

    for (uint64_t i = options.first; i < options.first + options.schedules; i++) {
        if (run_and_report(i) && !found)
            found = i - options.first + 1;
        if ((found && !options.keep_going) || out_of_time(i))
            break;
    }
    return found;
}

/* From the path on that is set. */
static uint64_t explore_tree(bool *complete)
{
    uint64_t i = 0;

    *complete = false;
    if (x.reduction)
        reduce_begin();
    while (i < options.schedules && !out_of_time(i)) {
        i++;
        if (run_and_report(0) && !options.keep_going)
            return i;
        if (!search_next()) {
            *complete = true;
            break;
        }
    }
    return 0;
}

static void set_bounds(int level, int preemptions, int stale, int faults)
{
    x.max_preemptions = level;
    x.max_stale = level < stale && level < preemptions ? level : stale;
    x.max_faults = level < faults && level < preemptions ? level : faults;
}

/* Bound by bound: the first failure has the fewest preemptions, then stale reads, then faults. */
static bool explore_exhaustively(void)
{
    int preemptions = x.max_preemptions, stale = x.max_stale, faults = x.max_faults;
    search_place place = {options.rising ? 0 : preemptions, 0};
    bool complete = false;

    continued = options.resume && search_go_on(options.resume, &place);
    if (!continued)
        search_restart();
    for (; place.level <= preemptions; place = (search_place){place.level + 1, 0}) {
        uint64_t before = x.runs, cut_short = x.cut_short;
        set_bounds(place.level, preemptions, stale, faults);
        if (explore_tree(&complete))
            break;
        place.schedules += x.runs - before;
        printf("exhaustive: %s: %llu schedules with at most %d preemptions, %d stale reads, %d "
               "faults; %llu of them came to a state that was known\n",
               complete ? "EXHAUSTED" : "NOT EXHAUSTED", (unsigned long long)place.schedules,
               place.level, x.max_stale, x.max_faults,
               (unsigned long long)(x.cut_short - cut_short));
        if (!complete) {
            unfinished = true;
            if (options.resume && !search_keep(options.resume, &place))
                limit("the place in the tree cannot be kept");
            break;
        }
        search_restart();
    }
    if (complete && options.resume)
        remove(options.resume);
    return complete;
}

static int by_value(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

/* How soon a fault is found: schedules to the first failure, over many seeds. */
static void run_trials(const char *name)
{
    uint64_t *firsts = calloc(options.trials, sizeof *firsts), seed = x.seed, found = 0;

    for (uint64_t trial = 0; firsts && trial < options.trials; trial++) {
        uint64_t first;
        x.seed = seed + trial;
        first = explore_by_number();
        if (first)
            firsts[found++] = first;
    }
    qsort(firsts, found, sizeof *firsts, by_value);
    printf("%s: found in %llu of %llu seeds", name, (unsigned long long)found,
           (unsigned long long)options.trials);
    if (found)
        printf("; schedules to the first failure: least %llu, median %llu, most %llu; the last: %s",
               (unsigned long long)firsts[0], (unsigned long long)firsts[found / 2],
               (unsigned long long)firsts[found - 1], x.message);
    printf("\n");
    free(firsts);
}

/* The k-th allocation, or the k-th thread, fails, for every k until there is none. */
static void run_sweep(const char *what, uint32_t *which)
{
    uint32_t k = 0;
    bool hit = true;

    while (hit) {
        hit = false;
        *which = ++k;
        for (uint64_t i = 0; i < options.sweep; i++) {
            bool failed = run_and_report(i);
            hit |= x.fault_hit;
            if (failed && !options.keep_going) {
                printf("sweep: %s %u fails\n", what, k);
                return;
            }
        }
    }
    *which = 0;
    printf("sweep: %u places of %s, %llu schedules each\n", k - 1, what,
           (unsigned long long)options.sweep);
}

/* ---- options ---- */

static void usage(void)
{
    fputs("The program is under the explorer. Options, then -- and arguments of the program:\n"
          "  --strategy=random|pct|exhaustive   how to choose schedules (random)\n"
          "  --schedules=N   so many at most (100000)   --seconds=S   for so long at most\n"
          "  --seed=N        another series (1)         --first=N     begin at that number\n"
          "  --depth=D       pct: depth of bugs (3)\n"
          "  --preemptions=N --stale=N --faults=N   exhaustive: at most so many (2, 1, 0)\n"
          "  --no-reduction  exhaustive: also what leads to a state that was there before\n"
          "  --no-rising     exhaustive: only the last bound, not bound by bound\n"
          "  --resume=FILE   exhaustive: a search that ends early leaves its place there, and goes "
          "on\n"
          "  --spurious      spurious wakes, EINTR, weak CAS failures\n"
          "  --fail=alloc,thread,cond   allocations, threads and conditions, conditions fail at "
          "random\n"
          "  --fail-alloc=K --fail-thread=K   the K-th fails\n"
          "  --sweep=alloc|thread [--schedules=N]   every K, N schedules (200) each\n"
          "  --punctual      time passes only when no thread can run\n"
          "  --wall-jumps    the wall clock is set back and forth by an hour\n"
          "  --mmap          mmap gives pages          "
          "  --no-futex      futex answers ENOSYS       --cpus=N      processors (2)\n"
          "  --no-membarrier   membarrier answers ENOSYS\n"
          "  --whole-copies    a forked child may read what other threads were writing\n"
          "  --no-polling    a thread that looks again and again without sleeping has failed\n"
          "  --no-weak       no stale reads             --no-leaks    no check for leaks\n"
          "  --max-steps=N   more is a livelock (20000)\n"
          "  --replay=ID     one schedule, as a failure names it   --verbose   all steps\n"
          "  --inside        the report shows what twill does inside of its calls\n"
          "  --svg=FILE      the report as a picture, too\n"
          "  --no-shrink     report the failure as it came, not a simpler one like it\n"
          "  --keep-going    do not stop at a failure   --quiet       totals alone\n"
          "  --trials=N      how soon is it found: N seeds   --show-output   of the program\n"
          "  --expect=fail   success if some schedule fails   --keep-counters   gcov's\n"
          "Status: 0 no failure, 1 a failure, 2 wrong option, 3 the explorer cannot go on.\n",
          stderr);
}

static bool set_fail(const char *list)
{
    x.random_allocation = strstr(list, "alloc") != NULL;
    x.random_creation = strstr(list, "thread") != NULL;
    x.random_condition = x.random_creation || strstr(list, "cond") != NULL;
    return x.random_allocation || x.random_condition;
}

static bool is(const char *option, const char *name, const char **value)
{
    size_t length = strlen(name);

    if (strncmp(option, name, length) != 0 || (option[length] != '=' && option[length] != '\0'))
        return false;
    *value = option[length] ? option + length + 1 : "";
    return true;
}

static bool set_strategy(const char *name)
{
    if (strcmp(name, "random") == 0)
        x.strategy = RANDOM;
    else if (strcmp(name, "pct") == 0)
        x.strategy = PCT;
    else if (strcmp(name, "exhaustive") == 0 || strcmp(name, "dfs") == 0)
        x.strategy = EXHAUSTIVE;
    else
        return false;
    return true;
}

static bool set_number(const char *option)
{
    static const struct {
        const char *name;
        int *number;
        uint32_t *count;
        uint64_t *large;
        unsigned least;
    } table[] = {
        {"--schedules", NULL, NULL, &options.schedules, 1},
        {"--seed", NULL, NULL, &x.seed, 0},
        {"--first", NULL, NULL, &options.first, 0},
        {"--trials", NULL, NULL, &options.trials, 1},
        {"--depth", &x.pct_depth, NULL, NULL, 1},
        {"--preemptions", &x.max_preemptions, NULL, NULL, 0},
        {"--stale", &x.max_stale, NULL, NULL, 0},
        {"--faults", &x.max_faults, NULL, NULL, 0},
        {"--cpus", &x.cpus, NULL, NULL, 1},
        {"--max-steps", NULL, &x.max_steps, NULL, 1},
        {"--fail-alloc", NULL, &x.fail_allocation, NULL, 1},
        {"--fail-thread", NULL, &x.fail_creation, NULL, 1},
    };
    const char *value;
    char *end;

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (is(option, table[i].name, &value)) {
            unsigned long long n = strtoull(value, &end, 10);
            if (*value < '0' || *value > '9' || *end || n < table[i].least ||
                n > (table[i].large ? UINT64_MAX - 1 : INT_MAX))
                return false;
            if (table[i].number)
                *table[i].number = (int)n;
            else if (table[i].count)
                *table[i].count = (uint32_t)n;
            else
                *table[i].large = n;
            return true;
        }
    return false;
}

static bool set_switch(const char *option)
{
    static const struct {
        const char *name;
        bool *flag, value;
    } table[] = {
        {"--spurious", &x.spurious, true},
        {"--no-weak", &x.weak_memory, false},
        {"--no-leaks", &x.check_leaks, false},
        {"--no-futex", &x.no_futex, true},
        {"--no-membarrier", &x.no_membarrier, true},
        {"--quiet", &x.quiet, true},
        {"--verbose", &x.verbose, true},
        {"--inside", &x.inside, true},
        {"--show-output", &x.show_output, true},
        {"--keep-going", &options.keep_going, true},
        {"--no-rising", &options.rising, false},
        {"--no-shrink", &options.shrink, false},
        {"--no-reduction", &x.reduction, false},
        {"--no-polling", &x.no_polling, true},
        {"--polling", &x.no_polling, false},
        {"--keep-counters", &options.keep_counters, true},
        {"--mmap", &x.give_pages, true},
        {"--whole-copies", &x.whole_copies, true},
        {"--punctual", &x.punctual, true},
        {"--wall-jumps", &x.wall_jumps, true},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(option, table[i].name) == 0) {
            *table[i].flag = table[i].value;
            return true;
        }
    return false;
}

static bool set_option(const char *option)
{
    const char *value;

    if (set_switch(option) || set_number(option))
        return true;
    if (is(option, "--strategy", &value))
        return set_strategy(value);
    if (is(option, "--seconds", &value))
        return (options.seconds = strtod(value, NULL)) > 0;
    if (is(option, "--svg", &value))
        return *(x.svg = value) != '\0';
    if (is(option, "--resume", &value))
        return *(options.resume = value) != '\0';
    if (is(option, "--fail", &value))
        return set_fail(value);
    if (is(option, "--expect", &value))
        return options.expect_failure = strcmp(value, "fail") == 0;
    if (is(option, "--sweep", &value)) {
        options.sweep_allocations = strcmp(value, "alloc") == 0;
        options.sweep_creations = strcmp(value, "thread") == 0;
        return options.sweep_allocations || options.sweep_creations;
    }
    if (is(option, "--replay", &value)) {
        x.reduction = false;
        x.callers = options.replay = true;
        options.schedules = 1;
        return replay_parse(value, &options.first);
    }
    return false;
}

static bool read_options(int count, char **list)
{
    bool schedules = false;
    int i;

    x.seed = 1;
    x.pct_depth = 3;
    x.max_preemptions = 2;
    x.max_stale = 1;
    x.max_steps = 20000;
    x.cpus = 2;
    x.reduction = x.weak_memory = x.check_leaks = options.rising = true;
    for (i = 1; i < count && strcmp(list[i], "--") != 0; i++) {
        if (!set_option(list[i])) {
            if (strcmp(list[i], "--help") != 0)
                fprintf(stderr, "explorer: %s?\n", list[i]);
            return false;
        }
        schedules |= strncmp(list[i], "--schedules", 11) == 0;
    }
    if (x.max_faults)
        x.spurious = true;
    if ((options.sweep_allocations || options.sweep_creations))
        options.sweep = schedules ? options.schedules : 200;
    x.arguments = i < count ? list + i : list; /* argv[0], or "--" in its place */
    x.argument_count = i < count ? count - i : 1;
    return true;
}

/* err(), say, ends the process in its own way, and perhaps with 0. */
static void not_by_itself(void)
{
    if (!x.active)
        return;
    fprintf(stderr, "explorer: a library has ended the process (T%d)\n", x.current);
    _Exit(3);
}

static void prepare(void)
{
    char *stacks;

    dl_iterate_phdr(find_locals, NULL);
    stacks = heap_create(MAX_THREADS * STACK_SIZE);
    watch_data(data, data_size);
    for (int i = 0; i < MAX_THREADS; i++) {
        x.threads[i].stack = stacks + i * STACK_SIZE;
        mprotect(x.threads[i].stack, GUARD, PROT_NONE);
        if (locals_size)
            x.threads[i].locals = big(locals_size);
    }
    data_copy = big(data_size + 1);
    memcpy(data_copy, data, data_size);
    if (options.keep_counters)
        each_object("__gcov0.", keep_counter);
    catch_signals();
    watch_for_endless_loops();
    atexit(not_by_itself);
}

static void print_totals(const char *name)
{
    double took = wall_clock() - started, busy = (double)clock() / CLOCKS_PER_SEC;

    bool may_be_missed = unfinished || continued || options.first || options.replay || x.failures;

    for (int i = 0; i < label_count; i++) {
        printf("%s: %s in %llu schedules\n",
               labels[i].count ? "reached"
               : may_be_missed ? "not reached"
                               : "FAILED: not reached",
               labels[i].name, (unsigned long long)labels[i].count);
        if (!labels[i].count && !may_be_missed)
            x.failures++;
    }
    printf("%s: %llu schedules, %llu failed, %.1f steps on average, %u at most, %.2f s, %.0f/s\n",
           name, (unsigned long long)x.runs, (unsigned long long)x.failures,
           x.runs ? (double)x.total_steps / (double)x.runs : 0.0, x.longest, took,
           (double)x.runs / (busy > 0 ? busy : 1)); /* a second of one processor */
}

EXPORT int explore_main(int count, char **list, int (*program)(int, char **), char *begin,
                        char *end)
{
    static const char *const names[] = {"random", "pct", "exhaustive"};

    x.program = program;
    data = begin;
    data_size = (size_t)(end - begin);
    if (!read_options(count, list)) {
        usage();
        return 2;
    }
    prepare();
    started = wall_clock();
    if (options.sweep_allocations)
        run_sweep("allocation", &x.fail_allocation);
    else if (options.sweep_creations)
        run_sweep("thread creation", &x.fail_creation);
    else if (options.replay)
        explore_by_number();
    else if (x.strategy == EXHAUSTIVE)
        explore_exhaustively();
    else if (options.trials > 1)
        run_trials(names[x.strategy]);
    else
        explore_by_number();
    print_totals(options.replay ? "replay" : names[x.strategy]);
    if ((x.fail_allocation || x.fail_creation) && !fault_met && !x.failures) {
        fprintf(stderr, "explorer: there were not so many %s: nothing has been made to fail\n",
                x.fail_allocation ? "allocations" : "threads");
        return 3;
    }
    if (options.expect_failure)
        return x.failures == 0;
    return x.failures != 0;
}

/* run.c - tries mutants: each by the programs that come to its place, until one notices it. First
   those that have noticed others of the same file, then those that do little beside that place, for
   their time.

       run UNITS MUTANTS COMPILED RESULTS SECONDS

   UNITS: a line for each check: name, kind (scenario or test), milliseconds, whether its labels are
   sure, file of hits, command; MUTANTS: number, file, name; COMPILED: the numbers that are in some
   program; RESULTS: file, name, result, time, is continued. Fields end with a tab. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NUMBERS = 1 << 16, UNITS = 4096, FILES = 256, WORDS = 64, LINE = 4096 };

/* How much is tried before a mutant counts as not noticed. */
enum {
    QUICK_SCENARIOS = 16, /* with few schedules */
    FULL_SCENARIOS = 3,   /* with many */
    TESTS = 60,
    TESTS_MS = 3000, /* of all of them together */
    FIRST = 6,       /* those that noticed the last ones, of both kinds */
    NEAR = 16        /* so many places before and after count as the same */
};

typedef struct unit {
    char *name, *command;
    bool scenario, sure; /* sure: a label that is not reached is a mistake */
    int ms;
    unsigned char *hits;
    int hit_count;
} unit;

typedef struct
    part { /* a file of patterns/src: its checks that have noticed something, last first */
    char *name;
    int order[UNITS];
    int noticed;
} part;

static unit units[UNITS];
static part *parts[FILES];
static int unit_count, part_count, hard = 1;
static bool again; /* also what was tried before, and not noticed */
static unsigned char compiled[NUMBERS];
static char log_name[256], results_name[256];
static struct {
    int number;
    char *file, *name;
    bool done;
} mutants[NUMBERS];
static int mutant_count;

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static char *copy(const char *text)
{
    char *made = text ? strdup(text) : NULL;

    if (!made)
        die("run: memory, or a line with too few fields");
    return made;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- the lists ---- */

static unsigned char *read_hits(const char *name, int *count)
{
    unsigned char *hits = calloc(NUMBERS, 1);
    FILE *file = fopen(name, "rb");

    if (!hits || !file)
        die(name);
    (void)!fread(hits, 1, NUMBERS, file);
    fclose(file);
    for (int i = *count = 0; i < NUMBERS; i++)
        *count += hits[i] != 0;
    return hits;
}

static FILE *opened(const char *name)
{
    FILE *file = fopen(name, "r");

    if (!file)
        die(name);
    return file;
}

static void read_units(const char *name)
{
    FILE *file = opened(name);
    char line[LINE];

    while (unit_count < UNITS && fgets(line, sizeof line, file)) {
        unit *u = &units[unit_count++];
        line[strcspn(line, "\n")] = '\0';
        u->name = copy(strtok(line, "\t"));
        u->scenario = strcmp(copy(strtok(NULL, "\t")), "scenario") == 0;
        u->ms = atoi(copy(strtok(NULL, "\t")));
        u->sure = atoi(copy(strtok(NULL, "\t"))) != 0;
        u->hits = read_hits(copy(strtok(NULL, "\t")), &u->hit_count);
        u->command = copy(strtok(NULL, "\t"));
    }
    fclose(file);
}

static void read_mutants(const char *name)
{
    FILE *file = opened(name);
    char line[LINE];

    while (mutant_count < NUMBERS && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        mutants[mutant_count].number = atoi(copy(strtok(line, "\t")));
        mutants[mutant_count].file = copy(strtok(NULL, "\t"));
        mutants[mutant_count++].name = copy(strtok(NULL, "\t"));
    }
    fclose(file);
}

static void read_compiled(const char *name)
{
    FILE *file = opened(name);
    int number;

    while (fscanf(file, "%d", &number) == 1)
        if (number >= 0 && number < NUMBERS)
            compiled[number] = 1;
    fclose(file);
}

/* ---- the order of the checks ---- */

static int order[UNITS], weight[UNITS];

/* Those first that do little beside the place, for their time. */
static int by_weight(const void *a, const void *b)
{
    int left = *(const int *)a, right = *(const int *)b;

    if (weight[left] != weight[right])
        return weight[left] < weight[right] ? 1 : -1;
    return units[left].ms - units[right].ms;
}

static void order_for(int number)
{
    int first = number < NEAR ? 0 : number - NEAR;

    for (int i = 0; i < unit_count; i++) {
        order[i] = i;
        weight[i] = 0;
        for (int n = first; n <= number + NEAR && n < NUMBERS; n++)
            weight[i] += units[i].hits[n] != 0;
        weight[i] = units[i].hit_count ? 100000 * weight[i] / units[i].hit_count : 0;
        weight[i] = 100 * weight[i] / (20 + units[i].ms);
    }
    qsort(order, (size_t)unit_count, sizeof order[0], by_weight);
}

static part *part_of(const char *file)
{
    part *made;

    for (int i = 0; i < part_count; i++)
        if (strcmp(parts[i]->name, file) == 0)
            return parts[i];
    made = calloc(1, sizeof *made);
    if (!made || part_count == FILES)
        die("run: files");
    made->name = copy(file);
    return parts[part_count++] = made;
}

static void to_front(part *p, int u)
{
    int at = 0;

    while (at < p->noticed && p->order[at] != u)
        at++;
    if (at == p->noticed)
        p->noticed++;
    memmove(p->order + 1, p->order, (size_t)at * sizeof p->order[0]);
    p->order[0] = u;
}

/* ---- one check ---- */

static void start(int number, const char *command)
{
    struct rlimit size = {16 << 20, 16 << 20}, none = {0, 0};
    char text[LINE], *words[WORDS];
    int n = 0, log = open(log_name, O_WRONLY | O_CREAT | O_TRUNC, 0666),
        null = open("/dev/null", O_RDONLY);

    setpgid(0, 0);
    setrlimit(RLIMIT_FSIZE, &size);
    setrlimit(RLIMIT_CORE, &none);
    dup2(null, 0);
    dup2(log, 1);
    dup2(log, 2);
    snprintf(text, sizeof text, "%d", number);
    setenv("MUTANT", text, 1);
    snprintf(text, sizeof text, "%s", command);
    for (char *word = strtok(text, " "); word && n < WORDS - 1; word = strtok(NULL, " "))
        words[n++] = word;
    words[n] = NULL;
    execv(words[0], words);
    _exit(127);
}

enum { PASSED, FAILED, LATE };

static int run(int number, const char *command, int limit_ms)
{
    double end = now() + limit_ms / 1e3;
    struct timespec look = {0, 500000};
    int status = 0, answer = -1;
    pid_t child = fork();

    if (child < 0)
        die("fork");
    if (child == 0)
        start(number, command);
    while (answer < 0) {
        pid_t ended = waitpid(child, &status, WNOHANG);
        if (ended == child)
            answer = WIFEXITED(status) && WEXITSTATUS(status) == 0 ? PASSED : FAILED;
        else if (now() > end)
            answer = LATE;
        else
            nanosleep(&look, NULL);
        if (look.tv_nsec < 10000000)
            look.tv_nsec += look.tv_nsec / 4;
    }
    kill(-child, SIGKILL);
    if (answer == LATE)
        waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        die(command);
    return answer;
}

/* All that went wrong is a label that no schedule has reached. */
static bool label_alone(void)
{
    char line[LINE];
    bool label = false, other = false;
    FILE *log = opened(log_name);

    while (fgets(line, sizeof line, log)) {
        label |= strncmp(line, "FAILED: not reached", 19) == 0;
        other |= strncmp(line, "FAILED: ", 8) == 0 && strncmp(line, "FAILED: not reached", 19) != 0;
    }
    fclose(log);
    return label && !other;
}

static bool search(int number, const unit *u, const char *strategy, int schedules, bool full)
{
    char command[LINE];
    int answer, program = (int)strcspn(u->command, " ");

    /* the scenario's own options last: they hold */
    snprintf(command, sizeof command,
             "%.*s --strategy=%s --schedules=%d --max-steps=8000 --no-shrink --no-polling%s",
             program, u->command, strategy, schedules, u->command + program);
    answer = run(number, command, 10000 + 20 * u->ms * hard);
    return answer != PASSED && ((full && u->sure) || answer == LATE || !label_alone());
}

/* The three searches with which the units were measured, too. */
static bool scenario_notices(int number, const unit *u, bool full)
{
    if (!full)
        return search(number, u, "random --spurious", 150, false) ||
               search(number, u, "pct --spurious", 100, false);
    return search(number, u, "random --spurious", 1500 * hard, true) ||
           search(number, u, "pct --spurious", 1000 * hard, true) ||
           search(number, u, "exhaustive --preemptions=2 --stale=1 --faults=1", 1500 * hard, true);
}

/* A test with real threads must fail twice with the mutant, and pass without it: the machine may be
   busy. */
static bool test_notices(int number, const unit *u)
{
    int limit = 2500 + 6 * u->ms, answer = run(number, u->command, limit);

    if (answer == PASSED || (answer == FAILED && run(number, u->command, limit) == PASSED))
        return false;
    return run(-1, u->command, limit / 2) == PASSED;
}

/* ---- one mutant ---- */

static bool asked[UNITS]; /* in this stage */

static int first_look(part *p, int number)
{
    int left = FIRST;

    for (int i = 0; i < p->noticed && left > 0; i++) {
        unit *u = &units[p->order[i]];
        if (!u->hits[number])
            continue;
        left--;
        asked[p->order[i]] = true;
        if (u->scenario ? scenario_notices(number, u, false) : test_notices(number, u))
            return p->order[i];
    }
    return -1;
}

static int by_scenarios(int number, bool full)
{
    int left = (full ? FULL_SCENARIOS : QUICK_SCENARIOS) * hard;

    for (int i = 0; i < unit_count && left > 0; i++) {
        int at = order[i];
        if (!units[at].hits[number] || !units[at].scenario || (!full && asked[at]))
            continue;
        left--;
        if (scenario_notices(number, &units[at], full))
            return at;
    }
    return -1;
}

static int by_tests(int number)
{
    int left = TESTS * hard, ms = TESTS_MS * hard;

    for (int i = 0; i < unit_count && left > 0 && ms > 0; i++) {
        int at = order[i];
        if (!units[at].hits[number] || units[at].scenario || asked[at])
            continue;
        left--;
        ms -= units[at].ms;
        if (test_notices(number, &units[at]))
            return at;
    }
    return -1;
}

static void try_one(int m)
{
    char line[LINE];
    int number = mutants[m].number, killer = -1, results;
    part *p = part_of(mutants[m].file);
    bool reached = false;
    double begun = now();

    memset(asked, 0, sizeof asked);
    for (int i = 0; i < unit_count; i++)
        reached |= units[i].hits[number] != 0;
    if (reached && (killer = first_look(p, number)) < 0) {
        order_for(number);
        if ((killer = by_scenarios(number, false)) < 0 && (killer = by_tests(number)) < 0)
            killer = by_scenarios(number, true);
    }
    if (killer >= 0)
        to_front(p, killer);
    snprintf(line, sizeof line, "%s\t%s\t%s%s\t%.0f ms\n", mutants[m].file, mutants[m].name,
             killer >= 0         ? "killed by "
             : reached           ? "survived"
             : !compiled[number] ? "not compiled"
                                 : "not reached",
             killer >= 0 ? units[killer].name : "", (now() - begun) * 1e3);
    results = open(results_name, O_WRONLY | O_APPEND | O_CREAT, 0666);
    if (results < 0 || write(results, line, strlen(line)) < 0)
        die(results_name);
    close(results);
}

/* What was tried before is not tried again; who noticed it is asked first. */
static void read_results(void)
{
    FILE *file = fopen(results_name, "r");
    char line[LINE];
    int at = 0;

    while (file && fgets(line, sizeof line, file)) {
        char *part_name, *name, *result;
        line[strcspn(line, "\n")] = '\0';
        part_name = copy(strtok(line, "\t"));
        name = copy(strtok(NULL, "\t"));
        result = copy(strtok(NULL, "\t"));
        for (int tried = 0; tried < mutant_count; tried++, at = (at + 1) % mutant_count)
            if (strcmp(mutants[at].name, name) == 0 && strcmp(mutants[at].file, part_name) == 0) {
                mutants[at].done = !again || (strcmp(result, "survived") != 0 &&
                                              strcmp(result, "not reached") != 0);
                break;
            }
        for (int u = 0; u < unit_count && strncmp(result, "killed by ", 10) == 0; u++)
            if (strcmp(units[u].name, result + 10) == 0)
                to_front(part_of(part_name), u);
        free(part_name);
        free(name);
        free(result);
    }
    if (file)
        fclose(file);
}

int main(int count, char **list)
{
    double end;

    if (count != 6)
        return 2;
    hard = getenv("HARD") && atoi(getenv("HARD")) > 0 ? atoi(getenv("HARD")) : 1;
    again = getenv("AGAIN") && *getenv("AGAIN");
    snprintf(results_name, sizeof results_name, "%s", list[4]);
    snprintf(log_name, sizeof log_name, "%s.log.%d", list[4], (int)getpid());
    end = now() + atof(list[5]);
    read_units(list[1]);
    read_mutants(list[2]);
    read_compiled(list[3]);
    read_results();
    for (int m = 0; m < mutant_count && now() < end; m++)
        if (!mutants[m].done)
            try_one(m);
    unlink(log_name);
    return 0;
}

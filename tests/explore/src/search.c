/* search.c: the strategies. Everything that is open in a run is decided here, so that a run can be
   repeated. */
#include "explorer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CHANGES = 16 };

/* EXHAUSTIVE: the path through the tree of choices. */
static struct {
    uint16_t of, taken;
} path[MAX_CHOICES];
static uint32_t path_length, path_at;
static int preemptions, stale_reads, faults; /* spent in this run */
static bool lenient; /* a path that may not fit: a choice that does not exist is the first one */

/* RANDOM: a run keeps to a thread in `stickiness` % of its points and reads old values in
   `stale_rate` % of the loads that may; both are drawn for each run, for some faults want many
   switches and some want few ("swarm"). */
static uint64_t state;
static unsigned stickiness, stale_rate;

/* PCT (Burckhardt and others, ASPLOS 2010): priorities, and depth - 1 steps at which the running
   thread falls to the end. */
static uint32_t change_at[MAX_CHANGES];
static uint32_t length_guess; /* of a run, learnt from earlier ones */
static uint32_t length_used;  /* in this run */
static uint64_t run_number;
static bool fixed_length;

static uint64_t random_bits(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x9e3779b97f4a7c15u >> 11;
}

static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) | 1;
}

void search_begin_run(uint64_t number)
{
    static const unsigned sticky[] = {0, 50, 80, 95}, stale[] = {0, 10, 40};

    run_number = number;
    if (x.strategy != EXHAUSTIVE)
        path_length = 0; /* it is written down, for the shrinker */
    state = mix(mix(x.seed) + number);
    length_used = length_guess ? length_guess : 64;
    path_at = 0;
    preemptions = stale_reads = faults = 0;
    stickiness = sticky[random_bits() % 4];
    stale_rate = stale[random_bits() % 3];
    for (int i = 0; i < x.pct_depth - 1 && i < MAX_CHANGES; i++)
        change_at[i] = 1 + (uint32_t)(random_bits() % length_used);
}

void search_learn(void)
{
    if (x.strategy == PCT && !fixed_length && x.steps > length_guess && x.steps < x.max_steps)
        length_guess = x.steps;
}

/* ---- choices ---- */

static int branch(int of)
{
    if (of <= 1)
        return 0;
    if (path_at < path_length) {
        if (!path[path_at].of || lenient) {
            path[path_at].of = (uint16_t)of;
            if (lenient && path[path_at].taken >= of)
                path[path_at].taken = 0;
        }
        if (path[path_at].of != of || path[path_at].taken >= of)
            limit("the program does not repeat itself: it uses something the explorer does not "
                  "control (an address, a real clock, a random number)");
        return path[path_at++].taken;
    }
    if (path_length == MAX_CHOICES)
        limit("too many choices in one run: lower the bounds");
    path[path_length].of = (uint16_t)of;
    path[path_length].taken = 0;
    path_length++;
    path_at++;
    return 0;
}

/* What RANDOM or PCT has decided, as a step of a path. */
static int decided(int of, int taken)
{
    if (of > 1 && path_length < MAX_CHOICES) {
        path[path_length].of = (uint16_t)of;
        path[path_length++].taken = (uint16_t)taken;
    }
    return taken;
}

/* The choice is a step of the current thread. */
static int branch_here(int of)
{
    int taken = branch(of);

    step_alone(16 + (uint64_t)taken);
    return taken;
}

int choose(int n)
{
    if (n <= 1)
        return 0;
    if (x.strategy == EXHAUSTIVE)
        return branch_here(n);
    return decided(n, (int)(random_bits() % (uint64_t)n));
}

static bool misfortune(int one_in)
{
    int happens;

    if (x.strategy != EXHAUSTIVE)
        happens = decided(2, random_bits() % (uint64_t)one_in == 0);
    else if (faults >= x.max_faults)
        return false;
    else
        happens = branch_here(2);
    faults += happens;
    return happens;
}

bool fault(int one_in)
{
    return x.spurious && misfortune(one_in);
}

bool hard_fault(int one_in)
{
    return misfortune(one_in);
}

bool signal_comes(void)
{
    bool now;

    if (x.strategy != EXHAUSTIVE)
        now = decided(2, random_bits() % (x.strategy == RANDOM ? 16 : 32) == 0);
    else if (preemptions >= x.max_preemptions)
        return false;
    else
        now = branch(2);
    preemptions += now;
    return now;
}

int choose_stale(int n)
{
    int back;

    if (x.strategy != EXHAUSTIVE)
        back =
            decided(n, random_bits() % 100 < stale_rate ? (int)(random_bits() % (uint64_t)n) : 0);
    else if (stale_reads >= x.max_stale)
        return 0;
    else
        back = branch_here(n);
    stale_reads += back != 0;
    return back;
}

void new_priority(thread *t)
{
    t->priority = 1 + (int)(random_bits() % 1000000);
}

/* ---- the next thread ---- */

/* All return a place in `able`; `count` stands for the clock. */

static int pick_random(int count, bool current_first, bool timers)
{
    if (timers && random_bits() % 24 == 0)
        return count;
    if (current_first && random_bits() % 100 < stickiness)
        return 0;
    return (int)(random_bits() % (uint64_t)count);
}

static int pick_pct(const int *able, int count, bool timers)
{
    int best = 0;

    for (int i = 0; i < x.pct_depth - 1 && i < MAX_CHANGES; i++)
        if (change_at[i] == x.steps)
            self()->priority = --x.lowest_priority;
    for (int i = 1; i < count; i++)
        if (x.threads[able[i]].priority > x.threads[able[best]].priority)
            best = i;
    return timers && random_bits() % 64 == 0 ? count : best;
}

/* Switching away from a thread that could go on, and letting time pass while somebody could run,
   cost one preemption each; everything else is free. */
static int pick_exhaustive(int count, bool current_first, bool timers)
{
    bool may_preempt = preemptions < x.max_preemptions;

    if (current_first && !may_preempt)
        return 0;
    return branch(count + (timers && may_preempt));
}

int pick_thread(const int *able, int count, bool current_first, bool timers)
{
    int taken;

    if (x.strategy == EXHAUSTIVE)
        taken = pick_exhaustive(count, current_first, timers);
    else
        taken =
            decided(count + timers, x.strategy == RANDOM ? pick_random(count, current_first, timers)
                                                         : pick_pct(able, count, timers));
    preemptions += taken == count || (current_first && taken != 0);
    return taken == count ? CLOCK : able[taken];
}

/* Is all tried that can follow? Not while the path that led here is still being followed. */
bool search_was_here(int current)
{
    return path_at >= path_length && state_seen(current, preemptions, stale_reads, faults);
}

/* ---- from run to run ---- */

bool search_next(void)
{
    while (path_length && path[path_length - 1].taken + 1 >= path[path_length - 1].of)
        path_length--;
    if (!path_length)
        return false;
    path[path_length - 1].taken++;
    return true;
}

void search_restart(void)
{
    path_length = path_at = 0;
}

/* ---- a search that is stopped, and goes on in another process ----

   What is kept is the path that comes next: all before it in the order of the tree is done. */

bool search_keep(const char *name, const search_place *place)
{
    FILE *file = fopen(name, "w");

    if (!file)
        return false;
    fprintf(file, "%d %llu %u\n", place->level, (unsigned long long)place->schedules, path_length);
    for (uint32_t i = 0; i < path_length; i++)
        fprintf(file, "%u/%u\n", path[i].taken, path[i].of);
    return fclose(file) == 0;
}

bool search_go_on(const char *name, search_place *place)
{
    FILE *file = fopen(name, "r");
    unsigned long long schedules;
    unsigned length = 0, read = 0;

    if (!file)
        return false;
    if (fscanf(file, "%d %llu %u", &place->level, &schedules, &length) == 3 &&
        length <= MAX_CHOICES)
        while (read < length && fscanf(file, "%hu/%hu", &path[read].taken, &path[read].of) == 2)
            read++;
    fclose(file);
    if (!length || read < length)
        return false;
    place->schedules = schedules;
    path_length = length;
    return true;
}

/* ---- shrinking ---- */

/* The run that has just ended, as a path that may be changed and tried. */
void path_take(saved_path *saved)
{
    saved->length = x.strategy == EXHAUSTIVE && path_at < path_length ? path_at : path_length;
    for (uint32_t i = 0; i < saved->length; i++)
        saved->taken[i] = path[i].taken;
    saved->cost = 1000 * (uint32_t)(preemptions + stale_reads + faults) + x.steps;
}

/* The next run follows it as far as it goes, without bounds. */
void path_follow(const saved_path *saved)
{
    x.strategy = EXHAUSTIVE;
    x.max_preemptions = x.max_stale = x.max_faults = UNBOUNDED;
    lenient = true;
    path_length = saved->length;
    for (uint32_t i = 0; i < saved->length; i++) {
        path[i].taken = saved->taken[i];
        path[i].of = 0;
    }
}

void path_forget(void)
{
    lenient = false;
    path_length = 0;
}

/* What repeats the run: r SEED.RUN, p SEED.RUN.LENGTH, or x PREEMPTIONS.STALE.FAULTS and the
   choices that are not 0, as STEP:CHOICE/OF. */
void replay_id(char *text, size_t size)
{
    size_t used;

    if (x.strategy == RANDOM) {
        snprintf(text, size, "r%llu.%llu", (unsigned long long)x.seed,
                 (unsigned long long)run_number);
        return;
    }
    if (x.strategy == PCT) {
        snprintf(text, size, "p%llu.%llu.%u", (unsigned long long)x.seed,
                 (unsigned long long)run_number, length_used);
        return;
    }
    used = (size_t)snprintf(text, size, "x%d.%d.%d", x.max_preemptions, x.max_stale, x.max_faults);
    for (uint32_t i = 0; i < path_length && used < size; i++)
        if (path[i].taken)
            used += (size_t)snprintf(text + used, size - used, ",%u:%u", i, path[i].taken);
}

static bool replay_path(const char *text)
{
    x.strategy = EXHAUSTIVE;
    while (*text == ',') {
        char *end;
        unsigned long step = strtoul(text + 1, &end, 10), taken;
        if (*end != ':' || step >= MAX_CHOICES)
            return false;
        taken = strtoul(end + 1, &end, 10);
        while (path_length <= step)
            path[path_length++].taken = 0;
        path[step].taken = (uint16_t)taken;
        text = end;
    }
    for (uint32_t i = 0; i < path_length; i++)
        path[i].of = 0;
    return *text == '\0';
}

bool replay_parse(const char *text, uint64_t *number)
{
    unsigned long long seed, run;
    int used = 0;

    if (sscanf(text, "r%llu.%llu%n", &seed, &run, &used) == 2 && !text[used]) {
        x.strategy = RANDOM;
    } else if (sscanf(text, "p%llu.%llu.%u%n", &seed, &run, &length_guess, &used) == 3 &&
               !text[used]) {
        x.strategy = PCT;
        fixed_length = true;
    } else if (sscanf(text, "x%d.%d.%d%n", &x.max_preemptions, &x.max_stale, &x.max_faults,
                      &used) == 3) {
        *number = 0;
        return replay_path(text + used);
    } else {
        return false;
    }
    x.seed = seed;
    *number = run;
    return true;
}

/* search.c: the strategies. Everything that is open in a run is decided here, so that a run can be
   repeated. */
#include "explorer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CHOICES = 1 << 16, MAX_CHANGES = 16 };

/* EXHAUSTIVE: the path through the tree of choices. */
static struct {
    uint16_t of, taken;
} path[MAX_CHOICES];
static uint32_t path_length, path_at;
static int preemptions, stale_reads, faults; /* spent in this run */

/* RANDOM: a run keeps to a thread in `stickiness` % of its points and reads old values in
   `stale_rate` % of the loads that may; both are drawn for each run, for some faults want many
   switches and some want few ("swarm"). */
static uint64_t state;
static unsigned stickiness, stale_rate;

/* PCT (Burckhardt and others, ASPLOS 2010): priorities, and depth - 1 steps at which the running
   thread falls to the end. */
static uint32_t change_at[MAX_CHANGES];
static uint32_t length_guess; /* of a run, learnt from earlier ones */
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
    state = mix(mix(x.seed) + number);
    path_at = 0;
    preemptions = stale_reads = faults = 0;
    stickiness = sticky[random_bits() % 4];
    stale_rate = stale[random_bits() % 3];
    for (int i = 0; i < x.pct_depth - 1 && i < MAX_CHANGES; i++)
        change_at[i] = 1 + (uint32_t)(random_bits() % (length_guess ? length_guess : 64));
}

void search_learn(void)
{
    if (!fixed_length && x.steps > length_guess && x.steps < x.max_steps)
        length_guess = x.steps;
}

/* ---- choices ---- */

static int branch(int of)
{
    if (of <= 1)
        return 0;
    if (path_at < path_length) {
        if (!path[path_at].of) /* from a replay id */
            path[path_at].of = (uint16_t)of;
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

int choose(int n)
{
    if (n <= 1)
        return 0;
    return x.strategy == EXHAUSTIVE ? branch(n) : (int)(random_bits() % (uint64_t)n);
}

static bool misfortune(int one_in)
{
    int happens;

    if (x.strategy != EXHAUSTIVE)
        return random_bits() % (uint64_t)one_in == 0;
    if (faults >= x.max_faults)
        return false;
    happens = branch(2);
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

int choose_stale(int n)
{
    int back;

    if (x.strategy != EXHAUSTIVE)
        return random_bits() % 100 < stale_rate ? (int)(random_bits() % (uint64_t)n) : 0;
    if (stale_reads >= x.max_stale)
        return 0;
    back = branch(n);
    stale_reads += back != 0;
    return back;
}

void new_priority(thread *t)
{
    t->priority = 1 + (int)(random_bits() % 1000000);
}

/* ---- the next thread ---- */

static int pick_random(const int *able, int count, bool current_first, bool timers)
{
    if (timers && random_bits() % 24 == 0)
        return CLOCK;
    if (current_first && random_bits() % 100 < stickiness)
        return able[0];
    return able[random_bits() % (uint64_t)count];
}

static int pick_pct(const int *able, int count, bool timers)
{
    int best = able[0];

    for (int i = 0; i < x.pct_depth - 1 && i < MAX_CHANGES; i++)
        if (change_at[i] == x.steps)
            self()->priority = --x.lowest_priority;
    for (int i = 1; i < count; i++)
        if (x.threads[able[i]].priority > x.threads[best].priority)
            best = able[i];
    if (timers && random_bits() % 64 == 0)
        return CLOCK;
    return best;
}

/* Switching away from a thread that could go on, and letting time pass while somebody could run,
   cost one preemption each; everything else is free. */
static int pick_exhaustive(const int *able, int count, bool current_first, bool timers)
{
    bool may_preempt = preemptions < x.max_preemptions;
    int taken;

    if (current_first && !may_preempt)
        return able[0];
    taken = branch(count + (timers && may_preempt));
    if (taken == count) {
        preemptions++;
        return CLOCK;
    }
    preemptions += current_first && taken != 0;
    return able[taken];
}

int pick_thread(const int *able, int count, bool current_first, bool timers)
{
    switch (x.strategy) {
    case RANDOM:
        return pick_random(able, count, current_first, timers);
    case PCT:
        return pick_pct(able, count, timers);
    default:
        return pick_exhaustive(able, count, current_first, timers);
    }
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
                 (unsigned long long)run_number, length_guess);
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

/* shrink.c: from a failing run to one that is easier to read. The run is a path of choices in which
   0 is the dull one: go on with the same thread, read the newest value, no misfortune. Choices are
   made dull, many at once and then one by one, as long as the run still fails in the same way
   (delta debugging, A. Zeller). */
#include "explorer.h"

#include <stdio.h>
#include <string.h>

enum { MOST_TRIES = 4000, MOST_STEPS = 2000000 };

static saved_path best, attempt;
static char message[sizeof x.message];

/* "data race", "deadlock", "use after free", ...: up to the first name in it */
static bool same_failure(void)
{
    size_t length = strcspn(message, ":0123456789");
    size_t word = strcspn(message, " ");

    if (length > 12)
        length = word > 12 ? word : 12;
    return strncmp(message, x.message, length) == 0;
}

/* One try without the choices from `from` to `to`. True: better. */
static bool try_without(uint32_t from, uint32_t to)
{
    bool any = false;

    attempt.length = best.length;
    for (uint32_t i = 0; i < best.length; i++) {
        bool drop = i >= from && i < to;
        any |= drop && best.taken[i] != 0;
        attempt.taken[i] = drop ? 0 : best.taken[i];
    }
    if (!any)
        return false;
    path_follow(&attempt);
    if (!run_once(0) || !same_failure())
        return false;
    path_take(&attempt);
    if (attempt.cost >= best.cost)
        return false;
    memcpy(&best, &attempt, sizeof best);
    return true;
}

static void search_simpler(void)
{
    uint64_t steps = x.total_steps + MOST_STEPS;
    int tries = 0;

    for (uint32_t chunk = best.length / 2; chunk >= 1;) {
        bool better = false;
        for (uint32_t end = best.length; end > 0 && tries < MOST_TRIES && x.total_steps < steps;) {
            uint32_t from = end > chunk ? end - chunk : 0;
            tries++;
            if (try_without(from, end))
                better = true;
            end = from < best.length ? from : best.length;
        }
        if (tries >= MOST_TRIES || x.total_steps >= steps)
            return;
        if (!better || chunk > 1)
            chunk = chunk > 1 ? chunk / 2 : 0;
    }
}

/* Bound by bound, EXHAUSTIVE has found a short one; a livelock is as long as it may be. */
bool may_shrink(void)
{
    return x.strategy != EXHAUSTIVE && strncmp(x.message, "livelock", 8) != 0 &&
           !strstr(x.message, "endless loop");
}

void shrink(void)
{
    char first_id[6000];
    explorer before = x;
    uint32_t first_cost;

    replay_id(first_id, sizeof first_id);
    memcpy(message, x.message, sizeof message);
    path_take(&best);
    first_cost = best.cost;
    x.quiet = true;
    x.reduction = false;
    search_simpler();
    x.quiet = before.quiet;
    path_follow(&best);
    x.callers = true;
    if (!run_once(0) || !same_failure())
        limit("a failure cannot be repeated");
    x.callers = false;
    x.runs = before.runs;
    x.total_steps = before.total_steps;
    if (best.cost < first_cost)
        printf("\nSchedule %llu has failed (--replay=%s); a simpler one:\n",
               (unsigned long long)before.runs, strlen(first_id) < 60 ? first_id : "...");
    report_failure();
    x.strategy = before.strategy;
    x.reduction = before.reduction;
    x.max_preemptions = before.max_preemptions;
    x.max_stale = before.max_stale;
    x.max_faults = before.max_faults;
    path_forget();
}

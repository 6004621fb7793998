/* linear.c: linearizability. The program tells when its calls begin and what they return; here is
   looked for an order of them, one after the other, that gives the same results, and in which no
   call stands before one that had returned when it began.

   The search is that of J. M. Wing and C. Gong ("Testing and verifying concurrent objects", 1993):
   try what may come first, undo, try the next; with the memory of G. Lowe ("Testing for
   linearizability", 2017): the same calls done and the same state need not be tried twice. */
#include "explorer.h"

#include <stdio.h>
#include <string.h>

#include "../explore.h"

enum { CALLS = 24, STATE = 512, SEEN = 1 << 12 };

static struct {
    uint32_t run;
    int count;
    unsigned moment;
    explore_call_record calls[CALLS];
} history;

static unsigned char states[CALLS + 1][STATE];
static uint64_t seen[SEEN]; /* hashes of what was tried in vain */
static uint32_t best, order_length;
static int order[CALLS], best_order[CALLS];

EXPORT int explore_call(const char *operation, long long argument)
{
    explore_call_record *c;

    if (history.run != x.run) {
        history.run = x.run;
        history.count = 0;
        history.moment = 0;
    }
    if (history.count == CALLS)
        limit("too many calls in one history: 24");
    step_on(&history, false, 4);
    c = &history.calls[history.count];
    *c = (explore_call_record){operation, argument, 0, x.current, ++history.moment, 0};
    trace("calls", NULL, (uint64_t)(uintptr_t)operation, (uint64_t)argument, NO_ORDER, false, PC);
    return history.count++;
}

EXPORT void explore_return(int call, long long result)
{
    if (call < 0 || history.run != x.run || call >= history.count || history.calls[call].ended)
        fail("explore_return: not a call, or returned already");
    step_on(&history, true, (uint64_t)result);
    history.calls[call].result = result;
    history.calls[call].ended = ++history.moment;
    trace("returns", NULL, (uint64_t)(uintptr_t)history.calls[call].operation, (uint64_t)result,
          NO_ORDER, false, PC);
}

/* ---- the search ---- */

static bool tried(uint32_t done, const unsigned char *state, size_t size)
{
    uint64_t hash = done * 0x9e3779b97f4a7c15u + 1;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ state[i]) * 0x100000001b3u;
    if (seen[hash >> 20 & (SEEN - 1)] == hash)
        return true;
    seen[hash >> 20 & (SEEN - 1)] = hash;
    return false;
}

/* May it be the next one? Not while a call that returned before it began is not done. */
static bool may_be_next(uint32_t done, int call)
{
    for (int i = 0; i < history.count; i++)
        if (!(done >> i & 1) && history.calls[i].ended < history.calls[call].begun)
            return false;
    return true;
}

static bool search(const explore_spec *spec, uint32_t done)
{
    unsigned char *state = states[order_length], *next = states[order_length + 1];

    if (order_length > best) {
        best = order_length;
        memcpy(best_order, order, sizeof order);
    }
    if (order_length == (uint32_t)history.count)
        return true;
    if (tried(done, state, spec->state_bytes))
        return false;
    for (int i = 0; i < history.count; i++) {
        if (done >> i & 1 || !may_be_next(done, i))
            continue;
        memcpy(next, state, spec->state_bytes);
        if (!spec->step(next, &history.calls[i]))
            continue;
        order[order_length++] = i;
        if (search(spec, done | 1u << i))
            return true;
        order_length--;
    }
    return false;
}

/* ---- words ---- */

static int print_call(char *text, size_t size, const explore_call_record *c)
{
    return snprintf(text, size, "T%d %s(%lld) = %lld", c->thread, c->operation, c->argument,
                    c->result);
}

/* A line for each call, with a bar from its beginning to its end. */
static void describe_history(void)
{
    char *text = x.details;
    size_t size = sizeof x.details, used = 0;

    for (int i = 0; i < history.count && used < size - 200; i++) {
        const explore_call_record *c = &history.calls[i];
        used += (size_t)snprintf(text + used, size - used, "  ");
        for (unsigned m = 1; m <= history.moment; m++)
            used += (size_t)snprintf(text + used, size - used, "%s",
                                     m == c->begun                  ? "["
                                     : m == c->ended                ? "]"
                                     : m > c->begun && m < c->ended ? "="
                                                                    : " ");
        used += (size_t)snprintf(text + used, size - used, "  ");
        used += (size_t)print_call(text + used, size - used, c);
        used += (size_t)snprintf(text + used, size - used, "\n");
    }
    used += (size_t)snprintf(text + used, size - used, "  The longest order that works:%s",
                             best ? "" : " none");
    for (uint32_t i = 0; i < best && used < size - 100; i++) {
        used += (size_t)snprintf(text + used, size - used, "%s ", i ? ";" : "");
        used += (size_t)print_call(text + used, size - used, &history.calls[best_order[i]]);
    }
    snprintf(text + used, size - used, "; then nothing fits\n\n");
}

/* The calls so far must be explained by `spec`, or the schedule has failed. */
EXPORT void explore_linearizable(const explore_spec *spec)
{
    bool right;

    if (history.run != x.run || !history.count)
        fail("explore_linearizable: no call was told");
    if (spec->state_bytes > STATE)
        limit("the state of a specification is too large: 512 bytes");
    for (int i = 0; i < history.count; i++)
        if (!history.calls[i].ended)
            fail("explore_linearizable: T%d has not returned from %s", history.calls[i].thread,
                 history.calls[i].operation);
    x.active = false; /* the specification is no part of the run */
    memset(states[0], 0, sizeof states[0]);
    memset(seen, 0, sizeof seen);
    if (spec->begin)
        spec->begin(states[0]);
    order_length = best = 0;
    right = search(spec, 0);
    x.active = true;
    if (right)
        return;
    describe_history();
    fail("not linearizable: no order of these %d calls gives these results", history.count);
}

/* schedule.c: the threads of a run, and who runs next. */
#include "explorer.h"

#include <stdio.h>
#include <string.h>

extern char *locals_address; /* main.c: the program's _Thread_local block */
extern size_t locals_size;

static void switch_to(int next)
{
    thread *from = self(), *to = &x.threads[next];

    if (next == x.current)
        return;
    x.current = next;
    if (locals_size) {
        memcpy(from->locals, locals_address, locals_size);
        memcpy(locals_address, to->locals, locals_size);
    }
    stack_switch(&from->sp, to->sp);
}

void finish(void)
{
    void *nowhere;

    x.active = false;
    stack_switch(&nowhere, x.driver);
    __builtin_unreachable();
}

/* ---- time ---- */

/* When t's deadline comes, on the monotonic clock. */
static uint64_t due(const thread *t)
{
    if (!t->wall_clock)
        return t->deadline;
    return t->deadline > x.wall ? t->deadline - x.wall : 0;
}

/* To the next deadline: nothing happens in between. */
void time_passes(void)
{
    uint64_t next = UINT64_MAX;
    int current = x.current;

    for (int i = 0; i < x.thread_count; i++)
        if ((x.timed >> i & 1) && due(&x.threads[i]) < next)
            next = due(&x.threads[i]);
    if (next == UINT64_MAX)
        return;
    wall_may_jump(); /* may make it earlier or later */
    if (next > x.now)
        x.now = next;
    x.reads_of_now = 0;
    x.idle_yields = x.polite_yields = 0;
    x.current = CLOCK;
    trace("time", NULL, 0, x.now, NO_ORDER, false, NULL);
    step_of_clock(&x.now);
    x.current = current;
    for (int i = 0; i < x.thread_count; i++)
        if ((x.timed >> i & 1) && due(&x.threads[i]) <= x.now)
            wake(&x.threads[i], true);
}

/* ---- the choice ---- */

static uint32_t other_runnable(void)
{
    return x.runnable & ~(1u << x.current);
}

/* Fills `able`, the current thread first if it is able. A thread that has yielded is not, until
   every thread that could run at that moment has moved or blocked (the fair scheduler of CHESS: a
   loop that waits politely gets no chance to starve the thread it waits for). */
static int able_threads(int *able, bool *current_first)
{
    uint32_t runnable = x.runnable;
    int count = 0;

    if (!x.polite) {
        *current_first = runnable >> x.current & 1;
        if (*current_first)
            able[count++] = x.current;
        for (uint32_t rest = other_runnable(); rest; rest &= rest - 1)
            able[count++] = __builtin_ctz(rest);
        return count;
    }
    for (int pass = 0; pass < 2 && count == 0; pass++) {
        if ((runnable >> x.current & 1) && !(self()->polite_to & runnable))
            able[count++] = x.current;
        *current_first = count == 1;
        for (int i = 0; i < x.thread_count; i++)
            if (i != x.current && (runnable >> i & 1) && !(x.threads[i].polite_to & runnable))
                able[count++] = i;
        if (count == 0) /* all are polite to each other */
            for (int i = 0; i < x.thread_count; i++)
                x.threads[i].polite_to = 0;
    }
    return count;
}

/* -1: no thread can ever run again. `blocked`: the current thread has blocked, and to switch away
   from it is no preemption, also if it is woken at once. */
static int pick(bool blocked)
{
    for (;;) { /* ends: each turn takes deadlines away */
        int able[MAX_THREADS + 1], count, next;
        bool current_first, timers = x.timed != 0;

        count = able_threads(able, &current_first);
        current_first = current_first && !blocked;
        if (x.coming && (count == 0 || signal_comes())) {
            signal_arrives();
            continue;
        }
        if (count == 0 && !timers)
            return -1;
        if (x.reducing && search_was_here(current_first ? x.current : -1)) {
            x.pruned = true;
            x.cut_short++;
            finish();
        }
        next = count ? pick_thread(able, count, current_first, timers && !x.punctual) : CLOCK;
        if (next != CLOCK)
            return next;
        time_passes();
    }
}

static void deadlock(void)
{
    char text[400] = "";
    size_t used = 0;

    for (int i = 0; i < x.thread_count && used < sizeof text - 120; i++)
        if (x.threads[i].state == BLOCKED) {
            char wait[120];
            describe_wait(&x.threads[i], wait, sizeof wait);
            used += (size_t)snprintf(text + used, sizeof text - used, "%sT%d waits %s",
                                     used ? "; " : "", i, wait);
        }
    fail("deadlock: no thread can run: %s", text);
}

static void count_step(void)
{
    thread *t = self();

    step_alone(1); /* it has come to here: another state, also if the step itself never comes */
    for (int i = 0; x.polite && i < x.thread_count; i++)
        x.threads[i].polite_to &= ~(1u << x.current);
    if (++x.steps > x.max_steps)
        fail("livelock: no end after %u steps", x.max_steps);
    t->steps++;
    if (++t->idle_steps > POLLS && x.no_polling)
        fail("T%d polls: it looks again and again, and does not sleep", x.current);
    /* not always at the same place of a loop, where it holds the lock that they want, say */
    if (++t->steps_in_row > UNFAIR_STEPS + (int)(t->steps % 31)) {
        t->steps_in_row = 0;
        t->polite_to = other_runnable();
        x.polite = true;
    }
}

void point(void)
{
    if (!x.active)
        return;
    count_step();
    if (!x.alone || x.coming)
        switch_to(pick(false));
    if (self()->pending & ~self()->mask)
        signals_run();
}

static void run_another(void)
{
    int next = pick(true);

    if (next < 0)
        deadlock();
    switch_to(next);
}

bool block(const char *call, const void *on, uint64_t deadline, bool wall_clock, const void *pc)
{
    thread *t = self();

    count_step();
    stands_at(pc);
    t->state = BLOCKED;
    t->waits_in = call;
    t->waits_on = on;
    t->deadline = deadline;
    x.runnable &= ~(1u << x.current);
    if (deadline)
        x.timed |= 1u << x.current;
    t->wall_clock = wall_clock;
    t->timed_out = t->interrupted = false;
    t->steps_in_row = t->idle_steps = 0;
    x.polite_yields = 0;
    if (deadline)
        step_on(&x.now, false, deadline);
    run_another();
    if (t->pending & ~t->mask)
        signals_run();
    return t->timed_out;
}

void wake(thread *t, bool timed_out)
{
    step_reaches(t, timed_out);
    t->state = RUNNABLE;
    x.runnable |= 1u << (t - x.threads);
    x.timed &= ~(1u << (t - x.threads));
    t->timed_out = timed_out;
    x.polite_yields = 0;
    t->waits_on = NULL;
    t->deadline = 0;
    progress();
}

int waiters(const void *on, const char *call, int *list)
{
    int count = 0;

    for (int i = 0; i < x.thread_count; i++) {
        const thread *t = &x.threads[i];
        if (t->state == BLOCKED && t->waits_on == on && strcmp(t->waits_in, call) == 0)
            list[count++] = i;
    }
    return count;
}

void leave(void)
{
    count_step();
    progress();
    x.polite_yields = 0;
    self()->state = ENDED;
    x.runnable &= ~(1u << x.current);
    run_another();
}

/* ---- yield ---- */

void progress(void)
{
    x.idle_yields = 0;
    self()->idle_steps = 0;
}

/* A loop of yields may wait for a deadline of somebody else: when all have yielded and nothing has
   changed, time passes. */
void yield(const void *pc)
{
    thread *t = self();

    if (!x.active)
        return;
    count_step();
    trace("yield", NULL, 0, 0, NO_ORDER, false, pc);
    t->steps_in_row = t->idle_steps = 0;
    t->polite_to = other_runnable();
    x.polite = true;
    t->priority = --x.lowest_priority;
    step_alone(5);
    x.idle_yields++;
    x.polite_yields++;
    if (x.idle_yields > (uint32_t)(3 * x.thread_count) || x.polite_yields > POLITE_YIELDS)
        time_passes(); /* also if they look by way of a lock, which changes something */
    if (x.idle_yields > 2000)
        fail("livelock: threads yield to each other, and nothing changes");
    switch_to(pick(false));
}

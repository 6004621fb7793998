/* time.c: clocks and sleeps. Time is virtual: it passes when no thread can run, or by a choice of
   the search. */
#include "explorer.h"

#include <errno.h>
#include <stdio.h>
#include <sys/time.h>
#include <threads.h>

enum { FREE_READS = 64 };

uint64_t nanoseconds(const struct timespec *t)
{
    return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
}

static void split(uint64_t ns, struct timespec *t)
{
    t->tv_sec = (time_t)(ns / 1000000000u);
    t->tv_nsec = (long)(ns % 1000000000u);
}

/* --wall-jumps: somebody sets the clock on the wall by an hour; only that one moves. */
void wall_may_jump(void)
{
    const uint64_t hour = UINT64_C(3600000000000);

    if (!x.wall_jumps || !hard_fault(12))
        return;
    step_on(&x.now, true, 4);
    x.wall = choose(2) ? x.wall + hour : x.wall - hour;
    trace("wall-clock-set", NULL, 0, x.wall / 1000000000u, NO_ORDER, false, NULL);
}

/* Reading the clock costs no time, so that sums are exact; but a loop that reads it until something
   has passed must end. */
static uint64_t read_clock(clockid_t clock)
{
    wall_may_jump();
    step_on(&x.now, ++x.reads_of_now > FREE_READS, 4);
    if (x.reads_of_now > FREE_READS)
        x.now += 1000;
    return clock == CLOCK_REALTIME ? x.now + x.wall : x.now;
}

EXPORT int explore_clock_gettime(clockid_t clock, struct timespec *t)
{
    touch((uintptr_t)t, sizeof *t, true, PC);
    split(read_clock(clock), t);
    return 0;
}

EXPORT int explore_timespec_get(struct timespec *t, int base)
{
    touch((uintptr_t)t, sizeof *t, true, PC);
    split(read_clock(CLOCK_REALTIME), t);
    return base;
}

EXPORT int explore_gettimeofday(struct timeval *t, void *zone)
{
    uint64_t now = read_clock(CLOCK_REALTIME);

    (void)zone;
    touch((uintptr_t)t, sizeof *t, true, PC);
    t->tv_sec = (time_t)(now / 1000000000u);
    t->tv_usec = (suseconds_t)(now % 1000000000u / 1000);
    return 0;
}

/* The time that the process has worked: all of it. */
EXPORT clock_t explore_clock(void)
{
    return (clock_t)((read_clock(CLOCK_MONOTONIC) - TIME_BEGINS) / 1000);
}

EXPORT time_t explore_time(time_t *out)
{
    time_t now = (time_t)(read_clock(CLOCK_REALTIME) / 1000000000u);

    if (out)
        *out = now;
    return now;
}

/* Until `t` of the monotonic clock or of the one on the wall, or for so long (`from_now`). 0, or
   EINTR with what was left. */
static int sleep_until(uint64_t t, bool from_now, bool wall_clock, struct timespec *left,
                       const void *pc)
{
    uint64_t start, deadline;

    point();
    step_on(&x.now, false, 4);
    start = wall_clock ? x.now + x.wall : x.now;
    deadline = from_now ? start + t : t;
    if (fault(16)) {
        trace("sleep-EINTR", NULL, 0, 0, NO_ORDER, false, pc);
        if (left)
            split(deadline > start ? deadline - start : 0, left);
        return EINTR;
    }
    trace("sleep", NULL, 0, deadline > start ? deadline - start : 0, NO_ORDER, false, pc);
    if (deadline <= start || block("sleep", &x.now, deadline, wall_clock, pc) ||
        !self()->interrupted)
        return 0;
    start = wall_clock ? x.now + x.wall : x.now;
    if (left)
        split(deadline > start ? deadline - start : 0, left);
    return EINTR;
}

EXPORT int explore_thrd_sleep(const struct timespec *t, struct timespec *left)
{
    return sleep_until(nanoseconds(t), true, false, left, PC) ? -1 : 0;
}

EXPORT int explore_nanosleep(const struct timespec *t, struct timespec *left)
{
    int error = sleep_until(nanoseconds(t), true, false, left, PC);

    if (error)
        self()->error = error;
    return error ? -1 : 0;
}

EXPORT int explore_clock_nanosleep(clockid_t clock, int flags, const struct timespec *t,
                                   struct timespec *left)
{
    return sleep_until(nanoseconds(t), flags == 0, clock == CLOCK_REALTIME && flags,
                       flags ? NULL : left, PC);
}

EXPORT int explore_usleep(unsigned microseconds)
{
    return sleep_until(microseconds * UINT64_C(1000), true, false, NULL, PC) ? -1 : 0;
}

EXPORT unsigned explore_sleep(unsigned seconds)
{
    struct timespec left = {0, 0};

    sleep_until(seconds * UINT64_C(1000000000), true, false, &left, PC);
    return (unsigned)left.tv_sec;
}

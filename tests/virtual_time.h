/* virtual_time.h - a clock that only sleeps move, for tests with one thread: instants come out
   exact. Include it before the twill header. Only where waiting is a futex; VIRTUAL_TIME says
   whether. */
#ifndef TWILL_TEST_VIRTUAL_TIME_H
#define TWILL_TEST_VIRTUAL_TIME_H

#include <errno.h>
#include <stdint.h>
#include <time.h>

#if defined __linux__ && !defined TWILL_NO_FUTEX
#define VIRTUAL_TIME 1
#else
#define VIRTUAL_TIME 0
#endif

#if VIRTUAL_TIME
static int64_t virtual_now = INT64_C(1000000000000);

/* These replace the functions inside the header; hence the names. */
int virtual_clock_gettime(int clock, struct timespec *at);
long virtual_syscall(long number, ...);

int virtual_clock_gettime(int clock, struct timespec *at)
{
    (void)clock;
    at->tv_sec = (time_t)(virtual_now / 1000000000);
    at->tv_nsec = (long)(virtual_now % 1000000000);
    return 0;
}

#include <stdarg.h>
#include <stdlib.h>

/* A futex wait by the only thread ends at its deadline. */
long virtual_syscall(long number, ...)
{
    va_list args;
    (void)number;
    va_start(args, number);
    (void)va_arg(args, const void *);
    int operation = va_arg(args, int);
    if ((operation & 127) == 9) {
        (void)va_arg(args, unsigned);
        const struct timespec *until = va_arg(args, const struct timespec *);
        if (!until)
            abort(); /* for ever */
        virtual_now = (int64_t)until->tv_sec * 1000000000 + until->tv_nsec;
        errno = ETIMEDOUT;
    }
    va_end(args);
    return -1;
}

#define clock_gettime virtual_clock_gettime
#define syscall       virtual_syscall
#define TWILL__SPIN   0 /* the clock stands still while a thread spins */
#define TWILL__TEMPO  0 /* and no counter runs beside it */
#endif

#endif

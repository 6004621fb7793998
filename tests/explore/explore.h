/* explore.h: what a program may tell the explorer. All of it is optional. The functions are weak:
   in a program that is built without the explorer they are null, and the EXPLORE_ macros do
   something sensible. */
#ifndef EXPLORE_H
#define EXPLORE_H

#include <stdbool.h>
#include <stddef.h>

/* Any number below n, each in some schedule. */
extern int explore_choice(int n) __attribute__((weak));
#define EXPLORE_CHOICE(n, otherwise) (explore_choice ? explore_choice(n) : (otherwise))

/* Virtual nanoseconds; begins at 1000 s. */
extern long long explore_now(void) __attribute__((weak));

/* The steps that the calling thread has taken: atomic operations, calls that others could
   notice. */
extern unsigned explore_steps(void) __attribute__((weak));

/* This schedule has failed. */
extern void explore_fail(const char *format, ...) __attribute__((weak, format(printf, 1, 2)));

/* The name of an object in the trace; the text must stay. Globals have theirs already. */
extern void explore_name(const void *address, const char *name) __attribute__((weak));

/* Some schedule must come to explore_reached with this label, or the exploration fails (if it was
   not cut short by time or by a bound): so code that locks too much is seen too. */
extern void explore_must_reach(const char *label) __attribute__((weak));
extern void explore_reached(const char *label) __attribute__((weak));
#define EXPLORE_MUST_REACH(label) (explore_must_reach ? explore_must_reach(label) : (void)0)
#define EXPLORE_REACHED(label)    (explore_reached ? explore_reached(label) : (void)0)

/* A signal to the process from outside, at any step from now on (8 at most are on their way). */
extern void explore_signal(int number) __attribute__((weak));

/* The process may also end with this status (128 + n: killed by signal n), and need then not give
   back what it has. */
extern void explore_may_end(int status) __attribute__((weak));

/* ---- linearizability ----
   Do the calls of all threads look as if each had been done at once, at some moment between its
   beginning and its end? Tell of each call (24 at most in a run):

       int call = explore_call("push", item);
       explore_return(call, push(queue, item));

   and at the end, when all have returned, let the explorer look for an order of them that `spec`
   allows; there is none: the schedule has failed, and the report shows the history. linear.h has
   specifications of a queue and of a pool of objects. */
typedef struct explore_call_record {
    const char *operation; /* the text must stay */
    long long argument, result;
    int thread;
    unsigned begun, ended; /* moments: 1, 2, ... */
} explore_call_record;

typedef struct explore_spec {
    size_t state_bytes;         /* of a state: plain memory, 512 bytes at most, compared as bytes */
    void (*begin)(void *state); /* NULL: zeros */
    /* Could this call, done at once in this state, return what it has returned? Then do it. A pure
       function: it runs outside the schedule. */
    bool (*step)(void *state, const explore_call_record *call);
} explore_spec;

extern int explore_call(const char *operation, long long argument) __attribute__((weak));
extern void explore_return(int call, long long result) __attribute__((weak));
extern void explore_linearizable(const explore_spec *spec) __attribute__((weak));

#endif

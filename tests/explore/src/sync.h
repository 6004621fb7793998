/* sync.h: what sync.c and posix.c share: an object by which threads wait for one another, kept by
   its address. */
#ifndef EXPLORE_SYNC_H
#define EXPLORE_SYNC_H

#include "explorer.h"

typedef enum { NONE, MUTEX, CONDITION, ONCE, SEMAPHORE, BARRIER, READ_WRITE } kind;
typedef enum { C11, POSIX } family; /* POSIX: may be initialised statically */

typedef struct object {
    const void *address;
    uint32_t run;
    kind kind;
    bool destroyed, recursive, error_check, wall_clock;
    int owner;  /* MUTEX, READ_WRITE: who holds it alone; -1 none */
    int count;  /* MUTEX: how often locked; ONCE: 0 new, 1 running, 2 done; SEMAPHORE: its value;
                    BARRIER: who is there; READ_WRITE: readers */
    int wanted; /* BARRIER: so many */
    int round;  /* BARRIER: how often it has opened */
    uint8_t readers[MAX_THREADS]; /* READ_WRITE: how often each holds it */
    vclock clock;                 /* what who gets it comes to know */
    vclock read_clock;            /* READ_WRITE: of the readers that have left: for writers */
} object;

/* How long a call waits; {0}: for ever. */
typedef struct patience {
    bool try, timed, wall_clock;
    uint64_t deadline;
} patience;

patience until(const struct timespec *t, bool wall_clock);
bool passed(const patience *p);

/* The object that `call` uses, or a failure: it is destroyed, something else, never initialised. */
object *sync_use(const char *call, const void *address, kind wanted, family f);
object *sync_init(const char *call, const void *address, kind new_kind);

#endif

/* explore.h: what a program may tell the explorer. All of it is optional. The functions are weak:
   in a program that is built without the explorer they are null, and the EXPLORE_ macros do
   something sensible. */
#ifndef EXPLORE_H
#define EXPLORE_H

/* Any number below n, each in some schedule. */
extern int explore_choice(int n) __attribute__((weak));
#define EXPLORE_CHOICE(n, otherwise) (explore_choice ? explore_choice(n) : (otherwise))

/* Virtual nanoseconds; begins at 1000 s. */
extern long long explore_now(void) __attribute__((weak));

/* This schedule has failed. */
extern void explore_fail(const char *format, ...) __attribute__((weak, format(printf, 1, 2)));

/* The name of an object in the trace; the text must stay. Globals have theirs already. */
extern void explore_name(const void *address, const char *name) __attribute__((weak));

/* Some schedule must come to explore_reached with this label, or the exploration fails: so code that
   locks too much is seen too. */
extern void explore_must_reach(const char *label) __attribute__((weak));
extern void explore_reached(const char *label) __attribute__((weak));
#define EXPLORE_MUST_REACH(label) (explore_must_reach ? explore_must_reach(label) : (void)0)
#define EXPLORE_REACHED(label)    (explore_reached ? explore_reached(label) : (void)0)

#endif

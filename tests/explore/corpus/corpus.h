/* corpus.h: the explorer's own tests. Each case is a function that returns 0 or asserts; cases.txt
   says which must fail, how soon and with what words, and which must never. */
#ifndef CORPUS_H
#define CORPUS_H

#undef NDEBUG
#include "explore.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <time.h>

#define CASES(name) extern const struct corpus_case name[]

struct corpus_case {
    const char *name;
    int (*run)(void);
};

CASES(litmus_cases);
CASES(lock_cases);
CASES(memory_cases);
CASES(order_cases);
CASES(good_cases);
CASES(linear_cases);
CASES(system_cases);
CASES(defect_cases);
CASES(posix_cases);

int any_program(int number);

/* Runs all of them at once and waits for their ends. */
static inline void together(int count, int (*const bodies[])(void *))
{
    thrd_t threads[8];

    for (int i = 0; i < count; i++)
        assert(thrd_create(&threads[i], bodies[i], NULL) == thrd_success);
    for (int i = 0; i < count; i++)
        thrd_join(threads[i], NULL);
}

#define TOGETHER(...)                                                          \
    together((int)(sizeof((int (*[])(void *)){__VA_ARGS__}) / sizeof(void *)), \
             (int (*const[])(void *)){__VA_ARGS__})

#define BODY(name) static int name(void *unused)

#endif

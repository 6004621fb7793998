/* Exercise: a parallel loop.
 *
 *     cc -std=c11 -pthread -I patterns examples/exercises/parallel_map.c && ./a.out
 *     make exercises E=parallel_map
 *
 * How many of the numbers below 200000 are prime, and what is the last of them? Print
 *
 *     17984 primes, the last is 199999
 *
 * It must be the same in every run and for any number of threads. Count with twill_parallel_reduce,
 * find the last one with the same accumulator; no variable that two threads write, no lock.
 *
 * Hints: an accumulator starts as zeroes; `fold` adds what lies in begin..end to it, `combine` adds
 * the right one to the left one, which lies below it. Why would "the last that was seen" be wrong
 * in one of the two, and what does the order of left and right give you?
 */
#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"

#include <stdio.h>

enum { LIMIT = 200000 };

typedef struct found {
    size_t count, last; /* last: meaningless while count is 0 */
} found;

static bool is_prime(size_t n)
{
    for (size_t d = 2; d <= n / d; d++)
        if (n % d == 0)
            return false;
    return n > 1;
}

static int look(void *acc, size_t begin, size_t end, const twill_task *task)
{
    (void)acc, (void)begin, (void)end, (void)task;
    /* TODO: add the primes of begin..end-1 */
    return 0;
}

static int join(void *left, void *right, const twill_task *task)
{
    (void)left, (void)right, (void)task;
    /* TODO: add right to left */
    return 0;
}

int main(void)
{
    found all = {0, 0};
    (void)all, (void)look, (void)join, (void)is_prime;
    /* TODO: one twill_parallel_reduce over LIMIT items */
    puts("not solved yet");
    return 0;
}

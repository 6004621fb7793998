/* Solution: a parallel loop. The task is in ../parallel_map.c. */
#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"

#include <stdio.h>

enum { LIMIT = 200000 };

typedef struct found {
    size_t count, last;
} found;

static bool is_prime(size_t n)
{
    for (size_t d = 2; d <= n / d; d++)
        if (n % d == 0)
            return false;
    return n > 1;
}

/* An accumulator belongs to whoever folds into it: plain variables, no lock, no shared cache line
   that is written for every prime. One fold may get begin..end in pieces, always rising. */
static int look(void *acc, size_t begin, size_t end, const twill_task *task)
{
    found *mine = acc;
    (void)task;
    for (size_t n = begin; n < end; n++)
        if (is_prime(n)) {
            mine->count++;
            mine->last = n;
        }
    return 0;
}

/* Parts are combined in the order of the items, never in the order in which threads were ready:
   what is in `right` lies above what is in `left`. So "the last" is right's, if it has found
   anything. With max() it would be right in any order; .unordered could then be set. */
static int join(void *left, void *right, const twill_task *task)
{
    found *sum = left;
    const found *more = right;
    (void)task;
    if (more->count)
        sum->last = more->last;
    sum->count += more->count;
    return 0;
}

int main(void)
{
    const twill_reducer primes = {.size = sizeof(found), .fold = look, .combine = join};
    found all;
    twill_status status = twill_parallel_reduce(LIMIT, &primes, &all, NULL);
    if (status != TWILL_OK) { /* then `all` was not written */
        fprintf(stderr, "%s\n", twill_status_text(status));
        return 1;
    }
    printf("%zu primes, the last is %zu\n", all.count, all.last);
    return 0;
}

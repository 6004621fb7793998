/* parallel_reduce: a sum of floating-point numbers that has the same bits on any number of threads.
 *
 *     cc -std=c11 -pthread -I patterns examples/parallel_reduce.c && ./a.out
 *
 * Floating-point addition is not associative, so a parallel sum that adds in the order in which
 * threads finish differs from run to run. twill's cuts depend on n only, and neighbours are
 * combined in index order.
 *
 * TEST-RUN:
 */
#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TERMS = 1000000 };

/* Adds the terms 1/k^2, k = begin+1 .. end; all together they go to pi^2/6. */
static int add_terms(void *acc, size_t begin, size_t end, const twill_task *task)
{
    double *sum = acc;
    (void)task;
    for (size_t i = begin; i < end; i++) {
        double k = (double)i + 1;
        *sum += 1 / (k * k);
    }
    return 0;
}

static int add_sums(void *left, void *right, const twill_task *task)
{
    (void)task;
    *(double *)left += *(const double *)right;
    return 0;
}

static void expect(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "wrong: %s\n", what);
        exit(1);
    }
}

int main(void)
{
    static const twill_reducer sum = {
        .size = sizeof(double), .fold = add_terms, .combine = add_sums};
    double first = 0;
    for (unsigned workers = 1; workers <= 8; workers *= 2) {
        twill_parallel_options options = {.run = {.workers = workers}};
        double result = 0;
        twill_status status = twill_parallel_reduce(TERMS, &sum, &result, &options);
        expect(status == TWILL_OK, twill_status_text(status));
        if (workers == 1)
            first = result;
        printf("%u thread%s: %.17g\n", workers, workers == 1 ? " " : "s", result);
        expect(memcmp(&result, &first, sizeof first) == 0,
               "the same bits on any number of threads");
    }
    double missing = 1.6449340668482264 - first; /* pi^2/6 less the terms: about 1/TERMS */
    printf("pi^2/6 less the sum: %.6f\n", missing);
    expect(missing > 0.9e-6 && missing < 1.1e-6, "the sum");
    return 0;
}

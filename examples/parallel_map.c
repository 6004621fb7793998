/* parallel_map: one function on many items, results where the serial loop would have put them.
 *
 *     cc -std=c11 -pthread -I patterns examples/parallel_map.c && ./a.out
 *
 * TEST-RUN:
 */
#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"

#include <stdio.h>
#include <stdlib.h>

enum { N = 100 };

/* ---- a map by function pointer ---- */

static int square(const void *in, void *out, const twill_task *task)
{
    int x = *(const int *)in;
    (void)task;
    *(int *)out = x * x;
    return 0;
}

/* ---- a map whose body is compiled into the loop: for cheap items ---- */

TWILL_DEFINE_MAP(squares, int, int, x, x *x)

/* ---- a map some of whose items fail ---- */

enum { ODD_ONE = 42 };

/* Any non-zero value is the program's own code for "this item failed". */
static int halve(const void *in, void *out, const twill_task *task)
{
    int x = *(const int *)in;
    (void)task;
    if (x >= 17 && x % 2 != 0)
        return ODD_ONE;
    *(int *)out = x / 2;
    return 0;
}

static long sum_of(const int *values)
{
    long sum = 0;
    for (int i = 0; i < N; i++)
        sum += values[i];
    return sum;
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
    int items[N], results[N], again[N];
    for (int i = 0; i < N; i++)
        items[i] = i;

    /* NULL: as many threads as are worth it, which for a hundred squares is one. */
    twill_status status =
        twill_parallel_map(items, sizeof *items, results, sizeof *results, N, square, NULL);
    expect(status == TWILL_OK, twill_status_text(status));
    expect(results[99] == 9801, "results stand in the order of the items");
    printf("squares of 0..99: the sum is %ld\n", sum_of(results));
    expect(sum_of(results) == 328350, "the sum of the squares");

    /* The same on four threads, whatever the machine has. */
    twill_report report;
    twill_parallel_options options = {.run = {.workers = 4, .report = &report}};
    status = squares(items, again, N, &options);
    expect(status == TWILL_OK && report.done == N, twill_status_text(status));
    printf("the same by a typed map on 4 threads: %ld\n", sum_of(again));
    expect(sum_of(again) == 328350, "the sum of the squares by the typed map");

    /* Many items fail; the one reported is that which the serial loop would have met first. */
    status = twill_parallel_map(items, sizeof *items, results, sizeof *results, N, halve, &options);
    expect(status == TWILL_FAILED, "items fail");
    printf("halves: %s, item %zu, code %d\n", twill_status_text(status), report.first_error.index,
           report.first_error.code);
    expect(report.first_error.index == 17 && report.first_error.code == ODD_ONE, "the lowest");
    expect(report.done + report.failed + report.skipped == report.total, "nothing is lost");

    /* COLLECT: the others run all the same, and each failure is listed. */
    twill_item_error errors[N];
    options.run.on_error = TWILL_ON_ERROR_COLLECT;
    options.run.errors = errors;
    options.run.errors_capacity = N;
    status = twill_parallel_map(items, sizeof *items, results, sizeof *results, N, halve, &options);
    printf("halves, all tried: %zu done, %zu failed, the last of them item %zu\n", report.done,
           report.failed, errors[report.errors_stored - 1].index);
    expect(status == TWILL_FAILED && report.done == 58 && report.failed == 42, "the counts");
    expect(errors[report.errors_stored - 1].index == 99, "the list is sorted by item");
    return 0;
}

/* progress_tracker: threads count what they have done; somebody else draws it.
 *
 *     cc -std=c11 -pthread -I patterns examples/progress_tracker.c && ./a.out
 *
 * On a terminal there is a bar, elsewhere there are plain lines, both on standard error. A worker
 * pays one atomic addition for an update and never waits for the terminal.
 *
 * TEST-RUN:
 */
#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#include "twill_progress_tracker.h"

#include <stdio.h>
#include <stdlib.h>

enum { LIMIT = 300000, UNLUCKY = 13 };

struct hunt {
    twill_progress *progress;
    unsigned char *is_prime;
};

static bool is_prime(size_t n)
{
    for (size_t d = 2; d * d <= n; d++)
        if (n % d == 0)
            return false;
    return n >= 2;
}

/* The multiples of 99991 fail: a failed item is counted too, or the total would never be
   reached. */
static int test_number(const twill_task *task)
{
    const struct hunt *hunt = task->context;
    if (task->index > 0 && task->index % 99991 == 0) {
        twill_progress_add_failed(hunt->progress, 1);
        return UNLUCKY;
    }
    hunt->is_prime[task->index] = is_prime(task->index);
    twill_progress_add(hunt->progress, 1);
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
    struct hunt hunt = {.is_prime = calloc(LIMIT, 1)};
    twill_progress_options look = {.total = LIMIT, .label = "primes", .unit_name = "numbers"};
    expect(hunt.is_prime != NULL, "memory");
    twill_status status = twill_progress_create(&hunt.progress, &look);
    expect(status == TWILL_OK, twill_status_text(status));

    twill_parallel_options options = {
        .run = {.workers = 4, .context = &hunt, .on_error = TWILL_ON_ERROR_COLLECT},
    };
    status = twill_parallel_for(LIMIT, test_number, &options);
    twill_progress_log(hunt.progress, "a line above the bar, which is drawn anew below it");

    /* The outcome is the work's, not ours to polish: the last frame says that something failed. */
    twill_progress_finish(hunt.progress, status);
    twill_progress_view view;
    twill_progress_get_view(hunt.progress, &view);
    twill_progress_destroy(hunt.progress);

    size_t primes = 0;
    for (size_t n = 0; n < LIMIT; n++)
        primes += hunt.is_prime[n];
    free(hunt.is_prime);
    printf("%zu primes; %llu numbers tested, %llu failed, %d %%\n", primes,
           (unsigned long long)view.done, (unsigned long long)view.failed, view.percent);
    expect(primes == 25996, "25997 primes lie below 300000, and 99991 is one of them");
    expect(view.done == LIMIT - 3 && view.failed == 3 && view.percent == 100, "all are counted");
    return 0;
}

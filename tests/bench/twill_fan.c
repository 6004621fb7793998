/* twill fan_out_fan_in: tiny tasks whose results one thread adds up.
 * usage: twill_fan call|stream|object tasks [steps] [pool] */
#include "bench.h"

#define TWILL_IMPLEMENTATION
#include "twill_fan_out_fan_in.h"

static uint32_t steps;

static int work(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(uint64_t *)out = bench_work(*(const uint64_t *)in, steps) ? *(const uint64_t *)in : 1;
    return 0;
}

static int work_of(void *arg, void *result, const twill_task *task)
{
    uint64_t value = (uint64_t)(uintptr_t)arg;
    return work(&value, result, task);
}

typedef struct sums {
    uint64_t total, next, count;
} sums;

static int add(const void *result, const twill_outcome *outcome, const twill_task *task)
{
    (void)outcome;
    ((sums *)task->context)->total += *(const uint64_t *)result;
    return 0;
}

static int pull(void *item, const twill_task *task)
{
    sums *s = (sums *)task->context;
    if (s->next == s->count)
        return twill_task_stop(task);
    *(uint64_t *)item = ++s->next;
    return 0;
}

static void by_object(sums *s, const twill_fan_options *options)
{
    twill_fan *fan;
    twill_outcome outcome;
    uint64_t result;
    twill_status status;
    if (twill_fan_create(&fan, options) != TWILL_OK)
        exit(4);
    while (s->next < s->count) {
        status = twill_fan_try_go(fan, work_of, (void *)(uintptr_t)(s->next + 1), NULL);
        if (status == TWILL_OK) {
            s->next++;
        } else { /* the window is full */
            if (twill_fan_next(fan, &result, &outcome) != TWILL_OK)
                exit(3);
            s->total += result;
        }
    }
    twill_fan_close(fan);
    while (twill_fan_next(fan, &result, &outcome) == TWILL_OK)
        s->total += result;
    twill_fan_destroy(fan);
}

int main(int argc, char **argv)
{
    uint64_t n = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000000;
    twill_fan_options options = {.run.workers = bench_threads()};
    twill_status status = TWILL_OK;
    sums s = {0, 0, n};
    int64_t start;
    uint64_t *items = (uint64_t *)bench_memory(n * sizeof *items);
    if (argc < 2)
        return 2;
    steps = argc > 3 ? (uint32_t)atoi(argv[3]) : 0;
    for (uint64_t i = 0; i < n; i++)
        items[i] = i + 1;
    options.run.context = &s;
    start = bench_now();
    if (strcmp(argv[1], "call") == 0) {
        status = twill_fan_out_fan_in(items, sizeof *items, n, work, 8, add, &options);
    } else if (strcmp(argv[1], "stream") == 0) {
        options.in_flight = 1024;
        status = twill_fan_stream(pull, 8, work, 8, add, &options);
    } else {
        options.in_flight = options.max_unread = 1024; /* as Go's two channels */
        options.result_size = 8;
        by_object(&s, &options);
    }
    int64_t took = bench_now() - start;
    if (status != TWILL_OK || s.total != n * (n + 1) / 2)
        bench_wrong("fan", (size_t)s.total);
    bench_report("ns/task", (double)took / (double)n);
    free(items);
    return 0;
}

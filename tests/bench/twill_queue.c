/* twill_queue, blocking: one item at a time, or in batches; the sixth argument: with a feature that
 * a ring cannot have. */
#include "bench_queue.h"

#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"

static twill_queue *queue;

static twill_queue_options options;

static int queue_priority(const void *item, const twill_task *task)
{
    (void)task;
    return (int)(*(const uint64_t *)item % 4);
}

static size_t queue_bytes(const void *item, const twill_task *task)
{
    (void)item;
    (void)task;
    return 8;
}

static void queue_level(bool high, size_t length, const twill_task *task)
{
    (void)high;
    (void)length;
    (void)task;
}

/* A feature that costs something, by name; false: there is no such one. */
static bool queue_with(const char *feature)
{
    if (strcmp(feature, "lock") == 0) {
        options.engine = TWILL_ENGINE_LOCK;
    } else if (strcmp(feature, "priority") == 0) {
        options.order = TWILL_ORDER_PRIORITY;
        options.priority_of = queue_priority;
        options.ageing = TWILL_FOREVER;
    } else if (strcmp(feature, "lifo") == 0) {
        options.order = TWILL_ORDER_LIFO;
    } else if (strcmp(feature, "bytes") == 0) {
        options.bytes_of = queue_bytes;
        options.max_bytes = SIZE_MAX;
    } else if (strcmp(feature, "level") == 0) {
        options.on_level = queue_level;
        options.high_mark = 1;
    } else if (strcmp(feature, "age") == 0) {
        options.max_age = TWILL_FOREVER;
    } else {
        return false;
    }
    return true;
}

static void queue_open(size_t capacity)
{
    options.capacity = capacity;
    if (options.high_mark) {
        options.low_mark = capacity / 4;
        options.high_mark = capacity - options.low_mark;
    }
    if (twill_queue_create(&queue, 8, &options) != TWILL_OK)
        exit(4);
}

static void queue_produce(bench_queue_side *side)
{
    uint64_t items[BENCH_BATCH_MOST];
    for (uint64_t k = 0; k < side->count;) {
        size_t n = 0;
        while (n < side->batch && k < side->count)
            items[n++] = side->first + k++;
        twill_status status =
            side->batch == 1
                ? twill_queue_push(queue, items)
                : twill_queue_push_many_until(queue, items, n, NULL, (twill_until){0, NULL});
        if (status != TWILL_OK)
            bench_wrong("push", (size_t)k);
    }
}

static void queue_consume(bench_queue_side *side)
{
    uint64_t items[BENCH_BATCH_MOST];
    size_t n = 1;
    while ((side->batch == 1 ? twill_queue_pop(queue, items)
                             : twill_queue_pop_many_until(queue, items, side->batch, &n,
                                                          (twill_until){0, NULL})) == TWILL_OK)
        for (size_t k = 0; k < n; k++) {
            side->sum += items[k];
            side->got++;
        }
}

static void queue_close(void)
{
    twill_queue_close(queue);
}

int main(int argc, char **argv)
{
    if (argc > 6 && !queue_with(argv[6]))
        return 2;
    int status = bench_queue_main(argc, argv);
    if (status == 0 && getenv("BENCH_STATS")) { /* for tuning, not for the tables */
        twill_queue_stats s;
        twill_queue_get_stats(queue, &s);
        fprintf(stderr, "push_waits %llu pop_waits %llu wakes %llu\n",
                (unsigned long long)s.push_waits, (unsigned long long)s.pop_waits,
                (unsigned long long)s.wakes);
    }
    return status;
}

/* Batches of a trivial item: what an item costs when 1, 10, 100, 1000 share a call. "process": an
 * array by twill_batch_process on the calling thread; "batcher": one thread adds, one worker. */
#include "bench.h"

#define TWILL_IMPLEMENTATION
#include "twill_batch_processing.h"

enum { ITEMS = 20000 };

typedef struct work {
    uint32_t *items;
    size_t size;
    uint64_t sum; /* of one worker */
} work;

static int sum_up(twill_batch *batch, const twill_task *task)
{
    work *w = task->context;
    uint64_t sum = 0;
    const uint32_t *items = batch->array;
    for (size_t i = 0; i < batch->count; i++)
        sum += items ? items[i] : *(const uint32_t *)twill_batch_item(batch, i);
    w->sum += sum;
    return 0;
}

static void check(const work *w, const char *what)
{
    if (w->sum != (uint64_t)ITEMS * (ITEMS - 1) / 2)
        bench_wrong(what, w->size);
}

static void process(void *context)
{
    work *w = context;
    w->sum = 0;
    if (twill_batch_process(
            w->items, sizeof *w->items, NULL, 0, ITEMS, sum_up,
            &(twill_batch_options){.max_items = w->size, .run.workers = 1, .run.context = w}) !=
        TWILL_OK)
        bench_wrong("twill_batch_process", w->size);
    check(w, "twill_batch_process");
}

static void batcher(void *context)
{
    work *w = context;
    twill_batcher *b;
    w->sum = 0;
    if (twill_batcher_create(
            &b, sum_up,
            &(twill_batch_options){.max_items = w->size, .capacity = 4096, .run.context = w}) !=
        TWILL_OK)
        exit(4);
    for (size_t i = 0; i < ITEMS; i++)
        if (twill_batcher_add(b, &w->items[i], NULL) != TWILL_OK)
            bench_wrong("twill_batcher_add", i);
    twill_batcher_destroy(b);
    check(w, "twill_batcher");
}

int main(int argc, char **argv)
{
    work w = {bench_memory(ITEMS * sizeof(uint32_t)), argc > 2 ? strtoul(argv[2], NULL, 10) : 0, 0};
    if (argc != 3 || !w.size) {
        fprintf(stderr, "usage: twill_batch process|batcher items-a-batch\n");
        return 2;
    }
    for (uint32_t i = 0; i < ITEMS; i++)
        w.items[i] = i;
    bench_call *call = strcmp(argv[1], "batcher") == 0 ? batcher : process;
    int64_t budget = (int64_t)bench_setting("BENCH_MS", 50) * 1000000;
    int64_t once = bench_batch(call, &w, 3) / 3 + 1, calls = budget / once + 1;
    bench_report("ns/item", (double)bench_batch(call, &w, calls) / (double)calls / ITEMS);
    free(w.items);
    return 0;
}

/* Batches: the squares of 100 numbers, 7 a batch and in their order; a table of rows that are
   inserted 1000 at a time with one bad row among them; and a log that leaves by count and by close.
   Prints the same in every run. */
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_batch_processing.h"

/* ---- results in the order of the items ---- */

static int squares(twill_batch *batch, const twill_task *task)
{
    (void)task;
    for (size_t i = 0; i < batch->count; i++) {
        int number = *(const int *)twill_batch_item(batch, i);
        *(int *)twill_batch_result(batch, i) = number * number;
    }
    return 0;
}

static int process_in_batches(void)
{
    int numbers[100], results[100], sum = 0;
    twill_report report;
    for (int i = 0; i < 100; i++)
        numbers[i] = i;
    twill_status status =
        twill_batch_process(numbers, sizeof *numbers, results, sizeof *results, 100, squares,
                            &(twill_batch_options){.max_items = 7, .run.report = &report});
    for (int i = 0; i < 100; i++)
        sum += results[i] == i * i;
    printf("100 items, 7 a batch: %s, %zu batches, %d results in place\n",
           twill_status_name(status), report.chunks, sum);
    return status != TWILL_OK;
}

/* ---- one bad row does not cost its whole transaction ---- */

typedef struct table {
    int rows, transactions; /* of one worker: no lock */
} table;

static int insert_rows(twill_batch *batch, const twill_task *task)
{
    table *t = task->context;
    t->transactions++;
    for (size_t i = 0; i < batch->count; i++)
        if (*(const int *)twill_batch_item(batch, i) == 1234)
            return 19; /* the whole transaction is rolled back */
    t->rows += (int)batch->count;
    return 0;
}

static int insert_all(void)
{
    static int rows[2500];
    table t = {0, 0};
    twill_report report;
    for (int i = 0; i < 2500; i++)
        rows[i] = i;
    (void)twill_batch_process(
        rows, sizeof *rows, NULL, 0, 2500, insert_rows,
        &(twill_batch_options){.max_items = 1000,
                               .on_bad_batch = TWILL_BAD_BATCH_BISECT,
                               .run = {.workers = 1, .context = &t, .report = &report}});
    printf("2500 rows: %d inserted by %d transactions; row %zu failed with code %d\n", t.rows,
           t.transactions, report.first_error.index, report.first_error.code);
    return report.failed != 1;
}

/* ---- lines of a log, written together ---- */

static int write_lines(twill_batch *batch, const twill_task *task)
{
    size_t *written = task->context;
    *written += batch->count;
    return 0;
}

static int write_log(void)
{
    const char *line = "something happened";
    size_t written = 0;
    twill_batcher *log;
    twill_batcher_stats stats;
    if (twill_batcher_create(&log, write_lines,
                             &(twill_batch_options){.max_items = 64,
                                                    .linger = TWILL_SEC(10),
                                                    .run.context = &written}) != TWILL_OK)
        return 1;
    for (int i = 0; i < 1000; i++)
        if (twill_batcher_add(log, (void *)(uintptr_t)line, NULL) != TWILL_OK)
            return 1;
    twill_batcher_close(log); /* the tail leaves now, not in ten seconds */
    twill_batcher_flush(log);
    twill_batcher_get_stats(log, &stats);
    printf("1000 lines: %zu written, %d batches by count, %d by close\n", written,
           (int)stats.by_count, (int)stats.by_close);
    return twill_batcher_destroy(log) != TWILL_OK;
}

int main(void)
{
    int failed = process_in_batches();
    failed |= insert_all();
    failed |= write_log();
    return failed;
}

/* Solution: a hundred at a time. The task is in ../batch_processing.c. */
#define TWILL_IMPLEMENTATION
#include "twill_batch_processing.h"

#include <stdio.h>

enum { ROWS = 250, BAD = 77 };

static int insert(twill_batch *batch, const twill_task *task)
{
    (void)twill_sleep(twill_within_or_cancelled(TWILL_MS(20), task->until.cancel));
    /* batch->count, not 100: the last batch has what is left. As soon as one row is set, those that
       are not are LOST ("nobody will ever say how it ended"), which is the honest answer to
       forgetting them. Return a code instead, and all rows of the batch have failed together. */
    for (size_t i = 0; i < batch->count; i++)
        twill_batch_set(batch, i, *(const int *)twill_batch_item(batch, i) == BAD ? 5 : 0);
    return 0;
}

int main(void)
{
    int rows[ROWS];
    twill_report report;
    for (int i = 0; i < ROWS; i++)
        rows[i] = i;
    /* Batches are index arithmetic over the array: nothing is copied. */
    twill_status status = twill_batch_process(
        rows, sizeof *rows, NULL, 0, ROWS, insert,
        &(twill_batch_options){.max_items = 100, .run.workers = 2, .run.report = &report});
    printf("inserted %zu in %zu calls\n", report.done, report.chunks);
    if (status == TWILL_FAILED) /* first_error: the lowest, in every run */
        printf("row %zu failed with %d\n", report.first_error.index, report.first_error.code);
    return 0;
}

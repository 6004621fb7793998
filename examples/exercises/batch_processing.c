/* Exercise: a hundred at a time.
 *
 *     cc -std=c11 -pthread -I patterns examples/exercises/batch_processing.c && ./a.out
 *     make exercises E=batch_processing
 *
 * 250 rows go into a table. Each INSERT costs 20 ms, whether it carries one row or a hundred; row
 * 77 is bad. Insert them in batches of a hundred, two at once. The bad row must not take the other
 * 99 of its batch with it:
 *
 *     inserted 249 in 3 calls
 *     row 77 failed with 5
 *
 * Hints: twill_batch_process; the callback says how each row went with twill_batch_set. What would
 * happen if it only set the bad one, and forgot the others? How long is the last batch?
 */
#define TWILL_IMPLEMENTATION
#include "twill_batch_processing.h"

#include <stdio.h>

enum { ROWS = 250, BAD = 77 };

static int insert(twill_batch *batch, const twill_task *task)
{
    (void)batch, (void)task;
    /* TODO: sleep 20 ms once; then say how each row went */
    return 0;
}

int main(void)
{
    int rows[ROWS];
    for (int i = 0; i < ROWS; i++)
        rows[i] = i;
    (void)rows, (void)insert;
    /* TODO */
    puts("not solved yet");
    return 0;
}

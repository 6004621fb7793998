/* Solution: three connections for six. The task is in ../resource_pool.c. */
#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#include "twill_resource_pool.h"

#include <stdatomic.h>
#include <stdio.h>

enum { QUESTIONS = 12, CONNECTIONS = 3, BAD = 5 };

typedef struct connection {
    int number;
} connection;

static connection connections[CONNECTIONS];
static atomic_int opened, closed;

/* Called when somebody wants one, none is idle and there are fewer than `max`: they are made when
   they are needed. index: the slot, which is nobody else's while this one lives. */
static int open_one(void **resource, const twill_task *task)
{
    connections[task->index].number = opened++;
    *resource = &connections[task->index];
    return 0;
}

static void close_one(void *resource, twill_resource_end why, const twill_task *task)
{
    (void)resource, (void)why, (void)task;
    closed++;
}

/* `resource` is this thread's alone until it returns; what its last borrower did with it is
   visible. It goes back whatever is returned: no path can forget it, and no one can give it back
   twice. */
static int ask(void *resource, const twill_task *task)
{
    (void)resource;
    (void)twill_sleep(twill_within(TWILL_MS(50)));
    return *(const size_t *)task->context == BAD ? 7 : 0;
}

static int question(const twill_task *task)
{
    size_t number = task->index;
    twill_report report;
    /* Waits its turn, first come first served, no longer than the loop itself may take. */
    twill_status status = twill_with_resource(
        task->context, ask, &number,
        &(twill_with_resource_options){.until = task->until, .report = &report});
    return status == TWILL_FAILED ? report.first_error.code : (int)status;
}

int main(void)
{
    twill_resource_pool *pool;
    twill_report report;
    if (twill_resource_pool_create(
            &pool, &(twill_resource_pool_options){
                       .max = CONNECTIONS, .create = open_one, .destroy = close_one}) != TWILL_OK)
        return 1;
    /* COLLECT: a bad question does not stop the others. */
    (void)twill_parallel_for(QUESTIONS, question,
                             &(twill_parallel_options){.run = {.workers = 6,
                                                               .context = pool,
                                                               .on_error = TWILL_ON_ERROR_COLLECT,
                                                               .report = &report}});
    printf("%zu answered, question %zu failed with %d\n", report.done, report.first_error.index,
           report.first_error.code);
    if (twill_resource_pool_destroy(pool) != TWILL_OK) /* BUSY, if one were still lent */
        return 1;
    printf("%d opened too many, %d not closed\n", opened > CONNECTIONS ? opened - CONNECTIONS : 0,
           opened - closed);
    return 0;
}

/* call.h: what a callback may say about its item; each engine answers through a table behind
   task->private_. */
#ifndef TWILL__ENGINE_CALL_H
#define TWILL__ENGINE_CALL_H

#include "engine/cancel.h"

/* First member of every record that task->private_ points to. An entry may be NULL: it does
   nothing. */
typedef struct twill__call {
    const struct twill__call_table *table;
} twill__call;

typedef struct twill__call_table {
    bool (*cancelled)(const twill_task *task); /* besides token and deadline */
    void (*stop)(const twill_task *task);
    void (*skip)(const twill_task *task);
    void (*fail)(const twill_task *task, size_t index);
    void (*block)(const twill_task *task, bool begin);
} twill__call_table;

static inline const twill__call_table *twill__table_of(const twill_task *task)
{
    static const twill__call_table none;
    return task && task->private_ ? ((const twill__call *)task->private_)->table : &none;
}

TWILL__WEAK bool twill_task_cancelled(const twill_task *task)
{
    const twill__call_table *table = twill__table_of(task);
    return task &&
           (twill_cancel_fired(task->until.cancel) || twill__expired(task->until.deadline) ||
            (table->cancelled && table->cancelled(task)));
}

TWILL__WEAK int twill_task_stop(const twill_task *task)
{
    const twill__call_table *table = twill__table_of(task);
    if (table->stop)
        table->stop(task);
    return 0;
}

TWILL__WEAK int twill_task_skip(const twill_task *task)
{
    const twill__call_table *table = twill__table_of(task);
    if (table->skip)
        table->skip(task);
    return 0;
}

TWILL__WEAK int twill_task_fail(const twill_task *task, size_t index, int code)
{
    const twill__call_table *table = twill__table_of(task);
    if (table->fail)
        table->fail(task, index);
    return code;
}

TWILL__WEAK void twill_task_block_begin(const twill_task *task)
{
    const twill__call_table *table = twill__table_of(task);
    if (table->block)
        table->block(task, true);
}

TWILL__WEAK void twill_task_block_end(const twill_task *task)
{
    const twill__call_table *table = twill__table_of(task);
    if (table->block)
        table->block(task, false);
}

#endif

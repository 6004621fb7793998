/* producer_consumer: orders are checked by two consumers. A check may fail for a moment: it is tried
 * again, later and later. What fails for good goes to a second queue, which keeps the last few for
 * a person to look at.
 *
 *     cc -std=c11 -pthread -I patterns examples/producer_consumer.c && ./a.out
 *
 * TEST-RUN:
 */
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"

struct order {
    int number, amount;
};

TWILL_QUEUE(orders, struct order)

struct shop {
    twill_queue *dead;
    int checked[100]; /* by number: attempts */
};

/* Stands for a service: each seventh order fails twice, amounts below zero fail for good. */
static int check(const struct order *order, int attempt)
{
    if (order->amount < 0)
        return 22;
    return order->number % 7 == 0 && attempt < 3 ? 11 : 0;
}

static int receive(twill_queue *queue, const twill_task *task)
{
    (void)task;
    for (int i = 0; i < 100; i++) {
        twill_status status =
            orders_push(queue, (struct order){i, i == 13 || i == 57 ? -1 : i * 10});
        if (status != TWILL_OK)
            return 0; /* told to end */
    }
    return 0;
}

static int handle(void *item, const twill_task *task)
{
    struct shop *shop = task->context;
    const struct order *order = item;
    int code = 0;
    for (int attempt = 1; attempt <= 3; attempt++) {
        shop->checked[order->number] = attempt;
        code = check(order, attempt);
        if (code != 11) /* the code that may pass */
            return code;
        if (twill_sleep(twill_within_or_cancelled(TWILL_MS(attempt), task->until.cancel)) !=
            TWILL_OK)
            return twill_task_skip(task); /* the run ends: neither done nor failed */
    }
    return code;
}

static void bury(void *item, int code, const twill_task *task)
{
    struct shop *shop = task->context;
    (void)code;
    (void)orders_push(shop->dead,
                      *(struct order *)item); /* drops the oldest when it is full: never waits */
}

int main(void)
{
    static struct shop shop;
    twill_report report;
    twill_queue_stats stats;
    struct order order;
    int again = 0, dead = 0, sum = 0;
    if (orders_create(&shop.dead, &(twill_queue_options){.capacity = 8,
                                                         .overflow = TWILL_OVERFLOW_DROP_OLDEST}))
        return 1;
    twill_status status = twill_produce_consume(
        sizeof order, receive, handle,
        &(twill_produce_consume_options){.run.workers = 2,
                                         .run.context = &shop,
                                         .run.on_error = TWILL_ON_ERROR_COLLECT,
                                         .run.report = &report,
                                         .queue.capacity = 4,
                                         .dead_letter = bury,
                                         .queue_stats = &stats});
    twill_queue_close(shop.dead);
    while (orders_pop(shop.dead, &order) == TWILL_OK) {
        dead++;
        sum += order.number;
    }
    twill_queue_destroy(shop.dead);
    for (int i = 0; i < 100; i++)
        again += shop.checked[i] > 1;
    printf("%s: %zu done, %zu failed, %zu skipped; first: order %zu, code %d\n",
           twill_status_name(status), report.done, report.failed, report.skipped,
           report.first_error.index, report.first_error.code);
    printf("%d were tried again; %d dead letters, numbers add up to %d\n", again, dead, sum);
    printf("the queue held at most %s\n", stats.peak <= 4 ? "four" : "MORE THAN FOUR");
    return 0;
}

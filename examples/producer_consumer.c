/* producer_consumer: orders are checked by two consumers. A check may fail for a moment: it is
 * tried again, later and later. What fails for good goes to a second queue, which keeps the last
 * few, with what is known of them, for a person to look at. Who receives them handles the next one
 * himself when the queue is full.
 *
 *     cc -std=c11 -pthread -I patterns examples/producer_consumer.c && ./a.out
 *
 * TEST-RUN:
 */
#include <stdio.h>

#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"
#include "twill_retry_backoff.h"

enum { BUSY = 11, BAD = 22 };

struct order {
    int number, amount;
    size_t attempts; /* noted by who handles it, for the dead letter */
};

TWILL_QUEUE(orders, struct order)

struct shop {
    twill_queue *dead;
    size_t checked[100]; /* by number: attempts */
};

/* Stands for a service: each seventh order finds it busy twice, number 57 always; amounts below
   zero are no good. */
static int check(const void *order_, void *out, const twill_task *task)
{
    const struct order *order = order_;
    (void)out;
    if (order->amount < 0)
        return BAD;
    if (order->number == 57)
        return BUSY;
    return order->number % 7 == 0 && task->index < 2 ? BUSY : 0; /* index: the attempt */
}

static twill_ns worth_it(int code, const void *out, const twill_task *task)
{
    (void)out, (void)task;
    return code == BUSY ? 0 : TWILL_RETRY_NEVER;
}

static int receive(twill_queue *queue, const twill_task *task)
{
    (void)task;
    for (int i = 0; i < 100; i++) {
        if (orders_push(queue, (struct order){i, i == 13 ? -1 : i * 10, 0}) != TWILL_OK)
            return 0; /* told to end */
    }
    return 0;
}

static int handle(void *item, const twill_task *task)
{
    struct shop *shop = task->context;
    struct order *order = item;
    twill_retry_report report;
    twill_status status =
        twill_retry_call(order, NULL, check,
                         &(twill_retry_options){.max_attempts = 3,
                                                .base = TWILL_MS(1),
                                                .after_failure = worth_it,
                                                .until = task->until}, /* ends with the run */
                         &report);
    shop->checked[order->number] = order->attempts = report.attempts;
    if (status == TWILL_CANCELLED || status == TWILL_TIMEOUT)
        return twill_task_skip(task); /* the run ends: neither done nor failed */
    return report.code;
}

/* An item that has failed: with what handle has noted in it. */
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
    size_t attempts = 0;
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
                                         .queue.overflow = TWILL_OVERFLOW_CALLER_RUNS,
                                         .dead_letter = bury,
                                         .queue_stats = &stats});
    twill_queue_close(shop.dead);
    while (orders_pop(shop.dead, &order) == TWILL_OK) {
        dead++;
        sum += order.number;
        attempts += order.attempts;
    }
    twill_queue_destroy(shop.dead);
    for (int i = 0; i < 100; i++)
        again += shop.checked[i] > 1;
    printf("%s: %zu done, %zu failed, %zu skipped; first: order %zu, code %d\n",
           twill_status_name(status), report.done, report.failed, report.skipped,
           report.first_error.index, report.first_error.code);
    printf("%d were tried again; %d dead letters, numbers add up to %d, tried %zu times in all\n",
           again, dead, sum, attempts);
    printf("the queue held at most %s\n", stats.peak <= 4 ? "four" : "MORE THAN FOUR");
    return 0;
}

/* Exercise: producer and consumers.
 *
 *     cc -std=c11 -pthread -I patterns examples/exercises/producer_consumer.c && ./a.out
 *     make exercises E=producer_consumer
 *
 * A queue with room for 5. One producer puts the numbers 0 to 19 into it. Two consumers, A and B,
 * take them out; each number costs 0.1 s and gives its square, and a line:
 *
 *     Consumer-A processed 0 -> 0
 *     Consumer-B processed 1 -> 1
 *     ...
 *
 * When both have ended, an empty line and the squares in order:
 *
 *     Sorted results: [0, 1, 4, 9, ..., 361]
 *
 * The producer tells the consumers that nothing more comes by end markers: numbers that cannot be
 * work, -1 for instance. How many of them are needed? What happens with one? Write it that way
 * first; then find out what twill_queue_close would have spared you.
 *
 * Hints: twill_produce_consume brings the threads and the queue. Or make the queue yourself
 * (twill_queue_create, _push, _pop, _destroy) and run three roles with twill_parallel_for, one item
 * each. The list of results is shared by two consumers.
 */
#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#include "twill_producer_consumer.h"

#include <stdio.h>

enum { ITEMS = 20, ROOM = 5, END = -1 };

int main(void)
{
    /* TODO */
    puts("not solved yet");
    return 0;
}

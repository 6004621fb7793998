/* Mend 1: a sum.
 *
 *     make exercises E=mend/sum
 *
 * Two threads add up three items each. On a quiet machine the sum is right, and it is wrong all the
 * same: `total += n` is a read, an addition and a write, and another thread may come in between.
 * Let the check show it, then mend it, in such a way that the threads still add at the same time.
 *
 * Hints: two accesses from two threads of which one writes need an order (a lock), or the variable
 * must be atomic, or each thread has one of its own and somebody adds up when they have ended: what
 * a thread did happens before pthread_join returns.
 */
/* not solved yet: delete this line when you have mended it */
#include <pthread.h>
#include <stddef.h>

static const int items[6] = {1, 2, 3, 4, 5, 6};
static int total;

static void *add(void *first)
{
    for (const int *item = first; item < (const int *)first + 3; item++)
        total += *item;
    return NULL;
}

int main(void)
{
    pthread_t one, two;
    pthread_create(&one, NULL, add, (void *)&items[0]);
    pthread_create(&two, NULL, add, (void *)&items[3]);
    pthread_join(one, NULL);
    pthread_join(two, NULL);
    return total != 21;
}

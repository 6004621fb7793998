/* Mend 2: the last ticket.
 *
 *     make exercises E=mend/ticket
 *
 * There is one ticket and there are two buyers. Every access is atomic, so there is no data race
 * and no sanitizer complains; and sometimes the ticket is sold twice. Why? Mend it.
 *
 * Hints: what must not be torn apart is the question together with the answer. Atomics: one
 * compare-and-swap loop, or a subtraction that tells what was there. A mutex: around both.
 */
/* not solved yet: delete this line when you have mended it */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

static atomic_int tickets = 1, sold;

static void *buy(void *unused)
{
    if (atomic_load(&tickets) > 0) {
        atomic_fetch_sub(&tickets, 1);
        atomic_fetch_add(&sold, 1);
    }
    return unused;
}

int main(void)
{
    pthread_t one, two;
    pthread_create(&one, NULL, buy, NULL);
    pthread_create(&two, NULL, buy, NULL);
    pthread_join(one, NULL);
    pthread_join(two, NULL);
    assert(sold == 1);
    return 0;
}

/* Solution: the last ticket. The task is in ../../mend/ticket.c. */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

static atomic_int tickets = 1, sold;

static void *buy(void *unused)
{
    /* Question and answer in one step: the swap succeeds only if the number is still the one that
       was looked at, and otherwise says which one is there now. */
    int left = atomic_load(&tickets);
    while (left > 0)
        if (atomic_compare_exchange_weak(&tickets, &left, left - 1)) {
            atomic_fetch_add(&sold, 1);
            break;
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

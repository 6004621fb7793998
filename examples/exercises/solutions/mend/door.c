/* Solution: after you. The task is in ../../mend/door.c. */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

static atomic_int wants[2], inside;

static void *go(void *arg)
{
    int me = *(int *)arg;
    /* All four of these must be sequentially consistent: they have one order, the same for
       everybody, and in it one of the two stores is the second; whoever made it reads the other
       one's store. With release and acquire a store may still lie in its processor's buffer while
       the load that follows it runs: on an x86, too. */
    atomic_store_explicit(&wants[me], 1, memory_order_seq_cst);
    if (!atomic_load_explicit(&wants[!me], memory_order_seq_cst)) {
        assert(atomic_fetch_add_explicit(&inside, 1, memory_order_relaxed) == 0);
        atomic_fetch_sub_explicit(&inside, 1, memory_order_relaxed);
    }
    return NULL;
}

int main(void)
{
    pthread_t one, two;
    int number[2] = {0, 1};
    pthread_create(&one, NULL, go, &number[0]);
    pthread_create(&two, NULL, go, &number[1]);
    pthread_join(one, NULL);
    pthread_join(two, NULL);
    return 0;
}

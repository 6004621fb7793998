/* Solution: happens before. The task is in ../../mend/publish.c. */
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>

static int data;
static atomic_int ready, passed_on;

static void *a(void *unused)
{
    data = 42;
    atomic_store_explicit(&ready, 1, memory_order_release); /* all above goes with it... */
    return unused;
}

static void *b(void *unused)
{
    while (!atomic_load_explicit(&ready, memory_order_acquire)) /* ...and arrives here */
        sched_yield();
    /* B has not touched data. It passes on what it knows, and it knows what A did. */
    atomic_store_explicit(&passed_on, 1, memory_order_release);
    return unused;
}

static void *c(void *unused)
{
    while (!atomic_load_explicit(&passed_on, memory_order_acquire))
        sched_yield();
    assert(data == 42);
    return unused;
}

int main(void)
{
    pthread_t threads[3];
    pthread_create(&threads[0], NULL, a, NULL);
    pthread_create(&threads[1], NULL, b, NULL);
    pthread_create(&threads[2], NULL, c, NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

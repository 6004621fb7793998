/* Mend 3: happens before.
 *
 *     make exercises E=mend/publish
 *
 * A writes `data` and says so in `ready`. B waits for `ready` and says so in `passed_on`. C waits
 * for `passed_on` and reads `data`, which it has never heard of from A. Which memory orders are
 * needed, and where? Put in the weakest ones that make it right; no lock, no fence.
 *
 * Hints: the one rule is at the top of docs/memory-model.md. It makes an arrow from a store to the
 * load that reads it, if the store releases and the load acquires; arrows and the order within a
 * thread add up. Draw the arrows from the write of `data` to its read: there are two between
 * threads. A load that says STALE in a report has read an older value, as C11 lets it.
 */
/* not solved yet: delete this line when you have mended it */
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
    atomic_store_explicit(&ready, 1, memory_order_relaxed);
    return unused;
}

static void *b(void *unused)
{
    while (!atomic_load_explicit(&ready, memory_order_relaxed))
        sched_yield();
    atomic_store_explicit(&passed_on, 1, memory_order_relaxed);
    return unused;
}

static void *c(void *unused)
{
    while (!atomic_load_explicit(&passed_on, memory_order_relaxed))
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

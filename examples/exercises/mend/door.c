/* Mend 4: after you.
 *
 *     make exercises E=mend/door
 *
 * Each of two threads says that it wants to go in, then looks whether the other one does, and goes
 * in only if not. (Both may turn away; that is allowed.) Whoever is inside must be alone. Release
 * and acquire are in place, and still both go in. Which order is missing? Change the memory orders
 * alone.
 *
 * Hints: program 5 of docs/memory-model.md. Happens before needs a load that reads the other one's
 * store. Here the trouble is a load that does NOT read it.
 */
/* not solved yet: delete this line when you have mended it */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

static atomic_int wants[2], inside;

static void *go(void *arg)
{
    int me = *(int *)arg;
    atomic_store_explicit(&wants[me], 1, memory_order_release);
    if (!atomic_load_explicit(&wants[!me], memory_order_acquire)) {
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

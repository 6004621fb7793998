/* Mend 7: A, B, and A again.
 *
 *     make exercises E=mend/stack
 *
 * A stack without a lock, of nodes that are pushed again after they were popped. `pop` reads the
 * top and what is below it, and swaps the top if it is still the same: "the same" is not
 * "unchanged". Follow the lanes of the report: who holds an old `below` while the others pop two
 * and push one?
 *
 * Hints: the nodes are numbered (0: none), so a number needs few bits of the word `top`. What could
 * the others be for, so that no state of the stack ever comes again?
 */
/* not solved yet: delete this line when you have mended it */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { NODES = 3 };
static _Atomic uint64_t top;              /* number of the first node; 0: empty */
static _Atomic uint64_t below[NODES + 1]; /* of each node: the one below it */
static atomic_int owned[NODES + 1];

static void push(uint64_t node)
{
    uint64_t first = atomic_load(&top);
    do
        atomic_store(&below[node], first);
    while (!atomic_compare_exchange_strong(&top, &first, node));
}

static uint64_t pop(void)
{
    uint64_t first = atomic_load(&top);
    while (first && !atomic_compare_exchange_strong(&top, &first, atomic_load(&below[first])))
        continue;
    return first;
}

static void *borrow_two(void *unused)
{
    uint64_t one = pop(), two = pop();
    if (one)
        assert(atomic_fetch_add(&owned[one], 1) == 0); /* nobody else has it */
    if (two)
        assert(atomic_fetch_add(&owned[two], 1) == 0);
    if (one) {
        atomic_fetch_sub(&owned[one], 1);
        push(one);
    }
    if (two) {
        atomic_fetch_sub(&owned[two], 1);
        push(two);
    }
    return unused;
}

int main(void)
{
    pthread_t one, two;
    int left = 0;
    for (uint64_t node = 1; node <= NODES; node++)
        push(node);
    pthread_create(&one, NULL, borrow_two, NULL);
    pthread_create(&two, NULL, borrow_two, NULL);
    pthread_join(one, NULL);
    pthread_join(two, NULL);
    while (left <= NODES && pop())
        left++;
    assert(left == NODES);
    return 0;
}

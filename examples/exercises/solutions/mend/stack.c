/* Solution: A, B, and A again. The task is in ../../mend/stack.c. */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { NODES = 3 };
/* The low half: the number of the first node, 0: empty. The high half counts the changes, so that
   the same node on top is another word when anything has happened in between. (It comes round after
   2^32 changes: somebody would have to sleep between his load and his swap for that long.) */
static _Atomic uint64_t top;
static _Atomic uint64_t below[NODES + 1]; /* of each node: the one below it */
static atomic_int owned[NODES + 1];

static uint64_t number_of(uint64_t word)
{
    return word & UINT32_MAX;
}

static uint64_t next(uint64_t word, uint64_t number)
{
    return ((word >> 32) + 1) << 32 | number;
}

static void push(uint64_t node)
{
    uint64_t seen = atomic_load(&top);
    do
        atomic_store(&below[node], number_of(seen));
    while (!atomic_compare_exchange_strong(&top, &seen, next(seen, node)));
}

static uint64_t pop(void)
{
    uint64_t seen = atomic_load(&top);
    while (number_of(seen) && !atomic_compare_exchange_strong(
                                  &top, &seen, next(seen, atomic_load(&below[number_of(seen)]))))
        continue;
    return number_of(seen);
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

/* Not a queue for anybody: the least that cells which two cores hand to one another can cost. Each
 * has a stamp beside its item, as in twill's ring, but there is one producer and one consumer, so
 * nothing is claimed and no instruction is locked; no close but for the end, no status, nobody
 * sleeps: who finds a cell not his looks again after some pauses. */
#include "bench_queue.h"

#include <stdatomic.h>

enum { CELLS_PAUSES = 4 }; /* between two looks: the best of 1, 4, 16 and 64 */

static _Alignas(128) struct cell {
    _Atomic uint64_t stamp; /* 2 x lap: to be filled; and 1 more: to be emptied */
    uint64_t item;
} cells[1024];
static _Alignas(128) _Atomic int closed;
static size_t capacity;

static void away(void)
{
    for (int pause = 0; pause < CELLS_PAUSES; pause++) {
#if defined __x86_64__
        __builtin_ia32_pause();
#else
        atomic_signal_fence(memory_order_seq_cst);
#endif
    }
}

static void queue_open(size_t room)
{
    capacity = room;
    if (capacity > BENCH_COUNT(cells))
        exit(2);
}

static void queue_produce(bench_queue_side *side)
{
    uint64_t k = 0;
    for (uint64_t lap = 0;; lap += 2)
        for (size_t at = 0; at < capacity; at++) {
            if (k == side->count)
                return;
            /* acquire: pairs with the release of who emptied it */
            while (atomic_load_explicit(&cells[at].stamp, memory_order_acquire) != lap)
                away();
            cells[at].item = side->first + k++;
            /* pairs with the acquire of who empties it */
            atomic_store_explicit(&cells[at].stamp, lap + 1, memory_order_release);
        }
}

static void queue_consume(bench_queue_side *side)
{
    for (uint64_t lap = 0;; lap += 2)
        for (size_t at = 0; at < capacity; at++) {
            /* acquire, both: pair with the releases of the producer, and of the end */
            while (atomic_load_explicit(&cells[at].stamp, memory_order_acquire) != lap + 1) {
                if (atomic_load_explicit(&closed, memory_order_acquire) &&
                    atomic_load_explicit(&cells[at].stamp, memory_order_acquire) != lap + 1)
                    return;
                away();
            }
            side->sum += cells[at].item;
            side->got++;
            /* pairs with the acquire of who fills it */
            atomic_store_explicit(&cells[at].stamp, lap + 2, memory_order_release);
        }
}

static void queue_close(void)
{
    atomic_store_explicit(&closed, 1, memory_order_release);
}

int main(int argc, char **argv)
{
    return bench_queue_main(argc, argv);
}

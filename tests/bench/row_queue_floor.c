/* Not a queue for anybody: the least that a lock around a ring can cost. No close but for the end,
 * no status, nobody sleeps: who finds the lock held, or nothing to do, stays away for a moment.
 * Released by an exchange, which is what tells a real lock that somebody sleeps; with a sixth
 * argument by a plain store, which cannot tell. One producer and one consumer. */
#include "bench_queue.h"

#include <stdatomic.h>

enum { QUEUE_AWAY = 40 }; /* pauses: the best of 1, 5, 40 and 200 */

static _Alignas(128) _Atomic uint32_t held;
static _Alignas(128) struct {
    uint64_t in, out, capacity;
    int closed;
} queue;
static uint64_t ring[1024];
static int by_store;

static void away(void)
{
    for (int pause = 0; pause < QUEUE_AWAY; pause++) {
#if defined __x86_64__
        __builtin_ia32_pause();
#else
        atomic_signal_fence(memory_order_seq_cst);
#endif
    }
}

static void lock(void)
{
    for (;;) {
        uint32_t nobody = 0;
        if (atomic_load_explicit(&held, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong_explicit(&held, &nobody, 1, memory_order_acquire,
                                                    memory_order_relaxed))
            return;
        away();
    }
}

static void unlock(void)
{
    if (by_store)
        atomic_store_explicit(&held, 0, memory_order_release);
    else
        atomic_exchange_explicit(&held, 0, memory_order_release);
}

static void queue_open(size_t capacity)
{
    queue.capacity = capacity;
    if (capacity > BENCH_COUNT(ring))
        exit(2);
}

static void queue_produce(bench_queue_side *side)
{
    for (uint64_t k = 0; k < side->count;) {
        lock();
        int room = queue.in - queue.out < queue.capacity;
        if (room)
            ring[queue.in++ % BENCH_COUNT(ring)] = side->first + k++;
        unlock();
        if (!room)
            away();
    }
}

static void queue_consume(bench_queue_side *side)
{
    for (int over = 0; !over;) {
        lock();
        int some = queue.out != queue.in;
        if (some) {
            side->sum += ring[queue.out++ % BENCH_COUNT(ring)];
            side->got++;
        }
        over = !some && queue.closed;
        unlock();
        if (!some)
            away();
    }
}

static void queue_close(void)
{
    lock();
    queue.closed = 1;
    unlock();
}

int main(int argc, char **argv)
{
    by_store = argc > 6;
    return bench_queue_main(argc, argv);
}

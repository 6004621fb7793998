/* The queue of the textbook: a ring, a mutex, two condition variables. */
#include "bench_queue.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER, freed = PTHREAD_COND_INITIALIZER;
static uint64_t *ring;
static size_t capacity, head, length;
static int closed;

static void queue_open(size_t wanted)
{
    capacity = wanted;
    ring = bench_memory(capacity * sizeof *ring);
}

static void queue_produce(bench_queue_side *side)
{
    for (uint64_t k = 0; k < side->count; k++) {
        pthread_mutex_lock(&mutex);
        while (length == capacity)
            pthread_cond_wait(&freed, &mutex);
        ring[(head + length++) % capacity] = side->first + k;
        pthread_mutex_unlock(&mutex);
        pthread_cond_signal(&filled);
    }
}

static void queue_consume(bench_queue_side *side)
{
    for (;;) {
        pthread_mutex_lock(&mutex);
        while (!length && !closed)
            pthread_cond_wait(&filled, &mutex);
        if (!length) {
            pthread_mutex_unlock(&mutex);
            return;
        }
        side->sum += ring[head];
        side->got++;
        head = (head + 1) % capacity;
        length--;
        pthread_mutex_unlock(&mutex);
        pthread_cond_signal(&freed);
    }
}

static void queue_close(void)
{
    pthread_mutex_lock(&mutex);
    closed = 1;
    pthread_mutex_unlock(&mutex);
    pthread_cond_broadcast(&filled);
}

int main(int argc, char **argv)
{
    return bench_queue_main(argc, argv);
}

/* any.c: small programs by number: three threads of a few steps each, drawn from atomic operations
   of all orders, fences, a mutex, a condition, sleeps, yields, signals and a pipe. They say what
   each thread has seen, so that two ways of searching can be compared: check.sh wants the same
   outcomes with and without reduction. */
#define _GNU_SOURCE
#include "corpus.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { THREADS = 3, STEPS = 4, PLACES = 3 };

static atomic_int place[PLACES];
static mtx_t mutex;
static cnd_t condition;
static int guarded, program, fds[2];
static char outcome[THREADS][80];

static unsigned draw(unsigned *state, unsigned below)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 16) % below;
}

static void count_signal(int number)
{
    (void)number;
    atomic_fetch_add_explicit(&place[0], 4, memory_order_relaxed);
}

/* Answers a digit. */
static int system_step(unsigned *state)
{
    char byte = (char)('1' + draw(state, 3));

    switch (draw(state, 5)) {
    case 0:
        thrd_yield();
        return 9;
    case 1:
        kill(getpid(), SIGUSR1);
        return 9;
    case 2:
        return write(fds[1], &byte, 1) == 1 ? 9 : 0;
    case 3:
        return read(fds[0], &byte, 1) == 1 ? byte - '0' : 0;
    default:
        return poll(&(struct pollfd){.fd = fds[0], .events = POLLIN}, 1, (int)draw(state, 2)) + 1;
    }
}

static int any_fence(unsigned kind)
{
    if (kind < 2)
        atomic_thread_fence(kind ? memory_order_seq_cst : memory_order_acq_rel);
    else if (kind == 2)
        atomic_signal_fence(memory_order_seq_cst);
    else /* membarrier, any_program has registered */
        assert(syscall(SYS_membarrier, 8, 0, 0) == 0);
    return 9;
}

static int one_step(unsigned *state)
{
    static const memory_order loads[] = {memory_order_relaxed, memory_order_acquire,
                                         memory_order_seq_cst};
    static const memory_order stores[] = {memory_order_relaxed, memory_order_release,
                                          memory_order_seq_cst};
    atomic_int *p = &place[draw(state, PLACES)];
    int expected = 0, seen;

    switch (draw(state, 12)) {
    case 0:
    case 1:
        return atomic_load_explicit(p, loads[draw(state, 3)]);
    case 2:
    case 3:
        atomic_store_explicit(p, (int)draw(state, 3) + 1, stores[draw(state, 3)]);
        return 9;
    case 4:
        return atomic_fetch_add_explicit(p, 1, memory_order_acq_rel);
    case 5:
        expected = (int)draw(state, 2);
        atomic_compare_exchange_strong_explicit(p, &expected, 3, memory_order_seq_cst,
                                                loads[draw(state, 3)]);
        return expected;
    case 6:
        return any_fence(draw(state, 4));
    case 7:
        mtx_lock(&mutex);
        seen = guarded++;
        if (draw(state, 2) && !seen)
            cnd_timedwait(&condition, &mutex, &(struct timespec){.tv_sec = 1800000000});
        else
            cnd_signal(&condition);
        mtx_unlock(&mutex);
        return seen;
    case 8:
    case 9:
    case 10:
        return system_step(state);
    default:
        thrd_sleep(&(struct timespec){.tv_nsec = 1 + (long)draw(state, 3)}, NULL);
        return 9;
    }
}

static int body(void *which)
{
    int me = (int)(intptr_t)which;
    unsigned state = (unsigned)(program * THREADS + me) * 2654435761u;

    for (int i = 0; i < STEPS; i++)
        outcome[me][i] = (char)('0' + one_step(&state));
    return 0;
}

int any_program(int number)
{
    thrd_t threads[THREADS];

    program = number;
    mtx_init(&mutex, mtx_plain);
    cnd_init(&condition);
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = count_signal}, NULL);
    assert(pipe2(fds, O_NONBLOCK) == 0);
    assert(syscall(SYS_membarrier, 16, 0, 0) == 0);
    for (int i = 0; i < THREADS; i++)
        assert(thrd_create(&threads[i], body, (void *)(intptr_t)i) == thrd_success);
    for (int i = 0; i < THREADS; i++)
        thrd_join(threads[i], NULL);
    close(fds[0]);
    close(fds[1]);
    printf("%s %s %s: %d %d %d\n", outcome[0], outcome[1], outcome[2], atomic_load(&place[0]),
           atomic_load(&place[1]), atomic_load(&place[2]));
    return 0;
}

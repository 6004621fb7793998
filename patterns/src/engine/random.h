/* random.h: a small generator whose numbers are the same for a seed on every machine. */
#ifndef TWILL__ENGINE_RANDOM_H
#define TWILL__ENGINE_RANDOM_H

#include "engine/wide.h"
#include "platform/platform.h"

/* splitmix64 (Steele, Lea, Flood 2014): the state is a counter, so any value is a good seed. */
static inline uint64_t twill__random(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Uniform in 0..most, both included. The bias is at most (most + 1) / 2^64. */
static inline uint64_t twill__random_to(uint64_t *state, uint64_t most)
{
    uint64_t number = twill__random(state);
    return most == UINT64_MAX ? number : twill__wide_product(number, most + 1).high;
}

/* A state to begin with: the seed, or, if that is 0, one that threads, objects and moments do not
   share. */
static inline uint64_t twill__random_begin(uint64_t seed, const void *object)
{
    uint64_t state = (uint64_t)twill__clock_now() ^ (uint64_t)twill__generation() << 48;
    if (seed)
        return seed;
    state = twill__random(&state) ^ twill__thread_number();
    state = twill__random(&state) ^ (uint64_t)(uintptr_t)object;
    return twill__random(&state);
}

#endif

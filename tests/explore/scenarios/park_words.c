/* Two words that share a bucket of the table (where there is a table), three that sleep, wakes of
   one and of all: a wake is for its word alone, and nobody sleeps on. */
#include "cancel_common.h"

#include <limits.h>

static _Atomic uint32_t words[4096];
static _Atomic uint32_t *other;
static int left;

static void sleep_on(void *word_)
{
    _Atomic uint32_t *word = word_;
    int saved = errno = ETIMEDOUT; /* of something else */
    while (!atomic_load_explicit(word, memory_order_acquire))
        assert(twill__park(word, 0, 0)); /* no deadline: never late */
    assert(errno == saved);
    left++;
}

static void sleep_too(void *word)
{
    while (!atomic_load_explicit((_Atomic uint32_t *)word, memory_order_acquire))
        assert(twill__park(word, 0, TWILL_FOREVER));
}

int main(void)
{
    twill__thrd threads[3];

    other = &words[1];
#ifdef TWILL_NO_FUTEX
    while (twill__bucket_of(other) != twill__bucket_of(&words[0]))
        other++;
#endif
    go(&threads[0], sleep_too, &words[0]);
    go(&threads[1], sleep_on, other);
    go(&threads[2], sleep_too, &words[0]);
    atomic_store_explicit(&words[0], 1, memory_order_release);
    twill__wake(&words[0], INT_MAX);
    atomic_store_explicit(other, 1, memory_order_release);
    twill__wake(other, 1);
    end(threads, 3);
    assert(left == 1);
    return 0;
}

/* The lock that a store lets go, alone: three threads, a plain counter; who waits is counted, and
   the last one to leave frees the memory that it stands in. */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TWILL_IMPLEMENTATION
#include "twill_producer_consumer.h"

struct shared {
    twill__light_lock lock;
    int users, entered;
};

static void use(void *arg)
{
    struct shared *shared = arg;
    bool last;

    twill__light_take(&shared->lock, 0);
    shared->entered++;
    twill__light_unlock(&shared->lock);
    twill__light_take(&shared->lock, 0);
    last = --shared->users == 0;
    assert(!last || (shared->entered == 3 && !twill__light_wanted(&shared->lock)));
    twill__light_unlock(&shared->lock);
    if (last)
        free(shared);
}

int main(void)
{
    struct shared *shared = calloc(1, sizeof *shared);
    twill__thrd threads[2];

    assert(shared);
    shared->users = 3;
    memset(threads, 0, sizeof threads);
    for (int i = 0; i < 2; i++) {
        threads[i].fn = use;
        threads[i].arg = shared;
        threads[i].cpu = UINT_MAX;
        assert(twill__thread_start(&threads[i]));
    }
    use(shared);
    for (int i = 0; i < 2; i++)
        twill__thread_join(&threads[i]);
    return 0;
}

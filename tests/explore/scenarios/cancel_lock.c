/* The lock alone: three threads, a plain counter, and the last one to leave frees the memory
   that it stands in. */
#include "cancel_common.h"

struct shared {
    _Atomic uint32_t lock;
    int users, entered;
};

static void use(void *arg)
{
    struct shared *shared = arg;
    bool last;

    twill__lock(&shared->lock);
    shared->entered++;
    twill__unlock(&shared->lock);
    twill__lock(&shared->lock);
    last = --shared->users == 0;
    assert(!last || (shared->entered == 3 && !twill__lock_wanted(&shared->lock)));
    twill__unlock(&shared->lock);
    if (last)
        free(shared);
}

int main(void)
{
    struct shared *shared = calloc(1, sizeof *shared);
    twill__thrd threads[2];

    assert(shared);
    shared->users = 3;
    go(&threads[0], use, shared);
    go(&threads[1], use, shared);
    use(shared);
    end(threads, 2);
    return 0;
}

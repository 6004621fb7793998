/* Each wake of one wakes one: two sleepers, two tickets, two wakes; and a wake of one more than
   there are. */
#include "cancel_common.h"

static _Atomic uint32_t tickets;
static _Atomic uint32_t taken;

static void take(void *unused)
{
    uint32_t seen = atomic_load(&tickets);
    (void)unused;
    for (;;) {
        if (!seen) {
            twill__park(&tickets, 0, 0);
            seen = atomic_load(&tickets);
        } else if (atomic_compare_exchange_strong(&tickets, &seen, seen - 1)) {
            break;
        }
    }
    atomic_fetch_add(&taken, 1);
}

int main(void)
{
    twill__thrd threads[2];

    go(&threads[0], take, NULL);
    go(&threads[1], take, NULL);
    atomic_fetch_add(&tickets, 1);
    twill__wake(&tickets, 1);
    atomic_fetch_add(&tickets, 1);
    twill__wake(&tickets, 2);
    end(threads, 2);
    assert(atomic_load(&taken) == 2 && atomic_load(&tickets) == 0);
    return 0;
}

/* A typed loop goes through a chunk in pieces. An item ends its thread in the first one: what
   follows this piece in the chunk is done by the caller; every other item is asked once.
   EXPLORE-FLAGS: -DTWILL__PIECE=2 */
#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>

#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"

enum { ITEMS = 8 };
static atomic_int asked[ITEMS];
static _Atomic uint32_t came;
static _Thread_local bool is_main;

static bool look(int i)
{
    assert(atomic_fetch_add(&asked[i], 1) == 0);
    while (is_main && !atomic_load(&came)) /* exit: the other one has its chunk, too */
        twill__park(&came, 0, 0);
    if (is_main)
        return true;
    atomic_store(&came, 1);
    twill__wake(&came, INT_MAX);
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

TWILL_DEFINE_FILTER(filter_typed, int, x, look(x))

int main(void)
{
    int in[ITEMS], out[ITEMS], all = 0;
    size_t kept;
    twill_report report;

    is_main = true;
    for (int i = 0; i < ITEMS; i++)
        in[i] = i;
    assert(filter_typed(in, ITEMS, out, &kept,
                        &(twill_parallel_options){.schedule = TWILL_SCHEDULE_STATIC,
                                                  .run = {.workers = 2,
                                                          .on_error = TWILL_ON_ERROR_COLLECT,
                                                          .report = &report}}) == TWILL_FAILED);
    for (int i = 0; i < ITEMS; i++)
        all += atomic_load(&asked[i]);
    assert(all == ITEMS - 1); /* but the rest of the piece */
    assert(report.total == ITEMS && report.done == ITEMS - 2 && report.failed == 1);
    return 0;
}

/* The same without end markers.
   EXPLORE: --schedules=300 */
#undef NDEBUG
#include "explore.h"
#include <assert.h>

#define main solution
#include "../../../examples/exercises/solutions/producer_consumer_close.c"
#undef main

int main(void)
{
    twill_ns since = twill_now();
    /* one schedule in 700 of pct needs no more than the 1000 ms; one sleep more: one in 25 */
    EXPLORE_MUST_REACH("in 1100 ms");
    assert(solution() == 0);
    assert(twill_now() - since >= TWILL_MS(1000));
    if (twill_now() - since <= TWILL_MS(1100))
        EXPLORE_REACHED("in 1100 ms");
    return 0;
}

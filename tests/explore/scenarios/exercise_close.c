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
    EXPLORE_MUST_REACH("in 1000 ms");
    assert(solution() == 0);
    assert(twill_now() - since >= TWILL_MS(1000));
    if (twill_now() - since == TWILL_MS(1000))
        EXPLORE_REACHED("in 1000 ms");
    return 0;
}

/* The exercise of producer and consumers in virtual time: 20 items of 0.1 s and two consumers take
   1 s and no more where nobody is late.
   EXPLORE: --schedules=1000 */
#undef NDEBUG
#include "explore.h"
#include <assert.h>

#define main solution
#include "../../../examples/exercises/solutions/producer_consumer.c"
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

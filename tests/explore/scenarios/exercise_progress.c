/* The exercise of the progress tracker in virtual time: 20 sleeps of 0.1 s, five at once, are at
   least 0.4 s.
   EXPLORE: --schedules=300 */
#undef NDEBUG
#include "explore.h"
#include <assert.h>

#define main solution
#include "../../../examples/exercises/solutions/progress_tracker.c"
#undef main

int main(void)
{
    twill_ns since = twill_now();
    assert(solution() == 0);
    assert(twill_now() - since >= TWILL_MS(400));
    return 0;
}

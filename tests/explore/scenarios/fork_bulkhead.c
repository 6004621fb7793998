/* EXPLORE: --polling
   A fork while another thread waits at a bulkhead. In the child nobody waits: its own threads wait
   there anew, and the first of them is served; the parent notices nothing. */
#include "rate_common.h"

extern int fork(void);

int main(void)
{
    static twill_bulkhead bulkhead;
    struct caller parents = {.bulkhead = &bulkhead}, own = {.bulkhead = &bulkhead};
    EXPLORE_MUST_REACH("parent");
    EXPLORE_MUST_REACH("child");
    assert(twill_bulkhead_init(&bulkhead, 1, 2) == TWILL_OK);
    assert(twill_bulkhead_enter(&bulkhead) == TWILL_OK);
    go(&parents, enter);
    if (fork() == 0) {
        EXPLORE_REACHED("child");
        go(&own, enter);
        assert(twill_bulkhead_leave(&bulkhead) == TWILL_OK);
        end(&own);
        assert(own.status == TWILL_OK);
        return 0;
    }
    EXPLORE_REACHED("parent");
    assert(twill_bulkhead_leave(&bulkhead) == TWILL_OK);
    end(&parents);
    assert(parents.status == TWILL_OK);
    return 0;
}

/* EXPLORE: --polling
   The books of the one-call form are the process's. A fork while another thread has their lock: in
   the child they begin anew, and a call works; the parent notices nothing. */
#include "explore.h"
#include "timeout_common.h"

extern int fork(void);

static void call_one(void *side_)
{
    struct side *side = side_;
    side->status = twill_call_with_timeout(&side->in, sizeof side->in, &side->out, sizeof side->out,
                                           work, TWILL_SEC(1), NULL);
}

int main(void)
{
    struct side parents = {.in = -7}, own = {.in = -8};

    EXPLORE_MUST_REACH("parent");
    EXPLORE_MUST_REACH("child");
    if (!go(&parents, call_one, NULL))
        return 0;
    if (fork() == 0) {
        EXPLORE_REACHED("child");
        call_one(&own);
        assert(own.status == TWILL_FAILED || own.status == TWILL_TIMEOUT);
        assert(twill_timeout_drain(NULL, (twill_until){0, NULL}, NULL) == TWILL_OK);
        return 0;
    }
    EXPLORE_REACHED("parent");
    end(&parents);
    assert(parents.status == TWILL_FAILED || parents.status == TWILL_TIMEOUT);
    assert(twill_timeout_drain(NULL, (twill_until){0, NULL}, NULL) == TWILL_OK);
    return 0;
}

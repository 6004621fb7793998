/* EXPLORE: --polling
   A fork at any moment of another thread's fire and of a wait: in the child the token works anew,
   with its lock free and nobody in its lists; what had fired there stays fired. */
#include "cancel_common.h"

#include "explore.h"

extern int fork(void);

static twill_cancel token;

static void fire(void *unused)
{
    (void)unused;
    twill_cancel_fire(&token, 3);
}

static void wait_for_it(void *unused)
{
    (void)unused;
    assert(twill_sleep((twill_until){.cancel = &token}) == TWILL_CANCELLED);
}

int main(void)
{
    twill__thrd threads[2];
    bool fired;

    EXPLORE_MUST_REACH("child before the fire");
    EXPLORE_MUST_REACH("child after the fire");
    twill_cancel_init(&token, NULL);
    go(&threads[0], wait_for_it, NULL);
    go(&threads[1], fire, NULL);
    if (fork() == 0) {
        fired = twill_cancel_fired(&token);
        EXPLORE_REACHED(fired ? "child after the fire" : "child before the fire");
        go(&threads[0], wait_for_it, NULL);
        twill_cancel_fire(&token, 4);
        end(threads, 1);
        assert(twill_cancel_reason(&token) == (fired ? 3 : 4));
        twill_cancel_detach(&token);
        return 0;
    }
    end(threads, 2);
    twill_cancel_detach(&token);
    assert(bare(&token));
    return 0;
}

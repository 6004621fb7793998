/* EXPLORE: --polling
   A fork while another thread waits for a token. In the child nobody waits, and two threads find
   that out at once: one of them makes the limiter the child's, and the token that is given back is
   there once. */
#include "rate_common.h"

extern int fork(void);

int main(void)
{
    static twill_rate_limiter limiter;
    twill_rate_limiter_options options = {.tokens = 1, .burst = 2, .used = 2};
    struct caller parents = {.limiter = &limiter, .n = 1}, own = parents;
    EXPLORE_MUST_REACH("parent");
    EXPLORE_MUST_REACH("child");
    options.per = TWILL_FOREVER - 1; /* no token comes by itself */
    assert(twill_rate_limiter_init(&limiter, &options) == TWILL_OK);
    go(&parents, acquire);
    if (fork() == 0) {
        EXPLORE_REACHED("child");
        go(&own, try_one);
        twill_rate_limiter_give_back(&limiter, 1);
        end(&own);
        assert(own.status == TWILL_OK || own.status == TWILL_EMPTY);
        assert(twill_rate_limiter_try_acquire(&limiter, 1) ==
               (own.status == TWILL_OK ? TWILL_EMPTY : TWILL_OK));
        return 0;
    }
    EXPLORE_REACHED("parent");
    twill_rate_limiter_give_back(&limiter, 1);
    end(&parents);
    assert(parents.status == TWILL_OK);
    return 0;
}

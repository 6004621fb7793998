/* The object goes while a task of it ends and its handle is released: the last of the three frees
   the core, and nobody looks at it afterwards. The result that nobody took is told once. */
#include "future_common.h"

static void release_it(void *side_)
{
    struct side *side = side_;

    twill_future_release(side->future);
}

int main(void)
{
    twill__core *core = core_of();
    struct side runner = {0}, other = {0};
    twill__record *record = twill__record_get(core, 0);

    twill__record_tells(record);
    runner.future = other.future = twill__record_hold(record);
    go(&runner, end_well);
    go(&other, release_it);
    twill__core_leave(core);
    end(&other);
    end(&runner);
    assert(forgotten == 1);
    return 0;
}

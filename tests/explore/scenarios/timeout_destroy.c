/* Destroy with a straggler inside, at its end, or gone: it never waits for it, and the last one
   frees the object, the block and the thread's record. */
#include "timeout_common.h"

int main(void)
{
    twill_timeout *timeout =
        timeout_of((twill_timeout_options){.timeout = TWILL_US(1), .idle_threads = 1});
    twill_status first = call(timeout, 2, work, (twill_until){0, NULL});
    twill_status second = call(timeout, 0, work, twill_within(TWILL_SEC(1)));

    assert(first == TWILL_OK || first == TWILL_TIMEOUT);
    assert(second == TWILL_OK || second == TWILL_TIMEOUT);
    assert(twill_timeout_destroy(timeout) == TWILL_OK);
    while (atomic_load(&live))
        twill_sleep(twill_within(TWILL_US(5)));
    assert(atomic_load(&freed) == 2);
    assert(atomic_load(&ran) == atomic_load(&taken) + atomic_load(&discarded));
    return 0;
}

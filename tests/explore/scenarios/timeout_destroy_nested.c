/* Destroy while a straggler is in a call on the same object, about to begin one, or through with
   it: destroy waits for none of them, that call is answered (CLOSED, if it comes later), and the
   threads that it has started are nobody's to join: they free themselves. */
#include "timeout_common.h"

static twill_timeout *shared;

static int nests(const void *in, void *out, const twill_task *task)
{
    twill_status status;
    (void)in;
    atomic_fetch_add(&ran, 1);
    *(int *)out = 1;
    status = call(shared, 0, work, (twill_until){0, NULL}); /* deaf to its own deadline */
    assert(status == TWILL_OK || status == TWILL_TIMEOUT || status == TWILL_CLOSED);
    return task->index != 0;
}

int main(void)
{
    twill_status status;

    shared = timeout_of((twill_timeout_options){.timeout = TWILL_US(1), .idle_threads = 1});
    status = call(shared, 0, nests, (twill_until){0, NULL});
    assert(status == TWILL_OK || status == TWILL_TIMEOUT);
    assert(twill_timeout_destroy(shared) == TWILL_OK);
    while (atomic_load(&live))
        twill_sleep(twill_within(TWILL_US(5)));
    assert(atomic_load(&freed) == 2);
    assert(atomic_load(&ran) == atomic_load(&taken) + atomic_load(&discarded));
    return 0;
}

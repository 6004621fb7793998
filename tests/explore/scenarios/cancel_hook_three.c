/* Three threads wait for the end of one hook: all of them go on. */
#include "cancel_common.h"

static twill_cancel token;
static twill_cancel_hook hook;
static _Atomic uint32_t begun;
static int calls;

static void sleep_a_little(int reason, const twill_task *task)
{
    (void)reason;
    (void)task;
    atomic_store(&begun, 1);
    twill__wake(&begun, INT_MAX);
    assert(twill_sleep(twill_within(TWILL_MS(1))) == TWILL_OK);
    calls++;
}

static void remove_it(void *arg)
{
    (void)arg;
    while (!atomic_load(&begun))
        twill__park(&begun, 0, 0);
    twill_cancel_remove_hook(&token, &hook);
    assert(calls == 1);
}

int main(void)
{
    twill__thrd threads[3];

    hook.fn = sleep_a_little;
    twill_cancel_add_hook(&token, &hook);
    for (int k = 0; k < 3; k++)
        go(&threads[k], remove_it, NULL);
    twill_cancel_fire(&token, 1);
    end(threads, 3);
    assert(bare(&token));
    return 0;
}

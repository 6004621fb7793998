/* A detach waits for the whole fire, not for the hook that runs when it comes. */
#include "cancel_common.h"

static twill_cancel parent, *child;
static twill_cancel_hook hooks[2];
static int calls;

static void call(int reason, const twill_task *task)
{
    (void)reason;
    (void)task;
    calls++;
}

static void fire(void *arg)
{
    (void)arg;
    twill_cancel_fire(&parent, 1);
}

int main(void)
{
    twill__thrd thread;

    child = calloc(1, sizeof *child);
    assert(child);
    twill_cancel_init(child, &parent);
    for (int k = 0; k < 2; k++) {
        hooks[k].fn = call;
        twill_cancel_add_hook(child, &hooks[k]);
    }
    go(&thread, fire, NULL);
    twill_cancel_detach(child);
    assert(calls == 0 || calls == 2);
    calls = 100;
    free(child);
    end(&thread, 1);
    return 0;
}

/* A removal waits for its own hook, not for the whole fire: another hook of the token may wait
   for that removal. */
#include "cancel_common.h"

static twill_cancel token;
static twill_cancel_hook first, *second;
static _Atomic uint32_t begun, removed;

static void run_second(int reason, const twill_task *task)
{
    (void)reason;
    (void)task;
    atomic_store(&begun, 1);
    twill__wake(&begun, 1);
}

static void wait_for_removal(int reason, const twill_task *task)
{
    (void)reason;
    (void)task;
    while (!atomic_load(&removed))
        twill__park(&removed, 0, 0);
}

static void remove_second(void *arg)
{
    (void)arg;
    while (!atomic_load(&begun))
        twill__park(&begun, 0, 0);
    twill_cancel_remove_hook(&token, second);
    free(second);
    atomic_store(&removed, 1);
    twill__wake(&removed, 1);
}

int main(void)
{
    twill__thrd thread;

    second = calloc(1, sizeof *second);
    assert(second);
    first.fn = wait_for_removal;
    second->fn = run_second;
    twill_cancel_add_hook(&token, &first);
    twill_cancel_add_hook(&token, second); /* the last one in is the first one called */
    go(&thread, remove_second, NULL);
    twill_cancel_fire(&token, 1);
    end(&thread, 1);
    assert(bare(&token));
    return 0;
}

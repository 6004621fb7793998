/* Signals with an action: each is served by a call that began after it, without any help. */
#include "shutdown_common.h"

#include <signal.h>

#ifndef ORDER
#define ORDER memory_order_seq_cst
#endif
static _Atomic int came, served;

static void serve(int number, const twill_task *task)
{
    (void)task;
    assert(number == SIGHUP);
    atomic_store(&served, atomic_load_explicit(&came, ORDER));
}

static void send(void *side_)
{
    struct side *side = side_;
    for (int k = 0; k < 2; k++) {
        atomic_fetch_add_explicit(&came, 1, ORDER);
        come(side->shutdown, SIGHUP);
    }
}

int main(void)
{
    static twill_signal_action action = {SIGHUP, serve, NULL};
    struct side one = {.count = 0};
    twill_shutdown *shutdown = make((twill_shutdown_options){0});

    twill__lock(&shutdown->lock); /* as if given at create */
    shutdown->actions = &action;
    shutdown->options.action_count = 1;
    shutdown->kind[SIGHUP] = 2;
    twill__shutdown_unlock(shutdown);
    go(&one, send, shutdown);
    end(&one);
    while (atomic_load(&served) != 2)
        twill__yield();
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    assert(atomic_load(&served) == 2);
    return 0;
}

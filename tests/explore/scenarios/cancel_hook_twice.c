/* A hook takes itself away in its own call; it is taken away once more, by another thread, after
   the fire or while it goes on: that one waits for nobody who is gone. */
#include "cancel_common.h"

static twill_cancel token;
static twill_cancel_hook hook;
static int called;

static void on_fire(int reason, const twill_task *task)
{
    (void)reason, (void)task;
    called++;
    twill_cancel_remove_hook(&token, &hook);
}

static void fire(void *unused)
{
    (void)unused;
    twill_cancel_fire(&token, 1);
}

int main(void)
{
    twill__thrd thread;

    twill_cancel_init(&token, NULL);
    hook.fn = on_fire;
    twill_cancel_add_hook(&token, &hook);
    go(&thread, fire, NULL);
    end(&thread, 1);
    assert(called == 1);
    twill_cancel_remove_hook(&token, &hook);
    twill_cancel_detach(&token);
    assert(bare(&token));
    return 0;
}

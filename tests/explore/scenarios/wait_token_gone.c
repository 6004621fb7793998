/* A waiting thread that has been nudged leaves its token alone: who fired may free it at once. */
#include "cancel_common.h"

static twill_cancel *token;

static void wait_for_token(void *arg)
{
    (void)arg;
    assert(sleep_on_heap(twill_until_cancelled(token)) == TWILL_CANCELLED);
}

static bool somebody_waits(void)
{
    twill__token *inner = twill__token_of(token);
    bool waits;

    twill__token_lock(inner);
    waits = inner->head.link != NULL;
    twill__unlock(&inner->lock);
    return waits;
}

int main(void)
{
    twill__thrd thread;

    token = calloc(1, sizeof *token);
    assert(token);
    twill_cancel_init(token, NULL);
    go(&thread, wait_for_token, NULL);
    while (!somebody_waits())
        twill__yield();
    twill_cancel_fire(token, 3);
    free(token);
    end(&thread, 1);
    return 0;
}

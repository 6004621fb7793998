/* A token's owner has done with it while two others may fire it: who shuts its gate waits for
   both, and then its memory may go. */
#include "pool_common.h"

static _Atomic uint32_t gate;
static twill_cancel *token;

static void fire(void *side)
{
    twill__gate_fire(NULL, &gate, token, TWILL_CANCELLED);
}

int main(void)
{
    struct side one = {0}, two = {0};

    quiet();
    token = malloc(sizeof *token);
    assert(token);
    twill_cancel_init(token, NULL);
    go(&one, fire);
    go(&two, fire);
    twill__gate_shut(&gate);
    free(token);
    end(&one);
    end(&two);
    return 0;
}

/* Hooks that remove themselves and free their token; and one that frees the token's parent, too.
   Two threads fire. */
#include "cancel_common.h"

struct owner {
    twill_cancel token;
    twill_cancel_hook hook;
    twill_cancel *above; /* goes with it, or NULL */
};

static twill_cancel top;
static _Atomic int calls;

static void go_away(int reason, const twill_task *task)
{
    struct owner *owner = task->context;
    twill_cancel *above = owner->above;

    (void)reason;
    twill_cancel_remove_hook(&owner->token, &owner->hook);
    twill_cancel_detach(&owner->token);
    free(owner);
    if (above) {
        twill_cancel_detach(above);
        free(above);
    }
    atomic_fetch_add(&calls, 1);
}

static void add_owner(twill_cancel *above)
{
    struct owner *owner = calloc(1, sizeof *owner);

    assert(owner);
    owner->above = above;
    twill_cancel_init(&owner->token, above ? above : &top);
    owner->hook.fn = go_away;
    owner->hook.context = owner;
    twill_cancel_add_hook(&owner->token, &owner->hook);
}

static void fire_two(void *arg)
{
    (void)arg;
    twill_cancel_fire(&top, 2);
}

int main(void)
{
    twill_cancel *middle = calloc(1, sizeof *middle);
    twill__thrd thread;

    assert(middle);
    twill_cancel_init(middle, &top);
    add_owner(NULL);
    add_owner(middle);
    go(&thread, fire_two, NULL);
    twill_cancel_fire(&top, 4);
    end(&thread, 1);
    assert(calls == 2 && bare(&top));
    return 0;
}

/* Removal waits for a hook that runs elsewhere: token, hook and what it uses are freed right
   after. */
#include "cancel_common.h"

struct owner {
    twill_cancel token;
    twill_cancel_hook hook;
    int alive;
};

static twill_cancel parent;
static _Atomic int calls;

static void use_owner(int reason, const twill_task *task)
{
    struct owner *owner = task->context;

    assert(reason == 4);
    owner->alive++;
    atomic_fetch_add(&calls, 1);
}

static void add_remove_free(void *arg)
{
    struct owner *owner = calloc(1, sizeof *owner);

    (void)arg;
    assert(owner);
    twill_cancel_init(&owner->token, &parent);
    owner->hook.fn = use_owner;
    owner->hook.context = owner;
    twill_cancel_add_hook(&owner->token, &owner->hook);
    twill_cancel_remove_hook(&owner->token, &owner->hook);
    assert(owner->alive == 0 || owner->alive == 1);
    owner->alive = 100;
    twill_cancel_detach(&owner->token);
    free(owner);
}

int main(void)
{
    twill__thrd threads[2];

    go(&threads[0], add_remove_free, NULL);
    go(&threads[1], add_remove_free, NULL);
    twill_cancel_fire(&parent, 4);
    end(threads, 2);
    assert(calls <= 2 && bare(&parent));
    return 0;
}

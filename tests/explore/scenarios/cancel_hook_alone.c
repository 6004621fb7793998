/* The same with a token that lives on: only the hook's memory goes. */
#include "cancel_common.h"

struct owner {
    twill_cancel_hook hook;
    int alive;
};

static twill_cancel parent, child;

static void use_owner(int reason, const twill_task *task)
{
    struct owner *owner = task->context;

    (void)reason;
    owner->alive++;
}

static void add_remove_free(void *arg)
{
    struct owner *owner = calloc(1, sizeof *owner);

    (void)arg;
    assert(owner);
    owner->hook.fn = use_owner;
    owner->hook.context = owner;
    twill_cancel_add_hook(&child, &owner->hook);
    twill_cancel_remove_hook(&child, &owner->hook);
    assert(owner->alive == 0 || owner->alive == 1);
    free(owner);
}

int main(void)
{
    twill__thrd threads[2];

    twill_cancel_init(&child, &parent);
    go(&threads[0], add_remove_free, NULL);
    go(&threads[1], add_remove_free, NULL);
    twill_cancel_fire(&parent, 4);
    end(threads, 2);
    assert(bare(&parent) && bare(&child));
    twill_cancel_detach(&child);
    return 0;
}

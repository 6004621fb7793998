/* A child fired directly and through its parent at once, with two hooks that are removed and
   freed meanwhile. */
#include "cancel_common.h"

struct owner {
    twill_cancel_hook hook;
    int alive;
};

static twill_cancel parent, child;

static void use_owner(int reason, const twill_task *task)
{
    struct owner *owner = task->context;

    assert(reason == 2 || reason == 4);
    owner->alive++;
    twill__yield();
    owner->alive++;
}

static void remove_both(void *arg)
{
    struct owner **owners = arg;

    for (int i = 0; i < 2; i++) {
        twill_cancel_remove_hook(&child, &owners[i]->hook);
        assert(owners[i]->alive == 0 || owners[i]->alive == 2);
        free(owners[i]);
    }
}

static void fire_child(void *arg)
{
    (void)arg;
    twill_cancel_fire(&child, 2);
}

int main(void)
{
    struct owner *owners[2];
    twill__thrd threads[2];

    twill_cancel_init(&child, &parent);
    for (int i = 0; i < 2; i++) {
        owners[i] = calloc(1, sizeof *owners[i]);
        assert(owners[i]);
        owners[i]->hook.fn = use_owner;
        owners[i]->hook.context = owners[i];
        twill_cancel_add_hook(&child, &owners[i]->hook);
    }
    go(&threads[0], remove_both, owners);
    go(&threads[1], fire_child, NULL);
    twill_cancel_fire(&parent, 4);
    end(threads, 2);
    assert(bare(&parent) && bare(&child));
    twill_cancel_detach(&child);
    return 0;
}

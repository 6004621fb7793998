/* Hooks that stay: whether added before, during or after the fire, each runs exactly once. */
#include "cancel_common.h"

static twill_cancel parent, child;
static _Atomic int calls[3];
static twill_cancel_hook hooks[3];

static void count(int reason, const twill_task *task)
{
    assert(reason == 2 || reason == 4);
    atomic_fetch_add((_Atomic int *)task->context, 1);
}

static void add(int i)
{
    hooks[i].fn = count;
    hooks[i].context = &calls[i];
    twill_cancel_add_hook(i == 1 ? &parent : &child, &hooks[i]);
}

static void add_first(void *arg)
{
    (void)arg;
    add(0);
}

static void add_second(void *arg)
{
    (void)arg;
    add(1);
    add(2);
}

static void fire_two(void *arg)
{
    (void)arg;
    twill_cancel_fire(&parent, 2);
}

int main(void)
{
    twill__thrd threads[3];

    twill_cancel_init(&child, &parent);
    go(&threads[0], add_first, NULL);
    go(&threads[1], add_second, NULL);
    go(&threads[2], fire_two, NULL);
    twill_cancel_fire(&parent, 4);
    end(threads, 3);
    for (int i = 0; i < 3; i++)
        assert(calls[i] == 1);
    assert(bare(&parent) && bare(&child));
    twill_cancel_detach(&child);
    return 0;
}

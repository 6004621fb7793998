/* A hook frees itself and tells an owner elsewhere, who detaches and frees its token and the one
   above while the fire, which comes from the top, may still be in them. The owner waits twice in
   a row, with nodes in the same place of a stack: a node's word has to be made ready by an
   atomic store. */
#include "cancel_common.h"

struct house {
    twill_cancel middle, low;
};

static twill_cancel top;
static twill_cancel_hook *hook;
static struct house *house;
static _Atomic uint32_t told;

static void tell_owner(int reason, const twill_task *task)
{
    (void)reason;
    (void)task;
    twill_cancel_remove_hook(&house->low, hook);
    free(hook);
    atomic_store_explicit(&told, 1, memory_order_release);
    twill__wake(&told, 1);
}

static void own(void *arg)
{
    (void)arg;
    while (!atomic_load_explicit(&told, memory_order_acquire))
        twill__park(&told, 0, 0);
    twill_cancel_detach(&house->low);
    twill_cancel_detach(&house->middle);
    free(house);
}

static void fire_two(void *arg)
{
    (void)arg;
    twill_cancel_fire(&top, 2);
}

int main(void)
{
    twill__thrd threads[2];

    house = calloc(1, sizeof *house);
    hook = calloc(1, sizeof *hook);
    assert(house && hook);
    twill_cancel_init(&house->middle, &top);
    twill_cancel_init(&house->low, &house->middle);
    hook->fn = tell_owner;
    twill_cancel_add_hook(&house->low, hook);
    go(&threads[0], own, NULL);
    go(&threads[1], fire_two, NULL);
    twill_cancel_fire(&top, 4);
    end(threads, 2);
    assert(bare(&top));
    return 0;
}

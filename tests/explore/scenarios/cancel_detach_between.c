/* The lowest token goes in its own hook; the owner of the one above detaches it while the fire
   is on its way back. */
#include "cancel_common.h"

static twill_cancel top, *middle, *low;
static twill_cancel_hook hook;
static _Atomic uint32_t told;

static void tell_owner(int reason, const twill_task *task)
{
    (void)reason;
    (void)task;
    twill_cancel_remove_hook(low, &hook);
    twill_cancel_detach(low);
    free(low);
    atomic_store_explicit(&told, 1, memory_order_release);
    twill__wake(&told, 1);
}

static void own(void *arg)
{
    (void)arg;
    while (!atomic_load_explicit(&told, memory_order_acquire))
        twill__park(&told, 0, 0);
    twill_cancel_detach(middle);
    free(middle);
}

int main(void)
{
    twill__thrd thread;

    middle = calloc(1, sizeof *middle);
    low = calloc(1, sizeof *low);
    assert(middle && low);
    twill_cancel_init(middle, &top);
    twill_cancel_init(low, middle);
    hook.fn = tell_owner;
    twill_cancel_add_hook(low, &hook);
    go(&thread, own, NULL);
    twill_cancel_fire(&top, 4);
    end(&thread, 1);
    assert(bare(&top));
    return 0;
}

/* EXPLORE-FLAGS: -UTWILL__SPIN -DTWILL__SPIN=1
   EXPLORE: --polling
   A spin of a moment: it ends by itself, says truly whether the word has changed, and who sees the
   change sees what was written before it. Alone on one processor it looks once. */
#include "cancel_common.h"

#include "explore.h"

static _Atomic uint32_t word;
static int answer;

static void give(void *unused)
{
    (void)unused;
    answer = 42;
    atomic_store_explicit(&word, 7, memory_order_release);
}

int main(void)
{
    twill__thrd thread;
    uint32_t cpus = explore_choice(2) ? 4 : 1;
    unsigned yields = explore_choice(2) ? 2 : 0, steps;
    twill_ns limit = explore_choice(2) ? 2000 : 0, before;
    bool changed;

    atomic_store(&twill__process()->cpus, cpus);
    atomic_store(&word, 1);
    assert(twill__spin(&word, 0, limit, yields)); /* it looks first */
    atomic_store(&word, 0);
    go(&thread, give, NULL);
    before = twill__clock_now();
    steps = explore_steps();
    changed = twill__spin(&word, 0, limit, yields);
    steps = explore_steps() - steps;
    assert(changed || twill__clock_now() >= before + (cpus > 1 ? limit : 0));
    assert(!changed || answer == 42);
    assert(cpus > 1 || steps == 2); /* reads the number, looks once */
    EXPLORE_MUST_REACH("changed");
    EXPLORE_MUST_REACH("changed at the second yield");
    EXPLORE_MUST_REACH("not changed, one processor");
    EXPLORE_MUST_REACH("not changed, after a while");
    if (!changed)
        EXPLORE_REACHED(cpus == 1 ? "not changed, one processor" : "not changed, after a while");
    else if (!limit && yields && steps == 1 + 32 + 2 + 2)
        EXPLORE_REACHED("changed at the second yield");
    else
        EXPLORE_REACHED("changed");
    end(&thread, 1);
    return 0;
}

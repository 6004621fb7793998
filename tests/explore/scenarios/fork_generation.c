/* EXPLORE: --polling
   Who asks first in which process this is, in two threads at once, after a fork and after a fork of
   the child: one number for each process, the same for all its threads. */
#include "cancel_common.h"

extern int fork(void);

static void ask(void *answer)
{
    *(uint32_t *)answer = twill__generation();
}

static uint32_t ask_in_two(void)
{
    twill__thrd thread;
    uint32_t here, there = 0;

    go(&thread, ask, &there);
    here = twill__generation();
    end(&thread, 1);
    assert(here == there && here != 0);
    assert(twill__generation() == here);
    return here;
}

int main(void)
{
    twill__thrd thread;
    uint32_t first = ask_in_two(), second, there = 0;

    if (fork() != 0) {
        assert(twill__generation() == first);
        return 0;
    }
    go(&thread, ask, &there);
    second = twill__generation(); /* perhaps the other one has drawn it, and nothing else says so */
    assert(second > first);
    if (fork() == 0) {
        assert(ask_in_two() > second);
        return 0;
    }
    end(&thread, 1);
    assert(there == second && twill__generation() == second);
    return 0;
}

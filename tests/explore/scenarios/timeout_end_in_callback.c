/* The function, or discard, ends its thread, in time or late: the books stay right, and another
   thread serves the next call. */
#include "explore.h"
#include "timeout_common.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

static bool in_discard;

static int ends(const void *in, void *out, const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&ran, 1);
    *(int *)out = 1;
    if (*(const int *)in == 1) {
        if (!in_discard)
            END_THREAD();
        return 3;
    }
    return 0;
}

static void discards(void *in, void *result, int code, const twill_task *task)
{
    note_discard(in, result, code == INT_MIN ? 0 : code, task);
    if (in_discard)
        END_THREAD();
}

int main(void)
{
    twill_timeout *timeout;
    twill_status status;

    in_discard = EXPLORE_CHOICE(2, 0) == 1;
    assert(twill_timeout_create(&timeout, &(twill_timeout_options){.timeout = TWILL_US(2),
                                                                   .free_input = note_free,
                                                                   .discard = discards}) ==
           TWILL_OK);
    status = call(timeout, 1, ends, (twill_until){0, NULL});
    assert(status == TWILL_TIMEOUT || status == (in_discard ? TWILL_FAILED : TWILL_LOST));
    assert(call(timeout, 0, ends, (twill_until){0, NULL}) != TWILL_LOST);
    finish(timeout, 2);
    return 0;
}

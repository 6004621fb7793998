/* Solution: an answer in time. The task is in ../timeout_fallback.c. */
#define TWILL_IMPLEMENTATION
#include "twill_timeout_fallback.h"

#include <stdio.h>

static int ask(const void *in, void *out, const twill_task *task)
{
    (void)task;
    twill_sleep(twill_within(TWILL_MS(*(const int *)in)));
    *(int *)out = 105;
    return 0;
}

/* The frame of this function is gone long before the slow `ask` writes its answer. That answer goes
   to memory of the call's own, and then nowhere: a plain "start a thread, wait a moment, go on"
   would have had it written over whatever lies here by then. */
static void print_price(int delay, twill_ns timeout, int old)
{
    int price = 0;
    twill_status status =
        twill_call_with_timeout(&delay, sizeof delay, &price, sizeof price, ask, timeout, &old);
    if (status == TWILL_OK)
        printf("price %d\n", price);
    else
        printf("price %d, which is old: %s\n", price, twill_status_name(status));
}

int main(void)
{
    print_price(5, TWILL_SEC(5), 100);
    print_price(2000, TWILL_MS(50), 100);
    printf("%zu still runs\n", twill_timeout_abandoned(NULL)); /* it cannot be stopped */
    /* Wait for it before leaving main: exit() would take away what it still uses. */
    size_t left = 1;
    if (twill_timeout_drain(NULL, twill_within(TWILL_SEC(20)), &left) == TWILL_OK && left == 0)
        printf("none any more\n");
    return 0;
}

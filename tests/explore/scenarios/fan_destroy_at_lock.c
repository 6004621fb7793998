/* A destroy that begins while a call stands before the lock: it is served, however late it comes to
   be counted, and the memory goes after it has left. */
#include "fan_common.h"

int main(void)
{
    struct side one = {.until = {0, NULL}};
    twill_fan *fan;
    twill_report report;

    quiet();
    assert(twill_fan_create(&fan, &(twill_fan_options){.run = {.workers = 1, .report = &report},
                                                       .result_size = sizeof(int)}) == TWILL_OK);
    twill__lock(&fan->lock);
    begin(&one, fan, next_one);
    while (atomic_load(&fan->lock) / TWILL__WAITER < 1) /* until it stands there */
        twill__yield();
    twill__unlock(&fan->lock);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    end(&one);
    assert(one.status == TWILL_CLOSED);
    counts_add_up(&report, 0);
    return 0;
}

/* A search: matches and failures in every mixture. The lowest decides, all below it are asked once,
   and what lies above a match need not be; workers take the items from the front on. */
#include "team_common.h"

#include "explore.h"

enum { ITEMS = 5, WORKERS = 3 };

static _Atomic unsigned asked[ITEMS];
static char items[ITEMS];
static _Atomic bool late;

static bool match(const void *item, const twill_task *task)
{
    size_t i = task->index;

    assert((const char *)item == items + i);
    atomic_fetch_add(&asked[i], 1);
    for (size_t k = i + 1; k < ITEMS; k++)
        if (atomic_load(&asked[k]) && items[i])
            atomic_store(&late, true); /* one above it was asked before */
    return items[i];
}

int main(void)
{
    size_t found = 0, low = ITEMS;
    twill_report report;
    twill_parallel_options options = {.run = {.workers = WORKERS, .report = &report}};

    quiet();
    EXPLORE_MUST_REACH("one above the match asked first");
    for (size_t i = ITEMS; i-- > 0;)
        if ((items[i] = (char)choose(2)) != 0)
            low = i;
    assert(twill_parallel_find(items, 1, ITEMS, &found, match, &options) == TWILL_OK);
    assert(found == low);
    for (size_t i = 0; i < ITEMS; i++)
        assert(i <= low ? asked[i] == 1 : asked[i] <= 1);
    if (late)
        EXPLORE_REACHED("one above the match asked first");
    counts_add_up(&report, ITEMS);
    return 0;
}

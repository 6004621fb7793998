/* Two or three workers filter: chunks that share a word of bits lose none of them, in place or not,
   and a stop cuts off what lies above it. */
/* EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#include "team_common.h"

#define ITEMS 70

static int stops = -1;
static unsigned char wanted[ITEMS];

static bool keep(const void *item, const twill_task *task)
{
    if (stops == (int)task->index)
        twill_task_stop(task);
    return wanted[*(const int *)item];
}

int main(void)
{
    static const size_t chunks[] = {20, 33, 64};
    int in[ITEMS], out[ITEMS], *to;
    twill_report report;
    twill_parallel_options options = {.run = {.report = &report},
                                      .schedule = TWILL_SCHEDULE_DYNAMIC};
    size_t n = 99, count = 0, end = ITEMS;

    quiet();
    options.run.workers = 2 + (unsigned)choose(2);
    options.chunk = chunks[choose(3)];
    to = choose(2) ? in : out;
    stops = choose(2) ? -1 : (int)options.chunk + 5;
    for (int i = 0; i < ITEMS; i++) {
        in[i] = i;
        wanted[i] = i % 3 == 0 || i % 16 == 15;
    }
    if (stops >= 0 && (size_t)stops < ITEMS)
        end = (size_t)stops + 1;
    assert(twill_parallel_filter(in, sizeof(int), ITEMS, to, &n, keep, &options) == TWILL_OK);
    for (size_t i = 0; i < end; i++)
        if (wanted[i]) {
            assert(count < n && to[count] == (int)i);
            count++;
        }
    assert(count == n);
    counts_add_up(&report, ITEMS);
    return 0;
}

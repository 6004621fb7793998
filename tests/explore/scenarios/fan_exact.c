/* Instants, order and counts are exact in every order of steps, as long as no thread is held up:
   true completion order, a race, a quorum that cannot be reached, deadlines and time limits with
   tasks that obey and with deaf ones. (To a millisecond: see pool_exact.)
   EXPLORE: --punctual */
#include "explore.h"
#include "fan_common.h"

typedef struct item {
    twill_ns takes;
    int code;
    bool deaf;
} item;

static bool is_now(twill_ns at)
{
    twill_ns now = twill_now();
    return now >= at && now < at + TWILL_MS(1);
}

static int work(const item *it, const twill_task *me)
{
    twill_cancel *token = it->deaf ? NULL : me->until.cancel;
    twill_status status = twill_sleep(twill_within_or_cancelled(it->takes, token));
    return status == TWILL_OK ? it->code : twill_task_skip(me);
}

static int process(const void *in, void *out, const twill_task *me)
{
    *(int *)out = 1;
    return work(in, me);
}

static int go_on(void *arg, void *result, const twill_task *me)
{
    (void)result;
    return work(arg, me);
}

/* ---- one call ---- */

static const struct {
    item items[3];
    twill_fan_goal goal;
    twill_ns until, after; /* 0: none; when it returns */
    size_t quorum, abandoned;
    twill_status status;
    size_t done, failed, skipped;
} calls[] = {
    /* a race of three replicas: the quickest decides */
    {{{TWILL_MS(30), 0, false}, {TWILL_MS(10), 0, false}, {TWILL_MS(20), 0, false}},
     TWILL_FAN_FIRST_OK,
     0,
     TWILL_MS(10),
     0,
     0,
     TWILL_OK,
     1,
     0,
     2},
    /* the first that ends is not the first that succeeds */
    {{{TWILL_MS(30), 0, false}, {TWILL_MS(10), 5, false}, {TWILL_MS(20), 0, false}},
     TWILL_FAN_FIRST_OK,
     0,
     TWILL_MS(20),
     0,
     0,
     TWILL_OK,
     1,
     1,
     1},
    /* two of three, in at the second */
    {{{TWILL_MS(30), 0, false}, {TWILL_MS(10), 0, false}, {TWILL_MS(20), 0, false}},
     TWILL_FAN_QUORUM,
     0,
     TWILL_MS(20),
     2,
     0,
     TWILL_OK,
     2,
     0,
     1},
    /* and out of reach with the second failure */
    {{{TWILL_SEC(9), 0, false}, {TWILL_MS(10), 5, false}, {TWILL_MS(20), 6, false}},
     TWILL_FAN_QUORUM,
     0,
     TWILL_MS(20),
     2,
     0,
     TWILL_FAILED,
     0,
     2,
     1},
    /* a deadline: one is done, the others obey */
    {{{TWILL_MS(50), 0, false}, {TWILL_SEC(1), 0, false}, {TWILL_SEC(1), 0, false}},
     TWILL_FAN_ALL,
     TWILL_MS(100),
     TWILL_MS(100),
     0,
     0,
     TWILL_TIMEOUT,
     1,
     0,
     2},
    /* are waited for, since they do not, and have a result after all */
    {{{TWILL_MS(50), 0, true}, {TWILL_SEC(1), 0, true}, {TWILL_MS(50), 0, true}},
     TWILL_FAN_ALL,
     TWILL_MS(100),
     TWILL_SEC(1),
     0,
     0,
     TWILL_OK,
     3,
     0,
     0},
    /* are left behind */
    {{{TWILL_MS(50), 0, true}, {TWILL_SEC(1), 0, true}, {TWILL_SEC(1), 0, true}},
     TWILL_FAN_ALL,
     TWILL_MS(100),
     TWILL_MS(100),
     0,
     2,
     TWILL_TIMEOUT,
     1,
     2,
     0},
};
enum { CALLS = sizeof calls / sizeof calls[0] };

static void call(size_t which)
{
    twill_ns begun = twill_now();
    twill_report report;
    twill_fan_options options = {
        .run = {.workers = 3, .report = &report},
        .goal = calls[which].goal,
        .quorum = calls[which].quorum,
        .max_abandoned = calls[which].abandoned,
    };

    options.run.until.deadline = calls[which].until ? begun + calls[which].until : 0;
    assert(twill_fan_out_fan_in(calls[which].items, sizeof(item), 3, process, sizeof(int), NULL,
                                &options) == calls[which].status);
    assert(is_now(begun + calls[which].after));
    assert(report.done == calls[which].done && report.failed == calls[which].failed);
    assert(report.skipped == calls[which].skipped);
}

/* ---- the object ---- */

static void completion_order(void)
{
    static item items[3] = {
        {TWILL_MS(30), 0, false}, {TWILL_MS(10), 0, false}, {TWILL_MS(20), 0, false}};
    static const size_t order[3] = {1, 2, 0};
    twill_ns begun = twill_now();
    twill_outcome outcome;
    twill_fan *fan;

    assert(twill_fan_create(&fan, &(twill_fan_options){.run.workers = 3}) == TWILL_OK);
    for (int i = 0; i < 3; i++)
        assert(twill_fan_go(fan, go_on, &items[i], NULL) == TWILL_OK);
    for (int i = 0; i < 3; i++) {
        assert(twill_fan_next(fan, NULL, &outcome) == TWILL_OK);
        assert(outcome.index == order[i]);
        assert(is_now(begun + TWILL_MS(10) * (i + 1)));
    }
    assert(twill_fan_destroy(fan) == TWILL_OK);
}

/* Who waits is there before the task begins that does not come back. */
static void limit(void)
{
    static item items[2] = {{TWILL_MS(10), 0, false}, {TWILL_SEC(1), 0, true}};
    twill_ns begun = twill_now();
    twill_outcome outcome;
    twill_fan *fan;

    assert(twill_fan_create(&fan, &(twill_fan_options){.run.workers = 1,
                                                       .timeout = TWILL_MS(20),
                                                       .max_abandoned = 1}) == TWILL_OK);
    for (int i = 0; i < 2; i++)
        assert(twill_fan_go(fan, go_on, &items[i], NULL) == TWILL_OK);
    assert(twill_fan_next(fan, NULL, &outcome) == TWILL_OK && outcome.status == TWILL_OK);
    assert(is_now(begun + TWILL_MS(10)));
    assert(twill_fan_next(fan, NULL, &outcome) == TWILL_OK && outcome.status == TWILL_TIMEOUT);
    assert(is_now(begun + TWILL_MS(30)));
    assert(twill_fan_destroy(fan) == TWILL_OK);
}

int main(void)
{
    int which = EXPLORE_CHOICE(CALLS + 2, 0);

    quiet();
    if (which < CALLS)
        call((size_t)which);
    else if (which == CALLS)
        completion_order();
    else
        limit();
    while (atomic_load(&live_blocks)) /* what was left behind frees it */
        (void)twill_sleep(twill_within(TWILL_MS(100)));
    return 0;
}

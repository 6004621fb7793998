/* Quick tasks of an object go through lanes while two threads go, wait for room, and read. Each
   task runs once, and its outcome comes once, to one of both; at the end both learn that it is the
   end. One of the tasks may go itself, read an outcome, wait until the one before it was read
   (which may end when a reader sleeps already), or end its thread. */
#include "fan_common.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

enum { TASKS = 9, ODD = 5, MORE = TASKS };
enum { WELL, GOES, READS, WAITS, HUNGRY, ENDS, KINDS };
static _Atomic unsigned begun[TASKS + 1], seen[TASKS + 1], lost;
static int kind;
static twill_fan *fan;
static _Thread_local bool is_main;

static void note(const twill_outcome *outcome, int result)
{
    int i = (int)(intptr_t)outcome->key;

    assert(atomic_fetch_add(&seen[i], 1) == 0);
    if (outcome->status == TWILL_LOST)
        atomic_fetch_add(&lost, 1);
    else
        assert(outcome->status == TWILL_OK && result == 100 + i);
}

/* A reader sleeps, and not for a moment only. */
static bool hungers(void)
{
    bool yes;

    twill__lock(&fan->lock);
    yes = fan->readers.first && !fan->gather;
    twill__unlock(&fan->lock);
    return yes;
}

static int quick(void *arg, void *result, const twill_task *me)
{
    twill_outcome outcome;
    int i = (int)(intptr_t)arg, read;

    (void)me;
    assert(atomic_fetch_add(&begun[i], 1) == 0);
    *(int *)result = 100 + i;
    if (i == ODD && kind == GOES)
        assert(twill_fan_go(fan, quick, tag(MORE), tag(MORE)) == TWILL_OK);
    if (i == ODD && kind == READS && twill_fan_next(fan, &read, &outcome) == TWILL_OK)
        note(&outcome, read);
    while (i == ODD - 1 && kind == HUNGRY && !hungers())
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    while (i == ODD && (kind == WAITS || kind == HUNGRY) && !atomic_load(&seen[ODD - 1]))
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    if (i == ODD && kind == ENDS && !is_main)
        END_THREAD();
    return 0;
}

static void read_them(void *side)
{
    twill_outcome outcome;
    twill_status status;
    int result;

    (void)side;
    while ((status = twill_fan_next(fan, &result, &outcome)) == TWILL_OK)
        note(&outcome, result);
    assert(status == TWILL_CLOSED);
}

int main(void)
{
    twill_report report;
    struct side side;
    int all = TASKS;
    bool alone;

    quiet();
    is_main = true;
    kind = choose(KINDS);
    all += kind == GOES;
    /* a second worker or reader would show what the first worker has */
    alone = kind == HUNGRY || (kind == WAITS && choose(2));
    assert(twill_fan_create(
               &fan, &(twill_fan_options){.run = {.workers = alone ? 1 : 2, .report = &report},
                                          .result_size = sizeof(int),
                                          .in_flight = choose(2) ? 8 : 3}) == TWILL_OK);
    begin(&side, fan, read_them);
    for (int i = 0; i < TASKS; i++)
        assert(twill_fan_go(fan, quick, tag(i), tag(i)) == TWILL_OK);
    assert(twill_fan_close(fan) == TWILL_OK);
    if (!alone)
        read_them(NULL);
    end(&side);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    counts_add_up(&report, (size_t)all);
    for (int i = 0; i < all; i++)
        assert(begun[i] == 1 && seen[i] == 1);
    assert(report.done + lost == (size_t)all && report.failed == lost);
    assert(live_blocks == 0);
    return 0;
}

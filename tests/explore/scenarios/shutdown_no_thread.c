/* A hook ends its thread and no other can be had: the next hook, and on_phase, run in the thread of
   finish, while the watcher looks round. Or the total is over meanwhile, perhaps while the watcher
   makes a runner in place of one that a phase has ended. */
#include <stdatomic.h>
#include <stdbool.h>

extern int no_more(void);
#define TWILL__FAIL_THREAD() no_more()
#include "explore.h"
#include "shutdown_common.h"

static _Atomic int threads;
static int kind;

int no_more(void)
{
    int fails = atomic_fetch_add(&threads, 1) >= 3; /* watcher, runner, and the one that asks */

    if (fails && kind == 2)
        (void)twill_sleep(twill_within(TWILL_MS(13))); /* a quarter of the total, and a bit */
    return fails;
}

static _Atomic int ran;
static _Atomic uint32_t drains;
static twill_shutdown_phase last;
static bool brief; /* then one who hangs is left behind; and on_phase ends its thread, too */

static uint64_t finisher;

static void end_thread(void)
{
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

static void note_phase(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    (void)reason;
    (void)task;
    if (!brief)
        last = phase;
    else if (phase == TWILL_SHUTDOWN_DRAINING && twill__thread_number() != finisher) {
        atomic_store(&drains, 1);
        twill__wake(&drains, 1);
        end_thread();
    }
}

static int ends(const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&ran, 10);
    if (twill__thread_number() != finisher)
        end_thread();
    return 0;
}

static int counts(const twill_task *task)
{
    (void)task;
    atomic_fetch_add(&ran, 1);
    return 0;
}

static void asks(void *side_)
{
    struct side *side = side_;
    twill_shutdown_request(side->shutdown, 2);
}

int main(void)
{
    struct side other = {.count = 0};
    twill_shutdown_options options = {.on_phase = note_phase};
    twill_shutdown_report report;
    twill_shutdown *shutdown;

    kind = EXPLORE_CHOICE(3, 0);
    brief = kind > 0;
    options.total = brief ? TWILL_MS(50) : TWILL_FOREVER;
    shutdown = make(options);
    finisher = twill__thread_number();
    assert(twill_shutdown_add(shutdown, "second", counts, NULL, 0) == TWILL_OK);
    assert(twill_shutdown_add(shutdown, "first", ends, NULL, 0) == TWILL_OK);
    go(&other, asks, shutdown);
    if (brief) {
        twill_shutdown_request(shutdown, 2);
        while (kind == 2 && !atomic_load(&drains))
            twill__park(&drains, 0, 0);
        (void)twill_shutdown_finish(shutdown, &report);
        assert(report.hooks == 2);
    } else {
        assert(twill_shutdown_finish(shutdown, &report) == TWILL_FAILED);
        assert(atomic_load(&ran) == 11 && report.hooks == 2);
        assert(last == TWILL_SHUTDOWN_STOPPED);
    }
    end(&other);
    assert(twill_shutdown_destroy(shutdown) == TWILL_OK);
    for (int k = 0; k < 300; k++) /* abandoned threads end */
        twill__yield();
    return 0;
}

/* Any fan: an array, a stream or the object, with any goal, policy, limits and pool. What each task
   does is drawn too, and whether a token fires meanwhile, a deadline passes, aggregate fails or
   stops, outcomes stay unread. Each task runs or is dropped, once. Each success is delivered or
   discarded, once. Outcomes come once, and in the order of the indices if that was asked; the
   report adds up to them; nothing is left, and nobody polls. */
#include "fan_common.h"

#include "explore.h"
#include "twill_worker_pool.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

enum { ARRAY, STREAM, OBJECT, FORMS };
enum { WELL, FAILS, SLEEPS, DEAF, SKIPS, STOPS, ENDS, KINDS };
enum { MOST = 4, NEVER = MOST, FAILURE = 7 };
enum { STEPS_MOST = 1800 }; /* of main: who polls while a deaf task runs takes more */

static int form, n, kind[MOST];
static int fails_at, stops_at; /* aggregate does */
static bool ends;              /* a task may end its thread */
static twill_fan_options options;
static twill_report report;
static twill_cancel token;

static _Thread_local bool is_main;
static _Atomic int good[MOST];
static int delivered[MOST], last = -1, pulled;
static twill_status how[MOST];

/* ---- callbacks ---- */

static int work(int i, int *result, const twill_task *me)
{
    assert(me->index == (size_t)i && atomic_fetch_add(&ran[i], 1) == 0);
    if (kind[i] == FAILS)
        return FAILURE;
    if (kind[i] == SKIPS)
        return twill_task_skip(me);
    if (kind[i] == SLEEPS)
        (void)twill_sleep(twill_within_or_cancelled(TWILL_US(20), me->until.cancel));
    if (kind[i] == DEAF)
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    if (kind[i] == STOPS)
        (void)twill_task_stop(me);
    if (kind[i] == ENDS && ends && !is_main)
        END_THREAD();
    *result = 100 + i;
    atomic_fetch_add(&good[i], 1);
    return 0;
}

static int process(const void *in, void *out, const twill_task *me)
{
    return work(*(const int *)in, out, me);
}

static int run_tag(void *arg, void *result, const twill_task *me)
{
    return work((int)(intptr_t)arg, result, me);
}

static void drop_it(void *item, twill_status why, const twill_task *me)
{
    (void)item;
    assert(why == TWILL_CANCELLED || why == TWILL_TIMEOUT);
    assert(atomic_fetch_add(&dropped[me->index], 1) == 0);
}

static void discard_it(void *item, void *result, int code, const twill_task *me)
{
    (void)item;
    assert(code == 0 && *(int *)result == 100 + (int)me->index);
    assert(atomic_fetch_add(&discarded[me->index], 1) == 0);
}

/* An outcome has come: result is NULL unless it is OK. */
static void note(const int *result, const twill_outcome *outcome)
{
    int i = (int)outcome->index;

    assert(i < n && given[i]++ == 0);
    assert(!options.ordered || i > last);
    last = i;
    how[i] = outcome->status;
    assert(outcome->code == (outcome->status == TWILL_FAILED ? FAILURE : 0));
    assert((result != NULL) == (outcome->status == TWILL_OK));
    if (result) {
        assert(*result == 100 + i);
        delivered[i]++;
    }
}

static int aggregate(const void *result, const twill_outcome *outcome, const twill_task *me)
{
    note(result, outcome);
    if ((int)outcome->index == stops_at)
        return twill_task_stop(me);
    return (int)outcome->index == fails_at ? FAILURE + 1 : 0;
}

static bool enough(const twill_outcome *outcome, const void *result, const twill_task *me)
{
    (void)result, (void)me;
    return outcome->index == 1;
}

static int pull(void *item, const twill_task *me)
{
    assert(me->index == (size_t)pulled);
    if (pulled == n)
        return twill_task_stop(me);
    *(int *)item = pulled++;
    return 0;
}

static void fire(void *side)
{
    (void)side;
    (void)twill_cancel_fire(&token, 1);
}

/* ---- what is drawn ---- */

static void draw_options(void)
{
    static const twill_on_error policies[] = {TWILL_ON_ERROR_DEFAULT, TWILL_ON_ERROR_LOWEST,
                                              TWILL_ON_ERROR_FIRST, TWILL_ON_ERROR_LIMIT};

    options = (twill_fan_options){.run.workers = (unsigned)choose(3),
                                  .run.report = &report,
                                  .run.on_error = policies[choose(4)],
                                  .goal = (twill_fan_goal)choose(5),
                                  .ordered = choose(2),
                                  .in_flight = (size_t)choose(3),
                                  .max_unread = (size_t)choose(3),
                                  .timeout = choose(2) ? TWILL_US(10) : 0,
                                  .max_abandoned = (size_t)choose(3),
                                  .drop = drop_it,
                                  .discard = discard_it};
    if (form == STREAM && options.goal == TWILL_FAN_ALL_OK)
        options.goal = TWILL_FAN_ALL;
    if (options.goal == TWILL_FAN_QUORUM)
        options.quorum = 1 + (size_t)choose(n);
    if (options.goal == TWILL_FAN_ENOUGH)
        options.enough = enough;
    if (options.run.on_error == TWILL_ON_ERROR_LIMIT)
        options.run.max_errors = 2;
    if (form == OBJECT)
        options.result_size = sizeof(int);
    if (choose(3) == 0)
        options.run.until.cancel = &token;
    if (choose(3) == 0)
        options.run.until.deadline = twill_now() + TWILL_US(15);
    if (choose(2))
        assert(twill_pool_create(&options.run.pool,
                                 &(twill_pool_options){.run.workers = 1 + (unsigned)choose(2)}) ==
               TWILL_OK);
}

static void draw(void)
{
    int says;

    form = choose(FORMS);
    n = 1 + choose(MOST);
    for (int i = 0; i < n; i++)
        kind[i] = choose(KINDS);
    ends = choose(3) == 0;
    says = form == OBJECT ? 0 : choose(6);
    fails_at = says == 1 ? choose(n) : NEVER;
    stops_at = says == 2 ? choose(n) : NEVER;
    draw_options();
}

/* ---- the object ---- */

static bool read_one(twill_fan *fan)
{
    twill_outcome outcome;
    int result = -1;
    twill_status status = twill_fan_next(fan, &result, &outcome);

    if (status != TWILL_OK) {
        assert(status == TWILL_CLOSED);
        return false;
    }
    assert(outcome.status == TWILL_OK || result == 0);
    note(outcome.status == TWILL_OK ? &result : NULL, &outcome);
    return true;
}

/* How many it took. */
static size_t object(void)
{
    twill_status status = TWILL_OK;
    twill_fan *fan;
    int k = 0;

    assert(twill_fan_create(&fan, &options) == TWILL_OK);
    while (k < n && (status == TWILL_OK || status == TWILL_FULL)) {
        status = twill_fan_go(fan, run_tag, tag(k), NULL);
        k += status == TWILL_OK;
        if (status == TWILL_FULL)
            assert(read_one(fan));
    }
    assert(k == n || status == TWILL_CLOSED || status == TWILL_CANCELLED ||
           status == TWILL_TIMEOUT);
    status = twill_fan_close(fan);
    assert(status == TWILL_OK || status == TWILL_CLOSED); /* the goal may have closed it */
    if (choose(2))
        while (read_one(fan)) {}
    else
        (void)read_one(fan);
    assert(twill_fan_destroy(fan) == TWILL_OK);
    return (size_t)k;
}

/* ---- what must hold ---- */

/* The report says what the outcomes said; a success that was not given may have been discarded. */
static void check_report(size_t total)
{
    size_t done = 0, failed = 0, skipped = 0, late = 0;

    for (size_t i = 0; i < total; i++) {
        bool started =
            how[i] == TWILL_FAILED || how[i] == TWILL_LOST || (how[i] == TWILL_TIMEOUT && ran[i]);
        late += discarded[i];
        if (given[i] && how[i] == TWILL_OK)
            done++;
        else if (given[i] && started)
            failed++;
        else if (given[i])
            skipped++;
    }
    counts_add_up(&report, total);
    assert(report.done >= done && report.done <= done + late);
    assert(report.failed >= failed && report.skipped >= skipped);
}

/* OK: so the goal was met, or somebody said that this is all. */
static void check_goal(size_t total)
{
    if (report.status != TWILL_OK || stops_at != NEVER || total == 0)
        return;
    for (size_t i = 0; i < total; i++)
        if (kind[i] == STOPS && ran[i])
            return;
    if (options.goal == TWILL_FAN_ALL || options.goal == TWILL_FAN_ALL_OK)
        assert(report.failed == 0);
    if (options.goal == TWILL_FAN_QUORUM)
        assert(report.done >= options.quorum);
    if (options.goal == TWILL_FAN_FIRST_OK)
        assert(report.done >= 1);
}

static void check(size_t total)
{
    bool every = options.goal != TWILL_FAN_ALL_OK && form != OBJECT && fails_at == NEVER &&
                 stops_at == NEVER;

    check_books((int)total);
    for (size_t i = 0; i < total; i++) {
        assert(delivered[i] + (int)discarded[i] == good[i]);
        assert(!given[i] || how[i] != TWILL_OK || good[i]);
        assert(!given[i] || how[i] != TWILL_FAILED || kind[i] == FAILS);
        assert(!every || given[i] || discarded[i]); /* none but a late success is kept back */
    }
    for (int i = (int)total; i < n; i++)
        assert(ran[i] + given[i] + discarded[i] == 0);
    check_report(total);
    check_goal(total);
}

int main(void)
{
    struct side firer;
    twill_status status = TWILL_OK;
    size_t total;

    quiet();
    is_main = true;
    draw();
    total = (size_t)n;
    if (options.run.until.cancel)
        begin(&firer, NULL, fire);
    if (form == ARRAY) {
        static const int items[MOST] = {0, 1, 2, 3};
        status = twill_fan_out_fan_in(items, sizeof(int), total, process, sizeof(int), aggregate,
                                      &options);
    } else if (form == STREAM) {
        status = twill_fan_stream(pull, sizeof(int), process, sizeof(int), aggregate, &options);
        total = (size_t)pulled;
    } else {
        total = object();
    }
    assert(form == OBJECT || status == report.status);
    if (options.run.until.cancel)
        end(&firer);
    assert(twill_pool_destroy(options.run.pool) == TWILL_OK);
    assert(!explore_steps || explore_steps() < STEPS_MOST);
    while (atomic_load(&live_blocks)) /* what was left behind frees them */
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    check(total);
    twill_cancel_detach(&token);
    return 0;
}

/* Any pipeline of three stages: a run or the object (joined, or stopped), with any kinds of stages,
   batches, tokens, policy and pool. What each call does is drawn too, and whether a token fires
   meanwhile or a deadline passes. Each input of a stage is seen by it or dropped, once. Each call
   that fails has its dead letter. Stages that are not parallel run one call at a time, those in
   order by rising numbers, and a sink in order gets what the serial loop would. The report adds up
   to what the items met; nothing is left, and nobody polls. */
#include "pipe_common.h"

#include "explore.h"
#include "twill_worker_pool.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

enum { RUN, JOINED, STOPPED, FORMS };
enum { WELL, FAILS, SLEEPS, DEAF, FILTERS, SKIPS, STOPS, ENDS, KINDS };
enum { MOST = 4, STAGES = 3, SINK = STAGES - 1, FAILURE = 7 };
enum { STEPS_MOST = 1800 }; /* of main: who polls while a deaf call runs takes more */

static int form, kind[STAGES][MOST]; /* a sink does well always */
static bool ends;                    /* a call may end its thread */
static twill_stage stage[STAGES];
static twill_pipeline_options options;
static twill_pipeline_report report;
static twill_cancel token;

static _Thread_local bool is_main;
static _Atomic int at[STAGES][MOST], drops[STAGES][MOST], passed[STAGES][MOST];
static _Atomic int ended[MOST]; /* without output, and well */
static _Atomic int failed[MOST], lost[MOST], letters[MOST];
static int
    before[STAGES]; /* the number + 1 of a stage's call before: plain, as these do not overlap */

/* ---- callbacks ---- */

static void enter(int k, int i)
{
    assert(atomic_fetch_add(&at[k][i], 1) == 0);
    if (stage[k].kind == TWILL_STAGE_PARALLEL)
        return;
    assert(stage[k].kind == TWILL_STAGE_SERIAL || i + 1 > before[k]);
    before[k] = i + 1;
}

static int act(int k, const void *in, void *out, const twill_task *me)
{
    int i = *(const int *)in;

    assert(me->index == (size_t)i);
    enter(k, i);
    switch (kind[k][i]) {
    case FAILS:
        atomic_fetch_add(&failed[i], 1);
        return FAILURE;
    case FILTERS:
        atomic_fetch_add(&ended[i], 1);
        return twill_pipeline_filter(me);
    case SKIPS:
        return twill_task_skip(me);
    case STOPS:
        atomic_fetch_add(&ended[i], 1);
        return twill_task_stop(me);
    default:
        break;
    }
    if (kind[k][i] == SLEEPS)
        (void)twill_sleep(twill_within_or_cancelled(TWILL_US(20), me->until.cancel));
    if (kind[k][i] == DEAF)
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    if (kind[k][i] == ENDS && ends && !is_main) {
        atomic_fetch_add(&lost[i], 1);
        END_THREAD();
    }
    if (out)
        *(int *)out = i;
    atomic_fetch_add(&passed[k][i], 1);
    return 0;
}

static int first(const void *in, void *out, const twill_task *me)
{
    return act(0, in, out, me);
}

static int second(const void *in, void *out, const twill_task *me)
{
    return act(1, in, out, me);
}

static int sink(const void *in, void *out, const twill_task *me)
{
    (void)out;
    return act(SINK, in, NULL, me);
}

static int sink_some(const void *inputs, size_t count, const twill_task *me)
{
    const int *in = inputs;

    assert(count >= 1 && count <= 2 && me->index == (size_t)in[0]);
    for (size_t j = 0; j < count; j++) {
        enter(SINK, in[j]);
        atomic_fetch_add(&passed[SINK][in[j]], 1);
    }
    return 0;
}

static void drop_at(int k, const void *item, twill_status why, const twill_task *me)
{
    assert(why == TWILL_CANCELLED || why == TWILL_FAILED);
    assert(me->index == (size_t) * (const int *)item);
    assert(atomic_fetch_add(&drops[k][me->index], 1) == 0);
}

static void drop_first(void *item, twill_status why, const twill_task *me)
{
    drop_at(0, item, why, me);
}

static void drop_second(void *item, twill_status why, const twill_task *me)
{
    drop_at(1, item, why, me);
}

static void drop_sink(void *item, twill_status why, const twill_task *me)
{
    drop_at(SINK, item, why, me);
}

static void letter(size_t k, void *in, int code, const twill_task *me)
{
    int i = *(int *)in;

    (void)me;
    assert(code == FAILURE && kind[k][i] == FAILS && at[k][i] == 1);
    assert(atomic_fetch_add(&letters[i], 1) == 0);
}

static void fire(void *side)
{
    (void)side;
    (void)twill_cancel_fire(&token, 1);
}

/* ---- what is drawn ---- */

static void draw_stages(void)
{
    stage[0] = (twill_stage){.work = first,
                             .out_size = sizeof(int),
                             .workers = 1 + (unsigned)choose(2),
                             .drop = drop_first,
                             .keep_going = choose(4) == 0};
    stage[1] = (twill_stage){.work = second,
                             .out_size = sizeof(int),
                             .kind = (twill_stage_kind)choose(3),
                             .buffer = (size_t)choose(2),
                             .drop = drop_second};
    if (stage[1].kind == TWILL_STAGE_PARALLEL)
        stage[1].workers = 2;
    stage[SINK] = (twill_stage){.kind = choose(2) ? TWILL_STAGE_IN_ORDER : TWILL_STAGE_SERIAL,
                                .drop = drop_sink};
    if (choose(2)) {
        static const twill_ns lingers[] = {0, TWILL_US(10), TWILL_FOREVER};
        stage[SINK].batch = sink_some;
        stage[SINK].batch_max = 2;
        stage[SINK].linger = lingers[choose(3)];
    } else {
        stage[SINK].work = sink;
    }
}

static void draw(void)
{
    static const twill_on_error policies[] = {TWILL_ON_ERROR_DEFAULT, TWILL_ON_ERROR_COLLECT,
                                              TWILL_ON_ERROR_FIRST, TWILL_ON_ERROR_LIMIT};

    form = choose(FORMS);
    items = 1 + choose(MOST);
    for (int k = 0; k < SINK; k++)
        for (int i = 0; i < items; i++)
            kind[k][i] = choose(KINDS + 1) % KINDS; /* well: twice as often */
    ends = choose(3) == 0;
    draw_stages();
    options = (twill_pipeline_options){.run.workers = (unsigned)choose(3),
                                       .run.on_error = policies[choose(4)],
                                       .tokens = (size_t)choose(4),
                                       .dead_letter = letter,
                                       .report = &report};
    if (options.run.on_error == TWILL_ON_ERROR_LIMIT)
        options.run.max_errors = 2;
    if (choose(3) == 0)
        options.run.until.cancel = &token;
    if (choose(3) == 0)
        options.run.until.deadline = twill_now() + TWILL_US(15);
    if (choose(2))
        assert(twill_pool_create(&options.run.pool,
                                 &(twill_pool_options){.run.workers = 1 + (unsigned)choose(2)}) ==
               TWILL_OK);
}

/* ---- the object ---- */

/* How many it took. */
static int object(void)
{
    twill_status status = TWILL_OK;
    twill_pipeline *pipeline;
    twill_stopped out;
    int k = 0;

    assert(twill_pipeline_create(&pipeline, sizeof(int), stage, STAGES, &options) == TWILL_OK);
    while (k < items && (status = twill_pipeline_push(pipeline, &k)) == TWILL_OK)
        k++;
    assert(status == TWILL_OK || status == TWILL_CLOSED || status == TWILL_CANCELLED ||
           status == TWILL_TIMEOUT);
    if (form == JOINED) {
        status = twill_pipeline_join(pipeline);
    } else {
        assert(twill_pipeline_stop(pipeline, twill_within(TWILL_US(5)), (twill_until){0}, &out) ==
               TWILL_OK);
        assert(out.stuck == 0);
    }
    assert(twill_pipeline_destroy(pipeline) == TWILL_OK);
    assert(form != JOINED || status == report.run.status);
    return k;
}

/* ---- what must hold ---- */

/* Nothing but the items themselves decided what a sink in order got: exactly the serial loop's. */
static void check_serial(int total)
{
    const twill_run *run = &options.run;
    bool over = false;

    if (form == STOPPED || ends || run->until.cancel || run->until.deadline ||
        run->on_error == TWILL_ON_ERROR_FIRST || run->on_error == TWILL_ON_ERROR_LIMIT ||
        stage[SINK].kind != TWILL_STAGE_IN_ORDER)
        return;
    for (int i = 0; i < total; i++) {
        bool goes_on = true;
        for (int k = 0; k < SINK && !over && goes_on; k++) {
            bool left_out = stage[k].keep_going || run->on_error == TWILL_ON_ERROR_COLLECT;
            over = kind[k][i] == STOPS || (kind[k][i] == FAILS && !left_out);
            goes_on = kind[k][i] <= DEAF && kind[k][i] != FAILS;
            goes_on |= kind[k][i] == ENDS;
        }
        assert(at[SINK][i] == (goes_on && !over));
    }
}

static void check(int total)
{
    size_t done = 0, wrong = 0;
    bool stopped = false;

    for (int i = 0; i < total; i++) {
        assert(at[0][i] + drops[0][i] == 1);
        for (int k = 1; k < STAGES; k++)
            assert(at[k][i] + drops[k][i] == passed[k - 1][i]);
        assert(passed[SINK][i] == at[SINK][i]);
        assert(letters[i] == failed[i]);
        stopped |= (at[0][i] && kind[0][i] == STOPS) || (at[1][i] && kind[1][i] == STOPS);
        if (!stopped) /* above the end, a failure is none */
            assert(report.run.status != TWILL_OK || failed[i] + lost[i] == 0);
        done += (size_t)(passed[SINK][i] + ended[i]);
        wrong += (size_t)(failed[i] + lost[i]);
    }
    for (int i = total; i < items; i++)
        assert(at[0][i] + drops[0][i] == 0);
    books(&report);
    assert(report.run.total == (size_t)total);
    assert(report.run.done == done && report.run.failed == wrong);
    check_serial(total);
}

int main(void)
{
    struct side firer;
    int total;

    quiet();
    is_main = true;
    draw();
    if (options.run.until.cancel)
        go(&firer, fire, NULL);
    if (form == RUN) {
        assert(twill_pipeline_run(number, sizeof(int), stage, STAGES, &options) ==
               report.run.status);
        total = (int)report.run.total;
    } else {
        total = object();
    }
    if (options.run.until.cancel)
        end(&firer);
    assert(twill_pool_destroy(options.run.pool) == TWILL_OK);
    assert(!explore_steps || explore_steps() < STEPS_MOST);
    check(total);
    twill_cancel_detach(&token);
    return 0;
}

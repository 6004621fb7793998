/* Any program on a pipeline that others push into. Each schedule draws one: kinds of stages, one or
   two outputs a call, batches, buffers, tokens, policy, the run's token and deadline, threads of
   its own, of a pool, or fewer than asked, a worker_start that fails; three stages whose calls emit
   (also too much), fail, filter, skip, stop, sleep, push one more, ask for what they may not,
   close, cancel, end their thread; drops and dead letters that end theirs; and what two or three
   threads do, one of them perhaps a task of the pool: push in each form, close, cancel, join for a
   while, stop, read the figures, fire the token, close the pool.

   Whatever it is: what was accepted is seen by the first stage or dropped, once, and so is each
   output by the stage behind; what a call withdrew is seen by nobody. Numbers and sub-numbers rise
   in order, and those of one thread as it pushed. A sink in order gets what the serial loop would.
   Each answer has a reason; who has joined is behind all callbacks; and the figures of all stages
   are those of their callbacks. Nothing hangs, polls or is left. */
#include <stdbool.h>

static int thread_fails(void);
#define TWILL__FAIL_THREAD() thread_fails()
#include "pipe_common.h"

#include "explore.h"
#include "twill_worker_pool.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

enum { WELL, FAILS, SLEEPS, DEAF, FILTERS, SKIPS, STOPS, ENDS, PUSHES, FORBIDDEN, CLOSES, KINDS };
enum { STAGES = 3, SINK = STAGES - 1, SUBS = 4, FAILURE = 7 };
enum { SIDES = 3, EACH = 3, EXTRA = SIDES * EACH, ALL = EXTRA + 2 }; /* the last from callbacks */
enum { NOT_ASKED = -1, LEFT = -2 };

struct piece {
    int id, sub;
};

static twill_pipeline *shared;
static twill_pool *pool;
static twill_stage stage[STAGES];
static twill_stage_stats figures[STAGES];
static twill_pipeline_options options;
static twill_pipeline_report report;
static twill_cancel token, others; /* the run's; of those who push and join */
static bool ends, letters_end;
static _Atomic bool threadless;
static unsigned refuses;
static int kind[STAGES][ALL][SUBS], emits[STAGES][ALL][SUBS];

static _Thread_local bool stays;
static int answer[ALL];
static _Atomic int at[STAGES][ALL][SUBS], drops[STAGES][ALL][SUBS], given[STAGES][ALL][SUBS];
static _Atomic int wrong[STAGES][ALL][SUBS], letters[STAGES][ALL][SUBS];
static _Atomic int skips[ALL], fruit[ALL], outs[STAGES], filtered[STAGES], extra;
static _Atomic int closing, cancelling, looks;
static size_t number_of[ALL];
static int before[STAGES];           /* plain: these calls do not overlap */
static bool behind[SIDES];           /* plain: who comes after a join is a data race */
static twill_status ended_so[SIDES]; /* what the join said */

static bool one_in(int n)
{
    return EXPLORE_CHOICE(n, 0) == 0;
}

static int thread_fails(void)
{
    return atomic_load(&threadless) && one_in(2);
}

static void leave_thread(void)
{
    stays = true;
    END_THREAD();
}

/* ---- pushing ---- */

enum { FOR_EVER, TRY, UNTIL };

/* With a deadline, or a token, or, for_sure, with a deadline. */
static twill_until soon(bool for_sure)
{
    twill_until until = {0, NULL};
    if (for_sure || one_in(2))
        until.deadline = twill_now() + TWILL_US(1 + EXPLORE_CHOICE(10, 0));
    if (!until.deadline || one_in(3))
        until.cancel = &others;
    return until;
}

static bool over(const twill_until *until, twill_status status)
{
    return status == TWILL_TIMEOUT ? until->deadline && twill_now() >= until->deadline
                                   : twill_cancel_fired(until->cancel);
}

static void push(int id, int way, bool inside)
{
    struct piece piece = {id, 0};
    twill_until until = way == UNTIL ? soon(inside) : (twill_until){0, NULL};
    twill_status status;
    answer[id] = LEFT;
    status = way == TRY     ? twill_pipeline_try_push(shared, &piece)
             : way == UNTIL ? twill_pipeline_push_until(shared, &piece, until)
                            : twill_pipeline_push(shared, &piece);
    answer[id] = (int)status;
    switch (status) {
    case TWILL_OK:
        break;
    case TWILL_CLOSED:
        assert(atomic_load(&closing) || options.run.until.deadline);
        break;
    case TWILL_FULL:
        assert(way == TRY);
        break;
    case TWILL_DEADLOCK:
        assert(inside && way != TRY);
        break;
    default:
        assert(way == UNTIL && over(&until, status));
    }
}

/* ---- callbacks ---- */

static void check_place(void)
{
    for (int k = 0; k < SIDES; k++)
        assert(!behind[k]);
}

static void enter(int k, const struct piece *in, size_t number)
{
    int place = (int)number * SUBS + in->sub;
    check_place();
    assert(atomic_fetch_add(&at[k][in->id][in->sub], 1) == 0);
    if (k == 0)
        number_of[in->id] = number;
    assert(number_of[in->id] == number);
    if (stage[k].kind == TWILL_STAGE_PARALLEL)
        return;
    assert(stage[k].kind == TWILL_STAGE_SERIAL || place >= before[k]);
    before[k] = place + 1;
}

static void push_extra(void)
{
    int id = EXTRA + atomic_fetch_add(&extra, 1);
    if (id >= ALL)
        return;
    /* a thread of a pool is taken to come at last: there a wait for ever may be one */
    push(id, options.run.pool ? TRY + EXPLORE_CHOICE(2, 0) : EXPLORE_CHOICE(3, 0), true);
}

static void ask_what_is_forbidden(void)
{
    twill_stopped out;
    twill_pipeline_get_stats(shared, NULL, NULL);
    assert(twill_pipeline_destroy(shared) == TWILL_DEADLOCK);
    assert(twill_pipeline_stop(shared, (twill_until){0}, (twill_until){0}, &out) == TWILL_DEADLOCK);
    if (!one_in(3))
        return;
    atomic_store(&closing, 1); /* a join closes first */
    assert(twill_pipeline_join(shared) == TWILL_DEADLOCK);
}

static void close_or_cancel(void)
{
    atomic_store(&closing, 1);
    if (one_in(2)) {
        twill_status status = twill_pipeline_close(shared);
        assert(status == TWILL_OK || status == TWILL_CLOSED);
    } else {
        atomic_store(&cancelling, 1);
        assert(twill_pipeline_cancel(shared) == TWILL_OK);
    }
}

/* What a call does besides its output. Returns its code; *out: whether it has one. */
static int behave(int how, const twill_task *me, bool *out)
{
    *out = true;
    switch (how) {
    case FAILS:
        *out = false;
        atomic_store(&closing, 1);
        return FAILURE;
    case SLEEPS:
        (void)twill_sleep(twill_within_or_cancelled(TWILL_US(20), me->until.cancel));
        break;
    case DEAF:
        (void)twill_sleep(twill_within(TWILL_US(30)));
        break;
    case FILTERS:
        *out = false;
        return twill_pipeline_filter(me);
    case SKIPS:
        *out = false;
        return twill_task_skip(me);
    case STOPS:
        *out = false;
        atomic_store(&closing, 1);
        return twill_task_stop(me);
    case PUSHES:
        push_extra();
        break;
    case FORBIDDEN:
        ask_what_is_forbidden();
        break;
    case CLOSES:
        close_or_cancel();
        break;
    default:
        break;
    }
    return 0;
}

/* n pieces of one call have ended without output. */
static void ended_without(int k, const struct piece *in, size_t n, int how)
{
    for (size_t j = 0; j < n; j++) {
        if (how == FAILS || how == ENDS)
            atomic_fetch_add(&wrong[k][in[j].id][in[j].sub], 1);
        else if (how == SKIPS)
            atomic_fetch_add(&skips[in[j].id], 1);
        else
            atomic_fetch_add(&filtered[k], 1);
    }
}

static void end_thread(int k, const struct piece *in, size_t n)
{
    atomic_store(&closing, 1);
    ended_without(k, in, n, ENDS);
    leave_thread();
}

static int act(int k, const struct piece *in, struct piece *out, const twill_task *me)
{
    int how = kind[k][in->id][in->sub], many = emits[k][in->id][in->sub];
    int most = stage[k].outputs_max ? (int)stage[k].outputs_max : 1, code;
    bool well;
    enter(k, in, me->index);
    for (int j = 0; j < many; j++) {
        struct piece piece = {in->id, 2 * in->sub + j};
        assert(twill_pipeline_emit(me, &piece) == (k == SINK   ? TWILL_INVALID
                                                   : j == most ? TWILL_TOO_BIG
                                                               : TWILL_OK));
    }
    if (how == ENDS && ends && !stays)
        end_thread(k, in, 1);
    code = behave(how, me, &well);
    if (!well) {
        ended_without(k, in, 1, how);
        return code;
    }
    if (k == SINK) {
        atomic_fetch_add(&fruit[in->id], 1);
        atomic_fetch_add(&outs[k], 1);
        return 0;
    }
    if (many == 0)
        *out = (struct piece){in->id, 2 * in->sub};
    many = many > most ? most : many ? many : 1;
    atomic_fetch_add(&outs[k], many);
    for (int j = 0; j < many; j++)
        atomic_fetch_add(&given[k + 1][in->id][2 * in->sub + j], 1);
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
    assert(!out);
    return act(SINK, in, NULL, me);
}

static size_t lowest_of(const struct piece *in, size_t n)
{
    size_t low = 0;
    for (size_t j = 1; j < n; j++) {
        size_t a = number_of[in[j].id], b = number_of[in[low].id];
        if (a < b || (a == b && in[j].sub < in[low].sub))
            low = j;
    }
    return low;
}

/* All pieces of a batch end alike, as its first one. */
static int act_some(int k, const struct piece *in, size_t n, const twill_task *me)
{
    int how = kind[k][in->id][in->sub], code;
    size_t low = lowest_of(in, n), most = k == SINK ? 0 : stage[k].outputs_max, many = 0;
    bool well;
    assert(n >= 1 && n <= 2 && me->index == number_of[in->id]);
    for (size_t j = 0; j < n; j++)
        enter(k, &in[j], number_of[in[j].id]);
    if (k != SINK)
        many = (size_t)emits[k][in->id][in->sub] % ((most ? most : n) + 1);
    for (size_t j = 0; j < many; j++) { /* with outputs_max all are of the lowest */
        struct piece of = most ? in[low] : in[j], piece = {of.id, 2 * of.sub + (most ? (int)j : 0)};
        assert(twill_pipeline_emit(me, &piece) == TWILL_OK);
    }
    if (how == ENDS && ends && !stays)
        end_thread(k, in, n);
    code = behave(how, me, &well);
    if (!well) {
        ended_without(k, in, n, how);
        return code;
    }
    atomic_fetch_add(&outs[k], (int)(k == SINK ? n : many));
    for (size_t j = 0; j < many; j++) {
        struct piece of = most ? in[low] : in[j];
        atomic_fetch_add(&given[k + 1][of.id][2 * of.sub + (most ? (int)j : 0)], 1);
    }
    for (size_t j = 0; j < n; j++) { /* which of them are done with nothing */
        if (k == SINK || (most && many && j != low))
            atomic_fetch_add(&fruit[in[j].id], 1);
        else if (most ? !many : j >= many)
            atomic_fetch_add(&filtered[k], 1);
    }
    return 0;
}

static int second_some(const void *in, size_t n, const twill_task *me)
{
    return act_some(1, in, n, me);
}

static int sink_some(const void *in, size_t n, const twill_task *me)
{
    return act_some(SINK, in, n, me);
}

static void drop_at(int k, const struct piece *in, twill_status why, const twill_task *me)
{
    check_place();
    assert(why == TWILL_CANCELLED || why == TWILL_FAILED);
    if (k == 0)
        number_of[in->id] = me->index;
    assert(number_of[in->id] == me->index && me->worker == UINT_MAX);
    assert(atomic_fetch_add(&drops[k][in->id][in->sub], 1) == 0);
    if (letters_end && ends && !stays && one_in(3))
        leave_thread();
}

static void drop_first(void *in, twill_status why, const twill_task *me)
{
    drop_at(0, in, why, me);
}

static void drop_second(void *in, twill_status why, const twill_task *me)
{
    drop_at(1, in, why, me);
}

static void drop_sink(void *in, twill_status why, const twill_task *me)
{
    drop_at(SINK, in, why, me);
}

static void letter(size_t k, void *in_, int code, const twill_task *me)
{
    const struct piece *in = in_;
    check_place();
    assert(code == FAILURE && number_of[in->id] == me->index);
    assert(atomic_load(&wrong[k][in->id][in->sub]) == 1);
    assert(atomic_fetch_add(&letters[k][in->id][in->sub], 1) == 0);
    if (letters_end && ends && !stays && one_in(3))
        leave_thread();
}

static int worker_start(void **state, const twill_task *me)
{
    check_place();
    *state = &refuses;
    if (!(refuses >> me->worker & 1))
        return 0;
    atomic_store(&closing, 1); /* perhaps nobody is left */
    if (ends && !stays && one_in(2))
        leave_thread();
    return 3;
}

/* ---- what the threads do ---- */

static void check_joined(int side, twill_status status, bool for_ever, const twill_until *until)
{
    const twill_run *run = &options.run;
    switch (status) {
    case TWILL_OK:
    case TWILL_FAILED:
        for_ever = true; /* it is over */
        break;
    case TWILL_TIMEOUT:
        assert((run->until.deadline && twill_now() >= run->until.deadline) ||
               (!for_ever && over(until, status)));
        break;
    case TWILL_CANCELLED:
        assert(atomic_load(&cancelling) || (!for_ever && over(until, status)));
        break;
    default:
        assert(!"an answer of a join");
    }
    if (for_ever) {
        behind[side] = true;
        ended_so[side] = status;
    }
}

static void join(int side, bool for_ever)
{
    twill_until until = for_ever ? (twill_until){0, NULL} : soon(false);
    atomic_store(&closing, 1);
    check_joined(side, twill_pipeline_join_until(shared, until), for_ever, &until);
}

static void stop(int side)
{
    twill_until join_until = one_in(2) ? soon(false) : (twill_until){0, NULL};
    twill_stopped out;
    twill_status status;
    atomic_store(&closing, 1);
    atomic_store(&cancelling, 1);
    status = twill_pipeline_stop(shared, twill_within(TWILL_US(EXPLORE_CHOICE(3, 0) * 8)),
                                 join_until, &out);
    assert(status == TWILL_OK ? out.stuck == 0 : over(&join_until, status));
    if (status == TWILL_OK)
        behind[side] = true;
}

static void look(void)
{
    twill_stage_stats seen_[STAGES];
    twill_pipeline_report now;
    twill_pipeline_get_stats(shared, &now, seen_);
    assert(now.run.done + now.run.failed + now.run.skipped <= now.run.total);
    assert(now.run.total <= ALL && now.in_flight_peak <= now.run.total);
    for (int k = 0; k < STAGES; k++)
        assert(seen_[k].running <= seen_[k].running_peak &&
               (stage[k].kind == TWILL_STAGE_PARALLEL || seen_[k].running_peak <= 1));
}

static void play(int side)
{
    int next = side * EACH;
    for (int k = EACH + 1; k > 0; k--) {
        int what = EXPLORE_CHOICE(16, 0);
        if (what < 9 && next < (side + 1) * EACH) {
            push(next++, what % 3, false);
        } else if (what == 9 || what == 10) {
            look();
        } else if (what == 11) {
            join(side, false);
        } else if (what == 12) {
            stop(side);
        } else if (what == 13) {
            close_or_cancel();
        } else if (what == 14) {
            atomic_store(&closing, 1);
            atomic_store(&cancelling, 1);
            twill_cancel_fire(&others, 1);
            if (one_in(2))
                twill_cancel_fire(&token, 1);
        } else if (what == 15 && pool && one_in(2)) {
            (void)twill_pool_close(pool);
        }
        if (behind[side])
            break;
    }
    if (one_in(3) && !behind[side])
        join(side, true);
}

static void beside(void *side_)
{
    (void)side_;
    play(1);
}

static int task_plays(void *arg, void *result, const twill_task *me)
{
    (void)arg, (void)result, (void)me;
    play(2);
    return 0;
}

/* ---- what is drawn ---- */

static void draw_batch(twill_stage *one, twill_stage_batch_fn *batch)
{
    static const twill_ns lingers[] = {0, TWILL_US(10), TWILL_FOREVER};
    one->work = NULL;
    one->batch = batch;
    one->batch_max = 2;
    one->linger = lingers[EXPLORE_CHOICE(3, 0)];
}

static void draw_stages(void)
{
    static twill_map_fn *const works[] = {first, second, sink};
    static twill_drop_fn *const drop_fns[] = {drop_first, drop_second, drop_sink};
    for (int k = 0; k < STAGES; k++) {
        stage[k] = (twill_stage){.work = works[k],
                                 .out_size = k == SINK ? 0 : sizeof(struct piece),
                                 .kind = (twill_stage_kind)EXPLORE_CHOICE(3, 0),
                                 .buffer = (size_t)EXPLORE_CHOICE(3, 0),
                                 .outputs_max = k == SINK || one_in(2) ? 0 : 2,
                                 .keep_going = one_in(5),
                                 .drop = drop_fns[k]};
        if (stage[k].kind == TWILL_STAGE_PARALLEL)
            stage[k].workers = 1 + (unsigned)EXPLORE_CHOICE(2, 0);
    }
    if (one_in(3))
        draw_batch(&stage[1], second_some);
    if (one_in(3))
        draw_batch(&stage[SINK], sink_some);
}

static void draw_calls(void)
{
    int odd = 1 + EXPLORE_CHOICE(4, 0);
    for (int id = 0; id < ALL; id++) {
        answer[id] = NOT_ASKED;
        for (int k = 0; k < STAGES; k++)
            for (int sub = 0; sub < 1 << k; sub++) {
                kind[k][id][sub] = one_in(odd) ? EXPLORE_CHOICE(KINDS, 0) : WELL;
                emits[k][id][sub] = one_in(2) ? EXPLORE_CHOICE(4, 0) : 0;
                if (emits[k][id][sub] > 1 && !stage[k].outputs_max)
                    emits[k][id][sub] = 2; /* one too many */
            }
    }
}

static void draw(void)
{
    static const twill_on_error policies[] = {TWILL_ON_ERROR_DEFAULT, TWILL_ON_ERROR_COLLECT,
                                              TWILL_ON_ERROR_FIRST, TWILL_ON_ERROR_LIMIT};
    draw_stages();
    draw_calls();
    ends = one_in(3);
    letters_end = one_in(3);
    refuses = one_in(6) ? (unsigned)EXPLORE_CHOICE(16, 0) : 0;
    options = (twill_pipeline_options){.run.workers = (unsigned)EXPLORE_CHOICE(4, 0),
                                       .run.on_error = policies[EXPLORE_CHOICE(4, 0)],
                                       .tokens = (size_t)EXPLORE_CHOICE(4, 0),
                                       .dead_letter = letter,
                                       .stage_stats = figures,
                                       .report = &report};
    if (options.run.on_error == TWILL_ON_ERROR_LIMIT)
        options.run.max_errors = 2;
    if (refuses)
        options.run.worker_start = worker_start;
    if (one_in(3))
        options.run.until.cancel = &token;
    if (one_in(4))
        options.run.until.deadline = twill_now() + TWILL_US(15);
    if (one_in(2))
        assert(twill_pool_create(
                   &pool, &(twill_pool_options){
                              .run.workers = 1 + (unsigned)EXPLORE_CHOICE(2, 0)}) == TWILL_OK);
    if (one_in(2))
        options.run.pool = pool;
}

/* ---- what must hold ---- */

/* It does something: who looks at many counters does not poll. */
static void look_on(void)
{
    atomic_fetch_add(&looks, 1);
}

/* What the serial loop does with a piece; false: it has ended there. */
static bool walk(int k, int id, int sub, int wanted[ALL][SUBS])
{
    int how = kind[k][id][sub], many = emits[k][id][sub], most = stage[k].outputs_max ? 2 : 1;
    assert(atomic_load(&at[k][id][sub]) == 1);
    if (k == SINK)
        wanted[id][sub] = 1;
    if (how == FAILS)
        return stage[k].keep_going || options.run.on_error == TWILL_ON_ERROR_COLLECT;
    if (how == STOPS)
        return false;
    if (how == FILTERS || how == SKIPS || k == SINK)
        return true;
    many = many > most ? most : many ? many : 1;
    for (int j = 0; j < many; j++)
        if (!walk(k + 1, id, 2 * sub + j, wanted))
            return false;
    return true;
}

static void check_serial(const int *id_of, int total)
{
    const twill_run *run = &options.run;
    int wanted[ALL][SUBS] = {{0}};
    bool goes_on = true;
    if (atomic_load(&cancelling) || run->until.deadline || ends || refuses || stage[1].batch ||
        stage[SINK].batch || stage[SINK].kind != TWILL_STAGE_IN_ORDER ||
        run->on_error == TWILL_ON_ERROR_FIRST || run->on_error == TWILL_ON_ERROR_LIMIT)
        return;
    for (int i = 0; i < total && goes_on; i++)
        goes_on = walk(0, id_of[i], 0, wanted);
    for (int id = 0; id < ALL; id++)
        for (int sub = 0; sub < SUBS; sub++)
            assert(atomic_load(&at[SINK][id][sub]) == wanted[id][sub]);
}

static void check_figures(void)
{
    for (int k = 0; k < STAGES; k++) {
        uint64_t in = 0, dropped_ = 0, failed = 0;
        for (int id = 0; id < ALL; id++, look_on())
            for (int sub = 0; sub < SUBS; sub++) {
                in += (uint64_t)at[k][id][sub];
                dropped_ += (uint64_t)drops[k][id][sub];
                failed += (uint64_t)wrong[k][id][sub];
                assert(letters[k][id][sub] <= wrong[k][id][sub]);
                assert(letters[k][id][sub] == wrong[k][id][sub] || ends);
            }
        assert(figures[k].in == in && figures[k].dropped == dropped_);
        assert(figures[k].failed == failed);
        assert(figures[k].filtered == (uint64_t)atomic_load(&filtered[k]));
        assert(figures[k].out == (uint64_t)atomic_load(&outs[k]));
        assert(figures[k].waiting == 0 && figures[k].running == 0);
    }
    assert(report.delivered == (uint64_t)atomic_load(&outs[SINK]));
}

static void check_answer(void)
{
    const twill_report *run = &report.run;
    switch (run->status) {
    case TWILL_OK:
        break;
    case TWILL_FAILED:
        assert(run->failed || run->first_error.index == SIZE_MAX);
        assert(run->first_error.index != SIZE_MAX || refuses);
        break;
    case TWILL_TIMEOUT:
        assert(options.run.until.deadline && twill_now() >= options.run.until.deadline);
        break;
    default:
        assert(run->status == TWILL_CANCELLED && atomic_load(&cancelling));
    }
    for (int k = 0; k < SIDES; k++)
        assert(!behind[k] || !ended_so[k] || ended_so[k] == run->status);
}

static void check(void)
{
    int id_of[ALL], total = 0;
    size_t done = 0, failed = 0, skipped = 0, empty = 0;
    for (int id = 0; id < ALL; id++, look_on()) {
        bool in = at[0][id][0] + drops[0][id][0] == 1, bad = false, gone = skips[id] > 0;
        assert(in == (answer[id] == TWILL_OK));
        for (int k = 0; k < STAGES; k++)
            for (int sub = 0; sub < SUBS; sub++) {
                assert(at[k][id][sub] + drops[k][id][sub] == (k ? given[k][id][sub] : in && !sub));
                bad |= wrong[k][id][sub] > 0;
                gone |= drops[k][id][sub] > 0;
            }
        if (!in)
            continue;
        assert(number_of[id] < ALL);
        id_of[number_of[id]] = id;
        total++;
        failed += bad;
        skipped += !bad && gone;
        done += !bad && !gone;
        empty += !bad && !gone && !fruit[id];
        for (int i = id / EACH * EACH; i < id && id < EXTRA; i++) /* as it pushed them */
            assert(answer[i] != TWILL_OK || number_of[i] < number_of[id]);
    }
    assert(report.run.total == (size_t)total && report.run.done == done);
    assert(report.run.failed == failed && report.run.skipped == skipped);
    assert(report.filtered == empty);
    check_figures();
    check_answer();
    check_serial(id_of, total);
}

int main(void)
{
    twill__thrd thread = {.fn = beside, .cpu = UINT_MAX};
    twill_future future = {0};
    bool with_thread, with_task;
    twill_status status;

    quiet();
    stays = true;
    draw();
    atomic_store(&threadless, one_in(6));
    assert(twill_pipeline_create(&shared, sizeof(struct piece), stage, STAGES, &options) ==
           TWILL_OK);
    atomic_store(&threadless, false);
    with_thread = one_in(2) && twill__thread_start(&thread);
    with_task = pool && one_in(2);
    if (with_task)
        with_task = twill_pool_submit(pool, task_plays, NULL, &future, NULL) == TWILL_OK;
    play(0);
    if (with_thread)
        twill__thread_join(&thread);
    if (with_task) {
        status = twill_future_wait(future, NULL, NULL);
        assert(status == TWILL_OK || (status == TWILL_FAILED && ends));
        twill_future_release(future);
    }
    if (!behind[0] && one_in(2))
        join(0, true);
    atomic_store(&cancelling, 1);
    atomic_store(&closing, 1);
    assert(twill_pipeline_destroy(shared) == TWILL_OK);
    assert(twill_pool_destroy(pool) == TWILL_OK);
    check();
    twill_cancel_detach(&token);
    twill_cancel_detach(&others);
    return 0;
}

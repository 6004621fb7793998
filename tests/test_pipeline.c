/* twill_pipeline: random pipelines against the serial loop; order, bounds, ends, batches. */
#define HARNESS_FAULTS
#include "harness.h"

#include "platform/threads.h"
#include "twill_pipeline.h"
#include "twill_worker_pool.h"

#include <limits.h>

static twill_until soon(int ms)
{
    return twill_within(TWILL_MS(ms));
}

/* ---- random pipelines against the serial loop ---- */

enum { STAGES_MOST = 5, OUTS_MOST = 40000, ITEM_MOST = 48 };

typedef struct value { /* the head of each item */
    uint32_t number, path;
} value;

struct machine;
typedef struct part { /* what a stage does; its context */
    struct machine *machine;
    size_t k;
    unsigned filter, split; /* one in so many is filtered; outputs at most */
    atomic_int running, running_most, calls;
    uint32_t last_number, last_path; /* in order */
    bool any;
} part;

typedef struct machine {
    uint32_t items, seed;
    size_t n;
    twill_stage stage[STAGES_MOST];
    part part[STAGES_MOST];
    size_t size[STAGES_MOST + 1];
    uint32_t fail_at[STAGES_MOST + 1], stop_at[STAGES_MOST + 1]; /* [n]: the source */
    value out[OUTS_MOST];
    atomic_uint outs;
    atomic_uint dropped, buried;
    atomic_int alive;
    bool wrong;
} machine;

static uint32_t mixed(uint32_t a, uint32_t b)
{
    uint64_t x = ((uint64_t)a << 32 | b) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(x >> 29);
}

/* What a stage does with a value: how many outputs; or -1: it fails, -2: it stops. */
static int decide(const machine *m, size_t k, value v)
{
    const part *p = &m->part[k];
    uint32_t x = mixed(v.path ^ m->seed, (uint32_t)k * 77 + v.number);
    /* in the middle of a number's pieces, now and then */
    if (v.number >= m->fail_at[k] && (v.number > m->fail_at[k] || x % 3 != 0))
        return -1;
    if (v.number == m->stop_at[k])
        return -2;
    if (p->filter && x % p->filter == 0)
        return 0;
    return p->split ? (int)(x / 64 % (p->split + 1)) : 1;
}

static value made(value v, size_t k, int which)
{
    v.path = mixed(v.path + (uint32_t)k, (uint32_t)which + 1);
    return v;
}

static void enter(part *p)
{
    int now = atomic_fetch_add(&p->running, 1) + 1, most = atomic_load(&p->running_most);
    while (now > most && !atomic_compare_exchange_weak(&p->running_most, &most, now)) {}
    atomic_fetch_add(&p->calls, 1);
    if (mixed((uint32_t)p->calls, (uint32_t)p->k) % 64 == 0)
        twill__yield();
}

/* An in-order stage sees numbers rise. */
static void see(part *p, value v)
{
    machine *m = p->machine;
    if (m->stage[p->k].kind == TWILL_STAGE_IN_ORDER) {
        if (p->any && v.number < p->last_number)
            m->wrong = true;
        p->any = true;
        p->last_number = v.number;
    }
}

static int stage_work(const void *in, void *out, const twill_task *task)
{
    part *p = task->context;
    machine *m = p->machine;
    value v, w;
    int outs, code = 0;
    char item[ITEM_MOST];
    memcpy(&v, in, sizeof v);
    enter(p);
    see(p, v);
    if (v.number != task->index)
        m->wrong = true;
    outs = decide(m, p->k, v);
    if (outs == -1) {
        code = (int)(p->k * 100000 + v.number + 1);
        if (p->split) /* withdrawn */
            (void)twill_pipeline_emit(task, memset(item, 0, sizeof item));
    } else if (outs == -2) {
        code = twill_task_stop(task);
    } else if (outs == 0) {
        code = twill_pipeline_filter(task);
    } else if (!out) {
        m->out[atomic_fetch_add(&m->outs, 1)] = v;
    } else if (p->split) {
        for (int j = 0; j < outs; j++) {
            memset(item, 7, sizeof item);
            w = made(v, p->k, j);
            memcpy(item, &w, sizeof w);
            if (twill_pipeline_emit(task, item) != TWILL_OK)
                m->wrong = true;
        }
        if (outs == (int)p->split && twill_pipeline_emit(task, item) != TWILL_TOO_BIG)
            m->wrong = true;
    } else {
        w = made(v, p->k, 0);
        memset(out, 9, m->size[p->k + 1]);
        memcpy(out, &w, sizeof w);
    }
    atomic_fetch_sub(&p->running, 1);
    return code;
}

static int stage_batch(const void *items, size_t n, const twill_task *task)
{
    part *p = task->context;
    machine *m = p->machine;
    enter(p);
    for (size_t i = 0; i < n; i++) {
        value v, w;
        char item[ITEM_MOST];
        memcpy(&v, (const char *)items + i * m->size[p->k], sizeof v);
        see(p, v);
        if (i == 0 && v.number != task->index)
            m->wrong = true;
        w = made(v, p->k, 0);
        memcpy(item, &w, sizeof w);
        if (m->size[p->k + 1] == 0)
            m->out[atomic_fetch_add(&m->outs, 1)] = v;
        else if (twill_pipeline_emit(task, item) != TWILL_OK)
            m->wrong = true;
    }
    atomic_fetch_sub(&p->running, 1);
    return 0;
}

static int make_items(void *out, const twill_task *task)
{
    machine *m = task->context;
    value v = {(uint32_t)task->index, mixed(m->seed, (uint32_t)task->index)};
    if (v.number == m->items)
        return twill_task_stop(task);
    if (v.number == m->fail_at[m->n])
        return 4711;
    if (mixed(v.path, (uint32_t)atomic_fetch_add(&m->alive, 1)) % 16 == 0)
        return twill_pipeline_filter(task); /* ask again */
    memset(out, 5, m->size[0]);
    memcpy(out, &v, sizeof v);
    return 0;
}

static void drop_one(void *item, twill_status why, const twill_task *task)
{
    part *p = task->context;
    value v;
    memcpy(&v, item, sizeof v);
    if (v.number != task->index || task->worker != UINT_MAX ||
        (why != TWILL_CANCELLED && why != TWILL_FAILED))
        p->machine->wrong = true;
    atomic_fetch_add(&p->machine->dropped, 1);
}

static void bury(size_t stage, void *in, int code, const twill_task *task)
{
    machine *m = task->context;
    value v;
    memcpy(&v, in, sizeof v);
    if (code != (int)(stage * 100000 + v.number + 1) || v.number != task->index)
        m->wrong = true;
    atomic_fetch_add(&m->buried, 1);
}

/* The serial loop, depth first. */
typedef struct oracle {
    value out[OUTS_MOST];
    unsigned outs;
    bool over;
    int code;
    uint32_t error_number;
    size_t error_stage;
} oracle;

static void oracle_run(const machine *m, oracle *o, size_t k, value v)
{
    int outs;
    if (o->over)
        return;
    if (k == m->n) {
        o->out[o->outs++] = v;
        return;
    }
    if (m->stage[k].batch) {
        if (k + 1 < m->n)
            v = made(v, k, 0);
        oracle_run(m, o, k + 1, v);
        return;
    }
    outs = decide(m, k, v);
    if (outs == -1) {
        o->over = true;
        o->code = (int)(k * 100000 + v.number + 1);
        o->error_number = v.number;
        o->error_stage = k;
    } else if (outs == -2) {
        o->over = true;
    } else if (k + 1 == m->n) {
        if (outs)
            oracle_run(m, o, k + 1, v);
    } else {
        for (int j = 0; j < outs; j++)
            oracle_run(m, o, k + 1, made(v, k, j));
    }
}

static void oracle_all(const machine *m, oracle *o)
{
    memset(o, 0, sizeof *o);
    for (uint32_t i = 0; i < m->items && !o->over; i++) {
        if (i == m->fail_at[m->n]) {
            o->over = true;
            o->code = 4711;
            o->error_number = i;
            o->error_stage = SIZE_MAX;
            break;
        }
        oracle_run(m, o, 0, (value){i, mixed(m->seed, i)});
    }
}

static unsigned below(unsigned n)
{
    return (unsigned)test_random_below(n);
}

static void random_machine(machine *m, bool faults)
{
    size_t spread = 1;
    memset(m, 0, sizeof *m);
    m->items = below(4) ? below(400) : below(4);
    m->seed = (uint32_t)test_random();
    m->n = 1 + below(STAGES_MOST);
    for (size_t k = 0; k <= m->n; k++) {
        m->size[k] = k == m->n ? 0 : sizeof(value) + below(ITEM_MOST - sizeof(value));
        m->fail_at[k] = m->stop_at[k] = UINT32_MAX;
    }
    for (size_t k = 0; k < m->n; k++) {
        twill_stage *s = &m->stage[k];
        part *p = &m->part[k];
        p->machine = m;
        p->k = k;
        s->name = "stage";
        s->kind = (twill_stage_kind)below(3);
        s->workers = s->kind == TWILL_STAGE_PARALLEL ? 1 + below(4) : below(2);
        s->out_size = m->size[k + 1];
        s->buffer = below(2) ? 1 + below(6) : 0;
        s->context = p;
        s->drop = drop_one;
        if (below(4) == 0) {
            s->batch = stage_batch;
            s->batch_max = below(3) ? 1 + below(9) : 0;
            s->linger = below(3) ? 0 : below(2) ? TWILL_FOREVER : TWILL_US(50);
            continue;
        }
        s->work = stage_work;
        p->filter = below(3) ? 0 : 2 + below(5);
        if (s->out_size && below(3) == 0 && spread < 30) {
            p->split = 1 + below(3);
            s->outputs_max = p->split;
            spread *= p->split;
        }
        if (faults && below(3) == 0)
            m->fail_at[k] = below(m->items + 5);
        else if (faults && below(3) == 0)
            m->stop_at[k] = below(m->items + 5);
    }
    if (faults && below(6) == 0)
        m->fail_at[m->n] = below(m->items + 5);
}

static int by_value(const void *a_, const void *b_)
{
    const value *a = a_, *b = b_;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return a->path < b->path ? -1 : a->path > b->path;
}

static void check_stages(const machine *m, const twill_stage_stats *s,
                         const twill_pipeline_report *r)
{
    uint64_t dropped = 0, failed = 0;
    for (size_t k = 0; k < m->n; k++) {
        CHECK_EQ(s[k].waiting, 0);
        CHECK_EQ(s[k].running, 0);
        CHECK_EQ(atomic_load(&m->part[k].running), 0);
        if (m->stage[k].kind != TWILL_STAGE_PARALLEL)
            CHECK(atomic_load(&m->part[k].running_most) <= 1);
        else
            CHECK(atomic_load(&m->part[k].running_most) <= (int)m->stage[k].workers);
        if (!m->stage[k].batch)
            CHECK_EQ(s[k].in, (unsigned)atomic_load(&m->part[k].calls));
        if (k + 1 < m->n)
            CHECK_EQ(s[k].out, s[k + 1].in + s[k + 1].dropped);
        CHECK(s[k].busy >= 0 && s[k].starved >= 0 && s[k].held >= 0 && s[k].longest >= 0);
        dropped += s[k].dropped;
        failed += s[k].failed;
    }
    CHECK_EQ(s[m->n - 1].out, r->delivered);
    CHECK_EQ(dropped, atomic_load(&m->dropped));
    CHECK_EQ(failed, atomic_load(&m->buried));
}

static machine the_machine;
static oracle the_oracle;

static void run_random(bool faults, twill_pool *pool)
{
    machine *m = &the_machine;
    oracle *o = &the_oracle;
    twill_pipeline_report r;
    twill_stage_stats s[STAGES_MOST];
    twill_pipeline_options options = {.report = &r, .stage_stats = s, .dead_letter = bury};
    twill_status status;
    bool ordered;
    random_machine(m, faults);
    oracle_all(m, o);
    options.tokens = below(3) ? 1 + below(12) : 0;
    options.run.workers = below(2) ? 1 + below(4) : 0;
    options.run.pool = pool;
    options.run.context = m;
    status = twill_pipeline_run(make_items, m->size[0], m->stage, m->n, &options);
    CHECK(!m->wrong);
    CHECK_EQ(r.run.total, r.run.done + r.run.failed + r.run.skipped);
    CHECK_EQ(status, r.run.status);
    CHECK_EQ(status, o->code ? TWILL_FAILED : TWILL_OK);
    CHECK_EQ(r.run.first_error.code, o->code);
    if (o->code) {
        CHECK_EQ(r.run.first_error.index, o->error_number);
        CHECK_EQ(r.failed_stage, o->error_stage);
    } else {
        CHECK_EQ(r.failed_stage, SIZE_MAX);
    }
    if (options.tokens)
        CHECK(r.in_flight_peak <= options.tokens);
    CHECK_EQ(r.delivered, atomic_load(&m->outs));
    check_stages(m, s, &r);
    ordered = m->stage[m->n - 1].kind == TWILL_STAGE_IN_ORDER;
    if (!ordered) {
        qsort(m->out, atomic_load(&m->outs), sizeof m->out[0], by_value);
        qsort(o->out, o->outs, sizeof o->out[0], by_value);
    }
    if (!o->over || ordered) {
        if (CHECK_EQ(atomic_load(&m->outs), o->outs))
            CHECK(memcmp(m->out, o->out, o->outs * sizeof o->out[0]) == 0);
    }
}

TEST(random_pipelines_give_what_the_serial_loop_gives)
{
    long live = faults_live();
    for (int k = 0; k < 150; k++)
        run_random(false, NULL);
    CHECK_EQ(faults_live(), live);
}

TEST(random_failures_and_stops_end_as_the_serial_loop)
{
    for (int k = 0; k < 300; k++)
        run_random(true, NULL);
}

TEST(random_pipelines_on_pools)
{
    for (unsigned threads = 1; threads < 4; threads++) {
        twill_pool *pool;
        if (!CHECK_EQ(twill_pool_create(&pool, &(twill_pool_options){.run.workers = threads}),
                      TWILL_OK))
            return;
        for (int k = 0; k < 60; k++)
            run_random(k % 2, pool);
        CHECK_EQ(twill_pool_destroy(pool), TWILL_OK);
    }
}

/* ---- one call: shapes ---- */

typedef struct tally { /* what simple stages note */
    atomic_int seen[512], dropped[512], ran[8], order_errors;
    int last;
    int total;
    int fail_at, code, stop_at;
    atomic_int gate, told;
    twill_ns nap;
} tally;

static void tally_init(tally *t, int total)
{
    memset(t, 0, sizeof *t);
    t->total = total;
    t->last = -1;
    t->fail_at = t->stop_at = -1;
}

static int numbers(void *out, const twill_task *task)
{
    tally *t = task->context;
    if ((int)task->index == t->total)
        return twill_task_stop(task);
    *(int *)out = (int)task->index;
    return 0;
}

static int pass_on(const void *in, void *out, const twill_task *task)
{
    tally *t = task->context;
    int i = *(const int *)in;
    if (t->nap)
        twill_sleep(twill_within_or_cancelled(t->nap, task->until.cancel));
    if (i == t->fail_at)
        return t->code;
    if (i == t->stop_at)
        return twill_task_stop(task);
    if (out)
        *(int *)out = i;
    return 0;
}

static int note(const void *in, void *out, const twill_task *task)
{
    tally *t = task->context;
    int i = *(const int *)in;
    (void)out;
    atomic_fetch_add(&t->seen[i % 512], 1);
    if (i <= t->last)
        atomic_fetch_add(&t->order_errors, 1);
    t->last = i;
    return 0;
}

static void note_drop(void *item, twill_status why, const twill_task *task)
{
    tally *t = task->context;
    (void)why;
    atomic_fetch_add(&t->dropped[*(int *)item % 512], 1);
}

static twill_pipeline_options with(tally *t, twill_pipeline_report *r)
{
    twill_pipeline_options o = {.run.context = t, .report = r};
    return o;
}

#define WORK(...)                                                       \
    {                                                                   \
        .out_size = sizeof(int), .drop = note_drop, .work = __VA_ARGS__ \
    }
#define SINK()                                                        \
    {                                                                 \
        .kind = TWILL_STAGE_IN_ORDER, .drop = note_drop, .work = note \
    }

static void check_sums(const twill_pipeline_report *r)
{
    CHECK_EQ(r->run.total, r->run.done + r->run.failed + r->run.skipped);
}

TEST(an_empty_source_is_ok)
{
    tally t;
    twill_pipeline_report r;
    tally_init(&t, 0);
    twill_pipeline_options o = with(&t, &r);
    const twill_stage stages[] = {WORK(pass_on), SINK()};
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 2, &o), TWILL_OK);
    CHECK_EQ(r.run.total, 0);
    CHECK_EQ(r.delivered, 0);
    CHECK_EQ(r.in_flight_peak, 0);
}

TEST(workers_of_a_stage_run_at_once)
{
    /* four calls of the first stage wait for one another: only together they end */
    tally t;
    twill_pipeline_report r;
    tally_init(&t, 4);
    twill_pipeline_options o = with(&t, &r);
    o.run.workers = 4;
    int meet(const void *in, void *out, const twill_task *task);
    const twill_stage stages[] = {WORK(meet, .workers = 4), SINK()};
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 2, &o), TWILL_OK);
    CHECK_EQ(r.run.done, 4);
    CHECK_EQ(r.run.workers_used, 4);
    CHECK_EQ(atomic_load(&t.order_errors), 0);
}

int meet(const void *in, void *out, const twill_task *task)
{
    tally *t = task->context;
    twill_until until = soon(20000);
    atomic_fetch_add(&t->gate, 1);
    while (atomic_load(&t->gate) < 4 && twill_now() < until.deadline)
        twill_sleep(twill_within(TWILL_US(50)));
    *(int *)out = *(const int *)in;
    return atomic_load(&t->gate) < 4;
}

/* An item enters stage k+1 when its stage k ends: item 1 is in the first stage while 0 is in the
   last one, and waits for it. */
static int first_waits(const void *in, void *out, const twill_task *task)
{
    tally *t = task->context;
    twill_until until = soon(20000);
    while (task->index == 1 && !atomic_load(&t->told) && twill_now() < until.deadline)
        twill_sleep(twill_within(TWILL_US(50)));
    *(int *)out = *(const int *)in;
    return task->index == 1 && !atomic_load(&t->told);
}

static int last_tells(const void *in, void *out, const twill_task *task)
{
    atomic_store(&((tally *)task->context)->told, 1);
    return note(in, out, task);
}

TEST(items_stream)
{
    tally t;
    twill_pipeline_report r;
    tally_init(&t, 2);
    twill_pipeline_options o = with(&t, &r);
    const twill_stage stages[] = {
        WORK(first_waits, .kind = TWILL_STAGE_IN_ORDER),
        WORK(pass_on, .kind = TWILL_STAGE_SERIAL),
        {.work = last_tells, .kind = TWILL_STAGE_IN_ORDER},
    };
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 3, &o), TWILL_OK);
    CHECK_EQ(r.run.done, 2);
}

/* Quick items, then one that waits until all before it have arrived: what is done is shown
   although its hand is busy. In the source, in an in-order stage, in a parallel one. */
static int note_last(const void *in, void *out, const twill_task *task)
{
    tally *t = task->context;
    (void)out;
    atomic_store(&t->gate, *(const int *)in);
    return 0;
}

static int waits_for_those_below(tally *t, size_t index)
{
    twill_until until = soon(20000);
    while (index == 300 && atomic_load(&t->gate) < 299 && twill_now() < until.deadline)
        twill_sleep(twill_within(TWILL_US(50)));
    return index == 300 && atomic_load(&t->gate) < 299;
}

static int slow_source(void *out, const twill_task *task)
{
    tally *t = task->context;
    if (t->nap == 0 && waits_for_those_below(t, task->index))
        return 77;
    return numbers(out, task);
}

static int slow_stage(const void *in, void *out, const twill_task *task)
{
    *(int *)out = *(const int *)in;
    return waits_for_those_below(task->context, task->index) ? 78 : 0;
}

TEST(what_is_done_is_shown_while_the_next_one_is_slow)
{
    for (int kind = -1; kind < 3; kind++)
        for (unsigned workers = 2; workers < 4; workers++) {
            tally t;
            twill_pipeline_report r;
            tally_init(&t, 400);
            t.nap = kind < 0 ? 0 : 1;
            twill_pipeline_options o = with(&t, &r);
            o.run.workers = workers;
            o.tokens = 500;
            const twill_stage stages[] = {
                {.work = kind < 0 ? pass_on : slow_stage,
                 .out_size = sizeof(int),
                 .workers = 1,
                 .kind = (twill_stage_kind)(kind < 0 ? 1 : kind)},
                {.work = note_last, .kind = TWILL_STAGE_IN_ORDER},
            };
            CHECK_EQ(twill_pipeline_run(slow_source, sizeof(int), stages, 2, &o), TWILL_OK);
            CHECK_EQ(r.run.done, 400);
        }
}

TEST(in_flight_never_exceeds_tokens)
{
    for (size_t tokens = 1; tokens < 6; tokens++) {
        tally t;
        twill_pipeline_report r;
        tally_init(&t, 300);
        twill_pipeline_options o = with(&t, &r);
        o.tokens = tokens;
        const twill_stage stages[] = {WORK(pass_on, .workers = 3), WORK(pass_on, .buffer = 1),
                                      SINK()};
        CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 3, &o), TWILL_OK);
        CHECK(r.in_flight_peak >= 1 && r.in_flight_peak <= tokens);
        CHECK_EQ(r.run.done, 300);
        CHECK_EQ(atomic_load(&t.order_errors), 0);
    }
}

TEST(a_buffer_holds_back_the_stage_before)
{
    tally t;
    twill_pipeline_report r;
    twill_stage_stats s[2];
    tally_init(&t, 200);
    twill_pipeline_options o = with(&t, &r);
    o.tokens = 50;
    o.stage_stats = s;
    const twill_stage stages[] = {WORK(pass_on, .workers = 4, .buffer = 2),
                                  {.work = note, .kind = TWILL_STAGE_SERIAL, .buffer = 3}};
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 2, &o), TWILL_OK);
    CHECK(s[0].waiting_peak <= 2); /* and the source */
    CHECK(s[1].waiting_peak <= 3);
    CHECK_EQ(s[1].in, 200);
}

/* ---- ends ---- */

TEST(every_policy_at_every_stage)
{
    const twill_on_error policies[] = {TWILL_ON_ERROR_DEFAULT, TWILL_ON_ERROR_LOWEST,
                                       TWILL_ON_ERROR_FIRST, TWILL_ON_ERROR_COLLECT,
                                       TWILL_ON_ERROR_LIMIT};
    for (size_t policy = 0; policy < 5; policy++)
        for (int stage = 0; stage < 2; stage++)
            for (int at = 0; at < 40; at += 13) {
                tally t, other;
                twill_pipeline_report r;
                twill_item_error errors[4];
                tally_init(&t, 40);
                tally_init(&other, 40);
                other.fail_at = at;
                other.code = 1000 + at;
                twill_pipeline_options o = with(&t, &r);
                o.run.on_error = policies[policy];
                o.run.errors = errors;
                o.run.errors_capacity = 4;
                twill_stage stages[] = {WORK(pass_on, .workers = 2), WORK(pass_on, .workers = 3),
                                        SINK()};
                stages[stage].context = &other;
                CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 3, &o), TWILL_FAILED);
                CHECK_EQ(r.run.first_error.index, at);
                CHECK_EQ(r.run.first_error.code, 1000 + at);
                CHECK_EQ(r.failed_stage, stage);
                CHECK_EQ(r.run.errors_stored, 1);
                CHECK_EQ(errors[0].index, at);
                check_sums(&r);
                CHECK_EQ(r.run.failed, 1);
                if (policies[policy] == TWILL_ON_ERROR_COLLECT)
                    CHECK_EQ(r.run.done, 39);
                for (int i = 0; i < 40; i++) {
                    int seen = atomic_load(&t.seen[i]);
                    CHECK(seen <= 1);
                    if (policies[policy] != TWILL_ON_ERROR_FIRST && i < at)
                        CHECK_EQ(seen, 1);
                    if (policies[policy] != TWILL_ON_ERROR_COLLECT && i >= at)
                        CHECK_EQ(seen, 0); /* in order, so nothing above comes out */
                }
            }
}

static int odd_fail(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(int *)out = *(const int *)in;
    return *(const int *)in % 2 ? 100 + *(const int *)in : 0;
}

TEST(keep_going_leaves_items_out)
{
    tally t;
    twill_pipeline_report r;
    twill_stage_stats s[2];
    tally_init(&t, 50);
    twill_pipeline_options o = with(&t, &r);
    o.stage_stats = s;
    const twill_stage stages[] = {WORK(odd_fail, .keep_going = true), SINK()};
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 2, &o), TWILL_FAILED);
    CHECK_EQ(r.run.done, 25);
    CHECK_EQ(r.run.failed, 25);
    CHECK_EQ(r.run.skipped, 0);
    CHECK_EQ(r.run.first_error.index, 1);
    CHECK_EQ(s[0].failed, 25);
    CHECK_EQ(s[1].in, 25);
}

TEST(limit_stops_after_so_many)
{
    tally t;
    twill_pipeline_report r;
    tally_init(&t, 400);
    twill_pipeline_options o = with(&t, &r);
    o.run.on_error = TWILL_ON_ERROR_LIMIT;
    o.run.max_errors = 5;
    o.run.workers = 1;
    const twill_stage stages[] = {WORK(odd_fail), SINK()};
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 2, &o), TWILL_FAILED);
    CHECK_EQ(r.run.failed, 5);
    CHECK_EQ(r.run.first_error.index, 1);
    CHECK_EQ(t.last, 8);
    check_sums(&r);
}

static int skip_third(const void *in, void *out, const twill_task *task)
{
    *(int *)out = *(const int *)in;
    return *(const int *)in % 3 == 0 ? twill_task_skip(task) : 0;
}

TEST(skipped_items_count_as_skipped)
{
    tally t;
    twill_pipeline_report r;
    tally_init(&t, 30);
    twill_pipeline_options o = with(&t, &r);
    const twill_stage stages[] = {WORK(skip_third), SINK()};
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 2, &o), TWILL_OK);
    CHECK_EQ(r.run.skipped, 10);
    CHECK_EQ(r.run.done, 20);
    CHECK_EQ(r.filtered, 0);
}

static int fires_at_100(const void *in, void *out, const twill_task *task)
{
    tally *t = task->context;
    *(int *)out = *(const int *)in;
    if (*(const int *)in == 100) {
        twill_cancel_fire((twill_cancel *)(uintptr_t)t->nap, 5);
        if (!twill_task_cancelled(task))
            return 9;
    }
    return 0;
}

TEST(a_token_ends_a_run)
{
    twill_cancel cancel;
    tally t;
    twill_pipeline_report r;
    twill_cancel_init(&cancel, NULL);
    tally_init(&t, 512);
    t.nap = (twill_ns)(uintptr_t)&cancel;
    twill_pipeline_options o = with(&t, &r);
    o.run.until.cancel = &cancel;
    const twill_stage stages[] = {WORK(fires_at_100, .workers = 3), SINK()};
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 2, &o), TWILL_CANCELLED);
    check_sums(&r);
    for (int i = 0; i < 512; i++)
        CHECK(atomic_load(&t.seen[i]) + atomic_load(&t.dropped[i]) <= 1);
    /* over before it began: nothing is called */
    tally_init(&t, 10);
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 2, &o), TWILL_CANCELLED);
    CHECK_EQ(r.run.total, 0);
    o.run.until = twill_within(0);
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 2, &o), TWILL_TIMEOUT);
    CHECK_EQ(r.run.total, 0);
    twill_cancel_detach(&cancel);
}

static int sleeps_for_ever(const void *in, void *out, const twill_task *task)
{
    (void)in;
    (void)out;
    return twill_sleep(task->until) == TWILL_OK ? 0 : 55;
}

static bool some_wait_at_the_deadline(twill_ns deadline)
{
    tally t;
    twill_pipeline_report r;
    tally_init(&t, 100);
    twill_pipeline_options o = with(&t, &r);
    o.run.until = twill_within(deadline);
    const twill_stage stages[] = {{.work = sleeps_for_ever, .workers = 3}};
    twill_status status = twill_pipeline_run(numbers, sizeof(int), stages, 1, &o);
    CHECK_EQ(status, TWILL_TIMEOUT);
    check_sums(&r);
    CHECK(r.run.done <= 3);
    return r.run.done >= 1;
}

TEST(a_deadline_ends_calls_that_wait)
{
    CHECK(test_in_time(TWILL_MS(50), some_wait_at_the_deadline));
}

/* A failure tells calls above it, and none below. */
static int low_fails(const void *in, void *out, const twill_task *task)
{
    tally *t = task->context;
    (void)in;
    (void)out;
    atomic_fetch_add(&t->gate, 1);
    while (atomic_load(&t->gate) < 3)
        twill__yield();
    if (task->index == 1)
        return 7;
    if (task->index == 2) /* above: its wait ends */
        return twill_sleep(task->until) == TWILL_CANCELLED ? 8 : 0;
    twill_sleep(twill_within_or_cancelled(TWILL_MS(5), task->until.cancel));
    return twill_cancel_fired(task->until.cancel) ? 9 : 0;
}

TEST(an_error_tells_those_above_alone)
{
    for (int round = 0; round < 20; round++) {
        tally t;
        twill_pipeline_report r;
        tally_init(&t, 3);
        twill_pipeline_options o = with(&t, &r);
        const twill_stage stages[] = {{.work = low_fails, .workers = 3}};
        CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 1, &o), TWILL_FAILED);
        CHECK_EQ(r.run.first_error.index, 1);
        CHECK_EQ(r.run.first_error.code, 7);
        CHECK_EQ(r.run.done, 1);
        CHECK_EQ(r.run.failed, 2);
    }
}

/* ---- batches ---- */

typedef struct sizes {
    size_t n[600], count, sum;
    int fail;
} sizes;

static int note_size(const void *items, size_t n, const twill_task *task)
{
    sizes *s = task->context;
    (void)items;
    s->n[s->count++] = n;
    s->sum += n;
    return s->fail;
}

TEST(batches_are_full_but_for_the_last)
{
    tally t;
    sizes s;
    twill_pipeline_report r;
    tally_init(&t, 103);
    memset(&s, 0, sizeof s);
    twill_pipeline_options o = with(&t, &r);
    o.tokens = 64;
    const twill_stage stages[] = {WORK(pass_on, .workers = 2),
                                  {.batch = note_size,
                                   .kind = TWILL_STAGE_IN_ORDER,
                                   .batch_max = 10,
                                   .linger = TWILL_FOREVER,
                                   .context = &s}};
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 2, &o), TWILL_OK);
    CHECK_EQ(s.sum, 103);
    CHECK_EQ(s.count, 11);
    CHECK_EQ(s.n[10], 3);
    CHECK_EQ(r.delivered, 103);
    /* fewer tokens than a batch: it goes when nothing more can come */
    memset(&s, 0, sizeof s);
    o.tokens = 4;
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 2, &o), TWILL_OK);
    CHECK_EQ(s.sum, 103);
    CHECK_EQ(s.n[0], 4);
}

TEST(a_failing_batch_fails_all_its_items)
{
    tally t;
    sizes s;
    twill_pipeline_report r;
    tally_init(&t, 30);
    memset(&s, 0, sizeof s);
    s.fail = 66;
    twill_pipeline_options o = with(&t, &r);
    o.tokens = 64;
    o.run.on_error = TWILL_ON_ERROR_COLLECT;
    const twill_stage stages[] = {{.batch = note_size,
                                   .kind = TWILL_STAGE_IN_ORDER,
                                   .batch_max = 10,
                                   .linger = TWILL_FOREVER,
                                   .context = &s}};
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 1, &o), TWILL_FAILED);
    CHECK_EQ(r.run.failed, 30);
    CHECK_EQ(r.run.first_error.index, 0);
    CHECK_EQ(r.run.first_error.code, 66);
    o.run.on_error = 0;
    memset(&s, 0, sizeof s);
    s.fail = 66;
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 1, &o), TWILL_FAILED);
    CHECK_EQ(r.run.first_error.index, 0);
    check_sums(&r);
}

static int sum_up(const void *items, size_t n, const twill_task *task)
{
    int sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((const int *)items)[i];
    if (twill_pipeline_emit(task, &sum) != TWILL_OK)
        return 1;
    return twill_pipeline_emit(task, &sum) != TWILL_TOO_BIG;
}

static int add_all(const void *in, void *out, const twill_task *task)
{
    (void)out;
    *(int *)task->context += *(const int *)in;
    return 0;
}

TEST(a_batch_may_have_one_output_of_many)
{
    tally t;
    int sum = 0;
    twill_pipeline_report r;
    tally_init(&t, 101);
    twill_pipeline_options o = with(&t, &r);
    o.tokens = 40;
    const twill_stage stages[] = {{.batch = sum_up,
                                   .out_size = sizeof(int),
                                   .batch_max = 10,
                                   .linger = TWILL_FOREVER,
                                   .workers = 2,
                                   .outputs_max = 1},
                                  {.work = add_all, .kind = TWILL_STAGE_IN_ORDER, .context = &sum}};
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 2, &o), TWILL_OK);
    CHECK_EQ(sum, 5050);
    CHECK_EQ(r.delivered, 11);
    CHECK_EQ(r.run.done, 101);
    CHECK_EQ(r.filtered, 0);
}

/* ---- map ---- */

static int twice(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(long *)out = *(const int *)in * 2L;
    return 0;
}

static int some(const void *in, void *out, const twill_task *task)
{
    long v = *(const long *)in;
    *(long *)out = v + 1;
    if (v % 10 == 6)
        return twill_pipeline_filter(task);
    return v == 70 ? 5 : 0;
}

TEST(map_gives_each_item_its_result)
{
    int items[100];
    long results[100];
    twill_status statuses[100];
    int codes[100];
    twill_pipeline_report r;
    twill_pipeline_options o = {.report = &r,
                                .run.statuses = statuses,
                                .run.codes = codes,
                                .run.on_error = TWILL_ON_ERROR_COLLECT};
    const twill_stage stages[] = {
        {.work = twice, .out_size = sizeof(long), .workers = 3},
        {.work = some, .out_size = sizeof(long), .kind = TWILL_STAGE_SERIAL},
    };
    for (int i = 0; i < 100; i++) {
        items[i] = i;
        results[i] = -1;
    }
    CHECK_EQ(twill_pipeline_map(items, sizeof(int), results, sizeof(long), 100, stages, 2, &o),
             TWILL_FAILED);
    CHECK_EQ(r.run.total, 100);
    CHECK_EQ(r.run.failed, 1);
    CHECK_EQ(r.run.first_error.index, 35);
    for (int i = 0; i < 100; i++) {
        bool none = i * 2 % 10 == 6 || i == 35;
        CHECK_EQ(results[i], none ? -1 : i * 2 + 1);
        CHECK_EQ(statuses[i], i == 35 ? TWILL_FAILED : TWILL_OK);
        CHECK_EQ(codes[i], i == 35 ? 5 : 0);
    }
    o.run.on_error = 0;
    for (int round = 0; round < 20; round++) { /* a thread may be held up with the one that fails */
        CHECK_EQ(twill_pipeline_map(items, sizeof(int), results, sizeof(long), 100, stages, 2, &o),
                 TWILL_FAILED);
        CHECK_EQ(r.run.total, 100);
        check_sums(&r);
        CHECK_EQ(statuses[35], TWILL_FAILED);
        for (int i = 0; i < 35; i++)
            CHECK_EQ(statuses[i], TWILL_OK);
        if (statuses[99] == TWILL_CANCELLED)
            break;
    }
    CHECK_EQ(statuses[99], TWILL_CANCELLED);
    /* what the end came before says why, also what was never taken */
    o.run.until = twill_within(0);
    CHECK_EQ(twill_pipeline_map(items, sizeof(int), results, sizeof(long), 100, stages, 2, &o),
             TWILL_TIMEOUT);
    CHECK_EQ(r.run.skipped, 100);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(statuses[i], TWILL_TIMEOUT);
    /* no stages: a copy */
    int copy[100] = {0};
    o.run.until = (twill_until){0, NULL};
    memset(codes, 1, sizeof codes);
    CHECK_EQ(twill_pipeline_map(items, sizeof(int), copy, sizeof(int), 100, NULL, 0, &o), TWILL_OK);
    CHECK(memcmp(copy, items, sizeof copy) == 0);
    for (int i = 0; i < 100; i++)
        CHECK(statuses[i] == TWILL_OK && codes[i] == 0);
    CHECK_EQ(twill_pipeline_map(items, sizeof(int), results, sizeof(short), 100, NULL, 0, NULL),
             TWILL_INVALID);
    CHECK_EQ(twill_pipeline_map(NULL, sizeof(int), NULL, sizeof(long), 0, stages, 2, NULL),
             TWILL_OK);
    const twill_stage sink[] = {{.work = some}};
    CHECK_EQ(twill_pipeline_map(items, sizeof(int), results, 0, 100, sink, 1, NULL), TWILL_INVALID);
}

/* Stages of a map may be batches, whose output k is of item k; the rest have none. */
static int batch_twice(const void *items, size_t n, const twill_task *task)
{
    int bad = 0;
    for (size_t k = 0; k < n; k++) {
        long out = ((const int *)items)[k] * 2L;
        bad += twill_pipeline_emit(task, &out) != TWILL_OK;
    }
    return bad;
}

static int batch_but_last(const void *items, size_t n, const twill_task *task)
{
    int bad = 0;
    for (size_t k = 0; k + 1 < n; k++) {
        long out = ((const long *)items)[k] + 1;
        bad += twill_pipeline_emit(task, &out) != TWILL_OK;
    }
    return bad;
}

TEST(map_in_batches)
{
    int items[20];
    long results[20];
    twill_status statuses[20];
    twill_pipeline_report r;
    const twill_stage stages[] = {
        {.batch = batch_twice, .batch_max = 5, .out_size = sizeof(long), .linger = TWILL_FOREVER},
        {.batch = batch_but_last,
         .batch_max = 5,
         .kind = TWILL_STAGE_IN_ORDER,
         .out_size = sizeof(long),
         .linger = TWILL_FOREVER},
    };
    for (int i = 0; i < 20; i++) {
        items[i] = i;
        results[i] = -1;
    }
    CHECK_EQ(twill_pipeline_map(
                 items, sizeof(int), results, sizeof(long), 20, stages, 2,
                 &(twill_pipeline_options){.report = &r, .tokens = 20, .run.statuses = statuses}),
             TWILL_OK);
    CHECK(r.run.done == 20 && r.filtered == 4 && r.delivered == 16);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(results[i], i % 5 == 4 ? -1 : i * 2 + 1);
        CHECK_EQ(statuses[i], TWILL_OK);
    }
}

/* What had come in and was not run when the time was over says so. */
static int lasts_till_the_end(const void *in, void *out, const twill_task *task)
{
    *(int *)out = *(const int *)in;
    if (*(const int *)in == 5)
        (void)twill_sleep(task->until);
    return 0;
}

TEST(map_that_runs_out_of_time)
{
    int items[20], results[20], codes[20];
    twill_status statuses[20];
    twill_pipeline_report r;
    const twill_stage stages[] = {
        {.work = lasts_till_the_end, .out_size = sizeof(int), .kind = TWILL_STAGE_IN_ORDER}};
    for (int i = 0; i < 20; i++)
        items[i] = i;
    CHECK_EQ(twill_pipeline_map(items, sizeof(int), results, sizeof(int), 20, stages, 1,
                                &(twill_pipeline_options){.report = &r,
                                                          .tokens = 20,
                                                          .run.until = soon(10),
                                                          .run.workers = 2,
                                                          .run.codes = codes,
                                                          .run.statuses = statuses}),
             TWILL_TIMEOUT);
    CHECK(r.run.total == 20 && r.run.failed == 0 && r.run.done + r.run.skipped == 20);
    for (size_t i = 0; i < 20; i++)
        CHECK_EQ(statuses[i], i < r.run.done ? TWILL_OK : TWILL_TIMEOUT);
}

/* ---- where keys end: number and sub-number in a size_t of 32 bits ---- */

enum { KEYS_SPLIT = 65536 };

static int to_keys_split(void *out, const twill_task *task)
{
    *(int *)out = (int)task->index;
    return task->index == KEYS_SPLIT + 1 ? twill_task_stop(task) : 0;
}

static int splits_at_last(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in, bad = 0;
    (void)out;
    if (i < KEYS_SPLIT - 1)
        return twill_pipeline_filter(task);
    for (int k = 0; k < KEYS_SPLIT; k++)
        bad += twill_pipeline_emit(task, &i) != TWILL_OK;
    return bad;
}

static int adds_one(const void *in, void *out, const twill_task *task)
{
    (void)in;
    (void)out;
    ++*(int *)task->context;
    return 0;
}

TEST(keys_beyond_32_bits)
{
    int count = 0;
    twill_pipeline_report r;
    const twill_stage stages[] = {
        {.work = splits_at_last, .out_size = sizeof(int), .outputs_max = KEYS_SPLIT, .workers = 1},
        {.work = adds_one, .kind = TWILL_STAGE_IN_ORDER, .context = &count},
    };
    CHECK_EQ(twill_pipeline_run(to_keys_split, sizeof(int), stages, 2,
                                &(twill_pipeline_options){.report = &r, .tokens = 2}),
             TWILL_OK);
    CHECK_EQ(count, 2 * KEYS_SPLIT);
    CHECK_EQ(r.run.done, KEYS_SPLIT + 1);
    CHECK_EQ(r.run.skipped, 0);
}

/* ---- what a callback may not ---- */

static int emits_wrongly(const void *in, void *out, const twill_task *task)
{
    twill_task made_by_hand = {0};
    int bad = 0;
    bad += twill_pipeline_emit(task, in) != TWILL_INVALID; /* a sink has no outputs */
    bad += twill_pipeline_emit(&made_by_hand, in) != TWILL_INVALID;
    bad += twill_pipeline_emit(NULL, in) != TWILL_INVALID;
    bad += twill_pipeline_filter(&made_by_hand) != 0;
    bad += out != NULL;
    return bad;
}

static int source_emits(void *out, const twill_task *task)
{
    int x = 0;
    if (twill_pipeline_emit(task, &x) != TWILL_INVALID)
        return 3;
    return numbers(out, task);
}

/* Where several outputs are possible, one that stands in its place at the end is one, too. */
static int gives_one_or_two(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in, more = 1000;
    *(int *)out = i;
    if (i % 2)
        return 0;
    return twill_pipeline_emit(task, out) != TWILL_OK ||
           twill_pipeline_emit(task, &more) != TWILL_OK;
}

TEST(one_output_of_many_need_not_be_emitted)
{
    int sum = 0;
    tally t;
    twill_pipeline_report r;
    tally_init(&t, 10);
    twill_pipeline_options o = with(&t, &r);
    const twill_stage stages[] = {
        {.work = gives_one_or_two, .out_size = sizeof(int), .outputs_max = 2},
        {.work = add_all, .kind = TWILL_STAGE_IN_ORDER, .context = &sum}};
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 2, &o), TWILL_OK);
    CHECK_EQ(sum, 45 + 5 * 1000);
    CHECK_EQ(r.delivered, 15);
}

/* A source that has nothing for long is asked again, and the stages have their turns meanwhile. */
static int seldom(void *out, const twill_task *task)
{
    int *asked = task->context;
    if (++*asked == 1300)
        return twill_task_stop(task);
    *(int *)out = *asked;
    return *asked == 1200 ? 0 : twill_pipeline_filter(task);
}

TEST(a_source_that_has_little)
{
    int asked = 0, sum = 0;
    twill_pipeline_report r;
    const twill_stage stages[] = {{.work = add_all, .kind = TWILL_STAGE_IN_ORDER, .context = &sum}};
    CHECK_EQ(twill_pipeline_run(seldom, sizeof(int), stages, 1,
                                &(twill_pipeline_options){.report = &r, .run.context = &asked}),
             TWILL_OK);
    CHECK(asked == 1300 && sum == 1200 && r.run.total == 1);
}

TEST(emit_where_it_makes_no_sense)
{
    tally t;
    tally_init(&t, 3);
    twill_pipeline_options o = with(&t, NULL);
    const twill_stage stages[] = {{.work = emits_wrongly}};
    CHECK_EQ(twill_pipeline_run(source_emits, sizeof(int), stages, 1, &o), TWILL_OK);
}

TEST(refusals)
{
    tally t;
    twill_pipeline_report r;
    twill_status statuses[1];
    int codes[1];
    tally_init(&t, 3);
    const twill_stage good = SINK(), both = {.work = note, .batch = note_size}, neither = {0},
                      no_output = {.work = note}, passes = WORK(pass_on);
    struct {
        twill_stage stage[4];
        size_t n;
        twill_pipeline_options options;
        twill_status status;
    } rows[] = {
        {{good}, 0, {.tokens = 0}, TWILL_INVALID},
        {{both}, 1, {.tokens = 0}, TWILL_INVALID},
        {{neither}, 1, {.tokens = 0}, TWILL_INVALID},
        {{no_output, good}, 2, {.tokens = 0}, TWILL_INVALID},
        {{{.work = note, .kind = TWILL_STAGE_SERIAL, .workers = 2}},
         1,
         {.tokens = 0},
         TWILL_INVALID},
        {{{.work = note, .kind = (twill_stage_kind)3}}, 1, {.tokens = 0}, TWILL_INVALID},
        {{{.work = note, .batch_max = 3}}, 1, {.tokens = 0}, TWILL_INVALID},
        {{{.work = note, .linger = 3}}, 1, {.tokens = 0}, TWILL_INVALID},
        {{{.batch = note_size, .linger = -1}}, 1, {.tokens = 0}, TWILL_INVALID},
        {{{.work = note, .outputs_max = 3}}, 1, {.tokens = 0}, TWILL_INVALID},
        {{good}, 1, {.run.statuses = statuses}, TWILL_INVALID},
        {{good}, 1, {.run.errors_capacity = 1}, TWILL_INVALID},
        {{good}, 1, {.tokens = SIZE_MAX / 2}, TWILL_TOO_BIG},
        {{{.work = pass_on, .out_size = SIZE_MAX / 2}, good}, 2, {.tokens = 9}, TWILL_TOO_BIG},
        {{{.work = pass_on, .out_size = 4, .outputs_max = SIZE_MAX}, good},
         2,
         {.tokens = 9},
         TWILL_TOO_BIG},
        {{{.work = pass_on, .out_size = 4, .outputs_max = 1u << 31}, good},
         2,
         {.tokens = 0},
         TWILL_TOO_BIG},
        {{{.work = pass_on, .out_size = 4, .outputs_max = 1u << 30}, good},
         2,
         {.tokens = 9},
         TWILL_TOO_BIG},
        {{{.work = note, .workers = UINT_MAX}}, 1, {.tokens = 1u << 20}, TWILL_TOO_BIG},
        {{{.batch = note_size, .batch_max = SIZE_MAX}}, 1, {.tokens = 9}, TWILL_TOO_BIG},
        {{good}, 65537, {.tokens = 9}, TWILL_TOO_BIG},
        {{good}, 1, {.run.codes = codes}, TWILL_INVALID},
        {{{.work = pass_on, .out_size = 4, .outputs_max = 4096},
          {.work = pass_on, .out_size = 4, .outputs_max = 4096},
          {.work = pass_on, .out_size = 4, .outputs_max = 4096},
          good},
         4,
         {.tokens = 9},
         TWILL_TOO_BIG},
        {{{.work = pass_on, .out_size = SIZE_MAX / 64}, {.batch = note_size, .batch_max = 100}},
         2,
         {.tokens = 100},
         TWILL_TOO_BIG},
    };
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        twill_pipeline *p = (twill_pipeline *)&t;
        twill_stage_stats stats[4];
        memset(stats, 0xa5, sizeof stats);
        rows[k].options.run.context = &t;
        rows[k].options.report = &r;
        rows[k].options.stage_stats = stats;
        CHECK_EQ(
            twill_pipeline_run(numbers, sizeof(int), rows[k].stage, rows[k].n, &rows[k].options),
            rows[k].status);
        CHECK_EQ(r.run.status, rows[k].status);
        if (rows[k].n && rows[k].n <= 4)
            CHECK_EQ(stats[rows[k].n - 1].running_peak, 0);
        CHECK_EQ(twill_pipeline_create(&p, sizeof(int), rows[k].stage, rows[k].n, &rows[k].options),
                 rows[k].status);
        CHECK_PTR(p, NULL);
    }
    CHECK_EQ(twill_pipeline_run(NULL, sizeof(int), &good, 1, NULL), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_run(numbers, 0, &good, 1, NULL), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), NULL, 1, NULL), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_create(NULL, sizeof(int), &good, 1, NULL), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_map(&t, 4, &r, 4, 1, &passes, 1,
                                &(twill_pipeline_options){.run.errors_capacity = 1}),
             TWILL_INVALID);
    for (size_t pad = 0; pad < 20000; pad += 256) { /* at the bound, whatever stands beside it */
        const twill_stage wide[] = {{.work = pass_on, .out_size = SIZE_MAX / 2 - pad}, good};
        twill_status status = twill_pipeline_run(numbers, sizeof(int), wide, 2,
                                                 &(twill_pipeline_options){.tokens = 1});
        CHECK(status == TWILL_TOO_BIG || status == TWILL_NO_MEMORY);
    }
    twill_stage many = passes;
    many.outputs_max = 1;
    CHECK_EQ(twill_pipeline_map(&t, 4, &r, 4, 1, &many, 1, NULL), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_map(&t, 4, &r, 8, 1, &passes, 1, NULL), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_map(&t, 4, &r, 4, SIZE_MAX / 2, &passes, 1, NULL), TWILL_TOO_BIG);
}

/* ---- at the seams ---- */

static int as_long(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(long *)out = *(const int *)in * 2L;
    return *(const int *)in == 77 ? 5 : 0;
}

static int as_char(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(char *)out = *(const char *)in;
    return 0;
}

TEST(a_map_that_makes_no_sense)
{
    int items[2] = {1, 2};
    long results[2] = {7, 7};
    twill_report report;
    twill_status statuses[2] = {TWILL_LOST, TWILL_LOST};
    int codes[2] = {9, 9};
    const twill_stage longer = {.work = as_long, .out_size = sizeof(long)},
                      letter = {.work = as_char, .out_size = 4096};
    twill_pipeline_options o = {
        .run.report = &report, .run.statuses = statuses, .run.codes = codes};
    CHECK_EQ(twill_pipeline_map(items, 0, results, 8, 2, &longer, 1, &o), TWILL_INVALID);
    CHECK_EQ(report.status, TWILL_INVALID);
    CHECK_EQ(twill_pipeline_map(NULL, 4, results, 8, 2, &longer, 1, &o), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_map(items, 4, NULL, 8, 2, &longer, 1, &o), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_map(items, 4, items, 8, 2, &longer, 1, &o), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_map(items, 4, results, 8, 2, NULL, 1, &o), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_map(items, 4, results, 4, 2, NULL, 1, &o), TWILL_INVALID);
    CHECK_EQ(twill_pipeline_map(items, 1, results, 4096, SIZE_MAX / 64, &letter, 1, &o),
             TWILL_TOO_BIG);
    CHECK_EQ(twill_pipeline_map(NULL, 4, NULL, 8, 0, &longer, 1, &o), TWILL_OK); /* nothing */
    CHECK_EQ(report.total, 0);
    CHECK_EQ(results[0], 7);
}

TEST(a_map_without_stages_is_a_copy)
{
    int items[2] = {1, 2}, results[2] = {7, 7}, codes[2] = {9, 9};
    twill_status statuses[2] = {TWILL_LOST, TWILL_LOST};
    twill_report report;
    twill_pipeline_options o = {
        .run.report = &report, .run.statuses = statuses, .run.codes = codes};
    CHECK_EQ(twill_pipeline_map(items, 4, results, 4, 0, NULL, 0, &o), TWILL_OK);
    CHECK_EQ(results[0], 7);
    CHECK_EQ(codes[0], 9);
    CHECK_EQ(report.total, 0);
    CHECK_EQ(twill_pipeline_map(items, 4, results, 4, 2, NULL, 0, NULL), TWILL_OK);
    CHECK_EQ(results[1], 2);
    CHECK_EQ(statuses[0], TWILL_LOST);
    CHECK_EQ(twill_pipeline_map(items, 4, results, 4, 2, NULL, 0, &o), TWILL_OK);
    CHECK_EQ(statuses[1], TWILL_OK);
    CHECK_EQ(codes[1], 0);
    CHECK_EQ(report.done, 2);
    CHECK_EQ(twill_pipeline_map(items, 4, items, 4, 2, NULL, 0, &o), TWILL_OK); /* in place */
}

/* Codes, statuses, both or neither, of a map that ends early or not, in bursts or one by one. */
TEST(a_map_says_how_each_item_ended)
{
    for (int k = 0; k < 24; k++) {
        enum { N = 200 };
        static int items[N], codes[N];
        static long results[N];
        static twill_status statuses[N];
        twill_cancel token;
        twill_report report;
        size_t done = 0, failed = 0, skipped = 0;
        bool stops = k & 4, collects = k & 8;
        const twill_stage stage = {.work = as_long,
                                   .out_size = sizeof(long),
                                   .kind = k < 16 ? TWILL_STAGE_PARALLEL : TWILL_STAGE_IN_ORDER,
                                   .workers = k < 16 ? 2 : 0};
        twill_pipeline_options o = {.run.report = &report,
                                    .run.statuses = k & 1 ? statuses : NULL,
                                    .run.codes = k & 2 ? codes : NULL,
                                    .run.on_error =
                                        collects ? TWILL_ON_ERROR_COLLECT : TWILL_ON_ERROR_FIRST};
        twill_cancel_init(&token, NULL);
        if (stops) {
            twill_cancel_fire(&token, 1);
            o.run.until.cancel = &token;
        }
        for (int i = 0; i < N; i++) {
            items[i] = i;
            results[i] = -1;
            codes[i] = 99;
            statuses[i] = TWILL_DROPPED;
        }
        CHECK_EQ(twill_pipeline_map(items, 4, results, sizeof(long), N, &stage, 1, &o),
                 stops ? TWILL_CANCELLED : TWILL_FAILED);
        for (int i = 0; i < N; i++) {
            done += statuses[i] == TWILL_OK;
            failed += statuses[i] == TWILL_FAILED;
            skipped += statuses[i] == TWILL_CANCELLED;
            if (statuses[i] == TWILL_OK)
                CHECK_EQ(results[i], 2 * i);
            if (k & 2)
                CHECK_EQ(codes[i], !stops && i == 77 ? 5 : 0);
        }
        if (k & 1) {
            CHECK_EQ(done + failed + skipped, N);
            CHECK_EQ(done, report.done);
            CHECK_EQ(failed, report.failed);
            CHECK_EQ(failed, !stops);
        }
        if (!stops && collects)
            CHECK_EQ(report.done, N - 1);
        twill_cancel_detach(&token);
    }
}

/* Into its own output, where one goes. */
static int emits_in_place(const void *in, void *out, const twill_task *task)
{
    int other = 5;
    *(int *)out = *(const int *)in;
    if (twill_pipeline_emit(task, NULL) != TWILL_INVALID)
        return 1;
    if (twill_pipeline_emit(task, out) != TWILL_OK)
        return 2;
    return twill_pipeline_emit(task, &other) == TWILL_TOO_BIG ? 0 : 3;
}

/* Items that must stand on multiples of 64 do so wherever a callback is shown one. */
typedef struct wide_item {
    _Alignas(64) char bytes[64];
} wide_item;

static atomic_int wide_seen, wide_crooked;

static void see_wide(const void *item)
{
    atomic_fetch_add(&wide_seen, 1);
    if ((uintptr_t)item % 64)
        atomic_fetch_add(&wide_crooked, 1);
}

static int make_wide(void *out, const twill_task *task)
{
    if (task->index == 9)
        return twill_task_stop(task);
    see_wide(out);
    memset(out, (int)task->index, sizeof(wide_item));
    return 0;
}

static int pass_wide(const void *in, void *out, const twill_task *task)
{
    (void)task;
    see_wide(in);
    see_wide(out);
    memcpy(out, in, sizeof(wide_item));
    return 0;
}

static int pass_wide_batch(const void *items, size_t n, const twill_task *task)
{
    see_wide(items);
    for (size_t i = 0; i < n; i++)
        CHECK_EQ(twill_pipeline_emit(task, (const wide_item *)items + i), TWILL_OK);
    return 0;
}

static int fail_wide(const void *in, void *out, const twill_task *task)
{
    (void)out;
    see_wide(in);
    return task->index == 5;
}

static void bury_wide(size_t stage, void *in, int code, const twill_task *task)
{
    (void)stage, (void)code, (void)task;
    see_wide(in);
}

static void drop_wide(void *item, twill_status why, const twill_task *task)
{
    (void)why, (void)task;
    see_wide(item);
}

TEST(items_are_as_aligned_as_their_type)
{
    for (size_t tokens = 1; tokens < 8; tokens++) {
        const twill_stage stages[] = {
            {.work = pass_wide, .out_size = sizeof(wide_item), .workers = 2, .outputs_max = 3},
            {.batch = pass_wide_batch,
             .out_size = sizeof(wide_item),
             .kind = TWILL_STAGE_IN_ORDER,
             .batch_max = 2},
            {.work = pass_wide, .out_size = sizeof(wide_item), .workers = 1},
            {.work = fail_wide, .kind = TWILL_STAGE_SERIAL, .drop = drop_wide}};
        const twill_pipeline_options options = {.tokens = tokens, .dead_letter = bury_wide};
        atomic_store(&wide_seen, 0);
        atomic_store(&wide_crooked, 0);
        CHECK_EQ(twill_pipeline_run(make_wide, sizeof(wide_item), stages, 4, &options),
                 TWILL_FAILED);
        CHECK(atomic_load(&wide_seen) > 30);
        CHECK_EQ(atomic_load(&wide_crooked), 0);
    }
}

TEST(an_output_may_be_emitted_where_it_stands)
{
    tally t;
    tally_init(&t, 50);
    twill_pipeline_options o = with(&t, NULL);
    const twill_stage stages[] = {WORK(emits_in_place), SINK()};
    CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 2, &o), TWILL_OK);
    for (int i = 0; i < 50; i++)
        CHECK_EQ(atomic_load(&t.seen[i]), 1);
}

/* ---- figures ---- */

static int busy_for(const void *in, void *out, const twill_task *task)
{
    twill_ns until = twill_now() + *(const twill_ns *)task->context;
    while (twill_now() < until) {}
    if (out)
        *(int *)out = *(const int *)in;
    return 0;
}

/* The slow stage is the one named, unless the machine stood still in a quick one for longer. */
static bool the_slow_one_is_named(twill_ns slow)
{
    twill_ns quick = TWILL_US(2);
    bool in_time = true;
    for (size_t k = 0; k < 3; k++) {
        tally t;
        twill_pipeline_report r;
        twill_stage_stats s[3];
        twill_stage stages[3] = {{.work = busy_for, .out_size = sizeof(int), .context = &quick},
                                 {.work = busy_for, .out_size = sizeof(int), .context = &quick},
                                 {.work = busy_for, .context = &quick}};
        for (size_t j = 0; j < 3; j++)
            stages[j].kind = TWILL_STAGE_IN_ORDER;
        stages[k].context = &slow;
        tally_init(&t, 60);
        twill_pipeline_options o = with(&t, &r);
        o.stage_stats = s;
        CHECK_EQ(twill_pipeline_run(numbers, sizeof(int), stages, 3, &o), TWILL_OK);
        if (r.bottleneck != k) {
            CHECK(r.bottleneck < 3 && s[r.bottleneck].busy >= s[k].busy);
            in_time = false;
        }
        CHECK(s[k].busy >= 60 * slow * 9 / 10);
        CHECK(s[k].longest >= slow * 9 / 10);
        CHECK(r.run.wall >= 60 * slow);
        CHECK(r.run.busy >= s[k].busy);
    }
    return in_time;
}

TEST(the_bottleneck_is_named)
{
    CHECK(test_in_time(TWILL_US(300), the_slow_one_is_named));
}

HARNESS_MAIN

/* twill_pipeline: random pipelines against the serial loop; order, bounds, ends, batches. */
#define HARNESS_FAULTS
#include "harness.h"

#define TWILL_IMPLEMENTATION
#include "twill_pipeline.h"
#include "twill_worker_pool.h"


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

HARNESS_MAIN

/* test_resource_model.c - a resource pool against a simple model: one thread, random options and
   calls. The model knows what must be lent next, and why each resource may end; whatever the pool
   does is held against it: statuses, order, generations, reasons, figures, all of them after each
   call. Time is virtual where it can be: ages are exact. */
#include "harness.h"
#include "virtual_time.h"

#define TWILL_IMPLEMENTATION
#include "twill_resource_pool.h"

enum { MOST = 24, THINGS = 8000, STEPS = 1500, ROUNDS = 60 };

typedef struct thing {
    bool there, lent, spoilt, refused, reported;
    uint64_t uses, epoch;
    twill_ns born, since; /* since: when it came back, or was lent */
} thing;

static struct model {
    twill_resource_pool *pool;
    twill_resource_pool_options options;
    bool timed, closed, filling, refuse;
    uint64_t epoch;
    size_t max, live, idle_count, lent_count;
    int idle[MOST + 1];              /* the coldest first */
    twill_lease lent[MOST + 1], old; /* old: a copy of one that was given back */
    uint32_t generation[MOST];
    int made, discarding;
    thing things[THINGS]; /* by number, from 1 */
    twill_resource_pool_stats counts;
} m;

static twill_ns instant(void)
{
    return twill_now();
}

static int number_of(const void *resource)
{
    return (int)(uintptr_t)resource;
}

static bool chance(uint64_t of)
{
    return test_random_below(of) == 0;
}

/* ---- the model's rules ---- */

/* Why it may not be lent again; 0: it may. */
static int verdict(const thing *it)
{
    const twill_resource_pool_options *o = &m.options;
    if (m.closed)
        return TWILL_RESOURCE_CLOSED;
    if (it->epoch != m.epoch)
        return TWILL_RESOURCE_EVICTED;
    if (o->max_uses && it->uses >= o->max_uses)
        return TWILL_RESOURCE_USED_UP;
    if (o->max_lifetime && instant() - it->born >= o->max_lifetime)
        return TWILL_RESOURCE_OLD;
    if (o->max_idle_time && !it->lent && instant() - it->since >= o->max_idle_time)
        return TWILL_RESOURCE_IDLE;
    return 0;
}

static bool refuses(const thing *it)
{
    return m.options.validate && it->spoilt &&
           (!m.options.validate_after || instant() - it->since >= m.options.validate_after);
}

/* The k-th to be lent. */
static int idle_at(size_t k)
{
    return m.idle[m.options.fifo ? k : m.idle_count - 1 - k];
}

static bool leave_idle(int number)
{
    for (size_t k = 0; k < m.idle_count; k++)
        if (m.idle[k] == number) {
            memmove(m.idle + k, m.idle + k + 1, (--m.idle_count - k) * sizeof m.idle[0]);
            return true;
        }
    return false;
}

/* ---- the callbacks ---- */

static int make(void **resource, const twill_task *task)
{
    thing *it;
    CHECK(task->index < MOST);
    if (m.refuse) {
        m.refuse = false;
        m.counts.create_failed++;
        return 40;
    }
    it = &m.things[++m.made];
    CHECK(m.made < THINGS && m.live < m.max && !m.closed);
    *it = (thing){.there = true, .epoch = m.epoch, .born = instant(), .since = instant()};
    it->spoilt = chance(8);
    m.live++;
    m.counts.created++;
    if (m.filling)
        m.idle[m.idle_count++] = m.made;
    *resource = (void *)(uintptr_t)m.made;
    return 0;
}

static void end(void *resource, twill_resource_end why, const twill_task *task)
{
    thing *it = &m.things[number_of(resource)];
    size_t max_idle = m.options.max_idle ? m.options.max_idle : SIZE_MAX;
    (void)task;
    CHECK(it->there && !it->lent);
    if (why == TWILL_RESOURCE_BROKEN)
        CHECK_EQ(number_of(resource), m.discarding);
    else if (why == TWILL_RESOURCE_INVALID)
        CHECK(it->refused);
    else if (why == TWILL_RESOURCE_SURPLUS)
        CHECK(m.live > m.max || m.idle_count > max_idle);
    else
        CHECK_EQ(why, verdict(it));
    (void)leave_idle(number_of(resource));
    it->there = false;
    m.live--;
    m.counts.destroyed[why]++;
}

static int examine(void *resource, const twill_task *task)
{
    thing *it = &m.things[number_of(resource)];
    (void)task;
    CHECK(it->there && !it->lent && !verdict(it));
    it->refused = it->spoilt;
    return it->refused ? 41 : 0;
}

static int renew(void *resource, const twill_task *task)
{
    thing *it = &m.things[number_of(resource)];
    (void)task;
    CHECK(it->there);
    it->refused = it->spoilt;
    return it->refused ? 42 : 0;
}

static void leak(const twill_lease_info *info, const twill_task *task)
{
    thing *it = &m.things[number_of(info->resource)];
    (void)task;
    CHECK(it->lent && !it->reported);
    CHECK_EQ(info->line, info->file ? 7 : 0); /* several at once note no place */
    CHECK_EQ(info->held, instant() - it->since);
    CHECK(info->held >= m.options.leak_after);
    it->reported = true;
    m.counts.leaks++;
}

/* ---- the calls ---- */

/* What an acquire must answer, and the resource that it must get; 0: a new one. */
static twill_status expected(bool waits, int *number)
{
    size_t unfit = 0;
    *number = 0;
    if (m.closed)
        return TWILL_CLOSED;
    for (; unfit < m.idle_count; unfit++) {
        const thing *it = &m.things[idle_at(unfit)];
        if (!verdict(it) && !refuses(it)) {
            *number = idle_at(unfit);
            return TWILL_OK;
        }
    }
    if (m.options.create && m.live - unfit < m.max)
        return m.refuse ? TWILL_FAILED : TWILL_OK;
    return waits ? TWILL_TIMEOUT : TWILL_EMPTY;
}

static void lend(const twill_lease *lease, int number)
{
    thing *it = &m.things[number];
    CHECK_EQ(number_of(lease->resource), number);
    CHECK(lease->slot < MOST && lease->pool == m.pool);
    CHECK_EQ(lease->generation, ++m.generation[lease->slot]);
    (void)leave_idle(number);
    it->lent = true;
    it->reported = false;
    it->uses++;
    it->since = instant();
    m.lent[m.lent_count++] = *lease;
    m.counts.acquires++;
    if (m.lent_count > m.counts.leased_peak)
        m.counts.leased_peak = m.lent_count;
}

static void acquire(void)
{
    twill_lease lease = {0};
    bool waits = VIRTUAL_TIME && chance(8);
    int number;
    twill_status status = expected(waits, &number);
    twill_until until = twill_within(TWILL_US(5));
    if (status == TWILL_TIMEOUT)
        m.counts.waits++, m.counts.timeouts++, m.counts.waiting_peak = 1;
    if (waits) {
        CHECK_EQ(twill_resource_pool_acquire_at(m.pool, &lease, until, "here", 7), status);
        if (status == TWILL_TIMEOUT)
            CHECK_EQ(instant(), until.deadline);
    } else {
        CHECK_EQ(twill_resource_pool_try_acquire_at(m.pool, &lease, "here", 7), status);
    }
    if (status == TWILL_OK)
        lend(&lease, number ? number : m.made);
    else
        CHECK(!lease.resource && !lease.pool);
    CHECK_EQ(lease.code, status == TWILL_FAILED ? 40 : 0);
}

/* More than there can be: none, in time, and what was in hand meanwhile is where it was before. */
static void acquire_too_many(size_t n)
{
    twill_lease leases[MOST + 2];
    twill_until until = twill_within(TWILL_US(5));
    memset(leases, 0, sizeof leases);
    CHECK_EQ(twill_resource_pool_acquire_many_until(m.pool, leases, n, until), TWILL_TIMEOUT);
    CHECK_EQ(instant(), until.deadline);
    CHECK(!leases[0].resource && !leases[0].pool);
    m.counts.waits++, m.counts.timeouts++, m.counts.waiting_peak = 1;
}

/* All at once, or none; where nothing has to be looked at but the number. */
static void acquire_many(void)
{
    twill_lease leases[MOST + 2];
    size_t n = 1 + test_random_below(m.max + 1), room = m.live < m.max ? m.max - m.live : 0;
    int first[MOST + 1];
    memset(leases, 0, sizeof leases);
    if (m.options.validate || m.options.max_lifetime || m.options.max_idle_time || m.refuse)
        return;
    if (n <= m.max && n > m.idle_count + (m.options.create ? room : 0) && !m.closed) {
        if (VIRTUAL_TIME && !m.options.leak_after)
            acquire_too_many(n);
        return;
    }
    for (size_t k = 0; k < n && k < m.idle_count; k++)
        first[k] = idle_at(k);
    for (size_t k = m.idle_count; k < n; k++)
        first[k < MOST ? k : MOST] = 0;
    twill_status status =
        twill_resource_pool_acquire_many_until(m.pool, leases, n, (twill_until){0, NULL});
    CHECK_EQ(status, m.closed ? TWILL_CLOSED : n > m.max ? TWILL_TOO_BIG : TWILL_OK);
    for (size_t k = 0, made = 0; status == TWILL_OK && k < n; k++) {
        if (!first[k])
            made++;
        lend(&leases[k], first[k] ? first[k] : number_of(leases[k].resource));
        CHECK(made <= n);
    }
}

/* One comes back: it is idle, or ends at once, by the rules for those that were lent. */
static void give(int how)
{
    size_t which = test_random_below(m.lent_count);
    twill_lease lease = m.lent[which], copy = lease;
    int number = number_of(lease.resource);
    thing *it = &m.things[number];
    twill_ns held = instant() - it->since;
    bool ends = how != 0 || verdict(it) || (m.options.reset && it->spoilt) || m.live > m.max;
    void *resource = NULL;
    m.lent[which] = m.lent[--m.lent_count];
    it->lent = false;
    it->since = instant();
    if (m.timed) {
        m.counts.use_total += held;
        m.counts.use_max = held > m.counts.use_max ? held : m.counts.use_max;
    }
    if (!ends)
        m.idle[m.idle_count++] = number;
    if (how == 0) {
        m.counts.releases++;
        CHECK_EQ(twill_resource_pool_release(m.pool, &lease), TWILL_OK);
        CHECK(!ends || !it->there);
    } else if (how == 1) {
        m.counts.discards++;
        m.discarding = number;
        CHECK_EQ(twill_resource_pool_discard(m.pool, &lease), TWILL_OK);
        CHECK(!it->there);
    } else {
        m.counts.detached++;
        it->there = false;
        m.live--;
        CHECK_EQ(twill_resource_pool_detach(m.pool, &lease, &resource), TWILL_OK);
        CHECK_EQ(number_of(resource), number);
    }
    CHECK(!lease.pool && !lease.resource);
    m.old = copy;
}

static void stale(void)
{
    twill_lease lease = m.old, none = {0};
    if (m.old.pool)
        CHECK_EQ(chance(2) ? twill_resource_pool_release(m.pool, &lease)
                           : twill_resource_pool_discard(m.pool, &lease),
                 TWILL_STALE);
    CHECK_EQ(twill_resource_pool_release(m.pool, &none), TWILL_INVALID);
}

static void maintain(void)
{
    twill_status status, want = m.closed ? TWILL_CLOSED : TWILL_OK;
    uint64_t failed = m.counts.create_failed;
    int code = -1;
    m.filling = true;
    status = twill_resource_pool_maintain(m.pool, &code, (twill_until){0, NULL});
    m.filling = false;
    if (m.counts.create_failed != failed)
        want = TWILL_FAILED;
    CHECK_EQ(status, want);
    CHECK_EQ(code, status == TWILL_FAILED ? 40 : 0);
    for (size_t k = 0; m.options.leak_after && k < m.lent_count; k++) {
        const thing *it = &m.things[number_of(m.lent[k].resource)];
        CHECK_EQ(it->reported, instant() - it->since >= m.options.leak_after);
    }
    if (status != TWILL_OK)
        return;
    CHECK(m.idle_count >= m.options.min_idle || m.live >= m.max);
    for (size_t k = 0; m.idle_count > m.options.min_idle && k < m.idle_count; k++)
        CHECK_EQ(verdict(&m.things[m.idle[k]]), 0);
}

static void change(void)
{
    size_t before = m.idle_count;
    if (chance(2)) {
        m.epoch++;
        CHECK_EQ(twill_resource_pool_evict(m.pool), before);
        CHECK_EQ(m.idle_count, 0);
    } else {
        size_t max = 1 + test_random_below(MOST);
        if (!m.closed)
            m.max = max;
        CHECK_EQ(twill_resource_pool_resize(m.pool, max), m.closed ? TWILL_CLOSED : TWILL_OK);
        CHECK(!m.idle_count || m.live <= m.max);
    }
}

static void add(void)
{
    bool fits = m.live < m.max && !m.closed;
    int number = m.made + 1;
    if (m.options.create || number >= THINGS)
        return;
    if (fits) {
        m.things[++m.made] =
            (thing){.there = true, .epoch = m.epoch, .born = instant(), .since = instant()};
        m.idle[m.idle_count++] = number;
        m.live++;
        m.counts.added++;
    }
    CHECK_EQ(twill_resource_pool_add(m.pool, (void *)(uintptr_t)number), fits       ? TWILL_OK
                                                                         : m.closed ? TWILL_CLOSED
                                                                                    : TWILL_FULL);
}

/* ---- after each call ---- */

static void check_leases(void)
{
    twill_lease_info infos[MOST + 1];
    CHECK_EQ(twill_resource_pool_leases(m.pool, infos, MOST + 1), m.lent_count);
    for (size_t k = 0; k < m.lent_count; k++) {
        const thing *it = &m.things[number_of(infos[k].resource)];
        CHECK(it->there && it->lent);
        CHECK_EQ(infos[k].held, m.timed ? instant() - it->since : 0);
    }
}

static void check_figures(void)
{
    twill_resource_pool_stats s, *c = &m.counts;
    twill_resource_pool_get_stats(m.pool, &s);
    c->total = m.live;
    c->idle = m.idle_count;
    c->leased = m.lent_count;
    c->max = m.max;
    c->wait_total = s.wait_total; /* as long as the waits were, which is checked there */
    c->wait_max = s.wait_max;
    if (!VIRTUAL_TIME)
        c->create_total = s.create_total;
    CHECK_EQ(s.total, c->total);
    CHECK_EQ(s.idle, c->idle);
    CHECK_EQ(s.leased, c->leased);
    CHECK_EQ(s.acquires, c->acquires);
    CHECK_EQ(s.leased_peak, c->leased_peak);
    CHECK_EQ(s.use_total, c->use_total);
    CHECK_EQ(memcmp(&s, c, sizeof s), 0); /* and all the others */
    CHECK(m.idle_count <= (m.options.max_idle ? m.options.max_idle : m.max));
    CHECK_EQ(s.acquires, s.releases + s.discards + s.detached + s.leased);
}

static void begin(void)
{
    twill_resource_pool_options o = {.max = 1 + test_random_below(MOST), .destroy = end};
    memset(&m, 0, sizeof m);
    o.create = chance(5) ? NULL : make;
    o.fifo = chance(2);
    o.jitter_percent = UINT_MAX;
    o.validate = chance(4) ? examine : NULL;
    o.reset = chance(4) ? renew : NULL;
    o.max_uses = chance(4) ? 1 + test_random_below(9) : 0;
    o.min_idle = o.create && chance(3) ? test_random_below(o.max + 1) : 0;
    o.max_idle = chance(3) ? o.min_idle + 1 + test_random_below(6) : 0;
    if (VIRTUAL_TIME && chance(2)) {
        o.max_idle_time = chance(2) ? TWILL_US(50) : 0;
        o.max_lifetime = chance(2) ? TWILL_US(200) : 0;
        o.leak_after = chance(2) ? TWILL_US(100) : 0;
        o.on_leak = o.leak_after ? leak : NULL;
        o.validate_after = o.validate && chance(2) ? TWILL_US(10) : 0;
    }
    m.timed = o.max_idle_time || o.max_lifetime || o.leak_after || o.validate_after;
    m.options = o;
    m.max = o.max;
    CHECK_EQ(twill_resource_pool_create(&m.pool, &o), TWILL_OK);
}

static void step(void)
{
    uint64_t what = test_random_below(100);
    if (what < 40)
        acquire();
    else if (what < 75 && m.lent_count)
        give(what < 70 ? 0 : what < 73 ? 1 : 2);
    else if (what < 80)
        stale();
    else if (what < 84)
        acquire_many();
    else if (what < 88)
        maintain();
    else if (what < 90)
        change();
    else if (what < 95)
        add();
    else if (what < 97)
        check_leases();
    else if (m.idle_count && what < 99)
        m.things[m.idle[test_random_below(m.idle_count)]].spoilt = true;
    else
        m.refuse = m.options.create != NULL;
#if VIRTUAL_TIME
    if (chance(3))
        virtual_now += (twill_ns)test_random_below(chance(8) ? 150000 : 15000);
#endif
}

TEST(random_calls_against_a_model)
{
    for (int round = 0; round < ROUNDS && !atomic_load(&harness_failures); round++) {
        begin();
        for (int k = 0; k < STEPS && !atomic_load(&harness_failures); k++) {
            if (k == STEPS - 50) {
                m.closed = true;
                CHECK_EQ(twill_resource_pool_close(m.pool), TWILL_OK);
                CHECK_EQ(m.idle_count, 0);
            }
            step();
            check_figures();
        }
        if (m.lent_count)
            CHECK_EQ(twill_resource_pool_destroy(m.pool), TWILL_BUSY);
        while (m.lent_count)
            give(0);
        check_figures();
        CHECK_EQ(twill_resource_pool_drain(m.pool), TWILL_OK);
        CHECK_EQ(twill_resource_pool_destroy(m.pool), TWILL_OK);
        for (int k = 1; k <= m.made; k++)
            CHECK(!m.things[k].there);
    }
}

HARNESS_MAIN

/* ---- by hand, to the nanosecond ---- */

#if VIRTUAL_TIME
static int open_one(void **resource, const twill_task *task)
{
    (void)task;
    *resource = &m;
    return 0;
}

static int reset_slowly(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    twill_sleep(twill_within(TWILL_MS(20)));
    return 0;
}

static twill_resource_pool_stats figures(twill_resource_pool *pool)
{
    twill_resource_pool_stats stats;
    twill_resource_pool_get_stats(pool, &stats);
    return stats;
}

/* A call ends one of those that are only expired, however many there are: it stays cheap. */
TEST(one_expired_resource_goes_with_each_release)
{
    twill_resource_pool *pool;
    twill_lease leases[5] = {{0}};
    CHECK_EQ(
        twill_resource_pool_create(&pool,
                                   &(twill_resource_pool_options){
                                       .max = 5, .create = open_one, .max_idle_time = TWILL_MS(1)}),
        TWILL_OK);
    CHECK_EQ(twill_resource_pool_acquire_many_until(pool, leases, 5, (twill_until){0, NULL}),
             TWILL_OK);
    for (int k = 0; k < 3; k++)
        CHECK_EQ(twill_resource_pool_release(pool, &leases[k]), TWILL_OK);
    twill_sleep(twill_within(TWILL_MS(1)));
    for (unsigned k = 3; k < 5; k++) {
        CHECK_EQ(twill_resource_pool_release(pool, &leases[k]), TWILL_OK);
        CHECK_EQ(figures(pool).destroyed[TWILL_RESOURCE_IDLE], k - 2);
    }
    CHECK_EQ(twill_resource_pool_destroy(pool), TWILL_OK);
}

/* A resource is not idle while it is being reset. */
TEST(a_long_reset_is_no_idle_time)
{
    twill_resource_pool *pool;
    twill_lease lease = {0};
    CHECK_EQ(twill_resource_pool_create(
                 &pool, &(twill_resource_pool_options){.create = open_one,
                                                       .reset = reset_slowly,
                                                       .max_idle_time = TWILL_MS(10)}),
             TWILL_OK);
    CHECK_EQ(twill_resource_pool_acquire(pool, &lease), TWILL_OK);
    CHECK_EQ(twill_resource_pool_release(pool, &lease), TWILL_OK);
    CHECK_EQ(figures(pool).idle, 1);
    twill_sleep(twill_within(TWILL_MS(10) - 1));
    CHECK_EQ(twill_resource_pool_maintain(pool, NULL, (twill_until){0, NULL}), TWILL_OK);
    CHECK_EQ(figures(pool).idle, 1);
    twill_sleep(twill_within(1));
    CHECK_EQ(twill_resource_pool_maintain(pool, NULL, (twill_until){0, NULL}), TWILL_OK);
    CHECK_EQ(figures(pool).idle, 0);
    CHECK_EQ(twill_resource_pool_destroy(pool), TWILL_OK);
}

/* Leaks are told by who is about to wait, not by who need not. */
TEST(who_need_not_wait_tells_no_leak)
{
    twill_resource_pool *pool;
    twill_lease a = {0}, b = {0}, c = {0};
    CHECK_EQ(
        twill_resource_pool_create(
            &pool, &(twill_resource_pool_options){.max = 2, .create = open_one, .leak_after = 100}),
        TWILL_OK);
    CHECK_EQ(twill_resource_pool_acquire(pool, &a), TWILL_OK);
    twill_sleep(twill_within(100));
    CHECK_EQ(twill_resource_pool_acquire(pool, &b), TWILL_OK);
    CHECK_EQ(figures(pool).leaks, 0);
    CHECK_EQ(twill_resource_pool_acquire_until(pool, &c, twill_within(50)), TWILL_TIMEOUT);
    CHECK_EQ(figures(pool).leaks, 1);
    CHECK_EQ(twill_resource_pool_release(pool, &a), TWILL_OK);
    CHECK_EQ(twill_resource_pool_release(pool, &b), TWILL_OK);
    CHECK_EQ(twill_resource_pool_destroy(pool), TWILL_OK);
}
#endif

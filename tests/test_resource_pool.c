/* Resource pool, row by row of the manual: answers, capacity, order, ages, deadlocks, leaks,
   ends. */
#define HARNESS_FAULTS
#include "harness.h"

/* Returns at the desk are light after so many lendings there; and what the kernel has for that. */
static unsigned desk_rest = 1024;
static bool desk_alone = true;
enum { KERNEL_AS_IT_IS, KERNEL_HAS_NONE, KERNEL_REGISTERS_ONLY, KERNEL_HAS_FORGOTTEN };
static atomic_int kernel, heavy_fences;
static long ask_the_kernel(int command);
#define TWILL__DESK_REST           desk_rest
#define TWILL__DESK_ALONE          desk_alone
#define TWILL__MEMBARRIER(command) ask_the_kernel(command)

#define TWILL_IMPLEMENTATION
#include "twill_resource_pool.h"

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

static long ask_the_kernel(int command)
{
    atomic_fetch_add(&heavy_fences, command == TWILL__MEMBARRIER_PRIVATE);
    if (atomic_load(&kernel) == KERNEL_HAS_FORGOTTEN && command == TWILL__MEMBARRIER_REGISTER)
        atomic_store(&kernel, KERNEL_AS_IT_IS);
    if (atomic_load(&kernel) == KERNEL_AS_IT_IS)
        return twill__membarrier(command);
    if (atomic_load(&kernel) == KERNEL_REGISTERS_ONLY && command == TWILL__MEMBARRIER_REGISTER)
        return 0;
    errno = ENOSYS;
    return -1;
}

/* ---- kit ---- */

enum { MOST = 4096 };
static struct thing { /* by number, from 1: what happened to it */
    atomic_int created, destroyed, used, why;
} things[MOST];
static atomic_int made, existing, existing_peak, refuse_create, refuse_validate, refuse_reset;
static atomic_int validated, resets, leaked;
static atomic_int *create_gate;

static void *thing_of(int number)
{
    return (void *)(uintptr_t)number;
}

static int number_of(const void *resource)
{
    return (int)(uintptr_t)resource;
}

static int make(void **resource, const twill_task *task)
{
    int number, now;
    CHECK_EQ(task->worker, UINT_MAX);
    if (create_gate)
        while (!atomic_load(create_gate))
            twill_sleep(twill_within(TWILL_US(100)));
    if (atomic_load(&refuse_create) && atomic_fetch_sub(&refuse_create, 1) > 0)
        return 40;
    number = atomic_fetch_add(&made, 1) + 1;
    now = atomic_fetch_add(&existing, 1) + 1;
    if (now > atomic_load(&existing_peak))
        atomic_store(&existing_peak, now);
    CHECK_EQ(atomic_fetch_add(&things[number].created, 1), 0);
    *resource = thing_of(number);
    return 0;
}

static void end(void *resource, twill_resource_end why, const twill_task *task)
{
    int number = number_of(resource);
    (void)task;
    CHECK_EQ(atomic_load(&things[number].used), 0);
    CHECK_EQ(atomic_fetch_add(&things[number].destroyed, 1), 0);
    atomic_store(&things[number].why, (int)why);
    atomic_fetch_sub(&existing, 1);
}

static int examine(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    atomic_fetch_add(&validated, 1);
    return atomic_load(&refuse_validate) && atomic_fetch_sub(&refuse_validate, 1) > 0 ? 41 : 0;
}

static int renew(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    atomic_fetch_add(&resets, 1);
    return atomic_load(&refuse_reset) && atomic_fetch_sub(&refuse_reset, 1) > 0 ? 42 : 0;
}

static twill_resource_pool *pool_of(twill_resource_pool_options options)
{
    twill_resource_pool *pool = NULL;
    memset(things, 0, sizeof things);
    made = existing = existing_peak = refuse_create = refuse_validate = refuse_reset = 0;
    validated = resets = leaked = 0;
    create_gate = NULL;
    if (!options.create)
        options.create = make;
    if (!options.destroy)
        options.destroy = end;
    CHECK_EQ(twill_resource_pool_create(&pool, &options), TWILL_OK);
    return pool;
}

static twill_resource_pool_stats stats_of(twill_resource_pool *pool)
{
    twill_resource_pool_stats s;
    twill_resource_pool_get_stats(pool, &s);
    return s;
}

/* Both equations; nobody is inside. */
static void check_books(twill_resource_pool *pool)
{
    twill_resource_pool_stats s = stats_of(pool);
    uint64_t destroyed = 0;
    for (int why = 0; why < TWILL_RESOURCE_END_COUNT; why++)
        destroyed += s.destroyed[why];
    CHECK_EQ(s.total, s.idle + s.leased);
    CHECK_EQ(s.creating, 0);
    CHECK_EQ(s.waiting, 0);
    CHECK_EQ(s.acquires, s.releases + s.discards + s.detached + s.leased);
    CHECK_EQ(s.created + s.added, destroyed + s.detached + s.total);
}

static void finish(twill_resource_pool *pool)
{
    check_books(pool);
    CHECK_EQ(twill_resource_pool_destroy(pool), TWILL_OK);
    for (int k = 1; k <= atomic_load(&made); k++)
        CHECK_EQ(atomic_load(&things[k].destroyed), 1);
    CHECK_EQ(faults_live(), 0);
}

typedef struct actor {
    twill__thrd thread;
    void (*fn)(struct actor *actor);
    twill_resource_pool *pool;
    twill_until until;
    twill_status status;
    twill_lease lease;
    size_t n;
    atomic_bool over;
    atomic_int *order;
    int place;
} actor;

static void actor_main(void *arg)
{
    actor *me = arg;
    me->fn(me);
    atomic_store(&me->over, true);
}

static void go(actor *who, void (*fn)(actor *who), twill_resource_pool *pool)
{
    memset(&who->thread, 0, sizeof who->thread);
    who->thread.fn = actor_main;
    who->thread.arg = who;
    who->thread.cpu = UINT_MAX;
    who->fn = fn;
    who->pool = pool;
    atomic_store(&who->over, false);
    CHECK(twill__thread_start(&who->thread));
}

static void join(actor *who)
{
    twill__thread_join(&who->thread);
}

static void acquire_one(actor *me)
{
    me->status = twill_resource_pool_acquire_until(me->pool, &me->lease, me->until);
    if (me->order)
        me->place = atomic_fetch_add(me->order, 1);
}

static void until_waiting(twill_resource_pool *pool, size_t n)
{
    while (stats_of(pool).waiting != n) /* the watchdog is the bound */
        twill_sleep(twill_within(TWILL_US(100)));
}

#define OK(call) CHECK_EQ(call, TWILL_OK)

/* ---- answers ---- */

TEST(borrow_and_give_back)
{
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 2});
    twill_lease a = {0}, b = {0}, c = {0};
    OK(twill_resource_pool_acquire(pool, &a));
    CHECK_EQ(number_of(a.resource), 1);
    CHECK_EQ(a.generation, 1);
    OK(twill_resource_pool_try_acquire(pool, &b)); /* waits for nobody, but creates */
    CHECK_EQ(twill_resource_pool_try_acquire(pool, &c), TWILL_EMPTY);
    CHECK_EQ(twill_resource_pool_acquire_until(pool, &c, twill_within(TWILL_MS(1))), TWILL_TIMEOUT);
    CHECK_PTR(c.pool, NULL);
    OK(twill_resource_pool_release(pool, &a));
    CHECK_PTR(a.pool, NULL);
    OK(twill_resource_pool_acquire_until(pool, &c, twill_within(0))); /* there: although over */
    CHECK_EQ(number_of(c.resource), 1);
    CHECK_EQ(c.generation, 2);
    OK(twill_resource_pool_release(pool, &b));
    OK(twill_resource_pool_release(pool, &c));
    CHECK_EQ(stats_of(pool).timeouts, 1);
    CHECK_EQ(stats_of(pool).leased_peak, 2);
    CHECK_EQ(stats_of(pool).created, 2);
    finish(pool);
}

/* A second release of the same lease, or of a copy of it, disturbs nobody (D26: the original lent
   the same connection to two). */
/* In a plain pool neither a borrow nor a return waits for the lock: here it is held all the
   time. */
TEST(idle_resources_are_lent_without_the_lock)
{
    for (size_t max = 1; max < 4; max++) {
        twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = max});
        twill_lease leases[4] = {{0}};
        for (size_t k = 0; k < max; k++)
            OK(twill_resource_pool_acquire(pool, &leases[k]));
        for (size_t k = 0; k < max; k++)
            OK(twill_resource_pool_release(pool, &leases[k]));
        twill__lock(&pool->lock);
        for (size_t k = 0; k < max; k++)
            OK(twill_resource_pool_acquire(pool, &leases[k]));
        for (size_t k = 0; k < max; k++)
            OK(twill_resource_pool_release(pool, &leases[k]));
        twill__unlock(&pool->lock);
        CHECK_EQ(stats_of(pool).acquires, 2 * max);
        finish(pool);
    }
}

/* At the desk as under the lock. */
TEST(a_lease_says_where_it_was_taken)
{
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    twill_lease lease = {0};
    twill_lease_info info;
    for (int line = 1; line < 4; line++) {
        OK(twill_resource_pool_acquire_at(pool, &lease, (twill_until){0, NULL}, "here", line));
        memset(&info, 0xff, sizeof info);
        CHECK_EQ(twill_resource_pool_leases(pool, &info, 1), 1);
        CHECK_EQ(info.line, line);
        CHECK_STR(info.file, "here");
        OK(twill_resource_pool_release(pool, &lease));
    }
    finish(pool);
}

TEST(release_is_checked)
{
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1}), *other = NULL;
    twill_lease a = {0}, copy, b = {0}, none = {0};
    void *resource;
    OK(twill_resource_pool_create(&other, &(twill_resource_pool_options){.create = make}));
    OK(twill_resource_pool_acquire(pool, &a));
    copy = a;
    CHECK_EQ(twill_resource_pool_release(other, &a), TWILL_INVALID);
    CHECK_EQ(twill_resource_pool_release(pool, &none), TWILL_INVALID);
    CHECK_EQ(twill_resource_pool_release(pool, NULL), TWILL_INVALID);
    CHECK_EQ(twill_resource_pool_release(NULL, &a), TWILL_INVALID);
    OK(twill_resource_pool_release(pool, &a));
    CHECK_EQ(twill_resource_pool_release(pool, &copy), TWILL_STALE); /* not lent */
    OK(twill_resource_pool_acquire(pool, &b));
    CHECK_EQ(twill_resource_pool_release(pool, &copy), TWILL_STALE); /* another's now */
    CHECK_EQ(twill_resource_pool_discard(pool, &copy), TWILL_STALE);
    CHECK_EQ(twill_resource_pool_detach(pool, &copy, &resource), TWILL_STALE);
    CHECK(copy.pool == pool); /* a refused one is not emptied */
    copy.slot = 77;
    CHECK_EQ(twill_resource_pool_release(pool, &copy), TWILL_STALE);
    CHECK_EQ(twill_resource_pool_release(pool, &a), TWILL_INVALID); /* empty */
    CHECK_EQ(twill_resource_pool_try_acquire(pool, &a), TWILL_EMPTY);
    OK(twill_resource_pool_release(pool, &b));
    CHECK_EQ(stats_of(pool).releases, 2);
    OK(twill_resource_pool_destroy(other));
    finish(pool);
}

TEST(discard_and_detach)
{
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    twill_lease a = {0};
    void *mine = NULL;
    OK(twill_resource_pool_acquire(pool, &a));
    OK(twill_resource_pool_discard(pool, &a));
    CHECK_EQ(atomic_load(&things[1].why), TWILL_RESOURCE_BROKEN);
    OK(twill_resource_pool_acquire(pool, &a));
    CHECK_EQ(number_of(a.resource), 2);
    OK(twill_resource_pool_detach(pool, &a, &mine));
    CHECK_EQ(number_of(mine), 2);
    CHECK_EQ(stats_of(pool).total, 0);
    OK(twill_resource_pool_add(pool, mine)); /* and back */
    CHECK_EQ(twill_resource_pool_add(pool, mine), TWILL_FULL);
    OK(twill_resource_pool_acquire(pool, &a));
    CHECK_EQ(number_of(a.resource), 2);
    OK(twill_resource_pool_release(pool, &a));
    CHECK_EQ(twill_resource_pool_detach(pool, &a, NULL), TWILL_INVALID);
    finish(pool);
}

static void ignore_leak(const twill_lease_info *info, const twill_task *task)
{
    (void)info;
    (void)task;
}

TEST(refusals)
{
    twill_resource_pool *pool = (twill_resource_pool *)&pool;
    twill_lease lease = {0};
    const twill_resource_pool_options bad[] = {
        {.create = make, .min_idle = 9},
        {.create = make, .max = 4, .min_idle = 3, .max_idle = 2},
        {.create = make, .validate_after = 1},
        {.create = make, .validate = examine, .validate_after = -1},
        {.create = make, .max_idle_time = -1},
        {.create = make, .max_lifetime = -1},
        {.create = make, .create_pause = -1},
        {.create = make, .leak_after = -1},
        {.create = make, .maintain_every = -1},
        {.create = make, .jitter_percent = 101},
        {.create = make, .jitter_percent = UINT_MAX - 1},
        {.create = make, .on_leak = ignore_leak},
        {.min_idle = 1},
        {.max_creating = 1},
        {.create_pause = 1},
    };
    CHECK_EQ(twill_resource_pool_create(NULL, &bad[0]), TWILL_INVALID);
    CHECK_EQ(twill_resource_pool_create(&pool, NULL), TWILL_OK); /* as zeroed: a fixed set */
    for (int k = 0; k <= 8; k++)
        CHECK_EQ(twill_resource_pool_add(pool, &pool), k < 8 ? TWILL_OK : TWILL_FULL);
    CHECK_EQ(twill_resource_pool_destroy(pool), TWILL_OK);
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        CHECK_EQ(twill_resource_pool_create(&pool, &bad[k]), TWILL_INVALID);
        CHECK_PTR(pool, NULL);
    }
    CHECK_EQ(twill_resource_pool_create(&pool, &(twill_resource_pool_options){.max = SIZE_MAX}),
             TWILL_TOO_BIG);
    CHECK_EQ(twill_resource_pool_acquire(NULL, &lease), TWILL_INVALID);
    CHECK_EQ(twill_resource_pool_close(NULL), TWILL_INVALID);
    CHECK_EQ(twill_resource_pool_drain(NULL), TWILL_INVALID);
    CHECK_EQ(twill_resource_pool_destroy(NULL), TWILL_OK);
    CHECK_EQ(twill_resource_pool_maintain(NULL, NULL, twill_within(0)), TWILL_INVALID);
    CHECK_EQ(twill_resource_pool_evict(NULL), 0);
    CHECK_EQ(twill_resource_pool_add(NULL, &lease), TWILL_INVALID);
    CHECK_EQ(twill_resource_pool_resize(NULL, 1), TWILL_INVALID);
    CHECK_EQ(twill_resource_pool_acquire_many_until(NULL, &lease, 1, twill_within(0)),
             TWILL_INVALID);
    CHECK_EQ(twill_resource_pool_leases(NULL, NULL, 0), 0);
    twill_resource_pool_abandon(NULL);
    twill_resource_pool_stats stats, zero;
    memset(&zero, 0, sizeof zero);
    memset(&stats, 1, sizeof stats);
    twill_resource_pool_get_stats(NULL, &stats);
    CHECK(memcmp(&stats, &zero, sizeof zero) == 0);
    twill_resource_pool_get_stats(NULL, NULL);
    pool = pool_of((twill_resource_pool_options){.max = 1});
    CHECK_EQ(twill_resource_pool_acquire(pool, NULL), TWILL_INVALID);
    CHECK_EQ(twill_resource_pool_acquire_many_until(pool, NULL, 1, twill_within(0)), TWILL_INVALID);
    CHECK_EQ(twill_resource_pool_acquire_many_until(pool, NULL, 0, twill_within(0)), TWILL_OK);
    twill_resource_pool_abandon(pool); /* not forked: nothing */
    CHECK_EQ(twill_resource_pool_resize(pool, 0), TWILL_INVALID);
    OK(twill_resource_pool_acquire(pool, &lease));
    twill_lease_info info[1];
    CHECK_EQ(twill_resource_pool_leases(pool, NULL, 5), 1); /* only counted */
    CHECK_EQ(twill_resource_pool_leases(pool, info, 0), 1);
    CHECK_EQ(twill_resource_pool_leases(pool, info, 1), 1);
    CHECK_PTR(info[0].resource, lease.resource);
    OK(twill_resource_pool_release(pool, &lease));
    CHECK_EQ(twill_resource_pool_resize(pool, SIZE_MAX), TWILL_TOO_BIG);
    CHECK_EQ(twill_with_resource(pool, NULL, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_resource_pool_drain(pool), TWILL_INVALID); /* before close */
    twill_resource_pool_broken(NULL);
    finish(pool);
}

/* ---- order ---- */

TEST(newest_first_or_oldest_first)
{
    for (int fifo = 0; fifo < 2; fifo++) {
        twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 3, .fifo = fifo});
        twill_lease l[3] = {{0}};
        for (int k = 0; k < 3; k++)
            OK(twill_resource_pool_acquire(pool, &l[k]));
        for (int k = 0; k < 3; k++)
            OK(twill_resource_pool_release(pool, &l[k])); /* 1, 2, 3 */
        for (int k = 0; k < 3; k++) {
            OK(twill_resource_pool_acquire(pool, &l[k]));
            CHECK_EQ(number_of(l[k].resource), fifo ? k + 1 : 3 - k);
        }
        for (int k = 0; k < 3; k++)
            OK(twill_resource_pool_release(pool, &l[k]));
        if (!fifo) { /* light load keeps the number of created ones minimal */
            for (int k = 0; k < 50; k++) {
                OK(twill_resource_pool_acquire(pool, &l[0]));
                OK(twill_resource_pool_release(pool, &l[0]));
            }
            CHECK_EQ(stats_of(pool).created, 3);
        }
        finish(pool);
    }
}

/* The same for longer, against a plain list, at the desk (up to 16) and with the lock alone, with
   calls in between that bring the desk into the books. */
TEST(order_against_a_list)
{
    static const size_t sizes[] = {1, 2, 5, 16, 17};
    static const unsigned rests[] = {1024, 16, 1};
    uint32_t random = 12345;
    for (size_t round = 0; round < 30; round++) {
        size_t max = sizes[round / 2 % 5], idle = 0, lent = 0;
        bool fifo = round % 2 != 0;
        int list[17];
        twill_lease leases[17] = {{0}};
        twill_lease_info info[17];
        uint64_t acquires = 0;
        twill_resource_pool *pool;
        desk_rest = rests[round / 10];
        pool = pool_of((twill_resource_pool_options){.max = max, .fifo = fifo});
        for (int step = 0; step < 4000; step++) {
            random = random * 1664525 + 1013904223;
            if (random >> 31 && lent < max) {
                OK(twill_resource_pool_acquire(pool, &leases[lent]));
                if (idle) { /* else: one more was made */
                    size_t next = fifo ? 0 : idle - 1;
                    CHECK_EQ(number_of(leases[lent].resource), list[next]);
                    idle--;
                    memmove(&list[next], &list[next + 1], (idle - next) * sizeof list[0]);
                }
                lent++;
                acquires++;
            } else if (lent) {
                size_t which = (random >> 8) % lent;
                list[idle++] = number_of(leases[which].resource);
                OK(twill_resource_pool_release(pool, &leases[which]));
                leases[which] = leases[--lent];
            }
            if ((random >> 4) % 64 == 0) {
                CHECK_EQ(stats_of(pool).idle, idle);
                CHECK_EQ(stats_of(pool).acquires, acquires);
                CHECK_EQ(twill_resource_pool_leases(pool, info, 17), lent);
                for (size_t k = 0; k < lent; k++) {
                    CHECK(info[k].file && strcmp(info[k].file, __FILE__) == 0);
                    CHECK(info[k].line > 0);
                }
            }
        }
        while (lent)
            OK(twill_resource_pool_release(pool, &leases[--lent]));
        finish(pool);
    }
    desk_rest = 1024;
}

/* Generations go on from the highest to 1, and are counted right, without the lock too. */
static void generations_skip_nothing_but_0_at(unsigned rest)
{
    twill_resource_pool *pool;
    twill_lease lease = {0}, copy;
    twill_resource_pool_stats s;
    twill__resource_turn turn;
    desk_rest = rest;
    pool = pool_of((twill_resource_pool_options){.max = 1});
    OK(twill_resource_pool_acquire(pool, &lease));
    OK(twill_resource_pool_release(pool, &lease));
    twill__resource_enter(pool, &turn);
    pool->slots[0].lendings = UINT32_MAX - 1;
    twill__resource_exit(pool, &turn);
    for (uint32_t k = 0; k < 3; k++) {
        OK(twill_resource_pool_acquire(pool, &lease));
        CHECK_EQ(lease.generation, k ? k : UINT32_MAX);
        copy = lease;
        OK(twill_resource_pool_release(pool, &lease));
        CHECK_EQ(twill_resource_pool_release(pool, &copy), TWILL_STALE);
    }
    s = stats_of(pool);
    CHECK_EQ(s.acquires, 4);
    CHECK_EQ(s.releases, 4);
    finish(pool);
    desk_rest = 1024;
}

TEST(generations_skip_nothing_but_0)
{
    generations_skip_nothing_but_0_at(1024);
    generations_skip_nothing_but_0_at(1);
}

/* ---- returns without a compare-and-swap ---- */

static bool light(twill_resource_pool *pool)
{
    return atomic_load(&pool->desk.mode) == TWILL__DESK_LIGHT;
}

static void pairs(twill_resource_pool *pool, int n)
{
    twill_lease lease = {0};
    while (n-- > 0) {
        OK(twill_resource_pool_acquire(pool, &lease));
        OK(twill_resource_pool_release(pool, &lease));
    }
}

/* They begin after a rest, and are as exact as the others; a heavy fence is paid for only by who
   takes the cells away while one is lent. */
TEST(light_returns)
{
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 2});
    twill_lease lease = {0}, copy;
    bool offered = twill__fence_offered();
    int before;
    CHECK_EQ(offered, atomic_load(&pool->desk.mode) == TWILL__DESK_WARY);
    pairs(pool, 1000);
    CHECK(!light(pool));
    pairs(pool, 2000);
    CHECK_EQ(light(pool), offered);
    OK(twill_resource_pool_acquire(pool, &lease));
    copy = lease;
    before = atomic_load(&heavy_fences);
    CHECK_EQ(stats_of(pool).leased, 1);
    CHECK_EQ(atomic_load(&heavy_fences) - before, offered);
    CHECK(light(pool) == offered); /* it was long ago that somebody came */
    CHECK_EQ(stats_of(pool).acquires, 3001);
    CHECK_EQ(atomic_load(&heavy_fences) - before, offered ? 2 : 0);
    CHECK(!light(pool)); /* now it was not */
    OK(twill_resource_pool_release(pool, &lease));
    CHECK_EQ(twill_resource_pool_release(pool, &copy), TWILL_STALE);
    pairs(pool, 3000);
    CHECK_EQ(light(pool), offered);
    OK(twill_resource_pool_acquire(pool, &lease));
    copy = lease;
    OK(twill_resource_pool_release(pool, &lease));
    CHECK_EQ(twill_resource_pool_release(pool, &copy), TWILL_STALE);
    before = atomic_load(&heavy_fences);
    CHECK_EQ(stats_of(pool).releases, 6002);
    CHECK_EQ(atomic_load(&heavy_fences), before);
    finish(pool);
}

static void come_often(actor *me)
{
    pairs(me->pool, (int)me->n);
}

/* They are for who comes alone: not while two come by turns, and again for the next one alone. */
TEST(light_returns_for_one_thread)
{
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    actor other = {.n = 1};
    pairs(pool, 4000);
    CHECK_EQ(light(pool), twill__fence_offered());
    for (int k = 0; k < 40; k++) {
        go(&other, come_often, pool);
        join(&other);
        pairs(pool, 100);
    }
    CHECK(!light(pool));
    CHECK(twill__fence_offered() == (atomic_load(&pool->desk.mode) == TWILL__DESK_WARY));
    other.n = 4000;
    go(&other, come_often, pool);
    join(&other);
    CHECK_EQ(light(pool), twill__fence_offered());
    finish(pool);
}

static void give_back(actor *me)
{
    twill_lease copy = me->lease;
    me->status = twill_resource_pool_release(me->pool, &me->lease);
    CHECK_EQ(twill_resource_pool_release(me->pool, &copy), TWILL_STALE);
    pairs(me->pool, 3);
}

/* By another thread: legal, and from then on nobody's return is light in this pool. */
TEST(leases_that_move_end_light_returns)
{
    twill_resource_pool *pool;
    twill_lease copy;
    actor other = {.n = 0};
    desk_rest = 1;
    pool = pool_of((twill_resource_pool_options){.max = 1});
    OK(twill_resource_pool_acquire(pool, &other.lease));
    CHECK_EQ(light(pool), twill__fence_offered());
    copy = other.lease;
    go(&other, give_back, pool);
    join(&other);
    CHECK_EQ(other.status, TWILL_OK);
    CHECK_EQ(twill_resource_pool_release(pool, &copy), TWILL_STALE);
    CHECK_EQ(atomic_load(&pool->desk.mode), TWILL__DESK_MOVING);
    pairs(pool, 3);
    CHECK_EQ(atomic_load(&pool->desk.mode), TWILL__DESK_MOVING);
    CHECK_EQ(stats_of(pool).releases, 7);
    finish(pool);
    desk_rest = 1024;
}

/* A lease and its copy at once: one of them, and nothing is lost. */
TEST(copies_given_back_at_once)
{
    desk_rest = 1;
    for (int round = 0; round < 200; round++) {
        twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
        actor other = {.n = 0};
        twill_lease lease = {0};
        twill_status mine;
        OK(twill_resource_pool_acquire(pool, &lease));
        other.lease = lease;
        go(&other, give_back, pool);
        for (int k = round % 8 * 100; k > 0; k--)
            twill__pause();
        mine = twill_resource_pool_release(pool, &lease);
        join(&other);
        CHECK((mine == TWILL_OK && other.status == TWILL_STALE) ||
              (mine == TWILL_STALE && other.status == TWILL_OK));
        CHECK_EQ(stats_of(pool).idle, 1);
        finish(pool);
    }
    desk_rest = 1024;
}

static void use_alone(actor *me)
{
    for (size_t k = 0; k < me->n; k++) {
        OK(twill_resource_pool_acquire(me->pool, &me->lease));
        struct thing *thing = &things[number_of(me->lease.resource)];
        CHECK_EQ(atomic_fetch_add(&thing->used, 1), 0);
        atomic_fetch_sub(&thing->used, 1);
        OK(twill_resource_pool_release(me->pool, &me->lease));
    }
}

/* Light, wary and waited for by turns: nobody has what another has, nobody waits for ever, and the
   books balance. */
TEST(light_returns_meet_who_takes_the_cells)
{
    static const unsigned rests[] = {1, 4, 64};
    for (int round = 0; round < 6; round++) {
        actor who[3] = {{.n = 2000}, {.n = 2000}, {.n = 2000}};
        twill_resource_pool *pool;
        desk_rest = rests[round / 2];
        desk_alone = false;
        pool = pool_of((twill_resource_pool_options){.max = 1 + (size_t)round % 2 * 2});
        for (int k = 0; k < 3; k++)
            go(&who[k], use_alone, pool);
        for (int k = 0; k < 200; k++) {
            twill_resource_pool_stats s = stats_of(pool);
            CHECK_EQ(s.acquires, s.releases + s.leased);
            (void)twill_resource_pool_evict(pool);
            twill__yield();
        }
        for (int k = 0; k < 3; k++)
            join(&who[k]);
        CHECK_EQ(stats_of(pool).acquires, 6000);
        finish(pool);
    }
    desk_rest = 1024;
    desk_alone = true;
}

enum { RETURNS = 16 };
static atomic_uint returns_begun;

static void return_lightly(actor *me)
{
    twill__desk *desk = &me->pool->desk;
    for (unsigned k = 1; k <= RETURNS; k++) {
        while (atomic_load(&returns_begun) < k)
            twill__yield();
        atomic_store_explicit(&desk->slot[0].done, twill__desk_cell(k, 1, TWILL__DESK_IDLE),
                              memory_order_release);
    }
}

/* Noted, and not yet done: whoever has taken the cells waits for it, a moment or for long. */
TEST(a_return_under_way_is_waited_for)
{
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    actor who = {.n = 0};
    atomic_store(&returns_begun, 0);
    go(&who, return_lightly, pool);
    for (unsigned k = 1; k <= RETURNS; k++) {
        twill__desk_note(&pool->desk, 0, k);
        atomic_store(&returns_begun, k);
        CHECK_EQ(twill__desk_settle(&pool->desk, 0, twill__desk_cell(k, 0, TWILL__DESK_SPLIT)),
                 twill__desk_cell(k, 1, TWILL__DESK_IDLE));
    }
    join(&who);
    finish(pool);
}

/* A kernel without the fence: all the same, by compare-and-swap. One that takes it away while a
   lease is out (a sandbox): nothing is lost, and nobody's return is light any more. */
TEST(light_returns_without_the_kernel)
{
    twill_resource_pool *pool;
    twill_lease lease = {0}, copy;
    desk_rest = 1;
    for (int round = 0; round < 4; round++) {
        bool taken = round % 2;
        int less = round < 2 ? KERNEL_HAS_NONE : KERNEL_REGISTERS_ONLY;
        atomic_store(&twill__process()->fence, TWILL__FENCE_UNKNOWN);
        atomic_store(&kernel, taken ? KERNEL_AS_IT_IS : less);
        errno = 76;
        pool = pool_of((twill_resource_pool_options){.max = 1});
        CHECK_EQ(errno, 76);
        pairs(pool, 3);
        OK(twill_resource_pool_acquire(pool, &lease));
        CHECK_EQ(light(pool), taken && twill__fence_offered());
        copy = lease;
        atomic_store(&kernel, less);
        errno = 77;
        CHECK_EQ(stats_of(pool).leased, 1);
        CHECK_EQ(errno, 77);
        CHECK_EQ(atomic_load(&pool->desk.mode), TWILL__DESK_MOVING);
        OK(twill_resource_pool_release(pool, &lease));
        CHECK_EQ(twill_resource_pool_release(pool, &copy), TWILL_STALE);
        pairs(pool, 3);
        CHECK_EQ(stats_of(pool).releases, 7);
        CHECK(!twill__fence_offered());
        finish(pool);
    }
    atomic_store(&twill__process()->fence, TWILL__FENCE_UNKNOWN);
    atomic_store(&kernel, KERNEL_AS_IT_IS);
    desk_rest = 1024;
}

/* One that knows this process no more, as a child's may: it is asked again. */
TEST(a_fence_is_registered_again)
{
    if (!twill__fence_offered())
        SKIP("no fence here that one side pays for");
    atomic_store(&kernel, KERNEL_HAS_FORGOTTEN);
    errno = 78;
    CHECK(twill__fence_heavy());
    CHECK_EQ(errno, 78);
    CHECK_EQ(atomic_load(&kernel), KERNEL_AS_IT_IS);
    CHECK(twill__fence_offered());
}

/* Once in a process: it may take some ms. */
TEST(the_kernel_is_asked_once)
{
    int before;
    atomic_store(&twill__process()->fence, TWILL__FENCE_UNKNOWN);
    finish(pool_of((twill_resource_pool_options){.max = 1}));
    before = atomic_load(&heavy_fences);
    finish(pool_of((twill_resource_pool_options){.max = 1}));
    CHECK_EQ(atomic_load(&heavy_fences), before);
}

TEST(waiters_are_served_in_order)
{
    enum { WAITERS = 8 };
    actor who[WAITERS] = {{.n = 0}};
    atomic_int order = 0;
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    twill_lease mine = {0}, newcomer = {0};
    OK(twill_resource_pool_acquire(pool, &mine));
    for (size_t k = 0; k < WAITERS; k++) {
        who[k].order = &order;
        go(&who[k], acquire_one, pool);
        until_waiting(pool, k + 1);
    }
    OK(twill_resource_pool_release(pool, &mine));
    for (int k = 0; k < WAITERS; k++) {
        join(&who[k]);
        CHECK_EQ(who[k].status, TWILL_OK);
        CHECK_EQ(who[k].place, k);
        CHECK_EQ(twill_resource_pool_try_acquire(pool, &newcomer), TWILL_EMPTY);
        OK(twill_resource_pool_release(pool, &who[k].lease)); /* to the next, not to the list */
    }
    CHECK_EQ(stats_of(pool).waits, WAITERS);
    CHECK_EQ(stats_of(pool).waiting_peak, WAITERS);
    CHECK(stats_of(pool).wait_max > 0);
    finish(pool);
}

/* ---- creation ---- */

TEST(creation_fails)
{
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    twill_lease a = {0};
    twill_report report;
    int code = 0;
    refuse_create = 3;
    CHECK_EQ(twill_resource_pool_acquire(pool, &a), TWILL_FAILED);
    CHECK_EQ(a.code, 40);
    CHECK_PTR(a.pool, NULL);
    CHECK_EQ(twill_resource_pool_try_acquire(pool, &a), TWILL_FAILED);
    CHECK_EQ(twill_with_resource(pool, (twill_resource_fn *)examine, NULL,
                                 &(twill_with_resource_options){.report = &report}),
             TWILL_FAILED);
    CHECK_EQ(report.skipped, 1);
    CHECK_EQ(report.first_error.code, 40);
    OK(twill_resource_pool_acquire(pool, &a)); /* the permit is not lost */
    OK(twill_resource_pool_release(pool, &a));
    CHECK_EQ(stats_of(pool).create_failed, 3);
    finish(pool);
    pool = pool_of((twill_resource_pool_options){.max = 4, .min_idle = 2});
    refuse_create = 1;
    CHECK_EQ(twill_resource_pool_maintain(pool, &code, twill_within(TWILL_SEC(100))), TWILL_FAILED);
    CHECK_EQ(code, 40);
    CHECK_EQ(stats_of(pool).idle, 0);
    OK(twill_resource_pool_maintain(pool, &code, twill_within(TWILL_SEC(100))));
    CHECK_EQ(code, 0);
    CHECK_EQ(stats_of(pool).idle, 2);
    CHECK_EQ(stats_of(pool).created, 2);
    finish(pool);
}

/* A failed creation, a discard and a detach hand the capacity on to who waits. */
TEST(capacity_is_handed_on)
{
    for (int how = 0; how < 4; how++) {
        atomic_int gate = 0;
        actor first = {.n = 0}, waits = {.n = 0};
        void *mine;
        twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
        if (how == 0) {
            refuse_create = 1;
            create_gate = &gate;
            go(&first, acquire_one, pool);
            while (stats_of(pool).creating != 1)
                twill_sleep(twill_within(TWILL_US(50)));
        } else {
            OK(twill_resource_pool_acquire(pool, &first.lease));
        }
        go(&waits, acquire_one, pool);
        until_waiting(pool, 1);
        if (how == 0) {
            gate = 1;
            join(&first);
            CHECK_EQ(first.status, TWILL_FAILED);
            CHECK_EQ(first.lease.code, 40);
        } else if (how == 1) {
            OK(twill_resource_pool_discard(pool, &first.lease));
        } else if (how == 2) {
            OK(twill_resource_pool_detach(pool, &first.lease, &mine));
            atomic_fetch_add(&things[1].destroyed, 1);
        } else {
            OK(twill_resource_pool_resize(pool, 2));
        }
        join(&waits);
        CHECK_EQ(waits.status, TWILL_OK);
        CHECK_EQ(number_of(waits.lease.resource), how ? 2 : 1);
        OK(twill_resource_pool_release(pool, &waits.lease));
        if (how == 3)
            OK(twill_resource_pool_release(pool, &first.lease));
        finish(pool);
    }
}

/* What comes in the pause after a failed creation; false: it was over before all had come. */
static bool the_pause_holds(twill_ns pause_)
{
    twill_lease a = {0}, b = {0};
    int code = 0;
    twill_resource_pool *pool =
        pool_of((twill_resource_pool_options){.max = 2, .create_pause = pause_, .min_idle = 1});
    OK(twill_resource_pool_acquire(pool, &a));
    refuse_create = 1;
    twill_ns begun = twill_now();
    CHECK_EQ(twill_resource_pool_acquire(pool, &b), TWILL_FAILED);
    twill_status tried = twill_resource_pool_try_acquire(pool, &b), waited = TWILL_OK,
                 maintained = TWILL_OK;
    if (tried != TWILL_OK)
        waited = twill_resource_pool_acquire_until(pool, &b, twill_within(TWILL_MS(1)));
    if (waited != TWILL_OK)
        maintained = twill_resource_pool_maintain(pool, &code, twill_within(TWILL_SEC(100)));
    bool in_time = twill_now() - begun < pause_;
    if (in_time) {
        CHECK_EQ(tried, TWILL_EMPTY); /* nobody tries now */
        CHECK_EQ(waited, TWILL_TIMEOUT);
        CHECK_EQ(maintained, TWILL_FAILED);
        CHECK_EQ(code, 40);
    }
    if (waited != TWILL_OK)
        OK(twill_resource_pool_acquire(pool, &b)); /* the end of the pause wakes it */
    CHECK(twill_now() - begun >= pause_);
    CHECK_EQ(atomic_load(&made), 2);
    OK(twill_resource_pool_discard(pool, &b));
    OK(twill_resource_pool_release(pool, &a));
    finish(pool);
    return in_time;
}

TEST(pause_after_a_failed_creation)
{
    twill_lease a = {0}, b = {0};
    actor waits = {.n = 0};
    const void *only;
    CHECK(test_in_time(TWILL_MS(30), the_pause_holds));
    twill_resource_pool *pool =
        pool_of((twill_resource_pool_options){.max = 2, .create_pause = TWILL_SEC(600)});
    OK(twill_resource_pool_acquire(pool, &a));
    only = a.resource;
    refuse_create = 1;
    CHECK_EQ(twill_resource_pool_acquire(pool, &b), TWILL_FAILED);
    go(&waits, acquire_one, pool);
    until_waiting(pool, 1);
    OK(twill_resource_pool_release(pool, &a)); /* serves it, in the pause */
    join(&waits);
    CHECK_EQ(waits.status, TWILL_OK);
    CHECK(waits.lease.resource == only);
    OK(twill_resource_pool_release(pool, &waits.lease));
    finish(pool);
    pool = pool_of((twill_resource_pool_options){.max = 1, .create_pause = TWILL_FOREVER});
    refuse_create = 1;
    CHECK_EQ(twill_resource_pool_acquire(pool, &b), TWILL_FAILED);
    go(&waits, acquire_one, pool);
    until_waiting(pool, 1);
    made = existing = 1;
    OK(twill_resource_pool_add(pool, thing_of(1))); /* serves it, too: nothing is there */
    CHECK_EQ(twill_resource_pool_add(pool, thing_of(2)), TWILL_FULL);
    join(&waits);
    CHECK_EQ(waits.status, TWILL_OK);
    CHECK_EQ(number_of(waits.lease.resource), 1);
    OK(twill_resource_pool_release(pool, &waits.lease));
    finish(pool);
    pool = pool_of((twill_resource_pool_options){.max = 1, .create_pause = TWILL_FOREVER});
    refuse_create = 1;
    CHECK_EQ(twill_resource_pool_acquire(pool, &b), TWILL_FAILED);
    CHECK_EQ(twill_resource_pool_try_acquire(pool, &b), TWILL_EMPTY); /* and nobody ever will */
    finish(pool);
}

/* Who waits for the end of the pause is first when it is over, also before a thread that does not
   sleep. */
TEST(nobody_overtakes_at_the_end_of_a_pause)
{
    for (int round = 0; round < 5; round++) {
        actor waits = {.n = 0};
        twill_lease l = {0};
        twill_ns over;
        twill_resource_pool *pool =
            pool_of((twill_resource_pool_options){.max = 1, .create_pause = TWILL_MS(5)});
        refuse_create = 1;
        CHECK_EQ(twill_resource_pool_acquire(pool, &l), TWILL_FAILED);
        over = twill_now() + TWILL_MS(6);
        l = (twill_lease){0};
        go(&waits, acquire_one, pool);
        while (stats_of(pool).waits == 0 && twill_now() < over)
            twill__yield();
        while (stats_of(pool).waits && twill_now() < over)
            CHECK_EQ(twill_resource_pool_try_acquire(pool, &l), TWILL_EMPTY);
        join(&waits);
        CHECK_EQ(waits.status, TWILL_OK);
        OK(twill_resource_pool_release(pool, &waits.lease));
        finish(pool);
    }
}

TEST(creations_at_once_are_bounded)
{
    atomic_int gate = 0;
    actor who[3] = {{.n = 0}};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 3, .max_creating = 1});
    create_gate = &gate;
    for (int k = 0; k < 3; k++)
        go(&who[k], acquire_one, pool);
    until_waiting(pool, 2);
    CHECK_EQ(stats_of(pool).creating, 1);
    gate = 1;
    for (int k = 0; k < 3; k++) {
        join(&who[k]);
        CHECK_EQ(who[k].status, TWILL_OK);
    }
    CHECK_EQ(atomic_load(&made), 3);
    for (int k = 0; k < 3; k++)
        OK(twill_resource_pool_release(pool, &who[k].lease));
    finish(pool);
}

/* ---- validate, reset, ages ---- */

TEST(validation_on_borrow)
{
    twill_lease a = {0}, b = {0};
    twill_resource_pool *pool =
        pool_of((twill_resource_pool_options){.max = 2, .validate = examine});
    OK(twill_resource_pool_acquire(pool, &a)); /* fresh: not asked */
    CHECK_EQ(atomic_load(&validated), 0);
    OK(twill_resource_pool_acquire(pool, &b));
    OK(twill_resource_pool_release(pool, &a));
    OK(twill_resource_pool_release(pool, &b));
    refuse_validate = 1;
    OK(twill_resource_pool_acquire(pool, &a)); /* 2 is refused, 1 is taken */
    CHECK_EQ(number_of(a.resource), 1);
    CHECK_EQ(atomic_load(&things[2].why), TWILL_RESOURCE_INVALID);
    CHECK_EQ(atomic_load(&validated), 2);
    OK(twill_resource_pool_release(pool, &a));
    refuse_validate = 1;
    OK(twill_resource_pool_try_acquire(pool, &a)); /* refused, and another is made */
    CHECK_EQ(number_of(a.resource), 3);
    OK(twill_resource_pool_release(pool, &a));
    finish(pool);
    pool = pool_of((twill_resource_pool_options){
        .max = 2, .validate = examine, .validate_after = TWILL_SEC(100)});
    OK(twill_resource_pool_acquire(pool, &a));
    OK(twill_resource_pool_release(pool, &a));
    OK(twill_resource_pool_acquire(pool, &a));
    CHECK_EQ(atomic_load(&validated), 0);
    OK(twill_resource_pool_release(pool, &a));
    finish(pool);
}

TEST(a_validator_that_always_says_no)
{
    twill_lease a = {0};
    twill_resource_pool *pool =
        pool_of((twill_resource_pool_options){.max = 2, .validate = examine});
    refuse_validate = 1000;
    for (int k = 0; k < 50; k++) { /* a fresh one each time, no hang */
        OK(twill_resource_pool_acquire(pool, &a));
        CHECK_EQ(number_of(a.resource), k + 1);
        OK(twill_resource_pool_release(pool, &a));
    }
    CHECK(atomic_load(&existing_peak) <= 2);
    finish(pool);
}

TEST(fixed_set)
{
    twill_resource_pool *pool = NULL;
    twill_lease a = {0}, b = {0};
    actor waits = {.n = 0};
    memset(things, 0, sizeof things);
    made = 0;
    existing = 3;
    refuse_validate = 0;
    OK(twill_resource_pool_create(
        &pool, &(twill_resource_pool_options){.max = 3, .destroy = end, .validate = examine}));
    CHECK_EQ(twill_resource_pool_try_acquire(pool, &a), TWILL_EMPTY);
    go(&waits, acquire_one, pool); /* nothing added: waits for add */
    until_waiting(pool, 1);
    OK(twill_resource_pool_add(pool, thing_of(1)));
    join(&waits);
    CHECK_EQ(waits.status, TWILL_OK);
    OK(twill_resource_pool_add(pool, thing_of(2)));
    OK(twill_resource_pool_add(pool, thing_of(3)));
    CHECK_EQ(twill_resource_pool_add(pool, thing_of(4)), TWILL_FULL);
    refuse_validate = 1;
    OK(twill_resource_pool_acquire(pool, &a)); /* 3 is refused, 2 taken */
    CHECK_EQ(number_of(a.resource), 2);
    OK(twill_resource_pool_release(pool, &a));
    refuse_validate = 1;
    CHECK_EQ(twill_resource_pool_try_acquire(pool, &b), TWILL_EMPTY); /* and nothing is left */
    OK(twill_resource_pool_release(pool, &waits.lease));
    check_books(pool);
    OK(twill_resource_pool_close(pool));
    CHECK_EQ(twill_resource_pool_add(pool, thing_of(5)), TWILL_CLOSED);
    OK(twill_resource_pool_drain(pool));
    OK(twill_resource_pool_destroy(pool));
    for (int k = 1; k <= 3; k++)
        CHECK_EQ(atomic_load(&things[k].destroyed), 1);
    CHECK_EQ(faults_live(), 0);
}

TEST(reset_on_release)
{
    twill_lease a = {0};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1, .reset = renew});
    OK(twill_resource_pool_acquire(pool, &a));
    OK(twill_resource_pool_release(pool, &a));
    CHECK_EQ(atomic_load(&resets), 1);
    refuse_reset = 1;
    OK(twill_resource_pool_acquire(pool, &a));
    OK(twill_resource_pool_release(pool, &a)); /* still OK for the caller */
    CHECK_EQ(atomic_load(&things[1].why), TWILL_RESOURCE_INVALID);
    OK(twill_resource_pool_acquire(pool, &a));
    CHECK_EQ(number_of(a.resource), 2);
    OK(twill_resource_pool_discard(pool, &a)); /* no reset of what is broken */
    CHECK_EQ(atomic_load(&resets), 2);
    finish(pool);
}

TEST(uses_and_ages)
{
    twill_lease a = {0};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1, .max_uses = 2});
    for (int k = 0; k < 4; k++) {
        OK(twill_resource_pool_acquire(pool, &a));
        CHECK_EQ(number_of(a.resource), k / 2 + 1);
        OK(twill_resource_pool_release(pool, &a));
    }
    CHECK_EQ(atomic_load(&things[1].why), TWILL_RESOURCE_USED_UP);
    finish(pool);
    pool = pool_of((twill_resource_pool_options){.max = 1, .max_lifetime = TWILL_MS(20)});
    OK(twill_resource_pool_acquire(pool, &a));
    twill_sleep(twill_within(TWILL_MS(21)));
    CHECK_EQ(atomic_load(&things[1].destroyed), 0); /* never while it is lent */
    OK(twill_resource_pool_release(pool, &a));
    CHECK_EQ(atomic_load(&things[1].why), TWILL_RESOURCE_OLD);
    finish(pool);
    pool = pool_of((twill_resource_pool_options){.max = 3, .max_idle_time = TWILL_MS(5)});
    OK(twill_resource_pool_acquire(pool, &a));
    OK(twill_resource_pool_release(pool, &a));
    twill_sleep(twill_within(TWILL_MS(6)));
    OK(twill_resource_pool_acquire(pool, &a));
    CHECK_EQ(atomic_load(&things[1].why), TWILL_RESOURCE_IDLE);
    CHECK_EQ(number_of(a.resource), 2);
    OK(twill_resource_pool_release(pool, &a));
    finish(pool);
}

/* One that takes the place of a refused one in the same slot has none of its uses. */
TEST(a_replacement_begins_anew)
{
    twill_resource_pool *pool =
        pool_of((twill_resource_pool_options){.max = 1, .validate = examine, .max_uses = 3});
    twill_lease lease = {0};
    for (int k = 0; k < 5; k++) {
        atomic_store(&refuse_validate, k == 2);
        OK(twill_resource_pool_acquire(pool, &lease));
        CHECK_EQ(number_of(lease.resource), k < 2 ? 1 : 2);
        OK(twill_resource_pool_release(pool, &lease));
        CHECK_EQ(stats_of(pool).idle, k < 4);
    }
    CHECK_EQ(things[1].why, TWILL_RESOURCE_INVALID);
    CHECK_EQ(things[2].why, TWILL_RESOURCE_USED_UP);
    finish(pool);
}

/* Each lifetime is drawn once, shortened by up to so much per cent, the same for a seed. */
TEST(lifetimes_are_drawn)
{
    twill_ns first[8];
    for (int round = 0; round < 2; round++) {
        twill_lease l[8] = {{0}};
        twill_resource_pool *pool = pool_of((twill_resource_pool_options){
            .max = 8, .max_lifetime = TWILL_SEC(1000), .jitter_percent = 50, .seed = 7});
        bool all_same = true;
        for (int k = 0; k < 8; k++) {
            OK(twill_resource_pool_acquire(pool, &l[k]));
            twill_ns dies = pool->slots[l[k].slot].dies - twill_now();
            CHECK(dies > TWILL_SEC(490) && dies <= TWILL_SEC(1000));
            if (round == 0)
                first[k] = dies;
            CHECK(first[k] - dies < TWILL_SEC(50) && dies - first[k] < TWILL_SEC(5));
            all_same = all_same && first[k] - first[0] < TWILL_SEC(50) &&
                       first[0] - first[k] < TWILL_SEC(50);
        }
        CHECK(!all_same);
        for (int k = 0; k < 8; k++)
            OK(twill_resource_pool_release(pool, &l[k]));
        finish(pool);
    }
}

TEST(maintain_keeps_what_it_must)
{
    twill_lease l[4] = {{0}};
    uint64_t early;
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){
        .max = 4, .min_idle = 2, .max_idle_time = TWILL_MS(80), .jitter_percent = UINT_MAX});
    OK(twill_resource_pool_maintain(pool, NULL, twill_within(TWILL_SEC(100))));
    CHECK_EQ(stats_of(pool).idle, 2);
    for (int k = 0; k < 4; k++)
        OK(twill_resource_pool_acquire(pool, &l[k]));
    early = stats_of(pool).destroyed[TWILL_RESOURCE_IDLE]; /* 0, unless this thread was held up */
    for (int k = 0; k < 4; k++)
        OK(twill_resource_pool_release(pool, &l[k]));
    twill_sleep(twill_within(TWILL_MS(81)));
    OK(twill_resource_pool_maintain(pool, NULL, twill_within(TWILL_SEC(100))));
    CHECK_EQ(stats_of(pool).idle, 2); /* fresh ones: made before the old ones went */
    CHECK_EQ(stats_of(pool).destroyed[TWILL_RESOURCE_IDLE] - early, 4);
    CHECK(atomic_load(&existing_peak) <= 4);
    CHECK_EQ(twill_resource_pool_maintain(pool, NULL, twill_within(0)) == TWILL_CLOSED, 0);
    finish(pool);
    pool = pool_of((twill_resource_pool_options){.max = 4, .max_idle = 1});
    for (int k = 0; k < 4; k++)
        OK(twill_resource_pool_acquire(pool, &l[k]));
    for (int k = 0; k < 4; k++)
        OK(twill_resource_pool_release(pool, &l[k]));
    CHECK_EQ(stats_of(pool).idle, 1);
    CHECK_EQ(stats_of(pool).destroyed[TWILL_RESOURCE_SURPLUS], 3);
    finish(pool);
}

/* What expires sooner than the next one is made is not replaced for ever. */
TEST(maintain_ends)
{
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){
        .max = 4, .min_idle = 2, .max_idle_time = 1, .jitter_percent = UINT_MAX});
    OK(twill_resource_pool_maintain(pool, NULL, (twill_until){0, NULL}));
    CHECK_EQ(stats_of(pool).idle, 2);
    CHECK(atomic_load(&made) <= 4);
    finish(pool);
}

static void maintains(actor *me)
{
    me->status = twill_resource_pool_maintain(me->pool, NULL, me->until);
}

/* What maintain makes goes to who has come to wait meanwhile. */
TEST(maintain_serves_who_waits)
{
    atomic_int gate = 0;
    actor fills = {.n = 0}, waits = {.n = 0};
    twill_resource_pool *pool =
        pool_of((twill_resource_pool_options){.max = 1, .min_idle = 1, .max_uses = 9});
    create_gate = &gate;
    go(&fills, maintains, pool);
    while (stats_of(pool).creating != 1)
        twill_sleep(twill_within(TWILL_US(50)));
    go(&waits, acquire_one, pool);
    until_waiting(pool, 1);
    atomic_store(&gate, 1);
    join(&waits);
    join(&fills);
    CHECK(fills.status == TWILL_OK && waits.status == TWILL_OK);
    OK(twill_resource_pool_release(pool, &waits.lease));
    finish(pool);
}

TEST(a_keeper_maintains)
{
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){
        .max = 4, .min_idle = 3, .maintain_every = TWILL_MS(1), .name = "keeper"});
    while (stats_of(pool).idle < 3)
        twill_sleep(twill_within(TWILL_US(200)));
    CHECK_EQ(stats_of(pool).created, 3);
    (void)twill_resource_pool_evict(pool);
    while (stats_of(pool).idle < 3) /* again and again */
        twill_sleep(twill_within(TWILL_US(200)));
    CHECK_EQ(twill_resource_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static atomic_int keepers_answer;

static int make_and_destroy_all(void **resource, const twill_task *task)
{
    _Atomic(twill_resource_pool *) *mine = task->context;
    twill_resource_pool *pool = atomic_load(mine);
    if (pool && !atomic_load(&keepers_answer))
        atomic_store(&keepers_answer, (int)twill_resource_pool_destroy(pool));
    return make(resource, task);
}

/* It cannot wait for its own end. */
TEST(a_keeper_that_destroys_its_pool_is_told)
{
    static _Atomic(twill_resource_pool *) pool;
    atomic_store(&keepers_answer, 0);
    atomic_store(&pool, NULL);
    atomic_store(&pool, pool_of((twill_resource_pool_options){.max = 2,
                                                              .min_idle = 2,
                                                              .maintain_every = TWILL_MS(1),
                                                              .context = &pool,
                                                              .create = make_and_destroy_all}));
    while (!atomic_load(&keepers_answer)) {
        (void)twill_resource_pool_evict(pool); /* it makes more, once it can know the pool */
        twill_sleep(twill_within(TWILL_US(100)));
    }
    CHECK_EQ(atomic_load(&keepers_answer), TWILL_BUSY);
    CHECK_EQ(twill_resource_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

static atomic_int keepers_end;

static int make_or_end_keeper(void **resource, const twill_task *task)
{
    if (atomic_exchange(&keepers_end, 0))
        END_THREAD();
    return make(resource, task);
}

/* Nobody keeps the pool any more; it is as good as ever, and ends. */
TEST(a_keeper_that_nobody_can_follow)
{
    twill_lease a = {0};
    twill_resource_pool *pool;
    atomic_store(&keepers_end, 1);
    pool = pool_of((twill_resource_pool_options){
        .max = 2, .min_idle = 1, .maintain_every = TWILL_MS(1), .create = make_or_end_keeper});
    faults_fail_thread(1);
    while (faults_threads() != 2) /* it has been tried */
        twill_sleep(twill_within(TWILL_US(100)));
    while (stats_of(pool).create_failed != 1)
        twill_sleep(twill_within(TWILL_US(100)));
    faults_fail_thread(0);
    OK(twill_resource_pool_maintain(pool, NULL, (twill_until){0, NULL}));
    OK(twill_resource_pool_acquire(pool, &a));
    CHECK_EQ(number_of(a.resource), 1);
    OK(twill_resource_pool_release(pool, &a));
    CHECK_EQ(faults_threads(), 2);
    finish(pool);
}

/* It sleeps for an hour, and nobody waits for that. */
TEST(a_keeper_that_sleeps_ends_at_once)
{
    bool sleeps = false;
    twill_resource_pool *pool = pool_of(
        (twill_resource_pool_options){.max = 4, .min_idle = 3, .maintain_every = TWILL_SEC(3600)});
    while (!sleeps) { /* the watchdog is the bound */
        twill_sleep(twill_within(TWILL_US(100)));
        twill__lock(&pool->lock);
        sleeps = pool->keeper_waits.first != NULL;
        twill__unlock(&pool->lock);
    }
    CHECK_EQ(twill_resource_pool_destroy(pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* ---- evict, resize ---- */

TEST(evict_by_generation)
{
    twill_lease a = {0}, b = {0};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 3});
    OK(twill_resource_pool_acquire(pool, &a));
    OK(twill_resource_pool_acquire(pool, &b));
    OK(twill_resource_pool_release(pool, &a));
    CHECK_EQ(twill_resource_pool_evict(pool), 1);
    CHECK_EQ(atomic_load(&things[1].why), TWILL_RESOURCE_EVICTED);
    CHECK_EQ(atomic_load(&things[2].destroyed), 0);
    OK(twill_resource_pool_acquire(pool, &a));
    CHECK_EQ(number_of(a.resource), 3);
    OK(twill_resource_pool_release(pool, &b));
    CHECK_EQ(atomic_load(&things[2].why), TWILL_RESOURCE_EVICTED);
    OK(twill_resource_pool_release(pool, &a));
    CHECK_EQ(stats_of(pool).idle, 1); /* a fresh one stays */
    finish(pool);
}

static int make_and_evict(void **resource, const twill_task *task)
{
    twill_resource_pool **pool = task->context;
    int code = make(resource, task);
    if (*pool)
        CHECK_EQ(twill_resource_pool_evict(*pool), 0);
    *pool = NULL; /* once */
    return code;
}

/* A creation may have begun long before an evict: what it made is of that time. */
TEST(evict_beside_a_creation)
{
    for (int fill = 0; fill < 2; fill++) {
        twill_lease a = {0};
        twill_resource_pool *during = NULL;
        twill_resource_pool *pool = pool_of((twill_resource_pool_options){
            .max = 2, .min_idle = (size_t)fill, .create = make_and_evict, .context = &during});
        during = pool;
        if (fill) {
            OK(twill_resource_pool_maintain(pool, NULL, (twill_until){0, NULL}));
            CHECK_EQ(stats_of(pool).idle, 1);
        } else {
            OK(twill_resource_pool_acquire(pool, &a));
            CHECK_EQ(number_of(a.resource), 1);
            OK(twill_resource_pool_release(pool, &a));
            CHECK_EQ(atomic_load(&things[1].why), TWILL_RESOURCE_EVICTED);
        }
        OK(twill_resource_pool_acquire(pool, &a));
        CHECK_EQ(number_of(a.resource), 2);
        CHECK_EQ(atomic_load(&things[1].why), TWILL_RESOURCE_EVICTED);
        OK(twill_resource_pool_release(pool, &a));
        CHECK_EQ(stats_of(pool).idle, 1); /* a fresh one stays */
        finish(pool);
    }
}

static twill_resource_pool *asked_pool;
static twill_lease asked_lease;
static twill_status asked_answer;

/* Once: asks for one of those that are still there. */
static void end_and_ask(void *resource, twill_resource_end why, const twill_task *task)
{
    twill_resource_pool *pool = asked_pool;
    end(resource, why, task);
    asked_pool = NULL;
    if (pool)
        asked_answer = twill_resource_pool_try_acquire(pool, &asked_lease);
}

/* What is idle and is about to end is lent to nobody: not from the end of the first one, either. */
TEST(what_is_to_end_is_not_lent)
{
    for (int closes = 0; closes < 2; closes++) {
        twill_lease l[3] = {{0}};
        twill_resource_pool *pool =
            pool_of((twill_resource_pool_options){.max = 3, .destroy = end_and_ask});
        asked_pool = NULL;
        asked_lease = (twill_lease){0};
        OK(twill_resource_pool_acquire_many_until(pool, l, 3, (twill_until){0, NULL}));
        for (int k = 0; k < 3; k++)
            OK(twill_resource_pool_release(pool, &l[k]));
        asked_pool = pool;
        if (closes) {
            OK(twill_resource_pool_close(pool));
            CHECK_EQ(asked_answer, TWILL_CLOSED);
        } else {
            CHECK_EQ(twill_resource_pool_evict(pool), 1); /* the others by who asked */
            OK(asked_answer);
            CHECK_EQ(number_of(asked_lease.resource), 4);
            CHECK_EQ(stats_of(pool).destroyed[TWILL_RESOURCE_EVICTED], 3);
            OK(twill_resource_pool_release(pool, &asked_lease));
        }
        finish(pool);
    }
}

TEST(resize_while_used)
{
    twill_lease l[6] = {{0}};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 2});
    actor many = {.n = 0};
    OK(twill_resource_pool_acquire(pool, &l[0]));
    OK(twill_resource_pool_acquire(pool, &l[1]));
    go(&many, acquire_one, pool);
    until_waiting(pool, 1);
    OK(twill_resource_pool_resize(pool, 6)); /* the waiter is served at once */
    join(&many);
    CHECK_EQ(many.status, TWILL_OK);
    for (int k = 2; k < 5; k++)
        OK(twill_resource_pool_acquire(pool, &l[k]));
    CHECK_EQ(twill_resource_pool_try_acquire(pool, &l[5]), TWILL_EMPTY);
    OK(twill_resource_pool_release(pool, &l[4]));
    OK(twill_resource_pool_resize(pool, 1));
    CHECK_EQ(stats_of(pool).idle, 0);
    CHECK_EQ(stats_of(pool).destroyed[TWILL_RESOURCE_SURPLUS], 1);
    for (int k = 0; k < 4; k++)
        OK(twill_resource_pool_release(pool, &l[k]));
    CHECK_EQ(stats_of(pool).total, 1);
    OK(twill_resource_pool_release(pool, &many.lease));
    CHECK_EQ(stats_of(pool).total, 1);
    CHECK_EQ(stats_of(pool).idle, 1);
    OK(twill_resource_pool_resize(pool, 5));
    for (int k = 0; k < 5; k++)
        OK(twill_resource_pool_acquire(pool, &l[k]));
    for (int k = 0; k < 5; k++)
        OK(twill_resource_pool_release(pool, &l[k]));
    finish(pool);
}

/* So many are kept ready as the options say and the pool has room for, also when it has been
   smaller. */
TEST(a_pool_that_shrinks_and_grows_keeps_as_many_ready)
{
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 4, .min_idle = 3});
    static const size_t max[] = {4, 1, 2, 5};
    for (size_t k = 0; k < 4; k++) {
        OK(twill_resource_pool_resize(pool, max[k]));
        OK(twill_resource_pool_maintain(pool, NULL, (twill_until){0, NULL}));
        CHECK_EQ(stats_of(pool).idle, max[k] < 3 ? max[k] : 3);
    }
    finish(pool);
}

/* What is too many ends when it comes back, also where somebody waits for one. */
TEST(a_pool_that_shrinks_lets_nobody_have_what_is_too_many)
{
    twill_lease l[2] = {{0}};
    actor waits = {.n = 0};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 2, .reset = renew});
    OK(twill_resource_pool_acquire(pool, &l[0]));
    OK(twill_resource_pool_acquire(pool, &l[1]));
    go(&waits, acquire_one, pool);
    until_waiting(pool, 1);
    OK(twill_resource_pool_resize(pool, 1));
    OK(twill_resource_pool_release(pool, &l[0]));
    CHECK_EQ(stats_of(pool).destroyed[TWILL_RESOURCE_SURPLUS], 1);
    CHECK_EQ(stats_of(pool).total, 1);
    CHECK_EQ(stats_of(pool).waiting, 1);
    OK(twill_resource_pool_release(pool, &l[1]));
    join(&waits);
    CHECK_EQ(waits.status, TWILL_OK);
    CHECK_EQ(number_of(waits.lease.resource), 2);
    OK(twill_resource_pool_release(pool, &waits.lease));
    finish(pool);
}

/* ---- several at once ---- */

static void acquire_many(actor *me)
{
    twill_lease l[8] = {{0}};
    me->status = twill_resource_pool_acquire_many_until(me->pool, l, me->n, me->until);
    if (me->order)
        me->place = atomic_fetch_add(me->order, 1);
    if (me->status == TWILL_OK) {
        for (size_t k = 0; k < me->n; k++)
            for (size_t j = 0; j < k; j++)
                CHECK(l[k].resource != l[j].resource);
        for (size_t k = 0; k < me->n; k++)
            OK(twill_resource_pool_release(me->pool, &l[k]));
    }
}

TEST(several_or_none)
{
    twill_lease l[4] = {{0}}, one = {0};
    atomic_int order = 0;
    actor many = {.n = 3, .order = &order}, single = {.order = &order};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 3});
    OK(twill_resource_pool_acquire_many_until(pool, NULL, 0, twill_within(0)));
    CHECK_EQ(twill_resource_pool_acquire_many_until(pool, l, 4, twill_within(0)), TWILL_TOO_BIG);
    OK(twill_resource_pool_acquire_many_until(pool, l, 3, twill_within(0)));
    CHECK_EQ(stats_of(pool).leased, 3);
    for (int k = 0; k < 3; k++)
        OK(twill_resource_pool_release(pool, &l[k]));
    OK(twill_resource_pool_acquire(pool, &one));
    CHECK_EQ(twill_resource_pool_acquire_many_until(pool, l, 3, twill_within(TWILL_MS(1))),
             TWILL_TIMEOUT);
    CHECK_PTR(l[0].pool, NULL);
    CHECK_EQ(stats_of(pool).idle, 2); /* passed on */
    go(&many, acquire_many, pool);
    until_waiting(pool, 1);
    single.until = (twill_until){0, NULL};
    go(&single, acquire_one, pool); /* two are free, but it stands behind */
    until_waiting(pool, 2);
    OK(twill_resource_pool_release(pool, &one));
    join(&many);
    join(&single);
    CHECK_EQ(many.status, TWILL_OK);
    CHECK_EQ(many.place, 0);
    OK(twill_resource_pool_release(pool, &single.lease));
    refuse_create = 1;
    OK(twill_resource_pool_resize(pool, 4));
    CHECK_EQ(twill_resource_pool_acquire_many_until(pool, l, 4, twill_within(0)), TWILL_FAILED);
    CHECK_EQ(l[0].code, 40);
    CHECK_EQ(stats_of(pool).idle, 3);
    finish(pool);
}

/* What a failed call for several had in hand goes back to where it was in the order of lending,
   before what came back meanwhile: oldest first, and newest first. */
static void order_after_failure(bool fifo, bool plain)
{
    twill_lease l[4] = {{0}}, got[4] = {{0}};
    actor many = {.n = 4};
    twill_cancel token = {{0}};
    const void *lent[4];
    twill_resource_pool *pool =
        pool_of((twill_resource_pool_options){.max = 4, .fifo = fifo, .max_uses = plain ? 0 : 99});
    many.until = (twill_until){0, &token};
    for (int k = 0; k < 4; k++) {
        OK(twill_resource_pool_acquire(pool, &l[k]));
        lent[k] = l[k].resource;
    }
    for (int k = 0; k < 2; k++)
        OK(twill_resource_pool_release(pool, &l[k]));
    go(&many, acquire_many, pool);
    until_waiting(pool, 1);
    OK(twill_resource_pool_release(pool, &l[2])); /* into its hand, too */
    CHECK_EQ(stats_of(pool).waiting, 1);
    twill_cancel_fire(&token, 1);
    join(&many);
    CHECK_EQ(many.status, TWILL_CANCELLED);
    OK(twill_resource_pool_release(pool, &l[3]));
    for (int k = 0; k < 4; k++) {
        OK(twill_resource_pool_acquire(pool, &got[k]));
        CHECK_PTR(got[k].resource, lent[fifo ? k : 3 - k]);
    }
    for (int k = 0; k < 4; k++)
        OK(twill_resource_pool_release(pool, &got[k]));
    twill_cancel_detach(&token);
    finish(pool);
}

TEST(a_failed_call_for_several_keeps_the_order)
{
    for (int kind = 0; kind < 4; kind++)
        order_after_failure(kind & 1, kind & 2);
}

/* ---- deadlocks ---- */

static twill_resource_pool *inner;

static int uses_again(void *resource, const twill_task *task)
{
    int depth = *(int *)task->context;
    (void)resource;
    if (depth == 0)
        return 0;
    --*(int *)task->context;
    return (int)twill_with_resource(inner, uses_again, task->context, NULL);
}

TEST(nested_use_that_cannot_end)
{
    int depth = 1;
    inner = pool_of((twill_resource_pool_options){.max = 2});
    OK(twill_with_resource(inner, uses_again, &depth, NULL)); /* two are enough for two */
    depth = 2;
    twill_report report;
    CHECK_EQ(twill_with_resource(inner, uses_again, &depth,
                                 &(twill_with_resource_options){.report = &report}),
             TWILL_FAILED);
    CHECK_EQ(report.first_error.code, TWILL_FAILED); /* that one's: DEADLOCK */
    CHECK_EQ(stats_of(inner).idle, 2);
    finish(inner);
}

static void hold_and_acquire(actor *me)
{
    twill_lease second = {0};
    OK(twill_resource_pool_acquire(me->pool, &me->lease));
    atomic_fetch_add(me->order, 1);
    while (atomic_load(me->order) < 2)
        twill__yield();
    me->status = twill_resource_pool_acquire(me->pool, &second);
    OK(twill_resource_pool_release(me->pool, &me->lease));
    if (me->status == TWILL_OK)
        OK(twill_resource_pool_release(me->pool, &second));
}

TEST(a_circle_is_answered)
{
    for (int k = 0; k < 50; k++) {
        atomic_int order = 0;
        actor one = {.order = &order}, two = {.order = &order};
        twill_resource_pool *pool =
            pool_of((twill_resource_pool_options){.max = 2, .leases_stay = true});
        go(&one, hold_and_acquire, pool);
        go(&two, hold_and_acquire, pool);
        join(&one);
        join(&two);
        CHECK((one.status == TWILL_OK) + (two.status == TWILL_OK) == 1);
        CHECK((one.status == TWILL_DEADLOCK) + (two.status == TWILL_DEADLOCK) == 1);
        finish(pool);
    }
}

/* Holds one and wants n more, in the order of `place`. */
static void hold_and_acquire_more(actor *me)
{
    twill_lease more[2] = {{0}};
    OK(twill_resource_pool_acquire(me->pool, &me->lease));
    atomic_fetch_add(me->order, 1);
    while (atomic_load(me->order) < 2)
        twill__yield();
    until_waiting(me->pool, (size_t)me->place);
    me->status = twill_resource_pool_acquire_many_until(me->pool, more, me->n, me->until);
    for (size_t k = 0; me->status == TWILL_OK && k < me->n; k++)
        OK(twill_resource_pool_release(me->pool, &more[k]));
    OK(twill_resource_pool_release(me->pool, &me->lease));
}

static void acquire_and_release(actor *me)
{
    acquire_one(me);
    if (me->status == TWILL_OK)
        OK(twill_resource_pool_release(me->pool, &me->lease));
}

/* What comes back goes to the first in line, who holds one and wants two more, and closes a circle
   with one who holds the third: that one is told, though two stand behind him. Of them one waits
   for a time alone, and one holds nothing: what neither has could help nobody. */
TEST(a_circle_is_broken_by_who_can_give_back)
{
    twill_lease lease = {0};
    atomic_int order = 0;
    actor first = {.n = 2, .order = &order}, holds = {.n = 1, .order = &order, .place = 1};
    actor timed = {.until = twill_within(TWILL_SEC(50))}, nothing = {.n = 0};
    twill_resource_pool *pool =
        pool_of((twill_resource_pool_options){.max = 3, .leases_stay = true});
    OK(twill_resource_pool_acquire(pool, &lease));
    go(&first, hold_and_acquire_more, pool);
    go(&holds, hold_and_acquire_more, pool);
    until_waiting(pool, 2);
    go(&timed, acquire_and_release, pool);
    until_waiting(pool, 3);
    go(&nothing, acquire_and_release, pool);
    until_waiting(pool, 4);
    OK(twill_resource_pool_release(pool, &lease));
    join(&first);
    join(&holds);
    join(&timed);
    join(&nothing);
    OK(first.status);
    CHECK_EQ(holds.status, TWILL_DEADLOCK);
    OK(timed.status);
    OK(nothing.status);
    finish(pool);
}

static void hold_until_one_waits(actor *me)
{
    OK(twill_resource_pool_acquire(me->pool, &me->lease));
    atomic_fetch_add(me->order, 1);
    until_waiting(me->pool, 1);
    OK(twill_resource_pool_release(me->pool, &me->lease));
}

/* Of two one is too many when it comes back: its borrower holds nothing, and may wait for the
   other. */
TEST(a_place_that_is_given_up_is_held_by_nobody)
{
    twill_lease lease = {0}, other = {0};
    atomic_int order = 0;
    actor holds = {.order = &order};
    twill_resource_pool *pool =
        pool_of((twill_resource_pool_options){.max = 2, .leases_stay = true});
    OK(twill_resource_pool_acquire(pool, &lease));
    go(&holds, hold_until_one_waits, pool);
    while (!atomic_load(&order))
        twill_sleep(twill_within(TWILL_US(100)));
    OK(twill_resource_pool_resize(pool, 1));
    OK(twill_resource_pool_release(pool, &lease));
    OK(twill_resource_pool_acquire(pool, &other));
    join(&holds);
    OK(twill_resource_pool_release(pool, &other));
    finish(pool);
}

/* Lends, lets go of the lease, and wants another one. */
static void lose_and_acquire(actor *me)
{
    twill_lease second = {0};
    OK(twill_resource_pool_acquire(me->pool, &me->lease));
    atomic_fetch_add(me->order, 1);
    me->status = twill_resource_pool_acquire(me->pool, &second);
    if (me->status == TWILL_OK)
        OK(twill_resource_pool_release(me->pool, &second));
}

/* Without the promise a lease may move to another thread, which can give it back: so its borrower
   may wait for ever. At the desk, and under the lock; made for him, or idle. */
TEST(who_has_given_his_lease_away_may_wait)
{
    for (int kind = 0; kind < 4; kind++) {
        atomic_int order = 0;
        actor loses = {.order = &order};
        twill_lease lease = {0};
        twill_resource_pool *pool =
            pool_of((twill_resource_pool_options){.max = 1, .max_uses = kind & 1 ? 99 : 0});
        if (kind & 2) {
            OK(twill_resource_pool_acquire(pool, &lease));
            OK(twill_resource_pool_release(pool, &lease));
        }
        go(&loses, lose_and_acquire, pool);
        while (atomic_load(&order) == 0)
            twill__yield();
        lease = loses.lease;
        for (int k = 0; k < 500 && stats_of(pool).waits == 0; k++) /* in line, or told so wrongly */
            twill_sleep(twill_within(TWILL_MS(1)));
        OK(twill_resource_pool_release(pool, &lease));
        join(&loses);
        CHECK_EQ(loses.status, TWILL_OK);
        finish(pool);
    }
}

/* Without the promise a lease may move to another thread: no false alarm. */
static void add_one(actor *me)
{
    while (stats_of(me->pool).waiting != 1 && !atomic_load(&me->over))
        twill_sleep(twill_within(TWILL_US(100)));
    me->status = twill_resource_pool_add(me->pool, thing_of(3));
}

/* What it has discarded is not in its hands any more: it may wait for all that there can be. */
TEST(who_has_discarded_a_resource_may_wait)
{
    twill_resource_pool *pool = NULL;
    twill_lease a = {0}, both[2] = {{0}};
    actor adds = {.n = 0};
    OK(twill_resource_pool_create(
        &pool, &(twill_resource_pool_options){.max = 2, .max_uses = 9, .leases_stay = true}));
    OK(twill_resource_pool_add(pool, thing_of(1)));
    OK(twill_resource_pool_add(pool, thing_of(2)));
    OK(twill_resource_pool_acquire(pool, &a));
    OK(twill_resource_pool_discard(pool, &a));
    go(&adds, add_one, pool);
    CHECK_EQ(twill_resource_pool_acquire_many_until(pool, both, 2, (twill_until){0, NULL}),
             TWILL_OK);
    atomic_store(&adds.over, true);
    join(&adds);
    CHECK_EQ(adds.status, TWILL_OK);
    OK(twill_resource_pool_release(pool, &both[0]));
    OK(twill_resource_pool_release(pool, &both[1]));
    OK(twill_resource_pool_destroy(pool));
    CHECK_EQ(faults_live(), 0);
}

TEST(no_false_alarm)
{
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    actor waits = {.n = 0};
    OK(twill_resource_pool_acquire(pool, &waits.lease));
    twill_lease moved = waits.lease;
    memset(&waits.lease, 0, sizeof waits.lease);
    go(&waits, acquire_one, pool);
    until_waiting(pool, 1);
    OK(twill_resource_pool_release(pool, &moved));
    join(&waits);
    CHECK_EQ(waits.status, TWILL_OK);
    OK(twill_resource_pool_release(pool, &waits.lease));
    finish(pool);
    pool = pool_of((twill_resource_pool_options){.max = 2, .leases_stay = true});
    twill_lease l[2] = {{0}};
    OK(twill_resource_pool_acquire(pool, &l[0]));
    CHECK_EQ(twill_resource_pool_acquire_many_until(pool, l + 1, 1, (twill_until){0, NULL}),
             TWILL_OK);
    OK(twill_resource_pool_release(pool, &l[1]));
    twill_lease two[2] = {{0}};
    CHECK_EQ(twill_resource_pool_acquire_many_until(pool, two, 2, (twill_until){0, NULL}),
             TWILL_DEADLOCK); /* one is its own */
    CHECK_EQ(twill_resource_pool_acquire_many_until(pool, two, 2, twill_within(TWILL_MS(1))),
             TWILL_TIMEOUT);
    OK(twill_resource_pool_release(pool, &l[0]));
    finish(pool);
}

static int make_reentrant(void **resource, const twill_task *task)
{
    twill_lease lease = {0};
    (void)task;
    CHECK_EQ(twill_resource_pool_acquire(inner, &lease), TWILL_DEADLOCK);
    CHECK_EQ(twill_resource_pool_try_acquire(inner, &lease), TWILL_EMPTY);
    CHECK_EQ(stats_of(inner).creating, 1);
    return make(resource, task);
}

TEST(a_callback_that_needs_its_own_slot)
{
    twill_lease a = {0};
    inner = pool_of((twill_resource_pool_options){.max = 1, .create = make_reentrant});
    OK(twill_resource_pool_acquire(inner, &a));
    OK(twill_resource_pool_release(inner, &a));
    finish(inner);
}

/* ---- with ---- */

static int use_it(void *resource, const twill_task *task)
{
    CHECK_EQ(atomic_fetch_add(&things[number_of(resource)].used, 1), 0);
    int code = *(int *)task->context;
    CHECK_EQ(atomic_fetch_sub(&things[number_of(resource)].used, 1), 1);
    if (code == 2)
        twill_resource_pool_broken(task);
    if (code == 3)
        END_THREAD();
    return code;
}

static void use_in_thread(actor *me)
{
    twill_report report;
    int code = 3;
    memset(&report, 0, sizeof report);
    me->status = twill_with_resource(me->pool, use_it, &code, NULL);
}

TEST(with_gives_back_on_every_path)
{
    twill_report report;
    twill_cancel token;
    actor who = {.n = 0};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    twill_with_resource_options options = {.report = &report};
    for (int code = 0; code < 3; code++) {
        CHECK_EQ(twill_with_resource(pool, use_it, &code, &options),
                 code ? TWILL_FAILED : TWILL_OK);
        CHECK_EQ(report.total, 1);
        CHECK_EQ(report.done, code == 0);
        CHECK_EQ(report.failed, code != 0);
        CHECK_EQ(report.first_error.code, code);
        CHECK_EQ(stats_of(pool).leased, 0);
        CHECK_EQ(stats_of(pool).idle, code < 2);
    }
    go(&who, use_in_thread, pool);
    join(&who);
    CHECK_EQ(stats_of(pool).leased, 0);
    CHECK_EQ(stats_of(pool).destroyed[TWILL_RESOURCE_BROKEN], 2);
    twill_lease lease = {0};
    OK(twill_resource_pool_acquire(pool, &lease));
    twill_cancel_init(&token, NULL);
    twill_cancel_fire(&token, 1);
    options.until = twill_until_cancelled(&token);
    CHECK_EQ(twill_with_resource(pool, use_it, &(int){0}, &options), TWILL_CANCELLED);
    CHECK_EQ(report.skipped, 1);
    OK(twill_resource_pool_release(pool, &lease));
    finish(pool);
}

/* ---- leaks ---- */

static twill_lease_info leak;

static void note_leak(const twill_lease_info *info, const twill_task *task)
{
    CHECK_EQ(task->index, info->slot);
    leak = *info;
    atomic_fetch_add(&leaked, 1);
}

TEST(leaks_are_reported_once)
{
    twill_lease a = {0}, b = {0};
    twill_lease_info infos[2];
    int line;
    twill_resource_pool *pool = pool_of(
        (twill_resource_pool_options){.max = 1, .leak_after = TWILL_MS(2), .on_leak = note_leak});
    OK(twill_resource_pool_acquire(pool, &a));
    line = __LINE__ - 1;
    CHECK_EQ(twill_resource_pool_leases(pool, infos, 2), 1);
    CHECK(strstr(infos[0].file, "test_resource_pool") && infos[0].line == line);
    twill_sleep(twill_within(TWILL_MS(3)));
    CHECK_EQ(twill_resource_pool_acquire_until(pool, &b, twill_within(TWILL_MS(1))), TWILL_TIMEOUT);
    CHECK_EQ(atomic_load(&leaked), 1); /* by who was about to wait */
    CHECK(leak.line == line && leak.held >= TWILL_MS(2) && leak.resource == a.resource);
    OK(twill_resource_pool_maintain(pool, NULL, twill_within(TWILL_SEC(100))));
    CHECK_EQ(atomic_load(&leaked), 1);
    OK(twill_resource_pool_release(pool, &a)); /* never by force */
    OK(twill_resource_pool_acquire(pool, &a));
    twill_sleep(twill_within(TWILL_MS(3)));
    OK(twill_resource_pool_maintain(pool, NULL, twill_within(TWILL_SEC(100))));
    CHECK_EQ(atomic_load(&leaked), 2);
    CHECK_EQ(stats_of(pool).leaks, 2);
    OK(twill_resource_pool_release(pool, &a));
    finish(pool);
}

/* ---- ends ---- */

TEST(close_drain_destroy)
{
    twill_lease l[5] = {{0}}, late = {0};
    actor waits = {.n = 0}, many = {.n = 2};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 5});
    for (int k = 0; k < 5; k++)
        OK(twill_resource_pool_acquire(pool, &l[k]));
    go(&many, acquire_many, pool);
    until_waiting(pool, 1);
    go(&waits, acquire_one, pool);
    until_waiting(pool, 2);
    for (int k = 0; k < 1; k++) /* the head holds this one when close comes */
        OK(twill_resource_pool_release(pool, &l[k]));
    OK(twill_resource_pool_close(pool));
    CHECK_EQ(twill_resource_pool_close(pool), TWILL_CLOSED);
    join(&many);
    join(&waits);
    CHECK_EQ(many.status, TWILL_CLOSED);
    CHECK_EQ(waits.status, TWILL_CLOSED);
    CHECK_EQ(atomic_load(&existing), 4);
    CHECK_EQ(twill_resource_pool_acquire(pool, &late), TWILL_CLOSED);
    CHECK_EQ(twill_resource_pool_try_acquire(pool, &late), TWILL_CLOSED);
    CHECK_EQ(twill_resource_pool_resize(pool, 9), TWILL_CLOSED);
    CHECK_EQ(twill_resource_pool_maintain(pool, NULL, twill_within(0)), TWILL_CLOSED);
    CHECK_EQ(twill_resource_pool_drain_until(pool, twill_within(TWILL_MS(1))), TWILL_TIMEOUT);
    CHECK_EQ(twill_resource_pool_destroy(pool), TWILL_BUSY);
    for (int k = 1; k < 4; k++)
        OK(twill_resource_pool_release(pool, &l[k]));
    OK(twill_resource_pool_discard(pool, &l[4]));
    CHECK_EQ(atomic_load(&existing), 0);
    OK(twill_resource_pool_drain(pool));
    CHECK_EQ(stats_of(pool).destroyed[TWILL_RESOURCE_CLOSED], 4);
    finish(pool);
}

static int use_and_close(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    OK(twill_resource_pool_close(inner));
    CHECK_EQ(twill_resource_pool_drain(inner), TWILL_DEADLOCK);
    CHECK_EQ(twill_resource_pool_destroy(inner), TWILL_BUSY);
    return 0;
}

TEST(close_answers_all_who_wait)
{
    twill_lease lease = {0};
    actor who[9] = {{.n = 0}};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    OK(twill_resource_pool_acquire(pool, &lease));
    for (int k = 0; k < 9; k++)
        go(&who[k], acquire_one, pool);
    until_waiting(pool, 9);
    OK(twill_resource_pool_close(pool));
    for (int k = 0; k < 9; k++) {
        join(&who[k]);
        CHECK_EQ(who[k].status, TWILL_CLOSED);
    }
    OK(twill_resource_pool_release(pool, &lease));
    finish(pool);
}

TEST(closed_from_inside)
{
    inner = pool_of((twill_resource_pool_options){.max = 2});
    OK(twill_with_resource(inner, use_and_close, NULL, NULL));
    finish(inner);
}

static int make_and_close(void **resource, const twill_task *task)
{
    OK(twill_resource_pool_close(*(twill_resource_pool **)task->context));
    return make(resource, task);
}

/* The second of two is not made any more. */
TEST(closed_by_a_creation)
{
    twill_lease both[2] = {{0}};
    static twill_resource_pool *pool;
    pool = pool_of(
        (twill_resource_pool_options){.max = 2, .context = &pool, .create = make_and_close});
    CHECK_EQ(twill_resource_pool_acquire_many_until(pool, both, 2, (twill_until){0, NULL}),
             TWILL_CLOSED);
    CHECK_EQ(atomic_load(&made), 1);
    CHECK_EQ(atomic_load(&things[1].why), TWILL_RESOURCE_CLOSED);
    finish(pool);
}

TEST(created_after_close)
{
    atomic_int gate = 0;
    actor who = {.n = 0};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 2});
    create_gate = &gate;
    go(&who, acquire_one, pool);
    while (stats_of(pool).creating != 1)
        twill_sleep(twill_within(TWILL_US(50)));
    OK(twill_resource_pool_close(pool));
    CHECK_EQ(twill_resource_pool_destroy(pool), TWILL_BUSY);
    gate = 1;
    join(&who);
    CHECK_EQ(who.status, TWILL_CLOSED);
    CHECK_EQ(atomic_load(&things[1].why), TWILL_RESOURCE_CLOSED);
    finish(pool);
}

/* ---- callbacks hold up nobody ---- */

enum { NOWHERE, IN_CREATE, IN_VALIDATE, IN_RESET, IN_DESTROY, IN_ON_LEAK };
static atomic_int hangs_in, hanging, let_go;

/* Once, until it is let go. */
static void hang(int where)
{
    if (!atomic_compare_exchange_strong(&hangs_in, &where, NOWHERE))
        return;
    atomic_store(&hanging, 1);
    while (!atomic_load(&let_go))
        twill_sleep(twill_within(TWILL_US(100)));
}

static int hanging_create(void **resource, const twill_task *task)
{
    hang(IN_CREATE);
    return make(resource, task);
}

static int hanging_validate(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    hang(IN_VALIDATE);
    return 0;
}

static int hanging_reset(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    hang(IN_RESET);
    return 0;
}

static void hanging_end(void *resource, twill_resource_end why, const twill_task *task)
{
    hang(IN_DESTROY);
    end(resource, why, task);
}

/* Borrows, or gives back what it has. */
static void come_or_go(actor *me)
{
    if (!me->lease.pool)
        me->status = twill_resource_pool_acquire(me->pool, &me->lease);
    else if (me->n)
        me->status = twill_resource_pool_discard(me->pool, &me->lease);
    else
        me->status = twill_resource_pool_release(me->pool, &me->lease);
}

/* While one thread is in a callback, another one borrows what is idle. */
TEST(callbacks_hold_up_nobody)
{
    for (int where = IN_CREATE; where <= IN_DESTROY; where++) {
        actor slow = {.n = where == IN_DESTROY};
        twill_lease l[2] = {{0}};
        twill_resource_pool *pool =
            pool_of((twill_resource_pool_options){.max = 3,
                                                  .create = hanging_create,
                                                  .destroy = hanging_end,
                                                  .validate = hanging_validate,
                                                  .reset = hanging_reset});
        atomic_store(&hanging, 0);
        atomic_store(&let_go, 0);
        for (int k = 0; k < 2; k++)
            OK(twill_resource_pool_acquire(pool, &l[k]));
        if (where == IN_VALIDATE)
            OK(twill_resource_pool_release(pool, &l[0]));
        if (where >= IN_RESET)
            slow.lease = l[0];
        atomic_store(&hangs_in, where);
        go(&slow, come_or_go, pool);
        while (!atomic_load(&hanging))
            twill_sleep(twill_within(TWILL_US(50)));
        OK(twill_resource_pool_release(pool, &l[1]));
        OK(twill_resource_pool_try_acquire(pool, &l[1]));
        OK(twill_resource_pool_release(pool, &l[1]));
        CHECK_EQ(stats_of(pool).waits, 0);
        atomic_store(&let_go, 1);
        join(&slow);
        OK(slow.status);
        if (where == IN_CREATE)
            OK(twill_resource_pool_release(pool, &l[0]));
        if (where <= IN_VALIDATE)
            OK(twill_resource_pool_release(pool, &slow.lease));
        finish(pool);
    }
}

/* ---- threads that end in callbacks ---- */

static atomic_int deadly_where, dying;
static twill_resource_pool *deadly_pool;

/* Once, and when somebody waits for what this thread has in hand. */
static void die(int where)
{
    if (atomic_load(&deadly_where) != where)
        return;
    atomic_store(&deadly_where, 0);
    atomic_store(&dying, 1);
    until_waiting(deadly_pool, 1);
    END_THREAD();
}

static int deadly_create(void **resource, const twill_task *task)
{
    die(1);
    return make(resource, task);
}

static int deadly_validate(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    die(2);
    return 0;
}

static int deadly_reset(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    die(3);
    return 0;
}

static void acquire_release(actor *me)
{
    me->status = twill_resource_pool_acquire(me->pool, &me->lease);
    if (me->status == TWILL_OK)
        (void)twill_resource_pool_release(me->pool, &me->lease);
}

TEST(callbacks_that_end_their_thread)
{
    for (int where = 1; where < 4; where++) {
        actor dies = {.n = 0}, waits = {.n = 0};
        twill_resource_pool *pool = pool_of((twill_resource_pool_options){
            .max = 1, .create = deadly_create, .validate = deadly_validate, .reset = deadly_reset});
        deadly_pool = pool;
        atomic_store(&deadly_where, 0);
        atomic_store(&dying, 0);
        if (where == 2) {
            OK(twill_resource_pool_acquire(pool, &dies.lease));
            OK(twill_resource_pool_release(pool, &dies.lease));
        }
        atomic_store(&deadly_where, where);
        go(&dies, acquire_release, pool);
        while (!atomic_load(&dying))
            twill__yield();
        go(&waits, acquire_release, pool);
        join(&dies);
        join(&waits); /* the capacity is not lost, and was handed on */
        CHECK_EQ(waits.status, TWILL_OK);
        CHECK_EQ(stats_of(pool).waits, 1);
        CHECK_EQ(stats_of(pool).total, 1);
        CHECK_EQ(stats_of(pool).destroyed[TWILL_RESOURCE_BROKEN], where > 1);
        finish(pool);
    }
}

/* ---- faults, fork ---- */

TEST(every_allocation_and_thread_fails)
{
    for (unsigned long k = 1; k < 4; k++) {
        twill_resource_pool *pool = (twill_resource_pool *)&pool;
        faults_fail_alloc(k);
        twill_status status = twill_resource_pool_create(
            &pool, &(twill_resource_pool_options){.max = 2, .create = make, .destroy = end});
        CHECK_EQ(status, k < 3 ? TWILL_NO_MEMORY : TWILL_OK);
        if (status == TWILL_OK) {
            CHECK_EQ(twill_resource_pool_resize(pool, 4), TWILL_NO_MEMORY);
            CHECK_EQ(stats_of(pool).max, 2);
            faults_fail_alloc(0);
            OK(twill_resource_pool_resize(pool, 4));
            OK(twill_resource_pool_destroy(pool));
        }
        faults_fail_alloc(0);
        CHECK_EQ(faults_live(), 0);
    }
    twill_resource_pool *pool;
    faults_fail_thread(1);
    CHECK_EQ(twill_resource_pool_create(
                 &pool, &(twill_resource_pool_options){.create = make, .maintain_every = 1}),
             TWILL_NO_THREAD);
    faults_fail_thread(0);
    CHECK_EQ(faults_live(), 0);
}

TEST(forked_child)
{
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 2});
    twill_lease a = {0}, b = {0};
    OK(twill_resource_pool_acquire(pool, &a));
    pid_t child = fork();
    if (child == 0) {
        CHECK_EQ(twill_resource_pool_acquire(pool, &b), TWILL_FORKED);
        CHECK_EQ(twill_resource_pool_release(pool, &a), TWILL_FORKED);
        CHECK_EQ(twill_resource_pool_close(pool), TWILL_FORKED);
        CHECK_EQ(twill_resource_pool_destroy(pool), TWILL_FORKED);
        CHECK_EQ(stats_of(pool).total, 0);
        twill_resource_pool_abandon(pool);
        CHECK_EQ(faults_live(), 0);
        CHECK_EQ(atomic_load(&existing), 1); /* the parent's */
        _exit(0);
    }
    int how = 0;
    CHECK(waitpid(child, &how, 0) == child && WIFEXITED(how) && WEXITSTATUS(how) == 0);
    twill_resource_pool_abandon(pool); /* in the parent it does nothing */
    OK(twill_resource_pool_release(pool, &a));
    finish(pool);
}

/* A fork in a callback, while another thread has the lock. In the child it stays locked: there
   nothing is called any more, and the call that went round the callback says FORKED. */
static int forks_at;
static pid_t fork_child = -1;
static twill_resource_pool *fork_pool;

static void fork_in(int here)
{
    if (fork_child == 0)
        _exit(2);
    if (fork_child > 0 || here != forks_at || !fork_pool)
        return;
    twill__lock(&fork_pool->lock);
    fork_child = fork();
    if (fork_child)
        twill__unlock(&fork_pool->lock);
    else
        alarm(20); /* instead of a hang */
}

static int forking_create(void **resource, const twill_task *task)
{
    fork_in(IN_CREATE);
    return fork_child ? make(resource, task) : 0;
}

static int forking_validate(void *resource, const twill_task *task)
{
    int code = examine(resource, task);
    fork_in(IN_VALIDATE);
    return code;
}

static atomic_bool end_at_destroy;
static void forking_destroy(void *resource, twill_resource_end why, const twill_task *task)
{
    end(resource, why, task);
    if (atomic_exchange(&end_at_destroy, false))
        END_THREAD();
    fork_in(IN_DESTROY);
}

static int forking_reset(void *resource, const twill_task *task)
{
    (void)resource;
    (void)task;
    fork_in(IN_RESET);
    return 0;
}

static void forking_leak(const twill_lease_info *info, const twill_task *task)
{
    (void)info;
    (void)task;
    fork_in(IN_ON_LEAK);
}

static twill_status fork_acquire(twill_lease *lease)
{
    return twill_resource_pool_try_acquire(fork_pool, lease);
}

static twill_status fork_refused(twill_lease *lease)
{
    atomic_store(&refuse_validate, 1);
    return twill_resource_pool_try_acquire(fork_pool, lease);
}

static twill_status fork_wait(twill_lease *lease)
{
    twill_status status =
        twill_resource_pool_acquire_until(fork_pool, lease, twill_within(TWILL_US(1)));
    return status == TWILL_TIMEOUT ? TWILL_OK : status;
}

static twill_status fork_release(twill_lease *lease)
{
    return twill_resource_pool_release(fork_pool, lease);
}

static twill_status fork_maintain(twill_lease *lease)
{
    int code;
    (void)lease;
    return twill_resource_pool_maintain(fork_pool, &code, (twill_until){0, NULL});
}

static twill_status fork_evict(twill_lease *lease)
{
    size_t ended = twill_resource_pool_evict(fork_pool);
    (void)lease;
    CHECK_EQ(ended, fork_child ? 2 : 1);
    return fork_child ? TWILL_OK : TWILL_FORKED;
}

static twill_status fork_resize(twill_lease *lease)
{
    (void)lease;
    return twill_resource_pool_resize(fork_pool, 1);
}

static twill_status fork_close(twill_lease *lease)
{
    (void)lease;
    return twill_resource_pool_close(fork_pool);
}

static void close_and_end(actor *me)
{
    atomic_store(&end_at_destroy, true);
    (void)twill_resource_pool_close(me->pool);
    CHECK(false); /* a callback has ended this thread */
}

/* What is left idle ends by who drains, or destroys. */
static void close_by_one_who_ends(void)
{
    actor closer = {.n = 0};
    int forks = forks_at;
    forks_at = NOWHERE;
    go(&closer, close_and_end, fork_pool);
    join(&closer);
    forks_at = forks;
    CHECK_EQ(stats_of(fork_pool).idle, 1);
}

static twill_status fork_drain_rest(twill_lease *lease)
{
    (void)lease;
    close_by_one_who_ends();
    return twill_resource_pool_drain(fork_pool);
}

static twill_status fork_destroy(twill_lease *lease)
{
    twill_status status = twill_resource_pool_destroy(fork_pool);
    (void)lease;
    if (fork_child)
        fork_pool = NULL;
    return status;
}

static twill_status fork_destroy_rest(twill_lease *lease)
{
    close_by_one_who_ends();
    return fork_destroy(lease);
}

TEST(a_fork_in_a_callback)
{
    static const struct {
        int at;
        size_t lent, idle; /* before */
        size_t min_idle;
        bool old; /* all idle ones have expired */
        twill_status (*call)(twill_lease *lease);
    } row[] = {
        {IN_CREATE, 0, 0, 0, false, fork_acquire},
        {IN_VALIDATE, 0, 2, 0, false, fork_acquire},
        {IN_VALIDATE, 0, 2, 0, false, fork_refused},
        {IN_DESTROY, 0, 2, 0, false, fork_refused},
        {IN_ON_LEAK, 2, 0, 0, false, fork_wait},
        {IN_RESET, 1, 0, 0, false, fork_release},
        {IN_ON_LEAK, 2, 0, 0, false, fork_maintain},
        {IN_CREATE, 0, 0, 2, false, fork_maintain},
        {IN_DESTROY, 0, 2, 0, true, fork_maintain},
        {IN_DESTROY, 0, 1, 1, true, fork_maintain},
        {IN_DESTROY, 0, 2, 0, false, fork_evict},
        {IN_DESTROY, 0, 2, 0, false, fork_resize},
        {IN_DESTROY, 0, 2, 0, false, fork_close},
        {IN_DESTROY, 0, 2, 0, false, fork_destroy},
        {IN_DESTROY, 0, 2, 0, false, fork_drain_rest},
        {IN_DESTROY, 0, 2, 0, false, fork_destroy_rest},
    };
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        twill_lease lease[2] = {{0}}, more = {0}, *mine = row[k].lent == 1 ? &lease[0] : &more;
        pid_t parent = getpid();
        twill_status status;
        int how = -1;
        size_t made_before = row[k].lent > row[k].idle ? row[k].lent : row[k].idle;
        twill_resource_pool *pool =
            pool_of((twill_resource_pool_options){.max = 2,
                                                  .create = forking_create,
                                                  .validate = forking_validate,
                                                  .destroy = forking_destroy,
                                                  .reset = forking_reset,
                                                  .min_idle = row[k].min_idle,
                                                  .leak_after = 1,
                                                  .on_leak = forking_leak,
                                                  .max_idle_time = TWILL_SEC(3600)});
        fork_pool = NULL; /* not yet */
        fork_child = -1;
        for (size_t i = 0; i < made_before; i++)
            OK(twill_resource_pool_acquire(pool, &lease[i]));
        for (size_t i = row[k].lent; i < made_before; i++)
            OK(twill_resource_pool_release(pool, &lease[i]));
        for (size_t i = 0; row[k].old && i < row[k].idle; i++)
            pool->slots[i].idle_since = twill__clock_now() - TWILL_SEC(7200);
        fork_pool = pool;
        forks_at = row[k].at;
        status = row[k].call(mine);
        if (getpid() != parent) {
            if (!(atomic_load(&pool->lock) & 1)) /* the parent's, and nobody's to give back */
                _exit(3);
            if (status != TWILL_FORKED)
                _exit(4);
            twill_resource_pool_abandon(pool);
            _exit(faults_live() != 0);
        }
        CHECK_EQ(status, TWILL_OK);
        CHECK(fork_child > 0);
        CHECK_EQ(waitpid(fork_child, &how, 0), fork_child);
        CHECK(WIFEXITED(how));
        CHECK_EQ(WEXITSTATUS(how), 0);
        for (size_t i = 0; i < 2; i++)
            if (lease[i].pool)
                OK(twill_resource_pool_release(pool, &lease[i]));
        if (more.pool)
            OK(twill_resource_pool_release(pool, &more));
        if (fork_pool)
            finish(pool);
    }
}

/* ---- the same, and the child's thread ends there, with all that stands below it ---- */

static struct fork_end {
    int at;                  /* where the parent forks */
    bool ends;               /* there the child's thread ends */
    bool dies;               /* before, in `validate`, the parent's does */
    void (*call)(actor *me); /* by another thread; NULL: the keeper's */
} fork_row;
static twill_report fork_report;
static atomic_bool fork_ready;

/* The child ends with its only thread, which has left every call. */
static void judge_child(void)
{
    if (fork_child == 0)
        _exit(!(atomic_load(&fork_pool->lock) & 1) ? 3 : fork_report.total != 0 ? 4 : 0);
}

static void fork_and_end(int here)
{
    bool before = fork_child != 0;
    fork_in(here);
    if (fork_child != 0 || !before)
        return;
    atexit(judge_child);
    if (fork_row.ends)
        END_THREAD();
}

static int ending_create(void **resource, const twill_task *task)
{
    int code;
    while (!atomic_load(&fork_ready)) /* the keeper may be earlier than the test */
        twill_sleep(twill_within(TWILL_US(50)));
    code = make(resource, task);
    fork_and_end(IN_CREATE);
    return code;
}

static int ending_validate(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    if (fork_row.dies)
        END_THREAD();
    return 0;
}

static void ending_destroy(void *resource, twill_resource_end why, const twill_task *task)
{
    end(resource, why, task);
    fork_and_end(IN_DESTROY);
}

static int ending_reset(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    fork_and_end(IN_RESET);
    return 0;
}

static int ending_use(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    fork_and_end(NOWHERE);
    return 0;
}

static void borrow_for_a_call(actor *me)
{
    twill_with_resource_options options = {.report = &fork_report};
    fork_report.total = 0;
    me->status = twill_with_resource(me->pool, ending_use, NULL, &options);
}

/* Nothing of the pool is touched in the child, no callback is called there, nothing reported. */
TEST(a_fork_in_a_callback_that_ends_its_thread)
{
    static const struct fork_end row[] = {
        {IN_CREATE, true, false, acquire_one}, {IN_DESTROY, false, true, acquire_one},
        {IN_RESET, true, false, give_back},    {NOWHERE, true, false, borrow_for_a_call},
        {IN_CREATE, true, false, NULL},        {IN_CREATE, false, false, NULL},
    };
#if defined __SANITIZE_ADDRESS__ || defined TWILL__UNDER_TSAN
    SKIP("a sanitizer's own lock may be held while a thread forks, or its own thread outlive the "
         "child");
#endif
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        actor who = {.n = 0};
        int how = -1;
        twill_resource_pool *pool;
        fork_row = row[k];
        fork_row.dies = false; /* not yet */
        fork_report.total = 0;
        fork_pool = NULL;
        fork_child = -1;
        atomic_store(&fork_ready, row[k].call != NULL);
        pool =
            pool_of((twill_resource_pool_options){.max = 1,
                                                  .create = ending_create,
                                                  .destroy = ending_destroy,
                                                  .validate = ending_validate,
                                                  .reset = ending_reset,
                                                  .min_idle = !row[k].call,
                                                  .maintain_every = row[k].call ? 0 : TWILL_MS(1)});
        if (row[k].at != IN_CREATE)
            OK(twill_resource_pool_acquire(pool, &who.lease));
        if (row[k].at != IN_CREATE && row[k].at != IN_RESET)
            OK(twill_resource_pool_release(pool, &who.lease));
        fflush(NULL); /* the child ends by exit */
        fork_row = row[k];
        forks_at = row[k].at;
        fork_pool = pool;
        atomic_store(&fork_ready, true);
        if (row[k].call) {
            go(&who, row[k].call, pool);
            join(&who);
        }
        while (stats_of(pool).created != 1) /* by the keeper */
            twill_sleep(twill_within(TWILL_US(50)));
        CHECK_EQ(waitpid(fork_child, &how, 0), fork_child);
        CHECK(WIFEXITED(how));
        CHECK_EQ(WEXITSTATUS(how), 0);
        if (who.lease.pool)
            OK(twill_resource_pool_release(pool, &who.lease));
        finish(pool);
    }
}

/* In the child every call says so, and touches nothing. */
static bool all_say_forked(twill_resource_pool *pool)
{
    twill_lease two[2] = {{0}};
    twill_lease_info infos[2];
    twill_until soon = twill_within(0);
    int code = 7;
    return twill_resource_pool_add(pool, thing_of(9)) == TWILL_FORKED &&
           twill_resource_pool_try_acquire(pool, two) == TWILL_FORKED &&
           twill_resource_pool_acquire_many_until(pool, two, 2, soon) == TWILL_FORKED &&
           twill_resource_pool_maintain(pool, &code, soon) == TWILL_FORKED && code == 0 &&
           twill_resource_pool_evict(pool) == 0 &&
           twill_resource_pool_resize(pool, 4) == TWILL_FORKED &&
           twill_resource_pool_leases(pool, infos, 2) == 0 &&
           twill_resource_pool_drain_until(pool, soon) == TWILL_FORKED;
}

static pid_t use_child;
static int use_and_fork(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    use_child = fork();
    return 0;
}

TEST(no_call_of_a_forked_child_does_anything)
{
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 2});
    twill_lease a = {0};
    twill_report report;
    twill_status status;
    int how = 0;
    pid_t child;
    OK(twill_resource_pool_acquire(pool, &a));
    child = fork();
    if (child == 0)
        _exit(!all_say_forked(pool));
    CHECK(waitpid(child, &how, 0) == child && WIFEXITED(how) && WEXITSTATUS(how) == 0);
    OK(twill_resource_pool_release(pool, &a));
    /* in the middle of a use: the lease is the parent's */
    status = twill_with_resource(pool, use_and_fork, NULL,
                                 &(twill_with_resource_options){.report = &report});
    if (use_child == 0)
        _exit(atomic_load(&existing) != 1 || status != TWILL_FORKED ||
              report.status != TWILL_FORKED || report.failed != 1);
    CHECK_EQ(status, TWILL_OK);
    CHECK(waitpid(use_child, &how, 0) == use_child && WIFEXITED(how) && WEXITSTATUS(how) == 0);
    finish(pool);
}

/* ---- waits that end, or do not begin ---- */

static void drain_it(actor *me)
{
    me->status = twill_resource_pool_drain_until(me->pool, me->until);
}

TEST(a_drain_ends_with_the_last_lease_or_its_token)
{
    twill_lease a = {0};
    twill_cancel token;
    actor waits = {.n = 0}, gives_up = {.n = 0};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    twill_cancel_init(&token, NULL);
    CHECK_EQ(twill_resource_pool_drain_until(pool, twill_within(0)),
             TWILL_INVALID); /* not closed */
    OK(twill_resource_pool_acquire(pool, &a));
    OK(twill_resource_pool_close(pool));
    gives_up.until = twill_until_cancelled(&token);
    go(&gives_up, drain_it, pool);
    go(&waits, drain_it, pool);
    for (;;) { /* both wait */
        bool both;
        twill__lock(&pool->lock);
        both = pool->drainers.first && pool->drainers.first != pool->drainers.last;
        twill__unlock(&pool->lock);
        if (both)
            break;
        twill_sleep(twill_within(TWILL_US(50)));
    }
    twill_cancel_fire(&token, 1);
    join(&gives_up);
    CHECK_EQ(gives_up.status, TWILL_CANCELLED);
    OK(twill_resource_pool_release(pool, &a));
    join(&waits);
    CHECK_EQ(waits.status, TWILL_OK);
    twill_cancel_detach(&token);
    finish(pool);
}

/* Somebody waits for three of a pool that shrinks to two: never any more. */
TEST(who_waits_for_more_than_is_left_is_told)
{
    twill_lease a[2] = {{0}};
    actor timed = {.n = 3, .until = twill_within(TWILL_SEC(100))}, for_ever = {.n = 3};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 4});
    for (int k = 0; k < 2; k++)
        OK(twill_resource_pool_acquire(pool, &a[k]));
    go(&timed, acquire_many, pool);
    until_waiting(pool, 1);
    go(&for_ever, acquire_many, pool);
    until_waiting(pool, 2);
    OK(twill_resource_pool_resize(pool, 2));
    join(&timed);
    join(&for_ever);
    CHECK_EQ(timed.status, TWILL_TOO_BIG);
    CHECK_EQ(for_ever.status, TWILL_TOO_BIG);
    for (int k = 0; k < 2; k++)
        OK(twill_resource_pool_release(pool, &a[k]));
    CHECK_EQ(twill_resource_pool_resize(pool, SIZE_MAX), TWILL_TOO_BIG);
    finish(pool);
}

TEST(a_larger_pool_without_memory)
{
    twill_lease a = {0};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 2});
    faults_fail_alloc(1);
    CHECK_EQ(twill_resource_pool_resize(pool, 100), TWILL_NO_MEMORY);
    faults_fail_alloc(0);
    CHECK_EQ(stats_of(pool).max, 2);
    OK(twill_resource_pool_acquire(pool, &a));
    OK(twill_resource_pool_resize(pool, 100));
    OK(twill_resource_pool_release(pool, &a));
    finish(pool);
}

/* After a failed creation: who has less time than the pause takes that, who has more the pause. */
static bool a_deadline_in_the_pause(twill_ns pause_)
{
    twill_lease a = {0};
    twill_resource_pool *pool =
        pool_of((twill_resource_pool_options){.max = 1, .create_pause = pause_, .max_creating = 1});
    atomic_store(&refuse_create, 1);
    twill_ns begun = twill_now();
    CHECK_EQ(twill_resource_pool_acquire(pool, &a), TWILL_FAILED);
    twill_status waited = twill_resource_pool_acquire_until(pool, &a, twill_within(TWILL_US(200)));
    bool in_time = twill_now() - begun < pause_;
    CHECK(waited == TWILL_TIMEOUT || (waited == TWILL_OK && !in_time));
    CHECK_EQ(twill_resource_pool_maintain(pool, NULL, twill_within(TWILL_SEC(100))), TWILL_OK);
    if (waited != TWILL_OK)
        OK(twill_resource_pool_acquire_until(pool, &a, twill_within(TWILL_SEC(60))));
    CHECK(twill_now() - begun >= pause_);
    OK(twill_resource_pool_release(pool, &a));
    finish(pool);
    return in_time;
}

TEST(a_pause_and_a_deadline)
{
    CHECK(test_in_time(TWILL_MS(8), a_deadline_in_the_pause));
}

/* A lifetime for ever ends nothing; a leak that nobody wants to hear of is counted. */
TEST(for_ever_and_unheard)
{
    twill_lease a = {0}, b = {0};
    twill_resource_pool *pool =
        pool_of((twill_resource_pool_options){.max = 1,
                                              .max_lifetime = TWILL_FOREVER,
                                              .max_idle_time = TWILL_FOREVER,
                                              .leak_after = TWILL_US(100)});
    OK(twill_resource_pool_acquire(pool, &a));
    twill_sleep(twill_within(TWILL_US(200)));
    CHECK_EQ(twill_resource_pool_acquire_until(pool, &b, twill_within(TWILL_US(100))),
             TWILL_TIMEOUT);
    CHECK_EQ(stats_of(pool).leaks, 1);
    OK(twill_resource_pool_release(pool, &a));
    OK(twill_resource_pool_maintain(pool, NULL, twill_within(TWILL_SEC(100))));
    CHECK_EQ(stats_of(pool).idle, 1);
    finish(pool);
}

/* ---- ended threads around a use ---- */

static atomic_int end_in_reset;
static int renew_and_end(void *resource, const twill_task *task)
{
    (void)renew(resource, task);
    if (atomic_exchange(&end_in_reset, 0))
        END_THREAD();
    return 0;
}

static void end_in_thread(void *resource, twill_resource_end why, const twill_task *task)
{
    end(resource, why, task);
    if (atomic_exchange(&end_in_reset, 0))
        END_THREAD();
}

static void use_well(actor *me)
{
    int code = 0;
    (void)twill_with_resource(me->pool, use_it, &code, NULL);
    CHECK(false);
}

static void use_breaks(actor *me)
{
    twill_report report;
    int code = 2; /* it says that it is broken */
    twill_with_resource_options options = {.report = &report};
    (void)twill_with_resource(me->pool, use_it, &code, &options);
    CHECK(false); /* a callback has ended this thread */
}

/* `use` was over: what reset or destroy does to the thread is not its fault, and nothing is
   lent. */
TEST(what_follows_a_use_may_end_its_thread)
{
    for (int by = 0; by < 2; by++) {
        actor who = {.n = 0};
        twill_resource_pool *pool = pool_of((twill_resource_pool_options){
            .max = 1, .reset = by ? NULL : renew_and_end, .destroy = by ? end_in_thread : NULL});
        atomic_store(&end_in_reset, 1);
        go(&who, by ? use_breaks : use_well, pool);
        twill__thread_join(&who.thread);
        CHECK_EQ(atomic_load(&end_in_reset), 0);
        CHECK_EQ(stats_of(pool).leased, 0);
        finish(pool);
    }
}

static void acquire_it(actor *me)
{
    me->status = twill_resource_pool_acquire(me->pool, &me->lease);
    CHECK(false);
}

/* On the way out an acquire ends another resource, which is expired, and that ends the thread: what
   it was to get is not lost. */
TEST(an_acquire_whose_upkeep_ends_its_thread)
{
    actor who = {.n = 0};
    twill_lease l[2];
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){
        .max = 2, .max_lifetime = TWILL_SEC(3600), .destroy = end_in_thread});
    OK(twill_resource_pool_acquire_many_until(pool, l, 2, twill_within(TWILL_FOREVER)));
    for (int k = 0; k < 2; k++)
        OK(twill_resource_pool_release(pool, &l[k]));
    pool->slots[pool->cold].dies = 1; /* expired; the other one will be taken */
    atomic_store(&end_in_reset, 1);
    go(&who, acquire_it, pool);
    twill__thread_join(&who.thread);
    CHECK_EQ(atomic_load(&end_in_reset), 0);
    CHECK_EQ(stats_of(pool).leased, 0);
    CHECK_EQ(stats_of(pool).idle, 1);
    finish(pool);
}

static int other_call(void *resource, const twill_task *task)
{
    twill__call other = {NULL};
    twill_task of_another = {.private_ = &other};
    (void)resource;
    twill_resource_pool_broken(NULL);
    twill_resource_pool_broken(&(twill_task){0});
    twill_resource_pool_broken(&of_another);
    (void)task;
    return 0;
}

TEST(broken_is_said_by_the_task_of_a_use_alone)
{
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    CHECK_EQ(twill_with_resource(pool, other_call, NULL, NULL), TWILL_OK);
    CHECK_EQ(stats_of(pool).idle, 1);
    finish(pool);
}

/* ---- many at once ---- */

static void use_often(actor *me)
{
    for (int k = 0; k < 300; k++) {
        twill_lease lease = {0}, copy;
        twill_until until = {0, NULL};
        uint64_t dice = test_random();
        twill_status status;
        if (dice % 8 == 0)
            until = twill_within((twill_ns)(dice >> 8) % TWILL_US(50));
        if (dice % 16 == 1) {
            twill_lease two[2] = {{0}};
            status = twill_resource_pool_acquire_many_until(me->pool, two, 2, until);
            CHECK(status == TWILL_OK || status == TWILL_TIMEOUT || status == TWILL_FAILED);
            if (status == TWILL_OK) {
                CHECK(two[0].resource != two[1].resource);
                OK(twill_resource_pool_release(me->pool, &two[1]));
                OK(twill_resource_pool_release(me->pool, &two[0]));
            }
            continue;
        }
        status = dice % 32 == 2 ? twill_resource_pool_try_acquire(me->pool, &lease)
                                : twill_resource_pool_acquire_until(me->pool, &lease, until);
        CHECK(status == TWILL_OK || status == TWILL_TIMEOUT || status == TWILL_FAILED ||
              status == TWILL_EMPTY);
        if (status != TWILL_OK)
            continue;
        int number = number_of(lease.resource);
        CHECK_EQ(atomic_fetch_add(&things[number].used, 1), 0); /* never lent twice */
        if (dice % 4 == 3)
            twill__yield();
        CHECK_EQ(atomic_fetch_sub(&things[number].used, 1), 1);
        copy = lease;
        if (dice % 64 == 5)
            OK(twill_resource_pool_discard(me->pool, &lease));
        else
            OK(twill_resource_pool_release(me->pool, &lease));
        if (dice % 64 == 6)
            CHECK_EQ(twill_resource_pool_release(me->pool, &copy), TWILL_STALE);
    }
}

static int fails_often(void **resource, const twill_task *task)
{
    return test_random_below(5) == 0 ? 9 : make(resource, task);
}

static int refuses_often(void *resource, const twill_task *task)
{
    (void)resource, (void)task;
    return test_random_below(20) == 0;
}

TEST(twenty_users_five_resources)
{
    enum { USERS = 20 };
    static actor who[USERS];
    for (int round = 0; round < 4; round++) {
        twill_resource_pool *pool =
            pool_of((twill_resource_pool_options){.max = 5,
                                                  .create = round ? fails_often : make,
                                                  .validate = round > 1 ? refuses_often : NULL,
                                                  .reset = round > 1 ? refuses_often : NULL,
                                                  .max_uses = round == 3 ? 7 : 0,
                                                  .create_pause = round == 3 ? TWILL_US(30) : 0,
                                                  .max_creating = round == 3 ? 2 : 0,
                                                  .maintain_every = round == 3 ? TWILL_US(200) : 0,
                                                  .min_idle = round == 3,
                                                  .barging = round == 2});
        for (int k = 0; k < USERS; k++) {
            memset(&who[k], 0, sizeof who[k]);
            go(&who[k], use_often, pool);
        }
        for (int k = 0; round == 3 && k < 10; k++) {
            twill_resource_pool_evict(pool);
            OK(twill_resource_pool_resize(pool, 3 + (size_t)k % 3));
            twill_sleep(twill_within(TWILL_US(100)));
        }
        if (round == 3)
            OK(twill_resource_pool_resize(pool, 5));
        for (int k = 0; k < USERS; k++)
            join(&who[k]);
        CHECK(atomic_load(&existing_peak) <= 5);
        CHECK_EQ(stats_of(pool).leased, 0);
        if (round < 3)
            check_books(pool);
        CHECK_EQ(twill_resource_pool_destroy(pool), TWILL_OK);
        for (int k = 1; k <= atomic_load(&made); k++)
            CHECK_EQ(atomic_load(&things[k].destroyed), 1);
        CHECK_EQ(faults_live(), 0);
    }
}

/* All capacity is still there after the storm: a path that forgets to hand on would show here. */
TEST(destroy_meets_waiters)
{
    for (int round = 0; round < 60; round++) {
        actor who[4] = {{.n = 0}};
        twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
        twill_lease lease = {0};
        OK(twill_resource_pool_acquire(pool, &lease));
        for (int k = 0; k < 4; k++) {
            who[k].until =
                k % 2 ? twill_within(TWILL_US(50 + 30 * round % 100)) : (twill_until){0, NULL};
            go(&who[k], acquire_one, pool);
        }
        while (stats_of(pool).waits < 4)
            twill__yield();
        OK(twill_resource_pool_close(pool));
        OK(twill_resource_pool_release(pool, &lease));
        OK(twill_resource_pool_destroy(pool));
        for (int k = 0; k < 4; k++) {
            join(&who[k]);
            CHECK(who[k].status == TWILL_CLOSED || (k % 2 && who[k].status == TWILL_TIMEOUT));
        }
        CHECK_EQ(faults_live(), 0);
    }
}

HARNESS_MAIN

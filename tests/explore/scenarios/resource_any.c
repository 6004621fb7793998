/* Programs drawn anew in each schedule, over all that the resource pool offers. Drawn: the limits
   (max, min_idle, max_idle, max_creating, max_uses, ages), order and barging, the keeper; callbacks
   that sleep, fail, refuse or end their thread; two or three threads that borrow (one, two at once,
   one more while holding one, for a call), with deadlines and a token, give back, discard, take
   out, give a copy back, too, evict, maintain, resize, close. What must hold: each resource is lent
   to one at a time and destroyed once, never more than max are there, an answer fits what was
   drawn, and the pool's books are those of its users. */
#include "resource_common.h"

#include "explore.h"

enum { SIDES = 3, LAST = 11 /* resources are made; room for those that come at once */ };

static struct borrower {
    struct side side;
    twill_lease leases[4];
    size_t held;
    atomic_int peak; /* so much was with those who wait for ever, at once, since it asked */
    twill_report report;
    int code;    /* of `use` */
    bool asking; /* does not end its thread in `destroy` */
    bool lost;
} borrowers[SIDES];

static twill_resource_pool *pool;
static twill_resource_pool_options options;
static twill_cancel token;
static bool ends, closes, resizes, pairs;
static bool patient;                      /* all wait for ever */
static _Thread_local struct borrower *me; /* NULL: main or the keeper */
static _Thread_local bool stays;          /* main; or a thread that is ending already */
static atomic_int stuck;                  /* so much is with those who wait for ever, or soon is */
static atomic_int least;                  /* the smallest max so far */
static atomic_int failures, leaks, lent, discarded, taken_out, ends_by[TWILL_RESOURCE_END_COUNT];
static twill_lease offered; /* a copy, for another thread */
static atomic_int offer;    /* 1: being written; 2: there; 3: taken */

static bool one_in(int n)
{
    return EXPLORE_CHOICE(n, 0) == 0;
}

static void rest(void)
{
    if (one_in(3))
        (void)twill_sleep(twill_within(TWILL_US(3)));
}

static void leave_thread(void)
{
    stays = true;
#ifdef TWILL_USE_PTHREAD
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

/* But not with leases in hand: nobody would give them back. */
static bool may_end(void)
{
    return ends && !stays && !(me && me->held) && one_in(5);
}

/* ---- callbacks ---- */

static int create(void **resource, const twill_task *task)
{
    bool end = may_end();
    rest();
    if (end || one_in(5) || atomic_load(&made) >= LAST) {
        atomic_fetch_add(&failures, 1);
        if (end)
            leave_thread();
        return 7;
    }
    return make(resource, task);
}

static int look_at(void *resource, const twill_task *task)
{
    int number = (int)(uintptr_t)resource;
    (void)task;
    assert(atomic_fetch_add(&used[number], 1) == 0);
    rest();
    atomic_fetch_sub(&used[number], 1);
    if (may_end())
        leave_thread();
    return one_in(3);
}

static void destroy(void *resource, twill_resource_end why, const twill_task *task)
{
    atomic_fetch_add(&ends_by[why], 1);
    rest();
    end_thing(resource, why, task);
    if (!(me && me->asking) && may_end()) /* else nobody knows whether he has obtained a lease */
        leave_thread();
}

static void on_leak(const twill_lease_info *info, const twill_task *task)
{
    assert(info->held >= options.leak_after && info->slot == task->index);
    atomic_fetch_add(&leaks, 1);
    if (may_end())
        leave_thread();
}

/* ---- what the threads do ---- */

static twill_until draw_until(void)
{
    twill_until until = {0, NULL};
    if (patient)
        return until;
    if (one_in(3))
        until = twill_within((twill_ns)EXPLORE_CHOICE(3, 0) * TWILL_US(2) + 1);
    if (one_in(3))
        until.cancel = &token;
    return until;
}

static void fits(twill_status status, twill_until until, size_t n, size_t held)
{
    switch (status) {
    case TWILL_FAILED:
        break;
    case TWILL_CLOSED:
        assert(closes);
        break;
    case TWILL_CANCELLED:
        assert(twill_cancel_fired(until.cancel));
        break;
    case TWILL_TIMEOUT:
        assert(until.deadline && twill_now() >= until.deadline);
        break;
    case TWILL_TOO_BIG:
        assert(n == 2 && (options.max == 1 || resizes));
        break;
    case TWILL_DEADLOCK:
        assert(held && !until.deadline && !until.cancel);
        assert(atomic_load(&me->peak) >= atomic_load(&least));
        break;
    default:
        assert(!"an answer of acquire");
    }
}

/* Is about to ask for n, and to wait for ever, with all that it holds and all but one of the n. */
static void count_stuck(int n)
{
    int now = atomic_fetch_add(&stuck, n) + n;
    for (int k = 0; k < SIDES; k++) {
        int peak = atomic_load(&borrowers[k].peak);
        while (peak < now && !atomic_compare_exchange_strong(&borrowers[k].peak, &peak, now)) {}
    }
}

static bool ask(size_t n)
{
    twill_until until = draw_until();
    twill_lease *leases = &me->leases[me->held];
    bool tries = n == 1 && one_in(3);
    int for_ever = tries || until.deadline || until.cancel ? 0 : (int)(me->held + n) - 1;
    twill_status status;
    memset(leases, 0, n * sizeof *leases);
    atomic_store(&me->peak, 0);
    count_stuck(for_ever);
    me->asking = true;
    status = tries    ? twill_resource_pool_try_acquire(pool, leases)
             : n == 1 ? twill_resource_pool_acquire_until(pool, leases, until)
                      : twill_resource_pool_acquire_many_until(pool, leases, n, until);
    me->asking = false;
    if (status == TWILL_OK) {
        for (size_t k = 0; k < n; k++)
            use(&leases[k]);
        atomic_fetch_add(&lent, (int)n);
        me->held += n;
        atomic_fetch_sub(&stuck, for_ever);
        return true;
    }
    assert(!leases->resource && !leases->pool);
    assert(leases->code == (status == TWILL_FAILED ? 7 : 0));
    if (tries)
        assert(status == TWILL_EMPTY || status == TWILL_FAILED ||
               (status == TWILL_CLOSED && closes));
    else
        fits(status, until, n, me->held);
    atomic_fetch_sub(&stuck, for_ever);
    return false;
}

static twill_status take_out(twill_lease *lease)
{
    void *resource = NULL;
    int number = (int)(uintptr_t)lease->resource;
    twill_status status;
    atomic_fetch_sub(&existing, 1); /* before the pool may make another */
    atomic_fetch_add(&taken_out, 1);
    status = twill_resource_pool_detach(pool, lease, &resource);
    if (status == TWILL_OK) {
        assert((int)(uintptr_t)resource == number);
        assert(atomic_fetch_add(&destroyed[number], 1) == 0);
    } else {
        atomic_fetch_sub(&taken_out, 1);
        atomic_fetch_add(&existing, 1);
    }
    return status;
}

static void give_back(void)
{
    twill_lease *lease = &me->leases[--me->held], copy = *lease;
    int how = EXPLORE_CHOICE(5, 0), none = 0;
    bool offers =
        !options.leases_stay && one_in(3) && atomic_compare_exchange_strong(&offer, &none, 1);
    twill_status status;
    if (offers) {
        offered = copy;
        atomic_store(&offer, 2);
    }
    if (how == 0) {
        atomic_fetch_add(&discarded, 1);
        status = twill_resource_pool_discard(pool, lease);
        if (status != TWILL_OK)
            atomic_fetch_sub(&discarded, 1);
    } else {
        status = how == 1 ? take_out(lease) : twill_resource_pool_release(pool, lease);
    }
    assert(status == TWILL_OK || (offers && status == TWILL_STALE));
    if (one_in(2))
        assert(twill_resource_pool_release(pool, &copy) == TWILL_STALE);
    if (status == TWILL_OK)
        assert(twill_resource_pool_discard(pool, lease) == TWILL_INVALID);
}

static void hold(void)
{
    if (!ask(1 + (size_t)(pairs && one_in(2))))
        return;
    rest();
    if (options.leases_stay && one_in(2)) /* who holds, waits: the pool sees it */
        (void)ask(1 + (size_t)(pairs && one_in(4)));
    while (me->held)
        give_back();
}

static int use_once(void *resource, const twill_task *task)
{
    twill_lease seen = {.resource = resource};
    bool broken = one_in(4), end = may_end();
    me->asking = false;
    atomic_fetch_add(&lent, 1);
    atomic_fetch_add(&discarded, broken || end);
    use(&seen);
    rest();
    if (broken)
        twill_resource_pool_broken(task);
    if (end) {
        me->lost = true;
        leave_thread();
    }
    return me->code = one_in(3) ? 5 : 0;
}

static void call_with(void)
{
    twill_report *report = &me->report;
    twill_with_resource_options with = {draw_until(), report};
    twill_status status;
    me->asking = true;
    status = twill_with_resource(pool, use_once, NULL, &with);
    me->asking = false;
    assert(report->status == status && report->total == 1);
    assert(report->done + report->failed + report->skipped == 1);
    if (report->skipped)
        fits(status, with.until, 1, 0);
    else
        assert(status == (me->code ? TWILL_FAILED : TWILL_OK));
    if (status == TWILL_FAILED)
        assert(report->first_error.code == (report->skipped ? 7 : me->code));
}

static void maintain(void)
{
    twill_until until = draw_until();
    int code = -1;
    twill_status status = twill_resource_pool_maintain(pool, &code, until);
    if (status != TWILL_OK)
        fits(status, until, 1, 0);
    assert(code == 0 || (code == 7 && status == TWILL_FAILED));
}

static void close_pool(void)
{
    twill_status status = twill_resource_pool_close(pool);
    assert(status == TWILL_OK || status == TWILL_CLOSED);
}

static void change(void)
{
    twill_lease_info infos[SIDES * 2];
    int taken = 2;
    switch (EXPLORE_CHOICE(5, 0)) {
    case 0:
        (void)twill_resource_pool_evict(pool);
        break;
    case 1:
        maintain();
        break;
    case 2:
        if (resizes) {
            int max = 1 + EXPLORE_CHOICE(3, 0), old = atomic_load(&least);
            twill_status status;
            while (max < old && !atomic_compare_exchange_strong(&least, &old, max)) {}
            status = twill_resource_pool_resize(pool, (size_t)max);
            assert(status == TWILL_OK || (status == TWILL_CLOSED && closes));
        }
        break;
    case 3:
        if (closes)
            close_pool();
        else
            assert(twill_resource_pool_leases(pool, infos, SIDES * 2) <= SIDES * 2);
        break;
    default:
        if (atomic_compare_exchange_strong(&offer, &taken, 3)) {
            twill_status status = twill_resource_pool_release(pool, &offered);
            assert(status == TWILL_OK || status == TWILL_STALE);
        }
    }
}

static void play(void *borrower)
{
    int moves = 1 + EXPLORE_CHOICE(3, 0);
    me = borrower;
    while (moves-- > 0) { /* exit: counted */
        int move = EXPLORE_CHOICE(6, 0);
        if (move < 3)
            hold();
        else if (move == 3)
            call_with();
        else
            change();
    }
}

/* ---- the whole ---- */

static void draw_options(void)
{
    ends = one_in(3), closes = one_in(3), resizes = one_in(3), pairs = one_in(2);
    options.max = 1 + (size_t)EXPLORE_CHOICE(3, 0);
    options.min_idle = one_in(3) ? 1 : 0;
    options.max_idle = one_in(3) ? 1 : 0;
    options.max_creating = one_in(3) ? 1 : 0;
    options.max_uses = one_in(4) ? 1 + (size_t)EXPLORE_CHOICE(2, 0) : 0;
    options.max_idle_time = one_in(4) ? TWILL_US(3) : 0;
    options.max_lifetime = one_in(4) ? TWILL_US(5) : 0;
    options.create_pause = one_in(3) ? TWILL_US(4) : 0;
    options.leak_after = one_in(4) ? TWILL_US(2) : 0;
    options.maintain_every = one_in(4) ? TWILL_US(6) : 0;
    options.validate = one_in(3) ? look_at : NULL;
    options.validate_after = options.validate && one_in(2) ? TWILL_US(2) : 0;
    options.reset = one_in(3) ? look_at : NULL;
    options.fifo = one_in(2), options.barging = one_in(3), options.leases_stay = one_in(2);
    options.on_leak = options.leak_after ? on_leak : NULL;
    patient = one_in(3);
    if (patient) { /* circles, while others look at what they have got */
        options.max = 2;
        options.leases_stay = true;
        options.validate = look_at, options.validate_after = 0;
    }
    most = resizes ? 3 : (int)options.max;
    atomic_store(&least, (int)options.max);
    options.create = create, options.destroy = destroy, options.seed = 1;
}

static void settle_accounts(void)
{
    twill_resource_pool_stats s;
    uint64_t ended = 0;
    twill_resource_pool_get_stats(pool, &s);
    assert(s.total == 0 && s.idle == 0 && s.leased == 0 && s.creating == 0 && s.waiting == 0);
    assert(s.acquires == (uint64_t)atomic_load(&lent));
    assert(s.acquires == s.releases + s.discards + s.detached);
    assert(s.discards == (uint64_t)atomic_load(&discarded));
    assert(s.detached == (uint64_t)atomic_load(&taken_out));
    assert(s.created == (uint64_t)atomic_load(&made));
    assert(s.create_failed == (uint64_t)atomic_load(&failures));
    for (int why = 0; why < TWILL_RESOURCE_END_COUNT; why++) {
        assert(s.destroyed[why] == (uint64_t)atomic_load(&ends_by[why]));
        ended += s.destroyed[why];
    }
    assert(s.created == ended + s.detached && s.leaks >= (uint64_t)atomic_load(&leaks));
}

int main(void)
{
    int n = 2 + EXPLORE_CHOICE(2, 0);
    stays = true;
    draw_options();
    assert(twill_resource_pool_create(&pool, &options) == TWILL_OK);
    for (int k = 0; k < n; k++)
        assert(go(&borrowers[k].side, play, pool));
    rest();
    twill_cancel_fire(&token, 1);
    if (closes && one_in(2)) {
        twill_until until = twill_within(TWILL_US(3));
        twill_status status;
        close_pool();
        status = twill_resource_pool_drain_until(pool, until);
        assert(status == TWILL_OK || (status == TWILL_TIMEOUT && twill_now() >= until.deadline));
    }
    for (int k = 0; k < n; k++) {
        const twill_report *report = &borrowers[k].report;
        end(&borrowers[k].side);
        if (borrowers[k].lost)
            assert(report->status == TWILL_LOST && report->failed == 1);
    }
    if (one_in(4)) {
        assert(twill_resource_pool_destroy(pool) == TWILL_OK);
    } else {
        closes = true;
        close_pool();
        assert(twill_resource_pool_drain(pool) == TWILL_OK);
        settle_accounts();
        assert(twill_resource_pool_destroy(pool) == TWILL_OK);
    }
    assert(atomic_load(&existing) == 0);
    for (int k = 1; k <= atomic_load(&made); k++)
        assert(atomic_load(&destroyed[k]) == 1);
    twill_cancel_detach(&token);
    return 0;
}

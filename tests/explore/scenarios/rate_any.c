/* Any program on a limiter, a limit for each key and a bulkhead. Each schedule draws one: kind,
   rate, burst, what is used at the beginning, oversize, barging, spacing, how many may wait, how
   many keys there is room for; two or three threads that try, acquire (one limiter, or several at
   once), take some, reserve and cancel, give back, penalise, enter and leave, with deadlines and a
   token, while one may set the rate, and one may close. Answers fit what was drawn, the figures are
   those of the callers; in no time were more tokens granted than the fastest rate makes, of any
   key, and none is lost in the end; and never more are inside than may be. */
#include "rate_common.h"

enum { SIDES = 3, INSIDE = 2, GRANTS = 64, KEYS = 3, KEY_BURST = 2 };

static twill_rate_limiter limiter, other;
static twill_bulkhead bulkhead;
static twill_rate_limiter_options options; /* the most that it may be */
static uint64_t last_burst, least_burst;   /* set last, by one thread; of all */
static twill_rate_keys *keys;
static size_t key_room;
static struct caller callers[SIDES];
static twill_cancel token;
static bool bounded;
static size_t places;
static twill_ns begun, starts[2];
static atomic_bool closing;
static atomic_int inside, timed_out, cancelled, refused;
static _Atomic uint64_t granted, returned;

static struct grant { /* of tokens that stay: at some moment of these */
    twill_ns from, to;
    uint64_t n;
    int key; /* -1: of the limiter */
} grants[GRANTS];
static atomic_int grants_made, key_tried;

static bool one_in(int n)
{
    return EXPLORE_CHOICE(n, 0) == 0;
}

static twill_until draw_until(void)
{
    twill_until until = {0, NULL};
    if (bounded || one_in(2))
        until = twill_within(TWILL_US(3) * EXPLORE_CHOICE(4, 0));
    if (one_in(3))
        until.cancel = &token;
    return until;
}

static void fits(twill_status status, twill_until until, size_t waiters)
{
    if (status == TWILL_CLOSED)
        assert(atomic_load(&closing));
    else if (status == TWILL_CANCELLED)
        assert(until.cancel && twill_cancel_fired(until.cancel));
    else if (status == TWILL_FULL)
        assert(waiters < SIDES);
    else
        assert(status == TWILL_TIMEOUT && until.deadline);
}

static void count(twill_status status)
{
    atomic_fetch_add(&timed_out, status == TWILL_TIMEOUT);
    atomic_fetch_add(&cancelled, status == TWILL_CANCELLED);
    atomic_fetch_add(&refused, status == TWILL_EMPTY || status == TWILL_FULL);
}

static void note(uint64_t n, twill_ns from, twill_ns to, int key)
{
    int k = atomic_fetch_add(&grants_made, 1);
    assert(k < GRANTS);
    grants[k] = (struct grant){from, to, n, key};
}

static void grant(uint64_t n, twill_ns from, twill_ns to)
{
    note(n, from, to, -1);
    atomic_fetch_add(&granted, n);
}

static uint64_t most(void) /* at once */
{
    return options.kind == TWILL_RATE_WINDOW ? options.tokens : options.burst ? options.burst : 1;
}

static bool too_big(uint64_t n, uint64_t burst)
{
    return options.oversize == TWILL_RATE_REFUSE && n > burst;
}

/* By one thread. Nothing is faster than what was drawn. */
static void set_rate(void)
{
    bool window = options.kind == TWILL_RATE_WINDOW;
    uint64_t tokens = 1 + (uint64_t)EXPLORE_CHOICE((int)options.tokens, 0);
    uint64_t burst = 1 + (uint64_t)EXPLORE_CHOICE((int)most(), 0);
    twill_ns per = options.per * (1 + EXPLORE_CHOICE(2, 0));
    twill_status status = twill_rate_limiter_set_rate(&limiter, tokens, per, window ? 0 : burst);
    if (status == TWILL_OK)
        last_burst = window ? tokens : burst;
    else
        assert(status == TWILL_CLOSED && atomic_load(&closing));
}

static void take_key(void)
{
    int key = EXPLORE_CHOICE(KEYS, 0);
    uint64_t n = 1 + (uint64_t)EXPLORE_CHOICE(KEY_BURST + 1, 0);
    twill_ns at = twill_now();
    twill_status status;
    atomic_fetch_or(&key_tried, 1 << key); /* before: it may have a place before it returns */
    status = twill_rate_keys_try_acquire(keys, (uint64_t)key, n);
    assert((status == TWILL_TOO_BIG) == (n > KEY_BURST));
    if (status == TWILL_OK) {
        note(n, at, twill_now(), key);
    } else if (status == TWILL_FULL) {
        int others = atomic_load(&key_tried) & ~(1 << key);
        assert((size_t)__builtin_popcount((unsigned)others) >= key_room);
    } else {
        assert(status == TWILL_EMPTY || status == TWILL_TOO_BIG);
    }
    if (one_in(2))
        (void)twill_rate_keys_wait_time(keys, (uint64_t)key, n);
}

static void take(void)
{
    uint64_t n = 1 + (uint64_t)EXPLORE_CHOICE(3, 0);
    twill_until until = draw_until();
    bool tries = one_in(3);
    twill_ns at = twill_now();
    twill_status status = tries ? twill_rate_limiter_try_acquire(&limiter, n)
                                : twill_rate_limiter_acquire_until(&limiter, n, until);
    count(status);
    if (status == TWILL_OK) {
        assert(!too_big(n, most()));
        grant(n, at, twill_now());
        if (one_in(4)) {
            atomic_fetch_add(&returned, n);
            twill_rate_limiter_give_back(&limiter, n);
        }
    } else if (status == TWILL_TOO_BIG) {
        assert(too_big(n, least_burst));
    } else if (tries) {
        assert(status == TWILL_EMPTY || (status == TWILL_CLOSED && atomic_load(&closing)));
    } else {
        fits(status, until, options.max_waiters ? options.max_waiters : SIDES);
    }
}

static void reserve(void)
{
    twill_reservation reservation;
    uint64_t n = 1 + (uint64_t)EXPLORE_CHOICE(2, 0);
    twill_ns wait = TWILL_US(4) * EXPLORE_CHOICE(3, 0), at = twill_now();
    twill_status status = twill_rate_limiter_reserve(&limiter, n, wait, &reservation);
    if (status != TWILL_OK) {
        assert(status == TWILL_TIMEOUT || status == TWILL_BUSY ||
               (status == TWILL_TOO_BIG && n > least_burst) ||
               (status == TWILL_CLOSED && atomic_load(&closing)));
        return;
    }
    assert(reservation.due >= at && reservation.due <= twill_now() + wait);
    /* split: one after the other until then */
    grant(n, options.oversize == TWILL_RATE_SPLIT ? at : reservation.due, reservation.due);
    if (one_in(2)) {
        atomic_fetch_add(&returned, n);
        if (twill_rate_limiter_cancel(&limiter, &reservation))
            assert(!twill_rate_limiter_cancel(&limiter, &reservation));
        else
            atomic_fetch_sub(&returned, n);
    }
    (void)twill_sleep((twill_until){reservation.due, NULL});
}

static void visit(void)
{
    twill_until until = draw_until();
    bool tries = one_in(3);
    twill_status status =
        tries ? twill_bulkhead_try_enter(&bulkhead) : twill_bulkhead_enter_until(&bulkhead, until);
    if (status != TWILL_OK) {
        if (tries)
            assert(status == TWILL_FULL || (status == TWILL_CLOSED && atomic_load(&closing)));
        else
            fits(status, until, places);
        return;
    }
    assert(atomic_fetch_add(&inside, 1) < INSIDE);
    if (one_in(2))
        (void)twill_sleep(twill_within(TWILL_US(2)));
    atomic_fetch_sub(&inside, 1);
    assert(twill_bulkhead_leave(&bulkhead) == TWILL_OK);
}

/* The same one twice: 2 of it. The other one is out of the way. */
static void take_all(void)
{
    twill_rate_limiter *both[] = {&limiter, &other, &limiter};
    size_t n = 2 + (size_t)EXPLORE_CHOICE(2, 0);
    twill_until until = draw_until();
    twill_ns at = twill_now();
    twill_status status = twill_rate_limiter_acquire_all_until(both, n, 1, until);
    if (status == TWILL_OK)
        grant(n - 1, at, twill_now());
    else if (status == TWILL_TOO_BIG)
        assert(n == 3 && least_burst < 2);
    else
        fits(status, until, options.max_waiters ? options.max_waiters : SIDES);
}

static void end_both(void)
{
    twill_status status;
    atomic_store(&closing, true);
    status = twill_rate_limiter_close(&limiter);
    assert(status == TWILL_OK || status == TWILL_CLOSED);
    status = twill_bulkhead_close(&bulkhead);
    assert(status == TWILL_OK || status == TWILL_CLOSED);
    assert(twill_rate_limiter_try_acquire(&limiter, 1) == TWILL_CLOSED);
    assert(twill_bulkhead_try_enter(&bulkhead) == TWILL_CLOSED);
}

static void play(void *side)
{
    for (int moves = 1 + EXPLORE_CHOICE(3, 0); moves > 0; moves--) {
        int what = EXPLORE_CHOICE(10, 0);
        twill_ns at;
        uint64_t some;
        if (what < 3) {
            take();
        } else if (what == 3) {
            reserve();
        } else if (what < 6) {
            visit();
        } else if (what == 6 && one_in(2)) {
            take_all();
        } else if (what == 6 && one_in(2)) {
            twill_rate_limiter_penalise(&limiter, TWILL_US(2));
        } else if (what == 6) {
            at = twill_now();
            some = twill_rate_limiter_take_up_to(&limiter, 2);
            assert(some <= 2);
            grant(some, at, twill_now());
        } else if (what == 7) {
            take_key();
        } else if (what == 8) {
            if (side == &callers[0] && least_burst < most())
                set_rate();
        } else {
            (void)twill_rate_limiter_wait_time(&limiter, 1);
            assert(twill_rate_limiter_available(&limiter) <= most());
            if (one_in(2))
                end_both();
        }
    }
    if (one_in(3))
        twill_cancel_fire(&token, 1);
}

static uint64_t sum_between(int n, twill_ns from, twill_ns to, int key)
{
    uint64_t sum = 0;
    for (int k = 0; k < n; k++)
        if (grants[k].key == key && grants[k].from >= from && grants[k].to <= to)
            sum += grants[k].n;
    return sum;
}

/* In no time were more granted than it, and what stood ready, can give. */
static void check_rate(int key)
{
    int n = atomic_load(&grants_made);
    uint64_t back = key < 0 ? atomic_load(&returned) : 0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++) {
            uint64_t sum = 0, time = (uint64_t)(grants[k].to - grants[i].from);
            if (grants[k].to < grants[i].from)
                continue;
            sum = sum_between(n, grants[i].from, grants[k].to, key);
            if (key >= 0)
                assert(sum <= KEY_BURST + time / (uint64_t)options.per);
            else if (options.kind == TWILL_RATE_BUCKET)
                assert(sum <= most() + back + time * options.tokens / (uint64_t)options.per);
            else if (time < (uint64_t)options.per)
                assert(sum <= options.tokens + back);
        }
}

static void settle_accounts(void)
{
    twill_rate_limiter_stats s;
    uint64_t made = (uint64_t)(twill_now() - begun) * options.tokens / (uint64_t)options.per;
    twill_rate_limiter_get_stats(&limiter, &s);
    assert(s.waiting == 0 && (!options.max_waiters || s.waiting_peak <= options.max_waiters));
    assert(!options.counted || s.granted == atomic_load(&granted));
    assert(s.timed_out >= (uint64_t)atomic_load(&timed_out));
    assert(s.cancelled >= (uint64_t)atomic_load(&cancelled));
    if (options.oversize == TWILL_RATE_REFUSE)
        assert(atomic_load(&granted) - atomic_load(&returned) <= most() - options.used + made);
}

int main(void)
{
    int n = 2 + EXPLORE_CHOICE(2, 0);
    bounded = one_in(2);
    options.tokens = 1 + (uint64_t)EXPLORE_CHOICE(2, 0);
    options.per = TWILL_US(3);
    options.used = (uint64_t)EXPLORE_CHOICE(2, 0);
    options.barging = one_in(3), options.counted = one_in(2);
    if (one_in(4)) {
        options.kind = TWILL_RATE_WINDOW;
        options.starts = starts;
        options.starts_count = options.tokens;
    } else {
        options.burst = (uint64_t)EXPLORE_CHOICE(4, 0);
        options.oversize = (twill_rate_oversize)EXPLORE_CHOICE(3, 0);
        options.strict_spacing = one_in(3);
    }
    options.max_waiters = (size_t)EXPLORE_CHOICE(3, 0);
    places = (size_t)EXPLORE_CHOICE(3, 0);
    last_burst = most();
    least_burst = one_in(2) ? 1 : most(); /* the rate may be set; it stays */
    key_room = 1 + (size_t)EXPLORE_CHOICE(2, 0);
    assert(twill_rate_keys_create(&keys, key_room,
                                  &(twill_rate_limiter_options){.tokens = 1,
                                                                .per = options.per,
                                                                .burst = KEY_BURST}) == TWILL_OK);
    begun = twill_now();
    assert(twill_rate_limiter_init(&limiter, &options) == TWILL_OK);
    assert(twill_rate_limiter_init(&other, &(twill_rate_limiter_options){
                                               .tokens = 1, .per = 1, .burst = 8}) == TWILL_OK);
    assert(twill_bulkhead_init(&bulkhead, 1 + (size_t)EXPLORE_CHOICE(INSIDE, 0), places) ==
           TWILL_OK);
    for (int k = 0; k < n; k++)
        go(&callers[k], play);
    for (int k = 0; k < n; k++)
        end(&callers[k]);
    assert(twill_bulkhead_leave(&bulkhead) == TWILL_INVALID);
    settle_accounts();
    for (int key = options.oversize != TWILL_RATE_DEBT ? -1 : 0; key < KEYS; key++)
        check_rate(key);
    (void)twill_sleep(twill_within(TWILL_MS(1)));
    for (int key = 0; key < KEYS; key++) { /* those that are full leave their places */
        assert(twill_rate_keys_try_acquire(keys, (uint64_t)key, KEY_BURST) == TWILL_OK);
        assert(twill_rate_keys_try_acquire(keys, (uint64_t)key, 1) == TWILL_EMPTY);
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    }
    assert(twill_rate_keys_destroy(keys) == TWILL_OK);
    if (!atomic_load(&closing)) { /* nothing was lost */
        assert(twill_rate_limiter_try_acquire(&limiter, last_burst) == TWILL_OK);
        assert(twill_rate_limiter_try_acquire(&limiter, 1) == TWILL_EMPTY);
    }
    twill_cancel_detach(&token);
    return 0;
}

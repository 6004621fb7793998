/* A limiter by the callers' own clock. Each schedule draws the kind, the rate, the burst, the
   spacing and where the axis begins; two or three threads try, reserve and cancel with instants of
   a clock that they share, often an old one, and give back. In no time are more tokens granted than
   the rate makes, a reservation is due within the wait, what is cancelled is there again, and in
   the end nothing is lost. */
#include "rate_common.h"

enum { SIDES = 3, GRANTS = 48, MOVES = 5 };

static twill_rate_limiter limiter;
static twill_rate_limiter_options options;
static twill_ns origin, starts[3];
static struct caller callers[SIDES];
static _Atomic twill_ns axis; /* from the origin on */
static atomic_int grants_made;
static _Atomic uint64_t granted, back;
static struct grant {
    twill_ns at; /* from the origin on */
    uint64_t n;
} grants[GRANTS];

static bool one_in(int n)
{
    return EXPLORE_CHOICE(n, 0) == 0;
}

static uint64_t most(void)
{
    return options.kind == TWILL_RATE_WINDOW ? options.tokens : options.burst ? options.burst : 1;
}

static void note(twill_ns at, uint64_t n)
{
    int k = atomic_fetch_add(&grants_made, 1);
    grants[k].at = at;
    grants[k].n = n;
    atomic_fetch_add(&granted, n);
}

static void reserve(twill_ns now, uint64_t n)
{
    twill_ns wait = TWILL_US(2) * EXPLORE_CHOICE(4, 0);
    twill_reservation r;
    twill_status status = twill_rate_limiter_reserve_at(&limiter, n, wait, origin + now, &r);
    if (status != TWILL_OK) {
        assert(status == TWILL_TIMEOUT || (status == TWILL_TOO_BIG && n > most()));
        return;
    }
    assert(r.due >= origin + now && r.due - origin - now <= wait);
    if (one_in(2) && twill_rate_limiter_cancel(&limiter, &r)) {
        assert(!twill_rate_limiter_cancel(&limiter, &r));
        atomic_fetch_add(&granted, n);
        atomic_fetch_add(&back, n);
    } else {
        note(r.due - origin, n);
    }
}

static void play(void *caller)
{
    int moves = 1 + EXPLORE_CHOICE(MOVES, 0);
    (void)caller;
    while (moves-- > 0) { /* exit: counted */
        twill_ns now = one_in(2) ? atomic_load(&axis)
                                 : atomic_fetch_add(&axis, TWILL_US(1) * EXPLORE_CHOICE(4, 0));
        uint64_t n = 1 + (uint64_t)EXPLORE_CHOICE(2, 0);
        twill_status status;
        switch (EXPLORE_CHOICE(4, 0)) {
        case 0:
            reserve(now, n);
            break;
        case 1: /* at most what it had */
            status = twill_rate_limiter_try_acquire_at(&limiter, n, origin + now);
            if (status == TWILL_OK) {
                atomic_fetch_add(&back, n);
                note(now, n);
                twill_rate_limiter_give_back(&limiter, n);
            }
            break;
        default:
            status = twill_rate_limiter_try_acquire_at(&limiter, n, origin + now);
            assert(status == TWILL_OK || status == TWILL_EMPTY ||
                   (status == TWILL_TOO_BIG && n > most()));
            if (status == TWILL_OK)
                note(now, n);
        }
    }
}

static void check_rate(void)
{
    int n = atomic_load(&grants_made);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++) {
            uint64_t sum = 0, time = (uint64_t)(grants[k].at - grants[i].at);
            if (grants[k].at < grants[i].at)
                continue;
            for (int m = 0; m < n; m++)
                if (grants[m].at >= grants[i].at && grants[m].at <= grants[k].at)
                    sum += grants[m].n;
            if (options.kind == TWILL_RATE_BUCKET)
                assert(sum <=
                       most() + atomic_load(&back) + time * options.tokens / (uint64_t)options.per);
            else if (time < (uint64_t)options.per)
                assert(sum <= options.tokens + atomic_load(&back));
        }
}

int main(void)
{
    static const twill_ns origins[] = {0, -TWILL_US(3), TWILL_MS(1000000000), INT64_MIN / 2,
                                       INT64_MAX / 2};
    int n = 2 + EXPLORE_CHOICE(2, 0);
    twill_rate_limiter_stats s;
    twill_ns late;
    origin = origins[EXPLORE_CHOICE(5, 0)];
    options.tokens = 1 + (uint64_t)EXPLORE_CHOICE(3, 0);
    options.per = TWILL_US(3);
    options.counted = one_in(2);
    options.used = (uint64_t)EXPLORE_CHOICE(2, 0);
    if (one_in(3)) {
        options.kind = TWILL_RATE_WINDOW;
        options.starts = starts;
        options.starts_count = options.tokens;
    } else {
        options.burst = (uint64_t)EXPLORE_CHOICE(4, 0);
        options.strict_spacing = one_in(3);
    }
    assert(twill_rate_limiter_init(&limiter, &options) == TWILL_OK);
    for (int k = 0; k < n; k++)
        go(&callers[k], play);
    for (int k = 0; k < n; k++)
        end(&callers[k]);
    check_rate();
    twill_rate_limiter_get_stats(&limiter, &s);
    assert(!options.counted || s.granted == atomic_load(&granted));
    late = origin + atomic_load(&axis) + TWILL_MS(1);
    assert(twill_rate_limiter_try_acquire_at(&limiter, most(), late) == TWILL_OK);
    assert(twill_rate_limiter_try_acquire_at(&limiter, 1, late) == TWILL_EMPTY);
    return 0;
}

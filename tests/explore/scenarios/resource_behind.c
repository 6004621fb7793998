/* A holds one of two and wants another, for ever. In front of him is B, who wants both at once and
   has the other in hand, at once or when C gives it back: A is told, gives back, and B goes on. Or
   two hold one each and want another of three, and the pool shrinks to two: one is told. Or one of
   them wants two more, and may overtake (barging) the other, to whom C has given a third: that one
   goes on. Nobody is told while somebody else can still give one back. Or A alone wants another of
   two, which comes back, and the pool shrinks to the one that he has: if he is on his way to take
   what came back, he finds it himself. */
#include "explore.h"
#include "resource_common.h"

enum { BEHIND, SHRINKS, TWO_MORE, ALONE, CASES };

static atomic_int told;
static atomic_bool given_back;
static bool third; /* C has one, too: it gives it back at any moment */

static void wants_another(void *side_)
{
    struct side *side = side_;
    twill_lease second = {0};
    assert(twill_resource_pool_acquire(side->pool, &side->lease) == TWILL_OK);
    side->status = twill_resource_pool_acquire(side->pool, &second);
    if (side->status == TWILL_DEADLOCK) {
        assert(!third || atomic_load(&given_back));
        atomic_fetch_add(&told, 1);
    } else {
        assert(side->status == TWILL_OK);
        use(&second);
        assert(twill_resource_pool_release(side->pool, &second) == TWILL_OK);
    }
    assert(twill_resource_pool_release(side->pool, &side->lease) == TWILL_OK);
}

static void wants_both(void *side_)
{
    struct side *side = side_;
    twill_lease both[2];
    side->status = twill_resource_pool_acquire_many_until(side->pool, both, 2, side->until);
    assert(side->status == TWILL_OK); /* it holds nothing: not told */
    for (int k = 0; k < 2; k++) {
        use(&both[k]);
        assert(twill_resource_pool_release(side->pool, &both[k]) == TWILL_OK);
    }
}

static void wants_two_more(void *side_)
{
    struct side *side = side_;
    twill_lease more[2];
    assert(twill_resource_pool_acquire(side->pool, &side->lease) == TWILL_OK);
    side->status = twill_resource_pool_acquire_many_until(side->pool, more, 2, side->until);
    assert(side->status == TWILL_OK); /* the other one is told, or goes on */
    for (int k = 0; k < 2; k++)
        assert(twill_resource_pool_release(side->pool, &more[k]) == TWILL_OK);
    assert(twill_resource_pool_release(side->pool, &side->lease) == TWILL_OK);
}

static void gives_back(void *side_)
{
    struct side *side = side_;
    atomic_store(&given_back, true);
    if (side->discard)
        assert(twill_resource_pool_discard(side->pool, &side->lease) == TWILL_OK);
    else
        assert(twill_resource_pool_release(side->pool, &side->lease) == TWILL_OK);
}

int main(void)
{
    static void (*const others[CASES])(void *) = {wants_both, wants_another, wants_two_more, NULL};
    int which = EXPLORE_CHOICE(CASES, 0);
    bool shrinks = which == SHRINKS || which == ALONE, barging = EXPLORE_CHOICE(2, 0);
    struct side a = {.keep = false}, b = {.keep = false}, c = {.keep = false};
    twill_resource_pool *pool;

    EXPLORE_MUST_REACH("told");
    EXPLORE_MUST_REACH("told after the third came back");
    EXPLORE_MUST_REACH("told after the pool has shrunk");
    most = which == BEHIND || which == ALONE ? 2 : 3;
    third = which == TWO_MORE || which == ALONE || (which == BEHIND && EXPLORE_CHOICE(2, 0));
    pool = pool_of((twill_resource_pool_options){
        .max = (size_t)most, .leases_stay = true, .barging = barging});
    if (third) {
        c.discard = EXPLORE_CHOICE(2, 0);
        assert(twill_resource_pool_acquire(pool, &c.lease) == TWILL_OK);
        c.pool = pool;
    }
    if (!go(&a, wants_another, pool))
        return 0;
    if (others[which] && !go(&b, others[which], pool))
        return 0;
    if (which == SHRINKS)
        assert(twill_resource_pool_resize(pool, 2) == TWILL_OK);
    if (third) /* by the thread that has borrowed it */
        gives_back(&c);
    if (which == ALONE)
        assert(twill_resource_pool_resize(pool, 1) == TWILL_OK);
    end(&a);
    if (others[which])
        end(&b);
    if (atomic_load(&told)) {
        if (!third && !shrinks)
            EXPLORE_REACHED("told");
        if (third)
            EXPLORE_REACHED("told after the third came back");
        if (shrinks)
            EXPLORE_REACHED("told after the pool has shrunk");
    }
    finish(pool);
    return 0;
}

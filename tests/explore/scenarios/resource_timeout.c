/* A deadline meets the release that would serve it, and one who stands behind is served then. */
#include "resource_common.h"

int main(void)
{
    struct side brief = {.discard = false}, patient = {.discard = false};
    twill_resource_pool *pool = pool_of((twill_resource_pool_options){.max = 1});
    twill_lease lease = {0};

    assert(twill_resource_pool_acquire(pool, &lease) == TWILL_OK);
    brief.until = twill_within(TWILL_US(1));
    if (!go(&brief, borrow, pool))
        return 0;
    if (go(&patient, borrow, pool)) {
        assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
        end(&patient);
        assert(patient.status == TWILL_OK);
    } else {
        assert(twill_resource_pool_release(pool, &lease) == TWILL_OK);
    }
    end(&brief);
    assert(brief.status == TWILL_OK || brief.status == TWILL_TIMEOUT);
    finish(pool);
    return 0;
}

/* A count is set to a number while another thread reads it: who sees the new base sees all that was
   counted for it, so that no number comes out that was never there. */
#undef NDEBUG
#include <assert.h>
#include <string.h>

#define TWILL_IMPLEMENTATION
#include "twill_progress_tracker.h"

static twill__tally tally;

static void counts(void *nothing)
{
    (void)nothing;
    twill__tally_add(&tally, TWILL__TALLY_DONE, 5);
    twill__tally_set(&tally, 20);
    twill__tally_set(&tally, 10);
}

int main(void)
{
    twill__thrd other = {.fn = counts, .cpu = UINT_MAX};

    assert(twill__thread_start(&other));
    for (int k = 0; k < 2; k++) {
        uint64_t done = twill__tally_read(&tally, TWILL__TALLY_DONE);
        assert(done == 0 || done == 5 || done == 20 || done == 10);
    }
    twill__thread_join(&other);
    assert(twill__tally_read(&tally, TWILL__TALLY_DONE) == 10);
    return 0;
}

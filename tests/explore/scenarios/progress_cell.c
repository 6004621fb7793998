/* Three threads count in one cell: one of them owns it and adds by a load and a store, the others
   share a word beside it. Nothing is lost, and what is read only grows. */
#undef NDEBUG
#include <assert.h>
#include <string.h>

#define TWILL__TALLY_CELLS 1
#define TWILL_IMPLEMENTATION
#include "twill_progress_tracker.h"

static twill__tally tally;

static void counts(void *nothing)
{
    (void)nothing;
    twill__tally_add(&tally, TWILL__TALLY_DONE, 5);
    twill__tally_add(&tally, TWILL__TALLY_DONE, 7);
}

int main(void)
{
    twill__thrd one = {.fn = counts, .cpu = UINT_MAX}, two = {.fn = counts, .cpu = UINT_MAX};
    uint64_t seen = 0;

    assert(twill__thread_start(&one));
    assert(twill__thread_start(&two));
    for (int k = 0; k < 2; k++) {
        uint64_t done = twill__tally_read(&tally, TWILL__TALLY_DONE);
        assert(done >= seen);
        seen = done;
    }
    twill__tally_add(&tally, TWILL__TALLY_DONE, 100);
    twill__thread_join(&one);
    twill__thread_join(&two);
    assert(twill__tally_read(&tally, TWILL__TALLY_DONE) == 124);
    return 0;
}

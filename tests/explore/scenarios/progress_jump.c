/* A first value, where an earlier run left off, is no progress, whenever somebody looks. */
#undef NDEBUG
#include <assert.h>

#define TWILL_IMPLEMENTATION
#include "twill_progress_tracker.h"

static void sets(void *progress)
{
    twill_progress_set(progress, 1000000);
}

int main(void)
{
    twill_progress_options options = {.style = TWILL_PROGRESS_SILENT};
    twill_progress *progress;
    twill__thrd other = {.fn = sets, .cpu = UINT_MAX};
    twill_progress_view view;
    assert(twill_progress_create(&progress, &options) == TWILL_OK);
    other.arg = progress;
    assert(twill_sleep(twill_within(TWILL_MS(20))) == TWILL_OK);
    assert(twill__thread_start(&other));
    twill_progress_get_view(progress, &view);
    twill__thread_join(&other);
    assert(twill_sleep(twill_within(TWILL_MS(20))) == TWILL_OK);
    twill_progress_get_view(progress, &view);
    assert(view.done == 1000000 && !(view.rate > 0));
    assert(twill_progress_destroy(progress) == TWILL_OK);
    return 0;
}

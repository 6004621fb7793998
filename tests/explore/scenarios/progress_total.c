/* Who sees that the total is known sees what it is. */
#undef NDEBUG
#include <assert.h>

#define TWILL_IMPLEMENTATION
#include "twill_progress_tracker.h"

static void adds(void *progress)
{
    twill_progress_add_total(progress, 10);
}

int main(void)
{
    twill_progress_options options = {.style = TWILL_PROGRESS_SILENT};
    twill_progress *progress;
    twill__thrd other = {.fn = adds, .cpu = UINT_MAX};
    twill_progress_view view;
    assert(twill_progress_create(&progress, &options) == TWILL_OK);
    other.arg = progress;
    assert(twill__thread_start(&other));
    twill_progress_get_view(progress, &view);
    assert(view.total == 10 || !view.total_known);
    assert(view.percent == (view.total_known ? 0 : -1));
    twill__thread_join(&other);
    assert(twill_progress_destroy(progress) == TWILL_OK);
    return 0;
}

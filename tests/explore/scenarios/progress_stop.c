/* Whoever finishes a bar wakes the renderer, which draws the last frame at once: here neither of
   them looks round by itself. */
#undef NDEBUG
#include <assert.h>

#define TWILL__SCREEN_PERIOD TWILL_FOREVER
#define TWILL__SCREEN_STUCK  TWILL_FOREVER
#define TWILL_IMPLEMENTATION
#include "twill_progress_tracker.h"

static _Atomic int told;

static void view(const twill_progress_view *now, const twill_task *task)
{
    (void)task;
    if (now->finished)
        atomic_fetch_add(&told, 1);
}

int main(void)
{
    twill_progress_options options = {
        .style = TWILL_PROGRESS_SILENT, .interval = TWILL_FOREVER, .on_view = view};
    twill_progress *bar;

    assert(twill_progress_create(&bar, &options) == TWILL_OK);
    assert(twill_progress_finish(bar, TWILL_OK) == TWILL_OK);
    assert(atomic_load(&told) == 1);
    assert(twill_progress_destroy(bar) == TWILL_OK);
    return 0;
}

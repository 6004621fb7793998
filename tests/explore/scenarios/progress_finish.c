/* Three threads finish one bar, one of them while it draws. Each comes back when on_view has been
   told that the bar has ended, and no more runs; on_view may take longer than finish waits for its
   turn. */
#undef NDEBUG
#include <assert.h>

#define TWILL_IMPLEMENTATION
#include "twill_progress_tracker.h"

static twill_progress *bar;
static _Atomic int inside, told;

static void view(const twill_progress_view *now, const twill_task *task)
{
    (void)task;
    assert(atomic_fetch_add(&inside, 1) == 0);
    (void)twill_sleep(twill_within(TWILL_SEC(3)));
    if (now->finished)
        atomic_fetch_add(&told, 1);
    atomic_fetch_sub(&inside, 1);
}

static void finishes(void *nothing)
{
    (void)nothing;
    assert(twill_progress_finish(bar, TWILL_OK) == TWILL_OK);
    assert(atomic_load(&told) == 1 && atomic_load(&inside) == 0);
}

int main(void)
{
    twill__thrd one = {.fn = finishes, .cpu = UINT_MAX}, two = {.fn = finishes, .cpu = UINT_MAX};
    twill_progress_options options = {
        .style = TWILL_PROGRESS_SILENT, .draw_by = TWILL_PROGRESS_BY_CALL, .on_view = view};

    assert(twill_progress_create(&bar, &options) == TWILL_OK);
    assert(twill__thread_start(&one));
    assert(twill__thread_start(&two));
    twill_progress_draw(bar);
    finishes(NULL);
    twill__thread_join(&one);
    twill__thread_join(&two);
    assert(twill_progress_destroy(bar) == TWILL_OK);
    return 0;
}

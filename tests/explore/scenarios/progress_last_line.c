/* The last line of a bar is written once, whoever else writes between the frame that shows it and
   the moment at which the bar is known to have ended, and though two threads finish it; and totals
   that two threads raise add up. A renderer that is left behind frees the screen after main.
   It reads the cells of three bars in a row.
   EXPLORE: --no-leaks --polling */
#undef NDEBUG
#include <assert.h>
#include <string.h>
#include <unistd.h>

#define TWILL_IMPLEMENTATION
#include "explore.h"
#include "twill_progress_tracker.h"

static twill_progress *root, *child;

static void logs(void *nothing)
{
    bool first = EXPLORE_CHOICE(2, 0);
    (void)nothing;
    if (first)
        assert(twill_progress_finish(child, TWILL_CANCELLED) == TWILL_OK);
    assert(twill_progress_log(root, "meanwhile") == 9);
    twill_progress_add_total(root, 2);
    if (!first)
        assert(twill_progress_finish(child, TWILL_CANCELLED) == TWILL_OK);
}

int main(void)
{
    twill__thrd other = {.fn = logs, .cpu = UINT_MAX};
    twill_progress_options options = {.style = TWILL_PROGRESS_LINES, .interval = TWILL_SEC(5)};
    twill_progress_view view;
    twill_ns since, took;
    int ends[2];
    char text[2000], *first;
    ssize_t length;

    assert(pipe(ends) == 0);
    options.fd = ends[1];
    assert(twill_progress_create(&root, &options) == TWILL_OK);
    options = (twill_progress_options){.parent = root};
    assert(twill_progress_create(&child, &options) == TWILL_OK);
    since = twill_now();
    assert(twill__thread_start(&other));
    assert(twill_progress_finish(child, TWILL_CANCELLED) == TWILL_OK);
    took = twill_now() - since;
    twill_progress_add_total(root, 3);
    twill__thread_join(&other);
    twill_progress_get_view(root, &view);
    assert(view.total == 5);
    assert(twill_progress_destroy(child) == TWILL_OK);
    assert(twill_progress_destroy(root) == TWILL_OK);
    close(ends[1]);
    length = read(ends[0], text, sizeof text - 1);
    assert(length > 0);
    text[length] = '\0';
    close(ends[0]);
    assert(strstr(text, "meanwhile\n"));
    first = strstr(text, "cancelled");
    assert(first || took >= TWILL_SEC(1)); /* finish waits for so long at most */
    assert(!first || !strstr(first + 1, "cancelled"));
    return 0;
}

/* twill's progress tracker: a bar that its own thread draws ten times a second, here to nowhere.
 * usage: twill_progress threads updates-each */
#include "bench_counter.h"

#include <fcntl.h>

#define TWILL_IMPLEMENTATION
#include "twill_progress_tracker.h"

static twill_progress *progress;

static void update(size_t updates)
{
    for (; updates; updates--)
        twill_progress_add(progress, 1);
}

static uint64_t count(void)
{
    twill_progress_view view;
    twill_progress_get_view(progress, &view);
    return view.done;
}

static void must(twill_status status, const char *what)
{
    if (status == TWILL_OK)
        return;
    fprintf(stderr, "WRONG RESULT: %s: %s\n", what, twill_status_name(status));
    exit(3);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s threads updates-each\n", argv[0]);
        return 2;
    }
    unsigned threads = (unsigned)strtoul(argv[1], NULL, 10);
    size_t each = strtoul(argv[2], NULL, 10);
    int nowhere = open("/dev/null", O_WRONLY);
    must(twill_progress_create(&progress, &(twill_progress_options){
                                              .total = (uint64_t)threads * each,
                                              .style = TWILL_PROGRESS_BAR,
                                              .draw_by = TWILL_PROGRESS_BY_THREAD,
                                              .fd = nowhere,
                                          }),
         "twill_progress_create");
    bench_counter(threads, each, update, count);
    must(twill_progress_finish(progress, TWILL_OK), "twill_progress_finish");
    must(twill_progress_destroy(progress), "twill_progress_destroy");
    close(nowhere);
    return 0;
}

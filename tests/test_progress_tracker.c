/* test_progress_tracker.c: what is counted, what a person sees on a terminal, what a file or a
   pipe gets byte for byte, and that nothing which happens to the output touches the work. */
#define _GNU_SOURCE
#define HARNESS_FAULTS
#include "harness.h"
#include "term.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>

static atomic_uint asserted;
#define TWILL_ASSERT(condition) ((condition) ? (void)0 : (void)atomic_fetch_add(&asserted, 1))
static long long stuck_after = 1000000000; /* nanoseconds: a second, as ever */
#define TWILL__SCREEN_STUCK stuck_after
#define TWILL_IMPLEMENTATION
#include "twill_progress_tracker.h"

#if defined __SANITIZE_ADDRESS__ || defined TWILL__UNDER_TSAN
#define SLOW 8
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define SLOW 8
#endif
#endif
#ifndef SLOW
#define SLOW 1
#endif

/* ---- kit ---- */

/* Both ends of a pipe or pseudo-terminal, and all that has come out of it. */
struct tape {
    int out, in; /* the program writes to `out`; `in` does not block */
    size_t length;
    char bytes[1 << 18];
};

static void tape_close(struct tape *tape)
{
    if (tape->out >= 0)
        close(tape->out);
    if (tape->in >= 0)
        close(tape->in);
    free(tape);
}

static struct tape *tape_new(int out, int in)
{
    struct tape *tape = malloc(sizeof *tape);

    if (!tape)
        abort();
    tape->out = out;
    tape->in = in;
    tape->length = 0;
    tape->bytes[0] = '\0';
    fcntl(in, F_SETFL, fcntl(in, F_GETFL) | O_NONBLOCK);
    return tape;
}

static struct tape *tape_pipe(void)
{
    int ends[2];

    if (pipe(ends) != 0)
        abort();
    return tape_new(ends[1], ends[0]);
}

static void tape_resize(struct tape *tape, unsigned columns, unsigned rows)
{
    struct winsize size;

    memset(&size, 0, sizeof size);
    size.ws_col = (unsigned short)columns;
    size.ws_row = (unsigned short)rows;
    ioctl(tape->in, TIOCSWINSZ, &size);
}

static struct tape *tape_terminal(unsigned columns, unsigned rows)
{
    int in = posix_openpt(O_RDWR | O_NOCTTY), out;
    struct tape *tape;

    if (in < 0 || grantpt(in) != 0 || unlockpt(in) != 0)
        abort();
    out = open(ptsname(in), O_RDWR | O_NOCTTY);
    if (out < 0)
        abort();
    tape = tape_new(out, in);
    tape_resize(tape, columns, rows);
    return tape;
}

/* Reads what there is; returns what is new. */
static const char *tape_read(struct tape *tape)
{
    size_t before = tape->length;
    ssize_t got;

    while (tape->length + 1 < sizeof tape->bytes &&
           (got = read(tape->in, tape->bytes + tape->length,
                       sizeof tape->bytes - 1 - tape->length)) > 0)
        tape->length += (size_t)got;
    tape->bytes[tape->length] = '\0';
    return tape->bytes + before;
}

static void tape_forget(struct tape *tape)
{
    tape_read(tape);
    tape->length = 0;
}

static bool tape_await(struct tape *tape, const char *text)
{
    twill_ns end = twill_now() + TWILL_SEC(100);

    while (!strstr((tape_read(tape), tape->bytes), text)) {
        if (twill_now() > end)
            return false;
        twill_sleep(twill_within(TWILL_MS(1)));
    }
    return true;
}

static struct term *tape_show(struct tape *tape, unsigned columns, unsigned rows)
{
    struct term *term = term_new(columns, rows);

    term->cooked = !isatty(tape->in); /* what a pipe held would be shown by a terminal's driver */
    tape_read(tape);
    term_feed(term, tape->bytes, tape->length);
    return term;
}

static twill_progress *make(twill_progress_options options)
{
    twill_progress *progress = NULL;

    CHECK_EQ(twill_progress_create(&progress, &options), TWILL_OK);
    if (!progress)
        abort();
    return progress;
}

static twill_progress_view view_of(const twill_progress *progress)
{
    twill_progress_view view;

    twill_progress_get_view(progress, &view);
    return view;
}

static void begin_threads(twill__thrd *threads, unsigned n, void (*fn)(void *), void *arg)
{
    for (unsigned i = 0; i < n; i++) {
        memset(&threads[i], 0, sizeof threads[i]);
        threads[i].fn = fn;
        threads[i].arg = arg;
        threads[i].cpu = UINT_MAX;
        if (!twill__thread_start(&threads[i]))
            abort();
    }
}

static void join_threads(twill__thrd *threads, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        twill__thread_join(&threads[i]);
}

/* What the tests of this process depend on. */
static void plain_environment(void)
{
    setenv("TERM", "xterm", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    unsetenv("NO_COLOR");
    unsetenv("COLUMNS");
    unsetenv("TWILL_PROGRESS");
}

/* ---- counting ---- */

TEST(every_kind_is_counted)
{
    twill_progress *progress =
        make((twill_progress_options){.total = 20, .style = TWILL_PROGRESS_SILENT});
    twill_progress_view view;

    twill_progress_add(progress, 13);
    twill_progress_add_failed(progress, 2);
    twill_progress_add_skipped(progress, 1);
    view = view_of(progress);
    CHECK_EQ(view.done, 13);
    CHECK_EQ(view.failed, 2);
    CHECK_EQ(view.skipped, 1);
    CHECK_EQ(view.total, 20);
    CHECK_EQ(view.percent, 80);
    CHECK(view.total_known && !view.finished && view.elapsed > 0);
    CHECK(view.label == NULL);
    twill_progress_add_skipped(progress, 4);
    CHECK_EQ(twill_progress_finish(progress, TWILL_CANCELLED), TWILL_OK);
    view = view_of(progress);
    CHECK_EQ(view.percent, 100);
    CHECK(view.finished && view.outcome == TWILL_CANCELLED && view.left == 0);
    twill_progress_add(progress, 1); /* counted, and no longer judged */
    CHECK_EQ(view_of(progress).done, 14);
    CHECK_EQ(twill_progress_destroy(progress), TWILL_OK);
}

TEST(no_progress_wanted)
{
    twill_progress_view view;

    twill_progress_add(NULL, 1);
    twill_progress_add_failed(NULL, 1);
    twill_progress_add_skipped(NULL, 1);
    twill_progress_set(NULL, 1);
    twill_progress_add_total(NULL, 1);
    twill_progress_draw(NULL);
    twill_progress_suspend(NULL);
    twill_progress_resume(NULL);
    twill_progress_get_view(NULL, &view);
    CHECK(view.done == 0 && view.percent == -1 && view.left == -1);
    CHECK_EQ(twill_progress_set_label(NULL, "x"), TWILL_OK);
    CHECK_EQ(twill_progress_log(NULL, "%d", 1), 0);
    CHECK_EQ(twill_progress_finish(NULL, TWILL_OK), TWILL_OK);
    CHECK_EQ(twill_progress_destroy(NULL), TWILL_OK);
    CHECK_EQ(twill_progress_create(NULL, NULL), TWILL_INVALID);
}

TEST(options_are_checked)
{
    twill_progress *root = make((twill_progress_options){.style = TWILL_PROGRESS_SILENT});
    twill_progress *progress = root;
    twill_progress_options wrong[] = {
        {.fd = -1},
        {.interval = -1},
        {.quiet_for = -1},
        {.memory = -1},
        {.total = 1, .total_is_zero = true},
        {.weight = 1},
        {.style = (twill_progress_style)6},
        {.draw_by = (twill_progress_draw_by)4},
        {.unit = (twill_progress_unit)3},
        {.draw_by = TWILL_PROGRESS_EACH, .interval = 1},
        {.context = &progress},
        {.parent = root, .style = TWILL_PROGRESS_BAR},
        {.parent = root, .draw_by = TWILL_PROGRESS_EACH},
        {.parent = root, .fd = 1},
        {.parent = root, .interval = 1},
        {.parent = root, .ascii = true},
        {.parent = root, .no_color = true},
        {.parent = root, .accessible = true},
        {.parent = root, .width = 10},
    };

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        progress = root;
        CHECK_EQ(twill_progress_create(&progress, &wrong[i]), TWILL_INVALID);
        CHECK(progress == NULL);
    }
    twill_progress_finish(root, TWILL_OK);
    CHECK_EQ(twill_progress_create(&progress, &(twill_progress_options){.parent = root}),
             TWILL_CLOSED);
    CHECK(progress == NULL);
    twill_progress_destroy(root);
}

/* D21: 199 of 200 are 99 %. */
TEST(percent_is_rounded_down)
{
    uint64_t rest;

    CHECK_EQ(twill__tally_percent(199, 200), 99);
    CHECK_EQ(twill__tally_percent(200, 200), 100);
    CHECK_EQ(twill__tally_percent(201, 200), 100);
    CHECK_EQ(twill__tally_percent(0, 0), 100);
    CHECK_EQ(twill__tally_percent(UINT64_MAX - 1, UINT64_MAX), 99);
    CHECK_EQ(twill__tally_percent(UINT64_MAX / 100, UINT64_MAX), 0);
    CHECK_EQ(twill__tally_percent((UINT64_C(1) << 40) - 1, UINT64_C(1) << 40), 99);
#ifdef __SIZEOF_INT128__
    __extension__ typedef unsigned __int128 wide;
    for (int i = 0; i < 20000; i++) {
        uint64_t c = (test_random() >> test_random_below(64)) | 1;
        uint64_t a = test_random_below(c), b = test_random() >> test_random_below(64);
        uint64_t share = twill__tally_share(a, b, c, &rest);
        if (share != (uint64_t)((wide)a * b / c) || rest != (uint64_t)((wide)a * b % c) ||
            twill__tally_percent(a, c) != (int)((wide)a * 100 / c))
            CHECK_EQ(a, c);
    }
#endif
    CHECK(twill__tally_share(7, UINT64_MAX, 9, &rest) == UINT64_C(14347467612885206811) &&
          rest == 6);
}

TEST(totals_unknown_empty_and_growing)
{
    twill_progress *progress = make((twill_progress_options){.style = TWILL_PROGRESS_SILENT});

    twill_progress_add(progress, 5);
    CHECK(!view_of(progress).total_known && view_of(progress).percent == -1);
    twill_progress_add_total(progress, 8);
    CHECK(view_of(progress).total_known);
    CHECK_EQ(view_of(progress).percent, 62);
    twill_progress_add_total(progress, 12);
    CHECK_EQ(view_of(progress).percent, 25);
    twill_progress_add_total(progress, UINT64_MAX - 5);
    CHECK_EQ(view_of(progress).total, UINT64_MAX);
    CHECK_EQ(twill_progress_destroy(progress), TWILL_OK);

    progress =
        make((twill_progress_options){.style = TWILL_PROGRESS_SILENT, .total_is_zero = true});
    CHECK_EQ(view_of(progress).percent, 100);
    twill_progress_add_total(progress, 3);
    CHECK_EQ(view_of(progress).percent, 0);
    twill_progress_destroy(progress);
}

TEST(more_than_the_total_is_said_once)
{
    twill_progress *progress =
        make((twill_progress_options){.total = 10, .style = TWILL_PROGRESS_SILENT});

    twill_progress_add(progress, 11);
    CHECK_EQ(view_of(progress).percent, 100);
    CHECK_EQ(view_of(progress).done, 11);
    CHECK_EQ(twill_progress_finish(progress, TWILL_OK), TWILL_INVALID);
    CHECK_EQ(twill_progress_finish(progress, TWILL_OK), TWILL_OK);
    CHECK_EQ(twill_progress_destroy(progress), TWILL_OK);
    progress = make((twill_progress_options){.total = 10, .style = TWILL_PROGRESS_SILENT});
    twill_progress_set(progress, 11);
    CHECK_EQ(twill_progress_destroy(progress), TWILL_INVALID);
}

TEST(set_is_absolute)
{
    twill_progress *progress =
        make((twill_progress_options){.total = 1000, .style = TWILL_PROGRESS_SILENT});

    twill_progress_add(progress, 7);
    twill_progress_set(progress, 500);
    CHECK_EQ(view_of(progress).done, 500);
    twill_progress_add(progress, 1);
    CHECK_EQ(view_of(progress).done, 501);
    twill_progress_set(progress, 0);
    CHECK_EQ(view_of(progress).done, 0);
    twill_progress_add_failed(progress, 2);
    twill_progress_set(progress, 3);
    CHECK(view_of(progress).done == 3 && view_of(progress).failed == 2);
    twill_progress_destroy(progress);
}

struct race {
    twill_progress *progress;
    atomic_ulong begun, ended; /* additions */
    unsigned each;
    atomic_bool stop;
};

static void race_add(void *race_)
{
    struct race *race = race_;

    for (unsigned i = 0; i < race->each; i++) {
        atomic_fetch_add(&race->begun, 1);
        twill_progress_add(race->progress, 1);
        atomic_fetch_add(&race->ended, 1);
    }
}

/* An addition is replaced by the set or comes on top of it: never both, never neither. */
TEST(set_against_add)
{
    for (int round = 0; round < 40 / SLOW; round++) {
        struct race race = {.each = 2000};
        twill__thrd threads[3];
        unsigned long before = 0, after = 0, all;
        uint64_t on_top;

        race.progress = make((twill_progress_options){.style = TWILL_PROGRESS_SILENT});
        begin_threads(threads, 3, race_add, &race);
        for (int i = 0; i < 30; i++) {
            before = atomic_load(&race.ended);
            twill_progress_set(race.progress, 1000000);
            after = atomic_load(&race.begun);
            CHECK(view_of(race.progress).done >= 1000000);
        }
        join_threads(threads, 3);
        all = atomic_load(&race.ended);
        on_top = view_of(race.progress).done - 1000000;
        CHECK(on_top <= all - before && on_top >= all - after);
        twill_progress_destroy(race.progress);
    }
}

TEST(many_threads_lose_nothing)
{
    struct race race = {.each = 20000 / SLOW};
    twill__thrd threads[20]; /* more than cells */

    race.progress = make((twill_progress_options){.style = TWILL_PROGRESS_SILENT});
    begin_threads(threads, 20, race_add, &race);
    join_threads(threads, 20);
    CHECK_EQ(view_of(race.progress).done, 20u * race.each);
    twill_progress_destroy(race.progress);
}

/* ---- text ---- */

static const char *amount(uint64_t n, unsigned step, const char *name)
{
    static char buffer[64];
    twill__print text = {buffer, sizeof buffer - 1, 0, 0};
    twill__print_unit unit = {step, name};

    twill__print_amount(&text, n, &unit, true, true);
    buffer[text.length] = '\0';
    CHECK_EQ(text.cells, text.length);
    return buffer;
}

TEST(numbers_in_every_unit)
{
    CHECK_STR(amount(0, 0, ""), "0");
    CHECK_STR(amount(UINT64_MAX, 0, ""), "18446744073709551615");
    CHECK_STR(amount(7, 0, "files"), "7 files");
    CHECK_STR(amount(0, 1024, "B"), "0 B");
    CHECK_STR(amount(1023, 1024, "B"), "1023 B");
    CHECK_STR(amount(1024, 1024, "B"), "1.00 KiB");
    CHECK_STR(amount(10239, 1024, "B"), "9.99 KiB");
    CHECK_STR(amount(10240, 1024, "B"), "10.0 KiB");
    CHECK_STR(amount(102399, 1024, "B"), "99.9 KiB");
    CHECK_STR(amount(1048575, 1024, "B"), "1023 KiB"); /* never 1.00 MiB: rounded down */
    CHECK_STR(amount(1048576, 1024, "B"), "1.00 MiB");
    CHECK_STR(amount(UINT64_C(1) << 60, 1024, "B"), "1.00 EiB");
    CHECK_STR(amount(UINT64_MAX, 1024, "B"), "15.9 EiB");
    CHECK_STR(amount(999, 1000, "B"), "999 B");
    CHECK_STR(amount(1000, 1000, "B"), "1.00 kB");
    CHECK_STR(amount(999999, 1000, "B"), "999 kB");
    CHECK_STR(amount(1050000, 1000, "B"), "1.05 MB");
    CHECK_STR(amount(UINT64_MAX, 1000, "B"), "18.4 EB");
    CHECK_STR(amount(123456, 1000, "H"), "123 kH");
}

static const char *time_text(twill_ns time, bool tenths)
{
    static char buffer[64];
    twill__print text = {buffer, sizeof buffer - 1, 0, 0};

    twill__print_time(&text, time, tenths);
    buffer[text.length] = '\0';
    return buffer;
}

TEST(times_are_rounded)
{
    CHECK_STR(time_text(0, false), "0 s");
    CHECK_STR(time_text(TWILL_MS(59999), false), "59 s");
    CHECK_STR(time_text(TWILL_SEC(60), false), "1 min 00 s");
    CHECK_STR(time_text(TWILL_SEC(69), false), "1 min 05 s");
    CHECK_STR(time_text(TWILL_SEC(3599), false), "59 min 55 s");
    CHECK_STR(time_text(TWILL_SEC(3600), false), "1 h 00 min");
    CHECK_STR(time_text(TWILL_SEC(7759), false), "2 h 09 min");
    CHECK_STR(time_text(INT64_MAX, false), "2562047 h 47 min");
    CHECK_STR(time_text(TWILL_MS(450), true), "0.4 s");
    CHECK_STR(time_text(TWILL_MS(12345), true), "12 s");
    CHECK_STR(time_text(-1, true), "0 s");
}

static const char *rate_text(double rate, unsigned step, const char *name)
{
    static char buffer[64];
    twill__print text = {buffer, sizeof buffer - 1, 0, 0};
    twill__print_unit unit = {step, name};

    twill__print_rate(&text, rate, &unit, true);
    buffer[text.length] = '\0';
    return buffer;
}

TEST(rates)
{
    CHECK_STR(rate_text(0.25, 0, ""), "0.25/s");
    CHECK_STR(rate_text(36.84, 0, "files"), "36.8 files/s");
    CHECK_STR(rate_text(100.4, 0, ""), "100/s");
    CHECK_STR(rate_text(1e300, 0, ""), "18446744073709551615/s");
    CHECK_STR(rate_text(2048, 1024, "B"), "2.00 KiB/s");
}

static const char *label_text(const char *label, unsigned limit, bool ascii, unsigned *cells)
{
    static char buffer[1100];
    twill__print text = {buffer, sizeof buffer - 1, 0, 0};

    twill__print_label(&text, label, limit, ascii);
    buffer[text.length] = '\0';
    *cells = text.cells;
    return buffer;
}

/* What follows the numbers, row by row. */
TEST(words_behind_the_numbers)
{
    const struct {
        uint64_t seen;
        twill_progress_view view;
        const char *says;
    } row[] = {
        {1, {.left = -1}, ""},
        {1, {.left = 0, .elapsed = TWILL_SEC(9)}, ""}, /* no total */
        {50, {.total = 100, .left = TWILL_MS(2500), .elapsed = TWILL_SEC(1)}, ""},
        {50, {.total = 100, .left = TWILL_MS(2500), .elapsed = TWILL_SEC(2)}, ", 3 s left"},
        {1, {.total = 1000, .left = 5, .elapsed = TWILL_SEC(2)}, ""}, /* a guess */
        {9, {.total = 100, .left = 5, .elapsed = TWILL_SEC(2)}, ", 1 s left"},
        {9, {.total = 5, .left = 0, .elapsed = TWILL_SEC(2)}, ""},
        {10, {.total = 1000000, .left = 0, .elapsed = TWILL_SEC(2)}, ", 0 s left"},
        {10, {.total = 20, .left = INT64_MAX, .elapsed = TWILL_SEC(2)}, ", 2562047 h 47 min left"},
        {10,
         {.total = 20, .left = 5, .elapsed = TWILL_SEC(2), .stalled = TWILL_SEC(61)},
         ", stalled 1 min 00 s"},
        {3, {.failed = 1, .left = -1}, ", 1 failed"},
        {3, {.skipped = 2, .left = -1}, ", 2 skipped"},
        {3, {.failed = 1, .skipped = 2, .left = -1}, ", 1 failed, 2 skipped"},
        {3, {.finished = true, .elapsed = TWILL_SEC(70)}, ", 1 min 10 s"},
        {3, {.finished = true, .outcome = TWILL_TIMEOUT}, ", 0.0 s, timed out"},
        {3, {.finished = true, .outcome = TWILL_CANCELLED}, ", 0.0 s, cancelled"},
    };
    twill_progress *progress =
        make((twill_progress_options){.label = "W", .style = TWILL_PROGRESS_SILENT, .ascii = true});
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        char buffer[512], expected[128];
        twill__print text = {buffer, sizeof buffer - 1, 0, 0};
        twill_progress_view view = row[k].view;
        view.percent = -1;
        progress->seen[TWILL__TALLY_DONE] = row[k].seen;
        twill__progress_line_plain(&text, progress->screen, progress, &view);
        buffer[text.length] = '\0';
        snprintf(expected, sizeof expected, "W: %d%s", (int)row[k].seen, row[k].says);
        CHECK_STR(buffer, expected);
    }
    CHECK_STR(twill__progress_outcome(TWILL_LOST), twill_status_text(TWILL_LOST));
    progress->seen[TWILL__TALLY_DONE] = 0;
    twill_progress_destroy(progress);
}

TEST(json_has_units_and_bounded_rates)
{
    twill_progress *progress = make((twill_progress_options){
        .label = "W", .style = TWILL_PROGRESS_SILENT, .unit = TWILL_UNIT_BYTES_SI});
    char buffer[512];
    twill__print text = {buffer, sizeof buffer - 1, 0, 0};
    twill_progress_view view = {.percent = -1, .left = -1, .rate = 1e300};
    twill__progress_line_json(&text, progress, &view);
    buffer[text.length] = '\0';
    CHECK(strstr(buffer, "\"rate\": 1000000000000000.000") != NULL);
    CHECK(strstr(buffer, "\"unit\": \"B\"") != NULL);
    twill_progress_destroy(progress);
}

/* What does not fit is left away. */
TEST(text_stays_in_its_buffer)
{
    char buffer[8] = "-------";
    twill__print text = {buffer, 4, 0, 0};
    twill__print_ascii(&text, "abc");
    twill__print_ascii(&text, "defg");
    twill__print_ascii(&text, "h");
    CHECK_EQ(text.length, 4);
    CHECK_STR(buffer, "abcd---");
}

TEST(what_is_a_control_character)
{
    const uint32_t in[][2] = {{0, 0x1f},        {0x7f, 0x9f},     {0xad, 0xad},
                              {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f},
                              {0xfeff, 0xfeff}, {0xfff0, 0xfffb}, {0xfffd, 0xfffd}};
    for (size_t k = 0; k < sizeof in / sizeof in[0]; k++) {
        CHECK(twill__print_control(in[k][0]) && twill__print_control(in[k][1]));
        CHECK(!twill__print_control(in[k][1] + 1));
        CHECK(k == 0 || !twill__print_control(in[k][0] - 1));
    }
}

TEST(labels_cannot_break_the_line)
{
    unsigned cells;

    CHECK_STR(label_text("a\rb\nc\x1b[2Jd\x7f", 80, false, &cells), "a?b?c?[2Jd?");
    CHECK_EQ(cells, 11);
    CHECK_STR(label_text("caf\xc3\xa9", 80, false, &cells), "caf\xc3\xa9");
    CHECK_EQ(cells, 4);
    CHECK_STR(label_text("caf\xc3\xa9", 80, true, &cells), "caf?");
    CHECK_STR(label_text("\xe6\xbc\xa2\xe5\xad\x97", 80, false, &cells),
              "\xe6\xbc\xa2\xe5\xad\x97"); /* two wide characters */
    CHECK_EQ(cells, 4);
    CHECK_STR(label_text("\xe6\xbc\xa2\xe5\xad\x97", 3, false, &cells), "\xe6\xbc\xa2\xe2\x80\xa6");
    CHECK_EQ(cells, 3);
    CHECK_STR(label_text("e\xcc\x81t", 80, false, &cells), "e\xcc\x81t"); /* a combining mark */
    CHECK_EQ(cells, 2);
    CHECK_STR(label_text("\xff\xc0\xaf\xed\xa0\x80", 80, false, &cells), "??????");
    CHECK_STR(label_text("\xe2\x80\xae\xc2\x9b", 80, false, &cells), "??"); /* bidi, C1 */
    CHECK_STR(label_text("\xe6\xbc", 80, false, &cells), "??");             /* cut in the middle */
    CHECK_STR(label_text("abcdef", 4, true, &cells), "abc~");
    CHECK_STR(label_text("abcdef", 1, true, &cells), "~");
    CHECK_STR(label_text("abcdef", 0, true, &cells), "");
    CHECK_EQ(cells, 0);
}

TEST(labels_are_copied_and_cut_between_characters)
{
    char label[600], cut[TWILL__PROGRESS_LABEL];
    twill_progress *progress = make((twill_progress_options){.style = TWILL_PROGRESS_SILENT});

    for (size_t i = 0; i + 2 < sizeof label; i += 2)
        memcpy(label + i, "\xc3\xa9", 3);
    twill__print_cut(cut, sizeof cut, label);
    CHECK_EQ(strlen(cut), 254);
    CHECK_EQ(twill_progress_set_label(progress, label), TWILL_OK);
    memset(label, 'x', sizeof label);
    CHECK_STR(progress->label, cut);
    CHECK_EQ(twill_progress_set_label(progress, NULL), TWILL_OK);
    CHECK_STR(progress->label, "Progress");
    twill_progress_destroy(progress);
}

/* ---- rate and time left, in virtual time ---- */

/* Arrivals at `at[i]`; ticks of `tick`. Mean error of the time left, in % of the true one, from
   5 % of the work on. */
static double estimate_error(const twill_ns *at, unsigned n, twill_ns tick)
{
    twill__speed speed;
    double sum = 0;
    unsigned samples = 0, seen = 0;

    twill__speed_start(&speed, TWILL_SEC(15), 1, 0);
    for (twill_ns now = 1 + tick; seen < n; now += tick) {
        while (seen < n && at[seen] <= now)
            seen++;
        twill__speed_tick(&speed, now, seen);
        if (seen * 20 >= n && seen < n) {
            double left = (double)twill__speed_left(&speed, n), truth = (double)(at[n - 1] - now);
            double error = left > truth ? left - truth : truth - left;
            if (truth < 1e9)
                continue;
            sum += error / truth;
            samples++;
        }
    }
    return samples ? 100 * sum / samples : 0;
}

static double uniform(void)
{
    return (double)(test_random() >> 11) / 9007199254740992.0;
}

static twill_ns trace[6000];

/* n arrivals, gaps of `mean` on average, spread evenly from 0 to twice that. */
static twill_ns arrivals(unsigned from, unsigned n, twill_ns start, double mean)
{
    for (unsigned i = from; i < from + n; i++)
        trace[i] = start += (twill_ns)(2 * mean * uniform()) + 1;
    return start;
}

TEST(a_steady_rate_is_known_from_the_first_sample_on)
{
    twill__speed speed;

    twill__speed_start(&speed, TWILL_SEC(15), 1, 0);
    CHECK(twill__speed_now(&speed, 20) == 0 && twill__speed_left(&speed, 20) == -1);
    twill__speed_tick(&speed, 1 + TWILL_MS(100), 5); /* 5 of 20 in 0.1 s: 0.3 s are left */
    CHECK_EQ((twill__speed_left(&speed, 20) + 500000) / 1000000, 300);
    for (int tick = 1; tick <= 3; tick++) { /* however long the ticks are */
        twill__speed_start(&speed, TWILL_SEC(15), 1, 0);
        for (uint64_t i = 1; i < 100; i++) {
            double left;
            twill__speed_tick(&speed, 1 + (twill_ns)i * tick * TWILL_MS(170),
                              i * 170 * (uint64_t)tick);
            left = (double)twill__speed_left(&speed, 100000) / 1e6;
            if (left < (double)(100000 - i * 170 * (uint64_t)tick) * 0.999999 ||
                left > (double)(100000 - i * 170 * (uint64_t)tick) * 1.000001)
                CHECK_EQ(i, 0); /* the error of a constant rate is 0 */
        }
    }
    CHECK(twill__speed_tenth_power(0) == 1);
    CHECK(twill__speed_tenth_power(1) > 0.0999999999 && twill__speed_tenth_power(1) < 0.1000000001);
    CHECK(twill__speed_tenth_power(2.5) > 0.0031622776 &&
          twill__speed_tenth_power(2.5) < 0.0031622777);
    CHECK(twill__speed_tenth_power(1e9) == 0);
}

TEST(estimates_on_fresh_traces)
{
    double worst_even = 0, sum_stall = 0, sum_burst = 0, sum_faster = 0;

    for (int round = 0; round < 20; round++) {
        double mean = 2e7 * (1 + 9 * uniform()), error;
        twill_ns at = 1;
        arrivals(0, 1000, 1, mean);
        error = estimate_error(trace, 1000, TWILL_MS(100));
        worst_even = error > worst_even ? error : worst_even;
        at = arrivals(0, 400, 1, mean); /* one long stall in the middle */
        arrivals(400, 600, at + (twill_ns)(mean * 400), mean);
        sum_stall += estimate_error(trace, 1000, TWILL_MS(100));
        at = 1; /* bursts of 50, then a pause */
        for (unsigned burst = 0; burst < 20; burst++)
            at = arrivals(burst * 50, 50, at + (twill_ns)(mean * 30 * (0.5 + uniform())), mean / 4);
        sum_burst += estimate_error(trace, 1000, TWILL_MS(100));
        at = arrivals(0, 500, 1, mean); /* twice as fast from the middle on */
        arrivals(500, 500, at, mean / 2);
        sum_faster += estimate_error(trace, 1000, TWILL_MS(100));
    }
    CHECK(worst_even < 30);
    CHECK(sum_stall / 20 < 40);
    CHECK(sum_burst / 20 < 60);
    CHECK(sum_faster / 20 < 60);
    if (harness_verbose)
        harness_say("even %.0f (worst), stall %.0f, bursts %.0f, faster %.0f %%\n", worst_even,
                    sum_stall / 20, sum_burst / 20, sum_faster / 20);
}

TEST(a_stall_is_told_and_left_out_a_second_one_counts)
{
    twill__speed speed;
    twill_ns now = 1, left;
    uint64_t count = 0;

    twill__speed_start(&speed, TWILL_SEC(15), now, 0);
    for (int i = 0; i < 100; i++)
        twill__speed_tick(&speed, now += TWILL_MS(100), count += 10); /* 100 a second */
    left = twill__speed_left(&speed, 4000);
    for (int i = 0; i < 15; i++)
        twill__speed_tick(&speed, now += TWILL_MS(100), count);
    CHECK_EQ(twill__speed_stalled(&speed, now), 0); /* 1.5 s is nothing unusual */
    for (int i = 0; i < 285; i++)
        twill__speed_tick(&speed, now += TWILL_MS(100), count);
    CHECK_EQ(twill__speed_stalled(&speed, now), TWILL_SEC(30));
    CHECK_EQ(twill__speed_left(&speed, 4000), left); /* stands still */
    twill__speed_tick(&speed, now += TWILL_MS(100), count += 10);
    CHECK_EQ(twill__speed_stalled(&speed, now), 0);
    CHECK(twill__speed_now(&speed, 4000) > 99.9 && twill__speed_now(&speed, 4000) < 100.1);
    for (int i = 0; i < 300; i++)
        twill__speed_tick(&speed, now += TWILL_MS(100), count);
    twill__speed_tick(&speed, now += TWILL_MS(100), count += 10);
    CHECK(twill__speed_now(&speed, 4000) < 50); /* now both count: 1020 in 70 s, on the whole */
    CHECK_EQ(speed.active, now - 1);
}

/* Patience is three times the longest gap that counted, however short those after it were; and what
   a clock shows that stands still or goes back counts for nothing. */
TEST(the_longest_gap_is_kept)
{
    twill__speed speed, copy;
    twill_ns at = 1;

    twill__speed_start(&speed, TWILL_SEC(15), at, 0);
    twill__speed_tick(&speed, at += TWILL_SEC(1), 10);
    for (int part = 0; part < 4; part++) /* a gap of 1.5 s that ticks see pass */
        twill__speed_tick(&speed, at += TWILL_MS(500), part < 3 ? 10 : 20);
    CHECK_EQ(speed.longest, TWILL_MS(1500));
    for (int part = 0; part < 2; part++)
        twill__speed_tick(&speed, at += TWILL_MS(100), part < 1 ? 20 : 30);
    CHECK_EQ(speed.longest, TWILL_MS(1500));
    CHECK_EQ(twill__speed_patience(&speed), TWILL_MS(4500));
    copy = speed;
    twill__speed_tick(&speed, at, 40);
    twill__speed_tick(&speed, at - TWILL_MS(50), 40);
    CHECK(memcmp(&speed, &copy, sizeof speed) == 0);
    twill__speed_tick(&speed, at + TWILL_MS(100), 40);
    CHECK(twill__speed_now(&speed, 0) > 0 && speed.active > copy.active);
}

TEST(slow_first_items_are_no_stall)
{
    twill__speed speed;
    twill_ns now = 1;

    twill__speed_start(&speed, TWILL_SEC(15), now, 0);
    for (int i = 0; i < 100; i++)
        twill__speed_tick(&speed, now += TWILL_MS(100), 0);
    CHECK_EQ(twill__speed_stalled(&speed, now), 0);
    twill__speed_tick(&speed, now, 0);
    twill__speed_tick(&speed, now += TWILL_MS(100), 1); /* one in 10.1 s */
    CHECK(twill__speed_left(&speed, 11) > TWILL_SEC(100) &&
          twill__speed_left(&speed, 11) < TWILL_SEC(102));
}

TEST(going_back_starts_the_rate_anew)
{
    twill__speed speed;
    twill_ns now = 1;

    twill__speed_start(&speed, TWILL_SEC(15), now, 0);
    twill__speed_tick(&speed, now += TWILL_SEC(1), 1000);
    twill__speed_tick(&speed, now += TWILL_SEC(1), 100);
    CHECK(twill__speed_now(&speed, 2000) == 0);
    twill__speed_tick(&speed, now += TWILL_SEC(1), 110);
    CHECK(twill__speed_now(&speed, 2000) > 9.99 && twill__speed_now(&speed, 2000) < 10.01);
}

/* What no double or no clock can say is not said: a rate in no time, a part of for ever. */
TEST(rates_at_the_edge)
{
    twill_progress *progress = make((twill_progress_options){.style = TWILL_PROGRESS_SILENT});
    twill__speed rate;

    twill__speed_start(&rate, TWILL_FOREVER, 1000, 0);
    twill__speed_tick(&rate, 1001, 1); /* a nanosecond would weigh nothing in that memory */
    CHECK(twill__speed_now(&rate, 0) > 9e8);
    twill__speed_tick(&rate, 1000 + TWILL_SEC(1), 100);
    CHECK(twill__speed_now(&rate, 0) > 90 && twill__speed_now(&rate, 0) < 110);
    twill__speed_start(&rate, TWILL_SEC(1), 0, 0);
    twill__speed_tick(&rate, TWILL_SEC(1), 1);
    CHECK_EQ(twill__speed_left(&rate, UINT64_MAX), INT64_MAX);
    twill_progress_add(progress, 5);
    twill_progress_finish(progress, TWILL_OK);
    progress->ended = progress->created; /* as on a clock that is coarse */
    CHECK(view_of(progress).rate == 0 && view_of(progress).elapsed == 0);
    twill_progress_destroy(progress);
}

TEST(a_first_set_is_where_an_earlier_run_left_off)
{
    twill_progress *progress =
        make((twill_progress_options){.total = 2000000, .style = TWILL_PROGRESS_SILENT});

    twill_progress_set(progress, 1000000);
    twill_sleep(twill_within(TWILL_MS(20)));
    CHECK(view_of(progress).rate == 0);
    twill_progress_add(progress, 100);
    twill_sleep(twill_within(TWILL_MS(20)));
    CHECK(view_of(progress).rate > 0 && view_of(progress).rate < 100 / 0.02);
    twill_progress_set(progress, 1000200); /* forward: progress */
    twill_sleep(twill_within(TWILL_MS(20)));
    CHECK(view_of(progress).rate > 0);
    twill_progress_destroy(progress);
    progress = make((twill_progress_options){.total = 2000000, .style = TWILL_PROGRESS_SILENT});
    twill_progress_set(progress, 1000000);
    twill_progress_add(progress, 1); /* all before anybody has looked */
    twill_progress_finish(progress, TWILL_OK);
    CHECK(view_of(progress).rate == 0);
    CHECK_EQ(view_of(progress).done, 1000001);
    twill_progress_destroy(progress);
}

/* ---- pipes and files: every byte ---- */

static void add_four(void *progress)
{
    for (int i = 0; i < 4; i++)
        twill_progress_add(progress, 1);
}

static const char *twenty(void)
{
    static char text[2000];
    char *to = text;

    for (int i = 1; i <= 20; i++)
        to += sprintf(to, "\rProgress: %d/20 (%d%%)", i, 5 * i);
    sprintf(to, "\n");
    return text;
}

static void nap(const twill_progress_view *view, const twill_task *task)
{
    (void)view;
    (void)task;
    twill_sleep(twill_within(TWILL_US(300)));
}

/* Exercise 2: 20 redraws in order, by 5 threads that get in each other's way, and one line feed. */
TEST(each_update_is_drawn_in_order)
{
    struct tape *tape = tape_pipe();
    twill_progress *progress = make((twill_progress_options){.total = 20,
                                                             .style = TWILL_PROGRESS_COUNTER,
                                                             .draw_by = TWILL_PROGRESS_EACH,
                                                             .on_view = nap,
                                                             .fd = tape->out});
    twill__thrd threads[5];

    begin_threads(threads, 5, add_four, progress);
    join_threads(threads, 5);
    CHECK_EQ(twill_progress_finish(progress, TWILL_OK), TWILL_OK);
    CHECK_EQ(twill_progress_destroy(progress), TWILL_OK);
    tape_read(tape);
    CHECK_STR(tape->bytes, twenty());
    tape_close(tape);
}

/* D20: failures count, so the end is reached; the text of an outcome follows the numbers. */
TEST(a_counter_counts_failures_and_names_the_outcome)
{
    struct tape *tape = tape_pipe();
    twill_progress *progress = make((twill_progress_options){.total = 3,
                                                             .label = "Work",
                                                             .style = TWILL_PROGRESS_COUNTER,
                                                             .draw_by = TWILL_PROGRESS_EACH,
                                                             .fd = tape->out});

    twill_progress_add(progress, 1);
    twill_progress_add_failed(progress, 1);
    CHECK_EQ(twill_progress_log(progress, "%s", "one line"), 8);
    twill_progress_add_skipped(progress, 1);
    twill_progress_set(progress, 0);
    twill_progress_finish(progress, TWILL_FAILED);
    twill_progress_destroy(progress);
    tape_read(tape);
    CHECK_STR(tape->bytes, "\rWork: 1/3 (33%)\rWork: 2/3 (66%)\none line\n\rWork: 2/3 (66%)"
                           "\rWork: 3/3 (100%)\rWork: 2/3 (66%) \rWork: 2/3 (66%) failed\n");
    tape_close(tape);
}

/* Nothing wraps: a label gives way to the numbers, and these to the width. */
TEST(a_counter_on_a_terminal)
{
    for (unsigned width = 12; width <= 40; width += 28) {
        struct tape *tape = tape_terminal(width, 24);
        struct term *term;

        plain_environment();
        twill_progress *progress = make((twill_progress_options){.total = 20,
                                                                 .label = "A rather long label",
                                                                 .style = TWILL_PROGRESS_COUNTER,
                                                                 .draw_by = TWILL_PROGRESS_EACH,
                                                                 .fd = tape->out});
        twill_progress_add(progress, 5);
        CHECK_EQ(twill_progress_log(progress, "a line"), 6);
        twill_progress_suspend(progress);
        CHECK(write(tape->out, "between\n", 8) == 8);
        twill_progress_resume(progress);
        twill_progress_add(progress, 5);
        twill_progress_finish(progress, TWILL_OK);
        twill_progress_destroy(progress);
        term = tape_show(tape, width, 24);
        CHECK_EQ(term->unknown, 0);
        CHECK(width == 12 || term->wraps == 0);
        if (width == 40) {
            CHECK_STR(term_line(term, 0), "a line");
            CHECK_STR(term_line(term, 1), "between");
            CHECK_STR(term_line(term, 2), "A rather long label: 10/20 (50%)");
            CHECK_EQ(term->row, 3);
        }
        free(term);
        tape_close(tape);
    }
}

/* A log line before the first frame has nothing to move out of the way; while a counter is
   suspended it is not drawn. */
TEST(a_counter_that_has_shown_nothing)
{
    struct tape *tape = tape_pipe();
    twill_progress *progress = make((twill_progress_options){.total = 3,
                                                             .label = "Work",
                                                             .style = TWILL_PROGRESS_COUNTER,
                                                             .draw_by = TWILL_PROGRESS_EACH,
                                                             .fd = tape->out});

    CHECK_EQ(twill_progress_log(progress, "first"), 5);
    CHECK_STR(tape_read(tape), "first\n");
    twill_progress_suspend(progress);
    twill_progress_add(progress, 1);
    CHECK_STR(tape_read(tape), "");
    twill_progress_resume(progress);
    twill_progress_add(progress, 1);
    CHECK_STR(tape_read(tape), "\rWork: 2/3 (66%)");
    twill_progress_destroy(progress);
    tape_close(tape);
}

/* The end of a child is the counter's turn too, if anything is shown of it yet. */
TEST(a_counter_counts_a_child_that_ends)
{
    struct tape *tape = tape_pipe();
    twill_progress *root = make((twill_progress_options){.total = 3,
                                                         .label = "Work",
                                                         .style = TWILL_PROGRESS_COUNTER,
                                                         .draw_by = TWILL_PROGRESS_BY_CALL,
                                                         .fd = tape->out});

    for (int shown = 0; shown < 2; shown++) {
        twill_progress *child =
            make((twill_progress_options){.total = 1, .parent = root, .weight = 1});
        if (shown)
            twill_progress_draw(root);
        twill_progress_add(child, 1);
        CHECK_EQ(twill_progress_destroy(child), TWILL_OK);
        CHECK_STR(tape_read(tape), shown ? "\rWork: 1/3 (33%)\rWork: 2/3 (66%)" : "");
    }
    twill_progress_destroy(root);
    tape_close(tape);
}

TEST(log_has_a_format)
{
    struct tape *tape = tape_pipe();
    twill_progress *progress = make((twill_progress_options){
        .style = TWILL_PROGRESS_JSON, .fd = tape->out, .draw_by = TWILL_PROGRESS_BY_CALL});
    char large[3000];

    memset(large, '"', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    CHECK_EQ(twill_progress_log(NULL, "%d", 1), 0);
    CHECK_EQ(twill_progress_log(progress, NULL), -1);
    CHECK_EQ(twill_progress_log(progress, "%ls", L"\x7fffffff"), -1); /* no such character */
    CHECK_EQ(tape_read(tape)[0], '\0');
    CHECK_EQ(twill_progress_log(progress, "%s", large), (int)sizeof large - 1); /* all escaped */
    tape_read(tape);
    CHECK(tape->length > 2 * (sizeof large - 1));
    CHECK_EQ(twill_progress_log(progress, "as for %s\n", "printf"), 14);
    CHECK_STR(tape_read(tape), "{\"log\": \"as for printf\"}\n");
    twill_progress_destroy(progress);
    tape_close(tape);
}

/* D19: whoever updates does not write; the last state is always drawn. */
TEST(lines_have_no_control_characters)
{
    struct tape *tape = tape_pipe();
    twill_progress *progress = make((twill_progress_options){
        .total = 1000, .label = "W\tork", .fd = tape->out, .interval = TWILL_MS(1)});
    for (int i = 0; i < 30; i++)
        twill_progress_add_failed(progress, 1), twill_sleep(twill_within(TWILL_MS(1)));
    twill_progress_set(progress, 700);
    twill_progress_finish(progress, TWILL_CANCELLED);
    twill_progress_destroy(progress);
    tape_read(tape);
    CHECK(strncmp(tape->bytes, "W?ork: ", 7) == 0);
    CHECK(strstr(tape->bytes, " failed") != NULL);
    CHECK(strcmp(tape->bytes + tape->length - 11, " cancelled\n") == 0);
    CHECK(strstr(tape->bytes, "W?ork: 7") != NULL);
    for (size_t i = 0; i < tape->length; i++)
        if ((tape->bytes[i] < ' ' && tape->bytes[i] != '\n') || tape->bytes[i] > '~')
            CHECK_EQ(tape->bytes[i], ' ');
    tape_close(tape);
}

static twill_progress_style style_on(int fd)
{
    twill_progress *progress = make((twill_progress_options){
        .fd = fd, .draw_by = TWILL_PROGRESS_BY_CALL, .quiet_for = TWILL_SEC(100)});
    twill_progress_style style = progress->screen->style;

    twill_progress_destroy(progress);
    return style;
}

TEST(the_style_follows_descriptor_and_environment)
{
    struct tape *tape = tape_pipe(), *terminal = tape_terminal(80, 24);

    plain_environment();
    CHECK_EQ(style_on(tape->out), TWILL_PROGRESS_LINES);
    CHECK_EQ(style_on(terminal->out), TWILL_PROGRESS_BAR);
    setenv("TERM", "dumb", 1);
    CHECK_EQ(style_on(terminal->out), TWILL_PROGRESS_LINES);
    unsetenv("TERM");
    CHECK_EQ(style_on(terminal->out), TWILL_PROGRESS_LINES);
    setenv("TERM", "", 1);
    CHECK_EQ(style_on(terminal->out), TWILL_PROGRESS_LINES);
    plain_environment();
    setenv("FORCE_COLOR", "1", 1);
    CHECK_EQ(style_on(tape->out), TWILL_PROGRESS_LINES);
    setenv("TWILL_PROGRESS", "json", 1);
    CHECK_EQ(style_on(terminal->out), TWILL_PROGRESS_JSON);
    setenv("TWILL_PROGRESS", "counter", 1);
    CHECK_EQ(style_on(tape->out), TWILL_PROGRESS_COUNTER);
    setenv("TWILL_PROGRESS", "silent", 1);
    CHECK_EQ(style_on(tape->out), TWILL_PROGRESS_SILENT);
    setenv("TWILL_PROGRESS", "bar", 1);
    CHECK_EQ(style_on(tape->out), TWILL_PROGRESS_BAR);
    setenv("TWILL_PROGRESS", "bars", 1);
    CHECK_EQ(style_on(tape->out), TWILL_PROGRESS_LINES);
    setenv("TWILL_PROGRESS", "bar", 1); /* it overrides AUTO alone */
    twill_progress *progress =
        make((twill_progress_options){.fd = tape->out, .style = TWILL_PROGRESS_LINES});
    CHECK_EQ(progress->screen->style, TWILL_PROGRESS_LINES);
    twill_progress_destroy(progress);
    plain_environment();
    tape_close(tape);
    tape_close(terminal);
}

TEST(accessible_is_a_style_of_lines)
{
    const twill_progress_style style[][2] = {{TWILL_PROGRESS_BAR, TWILL_PROGRESS_LINES},
                                             {TWILL_PROGRESS_COUNTER, TWILL_PROGRESS_LINES},
                                             {TWILL_PROGRESS_LINES, TWILL_PROGRESS_LINES},
                                             {TWILL_PROGRESS_JSON, TWILL_PROGRESS_JSON},
                                             {TWILL_PROGRESS_SILENT, TWILL_PROGRESS_SILENT}};
    for (int k = 0; k < 5; k++) {
        struct tape *tape = tape_pipe();
        twill_progress *progress = make((twill_progress_options){
            .fd = tape->out, .accessible = true, .style = style[k][0], .quiet_for = TWILL_SEC(99)});
        CHECK_EQ(progress->screen->style, style[k][1]);
        CHECK_EQ(progress->screen->accessible, style[k][1] == TWILL_PROGRESS_LINES);
        twill_progress_destroy(progress);
        tape_close(tape);
    }
}

TEST(columns_is_a_number)
{
    const struct {
        const char *says;
        unsigned columns;
    } row[] = {{"", 80},   {"no", 80},  {"-4", 80},           {"0", 80},
               {"57", 57}, {"57:", 57}, {"1234567890", 12345}};
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        setenv("COLUMNS", row[k].says, 1);
        twill_progress *progress = make((twill_progress_options){.style = TWILL_PROGRESS_SILENT});
        CHECK_EQ(progress->screen->columns, row[k].columns);
        twill_progress_destroy(progress);
    }
    plain_environment();
}

TEST(the_locale_decides_on_ascii)
{
    const char *utf8[] = {"C.UTF-8", "de_DE.utf8", "en_US.UTF8"};
    twill_progress_options options = {.style = TWILL_PROGRESS_SILENT};
    twill_progress *progress;

    for (int i = 0; i < 3; i++) {
        setenv("LC_ALL", utf8[i], 1);
        progress = make(options);
        CHECK(!progress->screen->ascii);
        twill_progress_destroy(progress);
    }
    setenv("LC_ALL", "C", 1);
    setenv("LANG", "C.UTF-8", 1); /* LC_ALL goes before */
    progress = make(options);
    CHECK(progress->screen->ascii);
    twill_progress_destroy(progress);
    setenv("LC_ALL", "", 1); /* as if it were not there */
    unsetenv("LC_CTYPE");
    progress = make(options);
    CHECK(!progress->screen->ascii);
    twill_progress_destroy(progress);
    unsetenv("LC_ALL");
    unsetenv("LANG");
    progress = make(options);
    CHECK(progress->screen->ascii);
    twill_progress_destroy(progress);
    plain_environment();
}

TEST(json_lines)
{
    struct tape *tape = tape_pipe();
    twill_ns begun = twill_now();
    twill_progress *progress = make((twill_progress_options){.total = 4,
                                                             .label = "a\"b\\c\x01\xff\xc3\xa9",
                                                             .style = TWILL_PROGRESS_JSON,
                                                             .draw_by = TWILL_PROGRESS_EACH,
                                                             .fd = tape->out});
    const char *start = "{\"label\": \"a\\\"b\\\\c\\u0001\\ufffd\xc3\xa9\", \"done\": 1, "
                        "\"failed\": 0, \"skipped\": 0, \"total\": 4, \"percent\": 25, \"rate\": ";
    const char *end = ", \"left\": 0.000, \"outcome\": \"TWILL_TIMEOUT\", \"finished\": true}\n";
    const char *elapsed;

    twill_progress_add(progress, 1);
    tape_read(tape);
    CHECK(strncmp(tape->bytes, start, strlen(start)) == 0);
    elapsed = strstr(tape->bytes, ", \"elapsed\": ");
    if (CHECK(elapsed != NULL)) {
        double seconds = strtod(elapsed + strlen(", \"elapsed\": "), NULL);
        CHECK(seconds >= 0 && seconds <= (double)(twill_now() - begun) / 1e9 + 0.001);
    }
    CHECK(strstr(tape->bytes, ", \"finished\": false}\n") != NULL);
    twill_progress_log(progress, "quote \" and\nline");
    CHECK_STR(tape_read(tape), "{\"log\": \"quote \\\" and\\u000aline\"}\n");
    twill_progress_finish(progress, TWILL_TIMEOUT);
    tape_read(tape);
    CHECK(strcmp(tape->bytes + tape->length - strlen(end), end) == 0);
    twill_progress_destroy(progress);

    progress = make((twill_progress_options){.style = TWILL_PROGRESS_JSON,
                                             .draw_by = TWILL_PROGRESS_EACH,
                                             .unit_name = "file",
                                             .fd = tape->out});
    twill_progress_add(progress, 1);
    CHECK(strstr(tape_read(tape), "\"total\": null, \"percent\": null") != NULL);
    CHECK(strstr(tape->bytes, "\"left\": null, \"unit\": \"file\"") != NULL);
    twill_progress_destroy(progress);
    tape_close(tape);
}

TEST(nothing_is_shown_of_quiet_work)
{
    struct tape *tape = tape_pipe();
    twill_progress_options options = {
        .total = 2, .fd = tape->out, .quiet_for = TWILL_SEC(100), .draw_by = TWILL_PROGRESS_EACH};
    twill_progress_style styles[] = {TWILL_PROGRESS_BAR, TWILL_PROGRESS_COUNTER,
                                     TWILL_PROGRESS_LINES};

    for (int i = 0; i < 3; i++) {
        options.style = styles[i];
        twill_progress *progress = make(options);
        twill_progress_add(progress, 2);
        CHECK_STR(tape_read(tape), "");
        twill_progress_destroy(progress);
        CHECK_EQ(strlen(tape_read(tape)) != 0, i == 2); /* the last line of LINES */
    }
    tape_close(tape);
}

TEST(accessible_lines_at_each_tenth)
{
    struct tape *tape = tape_pipe();
    twill_progress *progress = make((twill_progress_options){.total = 200,
                                                             .style = TWILL_PROGRESS_BAR,
                                                             .accessible = true,
                                                             .draw_by = TWILL_PROGRESS_EACH,
                                                             .fd = tape->out});
    unsigned lines = 0;

    for (int i = 0; i < 200; i++)
        twill_progress_add(progress, 1);
    twill_progress_finish(progress, TWILL_OK);
    twill_progress_destroy(progress);
    tape_read(tape);
    for (char *at = tape->bytes; (at = strchr(at, '\n')); at++)
        lines++;
    CHECK_EQ(lines, 11);
    CHECK(strncmp(tape->bytes, "Progress: 1/200 (0%)", 20) == 0);
    CHECK(strstr(tape->bytes, "\nProgress: 20/200 (10%)") != NULL);
    CHECK(strstr(tape->bytes, "\nProgress: 180/200 (90%)") != NULL);
    CHECK(strstr(tape->bytes, "\nProgress: 200/200 (100%)") != NULL);
    CHECK(strchr(tape->bytes, '\r') == NULL && strchr(tape->bytes, 0x1b) == NULL);
    tape_close(tape);
}

TEST(silent_writes_nothing_but_logs)
{
    struct tape *tape = tape_pipe();
    unsigned long threads = faults_threads();
    twill_progress *progress =
        make((twill_progress_options){.style = TWILL_PROGRESS_SILENT, .fd = tape->out});

    CHECK_EQ(faults_threads(), threads); /* nobody has anything to do */
    twill_progress_add(progress, 1);
    twill_progress_draw(progress);
    twill_progress_suspend(progress);
    twill_progress_resume(progress);
    twill_progress_log(progress, "text");
    twill_progress_destroy(progress);
    CHECK_STR(tape_read(tape), "text\n");
    tape_close(tape);
}

TEST(a_loop_draws)
{
    struct tape *tape = tape_pipe();
    unsigned long threads = faults_threads();
    twill_progress *progress = make((twill_progress_options){.total = 9,
                                                             .style = TWILL_PROGRESS_LINES,
                                                             .draw_by = TWILL_PROGRESS_BY_CALL,
                                                             .interval = TWILL_SEC(1000),
                                                             .fd = tape->out});

    CHECK_EQ(faults_threads(), threads);
    for (int i = 0; i < 100; i++)
        twill_progress_draw(progress); /* at each turn of a loop: once an interval */
    CHECK_STR(tape_read(tape), "Progress: 0/9 (0%)\n");
    twill_progress_add(progress, 9);
    CHECK_STR(tape_read(tape), "");
    twill_progress_finish(progress, TWILL_OK);
    CHECK(strncmp(tape_read(tape), "Progress: 9/9 (100%), ", 22) == 0);
    twill_progress_draw(progress);
    CHECK_STR(tape_read(tape), "");
    twill_progress_destroy(progress);
    tape_close(tape);
}

TEST(updaters_draw)
{
    for (bool in_time = false; !in_time;) {
        struct tape *tape = tape_pipe();
        twill_ns begun = twill_now();
        twill_progress *progress =
            make((twill_progress_options){.total = 1000,
                                          .style = TWILL_PROGRESS_COUNTER,
                                          .draw_by = TWILL_PROGRESS_BY_UPDATER,
                                          .interval = TWILL_MS(5),
                                          .fd = tape->out});

        twill_progress_add(progress, 1);
        twill_progress_add(progress, 1);
        in_time = twill_now() - begun < TWILL_MS(5); /* else both may be drawn */
        const char *drawn = tape_read(tape);
        if (in_time)
            CHECK_STR(drawn, "\rProgress: 1/1000 (0%)"); /* the first, then one an interval */
        twill_sleep(twill_within(TWILL_MS(6)));
        twill_progress_add(progress, 1);
        CHECK_STR(tape_read(tape), "\rProgress: 3/1000 (0%)");
        twill_progress_destroy(progress);
        CHECK_STR(tape_read(tape), "\n");
        tape_close(tape);
    }
}

/* Numbers that are drawn never go down, whoever draws. */
TEST(drawn_numbers_only_grow)
{
    twill_progress_draw_by who[] = {TWILL_PROGRESS_BY_THREAD, TWILL_PROGRESS_BY_UPDATER,
                                    TWILL_PROGRESS_EACH};

    for (int i = 0; i < 3; i++) {
        struct tape *tape = tape_pipe();
        struct race race = {.each = i == 2 ? 60 : 20000 / SLOW};
        twill_progress_options options = {.total = 4u * race.each,
                                          .style = TWILL_PROGRESS_COUNTER,
                                          .draw_by = who[i],
                                          .fd = tape->out};
        twill__thrd threads[4];
        uint64_t last = 0;
        char end[64];

        options.interval = who[i] == TWILL_PROGRESS_EACH ? 0 : TWILL_US(200);
        race.progress = make(options);
        begin_threads(threads, 4, race_add, &race);
        join_threads(threads, 4);
        CHECK_EQ(twill_progress_destroy(race.progress), TWILL_OK);
        tape_read(tape);
        for (char *at = tape->bytes; (at = strchr(at, ':')); at++) {
            uint64_t now = strtoull(at + 1, NULL, 10);
            if (now < last)
                CHECK_EQ(now, last);
            last = now;
        }
        sprintf(end, ": %u/%u (100%%)\n", 4 * race.each, 4 * race.each);
        CHECK(tape->length > strlen(end) &&
              strcmp(tape->bytes + tape->length - strlen(end), end) == 0);
        tape_close(tape);
    }
}

/* ---- terminals ---- */

TEST(a_bar_on_a_terminal)
{
    struct tape *tape = tape_terminal(80, 24);
    struct term *term;

    plain_environment();
    twill_progress *progress = make((twill_progress_options){.total = 1000,
                                                             .label = "Hashing",
                                                             .fd = tape->out,
                                                             .unit_name = "files",
                                                             .interval = TWILL_MS(1)});
    twill_progress_add(progress, 450);
    twill_progress_add_failed(progress, 3);
    CHECK(tape_await(tape, "453/1000 files"));
    CHECK_EQ(twill_progress_finish(progress, TWILL_OK), TWILL_OK);
    twill_progress_destroy(progress);
    term = tape_show(tape, 80, 24);
    CHECK(term->unknown == 0 && term->wraps == 0 && term->colored > 0);
    CHECK_EQ(term->row, 1);
    CHECK(strncmp(term_line(term, 0), "Hashing  45% [", 14) == 0);
    CHECK(strstr(term_line(term, 0), "453/1000 files, 3 failed, ") != NULL);
    CHECK_STR(term_line(term, 1), "");
    free(term);
    tape_close(tape);
}

/* Whatever it says, a frame stays in one line and leaves the last column free. */
TEST(no_frame_is_too_wide)
{
    static const char *const labels[] = {"Hashing", "", "a rather long label that goes on and on",
                                         "\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc"
                                         "\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97",
                                         "e\xcc\x81"
                                         "e\xcc\x81\x1b\n\xff"};

    plain_environment();
    for (unsigned width = 1; width<130; width += SLOW> 1 ? 3 : 1) {
        struct tape *tape = tape_pipe();
        uint64_t total = test_random() >> test_random_below(64);
        struct term *term;
        twill_progress *progress =
            make((twill_progress_options){.total = test_random_below(4) ? total : 0,
                                          .label = labels[test_random_below(5)],
                                          .style = TWILL_PROGRESS_BAR,
                                          .draw_by = TWILL_PROGRESS_EACH,
                                          .unit = (twill_progress_unit)test_random_below(3),
                                          .unit_name = test_random_below(2) ? "\xc3\xa9t" : NULL,
                                          .ascii = test_random_below(3) == 0,
                                          .width = width,
                                          .fd = tape->out});
        for (int i = 0; i < 12; i++) {
            if (test_random_below(3) == 0)
                twill_progress_add_failed(progress, total / 13);
            else
                twill_progress_add(progress, total / 13);
            term = tape_show(tape, width, 24);
            CHECK(term->wraps == 0 && term->unknown == 0 && term->row == 0);
            if (term_cells(term, 0) >= width)
                CHECK_EQ(term_cells(term, 0), width - 1);
            free(term);
        }
        twill_progress_destroy(progress);
        term = tape_show(tape, width, 24);
        CHECK(term->wraps == 0 && term->unknown == 0 && term->row == 1);
        free(term);
        tape_close(tape);
    }
}

TEST(the_parts_of_a_bar)
{
    struct tape *tape = tape_pipe();
    struct term *term;
    twill_progress *progress = make((twill_progress_options){.total = 100,
                                                             .label = "Copy",
                                                             .style = TWILL_PROGRESS_BAR,
                                                             .draw_by = TWILL_PROGRESS_EACH,
                                                             .unit = TWILL_UNIT_BYTES_IEC,
                                                             .ascii = true,
                                                             .no_color = true,
                                                             .width = 61,
                                                             .fd = tape->out});

    for (int i = 0; i < 99; i++)
        twill_progress_add(progress, 1);
    term = tape_show(tape, 61, 24);
    const char *line = term_line(term, 0);
    CHECK(strncmp(line, "Copy  99% [=", 12) == 0);
    CHECK(strstr(line, "=> ]") != NULL); /* not full at 99 % */
    CHECK(strstr(line, "] 99 B/100 B") != NULL);
    CHECK_EQ(term->colored, 0);
    free(term);
    twill_progress_add(progress, 1);
    term = tape_show(tape, 61, 24);
    CHECK(strncmp(term_line(term, 0), "Copy 100% [=", 12) == 0);
    CHECK(strstr(term_line(term, 0), "==]") != NULL);
    free(term);
    twill_progress_destroy(progress);
    tape_close(tape);
}

TEST(no_color_takes_the_colour_and_nothing_else)
{
    struct tape *tape = tape_terminal(80, 24);
    struct term *term;

    plain_environment();
    setenv("NO_COLOR", "1", 1);
    twill_progress *progress =
        make((twill_progress_options){.total = 10, .fd = tape->out, .interval = TWILL_MS(1)});
    twill_progress_add_failed(progress, 5);
    CHECK(tape_await(tape, "5/10"));
    twill_progress_destroy(progress);
    term = tape_show(tape, 80, 24);
    CHECK(strstr(tape->bytes, "m") == NULL || term->colored == 0);
    CHECK(strncmp(term_line(term, 0), "Progress  50% [", 15) == 0);
    free(term);
    setenv("NO_COLOR", "", 1); /* empty: as if it were not set */
    progress = make((twill_progress_options){.fd = tape->out, .style = TWILL_PROGRESS_BAR});
    CHECK(progress->screen->color);
    twill_progress_destroy(progress);
    plain_environment();
    tape_close(tape);
}

TEST(a_resize_shows_in_the_next_frame)
{
    struct tape *tape = tape_terminal(100, 24);
    struct term *term;

    plain_environment();
    twill_progress *progress = make((twill_progress_options){
        .total = 1000, .fd = tape->out, .draw_by = TWILL_PROGRESS_BY_CALL, .interval = 1});
    twill_progress_add(progress, 300);
    twill_progress_draw(progress);
    term = tape_show(tape, 100, 24);
    CHECK(term_cells(term, 0) > 60 && term->wraps == 0);
    free(term);
    tape_resize(tape, 30, 24);
    tape_forget(tape);
    twill_progress_add(progress, 1);
    twill_progress_draw(progress);
    term = tape_show(tape, 30, 24);
    CHECK(term_cells(term, 0) > 10 && term_cells(term, 0) < 30 && term->wraps == 0);
    free(term);
    tape_resize(tape, 0, 0); /* it does not know: COLUMNS, then 80 */
    tape_forget(tape);
    twill_progress_add(progress, 1);
    twill_progress_draw(progress);
    term = tape_show(tape, 80, 24);
    CHECK(term_cells(term, 0) > 30 && term->wraps == 0);
    free(term);
    twill_progress_destroy(progress);
    setenv("COLUMNS", "44", 1);
    progress = make(
        (twill_progress_options){.total = 1000, .fd = tape->out, .draw_by = TWILL_PROGRESS_EACH});
    tape_forget(tape);
    twill_progress_add(progress, 1);
    term = tape_show(tape, 44, 24);
    CHECK(term_cells(term, 0) > 30 && term->wraps == 0);
    free(term);
    twill_progress_destroy(progress);
    plain_environment();
    tape_close(tape);
}

static void log_and_add(void *progress)
{
    static atomic_uint number;
    unsigned me = atomic_fetch_add(&number, 1);

    for (unsigned i = 0; i < 40; i++) {
        twill_progress_log(progress, "thread %u line %u.", me, i);
        twill_progress_add(progress, 1);
    }
}

/* Log lines of many threads above two bars: each once, whole, and in its thread's order. */
TEST(log_lines_stay_intact_above_the_bars)
{
    struct tape *tape = tape_terminal(70, 10);
    twill_progress *root, *child;
    twill__thrd threads[4];
    unsigned next[64] = {0}, lines = 0, bars = 0, first = UINT32_MAX;
    struct term *term;

    plain_environment();
    root = make((twill_progress_options){
        .total = 160, .label = "all", .fd = tape->out, .interval = TWILL_US(300)});
    child = make((twill_progress_options){.total = 1000, .label = "part", .parent = root});
    begin_threads(threads, 4, log_and_add, root);
    for (int i = 0; i < 1000 || view_of(root).done < 160; i++) {
        if (i < 1000)
            twill_progress_add(child, 1);
        tape_read(tape);
    }
    join_threads(threads, 4);
    CHECK(twill_progress_finish(root, TWILL_OK) == TWILL_OK);
    twill_progress_destroy(child);
    twill_progress_destroy(root);
    term = tape_show(tape, 70, 10);
    CHECK(term->wraps == 0 && term->unknown == 0);
    for (unsigned row = 0; row <= term->row; row++) {
        const char *line = term_line(term, row);
        unsigned thread, number;
        int end = 0;
        if (sscanf(line, "thread %u line %u.%n", &thread, &number, &end) == 2 && end) {
            first = thread < first ? thread : first;
            if (thread >= 64 || line[end] || number != next[thread]++)
                CHECK_STR(line, "a whole line in order");
            lines++;
        } else if (strncmp(line, "all 100% [", 10) == 0 || strncmp(line, "part 100% [", 11) == 0) {
            bars++;
            CHECK_EQ(row, lines + bars - 1); /* below all log lines */
        } else if (*line) {
            CHECK_STR(line, "a log line or a bar");
        }
    }
    CHECK_EQ(lines, 160);
    CHECK_EQ(bars, 2);
    free(term);
    tape_close(tape);
}

TEST(a_long_log_line_and_one_without_memory)
{
    struct tape *tape = tape_pipe();
    twill_progress *progress = make((twill_progress_options){
        .style = TWILL_PROGRESS_LINES, .fd = tape->out, .draw_by = TWILL_PROGRESS_BY_CALL});
    char *text = malloc(20001);

    if (!text)
        abort();
    memset(text, 'x', 20000);
    text[20000] = '\0';
    CHECK_EQ(twill_progress_log(progress, "%s", text), 20000);
    tape_read(tape);
    CHECK(tape->length == 20001 && memcmp(tape->bytes, text, 20000) == 0);
    faults_fail_alloc(1);
    CHECK_EQ(twill_progress_log(progress, "%s", text), 511);
    CHECK_EQ(strlen(tape_read(tape)), 512);
    CHECK_EQ(twill_progress_log(progress, "%s", ""), 0);
    CHECK_STR(tape_read(tape), "\n");
    CHECK_EQ(twill_progress_log(progress, "one\n"), 4); /* no empty line behind it */
    CHECK_STR(tape_read(tape), "one\n");
    CHECK_EQ(twill_progress_log(progress, "two\n\n"), 5); /* and one where it was asked for */
    CHECK_STR(tape_read(tape), "two\n\n");
    text[19999] = '\n';
    tape_forget(tape);
    CHECK_EQ(twill_progress_log(progress, "%s", text), 20000);
    tape_read(tape);
    CHECK_EQ(tape->length, 20000);
    twill_progress_destroy(progress);
    free(text);
    tape_close(tape);
}

TEST(suspend_leaves_the_terminal_to_others)
{
    struct tape *tape = tape_terminal(60, 12);
    twill_progress *root, *child;
    struct term *term;

    plain_environment();
    root = make((twill_progress_options){
        .total = 10, .label = "all", .fd = tape->out, .draw_by = TWILL_PROGRESS_EACH});
    child = make((twill_progress_options){.total = 10, .label = "part", .parent = root});
    twill_progress_add(root, 1);
    twill_progress_suspend(root);
    twill_progress_suspend(child); /* nests */
    term = tape_show(tape, 60, 12);
    CHECK(term_cells(term, 0) == 0 && term_cells(term, 1) == 0 && term->row == 0);
    free(term);
    twill_progress_add(child, 1);
    twill_progress_resume(root);
    twill_progress_add(child, 1);
    CHECK_EQ(write(tape->out, "foreign\n", 8), 8);
    CHECK_EQ(twill_progress_log(root, "log"), 3);
    term = tape_show(tape, 60, 12);
    CHECK_STR(term_line(term, 0), "foreign");
    CHECK_STR(term_line(term, 1), "log");
    CHECK_EQ(term_cells(term, 2), 0);
    free(term);
    twill_progress_resume(root);
    twill_progress_resume(root); /* one too many: nothing */
    twill_progress_add(child, 1);
    term = tape_show(tape, 60, 12);
    CHECK_STR(term_line(term, 0), "foreign");
    CHECK(strncmp(term_line(term, 2), "all  10% [", 10) == 0);
    CHECK(strncmp(term_line(term, 3), "part  30% [", 11) == 0);
    free(term);
    twill_progress_destroy(child);
    twill_progress_destroy(root);
    tape_close(tape);
}

/* The line of a child that ends moves above those that go on. */
TEST(children_come_and_go)
{
    struct tape *tape = tape_terminal(60, 12);
    twill_progress *root, *child[3];
    struct term *term;

    plain_environment();
    root = make((twill_progress_options){
        .total = 3, .label = "all", .fd = tape->out, .interval = TWILL_MS(1)});
    for (int i = 0; i < 3; i++) {
        char label[] = "part A";
        label[5] = (char)('A' + i);
        child[i] = make((twill_progress_options){
            .total = 5, .label = label, .parent = root, .weight = 1, .clear_at_end = i == 1});
        twill_progress_add(child[i], 5);
    }
    CHECK(tape_await(tape, "part C 100%"));
    twill_progress_finish(child[1], TWILL_OK);
    twill_progress_finish(child[0], TWILL_OK);
    CHECK(tape_await(tape, "\x1b[J")); /* it is on the terminal when finish returns */
    term = tape_show(tape, 60, 12);
    CHECK(strncmp(term_line(term, 0), "part A 100% [", 13) == 0);
    CHECK(strncmp(term_line(term, 1), "all 100% [", 10) == 0);
    CHECK(strncmp(term_line(term, 2), "part C 100% [", 13) == 0);
    CHECK_EQ(term_cells(term, 3), 0);
    CHECK_EQ(term->unknown, 0);
    free(term);
    for (int i = 2; i >= 0; i--)
        CHECK_EQ(twill_progress_destroy(child[i]), TWILL_OK);
    CHECK_EQ(view_of(root).done, 3);
    CHECK_EQ(twill_progress_destroy(root), TWILL_OK);
    term = tape_show(tape, 60, 12);
    CHECK(strncmp(term_line(term, 1), "part C 100% [", 13) == 0);
    CHECK(strncmp(term_line(term, 2), "all 100% [", 10) == 0);
    CHECK_EQ(term_cells(term, 3), 0);
    CHECK_EQ(term->row, 3);
    free(term);
    tape_close(tape);
}

TEST(more_bars_than_lines)
{
    struct tape *tape = tape_terminal(60, 5);
    twill_progress *root, *child[9];
    struct term *term;

    plain_environment();
    root = make((twill_progress_options){
        .total = 9, .label = "all", .fd = tape->out, .draw_by = TWILL_PROGRESS_EACH});
    for (int i = 0; i < 9; i++)
        child[i] = make((twill_progress_options){.total = 5, .label = "part", .parent = root});
    for (int i = 0; i < 9; i++)
        twill_progress_add(child[i], 1);
    term = tape_show(tape, 60, 5);
    CHECK(term->unknown == 0 && term->row == 3);
    CHECK(strncmp(term_line(term, 0), "all   0%", 8) == 0);
    free(term);
    for (int i = 0; i < 9; i++)
        twill_progress_destroy(child[i]);
    twill_progress_destroy(root);
    tape_close(tape);
}

/* A terminal that has become lower: the bars that have no line any more are taken off. */
TEST(fewer_lines_than_bars_drawn)
{
    struct tape *tape = tape_terminal(60, 12);
    twill_progress *root, *child[4];

    plain_environment();
    root = make((twill_progress_options){
        .total = 9, .label = "all", .fd = tape->out, .draw_by = TWILL_PROGRESS_EACH});
    for (int i = 0; i < 4; i++)
        child[i] = make((twill_progress_options){.total = 5, .label = "part", .parent = root});
    twill_progress_add(root, 1);
    for (unsigned rows = 12; rows; rows = rows == 12 ? 3 : rows == 3 ? 1 : 0) {
        unsigned bars = rows == 12 ? 5 : rows == 3 ? 2 : 1;
        struct term *term;
        tape_resize(tape, 60, rows);
        twill_progress_add(child[0], 1);
        term = tape_show(tape, 60, 12);
        CHECK_EQ(term->unknown, 0);
        CHECK(strncmp(term_line(term, 0), "all  11% [", 10) == 0);
        for (unsigned row = 0; row < 6; row++)
            CHECK_EQ(term_cells(term, row) != 0, row < bars);
        free(term);
    }
    for (int i = 0; i < 4; i++)
        twill_progress_destroy(child[i]);
    twill_progress_destroy(root);
    tape_close(tape);
}

/* Children that end and have no line: nothing was shown of the one yet, and the other's terminal is
   somebody else's for now. The root's last line comes all the same. */
static unsigned times(const char *text, const char *part)
{
    unsigned n = 0;

    for (; (text = strstr(text, part)) != NULL; text++)
        n++;
    return n;
}

TEST(children_end_unseen)
{
    struct tape *tape = tape_terminal(60, 12);
    twill_progress *root, *quiet, *late;
    struct term *term;

    plain_environment();
    root = make((twill_progress_options){
        .total = 4, .label = "all", .fd = tape->out, .draw_by = TWILL_PROGRESS_EACH});
    quiet = make((twill_progress_options){
        .label = "quiet", .parent = root, .weight = 1, .quiet_for = TWILL_SEC(100)});
    late = make((twill_progress_options){.label = "late", .parent = root, .weight = 1});
    CHECK_EQ(twill_progress_destroy(quiet), TWILL_OK);
    twill_progress_suspend(root);
    tape_forget(tape);
    CHECK_EQ(twill_progress_destroy(late), TWILL_OK);
    CHECK_STR(tape_read(tape), "");
    CHECK_EQ(view_of(root).done, 2);
    CHECK_EQ(twill_progress_destroy(root), TWILL_OK);
    term = tape_show(tape, 60, 12);
    CHECK(strncmp(term_line(term, 0), "late [", 6) == 0); /* it was kept */
    CHECK(strncmp(term_line(term, 1), "all  50% [", 10) == 0);
    CHECK(term->row == 2 && term_cells(term, 2) == 0);
    free(term);
    tape_close(tape);
}

/* Whoever ends while the bars are suspended is seen after it, and once: not when a log line comes
   between, and as many of them as there is room for. */
TEST(children_that_end_while_suspended_are_seen_later)
{
    struct tape *tape = tape_terminal(60, 24);
    twill_progress *root, *child;
    struct term *term;
    const char *text, *end;

    plain_environment();
    root = make((twill_progress_options){
        .total = 4, .label = "all", .fd = tape->out, .draw_by = TWILL_PROGRESS_EACH});
    twill_progress_add(root, 1);
    child = make((twill_progress_options){.total = 2, .label = "part", .parent = root});
    twill_progress_suspend(root);
    twill_progress_destroy(child);
    CHECK_EQ(twill_progress_log(root, "log"), 3);
    term = tape_show(tape, 60, 24);
    CHECK_STR(term_line(term, 0), "log");
    CHECK_EQ(term_cells(term, 1), 0);
    free(term);
    twill_progress_resume(root);
    for (int i = 0; i < 2; i++) {
        twill_progress_add(root, 1);
        term = tape_show(tape, 60, 24);
        CHECK(strncmp(term_line(term, 1), "part   0% [", 11) == 0);
        CHECK(strncmp(term_line(term, 2), "all ", 4) == 0);
        CHECK_EQ(term_cells(term, 3), 0);
        free(term);
    }
    twill_progress_suspend(root);
    for (int i = 0; i < 100; i++) {
        child = make((twill_progress_options){.total = 2, .label = "many", .parent = root});
        twill_progress_destroy(child);
    }
    tape_forget(tape);
    twill_progress_resume(root);
    twill_progress_add(root, 1);
    CHECK(times(tape_read(tape), "many") >= 5);
    twill_progress_destroy(root);
    tape_close(tape);

    tape = tape_pipe();
    root = make((twill_progress_options){.total = 4,
                                         .label = "all",
                                         .style = TWILL_PROGRESS_JSON,
                                         .fd = tape->out,
                                         .draw_by = TWILL_PROGRESS_EACH});
    child = make((twill_progress_options){.total = 2, .label = "part", .parent = root});
    twill_progress_suspend(root);
    twill_progress_destroy(child);
    CHECK_STR(tape_read(tape), "");
    twill_progress_resume(root);
    twill_progress_add(root, 1);
    text = tape_read(tape);
    end = strstr(text, "\"finished\": true}\n");
    CHECK(strncmp(text, "{\"label\": \"part\"", 16) == 0 && end);
    CHECK(end && strstr(end, "{\"label\": \"all\"") == strchr(end, '\n') + 1);
    twill_progress_destroy(root);
    tape_close(tape);
}

static void count_ends(const twill_progress_view *view, const twill_task *task)
{
    *(unsigned *)task->context += view->finished;
}

/* Where finish stands that waits for its turn to draw. */
static void begin_to_end(twill_progress *progress)
{
    twill__lock(&progress->screen->lock);
    progress->ended = twill_now();
    atomic_store(&progress->state, TWILL__PROGRESS_ENDING);
    twill__unlock(&progress->screen->lock);
}

/* More bars than a frame holds: what ends is drawn once in any case, and told once. */
TEST(more_bars_than_a_frame_holds)
{
    enum { MANY = 100 };
    static const twill_progress_style styles[] = {TWILL_PROGRESS_BAR, TWILL_PROGRESS_LINES,
                                                  TWILL_PROGRESS_JSON};

    plain_environment();
    for (int k = 0; k < 3; k++) {
        struct tape *tape = tape_pipe();
        twill_progress *root = make((twill_progress_options){.style = styles[k],
                                                             .draw_by = TWILL_PROGRESS_BY_CALL,
                                                             .interval = 1,
                                                             .width = 250,
                                                             .fd = tape->out});
        twill_progress *child[MANY];
        unsigned ends[MANY] = {0};
        char label[200];
        for (int i = 0; i < MANY; i++) {
            memset(label, '.', sizeof label);
            sprintf(label, "<%d>", i);
            label[strlen(label)] = '.';
            label[sizeof label - 1] = '\0';
            child[i] = make((twill_progress_options){
                .label = label, .parent = root, .on_view = count_ends, .context = &ends[i]});
        }
        begin_to_end(child[MANY - 1]);
        twill_progress_draw(root);
        CHECK_EQ(child[MANY - 1]->state, TWILL__PROGRESS_ENDED);
        tape_read(tape);
        CHECK(strstr(tape->bytes, "<20>") && !strstr(tape->bytes, "<98>"));
        CHECK_EQ(times(tape->bytes, "<99>"), 1);
        tape_forget(tape);
        for (int i = 0; i < MANY - 1; i++)
            begin_to_end(child[i]);
        for (int i = 0; i < MANY && child[MANY - 2]->state != TWILL__PROGRESS_ENDED; i++)
            twill_progress_draw(root);
        tape_read(tape);
        for (int i = 0; i < MANY; i++) {
            sprintf(label, "<%d>", i);
            CHECK_EQ(ends[i], 1);
            CHECK(times(tape->bytes, label) == (i != MANY - 1) || styles[k] == TWILL_PROGRESS_BAR);
            CHECK_EQ(twill_progress_destroy(child[i]), TWILL_OK);
            CHECK_EQ(ends[i], 1);
        }
        CHECK_EQ(twill_progress_destroy(root), TWILL_OK);
        tape_close(tape);
    }
}

TEST(a_bar_may_vanish_at_the_end)
{
    struct tape *tape = tape_terminal(60, 12);
    struct term *term;

    plain_environment();
    twill_progress *progress = make((twill_progress_options){
        .total = 10, .fd = tape->out, .clear_at_end = true, .draw_by = TWILL_PROGRESS_EACH});
    twill_progress_add(progress, 10);
    twill_progress_log(progress, "kept");
    twill_progress_destroy(progress);
    term = tape_show(tape, 60, 12);
    CHECK_STR(term_line(term, 0), "kept");
    CHECK(term_cells(term, 1) == 0 && term->row == 1 && term->column == 0);
    free(term);
    tape_close(tape);
}

TEST(an_unknown_total_has_a_walking_mark)
{
    struct tape *tape = tape_pipe();
    twill_progress *progress = make((twill_progress_options){.style = TWILL_PROGRESS_BAR,
                                                             .draw_by = TWILL_PROGRESS_EACH,
                                                             .ascii = true,
                                                             .width = 60,
                                                             .fd = tape->out});
    char before[1024];
    struct term *term;

    twill_progress_add(progress, 1);
    term = tape_show(tape, 60, 4);
    snprintf(before, sizeof before, "%s", term_line(term, 0));
    CHECK(strstr(before, "<=>") != NULL && strstr(before, "] 1") != NULL);
    free(term);
    for (int i = 0; i < 100; i++)
        twill_progress_add(progress, 1);
    term = tape_show(tape, 60, 4);
    CHECK(strstr(term_line(term, 0), "<=>") != NULL);
    CHECK(strchr(term_line(term, 0), '<') - term->text != strchr(before, '<') - before);
    free(term);
    for (int i = 0; i < 100; i++) { /* wherever the mark is, the frame is as wide */
        twill_progress_add(progress, 1);
        term = tape_show(tape, 60, 4);
        CHECK_EQ(strlen(term_line(term, 0)), 59);
        free(term);
    }
    twill_progress_destroy(progress);
    tape_close(tape);
}

/* Nor has it a mark any more when it has ended, and it is full only when all went well. */
TEST(an_unknown_total_ends_full_or_empty)
{
    for (int failed = 0; failed < 2; failed++) {
        struct tape *tape = tape_pipe();
        twill_progress *progress = make((twill_progress_options){.style = TWILL_PROGRESS_BAR,
                                                                 .draw_by = TWILL_PROGRESS_EACH,
                                                                 .ascii = true,
                                                                 .no_color = true,
                                                                 .width = 60,
                                                                 .fd = tape->out});
        CHECK_EQ(twill_progress_finish(progress, failed ? TWILL_FAILED : TWILL_OK), TWILL_OK);
        tape_read(tape);
        CHECK(strstr(tape->bytes, failed ? "[          " : "[==========") != NULL);
        twill_progress_destroy(progress);
        tape_close(tape);
    }
}

/* ---- background ---- */

static void background_job(const char *name, const int *ready, const int *go)
{
    int fd = open(name, O_WRONLY | O_NOCTTY);
    twill_progress *bar, *automatic;
    char byte;

    setpgid(0, 0);
    plain_environment();
    while (tcgetpgrp(fd) == getpgrp())
        twill_sleep(twill_within(TWILL_MS(1)));
    automatic = make((twill_progress_options){.fd = fd, .draw_by = TWILL_PROGRESS_BY_CALL});
    CHECK_EQ(automatic->screen->style, TWILL_PROGRESS_LINES);
    twill_progress_draw(automatic);
    twill_progress_destroy(automatic);
    bar = make((twill_progress_options){
        .total = 100000, .style = TWILL_PROGRESS_BAR, .fd = fd, .interval = TWILL_MS(1)});
    for (int i = 0; i < 30; i++) {
        twill_progress_add(bar, 1);
        twill_progress_draw(bar);
        twill_sleep(twill_within(TWILL_MS(1)));
    }
    CHECK_EQ(write(ready[1], "b", 1), 1);
    CHECK_EQ(read(go[0], &byte, 1), 1);
    /* should the terminal be taken away between the look and the write: not stopped either */
    CHECK_EQ(twill__write_calmly(fd, "!", 1, false, true), TWILL__WROTE);
    CHECK_EQ(write(ready[1], "b", 1), 1);
    while (tcgetpgrp(fd) != getpgrp())
        twill_sleep(twill_within(TWILL_MS(1)));
    twill_progress_add(bar, 5);
    CHECK_EQ(read(go[0], &byte, 1), 1); /* until it was drawn */
    twill_progress_destroy(bar);
    _exit(atomic_load(&harness_failures) != 0);
}

static void session_leader(const char *name, int in, const int *ready, const int *go)
{
    struct termios mode;
    struct pollfd some = {.fd = in, .events = POLLIN};
    int fd, status = 0;
    pid_t job;
    char byte;

    alarm(300); /* should the job be stopped: both go */
    setsid();
    fd = open(name, O_RDWR);
    if (!CHECK(fd >= 0 && ioctl(fd, TIOCSCTTY, 0) == 0))
        _exit(1);
    tcgetattr(fd, &mode);
    mode.c_lflag |= TOSTOP; /* a background process that writes is stopped */
    tcsetattr(fd, TCSANOW, &mode);
    tcsetpgrp(fd, getpgrp());
    job = fork();
    if (job == 0)
        background_job(name, ready, go);
    close(ready[1]);
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    CHECK_EQ(waitpid(job, &status, WUNTRACED | WNOHANG), 0); /* neither stopped nor dead */
    CHECK_EQ(poll(&some, 1, 0), 0);                          /* and not a byte */
    CHECK_EQ(write(go[1], "g", 1), 1);
    CHECK(poll(&some, 1, 100000) > 0);
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    CHECK_EQ(read(in, &byte, 1), 1);
    CHECK_EQ(byte, '!');
    signal(SIGTTOU, SIG_IGN);
    tcsetpgrp(fd, job);
    CHECK(poll(&some, 1, 100000) > 0); /* in front again: it draws */
    CHECK_EQ(write(go[1], "g", 1), 1);
    while (waitpid(job, &status, WUNTRACED) == -1 && errno == EINTR)
        continue;
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    _exit(atomic_load(&harness_failures) != 0);
}

TEST(a_background_job_leaves_the_terminal_alone)
{
    struct tape *tape = tape_terminal(80, 24);
    int ready[2], go[2], status = 0;
    char name[100];
    pid_t leader;

    snprintf(name, sizeof name, "%s", ptsname(tape->in));
    if (pipe(ready) != 0 || pipe(go) != 0)
        abort();
    fflush(stdout);
    leader = fork();
    if (leader == 0)
        session_leader(name, tape->in, ready, go);
    while (waitpid(leader, &status, 0) == -1 && errno == EINTR)
        continue;
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    tape_read(tape);
    CHECK(strstr(tape->bytes, "35/100000") != NULL); /* counting had gone on */
    close(ready[0]);
    close(ready[1]);
    close(go[0]);
    close(go[1]);
    tape_close(tape);
}

static void leave(int signal_)
{
    (void)signal_;
    _exit(0);
}

static void two_bars(int fd)
{
    twill_progress *root, *child;

    plain_environment();
    signal(SIGTERM, leave);
    root = make((twill_progress_options){.fd = fd, .interval = TWILL_MS(20)});
    child = make((twill_progress_options){.parent = root});
    for (;;) {
        twill_progress_add(child, 1);
        twill_sleep(twill_within(TWILL_MS(1)));
    }
}

/* Whether the first frame after a stop leaves alone what stands above it. */
static bool drawn_anew_after_a_stop(void)
{
    struct tape *tape = tape_terminal(80, 24);
    bool anew;
    int status;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0)
        two_bars(tape->out);
    CHECK(tape_await(tape, "\x1b[1A"));
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    twill_sleep(twill_within(TWILL_MS(1100)));
    tape_forget(tape);
    kill(pid, SIGCONT);
    CHECK(tape_await(tape, "<=>"));
    CHECK(tape_await(tape, "\x1b[1A"));
    anew = strstr(tape->bytes, "<=>") < strstr(tape->bytes, "\x1b[1A");
    kill(pid, SIGTERM);
    waitpid(pid, &status, 0);
    tape_close(tape);
    return anew;
}

/* Ctrl-Z and fg: the shell has written below the bars, so the next frame must not go up into it.
   A stop that hits a frame half-way cannot be noticed, hence the next try. */
TEST(after_a_stop_the_bars_are_drawn_anew)
{
    bool anew = false;

    for (int tries = 0; tries < 25 && !anew; tries++)
        anew = drawn_anew_after_a_stop();
    CHECK(anew);
}

/* ---- writes that fail ---- */

static void goes_on_after(int fd, twill_progress_draw_by who)
{
    twill_progress *progress =
        make((twill_progress_options){.total = 50,
                                      .style = TWILL_PROGRESS_BAR,
                                      .fd = fd,
                                      .draw_by = who,
                                      .interval = who == TWILL_PROGRESS_EACH ? 0 : TWILL_MS(1)});
    twill_ns end = twill_now() + TWILL_SEC(100);

    for (int i = 0; i < 50; i++) {
        twill_progress_add(progress, 1);
        if (who == TWILL_PROGRESS_BY_CALL)
            twill_progress_draw(progress);
    }
    while (!atomic_load(&progress->screen->broken) && twill_now() < end)
        twill_sleep(twill_within(TWILL_MS(1)));
    CHECK(atomic_load(&progress->screen->broken) == 1);
    CHECK(twill_progress_log(progress, "lost") < 0);
    CHECK_EQ(view_of(progress).done, 50);
    CHECK_EQ(twill_progress_destroy(progress), TWILL_OK);
}

TEST(a_closed_pipe_raises_no_signal)
{
    twill_progress_draw_by who[] = {TWILL_PROGRESS_BY_THREAD, TWILL_PROGRESS_BY_UPDATER,
                                    TWILL_PROGRESS_BY_CALL, TWILL_PROGRESS_EACH};

    for (int i = 0; i < 4; i++) {
        struct tape *tape = tape_pipe();
        sigset_t pending;
        close(tape->in);
        tape->in = -1;
        goes_on_after(tape->out, who[i]); /* SIGPIPE is at its default: it would kill us */
        sigpending(&pending);
        CHECK(!sigismember(&pending, SIGPIPE));
        tape_close(tape);
    }
}

TEST(a_log_to_a_closed_pipe_raises_no_signal)
{
    struct tape *tape = tape_pipe();
    twill_progress *progress = make((twill_progress_options){
        .style = TWILL_PROGRESS_LINES, .draw_by = TWILL_PROGRESS_BY_CALL, .fd = tape->out});

    close(tape->in);
    tape->in = -1;
    CHECK_EQ(twill_progress_log(progress, "lost"), -1);
    twill_progress_suspend(progress);
    twill_progress_resume(progress);
    CHECK_EQ(twill_progress_destroy(progress), TWILL_OK);
    tape_close(tape);
}

/* A SIGPIPE that was pending is not ours to take. */
TEST(another_signal_stays_pending)
{
    struct tape *tape = tape_pipe();
    sigset_t mask, old, pending;
    int signal_;

    sigemptyset(&mask);
    sigaddset(&mask, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &mask, &old);
    raise(SIGPIPE);
    close(tape->in);
    tape->in = -1;
    goes_on_after(tape->out, TWILL_PROGRESS_EACH);
    sigpending(&pending);
    CHECK(sigismember(&pending, SIGPIPE));
    sigwait(&mask, &signal_);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    tape_close(tape);
}

TEST(a_full_disk_and_a_closed_descriptor)
{
    int full = open("/dev/full", O_WRONLY), closed = dup(1);

    close(closed);
    goes_on_after(closed, TWILL_PROGRESS_BY_THREAD);
    goes_on_after(closed, TWILL_PROGRESS_EACH);
    if (full < 0)
        SKIP("no /dev/full here");
    goes_on_after(full, TWILL_PROGRESS_BY_THREAD);
    goes_on_after(full, TWILL_PROGRESS_EACH);
    close(full);
}

/* A descriptor that would block: the frame is dropped, the next one is whole. */
TEST(a_frame_that_does_not_fit_is_dropped)
{
    struct tape *tape = tape_pipe();
    char filling[4096];
    twill_progress *progress = make((twill_progress_options){.total = 9,
                                                             .style = TWILL_PROGRESS_LINES,
                                                             .draw_by = TWILL_PROGRESS_BY_CALL,
                                                             .interval = 1,
                                                             .fd = tape->out});

    memset(filling, '.', sizeof filling);
    fcntl(tape->out, F_SETFL, O_NONBLOCK);
    while (write(tape->out, filling, sizeof filling) > 0)
        continue;
    twill_progress_add(progress, 1);
    twill_progress_draw(progress);
    CHECK_EQ(atomic_load(&progress->screen->broken), 0);
    tape_read(tape);
    CHECK(strchr(tape->bytes, 'P') == NULL);
    twill_progress_add(progress, 1);
    twill_progress_draw(progress);
    CHECK(strncmp(tape_read(tape), "Progress: 2/9 (22%)", 19) == 0);
    twill_progress_destroy(progress);
    tape_close(tape);
}

/* And it is dropped at once, instead of waiting for who reads. A busy machine has many tries. */
TEST(a_full_descriptor_is_not_waited_for)
{
    struct tape *tape = tape_pipe();
    char filling[4096];
    twill_ns least = TWILL_FOREVER;

    memset(filling, '.', sizeof filling);
    fcntl(tape->out, F_SETFL, O_NONBLOCK);
    while (write(tape->out, filling, sizeof filling) > 0)
        continue;
    for (int tries = 0; tries < 40 && least >= TWILL_MS(500); tries++) {
        twill_ns begun = twill_now(), took;
        CHECK_EQ(twill__write_calmly(tape->out, filling, sizeof filling, false, false),
                 TWILL__WROTE_NOT);
        took = twill_now() - begun;
        least = took < least ? took : least;
    }
    CHECK(least < TWILL_MS(500));
    tape_close(tape);
}

/* Nor does the end wait for the renderer's next look. */
TEST(the_end_does_not_wait_for_the_interval)
{
    twill_ns least = TWILL_FOREVER;

    for (int tries = 0; tries < 40 && least >= TWILL_MS(500); tries++) {
        struct tape *tape = tape_pipe();
        twill_ns begun, took;
        twill_progress *progress =
            make((twill_progress_options){.total = 9,
                                          .style = TWILL_PROGRESS_LINES,
                                          .draw_by = TWILL_PROGRESS_BY_THREAD,
                                          .interval = TWILL_SEC(60),
                                          .fd = tape->out});
        twill_progress_add(progress, 9);
        twill_sleep(twill_within(TWILL_MS(20)));
        begun = twill_now();
        twill_progress_destroy(progress);
        took = twill_now() - begun;
        least = took < least ? took : least;
        tape_read(tape);
        CHECK(strstr(tape->bytes, "9/9 (100%)") != NULL);
        tape_close(tape);
    }
    CHECK(least < TWILL_MS(500));
}

/* Below the last frame stands what comes after it, and nothing of the frame is cleared for that. */
TEST(a_log_line_after_the_end)
{
    struct tape *tape = tape_pipe();
    twill_progress *progress = make((twill_progress_options){.total = 2,
                                                             .style = TWILL_PROGRESS_BAR,
                                                             .draw_by = TWILL_PROGRESS_BY_CALL,
                                                             .ascii = true,
                                                             .width = 60,
                                                             .fd = tape->out});

    twill_progress_add(progress, 2);
    twill_progress_draw(progress);
    CHECK_EQ(twill_progress_finish(progress, TWILL_OK), TWILL_OK);
    tape_read(tape);
    tape_forget(tape);
    CHECK_EQ(twill_progress_log(progress, "after"), 5);
    CHECK_STR(tape_read(tape), "after\n");
    twill_progress_destroy(progress);
    tape_close(tape);
}

static void log_one(void *progress)
{
    CHECK_EQ(twill_progress_log(progress, "waits for room"), 14);
}

TEST(a_log_line_waits_instead)
{
    struct tape *tape = tape_pipe();
    char filling[4096];
    twill__thrd thread;
    twill_progress *progress = make((twill_progress_options){
        .style = TWILL_PROGRESS_LINES, .draw_by = TWILL_PROGRESS_BY_CALL, .fd = tape->out});

    memset(filling, '.', sizeof filling);
    fcntl(tape->out, F_SETFL, O_NONBLOCK);
    while (write(tape->out, filling, sizeof filling) > 0)
        continue;
    begin_threads(&thread, 1, log_one, progress);
    twill_sleep(twill_within(TWILL_MS(5)));
    CHECK(tape_await(tape, "waits for room\n"));
    join_threads(&thread, 1);
    twill_progress_destroy(progress);
    tape_close(tape);
}

/* Fills a terminal that nobody reads. The kernel moves bytes on by and by: until it is full for
   good. */
static void stuff(struct tape *tape)
{
    char filling[512];

    memset(filling, '.', sizeof filling);
    fcntl(tape->out, F_SETFL, O_NONBLOCK);
    for (int full = 0; full < 20; full++) {
        for (size_t size = sizeof filling; size; size /= 8)
            while (write(tape->out, filling, size) > 0)
                full = 0;
        twill_sleep(twill_within(TWILL_MS(1)));
    }
    fcntl(tape->out, F_SETFL, 0);
}

/* D19: a terminal that stops reading holds the renderer alone, and finish for a second. */
TEST(a_terminal_that_stops_reading)
{
    struct tape *tape = tape_terminal(80, 24);
    long live = faults_live();
    struct race race = {.each = 20000 / SLOW};
    twill__thrd threads[2];
    twill_progress *child;
    twill_ns start, took;

    plain_environment();
    stuff(tape);
    race.progress =
        make((twill_progress_options){.total = 100, .fd = tape->out, .interval = TWILL_MS(1)});
    child = make((twill_progress_options){.parent = race.progress, .weight = 5});
    while (atomic_load(&race.progress->screen->blocked) != TWILL__RENDERER_BLOCKED)
        twill_sleep(twill_within(TWILL_MS(1)));
    twill_sleep(twill_within(TWILL_MS(5)));
    begin_threads(threads, 2, race_add, &race);
    join_threads(threads, 2); /* would never end */
    CHECK_EQ(view_of(race.progress).done, 2u * race.each);
    twill_progress_draw(race.progress);
    start = twill_now(); /* the thread hangs in a frame with the child's line */
    CHECK_EQ(twill_progress_destroy(child), TWILL_OK);
    took = twill_now() - start;
    CHECK(took >= TWILL_MS(900) && took < TWILL_SEC(100));
    CHECK_EQ(view_of(race.progress).done, 2u * race.each + 5);
    start = twill_now();
    CHECK_EQ(twill_progress_finish(race.progress, TWILL_OK), TWILL_INVALID);
    took = twill_now() - start;
    CHECK(took >= TWILL_MS(900) && took < TWILL_SEC(100));
    CHECK_EQ(twill_progress_destroy(race.progress), TWILL_OK);
    CHECK_EQ(faults_live(), live + 1); /* what the thread left behind still needs */
    twill_ns end = twill_now() + TWILL_SEC(100);
    while (faults_live() > live && twill_now() < end) {
        tape_forget(tape);
        twill_sleep(twill_within(TWILL_MS(1)));
    }
    CHECK_EQ(faults_live(), live); /* its write came back: it has ended */
    tape_close(tape);
}

TEST(updaters_do_not_wait_for_a_terminal)
{
    struct tape *tape = tape_terminal(80, 24);

    plain_environment();
    stuff(tape);
    twill_progress *progress = make((twill_progress_options){
        .total = 100, .fd = tape->out, .interval = 1, .draw_by = TWILL_PROGRESS_BY_UPDATER});
    for (int i = 0; i < 100; i++)
        twill_progress_add(progress, 1);
    tape_read(tape);
    twill_progress_finish(progress, TWILL_OK);
    tape->length = 0;
    tape_read(tape);
    CHECK(strstr(tape->bytes, "100/100") != NULL); /* the terminal reads again: the last frame */
    twill_progress_destroy(progress);
    tape_close(tape);
}

/* ---- threads, forks, faults ---- */

static atomic_uint signals_seen;

static void see_signal(int number)
{
    (void)number;
    atomic_fetch_add(&signals_seen, 1);
}

TEST(the_renderer_takes_no_signals)
{
    struct tape *tape = tape_pipe();
    sigset_t mask, old;
    twill_progress *progress = make((twill_progress_options){
        .style = TWILL_PROGRESS_LINES, .fd = tape->out, .interval = TWILL_MS(1)});

    atomic_store(&signals_seen, 0);
    CHECK(tape_await(tape, "\n"));
    pthread_sigmask(SIG_BLOCK, NULL, &old); /* the caller's mask is as it was */
    CHECK(!sigismember(&old, SIGTERM) && !sigismember(&old, SIGTTOU));
    signal(SIGUSR1, see_signal);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &mask, &old);
    kill(getpid(), SIGUSR1); /* to whichever thread takes it */
    twill_sleep(twill_within(TWILL_MS(10)));
    CHECK_EQ(atomic_load(&signals_seen), 0);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    CHECK_EQ(atomic_load(&signals_seen), 1);
    twill_progress_destroy(progress);
    tape_close(tape);
}

/* On the thread whose addition it comes in between. */
static twill_progress *signalled;

static void count_signal(int number)
{
    (void)number;
    twill_progress_add(signalled, 1000000);
    atomic_fetch_add(&signals_seen, 1);
}

static void send_signals(void *to)
{
    for (int i = 0; i < 40 / SLOW; i++) {
        unsigned before = atomic_load(&signals_seen);
        pthread_kill(*(pthread_t *)to, SIGUSR2);
        while (atomic_load(&signals_seen) == before) /* ends: the handler runs */
            twill__yield();
    }
}

TEST(additions_in_a_signal_handler)
{
    pthread_t self = pthread_self();
    twill__thrd sender;
    uint64_t count = 0;

    signalled = make((twill_progress_options){.style = TWILL_PROGRESS_SILENT});
    atomic_store(&signals_seen, 0);
    signal(SIGUSR2, count_signal);
    begin_threads(&sender, 1, send_signals, &self);
    for (; atomic_load_explicit(&signals_seen, memory_order_relaxed) < 40 / SLOW; count++)
        twill_progress_add(signalled, 1);
    join_threads(&sender, 1);
    CHECK_EQ(view_of(signalled).done, count + UINT64_C(1000000) * (40 / SLOW));
    twill_progress_destroy(signalled);
}

#ifdef TWILL__UNDER_TSAN /* it allows no threads in a forked child */
#define IN_FORKED TWILL_PROGRESS_BY_CALL
#else
#define IN_FORKED TWILL_PROGRESS_BY_THREAD
#endif

TEST(a_forked_child_counts_and_does_not_draw)
{
    struct tape *tape = tape_pipe();
    twill_progress *progress = make((twill_progress_options){
        .total = 10, .style = TWILL_PROGRESS_LINES, .fd = tape->out, .interval = TWILL_MS(1)});
    twill_progress *child = make((twill_progress_options){.total = 5, .parent = progress});
    twill_progress *over =
        make((twill_progress_options){.style = TWILL_PROGRESS_JSON, .fd = tape->out});
    twill_progress *called = make((twill_progress_options){
        .style = TWILL_PROGRESS_JSON, .draw_by = TWILL_PROGRESS_BY_CALL, .fd = tape->out});
    pid_t pid;
    int status = 0;

    twill_progress_add(progress, 2);
    twill_progress_finish(over, TWILL_OK);
    twill_progress_destroy(
        make((twill_progress_options){.parent = called, .total = 3, .weight = 3}));
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        struct tape *own = tape_pipe();
        twill_progress *other = NULL;
        dup2(own->out, tape->out);
        twill_progress_add(progress, 3);
        twill_progress_set(child, 4);
        CHECK_EQ(view_of(progress).done, 5);
        CHECK_EQ(view_of(progress).percent, 50);
        CHECK_EQ(view_of(child).done, 4);
        twill_progress_draw(progress);
        twill_progress_suspend(progress);
        twill_progress_resume(progress);
        CHECK_EQ(twill_progress_log(progress, "x"), -1);
        CHECK_EQ(twill_progress_set_label(progress, "x"), TWILL_FORKED);
        CHECK_EQ(twill_progress_create(&other, &(twill_progress_options){.parent = progress}),
                 TWILL_FORKED);
        CHECK_EQ(twill_progress_finish(progress, TWILL_OK), TWILL_FORKED);
        CHECK_EQ(twill_progress_destroy(child), TWILL_OK);
        CHECK_EQ(twill_progress_destroy(progress), TWILL_OK);
        CHECK(view_of(called).percent == -1 && !view_of(called).total_known);
        CHECK_EQ(view_of(called).done, 3); /* those of a child that has ended */
        CHECK_EQ(twill_progress_destroy(called), TWILL_OK);
        CHECK_EQ(twill_progress_destroy(over), TWILL_OK);
        CHECK_EQ(faults_live(), 0); /* the renderer's part too */
        CHECK_STR(tape_read(own), "");
        other = make((twill_progress_options){.total = 1, /* its own are as ever */
                                              .style = TWILL_PROGRESS_LINES,
                                              .draw_by = IN_FORKED,
                                              .fd = tape->out});
        twill_progress_add(other, 1);
        CHECK_EQ(twill_progress_destroy(other), TWILL_OK);
        CHECK(strstr(tape_read(own), "Progress: 1/1 (100%)") != NULL);
        _exit(atomic_load(&harness_failures) != 0);
    }
    while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
        continue;
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_EQ(view_of(progress).done, 2);
    twill_progress_destroy(child);
    twill_progress_destroy(progress);
    twill_progress_destroy(called);
    twill_progress_destroy(over);
    tape_close(tape);
}

/* In on_view, by whoever updates or ends the bar: what the child goes on with draws nothing. */
struct forker {
    struct tape *tape;
    pid_t pid;
    bool at_end, child, drew;
};

static void forks_in_view(const twill_progress_view *view, const twill_task *task)
{
    struct forker *all = task->context;
    int status = 0;

    if (all->pid || all->child || view->finished != all->at_end)
        return;
    tape_forget(all->tape);
    fflush(stdout);
    all->pid = fork();
    all->child = all->pid == 0;
    if (all->child)
        return;
    while (waitpid(all->pid, &status, 0) == -1 && errno == EINTR)
        continue;
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    all->drew = *tape_read(all->tape) != '\0';
}

TEST(a_child_forked_in_on_view_draws_nothing)
{
    for (int at_end = 0; at_end < 2; at_end++) {
        struct forker all = {.tape = tape_pipe(), .at_end = at_end};
        twill_progress *progress = make((twill_progress_options){.total = 4,
                                                                 .style = TWILL_PROGRESS_JSON,
                                                                 .fd = all.tape->out,
                                                                 .draw_by = TWILL_PROGRESS_EACH,
                                                                 .on_view = forks_in_view,
                                                                 .context = &all});

        twill_progress_add(progress, 1);
        if (all.child)
            _exit(view_of(progress).done != 1);
        CHECK_EQ(twill_progress_destroy(progress), TWILL_OK);
        if (all.child)
            _exit(0);
        CHECK(all.pid && !all.drew);
        tape_close(all.tape);
    }
}

TEST(no_memory)
{
    long live = faults_live();
    int nowhere = open("/dev/null", O_WRONLY);
    twill_progress *progress, *child;

    for (unsigned long k = 1; k <= 2; k++) {
        progress = (twill_progress *)&live;
        faults_fail_alloc(k);
        CHECK_EQ(twill_progress_create(&progress, NULL), TWILL_NO_MEMORY);
        CHECK(progress == NULL);
        CHECK_EQ(faults_live(), live);
    }
    progress = make((twill_progress_options){.style = TWILL_PROGRESS_SILENT, .fd = nowhere});
    faults_fail_alloc(1);
    CHECK_EQ(twill_progress_create(&child, &(twill_progress_options){.parent = progress}),
             TWILL_NO_MEMORY);
    CHECK(child == NULL);
    faults_fail_alloc(0);
    unsigned long before = faults_allocs();
    for (int i = 0; i < 100; i++) {
        twill_progress_add(progress, 1);
        twill_progress_draw(progress);
        twill_progress_log(progress, "%s", "");
    }
    CHECK_EQ(faults_allocs(), before); /* nothing is allocated after create */
    twill_progress_destroy(progress);
    close(nowhere);
    CHECK_EQ(faults_live(), live);
}

TEST(no_thread)
{
    struct tape *tape = tape_pipe();

    faults_fail_thread(1);
    twill_progress *progress = make((twill_progress_options){
        .total = 10, .style = TWILL_PROGRESS_COUNTER, .interval = 1, .fd = tape->out});
    for (int i = 0; i < 10; i++)
        twill_progress_add(progress, 1);
    CHECK_EQ(twill_progress_finish(progress, TWILL_OK), TWILL_OK);
    twill_progress_destroy(progress);
    tape_read(tape);
    CHECK(strstr(tape->bytes, "\rProgress: 5/10 (50%)") != NULL); /* whoever updates draws */
    CHECK(strstr(tape->bytes, "\rProgress: 10/10 (100%)\n") != NULL);
    tape_close(tape);
}

/* ---- views, families ---- */

struct watcher {
    atomic_uint calls, finals, inside;
    atomic_bool log;
    uint64_t last;
    twill_progress **progress;
};

static void watch(const twill_progress_view *view, const twill_task *task)
{
    struct watcher *watcher = task->context;

    CHECK_EQ(atomic_fetch_add(&watcher->inside, 1), 0);
    CHECK(task->worker == UINT_MAX && task->index == SIZE_MAX);
    CHECK_STR(view->label, "watched");
    CHECK(view->done >= watcher->last);
    watcher->last = view->done;
    atomic_fetch_add(&watcher->calls, 1);
    if (view->finished)
        atomic_fetch_add(&watcher->finals, 1);
    else if (*watcher->progress && atomic_load(&watcher->log)) {
        atomic_store(&watcher->log, false);
        CHECK_EQ(twill_progress_finish(*watcher->progress, TWILL_OK), TWILL_DEADLOCK);
        CHECK_EQ(twill_progress_destroy(*watcher->progress), TWILL_DEADLOCK);
        CHECK_EQ(twill_progress_log(*watcher->progress, "from on_view"), 12);
        twill_progress_add(*watcher->progress, 1);
        twill_progress_draw(*watcher->progress);
    }
    atomic_fetch_sub(&watcher->inside, 1);
}

TEST(on_view_is_called_by_whoever_draws)
{
    twill_progress_draw_by who[] = {TWILL_PROGRESS_BY_THREAD, TWILL_PROGRESS_BY_UPDATER,
                                    TWILL_PROGRESS_BY_CALL, TWILL_PROGRESS_EACH};

    for (int i = 0; i < 4; i++) {
        struct tape *tape = tape_pipe();
        twill_progress *progress = NULL;
        struct watcher watcher = {.progress = &progress};
        struct race race = {.each = 30};
        twill__thrd threads[3];
        twill_progress_options options = {.label = "watched",
                                          .style = TWILL_PROGRESS_SILENT,
                                          .draw_by = who[i],
                                          .interval = who[i] == TWILL_PROGRESS_EACH ? 0 : 1000,
                                          .on_view = watch,
                                          .context = &watcher,
                                          .fd = tape->out};
        CHECK_EQ(twill_progress_create(&progress, &options), TWILL_OK);
        atomic_store(&watcher.log, true);
        race.progress = progress;
        begin_threads(threads, 3, race_add, &race);
        join_threads(threads, 3);
        twill_ns end = twill_now() + TWILL_SEC(100);
        while (atomic_load(&watcher.log) && twill_now() < end)
            twill_progress_draw(progress);
        CHECK_EQ(twill_progress_finish(progress, TWILL_OK), TWILL_OK);
        CHECK_EQ(atomic_load(&watcher.finals), 1);
        CHECK_EQ(watcher.last, 91);
        CHECK(atomic_load(&watcher.calls) >= 2);
        CHECK_STR(tape_read(tape), "from on_view\n");
        CHECK_EQ(twill_progress_destroy(progress), TWILL_OK);
        tape_close(tape);
    }
}

static void linger(const twill_progress_view *view, const twill_task *task)
{
    struct watcher *watcher = task->context;

    atomic_fetch_add(&watcher->inside, 1);
    twill_sleep(twill_within(TWILL_MS(2)));
    if (view->finished)
        atomic_fetch_add(&watcher->finals, 1);
    atomic_fetch_sub(&watcher->inside, 1);
}

TEST(destroy_waits_for_on_view)
{
    struct watcher watcher = {.last = 0};
    twill_progress *root =
        make((twill_progress_options){.style = TWILL_PROGRESS_SILENT, .interval = TWILL_US(100)});

    for (unsigned i = 1; i <= 10; i++) {
        twill_progress *child =
            make((twill_progress_options){.parent = root, .on_view = linger, .context = &watcher});
        while (atomic_load(&watcher.inside) == 0)
            twill_sleep(twill_within(TWILL_US(50)));
        CHECK_EQ(twill_progress_destroy(child), TWILL_OK);
        CHECK(atomic_load(&watcher.inside) == 0 && atomic_load(&watcher.finals) == i);
    }
    twill_progress_destroy(root);
}

TEST(a_child_stands_for_items_of_its_parent)
{
    twill_progress_options silent = {.total = 100, .style = TWILL_PROGRESS_SILENT};
    twill_progress *root = make(silent), *a, *b, *inner, *part[3];

    a = make((twill_progress_options){.total = 3, .parent = root, .weight = 10});
    b = make((twill_progress_options){.total = 3, .parent = root, .weight = 12});
    inner = make((twill_progress_options){.total = 2, .parent = b, .weight = 2});
    for (int i = 0; i < 3; i++) { /* the sum is rounded, not the parts */
        part[i] = make((twill_progress_options){.total = 10, .parent = root, .weight = 1});
        twill_progress_add(part[i], 4);
        CHECK_EQ(view_of(root).done, (i + 1) * 4 / 10);
    }
    for (int i = 0; i < 3; i++)
        CHECK_EQ(twill_progress_destroy(part[i]), TWILL_OK);
    CHECK_EQ(view_of(root).done, 3);
    twill_progress_set(root, 0); /* moves what was counted here, not what children gave */
    CHECK_EQ(view_of(root).done, 3);
    twill_progress_add(root, 47);
    twill_progress_add(a, 2);
    CHECK_EQ(view_of(root).done, 56); /* 6.67 */
    twill_progress_add_failed(b, 1);
    CHECK_EQ(view_of(root).done, 60); /* 6.67 + 4 */
    twill_progress_add(inner, 1);
    CHECK_EQ(view_of(b).done, 1);
    CHECK_EQ(view_of(root).done, 64); /* 6.67 + 8 */
    twill_progress_add(inner, 1);
    CHECK_EQ(twill_progress_destroy(inner), TWILL_OK);
    CHECK_EQ(view_of(b).done, 2);
    CHECK_EQ(view_of(root).done, 68); /* 6.67 + 12 */
    CHECK_EQ(twill_progress_finish(a, TWILL_CANCELLED), TWILL_OK);
    CHECK_EQ(view_of(root).skipped, 10);
    CHECK_EQ(view_of(root).done, 62);
    CHECK_EQ(twill_progress_finish(b, TWILL_FAILED), TWILL_OK);
    CHECK(view_of(root).failed == 12 && view_of(root).done == 50 && view_of(root).percent == 72);
    CHECK(view_of(b).done == 2 && view_of(b).failed == 1);
    twill_progress_destroy(a);
    twill_progress_destroy(b);
    a = make((twill_progress_options){.parent = root, .weight = 28});
    twill_progress_add(a, 1000);
    CHECK_EQ(view_of(root).percent, 72); /* nobody knows which part */
    twill_progress_destroy(a);
    CHECK_EQ(view_of(root).percent, 100);
    CHECK_EQ(twill_progress_destroy(root), TWILL_OK);

    root = make(silent);
    a = make((twill_progress_options){.total = 3, .parent = root, .weight = 10});
    twill_progress_add(a, 30); /* more than there were: no more than it stands for */
    CHECK_EQ(view_of(root).done, 10);
    twill_progress_destroy(a);
    CHECK_EQ(view_of(root).done, 10);
    CHECK_EQ(twill_progress_destroy(root), TWILL_OK);

    silent.total = UINT64_MAX;
    root = make(silent);
    a = make((twill_progress_options){.total = UINT64_MAX, .parent = root, .weight = UINT64_MAX});
    twill_progress_add(a, UINT64_MAX - 1);
    CHECK_EQ(view_of(root).done, UINT64_MAX - 1);
    CHECK_EQ(view_of(root).percent, 99);
    twill_progress_destroy(a);
    CHECK_EQ(view_of(root).percent, 100);
    twill_progress_destroy(root);
}

TEST(children_that_are_left_behind_are_an_assertion)
{
    long live = faults_live();
    struct tape *tape = tape_pipe();
    twill_progress *root = make((twill_progress_options){
        .style = TWILL_PROGRESS_LINES, .fd = tape->out, .draw_by = TWILL_PROGRESS_EACH});
    twill_progress *child = make((twill_progress_options){.parent = root, .weight = 1});
    twill_progress *inner = make((twill_progress_options){.parent = child, .weight = 1});

    atomic_store(&asserted, 0);
    CHECK_EQ(twill_progress_destroy(root), TWILL_OK);
    CHECK_EQ(atomic_load(&asserted), 1);
    tape_read(tape);
    twill_progress_add(child, 3); /* silent from here on */
    twill_progress_add(inner, 3);
    CHECK_EQ(view_of(child).done, 3);
    CHECK_EQ(twill_progress_log(inner, "still"), 5);
    CHECK_EQ(twill_progress_destroy(inner), TWILL_OK);
    CHECK_EQ(twill_progress_destroy(child), TWILL_OK);
    CHECK_STR(tape_read(tape), "still\n");

    root = make((twill_progress_options){.style = TWILL_PROGRESS_SILENT});
    child = make((twill_progress_options){.parent = root});
    inner = make((twill_progress_options){.parent = child});
    CHECK_EQ(twill_progress_destroy(child), TWILL_OK);
    CHECK_EQ(atomic_load(&asserted), 2);
    CHECK_EQ(twill_progress_create(&child, &(twill_progress_options){.parent = inner}),
             TWILL_CLOSED); /* it is nobody's, and so would this one be */
    CHECK_EQ(twill_progress_destroy(inner), TWILL_OK);
    CHECK_EQ(twill_progress_destroy(root), TWILL_OK);
    CHECK_EQ(faults_live(), live);
    tape_close(tape);
}

static void count_calls(const twill_progress_view *view, const twill_task *task)
{
    (void)view;
    ++*(unsigned *)task->context;
}

/* The end of a child is not the root's turn to be looked at. */
TEST(a_child_that_ends_tells_nobody_else)
{
    unsigned ends = 0, calls = 0;
    twill_progress *root = make((twill_progress_options){.style = TWILL_PROGRESS_SILENT,
                                                         .draw_by = TWILL_PROGRESS_BY_UPDATER,
                                                         .interval = TWILL_SEC(1000),
                                                         .on_view = count_calls,
                                                         .context = &calls});
    twill_progress *child =
        make((twill_progress_options){.parent = root, .on_view = count_ends, .context = &ends});

    twill_progress_set(child, 7); /* draws, being the first */
    twill_progress_set(child, 8);
    CHECK_EQ(calls, 1);
    CHECK_EQ(twill_progress_destroy(child), TWILL_OK);
    CHECK(calls == 1 && ends == 1);
    CHECK_EQ(twill_progress_destroy(root), TWILL_OK);
    CHECK_EQ(calls, 2);
}

/* ---- callbacks and writes that take long ---- */

struct gate {
    atomic_bool inside, open, wait_for_end;
    atomic_uint finals;
    twill_progress *progress;
    twill_status ends;
};

static void await_true(atomic_bool *flag)
{
    twill_ns end = twill_now() + TWILL_SEC(100);

    while (!atomic_load(flag) && twill_now() < end)
        twill_sleep(twill_within(TWILL_US(100)));
    CHECK(atomic_load(flag));
}

static void await_state(twill_progress *progress, uint32_t state)
{
    twill_ns end = twill_now() + TWILL_SEC(100);

    while (atomic_load(&progress->state) != state && twill_now() < end)
        twill_sleep(twill_within(TWILL_US(100)));
    CHECK_EQ(atomic_load(&progress->state), state);
}

static void view_at_gate(const twill_progress_view *view, const twill_task *task)
{
    struct gate *gate = task->context;

    if (view->finished) {
        atomic_fetch_add(&gate->finals, 1);
        gate->ends = twill_progress_finish(gate->progress, TWILL_OK);
        return;
    }
    atomic_store(&gate->inside, true);
    if (atomic_load(&gate->wait_for_end))
        await_state(gate->progress, TWILL__PROGRESS_ENDED);
    else
        await_true(&gate->open);
    atomic_store(&gate->inside, false);
}

static void draw_it(void *progress)
{
    twill_progress_draw(progress);
}

/* Somebody's on_view does not come back: who ends a bar gives up its turn to draw, not its
   on_view. */
TEST(the_end_of_a_bar_while_another_callback_hangs)
{
    struct tape *tape = tape_pipe();
    struct gate root = {.ends = TWILL_OK}, child = {.ends = TWILL_OK};
    twill__thrd thread;

    stuck_after = TWILL_MS(10);
    root.progress = make((twill_progress_options){.style = TWILL_PROGRESS_LINES,
                                                  .draw_by = TWILL_PROGRESS_BY_CALL,
                                                  .on_view = view_at_gate,
                                                  .context = &root,
                                                  .fd = tape->out});
    child.progress = make((twill_progress_options){
        .label = "part", .parent = root.progress, .on_view = view_at_gate, .context = &child});
    begin_threads(&thread, 1, draw_it, root.progress);
    await_true(&root.inside);
    CHECK_EQ(twill_progress_finish(child.progress, TWILL_OK), TWILL_OK);
    CHECK(atomic_load(&root.inside) && atomic_load(&child.finals) == 1);
    CHECK_EQ(child.ends, TWILL_DEADLOCK);
    atomic_store(&root.open, true);
    join_threads(&thread, 1);
    CHECK_EQ(twill_progress_destroy(child.progress), TWILL_OK);
    CHECK_EQ(twill_progress_destroy(root.progress), TWILL_OK);
    CHECK(atomic_load(&root.finals) == 1 && atomic_load(&child.finals) == 1);
    stuck_after = TWILL_SEC(1);
    tape_close(tape);
}

/* And its own on_view is waited for. */
TEST(the_end_of_a_bar_while_its_callback_runs)
{
    struct gate gate = {.wait_for_end = true};
    twill__thrd thread;

    stuck_after = TWILL_MS(10);
    twill_progress *root = make((twill_progress_options){.style = TWILL_PROGRESS_SILENT,
                                                         .draw_by = TWILL_PROGRESS_BY_CALL});
    gate.progress =
        make((twill_progress_options){.parent = root, .on_view = view_at_gate, .context = &gate});
    begin_threads(&thread, 1, draw_it, root);
    await_true(&gate.inside);
    CHECK_EQ(twill_progress_finish(gate.progress, TWILL_OK), TWILL_OK);
    CHECK(!atomic_load(&gate.inside) && atomic_load(&gate.finals) == 1);
    join_threads(&thread, 1);
    CHECK_EQ(twill_progress_destroy(gate.progress), TWILL_OK);
    CHECK_EQ(twill_progress_destroy(root), TWILL_OK);
    stuck_after = TWILL_SEC(1);
}

static void slow_view(const twill_progress_view *view, const twill_task *task)
{
    struct gate *gate = task->context;

    if (view->finished) {
        atomic_fetch_add(&gate->finals, 1);
        return;
    }
    atomic_store(&gate->inside, true);
    await_state(gate->progress, TWILL__PROGRESS_ENDING);
    twill_sleep(twill_within(TWILL_MS(8)));
    atomic_store(&gate->inside, false);
}

/* The renderer is left behind when it hangs in a write, not when a callback takes its time. */
TEST(a_slow_callback_is_waited_for)
{
    struct gate gate = {.ends = TWILL_OK};
    long live = faults_live();

    stuck_after = TWILL_MS(1);
    CHECK_EQ(twill_progress_create(&gate.progress,
                                   &(twill_progress_options){.style = TWILL_PROGRESS_SILENT,
                                                             .interval = TWILL_MS(1),
                                                             .on_view = slow_view,
                                                             .context = &gate}),
             TWILL_OK);
    await_true(&gate.inside);
    CHECK_EQ(twill_progress_finish(gate.progress, TWILL_OK), TWILL_OK);
    CHECK(!atomic_load(&gate.inside) && atomic_load(&gate.finals) == 1);
    CHECK_EQ(twill_progress_destroy(gate.progress), TWILL_OK);
    CHECK_EQ(faults_live(), live); /* its thread has ended */
    stuck_after = TWILL_SEC(1);
}

static void log_it(void *progress)
{
    CHECK_EQ(twill_progress_log(progress, "at last"), 7);
}

/* Not a byte has room any more, and a writer waits. */
static void tape_fill(struct tape *tape)
{
    char filling[4096];

    memset(filling, '.', sizeof filling);
    fcntl(tape->out, F_SETFL, O_NONBLOCK);
    for (size_t size = sizeof filling; size; size /= 64)
        while (write(tape->out, filling, size) > 0)
            continue;
    fcntl(tape->out, F_SETFL, 0);
}

/* A renderer that is left behind while it waits for another's write, or for another's turn, touches
   nothing when it comes to. */
TEST(a_renderer_that_waits_is_left_behind)
{
    for (int at_turn = 0; at_turn < 2; at_turn++) {
        struct tape *tape = tape_pipe();
        long live = faults_live();
        struct gate gate = {.ends = TWILL_OK};
        twill__thrd thread;
        twill_ns end = twill_now() + TWILL_SEC(100);
        atomic_store(&gate.open, true);
        stuck_after = TWILL_MS(10);
        gate.progress = make((twill_progress_options){.style = TWILL_PROGRESS_LINES,
                                                      .interval = TWILL_SEC(1000),
                                                      .on_view = at_turn ? view_at_gate : NULL,
                                                      .context = at_turn ? &gate : NULL,
                                                      .fd = tape->out});
        CHECK(tape_await(tape, "Progress: 0")); /* its first frame */
        atomic_store(&gate.wait_for_end, true);
        if (!at_turn)
            tape_fill(tape);
        begin_threads(&thread, 1, at_turn ? draw_it : log_it, gate.progress);
        if (at_turn)
            await_true(&gate.inside);
        while (!atomic_load(&gate.progress->screen->io) && !at_turn && twill_now() < end)
            twill_sleep(twill_within(TWILL_US(100)));
        CHECK_EQ(twill_progress_finish(gate.progress, TWILL_OK), TWILL_OK);
        CHECK_EQ(atomic_load(&gate.progress->screen->blocked), TWILL__RENDERER_ABANDONED);
        CHECK_EQ(atomic_load(&gate.finals), at_turn);
        tape_forget(tape);
        join_threads(&thread, 1);
        CHECK_EQ(twill_progress_destroy(gate.progress), TWILL_OK);
        while (faults_live() > live && twill_now() < end)
            twill_sleep(twill_within(TWILL_US(100)));
        CHECK_EQ(faults_live(), live);
        stuck_after = TWILL_SEC(1);
        tape_close(tape);
    }
}

static void cancel_it(void *progress)
{
    CHECK_EQ(twill_progress_finish(progress, TWILL_CANCELLED), TWILL_OK);
}

/* A child that ends while the last frame is being written has no line any more, and it ends. */
TEST(a_child_that_ends_during_the_last_frame)
{
    struct tape *tape = tape_pipe();
    twill__thrd thread;

    stuck_after = TWILL_SEC(60); /* whatever this thread takes to get there */
    tape_fill(tape);
    twill_progress *root = make((twill_progress_options){
        .style = TWILL_PROGRESS_LINES, .draw_by = TWILL_PROGRESS_BY_CALL, .fd = tape->out});
    twill_progress *child = make((twill_progress_options){.label = "part", .parent = root});
    begin_threads(&thread, 1, cancel_it, root);
    await_state(root, TWILL__PROGRESS_ENDING);
    while (!atomic_load(&root->screen->io))
        twill_sleep(twill_within(TWILL_US(100)));
    twill_sleep(twill_within(TWILL_MS(1)));
    begin_to_end(child);
    CHECK(tape_await(tape, "cancelled\n"));
    join_threads(&thread, 1);
    CHECK_EQ(child->state, TWILL__PROGRESS_ENDED);
    twill_progress_destroy(child);
    twill_progress_destroy(root);
    stuck_after = TWILL_SEC(1);
    tape_read(tape);
    CHECK(tape->bytes[tape->length - 1] == '\n');
    tape_close(tape);
}

/* A child that ends while a frame is being written has its last line in the next. */
TEST(a_child_that_ends_during_a_frame)
{
    struct tape *tape = tape_pipe();
    twill__thrd thread;

    stuck_after = TWILL_SEC(60); /* likewise */
    tape_fill(tape);
    twill_progress *root = make((twill_progress_options){
        .style = TWILL_PROGRESS_LINES, .interval = TWILL_MS(1), .fd = tape->out});
    twill_progress *child = make((twill_progress_options){.label = "part", .parent = root});
    while (atomic_load(&root->screen->blocked) != TWILL__RENDERER_BLOCKED ||
           !atomic_load(&root->screen->io))
        twill_sleep(twill_within(TWILL_US(100)));
    twill_sleep(twill_within(TWILL_MS(1)));
    begin_threads(&thread, 1, cancel_it, child);
    await_state(child, TWILL__PROGRESS_ENDING);
    CHECK(tape_await(tape, "cancelled"));
    join_threads(&thread, 1);
    twill_progress_destroy(child);
    twill_progress_destroy(root);
    stuck_after = TWILL_SEC(1);
    tape_read(tape);
    CHECK_EQ(times(tape->bytes, "cancelled"), 1);
    tape_close(tape);
}

/* ---- everything at once ---- */

static void finish_it(void *race_)
{
    struct race *race = race_;

    CHECK_EQ(twill_progress_finish(race->progress, TWILL_OK), TWILL_OK);
    CHECK(view_of(race->progress).finished);
}

TEST(finish_against_add_against_finish)
{
    for (int round = 0; round < 60 / SLOW; round++) {
        struct tape *tape = tape_pipe();
        struct race race = {.each = 200};
        twill__thrd adders[2], finishers[2];

        race.progress =
            make((twill_progress_options){.style = TWILL_PROGRESS_COUNTER,
                                          .draw_by = (twill_progress_draw_by)(round % 4),
                                          .interval = round % 4 == 3 ? 0 : 1000,
                                          .fd = tape->out});
        begin_threads(adders, 2, race_add, &race);
        begin_threads(finishers, 2, finish_it, &race);
        for (int i = 0; i < 20; i++) {
            tape_read(tape);
            twill_progress_draw(race.progress);
        }
        join_threads(finishers, 2);
        join_threads(adders, 2);
        CHECK_EQ(view_of(race.progress).done, 400);
        CHECK_EQ(twill_progress_destroy(race.progress), TWILL_OK);
        tape_read(tape);
        CHECK(strchr(tape->bytes, '\n') == tape->bytes + tape->length - 1); /* one, at the end */
        tape_close(tape);
    }
}

static void a_child_life(void *race_)
{
    struct race *race = race_;

    for (unsigned i = 0; i < race->each; i++) {
        twill_progress *child = make((twill_progress_options){
            .total = 3, .label = "child", .parent = race->progress, .weight = 1});
        twill_progress_add(child, 2);
        twill_progress_set_label(child, "other");
        if (i % 3 == 0)
            twill_progress_log(child, "log %u", i);
        if (i % 3 == 1) {
            twill_progress_suspend(child);
            twill_progress_resume(child);
        }
        twill_progress_add_skipped(child, 1);
        CHECK_EQ(twill_progress_destroy(child), TWILL_OK);
    }
}

TEST(families_under_load)
{
    long live = faults_live();

    for (int round = 0; round < 4; round++) {
        struct tape *tape = round < 2 ? tape_terminal(60, 8) : tape_pipe();
        struct race race = {.each = 40 / (SLOW > 1 ? 2 : 1)};
        twill__thrd threads[4];
        struct term *term;

        plain_environment();
        fcntl(tape->in, F_SETFL, fcntl(tape->in, F_GETFL) | O_NONBLOCK);
        race.progress = make((twill_progress_options){
            .total = 4u * race.each,
            .style = round == 2 ? TWILL_PROGRESS_LINES : TWILL_PROGRESS_BAR,
            .draw_by = round == 1 ? TWILL_PROGRESS_BY_UPDATER : TWILL_PROGRESS_BY_THREAD,
            .interval = TWILL_US(100),
            .width = 60,
            .fd = tape->out});
        begin_threads(threads, 4, a_child_life, &race);
        while (view_of(race.progress).done < 4u * race.each) {
            char away[4096]; /* what the tape cannot hold any more */
            if (tape->length + 1 < sizeof tape->bytes)
                tape_read(tape);
            else if (read(tape->in, away, sizeof away) < 0)
                twill_sleep(twill_within(TWILL_US(100)));
            twill_progress_draw(race.progress);
        }
        join_threads(threads, 4);
        CHECK_EQ(view_of(race.progress).percent, 100);
        CHECK_EQ(twill_progress_destroy(race.progress), TWILL_OK);
        if (round == 2) {
            tape_close(tape);
            continue;
        }
        term = tape_show(tape, 60, 8);
        CHECK(term->wraps == 0 && (tape->length + 1 >= sizeof tape->bytes || term->unknown == 0));
        free(term);
        tape_close(tape);
    }
    CHECK_EQ(faults_live(), live);
}

/* ---- map with progress ---- */

enum { ITEMS = 20 };

struct map_test {
    twill_cancel cancel;
    int fail_at, skip_at, cancel_at, end_at; /* 1-based; 0: none */
    twill_ns nap;
};

static int one_item(const void *in, void *out, const twill_task *task)
{
    struct map_test *test = task->context;
    int item = *(const int *)in + 1;

    if (test->nap)
        twill_sleep(twill_within(test->nap));
    *(int *)out = item * item;
    if (item == test->cancel_at)
        twill_cancel_fire(&test->cancel, 1);
    if (item == test->end_at)
        pthread_exit(NULL);
    if (item == test->skip_at)
        return twill_task_skip(task);
    return item == test->fail_at ? 77 : 0;
}

static twill_status map_items(struct map_test *test, size_t n, int *results,
                              twill_map_with_progress_options options)
{
    int items[ITEMS];

    for (int i = 0; i < ITEMS; i++)
        items[i] = i;
    options.run.context = test;
    return twill_map_with_progress(items, sizeof *items, results, sizeof *results, n, one_item,
                                   &options);
}

/* Exercise 2 in one call. */
TEST(map_with_progress)
{
    struct tape *tape = tape_pipe();
    struct map_test test = {.nap = TWILL_MS(2)};
    int results[ITEMS] = {0};
    twill_report report;

    CHECK_EQ(
        map_items(&test, ITEMS, results,
                  (twill_map_with_progress_options){.run = {.workers = 5, .report = &report},
                                                    .progress = {.style = TWILL_PROGRESS_COUNTER,
                                                                 .draw_by = TWILL_PROGRESS_EACH,
                                                                 .fd = tape->out}}),
        TWILL_OK);
    tape_read(tape);
    CHECK_STR(tape->bytes, twenty());
    for (int i = 0; i < ITEMS; i++)
        CHECK_EQ(results[i], (i + 1) * (i + 1));
    CHECK(report.total == ITEMS && report.done == ITEMS && report.status == TWILL_OK);
    CHECK_EQ(map_items(&test, ITEMS, results,
                       (twill_map_with_progress_options){
                           .run = {.on_error = (twill_on_error)99},
                           .progress = {.draw_by = TWILL_PROGRESS_EACH, .fd = tape->out}}),
             TWILL_INVALID);
    CHECK_STR(tape_read(tape), ""); /* a call that is refused shows nothing */
    tape_close(tape);
}

/* D20: however it ends, every item is counted, and the display is finished. */
TEST(map_with_progress_reaches_the_total_on_every_path)
{
    static const struct {
        struct map_test test;
        twill_on_error on_error;
        unsigned workers;
        size_t n;
        twill_status status;
        const char *end;
    } cases[] = {
        {{.fail_at = 6}, TWILL_ON_ERROR_COLLECT, 4, 20, TWILL_FAILED, "20/20 (100%) failed\n"},
        {{.fail_at = 6}, TWILL_ON_ERROR_LOWEST, 1, 20, TWILL_FAILED, "20/20 (100%) failed\n"},
        {{.fail_at = 6}, TWILL_ON_ERROR_FIRST, 4, 20, TWILL_FAILED, "20/20 (100%) failed\n"},
        {{.skip_at = 3}, TWILL_ON_ERROR_LOWEST, 3, 20, TWILL_OK, "20/20 (100%)\n"},
        {{.cancel_at = 4},
         TWILL_ON_ERROR_LOWEST,
         1,
         20,
         TWILL_CANCELLED,
         "20/20 (100%) cancelled\n"},
        {{.fail_at = 0}, TWILL_ON_ERROR_LOWEST, 2, 0, TWILL_OK, "0/0 (100%)\n"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tape *tape = tape_pipe();
        struct map_test test = cases[i].test;
        int results[ITEMS];
        twill_report report;
        CHECK_EQ(map_items(&test, cases[i].n, results,
                           (twill_map_with_progress_options){
                               .run = {.workers = cases[i].workers,
                                       .on_error = cases[i].on_error,
                                       .until = twill_until_cancelled(&test.cancel),
                                       .report = i % 2 ? NULL : &report},
                               .progress = {.style = TWILL_PROGRESS_COUNTER, .fd = tape->out}}),
                 cases[i].status);
        tape_read(tape);
        CHECK(tape->length >= strlen(cases[i].end));
        CHECK_STR(tape->bytes + tape->length - strlen(cases[i].end), cases[i].end);
        tape_close(tape);
    }
}

TEST(map_with_progress_counts_each_kind)
{
    struct tape *tape = tape_pipe();
    struct map_test test = {.fail_at = 3, .skip_at = 5};
    int results[ITEMS];

    CHECK_EQ(map_items(&test, ITEMS, results,
                       (twill_map_with_progress_options){
                           .run = {.workers = 3, .on_error = TWILL_ON_ERROR_COLLECT},
                           .progress = {.style = TWILL_PROGRESS_JSON,
                                        .draw_by = TWILL_PROGRESS_BY_CALL,
                                        .fd = tape->out}}),
             TWILL_FAILED);
    CHECK(strstr(tape_read(tape), "\"done\": 18, \"failed\": 1, \"skipped\": 1, "
                                  "\"total\": 20, \"percent\": 100") != NULL);
    CHECK(strstr(tape->bytes, "\"outcome\": \"TWILL_FAILED\"") != NULL);
    tape_close(tape);
}

static void *map_that_ends_its_thread(void *tape_)
{
    struct tape *tape = tape_;
    struct map_test test = {.end_at = 4};
    int results[ITEMS];

    (void)map_items(&test, ITEMS, results,
                    (twill_map_with_progress_options){
                        .run = {.workers = 1, .on_error = TWILL_ON_ERROR_COLLECT},
                        .progress = {.style = TWILL_PROGRESS_COUNTER, .fd = tape->out}});
    CHECK_EQ(tape->out, -1); /* never reached */
    return NULL;
}

TEST(map_with_progress_whose_callback_ends_the_thread)
{
    struct tape *tape = tape_pipe();
    long live = faults_live();
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, map_that_ends_its_thread, tape), 0);
    pthread_join(thread, NULL);
    tape_read(tape);
    CHECK(strstr(tape->bytes, "\rProgress: 20/20 (100%) nobody will ever say") != NULL);
    CHECK_EQ(faults_live(), live);
    tape_close(tape);
}

TEST(map_with_progress_needs_no_progress)
{
    struct map_test test = {.nap = 0};
    long live = faults_live();

    for (unsigned long k = 1; k <= 2; k++) {
        int results[ITEMS] = {0};
        faults_fail_alloc(k);
        CHECK_EQ(map_items(&test, ITEMS, results,
                           (twill_map_with_progress_options){
                               .progress = {.style = TWILL_PROGRESS_SILENT}}),
                 TWILL_OK);
        CHECK_EQ(results[19], 400);
        CHECK_EQ(faults_live(), live);
    }
    faults_fail_alloc(0);
    for (unsigned long k = 1; k <= 3; k++) {
        struct tape *tape = tape_pipe();
        int results[ITEMS] = {0};
        faults_fail_thread(k);
        CHECK_EQ(map_items(&test, ITEMS, results,
                           (twill_map_with_progress_options){
                               .run = {.workers = 3},
                               .progress = {.style = TWILL_PROGRESS_LINES, .fd = tape->out}}),
                 TWILL_OK);
        CHECK_EQ(results[19], 400);
        tape_read(tape);
        CHECK(strstr(tape->bytes, "Progress: 20/20 (100%)") != NULL);
        tape_close(tape);
    }
}

TEST(map_with_progress_checks_its_arguments)
{
    twill_map_with_progress_options wrong[] = {
        {.progress = {.total = 20}},
        {.progress = {.total_is_zero = true}},
        {.progress = {.fd = -1}},
        {.run = {.errors_capacity = 1}},
    };
    struct map_test test = {.nap = 0};
    int results[ITEMS] = {0};
    twill_report report;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        wrong[i].run.report = &report;
        CHECK_EQ(map_items(&test, ITEMS, results, wrong[i]), TWILL_INVALID);
        CHECK(report.total == ITEMS && report.skipped == ITEMS && results[0] == 0);
    }
    CHECK_EQ(twill_map_with_progress(results, 4, results, 4, 1, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_map_with_progress(NULL, 4, results, 4, 1, one_item, NULL), TWILL_INVALID);
}

/* ---- on_view of a bar that outlives its screen ---- */

static twill_status ends_in_view[2];

static void end_in_view(const twill_progress_view *view, const twill_task *task)
{
    twill_progress **bar = task->context;

    if (!view->finished)
        return;
    ends_in_view[0] = twill_progress_finish(*bar, TWILL_OK);
    ends_in_view[1] = twill_progress_destroy(*bar);
}

TEST(on_view_ends_nothing_when_the_root_is_over_already)
{
    static twill_progress *root, *child;
    twill_progress_options of_root = {.style = TWILL_PROGRESS_SILENT,
                                      .draw_by = TWILL_PROGRESS_BY_CALL};
    twill_progress_options of_child = {.on_view = end_in_view, .context = &child};

    CHECK_EQ(twill_progress_create(&root, &of_root), TWILL_OK);
    of_child.parent = root;
    CHECK_EQ(twill_progress_create(&child, &of_child), TWILL_OK);
    CHECK_EQ(twill_progress_finish(root, TWILL_OK), TWILL_OK);
    CHECK_EQ(twill_progress_finish(child, TWILL_OK), TWILL_OK);
    CHECK_EQ(ends_in_view[0], TWILL_DEADLOCK);
    CHECK_EQ(ends_in_view[1], TWILL_DEADLOCK);
    CHECK_EQ(twill_progress_destroy(child), TWILL_OK);
    CHECK_EQ(twill_progress_destroy(root), TWILL_OK);
}

/* ---- on_view that ends its thread ---- */

struct leaver {
    twill_progress *progress;
    _Atomic int calls, finals;
    bool at_the_end; /* it is the last one that does */
};

static void leaves(const twill_progress_view *view, const twill_task *task)
{
    struct leaver *leaver = task->context;

    atomic_fetch_add(&leaver->finals, view->finished);
    if (atomic_fetch_add(&leaver->calls, 1) == 0 || (leaver->at_the_end && view->finished))
        pthread_exit(NULL);
}

static void adds_and_draws(void *leaver_)
{
    struct leaver *leaver = leaver_;

    twill_progress_add(leaver->progress, 1);
    twill_progress_draw(leaver->progress);
}

static void finishes_it(void *leaver_)
{
    struct leaver *leaver = leaver_;

    (void)twill_progress_finish(leaver->progress, TWILL_CANCELLED);
}

TEST(on_view_may_end_its_thread)
{
    twill_progress_draw_by who[] = {TWILL_PROGRESS_BY_THREAD, TWILL_PROGRESS_BY_UPDATER,
                                    TWILL_PROGRESS_BY_CALL, TWILL_PROGRESS_EACH};

    for (int i = 0; i < 8; i++) {
        struct tape *tape = tape_pipe();
        struct leaver leaver = {.at_the_end = i >= 4};
        long live = faults_live();
        twill__thrd thread;
        twill_progress *child;
        twill_progress_options options = {.label = "left",
                                          .total = 1,
                                          .style = TWILL_PROGRESS_LINES,
                                          .draw_by = who[i % 4],
                                          .on_view = leaves,
                                          .context = &leaver,
                                          .fd = tape->out};
        CHECK_EQ(twill_progress_create(&leaver.progress, &options), TWILL_OK);
        begin_threads(&thread, 1, adds_and_draws, &leaver);
        join_threads(&thread, 1);
        while (!atomic_load(&leaver.calls))
            twill__yield();
        child = make((twill_progress_options){.label = "child", .parent = leaver.progress});
        CHECK_EQ(twill_progress_destroy(child), TWILL_OK);
        begin_threads(&thread, 1, finishes_it, &leaver);
        join_threads(&thread, 1);
        CHECK_EQ(twill_progress_destroy(leaver.progress), TWILL_OK);
        CHECK_EQ(atomic_load(&leaver.finals), 1);
        tape_read(tape);
        CHECK(strstr(tape->bytes, "child: 0") != NULL);
        CHECK(strstr(tape->bytes, "left: 1/1 (100%)") != NULL);
        CHECK(strstr(tape->bytes, "cancelled\n") != NULL);
        CHECK_EQ(faults_live(), live);
        tape_close(tape);
    }
}

static void *maps_till_its_end(void *tape_)
{
    struct tape *tape = tape_;
    struct map_test test = {.nap = 0};
    struct leaver leaver = {.at_the_end = false};
    int results[ITEMS];

    (void)map_items(
        &test, ITEMS, results,
        (twill_map_with_progress_options){.run = {.workers = 1, .on_error = TWILL_ON_ERROR_COLLECT},
                                          .progress = {.style = TWILL_PROGRESS_JSON,
                                                       .draw_by = TWILL_PROGRESS_EACH,
                                                       .on_view = leaves,
                                                       .context = &leaver,
                                                       .fd = tape->out}});
    CHECK_EQ(tape->out, -1); /* never reached */
    return NULL;
}

/* Its item is LOST for the map, but has been counted. */
TEST(on_view_may_end_the_thread_of_a_map)
{
    struct tape *tape = tape_pipe();
    long live = faults_live();
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, maps_till_its_end, tape), 0);
    pthread_join(thread, NULL);
    tape_read(tape);
    CHECK(strstr(tape->bytes, "\"done\": 1, \"failed\": 0, \"skipped\": 19, \"total\": 20") !=
          NULL);
    CHECK(strstr(tape->bytes, "\"outcome\": \"TWILL_LOST\"") != NULL);
    CHECK(strstr(tape->bytes, "\"failed\": 1") == NULL);
    CHECK_EQ(faults_live(), live);
    tape_close(tape);
}

/* ---- another thread's frame that the terminal does not take ---- */

struct unheard {
    twill_progress *root, *child;
    _Atomic bool in_view;
};

static void waits_for_the_end(const twill_progress_view *view, const twill_task *task)
{
    struct unheard *unheard = task->context;

    atomic_store(&unheard->in_view, true);
    while (!view->finished && !view_of(unheard->child).finished)
        twill__yield();
}

static void draws_unheard(void *unheard_)
{
    struct unheard *unheard = unheard_;

    twill_progress_draw(unheard->root);
}

static void ends_child(void *unheard_)
{
    struct unheard *unheard = unheard_;

    while (!atomic_load(&unheard->in_view))
        twill__yield();
    CHECK_EQ(twill_progress_finish(unheard->child, TWILL_OK), TWILL_OK);
}

TEST(a_frame_that_is_not_taken_takes_no_last_line_along)
{
    struct tape *tape = tape_pipe();
    struct unheard unheard = {.child = NULL};
    twill__thrd drawer, ender;
    char filler[4096];

    memset(filler, '\n', sizeof filler);
    fcntl(tape->out, F_SETFL, O_NONBLOCK);
    unheard.root = make((twill_progress_options){.style = TWILL_PROGRESS_LINES,
                                                 .draw_by = TWILL_PROGRESS_BY_CALL,
                                                 .on_view = waits_for_the_end,
                                                 .context = &unheard,
                                                 .fd = tape->out});
    unheard.child = make((twill_progress_options){.label = "child", .parent = unheard.root});
    while (write(tape->out, filler, sizeof filler) > 0)
        continue;
    begin_threads(&drawer, 1, draws_unheard, &unheard);
    begin_threads(&ender, 1, ends_child, &unheard);
    join_threads(&drawer, 1);
    tape_read(tape);
    join_threads(&ender, 1);
    CHECK(tape_await(tape, "child: 0"));
    CHECK_EQ(twill_progress_destroy(unheard.child), TWILL_OK);
    CHECK_EQ(twill_progress_destroy(unheard.root), TWILL_OK);
    tape_close(tape);
}

static void add_totals(void *progress)
{
    for (int i = 0; i < 5000; i++)
        twill_progress_add_total(progress, 1);
}

TEST(totals_from_many_threads)
{
    twill_progress *progress =
        make((twill_progress_options){.style = TWILL_PROGRESS_SILENT, .memory = TWILL_SEC(2)});
    twill__thrd threads[4];
    begin_threads(threads, 4, add_totals, progress);
    join_threads(threads, 4);
    CHECK_EQ(view_of(progress).total, 20000);
    CHECK(view_of(progress).total_known);
    twill_progress_get_view(progress, NULL); /* nothing to fill */
    twill_progress_destroy(progress);
}

/* A family is listed with each child behind its parent's, and its grandchildren before the next. */
TEST(families_in_order)
{
    struct tape *tape = tape_pipe();
    twill_progress *root = make((twill_progress_options){.label = "r",
                                                         .style = TWILL_PROGRESS_LINES,
                                                         .draw_by = TWILL_PROGRESS_BY_CALL,
                                                         .fd = tape->out});
    twill_progress *a = make((twill_progress_options){.label = "a", .parent = root});
    twill_progress *b = make((twill_progress_options){.label = "b", .parent = root});
    twill_progress *below[] = {make((twill_progress_options){.label = "a1", .parent = a}),
                               make((twill_progress_options){.label = "b1", .parent = b}),
                               make((twill_progress_options){.label = "a2", .parent = a})};
    const char *order[] = {"r", "a", "a1", "a2", "b", "b1"};
    twill_progress *p = root->screen->first;
    for (int k = 0; k < 6; k++, p = p->next) {
        CHECK_STR(p->label, order[k]);
        CHECK(!p->next || p->next->previous == p);
    }
    CHECK_PTR(p, NULL);
    CHECK_STR(root->screen->last->label, "b1");
    CHECK_EQ(twill_progress_finish(a, TWILL_OK), TWILL_OK);
    twill_progress *late = root;
    CHECK_EQ(twill_progress_create(&late, &(twill_progress_options){.parent = a}), TWILL_CLOSED);
    CHECK_PTR(late, NULL);
    for (int k = 0; k < 3; k++)
        twill_progress_destroy(below[k]);
    twill_progress_destroy(a);
    twill_progress_destroy(b);
    twill_progress_destroy(root);
    tape_close(tape);
}

TEST(accessible_lines_of_an_unknown_total)
{
    struct tape *tape = tape_pipe();
    twill_progress *progress = make((twill_progress_options){
        .label = "W", .accessible = true, .fd = tape->out, .draw_by = TWILL_PROGRESS_EACH});
    for (int k = 0; k < 50; k++)
        twill_progress_add(progress, 1);
    tape_read(tape);
    CHECK(strncmp(tape->bytes, "W: 1, ", 6) == 0); /* the first, and then one in ten seconds */
    CHECK(strchr(tape->bytes, '\n') == tape->bytes + tape->length - 1);
    twill_progress_destroy(progress);
    tape_close(tape);
}

TEST(an_interval_may_be_for_ever)
{
    twill_progress *bar;
    twill_progress_options options = {.style = TWILL_PROGRESS_LINES,
                                      .draw_by = TWILL_PROGRESS_BY_UPDATER,
                                      .interval = TWILL_FOREVER,
                                      .total = 100};
    int ends[2];
    char text[4096];
    ssize_t length;

    CHECK(pipe(ends) == 0);
    options.fd = ends[1];
    CHECK_EQ(twill_progress_create(&bar, &options), TWILL_OK);
    for (int i = 0; i < 100; i++)
        twill_progress_add(bar, 1);
    CHECK_EQ(twill_progress_destroy(bar), TWILL_OK);
    close(ends[1]);
    length = read(ends[0], text, sizeof text - 1);
    CHECK(length > 0);
    text[length > 0 ? length : 0] = 0;
    CHECK(strchr(text, '\n') && strchr(strchr(text, '\n') + 1, '\n') ==
                                    strrchr(text, '\n')); /* the first line and the last */
    close(ends[0]);
}

HARNESS_MAIN

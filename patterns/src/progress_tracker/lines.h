/* lines.h: what a bar looks like: one line of text in each style. */
#ifndef TWILL__PROGRESS_LINES_H
#define TWILL__PROGRESS_LINES_H

#include "progress_tracker/tracker.h"

/* ---- lines ---- */

/* A piece of a line in a buffer of its own, so that it can be left away. */
typedef struct twill__print_piece {
    twill__print text;
    char data[512];
} twill__print_piece;

static inline twill__print *twill__print_piece_init(twill__print_piece *piece)
{
    piece->text.data = piece->data;
    piece->text.capacity = sizeof piece->data;
    piece->text.length = 0;
    piece->text.cells = 0;
    return &piece->text;
}

static inline const char *twill__progress_outcome(twill_status outcome)
{
    return outcome == TWILL_FAILED      ? "failed"
           : outcome == TWILL_CANCELLED ? "cancelled"
           : outcome == TWILL_TIMEOUT   ? "timed out"
                                        : twill_status_text(outcome);
}

static inline void twill__print_count(twill__print *text, const twill_progress *progress,
                                      const twill_progress_view *view, bool ascii)
{
    twill__print_amount(text, twill__progress_processed(progress), &progress->unit,
                        !view->total_known, ascii);
    if (view->total_known) {
        twill__print_ascii(text, "/");
        twill__print_amount(text, view->total, &progress->unit, true, ascii);
    }
}

/* What the time says: how long it took, that nothing moves, or what is left (not while that is a
   guess). */
static inline void twill__print_tail(twill__print *text, const twill_progress *progress,
                                     const twill_progress_view *view)
{
    uint64_t processed = twill__progress_processed(progress), rest;
    if (view->finished) {
        twill__print_time(text, view->elapsed, true);
        if (view->outcome != TWILL_OK) {
            twill__print_ascii(text, ", ");
            twill__print_ascii(text, twill__progress_outcome(view->outcome));
        }
    } else if (view->stalled) {
        twill__print_ascii(text, "stalled ");
        twill__print_time(text, view->stalled, false);
    } else if (view->left >= 0 && view->elapsed >= TWILL_SEC(2) && view->total > 0 &&
               (processed >= 10 || (processed <= view->total &&
                                    twill__tally_share(processed, 50, view->total, &rest) >= 1))) {
        twill__print_time(text,
                          view->left < INT64_MAX - TWILL_SEC(1) ? view->left + TWILL_SEC(1) - 1
                                                                : view->left,
                          false);
        twill__print_ascii(text, " left"); /* rounded up: nothing takes 0 s */
    }
}

static inline void twill__print_trouble(twill__print *text, const twill_progress_view *view)
{
    if (view->failed) {
        twill__print_number(text, view->failed);
        twill__print_ascii(text, " failed");
    }
    if (view->skipped) {
        twill__print_ascii(text, view->failed ? ", " : "");
        twill__print_number(text, view->skipped);
        twill__print_ascii(text, " skipped");
    }
}

static inline void twill__print_json_time(twill__print *text, const char *key, twill_ns time)
{
    twill__print_ascii(text, key);
    if (time < 0)
        twill__print_ascii(text, "null");
    else
        twill__print_seconds(text, time);
}

static inline void twill__progress_line_json(twill__print *text, const twill_progress *progress,
                                             const twill_progress_view *view)
{
    static const char *const keys[] = {", \"done\": ", ", \"failed\": ", ", \"skipped\": "};
    double rate = view->rate < 1e15 ? view->rate : 1e15;
    twill__print_ascii(text, "{\"label\": ");
    twill__print_json(text, progress->label);
    for (unsigned kind = 0; kind < TWILL__TALLY_KINDS; kind++) {
        twill__print_ascii(text, keys[kind]);
        twill__print_number(text, progress->seen[kind]);
    }
    twill__print_ascii(text, ", \"total\": ");
    if (view->total_known)
        twill__print_number(text, view->total);
    else
        twill__print_ascii(text, "null");
    twill__print_ascii(text, ", \"percent\": ");
    if (view->percent >= 0)
        twill__print_number(text, (uint64_t)view->percent);
    else
        twill__print_ascii(text, "null");
    twill__print_ascii(text, ", \"rate\": ");
    twill__print_fixed(text, twill__print_whole(rate * 1000), 3);
    twill__print_json_time(text, ", \"elapsed\": ", view->elapsed);
    twill__print_json_time(text, ", \"stalled\": ", view->stalled);
    twill__print_json_time(text, ", \"left\": ", view->left);
    if (progress->unit.step || progress->unit.name[0]) {
        twill__print_ascii(text, ", \"unit\": ");
        twill__print_json(text, progress->unit.name);
    }
    if (view->finished) {
        twill__print_ascii(text, ", \"outcome\": ");
        twill__print_json(text, twill_status_name(view->outcome));
    }
    twill__print_ascii(text, view->finished ? ", \"finished\": true}" : ", \"finished\": false}");
}

/* "Label: c/t (p%)", which is all of COUNTER */
static inline void twill__print_plain(twill__print *text, const twill__screen *screen,
                                      const twill_progress *progress,
                                      const twill_progress_view *view, unsigned label_cells)
{
    twill__print_label(text, progress->label, label_cells, screen->ascii);
    twill__print_ascii(text, ": ");
    twill__print_count(text, progress, view, screen->ascii);
    if (view->percent >= 0) {
        twill__print_ascii(text, " (");
        twill__print_number(text, (uint64_t)view->percent);
        twill__print_ascii(text, "%)");
    }
}

static inline void twill__progress_line_plain(twill__print *text, const twill__screen *screen,
                                              const twill_progress *progress,
                                              const twill_progress_view *view)
{
    twill__print_piece tail, trouble;
    twill__print_plain(text, screen, progress, view, UINT_MAX);
    if (view->rate > 0) {
        twill__print_ascii(text, ", ");
        twill__print_rate(text, view->rate, &progress->unit, screen->ascii);
    }
    twill__print_trouble(twill__print_piece_init(&trouble), view);
    if (trouble.text.length) {
        twill__print_ascii(text, ", ");
        twill__print_text(text, &trouble.text);
    }
    twill__print_tail(twill__print_piece_init(&tail), progress, view);
    if (tail.text.length) {
        twill__print_ascii(text, ", ");
        twill__print_text(text, &tail.text);
    }
}

static inline void twill__progress_line_counter(twill__print *text, const twill__screen *screen,
                                                const twill_progress *progress,
                                                const twill_progress_view *view, unsigned cells)
{
    twill__print_piece numbers;
    unsigned room = UINT_MAX;
    if (screen->terminal) { /* a line that wraps could not be overwritten */
        twill__print_plain(twill__print_piece_init(&numbers), screen, progress, view, 0);
        room = cells > numbers.text.cells ? cells - numbers.text.cells : 0;
    }
    twill__print_plain(text, screen, progress, view, room);
    if (view->finished && view->outcome != TWILL_OK) {
        twill__print_ascii(text, " ");
        twill__print_ascii(text, twill__progress_outcome(view->outcome));
    }
}

/* `cells` of bar between brackets. */
static inline void twill__print_bar(twill__print *text, const twill__screen *screen,
                                    twill_progress *progress, const twill_progress_view *view,
                                    unsigned cells)
{
    static const char *const eighths[] = {" ",
                                          "\xe2\x96\x8f",
                                          "\xe2\x96\x8e",
                                          "\xe2\x96\x8d",
                                          "\xe2\x96\x8c",
                                          "\xe2\x96\x8b",
                                          "\xe2\x96\x8a",
                                          "\xe2\x96\x89",
                                          "\xe2\x96\x88"};
    uint64_t processed = twill__progress_processed(progress), rest, filled = 0;
    unsigned parts = screen->ascii ? 1 : 8, from = 0;
    if (view->total_known) {
        filled = view->percent == 100
                     ? (uint64_t)cells * parts
                     : twill__tally_share(processed, (uint64_t)cells * parts, view->total, &rest);
    } else if (
        !view->finished) { /* the marker walks when something has moved, so a stall can be seen */
        unsigned way = 2 * (cells - 3);
        if (progress->stepped != processed)
            progress->steps++;
        progress->stepped = processed;
        from = progress->steps % way;
        from = from > way / 2 ? way - from : from;
    }
    twill__print_ascii(text, "[");
    if (screen->color)
        twill__print_code(text, "\x1b[32m");
    for (unsigned i = 0; i < cells; i++) {
        uint64_t here = filled > (uint64_t)i * parts ? filled - (uint64_t)i * parts : 0;
        if (!view->total_known) {
            char mark[2] = {view->finished              ? (view->outcome ? ' ' : '=')
                            : i >= from && i < from + 3 ? "<=>"[i - from]
                                                        : ' ',
                            '\0'};
            twill__print_ascii(text, mark);
        } else if (screen->ascii) {
            twill__print_ascii(text, here > 1 || (here && view->percent == 100) ? "="
                                     : here                                     ? ">"
                                                                                : " ");
        } else {
            const char *block = eighths[here >= 8 ? 8 : here];
            twill__print_raw(text, block, strlen(block));
            text->cells++;
        }
    }
    if (screen->color)
        twill__print_code(text, "\x1b[0m");
    twill__print_ascii(text, "]");
}

/* Adds a piece to the list behind the bar if there is room: a space or a comma before it. */
static inline void twill__print_take(twill__print *rest, const twill__print *piece,
                                     const char *color, unsigned *room)
{
    unsigned gap = rest->length ? 2 : 1;
    if (piece->length == 0 || piece->cells + gap > *room)
        return;
    *room -= piece->cells + gap;
    twill__print_ascii(rest, gap == 2 ? ", " : " ");
    if (color)
        twill__print_code(rest, color);
    twill__print_text(rest, piece);
    if (color)
        twill__print_code(rest, "\x1b[0m");
}

/* "Label  45% [=====>     ] 450/1000 files, 36.8/s, 15 s left" in at most `cells`. What matters
   less goes first: the rate, the bar, the time, the label, the numbers. */
static inline void twill__progress_line_bar(twill__print *text, const twill__screen *screen,
                                            twill_progress *progress,
                                            const twill_progress_view *view, unsigned cells)
{
    twill__print_piece rest, count, tail, trouble, rate;
    unsigned percent = view->percent >= 0 ? 4 : 0, limit = cells / 3 > 6 ? cells / 3 : 6, room;
    if (limit + percent + 1 > cells)
        limit = cells > percent + 1 + 3 ? cells - percent - 1 : 0;
    twill__print_label(text, progress->label, limit, screen->ascii);
    if (percent && text->cells + percent <= cells) {
        twill__print_ascii(text, text->cells ? " " : "");
        twill__print_ascii(text, view->percent < 10 ? "  " : view->percent < 100 ? " " : "");
        twill__print_number(text, (uint64_t)view->percent);
        twill__print_ascii(text, "%");
    }
    room = cells > text->cells ? cells - text->cells : 0;
    twill__print_count(twill__print_piece_init(&count), progress, view, screen->ascii);
    twill__print_tail(twill__print_piece_init(&tail), progress, view);
    twill__print_trouble(twill__print_piece_init(&trouble), view);
    twill__print_piece_init(&rate);
    if (view->rate > 0)
        twill__print_rate(&rate.text, view->rate, &progress->unit, screen->ascii);
    twill__print_piece_init(&rest);
    twill__print_take(&rest.text, &count.text, NULL, &room);
    twill__print_take(&rest.text, &trouble.text,
                      !screen->color ? NULL
                      : view->failed ? "\x1b[31m"
                                     : "\x1b[33m",
                      &room);
    if (room >= rate.text.cells + 2 + tail.text.cells + 2 + 11)
        twill__print_take(&rest.text, &rate.text, NULL, &room);
    twill__print_take(&rest.text, &tail.text, NULL, &room);
    if (room >= 9) {
        twill__print_ascii(text, " ");
        twill__print_bar(text, screen, progress, view,
                         room - 3 < TWILL__PROGRESS_CELLS ? room - 3 : TWILL__PROGRESS_CELLS);
    }
    twill__print_text(text, &rest.text);
}

#endif

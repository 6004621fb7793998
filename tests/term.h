/* term.h: a small terminal: what a person would see of the bytes that a program wrote. It knows the
 * few control sequences that a progress display may use, and counts everything else as an error.
 *
 *     struct term *t = term_new(80, 24);
 *     term_feed(t, bytes, length);
 *     term_line(t, 0)       the text of a line, from the top of what was ever scrolled away
 *     t->row                the line of the cursor, counted likewise
 *     t->wraps, t->unknown  lines that ran over the edge; sequences that it does not know
 *     t->colored            cells that were written in a colour
 *     free(t);
 */
#ifndef TWILL_TEST_TERM_H
#define TWILL_TEST_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { TERM_LINES = 512, TERM_COLUMNS = 256 };

struct term {
    uint32_t cell[TERM_LINES][TERM_COLUMNS]; /* 0: never written; 1: right half of a wide one */
    unsigned columns, rows;
    unsigned row, column;         /* of the cursor; row counts from the first line ever */
    unsigned top;                 /* the first line that has not been scrolled away */
    unsigned wraps, unknown, colored, erased;
    bool color;
    bool cooked;                  /* a line feed returns to the first column too */
    unsigned state, argument;     /* 0 text, 1 after ESC, 2 after ESC [ */
    unsigned pending;             /* bytes of a character still to come */
    uint32_t character;
    char text[TERM_COLUMNS * 4 + 1];
};

static inline struct term *term_new(unsigned columns, unsigned rows)
{
    struct term *t = calloc(1, sizeof *t);  /* large and hardly touched */

    if (!t)
        abort();
    t->columns = columns < TERM_COLUMNS ? columns : TERM_COLUMNS;
    t->rows = rows;
    return t;
}

static inline void term_line_feed(struct term *t)
{
    if (t->row + 1 < TERM_LINES)
        t->row++;
    if (t->row >= t->top + t->rows)
        t->top = t->row - t->rows + 1;
}

static inline unsigned term_width(uint32_t c)
{
    if (c >= 0x300 && c <= 0x36f)
        return 0;
    return (c >= 0x1100 && c <= 0x115f) || (c >= 0x2e80 && c <= 0xa4cf) ||
                   (c >= 0xac00 && c <= 0xd7a3) || (c >= 0xff00 && c <= 0xff60) ||
                   (c >= 0x1f300 && c <= 0x1faff) || c == 0x231a || c == 0x26a1
               ? 2
               : 1;
}

static inline void term_character(struct term *t, uint32_t c)
{
    unsigned width = term_width(c);

    if (width == 0)
        return;
    if (t->column + width > t->columns) {  /* a terminal with deferred wrapping does it now */
        t->wraps++;
        t->column = 0;
        term_line_feed(t);
    }
    t->cell[t->row][t->column] = c;
    if (width == 2 && t->column + 1 < t->columns)
        t->cell[t->row][t->column + 1] = 1;
    t->column += width;
    t->colored += t->color;
}

static inline void term_erase(struct term *t, unsigned row, unsigned column)
{
    if (row < TERM_LINES && column < TERM_COLUMNS)
        memset(&t->cell[row][column], 0, sizeof t->cell[row][0] * (TERM_COLUMNS - column));
    t->erased++;
}

static inline void term_sequence(struct term *t, char end)
{
    unsigned n = t->argument ? t->argument : 1;

    switch (end) {
    case 'A':
        if (n > t->row - t->top)
            t->unknown++;  /* above the screen: it would overwrite what is not its own */
        t->row -= n > t->row - t->top ? t->row - t->top : n;
        break;
    case 'K':
        term_erase(t, t->row, t->column);
        break;
    case 'J':
        term_erase(t, t->row, t->column);
        for (unsigned row = t->row + 1; row < t->top + t->rows && row < TERM_LINES; row++)
            term_erase(t, row, 0);
        break;
    case 'm':
        t->color = t->argument != 0;
        break;
    default:
        t->unknown++;
    }
}

static inline void term_byte(struct term *t, unsigned char c)
{
    if (t->state == 1) {
        t->state = c == '[' ? 2 : 0;
        t->argument = 0;
        t->unknown += c != '[';
    } else if (t->state == 2 && c >= '0' && c <= '9') {
        t->argument = t->argument * 10 + (c - '0');
    } else if (t->state == 2) {
        term_sequence(t, (char)c);
        t->state = 0;
    } else if (t->pending) {
        if ((c & 0xc0) != 0x80)
            t->unknown++;
        t->character = t->character << 6 | (c & 0x3f);
        if (--t->pending == 0)
            term_character(t, t->character);
    } else if (c >= 0xc2 && c < 0xf5) {
        t->pending = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
        t->character = c & (0x3fu >> t->pending);
    } else if (c == '\r') {
        t->column = 0;
    } else if (c == '\n') {
        term_line_feed(t);
        t->column = t->cooked ? 0 : t->column;
    } else if (c == 0x1b) {
        t->state = 1;
    } else if (c < 0x20 || c >= 0x7f) {
        t->unknown++;
    } else {
        term_character(t, c);
    }
}

static inline void term_feed(struct term *t, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        term_byte(t, (unsigned char)bytes[i]);
}

static inline unsigned term_cells(const struct term *t, unsigned row)
{
    unsigned cells = TERM_COLUMNS;

    while (cells && (t->cell[row][cells - 1] == 0 || t->cell[row][cells - 1] == ' '))
        cells--;
    return cells;
}

/* Without the blanks at its end; valid until the next call. */
static inline const char *term_line(struct term *t, unsigned row)
{
    unsigned cells = term_cells(t, row);
    char *to = t->text;

    for (unsigned i = 0; i < cells; i++) {
        uint32_t c = t->cell[row][i] ? t->cell[row][i] : ' ';
        if (c == 1)
            continue;
        if (c < 0x80) {
            *to++ = (char)c;
        } else {
            unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
            *to++ = (char)((more == 1 ? 0xc0u : more == 2 ? 0xe0u : 0xf0u) | c >> (6 * more));
            while (more--)
                *to++ = (char)(0x80 | (c >> (6 * more) & 0x3f));
        }
    }
    *to = '\0';
    return t->text;
}

#endif

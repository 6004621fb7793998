/* text.h: text of a bounded length and width: numbers, units, times, labels. No printf:
   the locale changes nothing, and a frame needs no memory. */
#ifndef TWILL__PROGRESS_TEXT_H
#define TWILL__PROGRESS_TEXT_H

#include "platform/platform.h"

typedef struct twill__print {
    char *data;
    size_t capacity, length;
    unsigned cells; /* of the screen; not kept by twill__print_raw */
} twill__print;

/* What does not fit is left away; the writer makes the buffer large enough where that matters. */
static inline void twill__print_raw(twill__print *text, const char *data, size_t length)
{
    if (length > text->capacity - text->length)
        length = text->capacity - text->length;
    if (length)
        memcpy(text->data + text->length, data, length);
    text->length += length;
}

static inline void twill__print_code(twill__print *text, const char *code)
{
    twill__print_raw(text, code, strlen(code));
}

static inline void twill__print_ascii(twill__print *text, const char *ascii)
{
    size_t length = strlen(ascii);
    twill__print_raw(text, ascii, length);
    text->cells += (unsigned)length;
}

static inline void twill__print_text(twill__print *text, const twill__print *piece)
{
    twill__print_raw(text, piece->data, piece->length);
    text->cells += piece->cells;
}

static inline void twill__print_number(twill__print *text, uint64_t n)
{
    char digits[21];
    unsigned at = sizeof digits - 1;
    digits[at] = '\0';
    do
        digits[--at] = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    twill__print_ascii(text, digits + at);
}

/* ---- characters ---- */

/* The next character of UTF-8, and its length. Bytes that are no UTF-8 (overlong, surrogates, cut):
   U+FFFD, one byte. */
static inline uint32_t twill__print_utf8(const char *from, size_t *length)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    const unsigned char *s = (const unsigned char *)from;
    unsigned more = s[0] < 0x80   ? 0
                    : s[0] < 0xc2 ? 4
                    : s[0] < 0xe0 ? 1
                    : s[0] < 0xf0 ? 2
                    : s[0] < 0xf5 ? 3
                                  : 4;
    uint32_t c;
    *length = 1;
    if (more == 0)
        return s[0];
    if (more == 4)
        return 0xfffd;
    c = s[0] & (0x3fu >> more);
    for (unsigned i = 1; i <= more; i++) { /* the terminating zero ends it too */
        if ((s[i] & 0xc0) != 0x80)
            return 0xfffd;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0xfffd;
    *length = more + 1;
    return c;
}

/* Cells on the screen; where terminals differ, the larger number, since a line that is too long
   breaks the display. */
static inline unsigned twill__print_cells(uint32_t c)
{
    static const uint32_t none[][2] = {
        {0x300, 0x36f}, {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff}, {0x20d0, 0x20ff}, {0xfe20, 0xfe2f}};
    static const uint32_t two[][2] = {{0x1100, 0x115f},   {0x2300, 0x27bf},   {0x2b00, 0x2bff},
                                      {0x2e80, 0x303e},   {0x3041, 0xa4cf},   {0xa960, 0xa97f},
                                      {0xac00, 0xd7a3},   {0xf900, 0xfaff},   {0xfe10, 0xfe19},
                                      {0xfe30, 0xfe6f},   {0xff00, 0xff60},   {0xffe0, 0xffe6},
                                      {0x16fe0, 0x1b2ff}, {0x1f000, 0x1ffff}, {0x20000, 0x3fffd}};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        if (c >= none[i][0] && c <= none[i][1])
            return 0;
    for (size_t i = 0; i < sizeof two / sizeof two[0]; i++)
        if (c >= two[i][0] && c <= two[i][1])
            return 2;
    return 1;
}

/* What could move the cursor, turn the direction of writing, or cannot be seen. */
static inline bool twill__print_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
           c == 0xfffd || (c >= 0xfff0 && c <= 0xfffb);
}

/* Copies whole characters, as many as `size` - 1 bytes hold. */
static inline void twill__print_cut(char *to, size_t size, const char *from)
{
    size_t at = 0, length;
    while (from[at]) {
        (void)twill__print_utf8(from + at, &length);
        if (at + length >= size)
            break;
        at += length;
    }
    memcpy(to, from, at);
    to[at] = '\0';
}

/* A label in at most `limit` cells. A cut one ends in an ellipsis. */
static inline void twill__print_label(twill__print *text, const char *label, unsigned limit,
                                      bool ascii)
{
    size_t length, at = 0, fits_length = text->length;
    unsigned cells = 0, fits_cells = 0;
    while (label[at]) {
        uint32_t c = twill__print_utf8(label + at, &length);
        bool strange = twill__print_control(c) || (ascii && c > 0x7e);
        unsigned width = strange ? 1 : twill__print_cells(c);
        if (cells + width > limit)
            break;
        if (strange)
            twill__print_raw(text, "?", 1);
        else
            twill__print_raw(text, label + at, length);
        cells += width;
        at += length;
        if (cells + 1 <= limit) { /* the ellipsis would still fit behind it */
            fits_length = text->length;
            fits_cells = cells;
        }
    }
    if (label[at] && limit > 0) {
        text->length = fits_length;
        twill__print_raw(text, ascii ? "~" : "\xe2\x80\xa6", ascii ? 1 : 3);
        cells = fits_cells + 1;
    }
    text->cells += cells;
}

/* A string of JSON, quotes included. Not UTF-8: U+FFFD. */
static inline void twill__print_json(twill__print *text, const char *string)
{
    static const char hex[] = "0123456789abcdef";
    size_t length;
    twill__print_raw(text, "\"", 1);
    for (; *string; string += length) {
        uint32_t c = twill__print_utf8(string, &length);
        if (c == '"' || c == '\\') {
            twill__print_raw(text, "\\", 1);
            twill__print_raw(text, string, 1);
        } else if (c < 0x20) {
            char code[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            twill__print_raw(text, code, 6);
        } else if (c == 0xfffd) {
            twill__print_raw(text, "\\ufffd", 6);
        } else {
            twill__print_raw(text, string, length);
        }
    }
    twill__print_raw(text, "\"", 1);
}

/* ---- amounts ---- */

typedef struct twill__print_unit {
    unsigned step;    /* 0: plain numbers; 1024, 1000 */
    const char *name; /* "" */
} twill__print_unit;

/* value / 10^digits, rounded down already, with `digits` behind the point. */
static inline void twill__print_fixed(twill__print *text, uint64_t value, unsigned digits)
{
    uint64_t scale = digits == 0 ? 1 : digits == 1 ? 10 : digits == 2 ? 100 : 1000;
    twill__print_number(text, value / scale);
    if (digits) {
        twill__print_ascii(text, ".");
        for (uint64_t rest = value % scale; scale > 1; rest %= scale) {
            char digit[2] = {0, 0};
            scale /= 10;
            digit[0] = (char)('0' + rest / scale);
            twill__print_ascii(text, digit);
        }
    }
}

/* Three digits and a prefix, rounded down: no number looks larger than it is. */
static inline void twill__print_prefixed(twill__print *text, uint64_t n, unsigned step)
{
    static const char prefixes[] = "kMGTPE";
    uint64_t one = 1, whole, thousandths;
    unsigned power = 0, digits;
    char prefix[3] = "k";
    while (n / one >= step) { /* ends: 1000 to the 7th is beyond 64 bits */
        one *= step;
        power++;
    }
    whole = n / one;
    if (power == 0) {
        twill__print_number(text, whole);
        twill__print_ascii(text, " ");
        return;
    }
    thousandths = step == 1000 ? n % one / (one / 1000) : (n % one / (one / 1024)) * 1000 / 1024;
    digits = whole < 10 ? 2 : whole < 100 ? 1 : 0;
    twill__print_fixed(text,
                       (whole * 1000 + thousandths) / (digits == 2   ? 10
                                                       : digits == 1 ? 100
                                                                     : 1000),
                       digits);
    prefix[0] = prefixes[power - 1];
    if (step == 1024) {
        prefix[0] = power == 1 ? 'K' : prefix[0];
        prefix[1] = 'i';
        prefix[2] = '\0';
    }
    twill__print_ascii(text, " ");
    twill__print_ascii(text, prefix);
}

/* `behind`: with a plain unit's name. */
static inline void twill__print_amount(twill__print *text, uint64_t n,
                                       const twill__print_unit *unit, bool behind, bool ascii)
{
    if (unit->step) {
        twill__print_prefixed(text, n, unit->step);
        twill__print_label(text, unit->name, UINT_MAX, ascii);
    } else {
        twill__print_number(text, n);
        if (behind && unit->name[0]) {
            twill__print_ascii(text, " ");
            twill__print_label(text, unit->name, UINT_MAX, ascii);
        }
    }
}

/* A number that is not whole: three digits from 1 to 999, then plain. For JSON: three behind the
   point. */
static inline uint64_t twill__print_whole(double x)
{
    return x >= 18446744073709549568.0 ? UINT64_MAX : x > 0 ? (uint64_t)x : 0;
}

static inline void twill__print_rate(twill__print *text, double rate, const twill__print_unit *unit,
                                     bool ascii)
{
    if (unit->step) {
        twill__print_amount(text, twill__print_whole(rate), unit, false, ascii);
    } else {
        if (rate < 10)
            twill__print_fixed(text, twill__print_whole(rate * 100 + 0.5), 2);
        else if (rate < 100)
            twill__print_fixed(text, twill__print_whole(rate * 10 + 0.5), 1);
        else
            twill__print_number(text, twill__print_whole(rate + 0.5));
        if (unit->name[0]) {
            twill__print_ascii(text, " ");
            twill__print_label(text, unit->name, UINT_MAX, ascii);
        }
    }
    twill__print_ascii(text, "/s");
}

/* To the minute from an hour on, to 5 seconds from a minute on, else to the second. `tenths`: below
   10 s, in tenths. */
static inline void twill__print_time(twill__print *text, twill_ns time, bool tenths)
{
    uint64_t seconds = time > 0 ? (uint64_t)time / 1000000000 : 0;
    if (tenths && seconds < 10 && time >= 0) {
        twill__print_fixed(text, (uint64_t)time / 100000000, 1);
        twill__print_ascii(text, " s");
    } else if (seconds < 60) {
        twill__print_number(text, seconds);
        twill__print_ascii(text, " s");
    } else if (seconds < 3600) {
        twill__print_number(text, seconds / 60);
        twill__print_ascii(text, seconds % 60 / 5 * 5 < 10 ? " min 0" : " min ");
        twill__print_number(text, seconds % 60 / 5 * 5);
        twill__print_ascii(text, " s");
    } else {
        twill__print_number(text, seconds / 3600);
        twill__print_ascii(text, seconds / 60 % 60 < 10 ? " h 0" : " h ");
        twill__print_number(text, seconds / 60 % 60);
        twill__print_ascii(text, " min");
    }
}

static inline void twill__print_seconds(twill__print *text, twill_ns time)
{
    twill__print_fixed(text, time > 0 ? (uint64_t)time / 1000000 : 0, 3);
}

#endif

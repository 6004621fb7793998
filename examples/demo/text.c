#include "text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

/* ---- reading UTF-8 ---- */

/* The length of the sound UTF-8 sequence at `p`, 0 when there is none; *code gets the character. */
static size_t decode(const unsigned char *p, size_t left, uint32_t *code)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = p[0] < 0x80   ? 1
                    : p[0] < 0xc2 ? 0
                    : p[0] < 0xe0 ? 2
                    : p[0] < 0xf0 ? 3
                    : p[0] < 0xf5 ? 4
                                  : 0;
    if (length == 0 || length > left)
        return 0;
    uint32_t value = length == 1 ? p[0] : p[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (p[i] & 0x3fu);
    }
    if (value < smallest[length] || (value >= 0xd800 && value < 0xe000) || value > 0x10ffff)
        return 0;
    *code = value;
    return length;
}

/* Controls of ASCII and Latin-1, line separators, and marks that turn or hide text. */
static bool is_harmful(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x61c ||
           (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2060 && code <= 0x206f) || code == 0xfeff;
}

/* ---- writing ---- */

typedef bool put_special(FILE *out, uint32_t code); /* true: written in a form of its own */

static void put(FILE *out, const char *bytes, size_t length, const char *escape,
                put_special *special)
{
    const unsigned char *p = (const unsigned char *)bytes;
    while (length > 0) {
        uint32_t code = 0;
        size_t n = decode(p, length, &code);
        if (n == 0 || is_harmful(code)) {
            n = n == 0 ? 1 : n;
            for (size_t i = 0; i < n; i++)
                fprintf(out, "%sx%02x", escape, p[i]);
        } else if (special == NULL || !special(out, code)) {
            fwrite(p, 1, n, out);
        }
        p += n;
        length -= n;
    }
}

static bool special_in_html(FILE *out, uint32_t code)
{
    const char *entity = code == '&'    ? "&amp;"
                         : code == '<'  ? "&lt;"
                         : code == '>'  ? "&gt;"
                         : code == '"'  ? "&quot;"
                         : code == '\'' ? "&#39;"
                                        : NULL;
    if (entity != NULL)
        fputs(entity, out);
    return entity != NULL;
}

static bool special_in_json(FILE *out, uint32_t code)
{
    if (code == '"' || code == '\\') {
        fprintf(out, "\\%c", (char)code);
        return true;
    }
    if (code == '<' || code == '>' ||
        code == '&') { /* "</script>" in a name must not end the script */
        fprintf(out, "\\u%04x", (unsigned)code);
        return true;
    }
    return false;
}

void text_plain(FILE *out, const char *bytes, size_t length)
{
    put(out, bytes, length, "\\", NULL);
}

void text_html(FILE *out, const char *bytes, size_t length)
{
    put(out, bytes, length, "\\", special_in_html);
}

void text_json(FILE *out, const char *bytes, size_t length)
{
    put(out, bytes, length, "\\\\", special_in_json);
}

/* ---- numbers ---- */

char *text_grouped(uint64_t number, char *buffer)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, number);
    char *to = buffer;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return buffer;
}

char *text_bytes(uint64_t bytes, char *buffer)
{
    static const char units[] = "kMGTPE";
    if (bytes < 1000) {
        snprintf(buffer, 16, "%u bytes", (unsigned)bytes);
        return buffer;
    }
    double value = (double)bytes / 1000;
    size_t unit = 0;
    for (; value >= 999.95 && unit < strlen(units) - 1; unit++)
        value /= 1000;
    snprintf(buffer, 16, "%.1f %cB", value, units[unit]);
    return buffer;
}

char *text_time(int64_t ns, char *buffer)
{
    double ms = (double)ns / 1e6;
    if (ms >= 999.5)
        snprintf(buffer, 32, "%.2f s", ms / 1e3);
    else
        snprintf(buffer, 32, ms >= 99.95 ? "%.0f ms" : ms >= 9.995 ? "%.1f ms" : "%.3f ms", ms);
    return buffer;
}

const char *text_plural(uint64_t number)
{
    return number == 1 ? "" : "s";
}

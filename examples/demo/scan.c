#include "scan.h"

#include <string.h>

/* ---- kinds of bytes ---- */

enum kind { OTHER, LETTER, DIGIT, SLASH, QUOTE, APOSTROPHE, HASH, SPACE };

/* clang-format off */
static const unsigned char kinds[256] = {
    /* 00 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 7, 7, 7, 7, 0, 0,
    /* 10 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    /* 20 */ 7, 0, 4, 6, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 3,
    /* 30 */ 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0,
    /* 40 */ 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    /* 50 */ 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1,
    /* 60 */ 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    /* 70 */ 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0,
};
/* clang-format on */

static bool ends_with(const char *text, const char *tail)
{
    size_t length = strlen(text), wanted = strlen(tail);
    return length >= wanted && strcmp(text + length - wanted, tail) == 0;
}

/* By its ending; a file without one, like the headers of C++, counts as of the family when it
   stands among headers. */
static bool is_c_like(const char *path)
{
    static const char *const endings[] = {".h",   ".c",   ".hpp", ".cpp", ".hh",
                                          ".cc",  ".hxx", ".cxx", ".tcc", ".ipp",
                                          ".inl", ".inc", ".H",   ".C",   ".def"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (ends_with(path, endings[i]))
            return true;
    const char *slash = strrchr(path, '/');
    return strchr(slash == NULL ? path : slash, '.') == NULL && strstr(path, "include/") != NULL;
}

/* ---- names ---- */

static void hold(struct scan *scan, const unsigned char *bytes, size_t length)
{
    size_t room = sizeof scan->name - scan->held;
    if (length > room)
        length = room;
    memcpy(scan->name + scan->held, bytes, length);
    scan->held += length;
}

static void count_name(struct scan *scan, const char *text, size_t length)
{
    const struct name *name = names_add(scan->table, text, length, names_hash_end(scan->hash));
    scan->no_memory |= name == NULL;
    scan->names += name != NULL && !name->keyword;
}

enum state {
    CODE,
    NAME,
    NUMBER,
    AFTER_SLASH,
    LINE_COMMENT,
    BLOCK_COMMENT,
    STRING,
    CHARACTER,
    AFTER_HASH,
    DIRECTIVE
};

/* The state that follows a directive's name: the rest of some lines is no code. */
static unsigned char after_directive(const char *name, size_t length)
{
    static const char *const prose[] = {"include", "include_next", "import",
                                        "error",   "warning",      "pragma"};
    for (size_t i = 0; i < sizeof prose / sizeof *prose; i++)
        if (strlen(prose[i]) == length && memcmp(prose[i], name, length) == 0)
            return LINE_COMMENT;
    return CODE;
}

static void end_name(struct scan *scan, const char *text, size_t length)
{
    if (scan->state == NAME) {
        count_name(scan, text, length);
        scan->state = CODE;
    } else {
        scan->state = after_directive(text, length);
    }
    scan->held = 0;
}

/* In the states NAME and DIRECTIVE. A name that ends in this piece is used where it stands,
   without a copy. */
static const unsigned char *scan_name(struct scan *scan, const unsigned char *p,
                                      const unsigned char *end)
{
    const unsigned char *begin = p;
    uint32_t hash = scan->hash;
    for (; p < end && (kinds[*p] == LETTER || kinds[*p] == DIGIT); p++)
        hash = names_hash_byte(hash, *p);
    scan->hash = hash;
    if (p < end && scan->held == 0) {
        end_name(scan, (const char *)begin, (size_t)(p - begin));
        return p;
    }
    hold(scan, begin, (size_t)(p - begin));
    if (p < end)
        end_name(scan, scan->name, scan->held);
    return p;
}

/* ---- code ---- */

/* Is there nothing but blanks between `p` and the start of its line? */
static bool only_blanks_before(const struct scan *scan, const unsigned char *begin,
                               const unsigned char *p)
{
    while (p > begin && p[-1] != '\n' && kinds[p[-1]] == SPACE)
        p--;
    return p == begin ? scan->fresh_line : p[-1] == '\n';
}

static const unsigned char *scan_code(struct scan *scan, const unsigned char *begin,
                                      const unsigned char *p, const unsigned char *end)
{
    static const unsigned char next[] = {
        [LETTER] = NAME,  [DIGIT] = NUMBER,         [SLASH] = AFTER_SLASH,
        [QUOTE] = STRING, [APOSTROPHE] = CHARACTER, [HASH] = AFTER_HASH,
    };
    for (; p < end; p++) {
        unsigned kind = kinds[*p];
        if (kind == OTHER || kind == SPACE || (!scan->c_like && kind > DIGIT))
            continue;
        if (kind == HASH && !only_blanks_before(scan, begin, p))
            continue;
        scan->state = next[kind];
        scan->escaped = false;
        scan->hash = NAMES_HASH_START;
        return kind == LETTER ? p : p + 1;
    }
    return p;
}

static const unsigned char *scan_number(struct scan *scan, const unsigned char *p,
                                        const unsigned char *end)
{
    while (p < end &&
           (kinds[*p] == LETTER || kinds[*p] == DIGIT || *p == '.' || (scan->c_like && *p == '\'')))
        p++;
    if (p < end)
        scan->state = CODE;
    return p;
}

static const unsigned char *scan_after_slash(struct scan *scan, const unsigned char *p)
{
    scan->star = false;
    scan->state = *p == '/' ? LINE_COMMENT : *p == '*' ? BLOCK_COMMENT : CODE;
    return scan->state == CODE ? p : p + 1;
}

static const unsigned char *scan_block_comment(struct scan *scan, const unsigned char *p,
                                               const unsigned char *end)
{
    while (p < end) {
        if (scan->star && *p == '/') {
            scan->state = CODE;
            return p + 1;
        }
        scan->star = *p == '*';
        p++;
        if (!scan->star) {
            const unsigned char *star = memchr(p, '*', (size_t)(end - p));
            p = star == NULL ? end : star;
        }
    }
    return p;
}

static const unsigned char *scan_literal(struct scan *scan, const unsigned char *p,
                                         const unsigned char *end)
{
    unsigned char quote = scan->state == STRING ? '"' : '\'';
    for (; p < end; p++) {
        if (scan->escaped) {
            scan->escaped = false;
        } else if (*p == '\\') {
            scan->escaped = true;
        } else if (*p == quote || *p == '\n') { /* a literal left open ends with its line */
            scan->state = CODE;
            return p + 1;
        }
    }
    return p;
}

static const unsigned char *scan_line_comment(struct scan *scan, const unsigned char *p,
                                              const unsigned char *end)
{
    const unsigned char *newline = memchr(p, '\n', (size_t)(end - p));
    if (newline == NULL)
        return end;
    scan->state = CODE;
    return newline;
}

static const unsigned char *scan_after_hash(struct scan *scan, const unsigned char *p)
{
    if (*p == ' ' || *p == '\t')
        return p + 1;
    scan->hash = NAMES_HASH_START;
    scan->state = kinds[*p] == LETTER ? DIRECTIVE : CODE;
    return p;
}

/* ---- pieces ---- */

static void scan_lines(struct scan *scan, const unsigned char *p, const unsigned char *end)
{
    uint64_t lines = 0, words = 0;
    bool in_space = scan->in_space;
    for (; p < end; p++) {
        bool space = kinds[*p] == SPACE;
        lines += *p == '\n';
        words += in_space && !space;
        in_space = space;
    }
    scan->lines += lines;
    scan->words += words;
    scan->in_space = in_space;
}

void scan_begin(struct scan *scan, struct names *table, const char *file_name)
{
    scan->table = table;
    scan->lines = scan->words = scan->names = 0;
    scan->no_memory = false;
    scan->c_like = is_c_like(file_name);
    scan->state = CODE;
    scan->escaped = scan->star = false;
    scan->in_space = scan->fresh_line = true;
    scan->held = 0;
}

void scan_piece(struct scan *scan, const unsigned char *bytes, size_t length)
{
    const unsigned char *p = bytes, *end = bytes + length;
    scan_lines(scan, p, end);
    while (p < end) {
        switch ((enum state)scan->state) {
        case CODE:
            p = scan_code(scan, bytes, p, end);
            break;
        case NAME:
        case DIRECTIVE:
            p = scan_name(scan, p, end);
            break;
        case NUMBER:
            p = scan_number(scan, p, end);
            break;
        case AFTER_SLASH:
            p = scan_after_slash(scan, p);
            break;
        case LINE_COMMENT:
            p = scan_line_comment(scan, p, end);
            break;
        case BLOCK_COMMENT:
            p = scan_block_comment(scan, p, end);
            break;
        case STRING:
        case CHARACTER:
            p = scan_literal(scan, p, end);
            break;
        case AFTER_HASH:
            p = scan_after_hash(scan, p);
            break;
        }
    }
    scan->fresh_line = only_blanks_before(scan, bytes, end);
}

void scan_end(struct scan *scan)
{
    if (scan->state == NAME)
        count_name(scan, scan->name, scan->held);
    scan->state = CODE;
}

/* amalgamate.c - makes each single header of twill out of its parts.
 *
 *     amalgamate [--check] SRC_DIR OUT_DIR LICENSE NAME.h...
 *
 * SRC_DIR/parallel_map.h becomes OUT_DIR/twill_parallel_map.h; SRC_DIR/twill.h becomes
 * OUT_DIR/twill.h. A header is written only if its content changes. With --check nothing is
 * written, and the exit status is 1 if a header is stale. `make headers` and `make check-headers`
 * are the usual callers.
 *
 * What it does to a source file:
 *   - a quoted include is replaced by that file, the first time, and by nothing after that; the
 *     path is relative to SRC_DIR. Each part keeps its own guard, so that headers which share
 *     parts can be included in one file, in any order.
 *   - a block `#ifdef TWILL_IMPLEMENTATION` that stands outside all other conditions moves behind
 *     the declarations of all files: in twill.h no code comes before a declaration.
 *   - in front: name, version, licence tag, and that the file is generated; at the end: the
 *     licence.
 *
 * What it refuses, with the line at which it happens:
 *   - a part that was first inlined under a condition and is needed where that condition is not
 *     open: it would vanish. Under TWILL_IMPLEMENTATION: a part that both declares and implements.
 *   - `#ifdef TWILL_IMPLEMENTATION` inside an include guard: who included the declarations first
 *     would never get the implementation.
 *   - an include that goes up: base <- platform <- engine <- pattern <- twill.h is the order.
 *   - a part that includes itself, conditions that do not balance, CR, a last line without its end.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PARTS = 256, MAX_CONDITIONS = 32, MAX_PATH = 512 };

struct text {
    char *data;
    size_t length, capacity;
};

struct condition {
    char *text; /* "ifdef TWILL_IMPLEMENTATION", "else of ifdef X", ... */
    bool guard; /* an include guard: closed only to who has the part already */
    size_t line;
};

struct part {
    char *name;
    bool open;                                   /* being inlined just now */
    struct condition conditions[MAX_CONDITIONS]; /* open where it was inlined */
    int condition_count;
};

struct output {
    const char *src_dir;
    struct part parts[MAX_PARTS];
    int part_count;
    struct condition conditions[MAX_CONDITIONS];
    int condition_count;
    bool in_code; /* inside an implementation block that moves */
    struct text declarations, code;
};

/* Where a message points to. */
struct place {
    const char *file;
    size_t line;
};

#define IMPLEMENTATION "ifdef TWILL_IMPLEMENTATION"

/* ---- messages, memory, text ---- */

_Noreturn static void die(struct place at, const char *format, ...)
{
    va_list args;

    if (at.line)
        fprintf(stderr, "%s:%zu: ", at.file, at.line);
    else
        fprintf(stderr, "%s: ", at.file);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(2);
}

static void *resized(void *block, size_t size)
{
    block = realloc(block, size);
    if (!block)
        die((struct place){"amalgamate", 0}, "out of memory");
    return block;
}

static char *copied(const char *start, size_t length)
{
    char *copy = resized(NULL, length + 1);

    memcpy(copy, start, length);
    copy[length] = '\0';
    return copy;
}

/* The data always ends with a NUL that the length does not count. */
static void append(struct text *text, const char *start, size_t length)
{
    if (text->length + length + 1 > text->capacity) {
        text->capacity = 2 * (text->length + length + 1);
        text->data = resized(text->data, text->capacity);
    }
    memcpy(text->data + text->length, start, length);
    text->length += length;
    text->data[text->length] = '\0';
}

static void append_string(struct text *text, const char *string)
{
    append(text, string, strlen(string));
}

/* Reads a whole file; false if it cannot be opened. */
static bool read_file(const char *path, struct text *text)
{
    char block[4096];
    size_t got;
    FILE *file = fopen(path, "rb");

    if (!file)
        return false;
    append(text, "", 0);
    while ((got = fread(block, 1, sizeof block, file)) > 0)
        append(text, block, got);
    if (ferror(file))
        die((struct place){path, 0}, "read error");
    fclose(file);
    return true;
}

static void join_path(char *path, const char *dir, const char *prefix, const char *name)
{
    int length = snprintf(path, MAX_PATH, "%s/%s%s", dir, prefix, name);

    if (length < 0 || length >= MAX_PATH)
        die((struct place){name, 0}, "the path is too long");
}

/* ---- lines ---- */

/* What a line leaves open for the next one. */
struct lexer {
    bool in_comment;
};

/* Follows comments, strings and character constants over one line. */
static void follow(struct lexer *lexer, const char *line, size_t length)
{
    char quote = 0;

    for (size_t i = 0; i < length; i++) {
        char c = line[i], next = i + 1 < length ? line[i + 1] : '\0';

        if (lexer->in_comment) {
            if (c == '*' && next == '/') {
                lexer->in_comment = false;
                i++;
            }
        } else if (quote) {
            if (c == '\\')
                i++;
            else if (c == quote)
                quote = 0;
        } else if (c == '"' || c == '\'') {
            quote = c;
        } else if (c == '/' && next == '/') {
            return;
        } else if (c == '/' && next == '*') {
            lexer->in_comment = true;
            i++;
        }
    }
}

/* The directive behind `#` of this line, up to a comment and without blanks at its end: allocated,
   or NULL if the line is no directive. One blank stands between its words. */
static char *directive_of(const char *line, size_t length)
{
    const char *end = line + length;
    char *directive;
    size_t used = 0;

    while (line < end && (*line == ' ' || *line == '\t'))
        line++;
    if (line == end || *line != '#')
        return NULL;
    directive = resized(NULL, (size_t)(end - line)); /* without `#`, so there is room for the NUL */
    for (line++; line < end; line++) {
        if (*line == '/' && line + 1 < end && (line[1] == '*' || line[1] == '/'))
            break;
        if (*line != ' ' && *line != '\t')
            directive[used++] = *line;
        else if (used && directive[used - 1] != ' ')
            directive[used++] = ' ';
    }
    while (used && directive[used - 1] == ' ')
        used--;
    directive[used] = '\0';
    return directive;
}

static bool starts(const char *string, const char *with)
{
    return strncmp(string, with, strlen(with)) == 0;
}

/* ---- conditions ---- */

/* Is `#ifndef NAME` the first half of a guard: does `#define NAME` follow at once? */
static bool is_guard(const char *directive, const char *next, const char *end)
{
    const char *newline;
    char *define;
    bool guard;

    if (!starts(directive, "ifndef "))
        return false;
    while (next < end && *next == '\n')
        next++;
    newline = memchr(next, '\n', (size_t)(end - next));
    define = directive_of(next, (size_t)((newline ? newline : end) - next));
    guard = define && starts(define, "define ") &&
            strcmp(define + strlen("define "), directive + strlen("ifndef ")) == 0;
    free(define);
    return guard;
}

static bool under_implementation(const struct output *out)
{
    for (int i = 0; i < out->condition_count; i++)
        if (strcmp(out->conditions[i].text, IMPLEMENTATION) == 0)
            return true;
    return false;
}

static void open_condition(struct output *out, char *directive, bool guard, struct place at)
{
    if (out->condition_count == MAX_CONDITIONS)
        die(at, "more than %d conditions inside each other", MAX_CONDITIONS);
    if (strcmp(directive, IMPLEMENTATION) == 0 && !under_implementation(out))
        for (int i = 0; i < out->condition_count; i++)
            if (out->conditions[i].guard)
                die(at,
                    "#ifdef TWILL_IMPLEMENTATION inside the guard #%s: a file that included the "
                    "declarations first would never get the implementation",
                    out->conditions[i].text);
    if (strcmp(directive, IMPLEMENTATION) == 0 && out->condition_count == 0)
        out->in_code = true;
    out->conditions[out->condition_count++] =
        (struct condition){copied(directive, strlen(directive)), guard, at.line};
}

/* #else and #elif: another condition in the place of the old one. */
static void turn_condition(struct output *out, const char *directive)
{
    struct condition *condition = &out->conditions[out->condition_count - 1];
    struct text text = {0};

    append_string(&text, directive);
    append_string(&text, " of ");
    append_string(&text, condition->text);
    free(condition->text);
    condition->text = text.data;
    condition->guard = false;
}

static bool has_condition(const struct condition *conditions, int count, const char *text)
{
    for (int i = 0; i < count; i++)
        if (strcmp(conditions[i].text, text) == 0)
            return true;
    return false;
}

/* ---- parts ---- */

/* base <- platform <- engine <- pattern <- twill.h */
static int layer_of(const char *name)
{
    static const char *const layers[] = {"base/", "platform/", "engine/"};
    int count = (int)(sizeof layers / sizeof layers[0]);

    for (int i = 0; i < count; i++)
        if (starts(name, layers[i]))
            return i;
    return strcmp(name, "twill.h") == 0 ? count + 1 : count;
}

/* A pattern may have parts in a folder of its own name: "sort.h" of parallel_map.h is
 * parallel_map/sort.h. */
static int own_part(const char *includer, const char *name)
{
    const char *slash = strchr(includer, '/');
    size_t length = slash ? (size_t)(slash - includer) : strcspn(includer, ".");

    return strncmp(includer, name, length) == 0 && name[length] == '/';
}

static void check_layers(const char *includer, const char *name, struct place at)
{
    int from = layer_of(includer), to = layer_of(name);

    if (to > from)
        die(at, "\"%s\" stands above \"%s\": base <- platform <- engine <- pattern <- twill.h",
            name, includer);
    if (to == from && to == 3 && !own_part(includer, name))
        die(at, "a pattern includes no other pattern; make what they share a part in engine/");
}

static struct part *find_part(struct output *out, const char *name)
{
    for (int i = 0; i < out->part_count; i++)
        if (strcmp(out->parts[i].name, name) == 0)
            return &out->parts[i];
    return NULL;
}

/* A part is needed again: is it there in every case in which this line is? */
static void check_still_there(const struct output *out, const struct part *part, struct place at)
{
    if (part->open)
        die(at, "\"%s\" includes itself", part->name);
    for (int i = 0; i < part->condition_count; i++)
        if (!part->conditions[i].guard &&
            !has_condition(out->conditions, out->condition_count, part->conditions[i].text))
            die(at,
                "\"%s\" was first inlined under `#%s` and is needed outside it here: include it "
                "before that, or split it into declarations and code",
                part->name, part->conditions[i].text);
}

static struct part *add_part(struct output *out, const char *name, struct place at)
{
    struct part *part = &out->parts[out->part_count];

    if (out->part_count == MAX_PARTS)
        die(at, "more than %d parts", MAX_PARTS);
    out->part_count++;
    part->name = copied(name, strlen(name));
    part->open = true;
    part->condition_count = out->condition_count;
    for (int i = 0; i < out->condition_count; i++) {
        const struct condition *condition = &out->conditions[i];

        part->conditions[i] = *condition;
        part->conditions[i].text = copied(condition->text, strlen(condition->text));
    }
    return part;
}

/* ---- inlining ---- */

static void inline_part(struct output *out, const char *includer, const char *name,
                        struct place at);

static struct text *current(struct output *out)
{
    return out->in_code ? &out->code : &out->declarations;
}

/* Writes a line; no two empty ones in a row, as the includes that vanish would leave. */
static void put_line(struct output *out, const char *line, size_t length)
{
    struct text *text = current(out);
    bool after_empty = text->length == 0 ||
                       (text->length >= 2 && memcmp(text->data + text->length - 2, "\n\n", 2) == 0);

    if (length > 1 || !after_empty)
        append(text, line, length);
}

/* The name between the quotes of an include, allocated; NULL for <...>. */
static char *quoted_name(const char *directive, struct place at)
{
    const char *start = directive + strlen("include"), *end;

    while (*start == ' ')
        start++;
    if (*start != '"')
        return NULL;
    end = strchr(++start, '"');
    if (!end || end == start)
        die(at, "no name between quotes");
    return copied(start, (size_t)(end - start));
}

/* Acts on a directive. Returns whether its line is to be written. */
static bool obey(struct output *out, const char *name, char *directive, int base_level, bool guard,
                 struct place at)
{
    if (starts(directive, "if")) {
        open_condition(out, directive, guard, at);
    } else if (starts(directive, "el")) {
        if (out->condition_count == base_level)
            die(at, "#%s without #if", directive);
        turn_condition(out, directive);
    } else if (starts(directive, "endif")) {
        if (out->condition_count == base_level)
            die(at, "#endif without #if");
        free(out->conditions[--out->condition_count].text);
    } else if (starts(directive, "include")) {
        char *included = quoted_name(directive, at);

        if (included) {
            inline_part(out, name, included, at);
            free(included);
            return false;
        }
    }
    return true;
}

static void inline_lines(struct output *out, const char *name, const char *path,
                         const struct text *text)
{
    int base_level = out->condition_count;
    struct lexer lexer = {false};
    struct place at = {path, 0};
    const char *end = text->data + text->length, *newline;

    for (const char *line = text->data; line < end; line = newline + 1) {
        char *directive;
        bool keep = true;

        at.line++;
        newline = memchr(line, '\n', (size_t)(end - line));
        if (!newline)
            die(at, "the last line does not end");
        if (memchr(line, '\r', (size_t)(newline - line)))
            die(at, "a CR: the sources have LF alone");
        directive = lexer.in_comment ? NULL : directive_of(line, (size_t)(newline - line));
        follow(&lexer, line, (size_t)(newline - line));
        if (directive)
            keep =
                obey(out, name, directive, base_level, is_guard(directive, newline + 1, end), at);
        if (keep)
            put_line(out, line, (size_t)(newline - line) + 1);
        if (out->condition_count == 0)
            out->in_code = false; /* behind the #endif of the block that moves */
        free(directive);
    }
    if (out->condition_count > base_level)
        die((struct place){path, out->conditions[out->condition_count - 1].line},
            "#%s without #endif", out->conditions[out->condition_count - 1].text);
    if (lexer.in_comment)
        die(at, "a comment does not end");
}

/* `includer` is NULL for the header itself. */
static void inline_part(struct output *out, const char *includer, const char *name, struct place at)
{
    struct part *part = find_part(out, name);
    struct text text = {0};
    char path[MAX_PATH];

    if (includer)
        check_layers(includer, name, at);
    if (part) {
        check_still_there(out, part, at);
        return;
    }
    part = add_part(out, name, at);
    join_path(path, out->src_dir, "", name);
    if (!read_file(path, &text))
        die(at, "cannot read \"%s\"", path);
    if (includer) {
        put_line(out, "\n", 1);
        append_string(current(out), "/* ---- ");
        append_string(current(out), name);
        append_string(current(out), " ---- */\n");
    }
    inline_lines(out, name, path, &text);
    part->open = false;
    free(text.data);
}

/* ---- the header as a whole ---- */

/* The text of TWILL_VERSION_TEXT in base/version.h. */
static char *find_version(const char *src_dir)
{
    static const char mark[] = "#define TWILL_VERSION_TEXT \"";
    struct text text = {0};
    char path[MAX_PATH];
    const char *start, *end;
    char *version;

    join_path(path, src_dir, "", "base/version.h");
    if (!read_file(path, &text))
        die((struct place){path, 0}, "cannot read it");
    start = strstr(text.data, mark);
    if (!start || !(end = strchr(start + strlen(mark), '"')))
        die((struct place){path, 0}, "no line %s...\"", mark);
    start += strlen(mark);
    version = copied(start, (size_t)(end - start));
    free(text.data);
    return version;
}

static void append_banner(struct text *header, const char *out_name, const char *name,
                          const char *version)
{
    char banner[1024];

    snprintf(
        banner, sizeof banner,
        "/* %s - twill %s - SPDX-License-Identifier: MIT OR Unlicense (text at the end)\n"
        "   GENERATED from patterns/src/%s and its parts. Do not edit it here: edit there, then "
        "`make headers`. */\n\n",
        out_name, version, name);
    append_string(header, banner);
}

static void append_licence(struct text *header, const char *path)
{
    struct text licence = {0};

    if (!read_file(path, &licence))
        die((struct place){path, 0}, "cannot read it");
    if (strstr(licence.data, "*/"))
        die((struct place){path, 0}, "the end of a comment stands in it");
    append_string(header, "\n/*\n");
    append(header, licence.data, licence.length);
    append_string(header, "*/\n");
    free(licence.data);
}

static void free_output(struct output *out)
{
    for (int i = 0; i < out->part_count; i++) {
        for (int k = 0; k < out->parts[i].condition_count; k++)
            free(out->parts[i].conditions[k].text);
        free(out->parts[i].name);
    }
    free(out->declarations.data);
    free(out->code.data);
}

static void make_header(struct text *header, const char *src_dir, const char *licence_path,
                        const char *name, const char *out_name)
{
    static struct output out;
    char *version = find_version(src_dir);

    out = (struct output){.src_dir = src_dir};
    inline_part(&out, NULL, name, (struct place){name, 0});
    append_banner(header, out_name, name, version);
    append(header, out.declarations.data, out.declarations.length);
    if (out.code.length) {
        append_string(header, "\n");
        append(header, out.code.data, out.code.length);
    }
    append_licence(header, licence_path);
    free_output(&out);
    free(version);
}

static void write_file(const char *path, const struct text *text)
{
    FILE *file = fopen(path, "wb");

    if (!file)
        die((struct place){path, 0}, "cannot write it");
    if (fwrite(text->data, 1, text->length, file) != text->length || fclose(file) != 0)
        die((struct place){path, 0}, "write error");
}

/* Brings one header up to date, or only looks. Returns whether it was stale. */
static bool do_header(bool check, const char *src_dir, const char *out_dir,
                      const char *licence_path, const char *name)
{
    const char *prefix = strcmp(name, "twill.h") == 0 ? "" : "twill_";
    struct text old = {0}, header = {0};
    char path[MAX_PATH];
    bool stale;

    join_path(path, out_dir, prefix, name);
    make_header(&header, src_dir, licence_path, name, path + strlen(out_dir) + 1);
    stale = !read_file(path, &old) || old.length != header.length ||
            memcmp(old.data, header.data, old.length) != 0;
    if (stale && check)
        printf("%s: stale: run `make headers`\n", path);
    else if (stale) {
        write_file(path, &header);
        printf("wrote %s\n", path);
    }
    free(old.data);
    free(header.data);
    return stale;
}

int main(int argc, char **argv)
{
    bool check = argc > 1 && strcmp(argv[1], "--check") == 0, stale = false;
    char **args = argv + (check ? 2 : 1);
    int count = argc - (check ? 2 : 1);

    if (count < 4) {
        fprintf(stderr, "usage: amalgamate [--check] SRC_DIR OUT_DIR LICENSE NAME.h...\n");
        return 2;
    }
    for (int i = 3; i < count; i++) {
        const char *slash = strrchr(args[i], '/');

        if (do_header(check, args[0], args[1], args[2], slash ? slash + 1 : args[i]))
            stale = true;
    }
    return check && stale;
}

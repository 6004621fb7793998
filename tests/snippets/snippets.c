/* snippets.c - takes the C examples out of documents and headers, for the tests to build and run.
 *
 *     snippets OUT_DIR FILE...
 *         writes one .c file an example; prints its path and kind
 *     snippets --same EXPECTED_FILE OUTPUT_FILE
 *         compares; `...` in a line stands for any text
 *
 * In a document (.md) an example is a fence that begins with ```c; in a header it stands in a
 * comment between the lines EXAMPLE: and END OF EXAMPLE, and what stands before EXAMPLE: on its
 * line is cut off each line. What it should print follows, before the next example: in a document
 * a line `Output:` and a fence, in a header the lines between OUTPUT: and END OF OUTPUT.
 *
 * The first line of an example tells its kind:
 *     fragment        it is only compiled, as the body of a function, with twill.h included
 *     declarations    it is only compiled, at file scope, with twill.h included
 * written as a comment; everything else is a whole program, which is also run.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
    char *data;
    size_t length, capacity;
};

struct source {
    const char *path;
    bool markdown;
    struct text text;
    size_t at;          /* offset of the next line */
    unsigned long line; /* number of the line read last */
    char *current;      /* that line, without its end */
};

_Noreturn static void die(const char *format, ...)
{
    va_list args;

    fputs("snippets: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(2);
}

/* ---- text and files ---- */

static void append(struct text *text, const char *start, size_t length)
{
    if (text->length + length + 1 > text->capacity) {
        text->capacity = 2 * (text->length + length + 1);
        text->data = realloc(text->data, text->capacity);
        if (!text->data)
            die("out of memory");
    }
    memcpy(text->data + text->length, start, length);
    text->length += length;
    text->data[text->length] = '\0';
}

static void append_string(struct text *text, const char *string)
{
    append(text, string, strlen(string));
}

static bool read_file(const char *path, struct text *text)
{
    char block[4096];
    size_t got;
    FILE *file = fopen(path, "rb");

    append(text, "", 0);
    if (!file)
        return false;
    while ((got = fread(block, 1, sizeof block, file)) > 0)
        append(text, block, got);
    fclose(file);
    return true;
}

/* Writes only what differs, so that a program which is there already need not be compiled again. */
static void write_file(const char *path, const struct text *text)
{
    struct text old = {0};
    FILE *file;

    if (!read_file(path, &old) || old.length != text->length ||
        memcmp(old.data, text->data, old.length) != 0) {
        file = fopen(path, "wb");
        if (!file || fwrite(text->data, 1, text->length, file) != text->length || fclose(file) != 0)
            die("cannot write %s", path);
    }
    free(old.data);
}

/* The next line into source->current; false at the end. */
static bool next_line(struct source *source)
{
    char *start = source->text.data + source->at, *end;

    if (source->at >= source->text.length)
        return false;
    end = strchr(start, '\n');
    if (end)
        *end = '\0';
    source->current = start;
    source->at += strlen(start) + 1;
    source->line++;
    return true;
}

static bool starts(const char *string, const char *with)
{
    return strncmp(string, with, strlen(with)) == 0;
}

/* ---- where examples and outputs begin and end ---- */

/* The place of `mark` if it is the whole text of the line apart from blanks and stars before it. */
static const char *marked(const char *line, const char *mark)
{
    const char *start = line + strspn(line, " *\t/");

    return strcmp(start, mark) == 0 ? start : NULL;
}

static bool begins_example(const struct source *source, size_t *prefix)
{
    const char *mark;

    if (source->markdown) {
        *prefix = strspn(source->current, " ");
        return strcmp(source->current + *prefix, "```c") == 0;
    }
    mark = marked(source->current, "EXAMPLE:");
    *prefix = mark ? (size_t)(mark - source->current) : 0;
    return mark != NULL;
}

static bool begins_output(const struct source *source, size_t *prefix)
{
    const char *mark;

    if (source->markdown) {
        *prefix = strspn(source->current, " ");
        return strcmp(source->current + *prefix, "Output:") == 0;
    }
    mark = marked(source->current, "OUTPUT:");
    *prefix = mark ? (size_t)(mark - source->current) : 0;
    return mark != NULL;
}

/* The line without its margin: `prefix` characters, and so many blanks. */
static const char *without_margin(const char *line, size_t prefix, size_t blanks)
{
    size_t length = strlen(line);

    line += length < prefix ? length : prefix;
    while (blanks-- && *line == ' ')
        line++;
    return line;
}

/* Reads lines up to the end mark, without `prefix` characters of margin; in a header, also without
   as many blanks as the first line has. */
static void read_block(struct source *source, size_t prefix, const char *end, struct text *block)
{
    unsigned long first = source->line;
    size_t blanks = 0;

    append(block, "", 0);
    while (next_line(source)) {
        const char *line = source->current;

        if (source->markdown ? strcmp(line + strspn(line, " "), "```") == 0
                             : marked(line, end) != NULL)
            return;
        if (!source->markdown && source->line == first + 1)
            blanks = strspn(without_margin(line, prefix, 0), " ");
        append_string(block, without_margin(line, prefix, blanks));
        append_string(block, "\n");
    }
    die("%s:%lu: this does not end", source->path, first);
}

/* ---- writing an example ---- */

enum kind { PROGRAM, FRAGMENT, DECLARATIONS };
static const char *const kind_names[] = {"program", "fragment", "declarations"};

static enum kind kind_of(const struct text *code)
{
    if (starts(code->data, "/* fragment */") || starts(code->data, "// fragment"))
        return FRAGMENT;
    if (starts(code->data, "/* declarations */") || starts(code->data, "// declarations"))
        return DECLARATIONS;
    return PROGRAM;
}

static const char prelude[] = "#include <stdbool.h>\n"
                              "#include <stdint.h>\n"
                              "#include <stdio.h>\n"
                              "#include <stdlib.h>\n"
                              "#include <string.h>\n"
                              "#include \"twill.h\"\n";

/* OUT_DIR/docs_retry_md_12.c for the example in line 12 of docs/retry.md. Allocated. */
static char *path_for(const char *out_dir, const struct source *source, unsigned long line,
                      const char *ending)
{
    struct text path = {0};
    char number[32];

    append_string(&path, out_dir);
    append_string(&path, "/");
    append_string(&path, source->path);
    for (char *c = path.data + strlen(out_dir) + 1; *c; c++)
        if (*c == '/' || *c == '.')
            *c = '_';
    snprintf(number, sizeof number, "_%lu", line);
    append_string(&path, number);
    append_string(&path, ending);
    return path.data;
}

static void write_example(const char *out_dir, const struct source *source, unsigned long line,
                          const struct text *code)
{
    enum kind kind = kind_of(code);
    char *path = path_for(out_dir, source, line, ".c"), number[32];
    struct text program = {0};

    if (kind != PROGRAM)
        append_string(&program, prelude);
    if (kind == FRAGMENT)
        append_string(&program, "void fragment(void);\nvoid fragment(void)\n{\n");
    snprintf(number, sizeof number, "#line %lu \"", line + 1);
    append_string(&program, number);
    append_string(&program, source->path);
    append_string(&program, "\"\n");
    append(&program, code->data, code->length);
    if (kind == FRAGMENT)
        append_string(&program, "}\n");
    write_file(path, &program);
    printf("%s %s %s:%lu\n", path, kind_names[kind], source->path, line);
    free(program.data);
    free(path);
}

/* What that example should print. */
static void write_output(const char *out_dir, const struct source *source, unsigned long line,
                         const struct text *output)
{
    char *path = path_for(out_dir, source, line, ".expected");

    write_file(path, output);
    free(path);
}

/* Finds the fence behind the line `Output:`; false if other text comes first. */
static bool find_output_fence(struct source *source, size_t *prefix)
{
    while (next_line(source)) {
        *prefix = strspn(source->current, " ");
        if (starts(source->current + *prefix, "```"))
            return true;
        if (source->current[*prefix])
            return false;
    }
    return false;
}

static int take_from(const char *out_dir, const char *path)
{
    struct source source = {.path = path};
    unsigned long example = 0; /* the line of the last example that has no output yet */
    const char *dot = strrchr(path, '.'), *name = strrchr(path, '/');
    size_t prefix;
    int count = 0;

    source.markdown = dot && strcmp(dot, ".md") == 0;
    if (!read_file(path, &source.text))
        die("cannot read %s", path);
    while (next_line(&source)) {
        struct text block = {0};

        if (begins_example(&source, &prefix)) {
            /* twill.h repeats the manuals of all patterns, whose own headers are read too. */
            if (count && strcmp(name ? name + 1 : path, "twill.h") == 0)
                break;
            example = source.line;
            read_block(&source, prefix, "END OF EXAMPLE", &block);
            write_example(out_dir, &source, example, &block);
            count++;
        } else if (example && begins_output(&source, &prefix)) {
            if (source.markdown && !find_output_fence(&source, &prefix))
                die("%s:%lu: no fence behind `Output:`", path, source.line);
            read_block(&source, prefix, "END OF OUTPUT", &block);
            write_output(out_dir, &source, example, &block);
            example = 0;
        } else if (source.markdown && starts(source.current + strspn(source.current, " "), "```")) {
            read_block(&source, 0, "", &block); /* another language: not ours */
        }
        free(block.data);
    }
    free(source.text.data);
    return count;
}

/* ---- comparing ---- */

/* Does the text match the pattern, in which `...` stands for any text within the line? */
static bool line_matches(const char *pattern, const char *text)
{
    const char *dots = strstr(pattern, "...");
    size_t fixed = dots ? (size_t)(dots - pattern) : strlen(pattern);

    if (strncmp(pattern, text, fixed) != 0)
        return false;
    if (!dots)
        return text[fixed] == '\0';
    for (text += fixed;; text++) {
        if (line_matches(dots + 3, text))
            return true;
        if (!*text)
            return false;
    }
}

static int compare(const char *expected_path, const char *output_path)
{
    struct source expected = {.path = expected_path}, output = {.path = output_path};

    if (!read_file(expected_path, &expected.text) || !read_file(output_path, &output.text))
        die("cannot read %s or %s", expected_path, output_path);
    for (;;) {
        bool more = next_line(&expected), more_output = next_line(&output);

        if (!more && !more_output)
            break;
        if (!more || !more_output || !line_matches(expected.current, output.current)) {
            printf("line %lu: expected: %s\nline %lu: printed:  %s\n", expected.line,
                   more ? expected.current : "(nothing)", output.line,
                   more_output ? output.current : "(nothing)");
            return 1;
        }
    }
    free(expected.text.data);
    free(output.text.data);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--same") == 0)
        return compare(argv[2], argv[3]);
    if (argc < 3) {
        fprintf(stderr,
                "usage: snippets OUT_DIR FILE... | snippets --same EXPECTED_FILE OUTPUT_FILE\n");
        return 2;
    }
    for (int i = 2; i < argc; i++)
        if (take_from(argv[1], argv[i]) == 0)
            printf("- none %s\n", argv[i]);
    return 0;
}

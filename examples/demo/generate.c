#define _XOPEN_SOURCE     700
#define _FILE_OFFSET_BITS 64
#include "corpus.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A corpus for machines without headers: 24 folders of 20 files, C-like text. Names follow a
   steep curve (few are everywhere, most are rare) and sizes a skewed one, as in real source
   trees. The same bytes on every machine. */
enum { FOLDERS = 24, FILES_IN_FOLDER = 20 };

static uint32_t random_next(uint64_t *state) /* 64-bit linear congruential step, upper half */
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

static void put_name(FILE *out, uint64_t *state)
{
    static const char *const parts[] = {
        "node",  "list",  "count", "buffer", "size", "index", "value", "next", "state",
        "queue", "table", "item",  "first",  "last", "read",  "write", "open", "close",
        "lock",  "free",  "make",  "find",   "scan", "merge", "path",  "page",
    };
    enum { PARTS = sizeof parts / sizeof *parts };
    uint32_t draw = random_next(state);
    uint32_t steep = (uint32_t)(((uint64_t)draw * draw) >> 32);
    steep = (uint32_t)(((uint64_t)steep * draw) >> 32); /* the cube: most draws are small */
    uint32_t pick = (uint32_t)(((uint64_t)steep * (PARTS * PARTS * 40)) >> 32);
    if (pick < PARTS)
        fputs(parts[pick], out);
    else if (pick < PARTS * PARTS)
        fprintf(out, "%s_%s", parts[pick / PARTS], parts[pick % PARTS]);
    else
        fprintf(out, "%s_%s%" PRIu32, parts[pick % PARTS], parts[pick / PARTS % PARTS],
                pick / PARTS / PARTS);
}

static void put_function(FILE *out, uint64_t *state)
{
    fputs("/* Returns the number of items that were seen. */\nstatic int ", out);
    put_name(out, state);
    fputs("(int n)\n{\n    int sum = 0;   // the result\n", out);
    for (uint32_t line = 2 + random_next(state) % 12; line > 0; line--) {
        fputs("    sum += ", out);
        put_name(out, state);
        fputs("[n % ", out);
        put_name(out, state);
        fprintf(out, "] * %" PRIu32 ";\n", random_next(state) % 1000);
    }
    fputs("    return sum;\n}\n\n", out);
}

static int write_file(const char *path, uint64_t seed)
{
    FILE *out = fopen(path, "w");
    if (out == NULL)
        return errno;
    uint64_t state = seed;
    uint32_t draw = random_next(&state) >> 22;                 /* 0..1023 */
    uint32_t functions = 4 + draw * draw / 1024 * draw / 3072; /* 4..344, mostly few */
    fputs("#include <stddef.h>\n#define LIMIT 4096\n\n", out);
    for (uint32_t k = 0; k < functions; k++)
        put_function(out, &state);
    errno = EIO;
    int error = fflush(out) != 0 || ferror(out) ? errno : 0;
    if (fclose(out) != 0 && error == 0)
        error = errno;
    return error;
}

int corpus_generate(const char *directory)
{
    size_t room = strlen(directory) + 64;
    char *path = malloc(room);
    if (path == NULL)
        return ENOMEM;
    int error = mkdir(directory, 0777) != 0 && errno != EEXIST ? errno : 0;
    for (unsigned folder = 0; folder < FOLDERS && error == 0; folder++) {
        snprintf(path, room, "%s/part%02u", directory, folder);
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            error = errno;
        for (unsigned file = 0; file < FILES_IN_FOLDER && error == 0; file++) {
            snprintf(path, room, "%s/part%02u/file%02u.c", directory, folder, file);
            error = write_file(path, (uint64_t)folder * FILES_IN_FOLDER + file + 1);
        }
    }
    free(path);
    return error;
}

#define _XOPEN_SOURCE     700
#define _FILE_OFFSET_BITS 64
#include "count.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "scan.h"
#include "twill_parallel_map.h"

enum { CHUNK_BYTES = 128 * 1024, BINARY_LOOK = 8000 };

struct counter {
    struct names names, apart; /* apart: of a file that may yet fail; made when it is needed */
    bool has_apart, is_apart;
    struct scan scan;
    uint32_t crc[8][256];
    unsigned char chunk[CHUNK_BYTES];
};

/* ---- CRC-32, eight bytes a step (the "slicing" of Kounavis and Berry) ---- */

static void fill_crc(uint32_t table[8][256])
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
        table[0][i] = crc;
    }
    for (size_t row = 1; row < 8; row++)
        for (size_t i = 0; i < 256; i++)
            table[row][i] = table[row - 1][i] >> 8 ^ table[0][table[row - 1][i] & 255];
}

static uint32_t crc_more(uint32_t t[8][256], uint32_t crc, const unsigned char *p, size_t length)
{
    crc = ~crc;
    for (; length >= 8; length -= 8, p += 8) {
        uint32_t low =
            crc ^ (p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
        crc = t[7][low & 255] ^ t[6][low >> 8 & 255] ^ t[5][low >> 16 & 255] ^ t[4][low >> 24] ^
              t[3][p[4]] ^ t[2][p[5]] ^ t[1][p[6]] ^ t[0][p[7]];
    }
    for (; length > 0; length--, p++)
        crc = t[0][(crc ^ *p) & 255] ^ crc >> 8;
    return ~crc;
}

/* ---- the counter ---- */

struct counter *counter_create(void)
{
    struct counter *counter = malloc(sizeof *counter);
    if (counter == NULL)
        return NULL;
    if (!names_init(&counter->names)) {
        free(counter);
        return NULL;
    }
    counter->has_apart = counter->is_apart = false;
    fill_crc(counter->crc);
    return counter;
}

void counter_destroy(struct counter *counter)
{
    if (counter != NULL) {
        names_free(&counter->names);
        if (counter->has_apart)
            names_free(&counter->apart);
    }
    free(counter);
}

struct names *counter_names(struct counter *counter)
{
    return &counter->names;
}

/* ---- clocks ---- */

static int64_t thread_cpu(void)
{
    struct timespec spent;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent) != 0)
        return 0;
    return (int64_t)spent.tv_sec * 1000000000 + spent.tv_nsec;
}

struct clocks clocks_now(void)
{
    return (struct clocks){twill_now(), thread_cpu()};
}

void clocks_charge(int64_t *wall, int64_t *cpu, struct clocks *last)
{
    struct clocks now = clocks_now();
    *wall += now.wall - last->wall;
    *cpu += now.cpu - last->cpu;
    *last = now;
}

/* ---- one file ---- */

static struct stamp stamp_of(const struct stat *info)
{
    return (struct stamp){
        .device = (uint64_t)info->st_dev,
        .inode = (uint64_t)info->st_ino,
        .size = (uint64_t)info->st_size,
        .modified_s = info->st_mtim.tv_sec,
        .modified_ns = info->st_mtim.tv_nsec,
        .changed_s = info->st_ctim.tv_sec,
        .changed_ns = info->st_ctim.tv_nsec,
    };
}

static bool stamps_equal(const struct stamp *a, const struct stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->modified_s == b->modified_s && a->modified_ns == b->modified_ns &&
           a->changed_s == b->changed_s && a->changed_ns == b->changed_ns;
}

int count_open(const char *path, struct stamp *stamp)
{
    struct stat info;
    int descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (descriptor < 0)
        return -1;
    int error = fstat(descriptor, &info) != 0 ? errno : S_ISREG(info.st_mode) ? 0 : EINVAL;
    if (error != 0) {
        close(descriptor);
        errno = error;
        return -1;
    }
    *stamp = stamp_of(&info);
    return descriptor;
}

int64_t count_read(int descriptor, unsigned char *to, uint64_t wanted)
{
    ssize_t got;
    do
        got = read(descriptor, to, (size_t)wanted);
    while (got < 0 && errno == EINTR);
    return got;
}

void count_begin(struct counter *counter, const char *path, struct counts *counts, bool apart)
{
    *counts = (struct counts){.stamp = counts->stamp, .moved = counts->moved};
    if (apart && !counter->has_apart)
        counter->has_apart = names_init(&counter->apart);
    counter->is_apart = apart;
    scan_begin(&counter->scan, apart ? &counter->apart : &counter->names, path);
    counter->scan.no_memory = apart && !counter->has_apart;
}

void count_more(struct counter *counter, struct counts *counts, const unsigned char *bytes,
                size_t length)
{
    size_t look = length < BINARY_LOOK ? length : BINARY_LOOK;
    if (counts->bytes == 0)
        counts->binary = memchr(bytes, 0, look) != NULL;
    if (!counts->binary && !counter->scan.no_memory)
        scan_piece(&counter->scan, bytes, length);
    counts->crc = crc_more(counter->crc, counts->crc, bytes, length);
    counts->bytes += length;
    if (counts->bytes == counts->stamp.size && !counter->scan.no_memory)
        scan_end(&counter->scan);
}

/* The names of a file that was counted apart: into the table, or away. */
static int end_apart(struct counter *counter, int error)
{
    bool kept =
        error != 0 ? names_reset(&counter->apart) : names_take(&counter->names, &counter->apart);
    counter->has_apart = kept;
    if (!kept)
        names_free(&counter->apart);
    return kept ? error : ENOMEM;
}

int count_end(struct counter *counter, struct counts *counts, int error)
{
    counts->error = error == 0 && counter->scan.no_memory ? ENOMEM : error;
    if (counter->is_apart && counter->has_apart)
        counts->error = end_apart(counter, counts->error);
    counter->is_apart = false;
    counts->lines = counter->scan.lines;
    counts->words = counter->scan.words;
    counts->names = counter->scan.names;
    return counts->error;
}

void count_check(int descriptor, struct counts *counts, uint64_t bytes)
{
    struct stat after;
    struct stamp now = fstat(descriptor, &after) == 0 ? stamp_of(&after) : (struct stamp){0};
    counts->moved = !stamps_equal(&counts->stamp, &now) || bytes != counts->stamp.size;
}

static int count_opened(struct counter *counter, int descriptor, struct counts *counts,
                        struct effort *effort, struct clocks *last, count_step *step, void *context)
{
    while (counts->bytes < counts->stamp.size) {
        uint64_t left = counts->stamp.size - counts->bytes;
        int64_t got =
            count_read(descriptor, counter->chunk, left < CHUNK_BYTES ? left : CHUNK_BYTES);
        if (got <= 0)
            return got == 0 ? 0 : errno;
        clocks_charge(&effort->read, &effort->read_cpu, last);
        count_more(counter, counts, counter->chunk, (size_t)got);
        clocks_charge(&effort->count, &effort->count_cpu, last);
        step(context, (uint64_t)got);
    }
    return 0;
}

int count_file(struct counter *counter, const char *path, struct counts *counts,
               struct effort *effort, count_step *step, void *context)
{
    struct clocks last = clocks_now();
    int error = 0;
    *counts = (struct counts){0};
    *effort = (struct effort){.begin = last.wall};
    int descriptor = count_open(path, &counts->stamp);
    if (descriptor < 0)
        error = errno;
    count_begin(counter, path, counts, false);
    if (descriptor >= 0) {
        error = count_opened(counter, descriptor, counts, effort, &last, step, context);
        count_check(descriptor, counts, counts->bytes);
        close(descriptor);
    }
    count_end(counter, counts, error);
    clocks_charge(&effort->read, &effort->read_cpu, &last);
    return counts->error;
}

bool counts_equal(const struct counts *a, const struct counts *b)
{
    return a->bytes == b->bytes && a->lines == b->lines && a->words == b->words &&
           a->names == b->names && a->crc == b->crc && a->error == b->error &&
           a->binary == b->binary;
}

bool counts_unchanged(const struct counts *a, const struct counts *b)
{
    return !a->moved && !b->moved && a->error == b->error && stamps_equal(&a->stamp, &b->stamp);
}

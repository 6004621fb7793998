/* count: what is in one file. A counter belongs to one thread at a time and serves file after
   file. */
#ifndef CRUNCH_COUNT_H
#define CRUNCH_COUNT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "names.h"

struct stamp { /* a file that keeps its stamp has kept its content */
    uint64_t device, inode, size;
    int64_t modified_s, changed_s;
    int64_t modified_ns, changed_ns;
};

struct counts {
    uint64_t bytes, lines, words, names; /* lines and words as `wc` counts them */
    uint32_t crc;                        /* CRC-32 as in zip and PNG */
    int error;                           /* an errno value; 0: read to its end */
    bool binary;                         /* a zero byte near the start: bytes and CRC only */
    bool moved;                          /* it changed while it was read */
    struct stamp stamp;
};

struct effort {                  /* nanoseconds spent on one file */
    int64_t begin;               /* when, by the clock */
    int64_t read, count;         /* in open, read and close; in counting */
    int64_t read_cpu, count_cpu; /* and how much of that the thread had a processor */
};

struct clocks { /* of this thread */
    int64_t wall, cpu;
};
struct clocks clocks_now(void);
/* Adds the time since *last, which becomes now. */
void clocks_charge(int64_t *wall, int64_t *cpu, struct clocks *last);

struct counter; /* a buffer, a scanner and a table of names */

struct counter *counter_create(void);          /* NULL: no memory */
void counter_destroy(struct counter *counter); /* NULL is fine */
struct names *counter_names(struct counter *counter);

/* ---- a file at once ---- */

/* Told how many more bytes are done; often, for a large file. */
typedef void count_step(void *context, uint64_t bytes);

/* Reads and counts the file; returns counts->error. Follows no link, waits for no pipe, and
   reads no further than the size that the file had when it was opened: one that grows all the
   time has an end. */
int count_file(struct counter *counter, const char *path, struct counts *counts,
               struct effort *effort, count_step *step, void *context);

/* ---- the same in steps, for who reads himself ---- */

/* A descriptor of a regular file and its stamp, or -1 and errno. Follows no link, waits for no
   pipe. */
int count_open(const char *path, struct stamp *stamp);
/* Up to `wanted` bytes: how many, 0 at the end, -1 and errno. */
int64_t count_read(int descriptor, unsigned char *to, uint64_t wanted);

/* counts->stamp and moved are set, the rest is set here. apart: its names are kept apart until
   count_end, so that one that fails half-way leaves none. */
void count_begin(struct counter *counter, const char *path, struct counts *counts, bool apart);
void count_more(struct counter *counter, struct counts *counts, const unsigned char *bytes,
                size_t length);
/* error: why it was not read to its end, or 0. Returns counts->error. */
int count_end(struct counter *counter, struct counts *counts, int error);
/* Has what is open kept its stamp, and are these all its bytes? Sets counts->moved. */
void count_check(int descriptor, struct counts *counts, uint64_t bytes);

/* ---- two readings ---- */

bool counts_equal(const struct counts *a, const struct counts *b);
bool counts_unchanged(const struct counts *a,
                      const struct counts *b); /* was it the same content? */

#endif

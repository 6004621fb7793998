/* scan: lines, words and identifiers of text that comes in pieces. In files of the C family
   comments, literals and the names in #include lines are not identifiers; in other files every
   word that could be one is. It is a scanner, not a compiler: raw strings and digraphs are
   beyond it. */
#ifndef CRUNCH_SCAN_H
#define CRUNCH_SCAN_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "names.h"

struct scan {
    struct names *table;
    uint64_t lines, words, names; /* since scan_begin */
    bool no_memory;               /* the table could not grow: its counts are too low */

    bool c_like; /* from here on private */
    unsigned char state;
    bool escaped, star, in_space, fresh_line;
    uint32_t hash;
    size_t held; /* bytes of a name that the end of a piece cut, and there may be more */
    char name[NAME_MAX_BYTES];
};

void scan_begin(struct scan *scan, struct names *table, const char *file_name);
void scan_piece(struct scan *scan, const unsigned char *bytes, size_t length);
void scan_end(struct scan *scan);

#endif

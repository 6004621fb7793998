/* names: how often each identifier occurs. A table belongs to one thread at a time; tables of
   several threads are added up shard by shard, and different shards may be added by different
   threads at once. */
#ifndef CRUNCH_NAMES_H
#define CRUNCH_NAMES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A longer name is kept cut; its hash still tells it from others. */
enum { NAMES_SHARDS = 64, NAME_MAX_BYTES = 255 };

struct name {
    const char *text; /* not terminated; lives in the table that saw it first */
    uint32_t hash;
    uint16_t length;
    bool keyword; /* known to the language: looked up with the rest, counted apart */
    uint64_t count;
};

struct names_shard {
    struct name *slots;    /* open addressing; text NULL = free */
    size_t used, capacity; /* capacity: a power of two */
};

struct names_block;
struct names {
    struct names_shard shards[NAMES_SHARDS];
    struct names_block *blocks; /* where the texts are */
};

/* 32-bit FNV-1a, a byte at a time so that a name may be hashed while it is found, and a last
   stir that makes the top bits (the shard) as good as the low ones (the slot). */
#define NAMES_HASH_START 2166136261u
static inline uint32_t names_hash_byte(uint32_t hash, unsigned char byte)
{
    return (hash ^ byte) * 16777619u;
}

static inline uint32_t names_hash_end(uint32_t hash)
{
    hash = (hash ^ (hash >> 16)) * 0x7feb352du;
    return hash ^ (hash >> 15);
}

/* With the keywords in it. False: no memory, and nothing to free. */
bool names_init(struct names *names);
void names_free(struct names *names);

/* Counts one occurrence. The entry, or NULL when memory is missing. */
struct name *names_add(struct names *names, const char *text, size_t length, uint32_t hash);

/* into[shard] += from[shard]. Texts stay where they are: `from` must outlive `into`. False: no
   memory. */
bool names_merge_shard(struct names *into, const struct names *from, size_t shard);

/* into += from, with copies of the texts, and `from` is as after names_init. False: no memory;
   then `into` may have some of it. */
bool names_take(struct names *into, struct names *from);
/* As after names_init. False: no memory, and it is as after names_free. */
bool names_reset(struct names *names);

bool names_equal(const struct names *a, const struct names *b);
size_t names_distinct(const struct names *names); /* without keywords */

enum { TOP_NAMES = 20 }; /* that are shown */

/* The most frequent ones, keywords left out, equal counts in byte order. Returns how many there
   are. */
size_t names_top(const struct names *names, struct name *top, size_t capacity);

/* What one shard adds to that: its names, and the first of them. Found shards may be joined in any
   order, and give what names_distinct and names_top of the whole table give. */
struct names_found {
    size_t distinct, held;
    struct name top[TOP_NAMES];
};
void names_find(const struct names *names, size_t shard, struct names_found *found);
void names_join(struct names_found *into, const struct names_found *from);

#endif

/* keys.h: a limit for each key, in bounded memory. */
#ifndef TWILL__RATE_KEYS_H
#define TWILL__RATE_KEYS_H

#include "engine/lock.h"
#include "engine/random.h"
#include "rate_limiter/scale.h"

/* An entry is a key and the word of its bucket; all share one scale. A bucket that is full again is
   no different from none, so forgetting it changes no answer: only such entries are evicted. Each
   shard has its own lock, chains and spare entries; the store of fresh ones is shared, so that
   exactly max_keys can be in use however the keys spread. Locks: a shard's, then the store's. */
enum { TWILL__KEYS_SHARDS = 16 };
#define TWILL__KEYS_NONE UINT32_MAX

typedef struct twill__key {
    uint64_t key, word;
    uint32_t next;
} twill__key;

typedef struct twill__keys_shard {
    _Alignas(TWILL__LINE) _Atomic uint32_t lock;
    uint64_t soonest; /* no bucket of this shard is full before V has reached it */
} twill__keys_shard;

struct twill_rate_keys {
    twill__keys_shard shard[TWILL__KEYS_SHARDS];
    /* set at creation */
    _Alignas(TWILL__LINE) twill__scale scale;
    uint64_t seed;
    bool debt;
    twill__home home;
    uint32_t buckets; /* a power of two, and the number of chains */
    twill__key *entries;
    uint32_t *chains;
    void *memory;
    /* under the store's lock */
    _Alignas(TWILL__LINE) _Atomic uint32_t lock;
    uint32_t spare; /* entries without a key */
};

static inline uint32_t twill__keys_bucket(const struct twill_rate_keys *keys, uint64_t key)
{
    uint64_t state = keys->seed ^ key; /* seeded, so that nobody can choose keys that collide */
    return (uint32_t)twill__random(&state) & (keys->buckets - 1);
}

static inline uint32_t twill__keys_shard_of(uint32_t bucket)
{
    return bucket % TWILL__KEYS_SHARDS;
}

static inline uint32_t twill__keys_take_spare(struct twill_rate_keys *keys)
{
    uint32_t at;
    twill__lock(&keys->lock);
    at = keys->spare;
    if (at != TWILL__KEYS_NONE)
        keys->spare = keys->entries[at].next;
    twill__unlock(&keys->lock);
    return at;
}

static inline bool twill__keys_any_spare(struct twill_rate_keys *keys)
{
    bool any;
    twill__lock(&keys->lock);
    any = keys->spare != TWILL__KEYS_NONE;
    twill__unlock(&keys->lock);
    return any;
}

/* Under the shard's lock: lets go of full buckets. False: there was none. */
static inline bool twill__keys_sweep(struct twill_rate_keys *keys, uint32_t s, uint64_t v)
{
    twill__keys_shard *shard = &keys->shard[s];
    uint64_t soonest = UINT64_MAX;
    uint32_t freed = TWILL__KEYS_NONE, last = TWILL__KEYS_NONE;
    if (shard->soonest > v)
        return false;
    for (uint32_t b = s; b < keys->buckets; b += TWILL__KEYS_SHARDS) {
        uint32_t *link = &keys->chains[b];
        while (*link != TWILL__KEYS_NONE) { /* exit: the chain ends */
            uint32_t at = *link;
            twill__key *entry = &keys->entries[at];
            if (entry->word > v) {
                soonest = entry->word < soonest ? entry->word : soonest;
                link = &entry->next;
                continue;
            }
            *link = entry->next;
            entry->next = freed;
            if (freed == TWILL__KEYS_NONE)
                last = at;
            freed = at;
        }
    }
    shard->soonest = soonest;
    if (freed == TWILL__KEYS_NONE)
        return false;
    twill__lock(&keys->lock);
    keys->entries[last].next = keys->spare;
    keys->spare = freed;
    twill__unlock(&keys->lock);
    return true;
}

/* Under the shard's lock. */
static inline twill__key *twill__keys_find(struct twill_rate_keys *keys, uint32_t bucket,
                                           uint64_t key)
{
    uint32_t at = keys->chains[bucket];
    while (at != TWILL__KEYS_NONE && keys->entries[at].key != key)
        at = keys->entries[at].next;
    return at == TWILL__KEYS_NONE ? NULL : &keys->entries[at];
}

/* Full buckets of any shard, without a lock held. */
static inline bool twill__keys_sweep_all(struct twill_rate_keys *keys, uint64_t v)
{
    bool found = false;
    for (uint32_t s = 0; s < TWILL__KEYS_SHARDS && !found; s++) {
        twill__lock(&keys->shard[s].lock);
        found = twill__keys_sweep(keys, s, v);
        twill__unlock(&keys->shard[s].lock);
    }
    return found;
}

/* Is there an entry for one more key? What others sweep meanwhile, and do not take, is spare. */
static inline bool twill__keys_room(struct twill_rate_keys *keys, uint64_t v)
{
    return twill__keys_any_spare(keys) || twill__keys_sweep_all(keys, v) ||
           twill__keys_any_spare(keys);
}

/* When V has reached that, a full table may have room; not before. */
static inline uint64_t twill__keys_soonest(struct twill_rate_keys *keys)
{
    uint64_t soonest = UINT64_MAX;
    for (uint32_t s = 0; s < TWILL__KEYS_SHARDS; s++) {
        twill__lock(&keys->shard[s].lock);
        soonest = keys->shard[s].soonest < soonest ? keys->shard[s].soonest : soonest;
        twill__unlock(&keys->shard[s].lock);
    }
    return soonest == UINT64_MAX ? 0 : soonest; /* others have swept all: now */
}

/* Under the shard's lock: OK, EMPTY, or -1: no entry is spare. */
static inline int twill__keys_take(struct twill_rate_keys *keys, uint32_t bucket, uint64_t key,
                                   uint64_t cost, uint64_t v)
{
    twill__key *entry = twill__keys_find(keys, bucket, key);
    twill__keys_shard *shard = &keys->shard[twill__keys_shard_of(bucket)];
    uint64_t from = entry && entry->word > v ? entry->word : v;
    uint32_t at;
    if (cost > keys->scale.burst ? from > v : from + cost - v > keys->scale.burst)
        return TWILL_EMPTY;
    if (!entry) {
        at = twill__keys_take_spare(keys);
        if (at == TWILL__KEYS_NONE)
            return -1;
        entry = &keys->entries[at];
        entry->key = key;
        entry->next = keys->chains[bucket];
        keys->chains[bucket] = at;
    }
    entry->word = from + cost;
    /* an entry that was evictable no longer is: then `soonest` is too low, which costs a sweep */
    if (entry->word < shard->soonest)
        shard->soonest = entry->word;
    return TWILL_OK;
}

#endif

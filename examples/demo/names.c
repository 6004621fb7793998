#include "names.h"

#include <stdlib.h>
#include <string.h>

/* ---- texts ---- */

enum { BLOCK_BYTES = 64 * 1024 };

struct names_block {
    struct names_block *next;
    size_t used;
    char bytes[BLOCK_BYTES];
};

static const char *keep_text(struct names *names, const char *text, size_t length)
{
    if (names->blocks == NULL || BLOCK_BYTES - names->blocks->used < length) {
        struct names_block *block = malloc(sizeof *block);
        if (block == NULL)
            return NULL;
        block->next = names->blocks;
        block->used = 0;
        names->blocks = block;
    }
    char *copy = names->blocks->bytes + names->blocks->used;
    memcpy(copy, text, length);
    names->blocks->used += length;
    return copy;
}

/* ---- slots ---- */

static size_t shard_of(uint32_t hash)
{
    return hash >> 26;
}

/* The slot that holds the name, or the free one where it belongs. The load stays below 3/4, so
   the walk ends. */
static struct name *find_slot(const struct names_shard *shard, const char *text, size_t length,
                              uint32_t hash)
{
    size_t mask = shard->capacity - 1;
    size_t at = hash & mask;
    for (;;) {
        struct name *slot = &shard->slots[at];
        if (slot->text == NULL)
            return slot;
        if (slot->hash == hash && slot->length == length && memcmp(slot->text, text, length) == 0)
            return slot;
        at = (at + 1) & mask;
    }
}

static bool grow(struct names_shard *shard)
{
    struct names_shard wider = {NULL, shard->used,
                                shard->capacity == 0 ? 256 : shard->capacity * 2};
    wider.slots = calloc(wider.capacity, sizeof *wider.slots);
    if (wider.slots == NULL)
        return false;
    for (size_t i = 0; i < shard->capacity; i++) {
        const struct name *name = &shard->slots[i];
        if (name->text != NULL)
            *find_slot(&wider, name->text, name->length, name->hash) = *name;
    }
    free(shard->slots);
    *shard = wider;
    return true;
}

static bool make_room(struct names_shard *shard)
{
    return shard->used < shard->capacity / 4 * 3 || grow(shard);
}

static struct name *add_many(struct names *names, const char *text, size_t length, uint32_t hash,
                             uint64_t count)
{
    if (length > NAME_MAX_BYTES)
        length = NAME_MAX_BYTES;
    struct names_shard *shard = &names->shards[shard_of(hash)];
    if (!make_room(shard))
        return NULL;
    struct name *slot = find_slot(shard, text, length, hash);
    if (slot->text == NULL) {
        const char *kept = keep_text(names, text, length);
        if (kept == NULL)
            return NULL;
        *slot = (struct name){.text = kept, .hash = hash, .length = (uint16_t)length};
        shard->used++;
    }
    slot->count += count;
    return slot;
}

struct name *names_add(struct names *names, const char *text, size_t length, uint32_t hash)
{
    return add_many(names, text, length, hash, 1);
}

/* ---- tables ---- */

/* What C and C++ reserve, and their alternative spellings. */
static const char keywords[] =
    "_Alignas _Alignof _Atomic _Bool _Complex _Generic _Imaginary _Noreturn _Static_assert "
    "_Thread_local alignas alignof and asm auto bool break case catch char char16_t char32_t "
    "char8_t class co_await co_return co_yield concept const const_cast consteval constexpr "
    "constinit continue decltype default defined delete do double dynamic_cast else enum "
    "explicit export extern false float for friend goto if inline int long mutable namespace "
    "new noexcept not nullptr operator or private protected public register reinterpret_cast "
    "requires restrict return short signed sizeof static static_assert static_cast struct "
    "switch template this thread_local throw true try typedef typeid typename typeof union "
    "unsigned using virtual void volatile wchar_t while xor";

static bool add_keyword(struct names *names, const char *text, size_t length)
{
    uint32_t hash = NAMES_HASH_START;
    for (size_t i = 0; i < length; i++)
        hash = names_hash_byte(hash, (unsigned char)text[i]);
    struct name *name = names_add(names, text, length, names_hash_end(hash));
    if (name == NULL)
        return false;
    name->keyword = true;
    name->count = 0;
    return true;
}

bool names_init(struct names *names)
{
    memset(names, 0, sizeof *names);
    for (const char *word = keywords; *word != '\0';) {
        size_t length = strcspn(word, " ");
        if (!add_keyword(names, word, length)) {
            names_free(names);
            return false;
        }
        word += length;
        word += *word == ' ';
    }
    return true;
}

void names_free(struct names *names)
{
    for (size_t s = 0; s < NAMES_SHARDS; s++)
        free(names->shards[s].slots);
    while (names->blocks != NULL) {
        struct names_block *next = names->blocks->next;
        free(names->blocks);
        names->blocks = next;
    }
    memset(names, 0, sizeof *names);
}

bool names_merge_shard(struct names *into, const struct names *from, size_t shard)
{
    struct names_shard *to = &into->shards[shard];
    const struct names_shard *more = &from->shards[shard];
    for (size_t i = 0; i < more->capacity; i++) {
        const struct name *name = &more->slots[i];
        if (name->text == NULL)
            continue;
        if (!make_room(to))
            return false;
        struct name *slot = find_slot(to, name->text, name->length, name->hash);
        if (slot->text == NULL) {
            *slot = *name;
            to->used++;
        } else {
            slot->count += name->count;
        }
    }
    return true;
}

bool names_take(struct names *into, struct names *from)
{
    for (size_t s = 0; s < NAMES_SHARDS; s++) {
        const struct names_shard *shard = &from->shards[s];
        for (size_t i = 0; i < shard->capacity; i++) {
            const struct name *name = &shard->slots[i];
            if (name->text != NULL && name->count > 0 &&
                add_many(into, name->text, name->length, name->hash, name->count) == NULL)
                return false;
        }
    }
    return names_reset(from);
}

bool names_reset(struct names *names)
{
    names_free(names);
    return names_init(names);
}

bool names_equal(const struct names *a, const struct names *b)
{
    for (size_t s = 0; s < NAMES_SHARDS; s++) {
        const struct names_shard *left = &a->shards[s], *right = &b->shards[s];
        if (left->used != right->used)
            return false;
        for (size_t i = 0; i < left->capacity; i++) {
            const struct name *name = &left->slots[i];
            if (name->text == NULL)
                continue;
            const struct name *other = find_slot(right, name->text, name->length, name->hash);
            if (other->text == NULL || other->count != name->count)
                return false;
        }
    }
    return true;
}

size_t names_distinct(const struct names *names)
{
    size_t distinct = 0;
    for (size_t s = 0; s < NAMES_SHARDS; s++) {
        const struct names_shard *shard = &names->shards[s];
        for (size_t i = 0; i < shard->capacity; i++)
            distinct += shard->slots[i].text != NULL && !shard->slots[i].keyword;
    }
    return distinct;
}

static bool comes_before(const struct name *a, const struct name *b)
{
    if (a->count != b->count)
        return a->count > b->count;
    size_t shorter = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->text, b->text, shorter);
    if (order != 0 || a->length != b->length)
        return order != 0 ? order < 0 : a->length < b->length;
    return a->hash < b->hash; /* both were cut */
}

static void keep_top(struct name *top, size_t *held, size_t capacity, const struct name *name)
{
    if (*held == capacity && (capacity == 0 || !comes_before(name, &top[capacity - 1])))
        return;
    size_t at = *held < capacity ? (*held)++ : capacity - 1;
    for (; at > 0 && comes_before(name, &top[at - 1]); at--)
        top[at] = top[at - 1];
    top[at] = *name;
}

size_t names_top(const struct names *names, struct name *top, size_t capacity)
{
    size_t held = 0;
    for (size_t s = 0; s < NAMES_SHARDS; s++) {
        const struct names_shard *shard = &names->shards[s];
        for (size_t i = 0; i < shard->capacity; i++)
            if (shard->slots[i].text != NULL && !shard->slots[i].keyword)
                keep_top(top, &held, capacity, &shard->slots[i]);
    }
    return held;
}

void names_find(const struct names *names, size_t shard, struct names_found *found)
{
    const struct names_shard *from = &names->shards[shard];
    found->distinct = found->held = 0;
    for (size_t i = 0; i < from->capacity; i++) {
        if (from->slots[i].text == NULL || from->slots[i].keyword)
            continue;
        found->distinct++;
        keep_top(found->top, &found->held, TOP_NAMES, &from->slots[i]);
    }
}

void names_join(struct names_found *into, const struct names_found *from)
{
    into->distinct += from->distinct;
    for (size_t i = 0; i < from->held; i++)
        keep_top(into->top, &into->held, TOP_NAMES, &from->top[i]);
}

/* filter.h: filter: test all, then move what stays. */
#ifndef TWILL__PARALLEL_MAP_FILTER_H
#define TWILL__PARALLEL_MAP_FILTER_H

#include "parallel_map/passes.h"

/* ---- filter ---- */

/* First a loop over the items: a bit an item says whether it is kept, a counter a block how many
   are. Then, with no callback any more, each block writes its items where they belong. So keep
   runs once an item, and a call that ends early has changed nothing. */

#define TWILL__FILTER_BLOCK 4096 /* items: 64 words of bits */
#define TWILL__FILTER_SMALL \
    (4 * TWILL__FILTER_BLOCK) /* items whose bits fit the caller's stack: 2 KiB */

typedef struct twill__filter {
    const char *in;
    char *out;
    size_t size, n, kept;
    twill_test_fn *keep;
    twill__mark_fn *mark; /* typed: instead of keep */
    const twill_parallel_options *options;
    _Atomic uint64_t *bits; /* [(n + 63) / 64] */
    size_t *counts;         /* [blocks]: items that are kept; then the place of the first */
    size_t at;              /* first block of the wave that runs */
    char *memory;
    twill__cut *cuts;
} twill__filter;

static inline size_t twill__filter_blocks(size_t n)
{
    return n / TWILL__FILTER_BLOCK + (n % TWILL__FILTER_BLOCK != 0);
}

/* Bits of the items begin..end-1, all of one word. Two chunks may share a word. */
static inline void twill__filter_put(twill__filter *filter, size_t begin, size_t end, uint64_t bits)
{
    _Atomic uint64_t *word = &filter->bits[begin / 64];
    /* relaxed: the join makes them visible */
    if (end - begin == 64)
        atomic_store_explicit(word, bits, memory_order_relaxed);
    else if (bits)
        atomic_fetch_or_explicit(word, bits, memory_order_relaxed);
}

static inline void twill__filter_body(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__filter *filter = (twill__filter *)job->data;
    twill__slot *me = &job->slot[task->worker];
    const char *item = filter->in + begin * filter->size;
    size_t size = filter->size, look, from = begin;
    twill_test_fn *keep = filter->keep;
    uint64_t bits = 0; /* of the items from..i-1 */
    twill__loop loop;
    size_t i = twill__loop_begin(&loop, job, me, begin, end);
    while ((look = twill__loop_look(&loop, i, end)) > i) {
        for (; i < look; item += size) {
            bool kept;
            task->index = i;
            kept = keep(item, task);
            bits |= (uint64_t)kept << i % 64;
            if (!twill__loop_goes_on(&loop, i, 0))
                end = look = i + 1;
            i++;
            if (i % 64 == 0) {
                twill__filter_put(filter, from, i, bits);
                from = i;
                bits = 0;
            }
        }
    }
    if (i > from)
        twill__filter_put(filter, from, i, bits);
    twill__loop_end(me, i);
}

static inline void twill__filter_mark(twill__filter *filter, size_t at, size_t end,
                                      const twill_task *task)
{
    uint64_t words[8];
    while (at < end) {
        size_t to = at % 64 ? at + (64 - at % 64) : end - at > 512 ? at + 512 : end, word = 0;
        if (to > end)
            to = end;
        filter->mark(filter->in + at * filter->size, to - at, words, task);
        for (size_t next; at < to; at = next) {
            next = to - at < 64 - at % 64 ? to : at + (64 - at % 64);
            twill__filter_put(filter, at, next, words[word++] << at % 64);
        }
    }
}

static inline void twill__filter_marks(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    twill__pieces pieces = twill__pieces_of(job, task, begin, end);
    for (size_t at = begin, to; (to = twill__piece(&pieces, at, end)) > at; at = to) {
        twill__filter_mark((twill__filter *)job->data, at, to, task);
        twill__piece_ended(&pieces, at, to);
    }
}

static inline unsigned twill__popcount(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    return (unsigned)(((x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56);
}

static inline uint64_t twill__filter_bits(const twill__filter *filter, size_t word)
{
    return atomic_load_explicit(&filter->bits[word], memory_order_relaxed); /* after the join */
}

/* counts[]: the place of each block's first item. What lies above a stop is not kept. */
static inline void twill__filter_count(twill__filter *filter, size_t stop_at)
{
    size_t words = filter->n / 64 + (filter->n % 64 != 0);
    if (stop_at < filter->n - 1) {
        words = stop_at / 64 + 1;
        if (stop_at % 64 != 63)
            atomic_fetch_and_explicit(&filter->bits[words - 1], ((uint64_t)2 << stop_at % 64) - 1,
                                      memory_order_relaxed); /* nobody else is here */
        for (size_t word = words; word < filter->n / 64 + (filter->n % 64 != 0); word++)
            atomic_store_explicit(&filter->bits[word], 0, memory_order_relaxed);
    }
    filter->kept = 0;
    for (size_t block = 0, word = 0; block < twill__filter_blocks(filter->n); block++) {
        size_t end =
            words - word < TWILL__FILTER_BLOCK / 64 ? words : word + TWILL__FILTER_BLOCK / 64;
        filter->counts[block] = filter->kept;
        for (; word < end; word++)
            filter->kept += twill__popcount(twill__filter_bits(filter, word));
    }
}

static inline __attribute__((always_inline)) void twill__filter_copy(const twill__filter *filter,
                                                                     size_t block, size_t size)
{
    const char *in = filter->in + block * TWILL__FILTER_BLOCK * size;
    char *out = filter->out + filter->counts[block] * size;
    size_t words = filter->n / 64 + (filter->n % 64 != 0),
           word = block * (TWILL__FILTER_BLOCK / 64);
    size_t end = words - word < TWILL__FILTER_BLOCK / 64 ? words : word + TWILL__FILTER_BLOCK / 64;
    for (; word < end; word++, in += 64 * size) {
        uint64_t bits = twill__filter_bits(filter, word);
        if (bits == UINT64_MAX) { /* all of them: they may overlap their place */
            memmove(out, in, 64 * size);
            out += 64 * size;
            continue;
        }
        for (; bits; bits &= bits - 1, out += size) {
            const char *item = in + (size_t)__builtin_ctzll(bits) * size;
            if (item != out) /* whole items: never overlapping otherwise */
                memcpy(out, item, size);
        }
    }
}

static inline void twill__filter_block(const twill__filter *filter, size_t block)
{
    switch (filter->size) {
    case 4:
        twill__filter_copy(filter, block, 4);
        break;
    case 8:
        twill__filter_copy(filter, block, 8);
        break;
    case 16:
        twill__filter_copy(filter, block, 16);
        break;
    default:
        twill__filter_copy(filter, block, filter->size);
    }
}

static inline void twill__filter_write(twill__job *job, twill_task *task, size_t begin, size_t end)
{
    const twill__filter *filter = (const twill__filter *)job->data;
    (void)task;
    for (size_t block = begin; block < end; block++)
        twill__filter_block(filter, filter->at + block);
}

/* In place, a block may be written once the lower ones that lie where it goes have moved. The
   lowest can always move; a wave are those that go below its old place, so they touch nobody
   else's. */
static inline size_t twill__filter_wave(const twill__filter *filter)
{
    size_t blocks = twill__filter_blocks(filter->n), end = filter->at + 1;
    if (filter->out != filter->in)
        return blocks;
    while (end < blocks && (end + 1 < blocks ? filter->counts[end + 1] : filter->kept) <=
                               filter->at * TWILL__FILTER_BLOCK)
        end++;
    return end;
}

static inline void twill__filter_steps(twill__job *job, void *data)
{
    twill__filter *filter = (twill__filter *)data;
    twill__sweep loop;
    size_t blocks = twill__filter_blocks(filter->n);
    twill__sweep_init(&loop, filter->n, filter->mark ? twill__filter_marks : twill__filter_body,
                      filter, filter->options);
    loop.pass.whole = filter->mark != NULL;
    loop.cuts = filter->cuts;
    twill__sweep_pass(job, &loop);
    if (!twill__ends_well(job, filter->n)) {
        filter->kept = 0;
        return;
    }
    twill__filter_count(
        filter, atomic_load_explicit(&job->stop_at, memory_order_relaxed)); /* after the join */
    if (!filter->out)
        return;
    for (size_t end; filter->at < blocks; filter->at = end) {
        twill__pass pass = {.body = twill__filter_write, .data = filter, .parts = true};
        end = twill__filter_wave(filter);
        pass.n = end - filter->at;
        pass.forced = pass.n > 64 && twill__was_shared(job);
        if (pass.n == 1)
            twill__filter_block(filter, filter->at);
        else
            twill__run_deaf(job, &pass);
    }
}

static inline void twill__free_ended(void *memory)
{
    TWILL_FREE(memory);
}

/* The memory goes also if a callback ends the thread. */
static __attribute__((noinline)) twill_status twill__filter_guarded(twill__filter *filter)
{
    twill_status status;
    TWILL__GUARD_PUSH(twill__free_ended, filter->memory);
    status =
        twill__start(filter->options, filter->n, true, twill__filter_steps, filter, &filter->cuts);
    TWILL__GUARD_POP(0);
    TWILL_FREE(filter->memory);
    return status;
}

static inline bool twill__filter_memory(twill__filter *filter, uint64_t *small, size_t small_words)
{
    size_t words = filter->n / 64 + (filter->n % 64 != 0), blocks = twill__filter_blocks(filter->n);
    filter->memory = NULL;
    if (words + blocks > small_words) {
        filter->memory = (char *)TWILL_MALLOC(words * 8 + blocks * sizeof(size_t));
        if (!filter->memory)
            return false;
        small = (uint64_t *)(void *)filter->memory;
    }
    filter->bits = (_Atomic uint64_t *)(void *)small;
    filter->counts = (size_t *)(void *)(small + words);
    for (size_t word = 0; word < words; word++)
        atomic_init(&filter->bits[word], 0);
    return true;
}

TWILL__DEFINE twill_status twill__parallel_filtered(const void *in, size_t size, size_t n,
                                                    void *out, size_t *out_n, twill_test_fn *keep,
                                                    twill__mark_fn *mark,
                                                    const twill_parallel_options *options)
{
    uint64_t small[TWILL__FILTER_SMALL / 64 + 8];
    twill__filter filter;
    twill_status status = twill__items_check(in, size, n);
    options = filter.options = twill__parallel_options(options);
    filter.in = (const char *)in;
    filter.out = (char *)out;
    filter.size = size;
    filter.n = n;
    filter.keep = keep;
    filter.mark = mark;
    filter.kept = filter.at = 0;
    if ((!keep && !mark) || !out_n || !twill__parallel_valid(options))
        status = TWILL_INVALID;
    if (out_n)
        *out_n = 0;
    if (status == TWILL_OK)
        status = twill__check_run(&options->run);
    if (status == TWILL_OK && !twill__filter_memory(&filter, small, sizeof small / sizeof *small))
        status = TWILL_NO_MEMORY;
    if (status != TWILL_OK)
        return twill__refuse(&options->run, n, status);
    status = filter.memory
                 ? twill__filter_guarded(&filter)
                 : twill__start(options, n, false, twill__filter_steps, &filter, &filter.cuts);
    if (status == TWILL_OK)
        *out_n = filter.kept;
    return status;
}

TWILL__DEFINE twill_status twill_parallel_filter(const void *in, size_t size, size_t n, void *out,
                                                 size_t *out_n, twill_test_fn *keep,
                                                 const twill_parallel_options *options)
{
    return twill__parallel_filtered(in, size, n, out, out_n, keep, NULL, options);
}

#endif

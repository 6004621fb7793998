/* heap.c: the program's heap, and the functions of <string.h> that compilers call themselves.
   Memory is never used again within a run, so that every access after free is seen. */
#define _DEFAULT_SOURCE /* madvise */
#include "explorer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    ARENA = 8 << 20,
    GAP = 32, /* between blocks; out of bounds */
    MAX_BLOCKS = 4096,
    FILL = 0xa5 /* what malloc leaves in a block */
};

typedef struct piece {
    uint32_t offset, size;
    bool freed;
    const void *pc; /* of the allocation, then of the free */
} piece;

static char *arena;
static uint8_t *state; /* of each 8 bytes: so many of them, the first ones, belong to a block */
static uint32_t top;
static piece blocks[MAX_BLOCKS];
static int block_count;

void *big(size_t size)
{
    const size_t page =
        2 << 20; /* a large one, for what is large: tables are read here and there */
    size_t extra = size < page ? 0 : page;
    char *p = mmap(NULL, size + extra, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED) {
        perror("explorer: mmap");
        exit(3);
    }
    if (extra) {
        p += page - (uintptr_t)p % page;
        madvise(p, size, MADV_HUGEPAGE);
    }
    return p;
}

/* At the same address in each process, if it is free: a program that sorts by addresses, as a table
   of waiters does, takes the same way in all of them. */
static char *at_home(size_t size)
{
    char *home = (char *)(UINT64_C(1) << 44);
    char *p = mmap(home, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    if (p == home) {
        madvise(p, size, MADV_HUGEPAGE);
        return p;
    }
    if (p != MAP_FAILED)
        munmap(p, size);
    return big(size);
}

char *heap_create(size_t more)
{
    arena = at_home(ARENA + more);
    state = big(ARENA / 8);
    watch_memory(arena, ARENA + more);
    return arena + ARENA;
}

void heap_reset(void)
{
    memset(state, 0, top / 8 + 8);
    top = 0;
    block_count = 0;
}

static bool in_arena(const void *p)
{
    return (uintptr_t)p - (uintptr_t)arena < ARENA;
}

/* The block that holds the address, or the last one that begins before it. */
static piece *block_of(const void *address)
{
    uint32_t offset = (uint32_t)((const char *)address - arena);
    int low = 0, high = block_count;

    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (blocks[middle].offset <= offset)
            low = middle;
        else
            high = middle;
    }
    return block_count ? &blocks[low] : NULL;
}

bool heap_name(const void *address, char *text, size_t size)
{
    const piece *b = in_arena(address) ? block_of(address) : NULL;

    if (!b)
        return false;
    snprintf(text, size, "block%d+%ld", (int)(b - blocks) + 1,
             (long)((const char *)address - arena) - (long)b->offset);
    return true;
}

/* ---- checks ---- */

static void report_access(uintptr_t address, const void *pc)
{
    const piece *b = block_of((const void *)address);
    char name[60], here[80], there[80];

    name_of((const void *)address, name, sizeof name);
    source_of(pc, here, sizeof here);
    source_of(b ? b->pc : NULL, there, sizeof there);
    if (b && b->freed && address - (uintptr_t)arena < b->offset + b->size)
        fail("use after free: %s at %s, freed at %s", name, here, there);
    fail("out of bounds of the heap: %s at %s; the block has %u bytes", name, here,
         b ? b->size : 0);
}

void heap_check(uintptr_t address, size_t size, const void *pc)
{
    uintptr_t at = address - (uintptr_t)arena;
    const piece *b;

    if (at >= ARENA)
        return;
    if (size > 64 && (b = block_of((const void *)address)) != NULL && !b->freed &&
        at >= b->offset && at + size <= b->offset + b->size)
        return; /* else byte by byte: which one is it? */
    for (uintptr_t end = at + size; at < end;) {
        uintptr_t next = (at | 7) + 1 < end ? (at | 7) + 1 : end;
        uint8_t valid = state[at >> 3];
        if (((next - 1) & 7) >= valid)
            report_access((uintptr_t)arena + at, pc);
        at = next;
    }
}

void heap_check_word(uintptr_t word, unsigned bytes, const void *pc)
{
    uintptr_t at = word - ((uintptr_t)arena >> 3);
    unsigned bad;

    if (at < ARENA / 8 && (bad = bytes >> state[at] << state[at]) != 0)
        report_access(word * 8 + (unsigned)__builtin_ctz(bad), pc);
}

bool heap_leak(char *text, size_t size)
{
    const piece *first = NULL;
    int count = 0;
    char where[80];

    for (int i = 0; i < block_count; i++)
        if (!blocks[i].freed) {
            first = first ? first : &blocks[i];
            count++;
        }
    if (!count)
        return false;
    source_of(first->pc, where, sizeof where);
    snprintf(text, size, "memory leak: %d block%s, the first of %u bytes from %s", count,
             count > 1 ? "s" : "", first->size, where);
    return true;
}

bool heap_origin(int number, char *text, size_t size)
{
    const piece *b = &blocks[number - 1];
    char where[80];

    if (number < 1 || number > block_count || b->freed)
        return false;
    source_of(b->pc, where, sizeof where);
    snprintf(text, size, "block%d: %u bytes from %s", number, b->size, where);
    return true;
}

/* ---- malloc and its kin ---- */

static void mark(uint32_t offset, uint32_t size, bool free)
{
    uint32_t last = size ? (size - 1) / 8 : 0;

    memset(state + offset / 8, free ? 0 : 8, last + 1);
    if (!free)
        state[offset / 8 + last] = (uint8_t)(size - last * 8);
}

static void *allocate(size_t size, size_t alignment, bool zero, const void *pc)
{
    uint32_t offset;

    not_in_handler("an allocation");
    step_on(&x.allocations, true, size);
    x.allocations++;
    if (x.allocations == x.fail_allocation || (x.random_allocation && hard_fault(16))) {
        x.fault_hit = true;
        trace("malloc-fails", NULL, 0, size, NO_ORDER, false, pc);
        errno = ENOMEM;
        self()->error = ENOMEM;
        return NULL;
    }
    if (alignment < 16)
        alignment = 16;
    offset = (uint32_t)((top + GAP + alignment - 1) & ~(alignment - 1));
    if (size > ARENA / 2) { /* as a system without overcommit would */
        self()->error = ENOMEM;
        return NULL;
    }
    if (offset + size + GAP > ARENA || block_count == MAX_BLOCKS)
        limit("the program allocates too much: 8 MiB, 4096 blocks in a run");
    mark(offset, (uint32_t)size, false);
    memset(arena + offset, zero ? 0 : FILL, size);
    blocks[block_count++] = (piece){offset, (uint32_t)size, false, pc};
    top = (uint32_t)((offset + size + 7) & ~(size_t)7);
    return arena + offset;
}

EXPORT void *explore_malloc(size_t size)
{
    return allocate(size, 16, false, PC);
}

EXPORT void *explore_calloc(size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size)
        return NULL;
    return allocate(count * size, 16, true, PC);
}

EXPORT void *explore_aligned_alloc(size_t alignment, size_t size)
{
    return allocate(size, alignment, false, PC);
}

EXPORT int explore_posix_memalign(void **out, size_t alignment, size_t size)
{
    void *p = allocate(size, alignment, false, PC);

    if (!p)
        return ENOMEM;
    *out = p;
    return 0;
}

static void release_block(void *p, const void *pc)
{
    piece *b;
    char there[80];

    not_in_handler("free");
    if (!p)
        return;
    b = in_arena(p) ? block_of(p) : NULL;
    if (!b || arena + b->offset != (char *)p) {
        name_of(p, there, sizeof there);
        if (strcmp(there, "memory of no object") == 0)
            limit("free of what a library has allocated, as getcwd() does, or of no memory at all");
        fail("free of something that malloc did not give");
    }
    if (b->freed) {
        source_of(b->pc, there, sizeof there);
        fail("double free of block%d, first freed at %s", (int)(b - blocks) + 1, there);
    }
    if (x.active && b->size)
        touch_last((uintptr_t)p, b->size, pc);
    mark(b->offset, b->size, true);
    b->freed = true;
    b->pc = pc;
}

EXPORT void explore_free(void *p)
{
    release_block(p, PC);
}

EXPORT void *explore_realloc(void *p, size_t size)
{
    void *q;
    const piece *b;

    if (!p)
        return allocate(size, 16, false, PC);
    b = in_arena(p) ? block_of(p) : NULL;
    if (!b || b->freed || arena + b->offset != (char *)p)
        fail("realloc of something that malloc did not give, or that is free already");
    q = allocate(size, 16, false, PC);
    if (q) {
        memcpy(q, p, b->size < size ? b->size : size);
        release_block(p, PC);
    }
    return q;
}

EXPORT void *explore_reallocarray(void *p, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size)
        return NULL;
    return explore_realloc(p, count * size);
}

static char *copy_of(const char *text, size_t length, const void *pc)
{
    char *copy = allocate(length + 1, 16, false, pc);

    if (copy) {
        memcpy(copy, text, length);
        copy[length] = '\0';
    }
    return copy;
}

EXPORT char *explore_strdup(const char *text)
{
    return copy_of(text, strlen(text), PC);
}

EXPORT char *explore_strndup(const char *text, size_t most)
{
    return copy_of(text, strnlen(text, most), PC);
}

static int print_to_heap(char **out, const char *format, va_list list, const void *pc)
{
    char *text = NULL;
    va_list again;
    int length;

    va_copy(again, list);
    length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length >= 0)
        text = allocate((size_t)length + 1, 16, false, pc);
    if (!text)
        return -1;
    vsnprintf(text, (size_t)length + 1, format, list);
    *out = text;
    return length;
}

EXPORT int explore_vasprintf(char **out, const char *format, va_list list)
{
    return print_to_heap(out, format, list, PC);
}

EXPORT int explore_asprintf(char **out, const char *format, ...)
{
    va_list list;
    int length;

    va_start(list, format);
    length = print_to_heap(out, format, list, PC);
    va_end(list);
    return length;
}

/* ---- memory and strings ---- */

EXPORT void *explore_memcpy(void *to, const void *from, size_t size)
{
    touch((uintptr_t)from, size, false, PC);
    touch((uintptr_t)to, size, true, PC);
    return memcpy(to, from, size);
}

EXPORT void *explore_memmove(void *to, const void *from, size_t size)
{
    touch((uintptr_t)from, size, false, PC);
    touch((uintptr_t)to, size, true, PC);
    return memmove(to, from, size);
}

EXPORT void *explore_memset(void *to, int byte, size_t size)
{
    touch((uintptr_t)to, size, true, PC);
    return memset(to, byte, size);
}

EXPORT int explore_memcmp(const void *a, const void *b, size_t size)
{
    touch((uintptr_t)a, size, false, PC);
    touch((uintptr_t)b, size, false, PC);
    return memcmp(a, b, size);
}

EXPORT int explore_bcmp(const void *a, const void *b, size_t size)
    __attribute__((alias("explore_memcmp")));

EXPORT size_t explore_strlen(const char *text)
{
    size_t length = strlen(text);

    touch((uintptr_t)text, length + 1, false, PC);
    return length;
}

EXPORT int explore_strcmp(const char *a, const char *b)
{
    touch((uintptr_t)a, strlen(a) + 1, false, PC);
    touch((uintptr_t)b, strlen(b) + 1, false, PC);
    return strcmp(a, b);
}

EXPORT char *explore_strcpy(char *to, const char *from)
{
    size_t size = strlen(from) + 1;

    touch((uintptr_t)from, size, false, PC);
    touch((uintptr_t)to, size, true, PC);
    return memcpy(to, from, size);
}

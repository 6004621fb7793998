/* memory.c: known-bad programs that free too early, twice, or never. */
#include "corpus.h"

/* ---- the last user touches what the other has freed ---- */
struct counted {
    atomic_int users;
    int value;
};
static struct counted *counted;

BODY(drop_then_look)
{
    (void)unused;
    if (atomic_fetch_sub(&counted->users, 1) == 1)
        free(counted);
    else
        (void)atomic_load(&counted->users); /* no longer ours */
    return 0;
}

static int use_after_free(void)
{
    counted = malloc(sizeof *counted);
    if (!counted)
        return 0;
    atomic_init(&counted->users, 2);
    TOGETHER(drop_then_look, drop_then_look);
    return 0;
}

/* ---- a waiter leaves with its node as soon as it is granted; the granter still reads it ---- */
struct node {
    atomic_int granted;
    int answer;
};
static _Atomic(struct node *) waiting;

BODY(wait_for_grant)
{
    struct node *me = calloc(1, sizeof *me);

    (void)unused;
    if (!me)
        return 0;
    atomic_store(&waiting, me);
    while (!atomic_load(&me->granted))
        thrd_yield();
    free(me);
    return 0;
}

BODY(grant)
{
    struct node *node;

    (void)unused;
    while (!(node = atomic_load(&waiting)))
        thrd_yield();
    atomic_store(&node->granted, 1);
    node->answer = 7; /* too late */
    return 0;
}

static int access_after_grant(void)
{
    TOGETHER(wait_for_grant, grant);
    return 0;
}

/* ---- two closers ---- */
static _Atomic(int *) resource;

BODY(close_resource)
{
    int *mine = atomic_load(&resource);

    (void)unused;
    if (mine) {
        free(mine);
        atomic_store(&resource, NULL);
    }
    return 0;
}

static int double_close(void)
{
    atomic_store(&resource, malloc(sizeof(int)));
    TOGETHER(close_resource, close_resource);
    return 0;
}

/* ---- both make the same thing; the loser's is lost ---- */
static _Atomic(int *) lazy;

BODY(make_lazily)
{
    (void)unused;
    if (!atomic_load(&lazy))
        atomic_store(&lazy, malloc(sizeof(int)));
    return 0;
}

static int lazy_leak(void)
{
    TOGETHER(make_lazily, make_lazily);
    free(atomic_load(&lazy));
    return 0;
}

/* ---- one past the end ---- */
static int heap_overflow(void)
{
    char *text = malloc(5);

    if (text)
        text[5] = '\0';
    free(text);
    return 0;
}

/* ---- no memory, and nobody looks ---- */
static int unchecked_malloc(void)
{
    int *one = malloc(sizeof *one);

    *one = 1;
    free(one);
    return 0;
}

/* ---- a clean-up on the way out that forgets one ---- */
static int leak_on_error(void)
{
    int *first = malloc(sizeof *first), *second;

    if (!first)
        return 0;
    second = malloc(sizeof *second);
    if (!second)
        return 0;
    free(second);
    free(first);
    return 0;
}

/* ---- ABA: a popped node comes back between the look and the swap ---- */
struct link {
    _Atomic(struct link *) next;
    atomic_int owners;
};
static struct link links[2];
static _Atomic(struct link *) top;

static struct link *pop(void)
{
    struct link *first = atomic_load(&top);

    while (first) {
        struct link *next = atomic_load(&first->next);
        if (atomic_compare_exchange_strong(&top, &first, next))
            return first;
    }
    return NULL;
}

static void push(struct link *link)
{
    struct link *first = atomic_load(&top);

    do
        atomic_store(&link->next, first);
    while (!atomic_compare_exchange_strong(&top, &first, link));
}

static void own(struct link *link)
{
    if (link)
        assert(atomic_fetch_add(&link->owners, 1) == 0);
}

BODY(pop_one)
{
    (void)unused;
    own(pop());
    return 0;
}

BODY(pop_two_push_one)
{
    struct link *first = pop(), *second = pop();

    (void)unused;
    own(second);
    if (first)
        push(first);
    own(pop());
    return 0;
}

static int aba(void)
{
    atomic_store(&links[0].next, &links[1]);
    atomic_store(&top, &links[0]);
    TOGETHER(pop_one, pop_two_push_one);
    own(pop());
    return 0;
}

/* ---- no lock ---- */
static int counter;

BODY(count)
{
    (void)unused;
    counter++;
    return 0;
}

static int plain_counter(void)
{
    TOGETHER(count, count);
    return counter != 2;
}

/* ---- an address that is gone ---- */
static volatile int *_Atomic borrowed;

BODY(lend_local)
{
    volatile int local = 3;

    (void)unused;
    atomic_store(&borrowed, &local);
    atomic_store(&borrowed, NULL);
    local = 4;
    return local - 4;
}

BODY(borrow)
{
    volatile int *theirs = atomic_load(&borrowed);

    (void)unused;
    return theirs ? *theirs != 3 && *theirs != 4 : 0;
}

static int borrowed_local(void)
{
    TOGETHER(lend_local, borrow);
    return 0;
}

/* A block is cleared as a whole: its counter begins anew, although the place had one before. */
static __attribute__((noinline)) int count_from_0(int to)
{
    struct {
        /* so that a compiler likes to clear it by one instruction */
        _Alignas(64) char before[1024];
        atomic_int count;
        char behind[1000];
    } block;

    memset(&block, 0, sizeof block);
    for (int i = 0; i < to; i++)
        atomic_fetch_add_explicit(&block.count, 1, memory_order_relaxed);
    return atomic_load_explicit(&block.count, memory_order_relaxed);
}

BODY(counts_twice)
{
    (void)unused;
    return count_from_0(3) != 3 || count_from_0(0) != 0;
}

static int cleared_block(void)
{
    thrd_t thread;
    int result;

    assert(thrd_create(&thread, counts_twice, NULL) == thrd_success);
    thrd_join(thread, &result);
    return result;
}

/* No step: nothing that others could notice. */
static int endless(void)
{
    volatile int turns = 1;

    while (turns)
        turns = 2;
    return 0;
}

const struct corpus_case memory_cases[] = {
    {"endless", endless},
    {"use_after_free", use_after_free},
    {"access_after_grant", access_after_grant},
    {"double_close", double_close},
    {"lazy_leak", lazy_leak},
    {"heap_overflow", heap_overflow},
    {"unchecked_malloc", unchecked_malloc},
    {"leak_on_error", leak_on_error},
    {"aba", aba},
    {"plain_counter", plain_counter},
    {"borrowed_local", borrowed_local},
    {"cleared_block", cleared_block},
    {NULL, NULL},
};

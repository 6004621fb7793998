/* linear.c: histories: a queue and a pool that are right, and some in which no step is wrong, no
   assertion fails, no access races, and yet no order of the calls explains what they return. */
#include "corpus.h"
#include "linear.h"

enum { ROOM = 4, LANES = 2 };

static long long told(const char *operation, long long argument,
                      long long (*fn)(long long argument))
{
    int call = explore_call(operation, argument);
    long long result = fn(argument);

    explore_return(call, result);
    return result;
}

/* ---- queues ---- */

static struct ring {
    mtx_t lock;
    long long items[ROOM];
    int first, count;
} lanes[LANES];

static void rings_init(void)
{
    for (int i = 0; i < LANES; i++)
        mtx_init(&lanes[i].lock, mtx_plain);
}

static long long ring_push(struct ring *r, long long item)
{
    long long result = LINEAR_FULL;

    mtx_lock(&r->lock);
    if (r->count < ROOM) {
        r->items[(r->first + r->count++) % ROOM] = item;
        result = LINEAR_OK;
    }
    mtx_unlock(&r->lock);
    return result;
}

static long long ring_pop(struct ring *r)
{
    long long item = LINEAR_EMPTY;

    mtx_lock(&r->lock);
    if (r->count) {
        item = r->items[r->first];
        r->first = (r->first + 1) % ROOM;
        r->count--;
    }
    mtx_unlock(&r->lock);
    return item;
}

/* One ring. */
static long long push_ring(long long item)
{
    return ring_push(&lanes[0], item);
}

static long long pop_ring(long long unused)
{
    (void)unused;
    return ring_pop(&lanes[0]);
}

/* A lane for each parity "against contention": pop finds the first lane empty, both lanes are
   filled in turn, and it takes the younger item. */
static long long push_lane(long long item)
{
    return ring_push(&lanes[item % LANES], item);
}

static long long pop_lane(long long unused)
{
    long long item = LINEAR_EMPTY;

    (void)unused;
    for (int i = 0; i < LANES && item == LINEAR_EMPTY; i++)
        item = ring_pop(&lanes[i]);
    return item;
}

/* The length is read without the lock, and an item that leaves is taken out a moment later. */
static atomic_int length;

static long long push_counted(long long item)
{
    long long result = ring_push(&lanes[0], item);

    atomic_fetch_add(&length, 1);
    return result;
}

static long long pop_counted(long long unused)
{
    (void)unused;
    if (atomic_load(&length) <= 0)
        return LINEAR_EMPTY;
    atomic_fetch_sub(&length, 1);
    return ring_pop(&lanes[0]);
}

static long long (*push_fn)(long long), (*pop_fn)(long long);

BODY(push_two)
{
    (void)unused;
    told("push", 2, push_fn); /* to lane 0 ... */
    told("push", 3, push_fn);
    return 0;
}

BODY(pop_two)
{
    (void)unused;
    told("pop", 0, pop_fn);
    told("pop", 0, pop_fn);
    return 0;
}

BODY(push_one)
{
    (void)unused;
    told("push", 5, push_fn);
    return 0;
}

static int queue_history(long long (*push)(long long), long long (*pop)(long long))
{
    rings_init();
    push_fn = push;
    pop_fn = pop;
    TOGETHER(push_two, pop_two, push_one);
    told("pop", 0, pop);
    explore_linearizable(&linear_queue);
    return 0;
}

static int linear_ring(void)
{
    return queue_history(push_ring, pop_ring);
}

static int two_lanes(void)
{
    return queue_history(push_lane, pop_lane);
}

static int length_apart(void)
{
    return queue_history(push_counted, pop_counted);
}

/* ---- pools of objects; D26 of the defects: given back twice, and two have it ---- */

enum { OBJECTS = 2 };
static atomic_uint places; /* a bit for each free object */
static atomic_int stack[8], top;

static long long take_bit(long long unused)
{
    unsigned old = atomic_load(&places), next;

    (void)unused;
    do {
        if (!old)
            return LINEAR_EMPTY;
        next = old & (old - 1);
    } while (!atomic_compare_exchange_weak(&places, &old, next));
    return old & 1 ? 0 : 1;
}

static long long give_bit(long long object)
{
    return atomic_fetch_or(&places, 1u << object) >> object & 1 ? LINEAR_FULL : LINEAR_OK;
}

static long long take_any(long long unused)
{
    int at = atomic_load(&top);

    (void)unused;
    while (at > 0)
        if (atomic_compare_exchange_weak(&top, &at, at - 1))
            return atomic_load(&stack[at - 1]); /* meanwhile another one may be put there */
    return LINEAR_EMPTY;
}

static long long give_any(long long object)
{
    int at = atomic_load(&top);

    do
        atomic_store(&stack[at], (int)object);
    while (!atomic_compare_exchange_weak(&top, &at, at + 1));
    return LINEAR_OK;
}

static long long (*take_fn)(long long), (*give_fn)(long long);
static int gives; /* how often each gives back what it has */

BODY(use_object)
{
    long long object = told("take", 0, take_fn);

    (void)unused;
    for (int i = 0; i < gives && object >= 0; i++)
        told("give", object, give_fn);
    return 0;
}

static int pool_history(long long (*take)(long long), long long (*give)(long long), int times)
{
    int call = explore_call("objects", OBJECTS);

    atomic_store(&places, 3);
    atomic_store(&stack[1], 1);
    atomic_store(&top, OBJECTS);
    explore_return(call, LINEAR_OK);
    take_fn = take;
    give_fn = give;
    gives = times;
    TOGETHER(use_object, use_object, use_object);
    told("take", 0, take);
    told("take", 0, take);
    explore_linearizable(&linear_pool);
    return 0;
}

static int pool_of_bits(void)
{
    return pool_history(take_bit, give_bit, 2);
}

static int pool_given_twice(void)
{
    return pool_history(take_any, give_any, 2);
}

static int pool_slot_reused(void)
{
    return pool_history(take_any, give_any, 1);
}

const struct corpus_case linear_cases[] = {
    {"linear_ring", linear_ring},
    {"two_lanes", two_lanes},
    {"length_apart", length_apart},
    {"pool_of_bits", pool_of_bits},
    {"pool_given_twice", pool_given_twice},
    {"pool_slot_reused", pool_slot_reused},
    {NULL, NULL},
};

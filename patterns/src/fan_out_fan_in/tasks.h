/* tasks.h: the records of a fan's tasks, and the fan itself. */
#ifndef TWILL__FAN_TASKS_H
#define TWILL__FAN_TASKS_H

#include "engine/crew.h"

/* A record is held by the thread that runs it, by its outcome until that is read, and for a moment
   by who fires its token; the last one gives it back. Records are type-stable: their chunks stay
   until the fan goes, so a late fire of a token hits a token. */
typedef struct twill__fan_task {
    /* who runs it writes these, and nobody else looks before: they stay with that CPU */
    twill__call call;                        /* first: task->private_ points here */
    struct twill__fan_task *next, *previous; /* its place among those that run */
    struct twill__fan_task *outer;           /* it runs inside that one, in the same thread */
    struct twill_fan *fan;
    twill_ns due;       /* its own time is over then; 0: it has no limit */
    twill_cancel token; /* task->until.cancel */
    /* what who goes and the reader want, together: two lines go from one CPU to the other */
    _Alignas(TWILL__LINE) twill_task_fn *fn; /* NULL: the call's process */
    void *arg;
    struct twill__fan_lane *lane;  /* whose record it is; NULL: anybody's */
    struct twill__fan_task *after; /* its place among the outcomes, or those that are free */
    twill_outcome outcome;
    unsigned holds;
    bool tell, told; /* its token is to fire; somebody does that */
    bool expired;    /* its time is over */
    bool answered;   /* its outcome is given, and it still runs */
    bool skip;       /* it said twill_task_skip */
    bool waits;      /* in next, and is counted in fan->blocked */
    bool late;       /* a success after the goal was met */
    /* the item (stream; max_abandoned) and the result stand behind it */
} twill__fan_task;
#define TWILL__FAN_RECORD (offsetof(twill__fan_task, late) + sizeof(bool)) /* then they begin */

typedef struct twill__fan_list {
    twill__fan_task *first, *last;
} twill__fan_list;

typedef struct twill__fan_outcomes { /* in the order in which they came */
    twill__fan_task *first, *last;
} twill__fan_outcomes;

typedef struct twill__fan_chunk { /* of records, and a ring for all there are then, or none */
    struct twill__fan_chunk *next;
    size_t ring_size;
} twill__fan_chunk;

/* Those that wait for a worker: a ring, so that a worker who takes many reads few lines. */
typedef struct twill__fan_queue {
    twill__fan_task **ring;
    size_t size; /* a power of two; 0: a call over an array has none */
    size_t head, count;
} twill__fan_queue;

/* LANES. A worker whose tasks are quick takes a run of items, or of tasks from the queue, at a
   time, and goes through it without the lock. It takes from the front of `range`; who runs out of
   work takes from its back, under the lock. Its ring holds records: [taken, ended) have ended, and
   whoever has the lock publishes them (twill__fan_sweep), in the order of the ends. So neither a
   task nor an outcome waits behind one that turns out to be slow. Behind `ended` stand those of the
   queue that it took. For the items of an array the records are the lane's own: one is used again
   when its outcome was read, and [returned, taken) are published and not yet read. */
enum {
    TWILL__FAN_LANES = 16,     /* so many workers at most: who sweeps looks at all of them */
    TWILL__FAN_PLACES = 256,   /* records of a lane at most, */
    TWILL__FAN_FEWEST = 4,     /* and at least */
    TWILL__FAN_BYTES = 131072, /* of a lane at most */
    TWILL__FAN_YIELDS = 16,    /* to a reader who has not read what is in a lane; in vain: */
    TWILL__FAN_HURRIES = 64    /* so often none */
};
#define TWILL__FAN_RUN_NS    20000 /* what a run shall last */
#define TWILL__FAN_QUICK_NS  5000  /* longer tasks are taken one by one */
#define TWILL__FAN_LOCK_NS   4000  /* a sweep of a full lane */
#define TWILL__FAN_GATHER_NS 50000 /* so long outcomes of quick tasks may gather, while one waits */

typedef struct twill__fan_lane {
    /* the owner's; the others look, and take items */
    _Alignas(TWILL__LINE) _Atomic uint64_t range; /* base + [lo, hi) are not begun */
    _Atomic(twill__fan_task *) current;           /* it runs; or NULL */
    _Atomic uint32_t ended;
    size_t base; /* an item's index, or a place; changes under the lock, while the range is empty */
    /* under the lock */
    _Alignas(TWILL__LINE) uint32_t taken;
    uint32_t returned;
    bool open; /* the worker is in it */
    /* set at creation */
    uint32_t places; /* a power of two; 0: there are no lanes */
    twill__fan_task **ring;
} twill__fan_lane;

typedef struct twill__fan_slot { /* of one worker number; the thread that has it writes */
    /* its number: only the own thread finds itself here */
    _Atomic uint64_t thread;
    twill_task *task;
    twill__fan_task *current; /* the innermost that runs */
    bool starting;            /* inside worker_start; left so: the hook has ended its thread */
    size_t chunks;
    twill_ns busy;
    twill_ns pace;    /* ns a task, lately; 0: not known */
    uint32_t run;     /* items of the last run */
    unsigned hurries; /* so often it does not wait for the reader */
    twill__fan_lane lane;
} twill__fan_slot;

/* A thread that waits in a call of the fan. What it is told stands in node.answer. */
typedef struct twill__fan_wait {
    twill__node node;
    unsigned helps;        /* it could run a task itself: TWILL__FAN_HELPS_... */
    bool unread;           /* a go that waits for readers, too */
    bool strict;           /* outcomes that gather must be shown at once */
    bool hungry;           /* counted in fan->hungry */
    bool naps;             /* it looks round by itself after 1 ms */
    bool refused;          /* it would have run a task, and no worker number was free */
    size_t most;           /* a watcher: so many may be left behind */
    twill__fan_task *task; /* to be accepted, or handed over */
} twill__fan_wait;
enum { TWILL__FAN_AGAIN = -1 }; /* as an answer: look again */
enum {
    TWILL__FAN_HELPS_NUMBERED = 1, /* if a worker number is free */
    TWILL__FAN_HELPS_ALWAYS = 2    /* under that of its own task, which waits */
};

/* A thread that helps: it runs one task, since it waits for something else. On its stack. */
typedef struct twill__fan_helping {
    struct twill__fan_helping *next;
    uint64_t thread;
    bool visits; /* it came by a call, and is counted in fan->visits */
} twill__fan_helping;

/* A callback that runs in a call from outside, on its stack: it must not destroy the fan. */
typedef struct twill__fan_calling {
    struct twill__fan_calling *next;
    uint64_t thread;
} twill__fan_calling;

struct twill_fan {
    _Atomic uint32_t lock;
    /* ---- under the lock ---- */
    bool closed;          /* no go but from its own tasks */
    bool met, unmet;      /* the goal is; it cannot be any more */
    bool cut_short;       /* by the end of all, a task was skipped */
    bool stopped;         /* aggregate has had enough: who was told to end has not failed */
    twill_status over;    /* not OK: tasks that have not started end with it */
    twill_status refusal; /* and go answers this */
    size_t limit;         /* the highest index that must still run */
    size_t stop_at;       /* the lowest index that said stop */
    size_t next_index;    /* of the next task */
    size_t emit;          /* ordered: the index that is given next */
    twill__fan_queue queue;
    twill__fan_list running, overdue;
    twill__fan_outcomes done;
    twill__fan_task *free;
    twill__fan_chunk *chunks;
    size_t records, used; /* all; those not free */
    size_t in_flight;     /* accepted, without an outcome */
    size_t executing;     /* of them, in a thread; answered ones not counted */
    size_t unread;        /* outcomes not yet taken */
    size_t answered;      /* running, with their outcome given */
    size_t blocked;       /* of those executing: waiting in next */
    size_t successes, succeeded, failed, skipped;
    size_t failures; /* that count for on_error */
    twill_item_error lowest, earliest;
    size_t errors_count;                  /* of run.errors */
    twill__list readers, goers, watchers; /* twill__fan_wait */
    twill__fan_helping *helping;
    twill__fan_calling *calling;
    unsigned refused; /* worker numbers whose worker_start failed */
    int start_code;
    size_t deaths;      /* threads that ended in a callback */
    bool deserted;      /* a pool's threads did not come for 1 ms, nor since then */
    unsigned lingering; /* workers that wait for tasks outside the lock for a moment */
    unsigned spinning;  /* readers that wait outside the lock for a moment */
    twill_ns gather; /* a reader waits while outcomes gather in lanes, until then; 0: none does */
    /* a call's items: taken by index; SIZE_MAX as source_n: nobody knows */
    const char *items;
    size_t source_next, source_n;
    bool pulled;  /* stream: the source may give more */
    bool cut_off; /* stream: the run was over before the source */
    /* ---- shared without the lock ---- */
    _Alignas(TWILL__LINE) _Atomic uint32_t ready; /* is there something to run? */
    _Atomic uint32_t published;                   /* changes for those who wait outside */
    _Atomic uint32_t visits; /* calls inside, and VISITS_WAIT: the destroyer sleeps on it */
    /* looked at by workers in a lane, after each item; written seldom */
    _Alignas(TWILL__LINE) _Atomic size_t cut; /* items from here on need not be begun */
    _Atomic uint32_t hungry;                  /* so many wait, and will not look by themselves */
    /* ---- set at creation ---- */
    _Alignas(TWILL__LINE) twill_fan_goal goal;
    bool laned; /* quick tasks may go through lanes */
    twill_on_error policy;
    size_t quorum, most_errors;
    bool ordered, copies; /* copies: items are the record's */
    bool streams;         /* tasks come by go, or are pulled: they wait in the queue */
    size_t item_size, result_size, item_at, result_at, task_size;
    size_t window, max_unread, capacity, max_abandoned;
    twill_ns timeout, since;
    twill_map_fn *process;
    bool (*enough)(const twill_outcome *outcome, const void *result, const twill_task *task);
    twill_drop_fn *drop;
    twill_discard_fn *discard;
    void (*notify)(const twill_task *task);
    void *context;
    twill_status *statuses;
    int *codes;
    twill_report *report;
    int (*worker_start)(void **worker_state, const twill_task *task);
    twill_cancel *cancel; /* run.until's */
    twill_cancel_hook hook;
    twill_cancel root;      /* above all tokens of the fan */
    twill__fan_task **ring; /* ordered: the outcomes by index % ring_size */
    size_t ring_size;
    twill__fan_slot *slot;
    unsigned workers;
    void *memory;
    twill__thrd reaper;
    twill__crew crew;
};
#define TWILL__FAN_VISITS_WAIT 0x80000000u

/* ---- lists ---- */

static inline void twill__fan_append(twill__fan_list *list, twill__fan_task *task)
{
    task->next = NULL;
    task->previous = list->last;
    if (list->last)
        list->last->next = task;
    else
        list->first = task;
    list->last = task;
}

static inline void twill__fan_remove(twill__fan_list *list, twill__fan_task *task)
{
    if (task->previous)
        task->previous->next = task->next;
    else
        list->first = task->next;
    if (task->next)
        task->next->previous = task->previous;
    else
        list->last = task->previous;
}

static inline void twill__fan_push(twill__fan_outcomes *outcomes, twill__fan_task *task)
{
    task->after = NULL;
    if (outcomes->last)
        outcomes->last->after = task;
    else
        outcomes->first = task;
    outcomes->last = task;
}

static inline twill__fan_task *twill__fan_pop(twill__fan_outcomes *outcomes)
{
    twill__fan_task *task = outcomes->first;
    if (task && !(outcomes->first = task->after))
        outcomes->last = NULL;
    return task;
}

/* ---- lanes ---- */

/* Takes an item that nobody has begun, from the front (the owner) or the back (under the lock). */
static inline bool twill__fan_lane_take(twill__fan_lane *lane, bool back, size_t *index)
{
    uint64_t range = atomic_load_explicit(&lane->range, memory_order_seq_cst);
    while (twill__lo(range) < twill__hi(range)) { /* exit: empty, or one is ours */
        size_t lo = (size_t)twill__lo(range), hi = (size_t)twill__hi(range),
               at = back ? hi - 1 : lo;
        uint64_t rest = back ? twill__pack(lo, hi - 1) : twill__pack(lo + 1, hi);
        /* seq_cst, as all that a lane shares */
        if (atomic_compare_exchange_weak_explicit(&lane->range, &range, rest, memory_order_seq_cst,
                                                  memory_order_seq_cst)) {
            *index = lane->base + at;
            return true;
        }
    }
    return false;
}

static inline bool twill__fan_lane_any(const twill__fan_lane *lane)
{
    uint64_t range = atomic_load_explicit(&lane->range, memory_order_seq_cst);
    return twill__lo(range) < twill__hi(range);
}

/* Under the lock: a lane with items that nobody has begun, or NULL. */
static inline twill__fan_lane *twill__fan_lane_left(const twill_fan *fan)
{
    for (unsigned k = 0; fan->laned && k < fan->workers; k++)
        if (twill__fan_lane_any(&fan->slot[k].lane))
            return &fan->slot[k].lane;
    return NULL;
}

/* ---- records ---- */

static inline void *twill__fan_result(const twill_fan *fan, twill__fan_task *task)
{
    return fan->result_size ? (char *)task + fan->result_at : NULL;
}

/* Under the lock: makes `count` records of the memory. */
static inline void twill__fan_add_records(twill_fan *fan, char *memory, size_t count)
{
    for (size_t k = count; k-- > 0;) { /* the first one lies on top */
        twill__fan_task *task = (twill__fan_task *)(void *)(memory + k * fan->task_size);
        task->after = fan->free;
        fan->free = task;
    }
    fan->records += count;
}

/* Under the lock: the ring that the queue needs with so many records more; 0: it has it. */
static inline size_t twill__fan_next_ring(const twill_fan *fan, size_t more)
{
    size_t size = fan->queue.size;
    while (size && size < fan->records + more)
        size *= 2;
    return size == fan->queue.size ? 0 : size;
}

/* Without the lock: a chunk of `count` records; NULL: no memory. */
static inline twill__fan_chunk *twill__fan_new_chunk(const twill_fan *fan, size_t count,
                                                     size_t ring_size)
{
    twill__fan_chunk *chunk;
    if (count > (SIZE_MAX / 4 - 2 * TWILL__LINE) / fan->task_size ||
        ring_size > SIZE_MAX / 4 / sizeof(twill__fan_task *))
        return NULL;
    chunk = (twill__fan_chunk *)TWILL_MALLOC(count * fan->task_size + 2 * TWILL__LINE +
                                             ring_size * sizeof(twill__fan_task *));
    if (chunk)
        chunk->ring_size = ring_size;
    return chunk;
}

/* How many records come next: as many as there are, within the capacity. */
static inline size_t twill__fan_growth(const twill_fan *fan)
{
    size_t most = fan->capacity + fan->max_abandoned,
           more = fan->records < 4096 ? fan->records : 4096;
    if (most <= fan->records) /* inline tasks of tasks */
        return 1;
    return more < most - fan->records ? more : most - fan->records;
}

/* Under the lock: the queue goes on in a larger ring. */
static inline void twill__fan_move_queue(twill__fan_queue *queue, twill__fan_task **ring,
                                         size_t size)
{
    for (size_t k = 0; k < queue->count; k++)
        ring[k] = queue->ring[(queue->head + k) & (queue->size - 1)];
    queue->ring = ring;
    queue->size = size;
    queue->head = 0;
}

/* Under the lock. False: somebody was quicker, and the chunk is not needed. */
static inline bool twill__fan_add_chunk(twill_fan *fan, twill__fan_chunk *chunk, size_t count)
{
    uintptr_t at = ((uintptr_t)(chunk + 1) + TWILL__LINE - 1) / TWILL__LINE * TWILL__LINE;
    char *records = (char *)chunk + (at - (uintptr_t)chunk);
    size_t most = twill__fan_growth(fan), size = chunk->ring_size;
    if (size < fan->queue.size)
        size = fan->queue.size;
    if (count > most)
        count = most;
    if (fan->free || (size && fan->records + count > size))
        return false;
    chunk->next = fan->chunks;
    fan->chunks = chunk;
    if (size != fan->queue.size)
        twill__fan_move_queue(&fan->queue,
                              (twill__fan_task **)(void *)(records + count * fan->task_size), size);
    twill__fan_add_records(fan, records, count);
    return true;
}

/* There is one. */
static inline twill__fan_task *twill__fan_take_free(twill_fan *fan)
{
    twill__fan_task *task = fan->free;
    fan->free = task->after;
    fan->used++;
    return task;
}

/* There is room: the queue has a place for each record. */
static inline void twill__fan_enqueue(twill__fan_queue *queue, twill__fan_task *task)
{
    queue->ring[(queue->head + queue->count++) & (queue->size - 1)] = task;
}

static inline twill__fan_task *twill__fan_dequeue(twill__fan_queue *queue)
{
    queue->count--;
    return queue->ring[queue->head++ & (queue->size - 1)];
}

/* What stands first in the queue, or NULL. */
static inline twill__fan_task *twill__fan_queue_first(const twill__fan_queue *queue)
{
    return queue->count ? queue->ring[queue->head & (queue->size - 1)] : NULL;
}

/* The lane's record number `at`. */
static inline twill__fan_task *twill__fan_lane_at(const twill__fan_lane *lane, uint32_t at)
{
    return lane->ring[at & (lane->places - 1)];
}

static inline void twill__fan_release(twill_fan *fan, twill__fan_task *task)
{
    twill__fan_lane *lane = task->lane;
    if (--task->holds)
        return;
    if (lane) { /* the owner takes them again in their order */
        while (lane->returned != lane->taken &&
               twill__fan_lane_at(lane, lane->returned)->holds == 0)
            lane->returned++;
        return;
    }
    task->after = fan->free;
    fan->free = task;
    fan->used--;
}
#endif

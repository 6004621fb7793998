/* process.h: what exists once a thread and once a process, and how a fork is noticed. */
#ifndef TWILL__PLATFORM_PROCESS_H
#define TWILL__PLATFORM_PROCESS_H

#include "platform/clock.h"

#include <errno.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

/* The link names carry the number of the layout: libraries that were built from headers of another
   layout get a copy of their own instead of a torn one. Raise it when one of the two structures
   changes. */
#define twill__thread  twill__thread_layout7
#define twill__process twill__process_layout4

#define TWILL__DUTIES 6 /* of a thread; deeper ones are not noted */

struct twill__job;
struct twill__team;

typedef struct twill__self {  /* of one thread; only that thread reads and writes it */
    uint64_t number;          /* never used again in this process; 0: not given yet */
    struct twill__job *job;   /* the innermost call whose callback runs here */
    struct twill__team *team; /* the team whose thread this is, or NULL */
    void *helper;             /* its record there */
    void *record;             /* the innermost task of engine/record.h whose callback runs here */
    void *runner;             /* what it runs tasks of a pool as, or NULL */
    void *visit;              /* its innermost call of an object of timeouts, or NULL */
    unsigned duties; /* what it has to do after the callback that it is in: engine/duty.h */
    struct {
        const void *object, *record;
        unsigned what;
    } duty[TWILL__DUTIES];
    /* the last parallel loop without wishes that was cheap: when it was judged so, in ticks (0: a
       later one was not); its function, team and items; how many of these run before the next look
       at the ticks, and how many ticks may have passed by then; see engine/brief.h */
    uint64_t ticked;
    uintptr_t cheap;
    struct twill__team *cheap_team;
    size_t cheap_n, cheap_first;
    uint64_t cheap_most;
    /* the last one that was worth helpers, 0: a later one was not; its function, team and items,
       its first chunk, and how many items are the caller's; where its record and the caller's slot
       stood, and most likely will stand again */
    uintptr_t dear;
    struct twill__team *dear_team;
    size_t dear_n, dear_chunk, dear_kept;
    const void *dear_job, *dear_slot;
} twill__self;

typedef struct twill__global { /* of the process */
    _Atomic uint64_t threads;  /* numbers given */
    /* 1, and more in each forked child that uses the library */
    _Atomic uint32_t generation;
    _Atomic uint32_t own_mark;        /* the mark, where the kernel cannot wipe a page on fork */
    _Atomic(_Atomic uint32_t *) mark; /* holds the generation; a fork makes it 0 */
    _Atomic uint32_t cpus;            /* the last count, 0: none yet */
    _Atomic uint64_t tick_rate;       /* see platform/ticks.h; 0: not measured yet */
    /* waits for ever, of engine/future_wait.h; made anew after a fork */
    _Atomic uint32_t waits_lock, waits_generation;
    void *waits;
    /* the process that owns the signals << 32 | threads that use its object just now; 0: nobody */
    _Atomic uint64_t signal_claim;
    _Atomic(void *) signal_owner; /* NULL while it comes and goes; see platform/signals.h */
    void *stragglers[16 / sizeof(void *) + 3]; /* twill__stragglers of timeout_fallback/books.h */
    _Atomic uintptr_t fence;                   /* what the kernel said; see platform/fence.h */
    void *reserved[2];                         /* later parts */
} twill__global;

TWILL__ONE twill__self *twill__thread(void);
TWILL__ONE twill__global *twill__process(void);

TWILL__ONE twill__self *twill__thread(void)
{
    static _Thread_local twill__self self;
    return &self;
}

TWILL__ONE twill__global *twill__process(void)
{
    static twill__global global;
    return &global;
}

/* The same without a call but the first; it never changes. */
static inline twill__self *twill__thread_here(void)
{
    static _Thread_local twill__self *self;
    if (!self)
        self = twill__thread();
    return self;
}

/* The numbers of another copy of this state, which a plugin may have, begin elsewhere: or two
   threads that meet at one object would be one. The highest bit is free, also where addresses have
   48 bits and more: resource_pool/desk.h doubles a number. */
static inline uint64_t twill__thread_number_of(uintptr_t state, uint64_t given)
{
    return ((uint64_t)state << 16 >> 1) + given;
}

static __attribute__((noinline)) uint64_t twill__thread_number_new(void)
{
    twill__self *self = twill__thread();
    twill__global *global = twill__process();
    if (!self->number) /* relaxed: only the value matters */
        self->number = twill__thread_number_of(
            (uintptr_t)global,
            atomic_fetch_add_explicit(&global->threads, 1, memory_order_relaxed) + 1);
    return self->number;
}

static inline uint64_t *twill__thread_number_copy(void)
{
    static _Thread_local uint64_t copy; /* it never changes, and needs no call here */
    return &copy;
}

static inline uint64_t twill__thread_number(void)
{
    uint64_t *copy = twill__thread_number_copy();
    if (!*copy)
        *copy = twill__thread_number_new();
    return *copy;
}

/* The same without a call; 0: it was not asked for before. */
static inline uint64_t twill__thread_number_known(void)
{
    return *twill__thread_number_copy();
}

/* ---- fork ---- */

#ifdef TWILL__POSIX
extern int pthread_atfork(void (*)(void), void (*)(void), void (*)(void));

static inline void twill__forked(void) /* in the child, before fork returns */
{
    /* one thread: nobody to pair with */
    atomic_store_explicit(&twill__process()->own_mark, 0, memory_order_relaxed);
}
#endif

/* A word that is 0 after a fork. Linux: a page of its own that the kernel wipes, which also sees
   _Fork and clone. Else a fork handler does it. */
static inline _Atomic uint32_t *twill__new_mark(twill__global *global)
{
#if defined __linux__ && !defined TWILL__NO_WIPEONFORK
    extern int madvise(void *, size_t, int);
    /* MAP_ANONYMOUS is another number on MIPS, Alpha and PA-RISC: there the call fails, and the
       fallback serves. An emulator that accepts any advice (qemu-user) wipes nothing: it is asked
       for one that does not exist first. */
    int saved = errno;
    void *page = mmap(NULL, 65536, 1 | 2 /* read, write */, MAP_PRIVATE | 0x20, -1, 0);
    if (page != (void *)-1) {
        if (madvise(page, 65536, -1) != 0 &&
            madvise(page, 65536, 18 /* MADV_WIPEONFORK, Linux 4.14 */) == 0) {
            errno = saved;
            return (_Atomic uint32_t *)page;
        }
        munmap(page, 65536);
    }
    errno = saved;
#endif
#ifdef TWILL__POSIX
    (void)pthread_atfork(NULL, NULL, twill__forked);
#endif
    return &global->own_mark;
}

static inline _Atomic uint32_t *twill__arm_mark(twill__global *global)
{
    _Atomic uint32_t *mark = twill__new_mark(global), *none = NULL;
    uint32_t unborn = 0;
    /* relaxed: both words only count; what they guard is ordered by the release below */
    atomic_compare_exchange_strong_explicit(&global->generation, &unborn, 1, memory_order_relaxed,
                                            memory_order_relaxed);
    atomic_store_explicit(mark, 1, memory_order_relaxed);
    /* release: pairs with the acquire in twill__generation; a loser's page stays mapped, once in a
       process's life */
    if (!atomic_compare_exchange_strong_explicit(&global->mark, &none, mark, memory_order_acq_rel,
                                                 memory_order_acquire))
        return none;
    return mark;
}

/* The number of this process in its line of forks: what holds an older one was made by a parent. */
static inline uint32_t twill__generation(void)
{
    twill__global *global = twill__process();
    /* pairs with arm_mark */
    _Atomic uint32_t *mark = atomic_load_explicit(&global->mark, memory_order_acquire);
    uint32_t seen;
    if (!mark)
        mark = twill__arm_mark(global);
    /* acquire, also below: pairs with the release */
    seen = atomic_load_explicit(mark, memory_order_acquire);
    if (!seen) {
        uint32_t next = atomic_fetch_add_explicit(&global->generation, 1, memory_order_relaxed) + 1;
        /* release: a child of this one that has the number counts on from it. Nobody waits here: a
           signal handler may have come in between */
        if (atomic_compare_exchange_strong_explicit(mark, &seen, next, memory_order_acq_rel,
                                                    memory_order_acquire))
            return next;
    }
    return seen;
}

/* The process that an object was made in: a child of it finds none of the threads that the object
   knows, and locks that will be held for ever. */
typedef struct twill__home {
    uint32_t generation;
    const _Atomic uint32_t *mark; /* says the generation of whoever reads it */
} twill__home;

static inline twill__home twill__home_here(void)
{
    twill__home home = {twill__generation(), NULL};
    /* pairs with arm_mark; the generation was asked: so there is one */
    home.mark = atomic_load_explicit(&twill__process()->mark, memory_order_acquire);
    return home;
}

/* Whether this is still that process. Async-signal-safe, and cheap: a load and no call. */
static inline bool twill__at_home(twill__home home)
{
    /* relaxed: a number alone, and this process wrote it before it had the home */
    return atomic_load_explicit(home.mark, memory_order_relaxed) == home.generation;
}

/* For what goes on in a forked child, with its locks free and its lists empty. `generation` is a
   word of it: of the process that used it last, 0: none has yet. 1: that is another one, and the
   caller alone makes anew what belonged to its threads, by relaxed stores, and then calls
   twill__adopted; 0: it is ours; -1: not yet: another one is at it. */
static inline int twill__adopt_turn(_Atomic uint32_t *generation)
{
    uint32_t now = twill__generation(), busy = 0x80000000u | now;
    /* pairs with the release in twill__adopted */
    uint32_t seen = atomic_load_explicit(generation, memory_order_acquire);
    if (seen == now)
        return 0;
    /* release: a child whose copy says that somebody was at it has that process's number, too, and
       counts on from it. twill__adopted publishes what was done */
    if (seen != busy && atomic_compare_exchange_strong_explicit(
                            generation, &seen, busy, memory_order_release, memory_order_relaxed))
        return 1;
    return -1;
}

/* The same for who may wait: true: the caller's to make anew; others wait for that here. */
static inline bool twill__adopt(_Atomic uint32_t *generation)
{
    int turn;
    while ((turn = twill__adopt_turn(generation)) < 0) /* exit: who is at it takes a few steps */
        twill__yield();
    return turn;
}

static inline void twill__adopted(_Atomic uint32_t *generation)
{
    /* pairs with the acquire in twill__adopt_turn */
    atomic_store_explicit(generation, twill__generation(), memory_order_release);
}

#endif

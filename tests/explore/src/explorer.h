/* explorer.h: what the files of the explorer share.

   The program under test runs on one thread of the system. Its threads are coroutines, and at every
   operation that other threads could notice the explorer decides who goes on. A "run" is one
   execution of the program under one schedule. */
#ifndef EXPLORER_H
#define EXPLORER_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default"))) /* called by the program under test */
#define PC     __builtin_return_address(0)

enum {
    MAX_THREADS = 24,        /* made in one run, main included */
    CLOCK = MAX_THREADS,     /* the pseudo-thread "time passes" */
    STACK_SIZE = 256 * 1024, /* of one thread */
    MAX_KEYS = 16,           /* of thread-specific storage */
    POLITE_YIELDS = 200,     /* so many, and nobody blocked or woken: time passes */
    POLLS = 150,       /* so many looks in a row are a wait that does not sleep: --no-polling */
    UNFAIR_STEPS = 200 /* so many without blocking or yielding, and the others get a turn */
};

#define TIME_BEGINS UINT64_C(1000000000000)

typedef enum { UNUSED, RUNNABLE, BLOCKED, ENDED } thread_state;
typedef enum { RANDOM, PCT, EXHAUSTIVE } strategy;

/* Memory orders as the compilers hand them over. NO_ORDER: not an atomic operation. */
enum { RELAXED, CONSUME, ACQUIRE, RELEASE, ACQ_REL, SEQ_CST, NO_ORDER };

/* A vector clock: how far each thread's past is known. */
typedef struct vclock {
    uint32_t at[MAX_THREADS];
} vclock;

/* A visit to the library: the function that the program has called, and where it goes on after
   it. */
typedef struct visit {
    const char *function;
    const void *from;
} visit;

typedef struct thread {
    void *sp;     /* while it does not run */
    char *stack;  /* lowest address */
    void *locals; /* its copy of the program's _Thread_local block, while it does not run */
    thread_state state;
    int error; /* its errno */

    int (*c11_main)(void *);
    void *(*pthread_main)(void *);
    void *argument;
    void *result;                    /* of either kind */
    bool joined, detached, vanished; /* vanished: by a fork */
    void *cleanup;                   /* innermost pthread_cleanup_push */
    void *keys[MAX_KEYS];

    const char *waits_in; /* BLOCKED: the call, the address, until when */
    const void *waits_on;
    uint64_t deadline; /* 0: none */
    bool wall_clock;
    bool timed_out;

    uint64_t digest;        /* of its past: reduce.c */
    uint64_t mask, pending; /* signals blocked; sent and not taken yet */
    int in_handler;
    bool interrupted; /* by a signal, in the call that it blocked in */
    bool restarts;    /* all handlers that ran then had SA_RESTART */

    uint32_t steps;     /* it has taken */
    uint32_t polite_to; /* threads that must move before it runs again: it has yielded */
    int steps_in_row;   /* since it last blocked or yielded */
    int idle_steps;     /* in a row that changed nothing: it polls */
    int stale_in_row;
    const void *stale_at;
    int priority;   /* PCT */
    const void *pc; /* of its last step, of the call that it waits in, of its mistake */
    visit visit;    /* that that is part of */

    vclock now;        /* happens-before: all that this thread knows */
    vclock released;   /* at its last release fence */
    vclock acquired;   /* what an acquire fence would add */
    vclock sc_view;    /* stores that sequentially consistent fences oblige it to see; no
                         happens-before */
    uint64_t sc_fence; /* place of its last such fence in the one order of them all */
    vclock light_view; /* what it knew at its last signal fence: who calls membarrier sees it */
    vclock heavy_view; /* what it must see from its next one on, for those who called membarrier */
    uint64_t heavy_fence;
} thread;

typedef struct explorer {
    /* ---- this run ---- */
    thread threads[MAX_THREADS];
    int thread_count, current;
    uint32_t runnable, timed; /* threads: a bit for each; timed: blocked, with a deadline */
    bool active;              /* the program runs, not the driver */
    /* an option: the run is for a report: notes at each step which call of the library it is part
       of, and plain accesses */
    bool callers;
    bool failed, finished;
    bool pruned;         /* cut short: this state was there before */
    bool died, in_child; /* by a signal or _exit; after fork: not all can have been given back */
    int pid;
    vclock copied, missing; /* in a child: what the copy of the memory has, and has not; memory.c */
    uint64_t copied_fence;
    uint32_t left_behind; /* threads of its parents: a bit for each */
    int coming;           /* signals from outside, on their way */
    bool alone;   /* all other threads have ended, and the current one knows what they did */
    uint32_t run; /* number of the run: tables are emptied by comparing it */
    uint32_t era; /* likewise, and advanced when a thread is left alone: what it does then and what
                     was before meets nobody, so neither accesses nor old stores are kept */
    uint32_t steps;
    uint32_t idle_yields;   /* since anything has changed */
    uint32_t polite_yields; /* since anybody has blocked, was woken or has begun or ended */
    bool polite;            /* some thread was, in this run */
    uint64_t now;           /* monotonic, ns */
    uint64_t wall;          /* wall clock minus monotonic */
    int reads_of_now;       /* since it last changed */
    vclock sc_view;         /* joined by sequentially consistent fences */
    uint64_t sc_order;
    bool registered;                 /* for membarrier */
    uint32_t allocations, creations; /* so far, for the k-th to fail */
    bool fault_hit;
    char message[600], details[4000]; /* of the failure; details: more lines, or "" */
    void *driver;                     /* stack pointer of the driver */
    int lowest_priority;

    /* ---- options ---- */
    strategy strategy;
    uint64_t seed;
    int pct_depth;
    bool reduction, reducing; /* EXHAUSTIVE: cut short what leads to a known state; in this run */
    int max_preemptions, max_stale, max_faults; /* EXHAUSTIVE */
    uint32_t max_steps;
    bool punctual, no_polling, weak_memory, spurious, quiet, verbose, check_leaks, show_output;
    bool inside;                             /* reports show the steps inside the library */
    uint32_t fail_allocation, fail_creation; /* the k-th; 0: none */
    bool random_allocation, random_creation, random_condition, no_futex, no_membarrier, wall_jumps,
        give_pages, whole_copies;
    int cpus;
    const char *svg; /* a file for the picture of a failure, or NULL */
    int argument_count;
    char **arguments;

    /* ---- all runs ---- */
    uint64_t runs, failures, cut_short, total_steps;
    uint32_t longest;
    int (*program)(int, char **);
} explorer;

extern explorer x;

static inline thread *self(void)
{
    return &x.threads[x.current];
}

/* ---- switch.c ---- */
void *stack_prepare(char *stack, size_t size, void (*entry)(void));
void stack_switch(void **save, void *load);

/* ---- search.c: who decides ---- */
void search_begin_run(uint64_t number);
int choose(int n);           /* a number below n */
bool fault(int one_in);      /* does this small misfortune happen here? */
bool hard_fault(int one_in); /* the same for failing allocations and threads */
int choose_stale(int n);     /* how many stores back a load reads, below n */
bool signal_comes(void);     /* from outside, now? */
int pick_thread(const int *able, int count, bool current_first, bool timers);
void new_priority(thread *t);
bool search_next(void);    /* EXHAUSTIVE: prepare the next run; false: all done */
void search_restart(void); /* EXHAUSTIVE: from the first run again */
void search_learn(void);
typedef struct search_place { /* in the tree */
    int level;                /* preemptions allowed */
    uint64_t schedules;       /* so many are done at this level */
} search_place;
bool search_keep(const char *name, const search_place *place); /* in a file; false: it cannot */
bool search_go_on(const char *name, search_place *place);      /* false: from the beginning */
void replay_id(char *text, size_t size);

enum { MAX_CHOICES = 1 << 16, UNBOUNDED = 99999 };
typedef struct saved_path {
    uint32_t length, cost;
    uint16_t taken[MAX_CHOICES];
} saved_path;
void path_take(saved_path *saved);
void path_follow(const saved_path *saved);
void path_forget(void);
bool replay_parse(const char *text, uint64_t *number);

/* ---- schedule.c: who runs ---- */
void point(void); /* another thread may run here */
bool block(const char *call, const void *on, uint64_t deadline, bool wall_clock, const void *pc);
void wake(thread *t, bool timed_out);
void yield(const void *pc);
void progress(void); /* something changed that a waiting thread could notice */
void leave(void);    /* the current thread has ended */
void finish(void) __attribute__((noreturn)); /* the run has ended */
void time_passes(void);
int waiters(const void *on, const char *call, int *list);

/* ---- reduce.c: which states were seen ---- */
void reduce_begin(void);
void reduce_begin_run(void);
void step_on(const void *address, bool changes, uint64_t what);
void step_of_clock(const void *address);
void step_alone(uint64_t what);
void step_reaches(thread *t, bool by_clock);
void step_on_all(void);
bool state_seen(int current, int preemptions, int stale_reads, int faults);
bool search_was_here(int current); /* search.c */

/* ---- race.c: vector clocks over plain and atomic accesses ---- */
void vclock_join(vclock *into, const vclock *from);
void release_to(vclock *clock);                    /* and the past of this thread goes on */
void watch_memory(const char *begin, size_t size); /* the heap and the stacks: found at once */
void watch_data(const char *begin, size_t size);   /* the program's variables: likewise */
void touch(uintptr_t address, size_t size, bool write, const void *pc);
void touch_read(uintptr_t address, unsigned mask, const void *pc); /* of 1 to 8 bytes, plain */
void touch_write(uintptr_t address, unsigned mask, const void *pc);
void touch_atomic(uintptr_t address, size_t size, bool write, const void *pc);
void touch_last(uintptr_t address, size_t size, const void *pc);
void stay_alone(void); /* if nobody else has anything to do that the current thread does not know */
void mark_atomic(uintptr_t address);

/* ---- memory.c: atomics ---- */
void forget_stores(uintptr_t address, unsigned bytes); /* overwritten by plain stores */
void forget_copied(const char *begin, size_t size);    /* a page that a child finds wiped */
uint64_t newest_value(const void *address, int size);
long membarrier(int command, const void *pc);

/* ---- heap.c ---- */
char *heap_create(size_t more); /* gives so much memory behind the heap */
void heap_reset(void);
void heap_check(uintptr_t address, size_t size, const void *pc);
void heap_check_word(uintptr_t word, unsigned bytes, const void *pc); /* some of its 8 bytes */
bool heap_name(const void *address, char *text, size_t size);
bool heap_leak(char *text, size_t size);
bool heap_origin(int number, char *text, size_t size); /* of block1, block2, ...; false: none */
void *big(size_t size);                                /* zeroed memory from the system */

/* ---- threads.c ---- */
int thread_create(int (*c11)(void *), void *(*pthread)(void *), void *argument, const void *pc);
void thread_exit(void *result) __attribute__((noreturn));

/* ---- sync.c ---- */
void describe_wait(const thread *t, char *text, size_t size);
long futex(uint32_t *word, int operation, uint32_t value, const struct timespec *limit,
           const void *pc);

/* ---- signals.c ---- */
void signals_reset(void);
void signals_run(void);
void signal_arrives(void);
void signals_in_child(void);
void not_in_handler(const char *call);
bool may_end(int status);
int explore_raise(int number);

/* ---- files.c ---- */
bool files_leak(char *text, size_t size);

/* ---- fork.c ---- */
bool page_name(const void *address, char *text, size_t size);

/* ---- time.c ---- */
uint64_t nanoseconds(const struct timespec *t);
void wall_may_jump(void);

/* ---- trace.c ---- */
void trace_reset(void);
void trace(const char *operation, const void *address, uint64_t old, uint64_t value, int order,
           bool stale, const void *pc);
void stands_at(const void *pc);
uint32_t trace_place(void);
void trace_earlier(uint32_t place, uint32_t number, int who, const char *operation,
                   const void *address, const void *pc);
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void report_failure(void);
void limit(const char *what) __attribute__((noreturn));
void name_of(const void *address, char *text, size_t size);
void source_of(const void *pc, char *text, size_t size);
void trace_name(const void *address, const char *name);
void each_object(const char *prefix, void (*use)(char *address, size_t size)); /* of the program */

typedef struct shown_step {
    uint32_t number, left_out; /* left_out: so many like the next ones, before it */
    int thread;                /* or CLOCK */
    const char *text, *source;
    bool stale;
} shown_step;
void each_shown_step(void (*show)(const shown_step *step));
uint32_t shown_steps(void);
void name_of_thread(int index, char *text, size_t size);

/* ---- picture.c ---- */
void picture_of_failure(const char *path);

/* ---- shrink.c ---- */
bool may_shrink(void);
void shrink(void); /* the run that has just failed: report one that is easier to read */

/* ---- main.c ---- */
bool run_once(uint64_t number); /* true: it failed */
void must_reach(const char *label, bool reached);
uint32_t labels_to_reach(void); /* a line of the totals for each */

#endif

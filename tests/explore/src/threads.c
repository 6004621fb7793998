/* threads.c: threads, thread-specific storage and clean-up handlers, C11 and POSIX. */
#include "explorer.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <threads.h>

extern const void *locals_image; /* main.c: initial values of the thread-local block */
extern size_t locals_size, locals_image_size;
extern char *locals_address;

static struct {
    uint32_t run;
    int count;
    void (*destructor[MAX_KEYS])(void *);
    bool deleted[MAX_KEYS];
} keys;

/* ---- begin and end ---- */

enum { MAX_AT_EXIT = 32 };
static struct {
    uint32_t run;
    int count;
    void (*handler[MAX_AT_EXIT])(void);
} at_exit;

EXPORT int explore_atexit(void (*handler)(void))
{
    point();
    step_on(&at_exit, true, 16);
    if (at_exit.run != x.run)
        at_exit.count = 0;
    at_exit.run = x.run;
    if (at_exit.count == MAX_AT_EXIT)
        return -1;
    at_exit.handler[at_exit.count++] = handler;
    return 0;
}

static void run_at_exit(void)
{
    while (at_exit.run == x.run && at_exit.count > 0)
        at_exit.handler[--at_exit.count]();
}

static void end_of_process(const char *how, int status)
{
    if (may_end(status & 255))
        x.died = true;
    else if (status != 0)
        fail("%s %d", how, status);
    x.finished = true;
    finish();
}

static void run_destructors(void)
{
    thread *t = self();
    bool again = keys.run == x.run;

    for (int round = 0; round < 4 && again; round++) {
        again = false;
        for (int k = 0; k < keys.count; k++) {
            void *value = t->keys[k];
            t->keys[k] = NULL;
            if (value && keys.destructor[k] && !keys.deleted[k]) {
                again = true;
                keys.destructor[k](value);
            }
        }
    }
}

static void end_of_thread(void *result)
{
    thread *t = self();
    bool last = true;

    run_destructors();
    t->result = result;
    trace("end", NULL, 0, 0, NO_ORDER, false, NULL);
    step_on(t, true, 10);
    for (int i = 0; i < x.thread_count; i++) {
        thread *other = &x.threads[i];
        if (other->state == BLOCKED && other->waits_on == t)
            wake(other, false);
        last = last && (other == t || other->state == ENDED);
    }
    if (last) {
        run_at_exit();
        end_of_process("", 0);
    }
    leave();
}

static void entry(void)
{
    thread *t = self();

    if (x.current == 0) {
        int status = x.program(x.argument_count, x.arguments);
        run_at_exit();
        end_of_process("main returned", status);
    }
    if (t->c11_main)
        end_of_thread((void *)(intptr_t)t->c11_main(t->argument));
    else
        end_of_thread(t->pthread_main(t->argument));
}

/* ---- clean-up handlers: glibc's pthread_cleanup_push in C ---- */

/* struct __pthread_unwind_buf_t: a jmp_buf without its mask, then four pointers of ours. */
typedef struct unwind {
    struct __cancel_jmp_buf_tag jump[1];
    void *outer, *reserved[3];
} unwind;

EXPORT void explore_register_cancel(unwind *buffer)
{
    buffer->outer = self()->cleanup;
    self()->cleanup = buffer;
}

EXPORT void explore_unregister_cancel(unwind *buffer)
{
    self()->cleanup = buffer->outer;
}

/* To the innermost handler, which calls explore_unwind_next when it has done; then to the end. */
void thread_exit(void *result)
{
    thread *t = self();
    unwind *buffer = t->cleanup;

    t->result = result;
    if (buffer) {
        jmp_buf whole;
        memset(whole, 0, sizeof whole);
        memcpy(whole, buffer->jump, sizeof buffer->jump);
        t->cleanup = buffer->outer;
        _longjmp(whole, 1);
    }
    end_of_thread(result);
    __builtin_unreachable();
}

EXPORT void explore_unwind_next(unwind *buffer)
{
    (void)buffer;
    thread_exit(self()->result);
}

/* ---- create, join ---- */

int thread_create(int (*c11)(void *), void *(*pthread)(void *), void *argument, const void *pc)
{
    int index;
    thread *t;
    char *stack;
    void *locals;

    if (x.active) {
        not_in_handler("creating a thread");
        point(); /* others may create threads here */
        x.creations++;
        if (x.creations == x.fail_creation || (x.random_creation && hard_fault(8))) {
            x.fault_hit = true;
            trace("create-fails", NULL, 0, 0, NO_ORDER, false, pc);
            return -1;
        }
    }
    index = x.thread_count;
    if (index == MAX_THREADS)
        limit("the program makes more than 24 threads in a run, main included");
    t = &x.threads[index];
    stack = t->stack;
    locals = t->locals;
    x.thread_count++;
    memset(t, 0, sizeof *t);
    t->stack = stack;
    t->locals = locals;
    if (locals_size) {
        memset(index ? locals : locals_address, 0, locals_size);
        memcpy(index ? locals : locals_address, locals_image, locals_image_size);
    }
    t->c11_main = c11;
    t->pthread_main = pthread;
    t->argument = argument;
    t->state = RUNNABLE;
    x.runnable |= 1u << index;
    t->sp = stack_prepare(stack, STACK_SIZE, entry);
    new_priority(t);
    if (index) {
        thread *parent = self();
        t->now = parent->now;
        t->heavy_view = parent->heavy_view;
        t->heavy_fence = parent->heavy_fence;
        t->mask = parent->mask;
        parent->now.at[x.current]++;
        step_on(&x.thread_count, true, 9);
        step_reaches(t, false);
        trace("create", t, 0, 0, NO_ORDER, false, pc);
        progress();
    }
    t->now.at[index] = 1;
    x.alone = index == 0;
    return index;
}

static thread *joinable(const char *call, unsigned long id)
{
    thread *t = &x.threads[id - 1];

    if (id == 0 || id > (unsigned long)x.thread_count)
        fail("%s: not a thread", call);
    if (t->joined || t->detached)
        fail("%s: T%d is joined or detached already", call, (int)id - 1);
    return t;
}

static void *join(const char *call, unsigned long id, const void *pc)
{
    thread *t;

    point();
    t = joinable(call, id);
    if (t == self())
        fail("%s: T%d joins itself", call, x.current);
    t->joined = true;
    step_on(t, true, 11);
    while (t->state != ENDED)
        block(call, t, 0, false, pc);
    step_on(t, true, 11);
    vclock_join(&self()->now, &t->now);
    stay_alone();
    trace("join", t, 0, 0, NO_ORDER, false, pc);
    return t->result;
}

EXPORT int explore_thrd_create(thrd_t *id, thrd_start_t fn, void *argument)
{
    int index = thread_create(fn, NULL, argument, PC);

    if (index < 0)
        return thrd_error;
    touch((uintptr_t)id, sizeof *id, true, PC);
    *id = (thrd_t)(index + 1);
    return thrd_success;
}

EXPORT int explore_thrd_join(thrd_t id, int *result)
{
    int got = (int)(intptr_t)join("thrd_join", (unsigned long)id, PC);

    if (result)
        *result = got;
    return thrd_success;
}

EXPORT int explore_thrd_detach(thrd_t id)
{
    thread *t = joinable("thrd_detach", (unsigned long)id);

    step_on(t, true, 13);
    t->detached = true;
    return thrd_success;
}

EXPORT thrd_t explore_thrd_current(void)
{
    return (thrd_t)(x.current + 1);
}

EXPORT void explore_thrd_exit(int result)
{
    thread_exit((void *)(intptr_t)result);
}

EXPORT void explore_thrd_yield(void)
{
    yield(PC);
}

EXPORT int explore_sched_yield(void)
{
    yield(PC);
    return 0;
}

EXPORT int explore_pthread_create(pthread_t *id, const pthread_attr_t *attributes,
                                  void *(*fn)(void *), void *argument)
{
    int index = thread_create(NULL, fn, argument, PC), detached = PTHREAD_CREATE_JOINABLE;

    if (index < 0)
        return EAGAIN;
    if (attributes)
        pthread_attr_getdetachstate(attributes, &detached);
    x.threads[index].detached = detached == PTHREAD_CREATE_DETACHED;
    touch((uintptr_t)id, sizeof *id, true, PC);
    *id = (pthread_t)(index + 1);
    return 0;
}

EXPORT int explore_pthread_join(pthread_t id, void **result)
{
    void *got = join("pthread_join", (unsigned long)id, PC);

    if (result)
        *result = got;
    return 0;
}

/* A name, a processor, a priority: no schedule is shut out by them. */
EXPORT int explore_pthread_setname_np(void)
{
    return 0;
}

EXPORT int explore_pthread_setaffinity_np(void)
    __attribute__((alias("explore_pthread_setname_np")));
EXPORT int explore_pthread_setschedparam(void) __attribute__((alias("explore_pthread_setname_np")));
EXPORT int explore_pthread_setschedprio(void) __attribute__((alias("explore_pthread_setname_np")));

EXPORT int explore_pthread_detach(pthread_t id)
{
    thread *t = joinable("pthread_detach", (unsigned long)id);

    step_on(t, true, 13);
    t->detached = true;
    return 0;
}

EXPORT pthread_t explore_pthread_self(void)
{
    return (pthread_t)(x.current + 1);
}

EXPORT void explore_pthread_exit(void *result)
{
    thread_exit(result);
}

/* ---- the end of the process ---- */

EXPORT void explore_exit(int status)
{
    not_in_handler("exit");
    run_at_exit();
    end_of_process("exit with", status);
}

EXPORT void explore_quick_exit(int status)
{
    end_of_process("exit with", status);
}

EXPORT void explore_exit_now(int status)
{
    x.died = true; /* nothing is given back, and that is right */
    end_of_process("exit with", status);
}

EXPORT void explore_Exit(int status) __attribute__((alias("explore_exit_now")));

EXPORT void explore_abort(void)
{
    fail("abort()");
}

EXPORT void explore_assert_fail(const char *text, const char *file, unsigned line, const char *fn)
{
    const char *slash = strrchr(file, '/');

    (void)fn;
    fail("assertion %s at %s:%u", text, slash ? slash + 1 : file, line);
}

EXPORT int *explore_errno_location(void)
{
    return &self()->error;
}

/* ---- thread-specific storage ---- */

static int key_create(void (*destructor)(void *))
{
    if (keys.run != x.run)
        memset(&keys, 0, sizeof keys);
    step_on(&keys, true, 12);
    keys.run = x.run;
    if (keys.count == MAX_KEYS)
        return -1;
    keys.destructor[keys.count] = destructor;
    return keys.count++;
}

EXPORT int explore_tss_create(tss_t *key, tss_dtor_t destructor)
{
    int k = key_create(destructor);

    if (k < 0)
        return thrd_error;
    *key = (tss_t)k;
    return thrd_success;
}

EXPORT void *explore_tss_get(tss_t key)
{
    return key < MAX_KEYS ? self()->keys[key] : NULL;
}

EXPORT int explore_tss_set(tss_t key, void *value)
{
    if (key >= MAX_KEYS)
        return thrd_error;
    self()->keys[key] = value;
    return thrd_success;
}

EXPORT void explore_tss_delete(tss_t key)
{
    if (key < MAX_KEYS)
        keys.deleted[key] = true;
}

EXPORT int explore_pthread_key_create(pthread_key_t *key, void (*destructor)(void *))
{
    int k = key_create(destructor);

    if (k < 0)
        return EAGAIN;
    *key = (pthread_key_t)k;
    return 0;
}

EXPORT void *explore_pthread_getspecific(pthread_key_t key)
{
    return explore_tss_get(key);
}

EXPORT int explore_pthread_setspecific(pthread_key_t key, const void *value)
{
    return explore_tss_set(key, (void *)(uintptr_t)value) == thrd_success ? 0 : EINVAL;
}

EXPORT int explore_pthread_key_delete(pthread_key_t key)
{
    explore_tss_delete(key);
    return 0;
}

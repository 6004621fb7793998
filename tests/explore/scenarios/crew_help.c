/* A crew with one worker number and one thread. A caller that helps has the number when more work
   comes up: the thread finds no number free and sleeps. Who gives the number back calls it. */
#undef NDEBUG
#include <assert.h>

#define TWILL_IMPLEMENTATION
#include "twill_batch_processing.h"

static struct heap {
    _Atomic uint32_t lock, done;
    unsigned left;
} heap;

static bool ready(void *heap_)
{
    bool some;
    (void)heap_;
    twill__lock(&heap.lock);
    some = heap.left > 0;
    twill__unlock(&heap.lock);
    return some;
}

static bool take(void)
{
    bool some;
    twill__lock(&heap.lock);
    some = heap.left > 0;
    heap.left -= some;
    twill__unlock(&heap.lock);
    return some;
}

static void work(void *heap_, twill_task *task)
{
    (void)heap_;
    assert(task->worker == 0);
    while (take()) {
        atomic_fetch_add(&heap.done, 1);
        twill__wake(&heap.done, INT_MAX);
    }
}

static const twill__crew_table table = {.ready = ready, .work = work};
static _Alignas(TWILL__LINE) char memory[4096];
static twill__crew crew;

static void give(void *nothing)
{
    (void)nothing;
    twill__lock(&heap.lock);
    heap.left++;
    twill__unlock(&heap.lock);
    twill__crew_call(&crew, 1);
}

int main(void)
{
    twill__thrd other = {.fn = give, .cpu = UINT_MAX};
    twill__global *global = twill__process();
    uint32_t done;

    atomic_store(&global->cpus, 2); /* no files, no page for the fork mark */
    atomic_store(&global->generation, 1);
    atomic_store(&global->own_mark, 1);
    atomic_store(&global->mark, &global->own_mark);
    assert(twill__crew_bytes(1, 1) <= sizeof memory);
    assert(twill__crew_open(&crew, &(twill_run){.workers = 1}, 1, 1, false, &table, &heap,
                            memory) == TWILL_OK);
    assert(twill__thread_start(&other));
    give(NULL);
    (void)twill__crew_help(&crew);
    while ((done = atomic_load(&heap.done)) < 2) /* without help from here on */
        twill__park(&heap.done, done, 0);
    twill__thread_join(&other);
    twill__crew_close(&crew, NULL);
    assert(heap.left == 0 && heap.done == 2);
    return 0;
}

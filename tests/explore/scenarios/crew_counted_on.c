/* A crew of two worker numbers and three threads. One worker makes a call whose two items wait for
   one another, the other one waits for both: the third thread must help, or all hang. Whoever
   counts on a thread that is just going to the other work must know better, or be told by it. */
#undef NDEBUG
#include <assert.h>

#define TWILL_IMPLEMENTATION
#include "twill_batch_processing.h"
#include "twill_parallel_map.h"

static _Atomic uint32_t lock, inside, done;
static unsigned given, taken;

static bool ready(void *nothing)
{
    bool some;
    (void)nothing;
    twill__lock(&lock);
    some = taken < given;
    twill__unlock(&lock);
    return some;
}

static void count(_Atomic uint32_t *word)
{
    atomic_fetch_add(word, 1);
    twill__wake(word, INT_MAX);
}

static void await_two(_Atomic uint32_t *word)
{
    uint32_t now;
    while ((now = atomic_load(word)) < 2)
        twill__park(word, now, 0);
}

static int meet(const twill_task *task)
{
    (void)task;
    count(&inside);
    await_two(&inside);
    return 0;
}

static void work(void *nothing, twill_task *task)
{
    (void)task;
    while (ready(nothing)) {
        unsigned mine;
        twill__lock(&lock);
        mine = taken < given ? taken++ : 2;
        twill__unlock(&lock);
        if (mine == 0)
            assert(twill_parallel_for(2, meet, NULL) == TWILL_OK);
        else if (mine == 1)
            await_two(&inside);
        if (mine < 2)
            count(&done);
    }
}

int main(void)
{
    static const twill__crew_table table = {.ready = ready, .work = work};
    static _Alignas(TWILL__LINE) char memory[4096];
    static twill__crew crew;
    twill__global *global = twill__process();

    atomic_store(&global->cpus, 2); /* no files, no page for the fork mark */
    atomic_store(&global->generation, 1);
    atomic_store(&global->own_mark, 1);
    atomic_store(&global->mark, &global->own_mark);
    assert(twill__crew_bytes(2, 3) <= sizeof memory);
    assert(twill__crew_open(&crew, &(twill_run){.workers = 2, .strict = true}, 2, 3, false, &table,
                            NULL, memory) == TWILL_OK);
    for (int k = 0; k < 2; k++) {
        twill__lock(&lock);
        given++;
        twill__unlock(&lock);
        twill__crew_call(&crew, 1);
    }
    await_two(&done);
    twill__crew_close(&crew, NULL);
    return 0;
}

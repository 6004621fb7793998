/* An ordered stream goes on behind an item that is not over: one of a worker's waits until two
   later or earlier ones have ended, so the thread that pulls must be woken by outcomes that it
   cannot give out yet. */
#include "fan_common.h"

#include <pthread.h>

enum { ITEMS = 5 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static bool taken;
static int ended, emitted;
static _Thread_local bool pulls;

static int process(const void *in, void *out, const twill_task *me)
{
    (void)in;
    (void)out;
    (void)me;
    pthread_mutex_lock(&lock);
    if (!pulls && !taken) {
        taken = true;
        while (ended < 2)
            pthread_cond_wait(&more, &lock);
    } else if (++ended == 2) {
        pthread_cond_signal(&more);
    }
    pthread_mutex_unlock(&lock);
    return 0;
}

static int pull(void *item, const twill_task *me)
{
    if (me->index == ITEMS)
        return twill_task_stop(me);
    *(int *)item = (int)me->index;
    return 0;
}

static int emit(const void *result, const twill_outcome *outcome, const twill_task *me)
{
    (void)result;
    (void)me;
    assert(outcome->index == (size_t)emitted++);
    return 0;
}

int main(void)
{
    quiet();
    pulls = true;
    assert(twill_fan_stream(pull, sizeof(int), process, 0, emit,
                            &(twill_fan_options){.run.workers = 2,
                                                 .ordered = true,
                                                 .in_flight = 2,
                                                 .max_unread = ITEMS}) == TWILL_OK);
    assert(emitted == ITEMS && live_blocks == 0);
    return 0;
}

/* Two numbers for workers. The worker_start of one fails, or lasts; a call under the other one
   pushes into the full pipeline, or waits, while main pushes, too. Main has no number to help with:
   it sleeps, and does not ask again and again. When nobody else can come, the push inside is told
   DEADLOCK. */
#include "pipe_common.h"

#include "explore.h"

enum { STEPS_MOST = 2000 }; /* of main: who asks again and again takes more */

static twill_pipeline *p;
static bool fails, pushes;
static _Atomic int starts, answer = TWILL_EMPTY;

static int start(void **state, const twill_task *task)
{
    (void)state, (void)task;
    if (atomic_fetch_add(&starts, 1) == 1) { /* the second one's */
        if (fails)
            return 3;
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    }
    return 0;
}

static int sink(const void *in, void *out, const twill_task *task)
{
    int i = *(const int *)in, more = 3;
    (void)out, (void)task;
    if (i == 0 && pushes)
        answer = (int)twill_pipeline_push(p, &more);
    else
        (void)twill_sleep(twill_within(TWILL_MS(1)));
    atomic_fetch_add(&seen[i], 1);
    return 0;
}

int main(void)
{
    const twill_stage stage = {.work = sink, .workers = 2, .drop = drop};
    twill_pipeline_report r;

    quiet();
    fails = choose(2);
    pushes = choose(2);
    assert(twill_pipeline_create(&p, sizeof(int), &stage, 1,
                                 &(twill_pipeline_options){.tokens = 2,
                                                           .run.workers = 2,
                                                           .run.worker_start = start,
                                                           .report = &r}) == TWILL_OK);
    for (int i = 0; i < 3; i++)
        assert(twill_pipeline_push(p, &i) == TWILL_OK);
    assert(twill_pipeline_join(p) == TWILL_OK);
    assert(twill_pipeline_destroy(p) == TWILL_OK);
    assert(!explore_steps || explore_steps() < STEPS_MOST);
    books(&r);
    assert(pushes ? answer == TWILL_OK || answer == TWILL_DEADLOCK || answer == TWILL_CLOSED
                  : answer == TWILL_EMPTY);
    assert(r.run.done == 3u + (answer == TWILL_OK));
    return 0;
}

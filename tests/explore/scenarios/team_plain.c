/* Two loops without wishes on a pool, cheap enough for the caller alone or not, or known to be dear
   from the last time, and the end of the pool. In one of them a callback ends its thread: nobody
   waits for the seat of a thread that is gone. */
#include "team_common.h"

enum { ITEMS = 64 };

#ifdef TWILL_USE_PTHREAD
#define END_THREAD() pthread_exit(NULL)
#else
#define END_THREAD() thrd_exit(0)
#endif

static twill_pool *pool;
static void *left; /* by a caller that has ended */

typedef struct call {
    _Atomic unsigned ran[ITEMS];
    bool deadly;
} call;

static int item(const twill_task *task)
{
    call *mine = (call *)task->context;

    if (task->index % 16 == 0) /* a step of the explorer's */
        atomic_fetch_add(&mine->ran[task->index], 1);
    if (mine->deadly && task->index == 16)
        END_THREAD();
    return 0;
}

static void make_call(void *deadly)
{
    call *mine = (call *)malloc(sizeof *mine); /* a freed block, so that late touches are seen */
    twill_parallel_options options = {.run = {.pool = pool, .context = mine}};
    twill_status status;

    assert(mine);
    memset(mine, 0, sizeof *mine);
    mine->deadly = deadly;
    if (deadly)
        left = mine;
    if (choose(2)) { /* as if the loop had been worth helpers a moment ago */
        twill__self *self = twill__thread();
        self->dear = (uintptr_t)item;
        self->dear_team = pool->team;
        self->dear_n = ITEMS;
        self->dear_chunk = 16;
        self->dear_kept = 32;
    }
    status = twill_parallel_for(ITEMS, item, &options);
    assert(status == (deadly ? TWILL_FAILED : TWILL_OK)); /* deadly: a helper met the item */
    for (int i = 0; i < ITEMS && !deadly; i += 16)
        assert(mine->ran[i] == 1);
    if (!deadly)
        free(mine);
}

int main(void)
{
    twill__thrd other;

    quiet();
    if (twill_pool_create(&pool, &(twill_pool_options){.run.workers = 2}) != TWILL_OK)
        return 0; /* no memory or no thread, when the explorer says so */
    memset(&other, 0, sizeof other);
    other.fn = make_call;
    other.arg = choose(2) ? pool : NULL;
    other.cpu = UINT_MAX;
    if (twill__thread_start(&other)) {
        make_call(NULL);
        twill__thread_join(&other);
    }
    assert(twill_pool_destroy(pool) == TWILL_OK);
    free(left);
    return 0;
}

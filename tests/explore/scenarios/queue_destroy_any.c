/* Destroy with two inside, each in a wait of any kind, for as long as it likes, or on its way
   out. */
#include "queue_common.h"

#include "explore.h"

enum { PUSH, BULK, JOIN, POP, BATCH, READY };

struct visitor {
    struct side side; /* first */
    int kind;
};

static twill_cancel token;
static atomic_int gone;

static void visit(void *visitor_)
{
    struct visitor *visitor = visitor_;
    struct side *side = &visitor->side;
    twill_queue *queue = side->queue;
    int items[2] = {7, 8};
    size_t n;

    switch (visitor->kind) {
    case PUSH:
        side->status = twill_queue_push_until(queue, items, side->until);
        break;
    case BULK:
        side->status = twill_queue_push_bulk_until(queue, items, 2, side->until);
        break;
    case JOIN:
        side->status = twill_queue_join_until(queue, side->until);
        break;
    case POP:
        side->status = twill_queue_pop_until(queue, items, side->until);
        break;
    case BATCH:
        side->status = twill_queue_pop_batch_until(queue, items, 2, &n, TWILL_US(1), side->until);
        break;
    default:
        side->status = twill_queue_ready_until(queue, side->until);
    }
    atomic_fetch_add(&gone, 1);
}

static int listed(const twill__queue_list *list)
{
    int n = 0;
    for (const twill__waiter *waiter = list->first; waiter; waiter = waiter->next)
        n++;
    return n;
}

/* Whether both have come, or have been. */
static bool both_came(twill_queue *queue)
{
    twill__queue_turn turn;
    int n = atomic_load(&gone);

    twill__queue_enter(queue, &turn);
    n += (int)(queue->pushing + queue->popping); /* outside the lock for a moment */
    n += listed(&queue->pushers) + listed(&queue->poppers) + listed(&queue->watchers) +
         listed(&queue->joiners);
    twill__queue_exit(queue, &turn);
    return n >= 2;
}

int main(void)
{
    struct visitor visitor[2] = {{{0}, 0}, {{0}, 0}};
    bool full = EXPLORE_CHOICE(2, 0);
    twill_queue *queue;

    assert(twill_queue_create(&queue, sizeof(int),
                              &(twill_queue_options){.capacity = 2, .engine = TWILL_ENGINE_LOCK}) ==
           TWILL_OK);
    twill_cancel_init(&token, NULL);
    for (int i = 0; i < 2 && full; i++)
        assert(twill_queue_try_push(queue, &i) == TWILL_OK);
    for (int i = 0; i < 2; i++) {
        int limit = EXPLORE_CHOICE(3, 0);
        visitor[i].kind = EXPLORE_CHOICE(3, 0) + (full ? 0 : POP);
        if (limit == 1)
            visitor[i].side.until = twill_within(TWILL_US(1));
        else if (limit == 2)
            visitor[i].side.until.cancel = &token;
        go(&visitor[i].side, visit, queue);
    }
    while (!both_came(queue))
        twill__yield();
    if (EXPLORE_CHOICE(2, 0))
        twill_cancel_fire(&token, 1);
    assert(twill_queue_destroy(queue) == TWILL_OK);
    for (int i = 0; i < 2; i++) {
        struct side *side = &visitor[i].side;
        end(side);
        assert(side->status == TWILL_CLOSED ||
               (side->status == TWILL_TIMEOUT && side->until.deadline) ||
               (side->status == TWILL_CANCELLED && side->until.cancel));
    }
    twill_cancel_detach(&token);
    return 0;
}

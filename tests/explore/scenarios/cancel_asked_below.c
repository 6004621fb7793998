/* A token that was asked to cancel before its parent is fired: its hooks run with the reason of the
   one who asked, and what he wrote before it is there for them, and for those further down. */
#include "cancel_common.h"

static twill_cancel parent, child, grandchild;
static twill_cancel_hook hook[2];
static int before_fire, before_request;

static void look(int reason, const twill_task *task)
{
    (void)task;
    assert(reason == 1 ? before_fire == 5 : before_request == 6);
}

static void ask(void *arg)
{
    (void)arg;
    before_request = 6;
    twill_cancel_request(&child, 7);
}

static void poll(void *arg)
{
    int reason = twill_cancel_reason(&grandchild);

    (void)arg;
    assert(reason != 7 || before_request == 6);
}

int main(void)
{
    twill__thrd threads[2];

    twill_cancel_init(&child, &parent);
    twill_cancel_init(&grandchild, &child);
    hook[0].fn = hook[1].fn = look;
    twill_cancel_add_hook(&child, &hook[0]);
    twill_cancel_add_hook(&grandchild, &hook[1]);
    go(&threads[0], ask, NULL);
    go(&threads[1], poll, NULL);
    before_fire = 5;
    twill_cancel_fire(&parent, 1);
    end(threads, 2);
    twill_cancel_detach(&grandchild);
    twill_cancel_detach(&child);
    assert(bare(&parent) && bare(&child) && bare(&grandchild));
    return 0;
}

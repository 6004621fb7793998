/* Destroy with waiters inside: one for ever, one whose time is up, one that is cancelled at the
   same moment. */
#include "cancel_box.h"

static twill_cancel token;

static void fire(void *arg)
{
    (void)arg;
    twill_cancel_fire(&token, 1);
}

int main(void)
{
    struct box *box = box_new(1);
    struct user users[3];
    twill__thrd threads[4];
    uint32_t arrived;

    for (int i = 0; i < 3; i++)
        users[i] = (struct user){box, {0, NULL}, 0, TWILL_LOST};
    users[1].until = twill_within(TWILL_US(1));
    users[2].until = twill_until_cancelled(&token);
    for (int i = 0; i < 3; i++)
        go(&threads[i], pop_once, &users[i]);
    while ((arrived = atomic_load(&box_arrived)) < 3)
        twill__park(&box_arrived, arrived, 0);
    go(&threads[3], fire, NULL);
    box_destroy(box);
    end(threads, 4);
    assert(users[0].status == TWILL_CLOSED);
    assert(users[1].status == TWILL_CLOSED || users[1].status == TWILL_TIMEOUT);
    assert(users[2].status == TWILL_CLOSED || users[2].status == TWILL_CANCELLED);
    assert(bare(&token));
    return 0;
}

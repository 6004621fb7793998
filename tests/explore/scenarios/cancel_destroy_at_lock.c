/* Destroy while callers still wait for the lock itself: they are counted there, so they are
   served. */
#include "cancel_box.h"

int main(void)
{
    struct box *box = box_new(1);
    struct user users[2] = {{box, {0, NULL}, 0, TWILL_LOST}, {box, {0, NULL}, 1, TWILL_LOST}};
    twill__thrd threads[2];

    users[1].until = twill_within(500);
    twill__lock(&box->lock);
    go(&threads[0], pop_once, &users[0]);
    go(&threads[1], push_once, &users[1]);
    while (atomic_load(&box->lock) / TWILL__WAITER < 2)
        twill__yield();
    box_unlock(box);
    box_destroy(box);
    end(threads, 2);
    assert((users[0].status == TWILL_OK && users[1].status == TWILL_OK) ||
           (users[0].status == TWILL_CLOSED &&
            (users[1].status == TWILL_CLOSED || users[1].status == TWILL_OK)));
    return 0;
}

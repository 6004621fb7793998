/* Hand-over against cancel and deadline: the item goes to one popper or stays; never lost, never
   twice. */
#include "cancel_box.h"

int main(void)
{
    static twill_cancel token;
    struct box *box = box_new(1);
    struct user users[3] = {{box, {0, NULL}, 0, TWILL_LOST},
                            {box, {0, NULL}, 0, TWILL_LOST},
                            {box, {0, NULL}, 5, TWILL_LOST}};
    twill__thrd threads[3];
    int got = 0;

    users[0].until = twill_until_cancelled(&token);
    users[1].until = twill_within_or_cancelled(TWILL_US(1), &token);
    go(&threads[0], pop_once, &users[0]);
    go(&threads[1], pop_once, &users[1]);
    go(&threads[2], push_once, &users[2]);
    twill_cancel_fire(&token, 1);
    end(threads, 3);
    assert(users[2].status == TWILL_OK);
    assert(users[0].status == TWILL_OK || users[0].status == TWILL_CANCELLED);
    assert(users[1].status == TWILL_OK || users[1].status == TWILL_CANCELLED ||
           users[1].status == TWILL_TIMEOUT);
    for (int i = 0; i < 2; i++) {
        got += users[i].status == TWILL_OK;
        assert(users[i].status != TWILL_OK || users[i].item == 5);
    }
    assert(got + box->count == 1);
    assert(!box->poppers.first && bare(&token));
    box_destroy(box);
    return 0;
}

/* Two pushes against their deadlines, and a pop: what a push says is what the box holds. */
#include "cancel_box.h"

int main(void)
{
    struct box *box = box_new(1);
    struct user users[3];
    twill__thrd threads[3];
    int stored = 0;

    assert(box_push(box, 1, twill_within(0)) == TWILL_OK);
    for (int i = 0; i < 3; i++)
        users[i] = (struct user){box, {0, NULL}, i + 2, TWILL_LOST};
    users[0].until = users[1].until = twill_within(700);
    go(&threads[0], push_once, &users[0]);
    go(&threads[1], push_once, &users[1]);
    go(&threads[2], pop_once, &users[2]);
    end(threads, 3);
    assert(users[2].status == TWILL_OK && users[2].item == 1);
    for (int i = 0; i < 2; i++) {
        assert(users[i].status == TWILL_OK || users[i].status == TWILL_TIMEOUT);
        stored += users[i].status == TWILL_OK;
    }
    assert(stored == box->count && !box->pushers.first);
    box_destroy(box);
    return 0;
}

/* Both sides with room for one, closed at any moment: the books balance. */
#include "cancel_box.h"

static struct box *box;
static int pushed, popped;

static void push_two(void *arg)
{
    (void)arg;
    for (int i = 0; i < 2; i++)
        pushed += box_push(box, i, (twill_until){0, NULL}) == TWILL_OK;
}

static void pop_two(void *arg)
{
    int item;

    (void)arg;
    for (int i = 0; i < 2; i++)
        popped += box_pop(box, &item, (twill_until){0, NULL}) == TWILL_OK;
}

int main(void)
{
    twill__thrd threads[2];

    box = box_new(1);
    go(&threads[0], push_two, NULL);
    go(&threads[1], pop_two, NULL);
    box_close(box);
    end(threads, 2);
    assert(pushed == popped + box->count);
    assert(!box->pushers.first && !box->poppers.first);
    box_destroy(box);
    return 0;
}

/* Alone: a park until an instant ends at that instant, not later, with few steps; one until an
   instant that has passed ends at once; and a word that differs is seen first. */
#include "cancel_common.h"

#include "explore.h"

static void until(_Atomic uint32_t *word, twill_ns for_so_long)
{
    twill_ns deadline = twill__clock_now() + for_so_long;
    unsigned steps = explore_steps();

    while (twill__park(word, 0, deadline)) { /* for no reason */
    }
    assert(twill__clock_now() == (for_so_long > 0 ? deadline : deadline - for_so_long));
    assert(explore_steps() - steps < 300);
}

int main(void)
{
    static const twill_ns waits[] = {TWILL_MS(5), TWILL_MS(20), TWILL_MS(45), TWILL_MS(1500)};
    _Atomic uint32_t *word = calloc(1, sizeof *word);

    assert(word);
    until(word, waits[explore_choice(4)]);
    until(word, 0);
    until(word, -TWILL_SEC(500));
    while (twill__park(word, 0, -5)) { /* before time began */
    }
    assert(twill__park(word, 1, twill__clock_now() + TWILL_SEC(1)));
    free(word);
    return 0;
}

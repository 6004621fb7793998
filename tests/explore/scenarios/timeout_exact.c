/* The instants at which calls return, in virtual time: never before they should, and, in some
   schedule, exactly then. */
#include "explore.h"
#include "timeout_common.h"

static twill_timeout *inner;

/* 50 us inside of 2 us are 2 us */
static int nests(const void *in, void *out, const twill_task *task)
{
    int unused;
    (void)in;
    atomic_fetch_add(&ran, 1);
    *(int *)out = 1;
    return twill_timeout_call(inner, &(int){9}, sizeof(int), &unused, sizeof unused, obeys,
                              task->until, NULL) == TWILL_OK;
}

int main(void)
{
    static const struct {
        twill_timeout_mode mode;
        twill_ns grace;
        twill_map_fn *fn;
        twill_ns after;
        const char *label;
    } cases[] = {{TWILL_TIMEOUT_ABANDON, 0, work, TWILL_US(2), "abandon at the deadline"},
                 {TWILL_TIMEOUT_ABANDON, TWILL_US(3), work, TWILL_US(5), "after the grace"},
                 {TWILL_TIMEOUT_JOIN, 0, obeys, TWILL_US(2), "join who obeys"},
                 {TWILL_TIMEOUT_JOIN, 0, work, TWILL_US(8), "join who does not"},
                 {TWILL_TIMEOUT_COOPERATE, 0, obeys, TWILL_US(2), "cooperate"},
                 {TWILL_TIMEOUT_COOPERATE, 0, nests, TWILL_US(2), "nested"}};
    size_t which = (size_t)EXPLORE_CHOICE(6, 0);
    twill_timeout *timeout = timeout_of((twill_timeout_options){
        .mode = cases[which].mode, .timeout = TWILL_US(2), .grace = cases[which].grace});
    twill_ns begun = twill_now();
    twill_status status;
    int calls = 1;

    for (size_t k = 0; k < 6; k++)
        EXPLORE_MUST_REACH(cases[k].label);
    assert(twill_timeout_create(&inner, &(twill_timeout_options){.timeout = TWILL_US(50)}) ==
           TWILL_OK);
    status = call(timeout, 8, cases[which].fn, (twill_until){0, NULL});
    assert(twill_now() >= begun + cases[which].after || status == TWILL_OK);
    if (twill_now() == begun + cases[which].after)
        EXPLORE_REACHED(cases[which].label);
    assert(twill_timeout_drain(inner, (twill_until){0, NULL}, NULL) == TWILL_OK);
    if (cases[which].fn == nests) { /* the straggler of the inner call is not of our books */
        assert(atomic_load(&ran) <= 2);
        atomic_store(&ran, atomic_load(&taken) + atomic_load(&discarded));
    }
    assert(twill_timeout_destroy(inner) == TWILL_OK);
    finish(timeout, calls);
    return 0;
}

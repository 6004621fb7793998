/* Any loop: map, for, range, tiles or invoke, with any schedule, policy, hooks, threads or pool,
   also inside a callback of another one. What each item does is drawn, too. Each item runs at most
   once, and all that the manual says must run has run; the error is that of the serial loop, the
   report adds up, the hooks are called as promised, and nothing runs after the return. */
/* EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#include "parallel_any.h"

enum { MAP, FOR, TILES, INVOKE, RANGE, FORMS };

static void add(void *acc, int i)
{
    (void)acc, (void)i;
}

static int item(call *c, const twill_task *task)
{
    int code;
    come_in(c, task);
    code = act(c, (int)task->index, task);
    go_out(c, task);
    return code;
}

static int on_map(const void *in, void *out, const twill_task *task)
{
    int code = item(task->context, task);
    assert(*(const int *)in == (int)task->index);
    *(int *)out = 7 * *(const int *)in;
    return code;
}

static int on_for(const twill_task *task)
{
    return item(task->context, task);
}

static int on_tile(size_t row, size_t row_end, size_t col, size_t col_end, const twill_task *task)
{
    call *c = task->context;
    size_t i = task->index;
    assert(row == i / 2 && row_end == row + 1 && col == i % 2 * 2);
    assert(col_end == (i % 2 ? 3u : 2u));
    return item(c, task);
}

static int on_range(size_t begin, size_t end, const twill_task *task)
{
    return act_range(task->context, begin, end, NULL, task);
}

static void run_it(call *c)
{
    static twill_for_fn *const fns[MOST] = {on_for, on_for, on_for, on_for,
                                            on_for, on_for, on_for, on_for};
    twill_parallel_options *options = &c->options;
    int in[MOST], out[MOST];
    size_t n = (size_t)c->n;
    for (int i = 0; i < MOST; i++)
        in[i] = i, out[i] = -1;
    switch (c->form) {
    case MAP:
        c->status = one_in(2)
                        ? twill_parallel_map(in, sizeof *in, out, sizeof *out, n, on_map, options)
                        : twill_parallel_map(in, sizeof *in, in, sizeof *in, n, on_map, options);
        for (int i = 0; i < c->n; i++)
            assert(in[i] == 7 * i || (out[i] == (c->ran[i] && c->how[i] != LOST ? 7 * i : -1)) ||
                   in[i] == i);
        break;
    case FOR:
        c->status = twill_parallel_for(n, on_for, options);
        break;
    case TILES:
        c->status = twill_parallel_tiles(n / 2, 3, 1, 2, on_tile, options);
        break;
    case INVOKE:
        c->status = twill_parallel_invoke(fns, n, options);
        break;
    default:
        c->status = twill_parallel_range(n, on_range, options);
    }
}

static void any_call(call *c, int depth)
{
    c->form = choose(FORMS);
    c->depth = depth;
    c->checked = true;
    c->n = depth ? 1 + choose(3) : choose(MOST);
    if (c->form == TILES)
        c->n = c->n / 2 * 2;
    c->options.schedule = (twill_schedule)choose(5);
    c->options.chunk = (size_t)choose(3);
    c->options.cost_of = cost_of;
    c->last_stopped = -1;
    atomic_store(&c->lowest, MOST);
    c->caller = &stays;
    draw_run(c);
    draw_items(c);
    run_it(c);
    c->over = true;
    assert(c->status == c->report.status);
    check_call(c, false);
    atomic_store(&c->returned, true);
}

int main(void)
{
#ifdef FORKS
    EXPLORE_MUST_REACH("parent");
    EXPLORE_MUST_REACH("child");
    atomic_store(&to_fork, 1 + choose(2 * MOST));
#endif
    any_program();
    return 0;
}

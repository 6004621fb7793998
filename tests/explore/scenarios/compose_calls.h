/* One call of each kind, whose items do what the scenario's act does. */
enum { ITEMS = 2, FORMS = 5 };

static int act(const twill_task *task);
static int produce(twill_queue *queue, const twill_task *task);

static int choose(int n)
{
    return EXPLORE_CHOICE(n, 0);
}

static bool one_in(int n)
{
    return choose(n) == 0;
}

static int item(const void *in, void *out, const twill_task *task)
{
    (void)in, (void)out;
    return act(task);
}

static int batch_item(twill_batch *batch, const twill_task *task)
{
    (void)batch;
    return act(task);
}

static int consume(void *k, const twill_task *task)
{
    (void)k;
    return act(task);
}

static int call_of(int form, twill_run run)
{
    const int in[ITEMS] = {0};
    int out[ITEMS];
    const twill_stage stage = {.work = item, .out_size = sizeof(int), .workers = 2};
    switch (form) {
    case 0:
        return (int)twill_parallel_map(in, sizeof *in, out, sizeof *out, ITEMS, item,
                                       &(twill_parallel_options){.run = run});
    case 1:
        return (int)twill_fan_out_fan_in(in, sizeof *in, ITEMS, item, 0, NULL,
                                         &(twill_fan_options){.run = run});
    case 2:
        return (int)twill_pipeline_map(in, sizeof *in, out, sizeof *out, ITEMS, &stage, 1,
                                       &(twill_pipeline_options){.run = run});
    case 3:
        return (int)twill_batch_process(in, sizeof *in, NULL, 0, ITEMS, batch_item,
                                        &(twill_batch_options){.run = run, .max_items = 1});
    default:
        return (int)twill_produce_consume(
            sizeof(int), produce, consume,
            &(twill_produce_consume_options){.run = run, .queue.capacity = 1});
    }
}

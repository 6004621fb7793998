#include "measure.h"

/* ---- where the time went ---- */

static void add_shares(struct shares *s, const struct effort *effort)
{
    s->count += seconds(effort->count_cpu);
    s->read += seconds(effort->read_cpu);
    s->wait += seconds(effort->count - effort->count_cpu + effort->read - effort->read_cpu);
}

struct shares config_shares(const struct config *config)
{
    const struct run *run = config_run(config);
    struct shares s = {0};
    s.total = seconds(run_wall(run)) * (config->workers == 0 ? 1 : config->workers);
    for (size_t i = 0; i < run->files; i++) {
        add_shares(&s, &run->efforts[i]);
        if (run->reads != NULL)
            add_shares(&s, &run->reads[i]);
    }
    for (size_t k = 0; k < NAMES_SHARDS; k++)
        s.merge += seconds(run->merges[k].took);
    if (s.wait < 0) /* the two clocks differ by some nanoseconds a file */
        s.wait = 0;
    s.idle = s.total - s.count - s.read - s.merge - s.wait;
    if (s.idle < 0)
        s.idle = 0;
    return s;
}

double measurement_waited(const struct measurement *m)
{
    double waited = 0;
    for (size_t c = 0; c < m->config_count; c++) {
        struct shares s = config_shares(&m->configs[c]);
        if (m->configs[c].workers == m->cpus && !m->configs[c].pipeline)
            waited = s.wait / s.total;
    }
    return waited;
}

#include "proof.h"

#include <stdio.h>
#include <string.h>

int give_up(struct measurement *m, const char *why)
{
    snprintf(m->trouble, sizeof m->trouble, "%s", why);
    return -1;
}

/* Marks in `leave` the files whose content was not the same both times; returns how many. A
   file that is the same and was counted differently is a wrong result: -1. */
static int compare_counts(struct measurement *m, const struct counts *counts, bool *leave)
{
    int changed = 0;
    for (size_t i = 0; i < m->corpus->count; i++) {
        if (counts_equal(&m->reference[i], &counts[i]))
            continue;
        if (counts_unchanged(&m->reference[i], &counts[i])) {
            m->trouble_path = m->corpus->files[i].path;
            give_up(m, "WRONG RESULT: other counts than those of the plain loop for");
            return -1;
        }
        leave[i] = true;
        changed++;
    }
    return changed;
}

int prove(struct measurement *m, const struct counts *counts, const struct names *names,
          bool *leave)
{
    int changed = compare_counts(m, counts, leave);
    m->runs_made++;
    if (changed != 0)
        return changed < 0 ? -1 : CHANGED;
    if (!names_equal(counter_names(m->reference_counter), names))
        return give_up(m, "WRONG RESULT: the table of identifiers differs from the serial one");
    m->runs_proven++;
    return DONE;
}

/* What was gathered while the shards were merged, against a look at the whole table. */
static bool found_is_right(const struct names_found *found, const struct names *names)
{
    struct name top[TOP_NAMES];
    size_t held = names_top(names, top, TOP_NAMES);
    bool right = found->held == held && found->distinct == names_distinct(names);
    for (size_t i = 0; i < held && right; i++)
        right = found->top[i].count == top[i].count && found->top[i].length == top[i].length &&
                memcmp(found->top[i].text, top[i].text, top[i].length) == 0;
    return right;
}

int prove_flow(struct measurement *m, const struct flow *flow, bool *leave)
{
    for (size_t i = 0; i < flow->run.files; i++)
        if (flow->indexes[i] != i)
            return give_up(m, "WRONG RESULT: the pipeline lost the order of the files");
    int result = flow->run.files != m->corpus->count
                     ? give_up(m, "WRONG RESULT: the pipeline lost files")
                     : prove(m, flow->counts, counter_names(flow->counters[0]), leave);
    if (result == DONE && !found_is_right(&flow->found, counter_names(m->reference_counter)))
        result = give_up(m, "WRONG RESULT: the gathered names differ from the serial ones");
    return result;
}

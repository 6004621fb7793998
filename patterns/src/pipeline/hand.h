/* hand.h: a worker: takes a burst, runs it without the lock, publishes, until nothing is ready. */
#ifndef TWILL__PIPELINE_HAND_H
#define TWILL__PIPELINE_HAND_H

#include "pipeline/turn.h"

/* ---- what callbacks say ---- */

static inline bool twill__flow_cancelled(const twill_task *task)
{
    const twill__flow_hand *hand = (const twill__flow_hand *)task->private_;
    /* relaxed: an answer a moment later is as good. Who is above a cut hears of it by the token */
    return atomic_load_explicit(&hand->pipe->halted, memory_order_relaxed);
}

static inline void twill__flow_stop(const twill_task *task)
{
    twill__flow_hand *hand = (twill__flow_hand *)task->private_;
    hand->said |= TWILL__SAID_STOP;
    if (!twill__flow_here(hand->pipe))
        return;
    if (hand->step < hand->pipe->n_steps) /* a source's is an end, and no cut */
        twill__flow_stop_at(hand->pipe, hand->load[hand->at].key);
}

static inline void twill__flow_skip(const twill_task *task)
{
    ((twill__flow_hand *)task->private_)->said |= TWILL__SAID_SKIP;
}

static inline const twill__call_table *twill__flow_calls(void)
{
    static const twill__call_table table = {twill__flow_cancelled, twill__flow_stop,
                                            twill__flow_skip, NULL, NULL};
    return &table;
}

/* The hand that a stage's task belongs to, or NULL. */
static inline twill__flow_hand *twill__flow_hand_of(const twill_task *task)
{
    twill__flow_hand *hand = task ? (twill__flow_hand *)task->private_ : NULL;
    return hand && hand->call.table == twill__flow_calls() ? hand : NULL;
}

/* Where output `which` of the running call goes. */
static inline char *twill__flow_output(const twill__flow_hand *hand, uint32_t which)
{
    const twill__flow_step *step = &hand->pipe->step[hand->step], *behind = step + 1;
    twill__flow_piece piece = hand->load[hand->at].piece;
    if (hand->whole && !step->single) { /* output k is of item k */
        piece = hand->load[which].piece;
        which = 0;
    }
    piece.sub = piece.sub * step->most + which;
    return twill__flow_step_at(behind, piece);
}

/* ---- around a call ---- */

/* The load that the hand is on is begun: may it run? See twill__set_begin. */
static inline bool twill__flow_load_begin(twill__flow *p, twill__flow_hand *hand,
                                          const twill__flow_load *load)
{
    if (hand->slot)
        twill__set_begin(hand->slot, load->key);
    return load->key < twill__flow_limit(p);
}

/* Others want work, and loads below `to` are done. */
static inline void twill__flow_publish_some(twill__flow *p, twill__flow_hand *hand, uint32_t to)
{
    twill__flow_turn turn;
    twill__flow_enter(p, &turn);
    if (to > hand->published)
        twill__flow_publish(p, hand, to);
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
}

/* Its input goes to the stage's drop. */
static inline void twill__flow_load_drop(twill__flow *p, twill__flow_hand *hand,
                                         twill__flow_load *load)
{
    twill__flow_step *step = &p->step[hand->step];
    load->end = TWILL__FLOW_END_DROPPED;
    if (step->user.drop) {
        twill_task task = twill__flow_task(p, load->number, twill__flow_step_context(p, step));
        /* written before the limit that brought us here, or a moment later: a hint */
        bool failed = atomic_load_explicit(&p->failing, memory_order_relaxed);
        step->user.drop(twill__flow_step_at(step, load->piece),
                        failed ? TWILL_FAILED : TWILL_CANCELLED, &task);
    }
}

static inline void twill__flow_load_failed(twill__flow *p, twill__flow_hand *hand,
                                           twill__flow_load *load, int code)
{
    load->end = TWILL__FLOW_END_FAILED;
    twill__flow_fail(p, hand->step, load, TWILL_FAILED, code);
}

/* The failed input, after work. */
static inline void twill__flow_load_bury(const twill__flow *p, const twill__flow_hand *hand,
                                         const twill__flow_load *load, int code)
{
    if (p->options.dead_letter) {
        const twill__flow_step *step = &p->step[hand->step];
        twill_task task = twill__flow_task(p, load->number, p->run.context);
        p->options.dead_letter(hand->step, twill__flow_step_at(step, load->piece), code, &task);
    }
}

/* How a call of `work` ended, when it was not with one output. */
static inline void twill__flow_load_end(twill__flow *p, twill__flow_hand *hand,
                                        twill__flow_load *load, int code)
{
    if (code) {
        twill__flow_load_failed(p, hand, load, code);
        twill__flow_load_bury(p, hand, load, code);
    } else if (hand->said & TWILL__SAID_SKIP) {
        load->end = TWILL__FLOW_END_SKIPPED;
    } else if (hand->said & (TWILL__FLOW_SAID_FILTER | TWILL__SAID_STOP)) {
        load->end = TWILL__FLOW_END_FILTERED;
    } else {
        const twill__flow_step *step = &p->step[hand->step];
        load->end = TWILL__FLOW_END_DONE;
        load->outs = hand->emitted ? hand->emitted : 1;
        if (!hand->emitted && step->most > 1)
            memcpy(twill__flow_output(hand, 0), hand->scratch, (step + 1)->in_size);
        if (p->map_results) /* of its last step: the others' one output is plain */
            memcpy(p->map_results + load->number * (step + 1)->in_size, twill__flow_output(hand, 0),
                   (step + 1)->in_size);
    }
}

/* ---- looking at the time ---- */

typedef struct twill__flow_watch {
    uint64_t since, looked, published; /* ticks */
    uint64_t pace, longest;            /* usual; seen */
    uint32_t every, count;             /* loads a look; since the last */
} twill__flow_watch;

static inline void twill__flow_watch_begin(const twill__flow *p, twill__flow_watch *watch,
                                           uint64_t pace)
{
    watch->since = watch->looked = watch->published = twill__ticks();
    watch->longest = 0;
    watch->pace = pace;
    watch->count = 0;
    watch->every = 1;
    if (pace) {
        uint64_t fit = p->goal * TWILL__FLOW_LOOK_NS / TWILL__FLOW_BURST_NS / pace,
                 most = p->timed ? TWILL__FLOW_LOOK_TIMED : TWILL__FLOW_LOOK_MOST;
        if (fit > 1)
            watch->every = (uint32_t)(fit < most ? fit : most);
    }
}

/* After a call. Calls that are timed together: the longest is what is left after the others' usual
   time. */
static inline void twill__flow_watch_look(twill__flow_watch *watch)
{
    uint64_t now = twill__ticks(), took = now > watch->looked ? now - watch->looked : 0;
    watch->looked = now;
    if (took > watch->longest) {
        uint64_t others = watch->pace * (watch->count - 1), mean = took / watch->count;
        uint64_t longest = took > others && took - others > mean ? took - others : mean;
        if (longest > watch->longest)
            watch->longest = longest;
    }
    watch->count = 0;
}

/* Between two calls, when it is time to look: token and deadline, and what is done is shown when
   it lasts. False: the rest of the burst had better go back. */
static inline bool twill__flow_look(twill__flow *p, twill__flow_hand *hand,
                                    twill__flow_watch *watch, uint32_t to)
{
    if (p->timed &&
        (twill_cancel_fired(p->run.until.cancel) || twill__expired(p->run.until.deadline))) {
        twill__flow_publish_some(p, hand, to);
        watch->published = watch->looked;
    }
    if (hand->helper && twill__over(hand->helper->until) != TWILL_OK)
        return false;
    if (watch->looked - watch->published > 2 * p->goal && to < hand->n) {
        if (hand->step < p->n_steps && p->step[hand->step].limit > 1)
            return false;
        twill__flow_publish_some(p, hand, to);
        watch->published = watch->looked;
    }
    return true;
}

/* ---- the three kinds of burst ---- */

/* A callback may fork. In the child nothing of the pipeline is touched from its return on: another
   thread of the parent may have had the lock, and the items are the parent's. */

/* Loads one by one; returns how many have ended. */
static inline uint32_t twill__flow_run_loads(twill__flow *p, twill__flow_hand *hand,
                                             twill_task *task, twill__flow_watch *watch)
{
    twill__flow_step *step = &p->step[hand->step], *behind = step + 1;
    const char *in = step->in;
    size_t in_size = step->in_size, out_size = behind->in_size;
    twill_map_fn *work = step->user.work;
    bool thin = p->thin,
         plain = step->most == 1 && !(p->map_results && behind == &p->step[p->n_steps]);
    uint64_t number = twill__flow_fill(p, step, false, hand->load, hand->first);
    for (uint32_t i = 0; i < hand->n; i++) {
        twill__flow_load *load = &hand->load[i];
        size_t place = (size_t)load->piece.ticket * step->spread + load->piece.sub;
        const void *from = in + place * in_size;
        void *out = hand->scratch;
        int code;
        bool may_run;
        hand->at = i;
        if (out_size == 0)
            out = NULL;
        else if (step->most == 1)
            out = behind->in +
                  ((size_t)load->piece.ticket * behind->spread + load->piece.sub) * out_size;
        if (i + 1 < hand->n) /* while the processor still waits for the call before */
            number = twill__flow_fill(p, step, false, load + 1, number);
        may_run = twill__flow_load_begin(p, hand, load);
        if (i == 0)
            /* see twill__flow_sweep */
            atomic_store_explicit(&hand->begun, 1, memory_order_seq_cst);
        if (!may_run) {
            twill__flow_load_drop(p, hand, load);
            if (!twill__flow_here(p))
                return i + 1;
            continue;
        }
        if (i && atomic_load_explicit(&p->hungry, memory_order_seq_cst))
            twill__flow_publish_some(p, hand, i);
        hand->said = 0;
        hand->emitted = 0;
        task->index = (size_t)load->number;
        hand->calls = 1;
        code = work(from, out, task);
        hand->calls = 0;
        if (!twill__flow_here(p))
            return i + 1;
        if (plain && !((unsigned)code | hand->said)) {
            load->outs = 1;
            load->end = TWILL__FLOW_END_DONE;
            load->plain = thin;
        } else {
            twill__flow_load_end(p, hand, load, code);
            if (code && !twill__flow_here(p))
                return i + 1;
        }
        if (++watch->count == watch->every) {
            twill__flow_watch_look(watch);
            if (!twill__flow_look(p, hand, watch, i + 1))
                return i + 1;
        }
    }
    return hand->n;
}

/* A batch: those that may run come first, the rest is dropped after the call. Returns how many
   may. */
static inline uint32_t twill__flow_batch_gather(twill__flow *p, twill__flow_hand *hand)
{
    const twill__flow_step *step = &p->step[hand->step];
    size_t limit = twill__flow_limit(p);
    uint64_t number = hand->first;
    uint32_t n = 0;
    for (uint32_t i = 0; i < hand->n; i++) {
        number = twill__flow_fill(p, step, false, &hand->load[i], number);
        if (hand->load[i].key < limit) {
            twill__flow_load load = hand->load[i];
            hand->load[i] = hand->load[n];
            hand->load[n] = load;
            memcpy(hand->scratch + n++ * step->in_size, twill__flow_step_at(step, load.piece),
                   step->in_size);
        }
    }
    hand->at = 0;
    for (uint32_t i = 1; i < n; i++)
        if (hand->load[i].key < hand->load[hand->at].key)
            hand->at = i;
    return n;
}

/* How the call of a batch of n ended. */
static inline void twill__flow_batch_end(twill__flow *p, twill__flow_hand *hand, uint32_t n,
                                         int code)
{
    const twill__flow_step *step = &p->step[hand->step], *behind = step + 1;
    uint8_t end =
        hand->said & TWILL__SAID_SKIP ? TWILL__FLOW_END_SKIPPED : TWILL__FLOW_END_FILTERED;
    uint32_t outs = hand->said ? 0 : hand->emitted;
    if (code)
        end = TWILL__FLOW_END_FAILED;
    else if (!hand->said && (behind->in_size == 0 || (step->single && outs)))
        end = TWILL__FLOW_END_DONE;
    for (uint32_t i = 0; i < n; i++) {
        twill__flow_load *load = &hand->load[i];
        load->end = end;
        load->outs = end == TWILL__FLOW_END_DONE && behind->in_size == 0;
        if (!code && !step->single && i < outs) {
            load->end = TWILL__FLOW_END_DONE;
            load->outs = 1;
            if (p->map_results && hand->step + 1 == p->n_steps)
                memcpy(p->map_results + load->number * behind->in_size,
                       twill__flow_step_at(behind, load->piece), behind->in_size);
        }
    }
    if (!code && step->single && outs)
        hand->load[hand->at].outs = outs;
    for (uint32_t i = 0; code && i < n; i++)
        twill__flow_fail(p, hand->step, &hand->load[i], TWILL_FAILED, code);
    for (uint32_t i = 0; code && i < n && twill__flow_here(p); i++)
        twill__flow_load_bury(p, hand, &hand->load[i], code);
}

static inline uint32_t twill__flow_run_batch(twill__flow *p, twill__flow_hand *hand,
                                             twill_task *task, twill__flow_watch *watch)
{
    twill__flow_step *step = &p->step[hand->step];
    uint32_t n = twill__flow_batch_gather(p, hand);
    if (n && twill__flow_load_begin(p, hand, &hand->load[hand->at])) {
        int code;
        hand->said = 0;
        hand->emitted = 0;
        hand->calls = n;
        task->index = (size_t)hand->load[0].number;
        code = step->user.batch(hand->scratch, n, task);
        hand->calls = 0;
        if (!twill__flow_here(p))
            return hand->n;
        twill__flow_batch_end(p, hand, n, code);
        watch->count = 1;
        twill__flow_watch_look(watch);
    } else {
        n = 0;
    }
    for (uint32_t i = n; i < hand->n && twill__flow_here(p); i++) {
        hand->at = i;
        twill__flow_load_drop(p, hand, &hand->load[i]);
    }
    return hand->n;
}

/* The source, until the burst is full or it has nothing more for now. */
static inline uint32_t twill__flow_run_source(twill__flow *p, twill__flow_hand *hand,
                                              twill_task *task, twill__flow_watch *watch, bool *end)
{
    uint64_t number = hand->first;
    uint32_t i = 0, filled = 0;
    for (uint32_t asked = 0; i < hand->n && asked < 2 * TWILL__FLOW_BURST; asked++) {
        twill__flow_load *load = &hand->load[i];
        int code;
        hand->at = i;
        if (i == filled)
            number = twill__flow_fill(p, &p->step[p->n_steps], true, &hand->load[filled++], number);
        if (!twill__flow_load_begin(p, hand, load))
            break;
        if (asked == 0)
            /* see twill__flow_sweep */
            atomic_store_explicit(&hand->begun, 1, memory_order_seq_cst);
        else if (i && atomic_load_explicit(&p->hungry, memory_order_seq_cst))
            twill__flow_publish_some(p, hand, i);
        hand->said = 0;
        task->index = (size_t)load->number;
        hand->calls = 1;
        code = p->source(twill__flow_step_at(&p->step[0], load->piece), task);
        hand->calls = 0;
        if (!twill__flow_here(p))
            break;
        *end = code || (hand->said & TWILL__SAID_STOP);
        if (code)
            twill__flow_load_failed(p, hand, load, code);
        else if (!hand->said)
            load->plain = true;
        i += code || !hand->said;
        if (*end)
            break;
        if (++watch->count == watch->every) {
            twill__flow_watch_look(watch);
            (void)twill__flow_look(p, hand, watch, i); /* a source is gone on with */
        }
    }
    return i;
}

/* ---- a burst ---- */

static inline uint32_t twill__flow_hand_run(twill__flow *p, twill__flow_hand *hand,
                                            twill_task *task, twill__flow_watch *watch, bool *end)
{
    if (hand->step == p->n_steps) {
        task->context = p->run.context;
        twill__flow_watch_begin(p, watch, hand->pace);
        return twill__flow_run_source(p, hand, task, watch, end);
    }
    task->context = twill__flow_step_context(p, &p->step[hand->step]);
    twill__flow_watch_begin(p, watch, hand->pace);
    if (hand->whole)
        return twill__flow_run_batch(p, hand, task, watch);
    return twill__flow_run_loads(p, hand, task, watch);
}

/* Under the lock again: loads below `to` have ended. */
static inline void twill__flow_hand_end(twill__flow *p, twill__flow_hand *hand,
                                        const twill__flow_watch *watch, uint32_t to, bool end)
{
    uint64_t took = watch->looked > watch->since ? watch->looked - watch->since : 0;
    uint32_t ran = to ? to : 1;
    hand->busy += took;
    if (hand->step == p->n_steps) {
        p->source_burst = twill__flow_burst_next(p, p->source_burst, ran, took);
        p->source_pace = took / ran;
        if (end) {
            p->natural = p->shut = true;
        }
    } else {
        twill__flow_step *step = &p->step[hand->step];
        step->busy += took;
        if (watch->longest > step->longest)
            step->longest = watch->longest;
        step->burst = twill__flow_burst_next(p, step->burst, ran, took);
        step->pace = took / ran;
    }
    twill__flow_publish_all(p, hand, to);
}

/* ---- what the crew calls ---- */

static inline bool twill__flow_ready(void *pipe)
{
    twill__flow *p = (twill__flow *)pipe;
    twill__flow_turn turn;
    twill_ns due = 0;
    bool any;
    if (!twill__flow_here(p))
        return false;
    twill__flow_enter(p, &turn);
    twill__flow_poll(p);
    any = twill__flow_any(p);
    if (!any && !p->ended)
        due = p->due;
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_READY);
    if (due)
        twill__crew_alarm(&p->crew, due);
    return any;
}

/* The caller that this thread is, at work instead of waiting; NULL: it is one of the crew's. */
static inline const twill__flow_waiter *twill__flow_helper(const twill__flow *p)
{
    uint64_t me = p->helpers.first ? twill__thread_number() : 0;
    for (twill__node *node = p->helpers.first; node; node = node->next)
        if (twill__flow_waiter_of(node)->thread == me)
            return twill__flow_waiter_of(node);
    return NULL;
}

/* Whether it had better go back: its wait is over, or there has been enough of it, and there is a
   ticket. Not sooner: while nothing else is ready, many tickets come back at once. */
static inline bool twill__flow_helper_leaves(const twill__flow *p, const twill__flow_waiter *helper,
                                             uint64_t took)
{
    return (helper->item && (p->shut || (p->free_count && took / TWILL__FLOW_HELP > p->goal))) ||
           twill__over(helper->until) != TWILL_OK;
}

/* Bursts, until nothing is ready. */
static inline void twill__flow_hand_work(twill__flow *p, twill__flow_hand *hand, twill_task *task)
{
    twill__flow_turn turn;
    uint64_t now = twill__ticks(), since = now;
    twill__flow_enter(p, &turn);
    hand->helper = hand->slot ? twill__flow_helper(p) : NULL;
    p->working += hand->slot != NULL;
    for (;;) { /* exit: nothing to take */
        twill__flow_watch watch;
        bool end = false, taken;
        uint32_t to;
        twill__flow_poll(p);
        if (hand->helper && now != since && twill__flow_helper_leaves(p, hand->helper, now - since))
            break;
        taken = twill__flow_take(p, hand);
        twill__flow_moods(p, now);
        if (!taken && !twill__flow_any(p))
            break;
        if (!taken) {
            taken = twill__flow_take(p, hand);
            TWILL_ASSERT(taken); /* it asks what any has asked */
            (void)taken;
        }
        twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
        to = twill__flow_hand_run(p, hand, task, &watch, &end);
        if (watch.count)
            twill__flow_watch_look(&watch);
        now = watch.looked;
        if (!twill__flow_here(p)) /* forked in a callback: the others are not here */
            return;
        twill__flow_enter(p, &turn);
        twill__flow_hand_end(p, hand, &watch, to, end);
    }
    p->working -= hand->slot != NULL;
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
}

static inline void twill__flow_work(void *pipe, twill_task *task)
{
    twill__flow *p = (twill__flow *)pipe;
    twill__flow_hand *hand = &p->hand[task->worker];
    twill_task mine = *task;
    mine.private_ = &hand->call;
    twill__flow_hand_work(p, hand, &mine);
}

/* Loads of the hand that have ended, in the thread that has ended. Of a batch whose dead letters
   are under way all have. */
static inline uint32_t twill__flow_hand_ended(const twill__flow_hand *hand, uint32_t calls)
{
    uint32_t to = hand->whole && calls ? calls : hand->at + 1;
    while (hand->whole && to < hand->n && hand->load[to].end != TWILL__FLOW_END_NONE)
        to++;
    return to;
}

/* A callback has ended its thread: its piece is LOST, the rest goes back. */
static inline void twill__flow_thread_ended(void *pipe, twill_task *task)
{
    twill__flow *p = (twill__flow *)pipe;
    twill__flow_hand *hand = &p->hand[task->worker];
    twill__flow_turn turn;
    uint32_t to, calls = hand->calls;
    if (!twill__flow_here(p))
        return;
    twill__flow_enter(p, &turn);
    if (!hand->active) { /* in worker_start, not at work */
        p->starting -= hand->starting;
        twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
        return;
    }
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_READY);
    hand->calls = 0;
    to = twill__flow_hand_ended(hand, calls);
    for (uint32_t i = to - calls; i < to; i++) {
        hand->load[i].end = TWILL__FLOW_END_FAILED;
        hand->load[i].outs = 0;
        twill__flow_fail(p, hand->step, &hand->load[i], TWILL_LOST, 0);
    }
    twill__flow_enter(p, &turn);
    if (hand->step == p->n_steps)
        p->shut = true;
    twill__flow_publish_all(p, hand, to);
    p->working--;
    twill__flow_exit(p, &turn, TWILL__FLOW_EXIT_WORKER);
}

#endif

/* burst.h: what a hand may take, taking it, and publishing what has come of it. All under the
   pipeline's lock. */
#ifndef TWILL__PIPELINE_BURST_H
#define TWILL__PIPELINE_BURST_H

#include "pipeline/order.h"

/* ---- is there work? ---- */

/* Whether the source may be asked for items: who cuts the stream shuts it, too. */
static inline bool twill__flow_source_open(const twill__flow *p)
{
    return p->source && p->opened && !p->shut;
}

/* Whether nothing more can come before step k, as things are: the end of the stream, or no ticket
   is left for the source, and nothing is on its way. */
static inline bool twill__flow_nothing_comes(const twill__flow *p, uint32_t k)
{
    if (p->sourcing || (!p->shut && p->free_count))
        return false;
    for (uint32_t j = 0; j < k; j++)
        if (p->step[j].live)
            return false;
    return true;
}

/* A batch that is not full: may it go? When not, notes when it may. There is a piece, and no
   call. */
static inline bool twill__flow_batch_due(twill__flow *p, uint32_t k)
{
    const twill__flow_step *step = &p->step[k];
    twill__flow_piece first;
    uint64_t number = step->next;
    uint32_t sub = 0;
    twill_ns at;
    if (step->user.linger == 0 || twill__flow_limit(p) == 0 || twill__flow_nothing_comes(p, k))
        return true;
    if (!step->came)
        return false;
    if (!step->in_order)
        first = step->queue[step->head & step->mask];
    else
        first = twill__flow_order_look(p, step, &number, &sub);
    at = step->came[(size_t)first.ticket * step->spread + first.sub];
    at = at > TWILL_FOREVER - step->user.linger ? TWILL_FOREVER : at + step->user.linger;
    if (twill__clock_now() >= at)
        return true;
    if (!p->due || at < p->due)
        p->due = at;
    return false;
}

/* Room for what the next calls of step k bring, in pieces taken here. */
static inline uint32_t twill__flow_room_behind(const twill__flow *p, uint32_t k)
{
    const twill__flow_step *step = &p->step[k], *behind = &p->step[k + 1];
    size_t taken = (size_t)behind->waiting + behind->reserved, left;
    if (behind->room == SIZE_MAX)
        return UINT32_MAX;
    left = taken < behind->room ? (behind->room - taken) / step->most : 0;
    return left > UINT32_MAX ? UINT32_MAX : (uint32_t)left;
}

/* How many pieces step k could take now. */
static inline uint32_t twill__flow_step_can(twill__flow *p, uint32_t k)
{
    const twill__flow_step *step = &p->step[k];
    uint32_t ready = step->ready, room;
    if (!ready || step->running >= step->limit)
        return 0;
    room = twill__flow_room_behind(p, k);
    if (!step->user.batch)
        return ready < room ? ready : room;
    if (ready > step->user.batch_max)
        ready = (uint32_t)step->user.batch_max;
    if (room < (step->single ? 1 : ready)) /* it will be: what is behind can go */
        return 0;
    return ready == step->user.batch_max || twill__flow_batch_due(p, k) ? ready : 0;
}

static inline uint32_t twill__flow_source_can(const twill__flow *p)
{
    size_t room = p->step[0].room;
    if (!twill__flow_source_open(p) || p->sourcing || !p->free_count)
        return 0;
    if (room == SIZE_MAX)
        return p->free_count;
    if (p->step[0].waiting >= room)
        return 0;
    room -= p->step[0].waiting;
    return room < p->free_count ? (uint32_t)room : p->free_count;
}

/* For how many more workers there is something to do, `most` at most. */
static inline uint32_t twill__flow_surplus(twill__flow *p, uint32_t most)
{
    uint32_t places = 0;
    /* under the lock. Once it has halted the run, the deadline is nothing to wake for */
    p->due = p->timed && !atomic_load_explicit(&p->halted, memory_order_relaxed)
                 ? p->run.until.deadline
                 : 0;
    for (uint32_t k = p->n_steps; k-- > 0 && places < most;) {
        const twill__flow_step *step = &p->step[k];
        uint32_t can = twill__flow_step_can(p, k), calls;
        if (!can)
            continue;
        calls = step->user.batch ? step->ready / can : (step->ready - 1) / step->burst + 1;
        if (calls > step->limit - step->running)
            calls = step->limit - step->running;
        places += calls;
    }
    if (places < most && twill__flow_source_can(p))
        places++;
    return places < most ? places : most;
}

/* ---- figures ---- */

/* Where the time of a step went since its mood changed. */
static inline void twill__flow_mood_count(twill__flow_step *step, uint64_t now)
{
    uint64_t took = now > step->since ? now - step->since : 0;
    if (step->mood == TWILL__FLOW_MOOD_STARVED)
        step->starved += took;
    else if (step->mood == TWILL__FLOW_MOOD_HELD)
        step->held += took;
    step->since = now;
}

/* Looks at all steps: their lines are another core's, and are not written without need. */
static inline void twill__flow_moods(twill__flow *p, uint64_t now)
{
    for (uint32_t k = 0; k < p->n_steps; k++) {
        twill__flow_step *step = &p->step[k];
        twill__flow_mood mood = step->running                        ? TWILL__FLOW_MOOD_BUSY
                                : !step->ready                       ? TWILL__FLOW_MOOD_STARVED
                                : twill__flow_room_behind(p, k) == 0 ? TWILL__FLOW_MOOD_HELD
                                                                     : TWILL__FLOW_MOOD_BUSY;
        if (mood != step->mood) {
            twill__flow_mood_count(step, now);
            step->mood = mood;
        }
    }
}

/* starved and held are complete up to now. */
static inline void twill__flow_moods_read(twill__flow *p, uint64_t now)
{
    twill__flow_moods(p, now);
    for (uint32_t k = 0; k < p->n_steps; k++)
        twill__flow_mood_count(&p->step[k], now);
}

/* The next burst shall last TWILL__FLOW_BURST_NS. */
static inline uint32_t twill__flow_burst_next(const twill__flow *p, uint32_t burst, uint32_t n,
                                              uint64_t took)
{
    if (took > 2 * p->goal) {
        uint64_t fit = p->goal * n / took;
        return fit ? (uint32_t)fit : 1;
    }
    if (n >= burst && took < p->goal - p->goal / 4) {
        uint64_t fit = took ? p->goal * n / took : 2 * burst;
        burst = fit < 2 * burst ? (uint32_t)fit : 2 * burst;
    }
    return burst < p->burst_most ? burst : p->burst_most;
}

/* ---- taking ---- */

static inline void twill__flow_hand_begin(twill__flow *p, twill__flow_hand *hand, uint32_t k,
                                          uint32_t n)
{
    hand->active = hand->used = true;
    hand->whole = k < p->n_steps && p->step[k].user.batch;
    hand->step = k;
    hand->pace = k < p->n_steps ? p->step[k].pace : p->source_pace;
    hand->n = n;
    hand->published = 0;
    hand->reserved = 0;
    hand->single = false;
    hand->bursts++;
    /* under the lock; seq_cst where the owner sets it */
    atomic_store_explicit(&hand->begun, 0, memory_order_relaxed);
}

/* Room at the step behind for the outputs of n loads is given back; what is for all of them,
   once. */
static inline void twill__flow_unreserve(twill__flow *p, twill__flow_hand *hand, uint32_t n)
{
    p->step[hand->step < p->n_steps ? hand->step + 1 : 0].reserved -=
        hand->single ? hand->reserved : n * hand->reserved;
    if (hand->single)
        hand->reserved = 0;
}

static inline void twill__flow_take_source(twill__flow *p, twill__flow_hand *hand, uint32_t can)
{
    uint32_t n = can < p->source_burst ? can : p->source_burst;
    p->sourcing = true;
    twill__flow_hand_begin(p, hand, p->n_steps, n);
    if (p->step[0].room != SIZE_MAX) {
        hand->reserved = 1;
        p->step[0].reserved += n;
    }
    hand->first = p->issued;
    for (uint32_t i = 0; i < n; i++)
        hand->load[i].piece = (twill__flow_piece){p->free[--p->free_count], 0};
}

static inline void twill__flow_take_pieces(twill__flow *p, twill__flow_hand *hand, uint32_t k,
                                           uint32_t n)
{
    twill__flow_step *step = &p->step[k];
    twill__flow_hand_begin(p, hand, k, n);
    step->running++;
    step->waiting -= n;
    if (step->running > step->running_peak)
        step->running_peak = step->running;
    if (p->step[k + 1].room != SIZE_MAX) {
        hand->reserved = step->most;
        hand->single = step->single;
        p->step[k + 1].reserved += step->single ? step->most : n * step->most;
    }
    if (step->in_order) { /* they stay in the ring until they are published */
        uint64_t number = hand->first = step->next;
        uint32_t sub = 0;
        for (uint32_t i = 0; step->left && i < n; i++)
            hand->load[i].piece = twill__flow_order_look(p, step, &number, &sub);
        return;
    }
    step->ready -= n;
    for (uint32_t i = 0; i < n; i++)
        hand->load[i].piece = step->queue[step->head++ & step->mask];
}

/* The rest of the taking, a load at a time, by the hand and without the lock, no later than the
   load is begun: until then nobody else looks at it. What it reads is the hand's: the tickets, and
   of a ring by number the entries that stay. `number`: where the search for it begins; returns the
   next one's. */
static inline __attribute__((always_inline)) uint64_t
twill__flow_fill(twill__flow *p, const twill__flow_step *step, bool source, twill__flow_load *load,
                 uint64_t number)
{
    if (source) {
        twill__flow_ticket_init(p, load->piece.ticket, number);
    } else if (step->in_order && !step->left) {
        uint32_t entry = step->ring[number & p->ring_mask];
        for (; !(entry & 1); entry = step->ring[number & p->ring_mask])
            number++; /* exit: n are there */
        load->piece = (twill__flow_piece){entry / 2 - 1, 0};
    } else {
        number = p->ticket[load->piece.ticket].number;
    }
    load->number = number;
    load->key = twill__flow_step_key(p, step, number, load->piece.sub);
    load->outs = 0;
    load->end = TWILL__FLOW_END_NONE;
    load->plain = false;
    return number + 1;
}

/* How many of those that it can take a hand takes: a part, where others may come for the rest. */
static inline uint32_t twill__flow_share_of(const twill__flow *p, const twill__flow_step *step,
                                            uint32_t can)
{
    uint32_t places = step->limit - step->running, others = p->np - p->working, share;
    if (step->user.batch)
        return can;
    if (can > step->burst)
        can = step->burst;
    if (places > others + 1)
        places = others + 1;
    share = (step->ready + places - 1) / places;
    return share < can ? share : can;
}

/* The latest step that can go; the source comes last: memory drains before it fills. */
static inline bool twill__flow_take(twill__flow *p, twill__flow_hand *hand)
{
    uint32_t can;
    for (uint32_t k = p->n_steps; k-- > 0;) {
        can = twill__flow_step_can(p, k);
        if (can) {
            twill__flow_take_pieces(p, hand, k, twill__flow_share_of(p, &p->step[k], can));
            return true;
        }
    }
    can = twill__flow_source_can(p);
    if (can)
        twill__flow_take_source(p, hand, can);
    return can != 0;
}

/* ---- publishing ---- */

static inline void twill__flow_publish_piece(twill__flow *p, uint32_t k,
                                             const twill__flow_load *load)
{
    twill__flow_step *step = &p->step[k];
    twill__flow_ticket *ticket = &p->ticket[load->piece.ticket];
    step->live--;
    if (load->end == TWILL__FLOW_END_DROPPED)
        step->dropped++;
    else
        step->count_in++;
    step->count_out += load->outs;
    step->filtered += load->end == TWILL__FLOW_END_FILTERED;
    step->failed += load->end == TWILL__FLOW_END_FAILED;
    if (load->end == TWILL__FLOW_END_FAILED)
        ticket->failed = true;
    if (load->end == TWILL__FLOW_END_SKIPPED || load->end == TWILL__FLOW_END_DROPPED)
        ticket->skipped = true;
    if (k + 1 < p->n_steps && load->outs) {
        twill__flow_piece_split(p, k + 1, load->piece, step->most, load->outs);
    } else {
        if (load->end == TWILL__FLOW_END_DONE) {
            ticket->fruit = true;
            p->delivered += load->outs;
        }
        twill__flow_piece_gone(p, step->order, load->piece.ticket);
    }
    if (step->in_order)
        twill__flow_order_take(p, step, load->piece);
}

/* The source has failed. */
static inline void twill__flow_publish_source(twill__flow *p, const twill__flow_load *load)
{
    uint32_t ticket = load->piece.ticket;
    twill__flow_issue(p, 1);
    p->ticket[ticket].failed = true;
    twill__flow_piece_gone(p, p->first_order, ticket);
}

/* n loads that are done have left the last step, one piece a ticket, and nothing holds the tickets
   any more: they are not even looked at, since their lines are another core's. Not of a map, whose
   last step has results to keep. */
static inline void twill__flow_over_run(twill__flow *p, const twill__flow_load *load, uint32_t n)
{
    for (uint32_t i = n; i-- > 0;) /* they are taken again in the same order */
        p->free[p->free_count++] = load[i].piece.ticket;
    p->done += n;
}

/* n loads that are done, with one output each and one piece a ticket: the usual case. */
static inline void twill__flow_publish_run(twill__flow *p, uint32_t k, const twill__flow_load *load,
                                           uint32_t n)
{
    twill__flow_step *step = &p->step[k];
    bool over = k + 1 == p->n_steps && (step->in_order || p->first_order == p->n_steps);
    step->live -= n;
    step->count_in += n;
    step->count_out += n;
    if (k + 1 < p->n_steps)
        twill__flow_pieces_put(p, k + 1, load, n);
    else
        p->delivered += n;
    if (over)
        twill__flow_over_run(p, load, n);
    for (uint32_t i = 0; !over && k + 1 == p->n_steps && i < n; i++) {
        p->ticket[load[i].piece.ticket].fruit = true;
        twill__flow_ticket_back(p, load[i].piece.ticket);
    }
    if (step->in_order)
        twill__flow_orders_take(p, k, load, n, over);
}

static inline void twill__flow_publish_source_run(twill__flow *p, const twill__flow_load *load,
                                                  uint32_t n)
{
    TWILL_ASSERT(p->issued == load->number);
    twill__flow_issue(p, n);
    twill__flow_pieces_put(p, 0, load, n);
}

/* What has come of the loads below `to` becomes visible. */
static inline void twill__flow_publish(twill__flow *p, twill__flow_hand *hand, uint32_t to)
{
    uint32_t k = hand->step, n = to - hand->published;
    twill__flow_unreserve(p, hand, n);
    for (uint32_t i = hand->published, run; i < to; i = run) {
        const twill__flow_load *load = &hand->load[i];
        for (run = i; run < to && hand->load[run].plain;)
            run++;
        if (run > i && k < p->n_steps) {
            twill__flow_publish_run(p, k, load, run - i);
        } else if (run > i) {
            twill__flow_publish_source_run(p, load, run - i);
        } else {
            run++;
            if (k < p->n_steps)
                twill__flow_publish_piece(p, k, load);
            else
                twill__flow_publish_source(p, load);
        }
    }
    hand->published = to;
}

/* The burst is over; loads from `to` on go back where they came from. */
static inline void twill__flow_publish_all(twill__flow *p, twill__flow_hand *hand, uint32_t to)
{
    uint32_t k = hand->step, n = hand->n;
    twill__flow_publish(p, hand, to);
    twill__flow_unreserve(p, hand, n - to);
    if (k == p->n_steps) {
        p->sourcing = false;
        for (uint32_t i = n; i-- > to;)
            p->free[p->free_count++] = hand->load[i].piece.ticket;
    } else {
        twill__flow_step *step = &p->step[k];
        step->running--;
        step->waiting += n - to;
        if (!step->in_order) {
            step->ready += n - to;
            for (uint32_t i = n; i-- > to;)
                step->queue[--step->head & step->mask] = hand->load[i].piece;
        }
    }
    hand->active = false;
}

/* Publishes what other hands have done and not shown yet: one may be in a long call behind quick
   ones. The key that it is on says how far it is: seq_cst, after `hungry` was set; it moves
   the key on, seq_cst, and looks at `hungry` then. So one of both sees the other. */
static inline void twill__flow_sweep(twill__flow *p)
{
    for (uint32_t h = 0; h < p->np; h++) {
        twill__flow_hand *hand = &p->hand[h];
        size_t key;
        if (!hand->active || hand->whole ||
            !atomic_load_explicit(&hand->begun, memory_order_seq_cst))
            continue;
        key = atomic_load_explicit(&hand->slot->begin, memory_order_seq_cst);
        if (hand->published && hand->load[hand->published - 1].key == key)
            continue; /* what is behind it need not be filled yet */
        for (uint32_t i = hand->published; i < hand->n; i++)
            if (hand->load[i].key == key) {
                twill__flow_publish(p, hand, i);
                break;
            }
    }
}

/* Whether anybody finds something to do; if not, whoever shows something next shall call. */
static inline bool twill__flow_any(twill__flow *p)
{
    if (twill__flow_surplus(p, 1))
        return true;
    atomic_store_explicit(&p->hungry, 1, memory_order_seq_cst);
    twill__flow_sweep(p);
    return twill__flow_surplus(p, 1) != 0;
}

#endif

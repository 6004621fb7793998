/* order.h: where pieces wait, in any order or by number, and when a ticket comes back. All under
   the pipeline's lock. */
#ifndef TWILL__PIPELINE_ORDER_H
#define TWILL__PIPELINE_ORDER_H

#include "pipeline/state.h"

/* The oldest number always advances. An edge has room for all pieces of all tickets, so that to
   store never waits. Before an in-order step stands a ring by number, no smaller than the tickets:
   a ticket stays out until the last in-order step has let its number pass, so all numbers from
   `next` on are out, no more of them than tickets, and they never meet in the ring. */

static inline void twill__flow_ticket_over(twill__flow *p, uint32_t ticket);

static inline void twill__flow_ticket_back(twill__flow *p, uint32_t ticket)
{
    if (--p->ticket[ticket].holds == 0)
        twill__flow_ticket_over(p, ticket);
}

/* All that came of it has ended. */
static inline void twill__flow_ticket_over(twill__flow *p, uint32_t ticket)
{
    const twill__flow_ticket *t = &p->ticket[ticket];
    if (t->failed)
        p->failed++;
    else if (t->skipped)
        p->skipped++;
    else
        p->done++;
    p->filtered += !t->failed && !t->skipped && !t->fruit;
    if (p->run.statuses && !t->failed)
        p->run.statuses[t->number] =
            t->skipped ? p->over ? (twill_status)p->over : TWILL_CANCELLED : TWILL_OK;
    p->free[p->free_count++] = ticket;
}

/* ---- in order ---- */

static inline bool twill__flow_order_empty(const twill__flow_step *step, uint32_t entry)
{
    return step->left ? step->left[entry / 2 - 1] == 0 : !(entry & 1);
}

/* `next` moves over numbers of which nothing is left here. */
static inline void twill__flow_order_pass(twill__flow *p, twill__flow_step *step)
{
    while (step->next < step->front) {
        uint32_t *entry = &step->ring[step->next & p->ring_mask], ticket = *entry / 2 - 1;
        if (!twill__flow_order_empty(step, *entry))
            return;
        *entry = 0;
        step->next++;
        if (step->order == p->n_steps)
            twill__flow_ticket_back(p, ticket);
    }
}

/* `front` moves over complete numbers. */
static inline void twill__flow_order_front(const twill__flow *p, twill__flow_step *step)
{
    uint64_t front = step->front;
    uint32_t entry, mask = p->ring_mask, ready = step->ready;
    while ((entry = step->ring[front & mask]) != 0) {
        ready += step->left ? step->left[entry / 2 - 1] : entry & 1;
        if (++front - step->next > mask) /* all round: the next entry is an old one */
            break;
    }
    step->front = front;
    step->ready = ready;
}

/* All pieces of a number have come or are known not to. */
static inline void twill__flow_order_complete(twill__flow *p, twill__flow_step *step,
                                              uint32_t ticket, bool there)
{
    uint64_t number = p->ticket[ticket].number;
    step->ring[number & p->ring_mask] = (ticket + 1) * 2 + there;
    if (number != step->front)
        return;
    twill__flow_order_front(p, step);
    twill__flow_order_pass(p, step);
}

static inline void twill__flow_order_arrive(twill__flow *p, twill__flow_step *step,
                                            twill__flow_piece piece)
{
    if (!step->due) {
        twill__flow_order_complete(p, step, piece.ticket, true);
        return;
    }
    step->bits[(size_t)piece.ticket * ((step->spread + 63) / 64) + piece.sub / 64] |=
        (uint64_t)1 << piece.sub % 64;
    step->left[piece.ticket]++;
    if (--step->due[piece.ticket] == 0)
        twill__flow_order_complete(p, step, piece.ticket, true);
}

/* The next piece in the ring from (number, sub) on, of which there is one: moves them behind it. */
static inline twill__flow_piece twill__flow_order_look(const twill__flow *p,
                                                       const twill__flow_step *step,
                                                       uint64_t *number, uint32_t *sub)
{
    size_t words = (step->spread + 63) / 64;
    for (;; ++*number, *sub = 0) { /* exit: it is below front */
        uint32_t entry = step->ring[*number & p->ring_mask];
        twill__flow_piece piece = {entry / 2 - 1, 0};
        const uint64_t *bits;
        TWILL_ASSERT(*number < step->front);
        if (twill__flow_order_empty(step, entry))
            continue;
        if (!step->left) {
            ++*number;
            return piece;
        }
        bits = step->bits + (size_t)piece.ticket * words;
        for (size_t word = *sub / 64; word < words; word++) {
            uint64_t left = bits[word];
            if (word == *sub / 64)
                left &= UINT64_MAX << *sub % 64;
            if (!left)
                continue;
            piece.sub = (uint32_t)(word * 64) + (uint32_t)__builtin_ctzll(left);
            *sub = piece.sub + 1;
            if (*sub == step->spread) {
                ++*number;
                *sub = 0;
            }
            return piece;
        }
    }
}

/* The step is through with a piece that stood in its ring. */
static inline void twill__flow_order_take(twill__flow *p, twill__flow_step *step,
                                          twill__flow_piece piece)
{
    step->ready--;
    if (!step->left) {
        step->ring[p->ticket[piece.ticket].number & p->ring_mask] &= ~(uint32_t)1;
    } else {
        step->bits[(size_t)piece.ticket * ((step->spread + 63) / 64) + piece.sub / 64] &=
            ~((uint64_t)1 << piece.sub % 64);
        step->left[piece.ticket]--;
    }
    twill__flow_order_pass(p, step);
}

/* ---- pieces ---- */

/* A piece stands before step k. */
static inline void twill__flow_piece_put(twill__flow *p, uint32_t k, twill__flow_piece piece)
{
    twill__flow_step *step = &p->step[k];
    step->live++;
    step->waiting++;
    if (step->waiting > step->waiting_peak)
        step->waiting_peak = step->waiting;
    if (step->came)
        step->came[(size_t)piece.ticket * step->spread + piece.sub] = twill__clock_now();
    if (!step->in_order) {
        step->queue[(step->head + step->ready++) & step->mask] = piece;
        return;
    }
    twill__flow_order_arrive(p, step, piece);
    if (step->waiting > step->ready && step->waiting - step->ready > step->reorder_peak)
        step->reorder_peak = step->waiting - step->ready;
}

/* The same for n pieces, one a ticket. */
static inline void twill__flow_pieces_put(twill__flow *p, uint32_t k, const twill__flow_load *load,
                                          uint32_t n)
{
    twill__flow_step *step = &p->step[k];
    step->live += n;
    step->waiting += n;
    if (step->waiting > step->waiting_peak)
        step->waiting_peak = step->waiting;
    if (step->came) {
        twill_ns now = twill__clock_now();
        for (uint32_t i = 0; i < n; i++)
            step->came[load[i].piece.ticket] = now;
    }
    if (!step->in_order) {
        for (uint32_t i = 0; i < n; i++)
            step->queue[(step->head + step->ready + i) & step->mask] = load[i].piece;
        step->ready += n;
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        step->ring[load[i].number & p->ring_mask] = (load[i].piece.ticket + 1) * 2 + 1;
    if (load->number == step->front && load[n - 1].number - load->number == n - 1) {
        step->front += n; /* they close up: no need to look */
        step->ready += n;
    }
    if (step->ring[step->front & p->ring_mask] && step->front - step->next <= p->ring_mask)
        twill__flow_order_front(p, step);
    if (step->waiting > step->ready && step->waiting - step->ready > step->reorder_peak)
        step->reorder_peak = step->waiting - step->ready;
}

/* The in-order step k is through with n pieces, one a ticket. over: their tickets are back
   already. */
static inline void twill__flow_orders_take(twill__flow *p, uint32_t k, const twill__flow_load *load,
                                           uint32_t n, bool over)
{
    twill__flow_step *step = &p->step[k];
    step->ready -= n;
    for (uint32_t i = 0; i < n; i++) {
        if (step->next != load[i].number) /* gone ones in between */
            twill__flow_order_pass(p, step);
        step->ring[load[i].number & p->ring_mask] = 0;
        step->next = load[i].number + 1;
        if (!over && step->order == p->n_steps)
            twill__flow_ticket_back(p, load[i].piece.ticket);
    }
    twill__flow_order_pass(p, step);
}

/* A piece is gone; `order`: the first in-order step that it would have come to. Those behind must
   not wait for it. */
static inline void twill__flow_piece_gone(twill__flow *p, uint32_t order, uint32_t ticket)
{
    for (uint32_t k = order; k < p->n_steps; k = p->step[k].order) {
        twill__flow_step *step = &p->step[k];
        if (!step->due || --step->due[ticket] == 0)
            twill__flow_order_complete(p, step, ticket, step->due && step->left[ticket]);
    }
    twill__flow_ticket_back(p, ticket);
}

/* A ticket that nobody else has gets a number. */
static inline void twill__flow_ticket_init(twill__flow *p, uint32_t ticket, uint64_t number)
{
    twill__flow_ticket *t = &p->ticket[ticket];
    t->number = number;
    t->holds = 1 + (p->first_order < p->n_steps);
    t->failed = t->skipped = t->fruit = false;
    for (uint32_t k = p->thin ? p->n_steps : p->first_order; k < p->n_steps; k = p->step[k].order)
        if (p->step[k].due)
            p->step[k].due[ticket] = 1;
}

/* The next n numbers are out. */
static inline void twill__flow_issue(twill__flow *p, uint32_t n)
{
    size_t in_flight;
    p->issued += n;
    in_flight = (size_t)(p->issued - p->done - p->failed - p->skipped);
    if (in_flight > p->in_flight_peak)
        p->in_flight_peak = in_flight;
}

/* A piece has become `outs` pieces before step k. */
static inline void twill__flow_piece_split(twill__flow *p, uint32_t k, twill__flow_piece piece,
                                           uint32_t most, uint32_t outs)
{
    p->ticket[piece.ticket].holds += outs - 1;
    for (uint32_t o = p->step[k].in_order ? k : p->step[k].order; o < p->n_steps;
         o = p->step[o].order)
        if (p->step[o].due)
            p->step[o].due[piece.ticket] += outs - 1;
    for (uint32_t j = 0; j < outs; j++)
        twill__flow_piece_put(p, k, (twill__flow_piece){piece.ticket, piece.sub * most + j});
}

#endif

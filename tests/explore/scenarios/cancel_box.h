/* cancel_box.h: a bounded box of numbers on the protocol of waiting: hand-over under a lock,
   close, destroy. */
#ifndef CANCEL_BOX_H
#define CANCEL_BOX_H

#include "cancel_common.h"

struct box {
    _Atomic uint32_t lock;
    int capacity, count, head;
    bool closed;
    int items[4];
    twill__list pushers, poppers;
    twill__node *destroyer;
};

/* Calls that have reached the lock of the box: from there on a destroy must serve them. */
static _Atomic uint32_t box_arrived;

static inline struct box *box_new(int capacity)
{
    struct box *box = calloc(1, sizeof *box);

    assert(box);
    box->capacity = capacity;
    return box;
}

static inline void box_unlock(struct box *box)
{
    if (box->destroyer && !box->pushers.first && !box->poppers.first &&
        !twill__lock_wanted(&box->lock)) {
        _Atomic uint32_t *word = &box->destroyer->word;
        box->destroyer = NULL;
        atomic_fetch_or_explicit(word, TWILL__GRANTED, memory_order_acq_rel);
        twill__unlock(&box->lock);
        twill__wake(word, 1);
        return;
    }
    twill__unlock(&box->lock);
}

static inline void box_enter(struct box *box)
{
    twill__lock(&box->lock);
    atomic_fetch_add_explicit(&box_arrived, 1, memory_order_relaxed);
    twill__wake(&box_arrived, 1);
}

static inline void box_put(struct box *box, int item)
{
    box->items[(box->head + box->count++) % box->capacity] = item;
}

static inline twill_status box_wait(struct box *box, twill__list *list, twill__node *node,
                                    twill_until until)
{
    twill_status status;

    twill__list_append(list, node);
    box_unlock(box);
    status = twill__wait(node, until);
    if (status == TWILL_OK)
        return (twill_status)node->answer;
    twill__lock(&box->lock);
    twill__list_remove(list, node);
    box_unlock(box);
    return status;
}

static inline twill_status box_push(struct box *box, int item, twill_until until)
{
    twill__node *me, *next;
    twill_status status;

    box_enter(box);
    if (box->closed) {
        box_unlock(box);
        return TWILL_CLOSED;
    }
    for (twill__node *node = box->poppers.first; node; node = next) {
        _Atomic uint32_t *word = &node->word;
        next = node->next;
        node->answer = TWILL_OK;
        node->value = (void *)(intptr_t)item;
        if (twill__grant(&box->poppers, node)) {
            box_unlock(box);
            twill__wake(word, 1);
            return TWILL_OK;
        }
    }
    if (box->count < box->capacity) {
        box_put(box, item);
        box_unlock(box);
        return TWILL_OK;
    }
    me = node_new();
    me->value = (void *)(intptr_t)item;
    status = box_wait(box, &box->pushers, me, until);
    free(me);
    return status;
}

static inline twill_status box_pop(struct box *box, int *item, twill_until until)
{
    twill__node *me, *next;
    twill_status status;

    box_enter(box);
    if (box->count) {
        *item = box->items[box->head];
        box->head = (box->head + 1) % box->capacity;
        box->count--;
        for (twill__node *node = box->pushers.first; node; node = next) {
            _Atomic uint32_t *word = &node->word;
            int value = (int)(intptr_t)node->value;
            next = node->next;
            node->answer = TWILL_OK;
            if (twill__grant(&box->pushers, node)) {
                box_put(box, value);
                box_unlock(box);
                twill__wake(word, 1);
                return TWILL_OK;
            }
        }
        box_unlock(box);
        return TWILL_OK;
    }
    if (box->closed) {
        box_unlock(box);
        return TWILL_CLOSED;
    }
    me = node_new();
    status = box_wait(box, &box->poppers, me, until);
    if (status == TWILL_OK)
        *item = (int)(intptr_t)me->value;
    free(me);
    return status;
}

static inline void box_tell_closed(twill__list *list)
{
    twill__node *last = list->last, *next;

    for (twill__node *node = list->first; node; node = next) {
        _Atomic uint32_t *word = &node->word;
        bool stop = node == last; /* those that are leaving are put behind it */
        next = node->next;
        node->answer = TWILL_CLOSED;
        if (twill__grant(list, node))
            twill__wake(word, 1);
        if (stop)
            return;
    }
}

static inline void box_close(struct box *box)
{
    twill__lock(&box->lock);
    box->closed = true;
    box_tell_closed(&box->pushers);
    box_tell_closed(&box->poppers);
    box_unlock(box);
}

static inline void box_destroy(struct box *box)
{
    twill__node *me = node_new();

    twill__lock(&box->lock);
    box->closed = true;
    box_tell_closed(&box->pushers);
    box_tell_closed(&box->poppers);
    if (box->pushers.first || box->poppers.first || twill__lock_wanted(&box->lock)) {
        box->destroyer = me;
        twill__unlock(&box->lock);
        twill__await(me);
        twill__lock(&box->lock); /* so that he who told us has left the section */
    }
    free(box);
    free(me);
}

struct user {
    struct box *box;
    twill_until until;
    int item;
    twill_status status;
};

static inline void pop_once(void *arg)
{
    struct user *user = arg;
    user->status = box_pop(user->box, &user->item, user->until);
}

static inline void push_once(void *arg)
{
    struct user *user = arg;
    user->status = box_push(user->box, user->item, user->until);
}
#endif

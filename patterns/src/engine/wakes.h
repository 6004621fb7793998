/* wakes.h: whom to wake after a turn under a lock. */
#ifndef TWILL__ENGINE_WAKES_H
#define TWILL__ENGINE_WAKES_H

#include "engine/cancel.h"

typedef struct twill__wakes {
    unsigned count; /* 0 at the begin of a turn */
    const void *word[16];
} twill__wakes;

/* One that finds no room is woken at once: under the lock, but soon enough. */
static inline void twill__wakes_add(twill__wakes *wakes, const void *word)
{
    if (wakes->count < sizeof wakes->word / sizeof wakes->word[0])
        wakes->word[wakes->count++] = word;
    else
        twill__wake(word, 1);
}

/* After the unlock. Who waited may be gone by now: a wake does not read its address. */
static inline void twill__wakes_send(const twill__wakes *wakes)
{
    for (unsigned k = 0; k < wakes->count; k++)
        twill__wake(wakes->word[k], 1);
}

/* twill__grant with an answer. */
static inline bool twill__wakes_grant(twill__wakes *wakes, twill__list *list, twill__node *node,
                                      int answer)
{
    const void *word = &node->word;
    node->answer = answer;
    if (!twill__grant(list, node))
        return false;
    twill__wakes_add(wakes, word);
    return true;
}

/* Answers all who wait; one that leaves is passed. */
static inline void twill__wakes_grant_all(twill__wakes *wakes, twill__list *list, int answer)
{
    /* ends: one that leaves is put at the end once */
    for (twill__node *node = list->first, *next; node; node = next) {
        next = node->next;
        (void)twill__wakes_grant(wakes, list, node, answer);
    }
}

#endif

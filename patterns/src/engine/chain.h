/* chain.h: lists with two ends, linked in both directions by fields of the items themselves. */
#ifndef TWILL__ENGINE_CHAIN_H
#define TWILL__ENGINE_CHAIN_H

/* The ends are `first` and `last`, both NULL while it is empty; `previous` and `next` name the
   fields. An item may stand in several lists, by fields of other names. Arguments are evaluated
   more than once. */

/* Puts `item` behind `place`; NULL: in front of all. */
#define TWILL__CHAIN_IN(first, last, place, item, previous, next)         \
    do {                                                                  \
        (item)->previous = (place);                                       \
        (item)->next = (item)->previous ? (item)->previous->next : first; \
        if ((item)->previous)                                             \
            (item)->previous->next = (item);                              \
        else                                                              \
            first = (item);                                               \
        if ((item)->next)                                                 \
            (item)->next->previous = (item);                              \
        else                                                              \
            last = (item);                                                \
    } while (0)

/* Takes it out; its own fields stay. */
#define TWILL__CHAIN_OUT(first, last, item, previous, next) \
    do {                                                    \
        if ((item)->previous)                               \
            (item)->previous->next = (item)->next;          \
        else                                                \
            first = (item)->next;                           \
        if ((item)->next)                                   \
            (item)->next->previous = (item)->previous;      \
        else                                                \
            last = (item)->previous;                        \
    } while (0)

#endif

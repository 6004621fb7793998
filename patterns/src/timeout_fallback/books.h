/* books.h: what is known of the functions that run under a deadline for one owner: an object, or
   all calls of twill_call_with_timeout in a process. */
#ifndef TWILL__TIMEOUT_BOOKS_H
#define TWILL__TIMEOUT_BOOKS_H

#include "engine/call.h"
#include "engine/status.h"

struct twill__timeout_block;

#define TWILL__TIMEOUT_PLACES 64   /* by default */
#define TWILL__HEDGES_SAVED   10.0 /* at most */

/* One lock guards all of it: the books, the owner, the blocks and how their calls stand. So a
   function's end, its place, its thread and the answer to its caller change in one step. */
typedef struct TWILL__VIEW twill__stragglers {
    _Atomic uint32_t lock;
    _Atomic uint32_t generation;         /* of the process that uses it; 0: never used */
    uint32_t running;                    /* functions, those of calls that have returned included */
    uint32_t abandoned;                  /* functions whose call has returned */
    struct twill__timeout_block *blocks; /* not freed yet */
    twill__list waiters;                 /* for abandoned to be 0 */
} twill__stragglers;
_Static_assert(sizeof(twill__stragglers) <= sizeof(((twill__global *)0)->stragglers),
               "the process keeps too little room for its stragglers");

/* The books of the one-call form. In a forked child they begin anew: its parent's threads are not
   there. */
static inline twill__stragglers *twill__process_books(void)
{
    twill__stragglers *books = (twill__stragglers *)(void *)twill__process()->stragglers;
    if (twill__adopt(&books->generation)) {
        atomic_store_explicit(&books->lock, 0, memory_order_relaxed);
        books->running = books->abandoned = 0;
        books->blocks = NULL;
        books->waiters.first = books->waiters.last = NULL;
        twill__adopted(&books->generation);
    }
    return books;
}

static inline bool twill__books_here(const twill__stragglers *books)
{
    /* relaxed: written before the owner was known to others, or by this very thread */
    return atomic_load_explicit(&books->generation, memory_order_relaxed) == twill__generation();
}

#endif

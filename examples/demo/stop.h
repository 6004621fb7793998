/* stop: Ctrl-C. The first one ends the reading where it is: what is under way is finished, and the
   report covers just that. The second one ends the program at once, by the signal. All functions
   take NULL: nobody listens, and Ctrl-C does what it does to any program. */
#ifndef CRUNCH_STOP_H
#define CRUNCH_STOP_H
#include <stdbool.h>
#include <stddef.h>

#include "twill_graceful_shutdown.h"
#include "twill_progress_tracker.h"

struct stop;

struct stop *stop_create(void); /* NULL: no memory, no thread, or no signals here */
/* Ends the process if it was asked to stop: by the signal, after what was printed. Else frees, and
   returns `status`. */
int stop_end(struct stop *stop, int status);

bool stop_asked(const struct stop *stop);
twill_cancel *stop_begun(struct stop *stop);    /* fires at the first Ctrl-C: begin nothing more */
twill_cancel *stop_given_up(struct stop *stop); /* fires when finishing takes too long */

/* So many files more are under way. False: asked to stop, and they are not. */
bool stop_enter(struct stop *stop, size_t files);
void stop_leave(struct stop *stop, size_t files);

/* From now on lines are printed above this bar; NULL: just printed. */
void stop_above(struct stop *stop, twill_progress *progress);
/* The reading has found all its files. */
void stop_found(struct stop *stop, size_t files);
/* It is over: from now on a Ctrl-C says that all are covered, and ends the measuring. */
void stop_measuring(struct stop *stop, size_t files);

#endif

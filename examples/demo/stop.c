#define _XOPEN_SOURCE 700
#include "stop.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "text.h"

/* A reading whose disk answers ends in a moment. One that does not is given up after a while, and
   the process ends in any case. */
enum { FINISH_SECONDS = 20, LIST_SECONDS = 5 };

struct stop {
    twill_shutdown *shutdown;
    pthread_mutex_t lock; /* over the rest, so that the numbers of one line belong together */
    twill_progress *progress;
    size_t entered, left, found;
    bool measuring;
    twill_cancel listed; /* fires when `found` is all there is */
};

/* ---- the line ---- */

static void say(struct stop *stop)
{
    char line[160], covered[32], all[32];
    pthread_mutex_lock(&stop->lock);
    if (stop->measuring)
        snprintf(line, sizeof line,
                 "stopping to measure, the report covers %s of %s files; Ctrl-C again: at once",
                 text_grouped(stop->found, covered), text_grouped(stop->found, all));
    else
        snprintf(line, sizeof line,
                 "finishing %zu in flight, the report covers %s of %s files; Ctrl-C again: at once",
                 stop->entered - stop->left, text_grouped(stop->entered, covered),
                 text_grouped(stop->found, all));
    if (stop->progress != NULL) {
        (void)twill_progress_log(stop->progress, "%s", line);
    } else {
        fflush(stdout);
        fprintf(stderr, "%s\n", line);
    }
    pthread_mutex_unlock(&stop->lock);
}

/* In a thread of the shutdown's. What was let in before the request is counted, nothing more is let
   in; only the walk still lists what there is. */
static void on_phase(twill_shutdown_phase phase, int reason, const twill_task *task)
{
    struct stop *stop = task->context;
    (void)reason;
    if (phase != TWILL_SHUTDOWN_DRAINING)
        return;
    (void)twill_sleep(twill_within_or_cancelled(TWILL_SEC(LIST_SECONDS), &stop->listed));
    say(stop);
}

/* ---- life ---- */

struct stop *stop_create(void)
{
    struct stop *stop = calloc(1, sizeof *stop);
    if (stop == NULL)
        return NULL;
    twill_shutdown_options options = {
        .total = TWILL_SEC(FINISH_SECONDS), .on_phase = on_phase, .context = stop};
    if (pthread_mutex_init(&stop->lock, NULL) != 0) {
        free(stop);
        return NULL;
    }
    if (twill_shutdown_create(&stop->shutdown, &options) != TWILL_OK) {
        pthread_mutex_destroy(&stop->lock);
        free(stop);
        return NULL;
    }
    return stop;
}

int stop_end(struct stop *stop, int status)
{
    if (stop == NULL)
        return status;
    if (stop_asked(stop)) {
        (void)twill_shutdown_finish(stop->shutdown, NULL);
        twill_shutdown_exit(stop->shutdown, status);
    }
    (void)twill_shutdown_destroy(stop->shutdown);
    twill_cancel_detach(&stop->listed);
    pthread_mutex_destroy(&stop->lock);
    free(stop);
    return status;
}

bool stop_asked(const struct stop *stop)
{
    return stop != NULL && twill_shutdown_requested(stop->shutdown);
}

twill_cancel *stop_begun(struct stop *stop)
{
    return stop == NULL ? NULL : twill_shutdown_drain_token(stop->shutdown);
}

twill_cancel *stop_given_up(struct stop *stop)
{
    return stop == NULL ? NULL : twill_shutdown_cancel_token(stop->shutdown);
}

/* ---- what is under way ---- */

/* The lock makes the two one step: who counts after a request counts all that were let in. */
bool stop_enter(struct stop *stop, size_t files)
{
    if (stop == NULL)
        return true;
    pthread_mutex_lock(&stop->lock);
    bool in = twill_shutdown_enter(stop->shutdown) == TWILL_OK;
    stop->entered += in ? files : 0;
    pthread_mutex_unlock(&stop->lock);
    return in;
}

void stop_leave(struct stop *stop, size_t files)
{
    if (stop == NULL)
        return;
    pthread_mutex_lock(&stop->lock);
    stop->left += files;
    pthread_mutex_unlock(&stop->lock);
    twill_shutdown_leave(stop->shutdown);
}

void stop_above(struct stop *stop, twill_progress *progress)
{
    if (stop == NULL)
        return;
    pthread_mutex_lock(&stop->lock);
    stop->progress = progress;
    pthread_mutex_unlock(&stop->lock);
}

void stop_found(struct stop *stop, size_t files)
{
    if (stop == NULL)
        return;
    pthread_mutex_lock(&stop->lock);
    stop->found = files;
    pthread_mutex_unlock(&stop->lock);
    twill_cancel_fire(&stop->listed, 1);
}

void stop_measuring(struct stop *stop, size_t files)
{
    if (stop == NULL)
        return;
    pthread_mutex_lock(&stop->lock);
    stop->measuring = true;
    stop->found = files;
    pthread_mutex_unlock(&stop->lock);
}

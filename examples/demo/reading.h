/* reading: brings pieces of files into memory, at no more than a rate, again when the disk had a
   moment's trouble, and no longer than a limit for each file; and lends the buffers for it. */
#ifndef CRUNCH_READING_H
#define CRUNCH_READING_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "count.h"
#include "twill_rate_limiter.h"
#include "twill_resource_pool.h"
#include "twill_retry_backoff.h"
#include "twill_timeout_fallback.h"

enum { BUFFER_BYTES = 256 * 1024 };

struct reading_rules {
    uint64_t rate;  /* bytes a second; 0: no limit */
    bool faults;    /* every eighth piece fails once or twice before it can be read */
    twill_ns limit; /* for each file; 0: 10 s */
    size_t buffers; /* at once */
};

struct reading_figures {
    size_t buffers, buffers_peak;     /* made; lent at once */
    uint64_t lent;                    /* how often */
    uint64_t retries, faults, limits; /* reads made again; of these, made to fail; given up */
    twill_ns paused;                  /* for the rate, all threads together */
};

struct reading {
    struct reading_rules rules;
    twill_rate_limiter limiter;
    twill_retry_budget budget;
    twill_timeout *timeout;
    twill_resource_pool *buffers;
    twill_cancel *given_up; /* NULL, or ends every wait */
};

/* 0 or ENOMEM, and nothing to close. */
int reading_open(struct reading *reading, const struct reading_rules *rules,
                 twill_cancel *given_up);
/* Fills what is known of buffers, limits and pauses. All buffers are back. */
void reading_close(struct reading *reading, struct reading_figures *figures);

/* A buffer of BUFFER_BYTES: lease->resource. 0 or an errno value. */
int reading_borrow(struct reading *reading, twill_lease *lease);
void reading_give_back(struct reading *reading, twill_lease *lease);

/* Waits for its turn to read so many bytes: 0 or ECANCELED. *waited += how long that took. */
int reading_allow(struct reading *reading, uint64_t bytes, twill_ns *waited);

struct piece { /* the next bytes of a file */
    const char *path;
    int descriptor;        /* -1: not open yet; stays open afterwards */
    struct counts *counts; /* its stamp is set by the opening */
    twill_ns deadline;     /* of the file; 0: not begun, set here */
    unsigned char *to;
    size_t room, got;       /* got: by this call */
    size_t number;          /* of the piece */
    size_t retries, faults; /* counted up */
};
/* Opens the file if that is still to be done, and reads until `room` is full or the file (as large
   as its stamp says) has ended. 0, or an errno value: of the system, ETIMEDOUT, or ECANCELED. */
int reading_piece(struct reading *reading, struct piece *piece, uint64_t left);

#endif

#define _XOPEN_SOURCE     700
#define _FILE_OFFSET_BITS 64
#include "reading.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ATTEMPTS = 5, LIMIT_SECONDS = 10 };

/* ---- buffers ---- */

static int make_buffer(void **resource, const twill_task *task)
{
    (void)task;
    *resource = malloc(BUFFER_BYTES);
    return *resource == NULL ? ENOMEM : 0;
}

static void free_buffer(void *resource, twill_resource_end why, const twill_task *task)
{
    (void)why, (void)task;
    free(resource);
}

int reading_borrow(struct reading *reading, twill_lease *lease)
{
    memset(lease, 0, sizeof *lease);
    twill_status status = twill_resource_pool_acquire_until(
        reading->buffers, lease, twill_until_cancelled(reading->given_up));
    return status == TWILL_OK ? 0 : status == TWILL_CANCELLED ? ECANCELED : ENOMEM;
}

void reading_give_back(struct reading *reading, twill_lease *lease)
{
    if (lease->resource != NULL)
        (void)twill_resource_pool_release(reading->buffers, lease);
}

/* ---- life ---- */

struct verdict { /* of a guarded read; the constant that serves at the limit is ETIMEDOUT */
    int error;
};

int reading_open(struct reading *reading, const struct reading_rules *rules, twill_cancel *given_up)
{
    static const struct verdict too_late = {ETIMEDOUT};
    memset(reading, 0, sizeof *reading);
    reading->rules = *rules;
    reading->given_up = given_up;
    if (reading->rules.limit == 0)
        reading->rules.limit = TWILL_SEC(LIMIT_SECONDS);
    /* a buffer at a time: the burst is one of them */
    twill_rate_limiter_options rate = {.tokens = rules->rate, .burst = BUFFER_BYTES};
    if (rules->rate > 0 && twill_rate_limiter_init(&reading->limiter, &rate) != TWILL_OK)
        return EINVAL;
    /* Without a thread for each read: a read looks at its task between two pieces. One that hangs
       in the system would need TWILL_TIMEOUT_ABANDON, and a thread. */
    twill_timeout_options limit = {.mode = TWILL_TIMEOUT_COOPERATE,
                                   .timeout = reading->rules.limit,
                                   .fallback_value = &too_late,
                                   .fallback_value_size = sizeof too_late};
    twill_resource_pool_options buffers = {
        .max = rules->buffers, .create = make_buffer, .destroy = free_buffer, .name = "buffers"};
    if (twill_timeout_create(&reading->timeout, &limit) != TWILL_OK)
        return ENOMEM;
    if (twill_resource_pool_create(&reading->buffers, &buffers) == TWILL_OK)
        return 0;
    (void)twill_timeout_destroy(reading->timeout);
    return ENOMEM;
}

void reading_close(struct reading *reading, struct reading_figures *figures)
{
    twill_resource_pool_stats buffers;
    twill_rate_limiter_stats rate;
    twill_resource_pool_get_stats(reading->buffers, &buffers);
    twill_rate_limiter_get_stats(&reading->limiter, &rate);
    figures->buffers = (size_t)buffers.created;
    figures->buffers_peak = buffers.leased_peak;
    figures->lent = buffers.acquires;
    figures->paused = rate.waited;
    (void)twill_timeout_destroy(reading->timeout);
    (void)twill_resource_pool_destroy(reading->buffers);
}

/* ---- the rate ---- */

int reading_allow(struct reading *reading, uint64_t bytes, twill_ns *waited)
{
    if (reading->rules.rate == 0)
        return 0;
    twill_ns begun = twill_now();
    uint64_t n = bytes < BUFFER_BYTES ? bytes : BUFFER_BYTES;
    twill_status status = twill_rate_limiter_acquire_until(
        &reading->limiter, n, twill_until_cancelled(reading->given_up));
    *waited += twill_now() - begun;
    return status == TWILL_OK ? 0 : ECANCELED;
}

/* ---- one piece ---- */

struct guarded {
    struct reading *reading;
    struct piece *piece;
    uint64_t left; /* of the file, when it is open already */
};

/* How often this piece fails before it can be read: always the same for a path. */
static size_t faults_of(const struct piece *piece)
{
    uint32_t hash = NAMES_HASH_START;
    for (const char *p = piece->path; *p != '\0'; p++)
        hash = names_hash_byte(hash, (unsigned char)*p);
    hash = names_hash_end(names_hash_byte(hash, (unsigned char)piece->number));
    return hash % 8 != 0 ? 0 : 1 + hash / 8 % 2;
}

static bool may_pass(int error)
{
    return error == EIO || error == EAGAIN || error == EBUSY || error == EMFILE ||
           error == ENFILE || error == ESTALE || error == ETIMEDOUT || error == ENOMEM;
}

/* One attempt; goes on where the one before it had come to. */
static int try_piece(const void *in, void *out, const twill_task *task)
{
    const struct guarded *guarded = in;
    struct piece *piece = guarded->piece;
    (void)out;
    if (guarded->reading->rules.faults && task->index < faults_of(piece)) {
        piece->faults++;
        return EIO;
    }
    uint64_t left = guarded->left;
    if (piece->descriptor < 0) {
        piece->descriptor = count_open(piece->path, &piece->counts->stamp);
        if (piece->descriptor < 0)
            return errno;
    }
    if (piece->number == 0)
        left = piece->counts->stamp.size;
    while (piece->got < piece->room && piece->got < left) {
        if (twill_task_cancelled(task))
            return ETIMEDOUT;
        uint64_t most = left < piece->room ? left : piece->room;
        int64_t got = count_read(piece->descriptor, piece->to + piece->got, most - piece->got);
        if (got < 0)
            return errno;
        if (got == 0)
            break;
        piece->got += (size_t)got;
    }
    return 0;
}

static twill_ns look_at_failure(int code, const void *out, const twill_task *task)
{
    (void)out, (void)task;
    return may_pass(code) ? 0 : TWILL_RETRY_NEVER;
}

static void count_retry(const twill_retry_attempt *failed, twill_ns delay, const twill_task *task)
{
    struct piece *piece = task->context;
    (void)failed, (void)delay;
    piece->retries++;
}

/* Under the limit: the attempts. */
static int try_again(const void *in, void *out, const twill_task *task)
{
    const struct guarded *guarded = in;
    struct verdict *verdict = out;
    twill_retry_report report;
    twill_retry_options options = {
        .max_attempts = ATTEMPTS,
        .base = TWILL_MS(1),
        .cap = TWILL_MS(100),
        .until = task->until,
        .context = guarded->piece,
        .after_failure = look_at_failure,
        .on_retry = count_retry,
        .budget = &guarded->reading->budget, /* a disk that is gone is not asked 5 times a file */
    };
    twill_status status = twill_retry_call(guarded, NULL, try_piece, &options, &report);
    verdict->error = 0;
    if (status == TWILL_TIMEOUT)
        return ETIMEDOUT;
    return status == TWILL_OK ? 0 : report.code != 0 ? report.code : ECANCELED;
}

int reading_piece(struct reading *reading, struct piece *piece, uint64_t left)
{
    struct guarded guarded = {reading, piece, left};
    struct verdict verdict = {0};
    twill_timeout_report report;
    if (piece->deadline == 0)
        piece->deadline = twill_now() + reading->rules.limit;
    piece->got = 0;
    twill_until until = {piece->deadline, reading->given_up};
    twill_status status = twill_timeout_call(reading->timeout, &guarded, 0, &verdict,
                                             sizeof verdict, try_again, until, &report);
    if (status == TWILL_TIMEOUT)
        return verdict.error; /* that of the constant */
    if (status == TWILL_FAILED)
        return report.code;
    return status == TWILL_OK ? 0 : status == TWILL_CANCELLED ? ECANCELED : ENOMEM;
}

/* test_future.c - records and handles on their own: an object that is nothing but a lock and a core.
   The pool's tests have the rest. */
#define _GNU_SOURCE
#define HARNESS_FAULTS
#include "harness.h"
#define TWILL_IMPLEMENTATION
#include "twill_worker_pool.h"

#include <pthread.h>

enum { MANY = 40 };

static atomic_uint forgotten, expired, cancelled;

static void end_it(twill__record *record, twill_status status, int code, bool returned, bool disown)
{
    twill_outcome outcome = {.status = status, .code = code, .index = 7};

    if (!CHECK(twill__record_settle(record, returned)))
        return;
    record->outcome = outcome;
    twill__record_publish(record, disown);
}

static void on_forget(twill__record *record)
{
    (void)record;
    atomic_fetch_add(&forgotten, 1);
}

static void on_expire(twill__record *record)
{
    atomic_fetch_add(&expired, 1);
    atomic_store(&record->due, 0);
    end_it(record, TWILL_TIMEOUT, 0, false, true);
}

static void on_cancel(twill__record *record)
{
    atomic_fetch_add(&cancelled, 1);
    if (!twill__record_ended(record))
        end_it(record, TWILL_CANCELLED, 0, false, true);
}

static const twill__record_table table = {NULL, on_expire, on_cancel, on_forget, NULL, NULL};

TEST(a_result_and_its_handle)
{
    twill__core *core = twill__core_create(sizeof(twill__record), &table);
    twill__record *record = twill__record_get(core, sizeof(int));
    twill_future future = twill__record_hold(record), none = {0};
    twill_outcome outcome;
    int result = 5;

    atomic_store(&forgotten, 0);
    CHECK_EQ(twill_future_try_wait(future, &result, &outcome), TWILL_EMPTY);
    CHECK_EQ(twill_future_wait_until(future, &result, &outcome, twill_within(TWILL_MS(1))),
             TWILL_TIMEOUT);
    CHECK_EQ(result, 5);
    CHECK_EQ(*(int *)record->result, 0);
    *(int *)record->result = 42;
    end_it(record, TWILL_OK, 0, true, true);
    CHECK(!twill__record_settle(record, true));
    CHECK_EQ(twill_future_wait_until(future, &result, &outcome, twill_within(0)), TWILL_OK);
    CHECK_EQ(result, 42);
    CHECK_EQ(outcome.index, 7);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_future_wait_any(&future, 1, NULL, twill_within(0)), TWILL_OK);
    CHECK_EQ(twill_future_cancel(future), TWILL_OK);
    twill_future_release(future);
    CHECK_EQ(twill_future_wait(future, &result, NULL), TWILL_STALE);
    CHECK_EQ(twill_future_try_wait(future, &result, NULL), TWILL_STALE);
    CHECK_EQ(twill_future_cancel(future), TWILL_STALE);
    CHECK_EQ(twill_future_wait_all(&future, 1, twill_within(0)), TWILL_STALE);
    CHECK_EQ(twill_future_wait_any(&future, 1, NULL, twill_within(0)), TWILL_STALE);
    twill_future_release(future);
    CHECK_EQ(twill_future_wait(none, NULL, NULL), TWILL_INVALID);
    CHECK_EQ(twill_future_cancel(none), TWILL_INVALID);
    twill_future_release(none);
    CHECK_EQ(twill_future_wait_any(&future, 0, NULL, twill_within(0)), TWILL_INVALID);
    CHECK_EQ(twill_future_wait_any(NULL, 1, NULL, twill_within(0)), TWILL_INVALID);
    CHECK_EQ(twill_future_wait_all(NULL, 1, twill_within(0)), TWILL_INVALID);
    CHECK_EQ(twill_future_wait_all(NULL, 0, twill_within(0)), TWILL_OK);
    CHECK_EQ(atomic_load(&forgotten), 0);
    twill__core_leave(core);
    CHECK_EQ(faults_live(), 0);
}

TEST(how_it_ends_is_said_by_the_outcome)
{
    twill__core *core = twill__core_create(sizeof(twill__record), &table);
    twill_future futures[3];
    twill_outcome outcome;
    int result = 3;
    size_t which = 9;

    for (int i = 0; i < 3; i++) {
        twill__record *record = twill__record_get(core, sizeof(int));

        twill__record_tells(record);
        futures[i] = twill__record_hold(record);
    }
    end_it(futures[1].slot, TWILL_FAILED, 12, true, true);
    CHECK_EQ(twill_future_wait_any(futures, 3, &which, twill_within(0)), TWILL_OK);
    CHECK_EQ(which, 1);
    CHECK_EQ(twill_future_wait(futures[1], NULL, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.status, TWILL_FAILED);
    CHECK_EQ(outcome.code, 12);
    CHECK_EQ(twill_future_wait_all(futures, 3, twill_within(TWILL_US(1))), TWILL_TIMEOUT);
    CHECK_EQ(twill_future_cancel(futures[2]), TWILL_OK);
    CHECK_EQ(twill_future_wait(futures[2], &result, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.status, TWILL_CANCELLED);
    CHECK_EQ(result, 3);
    atomic_store(&((twill__record *)futures[0].slot)->due, 1);
    CHECK_EQ(twill_future_wait(futures[0], &result, &outcome), TWILL_FAILED);
    CHECK_EQ(outcome.status, TWILL_TIMEOUT);
    CHECK_EQ(twill_future_wait_all(futures, 3, twill_within(0)), TWILL_FAILED);
    /* the object goes, the futures stay */
    twill__core_leave(core);
    CHECK_EQ(twill_future_wait(futures[1], NULL, &outcome), TWILL_FAILED);
    atomic_store(&forgotten, 0);
    for (int i = 0; i < 3; i++)
        twill_future_release(futures[i]);
    CHECK_EQ(atomic_load(&forgotten), 1); /* of the one that returned, and was not taken */
    CHECK_EQ(faults_live(), 0);
}

struct sleeper {
    pthread_t thread;
    twill_future futures[MANY];
    size_t n;
    atomic_uint *ready;
    twill_status status;
    int result;
};

static void *sleep_on_one(void *sleeper_)
{
    struct sleeper *sleeper = sleeper_;

    atomic_fetch_add(sleeper->ready, 1);
    sleeper->status = twill_future_wait(sleeper->futures[0], &sleeper->result, NULL);
    return NULL;
}

static void *sleep_on_any(void *sleeper_)
{
    struct sleeper *sleeper = sleeper_;
    size_t which = MANY;

    atomic_fetch_add(sleeper->ready, 1);
    sleeper->status =
        twill_future_wait_any(sleeper->futures, sleeper->n, &which, twill_within(TWILL_SEC(60)));
    sleeper->result = (int)which;
    return NULL;
}

TEST(many_wait_and_the_handle_is_released_meanwhile)
{
    for (int round = 0; round < 200; round++) {
        twill__core *core = twill__core_create(sizeof(twill__record), &table);
        struct sleeper sleepers[4];
        atomic_uint ready = 0;
        twill_future futures[MANY];

        for (int i = 0; i < MANY; i++)
            futures[i] = twill__record_hold(twill__record_get(core, 100));
        for (int k = 0; k < 4; k++) {
            sleepers[k].n = MANY;
            sleepers[k].ready = &ready;
            sleepers[k].result = 0;
            memcpy(sleepers[k].futures, futures, sizeof futures);
            if (k < 2)
                sleepers[k].futures[0] = futures[MANY - 1];
            pthread_create(&sleepers[k].thread, NULL, k < 2 ? sleep_on_one : sleep_on_any,
                           &sleepers[k]);
        }
        while (atomic_load(&ready) < 4)
            continue;
        if (round % 2)
            twill_sleep(twill_within(TWILL_US(20)));
        if (round % 4 == 3)
            twill__core_leave(core);
        end_it(futures[MANY - 1].slot, TWILL_OK, 0, false, true);
        for (int k = 0; k < 4; k++) {
            pthread_join(sleepers[k].thread, NULL);
            CHECK_EQ(sleepers[k].status, TWILL_OK);
            if (k >= 2)
                CHECK_EQ(sleepers[k].result, MANY - 1);
        }
        for (int i = 0; i < MANY; i++) {
            if (i < MANY - 1)
                twill_future_cancel(futures[i]);
            twill_future_release(futures[i]);
        }
        if (round % 4 != 3)
            twill__core_leave(core);
        CHECK_EQ(faults_live(), 0);
    }
}

TEST(records_are_used_again)
{
    twill__core *core = twill__core_create(sizeof(twill__record), &table);
    unsigned long before = 0;

    for (int i = 0; i < 10000; i++) {
        twill__record *record = twill__record_get(core, i % 2 ? 0 : 1000);
        twill_future future = twill__record_hold(record);

        end_it(record, TWILL_OK, 0, true, true);
        twill_future_release(future);
        if (i == 200)
            before = faults_allocs();
    }
    CHECK_EQ(faults_allocs(), before);
    twill__core_leave(core);
    CHECK_EQ(faults_live(), 0);
}

static twill__record *a_whole_round(twill__core *core)
{
    twill__record *record = NULL;
    for (size_t i = 0; i < 2 * core->records; i++) {
        record = twill__record_get(core, 0);
        if (record)
            twill__record_disown(record);
    }
    return record;
}

TEST(what_is_reserved_is_there_later_without_memory)
{
    enum { RESERVED = 500 };
    static twill__record *some[RESERVED];
    twill__core *core = twill__core_create(sizeof(twill__record), &table);
    size_t touched = 0;

    for (int i = 0; i < RESERVED; i++)
        CHECK(twill__core_reserve(core));
    for (const twill__slab *slab = core->slabs; slab; slab = slab->next)
        touched += slab->count;
    CHECK(touched <= 8);
    CHECK_EQ(core->records, 512);
    faults_fail_alloc_from(1);
    for (int i = 0; i < 12; i++)
        CHECK((some[i] = twill__record_get(core, 0)) != NULL);
    CHECK(!twill__record_get(core, 0));
    CHECK(!twill__core_reserve(core));
    for (int i = 0; i < 12; i++)
        twill__record_disown(some[i]);
    for (int i = 0; i < 12; i++) /* but for those that anybody may find */
        CHECK(twill__core_reserve(core));
    CHECK(!twill__core_reserve(core));
    twill__core_unreserve(core, 12);
    for (int i = 0; i < RESERVED; i++)
        CHECK((some[i] = twill__record_get_reserved(core)) != NULL);
    CHECK_EQ(core->reserved, 0);
    for (int i = 0; i < RESERVED; i++)
        for (int k = 0; k < 12 && i + k + 1 < RESERVED; k++)
            CHECK(some[i] != some[i + k + 1]);
    for (int i = 0; i < RESERVED; i++)
        if (i % 2)
            twill__record_put(some[i]);
        else
            twill__record_disown(some[i]);
    faults_fail_alloc(0);
    twill__core_leave(core);
    CHECK_EQ(faults_live(), 0);
}

/* What is reserved cannot be found: a round that meets little else needs no more memory for it. */
TEST(reserving_makes_no_more_records_than_are_needed)
{
    enum { RESERVED = 1000 };
    twill__core *core = twill__core_create(sizeof(twill__record), &table);

    for (int turn = 0; turn < 200; turn++) {
        for (int i = 0; i < RESERVED; i++)
            CHECK(twill__core_reserve(core));
        CHECK(a_whole_round(core) != NULL);
        for (int i = 0; i < RESERVED; i++)
            if (turn % 2)
                twill__record_put(twill__record_get_reserved(core));
            else
                twill__core_unreserve(core, 1);
        CHECK(a_whole_round(core) != NULL);
    }
    CHECK(core->records <= 4096);
    CHECK_EQ(core->reserved, 0);
    twill__core_leave(core);
    CHECK_EQ(faults_live(), 0);
}

TEST(a_large_result_finds_room_that_is_there)
{
    twill__core *core = twill__core_create(sizeof(twill__record), &table);
    unsigned long before = 0;

    for (int i = 0; i < 1000; i++) {
        twill__record *record = twill__record_get(core, i % 2 ? 5000 : 0);
        twill_future future = twill__record_hold(record);

        end_it(record, TWILL_OK, 0, false, true);
        twill_future_release(future);
        if (i == 1)
            before = faults_allocs();
    }
    CHECK_EQ(faults_allocs(), before);
    twill__core_leave(core);
    CHECK_EQ(faults_live(), 0);
}

TEST(records_grow_in_number_only_when_few_are_free)
{
    enum { KEPT = 3000 };
    static twill_future kept[KEPT];
    twill__core *core = twill__core_create(sizeof(twill__record), &table);
    size_t records;

    for (int i = 0; i < KEPT; i++)
        kept[i] = twill__record_hold(twill__record_get(core, 0));
    for (int i = 0; i < 100000; i++) {
        twill__record *record = twill__record_get(core, 0);
        twill_future future = twill__record_hold(record);

        record->outcome.status = TWILL_OK;
        CHECK(twill__record_finish_alone(record));
        CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
        twill_future_release(future);
        CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_STALE);
    }
    records = core->records;
    CHECK(records <= 4 * KEPT);
    for (int i = 0; i < KEPT; i++) {
        end_it(kept[i].slot, TWILL_OK, 0, false, true);
        twill_future_release(kept[i]);
    }
    for (int i = 0; i < 100000; i++)
        twill__record_disown(twill__record_get(core, 0));
    CHECK_EQ(core->records, records);
    twill__core_leave(core);
    CHECK_EQ(faults_live(), 0);
}

TEST(no_memory_for_records)
{
    for (unsigned long k = 1; k < 6; k++) {
        twill__core *core;
        twill__record *record = NULL;

        faults_fail_alloc(k);
        core = twill__core_create(sizeof(twill__record), &table);
        if (core)
            record = twill__record_get(core, 1000);
        faults_fail_alloc(0);
        CHECK_EQ(core != NULL, k > 1);
        CHECK_EQ(record != NULL, k > 4);
        if (record)
            twill__record_put(record);
        if (core) {
            CHECK((record = twill__record_get(core, 1000)) != NULL);
            twill__record_put(record);
            twill__core_leave(core);
        }
        CHECK_EQ(faults_live(), 0);
    }
}

TEST(a_child_has_no_part_in_it)
{
    twill__core *core = twill__core_create(sizeof(twill__record), &table);
    twill_future future = twill__record_hold(twill__record_get(core, 0));
    pid_t child = fork();

    if (child == 0) {
        CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_FORKED);
        CHECK_EQ(twill_future_cancel(future), TWILL_FORKED);
        twill__core_leave(core);
        CHECK_EQ(twill_future_try_wait(future, NULL, NULL), TWILL_FORKED);
        twill_future_release(future);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    twill_future_cancel(future);
    twill_future_release(future);
    twill__core_leave(core);
    CHECK_EQ(faults_live(), 0);
}

HARNESS_MAIN

/* test_future.c - records and handles on their own: an object that is nothing but a lock and a
   core; and what waits in a pool, on its own. The pool's tests have the rest. */
#define _GNU_SOURCE
#define HARNESS_FAULTS
#include "harness.h"
#define TWILL_IMPLEMENTATION
#include "twill_worker_pool.h"

#include "pool_kit.h"

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

static bool on_help(twill__record *record, bool idle)
{
    (void)record, (void)idle;
    return false; /* nobody is here who could run it */
}

static const twill__record_table table = {on_help, on_expire, on_cancel, on_forget,
                                          NULL,    NULL,      NULL};

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
    CHECK_EQ(twill_future_wait_any(&none, 1, NULL, twill_within(0)), TWILL_INVALID);
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
    CHECK_EQ(twill_future_wait_all(futures + 1, 2, twill_within(0)), TWILL_TIMEOUT);
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

/* Results of two sizes: what has room for the smaller one alone is passed over, and given more room
   when its turn comes. */
TEST(room_for_a_result_grows)
{
    twill__core *core = twill__core_create(sizeof(twill__record), &table);
    twill__record *first[TWILL__FIRST_RECORDS];

    for (int i = 0; i < TWILL__FIRST_RECORDS; i++)
        CHECK((first[i] = twill__record_get(core, 100)) != NULL);
    for (int i = 0; i < TWILL__FIRST_RECORDS; i++)
        twill__record_disown(first[i]);
    for (int i = 0; i < 400; i++) {
        size_t size = i < 200 ? 100 : 1000;
        twill__record *record = twill__record_get(core, size);
        twill_future future = twill__record_hold(record);
        char result[1000];

        memset(record->result, i, size);
        memset(result, 0, sizeof result);
        end_it(record, TWILL_OK, 0, true, true);
        CHECK_EQ(twill_future_wait(future, result, NULL), TWILL_OK);
        CHECK_EQ(result[0], (char)i);
        CHECK_EQ(result[size - 1], (char)i);
        twill_future_release(future);
        for (int k = 0; k < i % 3; k++) /* go round */
            twill__record_disown(twill__record_get(core, 0));
    }
    twill__core_leave(core);
    CHECK_EQ(faults_live(), 0);
}

/* Few are free, and there is no memory for more: those few will do. */
TEST(few_records_and_no_memory)
{
    enum { KEPT = TWILL__FIRST_RECORDS - 2 };
    twill__record *kept[KEPT], *two[2];
    twill__core *core = twill__core_create(sizeof(twill__record), &table);

    for (int i = 0; i < KEPT; i++)
        CHECK((kept[i] = twill__record_get(core, 0)) != NULL);
    faults_fail_alloc_from(1);
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 2; i++)
            CHECK((two[i] = twill__record_get(core, 0)) != NULL);
        CHECK(!twill__record_get(core, 0));
        for (int i = 0; i < 2; i++)
            twill__record_disown(two[i]);
    }
    faults_fail_alloc(0);
    for (int i = 0; i < KEPT; i++)
        twill__record_disown(kept[i]);
    twill__core_leave(core);
    CHECK_EQ(faults_live(), 0);
}

/* What was due in the task before is not due in the next one. */
TEST(a_record_that_was_due_is_not_so_again)
{
    twill__core *core = twill__core_create(sizeof(twill__record), &table);

    for (int i = 0; i < 100; i++) {
        twill__record *record = twill__record_get(core, 0);
        twill_future future = twill__record_hold(record);

        CHECK_EQ(twill__record_due(record), 0);
        atomic_store(&record->due, twill_now() + TWILL_SEC(100));
        CHECK_EQ(twill_future_try_wait(future, NULL, NULL), TWILL_EMPTY);
        end_it(record, TWILL_OK, 0, false, true);
        twill_future_release(future);
    }
    twill__core_leave(core);
    CHECK_EQ(faults_live(), 0);
}

static void *ends_another(void *record)
{
    end_it(record, TWILL_OK, 0, false, true);
    return NULL;
}

/* A task that waits for any of those that it is a part of waits for itself; one more to wait for,
   and it does not. */
TEST(a_task_waits_for_any_of_its_own)
{
    twill__core *core = twill__core_create(sizeof(twill__record), &table);
    twill__record *outer = twill__record_get(core, 0), *inner = twill__record_get(core, 0),
                  *other = twill__record_get(core, 0);
    twill_future all[3] = {twill__record_hold(outer), twill__record_hold(inner),
                           twill__record_hold(other)};
    twill_cancel token;
    pthread_t thread;
    size_t which = 9;

    twill_cancel_init(&token, NULL);
    twill_cancel_fire(&token, 1);
    twill__record_claim(outer);
    twill__record_enter(outer, twill__thread());
    twill__record_claim(inner);
    twill__record_enter(inner, twill__thread());
    CHECK_EQ(twill_future_wait_any(all, 2, &which, (twill_until){0, NULL}), TWILL_DEADLOCK);
    CHECK_EQ(twill_future_wait_any(all, 1, &which, (twill_until){0, NULL}), TWILL_DEADLOCK);
    /* in a hurry it runs nobody else's task */
    CHECK_EQ(twill_future_wait_any(all, 3, &which, twill_until_cancelled(&token)), TWILL_CANCELLED);
    CHECK_EQ(twill_future_wait_any(all, 3, &which, (twill_until){1, NULL}), TWILL_TIMEOUT);
    CHECK_EQ(which, 9);
    CHECK_EQ(pthread_create(&thread, NULL, ends_another, other), 0);
    CHECK_EQ(twill_future_wait_any(all, 3, &which, (twill_until){0, NULL}), TWILL_OK);
    CHECK_EQ(which, 2);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    twill__record_left(inner, twill__thread());
    twill__record_left(outer, twill__thread());
    end_it(inner, TWILL_OK, 0, false, true);
    end_it(outer, TWILL_OK, 0, false, true);
    for (int i = 0; i < 3; i++)
        twill_future_release(all[i]);
    twill_cancel_detach(&token);
    twill__core_leave(core);
    CHECK_EQ(faults_live(), 0);
}

/* Those that find no place in the list are woken at once, and answered like the others. */
TEST(more_to_wake_than_a_turn_holds)
{
    static twill__node node[MANY];
    twill__list list = {NULL, NULL};
    twill__wakes wakes = {.count = 0};

    for (int i = 0; i < MANY; i++) {
        twill__node_init(&node[i]);
        twill__list_append(&list, &node[i]);
    }
    atomic_store(&node[3].word, TWILL__LEAVING);
    twill__wakes_grant_all(&wakes, &list, TWILL_CLOSED);
    CHECK_EQ(wakes.count, sizeof wakes.word / sizeof wakes.word[0]);
    twill__wakes_send(&wakes);
    for (int i = 0; i < MANY; i++) {
        CHECK_EQ(atomic_load(&node[i].word), i == 3 ? TWILL__LEAVING : TWILL__GRANTED);
        CHECK_EQ(node[i].answer, TWILL_CLOSED);
    }
    CHECK(list.first == &node[3] && list.last == &node[3]);
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

/* Somebody comes to it, and has ended it while who waits stays away: then that looks no further. */
static twill__record *coming;

static twill_ns comes_and_ends(const twill__record *record, uint64_t *seen)
{
    CHECK_PTR(record, coming);
    CHECK_EQ(*seen, 0);
    end_it(coming, TWILL_OK, 0, true, true);
    return 1;
}

static bool never_next(twill_future future)
{
    (void)future;
    CHECK(false);
    return false;
}

TEST(who_stays_away_sees_that_it_has_ended)
{
    static const twill__record_table comes = {on_help,        on_expire,  on_cancel, on_forget,
                                              comes_and_ends, never_next, NULL};
    twill__core *core = twill__core_create(sizeof(twill__record), &comes);
    twill_future future = twill__record_hold(coming = twill__record_get(core, 0));
    unsigned cpus = twill__cpus_hint();

    atomic_store(&twill__process()->cpus, 2);
    CHECK_EQ(twill_future_wait(future, NULL, NULL), TWILL_OK);
    atomic_store(&twill__process()->cpus, cpus);
    twill_future_release(future);
    twill__core_leave(core);
    CHECK_EQ(faults_live(), 0);
}

/* A callback that forks, in a call on a record: the record is the parent's. */
static pid_t forked;

static void cancel_forks(twill__record *record)
{
    forked = fork();
    if (forked != 0)
        on_cancel(record);
}

TEST(a_cancel_that_forks_keeps_off_in_the_child)
{
    static const twill__record_table forks = {on_help, on_expire, cancel_forks, on_forget,
                                              NULL,    NULL,      NULL};
    twill__core *core = twill__core_create(sizeof(twill__record), &forks);
    twill_future future = twill__record_hold(twill__record_get(core, 0));
    int status = -1;

    CHECK_EQ(twill_future_cancel(future), TWILL_OK);
    if (forked == 0)
        _exit(twill_future_try_wait(future, NULL, NULL) == TWILL_FORKED ? 0 : 1);
    CHECK_EQ(waitpid(forked, &status, 0), forked);
    CHECK_EQ(status, 0);
    CHECK_EQ(twill_future_try_wait(future, NULL, NULL), TWILL_FAILED);
    twill_future_release(future);
    twill__core_leave(core);
    CHECK_EQ(faults_live(), 0);
}

TEST(no_memory_to_wait_for_any_of_many)
{
    twill__core *core = twill__core_create(sizeof(twill__record), &table);
    twill__record *record = twill__record_get(core, 0);
    twill_future futures[17];

    for (int i = 0; i < 17; i++)
        futures[i] = twill__record_hold(record);
    faults_fail_alloc_from(1);
    CHECK_EQ(twill_future_wait_any(futures, 17, NULL, twill_within(0)), TWILL_NO_MEMORY);
    CHECK_EQ(twill_future_wait_any(futures, 16, NULL, twill_within(0)), TWILL_TIMEOUT);
    faults_fail_alloc(0);
    CHECK_EQ(twill_future_wait_any(futures, 17, NULL, twill_within(0)), TWILL_TIMEOUT);
    end_it(record, TWILL_OK, 0, true, true);
    twill_future_release(futures[0]);
    twill__core_leave(core);
    CHECK_EQ(faults_live(), 0);
}

/* ---- what waits in a pool ---- */

enum { RING = 64 };

static int plain_task(void *arg, void *result, const twill_task *task)
{
    (void)arg, (void)result, (void)task;
    return 0;
}

static void push(twill__todos *todos, twill__todo_entry *entry, size_t index, int priority)
{
    twill__todo todo = {.fn = entry ? NULL : plain_task, .arg = entry, .index = index};

    CHECK(twill__todos_room(todos, priority, 0));
    twill__todos_push(todos, &todo, priority, 0, 1024);
}

/* All of them, in this order. */
static void pop_all(twill__todos *todos, twill__todo_entry *entries, const int *order, int count)
{
    CHECK_EQ(twill__todos_length(todos), count);
    for (int i = 0; i < count; i++)
        CHECK(twill__todos_pop(todos).arg == &entries[order[i]]);
    CHECK_EQ(twill__todos_length(todos), 0);
}

/* A ring that is full of holes is pushed together; one with few of them, or for many, or without
   holes, grows, if there is memory. */
TEST(a_ring_with_holes_is_pushed_together_or_grows)
{
    static twill__todo_entry entries[3 * RING];
    int order[3 * RING];

    for (int holes = 62; holes >= 2; holes -= 60)
        for (size_t promised = 0; promised <= 40; promised += 40) {
            twill__todos todos;
            size_t left = RING - (size_t)holes;
            bool packs = holes == 62 && promised == 0;
            int count = 0;

            CHECK(twill__todos_init(&todos, RING, false, 0));
            for (int i = 0; i < RING; i++)
                push(&todos, &entries[i], (size_t)i, 0);
            order[count++] = 0;
            for (int i = 1; i < RING; i++)
                if (i <= holes)
                    twill__todos_remove(&todos, &entries[i]);
                else
                    order[count++] = i;
            faults_fail_alloc_from(1);
            CHECK_EQ(twill__todos_room(&todos, 0, promised), packs);
            faults_fail_alloc(0);
            CHECK(twill__todos_room(&todos, 0, promised));
            CHECK_EQ(twill__todos_span(&todos), left);
            CHECK_EQ(twill__todos_ring(&todos)->size, packs ? RING : 2 * RING);
            for (int i = RING; i < RING + holes; i++) {
                push(&todos, &entries[i], (size_t)i, 0);
                CHECK(twill__todos_have(&todos, &entries[i]));
                order[count++] = i;
            }
            CHECK(!twill__todos_have(&todos, &entries[1]));
            pop_all(&todos, entries, order, count);
            twill__todos_free(&todos);
            CHECK_EQ(faults_live(), 0);
        }
}

/* A ring that is more than half full, and where one after the other is taken out of the middle,
   grows once: what it was before stays until the pool goes. */
TEST(holes_in_a_full_ring_need_no_more_and_more_memory)
{
    static twill__todo_entry entries[100];
    twill__todos todos;
    unsigned long before;

    CHECK(twill__todos_init(&todos, 100, false, 0));
    for (size_t i = 0; i < 100; i++)
        push(&todos, &entries[i], i, 0);
    before = faults_allocs();
    for (size_t i = 0; i < 5000; i++) {
        twill__todo_entry *one = &entries[1 + i % 98]; /* between the first and the last */

        twill__todos_remove(&todos, one);
        push(&todos, one, 100 + i, 0);
        CHECK(twill__todos_have(&todos, one));
    }
    CHECK_EQ(twill__todos_length(&todos), 100);
    CHECK_EQ(faults_allocs() - before, 1);
    twill__todos_free(&todos);
    CHECK_EQ(faults_live(), 0);
}

/* Those who take without the lock have made room: a look at how far they are shows it. */
TEST(a_ring_that_was_emptied_meanwhile_has_room)
{
    static twill__todo_entry entry;
    twill__todos todos;
    twill__taker taker = {0};
    twill__todo todo;

    CHECK(twill__todos_init(&todos, RING, false, 0));
    for (size_t i = 0; i < RING; i++)
        push(&todos, &entry, i, 0);
    twill__todos_let_go(&todos);
    for (size_t i = 0; i < RING; i++)
        CHECK(twill__todos_take(&todos, &todo, &taker) && todo.index == i);
    CHECK(!twill__todos_take(&todos, &todo, &taker));
    push(&todos, &entry, RING, 0);
    CHECK_EQ(twill__todos_ring(&todos)->size, RING);
    CHECK(twill__todos_take(&todos, &todo, &taker) && todo.index == RING);
    twill__todos_free(&todos);
    CHECK_EQ(faults_live(), 0);
}

/* One that was taken is not there any more, whatever stands in its place by now. */
TEST(what_was_taken_does_not_wait)
{
    static twill__todo_entry gone, others[RING];

    for (int keyed = 0; keyed < 2; keyed++)
        for (int beside = 0; beside < 3; beside++) {
            twill__todos todos;
            twill__taker taker = {0};
            twill__todo todo;

            CHECK(twill__todos_init(&todos, RING, false, 0));
            push(&todos, &gone, 0, 0);
            CHECK(twill__todos_have(&todos, &gone));
            twill__todos_let_go(&todos);
            CHECK(twill__todos_take(&todos, &todo, &taker) && todo.arg == &gone);
            twill__todos_hold(&todos);
            CHECK(!twill__todos_have(&todos, &gone));
            for (size_t i = 0; i < RING && beside; i++) /* a whole turn */
                push(&todos, beside == 1 ? &others[i] : NULL, i + 1, keyed ? 1 : 0);
            if (keyed && !beside)
                todos.keyed = true; /* as it is until the heap is empty */
            CHECK(!twill__todos_have(&todos, &gone));
            if (beside == 1)
                CHECK(twill__todos_have(&todos, &others[RING - 1]));
            twill__todos_free(&todos);
            CHECK_EQ(faults_live(), 0);
        }
}

/* In a heap not all may have been measured: the oldest stamp counts. */
TEST(the_oldest_of_a_heap_is_the_one_that_was_measured)
{
    twill__todos todos;
    uint64_t stamps[] = {0, 500, 300, 0, 400};

    CHECK(twill__todos_init(&todos, RING, false, 0));
    for (size_t i = 0; i < 5; i++) {
        twill__todo todo = {.fn = plain_task, .index = i, .stamp = stamps[i]};

        CHECK(twill__todos_room(&todos, 1, 0));
        twill__todos_push(&todos, &todo, 1, twill_now(), 1024);
        CHECK_EQ(twill__todos_oldest(&todos), i == 0 ? 0 : i == 1 ? 500 : 300);
    }
    twill__todos_free(&todos);
    CHECK_EQ(faults_live(), 0);
}

/* ---- guesses of a pool ---- */

/* A pool of one, whose worker is at a gate. */
static twill__pool *pool_at(struct gate *gate, const twill_pool_options *options)
{
    twill_pool *pool = pool_of(options);

    CHECK_EQ(twill_pool_submit(pool, at_gate, gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(gate, 1));
    return twill__pool_of(pool);
}

/* How long one who waits for a task stays away: while somebody comes to it, and it is not too
   far. */
TEST(who_waits_stays_away_from_a_worker_that_comes)
{
    static const struct {
        int at, behind; /* of so many tasks */
        twill_ns stays;
    } ways[] = {
        {0, 40, TWILL__BESIDE},  {64, 90, TWILL__BESIDE}, {65, 90, 0}, {89, 90, 0}, {0, 15, 0},
        {3, 15, 3 * TWILL__EACH}};

    for (size_t k = 0; k < sizeof ways / sizeof ways[0]; k++) {
        struct gate gate = {0};
        twill__pool *pool = pool_at(&gate, &(twill_pool_options){.run.workers = 1});
        twill_future future = {0};
        twill__record *record;
        uint64_t seen = 0;

        for (int i = 0; i < ways[k].behind; i++)
            CHECK_EQ(twill_pool_submit(&pool->head, plain_task, NULL,
                                       i == ways[k].at ? &future : NULL, NULL),
                     TWILL_OK);
        record = (twill__record *)future.slot;
        CHECK_EQ(twill__errand_comes(record, &seen), 0); /* nothing was measured */
        atomic_store(&pool->quick, true);
        CHECK_EQ(twill__errand_comes(record, &seen), ways[k].stays);
        CHECK_EQ(twill__errand_comes(record, &seen), 0); /* it has not come on */
        gate_open(&gate);
        CHECK_EQ(twill_pool_destroy(&pool->head), TWILL_OK);
        twill_future_release(future);
        CHECK_EQ(faults_live(), 0);
    }
}

static bool waiting_for_room(twill__pool *pool, unsigned count)
{
    twill__turn turn;
    unsigned waiting = 0;

    twill__turn_begin(pool, &turn);
    for (twill__node *node = pool->senders.first; node; node = node->next)
        waiting++;
    twill__turn_end(pool, &turn);
    return waiting == count;
}

static void *submits_one(void *pool)
{
    return (void *)(intptr_t)twill_pool_submit(pool, plain_task, NULL, NULL, NULL);
}

/* With a priority one needs a place in a heap, for which there is no memory. Those without one, who
   wait for room meanwhile, need none. */
TEST(a_priority_without_memory_leaves_those_who_wait_as_they_were)
{
    struct gate gate = {0};
    twill__pool *pool = pool_at(&gate, &(twill_pool_options){.run.workers = 1, .capacity = RING});
    twill_future futures[RING];
    pthread_t threads[2];
    void *status;

    for (int i = 0; i < RING; i++)
        CHECK_EQ(twill_pool_submit(&pool->head, plain_task, NULL, &futures[i], NULL), TWILL_OK);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, submits_one, &pool->head), 0);
    while (!waiting_for_room(pool, 2)) /* the tests' watchdog is the bound */
        (void)twill_sleep(twill_within(TWILL_US(30)));
    faults_fail_alloc_from(1);
    CHECK_EQ(twill_pool_try_submit(&pool->head, plain_task, NULL, NULL,
                                   &(twill_submit_options){.priority = 1}),
             TWILL_NO_MEMORY);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(twill_future_cancel(futures[RING / 2 + i]), TWILL_OK);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_join(threads[i], &status), 0);
        CHECK_EQ((intptr_t)status, TWILL_OK);
    }
    faults_fail_alloc(0);
    CHECK_EQ(twill_pool_try_submit(&pool->head, plain_task, NULL, NULL, NULL), TWILL_FULL);
    gate_open(&gate);
    CHECK_EQ(idle_stats(&pool->head).done, RING + 1);
    CHECK_EQ(stats_of(&pool->head).refused, 2);
    CHECK_EQ(twill_pool_destroy(&pool->head), TWILL_OK);
    for (int i = 0; i < RING; i++)
        twill_future_release(futures[i]);
    CHECK_EQ(faults_live(), 0);
}

/* Who may look for room outside the lock: one that may wait for ever, in a pool that is quick, on
   more than one CPU. */
TEST(who_lingers_has_time)
{
    twill_pool *public_pool = pool_of(&(twill_pool_options){.run.workers = 1});
    twill__pool *pool = twill__pool_of(public_pool);
    twill_cancel token = {0};
    static const twill_until forever;
    twill_until soon = twill_within(TWILL_SEC(100)), told = twill_until_cancelled(&token);
    twill__order order = {.pool = pool, .waits = true, .until = &forever};
    unsigned cpus = twill__cpus_hint();

    atomic_store(&twill__process()->cpus, 2);
    CHECK(!twill__order_may_linger(&order)); /* nothing was measured */
    atomic_store(&pool->quick, true);
    CHECK(twill__order_may_linger(&order));
    order.waits = false;
    CHECK(!twill__order_may_linger(&order));
    order.waits = true;
    order.until = &soon;
    CHECK(!twill__order_may_linger(&order));
    order.until = &told;
    CHECK(!twill__order_may_linger(&order));
    order.until = &forever;
    order.runner = &pool->stand_in[0].runner;
    CHECK(!twill__order_may_linger(&order));
    order.runner = NULL;
    atomic_store(&twill__process()->cpus, 1);
    CHECK(!twill__order_may_linger(&order));
    atomic_store(&twill__process()->cpus, cpus);
    CHECK_EQ(twill_pool_destroy(public_pool), TWILL_OK);
}

/* How many run on the submitter without a look for room: a quarter of what is a worker's. */
TEST(a_full_queue_is_looked_at_the_more_seldom_the_longer_it_is)
{
    static const size_t capacities[] = {4, 64, 2048};
    static const uint32_t runs[] = {TWILL__RUNS_ON, 16, TWILL__RUNS_ON_MOST};

    for (size_t k = 0; k < 3; k++) {
        struct gate gate = {0};
        twill__pool *pool =
            pool_at(&gate, &(twill_pool_options){.run.workers = 1,
                                                 .capacity = capacities[k],
                                                 .overflow = TWILL_OVERFLOW_CALLER_RUNS});

        for (size_t i = 0; i <= capacities[k]; i++)
            CHECK_EQ(twill_pool_submit(&pool->head, plain_task, NULL, NULL, NULL), TWILL_OK);
        CHECK_EQ(stats_of(&pool->head).caller_ran, 1);
        CHECK_EQ(atomic_load(&twill__stand_in_here(pool)->runs_on), runs[k]);
        gate_open(&gate);
        CHECK_EQ(twill_pool_destroy(&pool->head), TWILL_OK);
        CHECK_EQ(faults_live(), 0);
    }
}

/* Of two that run, in either order, it is the one that has run for longer. */
TEST(the_oldest_running_is_looked_for_among_all)
{
    struct gate gate = {0};
    twill_pool *public_pool =
        pool_of(&(twill_pool_options){.run.workers = 2, .stuck_after = TWILL_SEC(36000)});
    twill__pool *pool = twill__pool_of(public_pool);

    for (int i = 0; i < 2; i++)
        CHECK_EQ(twill_pool_submit(public_pool, at_gate, &gate, NULL, NULL), TWILL_OK);
    CHECK(gate_inside(&gate, 2));
    for (int first = 0; first < 2; first++) {
        twill__turn turn;
        int k = 0;

        twill__turn_begin(pool, &turn);
        for (twill__hand *runner = pool->runners; runner; runner = runner->next)
            if (runner->busy)
                runner->since = twill_now() - (k++ == first ? TWILL_SEC(7200) : TWILL_SEC(3600));
        twill__turn_end(pool, &turn);
        CHECK_EQ(k, 2);
        CHECK(stats_of(public_pool).oldest_running >= TWILL_SEC(7200));
    }
    gate_open(&gate);
    CHECK_EQ(twill_pool_destroy(public_pool), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* They came before anybody looked, and are as good a reason to grow as others. */
TEST(a_pool_grows_for_tasks_that_nobody_measured)
{
    struct gate gate = {0}, open = {.open = 1};
    twill__pool *pool =
        pool_at(&gate, &(twill_pool_options){.run.workers = 1, .grow_after = TWILL_MS(1)});

    atomic_store(&pool->sample, 63);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(twill_pool_submit(&pool->head, at_gate, &open, NULL, NULL), TWILL_OK);
    CHECK_EQ(twill_pool_resize(&pool->head, 1, 2), TWILL_OK);
    CHECK(gate_inside(&open, 3));
    gate_open(&gate);
    CHECK_EQ(twill_pool_destroy(&pool->head), TWILL_OK);
    CHECK_EQ(faults_live(), 0);
}

/* A clock costs more than a quick task: not all of them are measured, unless there is a watch. */
TEST(the_quicker_tasks_are_the_fewer_are_measured)
{
    for (int watch = 0; watch < 2; watch++) {
        twill_pool *public_pool =
            pool_of(&(twill_pool_options){.run.workers = 1, .max_workers = watch ? 2 : 0});
        twill__pool *pool = twill__pool_of(public_pool);

        twill__pool_sample(pool);
        CHECK_EQ(atomic_load(&pool->sample), 0);
        atomic_store(&pool->quick, true);
        twill__pool_sample(pool);
        CHECK_EQ(atomic_load(&pool->sample), watch || !TWILL__TICKS ? 0 : 15);
        atomic_store(&pool->tiny, true);
        twill__pool_sample(pool);
        CHECK_EQ(atomic_load(&pool->sample), watch || !TWILL__TICKS ? 0 : 63);
        CHECK_EQ(twill_pool_destroy(public_pool), TWILL_OK);
    }
}

/* A worker that spins comes in where a call is still open, and, if that is a little one, the
   same. */
TEST(a_spinning_worker_leaves_calls_that_are_over)
{
    static twill__job job;
    static twill__seat seat;
    twill__lull lull = {.seat = &seat, .opened = 7};

    atomic_store(&seat.job, &job);
    atomic_store(&seat.opened, 7);
    for (int little = 0; little < 2; little++) {
        lull.little = little;
        atomic_store(&seat.word, TWILL__SEAT_OWNED);
        CHECK(!twill__call_stays(&lull));
        atomic_store(&seat.word, TWILL__SEAT_OWNED | TWILL__SEAT_OPEN);
        CHECK(twill__call_stays(&lull));
    }
    atomic_store(&seat.opened, 8);
    CHECK(!twill__call_stays(&lull));
}

/* What a thread has still to do, of callbacks in callbacks: those too deep are not noted, and the
   others stay right. */
TEST(duties_too_deep_are_not_noted)
{
    int object = 0, other = 0, record = 0, deep = 0;
    unsigned most = TWILL__DUTIES + 2;

    CHECK_EQ(twill__duty_to(&object), 0);
    for (unsigned k = 0; k < most; k++)
        twill__duty_begin(&object, k == 0 ? &record : k == most - 1 ? &deep : NULL, most - k);
    CHECK_EQ(twill__duty_to(&object), most); /* the most of it, not the last */
    CHECK_EQ(twill__duty_to(&other), 0);
    CHECK(twill__duty_ends(&record) && !twill__duty_ends(&deep));
    for (unsigned k = 0; k < most; k++)
        twill__duty_over();
    CHECK_EQ(twill__duty_to(&object), 0);
    CHECK(!twill__duty_ends(&record));
}

HARNESS_MAIN

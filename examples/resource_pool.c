/* resource_pool: twenty workers share five connections. One that breaks is thrown away and
 * replaced; a worker that fails gives its connection back all the same; nobody ever has the same
 * one as somebody else.
 *
 *     cc -std=c11 -pthread -I patterns examples/resource_pool.c && ./a.out
 *
 * TEST-RUN:
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define TWILL_IMPLEMENTATION
#include "twill_parallel_map.h"
#include "twill_resource_pool.h"

enum { WORKERS = 20, QUERIES = 400, CONNECTIONS = 5 };

struct connection {
    int number, queries;
    atomic_int users;
};

static struct database {
    twill_resource_pool *pool;
    atomic_int opened, open_now, most, shared, answers;
} database;

/* Stands for a connect over the network. */
static int connect_one(void **resource, const twill_task *task)
{
    struct connection *c = calloc(1, sizeof *c);
    int now;
    (void)task;
    if (!c)
        return 1;
    c->number = atomic_fetch_add(&database.opened, 1) + 1;
    now = atomic_fetch_add(&database.open_now, 1) + 1;
    if (now > atomic_load(&database.most))
        atomic_store(&database.most, now);
    *resource = c;
    return 0;
}

static void hang_up(void *resource, twill_resource_end why, const twill_task *task)
{
    (void)why, (void)task;
    atomic_fetch_sub(&database.open_now, 1);
    free(resource);
}

static int query(void *resource, const twill_task *task)
{
    struct connection *c = resource;
    size_t number = *(const size_t *)task->context;
    if (atomic_fetch_add(&c->users, 1) != 0)
        atomic_fetch_add(&database.shared, 1);
    if (++c->queries % 8 == 0)
        twill_sleep(twill_within(TWILL_US(100)));
    atomic_fetch_sub(&c->users, 1);
    if (number % 100 == 99) { /* the server has hung up */
        twill_resource_pool_broken(task);
        return 32;
    }
    if (number % 50 == 0)
        return 11; /* refused; the connection is as good as before */
    atomic_fetch_add(&database.answers, 1);
    return 0;
}

static int work(const twill_task *task)
{
    size_t number = task->index;
    (void)twill_with_resource(database.pool, query, &number, NULL);
    return 0;
}

int main(void)
{
    twill_resource_pool_stats s;
    twill_lease lease = {0}, copy;
    if (twill_resource_pool_create(&database.pool,
                                   &(twill_resource_pool_options){.max = CONNECTIONS,
                                                                  .create = connect_one,
                                                                  .destroy = hang_up}) != TWILL_OK)
        return 1;
    if (twill_parallel_for(QUERIES, work, &(twill_parallel_options){.run.workers = WORKERS}) !=
        TWILL_OK)
        return 1;
    twill_resource_pool_get_stats(database.pool, &s);
    printf("%d answers of %d queries; never more than %d connections: %s; ever shared: %d\n",
           atomic_load(&database.answers), QUERIES, CONNECTIONS,
           atomic_load(&database.most) <= CONNECTIONS ? "right" : "WRONG",
           atomic_load(&database.shared));
    printf("broken and replaced: %llu; still lent: %zu\n",
           (unsigned long long)s.destroyed[TWILL_RESOURCE_BROKEN], s.leased);

    if (twill_resource_pool_acquire(database.pool, &lease) != TWILL_OK)
        return 1;
    copy = lease;
    printf("release: %s\n", twill_status_name(twill_resource_pool_release(database.pool, &lease)));
    printf("release of a copy: %s\n",
           twill_status_name(twill_resource_pool_release(database.pool, &copy)));
    printf("destroy: %s", twill_status_name(twill_resource_pool_destroy(database.pool)));
    printf("; connections left open: %d\n", atomic_load(&database.open_now));
    return 0;
}

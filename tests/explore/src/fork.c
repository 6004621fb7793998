/* fork.c: fork. The run goes on either as the parent or as the child: a choice of the search. In
   the child only the calling thread is left; what the others held, they hold for ever, and what
   they have stored may be missing (memory.c) or half there: to read that is a data race. The other
   process is taken to end well at once. */
#include "explorer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { HANDLERS = 16, MAPS = 4, MAP_BYTES = 65536, WIPE_ON_FORK = 18 };

static struct {
    uint32_t run;
    int count, children;
    struct {
        void (*before)(void), (*parent)(void), (*child)(void);
    } handlers[HANDLERS];
    bool mapped[MAPS], wiped[MAPS];
} forks;
static unsigned char *maps; /* MAPS x MAP_BYTES */

static int error(int number)
{
    self()->error = number;
    return -1;
}

static void renew(void)
{
    if (forks.run != x.run)
        memset(&forks, 0, sizeof forks);
    forks.run = x.run;
}

EXPORT int explore_pthread_atfork(void (*before)(void), void (*parent)(void), void (*child)(void))
{
    renew();
    if (forks.count == HANDLERS)
        return ENOMEM;
    forks.handlers[forks.count].before = before;
    forks.handlers[forks.count].parent = parent;
    forks.handlers[forks.count++].child = child;
    return 0;
}

static void become_child(void)
{
    thread *t = self();

    if (!x.in_child) {
        memset(&x.copied, 0, sizeof x.copied);
        memset(&x.missing, 0, sizeof x.missing);
        x.copied_fence = 0;
        x.left_behind = 0;
    }
    x.pid++;
    x.in_child = true;
    vclock_join(&x.copied, &t->now);
    vclock_join(&x.copied, &t->sc_view);
    if (x.copied_fence < t->sc_fence)
        x.copied_fence = t->sc_fence;
    for (int i = 0; i < x.thread_count; i++) {
        thread *other = &x.threads[i];
        if (!x.weak_memory || x.whole_copies) /* plain objects are as they were at this moment */
            vclock_join(&t->now, &other->now);
        if (other != t)
            x.left_behind |= 1u << i;
        other->vanished = other != t && other->state != ENDED;
        if (other->vanished)
            other->state = ENDED;
    }
    x.runnable = 1u << x.current;
    x.timed = 0;
    x.alone = false;
    stay_alone();
    for (int i = 0; i < MAPS; i++)
        if (forks.wiped[i]) {
            memset(maps + (size_t)i * MAP_BYTES, 0, MAP_BYTES);
            forget_copied((char *)maps + (size_t)i * MAP_BYTES, MAP_BYTES);
        }
    signals_in_child();
    progress();
}

static int do_fork(bool handlers, const void *pc)
{
    bool child;

    point();
    renew();
    for (int i = forks.count; handlers && i-- > 0;)
        if (forks.handlers[i].before)
            forks.handlers[i].before();
    step_on_all();
    child = choose(2);
    trace(child ? "forks; this is the child" : "forks", NULL, 0, 0, NO_ORDER, false, pc);
    if (child)
        become_child();
    else
        forks.children++;
    for (int i = 0; handlers && i < forks.count; i++) {
        void (*after)(void) = child ? forks.handlers[i].child : forks.handlers[i].parent;
        if (after)
            after();
    }
    return child ? 0 : x.pid + forks.children;
}

EXPORT int explore_fork(void)
{
    not_in_handler("fork");
    return do_fork(true, PC);
}

EXPORT int explore_Fork(void) /* glibc's _Fork: no handlers */
{
    return do_fork(false, PC);
}

EXPORT int explore_waitpid(int pid, int *status, int options)
{
    (void)options;
    point();
    renew();
    if (!forks.children || pid == 0 || pid > x.pid + forks.children)
        return error(ECHILD);
    trace("waits for a child, which is taken to have ended with 0", NULL, 0, 0, NO_ORDER, false,
          PC);
    if (status)
        *status = 0;
    return pid > 0 ? pid : x.pid + forks.children--;
}

EXPORT int explore_wait(int *status)
{
    return explore_waitpid(-1, status, 0);
}

/* ---- memory: with --mmap a few anonymous pages; else none, so that a program takes its other way
   ---- */

static int map_of(const void *at)
{
    size_t offset = (size_t)((const unsigned char *)at - maps);

    return maps && offset < (size_t)MAPS * MAP_BYTES ? (int)(offset / MAP_BYTES) : -1;
}

bool page_name(const void *address, char *text, size_t size)
{
    int map = map_of(address);

    if (map < 0)
        return false;
    snprintf(text, size, "page%d+%ld", map + 1,
             (long)((const unsigned char *)address - maps) - (long)map * MAP_BYTES);
    return true;
}

EXPORT void *explore_mmap(void *at, size_t size, int protection, int flags, int fd, long offset)
{
    (void)at, (void)protection, (void)offset;
    renew();
    if (!maps && x.give_pages)
        maps = big((size_t)MAPS * MAP_BYTES);
    for (int i = 0; x.give_pages && i < MAPS; i++)
        if (!forks.mapped[i] && size <= MAP_BYTES && fd == -1 && (flags & MAP_ANONYMOUS)) {
            forks.mapped[i] = true;
            memset(maps + (size_t)i * MAP_BYTES, 0, MAP_BYTES);
            return maps + (size_t)i * MAP_BYTES;
        }
    self()->error = ENOMEM;
    return MAP_FAILED;
}

EXPORT void *explore_mmap64(void *at, size_t size, int protection, int flags, int fd, long offset)
    __attribute__((alias("explore_mmap")));

EXPORT int explore_munmap(void *at, size_t size)
{
    int map = map_of(at);

    (void)size;
    if (map < 0 || !forks.mapped[map])
        return error(EINVAL);
    forks.mapped[map] = forks.wiped[map] = false;
    return 0;
}

EXPORT int explore_madvise(void *at, size_t size, int advice)
{
    int map = map_of(at);

    (void)size;
    if (map < 0 || advice != WIPE_ON_FORK)
        return error(EINVAL);
    forks.wiped[map] = true;
    return 0;
}

/* files.c: descriptors: pipes and poll, in virtual time. Numbers from FIRST on are ours; 0, 1 and 2
   are the outside world: reading there finds the end, what is written is dropped. */
#include "explorer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FIRST = 10, FILES = 16, PIPES = 8, ROOM = 4096 };

typedef struct pipe_object {
    unsigned char bytes[ROOM];
    uint32_t first, count;
    int readers, writers;
    vclock clock; /* who reads knows what he knew who wrote: both are behind the kernel's lock */
} pipe_object;

static struct {
    uint32_t run;
    struct {
        pipe_object *pipe; /* NULL: closed */
        bool writes, nonblocking;
        const void *pc; /* where it was made */
    } files[FILES];
    int pipe_count;
} system_files;
static pipe_object pipes[PIPES];

static int error(int number)
{
    self()->error = number;
    return -1;
}

static int place_of(int fd)
{
    step_on(&system_files, true, 4);
    if (system_files.run != x.run) {
        memset(&system_files, 0, sizeof system_files);
        system_files.run = x.run;
    }
    return fd >= FIRST && fd < FIRST + FILES && system_files.files[fd - FIRST].pipe ? fd - FIRST
                                                                                    : -1;
}

static int new_file(pipe_object *p, bool writes, int flags, const void *pc)
{
    for (int i = 0; i < FILES; i++)
        if (!system_files.files[i].pipe) {
            system_files.files[i].pipe = p;
            system_files.files[i].writes = writes;
            system_files.files[i].nonblocking = (flags & O_NONBLOCK) != 0;
            system_files.files[i].pc = pc;
            return FIRST + i;
        }
    return -1;
}

static int make_pipe(int fds[2], int flags, const void *pc)
{
    pipe_object *p;

    point();
    place_of(FIRST);
    x.creations++;
    if (x.creations == x.fail_creation || (x.random_creation && hard_fault(8))) {
        x.fault_hit = true;
        trace("pipe-fails", NULL, 0, 0, NO_ORDER, false, pc);
        return error(EMFILE);
    }
    if (system_files.pipe_count == PIPES)
        limit("too many pipes: 8 in a run");
    p = &pipes[system_files.pipe_count++];
    memset(p, 0, sizeof *p);
    p->readers = p->writers = 1;
    fds[0] = new_file(p, false, flags, pc);
    fds[1] = new_file(p, true, flags, pc);
    if (fds[1] < 0)
        limit("too many open descriptors: 16");
    trace("pipe", NULL, 0, (uint64_t)fds[0], NO_ORDER, false, pc);
    return 0;
}

EXPORT int explore_pipe(int fds[2])
{
    return make_pipe(fds, 0, PC);
}

EXPORT int explore_pipe2(int fds[2], int flags)
{
    return make_pipe(fds, flags, PC);
}

/* Those that read, write or poll look again. */
static void changed(const pipe_object *p)
{
    for (int i = 0; i < x.thread_count; i++) {
        thread *t = &x.threads[i];
        if (t->state == BLOCKED && (t->waits_on == p || t->waits_on == pipes))
            if (t->waits_on == p || strcmp(t->waits_in, "poll") == 0)
                wake(t, false);
    }
    progress();
}

EXPORT int explore_close(int fd)
{
    int at;
    pipe_object *p;

    point();
    at = place_of(fd);
    if (at < 0)
        return fd >= 0 && fd <= 2 ? 0 : error(EBADF);
    p = system_files.files[at].pipe;
    if (system_files.files[at].writes)
        p->writers--;
    else
        p->readers--;
    system_files.files[at].pipe = NULL;
    trace("close", NULL, 0, (uint64_t)fd, NO_ORDER, false, PC);
    changed(p);
    return 0;
}

EXPORT int explore_dup(int fd)
{
    int at, copy;
    pipe_object *p;

    point();
    at = place_of(fd);
    if (at < 0)
        return error(EBADF);
    p = system_files.files[at].pipe;
    copy = new_file(p, system_files.files[at].writes,
                    system_files.files[at].nonblocking ? O_NONBLOCK : 0, PC);
    if (copy < 0)
        limit("too many open descriptors: 16");
    if (system_files.files[at].writes)
        p->writers++;
    else
        p->readers++;
    return copy;
}

EXPORT int explore_fcntl(int fd, int command, ...)
{
    va_list list;
    int argument, at = place_of(fd);

    va_start(list, command);
    argument = va_arg(list, int);
    va_end(list);
    if (at < 0)
        return fd >= 0 && fd <= 2 ? 0 : error(EBADF);
    switch (command) {
    case F_GETFD:
        return FD_CLOEXEC;
    case F_SETFD:
        return 0;
    case F_GETFL:
        return (system_files.files[at].nonblocking ? O_NONBLOCK : 0) |
               (system_files.files[at].writes ? O_WRONLY : O_RDONLY);
    case F_SETFL:
        system_files.files[at].nonblocking = (argument & O_NONBLOCK) != 0;
        return 0;
    default:
        limit("this fcntl is not known to the explorer");
    }
}

EXPORT int explore_fcntl64(int fd, int command, ...) __attribute__((alias("explore_fcntl")));

/* True: the call goes on waiting after a signal (SA_RESTART). */
static bool wait_for(const char *call, const pipe_object *p, const void *pc)
{
    block(call, p, 0, false, pc);
    return !self()->interrupted || self()->restarts;
}

EXPORT ssize_t explore_read(int fd, void *data, size_t size)
{
    int at;
    pipe_object *p;
    size_t count;

    point();
    at = place_of(fd);
    if (at < 0 || system_files.files[at].writes)
        return fd == 0 ? 0 : error(EBADF);
    p = system_files.files[at].pipe;
    while (!p->count) {
        if (!p->writers)
            return 0;
        if (system_files.files[at].nonblocking)
            return error(EAGAIN);
        if (!wait_for("read", p, PC))
            return error(EINTR);
    }
    count = size < p->count ? size : p->count;
    touch((uintptr_t)data, count, true, PC);
    for (size_t i = 0; i < count; i++)
        ((unsigned char *)data)[i] = p->bytes[(p->first + i) % ROOM];
    p->first = (uint32_t)((p->first + count) % ROOM);
    p->count -= (uint32_t)count;
    vclock_join(&self()->now, &p->clock);
    trace("reads", NULL, 0, count, NO_ORDER, false, PC);
    changed(p);
    return (ssize_t)count;
}

static ssize_t write_pipe(int at, const void *data, size_t size, const void *pc)
{
    pipe_object *p = system_files.files[at].pipe;

    if (!p->readers) {
        explore_raise(SIGPIPE);
        return error(EPIPE);
    }
    while (size > ROOM - p->count) { /* all at once, as for up to PIPE_BUF bytes */
        if (size > ROOM)
            limit("a write of more than 4096 bytes to a pipe");
        if (system_files.files[at].nonblocking)
            return error(EAGAIN);
        if (!wait_for("write", p, PC))
            return error(EINTR);
    }
    for (size_t i = 0; i < size; i++)
        p->bytes[(p->first + p->count + i) % ROOM] = ((const unsigned char *)data)[i];
    p->count += (uint32_t)size;
    release_to(&p->clock);
    trace("writes", NULL, 0, size, NO_ORDER, false, pc);
    changed(p);
    return (ssize_t)size;
}

EXPORT ssize_t explore_write(int fd, const void *data, size_t size)
{
    int at;

    point();
    touch((uintptr_t)data, size, false, PC);
    at = place_of(fd);
    if (at >= 0 && system_files.files[at].writes)
        return write_pipe(at, data, size, PC);
    if (fd != 1 && fd != 2)
        return error(EBADF);
    return x.show_output ? write(fd, data, size) : (ssize_t)size;
}

/* ---- poll ---- */

static short events_of(int fd)
{
    int at = place_of(fd);
    const pipe_object *p;

    if (at < 0)
        return fd == 0 ? POLLIN : fd == 1 || fd == 2 ? POLLOUT : POLLNVAL;
    p = system_files.files[at].pipe;
    if (system_files.files[at].writes)
        return (short)(!p->readers ? POLLERR : p->count < ROOM ? POLLOUT : 0);
    return (short)((p->count ? POLLIN : 0) | (p->writers ? 0 : POLLHUP));
}

EXPORT int explore_poll(struct pollfd *list, nfds_t count, int timeout)
{
    uint64_t deadline;
    bool late = timeout == 0;

    point();
    step_on(&x.now, false, 4);
    deadline = timeout > 0 ? x.now + (uint64_t)timeout * 1000000u : 0;
    for (;;) { /* exit: ready, late or interrupted */
        int ready = 0;
        for (nfds_t i = 0; i < count; i++) {
            list[i].revents = 0;
            if (list[i].fd >= 0)
                list[i].revents = (short)(events_of(list[i].fd) &
                                          (list[i].events | POLLERR | POLLHUP | POLLNVAL));
            ready += list[i].revents != 0;
            touch((uintptr_t)&list[i].revents, sizeof list[i].revents, true, PC);
        }
        if (ready || late) {
            trace(ready ? "poll-ready" : "poll-timeout", NULL, 0, 0, NO_ORDER, false, PC);
            return ready;
        }
        if (fault(16)) {
            trace("poll-EINTR", NULL, 0, 0, NO_ORDER, false, PC);
            return error(EINTR);
        }
        trace("polls", NULL, 0, 0, NO_ORDER, false, PC);
        late = block("poll", pipes, deadline, false, PC);
        if (self()->interrupted && !late)
            return error(EINTR);
    }
}

/* At the end: a descriptor that nobody has closed. */
bool files_leak(char *text, size_t size)
{
    char where[80];

    if (place_of(FIRST) < 0 && system_files.pipe_count == 0)
        return false;
    for (int i = 0; i < FILES; i++)
        if (system_files.files[i].pipe) {
            source_of(system_files.files[i].pc, where, sizeof where);
            snprintf(text, size, "descriptor leak: %s end of a pipe from %s",
                     system_files.files[i].writes ? "the writing" : "the reading", where);
            return true;
        }
    return false;
}

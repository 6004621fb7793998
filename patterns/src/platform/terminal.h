/* terminal.h: what a progress display asks of the system: the terminal, one whole write, signals
   held off meanwhile. */
#ifndef TWILL__PLATFORM_TERMINAL_H
#define TWILL__PLATFORM_TERMINAL_H

#include "platform/signals.h"

typedef enum twill__wrote {
    TWILL__WROTE,
    TWILL__WROTE_NOT /* would have blocked: nothing, or the front part */,
    TWILL__WROTE_BROKEN
} twill__wrote;

#ifdef TWILL__POSIX
#define TWILL__TERMINALS 1 /* 0: there is nothing to draw on, only lines */
#include <sys/ioctl.h>

/* ---- the terminal ---- */

static inline bool twill__terminal_is(int fd)
{
    int saved = errno;
    bool is = isatty(fd) == 1;
    errno = saved;
    return is;
}

/* Leaves 0 where the terminal does not say. */
static inline void twill__terminal_size(int fd, unsigned *columns, unsigned *rows)
{
    struct winsize size;
    int saved = errno;
    *columns = *rows = 0;
    if (ioctl(fd, TIOCGWINSZ, &size) == 0) {
        *columns = size.ws_col;
        *rows = size.ws_row;
    }
    errno = saved;
}

/* Whether we may draw there. -1 (not a terminal, not our session's) counts as yes: containers and
   pipes have no foreground. */
static inline bool twill__terminal_foreground(int fd)
{
    int saved = errno;
    pid_t group = tcgetpgrp(fd);
    errno = saved;
    return group == -1 || group == getpgrp();
}

/* ---- writing ---- */

/* False: it could not take a byte within `ms`. A broken descriptor counts as ready: the write will
   say what it is. */
static inline bool twill__terminal_writable(int fd, int ms)
{
    struct pollfd one = {fd, POLLOUT, 0};
    twill_ns end = twill__clock_now() + TWILL_MS(ms);
    int saved = errno, got;
    while ((got = poll(&one, 1, ms)) == -1 && errno == EINTR) {
        twill_ns left = end - twill__clock_now();
        ms = left > 0 ? (int)(left / 1000000) : 0;
    }
    errno = saved;
    return got != 0;
}

#ifndef TWILL__TERMINAL_PATIENCE
#define TWILL__TERMINAL_PATIENCE 1000 /* ms; a test has less */
#endif

/* Writes it all, in one write where the system lets us. A descriptor that would block: false
   `must`: nothing is written, or, when it stops in the middle, the rest is given a second; true: it
   waits. */
static inline twill__wrote twill__write_all(int fd, const char *data, size_t size, bool must)
{
    size_t at = 0;
    while (at < size) {
        ssize_t got = write(fd, data + at, size - at);
        if (got > 0) {
            at += (size_t)got;
        } else if (errno != EINTR) { /* -1: of more than no bytes, 0 is no answer */
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                return TWILL__WROTE_BROKEN;
            if (must)
                (void)twill__terminal_writable(fd, TWILL__TERMINAL_PATIENCE);
            else if (at == 0 || !twill__terminal_writable(fd, TWILL__TERMINAL_PATIENCE))
                return TWILL__WROTE_NOT;
        }
    } /* exit: each turn writes, waits, or returns */
    return TWILL__WROTE;
}

/* The same with SIGPIPE held off, and with SIGTTOU too if `quiet`, so that a background process is
   not stopped. A SIGPIPE that our write has raised is taken back; one that was pending before
   stays. */
static inline twill__wrote twill__write_calmly(int fd, const char *data, size_t size, bool must,
                                               bool quiet)
{
    sigset_t pipe_, block, old, pending;
    int saved = errno, signal;
    twill__wrote wrote;
    bool before;
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    block = pipe_;
    if (quiet)
        sigaddset(&block, SIGTTOU);
    pthread_sigmask(TWILL__SIGNALS_BLOCK, &block, &old);
    sigemptyset(&pending);
    sigpending(&pending);
    before = sigismember(&pending, SIGPIPE) == 1;
    wrote = twill__write_all(fd, data, size, must);
    if (wrote == TWILL__WROTE_BROKEN && errno == EPIPE && !before) {
        sigpending(&pending);
        if (sigismember(&pending, SIGPIPE) == 1) /* not when it is ignored */
            sigwait(&pipe_, &signal);
    }
    pthread_sigmask(TWILL__SIGNALS_SET, &old, NULL);
    errno = saved;
    return wrote;
}

#else
/* ---- elsewhere: lines only ---- */
#define TWILL__TERMINALS 0
#include <io.h>

static inline bool twill__terminal_is(int fd)
{
    (void)fd;
    return false;
}

static inline void twill__terminal_size(int fd, unsigned *columns, unsigned *rows)
{
    (void)fd;
    *columns = *rows = 0;
}

static inline bool twill__terminal_foreground(int fd)
{
    (void)fd;
    return true;
}

static inline bool twill__terminal_writable(int fd, int ms)
{
    (void)fd;
    (void)ms;
    return true;
}

static inline twill__wrote twill__write_calmly(int fd, const char *data, size_t size, bool must,
                                               bool quiet)
{
    (void)must;
    (void)quiet;
    for (size_t at = 0; at < size;) {
        int got = _write(fd, data + at, (unsigned)(size - at));
        if (got <= 0)
            return TWILL__WROTE_BROKEN;
        at += (size_t)got;
    }
    return TWILL__WROTE;
}
#endif

#endif

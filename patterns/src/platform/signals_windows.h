/* signals_windows.h: what signals.h needs, by Windows' C library: Ctrl-C is SIGINT, Ctrl-Break and
   a window that is closed are SIGBREAK, each told on a thread of its own; SIGTERM comes from raise
   alone. There are no masks. */
#ifndef TWILL__PLATFORM_SIGNALS_WINDOWS_H
#define TWILL__PLATFORM_SIGNALS_WINDOWS_H

#include "platform/threads.h"

#include <io.h>
#include <process.h>
#include <signal.h>

#ifdef TWILL__NO_SIGNALS
#define TWILL__SIGNALS 0
#else
#define TWILL__SIGNALS 1
#endif
#define TWILL__BELLS        0
#define TWILL__SIGNAL_COUNT 23 /* numbers below it */

typedef int twill__signal_mask;

static inline void twill__signals_hold(twill__signal_mask *old)
{
    *old = 0;
}

static inline void twill__signals_restore(const twill__signal_mask *old)
{
    (void)old;
}

static inline void twill__signal_unblock(int number)
{
    (void)number;
}

static inline bool twill__signal_is_fault(int number)
{
    return number == SIGSEGV || number == SIGILL || number == SIGFPE || number == SIGABRT;
}

#define TWILL__ACTION_HANDLER handler
typedef struct twill__action {
    void (*handler)(int);
} twill__action;

static inline void twill__action_make(twill__action *action, void (*handler)(int),
                                      const int *numbers, size_t count)
{
    (void)numbers, (void)count; /* nothing is held off */
    action->handler = handler;
}

/* A handler serves once, and is put back by itself: twill__signal_again. */
static inline int twill__sigaction(int number, const twill__action *action, twill__action *old)
{
    /* 2: SIG_GET, what is there */
    void (*handler)(int) = action ? action->handler : (void (*)(int))(uintptr_t)2;
    handler = signal(number, handler);
    if (handler == SIG_ERR)
        return -1;
    if (old)
        old->handler = handler;
    return 0;
}

static inline bool twill__signal_is_plain(int number)
{
    (void)number; /* a handler has just put itself back */
    return false;
}

static inline void twill__signal_again(int number, void (*handler)(int))
{
    (void)signal(number, handler);
}

/* A console that is closed, and a user who logs off or shuts down, are told to a handler on a
   thread of its own; when that returns, and after 5 s at the latest, the process is over. Ctrl-C
   and Ctrl-Break stay with the C library. */
#define TWILL__CONSOLE               1
#define TWILL__CONSOLE_SIGNAL        SIGBREAK /* what it counts as */
#define TWILL__CONSOLE_GRACE         TWILL_MS(4500)
#define TWILL__CONSOLE_HANDLER(NAME) static int __stdcall NAME(unsigned long event)
typedef int(__stdcall *twill__console_fn)(unsigned long event);
extern __declspec(dllimport) int __stdcall SetConsoleCtrlHandler(twill__console_fn, int);

static inline bool twill__console_goes(unsigned long event)
{
    return event == 2 || event == 5 || event == 6; /* CTRL_CLOSE_EVENT, _LOGOFF_, _SHUTDOWN_ */
}

/* Without a console nobody is told. */
static inline void twill__console_tells(twill__console_fn handler, bool on)
{
    (void)SetConsoleCtrlHandler(handler, on);
}

static inline uint32_t twill__pid(void)
{
    return (uint32_t)_getpid();
}

static inline void twill__say(const char *text, size_t length)
{
    int wrote = _write(2, text, (unsigned)length);
    (void)wrote;
}

#endif

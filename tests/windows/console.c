/* console.c: a graceful shutdown where signals are those of Windows' C library: they come once, on
   any thread. */
#define TWILL_IMPLEMENTATION
#include "twill_graceful_shutdown.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#define MUST(condition)                                            \
    do {                                                           \
        if (!(condition)) {                                        \
            printf("failed: %s, line %d\n", #condition, __LINE__); \
            return 1;                                              \
        }                                                          \
    } while (0)

static int closed;

static int close_log(const twill_task *task)
{
    (void)task;
    closed++;
    return 0;
}

static void reload(int number, const twill_task *task)
{
    *(int *)task->context += number == SIGBREAK;
}

/* The thread that the system makes when the console is closed; the process ends with its return. */
static void *close_console(void *unused)
{
    (void)twill__shutdown_console(2);
    return unused;
}

static int closed_console(void)
{
    static const int signals[] = {SIGINT, SIGBREAK};
    twill_shutdown *stop;
    twill_shutdown_report report;
    pthread_t thread;
    MUST(twill__shutdown_console(2) == 0); /* nobody's */
    MUST(twill_shutdown_create(
             &stop, &(twill_shutdown_options){.signals = signals, .signal_count = 2}) == TWILL_OK);
    MUST(twill_shutdown_add(stop, "log", close_log, NULL, 0) == TWILL_OK);
    MUST(twill__shutdown_console(0) == 0 && !twill_shutdown_requested(stop)); /* Ctrl-C */
    MUST(twill_shutdown_enter(stop) == TWILL_OK); /* and does not leave */
    MUST(pthread_create(&thread, NULL, close_console, NULL) == 0);
    MUST(twill_shutdown_wait(stop, (twill_until){0}) == TWILL_OK);
    MUST(twill_shutdown_finish(stop, &report) == TWILL_TIMEOUT && report.stuck == 1);
    MUST(report.reason == SIGBREAK && closed == 2);
    /* 20 s by default, 4.5 s here: half of them to drain, half of the rest to cancel */
    MUST(report.wall >= TWILL_MS(3000) && report.wall < TWILL_MS(4500));
    return 0;
}

int main(void)
{
    twill_shutdown *stop;
    twill_shutdown_report report;
    int reloads = 0;
    twill_signal_action action = {SIGBREAK, reload, &reloads};
    MUST(twill_shutdown_create(
             &stop, &(twill_shutdown_options){.actions = &action, .action_count = 1}) == TWILL_OK);
    MUST(twill_shutdown_add(stop, "log", close_log, NULL, 0) == TWILL_OK);
    for (int i = 1; i <= 2; i++) { /* the handler stays installed */
        raise(SIGBREAK);
        for (int k = 0; k < 500 && reloads < i; k++)
            (void)twill_sleep(twill_within(TWILL_MS(10)));
        MUST(reloads == i);
    }
    MUST(!twill_shutdown_requested(stop) && twill_shutdown_fd(stop) == -1);
    raise(SIGINT);
    MUST(twill_shutdown_reason(stop) == SIGINT);
    MUST(twill_shutdown_wait(stop, (twill_until){0}) == TWILL_OK);
    MUST(twill_shutdown_finish(stop, &report) == TWILL_OK);
    MUST(closed == 1);
    MUST(twill_shutdown_destroy(stop) == TWILL_OK);
    MUST(signal(SIGINT, SIG_DFL) == SIG_DFL); /* it was put back */
    printf("closed %d, reloads %d\n", closed, reloads);
    return closed_console(); /* its thread still stays */
}

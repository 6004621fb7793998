/* console.c: a graceful shutdown where signals are those of Windows' C library: they come once, on any thread. */
#define TWILL_IMPLEMENTATION
#include "twill_graceful_shutdown.h"

#include <signal.h>
#include <stdio.h>

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

#define MUST(condition)                                            \
    do {                                                           \
        if (!(condition)) {                                        \
            printf("failed: %s, line %d\n", #condition, __LINE__); \
            return 1;                                              \
        }                                                          \
    } while (0)

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
    return 0;
}

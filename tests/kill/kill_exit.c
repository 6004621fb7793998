/* kill_exit.c - one end of a process, chosen by its arguments, for check.sh. It sends itself the
 * signal: kill_exit INT|TERM|HUP|group [code|take], call, twice, fork, exec. group: SIGINT to
 * all of its process group, as a terminal does. 4: the signal was ignored.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define TWILL_IMPLEMENTATION
#include "twill_graceful_shutdown.h"

extern int kill(pid_t, int); /* hidden by -std=c11 */

static int number_of(const char *name)
{
    return !strcmp(name, "INT") ? SIGINT : !strcmp(name, "HUP") ? SIGHUP : SIGTERM;
}

/* Presses twice from a child while this process computes: 143 by the second. */
static void press_twice(void)
{
    pid_t me = getpid();
    if (fork() == 0) {
        kill(me, SIGTERM);
        do { /* what reaches a busy machine late may count as the first one's echo */
            (void)twill_sleep(twill_within(TWILL_MS(300)));
            kill(me, SIGTERM);
        } while (getppid() == me);
        _exit(0);
    }
    for (;;)
        twill__pause();
}

/* Returns when the shell that started this process sleeps: before, it would not yet know that it
   waits for a program, and die of the signal itself. */
static void parent_waits(void)
{
    char path[64], state = 'R';
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)getppid());
    for (int round = 0; round < 1000 && state != 'S'; round++) {
        FILE *file;
        (void)twill_sleep(twill_within(TWILL_MS(5)));
        file = fopen(path, "r");
        if (!file || fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
            state = 'R';
        if (file)
            fclose(file);
    }
}

/* A child that got the signal: 0 if it ended as `want`, a wait status, says. */
static int child_ends(twill_shutdown *stop, bool execs, int want)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        if (execs)
            execl("/bin/sh", "sh", "-c", "kill -TERM $$; exit 5", (char *)NULL);
        raise(SIGTERM);
        _exit(twill_shutdown_requested(stop) ? 6 : 7);
    }
    waitpid(child, &status, 0);
    return status != want || twill_shutdown_requested(stop);
}

int main(int argc, char **argv)
{
    static const int all[] = {SIGINT, SIGTERM, SIGHUP};
    const char *what = argc > 1 ? argv[1] : "", *how = argc > 2 ? argv[2] : "";
    twill_shutdown *stop;
    if (twill_shutdown_create(
            &stop, &(twill_shutdown_options){.signals = all,
                                             .signal_count = 3,
                                             .exit_code = !strcmp(how, "code"),
                                             .take_ignored = !strcmp(how, "take")}) != TWILL_OK)
        return 90;
    if (!strcmp(what, "twice")) {
        press_twice();
    } else if (!strcmp(what, "fork")) {
        return child_ends(stop, false, 7 << 8);
    } else if (!strcmp(what, "exec")) {
        return child_ends(stop, true, SIGTERM);
    } else if (!strcmp(what, "call")) {
        twill_shutdown_request(stop, SIGTERM);
    } else if (!strcmp(what, "group")) {
        parent_waits();
        kill(0, SIGINT);
    } else {
        raise(number_of(what));
    }
    for (int k = 0; k < (strcmp(what, "group") ? 4 : 4000) && !twill_shutdown_requested(stop); k++)
        (void)twill_sleep(twill_within(TWILL_MS(5))); /* it may take another thread first */
    if (!twill_shutdown_requested(stop))
        return 4;
    (void)twill_shutdown_finish(stop, NULL);
    twill_shutdown_exit(stop, 3);
}

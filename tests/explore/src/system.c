/* system.c: the rest of the system, as the program under test meets it: a machine of `cpus`
   processors without cgroups, a quiet terminal. */
#include "explorer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static long error(int number)
{
    self()->error = number;
    return -1;
}

/* ---- system calls ---- */

static long get_affinity(size_t size, unsigned char *mask)
{
    size_t used = size < 128 ? size : 128;

    touch((uintptr_t)mask, used, true, PC);
    memset(mask, 0, used);
    for (int i = 0; i < x.cpus && (size_t)i < 8 * used; i++)
        mask[i / 8] |= (unsigned char)(1 << i % 8);
    return (long)used;
}

EXPORT long explore_syscall(long number, ...)
{
    long a[4];
    va_list list;
    char text[100];

    va_start(list, number);
    for (int i = 0; i < 4; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    switch (number) {
    case SYS_futex:
        return futex((uint32_t *)a[0], (int)a[1], (uint32_t)a[2], (const struct timespec *)a[3],
                     PC);
    case SYS_membarrier:
        return membarrier((int)a[0], PC);
    case SYS_sched_getaffinity:
        return get_affinity((size_t)a[1], (unsigned char *)a[2]);
    case SYS_sched_setaffinity:
        return 0;
    case SYS_gettid:
        return x.pid + x.current;
    default:
        snprintf(text, sizeof text, "system call %ld is not known to the explorer", number);
        limit(text);
    }
}

EXPORT long explore_sysconf(int name)
{
    return name == _SC_NPROCESSORS_ONLN || name == _SC_NPROCESSORS_CONF ? x.cpus : sysconf(name);
}

EXPORT int explore_prctl(int operation, ...)
{
    (void)operation;
    return 0;
}

EXPORT int explore_getpid(void)
{
    return x.pid;
}

/* ---- numbers as if by chance: the same ones in each run ---- */

static struct {
    uint32_t run;
    uint64_t state;
} numbers;

EXPORT void explore_srand(unsigned seed)
{
    point();
    step_on(&numbers, true, 4);
    numbers.run = x.run;
    numbers.state = seed;
}

EXPORT void explore_srandom(unsigned seed) __attribute__((alias("explore_srand")));

EXPORT int explore_rand(void)
{
    uint64_t z;

    point();
    step_on(&numbers, true, 4);
    if (numbers.run != x.run) {
        numbers.run = x.run;
        numbers.state = 1;
    }
    z = numbers.state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 32) * UINT64_C(0xd6e8feb86659fd93);
    z = (z ^ z >> 32) * UINT64_C(0xd6e8feb86659fd93);
    z >>= 33;
    trace("rand", NULL, 0, z, NO_ORDER, false, PC);
    return (int)z;
}

EXPORT long explore_random(void)
{
    return explore_rand();
}

/* ---- files and output ---- */

/* What describes the machine is not there; other files are the program's own business. */
EXPORT FILE *explore_fopen(const char *path, const char *mode)
{
    if (strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/sys/", 5) == 0) {
        self()->error = ENOENT;
        return NULL;
    }
    return fopen(path, mode);
}

EXPORT FILE *explore_fopen64(const char *path, const char *mode)
    __attribute__((alias("explore_fopen")));

/* It waits for whoever types, and has another answer in the next run. */
static void not_from_stdin(FILE *file, const char *call)
{
    char text[100];

    if (file != stdin)
        return;
    snprintf(text, sizeof text, "%s reads standard input, which the explorer does not know", call);
    limit(text);
}

EXPORT char *explore_fgets(char *line, int size, FILE *file)
{
    not_from_stdin(file, "fgets");
    return fgets(line, size, file);
}

EXPORT size_t explore_fread(void *items, size_t size, size_t count, FILE *file)
{
    not_from_stdin(file, "fread");
    return fread(items, size, count, file);
}

static bool silent(FILE *file)
{
    return (file == stdout || file == stderr) && !x.show_output;
}

EXPORT int explore_vfprintf(FILE *file, const char *format, va_list list)
{
    not_in_handler("printf");
    return silent(file) ? 0 : vfprintf(file, format, list);
}

EXPORT int explore_fprintf(FILE *file, const char *format, ...)
{
    va_list list;
    int count;

    va_start(list, format);
    count = explore_vfprintf(file, format, list);
    va_end(list);
    return count;
}

EXPORT int explore_printf(const char *format, ...)
{
    va_list list;
    int count;

    va_start(list, format);
    count = explore_vfprintf(stdout, format, list);
    va_end(list);
    return count;
}

EXPORT int explore_vprintf(const char *format, va_list list)
{
    return explore_vfprintf(stdout, format, list);
}

EXPORT int explore_fputs(const char *text, FILE *file)
{
    not_in_handler("fputs");
    return silent(file) ? 0 : fputs(text, file);
}

EXPORT int explore_puts(const char *text)
{
    not_in_handler("puts");
    return silent(stdout) ? 0 : puts(text);
}

EXPORT int explore_fputc(int c, FILE *file)
{
    return silent(file) ? c : fputc(c, file);
}

EXPORT int explore_putc(int c, FILE *file) __attribute__((alias("explore_fputc")));

EXPORT int explore_putchar(int c)
{
    return silent(stdout) ? c : putchar(c);
}

EXPORT size_t explore_fwrite(const void *data, size_t size, size_t count, FILE *file)
{
    touch((uintptr_t)data, size * count, false, PC);
    return silent(file) ? count : fwrite(data, size, count, file);
}

EXPORT void explore_perror(const char *text)
{
    (void)text;
}

EXPORT int explore_isatty(int fd)
{
    (void)fd;
    self()->error = ENOTTY;
    return 0;
}

EXPORT int explore_tcgetpgrp(int fd)
{
    (void)fd;
    return (int)error(ENOTTY);
}

EXPORT int explore_ioctl(int fd, unsigned long request, ...)
{
    (void)fd, (void)request;
    return (int)error(ENOTTY);
}

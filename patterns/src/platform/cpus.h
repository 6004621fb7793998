/* cpus.h: how many CPUs this process may use: affinity mask, then the cgroup's quota rounded down,
   at least 1. */
#ifndef TWILL__PLATFORM_CPUS_H
#define TWILL__PLATFORM_CPUS_H

#include "platform/threads.h"

#include <stdio.h>

#ifndef TWILL__SYSTEM_ROOT
#define TWILL__SYSTEM_ROOT "" /* tests put a folder of their own before /proc and /sys */
#endif

#ifdef __linux__
#define TWILL__PATH 1024
#define TWILL__READ "re" /* e: close on exec */

static inline bool twill__read_line(const char *path, const char *name, char *line, int size)
{
    char full[TWILL__PATH];
    FILE *file;
    bool got;
    int length = snprintf(full, sizeof full, "%s%s%s", TWILL__SYSTEM_ROOT, path, name);
    if (length < 0 || length >= (int)sizeof full)
        return false;
    file = fopen(full, TWILL__READ);
    if (!file)
        return false;
    got = fgets(line, size, file) != NULL;
    fclose(file);
    return got;
}

/* quota / period in whole CPUs; 0: no limit */
static inline unsigned twill__quota(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return 0;
    quota /= period;
    return quota < 1 ? 1 : quota > INT_MAX ? INT_MAX : (unsigned)quota;
}

static inline unsigned twill__fewer(unsigned a, unsigned b)
{
    return !a ? b : !b ? a : a < b ? a : b;
}

/* One folder of a cgroup: v2 has "quota|max period" in cpu.max, v1 two files (-1: no limit). */
static inline unsigned twill__cgroup_folder(const char *folder, bool v2)
{
    char line[128];
    long long quota, period;
    if (v2)
        return twill__read_line(folder, "/cpu.max", line, sizeof line) &&
                       sscanf(line, "%lld %lld", &quota, &period) == 2
                   ? twill__quota(quota, period)
                   : 0;
    if (!twill__read_line(folder, "/cpu.cfs_quota_us", line, sizeof line) ||
        sscanf(line, "%lld", &quota) != 1)
        return 0;
    if (!twill__read_line(folder, "/cpu.cfs_period_us", line, sizeof line) ||
        sscanf(line, "%lld", &period) != 1)
        return 0;
    return twill__quota(quota, period);
}

/* The tightest limit from `path` up to the root of the hierarchy: a limit above binds too. */
static inline unsigned twill__cgroup_walk(const char *mount, const char *path, bool v2)
{
    char folder[TWILL__PATH];
    unsigned least = 0;
    size_t root = strlen(mount);
    int length = snprintf(folder, sizeof folder, "%s%s", mount, strcmp(path, "/") == 0 ? "" : path);
    if (length < 0 || length >= (int)sizeof folder)
        return 0;
    for (;;) { /* ends: the path gets shorter each time */
        char *slash;
        least = twill__fewer(least, twill__cgroup_folder(folder, v2));
        slash = strrchr(folder, '/'); /* the mount has one, at least */
        if ((size_t)(slash - folder) < root)
            return least;
        *slash = '\0';
    }
}

/* Whether the comma-separated controller list holds "cpu". */
static inline bool twill__has_cpu(const char *list, const char *end)
{
    while (list < end) {
        const char *comma = list;
        while (comma < end && *comma != ',')
            comma++;
        if (comma - list == 3 && memcmp(list, "cpu", 3) == 0)
            return true;
        list = comma + 1;
    }
    return false;
}

/* Lines of /proc/self/cgroup: "id:controllers:path"; v2 has no controllers. In a container the path
   may be the host's and not exist here: the walk then finds the root's files, which are the
   container's. */
static inline unsigned twill__cgroup_cpus(void)
{
    char line[TWILL__PATH];
    unsigned least = 0;
    FILE *file = fopen(TWILL__SYSTEM_ROOT "/proc/self/cgroup", TWILL__READ);
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file)) {
        char *controllers = strchr(line, ':'), *path;
        if (!controllers || !(path = strchr(controllers + 1, ':')))
            continue;
        line[strcspn(line, "\n")] = '\0';
        controllers++;
        if (path == controllers) {
            least = twill__fewer(least, twill__cgroup_walk("/sys/fs/cgroup", path + 1, true));
        } else if (twill__has_cpu(controllers, path)) {
            least = twill__fewer(least,
                                 twill__cgroup_walk("/sys/fs/cgroup/cpu,cpuacct", path + 1, false));
            least = twill__fewer(least, twill__cgroup_walk("/sys/fs/cgroup/cpu", path + 1, false));
        }
    }
    fclose(file);
    return least;
}

static inline unsigned twill__affinity_cpus(void)
{
    unsigned long mask[1024] = {0}; /* 65536 CPUs */
    unsigned count = 0;
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    for (long i = 0; i < bytes / (long)sizeof mask[0]; i++)
        for (unsigned long bits = mask[i]; bits; bits &= bits - 1)
            count++;
    return count;
}
#else
static inline unsigned twill__affinity_cpus(void)
{
#if defined _SC_NPROCESSORS_ONLN
    long count = sysconf(_SC_NPROCESSORS_ONLN);
#elif defined __MINGW32__
    long count = pthread_num_processors_np();
#else
    long count = 1;
#endif
    return count < 1 ? 1 : (unsigned)count;
}

static inline unsigned twill__cgroup_cpus(void)
{
    return 0;
}
#endif

/* Asks the system, and remembers the answer for twill__cpus_hint. Not from a thread that is bound
   to a CPU: Linux answers for the calling thread. */
static inline unsigned twill__cpus_now(void)
{
    int saved = errno;
    unsigned count = twill__affinity_cpus(), limit = twill__cgroup_cpus();
    if (count == 0)
        count = 1;
    if (limit && limit < count)
        count = limit;
    errno = saved;
    /* a number, no data behind it */
    atomic_store_explicit(&twill__process()->cpus, count, memory_order_relaxed);
    return count;
}

/* The last answer, for hot paths: no system call but the first time. */
static inline unsigned twill__cpus_hint(void)
{
    /* as above */
    unsigned count = atomic_load_explicit(&twill__process()->cpus, memory_order_relaxed);
    return count ? count : twill__cpus_now();
}

#endif

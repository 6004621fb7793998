/* Compiled twice into one program, each with its own copy of the functions: NAME defines a call,
   and the file that knows OTHER also has main. */
#define TWILL_STATIC
#include "twill_parallel_map.h"

#include <stdio.h>

#define JOIN2(a, b) a##_##b
#define JOIN(a, b)  JOIN2(a, b)

struct seen {
    size_t sum;
    const void *thread, *process;
};
struct seen JOIN(run, NAME)(size_t n);

static int item(const void *in, void *out, const twill_task *task)
{
    (void)task;
    *(size_t *)out = *(const size_t *)in + 1;
    return 0;
}

struct seen JOIN(run, NAME)(size_t n)
{
    size_t in[100], out[100];
    struct seen seen = {0, twill__thread(), twill__process()};

    for (size_t i = 0; i < n; i++)
        in[i] = i;
    if (twill_parallel_map(in, sizeof *in, out, sizeof *out, n, item, NULL) != TWILL_OK)
        return seen;
    for (size_t i = 0; i < n; i++)
        seen.sum += out[i];
    return seen;
}

#ifdef OTHER
struct seen JOIN(run, OTHER)(size_t n);

int main(void)
{
    struct seen mine = JOIN(run, NAME)(100), other = JOIN(run, OTHER)(50);

    printf("%zu %zu %d %d\n", mine.sum, other.sum, mine.thread == other.thread,
           mine.process == other.process);
    return !(mine.sum == 5050 && other.sum == 1275 && mine.thread == other.thread &&
             mine.process == other.process);
}
#endif

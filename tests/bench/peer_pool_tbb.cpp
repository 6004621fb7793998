// oneTBB: a task_group; for futures, since one waits for all of a group, a group each.
// usage: peer_pool_tbb outside n | inside k | futures n
#include <tbb/task_group.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

static void futures(char *marks, long n)
{
    static tbb::task_group groups[1000];
    for (long i = 0; i < n; i += 1000) {
        long m = n - i < 1000 ? n - i : 1000;
        for (long k = 0; k < m; k++) {
            char *mark = marks + i + k;
            groups[k].run([mark] { *mark = 1; });
        }
        for (long k = 0; k < m; k++)
            groups[k].wait();
    }
}

int main(int argc, char **argv)
{
    long n = argc > 2 ? std::atol(argv[2]) : 1000;
    bool inside = argc > 1 && std::strcmp(argv[1], "inside") == 0;
    std::vector<char> marks(static_cast<std::size_t>(inside ? n * n : n));
    tbb::task_group group;
    group.run_and_wait([] {});
    auto start = std::chrono::steady_clock::now();
    if (argc > 1 && std::strcmp(argv[1], "futures") == 0)
        futures(marks.data(), n);
    else
        for (long i = 0; i < n; i++) {
            char *mark = &marks[static_cast<std::size_t>(inside ? i * n : i)];
            if (inside)
                group.run([&group, mark, n] {
                    for (long k = 0; k < n; k++)
                        group.run([mark, k] { mark[k] = 1; });
                });
            else
                group.run([mark] { *mark = 1; });
        }
    group.wait();
    std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
    for (char mark : marks)
        if (!mark) {
            std::fputs("WRONG RESULT: tasks\n", stderr);
            return 3;
        }
    std::printf("ns/task %.3f\n", took.count() / static_cast<double>(marks.size()));
    return 0;
}

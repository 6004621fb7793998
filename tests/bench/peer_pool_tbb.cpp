// oneTBB: a task_group. usage: peer_pool_tbb outside n | inside k
#include <tbb/task_group.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

int main(int argc, char **argv)
{
    long n = argc > 2 ? std::atol(argv[2]) : 1000;
    bool inside = argc > 1 && std::strcmp(argv[1], "inside") == 0;
    std::vector<char> marks(static_cast<std::size_t>(inside ? n * n : n));
    tbb::task_group group;
    group.run_and_wait([] {});
    auto start = std::chrono::steady_clock::now();
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

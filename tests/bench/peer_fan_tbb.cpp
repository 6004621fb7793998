// oneTBB: a task_group whose tasks push into a concurrent_bounded_queue; one thread adds up.
// usage: peer_fan_tbb tasks steps
#include "bench.h"
#include <tbb/concurrent_queue.h>
#include <tbb/global_control.h>
#include <tbb/task_group.h>
#include <thread>

int main(int argc, char **argv)
{
    const uint64_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000;
    const uint32_t steps = argc > 2 ? (uint32_t)atoi(argv[2]) : 0;
    tbb::global_control threads(tbb::global_control::max_allowed_parallelism, bench_threads());
    tbb::concurrent_bounded_queue<uint64_t> results;
    uint64_t sum = 0;
    const int64_t start = bench_now();
    std::thread producer([&] {
        tbb::task_group group;
        for (uint64_t i = 1; i <= n; i++)
            group.run([&results, i, steps] { results.push(bench_work(i, steps) ? i : 1); });
        group.wait();
    });
    for (uint64_t k = 0; k < n; k++) {
        uint64_t value;
        results.pop(value);
        sum += value;
    }
    producer.join();
    const int64_t took = bench_now() - start;
    if (sum != n * (n + 1) / 2)
        bench_wrong("fan", (size_t)sum);
    bench_report("ns/task", (double)took / (double)n);
    return 0;
}

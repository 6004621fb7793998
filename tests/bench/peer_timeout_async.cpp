// What C++ programs do: std::async with a thread a call, wait_until. The future of std::async waits
// for its thread when it goes, so that a call would not return at its deadline: it is kept.
#include "bench_timeout.h"

#include <chrono>
#include <future>
#include <list>

static std::list<std::future<int64_t>> stragglers;

static int timeout_call(int64_t in, int64_t *out, int64_t deadline_ns)
{
    auto deadline = std::chrono::steady_clock::now() + std::chrono::nanoseconds(deadline_ns);
    std::future<int64_t> future = std::async(std::launch::async, bench_task, in);
    if (future.wait_until(deadline) == std::future_status::ready) {
        *out = future.get();
        return 1;
    }
    stragglers.push_back(std::move(future));
    return 0;
}

int main(int argc, char **argv)
{
    return bench_timeout_main(argc, argv);
}

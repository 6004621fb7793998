// The declarations are C++: objects are made, calls are made, a callback is a C++ lambda without captures.
#include "twill_parallel_map.h"
#include "twill_parallel_map.h"

#include <cstdio>
#include <cstring>
#include <vector>

TWILL_DEFINE_MAP(doubled, int, long, x, 2L * x)
TWILL_DEFINE_REDUCE(sum_doubled, int, long, x, 2L * x, a, b, a + b, 0)
TWILL_DEFINE_SCAN(running_sums, long, a, b, a + b)
TWILL_DEFINE_FILTER(keep_even, long, x, x % 4 == 0)
TWILL_DEFINE_FIND(first_above, long, x, x > *static_cast<const long *>(task->context))
TWILL_DEFINE_SORT(sort_down, long, a, b, a > b)
// Pointers.
TWILL_DEFINE_MAP(without_first, const char *, const char *, x, x + 1)
TWILL_DEFINE_REDUCE(last_word, const char *, const char *, x, x, a, b, std::strcmp(a, b) > 0 ? a : b, nullptr)
TWILL_DEFINE_SCAN(last_so_far, const char *, a, b, std::strcmp(a, b) > 0 ? a : b)
TWILL_DEFINE_FILTER(keep_long, char *, x, std::strlen(x) > 2)
TWILL_DEFINE_FIND(first_short, char *, x, std::strlen(x) < 3)
TWILL_DEFINE_SORT(sort_words, const char *, a, b, std::strcmp(a, b) < 0)

int main()
{
    std::vector<int> in(1000), out(1000);
    for (std::size_t i = 0; i < in.size(); i++)
        in[i] = static_cast<int>(i);
    twill_cancel cancel = {};
    twill_report report = {};
    twill_parallel_options options = {};
    options.run.until = twill_within_or_cancelled(TWILL_SEC(20), &cancel);
    options.run.report = &report;
    twill_status status = twill_parallel_map(
        in.data(), sizeof in[0], out.data(), sizeof out[0], in.size(),
        [](const void *item, void *result, const twill_task *) {
            *static_cast<int *>(result) = 2 * *static_cast<const int *>(item);
            return 0;
        },
        &options);
    bool right = status == TWILL_OK && report.done == in.size();
    for (std::size_t i = 0; i < in.size(); i++)
        right = right && out[i] == 2 * in[i];
    std::vector<long> more(1000);
    std::size_t at = 0, kept = 0;
    long sum = 0, limit = 998;
    twill_parallel_options with_limit = {};
    with_limit.run.context = &limit;
    right = right && doubled(in.data(), more.data(), more.size(), nullptr) == TWILL_OK &&
            sort_down(more.data(), more.size(), nullptr) == TWILL_OK;
    for (std::size_t i = 0; i < more.size(); i++)
        right = right && more[i] == 2 * static_cast<long>(999 - i);
    right = right && sum_doubled(in.data(), in.size(), &sum, nullptr) == TWILL_OK && sum == 999000 &&
            keep_even(more.data(), more.size(), more.data(), &kept, nullptr) == TWILL_OK &&
            kept == 500 && more[1] == 1992 &&
            running_sums(more.data(), more.data(), 2, nullptr, nullptr) == TWILL_OK &&
            more[1] == 1996 + 1992 &&
            first_above(more.data(), kept, &at, &with_limit) == TWILL_OK && at == 0;
    const char *words[] = {"weft", "bobbin", "warp"}, *last = nullptr;
    char a[] = "heddle", b[] = "at", *texts[] = {a, b};
    right = right && sort_words(words, 3, nullptr) == TWILL_OK && !std::strcmp(words[0], "bobbin") &&
            last_word(words, 3, &last, nullptr) == TWILL_OK && last == words[2] &&
            last_so_far(words, words, 3, nullptr, nullptr) == TWILL_OK && words[2] == last &&
            without_first(words, words, 3, nullptr) == TWILL_OK && words[2] == last + 1 &&
            first_short(texts, 2, &at, nullptr) == TWILL_OK && at == 1 &&
            keep_long(texts, 2, texts, &kept, nullptr) == TWILL_OK && kept == 1 && texts[0] == a;
    if (!right)
        std::printf("wrong: %s\n", twill_status_text(status));
    return right ? 0 : 1;
}

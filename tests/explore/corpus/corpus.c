/* corpus.c: runs the case that its argument names, or a program of any.c by its number. */
#include "corpus.h"

int main(int count, char **list)
{
    const struct corpus_case *const all[] = {litmus_cases, lock_cases,   memory_cases,
                                             order_cases,  good_cases,   linear_cases,
                                             system_cases, defect_cases, posix_cases};

    assert(count == 2);
    if (list[1][0] >= '0' && list[1][0] <= '9')
        return any_program(atoi(list[1]));
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        for (const struct corpus_case *c = all[i]; c->name; c++)
            if (strcmp(c->name, list[1]) == 0)
                return c->run();
    abort();
}

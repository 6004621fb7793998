/* twill.c: the code of all headers, compiled once, with hooks for faults. The tests that neither
   look inside nor replace a part are linked to it, and what the checks make of the examples and
   snippets, which have their own taken out. */
#include "faults.h"

#include <stdlib.h>

static int never(void)
{
    return 0;
}

void *(*test_allocates)(size_t size) = malloc;
void (*test_frees)(void *block) = free;
int (*test_thread_fails)(void) = never;

#define TWILL_IMPLEMENTATION
#include "twill.h"

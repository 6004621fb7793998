/* The allocator of a user whose headers are compiled with my_malloc.h. */
#include "my_malloc.h"

#include <stdlib.h>

void *my_malloc(size_t size)
{
    return malloc(size);
}

void my_free(void *block)
{
    free(block);
}

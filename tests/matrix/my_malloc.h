/* Stands in front of a header: the allocator of a user. */
#include <stddef.h>
void *my_malloc(size_t size);
void my_free(void *block);

/* tsan.c: the entry points that `cc -fsanitize=thread -c` calls at plain accesses. The atomic ones
   stand in memory.c. */
#include "explorer.h"

#define PLAIN_ACCESS(name, size, writes)                               \
    EXPORT void __tsan_##name##size(void *address);                    \
    EXPORT void __tsan_##name##size(void *address)                     \
    {                                                                  \
        if (size > 8)                                                  \
            touch((uintptr_t)address, size, writes, PC);               \
        else if (writes)                                               \
            touch_write((uintptr_t)address, (1u << size % 9) - 1, PC); \
        else                                                           \
            touch_read((uintptr_t)address, (1u << size % 9) - 1, PC);  \
    }

#define PLAIN(size)                           \
    PLAIN_ACCESS(read, size, false)           \
    PLAIN_ACCESS(write, size, true)           \
    PLAIN_ACCESS(unaligned_read, size, false) \
    PLAIN_ACCESS(unaligned_write, size, true) \
    PLAIN_ACCESS(volatile_read, size, false)  \
    PLAIN_ACCESS(volatile_write, size, true)  \
    PLAIN_ACCESS(read_write, size, true)      \
    PLAIN_ACCESS(unaligned_read_write, size, true)

PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

EXPORT void __tsan_read_range(void *address, size_t size);
EXPORT void __tsan_read_range(void *address, size_t size)
{
    touch((uintptr_t)address, size, false, PC);
}

EXPORT void __tsan_write_range(void *address, size_t size);
EXPORT void __tsan_write_range(void *address, size_t size)
{
    touch((uintptr_t)address, size, true, PC);
}

EXPORT void __tsan_init(void);
EXPORT void __tsan_init(void)
{
}

EXPORT void __tsan_func_entry(void *caller);
EXPORT void __tsan_func_entry(void *caller)
{
    (void)caller;
}

EXPORT void __tsan_func_exit(void);
EXPORT void __tsan_func_exit(void)
{
}

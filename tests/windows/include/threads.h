/* threads.h: what the tests name of it, for a C library that lacks it. */
#include <pthread.h>
#define thrd_exit(code) pthread_exit(NULL)

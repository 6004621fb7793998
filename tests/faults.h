/* faults.h: where the code that tests share (twill.c) asks for memory and threads. A test sets
   these before it calls anything of twill; else they are what the headers use by themselves. */
#ifndef TWILL_FAULTS_H
#define TWILL_FAULTS_H

#include <stddef.h>

extern void *(*test_allocates)(size_t size);
extern void (*test_frees)(void *block);
extern int (*test_thread_fails)(void);

#define TWILL_MALLOC(size)   test_allocates(size)
#define TWILL_FREE(block)    test_frees(block)
#define TWILL__FAIL_THREAD() test_thread_fails()

#endif

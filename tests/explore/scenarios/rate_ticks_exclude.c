/* As rate_exclude.c, by ticks. */
#define TWILL__TEMPO 1
#include "rate_exclude.c"

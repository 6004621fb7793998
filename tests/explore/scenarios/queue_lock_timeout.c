/* queue_timeout.c on the lock engine. */
#define QUEUE_ENGINE TWILL_ENGINE_LOCK
#include "queue_timeout.c"

/* queue_destroy.c on the lock engine. */
#define QUEUE_ENGINE TWILL_ENGINE_LOCK
#include "queue_destroy.c"

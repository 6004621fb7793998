/* queue_close.c on the lock engine. */
#define QUEUE_ENGINE TWILL_ENGINE_LOCK
#include "queue_close.c"

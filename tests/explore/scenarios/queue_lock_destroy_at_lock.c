/* queue_destroy_at_lock.c on the lock engine. */
#define QUEUE_ENGINE TWILL_ENGINE_LOCK
#include "queue_destroy_at_lock.c"

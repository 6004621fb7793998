/* queue_select.c on the lock engine. */
#define QUEUE_ENGINE TWILL_ENGINE_LOCK
#include "queue_select.c"

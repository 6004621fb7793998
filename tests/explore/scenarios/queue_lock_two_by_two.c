/* queue_two_by_two.c on the lock engine.
   EXPLORE-TREE: --preemptions=2 --stale=1 --faults=0 */
#define QUEUE_ENGINE TWILL_ENGINE_LOCK
#include "queue_two_by_two.c"

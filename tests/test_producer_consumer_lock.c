/* All tests of the queue on the lock engine, which is the ring's oracle. */
#define TEST_ENGINE TWILL_ENGINE_LOCK
#include "test_producer_consumer.c"

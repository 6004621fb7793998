/* EXPLORE-FLAGS: -UTWILL__SPIN -DTWILL__SPIN=1
   EXPLORE: --polling
   The lock as in cancel_lock, by threads that spin for it before they sleep: who takes it in a spin
   sees what its last holder wrote, and is no thread that waits. */
#include "cancel_lock.c"

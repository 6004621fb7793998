/* As shutdown_actions, and what came before a signal is seen by the call that serves it, with no
   more help than that. */
#define ORDER memory_order_relaxed
#include "shutdown_actions.c"

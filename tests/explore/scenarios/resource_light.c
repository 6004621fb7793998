/* As resource_desk.c, where returns at the desk are light from the first one on: without a
   compare-and-swap, against who takes the cells away with a heavy fence. */
#define TWILL__DESK_REST  1
#define TWILL__DESK_ALONE false
#include "resource_desk.c"

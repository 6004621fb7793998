/* EXPLORE: --polling --whole-copies
   Any reduce, filter, find, scan or sort, as algorithms_any draws it; in one of the callbacks the
   process forks, as in parallel_fork_any. In the child a call whose caller is left returns, and
   says OK only for the serial loop's result.
   Whole copies: the caller sums up in the child what others may have been writing.
   EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#define FORKS 1
#include "algorithms_any.c"

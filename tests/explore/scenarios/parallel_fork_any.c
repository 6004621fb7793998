/* EXPLORE: --polling --whole-copies
   Any loop, as parallel_any draws it, in one item of which the process forks, on whatever thread it
   is, at whatever depth, and goes on as the parent or as the child. The parent notices nothing. In
   the child the calls around that item return, if their caller is its thread: no item runs twice,
   the report adds up and claims nothing that was not done, and OK means all of it; other calls made
   there work, and the token, the pool and all else can be ended.
   Whole copies: the caller sums up in the child what others may have been writing.
   EXPLORE-FLAGS: -DTWILL__SPIN=0 -DTWILL__TICKS=0 */
#define FORKS 1
#include "parallel_any.c"

/* EXPLORE-FLAGS: -UTWILL__SPIN -DTWILL__SPIN=1
   EXPLORE: --polling
   EXPLORE-BACKENDS: futex
   As team_two_meetings, by workers that spin for calls before they sleep: they read a seat's hints
   while its owner changes them, stand back from calls of few items, and a call that counts on one
   of them wakes nobody. */
#include "team_two_meetings.c"

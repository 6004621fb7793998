/* proof: is what a run found what the plain loop found? */
#ifndef CRUNCH_PROOF_H
#define CRUNCH_PROOF_H
#include "measure.h"

/* How a pass ends, beside -1: trouble. */
enum { DONE = 0, CHANGED = 1 /* files did, meanwhile */, STOPPED = 2 };

/* Ends the measuring: says why, and returns -1. */
int give_up(struct measurement *m, const char *why);

/* DONE: equal to the reference; CHANGED: files changed meanwhile, see `leave`; -1: trouble. */
int prove(struct measurement *m, const struct counts *counts, const struct names *names,
          bool *leave);
/* Likewise; also that no file is missing, none is out of order, and what was gathered is right. */
int prove_flow(struct measurement *m, const struct flow *flow, bool *leave);

#endif

/* report: what was found, as text. */
#ifndef CRUNCH_REPORT_H
#define CRUNCH_REPORT_H
#include "measure.h"

/* A line on stderr; returns `status`. name and why may be NULL. */
int complain(int status, const char *what, const char *name, const char *why);

void report_corpus(const struct measurement *m);
void report_pipeline(const struct measurement *m); /* of the first reading */
void report_runs(const struct measurement *m);
void report_findings(const struct measurement *m);
void report_list(const struct measurement *m);
size_t report_problems(const struct measurement *m); /* on stderr; how many */

#endif

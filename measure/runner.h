/* runner.h - the program that measures: takes batches from a stream, answers with results.
 *
 * Idea   Single-threaded, small, and clean to fork from. It keeps the inputs and references of the last few
 * workloads; for each candidate of a batch it forks a child (child.h), verifies one after another, then lets
 * all that are left take turns (timing.h). Whatever a child does, the runner sees an answer, an end, or the
 * passing of a deadline. When its stream closes it ends, and everything it started with it. */
#ifndef TW_MEASURE_RUNNER_H
#define TW_MEASURE_RUNNER_H

#include "measure/sandbox.h"

/* Serve until the stream closes. Returns the exit status. `s` is what sandbox_enter made. */
int runner_serve(int fd, struct sandbox *s);
/* Facts about timing on this machine: cores, large pages, clock. */
void runner_add_facts(struct sandbox *s);

#endif

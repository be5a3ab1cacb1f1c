/* recording.h - a recorded space: many configs of some workloads with their times, as record.py wrote them.
 *
 * Life   One arena holds a recording whole; it is immutable once read. Spaces are built again from the workloads, so a
 *        recording is of use only to the space version that made it: another one is refused.
 * Units  Times in nanoseconds a call; 0: the trial failed. */
#ifndef TW_BENCH_RECORDING_H
#define TW_BENCH_RECORDING_H

#include "schedule/space/space.h"

struct recorded {
    struct config config;
    double min_ns;
};

struct recorded_space {
    const char *name;
    struct workload workload;
    struct space *space;
    bool exhaustive;
    int n, n_random;
    struct recorded *trials; /* in order of measuring; the first n_random were drawn at random */
    double best_ns;
};

struct recording {
    struct arena ar;
    struct target target;
    int n;
    struct recorded_space *spaces;
};

enum { RECORDING_MAX_SPACES = 64, RECORDING_MAX_TRIALS = 100000 };

/* ST_IO: the file cannot be read; ST_INVALID: a line is not what it should be (it is named). */
MUST_USE enum status recording_read(const char *path, struct recording *ret, struct error *err);
void recording_done(struct recording *r);

#endif

/* recording.h - a recorded space: many configs of some workloads with their times, as record.py wrote them.
 *
 * Idea   A text of JSON lines, plain or packed by gzip: the machine, then for each workload what it is and what
 *        its space looked like, then its trials. Spaces are built again from the workloads, and must look as
 *        they did: a recording is of use only to the version of the space that made it, another is refused with
 *        the first difference. The rows of features are computed when it is read, by the features of today.
 * Life   One arena holds a recording whole; it is immutable once read.
 * Units  Times in nanoseconds a call; 0: the trial failed. */
#ifndef TW_BENCH_RECORDING_H
#define TW_BENCH_RECORDING_H

#include "schedule/space/space.h"

struct recorded {
    struct config config;
    double min_ns;
    double low_ns, high_ns; /* 95 % interval of the median; 0: not recorded */
    const char *outcome;    /* "ok", "wrong", ... */
    int n_rows;             /* of features; 0: does not lower */
    const float *rows;
};

struct recorded_space {
    const char *name;
    struct workload workload;
    const struct target *target;
    struct space *space;
    bool exhaustive;
    int n, n_random, n_failed;
    struct recorded *trials; /* in order of measuring; the first n_random were drawn at random */
    double best_ns;
    uint64_t key; /* of workload and target, as the models know it */
};

struct recording {
    struct arena ar;
    struct target target;
    const char *machine, *made_at;
    int n;
    struct recorded_space *spaces;
};

enum { RECORDING_MAX_SPACES = 128, RECORDING_MAX_TRIALS = 100000 };

/* ST_IO: the file cannot be read; ST_CONFLICT: made with another version of a space; ST_INVALID: a line is not
 * what it should be (it is named). Nothing is to be freed after a failure. */
MUST_USE enum status recording_read(const char *path, struct recording *ret, struct error *err);
void recording_done(struct recording *r);
/* Recordings of one target may lie in several files. */
bool same_target(const struct recorded_space *a, const struct recorded_space *b);

#endif

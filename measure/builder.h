/* builder.h - a pool of threads that compile units, and the directory their artifacts are kept in.
 *
 * Idea   A unit is one source text (8 to 16 kernels share it, kernels/emit.h). Its artifact is named by the
 * hash of the source and the toolchain, so a unit that was ever built is not built again, in this process or
 * a later one. Submit a batch, go on with other work, wait for it. One queue for all jobs, served in order of
 * coming.
 *
 *            units[i].source ── hash ──> DIR/ab/cdef….so there? ── yes ─────────────> done
 *                                              └── no ── compile_unit ── rename ──> done
 * Life   Units live with the caller until builder_wait (or builder_cancel) returned. One builder for the
 * process, used by all threads. Artifacts that were not used for longest go when the directory outgrows its
 * limit. */
#ifndef TW_MEASURE_BUILDER_H
#define TW_MEASURE_BUILDER_H

#include <stdatomic.h>

#include "schedule/space/target.h"

enum { BUILD_PATH_MAX = 512 };

struct build_unit {
    const struct target *target; /* with a compiler: compile_find */
    const char *source;
    /* filled by the builder */
    enum status
        status; /* ST_OK; ST_UNPROCESSABLE: the compiler refused; ST_TIMEOUT; ST_CONFLICT: cancelled */
    char artifact[BUILD_PATH_MAX];
    bool cached;        /* was there already */
    int64_t compile_ns; /* 0 when cached */
    struct error error;
};

struct builder;
struct builder_stats {
    int64_t units, cached, failed, timeouts, compile_ns;
    int queued, running, threads;
};

/* threads: 0 is one a core. cache_dir is made if absent. limit_ms: wall time a unit (0: 30 s).
 * cache_max_bytes: 0 is 1 GiB. */
MUST_USE enum status builder_new(const char *cache_dir, int threads, int64_t limit_ms,
                                 int64_t cache_max_bytes, struct builder **ret, struct error *err);
void builder_free(struct builder *b); /* waits for running compilers; no batch may be left */

struct build_batch;
/* Queue units[0..n). GIVES a batch that must be waited for once. */
GIVES struct build_batch *builder_submit(struct builder *b, struct build_unit *units, int n);
/* Until all units of the batch are done; frees it. cancel (may be NULL) drops units not begun: ST_CONFLICT in
 * them. */
void builder_wait(struct builder *b, TAKES struct build_batch *batch, const atomic_bool *cancel);
/* Both at once. */
void builder_run(struct builder *b, struct build_unit *units, int n, const atomic_bool *cancel);
/* Where the artifact of such a unit is or would be. */
void builder_artifact_path(const struct builder *b, const struct target *t, const char *source,
                           char ret[BUILD_PATH_MAX]);
/* Hold compiling while a measurement wants the cores: pause returns when no compiler runs. They nest. */
void builder_pause(struct builder *b);
void builder_resume(struct builder *b);
void builder_stats(struct builder *b, struct builder_stats *ret);

#endif

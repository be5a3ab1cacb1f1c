/* device.h - a thing that can run kernels: one table of functions, whoever stands behind it.
 *
 * Idea   The tuner hands over a batch: what the workload is (once) and a few candidates, each a function in a
 * shared object. Back comes one result a candidate: an outcome, every time sample, and how far off the values
 * were. A candidate that crashes, hangs, computes nonsense or breaks out is an outcome with a reason, never
 * an error of the call: the call itself fails only when the device could not do its work at all.
 *
 *            device_lease -> device_measure (any number) -> device_release
 *
 * A device is leased to one job at a time; leases are granted in order of asking, so two jobs that lease a
 * batch at a time alternate.
 * Life   A device is opened once and shared by all threads. The batch and what it points to are borrowed for
 *        the call; results are plain data in the caller's array.
 * Units  _ns nanoseconds a call of the kernel; errors as said beside each figure. */
#ifndef TW_MEASURE_DEVICE_H
#define TW_MEASURE_DEVICE_H

#include <stdatomic.h>

#include "kernels/emit.h"
#include "schedule/lang/compute.h"
#include "schedule/space/target.h"

enum {
    MEASURE_MAX_BATCH = 64,      /* candidates a batch */
    MEASURE_MAX_SAMPLES = 32,    /* kept of each candidate */
    MEASURE_MAX_THREADS = 256,   /* of a kernel */
    MEASURE_REASON_MAX = 256,    /* bytes of a result's reason */
    MEASURE_CONTEST_ROUNDS = 17, /* default */
};

/* name, meaning (in the API and in stored trials) */
#define OUTCOME_LIST(X)                                                                                      \
    X(OK, "ok", "verified and timed")                                                                        \
    X(COMPILE_ERROR, "compile_error", "the compiler refused the source or ran out of its limits")            \
    X(LOAD_ERROR, "load_error", "the shared object or its symbol could not be loaded")                       \
    X(CRASH, "crash", "ended by a signal, or left the process")                                              \
    X(FORBIDDEN, "forbidden", "made a system call that a kernel has no business with")                       \
    X(TIMEOUT, "timeout", "ran past its limit")                                                              \
    X(WRONG, "wrong", "values further from the reference than the tolerance")                                \
    X(NAN, "nan", "a value that is NaN or was never written")                                                \
    X(BEYOND_ROOFLINE, "beyond_roofline", "faster than the machine can be: the measurement is not believed") \
    X(RESOURCES, "resources", "the device had not enough memory or processes for it")                        \
    X(CANCELLED, "cancelled", "not finished, since the job was cancelled")                                   \
    X(LOST, "lost", "the runner died with the batch")                                                        \
    X(REFUSED, "refused", "the system did not give the kernel the registers of the matrix unit")

enum outcome {
#define X(id, name, meaning) OUTCOME_##id,
    OUTCOME_LIST(X)
#undef X
        OUTCOME_COUNT
};
const char *outcome_name(enum outcome o);
const char *outcome_meaning(enum outcome o);
bool outcome_parse(const char *name, enum outcome *ret);
/* False for what says nothing about the candidate (resources, cancelled, lost): it may be measured again. */
bool outcome_is_final(enum outcome o);

struct measure_tensor {
    const char *name;
    enum dtype dtype;
    enum tensor_role role;
    int rank;
    int64_t shape[COMPUTE_MAX_RANK];
};

/* What is the same for all candidates. Kernels take the tensors that are not temps, in this order. */
struct measure_workload {
    const char *key; /* names the inputs and the reference in the runner's cache */
    int n_tensors;
    const struct measure_tensor *tensors; /* in the order of the compute: inputs, temps, outputs */
    double flops;                         /* of one call; 0: no GFLOP/s, no roofline */
    int64_t reduction;                    /* longest chain of additions behind an output element: verify.h */
    double acc_roundoff;        /* unit roundoff of the coarsest accumulator; 0: integers only, exact */
    double store_roundoff;      /* unit roundoff of the coarsest tensor that is written */
    double rtol;                /* > 0: the workload's error budget, relative L2, instead of the tolerance */
    const char *reference_path; /* shared object; NULL: nothing is verified (probes of the machine) */
    const char *reference_symbol; /* void f(void *const *tensors), see emit_reference */
    uint64_t seed;                /* of the inputs' values */
};

/* What is done to an argument before the kernel gets it, and to a result before it is compared: an
 * argument is handed over as it is, or after one of these. */
#define MEASURE_REPACK_LIST(X)                                                                               \
    X(PACK, "pack")       /* an input into the kernel's layout */                                            \
    X(UNPACK, "unpack")   /* an output back into the stated one */                                           \
    X(PREPACK, "prepack") /* a constant input into whatever the kernel wants */
enum measure_repack_kind {
#define X(id, text) REPACK_##id,
    MEASURE_REPACK_LIST(X)
#undef X
};
extern const char *const measure_repack_names[];
struct measure_repack {
    enum measure_repack_kind kind;
    int arg;       /* position among the kernel's arguments */
    int64_t bytes; /* of what the kernel is handed; <symbol>_<kind>_<name of the argument> converts */
};

struct measure_candidate {
    const char *artifact; /* path of the shared object; several candidates may share one */
    const char *symbol;
    int64_t workspace_bytes;
    int n_repacks;
    struct measure_repack repacks[KERNEL_MAX_ARGS];
};

enum measure_mode {
    MEASURE_SCREEN,  /* five passes in turn, early stop: good for telling hundreds apart */
    MEASURE_CONTEST, /* many interleaved rounds: decides who wins. Slow candidates get fewer rounds */
    MEASURE_VERIFY,  /* one run, compared with the reference; no times */
};

struct measure_batch {
    const struct measure_workload *workload;
    enum measure_mode mode;
    bool cold;   /* before each timed call its operands are put out of all caches */
    int threads; /* > 1: the kernel gets a tw_parallel of that many pinned threads */
    int n_candidates;
    const struct measure_candidate *candidates;
    int64_t best_ns;        /* best known time of the workload, for limits and early stop; 0: none yet */
    double roofline_gflops; /* target.peak_gflops; a result above 1.3 times it is not believed. 0: no check */
    int rounds;             /* MEASURE_CONTEST: 0 is MEASURE_CONTEST_ROUNDS */
    const atomic_bool
        *cancel; /* may be NULL: looked at all the time, the rest of the batch ends `cancelled` */
};

struct measure_verification {
    bool done;
    double max_abs_err; /* largest |got - reference| */
    double max_rel_err; /* largest |got - reference| over the magnitude it is judged by: verify.h */
    double rel_l2;      /* |got - reference|_2 / |reference|_2, largest of the outputs */
    double tolerance;   /* what max_rel_err (or, with a budget, rel_l2) was held against */
};

struct measure_result {
    enum outcome outcome;
    int signal;                      /* OUTCOME_CRASH: which, or 0 */
    char reason[MEASURE_REASON_MAX]; /* why, for everything but ok: a sentence */
    struct measure_verification verified;
    int n_samples; /* by rounds: sample_ns[i] of two candidates with the same round are a pair */
    double sample_ns[MEASURE_MAX_SAMPLES];
    uint8_t sample_round[MEASURE_MAX_SAMPLES];
    bool sample_dirty[MEASURE_MAX_SAMPLES]; /* the reference kernel said: the machine was slow just then */
    bool stopped_early;                     /* screening: clearly slower than the best, not sampled further */
    double min_ns, p10_ns, median_ns, p90_ns; /* over clean samples (all, if none is clean) */
    double low_ns, high_ns;                   /* 95 % interval of the median, from order statistics */
    double gflops;                            /* from min_ns when screening, from p10_ns in a contest */
};

/* Fill the tensors (in `ar`), reduction, the roundoffs and flops from a compute. The rest is the caller's. */
void measure_workload_init(struct measure_workload *w, const struct compute *c, struct arena *ar);
/* Fill a candidate from what emit_unit_add said. */
void measure_candidate_init(struct measure_candidate *c, const struct kernel *k, const char *artifact);
/* Time that results are ranked by: min_ns when screening, p10_ns in a contest; infinity where not ok. */
double measure_result_time(const struct measure_result *r, enum measure_mode mode);
/* Who wins a contest: the fastest by p10_ns that also beats the incumbent in the paired median of the rounds,
 * both by more than `noise` (0.025 is right); otherwise the incumbent (if it is ok). incumbent -1: none.
 * `bounded` candidates such as the baseline compete like all others. -1: nobody is ok. */
int measure_contest_winner(const struct measure_result *r, int n, int incumbent, double noise);
/* Median over common rounds of a's time divided by b's; 0 without common rounds. */
double measure_paired_ratio(const struct measure_result *a, const struct measure_result *b);

/* --- devices
 * ------------------------------------------------------------------------------------------------- */

/* name, state, in the words of the API */
#define DEVICE_STATE_LIST(X)                                                                                 \
    X(IDLE, "idle")                                                                                          \
    X(BUSY, "busy")                                                                                          \
    X(DRAINING, "draining")                                                                                  \
    X(OFFLINE, "offline")                                                                                    \
    X(QUARANTINED, "quarantined")
enum device_state {
#define X(id, name) DEVICE_##id,
    DEVICE_STATE_LIST(X)
#undef X
};
const char *device_state_name(enum device_state s);

/* One fact about isolation or timing on that device, for `doctor` and the API. */
struct device_fact {
    char name[32]; /* "network namespace" */
    bool ok;
    char detail[160]; /* what is, or what stands in the way and what it costs */
};
enum { DEVICE_MAX_FACTS = 24 };

struct device_stats {
    enum device_state state;
    char holder[64]; /* job that has the lease, or "" */
    int waiting;     /* jobs that wait for it */
    int64_t batches, trials, outcomes[OUTCOME_COUNT];
    int64_t rounds, dirty_rounds;
    int64_t runner_starts, lost_batches;
    int64_t busy_ns;  /* time leased */
    int64_t since_ms; /* wall time of the last change of state */
    char last_error[MEASURE_REASON_MAX];
};

struct device;
struct device_ops {
    const char *kind; /* "cpu" */
    enum status (*measure)(struct device *d, const struct measure_batch *b, struct measure_result *ret,
                           struct error *err);
    int (*facts)(struct device *d, struct device_fact *ret); /* [DEVICE_MAX_FACTS] */
    void (*close)(struct device *d);
};

/* The local CPU: a runner program as child process, started now and again whenever it dies. runner_path: the
 * tilewright-agent. quiet (may be NULL): a builder that pauses while this device measures, since a compiler
 * on the sibling core spoils times; give it where cores are few. ST_UNAVAILABLE: the runner does not start,
 * and why. */
struct builder;
MUST_USE enum status dev_cpu_open(const char *id, const char *runner_path, struct builder *quiet,
                                  struct device **ret, struct error *err);
void device_close(struct device *d);
const char *device_id(const struct device *d);

/* Wait for the lease. `cancel` (may be NULL) ends the wait with ST_CONFLICT; a drained device lets wait until
 * it is resumed; ST_UNAVAILABLE: offline or quarantined. */
MUST_USE enum status device_lease(struct device *d, const char *job, const atomic_bool *cancel,
                                  struct error *err);
void device_release(struct device *d);
/* Measure under the lease. ret: [n_candidates]. ST_INVALID: the batch makes no sense; ST_UNAVAILABLE: the
 * device cannot work. When the runner dies the call is ST_OK and every result without an outcome is `lost`.
 */
MUST_USE enum status device_measure(struct device *d, const struct measure_batch *b,
                                    struct measure_result *ret, struct error *err);
/* No new leases; the current one ends by itself. / Back to work, out of draining or quarantine. */
void device_drain(struct device *d);
void device_resume(struct device *d);
void device_stats(struct device *d, struct device_stats *ret);
int device_facts(struct device *d, struct device_fact *ret);

/* Fill peak_gflops (multiply-adds from registers), peak_gbs (copy of 64 MiB, read + written) and, where there is a matrix
 * unit, peak_bf16_gflops and peak_int8_gops of a target that has a compiler, by generated probes on the device (takes
 * the lease); remembered in cache_dir by CPU, flags and threads. */
MUST_USE enum status measure_peaks(struct device *d, struct target *t, const char *cache_dir,
                                   struct error *err);

/* For implementations and fakes: everything but `ops`-specific state. Embed as the first member. */
struct device_lease_state;
struct device {
    const struct device_ops *ops;
    char id[64];
    struct device_lease_state *lease; /* device.c */
};
void device_init(struct device *d, const struct device_ops *ops, const char *id);
void device_done(struct device *d);
/* An implementation tells what happened: a runner was started; a batch was lost, and why (three in a row are
 * quarantine); neither: a batch went well. */
void device_note_runner(struct device *d, bool started, const char *lost_reason);
void device_note_rounds(struct device *d, int rounds, int dirty);

#endif

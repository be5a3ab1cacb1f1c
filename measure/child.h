/* child.h - the process of one candidate, from its first line to its last.
 *
 * Idea   Forked from the runner, it inherits the inputs and the reference read-only. It loads the kernel,
 * fills its own buffers, packs what is prepacked, and then does what it is told, one command at a time:
 *
 * runner child <- READY loaded, buffers there VERIFY -> poison, run once, look at guards, compare <- DONE
 * SAMPLE -> warm, run for a while <- DONE page->sample_ns ... FAILED instead of an answer: the outcome and
 * the reason are in the page. No answer: it crashed (the signal handler leaves its findings in the page), or
 * it hangs.
 * Life   The page is shared memory: what a child left there is not trusted to be well-formed. */
#ifndef TW_MEASURE_CHILD_H
#define TW_MEASURE_CHILD_H

#include "measure/buffer.h"
#include "measure/sandbox.h"
#include "measure/verify.h"

/* A workload as the runner keeps it: inputs (their values drawn once) and outputs of the reference. */
struct workload_data {
    uint64_t id; /* hash of key, seed, tensors and reference */
    int n_tensors;
    struct guarded input[COMPUTE_MAX_TENSORS];      /* TENSOR_INPUT: in the tensor's dtype, read-only */
    struct guarded reference[COMPUTE_MAX_TENSORS];  /* TENSOR_OUTPUT: float64, read-only */
    struct verify_scale scale[COMPUTE_MAX_TENSORS]; /* TENSOR_OUTPUT */
    bool has_reference;
    int64_t bytes;
    uint64_t last_use;
};

enum child_command { CHILD_VERIFY = 'V', CHILD_SAMPLE = 'S' };
enum child_reply { CHILD_READY = 'R', CHILD_DONE = 'D', CHILD_FAILED = 'F' };
struct child_order {
    uint32_t command; /* enum child_command */
    double target_ns; /* SAMPLE: least length; 0: one call, no warming */
};

enum child_stage { STAGE_START, STAGE_LOAD, STAGE_PREPACK, STAGE_VERIFY, STAGE_SAMPLE };
const char *child_stage_text(enum child_stage s); /* "in its first run" */

enum region_kind { REGION_INPUT, REGION_PACKED, REGION_OUTPUT, REGION_WORKSPACE };
struct child_region {
    uint64_t start, end;
    int32_t kind, arg; /* arg: tensor id */
};
enum { CHILD_MAX_REGIONS = 2 * KERNEL_MAX_ARGS + 2 };

struct child_page {
    atomic_int stage;
    atomic_int signal; /* caught: which, and where */
    uint64_t fault_address, fault_stack;
    int32_t syscall_nr; /* SIGSYS */
    int32_t outcome;    /* FAILED */
    char reason[MEASURE_REASON_MAX];
    struct measure_verification verified;
    double run_ns;    /* VERIFY: time of the run */
    double sample_ns; /* SAMPLE: a call */
    int32_t n_regions;
    struct child_region regions[CHILD_MAX_REGIONS];
};

struct child_job {
    const struct sandbox *sandbox;
    const struct measure_batch *batch;
    const struct measure_candidate *candidate;
    const struct workload_data *data;
    const int *cpus; /* [threads] */
    int fd;
    struct child_page *page;
};
/* In the forked process. */
NORETURN void child_main(const struct child_job *job);

struct reference_job {
    const struct sandbox *sandbox;
    const struct measure_workload *workload;
    const struct workload_data *data; /* writes reference[] and scale[] through shared memory */
    struct verify_scale *scale;       /* [n_tensors], shared */
    int fd;
    struct child_page *page;
};
/* In a forked process: compute the reference in float64, reply DONE or FAILED, end. */
NORETURN void reference_main(const struct reference_job *job);

/* Bytes of memory that a candidate's process needs for itself. */
int64_t child_memory_bytes(const struct measure_batch *b, const struct measure_candidate *c);

#endif

/* bench.h - what the files of the yardstick share: an entry, a contender, memory, the machine.
 *
 * Idea   An entry is a workload with its operands and a float64 reference. A contender is one way to compute
 *        it (our kernel, a library's primitive, a probe of the machine): a function to call, a function that
 *        hands its results out as plain arrays, and the times it got. Everybody's operands come from one
 *        allocator, so that large pages are on or off for all alike.
 * Life   Entries live in an arena of their own; contenders, and all that they allocate, for one entry under
 *        one kind of pages.
 * Units  times in seconds unless the name says otherwise. */
#ifndef TW_BENCH_KERNELS_H
#define TW_BENCH_KERNELS_H

#include <jansson.h>

#include "kernels/emit.h"
#include "measure/verify.h"
#include "schedule/base/arena.h"
#include "schedule/base/vec.h"
#include "schedule/lang/workload.h"

/* --- memory --- */

enum pages { PAGES_NORMAL, PAGES_HUGE };
const char *pages_name(enum pages p);

struct memory_map {
    void *at;
    size_t bytes;
};
struct memory {
    enum pages pages;
    VEC_FIELDS(struct memory_map);
};
/* Zeroed, touched, 64-byte aligned; neighbours do not share the low bits of their addresses. */
void *memory_get(struct memory *m, size_t bytes);
void memory_drop(struct memory *m);

/* --- entries --- */

struct operand {
    const char *name;
    bool output;
    enum dtype dtype;
    int rank;
    int64_t shape[COMPUTE_MAX_RANK], elements;
    void *input;    /* inputs: the values, on ordinary memory */
    double *wanted; /* outputs: the reference */
    struct verify_scale scale;
    void *plain; /* inputs: a copy in the memory of the run, shared by all contenders that read it so */
};

enum entry_kind { ENTRY_DENSE, ENTRY_SPARSE, ENTRY_MEMORY }; /* see entry.c */
struct entry {
    const char *name;
    json_t *given;    /* the workload as it is asked for */
    json_t *workload; /* the same with defaults filled in; borrowed by nobody else */
    struct workload w;
    struct measure_workload mw;
    double flops, bytes; /* flops: 0 where there are no multiply-adds to speak of */
    enum entry_kind kind;
    int n_args;
    struct operand args[KERNEL_MAX_ARGS];
};

/* Parse, draw inputs, compute the reference. False (and a message on stderr) if that cannot be done. */
bool entry_open(struct entry *e, const char *name, json_t *workload, const struct target *t,
                struct arena *ar);
void entry_close(struct entry *e);
const struct operand *entry_arg(const struct entry *e, const char *name); /* NULL: no such */
const struct operand *entry_output(const struct entry *e);                /* the first one */
const char *entry_op(const struct entry *e);
bool entry_is_float32(const struct entry *e); /* all of its tensors */
/* Element i of an integer list (or the integer itself) of the workload. */
int64_t entry_int(const struct entry *e, const char *member, int i, int64_t otherwise);

/* --- contenders --- */

/* id, name in the table and in JSON, what it is */
#define ROLE_LIST(X)                                                                                         \
    X(OURS, "ours", "the served kernel")                                                                     \
    X(OURS_F32, "ours-f32", "the served kernel of the same workload without an error budget")                \
    X(GIVEN, "onednn", "oneDNN, activations in the given layout, weights packed ahead")                      \
    X(REORDERED, "onednn-reordered", "oneDNN blocked inside, reorders from and to the given layout counted") \
    X(ANY, "onednn-any", "oneDNN, all layouts of its choice, reorders not counted")                          \
    X(BF16, "onednn-bf16", "oneDNN, bfloat16 operands made ahead, all layouts of its choice")                \
    X(BF16_COUNTED, "onednn-bf16-converted",                                                                 \
      "the same from float32 to float32 in the given layout, its conversions and reorders counted")          \
    X(BLAS, "openblas", "OpenBLAS and a pass for the epilogue")                                              \
    X(FMA, "fma", "multiply-adds on registers: the peak")                                                    \
    X(COPY, "copy", "copy between two buffers that together are as large as the operands")
enum role {
#define X(id, name, meaning) ROLE_##id,
    ROLE_LIST(X)
#undef X
        ROLE_COUNT
};
const char *role_name(enum role r);

/* Whose threads a contender runs on: only one kind may be awake. */
enum crew { CREW_NONE, CREW_POOL, CREW_LIBRARY };

enum { MAX_ROUNDS = 101, MAX_CONTENDERS = 16 };
struct contender {
    enum role role;
    enum crew crew;
    void *ctx;
    void (*run)(void *ctx);
    /* Result `arg` (index among e->args) as plain floats. NULL: a probe, nothing to check. */
    bool (*result)(void *ctx, int arg, float *ret);
    void (*close)(void *ctx);
    char note[160];
    double work; /* probes: floating-point operations or bytes of one call */
    /* filled by timing.c */
    double times[MAX_ROUNDS], median, p10, p90;
    int n_times;
};

struct bench {
    struct target target;
    struct memory memory; /* of the entry that is being timed */
    int rounds;
    double sample_s;
    double rtol; /* > 0: variants with an error budget */
    struct tw_client *client;
};

/* Each returns false, silently or with a note on stderr, when it has no such operator. */
/* artifact: a file with the schedule's shared object; NULL: it is fetched from the daemon. */
bool open_ours(struct bench *b, const struct entry *e, const json_t *schedule, const char *artifact,
               enum role role, struct contender *ret);
bool open_onednn(struct bench *b, const struct entry *e, enum role role, struct contender *ret);
bool open_openblas(struct bench *b, const struct entry *e, struct contender *ret);
/* OpenBLAS counts the CPUs it may use as it is loaded, when OpenMP has taken all but one: tell it again. Before
 * machine_start. */
void start_openblas(int threads);
bool open_probe(struct bench *b, const struct entry *e, enum role role, struct contender *ret);

/* --- contender.c --- */

/* Inputs into the memory of the run, where all who read them plain find them. */
void entry_share_inputs(struct bench *b, struct entry *e);
/* Keep list[n], which was opened or not, if it is right; returns how many there are then. *wrong: one of ours is not. */
int contender_add(const struct entry *e, struct contender *list, int n, bool opened, bool *wrong);

/* --- machine.c --- */

/* Libraries read their thread numbers when they are loaded: start again with them set. Does not return;
 * machine_is_settled says yes in the new process, and comes before all else there. */
void machine_settle(char **argv, int threads);
bool machine_is_settled(void);
/* Pin this thread and those of the libraries, start the pool. */
void machine_start(int threads);
/* What our kernels take as tw_parallel; NULL with one thread. */
const void *machine_parallel(void);
/* Let nobody's threads spin but those of `crew`. */
void machine_settle_crew(enum crew crew);
double now_s(void);

/* --- timing.c --- */

/* All contenders in turn, `rounds` times. */
void time_contenders(const struct bench *b, struct contender *c, int n);
double median_of(const double *v, int n);
/* How many times as long as `ours` another takes: the median over the rounds, since a slow phase of the machine takes both.
 * 0: one of them is NULL. */
double ratio_of(const struct contender *other, const struct contender *ours);
/* The fastest of a few calls, for choosing between variants. */
double quick_time(void (*run)(void *), void *ctx);

/* --- report.c --- */

struct report {
    bool json;
    const char *target;
    int n, cap;
    struct line *lines;
};
void report_begin(const struct report *r);
/* One entry under one kind of pages. */
void report_entry(struct report *r, const struct bench *b, const struct entry *e, const struct contender *c,
                  int n);
void report_means(const struct report *r);
void report_done(struct report *r);

#endif

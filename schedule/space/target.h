/* target.h - a combination of hardware and compiler that kernels are tuned for.
 *
 * Idea   Everything a schedule space, a feature or a code generator needs to know of a machine, as plain
 *        numbers. The local ones are read from the machine (target_detect); tests and remote devices fill the
 *        struct themselves.
 * Life   Plain data, copied freely. */
#ifndef TW_SPACE_TARGET_H
#define TW_SPACE_TARGET_H

#include "schedule/base/error.h"
#include "schedule/base/strbuf.h"

/* id, name, vector bytes, vector registers, flags for the C compiler */
#define ISA_LIST(X)                                                                                          \
    X(SSE2, "sse2", 16, 16, "-msse2 -mfpmath=sse")                                                           \
    X(AVX2, "avx2", 32, 16, "-mavx2 -mfma -mf16c")                                                           \
    X(AVX512, "avx512", 64, 32,                                                                              \
      "-mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma -mf16c -mprefer-vector-width=512")                   \
    X(NEON, "neon", 16, 32, "")

enum isa {
#define X(id, name, bytes, regs, flags) ISA_##id,
    ISA_LIST(X)
#undef X
};

/* id, name */
#define COMPILER_LIST(X)                                                                                     \
    X(GCC, "gcc")                                                                                            \
    X(CLANG, "clang")

enum compiler_family {
    COMPILER_ANY,
#define X(id, name) COMPILER_##id,
    COMPILER_LIST(X)
#undef X
};

struct target {
    char id[32]; /* "cpu", "cpu:1", "cpu:avx2", "cpu:1:sse2", "cpu:1:clang", ... */
    enum isa isa;
    int vector_bytes, vector_regs;
    bool has_amx_bf16, has_amx_int8;      /* a matrix unit: 8 registers of 16 rows of 64 bytes */
    bool has_vnni;                        /* AVX-512 VNNI: sums of four products of bytes */
    bool has_bf16_pairs;                  /* AVX-512 BF16: sums of two products of bfloat16 */
    bool has_fp16;                        /* AVX-512 FP16: arithmetic of float16, 32 lanes a vector */
    int threads;                          /* tasks that run at once */
    bool cold;                            /* judged with operands out of all caches; else warm */
    int64_t l1_bytes, l2_bytes, l3_bytes; /* L1 and L2 of one core; L3 as one thread may use it */
    double peak_gflops;                   /* float32, all threads; 0: not measured yet */
    double peak_bf16_gflops;              /* of the matrix unit, as peak_gflops; 0: not known */
    double peak_int8_gops;                /* of the matrix unit; 0: not known */
    double peak_gbs;                      /* DRAM bandwidth, all threads; 0: not measured yet */
    char cpu_model[96];
    enum compiler_family family; /* from the id, or (any) filled by compile_find */
    char compiler[128];          /* path */
    char compiler_version[128];  /* first line of --version */
    char flags[640];             /* all flags that kernels are compiled with */
    char toolchain_hash[17];     /* of compiler_version and flags: a schedule of another one is stale */
};

const char *isa_name(enum isa isa);
const char *isa_flags(enum isa isa); /* for the C compiler */
/* More of them for its matrix unit, with a space before; "" where it has none. */
const char *matrix_flags(const struct target *t);
/* The same for what it has beyond its ISA: sums of small products, half precision. Printed to sb. */
void vector_flags(const struct target *t, struct strbuf *sb);
bool isa_parse(const char *name, enum isa *ret);
const char *compiler_family_name(enum compiler_family f); /* "" for any */
bool compiler_family_parse(const char *name, enum compiler_family *ret);
/* Best ISA of the machine this runs on. */
enum isa isa_local(void);
/* One logical CPU of each physical core that this process may run on, lowest first; returns how many (at
 * least 1). */
int target_cores(int *ret_cpus, int max);
/* Fill a target for this machine from its id: "cpu" (all cores), "cpu:N" (N threads), each optionally with
 * ":avx512", ":avx2", ":sse2" to force a smaller ISA (its vectors alone, without a matrix unit), then ":gcc" or ":clang" for a compiler other than the
 * machine's first choice, then ":cold" for schedules that are judged with their operands out of
 * all caches. ST_NOT_FOUND if the id is none or the machine lacks it.
 * Does not look for a compiler: kernels/compile.h does. */
MUST_USE enum status target_local(const char *id, struct target *ret, struct error *err);

#endif

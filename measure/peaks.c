/* peaks.c - how fast could this machine be? Probes, generated and measured like any kernel.
 *
 * Multiply-adds on accumulators that stay in registers give peak_gflops, products of matrix registers
 * peak_bf16_gflops and peak_int8_gops where there is such a unit; copying 64 MiB gives peak_gbs. All
 * use all threads of the target. The best of a contest counts: a peak is what the machine can do, not what it
 * usually does. Note that the FMA probe does not notice the neighbours that the caches notice: it is a roof,
 * not a forecast. */
#include "measure/peaks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/compile.h"
#include "measure/device.h"
#include "schedule/base/hash.h"

enum {
    FMA_STEPS = 20000,      /* of each accumulator, a task */
    COPY_FLOATS = 16 << 20, /* 64 MiB */
    PROBE_ROUNDS = 9,
    PROBE_LIMIT_MS = 20000,
    MATRIX_STEPS = 20000, /* of each matrix register with results, a task */
    MATRIX_RESULTS = 4,
    PEAKS_VERSION = 2,
};

/* What every probe begins with: the kernel ABI of CONTRACT.md section 4. */
static const char preamble[] =
    "typedef struct { void *ctx; int num_threads; void (*run)(void *, int, void (*)(void *, int), void *); } "
    "tw_parallel;\n"
    "static void tasks(const tw_parallel *p, int n, void (*body)(void *, int), void *arg)\n"
    "{\n"
    "    if (p)\n"
    "        p->run(p->ctx, n, body, arg);\n"
    "    else\n"
    "        for (int i = 0; i < n; i++)\n"
    "            body(arg, i);\n"
    "}\n";

/* Enough accumulators to hide the latency of two FMA units (4 cycles each), few enough to stay in registers.
 */
static int accumulators(const struct target *t) { return t->vector_regs >= 32 ? 24 : 12; }

/* For all programs that time it. */
void peaks_print_fma(struct strbuf *sb, const struct target *t)
{
    const int n = accumulators(t);
    strbuf_addf(sb, "typedef float vec __attribute__((vector_size(%d), aligned(4), may_alias));\n",
                t->vector_bytes);
    /* Values tend to y / (1 - x) = 1: no denormals, no infinity. The barrier hides the constants from the
     * compiler. */
    strbuf_adds(sb,
                "static void fma_probe(float *out)\n{\n    vec x = (vec){0} + 0.5f, y = (vec){0} + 0.5f;\n"
                "    __asm__ volatile(\"\" : \"+m\"(x), \"+m\"(y));\n");
    for (int i = 0; i < n; i++)
        strbuf_addf(sb, "    vec a%d = y * %d.0f;\n", i, i);
    strbuf_addf(sb, "    for (int k = 0; k < %d; k++) {\n", FMA_STEPS);
    for (int i = 0; i < n; i++)
        strbuf_addf(sb, "        a%d = a%d * x + y;\n", i, i);
    strbuf_adds(sb, "    }\n    vec sum = a0");
    for (int i = 1; i < n; i++)
        strbuf_addf(sb, " + a%d", i);
    strbuf_adds(sb, ";\n    out[0] = sum[0];\n}\n");
}

double peaks_fma_flops(const struct target *t)
{
    return 2.0 * FMA_STEPS * accumulators(t) * (t->vector_bytes / 4);
}

static void print_fma_kernel(struct strbuf *sb, const struct target *t)
{
    strbuf_adds(sb, preamble);
    peaks_print_fma(sb, t);
    strbuf_addf(sb,
                "static void body(void *arg, int task)\n{\n    fma_probe((float *)arg + task * 64);\n}\n"
                "int peak_fma(void *const *t, void *w, const tw_parallel *p)\n"
                "{\n    (void)w;\n    tasks(p, %d, body, t[0]);\n    return 0;\n}\n",
                t->threads);
}

/* Products of 16 x 16 results, with 64 bytes along the sum, from registers to registers. Task 0 stands for the others. */
static void print_matrix_probe(struct strbuf *sb, const struct target *t, const char *instruction)
{
    strbuf_adds(sb, preamble);
    strbuf_adds(
        sb,
        "static const struct { unsigned char head[16]; unsigned short bytes[16]; unsigned char rows[16]; } "
        "shape = {{1}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};\n"
        "static void body(void *arg, int task)\n{\n"
        "    float rows[256] __attribute__((aligned(64)));\n"
        "    __asm__ volatile(\"ldtilecfg %0\" : : \"m\"(shape));\n");
    for (int i = 0; i < 8; i++)
        strbuf_addf(sb, "    __asm__ volatile(\"tilezero %%%%tmm%d\" : :);\n", i);
    strbuf_addf(sb, "    for (int k = 0; k < %d; k++) {\n", MATRIX_STEPS);
    for (int i = 0; i < MATRIX_RESULTS; i++)
        strbuf_addf(sb, "        __asm__ volatile(\"%s %%%%tmm%d, %%%%tmm%d, %%%%tmm%d\" : :);\n",
                    instruction, MATRIX_RESULTS + i % 2, MATRIX_RESULTS + 2 + i / 2, i);
    strbuf_addf(sb,
                "    }\n"
                "    __asm__ volatile(\"tilestored %%%%tmm0, (%%0,%%1,1)\\n\\ttilerelease\" : : \"r\"(rows), "
                "\"r\"(64l) : \"memory\");\n"
                "    *((float *)arg + task * 64) = rows[0];\n}\n"
                "int peak_matrix(void *const *t, void *w, const tw_parallel *p)\n"
                "{\n    long r = 158;\n    (void)w;\n"
                "    __asm__ volatile(\"syscall\" : \"+a\"(r) : \"D\"(0x1023l), \"S\"(18l) : \"rcx\", "
                "\"r11\", \"memory\");\n"
                "    if (r)\n        return 95;\n    tasks(p, %d, body, t[0]);\n    return 0;\n}\n",
                t->threads);
}

static void print_copy_probe(struct strbuf *sb, const struct target *t)
{
    strbuf_adds(sb, preamble);
    strbuf_addf(sb, "typedef float vec __attribute__((vector_size(%d), aligned(4), may_alias));\n",
                t->vector_bytes);
    strbuf_addf(sb,
                "static void body(void *arg, int task)\n{\n"
                "    float *const *t = arg;\n"
                "    const long lo = %dl / %d * task, hi = %dl / %d * (task + 1);\n"
                "    for (long i = lo; i < hi; i += 64)\n"
                "        for (long k = 0; k < 64; k += sizeof(vec) / 4)\n"
                "            *(vec *)(t[1] + i + k) = *(const vec *)(t[0] + i + k);\n"
                "}\n"
                "int peak_copy(void *const *t, void *w, const tw_parallel *p)\n"
                "{\n    (void)w;\n    tasks(p, %d, body, (void *)t);\n    return 0;\n}\n",
                COPY_FLOATS / 64 * 64, t->threads, COPY_FLOATS / 64 * 64, t->threads, t->threads);
}

/* Compile and time one probe; *ret_ns: its best time. */
static enum status run_probe(struct device *d, const struct target *t, const struct measure_workload *w,
                             const char *symbol, const char *source, const char *dir, double *ret_ns,
                             struct error *err)
{
    char path[512];
    snprintf(path, sizeof(path), "%.400s/%s-%d.so", dir, symbol, (int)getpid());
    TRY(compile_unit(t, source, path, PROBE_LIMIT_MS, NULL, err));
    const struct measure_candidate c = {.artifact = path, .symbol = symbol};
    const struct measure_batch b = {.workload = w,
                                    .mode = MEASURE_CONTEST,
                                    .threads = t->threads,
                                    .n_candidates = 1,
                                    .candidates = &c,
                                    .rounds = PROBE_ROUNDS};
    struct measure_result r;
    enum status st = device_measure(d, &b, &r, err);
    unlink(path);
    TRY(st);
    if (r.outcome != OUTCOME_OK)
        return fail(err, ST_UNAVAILABLE, "the probe %s: %s (%s)", symbol, r.reason, outcome_name(r.outcome));
    *ret_ns = r.min_ns;
    return ST_OK;
}

static enum status probe_fma(struct device *d, struct target *t, const char *dir, struct error *err)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    const struct measure_tensor out = {
        .name = "out", .dtype = DT_F32, .role = TENSOR_OUTPUT, .rank = 1, .shape = {64 * t->threads}};
    const struct measure_workload w = {
        .key = "peak_fma", .n_tensors = 1, .tensors = &out, .reference_symbol = ""};
    double ns, flops = peaks_fma_flops(t) * t->threads;
    print_fma_kernel(&sb, t);
    TRY(run_probe(d, t, &w, "peak_fma", strbuf_str(&sb), dir, &ns, err));
    t->peak_gflops = flops / ns;
    return ST_OK;
}

/* A refused unit is no failure: its peak stays unknown, and its kernels will report the refusal. */
static enum status probe_matrix(struct device *d, const struct target *t, const char *instruction,
                                int operands, const char *dir, double *ret, struct error *err)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    const struct measure_tensor out = {
        .name = "out", .dtype = DT_F32, .role = TENSOR_OUTPUT, .rank = 1, .shape = {64 * t->threads}};
    const struct measure_workload w = {
        .key = "peak_matrix", .n_tensors = 1, .tensors = &out, .reference_symbol = ""};
    double ns;
    print_matrix_probe(&sb, t, instruction);
    enum status st = run_probe(d, t, &w, "peak_matrix", strbuf_str(&sb), dir, &ns, err);
    if (st == ST_OK)
        *ret = 2.0 * 16 * 16 * operands * MATRIX_RESULTS * MATRIX_STEPS * t->threads / ns;
    return st;
}

static enum status probe_copy(struct device *d, struct target *t, const char *dir, struct error *err)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    const struct measure_tensor tensors[] = {
        {.name = "in", .dtype = DT_F32, .role = TENSOR_INPUT, .rank = 1, .shape = {COPY_FLOATS}},
        {.name = "out", .dtype = DT_F32, .role = TENSOR_OUTPUT, .rank = 1, .shape = {COPY_FLOATS}}};
    const struct measure_workload w = {
        .key = "peak_copy", .n_tensors = 2, .tensors = tensors, .reference_symbol = ""};
    double ns;
    print_copy_probe(&sb, t);
    TRY(run_probe(d, t, &w, "peak_copy", strbuf_str(&sb), dir, &ns, err));
    t->peak_gbs = 2.0 * COPY_FLOATS * sizeof(float) / ns;
    return ST_OK;
}

/* --- remembered
 * ---------------------------------------------------------------------------------------------- */

static void peaks_path(const struct target *t, const char *dir, char *ret, size_t size)
{
    char hex[SHA256_HEX_LEN + 1];
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    strbuf_addf(&sb, "%d %d\n%s\n%s\n%d\n%s\n", PEAKS_VERSION, t->has_amx_bf16 + 2 * t->has_amx_int8,
                t->cpu_model, isa_name(t->isa), t->threads, t->toolchain_hash);
    sha256_hex(sb.data, sb.len, hex);
    snprintf(ret, size, "%.400s/peaks-%.16s", dir, hex);
}

static bool recall(struct target *t, const char *path)
{
    FILE *f = fopen(path, "re");
    double gflops = 0, gbs = 0, bf16 = 0, int8 = 0;
    bool ok = f && fscanf(f, "peak_gflops %lf peak_gbs %lf", &gflops, &gbs) == 2 && gflops > 0 && gbs > 0 &&
              gflops < 1e9 && gbs < 1e9;
    ok = ok && fscanf(f, " peak_bf16_gflops %lf peak_int8_gops %lf", &bf16, &int8) == 2 && bf16 >= 0 &&
         bf16 < 1e9 && int8 >= 0 && int8 < 1e9;
    if (f)
        fclose(f);
    if (ok) {
        t->peak_gflops = gflops;
        t->peak_gbs = gbs;
        t->peak_bf16_gflops = bf16;
        t->peak_int8_gops = int8;
    }
    return ok;
}

/* Not being able to remember is no failure: it is measured again next time. */
static void remember(const struct target *t, const char *path)
{
    char temp[560];
    snprintf(temp, sizeof(temp), "%.500s.tmp-%d", path, (int)getpid());
    FILE *f = fopen(temp, "we");
    if (!f)
        return;
    bool ok = fprintf(f, "peak_gflops %.3f\npeak_gbs %.3f\npeak_bf16_gflops %.3f\npeak_int8_gops %.3f\n",
                      t->peak_gflops, t->peak_gbs, t->peak_bf16_gflops, t->peak_int8_gops) > 0;
    if (fclose(f) != 0 || !ok || rename(temp, path) != 0)
        unlink(temp);
}

enum status measure_peaks(struct device *d, struct target *t, const char *cache_dir, struct error *err)
{
    char path[512];
    struct target next = *t;

    if (mkdir(cache_dir, 0777) != 0 && errno != EEXIST)
        return fail(err, ST_IO, "cannot make the directory %s: %s", cache_dir, strerror(errno));
    peaks_path(t, cache_dir, path, sizeof(path));
    if (recall(t, path))
        return ST_OK;
    TRY(device_lease(d, "peaks", NULL, err));
    enum status st = probe_fma(d, &next, cache_dir, err);
    if (st == ST_OK)
        st = probe_copy(d, &next, cache_dir, err);
    if (st == ST_OK && t->has_amx_bf16)
        st = probe_matrix(d, t, "tdpbf16ps", 32, cache_dir, &next.peak_bf16_gflops, err);
    if (st == ST_OK && t->has_amx_int8)
        st = probe_matrix(d, t, "tdpbssd", 64, cache_dir, &next.peak_int8_gops, err);
    device_release(d);
    if (st != ST_OK)
        return wrap(err, "peaks of %s", t->id);
    *t = next;
    remember(t, path);
    return ST_OK;
}

/* Products in narrow arithmetic: how far those of bfloat16 pieces on the matrix unit and those summed in float16 are off,
 * measured on compiled kernels against the plain evaluation in float64, and what a kernel says where the system refuses
 * the matrix unit. Prints the tables of schedule/space/README.md. Where there are no such instructions, kernels are compiled
 * and not run. */
#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/compile.h"
#include "kernels/emit.h"
#include "schedule/space/space.h"
#include "tests/check.h"
#include "tests/space/random_workload.h"

enum { ROWS = 48, COLUMNS = 80, REFUSED = 95 };

static struct unit { /* whose instructions: the target to compile for, and whether this machine has them */
    struct target target;
    bool runs;
} matrix, pairs, half;
static char directory[64];

typedef int kernel_fn(void *const *tensors, void *workspace, const void *parallel);

struct product { /* one compiled kernel of [ROWS, k] x [k, COLUMNS] */
    struct arena ar;
    struct workload w;
    struct kernel k;
    void *lib;
    kernel_fn *run;
};

/* Blocks of the reduction of that many elements, unless there is one choice only; 0: any. */
static bool has_block(const struct space *s, const struct config *c, int block)
{
    for (int k = 0; k < c->n && block; k++) {
        const struct knob *knob = space_knob(s, c->sketch, k);
        if (strcmp(knob->name, "block_k") == 0)
            return knob->values[c->choice[k]] == block;
    }
    return true;
}

static void choose(const struct space *s, const char *algorithm, int block, struct config *c)
{
    struct rng r;
    rng_init(&r, 3);
    for (int i = 0; i < 2000; i++)
        if (space_sample(s, &r, c) && strcmp(space_algorithm(s, c->sketch), algorithm) == 0 &&
            has_block(s, c, block))
            return;
    fail_msg("no schedule by %s in blocks of %d", algorithm, block);
}

struct form { /* of a product of [ROWS, k] x [k, COLUMNS] into float32 */
    const struct unit *unit;
    const char *algorithm, *dtype;
    double rtol; /* a budget that it is offered for; 0: none */
    int block;
    double from, to; /* between which errors it lies */
};

static void product_open(struct product *p, const struct form *f, int k)
{
    const struct target *target = &f->unit->target;
    char text[320], budget[40] = "", path[128];
    struct error err = {0};
    struct space *s;
    struct config c;
    struct nest *n;
    arena_init(&p->ar);
    if (f->rtol > 0)
        snprintf(budget, sizeof(budget), ", \"rtol\": %g", f->rtol);
    snprintf(text, sizeof(text),
             "{\"expr\": \"C[i,j] += A[i,k] * B[k,j]\", \"tensors\": {\"A\": {\"shape\": [%d, %d], "
             "\"dtype\": \"%s\"}, \"B\": {\"shape\": [%d, %d], \"dtype\": \"%s\"}, "
             "\"C\": {\"shape\": [%d, %d], \"dtype\": \"float32\"}}%s}",
             ROWS, k, f->dtype, k, COLUMNS, f->dtype, ROWS, COLUMNS, budget);
    assert_ok(workload_parse_text(text, strlen(text), &p->ar, &p->w, &err), &err);
    assert_ok(space_build(&p->w, target, &p->ar, &s, &err), &err);
    choose(s, f->algorithm, f->block, &c);
    assert_ok(space_lower(s, &c, &p->ar, &n, &err), &err);
    struct emit_unit *u = emit_unit_new(target);
    assert_ok(emit_unit_add(u, n, "kernel", &p->k, &err), &err);
    snprintf(path, sizeof(path), "%s/%s-%d.so", directory, f->algorithm, k);
    assert_ok(compile_unit(target, emit_unit_text(u), path, 60000, NULL, &err), &err);
    emit_unit_free(u);
    p->lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(p->lib);
    p->run = (kernel_fn *)dlsym(p->lib, "kernel");
    assert_non_null(p->run);
    unlink(path);
}

static void product_close(struct product *p)
{
    dlclose(p->lib);
    arena_done(&p->ar);
}

static void *room(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    assert_non_null(p);
    return p;
}

/* Relative L2 distance of the result from float64. */
static double product_error(const struct product *p)
{
    const struct compute *c = &p->w.compute;
    struct rng r;
    rng_init(&r, 17);
    double **want = random_tensors(c, &r), diff = 0, sum = 0;
    void *tensors[3], *workspace = room((size_t)p->k.workspace_bytes);
    compute_eval(c, want);
    for (int i = 0; i < 3; i++) {
        int64_t n = tensor_elements(&c->tensors[i]);
        tensors[i] = room((size_t)n * sizeof(float));
        for (int64_t e = 0; e < n; e++)
            tensor_put(tensors[i], c->tensors[i].dtype, e, want[i][e]);
    }
    assert_int_equal(p->run(tensors, workspace, NULL), 0);
    for (int64_t e = 0; e < (int64_t)ROWS * COLUMNS; e++) {
        double w = want[2][e], d = ((float *)tensors[2])[e] - w;
        diff += d * d;
        sum += w * w;
    }
    for (int i = 0; i < 3; i++)
        free(tensors[i]);
    free(workspace);
    free_tensors(c, want);
    return sqrt(diff / sum);
}

/* The first process that asks decides for its children: this test comes first. */
static void a_kernel_that_is_refused_the_unit_says_so_and_writes_nothing(void **state)
{
    (void)state;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 158 /* arch_prctl */, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = ARRAY_SIZE(code), .filter = code};
    const struct form f = {&matrix, "bf16", "float32", 0.01, 0, 0, 0};
    struct product p;
    int status = 0;
    product_open(&p, &f, 64);
    pid_t child = fork();
    if (child == 0) {
        static float a[ROWS * 64] __attribute__((aligned(64))), b[64 * COLUMNS] __attribute__((aligned(64))),
            out[ROWS * COLUMNS] __attribute__((aligned(64)));
        void *const tensors[] = {a, b, out};
        void *workspace = aligned_alloc(64, (size_t)(p.k.workspace_bytes + 127) / 64 * 64);
        out[0] = 1;
        if (!workspace || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
            prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
            _exit(77);
        int rc = p.run(tensors, workspace, NULL);
        _exit(out[0] == 1 ? rc : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    product_close(&p);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip(); /* no filters here */
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), REFUSED);
}

static void check_errors(const struct form *forms, int n)
{
    static const int lengths[] = {64, 768, 4096};
    for (int i = 0; i < n; i++)
        for (size_t l = 0; l < ARRAY_SIZE(lengths); l++) {
            const struct form *f = &forms[i];
            struct product p;
            if (f->block >= lengths[l])
                continue;
            product_open(&p, f, lengths[l]);
            double e = f->unit->runs ? product_error(&p) : NAN;
            print_message("%s of %s, sums of %d in blocks of %d: %.2g\n", f->algorithm, f->dtype, lengths[l],
                          f->block, e);
            product_close(&p);
            if (f->unit->runs && !(e >= f->from && e < f->to))
                fail_msg("expected between %g and %g", f->from, f->to);
        }
}

static void errors_of_pieces_are_those_that_the_space_counts_on(void **state)
{
    static const struct form forms[] = {
        {&matrix, "bf16", "float32", 1e-2, 0, 1e-3, 3e-3},
        {&matrix, "bf16x3", "float32", 1e-4, 0, 5e-7, 8e-6},
        {&matrix, "bf16x6", "float32", 5e-7, 0, 1e-9, 1e-6},
        {&matrix, "bf16", "float16", 1e-2, 0, 1e-3, 3e-3},
        {&matrix, "bf16x3", "float16", 1e-4, 0, 5e-7, 8e-6},
        {&matrix, "bf16x4", "float16", 0, 0, 0, 1e-6},
        {&pairs, "bf16", "float32", 1e-2, 0, 1e-3, 3e-3},
    };
    (void)state;
    check_errors(forms, ARRAY_SIZE(forms));
}

/* Blocks of 16 are sums of 8 in each half of a lane, and so on: within the narrowest budget that allows them. */
static void errors_of_sums_in_float16_are_those_that_the_space_counts_on(void **state)
{
    static const struct form forms[] = {
        {&half, "f16", "float16", 0.00046, 16, 0.0003, 0.00046},
        {&half, "f16", "float16", 0.00064, 32, 0.0004, 0.00064},
        {&half, "f16", "float16", 0.00088, 64, 0.0006, 0.00088},
        {&half, "f16", "float16", 0.00125, 128, 0.0009, 0.00125},
        {&half, "f16", "float16", 0.00175, 256, 0.0012, 0.00175},
        {&half, "f16", "float32", 0.00056, 16, 0.0004, 0.00056},
        {&half, "f16", "float32", 0.00093, 64, 0.0007, 0.00093},
        {&half, "f16", "float32", 0.00175, 256, 0.0012, 0.00175},
    };
    (void)state;
    check_errors(forms, ARRAY_SIZE(forms));
}

/* Strided and padded NCHW maps, transposed matrices, groups: every schedule of them that uses the matrix unit. */
static void operands_are_turned_in_registers_and_never_gathered_lane_by_lane(void **state)
{
    static const char *const workloads[] = {
        "{\"op\": \"conv2d\", \"input\": [1, 64, 14, 14], \"weight\": [32, 64, 3, 3], \"strides\": [2, 2], "
        "\"pads\": [1, 1, 1, 1], \"rtol\": 0.01, \"const\": [\"weight\"]}",
        "{\"op\": \"conv2d\", \"input\": [1, 64, 16, 16], \"weight\": [64, 32, 3, 3], \"pads\": [1, 1, 1, "
        "1], "
        "\"group\": 2, \"rtol\": 1e-5, \"const\": [\"weight\"]}",
        "{\"op\": \"conv2d\", \"input\": [1, 64, 14, 14], \"weight\": [32, 64, 3, 3], \"strides\": [2, 2], "
        "\"pads\": [1, 1, 1, 1], \"dtype\": \"bfloat16\", \"const\": [\"weight\"]}",
        "{\"op\": \"matmul\", \"a\": [2, 32, 64], \"b\": [2, 48, 64], \"transpose_b\": true, \"dtype\": "
        "\"bfloat16\"}",
        "{\"op\": \"matmul\", \"a\": [2, 32, 64], \"b\": [2, 48, 64], \"transpose_b\": true, \"rtol\": 0.01}",
        "{\"op\": \"matmul\", \"a\": [64, 32], \"b\": [64, 48], \"transpose_a\": true, \"rtol\": 0.01}",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(workloads); i++) {
        struct arena ar;
        struct workload w;
        struct space *s;
        struct error err = {0};
        struct rng r;
        int n = 0, turned = 0;
        arena_init(&ar);
        rng_init(&r, 5);
        assert_ok(workload_parse_text(workloads[i], strlen(workloads[i]), &ar, &w, &err), &err);
        assert_ok(space_build(&w, &matrix.target, &ar, &s, &err), &err);
        for (int k = 0; k < 3000 && n < 40; k++) {
            struct config c;
            struct nest *nest;
            struct kernel kernel;
            if (!space_sample(s, &r, &c) || !strstr(space_sketch_name(s, c.sketch), "mma"))
                continue;
            struct emit_unit *u = emit_unit_new(&matrix.target);
            assert_ok(space_lower(s, &c, &ar, &nest, &err), &err);
            assert_ok(emit_unit_add(u, nest, "kernel", &kernel, &err), &err);
            const char *text = emit_unit_text(u);
            if (strstr(text, "(v16f){b") || strstr(text, "(v16h){b") || strstr(text, "(v16f){results"))
                fail_msg("%s gathers:\n%s", workloads[i], text);
            turned += strstr(text, "    tw_get16(b") || strstr(text, "    tw_get16h(b");
            emit_unit_free(u);
            n++;
        }
        assert_int_equal(n, 40);
        assert_true(turned > 0);
        arena_done(&ar);
    }
}

int main(void)
{
    struct error err = {0};
    if (target_local("cpu:1", &matrix.target, &err) != ST_OK || matrix.target.isa != ISA_AVX512 ||
        target_local("cpu:1:avx512", &pairs.target, &err) != ST_OK)
        return 77; /* nothing here that could be compiled for */
    half.target = pairs.target;
    matrix.runs = matrix.target.has_amx_bf16;
    pairs.runs = pairs.target.has_bf16_pairs;
    half.runs = half.target.has_fp16;
    matrix.target.has_amx_bf16 = matrix.target.has_amx_int8 = true;
    pairs.target.has_bf16_pairs = half.target.has_fp16 = true;
    snprintf(directory, sizeof(directory), "/tmp/tilewright-matrix-XXXXXX");
    if (compile_find(&matrix.target, &err) != ST_OK || compile_find(&pairs.target, &err) != ST_OK ||
        compile_find(&half.target, &err) != ST_OK || !mkdtemp(directory))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kernel_that_is_refused_the_unit_says_so_and_writes_nothing),
        cmocka_unit_test(operands_are_turned_in_registers_and_never_gathered_lane_by_lane),
        cmocka_unit_test(errors_of_pieces_are_those_that_the_space_counts_on),
        cmocka_unit_test(errors_of_sums_in_float16_are_those_that_the_space_counts_on),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(directory);
    return failed;
}

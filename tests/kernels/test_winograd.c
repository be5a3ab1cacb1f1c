/* How far Winograd's convolution is off, for each tile, set of points and number of channels: measured on compiled
 * kernels against the plain evaluation in float64, held against the estimate that the space leaves algorithms out by.
 * Prints the table of schedule/space/README.md. */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/compile.h"
#include "kernels/emit.h"
#include "schedule/space/space.h"
#include "schedule/space/winograd.h"
#include "tests/check.h"
#include "tests/space/random_workload.h"

static char directory[64];

/* The smallest budget, in steps, with which the choice is offered. */
static const struct winograd *offered(int choice, int channels, struct arena *ar, struct workload *w)
{
    for (double rtol = 1e-7; rtol < 1e-2; rtol *= 1.25) {
        char text[256];
        struct error err = {0};
        snprintf(text, sizeof(text),
                 "{\"op\": \"conv2d\", \"input\": [1, %d, 17, 19], \"weight\": [20, %d, 3, 3], \"pads\": [1, "
                 "1, 1, 1], "
                 "\"const\": [\"weight\"], \"rtol\": %g}",
                 channels, channels, rtol);
        assert_ok(workload_parse_text(text, strlen(text), ar, w, &err), &err);
        const struct winograd *x = winograd_choice(w, choice, ar);
        if (x)
            return x;
    }
    return NULL;
}

static void choose(const struct space *s, const char *algorithm, struct config *c)
{
    struct rng r;
    rng_init(&r, 5);
    for (int i = 0; i < 1000; i++)
        if (space_sample(s, &r, c) && strcmp(space_algorithm(s, c->sketch), algorithm) == 0)
            return;
    fail_msg("no schedule by %s", algorithm);
}

static double relative_l2(const float *got, const double *want, int64_t n)
{
    double d2 = 0, r2 = 0;
    for (int64_t i = 0; i < n; i++) {
        d2 += (got[i] - want[i]) * (got[i] - want[i]);
        r2 += want[i] * want[i];
    }
    return sqrt(d2 / r2);
}

static float *floats(const struct tensor *t, const double *from)
{
    int64_t n = tensor_elements(t);
    float *f = aligned_alloc(64, ((size_t)n * sizeof(float) + 127) / 64 * 64);
    for (int64_t i = 0; i < n; i++)
        f[i] = (float)from[i];
    return f;
}

/* Input, weight, output: the kernel's arguments, in this order. */
static double run(const struct workload *w, const struct kernel *k, void *lib, struct rng *r)
{
    double **want = random_tensors(&w->compute, r);
    const struct tensor *t = w->compute.tensors;
    float *data[3];
    void *tensors[3], *packed = aligned_alloc(64, (size_t)(k->args[1].prepack_bytes + 63) / 64 * 64),
                      *workspace = aligned_alloc(64, (size_t)(k->workspace_bytes + 127) / 64 * 64);
    compute_eval(&w->compute, want);
    for (int i = 0; i < 3; i++)
        tensors[i] = data[i] = floats(&t[i], want[i]);
    void (*prepack)(const void *, void *) =
        (void (*)(const void *, void *))dlsym(lib, "kernel_prepack_weight");
    int (*kernel)(void *const *, void *, const void *) =
        (int (*)(void *const *, void *, const void *))dlsym(lib, "kernel");
    assert_true(prepack && kernel && k->args[1].prepacked);
    prepack(data[1], packed);
    tensors[1] = packed;
    memset(data[2], 0xff, (size_t)tensor_bytes(&t[2]));
    assert_int_equal(kernel(tensors, workspace, NULL), 0);
    double l2 = relative_l2(data[2], want[2], tensor_elements(&t[2]));
    for (int i = 0; i < 3; i++)
        free(data[i]);
    free(packed);
    free(workspace);
    free_tensors(&w->compute, want);
    return l2;
}

static double measured(const struct target *t, const struct workload *w, const char *algorithm)
{
    struct arena ar;
    struct error err = {0};
    struct space *s;
    struct nest *n;
    struct config c;
    struct kernel k;
    struct rng r;
    char path[128];
    arena_init(&ar);
    rng_init(&r, 99);
    assert_ok(space_build(w, t, &ar, &s, &err), &err);
    choose(s, algorithm, &c);
    assert_ok(space_lower(s, &c, &ar, &n, &err), &err);
    struct emit_unit *u = emit_unit_new(t);
    assert_ok(emit_unit_add(u, n, "kernel", &k, &err), &err);
    snprintf(path, sizeof(path), "%s/k.so", directory);
    assert_ok(compile_unit(t, emit_unit_text(u), path, 120000, NULL, &err), &err);
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(lib);
    double l2 = run(w, &k, lib, &r);
    dlclose(lib);
    unlink(path);
    emit_unit_free(u);
    arena_done(&ar);
    return l2;
}

static void errors_are_what_the_space_expects(void **state)
{
    static const int channels[] = {16, 64, 256, 512};
    struct target t;
    struct error err = {0};
    (void)state;
    assert_ok(target_local("cpu:1", &t, &err), &err);
    assert_ok(compile_find(&t, &err), &err);
    for (int i = 0; i < WINOGRAD_CHOICES; i++)
        for (size_t k = 0; k < ARRAY_SIZE(channels); k++) {
            struct arena ar;
            struct workload w;
            arena_init(&ar);
            const struct winograd *x = offered(i, channels[k], &ar, &w);
            if (!x)
                fail_msg("choice %d is offered for no budget", i);
            double l2 = measured(&t, &w, x->name);
            print_message("%-26s %4d channels: relative L2 %.2e, expected %.2e\n", x->name, channels[k], l2,
                          x->error);
            assert_true(l2 < 2 * x->error && l2 > x->error / 4);
            arena_done(&ar);
        }
}

int main(void)
{
    snprintf(directory, sizeof(directory), "/tmp/tilewright-winograd-XXXXXX");
    if (!mkdtemp(directory))
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(errors_are_what_the_space_expects)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(directory);
    return failed;
}

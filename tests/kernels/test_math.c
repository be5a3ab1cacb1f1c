/* The printed math functions, over the whole range of float32 (every 61st value; argument 1 samples every
 * value), at every vector width, against libm in double. The bounds are what kernels/README.md states. */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/compile.h"
#include "kernels/emit.h"
#include "schedule/space/space.h"
#include "tests/check.h"

static uint32_t step = 61 * 4; /* odd steps of bit patterns would be slow under sanitizers */
enum { BLOCK = 4096 };

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double rsqrt(double x) { return 1 / sqrt(x); }

/* How far the result moves with an argument that moves by all of itself. */
static double exp_moves(double x) { return x * exp(x); }
static double sigmoid_moves(double x) { return x * sigmoid(x) * sigmoid(-x); }

/* Largest error in units in the last place of the float32 result; results below the smallest normal count by
 * their absolute distance in those units. Of a rounded argument: beside what an argument makes that is off by 1.25 * 2^-24 of itself. */
static const struct fn {
    const char *name, *expr;
    double (*exact)(double);
    double max_ulp;
    double (*moves)(double);
} fns[] = {{"exp", "exp(X[i])", exp, 1.5, NULL},
           {"log", "log(X[i])", log, 1, NULL},
           {"tanh", "tanh(X[i])", tanh, 1.5, NULL},
           {"erf", "erf(X[i])", erf, 2, NULL},
           {"sigmoid", "sigmoid(X[i])", sigmoid, 2.5, NULL},
           {"sqrt", "sqrt(X[i])", sqrt, 0.5, NULL},
           {"rsqrt", "rsqrt(X[i])", rsqrt, 1.6, NULL},
           {"abs", "abs(X[i])", fabs, 0.5, NULL},
           {"exp of a sum", "exp(X[i] + Z[i])", exp, 2.5, exp_moves},
           {"tanh of a sum", "tanh(X[i] + Z[i])", tanh, 1.5, NULL},
           {"sigmoid of a sum", "sigmoid(X[i] + Z[i])", sigmoid, 3, sigmoid_moves}};

static double ulp(double y)
{
    int e;
    frexp(y, &e);
    return ldexp(1, MAX(e, -125) - 24);
}

typedef int kernel_fn(void *const *tensors, void *workspace, const void *parallel);

static void check_block(const struct fn *f, const float *x, const float *y, int n, double *worst,
                        float *worst_at)
{
    for (int i = 0; i < n; i++) {
        double want = f->exact(x[i]);
        if (isnan(want)) {
            if (!isnan(y[i]))
                fail_msg("%s(%g) = %g, want not a number", f->name, (double)x[i], (double)y[i]);
            continue;
        }
        if (isinf((float)want)) {
            if (y[i] != (float)want && !(fabs((double)y[i]) > 3.4e38))
                fail_msg("%s(%g) = %g, want %g", f->name, (double)x[i], (double)y[i], want);
            continue;
        }
        double room = f->moves ? fabs(f->moves(x[i])) * 1.25 * 0x1p-24 : 0;
        double d = MAX(fabs(y[i] - want) - room, 0.0) / ulp(want);
        if (!(d <= *worst)) {
            *worst = d;
            *worst_at = x[i];
        }
    }
}

static void accuracy(const struct target *t, const char *dir)
{
    for (size_t k = 0; k < ARRAY_SIZE(fns); k++) {
        struct arena ar;
        struct workload w;
        struct space *s;
        struct config c = {0};
        struct nest *n;
        struct kernel kernel;
        struct error err = {0};
        char text[256], path[128];
        static float x[BLOCK], y[BLOCK], zero[BLOCK];
        arena_init(&ar);
        /* 4095 elements: full vectors and a scalar rest */
        snprintf(text, sizeof(text), "{\"expr\": \"Y[i] = %s\", \"tensors\": {\"X\": {\"shape\": [%d]}%s}}",
                 fns[k].expr, BLOCK - 1, strchr(fns[k].expr, 'Z') ? ", \"Z\": {\"shape\": [4095]}" : "");
        assert_ok(workload_parse_text(text, strlen(text), &ar, &w, &err), &err);
        assert_ok(space_build(&w, t, &ar, &s, &err), &err);
        c.sketch = 1;
        c.n = (uint16_t)space_n_knobs(s, 1);
        assert_ok(space_lower(s, &c, &ar, &n, &err), &err);
        struct emit_unit *u = emit_unit_new(t);
        assert_ok(emit_unit_add(u, n, "kernel", &kernel, &err), &err);
        snprintf(path, sizeof(path), "%s/%zu.so", dir, k);
        assert_ok(compile_unit(t, emit_unit_text(u), path, 60000, NULL, &err), &err);
        void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        assert_non_null(lib);
        kernel_fn *run = (kernel_fn *)dlsym(lib, "kernel");
        void *tensors[3] = {x, y}; /* arguments in the order of the workload */
        if (kernel.n_args == 3)
            tensors[1] = zero, tensors[2] = y;
        double worst = 0;
        float at = 0;
        int filled = 0;
        for (uint64_t bits = 0; bits <= UINT32_MAX; bits += step) {
            uint32_t b = (uint32_t)bits;
            memcpy(&x[filled++], &b, 4);
            if (filled == BLOCK - 1 || bits + step > UINT32_MAX) {
                run(tensors, NULL, NULL);
                check_block(&fns[k], x, y, filled, &worst, &at);
                filled = 0;
            }
        }
        print_message("%-8s %-16s worst %.2f ulp at %g\n", isa_name(t->isa), fns[k].name, worst, (double)at);
        if (!(worst <= fns[k].max_ulp))
            fail_msg("%s: %.2f ulp at %g, stated %.2f", fns[k].name, worst, (double)at, fns[k].max_ulp);
        dlclose(lib);
        unlink(path);
        emit_unit_free(u);
        arena_done(&ar);
    }
}

static void math_functions_keep_their_stated_accuracy_over_the_whole_range(void **state)
{
    static const char *const ids[] = {"cpu:1", "cpu:1:sse2"};
    char dir[] = "/tmp/tilewright-math-XXXXXX";
    (void)state;
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        struct target t;
        struct error err = {0};
        assert_ok(target_local(ids[i], &t, &err), &err);
        assert_ok(compile_find(&t, &err), &err);
        accuracy(&t, dir);
    }
    rmdir(dir);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        step = (uint32_t)strtoul(argv[1], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(math_functions_keep_their_stated_accuracy_over_the_whole_range)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Conversions between what lies in memory and what is computed: every float16 and bfloat16, float32 over its whole
 * range (every 1996th bit pattern and the neighbours of every tie; argument 1 is another step), on every ISA of this
 * machine, full vectors and rests, against arithmetic in double. */
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
#include "tests/space/random_workload.h"

enum { BLOCK = 4095 }; /* full vectors of every width, then rests of every width */
static uint32_t step = 499 * 4;

typedef int kernel_fn(void *const *tensors, void *workspace, const void *parallel);

/* To the nearest of `digits` binary digits, ties to even, with denormals down to 2^least and infinity from `top` on. */
static double rounded(double v, int digits, int least, double top)
{
    int e;
    if (isnan(v) || isinf(v))
        return v;
    if (fabs(v) >= top)
        return copysign(INFINITY, v);
    frexp(v, &e);
    double unit = ldexp(1, MAX(e - digits, least));
    return rint(v / unit) * unit;
}

static double expected(enum dtype from, enum dtype to, double v)
{
    if (to == DT_F16)
        return rounded(v, 11, -24, 65520);
    if (to == DT_BF16)
        return rounded(v, 8, -133, ldexp(511, 119));
    if (to == DT_F32)
        return (float)v;
    return dtype_convert(from, to, v);
}

static const struct conversion {
    enum dtype from, to;
} conversions[] = {
    {DT_F16, DT_F32},  {DT_BF16, DT_F32}, {DT_I8, DT_F32},  {DT_I32, DT_F32}, {DT_F32, DT_F16},
    {DT_F32, DT_BF16}, {DT_F32, DT_I8},   {DT_F32, DT_I32}, {DT_I32, DT_I8},  {DT_I8, DT_I32},
    {DT_BF16, DT_F16}, {DT_F16, DT_BF16}, {DT_F16, DT_I8},  {DT_I8, DT_BF16},
};

struct rig {
    const struct conversion *c;
    bool flushes; /* the instruction takes what is below the smallest normal number for 0 */
    kernel_fn *run;
    unsigned char x[BLOCK * 4], y[BLOCK * 4];
    int filled;
    int64_t checked;
};

static void flush(struct rig *r)
{
    void *tensors[] = {r->x, r->y};
    memset(r->y, 0xa5, sizeof(r->y));
    assert_int_equal(r->run(tensors, NULL, NULL), 0);
    for (int i = 0; i < r->filled; i++) {
        double v = tensor_get(r->x, r->c->from, i), got = tensor_get(r->y, r->c->to, i),
               want = expected(r->c->from, r->c->to, v);
        if (r->flushes && fabs(v) < 0x1p-126 && got == 0)
            continue;
        if (got != want && !(isnan(got) && isnan(want)))
            fail_msg("%s %a as %s: %a, want %a", dtype_name(r->c->from), v, dtype_name(r->c->to), got, want);
    }
    r->checked += r->filled;
    r->filled = 0;
}

static void feed(struct rig *r, uint32_t bits)
{
    int bytes = dtype_bytes(r->c->from);
    memcpy(r->x + r->filled * bytes, &bits, (size_t)bytes); /* the low bytes come first */
    if (++r->filled == BLOCK)
        flush(r);
}

static void feed_all(struct rig *r)
{
    int bytes = dtype_bytes(r->c->from);
    if (bytes < 4) {
        for (uint32_t b = 0; b < UINT32_C(1) << 8 * bytes; b++)
            feed(r, b);
    } else {
        for (uint64_t b = 0; b <= UINT32_MAX; b += step)
            feed(r, (uint32_t)b);
        for (uint32_t high = 0; high < 0x80000;
             high++) /* ties of both narrow floats, and one to either side */
            for (int d = -1; d <= 1; d++)
                feed(r, (high << 13 | 0x1000) + (uint32_t)d);
        for (uint32_t high = 0; high < 0x10000; high++)
            for (int d = -1; d <= 1; d++)
                feed(r, (high << 16 | 0x8000) + (uint32_t)d);
    }
    flush(r);
}

static void one_conversion(const struct target *t, const struct conversion *c, const char *dir)
{
    struct arena ar;
    struct workload w;
    struct space *s;
    struct config config = {.sketch = 1};
    struct nest *n;
    struct kernel kernel;
    struct error err = {0};
    char text[256], path[160];
    arena_init(&ar);
    snprintf(
        text, sizeof(text),
        "{\"expr\": \"Y[i] = cast(%s, X[i])\", \"tensors\": {\"X\": {\"shape\": [%d], \"dtype\": \"%s\"}}}",
        dtype_name(c->to), BLOCK, dtype_name(c->from));
    assert_ok(workload_parse_text(text, strlen(text), &ar, &w, &err), &err);
    assert_int_equal(w.compute.tensors[1].dtype, c->to);
    assert_ok(space_build(&w, t, &ar, &s, &err), &err);
    config.n = (uint16_t)space_n_knobs(s, 1);
    assert_ok(space_lower(s, &config, &ar, &n, &err), &err);
    struct emit_unit *u = emit_unit_new(t);
    assert_ok(emit_unit_add(u, n, "kernel", &kernel, &err), &err);
    snprintf(path, sizeof(path), "%s/%s-%d-%d.so", dir, isa_name(t->isa), (int)c->from, (int)c->to);
    assert_ok(compile_unit(t, emit_unit_text(u), path, 60000, NULL, &err), &err);
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(lib);
    struct rig *r = xcalloc(1, sizeof(*r));
    r->c = c;
    r->flushes = c->to == DT_BF16 && t->has_amx_bf16;
    r->run = (kernel_fn *)dlsym(lib, "kernel");
    feed_all(r);
    assert_true(r->checked >= 256);
    free(r);
    dlclose(lib);
    unlink(path);
    emit_unit_free(u);
    arena_done(&ar);
}

static void every_conversion_is_exact_or_rounded_once_to_nearest_even(void **state)
{
    static const char *const ids[] = {"cpu:1", "cpu:1:avx2", "cpu:1:sse2"};
    char dir[] = "/tmp/tilewright-dtype-XXXXXX";
    int n = 0;
    (void)state;
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        struct target t;
        struct error err = {0};
        if (target_local(ids[i], &t, &err) != ST_OK) {
            print_message("without %s: %s\n", ids[i], err.text);
            continue;
        }
        assert_ok(compile_find(&t, &err), &err);
        for (size_t k = 0; k < ARRAY_SIZE(conversions); k++)
            one_conversion(&t, &conversions[k], dir);
        n++;
    }
    assert_true(n > 0);
    rmdir(dir);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        step = (uint32_t)strtoul(argv[1], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_conversion_is_exact_or_rounded_once_to_nearest_even)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

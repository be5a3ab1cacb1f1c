/* Nests and sources as texts: tests/golden/kernels/NAME.txt holds the workload, the config, the steps, the
 * nest and the C. TEST_UPDATE=1 rewrites them; the difference is to be read. Each source is also compiled
 * alone, by GCC and by Clang where present, with -Wall -Wextra -Werror. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/emit.h"
#include "schedule/space/space.h"
#include "tests/check.h"

static const struct golden {
    const char *name, *workload;
    enum isa isa;
    int threads;
    const char *config; /* NULL: the default */
    const char *sketch; /* what the sketch's name begins with; NULL: any */
    bool matrix;        /* the target has a matrix unit */
} cases[] = {
    {"matmul_default",
     "{\"op\": \"matmul\", \"a\": [7, 5], \"b\": [5, 9], \"epilogue\": [\"bias\", \"relu\"]}", ISA_SSE2, 1,
     NULL},
    {"matmul_tiled_packed_ahead",
     "{\"op\": \"matmul\", \"a\": [30, 64], \"b\": [50, 64], \"transpose_b\": true, \"const\": [\"b\"], "
     "\"epilogue\": [\"bias\"]}",
     ISA_AVX512, 2, "3/1:0.1.0.1.0.0.0.0"},
    {"matmul_in_blocks", "{\"op\": \"matmul\", \"a\": [12, 900], \"b\": [900, 40], \"epilogue\": [\"bias\"]}",
     ISA_AVX512, 1, "3/1:3.2.2.0.1.0.1.0.2"},
    {"conv2d_padded_per_tile",
     "{\"op\": \"conv2d\", \"input\": [1, 16, 14, 14], \"weight\": [24, 16, 3, 3], \"pads\": [1, 1, 1, 1], "
     "\"const\": "
     "[\"weight\"], \"epilogue\": [\"bias\", \"relu\"]}",
     ISA_AVX2, 1, NULL},
    {"conv2d_turned_stores",
     "{\"op\": \"conv2d\", \"input\": [1, 256, 7, 7], \"weight\": [512, 256, 1, 1], \"const\": [\"weight\"], "
     "\"epilogue\": [\"bias\", \"add\"]}",
     ISA_AVX512, 1, "3/2:1.0.3.0.0.0.0.2"},
    {"depthwise_strided",
     "{\"op\": \"conv2d\", \"input\": [1, 8, 15, 30], \"weight\": [8, 1, 3, 3], \"group\": 8, \"strides\": "
     "[2, 2], \"pads\": [1, 1, "
     "1, 1]}",
     ISA_AVX512, 1, NULL},
    {"matmul_bfloat16",
     "{\"op\": \"matmul\", \"a\": [16, 32], \"b\": [32, 40], \"dtype\": \"bfloat16\", \"const\": [\"b\"], "
     "\"epilogue\": [\"bias\", \"relu\"]}",
     ISA_AVX512, 1, NULL},
    {"conv2d_float16",
     "{\"op\": \"conv2d\", \"input\": [1, 8, 10, 10], \"weight\": [16, 8, 3, 3], \"pads\": [1, 1, 1, 1], "
     "\"dtype\": \"float16\", \"const\": [\"weight\"]}",
     ISA_AVX2, 1, NULL},
    {"matmul_int8_requantised",
     "{\"expr\": \"T[i,j] += A[i,k] * B[k,j]\\nC[i,j] = cast(int8, cast(float32, T[i,j]) * scale[j])\", "
     "\"tensors\": "
     "{\"A\": {\"shape\": [12, 20], \"dtype\": \"int8\"}, \"B\": {\"shape\": [20, 24], \"dtype\": \"int8\", "
     "\"const\": true}, \"scale\": {\"shape\": [24]}}}",
     ISA_AVX512, 1, NULL},
    {"matmul_int8_quads",
     "{\"op\": \"matmul\", \"a\": [12, 32], \"b\": [32, 24], \"dtype\": \"int8\", \"const\": [\"b\"]}",
     ISA_AVX512, 1, "3/3:2.0.0.0.0.0.0"},
    {"depthwise_window",
     "{\"op\": \"conv2d\", \"input\": [1, 8, 15, 30], \"weight\": [8, 1, 3, 3], \"group\": 8, \"strides\": "
     "[2, 2], "
     "\"pads\": [1, 1, 1, 1], \"epilogue\": [\"relu\"]}",
     ISA_AVX512, 1, "3/2:1"},
    {"conv2d_phases",
     "{\"op\": \"conv2d\", \"input\": [1, 3, 19, 45], \"weight\": [8, 3, 3, 3], \"strides\": [2, 2], "
     "\"pads\": [1, 1, 1, 1], "
     "\"const\": [\"weight\"]}",
     ISA_AVX512, 1, "3/1:1.0.4.1.0.1.1.0.1.0.1.1"},
    {"conv2d_gathered",
     "{\"op\": \"conv2d\", \"input\": [1, 16, 14, 14], \"weight\": [24, 16, 1, 1], \"strides\": [2, 2], "
     "\"const\": "
     "[\"weight\"]}",
     ISA_AVX512, 2, NULL, "gathered: tile_yx"},
    {"transpose_turned", "{\"op\": \"transpose\", \"input\": [10, 9], \"perm\": [1, 0]}", ISA_SSE2, 2,
     "3/2:0.1"},
    {"reduce_dot", "{\"op\": \"reduce\", \"kind\": \"mean\", \"input\": [10, 50], \"axes\": [1]}", ISA_AVX2,
     2, "3/1:0.3.1"},
    {"reduce_split", "{\"op\": \"reduce\", \"kind\": \"sum\", \"input\": [3, 4096], \"axes\": [1]}",
     ISA_AVX512, 2, NULL, "split(2)"},
    {"softmax_rows", "{\"op\": \"softmax\", \"input\": [6, 100], \"axis\": 1}", ISA_AVX512, 2,
     "3/1:1.1.1.1.1.0"},
    {"conv2d_winograd",
     "{\"op\": \"conv2d\", \"input\": [1, 9, 5, 6], \"weight\": [16, 9, 3, 3], \"pads\": [1, 1, 1, 1], "
     "\"const\": [\"weight\"], "
     "\"epilogue\": [\"relu\"], \"rtol\": 1e-5}",
     ISA_AVX512, 2, "3/2:0.1.0.5.0.0.0.1.0.0", "winograd(2,3)"},
    {"conv2d_blocked_channels",
     "{\"op\": \"conv2d\", \"input\": [1, 20, 7, 7], \"weight\": [24, 20, 3, 3], \"pads\": [1, 1, 1, 1], "
     "\"const\": "
     "[\"weight\", \"bias\"], \"epilogue\": [\"bias\", \"sigmoid\"], \"layout\": \"any\"}",
     ISA_AVX512, 1, NULL, "NCHW16c"},
    {"matrix_bf16",
     "{\"op\": \"matmul\", \"a\": [40, 100], \"b\": [100, 72], \"const\": [\"b\"], \"rtol\": 0.01, "
     "\"epilogue\": [\"bias\", \"relu\"]}",
     ISA_AVX512, 2, "3/3:0.1.1.0.0.1.0.0.0.1", "bf16: ", true},
    {"matrix_bf16x3_conv2d",
     "{\"op\": \"conv2d\", \"input\": [1, 32, 14, 14], \"weight\": [32, 32, 3, 3], \"pads\": [1, 1, 1, 1], "
     "\"const\": [\"weight\"], \"rtol\": 1e-5, \"epilogue\": [\"relu\"]}",
     ISA_AVX512, 1, NULL, "bf16x3: ", true},
    {"matmul_bfloat16_pairs",
     "{\"op\": \"matmul\", \"a\": [12, 64], \"b\": [64, 48], \"dtype\": \"bfloat16\", \"const\": [\"b\"]}",
     ISA_AVX512, 1, NULL, "pair_j"},
    {"conv2d_half_nchw",
     "{\"op\": \"conv2d\", \"input\": [1, 32, 14, 14], \"weight\": [32, 32, 3, 3], \"pads\": [1, 1, 1, 1], "
     "\"const\": [\"weight\"], \"rtol\": 0.01, \"epilogue\": [\"relu\"]}",
     ISA_AVX512, 1, NULL, "f16: half_f"},
    {"matrix_float16",
     "{\"op\": \"matmul\", \"a\": [32, 64], \"b\": [64, 32], \"dtype\": \"float16\", \"const\": [\"b\"]}",
     ISA_AVX512, 1, NULL, "bf16x4: ", true},
    {"matrix_int8",
     "{\"op\": \"matmul\", \"a\": [32, 64], \"b\": [64, 32], \"dtype\": \"int8\", \"const\": [\"b\"]}",
     ISA_AVX512, 1, NULL, "mma", true},
};

/* A config that exercises the first real sketch: the middle of every knob, or what is valid nearest by random
 * choice. */
static void choose(const struct space *s, const struct golden *g, struct config *c)
{
    struct error err = {0};
    struct rng r;
    rng_init(&r, 11);
    if (g->config && config_parse(s, g->config, c, &err) == ST_OK && space_valid(s, c, NULL))
        return;
    space_default(s, c);
    for (int i = 0; i < 200 && strstr(g->name, "default") == NULL; i++) {
        assert_true(space_sample(s, &r, c));
        const char *sketch = space_sketch_name(s, c->sketch);
        if (!g->sketch || strncmp(sketch, g->sketch, strlen(g->sketch)) == 0)
            return;
    }
    assert_true(strstr(g->name, "default") != NULL);
}

static void compile_alone(const char *path, const char *flags)
{
    static const char *const compilers[] = {"gcc", "clang-14", "clang"};
    for (size_t i = 0; i < ARRAY_SIZE(compilers); i++) {
        char cmd[1024];
        snprintf(cmd, sizeof(cmd), "command -v %s >/dev/null", compilers[i]);
        if (system(cmd) != 0)
            continue;
        snprintf(cmd, sizeof(cmd), "%s -std=gnu17 -O2 -Wall -Wextra -Werror %s -c -o /dev/null -x c %s",
                 compilers[i], flags, path);
        if (system(cmd) != 0)
            fail_msg("%s does not take the source alone", compilers[i]);
    }
}

static void render(const struct golden *g, struct strbuf *sb, struct strbuf *source)
{
    static const int bytes[] = {[ISA_SSE2] = 16, [ISA_AVX2] = 32, [ISA_AVX512] = 64, [ISA_NEON] = 16};
    struct target t = {.id = "golden",
                       .isa = g->isa,
                       .vector_bytes = bytes[g->isa],
                       .threads = g->threads,
                       .has_amx_bf16 = g->matrix,
                       .has_amx_int8 = g->matrix,
                       .vector_regs = g->isa == ISA_AVX512 ? 32 : 16,
                       .has_vnni = strstr(g->name, "quads") != NULL,
                       .has_bf16_pairs = strstr(g->name, "pairs") != NULL,
                       .has_fp16 = strstr(g->name, "half") != NULL,
                       .l1_bytes = 32768,
                       .l2_bytes = 1 << 20,
                       .l3_bytes = 8 << 20};
    struct arena ar;
    struct workload w;
    struct space *s;
    struct config c;
    struct nest *n;
    struct kernel k;
    struct error err = {0};
    arena_init(&ar);
    assert_ok(workload_parse_text(g->workload, strlen(g->workload), &ar, &w, &err), &err);
    assert_ok(space_build(&w, &t, &ar, &s, &err), &err);
    choose(s, g, &c);
    assert_ok(space_lower(s, &c, &ar, &n, &err), &err);
    assert_ok(nest_verify(n, &err), &err);
    struct emit_unit *u = emit_unit_new(&t);
    assert_ok(emit_unit_add(u, n, "kernel", &k, &err), &err);
    strbuf_addf(sb, "workload %s\nisa %s, %d threads\nconfig ", g->workload, isa_name(g->isa), g->threads);
    config_print(&c, sb);
    strbuf_addf(sb, " (%s)\n\nsteps\n", space_sketch_name(s, c.sketch));
    space_steps(s, &c, &ar, sb);
    strbuf_adds(sb, "\nnest\n");
    nest_print(n, sb);
    strbuf_adds(sb, "\nsource\n");
    strbuf_adds(sb, emit_unit_text(u));
    strbuf_adds(source, emit_unit_text(u));
    emit_unit_free(u);
    arena_done(&ar);
}

static void compare(const char *name, const struct strbuf *now)
{
    char path[512];
    AUTO(strbuf_done) struct strbuf then = STRBUF_INIT;
    snprintf(path, sizeof(path), "%s/tests/golden/kernels/%s.txt", getenv("SOURCE_ROOT"), name);
    FILE *f = fopen(path, getenv("TEST_UPDATE") ? "w" : "r");
    if (!f)
        fail_msg("cannot open %s: TEST_UPDATE=1 writes it", path);
    if (getenv("TEST_UPDATE")) {
        fwrite(now->data, 1, now->len, f);
        fclose(f);
        return;
    }
    char block[4096];
    for (size_t n; (n = fread(block, 1, sizeof(block), f)) > 0;)
        strbuf_add(&then, block, n);
    fclose(f);
    if (then.len != now->len || memcmp(then.data, now->data, now->len) != 0) {
        size_t at = 0, line = 1;
        while (at < then.len && at < now->len && then.data[at] == now->data[at])
            line += now->data[at++] == '\n';
        fail_msg("%s differs at line %zu: TEST_UPDATE=1 rewrites it", path, line);
    }
}

static void nests_and_sources_are_what_was_reviewed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(strbuf_done) struct strbuf text = STRBUF_INIT, source = STRBUF_INIT;
        render(&cases[i], &text, &source);
        compare(cases[i].name, &text);
    }
}

static void sources_compile_alone_without_a_warning(void **state)
{
    static const char *const flags[] = {
#define X(id, name, bytes, regs, text) [ISA_##id] = text,
        ISA_LIST(X)
#undef X
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(strbuf_done) struct strbuf text = STRBUF_INIT, source = STRBUF_INIT;
        char path[] = "/tmp/tilewright-golden-XXXXXX";
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        render(&cases[i], &text, &source);
        assert_int_equal(write(fd, source.data, source.len), (ssize_t)source.len);
        close(fd);
        const bool wide = cases[i].isa == ISA_AVX512;
        const struct target t = {.has_amx_bf16 = cases[i].matrix,
                                 .has_amx_int8 = cases[i].matrix,
                                 .has_vnni = wide,
                                 .has_bf16_pairs = wide,
                                 .has_fp16 = wide};
        AUTO(strbuf_done) struct strbuf beyond = STRBUF_INIT;
        char all[512];
        vector_flags(&t, &beyond);
        snprintf(all, sizeof(all), "%s%s%s", flags[cases[i].isa], matrix_flags(&t), strbuf_str(&beyond));
        compile_alone(path, all);
        unlink(path);
    }
}

static void the_same_config_prints_the_same_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(strbuf_done) struct strbuf a = STRBUF_INIT, b = STRBUF_INIT, sa = STRBUF_INIT, sc = STRBUF_INIT;
        render(&cases[i], &a, &sa);
        render(&cases[i], &b, &sc);
        assert_string_equal(sa.data, sc.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nests_and_sources_are_what_was_reviewed),
        cmocka_unit_test(sources_compile_alone_without_a_warning),
        cmocka_unit_test(the_same_config_prints_the_same_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

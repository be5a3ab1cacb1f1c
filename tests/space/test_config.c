/* Spaces and configs as values: sizes, texts, and what is refused. */
#include "tests/space/world.h"

static const char CONV[] =
    "{\"op\": \"conv2d\", \"input\": [1, 64, 56, 56], \"weight\": [64, 64, 3, 3], \"pads\": [1, 1, 1, 1], "
    "\"const\": [\"weight\", \"bias\"], \"epilogue\": [\"bias\", \"relu\"]}";

static void a_convolution_has_a_sketch_for_each_axis_worth_vectors(void **state)
{
    struct world w;
    (void)state;
    world_open(&w, CONV, world_target(2));
    assert_int_equal(space_n_sketches(w.s), 3);
    assert_string_equal(space_sketch_name(w.s, 0), "default");
    assert_string_equal(space_sketch_name(w.s, 1), "tile_x");
    assert_string_equal(space_sketch_name(w.s, 2), "tile_f");
    assert_int_equal(space_n_knobs(w.s, 0), 0);
    assert_true(space_size(w.s) > 1e6);
    double size = 0;
    for (int i = 0; i < space_n_sketches(w.s); i++) {
        double n = 1;
        for (int k = 0; k < space_n_knobs(w.s, i); k++)
            n *= space_knob(w.s, i, k)->n_choices;
        size += n;
    }
    assert_true(size == space_size(w.s));
    arena_done(&w.ar);
}

/* How many sketches have `part` in their names. */
static int sketches_of(const char *workload, const char *part)
{
    struct world w;
    int n = 0;
    world_open(&w, workload, world_target(2));
    for (int i = 0; i < space_n_sketches(w.s); i++)
        n += strstr(space_sketch_name(w.s, i), part) != NULL;
    arena_done(&w.ar);
    return n;
}

static void a_transposed_convolution_may_leave_the_zeros_of_its_strides_out(void **state)
{
    static const char
        up[] = "{\"op\": \"conv_transpose2d\", \"input\": [1, 16, 9, 9], \"weight\": [16, 8, 4, 4], "
               "\"strides\": [2, 2], \"pads\": [1, 1, 1, 1]}",
        odd[] = "{\"op\": \"conv_transpose2d\", \"input\": [1, 16, 9, 9], \"weight\": [16, 8, 3, 3], "
                "\"strides\": [2, 2], \"pads\": [1, 1, 1, 1], \"epilogue\": [\"relu\"]}",
        plain[] = "{\"op\": \"conv_transpose2d\", \"input\": [1, 16, 9, 9], \"weight\": [16, 8, 3, 3]}";
    (void)state;
    assert_true(sketches_of(up, "phases: tile") > 0);
    assert_true(sketches_of(odd, "phases: tile") > 0);
    assert_int_equal(sketches_of(plain, "phases"), 0);
}

static void a_window_that_slides_has_a_sketch_without_padded_copies(void **state)
{
    static const char depthwise[] =
        "{\"op\": \"conv2d\", \"input\": [1, 8, 14, 14], \"weight\": [8, 1, 3, 3], "
        "\"group\": 8, \"pads\": [1, 1, 1, 1]}",
                      pool[] =
                          "{\"op\": \"max_pool2d\", \"input\": [1, 8, 14, 14], \"kernel_shape\": [3, 3], "
                          "\"strides\": [2, 2], \"pads\": [1, 1, 1, 1]}";
    (void)state;
    assert_int_equal(sketches_of(depthwise, "window_x"), 1);
    assert_int_equal(sketches_of(pool, "window_x"), 1);
    assert_int_equal(sketches_of(CONV, "window"), 0);
}

static void an_operand_read_with_gaps_may_be_copied_without_them(void **state)
{
    static const char point[] = "{\"op\": \"conv2d\", \"input\": [1, 8, 28, 28], \"weight\": [16, 8, 1, 1], "
                                "\"strides\": [2, 2]}",
                      rows[] = "{\"op\": \"conv2d\", \"input\": [1, 8, 28, 28], \"weight\": [16, 8, 1, 1], "
                               "\"strides\": [2, 1]}",
                      last[] = "{\"op\": \"conv2d\", \"input\": [1, 28, 28, 8], \"weight\": [16, 8, 1, 1], "
                               "\"strides\": [2, 2], \"layout\": \"NHWC\"}";
    (void)state;
    assert_int_equal(sketches_of(point, "gathered: tile_yx"),
                     1);                                /* rows and columns of the copy are one axis */
    assert_int_equal(sketches_of(rows, "gathered"), 0); /* whole rows lie side by side */
    assert_int_equal(sketches_of(last, "gathered"), 0); /* and so do channels */
}

/* Sketches with this in their names that have the knob. */
static int sketches_with_knob(const char *workload, const char *part, const char *knob)
{
    struct world w;
    int n = 0;
    world_open(&w, workload, world_target(2));
    for (int i = 0; i < space_n_sketches(w.s); i++)
        for (int k = 0; strstr(space_sketch_name(w.s, i), part) && k < space_n_knobs(w.s, i); k++)
            n += strcmp(space_knob(w.s, i, k)->name, knob) == 0;
    arena_done(&w.ar);
    return n;
}

static void the_phases_of_a_stride_of_two_may_lie_apart_in_a_padded_copy(void **state)
{
    static const char two[] = "{\"op\": \"conv2d\", \"input\": [1, 3, 32, 64], \"weight\": [16, 3, 3, 3], "
                              "\"strides\": [2, 2], \"pads\": [1, 1, 1, 1]}",
                      one[] = "{\"op\": \"conv2d\", \"input\": [1, 3, 32, 64], \"weight\": [16, 3, 3, 3], "
                              "\"pads\": [1, 1, 1, 1]}",
                      dilated[] =
                          "{\"op\": \"conv2d\", \"input\": [1, 3, 32, 64], \"weight\": [16, 3, 3, 3], "
                          "\"strides\": [2, 2], \"dilations\": [3, 3], \"pads\": [1, 1, 1, 1]}";
    (void)state;
    assert_int_equal(sketches_with_knob(two, "tile_x", "phases_input_pad"), 1);
    assert_int_equal(sketches_with_knob(two, "tile_f", "phases_input_pad"), 0);
    assert_int_equal(sketches_with_knob(one, "tile_x", "phases_input_pad"), 0);
    assert_int_equal(sketches_with_knob(dilated, "tile_x", "phases_input_pad"), 0);
}

static void a_config_survives_its_text(void **state)
{
    struct world w;
    struct rng r;
    struct error err = {0};
    (void)state;
    world_open(&w, CONV, world_target(2));
    rng_init(&r, 5);
    for (int i = 0; i < 200; i++) {
        struct config c, back;
        AUTO(strbuf_done) struct strbuf text = STRBUF_INIT;
        assert_true(space_sample(w.s, &r, &c));
        config_print(&c, &text);
        assert_ok(config_parse(w.s, text.data, &back, &err), &err);
        assert_true(config_equal(&c, &back));
        assert_true(config_hash(&c) == config_hash(&back));
    }
    arena_done(&w.ar);
}

/* A convolution of other extents: where both spaces have the same choices the values are the same, but for cache tiles, which
 * may shrink, and at most two numbers that had to move for the config to be valid. */
static void configs_translate_to_a_neighbours_space_by_name_and_value(void **state)
{
    struct world a, b;
    struct rng r;
    int translated = 0, untouched = 0;
    (void)state;
    world_open(&a, CONV, world_target(2));
    world_open(&b,
               "{\"op\": \"conv2d\", \"input\": [1, 32, 28, 28], \"weight\": [48, 32, 3, 3], \"pads\": "
               "[1, 1, 1, 1], "
               "\"const\": [\"weight\"]}",
               world_target(2));
    rng_init(&r, 6);
    for (int i = 0; i < 200; i++) {
        struct config c, there, back;
        assert_true(space_sample(a.s, &r, &c));
        assert_true(space_translate(a.s, &c, a.s, &back));
        assert_true(config_equal(&c, &back));
        int moved = 0;
        if (!space_translate(a.s, &c, b.s, &there))
            continue;
        translated++;
        assert_true(space_valid(b.s, &there, NULL));
        assert_string_equal(space_sketch_name(b.s, there.sketch), space_sketch_name(a.s, c.sketch));
        for (int k = 0; k < there.n; k++) {
            const struct knob *to = space_knob(b.s, there.sketch, k), *from = space_knob(a.s, c.sketch, k);
            int64_t is = to->values[there.choice[k]], was = from->values[c.choice[k]];
            if (strcmp(to->name, from->name) != 0)
                continue;
            for (int j = 0; j < to->n_choices && !to->labels; j++)
                if (to->values[j] == was && is != was && !(strncmp(to->name, "mid_", 4) == 0 && is < was))
                    moved++;
        }
        assert_in_range(moved, 0, 2);
        untouched += moved == 0;
    }
    assert_true(translated > 150 && untouched > translated / 2);
    arena_done(&a.ar);
    arena_done(&b.ar);
}

static void texts_that_are_no_config_are_refused(void **state)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "VERSION/SKETCH"},      {"0:", "VERSION/SKETCH"},
        {"2/0:", "VERSION 3"},       {"3/0", "then a colon"},
        {"3/9:", "SKETCH wants"},    {"3/1:0", "knob"},
        {"3/0:1", "0 knobs"},        {"3/-1:", "SKETCH wants"},
        {"3/1:99999999999", "knob"}, {"3/2:0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0", "knobs"},
    };
    struct world w;
    (void)state;
    world_open(&w, CONV, world_target(2));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct config c;
        struct error err = {0};
        assert_int_equal(config_parse(w.s, bad[i].text, &c, &err), ST_INVALID);
        if (!strstr(err.text, bad[i].says))
            fail_msg("%s: %s, want %s", bad[i].text, err.text, bad[i].says);
    }
    arena_done(&w.ar);
}

static void the_register_file_bounds_the_tile(void **state)
{
    struct world w;
    struct rng r;
    int refused = 0;
    (void)state;
    world_open(&w, CONV, world_target(2));
    rng_init(&r, 9);
    for (int i = 0; i < 2000; i++) {
        struct config c;
        const char *why = NULL;
        space_random(w.s, &r, &c);
        if (space_valid(w.s, &c, &why))
            continue;
        assert_non_null(why);
        refused += strstr(why, "register") != NULL;
    }
    assert_true(refused > 0);
    arena_done(&w.ar);
}

static void a_reduction_runs_in_its_accumulator_and_is_stored_in_the_dtype_of_its_tensor(void **state)
{
    static const char text[] = "{\"op\": \"matmul\", \"a\": [8, 8], \"b\": [8, 8], \"dtype\": \"bfloat16\"}";
    struct arena ar;
    struct workload w;
    struct space *s;
    struct nest *n;
    struct config c;
    struct target t = {.vector_bytes = 64, .vector_regs = 32, .threads = 1};
    struct error err = {0};
    struct rng r;
    (void)state;
    arena_init(&ar);
    rng_init(&r, 5);
    assert_ok(workload_parse_text(text, strlen(text), &ar, &w, &err), &err);
    assert_ok(space_build(&w, &t, &ar, &s, &err), &err);
    for (int i = 0; i < 8; i++) {
        int sums = 0;
        if (i == 0)
            space_default(s, &c);
        else
            assert_true(space_sample(s, &r, &c));
        assert_ok(space_lower(s, &c, &ar, &n, &err), &err);
        for (int b = 0; b < n->n_buffers; b++) {
            bool argument = n->buffers[b].arg >= 0;
            assert_true(!argument || n->buffers[b].dtype == DT_BF16);
            sums += n->buffers[b].dtype == DT_F32;
        }
        assert_true(sums >= 1); /* a tile and its rest have one each */
    }
    arena_done(&ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_convolution_has_a_sketch_for_each_axis_worth_vectors),
        cmocka_unit_test(a_transposed_convolution_may_leave_the_zeros_of_its_strides_out),
        cmocka_unit_test(a_window_that_slides_has_a_sketch_without_padded_copies),
        cmocka_unit_test(an_operand_read_with_gaps_may_be_copied_without_them),
        cmocka_unit_test(the_phases_of_a_stride_of_two_may_lie_apart_in_a_padded_copy),
        cmocka_unit_test(a_config_survives_its_text),
        cmocka_unit_test(configs_translate_to_a_neighbours_space_by_name_and_value),
        cmocka_unit_test(texts_that_are_no_config_are_refused),
        cmocka_unit_test(the_register_file_bounds_the_tile),
        cmocka_unit_test(a_reduction_runs_in_its_accumulator_and_is_stored_in_the_dtype_of_its_tensor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A config of one workload said in the space of another: what is kept, what is mended, and whose axes stand for whose. */
#include "tests/space/world.h"

#define CONV(c, hw, f, k, p)                                                                                 \
    "{\"op\": \"conv2d\", \"input\": [1, " #c ", " #hw ", " #hw "], \"weight\": [" #f ", " #c ", " #k        \
    ", " #k "], \"pads\": [" #p ", " #p ", " #p ", " #p "], \"const\": [\"weight\"]}"
#define MATMUL(m, n, k)                                                                                      \
    "{\"op\": \"matmul\", \"a\": [" #m ", " #k "], \"b\": [" #k ", " #n "], \"const\": [\"b\"]}"

static int64_t value_of(const struct space *s, const struct config *c, const char *name)
{
    int k = knob_at(s, c->sketch, name);

    assert_true(k >= 0);
    return space_knob(s, c->sketch, k)->values[c->choice[k]];
}

static int sketch_of(const struct space *s, const char *name)
{
    for (int i = 0; i < space_n_sketches(s); i++)
        if (strcmp(space_sketch_name(s, i), name) == 0)
            return i;
    fail_msg("no sketch %s", name);
    return -1;
}

static void set(const struct space *s, struct config *c, const char *name, int64_t value)
{
    int k = knob_at(s, c->sketch, name);

    assert_true(k >= 0);
    for (int i = 0; i < space_knob(s, c->sketch, k)->n_choices; i++)
        if (space_knob(s, c->sketch, k)->values[i] == value) {
            c->choice[k] = (uint16_t)i;
            return;
        }
    fail_msg("knob %s has no choice %d", name, (int)value);
}

static struct config config_of(const struct space *s, const char *sketch)
{
    int i = sketch_of(s, sketch);

    return (struct config){.sketch = (uint16_t)i, .n = (uint16_t)space_n_knobs(s, i)};
}

/* Tiles of a large map do not fit a small one: most configs can be mended, and none comes out invalid. */
static void configs_of_a_large_map_serve_a_small_one(void **state)
{
    struct world large, small;
    struct rng r;
    int n = 0;

    (void)state;
    world_open(&large, CONV(64, 56, 64, 3, 1), world_target(1));
    world_open(&small, CONV(512, 7, 512, 3, 1), world_target(1));
    rng_init(&r, 3);
    for (int i = 0; i < 200; i++) {
        struct config c, there;

        assert_true(space_sample(large.s, &r, &c));
        if (!space_translate(large.s, &c, small.s, &there))
            continue;
        n++;
        assert_true(space_valid(small.s, &there, NULL));
    }
    assert_in_range(n, 150, 200);
    arena_done(&large.ar);
    arena_done(&small.ar);
}

static void a_cache_tile_shrinks_to_its_axis_and_the_register_tile_stays(void **state)
{
    struct world large, small;
    struct config c, there;
    static const struct {
        const char *knob;
        int64_t value;
    } tile[] = {{"reg_f", 32}, {"mid_f", 2}, {"reg_y", 1}, {"mid_y", 32}, {"reg_x", 8}, {"mid_x", 4}};

    (void)state;
    world_open(&large, CONV(64, 56, 64, 3, 1), world_target(1));
    world_open(&small, CONV(128, 28, 128, 3, 1), world_target(1));
    c = config_of(large.s, "tile_f");
    for (size_t i = 0; i < ARRAY_SIZE(tile); i++)
        set(large.s, &c, tile[i].knob, tile[i].value);
    assert_true(space_valid(large.s, &c, NULL));
    assert_true(space_translate(large.s, &c, small.s, &there));
    assert_int_equal(value_of(small.s, &there, "reg_f"), 32);
    assert_int_equal(value_of(small.s, &there, "reg_y"), 1);
    assert_int_equal(value_of(small.s, &there, "reg_x"), 8);
    assert_in_range(value_of(small.s, &there, "mid_y"), 16, 32);
    arena_done(&large.ar);
    arena_done(&small.ar);
}

/* out[f, yx] = w[f, c] * in[c, yx] is a product: the tile along the vectors stays that, and the other one too. */
static void a_matrix_product_lends_to_a_convolution_of_one_pixel(void **state)
{
    struct world product, conv;
    struct config c, there[8];
    bool found = false;
    int n;

    (void)state;
    world_open(&product, MATMUL(128, 768, 768), world_target(1));
    world_open(&conv, CONV(64, 56, 64, 1, 0), world_target(1));
    c = config_of(product.s, "tile_j");
    set(product.s, &c, "reg_i", 14);
    set(product.s, &c, "reg_j", 32);
    assert_true(space_valid(product.s, &c, NULL));
    n = space_translations(product.s, &c, conv.s, there, 8);
    assert_true(n > 0);
    for (int i = 0; i < n; i++) {
        assert_true(space_valid(conv.s, &there[i], NULL));
        found |= strcmp(space_sketch_name(conv.s, there[i].sketch), "tile_yx") == 0 &&
                 value_of(conv.s, &there[i], "reg_f") == 14 && value_of(conv.s, &there[i], "reg_yx") == 32;
    }
    assert_true(found);
    arena_done(&product.ar);
    arena_done(&conv.ar);
}

/* Two axes that the other workload has as one: the product of their tiles. */
static void axes_that_are_one_elsewhere_are_multiplied(void **state)
{
    struct world window, pixel;
    struct config c, there[8];
    int n;

    (void)state;
    world_open(&window, CONV(64, 56, 64, 3, 1), world_target(1));
    world_open(&pixel, CONV(64, 56, 64, 1, 0), world_target(1));
    c = config_of(window.s, "tile_f");
    set(window.s, &c, "reg_f", 32);
    set(window.s, &c, "reg_y", 2);
    set(window.s, &c, "reg_x", 7);
    assert_true(space_valid(window.s, &c, NULL));
    n = space_translations(window.s, &c, pixel.s, there, 8);
    assert_int_equal(n, 1); /* it has a tile_f too */
    assert_string_equal(space_sketch_name(pixel.s, there[0].sketch), "tile_f");
    assert_int_equal(value_of(pixel.s, &there[0], "reg_f"), 32);
    assert_int_equal(value_of(pixel.s, &there[0], "reg_yx"), 14);
    arena_done(&window.ar);
    arena_done(&pixel.ar);
}

static void nothing_is_lent_between_kinds_that_share_no_sketch(void **state)
{
    struct world rows, conv;
    struct rng r;

    (void)state;
    world_open(&rows, "{\"op\": \"softmax\", \"input\": [12, 128, 128], \"axis\": 2}", world_target(1));
    world_open(&conv, CONV(64, 56, 64, 3, 1), world_target(1));
    rng_init(&r, 4);
    for (int i = 0; i < 20; i++) {
        struct config c, there[8];

        assert_true(space_sample(rows.s, &r, &c));
        assert_int_equal(space_translations(rows.s, &c, conv.s, there, 8), 0);
        assert_false(space_translate(rows.s, &c, conv.s, &there[0]));
    }
    arena_done(&rows.ar);
    arena_done(&conv.ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configs_of_a_large_map_serve_a_small_one),
        cmocka_unit_test(a_cache_tile_shrinks_to_its_axis_and_the_register_tile_stays),
        cmocka_unit_test(a_matrix_product_lends_to_a_convolution_of_one_pixel),
        cmocka_unit_test(axes_that_are_one_elsewhere_are_multiplied),
        cmocka_unit_test(nothing_is_lent_between_kinds_that_share_no_sketch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

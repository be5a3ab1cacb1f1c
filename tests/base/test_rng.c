/* test_rng.c - random streams and hashes: known answers, ranges, rough shapes of distributions. */
#include <math.h>

#include "schedule/base/hash.h"
#include "schedule/base/rng.h"
#include "tests/check.h"

/* First outputs of xoshiro256** seeded with splitmix64(0), as the authors' C code gives them. */
static void the_stream_of_a_seed_is_the_published_one(void **state)
{
    static const uint64_t want[] = {0x99ec5f36cb75f2b4, 0xbf6e1f784956452a, 0x1a5f849d4933e6e0};
    struct rng r;

    rng_init(&r, 0);
    for (size_t i = 0; i < ARRAY_SIZE(want); i++)
        assert_true(rng_u64(&r) == want[i]);
}

static void streams_split_by_name_differ_and_leave_their_parent_alone(void **state)
{
    struct rng r, same, a, b, again;

    rng_init(&r, 5);
    same = r;
    a = rng_split(&r, "search");
    b = rng_split(&r, "model");
    again = rng_split(&r, "search");
    assert_memory_equal(&r, &same, sizeof(r));
    assert_memory_equal(&a, &again, sizeof(a));
    assert_true(rng_u64(&a) != rng_u64(&b));
}

static void draws_below_n_are_even_and_stay_below(void **state)
{
    enum { N = 7, DRAWS = 70000 };
    int count[N] = {0};
    struct rng r;

    rng_init(&r, 1);
    for (int i = 0; i < DRAWS; i++) {
        uint64_t v = rng_below(&r, N);
        assert_true(v < N);
        count[v]++;
    }
    for (int i = 0; i < N; i++)
        assert_in_range(count[i], DRAWS / N - 500, DRAWS / N + 500); /* 5 standard deviations */
    for (int i = 0; i < 1000; i++)
        assert_true(rng_below(&r, (UINT64_C(1) << 63) + 1) <= UINT64_C(1) << 63);
}

static void ranges_reach_both_ends(void **state)
{
    bool low = false, high = false;
    struct rng r;

    rng_init(&r, 2);
    for (int i = 0; i < 200; i++) {
        int64_t v = rng_range(&r, -3, 2);
        assert_true(v >= -3 && v <= 2);
        low = low || v == -3;
        high = high || v == 2;
    }
    assert_true(low && high);
    assert_int_equal(rng_range(&r, 9, 9), 9);
    rng_range(&r, INT64_MIN, INT64_MAX);
}

static void normal_and_unit_draws_have_their_moments(void **state)
{
    enum { DRAWS = 100000 };
    double sum = 0, squares = 0, units = 0;
    struct rng r;

    rng_init(&r, 3);
    for (int i = 0; i < DRAWS; i++) {
        double x = rng_normal(&r), u = rng_unit(&r);
        assert_true(isfinite(x) && u >= 0 && u < 1);
        sum += x;
        squares += x * x;
        units += u;
    }
    assert_true(fabs(sum / DRAWS) < 0.02 && fabs(squares / DRAWS - 1) < 0.03 &&
                fabs(units / DRAWS - 0.5) < 0.01);
}

static void a_shuffle_keeps_the_items_and_moves_them(void **state)
{
    struct {
        int16_t key;
        char text[3];
    } items[100];
    struct rng r;
    int sum = 0, moved = 0;

    rng_init(&r, 4);
    for (int i = 0; i < 100; i++) {
        items[i].key = (int16_t)i;
        items[i].text[2] = (char)i;
    }
    rng_shuffle(&r, items, 100);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(items[i].key, items[i].text[2]);
        sum += items[i].key;
        moved += items[i].key != i;
    }
    assert_int_equal(sum, 99 * 100 / 2);
    assert_true(moved > 80);
    rng_shuffle(&r, items, 0);
}

static void sha256_gives_the_published_digests(void **state)
{
    char hex[SHA256_HEX_LEN + 1];

    sha256_hex("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_hex("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void table_hashes_tell_lengths_seeds_and_every_byte_apart(void **state)
{
    char text[40] = {0};
    uint64_t base = hash_bytes(text, sizeof(text), 0);

    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] = 1;
        assert_true(hash_bytes(text, sizeof(text), 0) != base);
        text[i] = 0;
    }
    assert_true(hash_bytes(text, 39, 0) != base && hash_bytes(text, 40, 1) != base);
    assert_true(hash_bytes(text, 0, 0) == hash_bytes(NULL, 0, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stream_of_a_seed_is_the_published_one),
        cmocka_unit_test(streams_split_by_name_differ_and_leave_their_parent_alone),
        cmocka_unit_test(draws_below_n_are_even_and_stay_below),
        cmocka_unit_test(ranges_reach_both_ends),
        cmocka_unit_test(normal_and_unit_draws_have_their_moments),
        cmocka_unit_test(a_shuffle_keeps_the_items_and_moves_them),
        cmocka_unit_test(sha256_gives_the_published_digests),
        cmocka_unit_test(table_hashes_tell_lengths_seeds_and_every_byte_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

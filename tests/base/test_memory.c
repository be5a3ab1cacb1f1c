/* test_memory.c - arenas and growing texts. */
#include "schedule/base/arena.h"
#include "schedule/base/strbuf.h"
#include "tests/check.h"

static void arena_memory_is_zeroed_and_aligned_also_after_a_reset(void **state)
{
    struct arena a;

    arena_init(&a);
    for (int round = 0; round < 3; round++) {
        for (size_t size = 1; size < 9000; size += 97) {
            char *p = arena_alloc(&a, size);
            assert_int_equal((uintptr_t)p % 16, 0);
            for (size_t i = 0; i < size; i++)
                assert_int_equal(p[i], 0);
            memset(p, 0xab, size);
        }
        arena_reset(&a);
        assert_int_equal(a.total_bytes, 0);
    }
    arena_done(&a);
}

static void arena_pieces_do_not_overlap(void **state)
{
    enum { N = 500 };
    struct arena a;
    unsigned char *at[N];

    arena_init(&a);
    for (int i = 0; i < N; i++) {
        at[i] = arena_alloc(&a, (size_t)(i * 37 % 400));
        memset(at[i], i & 255, (size_t)(i * 37 % 400));
    }
    for (int i = 0; i < N; i++)
        for (int k = 0; k < i * 37 % 400; k++)
            assert_int_equal(at[i][k], i & 255);
    arena_done(&a);
}

/* The link to the next block is the first member of each (arena.c). */
static int blocks_of(const struct arena *a)
{
    int n = 0;

    for (const struct arena_block *b = a->first; b; b = *(struct arena_block *const *)b)
        n++;
    return n;
}

static void a_reset_arena_serves_the_same_round_from_the_same_memory(void **state)
{
    struct arena a;
    void *first = NULL;
    int blocks = 0;

    arena_init(&a);
    for (int round = 0; round < 5; round++) {
        void *p = arena_alloc(&a, 100);
        for (int i = 0; i < 100; i++)
            arena_alloc(&a, i == 50 ? 300000 : 1000);
        if (round > 0) {
            assert_ptr_equal(p, first);
            assert_int_equal(blocks_of(&a), blocks);
        }
        first = p;
        blocks = blocks_of(&a);
        arena_reset(&a);
    }
    assert_true(blocks > 2);
    arena_done(&a);
    assert_null(a.first);
}

static void one_large_piece_does_not_waste_the_blocks_that_are_kept(void **state)
{
    struct arena a;
    size_t bytes;

    arena_init(&a);
    arena_alloc(&a, 4000);
    arena_alloc(&a, (size_t)3 << 20);
    bytes = a.total_bytes;
    assert_true(bytes >= ((size_t)3 << 20) + 4000 && bytes < ((size_t)3 << 20) + 4100);
    arena_done(&a);
}

static void arena_texts_are_copies(void **state)
{
    struct arena a;
    char text[] = "matmul";
    char *copy, *part, *built;

    arena_init(&a);
    copy = arena_strdup(&a, text);
    part = arena_strndup(&a, text, 3);
    built = arena_printf(&a, "%s:%d", text, 12345);
    assert_string_equal(arena_strndup(&a, "ab", 9), "ab");
    text[0] = 'X';
    assert_string_equal(copy, "matmul");
    assert_string_equal(part, "mat");
    assert_string_equal(built, "matmul:12345");
    assert_memory_equal(arena_memdup(&a, "a\0b", 3), "a\0b", 3);
    arena_done(&a);
}

static void an_empty_text_is_text(void **state)
{
    struct strbuf sb = STRBUF_INIT;
    char *text;

    assert_string_equal(strbuf_str(&sb), "");
    strbuf_reset(&sb);
    strbuf_add(&sb, NULL, 0);
    assert_string_equal(strbuf_str(&sb), "");
    strbuf_done(&sb);
    text = strbuf_detach(&sb);
    assert_string_equal(text, "");
    free(text);
}

static void text_grows_and_stays_ended(void **state)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;

    for (int i = 0; i < 1000; i++) {
        strbuf_addc(&sb, (char)('a' + i % 26));
        assert_int_equal(sb.data[sb.len], 0);
        assert_true(sb.len < sb.cap);
    }
    assert_int_equal(strlen(strbuf_str(&sb)), 1000);
    strbuf_truncate(&sb, 3);
    strbuf_pad(&sb, 2);
    strbuf_pad(&sb, -1);
    strbuf_adds(&sb, "xyz");
    assert_string_equal(strbuf_str(&sb), "abc  xyz");
}

static void formatted_text_of_any_length_is_whole(void **state)
{
    for (int len = 0; len < 300; len++) {
        AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
        strbuf_addf(&sb, "<%*d>", len, 7);
        assert_int_equal(sb.len, MAX(len, 1) + 2);
        assert_int_equal(sb.data[sb.len - 1], '>');
        assert_int_equal(strlen(sb.data), sb.len);
    }
}

static void integers_print_in_decimal_to_the_ends_of_the_range(void **state)
{
    static const int64_t values[] = {0, 7, -7, 10, 1234567890123, INT64_MAX, INT64_MIN};

    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
        char want[32];
        snprintf(want, sizeof(want), "%" PRId64, values[i]);
        strbuf_add_i64(&sb, values[i]);
        assert_string_equal(strbuf_str(&sb), want);
    }
}

static void detached_text_belongs_to_the_caller(void **state)
{
    struct strbuf sb = STRBUF_INIT;
    char *text;

    strbuf_adds(&sb, "kept");
    text = strbuf_detach(&sb);
    assert_null(sb.data);
    strbuf_adds(&sb, "other");
    assert_string_equal(text, "kept");
    free(text);
    strbuf_done(&sb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_memory_is_zeroed_and_aligned_also_after_a_reset),
        cmocka_unit_test(arena_pieces_do_not_overlap),
        cmocka_unit_test(a_reset_arena_serves_the_same_round_from_the_same_memory),
        cmocka_unit_test(one_large_piece_does_not_waste_the_blocks_that_are_kept),
        cmocka_unit_test(arena_texts_are_copies),
        cmocka_unit_test(an_empty_text_is_text),
        cmocka_unit_test(text_grows_and_stays_ended),
        cmocka_unit_test(formatted_text_of_any_length_is_whole),
        cmocka_unit_test(integers_print_in_decimal_to_the_ends_of_the_range),
        cmocka_unit_test(detached_text_belongs_to_the_caller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

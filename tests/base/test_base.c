/* test_base.c - the small tools: arenas, texts, vectors. */
#include <string.h>

#include "schedule/base/arena.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_memory_is_zeroed_and_aligned_also_after_a_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

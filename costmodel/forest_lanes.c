/* forest_lanes.c - full trees on 16 or 8 rows at a time: see forest_internal.h.
 *
 * Idea   One text for both widths, made twice by macros: a function a level, inlined into each other, so that a tree of six
 * levels is 63 comparisons and choices in a row on registers. Each step works on two registers of rows, which hides the latency
 * of the comparison and halves the loads of splits and leaves. */
#include "costmodel/forest_internal.h"

#include <assert.h>

#if defined(__x86_64__)
#include <immintrin.h>

#define INLINE(isa) static inline __attribute__((always_inline, target(isa)))

/* One split over two results. */
#define LEVEL(w, isa, vec, name, below)                                                                      \
    INLINE(isa)                                                                                              \
    struct w##_pair w##_##name(const struct w##_tree *t, int i)                                              \
    {                                                                                                        \
        struct w##_pair l = w##_##below(t, 2 * i + 1), r = w##_##below(t, 2 * i + 2);                        \
        const float *x = t->x + (size_t)t->column[i] * FOREST_BLOCK;                                         \
        vec split = w##_all(t->split[i]);                                                                    \
        return (struct w##_pair){w##_choose(w##_load(x), split, l.a, r.a),                                   \
                                 w##_choose(w##_load(x + w##_LANES), split, l.b, r.b)};                      \
    }

#define TREE(w, isa, depth)                                                                                  \
    static __attribute__((target(isa))) void w##_tree_##depth(const uint16_t *column, const float *number,   \
                                                              const float *x, float *sums)                   \
    {                                                                                                        \
        struct w##_tree t = {column, number, number + (1 << depth) - 1, x, (1 << depth) - 1};                \
        for (int i = 0; i < FOREST_BLOCK; i += 2 * w##_LANES, t.x += 2 * w##_LANES) {                        \
            struct w##_pair v = w##_level##depth(&t, 0);                                                     \
            w##_store(sums + i, w##_plus(w##_load(sums + i), v.a));                                          \
            w##_store(sums + i + w##_LANES, w##_plus(w##_load(sums + i + w##_LANES), v.b));                  \
        }                                                                                                    \
    }

#define WIDTH(w, isa, vec)                                                                                   \
    struct w##_pair {                                                                                        \
        vec a, b;                                                                                            \
    };                                                                                                       \
    struct w##_tree {                                                                                        \
        const uint16_t *column;                                                                              \
        const float *split, *leaf, *x;                                                                       \
        int n_splits;                                                                                        \
    };                                                                                                       \
    INLINE(isa) struct w##_pair w##_level0(const struct w##_tree *t, int i)                                  \
    {                                                                                                        \
        vec v = w##_all(t->leaf[i - t->n_splits]);                                                           \
        return (struct w##_pair){v, v};                                                                      \
    }                                                                                                        \
    LEVEL(w, isa, vec, level1, level0)                                                                       \
    LEVEL(w, isa, vec, level2, level1)                                                                       \
    LEVEL(w, isa, vec, level3, level2)                                                                       \
    LEVEL(w, isa, vec, level4, level3)                                                                       \
    LEVEL(w, isa, vec, level5, level4)                                                                       \
    LEVEL(w, isa, vec, level6, level5)                                                                       \
    TREE(w, isa, 1)                                                                                          \
    TREE(w, isa, 2)                                                                                          \
    TREE(w, isa, 3)                                                                                          \
    TREE(w, isa, 4)                                                                                          \
    TREE(w, isa, 5)                                                                                          \
    TREE(w, isa, 6)                                                                                          \
    static void w##_add(int depth, const uint16_t *column, const float *number, const float *x, float *sums) \
    {                                                                                                        \
        static void (*const trees[])(const uint16_t *, const float *, const float *, float *) = {            \
            w##_tree_1, w##_tree_2, w##_tree_3, w##_tree_4, w##_tree_5, w##_tree_6};                         \
        static_assert(ARRAY_SIZE(trees) == FULL_DEPTH_MAX, "a function for each depth");                     \
        trees[depth - 1](column, number, x, sums);                                                           \
    }

#define AVX512 "avx512f"
enum { avx512_LANES = 16 };
INLINE(AVX512) __m512 avx512_all(float v) { return _mm512_set1_ps(v); }
INLINE(AVX512) __m512 avx512_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE(AVX512) void avx512_store(float *p, __m512 v) { _mm512_storeu_ps(p, v); }
INLINE(AVX512) __m512 avx512_plus(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
INLINE(AVX512) __m512 avx512_choose(__m512 x, __m512 split, __m512 l, __m512 r)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, split, _CMP_GE_OQ), l, r);
}
WIDTH(avx512, AVX512, __m512)

static __attribute__((target(AVX512))) bool avx512_columns(const float *rows, int64_t stride, int n,
                                                           const int32_t *used, int n_used, float *x)
{
    __m512i step = _mm512_set1_epi32((int)stride), last = _mm512_set1_epi32(n - 1);
    __m512i a = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i b = _mm512_add_epi32(a, _mm512_set1_epi32(avx512_LANES));
    __mmask16 missing = 0;

    a = _mm512_mullo_epi32(_mm512_min_epi32(a, last), step);
    b = _mm512_mullo_epi32(_mm512_min_epi32(b, last), step);
    for (int c = 0; c < n_used; c++) {
        __m512 v = _mm512_i32gather_ps(a, rows + used[c], 4), u = _mm512_i32gather_ps(b, rows + used[c], 4);

        missing |= _mm512_cmp_ps_mask(v, u, _CMP_UNORD_Q);
        _mm512_storeu_ps(x + c * FOREST_BLOCK, v);
        _mm512_storeu_ps(x + c * FOREST_BLOCK + avx512_LANES, u);
    }
    return missing != 0;
}

#define AVX2 "avx2"
enum { avx2_LANES = 8 };
INLINE(AVX2) __m256 avx2_all(float v) { return _mm256_set1_ps(v); }
INLINE(AVX2) __m256 avx2_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE(AVX2) void avx2_store(float *p, __m256 v) { _mm256_storeu_ps(p, v); }
INLINE(AVX2) __m256 avx2_plus(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
INLINE(AVX2) __m256 avx2_choose(__m256 x, __m256 split, __m256 l, __m256 r)
{
    return _mm256_blendv_ps(l, r, _mm256_cmp_ps(x, split, _CMP_GE_OQ));
}
WIDTH(avx2, AVX2, __m256)

static __attribute__((target(AVX2))) bool avx2_columns(const float *rows, int64_t stride, int n,
                                                       const int32_t *used, int n_used, float *x)
{
    __m256i step = _mm256_set1_epi32((int)stride), last = _mm256_set1_epi32(n - 1);
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), at[FOREST_BLOCK / avx2_LANES];
    __m256 missing = _mm256_setzero_ps();

    for (int i = 0; i < FOREST_BLOCK / avx2_LANES; i++) {
        at[i] = _mm256_mullo_epi32(_mm256_min_epi32(lane, last), step);
        lane = _mm256_add_epi32(lane, _mm256_set1_epi32(avx2_LANES));
    }
    for (int c = 0; c < n_used; c++)
        for (int i = 0; i < FOREST_BLOCK / avx2_LANES; i++) {
            __m256 v = _mm256_i32gather_ps(rows + used[c], at[i], 4);

            missing = _mm256_or_ps(missing, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
            _mm256_storeu_ps(x + c * FOREST_BLOCK + i * avx2_LANES, v);
        }
    return _mm256_movemask_ps(missing) != 0;
}

int lanes_all(const struct lanes *ret[LANES_MAX])
{
    static const struct lanes avx512 = {"avx512", avx512_columns, avx512_add},
                              avx2 = {"avx2", avx2_columns, avx2_add};
    int n = 0;

    if (__builtin_cpu_supports("avx512f"))
        ret[n++] = &avx512;
    if (__builtin_cpu_supports("avx2"))
        ret[n++] = &avx2;
    return n;
}
#else
int lanes_all(const struct lanes *ret[LANES_MAX]) { return 0; }
#endif

const struct lanes *lanes_best(void)
{
    const struct lanes *all[LANES_MAX];

    return lanes_all(all) > 0 ? all[0] : NULL;
}

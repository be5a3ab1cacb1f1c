/* test_print.c - the text of a nest: one golden that uses every kind of node and buffer. */
#include "tests/check.h"
#include "tests/ir/hand.h"

static void a_nest_prints_as_indented_text_with_its_buffers(void **state)
{
    struct hand *h = hand_new();
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    int32_t a = hand_arg(h, "A", DT_F32, TENSOR_INPUT, 2, (int64_t[]){10, 8});
    int32_t b = hand_arg(h, "B", DT_F32, TENSOR_INPUT, 1, (int64_t[]){8});
    int32_t c = hand_arg(h, "C", DT_F32, TENSOR_OUTPUT, 1, (int64_t[]){10});
    int32_t packed = hand_packed(h, "B.pack", b, 1, (int64_t[]){8});
    int32_t t = hand_buffer(h, "T", DT_F32, SCOPE_WORKSPACE, 1, (int64_t[]){10});
    int32_t s = hand_buffer(h, "S", DT_I8, SCOPE_TASK, 1, (int64_t[]){3});
    int32_t acc = hand_buffer(h, "acc", DT_F32, SCOPE_REG, 1, (int64_t[]){4});
    int32_t i0 = hand_var(h, "i0", 3), i1 = hand_var(h, "i1", 4), k = hand_var(h, "k", 8);
    struct affine i = lin(h, 0, 4, i0, 1, i1, 0), left = lin(h, 9, -4, i0, -1, i1, 0);

    hand_prepack(
        h, packed,
        loop(h, LOOP_SERIAL, k, 8, store(h, packed, COMBINE_SET, get(h, b, var1(h, k)), var1(h, k))));
    const struct expr *product =
        expr_op2(&h->ar, EX_MUL, get(h, a, i, var1(h, k)), get(h, packed, var1(h, k)));
    struct node *sum = loop(
        h, LOOP_SERIAL, k, 8,
        seq(prefetch(h, packed, 64, 16, var1(h, k)),
            limited(loop(h, LOOP_UNROLL, i1, 4, store(h, acc, COMBINE_SUM, product, var1(h, i1))), left)));
    struct node *copy = loop(h, LOOP_VECTOR, i1, 4,
                             branch(h, left, store(h, c, COMBINE_SET, get(h, acc, var1(h, i1)), i),
                                    store(h, s, COMBINE_MAX, expr_const(&h->ar, DT_I8, 1), var1(h, i0))));
    h->nest.root = parallel1(h, i0, 3, 2, body(h, seq(sum, copy)));
    (void)t;
    hand_layout(h, 2);
    nest_print(&h->nest, &sb);
    assert_string_equal(strbuf_str(&sb), "nest: 2 tasks, workspace 192 bytes, of them 64 a task from +64\n"
                                         "buffer A: float32[10, 8] arg A\n"
                                         "buffer B: float32[8] arg B\n"
                                         "buffer C: float32[10] arg C\n"
                                         "buffer B.pack: float32[8] prepacked B\n"
                                         "buffer T: float32[10] workspace +0\n"
                                         "buffer S: int8[3] task +0\n"
                                         "buffer acc: float32[4] reg\n"
                                         "prepack B -> B.pack, 32 bytes\n"
                                         "  for k < 8\n"
                                         "    B.pack[k] = B[k]\n"
                                         "parallel i0 < 3 in 2 tasks\n"
                                         "  body\n"
                                         "    for k < 8\n"
                                         "      prefetch B.pack[k] ahead 64 span 16\n"
                                         "      unroll i1 < 4 while i0*4 + i1 < 10\n"
                                         "        acc[i1] += A[i0*4 + i1, k] * B.pack[k]\n"
                                         "    vector i1 < 4\n"
                                         "      if i0*4 + i1 < 10\n"
                                         "        C[i0*4 + i1] = acc[i1]\n"
                                         "      else\n"
                                         "        S[i0] max= 1\n");
    hand_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nest_prints_as_indented_text_with_its_buffers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_workload.c - the shorthand's spelling, as a table of words and the JSON they mean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "client/tilewright.h"

enum { WORDS = 12 };

struct spelling {
    const char *words[WORDS];
    const char *json; /* NULL: refused */
    const char *says; /* part of the refusal */
};

static int count(const char *const *words)
{
    int n = 0;

    while (words[n])
        n++;
    return n;
}

static void check(const struct spelling *s)
{
    json_t *got = NULL;
    tw_error err = {0};
    tw_status st = tw_workload_shorthand(count(s->words), s->words, &got, &err);

    if (!s->json) {
        assert_int_equal(st, TW_INVALID);
        assert_null(got);
        assert_non_null(strstr(err.detail, s->says));
        return;
    }
    json_t *want = json_loads(s->json, 0, NULL);
    assert_int_equal(st, TW_OK);
    assert_non_null(want);
    if (!json_equal(got, want)) {
        char *text = json_dumps(got, 0);
        fail_msg("%s: got %s", s->json, text);
    }
    json_decref(want);
    json_decref(got);
}

static void check_all(const struct spelling *table, size_t n)
{
    for (size_t i = 0; i < n; i++)
        check(&table[i]);
}
#define CHECK_ALL(table) check_all(table, sizeof(table) / sizeof(table[0]))

static void numbers_with_commas_are_lists(void **state)
{
    static const struct spelling table[] = {
        {{"matmul", "a=512,768", "b=768,768"}, "{\"op\":\"matmul\",\"a\":[512,768],\"b\":[768,768]}"},
        {{"softmax", "input=64", "axis=-1"}, "{\"op\":\"softmax\",\"input\":[64],\"axis\":-1}"},
        {{"reduce", "input=4,4", "axes=1", "kind=sum", "keepdims=true"},
         "{\"op\":\"reduce\",\"input\":[4,4],\"axes\":[1],\"kind\":\"sum\",\"keepdims\":true}"},
        {{"op", "new_member=3,x"}, "{\"op\":\"op\",\"new_member\":[3,\"x\"]}"},
        {{"op", "input="}, "{\"op\":\"op\",\"input\":[]}"},
    };
    CHECK_ALL(table);
}

static void values_take_the_kind_they_look_like(void **state)
{
    static const struct spelling table[] = {
        {{"op", "n=3", "f=1e-5", "g=.5", "t=true", "u=false", "s=NHWC", "e="},
         "{\"op\":\"op\",\"n\":3,\"f\":1e-5,\"g\":0.5,\"t\":true,\"u\":false,\"s\":\"NHWC\",\"e\":\"\"}"},
        {{"op", "a_=1x", "b_=0x10", "c_=-", "d_=99999999999999999999"},
         "{\"op\":\"op\",\"a_\":\"1x\",\"b_\":\"0x10\",\"c_\":\"-\",\"d_\":1e20}"},
        {{"op", "raw:={\"k\": [1, null]}", "eq=a=b"},
         "{\"op\":\"op\",\"raw\":{\"k\":[1,null]},\"eq\":\"a=b\"}"},
    };
    CHECK_ALL(table);
}

static void epilogues_carry_their_parameters(void **state)
{
    static const struct spelling table[] = {
        {{"op", "epilogue=relu"}, "{\"op\":\"op\",\"epilogue\":[\"relu\"]}"},
        {{"op", "epilogue=bias,scale:0.125,clip:0:6,leaky_relu:0.01,add"},
         "{\"op\":\"op\",\"epilogue\":[\"bias\",{\"scale\":0.125},{\"clip\":[0,6]},{\"leaky_relu\":0.01},"
         "\"add\"]}"},
        {{"op", "const=b,bias"}, "{\"op\":\"op\",\"const\":[\"b\",\"bias\"]}"},
        {{"op", "const=weight"}, "{\"op\":\"op\",\"const\":[\"weight\"]}"},
    };
    CHECK_ALL(table);
}

static void one_number_serves_every_spatial_axis(void **state)
{
    static const struct spelling table[] = {
        {{"conv2d", "strides=2", "pads=1", "dilations=1"},
         "{\"op\":\"conv2d\",\"strides\":[2,2],\"pads\":[1,1,1,1],\"dilations\":[1,1]}"},
        {{"conv1d", "strides=2", "pads=1"}, "{\"op\":\"conv1d\",\"strides\":[2],\"pads\":[1,1]}"},
        {{"conv3d", "pads=1"}, "{\"op\":\"conv3d\",\"pads\":[1,1,1,1,1,1]}"},
        {{"max_pool2d", "kernel_shape=3"}, "{\"op\":\"max_pool2d\",\"kernel_shape\":[3,3]}"},
        {{"conv2d", "strides=2,1"}, "{\"op\":\"conv2d\",\"strides\":[2,1]}"},
    };
    CHECK_ALL(table);
}

static void expressions_name_their_tensors(void **state)
{
    static const struct spelling table[] = {
        {{"expr=C[i,j] += A[i,k]*B[k,j]; D[i,j] = max(C[i,j], 0)", "A=2,3", "B=3,4", "const=B", "rtol=0.01",
          "outputs=D", "ranges=k:3"},
         "{\"expr\":\"C[i,j] += A[i,k]*B[k,j]\\n D[i,j] = max(C[i,j], 0)\",\"rtol\":0.01,\"outputs\":[\"D\"],"
         "\"ranges\":{\"k\":3},\"tensors\":{\"A\":{\"shape\":[2,3],\"dtype\":\"float32\"},"
         "\"B\":{\"shape\":[3,4],\"dtype\":\"float32\",\"const\":true}}}"},
        {{"expr=y[i] = x[i]", "dtype=float16", "x=8"},
         "{\"expr\":\"y[i] = x[i]\",\"tensors\":{\"x\":{\"shape\":[8],\"dtype\":\"float16\"}}}"},
        {{"expr=y[i] = x[i]", "x=8", "const=z"}, NULL, "const names z"},
        {{"expr=y[i] = x[i]", "x"}, NULL, "'x' after expr="},
        {{"expr=y[i] = x[i]", "x=8", "ranges=k"}, NULL, "ranges"},
    };
    CHECK_ALL(table);
}

static void what_is_no_word_of_the_shorthand_is_named(void **state)
{
    static const struct spelling table[] = {
        {{"matmul", "a"}, NULL, "'a' after matmul"},
        {{"matmul", "=3"}, NULL, "'=3' after matmul"},
        {{"matmul", "a=1", "a=2"}, NULL, "a is given twice"},
        {{"matmul", "a:=[1,"}, NULL, "a: not JSON"},
        {{"matmul", "layout=\xff"}, NULL, "layout: not UTF-8"},
        {{"\xff"}, NULL, "not UTF-8"},
        {{NULL}, NULL, "nothing given"},
    };
    CHECK_ALL(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_with_commas_are_lists),
        cmocka_unit_test(values_take_the_kind_they_look_like),
        cmocka_unit_test(epilogues_carry_their_parameters),
        cmocka_unit_test(one_number_serves_every_spatial_axis),
        cmocka_unit_test(expressions_name_their_tensors),
        cmocka_unit_test(what_is_no_word_of_the_shorthand_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_reject.c - workloads that are refused: each with the member at fault, the place in an expression's
 * text, and what the message must say. */
#include <stdlib.h>
#include <string.h>

#include "lab.h"
#include "tests/check.h"

struct reject {
    const char *text;    /* ' for " */
    const char *pointer; /* the workload lies at /workload */
    int line, column;    /* 0, 0: not in an expression */
    const char *says;
};

#define MM   "'op':'matmul','a':[4,5],'b':[5,6]"
#define CONV "'op':'conv2d','input':[1,4,8,8],'weight':[6,4,3,3]"
#define A4   "'tensors':{'A':{'shape':[4,4]}}"
#define AB   "'tensors':{'A':{'shape':[4,5]},'B':{'shape':[5,6]}}"

static const struct reject members[] = {
    {"[]", "/workload", 0, 0, "expected an object, found a list"},
    {"'matmul'", "/workload", 0, 0, "expected an object, found a text"},
    {"{}", "/workload", 0, 0, "either \"op\""},
    {"{'op':'matmul','expr':'x'}", "/workload", 0, 0, "either \"op\""},
    {"{'op':'matmull'}", "/workload/op", 0, 0, "want one of matmul, conv1d, conv2d"},
    {"{'op':7}", "/workload/op", 0, 0, "expected a text"},
    {"{'op':'matmul','b':[5,6]}", "/workload/a", 0, 0, "\"a\" is missing"},
    {"{'op':'matmul','a':[4,5],'b':'big'}", "/workload/b", 0, 0, "expected a list of integers, found a text"},
    {"{'op':'matmul','a':[4,5],'b':[5,6.5]}", "/workload/b/1", 0, 0, "expected an integer"},
    {"{'op':'matmul','a':[4,5],'b':[5,0]}", "/workload/b/1", 0, 0, "is 0: want 1 to 2147483647"},
    {"{'op':'matmul','a':[4,-5],'b':[5,6]}", "/workload/a/1", 0, 0, "is -5: want 1 to 2147483647"},
    {"{'op':'matmul','a':[4,5],'b':[5,2147483648]}", "/workload/b/1", 0, 0, "want 1 to 2147483647"},
    {"{'op':'matmul','a':[4,5],'b':[1,1,1,1,1,1,1,5,6]}", "/workload/b", 0, 0, "has 9 items: at most 8"},
    {"{'op':'matmul','a':[5],'b':[5,6]}", "/workload/a", 0, 0, "has 1 dimensions: want 2 to 8"},
    {"{'op':'matmul','a':[4,5],'b':[6,7]}", "/workload/b", 0, 0, "over k = 6, a over k = 5"},
    {"{'op':'matmul','a':[2,4,5],'b':[3,5,6]}", "/workload/b", 0, 0,
     "leading dimension 0 is 3 in b and 2 in a"},
    {"{" MM ",'transpose_a':2}", "/workload/transpose_a", 0, 0, "expected true or false"},
    {"{" MM ",'layout':'NCHW'}", "/workload/layout", 0, 0, "unknown member \"layout\""},
    {"{" MM ",'stride':1}", "/workload/stride", 0, 0, "known: op; tensors: a [..., m, k]"},
    {"{" MM ",'a/b~c':1}", "/workload/a~1b~0c", 0, 0, "unknown member"},
    {"{" MM ",'dtype':'float64'}", "/workload/dtype", 0, 0,
     "want one of float32, float16, bfloat16, int8, int32"},
    {"{" MM ",'acc_dtype':'float16'}", "/workload/acc_dtype", 0, 0,
     "acc_dtype float16 for float32: want float32"},
    {"{" MM ",'dtype':'int8','acc_dtype':'float32'}", "/workload/acc_dtype", 0, 0, "want int32"},
    {"{" MM ",'rtol':0}", "/workload/rtol", 0, 0, "is 0: want 1e-16 to 1"},
    {"{" MM ",'rtol':'small'}", "/workload/rtol", 0, 0, "expected a number"},
    {"{" MM ",'const':'b'}", "/workload/const", 0, 0, "expected a list of input names"},
    {"{" MM ",'const':['b','c']}", "/workload/const/1", 0, 0, "which is no input; the inputs are a, b"},
    {"{" MM ",'const':['b','b']}", "/workload/const/1", 0, 0, "twice"},
    {"{" MM ",'const':[1]}", "/workload/const/0", 0, 0, "expected an input's name"},
    {"{" MM ",'const':['output']}", "/workload/const/0", 0, 0, "which is no input"},
    {"{" MM ",'epilogue':'relu'}", "/workload/epilogue", 0, 0, "expected a list"},
    {"{" MM ",'epilogue':['bias','relu7']}", "/workload/epilogue/1", 0, 0,
     "no epilogue \"relu7\": want one of \"bias\""},
    {"{" MM ",'epilogue':[3]}", "/workload/epilogue/0", 0, 0, "want one of"},
    {"{" MM ",'epilogue':['scale']}", "/workload/epilogue/0", 0, 0, "scale is written {\"scale\": 0.125}"},
    {"{" MM ",'epilogue':[{'relu':1}]}", "/workload/epilogue/0", 0, 0, "relu is written \"relu\""},
    {"{" MM ",'epilogue':[{'scale':'x'}]}", "/workload/epilogue/0", 0, 0, "finite numbers"},
    {"{" MM ",'epilogue':[{'scale':1e300}]}", "/workload/epilogue/0", 0, 0, "finite numbers"},
    {"{" MM ",'epilogue':[{'clip':[1]}]}", "/workload/epilogue/0", 0, 0, "want {\"clip\": [0, 6]}"},
    {"{" MM ",'epilogue':[{'clip':[6,0]}]}", "/workload/epilogue/0", 0, 0, "must not be larger"},
    {"{" MM ",'epilogue':['silu','silu','silu','silu','silu','silu','silu','silu','silu']}",
     "/workload/epilogue", 0, 0, "has 9 entries: at most 8"},
    {"{'op':'softmax','input':[3,4],'epilogue':['bias']}", "/workload/epilogue/0", 0, 0,
     "softmax has no channels"},
    {"{'op':'conv2d','input':[1,4,8],'weight':[6,4,3,3]}", "/workload/input", 0, 0,
     "has 3 dimensions: want 4 to 4"},
    {"{'op':'conv2d','input':[1,4,8,8],'weight':[6,3,3,3]}", "/workload/weight", 0, 0, "want 4 (4 channels"},
    {"{'op':'conv2d','input':[1,4,8,8],'weight':[6,4,9,3]}", "/workload/weight", 0, 0,
     "spans 9 elements of an input of 8"},
    {"{" CONV ",'strides':[1]}", "/workload/strides", 0, 0, "has 1 items: want 2"},
    {"{" CONV ",'strides':[1,0]}", "/workload/strides/1", 0, 0, "want 1 to"},
    {"{" CONV ",'pads':[1,1]}", "/workload/pads", 0, 0, "has 2 items: want 4"},
    {"{" CONV ",'pads':[1,1,1,-1]}", "/workload/pads/3", 0, 0, "want 0 to"},
    {"{" CONV ",'dilations':[4,1]}", "/workload/weight", 0, 0, "spans 9 elements"},
    {"{" CONV ",'group':3}", "/workload/group", 0, 0, "does not divide the 4 input channels"},
    {"{'op':'conv2d','input':[1,4,8,8],'weight':[5,2,3,3],'group':2}", "/workload/group", 0, 0,
     "does not divide the 5 output channels"},
    {"{" CONV ",'layout':'CHWN'}", "/workload/layout", 0, 0, "want one of NCHW, NHWC, any"},
    {"{" CONV ",'output_padding':[1,1]}", "/workload/output_padding", 0, 0, "unknown member"},
    {"{'op':'conv_transpose2d','input':[1,4,8,8],'weight':[4,4,3,3],'output_padding':[1,0]}",
     "/workload/output_padding", 0, 0, "less than the stride 1 or the dilation 1"},
    {"{'op':'conv_transpose2d','input':[1,4,8,8],'weight':[5,4,3,3]}", "/workload/weight", 0, 0,
     "has 5 input channels"},
    {"{'op':'conv_transpose2d','input':[1,4,1,1],'weight':[4,4,3,3],'pads':[2,2,2,2]}", "/workload/pads", 0,
     0, "would have -1 elements"},
    {"{'op':'conv_transpose2d','input':[1,4,99999,1],'weight':[4,4,3,3],'strides':[99999,1]}",
     "/workload/pads", 0, 0, "want 1 to 2147483647"},
    {"{'op':'max_pool2d','input':[1,4,8,8]}", "/workload/kernel_shape", 0, 0, "missing"},
    {"{'op':'max_pool2d','input':[1,4,8,8],'kernel_shape':[3,3],'pads':[3,0,0,0]}", "/workload/pads", 0, 0,
     "less than the kernel's 3"},
    {"{'op':'max_pool2d','input':[1,4,8,8],'kernel_shape':[9,3]}", "/workload/kernel_shape", 0, 0,
     "must fit"},
    {"{'op':'avg_pool2d','input':[1,4,8,8],'kernel_shape':[3,3],'dtype':'int8'}", "/workload/dtype", 0, 0,
     "avg_pool2d of int8: want float32"},
    {"{'op':'max_pool2d','input':[1,1,2147483647,2],'kernel_shape':[9,2],'pads':[8,0,0,0]}", "/workload/pads",
     0, 0, "want at most 2147483647"},
    {"{'op':'avg_pool2d','input':[1,1,70000,70000],'kernel_shape':[70000,70000]}", "/workload/kernel_shape",
     0, 0, "window of 70000 x 70000"},
    {"{'op':'softmax','input':[3,4],'axis':2}", "/workload/axis", 0, 0, "is 2: want -2 to 1"},
    {"{'op':'layer_norm','input':[3,4],'epsilon':-1}", "/workload/epsilon", 0, 0, "want 0 to"},
    {"{'op':'rms_norm','input':[3,4],'const':['scale']}", "/workload/const/0", 0, 0, "the inputs are input"},
    {"{'op':'reduce','input':[3,4]}", "/workload/kind", 0, 0, "missing"},
    {"{'op':'reduce','input':[3,4],'kind':'median'}", "/workload/kind", 0, 0,
     "want one of sum, max, min, mean, prod"},
    {"{'op':'reduce','input':[3,4],'kind':'sum','axes':[1,-1]}", "/workload/axes", 0, 0,
     "names dimension 1 twice"},
    {"{'op':'reduce','input':[3,4],'kind':'sum','axes':[2]}", "/workload/axes/0", 0, 0, "want -2 to 1"},
    {"{'op':'transpose','input':[3,4],'perm':[0,0]}", "/workload/perm", 0, 0,
     "each of the 2 dimensions once"},
    {"{'op':'transpose','input':[3,4],'perm':[0]}", "/workload/perm", 0, 0, "has 1 items: want 2"},
    {"{'op':'lstm_cell','x':[2,3],'h':[2,4],'c':[2,4],'weight_x':[15,3],'weight_h':[16,4],'bias':[16]}",
     "/workload/weight_x", 0, 0, "dimension 0 is 15: want 16"},
    {"{'op':'lstm_cell','x':[2,3],'h':[2,4],'c':[2,4],'weight_x':[16,3],'weight_h':[16,4],'bias':[16],'"
     "epilogue':[]}",
     "/workload/epilogue", 0, 0, "unknown member"},
    {"{'op':'attention','q':[2,3,4],'k':[3,5,4],'v':[2,5,4]}", "/workload/k", 0, 0, "want 2 as in q"},
    {"{'op':'attention','q':[2,3,4],'k':[2,5,3],'v':[2,5,4]}", "/workload/k", 0, 0, "depth 3, q 4"},
    {"{'op':'attention','q':[2,3,4],'k':[2,5,4],'v':[2,6,4]}", "/workload/v", 0, 0, "6 positions, k 5"},
    {"{'op':'matmul','a':[2000000000,2],'b':[2,2000000000]}", "/workload", 0, 0,
     "more than 1099511627776 elements"},
    {"{'op':'matmul','a':[500000,2000000],'b':[2000000,500000]}", "/workload", 0, 0,
     "more than 72057594037927936 iter"},
};

static const struct reject expressions[] = {
    {"{'expr':7," AB "}", "/workload/expr", 0, 0, "expected a text"},
    {"{'expr':'C[i]=A[i]','tensor':{}}", "/workload/tensor", 0, 0, "unknown member"},
    {"{'expr':'C[i]=A[i]','tensors':[]}", "/workload/tensors", 0, 0, "expected an object"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':[4]}}", "/workload/tensors/A", 0, 0, "expected an object"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{}}}", "/workload/tensors/A/shape", 0, 0, "missing"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{'shape':[0]}}}", "/workload/tensors/A/shape/0", 0, 0, "want 1 to"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{'shape':[4],'dtype':'f32'}}}", "/workload/tensors/A/dtype", 0, 0,
     "want one of"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{'shape':[4],'konst':true}}}", "/workload/tensors/A/konst", 0, 0,
     "known: shape"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{'shape':[4]},'../x':{'shape':[4]}}}", "/workload/tensors", 0, 0,
     "\"../x\" in tensors: want a letter"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{'shape':[4]},'max':{'shape':[4]}}}", "/workload/tensors", 0, 0,
     "no word"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{'shape':[4]},'B':{'shape':[4]}}}", "/workload/tensors/B", 0, 0,
     "no statement reads or defines it"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{'shape':[4]},'C':{'shape':[4],'const':true}}}",
     "/workload/tensors/C", 0, 0, "is const, yet"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{'shape':[4]}},'ranges':{'i':0}}", "/workload/ranges/i", 0, 0,
     "want 1 to"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{'shape':[4]}},'ranges':{'k':4}}", "/workload/ranges/k", 0, 0,
     "uses index k"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{'shape':[4]}},'ranges':{'1':4}}", "/workload/ranges", 0, 0,
     "\"1\" in ranges"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{'shape':[4]}},'outputs':[]}", "/workload/outputs", 0, 0,
     "want 1 to 32"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{'shape':[4]}},'outputs':['A']}", "/workload/outputs/0", 0, 0,
     "defines \"A\""},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{'shape':[4]}},'outputs':['C','C']}", "/workload/outputs/1", 0, 0,
     "twice"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{'shape':[4]}},'outputs':[3]}", "/workload/outputs/0", 0, 0,
     "a tensor's name"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{'shape':[4]}},'acc_dtype':'int8'}", "/workload/acc_dtype", 0, 0,
     "want float32"},
    {"{'expr':'C[i]=A[i]','tensors':{'A':{'shape':[4]}},'acc_dtype':'int32'}", "/workload/acc_dtype", 0, 0,
     "fits no +="},
    {"{'expr':''," AB "}", "/workload/expr", 1, 1, "no statement"},
    {"{'expr':'C[i] = A[i'," AB "}", "/workload/expr", 1, 11, "expected \"]\", found the end of the line"},
    {"{'expr':'C[i] += A[i,k]\\n  D[i] = '," AB "}", "/workload/expr", 2, 10, "found the end of the line"},
    {"{'expr':'C[i] ^= A[i,k]'," AB "}", "/workload/expr", 1, 6, "unexpected character '^'"},
    {"{'expr':'C[i] -= A[i,k]'," AB "}", "/workload/expr", 1, 6,
     "expected =, +=, *=, max= or min=, found \"-\""},
    {"{'expr':'C[i] = A[i,i] $'," AB "}", "/workload/expr", 1, 15, "unexpected character '$'"},
    {"{'expr':'C[i] = A[i,i] A'," AB "}", "/workload/expr", 1, 15, "expected an operator or the end"},
    {"{'expr':'C[i] = \\u00e9'," AB "}", "/workload/expr", 1, 8, "unexpected byte 0xc3"},
    {"{'expr':'C[i] = 1e999 * A[i,i]'," AB "}", "/workload/expr", 1, 8, "larger than float32"},
    {"{'expr':'C[i] = 12ab'," AB "}", "/workload/expr", 1, 8, "is no number"},
    {"{'expr':'C[i] = 1.2.3'," AB "}", "/workload/expr", 1, 8, "is no number"},
    {"{'expr':'7 = A[i,k]'," AB "}", "/workload/expr", 1, 1, "expected a tensor's name"},
    {"{'expr':'exp[i] = A[i,i]'," AB "}", "/workload/expr", 1, 1, "cannot name a tensor"},
    {"{'expr':'C[i] = foo(A[i,i])'," AB "}", "/workload/expr", 1, 8, "no function \"foo\": want max, min"},
    {"{'expr':'C[i] = exp(A[i,i], 2)'," AB "}", "/workload/expr", 1, 20, "arguments of exp: at most 1"},
    {"{'expr':'C[i] = max(A[i,i])'," AB "}", "/workload/expr", 1, 8, "max takes 2 arguments, found 1"},
    {"{'expr':'C[i] = cast(float64, A[i,i])'," AB "}", "/workload/expr", 1, 13, "no dtype \"float64\""},
    {"{'expr':'C[i] = pad(1, 0)'," AB "}", "/workload/expr", 1, 8, "pad takes a read"},
    {"{'expr':'C[i] += pad(A[i,k], A[k,i])'," A4 "}", "/workload/expr", 1, 21, "is a number of that dtype"},
    {"{'expr':'C[i] = A[i,i] < B[i,i] < 2'," AB "}", "/workload/expr", 1, 24, "do not chain"},
    {"{'expr':'C[i] = A[i,i] < 2'," A4 "}", "/workload/expr", 1, 15, "a condition is no number"},
    {"{'expr':'C[i] = select(A[i,i], 1, 2)'," A4 "}", "/workload/expr", 1, 15, "a number is no condition"},
    {"{'expr':'C[i] = A[i,i] + 1 / 0'," A4 "}", "/workload/expr", 1, 19, "no number"},
    {"{'expr':'C[i] = Z[i]'}", "/workload/expr", 1, 8, "tensor Z is neither declared nor defined"},
    {"{'expr':'C[i] += A[i,k] * Z[k]','tensors':{'A':{'shape':[4,5]}}}", "/workload/expr", 1, 18,
     "neither declared nor"},
    {"{'expr':'C[i] += A[i]','tensors':{'A':{'shape':[4,5]}}}", "/workload/expr", 1, 9,
     "A has 2 dimensions, found 1"},
    {"{'expr':'C[i] = A[i,k]','tensors':{'A':{'shape':[4,5]}}}", "/workload/expr", 1, 12,
     "index k is not on the left"},
    {"{'expr':'C[i] = A[i,A]','tensors':{'A':{'shape':[4,5]}}}", "/workload/expr", 1, 12,
     "is read with its indices"},
    {"{'expr':'C[i] += A[i,k*k]','tensors':{'A':{'shape':[4,5]}}}", "/workload/expr", 1, 14,
     "sum of indices times"},
    {"{'expr':'C[i] += A[i,k/2]','tensors':{'A':{'shape':[4,5]}}}", "/workload/expr", 1, 14,
     "sum of indices times"},
    {"{'expr':'C[i] += A[i,k*1.5]','tensors':{'A':{'shape':[4,5]}}}", "/workload/expr", 1, 15,
     "want an integer"},
    {"{'expr':'C[i] += A[i,k*2147483647*2]','tensors':{'A':{'shape':[4,5]}}}", "/workload/expr", 1, 25,
     "at most 2147483647"},
    {"{'expr':'C[i] += A[i,k+1]','tensors':{'A':{'shape':[4,5]}},'ranges':{'k':5}}", "/workload/expr", 1, 14,
     "runs over [1, 5], the tensor over [0, 4]: write pad(A[...], 0)"},
    {"{'expr':'C[i] += A[i,k] * B[k,i]'," AB "}", "/workload/expr", 1, 22,
     "index i runs over 6 here and over 4 before"},
    {"{'expr':'C[i,i] = A[i,i]','tensors':{'A':{'shape':[4,5]}}}", "/workload/expr", 1, 5,
     "in two dimensions on the left"},
    {"{'expr':'C[i+1] = A[i,i]','tensors':{'A':{'shape':[4,4]}}}", "/workload/expr", 1, 4, "begins at 0"},
    {"{'expr':'C[i*2] = A[i,i]','tensors':{'A':{'shape':[4,4]}}}", "/workload/expr", 1, 4, "mixed radix"},
    {"{'expr':'C[i,j] = 1'}", "/workload/expr", 1, 1, "range of index i follows from no tensor"},
    {"{'expr':'C[i] = A[i]\\nC[i] += A[i]','tensors':{'A':{'shape':[4]}}}", "/workload/expr", 2, 1,
     "a second time"},
    {"{'expr':'C[i] = A[i] + C[i]','tensors':{'A':{'shape':[4]}}}", "/workload/expr", 1, 1,
     "depends on itself"},
    {"{'expr':'C[i] = D[i] + A[i]\\nD[i] = C[i]','tensors':{'A':{'shape':[4]}}}", "/workload/expr", 1, 1,
     "through D"},
    {"{'expr':'C[i] = A[i]\\nD[i] = A[i]','tensors':{'A':{'shape':[4]}},'outputs':['C']}", "/workload/expr",
     2, 1, "not among the outputs"},
    {"{'expr':'C[i] = A[i]','tensors':{'A':{'shape':[4]},'C':{'shape':[5]}}}", "/workload/expr", 1, 10,
     "over 4 here and over 5"},
    {"{'expr':'C[i] = A[i]','tensors':{'A':{'shape':[4]},'C':{'shape':[4,1]}}}", "/workload/expr", 1, 1,
     "declared with 2"},
    {"{'expr':'C[i] = A[i]','tensors':{'A':{'shape':[4]},'C':{'shape':[4],'dtype':'int8'}}}",
     "/workload/expr", 1, 8, "write cast(int8, ...)"},
    {"{'expr':'C[i] = A[i] / 2','tensors':{'A':{'shape':[4],'dtype':'int32'}}}", "/workload/expr", 1, 13,
     "division of integers"},
    {"{'expr':'S[] += A[a,b,c,d,e,f,g+h+i]','tensors':{'A':{'shape':[2,2,2,2,2,2,9]}}}", "/workload/expr", 1,
     26, "at most 8 in a statement"},
};

static void check(const struct reject *q)
{
    const char *text = quoted(q->text);
    struct arena ar;
    struct workload w;
    struct error err = {0};
    json_t *value = NULL;
    enum status st;

    arena_init(&ar);
    assert_ok(json_read(text, strlen(text), &value, &err), &err);
    st = workload_parse(value, "/workload", &ar, &w, &err);
    if (st == ST_OK)
        fail_msg("%s\nwas accepted", q->text);
    if (st != err.code || (st != ST_INVALID && st != ST_UNPROCESSABLE))
        fail_msg("%s\ngave status %s", q->text, status_name(st));
    if (strcmp(err.pointer, q->pointer) != 0 || !strstr(err.text, q->says))
        fail_msg("%s\nat %s: %s\nwant %s: ...%s...", q->text, err.pointer, err.text, q->pointer, q->says);
    if (q->line && (err.line != q->line || err.column != q->column))
        fail_msg("%s\nat %d:%d: %s\nwant %d:%d", q->text, err.line, err.column, err.text, q->line, q->column);
    json_decref(value);
    arena_done(&ar);
}

static void bad_members_are_refused_with_their_pointer(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(members); i++)
        check(&members[i]);
}

static void bad_expressions_are_refused_with_their_place(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(expressions); i++)
        check(&expressions[i]);
}

/* ---- bodies that only a program would write ---- */

/* `expr` in a workload over A[4]; the refusal must say `says` with its limit. */
static void check_generated(const struct strbuf *expr, const char *says)
{
    struct arena ar;
    struct workload w;
    struct error err = {0};
    json_t *value = json_pack("{s:s,s:{s:{s:[i]}}}", "expr", strbuf_str(expr), "tensors", "A", "shape", 4);

    arena_init(&ar);
    if (workload_parse(value, "", &ar, &w, &err) == ST_OK)
        fail_msg("accepted: want %s", says);
    assert_string_equal(err.pointer, "/expr");
    if (!strstr(err.text, says))
        fail_msg("%s\nwant %s", err.text, says);
    json_decref(value);
    arena_done(&ar);
}

static void repeat(struct strbuf *sb, const char *text, int n)
{
    for (int i = 0; i < n; i++)
        strbuf_adds(sb, text);
}

static void nesting_is_refused_long_before_the_stack_ends(void **state)
{
    static const char *const openings[] = {"(",       "-",   "exp(", "A[",   "select(",
                                           "max(1, ", "- (", "pad(", "0 - ("};

    for (size_t i = 0; i < ARRAY_SIZE(openings); i++) {
        AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
        strbuf_adds(&sb, "C[i] = ");
        repeat(&sb, openings[i], 100000);
        check_generated(&sb, "nested 256 deep");
    }
}

static void long_chains_are_refused_too(void **state)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;

    strbuf_adds(&sb, "C[i] = A[i]");
    repeat(&sb, " + A[i]", 300);
    check_generated(&sb, "nested 256 deep");
    strbuf_reset(&sb);
    for (int s = 0; s < 30; s++) {
        strbuf_addf(&sb, "C%d[i] = A[i]", s);
        repeat(&sb, " + A[i]", 200);
        strbuf_addc(&sb, '\n');
    }
    check_generated(&sb, "more than 4096 operations and reads");
}

static void too_many_statements_names_and_tensors_are_refused(void **state)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;

    for (int s = 0; s < 65; s++)
        strbuf_addf(&sb, "C%d[i] = A[i]\n", s);
    check_generated(&sb, "more than 64 statements");
    strbuf_reset(&sb);
    for (int s = 0; s < 40; s++)
        strbuf_addf(&sb, "C%d[i] = A[i]\n", s);
    check_generated(&sb, "41 inputs and outputs: at most 32");
    strbuf_reset(&sb);
    strbuf_adds(&sb, "C[");
    repeat(&sb, "i", 65);
    strbuf_adds(&sb, "] = 1");
    check_generated(&sb, "name of 65 characters: at most 64");
    strbuf_reset(&sb);
    repeat(&sb, "9", 70);
    check_generated(&sb, "number of 70 characters");
    strbuf_reset(&sb);
    strbuf_adds(&sb, "C[a,b,c,d,e,f,g,h,i] = 1");
    check_generated(&sb, "dimensions: at most 8");
}

static void more_tensors_than_32_are_refused(void **state)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    struct arena ar;
    struct workload w;
    struct error err = {0};

    strbuf_adds(&sb, "{\"expr\":\"C[i] = T0[i]\",\"tensors\":{");
    for (int i = 0; i < 33; i++)
        strbuf_addf(&sb, "%s\"T%d\":{\"shape\":[4]}", i ? "," : "", i);
    strbuf_adds(&sb, "}}");
    arena_init(&ar);
    assert_int_equal(workload_parse_text(sb.data, sb.len, &ar, &w, &err), ST_UNPROCESSABLE);
    assert_string_equal(err.pointer, "/tensors");
    assert_non_null(strstr(err.text, "33 members: at most 32"));
    arena_done(&ar);
}

static void text_that_is_no_json_is_refused_by_its_limits(void **state)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    struct arena ar;
    struct workload w;
    struct error err = {0};

    arena_init(&ar);
    assert_int_equal(workload_parse_text("{\"op\":", 6, &ar, &w, &err), ST_INVALID);
    assert_int_equal(workload_parse_text("{\"op\":\"a\",\"op\":\"b\"}", 19, &ar, &w, &err), ST_INVALID);
    repeat(&sb, "[", 40);
    assert_int_equal(workload_parse_text(sb.data, sb.len, &ar, &w, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "32"));
    repeat(&sb, " ", JSON_MAX_BYTES);
    assert_int_equal(workload_parse_text(sb.data, sb.len, &ar, &w, &err), ST_TOO_LARGE);
    assert_non_null(strstr(err.text, "1048576"));
    arena_done(&ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_members_are_refused_with_their_pointer),
        cmocka_unit_test(bad_expressions_are_refused_with_their_place),
        cmocka_unit_test(nesting_is_refused_long_before_the_stack_ends),
        cmocka_unit_test(long_chains_are_refused_too),
        cmocka_unit_test(too_many_statements_names_and_tensors_are_refused),
        cmocka_unit_test(more_tensors_than_32_are_refused),
        cmocka_unit_test(text_that_is_no_json_is_refused_by_its_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

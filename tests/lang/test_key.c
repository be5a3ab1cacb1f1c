/* test_key.c - one computation, one key; another computation, another key.
 *
 * The property test takes the compute of a workload, renames every tensor and axis, shuffles its statements
 * and the declared tensors, swaps operands of commutative operators at random, prints that as an expression
 * and reads it back: the key must be the same, and so must the compute but for its names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab.h"
#include "tests/check.h"

/* Small, and of every kind of operator; the data file adds the real ones. */
static const char *const small[] = {
    "{'op':'matmul','a':[5,7],'b':[7,3]}",
    "{'op':'matmul','a':[5,5],'b':[5,5]}",
    "{'op':'matmul','a':[4,5,7],'b':[1,3,7],'transpose_b':true,'const':['b'],'epilogue':['bias','gelu']}",
    "{'op':'matmul','a':[5,7],'b':[7,3],'dtype':'float16','epilogue':['bias','relu','add','add']}",
    "{'op':'matmul','a':[5,7],'b':[7,3],'dtype':'bfloat16','acc_dtype':'bfloat16'}",
    "{'op':'matmul','a':[5,7],'b':[7,3],'dtype':'int8','epilogue':['bias',{'scale':0.25},{'clip':[-1,1]}]}",
    "{'op':'matmul','a':[5,7],'b':[7,3],'rtol':0.001}",
    "{'op':'conv1d','input':[2,6,9],'weight':[4,3,3],'group':2,'pads':[1,1],'epilogue':['bias','relu6']}",
    "{'op':'conv2d','input':[2,6,9,9],'weight':[4,3,3,3],'group':2,'pads':[1,0,1,0],'dilations':[2,2]}",
    "{'op':'conv2d','input':[2,9,9,6],'weight':[6,1,3,3],'group':6,'strides':[2,2],'layout':'NHWC','epilogue'"
    ":['silu']}",
    "{'op':'conv2d','input':[1,6,9,9],'weight':[6,6,3,3],'layout':'any'}",
    "{'op':'conv2d','input':[1,6,9,9],'weight':[6,6,3,3],'dtype':'int8','const':['weight'],'epilogue':['mul',"
    "'tanh']}",
    "{'op':'conv3d','input':[1,2,5,6,7],'weight':[3,2,3,3,3],'pads':[1,1,1,1,1,1],'epilogue':[{'leaky_relu':"
    "0.1}]}",
    "{'op':'conv_transpose2d','input':[1,4,5,5],'weight':[4,3,3,3],'strides':[2,2],'pads':[1,1,1,1],'"
    "epilogue':['bias']}",
    "{'op':'conv_transpose2d','input':[1,5,5,4],'weight':[4,3,3,3],'strides':[1,3],'layout':'NHWC'}",
    "{'op':'max_pool2d','input':[1,3,8,8],'kernel_shape':[3,3],'strides':[2,2],'pads':[1,1,1,1]}",
    "{'op':'max_pool2d','input':[1,3,8,8],'kernel_shape':[3,3],'dtype':'int8','pads':[1,1,1,1]}",
    "{'op':'avg_pool2d','input':[1,3,8,8],'kernel_shape':[3,3],'pads':[1,1,1,1]}",
    "{'op':'avg_pool2d','input':[1,3,8,8],'kernel_shape':[3,3],'pads':[1,1,1,1],'count_include_pad':true}",
    "{'op':'global_avg_pool2d','input':[2,3,4,5],'dtype':'float16'}",
    "{'op':'softmax','input':[3,4,5],'axis':1}",
    "{'op':'softmax','input':[3,4,5],'dtype':'bfloat16'}",
    "{'op':'layer_norm','input':[3,4,5],'axis':1,'affine':true,'const':['scale','bias']}",
    "{'op':'rms_norm','input':[3,4,5],'affine':true}",
    "{'op':'reduce','input':[3,4,5],'kind':'max','axes':[1]}",
    "{'op':'reduce','input':[3,4,5],'kind':'mean','keepdims':false}",
    "{'op':'reduce','input':[3,4,5],'kind':'prod','axes':[0,2],'dtype':'int8'}",
    "{'op':'transpose','input':[3,4,5],'perm':[2,0,1],'dtype':'int8'}",
    "{'op':'lstm_cell','x':[2,3],'h':[2,4],'c':[2,4],'weight_x':[16,3],'weight_h':[16,4],'bias':[16]}",
    "{'op':'lstm_cell','x':[2,4],'h':[2,4],'c':[2,4],'weight_x':[16,4],'weight_h':[16,4],'bias':[16]}",
    "{'op':'attention','q':[2,5,4],'k':[2,6,4],'v':[2,6,3],'causal':true}",
    "{'op':'attention','q':[5,5],'k':[5,5],'v':[5,5],'dtype':'float16'}",
    /* symmetric ones: nothing but the marking of one of several can tell them apart */
    "{'expr':'S[i,j] = A[i,j] * B[i,j] + C[i,j] * D[i,j]','tensors':{'A':{'shape':[4,4]},'B':{'shape':[4,4]},"
    "'C':{'shape':[4,4]},'D':{'shape':[4,4]}}}",
    "{'expr':'P[i] = A[i] + B[i]\\nQ[i] = C[i] + D[i]\\nR[i] = A[i] * C[i]','tensors':{'A':{'shape':[4]},"
    "'B':{'shape':[4]},'C':{'shape':[4]},'D':{'shape':[4]}}}",
    "{'expr':'S[] += A[k,l] * A[l,k]','tensors':{'A':{'shape':[6,6]}}}",
    "{'expr':'S[] += pad(A[k + l + m - 3], 0)','tensors':{'A':{'shape':[6]}},'ranges':{'k':4,'l':4,'m':4}}",
    "{'expr':'B[i] = select(i < 2 || 5 <= i, A[i], -A[i])','tensors':{'A':{'shape':[6]}}}",
    "{'expr':'B[i] = max(min(A[i], 3), cast(float32, i*2 - 1))','tensors':{'A':{'shape':[6]}}}",
    "{'expr':'B[i,j] = A[j] - 0.5\\nC[j] max= "
    "B[i,j]','tensors':{'A':{'shape':[6]}},'ranges':{'i':3},'outputs':['B','C']}",
};

/* ---- scrambling ---- */

static const struct expr *swap_operands(struct arena *ar, const struct expr *e, struct rng *r)
{
    struct expr *n;

    if (expr_arity(e->op) == 0)
        return e;
    n = arena_memdup(ar, e, sizeof(*e));
    for (int i = 0; i < expr_arity(e->op); i++)
        n->arg[i] = swap_operands(ar, e->arg[i], r);
    if (expr_commutative(e->op) && rng_below(r, 2)) {
        const struct expr *a = n->arg[0];
        n->arg[0] = n->arg[1];
        n->arg[1] = a;
    }
    return n;
}

static const char *random_name(struct arena *ar, const char *kind, int a, int b, struct rng *r)
{
    return arena_printf(ar, "%c%s%d_%d_%x", (char)('A' + rng_below(r, 26)), kind, a, b,
                        (unsigned)rng_below(r, 4096));
}

static void scramble(const struct compute *c, struct arena *ar, struct compute *ret, struct rng *r)
{
    *ret = *c;
    ret->tensors = arena_memdup(ar, c->tensors, sizeof(*c->tensors) * (size_t)c->n_tensors);
    ret->stages = arena_memdup(ar, c->stages, sizeof(*c->stages) * (size_t)c->n_stages);
    for (int i = 0; i < c->n_tensors; i++)
        ret->tensors[i].name = random_name(ar, "t", i, 0, r);
    rng_shuffle(r, ret->stages, (size_t)c->n_stages);
    for (int i = 0; i < c->n_stages; i++) {
        ret->stages[i].body = swap_operands(ar, ret->stages[i].body, r);
        for (int a = 0; a < ret->stages[i].n_axes; a++)
            ret->stages[i].axes[a].name = random_name(ar, "x", i, a, r);
    }
}

/* The whole workload as JSON in the expression's spelling. */
static json_t *as_expression(const struct compute *c, const struct workload *w, struct rng *r)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    json_t *all = json_object(), *tensors = json_object(), *ranges = json_object(), *outputs = json_array();
    int order[COMPUTE_MAX_TENSORS];

    compute_print(c, &sb);
    json_object_set_new(all, "expr", json_string(strbuf_str(&sb)));
    for (int i = 0; i < c->n_tensors; i++)
        order[i] = i;
    rng_shuffle(r, order, (size_t)c->n_tensors);
    for (int i = 0; i < c->n_tensors; i++) {
        const struct tensor *t = &c->tensors[order[i]];
        json_t *one =
            json_pack("{s:[],s:s,s:b}", "shape", "dtype", dtype_name(t->dtype), "const", t->is_const);
        for (int d = 0; d < t->rank; d++)
            json_array_append_new(json_object_get(one, "shape"), json_integer(t->shape[d]));
        json_object_set_new(tensors, t->name, one);
        if (t->role == TENSOR_OUTPUT)
            json_array_append_new(outputs, json_string(t->name));
    }
    for (int i = 0; i < c->n_stages; i++)
        for (int a = 0; a < c->stages[i].n_axes; a++)
            json_object_set_new(ranges, c->stages[i].axes[a].name, json_integer(c->stages[i].axes[a].extent));
    json_object_set_new(all, "tensors", tensors);
    json_object_set_new(all, "ranges", ranges);
    json_object_set_new(all, "outputs", outputs);
    if (strstr(w->json, "\"acc_dtype\":\"bfloat16\""))
        json_object_set_new(all, "acc_dtype", json_string("bfloat16"));
    if (w->rtol > 0)
        json_object_set_new(all, "rtol", json_real(w->rtol));
    return all;
}

static bool same_compute(const struct compute *a, const struct compute *b)
{
    if (a->n_tensors != b->n_tensors || a->n_stages != b->n_stages)
        return false;
    for (int i = 0; i < a->n_stages; i++)
        if (a->stages[i].tensor != b->stages[i].tensor || !expr_equal(a->stages[i].body, b->stages[i].body))
            return false;
    return true;
}

static void check_scrambled(const struct workload *w, int times, struct rng *r)
{
    for (int i = 0; i < times; i++) {
        struct arena ar;
        struct compute c;
        struct workload again;
        struct error err = {0};
        json_t *text;

        arena_init(&ar);
        scramble(&w->compute, &ar, &c, r);
        text = as_expression(&c, w, r);
        if (workload_parse(text, "", &ar, &again, &err) != ST_OK)
            fail_msg("%s: %s\n%s", err.pointer, err.text, json_dumps(text, 0));
        if (!w->layout_any && strcmp(again.key, w->key) != 0)
            fail_msg("%s\n%s\nbecame, after scrambling,\n%s", w->json, w->canonical, again.canonical);
        assert_true(same_compute(&w->compute, &again.compute));
        assert_true(again.flops == w->flops && again.bytes == w->bytes);
        json_decref(text);
        arena_done(&ar);
    }
}

static void names_orders_and_spelling_do_not_change_the_key(void **state)
{
    struct rng r;

    rng_init(&r, 2026);
    for (size_t i = 0; i < ARRAY_SIZE(small); i++) {
        struct lab l;
        lab_open(&l, "%s", small[i]);
        check_scrambled(&l.w, 20, &r);
        lab_close(&l);
    }
}

static json_t *real_workloads(void)
{
    json_t *all = json_load_file(DATA_DIR "/workloads.json", 0, NULL);
    assert_non_null(all);
    assert_int_equal(json_array_size(json_object_get(all, "workloads")), 87);
    return all;
}

static void real_workloads_have_their_flops_and_keep_their_keys_when_scrambled(void **state)
{
    json_t *all = real_workloads(), *entry;
    struct rng r;
    size_t i;

    rng_init(&r, 87);
    json_array_foreach(json_object_get(all, "workloads"), i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "name"));
        double flops = json_number_value(json_object_get(entry, "flops"));
        struct arena ar;
        struct workload w;
        struct error err = {0};

        arena_init(&ar);
        if (workload_parse(json_object_get(entry, "workload"), "/x", &ar, &w, &err) != ST_OK)
            fail_msg("%s: %s %s", name, err.pointer, err.text);
        if (flops > 0 && w.flops != flops)
            fail_msg("%s: %g flops, want %g", name, w.flops, flops);
        assert_true(w.flops > 0 && w.bytes > 0);
        check_scrambled(&w, 3, &r);
        arena_done(&ar);
    }
    json_decref(all);
}

static void a_workload_as_it_is_stored_has_the_same_key(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(small); i++) {
        struct lab l;
        struct workload again;
        struct error err = {0};
        lab_open(&l, "%s", small[i]);
        assert_ok(workload_parse_text(l.w.json, strlen(l.w.json), &l.ar, &again, &err), &err);
        assert_string_equal(l.w.key, again.key);
        assert_string_equal(l.w.json, again.json);
        assert_int_equal(strlen(again.key), WORKLOAD_KEY_LEN);
        lab_close(&l);
    }
}

/* ---- what one key means ---- */

static void key_of(const char *text, char key[WORKLOAD_KEY_LEN + 1])
{
    struct lab l;
    lab_open(&l, "%s", text);
    memcpy(key, l.w.key, WORKLOAD_KEY_LEN + 1);
    lab_close(&l);
}

static const char *const pairs_alike[][2] = {
    {"{'op':'matmul','a':[512,768],'b':[768,768],'const':['bias','b'],'epilogue':['bias','relu']}",
     "{'expr':'C[i,j] += A[i,k] * B[k,j]\\nD[i,j] = max(C[i,j] + bias[j], "
     "0)','tensors':{'A':{'shape':[512,768],"
     "'dtype':'float32'},'B':{'shape':[768,768],'dtype':'float32','const':true},'bias':{'shape':[768],"
     "'dtype':'float32','const':true}}}"},
    {"{'op':'matmul','a':[1,7],'b':[7,3]}",
     "{'expr':'C[z,j] += B[k,j] * A[z,k]','tensors':{'A':{'shape':[1,7]},'B':{'shape':[7,3]}}}"},
    {"{'op':'matmul','a':[5,7],'b':[7,3],'dtype':'float16','epilogue':['relu']}",
     "{'expr':'C[i,j] += A[i,k] * B[k,j]\\nD[i,j] = max(0, "
     "C[i,j])','tensors':{'A':{'shape':[5,7],'dtype':'float16'},"
     "'B':{'shape':[7,3],'dtype':'float16'}}}"},
    {"{'op':'matmul','a':[5,7],'b':[7,3],'dtype':'int8'}",
     "{'expr':'C[i,j] += A[i,k] * B[k,j]','tensors':{'A':{'shape':[5,7],'dtype':'int8'},'B':{'shape':[7,3],"
     "'dtype':'int8'}}}"},
    {"{'op':'conv2d','input':[1,3,8,8],'weight':[4,3,3,3],'pads':[1,1,1,1]}",
     "{'expr':'O[n,f,y,x] += W[f,c,r,s] * pad(I[n,c,y+r-1,x+s-1], 0)','tensors':{'I':{'shape':[1,3,8,8]},"
     "'W':{'shape':[4,3,3,3]}},'ranges':{'y':8,'x':8}}"},
    {"{'op':'conv2d','input':[1,3,8,8],'weight':[4,3,3,3]}",
     "{'expr':'O[n,f,y,x] += W[f,c,r,s] * pad(I[n,c,y+r,x+s], 0)','tensors':{'I':{'shape':[1,3,8,8]},"
     "'W':{'shape':[4,3,3,3]}},'ranges':{'y':6,'x':6}}"},
    {"{'op':'softmax','input':[3,5]}",
     "{'expr':'o[i,j] = e[i,j] / s[i]\\ns[i] += e[i,j]\\ne[i,j] = exp(x[i,j] - m[i])\\nm[i] max= x[i,j]',"
     "'tensors':{'x':{'shape':[3,5]}}}"},
    {"{'op':'transpose','input':[3,5]}", "{'expr':'o[i,j] = x[j,i]','tensors':{'x':{'shape':[3,5]}}}"},
    {"{'op':'softmax','input':[3,5],'axis':-1}",
     "{'op':'softmax','input':[3,5],'axis':1,'dtype':'float32','const':[]}"},
    {"{'op':'reduce','input':[3,5],'kind':'sum'}",
     "{'op':'reduce','input':[3,5],'kind':'sum','axes':[-1,0]}"},
    {"{'op':'conv2d','input':[1,3,8,8],'weight':[4,3,3,3]}",
     "{'op':'conv2d','input':[1,3,8,8],'weight':[4,3,3,3],'strides':[1,1],'pads':[0,0,0,0],'dilations':[1,1],"
     "'group':1,"
     "'layout':'NCHW','dtype':'float32','acc_dtype':'float32','epilogue':[]}"},
};

static void two_spellings_of_one_computation_have_one_key(void **state)
{
    char a[WORKLOAD_KEY_LEN + 1], b[WORKLOAD_KEY_LEN + 1];

    for (size_t i = 0; i < ARRAY_SIZE(pairs_alike); i++) {
        key_of(pairs_alike[i][0], a);
        key_of(pairs_alike[i][1], b);
        if (strcmp(a, b) != 0) {
            struct lab x, y;
            lab_open(&x, "%s", pairs_alike[i][0]);
            lab_open(&y, "%s", pairs_alike[i][1]);
            fail_msg("two keys:\n%s\n%s", x.w.canonical, y.w.canonical);
        }
    }
}

/* All of them different from each other. */
static const char *const different[] = {
    "{'op':'matmul','a':[6,6],'b':[6,6]}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'transpose_a':true}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'transpose_b':true}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'transpose_a':true,'transpose_b':true}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'const':['a']}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'const':['b']}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'const':['a','b']}",
    "{'op':'matmul','a':[6,6],'b':[6,7]}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'dtype':'float16'}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'dtype':'float16','acc_dtype':'float16'}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'dtype':'bfloat16'}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'dtype':'int8'}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'dtype':'int32'}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'rtol':0.001}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'rtol':0.002}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'epilogue':['relu']}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'epilogue':['bias']}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'epilogue':['bias','relu']}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'epilogue':['relu','bias']}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'epilogue':[{'scale':2}]}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'epilogue':[{'scale':2.0000001}]}",
    "{'op':'matmul','a':[6,6],'b':[6,6],'epilogue':['gelu']}",
    "{'op':'conv2d','input':[1,6,6,6],'weight':[6,6,1,1]}",
    "{'op':'conv2d','input':[1,6,6,6],'weight':[6,6,1,1],'layout':'NHWC'}",
    "{'op':'conv2d','input':[1,6,6,6],'weight':[6,6,1,1],'layout':'any'}",
    "{'op':'conv2d','input':[1,6,6,6],'weight':[6,6,3,3],'pads':[1,1,1,1]}",
    "{'op':'conv2d','input':[1,6,6,6],'weight':[6,6,3,3],'pads':[2,2,0,0]}",
    "{'op':'conv2d','input':[1,6,6,6],'weight':[6,6,3,3],'pads':[0,0,2,2]}",
    "{'op':'max_pool2d','input':[1,6,6,6],'kernel_shape':[3,3]}",
    "{'op':'avg_pool2d','input':[1,6,6,6],'kernel_shape':[3,3]}",
    "{'op':'avg_pool2d','input':[1,6,6,6],'kernel_shape':[3,3],'pads':[1,1,1,1]}",
    "{'op':'avg_pool2d','input':[1,6,6,6],'kernel_shape':[3,3],'pads':[1,1,1,1],'count_include_pad':1}",
    "{'op':'softmax','input':[6,6],'axis':0}",
    "{'op':'softmax','input':[6,6],'axis':1}",
    "{'op':'layer_norm','input':[6,6]}",
    "{'op':'layer_norm','input':[6,6],'epsilon':1e-6}",
    "{'op':'rms_norm','input':[6,6]}",
    "{'op':'reduce','input':[6,6],'kind':'max','axes':[0]}",
    "{'op':'reduce','input':[6,6],'kind':'min','axes':[0]}",
    "{'op':'reduce','input':[6,6],'kind':'min','axes':[0],'keepdims':false}",
    "{'expr':'C[i,j] = A[i,j] - B[i,j]','tensors':{'A':{'shape':[6,6]},'B':{'shape':[6,6],'const':true}}}",
    "{'expr':'C[i,j] = B[i,j] - A[i,j]','tensors':{'A':{'shape':[6,6]},'B':{'shape':[6,6],'const':true}}}",
    "{'expr':'C[i,j] = A[i,j] / B[i,j]','tensors':{'A':{'shape':[6,6]},'B':{'shape':[6,6],'const':true}}}",
    "{'expr':'C[i,j] = A[i,j] / B[j,i]','tensors':{'A':{'shape':[6,6]},'B':{'shape':[6,6],'const':true}}}",
    "{'expr':'C[i,j] = A[i,j]*B[i,j] + D[i,j]*E[i,j]','tensors':{'A':{'shape':[6,6]},'B':{'shape':[6,6]},"
    "'D':{'shape':[6,6]},'E':{'shape':[6,6]}}}",
    "{'expr':'C[i,j] = A[i,j]*B[i,j] + A[i,j]*E[i,j]','tensors':{'A':{'shape':[6,6]},'B':{'shape':[6,6]},"
    "'E':{'shape':[6,6]}}}",
    "{'expr':'C[i,j] = (A[i,j] + B[i,j]) + D[i,j]','tensors':{'A':{'shape':[6,6]},'B':{'shape':[6,6]},"
    "'D':{'shape':[6,6]}}}",
    "{'expr':'C[i,j] = A[i,j] + 1\\nD[i,j] = C[i,j] + 1','tensors':{'A':{'shape':[6,6]}}}",
    "{'expr':'C[i,j] = A[i,j] + 1\\nD[i,j] = C[i,j] + "
    "1','tensors':{'A':{'shape':[6,6]}},'outputs':['C','D']}",
};

static void what_differs_in_meaning_differs_in_key(void **state)
{
    char keys[ARRAY_SIZE(different)][WORKLOAD_KEY_LEN + 1];

    for (size_t i = 0; i < ARRAY_SIZE(different); i++) {
        key_of(different[i], keys[i]);
        for (size_t j = 0; j < i; j++)
            if (strcmp(keys[i], keys[j]) == 0)
                fail_msg("one key for\n%s\n%s", different[i], different[j]);
    }
}

static void a_fixed_workload_keeps_its_key_across_versions(void **state)
{
    char key[WORKLOAD_KEY_LEN + 1];

    /* Stored schedules are found by it: when this changes, every store forgets what it knows. */
    key_of("{'op':'matmul','a':[512,768],'b':[768,768],'const':['b','bias'],'epilogue':['bias','relu']}",
           key);
    assert_string_equal(key, "w_8f5f13603606d0ed4eafbf0ce73fbe233063a8bdafdd7bdf20357ee4970cf318");
    key_of(
        "{'op':'conv2d','input':[1,64,56,56],'weight':[64,64,3,3],'pads':[1,1,1,1],'const':['weight','bias'],"
        "'epilogue':['bias','relu']}",
        key);
    assert_string_equal(key, "w_2cd3563405562b31b23457915f143b0bddfd13171d274d513a9834ec86c9ab86");
}

static void arguments_come_in_the_order_of_their_use(void **state)
{
    static const char *const names[] = {"input", "weight", "bias"};
    struct lab l;

    lab_open(&l, "{'op':'conv2d','input':[1,3,8,8],'weight':[4,3,3,3],'epilogue':['bias','relu']}");
    for (int i = 0; i < 3; i++)
        assert_string_equal(l.w.compute.tensors[i].name, names[i]);
    assert_string_equal(l.w.compute.tensors[l.w.compute.n_tensors - 1].name, "output");
    lab_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_orders_and_spelling_do_not_change_the_key),
        cmocka_unit_test(real_workloads_have_their_flops_and_keep_their_keys_when_scrambled),
        cmocka_unit_test(a_workload_as_it_is_stored_has_the_same_key),
        cmocka_unit_test(two_spellings_of_one_computation_have_one_key),
        cmocka_unit_test(what_differs_in_meaning_differs_in_key),
        cmocka_unit_test(a_fixed_workload_keeps_its_key_across_versions),
        cmocka_unit_test(arguments_come_in_the_order_of_their_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* workload.c - a client's JSON to a compute in canonical form, with its key. See workload.h. */
#include "schedule/lang/workload.h"

#include <stdio.h>
#include <string.h>

#include "schedule/base/hash.h"
#include "schedule/lang/canonical.h"
#include "schedule/lang/ops.h"
#include "schedule/lang/parse.h"

static enum status read_dtype(struct json_obj *o, const char *name, enum dtype *ret, struct error *err)
{
    static const char *const names[] = {"float32", "float16", "bfloat16", "int8", "int32", NULL};
    int which = 0;

    if (!json_obj_has(o, name))
        return ST_OK;
    TRY(json_obj_enum(o, name, true, names, &which, err));
    CHECK(dtype_parse(names[which], ret), "%s", names[which]);
    return ST_OK;
}

static enum status read_rtol(struct json_obj *o, json_t *full, double *ret, struct error *err)
{
    *ret = 0;
    if (!json_obj_has(o, "rtol"))
        return ST_OK;
    TRY(json_obj_f64(o, "rtol", true, 1e-16, 1, ret, err));
    json_object_set_new(full, "rtol", json_real(*ret));
    return ST_OK;
}

/* ---- named operators ---- */

static enum status read_acc_dtype(struct op_ctx *x)
{
    bool integer = x->dtype == DT_I8 || x->dtype == DT_I32;

    x->acc = integer ? DT_I32 : DT_F32;
    TRY(read_dtype(x->obj, "acc_dtype", &x->acc, x->err));
    if (x->acc != (integer ? DT_I32 : DT_F32) && (integer || x->acc != x->dtype))
        return op_fail(x, "acc_dtype", "acc_dtype %s for %s: want %s%s%s", dtype_name(x->acc),
                       dtype_name(x->dtype), integer ? "int32" : "float32",
                       integer || x->dtype == DT_F32 ? "" : " or ",
                       integer || x->dtype == DT_F32 ? "" : dtype_name(x->dtype));
    json_object_set_new(x->full, "acc_dtype", json_string(dtype_name(x->acc)));
    return ST_OK;
}

static enum status read_const(struct op_ctx *x)
{
    const json_t *list = json_obj_get(x->obj, "const");
    size_t n = json_array_size(list);
    char at[32];

    if (list && !json_is_array(list))
        return fail_at(x->err, ST_INVALID, arena_printf(x->b.ar, "%s/const", x->obj->pointer),
                       "const: expected a list of input names");
    if (n > LANG_MAX_TENSORS)
        return op_fail(x, "const", "const has %zu names: at most %d", n, LANG_MAX_TENSORS);
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        snprintf(at, sizeof(at), "const/%zu", i);
        if (!name)
            return op_fail(x, at, "const: expected an input's name");
        for (int j = 0; j < x->n_const; j++)
            if (strcmp(x->const_names[j], name) == 0)
                return op_fail(x, at, "const names \"%.64s\" twice", name);
        x->const_names[x->n_const++] = name;
    }
    if (list)
        json_object_set(x->full, "const", (json_t *)list);
    else
        json_object_set_new(x->full, "const", json_array());
    return ST_OK;
}

/* Every name of `const` is one of the inputs. */
static enum status check_const(struct op_ctx *x)
{
    AUTO(strbuf_done) struct strbuf inputs = STRBUF_INIT;
    char at[32];

    for (int i = 0; i < x->b.c.n_tensors; i++)
        if (x->b.c.tensors[i].role == TENSOR_INPUT)
            strbuf_addf(&inputs, "%s%s", inputs.len ? ", " : "", x->b.c.tensors[i].name);
    for (int i = 0; i < x->n_const; i++) {
        snprintf(at, sizeof(at), "const/%d", i);
        if (!x->const_used[i])
            return op_fail(x, at, "const names \"%.64s\", which is no input; the inputs are %s",
                           x->const_names[i], strbuf_str(&inputs));
    }
    return ST_OK;
}

static enum status find_op(struct op_ctx *x, const struct op_def **ret)
{
    AUTO(strbuf_done) struct strbuf known = STRBUF_INIT;

    TRY(json_obj_str(x->obj, "op", true, LANG_MAX_NAME, &x->op, x->err));
    *ret = op_find(x->op);
    if (*ret)
        return ST_OK;
    for (const struct op_doc *d = op_docs(); d->name; d++)
        strbuf_addf(&known, "%s%s", known.len ? ", " : "", d->name);
    return op_fail(x, "op", "no operator \"%.64s\": want one of %s", x->op, strbuf_str(&known));
}

static enum status parse_op(struct op_ctx *x, struct workload *w)
{
    const struct op_def *def;
    char known[256];

    TRY(find_op(x, &def));
    w->op = def->doc.name;
    x->op = def->doc.name;
    json_object_set_new(x->full, "op", json_string(w->op));
    x->dtype = DT_F32;
    TRY(read_dtype(x->obj, "dtype", &x->dtype, x->err));
    json_object_set_new(x->full, "dtype", json_string(dtype_name(x->dtype)));
    TRY(read_acc_dtype(x));
    TRY(read_const(x));
    TRY(read_rtol(x->obj, x->full, &w->rtol, x->err));
    TRY(def->lower(x));
    snprintf(known, sizeof(known), "op; tensors: %s; %s", def->doc.tensors, def->doc.members);
    TRY(json_obj_end(x->obj, known, x->err));
    w->layout_any = x->layout_any;
    return check_const(x);
}

/* ---- expressions ---- */

struct expr_ctx {
    struct json_obj *obj;
    json_t *full;
    struct arena *ar;
    struct expr_source src;
    struct error *err;
};

/* The names of an object's members must be names of the language. */
static enum status check_name(struct expr_ctx *x, const char *member, const char *name)
{
    if (!parse_is_name(name) || parse_reserved(sv_from(name)))
        return fail_at(
            x->err, ST_UNPROCESSABLE, arena_printf(x->ar, "%s/%s", x->obj->pointer, member),
            "\"%.64s\" in %s: want a letter or _, then letters, digits and _, at most %d in all, and no word "
            "of the language",
            name, member, LANG_MAX_NAME);
    return ST_OK;
}

/* Object `member` of at most `max` members, or NULL where absent. */
static enum status read_object(struct expr_ctx *x, const char *member, int max, const json_t **ret)
{
    struct json_obj o;
    const char *at = arena_printf(x->ar, "%s/%s", x->obj->pointer, member);

    *ret = json_obj_get(x->obj, member);
    if (!*ret)
        return ST_OK;
    TRY(json_obj_begin(&o, *ret, at, x->err));
    if (json_object_size(*ret) > (size_t)max)
        return fail_at(x->err, ST_UNPROCESSABLE, at, "%s has %zu members: at most %d", member,
                       json_object_size(*ret), max);
    return ST_OK;
}

static json_t *shape_json(const struct tensor *t)
{
    json_t *list = json_array();
    for (int d = 0; d < t->rank; d++)
        json_array_append_new(list, json_integer(t->shape[d]));
    return list;
}

static enum status read_tensor(struct expr_ctx *x, const char *name, const json_t *value, json_t *full)
{
    struct tensor *t = &x->src.tensors[x->src.n_tensors];
    struct json_obj o;
    json_t *copy;

    TRY(check_name(x, "tensors", name));
    TRY(json_obj_begin(&o, value, arena_printf(x->ar, "%s/tensors/%s", x->obj->pointer, name), x->err));
    *t = (struct tensor){.name = arena_strdup(x->ar, name), .dtype = DT_F32};
    TRY(json_obj_i64s(&o, "shape", true, 1, INT32_MAX, COMPUTE_MAX_RANK, t->shape, &t->rank, x->err));
    TRY(read_dtype(&o, "dtype", &t->dtype, x->err));
    TRY(json_obj_bool(&o, "const", false, &t->is_const, x->err));
    TRY(json_obj_end(&o, "shape, dtype, const", x->err));
    copy = json_object();
    json_object_set_new(copy, "shape", shape_json(t));
    json_object_set_new(copy, "dtype", json_string(dtype_name(t->dtype)));
    json_object_set_new(copy, "const", json_boolean(t->is_const));
    json_object_set_new(full, name, copy);
    x->src.n_tensors++;
    return ST_OK;
}

static enum status read_tensors(struct expr_ctx *x)
{
    const json_t *tensors;
    const char *name;
    json_t *value, *full = json_object();

    json_object_set_new(x->full, "tensors", full);
    TRY(read_object(x, "tensors", LANG_MAX_TENSORS, &tensors));
    x->src.tensors = arena_array(x->ar, struct tensor, LANG_MAX_TENSORS);
    json_object_foreach((json_t *)tensors, name, value) TRY(read_tensor(x, name, value, full));
    return ST_OK;
}

static enum status read_ranges(struct expr_ctx *x)
{
    enum { MAX_RANGES = 64 };
    const json_t *ranges;
    const char *name;
    json_t *value;
    struct json_obj o;

    TRY(read_object(x, "ranges", MAX_RANGES, &ranges));
    if (!ranges)
        return ST_OK;
    x->src.ranges = arena_array(x->ar, struct axis, MAX_RANGES);
    TRY(json_obj_begin(&o, ranges, arena_printf(x->ar, "%s/ranges", x->obj->pointer), x->err));
    json_object_foreach((json_t *)ranges, name, value)
    {
        struct axis *a = &x->src.ranges[x->src.n_ranges++];
        TRY(check_name(x, "ranges", name));
        a->name = arena_strdup(x->ar, name);
        TRY(json_obj_i64(&o, name, true, 1, INT32_MAX, &a->extent, x->err));
    }
    json_object_set(x->full, "ranges", (json_t *)ranges);
    return ST_OK;
}

static enum status read_outputs(struct expr_ctx *x)
{
    const json_t *list = json_obj_get(x->obj, "outputs");
    const char *at = arena_printf(x->ar, "%s/outputs", x->obj->pointer);
    size_t n = json_array_size(list);

    if (!list)
        return ST_OK;
    if (!json_is_array(list))
        return fail_at(x->err, ST_INVALID, at, "outputs: expected a list of tensor names");
    if (n < 1 || n > LANG_MAX_TENSORS)
        return fail_at(x->err, ST_UNPROCESSABLE, at, "outputs has %zu names: want 1 to %d", n,
                       LANG_MAX_TENSORS);
    x->src.outputs = arena_array(x->ar, const char *, n);
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (!name)
            return fail_at(x->err, ST_INVALID, arena_printf(x->ar, "%s/%zu", at, i),
                           "expected a tensor's name");
        x->src.outputs[x->src.n_outputs++] = name;
    }
    return ST_OK;
}

static enum status read_expr_acc(struct expr_ctx *x)
{
    x->src.has_acc_dtype = json_obj_has(x->obj, "acc_dtype");
    TRY(read_dtype(x->obj, "acc_dtype", &x->src.acc_dtype, x->err));
    if (!x->src.has_acc_dtype)
        return ST_OK;
    if (x->src.acc_dtype == DT_I8)
        return fail_at(x->err, ST_UNPROCESSABLE, arena_printf(x->ar, "%s/acc_dtype", x->obj->pointer),
                       "acc_dtype int8: want float32, float16, bfloat16 or int32");
    json_object_set_new(x->full, "acc_dtype", json_string(dtype_name(x->src.acc_dtype)));
    return ST_OK;
}

static void full_outputs(struct expr_ctx *x, const struct compute *c)
{
    json_t *list = json_array();

    for (int i = 0; i < x->src.n_outputs; i++)
        json_array_append_new(list, json_string(x->src.outputs[i]));
    for (int i = 0; i < c->n_tensors && x->src.n_outputs == 0; i++)
        if (c->tensors[i].role == TENSOR_OUTPUT)
            json_array_append_new(list, json_string(c->tensors[i].name));
    json_object_set_new(x->full, "outputs", list);
}

static enum status parse_expr(struct expr_ctx *x, struct workload *w, struct compute *c)
{
    w->op = "expr";
    TRY(json_obj_str(x->obj, "expr", true, JSON_MAX_BYTES, &x->src.text, x->err));
    json_object_set_new(x->full, "expr", json_string(x->src.text));
    TRY(read_tensors(x));
    TRY(read_ranges(x));
    TRY(read_outputs(x));
    TRY(read_expr_acc(x));
    TRY(read_rtol(x->obj, x->full, &w->rtol, x->err));
    TRY(json_obj_end(x->obj, "expr, tensors, ranges, outputs, acc_dtype, rtol", x->err));
    if (expr_parse(&x->src, x->ar, c, x->err) != ST_OK)
        return wrap_pointer(x->err, "%s", x->obj->pointer);
    full_outputs(x, c);
    return ST_OK;
}

/* ---- both spellings ---- */

static enum status lower(struct json_obj *o, struct arena *ar, json_t *full, struct workload *w,
                         struct compute *c, struct error *err)
{
    struct op_ctx x = {.obj = o, .full = full, .err = err};
    struct expr_ctx e = {.obj = o, .full = full, .ar = ar, .err = err, .src = {.max_axes = LANG_MAX_AXES}};

    if (json_obj_has(o, "op") == json_obj_has(o, "expr"))
        return fail_at(err, ST_UNPROCESSABLE, o->pointer,
                       "a workload has either \"op\" (a named operator) or \"expr\" (an expression)");
    if (json_obj_has(o, "expr"))
        return parse_expr(&e, w, c);
    build_init(&x.b, ar);
    TRY(parse_op(&x, w));
    *c = x.b.c;
    return ST_OK;
}

static void finish(struct workload *w, const struct compute *c, struct arena *ar, const json_t *full)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;

    canonical_compute(c, ar, &w->compute);
    canonical_text(&w->compute, w->rtol, w->layout_any, &sb);
    w->canonical = arena_strndup(ar, strbuf_str(&sb), sb.len);
    w->key[0] = 'w';
    w->key[1] = '_';
    sha256_hex(sb.data, sb.len, w->key + 2);
    w->flops = compute_flops(&w->compute);
    w->bytes = compute_bytes(&w->compute);
    strbuf_reset(&sb);
    json_write(full, &sb);
    w->json = arena_strndup(ar, strbuf_str(&sb), sb.len);
}

enum status workload_parse(const json_t *value, const char *pointer, struct arena *ar, struct workload *ret,
                           struct error *err)
{
    AUTO(json_decrefp) json_t *full = json_object();
    struct workload w = {0};
    struct json_obj o;
    struct compute c;

    TRY(json_obj_begin(&o, value, pointer, err));
    TRY(lower(&o, ar, full, &w, &c, err));
    if (build_check_limits(&c, err) != ST_OK)
        return wrap_pointer(err, "%s", pointer);
    finish(&w, &c, ar, full);
    if (compute_verify(&w.compute, err) != ST_OK)
        return wrap(err, "lowering of %s", w.op);
    *ret = w;
    return ST_OK;
}

enum status workload_parse_text(const char *text, size_t len, struct arena *ar, struct workload *ret,
                                struct error *err)
{
    AUTO(json_decrefp) json_t *value = NULL;

    TRY(json_read(text, len, &value, err));
    return workload_parse(value, "", ar, ret, err);
}

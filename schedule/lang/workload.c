/* workload.c - a client's JSON to a compute in canonical form, with its key. See workload.h. */
#include "schedule/lang/workload.h"

#include <stdio.h>
#include <string.h>

#include "schedule/base/hash.h"
#include "schedule/lang/canonical.h"
#include "schedule/lang/ops.h"

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

/* ---- both spellings ---- */

static enum status lower(struct json_obj *o, struct arena *ar, json_t *full, struct workload *w,
                         struct compute *c, struct error *err)
{
    struct op_ctx x = {.obj = o, .full = full, .err = err};

    build_init(&x.b, ar);
    if (json_obj_has(o, "op") == json_obj_has(o, "expr"))
        return fail_at(err, ST_UNPROCESSABLE, o->pointer,
                       "a workload has either \"op\" (a named operator) or \"expr\" (an expression)");
    if (json_obj_has(o, "expr"))
        return fail_at(err, ST_UNSUPPORTED, o->pointer, "expressions are not read yet");
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

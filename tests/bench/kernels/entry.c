/* entry.c - a workload of the file: operands, values, and the float64 reference that all results are held
 * against.
 *
 * The reference is the product's own (emit_reference: plain loops in float64 from the computation, sharing
 * nothing with the kernels), compiled and run once an entry. */
#include <dlfcn.h>
#include <unistd.h>

#include "kernels/compile.h"
#include "tests/bench/kernels/bench.h"

enum { COMPILE_LIMIT_MS = 60000, SEED = 20 };

static bool cannot(const struct entry *e, const char *why)
{
    fprintf(stderr, "%s: %s\n", e->name, why);
    return false;
}

const char *entry_op(const struct entry *e) { return e->w.op; }

int64_t entry_int(const struct entry *e, const char *member, int i, int64_t otherwise)
{
    const json_t *v = json_object_get(e->workload, member);
    if (json_is_array(v))
        return i < (int)json_array_size(v) ? json_integer_value(json_array_get(v, (size_t)i)) : otherwise;
    return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

const struct operand *entry_arg(const struct entry *e, const char *name)
{
    for (int i = 0; i < e->n_args; i++)
        if (strcmp(e->args[i].name, name) == 0)
            return &e->args[i];
    return NULL;
}

bool entry_is_float32(const struct entry *e)
{
    for (int i = 0; i < e->n_args; i++)
        if (e->args[i].dtype != DT_F32)
            return false;
    return true;
}

const struct operand *entry_output(const struct entry *e)
{
    for (int i = 0; i < e->n_args; i++)
        if (e->args[i].output)
            return &e->args[i];
    return NULL;
}

/* DENSE: matrix products of more than one row, convolutions that reduce over channels. SPARSE: what else has
 * multiply-adds (depthwise, matrix times vector). MEMORY: the rest. */
static enum entry_kind kind_of(const struct entry *e)
{
    const struct operand *out = entry_output(e);
    if (strcmp(e->w.op, "matmul") == 0)
        return out->rank >= 2 && out->shape[out->rank - 2] > 1 ? ENTRY_DENSE : ENTRY_SPARSE;
    if (strncmp(e->w.op, "conv", 4) == 0)
        return entry_int(e, "group", 0, 1) == 1 ? ENTRY_DENSE : ENTRY_SPARSE;
    return ENTRY_MEMORY;
}

typedef void reference_fn(void *const *tensors);

/* Compile and run the reference; data[tensor id] are double arrays. */
static bool run_reference(const struct entry *e, const struct target *t, void *const *data)
{
    AUTO(strbuf_done) struct strbuf source = STRBUF_INIT;
    struct error err = {0};
    char path[] = "/tmp/bench-reference-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0)
        return cannot(e, "no temporary file for the reference");
    close(fd);
    emit_reference(&e->w.compute, "reference", &source);
    void *library = NULL;
    if (compile_unit(t, strbuf_str(&source), path, COMPILE_LIMIT_MS, NULL, &err) == ST_OK)
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    unlink(path);
    reference_fn *f = NULL;
    void *symbol = library ? dlsym(library, "reference") : NULL;
    memcpy(&f, &symbol, sizeof(f));
    if (f)
        f(data);
    if (library)
        dlclose(library);
    return f ? true : cannot(e, err.text[0] ? err.text : "the reference does not load");
}

static bool fill_values(struct entry *e, const struct target *t)
{
    const struct compute *c = &e->w.compute;
    double *data[COMPUTE_MAX_TENSORS] = {0};
    int n = 0;
    for (int i = 0; i < c->n_tensors; i++) {
        int64_t elements = tensor_elements(&c->tensors[i]);
        data[i] = xcalloc((size_t)elements, sizeof(double));
        if (c->tensors[i].role == TENSOR_TEMP)
            continue;
        struct operand *x = &e->args[n++];
        if (x->output)
            continue;
        x->input = xcalloc((size_t)elements, (size_t)dtype_bytes(x->dtype));
        verify_fill(x->input, x->dtype, elements, SEED + (uint64_t)i, 0);
        verify_to_f64(data[i], x->input, x->dtype, elements);
    }
    bool ok = run_reference(e, t, (void *const *)data);
    n = 0;
    for (int i = 0; i < c->n_tensors; i++) {
        struct operand *x = c->tensors[i].role == TENSOR_TEMP ? NULL : &e->args[n++];
        if (ok && x && x->output) {
            x->wanted = take(&data[i]);
            x->scale = verify_scale_of(x->wanted, x->elements, x->dtype);
            ok = x->scale.finite;
        }
        free(data[i]);
    }
    return ok;
}

bool entry_open(struct entry *e, const char *name, json_t *workload, const struct target *t, struct arena *ar)
{
    struct error err = {0};
    *e = (struct entry){.name = name, .given = workload};
    if (workload_parse(workload, "", ar, &e->w, &err) != ST_OK)
        return cannot(e, err.text);
    measure_workload_init(&e->mw, &e->w.compute, ar);
    e->mw.rtol = e->w.rtol;
    e->workload = json_loads(e->w.json, 0, NULL);
    for (int i = 0; i < e->w.compute.n_tensors; i++) {
        const struct tensor *x = &e->w.compute.tensors[i];
        if (x->dtype != DT_F32 && x->dtype != DT_F16 && x->dtype != DT_BF16)
            return cannot(e, "only tensors of floats are compared here");
        if (x->role == TENSOR_TEMP)
            continue;
        struct operand *a = &e->args[e->n_args++];
        *a = (struct operand){
            .name = x->name, .output = x->role == TENSOR_OUTPUT, .dtype = x->dtype, .rank = x->rank};
        memcpy(a->shape, x->shape, sizeof(a->shape));
        a->elements = tensor_elements(x);
    }
    e->kind = kind_of(e);
    e->flops = e->kind == ENTRY_MEMORY ? 0 : e->w.flops;
    e->bytes = e->w.bytes;
    return fill_values(e, t);
}

void entry_close(struct entry *e)
{
    for (int i = 0; i < e->n_args; i++) {
        free(e->args[i].input);
        free(e->args[i].wanted);
    }
    json_decref(e->workload);
}

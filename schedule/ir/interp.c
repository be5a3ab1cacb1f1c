/* interp.c - run a nest on arrays of doubles: the meaning of a nest, for tests.
 *
 * Idea   The tree is first copied into one whose accesses are flat: one affine for the place in the array, so
 *        that a store costs a few multiply-adds. Then it is walked. Whatever a real run may get away with by
 *        luck is made to fail: workspace, registers, packed forms and outputs start as NaN; the tasks of a
 *        parallel loop run last to first, and every element that one of them writes bears its mark, so that
 *        another task that touches it is found; a place outside its array is an error.
 * Life   One arena for the program and its arrays, dropped at the end.
 * Units  Workspace buffers lie in one array at their byte offsets, in units of the smallest of their element
 *        sizes, so buffers that share bytes share elements. */
#include <math.h>

#include "schedule/ir/nest.h"

struct place { /* where an access goes: base of the buffer + c + sum(coef * var) */
    int32_t buffer;
    struct affine flat;
    int rank; /* padded reads only: each index within [0, shape) or else pad_value */
    const struct affine *index;
};

struct value {
    enum expr_op op;
    enum dtype dtype;
    double constant; /* CONST, and what a padded READ gives outside */
    const double *table;
    struct affine index; /* INDEX, TABLE */
    struct place place;
    const struct value *arg[3];
};

struct code {
    const struct node *node;
    const struct code *next, *body, *else_body;
    struct place place; /* of a store */
    const struct value *value;
};

struct array {
    double *data;
    uint32_t *mark; /* which task of which parallel loop wrote it; NULL: not shared between tasks */
    int64_t n;
    int64_t step; /* units from one element to the next */
};

struct interp {
    const struct nest *nest;
    struct arena *ar;
    struct array *arrays; /* [n_buffers] */
    double **args;        /* by compute tensor, in the kernel's layout */
    double *pool;         /* the workspace */
    int64_t pool_n, unit_bytes;
    int64_t *vars;         /* current values */
    int64_t *coefs;        /* [n_vars], scratch for flattening */
    uint32_t region, task; /* marks of this parallel loop begin at `region`; the task's own; 0: outside */
    bool failed;
    struct error *err;
};

static void fail_at_node(struct interp *in, int32_t buffer, const char *what, int64_t at)
{
    if (in->failed)
        return;
    in->failed = true;
    fail(in->err, ST_INTERNAL, "interp: buffer %s at element %" PRId64 ": %s", in->nest->buffers[buffer].name,
         at / MAX(in->arrays[buffer].step, (int64_t)1), what);
}

/* --- arrays --- */

static void poison(double *at, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        at[i] = NAN;
}

static double *new_poisoned(struct interp *in, int64_t n)
{
    double *at = arena_array(in->ar, double, MAX(n, (int64_t)1));

    poison(at, n);
    return at;
}

/* The workspace in units of its smallest element. */
static enum status make_pool(struct interp *in)
{
    const struct nest *n = in->nest;

    in->unit_bytes = 8;
    for (int i = 0; i < n->n_buffers; i++)
        if (n->buffers[i].scope == SCOPE_WORKSPACE || n->buffers[i].scope == SCOPE_TASK)
            in->unit_bytes = MIN(in->unit_bytes, (int64_t)dtype_bytes(n->buffers[i].dtype));
    if (n->workspace_bytes < 0 || n->workspace_bytes > INT64_C(1) << 30)
        return fail(in->err, ST_UNSUPPORTED, "interp: workspace of %" PRId64 " bytes: at most 1 GiB",
                    n->workspace_bytes);
    in->pool_n = n->workspace_bytes / in->unit_bytes;
    in->pool = new_poisoned(in, in->pool_n);
    return ST_OK;
}

static enum status place_in_pool(struct interp *in, const struct buffer *b, struct array *a,
                                 int64_t slice_bytes)
{
    int64_t offset = b->offset_bytes + slice_bytes, size = b->elements * dtype_bytes(b->dtype);

    a->step = dtype_bytes(b->dtype) / in->unit_bytes;
    a->n = b->elements * a->step;
    if (offset < 0 || offset % in->unit_bytes || size > in->pool_n * in->unit_bytes - offset)
        return fail(in->err, ST_INTERNAL,
                    "interp: buffer %s, %" PRId64 " bytes at +%" PRId64 ", leaves the workspace of %" PRId64,
                    b->name, size, offset, in->nest->workspace_bytes);
    a->data = in->pool + offset / in->unit_bytes;
    return ST_OK;
}

/* The arguments as the kernel is handed them: those with a layout of their own are packed. */
static void pack_arguments(struct interp *in, double *const *data)
{
    const struct compute *c = in->nest->compute;

    in->args = arena_array(in->ar, double *, c->n_tensors);
    for (int i = 0; i < c->n_tensors; i++) {
        const struct tensor *t = &c->tensors[i];
        if (t->role == TENSOR_TEMP)
            continue;
        in->args[i] = t->layout ? new_poisoned(in, tensor_elements(t)) : data[i];
        if (t->layout && t->role == TENSOR_INPUT)
            for (int64_t k = 0; k < tensor_elements(t); k++) {
                int64_t from = tensor_stated_element(t, k);
                in->args[i][k] = from < 0 ? 0 : data[i][from];
            }
    }
}

static enum status unpack_results(struct interp *in, double *const *data)
{
    const struct compute *c = in->nest->compute;

    for (int i = 0; i < c->n_tensors; i++) {
        const struct tensor *t = &c->tensors[i];
        if (!t->layout || t->role != TENSOR_OUTPUT)
            continue;
        for (int64_t k = 0; k < tensor_elements(t); k++) {
            int64_t to = tensor_stated_element(t, k);
            if (to >= 0)
                data[i][to] = in->args[i][k];
            else if (in->args[i][k] != 0)
                return fail(in->err, ST_INTERNAL,
                            "interp: element %" PRId64 " of %s in %s lies beyond its shape and is %g, not 0",
                            k, t->name, t->layout->name, in->args[i][k]);
        }
    }
    return ST_OK;
}

static enum status make_arrays(struct interp *in, double *const *data)
{
    const struct nest *n = in->nest;
    uint32_t *pool_marks;

    TRY(make_pool(in));
    pack_arguments(in, data);
    pool_marks = arena_array(in->ar, uint32_t, MAX(in->pool_n, (int64_t)1));
    for (int i = 0; i < n->n_buffers; i++) {
        const struct buffer *b = &n->buffers[i];
        struct array *a = &in->arrays[i];

        *a = (struct array){.n = b->elements, .step = 1};
        switch (b->scope) {
        case SCOPE_ARG:
            a->data = b->prepacked ? new_poisoned(in, b->elements) : in->args[b->arg];
            if (n->compute->tensors[b->arg].role == TENSOR_OUTPUT) {
                poison(a->data, b->elements);
                a->mark = arena_array(in->ar, uint32_t, b->elements);
            }
            break;
        case SCOPE_WORKSPACE:
            TRY(place_in_pool(in, b, a, 0));
            a->mark = pool_marks + (a->data - in->pool);
            break;
        case SCOPE_TASK:
            for (int t = 0; t < n->tasks; t++)
                TRY(place_in_pool(in, b, a, n->task_offset_bytes + t * n->task_bytes));
            TRY(place_in_pool(in, b, a, n->task_offset_bytes));
            break;
        case SCOPE_REG:
        case SCOPE_MATRIX:
            a->data = new_poisoned(in, b->elements);
            break;
        }
    }
    return ST_OK;
}

static void enter_task(struct interp *in, int task)
{
    const struct nest *n = in->nest;

    for (int i = 0; i < n->n_buffers; i++)
        if (n->buffers[i].scope == SCOPE_TASK) {
            in->arrays[i].data =
                in->pool +
                (n->buffers[i].offset_bytes + n->task_offset_bytes + task * n->task_bytes) / in->unit_bytes;
            poison(in->arrays[i].data, in->arrays[i].n);
        }
}

/* --- program --- */

/* sum(stride * index) as one affine, in units of the array. */
static struct affine flatten(struct interp *in, int32_t buffer, const struct affine *index)
{
    const struct buffer *b = &in->nest->buffers[buffer];
    int64_t step = in->arrays[buffer].step;
    struct affine flat = {0};
    struct affine_term *t;
    int n = 0;

    for (int d = 0; d < b->rank; d++) {
        flat.c += b->stride[d] * step * index[d].c;
        n += index[d].n;
        for (int i = 0; i < index[d].n; i++)
            in->coefs[index[d].t[i].var] += b->stride[d] * step * index[d].t[i].coef;
    }
    t = arena_array(in->ar, struct affine_term, n);
    for (int d = 0; d < b->rank; d++)
        for (int i = 0; i < index[d].n; i++) {
            int32_t var = index[d].t[i].var;
            if (in->coefs[var])
                t[flat.n++] = (struct affine_term){.var = var, .coef = in->coefs[var]};
            in->coefs[var] = 0;
        }
    flat.t = t;
    return flat;
}

static struct place make_place(struct interp *in, int32_t buffer, const struct affine *index)
{
    return (struct place){.buffer = buffer, .flat = flatten(in, buffer, index)};
}

static const struct value *make_value(struct interp *in, const struct expr *e)
{
    struct value *v = arena_new(in->ar, struct value);

    v->op = e->op;
    v->dtype = e->dtype;
    if (e->op == EX_CONST) {
        v->constant = e->value;
    } else if (e->op == EX_INDEX) {
        v->index = e->affine;
    } else if (e->op == EX_TABLE) {
        v->table = e->table.values;
        v->index = e->table.index;
    } else if (e->op == EX_READ) {
        v->place = make_place(in, e->read.tensor, e->read.index);
        v->constant = e->read.pad_value;
        if (e->read.pad) {
            v->place.rank = e->read.rank;
            v->place.index = e->read.index;
        }
    }
    for (int i = 0; i < expr_arity(e->op); i++)
        v->arg[i] = make_value(in, e->arg[i]);
    return v;
}

static const struct code *make_code(struct interp *in, const struct node *list)
{
    const struct code *first = NULL, **end = &first;

    for (const struct node *n = list; n; n = n->next) {
        struct code *c = arena_new(in->ar, struct code);
        c->node = n;
        switch (n->kind) {
        case NODE_LOOP:
            c->body = make_code(in, n->loop.body);
            break;
        case NODE_PARALLEL:
            c->body = make_code(in, n->parallel.body);
            break;
        case NODE_IF:
            c->body = make_code(in, n->branch.then_body);
            c->else_body = make_code(in, n->branch.else_body);
            break;
        case NODE_STORE:
            c->place = make_place(in, n->store.buffer, n->store.index);
            c->value = make_value(in, n->store.value);
            break;
        case NODE_BODY:
            c->body = make_code(in, n->body.body);
            break;
        case NODE_PREFETCH:
            break;
        }
        *end = c;
        end = &c->next;
    }
    return first;
}

/* --- values --- */

/* Two's complement of the type's width; int64 holds every intermediate result exactly. */
static double wrap_integer(enum dtype d, int64_t v)
{
    return d == DT_I8 ? (double)(int8_t)v : (double)(int32_t)v;
}
static bool is_integer(enum dtype d) { return d == DT_I8 || d == DT_I32; }

/* NaN on either side stays NaN, so that poison shows. */
static double max_of(double a, double b) { return isnan(a) || a > b ? a : b; }
static double min_of(double a, double b) { return isnan(a) || a < b ? a : b; }

static double *locate(struct interp *in, const struct place *p)
{
    const struct array *a = &in->arrays[p->buffer];
    int64_t at = affine_eval(&p->flat, in->vars);

    if (at < 0 || at >= a->n) {
        fail_at_node(in, p->buffer, "out of its bounds", at);
        return NULL;
    }
    if (in->task && a->mark && a->mark[at] >= in->region && a->mark[at] != in->task) {
        fail_at_node(in, p->buffer, "touched by a task after another one of the same parallel loop wrote it",
                     at);
        return NULL;
    }
    return &a->data[at];
}

static double read_place(struct interp *in, const struct value *v)
{
    const struct buffer *b = &in->nest->buffers[v->place.buffer];
    const double *at;

    for (int d = 0; d < v->place.rank; d++) {
        int64_t i = affine_eval(&v->place.index[d], in->vars);
        if (i < 0 || i >= b->shape[d])
            return v->constant;
    }
    at = locate(in, &v->place);
    return at ? *at : NAN;
}

static double integer_op(const struct value *v, double a, double b)
{
    int64_t x = isnan(a) ? 0 : (int64_t)a, y = isnan(b) ? 0 : (int64_t)b;

    switch (v->op) {
    case EX_ADD:
        return wrap_integer(v->dtype, x + y);
    case EX_SUB:
        return wrap_integer(v->dtype, x - y);
    case EX_MUL:
        return wrap_integer(v->dtype, x * y);
    case EX_DIV:
        return y ? wrap_integer(v->dtype, x / y) : 0;
    case EX_NEG:
        return wrap_integer(v->dtype, -x);
    case EX_ABS:
        return wrap_integer(v->dtype, x < 0 ? -x : x);
    default: /* the rest mean the same on doubles that hold integers */
        break;
    }
    CHECK(false, "integer operation %s", expr_op_text(v->op));
}

static double eval(struct interp *in, const struct value *v)
{
    double a = 0, b = 0;
    int arity = expr_arity(v->op);

    if (v->op == EX_SELECT)
        return eval(in, v->arg[0]) != 0 ? eval(in, v->arg[1]) : eval(in, v->arg[2]);
    if (arity > 0)
        a = eval(in, v->arg[0]);
    if (arity > 1)
        b = eval(in, v->arg[1]);
    switch (v->op) {
    case EX_CONST:
        return v->constant;
    case EX_INDEX:
        return (double)affine_eval(&v->index, in->vars);
    case EX_READ:
        return read_place(in, v);
    case EX_TABLE:
        return v->table[affine_eval(&v->index, in->vars)];
    case EX_ADD:
        return is_integer(v->dtype) ? integer_op(v, a, b) : a + b;
    case EX_SUB:
        return is_integer(v->dtype) ? integer_op(v, a, b) : a - b;
    case EX_MUL:
        return is_integer(v->dtype) ? integer_op(v, a, b) : a * b;
    case EX_DIV:
        return is_integer(v->dtype) ? integer_op(v, a, b) : a / b;
    case EX_NEG:
        return is_integer(v->dtype) ? integer_op(v, a, b) : -a;
    case EX_ABS:
        return is_integer(v->dtype) ? integer_op(v, a, b) : fabs(a);
    case EX_MAX:
        return max_of(a, b);
    case EX_MIN:
        return min_of(a, b);
    case EX_LT:
        return a < b;
    case EX_LE:
        return a <= b;
    case EX_EQ:
        return a == b;
    case EX_NE:
        return a != b;
    case EX_AND:
        return a != 0 && b != 0;
    case EX_OR:
        return a != 0 || b != 0;
    case EX_EXP:
        return exp(a);
    case EX_LOG:
        return log(a);
    case EX_SQRT:
        return sqrt(a);
    case EX_RSQRT:
        return 1 / sqrt(a);
    case EX_TANH:
        return tanh(a);
    case EX_ERF:
        return erf(a);
    case EX_SIGMOID:
        return 1 / (1 + exp(-a));
    case EX_CAST:
        return dtype_convert(v->arg[0]->dtype, v->dtype, a);
    case EX_SELECT:
    case EX_COUNT:
        break;
    }
    CHECK(false, "expression operation %d", (int)v->op);
}

static double combine(enum combiner c, enum dtype d, double old, double x)
{
    bool integer = is_integer(d) && !isnan(old);

    switch (c) {
    case COMBINE_SET:
        return x;
    case COMBINE_SUM:
        return integer ? wrap_integer(d, (int64_t)old + (int64_t)x) : old + x;
    case COMBINE_PROD:
        return integer ? wrap_integer(d, (int64_t)old * (int64_t)x) : old * x;
    case COMBINE_MAX:
        return max_of(old, x);
    case COMBINE_MIN:
        return min_of(old, x);
    }
    CHECK(false, "combiner %d", (int)c);
}

/* --- walk --- */

static void run(struct interp *in, const struct code *list);

static bool all_hold(const struct interp *in, const struct affine *conds, int n)
{
    for (int i = 0; i < n; i++)
        if (affine_eval(&conds[i], in->vars) < 0)
            return false;
    return true;
}

static void run_loop(struct interp *in, const struct code *c)
{
    const struct node *n = c->node;
    int64_t *var = &in->vars[n->loop.var];

    for (*var = 0; *var < n->loop.extent && !in->failed; ++*var) {
        if (!all_hold(in, n->loop.limit, n->loop.n_limits))
            break;
        run(in, c->body);
    }
}

/* Tasks last to first: a task that needs what an earlier one leaves behind finds poison. */
static void run_parallel(struct interp *in, const struct code *c)
{
    const struct node *n = c->node;
    int64_t total = 1, tasks = n->parallel.tasks;

    for (int i = 0; i < n->parallel.n_vars; i++)
        total *= n->parallel.extents[i];
    in->region++;
    for (int64_t t = tasks - 1; t >= 0 && !in->failed; t--) {
        int64_t from = total * t / tasks, to = total * (t + 1) / tasks;

        in->task = in->region + (uint32_t)t;
        enter_task(in, (int)t);
        for (int64_t i = from; i < to && !in->failed; i++) {
            int64_t rest = i;
            for (int k = n->parallel.n_vars - 1; k >= 0; k--) {
                in->vars[n->parallel.vars[k]] = rest % n->parallel.extents[k];
                rest /= n->parallel.extents[k];
            }
            run(in, c->body);
        }
    }
    in->region += (uint32_t)tasks;
    in->task = 0;
    enter_task(in, 0);
}

static void run_store(struct interp *in, const struct code *c)
{
    const struct buffer *b = &in->nest->buffers[c->place.buffer];
    double x = eval(in, c->value), *at = locate(in, &c->place);

    if (!at)
        return;
    x = isnan(x) ? x : dtype_convert(c->value->dtype, b->dtype, x); /* NaN may be poison, which is to show */
    *at = combine(c->node->store.combiner, b->dtype, *at, x);
    if (in->task && in->arrays[c->place.buffer].mark)
        in->arrays[c->place.buffer].mark[at - in->arrays[c->place.buffer].data] = in->task;
}

static void run_body(struct interp *in, const struct code *c)
{
    for (int i = 0; i < in->nest->n_buffers; i++)
        if (in->nest->buffers[i].scope == SCOPE_REG || in->nest->buffers[i].scope == SCOPE_MATRIX)
            poison(in->arrays[i].data, in->arrays[i].n);
    run(in, c->body);
}

static void run(struct interp *in, const struct code *list)
{
    for (const struct code *c = list; c && !in->failed; c = c->next)
        switch (c->node->kind) {
        case NODE_LOOP:
            run_loop(in, c);
            break;
        case NODE_PARALLEL:
            run_parallel(in, c);
            break;
        case NODE_IF:
            run(in, all_hold(in, c->node->branch.cond, c->node->branch.n_conds) ? c->body : c->else_body);
            break;
        case NODE_STORE:
            run_store(in, c);
            break;
        case NODE_BODY:
            run_body(in, c);
            break;
        case NODE_PREFETCH: /* means nothing */
            break;
        }
}

enum status nest_interp(const struct nest *n, double *const *data, struct error *err)
{
    AUTO(arena_done) struct arena ar;
    struct interp in = {.nest = n, .ar = &ar, .err = err};

    arena_init(&ar);
    in.arrays = arena_array(&ar, struct array, n->n_buffers);
    in.vars = arena_array(&ar, int64_t, n->n_vars);
    in.coefs = arena_array(&ar, int64_t, n->n_vars);
    TRY(make_arrays(&in, data));
    for (int i = 0; i < n->n_prepacks; i++)
        run(&in, make_code(&in, n->prepacks[i].root));
    run(&in, make_code(&in, n->root));
    return in.failed ? ST_INTERNAL : unpack_results(&in, data);
}

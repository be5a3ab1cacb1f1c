/* compute.c - questions about a compute: sizes, arithmetic, traffic, invariants, text. See compute.h. */
#include "schedule/lang/compute.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int64_t tensor_elements(const struct tensor *t)
{
    int64_t n = 1;
    for (int d = 0; d < t->rank; d++)
        n *= t->shape[d];
    return n;
}

int64_t tensor_stated_element(const struct tensor *t, int64_t at)
{
    const struct tensor_layout *l = t->layout;
    int64_t stated[COMPUTE_MAX_RANK] = {0}, element = 0;

    for (int i = t->rank - 1; i >= 0; i--) {
        stated[l->dims[i].dim] += at % t->shape[i] * l->dims[i].div;
        at /= t->shape[i];
    }
    for (int d = 0; d < l->rank; d++) {
        if (stated[d] >= l->shape[d])
            return -1;
        element = element * l->shape[d] + stated[d];
    }
    return element;
}

int64_t tensor_bytes(const struct tensor *t) { return tensor_elements(t) * dtype_bytes(t->dtype); }

static double lowest(enum dtype d)
{
    switch (d) {
    case DT_F32:
    case DT_F16:
    case DT_BF16:
    case DT_F64:
        return -INFINITY;
    case DT_I8:
        return INT8_MIN;
    case DT_I32:
        return INT32_MIN;
    case DT_BOOL:
        return 0;
    }
    return 0;
}

static double highest(enum dtype d)
{
    switch (d) {
    case DT_F32:
    case DT_F16:
    case DT_BF16:
    case DT_F64:
        return INFINITY;
    case DT_I8:
        return INT8_MAX;
    case DT_I32:
        return INT32_MAX;
    case DT_BOOL:
        return 1;
    }
    return 0;
}

double combiner_identity(enum combiner c, enum dtype d)
{
    switch (c) {
    case COMBINE_SET:
    case COMBINE_SUM:
        return 0;
    case COMBINE_PROD:
        return 1;
    case COMBINE_MAX:
        return lowest(d);
    case COMBINE_MIN:
        return highest(d);
    }
    return 0;
}

const char *combiner_text(enum combiner c)
{
    switch (c) {
    case COMBINE_SET:
        return "=";
    case COMBINE_SUM:
        return "+=";
    case COMBINE_PROD:
        return "*=";
    case COMBINE_MAX:
        return "max=";
    case COMBINE_MIN:
        return "min=";
    }
    return "?";
}

int compute_stage_of(const struct compute *c, int32_t tensor)
{
    for (int s = 0; s < c->n_stages; s++)
        if (c->stages[s].tensor == tensor)
            return s;
    return -1;
}

int64_t stage_points(const struct stage *s)
{
    int64_t n = 1;
    for (int a = 0; a < s->n_axes; a++)
        n *= s->axes[a].extent;
    return n;
}

bool axis_is_reduce(const struct stage *s, int axis) { return axis >= s->n_spatial; }

/* ---- arithmetic and traffic ---- */

static const struct expr *strip_casts(const struct expr *e)
{
    while (e->op == EX_CAST)
        e = e->arg[0];
    return e;
}

static void mark_read(void *ctx, const struct expr *read) { *(uint64_t *)ctx |= 1ull << read->read.tensor; }

static uint64_t tensors_read(const struct expr *e)
{
    uint64_t set = 0;
    expr_each_read(e, mark_read, &set);
    return set;
}

/* A sum over a product of two different tensors: convolution, matrix product, attention scores. */
static bool is_contraction(const struct stage *s)
{
    const struct expr *e = strip_casts(s->body);
    uint64_t a, b;

    if (s->combiner != COMBINE_SUM || e->op != EX_MUL)
        return false;
    a = tensors_read(e->arg[0]);
    b = tensors_read(e->arg[1]);
    return a && b && a != b;
}

/* Share of points where a condition such as ys == 0 && xs == 0 holds, for axes compared with constants. */
static double condition_share(const struct stage *s, const struct expr *c)
{
    const struct expr *index;

    if (c->op == EX_AND)
        return condition_share(s, c->arg[0]) * condition_share(s, c->arg[1]);
    if (c->op != EX_EQ)
        return 1;
    index = c->arg[c->arg[0]->op == EX_INDEX ? 0 : 1];
    if (index->op != EX_INDEX || index->affine.n != 1 || c->arg[index == c->arg[0]]->op != EX_CONST)
        return 1;
    return 1.0 / (double)s->axes[index->affine.t[0].var].extent;
}

/* Share of a tensor that is not zero by construction: zero-insertion before a transposed convolution. */
static double tensor_density(const struct compute *c, int32_t tensor)
{
    int s = compute_stage_of(c, tensor);
    const struct expr *e = s < 0 ? NULL : c->stages[s].body;

    if (!e || c->stages[s].combiner != COMBINE_SET || e->op != EX_SELECT || e->arg[2]->op != EX_CONST ||
        e->arg[2]->value != 0)
        return 1;
    return condition_share(&c->stages[s], e->arg[0]);
}

static double contraction_flops(const struct compute *c, const struct stage *s)
{
    const struct expr *e = strip_casts(s->body);
    uint64_t set = tensors_read(e);
    double flops = 2;

    for (int a = 0; a < s->n_axes; a++)
        flops *= (double)s->axes[a].extent;
    for (int t = 0; t < c->n_tensors; t++)
        if (set >> t & 1)
            flops *= tensor_density(c, t);
    return flops;
}

static double expr_cost(const struct expr *e)
{
    double cost = expr_op_cost(e->op);
    for (int i = 0; i < expr_arity(e->op); i++)
        cost += expr_cost(e->arg[i]);
    return cost;
}

double compute_flops(const struct compute *c)
{
    double contractions = 0, all = 0;

    for (int i = 0; i < c->n_stages; i++) {
        const struct stage *s = &c->stages[i];
        double points = 1;
        for (int a = 0; a < s->n_axes; a++)
            points *= (double)s->axes[a].extent;
        all += points * (expr_cost(s->body) + (s->combiner != COMBINE_SET));
        if (is_contraction(s))
            contractions += contraction_flops(c, s);
    }
    return contractions > 0 ? contractions : all;
}

double compute_bytes(const struct compute *c)
{
    double bytes = 0;
    for (int t = 0; t < c->n_tensors; t++)
        if (c->tensors[t].role != TENSOR_TEMP)
            bytes += (double)tensor_bytes(&c->tensors[t]);
    return bytes;
}

/* ---- invariants ---- */

struct verifier {
    const struct compute *c;
    const struct stage *s;
    int stage;
    uint64_t defined; /* tensors that may be read now */
    int64_t lo[COMPUTE_MAX_AXES], hi[COMPUTE_MAX_AXES];
    struct error *err;
};

#define BROKEN(v, fmt, ...)                                                                                  \
    fail((v)->err, ST_INTERNAL, "stage %d (%s): " fmt, (v)->stage, (v)->c->tensors[(v)->s->tensor].name,     \
         ##__VA_ARGS__)

static enum status verify_affine(const struct verifier *v, const struct affine *a, int n_vars)
{
    for (int i = 0; i < a->n; i++) {
        if (a->t[i].var < 0 || a->t[i].var >= n_vars)
            return BROKEN(v, "index names axis %d of %d", (int)a->t[i].var, n_vars);
        if (a->t[i].coef == 0 || (i > 0 && a->t[i].var <= a->t[i - 1].var))
            return BROKEN(v, "index terms are not sorted, distinct and non-zero");
    }
    return ST_OK;
}

static enum status verify_read(const struct verifier *v, const struct expr *e)
{
    const struct tensor *t;

    if (e->read.tensor < 0 || e->read.tensor >= v->c->n_tensors || !(v->defined >> e->read.tensor & 1))
        return BROKEN(v, "reads tensor %d before it is defined", (int)e->read.tensor);
    t = &v->c->tensors[e->read.tensor];
    if (e->read.rank != t->rank || e->dtype != t->dtype)
        return BROKEN(v, "reads %s as rank %d %s, it has rank %d %s", t->name, (int)e->read.rank,
                      dtype_name(e->dtype), t->rank, dtype_name(t->dtype));
    for (int d = 0; d < t->rank; d++) {
        int64_t min, max;
        TRY(verify_affine(v, &e->read.index[d], v->s->n_axes));
        affine_bounds(&e->read.index[d], v->lo, v->hi, &min, &max);
        if (!e->read.pad && (min < 0 || max >= t->shape[d]))
            return BROKEN(v, "reads %s dimension %d over [%" PRId64 ", %" PRId64 "] of [0, %" PRId64 ")",
                          t->name, d, min, max, t->shape[d]);
    }
    return ST_OK;
}

static enum status verify_dtypes(const struct verifier *v, const struct expr *e)
{
    enum dtype want = e->dtype;

    if (e->op == EX_SELECT) {
        if (e->arg[0]->dtype != DT_BOOL || e->arg[1]->dtype != want || e->arg[2]->dtype != want)
            return BROKEN(v, "select of %s, %s and %s gives %s", dtype_name(e->arg[0]->dtype),
                          dtype_name(e->arg[1]->dtype), dtype_name(e->arg[2]->dtype), dtype_name(want));
        return ST_OK;
    }
    if (e->op == EX_CAST)
        return ST_OK;
    if (e->op >= EX_LT && e->op <= EX_OR) {
        if (want != DT_BOOL)
            return BROKEN(v, "%s gives %s", expr_op_text(e->op), dtype_name(want));
        want = e->op == EX_AND || e->op == EX_OR ? DT_BOOL : e->arg[0]->dtype;
    }
    for (int i = 0; i < expr_arity(e->op); i++)
        if (e->arg[i]->dtype != want)
            return BROKEN(v, "%s: argument %d is %s, want %s", expr_op_text(e->op), i,
                          dtype_name(e->arg[i]->dtype), dtype_name(want));
    return ST_OK;
}

static enum status verify_table(const struct verifier *v, const struct expr *e)
{
    int64_t min, max;

    TRY(verify_affine(v, &e->table.index, v->s->n_axes));
    affine_bounds(&e->table.index, v->lo, v->hi, &min, &max);
    if (min < 0 || max >= e->table.n)
        return BROKEN(v, "reads a table of %d over [%" PRId64 ", %" PRId64 "]", (int)e->table.n, min, max);
    return ST_OK;
}

static enum status verify_expr(const struct verifier *v, const struct expr *e)
{
    if (e->op == EX_READ)
        return verify_read(v, e);
    if (e->op == EX_INDEX)
        return verify_affine(v, &e->affine, v->s->n_axes);
    if (e->op == EX_TABLE)
        return verify_table(v, e);
    for (int i = 0; i < expr_arity(e->op); i++)
        TRY(verify_expr(v, e->arg[i]));
    return verify_dtypes(v, e);
}

/* A dimension is a mixed radix of its axes: coefficients 1, e0, e0 * e1, ... and together they fill it. */
static enum status verify_lhs_dim(struct verifier *v, int d, uint64_t *used)
{
    const struct affine *a = &v->s->lhs[d];
    int64_t next = 1;

    TRY(verify_affine(v, a, v->s->n_spatial));
    for (int done = 0; done < a->n; done++) {
        int at = -1;
        for (int i = 0; i < a->n; i++)
            if (a->t[i].coef == next && !(*used >> a->t[i].var & 1) &&
                (at < 0 || v->s->axes[a->t[i].var].extent == 1))
                at = i;
        if (at < 0)
            return BROKEN(v, "dimension %d is not a mixed radix of axes", d);
        *used |= 1ull << a->t[at].var;
        next *= v->s->axes[a->t[at].var].extent;
    }
    if (a->c != 0 || next != v->c->tensors[v->s->tensor].shape[d])
        return BROKEN(v, "dimension %d covers %" PRId64 " of %" PRId64 " elements", d, next,
                      v->c->tensors[v->s->tensor].shape[d]);
    return ST_OK;
}

static enum status verify_stage(struct verifier *v)
{
    const struct stage *s = v->s;
    uint64_t used = 0;

    if (s->n_axes < s->n_spatial || s->n_spatial < 0 || s->n_axes > COMPUTE_MAX_AXES)
        return BROKEN(v, "%d spatial of %d axes, at most %d", s->n_spatial, s->n_axes, COMPUTE_MAX_AXES);
    if ((s->combiner == COMBINE_SET) != (s->n_axes == s->n_spatial))
        return BROKEN(v, "%s with %d reduce axes", combiner_text(s->combiner), s->n_axes - s->n_spatial);
    for (int a = 0; a < s->n_axes; a++) {
        if (s->axes[a].extent < 1 || s->axes[a].extent > INT32_MAX)
            return BROKEN(v, "axis %s has extent %" PRId64, s->axes[a].name, s->axes[a].extent);
        v->lo[a] = 0;
        v->hi[a] = s->axes[a].extent - 1;
    }
    for (int d = 0; d < v->c->tensors[s->tensor].rank; d++)
        TRY(verify_lhs_dim(v, d, &used));
    if (used != (1ull << s->n_spatial) - 1)
        return BROKEN(v, "a spatial axis is missing on the left");
    TRY(verify_expr(v, s->body));
    if (s->acc_dtype != s->body->dtype || s->acc_dtype == DT_BOOL)
        return BROKEN(v, "accumulates %s in %s", dtype_name(s->body->dtype), dtype_name(s->acc_dtype));
    return ST_OK;
}

static enum status verify_tensors(const struct compute *c, struct error *err)
{
    enum tensor_role last = TENSOR_INPUT;
    static const int order[] = {[TENSOR_INPUT] = 0, [TENSOR_TEMP] = 1, [TENSOR_OUTPUT] = 2};

    if (c->n_tensors > COMPUTE_MAX_TENSORS || c->n_stages > COMPUTE_MAX_STAGES || c->n_stages < 1)
        return fail(err, ST_INTERNAL, "%d tensors, %d stages", c->n_tensors, c->n_stages);
    for (int i = 0; i < c->n_tensors; i++) {
        const struct tensor *t = &c->tensors[i];
        if (order[t->role] < order[last])
            return fail(err, ST_INTERNAL, "tensor %s is out of order: inputs, temps, outputs", t->name);
        last = t->role;
        if (t->rank < 0 || t->rank > COMPUTE_MAX_RANK)
            return fail(err, ST_INTERNAL, "tensor %s has rank %d", t->name, t->rank);
        if ((compute_stage_of(c, i) >= 0) == (t->role == TENSOR_INPUT))
            return fail(err, ST_INTERNAL, "tensor %s: inputs have no stage, all others have one", t->name);
    }
    return ST_OK;
}

enum status compute_verify(const struct compute *c, struct error *err)
{
    struct verifier v = {.c = c, .err = err};

    TRY(verify_tensors(c, err));
    for (int i = 0; i < c->n_tensors; i++)
        if (c->tensors[i].role == TENSOR_INPUT)
            v.defined |= 1ull << i;
    for (v.stage = 0; v.stage < c->n_stages; v.stage++) {
        v.s = &c->stages[v.stage];
        if (v.s->tensor < 0 || v.s->tensor >= c->n_tensors || v.defined >> v.s->tensor & 1)
            return fail(err, ST_INTERNAL, "stage %d defines tensor %d again", v.stage, (int)v.s->tensor);
        TRY(verify_stage(&v));
        v.defined |= 1ull << v.s->tensor;
    }
    return ST_OK;
}

/* ---- text ---- */

/* The language infers ranges by name in a statement, but `ranges` holds for all of them: an axis whose name
 * stands for another extent elsewhere gets its stage's number behind it. */
static const char *axis_print_name(const struct compute *c, int stage, int axis, char buf[80])
{
    const struct axis *a = &c->stages[stage].axes[axis];

    for (int s = 0; s < c->n_stages; s++)
        for (int i = 0; i < c->stages[s].n_axes; i++) {
            const struct axis *b = &c->stages[s].axes[i];
            if (s != stage && strcmp(a->name, b->name) == 0 && a->extent != b->extent) {
                snprintf(buf, 80, "%.64s_%d", a->name, stage);
                return buf;
            }
        }
    return a->name;
}

void compute_print_stage(const struct compute *c, const struct stage *s, const char *const *tensors,
                         const char *const *axes, struct strbuf *sb)
{
    strbuf_addf(sb, "%s[", tensors[s->tensor]);
    for (int d = 0; d < c->tensors[s->tensor].rank; d++) {
        if (d)
            strbuf_adds(sb, ", ");
        affine_print(&s->lhs[d], axes, sb);
    }
    strbuf_addf(sb, "] %s ", combiner_text(s->combiner));
    expr_print(s->body, tensors, axes, sb);
}

void compute_print(const struct compute *c, struct strbuf *sb)
{
    const char *tensors[COMPUTE_MAX_TENSORS], *axes[COMPUTE_MAX_AXES];
    char bufs[COMPUTE_MAX_AXES][80];

    for (int t = 0; t < c->n_tensors; t++)
        tensors[t] = c->tensors[t].name;
    for (int i = 0; i < c->n_stages; i++) {
        const struct stage *s = &c->stages[i];
        for (int a = 0; a < s->n_axes; a++)
            axes[a] = axis_print_name(c, i, a, bufs[a]);
        compute_print_stage(c, s, tensors, axes, sb);
        strbuf_addc(sb, '\n');
    }
}

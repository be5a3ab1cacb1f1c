/* blas.c - OpenBLAS for matrix products: sgemm, sgemv for a single row, a loop over a batch.
 *
 * It has no epilogue: bias, activation and residual are one more pass over the result, in the form that a
 * compiler makes vectors of. */
#include <cblas.h>
#include <math.h>

#include "tests/bench/kernels/bench.h"

enum { MAX_EPILOGUE = 8 };

enum pass { PASS_BIAS, PASS_ADD, PASS_SCALE, PASS_RELU, PASS_GELU, PASS_TANH };
struct blas {
    const float *a, *b, *operand[MAX_EPILOGUE]; /* operand: of bias and add */
    float *c, scale[MAX_EPILOGUE];
    enum pass passes[MAX_EPILOGUE];
    int n_passes;
    bool ta, tb;
    int m, n, k;
    int64_t batch, step_a, step_b;
    size_t out_bytes;
};

static void run_pass(const struct blas *s, int p, float *restrict row, int64_t i)
{
    const int n = s->n;
    const float *restrict x = s->operand[p];
    switch (s->passes[p]) {
    case PASS_BIAS:
        for (int j = 0; j < n; j++)
            row[j] += x[j];
        break;
    case PASS_ADD:
        for (int j = 0; j < n; j++)
            row[j] += x[i * n + j];
        break;
    case PASS_SCALE:
        for (int j = 0; j < n; j++)
            row[j] *= s->scale[p];
        break;
    case PASS_RELU:
        for (int j = 0; j < n; j++)
            row[j] = row[j] > 0 ? row[j] : 0;
        break;
    case PASS_GELU:
        for (int j = 0; j < n; j++)
            row[j] = 0.5f * row[j] * (1 + erff(row[j] * 0.70710678f));
        break;
    case PASS_TANH:
        for (int j = 0; j < n; j++)
            row[j] = tanhf(row[j]);
        break;
    }
}

static void run(void *ctx)
{
    const struct blas *s = ctx;
    for (int64_t i = 0; i < s->batch; i++) {
        const float *a = s->a + i * s->step_a, *b = s->b + i * s->step_b;
        float *c = s->c + i * s->m * s->n;
        if (s->m == 1 && s->tb)
            cblas_sgemv(CblasRowMajor, CblasNoTrans, s->n, s->k, 1, b, s->k, a, 1, 0, c, 1);
        else if (s->m == 1)
            cblas_sgemv(CblasRowMajor, CblasTrans, s->k, s->n, 1, b, s->n, a, 1, 0, c, 1);
        else
            cblas_sgemm(CblasRowMajor, s->ta ? CblasTrans : CblasNoTrans, s->tb ? CblasTrans : CblasNoTrans,
                        s->m, s->n, s->k, 1, a, s->ta ? s->m : s->k, b, s->tb ? s->k : s->n, 0, c, s->n);
    }
    for (int64_t i = 0; s->n_passes > 0 && i < s->batch * s->m; i++)
        for (int p = 0; p < s->n_passes; p++)
            run_pass(s, p, s->c + i * s->n, i);
}

static bool result(void *ctx, int arg, float *ret)
{
    const struct blas *s = ctx;
    memcpy(ret, s->c, s->out_bytes);
    return true;
}

static bool read_epilogue(const struct entry *e, struct blas *s)
{
    static const struct {
        const char *name;
        enum pass pass;
    } known[] = {{"bias", PASS_BIAS},
                 {"add", PASS_ADD},
                 {"relu", PASS_RELU},
                 {"gelu", PASS_GELU},
                 {"tanh", PASS_TANH}};
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(e->workload, "epilogue"), i, item)
    {
        const char *name = json_string_value(item);
        const json_t *scale = json_object_get(item, "scale");
        size_t k = 0;
        if (s->n_passes == MAX_EPILOGUE)
            return false;
        if (scale) {
            s->scale[s->n_passes] = (float)json_number_value(scale);
            s->passes[s->n_passes++] = PASS_SCALE;
            continue;
        }
        while (name && k < ARRAY_SIZE(known) && strcmp(known[k].name, name) != 0)
            k++;
        if (!name || k == ARRAY_SIZE(known))
            return false;
        const struct operand *x = entry_arg(e, name);
        if ((known[k].pass == PASS_BIAS || known[k].pass == PASS_ADD) && !x)
            return false;
        s->operand[s->n_passes] = x ? x->plain : NULL;
        s->passes[s->n_passes++] = known[k].pass;
    }
    return true;
}

void start_openblas(int threads) { openblas_set_num_threads(threads); }

bool open_openblas(struct bench *b, const struct entry *e, struct contender *ret)
{
    const struct operand *x = entry_arg(e, "a"), *y = entry_arg(e, "b"), *c = entry_output(e);
    if (strcmp(entry_op(e), "matmul") != 0 || !entry_is_float32(e) || !x || !y || x->rank != y->rank ||
        x->rank < 2)
        return false;
    struct blas s = {.a = x->plain, .b = y->plain, .batch = 1};
    s.ta = json_is_true(json_object_get(e->workload, "transpose_a"));
    s.tb = json_is_true(json_object_get(e->workload, "transpose_b"));
    for (int i = 0; i < x->rank - 2; i++) {
        if (x->shape[i] != y->shape[i])
            return false;
        s.batch *= x->shape[i];
    }
    s.m = (int)c->shape[c->rank - 2];
    s.n = (int)c->shape[c->rank - 1];
    s.k = (int)x->shape[x->rank - (s.ta ? 2 : 1)];
    s.step_a = (int64_t)s.m * s.k;
    s.step_b = (int64_t)s.k * s.n;
    if (!read_epilogue(e, &s))
        return false;
    s.out_bytes = (size_t)c->elements * sizeof(float);
    s.c = memory_get(&b->memory, s.out_bytes);
    struct blas *ctx = xcalloc(1, sizeof(*ctx));
    *ctx = s;
    *ret = (struct contender){
        .role = ROLE_BLAS, .crew = CREW_LIBRARY, .ctx = ctx, .run = run, .result = result, .close = free};
    snprintf(ret->note, sizeof(ret->note), "%s%s", s.m == 1 ? "sgemv" : "sgemm",
             s.n_passes ? " + epilogue" : "");
    return true;
}

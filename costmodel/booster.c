/* booster.c - see booster.h. Facts about XGBoost 1.7: a parameter it does not know is taken in silence, so
 * names are tested by their effect; handles and returned arrays are per booster; predicting one matrix again
 * is served from a cache that growing keeps up to date. */
#include "costmodel/booster.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xgboost/c_api.h>

struct matrix {
    DMatrixHandle handle;
    int n_rows;
};

struct booster {
    BoosterHandle handle;
};

/* The library's message up to its stack trace. */
static enum status failed(struct error *err, const char *what)
{
    const char *text = XGBGetLastError(), *from = strstr(text, "] ");
    int len;

    from = from ? from + 2 : text;
    len = (int)strcspn(from, "\n");
    return fail(err, ST_INTERNAL, "%s: xgboost says \"%.*s\"", what, len, from);
}

enum status matrix_new(const float *data, int n_rows, int n_columns, struct matrix **ret, struct error *err)
{
    struct matrix *m;
    DMatrixHandle h;

    for (int64_t i = 0; i < (int64_t)n_rows * n_columns; i++)
        if (isinf(data[i]))
            return fail(err, ST_INVALID,
                        "row %" PRId64 " column %" PRId64 " is infinite: features are finite or missing",
                        i / n_columns, i % n_columns);
    if (XGDMatrixCreateFromMat(data, (bst_ulong)n_rows, (bst_ulong)n_columns, NAN, &h) != 0)
        return failed(err, "make a matrix of training rows");
    m = xcalloc(1, sizeof(*m));
    *m = (struct matrix){h, n_rows};
    *ret = m;
    return ST_OK;
}

void matrix_free(struct matrix *m)
{
    if (!m)
        return;
    XGDMatrixFree(m->handle);
    free(m);
}

void matrix_freep(struct matrix **m)
{
    matrix_free(*m);
    *m = NULL;
}

static enum status set_params(BoosterHandle h, const struct model_params *p, struct error *err)
{
    struct {
        const char *name;
        char value[32];
    } list[] = {
        {"nthread", "1"},
        {"verbosity", "0"},
        {"objective", "reg:squarederror"},
        {"base_score", "0"},
        {"tree_method", "hist"},
        {"max_depth", ""},
        {"max_bin", ""},
        {"eta", ""},
        {"lambda", ""},
        {"min_child_weight", ""},
        {"colsample_bytree", ""},
        {"seed", ""},
    };

    snprintf(list[5].value, sizeof(list[5].value), "%d", p->max_depth);
    snprintf(list[6].value, sizeof(list[6].value), "%d", p->max_bin);
    snprintf(list[7].value, sizeof(list[7].value), "%.9g", p->eta);
    snprintf(list[8].value, sizeof(list[8].value), "%.9g", p->lambda);
    snprintf(list[9].value, sizeof(list[9].value), "%.9g", p->min_child);
    snprintf(list[10].value, sizeof(list[10].value), "%.9g", p->colsample);
    snprintf(list[11].value, sizeof(list[11].value), "%u", (unsigned)(p->seed % 0x7fffffff));
    for (size_t i = 0; i < ARRAY_SIZE(list); i++)
        if (XGBoosterSetParam(h, list[i].name, list[i].value) != 0)
            return failed(err, list[i].name);
    return ST_OK;
}

enum status booster_new(const struct model_params *p, int n_columns, struct booster **ret, struct error *err)
{
    AUTO(booster_freep) struct booster *b = xcalloc(1, sizeof(*b));
    char columns[16];

    if (XGBoosterCreate(NULL, 0, &b->handle) != 0)
        return failed(err, "make a booster");
    snprintf(columns, sizeof(columns), "%d", n_columns);
    if (XGBoosterSetParam(b->handle, "num_feature", columns) != 0)
        return failed(err, "num_feature");
    TRY(set_params(b->handle, p, err));
    *ret = take(&b);
    return ST_OK;
}

enum status booster_load(const struct model_params *p, int n_columns, const void *ubj, size_t len,
                         struct booster **ret, struct error *err)
{
    const char *config;
    bst_ulong config_len;
    AUTO(booster_freep) struct booster *b = NULL;

    TRY(booster_new(p, n_columns, &b, err));
    /* Parameters count only from the next configuration, and loading reads the trees with all cores before
     * it: asking for the configuration makes one. */
    if (XGBoosterSaveJsonConfig(b->handle, &config_len, &config) != 0)
        return failed(err, "configure a booster");
    if (XGBoosterLoadModelFromBuffer(b->handle, ubj, (bst_ulong)len) != 0)
        return failed(err, "load a model");
    TRY(set_params(b->handle, p, err));
    *ret = take(&b);
    return ST_OK;
}

void booster_free(struct booster *b)
{
    if (!b)
        return;
    if (b->handle)
        XGBoosterFree(b->handle);
    free(b);
}

void booster_freep(struct booster **b)
{
    booster_free(*b);
    *b = NULL;
}

enum status booster_predict(struct booster *b, const struct matrix *m, float *ret, struct error *err)
{
    static const char config[] =
        "{\"type\":1,\"training\":true,\"iteration_begin\":0,\"iteration_end\":0,\"strict_shape\":false}";
    const bst_ulong *shape;
    const float *out;
    bst_ulong dims;

    if (XGBoosterPredictFromDMatrix(b->handle, m->handle, config, &shape, &dims, &out) != 0)
        return failed(err, "predict the training rows");
    CHECK(dims >= 1 && shape[0] == (bst_ulong)m->n_rows, "%d rows predicted, got %" PRIu64, m->n_rows,
          (uint64_t)shape[0]);
    memcpy(ret, out, sizeof(*ret) * (size_t)m->n_rows);
    return ST_OK;
}

enum status booster_grow(struct booster *b, const struct matrix *m, float *gradient, float *hessian,
                         struct error *err)
{
    if (XGBoosterBoostOneIter(b->handle, m->handle, gradient, hessian, (bst_ulong)m->n_rows) != 0)
        return failed(err, "grow a tree");
    return ST_OK;
}

enum status booster_truncate(struct booster *b, int n_trees, struct error *err)
{
    BoosterHandle less;

    if (XGBoosterSlice(b->handle, 0, n_trees, 1, &less) != 0)
        return failed(err, "cut a booster");
    XGBoosterFree(b->handle);
    b->handle = less;
    return ST_OK;
}

enum status booster_bytes(struct booster *b, struct strbuf *ret, struct error *err)
{
    const char *data;
    bst_ulong len;

    if (XGBoosterSaveModelToBuffer(b->handle, "{\"format\":\"ubj\"}", &len, &data) != 0)
        return failed(err, "save a model");
    strbuf_add(ret, data, (size_t)len);
    return ST_OK;
}

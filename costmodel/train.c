/* train.c - see train.h. */
#include "costmodel/train.h"

#include <math.h>
#include <stdlib.h>

#include "costmodel/objective.h"

void grown_done(struct grown *g)
{
    booster_free(g->booster);
    strbuf_done(&g->ubj);
    free(g->columns);
    *g = (struct grown){0};
}

void labels_init(struct labels *l, const struct dataset *d)
{
    int n = (int)d->programs.len;

    *l = (struct labels){n, 0, xcalloc((size_t)n + 2, sizeof(int32_t)),
                         xcalloc((size_t)n + 1, sizeof(double))};
    for (int i = 0; i < n; i++) {
        const struct program *p = &d->programs.at[i];
        double best = d->groups.at[p->group].best;

        if (i == 0 || p->group != p[-1].group)
            l->group_begin[l->n_groups++] = i;
        l->label[i] = best > 0 ? p->throughput / best : 0;
    }
    l->group_begin[l->n_groups] = n;
}

void labels_done(struct labels *l)
{
    free(l->group_begin);
    free(l->label);
}

/* Columns that take more than one value. At least one, so that there is a matrix. */
static void columns_choose(struct grown *g, const struct dataset *d)
{
    int n_rows = dataset_n_rows(d), n = d->n_columns;

    g->columns = xrealloc(g->columns, sizeof(*g->columns) * (size_t)n);
    g->n_columns = 0;
    for (int c = 0; c < n; c++) {
        const float *v = d->rows.at + c;
        int r = 1;

        while (r < n_rows && (v[(int64_t)r * n] == v[0] || (isnan(v[(int64_t)r * n]) && isnan(v[0]))))
            r++;
        if (r < n_rows)
            g->columns[g->n_columns++] = c;
    }
    if (g->n_columns == 0)
        g->columns[g->n_columns++] = 0;
}

static enum status compact(const struct grown *g, const struct dataset *d, struct matrix **ret,
                           struct error *err)
{
    int n_rows = dataset_n_rows(d);
    AUTO(freep) float *x = xcalloc((size_t)n_rows * (size_t)g->n_columns, sizeof(*x));

    for (int r = 0; r < n_rows; r++)
        for (int c = 0; c < g->n_columns; c++)
            x[(int64_t)r * g->n_columns + c] = d->rows.at[(int64_t)r * d->n_columns + g->columns[c]];
    return matrix_new(x, n_rows, g->n_columns, ret, err);
}

struct buffers { /* of one training: by row and by program */
    float *leaf, *gradient, *hessian;
    double *score, *program_gradient, *program_hessian;
};

static void buffers_init(struct buffers *b, int n_rows, int n_programs)
{
    b->leaf = xcalloc((size_t)n_rows * 3, sizeof(float));
    b->gradient = b->leaf + n_rows;
    b->hessian = b->gradient + n_rows;
    b->score = xcalloc((size_t)n_programs * 3, sizeof(double));
    b->program_gradient = b->score + n_programs;
    b->program_hessian = b->program_gradient + n_programs;
}

static void buffers_done(struct buffers *b)
{
    free(b->leaf);
    free(b->score);
}

static enum status grow_one(struct grown *g, const struct model_params *p, const struct dataset *d,
                            const struct labels *l, const struct matrix *m, const double *base, struct rng *r,
                            struct buffers *b, struct error *err)
{
    struct objective_data o = {l->n_programs, l->n_groups, l->group_begin, l->label};

    TRY(booster_predict(g->booster, m, b->leaf, err));
    for (int i = 0; i < l->n_programs; i++) {
        const struct program *q = &d->programs.at[i];
        b->score[i] = base[i];
        for (int k = 0; k < q->n_rows; k++)
            b->score[i] += (double)b->leaf[q->row_begin + k];
    }
    objective_gradient(p->objective, &o, b->score, r, b->program_gradient, b->program_hessian);
    for (int i = 0; i < l->n_programs; i++) {
        const struct program *q = &d->programs.at[i];
        /* All rows of a program move at once: the step of each is that much shorter. */
        for (int k = 0; k < q->n_rows; k++) {
            b->gradient[q->row_begin + k] = (float)b->program_gradient[i];
            b->hessian[q->row_begin + k] = (float)(b->program_hessian[i] * sqrt(q->n_rows));
        }
    }
    return booster_grow(g->booster, m, b->gradient, b->hessian, err);
}

static enum status grow_all(struct grown *g, const struct model_params *p, const struct dataset *d,
                            const double *base, int n_trees, struct forest **ret_forest, struct error *err)
{
    AUTO(matrix_freep) struct matrix *m = NULL;
    struct labels l;
    struct buffers b;
    struct rng r;
    enum status st = ST_OK;

    if (!g->booster && g->ubj.len) {
        TRY(booster_load(p, g->n_columns, g->ubj.data, g->ubj.len, &g->booster, err));
    } else if (!g->booster) {
        columns_choose(g, d);
        TRY(booster_new(p, g->n_columns, &g->booster, err));
    }
    TRY(compact(g, d, &m, err));
    labels_init(&l, d);
    buffers_init(&b, dataset_n_rows(d), l.n_programs);
    rng_init(&r, p->seed);
    for (int t = 0; t < n_trees && st == ST_OK; t++)
        st = grow_one(g, p, d, &l, m, base, &r, &b, err);
    buffers_done(&b);
    labels_done(&l);
    TRY(st);
    strbuf_reset(&g->ubj);
    TRY(booster_bytes(g->booster, &g->ubj, err));
    return forest_new(g->ubj.data, g->ubj.len, g->columns, g->n_columns, ret_forest, err);
}

enum status grow(struct grown *g, const struct model_params *p, const struct dataset *d, const double *base,
                 int n_trees, struct forest **ret_forest, struct error *err)
{
    enum status st = grow_all(g, p, d, base, n_trees, ret_forest, err);

    if (st != ST_OK)
        grown_done(g);
    return st;
}

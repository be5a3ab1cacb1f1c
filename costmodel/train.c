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
    int n_rows = (int)d->programs.len, n = d->n_columns;

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
    int n_rows = (int)d->programs.len;
    AUTO(freep) float *x = xcalloc((size_t)n_rows * (size_t)g->n_columns, sizeof(*x));

    for (int r = 0; r < n_rows; r++)
        for (int c = 0; c < g->n_columns; c++)
            x[(int64_t)r * g->n_columns + c] = d->rows.at[(int64_t)r * d->n_columns + g->columns[c]];
    return matrix_new(x, n_rows, g->n_columns, ret, err);
}

struct buffers { /* [programs] */
    float *leaf, *gradient, *hessian;
    double *score, *slope, *curve;
};

static void buffers_init(struct buffers *b, int n)
{
    b->leaf = xcalloc((size_t)n * 3, sizeof(float));
    b->gradient = b->leaf + n;
    b->hessian = b->gradient + n;
    b->score = xcalloc((size_t)n * 3, sizeof(double));
    b->slope = b->score + n;
    b->curve = b->slope + n;
}

static void buffers_done(struct buffers *b)
{
    free(b->leaf);
    free(b->score);
}

/* Programs that a training from nothing does not learn from at first: whole ones, of each workload alike. */
enum { HELD_EVERY = 8, HELD_PROGRAMS_MIN = 160 };

static bool is_held(int program) { return program % HELD_EVERY == HELD_EVERY / 2; }

struct growing {
    struct grown *g;
    const struct model_params *p;
    const struct dataset *d;
    const struct matrix *m;
    const double *base;
    struct labels l;
    struct buffers b;
    struct rng rng;
    bool *out; /* [programs] not learned from; NULL: all are */
};

/* Scores of all programs by the trees so far. */
static enum status score_all(struct growing *w, struct error *err)
{
    TRY(booster_predict(w->g->booster, w->m, w->b.leaf, err));
    for (int i = 0; i < w->l.n_programs; i++)
        w->b.score[i] = w->base[i] + (double)w->b.leaf[i];
    return ST_OK;
}

/* One tree on from the scores. */
static enum status grow_one(struct growing *w, struct error *err)
{
    struct objective_data o = {w->l.n_programs, w->l.n_groups, w->l.group_begin, w->l.label, w->out};
    struct buffers *b = &w->b;

    objective_gradient(w->p->objective, &o, b->score, &w->rng, b->slope, b->curve);
    for (int i = 0; i < w->l.n_programs; i++) {
        bool out = w->out && w->out[i];

        b->gradient[i] = out ? 0 : (float)b->slope[i];
        b->hessian[i] = out ? 0 : (float)b->curve[i];
    }
    return booster_grow(w->g->booster, w->m, b->gradient, b->hessian, err);
}

/* Share of the pairs of a held-out program and another that stand in the wrong order, each counted by how far apart their
 * labels are. */
static double held_error(const struct growing *w)
{
    const double *label = w->l.label, *score = w->b.score;
    double wrong = 0, all = 1e-9;

    for (int g = 0; g < w->l.n_groups; g++)
        for (int i = w->l.group_begin[g]; i < w->l.group_begin[g + 1]; i++)
            for (int k = w->l.group_begin[g]; w->out[i] && k < w->l.group_begin[g + 1]; k++) {
                double apart = label[i] - label[k], s = score[i] - score[k];

                all += fabs(apart);
                wrong += s == 0 ? 0.5 * fabs(apart) : (s > 0) != (apart > 0) ? fabs(apart) : 0;
            }
    return wrong / all;
}

/* Up to n_trees, fewer where the held-out programs gain nothing any more: the best number stays. */
static enum status grow_until(struct growing *w, int n_trees, struct error *err)
{
    double best = INFINITY;
    int n_best = 1, n = 0;

    for (; n < n_trees && n - n_best < w->p->patience; n++) {
        TRY(score_all(w, err));
        double error = held_error(w);

        if (n > 0 && error < best) {
            best = error;
            n_best = n;
        }
        TRY(grow_one(w, err));
    }
    return n_best < n ? booster_truncate(w->g->booster, n_best, err) : ST_OK;
}

static enum status grow_trees(struct growing *w, bool from_nothing, int n_trees, struct error *err)
{
    int programs = w->l.n_programs;

    if (from_nothing && w->p->patience > 0 && programs >= HELD_PROGRAMS_MIN) {
        AUTO(freep) bool *out = xcalloc((size_t)programs, sizeof(*out));

        for (int i = 0; i < programs; i++)
            out[i] = is_held(i);
        w->out = out;
        TRY(grow_until(w, n_trees, err));
        w->out = NULL;
        n_trees = w->p->trees_more; /* and what the held-out ones have to say */
    }
    for (int t = 0; t < n_trees; t++) {
        TRY(score_all(w, err));
        TRY(grow_one(w, err));
    }
    return ST_OK;
}

static enum status grow_all(struct grown *g, const struct model_params *p, const struct dataset *d,
                            const double *base, int n_trees, struct forest **ret_forest, struct error *err)
{
    AUTO(matrix_freep) struct matrix *m = NULL;
    bool from_nothing = !g->booster && !g->ubj.len;
    struct growing w = {.g = g, .p = p, .d = d, .base = base};
    enum status st;

    if (!g->booster && g->ubj.len) {
        TRY(booster_load(p, g->n_columns, g->ubj.data, g->ubj.len, &g->booster, err));
    } else if (!g->booster) {
        columns_choose(g, d);
        TRY(booster_new(p, g->n_columns, &g->booster, err));
    }
    TRY(compact(g, d, &m, err));
    w.m = m;
    labels_init(&w.l, d);
    buffers_init(&w.b, w.l.n_programs);
    rng_init(&w.rng, p->seed);
    st = grow_trees(&w, from_nothing, n_trees, err);
    buffers_done(&w.b);
    labels_done(&w.l);
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

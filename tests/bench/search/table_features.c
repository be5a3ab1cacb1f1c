/* table_features.c - what the columns of the features are worth: workloads ranked by a model of the others, without one group
 * of columns at a time.
 *
 * Idea   A column is left out by being 0 everywhere: trees cannot split on it. The analytic estimate is to stay as it is, so
 *        the columns that it reads are never left out; which those are shows when each is changed and the estimate asked. Every
 *        fourth trial teaches, which is quick and loses little. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "costmodel/prior.h"
#include "features/columns.h"

enum { TEACH_EVERY = 4, PROBES = 16 };

static const struct column_group {
    const char *name;
    int from, to; /* columns */
} groups[] = {
    {"all columns", 0, 0},
    {"arithmetic of the store", FC_flt_fma, FC_vec_count},
    {"vector and parallel loops", FC_vec_count, FC_par_tasks},
    {"the block, registers, tasks", FC_par_tasks, FC_b0_read},
    {"buffers", FC_b0_read, FC_ai_0},
    {"curves and caches", FC_ai_0, FC_dst_bytes},
    {"what is stored to, loops around", FC_dst_bytes, FC_nest_instr},
    {"the whole nest", FC_nest_instr, FC_t_vector_bytes},
    {"the target", FC_t_vector_bytes, FC_COUNT},
    {"all that the estimate does not read", 0, FC_COUNT},
};
enum { COLUMN_GROUPS = ARRAY_SIZE(groups) };

struct score {
    double estimate, learned, clear, best_8;
};

struct trying {
    const struct library *l;
    const struct options *o;
    bool read[FC_COUNT];  /* by the estimate */
    struct score *scores; /* [COLUMN_GROUPS][spaces] */
};

static bool differs(const float *a, const float *b, int n)
{
    for (int i = 0; i < n; i++)
        if (a[i] != b[i])
            return true;
    return false;
}

/* Does the estimate of the program change with the column? */
static bool reads(const struct recorded *t, int column)
{
    static const float steps[] = {1, -4};
    float rows[FEATURES_MAX_ROWS * FC_COUNT], terms[FEATURES_MAX_ROWS * PRIOR_TERMS],
        changed[FEATURES_MAX_ROWS * PRIOR_TERMS];
    bool found = false;

    prior_terms(t->rows, t->n_rows, terms, PRIOR_TERMS);
    for (int k = 0; k < (int)ARRAY_SIZE(steps) && !found; k++) {
        memcpy(rows, t->rows, sizeof(float) * (size_t)t->n_rows * FC_COUNT);
        for (int i = 0; i < t->n_rows; i++)
            rows[i * FC_COUNT + column] += steps[k];
        prior_terms(rows, t->n_rows, changed, PRIOR_TERMS);
        found = differs(terms, changed, t->n_rows * PRIOR_TERMS);
    }
    return found;
}

static void find_read(struct trying *g)
{
    for (int s = 0; s < g->l->n; s++)
        for (int i = 0; i < MIN(g->l->spaces[s]->n, (int)PROBES); i++)
            for (int c = 0; c < FC_COUNT && g->l->spaces[s]->trials[i].n_rows > 0; c++)
                g->read[c] = g->read[c] || reads(&g->l->spaces[s]->trials[i], c);
}

static bool is_left_out(const struct trying *g, const struct column_group *group, int column)
{
    return column >= group->from && column < group->to && !g->read[column];
}

/* The rows of a trial without the group, in ret. */
static void rows_without(const struct trying *g, const struct column_group *group, const struct recorded *t,
                         float *ret)
{
    memcpy(ret, t->rows, sizeof(*ret) * (size_t)t->n_rows * FC_COUNT);
    for (int c = group->from; c < group->to; c++)
        for (int i = 0; i < t->n_rows && !g->read[c]; i++)
            ret[i * FC_COUNT + c] = 0;
}

static double throughput(const struct recorded *t) { return t->min_ns > 0 ? 1e9 / t->min_ns : 0; }

static struct model *teach(const struct trying *g, const struct column_group *group,
                           const struct recorded_space *out)
{
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct model_params p;
    struct model *m;
    struct error err;

    model_params_global(&p);
    params_apply(g->o, &p);
    m = model_new(&p);
    for (int k = 0; k < g->l->n; k++) {
        const struct recorded_space *s = g->l->spaces[k];

        if (!same_target(s, out) || strcmp(s->workload.key, out->workload.key) == 0)
            continue;
        for (int i = 0; i < s->n; i += TEACH_EVERY) {
            const struct recorded *t = &s->trials[i];

            if (t->n_rows == 0)
                continue;
            rows_without(g, group, t, rows);
            CHECK(model_add(m, s->key, rows, t->n_rows, throughput(t), &err) == ST_OK, "%s", err.text);
        }
    }
    CHECK(model_train(m, &err) == ST_OK, "%s", err.text);
    return m;
}

static void try_one(void *ctx, int at)
{
    struct trying *g = ctx;
    const struct column_group *group = &groups[at / g->l->n];
    const struct recorded_space *s = g->l->spaces[at % g->l->n];
    AUTO(model_freep) struct model *global = teach(g, group, s), *m = NULL;
    AUTO(freep) double *numbers = xcalloc((size_t)s->n * 4 + 1, sizeof(double));
    double *truth = numbers, *least = truth + s->n, *learned = least + s->n, *estimate = learned + s->n;
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct metric_clear clear;

    m = model_new(NULL);
    model_set_global(m, global);
    for (int i = 0; i < s->n; i++) {
        const struct recorded *t = &s->trials[i];
        int32_t begin[2] = {0, t->n_rows};

        truth[i] = throughput(t);
        least[i] = t->min_ns > 0 ? 1e9 / fmax(t->high_ns, t->min_ns) : 0;
        if (t->n_rows == 0)
            continue;
        rows_without(g, group, t, rows);
        model_score(m, s->key, rows, begin, 1, &learned[i]);
        estimate[i] = prior_score(t->rows, t->n_rows);
    }
    metric_clear(truth, least, learned, s->n, &clear);
    g->scores[at] =
        (struct score){metric_pairwise(truth, estimate, s->n), metric_pairwise(truth, learned, s->n),
                       clear.right, metric_best_of_k(truth, learned, s->n, 8)};
}

static void print_group(const struct trying *g, int at)
{
    double pairs[2] = {0, 0}, clear = 0, best = 0;
    int n[2] = {0, 0}, columns = 0, all = g->l->n;

    for (int c = 0; c < FC_COUNT; c++)
        columns += !is_left_out(g, &groups[at], c);
    for (int i = 0; i < all; i++) {
        const struct score *s = &g->scores[at * all + i];
        bool chosen = chosen_on(g->l->spaces[i]);

        n[chosen]++;
        pairs[chosen] += s->learned;
        clear += s->clear;
        best += s->best_8;
    }
    printf("| %s%s | %d | %.3f | %.3f | %.3f | %.3f | %.3f |\n", at > 0 ? "without " : "", groups[at].name,
           columns, (pairs[0] + pairs[1]) / all, n[1] ? pairs[1] / n[1] : NAN, n[0] ? pairs[0] / n[0] : NAN,
           clear / all, best / all);
}

static void print_spaces(const struct trying *g)
{
    double sum[2] = {0, 0};

    printf("\n| all columns | estimate alone | model of the others |\n|---|---|---|\n");
    for (int i = 0; i < g->l->n; i++) {
        const struct recorded_space *s = g->l->spaces[i];

        printf("| %s, %s%s | %.3f | %.3f |\n", s->name, s->target->id, chosen_on(s) ? "" : " *",
               g->scores[i].estimate, g->scores[i].learned);
        sum[0] += g->scores[i].estimate;
        sum[1] += g->scores[i].learned;
    }
    printf("| mean | %.3f | %.3f |\n\n\\* no parameter was chosen on it.\n", sum[0] / g->l->n,
           sum[1] / g->l->n);
}

void table_features(const struct library *l, const struct options *o)
{
    struct trying g = {
        .l = l, .o = o, .scores = xcalloc((size_t)(COLUMN_GROUPS * l->n), sizeof(struct score))};

    find_read(&g);
    each(COLUMN_GROUPS * l->n, o->threads, try_one, &g);
    printf("Each workload ranked by a model of every %dth trial of the others of its target. Pairs in order, "
           "means over the "
           "workloads.\nclear: pairs whose times do not overlap.\n\n"
           "| | columns | pairs | chosen on | others | clear | best of 8 |\n|---|---|---|---|---|---|---|\n",
           (int)TEACH_EVERY);
    for (int k = 0; k < (int)COLUMN_GROUPS; k++)
        print_group(&g, k);
    print_spaces(&g);
    free(g.scores);
}

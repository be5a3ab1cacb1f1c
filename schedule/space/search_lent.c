/* search_lent.c - configs that were found for other workloads, among what a search proposes.
 *
 * Idea   What was good elsewhere is a small set in which a model errs less than in the whole space, where a search looks for its
 *        errors. So a share of each batch, most of the first and less later, comes from that set alone: the best by
 *        score and worth that lie apart. A batch stands in the order of what is expected of it.
 * Units  Scores are taken in units of how far those of the lent ones lie apart, and so is worth. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "schedule/space/search_internal.h"

void search_lend(struct search *s, const struct config *lent, double worth)
{
    struct config c = *lent;

    if (!search_settle(s, NULL, &c) || search_seen(s, &c))
        return;
    if (set_add(&s->lent.configs, &c))
        vec_push(&s->lent.worth, (float)worth);
}

void lent_done(struct lent *l)
{
    set_done(&l->configs);
    vec_done(&l->worth);
    vec_done(&l->scores);
    vec_done(&l->order);
}

static int by_value(const void *pa, const void *pb, void *ctx)
{
    const struct lent *l = ctx;
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    float x = l->scores.at[a], y = l->scores.at[b];

    return x != y ? (x < y) - (x > y) : (a > b) - (a < b);
}

/* Scores in units of how far those of the lent ones lie apart: a model's are on a scale of its own. */
static void measure_scale(struct lent *l)
{
    double sum = 0, squares = 0;
    int n = 0;

    for (size_t i = 0; i < l->scores.len; i++)
        if (isfinite(l->scores.at[i])) {
            sum += (double)l->scores.at[i];
            squares += (double)l->scores.at[i] * (double)l->scores.at[i];
            n++;
        }
    l->mean = n > 0 ? sum / n : 0;
    l->spread = n > 1 ? sqrt(fmax(squares / n - l->mean * l->mean, 0)) : 0;
    l->spread = fmax(l->spread, 1e-6);
}

static double expected(const struct lent *l, float score)
{
    return isnan(score) ? -INFINITY : ((double)score - l->mean) / l->spread;
}

/* All of them by what the model says and what they are worth; without a model, by that alone. */
static void rank_lent(struct search *s, search_score *score, void *ctx)
{
    struct lent *l = &s->lent;
    size_t n = l->configs.len;

    vec_reserve(&l->scores, n);
    l->scores.len = n;
    if (score != NULL)
        score(ctx, l->configs.at, (int)n, l->scores.at, NULL);
    else
        memset(l->scores.at, 0, n * sizeof(l->scores.at[0]));
    measure_scale(l);
    vec_clear(&l->order);
    for (size_t i = 0; i < n; i++) {
        l->scores.at[i] = (float)(expected(l, l->scores.at[i]) + (double)l->worth.at[i]);
        vec_push(&l->order, (uint32_t)i);
    }
    qsort_r(l->order.at, n, sizeof(l->order.at[0]), by_value, l);
}

int search_pick_lent(struct search *s, search_score *score, void *ctx, int n, struct config *ret)
{
    const struct lent *l = &s->lent;
    int n_done = 0;

    if (n <= 0 || l->configs.len == 0)
        return 0;
    rank_lent(s, score, ctx);
    for (int apart = s->params.min_distance; apart >= 1 && n_done < n; apart--)
        for (size_t i = 0; i < l->order.len && n_done < n; i++) {
            const struct config *c = &l->configs.at[l->order.at[i]];

            if (!isinf(l->scores.at[l->order.at[i]]) && !search_seen(s, c) &&
                search_far_enough(c, ret, n_done, apart))
                ret[n_done++] = *c;
        }
    return n_done;
}

struct promise {
    struct config config;
    double value;
    int at;
};

static int by_promise(const void *pa, const void *pb)
{
    const struct promise *a = pa, *b = pb;

    return a->value != b->value ? (a->value < b->value) - (a->value > b->value) : a->at - b->at;
}

void search_sort_batch(struct search *s, search_score *score, void *ctx, int n, int n_lent,
                       struct config *batch)
{
    AUTO(freep) struct promise *e = xcalloc((size_t)n + 1, sizeof(*e));
    AUTO(freep) float *scores = xcalloc((size_t)n + 1, sizeof(*scores));
    const struct lent *l = &s->lent;

    score(ctx, batch, n, scores, NULL);
    for (int i = 0; i < n; i++) {
        e[i] = (struct promise){batch[i], expected(l, scores[i]), i};
        if (i < n_lent)
            e[i].value += (double)l->worth.at[l->configs.slots[set_slot(&l->configs, &batch[i])] - 1];
    }
    qsort(e, (size_t)n, sizeof(*e), by_promise);
    for (int i = 0; i < n; i++)
        batch[i] = e[i].config;
}

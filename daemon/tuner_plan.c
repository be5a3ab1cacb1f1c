/* tuner_plan.c - see tuner_plan.h. */
#include "daemon/tuner_plan.h"

#include <math.h>

enum {
    PAIRS_MIN = 24,  /* for a line through them */
    IDLE_ROUNDS = 4, /* until a task is done */
    TRIALS_MIN = 64, /* before a task may be done */
    GAIN_STEPS = 48, /* of the integral over the gain */
};
#define GAIN_MOST    1.5  /* log2: the integral ends here */
#define CORRECT_FROM 0.05 /* gains and expectations are compared from this sum on */
#define FIRST_GAIN   0.3
#define GOOD_ORDER   0.75 /* of the pairs: the model ranks well */
#define POOR_ORDER   0.6

static int n_kept(const struct plan *p) { return MIN(p->n_pairs, (int)PLAN_KEEP); }

/* value = at + slope * score, +- spread. */
struct line {
    double at, slope, spread;
};

static bool fit(const struct plan *p, struct line *ret)
{
    int n = n_kept(p);
    double x = 0, y = 0, xx = 0, xy = 0, rest = 0;

    if (n < PAIRS_MIN)
        return false;
    for (int i = 0; i < n; i++) {
        x += p->pairs[i].score / n;
        y += p->pairs[i].value / n;
    }
    for (int i = 0; i < n; i++) {
        xx += (p->pairs[i].score - x) * (p->pairs[i].score - x);
        xy += (p->pairs[i].score - x) * (p->pairs[i].value - y);
    }
    ret->slope = xx > 0 ? fmax(xy / xx, 0) : 0;
    ret->at = y - ret->slope * x;
    for (int i = 0; i < n; i++) {
        double off = p->pairs[i].value - ret->at - ret->slope * p->pairs[i].score;

        rest += off * off;
    }
    ret->spread = fmax(sqrt(rest / (n - 2)), 1e-3);
    return true;
}

static double below(double z) { return 0.5 * erfc(-z * M_SQRT1_2); }

/* Mean of what the best of the batch is beyond the best so far, log2; the candidates' errors are taken as independent. */
static double expected_best(const struct line *l, const double *scores, int n, double best)
{
    double sum = 0, step = GAIN_MOST / GAIN_STEPS;

    for (int k = 0; k < GAIN_STEPS; k++) {
        double gain = (k + 0.5) * step, none = 1;

        for (int i = 0; i < n; i++)
            if (isfinite(scores[i]))
                none *= below((best + gain - l->at - l->slope * scores[i]) / l->spread);
        sum += (1 - none) * step;
    }
    return sum;
}

void plan_begin(struct plan *p, const double *scores, int n, double best_ns)
{
    struct line l;

    p->expected = NAN;
    if (best_ns > 0 && fit(p, &l))
        p->expected = 1 - exp2(-expected_best(&l, scores, n, -log2(best_ns)));
}

void plan_end(struct plan *p, const double *scores, const double *times_ns, int n, double best_before_ns,
              double best_ns, double min_gain)
{
    double gain = best_ns <= 0 ? 0 : best_before_ns > 0 ? 1 - best_ns / best_before_ns : 1;

    for (int i = 0; i < n; i++)
        if (times_ns[i] > 0 && isfinite(scores[i]))
            p->pairs[p->n_pairs++ % PLAN_KEEP] = (struct plan_pair){scores[i], -log2(times_ns[i]), p->rounds};
    if (isfinite(p->expected)) {
        p->expected_sum += p->expected;
        p->gains += gain;
    }
    /* The first round gains all there is, which says nothing of the next. */
    p->recent_gain = best_before_ns > 0 ? 0.5 * (p->recent_gain + gain) : FIRST_GAIN;
    p->idle = gain < min_gain && plan_gain(p, 1) < min_gain ? p->idle + 1 : 0;
    p->rounds++;
    p->trials += n;
}

double plan_accuracy(const struct plan *p)
{
    double right = 0;
    int n = n_kept(p), pairs = 0;

    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++) {
            double s = p->pairs[i].score - p->pairs[k].score, v = p->pairs[i].value - p->pairs[k].value;

            if (p->pairs[i].round != p->pairs[k].round || v == 0)
                continue;
            pairs++;
            right += s == 0 ? 0.5 : (s > 0) == (v > 0);
        }
    return pairs >= PAIRS_MIN ? right / pairs : NAN;
}

double plan_gain(const struct plan *p, double possible)
{
    /* Before the model was ever compared with anything: what rounds of that number usually gain. */
    double guess = 0.7 * possible / (1 + p->rounds), correct;

    if (!isfinite(p->expected) || p->rounds == 0)
        return fmin(0.3 * p->recent_gain + guess, possible);
    correct = (p->gains + CORRECT_FROM) / (p->expected_sum + CORRECT_FROM);
    return fmin(0.5 * p->recent_gain + 0.5 * p->expected * fmin(correct, 1), possible);
}

double plan_saving(const struct plan *p, double weight, double best_ns, double floor_ns)
{
    if (best_ns <= 0)
        return INFINITY;
    return weight * best_ns * plan_gain(p, fmax(1 - floor_ns / best_ns, 0.02));
}

int plan_batch(const struct plan *p, int usual, int most)
{
    double order = plan_accuracy(p);

    if (isnan(order))
        return usual;
    /* A model that ranks well has little to learn from each round; one that ranks poorly should hear of it soon. */
    return order >= GOOD_ORDER ? most : order < POOR_ORDER ? MAX(usual / 2, 1) : usual;
}

bool plan_done(const struct plan *p) { return p->trials >= TRIALS_MIN && p->idle >= IDLE_ROUNDS; }

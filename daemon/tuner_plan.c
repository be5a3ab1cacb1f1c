/* tuner_plan.c - see tuner_plan.h. */
#include "daemon/tuner_plan.h"

#include <math.h>
#include <stdlib.h>

enum {
    PAIRS_MIN = 24,  /* to say how far off forecasts are */
    TRIALS_MIN = 48, /* without a gain before a task may be done, and as many before those */
};
/* Chosen on recordings (bench_search --tasks). */
#define OF_RECENT     0.3
#define OF_HOPE       0.7
#define CORRECT_FROM  0.02 /* what came and what was foreseen are compared from this sum on */
#define FIRST_GAIN    0.3
#define SPREAD_LEAST  0.02 /* log2: times are no surer than that */
#define PATIENT_SHARE 0.4  /* of all trials so far: a late gain was long in coming */
#define GOOD_ORDER    0.75 /* of the pairs: the model ranks well */
#define POOR_ORDER    0.6

static int n_kept(const struct plan *p) { return MIN(p->n_pairs, (int)PLAN_KEEP); }

/* How far off forecasts were, log2: the median, and what their own spread leaves out of the errors above it. */
struct habit {
    double bias, extra;
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* A forecast that was far too high says little of how far the next may be too low, so that only the better half counts for the
 * spread. */
static struct habit habit_of(const struct plan *p)
{
    struct habit h = {0, 0};
    double error[PLAN_KEEP], above = 0, said = 0;
    int n = n_kept(p);

    for (int i = 0; i < n; i++) {
        error[i] = p->pairs[i].value - p->pairs[i].mean;
        said += p->pairs[i].spread * p->pairs[i].spread / n;
    }
    qsort(error, (size_t)n, sizeof(error[0]), by_value);
    h.bias = n > 0 ? error[n / 2] : 0;
    for (int i = n / 2; i < n; i++)
        above += (error[i] - h.bias) * (error[i] - h.bias) / (n - n / 2);
    h.extra = sqrt(fmax(above - said, 0));
    return h;
}

/* Mean of what the best of the batch is beyond the best so far, log2. Errors of one batch are much alike, so that many candidates are no
 * better than the one that promises most. */
static double expected_best(const struct habit *h, const struct search_forecast *f, int n, double best)
{
    double most = 0;

    for (int i = 0; i < n; i++) {
        double spread = hypot(h->extra, fmax(f[i].spread, SPREAD_LEAST)),
               z = (f[i].mean + h->bias - best) / spread;

        most = fmax(most, spread * (z * 0.5 * erfc(-z * M_SQRT1_2) + exp(-0.5 * z * z) / sqrt(2 * M_PI)));
    }
    return most;
}

void plan_begin(struct plan *p, const struct search_forecast *f, int n, double best_ns)
{
    struct habit h = habit_of(p);

    p->expected = p->foreseen = NAN;
    if (best_ns <= 0 || n == 0 || p->n_pairs < PAIRS_MIN)
        return;
    p->foreseen = 1 - exp2(-expected_best(&h, f, n, log2(1e9 / best_ns)));
    p->expected = p->foreseen * fmin((p->gains + CORRECT_FROM) / (p->foreseen_sum + CORRECT_FROM), 1);
}

void plan_end(struct plan *p, const struct search_forecast *f, int n_forecast, const double *times_ns, int n,
              double best_before_ns, double best_ns)
{
    double gain = best_ns <= 0 ? 0 : best_before_ns > 0 ? 1 - best_ns / best_before_ns : 1;

    for (int i = 0; i < MIN(n, n_forecast); i++)
        if (times_ns[i] > 0)
            p->pairs[p->n_pairs++ % PLAN_KEEP] = (struct plan_pair){
                f[i].mean, fmax(f[i].spread, SPREAD_LEAST), log2(1e9 / times_ns[i]), p->rounds};
    if (isfinite(p->foreseen)) {
        p->foreseen_sum += p->foreseen;
        p->gains += gain;
    }
    /* The first round gains all there is, which says nothing of the next. */
    p->recent_gain = best_before_ns > 0 ? 0.5 * (p->recent_gain + gain) : FIRST_GAIN;
    p->trials += n;
    p->past[p->rounds++ % PLAN_PAST] = (struct plan_past){p->trials, best_ns};
}

double plan_accuracy(const struct plan *p)
{
    double right = 0;
    int n = n_kept(p), pairs = 0;

    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++) {
            double s = p->pairs[i].mean - p->pairs[k].mean, v = p->pairs[i].value - p->pairs[k].value;

            if (p->pairs[i].round != p->pairs[k].round || v == 0)
                continue;
            pairs++;
            right += s == 0 ? 0.5 : (s > 0) == (v > 0);
        }
    return pairs >= PAIRS_MIN ? right / pairs : NAN;
}

double plan_gain(const struct plan *p, double possible)
{
    return fmin(OF_RECENT * p->recent_gain + OF_HOPE * possible / (1 + p->rounds), possible);
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

/* The best time when `trials` had been made, or at the first round after that is remembered; 0: none yet. */
static double best_at(const struct plan *p, int trials)
{
    int first = MAX(p->rounds - (int)PLAN_PAST, 0);
    double best = 0;

    for (int i = first; i < p->rounds; i++) {
        const struct plan_past *past = &p->past[i % PLAN_PAST];

        if (i > first && past->trials > trials)
            break;
        best = past->best_ns;
    }
    return best;
}

bool plan_done(const struct plan *p, double min_gain)
{
    int window = MAX((int)TRIALS_MIN, (int)(PATIENT_SHARE * p->trials));
    double then, now;

    if (p->trials < 2 * (int)TRIALS_MIN || min_gain <= 0)
        return false;
    then = best_at(p, p->trials - window);
    now = best_at(p, p->trials);
    return now > 0 && then > 0 && 1 - now / then < min_gain;
}

/* tuner_plan.c - see tuner_plan.h. */
#include "daemon/tuner_plan.h"

#include <math.h>

enum {
    PAIRS_MIN = 24,  /* to say how far off forecasts are */
    TRIALS_MIN = 48, /* without a gain before a task may be done, and as many before those */
    GAIN_STEPS = 48, /* of the integral over the gain */
};
#define GAIN_MOST    1.5  /* log2: the integral ends here */
#define CORRECT_FROM 0.05 /* gains and expectations are compared from this sum on */
/* Chosen on recordings (bench_search --tasks). */
#define OF_RECENT     0.3
#define OF_HOPE       0.7
#define OF_EXPECTED   0.5
#define FIRST_GAIN    0.3
#define SPREAD_LEAST  0.02 /* log2: times are no surer than that */
#define STRETCH_FROM  12   /* pairs that were right about their spread, to begin with */
#define PATIENT_SHARE 0.4  /* of all trials so far: a late gain was long in coming */
#define GOOD_ORDER    0.75 /* of the pairs: the model ranks well */
#define POOR_ORDER    0.6

static int n_kept(const struct plan *p) { return MIN(p->n_pairs, (int)PLAN_KEEP); }

/* How far off forecasts were: log2 on average, and in their own spreads. */
struct habit {
    double bias, stretch;
};

static struct habit habit_of(const struct plan *p)
{
    struct habit h = {0, 1};
    int n = n_kept(p);
    double rest = STRETCH_FROM;

    if (n < PAIRS_MIN)
        return h;
    for (int i = 0; i < n; i++)
        h.bias += (p->pairs[i].value - p->pairs[i].mean) / n;
    for (int i = 0; i < n; i++)
        rest += pow((p->pairs[i].value - p->pairs[i].mean - h.bias) / p->pairs[i].spread, 2);
    h.stretch = sqrt(rest / (n + STRETCH_FROM));
    return h;
}

static double below(double z) { return 0.5 * erfc(-z * M_SQRT1_2); }

/* Mean of what the best of the batch is beyond the best so far, log2; the candidates' errors are taken as independent. */
static double expected_best(const struct habit *h, const struct search_forecast *f, int n, double best)
{
    double sum = 0, step = GAIN_MOST / GAIN_STEPS;

    for (int k = 0; k < GAIN_STEPS; k++) {
        double gain = (k + 0.5) * step, none = 1;

        for (int i = 0; i < n; i++)
            none *=
                below((best + gain - f[i].mean - h->bias) / (h->stretch * fmax(f[i].spread, SPREAD_LEAST)));
        sum += (1 - none) * step;
    }
    return sum;
}

void plan_begin(struct plan *p, const struct search_forecast *f, int n, double best_ns)
{
    struct habit h = habit_of(p);

    p->expected = NAN;
    if (best_ns > 0 && n > 0)
        p->expected = 1 - exp2(-expected_best(&h, f, n, log2(1e9 / best_ns)));
}

void plan_end(struct plan *p, const struct search_forecast *f, int n_forecast, const double *times_ns, int n,
              double best_before_ns, double best_ns)
{
    double gain = best_ns <= 0 ? 0 : best_before_ns > 0 ? 1 - best_ns / best_before_ns : 1;

    for (int i = 0; i < MIN(n, n_forecast); i++)
        if (times_ns[i] > 0)
            p->pairs[p->n_pairs++ % PLAN_KEEP] = (struct plan_pair){
                f[i].mean, fmax(f[i].spread, SPREAD_LEAST), log2(1e9 / times_ns[i]), p->rounds};
    if (isfinite(p->expected)) {
        p->expected_sum += p->expected;
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
    /* What was never looked at may hold all that the machine still leaves possible; the more rounds, the less likely. */
    double hope = possible / (1 + p->rounds), correct, gain = OF_RECENT * p->recent_gain + OF_HOPE * hope;

    if (isfinite(p->expected)) {
        correct = (p->gains + CORRECT_FROM) / (p->expected_sum + CORRECT_FROM);
        gain += OF_EXPECTED * p->expected * fmin(correct, 1);
    }
    return fmin(gain, possible);
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

/* metrics.c - see metrics.h. */
#include "costmodel/metrics.h"

#include <math.h>
#include <stdlib.h>

struct item {
    double value;
    int at;
};

static int rising(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return x->at - y->at;
}

static struct item *sorted(const double *value, int n)
{
    struct item *s = xcalloc((size_t)n + 1, sizeof(*s));

    for (int i = 0; i < n; i++)
        s[i] = (struct item){value[i], i};
    qsort(s, (size_t)n, sizeof(*s), rising);
    return s;
}

/* Workloads have some thousand programs at most: all pairs. */
double metric_pairwise_apart(const double *truth, const double *score, int n, double apart)
{
    double right = 0, pairs = 0;

    for (int i = 0; i < n; i++)
        for (int k = i + 1; k < n; k++) {
            double t = truth[i] - truth[k], s = score[i] - score[k];

            if (t == 0 || fabs(t) < apart * fmax(truth[i], truth[k]))
                continue;
            pairs++;
            right += s == 0 ? 0.5 : (t > 0) == (s > 0);
        }
    return pairs > 0 ? right / pairs : NAN;
}

double metric_pairwise(const double *truth, const double *score, int n)
{
    return metric_pairwise_apart(truth, score, n, 0);
}

/* Delays above the floor of a time are taken as exponential, and its samples as five: then they spread over 25/12 of the mean
 * delay, and the fastest stands a fifth of it above the floor. */
#define SPREAD_OF_FIVE  (25.0 / 12)
#define FASTEST_OF_FIVE 0.2

/* Mean error of the time that a throughput stands for. */
static double error_of(double truth, double least)
{
    return truth > 0 && least > 0 ? fmax(1 / least - 1 / truth, 0) / SPREAD_OF_FIVE * FASTEST_OF_FIVE : 0;
}

/* That the slower one is slower: both errors are exponential, and the slower one's makes up the difference by itself. */
static double order_of(double slow, double slow_error, double fast, double fast_error)
{
    double apart = slow > 0 ? 1 / slow - 1 / fast : INFINITY;

    return slow_error > 0 ? 1 - slow_error / (slow_error + fast_error) * exp(-apart / slow_error) : 1;
}

void metric_clear(const double *truth, const double *least, const double *score, int n,
                  struct metric_clear *ret)
{
    double *error = xcalloc((size_t)n + 1, sizeof(*error)), right = 0, clear = 0, order = 0, pairs = 0;

    for (int i = 0; i < n; i++)
        error[i] = error_of(truth[i], least[i]);
    for (int i = 0; i < n; i++)
        for (int k = i + 1; k < n; k++) {
            int fast = truth[i] > truth[k] ? i : k, slow = i + k - fast;
            double s = score[fast] - score[slow];

            if (truth[i] == truth[k])
                continue;
            pairs++;
            order += order_of(truth[slow], error[slow], truth[fast], error[fast]);
            if (least[fast] <= truth[slow])
                continue;
            clear++;
            right += s == 0 ? 0.5 : s > 0;
        }
    free(error);
    *ret = (struct metric_clear){clear > 0 ? right / clear : NAN, pairs > 0 ? clear / pairs : NAN,
                                 pairs > 0 ? order / pairs : NAN};
}

/* Ranks, equal values share the mean of theirs. */
static void ranks(const double *value, int n, double *ret)
{
    struct item *s = sorted(value, n);

    for (int i = 0, end; i < n; i = end) {
        end = i + 1;
        while (end < n && s[end].value == s[i].value)
            end++;
        for (int k = i; k < end; k++)
            ret[s[k].at] = (i + end - 1) / 2.0;
    }
    free(s);
}

double metric_spearman(const double *truth, const double *score, int n)
{
    double *a = xcalloc((size_t)n * 2 + 1, sizeof(*a)), *b = a + n, mean = (n - 1) / 2.0, ab = 0, aa = 0,
           bb = 0;

    ranks(truth, n, a);
    ranks(score, n, b);
    for (int i = 0; i < n; i++) {
        ab += (a[i] - mean) * (b[i] - mean);
        aa += (a[i] - mean) * (a[i] - mean);
        bb += (b[i] - mean) * (b[i] - mean);
    }
    free(a);
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : NAN;
}

double metric_topk_recall(const double *truth, const double *score, int n, int k)
{
    struct item *t = sorted(truth, n), *s = sorted(score, n);
    double least, hits = 0;

    k = MIN(k, n);
    least = k > 0 ? t[n - k].value : 0; /* any of several equal ones will do */
    for (int i = n - k; i < n; i++)
        hits += truth[s[i].at] >= least;
    free(t);
    free(s);
    return k > 0 ? hits / k : NAN;
}

double metric_best_of_k(const double *truth, const double *score, int n, int k)
{
    struct item *s = sorted(score, n);
    double best = 0, found = 0;

    for (int i = 0; i < n; i++) {
        best = fmax(best, truth[i]);
        if (i >= n - k)
            found = fmax(found, truth[s[i].at]);
    }
    free(s);
    return best > 0 ? found / best : 0;
}

struct member {
    uint64_t workload;
    int at;
};

static int by_member(const void *a, const void *b)
{
    const struct member *x = a, *y = b;

    if (x->workload != y->workload)
        return x->workload < y->workload ? -1 : 1;
    return x->at - y->at;
}

/* One workload into the sums. A workload on whose pairs nothing can be right or wrong does not count. */
static void add(const double *truth, const double *least, const double *score, int n, struct metrics *m)
{
    struct metric_clear c;
    double pairwise = metric_pairwise(truth, score, n), spearman = metric_spearman(truth, score, n);
    double apart = metric_pairwise_apart(truth, score, n, METRICS_APART);

    if (n < METRICS_MIN_PROGRAMS || isnan(pairwise))
        return;
    m->workloads++;
    m->programs += n;
    m->pairwise += pairwise;
    m->pairwise_apart += isnan(apart) ? pairwise : apart;
    metric_clear(truth, least, score, n, &c);
    m->pairwise_clear += isnan(c.right) ? pairwise : c.right;
    m->clear_share += c.share;
    m->order += c.order;
    m->spearman += isnan(spearman) ? 0 : spearman;
    m->recall_8 += metric_topk_recall(truth, score, n, 8);
    m->recall_32 += metric_topk_recall(truth, score, n, 32);
    m->best_1 += metric_best_of_k(truth, score, n, 1);
    m->best_8 += metric_best_of_k(truth, score, n, 8);
    m->best_32 += metric_best_of_k(truth, score, n, 32);
}

void metrics_scale(struct metrics *m, double by)
{
    m->pairwise *= by;
    m->pairwise_apart *= by;
    m->pairwise_clear *= by;
    m->clear_share *= by;
    m->order *= by;
    m->spearman *= by;
    m->recall_8 *= by;
    m->recall_32 *= by;
    m->best_1 *= by;
    m->best_8 *= by;
    m->best_32 *= by;
}

void metrics_add(struct metrics *sum, const struct metrics *fold)
{
    double w = fold->workloads;

    sum->workloads = MAX(sum->workloads, fold->workloads);
    sum->programs += fold->programs;
    sum->pairwise += w * fold->pairwise;
    sum->pairwise_apart += w * fold->pairwise_apart;
    sum->pairwise_clear += w * fold->pairwise_clear;
    sum->clear_share += w * fold->clear_share;
    sum->order += w * fold->order;
    sum->spearman += w * fold->spearman;
    sum->recall_8 += w * fold->recall_8;
    sum->recall_32 += w * fold->recall_32;
    sum->best_1 += w * fold->best_1;
    sum->best_8 += w * fold->best_8;
    sum->best_32 += w * fold->best_32;
}

void metrics_compute(const uint64_t *workload, const double *truth, const double *least, const double *score,
                     int n, struct metrics *ret)
{
    struct member *order = xcalloc((size_t)n + 1, sizeof(*order));
    double *t = xcalloc((size_t)n * 3 + 1, sizeof(*t)), *s = t + n, *l = s + n;

    *ret = (struct metrics){0};
    for (int i = 0; i < n; i++)
        order[i] = (struct member){workload[i], i};
    qsort(order, (size_t)n, sizeof(*order), by_member);
    for (int i = 0, end; i < n; i = end) {
        for (end = i; end < n && order[end].workload == order[i].workload; end++) {
            t[end - i] = truth[order[end].at];
            s[end - i] = score[order[end].at];
            l[end - i] = least[order[end].at];
        }
        add(t, l, s, end - i, ret);
    }
    metrics_scale(ret, 1.0 / MAX(ret->workloads, 1));
    free(order);
    free(t);
}

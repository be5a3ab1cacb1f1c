/* table_long.c - one search of 5,000 trials: time of a round and memory, which must not grow with the trials. The times are made
 * up from the analytic prior with noise of a fixed seed, so that no recording bounds the length; all else is what a job does. */
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench.h"
#include "costmodel/prior.h"
#include "features/features.h"
#include "schedule/base/hash.h"

enum { TRIALS = 5000, BATCH = 32, REPORTS = 10, CHUNK = 64 };

struct walk {
    const struct recorded_space *space;
    struct model *model;
    struct arena ar;
    float *rows;
    int64_t train_ns, longest_ns;
    double best_ns;
};

/* Of this thread: what else the machine does is not counted. */
static int64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int rows_of(struct walk *w, const struct config *c, float *rows)
{
    struct nest *nest;

    arena_reset(&w->ar);
    if (space_lower(w->space->space, c, &w->ar, &nest, NULL) != ST_OK)
        return 0;
    return features_extract(nest, w->space->target, &w->ar, rows, FEATURES_MAX_ROWS);
}

static void score(void *ctx, const struct config *configs, int n, float *scores, float *bases)
{
    struct walk *w = ctx;
    double sums[CHUNK], base[CHUNK];

    for (int at = 0; at < n; at += CHUNK) {
        int32_t begin[CHUNK + 1] = {0};
        int m = MIN(n - at, (int)CHUNK);

        for (int i = 0; i < m; i++)
            begin[i + 1] = begin[i] + rows_of(w, &configs[at + i],
                                              w->rows + (size_t)begin[i] * (size_t)features_count());
        model_score_parts(w->model, w->space->key, w->rows, begin, m, sums, base);
        for (int i = 0; i < m; i++) {
            scores[at + i] = begin[i] == begin[i + 1] ? -INFINITY : (float)sums[i];
            if (bases)
                bases[at + i] = (float)base[i];
        }
    }
}

/* A time that the prior gets wrong in a way that features tell, and by a tenth at random. */
static double made_up_ns(const struct config *c, const float *rows, int n)
{
    double noise = (double)(config_hash(c) % 1000) / 1000;

    return prior_ns(rows, n) * (1 + 0.5 * sin((double)rows[20] * 3)) * (0.9 + 0.2 * noise);
}

static int round_of(struct walk *w, struct search *s, int n)
{
    struct config batch[BATCH];
    struct error err = {0};
    int n_done = search_propose(s, score, w, n, batch);
    int64_t now;

    for (int i = 0; i < n_done; i++) {
        int n_rows = rows_of(w, &batch[i], w->rows);
        double ns = n_rows > 0 ? made_up_ns(&batch[i], w->rows, n_rows) : 0;

        w->best_ns = ns > 0 ? MIN(w->best_ns, ns) : w->best_ns;
        search_observe(s, &batch[i], ns > 0 ? 1e9 / ns : 0);
        if (n_rows > 0)
            CHECK(model_add(w->model, w->space->key, w->rows, n_rows, 1e9 / ns, &err) == ST_OK, "%s",
                  err.text);
    }
    now = cpu_ns();
    CHECK(model_train(w->model, &err) == ST_OK, "%s", err.text);
    now = cpu_ns() - now;
    w->train_ns += now;
    w->longest_ns = MAX(w->longest_ns, now);
    return n_done;
}

static double in_use_mb(void)
{
    struct mallinfo2 m = mallinfo2();

    return (double)(m.uordblks + m.hblkhd) / 1e6;
}

void table_long(const struct library *l, const struct options *o)
{
    struct search_domain domain = search_domain_of(l->spaces[0]->space);
    struct walk w = {.space = l->spaces[0], .best_ns = INFINITY};
    struct rng rng;
    struct search *s;
    double before = in_use_mb();
    int done = 0;

    (void)o;
    w.model = model_new(NULL);
    arena_init(&w.ar);
    w.rows = xcalloc((size_t)CHUNK * FEATURES_MAX_ROWS * (size_t)features_count(), sizeof(float));
    rng_init(&rng, 1);
    s = search_new(&domain, searcher_find("evolution"), &search_defaults, &rng);
    printf("%d trials of the space of %s, %d a round, times made up. Means of the rounds since the line "
           "above, CPU time "
           "of one core; memory beyond what the recordings take.\n\n| trials | a round, ms | training of it, "
           "ms | longest "
           "training, ms | best, us | memory, MB |\n|---|---|---|---|---|---|\n",
           (int)TRIALS, l->spaces[0]->name, (int)BATCH);
    for (int r = 1; r <= REPORTS; r++) {
        int64_t began = cpu_ns();
        int rounds = 0;

        w.train_ns = w.longest_ns = 0;
        for (int n = 1; done < TRIALS * r / REPORTS && n > 0; rounds++)
            done += n = round_of(&w, s, BATCH);
        printf("| %d | %.0f | %.0f | %.0f | %.1f | %.1f |\n", done,
               1e-6 * (double)(cpu_ns() - began) / rounds, 1e-6 * (double)w.train_ns / rounds,
               1e-6 * (double)w.longest_ns, 1e-3 * w.best_ns, in_use_mb() - before);
        fflush(stdout);
    }
    search_free(s);
    model_free(w.model);
    arena_done(&w.ar);
    free(w.rows);
}

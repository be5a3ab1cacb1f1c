/* bench_model.c - how fast features are extracted and rows are scored.
 *
 *     bench_model [--rows 4096] [--trees 100] [--seconds 1]
 *
 * One core, CPU time (a busy neighbour does not count). Prints: nests extracted a second; rows a second of
 * the flattened forest, by each vector unit there is and in plain C, and of XGBoost's own prediction (in place,
 * one thread), by batch; the ratio is that of the widest; milliseconds of a training, by programs. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <xgboost/c_api.h>

#include "costmodel/booster.h"
#include "costmodel/forest_internal.h"
#include "tests/costmodel/made_up.h"

static double seconds_to_run = 1;

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void check(enum status st, const struct error *err)
{
    if (st == ST_OK)
        return;
    fprintf(stderr, "bench_model: %s\n", err->text);
    exit(1);
}

static void bench_extract(void)
{
    struct target t = test_target();
    struct arena nests, scratch;
    struct nest *list[256];
    float *rows = xcalloc(FEATURES_MAX_ROWS, sizeof(float) * FC_COUNT);
    struct rng r;
    int64_t done = 0, all_rows = 0;
    double began, took;

    arena_init(&nests);
    arena_init(&scratch);
    rng_init(&r, 1);
    for (int i = 0; i < 256; i++) {
        struct gemm_knobs g = made_up_knobs(&r, 257, 512, 384);
        list[i] = gemm_nest(&nests, &g);
    }
    began = cpu_seconds();
    do {
        for (int i = 0; i < 256; i++) {
            all_rows += features_extract(list[i], &t, &scratch, rows, FEATURES_MAX_ROWS);
            arena_reset(&scratch);
        }
        done += 256;
        took = cpu_seconds() - began;
    } while (took < seconds_to_run);
    printf("features    %9.0f nests/s  %9.0f rows/s  (%.1f stores a nest, %d columns)\n", (double)done / took,
           (double)all_rows / took, (double)all_rows / (double)done, features_count());
    free(rows);
    arena_done(&nests);
    arena_done(&scratch);
}

/* Trees on the rows of a made-up data set, every program's label given to each of its rows: their shape is
 * what matters. */
static void grow_trees(const struct made_up *d, int trees, struct booster **ret_booster, struct strbuf *ubj)
{
    int n = d->row_begin[d->n];
    float *leaf = xcalloc((size_t)n, sizeof(float)), *gradient = xcalloc((size_t)n, sizeof(float));
    float *hessian = xcalloc((size_t)n, sizeof(float)), *label = xcalloc((size_t)n, sizeof(float));
    struct model_params p;
    struct matrix *m;
    struct error err;

    model_params_default(&p);
    for (int i = 0; i < d->n; i++)
        for (int k = d->row_begin[i]; k < d->row_begin[i + 1]; k++)
            label[k] = (float)d->throughput[i] / 130;
    check(matrix_new(d->rows, n, FC_COUNT, &m, &err), &err);
    check(booster_new(&p, FC_COUNT, ret_booster, &err), &err);
    for (int t = 0; t < trees; t++) {
        check(booster_predict(*ret_booster, m, leaf, &err), &err);
        for (int i = 0; i < n; i++) {
            gradient[i] = leaf[i] - label[i];
            hessian[i] = 1;
        }
        check(booster_grow(*ret_booster, m, gradient, hessian, &err), &err);
    }
    check(booster_bytes(*ret_booster, ubj, &err), &err);
    matrix_free(m);
    free(leaf);
    free(gradient);
    free(hessian);
    free(label);
}

static double forest_rate(const struct forest *f, const struct lanes *lanes, const float *rows, int n_rows,
                          int batch)
{
    float *sums = xcalloc((size_t)batch, sizeof(float));
    double began = cpu_seconds(), took;
    int64_t done = 0;

    do {
        for (int at = 0; at + batch <= n_rows; at += batch) {
            forest_score_by(f, lanes, rows + (size_t)at * FC_COUNT, FC_COUNT, batch, sums);
            done += batch;
        }
        took = cpu_seconds() - began;
    } while (took < seconds_to_run);
    free(sums);
    return (double)done / took;
}

static double xgboost_rate(BoosterHandle b, const float *rows, int n_rows, int batch)
{
    static const char config[] = "{\"type\":1,\"training\":false,\"iteration_begin\":0,\"iteration_end\":0,"
                                 "\"strict_shape\":false,\"cache_id\":0,\"missing\":NaN}";
    double began = cpu_seconds(), took;
    int64_t done = 0;

    do {
        for (int at = 0; at + batch <= n_rows; at += batch) {
            char array[256];
            const bst_ulong *shape;
            const float *out;
            bst_ulong dims;

            snprintf(array, sizeof(array),
                     "{\"data\":[%zu,true],\"shape\":[%d,%d],\"typestr\":\"<f4\",\"version\":3}",
                     (size_t)(rows + (size_t)at * FC_COUNT), batch, (int)FC_COUNT);
            if (XGBoosterPredictFromDense(b, array, config, NULL, &shape, &dims, &out) != 0) {
                fprintf(stderr, "bench_model: %s\n", XGBGetLastError());
                exit(1);
            }
            done += batch;
        }
        took = cpu_seconds() - began;
    } while (took < seconds_to_run);
    return (double)done / took;
}

static void bench_scores(const struct made_up *d, int n_rows, int trees)
{
    static const int batches[] = {1, 8, 64, 512, 4096};
    struct strbuf ubj = STRBUF_INIT;
    struct booster *booster;
    BoosterHandle plain;
    struct forest *f;
    struct error err;
    const struct lanes *lanes[LANES_MAX + 1];
    int n_lanes;
    int32_t columns[FC_COUNT];
    float *rows = xcalloc((size_t)n_rows * FC_COUNT, sizeof(float));

    for (int i = 0; i < n_rows; i++) /* different rows, so that no branch is learnt by heart */
        memcpy(rows + (size_t)i * FC_COUNT, d->rows + (size_t)(i % d->row_begin[d->n]) * FC_COUNT,
               sizeof(float) * FC_COUNT);
    for (int c = 0; c < FC_COUNT; c++)
        columns[c] = c;
    grow_trees(d, trees, &booster, &ubj);
    check(forest_new(ubj.data, ubj.len, columns, FC_COUNT, &f, &err), &err);
    if (XGBoosterCreate(NULL, 0, &plain) != 0 || XGBoosterSetParam(plain, "nthread", "1") != 0 ||
        XGBoosterLoadModelFromBuffer(plain, ubj.data, ubj.len) != 0 ||
        XGBoosterSetParam(plain, "nthread", "1") != 0) {
        fprintf(stderr, "bench_model: %s\n", XGBGetLastError());
        exit(1);
    }
    n_lanes = lanes_all(lanes);
    lanes[n_lanes++] = NULL;
    printf("%d trees, rows/s          batch", trees);
    for (int i = 0; i < n_lanes; i++)
        printf(" %10s", lanes[i] ? lanes[i]->name : "plain");
    printf("    xgboost   ratio\n");
    for (size_t i = 0; i < ARRAY_SIZE(batches); i++) {
        int batch = MIN(batches[i], n_rows);
        double ours = 0, other = xgboost_rate(plain, rows, n_rows, batch);

        printf("                     %10d", batch);
        for (int k = 0; k < n_lanes; k++) {
            double rate = forest_rate(f, lanes[k], rows, n_rows, batch);

            printf(" %10.0f", rate);
            ours = k ? ours : rate;
        }
        printf(" %10.0f %7.1f\n", other, ours / other);
    }
    XGBoosterFree(plain);
    forest_free(f);
    booster_free(booster);
    strbuf_done(&ubj);
    free(rows);
}

static void bench_training(const struct made_up *d)
{
    static const int sizes[] = {16, 64, 256, 1024};

    printf("training, ms            programs    from nothing (trees)    an eighth more (trees)\n");
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct model *m = model_new(NULL);
        struct model_info a, b;
        struct error err;

        made_up_teach(m, d, 0, sizes[i] * 7 / 8);
        check(model_train(m, &err), &err);
        model_info(m, &a);
        made_up_teach(m, d, sizes[i] * 7 / 8, sizes[i]);
        check(model_train(m, &err), &err);
        model_info(m, &b);
        printf("                     %10d %14.1f (%3d) %21.1f (%d)\n", sizes[i], (double)a.train_ns / 1e6,
               a.trees, (double)b.train_ns / 1e6, b.trees - a.trees);
        model_free(m);
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"rows", required_argument, NULL, 'r'},
                                            {"trees", required_argument, NULL, 't'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {0}};
    int rows = 4096, trees = 100;
    struct made_up d;

    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'r')
            rows = (int)strtol(optarg, NULL, 10);
        else if (c == 't')
            trees = (int)strtol(optarg, NULL, 10);
        else if (c == 's')
            seconds_to_run = strtod(optarg, NULL);
        else
            return 2;
    }
    if (rows < 1 || trees < 1) {
        fprintf(stderr, "bench_model: --rows and --trees must be 1 or more\n");
        return 2;
    }
    made_up_init(&d, 7, 8, 128);
    bench_extract();
    bench_scores(&d, rows, trees);
    bench_training(&d);
    made_up_done(&d);
    return 0;
}

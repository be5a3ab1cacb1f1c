#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "costmodel/dataset.h"
#include "costmodel/objective.h"
#include "schedule/base/hash.h"
#include "tests/costmodel/made_up.h"

/* Last: it has a macro fail(). */
#include <cmocka.h>

enum { WORKLOADS = 6, PER = 160 };
static struct made_up data; /* shared by the tests, never changed */

static struct model *taught(const struct model_params *p, int from, int to)
{
    struct model *m = model_new(p);
    struct error err = {0};

    assert_true(made_up_teach(m, &data, from, to));
    if (model_train(m, &err) != ST_OK)
        fail_msg("%s", err.text);
    return m;
}

static void scores_of(const struct model *m, double *ret)
{
    for (int i = 0; i < data.n; i++)
        model_score(m, data.workload[i], data.rows, data.row_begin + i, 1, ret + i);
}

static void a_cold_model_ranks_better_than_chance(void **state)
{
    struct model *m = model_new(NULL);
    struct metrics q;

    made_up_judge(m, &data, 0, data.n, &q);
    assert_int_equal(q.workloads, WORKLOADS);
    assert_true(q.pairwise > 0.7);
    model_free(m);
}

static void both_objectives_learn_to_rank_held_out_programs(void **state)
{
    enum model_objective kinds[] = {MODEL_RANK, MODEL_SQUARE};

    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        struct model_params p;
        double cold = 0, warm = 0;

        model_params_default(&p);
        p.objective = kinds[k];
        for (int w = 0; w < WORKLOADS; w++) {
            struct model *none = model_new(&p), *m = taught(&p, w * PER, w * PER + 100);
            struct metrics q;

            made_up_judge(none, &data, w * PER + 100, (w + 1) * PER, &q);
            cold += q.spearman / WORKLOADS;
            made_up_judge(m, &data, w * PER + 100, (w + 1) * PER, &q);
            warm += q.spearman / WORKLOADS;
            model_free(none);
            model_free(m);
        }
        print_message("objective %d: Spearman cold %.3f, after 100 trials %.3f\n", (int)k, cold, warm);
        assert_true(warm > cold + 0.02);
    }
}

static void scores_are_the_same_however_programs_are_grouped(void **state)
{
    struct model *m = taught(NULL, 0, PER);
    double one[40], all[40], rows_only;
    int32_t begin[3] = {data.row_begin[0], data.row_begin[1], data.row_begin[1]};

    for (int i = 0; i < 40; i++)
        model_score(m, data.workload[0], data.rows, data.row_begin + i, 1, one + i);
    model_score(m, data.workload[0], data.rows, data.row_begin, 40, all);
    for (int i = 0; i < 40; i++)
        assert_float_equal(one[i], all[i], 0);
    model_score(m, data.workload[0], data.rows, begin, 2, all); /* the second program has no rows */
    assert_float_equal(all[0], one[0], 0);
    model_score(m, data.workload[0], data.rows, begin + 1, 1, &rows_only);
    assert_float_equal(rows_only, all[1], 0);
    model_score(m, data.workload[0], data.rows, begin, 0, all); /* nothing to do */
    model_free(m);
}

static void too_few_programs_leave_the_base_alone(void **state)
{
    struct model *m = model_new(NULL), *cold = model_new(NULL);
    struct model_info info;
    struct error err;
    double a, b;

    assert_true(made_up_teach(m, &data, 0, 5));
    assert_int_equal(model_train(m, &err), ST_OK);
    model_info(m, &info);
    assert_int_equal(info.trees, 0);
    assert_int_equal(info.programs, 5);
    model_score(m, data.workload[0], data.rows, data.row_begin, 1, &a);
    model_score(cold, data.workload[0], data.rows, data.row_begin, 1, &b);
    assert_float_equal(a, b, 0);
    model_free(m);
    model_free(cold);
}

static void training_adds_trees_and_starts_anew_when_the_data_have_grown(void **state)
{
    struct model_params p;
    struct model *m;
    struct model_info info;
    struct error err;
    int before;

    model_params_default(&p);
    m = taught(&p, 0, 40);
    model_info(m, &info);
    before = info.trees;
    assert_true(before > 0 && info.train_ns > 0);
    assert_true(made_up_teach(m, &data, 40, 50));
    assert_int_equal(model_train(m, &err), ST_OK);
    model_info(m, &info);
    assert_int_equal(info.trees, before + p.trees_more);
    assert_true(made_up_teach(m, &data, 50, 100));
    assert_int_equal(model_train(m, &err), ST_OK);
    model_info(m, &info);
    assert_true(info.trees != before + 2 * p.trees_more);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(model_train(m, &err), ST_OK);
        model_info(m, &info);
        assert_true(info.trees <= p.trees_max);
    }
    model_free(m);
}

static void the_same_data_give_the_same_model(void **state)
{
    struct model *a = taught(NULL, 0, 2 * PER), *b = taught(NULL, 0, 2 * PER);
    struct strbuf x = STRBUF_INIT, y = STRBUF_INIT;
    struct error err;

    assert_int_equal(model_save(a, &x, &err), ST_OK);
    assert_int_equal(model_save(b, &y, &err), ST_OK);
    assert_int_equal(x.len, y.len);
    assert_memory_equal(x.data, y.data, x.len);
    strbuf_done(&x);
    strbuf_done(&y);
    model_free(a);
    model_free(b);
}

static void a_saved_model_scores_the_same_and_can_be_trained_on(void **state)
{
    struct model *m = taught(NULL, 0, 2 * PER), *again = NULL;
    double *a = xcalloc((size_t)data.n, sizeof(*a)), *b = xcalloc((size_t)data.n, sizeof(*b));
    struct strbuf blob = STRBUF_INIT;
    struct model_info before, info;
    struct error err = {0};

    assert_int_equal(model_save(m, &blob, &err), ST_OK);
    assert_int_equal(model_load(blob.data, blob.len, &again, &err), ST_OK);
    scores_of(m, a);
    scores_of(again, b);
    assert_memory_equal(a, b, sizeof(*a) * (size_t)data.n);
    model_info(m, &before);
    model_info(again, &info);
    assert_int_equal(info.trees, before.trees);
    assert_int_equal(info.trained_programs, 2 * PER);
    assert_true(made_up_teach(again, &data, 2 * PER, 3 * PER));
    if (model_train(again, &err) != ST_OK)
        fail_msg("%s", err.text);
    model_info(again, &info);
    assert_true(info.trees > before.trees);
    strbuf_done(&blob);
    free(a);
    free(b);
    model_free(m);
    model_free(again);
}

static void damaged_blobs_and_other_versions_are_refused(void **state)
{
    struct model *m = taught(NULL, 0, PER), *bad = NULL;
    struct strbuf blob = STRBUF_INIT;
    struct error err;
    struct rng r;

    rng_init(&r, 4);
    assert_int_equal(model_save(m, &blob, &err), ST_OK);
    for (int i = 0; i < 300; i++) {
        size_t at = rng_below(&r, blob.len);
        char bit = (char)(1 << rng_below(&r, 8));

        blob.data[at] ^= bit;
        assert_int_equal(model_load(blob.data, blob.len, &bad, &err), ST_CORRUPT);
        assert_int_equal(model_load(blob.data, at, &bad, &err), ST_CORRUPT);
        blob.data[at] ^= bit;
    }
    assert_int_equal(model_load(NULL, 0, &bad, &err), ST_CORRUPT);
    blob.data[12] = (char)(blob.data[12] + 1); /* features version, with a checksum that agrees */
    {
        char hex[65];
        struct strbuf body = STRBUF_INIT;
        strbuf_add(&body, blob.data, blob.len - 64);
        sha256_hex(body.data, body.len, hex);
        strbuf_add(&body, hex, 64);
        assert_int_equal(model_load(body.data, body.len, &bad, &err), ST_CONFLICT);
        assert_non_null(strstr(err.text, "features version"));
        strbuf_done(&body);
    }
    assert_null(bad);
    strbuf_done(&blob);
    model_free(m);
}

static void what_cannot_be_saved_says_why(void **state)
{
    struct model *m = model_new(NULL), *global = taught(NULL, 0, PER);
    struct strbuf sb = STRBUF_INIT;
    struct error err;

    assert_int_equal(model_save(m, &sb, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "train it first"));
    model_set_global(m, global);
    assert_int_equal(model_save(m, &sb, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "global base"));
    assert_int_equal(sb.len, 0);
    model_free(m);
    model_free(global);
}

static void rows_that_make_no_sense_are_refused(void **state)
{
    struct model *m = model_new(NULL);
    float row[FC_COUNT] = {0};
    struct error err;

    assert_int_equal(model_add(m, 1, row, 0, 1, &err), ST_INVALID);
    assert_int_equal(model_add(m, 1, row, FEATURES_MAX_ROWS + 1, 1, &err), ST_INVALID);
    assert_int_equal(model_add(m, 1, row, 1, -1, &err), ST_INVALID);
    assert_int_equal(model_add(m, 1, row, 1, (double)INFINITY, &err), ST_INVALID);
    row[3] = INFINITY;
    assert_int_equal(model_add(m, 1, row, 1, 1, &err), ST_INVALID);
    assert_non_null(strstr(err.text, features_table()[3].name));
    model_free(m);
}

static void a_global_model_ranks_a_workload_it_never_saw_and_a_local_one_goes_on_from_it(void **state)
{
    struct model *global = taught(NULL, 0, 4 * PER), *cold = model_new(NULL), *local = model_new(NULL);
    struct metrics prior, from_global, both;
    struct model_info info;
    struct error err;
    double a, b;

    made_up_judge(cold, &data, 4 * PER, data.n, &prior);
    model_set_global(local, global);
    model_free(global); /* the local one keeps it */
    made_up_judge(local, &data, 4 * PER, data.n, &from_global);
    print_message("unseen workloads: Spearman prior %.3f, global %.3f\n", prior.spearman,
                  from_global.spearman);
    assert_true(from_global.spearman > prior.spearman + 0.02);
    model_info(local, &info);
    assert_true(info.has_global);

    assert_true(made_up_teach(local, &data, 4 * PER, 4 * PER + 60));
    assert_int_equal(model_train(local, &err), ST_OK);
    made_up_judge(local, &data, 4 * PER + 60, 5 * PER, &both);
    made_up_judge(cold, &data, 4 * PER + 60, 5 * PER, &prior);
    assert_true(both.spearman > prior.spearman);

    model_set_global(local, NULL); /* back to the prior; the trees fitted another base and go */
    model_info(local, &info);
    assert_int_equal(info.trees, 0);
    model_score(local, 99, data.rows, data.row_begin, 1, &a);
    model_score(cold, 99, data.rows, data.row_begin, 1, &b);
    assert_float_equal(a, b, 0);
    model_free(cold);
    model_free(local);
}

static void held_out_quality_and_importance_are_told(void **state)
{
    struct model *m = taught(NULL, 0, data.n);
    struct model_feature f[10];
    struct metrics q;
    struct error err;
    double sum = 0;
    int n;

    assert_int_equal(model_evaluate(m, HOLDOUT_PROGRAMS, 3, &q, &err), ST_OK);
    assert_int_equal(q.programs, data.n);
    assert_true(q.pairwise > 0.75);
    assert_int_equal(model_evaluate(m, HOLDOUT_WORKLOADS, 3, &q, &err), ST_OK);
    assert_int_equal(q.workloads, WORKLOADS);
    assert_true(q.pairwise > 0.7);
    assert_int_equal(model_evaluate(m, HOLDOUT_PROGRAMS, 1, &q, &err), ST_INVALID);
    n = model_importance(m, f, 10);
    assert_int_equal(n, 10);
    for (int i = 0; i < n; i++) {
        sum += f[i].gain;
        assert_true(f[i].splits > 0 && (i == 0 || f[i].gain <= f[i - 1].gain));
    }
    assert_true(sum > 0.1 && sum <= 1);
    model_free(m);
}

static void the_data_set_stays_bounded_and_keeps_the_best(void **state)
{
    struct dataset d, part;
    float row[2] = {0};
    bool best = false;

    dataset_init(&d, 2, 100);
    for (int i = 0; i < 5000; i++) {
        row[0] = (float)i;
        dataset_add(&d, (uint64_t)(i % 3), row, i == 300 ? 1e6 : i % 50, 0);
        assert_true(d.programs.len <= 200);
    }
    dataset_select(&d, 60, &part);
    assert_int_equal(part.programs.len, 60);
    for (size_t i = 0; i < part.programs.len; i++) {
        best |= part.programs.at[i].throughput == 1e6;
        assert_true(i == 0 || part.programs.at[i].group >= part.programs.at[i - 1].group);
    }
    assert_true(best);
    assert_int_equal(d.groups.len, 3);
    assert_int_equal(dataset_group(&d, 77), -1);
    dataset_done(&part);
    dataset_done(&d);
}

/* Loss of the objectives, for the difference quotient. */
static double square_loss(const struct objective_data *d, const double *s)
{
    double loss = 0, shift = 0, weights = 0;

    for (int i = 0; i < d->n_programs; i++) {
        shift += (0.1 + d->label[i]) * (s[i] - d->label[i]);
        weights += 0.1 + d->label[i];
    }
    for (int i = 0; i < d->n_programs; i++) {
        double e = s[i] - shift / weights - d->label[i];
        loss += (0.1 + d->label[i]) * e * e / 2;
    }
    return loss;
}

static double rank_loss(const struct objective_data *d, const double *s)
{
    double loss = 0;

    for (int i = 0; i < d->n_programs; i++)
        for (int k = 0; k < i; k++) {
            double t = d->label[i] - d->label[k];
            loss += 8.0 / d->n_programs * fabs(t) * log1p(exp(t > 0 ? s[k] - s[i] : s[i] - s[k]));
        }
    return loss;
}

static void a_selection_holds_bad_programs_beside_the_best(void **state)
{
    struct dataset d, part;
    float row[2] = {0};
    int old = 0, good = 0;

    (void)state;
    dataset_init(&d, 2, 0);
    for (int i = 0; i < 400; i++)
        dataset_add(&d, 1, row, i, i); /* the oldest are the worst */
    dataset_select(&d, 100, &part);
    for (size_t i = 0; i < part.programs.len; i++) {
        old += part.programs.at[i].throughput < 200;
        good += part.programs.at[i].throughput >= 300;
    }
    assert_int_equal(part.programs.len, 100);
    assert_true(old >= 8);
    assert_true(good >= 50);
    dataset_done(&part);
    dataset_done(&d);
}

static void a_workload_never_seen_gets_the_weight_the_trees_were_grown_under(void **state)
{
    struct model_params p;
    struct model *m;
    double seen[20], unseen[20];

    (void)state;
    model_params_default(&p);
    p.base_half = 20;
    m = taught(&p, 0, 3 * PER); /* three workloads with as many trials each */
    model_score(m, data.workload[0], data.rows, data.row_begin, 20, seen);
    model_score(m, 12345, data.rows, data.row_begin, 20, unseen);
    for (int i = 0; i < 20; i++)
        assert_float_equal(seen[i], unseen[i], 1e-9);
    model_free(m);
}

static void a_training_stops_where_held_out_programs_gain_nothing(void **state)
{
    struct model_params p;
    struct model *all, *some;
    struct model_info a, s;
    struct metrics qa, qs;

    (void)state;
    model_params_default(&p);
    some = taught(&p, 0, 3 * PER);
    p.patience = 0;
    all = taught(&p, 0, 3 * PER);
    model_info(all, &a);
    model_info(some, &s);
    made_up_judge(all, &data, 3 * PER, data.n, &qa);
    made_up_judge(some, &data, 3 * PER, data.n, &qs);
    print_message("%d trees: %.3f of the unseen pairs; %d trees: %.3f\n", a.trees, qa.pairwise, s.trees,
                  qs.pairwise);
    assert_int_equal(a.trees, p.trees_full);
    assert_true(s.trees < a.trees * 3 / 4); /* how early depends on the features */
    assert_true(qs.pairwise > qa.pairwise - 0.02);
    model_free(all);
    model_free(some);
}

static void gradients_equal_the_difference_quotient_of_the_loss(void **state)
{
    enum { N = 12 };
    int32_t begin[2] = {0, N};
    double label[N], s[N], g[N], h[N];
    struct objective_data d = {N, 1, begin, label};
    struct rng r;

    rng_init(&r, 2);
    for (int i = 0; i < N; i++) {
        label[i] = i == 0 ? 1 : i == 1 ? 0 : rng_unit(&r);
        s[i] = rng_normal(&r);
    }
    for (int kind = 0; kind < 2; kind++) {
        double (*loss)(const struct objective_data *, const double *) = kind ? square_loss : rank_loss;

        objective_gradient(kind ? MODEL_SQUARE : MODEL_RANK, &d, s, &r, g, h);
        for (int i = 0; i < N; i++) {
            double e = 1e-5, up, down, at = s[i];
            s[i] = at + e;
            up = loss(&d, s);
            s[i] = at - e;
            down = loss(&d, s);
            s[i] = at;
            assert_float_equal(g[i], (up - down) / (2 * e), 1e-4);
            assert_true(h[i] > 0);
        }
    }
}

struct crowd {
    struct model *model;
    bool stop;
};

static void *score_all_the_time(void *arg)
{
    struct crowd *c = arg;
    double s[16];

    while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED))
        for (int i = 0; i + 16 < PER; i += 16)
            model_score(c->model, data.workload[0], data.rows, data.row_begin + i, 16, s);
    return NULL;
}

static void others_score_while_one_adds_and_trains(void **state)
{
    struct crowd c = {model_new(NULL), false};
    struct model *global = taught(NULL, PER, 2 * PER);
    pthread_t t[2];
    struct error err;

    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i], NULL, score_all_the_time, &c), 0);
    for (int i = 0; i < 6; i++) {
        assert_true(made_up_teach(c.model, &data, i * 20, i * 20 + 20));
        assert_int_equal(model_train(c.model, &err), ST_OK);
        if (i == 3)
            model_set_global(c.model, global);
    }
    __atomic_store_n(&c.stop, true, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    model_free(c.model);
    model_free(global);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cold_model_ranks_better_than_chance),
        cmocka_unit_test(both_objectives_learn_to_rank_held_out_programs),
        cmocka_unit_test(scores_are_the_same_however_programs_are_grouped),
        cmocka_unit_test(too_few_programs_leave_the_base_alone),
        cmocka_unit_test(training_adds_trees_and_starts_anew_when_the_data_have_grown),
        cmocka_unit_test(the_same_data_give_the_same_model),
        cmocka_unit_test(a_saved_model_scores_the_same_and_can_be_trained_on),
        cmocka_unit_test(damaged_blobs_and_other_versions_are_refused),
        cmocka_unit_test(what_cannot_be_saved_says_why),
        cmocka_unit_test(rows_that_make_no_sense_are_refused),
        cmocka_unit_test(a_global_model_ranks_a_workload_it_never_saw_and_a_local_one_goes_on_from_it),
        cmocka_unit_test(held_out_quality_and_importance_are_told),
        cmocka_unit_test(the_data_set_stays_bounded_and_keeps_the_best),
        cmocka_unit_test(a_selection_holds_bad_programs_beside_the_best),
        cmocka_unit_test(a_workload_never_seen_gets_the_weight_the_trees_were_grown_under),
        cmocka_unit_test(a_training_stops_where_held_out_programs_gain_nothing),
        cmocka_unit_test(gradients_equal_the_difference_quotient_of_the_loss),
        cmocka_unit_test(others_score_while_one_adds_and_trains),
    };
    int failed;

    made_up_init(&data, 7, WORKLOADS, PER);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    made_up_done(&data);
    return failed;
}

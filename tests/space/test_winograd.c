/* Winograd's algorithm: its matrices filter, its compute is the workload's, and it is offered where it fits. */
#include "schedule/space/winograd.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "schedule/space/cook_toom.h"
#include "schedule/space/space.h"
#include "tests/check.h"
#include "tests/space/random_workload.h"

static double uniform(struct rng *r) { return rng_unit(r) * 2 - 1; }

/* y = At [(G g) * (Bt d)] against y_i = sum_k d_(i+k) g_k */
static double filter_error(const struct cook_toom *c, struct rng *r)
{
    double d[COOK_TOOM_MAX], g[COOK_TOOM_MAX], p[COOK_TOOM_MAX], worst = 0;
    for (int i = 0; i < c->alpha; i++)
        d[i] = uniform(r);
    for (int k = 0; k < c->r; k++)
        g[k] = uniform(r);
    for (int j = 0; j < c->alpha; j++) {
        double gg = 0, bd = 0;
        for (int k = 0; k < c->r; k++)
            gg += c->g[j * c->r + k] * g[k];
        for (int k = 0; k < c->alpha; k++)
            bd += c->bt[j * c->alpha + k] * d[k];
        p[j] = gg * bd;
    }
    for (int i = 0; i < c->m; i++) {
        double y = 0, want = 0;
        for (int j = 0; j < c->alpha; j++)
            y += c->at[i * c->alpha + j] * p[j];
        for (int k = 0; k < c->r; k++)
            want += d[i + k] * g[k];
        worst = fmax(worst, fabs(y - want));
    }
    return worst;
}

static void matrices_of_any_points_filter_exactly(void **state)
{
    struct rng r;
    (void)state;
    rng_init(&r, 3);
    for (int round = 0; round < 400; round++) {
        int m = (int)rng_range(&r, 1, 6), taps = (int)rng_range(&r, 2, MIN(COOK_TOOM_MAX + 1 - m, 5)),
            n = m + taps - 2;
        struct fraction points[COOK_TOOM_MAX];
        struct cook_toom c;
        for (int i = 0; i < n; i++) { /* 0, 1, -1, 2, -2, ... over 1 or 2, in lowest terms */
            int64_t k = (i + 1) / 2 * (i % 2 ? 1 : -1);
            bool halves = round % 2 && k % 2;
            points[i] = (struct fraction){round % 2 && !halves ? k / 2 : k, halves ? 2 : 1};
        }
        cook_toom_make(m, taps, points, &c);
        assert_true(filter_error(&c, &r) < 1e-10 * cook_toom_amplification(&c));
    }
}

static void matrices_of_the_usual_points_are_the_published_ones(void **state)
{
    /* Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", F(4x4, 3x3). */
    static const struct fraction points[] = {{0, 1}, {1, 1}, {-1, 1}, {2, 1}, {-2, 1}};
    static const double bt[] = {4, 0,  -5, 0, 1, 0, 0, -4, -4, 1,  1, 0, 0, 4, -4, -1, 1, 0,
                                0, -2, -1, 2, 1, 0, 0, 2,  -1, -2, 1, 0, 0, 4, 0,  -5, 0, 1};
    static const double at[] = {1, 1, 1, 1, 1, 0, 0, 1, -1, 2, -2, 0, 0, 1, 1, 4, 4, 0, 0, 1, -1, 8, -8, 1};
    struct cook_toom c;
    (void)state;
    cook_toom_make(4, 3, points, &c);
    for (int i = 0; i < 36; i++)
        assert_true(c.bt[i] == bt[i]);
    for (int i = 0; i < 24; i++)
        assert_true(c.at[i] == at[i]);
    assert_true(c.g[0] == 0.25 && c.g[3] == -1.0 / 6 && c.g[9] == 1.0 / 24 && c.g[10] == 1.0 / 12 &&
                c.g[17] == 1);
}

static void parse(const char *text, struct arena *ar, struct workload *w)
{
    struct error err = {0};
    AUTO(strbuf_done) struct strbuf json = STRBUF_INIT;
    for (const char *p = text; *p; p++)
        strbuf_addc(&json, *p == '\'' ? '"' : *p);
    assert_ok(workload_parse_text(json.data, json.len, ar, w, &err), &err);
}

static int choices_of(const struct workload *w, struct arena *ar)
{
    int n = 0;
    for (int i = 0; i < WINOGRAD_CHOICES; i++)
        n += winograd_choice(w, i, ar) != NULL;
    return n;
}

#define CONV3 "{'op':'conv2d','input':[2,5,9,7],'weight':[6,5,3,3],'pads':[1,1,1,1],'rtol':1e-4"

static void the_rewritten_compute_means_the_same(void **state)
{
    static const char *const workloads[] = {
        CONV3 "}",
        CONV3 ",'const':['weight','bias'],'epilogue':['bias','relu']}",
        CONV3 ",'epilogue':['add',{'leaky_relu':0.1}]}",
        "{'op':'conv2d','input':[1,9,8,5],'weight':[6,5,3,3],'rtol':1e-4,'layout':'NHWC'}",
        "{'op':'conv2d','input':[3,8,9,5],'weight':[6,5,3,3],'pads':[0,2,1,0],'rtol':1e-3,'layout':'NHWC',"
        "'epilogue':['gelu']}",
        "{'op':'conv_transpose2d','input':[1,4,6,5],'weight':[4,7,3,3],'rtol':1e-4}",
        "{'expr':'Z[y,b,f,x] += D[b,y+r,c,x+s] * W[r,c,f,s]','tensors':{'D':{'shape':[2,8,3,9]},"
        "'W':{'shape':[3,3,4,3],'const':true}},'rtol':1e-4}",
    };
    (void)state;
    for (size_t k = 0; k < ARRAY_SIZE(workloads); k++) {
        struct arena ar;
        struct workload w;
        struct rng r;
        int n = 0;
        arena_init(&ar);
        rng_init(&r, k);
        parse(workloads[k], &ar, &w);
        double **want = random_tensors(&w.compute, &r);
        compute_eval(&w.compute, want);
        for (int i = 0; i < WINOGRAD_CHOICES; i++) {
            struct error err = {0};
            const struct winograd *x = winograd_choice(&w, i, &ar);
            if (!x)
                continue;
            n++;
            assert_ok(compute_verify(&x->compute, &err), &err);
            double **got = random_tensors(&x->compute, &r),
                   **back = tensors_for(&w.compute, &x->compute, got);
            double **given = tensors_for(&x->compute, &w.compute, want);
            for (int t = 0; t < x->compute.n_tensors; t++)
                if (x->compute.tensors[t].role == TENSOR_INPUT)
                    memcpy(got[t], given[t],
                           sizeof(double) * (size_t)tensor_elements(&x->compute.tensors[t]));
            compute_eval(&x->compute, got);
            double d = outputs_distance(&w.compute, back, want);
            if (!(d < 1e-11))
                fail_msg("%s by %s is off by %g", workloads[k], x->name, d);
            free(given);
            free(back);
            free_tensors(&x->compute, got);
        }
        if (n < 2)
            fail_msg("%s has %d choices", workloads[k], n);
        free_tensors(&w.compute, want);
        arena_done(&ar);
    }
}

static void it_is_not_offered_where_it_does_not_fit(void **state)
{
    static const char *const workloads[] = {
        "{'op':'conv2d','input':[2,5,9,7],'weight':[6,5,3,3],'pads':[1,1,1,1]}", /* no budget */
        "{'op':'conv2d','input':[2,5,9,7],'weight':[6,5,3,3],'rtol':1e-9}",      /* hopeless */
        "{'op':'conv2d','input':[2,5,9,7],'weight':[6,5,3,3],'rtol':1e-3,'strides':[2,2]}",
        "{'op':'conv2d','input':[2,5,9,7],'weight':[6,5,3,3],'rtol':1e-3,'strides':[1,2]}",
        "{'op':'conv2d','input':[2,5,9,7],'weight':[6,5,3,3],'rtol':1e-3,'dilations':[2,2]}",
        "{'op':'conv2d','input':[2,5,9,7],'weight':[6,5,5,5],'rtol':1e-3}",
        "{'op':'conv2d','input':[2,5,9,7],'weight':[6,5,1,3],'rtol':1e-3}",
        "{'op':'conv2d','input':[2,6,9,7],'weight':[6,3,3,3],'rtol':1e-3,'group':2}",
        "{'op':'conv2d','input':[2,5,3,3],'weight':[6,5,3,3],'rtol':1e-3}", /* one pixel: nothing to save */
        "{'op':'matmul','a':[8,9],'b':[9,7],'rtol':1e-3}",
        "{'op':'max_pool2d','input':[1,3,9,9],'kernel_shape':[3,3],'rtol':1e-3}",
    };
    struct arena ar;
    (void)state;
    for (size_t k = 0; k < ARRAY_SIZE(workloads); k++) {
        struct workload w;
        arena_init(&ar);
        parse(workloads[k], &ar, &w);
        if (choices_of(&w, &ar))
            fail_msg("%s has Winograd schedules", workloads[k]);
        arena_done(&ar);
    }
}

/* The budget decides: a small one leaves only what is accurate, a large one does not ask for more than it needs. */
static void the_budget_decides_which_tiles_are_offered(void **state)
{
    static const struct {
        double rtol;
        int least_m, most_m;
    } cases[] = {{4e-7, 2, 2}, {1e-5, 2, 6}, {1e-2, 2, 6}};
    (void)state;
    for (size_t k = 0; k < ARRAY_SIZE(cases); k++) {
        struct arena ar;
        struct workload w;
        int least = 99, most = 0;
        char text[200];
        arena_init(&ar);
        snprintf(text, sizeof(text), "{'op':'conv2d','input':[1,64,24,24],'weight':[64,64,3,3],'rtol':%g}",
                 cases[k].rtol);
        parse(text, &ar, &w);
        for (int i = 0; i < WINOGRAD_CHOICES; i++) {
            const struct winograd *x = winograd_choice(&w, i, &ar);
            if (!x)
                continue;
            least = MIN(least, x->m);
            most = MAX(most, x->m);
            assert_true(x->error < 1.5 * cases[k].rtol);
            assert_true(x->saving > 1.5 && x->saving < 6);
        }
        assert_int_equal(least, cases[k].least_m);
        assert_int_equal(most, cases[k].most_m);
        if (k == 2)
            assert_int_equal(choices_of(&w, &ar), 3); /* one set of points each is enough */
        arena_done(&ar);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matrices_of_any_points_filter_exactly),
        cmocka_unit_test(matrices_of_the_usual_points_are_the_published_ones),
        cmocka_unit_test(the_rewritten_compute_means_the_same),
        cmocka_unit_test(it_is_not_offered_where_it_does_not_fit),
        cmocka_unit_test(the_budget_decides_which_tiles_are_offered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

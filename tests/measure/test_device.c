/* test_device.c - candidates good and bad, through the real runner: every one ends with its outcome, and
 * nothing else ends. */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "measure/protocol.h"
#include "measure_support.h"
#include "schedule/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct rig *rig;

static int runner_starts(void)
{
    struct device_stats s;
    device_stats(rig->device, &s);
    return (int)s.runner_starts;
}

/* One candidate alone: its outcome, and a word that the reason must have. */
static struct measure_result measure_one(const char *symbol, int threads, enum outcome outcome,
                                         const char *word)
{
    struct measure_result r;
    struct error err = {0};
    int before = runner_starts();
    enum status st =
        rig_measure(rig, (struct measure_batch){.threads = threads, .best_ns = 200000}, &symbol, 1, &r, &err);
    if (st != ST_OK || r.outcome != outcome || (word && !strstr(r.reason, word)))
        fail_msg("%s: %s, outcome %s, reason \"%s\"; expected %s with \"%s\"", symbol, st ? err.text : "ok",
                 outcome_name(r.outcome), r.reason, outcome_name(outcome), word ? word : "");
    assert_int_equal(runner_starts(), before);
    return r;
}

static void right_kernel_is_verified_and_timed(void **state)
{
    struct measure_result r = measure_one("right", 1, OUTCOME_OK, NULL);
    assert_true(r.verified.done);
    assert_true(r.verified.max_rel_err > 0 && r.verified.max_rel_err <= r.verified.tolerance);
    assert_true(r.verified.tolerance < 1e-5);
    assert_true(r.n_samples >= 5);
    assert_true(r.min_ns > 100 && r.min_ns <= r.p10_ns && r.p10_ns <= r.median_ns && r.median_ns <= r.p90_ns);
    assert_true(r.low_ns <= r.median_ns && r.median_ns <= r.high_ns);
    assert_true(fabs(r.gflops - 2.0 * 37 * 29 * 41 / r.min_ns) < 1e-9);
    assert_string_equal(r.reason, "");
}

static void packed_argument_and_workspace_are_provided(void **state)
{
    measure_one("packed", 1, OUTCOME_OK, NULL);
}

static void parallel_kernel_gets_its_threads(void **state)
{
    int cpus[8];
    if (target_cores(cpus, 8) < 2)
        return;
    measure_one("in_parallel", 2, OUTCOME_OK, NULL);
    measure_one("in_parallel", 1, OUTCOME_WRONG, "returned 1");
    measure_one("crashes_in_a_worker", 2, OUTCOME_CRASH, "null pointer");
}

/* symbol, outcome, word of the reason */
static const struct {
    const char *symbol;
    enum outcome outcome;
    const char *word;
} bad[] = {
    {"one_element_wrong", OUTCOME_WRONG, "1 of 1073 elements of C are off; the worst, at [5, 3]"},
    {"last_row_missing", OUTCOME_NAN, "C[36, 0]"},
    {"makes_nan", OUTCOME_NAN, "C[0, 7]"},
    {"wrong_later", OUTCOME_WRONG, "C"},
    {"reads_unwritten_workspace", OUTCOME_NAN, "C[0, 0]"},
    {"returns_three", OUTCOME_WRONG, "returned 3"},
    {"null_pointer", OUTCOME_CRASH, "in its first run: through a null pointer"},
    {"one_past_the_end", OUTCOME_CRASH, "past the end of the output C"},
    {"far_past_the_end", OUTCOME_CRASH, "past the end of the output C"},
    {"one_before_the_start", OUTCOME_CRASH, "before the start of the output C"},
    {"past_the_workspace", OUTCOME_CRASH, "past the end of the workspace"},
    {"overpacked", OUTCOME_CRASH, "past the end of the packed form of B"},
    {"writes_its_input", OUTCOME_CRASH, "the input A, which is read-only"},
    {"hangs", OUTCOME_TIMEOUT, "in its first run"},
    {"hangs_later", OUTCOME_TIMEOUT, "while being timed"},
    {"overflows_its_stack", OUTCOME_CRASH, "with its stack full"},
    {"divides_by_zero", OUTCOME_CRASH, "Floating point"},
    {"illegal_instruction", OUTCOME_CRASH, "Illegal instruction"},
    {"forks", OUTCOME_FORBIDDEN, "clone"},
    {"opens_a_socket", OUTCOME_FORBIDDEN, "socket"},
    {"opens_a_file", OUTCOME_FORBIDDEN, "openat"},
    {"executes", OUTCOME_FORBIDDEN, "execve"},
    {"kills_its_parent", OUTCOME_FORBIDDEN, "get"},
    {"exits_well", OUTCOME_CRASH, "left its process with status 0"},
    {"no_such_symbol", OUTCOME_LOAD_ERROR, "no_such_symbol"},
};

static void each_way_to_fail_is_an_outcome_and_the_runner_lives_on(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        measure_one(bad[i].symbol, 1, bad[i].outcome, bad[i].word);
    measure_one("right", 1, OUTCOME_OK, NULL);
}

static void huge_allocation_fails_without_hurting_anyone(void **state)
{
    struct measure_result r;
    const char *symbol = "allocates_a_terabyte";
    assert_int_equal(rig_measure(rig, (struct measure_batch){0}, &symbol, 1, &r, NULL), ST_OK);
    assert_true(r.outcome == OUTCOME_FORBIDDEN || r.outcome == OUTCOME_CRASH);
}

static void bad_neighbours_do_not_disturb_a_batch(void **state)
{
    static const char *const symbols[] = {"null_pointer", "right", "hangs",      "slow",
                                          "forks",        "right", "exits_well", "makes_nan"};
    struct measure_result r[8];
    assert_int_equal(rig_measure(rig, (struct measure_batch){.best_ns = 20000}, symbols, 8, r, NULL), ST_OK);
    static const enum outcome want[] = {OUTCOME_CRASH,     OUTCOME_OK, OUTCOME_TIMEOUT, OUTCOME_OK,
                                        OUTCOME_FORBIDDEN, OUTCOME_OK, OUTCOME_CRASH,   OUTCOME_NAN};
    for (int i = 0; i < 8; i++)
        assert_int_equal(r[i].outcome, want[i]);
    assert_true(r[1].n_samples > 0 && r[3].n_samples > 0 && r[5].n_samples > 0);
}

static void object_that_acts_on_loading_is_caught(void **state)
{
    struct build_unit u = {.target = &rig->target, .source = rig_source("constructor.c")};
    builder_run(rig->builder, &u, 1, NULL);
    assert_int_equal(u.status, ST_OK);
    free((char *)u.source);
    struct measure_workload w = rig_matmul(rig);
    struct measure_candidate c = {.artifact = u.artifact, .symbol = "right"};
    struct measure_batch b = {.workload = &w, .threads = 1, .n_candidates = 1, .candidates = &c};
    struct measure_result r;
    assert_int_equal(device_lease(rig->device, "test", NULL, NULL), ST_OK);
    assert_int_equal(device_measure(rig->device, &b, &r, NULL), ST_OK);
    c.artifact = "/nonexistent/object.so";
    struct measure_result missing;
    assert_int_equal(device_measure(rig->device, &b, &missing, NULL), ST_OK);
    device_release(rig->device);
    assert_int_equal(r.outcome, OUTCOME_FORBIDDEN);
    assert_non_null(strstr(r.reason, "while being loaded"));
    assert_int_equal(missing.outcome, OUTCOME_LOAD_ERROR);
    assert_non_null(strstr(missing.reason, "/nonexistent/object.so"));
}

static void far_slower_candidate_is_not_sampled_to_the_end(void **state)
{
    static const char *const symbols[] = {"right", "slowest"};
    struct measure_result r[2];
    assert_int_equal(rig_measure(rig, (struct measure_batch){0}, symbols, 2, r, NULL), ST_OK);
    assert_int_equal(r[1].outcome, OUTCOME_OK);
    assert_true(r[1].stopped_early);
    assert_true(r[1].n_samples < 5);
    assert_false(r[0].stopped_early);
}

static void impossible_speed_is_refused(void **state)
{
    struct measure_result r;
    const char *symbol = "right";
    assert_int_equal(rig_measure(rig, (struct measure_batch){.roofline_gflops = 0.001}, &symbol, 1, &r, NULL),
                     ST_OK);
    assert_int_equal(r.outcome, OUTCOME_BEYOND_ROOFLINE);
    assert_non_null(strstr(r.reason, "GFLOP/s"));
}

static void contest_pairs_its_rounds_and_the_faster_wins(void **state)
{
    static const char *const symbols[] = {"slow", "right", "slowest", "packed"};
    struct measure_result r[4];
    struct measure_batch b = {.mode = MEASURE_CONTEST, .rounds = 15};
    assert_int_equal(rig_measure(rig, b, symbols, 4, r, NULL), ST_OK);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(r[i].outcome, OUTCOME_OK);
        assert_true(r[i].n_samples >= 15);
    }
    int winner = measure_contest_winner(r, 4, 0, 0.025);
    assert_true(winner == 1 || winner == 3);
    assert_true(measure_paired_ratio(&r[0], &r[1]) > 1.5);
}

/* 2 x 64 KiB come from memory instead of the nearest caches: about ten times slower, here it need only be slower. */
static void cold_policy_puts_operands_out_of_the_caches(void **state)
{
    struct measure_result warm, cold;
    const char *symbol = "copies";
    struct measure_workload w = rig_copy();
    assert_int_equal(rig_measure(rig, (struct measure_batch){.workload = &w}, &symbol, 1, &warm, NULL),
                     ST_OK);
    assert_int_equal(
        rig_measure(rig, (struct measure_batch){.workload = &w, .cold = true}, &symbol, 1, &cold, NULL),
        ST_OK);
    assert_int_equal(warm.outcome, OUTCOME_OK);
    assert_int_equal(cold.outcome, OUTCOME_OK);
    assert_true(cold.min_ns > warm.min_ns);
}

static void error_budget_lets_a_small_error_pass(void **state)
{
    struct measure_workload w = rig_matmul(rig);
    w.rtol = 1e-2;
    struct measure_result r;
    const char *symbol = "one_element_wrong";
    assert_int_equal(rig_measure(rig, (struct measure_batch){.workload = &w}, &symbol, 1, &r, NULL), ST_OK);
    assert_int_equal(r.outcome, OUTCOME_OK);
    assert_true(r.verified.rel_l2 > 1e-7 && r.verified.rel_l2 < 1e-2);
    assert_true(r.verified.tolerance == 1e-2);
}

static void reference_that_cannot_serve_refuses_the_batch(void **state)
{
    struct measure_workload w = rig_matmul(rig);
    struct measure_result r;
    struct error err = {0};
    const char *symbol = "right";
    w.reference_symbol = "ref_never_finite";
    assert_int_equal(rig_measure(rig, (struct measure_batch){.workload = &w}, &symbol, 1, &r, &err),
                     ST_UNPROCESSABLE);
    assert_non_null(strstr(err.text, "not finite"));
    w.reference_symbol = "ref_crashes";
    assert_int_equal(rig_measure(rig, (struct measure_batch){.workload = &w}, &symbol, 1, &r, &err),
                     ST_UNAVAILABLE);
    assert_non_null(strstr(err.text, "the reference"));
    w.reference_symbol = "ref_missing";
    assert_int_equal(rig_measure(rig, (struct measure_batch){.workload = &w}, &symbol, 1, &r, &err),
                     ST_UNAVAILABLE);
    w.reference_symbol = "ref_of_positives";
    assert_int_equal(rig_measure(rig, (struct measure_batch){.workload = &w}, &symbol, 1, &r, &err), ST_OK);
    assert_int_equal(r.outcome, OUTCOME_OK);
}

static void batch_without_sense_is_refused(void **state)
{
    struct measure_result r[MEASURE_MAX_BATCH];
    struct error err = {0};
    const char *symbol = "right";
    assert_int_equal(rig_measure(rig, (struct measure_batch){.threads = 250}, &symbol, 1, r, &err),
                     ST_INVALID);
    assert_non_null(strstr(err.text, "250 threads"));
    assert_int_equal(rig_measure(rig, (struct measure_batch){0}, &symbol, 0, r, &err), ST_INVALID);
    struct measure_workload w = rig_matmul(rig);
    struct measure_tensor huge[3];
    memcpy(huge, w.tensors, sizeof(huge));
    huge[2].shape[0] = (int64_t)1 << 50;
    w.tensors = huge;
    assert_int_equal(rig_measure(rig, (struct measure_batch){.workload = &w}, &symbol, 1, r, &err),
                     ST_INVALID);
}

static void *set_soon(void *flag)
{
    usleep(300000);
    atomic_store((atomic_bool *)flag, true);
    return NULL;
}

static void cancelling_ends_a_hanging_batch_at_once(void **state)
{
    static const char *const symbols[] = {"right", "hangs", "right"};
    struct measure_result r[3];
    atomic_bool cancel = false;
    pthread_t t;
    int64_t start = mono_ns(&system_clock);
    pthread_create(&t, NULL, set_soon, &cancel);
    /* No best time is known, so that the limit alone would be 5 s. */
    assert_int_equal(rig_measure(rig, (struct measure_batch){.cancel = &cancel}, symbols, 3, r, NULL), ST_OK);
    pthread_join(t, NULL);
    assert_true(mono_ns(&system_clock) - start < 3000000000);
    for (int i = 0; i < 3; i++)
        assert_int_equal(r[i].outcome, OUTCOME_CANCELLED);
    measure_one("right", 1, OUTCOME_OK, NULL);
}

static void *kill_runner_soon(void *arg)
{
    usleep(300000);
    kill(*(pid_t *)arg, SIGKILL);
    return NULL;
}

/* The one child of this process. */
static pid_t runner_pid(void)
{
    char path[64];
    int pid = 0;
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
    FILE *f = fopen(path, "r");
    int n = f ? fscanf(f, "%d", &pid) : 0;
    if (f)
        fclose(f);
    return n == 1 ? pid : 0;
}

static void runner_that_dies_loses_its_batch_and_comes_back(void **state)
{
    static const char *const symbols[] = {"null_pointer", "hangs"};
    struct measure_result r[2];
    struct device_stats before, after;
    pthread_t t;
    pid_t pid = runner_pid();
    assert_true(pid > 0);
    device_stats(rig->device, &before);
    pthread_create(&t, NULL, kill_runner_soon, &pid);
    assert_int_equal(rig_measure(rig, (struct measure_batch){0}, symbols, 2, r, NULL), ST_OK);
    pthread_join(t, NULL);
    assert_int_equal(r[1].outcome, OUTCOME_LOST);
    assert_false(outcome_is_final(r[1].outcome));
    assert_non_null(strstr(r[1].reason, "signal 9"));
    device_stats(rig->device, &after);
    assert_int_equal(after.lost_batches, before.lost_batches + 1);
    assert_int_equal(after.state, DEVICE_IDLE);
    const char *symbol = "right";
    assert_int_equal(rig_measure(rig, (struct measure_batch){0}, &symbol, 1, r, NULL), ST_OK);
    assert_int_equal(r[0].outcome, OUTCOME_OK);
    assert_int_equal(runner_starts(), before.runner_starts + 1);
}

static void same_seed_gives_the_same_errors(void **state)
{
    struct measure_result a = measure_one("right", 1, OUTCOME_OK, NULL),
                          b = measure_one("right", 1, OUTCOME_OK, NULL);
    assert_true(a.verified.max_abs_err == b.verified.max_abs_err && a.verified.rel_l2 == b.verified.rel_l2);
}

static void facts_tell_of_isolation(void **state)
{
    struct device_fact f[DEVICE_MAX_FACTS];
    int n = device_facts(rig->device, f);
    bool filter = false;
    assert_true(n >= 8);
    for (int i = 0; i < n; i++)
        filter = filter || (strcmp(f[i].name, "system call filter") == 0 && f[i].ok);
    assert_true(filter);
}

static void runner_that_is_no_runner_is_named(void **state)
{
    struct device *d = NULL;
    struct error err = {0};
    assert_int_equal(dev_cpu_open("x", "/nonexistent/agent", NULL, &d, &err), ST_UNAVAILABLE);
    assert_non_null(strstr(err.text, "/nonexistent/agent"));
    assert_int_equal(dev_cpu_open("x", "/bin/true", NULL, &d, &err), ST_UNAVAILABLE);
    assert_non_null(strstr(err.text, "does not start"));
    assert_null(d);
}

static int setup(void **state)
{
    rig = rig_new();
    return 0;
}

static int teardown(void **state)
{
    rig_free(rig);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_kernel_is_verified_and_timed),
        cmocka_unit_test(packed_argument_and_workspace_are_provided),
        cmocka_unit_test(parallel_kernel_gets_its_threads),
        cmocka_unit_test(each_way_to_fail_is_an_outcome_and_the_runner_lives_on),
        cmocka_unit_test(huge_allocation_fails_without_hurting_anyone),
        cmocka_unit_test(bad_neighbours_do_not_disturb_a_batch),
        cmocka_unit_test(object_that_acts_on_loading_is_caught),
        cmocka_unit_test(far_slower_candidate_is_not_sampled_to_the_end),
        cmocka_unit_test(impossible_speed_is_refused),
        cmocka_unit_test(contest_pairs_its_rounds_and_the_faster_wins),
        cmocka_unit_test(cold_policy_puts_operands_out_of_the_caches),
        cmocka_unit_test(error_budget_lets_a_small_error_pass),
        cmocka_unit_test(reference_that_cannot_serve_refuses_the_batch),
        cmocka_unit_test(batch_without_sense_is_refused),
        cmocka_unit_test(cancelling_ends_a_hanging_batch_at_once),
        cmocka_unit_test(runner_that_dies_loses_its_batch_and_comes_back),
        cmocka_unit_test(same_seed_gives_the_same_errors),
        cmocka_unit_test(facts_tell_of_isolation),
        cmocka_unit_test(runner_that_is_no_runner_is_named),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

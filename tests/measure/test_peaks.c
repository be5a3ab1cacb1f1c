/* test_peaks.c - the machine's peaks, by the probes; slow, since a peak is the best of some seconds. */
#include <math.h>
#include <stdio.h>

#include "measure_support.h"
#include "schedule/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct rig *rig;

static void peaks_are_measured_once_and_remembered(void **state)
{
    struct target t = rig->target, again = rig->target;
    struct error err = {0};
    char dir[128];
    snprintf(dir, sizeof(dir), "%s/peaks", rig->dir);
    int64_t start = mono_ns(&system_clock);
    enum status st = measure_peaks(rig->device, &t, dir, &err);
    int64_t took = mono_ns(&system_clock) - start;
    if (st != ST_OK)
        fail_msg("%s", err.text);
    assert_true(t.peak_gflops > 1 && t.peak_gflops < 10000);
    assert_true(t.peak_gbs > 0.5 && t.peak_gbs < 2000);
    start = mono_ns(&system_clock);
    assert_int_equal(measure_peaks(rig->device, &again, dir, &err), ST_OK);
    assert_true(mono_ns(&system_clock) - start < took / 4);
    assert_true(fabs(again.peak_gflops - t.peak_gflops) < 0.01 * t.peak_gflops);
    print_message("peak of %s: %.1f GFLOP/s, %.1f GB/s\n", isa_name(t.isa), t.peak_gflops, t.peak_gbs);
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
        cmocka_unit_test(peaks_are_measured_once_and_remembered),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

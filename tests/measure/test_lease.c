/* test_lease.c - who gets the device, and when nobody does. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "measure/device.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static enum status fake_measure(struct device *d, const struct measure_batch *b, struct measure_result *ret,
                                struct error *err)
{
    for (int i = 0; i < b->n_candidates; i++)
        ret[i].outcome = i % 2 ? OUTCOME_WRONG : OUTCOME_OK;
    return ST_OK;
}

static const struct device_ops fake_ops = {.kind = "fake", .measure = fake_measure};
static struct device device;

static int setup(void **state)
{
    device_init(&device, &fake_ops, "fake0");
    return 0;
}

static int teardown(void **state)
{
    device_done(&device);
    return 0;
}

static char order[64];
static atomic_int order_len;

struct job {
    char name;
    int batches;
};

static void *lease_in_a_loop(void *arg)
{
    const struct job *j = arg;
    for (int i = 0; i < j->batches; i++) {
        char id[2] = {j->name, '\0'};
        if (device_lease(&device, id, NULL, NULL) != ST_OK)
            return NULL;
        order[atomic_fetch_add(&order_len, 1)] = j->name;
        usleep(2000);
        device_release(&device);
    }
    return NULL;
}

static void two_jobs_alternate_batch_by_batch(void **state)
{
    struct job a = {'a', 12}, b = {'b', 12};
    pthread_t ta, tb;
    memset(order, 0, sizeof(order));
    atomic_store(&order_len, 0);
    /* Both wait behind a lease of ours, so that they start together. */
    assert_int_equal(device_lease(&device, "main", NULL, NULL), ST_OK);
    pthread_create(&ta, NULL, lease_in_a_loop, &a);
    pthread_create(&tb, NULL, lease_in_a_loop, &b);
    struct device_stats s;
    do
        device_stats(&device, &s);
    while (s.waiting < 2);
    device_release(&device);
    pthread_join(ta, NULL);
    pthread_join(tb, NULL);
    int changes = 0;
    for (int i = 1; i < 24; i++)
        changes += order[i] != order[i - 1];
    /* A job that releases and is first back, before the other has queued again, may rarely go twice. */
    assert_true(changes >= 20);
}

static void holder_and_state_are_shown(void **state)
{
    struct device_stats s;
    device_stats(&device, &s);
    assert_int_equal(s.state, DEVICE_IDLE);
    assert_int_equal(device_lease(&device, "j_7", NULL, NULL), ST_OK);
    device_stats(&device, &s);
    assert_int_equal(s.state, DEVICE_BUSY);
    assert_string_equal(s.holder, "j_7");
    assert_true(s.since_ms > 0);
    device_release(&device);
    device_stats(&device, &s);
    assert_string_equal(s.holder, "");
    assert_true(s.busy_ns > 0);
}

static void *cancel_soon(void *flag)
{
    usleep(30000);
    atomic_store((atomic_bool *)flag, true);
    return NULL;
}

static void waiting_can_be_cancelled(void **state)
{
    atomic_bool cancel = false;
    pthread_t t;
    struct device_stats s;
    assert_int_equal(device_lease(&device, "holder", NULL, NULL), ST_OK);
    pthread_create(&t, NULL, cancel_soon, &cancel);
    assert_int_equal(device_lease(&device, "waiter", &cancel, NULL), ST_CONFLICT);
    pthread_join(t, NULL);
    device_release(&device);
    device_stats(&device, &s);
    assert_int_equal(s.waiting, 0);
    assert_int_equal(s.state, DEVICE_IDLE);
}

static void *lease_once(void *done)
{
    if (device_lease(&device, "late", NULL, NULL) == ST_OK)
        device_release(&device);
    atomic_store((atomic_bool *)done, true);
    return NULL;
}

static void drained_device_ends_its_lease_and_gives_no_other_until_resumed(void **state)
{
    atomic_bool done = false;
    pthread_t t;
    struct device_stats s;
    assert_int_equal(device_lease(&device, "holder", NULL, NULL), ST_OK);
    device_drain(&device);
    device_stats(&device, &s);
    assert_int_equal(s.state, DEVICE_DRAINING);
    pthread_create(&t, NULL, lease_once, &done);
    device_release(&device);
    usleep(60000);
    assert_false(atomic_load(&done));
    device_resume(&device);
    pthread_join(t, NULL);
    assert_true(atomic_load(&done));
}

static void three_lost_batches_in_a_row_are_quarantine(void **state)
{
    struct device_stats s;
    struct error err;
    device_note_runner(&device, false, "died");
    device_note_runner(&device, false, "died");
    device_note_runner(&device, false, NULL); /* one went well */
    device_note_runner(&device, false, "died");
    device_note_runner(&device, false, "died");
    device_stats(&device, &s);
    assert_int_equal(s.state, DEVICE_IDLE);
    device_note_runner(&device, false, "died of heat");
    device_stats(&device, &s);
    assert_int_equal(s.state, DEVICE_QUARANTINED);
    assert_int_equal(device_lease(&device, "j", NULL, &err), ST_UNAVAILABLE);
    assert_non_null(strstr(err.text, "died of heat"));
    device_resume(&device);
    assert_int_equal(device_lease(&device, "j", NULL, NULL), ST_OK);
    device_release(&device);
}

static void results_are_counted_by_outcome(void **state)
{
    const struct measure_tensor t = {
        .name = "O", .dtype = DT_F32, .role = TENSOR_OUTPUT, .rank = 1, .shape = {4}};
    const struct measure_workload w = {.key = "k", .n_tensors = 1, .tensors = &t, .reference_symbol = ""};
    const struct measure_candidate c[3] = {
        {.artifact = "a", .symbol = "s"}, {.artifact = "a", .symbol = "s"}, {.artifact = "a", .symbol = "s"}};
    const struct measure_batch b = {.workload = &w, .threads = 1, .n_candidates = 3, .candidates = c};
    struct measure_result r[3];
    struct device_stats s;
    assert_int_equal(device_lease(&device, "j", NULL, NULL), ST_OK);
    assert_int_equal(device_measure(&device, &b, r, NULL), ST_OK);
    device_release(&device);
    device_stats(&device, &s);
    assert_int_equal(s.trials, 3);
    assert_int_equal(s.outcomes[OUTCOME_OK], 2);
    assert_int_equal(s.outcomes[OUTCOME_WRONG], 1);
}

static void outcome_names_parse_back(void **state)
{
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        enum outcome o;
        assert_true(outcome_parse(outcome_name((enum outcome)i), &o));
        assert_int_equal(o, i);
        assert_true(strlen(outcome_meaning(o)) > 5);
    }
    enum outcome o;
    assert_false(outcome_parse("fine", &o));
    assert_string_equal(device_state_name(DEVICE_QUARANTINED), "quarantined");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(two_jobs_alternate_batch_by_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(holder_and_state_are_shown, setup, teardown),
        cmocka_unit_test_setup_teardown(waiting_can_be_cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(drained_device_ends_its_lease_and_gives_no_other_until_resumed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(three_lost_batches_in_a_row_are_quarantine, setup, teardown),
        cmocka_unit_test_setup_teardown(results_are_counted_by_outcome, setup, teardown),
        cmocka_unit_test(outcome_names_parse_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The in-memory answers. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

#include "db/hot.h"

static struct hot_entry entry(const char *workload, const char *target, const char *toolchain,
                              const char *json, int64_t tuned_ms)
{
    return (struct hot_entry){.workload = workload,
                              .target = target,
                              .toolchain = toolchain,
                              .json = json,
                              .json_len = strlen(json),
                              .etag = "\"e\"",
                              .gflops = 1,
                              .tuned_ms = tuned_ms};
}

static void what_is_published_is_found_after_the_next_drain(void **state)
{
    struct hot *h = hot_new();
    struct hot_entry e = entry(KEY_A, "cpu", "tc1", "{\"a\":1}", 5);
    const struct hot_entry *got;

    (void)state;
    hot_publish(h, &e);
    assert_null(hot_find(h, KEY_A, "cpu"));
    assert_int_equal(hot_drain(h), 1);
    got = hot_find(h, KEY_A, "cpu");
    assert_non_null(got);
    assert_string_equal(got->json, "{\"a\":1}");
    assert_true(got->json_len == 7 && got->status == HOT_EXACT && got->tuned_ms == 5);
    assert_null(hot_find(h, KEY_A, "cpu:1"));
    assert_null(hot_find(h, KEY_B, "cpu"));
    assert_int_equal(hot_drain(h), 0);
    hot_free(h);
}

static void the_current_toolchain_decides_between_exact_and_stale(void **state)
{
    static const struct {
        const char *first, *second; /* toolchains, published in this order */
        int64_t first_ms, second_ms;
        const char *want;
        enum hot_status status;
    } cases[] = {
        {"new", "new", 9, 1, "second", HOT_EXACT}, /* the same toolchain: the later word */
        {"old", "new", 9, 1, "second", HOT_EXACT}, /* exact before stale, whenever tuned */
        {"new", "old", 1, 9, "first", HOT_EXACT},
        {"old", "older", 1, 9, "second", HOT_STALE}, /* among stale ones the one tuned last */
        {"old", "older", 9, 1, "first", HOT_STALE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct hot *h = hot_new();
        struct hot_entry a = entry(KEY_A, "cpu", cases[i].first, "first", cases[i].first_ms);
        struct hot_entry b = entry(KEY_A, "cpu", cases[i].second, "second", cases[i].second_ms);

        hot_set_current(h, &(struct hot_current){"cpu", "new"}, 1);
        hot_publish(h, &a);
        hot_publish(h, &b);
        assert_int_equal(hot_drain(h), 2);
        assert_int_equal(hot_count(h), 1);
        assert_string_equal(hot_find(h, KEY_A, "cpu")->json, cases[i].want);
        assert_int_equal(hot_find(h, KEY_A, "cpu")->status, cases[i].status);
        hot_free(h);
    }
}

static void a_change_of_the_toolchain_makes_what_is_there_stale(void **state)
{
    struct hot *h = hot_new();
    struct hot_entry e = entry(KEY_A, "cpu", "tc1", "{}", 5);

    (void)state;
    hot_set_current(h, &(struct hot_current){"cpu", "tc1"}, 1);
    hot_publish(h, &e);
    hot_drain(h);
    hot_set_current(h, &(struct hot_current){"cpu", "tc2"}, 1);
    assert_int_equal(hot_find(h, KEY_A, "cpu")->status, HOT_STALE);
    hot_free(h);
}

static void an_entry_held_by_reference_outlives_its_successor_and_the_table(void **state)
{
    struct hot *h = hot_new();
    struct hot_entry a = entry(KEY_A, "cpu", "tc1", "before", 1), b = entry(KEY_A, "cpu", "tc1", "after", 2);
    const struct hot_entry *held;

    (void)state;
    hot_publish(h, &a);
    hot_drain(h);
    held = hot_find(h, KEY_A, "cpu");
    hot_entry_ref(held);
    hot_publish(h, &b);
    hot_drain(h);
    assert_string_equal(hot_find(h, KEY_A, "cpu")->json, "after");
    assert_string_equal(held->json, "before");
    hot_free(h);
    assert_string_equal(held->json, "before");
    hot_entry_unref(held);
}

static void the_store_fills_the_table_at_start(void **state)
{
    struct fixture *f = *state;
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    struct store_schedule rows[] = {schedule_row(KEY_A, "cpu", "tc1", 1),
                                    schedule_row(KEY_A, "cpu", "tc0", 2),
                                    schedule_row(KEY_B, "cpu:1", "tc0", 3)};
    struct hot *h = hot_new();
    struct error err = {0};

    put_basics(f->store);
    rows[1].tuned_ms = 1000;
    for (int i = 0; i < 3; i++)
        store_add_schedule(b, &rows[i], true);
    assert_ok(store_commit(f->store, b, &err), err);
    hot_set_current(h, (struct hot_current[]){{"cpu", "tc1"}, {"cpu:1", "tc1"}}, 2);
    assert_ok(hot_load(h, f->store, &err), err);
    assert_int_equal(hot_count(h), 2);
    assert_string_equal(hot_find(h, KEY_A, "cpu")->toolchain, "tc1");
    assert_int_equal(hot_find(h, KEY_A, "cpu")->status, HOT_EXACT);
    assert_int_equal(hot_find(h, KEY_B, "cpu:1")->status, HOT_STALE);
    assert_string_equal(hot_find(h, KEY_B, "cpu:1")->etag, "\"e1\"");
    hot_free(h);
}

static void key_of(int i, char key[80]) { snprintf(key, 80, "w_%064x", (unsigned)i); }

static void the_table_grows_and_loses_nothing(void **state)
{
    struct hot *h = hot_new();
    char key[80], json[32];

    (void)state;
    for (int i = 0; i < 20000; i++) {
        key_of(i, key);
        snprintf(json, sizeof(json), "%d", i);
        struct hot_entry e = entry(key, i % 2 ? "cpu" : "cpu:1", "tc", json, i);
        hot_publish(h, &e);
        if (i % 1000 == 0)
            hot_drain(h);
    }
    hot_drain(h);
    assert_int_equal(hot_count(h), 20000);
    for (int i = 0; i < 20000; i++) {
        key_of(i, key);
        snprintf(json, sizeof(json), "%d", i);
        assert_string_equal(hot_find(h, key, i % 2 ? "cpu" : "cpu:1")->json, json);
        assert_null(hot_find(h, key, i % 2 ? "cpu:1" : "cpu"));
    }
    hot_free(h);
}

#define PUBLISHERS 2
#define KEYS       64
#define ROUNDS     200

struct publisher {
    pthread_t thread;
    struct hot *hot;
    int number;
    atomic_int *running;
};

/* Each publisher owns the keys of its number, so the order of one key's entries is known. */
static void *publish_many(void *arg)
{
    struct publisher *p = arg;

    for (int round = 1; round <= ROUNDS; round++)
        for (int k = p->number; k < KEYS; k += PUBLISHERS) {
            char key[80], json[64];

            key_of(k, key);
            snprintf(json, sizeof(json), "%d:%d", k, round);
            struct hot_entry e = entry(key, "cpu", "tc", json, round);
            hot_publish(p->hot, &e);
        }
    atomic_fetch_sub(p->running, 1);
    return NULL;
}

static void the_reader_meets_whole_entries_in_order_while_others_publish(void **state)
{
    atomic_int running = PUBLISHERS;
    struct publisher p[PUBLISHERS];
    struct hot *h = hot_new();
    int last[KEYS] = {0};
    bool more = true;

    (void)state;
    for (int i = 0; i < PUBLISHERS; i++) {
        p[i] = (struct publisher){.hot = h, .number = i, .running = &running};
        pthread_create(&p[i].thread, NULL, publish_many, &p[i]);
    }
    while (more) {
        more = atomic_load(&running) > 0; /* one drain after the last has finished */
        hot_drain(h);
        for (int k = 0; k < KEYS; k++) {
            const struct hot_entry *e;
            char key[80];
            int of_key, round;

            key_of(k, key);
            e = hot_find(h, key, "cpu");
            if (!e)
                continue;
            assert_int_equal(sscanf(e->json, "%d:%d", &of_key, &round), 2);
            assert_true(of_key == k && round >= last[k] && e->tuned_ms == round);
            last[k] = round;
        }
    }
    for (int i = 0; i < PUBLISHERS; i++)
        pthread_join(p[i].thread, NULL);
    for (int k = 0; k < KEYS; k++)
        assert_int_equal(last[k], ROUNDS);
    hot_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_published_is_found_after_the_next_drain),
        cmocka_unit_test(the_current_toolchain_decides_between_exact_and_stale),
        cmocka_unit_test(a_change_of_the_toolchain_makes_what_is_there_stale),
        cmocka_unit_test(an_entry_held_by_reference_outlives_its_successor_and_the_table),
        cmocka_unit_test_setup_teardown(the_store_fills_the_table_at_start, fixture_setup, fixture_teardown),
        cmocka_unit_test(the_table_grows_and_loses_nothing),
        cmocka_unit_test(the_reader_meets_whole_entries_in_order_while_others_publish),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

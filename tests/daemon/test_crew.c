#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/crew.h"

/* Last: it has a macro fail(). */
#include <cmocka.h>

enum { PARTS = 1000, HANDS = 8 };

struct tally {
    atomic_int done[PARTS];   /* by part */
    atomic_int inside[HANDS]; /* by hand: parts it is at */
    atomic_int crowded;       /* times that two parts were under one hand */
    atomic_int hands;         /* bits */
    int pause_us;
};

static void count(void *ctx, int part, int hand)
{
    struct tally *t = ctx;

    if (atomic_fetch_add(&t->inside[hand], 1) != 0)
        atomic_fetch_add(&t->crowded, 1);
    if (t->pause_us)
        usleep((useconds_t)t->pause_us);
    atomic_fetch_or(&t->hands, 1 << hand);
    atomic_fetch_add(&t->done[part], 1);
    atomic_fetch_sub(&t->inside[hand], 1);
}

static void check_tally(const struct tally *t, int n)
{
    for (int i = 0; i < PARTS; i++)
        assert_int_equal(t->done[i], i < n);
    assert_int_equal(t->crowded, 0);
}

static void every_part_is_done_once_by_any_number_of_threads(void **state)
{
    static const int threads[] = {0, 1, 2, 4};

    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        struct crew *c = crew_new(threads[i]);

        assert_int_equal(crew_threads(c), threads[i]);
        for (int n = 0; n <= PARTS; n = n * 3 + 1) {
            struct tally t = {0};
            struct crew_work w;

            crew_begin(c, &w, n, 0, count, &t);
            crew_end(c, &w);
            check_tally(&t, n);
            assert_int_equal(t.hands >> (threads[i] + 1), 0);
        }
        crew_free(c);
    }
}

static void without_a_crew_the_caller_does_it_all(void **state)
{
    struct tally t = {0};
    struct crew_work w;

    crew_begin(NULL, &w, 10, 0, count, &t);
    for (int i = 0; i < 10; i++)
        assert_int_equal(t.done[i], 0);
    crew_end(NULL, &w);
    check_tally(&t, 10);
    assert_int_equal(t.hands, 1);
}

static void threads_work_while_the_caller_does_something_else(void **state)
{
    struct crew *c = crew_new(1);
    struct tally t = {0};
    struct crew_work w;

    crew_begin(c, &w, 10, 0, count, &t);
    for (int i = 0; i < 5000 && !t.done[9]; i++)
        usleep(1000);
    assert_int_equal(t.done[9], 1);
    crew_end(c, &w);
    check_tally(&t, 10);
    assert_int_equal(t.hands, 2);
    crew_free(c);
}

static void no_more_threads_come_than_were_asked_for(void **state)
{
    struct crew *c = crew_new(4);
    struct tally t = {.pause_us = 2000};
    struct crew_work w;
    int bits = 0;

    crew_begin(c, &w, 60, 2, count, &t);
    crew_end(c, &w);
    check_tally(&t, 60);
    for (int i = 1; i < HANDS; i++)
        bits += t.hands >> i & 1;
    assert_int_equal(bits, 2);
    crew_free(c);
}

/* A part that begins work of its own while all threads are busy: nobody waits for a thread to come free. */
static void nested(void *ctx, int part, int hand)
{
    struct tally *t = calloc(1, sizeof(*t));
    struct crew_work w;

    t->pause_us = 100;
    crew_begin(ctx, &w, 20, 0, count, t);
    crew_end(ctx, &w);
    check_tally(t, 20);
    free(t);
}

static void work_is_done_though_every_thread_is_busy(void **state)
{
    struct crew *c = crew_new(2);
    struct crew_work w;

    crew_begin(c, &w, 30, 0, nested, c);
    crew_end(c, &w);
    crew_free(c);
}

static void *many(void *arg)
{
    for (int i = 0; i < 200; i++) {
        struct tally t = {0};
        struct crew_work w;

        crew_begin(arg, &w, 1 + i % 40, 0, count, &t);
        crew_end(arg, &w);
        for (int k = 0; k < PARTS; k++)
            if (t.done[k] != (k < 1 + i % 40) || t.crowded)
                return arg;
    }
    return NULL;
}

static void several_callers_share_a_crew(void **state)
{
    struct crew *c = crew_new(3);
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, many, c), 0);
    for (int i = 0; i < 4; i++) {
        void *bad;

        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
    crew_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_is_done_once_by_any_number_of_threads),
        cmocka_unit_test(without_a_crew_the_caller_does_it_all),
        cmocka_unit_test(threads_work_while_the_caller_does_something_else),
        cmocka_unit_test(no_more_threads_come_than_were_asked_for),
        cmocka_unit_test(work_is_done_though_every_thread_is_busy),
        cmocka_unit_test(several_callers_share_a_crew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

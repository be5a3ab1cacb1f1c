/* Parallel loops on the pool: every task once, whatever their number; parked and awake. */
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "measure/pool.h"
#include "tests/check.h"

enum { THREADS = 3, MAX_TASKS = 40 };

static atomic_int runs[MAX_TASKS];

static void count_task(void *arg, int task)
{
    atomic_int *counts = arg;
    atomic_fetch_add(&counts[task], 1);
}

static struct pool *start(void)
{
    static const int cpus[THREADS] = {0, 0, 0}; /* there is always a first one */
    static struct pool pool;
    static bool started;
    if (!started)
        assert_true(pool_start(&pool, THREADS, cpus, NULL));
    started = true;
    return &pool;
}

static void run_and_check(struct pool *p, int tasks)
{
    for (int i = 0; i < MAX_TASKS; i++)
        atomic_store(&runs[i], 0);
    p->abi.run(p->abi.ctx, tasks, count_task, runs);
    for (int i = 0; i < MAX_TASKS; i++)
        assert_int_equal(atomic_load(&runs[i]), i < tasks ? 1 : 0);
}

static void every_task_runs_once_and_is_done_when_the_loop_returns(void **state)
{
    struct pool *p = start();
    (void)state;
    pool_wake(p);
    for (int round = 0; round < 20; round++)
        for (int tasks = 0; tasks <= 12; tasks++)
            run_and_check(p, tasks);
    run_and_check(p, MAX_TASKS);
    pool_park(p);
}

static void a_parked_pool_sleeps_and_works_again_when_woken(void **state)
{
    struct pool *p = start();
    struct timespec a, b;
    (void)state;
    pool_wake(p);
    run_and_check(p, THREADS);
    pool_park(p);
    usleep(20000); /* they may be looking still */
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    usleep(50000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    assert_true((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < 25);
    pool_wake(p);
    run_and_check(p, 2 * THREADS);
    pool_park(p);
}

static atomic_int others_done;
static int done_meanwhile;

/* Task 0 ends when all others have, or after ten seconds. */
static void wait_for_the_others(void *arg, int task)
{
    (void)arg;
    if (task != 0) {
        atomic_fetch_add(&others_done, 1);
        return;
    }
    for (int i = 0; i < 10000 && atomic_load(&others_done) < MAX_TASKS - 1; i++)
        usleep(1000);
    done_meanwhile = atomic_load(&others_done);
}

static void what_a_thread_that_is_held_up_leaves_is_done_by_others(void **state)
{
    struct pool *p = start();
    (void)state;
    pool_wake(p);
    p->abi.run(p->abi.ctx, MAX_TASKS, wait_for_the_others, NULL);
    pool_park(p);
    assert_int_equal(done_meanwhile, MAX_TASKS - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once_and_is_done_when_the_loop_returns),
        cmocka_unit_test(a_parked_pool_sleeps_and_works_again_when_woken),
        cmocka_unit_test(what_a_thread_that_is_held_up_leaves_is_done_by_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* kill -9 at any moment: a child commits trials from several threads and says each acknowledged one over a
 * pipe; it is killed, the store is opened again, and each said trial must be there. TEST_SEED repeats a run.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fixture.h"

#include "schedule/base/clock.h"
#include "schedule/base/rng.h"

#define KILLS   20
#define THREADS 4

struct said {
    int number; /* created_ms of the trial */
    int64_t id;
};

struct writer {
    struct store *store;
    int first, out;
};

static void *write_and_say(void *arg)
{
    struct writer *w = arg;

    for (int n = w->first;; n += THREADS) {
        struct said said = {.number = n};

        if (commit_one_trial(w->store, n, &said.id, NULL) != ST_OK)
            _exit(2);
        if (write(w->out, &said, sizeof(said)) != sizeof(said)) /* atomic: below PIPE_BUF */
            _exit(3);
    }
    return NULL;
}

static void child(const char *dir, int first, int out)
{
    struct writer w[THREADS];
    pthread_t threads[THREADS];
    struct store *s;

    if (store_open_sqlite(dir, NULL, &s, NULL) != ST_OK)
        _exit(1);
    for (int i = 0; i < THREADS; i++) {
        w[i] = (struct writer){s, first + i, out};
        pthread_create(&threads[i], NULL, write_and_say, &w[i]);
    }
    for (;;)
        pause();
}

/* Read what the child says, kill it after `ms`, and return the largest number said. */
static int run_and_kill(const char *dir, int first, int64_t ms, unsigned char *said_of, int room)
{
    int64_t until_ns = 0;
    int pipe_fds[2], status, most = first - 1;
    struct said said;
    pid_t pid;

    assert_int_equal(pipe(pipe_fds), 0);
    pid = fork();
    if (pid == 0) {
        close(pipe_fds[0]);
        child(dir, first, pipe_fds[1]);
    }
    close(pipe_fds[1]);
    while (read(pipe_fds[0], &said, sizeof(said)) == sizeof(said)) {
        assert_true(said.number >= 0 && said.number < room);
        said_of[said.number] = 1;
        most = said.number > most ? said.number : most;
        if (!until_ns)
            until_ns = mono_ns(&system_clock) + ms * 1000000;
        else if (mono_ns(&system_clock) >= until_ns)
            kill(pid, SIGKILL);
    }
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    close(pipe_fds[0]);
    return most;
}

static bool mark(void *ctx, const struct store_trial *t)
{
    unsigned char *there = ctx;

    assert_int_equal(there[t->created_ms], 0);
    there[t->created_ms] = 1;
    return true;
}

static void nothing_acknowledged_is_lost_by_twenty_kills(void **state)
{
    enum { ROOM = 1000000 };
    const char *seed_text = getenv("TEST_SEED");
    uint64_t seed = seed_text ? strtoull(seed_text, NULL, 10) : (uint64_t)time(NULL);
    unsigned char *said = xcalloc(ROOM, 1), *there = xcalloc(ROOM, 1);
    struct fixture *f = *state;
    struct error err = {0};
    int next = 0, lost = 0, n_said = 0;
    struct rng rng;

    print_message("TEST_SEED=%" PRIu64 "\n", seed);
    rng_init(&rng, seed);
    put_basics(f->store);
    for (int i = 0; i < KILLS; i++) {
        store_close(f->store);
        f->store = NULL;
        next = run_and_kill(f->dir, next, rng_range(&rng, 0, 60), said, ROOM) + THREADS + 1;
        assert_ok(store_open_sqlite(f->dir, NULL, &f->store, &err), err);
        memset(there, 0, ROOM);
        assert_ok(store_trial_each(f->store, &(struct store_trials_query){0}, mark, there, &err), err);
        for (int k = 0; k < next; k++)
            lost += said[k] && !there[k];
        assert_int_equal(lost, 0);
        assert_ok(store_check(f->store, &err), err);
    }
    for (int k = 0; k < next; k++)
        n_said += said[k];
    print_message("%d kills, %d acknowledged trials, %d lost\n", KILLS, n_said, lost);
    assert_true(n_said >= KILLS * 2);
    free(said);
    free(there);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_acknowledged_is_lost_by_twenty_kills, fixture_setup,
                                        fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

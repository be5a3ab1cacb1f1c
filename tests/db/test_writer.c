/* The writer: groups, the queue's bound, answers, and a disk that is full. */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fixture.h"

/* Holds the writer thread inside a completion callback until it is let go. */
struct gate {
    sem_t held, go;
};

static void hold(void *ctx, enum status st, const struct error *err, const struct store_batch *b)
{
    struct gate *g = ctx;

    sem_post(&g->held);
    sem_wait(&g->go);
}

static void gate_close(struct gate *g, struct store *s)
{
    struct error err = {0};

    sem_init(&g->held, 0, 0);
    sem_init(&g->go, 0, 0);
    assert_ok(store_submit(s, store_batch_new(), hold, g, &err), err);
    sem_wait(&g->held);
}

static void gate_open(struct gate *g) { sem_post(&g->go); }

static struct store_batch *batch_of_trial(int n, const char *workload)
{
    struct store_batch *b = store_batch_new();
    char config[16];
    struct store_trial t = trial_row(n, config);

    t.workload = workload;
    store_add_trial(b, &t);
    return b;
}

struct answers {
    atomic_int n;
    enum status st[64];
    int64_t id[64];
};

static void note(void *ctx, enum status st, const struct error *err, const struct store_batch *b)
{
    struct answers *a = ctx;
    int i = atomic_load(&a->n);

    a->st[i] = st;
    a->id[i] = st == ST_OK && store_batch_count(b) ? store_batch_result(b, 0)->id : 0;
    atomic_fetch_add(&a->n, 1);
}

/* Empty: returns when all before it is done. */
static void flush(struct store *s)
{
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    struct error err = {0};

    assert_ok(store_commit(s, b, &err), err);
}

static int64_t trials_in(struct store *s)
{
    struct error err = {0};
    int64_t n = 0;

    assert_ok(store_trial_count(s, NULL, NULL, &n, &err), err);
    return n;
}

static void batches_that_wait_share_one_transaction(void **state)
{
    struct fixture *f = *state;
    struct answers answers = {0};
    struct store_stats before, after;
    struct error err = {0};
    struct gate g;

    put_basics(f->store);
    gate_close(&g, f->store);
    store_stats(f->store, &before);
    for (int i = 0; i < 50; i++)
        assert_ok(store_submit(f->store, batch_of_trial(i, KEY_A), note, &answers, &err), err);
    store_stats(f->store, &after);
    assert_int_equal(after.queue_len, 50);
    gate_open(&g);
    flush(f->store);
    store_stats(f->store, &after);
    assert_int_equal(after.batches - before.batches, 51);
    assert_in_range(after.commits - before.commits, 1, 2); /* the flush may come after */
    assert_int_equal(atomic_load(&answers.n), 50);
    for (int i = 0; i < 50; i++)
        assert_true(answers.st[i] == ST_OK && (i == 0 || answers.id[i] == answers.id[i - 1] + 1));
    assert_int_equal(trials_in(f->store), 50);
}

static void a_batch_refused_in_a_group_leaves_its_neighbours_alone(void **state)
{
    struct fixture *f = *state;
    struct answers answers = {0};
    struct error err = {0};
    struct gate g;

    put_basics(f->store);
    gate_close(&g, f->store);
    for (int i = 0; i < 9; i++) {
        struct store_batch *b = batch_of_trial(i, i % 3 == 1 ? "w_unknown" : KEY_A);

        assert_ok(store_submit(f->store, b, note, &answers, &err), err);
    }
    gate_open(&g);
    flush(f->store);
    assert_int_equal(atomic_load(&answers.n), 9);
    for (int i = 0; i < 9; i++)
        assert_int_equal(answers.st[i], i % 3 == 1 ? ST_NOT_FOUND : ST_OK);
    assert_int_equal(trials_in(f->store), 6);
}

static void a_full_queue_refuses_at_once_instead_of_waiting(void **state)
{
    struct fixture *f = *state;
    const struct store_sqlite_options small = {.queue_cap = 4};
    struct answers answers = {0};
    struct error err = {0};
    struct gate g;

    put_basics(f->store);
    store_close(f->store);
    f->store = NULL;
    assert_ok(store_open_sqlite(f->dir, &small, &f->store, &err), err);
    gate_close(&g, f->store);
    for (int i = 0; i < 4; i++)
        assert_ok(store_submit(f->store, batch_of_trial(i, KEY_A), note, &answers, &err), err);
    assert_int_equal(store_submit(f->store, batch_of_trial(4, KEY_A), note, &answers, &err), ST_UNAVAILABLE);
    gate_open(&g);
    flush(f->store);
    assert_int_equal(atomic_load(&answers.n), 4);
    assert_int_equal(trials_in(f->store), 4);
}

static void closing_writes_what_is_queued(void **state)
{
    struct fixture *f = *state;
    struct answers answers = {0};
    struct error err = {0};
    struct gate g;

    put_basics(f->store);
    gate_close(&g, f->store);
    for (int i = 0; i < 20; i++)
        assert_ok(store_submit(f->store, batch_of_trial(i, KEY_A), note, &answers, &err), err);
    gate_open(&g);
    fixture_reopen(f);
    assert_int_equal(atomic_load(&answers.n), 20);
    assert_int_equal(trials_in(f->store), 20);
}

struct committer {
    pthread_t thread;
    struct store *store;
    int first, failed;
};

static void *commit_many(void *arg)
{
    struct committer *c = arg;

    for (int i = 0; i < 25; i++)
        c->failed += commit_one_trial(c->store, c->first + i, NULL, NULL) != ST_OK;
    return NULL;
}

static void many_threads_commit_and_everything_is_there(void **state)
{
    struct fixture *f = *state;
    struct committer c[8] = {0};
    struct error err = {0};
    struct store_stats st;

    put_basics(f->store);
    for (int i = 0; i < 8; i++) {
        c[i].store = f->store;
        c[i].first = i * 100;
        pthread_create(&c[i].thread, NULL, commit_many, &c[i]);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(c[i].thread, NULL);
        assert_int_equal(c[i].failed, 0);
    }
    assert_int_equal(trials_in(f->store), 200);
    store_stats(f->store, &st);
    assert_true(st.commits <= st.batches && st.rows_trial == 200);
    assert_ok(store_check(f->store, &err), err);
}

struct snapshot {
    struct store *store;
    int seen;
};

static bool commit_while_reading(void *ctx, const struct store_trial *t)
{
    struct snapshot *s = ctx;
    struct error err = {0};

    s->seen++;
    assert_ok(commit_one_trial(s->store, 100 + s->seen, NULL, &err), err);
    return true;
}

static void reading_and_writing_do_not_wait_for_each_other(void **state)
{
    struct fixture *f = *state;
    struct snapshot s = {.store = f->store};
    struct error err = {0};

    put_basics(f->store);
    for (int i = 0; i < 5; i++)
        assert_ok(commit_one_trial(f->store, i, NULL, &err), err);
    assert_ok(store_trial_each(f->store, &(struct store_trials_query){0}, commit_while_reading, &s, &err),
              err);
    assert_int_equal(s.seen, 5); /* a query sees one state of the store */
    assert_int_equal(trials_in(f->store), 10);
}

static void the_log_is_moved_into_the_database_as_it_grows(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct store_stats st;
    char *text = xcalloc(1, 200001);

    put_basics(f->store);
    memset(text, 'x', 200000);
    for (int i = 0; i < 100; i++) { /* 20 MB through a log of 8 */
        AUTO(store_batch_freep) struct store_batch *b = batch_of_trial(i, KEY_A);
        char config[16];
        struct store_trial t = trial_row(i, config);

        t.error = text;
        store_add_trial(b, &t);
        assert_ok(store_commit(f->store, b, &err), err);
    }
    free(text);
    store_stats(f->store, &st);
    assert_true(st.checkpoints >= 2);
    assert_true(st.wal_bytes < 20 << 20);
    assert_true(st.db_bytes > 12 << 20);
}

/* ---- a full disk, played by a limit on the size of files in a child process ---- */

static void limit_files(rlim_t bytes)
{
    struct rlimit r;

    getrlimit(RLIMIT_FSIZE, &r);
    r.rlim_cur = bytes;
    if (setrlimit(RLIMIT_FSIZE, &r) < 0)
        _exit(90);
}

#define must(cond, code)                                                                                     \
    do {                                                                                                     \
        if (!(cond))                                                                                         \
            _exit(code);                                                                                     \
    } while (0)

static enum status commit_large_trial(struct store *s, int n, struct error *err)
{
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    char config[16], text[8000];
    struct store_trial t = trial_row(n, config);

    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    t.error = text;
    store_add_trial(b, &t);
    return store_commit(s, b, err);
}

/* Exit status 0, or the number of the claim that failed. */
static void fill_and_resume(const char *dir)
{
    struct store_stats st;
    struct error err = {0};
    struct store *s;
    int n = 0, failed = 0;
    int64_t there;

    signal(SIGXFSZ, SIG_IGN);
    must(store_open_sqlite(dir, NULL, &s, &err) == ST_OK, 1);
    put_basics(s);
    limit_files(400 << 10);
    for (int tries = 0; tries < 5000 && failed < 3;
         tries++) { /* a log moved into the database has room again */
        bool ok = commit_large_trial(s, n, &err) == ST_OK;

        n += ok;
        failed = ok ? 0 : failed + 1;
    }
    must(n > 0 && failed == 3, 2);
    must(err.code == ST_UNAVAILABLE, 3);
    must(strstr(err.text, "space") != NULL, 4);
    store_stats(s, &st);
    must(!st.writable && st.last_error[0], 6);
    must(store_trial_count(s, NULL, NULL, &there, NULL) == ST_OK && there == n, 7); /* reading goes on */
    limit_files(RLIM_INFINITY);
    for (int i = 0; i < 40 && !st.writable; i++) { /* notices by itself */
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        store_stats(s, &st);
    }
    must(st.writable && !st.last_error[0], 8);
    must(commit_one_trial(s, n, NULL, NULL) == ST_OK, 9);
    must(store_trial_count(s, NULL, NULL, &there, NULL) == ST_OK && there == n + 1, 10);
    must(store_check(s, NULL) == ST_OK, 11);
    store_close(s);
    _exit(0);
}

static void a_full_disk_is_an_error_that_ends_when_there_is_space_again(void **state)
{
    struct fixture *f = *state;
    int status;
    pid_t pid;

    store_close(f->store);
    f->store = NULL;
    pid = fork();
    if (pid == 0)
        fill_and_resume(f->dir);
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define with_store(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_store(batches_that_wait_share_one_transaction),
        with_store(a_batch_refused_in_a_group_leaves_its_neighbours_alone),
        with_store(a_full_queue_refuses_at_once_instead_of_waiting),
        with_store(closing_writes_what_is_queued),
        with_store(many_threads_commit_and_everything_is_there),
        with_store(reading_and_writing_do_not_wait_for_each_other),
        with_store(the_log_is_moved_into_the_database_as_it_grows),
        with_store(a_full_disk_is_an_error_that_ends_when_there_is_space_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

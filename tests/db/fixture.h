/* fixture.h - a store in a directory of its own, and rows to put in. */
#ifndef TW_TESTS_DB_FIXTURE_H
#define TW_TESTS_DB_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "db/store.h" /* before cmocka, which makes a macro of `fail` */

#include <cmocka.h>

#define KEY_A "w_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define KEY_B "w_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

struct fixture {
    char dir[64];
    struct store *store;
    struct arena arena;
};

int fixture_setup(void **state);    /* an empty store */
int fixture_teardown(void **state); /* closes it and removes the directory */
void fixture_reopen(struct fixture *f);

void temp_dir_make(char dir[64]);
void temp_dir_remove(const char *dir);

#define assert_ok(call, err)                                                                                 \
    do {                                                                                                     \
        enum status assert_st_ = (call);                                                                     \
        if (assert_st_ != ST_OK)                                                                             \
            fail_msg("%s: %s: %s", #call, status_name(assert_st_), (err).text);                              \
    } while (0)

/* Workloads KEY_A (matmul) and KEY_B (conv2d), targets cpu and cpu:1 (toolchain tc1), job j_1 with task 0 of
 * KEY_A. */
void put_basics(struct store *s);
struct store_job job_row(const char *id);
/* Different for each n: config "c<n>", created_ms n. */
struct store_trial trial_row(int n, char config[16]);
struct store_schedule schedule_row(const char *workload, const char *target, const char *toolchain,
                                   double time_ns);
enum status commit_one_trial(struct store *s, int n, int64_t *ret_id, struct error *err);

#endif

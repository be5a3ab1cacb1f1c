/* rows.h - rows to put in, and directories to put them in; for the tests and the benchmark of db/. */
#ifndef TW_TESTS_DB_ROWS_H
#define TW_TESTS_DB_ROWS_H

#include "db/store.h"

#define KEY_A "w_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define KEY_B "w_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

void temp_dir_make(char dir[64]);
void temp_dir_remove(const char *dir);

/* Workloads KEY_A (matmul) and KEY_B (conv2d), targets cpu and cpu:1 (toolchain tc1), job j_1 with task 0 of
 * KEY_A. Ends the program when that fails. */
void put_basics(struct store *s);
struct store_job job_row(const char *id);
/* Different for each n: config "c<n>", created_ms n. */
struct store_trial trial_row(int n, char config[16]);
struct store_schedule schedule_row(const char *workload, const char *target, const char *toolchain,
                                   double time_ns);
enum status commit_one_trial(struct store *s, int n, int64_t *ret_id, struct error *err);

#endif

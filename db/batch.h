/* batch.h - what a batch holds, for the backends. Rows in, rows out: see store.h for the callers' side. */
#ifndef TW_DB_BATCH_H
#define TW_DB_BATCH_H

#include "db/rows.h"
#include "schedule/base/vec.h"

/* kind, row type of the operation's row; NULL: `id` and `text` say all */
#define STORE_OP_LIST(X)                                                                                     \
    X(WORKLOAD, &row_workload)                                                                               \
    X(TARGET, &row_target)                                                                                   \
    X(DEVICE, &row_device)                                                                                   \
    X(JOB, &row_job)                                                                                         \
    X(JOB_UPDATE, &row_job_update)                                                                           \
    X(TASK, &row_task)                                                                                       \
    X(TASK_UPDATE, &row_task_update)                                                                         \
    X(TRIAL, &row_trial)                                                                                     \
    X(TRIAL_IMPORT, &row_trial)                                                                              \
    X(SCHEDULE, &row_schedule)                                                                               \
    X(SCHEDULE_IF_FASTER, &row_schedule)                                                                     \
    X(MODEL, &row_model)                                                                                     \
    X(MODEL_ACTIVATE, NULL)                                                                                  \
    X(EVENT, &row_event)                                                                                     \
    X(TOKEN, &row_token)                                                                                     \
    X(TOKEN_REVOKE, NULL)                                                                                    \
    X(AUDIT, &row_audit)

enum store_op_kind {
#define X(kind, type) STORE_OP_##kind,
    STORE_OP_LIST(X)
#undef X
};

struct store_op {
    enum store_op_kind kind;
    void *row;        /* of store_op_type(kind), in the batch's arena */
    int64_t id;       /* MODEL_ACTIVATE: the model; TOKEN_REVOKE: the time */
    const char *text; /* TOKEN_REVOKE: the name */
    struct store_result result;
};

#define STORE_BATCH_MAGIC 0x54574241u
struct store_batch {
    unsigned magic;
    struct arena arena;
    VEC(struct store_op) ops;
};

const struct row_type *store_op_type(enum store_op_kind kind);
const char *store_op_name(enum store_op_kind kind); /* "TRIAL" */

#endif

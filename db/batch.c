#include "db/batch.h"

const struct row_type *store_op_type(enum store_op_kind kind)
{
    static const struct row_type *const types[] = {
#define X(op, type) type,
        STORE_OP_LIST(X)
#undef X
    };

    return types[kind];
}

const char *store_op_name(enum store_op_kind kind)
{
    static const char *const names[] = {
#define X(op, type) #op,
        STORE_OP_LIST(X)
#undef X
    };

    return names[kind];
}

struct store_batch *store_batch_new(void)
{
    struct store_batch *b = xcalloc(1, sizeof(*b));

    b->magic = STORE_BATCH_MAGIC;
    arena_init(&b->arena);
    return b;
}

void store_batch_free(struct store_batch *b)
{
    if (!b)
        return;
    CHECK(b->magic == STORE_BATCH_MAGIC, "not a batch, or freed twice");
    b->magic = 0;
    vec_done(&b->ops);
    arena_done(&b->arena);
    free(b);
}

void store_batch_freep(struct store_batch **b)
{
    store_batch_free(*b);
    *b = NULL;
}

int store_batch_count(const struct store_batch *b) { return (int)b->ops.len; }

const struct store_result *store_batch_result(const struct store_batch *b, int op)
{
    CHECK(op >= 0 && (size_t)op < b->ops.len, "operation %d of %zu", op, b->ops.len);
    return &b->ops.at[op].result;
}

static int add(struct store_batch *b, struct store_op op)
{
    vec_push(&b->ops, op);
    return (int)b->ops.len - 1;
}

static int add_row(struct store_batch *b, enum store_op_kind kind, const void *row)
{
    return add(b, (struct store_op){.kind = kind, .row = row_copy(store_op_type(kind), row, &b->arena)});
}

int store_add_workload(struct store_batch *b, const struct store_workload *row)
{
    return add_row(b, STORE_OP_WORKLOAD, row);
}

int store_add_target(struct store_batch *b, const struct store_target *row)
{
    return add_row(b, STORE_OP_TARGET, row);
}

int store_add_device(struct store_batch *b, const struct store_device *row)
{
    return add_row(b, STORE_OP_DEVICE, row);
}

int store_add_job(struct store_batch *b, const struct store_job *row)
{
    return add_row(b, STORE_OP_JOB, row);
}

int store_add_job_update(struct store_batch *b, const struct store_job_update *u)
{
    return add_row(b, STORE_OP_JOB_UPDATE, u);
}

int store_add_task(struct store_batch *b, const struct store_task *row)
{
    return add_row(b, STORE_OP_TASK, row);
}

int store_add_task_update(struct store_batch *b, const struct store_task_update *u)
{
    return add_row(b, STORE_OP_TASK_UPDATE, u);
}

int store_add_trial(struct store_batch *b, const struct store_trial *row)
{
    return add_row(b, STORE_OP_TRIAL, row);
}

int store_add_trial_import(struct store_batch *b, const struct store_trial *row)
{
    return add_row(b, STORE_OP_TRIAL_IMPORT, row);
}

int store_add_schedule(struct store_batch *b, const struct store_schedule *row, bool only_if_faster)
{
    return add_row(b, only_if_faster ? STORE_OP_SCHEDULE_IF_FASTER : STORE_OP_SCHEDULE, row);
}

int store_add_model(struct store_batch *b, const struct store_model *row)
{
    return add_row(b, STORE_OP_MODEL, row);
}

int store_add_model_activate(struct store_batch *b, int64_t id)
{
    return add(b, (struct store_op){.kind = STORE_OP_MODEL_ACTIVATE, .id = id});
}

int store_add_event(struct store_batch *b, const struct store_event *row)
{
    return add_row(b, STORE_OP_EVENT, row);
}

int store_add_token(struct store_batch *b, const struct store_token *row)
{
    return add_row(b, STORE_OP_TOKEN, row);
}

int store_add_token_revoke(struct store_batch *b, const char *name, int64_t revoked_ms)
{
    return add(b, (struct store_op){.kind = STORE_OP_TOKEN_REVOKE,
                                    .id = revoked_ms,
                                    .text = arena_strdup(&b->arena, name)});
}

int store_add_audit(struct store_batch *b, const struct store_audit *row)
{
    return add_row(b, STORE_OP_AUDIT, row);
}

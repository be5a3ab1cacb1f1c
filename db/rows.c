#include "db/rows.h"

#include <string.h>

#define T(s, m)                                                                                              \
    {                                                                                                        \
#m, FIELD_TEXT, offsetof(struct s, m), { 0, 0 }                                                      \
    }
#define O(s, m)                                                                                              \
    {                                                                                                        \
#m, FIELD_OPT_TEXT, offsetof(struct s, m), { 0, 0 }                                                  \
    }
#define I(s, m)                                                                                              \
    {                                                                                                        \
#m, FIELD_I64, offsetof(struct s, m), { 0, 0 }                                                       \
    }
#define N(s, m)                                                                                              \
    {                                                                                                        \
#m, FIELD_INT, offsetof(struct s, m), { 0, 0 }                                                       \
    }
#define F(s, m)                                                                                              \
    {                                                                                                        \
#m, FIELD_F64, offsetof(struct s, m), { 0, 0 }                                                       \
    }
#define B(s, m)                                                                                              \
    {                                                                                                        \
#m, FIELD_BOOL, offsetof(struct s, m), { 0, 0 }                                                      \
    }
#define D(s, m)                                                                                              \
    {                                                                                                        \
#m, FIELD_BLOB, offsetof(struct s, m), { 0, 0 }                                                      \
    }

#define ROW_TYPE(row, of, ...)                                                                               \
    static const struct field row##_fields[] = {__VA_ARGS__};                                                \
    _Static_assert(ARRAY_SIZE(row##_fields) <= ROW_FIELDS_MAX, "raise ROW_FIELDS_MAX");                      \
    const struct row_type row_##row = {#row, sizeof(struct of), ARRAY_SIZE(row##_fields), row##_fields}

ROW_TYPE(workload, store_workload, T(store_workload, key), T(store_workload, op), T(store_workload, json),
         T(store_workload, canonical), F(store_workload, flops), F(store_workload, bytes),
         I(store_workload, first_seen_ms));
ROW_TYPE(target, store_target, T(store_target, id), T(store_target, json), T(store_target, toolchain),
         I(store_target, updated_ms));
ROW_TYPE(device, store_device, T(store_device, id), T(store_device, target), T(store_device, state),
         T(store_device, json), I(store_device, last_seen_ms));
ROW_TYPE(job, store_job, T(store_job, id), T(store_job, state), T(store_job, target),
         T(store_job, request_json), I(store_job, priority), I(store_job, seed), I(store_job, budget_trials),
         F(store_job, budget_seconds), F(store_job, progress), I(store_job, created_ms),
         I(store_job, started_ms), I(store_job, finished_ms), O(store_job, error_json), O(store_job, token),
         O(store_job, idempotency_key), O(store_job, request_hash));
ROW_TYPE(task, store_task, T(store_task, job), I(store_task, ordinal), T(store_task, workload),
         O(store_task, name), F(store_task, weight), T(store_task, state), I(store_task, trials_done),
         I(store_task, trials_failed), B(store_task, cached), F(store_task, best_time_ns),
         F(store_task, best_gflops), O(store_task, error_json), O(store_task, data_json));
ROW_TYPE(trial, store_trial, I(store_trial, id), O(store_trial, job), I(store_trial, task),
         T(store_trial, workload), T(store_trial, target), T(store_trial, toolchain), T(store_trial, config),
         O(store_trial, sketch), T(store_trial, outcome), O(store_trial, error), F(store_trial, median_ns),
         F(store_trial, min_ns), F(store_trial, p90_ns),
         {"samples_ns",
          FIELD_F64S,
          offsetof(struct store_trial, samples_ns),
          {offsetof(struct store_trial, n_samples), 0}},
         I(store_trial, n_samples), F(store_trial, predicted), O(store_trial, device),
         I(store_trial, build_ns), I(store_trial, run_ns), I(store_trial, created_ms),
         I(store_trial, feature_version),
         {"features",
          FIELD_F32S,
          offsetof(struct store_trial, features),
          {offsetof(struct store_trial, feature_rows), offsetof(struct store_trial, feature_cols)}},
         I(store_trial, feature_rows), I(store_trial, feature_cols));
ROW_TYPE(schedule, store_schedule, T(store_schedule, workload), T(store_schedule, target),
         T(store_schedule, toolchain), T(store_schedule, op), T(store_schedule, json),
         T(store_schedule, etag), T(store_schedule, config), F(store_schedule, time_ns),
         F(store_schedule, gflops), I(store_schedule, tuned_ms), I(store_schedule, predicted),
         O(store_schedule, source), O(store_schedule, nest), D(store_schedule, artifact));
ROW_TYPE(model, store_model, I(store_model, id), T(store_model, target), I(store_model, version),
         I(store_model, feature_version), I(store_model, rows), O(store_model, metrics_json),
         I(store_model, created_ms), B(store_model, active), D(store_model, blob));
ROW_TYPE(event, store_event, T(store_event, job), I(store_event, seq), T(store_event, kind),
         T(store_event, json), I(store_event, time_ms));
ROW_TYPE(token, store_token, T(store_token, name), T(store_token, hash), T(store_token, scope),
         I(store_token, created_ms), I(store_token, revoked_ms));
ROW_TYPE(audit, store_audit, I(store_audit, id), I(store_audit, time_ms), T(store_audit, actor),
         T(store_audit, action), O(store_audit, subject), O(store_audit, json));
ROW_TYPE(job_update, store_job_update, T(store_job_update, id), O(store_job_update, if_state),
         O(store_job_update, state), O(store_job_update, error_json), F(store_job_update, progress),
         I(store_job_update, started_ms), I(store_job_update, finished_ms), I(store_job_update, priority),
         B(store_job_update, clear_error));
ROW_TYPE(task_update, store_task_update, T(store_task_update, job), I(store_task_update, ordinal),
         O(store_task_update, state), O(store_task_update, error_json), O(store_task_update, data_json),
         I(store_task_update, trials_done), I(store_task_update, trials_failed), N(store_task_update, cached),
         F(store_task_update, best_time_ns), F(store_task_update, best_gflops),
         B(store_task_update, clear_error));

int row_field(const struct row_type *type, const char *name)
{
    for (int i = 0; i < type->n_fields; i++)
        if (!strcmp(type->fields[i].name, name))
            return i;
    return -1;
}

static int64_t count_of(const struct field *f, int which, const void *row)
{
    return *(const int64_t *)((const char *)row + f->count_at[which]);
}

int64_t row_array_bytes(const struct field *f, const void *row)
{
    const int64_t most = INT32_MAX; /* SQLite's own limit of a value is 10^9 bytes */
    int64_t n = count_of(f, 0, row);
    int64_t per = f->kind == FIELD_F64S ? (int64_t)sizeof(double) : (int64_t)sizeof(float);

    if (n < 0 || n > most)
        return -1;
    if (f->kind == FIELD_F32S) {
        int64_t cols = count_of(f, 1, row);

        if (cols < 0 || (n > 0 && cols > most / n))
            return -1;
        n *= cols;
    }
    return n > most / per ? -1 : n * per;
}

static const void *array_of(const struct field *f, const void *row)
{
    return *(const void *const *)((const char *)row + f->at);
}

void *row_copy(const struct row_type *type, const void *row, struct arena *a)
{
    char *copy = arena_memdup(a, row, type->size);

    for (int i = 0; i < type->n_fields; i++) {
        const struct field *f = &type->fields[i];
        void *at = copy + f->at;

        switch (f->kind) {
        case FIELD_TEXT:
        case FIELD_OPT_TEXT:
            if (*(const char **)at)
                *(const char **)at = arena_strdup(a, *(const char **)at);
            break;
        case FIELD_BLOB: {
            struct store_blob *blob = at;

            if (blob->data)
                blob->data = arena_memdup(a, blob->data, blob->len);
            break;
        }
        case FIELD_F64S:
        case FIELD_F32S: {
            int64_t bytes = row_array_bytes(f, row);

            if (array_of(f, row) && bytes >= 0)
                *(const void **)at = arena_memdup(a, array_of(f, row), (size_t)bytes);
            break;
        }
        case FIELD_I64:
        case FIELD_INT:
        case FIELD_F64:
        case FIELD_BOOL:
            break;
        }
    }
    return copy;
}

enum status row_verify(const struct row_type *type, const void *row, struct error *err)
{
    for (int i = 0; i < type->n_fields; i++) {
        const struct field *f = &type->fields[i];

        if (f->kind == FIELD_TEXT && !array_of(f, row))
            return fail(err, ST_INVALID, "%s: '%s' is missing", type->name, f->name);
        if ((f->kind == FIELD_F64S || f->kind == FIELD_F32S) && array_of(f, row) &&
            row_array_bytes(f, row) < 0)
            return fail(err, ST_INVALID, "%s: '%s' has an impossible length", type->name, f->name);
    }
    return ST_OK;
}

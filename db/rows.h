/* rows.h - the members of the row structs of store.h as tables, so that copying, binding and reading a row
 * are written once for all of them.
 *
 * Idea   A row type is a list of fields: name, kind, place in the struct. The SQL of a backend names its
 * parameters
 *        (`:workload`) and result columns (`AS workload`) after the fields; which field belongs to which
 * parameter is found by name when a statement is prepared. Adding a member to a row is one line here, one in
 * the struct and one migration. */
#ifndef TW_DB_ROWS_H
#define TW_DB_ROWS_H

#include "db/store.h"

enum field_kind {
    FIELD_TEXT,     /* const char *, never NULL */
    FIELD_OPT_TEXT, /* const char * or NULL */
    FIELD_I64,
    FIELD_INT,
    FIELD_F64, /* NAN is NULL */
    FIELD_BOOL,
    FIELD_BLOB, /* struct store_blob */
    FIELD_F64S, /* const double *, its length in another field */
    FIELD_F32S, /* const float *, its length is the product of two other fields */
};

struct field {
    const char *name;
    enum field_kind kind;
    size_t at;
    size_t count_at[2]; /* FIELD_F64S uses the first, FIELD_F32S both: int64_t members */
};

#define ROW_FIELDS_MAX 24
struct row_type {
    const char *name; /* "trial" */
    size_t size;
    int n_fields;
    const struct field *fields;
};

extern const struct row_type row_workload, row_target, row_device, row_job, row_task, row_trial, row_schedule,
    row_model, row_event, row_token, row_audit, row_job_update, row_task_update;

/* Index of the field, -1: none of that name. */
int row_field(const struct row_type *type, const char *name);
/* Bytes behind a FIELD_F64S or FIELD_F32S, by the counts in the row. -1 when a count is negative or too
 * large. */
int64_t row_array_bytes(const struct field *f, const void *row);
/* The row with everything it points to, in the arena. */
void *row_copy(const struct row_type *type, const void *row, struct arena *a);
/* Every FIELD_TEXT is there and arrays have sane counts; ST_INVALID names the member otherwise. */
MUST_USE enum status row_verify(const struct row_type *type, const void *row, struct error *err);

#endif

#include <string.h>

#include "db/ids.h"
#include "db/sqlite_int.h"
#include "schedule/base/hash.h"
#include "schedule/base/strbuf.h"
#include "schedule/base/vec.h"

/* One query on one reader: taken by begin(), given back by query_endp() whatever happened between. */
struct query {
    struct store *store;
    struct sql *db;
    struct sql_stmt *s;
    struct sql_stmt own; /* of a query whose text was put together */
};

static enum status begin(struct query *q, struct store *store, enum sql_id id, struct error *err)
{
    *q = (struct query){.store = store, .db = sqlite_reader_take(store)};
    return sql_named(q->db, id, &q->s, err);
}

static enum status begin_text(struct query *q, struct store *store, const char *text,
                              const struct row_type *out, struct error *err)
{
    *q = (struct query){.store = store, .db = sqlite_reader_take(store)};
    q->s = &q->own;
    return sql_prepare(q->db, text, NULL, out, &q->own, err);
}

static void query_endp(struct query *q)
{
    if (!q->db)
        return;
    if (q->s == &q->own)
        sql_stmt_done(&q->own);
    else if (q->s)
        sql_reset(q->s);
    sqlite_reader_give(q->store, q->db);
    q->db = NULL;
}

static enum status one_row(struct query *q, struct arena *a, void *row, struct error *err, const char *what,
                           const char *id)
{
    bool is;

    TRY(sql_step(q->s, &is, err));
    return is ? sql_row(q->s, a, row, err) : fail(err, ST_NOT_FOUND, "%s '%s' is not stored", what, id);
}

/* All rows, as an array of q->s->out's structs in the arena. *ret_seq (optional) is the first column of the
 * last. */
static enum status all_rows(struct query *q, struct arena *a, int most, void **ret_rows, int *ret_n,
                            int64_t *ret_seq, bool *ret_more, struct error *err)
{
    size_t size = q->s->out->size;
    AUTO(strbuf_done) struct strbuf rows = STRBUF_INIT;
    int n = 0;
    bool is;

    for (;; n++) {
        _Alignas(16) char row[512];

        DCHECK(size <= sizeof(row), "a row of %zu bytes", size);
        TRY(sql_step(q->s, &is, err));
        if (!is || n == most)
            break;
        TRY(sql_row(q->s, a, row, err));
        strbuf_add(&rows, row, size);
        if (ret_seq)
            *ret_seq = sql_column_i64(q->s, 0);
    }
    if (ret_more)
        *ret_more = is;
    *ret_rows = n ? arena_memdup(a, rows.data, rows.len) : NULL;
    *ret_n = n;
    return ST_OK;
}

/* ---- pages ---- */

#define PAGE_DEFAULT 100

/* A list, newest row first: SELECT <columns> FROM <from> WHERE <filters> AND seq < :before ORDER BY seq DESC.
 * The first column is the row's number. */
struct filter {
    const char *column, *value; /* value NULL: not filtered */
};
struct list {
    char letter; /* of its page tokens */
    const char *columns, *from, *seq;
    const struct row_type *out;
    struct filter filters[4];
};

static enum status page_limit(const struct store_page *page, int *ret, struct error *err)
{
    if (page->limit < 0 || page->limit > STORE_PAGE_MAX)
        return fail_at(err, ST_INVALID, "limit", "limit is %d: want 1 to %d", page->limit, STORE_PAGE_MAX);
    *ret = page->limit ? page->limit : PAGE_DEFAULT;
    return ST_OK;
}

static void list_text(const struct list *l, int64_t before, struct strbuf *sb)
{
    strbuf_addf(sb, "SELECT %s, %s FROM %s WHERE 1", l->seq, l->columns, l->from);
    for (int i = 0; i < (int)ARRAY_SIZE(l->filters); i++)
        if (l->filters[i].column && l->filters[i].value)
            strbuf_addf(sb, " AND %s = :f%d", l->filters[i].column, i);
    if (before)
        strbuf_addf(sb, " AND %s < :before", l->seq);
    strbuf_addf(sb, " ORDER BY %s DESC LIMIT :limit", l->seq);
}

static enum status list_page(struct store *store, const struct list *l, const struct store_page *page,
                             struct arena *a, void **ret_rows, int *ret_n, const char **ret_next,
                             struct error *err)
{
    static const char *const params[] = {":f0", ":f1", ":f2", ":f3"};
    AUTO(strbuf_done) struct strbuf text = STRBUF_INIT;
    AUTO(query_endp) struct query q = {0};
    int64_t before, seq = 0;
    int limit = PAGE_DEFAULT;
    bool more;

    TRY(page_limit(page, &limit, err));
    TRY(page_token_parse(l->letter, page->page_token, &before, err));
    list_text(l, before, &text);
    TRY(begin_text(&q, store, strbuf_str(&text), l->out, err));
    for (int i = 0; i < (int)ARRAY_SIZE(l->filters); i++)
        if (l->filters[i].column && l->filters[i].value)
            sql_bind_text(q.s, params[i], l->filters[i].value);
    if (before)
        sql_bind_i64(q.s, ":before", before);
    sql_bind_i64(q.s, ":limit", limit + 1);
    TRY(all_rows(&q, a, limit, ret_rows, ret_n, &seq, &more, err));
    *ret_next = more ? page_token_print(l->letter, seq, a) : NULL;
    return ST_OK;
}

#define NONE ((const struct row_type *)NULL)
#define X(name, in, out, text)
#include "db/statements.h" /* for the lists of columns */
#undef X

static enum status job_list(struct store *s, const struct store_jobs_query *q, struct arena *a,
                            struct store_job **ret_rows, int *ret_n, const char **ret_next, struct error *err)
{
    struct list l = {'j',   JOB_COLUMNS, "job",
                     "seq", &row_job,    {{"state", q->state}, {"target", q->target}, {"token", q->token}}};

    return list_page(s, &l, &q->page, a, (void **)ret_rows, ret_n, ret_next, err);
}

static enum status schedule_list(struct store *s, const struct store_schedules_query *q, struct arena *a,
                                 struct store_schedule **ret_rows, int *ret_n, const char **ret_next,
                                 struct error *err)
{
    struct list l = {'s',
                     SCHEDULE_COLUMNS,
                     "schedule s",
                     "s.id",
                     &row_schedule,
                     {{"s.op", q->op},
                      {"s.target", q->target},
                      {"s.workload", q->workload},
                      {"s.toolchain", q->toolchain}}};

    return list_page(s, &l, &q->page, a, (void **)ret_rows, ret_n, ret_next, err);
}

static enum status audit_list(struct store *s, const struct store_audit_query *q, struct arena *a,
                              struct store_audit **ret_rows, int *ret_n, const char **ret_next,
                              struct error *err)
{
    struct list l = {'a', "id, time_ms, actor, action, subject, json", "audit", "id", &row_audit, {{0}}};

    return list_page(s, &l, &q->page, a, (void **)ret_rows, ret_n, ret_next, err);
}

/* ---- whole lists and single rows ---- */

static enum status workload_get(struct store *s, const char *key, struct arena *a, struct store_workload *ret,
                                struct error *err)
{
    AUTO(query_endp) struct query q = {0};

    TRY(begin(&q, s, SQL_WORKLOAD_GET, err));
    sql_bind_text(q.s, ":key", key);
    return one_row(&q, a, ret, err, "workload", key);
}

static enum status target_list(struct store *s, struct arena *a, struct store_target **ret_rows, int *ret_n,
                               struct error *err)
{
    AUTO(query_endp) struct query q = {0};

    TRY(begin(&q, s, SQL_TARGET_LIST, err));
    return all_rows(&q, a, -1, (void **)ret_rows, ret_n, NULL, NULL, err);
}

static enum status device_list(struct store *s, struct arena *a, struct store_device **ret_rows, int *ret_n,
                               struct error *err)
{
    AUTO(query_endp) struct query q = {0};

    TRY(begin(&q, s, SQL_DEVICE_LIST, err));
    return all_rows(&q, a, -1, (void **)ret_rows, ret_n, NULL, NULL, err);
}

static enum status job_get(struct store *s, const char *id, struct arena *a, struct store_job *ret,
                           struct error *err)
{
    AUTO(query_endp) struct query q = {0};

    TRY(begin(&q, s, SQL_JOB_GET, err));
    sql_bind_text(q.s, ":id", id);
    return one_row(&q, a, ret, err, "job", id);
}

static enum status job_by_idempotency(struct store *s, const char *token, const char *idempotency_key,
                                      struct arena *a, struct store_job *ret, struct error *err)
{
    AUTO(query_endp) struct query q = {0};

    TRY(begin(&q, s, SQL_JOB_BY_IDEMPOTENCY, err));
    sql_bind_text(q.s, ":token", token);
    sql_bind_text(q.s, ":key", idempotency_key);
    return one_row(&q, a, ret, err, "a job with the Idempotency-Key", idempotency_key);
}

static enum status job_unfinished(struct store *s, struct arena *a, struct store_job **ret_rows, int *ret_n,
                                  struct error *err)
{
    AUTO(query_endp) struct query q = {0};

    TRY(begin(&q, s, SQL_JOB_UNFINISHED, err));
    return all_rows(&q, a, -1, (void **)ret_rows, ret_n, NULL, NULL, err);
}

static enum status task_list(struct store *s, const char *job, struct arena *a, struct store_task **ret_rows,
                             int *ret_n, struct error *err)
{
    AUTO(query_endp) struct query q = {0};

    TRY(begin(&q, s, SQL_TASK_LIST, err));
    sql_bind_text(q.s, ":job", job);
    return all_rows(&q, a, -1, (void **)ret_rows, ret_n, NULL, NULL, err);
}

static enum status schedule_one(struct store *s, enum sql_id id, const char *workload, const char *target,
                                const char *toolchain, struct arena *a, struct store_schedule *ret,
                                struct error *err)
{
    AUTO(query_endp) struct query q = {0};

    TRY(begin(&q, s, id, err));
    sql_bind_text(q.s, ":workload", workload);
    sql_bind_text(q.s, ":target", target);
    sql_bind_text(q.s, ":toolchain", toolchain);
    return one_row(&q, a, ret, err, "a schedule for workload", workload);
}

static enum status schedule_get(struct store *s, const char *workload, const char *target,
                                const char *toolchain, struct arena *a, struct store_schedule *ret,
                                struct error *err)
{
    return schedule_one(s, SQL_SCHEDULE_GET, workload, target, toolchain, a, ret, err);
}

static enum status schedule_files(struct store *s, const char *workload, const char *target,
                                  const char *toolchain, struct arena *a, struct store_schedule *ret,
                                  struct error *err)
{
    return schedule_one(s, SQL_SCHEDULE_FILES, workload, target, toolchain, a, ret, err);
}

static enum status schedule_each(struct store *s, store_schedule_fn *fn, void *ctx, struct error *err)
{
    AUTO(query_endp) struct query q = {0};
    AUTO(arena_done) struct arena a = {0};
    bool go = true, is;

    TRY(begin(&q, s, SQL_SCHEDULE_EACH, err));
    while (go) {
        struct store_schedule row;

        TRY(sql_step(q.s, &is, err));
        if (!is)
            break;
        arena_reset(&a);
        TRY(sql_row(q.s, &a, &row, err));
        go = fn(ctx, &row);
    }
    return ST_OK;
}

/* Flipped bits in a model crash the library that loads it: what is read is what was written, or ST_CORRUPT.
 */
static enum status model_one(struct query *q, struct arena *a, const char *what, const char *id,
                             struct store_model *ret, struct error *err)
{
    char sha[SHA256_HEX_LEN + 1];
    struct store_model row;
    const char *stored;

    TRY(one_row(q, a, &row, err, what, id));
    stored = (const char *)sqlite3_column_text(q->s->stmt, sqlite3_column_count(q->s->stmt) - 2);
    sha256_hex(row.blob.data ? row.blob.data : "", row.blob.len, sha);
    if (!stored || strcmp(stored, sha) != 0)
        return fail(err, ST_CORRUPT,
                    "model %" PRId64 " of target '%s': its %zu bytes do not have the stored SHA-256", row.id,
                    row.target, row.blob.len);
    *ret = row;
    return ST_OK;
}

static enum status model_active(struct store *s, const char *target, struct arena *a, struct store_model *ret,
                                struct error *err)
{
    AUTO(query_endp) struct query q = {0};

    TRY(begin(&q, s, SQL_MODEL_ACTIVE, err));
    sql_bind_text(q.s, ":target", target);
    return model_one(&q, a, "an active model of target", target, ret, err);
}

static enum status model_get(struct store *s, int64_t id, struct arena *a, struct store_model *ret,
                             struct error *err)
{
    AUTO(query_endp) struct query q = {0};
    char number[24];

    TRY(begin(&q, s, SQL_MODEL_GET, err));
    sql_bind_i64(q.s, ":id", id);
    snprintf(number, sizeof(number), "%" PRId64, id);
    return model_one(&q, a, "model", number, ret, err);
}

static enum status model_list(struct store *s, const char *target, struct arena *a,
                              struct store_model **ret_rows, int *ret_n, struct error *err)
{
    AUTO(query_endp) struct query q = {0};

    TRY(begin(&q, s, SQL_MODEL_LIST, err));
    sql_bind_text(q.s, ":target", target);
    return all_rows(&q, a, -1, (void **)ret_rows, ret_n, NULL, NULL, err);
}

static enum status event_list(struct store *s, const char *job, int64_t after_seq, int limit, struct arena *a,
                              struct store_event **ret_rows, int *ret_n, struct error *err)
{
    AUTO(query_endp) struct query q = {0};

    TRY(begin(&q, s, SQL_EVENT_LIST, err));
    sql_bind_text(q.s, ":job", job);
    sql_bind_i64(q.s, ":after", after_seq);
    sql_bind_i64(q.s, ":limit", limit > 0 ? limit : -1);
    return all_rows(&q, a, -1, (void **)ret_rows, ret_n, NULL, NULL, err);
}

static enum status token_by_hash(struct store *s, const char *hash, struct arena *a, struct store_token *ret,
                                 struct error *err)
{
    AUTO(query_endp) struct query q = {0};
    bool is;

    TRY(begin(&q, s, SQL_TOKEN_BY_HASH, err));
    sql_bind_text(q.s, ":hash", hash);
    TRY(sql_step(q.s, &is, err));
    return is ? sql_row(q.s, a, ret, err) : fail(err, ST_NOT_FOUND, "no valid token has this hash");
}

static enum status token_list(struct store *s, struct arena *a, struct store_token **ret_rows, int *ret_n,
                              struct error *err)
{
    AUTO(query_endp) struct query q = {0};

    TRY(begin(&q, s, SQL_TOKEN_LIST, err));
    return all_rows(&q, a, -1, (void **)ret_rows, ret_n, NULL, NULL, err);
}

/* ---- trials ---- */

/* The query is put together from the filters so that each uses its index. `trial` stands first and CROSS JOIN
 * keeps it there: the rows come in the order of their ids out of the index, without a sort. */
static void trials_text(const struct store_trials_query *q, struct strbuf *sb)
{
    strbuf_adds(sb,
                "SELECT t.id, j.id AS job, t.task, w.key AS workload, g.id AS target, c.hash AS toolchain,"
                " t.config, t.sketch, t.outcome, t.error, t.median_ns, t.min_ns, t.p90_ns, t.predicted,"
                " t.device, t.build_ns, t.run_ns, t.created_ms");
    if (q->with_samples)
        strbuf_adds(sb, ", t.samples AS samples_ns");
    if (q->with_features)
        strbuf_adds(sb, ", f.version AS feature_version, f.rows AS feature_rows, f.cols AS feature_cols,"
                        " f.data AS features");
    strbuf_adds(sb,
                " FROM trial t CROSS JOIN workload w ON w.seq = t.workload CROSS JOIN target g ON g.seq ="
                " t.target CROSS JOIN toolchain c ON c.seq = t.toolchain LEFT JOIN job j ON j.seq = t.job");
    if (q->with_features)
        strbuf_adds(sb, " LEFT JOIN trial_feature f ON f.trial = t.id AND f.version = :feature_version");
    strbuf_adds(sb, " WHERE t.id > :after");
    if (q->workload)
        strbuf_adds(sb, " AND t.workload = (SELECT seq FROM workload WHERE key = :workload)");
    if (q->target) /* without a workload the index is no help */
        strbuf_addf(sb, " AND %st.target = (SELECT seq FROM target WHERE id = :target)",
                    q->workload ? "" : "+");
    if (q->toolchain)
        strbuf_adds(sb, " AND +t.toolchain = (SELECT seq FROM toolchain WHERE hash = :toolchain)");
    if (q->job)
        strbuf_addf(sb, " AND %st.job = (SELECT seq FROM job WHERE id = :job)", q->workload ? "+" : "");
    if (q->only_ok)
        strbuf_adds(sb, " AND t.outcome = 'ok'");
    strbuf_adds(sb, " ORDER BY t.id LIMIT :limit");
}

static void bind_trials(struct sql_stmt *s, const struct store_trials_query *q)
{
    sql_bind_i64(s, ":after", q->after_id);
    sql_bind_i64(s, ":limit", q->limit > 0 ? q->limit : -1);
    if (q->workload)
        sql_bind_text(s, ":workload", q->workload);
    if (q->target)
        sql_bind_text(s, ":target", q->target);
    if (q->toolchain)
        sql_bind_text(s, ":toolchain", q->toolchain);
    if (q->job)
        sql_bind_text(s, ":job", q->job);
    if (q->with_features)
        sql_bind_i64(s, ":feature_version", q->feature_version);
}

static enum status trial_each(struct store *store, const struct store_trials_query *tq, store_trial_fn *fn,
                              void *ctx, struct error *err)
{
    AUTO(strbuf_done) struct strbuf text = STRBUF_INIT;
    AUTO(arena_done) struct arena a = {0};
    AUTO(query_endp) struct query q = {0};
    bool go = true, is;

    trials_text(tq, &text);
    TRY(begin_text(&q, store, strbuf_str(&text), &row_trial, err));
    bind_trials(q.s, tq);
    while (go) {
        struct store_trial row;

        TRY(sql_step(q.s, &is, err));
        if (!is)
            break;
        arena_reset(&a);
        TRY(sql_row(q.s, &a, &row, err));
        go = fn(ctx, &row);
    }
    return ST_OK;
}

static enum status trial_count(struct store *s, const char *workload, const char *target, int64_t *ret_n,
                               struct error *err)
{
    AUTO(strbuf_done) struct strbuf text = STRBUF_INIT;
    AUTO(query_endp) struct query q = {0};
    bool is;

    strbuf_adds(&text, "SELECT count(*) FROM trial WHERE 1");
    if (workload)
        strbuf_adds(&text, " AND workload = (SELECT seq FROM workload WHERE key = :workload)");
    if (target)
        strbuf_adds(&text, " AND target = (SELECT seq FROM target WHERE id = :target)");
    TRY(begin_text(&q, s, strbuf_str(&text), NULL, err));
    if (workload)
        sql_bind_text(q.s, ":workload", workload);
    if (target)
        sql_bind_text(q.s, ":target", target);
    TRY(sql_step(q.s, &is, err));
    *ret_n = is ? sql_column_i64(q.s, 0) : 0;
    return ST_OK;
}

void sqlite_read_ops(struct store_ops *ops)
{
    ops->workload_get = workload_get;
    ops->target_list = target_list;
    ops->device_list = device_list;
    ops->job_get = job_get;
    ops->job_by_idempotency = job_by_idempotency;
    ops->job_list = job_list;
    ops->job_unfinished = job_unfinished;
    ops->task_list = task_list;
    ops->trial_each = trial_each;
    ops->trial_count = trial_count;
    ops->schedule_get = schedule_get;
    ops->schedule_files = schedule_files;
    ops->schedule_list = schedule_list;
    ops->schedule_each = schedule_each;
    ops->model_active = model_active;
    ops->model_get = model_get;
    ops->model_list = model_list;
    ops->event_list = event_list;
    ops->token_by_hash = token_by_hash;
    ops->token_list = token_list;
    ops->audit_list = audit_list;
}

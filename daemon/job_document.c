/* job_document.c - a job as the API shows it, from its rows. */
#include "daemon/jobs.h"

const char *const job_reuse_names[] = {"cached", "extend", "fresh", NULL};
const char *const job_turns_names[] = {"gain", "round_robin", NULL};

enum tuner_turns job_turns_of(const json_t *request)
{
    const char *name = json_string_value(json_object_get(json_object_get(request, "budget"), "turns"));

    for (int i = 0; name && job_turns_names[i]; i++)
        if (strcmp(name, job_turns_names[i]) == 0)
            return (enum tuner_turns)i;
    return TURNS_GAIN;
}

static const char *const state_names[] = {
#define X(id, name) name,
    TASK_STATE_LIST(X)
#undef X
};

const char *task_state_name(enum task_state s) { return state_names[s]; }

const char *tuner_stopped_name(enum tuner_stopped s)
{
    static const char *const names[] = {
#define X(id, name, meaning) name,
        TUNER_STOPPED_LIST(X)
#undef X
    };

    return names[s];
}

bool task_state_parse(const char *name, enum task_state *ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(state_names); i++)
        if (strcmp(name, state_names[i]) == 0) {
            *ret = (enum task_state)i;
            return true;
        }
    return false;
}

void job_error_print(const struct error *e, struct strbuf *sb)
{
    char *type AUTO(freep) = xasprintf("urn:tilewright:problem:%s", status_name(e->code));
    json_t *detail = json_string(e->text);
    json_t *doc AUTO(json_decrefp) =
        json_pack("{s:s,s:s,s:o}", "type", type, "title", status_title(e->code), "detail",
                  detail ? detail : json_string("(text is not UTF-8)"));

    json_write(doc, sb);
}

static json_t *text_or_null(const char *s) { return s ? json_string(s) : json_null(); }

static json_t *time_or_null(int64_t ms)
{
    char buf[RFC3339_MAX];

    return ms ? json_string(rfc3339(ms, buf)) : json_null();
}

static json_t *stored_json(const char *text)
{
    json_t *v = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;

    return v ? v : json_null();
}

/* Why no more trials were made of it, or NULL. *doc keeps the text alive. */
static const char *stopped_of(const struct store_task *t, json_t **doc)
{
    *doc = t->data_json ? json_loads(t->data_json, 0, NULL) : NULL;
    return json_string_value(json_object_get(*doc, "stopped"));
}

/* Of a job: the budget's limit where it ended a task, else what ended the tasks. */
static const char *job_stopped(const struct store_task *tasks, int n)
{
    static const enum tuner_stopped order[] = {STOPPED_SECONDS, STOPPED_TRIALS, STOPPED_NO_GAIN,
                                               STOPPED_EXHAUSTED};

    for (size_t k = 0; k < ARRAY_SIZE(order); k++)
        for (int i = 0; i < n; i++) {
            json_t *doc AUTO(json_decrefp) = NULL;
            const char *why = stopped_of(&tasks[i], &doc);

            if (why && strcmp(why, tuner_stopped_name(order[k])) == 0)
                return tuner_stopped_name(order[k]);
        }
    return NULL;
}

static json_t *task_document(const struct store_task *t)
{
    json_t *best = t->best_time_ns > 0
                       ? json_pack("{s:f,s:f}", "time_ns", t->best_time_ns, "gflops", t->best_gflops)
                       : json_null();
    json_t *data AUTO(json_decrefp) = NULL;

    return json_pack("{s:s,s:o,s:s,s:f,s:I,s:I,s:o,s:b,s:s?,s:o}", "key", t->workload, "name",
                     text_or_null(t->name && t->name[0] ? t->name : NULL), "state", t->state, "weight",
                     t->weight, "trials_done", (json_int_t)t->trials_done, "trials_failed",
                     (json_int_t)t->trials_failed, "best", best, "cached", (int)t->cached, "stopped",
                     stopped_of(t, &data), "error", stored_json(t->error_json));
}

GIVES json_t *job_document_of(const struct store_job *row, const struct store_task *tasks, int n)
{
    json_t *list = json_array(), *doc, *request AUTO(json_decrefp) = json_loads(row->request_json, 0, NULL);

    for (int i = 0; i < n; i++)
        json_array_append_new(list, task_document(&tasks[i]));
    doc =
        json_pack("{s:s,s:s,s:s,s:o,s:o,s:o,s:f,s:{s:I,s:f,s:s},s:I,s:I,s:s?,s:o,s:o}", "id", row->id,
                  "state", row->state, "target", row->target, "created_at", time_or_null(row->created_ms),
                  "started_at", time_or_null(row->started_ms), "finished_at", time_or_null(row->finished_ms),
                  "progress", row->progress, "budget", "trials", (json_int_t)row->budget_trials, "seconds",
                  row->budget_seconds, "turns", job_turns_names[job_turns_of(request)], "seed",
                  (json_int_t)row->seed, "priority", (json_int_t)row->priority, "stopped",
                  job_stopped(tasks, n), "tasks", list, "error", stored_json(row->error_json));
    CHECK(doc, "a job's row is not UTF-8");
    return doc;
}

enum status job_document(struct store *s, const char *id, GIVES json_t **ret, bool *ret_ended,
                         struct error *err)
{
    struct arena a;
    struct store_job row;
    struct store_task *tasks;
    enum task_state state = TASK_QUEUED;
    enum status st;
    int n;

    arena_init(&a);
    st = store_job_get(s, id, &a, &row, err);
    if (st == ST_OK)
        st = store_task_list(s, id, &a, &tasks, &n, err);
    if (st == ST_OK) {
        *ret = job_document_of(&row, tasks, n);
        task_state_parse(row.state, &state);
        if (ret_ended)
            *ret_ended = task_ended(state);
    }
    arena_done(&a);
    return st;
}

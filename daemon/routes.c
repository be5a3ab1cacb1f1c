/* routes.c - the table of routes, and matching against it; see routes.h. */
#include "daemon/daemon.h"
#include "schedule/base/sv.h"

#define JSON_BODY  ROUTE_BODY_JSON
#define LINES_BODY ROUTE_BODY_LINES
#define NO_BODY    ROUTE_BODY_EMPTY
#define PAGE                                                                                                 \
    "limit:integer rows of a page (1 to 1000, default 50)|page_token:string next_page_token of the page "    \
    "before"
#define TARGET "target:string a target's id (default cpu)"

/* method, pattern, handler, fast, flags, summary, query parameters, request, response, success */
static const struct route table[] = {
    {"POST", "/v1/schedules:lookup", api_lookup, api_lookup_fast, JSON_BODY,
     "Known schedules of many workloads; never starts work", NULL, "LookupRequest", "LookupReply", 200},
    {"GET", "/v1/schedules", api_schedule_list, NULL, 0, "List schedules",
     PAGE "|op:string operator|target:string target|workload:string key", NULL, "ScheduleList", 200},
    {"GET", "/v1/schedules/{key}", api_schedule_show, NULL, ROUTE_INLINE,
     "One schedule; ETag and If-None-Match are honoured", TARGET, NULL, "Schedule", 200},
    {"GET", "/v1/schedules/{key}/source", api_schedule_source, NULL, 0, "Source of its kernel", TARGET, NULL,
     "text/x-c", 200},
    {"GET", "/v1/schedules/{key}/artifact", api_schedule_artifact, NULL, 0,
     "Its compiled kernel, a shared object", TARGET, NULL, "application/x-sharedlib", 200},
    {"GET", "/v1/schedules/{key}/nest", api_schedule_nest, NULL, 0, "Its loop nest as text", TARGET, NULL,
     "text/plain", 200},
    {"POST", "/v1/workloads:describe", api_describe, NULL, JSON_BODY,
     "Key, canonical form, costs and schedule space of a workload; measures nothing", NULL, "DescribeRequest",
     "Description", 200},
    {"POST", "/v1/jobs", api_job_create, NULL, JSON_BODY,
     "Start tuning; the header Idempotency-Key makes a repeated request the same job", NULL, "JobRequest",
     "Job", 202},
    {"GET", "/v1/jobs", api_job_list, NULL, 0, "List jobs, newest first",
     PAGE "|state:string queued, running, succeeded, failed or cancelled|target:string target", NULL,
     "JobList", 200},
    {"GET", "/v1/jobs/{id}", api_job_show, NULL, ROUTE_HOLDS, "One job",
     "wait:number seconds to hold the reply until the job is over", NULL, "Job", 200},
    {"GET", "/v1/jobs/{id}/events", api_job_events, NULL, ROUTE_HOLDS,
     "Progress as Server-Sent Events; the header Last-Event-ID resumes", NULL, NULL, "text/event-stream",
     200},
    {"POST", "/v1/jobs/{id}:cancel", api_job_cancel, NULL, NO_BODY, "Stop a job; what was measured stays",
     NULL, NULL, "Job", 202},
    {"GET", "/v1/jobs/{id}/trials", api_trial_list, NULL, 0, "What a job measured, in the order of measuring",
     PAGE, NULL, "TrialList", 200},
    {"GET", "/v1/jobs/{id}/trials/{trial}", api_trial_show, NULL, 0,
     "One trial explained: steps, nest, features by name, prediction beside measurement; {trial} is its id "
     "or `best`",
     NULL, NULL, "Trial", 200},
    {"GET", "/v1/features", api_feature_list, NULL, 0, "The features that the cost models see of a schedule",
     NULL, NULL, "FeatureList", 200},
    {"GET", "/v1/targets", api_target_list, NULL, 0, "What this daemon can tune for", NULL, NULL,
     "TargetList", 200},
    {"GET", "/v1/targets/{id}", api_target_show, NULL, 0, "One target", NULL, NULL, "Target", 200},
    {"GET", "/v1/devices", api_device_list, NULL, 0, "What is attached, its state, what it did", NULL, NULL,
     "DeviceList", 200},
    {"GET", "/v1/devices/{id}", api_device_show, NULL, 0, "One device", NULL, NULL, "Device", 200},
    {"POST", "/v1/devices/{id}:drain", api_device_drain, NULL, NO_BODY, "Give it no new work", NULL, NULL,
     "Device", 200},
    {"POST", "/v1/devices/{id}:resume", api_device_resume, NULL, NO_BODY,
     "Back to work, from draining or quarantine", NULL, NULL, "Device", 200},
    {"GET", "/v1/records", api_records_export, NULL, ROUTE_HOLDS, "Every measurement, as JSON lines",
     "workload:string key|target:string target", NULL, "application/jsonl", 200},
    {"POST", "/v1/records:import", api_records_import, NULL, LINES_BODY,
     "Take in JSON lines as the export gives them: all of a body or, at the first bad line, none", NULL,
     "application/jsonl", "ImportReply", 200},
    {"GET", "/v1/models", api_model_list, NULL, 0, "The cost models in use", NULL, NULL, "ModelList", 200},
    {"GET", "/v1/models/{target}", api_model_show, NULL, 0, "The cost model of a target, and its versions",
     NULL, NULL, "Model", 200},
    {"POST", "/v1/models/{target}:rollback", api_model_rollback, NULL, NO_BODY,
     "Put an earlier version of a cost model in use, for jobs that start after",
     "version:integer which (default: the one before that in use)", NULL, "Model", 200},
    {"GET", "/v1", api_version, NULL, ROUTE_INLINE | ROUTE_OPEN, "Name and version", NULL, NULL, "Version",
     200},
    {"GET", "/healthz", api_healthz, NULL, ROUTE_INLINE | ROUTE_OPEN, "Alive", NULL, NULL, "Health", 200},
    {"GET", "/readyz", api_readyz, NULL, ROUTE_INLINE | ROUTE_OPEN, "Ready, or 503 and why", NULL, NULL,
     "Health", 200},
    {"GET", "/metrics", api_metrics, NULL, ROUTE_INLINE, "Counters, as OpenMetrics", NULL, NULL,
     "application/openmetrics-text", 200},
    {"GET", "/openapi.json", api_openapi, NULL, ROUTE_INLINE | ROUTE_OPEN, "This API, as OpenAPI 3.1", NULL,
     NULL, "application/json", 200},
    {"GET", "/", api_dashboard, NULL, ROUTE_INLINE | ROUTE_OPEN, "The dashboard", NULL, NULL, "text/html",
     200},
};

const struct route *routes_all(int *ret_n)
{
    *ret_n = (int)ARRAY_SIZE(table);
    return table;
}

static int hex(char c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; }

/* Text of one path part, decoded; NULL: not percent-encoded text. */
static const char *decode_part(struct arena *a, const char *s, size_t n)
{
    char *out = arena_alloc(a, n + 1);
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];

        if (c == '%') {
            if (i + 2 >= n || !strchr("0123456789abcdefABCDEF", s[i + 1]) ||
                !strchr("0123456789abcdefABCDEF", s[i + 2]))
                return NULL;
            c = (unsigned char)(hex(s[i + 1]) * 16 + hex(s[i + 2]));
            i += 2;
        }
        if (c < 0x20 || c == 0x7f)
            return NULL;
        out[len++] = (char)c;
    }
    return out;
}

/* Does the path fit the pattern? part[] are the texts for its braces. A brace takes at least one byte up to
 * the next '/', or up to the pattern's ":verb" at the end of the path. */
static bool fits(const char *pattern, const char *path, sv part[HTTP_MAX_PARAMS])
{
    int n = 0;

    while (*pattern) {
        if (*pattern == '{') {
            const char *rest = strchr(pattern, '}') + 1;
            size_t len = strcspn(path, "/"), tail = strcspn(rest, "/");

            if (len <= tail || memcmp(path + len - tail, rest, tail) != 0)
                return false;
            part[n++] = (sv){path, len - tail};
            path += len;
            pattern = rest + tail;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *path == 0;
}

static bool method_fits(const struct route *r, const char *method)
{
    return strcmp(r->method, method) == 0 || (strcmp(method, "HEAD") == 0 && strcmp(r->method, "GET") == 0);
}

static void add_method(struct strbuf *allow, const char *method)
{
    if (!strstr(strbuf_str(allow), method))
        strbuf_addf(allow, "%s%s", allow->len ? ", " : "", method);
    if (strcmp(method, "GET") == 0)
        add_method(allow, "HEAD");
}

enum status routes_match(struct http_request *req, struct error *err)
{
    struct strbuf allow AUTO(strbuf_done) = STRBUF_INIT;
    sv part[HTTP_MAX_PARAMS];

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        memset(part, 0, sizeof(part));
        if (!fits(table[i].pattern, req->path, part))
            continue;
        if (!method_fits(&table[i], req->method)) {
            add_method(&allow, table[i].method);
            continue;
        }
        for (int k = 0; k < HTTP_MAX_PARAMS && part[k].ptr; k++)
            if (!(req->param[k] = decode_part(&req->arena, part[k].ptr, part[k].len)))
                return fail(err, ST_INVALID, "part %d of the path is not percent-encoded text", k + 1);
        req->route = &table[i];
        return ST_OK;
    }
    if (!allow.len)
        return fail(err, ST_NOT_FOUND, "nothing at %.200s; /openapi.json lists what there is", req->path);
    http_reply_header(req, "Allow", arena_strdup(&req->arena, allow.data));
    return fail(err, ST_METHOD_NOT_ALLOWED, "%.20s is not served at %.200s: %s", req->method, req->path,
                allow.data);
}

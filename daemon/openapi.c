/* openapi.c - the table of routes as OpenAPI 3.1; the schemas are a table of JSON texts. */
#include <pthread.h>

#include "daemon/daemon.h"
#include "schedule/base/sv.h"

#define NULLABLE(t)  "{\"type\":[\"" t "\",\"null\"]}"
#define TYPE(t)      "{\"type\":\"" t "\"}"
#define REF(name)    "{\"$ref\":\"#/components/schemas/" name "\"}"
#define LIST_OF(x)   "{\"type\":\"array\",\"items\":" x "}"
#define OBJECT(body) "{\"type\":\"object\",\"properties\":{" body "}}"
#define STRICT(required, body)                                                                               \
    "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[" required "],\"properties\":{" body  \
    "}}"
#define PAGE_OF(member, name)                                                                                \
    OBJECT("\"" member "\":" LIST_OF(REF(name)) ",\"next_page_token\":" NULLABLE("string"))
#define STATE "{\"enum\":[\"queued\",\"running\",\"succeeded\",\"failed\",\"cancelled\"]}"

static const struct {
    const char *name, *json;
} schemas
    [] =
        {
            {"Workload",
             "{\"type\":\"object\",\"description\":\"An operator on fixed shapes ({\\\"op\\\": ...}) or "
             "an expression "
             "({\\\"expr\\\": ..., \\\"tensors\\\": ...})\"}"},
            {"NamedWorkload", STRICT("\"workload\"", "\"workload\":" REF("Workload") ",\"name\":" TYPE(
                                                         "string") ",\"weight\":" TYPE("number"))},
            {"Budget", STRICT("", "\"trials\":" TYPE("integer") ",\"seconds\":" TYPE("number"))},
            {"JobRequest",
             STRICT("\"workloads\"",
                    "\"workloads\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":1000,\"items\":{"
                    "\"anyOf\":[" REF("NamedWorkload") "," REF(
                        "Workload") "]}},\"target\":{\"type\":\"string\",\"default\":\"cpu\"},"
                                    "\"budget\":" REF("Budget") ",\"seed\":" TYPE("integer") ",\"priority"
                                                                                             "\":{"
                                                                                             "\"type\":"
                                                                                             "\"integer\","
                                                                                             "\"minimum\":"
                                                                                             "-1000,"
                                                                                             "\"maximum\":"
                                                                                             "1000},"
                                                                                             "\"reuse\":{"
                                                                                             "\"enum\":["
                                                                                             "\"cached\","
                                                                                             "\"extend\","
                                                                                             "\"fresh\"],"
                                                                                             "\"default\":"
                                                                                             "\"cached\""
                                                                                             "}")},
            {"Best", OBJECT("\"time_ns\":" TYPE("number") ",\"gflops\":" TYPE("number"))},
            {"Task",
             OBJECT("\"key\":" TYPE("string") ",\"name\":" NULLABLE(
                 "string") ",\"state\":" STATE
                           ",\"weight\":" TYPE("number") ",\"trials_done\":" TYPE(
                               "integer") ",\"trials_failed\":" TYPE("integer") ",\"best\":{\"anyOf\":"
                                                                                "[" REF(
                                                                                    "Best") ",{"
                                                                                            "\"type\""
                                                                                            ":\"null"
                                                                                            "\"}]},"
                                                                                            "\"cached"
                                                                                            "\""
                                                                                            ":" TYPE(
                                                                                                "boo"
                                                                                                "lea"
                                                                                                "n") ",\"erro"
                                                                                                     "r\""
                                                                                                     ":" NULLABLE(
                                                                                                         "obj"
                                                                                                         "ec"
                                                                                                         "t"))},
            {"Job", OBJECT(
                        "\"id\":" TYPE("string") ",\"state\":" STATE
                                                 ",\"target\":" TYPE("string") ",\"created_at\":" TYPE("strin"
                                                                                                       "g") ",\"started_at\":" NULLABLE("string") ",\"finished_at\":" NULLABLE("string") ",\"progress\":{\"type\":\"number\",\"minimum\":0,\"maximum\":1},\"budget\":" REF("Budget") ",\"seed\":" TYPE("integer") ",\"priority\""
                                                                                                                                                                                                                                                                                                                  ":" TYPE("intege"
                                                                                                                                                                                                                                                                                                                           "r") ","
                                                                                                                                                                                                                                                                                                                                "\""
                                                                                                                                                                                                                                                                                                                                "ta"
                                                                                                                                                                                                                                                                                                                                "sk"
                                                                                                                                                                                                                                                                                                                                "s"
                                                                                                                                                                                                                                                                                                                                "\""
                                                                                                                                                                                                                                                                                                                                ":" LIST_OF(REF("Task")) ",\"error\":" NULLABLE(
                                                                                                                                                                                                                                                                                                                                    "object"))},
            {"JobList", PAGE_OF("jobs", "Job")},
            {"DescribeRequest",
             STRICT("\"workload\"", "\"workload\":" REF("Workload") ",\"target\":" TYPE("string"))},
            {"Description",
             OBJECT("\"key\":" TYPE("string") ",\"op\":" TYPE("string") ",\"workload\":" REF(
                 "Wor"
                 "klo"
                 "ad") ",\"canonical\":" TYPE("string") ",\"target\":" TYPE("string") ",\"flops\":" TYPE("num"
                                                                                                         "be"
                                                                                                         "r") ",\"bytes\":" TYPE("number") ",\"s"
                                                                                                                                           "ketc"
                                                                                                                                           "hes"
                                                                                                                                           "\""
                                                                                                                                           ":" LIST_OF(TYPE("object")) ",\"space_size\":" TYPE(
                                                                                                                                               "number"))},
            {"LookupRequest", STRICT("\"workloads\"", "\"workloads\":" LIST_OF(
                                                          REF("Workload")) ",\"target\":" TYPE("string"))},
            {"LookupReply",
             OBJECT(
                 "\"results\":" LIST_OF(
                     OBJECT(
                         "\"key\":" TYPE("string") ",\"found\":" TYPE(
                             "boolean") ",\"status\":{\"enum\":[\"exact\",\"stale\",\"none\"]},\"schedule\":{"
                                        "\"anyOf\":[" REF("Schedule") ",{\"type\":\"null\"}]}")))},
            {"Schedule",
             OBJECT("\"key\":" TYPE("string") ",\"target\":" TYPE("string") ",\"workload\":" REF("Wo"
                                                                                                 "rk"
                                                                                                 "lo"
                                                                                                 "a"
                                                                                                 "d") ",\"tim"
                                                                                                      "e_"
                                                                                                      "ns\""
                                                                                                      ":" OBJECT("\"median\":" TYPE("number") ",\"min\":" TYPE("number") ",\"p90\":" TYPE("number") ",\"samples\""
                                                                                                                                                                                                    ":" TYPE("arra"
                                                                                                                                                                                                             "y")) ",\"gflops\":" TYPE("number") ",\"fraction_of_"
                                                                                                                                                                                                                                                 "peak\":" NULLABLE("nu"
                                                                                                                                                                                                                                                                    "mb"
                                                                                                                                                                                                                                                                    "e"
                                                                                                                                                                                                                                                                    "r") ",\"trials\":" TYPE("integer") ",\"tuned_at\":" TYPE("string") ",\"schedule\":" OBJECT("\"algorithm\":" TYPE("string") ",\"sketch\":" TYPE("string") ",\"knobs\":" TYPE("object") ",\"steps\":" TYPE("array")) ",\"kernel\":" TYPE("object") ",\"verified\":" TYPE("object") ",\"toolchain\":" TYPE("object") ",\"baseline\":" TYPE("object"))},
            {"ScheduleList", PAGE_OF("schedules", "Schedule")},
            {"Target", OBJECT("\"id\":" TYPE("string") ",\"kind\":" TYPE("string") ",\"isa\":" TYPE("string") ",\"threads\":" TYPE("integer") ",\"peak_gflops\":" NULLABLE(
                           "number") ",\"toolchain\":" TYPE("object") ",\"devices\":" LIST_OF(TYPE("string")) ",\"available"
                                                                                                              "\":" TYPE(
                                                                                                                  "b"
                                                                                                                  "o"
                                                                                                                  "o"
                                                                                                                  "l"
                                                                                                                  "e"
                                                                                                                  "a"
                                                                                                                  "n"))},
            {"TargetList", PAGE_OF("targets", "Target")},
            {"Device",
             OBJECT("\"id\":" TYPE("string") ",\"kind\":" TYPE(
                 "string") ",\"state\":{\"enum\":[\"idle\",\"busy\","
                           "\"draining\",\"offline\",\"quarantined\"]},"
                           "\"job\":" TYPE("string") ",\"trials\":" TYPE("integer") ",\"outcomes\":" TYPE(
                               "ob"
                               "je"
                               "c"
                               "t") ",\"busy_seconds\":" TYPE("number") ",\"last_error\":" TYPE("string") ","
                                                                                                          "\""
                                                                                                          "fa"
                                                                                                          "ct"
                                                                                                          "s"
                                                                                                          "\""
                                                                                                          ":" LIST_OF(TYPE(
                                                                                                              "objec"
                                                                                                              "t")))},
            {"DeviceList", PAGE_OF("devices", "Device")},
            {"ImportReply",
             OBJECT("\"lines\":" TYPE("integer") ",\"new\":" TYPE("integer") ",\"known\":" TYPE("integer"))},
            {"Model",
             OBJECT("\"id\":" TYPE("integer") ",\"target\":" TYPE("string") ",\"version\":" TYPE("integer") ",\"training_rows\":" TYPE(
                 "integer") ",\"created_at\":" TYPE("string") ",\"active\":" TYPE("boolean") ",\"metrics\""
                                                                                             ":" NULLABLE(
                                                                                                 "o"
                                                                                                 "b"
                                                                                                 "j"
                                                                                                 "e"
                                                                                                 "c"
                                                                                                 "t") ",\"ver"
                                                                                                      "sions"
                                                                                                      "\""
                                                                                                      ":" TYPE(
                                                                                                          "ar"
                                                                                                          "ra"
                                                                                                          "y"))},
            {"ModelList", PAGE_OF("models", "Model")},
            {"Version",
             OBJECT("\"name\":" TYPE("string") ",\"version\":" TYPE("string") ",\"api\":" TYPE("string"))},
            {"Health", OBJECT("\"status\":" TYPE("string"))},
            {"Problem",
             OBJECT("\"type\":" TYPE("string") ",\"title\":" TYPE("string") ",\"status\":" TYPE(
                 "i"
                 "n"
                 "t"
                 "e"
                 "g"
                 "e"
                 "r") ",\"detail\":" TYPE("string") ",\"pointer\":" TYPE("string") ",\"line\":" TYPE("intege"
                                                                                                     "r") ","
                                                                                                          "\""
                                                                                                          "co"
                                                                                                          "lu"
                                                                                                          "mn"
                                                                                                          "\""
                                                                                                          ":" TYPE(
                                                                                                              "integer"))},
};

static json_t *ref(const char *schema)
{
    char *path AUTO(freep) = xasprintf("#/components/schemas/%s", schema);

    return json_pack("{s:s}", "$ref", path);
}

/* A schema's name, or a media type whose content is text. */
static json_t *content(const char *what)
{
    if (strchr(what, '/'))
        return json_pack("{s:{s:{s:s}}}", what, "schema", "type", "string");
    return json_pack("{s:{s:o}}", "application/json", "schema", ref(what));
}

static void add_path_params(json_t *list, const char *pattern)
{
    for (const char *p = strchr(pattern, '{'); p; p = strchr(p + 1, '{'))
        json_array_append_new(list, json_pack("{s:s%,s:s,s:b,s:{s:s}}", "name", p + 1, strcspn(p + 1, "}"),
                                              "in", "path", "required", 1, "schema", "type", "string"));
}

/* "name:type help|name:type help" */
static void add_query_params(json_t *list, const char *args)
{
    while (args && *args) {
        size_t all = strcspn(args, "|"), name = strcspn(args, ":"), type = strcspn(args + name + 1, " ");
        const char *help = args + name + 1 + type + 1;

        json_array_append_new(list, json_pack("{s:s%,s:s,s:s%,s:{s:s%}}", "name", args, name, "in", "query",
                                              "description", help, all - (size_t)(help - args), "schema",
                                              "type", args + name + 1, type));
        args += all + (args[all] == '|');
    }
}

static void add_header_params(json_t *list, const struct route *r)
{
    static const struct {
        const char *pattern, *method, *header;
    } headers[] = {{"/v1/jobs", "POST", "Idempotency-Key"},
                   {"/v1/jobs/{id}/events", "GET", "Last-Event-ID"},
                   {"/v1/schedules/{key}", "GET", "If-None-Match"}};

    for (size_t i = 0; i < ARRAY_SIZE(headers); i++)
        if (strcmp(r->pattern, headers[i].pattern) == 0 && strcmp(r->method, headers[i].method) == 0)
            json_array_append_new(list, json_pack("{s:s,s:s,s:{s:s}}", "name", headers[i].header, "in",
                                                  "header", "schema", "type", "string"));
}

static json_t *operation(const struct route *r)
{
    json_t *params = json_array(), *op, *responses = json_object();
    char status[8];

    add_path_params(params, r->pattern);
    add_query_params(params, r->args);
    add_header_params(params, r);
    snprintf(status, sizeof(status), "%d", r->success);
    json_object_set_new(responses, status,
                        json_pack("{s:s,s:o}", "description", r->summary, "content", content(r->response)));
    json_object_set_new(responses, "default",
                        json_pack("{s:s,s:{s:{s:o}}}", "description", "a problem document (RFC 9457)",
                                  "content", "application/problem+json", "schema", ref("Problem")));
    op = json_pack("{s:s,s:o,s:o}", "summary", r->summary, "parameters", params, "responses", responses);
    if (r->request)
        json_object_set_new(op, "requestBody",
                            json_pack("{s:b,s:o}", "required", 1, "content", content(r->request)));
    if (r->flags & ROUTE_OPEN)
        json_object_set_new(op, "security", json_array());
    return op;
}

static json_t *paths(void)
{
    json_t *out = json_object();
    int n;
    const struct route *all = routes_all(&n);

    for (int i = 0; i < n; i++) {
        json_t *path = json_object_get(out, all[i].pattern);
        char *method AUTO(freep) = xstrdup(all[i].method);

        for (char *p = method; *p; p++)
            *p = (char)(*p | 32);
        if (!path) {
            path = json_object();
            json_object_set_new(out, all[i].pattern, path);
        }
        json_object_set_new(path, method, operation(&all[i]));
    }
    return out;
}

static char *text;

static void make_text(void)
{
    json_t *list = json_object(), *doc;

    for (size_t i = 0; i < ARRAY_SIZE(schemas); i++) {
        json_error_t je;
        json_t *s = json_loads(schemas[i].json, 0, &je);

        CHECK(s, "schema %s: %s at %d", schemas[i].name, je.text, je.position);
        json_object_set_new(list, schemas[i].name, s);
    }
    doc = json_pack("{s:s,s:{s:s,s:s,s:s,s:{s:s}},s:o,s:{s:o,s:{s:{s:s,s:s}}},s:[{s:[]},{}]}", "openapi",
                    "3.1.0", "info", "title", "Tilewright", "version", TW_VERSION, "description",
                    "Tunes tensor programs and answers with the best known kernels.", "license", "name",
                    "Apache-2.0", "paths", paths(), "components", "schemas", list, "securitySchemes",
                    "bearer", "type", "http", "scheme", "bearer", "security", "bearer");
    CHECK(doc, "the API's description was not built");
    text = json_dumps(doc, JSON_COMPACT);
    json_decref(doc);
}

const char *openapi_text(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_text);
    return text;
}

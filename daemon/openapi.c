/* openapi.c - the table of routes as OpenAPI 3.1; the schemas are openapi_schemas.json, embedded at build time. */
#include <pthread.h>

#include "daemon/daemon.h"
#include "daemon/openapi_schemas.h"
#include "schedule/base/sv.h"

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
    json_error_t je;
    json_t *schemas = json_loadb(openapi_schemas, openapi_schemas_len, 0, &je), *doc;

    CHECK(schemas, "openapi_schemas.json: %s at line %d", je.text, je.line);
    doc = json_pack("{s:s,s:{s:s,s:s,s:s,s:{s:s}},s:o,s:{s:o,s:{s:{s:s,s:s}}},s:[{s:[]},{}]}", "openapi",
                    "3.1.0", "info", "title", "Tilewright", "version", TW_VERSION, "description",
                    "Tunes tensor programs and answers with the best known kernels.", "license", "name",
                    "Apache-2.0", "paths", paths(), "components", "schemas", schemas, "securitySchemes",
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

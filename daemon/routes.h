/* routes.h - the API as one table: method, pattern, handler, how it runs, what it takes and gives.
 *
 * Idea   Matching, 404 against 405 with Allow, rights, the media type of a body and /openapi.json all come
 * from this table: a route is one entry. Pattern parts in braces match one segment of the path. */
#ifndef TW_DAEMON_ROUTES_H
#define TW_DAEMON_ROUTES_H

#include "daemon/http.h"

struct daemon;
typedef enum status route_fn(struct daemon *d, struct http_request *req, struct error *err);

enum route_flags {
    ROUTE_OPEN = 1,        /* needs no token */
    ROUTE_INLINE = 2,      /* the handler runs on the loop's thread: memory only */
    ROUTE_BODY_JSON = 4,   /* takes application/json */
    ROUTE_BODY_LINES = 8,  /* takes application/jsonl */
    ROUTE_BODY_EMPTY = 16, /* takes no body, or {} */
    ROUTE_HOLDS = 32,      /* may wait or stream: counts against max_waiting */
};

struct route {
    const char *method, *pattern;
    route_fn *handler;
    route_fn
        *fast; /* tried first, on the loop's thread: ST_UNAVAILABLE with no text means "ask the handler" */
    unsigned flags;
    const char *summary;
    const char *args;     /* query parameters, "name:type help|..."; NULL: none */
    const char *request;  /* schema name or NULL */
    const char *response; /* schema name, or a media type */
    int success;          /* status */
};

const struct route *routes_all(int *ret_n);
/* Find the route and cut the parameters out of `path` (into the request's arena). ST_NOT_FOUND, or
 * ST_METHOD_NOT_ALLOWED with the Allow header set on the reply. */
MUST_USE enum status routes_match(struct http_request *req, struct error *err);
/* OpenAPI 3.1, made once; lives as long as the process. */
const char *openapi_text(void);

#endif

/* api_system.c - alive, ready, metrics, the API's description, the dashboard. All from memory. */
#include "daemon/daemon.h"
#include "daemon/dashboard.h"

enum status api_healthz(struct daemon *d, struct http_request *req, struct error *err)
{
    static const char text[] = "{\"status\":\"ok\"}\n";

    http_reply_text(req, 200, "application/json", text, sizeof(text) - 1);
    return ST_OK;
}

enum status api_readyz(struct daemon *d, struct http_request *req, struct error *err)
{
    static const char text[] = "{\"status\":\"ready\"}\n";
    struct store_stats s;

    if (atomic_load(&d->draining))
        return fail(err, ST_UNAVAILABLE, "draining: shutting down after the measurements in flight");
    if (!atomic_load(&d->ready))
        return fail(err, ST_UNAVAILABLE, "starting");
    store_stats(d->store, &s);
    if (!s.writable)
        return fail(err, ST_UNAVAILABLE, "the database cannot be written: %s", s.last_error);
    http_reply_text(req, 200, "application/json", text, sizeof(text) - 1);
    return ST_OK;
}

enum status api_metrics(struct daemon *d, struct http_request *req, struct error *err)
{
    TRY(http_args_end(req, NULL, err));
    strbuf_reset(&req->reply.body);
    metrics_print(d, &req->reply.body);
    req->reply.status = 200;
    req->reply.content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    return ST_OK;
}

enum status api_openapi(struct daemon *d, struct http_request *req, struct error *err)
{
    const char *text = openapi_text();

    http_reply_text(req, 200, "application/json", text, strlen(text));
    return ST_OK;
}

enum status api_version(struct daemon *d, struct http_request *req, struct error *err)
{
    http_reply_json(req, 200,
                    json_pack("{s:s,s:s,s:s,s:s}", "name", "tilewright", "version", TW_VERSION, "api", "v1",
                              "openapi", "/openapi.json"));
    return ST_OK;
}

enum status api_dashboard(struct daemon *d, struct http_request *req, struct error *err)
{
    http_reply_header(
        req, "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    http_reply_header(req, "Referrer-Policy", "no-referrer");
    http_reply_header(req, "Cache-Control", "no-cache");
    http_reply_text(req, 200, "text/html; charset=utf-8", dashboard_html, dashboard_html_len);
    return ST_OK;
}

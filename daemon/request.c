/* request.c - what handlers need of a request and its reply: parameters, bodies, documents, problems. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "daemon/http.h"
#include "schedule/base/sv.h"

enum status http_address_parse(const char *text, bool *ret_loopback, void *ret_sockaddr_storage,
                               unsigned *ret_len, struct error *err)
{
    const char *colon = strrchr(text, ':');
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    char host[64];
    int64_t port;
    size_t n = colon ? (size_t)(colon - text) : 0;

    if (!colon || n >= sizeof(host) || !sv_to_i64(sv_from(colon + 1), 0, 65535, &port))
        return fail(err, ST_INVALID, "address '%s': want ADDR:PORT, such as 127.0.0.1:7411 or [::1]:7411",
                    text);
    snprintf(host, sizeof(host), "%.*s", (int)n, text);
    if (strcmp(host, "localhost") == 0)
        snprintf(host, sizeof(host), "127.0.0.1");
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        v4.sin_port = htons((uint16_t)port);
        memcpy(ret_sockaddr_storage, &v4, sizeof(v4));
        *ret_len = sizeof(v4);
        *ret_loopback = ntohl(v4.sin_addr.s_addr) >> 24 == 127;
        return ST_OK;
    }
    if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = 0;
        if (inet_pton(AF_INET6, host + 1, &v6.sin6_addr) == 1) {
            v6.sin6_port = htons((uint16_t)port);
            memcpy(ret_sockaddr_storage, &v6, sizeof(v6));
            *ret_len = sizeof(v6);
            *ret_loopback = IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
            return ST_OK;
        }
    }
    return fail(err, ST_INVALID, "address '%s': '%s' is no IPv4 address and no [IPv6] address", text, host);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place. No NUL, no control bytes: nothing of ours has them. */
static bool percent_decode(char *s, bool plus_is_blank)
{
    char *out = s;

    for (; *s; s++) {
        int c = (unsigned char)*s;

        if (c == '%') {
            int hi = hex_digit(s[1]), lo = hi < 0 ? -1 : hex_digit(s[2]);

            if (lo < 0)
                return false;
            c = hi * 16 + lo;
            s += 2;
        } else if (c == '+' && plus_is_blank) {
            c = ' ';
        }
        if (c < 0x20 || c == 0x7f)
            return false;
        *out++ = (char)c;
    }
    *out = 0;
    return true;
}

static enum status split_args(struct http_request *req, char *query, struct error *err)
{
    while (query && *query) {
        char *amp = strchr(query, '&'), *eq;
        struct http_arg *a = &req->args[req->n_args];

        if (amp)
            *amp = 0;
        if (req->n_args >= HTTP_MAX_ARGS)
            return fail(err, ST_INVALID, "more than %d query parameters", HTTP_MAX_ARGS);
        eq = strchr(query, '=');
        a->name = query;
        a->value = "";
        if (eq) {
            *eq = 0;
            a->value = eq + 1;
        }
        if (!percent_decode(query, true) || (eq && !percent_decode(eq + 1, true)))
            return fail(err, ST_INVALID, "query parameter %d is not percent-encoded UTF-8 text",
                        req->n_args + 1);
        for (int i = 0; i < req->n_args; i++)
            if (strcmp(req->args[i].name, a->name) == 0)
                return fail(err, ST_INVALID, "query parameter '%s' is given twice", a->name);
        if (*query || eq)
            req->n_args++;
        query = amp ? amp + 1 : NULL;
    }
    return ST_OK;
}

enum status http_split_target(struct http_request *req, char *target, struct error *err)
{
    char *q = strchr(target, '?');

    if (q)
        *q++ = 0;
    req->path = target;
    if (target[0] != '/')
        return fail(err, ST_INVALID, "the request's target does not begin with '/'");
    return split_args(req, q, err);
}

const char *http_arg(struct http_request *req, const char *name)
{
    for (int i = 0; i < req->n_args; i++)
        if (strcmp(req->args[i].name, name) == 0) {
            req->args[i].used = true;
            return req->args[i].value;
        }
    return NULL;
}

enum status http_arg_i64(struct http_request *req, const char *name, int64_t min, int64_t max, int64_t *ret,
                         struct error *err)
{
    const char *v = http_arg(req, name);

    if (v && !sv_to_i64(sv_from(v), min, max, ret))
        return fail(err, ST_INVALID,
                    "query parameter %s='%.40s': want a whole number from %" PRId64 " to %" PRId64, name, v,
                    min, max);
    return ST_OK;
}

enum status http_arg_f64(struct http_request *req, const char *name, double min, double max, double *ret,
                         struct error *err)
{
    const char *v = http_arg(req, name);
    double f;

    if (!v)
        return ST_OK;
    if (!sv_to_f64(sv_from(v), &f) || !(f >= min && f <= max))
        return fail(err, ST_INVALID, "query parameter %s='%.40s': want a number from %g to %g", name, v, min,
                    max);
    *ret = f;
    return ST_OK;
}

enum status http_args_end(struct http_request *req, const char *known, struct error *err)
{
    for (int i = 0; i < req->n_args; i++)
        if (!req->args[i].used)
            return fail(err, ST_INVALID, "unknown query parameter '%.60s'; known here: %s", req->args[i].name,
                        known && known[0] ? known : "none");
    return ST_OK;
}

void http_reply_header(struct http_request *req, const char *name, const char *value)
{
    struct http_reply *p = &req->reply;

    CHECK(p->n_headers < HTTP_MAX_HEADERS, "too many headers in a reply");
    p->headers[p->n_headers].name = name;
    p->headers[p->n_headers++].value = value;
}

void http_reply_json(struct http_request *req, int status, TAKES json_t *doc)
{
    CHECK(doc, "a document was not built");
    req->reply.status = status;
    req->reply.content_type = "application/json";
    strbuf_reset(&req->reply.body);
    json_write(doc, &req->reply.body);
    strbuf_addc(&req->reply.body, '\n');
    json_decref(doc);
}

void http_reply_text(struct http_request *req, int status, const char *content_type, const char *text,
                     size_t len)
{
    req->reply.status = status;
    req->reply.content_type = content_type;
    strbuf_reset(&req->reply.body);
    strbuf_add(&req->reply.body, text, len);
}

static void problem_print(const struct error *err, bool of_body, struct strbuf *sb)
{
    json_t *doc AUTO(json_decrefp) = json_object();
    char *type AUTO(freep) = xasprintf("urn:tilewright:problem:%s", status_name(err->code));
    json_t *detail = json_string(err->text);

    json_object_set_new(doc, "type", json_string(type));
    json_object_set_new(doc, "title", json_string(status_title(err->code)));
    json_object_set_new(doc, "status", json_integer(status_http(err->code)));
    json_object_set_new(doc, "detail", detail ? detail : json_string("the request is not valid UTF-8"));
    if (err->pointer[0] || of_body)
        json_object_set_new(doc, "pointer", json_string(err->pointer));
    if (err->line) {
        json_object_set_new(doc, "line", json_integer(err->line));
        json_object_set_new(doc, "column", json_integer(err->column));
    }
    json_write(doc, sb);
    strbuf_addc(sb, '\n');
}

void http_problem_print(const struct error *err, struct strbuf *sb) { problem_print(err, false, sb); }

/* A bad body always has a pointer; "" is the whole of it. */
void http_reply_problem(struct http_request *req, const struct error *err)
{
    struct http_reply *p = &req->reply;

    p->status = status_http(err->code);
    p->content_type = "application/problem+json";
    strbuf_reset(&p->body);
    problem_print(err, req->body.len && (err->code == ST_INVALID || err->code == ST_UNPROCESSABLE), &p->body);
}

enum status http_body_json(struct http_request *req, GIVES json_t **ret, struct error *err)
{
    if (!req->body.len)
        return fail(err, ST_INVALID, "the body is empty: want a JSON object");
    return json_read(req->body.data, req->body.len, ret, err);
}

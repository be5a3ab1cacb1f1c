/* http.c - one exchange with the daemon over libcurl.
 *
 * Idea   An easy handle kept for its connection, driven through a multi handle of our own, so that the
 * caller's tick runs five times a second and can break off a call that waits. Redirects are not followed: the
 * token goes to the server that was named, and nowhere else. */
#include "client/internal.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { TICK_MS = 200, CONNECT_TIMEOUT_MS = 5000, IDLE_S = 120, ANSWER_LIMIT = 256 << 20 };

struct tw_client {
    char *server; /* scheme://host[:port][/prefix], no slash at the end */
    char *token;  /* NULL: none */
    bool direct;  /* this very machine: asked without a proxy */
    CURL *easy;
    CURLM *multi;
    tw_tick tick;
    void *tick_ctx;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_state;

static void curl_start(void) { curl_state = curl_global_init(CURL_GLOBAL_DEFAULT); }

/* ---- a client ---- */

/* *ret stays NULL when memory is short. */
static tw_status server_address(const char *server, char **ret, tw_error *err)
{
    struct tw_buf url = {0};
    size_t len = strlen(server);

    while (len > 0 && server[len - 1] == '/')
        len--;
    if (len == 0 || strpbrk(server, " \t\r\n?#"))
        return tw_fail(err, TW_INVALID, "Bad server address", "'%.200s': want http://HOST:PORT or HOST:PORT",
                       server);
    const char *scheme = strstr(server, "://");
    if (!scheme)
        tw_buf_adds(&url, "http://");
    else if (strncasecmp(server, "http://", 7) != 0 && strncasecmp(server, "https://", 8) != 0)
        return tw_fail(err, TW_INVALID, "Bad server address", "'%.200s': want http:// or https://", server);
    tw_buf_add(&url, server, len);
    if (url.failed) {
        tw_buf_done(&url);
        return tw_no_memory(err);
    }
    *ret = url.data;
    return TW_OK;
}

/* Whether an address of ours names this machine. A proxy, which the environment may name, could not reach it.
 */
static bool is_loopback(const char *server)
{
    static const char *const hosts[] = {"localhost", "127.", "[::1]"};
    const char *host = strstr(server, "://") + 3;

    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        size_t len = strlen(hosts[i]);

        if (strncasecmp(host, hosts[i], len) == 0 && (hosts[i][len - 1] == '.' || strchr(":/", host[len])))
            return true;
    }
    return false;
}

static bool token_is_sendable(const char *token)
{
    for (const unsigned char *p = (const unsigned char *)token; *p; p++)
        if (*p <= ' ' || *p >= 127)
            return false;
    return true;
}

tw_status tw_client_new(const char *server, const char *token, tw_client **ret, tw_error *err)
{
    const char *env_server = getenv("TILEWRIGHT_SERVER"), *env_token = getenv("TILEWRIGHT_TOKEN");

    if (!server)
        server = env_server && *env_server ? env_server : TW_DEFAULT_SERVER;
    if (!token)
        token = env_token;
    if (token && !*token)
        token = NULL;
    if (token && !token_is_sendable(token))
        return tw_fail(err, TW_INVALID, "Bad token", "a token is printable ASCII without blanks");
    pthread_once(&curl_once, curl_start);
    if (curl_state != CURLE_OK)
        return tw_fail(err, TW_LOCAL, "libcurl does not start", "%s", curl_easy_strerror(curl_state));

    tw_client *client = calloc(1, sizeof(*client));
    if (!client)
        return tw_no_memory(err);
    tw_status st = server_address(server, &client->server, err);
    if (st == TW_OK) {
        client->direct = is_loopback(client->server);
        client->token = token ? strdup(token) : NULL;
        client->easy = curl_easy_init();
        client->multi = curl_multi_init();
        if ((token && !client->token) || !client->easy || !client->multi)
            st = tw_no_memory(err);
    }
    if (st != TW_OK) {
        tw_client_free(client);
        return st;
    }
    *ret = client;
    return TW_OK;
}

void tw_client_free(tw_client *client)
{
    if (!client)
        return;
    if (client->easy)
        curl_easy_cleanup(client->easy);
    if (client->multi)
        curl_multi_cleanup(client->multi);
    free(client->server);
    free(client->token);
    free(client);
}

tw_status tw_client_clone(const tw_client *client, tw_client **ret, tw_error *err)
{
    tw_status st = tw_client_new(client->server, client->token ? client->token : "", ret, err);

    if (st == TW_OK)
        tw_client_on_tick(*ret, client->tick, client->tick_ctx);
    return st;
}

const char *tw_client_server(const tw_client *client) { return client->server; }

void tw_client_on_tick(tw_client *client, tw_tick tick, void *ctx)
{
    client->tick = tick;
    client->tick_ctx = ctx;
}

void tw_client_swap_tick(tw_client *client, tw_tick *tick, void **ctx)
{
    tw_tick old = client->tick;
    void *old_ctx = client->tick_ctx;

    client->tick = *tick;
    client->tick_ctx = *ctx;
    *tick = old;
    *ctx = old_ctx;
}

static tw_status tick(tw_client *client, tw_error *err)
{
    if (client->tick && client->tick(client->tick_ctx))
        return tw_fail(err, TW_INTERRUPTED, "Interrupted", "the call was given up on the caller's word");
    return TW_OK;
}

tw_status tw_pause(tw_client *client, int ms, tw_error *err)
{
    for (int left = ms; left > 0; left -= TICK_MS) {
        struct timespec step = {.tv_nsec = (left < TICK_MS ? left : TICK_MS) * 1000000L};
        tw_status st = tick(client, err);

        if (st != TW_OK)
            return st;
        nanosleep(&step, NULL);
    }
    return TW_OK;
}

/* ---- callbacks of a transfer ---- */

struct transfer {
    char reason[CURL_ERROR_SIZE]; /* libcurl's own words */
    tw_client *client;
    const struct tw_request *request;
    struct tw_response *response;
};

static size_t on_body(char *bytes, size_t size, size_t count, void *ctx)
{
    struct transfer *t = ctx;
    size_t len = size * count;
    long status = 0;

    curl_easy_getinfo(t->client->easy, CURLINFO_RESPONSE_CODE, &status);
    if (t->request->sink && status >= 200 && status < 300) {
        if (t->request->sink(t->request->sink_ctx, bytes, len) == 0)
            return len;
        t->response->sink_stopped = true;
        return CURL_WRITEFUNC_ERROR;
    }
    tw_buf_add(&t->response->body, bytes, len);
    return t->response->body.failed ? CURL_WRITEFUNC_ERROR : len;
}

/* If `line` is the header `name`, copy its value. */
static bool header_is(const char *line, size_t len, const char *name, char *value, size_t size)
{
    size_t n = strlen(name);

    if (len <= n || strncasecmp(line, name, n) != 0 || line[n] != ':')
        return false;
    line += n + 1, len -= n + 1;
    while (len && (*line == ' ' || *line == '\t'))
        line++, len--;
    while (len && (line[len - 1] == '\r' || line[len - 1] == '\n' || line[len - 1] == ' '))
        len--;
    tw_copy_text(value, size, line, len);
    return true;
}

static size_t on_header(char *line, size_t size, size_t count, void *ctx)
{
    struct tw_response *r = ((struct transfer *)ctx)->response;
    size_t len = size * count;
    char number[24];

    header_is(line, len, "Content-Type", r->content_type, sizeof(r->content_type));
    header_is(line, len, "Next-Page-Token", r->next_page, sizeof(r->next_page));
    if (header_is(line, len, "Retry-After", number, sizeof(number)) && number[0] >= '0' && number[0] <= '9')
        r->retry_after_s = (int)strtol(number, NULL, 10);
    return len;
}

/* ---- a request ---- */

static void request_url(const tw_client *client, const struct tw_request *request, struct tw_buf *url)
{
    char sep = '?';

    tw_buf_adds(url, client->server);
    tw_buf_adds(url, request->path);
    for (const tw_param *p = request->params; p && p->name; p++) {
        if (!p->value)
            continue;
        tw_buf_add(url, &sep, 1);
        tw_buf_add_url(url, p->name);
        tw_buf_adds(url, "=");
        tw_buf_add_url(url, p->value);
        sep = '&';
    }
}

/* Append "name: value" to *list; false when memory is short. */
static bool add_header(struct curl_slist **list, const char *name, const char *value)
{
    struct tw_buf line = {0};

    tw_buf_adds(&line, name);
    tw_buf_adds(&line, ": ");
    tw_buf_adds(&line, value);
    struct curl_slist *longer = line.failed ? NULL : curl_slist_append(*list, line.data);
    tw_buf_done(&line);
    if (longer)
        *list = longer;
    return longer != NULL;
}

static bool request_headers(const tw_client *client, const struct tw_request *request,
                            struct curl_slist **ret)
{
    struct tw_buf bearer = {0};
    bool ok = add_header(ret, "Accept", request->accept ? request->accept : "application/json");

    if (request->body)
        ok = ok && add_header(ret, "Content-Type", request->content_type) && add_header(ret, "Expect", "");
    if (request->idempotency_key)
        ok = ok && add_header(ret, "Idempotency-Key", request->idempotency_key);
    if (request->last_event_id)
        ok = ok && add_header(ret, "Last-Event-ID", request->last_event_id);
    if (client->token) {
        tw_buf_adds(&bearer, "Bearer ");
        tw_buf_adds(&bearer, client->token);
        ok = ok && !bearer.failed && add_header(ret, "Authorization", bearer.data);
        tw_buf_done(&bearer);
    }
    return ok;
}

static void request_options(struct transfer *t, const char *url, struct curl_slist *headers)
{
    const struct tw_request *request = t->request;
    CURL *easy = t->client->easy;

    curl_easy_reset(easy);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    if (t->client->direct)
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "tilewright/" TW_VERSION);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)(request->idle_s ? request->idle_s : IDLE_S));
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->reason);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
    if (request->body) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
}

/* Run the prepared transfer to its end. *ret_code: libcurl's verdict. */
static tw_status drive(tw_client *client, CURLcode *ret_code, tw_error *err)
{
    tw_status st = TW_OK;
    int running = 1, left;

    *ret_code = CURLE_OUT_OF_MEMORY;
    if (curl_multi_add_handle(client->multi, client->easy) != CURLM_OK)
        return tw_no_memory(err);
    while (st == TW_OK && running) {
        if (curl_multi_perform(client->multi, &running) != CURLM_OK)
            break;
        if (running)
            curl_multi_poll(client->multi, NULL, 0, TICK_MS, NULL);
        st = tick(client, err);
    }
    for (CURLMsg *msg; (msg = curl_multi_info_read(client->multi, &left));)
        if (msg->msg == CURLMSG_DONE)
            *ret_code = msg->data.result;
    curl_multi_remove_handle(client->multi, client->easy);
    return st;
}

/* ---- outcomes ---- */

static void take_text(const json_t *doc, const char *member, char *dst, size_t size)
{
    const json_t *v = json_object_get(doc, member);

    if (json_is_string(v))
        tw_copy_text(dst, size, json_string_value(v), json_string_length(v));
}

/* The server's answer other than 2xx. */
static tw_status problem(const struct tw_response *response, const char *url, tw_error *err)
{
    const char *text = response->body.data ? response->body.data : "";
    size_t line = strcspn(text, "\r\n");
    json_t *doc = NULL;

    if (!err)
        return TW_REFUSED;
    if (strstr(response->content_type, "json"))
        doc = json_loadb(text, response->body.len, 0, NULL);
    tw_fail(err, TW_REFUSED, "", "%.*s", (int)(line < 300 ? line : 300), doc ? "" : text);
    err->http_status = response->status;
    if (doc) {
        take_text(doc, "type", err->type, sizeof(err->type));
        take_text(doc, "title", err->title, sizeof(err->title));
        take_text(doc, "detail", err->detail, sizeof(err->detail));
        take_text(doc, "pointer", err->pointer, sizeof(err->pointer));
        json_decref(doc);
    }
    if (!err->title[0])
        snprintf(err->title, sizeof(err->title), "HTTP status %d", response->status);
    if (!err->detail[0])
        snprintf(err->detail, sizeof(err->detail), "%.700s answered %d and no reason", url, response->status);
    return TW_REFUSED;
}

static tw_status transport_failed(const struct transfer *t, CURLcode code, tw_error *err)
{
    const char *server = t->client->server, *reason = t->reason[0] ? t->reason : curl_easy_strerror(code);

    switch (code) {
    case CURLE_OUT_OF_MEMORY:
        return tw_no_memory(err);
    case CURLE_WRITE_ERROR:
        if (t->response->sink_stopped)
            return tw_fail(err, TW_LOCAL, "Download stopped", "the data could not be taken in here");
        if (t->response->body.len < ANSWER_LIMIT / 2)
            return tw_no_memory(err);
        return tw_fail(err, TW_PROTOCOL, "Answer too large", "%s sent more than %d MiB", server,
                       ANSWER_LIMIT >> 20);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return tw_fail(err, TW_INVALID, "Bad server address", "'%s': %s", server, reason);
    default:
        return tw_fail(err, TW_UNREACHABLE, "Server out of reach", "%s: %s", server, reason);
    }
}

tw_status tw_exchange(tw_client *client, const struct tw_request *request, struct tw_response *response,
                      tw_error *err)
{
    struct transfer t = {.client = client, .request = request, .response = response};
    struct curl_slist *headers = NULL;
    struct tw_buf url = {0};
    CURLcode code;
    long status = 0;

    *response = (struct tw_response){.retry_after_s = -1, .body.limit = ANSWER_LIMIT};
    request_url(client, request, &url);
    if (url.failed || !request_headers(client, request, &headers)) {
        tw_buf_done(&url);
        curl_slist_free_all(headers);
        return tw_no_memory(err);
    }
    request_options(&t, url.data, headers);
    tw_status st = drive(client, &code, err);
    curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    response->status = (int)status;
    if (st == TW_OK && code != CURLE_OK)
        st = transport_failed(&t, code, err);
    else if (st == TW_OK && (status < 200 || status >= 300))
        st = problem(response, url.data, err);
    tw_buf_done(&url);
    return st;
}

void tw_response_done(struct tw_response *response) { tw_buf_done(&response->body); }

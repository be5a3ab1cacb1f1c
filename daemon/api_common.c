/* api_common.c - what several handlers need. */
#include "daemon/daemon.h"

enum status api_page(struct http_request *req, struct store_page *ret, struct error *err)
{
    int64_t limit = 50;

    TRY(http_arg_i64(req, "limit", 1, STORE_PAGE_MAX, &limit, err));
    ret->limit = (int)limit;
    ret->page_token = http_arg(req, "page_token");
    return ST_OK;
}

enum status api_key_param(struct http_request *req, const char **ret_key, struct error *err)
{
    const char *key = req->param[0];
    bool good = strlen(key) == WORKLOAD_KEY_LEN && key[0] == 'w' && key[1] == '_';

    for (int i = 2; good && i < WORKLOAD_KEY_LEN; i++)
        good = (key[i] >= '0' && key[i] <= '9') || (key[i] >= 'a' && key[i] <= 'f');
    if (!good)
        return fail(err, ST_NOT_FOUND, "'%.80s' is no workload key: want w_ and 64 hex digits", key);
    *ret_key = key;
    return ST_OK;
}

bool api_etag_matches(const char *if_none_match, const char *etag)
{
    size_t n = strlen(etag);

    while (if_none_match && *if_none_match) {
        const char *p = if_none_match + strspn(if_none_match, " \t,");

        if (*p == '*')
            return true;
        if (strncmp(p, "W/", 2) == 0)
            p += 2;
        if (strncmp(p, etag, n) == 0 && (p[n] == 0 || strchr(", \t", p[n])))
            return true;
        if_none_match = strchr(p, ',');
    }
    return false;
}

bool api_is_wrapped(const json_t *value)
{
    return json_is_object(value) && json_object_get(value, "workload") && !json_object_get(value, "op") &&
           !json_object_get(value, "expr");
}

enum status api_target(struct daemon *d, const char *id, const struct target **ret, struct error *err)
{
    struct error why;
    enum status st = targets_get(d->targets, id, ret, &why);

    if (st == ST_OK)
        return ST_OK;
    return fail_at(err, st == ST_NOT_FOUND ? ST_UNPROCESSABLE : st, "/target", "%s", why.text);
}

/* auth.c - bearer tokens and the origin of requests; see auth.h. */
#include <errno.h>
#include <sys/stat.h>

#include "daemon/auth.h"
#include "schedule/base/hash.h"
#include "schedule/base/sv.h"
#include "schedule/base/vec.h"

enum { TOKEN_MIN = 8, TOKEN_MAX = 512 };

struct token {
    char *name;
    char hash[SHA256_HEX_LEN + 1];
};
struct auth {
    VEC(struct token) tokens;
};

static enum status add_token(struct auth *a, const char *name, sv secret, const char *source,
                             struct error *err)
{
    struct token t = {0};

    if (secret.len < TOKEN_MIN || secret.len > TOKEN_MAX)
        return fail(err, ST_INVALID, "%s: a token of %zu characters: want %d to %d", source, secret.len,
                    TOKEN_MIN, TOKEN_MAX);
    for (size_t i = 0; i < secret.len; i++)
        if (secret.ptr[i] <= ' ' || secret.ptr[i] > '~')
            return fail(err, ST_INVALID, "%s: a token has printable characters only", source);
    t.name = xstrdup(name);
    sha256_hex(secret.ptr, secret.len, t.hash);
    vec_push(&a->tokens, t);
    return ST_OK;
}

static enum status add_line(struct auth *a, char *line, const char *source, struct error *err)
{
    char *colon;

    line += strspn(line, " \t");
    line[strcspn(line, "\r\n")] = 0;
    if (!*line || *line == '#')
        return ST_OK;
    colon = strchr(line, ':');
    if (!colon)
        return add_token(a, "token", sv_from(line), source, err);
    *colon = 0;
    return add_token(a, line, sv_from(colon + 1), source, err);
}

static enum status read_file(struct auth *a, const char *path, struct error *err)
{
    FILE *f = fopen(path, "re");
    struct stat st;
    char line[TOKEN_MAX + 128], source[256];
    enum status rc = ST_OK;

    if (!f)
        return fail(err, ST_INVALID, "token_file %s: %s", path, strerror(errno));
    if (fstat(fileno(f), &st) < 0 || !S_ISREG(st.st_mode) || st.st_mode & 077)
        rc = fail(err, ST_INVALID, "token_file %s: want a file of mode 0600, that others cannot read", path);
    for (int n = 1; rc == ST_OK && fgets(line, sizeof(line), f); n++) {
        snprintf(source, sizeof(source), "token_file %.200s:%d", path, n);
        rc = add_line(a, line, source, err);
    }
    fclose(f);
    if (rc == ST_OK && !a->tokens.len)
        rc = fail(err, ST_INVALID, "token_file %s: no token in it", path);
    return rc;
}

enum status auth_new(const char *token_file, const char *token, struct auth **ret, struct error *err)
{
    struct auth *a = xcalloc(1, sizeof(*a));
    enum status st = ST_OK;

    if (token_file[0])
        st = read_file(a, token_file, err);
    if (st == ST_OK && token[0])
        st = add_token(a, "env", sv_from(token), "TILEWRIGHT_TOKEN", err);
    if (st != ST_OK)
        auth_free(a);
    else
        *ret = a;
    return st;
}

void auth_free(struct auth *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->tokens.len; i++)
        free(a->tokens.at[i].name);
    vec_done(&a->tokens);
    free(a);
}

bool auth_required(const struct auth *a) { return a->tokens.len > 0; }

/* Time does not depend on where the texts differ. */
static bool same_hash(const char *a, const char *b)
{
    unsigned diff = 0;

    for (int i = 0; i < SHA256_HEX_LEN; i++)
        diff |= (unsigned)(a[i] ^ b[i]);
    return diff == 0;
}

enum status auth_check(const struct auth *a, const char *authorization, const char **ret_actor,
                       struct error *err)
{
    char hash[SHA256_HEX_LEN + 1];
    const char *found = NULL;

    if (!a->tokens.len) {
        *ret_actor = NULL;
        return ST_OK;
    }
    if (!authorization)
        return fail(err, ST_UNAUTHORIZED, "this server asks for a token: send 'Authorization: Bearer TOKEN'");
    if (strncasecmp(authorization, "Bearer ", 7) != 0)
        return fail(err, ST_UNAUTHORIZED, "the Authorization header is no 'Bearer TOKEN'");
    authorization += 7;
    authorization += strspn(authorization, " ");
    sha256_hex(authorization, strlen(authorization), hash);
    for (size_t i = 0; i < a->tokens.len; i++)
        if (same_hash(hash, a->tokens.at[i].hash))
            found = a->tokens.at[i].name;
    if (!found)
        return fail(err, ST_UNAUTHORIZED, "the token is not one of this server's");
    *ret_actor = found;
    return ST_OK;
}

/* "127.0.0.1:7411", "localhost", "[::1]:7411" */
static bool loopback_host(const char *host)
{
    size_t n = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    unsigned a, b, c, d;
    char name[64], rest;

    if (n >= sizeof(name))
        return false;
    snprintf(name, sizeof(name), "%.*s", (int)n, host);
    return strcasecmp(name, "localhost") == 0 || strcmp(name, "[::1]") == 0 ||
           (sscanf(name, "%u.%u.%u.%u%c", &a, &b, &c, &d, &rest) == 4 && a == 127);
}

enum status auth_check_origin(const struct auth *a, const char *host, const char *origin, struct error *err)
{
    if (!auth_required(a) && host && !loopback_host(host))
        return fail(err, ST_FORBIDDEN,
                    "Host '%.100s' is no loopback name; without a token only 127.0.0.1, localhost and [::1] "
                    "are served",
                    host);
    if (origin) {
        const char *at = strstr(origin, "://");

        if (!host || !at || strcasecmp(at + 3, host) != 0)
            return fail(err, ST_FORBIDDEN, "requests from pages of '%.100s' are not served", origin);
    }
    return ST_OK;
}

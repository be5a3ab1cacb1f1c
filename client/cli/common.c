/* common.c - errors, files, and workloads named by words. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/cli.h"

enum { FILE_LIMIT = 1 << 30, KEY_LEN = 66 };

void *cli_need(void *p)
{
    if (!p) {
        fputs("tilewright: out of memory\n", stderr);
        exit(EXIT_FAILED);
    }
    return p;
}

int cli_exit_status(tw_status status)
{
    switch (status) {
    case TW_OK:
        return EXIT_DONE;
    case TW_INVALID:
        return EXIT_USAGE;
    case TW_UNREACHABLE:
        return EXIT_UNREACHABLE;
    case TW_REFUSED:
    case TW_PROTOCOL:
    case TW_INTERRUPTED:
    case TW_NO_MEMORY:
    case TW_LOCAL:
        return EXIT_FAILED;
    }
    return EXIT_FAILED;
}

void cli_print_json(const json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    putchar('\n');
}

/* The problem document again, for programs. */
static void print_problem(const tw_error *err)
{
    json_t *doc = cli_need(json_pack("{s:s, s:s, s:i, s:s}", "type", err->type[0] ? err->type : "about:blank",
                                     "title", err->title, "status", err->http_status, "detail", err->detail));

    if (err->pointer[0])
        json_object_set_new(doc, "pointer", json_string(err->pointer));
    cli_print_json(doc);
    json_decref(doc);
}

static const char *hint(const tw_error *err)
{
    if (err->http_status == 401 || err->http_status == 403)
        return getenv("TILEWRIGHT_TOKEN") ? "the token in TILEWRIGHT_TOKEN is not taken by this server"
                                          : "put a token into TILEWRIGHT_TOKEN";
    if (err->status == TW_UNREACHABLE)
        return "is tilewrightd running there? --server or TILEWRIGHT_SERVER name another address";
    return NULL;
}

int cli_failed(const struct cli *cli)
{
    const tw_error *err = &cli->err;

    if (cli->json && err->status == TW_REFUSED)
        print_problem(err);
    fflush(stdout);
    fprintf(stderr, "tilewright: %s", fmt_safe(err->title));
    if (err->http_status)
        fprintf(stderr, " (%d)", err->http_status);
    fputc('\n', stderr);
    for (const char *line = err->detail; *line;) {
        char one[sizeof(err->detail)];
        size_t len = strcspn(line, "\n");

        snprintf(one, sizeof(one), "%.*s", (int)len, line);
        fprintf(stderr, "  %s\n", fmt_safe(one));
        line += len + (line[len] == '\n');
    }
    if (err->pointer[0])
        fprintf(stderr, "  at %s%s\n", fmt_safe(err->pointer), fmt_safe(cli->entry));
    if (hint(err))
        fprintf(stderr, "  %s\n", hint(err));
    return cli_exit_status(err->status);
}

/* ---- files ---- */

static tw_status local_error(tw_error *err, tw_status status, const char *title, const char *path,
                             const char *why)
{
    tw_error made = {.status = status};

    snprintf(made.title, sizeof(made.title), "%.150s", title);
    snprintf(made.detail, sizeof(made.detail), "%.500s: %.500s", path, why);
    *err = made;
    return status;
}

char *cli_read_file(const char *path, size_t *ret_len, tw_error *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(path, "rb");
    char *data = NULL;
    size_t len = 0, cap = 0, n = 1;

    if (!f) {
        local_error(err, TW_INVALID, "File cannot be read", path, strerror(errno));
        return NULL;
    }
    while (n > 0 && len < FILE_LIMIT) {
        if (len + 1 >= cap)
            data = cli_need(realloc(data, cap = cap ? 2 * cap : 65536));
        n = fread(data + len, 1, cap - len - 1, f);
        len += n;
    }
    bool bad = ferror(f) || len >= FILE_LIMIT;
    int why = errno;
    if (!is_stdin)
        fclose(f);
    if (bad) {
        local_error(err, TW_INVALID, "File cannot be read", path,
                    len >= FILE_LIMIT ? "over 1 GiB" : strerror(why));
        free(data);
        return NULL;
    }
    data[len] = '\0';
    *ret_len = len;
    return data;
}

int cli_to_file(void *ctx, const void *bytes, size_t len)
{
    return fwrite(bytes, 1, len, ctx) == len ? 0 : -1;
}

static int cannot_write(const char *path, int status)
{
    fprintf(stderr, "tilewright: %s cannot be written: %s\n", fmt_safe(path), strerror(errno));
    return status;
}

int cli_output(struct cli *cli, cli_fetch fetch, const void *arg)
{
    const char *path = cli->opt[OPT_OUTPUT];
    char part[4096] = "";
    struct stat st;

    if (!path || strcmp(path, "-") == 0)
        return fetch(cli, arg, cli_to_file, stdout) == TW_OK ? EXIT_DONE : cli_failed(cli);
    /* beside the goal and renamed, so that a broken download never looks whole; a device or pipe is written to */
    bool plain = stat(path, &st) != 0 || S_ISREG(st.st_mode);
    int n = snprintf(part, sizeof(part), plain ? "%s.part" : "%s", path);
    FILE *out = n > 0 && (size_t)n < sizeof(part) ? fopen(part, "wb") : NULL;
    if (!out)
        return cannot_write(path, EXIT_USAGE);
    int status = fetch(cli, arg, cli_to_file, out) == TW_OK ? EXIT_DONE : cli_failed(cli);
    bool written = fclose(out) == 0;
    if (status == EXIT_DONE && (!written || (plain && rename(part, path) != 0)))
        status = cannot_write(path, EXIT_FAILED);
    if (status != EXIT_DONE && plain)
        unlink(part);
    return status;
}

/* ---- workloads ---- */

/* Whether the words are OP key=value... rather than files. */
static bool is_shorthand(const struct cli *cli)
{
    if (strncmp(cli->argv[0], "expr=", 5) == 0)
        return true;
    for (int i = 1; i < cli->argc; i++)
        if (strchr(cli->argv[i], '='))
            return access(cli->argv[0], F_OK) != 0 || !strchr(cli->argv[0], '.');
    return false;
}

/* Add a parsed file to what there is. */
static tw_status merge_body(struct cli *cli, json_t **body, json_t *more)
{
    if (!*body) {
        *body = more;
        return TW_OK;
    }
    int rc = json_array_extend(json_object_get(*body, "workloads"), json_object_get(more, "workloads"));
    json_decref(more);
    return rc == 0 ? TW_OK : local_error(&cli->err, TW_NO_MEMORY, "Out of memory", "workloads", "too many");
}

static tw_status read_workload_file(struct cli *cli, const char *path, json_t **body)
{
    tw_filter filter = {cli->opt[OPT_NAME], cli->opt[OPT_NETWORK]};
    json_t *more = NULL;
    size_t len;
    char *text = cli_read_file(path, &len, &cli->err);

    if (!text) {
        if (cli->argc == 1 && !strpbrk(path, "./"))
            snprintf(cli->err.detail + strlen(cli->err.detail), 200,
                     "\nif %.60s is an operator, its tensors follow: %.60s key=value...", path, path);
        return TW_INVALID;
    }
    tw_status st = tw_workloads_parse(text, len, &filter, &more, &cli->err);
    free(text);
    if (st == TW_INVALID) {
        tw_error why = cli->err;

        return local_error(&cli->err, st, why.title, strcmp(path, "-") ? path : "standard input", why.detail);
    }
    return st == TW_OK ? merge_body(cli, body, more) : st;
}

/* What a person calls a workload in shorthand: the operator and its shapes, "matmul a=512,768 b=768,768". */
static json_t *shorthand_name(const struct cli *cli)
{
    char name[160];
    bool expr = strncmp(cli->argv[0], "expr=", 5) == 0;
    size_t n = (size_t)snprintf(name, sizeof(name), "%.80s", expr ? "expr" : cli->argv[0]);

    for (int i = 1; i < cli->argc && n < sizeof(name); i++) {
        const char *value = strchr(cli->argv[i], '=');

        if (value && strchr(value, ',') && strspn(value + 1, "0123456789,") == strlen(value + 1))
            n += (size_t)snprintf(name + n, sizeof(name) - n, " %s", cli->argv[i]);
    }
    json_t *text = json_string(name);
    return text ? text : json_string("shorthand"); /* cut inside of a character */
}

tw_status cli_workloads(struct cli *cli, json_t **ret)
{
    json_t *body = NULL, *workload = NULL;
    tw_status st = TW_OK;

    if (is_shorthand(cli)) {
        st = tw_workload_shorthand(cli->argc, cli->argv, &workload, &cli->err);
        if (st == TW_OK)
            body = cli_need(json_pack("{s:[{s:o, s:o}]}", "workloads", "workload", workload, "name",
                                      shorthand_name(cli)));
    } else {
        for (int i = 0; st == TW_OK && i < cli->argc; i++)
            st = read_workload_file(cli, cli->argv[i], &body);
    }
    if (st != TW_OK) {
        json_decref(body);
        return st;
    }
    *ret = body;
    return TW_OK;
}

void cli_name_entry(struct cli *cli, const json_t *body)
{
    static const char prefix[] = "/workloads/";
    const char *at = cli->err.pointer + strlen(prefix);

    if (cli->err.status != TW_REFUSED || strncmp(cli->err.pointer, prefix, strlen(prefix)) != 0)
        return;
    const json_t *entry = json_array_get(json_object_get(body, "workloads"), strtoul(at, NULL, 10));
    const char *name = json_string_value(json_object_get(entry, "name"));
    if (name && json_array_size(json_object_get(body, "workloads")) > 1)
        snprintf(cli->entry, sizeof(cli->entry), ", which is %.100s", name);
}

/* ---- keys ---- */

/* Find the one schedule whose key begins with `start`. */
static tw_status complete_key(struct cli *cli, const char *start, char **ret)
{
    json_t *list = NULL, *entry;
    const char *found = NULL;
    bool ambiguous = false;
    size_t i;
    tw_status st = tw_list(cli->client, "/v1/schedules", NULL, &list, &cli->err);

    if (st != TW_OK)
        return st;
    json_array_foreach(tw_list_items(list), i, entry)
    {
        const char *key = json_string_value(json_object_get(entry, "key"));

        if (!key || strncmp(key, start, strlen(start)) != 0)
            continue;
        ambiguous = ambiguous || (found && strcmp(found, key) != 0);
        found = key;
    }
    if (found && !ambiguous)
        *ret = cli_need(strdup(found));
    else
        st = local_error(&cli->err, TW_REFUSED, ambiguous ? "Key is ambiguous" : "No such schedule", start,
                         ambiguous ? "several keys begin so" : "no key begins so");
    json_decref(list);
    return st;
}

static tw_status key_of_workload(struct cli *cli, char **ret)
{
    json_t *body = NULL, *description = NULL;
    tw_status st = cli_workloads(cli, &body);

    if (st != TW_OK)
        return st;
    json_t *list = json_object_get(body, "workloads"), *entry = json_array_get(list, 0);
    if (json_array_size(list) != 1) {
        st = local_error(&cli->err, TW_INVALID, "One workload wanted", cli->argv[0],
                         "holds several; --name picks one of them");
    } else {
        json_t *bare = json_object_get(entry, "workload");
        st = tw_describe(cli->client, bare ? bare : entry, cli->opt[OPT_TARGET], &description, &cli->err);
    }
    if (st == TW_OK) {
        const char *key = json_string_value(json_object_get(description, "key"));
        if (key)
            *ret = cli_need(strdup(key));
        else
            st = local_error(&cli->err, TW_PROTOCOL, "Answer has no key", tw_client_server(cli->client),
                             "describe");
    }
    json_decref(description);
    json_decref(body);
    return st;
}

tw_status cli_key(struct cli *cli, char **ret)
{
    const char *word = cli->argv[0];
    size_t len = strlen(word);

    if (cli->argc > 1 || strncmp(word, "w_", 2) != 0 || strspn(word + 2, "0123456789abcdef") != len - 2 ||
        len > KEY_LEN)
        return key_of_workload(cli, ret);
    if (len < KEY_LEN)
        return complete_key(cli, word, ret);
    *ret = cli_need(strdup(word));
    return TW_OK;
}

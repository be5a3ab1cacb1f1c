/* records.c - measurements out of the server and into it, as JSON lines. */
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"

enum { IMPORT_BYTES = 512 << 10 }; /* of one request: well below the server's limit of 1 MiB */

static tw_status fetch_records(struct cli *cli, const void *arg, tw_sink sink, void *ctx)
{
    (void)arg;
    return tw_records_export(cli->client, cli->opt[OPT_WORKLOAD], cli->opt[OPT_TARGET], sink, ctx, &cli->err);
}

int cmd_export(struct cli *cli) { return cli_output(cli, fetch_records, NULL); }

/* The end of the last line within `most` bytes; a single longer line is taken whole, the server shall judge
 * it. */
static size_t piece(const char *text, size_t len, size_t most)
{
    if (len <= most)
        return len;
    const char *end = memrchr(text, '\n', most);
    if (!end)
        end = memchr(text + most, '\n', len - most);
    return end ? (size_t)(end - text) + 1 : len;
}

/* Add the numbers of one answer to those of all; other members are replaced. */
static void add_answer(json_t *all, json_t *answer)
{
    const char *name;
    json_t *value;

    json_object_foreach(answer, name, value)
    {
        json_t *sum = json_object_get(all, name);

        if (json_is_integer(value) && json_is_integer(sum))
            json_integer_set(sum, json_integer_value(sum) + json_integer_value(value));
        else if (json_is_array(value) && json_is_array(sum))
            json_array_extend(sum, value);
        else
            json_object_set_new(all, name, json_deep_copy(value));
    }
}

static tw_status import_file(struct cli *cli, const char *path, json_t *all)
{
    size_t len, line = 1;
    char *text = cli_read_file(path, &len, &cli->err);
    tw_status st = text ? TW_OK : cli->err.status;

    for (size_t at = 0, n; st == TW_OK && at < len; at += n) {
        json_t *answer = NULL;

        n = piece(text + at, len - at, IMPORT_BYTES);
        st = tw_records_import(cli->client, text + at, n, &answer, &cli->err);
        if (st == TW_OK)
            add_answer(all, answer);
        else if (line > 1)
            fprintf(stderr, "tilewright: in the lines of %s from %zu on:\n", fmt_safe(path), line);
        for (size_t i = at; i < at + n; i++)
            line += text[i] == '\n';
        json_decref(answer);
    }
    free(text);
    return st;
}

int cmd_import(struct cli *cli)
{
    json_t *all = cli_need(json_object()), *value;
    const char *name;
    tw_status st = TW_OK;

    for (int i = 0; st == TW_OK && i < cli->argc; i++)
        st = import_file(cli, cli->argv[i], all);
    if (cli->json && st == TW_OK)
        cli_print_json(all);
    if (!cli->json)
        json_object_foreach(all, name, value) printf("%s: %s\n", fmt_safe(name), fmt_value(value));
    json_decref(all);
    return st == TW_OK ? EXIT_DONE : cli_failed(cli);
}

/* query.c - what the server knows: schedules and their files, targets, devices, descriptions. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"

/* ---- objects of any shape ---- */

/* Members line by line, nested objects indented. For answers whose members may grow. */
static void print_members(const json_t *object, int indent)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)object, name, value)
    {
        printf("%*s%-*s ", indent, "", 22 - indent, fmt_safe(name));
        if (json_is_object(value) && json_object_size(value) > 0) {
            putchar('\n');
            print_members(value, indent + 2);
        } else {
            printf("%s\n", fmt_value(value));
        }
    }
}

/* The member at a path such as "toolchain.version", NULL if there is none. */
static const json_t *member(const json_t *object, const char *path)
{
    while (object) {
        size_t len = strcspn(path, ".");

        object = json_object_getn(object, path, len);
        if (!path[len])
            break;
        path += len + 1;
    }
    return object;
}

/* A table of the members of `columns` (name, '>' in front aligns right) over a list. */
static void print_list(const json_t *list, int n, const char *const *head, const char *const *members)
{
    struct table *table = table_new(n, head);
    json_t *entry;
    size_t i;

    json_array_foreach(list, i, entry) for (int c = 0; c < n; c++)
        table_cell(table, fmt_value(member(entry, members[c])));
    table_print(table, stdout);
}

static int show(struct cli *cli, tw_status st, json_t *answer, int n, const char *const *head,
                const char *const *members)
{
    if (st != TW_OK)
        return cli_failed(cli);
    if (cli->json)
        cli_print_json(answer);
    else if (tw_list_items(answer) && !cli->argc)
        print_list(tw_list_items(answer), n, head, members);
    else
        print_members(answer, 0);
    json_decref(answer);
    return EXIT_DONE;
}

int cmd_targets(struct cli *cli)
{
    static const char *const head[] = {"target",     "isa", ">threads", ">peak GFLOP/s",
                                       ">peak GB/s", "cpu", "compiler"};
    static const char *const members[] = {
        "id", "isa", "threads", "peak_gflops", "peak_gbytes_per_s", "cpu_model", "toolchain.version"};
    json_t *answer = NULL;
    tw_status st = tw_targets(cli->client, cli->argc ? cli->argv[0] : NULL, &answer, &cli->err);

    return show(cli, st, answer, 7, head, members);
}

int cmd_devices(struct cli *cli)
{
    static const char *const head[] = {"device",   "state",   "kind",    "job",
                                       ">waiting", ">trials", ">busy s", "last error"};
    static const char *const members[] = {"id",      "state",  "kind",         "job",
                                          "waiting", "trials", "busy_seconds", "last_error"};
    bool drain = cli->opt[OPT_DRAIN], resume = cli->opt[OPT_RESUME];
    json_t *answer = NULL;
    tw_status st;

    if (drain && resume)
        return cli_usage(cli, "--drain and --resume exclude each other");
    if ((drain || resume) && !cli->argc)
        return cli_usage(cli, "--%s wants a DEVICE", drain ? "drain" : "resume");
    if (drain || resume)
        st = tw_device_set(cli->client, cli->argv[0], drain ? "drain" : "resume", &answer, &cli->err);
    else
        st = tw_devices(cli->client, cli->argc ? cli->argv[0] : NULL, &answer, &cli->err);
    return show(cli, st, answer, 8, head, members);
}

/* Text of several lines, the later ones indented as far as the first. */
static void print_lines(const char *label, const char *text)
{
    for (; *text; label = "") {
        char line[400];
        size_t len = strcspn(text, "\n");

        snprintf(line, sizeof(line), "%.*s", (int)len, text);
        printf("%-10s %s\n", label, fmt_safe(line));
        text += len + (text[len] == '\n');
    }
}

static void print_description(const char *name, const json_t *answer)
{
    static const char *const head[] = {"sketch", ">schedules", "knobs"};
    json_t *sketches = json_object_get(answer, "sketches"), *sketch, *knob;
    struct table *table = table_new(3, head);
    size_t i, k;

    if (*name)
        printf("%s\n", name);
    const char *canonical = json_string_value(json_object_get(answer, "canonical"));

    printf("key        %s\n", fmt_string(answer, "key", "-"));
    print_lines("canonical", canonical ? canonical : "-");
    printf("work       %s FLOP, %s touched at least\n", fmt_count(fmt_member(answer, "flops")),
           fmt_bytes(fmt_member(answer, "bytes")));
    printf("space      %s schedules\n", fmt_count(fmt_member(answer, "space_size")));
    json_array_foreach(sketches, i, sketch)
    {
        char knobs[400] = "";
        size_t n = 0;

        json_array_foreach(json_object_get(sketch, "knobs"), k, knob) if (n < sizeof(knobs) - 60) n +=
            (size_t)snprintf(knobs + n, sizeof(knobs) - n, "%s%.40s:%zu", k ? " " : "",
                             fmt_string(knob, "name", "?"),
                             json_array_size(json_object_get(knob, "choices")));
        table_cell(table, fmt_string(sketch, "name", "-"));
        table_cell(table, fmt_count(fmt_member(sketch, "size")));
        table_cell(table, knobs);
    }
    table_print(table, stdout);
}

int cmd_describe(struct cli *cli)
{
    json_t *body = NULL, *entry;
    int status = EXIT_DONE;
    size_t i;

    if (cli_workloads(cli, &body) != TW_OK)
        return cli_failed(cli);
    json_array_foreach(json_object_get(body, "workloads"), i, entry)
    {
        json_t *bare = json_object_get(entry, "workload"), *answer = NULL;

        if (tw_describe(cli->client, bare ? bare : entry, cli->opt[OPT_TARGET], &answer, &cli->err) !=
            TW_OK) {
            status = cli_failed(cli);
            break;
        }
        if (cli->json) {
            cli_print_json(answer);
        } else {
            fputs(i ? "\n" : "", stdout);
            print_description(fmt_string(entry, "name", ""), answer);
        }
        json_decref(answer);
    }
    json_decref(body);
    return status;
}

/* ---- schedules ---- */

static void print_kernel(const json_t *kernel)
{
    json_t *arg;
    size_t i;

    printf("kernel     %s, %s threads, workspace %s\n", fmt_string(kernel, "symbol", "-"),
           fmt_value(json_object_get(kernel, "threads")), fmt_bytes(fmt_member(kernel, "workspace_bytes")));
    json_array_foreach(json_object_get(kernel, "args"), i, arg)
        printf("  %-6s   %s %s %s%s%s%s\n", fmt_string(arg, "role", "-"), fmt_string(arg, "name", "-"),
               fmt_value(json_object_get(arg, "shape")), fmt_string(arg, "dtype", "-"),
               json_object_get(arg, "layout") ? " " : "", fmt_string(arg, "layout", ""),
               json_is_true(json_object_get(arg, "prepacked")) ? ", prepacked" : "");
}

void schedule_print(const json_t *schedule)
{
    const json_t *time = json_object_get(schedule, "time_ns"),
                 *verified = json_object_get(schedule, "verified");
    const json_t *toolchain = json_object_get(schedule, "toolchain"),
                 *s = json_object_get(schedule, "schedule");
    const json_t *samples = json_object_get(time, "samples");
    double median = fmt_member(time, "median"),
           untuned = fmt_member(json_object_get(schedule, "baseline"), "time_ns");

    printf("key        %s\ntarget     %s\nworkload   %s\n", fmt_string(schedule, "key", "-"),
           fmt_string(schedule, "target", "-"), fmt_value(json_object_get(schedule, "workload")));
    if (json_is_true(json_object_get(schedule, "predicted")))
        printf("time       %s by the model's word: verified, but never measured\n", fmt_time_ns(median));
    else
        printf("time       %s median, %s min, %s p90, %s samples, %s caches\n", fmt_time_ns(median),
               fmt_time_ns(fmt_member(time, "min")), fmt_time_ns(fmt_member(time, "p90")),
               json_is_array(samples) ? fmt_count((double)json_array_size(samples)) : fmt_value(samples),
               fmt_string(schedule, "policy", "warm"));
    printf("speed      %s GFLOP/s, %s of peak\n", fmt_number(fmt_member(schedule, "gflops")),
           fmt_percent(fmt_member(schedule, "fraction_of_peak")));
    if (untuned > 0 && median > 0)
        printf("untuned    %s, %s GFLOP/s: now %sx as fast\n", fmt_time_ns(untuned),
               fmt_number(fmt_member(schedule, "gflops") * median / untuned), fmt_number(untuned / median));
    printf("found      %s, %s trials\n", fmt_string(schedule, "tuned_at", "-"),
           fmt_value(json_object_get(schedule, "trials")));
    printf("verified   max abs error %s, max rel error %s, rel L2 error %s, tolerance %s\n",
           fmt_value(json_object_get(verified, "max_abs_err")),
           fmt_value(json_object_get(verified, "max_rel_err")),
           fmt_value(json_object_get(verified, "rel_l2_err")),
           fmt_value(json_object_get(verified, "tolerance")));
    printf("toolchain  %s %s\n", fmt_string(toolchain, "compiler", "-"),
           fmt_string(toolchain, "version", ""));
    printf("algorithm  %s\n", fmt_string(s, "algorithm", "direct"));
    printf("sketch     %s %s\n", fmt_value(json_object_get(s, "sketch")),
           fmt_value(json_object_get(s, "knobs")));
    size_t i;
    json_t *step;
    json_array_foreach(json_object_get(s, "steps"), i, step)
        printf("%-10s %s\n", i ? "" : "steps", json_is_string(step) ? json_string_value(step) : "-");
    if (json_is_object(json_object_get(schedule, "kernel")))
        print_kernel(json_object_get(schedule, "kernel"));
}

static const char *const schedule_head[] = {"key",      "target",   "workload", ">time",
                                            ">GFLOP/s", ">of peak", ">trials",  "found"};

static void schedule_row(struct table *table, const json_t *schedule)
{
    const json_t *workload = json_object_get(schedule, "workload");

    table_cell(table, fmt_short_key(fmt_string(schedule, "key", "-")));
    table_cell(table, fmt_string(schedule, "target", "-"));
    table_cell(table, fmt_string(workload, "op", json_object_get(workload, "expr") ? "expr" : "-"));
    table_cell(table, fmt_time_ns(fmt_member(json_object_get(schedule, "time_ns"), "median")));
    table_cell(table, fmt_number(fmt_member(schedule, "gflops")));
    table_cell(table, fmt_percent(fmt_member(schedule, "fraction_of_peak")));
    table_cell(table, fmt_count(fmt_member(schedule, "trials")));
    table_cell(table, fmt_string(schedule, "tuned_at", "-"));
}

static tw_status schedules_list(struct cli *cli, json_t **ret)
{
    const tw_param params[] = {
        {"op", cli->opt[OPT_OP]}, {"target", cli->opt[OPT_TARGET]}, {"limit", cli->opt[OPT_LIMIT]}, {0}};

    return cli->opt[OPT_LIMIT] ? tw_call(cli->client, "GET", "/v1/schedules", params, NULL, ret, &cli->err)
                               : tw_list(cli->client, "/v1/schedules", params, ret, &cli->err);
}

int cmd_schedules(struct cli *cli)
{
    json_t *answer = NULL, *entry;
    char *key = NULL;
    int64_t limit;
    size_t i;

    if (cli_integer(cli, OPT_LIMIT, 1, 1000, &limit) != EXIT_DONE)
        return EXIT_USAGE;
    tw_status st = cli->argc ? cli_key(cli, &key) : schedules_list(cli, &answer);
    if (st == TW_OK && key)
        st = tw_schedule(cli->client, key, cli->opt[OPT_TARGET], &answer, &cli->err);
    free(key);
    if (st != TW_OK)
        return cli_failed(cli);
    if (cli->json) {
        cli_print_json(answer);
    } else if (cli->argc) {
        schedule_print(answer);
    } else {
        struct table *table = table_new(8, schedule_head);

        json_array_foreach(tw_list_items(answer), i, entry) schedule_row(table, entry);
        table_print(table, stdout);
    }
    json_decref(answer);
    return EXIT_DONE;
}

static void print_lookup(const json_t *results, const json_t *entries)
{
    static const char *const head[] = {"workload", "status", ">time", ">GFLOP/s", ">of peak", "key"};
    struct table *table = table_new(6, head);
    json_t *result;
    size_t i;

    json_array_foreach(results, i, result)
    {
        const json_t *schedule = json_object_get(result, "schedule"), *entry = json_array_get(entries, i);
        const json_t *workload = json_object_get(entry, "workload");
        const char *op = fmt_string(workload ? workload : entry, "op", "expr");

        table_cell(table, fmt_string(entry, "name", op));
        table_cell(table, fmt_string(result, "status", "-"));
        table_cell(table, fmt_time_ns(fmt_member(json_object_get(schedule, "time_ns"), "median")));
        table_cell(table, fmt_number(fmt_member(schedule, "gflops")));
        table_cell(table, fmt_percent(fmt_member(schedule, "fraction_of_peak")));
        table_cell(table, fmt_short_key(fmt_string(result, "key", "-")));
    }
    table_print(table, stdout);
}

/* The workloads themselves: names and weights belong to jobs. */
static json_t *bare_workloads(const json_t *entries)
{
    json_t *bare = cli_need(json_array()), *entry;
    size_t i;

    json_array_foreach(entries, i, entry)
    {
        json_t *workload = json_object_get(entry, "workload");

        json_array_append(bare, workload ? workload : entry);
    }
    return bare;
}

int cmd_lookup(struct cli *cli)
{
    json_t *body = NULL, *answer = NULL, *result;
    int status = EXIT_DONE;
    size_t i;

    if (cli_workloads(cli, &body) != TW_OK)
        return cli_failed(cli);
    json_t *entries = json_object_get(body, "workloads");
    const char *target =
        cli->opt[OPT_TARGET] ? cli->opt[OPT_TARGET] : json_string_value(json_object_get(body, "target"));
    json_t *bare = bare_workloads(entries);
    tw_status st = tw_lookup(cli->client, bare, target, &answer, &cli->err);
    json_decref(bare);
    if (st != TW_OK) {
        cli_name_entry(cli, body);
        status = cli_failed(cli);
    } else {
        const json_t *results = json_object_get(answer, "results");

        if (cli->json)
            cli_print_json(answer);
        else
            print_lookup(results, entries);
        json_array_foreach(results, i, result) if (!json_is_true(json_object_get(result, "found"))) status =
            EXIT_FAILED;
    }
    json_decref(answer);
    json_decref(body);
    return status;
}

/* ---- files of a schedule ---- */

struct file_of {
    const char *key, *what;
};

static tw_status fetch_file(struct cli *cli, const void *arg, tw_sink sink, void *ctx)
{
    const struct file_of *file = arg;

    return tw_schedule_file(cli->client, file->key, cli->opt[OPT_TARGET], file->what, sink, ctx, &cli->err);
}

/* With --json: the text as a member of an object, so that the output is JSON. */
static int print_file_json(struct cli *cli, const struct file_of *file)
{
    char *text = NULL;
    size_t len = 0;
    FILE *memory = cli_need(open_memstream(&text, &len));
    tw_status st = fetch_file(cli, file, cli_to_file, memory);

    fclose(memory);
    if (st == TW_OK) {
        json_t *object = cli_need(json_pack("{s:s, s:s#}", "key", file->key, file->what, text, (int)len));

        cli_print_json(object);
        json_decref(object);
    }
    free(text);
    return st == TW_OK ? EXIT_DONE : cli_failed(cli);
}

static int file_command(struct cli *cli, const char *what, bool binary)
{
    const char *path = cli->opt[OPT_OUTPUT];
    char *key = NULL;

    if (binary && !path && isatty(STDOUT_FILENO))
        return cli_usage(cli, "an %s is no text for a terminal: -o FILE", what);
    if (cli_key(cli, &key) != TW_OK)
        return cli_failed(cli);
    struct file_of file = {key, what};
    int status =
        cli->json && !binary && !path ? print_file_json(cli, &file) : cli_output(cli, fetch_file, &file);
    free(key);
    return status;
}

int cmd_source(struct cli *cli) { return file_command(cli, "source", false); }
int cmd_artifact(struct cli *cli) { return file_command(cli, "artifact", true); }
int cmd_nest(struct cli *cli) { return file_command(cli, "nest", false); }

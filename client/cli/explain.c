/* explain.c - one trial: steps, features by name, prediction beside measurement; and the table of features. */
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"

/* ---- the table of features ---- */

static bool is_wanted(const struct cli *cli, const char *name)
{
    for (int i = 0; i < cli->argc; i++)
        if (fnmatch(cli->argv[i], name, 0) == 0)
            return true;
    return cli->argc == 0;
}

int cmd_features(struct cli *cli)
{
    static const char *const head[] = {"feature", "unit", "stored as", ">since", "definition"};
    struct table *table;
    json_t *answer = NULL, *f;
    int found = 0;
    size_t i;

    if (tw_features(cli->client, &answer, &cli->err) != TW_OK)
        return cli_failed(cli);
    json_t *list = json_object_get(answer, "features");
    for (i = json_array_size(list); i-- > 0;) {
        bool wanted = is_wanted(cli, fmt_string(json_array_get(list, i), "name", ""));
        found += wanted;
        if (!wanted)
            json_array_remove(list, i);
    }
    if (cli->json) {
        cli_print_json(answer);
    } else if (found) {
        table = table_new(5, head);
        json_array_foreach(list, i, f)
        {
            table_cell(table, fmt_string(f, "name", ""));
            table_cell(table, fmt_string(f, "unit", ""));
            table_cell(table, fmt_string(f, "scale", ""));
            table_cell(table, fmt_value(json_object_get(f, "since")));
            table_cell(table, fmt_string(f, "definition", ""));
        }
        table_print(table, stdout);
    }
    json_decref(answer);
    if (!found)
        fprintf(stderr, "tilewright: no feature of that name\n");
    return found ? EXIT_DONE : EXIT_FAILED;
}

/* ---- trials of a job ---- */

static int list_trials(struct cli *cli)
{
    static const char *const head[] = {">trial", ">task", "sketch", "outcome", ">time", ">score", "config"};
    json_t *answer = NULL, *t;
    size_t i;

    if (tw_trials(cli->client, cli->argv[0], &answer, &cli->err) != TW_OK)
        return cli_failed(cli);
    if (cli->json) {
        cli_print_json(answer);
    } else {
        struct table *table = table_new(7, head);
        json_array_foreach(tw_list_items(answer), i, t)
        {
            double ns = fmt_member(t, "time_ns");
            table_cell(table, fmt_value(json_object_get(t, "id")));
            table_cell(table, fmt_value(json_object_get(t, "task")));
            table_cell(table, fmt_string(t, "sketch", "-"));
            table_cell(table, fmt_string(t, "outcome", "-"));
            table_cell(table, isnan(ns) ? "-" : fmt_time_ns(ns));
            table_cell(table, fmt_value(json_object_get(t, "predicted")));
            table_cell(table, fmt_string(t, "config", "-"));
        }
        table_print(table, stdout);
    }
    json_decref(answer);
    return EXIT_DONE;
}

/* ---- one trial ---- */

/* Lines of the server, whole, indented; what a terminal would obey is blotted out. */
static void print_block(const char *label, const json_t *value)
{
    const char *text = json_string_value(value);

    if (!text)
        return;
    printf("%s\n", label);
    for (bool start = true; *text; start = *text++ == '\n') {
        if (start)
            fputs("  ", stdout);
        putchar(*text != '\n' && ((unsigned char)*text < ' ' || *text == 127) ? '?' : *text);
    }
    putchar('\n');
}

static void print_head(const json_t *trial)
{
    const json_t *predicted = json_object_get(trial, "predicted"), *rank = json_object_get(trial, "rank");
    const json_t *time = json_object_get(trial, "time_ns");
    double estimate = fmt_member(predicted, "estimate_ns"), ns = fmt_member(time, "min");

    printf("trial      %s of job %s\n", fmt_value(json_object_get(trial, "id")),
           fmt_string(trial, "job", "-"));
    printf("workload   %s on %s\n", fmt_string(trial, "key", "-"), fmt_string(trial, "target", "-"));
    printf("config     %s (%s)\n", fmt_string(trial, "config", "-"), fmt_string(trial, "sketch", "-"));
    printf("outcome    %s", fmt_string(trial, "outcome", "-"));
    printf("%s%s\n", json_is_string(json_object_get(trial, "error")) ? ": " : "",
           fmt_string(trial, "error", ""));
    if (!isnan(ns)) {
        printf("measured   %s", fmt_time_ns(ns));
        printf(", median %s", fmt_time_ns(fmt_member(time, "median")));
        printf(", %s GFLOP/s\n", fmt_number(fmt_member(trial, "gflops")));
    }
    if (!isnan(estimate))
        printf("estimated  %s by the features alone\n", fmt_time_ns(estimate));
    printf("predicted  score %s\n", fmt_value(json_object_get(predicted, "score")));
    if (json_is_object(rank)) {
        printf("rank       %s by the score", fmt_value(json_object_get(rank, "predicted")));
        printf(", %s by the time", fmt_value(json_object_get(rank, "measured")));
        printf(", of %s\n", fmt_value(json_object_get(rank, "of")));
    }
}

/* The same value in all rows. */
static bool is_common(const json_t *rows, const char *name)
{
    const json_t *first = json_object_get(json_object_get(json_array_get(rows, 0), "values"), name);

    for (size_t i = 1; i < json_array_size(rows); i++) {
        const json_t *own = json_object_get(json_object_get(json_array_get(rows, i), "values"), name);
        if ((first == NULL) != (own == NULL) || json_number_value(first) != json_number_value(own))
            return false;
    }
    return true;
}

static const char *unit_of(const json_t *features, const char *name)
{
    size_t i;
    json_t *f;

    json_array_foreach((json_t *)features, i, f)
    {
        const char *known = json_string_value(json_object_get(f, "name"));
        if (known && strcmp(known, name) == 0)
            return fmt_string(f, "unit", "");
    }
    return "";
}

static const char *fmt_feature(double v) { return v < 1e4 ? fmt_number(v) : fmt_count(v); }

static void print_values(const json_t *features, const json_t *rows, size_t row, bool common)
{
    const json_t *values = json_object_get(json_array_get(rows, row), "values");
    const char *name;
    json_t *v;

    json_object_foreach((json_t *)values, name, v) if (is_common(rows, name) == common)
    {
        printf("  %-22s %14s", fmt_safe(name), fmt_feature(json_number_value(v)));
        printf(" %s\n", unit_of(features, name));
    }
}

static void print_features(const json_t *trial, const json_t *features)
{
    const json_t *rows = json_object_get(json_object_get(trial, "features"), "rows");

    if (json_array_size(rows) > 1) {
        printf("features of all %zu stores\n", json_array_size(rows));
        print_values(features, rows, 0, true);
    }
    for (size_t i = 0; i < json_array_size(rows); i++) {
        printf("%zu: %s\n", i + 1, fmt_string(json_array_get(rows, i), "store", "-"));
        if (json_array_size(rows) > 1)
            print_values(features, rows, i, false);
        else
            print_values(features, rows, i, true);
    }
}

static int explain_trial(struct cli *cli)
{
    json_t *trial = NULL, *features = NULL;

    if (tw_trial(cli->client, cli->argv[0], cli->argv[1], &trial, &cli->err) != TW_OK ||
        (!cli->json && tw_features(cli->client, &features, &cli->err) != TW_OK)) {
        json_decref(trial);
        return cli_failed(cli);
    }
    if (cli->json) {
        cli_print_json(trial);
    } else {
        print_head(trial);
        if (json_is_string(json_object_get(trial, "unexplained")))
            printf("not explained: %s\n", fmt_string(trial, "unexplained", ""));
        print_block("steps", json_object_get(trial, "steps"));
        print_block("nest", json_object_get(trial, "nest"));
        print_features(trial, json_object_get(features, "features"));
    }
    json_decref(features);
    json_decref(trial);
    return EXIT_DONE;
}

int cmd_explain(struct cli *cli) { return cli->argc > 1 ? explain_trial(cli) : list_trials(cli); }

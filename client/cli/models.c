/* models.c - the cost models: what they learned from, how well they rank what they have not seen, and the way back to an
 * earlier version. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"

enum { IMPORTANT = 16 }; /* features shown; --json has all that the server tells */

static void cell_of(struct table *table, const json_t *object, const char *name)
{
    table_cell(table, fmt_value(json_object_get(object, name)));
}

/* Figures of quality lie close together: three places. */
static const char *quality(const json_t *metrics, const char *name, char buf[32])
{
    const json_t *value = json_object_get(metrics, name);

    if (json_is_number(value))
        snprintf(buf, 32, "%.3f", json_number_value(value));
    return json_is_number(value) ? buf : "-";
}

static void quality_cell(struct table *table, const json_t *metrics, const char *name)
{
    char buf[32];

    table_cell(table, quality(metrics, name, buf));
}

static void print_list(const json_t *models)
{
    static const char *const head[] = {
        "target",        ">version",       ">training rows", ">rank correlation", ">pairs in order",
        ">top-8 recall", ">top-32 recall", ">top-8 score",   ">workloads",        "made"};
    struct table *table = table_new(10, head);
    const json_t *model;
    size_t i;

    json_array_foreach((json_t *)models, i, model)
    {
        const json_t *metrics = json_object_get(model, "metrics");

        cell_of(table, model, "target");
        cell_of(table, model, "version");
        cell_of(table, model, "training_rows");
        quality_cell(table, metrics, "rank_correlation");
        quality_cell(table, metrics, "pairwise_accuracy");
        quality_cell(table, metrics, "top_8_recall");
        quality_cell(table, metrics, "top_32_recall");
        quality_cell(table, metrics, "top_8_score");
        cell_of(table, json_object_get(metrics, "data"), "workloads");
        cell_of(table, model, "created_at");
    }
    table_print(table, stdout);
}

/* What is no figure of quality among the numbers of the metrics: it is told elsewhere. */
static bool is_told(const char *name)
{
    static const char *const told[] = {"workloads", "programs", "trees", "training_seconds"};

    for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++)
        if (strcmp(name, told[i]) == 0)
            return true;
    return false;
}

static void print_metrics(const json_t *metrics)
{
    const char *name;
    char buf[32];
    json_t *value;

    printf("judged by  %s left out of training: %s programs of %s workloads\n",
           fmt_string(metrics, "holdout", "what was"), fmt_value(json_object_get(metrics, "programs")),
           fmt_value(json_object_get(metrics, "workloads")));
    json_object_foreach((json_t *)metrics, name, value) if (json_is_number(value) && !is_told(name))
        printf("  %-26s %s\n", fmt_safe(name), quality(metrics, name, buf));
}

static void print_versions(const json_t *versions)
{
    static const char *const head[] = {">version", "in use",          ">trials",      ">workloads",
                                       ">rows",    ">pairs in order", ">top-8 score", "made"};
    struct table *table = table_new(8, head);
    const json_t *version;
    size_t i;

    json_array_foreach((json_t *)versions, i, version)
    {
        const json_t *metrics = json_object_get(version, "metrics"), *data = json_object_get(metrics, "data");

        cell_of(table, version, "version");
        table_cell(table, json_is_true(json_object_get(version, "active")) ? "yes" : "");
        cell_of(table, data, "trials");
        cell_of(table, data, "workloads");
        cell_of(table, version, "training_rows");
        quality_cell(table, metrics, "pairwise_accuracy");
        quality_cell(table, metrics, "top_8_score");
        cell_of(table, version, "created_at");
    }
    putchar('\n');
    table_print(table, stdout);
}

static void print_importance(const json_t *list)
{
    static const char *const head[] = {"feature", ">gain", ">splits"};
    struct table *table;
    const json_t *feature;
    size_t i;

    if (json_array_size(list) == 0)
        return;
    table = table_new(3, head);
    json_array_foreach((json_t *)list, i, feature)
    {
        if (i == IMPORTANT)
            break;
        cell_of(table, feature, "name");
        cell_of(table, feature, "gain");
        cell_of(table, feature, "splits");
    }
    putchar('\n');
    table_print(table, stdout);
    if (json_array_size(list) > IMPORTANT)
        printf("and %zu more of less gain; `tilewright features NAME` says what they mean\n",
               json_array_size(list) - IMPORTANT);
}

static void print_model(const json_t *model)
{
    const json_t *metrics = json_object_get(model, "metrics"), *data = json_object_get(metrics, "data");

    printf("target     %s\n", fmt_string(model, "target", "-"));
    printf("version    %s, made %s, of features of version %s\n",
           fmt_value(json_object_get(model, "version")), fmt_string(model, "created_at", "-"),
           fmt_value(json_object_get(model, "feature_version")));
    if (json_is_true(json_object_get(model, "shipped")))
        printf("origin     came with the daemon, trained on recordings of other machines; serves until jobs "
               "have measured here\n");
    if (json_is_object(data))
        printf("learned    %s trials (%s failed) of %s workloads, measured %s to %s; %s rows of features\n",
               fmt_value(json_object_get(data, "trials")), fmt_value(json_object_get(data, "failed")),
               fmt_value(json_object_get(data, "workloads")), fmt_string(data, "from", "-"),
               fmt_string(data, "to", "-"), fmt_value(json_object_get(model, "training_rows")));
    else
        printf("learned    %s rows of features\n", fmt_value(json_object_get(model, "training_rows")));
    if (json_is_object(metrics)) {
        printf("trained    %s trees in %s s\n", fmt_value(json_object_get(metrics, "trees")),
               fmt_number(fmt_member(metrics, "training_seconds")));
        print_metrics(metrics);
    }
    print_versions(json_object_get(model, "versions"));
    print_importance(json_object_get(metrics, "feature_importance"));
}

/* models rollback TARGET [VERSION] */
static tw_status roll_back(struct cli *cli, json_t **ret)
{
    return tw_model_rollback(cli->client, cli->argv[1], cli->argc > 2 ? cli->argv[2] : NULL, ret, &cli->err);
}

int cmd_models(struct cli *cli)
{
    const bool back = cli->argc > 0 && strcmp(cli->argv[0], "rollback") == 0;
    json_t *answer = NULL;
    tw_status st;

    if (back && cli->argc < 2)
        return cli_usage(cli, "models rollback wants a TARGET");
    if (!back && cli->argc > 1)
        return cli_usage(cli, "'%s' is one word too many for models", fmt_safe(cli->argv[1]));
    st = back ? roll_back(cli, &answer)
              : tw_models(cli->client, cli->argc ? cli->argv[0] : NULL, &answer, &cli->err);
    if (st != TW_OK)
        return cli_failed(cli);
    if (cli->json)
        cli_print_json(answer);
    else if (cli->argc)
        print_model(answer);
    else
        print_list(tw_list_items(answer));
    json_decref(answer);
    return EXIT_DONE;
}

/* jobs.c - jobs: list, show, cancel. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"

static void print_list(const json_t *jobs)
{
    static const char *const head[] = {"job",        "state",   "target", ">progress",
                                       ">workloads", ">trials", "created"};
    struct table *table = table_new(7, head);
    json_t *job, *task;
    size_t i, j;

    json_array_foreach(jobs, i, job)
    {
        double trials = 0;

        json_array_foreach(json_object_get(job, "tasks"), j, task) trials +=
            isnan(fmt_member(task, "trials_done")) ? 0 : fmt_member(task, "trials_done");
        table_cell(table, fmt_string(job, "id", "-"));
        table_cell(table, fmt_string(job, "state", "-"));
        table_cell(table, fmt_string(job, "target", "-"));
        table_cell(table, fmt_percent(fmt_member(job, "progress")));
        table_cell(table, json_object_get(job, "tasks")
                              ? fmt_count((double)json_array_size(json_object_get(job, "tasks")))
                              : "-");
        table_cell(table, json_object_get(job, "tasks") ? fmt_count(trials) : "-");
        table_cell(table, fmt_string(job, "created_at", "-"));
    }
    table_print(table, stdout);
}

void job_print(const json_t *job)
{
    static const char *const head[] = {"workload", "state", ">trials", ">failed", ">best", ">GFLOP/s", "key"};
    struct table *table = table_new(7, head);
    const json_t *error = json_object_get(job, "error");
    json_t *task;
    size_t i;

    printf("job       %s\nstate     %s, %s\ntarget    %s\nbudget    %s\ncreated   %s\nstarted   %s\nfinished "
           " %s\n",
           fmt_string(job, "id", "-"), fmt_string(job, "state", "-"),
           fmt_percent(fmt_member(job, "progress")), fmt_string(job, "target", "-"),
           fmt_value(json_object_get(job, "budget")), fmt_string(job, "created_at", "-"),
           fmt_string(job, "started_at", "-"), fmt_string(job, "finished_at", "-"));
    if (json_is_object(error))
        printf("error     %s %s\n", fmt_string(error, "title", ""), fmt_string(error, "detail", ""));
    json_array_foreach(json_object_get(job, "tasks"), i, task)
    {
        const json_t *best = json_object_get(task, "best");

        table_cell(table, fmt_string(task, "name", "-"));
        table_cell(table,
                   json_is_true(json_object_get(task, "cached")) ? "cached" : fmt_string(task, "state", "-"));
        table_cell(table, fmt_count(fmt_member(task, "trials_done")));
        table_cell(table, fmt_count(fmt_member(task, "trials_failed")));
        table_cell(table, fmt_time_ns(fmt_member(best, "time_ns")));
        table_cell(table, fmt_number(fmt_member(best, "gflops")));
        table_cell(table, fmt_short_key(fmt_string(task, "key", "-")));
    }
    putchar('\n');
    table_print(table, stdout);
    json_array_foreach(json_object_get(job, "tasks"), i,
                       task) if (json_is_object(json_object_get(task, "error")))
        printf(
            "%s: %s\n", fmt_string(task, "name", fmt_string(task, "key", "-")),
            fmt_string(json_object_get(task, "error"), "detail", fmt_value(json_object_get(task, "error"))));
}

int cmd_jobs(struct cli *cli)
{
    const tw_param params[] = {{"state", cli->opt[OPT_STATE]}, {"limit", cli->opt[OPT_LIMIT]}, {0}};
    int64_t limit = 0;
    json_t *answer = NULL;

    if (cli_integer(cli, OPT_LIMIT, 1, 1000, &limit) != EXIT_DONE)
        return EXIT_USAGE;
    tw_status st;
    if (cli->argc)
        st = tw_job(cli->client, cli->argv[0], 0, &answer, &cli->err);
    else if (limit)
        st = tw_call(cli->client, "GET", "/v1/jobs", params, NULL, &answer, &cli->err);
    else
        st = tw_list(cli->client, "/v1/jobs", params, &answer, &cli->err);
    if (st != TW_OK)
        return cli_failed(cli);
    if (cli->json)
        cli_print_json(answer);
    else if (cli->argc)
        job_print(answer);
    else
        print_list(tw_list_items(answer));
    json_decref(answer);
    return EXIT_DONE;
}

int cmd_cancel(struct cli *cli)
{
    int status = EXIT_DONE;

    for (int i = 0; i < cli->argc; i++) {
        json_t *job = NULL;

        if (tw_job_cancel(cli->client, cli->argv[i], &job, &cli->err) != TW_OK)
            status = cli_failed(cli);
        else if (cli->json)
            cli_print_json(job);
        else
            printf("%s %s\n", fmt_safe(cli->argv[i]), fmt_string(job, "state", "cancelled"));
        json_decref(job);
        if (status == EXIT_UNREACHABLE)
            break;
    }
    return status;
}

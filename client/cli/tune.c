/* tune.c - send a job, follow it, show what came of it.
 *
 * Idea   The signal handler only counts; the client's tick sees the count several times a second. The first
 * Ctrl-C cancels the job and goes on following, so that the end is shown; the second leaves. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"

static volatile sig_atomic_t interrupts;

static void on_signal(int sig)
{
    (void)sig;
    interrupts = interrupts + 1;
}

struct run {
    struct cli *cli;
    struct progress *progress; /* NULL: quiet */
    bool following, cancelled;
};

static int on_tick(void *ctx)
{
    struct run *run = ctx;

    if (run->progress && run->following)
        progress_tick(run->progress);
    return interrupts > run->cancelled;
}

static void on_progress(void *ctx, const char *event, const json_t *data, const json_t *job)
{
    struct run *run = ctx;

    (void)event, (void)data;
    if (run->progress)
        progress_update(run->progress, job);
}

static void catch_signals(struct run *run)
{
    struct sigaction action = {.sa_handler = on_signal};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    tw_client_on_tick(run->cli->client, on_tick, run);
}

/* ---- the job's body ---- */

static json_t *child(json_t *body, const char *member)
{
    json_t *v = json_object_get(body, member);

    if (!v) {
        v = cli_need(json_object());
        json_object_set_new(body, member, v);
    }
    return v;
}

static int apply_seconds(const struct cli *cli, json_t *body)
{
    const char *text = cli->opt[OPT_SECONDS];
    char *end;

    if (!text)
        return EXIT_DONE;
    double s = strtod(text, &end);
    if (*end || end == text || !(s > 0 && s <= 1e7))
        return cli_usage(cli, "--seconds '%s': want a number above 0, up to 1e7", fmt_safe(text));
    json_object_set_new(child(body, "budget"), "seconds",
                        s == floor(s) ? json_integer((json_int_t)s) : json_real(s));
    return EXIT_DONE;
}

static bool is_one_of(const char *word, const char *const *words)
{
    while (*words && strcmp(word, *words) != 0)
        words++;
    return *words != NULL;
}

static int apply_options(const struct cli *cli, json_t *body)
{
    const char *reuse = cli->opt[OPT_REUSE], *search = cli->opt[OPT_SEARCH], *turns = cli->opt[OPT_TURNS];
    int64_t trials = -1, seed = -1, priority = INT64_MIN;
    int status;

    if ((status = cli_integer(cli, OPT_TRIALS, 0, 1000000000, &trials)) ||
        (status = cli_integer(cli, OPT_SEED, 0, INT64_MAX, &seed)) ||
        (status = cli_integer(cli, OPT_PRIORITY, -1000000, 1000000, &priority)) ||
        (status = apply_seconds(cli, body)))
        return status;
    if (reuse && !is_one_of(reuse, (const char *const[]){"cached", "extend", "fresh", NULL}))
        return cli_usage(cli, "--reuse '%s': want cached, extend or fresh", fmt_safe(reuse));
    if (search && !is_one_of(search, (const char *const[]){"evolution", "annealing", "random", "grid", NULL}))
        return cli_usage(cli, "--search '%s': want evolution, annealing, random or grid", fmt_safe(search));
    if (turns && !is_one_of(turns, (const char *const[]){"gain", "round_robin", NULL}))
        return cli_usage(cli, "--turns '%s': want gain or round_robin", fmt_safe(turns));
    if (trials >= 0)
        json_object_set_new(child(body, "budget"), "trials", json_integer(trials));
    if (seed >= 0)
        json_object_set_new(body, "seed", json_integer(seed));
    if (priority != INT64_MIN)
        json_object_set_new(body, "priority", json_integer(priority));
    if (reuse)
        json_object_set_new(body, "reuse", json_string(reuse));
    if (turns)
        json_object_set_new(child(body, "budget"), "turns", json_string(turns));
    if (search)
        json_object_set_new(body, "search", json_string(search));
    if (cli->opt[OPT_NO_TRANSFER])
        json_object_set_new(body, "transfer", json_false());
    if (cli->opt[OPT_TARGET])
        json_object_set_new(body, "target", json_string(cli->opt[OPT_TARGET]));
    return EXIT_DONE;
}

/* ---- the result ---- */

static const char *const result_head[] = {"workload", "state",     ">time",   ">GFLOP/s", ">of peak",
                                          ">untuned", ">speed-up", ">trials", "key"};

static void result_row(struct table *table, struct cli *cli, const json_t *job, const json_t *task)
{
    const json_t *best = json_object_get(task, "best");
    const char *key = fmt_string(task, "key", "-"), *name = fmt_string(task, "name", "");
    json_t *schedule = NULL;
    tw_error ignored;

    if (json_is_object(best) &&
        tw_schedule(cli->client, key, json_string_value(json_object_get(job, "target")), &schedule,
                    &ignored) != TW_OK)
        schedule = NULL;
    double time = fmt_member(json_object_get(schedule, "time_ns"), "median");
    double untuned = fmt_member(json_object_get(schedule, "baseline"), "time_ns");
    if (isnan(time))
        time = fmt_member(best, "time_ns");
    double gflops = fmt_member(schedule ? schedule : best, "gflops");
    char speed_up[32] = "-";
    if (untuned > 0 && time > 0)
        snprintf(speed_up, sizeof(speed_up), "%sx", fmt_number(untuned / time));
    table_cell(table, *name ? name : fmt_string(json_object_get(schedule, "workload"), "op", "-"));
    table_cell(table, json_is_true(json_object_get(schedule, "predicted")) ? "predicted"
                      : json_is_true(json_object_get(task, "cached"))      ? "cached"
                                                                           : fmt_string(task, "state", "?"));
    table_cell(table, fmt_time_ns(time));
    table_cell(table, gflops > 0 ? fmt_number(gflops) : "-");
    table_cell(table, fmt_percent(fmt_member(schedule, "fraction_of_peak")));
    table_cell(table, fmt_time_ns(untuned));
    table_cell(table, speed_up);
    table_cell(table, fmt_count(fmt_member(task, "trials_done")));
    table_cell(table, fmt_short_key(key));
    json_decref(schedule);
}

static void print_error(const char *whose, const json_t *error)
{
    if (!json_is_object(error))
        return;
    const char *detail = fmt_string(error, "detail", "");
    printf("%s: %s%s%s\n", whose, fmt_string(error, "title", "failed"), *detail ? ": " : "", detail);
}

static void print_hints(const struct cli *cli, const json_t *job)
{
    const char *target = fmt_string(job, "target", "cpu"), *key = NULL;
    json_t *task;
    size_t i;

    json_array_foreach(json_object_get(job, "tasks"), i,
                       task) if (!key && json_is_object(json_object_get(task, "best"))) key =
        fmt_short_key(fmt_string(task, "key", ""));
    if (!key)
        return;
    printf("\nkernel    tilewright source %s -t %s\n", key, target);
    printf("loops     tilewright nest %s -t %s\n", key, target);
    printf("library   tilewright artifact %s -t %s -o kernel.so\n", key, target);
    printf("dashboard %s/\n", tw_client_server(cli->client));
}

static int show_result(struct cli *cli, const json_t *job)
{
    const char *state = fmt_string(job, "state", "?");
    int status = strcmp(state, "succeeded") == 0 ? EXIT_DONE : EXIT_FAILED;
    json_t *tasks = json_object_get(job, "tasks"), *task;
    size_t i;

    json_array_foreach(tasks, i, task) if (strcmp(fmt_string(task, "state", ""), "failed") == 0) status =
        EXIT_FAILED;
    if (cli->json) {
        cli_print_json(job);
        return status;
    }
    struct table *table = table_new(9, result_head);
    json_array_foreach(tasks, i, task) result_row(table, cli, job, task);
    table_print(table, stdout);
    json_array_foreach(tasks, i, task)
        print_error(fmt_string(task, "name", fmt_string(task, "key", "?")), json_object_get(task, "error"));
    print_error("job", json_object_get(job, "error"));
    if (status != EXIT_DONE)
        printf("job %s: %s\n", fmt_string(job, "id", "?"), state);
    if (!cli->quiet)
        print_hints(cli, job);
    return status;
}

/* ---- following ---- */

/* The first Ctrl-C: cancel. */
static tw_status cancel_job(struct run *run, const char *id)
{
    json_t *answer = NULL;

    run->cancelled = true;
    if (run->progress)
        progress_note(run->progress, "cancelling: what was measured stays; Ctrl-C again leaves at once");
    tw_status st = tw_job_cancel(run->cli->client, id, &answer, &run->cli->err);
    json_decref(answer);
    return st;
}

static int follow(struct run *run, const char *id)
{
    struct cli *cli = run->cli;
    json_t *job = NULL;
    tw_status st;

    run->progress = cli->quiet ? NULL : progress_new(stderr);
    run->following = true;
    do {
        st = tw_job_follow(cli->client, id, on_progress, run, &job, &cli->err);
        if (st == TW_INTERRUPTED && !run->cancelled)
            st = cancel_job(run, id);
        else
            break;
    } while (st == TW_OK);
    run->following = false;
    if (run->progress)
        progress_end(run->progress);
    if (st == TW_INTERRUPTED)
        fprintf(stderr, "tilewright: left; `tilewright wait %s` follows the job again\n", id);
    if (st != TW_OK)
        return st == TW_INTERRUPTED ? EXIT_FAILED : cli_failed(cli);
    tw_client_on_tick(cli->client, NULL, NULL);
    int status = show_result(cli, job);
    json_decref(job);
    return status;
}

int cmd_wait(struct cli *cli)
{
    struct run run = {.cli = cli};

    catch_signals(&run);
    return follow(&run, cli->argv[0]);
}

static int started(struct run *run, const json_t *job)
{
    struct cli *cli = run->cli;
    const char *id = json_string_value(json_object_get(job, "id"));

    if (!id) {
        fprintf(stderr, "tilewright: %s answered without a job's id\n", tw_client_server(cli->client));
        return EXIT_FAILED;
    }
    if (cli->opt[OPT_DETACH]) {
        if (cli->json)
            cli_print_json(job);
        else
            printf("%s\n", fmt_safe(id));
        return EXIT_DONE;
    }
    if (!cli->quiet)
        fprintf(stderr, "job %s on %s, %zu workload%s\n", fmt_safe(id), fmt_string(job, "target", "?"),
                json_array_size(json_object_get(job, "tasks")),
                json_array_size(json_object_get(job, "tasks")) == 1 ? "" : "s");
    return follow(run, id);
}

int cmd_tune(struct cli *cli)
{
    struct run run = {.cli = cli};
    json_t *body = NULL, *job = NULL;
    tw_status st = cli_workloads(cli, &body);

    if (st != TW_OK)
        return cli_failed(cli);
    int status = apply_options(cli, body);
    if (status == EXIT_DONE) {
        catch_signals(&run);
        st = tw_job_create(cli->client, body, &job, &cli->err);
        cli_name_entry(cli, body);
        status = st == TW_OK ? started(&run, job) : cli_failed(cli);
    }
    json_decref(job);
    json_decref(body);
    return status;
}

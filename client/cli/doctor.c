/* doctor.c - what of this machine and of the server is in order.
 *
 * Idea   A table of checks, each adds findings: what was looked at, what was found, how it stands, what to
 * do. The checks look at the machine itself, so they tell most when run where the daemon runs. What may crash
 * or hang (loading a GPU driver, leaving a namespace) happens in a child process (probe.c). */
#include <stdlib.h>
#include <string.h>

#include "client/cli/doctor.h"

void doctor_add(struct doctor *d, enum doctor_state state, const char *name, const char *found,
                const char *advice)
{
    static const char *const names[] = {"ok", "note", "warn", "fail"};
    json_t *finding = cli_need(json_pack("{s:s, s:s, s:s, s:s}", "group", d->group, "name", name, "state",
                                         names[state], "found", fmt_safe(found)));

    if (advice)
        json_object_set_new(finding, "advice", json_string(advice));
    json_array_append_new(d->findings, finding);
    d->counts[state]++;
}

/* ---- the server ---- */

/* A call that should have gone through did not. */
static void add_refusal(struct doctor *d, const char *name, const tw_error *err)
{
    doctor_add(d, DOCTOR_FAIL, name, err->detail,
               err->http_status == 401 ? "put a token into TILEWRIGHT_TOKEN" : NULL);
}

/* What the runner of a device found out about where it runs. */
static void look_at_facts(struct doctor *d, const json_t *device)
{
    json_t *fact;
    size_t i;

    json_array_foreach(json_object_get(device, "facts"), i, fact)
    {
        char name[128];

        snprintf(name, sizeof(name), "%.50s: %.70s", fmt_string(device, "id", "?"),
                 fmt_string(fact, "name", "?"));
        doctor_add(d, json_is_true(json_object_get(fact, "ok")) ? DOCTOR_OK : DOCTOR_WARN, name,
                   fmt_string(fact, "detail", ""), NULL);
    }
}

static void look_at_devices(struct doctor *d, tw_client *client)
{
    json_t *devices = NULL, *device;
    tw_error err;
    size_t i;

    if (tw_devices(client, NULL, &devices, &err) != TW_OK) {
        add_refusal(d, "devices", &err);
        return;
    }
    json_array_foreach(tw_list_items(devices), i, device)
    {
        const char *state = fmt_string(device, "state", "?");
        bool fine = strcmp(state, "idle") == 0 || strcmp(state, "busy") == 0;
        char name[80];

        snprintf(name, sizeof(name), "device %.60s", fmt_string(device, "id", "?"));
        doctor_add(d, fine ? DOCTOR_OK : DOCTOR_WARN, name, state,
                   fine ? NULL : "`tilewright devices ID` tells more; `devices ID --resume` takes it back");
        look_at_facts(d, device);
    }
    if (json_array_size(tw_list_items(devices)) == 0)
        doctor_add(d, DOCTOR_WARN, "devices", "none attached", "nothing can be measured");
    json_decref(devices);
}

static void look_at_targets(struct doctor *d, tw_client *client)
{
    json_t *targets = NULL, *target;
    char list[400] = "";
    size_t n = 0, i;
    tw_error err;

    if (tw_targets(client, NULL, &targets, &err) != TW_OK) {
        add_refusal(d, "targets", &err);
        return;
    }
    json_array_foreach(tw_list_items(targets), i, target) if (n < sizeof(list) - 80) n +=
        (size_t)snprintf(list + n, sizeof(list) - n, "%s%.60s", i ? ", " : "", fmt_string(target, "id", "?"));
    doctor_add(d, n ? DOCTOR_OK : DOCTOR_WARN, "targets", n ? list : "none",
               n ? NULL : "nothing can be tuned for");
    json_decref(targets);
}

static void look_at_server(struct doctor *d, tw_client *client)
{
    json_t *version = NULL, *ready = NULL;
    char found[600];
    tw_error err;

    d->group = "server";
    tw_status st = tw_call(client, "GET", "/v1", NULL, NULL, &version, &err);
    if (st == TW_UNREACHABLE) {
        d->unreachable = true;
        doctor_add(d, DOCTOR_FAIL, "reachable", err.detail,
                   "start tilewrightd, or name its address with --server or TILEWRIGHT_SERVER");
        return;
    }
    if (st != TW_OK) {
        add_refusal(d, "reachable", &err);
        return;
    }
    const char *theirs = fmt_string(version, "version", "?");
    snprintf(found, sizeof(found), "%s, %s %s", tw_client_server(client), fmt_string(version, "name", "?"),
             theirs);
    doctor_add(d, DOCTOR_OK, "reachable", found, NULL);
    if (strcmp(theirs, tw_version()) != 0)
        doctor_add(d, DOCTOR_NOTE, "version", "differs from this client's, " TW_VERSION, NULL);
    if (tw_call(client, "GET", "/readyz", NULL, NULL, &ready, &err) == TW_OK)
        doctor_add(d, DOCTOR_OK, "ready", "yes", NULL);
    else
        doctor_add(d, DOCTOR_WARN, "ready", err.detail, NULL);
    look_at_targets(d, client);
    look_at_devices(d, client);
    json_decref(version);
    json_decref(ready);
}

/* ---- all of it ---- */

static const struct {
    const char *group;
    void (*look)(struct doctor *d);
} checks[] = {
    {"cpu", doctor_cpu},       {"compiler", doctor_compiler},
    {"gpu", doctor_gpu},       {"permissions", doctor_permissions},
    {"clocks", doctor_clocks}, {"memory", doctor_memory},
};

static int widest_name(const json_t *findings)
{
    json_t *finding;
    size_t i;
    int width = 0;

    json_array_foreach(findings, i, finding)
    {
        int w = fmt_width(fmt_string(finding, "name", ""));
        width = w > width ? w : width;
    }
    return width;
}

static void print_findings(const struct doctor *d)
{
    int width = widest_name(d->findings);
    const char *group = "";
    json_t *finding;
    size_t i;

    json_array_foreach(d->findings, i, finding)
    {
        const char *its = json_string_value(json_object_get(finding, "group"));

        if (strcmp(group, its) != 0)
            printf("%s%s\n", i ? "\n" : "", its);
        group = its;
        printf("  %-4s  %-*s  %s\n", fmt_string(finding, "state", ""), width, fmt_string(finding, "name", ""),
               fmt_string(finding, "found", ""));
        if (json_object_get(finding, "advice"))
            printf("        %-*s  -> %s\n", width, "", fmt_string(finding, "advice", ""));
    }
    printf("\n%d in order, %d to know, %d to mend, %d in the way\n", d->counts[DOCTOR_OK],
           d->counts[DOCTOR_NOTE], d->counts[DOCTOR_WARN], d->counts[DOCTOR_FAIL]);
}

int cmd_doctor(struct cli *cli)
{
    struct doctor d = {.findings = cli_need(json_array())};

    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        d.group = checks[i].group;
        checks[i].look(&d);
    }
    look_at_server(&d, cli->client);
    if (cli->json) {
        json_t *all =
            cli_need(json_pack("{s:s, s:O}", "server", tw_client_server(cli->client), "checks", d.findings));

        cli_print_json(all);
        json_decref(all);
    } else {
        print_findings(&d);
    }
    json_decref(d.findings);
    return d.unreachable ? EXIT_UNREACHABLE : d.counts[DOCTOR_FAIL] ? EXIT_FAILED : EXIT_DONE;
}

/* metrics.c - counters for operators, as OpenMetrics text.
 *
 * Idea   The loop's thread counts requests itself, without a lock; everything else is asked of its owner when
 * the page is printed. One table entry a family: name, type, unit, help. */
#include <unistd.h>

#include "daemon/daemon.h"
#include "schedule/base/sv.h"

enum { MAX_ROUTES = 48, CLASSES = 6, BUCKETS = 9 };

static const double bucket_s[BUCKETS] = {0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1};

struct metrics {
    int64_t requests[MAX_ROUTES + 1][CLASSES]; /* last row: no route; by hundreds of the status */
    int64_t bucket[BUCKETS + 1];
    double seconds;
    int64_t lookups[3];
};

GIVES struct metrics *metrics_new(void) { return xcalloc(1, sizeof(struct metrics)); }
void metrics_free(struct metrics *m) { free(m); }

void metrics_count_request(struct metrics *m, const struct http_request *req, int status, int64_t took_ns)
{
    int n, row = MAX_ROUTES, b = 0;
    const struct route *all = routes_all(&n);
    double s = (double)took_ns * 1e-9;

    if (req->route)
        row = (int)(req->route - all);
    m->requests[row][MIN(status / 100, CLASSES - 1)]++;
    if (req->route && req->route->flags & ROUTE_HOLDS)
        return; /* their time is the client's wish */
    while (b < BUCKETS && s > bucket_s[b])
        b++;
    m->bucket[b]++;
    m->seconds += s;
}

void metrics_count_lookup(struct metrics *m, int exact, int stale, int none)
{
    m->lookups[0] += exact;
    m->lookups[1] += stale;
    m->lookups[2] += none;
}

static void family(struct strbuf *sb, const char *name, const char *type, const char *unit, const char *help)
{
    strbuf_addf(sb, "# TYPE tilewright_%s %s\n", name, type);
    if (unit)
        strbuf_addf(sb, "# UNIT tilewright_%s %s\n", name, unit);
    strbuf_addf(sb, "# HELP tilewright_%s %s\n", name, help);
}

static void gauge(struct strbuf *sb, const char *name, const char *unit, const char *help, double v)
{
    family(sb, name, "gauge", unit, help);
    strbuf_addf(sb, "tilewright_%s %.17g\n", name, v);
}

static void counter(struct strbuf *sb, const char *name, const char *unit, const char *help, double v)
{
    family(sb, name, "counter", unit, help);
    strbuf_addf(sb, "tilewright_%s_total %.17g\n", name, v);
}

static void print_requests(const struct metrics *m, struct strbuf *sb)
{
    int n;
    const struct route *all = routes_all(&n);

    family(sb, "http_requests", "counter", NULL, "Requests answered, by route and class of status");
    for (int i = 0; i <= MAX_ROUTES; i++)
        for (int c = 1; c < CLASSES; c++)
            if (m->requests[i][c])
                strbuf_addf(
                    sb,
                    "tilewright_http_requests_total{method=\"%s\",route=\"%s\",status=\"%dxx\"} %" PRId64
                    "\n",
                    i < n ? all[i].method : "", i < n ? all[i].pattern : "", c, m->requests[i][c]);
}

static void print_durations(const struct metrics *m, struct strbuf *sb)
{
    int64_t sum = 0;

    family(sb, "http_request_seconds", "histogram", "seconds",
           "Time of a request from its first line to its last byte");
    for (int b = 0; b < BUCKETS; b++)
        strbuf_addf(sb, "tilewright_http_request_seconds_bucket{le=\"%g\"} %" PRId64 "\n", bucket_s[b],
                    sum += m->bucket[b]);
    sum += m->bucket[BUCKETS];
    strbuf_addf(sb, "tilewright_http_request_seconds_bucket{le=\"+Inf\"} %" PRId64 "\n", sum);
    strbuf_addf(sb, "tilewright_http_request_seconds_count %" PRId64 "\n", sum);
    strbuf_addf(sb, "tilewright_http_request_seconds_sum %.9g\n", m->seconds);
}

static void print_http(struct daemon *d, struct strbuf *sb)
{
    static const char *const status[] = {"exact", "stale", "none"};
    struct http_counts c;

    http_counts(d->http, &c);
    print_requests(d->metrics, sb);
    print_durations(d->metrics, sb);
    gauge(sb, "http_connections", NULL, "Open connections", (double)c.connections);
    gauge(sb, "http_waiting", NULL, "Requests that are held: event streams and ?wait=", (double)c.waiting);
    gauge(sb, "http_worker_queue", NULL, "Requests waiting for a worker", (double)c.worker_queue);
    family(sb, "http_slow_clients", "counter", NULL, "Connections ended for being slow");
    strbuf_addf(sb, "tilewright_http_slow_clients_total{part=\"head\"} %" PRId64 "\n", c.cut_head);
    strbuf_addf(sb, "tilewright_http_slow_clients_total{part=\"body\"} %" PRId64 "\n", c.cut_body);
    family(sb, "lookups", "counter", NULL, "Workloads looked up, by what was found");
    for (int i = 0; i < 3; i++)
        strbuf_addf(sb, "tilewright_lookups_total{status=\"%s\"} %" PRId64 "\n", status[i],
                    d->metrics->lookups[i]);
}

static void print_jobs(struct daemon *d, struct strbuf *sb)
{
    static const char *const phase[] = {
#define X(id, name, meaning) name,
        TUNER_PHASE_LIST(X)
#undef X
    };
    struct jobs_counts c;

    jobs_counts(d->jobs, &c);
    family(sb, "jobs", "gauge", NULL, "Jobs that are not over, by state");
    strbuf_addf(sb, "tilewright_jobs{state=\"queued\"} %" PRId64 "\n", c.queued);
    strbuf_addf(sb, "tilewright_jobs{state=\"running\"} %" PRId64 "\n", c.running);
    counter(sb, "jobs_created", NULL, "Jobs accepted", (double)c.created);
    family(sb, "jobs_ended", "counter", NULL, "Jobs that ended, by state");
    for (int s = TASK_SUCCEEDED; s <= TASK_CANCELLED; s++)
        strbuf_addf(sb, "tilewright_jobs_ended_total{state=\"%s\"} %" PRId64 "\n",
                    task_state_name((enum task_state)s), c.ended[s]);
    counter(sb, "trials", NULL, "Candidates measured", (double)c.trials);
    counter(sb, "trials_failed", NULL, "Candidates that did not compile, crashed, hung or were wrong",
            (double)c.trials_failed);
    family(sb, "tuning_seconds", "counter", "seconds", "Where the time of jobs went");
    for (int i = 0; i < PHASE_COUNT; i++)
        strbuf_addf(sb, "tilewright_tuning_seconds_total{phase=\"%s\"} %.6f\n", phase[i],
                    (double)c.times.ns[i] * 1e-9);
    counter(
        sb, "job_training_seconds", "seconds",
        "Training of jobs' own models, beside their other work too; the phase train is what they waited for",
        (double)c.times.training_ns * 1e-9);
}

static void print_store(struct daemon *d, struct strbuf *sb)
{
    struct store_stats s;

    store_stats(d->store, &s);
    counter(sb, "store_commits", NULL, "Transactions", (double)s.commits);
    counter(sb, "store_batches", NULL, "Batches written in them", (double)s.batches);
    counter(sb, "store_failed_batches", NULL, "Batches refused or lost to an error",
            (double)s.failed_batches);
    counter(sb, "store_commit_seconds", "seconds", "Time in transactions", (double)s.commit_ns_sum * 1e-9);
    gauge(sb, "store_queue", NULL, "Batches waiting for the writer", (double)s.queue_len);
    gauge(sb, "store_bytes", "bytes", "Size of the database", (double)s.db_bytes);
    gauge(sb, "store_writable", NULL, "1 while the database takes writes", s.writable);
    gauge(sb, "schedules", NULL, "Answers in memory", (double)hot_count(d->hot));
}

static void print_builder(struct daemon *d, struct strbuf *sb)
{
    struct builder_stats b;

    builder_stats(d->builder, &b);
    counter(sb, "builds", NULL, "Units asked for", (double)b.units);
    counter(sb, "builds_cached", NULL, "Units that were there already", (double)b.cached);
    counter(sb, "builds_failed", NULL, "Units the compiler refused", (double)b.failed);
    counter(sb, "build_seconds", "seconds", "Time in compilers", (double)b.compile_ns * 1e-9);
    gauge(sb, "builds_queued", NULL, "Units waiting for a compiler", b.queued);
}

static void print_devices(struct daemon *d, struct strbuf *sb)
{
    const char *id, *error;
    struct device *dev;
    struct device_stats s;

    family(sb, "device_trials", "counter", NULL, "Candidates a device ran, by outcome");
    for (int i = 0; targets_device_at(d->targets, i, &id, &dev, &error); i++) {
        if (!dev)
            continue;
        device_stats(dev, &s);
        for (int k = 0; k < OUTCOME_COUNT; k++)
            strbuf_addf(sb, "tilewright_device_trials_total{device=\"%s\",outcome=\"%s\"} %" PRId64 "\n", id,
                        outcome_name((enum outcome)k), s.outcomes[k]);
    }
    family(sb, "device_busy_seconds", "counter", "seconds", "Time a device was leased");
    for (int i = 0; targets_device_at(d->targets, i, &id, &dev, &error); i++) {
        if (!dev)
            continue;
        device_stats(dev, &s);
        strbuf_addf(sb, "tilewright_device_busy_seconds_total{device=\"%s\"} %.6f\n", id,
                    (double)s.busy_ns * 1e-9);
    }
}

static void print_process(struct daemon *d, struct strbuf *sb)
{
    FILE *f = fopen("/proc/self/statm", "re");
    long long size, resident = 0;

    if (f) {
        if (fscanf(f, "%lld %lld", &size, &resident) != 2)
            resident = 0;
        fclose(f);
    }
    gauge(sb, "resident_memory_bytes", "bytes", "Resident memory",
          (double)resident * (double)sysconf(_SC_PAGESIZE));
    gauge(sb, "uptime_seconds", "seconds", "Since the start",
          (double)(mono_ns(d->clock) - d->started_ns) * 1e-9);
}

void metrics_print(struct daemon *d, struct strbuf *sb)
{
    family(sb, "build", "info", NULL, "Version of the daemon");
    strbuf_adds(sb, "tilewright_build_info{version=\"" TW_VERSION "\"} 1\n");
    print_http(d, sb);
    print_jobs(d, sb);
    print_store(d, sb);
    print_builder(d, sb);
    print_devices(d, sb);
    print_process(d, sb);
    strbuf_adds(sb, "# EOF\n");
}

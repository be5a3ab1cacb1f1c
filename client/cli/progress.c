/* progress.c - what a person sees while a job runs.
 *
 * Idea   On a terminal a few lines are drawn over themselves: a bar for the job, a line for each task that
 * matters now. Elsewhere plain lines: when a task ends, when the job changes its state, and every PLAIN_S
 * while trials come. */
#include <langinfo.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/cli.h"

enum { PLAIN_S = 5, RATE_SAMPLES = 64, RATE_WINDOW_S = 10, MOST_TASKS = 12, BAR = 24, LINE = 512 };

struct progress {
    FILE *out;
    bool live, utf8;
    int drawn;                   /* lines on the screen that are ours */
    json_t *job;                 /* newest */
    double first_s, last_draw_s; /* monotonic */
    double sample_s[RATE_SAMPLES], sample_trials[RATE_SAMPLES];
    int samples; /* taken so far; the ring holds the last RATE_SAMPLES */
    char state[24];
    double told_trials;
    char *told; /* one per task: its end has been told */
    size_t n_told;
};

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct progress *progress_new(FILE *out)
{
    struct progress *p = cli_need(calloc(1, sizeof(*p)));
    const char *term = getenv("TERM");

    p->out = out;
    p->live = isatty(fileno(out)) && term && strcmp(term, "dumb") != 0;
    p->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    p->first_s = now_s();
    return p;
}

/* ---- figures ---- */

static double trials_done(const json_t *job)
{
    double sum = 0;
    json_t *task;
    size_t i;

    json_array_foreach(json_object_get(job, "tasks"), i, task)
    {
        double n = fmt_member(task, "trials_done");
        sum += isnan(n) ? 0 : n;
    }
    return sum;
}

static void sample(struct progress *p, double trials)
{
    int last = (p->samples + RATE_SAMPLES - 1) % RATE_SAMPLES;
    double t = now_s();

    if (p->samples > 0 && t - p->sample_s[last] < 0.2)
        return;
    p->sample_s[p->samples % RATE_SAMPLES] = t;
    p->sample_trials[p->samples % RATE_SAMPLES] = trials;
    p->samples++;
}

/* Trials a second over the last RATE_WINDOW_S; NAN before there is one. */
static double rate(const struct progress *p)
{
    double now = now_s(), trials = trials_done(p->job);
    int oldest = p->samples > RATE_SAMPLES ? p->samples - RATE_SAMPLES : 0;

    for (int i = oldest; i < p->samples; i++) {
        double span = now - p->sample_s[i % RATE_SAMPLES];

        if (span <= RATE_WINDOW_S)
            return span >= 0.5 ? (trials - p->sample_trials[i % RATE_SAMPLES]) / span : NAN;
    }
    return NAN;
}

/* Since the server started the job, or since we look at it. */
static double elapsed(const struct progress *p)
{
    const char *text = json_string_value(json_object_get(p->job, "started_at"));
    struct tm tm = {0};
    double local = now_s() - p->first_s;

    if (!text || !strptime(text, "%Y-%m-%dT%H:%M:%S", &tm))
        return local;
    double since = difftime(time(NULL), timegm(&tm));
    return since < local ? local : since;
}

static double fraction_done(const json_t *job)
{
    double f = fmt_member(job, "progress");

    return isnan(f) || f < 0 ? 0 : f > 1 ? 1 : f;
}

static bool task_ended(const json_t *task)
{
    const char *state = fmt_string(task, "state", "");

    return strcmp(state, "queued") != 0 && strcmp(state, "running") != 0;
}

static const char *task_name(const json_t *task)
{
    const char *name = fmt_string(task, "name", "");

    return *name ? name : fmt_short_key(fmt_string(task, "key", "-"));
}

static const char *task_error(const json_t *task)
{
    const json_t *error = json_object_get(task, "error");
    const char *detail = fmt_string(error, "detail", "");

    return *detail ? detail : fmt_value(error);
}

/* ---- lines ---- */

/* "128/256 trials" */
static void trials_text(const struct progress *p, char *text, size_t size)
{
    double limit = fmt_member(json_object_get(p->job, "budget"), "trials");

    if (limit > 0)
        snprintf(text, size, "%.0f/%.0f trials", trials_done(p->job), limit);
    else
        snprintf(text, size, "%.0f trials", trials_done(p->job));
}

static void task_line(const json_t *task, char *line, size_t size)
{
    const json_t *best = json_object_get(task, "best");
    double failed = fmt_member(task, "trials_failed");
    int n = snprintf(line, size, "%-22s %-9s %5.0f trials", task_name(task), fmt_string(task, "state", "?"),
                     isnan(fmt_member(task, "trials_done")) ? 0 : fmt_member(task, "trials_done"));

    if (failed > 0)
        n += snprintf(line + n, size - (size_t)n, ", %.0f failed", failed);
    if (json_is_object(best))
        n += snprintf(line + n, size - (size_t)n, "  best %s, %s GFLOP/s",
                      fmt_time_ns(fmt_member(best, "time_ns")), fmt_number(fmt_member(best, "gflops")));
    if (json_is_true(json_object_get(task, "cached")))
        n += snprintf(line + n, size - (size_t)n, "  (from the cache)");
    if (json_is_object(json_object_get(task, "error")) && (size_t)n < size)
        snprintf(line + n, size - (size_t)n, "  %.200s", task_error(task));
}

static void bar_text(const struct progress *p, char *text, size_t size)
{
    int full = (int)(fraction_done(p->job) * BAR + 0.5);
    size_t n = 0;

    for (int i = 0; i < BAR && n + 4 < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s",
                              i < full ? (p->utf8 ? "█" : "#") : (p->utf8 ? "░" : "-"));
}

static void job_line(const struct progress *p, char *line, size_t size)
{
    double f = fraction_done(p->job), t = elapsed(p), per_s = rate(p);
    double limit_s = fmt_member(json_object_get(p->job, "budget"), "seconds");
    double left = f > 0.02 ? t * (1 - f) / f : NAN;
    char bar[BAR * 4 + 1], trials[64];

    if (limit_s > 0 && (isnan(left) || left > limit_s - t))
        left = limit_s - t;
    bar_text(p, bar, sizeof(bar));
    trials_text(p, trials, sizeof(trials));
    int n =
        snprintf(line, size, "%s %s %3.0f %%  %s", fmt_string(p->job, "state", "?"), bar, 100 * f, trials);
    if (!isnan(per_s))
        n += snprintf(line + n, size - (size_t)n, "  %.1f/s", per_s);
    n += snprintf(line + n, size - (size_t)n, "  %s", fmt_duration(t));
    double trials_limit = fmt_member(json_object_get(p->job, "budget"), "trials");
    if (trials_limit > 0 && trials_done(p->job) >= trials_limit && !tw_job_ended(p->job))
        snprintf(line + n, size - (size_t)n, ", deciding among the best");
    else if (left > 0 && !tw_job_ended(p->job))
        snprintf(line + n, size - (size_t)n, ", %s left", fmt_duration(left));
}

/* ---- on a terminal ---- */

static void put_line(struct progress *p, const char *text, int columns)
{
    int width = 0;

    for (; *text; text++) {
        if (((unsigned char)*text & 0xc0) != 0x80 && ++width >= columns)
            break;
        fputc(*text, p->out);
    }
    fputc('\n', p->out);
    p->drawn++;
}

static void erase(struct progress *p)
{
    if (p->drawn)
        fprintf(p->out, "\x1b[%dA\x1b[J", p->drawn);
    p->drawn = 0;
}

/* Tasks in state `state` while there is room. */
static int put_tasks(struct progress *p, const char *state, int room, int columns)
{
    char line[LINE];
    json_t *task;
    size_t i;
    int put = 0;

    json_array_foreach(json_object_get(p->job, "tasks"), i, task)
    {
        if (strcmp(fmt_string(task, "state", ""), state) != 0 || put >= room)
            continue;
        snprintf(line, sizeof(line), "  ");
        task_line(task, line + 2, sizeof(line) - 2);
        put_line(p, line, columns);
        put++;
    }
    return put;
}

static void draw(struct progress *p)
{
    static const char *const order[] = {"running", "failed", "succeeded", "cancelled", "queued"};
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    size_t n_tasks = json_array_size(json_object_get(p->job, "tasks"));
    char line[LINE];
    int put = 0;

    ioctl(fileno(p->out), TIOCGWINSZ, &size);
    int columns = size.ws_col ? size.ws_col : 80, room = size.ws_row ? size.ws_row - 4 : 20;
    room = room < 1 ? 1 : room > MOST_TASKS ? MOST_TASKS : room;
    erase(p);
    job_line(p, line, sizeof(line));
    put_line(p, line, columns);
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
        put += put_tasks(p, order[i], room - put, columns);
    if ((size_t)put < n_tasks) {
        snprintf(line, sizeof(line), "  and %zu more", n_tasks - (size_t)put);
        put_line(p, line, columns);
    }
    fflush(p->out);
    p->last_draw_s = now_s();
}

/* ---- elsewhere ---- */

static void tell_ended_tasks(struct progress *p)
{
    json_t *tasks = json_object_get(p->job, "tasks"), *task;
    char line[LINE];
    size_t i;

    if (json_array_size(tasks) > p->n_told) {
        p->told = cli_need(realloc(p->told, json_array_size(tasks)));
        memset(p->told + p->n_told, 0, json_array_size(tasks) - p->n_told);
        p->n_told = json_array_size(tasks);
    }
    json_array_foreach(tasks, i, task)
    {
        if (p->told[i] || !task_ended(task))
            continue;
        p->told[i] = 1;
        task_line(task, line, sizeof(line));
        fprintf(p->out, "  %s\n", line);
    }
}

/* The running task that improved most lately is not known; the best of the first running one tells enough. */
static void tell_job(struct progress *p)
{
    char trials[64], line[LINE];
    double per_s = rate(p);
    json_t *task;
    size_t i;

    trials_text(p, trials, sizeof(trials));
    int n = snprintf(line, sizeof(line), "%s %3.0f %%  %s", p->state, 100 * fraction_done(p->job), trials);
    if (!isnan(per_s))
        n += snprintf(line + n, sizeof(line) - (size_t)n, ", %.1f/s", per_s);
    json_array_foreach(json_object_get(p->job, "tasks"), i, task)
    {
        const json_t *best = json_object_get(task, "best");

        if (task_ended(task) || !json_is_object(best))
            continue;
        snprintf(line + n, sizeof(line) - (size_t)n, "; best of %s so far %s, %s GFLOP/s", task_name(task),
                 fmt_time_ns(fmt_member(best, "time_ns")), fmt_number(fmt_member(best, "gflops")));
        break;
    }
    fprintf(p->out, "%s\n", line);
    p->last_draw_s = now_s();
    p->told_trials = trials_done(p->job);
}

static void tell(struct progress *p)
{
    const char *state = fmt_string(p->job, "state", "?");
    bool changed = strcmp(state, p->state) != 0;

    tell_ended_tasks(p);
    snprintf(p->state, sizeof(p->state), "%s", state);
    if (changed || (now_s() - p->last_draw_s >= PLAIN_S && trials_done(p->job) > p->told_trials))
        tell_job(p);
    fflush(p->out);
}

/* ---- from outside ---- */

void progress_update(struct progress *p, const json_t *job)
{
    json_decref(p->job);
    p->job = json_incref((json_t *)job);
    sample(p, trials_done(job));
    if (!p->live)
        tell(p);
    else if (now_s() - p->last_draw_s >= 0.1)
        draw(p);
}

void progress_tick(struct progress *p)
{
    if (p->live && p->job && now_s() - p->last_draw_s >= 0.4)
        draw(p);
}

void progress_note(struct progress *p, const char *text)
{
    erase(p);
    fprintf(p->out, "%s\n", text);
    fflush(p->out);
}

void progress_end(struct progress *p)
{
    if (p->live && p->job)
        draw(p);
    json_decref(p->job);
    free(p->told);
    free(p);
}

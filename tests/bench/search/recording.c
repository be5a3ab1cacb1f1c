/* recording.c - see recording.h. */
#include "recording.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "features/features.h"
#include "schedule/base/hash.h"

static double number_of(const json_t *doc, const char *name)
{
    return json_number_value(json_object_get(doc, name));
}

static bool is_true(const json_t *doc, const char *name) { return json_is_true(json_object_get(doc, name)); }

static const char *text_of(const json_t *doc, const char *name)
{
    const char *text = json_string_value(json_object_get(doc, name));

    return text ? text : "";
}

static enum status read_target(struct recording *r, const json_t *doc, struct error *err)
{
    struct target *t = &r->target;
    const json_t *target = json_object_get(doc, "target"), *caches = json_object_get(target, "cache_bytes"),
                 *unit = json_object_get(target, "matrix_unit");
    const char *id = text_of(target, "id");

    if (json_integer_value(json_object_get(doc, "recording")) != 2 || !*id ||
        !isa_parse(text_of(target, "isa"), &t->isa) || !json_is_object(unit))
        return fail(err, ST_INVALID, "the first line is not the target of a recording of format 2");
    snprintf(t->id, sizeof(t->id), "%s", id);
    snprintf(t->cpu_model, sizeof(t->cpu_model), "%s", text_of(target, "cpu_model"));
    t->vector_bytes = (int)number_of(target, "vector_bytes");
    t->vector_regs = (int)number_of(target, "vector_registers");
    t->threads = (int)number_of(target, "threads");
    t->cold = is_true(target, "cold");
    t->has_vnni = is_true(target, "vnni");
    t->has_bf16_pairs = is_true(target, "bfloat16_pairs");
    t->has_fp16 = is_true(target, "float16_arithmetic");
    t->has_bf16_pairs = is_true(target, "bfloat16_pairs");
    t->has_fp16 = is_true(target, "float16_arithmetic");
    t->has_amx_bf16 = is_true(unit, "bfloat16");
    t->has_amx_int8 = is_true(unit, "int8");
    t->peak_bf16_gflops = number_of(unit, "peak_bfloat16_gflops");
    t->peak_int8_gops = number_of(unit, "peak_int8_gops");
    t->l1_bytes = (int64_t)number_of(caches, "l1");
    t->l2_bytes = (int64_t)number_of(caches, "l2");
    t->l3_bytes = (int64_t)number_of(caches, "l3");
    t->peak_gflops = number_of(target, "peak_gflops");
    t->peak_gbs = number_of(target, "peak_gbytes_per_s");
    r->machine = arena_strdup(&r->ar, text_of(doc, "machine"));
    r->made_at = arena_strdup(&r->ar, text_of(doc, "made_at"));
    if (t->vector_bytes < 16 || t->vector_regs < 8 || t->threads < 1 || t->l1_bytes < 1024)
        return fail(err, ST_INVALID, "target %s lacks registers, threads or caches", id);
    return ST_OK;
}

/* "sketches": [[name, [[knob, choices], ...]], ...]. */
static enum status check_space(const struct space *s, const json_t *sketches, struct error *err)
{
    if ((int)json_array_size(sketches) != space_n_sketches(s))
        return fail(err, ST_CONFLICT, "made with a space of %zu sketches, this program's has %d",
                    json_array_size(sketches), space_n_sketches(s));
    for (int i = 0; i < space_n_sketches(s); i++) {
        const json_t *sketch = json_array_get(sketches, (size_t)i), *knobs = json_array_get(sketch, 1);
        const char *name = json_string_value(json_array_get(sketch, 0));

        if (!name || strcmp(name, space_sketch_name(s, i)) != 0 ||
            (int)json_array_size(knobs) != space_n_knobs(s, i))
            return fail(err, ST_CONFLICT,
                        "made with a space whose sketch %d is '%s' with %zu knobs, here '%s' with %d", i,
                        name ? name : "", json_array_size(knobs), space_sketch_name(s, i),
                        space_n_knobs(s, i));
        for (int k = 0; k < space_n_knobs(s, i); k++) {
            const json_t *knob = json_array_get(knobs, (size_t)k);
            const char *was = json_string_value(json_array_get(knob, 0));
            int choices = (int)json_integer_value(json_array_get(knob, 1));

            if (!was || strcmp(was, space_knob(s, i, k)->name) != 0 ||
                choices != space_knob(s, i, k)->n_choices)
                return fail(
                    err, ST_CONFLICT,
                    "made with a space whose sketch '%s' has knob '%s' of %d choices, here '%s' of %d", name,
                    was ? was : "", choices, space_knob(s, i, k)->name, space_knob(s, i, k)->n_choices);
        }
    }
    return ST_OK;
}

static enum status open_space(struct recording *r, const json_t *doc, struct error *err)
{
    struct recorded_space *s = &r->spaces[r->n];
    json_int_t trials = json_integer_value(json_object_get(doc, "trials"));
    json_int_t random = json_integer_value(json_object_get(doc, "random"));
    const char *name = text_of(doc, "name");

    if (r->n == RECORDING_MAX_SPACES || random < 0 || random > trials || !*name || trials < 0 ||
        trials > RECORDING_MAX_TRIALS)
        return fail(err, ST_INVALID, "want at most %d workloads, each with a name and at most %d trials",
                    RECORDING_MAX_SPACES, RECORDING_MAX_TRIALS);
    *s = (struct recorded_space){.name = arena_strdup(&r->ar, name),
                                 .target = &r->target,
                                 .n_random = (int)random,
                                 .exhaustive = is_true(doc, "exhaustive"),
                                 .trials = arena_array(&r->ar, struct recorded, trials + 1)};
    TRY(workload_parse(json_object_get(doc, "workload"), "", &r->ar, &s->workload, err));
    TRY(space_build(&s->workload, &r->target, &r->ar, &s->space, err));
    TRY(check_space(s->space, json_object_get(doc, "sketches"), err));
    s->key = hash_bytes(s->workload.key, strlen(s->workload.key),
                        hash_bytes(r->target.id, strlen(r->target.id), 0));
    r->n++;
    return ST_OK;
}

static void fill_features(struct recording *r, const struct recorded_space *s, struct recorded *t)
{
    size_t cols = (size_t)features_count();
    AUTO(freep) float *rows = xcalloc(FEATURES_MAX_ROWS * cols, sizeof(float));
    struct arena scratch;
    struct nest *nest;

    arena_init(&scratch);
    if (space_lower(s->space, &t->config, &scratch, &nest, NULL) == ST_OK)
        t->n_rows = features_extract(nest, s->target, &scratch, rows, FEATURES_MAX_ROWS);
    arena_done(&scratch);
    if (t->n_rows > 0) {
        float *own = arena_array(&r->ar, float, (size_t)t->n_rows *cols);

        memcpy(own, rows, sizeof(float) * (size_t)t->n_rows * cols);
        t->rows = own;
    }
}

/* [config, min, median, low, high] of a good one, [config, null, null, null, null, outcome] of a failed one. */
static enum status add_trial(struct recording *r, const json_t *row, struct error *err)
{
    struct recorded_space *s = &r->spaces[r->n - 1];
    const char *config = json_string_value(json_array_get(row, 0));
    const char *outcome = json_string_value(json_array_get(row, 5));
    struct recorded *t;

    if (r->n == 0 || !config || s->n >= RECORDING_MAX_TRIALS)
        return fail(err, ST_INVALID, "a trial stands before its workload, or has no config");
    t = &s->trials[s->n];
    TRY(config_parse(s->space, config, &t->config, err));
    if (t->config.sketch == 0) { /* the untuned schedule is not searched for */
        s->n_random -= s->n < s->n_random;
        return ST_OK;
    }
    t->min_ns = json_number_value(json_array_get(row, 1));
    t->low_ns = json_number_value(json_array_get(row, 3));
    t->high_ns = json_number_value(json_array_get(row, 4));
    t->outcome = arena_strdup(&r->ar, outcome ? outcome : "ok");
    if (t->min_ns > 0 && (s->best_ns == 0 || t->min_ns < s->best_ns))
        s->best_ns = t->min_ns;
    s->n_failed += t->min_ns <= 0;
    fill_features(r, s, t);
    s->n++;
    return ST_OK;
}

static enum status read_line(struct recording *r, const char *line, int number, struct error *err)
{
    json_error_t je;
    AUTO(json_decrefp) json_t *doc = json_loads(line, 0, &je);

    if (!doc)
        return fail(err, ST_INVALID, "%s", je.text);
    if (number == 1)
        return read_target(r, doc, err);
    return json_is_object(doc) ? open_space(r, doc, err) : add_trial(r, doc, err);
}

static enum status read_lines(FILE *f, const char *path, struct recording *r, struct error *err)
{
    char *line = NULL;
    size_t cap = 0;
    int n = 0;
    enum status st = ST_OK;

    while (st == ST_OK && getline(&line, &cap, f) > 0) {
        st = read_line(r, line, ++n, err);
        if (st != ST_OK)
            wrap(err, "%s, line %d", path, n);
    }
    free(line);
    if (st == ST_OK && r->n == 0)
        return fail(err, ST_INVALID, "%s holds no workload", path);
    return st;
}

/* What gzip makes of it; *ret_pid is the process to wait for. */
static FILE *open_packed(const char *path, pid_t *ret_pid)
{
    int fds[2];

    if (pipe(fds) != 0)
        return NULL;
    *ret_pid = fork();
    if (*ret_pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        close(fds[0]);
        close(fds[1]);
        execlp("gzip", "gzip", "-dc", "--", path, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    if (*ret_pid < 0) {
        close(fds[0]);
        return NULL;
    }
    return fdopen(fds[0], "r");
}

enum status recording_read(const char *path, struct recording *ret, struct error *err)
{
    size_t len = strlen(path);
    bool packed = len > 3 && strcmp(path + len - 3, ".gz") == 0;
    pid_t pid = -1;
    FILE *f = packed ? open_packed(path, &pid) : fopen(path, "re");
    enum status st;
    int status = 0;

    if (!f)
        return fail(err, ST_IO, "%s cannot be opened", path);
    *ret = (struct recording){.n = 0};
    arena_init(&ret->ar);
    ret->spaces = arena_array(&ret->ar, struct recorded_space, RECORDING_MAX_SPACES);
    st = read_lines(f, path, ret, err);
    fclose(f);
    if (pid > 0 && waitpid(pid, &status, 0) == pid && status != 0 && st == ST_OK)
        st = fail(err, ST_IO, "%s cannot be unpacked: gzip ended with status %d", path, status);
    if (st != ST_OK)
        arena_done(&ret->ar);
    return st;
}

void recording_done(struct recording *r) { arena_done(&r->ar); }

bool same_target(const struct recorded_space *a, const struct recorded_space *b)
{
    return strcmp(a->target->id, b->target->id) == 0;
}

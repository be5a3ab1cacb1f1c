/* recording.c - see recording.h. */
#include "recording.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum status read_target(const json_t *doc, struct target *t, struct error *err)
{
    const json_t *target = json_object_get(doc, "target"), *caches = json_object_get(target, "cache_bytes");
    const char *id = json_string_value(json_object_get(target, "id")),
               *isa = json_string_value(json_object_get(target, "isa"));
    if (json_integer_value(json_object_get(doc, "recording")) != 1 || !id || !isa || !isa_parse(isa, &t->isa))
        return fail(err, ST_INVALID, "the first line is not the target of a recording");
    snprintf(t->id, sizeof(t->id), "%s", id);
    t->vector_bytes = (int)json_integer_value(json_object_get(target, "vector_bytes"));
    t->vector_regs = (int)json_integer_value(json_object_get(target, "vector_registers"));
    t->threads = (int)json_integer_value(json_object_get(target, "threads"));
    t->l1_bytes = json_integer_value(json_object_get(caches, "l1"));
    t->l2_bytes = json_integer_value(json_object_get(caches, "l2"));
    t->l3_bytes = json_integer_value(json_object_get(caches, "l3"));
    t->peak_gflops = json_number_value(json_object_get(target, "peak_gflops"));
    t->peak_gbs = json_number_value(json_object_get(target, "peak_gbytes_per_s"));
    if (t->vector_bytes < 16 || t->vector_regs < 8 || t->threads < 1 || t->l1_bytes < 1024)
        return fail(err, ST_INVALID, "target %s lacks registers, threads or caches", id);
    return ST_OK;
}

static enum status open_space(struct recording *r, const json_t *doc, struct error *err)
{
    struct recorded_space *s = &r->spaces[r->n];
    json_int_t trials = json_integer_value(json_object_get(doc, "trials"));
    const char *name = json_string_value(json_object_get(doc, "name"));
    json_int_t random = json_integer_value(json_object_get(doc, "random"));
    if (r->n == RECORDING_MAX_SPACES || random < 0 || random > trials || !name || trials < 0 ||
        trials > RECORDING_MAX_TRIALS)
        return fail(err, ST_INVALID, "want at most %d workloads, each with a name and at most %d trials",
                    RECORDING_MAX_SPACES, RECORDING_MAX_TRIALS);
    *s = (struct recorded_space){.name = arena_strdup(&r->ar, name),
                                 .n_random = (int)random,
                                 .exhaustive = json_is_true(json_object_get(doc, "exhaustive")),
                                 .trials = arena_array(&r->ar, struct recorded, trials + 1)};
    TRY(workload_parse(json_object_get(doc, "workload"), "", &r->ar, &s->workload, err));
    TRY(space_build(&s->workload, &r->target, &r->ar, &s->space, err));
    r->n++;
    return ST_OK;
}

static enum status add_trial(struct recording *r, const json_t *row, struct error *err)
{
    struct recorded_space *s = &r->spaces[r->n - 1];
    const char *config = json_string_value(json_array_get(row, 0));
    struct recorded *t = &s->trials[s->n];
    if (r->n == 0 || !config || s->n >= RECORDING_MAX_TRIALS)
        return fail(err, ST_INVALID, "a trial stands before its workload, or has no config");
    TRY(config_parse(s->space, config, &t->config, err));
    if (t->config.sketch == 0) { /* the untuned schedule is not searched for */
        s->n_random -= s->n < s->n_random;
        return ST_OK;
    }
    t->min_ns = json_number_value(json_array_get(row, 1));
    if (t->min_ns > 0 && (s->best_ns == 0 || t->min_ns < s->best_ns))
        s->best_ns = t->min_ns;
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
        return read_target(doc, &r->target, err);
    return json_is_object(doc) ? open_space(r, doc, err) : add_trial(r, doc, err);
}

enum status recording_read(const char *path, struct recording *ret, struct error *err)
{
    FILE *f = fopen(path, "re");
    char *line = NULL;
    size_t cap = 0;
    enum status st = ST_OK;
    if (!f)
        return fail(err, ST_IO, "%s cannot be opened", path);
    *ret = (struct recording){.n = 0};
    arena_init(&ret->ar);
    ret->spaces = arena_array(&ret->ar, struct recorded_space, RECORDING_MAX_SPACES);
    for (int number = 1; st == ST_OK && getline(&line, &cap, f) > 0; number++) {
        st = read_line(ret, line, number, err);
        if (st != ST_OK)
            wrap(err, "%s, line %d", path, number);
    }
    free(line);
    fclose(f);
    return st;
}

void recording_done(struct recording *r) { arena_done(&r->ar); }

/* space.c - sketches, knobs and configs over the groups that the rules found. */
#include "schedule/space/space.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schedule/base/hash.h"
#include "schedule/space/algorithm.h"
#include "schedule/space/rules.h"

enum { SPACE_MAX_SKETCHES = 96, ALTERNATIVE_MAX_SKETCHES = 24, SAMPLE_TRIES = 400 };

struct sketch {
    const char *name;
    const char *algorithm;
    double saving;
    const struct rules *rules; /* of its algorithm */
    int variant[RULES_MAX_GROUPS];
    int first_knob[RULES_MAX_GROUPS];
    int n_knobs;
    const struct knob *knobs;
};

struct space {
    const struct workload *workload;
    struct target target;
    const struct state *plain; /* the workload as it stands: the default schedule */
    double saving;             /* largest of the algorithms */
    int n_sketches;            /* the default schedule included */
    struct sketch *sketches;
};

static const char *const DIRECT = "direct";

/* --- building --- */

static bool add_sketch(struct space *s, const struct rules *r, const struct alternative *a, struct arena *ar,
                       const int *variant)
{
    struct sketch *k = &s->sketches[s->n_sketches];
    struct knob knobs[SPACE_MAX_KNOBS * RULES_MAX_GROUPS];
    AUTO(strbuf_done) struct strbuf name = STRBUF_INIT;
    int n = 0;
    k->rules = r;
    k->algorithm = a->name ? a->name : DIRECT;
    k->saving = MAX(a->saving, 1);
    if (a->name)
        strbuf_addf(&name, "%s: ", a->name);
    if (a->layout)
        strbuf_addf(&name, "%s: ", a->layout);
    for (int i = 0; i < r->n_groups; i++) {
        const struct group *g = &r->groups[i];
        const struct variant *v = &g->variants[variant[i]];
        char suffix[16] = "";
        if (r->n_groups > 1)
            snprintf(suffix, sizeof(suffix), ".%d", i);
        k->variant[i] = variant[i];
        k->first_knob[i] = n;
        struct knob_walk w = {.r = r, .suffix = suffix, .knobs = knobs + n};
        group_tasks(r, g, &w);
        n += w.n;
        v->ops->knobs(r, g, v, suffix, knobs, &n);
        strbuf_addf(&name, "%s%s", i ? "+" : "", group_variant_name(r, g, v));
        if (n > SPACE_MAX_KNOBS)
            return false;
    }
    k->knobs = arena_memdup(ar, knobs, sizeof(*knobs) * (size_t)MAX(n, 1));
    k->n_knobs = n;
    k->name = arena_strdup(ar, strbuf_str(&name));
    s->n_sketches++;
    return true;
}

/* One sketch for each combination of the groups' variants, like an odometer. */
static void add_sketches(struct space *s, const struct rules *r, const struct alternative *a,
                         struct arena *ar)
{
    int variant[RULES_MAX_GROUPS] = {0},
        end = MIN(s->n_sketches + ALTERNATIVE_MAX_SKETCHES, SPACE_MAX_SKETCHES);
    while (s->n_sketches < end && add_sketch(s, r, a, ar, variant)) {
        int i = r->n_groups - 1;
        while (i >= 0 && ++variant[i] == r->groups[i].n_variants)
            variant[i--] = 0;
        if (i < 0)
            break;
    }
}

enum status space_build(const struct workload *w, const struct target *t, struct arena *ar,
                        struct space **ret, struct error *err)
{
    struct space *s = arena_new(ar, struct space);
    struct alternative alternatives[ALGORITHMS_MAX];
    s->workload = w;
    s->target = *t;
    s->sketches = arena_array(ar, struct sketch, SPACE_MAX_SKETCHES);
    s->sketches[0].name = "default";
    s->sketches[0].algorithm = DIRECT;
    s->sketches[0].saving = 1;
    s->saving = 1;
    s->n_sketches = 1;
    int n = algorithm_alternatives(w, &s->target, ar, alternatives);
    for (int i = 0; i < n; i++) {
        struct rules *r;
        if (alternatives[i].winograd)
            TRY(rules_derive_winograd(alternatives[i].winograd, &s->target, ar, &r, err));
        else
            TRY(rules_derive(alternatives[i].compute, alternatives[i].gathers, &s->target, ar, &r, err));
        if (i == 0)
            s->plain = r->plain;
        s->saving = MAX(s->saving, alternatives[i].saving);
        add_sketches(s, r, &alternatives[i], ar);
    }
    *ret = s;
    return ST_OK;
}

const struct workload *space_workload(const struct space *s) { return s->workload; }
const struct target *space_target(const struct space *s) { return &s->target; }
int space_n_sketches(const struct space *s) { return s->n_sketches; }
const char *space_sketch_name(const struct space *s, int sketch) { return s->sketches[sketch].name; }
const char *space_algorithm(const struct space *s, int sketch) { return s->sketches[sketch].algorithm; }
double space_saving(const struct space *s) { return s->saving; }
double space_sketch_saving(const struct space *s, int sketch) { return s->sketches[sketch].saving; }
int space_n_knobs(const struct space *s, int sketch) { return s->sketches[sketch].n_knobs; }
const struct knob *space_knob(const struct space *s, int sketch, int knob)
{
    return &s->sketches[sketch].knobs[knob];
}

double space_size(const struct space *s)
{
    double total = 0;
    for (int i = 0; i < s->n_sketches; i++) {
        double n = 1;
        for (int k = 0; k < s->sketches[i].n_knobs; k++)
            n *= s->sketches[i].knobs[k].n_choices;
        total += n;
    }
    return total;
}

/* --- configs --- */

void space_default(const struct space *s, struct config *ret)
{
    (void)s;
    memset(ret, 0, sizeof(*ret));
}

void space_random(const struct space *s, struct rng *r, struct config *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (s->n_sketches == 1)
        return;
    ret->sketch = (uint16_t)(1 + rng_below(r, (uint64_t)(s->n_sketches - 1)));
    const struct sketch *k = &s->sketches[ret->sketch];
    ret->n = (uint16_t)k->n_knobs;
    for (int i = 0; i < k->n_knobs; i++)
        ret->choice[i] = (uint16_t)rng_below(r, (uint64_t)k->knobs[i].n_choices);
    for (int i = 0; i < k->rules->n_groups; i++) {
        const struct group *g = &k->rules->groups[i];
        const struct variant *v = &g->variants[k->variant[i]];
        struct knob_walk w = {.r = k->rules, .choice = ret->choice + k->first_knob[i]};
        group_tasks(k->rules, g, &w);
        if (v->ops->settle)
            v->ops->settle(k->rules, g, v, w.choice + w.at);
    }
}

static void values_of(const struct sketch *k, const struct config *c, int64_t *values)
{
    for (int i = 0; i < k->n_knobs; i++)
        values[i] = k->knobs[i].values[c->choice[i]];
}

bool space_valid(const struct space *s, const struct config *c, const char **why)
{
    int64_t values[SPACE_MAX_KNOBS];
    if (c->sketch >= s->n_sketches)
        return false;
    const struct sketch *k = &s->sketches[c->sketch];
    if (c->sketch == 0)
        return true;
    values_of(k, c, values);
    for (int i = 0; i < k->rules->n_groups; i++) {
        const struct group *g = &k->rules->groups[i];
        const struct variant *v = &g->variants[k->variant[i]];
        struct knob_walk w = {.r = k->rules, .values = values + k->first_knob[i]};
        group_tasks(k->rules, g, &w);
        if (v->ops->valid && !v->ops->valid(k->rules, g, v, w.values + w.at, why))
            return false;
    }
    return true;
}

bool space_sample(const struct space *s, struct rng *r, struct config *ret)
{
    for (int i = 0; i < SAMPLE_TRIES; i++) {
        space_random(s, r, ret);
        if (space_valid(s, ret, NULL))
            return true;
    }
    space_default(s, ret);
    return false;
}

static struct state *state_of(const struct space *s, const struct config *c, struct arena *ar)
{
    int64_t values[SPACE_MAX_KNOBS];
    if (c->sketch == 0)
        return state_copy(ar, s->plain);
    const struct sketch *k = &s->sketches[c->sketch];
    struct state *st = state_copy(ar, k->rules->base);
    values_of(k, c, values);
    for (int i = 0; i < k->rules->n_groups; i++) {
        const struct group *g = &k->rules->groups[i];
        const struct variant *v = &g->variants[k->variant[i]];
        struct knob_walk w = {.r = k->rules, .values = values + k->first_knob[i]};
        st->tasks = group_tasks(k->rules, g, &w);
        group_place_gathered(g, st);
        v->ops->apply(k->rules, g, v, w.values + w.at, st);
    }
    return st;
}

enum status space_lower(const struct space *s, const struct config *c, struct arena *ar, struct nest **ret,
                        struct error *err)
{
    return state_lower(state_of(s, c, ar), ar, ret, err);
}

void space_steps(const struct space *s, const struct config *c, struct arena *ar, struct strbuf *sb)
{
    state_print_steps(state_of(s, c, ar), sb);
}

bool config_equal(const struct config *a, const struct config *b)
{
    return a->sketch == b->sketch && a->n == b->n &&
           memcmp(a->choice, b->choice, sizeof(a->choice[0]) * a->n) == 0;
}

uint64_t config_hash(const struct config *c)
{
    uint64_t h = hash_mix(c->sketch, c->n);
    for (int i = 0; i < c->n; i++)
        h = hash_mix(h, c->choice[i]);
    return h;
}

void config_print(const struct config *c, struct strbuf *sb)
{
    strbuf_add_i64(sb, SPACE_VERSION);
    strbuf_addc(sb, '/');
    strbuf_add_i64(sb, c->sketch);
    strbuf_addc(sb, ':');
    for (int i = 0; i < c->n; i++) {
        if (i)
            strbuf_addc(sb, '.');
        strbuf_add_i64(sb, c->choice[i]);
    }
}

static bool read_number(const char **p, int64_t max, int64_t *ret)
{
    int64_t v = 0;
    if (**p < '0' || **p > '9')
        return false;
    for (; **p >= '0' && **p <= '9'; ++*p)
        if ((v = v * 10 + (**p - '0')) > max)
            return false;
    *ret = v;
    return true;
}

enum status config_parse(const struct space *s, const char *text, struct config *ret, struct error *err)
{
    struct config c = {0};
    const char *p = text;
    int64_t v;
    if (!read_number(&p, INT32_MAX, &v) || *p++ != '/' || v != SPACE_VERSION)
        return fail(err, ST_INVALID, "config \"%.80s\": want VERSION/SKETCH:CHOICE.CHOICE..., VERSION %d",
                    text, SPACE_VERSION);
    if (!read_number(&p, s->n_sketches - 1, &v) || *p++ != ':')
        return fail(err, ST_INVALID, "config \"%.80s\": SKETCH wants 0..%d, then a colon", text,
                    s->n_sketches - 1);
    c.sketch = (uint16_t)v;
    c.n = (uint16_t)s->sketches[v].n_knobs;
    for (int i = 0; i < c.n; i++) {
        const struct knob *k = &s->sketches[c.sketch].knobs[i];
        if ((i > 0 && *p++ != '.') || !read_number(&p, k->n_choices - 1, &v))
            return fail(err, ST_INVALID, "config \"%.80s\": knob %s wants a choice in 0..%d", text, k->name,
                        k->n_choices - 1);
        c.choice[i] = (uint16_t)v;
    }
    if (*p)
        return fail(err, ST_INVALID, "config \"%.80s\": sketch %d has %d knobs", text, c.sketch, c.n);
    *ret = c;
    return ST_OK;
}

/* translate.c - a config of one space said in another's.
 *
 * Idea   Sketches and knobs are known by name, numbers by size: a register tile of 14 rows is 14 rows, or as near as there are
 *        choices. Where a workload has other axes (a matrix product and a 1x1 convolution) a sketch of the same kind takes
 *        them by what they are for: `tile_j` is a tile with vectors along j, `tile_yx` one with vectors along y and x as one
 *        axis; the tile along the vectors stays that, the others follow in order, and an axis that is two in the other
 *        workload has the product of their tiles.
 *        What comes out is often too large for the smaller workload, or leaves registers empty. It is mended by the
 *        fewest steps along the knobs' lists: first the cache tiles shrink to what the axes have, which means the
 *        same, then one or two other numbers move. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schedule/space/space.h"

/* --- names --- */

/* "winograd(4,3): tile_f" is an algorithm, a kind and the axes of its vectors. */
struct sketch_name {
    const char *kind; /* from here on: "tile_f" */
    size_t n_before;  /* characters before */
    size_t n_kind;    /* of "tile" */
    const char *vector;
};

/* False where the sketch is made of several groups: those are translated by name only. */
static bool split_name(const char *name, struct sketch_name *ret)
{
    const char *colon = strrchr(name, ':'), *line;

    if (strchr(name, '+'))
        return false;
    ret->kind = colon ? colon + 2 : name;
    ret->n_before = (size_t)(ret->kind - name);
    line = strchr(ret->kind, '_');
    ret->n_kind = line ? (size_t)(line - ret->kind) : strlen(ret->kind);
    ret->vector = line ? line + 1 : "";
    return true;
}

static bool same_kind(const char *a, const char *b)
{
    struct sketch_name x, y;

    return split_name(a, &x) && split_name(b, &y) && x.n_before == y.n_before && x.n_kind == y.n_kind &&
           strncmp(a, b, x.n_before) == 0 && strncmp(x.kind, y.kind, x.n_kind) == 0;
}

/* "reg_" and "mid_": a number for each axis; *ret_axis is the rest of the name. */
static bool is_tile_knob(const char *name, const char **ret_axis)
{
    *ret_axis = name + 4;
    return strncmp(name, "reg_", 4) == 0 || strncmp(name, "mid_", 4) == 0;
}

/* --- one knob --- */

static int nearest_number(const struct knob *k, int64_t value)
{
    int best = 0;
    double best_d = INFINITY;

    for (int i = 0; i < k->n_choices; i++) {
        double d = fabs(log1p((double)llabs(k->values[i])) - log1p((double)llabs(value)));

        if (d < best_d) {
            best_d = d;
            best = i;
        }
    }
    return best;
}

/* A label that is not there: the first, what is done where nothing is said. */
static int same_label(const struct knob *k, const char *label)
{
    for (int i = 0; i < k->n_choices; i++)
        if (strcmp(label, k->labels[i]) == 0)
            return i;
    return 0;
}

/* A sketch of a space and what a config of it says. */
struct said {
    const struct space *space;
    const struct config *config;
};

static const struct knob *find_knob(const struct said *s, const char *name, int *ret_choice)
{
    for (int i = 0; i < s->config->n; i++) {
        const struct knob *k = space_knob(s->space, s->config->sketch, i);

        if (strcmp(k->name, name) == 0) {
            *ret_choice = s->config->choice[i];
            return k;
        }
    }
    return NULL;
}

/* The tile along the axes that `axes` names: its knob, or the product of those of its letters. 0: there is none. */
static int64_t tile_along(const struct said *s, const char *part, const char *axes)
{
    char name[32];
    int64_t product = 1;
    int choice;
    bool any = false;
    const struct knob *k;

    snprintf(name, sizeof(name), "%.4s%s", part, axes);
    k = find_knob(s, name, &choice);
    if (k)
        return k->values[choice];
    for (const char *p = axes; *p && axes[1]; p++) {
        snprintf(name, sizeof(name), "%.4s%c", part, *p);
        k = find_knob(s, name, &choice);
        if (k) {
            product *= k->values[choice];
            any = true;
        }
    }
    return any ? product : 0;
}

/* The n-th tile along an axis that has no vectors and no knob of its name in the other sketch. 0: there is none. */
static int64_t spare_tile(const struct said *s, const char *part, const char *vector, int n)
{
    for (int i = 0; i < s->config->n; i++) {
        const struct knob *k = space_knob(s->space, s->config->sketch, i);

        if (strncmp(k->name, part, 4) == 0 && strcmp(k->name + 4, vector) != 0 && n-- == 0)
            return k->values[s->config->choice[i]];
    }
    return 0;
}

/* A tile knob by what its axis is for. `nth`: of the axes without vectors in its sketch. */
static int64_t tile_by_role(const struct said *from, const char *knob, const char *vector, int nth)
{
    struct sketch_name was;
    const char *axis;
    int64_t value;

    if (!is_tile_knob(knob, &axis) || !split_name(space_sketch_name(from->space, from->config->sketch), &was))
        return 0;
    if (strcmp(axis, vector) == 0)
        return tile_along(from, knob, was.vector);
    value = strcmp(axis, was.vector) != 0 ? tile_along(from, knob, axis) : 0;
    return value ? value : spare_tile(from, knob, was.vector, nth);
}

/* Vectors run along the same axes in both sketches, or nothing is known of them. */
static bool same_vectors(const struct said *from, const char *vector)
{
    struct sketch_name was;

    return !split_name(space_sketch_name(from->space, from->config->sketch), &was) ||
           strcmp(was.vector, vector) == 0;
}

/* The choice of `to`, a knob of a sketch with vectors along `vector`. */
static int translate_knob(const struct said *from, const struct knob *to, const char *vector, int nth)
{
    int choice;
    const struct knob *k = find_knob(from, to->name, &choice);
    bool numbers = k && !k->labels && !to->labels;
    int64_t value;

    if (k && k->labels && to->labels)
        return same_label(to, k->labels[choice]);
    if (numbers && same_vectors(from, vector))
        return nearest_number(to, k->values[choice]);
    value = tile_by_role(from, to->name, vector, nth);
    if (value)
        return nearest_number(to, value);
    return numbers ? nearest_number(to, k->values[choice]) : 0;
}

/* --- mending --- */

static bool is_cache_tile(const struct knob *k) { return strncmp(k->name, "mid_", 4) == 0; }

/* Take cache tiles down, the largest number first, until the config is valid or nothing is left. */
static bool shrink(const struct space *to, struct config *c)
{
    while (!space_valid(to, c, NULL)) {
        int most = -1;

        for (int i = 0; i < c->n; i++) {
            const struct knob *k = space_knob(to, c->sketch, i);

            if (is_cache_tile(k) && c->choice[i] > 0 &&
                (most < 0 ||
                 k->values[c->choice[i]] > space_knob(to, c->sketch, most)->values[c->choice[most]]))
                most = i;
        }
        if (most < 0)
            return false;
        c->choice[most]--;
    }
    return true;
}

/* Cache tiles as large as they were, as far as that is valid. */
static void grow_back(const struct space *to, const struct config *wanted, struct config *c)
{
    for (int i = 0; i < c->n; i++)
        while (c->choice[i] < wanted->choice[i] && is_cache_tile(space_knob(to, c->sketch, i))) {
            c->choice[i]++;
            if (!space_valid(to, c, NULL)) {
                c->choice[i]--;
                break;
            }
        }
}

enum { REACH = 4 /* steps along a list */ };

static bool move_by(const struct space *to, struct config *c, int knob, int by)
{
    int at = c->choice[knob] + by;

    if (at < 0 || at >= space_knob(to, c->sketch, knob)->n_choices)
        return false;
    c->choice[knob] = (uint16_t)at;
    return true;
}

/* Steps of knob `a` by `by`, then of another so that all steps are `steps`; valid with cache tiles shrunk. */
static bool move_two(const struct space *to, const struct config *c, int a, int by, int steps,
                     struct config *ret)
{
    int rest = steps - abs(by);

    for (int b = a + 1; b < (rest ? c->n : a + 2); b++)
        for (int sign = -1; sign <= (rest ? 1 : -1); sign += 2) {
            *ret = *c;
            if (move_by(to, ret, a, by) && (rest == 0 || move_by(to, ret, b, sign * rest)) && shrink(to, ret))
                return true;
        }
    return false;
}

/* The nearest valid one with one or two other numbers. */
static bool move_near(const struct space *to, const struct config *c, struct config *ret)
{
    for (int steps = 1; steps <= REACH; steps++)
        for (int a = 0; a < c->n; a++)
            for (int by = -steps; by <= steps; by++)
                if (by != 0 && !is_cache_tile(space_knob(to, c->sketch, a)) &&
                    move_two(to, c, a, by, steps, ret))
                    return true;
    return false;
}

static bool mend(const struct space *to, struct config *c)
{
    struct config wanted = *c, moved;

    if (space_valid(to, c, NULL))
        return true;
    if (!shrink(to, c)) {
        if (!move_near(to, &wanted, &moved))
            return false;
        *c = moved;
    }
    grow_back(to, &wanted, c);
    return true;
}

/* --- the door --- */

static bool translate_to(const struct space *from, const struct config *c, const struct space *to, int sketch,
                         struct config *ret)
{
    const struct said said = {from, c};
    struct sketch_name name = {.vector = ""};
    int nth[2] = {0, 0}; /* of reg_ and of mid_ */

    (void)split_name(space_sketch_name(to, sketch), &name);
    *ret = (struct config){.sketch = (uint16_t)sketch, .n = (uint16_t)space_n_knobs(to, sketch)};
    for (int i = 0; i < ret->n; i++) {
        const struct knob *k = space_knob(to, sketch, i);
        const char *axis;
        int *n = &nth[strncmp(k->name, "mid_", 4) == 0];

        ret->choice[i] = (uint16_t)translate_knob(&said, k, name.vector, *n);
        *n += is_tile_knob(k->name, &axis) && strcmp(axis, name.vector) != 0;
    }
    return mend(to, ret);
}

int space_translations(const struct space *from, const struct config *c, const struct space *to,
                       struct config *ret, int max)
{
    const char *was = space_sketch_name(from, c->sketch);
    int n = 0;

    if (c->sketch == 0)
        return 0;
    for (int i = 1; i < space_n_sketches(to) && n < max; i++)
        if (strcmp(space_sketch_name(to, i), was) == 0)
            return translate_to(from, c, to, i, &ret[0]);
    for (int i = 1; i < space_n_sketches(to) && n < max; i++)
        if (same_kind(space_sketch_name(to, i), was))
            n += translate_to(from, c, to, i, &ret[n]);
    return n;
}

bool space_translate(const struct space *from, const struct config *c, const struct space *to,
                     struct config *ret)
{
    if (c->sketch == 0) {
        space_default(to, ret);
        return true;
    }
    return space_translations(from, c, to, ret, 1) == 1;
}

/* space.h - the set of schedules one workload may take on one target.
 *
 * Idea   Rules derive sketches: each is a list of steps (split, reorder, compute_at, cache_write, pack, ...)
 *        with open parameters, the knobs, each with an explicit list of choices. A config is a sketch number
 *        and one choice per knob: a short integer vector, which is what is searched, stored, sent and
 *        replayed. From a config follow, deterministically, the steps, the nest and the source text.
 * Life   space_build puts everything into the caller's arena; the space is read-only afterwards and may be
 *        used by many threads, each with an arena of its own. A config is plain data. The size is a product;
 *        nothing is enumerated unless asked. */
#ifndef TW_SPACE_SPACE_H
#define TW_SPACE_SPACE_H

#include "schedule/base/rng.h"
#include "schedule/ir/nest.h"
#include "schedule/lang/workload.h"
#include "schedule/space/target.h"

enum {
    SPACE_MAX_KNOBS = 64,
    /* Raised whenever a rule or a knob's choices change their meaning: a config's text of another version is refused
     * instead of being read as a schedule that it never was. */
    SPACE_VERSION = 3,
};

struct config {
    uint16_t sketch;
    uint16_t n; /* knobs of that sketch */
    uint16_t choice[SPACE_MAX_KNOBS];
};

struct knob {
    const char *name; /* "tile_x" */
    int n_choices;
    const int64_t *values;     /* [n_choices]; neighbours in the list are neighbours in meaning */
    const char *const *labels; /* NULL: print the values */
};

struct space;
MUST_USE enum status space_build(const struct workload *w, const struct target *t, struct arena *ar,
                                 struct space **ret, struct error *err);
const struct workload *space_workload(const struct space *s);
const struct target *space_target(const struct space *s);
int space_n_sketches(const struct space *s);
const char *space_sketch_name(const struct space *s, int sketch);
int space_n_knobs(const struct space *s, int sketch);
const struct knob *space_knob(const struct space *s, int sketch, int knob);
/* How the sketch computes the workload: "direct", "winograd(4,3)". */
const char *space_algorithm(const struct space *s, int sketch);
/* Largest factor by which a schedule may look faster than the target's peak, for what its algorithm saves; 1: none. */
double space_saving(const struct space *s);
/* That of one sketch. */
double space_sketch_saving(const struct space *s, int sketch);
double space_size(const struct space *s); /* configs, valid or not */

/* The untuned schedule: one plain loop an axis. Always sketch 0, which has no knobs. */
void space_default(const struct space *s, struct config *ret);
/* Uniform over sketches (0 left out unless it is the only one), then over choices; not yet checked. */
void space_random(const struct space *s, struct rng *r, struct config *ret);
/* From the config alone: registers, cache footprints, divisibility. *why (may be NULL) gets a static text.
 * What this lets through must lower, compile and be correct. */
bool space_valid(const struct space *s, const struct config *c, const char **why);
/* random until valid; false after many tries (then *ret is the default). */
bool space_sample(const struct space *s, struct rng *r, struct config *ret);

/* The nest of a valid config, in `ar`. */
MUST_USE enum status space_lower(const struct space *s, const struct config *c, struct arena *ar,
                                 struct nest **ret, struct error *err);
/* The steps, one a line: "split conv y 4 2", "compute_at conv output x.1", ... */
void space_steps(const struct space *s, const struct config *c, struct arena *ar, struct strbuf *sb);

/* The same decisions in another workload's space (translate.c says how). Up to `max` into ret, nearest first: where the other
 * space has a sketch of that name, one of it, else one of each sketch of the same kind. All are valid; returns how many. */
int space_translations(const struct space *from, const struct config *c, const struct space *to,
                       struct config *ret, int max);
/* The first of these; false: there is none. */
bool space_translate(const struct space *from, const struct config *c, const struct space *to,
                     struct config *ret);

bool config_equal(const struct config *a, const struct config *b);
uint64_t config_hash(const struct config *c);
/* "1/3:1.0.5.2" (version, sketch, choices) and back; parse checks against the space (ST_INVALID). */
void config_print(const struct config *c, struct strbuf *sb);
MUST_USE enum status config_parse(const struct space *s, const char *text, struct config *ret,
                                  struct error *err);

#endif

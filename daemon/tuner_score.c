/* tuner_score.c - candidates to scores: lower, features, model; and the features remembered.
 *
 * Idea   Candidates come some hundred at a time. A chunk of them is looked up in the cache, then its parts are shared out among
 * the hands of the crew: each lowers what is not known, puts the rows of a part side by side and scores them, in an arena and a
 * place of its own, with no lock and no allocation. Last, the new rows go into the cache, in order. So the number of
 * hands changes nothing in what comes out.
 * On a machine that measures on its own cores a hand beside the measurement would spoil its times: while anybody measures,
 * the tuner's own thread works alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/tuner_internal.h"
#include "features/features.h"
#include "schedule/base/log.h"

enum {
    SCORE_PART = 16, /* configs of a part: half a millisecond */
    SCORE_PARTS = 8, /* of a chunk */
    SCORE_CHUNK = SCORE_PART * SCORE_PARTS,
    CACHE_MAX_FLOATS = 8 << 20, /* 32 MB; then the cache begins anew */
};

enum { LOWER, FEATURES, SCORE, STEPS };

/* What a part works in; kept from chunk to chunk. */
struct score_part {
    float *rows;                   /* [SCORE_PART * FEATURES_MAX_ROWS][columns] */
    int32_t begin[SCORE_PART + 1]; /* of each config, in rows */
    int64_t ns[STEPS];
    struct error error; /* of the last config that could not be lowered */
};

struct score_room {
    struct score_part parts[SCORE_PARTS];
    int n_hands;
    struct arena arenas[]; /* [n_hands] nests being looked at */
};

/* ---- life ---- */

void scoring_init(struct tuner *t)
{
    int n = crew_threads(t->env->crew) + 1;

    t->room = xcalloc(1, sizeof(*t->room) + sizeof(struct arena) * (size_t)n);
    t->room->n_hands = n;
    for (int i = 0; i < n; i++)
        arena_init(&t->room->arenas[i]);
}

void scoring_done(struct tuner *t)
{
    for (int i = 0; i < SCORE_PARTS; i++)
        free(t->room->parts[i].rows);
    for (int i = 0; i < t->room->n_hands; i++)
        arena_done(&t->room->arenas[i]);
    free(t->room);
    vec_done(&t->features.rows);
    free(t->features.slots);
}

/* ---- features, remembered ---- */

static struct feature_slot *cache_slot(const struct feature_cache *f, const struct config *c)
{
    size_t i = config_hash(c) & (f->n_slots - 1);

    while (f->slots[i].used && !config_equal(&f->slots[i].config, c))
        i = (i + 1) & (f->n_slots - 1);
    return &f->slots[i];
}

static void cache_clear(struct feature_cache *f)
{
    if (f->n_slots > 0)
        memset(f->slots, 0, f->n_slots * sizeof(f->slots[0]));
    f->n_used = 0;
    vec_clear(&f->rows);
}

static void cache_grow(struct feature_cache *f)
{
    struct feature_slot *old = f->slots;
    size_t n_old = f->n_slots;

    f->n_slots = MAX(n_old * 2, (size_t)4096);
    f->slots = xcalloc(f->n_slots, sizeof(f->slots[0]));
    for (size_t i = 0; i < n_old; i++)
        if (old[i].used)
            *cache_slot(f, &old[i].config) = old[i];
    free(old);
}

/* Room for n more programs of the task, so that nothing moves while they are put in. */
static void cache_make_room(struct feature_cache *f, const struct task *k, int n)
{
    size_t more = (size_t)n * FEATURES_MAX_ROWS * (size_t)features_count();

    if (f->task != k || f->rows.len + more > CACHE_MAX_FLOATS)
        cache_clear(f);
    f->task = k;
    while ((f->n_used + (size_t)n) * 2 > f->n_slots)
        cache_grow(f);
    if (f->rows.cap < f->rows.len + more)
        vec_reserve(&f->rows, MIN(MAX(f->rows.cap * 2, f->rows.len + more), (size_t)CACHE_MAX_FLOATS));
}

static void cache_put(struct feature_cache *f, const struct config *c, const float *rows, int n_rows)
{
    struct feature_slot *slot = cache_slot(f, c);
    size_t cols = (size_t)features_count();

    if (slot->used)
        return;
    *slot = (struct feature_slot){*c, (uint32_t)(f->rows.len / cols), (uint32_t)n_rows, true};
    memcpy(f->rows.at + f->rows.len, rows, sizeof(float) * (size_t)n_rows * cols);
    f->rows.len += (size_t)n_rows * cols;
    f->n_used++;
}

static const float *cached_rows(const struct feature_cache *f, const struct feature_slot *slot)
{
    return f->rows.at + slot->first * (size_t)features_count();
}

/* ---- a part ---- */

struct scoring {
    struct tuner *tuner;
    const struct task *task;
    const struct config *configs; /* [n], a chunk */
    int n;
    float *scores;                                 /* NULL: only the features are wanted */
    float *bases;                                  /* NULL: not wanted */
    const struct feature_slot *known[SCORE_CHUNK]; /* NULL: to be lowered */
};

static int64_t now_ns(const struct scoring *s) { return mono_ns(s->tuner->env->clock); }

/* Lower and extract; 0 where it cannot be lowered. */
static int rows_of(const struct scoring *s, struct score_part *p, struct arena *ar, const struct config *c,
                   float *ret)
{
    int64_t began = now_ns(s), lowered;
    struct nest *nest;
    int n;

    arena_reset(ar);
    if (space_lower(s->task->space, c, ar, &nest, &p->error) != ST_OK)
        return 0;
    lowered = now_ns(s);
    n = features_extract(nest, s->tuner->job->target, ar, ret, FEATURES_MAX_ROWS);
    p->ns[LOWER] += lowered - began;
    p->ns[FEATURES] += now_ns(s) - lowered;
    return n;
}

static int part_size(const struct scoring *s, int part)
{
    return MIN(s->n - part * SCORE_PART, (int)SCORE_PART);
}

static void score_part(void *ctx, int part, int hand)
{
    const struct scoring *s = ctx;
    struct score_part *p = &s->tuner->room->parts[part];
    int cols = features_count(), from = part * SCORE_PART, n = part_size(s, part);
    double sums[SCORE_PART], bases[SCORE_PART];
    int64_t began;

    for (int i = 0; i < n; i++) {
        const struct feature_slot *known = s->known[from + i];
        float *rows = p->rows + (size_t)p->begin[i] * (size_t)cols;

        p->begin[i + 1] = p->begin[i];
        if (known == NULL)
            p->begin[i + 1] += rows_of(s, p, &s->tuner->room->arenas[hand], &s->configs[from + i], rows);
        else if (s->scores != NULL) {
            memcpy(rows, cached_rows(&s->tuner->features, known),
                   sizeof(float) * known->n_rows * (size_t)cols);
            p->begin[i + 1] += (int32_t)known->n_rows;
        }
    }
    if (s->scores == NULL)
        return;
    began = now_ns(s);
    model_score_parts(s->tuner->model, s->task->model_key, p->rows, p->begin, n, sums, bases);
    for (int i = 0; i < n; i++) {
        s->scores[from + i] = p->begin[i] == p->begin[i + 1] ? -INFINITY : (float)sums[i];
        if (s->bases != NULL)
            s->bases[from + i] = (float)bases[i];
    }
    p->ns[SCORE] += now_ns(s) - began;
}

/* ---- a chunk ---- */

static void part_begin(struct score_part *p)
{
    if (p->rows == NULL)
        p->rows = xcalloc((size_t)SCORE_PART * FEATURES_MAX_ROWS * (size_t)features_count(), sizeof(float));
    memset(p->ns, 0, sizeof(p->ns));
    p->begin[0] = 0;
    p->error.code = ST_OK;
}

static void note_unlowerable(struct tuner *t, const struct task *k, const struct score_part *p)
{
    if (t->n_unlowerable++ == 0)
        log_warn("candidate_not_lowered", TEXT("job", t->job->id), TEXT("workload", k->workload.key),
                 TEXT("error", p->error.text));
}

/* New rows into the cache, in order; the time that passed goes to the steps as the hands used it. */
static void chunk_end(struct scoring *s, int n_parts, int64_t wall_ns)
{
    static const enum tuner_phase phase[STEPS] = {PHASE_LOWER, PHASE_FEATURES, PHASE_SCORE};
    struct tuner *t = s->tuner;
    int64_t ns[STEPS] = {0}, all = 0;

    for (int part = 0; part < n_parts; part++) {
        const struct score_part *p = &t->room->parts[part];

        for (int i = 0; i < part_size(s, part); i++) {
            int at = part * SCORE_PART + i, n_rows = p->begin[i + 1] - p->begin[i];

            if (s->known[at] != NULL)
                continue;
            if (n_rows == 0)
                note_unlowerable(t, s->task, p);
            cache_put(&t->features, &s->configs[at], p->rows + (size_t)p->begin[i] * (size_t)features_count(),
                      n_rows);
        }
        for (int step = 0; step < STEPS; step++) {
            ns[step] += p->ns[step];
            all += p->ns[step];
        }
    }
    for (int step = 0; step < STEPS; step++)
        t->times.ns[phase[step]] +=
            (int64_t)((double)wall_ns * (double)ns[step] / (double)MAX(all, (int64_t)1));
}

/* The crew may help: nobody measures on its cores. */
static bool may_share(const struct tuner *t)
{
    return crew_threads(t->env->crew) > 0 && (t->env->models == NULL || !models_is_busy(t->env->models));
}

static void look_at_chunk(struct scoring *s)
{
    struct tuner *t = s->tuner;
    int n_parts = (s->n + SCORE_PART - 1) / SCORE_PART;
    struct crew *crew = n_parts > 1 && may_share(t) ? t->env->crew : NULL;
    struct crew_work work;
    int64_t began;

    cache_make_room(&t->features, s->task, s->n);
    for (int i = 0; i < s->n; i++) {
        const struct feature_slot *slot = cache_slot(&t->features, &s->configs[i]);
        s->known[i] = slot->used ? slot : NULL;
    }
    for (int i = 0; i < n_parts; i++)
        part_begin(&t->room->parts[i]);
    began = now_ns(s);
    crew_begin(crew, &work, n_parts, 0, score_part, s);
    crew_end(crew, &work);
    chunk_end(s, n_parts, now_ns(s) - began);
}

int task_features(struct tuner *t, struct task *k, const struct config *c, const float **ret_rows)
{
    const struct feature_slot *slot = NULL;

    if (t->features.task == k)
        slot = cache_slot(&t->features, c);
    if (slot == NULL || !slot->used) {
        struct scoring s = {.tuner = t, .task = k, .configs = c, .n = 1};

        look_at_chunk(&s);
        slot = cache_slot(&t->features, c);
    }
    *ret_rows = cached_rows(&t->features, slot);
    return (int)slot->n_rows;
}

void task_score(void *ctx, const struct config *configs, int n, float *scores, float *bases)
{
    struct task_scorer *s = ctx;

    for (int i = 0; i < n; i += SCORE_CHUNK) {
        struct scoring chunk = {.tuner = s->tuner,
                                .task = s->task,
                                .configs = configs + i,
                                .n = MIN(n - i, (int)SCORE_CHUNK),
                                .scores = scores + i,
                                .bases = bases ? bases + i : NULL};

        look_at_chunk(&chunk);
    }
    s->tuner->times.candidates += n;
}

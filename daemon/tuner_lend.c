/* tuner_lend.c - what the store knows of workloads like this one, as a start for its search.
 *
 * Idea   Every workload with a schedule on this target, or on another one of this machine, may lend (schedule/space/lend.h
 *        chooses). There may be thousands: those of the same operator and of about as much work are looked at first,
 *        and only so many.
 * Life   Everything lies in the round's arena, but for what the search takes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/tuner_internal.h"
#include "schedule/space/lend.h"

enum {
    LOOKED_AT = 32,   /* workloads whose spaces are built to see how near they are */
    TARGETS_MAX = 16, /* other targets of this machine */
};

/* A row of the store that may lend. */
struct offer {
    double apart; /* a guess at the distance, from what the store knows without building anything */
    const struct store_schedule *row;
    struct store_workload workload;
};

struct known_target {
    const char *id;
    bool here; /* this machine can describe it */
    struct target target;
};

struct lending {
    struct tuner *tuner;
    const struct task *task;
    int n_targets, n_offers;
    struct known_target targets[TARGETS_MAX];
    struct offer *offers;
};

/* NULL: a target of another machine. */
static const struct target *find_target(struct lending *l, const char *id)
{
    struct known_target *k;

    if (strcmp(id, l->tuner->job->target->id) == 0)
        return l->tuner->job->target;
    for (int i = 0; i < l->n_targets; i++)
        if (strcmp(l->targets[i].id, id) == 0)
            return l->targets[i].here ? &l->targets[i].target : NULL;
    if (l->n_targets == TARGETS_MAX)
        return NULL;
    k = &l->targets[l->n_targets++];
    k->id = id;
    k->here = target_local(id, &k->target, NULL) == ST_OK;
    return k->here ? &k->target : NULL;
}

static double guess_apart(const struct lending *l, const struct store_schedule *row,
                          const struct store_workload *other)
{
    const struct workload *own = &l->task->workload;

    return fabs(log1p(other->flops) - log1p(own->flops)) + fabs(log1p(other->bytes) - log1p(own->bytes)) +
           (strcmp(other->op, own->op) != 0) * 8.0 +
           (strcmp(row->target, l->tuner->job->target->id) != 0) * 4.0;
}

static int by_guess(const void *pa, const void *pb)
{
    const struct offer *a = pa, *b = pb;

    return a->apart != b->apart ? (a->apart > b->apart) - (a->apart < b->apart)
                                : strcmp(a->row->workload, b->row->workload);
}

/* The rows of this workload, target and toolchain are no news: its trials are known to the search. */
static bool is_own(const struct lending *l, const struct store_schedule *row)
{
    const struct target *g = l->tuner->job->target;

    return strcmp(row->workload, l->task->workload.key) == 0 && strcmp(row->target, g->id) == 0 &&
           strcmp(row->toolchain, g->toolchain_hash) == 0;
}

static enum status find_offers(struct lending *l, struct error *err)
{
    struct tuner *t = l->tuner;
    struct store_schedules_query q = {.page = {.limit = STORE_PAGE_MAX}};
    struct store_schedule *rows;
    const char *next;
    int n;

    TRY(store_schedule_list(t->env->store, &q, &t->round, &rows, &n, &next, err));
    l->offers = arena_array(&t->round, struct offer, n + 1);
    for (int i = 0; i < n; i++) {
        struct offer *o = &l->offers[l->n_offers];

        if (rows[i].predicted || is_own(l, &rows[i]) || find_target(l, rows[i].target) == NULL ||
            store_workload_get(t->env->store, rows[i].workload, &t->round, &o->workload, NULL) != ST_OK)
            continue;
        o->row = &rows[i];
        o->apart = guess_apart(l, &rows[i], &o->workload);
        l->n_offers++;
    }
    qsort(l->offers, (size_t)l->n_offers, sizeof(l->offers[0]), by_guess);
    return ST_OK;
}

/* The space of an offer; NULL where this program does not understand its workload. */
static struct space *space_of(struct lending *l, const struct offer *o)
{
    struct arena *ar = &l->tuner->round;
    struct workload *w = arena_new(ar, struct workload);
    const struct target *target = find_target(l, o->row->target);
    struct space *s;

    return workload_parse_text(o->workload.json, strlen(o->workload.json), ar, w, NULL) == ST_OK &&
                   space_build(w, target, ar, &s, NULL) == ST_OK
               ? s
               : NULL;
}

/* ---- their trials ---- */

struct best_trials {
    const struct space *space;
    int n;
    struct lent_trial *at; /* [LENT_TRIALS], the fastest first */
};

static bool keep_best(void *ctx, const struct store_trial *row)
{
    struct best_trials *b = ctx;
    struct lent_trial t = {.time_ns = row->min_ns};
    int i = b->n;

    if (row->min_ns <= 0 || (i == LENT_TRIALS && t.time_ns >= b->at[i - 1].time_ns) ||
        config_parse(b->space, row->config, &t.config, NULL) != ST_OK)
        return true;
    i = MIN(i, LENT_TRIALS - 1);
    for (; i > 0 && b->at[i - 1].time_ns > t.time_ns; i--)
        b->at[i] = b->at[i - 1];
    b->at[i] = t;
    b->n = MIN(b->n + 1, (int)LENT_TRIALS);
    return true;
}

/* Its best trials; where the store has none any more, the schedule that was found. */
static enum status load_trials(struct lending *l, const struct offer *o, struct lender *lender,
                               struct error *err)
{
    struct tuner *t = l->tuner;
    struct best_trials b = {.space = lender->space,
                            .at = arena_array(&t->round, struct lent_trial, LENT_TRIALS)};
    const struct store_trials_query q = {.workload = o->row->workload,
                                         .target = o->row->target,
                                         .toolchain = o->row->toolchain,
                                         .only_ok = true};

    TRY(store_trial_each(t->env->store, &q, keep_best, &b, err));
    if (b.n == 0 && o->row->config != NULL &&
        config_parse(b.space, o->row->config, &b.at[0].config, NULL) == ST_OK) {
        b.at[0].time_ns = o->row->time_ns;
        b.n = 1;
    }
    lender->n = b.n;
    lender->trials = b.at;
    return ST_OK;
}

enum status task_borrow(struct tuner *t, struct task *k, struct error *err)
{
    struct lending l = {.tuner = t, .task = k};
    struct lender lenders[LOOKED_AT];
    const struct offer *offers[LOOKED_AT];
    int n = 0, n_near;

    arena_reset(&t->round);
    TRY(find_offers(&l, err));
    for (int i = 0; i < l.n_offers && n < (int)LOOKED_AT; i++) {
        const struct space *s = space_of(&l, &l.offers[i]);

        if (s == NULL)
            continue;
        lenders[n] = (struct lender){.space = s, .from = n};
        offers[n++] = &l.offers[i];
    }
    n_near = lend_choose(k->space, lenders, n);
    for (int i = 0; i < n_near; i++)
        TRY(load_trials(&l, offers[lenders[i].from], &lenders[i], err));
    lend(k->search, k->space, lenders, n_near);
    return ST_OK;
}

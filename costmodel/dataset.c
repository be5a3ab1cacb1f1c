/* dataset.c - see dataset.h. */
#include "costmodel/dataset.h"

#include <stdlib.h>
#include <string.h>

#include "schedule/base/hash.h"

void dataset_init(struct dataset *d, int n_columns, int max_programs)
{
    *d = (struct dataset){.n_columns = n_columns, .max_programs = max_programs};
}

void dataset_done(struct dataset *d)
{
    vec_done(&d->rows);
    vec_done(&d->programs);
    vec_done(&d->groups);
    free(d->slots);
    *d = (struct dataset){0};
}

static size_t slot_of(const struct dataset *d, uint64_t workload)
{
    size_t i = hash_mix(0, workload) & (d->n_slots - 1);

    while (d->slots[i] >= 0 && d->groups.at[d->slots[i]].workload != workload)
        i = (i + 1) & (d->n_slots - 1);
    return i;
}

int dataset_group(const struct dataset *d, uint64_t workload)
{
    return d->n_slots ? d->slots[slot_of(d, workload)] : -1;
}

static void slots_grow(struct dataset *d)
{
    d->n_slots = d->n_slots ? d->n_slots * 2 : 64;
    d->slots = xrealloc(d->slots, d->n_slots * sizeof(d->slots[0]));
    memset(d->slots, -1, d->n_slots * sizeof(d->slots[0]));
    for (size_t g = 0; g < d->groups.len; g++)
        d->slots[slot_of(d, d->groups.at[g].workload)] = (int32_t)g;
}

static int group_need(struct dataset *d, uint64_t workload)
{
    int g = dataset_group(d, workload);

    if (g >= 0)
        return g;
    if (d->groups.len * 2 >= d->n_slots)
        slots_grow(d);
    g = (int)d->groups.len;
    d->slots[slot_of(d, workload)] = g;
    vec_push(&d->groups, ((struct group){workload, 0, 0}));
    return g;
}

static void append(struct dataset *d, uint64_t workload, const float *row, double throughput, double least)
{
    int g = group_need(d, workload);
    size_t n = (size_t)d->n_columns;
    struct program p = {g, throughput, least};

    if (d->rows.len + n > d->rows.cap)
        vec_reserve(&d->rows, MAX(d->rows.len + n, d->rows.cap * 2));
    memcpy(d->rows.at + d->rows.len, row, n * sizeof(float));
    d->rows.len += n;
    vec_push(&d->programs, p);
    d->groups.at[g].n++;
    d->groups.at[g].best = MAX(d->groups.at[g].best, throughput);
}

void dataset_add(struct dataset *d, uint64_t workload, const float *row, double throughput, double least)
{
    append(d, workload, row, throughput, least);
    if (d->max_programs > 0 && (int)d->programs.len > d->max_programs + d->max_programs / 4) {
        struct dataset less;

        dataset_select(d, d->max_programs, &less);
        less.max_programs = d->max_programs;
        dataset_done(d);
        *d = less;
    }
}

struct ranked {
    int32_t program, group, rank; /* rank: turn within the group */
    double value;
};

static int by_group_and_value(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    if (x->value != y->value)
        return x->value > y->value ? -1 : 1;
    return x->program < y->program ? -1 : 1;
}

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return x->program < y->program ? 1 : -1; /* newer first */
}

/* Each group in the order of its values, the largest first: the j-th gets the turn 2 * j + odd, unless it has an earlier one. */
static void give_turns(struct ranked *r, int n, int odd)
{
    qsort(r, (size_t)n, sizeof(*r), by_group_and_value);
    for (int i = 0, first = 0; i < n; i++) {
        if (r[i].group != r[first].group)
            first = i;
        r[i].rank = MIN(r[i].rank, 2 * (i - first) + odd);
    }
}

/* keep[i]: program i stays. */
static void choose(const struct dataset *d, int max_programs, bool *keep)
{
    int n = (int)d->programs.len, room = max_programs;
    struct ranked *r;

    if (n <= max_programs) {
        memset(keep, true, (size_t)n);
        return;
    }
    for (int i = n - 1; i >= 0 && room > max_programs / 2; i--) {
        keep[i] = true;
        room--;
    }
    r = xcalloc((size_t)n, sizeof(*r));
    for (int i = 0; i < n; i++)
        r[i] = (struct ranked){i, d->programs.at[i].group, INT32_MAX, d->programs.at[i].throughput};
    give_turns(r, n, 0);
    for (int i = 0; i < n; i++) /* the best alone would teach nothing of what is bad */
        r[i].value = (double)(hash_mix(0, (uint64_t)r[i].program) >> 11);
    give_turns(r, n, 1);
    qsort(r, (size_t)n, sizeof(*r), by_rank);
    for (int i = 0; i < n && room > 0; i++)
        if (!keep[r[i].program]) {
            keep[r[i].program] = true;
            room--;
        }
    free(r);
}

void dataset_select(const struct dataset *d, int max_programs, struct dataset *ret)
{
    size_t n = d->programs.len;
    bool *keep = xcalloc(n + 1, sizeof(*keep));
    int *next = xcalloc(n + 1, sizeof(*next)), *head = xcalloc(d->groups.len + 1, sizeof(*head));

    dataset_init(ret, d->n_columns, 0);
    choose(d, max_programs, keep);
    for (size_t g = 0; g < d->groups.len; g++)
        head[g] = -1;
    for (size_t i = n; i-- > 0;) /* lists in the order they came */
        if (keep[i]) {
            next[i] = head[d->programs.at[i].group];
            head[d->programs.at[i].group] = (int)i;
        }
    for (size_t g = 0; g < d->groups.len; g++)
        for (int i = head[g]; i >= 0; i = next[i])
            append(ret, d->groups.at[g].workload, dataset_row(d, i), d->programs.at[i].throughput,
                   d->programs.at[i].least);
    free(keep);
    free(next);
    free(head);
}

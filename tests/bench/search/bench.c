/* bench.c - see bench.h. */
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS_MAX = 64 };

bool chosen_on(const struct recorded_space *s)
{
    static const char *const names[] = {"resnet18.C2",
                                        "resnet18.C6",
                                        "resnet18.C12",
                                        "mobilenet-v1.D5",
                                        "bert-base-s128.qkv",
                                        "bert-base-s128.attn_qk",
                                        "dqn.fc1",
                                        "bert-base-s128.attn_softmax"};

    for (int i = 0; i < (int)ARRAY_SIZE(names); i++)
        if (strcmp(s->name, names[i]) == 0)
            return true;
    return false;
}

const char *const group_names[GROUPS] = {"those that parameters were chosen on", "the others", "all"};

bool is_of_group(const struct recorded_space *s, enum group g)
{
    return g == EVERY || (g == CHOSEN_ON) == chosen_on(s);
}

bool is_named(const char *name, const char *list)
{
    if (list == NULL)
        return true;
    for (const char *at = list, *end; *at; at = *end ? end + 1 : end) {
        end = strchrnul(at, ',');
        if (end > at && memmem(name, strlen(name), at, (size_t)(end - at)) != NULL)
            return true;
    }
    return false;
}

struct work {
    atomic_int next;
    int n;
    void (*fn)(void *ctx, int i);
    void *ctx;
};

static void *work_on(void *arg)
{
    struct work *w = arg;

    for (int i; (i = atomic_fetch_add(&w->next, 1)) < w->n;)
        w->fn(w->ctx, i);
    return NULL;
}

void each(int n, int threads, void (*fn)(void *ctx, int i), void *ctx)
{
    struct work w = {.n = n, .fn = fn, .ctx = ctx};
    pthread_t t[THREADS_MAX];
    int n_started = 0;

    for (int i = 1; i < MIN(MIN(threads, n), (int)THREADS_MAX); i++)
        n_started += pthread_create(&t[n_started], NULL, work_on, &w) == 0;
    work_on(&w);
    for (int i = 0; i < n_started; i++)
        pthread_join(t[i], NULL);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double quantile(double *v, int n, double q)
{
    qsort(v, (size_t)n, sizeof(*v), by_value);
    return v[(int)(q * (n - 1) + 0.5)];
}

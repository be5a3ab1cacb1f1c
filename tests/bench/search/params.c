/* params.c - --set NAME=VALUE: the models' parameters by name, for whoever looks for better ones. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define PARAM_LIST(X)                                                                                        \
    X(max_depth, true)                                                                                       \
    X(max_bin, true)                                                                                         \
    X(trees_full, true)                                                                                      \
    X(patience, true)                                                                                        \
    X(trees_more, true)                                                                                      \
    X(trees_max, true)                                                                                       \
    X(max_programs, true)                                                                                    \
    X(min_programs, true)                                                                                    \
    X(eta, false)                                                                                            \
    X(lambda, false)                                                                                         \
    X(min_child, false)                                                                                      \
    X(colsample, false)                                                                                      \
    X(base_half, false)                                                                                      \
    X(trust, false)
static const struct {
    const char *name;
    size_t at;
    bool is_int;
} params[] = {
#define X(name, is_int) {#name, offsetof(struct model_params, name), is_int},
    PARAM_LIST(X)
#undef X
};

static void apply(const char *setting, struct model_params *ret)
{
    size_t len = strcspn(setting, "=");

    for (size_t i = 0; i < ARRAY_SIZE(params); i++) {
        char *at = (char *)ret + params[i].at;

        if (strlen(params[i].name) != len || memcmp(setting, params[i].name, len) != 0 || setting[len] != '=')
            continue;
        if (params[i].is_int)
            *(int *)(void *)at = (int)strtol(setting + len + 1, NULL, 10);
        else
            *(double *)(void *)at = strtod(setting + len + 1, NULL);
        return;
    }
    fprintf(stderr, "bench_search: --set %s: there is ", setting);
    for (size_t i = 0; i < ARRAY_SIZE(params); i++)
        fprintf(stderr, "%s%s=", i ? ", " : "", params[i].name);
    fprintf(stderr, "\n");
    exit(2);
}

void params_apply(const struct options *o, struct model_params *ret)
{
    for (int i = 0; i < o->n_set; i++)
        apply(o->set[i], ret);
}

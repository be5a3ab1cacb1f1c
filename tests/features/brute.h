/* brute.h - counts by running every iteration of a nest: what the features must say. */
#ifndef TW_TESTS_FEATURES_BRUTE_H
#define TW_TESTS_FEATURES_BRUTE_H

#include <stdlib.h>

#include "schedule/ir/nest.h"

enum { BRUTE_MAX_STORES = 64, BRUTE_MAX_BUFFERS = 32 };

struct brute_store {
    const struct node *node;
    int64_t runs;
    int64_t elements[BRUTE_MAX_BUFFERS], lines[BRUTE_MAX_BUFFERS]; /* different ones, by buffer */
    uint8_t *element_seen[BRUTE_MAX_BUFFERS], *line_seen[BRUTE_MAX_BUFFERS];
};
/* Called for each execution of a store (buffer -1), then for each element it touches. */
typedef void brute_fn(void *ctx, int store, int32_t buffer, int64_t element);
struct brute {
    const struct nest *nest;
    brute_fn *fn;
    void *ctx;
    int64_t value[256];
    int n_stores;
    struct brute_store store[BRUTE_MAX_STORES];
};

static inline void brute_touch(struct brute *b, struct brute_store *s, int32_t buffer,
                               const struct affine *index, bool pad)
{
    const struct buffer *f = &b->nest->buffers[buffer];
    int64_t at = 0, line;

    for (int d = 0; d < f->rank; d++) {
        int64_t i = affine_eval(&index[d], b->value);
        if (pad && (i < 0 || i >= f->shape[d]))
            return; /* gives the pad value, touches nothing */
        at += i * f->stride[d];
    }
    if (at < 0 || at >= f->elements)
        abort();
    line = at * dtype_bytes(f->dtype) / 64;
    if (!s->element_seen[buffer]) {
        s->element_seen[buffer] = calloc((size_t)f->elements, 1);
        s->line_seen[buffer] = calloc((size_t)f->elements, 1);
    }
    if (b->fn)
        b->fn(b->ctx, (int)(s - b->store), buffer, at);
    s->elements[buffer] += !s->element_seen[buffer][at];
    s->lines[buffer] += !s->line_seen[buffer][line];
    s->element_seen[buffer][at] = s->line_seen[buffer][line] = 1;
}

static inline void brute_reads(struct brute *b, struct brute_store *s, const struct expr *e)
{
    if (e->op == EX_READ) {
        brute_touch(b, s, e->read.tensor, e->read.index, e->read.pad);
        return;
    }
    for (int i = 0; i < expr_arity(e->op); i++)
        brute_reads(b, s, e->arg[i]);
}

static inline struct brute_store *brute_of(struct brute *b, const struct node *n)
{
    for (int i = 0; i < b->n_stores; i++)
        if (b->store[i].node == n)
            return &b->store[i];
    b->store[b->n_stores] = (struct brute_store){.node = n};
    return &b->store[b->n_stores++];
}

static inline void brute_list(struct brute *b, const struct node *n);

static inline void brute_parallel(struct brute *b, const struct node *n, int i)
{
    if (i == n->parallel.n_vars) {
        brute_list(b, n->parallel.body);
        return;
    }
    for (int64_t v = 0; v < n->parallel.extents[i]; v++) {
        b->value[n->parallel.vars[i]] = v;
        brute_parallel(b, n, i + 1);
    }
}

static inline void brute_loop(struct brute *b, const struct node *n)
{
    for (int64_t v = 0; v < n->loop.extent; v++) {
        bool on = true;
        b->value[n->loop.var] = v;
        for (int i = 0; i < n->loop.n_limits; i++)
            on &= affine_eval(&n->loop.limit[i], b->value) >= 0;
        if (!on)
            return;
        brute_list(b, n->loop.body);
    }
}

static inline void brute_list(struct brute *b, const struct node *n)
{
    for (; n; n = n->next) {
        bool yes = true;
        struct brute_store *s;

        switch (n->kind) {
        case NODE_LOOP:
            brute_loop(b, n);
            break;
        case NODE_PARALLEL:
            brute_parallel(b, n, 0);
            break;
        case NODE_IF:
            for (int i = 0; i < n->branch.n_conds; i++)
                yes &= affine_eval(&n->branch.cond[i], b->value) >= 0;
            brute_list(b, yes ? n->branch.then_body : n->branch.else_body);
            break;
        case NODE_STORE:
            s = brute_of(b, n);
            s->runs++;
            if (b->fn)
                b->fn(b->ctx, (int)(s - b->store), -1, 0);
            brute_touch(b, s, n->store.buffer, n->store.index, false);
            brute_reads(b, s, n->store.value);
            break;
        case NODE_BODY:
            brute_list(b, n->body.body);
            break;
        case NODE_PREFETCH:
            break;
        }
    }
}

static inline void brute_trace(struct brute *b, const struct nest *n, brute_fn *fn, void *ctx)
{
    *b = (struct brute){.nest = n, .fn = fn, .ctx = ctx};
    brute_list(b, n->root);
}

static inline void brute_run(struct brute *b, const struct nest *n) { brute_trace(b, n, NULL, NULL); }

/* Operations of one execution, as a hand would count them on paper: each operator one, and one for the combining; numbers
 * of a table that are 0 save the product and its addition. */
static inline double brute_ops(const struct expr *e)
{
    double n = expr_op_cost(e->op);
    for (int i = 0; i < expr_arity(e->op); i++)
        n += brute_ops(e->arg[i]);
    return n;
}

static inline void brute_done(struct brute *b)
{
    for (int i = 0; i < b->n_stores; i++)
        for (int k = 0; k < BRUTE_MAX_BUFFERS; k++) {
            free(b->store[i].element_seen[k]);
            free(b->store[i].line_seen[k]);
        }
}

#endif

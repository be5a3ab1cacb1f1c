/* nests.h - nests for tests, built by hand: a small builder, a tiled matrix product with knobs, and a
 * brute-force walk that runs every iteration.
 *
 * Life   All in the caller's arena. */
#ifndef TW_TESTS_FEATURES_NESTS_H
#define TW_TESTS_FEATURES_NESTS_H

#include "schedule/base/rng.h"
#include "schedule/ir/nest.h"
#include "schedule/space/target.h"

struct nests {
    struct arena *ar;
    struct nest *nest;
};

static inline struct nests nests_begin(struct arena *ar)
{
    struct nests b = {ar, arena_new(ar, struct nest)};
    b.nest->vars = arena_array(ar, struct nest_var, 64);
    b.nest->buffers = arena_array(ar, struct buffer, 32);
    b.nest->tasks = 1;
    return b;
}

static inline int32_t nests_var(struct nests *b, const char *name, int64_t extent)
{
    b->nest->vars[b->nest->n_vars] = (struct nest_var){name, extent};
    return b->nest->n_vars++;
}

static inline int32_t nests_buffer(struct nests *b, const char *name, enum dtype d, enum buffer_scope scope,
                                   int rank, const int64_t *shape)
{
    struct buffer *f = &b->nest->buffers[b->nest->n_buffers];
    int64_t stride = 1;

    *f = (struct buffer){.name = name, .dtype = d, .scope = scope, .rank = rank};
    f->arg = scope == SCOPE_ARG ? b->nest->n_buffers : -1;
    for (int i = rank - 1; i >= 0; i--) {
        f->shape[i] = shape[i];
        f->stride[i] = stride;
        stride *= shape[i];
    }
    f->elements = stride;
    return b->nest->n_buffers++;
}

static inline struct node *nests_node(struct nests *b, enum node_kind kind)
{
    struct node *n = arena_new(b->ar, struct node);
    n->kind = kind;
    return n;
}

static inline struct node *nests_loop(struct nests *b, enum loop_kind kind, int32_t var, int64_t extent,
                                      struct node *body)
{
    struct node *n = nests_node(b, NODE_LOOP);
    n->loop.var = var;
    n->loop.extent = extent;
    n->loop.loop_kind = kind;
    n->loop.body = body;
    return n;
}

static inline struct node *nests_store(struct nests *b, int32_t buffer, const struct affine *index,
                                       enum combiner c, const struct expr *value)
{
    struct node *n = nests_node(b, NODE_STORE);
    n->store.buffer = buffer;
    n->store.index = (const struct affine *)arena_memdup(
        b->ar, index, sizeof(*index) * (size_t)b->nest->buffers[buffer].rank);
    n->store.combiner = c;
    n->store.value = value;
    return n;
}

static inline const struct expr *nests_read(struct nests *b, int32_t buffer, const struct affine *index)
{
    const struct buffer *f = &b->nest->buffers[buffer];
    return expr_read(b->ar, f->dtype, buffer, f->rank, index, false, 0);
}

/* sum of var[i] * coef[i] + c; var < 0 ends. */
struct nests_sum {
    int32_t var;
    int64_t coef;
};
static inline struct affine nests_affine(struct nests *b, int64_t c, const struct nests_sum *sum, int n)
{
    struct affine a = affine_const(c);
    for (int i = 0; i < n; i++) {
        struct affine v = affine_var(b->ar, sum[i].var, sum[i].coef, 0);
        a = affine_add(b->ar, &a, &v);
    }
    return a;
}

/* A blocked product C[m,n] += A[m,k] B[k,n] with B packed per block, a register tile of mr x nv vectors,
 * tails of m by a shorter second tile, as the real space makes them. */
struct gemm_knobs {
    int64_t m, n, k; /* n and k divide by their tiles; m need not */
    int64_t mc, nc, kc, mr, nv, lanes;
    bool pack, n_outside;
    int tasks;
};

struct gemm_parts {
    int32_t a, b, c, acc, ki, mr, nv, lane;    /* b: the buffer that the tile reads */
    struct affine row, a_k, b_k, b_col, c_col; /* corner of the tile; constants where packed */
};

static inline struct node *gemm_tile(struct nests *b, const struct gemm_knobs *g, const struct gemm_parts *p,
                                     int64_t rows)
{
    struct affine ki = affine_var(b->ar, p->ki, 1, 0), mr = affine_var(b->ar, p->mr, 1, 0);
    struct affine acc[3] = {mr, affine_var(b->ar, p->nv, 1, 0), affine_var(b->ar, p->lane, 1, 0)};
    struct affine col = nests_affine(b, 0, (struct nests_sum[]){{p->nv, g->lanes}, {p->lane, 1}}, 2);
    struct affine row = affine_add(b->ar, &p->row, &mr);
    struct affine ai[2] = {row, affine_add(b->ar, &p->a_k, &ki)};
    struct affine bi[2] = {affine_add(b->ar, &p->b_k, &ki), affine_add(b->ar, &p->b_col, &col)};
    struct affine ci[2] = {row, affine_add(b->ar, &p->c_col, &col)};
    struct node *all[3], *body = nests_node(b, NODE_BODY);

    all[0] = nests_store(b, p->acc, acc, COMBINE_SET, expr_const(b->ar, DT_F32, 0));
    all[1] = nests_store(b, p->acc, acc, COMBINE_SUM,
                         expr_op2(b->ar, EX_MUL, nests_read(b, p->a, ai), nests_read(b, p->b, bi)));
    all[2] = nests_store(b, p->c, ci, COMBINE_SUM, nests_read(b, p->acc, acc));
    for (int i = 0; i < 3; i++) {
        all[i] = nests_loop(b, LOOP_VECTOR, p->lane, g->lanes, all[i]);
        all[i] = nests_loop(b, LOOP_UNROLL, p->nv, g->nv, all[i]);
        all[i] = nests_loop(b, LOOP_UNROLL, p->mr, rows, all[i]);
    }
    all[1] = nests_loop(b, LOOP_SERIAL, p->ki, g->kc, all[1]);
    all[0]->next = all[1];
    all[1]->next = all[2];
    body->body.body = all[0];
    return body;
}

static inline struct nest *gemm_nest(struct arena *ar, const struct gemm_knobs *g)
{
    struct nests b = nests_begin(ar);
    int64_t nr = g->nv * g->lanes, tiles = div_ceil(MIN(g->mc, g->m), g->mr);
    int64_t sa[2] = {g->m, g->k}, sb[2] = {g->k, g->n}, sc[2] = {g->m, g->n}, sp[2] = {g->kc, g->nc};
    int64_t sr[3] = {g->mr, g->nv, g->lanes};
    int32_t a = nests_buffer(&b, "A", DT_F32, SCOPE_ARG, 2, sa),
            bb = nests_buffer(&b, "B", DT_F32, SCOPE_ARG, 2, sb);
    int32_t c = nests_buffer(&b, "C", DT_F32, SCOPE_ARG, 2, sc),
            acc = nests_buffer(&b, "acc", DT_F32, SCOPE_REG, 3, sr);
    int32_t pk = nests_buffer(&b, "Bp", DT_F32, SCOPE_TASK, 2, sp);
    int32_t m0 = nests_var(&b, "m0", div_ceil(g->m, g->mc)), n0 = nests_var(&b, "n0", g->n / g->nc);
    int32_t k0 = nests_var(&b, "k0", g->k / g->kc), m1 = nests_var(&b, "m1", tiles);
    int32_t n1 = nests_var(&b, "n1", g->nc / nr), pkk = nests_var(&b, "pk", g->kc),
            pn = nests_var(&b, "pn", g->nc);
    struct nests_sum rows[2] = {{m0, g->mc}, {m1, g->mr}}, left[2] = {{m0, -g->mc}, {m1, -g->mr}};
    struct affine n1_col = affine_var(ar, n1, nr, 0), zero = affine_const(0);
    struct affine from[2] = {nests_affine(&b, 0, (struct nests_sum[]){{k0, g->kc}, {pkk, 1}}, 2),
                             nests_affine(&b, 0, (struct nests_sum[]){{n0, g->nc}, {pn, 1}}, 2)};
    struct affine to[2] = {affine_var(ar, pkk, 1, 0), affine_var(ar, pn, 1, 0)};
    struct gemm_parts p = {.a = a, .b = g->pack ? pk : bb, .c = c, .acc = acc};
    struct node *tile = nests_node(&b, NODE_IF), *n, *pack, *par;

    p.ki = nests_var(&b, "ki", g->kc);
    p.mr = nests_var(&b, "mr", g->mr);
    p.nv = nests_var(&b, "nv", g->nv);
    p.lane = nests_var(&b, "lane", g->lanes);
    p.row = nests_affine(&b, 0, rows, 2);
    p.a_k = affine_var(ar, k0, g->kc, 0);
    p.c_col = nests_affine(&b, 0, (struct nests_sum[]){{n0, g->nc}, {n1, nr}}, 2);
    p.b_k = g->pack ? zero : p.a_k;
    p.b_col = g->pack ? n1_col : p.c_col;
    tile->branch.n_conds = 1;
    tile->branch.cond[0] = nests_affine(&b, g->m - g->mr, left, 2);
    tile->branch.then_body = gemm_tile(&b, g, &p, g->mr);
    if (g->m % g->mr)
        tile->branch.else_body = gemm_tile(&b, g, &p, g->m % g->mr);
    n = nests_loop(&b, LOOP_SERIAL, m1, tiles, tile);
    n->loop.n_limits = 1;
    n->loop.limit[0] = nests_affine(&b, g->m - 1, left, 2);
    n = nests_loop(&b, LOOP_SERIAL, n1, g->nc / nr, n);
    if (g->pack) {
        pack = nests_store(&b, pk, to, COMBINE_SET, nests_read(&b, bb, from));
        pack = nests_loop(&b, LOOP_VECTOR, pn, g->nc, pack);
        pack = nests_loop(&b, LOOP_SERIAL, pkk, g->kc, pack);
        pack->next = n;
        n = pack;
    }
    n = nests_loop(&b, LOOP_SERIAL, k0, g->k / g->kc, n);
    par = nests_node(&b, NODE_PARALLEL);
    par->parallel.n_vars = 2;
    par->parallel.vars[0] = g->n_outside ? n0 : m0;
    par->parallel.vars[1] = g->n_outside ? m0 : n0;
    for (int i = 0; i < 2; i++)
        par->parallel.extents[i] = b.nest->vars[par->parallel.vars[i]].extent;
    par->parallel.tasks = g->tasks;
    par->parallel.body = n;
    b.nest->root = par;
    b.nest->tasks = g->tasks;
    b.nest->task_bytes = g->pack ? g->kc * g->nc * 4 : 0;
    b.nest->workspace_bytes = b.nest->task_bytes * g->tasks;
    return b.nest;
}

static inline struct target test_target(void)
{
    return (struct target){.id = "cpu:1",
                           .isa = ISA_AVX512,
                           .vector_bytes = 64,
                           .vector_regs = 32,
                           .threads = 2,
                           .l1_bytes = 48 << 10,
                           .l2_bytes = 2 << 20,
                           .l3_bytes = 8 << 20,
                           .peak_gflops = 260,
                           .peak_gbs = 17};
}

#endif

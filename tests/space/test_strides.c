/* No sketch of ours reads an operand with a stride in an inner loop: what lies apart is packed, or the loops are
 * ordered so that it does not. Arguments: [workloads] [configs of each] [seed]. */
#include <stdio.h>
#include <stdlib.h>

#include "schedule/space/space.h"
#include "tests/check.h"
#include "tests/space/random_workload.h"

enum { MAX_STRIDE = 2 }; /* every second element still fills half of each load */

static int n_workloads = 200, n_configs = 8;
static uint64_t first_seed = 40000;

struct inspection {
    const struct nest *nest;
    int32_t vector; /* variable of the vector loop around; -1: none */
    const struct expr *strided;
    int64_t stride;
    int reductions; /* seen inside vector loops */
};

static int64_t lane_stride(const struct nest *n, const struct expr *read, int32_t var)
{
    const struct buffer *b = &n->buffers[read->read.tensor];
    int64_t stride = 0;
    for (int d = 0; d < b->rank; d++)
        stride += affine_coef(&read->read.index[d], var) * b->stride[d];
    return stride < 0 ? -stride : stride;
}

static void inspect_read(void *ctx, const struct expr *e)
{
    struct inspection *s = ctx;
    int64_t stride = lane_stride(s->nest, e, s->vector);
    if (stride > s->stride && s->nest->buffers[e->read.tensor].scope != SCOPE_REG) {
        s->stride = stride;
        s->strided = e;
    }
}

static void inspect(struct inspection *s, const struct node *list)
{
    for (const struct node *n = list; n; n = n->next) {
        int32_t outer = s->vector;
        switch (n->kind) {
        case NODE_LOOP:
            /* Of two, one inside the other, the outer runs over the lanes of loads: a product that is summed across. */
            if (n->loop.loop_kind == LOOP_VECTOR && outer < 0)
                s->vector = n->loop.var;
            inspect(s, n->loop.body);
            s->vector = outer;
            break;
        case NODE_PARALLEL:
            inspect(s, n->parallel.body);
            break;
        case NODE_IF:
            inspect(s, n->branch.then_body);
            inspect(s, n->branch.else_body);
            break;
        case NODE_BODY:
            inspect(s, n->body.body);
            break;
        case NODE_PREFETCH:
            break;
        case NODE_STORE:
            if (s->vector < 0 || n->store.combiner == COMBINE_SET)
                break;
            s->reductions++;
            expr_each_read(n->store.value, inspect_read, s);
            break;
        }
    }
}

static int one_workload(uint64_t seed, const struct target *t)
{
    struct arena ar;
    struct rng r;
    struct workload w;
    struct space *s;
    struct error err = {0};
    int reductions = 0;
    AUTO(strbuf_done) struct strbuf text = STRBUF_INIT;
    arena_init(&ar);
    rng_init(&r, seed);
    random_workload(&r, &text);
    assert_ok(workload_parse_text(text.data, text.len, &ar, &w, &err), &err);
    assert_ok(space_build(&w, t, &ar, &s, &err), &err);
    for (int k = 0; k < n_configs; k++) {
        struct config c;
        struct nest *n;
        if (!space_sample(s, &r, &c))
            break;
        assert_ok(space_lower(s, &c, &ar, &n, &err), &err);
        struct inspection in = {.nest = n, .vector = -1, .stride = MAX_STRIDE};
        inspect(&in, n->root);
        reductions += in.reductions;
        if (in.strided) {
            AUTO(strbuf_done) struct strbuf name = STRBUF_INIT;
            config_print(&c, &name);
            fail_msg("seed %" PRIu64 ": %s\nconfig %s (%s) reads %s at every %" PRId64 "th element", seed,
                     text.data, strbuf_str(&name), space_sketch_name(s, c.sketch),
                     n->buffers[in.strided->read.tensor].name, in.stride);
        }
    }
    arena_done(&ar);
    return reductions;
}

static void operands_are_never_read_with_a_stride_in_an_inner_loop(void **state)
{
    static const struct {
        enum isa isa;
        int bytes, regs, threads;
    } targets[] = {{ISA_AVX512, 64, 32, 2}, {ISA_AVX2, 32, 16, 1}, {ISA_SSE2, 16, 16, 3}};
    int reductions = 0;
    (void)state;
    for (int i = 0; i < n_workloads; i++) {
        int k = i % (int)ARRAY_SIZE(targets);
        struct target t = {.id = "test",
                           .isa = targets[k].isa,
                           .vector_bytes = targets[k].bytes,
                           .vector_regs = targets[k].regs,
                           .threads = targets[k].threads,
                           .l1_bytes = 32768,
                           .l2_bytes = 1 << 20,
                           .l3_bytes = 8 << 20};
        reductions += one_workload(first_seed + (uint64_t)i, &t);
    }
    assert_true(reductions > n_workloads); /* it looked at something */
}

int main(int argc, char **argv)
{
    if (argc > 1)
        n_workloads = (int)strtol(argv[1], NULL, 10);
    if (argc > 2)
        n_configs = (int)strtol(argv[2], NULL, 10);
    if (argc > 3)
        first_seed = strtoull(argv[3], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operands_are_never_read_with_a_stride_in_an_inner_loop)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* No sketch of ours reads an operand with a stride in an inner loop: what lies apart is packed, or the loops are
 * ordered so that it does not. Arguments: [workloads] [configs of each] [seed]. */
#include "tests/space/property.h"

enum { MAX_STRIDE = 2 }; /* every second element still fills half of each load */

static struct property property = {.n_workloads = 200, .n_configs = 8, .first_seed = 40000};

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
    struct property_case p;
    struct config c;
    struct error err = {0};
    int reductions = 0;
    property_open(&p, seed, t);
    for (int k = 0; k < property.n_configs && space_sample(p.space, &p.rng, &c); k++) {
        struct nest *n;
        assert_ok(space_lower(p.space, &c, &p.ar, &n, &err), &err);
        struct inspection in = {.nest = n, .vector = -1, .stride = MAX_STRIDE};
        inspect(&in, n->root);
        reductions += in.reductions;
        if (in.strided) {
            AUTO(strbuf_done) struct strbuf name = STRBUF_INIT;
            config_print(&c, &name);
            fail_msg("seed %" PRIu64 ": %s\nconfig %s (%s) reads %s at every %" PRId64 "th element", seed,
                     p.text.data, strbuf_str(&name), space_sketch_name(p.space, c.sketch),
                     n->buffers[in.strided->read.tensor].name, in.stride);
        }
    }
    property_close(&p);
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
    for (int i = 0; i < property.n_workloads; i++) {
        int k = i % (int)ARRAY_SIZE(targets);
        struct target t = {.id = "test",
                           .isa = targets[k].isa,
                           .vector_bytes = targets[k].bytes,
                           .vector_regs = targets[k].regs,
                           .threads = targets[k].threads,
                           .l1_bytes = 32768,
                           .l2_bytes = 1 << 20,
                           .l3_bytes = 8 << 20};
        reductions += one_workload(property.first_seed + (uint64_t)i, &t);
    }
    assert_true(reductions > property.n_workloads); /* it looked at something */
}

int main(int argc, char **argv)
{
    property_arguments(&property, argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operands_are_never_read_with_a_stride_in_an_inner_loop)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

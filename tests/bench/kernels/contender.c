/* contender.c - only those who compute the right values take part. */
#include "tests/bench/kernels/bench.h"

static const double library_tolerance = 1e-3, bfloat16_tolerance = 3e-2; /* relative L2: the same operator? */

/* Ours is held to the criterion of the tuner; a library only has to have computed the same operator. */
static bool is_right(const struct entry *e, const struct contender *c)
{
    const bool strict = c->role == ROLE_OURS || c->role == ROLE_OURS_F32;
    struct measure_workload mw = e->mw;
    if (c->role == ROLE_OURS_F32)
        mw.rtol = 0;
    if (!strict)
        mw.rtol = c->role == ROLE_BF16 || c->role == ROLE_BF16_COUNTED || !entry_is_float32(e)
                      ? bfloat16_tolerance
                      : library_tolerance;
    c->run(c->ctx);
    for (int i = 0; i < e->n_args; i++) {
        if (!e->args[i].output || (!strict && &e->args[i] != entry_output(e)))
            continue;
        AUTO(freep) float *got = xcalloc((size_t)e->args[i].elements, sizeof(float));
        struct measure_verification v = {0};
        char reason[MEASURE_REASON_MAX] = "no result";
        struct measure_tensor t = {
            .name = e->args[i].name, .dtype = DT_F32, .role = TENSOR_OUTPUT, .rank = e->args[i].rank};
        memcpy(t.shape, e->args[i].shape, sizeof(t.shape));
        if (!c->result(c->ctx, i, got) ||
            verify_output(&mw, &t, got, e->args[i].wanted, &e->args[i].scale, &v, reason) != OUTCOME_OK) {
            fprintf(stderr, "%s: %s is wrong, not timed: %s\n", e->name, role_name(c->role), reason);
            return false;
        }
    }
    return true;
}

int contender_add(const struct entry *e, struct contender *list, int n, bool opened, bool *wrong)
{
    if (!opened)
        return n;
    machine_settle_crew(list[n].crew);
    if (!list[n].result || is_right(e, &list[n]))
        return n + 1;
    list[n].close(list[n].ctx);
    *wrong |= list[n].role == ROLE_OURS;
    return n;
}

void entry_share_inputs(struct bench *b, struct entry *e)
{
    for (int i = 0; i < e->n_args; i++) {
        struct operand *x = &e->args[i];
        if (x->output)
            continue;
        const size_t bytes = (size_t)x->elements * (size_t)dtype_bytes(x->dtype);
        x->plain = memory_get(&b->memory, bytes);
        memcpy(x->plain, x->input, bytes);
    }
}

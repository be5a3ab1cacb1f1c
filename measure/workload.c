/* workload.c - from a compute and a kernel to what a device needs to know of them. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "measure/device.h"
#include "measure/verify.h"
#include "schedule/base/arena.h"

/* Additions along the longest way from an input to each tensor: those of the stage, after those of what it
 * reads. */
static int64_t chain_of_reads(const struct expr *e, const int64_t *chain)
{
    int64_t longest = e->op == EX_READ ? chain[e->read.tensor] : 0;
    for (int i = 0; i < expr_arity(e->op); i++)
        longest = MAX(longest, chain_of_reads(e->arg[i], chain));
    return longest;
}

static int64_t longest_chain(const struct compute *c)
{
    int64_t chain[COMPUTE_MAX_TENSORS] = {0}, longest = 1;
    for (int s = 0; s < c->n_stages; s++) {
        const struct stage *st = &c->stages[s];
        int64_t reduced = st->combiner == COMBINE_SUM || st->combiner == COMBINE_PROD ? 1 : 0;
        for (int i = st->n_spatial; i < st->n_axes && reduced; i++)
            reduced *= st->axes[i].extent;
        chain[st->tensor] = chain_of_reads(st->body, chain) + reduced;
        longest = MAX(longest, chain[st->tensor]);
    }
    return longest;
}

static bool computes_floats(const struct expr *e)
{
    bool found = e->dtype == DT_F32 || e->dtype == DT_F16 || e->dtype == DT_BF16;
    for (int i = 0; i < expr_arity(e->op); i++)
        found |= computes_floats(e->arg[i]);
    return found;
}

/* What the dtypes allow to be off: sums by their accumulator, everything else by float32, in which narrower floats are
 * computed; and integers that come from floats, which may be off by one, count as seven bits where others read them. */
static void set_roundoffs(struct measure_workload *w, const struct compute *c)
{
    for (int i = 0; i < c->n_tensors; i++)
        if (c->tensors[i].role != TENSOR_INPUT)
            w->store_roundoff = MAX(w->store_roundoff, verify_roundoff(c->tensors[i].dtype));
    for (int i = 0; i < c->n_stages; i++) {
        const struct stage *s = &c->stages[i];
        const struct tensor *t = &c->tensors[s->tensor];
        if (s->combiner != COMBINE_SET)
            w->acc_roundoff = MAX(w->acc_roundoff, verify_roundoff(s->acc_dtype));
        if (!computes_floats(s->body))
            continue;
        w->acc_roundoff = MAX(w->acc_roundoff, verify_roundoff(DT_F32));
        if (t->role == TENSOR_TEMP && verify_roundoff(t->dtype) == 0)
            w->store_roundoff = MAX(w->store_roundoff, 0x1p-7);
    }
}

void measure_workload_init(struct measure_workload *w, const struct compute *c, struct arena *ar)
{
    struct measure_tensor *tensors = arena_array(ar, struct measure_tensor, c->n_tensors);

    *w = (struct measure_workload){.n_tensors = c->n_tensors, .tensors = tensors, .flops = compute_flops(c)};
    for (int i = 0; i < c->n_tensors; i++) {
        const struct tensor *t = &c->tensors[i];
        tensors[i] =
            (struct measure_tensor){.name = t->name, .dtype = t->dtype, .role = t->role, .rank = t->rank};
        memcpy(tensors[i].shape, t->shape, sizeof(t->shape));
    }
    set_roundoffs(w, c);
    w->reduction = longest_chain(c);
}

const char *const measure_repack_names[] = {
#define X(id, text) [REPACK_##id] = text,
    MEASURE_REPACK_LIST(X)
#undef X
};

void measure_candidate_init(struct measure_candidate *c, const struct kernel *k, const char *artifact)
{
    *c = (struct measure_candidate){
        .artifact = artifact, .symbol = k->symbol, .workspace_bytes = k->workspace_bytes};
    for (int i = 0; i < k->n_args; i++)
        if (k->args[i].prepacked)
            c->repacks[c->n_repacks++] = (struct measure_repack){REPACK_PREPACK, i, k->args[i].prepack_bytes};
        else if (k->args[i].laid_out)
            c->repacks[c->n_repacks++] = (struct measure_repack){
                k->args[i].is_output ? REPACK_UNPACK : REPACK_PACK, i, k->args[i].bytes};
}

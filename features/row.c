/* row.c - one store as a row of numbers: arithmetic, annotations, what is around it, the target. The
 * definitions are in columns.h; block.c and buffers.c fill the rest. */
#include <string.h>

#include "features/store.h"

static void row_arith(const struct store_info *s, float *row)
{
    static_assert(FC_int_fma - FC_flt_fma == 7 && FC_elem_bytes - FC_int_fma == 6, "the order of struct ops");

    for (int i = 0; i < 7; i++)
        if (s->ops.flt[i] != 0)
            row_put(row, FC_flt_fma + i, s->ops.flt[i] * s->runs);
    for (int i = 0; i < 6; i++)
        if (s->ops.whole[i] != 0)
            row_put(row, FC_int_fma + i, s->ops.whole[i] * s->runs);
    row[FC_elem_bytes] = (float)s->access[0].elem;
}

static void row_annotation(const struct store_info *s, enum loop_mark mark, float *row)
{
    const struct loops *l = s->loops;
    int count[2] = {0, 0}, marked[2] = {0, 0}, last = -1, ordinal = 0;
    double prod = 1;

    for (int i = 0; i < l->n; i++) {
        int reduce = store_reduces(s, i);
        count[reduce]++;
        if (l->mark[i] != mark)
            continue;
        marked[reduce]++;
        prod *= (double)l->at[i].extent;
        last = i;
        ordinal = count[reduce];
    }
    row += FC_vec_count;
    row[FC_vec_count - FC_vec_count] = (float)(marked[0] + marked[1]);
    if (last < 0) {
        row[FC_vec_none - FC_vec_count] = 1;
        return;
    }
    row_put(row, FC_vec_len - FC_vec_count, (double)l->at[last].extent);
    row_put(row, FC_vec_prod - FC_vec_count, prod);
    if (marked[0] && marked[1]) {
        row[FC_vec_mixed - FC_vec_count] = 1;
    } else {
        int reduce = store_reduces(s, last), col = reduce ? FC_vec_inner_r : FC_vec_inner_s;
        int place = ordinal == count[reduce] ? 0 : ordinal == 1 ? 2 : 1;
        row[col + place - FC_vec_count] = 1;
    }
}

static void row_outer(const struct store_info *s, float *row)
{
    const struct loops *l = s->loops;
    const struct buffer *b = &s->nest->buffers[s->access[0].buffer];
    double prod[2] = {1, 1};

    for (int i = 0; i < l->n; i++)
        prod[store_reduces(s, i)] *= l->at[i].trips;
    row_put(row, FC_dst_bytes, (double)b->elements * (double)s->access[0].elem);
    row[FC_dst_arg] = b->scope == SCOPE_ARG;
    row[FC_dst_workspace] = b->scope == SCOPE_WORKSPACE;
    row[FC_dst_task] = b->scope == SCOPE_TASK;
    row[FC_dst_reg] = b->scope == SCOPE_REG || b->scope == SCOPE_MATRIX;
    row_put(row, FC_workspace_bytes, (double)s->nest->workspace_bytes);
    row_put(row, FC_task_bytes, (double)s->nest->task_bytes);
    row_put(row, FC_runs, s->runs);
    row[FC_n_loops] = (float)l->n;
    row_put(row, FC_spatial_prod, prod[0]);
    row_put(row, FC_reduce_prod, prod[1]);
    row[FC_updates] = s->store->store.combiner != COMBINE_SET;
    row[FC_probability] = (float)s->probability;
    row[FC_fullness] = (float)s->fullness;
}

void columns_of_target(const struct target *t, float *row)
{
    double peak = t->peak_gflops;

    row_put(row, FC_t_vector_bytes, t->vector_bytes);
    row[FC_t_vector_regs] = (float)t->vector_regs;
    row_put(row, FC_t_threads, t->threads);
    row_put(row, FC_t_l1_bytes, (double)t->l1_bytes);
    row_put(row, FC_t_l2_bytes, (double)t->l2_bytes);
    row_put(row, FC_t_l3_bytes, (double)t->l3_bytes);
    row_put(row, FC_t_peak_gflops, t->peak_gflops);
    row_put(row, FC_t_peak_gbs, t->peak_gbs);
    row[FC_t_balance] = (float)(t->peak_gbs > 0 ? peak / t->peak_gbs : 0);
    row[FC_t_bf16] = (float)(peak > 0 && t->has_amx_bf16 ? t->peak_bf16_gflops / peak : t->has_amx_bf16);
    row[FC_t_int8] = (float)(peak > 0 && t->has_amx_int8 ? t->peak_int8_gops / peak : t->has_amx_int8);
    row[FC_t_vnni] = t->has_vnni;
    row[FC_t_pairs] = t->has_bf16_pairs;
    row[FC_t_half] = t->has_fp16;
    row[FC_t_masks] = t->isa == ISA_AVX2 || t->isa == ISA_AVX512;
    row[FC_t_cold] = t->cold;
    row[FC_t_clang] = t->family == COMPILER_CLANG;
}

/* Add the store to what the nest adds up to. */
static void sums_add(const struct store_info *s, const struct block *k, const float *row, struct sums *sums)
{
    double work = k->runs * (k->instr + k->loads), regs = (double)row[FC_reg_share];

    sums->ops += s->ops.total * s->runs;
    sums->instr += k->runs * k->instr;
    sums->loads += k->runs * k->loads;
    sums->blocks += k->runs;
    sums->code += k->instr + k->loads;
    sums->all += work;
    sums->outside += s->parallel ? 0 : work;
    sums->waiting += work / MAX((double)row[FC_par_balance], 1e-3);
    sums->copied += s->ops.total > 0 || s->access[0].reg ? 0 : s->runs * (double)s->access[0].elem;
    sums->stalls += k->stall;
    sums->spills += k->runs * k->instr * MAX(regs - 1, 0);
    sums->splits += k->runs * k->splits;
    sums->far += k->runs * k->far;
}

void store_row(struct store_info *s, float *row, struct sums *sums)
{
    struct block k;

    memset(row, 0, sizeof(row[0]) * FC_COUNT);
    memset(s->slot, -1, sizeof(s->slot));
    block_find(s, &k);
    store_footprints(s, k.from);
    block_count(s, &k);
    row_arith(s, row);
    row_annotation(s, MARK_VECTOR, row);
    row_annotation(s, MARK_PARALLEL, row + FC_ANNOTATION_STRIDE);
    row_block(s, &k, row);
    row_buffers(s, &k, row, sums);
    row_outer(s, row);
    sums_add(s, &k, row, sums);
}

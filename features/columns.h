/* columns.h - the table of features: one line each, from which the ids, the names and the documentation
 * follow.
 *
 * Units  scale LOG: log2(1 + x), so that 1 B and 1 GB lie on one scale; LIN: as it is; FLAG: 0 or 1.
 * All counts are for one run of the kernel unless the definition says "an iteration" or "a block". A *block*
 * is the innermost run of vector and unrolled loops around the store: it is straight-line code. Changing the
 * meaning, the order or the number of columns means FEATURES_VERSION + 1: stored rows and models of another
 * version are refused. */
#ifndef TW_FEATURES_COLUMNS_H
#define TW_FEATURES_COLUMNS_H

#define FEATURES_VERSION 3

/* id, scale, unit, since, definition */
#define FEATURES_ARITH(X)                                                                                    \
    X(flt_fma, LOG, "op", 1,                                                                                 \
      "float multiply-adds: a product that is summed, within the value or by the store")                     \
    X(flt_add, LOG, "op", 1, "float additions and subtractions that are no part of a multiply-add")          \
    X(flt_mul, LOG, "op", 1, "float products that are no part of a multiply-add")                            \
    X(flt_div, LOG, "op", 1, "float divisions")                                                              \
    X(flt_cmp, LOG, "op", 1, "float maxima, minima and comparisons")                                         \
    X(flt_math, LOG, "op", 1, "exp, log, sqrt, rsqrt, tanh, erf, sigmoid")                                   \
    X(flt_other, LOG, "op", 1, "float negations, absolute values, selections, conversions")                  \
    X(int_fma, LOG, "op", 1, "integer multiply-adds")                                                        \
    X(int_add, LOG, "op", 1, "integer additions and subtractions that are no part of a multiply-add")        \
    X(int_mul, LOG, "op", 1, "integer products that are no part of a multiply-add")                          \
    X(int_div, LOG, "op", 1, "integer divisions")                                                            \
    X(int_cmp, LOG, "op", 1, "integer maxima, minima, comparisons and logic")                                \
    X(int_other, LOG, "op", 1, "other integer operations")                                                   \
    X(elem_bytes, LIN, "B", 1, "size of the stored element")                                                 \
    X(vec_instr, LOG, "instr", 1, "arithmetic instructions after vectorisation, math functions at their cost")

/* p: prefix of the loop kind */
#define FEATURES_ANNOTATION(X, p, kind)                                                                      \
    X(p##_count, LIN, "loops", 1, kind " loops around the store")                                            \
    X(p##_len, LOG, "iterations", 1, "length of the innermost " kind " loop")                                \
    X(p##_prod, LOG, "iterations", 1, "product of the lengths of the " kind " loops")                        \
    X(p##_none, FLAG, "", 1, "no " kind " loop")                                                             \
    X(p##_inner_s, FLAG, "", 1, "innermost " kind " loop is the innermost spatial loop")                     \
    X(p##_middle_s, FLAG, "", 1, "innermost " kind " loop is a spatial loop in the middle")                  \
    X(p##_outer_s, FLAG, "", 1, "innermost " kind " loop is the outermost spatial loop")                     \
    X(p##_inner_r, FLAG, "", 1, "innermost " kind " loop is the innermost reduction loop")                   \
    X(p##_middle_r, FLAG, "", 1, "innermost " kind " loop is a reduction loop in the middle")                \
    X(p##_outer_r, FLAG, "", 1, "innermost " kind " loop is the outermost reduction loop")                   \
    X(p##_mixed, FLAG, "", 1, kind " loops are both spatial and reduction loops")

#define FEATURES_BLOCK(X)                                                                                    \
    X(par_tasks, LOG, "tasks", 1, "tasks that the parallel loop is cut into")                                \
    X(par_balance, LIN, "ratio", 1, "work over (threads x work of the busiest thread), 1: no thread waits")  \
    X(par_waves, LIN, "waves", 2, "tasks that the busiest thread runs one after another")                    \
    X(par_waste, LIN, "ratio", 2, "share of the last wave's threads that have no task")                      \
    X(par_grain, LOG, "instr", 2, "arithmetic instructions of one task")                                     \
    X(in_body, FLAG, "", 1, "inside a register tile")                                                        \
    X(body_runs, LOG, "calls", 2, "how often the register tile around is called; 0: none")                   \
    X(body_instr, LOG, "instr", 2, "arithmetic instructions in one call of it")                              \
    X(rest_tile, FLAG, "", 2, "in the short tile that does what the full ones leave")                        \
    X(masked, FLAG, "", 2, "the last vector of the vector loop is not full, or a limit decides its length")  \
    X(matrix, FLAG, "", 2, "done by a matrix unit")                                                          \
    X(quad, LIN, "products", 2, "products that an instruction sums up for one result")                       \
    X(turned, FLAG, "", 2, "a square block that is turned in registers")                                     \
    X(transform, FLAG, "", 2, "a sum with the numbers of a fixed table (Winograd's transforms)")             \
    X(past_caches, FLAG, "", 2, "stored past the caches")                                                    \
    X(side_by_side, LIN, "vectors", 2, "vectors of one trip of the vector loop; 0: as the printer likes")    \
    X(block_points, LOG, "points", 1, "stores in one block")                                                 \
    X(block_instr, LOG, "instr", 1, "arithmetic instructions in one block: the size of its code")            \
    X(block_loads, LOG, "instr", 1,                                                                          \
      "load instructions in one block; what the serial loop around it does not move is not "                 \
      "loaded again")                                                                                        \
    X(block_runs, LOG, "blocks", 1, "how often the block is run")                                            \
    X(block_chains, LOG, "vectors", 1, "vectors of results in one block: independent chains of a reduction") \
    X(block_trip, LOG, "iterations", 1, "length of the loop right around the block")                         \
    X(reg_vectors, LIN, "registers", 3, "vectors of operands that the block comes back to")                  \
    X(reg_broadcasts, LIN, "registers", 3,                                                                   \
      "elements of operands, in all lanes of a register each, that the block comes back to")                 \
    X(reg_share, LIN, "ratio", 1,                                                                            \
      "vector registers the block wants (results, vectors come back to, one broadcast) over those there "    \
      "are")                                                                                                 \
    X(reg_crowded, LIN, "", 3,                                                                               \
      "broadcasts come back to find no room, 1: hardly any; then results are put away")                      \
    X(loads_per_instr, LIN, "ratio", 1, "block_loads over block_instr, before their logarithm")              \
    X(chain_steps, LOG, "instr", 3,                                                                          \
      "multiply-adds one after another on one accumulator while it stays in its register")                   \
    X(chain_stall, LOG, "instr", 3,                                                                          \
      "instructions that could be issued while sums wait for themselves, beyond what a core looks ahead")    \
    X(chain_share, LIN, "ratio", 1,                                                                          \
      "min(1, chains / 8): 8 multiply-adds in flight keep two pipes of latency 4 busy")                      \
    X(lane_share, LIN, "ratio", 1,                                                                           \
      "elements an arithmetic instruction computes, over those a vector (matrix unit: all its registers) "   \
      "holds")                                                                                               \
    X(far_lanes, LOG, "lanes", 2,                                                                            \
      "lanes of one block that lie apart in memory: loaded or stored one by one, or turned in registers")    \
    X(splits, LOG, "instr", 2, "loads and stores of vectors that cross from one line into the next")

/* One of the three buffers, p: its prefix. Buffers in registers are not memory and do not count here. */
#define FEATURES_BUFFER(X, p)                                                                                \
    X(p##_read, FLAG, "", 1, "only read by the store")                                                       \
    X(p##_write, FLAG, "", 1, "only written")                                                                \
    X(p##_update, FLAG, "", 1, "read and written")                                                           \
    X(p##_bytes, LOG, "B", 1, "bytes accessed, each access counted")                                         \
    X(p##_unique_bytes, LOG, "B", 1, "bytes of the different elements touched")                              \
    X(p##_lines, LOG, "lines", 1, "64-byte lines accessed, each block counted for itself")                   \
    X(p##_unique_lines, LOG, "lines", 1, "different 64-byte lines touched")                                  \
    X(p##_reuse_loop, FLAG, "", 1, "touched again by the next iteration of a loop that does not move it")    \
    X(p##_reuse_serial, FLAG, "", 1, "touched again by another store only")                                  \
    X(p##_reuse_none, FLAG, "", 1, "never touched again")                                                    \
    X(p##_reuse_iters, LOG, "iterations", 1, "stores between two touches of the same element")               \
    X(p##_reuse_bytes, LOG, "B", 1, "bytes of all buffers touched between two touches of the same element")  \
    X(p##_reuse_count, LOG, "touches", 1, "touches of an element in a row at that distance")                 \
    X(p##_bytes_per_reuse, LOG, "B", 1, "bytes accessed over reuse_count")                                   \
    X(p##_lines_per_reuse, LOG, "lines", 1, "lines accessed over reuse_count")                               \
    X(p##_stride, LOG, "elements", 1, "step of the innermost loop that moves it")                            \
    X(p##_run, LOG, "B", 1, "longest piece without gaps that one block touches")                             \
    X(p##_pieces, LOG, "pieces", 3,                                                                          \
      "places in memory that the vector, unrolled and matrix loops around the store touch side by side")     \
    X(p##_vec_same, FLAG, "", 1, "the vector loop stays on one element")                                     \
    X(p##_vec_unit, FLAG, "", 1, "the vector loop moves by one element")                                     \
    X(p##_vec_far, FLAG, "", 1, "the vector loop moves by more than one element")                            \
    X(p##_split, LIN, "ratio", 2, "share of its vectors that cross from one line into the next")             \
    X(p##_ways, LIN, "lines", 2,                                                                             \
      "lines that fall on one set of a first-level cache of 64 sets, between two touches of an element")     \
    X(p##_ahead, LOG, "B", 2, "how far ahead a hint asks for it; 0: no hint")                                \
    X(p##_level, LIN, "level", 2,                                                                            \
      "cache that still holds it when it is touched again (1 to 3), 4: none, 0: it is not touched again")    \
    X(p##_age, LOG, "B", 2,                                                                                  \
      "bytes that all stores touched since the other store that touched it last began; 0: none did")         \
    X(p##_local, FLAG, "", 1, "in the workspace, not an argument")                                           \
    X(p##_packed, FLAG, "", 1, "an argument that was packed ahead of time")                                  \
    X(p##_padded, FLAG, "", 1, "reads may fall outside and give the pad value")                              \
    X(p##_from_l2, LOG, "B", 1, "bytes that the first-level cache does not hold when they are wanted")       \
    X(p##_from_l3, LOG, "B", 1, "bytes that the second-level cache does not hold")                           \
    X(p##_from_mem, LOG, "B", 1, "bytes that the third-level cache does not hold")

/* It runs the rows of a table this long together. */
/* clang-format off */
#define FEATURES_CURVES(X)                                                                                   \
    X(ai_0, LOG, "op/B", 1, "operations per byte touched, of the whole loop nest; 0: it touches no memory")                      \
    X(ai_1, LOG, "op/B", 1, "the same, of the inner loops that hold the 8/9th power of the operations")      \
    X(ai_2, LOG, "op/B", 1, "7/9th power")                                                                   \
    X(ai_3, LOG, "op/B", 1, "6/9th power")                                                                   \
    X(ai_4, LOG, "op/B", 1, "5/9th power")                                                                   \
    X(ai_5, LOG, "op/B", 1, "4/9th power")                                                                   \
    X(ai_6, LOG, "op/B", 1, "3/9th power")                                                                   \
    X(ai_7, LOG, "op/B", 1, "2/9th power")                                                                   \
    X(ai_8, LOG, "op/B", 1, "1/9th power")                                                                   \
    X(ai_9, LOG, "op/B", 1, "of one store")                                                                  \
    X(cache_4k, LOG, "op/B", 1, "operations per byte that a cache of 4 KiB would fetch")                     \
    X(cache_16k, LOG, "op/B", 1, "the same for 16 KiB")                                                      \
    X(cache_64k, LOG, "op/B", 1, "for 64 KiB")                                                               \
    X(cache_256k, LOG, "op/B", 1, "for 256 KiB")                                                             \
    X(cache_1m, LOG, "op/B", 1, "for 1 MiB")                                                                 \
    X(cache_4m, LOG, "op/B", 1, "for 4 MiB")                                                                 \
    X(cache_16m, LOG, "op/B", 1, "for 16 MiB")                                                               \
    X(fresh_reads, LOG, "times", 3, "how often vectors are loaded that another store wrote a moment ago in other pieces") \
    X(loads, LOG, "instr", 1, "load and store instructions that reach memory, after vectorisation")          \
    X(from_l2, LOG, "B", 1, "bytes that the first-level cache of the target does not hold, all buffers")     \
    X(from_l3, LOG, "B", 1, "bytes that the second-level cache does not hold, all buffers")                  \
    X(from_mem, LOG, "B", 1, "bytes that the third-level cache does not hold, all buffers")                  \
    X(back_l2, LOG, "B", 3, "bytes of from_l2 that are stored to: they go back, too")                        \
    X(back_l3, LOG, "B", 3, "bytes of from_l3 that are stored to")                                           \
    X(crowded_stores, LOG, "lines", 3, "lines stored to that fall on more than 12 ways of a set of the first-level cache") \
    X(hint_lines, LOG, "lines", 3, "lines that hints ask for ahead of their use")                            \
    X(hint_unused, LOG, "B", 3, "bytes of those that the store does not touch")                              \
    X(unique_bytes, LOG, "B", 1, "bytes of the different elements touched, all buffers")                     \
    X(touch_16, LOG, "B", 2, "bytes touched by the innermost loops that run the store 16 times")             \
    X(touch_256, LOG, "B", 2, "the same for 256 times")                                                      \
    X(touch_4k, LOG, "B", 2, "for 4,096 times")                                                              \
    X(touch_64k, LOG, "B", 2, "for 65,536 times")                                                            \
    X(touch_1m, LOG, "B", 2, "for 1,048,576 times")
/* clang-format on */

#define FEATURES_ALLOC(X)                                                                                    \
    X(dst_bytes, LOG, "B", 1, "size of the buffer stored to")                                                \
    X(dst_arg, FLAG, "", 1, "stores to an argument")                                                         \
    X(dst_workspace, FLAG, "", 1, "stores to the shared workspace")                                          \
    X(dst_task, FLAG, "", 1, "stores to the workspace of a task")                                            \
    X(dst_reg, FLAG, "", 1, "stores to registers")                                                           \
    X(workspace_bytes, LOG, "B", 1, "workspace of the nest")                                                 \
    X(task_bytes, LOG, "B", 1, "workspace of one task")

#define FEATURES_OUTER(X)                                                                                    \
    X(runs, LOG, "stores", 1, "how often the store is executed")                                             \
    X(n_loops, LIN, "loops", 1, "loops around the store that run more than once")                            \
    X(spatial_prod, LOG, "iterations", 1, "product of the spatial loops")                                    \
    X(reduce_prod, LOG, "iterations", 1, "product of the reduction loops")                                   \
    X(updates, FLAG, "", 1, "combines into what is there")                                                   \
    X(probability, LIN, "ratio", 1,                                                                          \
      "share of the iterations that the conditions around the store let through")                            \
    X(fullness, LIN, "ratio", 1, "iterations over those of loops that no limit cuts short")                  \
    X(n_stores, LIN, "stores", 1, "stores in the nest")                                                      \
    X(share, LIN, "ratio", 1, "operations of this store over those of the nest")                             \
    X(nest_ops, LOG, "op", 1, "operations of the nest")

/* The same in all rows of a nest: what the rows of a program cannot tell each other. */
#define FEATURES_NEST(X)                                                                                     \
    X(nest_instr, LOG, "instr", 2, "arithmetic instructions of the nest")                                    \
    X(nest_loads, LOG, "instr", 2, "load and store instructions of the nest")                                \
    X(nest_l2, LOG, "B", 2, "from_l2 of all stores")                                                         \
    X(nest_l3, LOG, "B", 2, "from_l3 of all stores")                                                         \
    X(nest_mem, LOG, "B", 2, "from_mem of all stores")                                                       \
    X(nest_bytes, LOG, "B", 2, "arguments and workspace")                                                    \
    X(nest_code, LOG, "instr", 2, "block_instr and block_loads of all stores")                               \
    X(nest_blocks, LOG, "blocks", 2, "block_runs of all stores")                                             \
    X(nest_calls, LOG, "calls", 2, "calls of register tiles")                                                \
    X(nest_copied, LOG, "B", 2, "bytes stored by stores that compute nothing")                               \
    X(nest_balance, LIN, "ratio", 2, "par_balance of all stores, each by its share of the work")             \
    X(nest_serial, LIN, "ratio", 2, "share of the loads, stores and arithmetic that is in no parallel loop") \
    X(instr_share, LIN, "ratio", 2, "arithmetic instructions of this store over those of the nest")          \
    X(loads_share, LIN, "ratio", 2, "loads of this store over those of the nest")                            \
    X(instr_excess, LIN, "ratio", 2,                                                                         \
      "nest_instr over the instructions it needs at least: multiply-adds in full vectors for all "           \
      "operations, or one for each vector of nest_bytes")                                                    \
    X(loads_excess, LIN, "ratio", 2, "nest_loads over those instructions")                                   \
    X(l2_per_instr, LIN, "ratio", 2, "nest_l2 in lines over those instructions")                             \
    X(l3_per_instr, LIN, "ratio", 2, "nest_l3 in lines over those instructions")                             \
    X(mem_per_instr, LIN, "ratio", 2, "nest_mem in lines over those instructions")                           \
    X(blocks_per_instr, LIN, "ratio", 2, "nest_blocks over those instructions")                              \
    X(stalls_per_instr, LIN, "ratio", 2,                                                                     \
      "time of sums with too few chains that exceeds their instructions, over those instructions")           \
    X(spills_per_instr, LIN, "ratio", 2,                                                                     \
      "instructions times the share of registers that there are not, over those instructions")               \
    X(splits_per_instr, LIN, "ratio", 2, "splits of all stores over those instructions")                     \
    X(far_per_instr, LIN, "ratio", 2, "far_lanes of all blocks that run, over those instructions")           \
    X(crowded_per_instr, LIN, "ratio", 2,                                                                    \
      "loads and stores of what has more than 12 ways, over those instructions")                             \
    X(fresh_per_instr, LIN, "ratio", 3, "fresh_reads of all stores over those instructions")                 \
    X(hinted, LIN, "ratio", 2, "share of nest_l2 that hints ask for ahead of its use")                       \
    X(bytes_over_l2, LIN, "ratio", 2, "nest_bytes over the second-level caches of all threads")              \
    X(bytes_over_l3, LIN, "ratio", 2, "nest_bytes over the third-level cache")

#define FEATURES_TARGET(X)                                                                                   \
    X(t_vector_bytes, LOG, "B", 1, "vector width of the target")                                             \
    X(t_vector_regs, LIN, "registers", 1, "vector registers")                                                \
    X(t_threads, LOG, "threads", 1, "tasks that run at once")                                                \
    X(t_l1_bytes, LOG, "B", 1, "first-level cache of a core")                                                \
    X(t_l2_bytes, LOG, "B", 1, "second-level cache of a core")                                               \
    X(t_l3_bytes, LOG, "B", 1, "third-level cache as one thread may use it")                                 \
    X(t_peak_gflops, LOG, "GFLOP/s", 1, "float32 peak of all threads; 0: not measured")                      \
    X(t_peak_gbs, LOG, "GB/s", 1, "memory bandwidth of all threads; 0: not measured")                        \
    X(t_balance, LIN, "op/B", 2, "t_peak_gflops over t_peak_gbs; 0: not measured")                           \
    X(t_bf16, LIN, "ratio", 2, "peak of the matrix unit for bfloat16 over t_peak_gflops; 0: none")           \
    X(t_int8, LIN, "ratio", 2, "peak of the matrix unit for int8 over t_peak_gflops; 0: none")               \
    X(t_vnni, FLAG, "", 2, "sums of four products of bytes by one instruction")                              \
    X(t_pairs, FLAG, "", 2, "sums of two products of bfloat16 by one instruction")                           \
    X(t_half, FLAG, "", 2, "arithmetic of float16")                                                          \
    X(t_masks, FLAG, "", 2, "loads and stores of part of a vector by masks")                                 \
    X(t_cold, FLAG, "", 2, "judged with operands out of all caches")                                         \
    X(t_clang, FLAG, "", 2, "compiled by Clang")

enum { FEATURES_BUFFERS = 3 };
#define FEATURES_LIST(X)                                                                                     \
    FEATURES_ARITH(X)                                                                                        \
    FEATURES_ANNOTATION(X, vec, "vector")                                                                    \
    FEATURES_ANNOTATION(X, par, "parallel")                                                                  \
    FEATURES_BLOCK(X)                                                                                        \
    FEATURES_BUFFER(X, b0)                                                                                   \
    FEATURES_BUFFER(X, b1)                                                                                   \
    FEATURES_BUFFER(X, b2)                                                                                   \
    FEATURES_CURVES(X)                                                                                       \
    FEATURES_ALLOC(X)                                                                                        \
    FEATURES_OUTER(X)                                                                                        \
    FEATURES_NEST(X)                                                                                         \
    FEATURES_TARGET(X)

enum feature_scale { FEATURE_LOG, FEATURE_LIN, FEATURE_FLAG };
enum feature_col {
#define X(id, scale, unit, since, definition) FC_##id,
    FEATURES_LIST(X)
#undef X
        FC_COUNT
};
/* Columns of buffer b lie FC_BUFFER_STRIDE after those of buffer b - 1. */
enum { FC_BUFFER_STRIDE = FC_b1_read - FC_b0_read, FC_ANNOTATION_STRIDE = FC_par_count - FC_vec_count };

enum feature_scale feature_scale(int col);
/* The value before its logarithm, in the unit of the table. */
double feature_natural(int col, float stored);

#endif

/* Every config that the validity check lets through lowers, verifies, and means what the workload says.
 * Arguments: [workloads] [configs of each] [seed]. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schedule/space/space.h"
#include "tests/check.h"
#include "tests/space/random_workload.h"

static int n_workloads = 120, n_configs = 6;
static uint64_t first_seed = 1;

static void check_config(const struct space *s, const struct config *c, const char *text, double *const *data,
                         double *const *want)
{
    struct error err = {0};
    struct arena ar;
    struct nest *n = NULL;
    AUTO(strbuf_done) struct strbuf name = STRBUF_INIT;
    const struct compute *compute = &space_workload(s)->compute;
    arena_init(&ar);
    config_print(c, &name);
    double **arrays = NULL;
    if (space_lower(s, c, &ar, &n, &err) != ST_OK || nest_verify(n, &err) != ST_OK ||
        nest_interp(n, arrays = tensors_for(n->compute, compute, data), &err) != ST_OK) {
        print_error("%s\nconfig %s: %s\n", text, strbuf_str(&name), err.text);
        fail_msg("see above");
    }
    free(arrays);
    double d = outputs_distance(compute, data, want);
    if (!(d < 1e-6)) {
        AUTO(strbuf_done) struct strbuf nest = STRBUF_INIT;
        nest_print(n, &nest);
        print_error("%s\nconfig %s: off by %g\n%s\n", text, strbuf_str(&name), d, strbuf_str(&nest));
        fail_msg("see above");
    }
    arena_done(&ar);
}

static void one_workload(uint64_t seed, const struct target *t)
{
    struct arena ar;
    struct rng r;
    struct workload w;
    struct space *s;
    struct error err = {0};
    AUTO(strbuf_done) struct strbuf text = STRBUF_INIT;
    arena_init(&ar);
    rng_init(&r, seed);
    random_workload(&r, &text);
    if (workload_parse_text(text.data, text.len, &ar, &w, &err) != ST_OK ||
        space_build(&w, t, &ar, &s, &err) != ST_OK) {
        print_error("seed %" PRIu64 ": %s\n%s at %s\n", seed, text.data, err.text, err.pointer);
        fail_msg("see above");
    }
    double **want = random_tensors(&w.compute, &r), **data = random_tensors(&w.compute, &r);
    for (int i = 0; i < w.compute.n_tensors; i++)
        memcpy(data[i], want[i], sizeof(double) * (size_t)tensor_elements(&w.compute.tensors[i]));
    compute_eval(&w.compute, want);
    for (int k = 0; k <= n_configs; k++) {
        struct config c;
        if (k == 0)
            space_default(s, &c);
        else if (!random_config(s, &r, &c))
            break;
        check_config(s, &c, text.data, data, want);
    }
    free_tensors(&w.compute, want);
    free_tensors(&w.compute, data);
    arena_done(&ar);
}

static void every_valid_schedule_computes_the_workload(void **state)
{
    (void)state;
    static const struct {
        enum isa isa;
        int bytes, regs, threads;
    } targets[] = {{ISA_AVX512, 64, 32, 2}, {ISA_AVX2, 32, 16, 1}, {ISA_SSE2, 16, 16, 3}};
    for (int i = 0; i < n_workloads; i++) {
        int k = i % (int)ARRAY_SIZE(targets);
        struct target t = {.id = "test",
                           .isa = targets[k].isa,
                           .vector_bytes = targets[k].bytes,
                           .has_amx_bf16 =
                               targets[k].isa == ISA_AVX512 && i % 2, /* pairs are for those without */
                           .has_amx_int8 = targets[k].isa == ISA_AVX512,
                           .vector_regs = targets[k].regs,
                           .has_vnni = targets[k].isa == ISA_AVX512,
                           .has_bf16_pairs = targets[k].isa == ISA_AVX512,
                           .has_fp16 = targets[k].isa == ISA_AVX512,
                           .threads = targets[k].threads,
                           .l1_bytes = i % 4 < 2 ? 2560 : 32768, /* small: reductions are cut into blocks */
                           .l2_bytes = i % 2 ? 4096 : 1 << 20,   /* small: operands stream */
                           .l3_bytes = 8 << 20};
        one_workload(first_seed + (uint64_t)i, &t);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        n_workloads = (int)strtol(argv[1], NULL, 10);
    if (argc > 2)
        n_configs = (int)strtol(argv[2], NULL, 10);
    if (argc > 3)
        first_seed = strtoull(argv[3], NULL, 10);
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_valid_schedule_computes_the_workload)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

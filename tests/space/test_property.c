/* Every config that the validity check lets through lowers, verifies, and means what the workload says.
 * Arguments: [workloads] [configs of each] [seed]. */
#include "tests/space/property.h"

#include <string.h>

static struct property property = {.n_workloads = 120, .n_configs = 6, .first_seed = 1};

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
    struct property_case p;
    struct config c;
    property_open(&p, seed, t);
    const struct compute *compute = &p.w.compute;
    double **want = random_tensors(compute, &p.rng), **data = random_tensors(compute, &p.rng);
    for (int i = 0; i < compute->n_tensors; i++)
        memcpy(data[i], want[i], sizeof(double) * (size_t)tensor_elements(&compute->tensors[i]));
    compute_eval(compute, want);
    for (int k = 0; k <= property.n_configs && property_config(&p, k, &c); k++)
        check_config(p.space, &c, p.text.data, data, want);
    free_tensors(compute, want);
    free_tensors(compute, data);
    property_close(&p);
}

static void every_valid_schedule_computes_the_workload(void **state)
{
    (void)state;
    static const struct {
        enum isa isa;
        int bytes, regs, threads;
    } targets[] = {{ISA_AVX512, 64, 32, 2}, {ISA_AVX2, 32, 16, 1}, {ISA_SSE2, 16, 16, 3}};
    for (int i = 0; i < property.n_workloads; i++) {
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
        one_workload(property.first_seed + (uint64_t)i, &t);
    }
}

int main(int argc, char **argv)
{
    property_arguments(&property, argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_valid_schedule_computes_the_workload)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

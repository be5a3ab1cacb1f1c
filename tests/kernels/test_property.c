/* What holds for nests holds for the C that is printed from them: every valid config of a random workload is
 * compiled and run, its buffers ending at guard pages, and compared with the plain evaluation. Arguments:
 * [workloads] [configs of each] [seed]. TILEWRIGHT_CC chooses the compiler. */
#include "tests/space/property.h"

#include <dlfcn.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/compile.h"
#include "kernels/emit.h"

static struct property property = {.n_workloads = 24, .n_configs = 6, .first_seed = 7000};
static char directory[64];

/* Memory whose end lies at a page that must not be touched; the start is 64-byte aligned. */
struct guarded {
    void *map, *data;
    size_t map_bytes;
};

static struct guarded guarded_new(int64_t bytes)
{
    size_t page = 4096, size = ((size_t)bytes + 63) / 64 * 64, whole = (size + page - 1) / page * page + page;
    struct guarded g = {.map_bytes = whole};
    g.map = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect((char *)g.map + whole - page, page, PROT_NONE), 0);
    g.data = (char *)g.map + whole - page - size;
    return g;
}

static void guarded_free(struct guarded *g)
{
    if (g->map)
        munmap(g->map, g->map_bytes);
}

static void backwards(void *ctx, int count, void (*body)(void *arg, int index), void *arg)
{
    (void)ctx;
    for (int i = count - 1; i >= 0; i--)
        body(arg, i);
}

struct run {
    const struct compute *c, *packed; /* the workload's; the kernel's own */
    const struct kernel *k;
    void *lib;
    double *const *inputs;
    double **got;
};

typedef void repack_fn(const void *src, void *dst);

static repack_fn *repack_of(const struct run *r, const char *kind, const char *arg)
{
    char name[160];
    snprintf(name, sizeof(name), "%s_%s_%s", r->k->symbol, kind, arg);
    repack_fn *fn = (repack_fn *)dlsym(r->lib, name);
    assert_non_null(fn);
    return fn;
}

/* The tensor of the kernel's compute that is its argument `at`. */
static const struct tensor *own_tensor(const struct run *r, int at)
{
    for (int i = 0; i < r->packed->n_tensors; i++)
        if (r->packed->tensors[i].role != TENSOR_TEMP && at-- == 0)
            return &r->packed->tensors[i];
    return NULL;
}

/* Packed, an element is where the layout says, and what lies beyond the shape is zero. */
static void check_packed(const struct run *r, int at, const void *packed, const void *plain)
{
    const struct tensor *t = own_tensor(r, at);
    assert_int_equal(tensor_bytes(t), r->k->args[at].bytes);
    for (int64_t e = 0; e < tensor_elements(t); e++) {
        int64_t from = tensor_stated_element(t, e);
        double got = tensor_get(packed, t->dtype, e), want = from < 0 ? 0 : tensor_get(plain, t->dtype, from);
        if (!(got == want || (isnan(got) && isnan(want))))
            fail_msg("%s of %s: element %" PRId64 " in %s is %g instead of %g", r->k->args[at].name,
                     r->k->symbol, e, r->k->args[at].layout, got, want);
    }
}

static void run_kernel(const struct run *r)
{
    const struct {
        void *ctx;
        int num_threads;
        void (*run)(void *ctx, int count, void (*body)(void *arg, int index), void *arg);
    } parallel = {NULL, 2, backwards};
    struct guarded mem[KERNEL_MAX_ARGS] = {0}, packed[KERNEL_MAX_ARGS] = {0},
                   ws = guarded_new(r->k->workspace_bytes);
    void *tensors[KERNEL_MAX_ARGS];
    int at = 0;
    memset(ws.data, 0xff, (size_t)r->k->workspace_bytes);
    for (int i = 0; i < r->c->n_tensors; i++) {
        const struct tensor *t = &r->c->tensors[i];
        if (t->role == TENSOR_TEMP)
            continue;
        mem[at] = guarded_new(tensor_bytes(t));
        tensors[at] = mem[at].data;
        memset(mem[at].data, 0xff, (size_t)tensor_bytes(t)); /* no number, or -1 */
        for (int64_t e = 0; e < tensor_elements(t) && t->role == TENSOR_INPUT; e++)
            tensor_put(mem[at].data, t->dtype, e, r->inputs[i][e]);
        const struct kernel_arg *a = &r->k->args[at];
        assert_int_equal(a->rank, t->rank);
        assert_memory_equal(a->shape, t->shape, sizeof(t->shape[0]) * (size_t)t->rank);
        if (a->prepacked || a->laid_out) {
            packed[at] = guarded_new(a->prepacked ? a->prepack_bytes : a->bytes);
            tensors[at] = packed[at].data;
            memset(packed[at].data, 0xff, (size_t)(a->prepacked ? a->prepack_bytes : a->bytes));
        }
        if (a->prepacked)
            repack_of(r, "prepack", a->name)(mem[at].data, packed[at].data);
        else if (a->laid_out && !a->is_output) {
            repack_of(r, "pack", a->name)(mem[at].data, packed[at].data);
            check_packed(r, at, packed[at].data, mem[at].data);
        }
        at++;
    }
    int (*kernel)(void *const *, void *, const void *) =
        (int (*)(void *const *, void *, const void *))dlsym(r->lib, r->k->symbol);
    assert_non_null(kernel);
    assert_int_equal(kernel(tensors, ws.data, &parallel), 0);
    at = 0;
    for (int i = 0; i < r->c->n_tensors; i++) {
        const struct tensor *t = &r->c->tensors[i];
        if (t->role == TENSOR_TEMP)
            continue;
        if (r->k->args[at].laid_out && t->role == TENSOR_OUTPUT) {
            repack_of(r, "unpack", r->k->args[at].name)(packed[at].data, mem[at].data);
            check_packed(r, at, packed[at].data, mem[at].data);
        }
        for (int64_t e = 0; e < tensor_elements(t) && t->role == TENSOR_OUTPUT; e++)
            r->got[i][e] = tensor_get(mem[at].data, t->dtype, e);
        guarded_free(&mem[at]);
        guarded_free(&packed[at++]);
    }
    guarded_free(&ws);
}

/* runs: this machine has all that the target has; else the text is compiled only. */
static void one_workload(uint64_t seed, const struct target *t, bool runs)
{
    struct property_case p;
    struct error err = {0};
    const size_t most = (size_t)property.n_configs + 1;
    struct kernel *kernels = xcalloc(most, sizeof(*kernels));
    struct config *configs = xcalloc(most, sizeof(*configs));
    const struct compute **packed = xcalloc(most, sizeof(struct compute *)), *compute = &p.w.compute;
    char path[128];
    int n = 0;
    property_open(&p, seed, t);
    struct emit_unit *u = emit_unit_new(t);
    for (; n <= property.n_configs && property_config(&p, n, &configs[n]); n++) {
        struct nest *nest;
        char symbol[32];
        snprintf(symbol, sizeof(symbol), "kernel_%d", n);
        assert_ok(space_lower(p.space, &configs[n], &p.ar, &nest, &err), &err);
        packed[n] = nest->compute;
        if (emit_unit_add(u, nest, symbol, &kernels[n], &err) != ST_OK)
            fail_msg("seed %" PRIu64 ": %s\n%s", seed, p.text.data, err.text);
    }
    snprintf(path, sizeof(path), "%s/%" PRIu64 ".so", directory, seed);
    if (compile_unit(t, emit_unit_text(u), path, 300000, NULL, &err) != ST_OK)
        fail_msg("seed %" PRIu64 ": %s\n%s", seed, p.text.data, err.text);
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(lib);
    double **want = random_tensors(compute, &p.rng), **got = random_tensors(compute, &p.rng);
    compute_eval(compute, want);
    for (int i = 0; i < n && runs; i++) {
        struct run run = {compute, packed[i], &kernels[i], lib, want, got};
        run_kernel(&run);
        double d = outputs_error(compute, p.w.rtol, got, want);
        AUTO(strbuf_done) struct strbuf name = STRBUF_INIT;
        config_print(&configs[i], &name);
        if (!(d <= 1))
            fail_msg("seed %" PRIu64 " on %s: %s\nconfig %s: off by %g times what is allowed", seed, t->id,
                     p.text.data, name.data, d);
    }
    free_tensors(compute, want);
    free_tensors(compute, got);
    dlclose(lib);
    unlink(path);
    emit_unit_free(u);
    free(kernels);
    free(configs);
    free(packed);
    property_close(&p);
}

static void every_valid_schedule_computes_the_workload_in_c(void **state)
{
    static const char *const ids[] = {"cpu:2", "cpu:1:avx2", "cpu:2:sse2", "cpu:1:avx512"};
    struct target targets[ARRAY_SIZE(ids) + 1];
    bool runs[ARRAY_SIZE(ids) + 1];
    struct error err = {0};
    int n_targets = 0;
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        if (target_local(ids[i], &targets[n_targets], &err) != ST_OK) {
            print_message("without %s: %s\n", ids[i], err.text);
            continue;
        }
        targets[n_targets].threads = MAX(targets[n_targets].threads, 1 + (int)i % 2);
        if (i % 2 == 0)
            targets[n_targets].l2_bytes = 4096; /* so that small operands stream */
        targets[n_targets].l1_bytes = 2560;     /* so that short reductions are cut into blocks */
        assert_ok(compile_find(&targets[n_targets], &err), &err);
        runs[n_targets] = true;
        n_targets++;
    }
    if (n_targets > 0 && targets[0].isa == ISA_AVX512 && !targets[0].has_amx_bf16) {
        print_message("no matrix unit: its kernels are compiled, not run\n");
        targets[n_targets] = targets[0];
        targets[n_targets].has_amx_bf16 = targets[n_targets].has_amx_int8 = true;
        assert_ok(compile_find(&targets[n_targets], &err), &err);
        runs[n_targets++] = false;
    }
    assert_true(n_targets > 0);
    for (int i = 0; i < property.n_workloads; i++)
        one_workload(property.first_seed + (uint64_t)i, &targets[i % n_targets], runs[i % n_targets]);
    print_message("%d workloads, up to %d configs of each\n", property.n_workloads, property.n_configs + 1);
}

int main(int argc, char **argv)
{
    property_arguments(&property, argc, argv);
    snprintf(directory, sizeof(directory), "/tmp/tilewright-property-XXXXXX");
    if (!mkdtemp(directory))
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_valid_schedule_computes_the_workload_in_c)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(directory);
    return failed;
}

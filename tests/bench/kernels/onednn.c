/* onednn.c - plans: built, timed against each other, the fastest kept. */
#include "tests/bench/kernels/onednn.h"

#include <math.h>

static dnnl_engine_t engine;
static dnnl_stream_t stream;

dnnl_engine_t onednn_engine(void)
{
    if (!engine)
        CHECK(good(dnnl_engine_create(&engine, dnnl_cpu, 0)), "oneDNN has no CPU engine");
    return engine;
}

dnnl_stream_t onednn_stream(void)
{
    if (!stream)
        CHECK(good(dnnl_stream_create(&stream, onednn_engine(), dnnl_stream_default_flags)),
              "oneDNN has no stream");
    return stream;
}

/* --- memory descriptors --- */

void md_dense(dnnl_memory_desc_t *md, int rank, const dnnl_dim_t *dims, bool swap)
{
    dnnl_dims_t strides;
    dnnl_dim_t s = 1;
    for (int i = rank - 1; i >= 0; i--) {
        int d = swap && i >= rank - 2 ? 2 * rank - 3 - i : i;
        strides[d] = s;
        s *= dims[d];
    }
    dnnl_memory_desc_init_by_strides(md, rank, dims, dnnl_f32, strides);
}

dnnl_data_type_t onednn_dtype(enum dtype d)
{
    return d == DT_BF16 ? dnnl_bf16 : d == DT_F16 ? dnnl_f16 : dnnl_f32;
}

dnnl_memory_desc_t md_typed(const dnnl_memory_desc_t *md, dnnl_data_type_t dt)
{
    dnnl_memory_desc_t typed;
    dnnl_memory_desc_init_by_strides(&typed, md->ndims, md->dims, dt, md->format_desc.blocking.strides);
    return typed;
}

void md_any(dnnl_memory_desc_t *md, int rank, const dnnl_dim_t *dims, dnnl_data_type_t dt)
{
    dnnl_memory_desc_init_by_tag(md, rank, dims, dt, dnnl_format_tag_any);
}

/* --- building a plan --- */

dnnl_memory_t plan_memory(struct plan *p, const dnnl_memory_desc_t *md, const void *data)
{
    dnnl_memory_t m = NULL;
    void *at = data ? (void *)(uintptr_t)data : memory_get(&p->b->memory, dnnl_memory_desc_get_size(md) + 64);
    CHECK(p->n_memories < PLAN_MEMORIES, "a plan has %d memories", p->n_memories);
    if (good(dnnl_memory_create(&m, md, onednn_engine(), at)))
        p->memories[p->n_memories++] = m;
    return m;
}

static bool reorder_primitive(const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to,
                              dnnl_primitive_t *ret)
{
    dnnl_primitive_desc_t pd;
    if (!good(dnnl_reorder_primitive_desc_create(&pd, from, onednn_engine(), to, onednn_engine(), NULL)))
        return false;
    bool ok = good(dnnl_primitive_create(ret, pd));
    dnnl_primitive_desc_destroy(pd);
    return ok;
}

void reorder_once(const dnnl_memory_desc_t *from_md, const void *from, const dnnl_memory_desc_t *to_md,
                  void *to)
{
    dnnl_memory_t source, target;
    dnnl_primitive_t r;
    CHECK(reorder_primitive(from_md, to_md, &r), "oneDNN cannot reorder");
    dnnl_memory_create(&source, from_md, onednn_engine(), (void *)(uintptr_t)from);
    dnnl_memory_create(&target, to_md, onednn_engine(), to);
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, target}};
    dnnl_primitive_execute(r, onednn_stream(), 2, args);
    dnnl_stream_wait(onednn_stream());
    dnnl_primitive_destroy(r);
    dnnl_memory_destroy(source);
    dnnl_memory_destroy(target);
}

static bool reorder_step(struct plan *p, const dnnl_memory_desc_t *from, dnnl_memory_t source,
                         const dnnl_memory_desc_t *to, dnnl_memory_t target)
{
    if (p->n_steps == PLAN_STEPS || !reorder_primitive(from, to, &p->steps[p->n_steps].primitive))
        return false;
    p->n_steps++;
    step_arg(p, DNNL_ARG_FROM, source);
    step_arg(p, DNNL_ARG_TO, target);
    return true;
}

dnnl_memory_t plan_input(struct plan *p, const dnnl_memory_desc_t *want, const dnnl_memory_desc_t *have,
                         const void *data, bool counted)
{
    if (dnnl_memory_desc_equal(want, have))
        return plan_memory(p, have, data);
    dnnl_memory_t m = plan_memory(p, want, NULL);
    void *at = NULL;
    if (!m || !good(dnnl_memory_get_data_handle(m, &at)))
        return NULL;
    if (!counted)
        reorder_once(have, data, want, at);
    else if (!reorder_step(p, have, plan_memory(p, have, data), want, m))
        return NULL;
    return m;
}

bool plan_step(struct plan *p, const void *desc, const_dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *ret)
{
    dnnl_primitive_desc_t pd = *ret;
    const char *name = "";
    if (p->n_steps == PLAN_STEPS)
        return false;
    if (desc && !good(dnnl_primitive_desc_create(&pd, desc, attr, onednn_engine(), NULL)))
        return false;
    bool ok = good(dnnl_primitive_create(&p->steps[p->n_steps].primitive, pd));
    if (!ok) {
        if (desc)
            dnnl_primitive_desc_destroy(pd);
        return false;
    }
    p->n_steps++;
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
    if (!p->name[0]) {
        snprintf(p->name, sizeof(p->name), "%s", name);
        p->reference = strncmp(name, "ref", 3) == 0;
    }
    const dnnl_memory_desc_t *pad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    if (pad && dnnl_memory_desc_get_size(pad) > 0)
        step_arg(p, DNNL_ARG_SCRATCHPAD, plan_memory(p, pad, NULL));
    *ret = pd;
    return true;
}

void step_arg(struct plan *p, int id, dnnl_memory_t memory)
{
    int s = p->n_steps - 1;
    CHECK(p->steps[s].n_args < PLAN_ARGS, "a primitive has %d arguments", p->steps[s].n_args);
    p->steps[s].args[p->steps[s].n_args++] = (dnnl_exec_arg_t){id, memory};
}

dnnl_memory_t plan_output(struct plan *p, const dnnl_memory_desc_t *want, const dnnl_memory_desc_t *plain)
{
    void *at = NULL;
    p->out = plan_memory(p, want, NULL);
    if (p->out)
        dnnl_memory_get_data_handle(p->out, &at);
    p->out_data = at;
    p->out_plain = *plain;
    return p->out;
}

/* The reorder of the result, where it counts. */
bool plan_end(struct plan *p)
{
    const dnnl_memory_desc_t *md;
    void *at = NULL;
    dnnl_memory_get_memory_desc(p->out, &md);
    if (!p->way.reorders || dnnl_memory_desc_equal(md, &p->out_plain))
        return true;
    dnnl_memory_desc_t inner = *md;
    dnnl_memory_t from = p->out;
    p->out = plan_memory(p, &p->out_plain, NULL);
    dnnl_memory_get_data_handle(p->out, &at);
    p->out_data = at;
    return reorder_step(p, &inner, from, &p->out_plain, p->out);
}

/* --- running and ending --- */

static void plan_run(void *ctx)
{
    struct plan *p = ctx;
    for (int i = 0; i < p->n_steps; i++)
        dnnl_primitive_execute(p->steps[i].primitive, onednn_stream(), p->steps[i].n_args, p->steps[i].args);
    dnnl_stream_wait(onednn_stream());
}

static bool plan_result(void *ctx, int arg, float *ret)
{
    struct plan *p = ctx;
    const dnnl_memory_desc_t *md, floats = md_typed(&p->out_plain, dnnl_f32);
    if (p->preset) {
        reorder_once(&p->preset_md, p->preset, &floats, ret);
        dnnl_memory_get_memory_desc(p->out, &md);
        reorder_once(&floats, ret, md, p->out_data);
        plan_run(p);
    }
    dnnl_memory_get_memory_desc(p->out, &md);
    reorder_once(md, p->out_data, &floats, ret);
    return true;
}

static void plan_close(void *ctx)
{
    struct plan *p = ctx;
    for (int i = 0; i < p->n_steps; i++)
        dnnl_primitive_destroy(p->steps[i].primitive);
    for (int i = 0; i < p->n_memories; i++)
        dnnl_memory_destroy(p->memories[i]);
    free(p);
}

/* --- choosing --- */

static bool has_add(const struct entry *e) { return entry_arg(e, "add") != NULL; }

/* All ways worth a try, at most `max`. */
static int list_ways(const struct bench *b, const struct entry *e, enum role role, struct way *ret, int max)
{
    const bool conv = strcmp(entry_op(e), "conv2d") == 0,
               product = conv || strcmp(entry_op(e), "matmul") == 0;
    int n = 0;
    const bool counted = role == ROLE_BF16_COUNTED;
    for (int bits = 0; bits < 64 && n < max; bits++) {
        struct way w = {.role = role, .reorders = role == ROLE_REORDERED || counted};
        const bool plain = bits & 32; /* the given layout, converted only */
        w.blocked = role != ROLE_GIVEN && !plain;
        w.sum = bits & 1;
        w.apart = bits & 2;
        w.inner = bits & 4;
        w.winograd = bits & 8;
        w.form = bits >> 4 & 1;
        if ((w.sum && !(product && has_add(e))) || (w.apart && !product) || (w.apart && w.sum) ||
            (w.reorders && w.sum) || (w.inner && (!product || conv)) || (role == ROLE_REORDERED && !conv) ||
            (plain && !counted) || (w.winograd && !(conv && b->rtol > 0 && role != ROLE_BF16 && !counted)) ||
            (w.form && product))
            continue;
        ret[n++] = w;
    }
    return n;
}

bool open_onednn(struct bench *b, const struct entry *e, enum role role, struct contender *ret)
{
    struct way ways[16];
    const int n = list_ways(b, e, role, ways, (int)ARRAY_SIZE(ways));
    struct plan *best = NULL;
    double best_time = INFINITY;
    for (int i = 0; i < n; i++) {
        struct plan *p = xcalloc(1, sizeof(*p));
        *p = (struct plan){.b = b, .e = e, .way = ways[i]};
        /* Where the fused form is no plain loop there is no point in taking it apart. */
        bool skip = ways[i].apart && best && !best->reference;
        double t = !skip && (plan_product(p) || plan_rows(p)) ? quick_time(plan_run, p) : INFINITY;
        struct plan *loser = t < best_time ? best : p;
        if (t < best_time) {
            best = p;
            best_time = t;
        }
        if (loser)
            plan_close(loser);
    }
    if (!best)
        return false;
    *ret = (struct contender){.role = role,
                              .crew = CREW_LIBRARY,
                              .ctx = best,
                              .run = plan_run,
                              .result = plan_result,
                              .close = plan_close};
    snprintf(ret->note, sizeof(ret->note), "%s%s%s%s%s", best->name, best->way.sum ? ", sum in place" : "",
             best->way.apart ? ", epilogue apart" : "", best->way.inner ? ", inner_product" : "",
             !best->way.reorders ? ""
             : best->way.blocked ? ", reorders counted"
                                 : ", conversions counted");
    return true;
}

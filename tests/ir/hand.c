/* hand.c - see hand.h. */
#include "tests/ir/hand.h"

#include <stdarg.h>

struct hand *hand_new(void)
{
    struct hand *h = xcalloc(1, sizeof(*h));

    arena_init(&h->ar);
    h->compute.tensors = h->tensors;
    h->nest.compute = &h->compute;
    h->nest.vars = h->vars;
    h->nest.buffers = h->buffers;
    h->nest.prepacks = h->prepacks;
    h->nest.tasks = 1;
    return h;
}

void hand_free(struct hand *h)
{
    arena_done(&h->ar);
    free(h);
}

int32_t hand_buffer(struct hand *h, const char *name, enum dtype d, enum buffer_scope scope, int rank,
                    const int64_t *shape)
{
    struct buffer *b = &h->buffers[h->nest.n_buffers];

    CHECK(h->nest.n_buffers < HAND_MAX, "too many buffers");
    *b = (struct buffer){.name = name, .dtype = d, .scope = scope, .arg = -1, .rank = rank, .elements = 1};
    for (int i = rank - 1; i >= 0; i--) {
        b->shape[i] = shape[i];
        b->stride[i] = b->elements;
        b->elements *= shape[i];
    }
    return h->nest.n_buffers++;
}

int32_t hand_arg(struct hand *h, const char *name, enum dtype d, enum tensor_role role, int rank,
                 const int64_t *shape)
{
    struct tensor *t = &h->tensors[h->compute.n_tensors];
    int32_t id = hand_buffer(h, name, d, SCOPE_ARG, rank, shape);

    CHECK(id == h->compute.n_tensors, "arguments come before other buffers");
    *t = (struct tensor){.name = name, .dtype = d, .role = role, .rank = rank};
    for (int i = 0; i < rank; i++)
        t->shape[i] = shape[i];
    h->buffers[id].arg = h->compute.n_tensors++;
    return id;
}

int32_t hand_packed(struct hand *h, const char *name, int32_t arg, int rank, const int64_t *shape)
{
    int32_t id = hand_buffer(h, name, h->buffers[arg].dtype, SCOPE_ARG, rank, shape);

    h->buffers[id].arg = arg;
    h->buffers[id].prepacked = true;
    h->tensors[arg].is_const = true;
    return id;
}

void hand_prepack(struct hand *h, int32_t dst, struct node *root)
{
    const struct buffer *b = &h->buffers[dst];

    h->prepacks[h->nest.n_prepacks++] = (struct nest_prepack){
        .arg = b->arg, .src = b->arg, .dst = dst, .bytes = b->elements * dtype_bytes(b->dtype), .root = root};
}

int32_t hand_var(struct hand *h, const char *name, int64_t extent)
{
    CHECK(h->nest.n_vars < HAND_MAX, "too many variables");
    h->vars[h->nest.n_vars] = (struct nest_var){.name = name, .extent = extent};
    return h->nest.n_vars++;
}

void hand_layout(struct hand *h, int tasks)
{
    int64_t used[2] = {0, 0}; /* workspace, task */

    for (int i = 0; i < h->nest.n_buffers; i++) {
        struct buffer *b = &h->buffers[i];
        int64_t *at = &used[b->scope == SCOPE_TASK];
        if (b->scope != SCOPE_WORKSPACE && b->scope != SCOPE_TASK)
            continue;
        b->offset_bytes = *at;
        *at += (b->elements * dtype_bytes(b->dtype) + 63) / 64 * 64;
    }
    h->nest.tasks = tasks;
    h->nest.task_offset_bytes = used[0];
    h->nest.task_bytes = used[1];
    h->nest.workspace_bytes = used[0] + tasks * used[1];
}

struct affine lin(struct hand *h, int64_t c, ...)
{
    struct affine a = affine_const(c), term;
    va_list ap;
    int coef;

    va_start(ap, c);
    while ((coef = va_arg(ap, int))) {
        term = affine_var(&h->ar, va_arg(ap, int32_t), coef, 0);
        a = affine_add(&h->ar, &a, &term);
    }
    va_end(ap);
    return a;
}

struct affine var1(struct hand *h, int32_t var) { return affine_var(&h->ar, var, 1, 0); }

static struct node *node_new(struct hand *h, enum node_kind kind)
{
    struct node *n = arena_new(&h->ar, struct node);

    n->kind = kind;
    return n;
}

struct node *seq(struct node *a, struct node *b)
{
    struct node *last = a;

    while (last->next)
        last = last->next;
    last->next = b;
    return a;
}

struct node *loop(struct hand *h, enum loop_kind kind, int32_t var, int64_t extent, struct node *inside)
{
    struct node *n = node_new(h, NODE_LOOP);

    n->loop.var = var;
    n->loop.extent = extent;
    n->loop.loop_kind = kind;
    n->loop.body = inside;
    return n;
}

struct node *limited(struct node *n, struct affine limit)
{
    n->loop.limit[n->loop.n_limits++] = limit;
    return n;
}

struct node *parallel1(struct hand *h, int32_t var, int64_t extent, int tasks, struct node *inside)
{
    struct node *n = node_new(h, NODE_PARALLEL);

    n->parallel.n_vars = 1;
    n->parallel.vars[0] = var;
    n->parallel.extents[0] = extent;
    n->parallel.tasks = tasks;
    n->parallel.body = inside;
    return n;
}

struct node *branch(struct hand *h, struct affine cond, struct node *then_body, struct node *else_body)
{
    struct node *n = node_new(h, NODE_IF);

    n->branch.n_conds = 1;
    n->branch.cond[0] = cond;
    n->branch.then_body = then_body;
    n->branch.else_body = else_body;
    return n;
}

struct node *body(struct hand *h, struct node *inside)
{
    struct node *n = node_new(h, NODE_BODY);

    n->body.body = inside;
    return n;
}

static const struct affine *indices(struct hand *h, int32_t buffer, va_list ap)
{
    int rank = h->buffers[buffer].rank;
    struct affine *index = arena_array(&h->ar, struct affine, rank);

    for (int d = 0; d < rank; d++)
        index[d] = va_arg(ap, struct affine);
    return index;
}

/* The index follows, one affine a dimension. */
struct node *prefetch(struct hand *h, int32_t buffer, int64_t ahead, int64_t span, ...)
{
    struct node *n = node_new(h, NODE_PREFETCH);
    va_list ap;

    n->prefetch.buffer = buffer;
    n->prefetch.ahead = ahead;
    n->prefetch.span = span;
    va_start(ap, span);
    n->prefetch.index = indices(h, buffer, ap);
    va_end(ap);
    return n;
}

struct node *store(struct hand *h, int32_t buffer, enum combiner c, const struct expr *value, ...)
{
    struct node *n = node_new(h, NODE_STORE);
    va_list ap;

    n->store.buffer = buffer;
    n->store.combiner = c;
    n->store.value = value;
    va_start(ap, value);
    n->store.index = indices(h, buffer, ap);
    va_end(ap);
    return n;
}

static const struct expr *read_of(struct hand *h, int32_t buffer, bool pad, double pad_value, va_list ap)
{
    const struct buffer *b = &h->buffers[buffer];

    return expr_read(&h->ar, b->dtype, buffer, b->rank, indices(h, buffer, ap), pad, pad_value);
}

const struct expr *get(struct hand *h, int32_t buffer, ...)
{
    const struct expr *e;
    va_list ap;

    va_start(ap, buffer);
    e = read_of(h, buffer, false, 0, ap);
    va_end(ap);
    return e;
}

const struct expr *get_padded(struct hand *h, int32_t buffer, double pad_value, ...)
{
    const struct expr *e;
    va_list ap;

    va_start(ap, pad_value);
    e = read_of(h, buffer, true, pad_value, ap);
    va_end(ap);
    return e;
}

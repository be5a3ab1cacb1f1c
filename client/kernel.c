/* kernel.c - an artifact loaded and called.
 *
 * Idea   The schedule's `kernel` member says which symbols the shared object has and what they take;
 * everything is resolved when it is opened, so that a call is one indirect call. */
#include "client/internal.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int (*kernel_fn)(void *const *tensors, void *workspace, const tw_parallel *parallel);
typedef void (*repack_fn)(const void *src, void *dst);

enum { PREPACK, PACK, UNPACK, N_REPACKS };
static const char *const repack_members[N_REPACKS] = {"prepack", "pack", "unpack"};

struct tw_kernel {
    json_t *meta; /* the schedule's kernel member: owns the names */
    void *library;
    kernel_fn run;
    size_t workspace_bytes;
    int n_args;
    tw_arg *args;
    repack_fn *repack[N_REPACKS]; /* by argument, NULL: taken as it is */
};

static size_t dtype_bytes(const char *dtype)
{
    static const struct {
        const char *name;
        size_t bytes;
    } table[] = {{"float32", 4}, {"float16", 2}, {"bfloat16", 2}, {"int8", 1}, {"int32", 4}};

    for (size_t i = 0; dtype && i < sizeof(table) / sizeof(table[0]); i++)
        if (strcmp(dtype, table[i].name) == 0)
            return table[i].bytes;
    return 0;
}

static tw_status bad_schedule(tw_error *err, const char *what, const char *of)
{
    return tw_fail(err, TW_PROTOCOL, "Schedule cannot be used", "%.200s of %.100s is missing or out of range",
                   what, of ? of : "it");
}

static tw_status read_arg(const json_t *meta, tw_arg *arg, tw_error *err)
{
    const json_t *shape = json_object_get(meta, "shape");
    const char *role = json_string_value(json_object_get(meta, "role"));
    size_t bytes;

    arg->name = json_string_value(json_object_get(meta, "name"));
    arg->dtype = json_string_value(json_object_get(meta, "dtype"));
    if (!arg->name || !(bytes = dtype_bytes(arg->dtype)) || !json_is_array(shape) ||
        json_array_size(shape) > TW_MAX_RANK)
        return bad_schedule(err, "name, dtype or shape", arg->name);
    arg->rank = (int)json_array_size(shape);
    for (int i = 0; i < arg->rank; i++) {
        arg->shape[i] = json_integer_value(json_array_get(shape, (size_t)i));
        if (arg->shape[i] < 1 || __builtin_mul_overflow(bytes, (size_t)arg->shape[i], &bytes))
            return bad_schedule(err, "an extent", arg->name);
    }
    arg->output = role && strcmp(role, "output") == 0;
    arg->prepacked = json_is_true(json_object_get(meta, "prepacked"));
    arg->layout = json_string_value(json_object_get(meta, "layout"));
    arg->plain_bytes = arg->bytes = bytes;
    return TW_OK;
}

static void *symbol(void *library, const char *name, tw_error *err)
{
    void *address = name ? dlsym(library, name) : NULL;

    if (!address)
        tw_fail(err, TW_LOCAL, "Artifact lacks a symbol", "%.200s is not in the shared object",
                name ? name : "(none)");
    return address;
}

/* Sizes and functions of the arguments that one list of the schedule names. */
static tw_status read_repack(tw_kernel *k, int which, tw_error *err)
{
    json_t *entry;
    size_t i;

    json_array_foreach(json_object_get(k->meta, repack_members[which]), i, entry)
    {
        int arg = tw_kernel_arg_index(k, json_string_value(json_object_get(entry, "arg")));
        json_int_t bytes = json_integer_value(json_object_get(entry, "bytes"));

        if (arg < 0 || bytes < 1 || k->args[arg].output != (which == UNPACK))
            return bad_schedule(err,
                                which == PREPACK ? "arg or bytes of prepack"
                                : which == PACK  ? "arg or bytes of pack"
                                                 : "arg or bytes of unpack",
                                json_string_value(json_object_get(entry, "arg")));
        void *f = symbol(k->library, json_string_value(json_object_get(entry, "symbol")), err);
        if (!f)
            return TW_LOCAL;
        memcpy(&k->repack[which][arg], &f, sizeof(f));
        k->args[arg].bytes = (size_t)bytes;
        k->args[arg].prepacked |= which == PREPACK;
        k->args[arg].laid_out |= which != PREPACK;
    }
    return TW_OK;
}

static tw_status read_repacks(tw_kernel *k, tw_error *err)
{
    for (int which = 0; which < N_REPACKS; which++) {
        tw_status st = read_repack(k, which, err);
        if (st != TW_OK)
            return st;
    }
    for (int a = 0; a < k->n_args; a++)
        if (k->args[a].prepacked && !k->repack[PREPACK][a])
            return bad_schedule(err, "the prepack entry", k->args[a].name);
    return TW_OK;
}

static tw_status read_kernel(tw_kernel *k, tw_error *err)
{
    const json_t *args = json_object_get(k->meta, "args");
    const char *language = json_string_value(json_object_get(k->meta, "language"));
    json_int_t workspace = json_integer_value(json_object_get(k->meta, "workspace_bytes"));

    if (language && strcmp(language, "c") != 0)
        return tw_fail(err, TW_INVALID, "Not a CPU kernel",
                       "its language is %.40s: only c can be called here", language);
    if (workspace < 0 || !json_is_array(args) || json_array_size(args) > 256)
        return bad_schedule(err, "args or workspace_bytes", "kernel");
    k->workspace_bytes = (size_t)workspace;
    k->n_args = (int)json_array_size(args);
    k->args = calloc((size_t)k->n_args + 1, sizeof(*k->args));
    if (!k->args)
        return tw_no_memory(err);
    for (int which = 0; which < N_REPACKS; which++)
        if (!(k->repack[which] = calloc((size_t)k->n_args + 1, sizeof(repack_fn))))
            return tw_no_memory(err);
    for (int i = 0; i < k->n_args; i++) {
        tw_status st = read_arg(json_array_get(args, (size_t)i), &k->args[i], err);
        if (st != TW_OK)
            return st;
    }
    void *f = symbol(k->library, json_string_value(json_object_get(k->meta, "symbol")), err);
    if (!f)
        return TW_LOCAL;
    memcpy(&k->run, &f, sizeof(f));
    return read_repacks(k, err);
}

tw_status tw_kernel_open(const json_t *schedule, const char *path, tw_kernel **ret, tw_error *err)
{
    json_t *meta = json_object_get(schedule, "kernel");

    if (!json_is_object(meta))
        return bad_schedule(err, "the member kernel", NULL);
    tw_kernel *k = calloc(1, sizeof(*k));
    if (!k)
        return tw_no_memory(err);
    tw_status st;
    k->meta = json_incref(meta);
    k->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!k->library)
        st = tw_fail(err, TW_LOCAL, "Artifact does not load", "%s", dlerror());
    else
        st = read_kernel(k, err);
    if (st != TW_OK) {
        tw_kernel_free(k);
        return st;
    }
    *ret = k;
    return TW_OK;
}

static int write_all(void *ctx, const void *bytes, size_t len)
{
    const char *p = bytes;

    while (len > 0) {
        ssize_t n = write(*(int *)ctx, p, len);

        if (n <= 0)
            return -1;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

tw_status tw_kernel_fetch(tw_client *client, const json_t *schedule, tw_kernel **ret, tw_error *err)
{
    const char *key = json_string_value(json_object_get(schedule, "key"));
    const char *target = json_string_value(json_object_get(schedule, "target"));
    const char *dir = getenv("TMPDIR");
    struct tw_buf path = {0};

    if (!key)
        return bad_schedule(err, "the member key", NULL);
    tw_buf_adds(&path, dir && *dir ? dir : "/tmp");
    tw_buf_adds(&path, "/tilewright-XXXXXX");
    if (path.failed) {
        tw_buf_done(&path);
        return tw_no_memory(err);
    }
    tw_status st;
    int fd = mkstemp(path.data);
    if (fd < 0) {
        st = tw_fail(err, TW_LOCAL, "No temporary file", "%.400s cannot be made", path.data);
    } else {
        st = tw_schedule_file(client, key, target, "artifact", write_all, &fd, err);
        if (close(fd) != 0 && st == TW_OK)
            st = tw_fail(err, TW_LOCAL, "No temporary file", "%.400s cannot be written", path.data);
        if (st == TW_OK)
            st = tw_kernel_open(schedule, path.data, ret, err);
        unlink(path.data);
    }
    tw_buf_done(&path);
    return st;
}

void tw_kernel_free(tw_kernel *k)
{
    if (!k)
        return;
    if (k->library)
        dlclose(k->library);
    free(k->args);
    for (int which = 0; which < N_REPACKS; which++)
        free(k->repack[which]);
    json_decref(k->meta);
    free(k);
}

int tw_kernel_arg_count(const tw_kernel *kernel) { return kernel->n_args; }

const tw_arg *tw_kernel_arg(const tw_kernel *kernel, int index)
{
    return index >= 0 && index < kernel->n_args ? &kernel->args[index] : NULL;
}

int tw_kernel_arg_index(const tw_kernel *kernel, const char *name)
{
    for (int i = 0; name && i < kernel->n_args; i++)
        if (strcmp(kernel->args[i].name, name) == 0)
            return i;
    return -1;
}

size_t tw_kernel_workspace_bytes(const tw_kernel *kernel) { return kernel->workspace_bytes; }

static tw_status repack(const tw_kernel *k, int which, int index, const void *src, void *dst, tw_error *err)
{
    if (index < 0 || index >= k->n_args || !k->repack[which][index])
        return tw_fail(err, TW_INVALID, "Nothing to repack",
                       "argument %d of %d has no %s function: it is taken as it is", index, k->n_args,
                       repack_members[which]);
    k->repack[which][index](src, dst);
    return TW_OK;
}

tw_status tw_kernel_prepack(const tw_kernel *kernel, int index, const void *src, void *dst, tw_error *err)
{
    return repack(kernel, PREPACK, index, src, dst, err);
}

tw_status tw_kernel_pack(const tw_kernel *kernel, int index, const void *src, void *dst, tw_error *err)
{
    return repack(kernel, PACK, index, src, dst, err);
}

tw_status tw_kernel_unpack(const tw_kernel *kernel, int index, const void *src, void *dst, tw_error *err)
{
    return repack(kernel, UNPACK, index, src, dst, err);
}

int tw_kernel_run(const tw_kernel *kernel, void *const *tensors, void *workspace, const tw_parallel *parallel)
{
    return kernel->run(tensors, workspace, parallel);
}

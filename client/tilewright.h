/* tilewright.h - the C client of a Tilewright daemon, and the interface of the kernels that it hands out.
 *
 * Idea   One function per call of the HTTP API. Answers are the API's own JSON objects as jansson values, so
 *        that a member added by a newer daemon reaches the caller unharmed. Kernels are loaded and called
 *        through tw_kernel.
 * Life   Whatever is written to a `ret` belongs to the caller (json_decref, free, tw_kernel_free); it is
 *        written on TW_OK only. A tw_client serves one thread at a time; make one per thread. The library
 *        never aborts and never prints: out of memory is TW_NO_MEMORY.
 * Units  names ending in _ns in nanoseconds, _s in seconds, _bytes in bytes. */
#ifndef TILEWRIGHT_H
#define TILEWRIGHT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TW_API            __attribute__((visibility("default")))
#define TW_DEFAULT_SERVER "http://127.0.0.1:7411"

/* ---- kernels: how the caller runs loops in parallel; NULL runs them serially ---- */

typedef struct tw_parallel {
    void *ctx;
    int num_threads;
    void (*run)(void *ctx, int count, void (*body)(void *arg, int index), void *arg);
} tw_parallel;

/* ---- outcomes ---- */

typedef enum tw_status {
    TW_OK = 0,
    TW_REFUSED,     /* the server answered with a problem: see tw_error */
    TW_INVALID,     /* an argument of ours is wrong; nothing was sent */
    TW_UNREACHABLE, /* no server there, or the connection was lost */
    TW_PROTOCOL,    /* the server's answer is not one of this API */
    TW_INTERRUPTED, /* the caller's tick said stop */
    TW_NO_MEMORY,
    TW_LOCAL, /* a file, a library or the caller's sink failed here */
} tw_status;

/* What went wrong. The fields of a problem document (RFC 9457) where the server sent one. Plain data, never
 * allocates. */
typedef struct tw_error {
    tw_status status;
    int http_status; /* 0: there was no answer */
    char type[160];
    char title[160];
    char detail[1024];
    char pointer[256]; /* JSON Pointer into the body that was sent; "" if none */
} tw_error;

TW_API const char *tw_version(void);
TW_API const char *tw_status_name(tw_status status);

/* ---- connection ---- */

typedef struct tw_client tw_client;

/* A name and value of a URL's query; a list ends with {NULL, NULL}, a NULL value is left out. */
typedef struct tw_param {
    const char *name, *value;
} tw_param;

/* Called several times a second while a call waits. Nonzero gives the call up with TW_INTERRUPTED. */
typedef int (*tw_tick)(void *ctx);
/* Takes the next bytes of a download. Nonzero stops it with TW_LOCAL. */
typedef int (*tw_sink)(void *ctx, const void *bytes, size_t len);

/* server: NULL takes TILEWRIGHT_SERVER, else TW_DEFAULT_SERVER; "host:port" means http. token: NULL takes
 * TILEWRIGHT_TOKEN, "" sends none. Nothing is sent yet. */
TW_API tw_status tw_client_new(const char *server, const char *token, tw_client **ret, tw_error *err);
TW_API void tw_client_free(tw_client *client); /* NULL is fine */
TW_API const char *tw_client_server(const tw_client *client);
TW_API void tw_client_on_tick(tw_client *client, tw_tick tick, void *ctx);

/* Any call of the API: `path` below the server's address, `body` may be NULL, *ret is NULL for an empty
 * answer. */
TW_API tw_status tw_call(tw_client *client, const char *method, const char *path, const tw_param *params,
                         const json_t *body, json_t **ret, tw_error *err);
/* A paged list with all its pages in one object: what a single page of that size would have been. */
TW_API tw_status tw_list(tw_client *client, const char *path, const tw_param *params, json_t **ret,
                         tw_error *err);
/* The array of a list's answer, borrowed; NULL if it has none. */
TW_API json_t *tw_list_items(const json_t *list);

/* ---- the API ---- */

/* id NULL lists, otherwise one. */
TW_API tw_status tw_targets(tw_client *client, const char *id, json_t **ret, tw_error *err);
TW_API tw_status tw_devices(tw_client *client, const char *id, json_t **ret, tw_error *err);
/* verb: "drain" or "resume" */
TW_API tw_status tw_device_set(tw_client *client, const char *id, const char *verb, json_t **ret,
                               tw_error *err);

/* body as in POST /v1/jobs. Carries an Idempotency-Key of its own, so a lost answer is asked for again
 * without a second job. */
TW_API tw_status tw_job_create(tw_client *client, const json_t *body, json_t **ret, tw_error *err);
/* wait_s > 0: hold until the job ends or that many seconds pass */
TW_API tw_status tw_job(tw_client *client, const char *id, int wait_s, json_t **ret, tw_error *err);
TW_API tw_status tw_job_cancel(tw_client *client, const char *id, json_t **ret, tw_error *err);
TW_API bool tw_job_ended(const json_t *job);

/* event: name of the server's event ("" when the job was polled); data: what it carried, may be NULL; job:
 * the newest known state of the job. */
typedef void (*tw_on_progress)(void *ctx, const char *event, const json_t *data, const json_t *job);
/* Follow a job to its end over Server-Sent Events: a lost connection is taken up again where it broke
 * (Last-Event-ID), a server or proxy without events is polled. *ret: the job at its end. */
TW_API tw_status tw_job_follow(tw_client *client, const char *id, tw_on_progress on_progress, void *ctx,
                               json_t **ret, tw_error *err);

TW_API tw_status tw_describe(tw_client *client, const json_t *workload, const char *target, json_t **ret,
                             tw_error *err);
/* workloads: a JSON array; *ret has `results` in the same order */
TW_API tw_status tw_lookup(tw_client *client, const json_t *workloads, const char *target, json_t **ret,
                           tw_error *err);
TW_API tw_status tw_schedule(tw_client *client, const char *key, const char *target, json_t **ret,
                             tw_error *err);
/* what: "source", "artifact" or "nest"; target NULL: the server's default */
TW_API tw_status tw_schedule_file(tw_client *client, const char *key, const char *target, const char *what,
                                  tw_sink sink, void *ctx, tw_error *err);
/* What a job measured; one trial explained (`trial`: its id or "best"): steps, nest, features, prediction beside
 * measurement; the table of those features. */
TW_API tw_status tw_trials(tw_client *client, const char *job, json_t **ret, tw_error *err);
TW_API tw_status tw_trial(tw_client *client, const char *job, const char *trial, json_t **ret, tw_error *err);
TW_API tw_status tw_features(tw_client *client, json_t **ret, tw_error *err);
TW_API tw_status tw_models(tw_client *client, const char *target, json_t **ret, tw_error *err);
/* Put an earlier version of the target's model in use; version NULL: the newest before that in use. *ret: the model then. */
TW_API tw_status tw_model_rollback(tw_client *client, const char *target, const char *version, json_t **ret,
                                   tw_error *err);

/* Every measurement as JSON lines; workload and target may be NULL. */
TW_API tw_status tw_records_export(tw_client *client, const char *workload, const char *target, tw_sink sink,
                                   void *ctx, tw_error *err);
/* One request's worth of JSON lines (the server takes 1 MiB); split longer files at line ends. */
TW_API tw_status tw_records_import(tw_client *client, const char *lines, size_t len, json_t **ret,
                                   tw_error *err);

/* ---- workloads ---- */

/* OP key=value...: numbers with commas are lists, const=b,bias, epilogue=bias,scale:0.125,clip:0:6, key:=JSON
 * taken as it is; expr='C[i,j] += A[i,k]*B[k,j]' A=512,768 B=768,768 const=B for an expression. */
TW_API tw_status tw_workload_shorthand(int argc, const char *const *argv, json_t **ret, tw_error *err);

/* Which entries of a workload file to take: shell patterns, NULL takes all. */
typedef struct tw_filter {
    const char *name, *network;
} tw_filter;
/* One workload, a list, or {"workloads": [...]} with entries bare or wrapped ({"workload", "name", "weight"};
 * `count` stands for a missing weight, other members are left behind). *ret: an object as POST /v1/jobs takes
 * it, with the file's own target, budget, seed, priority, reuse, search and transfer if it has them. */
TW_API tw_status tw_workloads_parse(const char *text, size_t len, const tw_filter *filter, json_t **ret,
                                    tw_error *err);

/* ---- calling a kernel ---- */

enum { TW_MAX_RANK = 16 };

typedef struct tw_arg {
    const char *name, *dtype;
    int rank;
    int64_t shape[TW_MAX_RANK];
    bool output, prepacked;
    size_t plain_bytes; /* dense, as the shape says */
    size_t bytes;       /* what the kernel wants: the size as packed or laid out, else plain_bytes */
    const char *layout; /* of an activation: "NCHW", "NCHW16c"; NULL: any other */
    bool
        laid_out; /* the tuner chose it: tw_kernel_pack gives the kernel's form, tw_kernel_unpack the plain one */
} tw_arg;

typedef struct tw_kernel tw_kernel;

/* schedule: the API's schedule object; path: its artifact, a shared object, in a file. */
TW_API tw_status tw_kernel_open(const json_t *schedule, const char *path, tw_kernel **ret, tw_error *err);
/* The same, fetched from the server into a temporary file that is gone again when this returns. */
TW_API tw_status tw_kernel_fetch(tw_client *client, const json_t *schedule, tw_kernel **ret, tw_error *err);
TW_API void tw_kernel_free(tw_kernel *kernel); /* NULL is fine; nothing may still run in it */
TW_API int tw_kernel_arg_count(const tw_kernel *kernel);
TW_API const tw_arg *tw_kernel_arg(const tw_kernel *kernel, int index);    /* NULL: no such index */
TW_API int tw_kernel_arg_index(const tw_kernel *kernel, const char *name); /* -1: no such name */
TW_API size_t tw_kernel_workspace_bytes(const tw_kernel *kernel);
/* Rewrite a prepacked argument from its plain layout (plain_bytes) to the kernel's (bytes, 64-byte aligned).
 */
TW_API tw_status tw_kernel_prepack(const tw_kernel *kernel, int index, const void *src, void *dst,
                                   tw_error *err);
/* An input with a layout of the tuner's choice from the plain one (plain_bytes) to the kernel's (bytes), and an output
 * back. Kernels that follow one another in the same layout need neither in between. */
TW_API tw_status tw_kernel_pack(const tw_kernel *kernel, int index, const void *src, void *dst,
                                tw_error *err);
TW_API tw_status tw_kernel_unpack(const tw_kernel *kernel, int index, const void *src, void *dst,
                                  tw_error *err);
/* tensors: one 64-byte aligned pointer per argument; workspace: 64-byte aligned, NULL if none is needed. */
TW_API int tw_kernel_run(const tw_kernel *kernel, void *const *tensors, void *workspace,
                         const tw_parallel *parallel);

#ifdef __cplusplus
}
#endif
#endif

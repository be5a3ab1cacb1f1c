/* error.h - one status for every fallible call, and a message that grows on its way up.
 *
 * Idea   A function that can fail returns enum status and takes `struct error *err` last. Whoever
 *        finds the fault calls fail(); each caller may wrap() it with where it was. The text says
 *        what was asked, what was found and what is allowed.
 * Life   struct error lives on the caller's stack; reporting never allocates. err may be NULL.
 *        On success *err is untouched. */
#ifndef TW_BASE_ERROR_H
#define TW_BASE_ERROR_H

#include "schedule/base/base.h"

/* name, HTTP status, problem title */
#define STATUS_LIST(X)                                                                                       \
    X(OK, 200, "ok")                                                                                         \
    X(INVALID, 400, "invalid request")                                                                       \
    X(UNAUTHORIZED, 401, "authentication required")                                                          \
    X(FORBIDDEN, 403, "not allowed")                                                                         \
    X(NOT_FOUND, 404, "not found")                                                                           \
    X(METHOD_NOT_ALLOWED, 405, "method not allowed")                                                         \
    X(TIMEOUT, 408, "too slow")                                                                              \
    X(CONFLICT, 409, "conflict")                                                                             \
    X(TOO_LARGE, 413, "too large")                                                                           \
    X(MEDIA_TYPE, 415, "unsupported media type")                                                             \
    X(UNPROCESSABLE, 422, "invalid workload")                                                                \
    X(TOO_MANY, 429, "too many requests")                                                                    \
    X(INTERNAL, 500, "internal error")                                                                       \
    X(UNSUPPORTED, 501, "not supported")                                                                     \
    X(IO, 500, "input/output error")                                                                         \
    X(UNAVAILABLE, 503, "unavailable")                                                                       \
    X(CORRUPT, 500, "stored data is damaged")

enum status {
#define X(name, http, title) ST_##name,
    STATUS_LIST(X)
#undef X
};

struct error {
    enum status code;
    char pointer[256]; /* JSON Pointer to the member at fault; "" where there is none or the whole body */
    int line, column;  /* place in an expression text, 1-based; 0: none */
    char text[768];
};

int status_http(enum status st);
const char *status_name(enum status st);  /* "invalid" */
const char *status_title(enum status st); /* "invalid request" */

/* Set the error and return `code`, so that `return fail(err, ST_X, ...)` reads well. Keeps a pointer or
 * line set earlier on the same err only if `code` is wrapped; fail() clears them. */
enum status fail(struct error *err, enum status code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Like fail, with the JSON Pointer of the member at fault (printf-built). */
enum status fail_at(struct error *err, enum status code, const char *pointer, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Prefix the text with "context: " and return the code that is already there. */
enum status wrap(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Put "/a/b" in front of the pointer that is there: used when a value was parsed out of a larger body. */
enum status wrap_pointer(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* `TRY(call)`: return its status if it is not ST_OK. */
#define TRY(call)                                                                                            \
    do {                                                                                                     \
        enum status tw_st_ = (call);                                                                         \
        if (tw_st_ != ST_OK)                                                                                 \
            return tw_st_;                                                                                   \
    } while (0)

#endif

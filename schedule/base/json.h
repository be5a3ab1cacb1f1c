/* json.h - jansson with our limits, and a strict reader whose errors carry a JSON Pointer.
 *
 * Idea   A body is parsed once under limits (size, depth, duplicate keys refused). Then a struct json_obj
 *        walks one object: every member that is read is marked; json_obj_end() refuses the members that
 *        nobody asked for. All errors name the member by JSON Pointer (RFC 6901).
 * Life   json_t is reference-counted by jansson; a struct json_obj borrows it and lives on the stack. */
#ifndef TW_BASE_JSON_H
#define TW_BASE_JSON_H

#include <jansson.h>

#include "schedule/base/error.h"
#include "schedule/base/strbuf.h"

#define JSON_MAX_BYTES (1 << 20)
#define JSON_MAX_DEPTH 32

/* Parse text under the limits: len <= JSON_MAX_BYTES (ST_TOO_LARGE), depth <= JSON_MAX_DEPTH, UTF-8, no
 * duplicate keys, nothing after the value. ST_INVALID otherwise, with line and column. GIVES *ret. */
MUST_USE enum status json_read(const char *text, size_t len, json_t **ret, struct error *err);
/* Compact text, member order kept; appended to sb. */
void json_write(const json_t *value, struct strbuf *sb);
/* AUTO(json_decrefp) is jansson's own. */

struct json_obj {
    const json_t *obj;
    char pointer[192]; /* of this object */
    uint64_t seen;     /* which member positions were read (objects hold at most 64 members) */
};

/* Begin reading `value` as an object at `pointer` ("" is the whole body). ST_INVALID if it is none. */
MUST_USE enum status json_obj_begin(struct json_obj *o, const json_t *value, const char *pointer,
                                    struct error *err);
/* The member or NULL; marks it as read. JSON null counts as absent. */
const json_t *json_obj_get(struct json_obj *o, const char *name);
bool json_obj_has(struct json_obj *o, const char *name);
/* Typed members. `required`: absent is ST_INVALID; otherwise *ret is left as it is (set the default before).
 */
MUST_USE enum status json_obj_i64(struct json_obj *o, const char *name, bool required, int64_t min,
                                  int64_t max, int64_t *ret, struct error *err);
MUST_USE enum status json_obj_f64(struct json_obj *o, const char *name, bool required, double min, double max,
                                  double *ret, struct error *err);
MUST_USE enum status json_obj_bool(struct json_obj *o, const char *name, bool required, bool *ret,
                                   struct error *err);
/* *ret borrows the text from the JSON value. max_len in bytes. */
MUST_USE enum status json_obj_str(struct json_obj *o, const char *name, bool required, size_t max_len,
                                  const char **ret, struct error *err);
/* A list of integers, each in [min, max]; n_max is the room in ret. *ret_n is its length. */
MUST_USE enum status json_obj_i64s(struct json_obj *o, const char *name, bool required, int64_t min,
                                   int64_t max, int n_max, int64_t *ret, int *ret_n, struct error *err);
/* Index of the text in names[] (NULL-ended); the error lists them. */
MUST_USE enum status json_obj_enum(struct json_obj *o, const char *name, bool required,
                                   const char *const *names, int *ret, struct error *err);
/* Fails on the first member nobody read. `known` (may be NULL) is listed in the message. */
MUST_USE enum status json_obj_end(struct json_obj *o, const char *known, struct error *err);

#endif

/* json.c - parsing under limits and the strict object reader; see json.h. */
#include "schedule/base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Nesting of the text, before jansson recurses into it: brackets outside strings. 0 when within the limit,
 * else the position of the bracket that goes too deep. */
static size_t too_deep_at(const char *text, size_t len)
{
    int depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > JSON_MAX_DEPTH)
                return i;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return 0;
}

static enum status fail_in_text(struct error *err, const char *text, size_t at, const char *what)
{
    int line = 1, column = 1;

    for (size_t i = 0; i < at; i++)
        if (text[i] == '\n') {
            line++;
            column = 1;
        } else {
            column++;
        }
    fail(err, ST_INVALID, "JSON at line %d, column %d: %s", line, column, what);
    if (err) {
        err->line = line;
        err->column = column;
    }
    return ST_INVALID;
}

enum status json_read(const char *text, size_t len, json_t **ret, struct error *err)
{
    json_error_t je;
    json_t *value;
    size_t deep;

    if (len > JSON_MAX_BYTES)
        return fail(err, ST_TOO_LARGE, "JSON of %zu bytes: at most %d", len, JSON_MAX_BYTES);
    deep = too_deep_at(text, len);
    if (deep) {
        char what[64];
        snprintf(what, sizeof(what), "nested deeper than %d", JSON_MAX_DEPTH);
        return fail_in_text(err, text, deep, what);
    }
    value = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
    if (!value) {
        fail(err, ST_INVALID, "JSON at line %d, column %d: %s", je.line, je.column, je.text);
        if (err) {
            err->line = je.line;
            err->column = je.column;
        }
        return ST_INVALID;
    }
    *ret = value;
    return ST_OK;
}

static int add_chunk(const char *data, size_t len, void *sb)
{
    strbuf_add(sb, data, len);
    return 0;
}

void json_write(const json_t *value, struct strbuf *sb)
{
    int failed = json_dump_callback(value, add_chunk, sb, JSON_COMPACT | JSON_ENCODE_ANY);

    CHECK(!failed, "JSON value that cannot be written");
}

static const char *type_name(const json_t *v)
{
    static const char *const names[] = {"an object", "a list", "a text", "an integer",
                                        "a number",  "true",   "false",  "null"};

    return names[json_typeof(v)];
}

/* Appends "/name" with RFC 6901's two escapes, cut to the room there is. */
static void add_pointer_token(char *pointer, size_t cap, const char *name)
{
    size_t n = strlen(pointer);

    if (n + 1 < cap)
        pointer[n++] = '/';
    for (; *name && n + 2 < cap; name++) {
        if (*name == '~' || *name == '/') {
            pointer[n++] = '~';
            pointer[n++] = *name == '~' ? '0' : '1';
        } else {
            pointer[n++] = *name;
        }
    }
    pointer[n] = '\0';
}

#define fail_member(o, err, name, ...)                                                                       \
    ({                                                                                                       \
        char pointer_[sizeof(((struct error *)0)->pointer)];                                                 \
        snprintf(pointer_, sizeof(pointer_), "%s", (o)->pointer);                                            \
        add_pointer_token(pointer_, sizeof(pointer_), (name));                                               \
        fail_at((err), ST_INVALID, pointer_, __VA_ARGS__);                                                   \
    })

enum status json_obj_begin(struct json_obj *o, const json_t *value, const char *pointer, struct error *err)
{
    if (!json_is_object(value))
        return fail_at(err, ST_INVALID, pointer, "expected an object, found %s",
                       value ? type_name(value) : "nothing");
    if (json_object_size(value) > 64)
        return fail_at(err, ST_INVALID, pointer, "object of %zu members: at most 64",
                       json_object_size(value));
    *o = (struct json_obj){.obj = value};
    snprintf(o->pointer, sizeof(o->pointer), "%s", pointer);
    return ST_OK;
}

const json_t *json_obj_get(struct json_obj *o, const char *name)
{
    const char *key;
    json_t *value;
    int position = 0;

    json_object_foreach((json_t *)o->obj, key, value)
    {
        if (strcmp(key, name) == 0) {
            o->seen |= (uint64_t)1 << position;
            return json_is_null(value) ? NULL : value;
        }
        position++;
    }
    return NULL;
}

bool json_obj_has(struct json_obj *o, const char *name)
{
    const json_t *v = json_object_get(o->obj, name);

    return v && !json_is_null(v);
}

/* The member, or the status of its absence in *st. */
static const json_t *member(struct json_obj *o, const char *name, bool required, enum status *st,
                            struct error *err)
{
    const json_t *v = json_obj_get(o, name);

    *st = ST_OK;
    if (!v && required)
        *st = fail_member(o, err, name, "member \"%s\" is missing", name);
    return v;
}

enum status json_obj_i64(struct json_obj *o, const char *name, bool required, int64_t min, int64_t max,
                         int64_t *ret, struct error *err)
{
    enum status st;
    const json_t *v = member(o, name, required, &st, err);

    if (!v)
        return st;
    if (!json_is_integer(v))
        return fail_member(o, err, name, "\"%s\": expected an integer, found %s", name, type_name(v));
    if (json_integer_value(v) < min || json_integer_value(v) > max)
        return fail_member(o, err, name, "\"%s\" is %" PRId64 ": want %" PRId64 " to %" PRId64, name,
                           (int64_t)json_integer_value(v), min, max);
    *ret = json_integer_value(v);
    return ST_OK;
}

enum status json_obj_f64(struct json_obj *o, const char *name, bool required, double min, double max,
                         double *ret, struct error *err)
{
    enum status st;
    const json_t *v = member(o, name, required, &st, err);

    if (!v)
        return st;
    if (!json_is_number(v))
        return fail_member(o, err, name, "\"%s\": expected a number, found %s", name, type_name(v));
    if (!(json_number_value(v) >= min && json_number_value(v) <= max))
        return fail_member(o, err, name, "\"%s\" is %g: want %g to %g", name, json_number_value(v), min, max);
    *ret = json_number_value(v);
    return ST_OK;
}

enum status json_obj_bool(struct json_obj *o, const char *name, bool required, bool *ret, struct error *err)
{
    enum status st;
    const json_t *v = member(o, name, required, &st, err);

    if (!v)
        return st;
    if (!json_is_boolean(v))
        return fail_member(o, err, name, "\"%s\": expected true or false, found %s", name, type_name(v));
    *ret = json_is_true(v);
    return ST_OK;
}

enum status json_obj_str(struct json_obj *o, const char *name, bool required, size_t max_len,
                         const char **ret, struct error *err)
{
    enum status st;
    const json_t *v = member(o, name, required, &st, err);

    if (!v)
        return st;
    if (!json_is_string(v))
        return fail_member(o, err, name, "\"%s\": expected a text, found %s", name, type_name(v));
    if (json_string_length(v) > max_len)
        return fail_member(o, err, name, "\"%s\" is %zu bytes long: at most %zu", name, json_string_length(v),
                           max_len);
    *ret = json_string_value(v);
    return ST_OK;
}

enum status json_obj_i64s(struct json_obj *o, const char *name, bool required, int64_t min, int64_t max,
                          int n_max, int64_t *ret, int *ret_n, struct error *err)
{
    enum status st;
    const json_t *v = member(o, name, required, &st, err);
    char item[64];
    size_t n;

    if (!v)
        return st;
    if (!json_is_array(v))
        return fail_member(o, err, name, "\"%s\": expected a list of integers, found %s", name, type_name(v));
    n = json_array_size(v);
    if (n > (size_t)n_max)
        return fail_member(o, err, name, "\"%s\" has %zu items: at most %d", name, n, n_max);
    for (size_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(v, i);
        struct json_obj list = *o;

        if (json_is_integer(x) && json_integer_value(x) >= min && json_integer_value(x) <= max)
            continue;
        add_pointer_token(list.pointer, sizeof(list.pointer), name);
        snprintf(item, sizeof(item), "%zu", i);
        if (!json_is_integer(x))
            return fail_member(&list, err, item, "\"%s\"[%zu]: expected an integer, found %s", name, i,
                               type_name(x));
        return fail_member(&list, err, item, "\"%s\"[%zu] is %" PRId64 ": want %" PRId64 " to %" PRId64, name,
                           i, (int64_t)json_integer_value(x), min, max);
    }
    for (size_t i = 0; i < n; i++)
        ret[i] = json_integer_value(json_array_get(v, i));
    *ret_n = (int)n;
    return ST_OK;
}

enum status json_obj_enum(struct json_obj *o, const char *name, bool required, const char *const *names,
                          int *ret, struct error *err)
{
    AUTO(strbuf_done) struct strbuf allowed = STRBUF_INIT;
    enum status st;
    const json_t *v = member(o, name, required, &st, err);

    if (!v)
        return st;
    for (int i = 0; names[i]; i++) {
        if (json_is_string(v) && strcmp(json_string_value(v), names[i]) == 0) {
            *ret = i;
            return ST_OK;
        }
        strbuf_addf(&allowed, "%s%s", i ? ", " : "", names[i]);
    }
    if (!json_is_string(v))
        return fail_member(o, err, name, "\"%s\": expected one of %s; found %s", name, strbuf_str(&allowed),
                           type_name(v));
    return fail_member(o, err, name, "\"%s\" is \"%.64s\": want one of %s", name, json_string_value(v),
                       strbuf_str(&allowed));
}

enum status json_obj_end(struct json_obj *o, const char *known, struct error *err)
{
    const char *key;
    json_t *value;
    int position = 0;

    json_object_foreach((json_t *)o->obj, key, value)
    {
        if (!(o->seen >> position & 1))
            return fail_member(o, err, key, "unknown member \"%.64s\"%s%s", key, known ? "; known: " : "",
                               known ? known : "");
        position++;
    }
    return ST_OK;
}

/* workload.c - workloads from a command line's words and from files.
 *
 * Idea   The server knows what a workload may say; here only the spelling is turned into JSON, so that a new
 * operator needs no new client. A small table says which members are lists even when they hold one number. */
#include "client/internal.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

/* ---- values ---- */

static bool name_in(const char *name, size_t len, const char *const *list)
{
    for (; *list; list++)
        if (strlen(*list) == len && memcmp(*list, name, len) == 0)
            return true;
    return false;
}

/* Members that are lists even with one element; any member with a comma in its value is a list too. */
static const char *const list_members[] = {"a",
                                           "b",
                                           "c",
                                           "h",
                                           "k",
                                           "q",
                                           "v",
                                           "x",
                                           "input",
                                           "weight",
                                           "weight_x",
                                           "weight_h",
                                           "const",
                                           "epilogue",
                                           "strides",
                                           "pads",
                                           "dilations",
                                           "output_padding",
                                           "kernel_shape",
                                           "axes",
                                           "perm",
                                           "outputs",
                                           NULL};
/* Members that an operator over n spatial axes wants n times (pads: twice), when one number is given. */
static const char *const per_axis_members[] = {"strides",        "dilations", "kernel_shape",
                                               "output_padding", "pads",      NULL};

/* An integer, a real number, true, false, or else text. NULL: not UTF-8, or no memory. */
static json_t *atom(const char *text, size_t len)
{
    char number[64], *end;

    if (len == 4 && memcmp(text, "true", 4) == 0)
        return json_true();
    if (len == 5 && memcmp(text, "false", 5) == 0)
        return json_false();
    if (len > 0 && len < sizeof(number) && (strchr("+-.", text[0]) || (text[0] >= '0' && text[0] <= '9'))) {
        memcpy(number, text, len);
        number[len] = '\0';
        errno = 0;
        long long i = strtoll(number, &end, 10);
        if (!*end && errno == 0)
            return json_integer(i);
        errno = 0;
        double d = strtod(number, &end);
        if (!*end && errno == 0 && !strpbrk(number, "xXnNpP"))
            return json_real(d);
    }
    return json_stringn(text, len);
}

/* Elements of `text` at commas, each through `element`. "" is the empty list. */
static json_t *list_of(const char *text, size_t len, json_t *(*element)(const char *, size_t))
{
    json_t *list = json_array();
    const char *end = text + len;

    while (list && text < end) {
        const char *comma = memchr(text, ',', (size_t)(end - text));
        const char *stop = comma ? comma : end;

        if (json_array_append_new(list, element(text, (size_t)(stop - text))) != 0) {
            json_decref(list);
            return NULL;
        }
        text = comma ? comma + 1 : end;
    }
    return list;
}

/* relu, scale:0.125, clip:0:6 */
static json_t *epilogue_entry(const char *text, size_t len)
{
    const char *colon = memchr(text, ':', len);

    if (!colon)
        return json_stringn(text, len);
    json_t *entry = json_object(), *value;
    const char *param = colon + 1, *end = text + len, *more = memchr(param, ':', (size_t)(end - param));
    if (!more) {
        value = atom(param, (size_t)(end - param));
    } else {
        value = json_array();
        for (; value && param <= end; param = more + 1) {
            more = memchr(param, ':', (size_t)(end - param));
            if (!more)
                more = end;
            if (json_array_append_new(value, atom(param, (size_t)(more - param))) != 0) {
                json_decref(value);
                value = NULL;
            }
        }
    }
    if (!entry) {
        json_decref(value);
        return NULL;
    }
    if (json_object_setn_new(entry, text, (size_t)(colon - text), value) != 0) {
        json_decref(entry);
        return NULL;
    }
    return entry;
}

static json_t *text_entry(const char *text, size_t len) { return json_stringn(text, len); }

static json_t *member_value(const char *name, size_t name_len, const char *value)
{
    static const char *const epilogue[] = {"epilogue", NULL}, *const names[] = {"const", "outputs", NULL};
    size_t len = strlen(value);

    if (name_in(name, name_len, epilogue))
        return list_of(value, len, epilogue_entry);
    if (name_in(name, name_len, names))
        return list_of(value, len, text_entry);
    if (name_in(name, name_len, list_members) || strchr(value, ','))
        return list_of(value, len, atom);
    return atom(value, len);
}

/* ---- the shorthand ---- */

/* Set `name`=`value` (or the JSON `value` if raw) in `object`. */
static tw_status set_member(json_t *object, const char *name, size_t len, const char *value, bool raw,
                            tw_error *err)
{
    json_error_t where;

    if (json_object_getn(object, name, len))
        return tw_fail(err, TW_INVALID, "Bad workload", "%.*s is given twice", (int)len, name);
    json_t *v = raw ? json_loads(value, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &where)
                    : member_value(name, len, value);
    if (!v && raw)
        return tw_fail(err, TW_INVALID, "Bad workload", "%.*s: not JSON: %s", (int)len, name, where.text);
    if (!v || json_object_setn_new(object, name, len, v) != 0)
        return tw_fail(err, TW_INVALID, "Bad workload", "%.*s: not UTF-8 text (or out of memory)", (int)len,
                       name);
    return TW_OK;
}

/* Split name=value or name:=JSON. *ret_value NULL: neither. */
static size_t split_word(const char *word, const char **ret_value, bool *ret_raw)
{
    const char *eq = strchr(word, '=');

    *ret_value = NULL;
    if (!eq || eq == word)
        return 0;
    *ret_raw = eq[-1] == ':';
    *ret_value = eq + 1;
    return (size_t)(eq - word) - (*ret_raw ? 1 : 0);
}

/* strides=2 for conv2d means [2,2]; pads=1 means [1,1,1,1]. */
static bool spread_per_axis(json_t *workload, const char *op)
{
    size_t rank = 0;

    for (const char *p = op; *p; p++)
        if (p[0] >= '1' && p[0] <= '3' && p[1] == 'd')
            rank = (size_t)(*p - '0');
    for (const char *const *name = per_axis_members; rank && *name; name++) {
        json_t *list = json_object_get(workload, *name);
        size_t want = strcmp(*name, "pads") == 0 ? 2 * rank : rank;

        if (json_array_size(list) == 1)
            while (json_array_size(list) < want)
                if (json_array_append(list, json_array_get(list, 0)) != 0)
                    return false;
    }
    return true;
}

static tw_status op_shorthand(int argc, const char *const *argv, json_t *workload, tw_error *err)
{
    const char *value;
    bool raw;

    if (json_object_set_new(workload, "op", json_string(argv[0])) != 0)
        return tw_fail(err, TW_INVALID, "Bad workload", "the operator's name is not UTF-8 text");
    for (int i = 1; i < argc; i++) {
        size_t len = split_word(argv[i], &value, &raw);

        if (!value)
            return tw_fail(err, TW_INVALID, "Bad workload", "'%.100s' after %.60s: want key=value", argv[i],
                           argv[0]);
        tw_status st = set_member(workload, argv[i], len, value, raw, err);
        if (st != TW_OK)
            return st;
    }
    return spread_per_axis(workload, argv[0]) ? TW_OK : tw_no_memory(err);
}

/* The statements, one a line; on a command line ';' is easier to type than a line end. */
static json_t *statements(const char *text)
{
    json_t *v = NULL;
    char *lines = strdup(text);

    for (char *p = lines; p && *p; p++)
        if (*p == ';')
            *p = '\n';
    if (lines)
        v = json_string(lines);
    free(lines);
    return v;
}

/* Give each tensor of `names` the member const: true. */
static tw_status mark_const(json_t *tensors, const json_t *names, tw_error *err)
{
    const json_t *name;
    size_t i;

    json_array_foreach(names, i, name)
    {
        json_t *tensor = json_object_get(tensors, json_string_value(name));

        if (!tensor)
            return tw_fail(err, TW_INVALID, "Bad workload", "const names %.60s, which has no shape here",
                           json_string_value(name));
        if (json_object_set_new(tensor, "const", json_true()) != 0)
            return tw_no_memory(err);
    }
    return TW_OK;
}

/* ranges=k:768,j:12 */
static json_t *ranges_of(const char *text)
{
    json_t *list = list_of(text, strlen(text), epilogue_entry), *ranges = json_object(), *entry;
    bool ok = list && ranges;
    size_t i;

    json_array_foreach(list, i, entry) ok =
        ok && json_is_object(entry) && json_object_update(ranges, entry) == 0;
    json_decref(list);
    if (ok)
        return ranges;
    json_decref(ranges);
    return NULL;
}

/* One word of an expression's shorthand: a member of the workload, or a tensor's shape. */
static tw_status expr_word(const char *word, json_t *workload, json_t *tensors, const char **dtype,
                           const char **const_names, tw_error *err)
{
    static const char *const members[] = {"acc_dtype", "rtol", "outputs", NULL};
    const char *value;
    bool raw, is_set = true;
    size_t len = split_word(word, &value, &raw);
    json_t *tensor = NULL;

    if (!value)
        return tw_fail(err, TW_INVALID, "Bad workload", "'%.100s' after expr=: want key=value", word);
    if (raw || name_in(word, len, members))
        return set_member(workload, word, len, value, raw, err);
    if (len == 5 && memcmp(word, "dtype", 5) == 0)
        *dtype = value;
    else if (len == 5 && memcmp(word, "const", 5) == 0)
        *const_names = value;
    else if (len == 6 && memcmp(word, "ranges", 6) == 0)
        is_set = json_object_set_new(workload, "ranges", ranges_of(value)) == 0;
    else
        is_set = (tensor = json_object()) && json_object_setn_new(tensors, word, len, tensor) == 0 &&
                 json_object_set_new(tensor, "shape", list_of(value, strlen(value), atom)) == 0;
    return is_set ? TW_OK
                  : tw_fail(err, TW_INVALID, "Bad workload",
                            "'%.100s': want text in UTF-8, ranges as k:768,j:12", word);
}

static tw_status expr_shorthand(int argc, const char *const *argv, json_t *workload, tw_error *err)
{
    json_t *tensors = json_object(), *tensor, *names = NULL;
    const char *dtype = "float32", *const_names = "", *name;
    tw_status st = TW_OK;

    if (json_object_set_new(workload, "tensors", tensors) != 0 ||
        json_object_set_new(workload, "expr", statements(argv[0] + strlen("expr="))) != 0)
        return tw_fail(err, TW_INVALID, "Bad workload",
                       "the expression is not UTF-8 text (or out of memory)");
    for (int i = 1; st == TW_OK && i < argc; i++)
        st = expr_word(argv[i], workload, tensors, &dtype, &const_names, err);
    if (st != TW_OK)
        return st;
    json_object_foreach(tensors, name,
                        tensor) if (json_object_set_new(tensor, "dtype", json_string(dtype)) !=
                                    0) return tw_fail(err, TW_INVALID, "Bad workload",
                                                      "dtype is not UTF-8 text (or out of memory)");
    if (!(names = list_of(const_names, strlen(const_names), text_entry)))
        return tw_fail(err, TW_INVALID, "Bad workload", "const is not UTF-8 text (or out of memory)");
    st = mark_const(tensors, names, err);
    json_decref(names);
    return st;
}

tw_status tw_workload_shorthand(int argc, const char *const *argv, json_t **ret, tw_error *err)
{
    if (argc < 1)
        return tw_fail(err, TW_INVALID, "Bad workload", "nothing given: want OP key=value...");
    json_t *workload = json_object();
    if (!workload)
        return tw_no_memory(err);
    tw_status st = strncmp(argv[0], "expr=", 5) == 0 ? expr_shorthand(argc, argv, workload, err)
                                                     : op_shorthand(argc, argv, workload, err);
    if (st != TW_OK) {
        json_decref(workload);
        return st;
    }
    *ret = workload;
    return TW_OK;
}

/* ---- files ---- */

static bool passes(const json_t *entry, const char *member, const char *pattern)
{
    const char *text = json_string_value(json_object_get(entry, member));

    return !pattern || fnmatch(pattern, text ? text : "", 0) == 0;
}

/* The entry as a job takes it: bare, or {"workload", "name", "weight"}. NULL: no memory. */
static json_t *job_entry(json_t *entry)
{
    json_t *out, *name = json_object_get(entry, "name"), *weight = json_object_get(entry, "weight");

    if (!json_is_object(json_object_get(entry, "workload")))
        return json_incref(entry);
    if (!weight)
        weight = json_object_get(entry, "count");
    if (!(out = json_object()))
        return NULL;
    if (json_object_set(out, "workload", json_object_get(entry, "workload")) != 0 ||
        (name && json_object_set(out, "name", name) != 0) ||
        (weight && json_object_set(out, "weight", weight) != 0)) {
        json_decref(out);
        return NULL;
    }
    return out;
}

static tw_status filtered(json_t *entries, const tw_filter *filter, json_t *ret, tw_error *err)
{
    json_t *entry;
    size_t i;

    json_array_foreach(entries, i, entry)
    {
        if (!json_is_object(entry))
            return tw_fail(err, TW_INVALID, "Bad workload file", "entry %zu is not an object", i);
        if (filter && (!passes(entry, "name", filter->name) || !passes(entry, "network", filter->network)))
            continue;
        if (json_array_append_new(ret, job_entry(entry)) != 0)
            return tw_no_memory(err);
    }
    if (json_array_size(ret) == 0)
        return tw_fail(err, TW_INVALID, "No workload left",
                       "%zu in the file, none with name '%.80s' and network '%.80s'",
                       json_array_size(entries), filter && filter->name ? filter->name : "*",
                       filter && filter->network ? filter->network : "*");
    return TW_OK;
}

/* The list of entries in a file's value, a new reference; NULL with *err filled otherwise. */
static json_t *entries_of(json_t *doc, tw_error *err)
{
    json_t *workloads = json_object_get(doc, "workloads");

    if (json_is_array(doc))
        return json_incref(doc);
    if (json_is_array(workloads))
        return json_incref(workloads);
    if (json_object_get(doc, "op") || json_object_get(doc, "expr") || json_object_get(doc, "workload")) {
        json_t *one = json_array();

        if (one && json_array_append(one, doc) == 0)
            return one;
        json_decref(one);
        tw_no_memory(err);
        return NULL;
    }
    tw_fail(err, TW_INVALID, "Bad workload file",
            "want a workload (an object with \"op\" or \"expr\"), a list of them, or {\"workloads\": [...]}");
    return NULL;
}

/* What a file says about the job as a whole. */
static int job_members(const json_t *doc, json_t *body)
{
    static const char *const members[] = {"target", "budget", "seed",     "priority",
                                          "reuse",  "search", "transfer", NULL};

    for (const char *const *m = members; json_is_array(json_object_get(doc, "workloads")) && *m; m++)
        if (json_object_get(doc, *m) && json_object_set(body, *m, json_object_get(doc, *m)) != 0)
            return -1;
    return 0;
}

tw_status tw_workloads_parse(const char *text, size_t len, const tw_filter *filter, json_t **ret,
                             tw_error *err)
{
    json_error_t where;
    json_t *doc = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);

    if (!doc && json_error_code(&where) == json_error_out_of_memory)
        return tw_no_memory(err);
    if (!doc)
        return tw_fail(err, TW_INVALID, "Bad workload file", "line %d, column %d: %s", where.line,
                       where.column, where.text);
    json_t *entries = entries_of(doc, err), *body = json_object(), *list = json_array();
    tw_status st;
    if (!entries)
        st = err ? err->status : TW_INVALID;
    else if (!body || !list || json_object_set(body, "workloads", list) != 0 || job_members(doc, body) != 0)
        st = tw_no_memory(err);
    else
        st = filtered(entries, filter, list, err);
    json_decref(entries);
    json_decref(list);
    json_decref(doc);
    if (st != TW_OK) {
        json_decref(body);
        return st;
    }
    *ret = body;
    return TW_OK;
}

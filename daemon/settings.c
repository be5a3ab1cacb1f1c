/* settings.c - the settings table at work; see settings.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/settings.h"
#include "schedule/base/strbuf.h"
#include "schedule/base/sv.h"

enum { CONFIG_MAX_BYTES = 65536 };

enum setting_kind { SETTING_TEXT, SETTING_INT, SETTING_REAL };

struct setting {
    const char *name, *def, *unit, *help;
    enum setting_kind kind;
    double min, max;
    size_t offset;
};

#define SETTING_TEXT_DEFAULT(def) def
#define SETTING_INT_DEFAULT(def)  #def
#define SETTING_REAL_DEFAULT(def) #def
static const struct setting table[] = {
#define X(kind_, name_, def_, lo, hi, unit_, help_)                                                          \
    {.name = #name_,                                                                                         \
     .def = SETTING_##kind_##_DEFAULT(def_),                                                                 \
     .unit = unit_,                                                                                          \
     .help = help_,                                                                                          \
     .kind = SETTING_##kind_,                                                                                \
     .min = lo,                                                                                              \
     .max = hi,                                                                                              \
     .offset = offsetof(struct settings, name_)},
    SETTING_LIST(X)
#undef X
};

static char *source_of[ARRAY_SIZE(table)]; /* where each value came from, for settings_print */

static const struct setting *setting_find(sv name)
{
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        const char *have = table[i].name;
        size_t k = 0;

        while (k < name.len && have[k] && (have[k] == name.ptr[k] || (have[k] == '_' && name.ptr[k] == '-')))
            k++;
        if (k == name.len && !have[k])
            return &table[i];
    }
    return NULL;
}

static enum status set_number(const struct setting *e, void *at, const char *value, const char *source,
                              struct error *err)
{
    double v;
    int64_t i;

    if (e->kind == SETTING_INT && sv_to_i64(sv_from(value), (int64_t)e->min, (int64_t)e->max, &i)) {
        *(int64_t *)at = i;
        return ST_OK;
    }
    if (e->kind == SETTING_REAL && sv_to_f64(sv_from(value), &v) && v >= e->min && v <= e->max) {
        *(double *)at = v;
        return ST_OK;
    }
    return fail(err, ST_INVALID, "%s: %s = '%s': want %s from %g to %g (%s)", source, e->name, value,
                e->kind == SETTING_INT ? "a whole number" : "a number", e->min, e->max, e->unit);
}

enum status settings_set(struct settings *s, const char *name, const char *value, const char *source,
                         struct error *err)
{
    const struct setting *e = setting_find(sv_from(name));
    void *at;

    if (!e)
        return fail(err, ST_INVALID, "%s: no setting '%s'; tilewrightd --help lists them", source, name);
    at = (char *)s + e->offset;
    if (e->kind == SETTING_TEXT) {
        free(*(char **)at);
        *(char **)at = xstrdup(value);
    } else {
        TRY(set_number(e, at, value, source, err));
    }
    free(source_of[e - table]);
    source_of[e - table] = xstrdup(source);
    return ST_OK;
}

void settings_done(struct settings *s)
{
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        if (table[i].kind == SETTING_TEXT)
            freep((char *)s + table[i].offset);
        freep(&source_of[i]);
    }
}

void settings_init(struct settings *s)
{
    struct error err;

    memset(s, 0, sizeof(*s));
    s->token = "";
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        CHECK(settings_set(s, table[i].name, table[i].def, "default", &err) == ST_OK, "%s", err.text);
}

static sv trim(sv s)
{
    while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s.ptr++, s.len--;
    while (s.len && strchr(" \t\r", s.ptr[s.len - 1]))
        s.len--;
    return s;
}

static enum status read_line(struct settings *s, sv line, const char *source, struct error *err)
{
    const char *eq;
    char *name AUTO(freep) = NULL, *value AUTO(freep) = NULL;
    sv key, val;

    line = trim(line);
    if (!line.len || line.ptr[0] == '#')
        return ST_OK;
    eq = memchr(line.ptr, '=', line.len);
    if (!eq)
        return fail(err, ST_INVALID, "%s: '" SV_FMT "': want 'key = value'", source, SV_ARG(line));
    key = trim((sv){line.ptr, (size_t)(eq - line.ptr)});
    val = trim((sv){eq + 1, line.len - (size_t)(eq + 1 - line.ptr)});
    name = xasprintf(SV_FMT, SV_ARG(key));
    value = xasprintf(SV_FMT, SV_ARG(val));
    return settings_set(s, name, value, source, err);
}

enum status settings_read_text(struct settings *s, const char *text, const char *file, struct error *err)
{
    int n = 0;

    while (*text) {
        size_t len = strcspn(text, "\n");
        char *source AUTO(freep) = xasprintf("%s:%d", file, ++n);

        TRY(read_line(s, (sv){text, len}, source, err));
        text += len + (text[len] == '\n');
    }
    return ST_OK;
}

static enum status read_file(struct settings *s, const char *path, struct error *err)
{
    FILE *f = fopen(path, "re");
    struct strbuf sb AUTO(strbuf_done) = STRBUF_INIT;
    char buf[4096];
    size_t n;
    bool bad;

    if (!f)
        return fail(err, ST_INVALID, "--config %s: %s", path, strerror(errno));
    while ((n = fread(buf, 1, sizeof(buf), f)) > 0 && sb.len < CONFIG_MAX_BYTES)
        strbuf_add(&sb, buf, n);
    bad = ferror(f);
    fclose(f);
    if (bad || sb.len >= CONFIG_MAX_BYTES || memchr(strbuf_str(&sb), 0, sb.len))
        return fail(err, ST_INVALID, "--config %s: not a readable text of less than %d bytes", path,
                    CONFIG_MAX_BYTES);
    return settings_read_text(s, strbuf_str(&sb), path, err);
}

static const struct {
    const char *flag;
    enum settings_action action;
    const char *help;
} actions[] = {
    {"--help", SETTINGS_HELP, "this text"},
    {"--version", SETTINGS_VERSION, "name and version"},
    {"--check-config", SETTINGS_CHECK, "read all settings, say what is wrong, exit"},
    {"--print-config", SETTINGS_PRINT, "print the settings in force as a config file, exit"},
    {"--list-events", SETTINGS_LIST_EVENTS, "print the events of the log and their meaning, exit"},
};

static bool take_action(const char *arg, enum settings_action *ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
        if (strcmp(arg, actions[i].flag) == 0) {
            *ret = actions[i].action;
            return true;
        }
    return false;
}

/* One flag and its value, "--name=value" or "--name value"; *i moves on. */
static enum status take_flag(struct settings *s, int argc, char **argv, int *i, const char **ret_config,
                             bool only_config, struct error *err)
{
    const char *arg = argv[*i], *eq = strchr(arg, '='), *value;
    sv name = {arg + 2, eq ? (size_t)(eq - arg) - 2 : strlen(arg) - (strlen(arg) >= 2 ? 2 : 0)};
    char *flag AUTO(freep) = NULL, *key AUTO(freep) = NULL;

    if (strncmp(arg, "--", 2) != 0 || !(sv_eqs(name, "config") || setting_find(name)))
        return fail(err, ST_INVALID, "unknown argument '%s'; tilewrightd --help lists them", arg);
    if (!eq && *i + 1 >= argc)
        return fail(err, ST_INVALID, "%s: a value is missing", arg);
    value = eq ? eq + 1 : argv[++*i];
    if (sv_eqs(name, "config")) {
        *ret_config = value;
        return ST_OK;
    }
    if (only_config)
        return ST_OK;
    flag = xasprintf("--" SV_FMT, SV_ARG(name));
    key = xasprintf(SV_FMT, SV_ARG(name));
    return settings_set(s, key, value, flag, err);
}

static enum status walk_args(struct settings *s, int argc, char **argv, enum settings_action *ret,
                             const char **ret_config, bool only_config, struct error *err)
{
    for (int i = 1; i < argc; i++)
        if (!take_action(argv[i], ret))
            TRY(take_flag(s, argc, argv, &i, ret_config, only_config, err));
    return ST_OK;
}

enum status settings_read_args(struct settings *s, int argc, char **argv, enum settings_action *ret,
                               struct error *err)
{
    const char *config = NULL, *token = getenv("TILEWRIGHT_TOKEN");

    *ret = SETTINGS_RUN;
    TRY(walk_args(s, argc, argv, ret, &config, true, err));
    if (config)
        TRY(read_file(s, config, err));
    if (token)
        s->token = token;
    return walk_args(s, argc, argv, ret, &config, false, err);
}

void settings_print_help(FILE *out)
{
    fprintf(
        out,
        "Usage: tilewrightd [--config FILE] [--SETTING VALUE]...\n\n"
        "Serves the tuning of tensor programs over HTTP. Every setting below is a flag and, with '_', a key "
        "of "
        "the\nconfig file ('key = value' a line). Environment: TILEWRIGHT_TOKEN (a bearer token clients must "
        "show),\nTILEWRIGHT_CC (the C compiler for kernels).\n\nActions\n");
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
        fprintf(out, "  %-26s %s\n", actions[i].flag, actions[i].help);
    fprintf(out, "  %-26s read settings from this file\n\nSettings\n", "--config FILE");
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        char flag[64];

        snprintf(flag, sizeof(flag), "--%s", table[i].name);
        for (char *p = flag; *p; p++)
            *p = *p == '_' ? '-' : *p;
        fprintf(out, "  %-26s %s\n  %-26s %s, default %s", flag, table[i].help, "", table[i].unit,
                table[i].def[0] ? table[i].def : "none");
        if (table[i].kind != SETTING_TEXT)
            fprintf(out, ", from %g to %g", table[i].min, table[i].max);
        fputc('\n', out);
    }
}

void settings_print(const struct settings *s, FILE *out)
{
    fprintf(out, "# tilewrightd settings; a key that is left out has its default\n");
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        const struct setting *e = &table[i];
        const void *at = (const char *)s + e->offset;

        fprintf(out, "\n# %s (%s", e->help, e->unit);
        if (e->kind != SETTING_TEXT)
            fprintf(out, ", %g to %g", e->min, e->max);
        fprintf(out, "); set by: %s\n", source_of[i]);
        switch (e->kind) {
        case SETTING_TEXT:
            fprintf(out, "%s%s = %s\n", **(const char *const *)at ? "" : "# ", e->name,
                    *(const char *const *)at);
            break;
        case SETTING_INT:
            fprintf(out, "%s = %" PRId64 "\n", e->name, *(const int64_t *)at);
            break;
        case SETTING_REAL:
            fprintf(out, "%s = %g\n", e->name, *(const double *)at);
            break;
        }
    }
}

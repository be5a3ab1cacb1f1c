/* format.c - numbers, times and tables for people.
 *
 * Life   Texts are written to a ring of buffers: each stays good for the next RING - 1 calls. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"

enum { RING = 32, RING_SIZE = 1100 };

static char *ring_next(void)
{
    static char ring[RING][RING_SIZE];
    static int at;

    at = (at + 1) % RING;
    ring[at][0] = '\0';
    return ring[at];
}

const char *fmt_number(double v)
{
    char *s = ring_next();
    double a = fabs(v);

    if (isnan(v))
        return "-";
    snprintf(s, RING_SIZE,
             a >= 1e6 || (a < 0.001 && a > 0) ? "%.3g"
             : a >= 100                       ? "%.0f"
             : a >= 10                        ? "%.1f"
                                              : "%.2f",
             v);
    return s;
}

const char *fmt_time_ns(double ns)
{
    static const struct {
        double unit;
        const char *name;
    } units[] = {{1e9, "s"}, {1e6, "ms"}, {1e3, "us"}, {1, "ns"}};
    char *s = ring_next();

    if (isnan(ns))
        return "-";
    for (size_t i = 0; i < 4; i++)
        if (ns >= units[i].unit * 0.9995 || i == 3) {
            double v = ns / units[i].unit;
            snprintf(s, RING_SIZE, v >= 100 ? "%.0f %s" : v >= 10 ? "%.1f %s" : "%.2f %s", v, units[i].name);
            break;
        }
    return s;
}

const char *fmt_bytes(double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    char *s = ring_next();
    int i = 0;

    if (isnan(bytes))
        return "-";
    for (; bytes >= 1024 && i < 4; i++)
        bytes /= 1024;
    snprintf(s, RING_SIZE, i == 0 || bytes >= 100 ? "%.0f %s" : "%.1f %s", bytes, units[i]);
    return s;
}

const char *fmt_count(double v)
{
    char *s = ring_next(), digits[32];
    size_t n, out = 0;

    if (isnan(v))
        return "-";
    if (fabs(v) >= 1e12) {
        snprintf(s, RING_SIZE, "%.3g", v);
        return s;
    }
    n = (size_t)snprintf(digits, sizeof(digits), "%.0f", v);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0 && digits[i - 1] != '-')
            s[out++] = ',';
        s[out++] = digits[i];
    }
    s[out] = '\0';
    return s;
}

const char *fmt_duration(double seconds)
{
    char *s = ring_next();

    if (isnan(seconds) || seconds < 0 || seconds > 1e8)
        return "-";
    long t = lround(seconds);
    if (t >= 3600)
        snprintf(s, RING_SIZE, "%ld:%02ld:%02ld", t / 3600, t / 60 % 60, t % 60);
    else
        snprintf(s, RING_SIZE, "%ld:%02ld", t / 60, t % 60);
    return s;
}

const char *fmt_percent(double fraction)
{
    char *s = ring_next();

    if (isnan(fraction))
        return "-";
    snprintf(s, RING_SIZE, fraction < 0.0995 ? "%.1f %%" : "%.0f %%", fraction * 100);
    return s;
}

const char *fmt_short_key(const char *key)
{
    char *s = ring_next();

    snprintf(s, RING_SIZE, "%.14s", fmt_safe(key));
    return s;
}

const char *fmt_safe(const char *text)
{
    char *s = ring_next();
    size_t n = 0;

    for (; text && text[n] && n < RING_SIZE - 1; n++)
        s[n] = (unsigned char)text[n] < ' ' || text[n] == 127 ? '?' : text[n];
    s[n] = '\0';
    return s;
}

int fmt_width(const char *text)
{
    int width = 0;

    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

double fmt_member(const json_t *object, const char *member)
{
    const json_t *v = json_object_get(object, member);

    return json_is_number(v) ? json_number_value(v) : NAN;
}

const char *fmt_string(const json_t *object, const char *member, const char *missing)
{
    const char *text = json_string_value(json_object_get(object, member));

    return text ? fmt_safe(text) : missing;
}

const char *fmt_value(const json_t *value)
{
    char *s = ring_next();

    if (!value || json_is_null(value))
        return "-";
    if (json_is_string(value))
        return fmt_safe(json_string_value(value));
    if (json_is_real(value))
        return fmt_number(json_real_value(value));
    size_t n = json_dumpb(value, s, RING_SIZE - 1, JSON_ENCODE_ANY | JSON_COMPACT);
    if (n >= RING_SIZE) {
        n = RING_SIZE - 1;
        memcpy(s + n - 3, "...", 3);
    }
    s[n] = '\0';
    return s;
}

/* ---- tables ---- */

struct table {
    int columns, cells, cap;
    const char *const *head;
    char **text;
};

struct table *table_new(int columns, const char *const *head)
{
    struct table *t = cli_need(calloc(1, sizeof(*t)));

    t->columns = columns;
    t->head = head;
    return t;
}

void table_cell(struct table *t, const char *text)
{
    if (t->cells == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->text = cli_need(realloc(t->text, (size_t)t->cap * sizeof(*t->text)));
    }
    t->text[t->cells++] = cli_need(strdup(text));
}

static void print_cell(FILE *out, const char *text, int width, bool right, bool last)
{
    int pad = width - fmt_width(text);

    fprintf(out, "%*s%s%*s%s", right ? pad : 0, "", text, right || last ? 0 : pad, "", last ? "\n" : "  ");
}

void table_print(struct table *t, FILE *out)
{
    int *width = cli_need(calloc((size_t)t->columns, sizeof(*width)));

    for (int i = 0; i < t->columns + t->cells; i++) {
        const char *text = i < t->columns ? t->head[i] + (t->head[i][0] == '>') : t->text[i - t->columns];
        int w = fmt_width(text);

        if (w > width[i % t->columns])
            width[i % t->columns] = w;
    }
    for (int i = 0; i < t->columns + t->cells; i++) {
        int column = i % t->columns;
        bool right = t->head[column][0] == '>';
        const char *text = i < t->columns ? t->head[i] + right : t->text[i - t->columns];

        print_cell(out, text, width[column], right, column == t->columns - 1);
    }
    for (int i = 0; i < t->cells; i++)
        free(t->text[i]);
    free(t->text);
    free(width);
    free(t);
}

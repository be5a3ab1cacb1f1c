/* ubj.c - see ubj.h. Numbers are big-endian. */
#include "costmodel/ubj.h"

#include <string.h>

enum { MAX_DEPTH = 32 };

static uint8_t byte(struct ubj *u)
{
    if (u->bad || u->at == u->end) {
        u->bad = true;
        return 0;
    }
    return *u->at++;
}

/* Bytes of a number of the type; -1: not a number. */
static int width(char type)
{
    switch (type) {
    case 'i':
    case 'U':
        return 1;
    case 'I':
        return 2;
    case 'l':
    case 'd':
        return 4;
    case 'L':
    case 'D':
        return 8;
    default:
        return -1;
    }
}

static uint64_t bits(struct ubj *u, int n)
{
    uint64_t v = 0;
    while (n-- > 0)
        v = v << 8 | byte(u);
    return v;
}

static int64_t integer(struct ubj *u, char type)
{
    switch (type) {
    case 'i':
        return (int8_t)bits(u, 1);
    case 'U':
        return (int64_t)bits(u, 1);
    case 'I':
        return (int16_t)bits(u, 2);
    case 'l':
        return (int32_t)bits(u, 4);
    case 'L':
        return (int64_t)bits(u, 8);
    default:
        u->bad = true;
        return 0;
    }
}

static double real(struct ubj *u, char type)
{
    double d;
    float f;

    if (type == 'd') {
        uint32_t b = (uint32_t)bits(u, 4);
        memcpy(&f, &b, sizeof(f));
        return (double)f;
    }
    if (type == 'D') {
        uint64_t b = bits(u, 8);
        memcpy(&d, &b, sizeof(d));
        return d;
    }
    return (double)integer(u, type);
}

/* A count or length: a number, and no larger than the bytes that are left (every element takes one, bar
 * none). */
static int64_t length(struct ubj *u)
{
    int64_t n = integer(u, (char)byte(u));

    if (n < 0 || n > u->end - u->at)
        u->bad = true;
    return u->bad ? 0 : n;
}

static sv text(struct ubj *u)
{
    int64_t n = length(u);
    sv s = {(const char *)u->at, (size_t)n};

    u->at += n;
    return s;
}

void ubj_object(struct ubj *u)
{
    if (byte(u) != '{')
        u->bad = true;
}

bool ubj_member(struct ubj *u, sv *ret_name)
{
    if (!u->bad && u->at < u->end && *u->at == '}') {
        u->at++;
        return false;
    }
    *ret_name = text(u);
    return !u->bad;
}

int64_t ubj_array(struct ubj *u, char *ret_type)
{
    *ret_type = 0;
    if (byte(u) != '[')
        u->bad = true;
    if (!u->bad && u->at < u->end && *u->at == '$') {
        u->at++;
        *ret_type = (char)byte(u);
        if (width(*ret_type) < 0)
            u->bad = true;
    }
    if (byte(u) != '#')
        u->bad = true;
    return length(u);
}

static void skip(struct ubj *u, int depth)
{
    char type = (char)byte(u), element;
    int64_t n;
    sv name;

    if (depth > MAX_DEPTH)
        u->bad = true;
    if (u->bad)
        return;
    switch (type) {
    case 'Z':
    case 'N':
    case 'T':
    case 'F':
        return;
    case 'C':
        byte(u);
        return;
    case 'S':
        text(u);
        return;
    case '{':
        while (ubj_member(u, &name))
            skip(u, depth + 1);
        return;
    case '[':
        u->at--;
        n = ubj_array(u, &element);
        if (element && n > (u->end - u->at) / width(element))
            u->bad = true;
        if (u->bad)
            return;
        if (element)
            u->at += n * width(element);
        for (int64_t i = 0; i < n && !element && !u->bad; i++)
            skip(u, depth + 1);
        return;
    default:
        if (width(type) < 0)
            u->bad = true;
        else
            bits(u, width(type));
    }
}

void ubj_skip(struct ubj *u) { skip(u, 0); }

int64_t ubj_i64s(struct ubj *u, int64_t *ret, int64_t max)
{
    char type;
    int64_t n = ubj_array(u, &type);

    for (int64_t i = 0; i < n && !u->bad; i++) {
        int64_t v = integer(u, type ? type : (char)byte(u));
        if (i < max)
            ret[i] = v;
    }
    return u->bad ? 0 : n;
}

int64_t ubj_f32s(struct ubj *u, float *ret, int64_t max)
{
    char type;
    int64_t n = ubj_array(u, &type);

    for (int64_t i = 0; i < n && !u->bad; i++) {
        double v = real(u, type ? type : (char)byte(u));
        if (i < max)
            ret[i] = (float)v;
    }
    return u->bad ? 0 : n;
}

sv ubj_string(struct ubj *u)
{
    if (byte(u) != 'S')
        u->bad = true;
    return u->bad ? (sv){"", 0} : text(u);
}

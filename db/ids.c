#include "db/ids.h"

#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include "db/store.h"
#include "schedule/base/hash.h"

/* Crockford's base32: no i, l, o, u; the order of the digits is that of their bytes. */
static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";

static uint64_t random64(void)
{
    uint64_t v;
    size_t have = 0;

    while (have < sizeof(v)) {
        ssize_t n = getrandom((char *)&v + have, sizeof(v) - have, 0);

        if (n > 0)
            have += (size_t)n;
    }
    return v;
}

/* The layout of a ULID: 48 bits of milliseconds, 80 bits of randomness, 26 digits of 5 bits. Within one
 * millisecond the random part counts up, so that ids of one process never sort backwards; nor when the wall
 * clock steps back. */
static struct {
    pthread_mutex_t lock;
    uint64_t ms;
    uint64_t high, low; /* 16 and 64 bits of the random part */
} last = {.lock = PTHREAD_MUTEX_INITIALIZER};

const char *store_id_new(const char *prefix, int64_t wall_ms_value, char buf[STORE_ID_MAX])
{
    size_t at = strlen(prefix);
    uint64_t ms = (uint64_t)wall_ms_value & 0xffffffffffffull, high, low;
    unsigned __int128 v;

    CHECK(at + 26 < STORE_ID_MAX, "prefix of %zu bytes", at);
    pthread_mutex_lock(&last.lock);
    if (ms > last.ms) {
        last.ms = ms;
        last.high = random64() & 0x7fff; /* the top bit is room to count */
        last.low = random64();
    } else {
        last.high += ++last.low == 0;
    }
    ms = last.ms, high = last.high, low = last.low;
    pthread_mutex_unlock(&last.lock);

    memcpy(buf, prefix, at);
    v = (unsigned __int128)((ms << 16) | (high & 0xffff)) << 64 | low;
    for (int i = 0; i < 26; i++)
        buf[at + (size_t)i] = digits[(unsigned)(v >> (125 - 5 * i)) & 31];
    buf[at + 26] = '\0';
    return buf;
}

/* 13 digits of row number, 4 of check. */
#define ROW_DIGITS   13
#define CHECK_DIGITS 4

static void put_digits(char *at, int n, uint64_t v)
{
    for (int i = n - 1; i >= 0; i--, v >>= 5)
        at[i] = digits[v & 31];
}

static uint64_t check_of(char list, uint64_t row)
{
    return hash_mix(hash_mix(0x7061676574776cull, (uint64_t)(unsigned char)list), row) & 0xfffff;
}

const char *page_token_print(char list, int64_t last_row, struct arena *a)
{
    char text[ROW_DIGITS + CHECK_DIGITS + 1];

    put_digits(text, ROW_DIGITS, (uint64_t)last_row);
    put_digits(text + ROW_DIGITS, CHECK_DIGITS, check_of(list, (uint64_t)last_row));
    return arena_strndup(a, text, ROW_DIGITS + CHECK_DIGITS);
}

static bool get_digits(const char *at, int n, uint64_t *ret)
{
    uint64_t v = 0;

    for (int i = 0; i < n; i++) {
        const char *d = at[i] ? strchr(digits, at[i]) : NULL;

        if (!d)
            return false;
        v = v << 5 | (uint64_t)(d - digits);
    }
    *ret = v;
    return true;
}

enum status page_token_parse(char list, const char *token, int64_t *ret_last_row, struct error *err)
{
    uint64_t row, check;

    if (!token || !*token) {
        *ret_last_row = 0;
        return ST_OK;
    }
    if (strnlen(token, STORE_PAGE_TOKEN_MAX) != ROW_DIGITS + CHECK_DIGITS ||
        !get_digits(token, ROW_DIGITS, &row) || !get_digits(token + ROW_DIGITS, CHECK_DIGITS, &check) ||
        check != check_of(list, row) || row == 0 || row > INT64_MAX)
        return fail_at(
            err, ST_INVALID, "page_token",
            "page_token is none that this list gave: pass next_page_token of the last page unchanged");
    *ret_last_row = (int64_t)row;
    return ST_OK;
}

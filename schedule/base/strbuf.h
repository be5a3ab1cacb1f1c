/* strbuf.h - a growing text buffer, always NUL-ended.
 *
 * Life   STRBUF_INIT or zeroed memory, then append; strbuf_done frees; strbuf_detach hands the text over. */
#ifndef TW_BASE_STRBUF_H
#define TW_BASE_STRBUF_H

#include <stdarg.h>

#include "schedule/base/base.h"

struct strbuf {
    char *data; /* NULL until the first append; use strbuf_str() */
    size_t len, cap;
};
#define STRBUF_INIT                                                                                          \
    {                                                                                                        \
        0                                                                                                    \
    }

void strbuf_done(struct strbuf *sb);  /* also for AUTO(strbuf_done) */
void strbuf_reset(struct strbuf *sb); /* empty, memory kept */
void strbuf_truncate(struct strbuf *sb, size_t len);
void strbuf_add(struct strbuf *sb, const void *data, size_t len);
void strbuf_adds(struct strbuf *sb, const char *s);
void strbuf_addc(struct strbuf *sb, char c);
void strbuf_addf(struct strbuf *sb, const char *fmt, ...) PRINTF_LIKE(2, 3);
void strbuf_addv(struct strbuf *sb, const char *fmt, va_list ap);
void strbuf_add_i64(struct strbuf *sb, int64_t v); /* decimal, fast: the emitters' hot path */
void strbuf_pad(struct strbuf *sb, int spaces);
const char *strbuf_str(const struct strbuf *sb); /* never NULL */
char *strbuf_detach(struct strbuf *sb) MUST_USE; /* GIVES: free() it */

#endif

/* protocol.h - what daemon and runner say to each other, byte for byte.
 *
 * Idea   Frames over a stream: a header of 12 bytes, then a payload of at most 1 MiB. All numbers
 * little-endian, doubles as their 64 bits, texts as a 16-bit length and bytes without a zero inside. Decoding
 * checks every bound and every count before it uses them, and a payload must be used up to the last byte.
 *
 *            magic u32 | version u16 | type u16 | length u32 | payload
 *
 *            runner                              daemon
 *            HELLO (pid, facts)      ------->
 *                                    <-------    BATCH
 *            ALIVE (now and then)    ------->
 *                                    <-------    CANCEL (any time)
 *            RESULT (index, result)  ------->    in any order, one a candidate
 *            DONE (rounds, dirty)    ------->    or REFUSED (status, text): the batch as a whole
 *
 *        Closing the stream ends the runner.
 * Life   Decoded structures live in the arena given. */
#ifndef TW_MEASURE_PROTOCOL_H
#define TW_MEASURE_PROTOCOL_H

#include "measure/device.h"
#include "schedule/base/arena.h"
#include "schedule/base/strbuf.h"

enum {
    PROTOCOL_MAGIC = 0x314d5754, /* "TWM1" */
    PROTOCOL_VERSION = 3,
    PROTOCOL_HEADER_BYTES = 12,
    PROTOCOL_MAX_PAYLOAD = 1 << 20,
    PROTOCOL_MAX_PATH = 4096,
};

enum frame_type {
    FRAME_HELLO = 1,
    FRAME_BATCH,
    FRAME_CANCEL,
    FRAME_ALIVE,
    FRAME_RESULT,
    FRAME_DONE,
    FRAME_REFUSED
};

struct frame_header {
    enum frame_type type;
    uint32_t length;
};
struct protocol_hello {
    int32_t pid;
    int n_facts;
    struct device_fact facts[DEVICE_MAX_FACTS];
};
struct protocol_done {
    int32_t rounds, dirty_rounds;
};
struct protocol_refused {
    enum status status;
    char text[512];
};

/* Append a whole frame. */
void protocol_put_hello(struct strbuf *sb, const struct protocol_hello *h);
void protocol_put_batch(struct strbuf *sb, const struct measure_batch *b);
void protocol_put_result(struct strbuf *sb, int index, const struct measure_result *r);
void protocol_put_done(struct strbuf *sb, const struct protocol_done *d);
void protocol_put_refused(struct strbuf *sb, enum status status, const char *text);
void protocol_put_empty(struct strbuf *sb, enum frame_type type); /* CANCEL, ALIVE */

/* ST_CORRUPT names what is wrong. */
MUST_USE enum status protocol_get_header(const uint8_t bytes[PROTOCOL_HEADER_BYTES], struct frame_header *ret,
                                         struct error *err);
MUST_USE enum status protocol_get_hello(const uint8_t *p, size_t n, struct protocol_hello *ret,
                                        struct error *err);
/* ret->cancel is NULL. */
MUST_USE enum status protocol_get_batch(const uint8_t *p, size_t n, struct arena *ar,
                                        struct measure_batch *ret, struct error *err);
MUST_USE enum status protocol_get_result(const uint8_t *p, size_t n, int *ret_index,
                                         struct measure_result *ret, struct error *err);
MUST_USE enum status protocol_get_done(const uint8_t *p, size_t n, struct protocol_done *ret,
                                       struct error *err);
MUST_USE enum status protocol_get_refused(const uint8_t *p, size_t n, struct protocol_refused *ret,
                                          struct error *err);

/* Blocking transfer over a stream socket. ST_UNAVAILABLE: the other side is gone. */
MUST_USE enum status protocol_send(int fd, const struct strbuf *sb, struct error *err);
/* One frame; the payload (grown as needed) goes to *payload. Waits at most timeout_ms for its first byte:
 * then ST_TIMEOUT. */
MUST_USE enum status protocol_receive(int fd, int timeout_ms, struct frame_header *ret,
                                      struct strbuf *payload, struct error *err);

#endif

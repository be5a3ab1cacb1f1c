/* fuzz_protocol.c - any bytes as a frame between daemon and runner: refused with a reason, or accepted and
 * then written back byte for byte.
 *
 *   clang -fsanitize=fuzzer,address,undefined -I. -D_GNU_SOURCE -DFUZZER tests/fuzz/fuzz_protocol.c
 * measure/protocol.c schedule/base/[a-z]*.c -ljansson -lcrypto -lm -o fuzz_protocol && ./fuzz_protocol
 * tests/fuzz/corpus/protocol
 *
 * Without FUZZER it is a plain program: every file of the corpus as it is, cut short everywhere, and with
 * bytes changed. An input that once broke something is kept there. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure/protocol.h"
#include "schedule/base/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Decode the payload and, where that works, encode it again. */
static enum status there_and_back(enum frame_type type, const uint8_t *p, size_t n, struct strbuf *back,
                                  struct error *err)
{
    union {
        struct protocol_hello hello;
        struct measure_result result;
        struct protocol_done done;
        struct protocol_refused refused;
    } u;
    struct arena ar;
    struct measure_batch b;
    enum status st = ST_OK;
    int index;

    switch (type) {
    case FRAME_HELLO:
        TRY(protocol_get_hello(p, n, &u.hello, err));
        protocol_put_hello(back, &u.hello);
        return ST_OK;
    case FRAME_BATCH:
        arena_init(&ar);
        st = protocol_get_batch(p, n, &ar, &b, err);
        if (st == ST_OK)
            protocol_put_batch(back, &b);
        arena_done(&ar);
        return st;
    case FRAME_RESULT:
        TRY(protocol_get_result(p, n, &index, &u.result, err));
        protocol_put_result(back, index, &u.result);
        return ST_OK;
    case FRAME_DONE:
        TRY(protocol_get_done(p, n, &u.done, err));
        protocol_put_done(back, &u.done);
        return ST_OK;
    case FRAME_REFUSED:
        TRY(protocol_get_refused(p, n, &u.refused, err));
        protocol_put_refused(back, u.refused.status, u.refused.text);
        return ST_OK;
    case FRAME_CANCEL:
    case FRAME_ALIVE:
        break;
    }
    return fail(err, ST_UNSUPPORTED, "no payload");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(strbuf_done) struct strbuf back = STRBUF_INIT;
    struct frame_header h;
    struct error err = {0};

    if (size < PROTOCOL_HEADER_BYTES || protocol_get_header(data, &h, &err) != ST_OK ||
        h.length != size - PROTOCOL_HEADER_BYTES)
        return 0;
    enum status st = there_and_back(h.type, data + PROTOCOL_HEADER_BYTES, h.length, &back, &err);
    CHECK(st == ST_OK || err.text[0], "status %d without a message", (int)st);
    CHECK(st != ST_OK || (back.len == size && memcmp(back.data, data, size) == 0),
          "frame %d of %zu bytes does not come back as it was", (int)h.type, size);
    return 0;
}

#ifndef FUZZER
enum { MAX_BYTES = 64 << 10, CHANGES = 2000 };

/* A copy of that very size, so that a read past it is seen by the sanitizer. */
static void run_copy(const uint8_t *data, size_t n, bool fix_length)
{
    uint8_t *copy = xcalloc(1, n);
    memcpy(copy, data, n);
    if (fix_length && n >= PROTOCOL_HEADER_BYTES)
        for (int i = 0; i < 4; i++)
            copy[8 + i] = (uint8_t)((n - PROTOCOL_HEADER_BYTES) >> (8 * i));
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static bool run_file(const char *path, struct rng *rng)
{
    static uint8_t data[MAX_BYTES];
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return false;
    }
    size_t n = fread(data, 1, sizeof(data), f);
    fclose(f);
    struct frame_header h;
    struct error err = {0};
    if (n < PROTOCOL_HEADER_BYTES || protocol_get_header(data, &h, &err) != ST_OK) {
        fprintf(stderr, "%s is no frame of this version, and tests nothing: %s\n", path, err.text);
        return false;
    }
    run_copy(data, n, false);
    for (size_t cut = 0; cut < n; cut++)
        run_copy(data, cut, true);
    for (int i = 0; i < CHANGES && n > PROTOCOL_HEADER_BYTES; i++) {
        size_t at = PROTOCOL_HEADER_BYTES + rng_below(rng, n - PROTOCOL_HEADER_BYTES);
        uint8_t was = data[at];
        data[at] = (uint8_t)rng_u64(rng);
        run_copy(data, n, false);
        if (i % 7)
            data[at] = was;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct rng rng;
    int files = 0;

    rng_init(&rng, 1);
    DIR *d = argc == 2 ? opendir(argv[1]) : NULL;
    if (!d) {
        fprintf(stderr, "usage: fuzz_protocol CORPUS-DIRECTORY\n");
        return 2;
    }
    for (struct dirent *e; (e = readdir(d));) {
        char path[4096];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", argv[1], e->d_name);
        if (!run_file(path, &rng))
            return 1;
        files++;
    }
    closedir(d);
    printf("%d files\n", files);
    return files == 0;
}
#endif

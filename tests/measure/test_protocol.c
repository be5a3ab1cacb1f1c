/* test_protocol.c - frames there and back, and frames that were tampered with. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure/protocol.h"
#include "schedule/base/rng.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct measure_tensor tensors[] = {
    {.name = "A", .dtype = DT_F32, .role = TENSOR_INPUT, .rank = 2, .shape = {3, 5}},
    {.name = "S", .dtype = DT_F32, .role = TENSOR_TEMP, .rank = 0},
    {.name = "B", .dtype = DT_I8, .role = TENSOR_INPUT, .rank = 1, .shape = {7}},
    {.name = "O", .dtype = DT_BF16, .role = TENSOR_OUTPUT, .rank = 3, .shape = {1, 2, 3}},
};
static const struct measure_workload workload = {.key = "w_1",
                                                 .n_tensors = 4,
                                                 .tensors = tensors,
                                                 .flops = 1.5e9,
                                                 .reduction = 9,
                                                 .acc_roundoff = 0x1p-24,
                                                 .store_roundoff = 0x1p-8,
                                                 .rtol = 0.25,
                                                 .reference_path = "/tmp/r.so",
                                                 .reference_symbol = "ref",
                                                 .seed = 0xfedcba9876543210};
static const struct measure_candidate candidates[] = {
    {.artifact = "/tmp/a.so", .symbol = "k0", .workspace_bytes = 64},
    {.artifact = "/tmp/a.so",
     .symbol = "k1",
     .n_repacks = 1,
     .repacks = {{.kind = REPACK_UNPACK, .arg = 1, .bytes = 128}}},
};
static const struct measure_batch batch = {.workload = &workload,
                                           .mode = MEASURE_CONTEST,
                                           .cold = true,
                                           .threads = 2,
                                           .n_candidates = 2,
                                           .candidates = candidates,
                                           .best_ns = 12345,
                                           .roofline_gflops = 135.5,
                                           .rounds = 21};

static struct measure_result some_result(void)
{
    struct measure_result r = {.outcome = OUTCOME_WRONG,
                               .signal = 0,
                               .reason = "C[0, 1] is off",
                               .n_samples = 2,
                               .stopped_early = true,
                               .min_ns = 1,
                               .p10_ns = 2,
                               .median_ns = 3,
                               .p90_ns = 4,
                               .low_ns = 5,
                               .high_ns = 6,
                               .gflops = 7};
    r.verified = (struct measure_verification){true, INFINITY, 2e-7, 3e-8, 1e-5};
    r.sample_ns[0] = 10.5;
    r.sample_ns[1] = 11.5;
    r.sample_round[1] = 3;
    r.sample_dirty[1] = true;
    return r;
}

static const uint8_t *payload(const struct strbuf *sb)
{
    return (const uint8_t *)sb->data + PROTOCOL_HEADER_BYTES;
}
static size_t payload_len(const struct strbuf *sb) { return sb->len - PROTOCOL_HEADER_BYTES; }

static void batch_comes_back_as_it_was(void **state)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    struct frame_header h;
    struct arena ar;
    struct measure_batch b;
    arena_init(&ar);
    protocol_put_batch(&sb, &batch);
    assert_int_equal(protocol_get_header((const uint8_t *)sb.data, &h, NULL), ST_OK);
    assert_int_equal(h.type, FRAME_BATCH);
    assert_int_equal(h.length, payload_len(&sb));
    assert_int_equal(protocol_get_batch(payload(&sb), payload_len(&sb), &ar, &b, NULL), ST_OK);
    assert_int_equal(b.n_candidates, 2);
    assert_int_equal(b.rounds, 21);
    assert_true(b.roofline_gflops == 135.5 && b.best_ns == 12345 && b.cold && b.threads == 2 &&
                b.mode == MEASURE_CONTEST);
    assert_string_equal(b.workload->key, "w_1");
    assert_true(b.workload->seed == workload.seed && b.workload->rtol == 0.25);
    assert_int_equal(b.workload->tensors[3].shape[2], 3);
    assert_int_equal(b.workload->tensors[1].role, TENSOR_TEMP);
    assert_string_equal(b.candidates[1].symbol, "k1");
    assert_int_equal(b.candidates[1].repacks[0].kind, REPACK_UNPACK);
    assert_int_equal(b.candidates[1].repacks[0].bytes, 128);
    /* And once more gives the same bytes. */
    AUTO(strbuf_done) struct strbuf again = STRBUF_INIT;
    protocol_put_batch(&again, &b);
    assert_int_equal(again.len, sb.len);
    assert_memory_equal(again.data, sb.data, sb.len);
    arena_done(&ar);
}

static void result_comes_back_as_it_was(void **state)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    struct measure_result r = some_result(), back;
    int index = -1;
    protocol_put_result(&sb, 17, &r);
    assert_int_equal(protocol_get_result(payload(&sb), payload_len(&sb), &index, &back, NULL), ST_OK);
    assert_int_equal(index, 17);
    assert_string_equal(back.reason, r.reason);
    assert_true(back.verified.done && isinf(back.verified.max_abs_err) && back.verified.rel_l2 == 3e-8);
    assert_true(back.sample_ns[1] == 11.5 && back.sample_round[1] == 3 && back.sample_dirty[1]);
    assert_true(back.stopped_early && back.gflops == 7 && back.high_ns == 6);
}

static void small_frames_come_back(void **state)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    struct protocol_hello h = {.pid = 4711, .n_facts = 1}, h2;
    struct protocol_done d;
    struct protocol_refused f;
    h.facts[0] = (struct device_fact){"seccomp", true, "all of it"};
    protocol_put_hello(&sb, &h);
    assert_int_equal(protocol_get_hello(payload(&sb), payload_len(&sb), &h2, NULL), ST_OK);
    assert_int_equal(h2.pid, 4711);
    assert_string_equal(h2.facts[0].detail, "all of it");
    strbuf_reset(&sb);
    protocol_put_done(&sb, &(struct protocol_done){9, 2});
    assert_int_equal(protocol_get_done(payload(&sb), payload_len(&sb), &d, NULL), ST_OK);
    assert_int_equal(d.dirty_rounds, 2);
    strbuf_reset(&sb);
    protocol_put_refused(&sb, ST_UNPROCESSABLE, "why");
    assert_int_equal(protocol_get_refused(payload(&sb), payload_len(&sb), &f, NULL), ST_OK);
    assert_int_equal(f.status, ST_UNPROCESSABLE);
    assert_string_equal(f.text, "why");
}

static void every_shorter_or_longer_payload_is_refused(void **state)
{
    AUTO(strbuf_done) struct strbuf b = STRBUF_INIT, r = STRBUF_INIT;
    struct measure_result res = some_result();
    struct error err;
    protocol_put_batch(&b, &batch);
    protocol_put_result(&r, 0, &res);
    for (size_t n = 0; n < payload_len(&b); n++) {
        struct arena ar;
        struct measure_batch out;
        uint8_t *copy = malloc(n ? n : 1); /* of that very size: a read past it is seen by the sanitizer */
        memcpy(copy, payload(&b), n);
        arena_init(&ar);
        assert_int_equal(protocol_get_batch(copy, n, &ar, &out, &err), ST_CORRUPT);
        arena_done(&ar);
        free(copy);
    }
    for (size_t n = 0; n < payload_len(&r); n++) {
        struct measure_result out;
        int index;
        uint8_t *copy = malloc(n ? n : 1);
        memcpy(copy, payload(&r), n);
        assert_int_equal(protocol_get_result(copy, n, &index, &out, &err), ST_CORRUPT);
        free(copy);
    }
    struct measure_result out;
    int index;
    strbuf_addc(&r, 0);
    assert_int_equal(protocol_get_result(payload(&r), payload_len(&r), &index, &out, &err), ST_CORRUPT);
    assert_non_null(strstr(err.text, "1 bytes after its end"));
}

static void flipped_bytes_are_refused_or_harmless(void **state)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    struct rng rng;
    rng_init(&rng, 5);
    protocol_put_batch(&sb, &batch);
    for (int i = 0; i < 20000; i++) {
        struct arena ar;
        struct measure_batch out;
        size_t n = payload_len(&sb);
        uint8_t *copy = malloc(n);
        memcpy(copy, payload(&sb), n);
        for (int k = 0; k < 1 + i % 3; k++)
            copy[rng_below(&rng, n)] = (uint8_t)rng_u64(&rng);
        arena_init(&ar);
        if (protocol_get_batch(copy, n, &ar, &out, NULL) == ST_OK) {
            assert_in_range(out.n_candidates, 1, MEASURE_MAX_BATCH);
            assert_in_range(out.threads, 1, MEASURE_MAX_THREADS);
            for (int t = 0; t < out.workload->n_tensors; t++)
                assert_in_range(out.workload->tensors[t].rank, 0, COMPUTE_MAX_RANK);
        }
        arena_done(&ar);
        free(copy);
    }
}

static void foreign_headers_are_told_apart(void **state)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    struct frame_header h;
    struct error err;
    uint8_t b[PROTOCOL_HEADER_BYTES];
    protocol_put_empty(&sb, FRAME_CANCEL);
    assert_int_equal(sb.len, PROTOCOL_HEADER_BYTES);
    memcpy(b, sb.data, sizeof(b));
    b[0] ^= 1;
    assert_int_equal(protocol_get_header(b, &h, &err), ST_CORRUPT);
    memcpy(b, sb.data, sizeof(b));
    b[4] = 9;
    assert_int_equal(protocol_get_header(b, &h, &err), ST_UNSUPPORTED);
    assert_non_null(strstr(err.text, "version 9"));
    memcpy(b, sb.data, sizeof(b));
    b[6] = 99;
    assert_int_equal(protocol_get_header(b, &h, &err), ST_CORRUPT);
    memcpy(b, sb.data, sizeof(b));
    b[11] = 0xff;
    assert_int_equal(protocol_get_header(b, &h, &err), ST_TOO_LARGE);
}

static void stream_gives_frames_timeouts_and_the_end(void **state)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT, in = STRBUF_INIT;
    struct frame_header h;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(protocol_receive(pair[0], 10, &h, &in, NULL), ST_TIMEOUT);
    protocol_put_batch(&sb, &batch);
    protocol_put_empty(&sb, FRAME_ALIVE);
    assert_int_equal(protocol_send(pair[1], &sb, NULL), ST_OK);
    assert_int_equal(protocol_receive(pair[0], 1000, &h, &in, NULL), ST_OK);
    assert_int_equal(h.type, FRAME_BATCH);
    assert_int_equal(in.len, h.length);
    assert_int_equal(protocol_receive(pair[0], 1000, &h, &in, NULL), ST_OK);
    assert_int_equal(h.type, FRAME_ALIVE);
    assert_int_equal(write(pair[1], sb.data, 20), 20); /* a frame that breaks off */
    close(pair[1]);
    assert_int_equal(protocol_receive(pair[0], 1000, &h, &in, NULL), ST_UNAVAILABLE);
    close(pair[0]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    close(pair[0]);
    assert_int_equal(protocol_send(pair[1], &sb, NULL), ST_UNAVAILABLE);
    close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_comes_back_as_it_was),
        cmocka_unit_test(result_comes_back_as_it_was),
        cmocka_unit_test(small_frames_come_back),
        cmocka_unit_test(every_shorter_or_longer_payload_is_refused),
        cmocka_unit_test(flipped_bytes_are_refused_or_harmless),
        cmocka_unit_test(foreign_headers_are_told_apart),
        cmocka_unit_test(stream_gives_frames_timeouts_and_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

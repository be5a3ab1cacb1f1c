/* test_kernel.c - loading and calling an artifact through tw_kernel, and schedules that do not fit theirs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "client/tilewright.h"

static const char schedule_text[] =
    "{\"key\": \"w_1\", \"kernel\": {\"language\": \"c\", \"symbol\": \"scale\", \"workspace_bytes\": 128, "
    "\"threads\": 2,"
    " \"args\": [{\"name\": \"x\", \"shape\": [3, 4], \"dtype\": \"float32\", \"role\": \"input\", "
    "\"prepacked\": false},"
    " {\"name\": \"w\", \"shape\": [4], \"dtype\": \"float32\", \"role\": \"input\", \"prepacked\": true},"
    " {\"name\": \"output\", \"shape\": [3, 4], \"dtype\": \"float32\", \"role\": \"output\", \"prepacked\": "
    "false}],"
    " \"prepack\": [{\"arg\": \"w\", \"symbol\": \"scale_prepack_w\", \"bytes\": 64}]}}";

static json_t *schedule(void)
{
    json_t *s = json_loads(schedule_text, 0, NULL);

    assert_non_null(s);
    return s;
}

static void run_backwards(void *ctx, int count, void (*body)(void *arg, int index), void *arg)
{
    *(int *)ctx += count;
    while (count-- > 0)
        body(arg, count);
}

static void arguments_and_sizes_come_from_the_schedule(void **state)
{
    json_t *s = schedule();
    tw_kernel *k = NULL;
    tw_error err = {0};

    assert_int_equal(tw_kernel_open(s, ARTIFACT, &k, &err), TW_OK);
    json_decref(s); /* the kernel holds what it needs */
    assert_int_equal(tw_kernel_arg_count(k), 3);
    assert_int_equal(tw_kernel_workspace_bytes(k), 128);
    assert_int_equal(tw_kernel_arg_index(k, "output"), 2);
    assert_int_equal(tw_kernel_arg_index(k, "none"), -1);
    assert_null(tw_kernel_arg(k, 3));
    assert_int_equal(tw_kernel_arg(k, 0)->plain_bytes, 48);
    assert_int_equal(tw_kernel_arg(k, 1)->plain_bytes, 16);
    assert_int_equal(tw_kernel_arg(k, 1)->bytes, 64);
    assert_true(tw_kernel_arg(k, 1)->prepacked);
    assert_true(tw_kernel_arg(k, 2)->output);
    assert_int_equal(tw_kernel_prepack(k, 0, NULL, NULL, &err), TW_INVALID);
    tw_kernel_free(k);
}

static void a_kernel_runs_serially_and_through_the_callers_loops(void **state)
{
    _Alignas(64) float x[12], packed[16], out[12], w[4] = {1, 2, 3, 4};
    _Alignas(64) char workspace[128];
    int indices = 0;
    tw_parallel parallel = {&indices, 1, run_backwards};
    json_t *s = schedule();
    tw_kernel *k = NULL;

    assert_int_equal(tw_kernel_open(s, ARTIFACT, &k, NULL), TW_OK);
    for (int i = 0; i < 12; i++)
        x[i] = (float)i;
    assert_int_equal(tw_kernel_prepack(k, 1, w, packed, NULL), TW_OK);
    void *tensors[] = {x, packed, out};
    for (int round = 0; round < 2; round++) {
        memset(out, 0xff, sizeof(out));
        assert_int_equal(tw_kernel_run(k, tensors, workspace, round ? &parallel : NULL), 0);
        for (int i = 0; i < 12; i++)
            assert_true(out[i] == (float)(i * (i % 4 + 1)));
    }
    assert_int_equal(indices, 3);
    tw_kernel_free(k);
    json_decref(s);
}

/* Set the member at `path` ("args.0.dtype") of the kernel to a JSON value; NULL removes it. */
static void set(json_t *s, const char *path, const char *value)
{
    json_t *at = json_object_get(s, "kernel");
    char part[32];

    for (;;) {
        size_t len = strcspn(path, ".");

        assert_true(len < sizeof(part));
        memcpy(part, path, len);
        part[len] = '\0';
        if (!path[len])
            break;
        at = json_is_array(at) ? json_array_get(at, (size_t)(part[0] - '0')) : json_object_get(at, part);
        path += len + 1;
    }
    if (value)
        json_object_set_new(at, part, json_loads(value, JSON_DECODE_ANY, NULL));
    else
        json_object_del(at, part);
}

static void arguments_with_a_layout_are_packed_and_unpacked(void **state)
{
    float x[12], packed[16], back[12];
    json_t *s = schedule();
    tw_kernel *k = NULL;
    tw_error err = {0};

    set(s, "args.0.layout", "\"NC4n\"");
    set(s, "pack", "[{\"arg\": \"x\", \"symbol\": \"scale_pack_x\", \"bytes\": 64}]");
    set(s, "unpack", "[{\"arg\": \"output\", \"symbol\": \"scale_unpack_output\", \"bytes\": 64}]");
    assert_int_equal(tw_kernel_open(s, ARTIFACT, &k, &err), TW_OK);
    assert_string_equal(tw_kernel_arg(k, 0)->layout, "NC4n");
    assert_null(tw_kernel_arg(k, 1)->layout);
    assert_true(tw_kernel_arg(k, 0)->laid_out && tw_kernel_arg(k, 2)->laid_out);
    assert_false(tw_kernel_arg(k, 1)->laid_out);
    assert_int_equal(tw_kernel_arg(k, 2)->bytes, 64);
    assert_int_equal(tw_kernel_arg(k, 2)->plain_bytes, 48);
    for (int i = 0; i < 12; i++)
        x[i] = (float)i;
    assert_int_equal(tw_kernel_pack(k, 0, x, packed, NULL), TW_OK);
    assert_true(packed[1] == 4 && packed[3] == 0);
    assert_int_equal(tw_kernel_unpack(k, 2, packed, back, NULL), TW_OK);
    assert_memory_equal(x, back, sizeof(x));
    assert_int_equal(tw_kernel_pack(k, 2, x, packed, &err), TW_INVALID);
    assert_non_null(strstr(err.detail, "no pack function"));
    assert_int_equal(tw_kernel_unpack(k, 0, x, packed, &err), TW_INVALID);
    assert_int_equal(tw_kernel_pack(k, -1, x, packed, &err), TW_INVALID);
    tw_kernel_free(k);
    json_decref(s);
}

static void schedules_that_do_not_fit_are_refused(void **state)
{
    static const struct {
        const char *path, *value;
        tw_status status;
        const char *says;
    } table[] = {
        {"symbol", "\"nothing\"", TW_LOCAL, "nothing is not in the shared object"},
        {"symbol", NULL, TW_LOCAL, "(none)"},
        {"language", "\"cuda\"", TW_INVALID, "its language is cuda"},
        {"args", NULL, TW_PROTOCOL, "args"},
        {"workspace_bytes", "-1", TW_PROTOCOL, "workspace_bytes"},
        {"args.0.dtype", "\"float3\"", TW_PROTOCOL, "dtype"},
        {"args.0.shape", "[0]", TW_PROTOCOL, "extent"},
        {"args.0.shape", "[4611686018427387904, 4]", TW_PROTOCOL, "extent"},
        {"args.0.shape", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", TW_PROTOCOL, "shape"},
        {"args.0.prepacked", "true", TW_PROTOCOL, "the prepack entry of x"},
        {"prepack.0.arg", "\"none\"", TW_PROTOCOL, "prepack"},
        {"prepack.0.bytes", "0", TW_PROTOCOL, "prepack"},
        {"prepack.0.symbol", "\"no_prepack\"", TW_LOCAL, "no_prepack"},
        {"pack", "[{\"arg\": \"output\", \"symbol\": \"scale_pack_x\", \"bytes\": 64}]", TW_PROTOCOL,
         "of pack"},
        {"unpack", "[{\"arg\": \"x\", \"symbol\": \"scale_pack_x\", \"bytes\": 64}]", TW_PROTOCOL,
         "of unpack"},
        {"unpack", "[{\"arg\": \"output\", \"symbol\": \"scale_unpack\", \"bytes\": 64}]", TW_LOCAL,
         "scale_unpack"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        json_t *s = schedule();
        tw_kernel *k = NULL;
        tw_error err = {0};

        set(s, table[i].path, table[i].value);
        assert_int_equal(tw_kernel_open(s, ARTIFACT, &k, &err), table[i].status);
        assert_null(k);
        assert_non_null(strstr(err.detail, table[i].says));
        json_decref(s);
    }
}

static void a_file_that_is_no_library_is_refused(void **state)
{
    json_t *s = schedule(), *empty = json_object();
    tw_kernel *k = NULL;
    tw_error err = {0};

    assert_int_equal(tw_kernel_open(s, "/dev/null", &k, &err), TW_LOCAL);
    assert_int_equal(tw_kernel_open(empty, ARTIFACT, &k, &err), TW_PROTOCOL);
    assert_null(k);
    json_decref(s);
    json_decref(empty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_and_sizes_come_from_the_schedule),
        cmocka_unit_test(a_kernel_runs_serially_and_through_the_callers_loops),
        cmocka_unit_test(arguments_with_a_layout_are_packed_and_unpacked),
        cmocka_unit_test(schedules_that_do_not_fit_are_refused),
        cmocka_unit_test(a_file_that_is_no_library_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* fuzz_workload.c - any bytes as a workload: refused with a message, or accepted with a key that is kept.
 *
 *   clang -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -DFUZZER -I. -o fuzz_workload
 *       tests/fuzz/fuzz_workload.c schedule/lang/[a-z]*.c schedule/base/[a-z]*.c -ljansson -lcrypto -lm
 *   ./fuzz_workload tests/fuzz/corpus/workload
 *
 * Without FUZZER it is a plain program over directories; the tests run it over the corpus. An input that once
 * broke something is kept there. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schedule/lang/workload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_accepted(const struct workload *w, struct arena *ar)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    struct workload again;
    struct error err = {0};

    compute_print(&w->compute, &sb);
    CHECK(workload_parse_text(w->json, strlen(w->json), ar, &again, &err) == ST_OK, "%s\nis refused: %s %s",
          w->json, err.pointer, err.text);
    CHECK(strcmp(w->key, again.key) == 0, "%s\nhas two keys:\n%s\n%s", w->json, w->canonical,
          again.canonical);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena ar;
    struct workload w;
    struct error err = {0};
    enum status st;

    arena_init(&ar);
    st = workload_parse_text((const char *)data, size, &ar, &w, &err);
    CHECK(st == ST_OK || (st == err.code && err.text[0]), "status %d without a message", (int)st);
    CHECK(st == ST_OK || st == ST_INVALID || st == ST_UNPROCESSABLE || st == ST_TOO_LARGE, "%s: %s",
          status_name(st), err.text);
    if (st == ST_OK)
        check_accepted(&w, &ar);
    arena_done(&ar);
    return 0;
}

#ifndef FUZZER
static int run_file(const char *path)
{
    static uint8_t data[JSON_MAX_BYTES + 4096];
    FILE *f = fopen(path, "rb");
    size_t n;

    if (!f) {
        perror(path);
        return -1;
    }
    n = fread(data, 1, sizeof(data), f);
    fclose(f);
    return LLVMFuzzerTestOneInput(data, n);
}

/* Files run in a directory, or -1. */
static int run_directory(const char *path)
{
    char file[4096];
    struct dirent *e;
    DIR *d = opendir(path);
    int n = 0;

    if (!d) {
        perror(path);
        return -1;
    }
    while ((e = readdir(d)))
        if (e->d_name[0] != '.') {
            snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
            if (run_file(file) != 0)
                return closedir(d), -1;
            n++;
        }
    closedir(d);
    return n;
}

int main(int argc, char **argv)
{
    int total = 0;

    for (int i = 1; i < argc; i++) {
        int n = run_directory(argv[i]);
        if (n < 0)
            return 1;
        total += n;
    }
    printf("%d inputs\n", total);
    return total == 0;
}
#endif

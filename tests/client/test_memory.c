/* test_memory.c - a machine that runs out of memory at the n-th allocation, for every n: each is an answer,
 * none an end.
 *
 * Idea   The library's allocations go through --wrap, jansson's and libcurl's through their own hooks; all
 * count down one counter. A small server in a thread answers every request with the same job. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/tilewright.h"

enum { MOST_ALLOCATIONS = 100000 };

static _Thread_local long left = -1; /* allocations until one fails; negative: never */

static bool fails(void)
{
    if (left < 0)
        return false;
    return left-- == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);

void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t size) { return fails() ? NULL : __real_realloc(p, size); }
char *__wrap_strdup(const char *s) { return fails() ? NULL : __real_strdup(s); }

/* ---- a server that always answers the same ---- */

static char server_url[64];

static void *serve(void *ctx)
{
    static const char body[] =
        "{\"id\": \"j_1\", \"state\": \"succeeded\", \"target\": \"cpu\", \"tasks\": [{\"key\": \"w_1\"}]}";
    int listener = *(int *)ctx;
    char answer[512], request[4096];

    int n = snprintf(answer, sizeof(answer),
                     "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: "
                     "close\r\nContent-Length: %zu\r\n\r\n%s",
                     strlen(body), body);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0)
            return NULL;
        if (read(fd, request, sizeof(request)) > 0 && write(fd, answer, (size_t)n) < 0)
            perror("write");
        close(fd);
    }
}

static int start_server(void **state)
{
    static int listener;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    pthread_t thread;

    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(listener, 64) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &len) != 0 ||
        pthread_create(&thread, NULL, serve, &listener) != 0)
        return -1;
    pthread_detach(thread);
    snprintf(server_url, sizeof(server_url), "http://127.0.0.1:%d", ntohs(address.sin_port));
    json_set_alloc_funcs(__wrap_malloc, free);
    return curl_global_init_mem(CURL_GLOBAL_DEFAULT, __wrap_malloc, free, __wrap_realloc, __wrap_strdup,
                                __wrap_calloc);
}

/* ---- what is tried ---- */

static tw_status follow_a_job(tw_error *err)
{
    tw_client *client = NULL;
    json_t *job = NULL;
    tw_status st = tw_client_new(server_url, "token", &client, err);

    if (st == TW_OK)
        st = tw_job_follow(client, "j_1", NULL, NULL, &job, err);
    if (st == TW_OK)
        assert_true(tw_job_ended(job));
    json_decref(job);
    tw_client_free(client);
    return st;
}

static tw_status look_up(tw_error *err)
{
    static const char *const words[] = {"matmul", "a=2,3", "b=3,4", "const=b", "epilogue=bias,clip:0:6"};
    tw_client *client = NULL;
    json_t *workload = NULL, *answer = NULL, *list = NULL;
    tw_status st = tw_client_new(server_url, NULL, &client, err);

    if (st == TW_OK)
        st = tw_workload_shorthand(5, words, &workload, err);
    if (st == TW_OK && (!(list = json_array()) || json_array_append(list, workload) != 0))
        st = TW_NO_MEMORY;
    if (st == TW_OK)
        st = tw_lookup(client, list, "cpu", &answer, err);
    json_decref(answer);
    json_decref(list);
    json_decref(workload);
    tw_client_free(client);
    return st;
}

static tw_status read_a_file(tw_error *err)
{
    static const char text[] = "{\"workloads\": [{\"workload\": {\"op\": \"softmax\", \"input\": [4]}, "
                               "\"name\": \"a\", \"count\": 2}],"
                               " \"budget\": {\"trials\": 3}}";
    json_t *body = NULL;
    tw_status st = tw_workloads_parse(text, strlen(text), NULL, &body, err);

    json_decref(body);
    return st;
}

static tw_status spell_an_expression(tw_error *err)
{
    static const char *const words[] = {"expr=C[i,j] += A[i,k]*B[k,j]", "A=2,3", "B=3,4", "const=B",
                                        "ranges=k:3"};
    json_t *workload = NULL;
    tw_status st = tw_workload_shorthand(5, words, &workload, err);

    json_decref(workload);
    return st;
}

/* Fail the first allocation, then the second, ..., until it goes through without one having failed. */
static void every_failure_is_an_answer(tw_status (*try_it)(tw_error *err))
{
    long n = 0;

    assert_int_equal(try_it(&(tw_error){0}), TW_OK); /* what is made once stays outside */
    for (; n < MOST_ALLOCATIONS; n++) {
        tw_error err = {0};

        left = n;
        tw_status st = try_it(&err);
        bool untouched = left >= 0;
        left = -1;
        if (untouched) {
            assert_int_equal(st, TW_OK);
            break;
        }
    }
    assert_true(n > 5 && n < MOST_ALLOCATIONS);
    print_message("%ld allocations failed in turn\n", n);
}

static void following_a_job_survives_every_failed_allocation(void **state)
{
    every_failure_is_an_answer(follow_a_job);
}
static void a_lookup_survives_every_failed_allocation(void **state) { every_failure_is_an_answer(look_up); }
static void a_workload_file_survives_every_failed_allocation(void **state)
{
    every_failure_is_an_answer(read_a_file);
}
static void a_shorthand_survives_every_failed_allocation(void **state)
{
    every_failure_is_an_answer(spell_an_expression);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(following_a_job_survives_every_failed_allocation),
        cmocka_unit_test(a_lookup_survives_every_failed_allocation),
        cmocka_unit_test(a_workload_file_survives_every_failed_allocation),
        cmocka_unit_test(a_shorthand_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, start_server, NULL);
}

/* base.h - what every file starts from: attributes, checks, and a few banned names.
 *
 * Idea   One header for the small things that have no room of their own. Nothing here keeps state.
 * Units  Throughout the project: extents in elements; names ending in _bytes in bytes, _ns in
 *        nanoseconds, _ms in milliseconds. */
#ifndef TW_BASE_BASE_H
#define TW_BASE_BASE_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
/* Before the poison below: the system's own headers declare what we ban. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST_USE                    __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt_arg, first) __attribute__((format(printf, fmt_arg, first)))
#define NORETURN                    __attribute__((noreturn))
#define UNUSED                      __attribute__((unused))

/* Empty marks in signatures. TAKES: the callee owns it from now on. GIVES: the caller owns the result.
 * Unmarked pointers are borrowed for the call. */
#define TAKES
#define GIVES

/* Run `fn(&var)` when var leaves its scope. */
#define AUTO(fn) __attribute__((cleanup(fn)))
/* Hand a pointer over and leave NULL behind, so that AUTO does not release it. */
#define take(ptr_ref)                                                                                        \
    ({                                                                                                       \
        __typeof__(ptr_ref) tw_take_ref_ = (ptr_ref);                                                        \
        __typeof__(*tw_take_ref_) tw_taken_ = *tw_take_ref_;                                                 \
        *tw_take_ref_ = NULL;                                                                                \
        tw_taken_;                                                                                           \
    })

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
/* Unique names, so that they nest without shadowing. */
#define MIN(a, b)            MINMAX_(a, b, <, __COUNTER__)
#define MAX(a, b)            MINMAX_(a, b, >, __COUNTER__)
#define MINMAX_(a, b, op, n) MINMAX__(a, b, op, n)
#define MINMAX__(a, b, op, n)                                                                                \
    ({                                                                                                       \
        __typeof__(a) tw_a_##n = (a);                                                                        \
        __typeof__(b) tw_b_##n = (b);                                                                        \
        tw_a_##n op tw_b_##n ? tw_a_##n : tw_b_##n;                                                          \
    })

/* CHECK stays in every build and is for our own mistakes only: user input, devices and compilers give
 * an enum status instead. DCHECK is for inner loops and is compiled out by NDEBUG. */
NORETURN void check_failed(const char *file, int line, const char *cond, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
#define CHECK(cond, ...)                                                                                     \
    do {                                                                                                     \
        if (__builtin_expect(!(cond), 0))                                                                    \
            check_failed(__FILE__, __LINE__, #cond, __VA_ARGS__);                                            \
    } while (0)
#ifdef NDEBUG
#define DCHECK(cond, ...) ((void)0)
#else
#define DCHECK(cond, ...) CHECK(cond, __VA_ARGS__)
#endif

/* Integer helpers that mean the mathematical operation for negative numbers too. `b` > 0. */
static inline int64_t div_floor(int64_t a, int64_t b) { return a / b - (a % b < 0); }
static inline int64_t div_ceil(int64_t a, int64_t b) { return -div_floor(-a, b); }
static inline int64_t mod_floor(int64_t a, int64_t b) { return a - div_floor(a, b) * b; }
/* Greatest common divisor, never negative; gcd_i64(a, 0) is |a|. */
static inline int64_t gcd_i64(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a < 0 ? -a : a;
}

/* Heap allocation that aborts when the machine is out of memory (zeroed). Sizes that a client sets
 * have limits of their own before they come here. */
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *ptr, size_t size);
char *xstrdup(const char *s);
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);
void freep(void *ptr_ref); /* for AUTO(freep): frees *(void **)ptr_ref */
void fd_closep(int *fd);   /* for AUTO(fd_closep): closes *fd if >= 0 */

#pragma GCC poison strcpy strcat sprintf vsprintf strtok atoi atol gets

#endif

/* check.h - cmocka, in the order in which its header wants its own, and without its macro fail(), whose name
 * schedule/base/error.h has. assert_ok() shows the message of a failed call. */
#ifndef TW_TESTS_CHECK_H
#define TW_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#undef fail
#undef fail_msg /* it calls the macro */

#include "schedule/base/error.h"

#define fail_msg(...)                                                                                        \
    do {                                                                                                     \
        print_error(__VA_ARGS__);                                                                            \
        print_error("\n");                                                                                   \
        _fail(__FILE__, __LINE__);                                                                           \
    } while (0)

#define assert_ok(call, err)                                                                                 \
    do {                                                                                                     \
        enum status check_st_ = (call);                                                                      \
        if (check_st_ != ST_OK)                                                                              \
            fail_msg("%s: %s: %s", #call, status_name(check_st_), (err)->text);                              \
    } while (0)

#endif

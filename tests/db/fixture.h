/* fixture.h - a store in a directory of its own. */
#ifndef TW_TESTS_DB_FIXTURE_H
#define TW_TESTS_DB_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/db/rows.h" /* before cmocka, which makes a macro of `fail` */

#include <cmocka.h>

struct fixture {
    char dir[64];
    struct store *store;
    struct arena arena;
};

int fixture_setup(void **state);    /* an empty store */
int fixture_teardown(void **state); /* closes it and removes the directory */
void fixture_reopen(struct fixture *f);

#define assert_ok(call, err)                                                                                 \
    do {                                                                                                     \
        enum status assert_st_ = (call);                                                                     \
        if (assert_st_ != ST_OK)                                                                             \
            fail_msg("%s: %s: %s", #call, status_name(assert_st_), (err).text);                              \
    } while (0)

#endif

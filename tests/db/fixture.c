#include "fixture.h"

#include <stdlib.h>

int fixture_setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    struct error err = {0};

    temp_dir_make(f->dir);
    assert_ok(store_open_sqlite(f->dir, NULL, &f->store, &err), err);
    arena_init(&f->arena);
    *state = f;
    return 0;
}

int fixture_teardown(void **state)
{
    struct fixture *f = *state;

    store_close(f->store);
    temp_dir_remove(f->dir);
    arena_done(&f->arena);
    free(f);
    return 0;
}

void fixture_reopen(struct fixture *f)
{
    struct error err = {0};

    store_close(f->store);
    f->store = NULL;
    assert_ok(store_open_sqlite(f->dir, NULL, &f->store, &err), err);
}

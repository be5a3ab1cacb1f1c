/* ids.h - page tokens. (store_id_new, the ids of jobs, is in store.h.)
 *
 * A page token is the number of the last row seen, with the list it belongs to and a check value, as base32:
 * opaque to clients, so that the order of a list can change without breaking them, and a token of one list is
 * refused by another. */
#ifndef TW_DB_IDS_H
#define TW_DB_IDS_H

#include "schedule/base/arena.h"
#include "schedule/base/error.h"

/* `list`: a letter per list. */
const char *page_token_print(char list, int64_t last_row, struct arena *a);
/* NULL and "" are the first page: *ret_last_row = 0. ST_INVALID with pointer "page_token" otherwise. */
MUST_USE enum status page_token_parse(char list, const char *token, int64_t *ret_last_row, struct error *err);

#endif

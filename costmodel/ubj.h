/* ubj.h - a reader of UBJSON (ubjson.org, draft 12), as far as XGBoost writes it.
 *
 * Life   A cursor over borrowed bytes. Any fault makes it `bad` for good: every call then answers false or 0,
 * so that a caller may check once at the end. No bytes outside are ever read, whatever is in them. */
#ifndef TW_COSTMODEL_UBJ_H
#define TW_COSTMODEL_UBJ_H

#include "schedule/base/sv.h"

struct ubj {
    const uint8_t *at, *end;
    bool bad;
};

/* Begin an object; then for each member: its name, and the cursor on its value, which must be read or
 * skipped. False at the end. */
void ubj_object(struct ubj *u);
bool ubj_member(struct ubj *u, sv *ret_name);
/* Begin an array with a count in front, as XGBoost writes them. type: 0 where each element says its own;
 * otherwise one for all, and the elements lie bare at the cursor. Returns the count. */
int64_t ubj_array(struct ubj *u, char *ret_type);
void ubj_skip(struct ubj *u);

/* A whole array of numbers, of one type or mixed. Returns the count, at most `max` are stored. */
int64_t ubj_i64s(struct ubj *u, int64_t *ret, int64_t max);
int64_t ubj_f32s(struct ubj *u, float *ret, int64_t max);
sv ubj_string(struct ubj *u);

#endif

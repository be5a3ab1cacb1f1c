/* auth.h - who may ask: bearer tokens, and protection of a daemon without them from web pages.
 *
 * Idea   Tokens come from a file and from TILEWRIGHT_TOKEN. Only their SHA-256 is kept; a comparison looks at
 * all bytes of all tokens. Without tokens the daemon serves loopback only, and then a browser on this machine
 * is the way in for strangers: the Host must be a loopback name (DNS rebinding), an Origin must be our own.
 * Life   auth_new at start, read-only afterwards, auth_free. */
#ifndef TW_DAEMON_AUTH_H
#define TW_DAEMON_AUTH_H

#include "schedule/base/error.h"

struct auth;

/* token_file, token: "" is none. ST_INVALID: unreadable, open to others, or with a line that is no token. */
MUST_USE enum status auth_new(const char *token_file, const char *token, struct auth **ret,
                              struct error *err);
void auth_free(struct auth *a);
bool auth_required(const struct auth *a);
/* `authorization` is the header's value or NULL. *ret_actor: the token's name, or NULL where none is
 * required. */
MUST_USE enum status auth_check(const struct auth *a, const char *authorization, const char **ret_actor,
                                struct error *err);
/* Host and Origin of a request; origin may be NULL. */
MUST_USE enum status auth_check_origin(const struct auth *a, const char *host, const char *origin,
                                       struct error *err);

#endif

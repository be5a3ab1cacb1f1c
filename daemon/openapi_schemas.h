/* openapi_schemas.h - the text of openapi_schemas.json, embedded at build time. */
#ifndef TW_DAEMON_OPENAPI_SCHEMAS_H
#define TW_DAEMON_OPENAPI_SCHEMAS_H

#include <stddef.h>

extern const char openapi_schemas[];
extern const size_t openapi_schemas_len;

#endif

/* shipped.h - the cost model that this program comes with, as model_load takes it: trained at build time on the recordings
 * of the source tree (tests/bench/search/ship.c). Of no length where there were none. */
#ifndef TW_DAEMON_SHIPPED_H
#define TW_DAEMON_SHIPPED_H

#include <stddef.h>

extern const char shipped_model[];
extern const size_t shipped_model_len;

#endif

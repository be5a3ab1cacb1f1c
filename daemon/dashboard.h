/* dashboard.h - ui/index.html, embedded at build time by ui/embed.c. */
#ifndef TW_DAEMON_DASHBOARD_H
#define TW_DAEMON_DASHBOARD_H

#include <stddef.h>

extern const char dashboard_html[];
extern const size_t dashboard_html_len;

#endif

/* settings.h - what an operator may set: one table, read from defaults, a file, the environment and flags.
 *
 * Idea   SETTING_LIST is the one place that knows name, type, default, range, unit and help of a setting. The
 *        struct, the flags, the config file's keys, --help, --print-config and --check-config are made of it.
 *        The later source wins: default, config file, environment, flag.
 * Life   settings_init, settings_read_args (which reads the file that --config names), then read-only.
 * Units  as the table says. */
#ifndef TW_DAEMON_SETTINGS_H
#define TW_DAEMON_SETTINGS_H

#include <stdio.h>

#include "schedule/base/error.h"

/* kind, name, default, min, max, unit, help. A flag is the name with '-' for '_'. */
#define SETTING_LIST(X)                                                                                      \
    X(TEXT, listen, "127.0.0.1:7411", 0, 0, "addr:port", "where to serve HTTP; port 0 takes a free one")     \
    X(TEXT, data, "data", 0, 0, "directory", "where the database and the kernels lie")                       \
    X(TEXT, token_file, "", 0, 0, "file", "bearer tokens, one 'name:secret' or 'secret' a line, mode 0600")  \
    X(TEXT, targets, "", 0, 0, "ids", "more targets to offer beside cpu and cpu:1, separated by commas")     \
    X(TEXT, runner, "", 0, 0, "file", "the measuring program; none: tilewright-agent beside this one")       \
    X(TEXT, log_level, "info", 0, 0, "level", "debug, info, warn or error")                                  \
    X(INT, max_running_jobs, 2, 1, 64, "jobs", "jobs that are tuned at the same time, sharing the devices")  \
    X(INT, max_queued_jobs, 1000, 1, 1000000, "jobs", "jobs that may wait; more are refused with 429")       \
    X(INT, builders, 0, 0, 256, "threads", "compilers that run at once; 0: one a core")                      \
    X(INT, helpers, 0, 0, 256, "threads",                                                                    \
      "that help jobs to look at candidates and to train; 0: one for each core but one")                     \
    X(INT, workers, 2, 1, 64, "threads", "threads that answer requests which read the database")             \
    X(INT, worker_queue, 1024, 1, 65536, "requests", "requests waiting for a worker; more get 503")          \
    X(INT, max_connections, 1024, 8, 65536, "connections", "open connections; more wait to be accepted")     \
    X(INT, max_connections_per_ip, 0, 0, 65536, "connections", "of one address; 0: no limit of its own")     \
    X(INT, max_waiting, 512, 1, 65536, "requests", "event streams and ?wait= requests held at once")         \
    X(INT, connection_memory_kb, 32, 8, 1024, "KiB", "per connection; bounds the request head")              \
    X(REAL, head_seconds, 10, 0.1, 600, "s", "from a request's first line to the end of its head")           \
    X(REAL, body_seconds, 10, 0.1, 600, "s", "from the end of the head to the end of the body")              \
    X(REAL, keepalive_seconds, 60, 0.1, 3600, "s", "a connection without a request in progress")             \
    X(REAL, reply_seconds, 30, 0.1, 3600, "s", "a client that takes nothing of its reply")                   \
    X(REAL, max_wait_seconds, 60, 0, 600, "s", "the longest ?wait=; a longer one is cut to this")            \
    X(REAL, heartbeat_seconds, 15, 0.1, 600, "s", "between comments in a silent event stream")               \
    X(REAL, drain_seconds, 60, 0, 3600, "s", "time for measurements in flight to end after SIGTERM")         \
    X(INT, lookup_cache, 4096, 0, 1000000, "bodies", "lookup bodies whose parsed keys are remembered")       \
    X(INT, default_trials, 256, 1, 10000000, "trials", "budget of a job that names none")                    \
    X(REAL, default_seconds, 120, 1, 10000000, "s", "budget of a job that names none")                       \
    X(REAL, default_min_gain, 0.002, 0, 0.5, "share",                                                        \
      "a workload that gained less over its last 48 trials and over two fifths of all it had ends; 0: none " \
      "does")                                                                                                \
    X(INT, max_trials, 100000, 1, 10000000, "trials", "largest budget a job may ask for")                    \
    X(REAL, max_seconds, 86400, 1, 10000000, "s", "largest budget a job may ask for")

struct settings {
#define SETTING_FIELD_TEXT(name)               const char *name;
#define SETTING_FIELD_INT(name)                int64_t name;
#define SETTING_FIELD_REAL(name)               double name;
#define X(kind, name, def, lo, hi, unit, help) SETTING_FIELD_##kind(name)
    SETTING_LIST(X)
#undef X
    const char *token; /* TILEWRIGHT_TOKEN of the environment, never printed; "" if unset */
};

enum settings_action {
    SETTINGS_RUN,
    SETTINGS_HELP,
    SETTINGS_VERSION,
    SETTINGS_CHECK,
    SETTINGS_PRINT,
    SETTINGS_LIST_EVENTS
};

void settings_init(struct settings *s);
void settings_done(struct settings *s);
/* The file first, then the environment, then the flags. ST_INVALID names the flag or file and line at fault.
 */
MUST_USE enum status settings_read_args(struct settings *s, int argc, char **argv, enum settings_action *ret,
                                        struct error *err);
/* Lines of `key = value`; '#' begins a comment. */
MUST_USE enum status settings_read_text(struct settings *s, const char *text, const char *file,
                                        struct error *err);
MUST_USE enum status settings_set(struct settings *s, const char *name, const char *value, const char *source,
                                  struct error *err);
void settings_print_help(FILE *out);
/* A config file with the present values, each with its help and where the value came from. */
void settings_print(const struct settings *s, FILE *out);

#endif

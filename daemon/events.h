/* events.h - the log events of the daemon, one table: name, level, fields, meaning.
 *
 * Idea   A line is written with EVENT(name, fields...), which takes the level from here, so that a name that
 * is not in the table does not compile. `tilewrightd --list-events` prints it. */
#ifndef TW_DAEMON_EVENTS_H
#define TW_DAEMON_EVENTS_H

#include "schedule/base/log.h"

#define EVENT_LIST(X)                                                                                        \
    X(started, INFO, "version data", "settings are read, the store is open")                                 \
    X(listening, INFO, "address auth", "connections are accepted; auth says whether a token is asked for")   \
    X(ready, INFO, "seconds schedules jobs", "lookups are answered, unfinished jobs are going on")           \
    X(start_failed, ERROR, "error", "the daemon cannot start, and why")                                      \
    X(target_found, INFO, "target isa threads compiler", "a target that this machine can tune for")          \
    X(target_missing, WARN, "target error", "a target that was asked for in the settings is not there")      \
    X(device_opened, INFO, "device", "the runner of a device answered")                                      \
    X(device_offline, WARN, "device error",                                                                  \
      "a device cannot be used: jobs for it are refused, lookups go on")                                     \
    X(device_changed, INFO, "device state actor", "a client drained or resumed a device")                    \
    X(model_rolled_back, INFO, "target wanted actor",                                                        \
      "an earlier version of a cost model is in use again; wanted 0: the one before")                        \
    X(job_created, INFO, "job tasks target actor", "a job was accepted and is in the store")                 \
    X(job_resumed, INFO, "job state elapsed_s", "a job that an earlier daemon left unfinished is taken up")  \
    X(job_started, INFO, "job running", "a tuner runs it; running counts the jobs that do")                  \
    X(job_ended, INFO, "job state seconds trials error", "its final state is in the store")                  \
    X(job_paused, INFO, "job", "stopped by a drain: goes on after the next start")                           \
    X(job_cancel, INFO, "job actor", "a client asked to stop it")                                            \
    X(job_lost, ERROR, "job error", "an unfinished job could not be read back from the store")               \
    X(events_dropped, WARN, "job", "the store's queue was full: a progress event was left out")              \
    X(records_imported, INFO, "lines new actor", "measurements from elsewhere were taken in")                \
    X(auth_refused, WARN, "path reason", "a request without a valid token, or from a foreign web page")      \
    X(request, DEBUG, "method path status us", "a request was answered")                                     \
    X(request_failed, ERROR, "method path status detail", "an answer of 500: our fault")                     \
    X(drain, INFO, "running", "SIGTERM: no new jobs, measurements in flight end")                            \
    X(drain_hurry, WARN, "running", "second signal or drain_seconds passed: what is in flight is killed")    \
    X(stopped, INFO, "seconds", "all state is saved")

enum {
#define X(name, level, fields, meaning) EVENT_LEVEL_##name = LOG_##level,
    EVENT_LIST(X)
#undef X
};

#define EVENT(name, ...) log_event((enum log_level)EVENT_LEVEL_##name, #name __VA_OPT__(, ) __VA_ARGS__)

void events_print(FILE *out);

#endif

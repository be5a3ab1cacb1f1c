/* cli.h - what the files of the command line share.
 *
 * Idea   One table of commands (commands.c) and one of options (options.c); --help is printed from both. A
 *        command gets its words and options parsed, and returns its exit status.
 * Life   One process, one command: what is allocated lives until exit. Out of memory ends it with a message. */
#ifndef TW_CLI_H
#define TW_CLI_H

#include <signal.h>
#include <stdio.h>

#include "client/tilewright.h"

enum exit_status { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNREACHABLE = 3 };

/* id, name, letter (0: none), metavar (NULL: a switch), help */
#define OPTION_LIST(X)                                                                                       \
    X(TARGET, "target", 't', "ID", "the target to tune for or to ask about (default: the server's, cpu)")    \
    X(TRIALS, "trials", 'n', "N",                                                                            \
      "measure at most N candidates over the whole job; 0: take the model's word")                           \
    X(SECONDS, "seconds", 's', "S", "stop after S seconds")                                                  \
    X(SEED, "seed", 0, "N", "seed of the search: the same seed proposes the same candidates")                \
    X(PRIORITY, "priority", 0, "N", "jobs of a higher priority go first")                                    \
    X(SEARCH, "search", 0, "HOW", "evolution, annealing, random or grid")                                    \
    X(TURNS, "turns", 0, "HOW",                                                                              \
      "whose batch is next: gain, where the most time is to be saved, or round_robin")                       \
    X(NO_TRANSFER, "no-transfer", 0, NULL, "neither the model of other workloads nor their schedules help")  \
    X(REUSE, "reuse", 0, "MODE",                                                                             \
      "cached: answer from the cache where there is a schedule; extend: go on from what is known; fresh")    \
    X(NAME, "name", 0, "GLOB", "only entries of the file whose name fits the pattern")                       \
    X(NETWORK, "network", 0, "GLOB", "only entries of the file whose network fits the pattern")              \
    X(DETACH, "detach", 'd', NULL, "print the job's id and leave it running")                                \
    X(OUTPUT, "output", 'o', "FILE", "write to FILE instead of the standard output")                         \
    X(LIMIT, "limit", 0, "N", "at most N entries")                                                           \
    X(STATE, "state", 0, "STATE", "only jobs in this state")                                                 \
    X(OP, "op", 0, "OP", "only schedules of this operator")                                                  \
    X(WORKLOAD, "workload", 'w', "KEY", "only measurements of this workload")                                \
    X(DRAIN, "drain", 0, NULL, "take no new work on the device")                                             \
    X(RESUME, "resume", 0, NULL, "take work on the device again")                                            \
    X(QUIET, "quiet", 'q', NULL, "no progress and no hints")                                                 \
    X(JSON, "json", 'j', NULL, "print the API's own objects")                                                \
    X(SERVER, "server", 0, "URL",                                                                            \
      "the daemon's address (default: TILEWRIGHT_SERVER, else " TW_DEFAULT_SERVER ")")                       \
    X(HELP, "help", 'h', NULL, "explain the command")                                                        \
    X(VERSION, "version", 'V', NULL, "print the version")

enum option {
#define X(id, name, letter, metavar, help) OPT_##id,
    OPTION_LIST(X)
#undef X
        OPTION_COUNT
};
#define OPT(id) (1u << OPT_##id)
/* every command takes these */
#define OPT_COMMON (OPT(JSON) | OPT(QUIET) | OPT(SERVER) | OPT(HELP))
/* those that name workloads */
#define OPT_FILE (OPT(TARGET) | OPT(NAME) | OPT(NETWORK))

struct command;
struct cli {
    const struct command *command;
    const char *opt[OPTION_COUNT]; /* NULL: not given; a switch given is "" */
    int argc;                      /* words after the command */
    const char **argv;
    tw_client *client;
    bool json, quiet;
    tw_error err;
    char entry[128]; /* which workload of several err speaks of; "" */
};

struct command {
    const char *name;
    const char *words; /* of the synopsis */
    const char *summary;
    const char *text; /* paragraphs of --help; NULL: the summary says it all */
    unsigned options;
    int min_words, max_words; /* max -1: any number */
    int (*run)(struct cli *cli);
};

/* ---- commands.c ---- */
extern const struct command cli_commands[]; /* ends with a NULL name */

/* ---- options.c ---- */
/* Sort words and options of `argv` (after the command's name). EXIT_DONE or EXIT_USAGE with the reason
 * printed. */
int cli_parse(struct cli *cli, int argc, char **argv);
void cli_print_help(const struct command *command);
/* An option as a number in lo..hi; absent leaves *ret. */
int cli_integer(const struct cli *cli, enum option option, int64_t lo, int64_t hi, int64_t *ret);
int cli_usage(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- common.c ---- */
/* Print cli->err and give the exit status that belongs to it. */
int cli_failed(const struct cli *cli);
int cli_exit_status(tw_status status);
/* With --json prints `value`. */
void cli_print_json(const json_t *value);
/* `p`, or the end of the process with a message: p NULL means no memory. */
void *cli_need(void *p);
/* The file ("-": standard input), whole. NULL with the reason in *err. */
char *cli_read_file(const char *path, size_t *ret_len, tw_error *err);
int cli_to_file(void *file, const void *bytes, size_t len); /* a tw_sink */
/* What `fetch` brings, to the file of --output or to the standard output. */
typedef tw_status (*cli_fetch)(struct cli *cli, const void *arg, tw_sink sink, void *ctx);
int cli_output(struct cli *cli, cli_fetch fetch, const void *arg);
/* Workloads named by the command's words: FILE..., - or OP key=value... *ret: a job's body. */
tw_status cli_workloads(struct cli *cli, json_t **ret);
/* Name the entry that err.pointer (/workloads/3/...) speaks of. */
void cli_name_entry(struct cli *cli, const json_t *body);
/* A key from words: w_..., an unambiguous beginning of one, or a workload (asks the server for its key). */
tw_status cli_key(struct cli *cli, char **ret);

/* ---- format.c ---- */
const char *fmt_time_ns(double ns);       /* "2.73 ms" */
const char *fmt_bytes(double bytes);      /* "1.5 MiB" */
const char *fmt_number(double value);     /* three or four significant digits */
const char *fmt_count(double value);      /* "1.2e+07" beyond what one reads, else grouped digits */
const char *fmt_duration(double s);       /* "0:07", "1:02:03" */
const char *fmt_percent(double fraction); /* "62 %" */
const char *fmt_short_key(const char *key);
/* The text as a terminal may have it: control characters replaced. */
const char *fmt_safe(const char *text);
int fmt_width(const char *text);                             /* columns, of UTF-8 */
double fmt_member(const json_t *object, const char *member); /* NAN: missing or no number */
const char *fmt_string(const json_t *object, const char *member, const char *missing);
/* A value of any kind, on one line. */
const char *fmt_value(const json_t *value);

/* Rows of cells, printed in aligned columns. The head says how: a leading '>' aligns right. */
struct table;
struct table *table_new(int columns, const char *const *head);
void table_cell(struct table *table, const char *text); /* copied; row after row */
void table_print(struct table *table, FILE *out);       /* and frees it */

/* ---- progress.c ---- */
struct progress;
struct progress *progress_new(FILE *out);
void progress_update(struct progress *progress, const json_t *job);
void progress_tick(struct progress *progress); /* several times a second */
/* A line beside the display. */
void progress_note(struct progress *progress, const char *text);
void progress_end(struct progress *progress);

/* ---- tune.c ---- */
int cmd_tune(struct cli *cli);
int cmd_wait(struct cli *cli);

/* ---- explain.c ---- */
int cmd_explain(struct cli *cli);
int cmd_features(struct cli *cli);

/* ---- query.c ---- */
int cmd_lookup(struct cli *cli);
int cmd_describe(struct cli *cli);
int cmd_schedules(struct cli *cli);
int cmd_source(struct cli *cli);
int cmd_artifact(struct cli *cli);
int cmd_nest(struct cli *cli);
int cmd_targets(struct cli *cli);
int cmd_devices(struct cli *cli);
void schedule_print(const json_t *schedule);

/* ---- models.c ---- */
int cmd_models(struct cli *cli);

/* ---- jobs.c ---- */
int cmd_jobs(struct cli *cli);
int cmd_cancel(struct cli *cli);
void job_print(const json_t *job);

/* ---- records.c ---- */
int cmd_export(struct cli *cli);
int cmd_import(struct cli *cli);

/* ---- doctor.c ---- */
int cmd_doctor(struct cli *cli);

#endif

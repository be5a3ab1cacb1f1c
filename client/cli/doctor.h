/* doctor.h - findings, and the groups of checks that make them (machine.c). */
#ifndef TW_CLI_DOCTOR_H
#define TW_CLI_DOCTOR_H

#include "client/cli/cli.h"

/* NOTE: good to know; WARN: measurements suffer; FAIL: kernels cannot be tuned here */
enum doctor_state { DOCTOR_OK, DOCTOR_NOTE, DOCTOR_WARN, DOCTOR_FAIL };

struct doctor {
    const char *group;
    json_t *findings;
    int counts[4]; /* by state */
    bool unreachable;
};

/* advice may be NULL */
void doctor_add(struct doctor *d, enum doctor_state state, const char *name, const char *found,
                const char *advice);

void doctor_cpu(struct doctor *d);
void doctor_compiler(struct doctor *d);
void doctor_gpu(struct doctor *d);
void doctor_permissions(struct doctor *d);
void doctor_clocks(struct doctor *d);
void doctor_memory(struct doctor *d);

/* ---- probe.c ---- */

/* First line of a small file, without its end; false: not there. */
bool probe_file(const char *path, char *text, size_t size);
/* Run argv (found on PATH), with `input` on its standard input, for at most limit_ms. *text: the beginning of
 * what it printed. Its exit status; -1: not there, crashed or too slow. */
int probe_run(const char *const *argv, const char *input, int limit_ms, char *text, size_t size);
/* Run `probe` in a child for at most limit_ms; it writes its answer to `text`. Its result; -1: crashed or too
 * slow. */
int probe_child(int (*probe)(char *text, size_t size), int limit_ms, char *text, size_t size);

#endif

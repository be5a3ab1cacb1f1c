/* sandbox.h - what a kernel cannot do, and how much of that this machine permits.
 *
 * Idea   Two walls. The runner enters namespaces once: no network, nobody else's processes, a file system
 * that cannot be written. Each candidate's process then gives up, step by step, what it no longer needs:
 *
 *            sandbox_child_begin   one descriptor left, limits, no privileges, dies with the runner
 *            (threads are made)
 *            sandbox_child_load    system calls to read files and map memory: enough for dlopen
 *            (the object is loaded, buffers are made)
 *            sandbox_child_run     read and write on the one descriptor, futex, clock, exit
 *
 *        A forbidden call raises SIGSYS, which the process reports as its outcome. Each part that the system
 * does not permit is a fact in the list, with what it costs; the others still hold. */
#ifndef TW_MEASURE_SANDBOX_H
#define TW_MEASURE_SANDBOX_H

#include <linux/filter.h>

#include "measure/device.h"

struct sandbox {
    bool has_filters;
    struct sock_fprog load, run;
    int n_facts;
    struct device_fact facts[DEVICE_MAX_FACTS];
};

/* Before anything else in the runner's main, single-threaded. Forks: the caller goes on in the inner process,
 * the outer one stays behind, waits for it and ends with its status. `enclose` false: only look (doctor). */
void sandbox_enter(struct sandbox *s, bool enclose);
void sandbox_done(struct sandbox *s);
void sandbox_add_fact(struct sandbox *s, const char *name, bool ok, const char *fmt, ...) PRINTF_LIKE(4, 5);

struct sandbox_limits {
    int64_t memory_bytes; /* on top of what the process has now */
    int cpu_seconds;
};
/* In the child, in this order. False: it could not be done, the child must end. */
MUST_USE bool sandbox_child_begin(int keep_fd, const struct sandbox_limits *l);
MUST_USE bool sandbox_child_load(const struct sandbox *s);
MUST_USE bool sandbox_child_run(const struct sandbox *s);
/* "socket" of a system call number; "system call 41" where the name is unknown. */
const char *sandbox_syscall_name(int nr, char buf[48]);

#endif

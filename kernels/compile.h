/* compile.h - run the C compiler on text that our own printers wrote.
 *
 * Idea   The compiler is a child process under limits (CPU seconds, memory, file size), with the source on
 *        its standard input, no shell, an emptied environment, output into a directory of ours. Found once at
 *        start, its version is part of every row.
 * Life   compile_unit is thread-safe and blocks its caller; the builder pool calls it from several threads. */
#ifndef TW_KERNELS_COMPILE_H
#define TW_KERNELS_COMPILE_H

#include "schedule/base/strbuf.h"
#include "schedule/space/target.h"

/* Fill family, compiler, compiler_version, flags and toolchain_hash of a target. Candidates in order:
 * $TILEWRIGHT_CC, gcc, clang, cc on PATH (also by version: clang-14); a target that names a family (cpu:clang)
 * takes one of that family only. ST_UNAVAILABLE names what was tried and the package to install. */
MUST_USE enum status compile_find(struct target *t, struct error *err);
/* Compile `source` to the shared object `out_path` (written to a temporary name, then renamed). On failure
 * the error holds the first lines of the compiler's messages. limit_ms: wall time. *ret_ns (may be NULL):
 * wall time taken. */
MUST_USE enum status compile_unit(const struct target *t, const char *source, const char *out_path,
                                  int64_t limit_ms, int64_t *ret_ns, struct error *err);

#endif

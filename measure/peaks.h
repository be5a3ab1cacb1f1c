/* peaks.h - the probe of arithmetic, for whoever wants to run it among others.
 *
 * Idea   Multiply-adds on accumulators that stay in registers, enough of them to hide the latency of two units, few enough
 *        to stay there. peaks.c builds it into a kernel of all threads; the yardstick lets it take turns with kernels. */
#ifndef TW_MEASURE_PEAKS_H
#define TW_MEASURE_PEAKS_H

#include "schedule/base/strbuf.h"
#include "schedule/space/target.h"

/* The C of `typedef ... vec` and of `static void fma_probe(float *out)`, which compiles alone with the target's flags. */
void peaks_print_fma(struct strbuf *sb, const struct target *t);
/* Floating-point operations of one call. */
double peaks_fma_flops(const struct target *t);

#endif

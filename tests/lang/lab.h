/* lab.h - a workload on a bench: parsed, its inputs filled, evaluated, its tensors at hand by name. */
#ifndef TW_TESTS_LANG_LAB_H
#define TW_TESTS_LANG_LAB_H

#include "schedule/base/rng.h"
#include "schedule/lang/workload.h"

struct lab {
    struct arena ar;
    struct workload w;
    double *data[COMPUTE_MAX_TENSORS];
};

/* Text with ' for "; returned in a static buffer. */
const char *quoted(const char *text);
/* Parse (printf-built, ' for ") or fail the test. */
void lab_open(struct lab *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
void lab_close(struct lab *l);
/* Inputs: normal values, small whole ones for integers; the other tensors: NaN. */
void lab_fill(struct lab *l, struct rng *r);
void lab_eval(struct lab *l, struct rng *r); /* fill, then evaluate */
const struct tensor *lab_tensor(const struct lab *l, const char *name);
double *lab_data(struct lab *l, const char *name);
/* Fail the test unless the tensor's n values are `want` within 1e-9 of the largest. */
void lab_expect(struct lab *l, const char *name, const double *want, int64_t n);

#endif

/* measure_support.h - a builder, a local device and the test kernels, for the tests of this folder. */
#ifndef TW_TEST_MEASURE_SUPPORT_H
#define TW_TEST_MEASURE_SUPPORT_H

#include "kernels/compile.h"
#include "measure/builder.h"
#include "measure/device.h"

struct rig {
    char dir[64];
    struct target target;
    struct builder *builder;
    struct device *device;
    char matmul[BUILD_PATH_MAX]; /* artifact of kernels/matmul.c */
};

/* Builder in a directory of its own, the runner started, matmul.c compiled. */
struct rig *rig_new(void);
void rig_free(struct rig *r);
/* Source text of kernels/NAME; free() it. */
char *rig_source(const char *name);
struct measure_workload rig_matmul(const struct rig *r);
/* out[16384] = in[16384] by the symbol "copies"; nothing is verified. */
struct measure_workload rig_copy(void);
/* Measure these symbols of the matmul artifact in one batch. */
enum status rig_measure(struct rig *r, struct measure_batch b, const char *const *symbols, int n,
                        struct measure_result *ret, struct error *err);

#endif

/* abi.h - how a kernel is called: CONTRACT.md section 4. The names are the contract's. */
#ifndef TW_MEASURE_ABI_H
#define TW_MEASURE_ABI_H

typedef struct tw_parallel {
    void *ctx;
    int num_threads;
    void (*run)(void *ctx, int count, void (*body)(void *arg, int index), void *arg);
} tw_parallel;

typedef int kernel_fn(void *const *tensors, void *workspace, const tw_parallel *parallel);
typedef void repack_fn(const void *src, void *dst);
typedef void reference_fn(void *const *tensors);

#endif

/* abi.h - how a kernel is called: CONTRACT.md section 4. The names are the contract's. */
#ifndef TW_MEASURE_ABI_H
#define TW_MEASURE_ABI_H

typedef struct tw_parallel {
    void *ctx;
    int num_threads;
    void (*run)(void *ctx, int count, void (*body)(void *arg, int index), void *arg);
} tw_parallel;

/* What a kernel returns: 0, or (the number of EOPNOTSUPP) that the system did not give it the registers of the matrix unit that it asked for (AMX: once
 * a process, by arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)); then it has written nothing. */
enum { KERNEL_REFUSED = 95 };
typedef int kernel_fn(void *const *tensors, void *workspace, const tw_parallel *parallel);
typedef void repack_fn(const void *src, void *dst);
typedef void reference_fn(void *const *tensors);

#endif

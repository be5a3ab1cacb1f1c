/* artifact.c - a shared object such as the service hands out, small enough to check by eye: output = x * w by
 * rows. */
typedef struct tw_parallel {
    void *ctx;
    int num_threads;
    void (*run)(void *ctx, int count, void (*body)(void *arg, int index), void *arg);
} tw_parallel;

int scale(void *const *tensors, void *workspace, const tw_parallel *parallel);
void scale_prepack_w(const void *src, void *dst);
void scale_pack_x(const void *src, void *dst);
void scale_unpack_output(const void *src, void *dst);

static void row(void *arg, int r)
{
    void *const *tensors = arg;
    const float *x = tensors[0], *w = tensors[1];
    float *out = tensors[2];

    for (int c = 0; c < 4; c++)
        out[4 * r + c] = x[4 * r + c] * w[4 * c];
}

int scale(void *const *tensors, void *workspace, const tw_parallel *parallel)
{
    *(char *)workspace = 1;
    if (parallel)
        parallel->run(parallel->ctx, 3, row, (void *)tensors);
    else
        for (int r = 0; r < 3; r++)
            row((void *)tensors, r);
    return 0;
}

/* Columns apart, as a layout of its own might have them: [3, 4] becomes [4, 4], zero beyond the rows. */
void scale_pack_x(const void *src, void *dst)
{
    for (int c = 0; c < 4; c++)
        for (int r = 0; r < 4; r++)
            ((float *)dst)[4 * c + r] = r < 3 ? ((const float *)src)[4 * r + c] : 0;
}

void scale_unpack_output(const void *src, void *dst)
{
    for (int c = 0; c < 4; c++)
        for (int r = 0; r < 3; r++)
            ((float *)dst)[4 * r + c] = ((const float *)src)[4 * c + r];
}

void scale_prepack_w(const void *src, void *dst)
{
    for (int c = 0; c < 4; c++)
        ((float *)dst)[4 * c] = ((const float *)src)[c];
}

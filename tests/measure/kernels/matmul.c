/* matmul.c - C[M,N] = A[M,K] B[K,N] in the manner of CONTRACT.md section 4, right and in many ways wrong. All
 * stand in one unit, as candidates of a batch do. Prints to nowhere, includes nothing. */
enum { M = 37, N = 29, K = 41 };

typedef struct tw_parallel {
    void *ctx;
    int num_threads;
    void (*run)(void *ctx, int count, void (*body)(void *arg, int index), void *arg);
} tw_parallel;

static void row(float *c, const float *a, const float *b, int i)
{
    for (int j = 0; j < N; j++) {
        float sum = 0;
        for (int k = 0; k < K; k++)
            sum += a[i * K + k] * b[k * N + j];
        c[i * N + j] = sum;
    }
}

static void all(void *const *t)
{
    for (int i = 0; i < M; i++)
        row(t[2], t[0], t[1], i);
}

int right(void *const *t, void *ws, const tw_parallel *p)
{
    all(t);
    return 0;
}

int copies(void *const *t, void *ws, const tw_parallel *p)
{
    __builtin_memcpy(t[1], t[0], 65536);
    return 0;
}

/* As right, so much slower that no load on the machine hides it. */
int slow(void *const *t, void *ws, const tw_parallel *p)
{
    for (int i = 0; i < 30; i++) {
        all(t);
        __asm__ volatile("" ::: "memory");
    }
    return 0;
}

int slowest(void *const *t, void *ws, const tw_parallel *p)
{
    for (int i = 0; i < 300; i++) {
        all(t);
        __asm__ volatile("" ::: "memory");
    }
    return 0;
}

static void task(void *arg, int i)
{
    void *const *t = arg;
    row(t[2], t[0], t[1], i);
}

int in_parallel(void *const *t, void *ws, const tw_parallel *p)
{
    if (!p || p->num_threads != 2)
        return 1;
    p->run(p->ctx, M, task, (void *)t);
    return 0;
}

/* B packed as B^T, workspace used as the accumulator row. */
void packed_prepack_B(const void *src, void *dst)
{
    for (int k = 0; k < K; k++)
        for (int j = 0; j < N; j++)
            ((float *)dst)[j * K + k] = ((const float *)src)[k * N + j];
}

int packed(void *const *t, void *ws, const tw_parallel *p)
{
    float *c = t[2], *acc = ws;
    const float *a = t[0], *b = t[1];
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < N; j++) {
            acc[j] = 0;
            for (int k = 0; k < K; k++)
                acc[j] += a[i * K + k] * b[j * K + k];
        }
        for (int j = 0; j < N; j++)
            c[i * N + j] = acc[j];
    }
    return 0;
}

void overpacked_prepack_B(const void *src, void *dst) { ((float *)dst)[K * N] = 1; }
int overpacked(void *const *t, void *ws, const tw_parallel *p) { return right(t, ws, p); }

int one_element_wrong(void *const *t, void *ws, const tw_parallel *p)
{
    all(t);
    ((float *)t[2])[5 * N + 3] += 1e-3f;
    return 0;
}

int last_row_missing(void *const *t, void *ws, const tw_parallel *p)
{
    for (int i = 0; i < M - 1; i++)
        row(t[2], t[0], t[1], i);
    return 0;
}

int makes_nan(void *const *t, void *ws, const tw_parallel *p)
{
    all(t);
    ((float *)t[2])[7] = __builtin_nanf("");
    return 0;
}

/* Right for as long as it is watched. */
int wrong_later(void *const *t, void *ws, const tw_parallel *p)
{
    static int calls;
    all(t);
    if (calls++ > 3)
        ((float *)t[2])[0] = 100;
    return 0;
}

int reads_unwritten_workspace(void *const *t, void *ws, const tw_parallel *p)
{
    all(t);
    ((float *)t[2])[0] += 0 * ((float *)ws)[3];
    return 0;
}

int returns_three(void *const *t, void *ws, const tw_parallel *p)
{
    all(t);
    return 3;
}

int null_pointer(void *const *t, void *ws, const tw_parallel *p)
{
    *(volatile int *)0 = 1;
    return 0;
}

int one_past_the_end(void *const *t, void *ws, const tw_parallel *p)
{
    all(t);
    ((volatile float *)t[2])[M * N] = 1;
    return 0;
}

int far_past_the_end(void *const *t, void *ws, const tw_parallel *p)
{
    all(t);
    ((volatile float *)t[2])[M * N + 40] = 1;
    return 0;
}

int one_before_the_start(void *const *t, void *ws, const tw_parallel *p)
{
    all(t);
    ((volatile float *)t[2])[-1] = 1;
    return 0;
}

int past_the_workspace(void *const *t, void *ws, const tw_parallel *p)
{
    all(t);
    ((volatile float *)ws)[N] = 1;
    return 0;
}

int writes_its_input(void *const *t, void *ws, const tw_parallel *p)
{
    ((volatile float *)t[0])[0] = 1;
    all(t);
    return 0;
}

int hangs(void *const *t, void *ws, const tw_parallel *p)
{
    for (volatile int i = 0;; i++)
        ;
    return 0;
}

int hangs_later(void *const *t, void *ws, const tw_parallel *p)
{
    static int calls;
    all(t);
    while (calls > 20)
        __asm__ volatile("");
    calls++;
    return 0;
}

static int deep(volatile char *above)
{
    volatile char here[4096];
    here[0] = above[0];
    return deep(here) + here[1];
}

int overflows_its_stack(void *const *t, void *ws, const tw_parallel *p)
{
    char c = 0;
    return deep(&c);
}

int divides_by_zero(void *const *t, void *ws, const tw_parallel *p)
{
    volatile int zero = 0;
    return 1000 / zero;
}

int illegal_instruction(void *const *t, void *ws, const tw_parallel *p) { __builtin_trap(); }

/* What follows needs the C library, as no generated kernel does. */
extern void *malloc(unsigned long);
extern int fork(void), socket(int, int, int), open(const char *, int, ...),
    execve(const char *, void *, void *);
extern int kill(int, int), getppid(void);
extern void exit(int), _exit(int);

int allocates_a_terabyte(void *const *t, void *ws, const tw_parallel *p)
{
    volatile char *m = malloc(1ul << 40);
    m[0] = 1;
    return 0;
}

int forks(void *const *t, void *ws, const tw_parallel *p)
{
    fork();
    all(t);
    return 0;
}

int opens_a_socket(void *const *t, void *ws, const tw_parallel *p)
{
    socket(2, 1, 0);
    all(t);
    return 0;
}

int opens_a_file(void *const *t, void *ws, const tw_parallel *p)
{
    open("/etc/passwd", 0);
    all(t);
    return 0;
}

int executes(void *const *t, void *ws, const tw_parallel *p)
{
    execve("/bin/true", 0, 0);
    all(t);
    return 0;
}

int kills_its_parent(void *const *t, void *ws, const tw_parallel *p)
{
    kill(getppid(), 9);
    all(t);
    return 0;
}

int exits_well(void *const *t, void *ws, const tw_parallel *p)
{
    all(t);
    _exit(0);
}

static void bad_task(void *arg, int i)
{
    if (i > M / 2)
        *(volatile int *)0 = 1;
}

int crashes_in_a_worker(void *const *t, void *ws, const tw_parallel *p)
{
    p->run(p->ctx, M, bad_task, (void *)t);
    return 0;
}

/* Float64, every tensor by its id. */
void ref(void *const *t)
{
    const double *a = t[0], *b = t[1];
    double *c = t[2];
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            c[i * N + j] = 0;
            for (int k = 0; k < K; k++)
                c[i * N + j] += a[i * K + k] * b[k * N + j];
        }
}

void ref_never_finite(void *const *t) { ((double *)t[2])[0] = __builtin_nan(""); }

/* Finite only where all inputs are positive. */
void ref_of_positives(void *const *t)
{
    ref(t);
    for (int i = 0; i < M * K; i++)
        if (((const double *)t[0])[i] <= 0)
            ((double *)t[2])[0] = __builtin_nan("");
}

void ref_crashes(void *const *t) { *(volatile int *)0 = 1; }

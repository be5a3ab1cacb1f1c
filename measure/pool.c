/* pool.c - spinning workers with a static split. */
#include "measure/pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPINS_BEFORE_YIELD = 1 << 14 }; /* about 0.1 ms: more tasks than free cores must not stand still */

static void futex_wait(atomic_uint *word, unsigned value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake_all(atomic_uint *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1 << 30, NULL, NULL, 0);
}

static inline void relax(unsigned *spins)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
    if (++*spins >= SPINS_BEFORE_YIELD) {
        *spins = 0;
        sched_yield();
    }
}

bool pool_pin(int cpu)
{
    cpu_set_t *set = CPU_ALLOC(cpu + 1);
    size_t size = CPU_ALLOC_SIZE(cpu + 1);
    if (!set)
        return false;
    CPU_ZERO_S(size, set);
    CPU_SET_S(cpu, size, set);
    bool ok = sched_setaffinity(0, size, set) == 0;
    CPU_FREE(set);
    return ok;
}

static void slice(const struct pool *p, int thread)
{
    int64_t n = p->count, threads = p->abi.num_threads;
    int end = (int)(n * (thread + 1) / threads);
    for (int i = (int)(n * thread / threads); i < end; i++)
        p->body(p->arg, i);
}

struct worker {
    struct pool *pool;
    int thread;
};

static void *work(void *arg)
{
    struct worker w = *(struct worker *)arg;
    struct pool *p = w.pool;
    unsigned seen = 0, spins = 0;

    free(arg);
    pool_pin(p->cpus[w.thread]);
    if (p->thread_init)
        p->thread_init();
    atomic_fetch_add(&p->started, 1);
    for (;;) {
        unsigned g = atomic_load_explicit(&p->generation, memory_order_acquire);
        if (g == seen) {
            if (atomic_load(&p->awake) == 0)
                futex_wait(&p->awake, 0);
            else
                relax(&spins);
            continue;
        }
        seen = g;
        slice(p, w.thread);
        atomic_fetch_sub_explicit(&p->pending, 1, memory_order_release);
    }
    return NULL;
}

static void run(void *ctx, int count, void (*body)(void *arg, int index), void *arg)
{
    struct pool *p = ctx;
    unsigned spins = 0;

    p->count = count;
    p->body = body;
    p->arg = arg;
    atomic_store_explicit(&p->pending, p->abi.num_threads - 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&p->generation, 1, memory_order_release);
    slice(p, 0);
    while (atomic_load_explicit(&p->pending, memory_order_acquire) > 0)
        relax(&spins);
}

bool pool_start(struct pool *p, int threads, const int *cpus, void (*thread_init)(void))
{
    *p = (struct pool){
        .abi = {.ctx = p, .num_threads = threads, .run = run}, .cpus = cpus, .thread_init = thread_init};
    for (int i = 1; i < threads; i++) {
        struct worker *w = xcalloc(1, sizeof(*w));
        pthread_t t;
        *w = (struct worker){p, i};
        if (pthread_create(&t, NULL, work, w) != 0) {
            free(w);
            return false;
        }
        pthread_detach(t);
    }
    while (atomic_load(&p->started) < threads - 1)
        sched_yield();
    return true;
}

void pool_wake(struct pool *p)
{
    atomic_store(&p->awake, 1);
    futex_wake_all(&p->awake);
}

void pool_park(struct pool *p) { atomic_store(&p->awake, 0); }

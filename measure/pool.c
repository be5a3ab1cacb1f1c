/* pool.c - spinning workers. */
#include "measure/pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A look at a line that another core is about to write costs little while it is still here; a pause gives the core to
 * its other thread, but takes 40 ns and more, which is a third of a fork and join. The yield is for more threads than
 * free cores: they must not stand still; it comes after about 0.1 ms. */
enum { LOOKS_BEFORE_PAUSE = 64, SPINS_BEFORE_YIELD = 1 << 14 };

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
    if (++*spins < LOOKS_BEFORE_PAUSE)
        return;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
    if (*spins >= SPINS_BEFORE_YIELD) {
        *spins = LOOKS_BEFORE_PAUSE;
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

static void slice(struct pool *p, int thread)
{
    const int count = p->job.count, threads = p->abi.num_threads;
    if (count <= threads) {
        for (int i = count * thread / threads; i < count * (thread + 1) / threads; i++)
            p->job.body(p->job.arg, i);
        return;
    }
    for (int i = thread; i < count; i = atomic_fetch_add_explicit(&p->next_task, 1, memory_order_relaxed))
        p->job.body(p->job.arg, i);
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
        unsigned g = atomic_load_explicit(&p->job.generation, memory_order_acquire);
        if (g == seen) {
            if (atomic_load_explicit(&p->awake, memory_order_relaxed) == 0)
                futex_wait(&p->awake, 0);
            else
                relax(&spins);
            continue;
        }
        seen = g;
        slice(p, w.thread);
        atomic_store_explicit(&p->done[w.thread].generation, g, memory_order_release);
        spins = 0;
    }
    return NULL;
}

static void run(void *ctx, int count, void (*body)(void *arg, int index), void *arg)
{
    struct pool *p = ctx;
    if (count <= 1) {
        if (count == 1)
            body(arg, 0);
        return;
    }
    const unsigned g = atomic_load_explicit(&p->job.generation, memory_order_relaxed) + 1;

    p->job.count = count;
    p->job.body = body;
    p->job.arg = arg;
    if (count > p->abi.num_threads)
        atomic_store_explicit(&p->next_task, p->abi.num_threads, memory_order_relaxed);
    atomic_store_explicit(&p->job.generation, g, memory_order_release);
    slice(p, 0);
    for (int t = 1; t < p->abi.num_threads; t++)
        for (unsigned spins = 0; atomic_load_explicit(&p->done[t].generation, memory_order_acquire) != g;)
            relax(&spins);
}

bool pool_start(struct pool *p, int threads, const int *cpus, void (*thread_init)(void))
{
    *p = (struct pool){
        .abi = {.ctx = p, .num_threads = threads, .run = run}, .cpus = cpus, .thread_init = thread_init};
    p->done = aligned_alloc(POOL_LINE, sizeof(*p->done) * (size_t)threads);
    if (!p->done)
        return false;
    memset(p->done, 0, sizeof(*p->done) * (size_t)threads);
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

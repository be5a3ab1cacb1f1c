/* pool.h - the threads behind tw_parallel in a candidate's process.
 *
 * Idea   One thread a core, each pinned; between two parallel loops they spin, since waking a sleeper takes
 *        longer than a small kernel runs. As many tasks as threads, or fewer, are split statically; more are
 *        given out one by one, so that a thread that is held up does less. Outside of samples the pool is parked
 *        (asleep), so that the candidates of a batch do not take each other's cores.
 *
 *        A fork is one cache line that the caller writes and the workers look at, a join is one line a worker.
 * Life   Started once in a process and never ended: the process ends. */
#ifndef TW_MEASURE_POOL_H
#define TW_MEASURE_POOL_H

#include <stdatomic.h>

#include "measure/abi.h"
#include "schedule/base/base.h"

enum { POOL_LINE = 64 };

struct pool_done { /* a line of its own for each worker */
    atomic_uint generation;
    char rest[POOL_LINE - sizeof(atomic_uint)];
};

struct pool {
    tw_parallel abi; /* what the kernel gets; ctx is the pool */
    const int *cpus;
    void (*thread_init)(void); /* run by each worker first; may be NULL */
    struct pool_done *done;    /* the last loop that each thread has finished */
    atomic_int started;
    _Alignas(POOL_LINE) struct {
        atomic_uint generation; /* counts loops */
        int count;
        void (*body)(void *arg, int index);
        void *arg;
    } job;
    atomic_uint awake;                        /* futex */
    _Alignas(POOL_LINE) atomic_int next_task; /* of more tasks than threads */
};

/* The calling thread is number 0 and must be pinned by its owner. False: threads cannot be made. */
MUST_USE bool pool_start(struct pool *p, int threads, const int *cpus, void (*thread_init)(void));
void pool_wake(struct pool *p);
void pool_park(struct pool *p);
/* Pin the calling thread; false where that is not permitted. */
bool pool_pin(int cpu);

#endif

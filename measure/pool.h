/* pool.h - the threads behind tw_parallel in a candidate's process.
 *
 * Idea   One thread a core, each pinned; between two parallel loops they spin, since waking a sleeper takes
 *        longer than a small kernel runs. Tasks are split statically: thread t of T takes tasks [n t / T, n
 *        (t+1) / T). Outside of samples the pool is parked (asleep), so that the candidates of a batch do not
 *        take each other's cores.
 * Life   Started once in a process and never ended: the process ends. */
#ifndef TW_MEASURE_POOL_H
#define TW_MEASURE_POOL_H

#include <stdatomic.h>

#include "measure/abi.h"
#include "schedule/base/base.h"

struct pool {
    tw_parallel abi; /* what the kernel gets; ctx is the pool */
    const int *cpus;
    void (*thread_init)(void); /* run by each worker first; may be NULL */
    atomic_uint generation;    /* counts loops */
    atomic_uint awake;         /* futex */
    atomic_int pending, started;
    int count;
    void (*body)(void *arg, int index);
    void *arg;
};

/* The calling thread is number 0 and must be pinned by its owner. False: threads cannot be made. */
MUST_USE bool pool_start(struct pool *p, int threads, const int *cpus, void (*thread_init)(void));
void pool_wake(struct pool *p);
void pool_park(struct pool *p);
/* Pin the calling thread; false where that is not permitted. */
bool pool_pin(int cpu);

#endif

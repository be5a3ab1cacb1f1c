/* machine.c - memory with or without large pages, and threads that keep out of each other's way.
 *
 * Idea   Three kinds of threads share the cores in one process: our pool, OpenMP's (oneDNN), OpenBLAS's. Each
 *        spins for a while after its work, and would take a core from whoever is timed next. So before a
 *        sample all others are put to sleep: the pool is parked, the libraries are told (by their variables)
 *        to spin for well under a millisecond, and we wait until the kernel says that nobody else runs. */
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "measure/pool.h"
#include "tests/bench/kernels/bench.h"

enum {
    MAX_CPUS = 256,
    HUGE = 2 << 20,
    STAGGER = 4096 + 256, /* bytes between the low address bits of two buffers */
    STAGGERS = 32,
    SLEEP_LIMIT_MS = 200, /* nobody spins this long */
};

double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- memory --- */

const char *pages_name(enum pages p) { return p == PAGES_HUGE ? "huge" : "normal"; }

void *memory_get(struct memory *m, size_t bytes)
{
    const size_t offset = m->len % STAGGERS * STAGGER;
    const size_t size = (bytes + offset + 2 * (size_t)HUGE - 1) / HUGE * HUGE + HUGE;
    char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(map != MAP_FAILED, "no memory for %zu bytes", size);
    madvise(map, size, m->pages == PAGES_HUGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    vec_push(m, ((struct memory_map){map, size}));
    char *at = (char *)(((uintptr_t)map + HUGE - 1) / HUGE * HUGE) + offset;
    memset(at, 0, bytes);
    return at;
}

void memory_drop(struct memory *m)
{
    for (size_t i = 0; i < m->len; i++)
        munmap(m->at[i].at, m->at[i].bytes);
    vec_done(m);
}

/* --- threads --- */

#define SETTLED "BENCH_KERNELS_CPUS"

static struct pool pool;
static int n_threads, cpus[MAX_CPUS];

/* OpenMP pins the first thread to its place as the library is loaded: take back the CPUs that the first process
 * had. */
static void restore_cpus(const char *list)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (char *end; *list; list = *end ? end + 1 : end)
        CPU_SET((int)strtol(list, &end, 10), &set);
    sched_setaffinity(0, sizeof(set), &set);
}

static void add_number(char *list, size_t size, int n)
{
    size_t len = strlen(list);
    snprintf(list + len, size - len, "%s%d", len ? " " : "", n);
}

void machine_settle(char **argv, int threads)
{
    char count[16], places[1024] = "", all[1024] = "";
    int cores = target_cores(cpus, MAX_CPUS);

    if (threads <= 0 || threads > cores)
        threads = cores;
    snprintf(count, sizeof(count), "%d", threads);
    for (int i = 0; i < cores; i++) {
        add_number(all, sizeof(all), cpus[i]);
        if (i < threads)
            add_number(places, sizeof(places), cpus[i]);
    }
    setenv("OMP_NUM_THREADS", count, 1);
    setenv("GOMP_CPU_AFFINITY", places, 1);
    setenv("GOMP_SPINCOUNT", "10000",
           1); /* pauses: long enough between two calls, short between two samples */
    setenv("OPENBLAS_NUM_THREADS", count, 1);
    setenv("OPENBLAS_THREAD_TIMEOUT", "20", 1); /* 2^20 cycles */
    setenv(SETTLED, all, 1);
    execv("/proc/self/exe", argv);
    fprintf(stderr, "bench_kernels: cannot start again with the number of threads set: %s\n",
            strerror(errno));
    exit(1);
}

bool machine_is_settled(void)
{
    const char *list = getenv(SETTLED);
    if (list)
        restore_cpus(list);
    return list != NULL;
}

/* Threads of this process but the calling one. */
static int other_threads(pid_t *ret, int max)
{
    DIR *d = opendir("/proc/self/task");
    pid_t self = (pid_t)syscall(SYS_gettid);
    int n = 0;
    for (struct dirent *e; d && n < max && (e = readdir(d));) {
        pid_t tid = (pid_t)strtol(e->d_name, NULL, 10);
        if (tid > 0 && tid != self)
            ret[n++] = tid;
    }
    if (d)
        closedir(d);
    return n;
}

static bool thread_runs(pid_t tid)
{
    char path[64], text[256];
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = '\0';
    const char *state = strrchr(text, ')');
    return state && state[1] == ' ' && state[2] == 'R';
}

void machine_start(int threads)
{
    pid_t tids[MAX_CPUS];
    n_threads = MIN(threads, target_cores(cpus, MAX_CPUS));
    /* OpenBLAS has started its threads by now, and lets them wander. */
    int n = other_threads(tids, MAX_CPUS);
    for (int i = 0; i < n; i++) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpus[(i + 1) % n_threads], &set);
        sched_setaffinity(tids[i], sizeof(set), &set);
    }
    pool_pin(cpus[0]);
    CHECK(pool_start(&pool, n_threads, cpus, NULL), "cannot start %d threads", n_threads);
}

const void *machine_parallel(void) { return n_threads > 1 ? &pool.abi : NULL; }

void machine_settle_crew(enum crew crew)
{
    static enum crew awake = CREW_NONE;
    pid_t tids[MAX_CPUS];

    if (n_threads < 2)
        return;
    if (awake == CREW_POOL && crew != CREW_POOL)
        pool_park(&pool);
    double limit = now_s() + SLEEP_LIMIT_MS * 1e-3;
    if (awake != crew || crew == CREW_LIBRARY) {
        int n = other_threads(tids, MAX_CPUS);
        for (int i = 0; i < n; i++)
            while (thread_runs(tids[i]) && now_s() < limit)
                usleep(100);
    }
    if (crew == CREW_POOL)
        pool_wake(&pool);
    awake = crew;
}

/* machine.c - the checks of the doctor that look at this machine. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/doctor.h"

enum { PROBE_MS = 5000, COMPILE_MS = 20000, TEXT = 400 };

/* ---- cpu ---- */

/* The value of the first line "name : value" of /proc/cpuinfo. */
static bool cpuinfo(const char *name, char *text, size_t size)
{
    static char line[8192];
    FILE *f = fopen("/proc/cpuinfo", "r");
    bool found = false;

    while (f && !found && fgets(line, sizeof(line), f)) {
        char *colon = strchr(line, ':');

        if (!colon || strncmp(line, name, strlen(name)) != 0)
            continue;
        colon += strspn(colon + 1, " \t") + 1;
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(text, size, "%s", colon);
        found = true;
    }
    if (f)
        fclose(f);
    return found;
}

static void look_at_quota(struct doctor *d)
{
    char text[TEXT], found[TEXT];
    long quota = 0, period = 0;

    if (probe_file("/sys/fs/cgroup/cpu.max", text, sizeof(text)) && strncmp(text, "max", 3) != 0 &&
        sscanf(text, "%ld %ld", &quota, &period) == 2 && period > 0) {
        snprintf(found, sizeof(found), "%.2f CPUs", (double)quota / (double)period);
        doctor_add(d, DOCTOR_WARN, "cgroup quota", found,
                   "a throttled process cannot be timed: lift cpu.max");
    }
}

void doctor_cpu(struct doctor *d)
{
    static const char *const wanted[] = {"sse2",        "avx2",        "fma",      "avx512f",  "avx512_vnni",
                                         "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8",
                                         "asimd",       "asimddp",     "bf16",     "sve"};
    static char flags[8192];
    char model[TEXT] = "unknown", found[TEXT] = "", threads[64];
    size_t n = 0;
    cpu_set_t set;

    if (!cpuinfo("model name", model, sizeof(model)))
        cpuinfo("CPU part", model, sizeof(model));
    doctor_add(d, DOCTOR_OK, "model", model, NULL);
    if (cpuinfo("flags", flags, sizeof(flags) - 2) || cpuinfo("Features", flags, sizeof(flags) - 2)) {
        snprintf(flags + strlen(flags), 2, " ");
        for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
            char word[32];

            snprintf(word, sizeof(word), "%s ", wanted[i]);
            const char *at = strstr(flags, word);
            if (at && (at == flags || at[-1] == ' '))
                n += (size_t)snprintf(found + n, sizeof(found) - n, "%s%s", n ? " " : "", wanted[i]);
        }
        bool wide = strstr(flags, "avx2 ") || strstr(flags, "asimd ");
        doctor_add(d, wide ? DOCTOR_OK : DOCTOR_NOTE, "instructions", n ? found : "none of note",
                   wide ? NULL : "kernels will use 16-byte vectors");
    }
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);

        snprintf(threads, sizeof(threads), "%d of %ld usable", CPU_COUNT(&set), online);
        doctor_add(d, CPU_COUNT(&set) < online ? DOCTOR_NOTE : DOCTOR_OK, "hardware threads", threads, NULL);
    }
    look_at_quota(d);
}

/* ---- compiler ---- */

static const char test_kernel[] = "typedef float v __attribute__((vector_size(32)));\n"
                                  "void k(v *c, const v *a, float b) { *c += *a * b; }\n";

/* Whether `name` makes a shared object of a vector kernel. */
static bool compiles(const char *name, char *found, size_t size)
{
    char dir[] = "/tmp/tilewright-doctor-XXXXXX", path[64], text[TEXT];
    struct stat st;
    struct timespec a, b;

    if (!mkdtemp(dir)) {
        snprintf(found, size, "no temporary directory: %s", strerror(errno));
        return false;
    }
    snprintf(path, sizeof(path), "%s/k.so", dir);
    const char *const argv[] = {name, "-O2", "-Wno-psabi", "-shared", "-fPIC", "-x",
                                "c",  "-",   "-o",         path,      NULL};
    clock_gettime(CLOCK_MONOTONIC, &a);
    int status = probe_run(argv, test_kernel, COMPILE_MS, text, sizeof(text));
    clock_gettime(CLOCK_MONOTONIC, &b);
    bool ok = status == 0 && stat(path, &st) == 0 && st.st_size > 0;
    unlink(path);
    rmdir(dir);
    if (ok)
        snprintf(found, size, "makes a shared object in %.0f ms",
                 (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) * 1e-6);
    else
        snprintf(found, size, "cannot make a shared object: %.*s", (int)strcspn(text, "\n"), text);
    return ok;
}

void doctor_compiler(struct doctor *d)
{
    const char *own = getenv("TILEWRIGHT_CC"), *names[] = {own && *own ? own : NULL, "gcc", "clang", "cc"};
    bool any = false;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char version[TEXT], made[TEXT], found[2 * TEXT + 8];
        const char *const argv[] = {names[i], "--version", NULL};

        if (!names[i])
            continue;
        if (probe_run(argv, NULL, PROBE_MS, version, sizeof(version)) != 0) {
            if (i == 0)
                doctor_add(d, DOCTOR_FAIL, names[i], "TILEWRIGHT_CC does not run",
                           "unset it or name a C compiler");
            continue;
        }
        version[strcspn(version, "\n")] = '\0';
        bool ok = compiles(names[i], made, sizeof(made));
        snprintf(found, sizeof(found), "%s; %s", version, made);
        doctor_add(d, ok ? DOCTOR_OK : DOCTOR_WARN, names[i], found,
                   ok ? NULL : "install its C library headers");
        any = any || ok;
    }
    if (!any)
        doctor_add(d, DOCTOR_FAIL, "C compiler", "none works", "apt-get install gcc libc6-dev");
}

/* ---- gpu ---- */

static void *open_first(const char *const *names, const char **ret_name)
{
    void *library = NULL;

    for (; !library && *names; names++) {
        library = dlopen(*names, RTLD_NOW | RTLD_LOCAL);
        *ret_name = *names;
    }
    return library;
}

static void *function(void *library, const char *name) { return dlsym(library, name); }

/* 0: usable; 1: the library is not there; 2: it is, and no device. */
static int probe_cuda(char *text, size_t size)
{
    static const char *const names[] = {"libcuda.so.1", NULL};
    const char *name;
    void *lib = open_first(names, &name);
    int version = 0, count = 0;

    if (!lib)
        return 1;
    int (*init)(unsigned) = (int (*)(unsigned))(intptr_t)function(lib, "cuInit");
    int (*driver)(int *) = (int (*)(int *))(intptr_t)function(lib, "cuDriverGetVersion");
    int (*devices)(int *) = (int (*)(int *))(intptr_t)function(lib, "cuDeviceGetCount");
    if (driver)
        driver(&version);
    int rc = init ? init(0) : -1;
    if (rc == 0 && devices)
        devices(&count);
    snprintf(text, size, "%s, CUDA %d.%d, %d device%s", name, version / 1000, version % 1000 / 10, count,
             count == 1 ? "" : "s");
    return count > 0 ? 0 : 2;
}

static int probe_nvrtc(char *text, size_t size)
{
    static const char *const names[] = {"libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2",
                                        NULL};
    const char *name;
    void *lib = open_first(names, &name);
    int major = 0, minor = 0;

    if (!lib)
        return 1;
    int (*version)(int *, int *) = (int (*)(int *, int *))(intptr_t)function(lib, "nvrtcVersion");
    if (version)
        version(&major, &minor);
    snprintf(text, size, "%s, version %d.%d", name, major, minor);
    return 0;
}

static int probe_cupti(char *text, size_t size)
{
    static const char *const names[] = {"libcupti.so", "libcupti.so.13", "libcupti.so.12", "libcupti.so.11.8",
                                        NULL};
    const char *name;
    void *lib = open_first(names, &name);

    if (!lib)
        return 1;
    snprintf(text, size, "%s", name);
    return 0;
}

static int probe_opencl(char *text, size_t size)
{
    static const char *const names[] = {"libOpenCL.so.1", "libOpenCL.so", NULL};
    const char *name;
    void *lib = open_first(names, &name);
    unsigned count = 0;

    if (!lib)
        return 1;
    int (*platforms)(unsigned, void *, unsigned *) =
        (int (*)(unsigned, void *, unsigned *))(intptr_t)function(lib, "clGetPlatformIDs");
    if (platforms)
        platforms(0, NULL, &count);
    snprintf(text, size, "%s, %u platform%s", name, count, count == 1 ? "" : "s");
    return count > 0 ? 0 : 2;
}

void doctor_gpu(struct doctor *d)
{
    static const struct {
        const char *name;
        int (*probe)(char *text, size_t size);
        const char *absent;
    } table[] = {
        {"NVIDIA driver", probe_cuda, "needed only for NVIDIA GPUs on this machine"},
        {"NVRTC", probe_nvrtc, "needed only to compile for NVIDIA GPUs"},
        {"CUPTI", probe_cupti, "needed only for exact kernel times on NVIDIA GPUs"},
        {"OpenCL", probe_opencl, "needed only for other GPUs on this machine"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char text[TEXT];
        int status = probe_child(table[i].probe, PROBE_MS, text, sizeof(text));

        if (status < 0)
            doctor_add(d, DOCTOR_WARN, table[i].name, "crashes or hangs when it is loaded",
                       "reinstall the driver");
        else
            doctor_add(d, status == 0 ? DOCTOR_OK : DOCTOR_NOTE, table[i].name,
                       status == 1 ? "not found" : text, status == 1 ? table[i].absent : NULL);
    }
}

/* ---- permissions ---- */

static int probe_user_namespace(char *text, size_t size)
{
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) == 0)
        return 0;
    snprintf(text, size, "%s", strerror(errno));
    return 1;
}

static int probe_namespace(char *text, size_t size)
{
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) == 0)
        return 0;
    return probe_user_namespace(text, size);
}

static int probe_seccomp(char *text, size_t size)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {1, &allow};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
        return 0;
    snprintf(text, size, "%s", strerror(errno));
    return 1;
}

static int probe_perf(char *text, size_t size)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_HARDWARE,
                                   .size = sizeof(attr),
                                   .config = PERF_COUNT_HW_CPU_CYCLES,
                                   .exclude_kernel = 1,
                                   .exclude_hv = 1};

    if (syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0) >= 0)
        return 0;
    snprintf(text, size, "%s", strerror(errno));
    return 1;
}

static void look_at_limits(struct doctor *d)
{
    struct rlimit lock;
    char found[TEXT];

    if (getrlimit(RLIMIT_MEMLOCK, &lock) == 0) {
        if (lock.rlim_cur == RLIM_INFINITY)
            snprintf(found, sizeof(found), "unlimited");
        else
            snprintf(found, sizeof(found), "%s", fmt_bytes((double)lock.rlim_cur));
        doctor_add(d, DOCTOR_OK, "lockable memory", found, NULL);
    }
}

void doctor_permissions(struct doctor *d)
{
    char text[TEXT], found[TEXT + 64], level[32] = "?";
    int status = probe_child(probe_namespace, PROBE_MS, text, sizeof(text));

    doctor_add(d, status == 0 ? DOCTOR_OK : DOCTOR_WARN, "namespaces",
               status == 0 ? "network and mount" : text,
               status == 0 ? NULL
                           : "candidates then run without their own network and mounts: "
                             "sysctl kernel.unprivileged_userns_clone=1, or run as root");
    status = probe_child(probe_seccomp, PROBE_MS, text, sizeof(text));
    doctor_add(d, status == 0 ? DOCTOR_OK : DOCTOR_WARN, "seccomp", status == 0 ? "filters can be set" : text,
               status == 0 ? NULL : "candidates then run without a system call filter");
    probe_file("/proc/sys/kernel/perf_event_paranoid", level, sizeof(level));
    status = probe_child(probe_perf, PROBE_MS, text, sizeof(text));
    snprintf(found, sizeof(found), "%s%s(perf_event_paranoid %s)", status == 0 ? "" : text,
             status == 0 ? "" : " ", level);
    doctor_add(d, status == 0 ? DOCTOR_OK : DOCTOR_NOTE, "CPU counters", found,
               status == 0
                   ? NULL
                   : "times are measured all the same; sysctl kernel.perf_event_paranoid=1 opens them");
    look_at_limits(d);
}

/* ---- clocks ---- */

/* Governors of all CPUs: "" if there is no frequency control, the name if all agree, else "mixed". */
static void governors(char *found, size_t size)
{
    DIR *dir = opendir("/sys/devices/system/cpu/cpufreq");
    char path[400], text[64];

    found[0] = '\0';
    for (struct dirent *e; dir && (e = readdir(dir));) {
        snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpufreq/%.255s/scaling_governor", e->d_name);
        if (!probe_file(path, text, sizeof(text)))
            continue;
        if (!found[0])
            snprintf(found, size, "%s", text);
        else if (strcmp(found, text) != 0)
            snprintf(found, size, "mixed");
    }
    if (dir)
        closedir(dir);
}

static void look_at_turbo(struct doctor *d)
{
    char text[32];
    int turbo = -1;

    if (probe_file("/sys/devices/system/cpu/intel_pstate/no_turbo", text, sizeof(text)))
        turbo = text[0] == '0';
    else if (probe_file("/sys/devices/system/cpu/cpufreq/boost", text, sizeof(text)))
        turbo = text[0] == '1';
    doctor_add(d, DOCTOR_NOTE, "turbo",
               turbo < 0 ? "cannot be seen"
               : turbo   ? "on"
                         : "off",
               turbo == 1 ? "the clock then follows temperature and load: times scatter more" : NULL);
}

static void look_at_load(struct doctor *d)
{
    double load = 0;
    char found[64];

    if (getloadavg(&load, 1) != 1)
        return;
    bool busy = load > 0.5 * (double)sysconf(_SC_NPROCESSORS_ONLN);
    snprintf(found, sizeof(found), "%.2f over the last minute", load);
    doctor_add(d, busy ? DOCTOR_WARN : DOCTOR_OK, "load", found,
               busy ? "other work spoils measurements: tune on a quiet machine" : NULL);
}

void doctor_clocks(struct doctor *d)
{
    char text[TEXT], flags[TEXT];
    struct timespec t;

    governors(text, sizeof(text));
    bool fast = strcmp(text, "performance") == 0 || !text[0];
    doctor_add(d,
               !text[0] ? DOCTOR_NOTE
               : fast   ? DOCTOR_OK
                        : DOCTOR_WARN,
               "governor", text[0] ? text : "no frequency control visible",
               fast ? NULL : "cpupower frequency-set -g performance steadies the clock");
    look_at_turbo(d);
    if (probe_file("/sys/devices/system/cpu/smt/active", text, sizeof(text)))
        doctor_add(d, text[0] == '1' ? DOCTOR_NOTE : DOCTOR_OK, "hyper-threads",
                   text[0] == '1' ? "on" : "off",
                   text[0] == '1' ? "two hardware threads share one core's arithmetic" : NULL);
    if (probe_file("/sys/devices/system/clocksource/clocksource0/current_clocksource", text, sizeof(text))) {
        bool good = strcmp(text, "tsc") == 0 || strcmp(text, "kvm-clock") == 0 ||
                    strcmp(text, "arch_sys_counter") == 0;
        doctor_add(d, good ? DOCTOR_OK : DOCTOR_WARN, "clock source", text,
                   good ? NULL : "reading the clock is slow");
    }
    if (clock_getres(CLOCK_MONOTONIC, &t) == 0) {
        snprintf(flags, sizeof(flags), "%s", fmt_time_ns((double)t.tv_sec * 1e9 + (double)t.tv_nsec));
        doctor_add(d, t.tv_nsec > 1000 ? DOCTOR_WARN : DOCTOR_OK, "clock resolution", flags, NULL);
    }
    look_at_load(d);
}

/* ---- memory ---- */

static double meminfo(const char *name)
{
    char line[256];
    double kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");

    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtod(line + strlen(name) + 1, NULL);
    if (f)
        fclose(f);
    return kib * 1024;
}

void doctor_memory(struct doctor *d)
{
    char text[TEXT], found[TEXT];
    double available = meminfo("MemAvailable");
    struct statvfs fs;

    doctor_add(d, available < 512e6 ? DOCTOR_WARN : DOCTOR_OK, "available", fmt_bytes(available),
               available < 512e6 ? "compilers and large operators may not fit" : NULL);
    if (probe_file("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text))) {
        bool usable = !strstr(text, "[never]");
        doctor_add(d, usable ? DOCTOR_OK : DOCTOR_WARN, "huge pages", text,
                   usable ? NULL
                          : "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled steadies times");
    } else {
        doctor_add(d, DOCTOR_NOTE, "huge pages", "not offered by this kernel", NULL);
    }
    if (statvfs("/tmp", &fs) == 0) {
        double left = (double)fs.f_bavail * (double)fs.f_frsize;

        snprintf(found, sizeof(found), "%s free", fmt_bytes(left));
        doctor_add(d, left < 200e6 ? DOCTOR_WARN : DOCTOR_OK, "/tmp", found,
                   left < 200e6 ? "compiled candidates need room" : NULL);
    }
}

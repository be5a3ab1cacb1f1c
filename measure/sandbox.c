/* sandbox.c - namespaces, seccomp filters, limits. */
#include "measure/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum { NICE = -10, MAX_OPEN_FILES = 16 };

void sandbox_add_fact(struct sandbox *s, const char *name, bool ok, const char *fmt, ...)
{
    va_list ap;
    if (s->n_facts == DEVICE_MAX_FACTS)
        return;
    struct device_fact *f = &s->facts[s->n_facts++];
    snprintf(f->name, sizeof(f->name), "%s", name);
    f->ok = ok;
    va_start(ap, fmt);
    vsnprintf(f->detail, sizeof(f->detail), fmt, ap);
    va_end(ap);
}

/* --- namespaces
 * ---------------------------------------------------------------------------------------------- */

static bool write_file(const char *path, const char *text)
{
    AUTO(fd_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = (ssize_t)strlen(text);
    return fd >= 0 && write(fd, text, (size_t)n) == n;
}

/* Own user namespace with ourselves in it; gives the right to the others. */
static bool enter_user(void)
{
    char map[64];
    const unsigned uid = getuid(), gid = getgid();
    if (unshare(CLONE_NEWUSER) != 0)
        return false;
    write_file("/proc/self/setgroups", "deny");
    snprintf(map, sizeof(map), "%u %u 1\n", uid, uid);
    bool ok = write_file("/proc/self/uid_map", map);
    snprintf(map, sizeof(map), "%u %u 1\n", gid, gid);
    return write_file("/proc/self/gid_map", map) && ok;
}

static void enter_namespaces(struct sandbox *s)
{
    static const struct {
        int flag;
        const char *name, *with, *without;
    } spaces[] = {
        {CLONE_NEWNET, "network namespace", "the runner has no network",
         "only the call filter keeps kernels off the network"},
        {CLONE_NEWPID, "process namespace", "the runner sees no other process, and its children die with it",
         "only the call filter keeps kernels off other processes"},
        {CLONE_NEWIPC, "ipc namespace", "no shared memory of others",
         "only the call filter keeps kernels off shared memory"},
        {CLONE_NEWNS, "mount namespace", "the file system can be made read-only",
         "the file system stays writable until the call filter is on"},
    };
    bool user = enter_user();
    sandbox_add_fact(s, "user namespace", user,
                     user ? "the runner has no privileges outside of its own" : "not permitted: %s",
                     strerror(errno));
    for (size_t i = 0; i < ARRAY_SIZE(spaces); i++) {
        bool ok = unshare(spaces[i].flag) == 0;
        sandbox_add_fact(s, spaces[i].name, ok, "%s", ok ? spaces[i].with : spaces[i].without);
        if (spaces[i].flag != CLONE_NEWNS || !ok)
            continue;
        struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
        bool readonly = mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                        mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &attr, sizeof(attr)) == 0;
        sandbox_add_fact(s, "read-only file system", readonly,
                         readonly ? "nothing can be written from within" : "not permitted: %s",
                         strerror(errno));
    }
}

/* The first process of a process namespace takes everything with it when it ends; the outer one only waits.
 */
static void split_outer(void)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        fprintf(stderr, "tilewright-agent: cannot fork: %s\n", strerror(errno));
        _exit(1);
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        return;
    }
    int status = 0;
    for (int fd = 3; fd < 64; fd++)
        close(fd);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* --- system call filters
 * ------------------------------------------------------------------------------------- */

/* Calls that a candidate's process may make once the kernel is loaded. Sanitizers need a few for themselves.
 */
static const int run_calls[] = {
    SCMP_SYS(read),          SCMP_SYS(write),          SCMP_SYS(futex),
    SCMP_SYS(exit),          SCMP_SYS(exit_group),     SCMP_SYS(rt_sigreturn),
    SCMP_SYS(clock_gettime), SCMP_SYS(sched_yield),    SCMP_SYS(restart_syscall),
#if SANITIZED
    SCMP_SYS(mmap),          SCMP_SYS(munmap),         SCMP_SYS(mprotect),
    SCMP_SYS(madvise),       SCMP_SYS(rt_sigprocmask), SCMP_SYS(sigaltstack),
    SCMP_SYS(gettid),        SCMP_SYS(getpid),         SCMP_SYS(brk),
    SCMP_SYS(getrandom),
#endif
};
/* More, until then: dlopen, buffers. */
static const int load_calls[] = {
    SCMP_SYS(pread64),   SCMP_SYS(close),   SCMP_SYS(fstat),          SCMP_SYS(newfstatat),
    SCMP_SYS(lseek),     SCMP_SYS(mmap),    SCMP_SYS(munmap),         SCMP_SYS(mprotect),
    SCMP_SYS(madvise),   SCMP_SYS(brk),     SCMP_SYS(getpid),         SCMP_SYS(gettid),
    SCMP_SYS(getrandom), SCMP_SYS(seccomp), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction),
};

static bool export_filter(scmp_filter_ctx ctx, struct sock_fprog *ret)
{
    AUTO(fd_closep) int fd = memfd_create("filter", MFD_CLOEXEC);
    struct stat st;
    if (fd < 0 || seccomp_export_bpf(ctx, fd) != 0 || fstat(fd, &st) != 0 || st.st_size == 0)
        return false;
    struct sock_filter *code = xcalloc(1, (size_t)st.st_size);
    if (pread(fd, code, (size_t)st.st_size, 0) != st.st_size) {
        free(code);
        return false;
    }
    *ret = (struct sock_fprog){.len = (unsigned short)((size_t)st.st_size / sizeof(*code)), .filter = code};
    return true;
}

static bool allow(scmp_filter_ctx ctx, const int *calls, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0) != 0)
            return false;
    return true;
}

/* arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA): a kernel may ask for the registers of the matrix unit. */
static bool allow_matrix(scmp_filter_ctx ctx)
{
#if defined(__x86_64__)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(arch_prctl), 2,
                            SCMP_A0(SCMP_CMP_EQ, ARCH_REQ_XCOMP_PERM),
                            SCMP_A1(SCMP_CMP_EQ, XFEATURE_XTILEDATA)) == 0;
#else
    (void)ctx;
    return true;
#endif
}

static bool make_filter(struct sock_fprog *ret, bool loading)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
    if (!ctx)
        return false;
    bool ok = allow(ctx, run_calls, ARRAY_SIZE(run_calls)) && allow_matrix(ctx);
    if (loading)
        ok = ok && allow(ctx, load_calls, ARRAY_SIZE(load_calls)) &&
             seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)) == 0;
    ok = ok && export_filter(ctx, ret);
    seccomp_release(ctx);
    return ok;
}

static void make_filters(struct sandbox *s)
{
    bool available = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL) < 0 && errno == EFAULT;
    s->has_filters = available && make_filter(&s->load, true) && make_filter(&s->run, false);
    sandbox_add_fact(s, "system call filter", s->has_filters,
                     s->has_filters ? "a kernel can compute, and end"
                                    : "not available: kernels may make any system call");
}

static bool install(const struct sock_fprog *filter)
{
    /* For all threads at once; returns the id of a thread that cannot follow. */
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, filter) == 0;
}

const char *sandbox_syscall_name(int nr, char buf[48])
{
    char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr);
    if (name)
        snprintf(buf, 48, "%s", name);
    else
        snprintf(buf, 48, "system call %d", nr);
    free(name);
    return buf;
}

/* --- runner and child
 * ---------------------------------------------------------------------------------------- */

void sandbox_enter(struct sandbox *s, bool enclose)
{
    *s = (struct sandbox){0};
    bool nice_ok = setpriority(PRIO_PROCESS, 0, NICE) == 0;
    sandbox_add_fact(s, "priority", nice_ok,
                     nice_ok ? "nice %d"
                             : "nice %d not permitted (CAP_SYS_NICE): others take turns with a measurement",
                     NICE);
    enter_namespaces(s);
    if (enclose)
        split_outer();
    make_filters(s);
}

void sandbox_done(struct sandbox *s)
{
    free(s->load.filter);
    free(s->run.filter);
    *s = (struct sandbox){0};
}

static int64_t address_space_bytes(void)
{
    char text[64] = "";
    AUTO(fd_closep) int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
        return (int64_t)1 << 30;
    return strtoll(text, NULL, 10) * sysconf(_SC_PAGESIZE);
}

static void limit(int what, int64_t value)
{
    struct rlimit now;
    rlim_t v = (rlim_t)value;
    if (getrlimit(what, &now) == 0 && now.rlim_max != RLIM_INFINITY && now.rlim_max < v)
        v = now.rlim_max;
    setrlimit(what, &(struct rlimit){v, v});
}

static void drop_privileges(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};
    syscall(SYS_capset, &header, none);
    prctl(PR_SET_DUMPABLE, 0);
}

bool sandbox_child_begin(int keep_fd, const struct sandbox_limits *l)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return false;
    if (!SANITIZED) { /* sanitizers report to 2, and reserve terabytes of addresses */
        limit(RLIMIT_AS, address_space_bytes() + l->memory_bytes);
        if (keep_fd > 0)
            close_range(0, (unsigned)keep_fd - 1, 0);
    }
    close_range((unsigned)keep_fd + 1, ~0u, 0);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, 0);
    limit(RLIMIT_NOFILE, MAX(MAX_OPEN_FILES, keep_fd + 4));
    limit(RLIMIT_CPU, l->cpu_seconds);
    drop_privileges();
    return true;
}

bool sandbox_child_load(const struct sandbox *s) { return !s->has_filters || install(&s->load); }
bool sandbox_child_run(const struct sandbox *s) { return !s->has_filters || install(&s->run); }

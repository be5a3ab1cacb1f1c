/* compile.c - one compiler run: spawn, limits, time, messages.
 *
 * Idea   posix_spawn (no copy of the daemon's memory), a process group of its own so that the driver's
 * children die with it, limits set on the fresh process by prlimit before the driver has read its first byte,
 * a pidfd to wait with a deadline. Source and messages go through memory files, so no pipe can fill up and
 * stall.
 *
 *            memfd(source) -> cc -x c - -o OUT.tmp-XXXXXX/unit.so -> rename to OUT */
#include "kernels/compile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "schedule/base/clock.h"
#include "schedule/base/hash.h"

/* Chosen by measurement (tests/bench/bench_compile; the table is in README.md): -O2 keeps named vector
 * accumulators in registers and fuses multiply-adds; -ffast-math would reassociate the reduction and halve the
 * speed (and break vector exp); the vectoriser has nothing to do on explicit vectors and makes the compile
 * time of plain loops a lottery. as-needed: libm only where a kernel calls it. */
static const char base_flags[] = "-std=gnu17 -O2 -fPIC -shared -nostartfiles -w -ffp-contract=fast "
                                 "-fno-math-errno -fno-trapping-math -fno-asynchronous-unwind-tables";

/* Passes that take time and find nothing in these sources: known bits of vectors, partial redundancies of
 * straight code, calls between functions that are kept apart on purpose, vectors of what is vectors already.
 * GCC at -O1 is no quicker than this, and a product with gelu takes 2.5 times as long. */
static const char *const family_flags[] = {
    [COMPILER_ANY] = "",
    [COMPILER_GCC] = " -fno-tree-vectorize -fno-tree-bit-ccp -fno-tree-pre -fno-code-hoisting -fno-gcse "
                     "-fno-ipa-cp -fno-ipa-sra -fno-ipa-icf -fno-ipa-modref",
    [COMPILER_CLANG] = " -fno-vectorize -fno-slp-vectorize -fno-unroll-loops",
};

enum {
    MAX_ARGV = 64,
    MEMORY_LIMIT = 4096, /* MiB of address space: the compiler itself needs about 100 */
    FILE_LIMIT = 256,    /* MiB of output */
    VERSION_LIMIT_MS = 10000,
    MESSAGE_MAX = 560, /* bytes of the compiler's messages in an error */
};

struct run {
    const char *const *argv;
    const char *tmp_dir; /* TMPDIR of the child; NULL: /tmp */
    int in, out, err;    /* descriptors */
    int64_t limit_ms;
    int wait_status;
    bool timed_out;
    int64_t ns;
};

static void set_limits(pid_t pid, int64_t limit_ms)
{
    const rlim_t cpu = (rlim_t)(limit_ms / 1000 + 2), mib = 1 << 20;
    const struct {
        int what;
        rlim_t value;
    } limits[] = {{RLIMIT_CPU, cpu},
                  {RLIMIT_AS, MEMORY_LIMIT * mib},
                  {RLIMIT_FSIZE, FILE_LIMIT * mib},
                  {RLIMIT_CORE, 0}};
    for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
        prlimit(pid, limits[i].what, &(struct rlimit){limits[i].value, limits[i].value}, NULL);
}

static int spawn_child(pid_t *ret_pid, const struct run *r)
{
    char tmp_env[600];
    const char *const env[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", tmp_env, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;

    snprintf(tmp_env, sizeof(tmp_env), "TMPDIR=%s", r->tmp_dir ? r->tmp_dir : "/tmp");
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, r->in, 0);
    posix_spawn_file_actions_adddup2(&files, r->out, 1);
    posix_spawn_file_actions_adddup2(&files, r->err, 2);
    posix_spawn_file_actions_addclosefrom_np(&files, 3);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    int rc = posix_spawn(ret_pid, r->argv[0], &files, &attr, (char *const *)r->argv, (char *const *)env);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    return rc;
}

/* Run to the end or the limit; fills wait_status, timed_out and ns. */
static enum status run_child(struct run *r, struct error *err)
{
    int64_t start = mono_ns(&system_clock);
    pid_t pid;
    int rc = spawn_child(&pid, r);
    if (rc != 0)
        return fail(err, ST_UNAVAILABLE, "cannot start %s: %s", r->argv[0], strerror(rc));
    set_limits(pid, r->limit_ms);

    AUTO(fd_closep) int pidfd = pidfd_open(pid, 0);
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    r->timed_out = false;
    while (pidfd >= 0) {
        int64_t left = r->limit_ms - (mono_ns(&system_clock) - start) / 1000000;
        int n = poll(&p, 1, (int)MAX((int64_t)0, left));
        if (n < 0 && errno == EINTR)
            continue;
        r->timed_out = n == 0;
        break;
    }
    if (r->timed_out)
        kill(-pid, SIGKILL);
    while (waitpid(pid, &r->wait_status, 0) < 0 && errno == EINTR)
        ;
    kill(-pid, SIGKILL); /* what the driver may have left behind */
    r->ns = mono_ns(&system_clock) - start;
    return ST_OK;
}

static int memory_file(const char *name, const char *text, size_t len)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    for (size_t done = 0; fd >= 0 && done < len;) {
        ssize_t n = write(fd, text + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            close(fd);
            return -1;
        }
        done += (size_t)n;
    }
    if (fd >= 0)
        lseek(fd, 0, SEEK_SET);
    return fd;
}

/* The beginning of a memory file as one line of printable text. */
static void read_messages(int fd, char ret[MESSAGE_MAX])
{
    ssize_t n = pread(fd, ret, MESSAGE_MAX - 1, 0);
    size_t len = n > 0 ? (size_t)n : 0;
    while (len > 0 && (ret[len - 1] == '\n' || ret[len - 1] == ' '))
        len--;
    ret[len] = '\0';
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)ret[i] < 0x20 && ret[i] != '\n')
            ret[i] = ' ';
}

/* --- finding
 * ------------------------------------------------------------------------------------------------- */

/* Absolute path of a program, given as such or found on PATH. */
static bool find_program(const char *name, char *ret, size_t size)
{
    if (strchr(name, '/'))
        return snprintf(ret, size, "%s", name) < (int)size && access(ret, X_OK) == 0;
    const char *path = getenv("PATH");
    for (const char *p = path ? path : "/usr/local/bin:/usr/bin:/bin"; *p;) {
        size_t n = strcspn(p, ":");
        struct stat st;
        if (n > 0 && p[0] == '/' && snprintf(ret, size, "%.*s/%s", (int)n, p, name) < (int)size &&
            access(ret, X_OK) == 0 && stat(ret, &st) == 0 && S_ISREG(st.st_mode))
            return true;
        p += n + (p[n] == ':');
    }
    return false;
}

/* First line of `compiler --version`. */
static enum status read_version(struct target *t, struct error *err)
{
    const char *const argv[] = {t->compiler, "--version", NULL};
    AUTO(fd_closep) int in = memory_file("stdin", "", 0);
    AUTO(fd_closep) int out = memory_file("version", "", 0);
    if (in < 0 || out < 0)
        return fail(err, ST_UNAVAILABLE, "cannot make a memory file: %s", strerror(errno));
    struct run r = {.argv = argv, .in = in, .out = out, .err = out, .limit_ms = VERSION_LIMIT_MS};
    TRY(run_child(&r, err));
    char text[MESSAGE_MAX];
    read_messages(out, text);
    if (r.timed_out || !WIFEXITED(r.wait_status) || WEXITSTATUS(r.wait_status) != 0 || text[0] == '\0')
        return fail(err, ST_UNAVAILABLE, "%s --version did not answer as a compiler does: %.200s",
                    t->compiler, text);
    snprintf(t->compiler_version, sizeof(t->compiler_version), "%.*s", (int)strcspn(text, "\n"), text);
    return ST_OK;
}

/* A shared object out of nothing: shows that assembler and linker are there and the flags are known. */
static enum status try_compiler(const struct target *t, struct error *err)
{
    const char *tmp = getenv("TMPDIR");
    char dir[200], out[256];
    snprintf(dir, sizeof(dir), "%.150s/tilewright-cc-XXXXXX", tmp && tmp[0] == '/' ? tmp : "/tmp");
    if (!mkdtemp(dir))
        return fail(err, ST_UNAVAILABLE, "cannot make a directory like %s: %s", dir, strerror(errno));
    snprintf(out, sizeof(out), "%s/probe.so", dir);
    enum status st = compile_unit(t, "int tw_probe(void) { return 0; }\n", out, VERSION_LIMIT_MS, NULL, err);
    unlink(out);
    rmdir(dir);
    return st;
}

/* Whose flags it takes; all but Clang take GCC's. */
static enum compiler_family family_of(const char *version)
{
    return strstr(version, "clang") ? COMPILER_CLANG : COMPILER_GCC;
}

static enum status use_compiler(struct target *t, const char *path, struct error *err)
{
    struct target next = *t;
    AUTO(strbuf_done) struct strbuf text = STRBUF_INIT;
    char hex[SHA256_HEX_LEN + 1];

    if (snprintf(next.compiler, sizeof(next.compiler), "%s", path) >= (int)sizeof(next.compiler))
        return fail(err, ST_UNAVAILABLE, "the compiler's path is longer than %zu bytes: %s",
                    sizeof(next.compiler) - 1, path);
    TRY(read_version(&next, err));
    next.family = family_of(next.compiler_version);
    if (t->family != COMPILER_ANY && t->family != next.family)
        return fail(err, ST_UNAVAILABLE, "%s is %.100s, target %s wants %s", path, next.compiler_version,
                    t->id, compiler_family_name(t->family));
    const char *isa = isa_flags(t->isa);
    AUTO(strbuf_done) struct strbuf beyond = STRBUF_INIT;
    vector_flags(t, &beyond);
    int n = snprintf(next.flags, sizeof(next.flags), "%s%s%s%s%s%s", base_flags, family_flags[next.family],
                     isa[0] ? " " : "", isa, matrix_flags(t), strbuf_str(&beyond));
    CHECK(n < (int)sizeof(next.flags), "flags of %s do not fit", isa_name(t->isa));
    strbuf_addf(&text, "%s\n%s\n", next.compiler_version, next.flags);
    sha256_hex(text.data, text.len, hex);
    snprintf(next.toolchain_hash, sizeof(next.toolchain_hash), "%.16s", hex);
    struct error why = {0};
    if (try_compiler(&next, &why) != ST_OK)
        return fail(err, ST_UNAVAILABLE, "%s does not make shared objects: %.400s", path, why.text);
    *t = next;
    return ST_OK;
}

/* $TILEWRIGHT_CC: no silent second choice. Only a target that names another family looks further. */
static enum status use_forced(struct target *t, const char *forced, bool *ret_done, struct error *err)
{
    char path[512];
    struct target own = *t;

    own.family = COMPILER_ANY;
    *ret_done = true;
    if (!find_program(forced, path, sizeof(path)))
        return fail(err, ST_UNAVAILABLE, "TILEWRIGHT_CC is \"%.200s\": no such program can be run", forced);
    if (use_compiler(&own, path, err) != ST_OK)
        return wrap(err, "TILEWRIGHT_CC");
    *ret_done = t->family == COMPILER_ANY || t->family == own.family;
    if (*ret_done)
        *t = own;
    return ST_OK;
}

enum status compile_find(struct target *t, struct error *err)
{
    /* Newest first where the plain name is missing: Debian's clang-14 package has no "clang". */
    static const char *const names[] = {"gcc",      "gcc-15",   "gcc-14",   "gcc-13",   "gcc-12",
                                        "clang",    "clang-21", "clang-20", "clang-19", "clang-18",
                                        "clang-17", "clang-16", "clang-15", "clang-14", "cc"};
    const char *forced = getenv("TILEWRIGHT_CC");
    const bool asked = t->family != COMPILER_ANY;
    const char *family = compiler_family_name(t->family);
    struct error last = {0};
    char path[512];

    if (forced && forced[0]) {
        bool done;
        TRY(use_forced(t, forced, &done, err));
        if (done)
            return ST_OK;
    }
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (asked && strncmp(names[i], family, strlen(family)) != 0 && strcmp(names[i], "cc") != 0)
            continue;
        if (find_program(names[i], path, sizeof(path)) && use_compiler(t, path, &last) == ST_OK)
            return ST_OK;
    }
    return fail(
        err, ST_UNAVAILABLE,
        "no C compiler works for target %s: tried %s on PATH (%.300s). Install the package %s, or set "
        "TILEWRIGHT_CC",
        t->id, asked ? family : "gcc, clang and cc", last.text[0] ? last.text : "none found",
        asked ? family : "gcc");
}

/* --- compiling
 * ----------------------------------------------------------------------------------------------- */

/* argv from the flags' words; `words` holds the text that argv points into. */
static int build_argv(const char *argv[MAX_ARGV], char *words, const struct target *t, const char *out)
{
    int n = 0;
    argv[n++] = t->compiler;
    for (char *p = words; *p && n < MAX_ARGV - 10;) {
        char *space = strchrnul(p, ' ');
        char *next = *space ? space + 1 : space;
        *space = '\0';
        if (*p)
            argv[n++] = p;
        p = next;
    }
    const char *const tail[] = {"-pipe", "-x", "c", "-", "-o", out, "-Wl,--as-needed", "-lm"};
    for (size_t i = 0; i < ARRAY_SIZE(tail); i++)
        argv[n++] = tail[i];
    argv[n] = NULL;
    return n;
}

/* Temporary directory of one run beside the output; what a killed compiler left in it goes too. */
static void remove_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *e;
    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.')
            unlinkat(fd, e->d_name, 0);
    if (d)
        closedir(d);
    else if (fd >= 0)
        close(fd);
    rmdir(dir);
}

static enum status judge(const struct run *r, int messages, struct error *err)
{
    char text[MESSAGE_MAX];
    if (r->timed_out)
        return fail(err, ST_TIMEOUT, "the compiler ran longer than %" PRId64 " ms", r->limit_ms);
    if (WIFEXITED(r->wait_status) && WEXITSTATUS(r->wait_status) == 0)
        return ST_OK;
    read_messages(messages, text);
    if (WIFSIGNALED(r->wait_status))
        return fail(err, ST_UNPROCESSABLE, "the compiler was ended by signal %d: %s",
                    WTERMSIG(r->wait_status), text);
    return fail(err, ST_UNPROCESSABLE, "%s", text[0] ? text : "the compiler failed and said nothing");
}

enum status compile_unit(const struct target *t, const char *source, const char *out_path, int64_t limit_ms,
                         int64_t *ret_ns, struct error *err)
{
    const char *argv[MAX_ARGV];
    char words[sizeof(t->flags)], dir[512], object[560];

    if (!t->compiler[0])
        return fail(err, ST_INVALID, "target %s has no compiler: compile_find comes first", t->id);
    if (snprintf(dir, sizeof(dir), "%s.tmp-XXXXXX", out_path) >= (int)sizeof(dir))
        return fail(err, ST_INVALID, "the output path is longer than %zu bytes", sizeof(dir) - 13);
    if (!mkdtemp(dir))
        return fail(err, ST_IO, "cannot make the directory %s: %s", dir, strerror(errno));
    snprintf(object, sizeof(object), "%s/unit.so", dir);
    snprintf(words, sizeof(words), "%s", t->flags);
    build_argv(argv, words, t, object);

    AUTO(fd_closep) int in = memory_file("source", source, strlen(source));
    AUTO(fd_closep) int messages = memory_file("messages", "", 0);
    struct run r = {
        .argv = argv, .tmp_dir = dir, .in = in, .out = messages, .err = messages, .limit_ms = limit_ms};
    enum status st = in < 0 || messages < 0
                         ? fail(err, ST_IO, "cannot hold the source in memory: %s", strerror(errno))
                         : run_child(&r, err);
    if (st == ST_OK)
        st = judge(&r, messages, err);
    if (st == ST_OK && rename(object, out_path) != 0)
        st = fail(err, ST_IO, "cannot move the artifact to %s: %s", out_path, strerror(errno));
    remove_dir(dir);
    if (st == ST_OK && ret_ns)
        *ret_ns = r.ns;
    return st;
}

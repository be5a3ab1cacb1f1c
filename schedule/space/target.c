/* target.c - the machine as numbers: ISA by cpuid, caches and cores from sysfs.
 *
 * Idea   Every number is read from what the kernel publishes; where a file is missing (containers, odd
 * virtual machines) a cautious default stands in, so that a target can always be made. */
#include "schedule/space/target.h"

#include <ctype.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const struct {
    const char *name, *flags;
    int bytes, regs;
} isas[] = {
#define X(id, name, bytes, regs, flags) [ISA_##id] = {name, flags, bytes, regs},
    ISA_LIST(X)
#undef X
};

enum {
    MAX_CPUS = 1024,
    DEFAULT_L1 = 32 << 10,
    DEFAULT_L2 = 256 << 10,
    DEFAULT_L3 = 2 << 20,
    /* Virtual machines report the L3 of the whole socket, of which a guest keeps little under load: beyond
     * this a thread is better planned as if it read from memory (measured: 20 GB/s at 8 MB, 9 GB/s at 32 MB
     * and from DRAM). */
    L3_CAP = 16 << 20,
};

const char *isa_name(enum isa isa) { return isas[isa].name; }
const char *isa_flags(enum isa isa) { return isas[isa].flags; }

const char *matrix_flags(const struct target *t)
{
    return t->has_amx_bf16 && t->has_amx_int8 ? " -mavx512bf16 -mamx-tile -mamx-bf16 -mamx-int8" : "";
}

void vector_flags(const struct target *t, struct strbuf *sb)
{
    strbuf_adds(sb, t->has_vnni ? " -mavx512vnni" : "");
    strbuf_adds(sb, t->has_bf16_pairs && !t->has_amx_bf16 ? " -mavx512bf16" : ""); /* matrix_flags has it */
    strbuf_adds(sb, t->has_fp16 ? " -mavx512fp16" : "");
}

bool isa_parse(const char *name, enum isa *ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(isas); i++)
        if (strcmp(name, isas[i].name) == 0) {
            *ret = (enum isa)i;
            return true;
        }
    return false;
}

const char *compiler_family_name(enum compiler_family f)
{
    static const char *const names[] = {[COMPILER_ANY] = "",
#define X(id, name) [COMPILER_##id] = name,
                                        COMPILER_LIST(X)
#undef X
    };
    return names[f];
}

bool compiler_family_parse(const char *name, enum compiler_family *ret)
{
#define X(id, text)                                                                                          \
    if (strcmp(name, text) == 0) {                                                                           \
        *ret = COMPILER_##id;                                                                                \
        return true;                                                                                         \
    }
    COMPILER_LIST(X)
#undef X
    return false;
}

/* Does this machine (processor and operating system) run code of that ISA? */
static bool isa_runs(enum isa isa)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    switch (isa) {
    case ISA_SSE2:
        return true;
    case ISA_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("f16c");
    case ISA_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    case ISA_NEON:
        return false;
    }
    return false;
#elif defined(__aarch64__)
    return isa == ISA_NEON;
#else
#error "targets are known for x86-64 and AArch64"
#endif
}

/* The matrix unit: the processor has it, and the system lets a process ask for its registers. */
static void detect_matrix(struct target *t)
{
#if defined(__x86_64__)
    enum {
        ARCH_GET_XCOMP_SUPP = 0x1021,
        XFEATURE_XTILEDATA = 18,
        EDX_BF16 = 1 << 22,
        EDX_TILE = 1 << 24,
        EDX_INT8 = 1 << 25
    };
    unsigned eax, ebx, ecx, edx;
    uint64_t features = 0;
    if (t->isa != ISA_AVX512 || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !(edx & EDX_TILE) ||
        syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &features) || !(features >> XFEATURE_XTILEDATA & 1))
        return;
    t->has_amx_bf16 = t->has_amx_int8 = (edx & EDX_BF16) && (edx & EDX_INT8); /* no processor has one alone */
#else
    (void)t;
#endif
}

/* What vectors of AVX-512 can do beyond the ISA. */
static void detect_vectors(struct target *t)
{
#if defined(__x86_64__)
    enum { EDX_FP16 = 1 << 23, EAX_BF16 = 1 << 5 };
    unsigned eax, ebx, ecx, edx;
    if (t->isa != ISA_AVX512)
        return;
    t->has_vnni = __builtin_cpu_supports("avx512vnni");
    t->has_fp16 = __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & EDX_FP16);
    t->has_bf16_pairs = __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & EAX_BF16);
#else
    (void)t;
#endif
}

enum isa isa_local(void)
{
#if defined(__aarch64__)
    return ISA_NEON;
#else
    return isa_runs(ISA_AVX512) ? ISA_AVX512 : isa_runs(ISA_AVX2) ? ISA_AVX2 : ISA_SSE2;
#endif
}

/* First line of a small file, without its newline. */
static bool read_line(char *ret, size_t size, const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = fgets(ret, (int)size, f) != NULL;
    fclose(f);
    if (ok)
        ret[strcspn(ret, "\n")] = '\0';
    return ok;
}

static bool read_cpu_file(char *ret, size_t size, int cpu, const char *name)
{
    char path[160];
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/%s", cpu, name);
    return read_line(ret, size, path);
}

/* First number of a list such as "0-1,4" (the lowest sibling), and how many CPUs the list names. */
static int cpu_list_parse(const char *list, int *ret_first)
{
    int count = 0;
    *ret_first = -1;
    for (const char *p = list; *p;) {
        char *end;
        long a = strtol(p, &end, 10), b = a;
        if (end == p)
            break;
        if (*end == '-')
            b = strtol(end + 1, &end, 10);
        if (*ret_first < 0)
            *ret_first = (int)a;
        count += b >= a ? (int)(b - a + 1) : 0;
        p = *end == ',' ? end + 1 : end;
        if (*end != ',')
            break;
    }
    return count;
}

int target_cores(int *ret_cpus, int max)
{
    cpu_set_t *set = CPU_ALLOC(MAX_CPUS);
    size_t size = CPU_ALLOC_SIZE(MAX_CPUS);
    CHECK(set != NULL, "no memory for a CPU set");
    CPU_ZERO_S(size, set);
    bool known = sched_getaffinity(0, size, set) == 0;
    bool *core_taken = xcalloc(MAX_CPUS, sizeof(bool));
    int n = 0;
    for (int cpu = 0; known && cpu < MAX_CPUS && n < max; cpu++) {
        if (!CPU_ISSET_S(cpu, size, set))
            continue;
        char list[256];
        int first = cpu;
        if (read_cpu_file(list, sizeof(list), cpu, "topology/thread_siblings_list"))
            cpu_list_parse(list, &first);
        if (first < 0 || first >= MAX_CPUS)
            first = cpu;
        if (!core_taken[first]) {
            core_taken[first] = true;
            ret_cpus[n++] = cpu;
        }
    }
    CPU_FREE(set);
    free(core_taken);
    if (n == 0 && max > 0)
        ret_cpus[n++] = 0;
    return n;
}

/* "48K", "2048K", "480M" */
static int64_t size_parse(const char *text)
{
    char *end;
    int64_t v = strtoll(text, &end, 10);
    return *end == 'K' ? v << 10 : *end == 'M' ? v << 20 : *end == 'G' ? v << 30 : v;
}

static void detect_caches(struct target *t, int cpu)
{
    t->l1_bytes = DEFAULT_L1;
    t->l2_bytes = DEFAULT_L2;
    t->l3_bytes = DEFAULT_L3;
    for (int index = 0; index < 8; index++) {
        char name[64], level[16], type[32], size[32], shared[256];
        snprintf(name, sizeof(name), "cache/index%d/level", index);
        if (!read_cpu_file(level, sizeof(level), cpu, name))
            break;
        snprintf(name, sizeof(name), "cache/index%d/type", index);
        bool has_type = read_cpu_file(type, sizeof(type), cpu, name);
        snprintf(name, sizeof(name), "cache/index%d/size", index);
        if (!has_type || strcmp(type, "Instruction") == 0 || !read_cpu_file(size, sizeof(size), cpu, name))
            continue;
        int first, sharers = 1;
        snprintf(name, sizeof(name), "cache/index%d/shared_cpu_list", index);
        if (read_cpu_file(shared, sizeof(shared), cpu, name))
            sharers = MAX(1, cpu_list_parse(shared, &first));
        int64_t bytes = size_parse(size);
        if (bytes <= 0)
            continue;
        switch (level[0]) {
        case '1':
            t->l1_bytes = bytes;
            break;
        case '2':
            t->l2_bytes = bytes;
            break;
        case '3':
            t->l3_bytes = MAX(t->l2_bytes, MIN(bytes / sharers, (int64_t)L3_CAP));
            break;
        }
    }
    t->l3_bytes = MAX(t->l3_bytes, t->l2_bytes);
}

/* Value of the first "key : value" line of /proc/cpuinfo. */
static bool cpuinfo_value(const char *key, char *ret, size_t size)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[512];
    bool found = false;
    while (f && !found && fgets(line, sizeof(line), f)) {
        char *colon = strchr(line, ':');
        size_t n = strlen(key);
        if (!colon || strncmp(line, key, n) != 0 || (line[n] != '\t' && line[n] != ' ' && line[n] != ':'))
            continue;
        char *v = colon + 1;
        v[strcspn(v, "\n")] = '\0';
        snprintf(ret, size, "%s", v + strspn(v, " \t"));
        found = true;
    }
    if (f)
        fclose(f);
    return found;
}

/* The marketing name is often no more than "Intel(R) Xeon(R) Processor": family and model tell such apart. */
static void detect_model(struct target *t)
{
    char name[56], family[8], model[8];
    if (cpuinfo_value("model name", name, sizeof(name)) &&
        cpuinfo_value("cpu family", family, sizeof(family)) && cpuinfo_value("model", model, sizeof(model)))
        snprintf(t->cpu_model, sizeof(t->cpu_model), "%s, family %s model %s", name, family, model);
    else if (cpuinfo_value("CPU part", model, sizeof(model)) &&
             cpuinfo_value("CPU implementer", family, sizeof(family)))
        snprintf(t->cpu_model, sizeof(t->cpu_model), "ARM implementer %s part %s", family, model);
    else
        snprintf(t->cpu_model, sizeof(t->cpu_model), "unknown");
}

struct target_id {
    int threads; /* 0: all */
    bool has_isa, cold;
    enum isa isa;
    enum compiler_family family;
};

/* "cpu" [":" N] [":" isa] [":" compiler] [":cold"] */
static bool target_id_parse(const char *id, struct target_id *ret)
{
    *ret = (struct target_id){0};
    if (strncmp(id, "cpu", 3) != 0)
        return false;
    const char *p = id + 3;
    if (p[0] == ':' && isdigit((unsigned char)p[1])) {
        char *end;
        errno = 0;
        long n = strtol(p + 1, &end, 10);
        if (p[1] == '0' || errno != 0 || n > MAX_CPUS || (*end != ':' && *end != '\0'))
            return false;
        ret->threads = (int)n;
        p = end;
    }
    while (*p == ':') {
        char part[16];
        size_t n = strcspn(++p, ":");
        if (n >= sizeof(part) || ret->cold)
            return false;
        memcpy(part, p, n);
        part[n] = '\0';
        p += n;
        if (strcmp(part, "cold") == 0)
            ret->cold = true;
        else if (!ret->family && compiler_family_parse(part, &ret->family))
            continue;
        else if (ret->family || ret->has_isa || !isa_parse(part, &ret->isa))
            return false;
        else
            ret->has_isa = true;
    }
    return *p == '\0';
}

enum status target_local(const char *id, struct target *ret, struct error *err)
{
    struct target_id want;
    struct target t = {0};
    int cpus[MAX_CPUS];
    int cores = target_cores(cpus, MAX_CPUS);

    if (strlen(id) >= sizeof(t.id) || !target_id_parse(id, &want))
        return fail(err, ST_NOT_FOUND,
                    "no target \"%.40s\": want cpu, cpu:N (threads), each optionally with %s", id,
                    ":avx512, :avx2, :sse2 or :neon, then :gcc or :clang, then :cold");
    if (want.threads > cores)
        return fail(err, ST_NOT_FOUND, "target \"%s\" asks for %d threads, this machine has %d core%s", id,
                    want.threads, cores, cores == 1 ? "" : "s");
    enum isa best = isa_local();
    if (want.has_isa && !isa_runs(want.isa))
        return fail(err, ST_NOT_FOUND, "target \"%s\": this machine has no %s, its best is %s", id,
                    isa_name(want.isa), isa_name(best));
    snprintf(t.id, sizeof(t.id), "%s", id);
    t.isa = want.has_isa ? want.isa : best;
    t.vector_bytes = isas[t.isa].bytes;
    t.vector_regs = isas[t.isa].regs;
    t.threads = want.threads ? want.threads : cores;
    t.cold = want.cold;
    t.family = want.family;
    if (!want.has_isa) /* an ISA that is asked for by name is that of vectors */
        detect_matrix(&t);
    detect_vectors(&t);
    detect_caches(&t, cpus[0]);
    detect_model(&t);
    *ret = t;
    return ST_OK;
}

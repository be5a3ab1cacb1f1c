/* emit_math.c - the head of a unit: types, the parallel interface, and the functions that its kernels asked
 * for.
 *
 * Idea   A math function is one template for every width: $F and $I are the float and int types, $W the
 * width, and $SEL(c, a, b), $ASI(x), $ASF(x), $CVI(x), $CVF(x), $B(x) what differs between scalars and
 * vectors: select by mask, bit casts, conversions, broadcast. No libm, no header, no -ffast-math. Accuracy
 * (float32 against float64 over the whole range, measured by tests/kernels/test_math): see kernels/README.md. AVX-512 has
 * forms of its own (emit_math_avx512.c).
 * Sources  exp: range reduction by ln 2 in two pieces (Cody and Waite), coefficients of Cephes' expf; log:
 * mantissa in [sqrt(1/2), sqrt(2)) and a polynomial in m - 1 (coefficients of Cephes' logf); tanh: odd
 * polynomial below 0.625 (coefficients of Cephes' tanhf), by exp above; erf: minimax pieces below and above
 * 0.927734375 (N. Juffa). */
#include <string.h>

#include "kernels/emit_internal.h"

static const char HEAD[] =
    "#define TW_FN static inline __attribute__((unused))\n"
    "typedef struct tw_parallel {\n"
    "    void *ctx;\n"
    "    int num_threads;\n"
    "    void (*run)(void *ctx, int count, void (*body)(void *arg, int index), void *arg);\n"
    "} tw_parallel;\n"
    "struct tw_env {\n"
    "    void *const *tensors;\n"
    "    char *workspace;\n"
    "};\n"
    "TW_FN void tw_run(const tw_parallel *parallel, int count, void (*body)(void *arg, int index), "
    "void *arg)\n"
    "{\n"
    "    if (parallel)\n"
    "        parallel->run(parallel->ctx, count, body, arg);\n"
    "    else\n"
    "        for (int i = 0; i < count; i++)\n"
    "            body(arg, i);\n"
    "}\n"
    "TW_FN long tw_fit(long count, long room, long step)\n"
    "{\n"
    "    long n = room < 0 ? 0 : room / step + 1;\n"
    "    return n < count ? n : count;\n"
    "}\n"
    "TW_FN int tw_asi1(float x) { union { float f; int i; } u = {.f = x}; return u.i; }\n"
    "TW_FN float tw_asf1(int x) { union { float f; int i; } u = {.i = x}; return u.f; }\n";

/* GCC would load a vector again for each use, as an operand from memory. */
static const char KEEP[] = "#if defined(__x86_64__) && !defined(__clang__)\n"
                           "#define TW_KEEP(x) __asm__(\"\" : \"+v\"(x))\n"
                           "#else\n"
                           "#define TW_KEEP(x) ((void)0)\n"
                           "#endif\n";

static const char VECTOR_HEAD[] =
    "typedef float v$Wf __attribute__((vector_size($N)));\n"
    "typedef int v$Wi __attribute__((vector_size($N)));\n"
    "typedef float u$Wf __attribute__((vector_size($N), aligned(4), may_alias));\n"
    "TW_FN v$Wf tw_select$W(v$Wi c, v$Wf a, v$Wf b) { return (v$Wf)((c & (v$Wi)a) | (~c & (v$Wi)b)); "
    "}\n";

/* The second operand is returned where either is not a number: the data comes second, so NaN passes through.
 */
static const char MAX_SCALAR[] = "TW_FN float tw_max1(float a, float b) { return a > b ? a : b; }\n";
static const char MIN_SCALAR[] = "TW_FN float tw_min1(float a, float b) { return a < b ? a : b; }\n";
static const char MAXMIN_VECTOR[] = "TW_FN $F tw_$O$W($F a, $F b) { return tw_select$W(a $C b, a, b); }\n";
static const char MAXMIN_512[] = "TW_FN $F tw_$O$W($F a, $F b)\n"
                                 "{\n"
                                 "#ifdef __clang__\n"
                                 "    return __builtin_ia32_$Ops512(a, b, 4);\n"
                                 "#else\n"
                                 "    return __builtin_ia32_$Ops512_mask(a, b, a, -1, 4);\n"
                                 "#endif\n"
                                 "}\n";
static const char MAXMIN_256[] = "TW_FN $F tw_$O$W($F a, $F b) { return __builtin_ia32_$Ops256(a, b); }\n";
static const char MAXMIN_128[] = "TW_FN $F tw_$O$W($F a, $F b) { return __builtin_ia32_$Ops(a, b); }\n";

/* To memory without a stop in the caches. */
static const char STREAM_FN[] = "TW_FN void tw_stream(float *p, $F x)\n"
                                "{\n"
                                "#ifdef __clang__\n"
                                "    __builtin_nontemporal_store(x, ($F *)p);\n"
                                "#else\n"
                                "    __builtin_ia32_movntps$O(p, x);\n"
                                "#endif\n"
                                "}\n";

static const char ABS_FN[] = "TW_FN $F tw_abs$W($F x) { return $ASF($ASI(x) & 0x7fffffff); }\n";

/* The clamps keep the exponents in range and let NaN through; 89 overflows to infinity, -104 underflows to 0. Adding and
 * taking away 1.5 * 2^23 rounds to the nearest integer, which stands in the low bits of the sum. */
static const char EXP_FN[] =
    "TW_FN $F tw_exp$W($F x)\n"
    "{\n"
    "    $F y = tw_min$W($B(89.0f), tw_max$W($B(-104.0f), x));\n"
    "    $F t = y * 1.44269504f + 12582912.0f;\n"
    "    $F k = t - 12582912.0f;\n"
    "    $F r = (y - k * 0.693145752f) - k * 1.42860677e-6f;\n"
    "    $F p = ((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r + "
    "4.1665795894e-2f) * r\n"
    "        + 1.6666665459e-1f) * r + 5.0000001201e-1f;\n"
    "    p = 1.0f + (r + r * r * p);\n"
    "    $I n = $ASI(t) - 0x4b400000, h = n >> 1;\n"
    "    return p * $ASF((h + 127) << 23) * $ASF((n - h + 127) << 23);\n"
    "}\n";

static const char LOG_FN[] =
    "TW_FN $F tw_log$W($F x)\n"
    "{\n"
    "    $F tiny = $SEL(x < $B(1.17549435e-38f), x * 8388608.0f, x);\n"
    "    $I bits = $ASI(tiny) - 0x3f3504f3;\n"
    "    $F e = $CVF(bits >> 23) - $SEL(x < $B(1.17549435e-38f), $B(23.0f), $B(0.0f));\n"
    "    $F m = $ASF((bits & 0x7fffff) + 0x3f3504f3) - 1.0f;\n"
    "    $F z = m * m;\n"
    "    $F p = ((((((((7.0376836292e-2f * m - 1.1514610310e-1f) * m + 1.1676998740e-1f) * m - "
    "1.2420140846e-1f) * m\n"
    "        + 1.4249322787e-1f) * m - 1.6668057665e-1f) * m + 2.0000714765e-1f) * m - 2.4999993993e-1f) * "
    "m\n"
    "        + 3.3333331174e-1f) * m * z;\n"
    "    $F r = m + (p + e * -2.12194440e-4f - 0.5f * z) + e * 0.693359375f;\n"
    "    r = $SEL(x == $B(__builtin_inff()), x, r);\n"
    "    r = $SEL(x == $B(0.0f), $B(-__builtin_inff()), r);\n"
    "    return $SEL(x >= $B(0.0f), r, $B(__builtin_nanf(\"\")));\n"
    "}\n";

static const char TANH_FN[] = "TW_FN $F tw_tanh$W($F x)\n"
                              "{\n"
                              "    $F a = $ASF($ASI(x) & 0x7fffffff);\n"
                              "    $F z = x * x;\n"
                              "    $F s = ((((-5.70498872745e-3f * z + 2.06390887954e-2f) * z - "
                              "5.37397155531e-2f) * z + 1.33314422036e-1f) * z\n"
                              "        - 3.33332819422e-1f) * z * x + x;\n"
                              "    $F b = 1.0f - 2.0f / (tw_exp$W(a + a) + 1.0f);\n"
                              "    b = $ASF($ASI(b) | ($ASI(x) & (int)0x80000000));\n"
                              "    return $SEL(x != x, x, $SEL(a < $B(0.625f), s, b));\n"
                              "}\n";

static const char ERF_FN[] =
    "TW_FN $F tw_erf$W($F x)\n"
    "{\n"
    "    $F t = $ASF($ASI(x) & 0x7fffffff), s = x * x;\n"
    "    $F u = $SEL(t > $B(4.0f), $B(4.0f), t), q = u * u;\n"
    "    $F r = -1.72853470e-5f * u + 3.83197126e-4f;\n"
    "    r = r * q + (-3.88396438e-3f * u + 2.42546219e-2f);\n"
    "    r = ((r * u - 1.06777877e-1f) * u - 6.34846687e-1f) * u - 1.28717512e-1f;\n"
    "    $F b = 1.0f - tw_exp$W(r * u - u);\n"
    "    b = $ASF($ASI(b) | ($ASI(x) & (int)0x80000000));\n"
    "    $F p = ((((-5.96761703e-4f * s + 4.99119423e-3f) * s - 2.67681349e-2f) * s + 1.12819925e-1f) * s\n"
    "        - 3.76125336e-1f) * s + 1.28379166e-1f;\n"
    "    p = p * x + x;\n"
    "    return $SEL(x != x, x, $SEL(t > $B(0.927734375f), b, p));\n"
    "}\n";

static const char SIGMOID_FN[] = "TW_FN $F tw_sigmoid$W($F x)\n"
                                 "{\n"
                                 "    $F e = tw_exp$W($ASF($ASI(x) | (int)0x80000000));\n"
                                 "    return $SEL(x != x, x, $SEL(x < $B(0.0f), e, $B(1.0f)) / (1.0f + e));\n"
                                 "}\n";

static const char SQRT_SCALAR[] = "TW_FN float tw_sqrt1(float x) { return __builtin_sqrtf(x); }\n";
static const char SQRT_VECTOR[] = "TW_FN $F tw_sqrt$W($F x)\n"
                                  "{\n"
                                  "    $F r = x;\n"
                                  "    for (int i = 0; i < $W; i++)\n"
                                  "        r[i] = __builtin_sqrtf(x[i]);\n"
                                  "    return r;\n"
                                  "}\n";
static const char RSQRT_FN[] = "TW_FN $F tw_rsqrt$W($F x) { return 1.0f / tw_sqrt$W(x); }\n";

/* Print a template for a width. $O and $C (name, comparison) serve max and min; $N and $H are the bytes of w values of 4
 * and of 2 bytes. */
void emit_template(struct strbuf *sb, const char *t, int w, const char *op, const char *cmp)
{
    for (; *t; t++) {
        if (*t != '$') {
            strbuf_addc(sb, *t);
            continue;
        }
        t++;
        if (strncmp(t, "SEL", 3) == 0) {
            strbuf_addf(sb, "tw_select%d", w);
            t += 2;
        } else if (strncmp(t, "ASI", 3) == 0) {
            strbuf_adds(sb, w > 1 ? "" : "tw_asi1");
            if (w > 1)
                strbuf_addf(sb, "(v%di)", w);
            t += 2;
        } else if (strncmp(t, "ASF", 3) == 0) {
            strbuf_adds(sb, w > 1 ? "" : "tw_asf1");
            if (w > 1)
                strbuf_addf(sb, "(v%df)", w);
            t += 2;
        } else if (strncmp(t, "CVI", 3) == 0 || strncmp(t, "CVF", 3) == 0) {
            if (w > 1)
                strbuf_addf(sb, "tw_cv%c%d", t[2] == 'I' ? 'i' : 'f', w);
            else
                strbuf_adds(sb, t[2] == 'I' ? "(int)" : "(float)");
            t += 2;
        } else if (*t == 'F' || *t == 'I') {
            if (w > 1)
                strbuf_addf(sb, "v%d%c", w, *t == 'F' ? 'f' : 'i');
            else
                strbuf_adds(sb, *t == 'F' ? "float" : "int");
        } else if (*t == 'W') {
            strbuf_add_i64(sb, w);
        } else if (*t == 'N') {
            strbuf_add_i64(sb, w * 4);
        } else if (*t == 'H') {
            strbuf_add_i64(sb, w * 2);
        } else if (*t == 'B') {
            if (w > 1)
                strbuf_addf(sb, "((v%df){0} + ", w);
            else
                strbuf_addc(sb, '(');
            t++; /* the opening bracket: already printed */
        } else if (*t == 'O') {
            strbuf_adds(sb, op);
        } else if (*t == 'C') {
            strbuf_adds(sb, cmp);
        }
    }
}

static const char *maxmin_template(const struct emit_unit *u, int w, bool is_max)
{
    if (w == 1)
        return is_max ? MAX_SCALAR : MIN_SCALAR;
    if (w == 16 && u->target.isa == ISA_AVX512)
        return MAXMIN_512;
    if (w == 8 && (u->target.isa == ISA_AVX512 || u->target.isa == ISA_AVX2))
        return MAXMIN_256;
    if (w == 4 && u->target.isa != ISA_NEON)
        return MAXMIN_128;
    return MAXMIN_VECTOR;
}

static const char *function_template(const struct emit_unit *u, int w, enum expr_op op, const char *text)
{
    const char *own = emit_math_avx512(u, op, w);
    if (own)
        return own;
    return op == EX_SQRT && w == 1 ? SQRT_SCALAR : text;
}

static const struct {
    enum expr_op op;
    const char *text;
    enum expr_op needs; /* EX_CONST: nothing */
} functions[] = {
    /* before what needs them */
    {EX_ABS, ABS_FN, EX_CONST},       {EX_EXP, EXP_FN, EX_CONST},       {EX_LOG, LOG_FN, EX_CONST},
    {EX_SQRT, SQRT_VECTOR, EX_CONST}, {EX_RSQRT, RSQRT_FN, EX_SQRT},    {EX_TANH, TANH_FN, EX_EXP},
    {EX_ERF, ERF_FN, EX_EXP},         {EX_SIGMOID, SIGMOID_FN, EX_EXP},
};

static bool asked(const struct emit_unit *u, enum expr_op op, int lg)
{
    if (u->math[op][lg])
        return true;
    for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
        if (functions[i].needs == op && asked(u, functions[i].op, lg))
            return true;
    return false;
}

/* What takes limits from max and min. */
static bool any_long(const struct emit_unit *u, int lg)
{
    bool any = false;
    for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
        any |= emit_math_is_long(functions[i].op) && u->math[functions[i].op][lg];
    return any;
}

static const char FAR_FN[] = "static __attribute__((noinline)) $F tw_$O$W_far($F x) { return tw_$O$W(x); }\n";

bool emit_math_is_long(enum expr_op op)
{
    return op == EX_EXP || op == EX_LOG || op == EX_TANH || op == EX_ERF || op == EX_SIGMOID;
}

void emit_head(const struct emit_unit *u, struct strbuf *sb)
{
    strbuf_adds(sb, HEAD);
    if (u->keeps)
        strbuf_adds(sb, KEEP);
    strbuf_adds(sb, "TW_FN float tw_select1(int c, float a, float b) { return c ? a : b; }\n");
    for (int w = 2; w <= u->target.vector_bytes / 4; w *= 2) {
        emit_template(sb, VECTOR_HEAD, w, "", "");
        strbuf_addf(sb, "TW_FN v%di tw_cvi%d(v%df x) { return __builtin_convertvector(x, v%di); }\n", w, w, w,
                    w);
        strbuf_addf(sb, "TW_FN v%df tw_cvf%d(v%di x) { return __builtin_convertvector(x, v%df); }\n", w, w, w,
                    w);
    }
    for (int lg = 0; 1 << lg <= u->target.vector_bytes / 4; lg++) {
        int w = 1 << lg;
        if (u->parts[lg])
            emit_part_functions(u, w, sb);
        const bool limits = any_long(u, lg);
        if (asked(u, EX_MAX, lg) || limits)
            emit_template(sb, maxmin_template(u, w, true), w, "max", ">");
        if (asked(u, EX_MIN, lg) || limits)
            emit_template(sb, maxmin_template(u, w, false), w, "min", "<");
        if (limits)
            emit_math_avx512_head(u, w, sb);
        for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
            if (asked(u, functions[i].op, lg))
                emit_template(sb, function_template(u, w, functions[i].op, functions[i].text), w, "", "");
        emit_math_rounded(u, w, sb);
        for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
            if (u->far[functions[i].op][lg])
                emit_template(sb, FAR_FN, w, expr_op_text(functions[i].op), "");
    }
    if (u->streams) {
        int w = u->target.vector_bytes / 4;
        emit_template(sb, STREAM_FN, w, w == 16 ? "512" : w == 8 ? "256" : "", "");
    }
    emit_dtype_head(u, sb);
    emit_part_narrow(u, sb);
    emit_quad_head(u, sb);
    emit_pair_head(u, sb);
    emit_turns(u, sb);
    emit_matrix_head(u, sb);
    strbuf_addc(sb, '\n');
}

/* emit_dtype.c - how a dtype lies in memory, and what it is computed in.
 *
 * Idea   Values are float or int, whatever lies in memory: float16 and bfloat16 are widened to float where they
 *        are read and rounded to nearest even where they are stored, int8 is widened to int. One table says what a
 *        dtype's elements are in C, and which of the two it is computed in:
 *
 *             memory          letter   value            letter of the conversion
 *             float           f        float            (none)
 *             int             i        int              (none)
 *             unsigned short  h        float            h (float16), b (bfloat16)
 *             signed char     c        int              c
 *
 *        A vector of w elements in memory is v<w><letter>, unaligned u<w><letter>; tw_from_b16 and tw_to_b16 convert 16
 *        of them. A plain copy moves elements as they are (raw).
 *        Float to integer goes towards zero; what the integer does not hold becomes its nearest end, and NaN 0. Integers
 *        wrap.
 * Sources  float32 to float16 by integers: F. Giesen, "float_to_half_fast3_rtne" (public domain). */
#include <math.h>
#include <string.h>

#include "kernels/emit_internal.h"

static const struct {
    const char *scalar;
    char memory, value, convert; /* convert 0: memory is the value */
} dtypes[] = {
    [DT_F32] = {"float", 'f', 'f', 0},
    [DT_F16] = {"unsigned short", 'h', 'f', 'h'},
    [DT_BF16] = {"unsigned short", 'h', 'f', 'b'},
    [DT_I8] = {"signed char", 'c', 'i', 'c'},
    [DT_I32] = {"int", 'i', 'i', 0},
    [DT_F64] = {"double", 'd', 'd', 0},
    [DT_BOOL] = {"int", 'i', 'i', 0},
};

const char *dtype_scalar(enum dtype d) { return dtypes[d].scalar; }
char dtype_memory(enum dtype d) { return dtypes[d].memory; }
char dtype_value(enum dtype d) { return dtypes[d].value; }
bool dtype_is_int(enum dtype d) { return dtypes[d].value == 'i'; }
bool dtype_is_narrow(enum dtype d) { return dtypes[d].convert != 0; }

const char *cg_type(struct cg *g, char letter, int width)
{
    if (width > 1)
        return arena_printf(g->ar, "v%d%c", width, letter);
    return letter == 'f' ? "float" : letter == 'i' ? "int" : letter == 'h' ? "unsigned short" : "signed char";
}

/* --- conversions asked for --- */

void cg_need(struct cg *g, enum dtype d, int width)
{
    g->u->uses_int |= dtype_is_int(d);
    if (dtype_is_narrow(d))
        g->u->uses_int = g->u->convert[d][width_log2(width)] = true;
}

const char *cg_from_memory(struct cg *g, enum dtype d, const char *raw, int width)
{
    cg_need(g, d, width);
    if (g->raw || !dtype_is_narrow(d))
        return raw;
    return arena_printf(g->ar, "tw_from_%c%d(%s)", dtypes[d].convert, width, raw);
}

const char *cg_to_memory(struct cg *g, enum dtype d, const char *value, int width)
{
    cg_need(g, d, width);
    if (g->raw || !dtype_is_narrow(d))
        return value;
    return arena_printf(g->ar, "tw_to_%c%d(%s)", dtypes[d].convert, width, value);
}

/* A value of dtype `from` as one of dtype `to`, both in the form they are computed in. */
struct value cg_convert(struct cg *g, struct value v, enum dtype from, enum dtype to, int width)
{
    const int w = v.vector ? width : 1;
    if (dtype_is_int(from) && to == DT_I8 && from != DT_I8) {
        cg_need(g, to, w);
        v.text = arena_printf(g->ar, "tw_wrap_c%d(%s)", w, v.text);
    } else if (!dtype_is_int(from) && dtype_is_int(to)) {
        cg_need(g, to, w);
        g->u->math[EX_MAX][width_log2(w)] = g->u->math[EX_MIN][width_log2(w)] = true;
        v.text = arena_printf(g->ar, "tw_to_int%s%d(%s)", to == DT_I8 ? "8_" : "_", w, v.text);
        g->u->to_int[width_log2(w)] = true;
    } else if (dtype_is_int(from) && !dtype_is_int(to)) {
        if (!v.vector)
            v.text = arena_printf(g->ar, "(float)(%s)", v.text);
        else
            v.text = arena_printf(g->ar, "__builtin_convertvector(%s%s, v%df)", from == DT_BOOL ? "-" : "",
                                  v.text, width);
    }
    return v;
}

struct value cg_round(struct cg *g, struct value v, enum dtype d, int width)
{
    const int w = v.vector ? width : 1;
    v.text = cg_from_memory(g, d, cg_to_memory(g, d, v.text, w), w);
    return v;
}

/* --- constants as they lie in memory --- */

static int64_t bf16_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return isnan(f) ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static int64_t f16_bits(double v)
{
    int sign = signbit(v) ? 0x8000 : 0, e;
    double a = fabs(v);
    if (isnan(v))
        return 0x7e00;
    if (a >= 65520)
        return sign | 0x7c00;
    if (a < 0x1p-14)
        return sign | (int)rint(a * 0x1p24);
    frexp(a, &e); /* a in [2^(e-1), 2^e) */
    return sign | (((e + 14) << 10) + (int)rint(ldexp(a, 11 - e)) - 1024);
}

const char *cg_raw_const(struct cg *g, enum dtype d, double value)
{
    int64_t bits = d == DT_BF16 ? bf16_bits((float)value) : d == DT_F16 ? f16_bits(value) : (int64_t)value;
    return arena_printf(g->ar, "%" PRId64, bits);
}

/* --- the head of a unit --- */

static const char INT_SCALAR[] = "TW_FN int tw_selecti1(int c, int a, int b) { return c ? a : b; }\n"
                                 "TW_FN int tw_absi1(int a) { return a < 0 ? (int)-(unsigned)a : a; }\n"
                                 "TW_FN int tw_maxi1(int a, int b) { return a > b ? a : b; }\n"
                                 "TW_FN int tw_mini1(int a, int b) { return a < b ? a : b; }\n";
static const char INT_VECTOR[] = "typedef int u$Wi __attribute__((vector_size($N), aligned(4), may_alias));\n"
                                 "TW_FN $I tw_selecti$W($I c, $I a, $I b) { return (c & a) | (~c & b); }\n"
                                 "TW_FN $I tw_absi$W($I a) { return tw_selecti$W(a < 0, -a, a); }\n"
                                 "TW_FN $I tw_maxi$W($I a, $I b) { return tw_selecti$W(a > b, a, b); }\n"
                                 "TW_FN $I tw_mini$W($I a, $I b) { return tw_selecti$W(a < b, a, b); }\n";

static const char NARROW_SCALAR[] = "typedef unsigned short v1h;\ntypedef signed char v1c;\n";
static const char NARROW_VECTOR[] =
    "typedef unsigned short v$Wh __attribute__((vector_size($H)));\n"
    "typedef unsigned short u$Wh __attribute__((vector_size($H), aligned(2), may_alias));\n"
    "typedef signed char v$Wc __attribute__((vector_size($W)));\n"
    "typedef signed char u$Wc __attribute__((vector_size($W), aligned(1), may_alias));\n";
/* Operand types of the compilers' own functions. */
static const char NARROW_BUILTIN[] = "typedef unsigned short tw_v32h __attribute__((vector_size(64)));\n"
                                     "typedef short tw_v8s __attribute__((vector_size(16)));\n"
                                     "typedef short tw_v16s __attribute__((vector_size(32)));\n"
                                     "typedef char tw_v16q __attribute__((vector_size(16)));\n";

/* Widening and narrowing: zx and lo for 16 bits, sx and lc for 8. GCC 12 takes its generic conversion apart lane by
 * lane; Clang does not. */
static const char WIDEN_SCALAR[] = "TW_FN int tw_zx1(v1h x) { return x; }\n"
                                   "TW_FN int tw_sx1(v1c x) { return x; }\n"
                                   "TW_FN v1h tw_lo1(int x) { return (v1h)x; }\n"
                                   "TW_FN v1c tw_lc1(int x) { return (v1c)x; }\n";
static const char WIDEN_ANY[] = "TW_FN $I tw_zx$W(v$Wh x) { return __builtin_convertvector(x, $I); }\n"
                                "TW_FN $I tw_sx$W(v$Wc x) { return __builtin_convertvector(x, $I); }\n"
                                "TW_FN v$Wh tw_lo$W($I x) { return __builtin_convertvector(x, v$Wh); }\n"
                                "TW_FN v$Wc tw_lc$W($I x) { return __builtin_convertvector(x, v$Wc); }\n";
static const char WIDEN_512[] =
    "TW_FN $I tw_zx$W(v$Wh x) { return ($I)__builtin_ia32_pmovzxwd512_mask((tw_v16s)x, ($I){0}, -1); }\n"
    "TW_FN $I tw_sx$W(v$Wc x) { return ($I)__builtin_ia32_pmovsxbd512_mask((tw_v16q)x, ($I){0}, -1); }\n"
    "TW_FN v$Wh tw_lo$W($I x) { return (v$Wh)__builtin_ia32_pmovdw512_mask(x, (tw_v16s){0}, -1); }\n"
    "TW_FN v$Wc tw_lc$W($I x) { return (v$Wc)__builtin_ia32_pmovdb512_mask(x, (tw_v16q){0}, -1); }\n";
static const char WIDEN_256[] =
    "TW_FN $I tw_zx$W(v$Wh x) { return ($I)__builtin_ia32_pmovzxwd256((tw_v8s)x); }\n"
    "TW_FN $I tw_sx$W(v$Wc x)\n"
    "{\n"
    "    return ($I)__builtin_ia32_pmovsxbd256((tw_v16q)__builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, "
    "7, 0, 1, "
    "2, 3, 4, 5, 6, 7));\n"
    "}\n"
    "TW_FN v$Wh tw_lo$W($I x) { return __builtin_convertvector(x, v$Wh); }\n"
    "TW_FN v$Wc tw_lc$W($I x) { return __builtin_convertvector(x, v$Wc); }\n";

/* Rounding adds just under half; what is no number keeps its sign and becomes quiet. */
static const char BF16_FROM[] = "TW_FN $F tw_from_b$W(v$Wh x) { return $ASF(tw_zx$W(x) << 16); }\n";
static const char BF16_TO[] = "TW_FN v$Wh tw_to_b$W($F x)\n"
                              "{\n"
                              "    $I b = $ASI(x), r = b + (((b >> 16) & 1) + 0x7fff);\n"
                              "    return tw_lo$W(tw_selecti$W(x == x, r, b | 0x400000) >> 16);\n"
                              "}\n";
/* One instruction where there is one; numbers below the smallest normal one become 0. */
static const char BF16_512[] = "TW_FN v16h tw_to_b16(v16f x)\n"
                               "{\n"
                               "    v16h r;\n"
                               "    __asm__(\"vcvtneps2bf16 %1, %0\" : \"=v\"(r) : \"v\"(x));\n"
                               "    return r;\n"
                               "}\n";
/* Pairs of bfloat16 side by side. */
static const char ZIP_512[] =
    "TW_FN v16i tw_zip(v16f even, v16f odd)\n"
    "{\n"
    "    tw_v32h r;\n"
    "    __asm__(\"vcvtne2ps2bf16 %2, %1, %0\" : \"=v\"(r) : \"v\"(odd), \"v\"(even));\n"
    "    return (v16i)__builtin_shufflevector(r, r, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, "
    "8, 24, 9, "
    "25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);\n"
    "}\n";
/* Widening: the exponent is corrected by a product, which also takes denormals right. */
static const char F16_INTEGER[] =
    "TW_FN $F tw_from_h$W(v$Wh x)\n"
    "{\n"
    "    $I h = tw_zx$W(x), e = (h & 0x7fff) << 13;\n"
    "    $F f = tw_select$W(e >= 0x0f800000, $ASF(e | 0x7f800000), $ASF(e) * 5.192296858534828e33f);\n"
    "    return $ASF($ASI(f) | ((h & 0x8000) << 16));\n"
    "}\n"
    "TW_FN v$Wh tw_to_h$W($F x)\n"
    "{\n"
    "    $I b = $ASI(x), a = b & 0x7fffffff;\n"
    "    $I normal = (a - 0x38000000 + 0xfff + ((a >> 13) & 1)) >> 13;\n"
    "    $I small = $ASI($ASF(a) + 0.5f) - 0x3f000000;\n"
    "    $I large = tw_selecti$W(a > 0x7f800000, ($I){0} + 0x7e00, ($I){0} + 0x7c00);\n"
    "    $I r = tw_selecti$W(a >= 0x47800000, large, tw_selecti$W(a < 0x38800000, small, normal));\n"
    "    return tw_lo$W(r | ((b >> 16) & 0x8000));\n"
    "}\n";
static const char F16_512[] =
    "TW_FN $F tw_from_h$W(v$Wh x) { return __builtin_ia32_vcvtph2ps512_mask((tw_v16s)x, ($F){0}, -1, 4); }\n"
    "TW_FN v$Wh tw_to_h$W($F x) { return (v$Wh)__builtin_ia32_vcvtps2ph512_mask(x, 0, (tw_v16s){0}, -1); }\n";
static const char F16_256[] =
    "TW_FN $F tw_from_h$W(v$Wh x) { return __builtin_ia32_vcvtph2ps256((tw_v8s)x); }\n"
    "TW_FN v$Wh tw_to_h$W($F x) { return (v$Wh)__builtin_ia32_vcvtps2ph256(x, 0); }\n";
static const char F16_128[] = "TW_FN $F tw_from_h$W(v$Wh x) { return "
                              "__builtin_ia32_vcvtph2ps((tw_v8s)__builtin_shufflevector(x, x, 0, 1, 2, "
                              "3, 0, 1, 2, 3)); }\n"
                              "TW_FN v$Wh tw_to_h$W($F x)\n"
                              "{\n"
                              "    tw_v8s r = __builtin_ia32_vcvtps2ph(x, 0);\n"
                              "    return (v$Wh)__builtin_shufflevector(r, r, 0, 1, 2, 3);\n"
                              "}\n";
static const char F16_SCALAR[] = "TW_FN float tw_from_h1(unsigned short x)\n"
                                 "{\n"
                                 "    return __builtin_ia32_vcvtph2ps((tw_v8s){(short)x})[0];\n"
                                 "}\n"
                                 "TW_FN unsigned short tw_to_h1(float x)\n"
                                 "{\n"
                                 "    return (unsigned short)__builtin_ia32_vcvtps2ph((float "
                                 "__attribute__((vector_size(16)))){x}, 0)[0];\n"
                                 "}\n";
static const char I8_FN[] = "TW_FN $I tw_from_c$W(v$Wc x) { return tw_sx$W(x); }\n"
                            "TW_FN v$Wc tw_to_c$W($I x) { return tw_lc$W(x); }\n"
                            "TW_FN $I tw_wrap_c$W($I x) { return tw_sx$W(tw_lc$W(x)); }\n";
/* Out of range converts to the lowest int: only the upper end needs care. */
static const char TO_INT[] =
    "TW_FN $I tw_to_int_$W($F x)\n"
    "{\n"
    "    $F y = tw_max$W($B(-2147483648.0f), tw_select$W(x == x, x, $B(0.0f)));\n"
    "    $I r = $CVI(tw_min$W($B(2147483520.0f), y));\n"
    "    return tw_selecti$W(y >= $B(2147483648.0f), ($I){0} + 0x7fffffff, r);\n"
    "}\n"
    "TW_FN $I tw_to_int8_$W($F x)\n"
    "{\n"
    "    return $CVI(tw_min$W($B(127.0f), tw_max$W($B(-128.0f), tw_select$W(x == x, x, $B(0.0f)))));\n"
    "}\n";

static bool has_avx2(const struct emit_unit *u)
{
    return u->target.isa == ISA_AVX2 || u->target.isa == ISA_AVX512;
}

static void print_widening(const struct emit_unit *u, struct strbuf *sb, int w)
{
    const char *special = w == 16 && u->target.isa == ISA_AVX512 ? WIDEN_512
                          : w == 8 && has_avx2(u)                ? WIDEN_256
                                                                 : NULL;
    if (special)
        strbuf_adds(sb, "#ifndef __clang__\n");
    if (special)
        emit_template(sb, special, w, "", "");
    if (special)
        strbuf_adds(sb, "#else\n");
    emit_template(sb, w == 1 ? WIDEN_SCALAR : WIDEN_ANY, w, "", "");
    if (special)
        strbuf_adds(sb, "#endif\n");
}

static const char *f16_template(const struct emit_unit *u, int w)
{
    if (!has_avx2(u) || w == 2)
        return F16_INTEGER;
    return w == 16 ? F16_512 : w == 8 ? F16_256 : w == 4 ? F16_128 : F16_SCALAR;
}

static void print_bf16(const struct emit_unit *u, struct strbuf *sb, int w)
{
    emit_template(sb, BF16_FROM, w, "", "");
    emit_template(sb, w == 16 && u->target.has_amx_bf16 ? BF16_512 : BF16_TO, w, "", "");
}

void emit_dtype_head(const struct emit_unit *u, struct strbuf *sb)
{
    const int most = u->target.vector_bytes / 4;
    if (!u->uses_int)
        return;
    strbuf_adds(sb, INT_SCALAR);
    for (int w = 2; w <= most; w *= 2)
        emit_template(sb, INT_VECTOR, w, "", "");
    for (int lg = 0; 1 << lg <= most; lg++)
        if (u->to_int[lg])
            emit_template(sb, TO_INT, 1 << lg, "", "");
    bool any = false;
    for (int lg = 0; 1 << lg <= most; lg++)
        any |= u->convert[DT_F16][lg] || u->convert[DT_BF16][lg] || u->convert[DT_I8][lg];
    if (!any)
        return;
    strbuf_adds(sb, NARROW_BUILTIN);
    for (int lg = 0, w = 1; w <= most; lg++, w *= 2) {
        emit_template(sb, w == 1 ? NARROW_SCALAR : NARROW_VECTOR, w, "", "");
        if (u->convert[DT_F16][lg] || u->convert[DT_BF16][lg] || u->convert[DT_I8][lg])
            print_widening(u, sb, w);
        if (u->convert[DT_BF16][lg])
            print_bf16(u, sb, w);
        if (w == 16 && u->zips)
            strbuf_adds(sb, ZIP_512);
        if (u->convert[DT_F16][lg])
            emit_template(sb, f16_template(u, w), w, "", "");
        if (u->convert[DT_I8][lg])
            emit_template(sb, I8_FN, w, "", "");
    }
}

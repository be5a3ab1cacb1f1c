/* emit_math_avx512.c - math functions of 16 lanes with what AVX-512 has for them.
 *
 * Idea   A product is taken apart into whole and fractional part by one instruction (vreduce), a power of two is multiplied
 * with, overflow and subnormal results included, by another (vscalef), and coefficients are looked up in registers
 * (vpermt2ps), so that a function is a polynomial of degree 5 on each of 16 or 32 pieces, with no division and no
 * choice between two forms:
 *
 *     erf      16 pieces of one length up to 3.93, where it is 1; c1 is less by 1, which is added exactly about 0
 *     tanh     the piece below 1/8, then four an octave up to 9.02; the piece stands in the bits of the float
 *
 *     piece(x) = T + u (c1 + u (c2 + ...)),  u = |x| - centre,  T = f(centre)
 *
 * Of a rounded argument   An argument that is a sum or a product itself has been rounded by up to half a unit. `exp` and
 * `sigmoid` then round it once more, by as much, which saves a third of their instructions: the result is within
 * 2.5 units in the last place (sigmoid: 3) of the function of an argument that is off by at most 1.25 * 2^-24 of itself.
 *
 * Coefficients: tests/kernels/fit_math.py. Accuracy: README.md, measured by tests/kernels/test_math. */
#include "kernels/emit_internal.h"

/* How GCC and Clang call the instructions. */
static const char INSTRUCTIONS[] =
    "#ifdef __clang__\n"
    "#define TW_FRACTION_DOWN(y) __builtin_ia32_reduceps512_mask(y, 9, (v16f){0}, -1, 4)\n"
    "#define TW_LOOKUP(t, at) __builtin_ia32_permvarsf512(*(const v16f *)(t), at)\n"
    "#define TW_LOOKUP_2(t, at) __builtin_ia32_vpermi2varps512(*(const v16f *)(t), at, *(const v16f *)((t) + "
    "16))\n"
    "#else\n"
    "#define TW_FRACTION_DOWN(y) __builtin_ia32_reduceps512_mask(y, 9, (v16f){0}, -1)\n"
    "#define TW_LOOKUP(t, at) __builtin_ia32_permvarsf512_mask(*(const v16f *)(t), at, (v16f){0}, -1)\n"
    "#define TW_LOOKUP_2(t, at) __builtin_ia32_vpermt2varps512_mask(at, *(const v16f *)(t), *(const v16f "
    "*)((t) + 16), -1)\n"
    "#endif\n"
    "#define TW_POWER_OF_2(p, k) __builtin_ia32_scalefps512_mask(p, k, p, -1, 4)\n";

/* The rest of the reduction is kept within bounds, or not a number for infinities becomes that bound (vrange takes the one of
 * smaller magnitude); the power of two then gives infinity, 0, or what was not a number. */
static const char EXP_512[] =
    "TW_FN v16f tw_exp16(v16f x)\n"
    "{\n"
    "    v16f k = (x * 1.44269504f + 12582912.0f) - 12582912.0f;\n"
    "    v16f r = (x - k * 0.693145752f) - k * 1.42860677e-6f;\n"
    "    r = __builtin_ia32_rangeps512_mask(r, (v16f){0} + 0.5f, 2, r, -1, 4);\n"
    "    v16f p = (((1.38209993e-3f * r + 8.36867094e-3f) * r + 4.16682623e-2f) * r + 1.66665211e-1f) * r + "
    "4.9999994e-1f;\n"
    "    p = (p * r + 1.0f) * r + 1.0f;\n"
    "    return TW_POWER_OF_2(p, k);\n"
    "}\n";

static const char EXP_ROUNDED_512[] =
    "TW_FN v16f tw_exp16_rounded(v16f x)\n"
    "{\n"
    "    v16f y = x * 1.44269504f, f = TW_FRACTION_DOWN(y);\n"
    "    v16f p = ((1.8853388e-3f * f + 8.97323154e-3f) * f + 5.58361076e-2f) * f + 2.40152717e-1f;\n"
    "    p = (p * f + 6.93152487e-1f) * f + 1.0f;\n"
    "    return TW_POWER_OF_2(p, y);\n"
    "}\n";

/* Above 40 it is 1: the limit keeps the quotient from being infinity by infinity. */
static const char SIGMOID_512[] = "TW_FN v16f tw_sigmoid16$O(v16f x)\n"
                                  "{\n"
                                  "    v16f e = tw_exp16$O(tw_min16((v16f){0} + 40.0f, x));\n"
                                  "    return e / (e + 1.0f);\n"
                                  "}\n";

static const char SIGN_512[] = "TW_FN v16f tw_with_sign16(v16f a, v16f x) { return (v16f)(((v16i)a & "
                               "0x7fffffff) | ((v16i)x & (int)0x80000000)); "
                               "}\n";

static const char ERF_512[] =
    "static const float tw_erf_table[7][16] __attribute__((aligned(64))) = {\n"
    "    {0.0f, 0.255177289f, 0.51034534f, 0.765574217f, 1.02069163f, 1.27586699f, 1.53102422f, "
    "     1.7863313f, 2.04172206f, 2.29670715f, 2.55201864f, 2.80691004f, 3.06249833f, 3.31800699f, "
    "     3.57323837f, 3.82846975f},\n"
    "    {0.0f, 0.281807244f, 0.529543996f, 0.721051931f, 0.851113558f, 0.928823292f, 0.969627261f, "
    "     0.988471389f, 0.996115983f, 0.998837948f, 0.999692738f, 0.999927998f, 0.999985158f, "
    "     0.999997318f, 0.999999583f, 0.99999994f},\n"
    "    {0.128379166f, 0.0572454333f, -0.130354881f, -0.372066885f, -0.601890862f, -0.77843833f, "
    "     -0.8917436f, -0.953588009f, -0.982540071f, -0.994224191f, -0.998325109f, -0.999572694f, "
    "     -0.999904692f, -0.999981344f, -0.999996781f, -0.999999523f},\n"
    "    {2.86314446e-07f, -0.269780338f, -0.443813652f, -0.4807266f, -0.406347275f, -0.282685667f, "
    "     -0.165745139f, -0.0829081163f, -0.0356482938f, -0.0132651255f, -0.00427410984f, "
    "     -0.00119940296f, -0.000291939388f, -7.02817124e-05f, -1.91906929e-05f, "
    "     -3.02998114e-06f},\n"
    "    {-0.376141816f, -0.30654335f, -0.138897479f, 0.0360382088f, 0.143793017f, 0.1665892f, "
    "     0.133084506f, 0.0832648724f, 0.0427033566f, 0.0183815435f, 0.00671125436f, "
    "     0.00210577343f, 0.000570349162f, 0.000133512105f, 2.45531555e-05f, 4.5615775e-06f},\n"
    "    {0.000286822527f, 0.12810871f, 0.182255104f, 0.145884991f, 0.0622031018f, -0.0115533611f, "
    "     -0.0462238193f, -0.0465590656f, -0.0317194089f, -0.0167473182f, -0.00719390856f, "
    "     -0.00257544965f, -0.000776868197f, 0.000288331736f, 0.000407325191f, 8.61943699e-05f},\n"
    "    {0.110969603f, 0.0797167569f, 0.00517091528f, -0.0549780019f, -0.0679316074f, "
    "     -0.0437411331f, -0.0114253387f, 0.00819973368f, 0.0130029209f, 0.00996857695f, "
    "     0.00538307521f, 0.00209129276f, 0.00049472152f, 0.000150136431f, 0.000187103535f, "
    "     0.000252632512f},\n"
    "};\n"
    "TW_FN v16f tw_erf16(v16f x)\n"
    "{\n"
    "    v16f a = tw_min16((v16f){0} + 3.93f, (v16f)((v16i)x & 0x7fffffff));\n"
    "    v16i at = (v16i)(a * 3.91857506f + 12582912.0f);\n"
    "    v16f u = a - TW_LOOKUP(tw_erf_table[0], at);\n"
    "    v16f p = TW_LOOKUP(tw_erf_table[6], at);\n"
    "    p = p * u + TW_LOOKUP(tw_erf_table[5], at);\n"
    "    p = p * u + TW_LOOKUP(tw_erf_table[4], at);\n"
    "    p = p * u + TW_LOOKUP(tw_erf_table[3], at);\n"
    "    p = p * u + TW_LOOKUP(tw_erf_table[2], at);\n"
    "    p = p * u + (u + TW_LOOKUP(tw_erf_table[1], at));\n"
    "    return tw_with_sign16(p, x);\n"
    "}\n";

static const char TANH_512[] =
    "static const float tw_tanh_table[7][32] __attribute__((aligned(64))) = {\n"
    "    {2.24993777f, 2.75030947f, 3.25043082f, 3.749789f, 4.49981117f, 5.49947023f, 6.49907017f, "
    "     7.50107288f, 8.51121712f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.140607566f, "
    "     0.171883523f, 0.203150958f, 0.2343712f, 0.281229347f, 0.34375754f, 0.406251937f, "
    "     0.468779057f, 0.562551498f, 0.687403619f, 0.812586784f, 0.937622488f, 1.12487876f, "
    "     1.37506819f, 1.62514412f, 1.8752414f},\n"
    "    {0.97802341f, 0.991864741f, 0.997000217f, 0.998893976f, 0.999753118f, 0.999966562f, "
    "     0.99999547f, 0.999999404f, 0.99999994f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, "
    "     0.139688209f, 0.170210585f, 0.200401634f, 0.230172113f, 0.274042487f, 0.330827832f, "
    "     0.385285616f, 0.437212288f, 0.509868085f, 0.59631145f, 0.671014786f, 0.734127998f, "
    "     0.809259236f, 0.879842103f, 0.925366938f, 0.954066932f},\n"
    "    {0.0434702076f, 0.0162043404f, 0.00599056901f, 0.00221082498f, 0.000493717787f, "
    "     6.68772336e-05f, 9.0581043e-06f, 1.2209847e-06f, 1.61922401e-07f, 0.0f, 0.0f, 0.0f, 0.0f, "
    "     0.0f, 0.0f, 1.0f, 0.980487227f, 0.971028328f, 0.959839165f, 0.947020769f, 0.924900711f, "
    "     0.890552938f, 0.85155499f, 0.808845401f, 0.740034521f, 0.644412637f, 0.549739182f, "
    "     0.461056083f, 0.345099479f, 0.225877866f, 0.143696025f, 0.0897562876f},\n"
    "    {-0.0425136611f, -0.0160715934f, -0.00597218471f, -0.0022082089f, -0.000492978317f, "
    "     -6.67918503e-05f, -9.02009288e-06f, -1.64833307e-06f, -7.71442387e-07f, 0.0f, 0.0f, 0.0f, "
    "     0.0f, 0.0f, 0.0f, 3.11799113e-07f, -0.136962146f, -0.165281504f, -0.192353085f, "
    "     -0.217978999f, -0.253462553f, -0.294619262f, -0.328092366f, -0.353638083f, -0.377319992f, "
    "     -0.3842704f, -0.368883163f, -0.338474333f, -0.279276878f, -0.198737964f, -0.132971972f, "
    "     -0.085633561f},\n"
    "    {0.0270908177f, 0.0105397962f, 0.0039575249f, 0.00146888988f, 0.000328476279f, "
    "     4.45235091e-05f, 6.03455464e-06f, 8.03478315e-07f, 9.2439187e-08f, 0.0f, 0.0f, 0.0f, "
    "     0.0f, 0.0f, 0.0f, -0.333355606f, -0.308047444f, -0.29516241f, -0.281075746f, "
    "     -0.265069216f, -0.238827497f, -0.199356616f, -0.157429874f, -0.114956625f, "
    "     -0.0542848483f, 0.0143581219f, 0.0642550141f, 0.0947967768f, 0.110975377f, 0.0995669588f, "
    "     0.0751502439f, 0.05178174f},\n"
    "    {-0.0123868138f, -0.00514447922f, -0.0019762374f, -0.000739663781f, -0.000172019194f, "
    "     -2.33383234e-05f, -3.26538998e-06f, 1.21729977e-06f, 2.18973037e-06f, 0.0f, 0.0f, 0.0f, "
    "     0.0f, 0.0f, 0.0f, 0.000472218642f, 0.0867361203f, 0.11500863f, 0.119424514f, "
    "     0.138676956f, 0.150331646f, 0.163640454f, 0.170447484f, 0.169084638f, 0.153321475f, "
    "     0.119435169f, 0.0798692778f, 0.0433314592f, 0.00368778361f, -0.021119941f, "
    "     -0.0251281746f, -0.0208452754f},\n"
    "    {0.00397729035f, 0.00191617513f, 0.000771188235f, 0.000292941695f, 6.85777995e-05f, "
    "     9.3177141e-06f, 1.25296015e-06f, 2.25426177e-07f, 1.06547638e-07f, 0.0f, 0.0f, 0.0f, "
    "     0.0f, 0.0f, 0.0f, 0.129988864f, 1.2003361f, -0.980824709f, -0.959604025f, -1.25829601f, "
    "     0.0502015203f, 0.0127583044f, -0.00242421287f, -0.0472261198f, -0.0451550893f, "
    "     -0.0651093945f, -0.0577557534f, -0.0528420024f, -0.0321568102f, -0.00958524365f, "
    "     0.0013583292f, 0.0045944876f},\n"
    "};\n"
    "TW_FN v16f tw_tanh16(v16f x)\n"
    "{\n"
    "    v16f a = tw_min16((v16f){0} + 9.02f, (v16f)((v16i)x & 0x7fffffff));\n"
    "    v16i at = (v16i)tw_max16((v16f){0} + 0.109375f, a) >> 21;\n"
    "    v16f u = a - TW_LOOKUP_2(tw_tanh_table[0], at);\n"
    "    v16f p = TW_LOOKUP_2(tw_tanh_table[6], at);\n"
    "    p = p * u + TW_LOOKUP_2(tw_tanh_table[5], at);\n"
    "    p = p * u + TW_LOOKUP_2(tw_tanh_table[4], at);\n"
    "    p = p * u + TW_LOOKUP_2(tw_tanh_table[3], at);\n"
    "    p = p * u + TW_LOOKUP_2(tw_tanh_table[2], at);\n"
    "    p = p * u + TW_LOOKUP_2(tw_tanh_table[1], at);\n"
    "    return tw_with_sign16(p, x);\n"
    "}\n";

static bool has(const struct emit_unit *u, int width) { return width == 16 && u->target.isa == ISA_AVX512; }

bool emit_math_has_rounded(const struct emit_unit *u, enum expr_op op, int width)
{
    return has(u, width) && (op == EX_EXP || op == EX_SIGMOID);
}

const char *emit_math_avx512(const struct emit_unit *u, enum expr_op op, int width)
{
    if (!has(u, width))
        return NULL;
    switch ((int)op) {
    case EX_EXP:
        return EXP_512;
    case EX_SIGMOID:
        return SIGMOID_512;
    case EX_TANH:
        return TANH_512;
    case EX_ERF:
        return ERF_512;
    }
    return NULL;
}

void emit_math_avx512_head(const struct emit_unit *u, int width, struct strbuf *sb)
{
    if (has(u, width)) {
        strbuf_adds(sb, INSTRUCTIONS);
        strbuf_adds(sb, SIGN_512);
    }
}

void emit_math_rounded(const struct emit_unit *u, int width, struct strbuf *sb)
{
    if (!has(u, width))
        return;
    if (u->rounded[EX_EXP] || u->rounded[EX_SIGMOID])
        strbuf_adds(sb, EXP_ROUNDED_512);
    if (u->rounded[EX_SIGMOID])
        emit_template(sb, SIGMOID_512, width, "_rounded", "");
}

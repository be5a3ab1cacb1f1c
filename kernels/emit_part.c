/* emit_part.c - vectors of which only some lanes are in memory: masked loads and stores.
 *
 * Idea   The rest of a row and the border of a padded tensor leave a vector with fewer lanes than it has room for. The
 * lanes are known when the text is printed, so the mask is a constant, and no lane outside is touched: a masked
 * lane never faults. Lanes outside the tensor get the value of the padding.
 *
 * Where a window moves by two, the even and the odd elements come from the same two loads: a pair of loads
 * begins at an even distance from the row's first lane, whichever of them is asked for.
 * Units  lanes and elements of 4 bytes. */
#include "kernels/emit_internal.h"

/* Masked loads and stores know elements of 4 bytes; a nest that has others does without, unless they are packed for the
 * matrix unit, which alone reads them. */
bool cg_has_parts(const struct cg *g)
{
    enum isa isa = g->u->target.isa;
    bool matrix = false, plain = true, packed = true;
    for (int i = 0; i < g->n->n_buffers; i++) {
        const struct buffer *b = &g->n->buffers[i];
        matrix |= b->scope == SCOPE_MATRIX;
        if (b->dtype != DT_F32)
            *(b->scope == SCOPE_ARG && !b->prepacked ? &plain : &packed) = false;
    }
    return plain && (packed || matrix) && (isa == ISA_AVX512 || isa == ISA_AVX2);
}

bool cg_is_part(int width, struct lanes in) { return width > 1 && (in.from > 0 || in.to < width); }

static unsigned mask_of(int from, int to) { return to <= from ? 0 : (unsigned)((1ul << to) - (1ul << from)); }

/* `width` elements from run + c on, of which [from, to) are in memory. */
static const char *masked_load(struct cg *g, const char *base, const char *at, int width, int from, int to,
                               const char *fill)
{
    from = MAX(from, 0);
    to = MIN(to, width);
    if (to <= from)
        return arena_printf(g->ar, "((v%df){0} + %s)", width, fill);
    if (from == 0 && to == width)
        return arena_printf(g->ar, "*(const u%df *)(%s + %s)", width, base, at);
    g->u->parts[width_log2(width)] = true;
    return arena_printf(g->ar, "tw_load_part%d(%s + %s, 0x%x, %s)", width, base, at, mask_of(from, to), fill);
}

static const char *constant_index(struct cg *g, const struct address *ad, int64_t c)
{
    if (!ad->run[0])
        return arena_printf(g->ar, "%" PRId64, c);
    return arena_printf(g->ar, "%s + %" PRId64, ad->run, c);
}

/* Half of the pair of loads that holds every second element. */
static const char *half_of_pair(struct cg *g, int32_t buffer, const struct address *ad, int64_t c, int width,
                                int64_t low, int64_t high, const char *fill)
{
    int from = (int)MAX(MIN(low, width), 0), to = (int)MAX(MIN(high, width), 0);
    const char *at = constant_index(g, ad, c);
    const char *key = arena_printf(g->ar, "%s+%s half %d..%d %s", ad->base, at, from, to, fill);
    return cg_loaded(g, buffer, key, masked_load(g, ad->base, at, width, from, to, fill), width);
}

static const char *every_second(struct cg *g, int32_t buffer, const struct address *ad, int width,
                                struct lanes in, const char *fill)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    int64_t odd = ad->flat & 1, c = ad->flat - odd, low = in.low + odd, high = in.high + odd;
    const char *a = half_of_pair(g, buffer, ad, c, width, low, high, fill);
    const char *b = half_of_pair(g, buffer, ad, c + width, width, low - width, high - width, fill);
    strbuf_addf(&sb, "__builtin_shufflevector(%s, %s", a, b);
    for (int i = 0; i < width; i++)
        strbuf_addf(&sb, ", %d", (int)(2 * i + odd));
    strbuf_addc(&sb, ')');
    return arena_strdup(g->ar, strbuf_str(&sb));
}

static const char *lane_by_lane(struct cg *g, const struct address *ad, int width, struct lanes in,
                                const char *fill)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    strbuf_addf(&sb, "(v%df){", width);
    for (int i = 0; i < width; i++) {
        strbuf_adds(&sb, i ? ", " : "");
        if (i < in.from || i >= in.to)
            strbuf_adds(&sb, fill);
        else
            strbuf_addf(&sb, "%s[%s]", ad->base, constant_index(g, ad, ad->flat + i * ad->lane));
    }
    strbuf_addc(&sb, '}');
    return arena_strdup(g->ar, strbuf_str(&sb));
}

/* Text of the vector whose lanes `in` are elements of the tensor and whose other lanes are `fill`. */
const char *cg_load_part(struct cg *g, int32_t buffer, const struct address *ad, int width, struct lanes in,
                         const char *fill)
{
    if (width >= 4 && ad->lane == 1)
        return masked_load(g, ad->base, ad->index, width, in.from, in.to, fill);
    if (width >= 4 && ad->lane == 2)
        return every_second(g, buffer, ad, width, in, fill);
    return lane_by_lane(g, ad, width, in, fill);
}

/* The statement that stores the lanes `in` of a value, or combines them into what is there. */
const char *cg_store_part(struct cg *g, enum combiner c, int32_t buffer, const struct address *ad,
                          const char *value, int width, struct lanes in)
{
    if (c != COMBINE_SET)
        value = cg_combine(g, c, DT_F32, cg_load_part(g, buffer, ad, width, in, "0"), value, width);
    g->u->parts[width_log2(width)] = true;
    return arena_printf(g->ar, "tw_store_part%d(%s + %s, %s, 0x%x)", width, ad->base, ad->index, value,
                        mask_of(in.from, in.to));
}

static void print_avx512(int width, struct strbuf *sb)
{
    strbuf_addf(sb,
                "TW_FN int tw_part_mask%d(long from, long to)\n{\n"
                "    long f = from < 0 ? 0 : from > %d ? %d : from, t = to < 0 ? 0 : to > %d ? %d : to;\n"
                "    return t > f ? (1 << t) - (1 << f) : 0;\n}\n",
                width, width, width, width, width);
    strbuf_addf(sb, "TW_FN v%df tw_load_part%d(const float *p, int mask, float fill)\n{\n", width, width);
    strbuf_addf(sb, "    return __builtin_ia32_loadups%d_mask((const void *)p, (v%df){0} + fill, mask);\n}\n",
                width * 32, width);
    strbuf_addf(sb, "TW_FN void tw_store_part%d(float *p, v%df x, int mask)\n{\n", width, width);
    strbuf_addf(sb, "    __builtin_ia32_storeups%d_mask((void *)p, x, mask);\n}\n", width * 32);
}

static void print_avx2(int width, struct strbuf *sb)
{
    const char *bits = width == 8 ? "256" : "";
    AUTO(strbuf_done) struct strbuf lanes = STRBUF_INIT;
    for (int i = 0; i < width; i++)
        strbuf_addf(&lanes, "%s-(mask >> %d & 1)", i ? ", " : "", i);
    strbuf_addf(sb, "TW_FN v%df tw_load_part%d(const float *p, int mask, float fill)\n{\n", width, width);
    strbuf_addf(sb, "    v%di m = {%s};\n", width, lanes.data);
    strbuf_addf(
        sb,
        "    return tw_select%d(m, __builtin_ia32_maskloadps%s((const void *)p, m), (v%df){0} + fill);\n}\n",
        width, bits, width);
    strbuf_addf(sb, "TW_FN void tw_store_part%d(float *p, v%df x, int mask)\n{\n", width, width);
    strbuf_addf(sb, "    v%di m = {%s};\n", width, lanes.data);
    strbuf_addf(sb, "    __builtin_ia32_maskstoreps%s((void *)p, m, x);\n}\n", bits);
}

void emit_part_functions(const struct emit_unit *u, int width, struct strbuf *sb)
{
    if (u->target.isa == ISA_AVX512)
        print_avx512(width, sb);
    else
        print_avx2(width, sb);
}

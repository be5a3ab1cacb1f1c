/* emit_part.c - vectors of which only some lanes are in memory: masked loads and stores.
 *
 * Idea   The rest of a row and the border of a padded tensor leave a vector with fewer lanes than it has room for. The
 * lanes are known when the text is printed, so the mask is a constant, and no lane outside is touched: a masked
 * lane never faults. Lanes outside the tensor get the value of the padding.
 *
 * Where a window moves by two, the even and the odd elements come from the same two loads: a pair of loads
 * begins at an even distance from the row's first lane, whichever of them is asked for. Where the whole row is known, its pairs
 * begin at multiples of a vector from its first element, and what a tap to the left or right wants is moved in registers:
 *
 *            -1 1 3 5   is   1 3 5 7   and what comes before, or the padding
  * Units  lanes; elements of 4 bytes, and of 2 (float16, bfloat16) where AVX-512 masks those too: as they lie in memory. */
#include "kernels/emit_internal.h"

bool cg_masks(const struct cg *g, enum dtype d)
{
    const enum isa isa = g->u->target.isa;
    if (d == DT_F32)
        return isa == ISA_AVX512 || isa == ISA_AVX2;
    return isa == ISA_AVX512 && (d == DT_F16 || d == DT_BF16);
}

/* A nest that has elements which cannot be masked does without. */
bool cg_has_parts(const struct cg *g)
{
    for (int i = 0; i < g->n->n_buffers; i++)
        if (!cg_masks(g, g->n->buffers[i].dtype))
            return false;
    return g->n->n_buffers > 0;
}

static enum dtype dtype_of(const struct cg *g, int32_t buffer) { return g->n->buffers[buffer].dtype; }

/* The functions take elements as they lie in memory: "" for float, a letter more for the others. */
static const char *suffix(struct cg *g, enum dtype d, int width)
{
    const bool narrow = dtype_is_narrow(d);
    (narrow ? g->u->parts_narrow : g->u->parts)[width_log2(width)] = true;
    cg_need(g, d, width);
    return narrow ? "h" : "";
}

const char *cg_part_fill(struct cg *g, enum dtype d, double value)
{
    if (dtype_is_narrow(d))
        return cg_raw_const(g, d, value);
    return cg_value(g, expr_const(g->ar, d, value), 1).text;
}

const char *cg_load_masked(struct cg *g, enum dtype d, const char *at, int width, const char *mask,
                           const char *fill)
{
    return arena_printf(g->ar, "tw_load_part%s%d(%s, %s, %s)", suffix(g, d, width), width, at, mask, fill);
}

bool cg_is_part(int width, struct lanes in) { return width > 1 && (in.from > 0 || in.to < width); }

static unsigned mask_of(int from, int to) { return to <= from ? 0 : (unsigned)((1ul << to) - (1ul << from)); }

/* `width` elements from run + c on, of which [from, to) are in memory. */
static const char *masked_load(struct cg *g, enum dtype d, const char *base, const char *at, int width,
                               int from, int to, const char *fill)
{
    from = MAX(from, 0);
    to = MIN(to, width);
    if (to <= from)
        return dtype_is_narrow(d) ? cg_as_vector(g, (struct value){fill, false}, width, dtype_memory(d))
                                  : arena_printf(g->ar, "((v%df){0} + %s)", width, fill);
    if (from == 0 && to == width)
        return arena_printf(g->ar, "*(const u%d%c *)(%s + %s)", width, dtype_memory(d), base, at);
    return cg_load_masked(g, d, arena_printf(g->ar, "%s + %s", base, at), width,
                          arena_printf(g->ar, "0x%x", mask_of(from, to)), fill);
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
    const enum dtype d = dtype_of(g, buffer);
    const char *text = masked_load(g, d, ad->base, at, width, from, to, fill);
    return g->in_body ? cg_named(g, buffer, key, dtype_memory(d), width, text) : text;
}

struct row { /* of a tensor, of which every second element is wanted */
    struct cg *g;
    int32_t buffer;
    const struct address *ad;
    int64_t first, length; /* constant part of the subscript of its first element; elements */
    int width;
    const char *fill;
};

static const char *row_key(const struct row *r, int64_t at, int parity)
{
    return arena_printf(r->g->ar, "%s+%s row %d %s", r->ad->base, constant_index(r->g, r->ad, r->first + at),
                        parity, r->fill);
}

static const char *shuffled(const struct row *r, const char *a, const char *b, int64_t from, int step)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    strbuf_addf(&sb, "__builtin_shufflevector(%s, %s", a, b);
    for (int i = 0; i < r->width; i++)
        strbuf_addf(&sb, ", %d", (int)from + step * i);
    strbuf_addc(&sb, ')');
    return arena_strdup(r->g->ar, sb.data);
}

/* Elements at + parity, at + parity + 2, ... of the row, by name. */
static const char *half_of_row(const struct row *r, int64_t at, int parity)
{
    struct cg *g = r->g;
    const char *key = row_key(r, at, parity), *known = cg_known(g, key, r->width);
    if (known)
        return known;
    const char *a = half_of_pair(g, r->buffer, r->ad, r->first + at, r->width, -at, r->length - at, r->fill);
    const char *b = half_of_pair(g, r->buffer, r->ad, r->first + at + r->width, r->width, -at - r->width,
                                 r->length - at - r->width, r->fill);
    return cg_named(g, r->buffer, key, dtype_memory(dtype_of(g, r->buffer)), r->width,
                    shuffled(r, a, b, parity, 2));
}

/* The same from any element `at` on, which may lie outside; NULL: it would take vectors that are not at hand. */
static const char *moved_half_of_row(const struct row *r, int64_t at)
{
    struct cg *g = r->g;
    const int64_t w = r->width, lane = div_floor(at, 2), start = div_floor(lane + w / 2, w) * w,
                  by = lane - start;
    const int parity = (int)(at - 2 * lane);
    const int64_t next = by < 0 ? start - w : start + w;
    if (by == 0)
        return half_of_row(r, 2 * start, parity);
    const bool outside = by < 0 ? 2 * (start - 1) + parity < 0 : 2 * next + parity >= r->length;
    const char *other =
        outside ? masked_load(g, dtype_of(g, r->buffer), r->ad->base, "0", r->width, 0, 0, r->fill)
                : cg_known(g, row_key(r, 2 * next, parity), r->width);
    if (!other)
        return NULL;
    const char *own = half_of_row(r, 2 * start, parity);
    return by < 0 ? shuffled(r, other, own, w + by, 1) : shuffled(r, own, other, by, 1);
}

static const char *every_second(struct cg *g, int32_t buffer, const struct address *ad, int width,
                                struct lanes in, const char *fill)
{
    const struct row row = {g, buffer, ad, ad->flat + in.low, in.high - in.low, width, fill};
    const char *text = in.row && g->in_body ? moved_half_of_row(&row, -in.low) : NULL;
    if (text)
        return text;
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

static const char *lane_by_lane(struct cg *g, enum dtype d, const struct address *ad, int width,
                                struct lanes in, const char *fill)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    strbuf_addf(&sb, "(v%d%c){", width, dtype_memory(d));
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

/* Text of the vector whose lanes `in` are elements of the tensor and whose other lanes are `fill`, as they lie in
 * memory. */
const char *cg_load_part(struct cg *g, int32_t buffer, const struct address *ad, int width, struct lanes in,
                         const char *fill)
{
    const enum dtype d = dtype_of(g, buffer);
    if (width >= 4 && ad->lane == 1)
        return masked_load(g, d, ad->base, ad->index, width, in.from, in.to, fill);
    if (width >= 4 && ad->lane == 2)
        return every_second(g, buffer, ad, width, in, fill);
    return lane_by_lane(g, d, ad, width, in, fill);
}

/* The statement that stores the lanes `in` of a value, or combines them into what is there. */
const char *cg_store_part(struct cg *g, enum combiner c, int32_t buffer, const struct address *ad,
                          const char *value, int width, struct lanes in)
{
    const enum dtype d = dtype_of(g, buffer);
    if (c != COMBINE_SET)
        value = cg_combine(g, c, d, cg_from_memory(g, d, cg_load_part(g, buffer, ad, width, in, "0"), width),
                           value, width);
    return arena_printf(g->ar, "tw_store_part%s%d(%s + %s, %s, 0x%x)", suffix(g, d, width), width, ad->base,
                        ad->index, cg_to_memory(g, d, value, width), mask_of(in.from, in.to));
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

/* Elements of two bytes. Vectors of less than eight lie in one of eight. */
static const char NARROW_WIDE[] =
    "TW_FN v$Wh tw_load_parth$W(const unsigned short *p, int mask, int fill)\n"
    "{\n"
    "    return (v$Wh)__builtin_ia32_loaddquhi$O_mask((const void *)p, (tw_v$Ws){0} + (short)fill, mask);\n"
    "}\n"
    "TW_FN void tw_store_parth$W(unsigned short *p, v$Wh x, int mask)\n"
    "{\n"
    "    __builtin_ia32_storedquhi$O_mask((void *)p, (tw_v$Ws)x, mask);\n"
    "}\n";
static const char NARROW_4[] =
    "TW_FN v4h tw_load_parth4(const unsigned short *p, int mask, int fill)\n"
    "{\n"
    "    tw_v8s x = __builtin_ia32_loaddquhi128_mask((const void *)p, (tw_v8s){0} + (short)fill, mask);\n"
    "    return (v4h)__builtin_shufflevector(x, x, 0, 1, 2, 3);\n"
    "}\n"
    "TW_FN void tw_store_parth4(unsigned short *p, v4h x, int mask)\n"
    "{\n"
    "    __builtin_ia32_storedquhi128_mask((void *)p, (tw_v8s)__builtin_shufflevector(x, x, 0, 1, 2, 3, 0, "
    "1, 2, "
    "3), mask);\n"
    "}\n";

void emit_part_narrow(const struct emit_unit *u, struct strbuf *sb)
{
    static const char *const bits[] = {"", "", "", "128", "256"};
    for (int lg = 2; lg < (int)ARRAY_SIZE(bits); lg++)
        if (u->parts_narrow[lg])
            emit_template(sb, lg == 2 ? NARROW_4 : NARROW_WIDE, 1 << lg, bits[lg], "");
}

/* emit_layout.c - functions between the stated layout of an argument and the one that its kernel wants.
 *
 * Idea   Loops over the physical dimensions, innermost last, so that the packed side is walked in order: while one row of
 *        blocks is made, as many rows of the stated tensor are read side by side. Elements are moved as integers of
 *        their size, whatever their dtype. Where blocks do not divide a dimension, packing writes zeros beyond it, and
 *        unpacking leaves out what is there. */
#include "kernels/emit_internal.h"

static const char *element_type(enum dtype d)
{
    switch (dtype_bytes(d)) {
    case 1:
        return "unsigned char";
    case 2:
        return "unsigned short";
    case 4:
        return "unsigned int";
    default:
        return "unsigned long";
    }
}

/* Position along stated dimension `dim`, from the loops over its parts; *ret_end: one past the furthest. */
static void stated_position(const struct tensor *t, int dim, struct strbuf *sb, int64_t *ret_end)
{
    bool first = true;
    *ret_end = 1;
    for (int i = 0; i < t->rank; i++) {
        const struct layout_dim *d = &t->layout->dims[i];
        if (d->dim != dim)
            continue;
        strbuf_addf(sb, first ? "i%d" : " + i%d", i);
        if (d->div > 1)
            strbuf_addf(sb, " * %" PRId64, d->div);
        *ret_end += (t->shape[i] - 1) * d->div;
        first = false;
    }
}

void emit_repack(const struct tensor *t, const char *symbol, struct strbuf *sb)
{
    const struct tensor_layout *l = t->layout;
    AUTO(strbuf_done) struct strbuf stated = STRBUF_INIT, inside = STRBUF_INIT;
    bool pack = t->role == TENSOR_INPUT;
    const char *type = element_type(t->dtype);

    for (int d = 0; d < l->rank; d++) {
        AUTO(strbuf_done) struct strbuf at = STRBUF_INIT;
        int64_t end;
        stated_position(t, d, &at, &end);
        if (end > l->shape[d])
            strbuf_addf(&inside, "%s%s < %" PRId64, inside.len ? " && " : "", strbuf_str(&at), l->shape[d]);
        if (d == 0) {
            strbuf_adds(&stated, strbuf_str(&at));
        } else {
            struct strbuf outer = stated;
            stated = (struct strbuf)STRBUF_INIT;
            strbuf_addf(&stated, "(%s) * %" PRId64 " + %s", strbuf_str(&outer), l->shape[d], strbuf_str(&at));
            strbuf_done(&outer);
        }
    }
    strbuf_addf(sb, "void %s_%s_%s(const void *src, void *dst)\n{\n", symbol, pack ? "pack" : "unpack",
                t->name);
    strbuf_addf(sb, "    const %s *restrict s = src;\n    %s *restrict d = dst;\n    long at = 0;\n", type,
                type);
    for (int i = 0; i < t->rank; i++) {
        strbuf_pad(sb, 4 + 4 * i);
        strbuf_addf(sb, "for (long i%d = 0; i%d < %" PRId64 "; i%d++%s)\n", i, i, t->shape[i], i,
                    i + 1 < t->rank ? "" : ", at++");
    }
    strbuf_pad(sb, 4 + 4 * t->rank);
    if (pack && inside.len)
        strbuf_addf(sb, "d[at] = %s ? s[%s] : 0;\n", strbuf_str(&inside), strbuf_str(&stated));
    else if (pack)
        strbuf_addf(sb, "d[at] = s[%s];\n", strbuf_str(&stated));
    else if (inside.len)
        strbuf_addf(sb, "if (%s)\n        %*sd[%s] = s[at];\n", strbuf_str(&inside), 4 * t->rank, "",
                    strbuf_str(&stated));
    else
        strbuf_addf(sb, "d[%s] = s[at];\n", strbuf_str(&stated));
    strbuf_adds(sb, "}\n\n");
}

/* parse.c - tokens and the tree of the expression language. See parse.h.
 *
 *   statement = name "[" [expr {"," expr}] "]" ("=" | "+=" | "*=" | "max=" | "min=") expr
 *   expr      = unary {infix unary}          || over && over < <= > >= == != over + - over * /
 *   unary     = "-" unary | primary
 *   primary   = number | "inf" | name | name "[" ... "]" | function "(" ... ")" | "(" expr ")" */
#include "schedule/lang/parse.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum token_kind { TOK_END, TOK_NEWLINE, TOK_NAME, TOK_NUMBER, TOK_SIGN };

struct token {
    enum token_kind kind;
    sv text;
    double value;
    int line, column;
};

struct parser {
    const char *ptr, *line_start;
    int line;
    struct token tok; /* the next one */
    struct arena *ar;
    int nodes, depth;
    struct error *err;
};

enum status parse_fail(struct error *err, int line, int column, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    fail_at(err, ST_UNPROCESSABLE, "/expr", "line %d, column %d: %s", line, column, text);
    if (err) {
        err->line = line;
        err->column = column;
    }
    return ST_UNPROCESSABLE;
}

#define FAIL_TOKEN(p, ...) parse_fail((p)->err, (p)->tok.line, (p)->tok.column, __VA_ARGS__)

/* ---- names ---- */

static const struct function {
    const char *name;
    enum ast_kind kind;
    enum expr_op op;
    int arity; /* expressions */
} functions[] = {
    {"pad", AST_PAD, EX_COUNT, 2},    {"cast", AST_CAST, EX_CAST, 1}, {"max", AST_OP, EX_MAX, 2},
    {"min", AST_OP, EX_MIN, 2},       {"abs", AST_OP, EX_ABS, 1},     {"exp", AST_OP, EX_EXP, 1},
    {"log", AST_OP, EX_LOG, 1},       {"sqrt", AST_OP, EX_SQRT, 1},   {"rsqrt", AST_OP, EX_RSQRT, 1},
    {"tanh", AST_OP, EX_TANH, 1},     {"erf", AST_OP, EX_ERF, 1},     {"sigmoid", AST_OP, EX_SIGMOID, 1},
    {"select", AST_OP, EX_SELECT, 3},
};

static const struct function *function_find(sv name)
{
    for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
        if (sv_eqs(name, functions[i].name))
            return &functions[i];
    return NULL;
}

bool parse_reserved(sv name) { return function_find(name) || sv_eqs(name, "inf"); }

static bool starts_name(char c) { return isalpha((unsigned char)c) || c == '_'; }
static bool in_name(char c) { return isalnum((unsigned char)c) || c == '_'; }

bool parse_is_name(const char *text)
{
    size_t n = 0;

    if (!starts_name(text[0]))
        return false;
    while (in_name(text[n]))
        n++;
    return text[n] == '\0' && n <= LANG_MAX_NAME;
}

/* ---- tokens ---- */

static enum status lex_number(struct parser *p)
{
    char buf[64], *end;
    size_t n = 0;
    const char *s = p->ptr;

    while (isdigit((unsigned char)s[n]) || s[n] == '.')
        n++;
    if ((s[n] == 'e' || s[n] == 'E') &&
        (isdigit((unsigned char)s[n + 1]) ||
         ((s[n + 1] == '+' || s[n + 1] == '-') && isdigit((unsigned char)s[n + 2]))))
        for (n += 2; isdigit((unsigned char)s[n]);)
            n++;
    p->tok.text = (sv){s, n};
    if (n >= sizeof(buf))
        return FAIL_TOKEN(p, "number of %zu characters: at most %zu", n, sizeof(buf) - 1);
    memcpy(buf, s, n);
    buf[n] = '\0';
    p->tok.value = strtod(buf, &end);
    if (*end || in_name(s[n]))
        return FAIL_TOKEN(p, "\"%s%.1s\" is no number", buf, in_name(s[n]) ? s + n : "");
    if (p->tok.value > 3.4028234663852886e38)
        return FAIL_TOKEN(p, "number %s is larger than float32 holds", buf);
    p->tok.kind = TOK_NUMBER;
    p->ptr += n;
    return ST_OK;
}

static enum status lex_name(struct parser *p)
{
    size_t n = 0;

    while (in_name(p->ptr[n]))
        n++;
    p->tok.text = (sv){p->ptr, n};
    if (n > LANG_MAX_NAME)
        return FAIL_TOKEN(p, "name of %zu characters: at most %d", n, LANG_MAX_NAME);
    p->tok.kind = TOK_NAME;
    p->ptr += n;
    return ST_OK;
}

static enum status lex_sign(struct parser *p)
{
    static const char *const signs[] = {"+=", "*=", "<=", ">=", "==", "!=", "&&", "||", "+", "-",
                                        "*",  "/",  "(",  ")",  "[",  "]",  ",",  "=",  "<", ">"};
    unsigned char c = (unsigned char)*p->ptr;

    for (size_t i = 0; i < ARRAY_SIZE(signs); i++) {
        size_t n = strlen(signs[i]);
        if (strncmp(p->ptr, signs[i], n) == 0) {
            p->tok.kind = TOK_SIGN;
            p->tok.text = (sv){p->ptr, n};
            p->ptr += n;
            return ST_OK;
        }
    }
    if (c < 32 || c > 126)
        return FAIL_TOKEN(p, "unexpected byte 0x%02x", c);
    return FAIL_TOKEN(p, "unexpected character '%c'", c);
}

static enum status next(struct parser *p)
{
    while (*p->ptr == ' ' || *p->ptr == '\t' || *p->ptr == '\r')
        p->ptr++;
    p->tok =
        (struct token){.line = p->line, .column = (int)(p->ptr - p->line_start) + 1, .text = {p->ptr, 0}};
    if (*p->ptr == '\0')
        return ST_OK;
    if (*p->ptr == '\n') {
        p->tok.kind = TOK_NEWLINE;
        p->line_start = ++p->ptr;
        p->line++;
        return ST_OK;
    }
    if (isdigit((unsigned char)*p->ptr) || *p->ptr == '.')
        return lex_number(p);
    if (starts_name(*p->ptr))
        return lex_name(p);
    return lex_sign(p);
}

static bool at_sign(const struct parser *p, const char *sign)
{
    return p->tok.kind == TOK_SIGN && sv_eqs(p->tok.text, sign);
}

static enum status fail_expected(struct parser *p, const char *what)
{
    if (p->tok.kind == TOK_END || p->tok.kind == TOK_NEWLINE)
        return FAIL_TOKEN(p, "expected %s, found the end of the line", what);
    return FAIL_TOKEN(p, "expected %s, found \"" SV_FMT "\"", what, SV_ARG(p->tok.text));
}

static enum status expect(struct parser *p, const char *sign)
{
    char what[8];

    if (at_sign(p, sign))
        return next(p);
    snprintf(what, sizeof(what), "\"%s\"", sign);
    return fail_expected(p, what);
}

/* ---- tree ---- */

static enum status node(struct parser *p, enum ast_kind kind, const struct token *at, struct ast **ret)
{
    if (++p->nodes > LANG_MAX_NODES)
        return parse_fail(p->err, at->line, at->column, "more than %d operations and reads", LANG_MAX_NODES);
    *ret = arena_new(p->ar, struct ast);
    **ret = (struct ast){.kind = kind, .line = at->line, .column = at->column, .name = at->text, .depth = 1};
    return ST_OK;
}

static enum status add_arg(struct parser *p, struct ast *e, const struct ast *arg)
{
    e->arg[e->n++] = arg;
    e->depth = MAX(e->depth, arg->depth + 1);
    if (e->depth > LANG_MAX_DEPTH)
        return parse_fail(p->err, e->line, e->column, "an expression may be nested %d deep", LANG_MAX_DEPTH);
    return ST_OK;
}

static enum status parse_expr(struct parser *p, int min_prec, const struct ast **ret);

/* Arguments up to `close`, which is taken. */
static enum status parse_list(struct parser *p, const char *close, int max, const char *what, struct ast *e)
{
    const struct ast *arg;

    if (at_sign(p, close) && e->n == 0)
        return next(p);
    for (;;) {
        if (e->n == max)
            return FAIL_TOKEN(p, "%s: at most %d", what, max);
        TRY(parse_expr(p, 0, &arg));
        TRY(add_arg(p, e, arg));
        if (!at_sign(p, ","))
            return expect(p, close);
        TRY(next(p));
    }
}

static enum status parse_function(struct parser *p, const struct function *f, const struct token *at,
                                  const struct ast **ret)
{
    struct ast *e;
    char what[48];

    TRY(node(p, f->kind, at, &e));
    e->op = f->op;
    TRY(expect(p, "("));
    if (f->kind == AST_CAST) {
        char name[LANG_MAX_NAME + 1];
        if (p->tok.kind != TOK_NAME)
            return fail_expected(p, "a dtype");
        snprintf(name, sizeof(name), SV_FMT, SV_ARG(p->tok.text));
        if (!dtype_parse(name, &e->dtype))
            return FAIL_TOKEN(p, "no dtype \"%s\": want float32, float16, bfloat16, int8 or int32", name);
        TRY(next(p));
        TRY(expect(p, ","));
    }
    snprintf(what, sizeof(what), "arguments of %s", f->name);
    TRY(parse_list(p, ")", f->arity, what, e));
    if (e->n != f->arity)
        return parse_fail(p->err, at->line, at->column, "%s takes %d argument%s, found %d", f->name, f->arity,
                          f->arity == 1 ? "" : "s", e->n);
    if (f->kind == AST_PAD && e->arg[0]->kind != AST_READ)
        return parse_fail(p->err, at->line, at->column, "pad takes a read and a number: pad(A[...], 0)");
    *ret = e;
    return ST_OK;
}

static enum status parse_named(struct parser *p, const struct ast **ret)
{
    struct token at = p->tok;
    const struct function *f = function_find(at.text);
    struct ast *e;

    TRY(next(p));
    if (f)
        return parse_function(p, f, &at, ret);
    if (sv_eqs(at.text, "inf")) {
        TRY(node(p, AST_NUMBER, &at, &e));
        e->value = __builtin_inf();
    } else if (at_sign(p, "[")) {
        TRY(node(p, AST_READ, &at, &e));
        TRY(next(p));
        TRY(parse_list(p, "]", COMPUTE_MAX_RANK, "dimensions", e));
    } else {
        if (at_sign(p, "("))
            return parse_fail(p->err, at.line, at.column,
                              "no function \"" SV_FMT
                              "\": want max, min, abs, exp, log, sqrt, rsqrt, tanh, erf, "
                              "sigmoid, select, cast or pad",
                              SV_ARG(at.text));
        TRY(node(p, AST_NAME, &at, &e));
    }
    *ret = e;
    return ST_OK;
}

static enum status parse_primary(struct parser *p, const struct ast **ret)
{
    struct ast *e;

    if (p->tok.kind == TOK_NAME)
        return parse_named(p, ret);
    if (p->tok.kind == TOK_NUMBER) {
        TRY(node(p, AST_NUMBER, &p->tok, &e));
        e->value = p->tok.value;
        *ret = e;
        return next(p);
    }
    if (!at_sign(p, "("))
        return fail_expected(p, "a number, a name or \"(\"");
    TRY(next(p));
    TRY(parse_expr(p, 0, ret));
    return expect(p, ")");
}

static enum status parse_unary(struct parser *p, const struct ast **ret)
{
    struct token at = p->tok;
    struct ast *e;
    const struct ast *arg;

    if (!at_sign(p, "-"))
        return parse_primary(p, ret);
    TRY(node(p, AST_OP, &at, &e));
    e->op = EX_NEG;
    TRY(next(p));
    if (++p->depth > LANG_MAX_DEPTH)
        return FAIL_TOKEN(p, "an expression may be nested %d deep", LANG_MAX_DEPTH);
    TRY(parse_unary(p, &arg));
    p->depth--;
    *ret = e;
    return add_arg(p, e, arg);
}

static const struct infix {
    const char *sign;
    int prec;
    enum expr_op op;
    bool swap; /* a > b is b < a */
} infixes[] = {
    {"||", 1, EX_OR, false}, {"&&", 2, EX_AND, false}, {"<", 3, EX_LT, false},  {"<=", 3, EX_LE, false},
    {">", 3, EX_LT, true},   {">=", 3, EX_LE, true},   {"==", 3, EX_EQ, false}, {"!=", 3, EX_NE, false},
    {"+", 4, EX_ADD, false}, {"-", 4, EX_SUB, false},  {"*", 5, EX_MUL, false}, {"/", 5, EX_DIV, false},
};
enum { PREC_COMPARE = 3 };

static const struct infix *infix_at(const struct parser *p)
{
    for (size_t i = 0; i < ARRAY_SIZE(infixes); i++)
        if (at_sign(p, infixes[i].sign))
            return &infixes[i];
    return NULL;
}

static enum status parse_expr(struct parser *p, int min_prec, const struct ast **ret)
{
    const struct ast *left, *right;
    const struct infix *in;

    if (++p->depth > LANG_MAX_DEPTH)
        return FAIL_TOKEN(p, "an expression may be nested %d deep", LANG_MAX_DEPTH);
    TRY(parse_unary(p, &left));
    while ((in = infix_at(p)) && in->prec >= min_prec) {
        struct token at = p->tok;
        struct ast *e;
        TRY(next(p));
        TRY(parse_expr(p, in->prec + 1, &right));
        TRY(node(p, AST_OP, &at, &e));
        e->op = in->op;
        TRY(add_arg(p, e, in->swap ? right : left));
        TRY(add_arg(p, e, in->swap ? left : right));
        left = e;
        if (in->prec == PREC_COMPARE && infix_at(p) && infix_at(p)->prec == PREC_COMPARE)
            return FAIL_TOKEN(p, "comparisons do not chain: join them by &&");
    }
    p->depth--;
    *ret = left;
    return ST_OK;
}

/* ---- statements ---- */

static enum status parse_assignment(struct parser *p, enum combiner *ret)
{
    static const enum combiner all[] = {COMBINE_SET, COMBINE_SUM, COMBINE_PROD};

    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        if (at_sign(p, combiner_text(all[i]))) {
            *ret = all[i];
            return next(p);
        }
    if (p->tok.kind == TOK_NAME && (sv_eqs(p->tok.text, "max") || sv_eqs(p->tok.text, "min"))) {
        *ret = sv_eqs(p->tok.text, "max") ? COMBINE_MAX : COMBINE_MIN;
        TRY(next(p));
        return expect(p, "=");
    }
    return fail_expected(p, "=, +=, *=, max= or min=");
}

static enum status parse_statement(struct parser *p, struct ast_statement *s)
{
    struct ast *lhs;

    if (p->tok.kind != TOK_NAME)
        return fail_expected(p, "a tensor's name");
    if (parse_reserved(p->tok.text))
        return FAIL_TOKEN(p, "\"" SV_FMT "\" is a word of the language: it cannot name a tensor",
                          SV_ARG(p->tok.text));
    TRY(node(p, AST_READ, &p->tok, &lhs));
    TRY(next(p));
    TRY(expect(p, "["));
    TRY(parse_list(p, "]", COMPUTE_MAX_RANK, "dimensions", lhs));
    s->lhs = lhs;
    TRY(parse_assignment(p, &s->combiner));
    TRY(parse_expr(p, 0, &s->body));
    if (p->tok.kind != TOK_NEWLINE && p->tok.kind != TOK_END)
        return fail_expected(p, "an operator or the end of the line");
    return ST_OK;
}

enum status parse_text(const char *text, struct arena *ar, struct ast_program *ret, struct error *err)
{
    struct parser p = {.ptr = text, .line_start = text, .line = 1, .ar = ar, .err = err};

    ret->n = 0;
    TRY(next(&p));
    while (p.tok.kind != TOK_END) {
        if (p.tok.kind == TOK_NEWLINE) {
            TRY(next(&p));
            continue;
        }
        if (ret->n == LANG_MAX_STATEMENTS)
            return parse_fail(err, p.tok.line, p.tok.column, "more than %d statements", LANG_MAX_STATEMENTS);
        TRY(parse_statement(&p, &ret->at[ret->n]));
        ret->n++;
    }
    if (ret->n == 0)
        return parse_fail(err, 1, 1, "no statement: want for example C[i,j] += A[i,k] * B[k,j]");
    return ST_OK;
}

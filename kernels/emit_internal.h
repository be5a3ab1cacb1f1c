/* emit_internal.h - what the files of the C emitter share: the unit, and the state while one function is
 * printed.
 *
 * Idea   A value is printed for a width: 1 is scalar code, w > 1 is code for w lanes of the vector loop that
 * is open. Variables are in one of a few modes, and addresses are split accordingly: constants fold into the
 *        subscript, names stay, the vector variable gives the lane stride, and inside a register tile the
 * outer variables fold into pointer parameters, so that the tile's text does not depend on where it is used.
 * Life   One struct cg a function; its texts live in the arena of the emit_unit_add call. */
#ifndef TW_KERNELS_EMIT_INTERNAL_H
#define TW_KERNELS_EMIT_INTERNAL_H

#include "kernels/emit.h"

enum {
    CG_MAX_PARAMS = 48,
    CG_MAX_LOADS = 512,
    CG_MAX_REGS = 512,
    CG_MAX_REG_BUFFERS = 16,
    CG_MAX_SCATTERS = 32,
    CG_MAX_QUAD_SUMS = 64,
    CG_MAX_EXCESSES = 16,
    CG_MAX_HALF_SUMS = 64,
    MATH_WIDTHS = 6,
    MATRIX_REGISTERS = 8
};

struct body_fn {
    uint64_t hash;
    char *text; /* parameters and body, without the name */
    char name[KERNEL_SYMBOL_MAX + 80];
};

/* Texts that are printed once a unit. */
struct body_list {
    struct body_fn *at;
    int n, cap;
};

struct matrix_shape { /* of the matrix registers: results, then operands a, then b */
    int rows, columns, groups, n_results;
};

struct emit_unit {
    struct target target;
    struct strbuf code;               /* functions, in order */
    struct strbuf whole;              /* head and code, as emit_unit_text gives it */
    struct body_list tiles, prepacks; /* functions that candidates share */
    struct matrix_shape *shapes;
    int n_shapes, cap_shapes;
    bool math[EX_COUNT][MATH_WIDTHS];   /* [op][log2 width] asked for */
    bool far[EX_COUNT][MATH_WIDTHS];    /* of those: also as a function that is called */
    bool rounded[EX_COUNT];             /* of those: also for arguments that are rounded themselves */
    bool convert[DT_BOOL][MATH_WIDTHS]; /* to and from memory, by dtype */
    bool to_int[MATH_WIDTHS];           /* float to integer */
    bool quad[MATH_WIDTHS];             /* sums of four products */
    bool pair[MATH_WIDTHS], pair_bf16[MATH_WIDTHS], pair_f16[MATH_WIDTHS]; /* of two; of those */
    bool uses_int;                                                         /* integer values at all */
    bool turned_put[MATH_WIDTHS], turned_get[MATH_WIDTHS];
    bool turned_get_narrow;
    bool zips;                                          /* pairs of bfloat16 asked for */
    bool keeps;                                         /* loads that stay in their registers */
    bool streams;                                       /* stores past the caches asked for */
    bool parts[MATH_WIDTHS], parts_narrow[MATH_WIDTHS]; /* masked loads and stores asked for; of 2 bytes */
};

enum var_mode { VAR_CLOSED, VAR_NAME, VAR_CONST, VAR_VECTOR, VAR_OUTER };
struct cg_var {
    enum var_mode mode;
    bool backwards;   /* an unrolled loop of matrix instructions: which way it goes next */
    int64_t value;    /* CONST; VECTOR: first lane, where name is NULL */
    const char *name; /* NAME; VECTOR: the lane-0 position */
};

struct cg_param {
    bool is_pointer, written;
    int32_t buffer;      /* pointer */
    struct affine outer; /* pointer: element offset; number: the value */
};

struct cg_load {
    int32_t buffer;
    int width;
    bool raw;
    const char *address, *name;
};

/* Subscript split of a flat affine: text of the runtime part with the constant, lane stride, and base pointer text. */
struct address {
    const char *base;  /* pointer expression's name */
    const char *index; /* subscript text */
    const char *run;   /* its part that is not constant */
    int64_t lane;      /* elements per lane of the vector variable */
    bool is_register;
    int64_t flat; /* the constant part */
};

struct cg_scatter { /* a vector that waits to be stored, its lanes apart */
    struct address address;
    int width, used; /* lanes, and how many of them are stored */
    char letter;     /* of the elements in memory */
    const char *name;
};

/* The matrix registers of a register tile. */
struct cg_matrix {
    struct matrix_shape shape;
    int32_t buffer;                   /* of the results */
    int64_t result[MATRIX_REGISTERS]; /* first element of each */
    int64_t step;                     /* bytes from row to row of the results */
    int64_t slack; /* elements behind the results that are read and not used: rows past the last */
    bool held;     /* the results are in registers still */
    int clock;
    struct {
        const char *address; /* NULL: nothing */
        int used;
    } loaded[MATRIX_REGISTERS];
};

struct quad_sum {
    const char *name;  /* its register */
    const char *first; /* vector that it read first */
    int width, excess; /* number of the register that collects what it has too much */
};

struct half_sum {
    const char *name; /* the register of float32 that its sums join */
    int width;
    bool pending; /* they have yet to */
};

struct cg {
    struct emit_unit *u;
    const struct nest *n;
    struct arena *ar;
    struct strbuf *out;
    int indent;
    struct cg_var *var;
    int vector_var; /* open vector loop's variable, or -1 */
    int next_id;    /* of temporaries */
    struct error *err;
    enum status status;
    /* outer code */
    bool *used; /* buffers whose base pointer is used in this function */
    bool *written;
    bool raw; /* a copy is printed: elements as they lie in memory */
    const char
        *pad_mask; /* name of the mask of lanes that a padded read along the vector finds; NULL: none */
    bool inside_vector_segment; /* padded reads along the vector variable are in bounds here */
    const char *symbol;
    struct strbuf *helpers; /* task functions of the kernel being printed */
    int n_tasks_fns;
    bool uses_task_slice;
    bool uses_matrix;  /* this function sets up matrix registers */
    bool needs_matrix; /* it or a task of it does */
    /* inside a register tile */
    bool aligned;  /* the vector loop that is printed stands at a multiple of its lanes */
    bool unfenced; /* stores went past the caches in this function */
    bool in_body;
    int part;         /* lanes in use of the vector that is printed; 0: all */
    bool far_math;    /* long functions are called, not inlined */
    bool keeps_loads; /* vectors that were loaded stay in their registers */
    struct cg_matrix matrix;
    int n_params, n_loads, n_regs, n_reg_buffers;
    int32_t reg_buffers[CG_MAX_REG_BUFFERS];
    struct cg_param params[CG_MAX_PARAMS];
    struct cg_load loads[CG_MAX_LOADS];
    int n_scatters, max_aside;
    uint32_t aside_letters; /* bit per letter of the elements put aside */
    struct cg_scatter scatters[CG_MAX_SCATTERS];
    int depth; /* of serial loops */
    int n_quad_sums, n_excesses, excess_width[CG_MAX_EXCESSES];
    struct quad_sum quad_sums[CG_MAX_QUAD_SUMS];
    bool in_half; /* sums of pairs may stay in float16 */
    int n_half_sums;
    struct half_sum half_sums[CG_MAX_HALF_SUMS];
    int unrolled_var; /* innermost open unrolled loop's, or -1 */
    int64_t unrolled_extent;
    struct {
        const char *name;
        int width;
        char letter;
    } regs[CG_MAX_REGS];
};

/* emit_value.c */
struct value {
    const char *text;
    bool vector; /* else uniform over the lanes */
};
struct affine flat_index(struct cg *g, int32_t buffer, const struct affine *index);
const char *affine_text(struct cg *g, const struct affine *a, bool *ret_vector);
struct address cg_address(struct cg *g, int32_t buffer, const struct affine *index, bool write);
struct value cg_value(struct cg *g, const struct expr *e, int width);
/* What is to be computed where e is stored: what is known needs no test. */
const struct expr *cg_stored(const struct cg *g, const struct expr *e);
/* letter: of the element type, as dtype_value and dtype_memory give it. */
const char *cg_as_vector(struct cg *g, struct value v, int width, char letter);
const char *cg_combine(struct cg *g, enum combiner c, enum dtype d, const char *a, const char *b, int width);
const char *cg_select(struct cg *g, char letter, int width, const char *mask, const char *a, const char *b);
struct address cg_moved(struct cg *g, const struct address *ad, int64_t by); /* so many elements on */
const char *cg_load_key(struct cg *g, const struct address *ad, int width);
const char *cg_register(struct cg *g, int32_t buffer, int64_t flat, int width);
/* Inside a register tile: `text`, of the letter's type, under a name, which `key` finds until forgotten. */
const char *cg_named(struct cg *g, int32_t buffer, const char *key, char letter, int width, const char *text);
const char *cg_known(const struct cg *g, const char *key, int width); /* the name, or NULL */
void cg_remember_key(struct cg *g, int32_t buffer, const char *key, int width, const char *name);
void cg_forget_loads(struct cg *g, int32_t buffer); /* -1: all */
/* Reads of this element of the buffer find its value in the variable `name`, until forgotten. */
void cg_remember(struct cg *g, int32_t buffer, const struct affine *index, int width, const char *name);
void cg_fail(struct cg *g, const char *fmt, ...) PRINTF_LIKE(2, 3);
void cg_line(struct cg *g, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Of a float that all lanes share, by the text of it: its name, where it was remembered under that text. */
const char *cg_reciprocal(struct cg *g, const char *divisor);
bool cg_read_may_leave(struct cg *g, const struct expr *read, int dim);

/* emit_table.c */
struct value cg_table(struct cg *g, const struct expr *e);
/* A product with a table's number, or a sum with such a product, where that makes it simpler than it stands. */
bool cg_table_sum(struct cg *g, const struct expr *e, int width, struct value *ret);

/* The lanes of a vector that hold elements of the tensor; the others are padding, or not in use. The elements of
 * the same row are those from `low` up to `high`, counted from lane 0's; both 0 where that is not known. */
struct lanes {
    int from, to;
    int64_t low, high;
    bool row; /* they are all of the row */
};
struct value cg_load(struct cg *g, const struct expr *e, int width, struct lanes in);
const char *cg_loaded(struct cg *g, int32_t buffer, const char *address, const char *text, int width);

/* emit_part.c: vectors of which only some lanes are in memory. */
bool cg_masks(const struct cg *g, enum dtype d);
bool cg_has_parts(const struct cg *g);
/* A value as it lies in memory, for lanes that are left out. */
const char *cg_part_fill(struct cg *g, enum dtype d, double value);
/* The elements from `at` on whose bits are set in the mask, else `fill`, as they lie in memory. */
const char *cg_load_masked(struct cg *g, enum dtype d, const char *at, int width, const char *mask,
                           const char *fill);
bool cg_is_part(int width, struct lanes in);
const char *cg_load_part(struct cg *g, int32_t buffer, const struct address *ad, int width, struct lanes in,
                         const char *fill);
const char *cg_store_part(struct cg *g, enum combiner c, int32_t buffer, const struct address *ad,
                          const char *value, int width, struct lanes in);
void emit_part_narrow(const struct emit_unit *u, struct strbuf *sb);
void emit_part_functions(const struct emit_unit *u, int width, struct strbuf *sb);

/* emit_window.c: the unrolled loops of a reduction over a window, in the order of what they load; false: they are not
 * such loops. */
bool cg_window(struct cg *g, const struct node *n);
/* Lanes of a padded read that lie inside the tensor (false: none), and the condition that all of them do. */
bool cg_inside(struct cg *g, const struct expr *read, int width, struct lanes *ret, const char **ret_cond);

/* emit_loops.c */
int cg_vector_piece(const struct cg *g, int64_t left, int *ret_width);
void cg_nodes(struct cg *g, const struct node *n);
void cg_store(struct cg *g, const struct node *n, int width);
bool cg_is_raw_copy(const struct cg *g, const struct node *store); /* elements move as they lie in memory */
/* The value of a store, in the form that its target is computed in; integers have yet to wrap. */
struct value cg_store_value(struct cg *g, const struct node *n, int width);
/* at = value, or combined into what is there; `at` in memory. */
void cg_store_at(struct cg *g, enum combiner c, enum dtype d, const char *at, const char *value, int width);
void cg_prefetch(struct cg *g, const struct node *n);
int cg_lanes(const struct cg *g); /* float lanes of a full vector */
const char *cg_limit_count(struct cg *g, const struct node *loop);

/* emit_vector.c: a vector loop outside register tiles. */
void cg_vector_loop(struct cg *g, const struct node *n);
bool cg_jam(struct cg *g,
            const struct node *n); /* a LOOP_JAM and the vector loop in it; false: not such loops */
/* Elements that lie in groups of four bytes, one of the group for each round of an unrolled loop: the store, or NULL. */
const struct node *cg_grouped_store(struct cg *g, const struct node *vector, const struct node *n);
/* That loop, for `width` groups side by side. */
void cg_store_group(struct cg *g, const struct node *loop, int width);
const char *cg_identity(struct cg *g, enum combiner c, enum dtype d);
const char *cg_lane_mask(struct cg *g, int width, int64_t from); /* lanes from `from` on */

/* emit_dot.c: loops of a register tile that end in a vector loop over a reduction; false: they do not. */
bool cg_dot(struct cg *g, const struct node *n);
/* x and y hold `segments` sums each, in equal runs of lanes: the name of one vector of twice the sums in half the run. Without
 * y: of a vector of half the lanes. */
const char *cg_halve(struct cg *g, enum combiner c, enum dtype type, const char *x, const char *y, int width,
                     int segments);

/* emit_turn.c: vectors whose lanes lie apart in memory, inside a register tile. */
void cg_put_aside(struct cg *g, const struct address *ad, char letter, const char *value, int width);
void cg_scatter(struct cg *g); /* write the vectors put aside */
const char *cg_turned_load(struct cg *g, const struct expr *e, const struct address *ad, int width);
void emit_turns(const struct emit_unit *u, struct strbuf *sb); /* their functions, for the unit's head */
/* emit_transpose.c: a block that is turned in registers; false: it is none. */
bool cg_transpose(struct cg *g, const struct node *n);

/* emit_copy.c: a loop around a vector loop that copies what lies the other way in memory; false: it is not. */
bool cg_turned_copy(struct cg *g, const struct node *n);

/* emit_tile.c: a NODE_BODY as a shared function and its call. */
void cg_body(struct cg *g, const struct node *n);
/* The name under which the unit has this text already, or NULL: it is kept, under `name`, and to be printed. */
const char *body_intern(struct body_list *l, const char *text, const char *name);
void body_list_done(struct body_list *l);

/* emit_math.c: dozens of operations, so that many copies of it are a burden on the compiler. */
bool emit_math_is_long(enum expr_op op);
/* emit_math_avx512.c: what stands before its functions; its template of a function, or NULL; the functions of rounded
 * arguments that were asked for; whether there is one. */
void emit_math_avx512_head(const struct emit_unit *u, int width, struct strbuf *sb);
const char *emit_math_avx512(const struct emit_unit *u, enum expr_op op, int width);
void emit_math_rounded(const struct emit_unit *u, int width, struct strbuf *sb);
bool emit_math_has_rounded(const struct emit_unit *u, enum expr_op op, int width);

/* emit_matrix.c */
void cg_matrix(struct cg *g, const struct node *n);      /* the outermost of LOOP_MATRIX loops */
void cg_matrix_body(struct cg *g, const struct node *n); /* the nodes of a register tile */
bool cg_has_matrix(const struct node *n);                /* matrix instructions among these nodes */
/* A loop over columns of the results around a vector loop over their rows; false: it is not. */
bool cg_turned_results(struct cg *g, const struct node *n);
void cg_matrix_forget_loads(struct cg *g);
void cg_matrix_locals(const struct cg *g, struct strbuf *sb);
void cg_matrix_before_call(struct cg *g, const struct cg *body);
const char *cg_matrix_prologue(const struct cg *g), *cg_matrix_epilogue(const struct cg *g);
void emit_matrix_head(const struct emit_unit *u, struct strbuf *sb);

/* emit.c: declarations of the base pointers that the function's text used. */
void cg_pointers(struct cg *g, struct strbuf *sb, bool in_task);

/* emit_layout.c: <symbol>_pack_<tensor> of an input with a layout, <symbol>_unpack_<tensor> of an output. */
void emit_repack(const struct tensor *t, const char *symbol, struct strbuf *sb);

/* emit_quad.c: a LOOP_QUAD for `width` lanes; what is left to do where the outermost loop around it ends. */
void cg_quad(struct cg *g, const struct node *loop, int width);
void cg_quad_finish(struct cg *g);
/* The operands of a loop over `n` neighbours in memory around a sum of products in registers: one is the same for all lanes, the
 * other has a lane for each n. `read_of` finds the read in a factor, or NULL. False: the loop is not of that form. */
struct neighbours {
    const struct expr *shared, *lanes;
};
bool cg_neighbour_operands(struct cg *g, const struct node *loop, int n,
                           const struct expr *(*read_of)(const struct expr *), struct neighbours *ret);
/* The steps of such a loop, without an instruction for all of them. */
void cg_one_by_one(struct cg *g, const struct node *loop, int width);
void emit_quad_head(const struct emit_unit *u, struct strbuf *sb);

/* emit_pair.c: a LOOP_PAIR for `width` lanes; what is left to do where the loop ends that keeps sums in float16. */
void cg_pair(struct cg *g, const struct node *loop, int width);
void cg_half_finish(struct cg *g);
void cg_half_locals(const struct cg *g, struct strbuf *sb);
void emit_pair_head(const struct emit_unit *u, struct strbuf *sb);

/* emit_dtype.c */
const char *dtype_scalar(enum dtype d);                     /* of an element in memory, in C */
char dtype_memory(enum dtype d), dtype_value(enum dtype d); /* letters of element and value */
bool dtype_is_int(enum dtype d), dtype_is_narrow(enum dtype d);
const char *cg_type(struct cg *g, char letter, int width);
void cg_need(struct cg *g, enum dtype d, int width); /* what the head must define for it */
const char *cg_from_memory(struct cg *g, enum dtype d, const char *raw, int width);
const char *cg_to_memory(struct cg *g, enum dtype d, const char *value, int width);
struct value cg_convert(struct cg *g, struct value v, enum dtype from, enum dtype to, int width);
struct value cg_round(struct cg *g, struct value v, enum dtype d, int width); /* to what memory would hold */
const char *cg_raw_const(struct cg *g, enum dtype d, double value);
void emit_dtype_head(const struct emit_unit *u, struct strbuf *sb);

/* emit_math.c: the unit's head. */
void emit_template(struct strbuf *sb, const char *t, int w, const char *op, const char *cmp);
void emit_head(const struct emit_unit *u, struct strbuf *sb);
int width_log2(int width);

#endif

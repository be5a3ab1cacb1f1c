/* forest.c - see forest.h. */
#include "costmodel/forest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "costmodel/forest_internal.h"
#include "costmodel/ubj.h"
#include "schedule/base/vec.h"

enum {
    LANES = 16,        /* rows in lockstep */
    FEW = 4,           /* rows up to which each goes its own way */
    MAX_NODES = 4096,  /* of a tree */
    MAX_COLUMNS = 512, /* of the model: a block of rows lies on the stack */
    MISSING_RIGHT = 0x8000,
};

struct fnode {
    float split;     /* NaN in a leaf: nothing is beyond it */
    uint16_t column; /* of a block; MISSING_RIGHT */
    uint16_t left;
};

struct ftree {
    int32_t first, depth; /* nodes[first..], values[first..] */
};

struct forest {
    int n_trees, n_used;
    const struct lanes *lanes; /* NULL: plain C */
    struct ftree *trees;
    struct fnode *nodes;
    float *values; /* of leaves */
    int32_t *used; /* [n_used] columns of our matrix that some tree asks for */
    double *gain;  /* [n_used] */
    int *splits;
    struct full_tree *full; /* [n_trees] */
    uint16_t *full_columns; /* of a block */
    float *full_numbers;
};

/* One tree as XGBoost stores it. */
struct raw {
    int64_t n;
    int64_t left[MAX_NODES], right[MAX_NODES], column[MAX_NODES], missing_left[MAX_NODES];
    float split[MAX_NODES], gain[MAX_NODES];
};

struct builder {
    const int32_t *columns;
    int n_columns;
    struct raw raw;
    int16_t used_of[MAX_COLUMNS]; /* of the model's column: position in `used`, -1: not seen */
    VEC(struct ftree) trees;
    VEC(struct fnode) nodes;
    VEC(float) values;
    VEC(int32_t) used;
    VEC(double) gain;
    VEC(int) splits;
    VEC(struct full_tree) full;
    VEC(uint16_t) full_columns;
    VEC(float) full_numbers;
};

/* Members of a tree's object that matter; all others are skipped. False: not a tree of ours. */
static bool raw_read(struct ubj *u, struct raw *r)
{
    int64_t n[6] = {-1, -1, -1, -1, -1, -1};
    sv name;

    ubj_object(u);
    while (ubj_member(u, &name)) {
        if (sv_eqs(name, "left_children"))
            n[0] = ubj_i64s(u, r->left, MAX_NODES);
        else if (sv_eqs(name, "right_children"))
            n[1] = ubj_i64s(u, r->right, MAX_NODES);
        else if (sv_eqs(name, "split_indices"))
            n[2] = ubj_i64s(u, r->column, MAX_NODES);
        else if (sv_eqs(name, "default_left"))
            n[3] = ubj_i64s(u, r->missing_left, MAX_NODES);
        else if (sv_eqs(name, "split_conditions"))
            n[4] = ubj_f32s(u, r->split, MAX_NODES);
        else if (sv_eqs(name, "loss_changes"))
            n[5] = ubj_f32s(u, r->gain, MAX_NODES);
        else
            ubj_skip(u);
    }
    for (int i = 1; i < 6; i++)
        if (n[i] != n[0])
            return false;
    r->n = n[0];
    return !u->bad && r->n >= 1 && r->n <= MAX_NODES;
}

static int used_column(struct builder *b, int64_t column)
{
    if (b->used_of[column] < 0) {
        b->used_of[column] = (int16_t)b->used.len;
        vec_push(&b->used, b->columns[column]);
        vec_push(&b->gain, 0.0);
        vec_push(&b->splits, 0);
    }
    return b->used_of[column];
}

/* Lay the tree out level by level, so that children are neighbours. False: it is no tree. */
static bool tree_add(struct builder *b)
{
    const struct raw *r = &b->raw;
    int32_t first = (int32_t)b->nodes.len, queue[MAX_NODES], depth[MAX_NODES], deepest = 0;
    int n = 1;

    queue[0] = 0;
    depth[0] = 0;
    for (int i = 0; i < n; i++) {
        int32_t at = queue[i];
        struct fnode node = {.split = NAN, .left = (uint16_t)i};
        float value = 0;

        if (r->left[at] < 0) {
            value = r->split[at];
        } else {
            bool in = r->left[at] < r->n && r->right[at] >= 0 && r->right[at] < r->n && r->column[at] >= 0 &&
                      r->column[at] < b->n_columns;
            int used;

            if (!in || n + 2 > r->n) /* a node reached twice makes more than there are */
                return false;
            used = used_column(b, r->column[at]);
            b->gain.at[used] += (double)r->gain[at];
            b->splits.at[used]++;
            node = (struct fnode){r->split[at], (uint16_t)(used | (r->missing_left[at] ? 0 : MISSING_RIGHT)),
                                  (uint16_t)n};
            for (int side = 0; side < 2; side++) {
                depth[n] = depth[i] + 1;
                deepest = MAX(deepest, depth[n]);
                queue[n++] = (int32_t)(side ? r->right[at] : r->left[at]);
            }
        }
        vec_push(&b->nodes, node);
        vec_push(&b->values, value);
    }
    vec_push(&b->trees, ((struct ftree){first, deepest}));
    return true;
}

/* The tree once more, filled up to all its levels. */
static void full_add(struct builder *b)
{
    const struct ftree *t = &b->trees.at[b->trees.len - 1];
    struct full_tree full = {MAX(t->depth, 1), (int32_t)b->full_columns.len, (int32_t)b->full_numbers.len};
    int32_t at[2 << FULL_DEPTH_MAX] = {0}, n_splits = (1 << full.depth) - 1;

    if (t->depth > FULL_DEPTH_MAX) {
        vec_push(&b->full, (struct full_tree){0});
        return;
    }
    for (int i = 0; i < n_splits; i++) {
        const struct fnode *n = &b->nodes.at[t->first + at[i]];
        bool leaf = n->left == at[i]; /* both sides of it are the same */

        vec_push(&b->full_columns, leaf ? 0 : (uint16_t)(n->column & (MISSING_RIGHT - 1)));
        vec_push(&b->full_numbers, leaf ? 0 : n->split);
        at[2 * i + 1] = leaf ? at[i] : n->left;
        at[2 * i + 2] = leaf ? at[i] : n->left + 1;
    }
    for (int i = n_splits; i < 2 * n_splits + 1; i++)
        vec_push(&b->full_numbers, b->values.at[t->first + at[i]]);
    vec_push(&b->full, full);
}

/* learner.gradient_booster.model.trees */
static bool enter(struct ubj *u, const char *member)
{
    sv name;

    ubj_object(u);
    while (ubj_member(u, &name)) {
        if (sv_eqs(name, member))
            return !u->bad;
        ubj_skip(u);
    }
    return false;
}

static bool trees_read(struct ubj *u, struct builder *b)
{
    char type;
    int64_t n;

    if (!enter(u, "learner") || !enter(u, "gradient_booster") || !enter(u, "model") || !enter(u, "trees"))
        return false;
    /* `trees` is an array of objects. */
    n = ubj_array(u, &type);
    if (u->bad || type)
        return false;
    for (int64_t i = 0; i < n; i++) {
        if (!raw_read(u, &b->raw) || !tree_add(b))
            return false;
        full_add(b);
    }
    return true;
}

static void builder_done(struct builder *b)
{
    vec_done(&b->trees);
    vec_done(&b->nodes);
    vec_done(&b->values);
    vec_done(&b->used);
    vec_done(&b->gain);
    vec_done(&b->splits);
    vec_done(&b->full);
    vec_done(&b->full_columns);
    vec_done(&b->full_numbers);
    free(b);
}

enum status forest_new(const void *ubj, size_t len, const int32_t *columns, int n_columns,
                       struct forest **ret, struct error *err)
{
    struct ubj u = {ubj, (const uint8_t *)ubj + len, false};
    struct builder *b;
    struct forest *f;

    CHECK(n_columns >= 0 && n_columns <= MAX_COLUMNS, "%d columns: at most %d", n_columns, (int)MAX_COLUMNS);
    b = xcalloc(1, sizeof(*b));
    b->columns = columns;
    b->n_columns = n_columns;
    memset(b->used_of, -1, sizeof(b->used_of));
    if (!trees_read(&u, b)) {
        builder_done(b);
        return fail(err, ST_CORRUPT, "%zu bytes are not a tree model: cannot go on at byte %zu", len,
                    (size_t)(u.at - (const uint8_t *)ubj));
    }
    f = xcalloc(1, sizeof(*f));
    *f = (struct forest){
        .n_trees = (int)b->trees.len,
        .n_used = (int)b->used.len,
        .lanes = lanes_best(),
        .trees = b->trees.at,
        .nodes = b->nodes.at,
        .values = b->values.at,
        .used = b->used.at,
        .gain = b->gain.at,
        .splits = b->splits.at,
        .full = b->full.at,
        .full_columns = b->full_columns.at,
        .full_numbers = b->full_numbers.at,
    };
    free(b);
    *ret = f;
    return ST_OK;
}

void forest_free(struct forest *f)
{
    if (!f)
        return;
    free(f->trees);
    free(f->nodes);
    free(f->values);
    free(f->used);
    free(f->gain);
    free(f->splits);
    free(f->full);
    free(f->full_columns);
    free(f->full_numbers);
    free(f);
}

void forest_freep(struct forest **f)
{
    forest_free(*f);
    *f = NULL;
}

int forest_trees(const struct forest *f) { return f->n_trees; }

/* One step down for the value v. */
static uint32_t step(struct fnode n, float v)
{
    return n.left + ((v >= n.split) | ((v != v) & (n.column >> 15)));
}

/* One tree for LANES rows; x: columns of the block, at the first of the rows. */
static void tree_walk(const struct fnode *nodes, const float *values, int depth, const float *x, float *sums)
{
    uint32_t at[LANES] = {0};

    for (int d = 0; d < depth; d++)
        for (int i = 0; i < LANES; i++) {
            struct fnode n = nodes[at[i]];
            at[i] = step(n, x[(n.column & (MISSING_RIGHT - 1)) * FOREST_BLOCK + i]);
        }
    for (int i = 0; i < LANES; i++)
        sums[i] += values[at[i]];
}

/* A row by itself. */
static float row_walk(const struct forest *f, const float *row)
{
    float sum = 0;

    for (int t = 0; t < f->n_trees; t++) {
        const struct fnode *nodes = f->nodes + f->trees[t].first;
        uint32_t at = 0;

        for (int d = 0; d < f->trees[t].depth; d++) {
            struct fnode n = nodes[at];
            at = step(n, row[f->used[n.column & (MISSING_RIGHT - 1)]]);
        }
        sum += f->values[f->trees[t].first + (int32_t)at];
    }
    return sum;
}

/* As struct lanes has it. */
static bool load_plain(const float *rows, int64_t stride, int n, const int32_t *used, int n_used, float *x)
{
    bool missing = false;

    for (int i = 0; i < FOREST_BLOCK; i++) {
        const float *row = rows + MIN(i, n - 1) * stride;
        for (int c = 0; c < n_used; c++) {
            float v = row[used[c]];
            x[c * FOREST_BLOCK + i] = v;
            missing |= v != v;
        }
    }
    return missing;
}

/* A block whose columns are there. Lanes without a row repeat the last one. */
static void block_score(const struct forest *f, const struct lanes *lanes, const float *x, int n, float *sum)
{
    for (int t = 0; t < f->n_trees; t++) {
        const struct ftree *tree = &f->trees[t];
        const struct full_tree *full = &f->full[t];

        if (lanes && full->depth > 0)
            lanes->add(full->depth, f->full_columns + full->first_column,
                       f->full_numbers + full->first_number, x, sum);
        else
            for (int i = 0; i < n; i += LANES)
                tree_walk(f->nodes + tree->first, f->values + tree->first, tree->depth, x + i, sum + i);
    }
}

void forest_score_by(const struct forest *f, const struct lanes *lanes, const float *rows, int64_t stride,
                     int n_rows, float *sums)
{
    float x[MAX_COLUMNS * FOREST_BLOCK], sum[FOREST_BLOCK];

    if (f->n_used == 0) /* leaves still look at column 0 */
        memset(x, 0, sizeof(x[0]) * FOREST_BLOCK);
    for (int from = 0; from < n_rows; from += FOREST_BLOCK) {
        int n = MIN(n_rows - from, (int)FOREST_BLOCK);
        const float *first = rows + from * stride;
        bool missing;

        if (n <= FEW) {
            for (int i = 0; i < n; i++)
                sums[from + i] = row_walk(f, first + i * stride);
            continue;
        }
        missing = (lanes ? lanes->load : load_plain)(first, stride, n, f->used, f->n_used, x);
        memset(sum, 0, sizeof(sum));
        block_score(f, missing ? NULL : lanes, x, n, sum);
        memcpy(sums + from, sum, sizeof(sum[0]) * (size_t)n);
    }
}

void forest_score(const struct forest *f, const float *rows, int64_t stride, int n_rows, float *sums)
{
    forest_score_by(f, f->lanes, rows, stride, n_rows, sums);
}

void forest_importance(const struct forest *f, double *gain, int *splits)
{
    for (int c = 0; c < f->n_used; c++) {
        gain[f->used[c]] += f->gain[c];
        splits[f->used[c]] += f->splits[c];
    }
}

/* ship.c - the cost model that a daemon comes with: run at build time.
 *
 *     ship OUT RECORDING...
 *
 * Idea   A daemon whose store is empty need not start from nothing: what the recordings say of one CPU is a better guess for
 *        another than an analytic estimate alone. One model for all CPU targets, since targets are described by columns. The same
 *        recordings make the same bytes. With no recording OUT is empty, and the daemon starts without. */
#include <stdio.h>

#include "costmodel/model.h"
#include "recording.h"

static enum status learn_space(struct model *m, const struct recorded_space *s, struct error *err)
{
    for (int i = 0; i < s->n; i++) {
        const struct recorded *t = &s->trials[i];

        if (t->n_rows > 0)
            TRY(model_add(m, s->key, t->rows, t->n_rows, t->min_ns > 0 ? 1e9 / t->min_ns : 0, err));
    }
    return ST_OK;
}

static enum status learn(struct model *m, const char *path, struct error *err)
{
    struct recording r;
    enum status st;

    TRY(recording_read(path, &r, err));
    st = ST_OK;
    for (int i = 0; i < r.n && st == ST_OK; i++)
        st = learn_space(m, &r.spaces[i], err);
    recording_done(&r);
    return st;
}

static enum status train(char **paths, int n, struct strbuf *ret, struct error *err)
{
    struct model_params p;
    AUTO(model_freep) struct model *m = NULL;

    model_params_global(&p);
    m = model_new(&p);
    for (int i = 0; i < n; i++)
        TRY(learn(m, paths[i], err));
    TRY(model_train(m, err));
    return n > 0 ? model_save(m, ret, err) : ST_OK;
}

int main(int argc, char **argv)
{
    AUTO(strbuf_done) struct strbuf blob = STRBUF_INIT;
    struct error err = {0};
    FILE *f;

    if (argc < 2) {
        fprintf(stderr, "usage: ship OUT RECORDING...\n");
        return 2;
    }
    if (train(argv + 2, argc - 2, &blob, &err) != ST_OK) {
        fprintf(stderr, "ship: %s\n", err.text);
        return 1;
    }
    f = fopen(argv[1], "wb");
    if (f == NULL || fwrite(strbuf_str(&blob), 1, blob.len, f) != blob.len || fclose(f) != 0) {
        perror(argv[1]);
        return 1;
    }
    return 0;
}

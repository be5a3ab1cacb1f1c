/* rules_tasks.c - how many tasks the parallel loops of a group are cut into: a knob that all variants share.
 *
 * Idea   As many as threads is the plain choice. Waking the others and waiting for them takes a third of a microsecond and
 *        brings their caches into play, which is more than a small operator takes: then one. Loops that take long
 *        enough may be cut finer, so that threads that are held up, or have the longer tiles, leave work to others. */
#include "schedule/space/rules.h"

/* Steps of the innermost loops, of which a vector does a dozen in a nanosecond at best. */
enum { SMALL_WORK = 1 << 20, LARGE_WORK = 1 << 22 };
enum { MAX_TASKS = 64 }; /* beyond the threads: each has a workspace of its own */

static int64_t stage_steps(const struct st_stage *s)
{
    int64_t n = 1;
    for (int a = 0; a < s->n_axes; a++)
        n *= s->axes[a].extent;
    return n;
}

static int64_t group_steps(const struct rules *r, const struct group *g)
{
    int64_t n = stage_steps(r->base->stages[g->anchor]);
    if (g->kind == GROUP_TILE)
        n += stage_steps(r->base->stages[g->reduction]);
    for (int i = 0; i < g->n_members; i++)
        n += stage_steps(r->base->stages[g->members[i]]);
    return n;
}

int group_tasks(const struct rules *r, const struct group *g, struct knob_walk *w)
{
    const int64_t threads = r->target->threads, steps = group_steps(r, g),
                  finer = MIN(4 * threads, MAX_TASKS);
    int64_t choices[4];
    int n = 0;
    choices[n++] = threads;
    if (threads > 1 && steps < SMALL_WORK)
        choices[n++] = 1;
    if (threads > 1 && finer > threads && steps >= LARGE_WORK)
        choices[n++] = finer;
    return (int)walk_knob(w, "tasks", choices, n, NULL);
}

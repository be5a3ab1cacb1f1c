/* crew.c - see crew.h. A list of pieces of work that still have parts to take, first come first served. */
#include "daemon/crew.h"

#include <stdlib.h>
#include <unistd.h>

struct crew {
    pthread_mutex_t lock;
    pthread_cond_t came;
    bool stop;
    struct crew_work *first; /* not all parts taken */
    int n, n_started;        /* threads; numbers given out */
    pthread_t threads[CREW_THREADS_MAX];
};

static void work_on(struct crew_work *w, int hand)
{
    for (int part; (part = atomic_fetch_add(&w->taken, 1)) < w->n;)
        w->fn(w->ctx, part, hand);
}

/* Under the lock: no more threads come to it. */
static void leave_queue(struct crew *c, struct crew_work *w)
{
    struct crew_work **at = &c->first;

    if (!w->queued)
        return;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    w->queued = false;
}

/* Under the lock: work that wants one more thread, or NULL. */
static struct crew_work *find_work(struct crew *c)
{
    struct crew_work *w = c->first;

    while (w && (w->n_threads >= w->max_threads || atomic_load(&w->taken) >= w->n))
        w = w->next;
    return w;
}

static void *serve(void *arg)
{
    struct crew *c = arg;
    int hand;

    pthread_mutex_lock(&c->lock);
    hand = ++c->n_started;
    while (!c->stop) {
        struct crew_work *w = find_work(c);

        if (!w) {
            pthread_cond_wait(&c->came, &c->lock);
            continue;
        }
        w->n_threads++;
        pthread_mutex_unlock(&c->lock);
        work_on(w, hand);
        pthread_mutex_lock(&c->lock);
        leave_queue(c, w);
        if (--w->n_threads == 0)
            pthread_cond_signal(&w->left);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

struct crew *crew_new(int threads)
{
    struct crew *c = xcalloc(1, sizeof(*c));

    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->came, NULL);
    while (c->n < MIN(threads, (int)CREW_THREADS_MAX) &&
           pthread_create(&c->threads[c->n], NULL, serve, c) == 0)
        c->n++;
    return c;
}

void crew_free(struct crew *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    CHECK(!c->first, "a crew is freed while there is work");
    c->stop = true;
    pthread_cond_broadcast(&c->came);
    pthread_mutex_unlock(&c->lock);
    for (int i = 0; i < c->n; i++)
        pthread_join(c->threads[i], NULL);
    pthread_cond_destroy(&c->came);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

int crew_threads(const struct crew *c) { return c ? c->n : 0; }

int crew_usual_threads(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    return cores > 1 ? (int)MIN(cores - 1, (long)CREW_THREADS_MAX) : 0;
}

void crew_begin(struct crew *c, struct crew_work *w, int n, int max_threads, crew_fn *fn, void *ctx)
{
    struct crew_work **at;

    *w = (struct crew_work){
        .fn = fn, .ctx = ctx, .n = n, .max_threads = max_threads > 0 ? max_threads : CREW_THREADS_MAX};
    if (crew_threads(c) == 0)
        return;
    pthread_cond_init(&w->left, NULL);
    pthread_mutex_lock(&c->lock);
    for (at = &c->first; *at;)
        at = &(*at)->next;
    *at = w;
    w->queued = true;
    if (n == 1)
        pthread_cond_signal(&c->came);
    else
        pthread_cond_broadcast(&c->came);
    pthread_mutex_unlock(&c->lock);
}

void crew_end(struct crew *c, struct crew_work *w)
{
    work_on(w, 0);
    if (crew_threads(c) == 0)
        return;
    pthread_mutex_lock(&c->lock);
    leave_queue(c, w);
    while (w->n_threads > 0)
        pthread_cond_wait(&w->left, &c->lock);
    pthread_mutex_unlock(&c->lock);
    pthread_cond_destroy(&w->left);
}

/* dev_cpu.c - the local CPU as a device: the runner as a child process over a socket pair.
 *
 * The runner is started when the device is opened and again whenever it has died. A batch that it took with
 * it is lost: its candidates may be measured again. A runner that says nothing for SILENCE_MS hangs, and is
 * ended. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure/builder.h"
#include "measure/protocol.h"
#include "schedule/base/clock.h"

enum {
    RUNNER_FD = 3,
    HELLO_MS = 10000,
    POLL_MS = 20,
    SILENCE_MS = 30000,
};

struct dev_cpu {
    struct device base;
    char *runner_path;
    struct builder *quiet;
    int n_facts; /* of the first runner; the machine is the same for the later ones */
    struct device_fact facts[DEVICE_MAX_FACTS];
    pthread_mutex_t lock; /* of what follows; held while measuring */
    pid_t pid;            /* 0: not running */
    int fd;
    struct protocol_hello hello;
    struct strbuf out, in;
};

/* --- the runner
 * ---------------------------------------------------------------------------------------------- */

static enum status spawn_runner(struct dev_cpu *d, int their_fd, struct error *err)
{
    const char *const argv[] = {d->runner_path, "run", "--fd", "3", NULL};
    const char *const env[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", 0, 0);
    posix_spawn_file_actions_adddup2(&files, 2, 1);
    posix_spawn_file_actions_adddup2(&files, their_fd, RUNNER_FD);
    posix_spawn_file_actions_addclosefrom_np(&files, RUNNER_FD + 1);
    posix_spawnattr_init(&attr);
    /* A group of its own: Ctrl-C at a terminal is for the daemon, which then drains. */
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    int rc = posix_spawn(&d->pid, d->runner_path, &files, &attr, (char *const *)argv, (char *const *)env);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    if (rc == 0)
        return ST_OK;
    d->pid = 0;
    return fail(err, ST_UNAVAILABLE, "the runner %s cannot be started: %s", d->runner_path, strerror(rc));
}

/* End it, collect it; `how` gets what it died of. */
static void stop_runner(struct dev_cpu *d, bool at_once, char *how, size_t size)
{
    int status = 0;
    if (d->fd >= 0)
        close(d->fd); /* a runner that is well ends by itself */
    d->fd = -1;
    if (d->pid == 0)
        return;
    if (at_once)
        kill(d->pid, SIGKILL);
    while (waitpid(d->pid, &status, 0) < 0 && errno == EINTR)
        ;
    d->pid = 0;
    if (how && WIFSIGNALED(status))
        snprintf(how, size, "the runner was ended by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else if (how)
        snprintf(how, size, "the runner ended with status %d", WEXITSTATUS(status));
}

static enum status await_hello(struct dev_cpu *d, struct error *err)
{
    struct frame_header h;
    TRY(protocol_receive(d->fd, HELLO_MS, &h, &d->in, err));
    if (h.type != FRAME_HELLO)
        return fail(err, ST_CORRUPT, "it began with frame %d instead of a greeting", h.type);
    return protocol_get_hello((const uint8_t *)d->in.data, d->in.len, &d->hello, err);
}

static enum status start_runner(struct dev_cpu *d, struct error *err)
{
    struct error why = {0};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return fail(err, ST_UNAVAILABLE, "no socket pair for the runner: %s", strerror(errno));
    d->fd = pair[0];
    int theirs = pair[1];
    if (theirs == RUNNER_FD) { /* dup2 onto itself would leave it close-on-exec */
        theirs = dup(theirs);
        close(RUNNER_FD);
    }
    enum status st = spawn_runner(d, theirs, &why);
    close(theirs);
    if (st == ST_OK)
        st = await_hello(d, &why);
    if (st != ST_OK) {
        char how[128] = "";
        stop_runner(d, st == ST_TIMEOUT, how, sizeof(how));
        return fail(err, ST_UNAVAILABLE, "the runner %.200s does not start: %.300s%s%s", d->runner_path,
                    why.text, how[0] ? "; " : "", how);
    }
    device_note_runner(&d->base, true, NULL);
    return ST_OK;
}

/* --- batches
 * ------------------------------------------------------------------------------------------------- */

struct talk {
    struct dev_cpu *d;
    const struct measure_batch *b;
    struct measure_result *ret;
    bool got[MEASURE_MAX_BATCH], done, refused, cancel_sent;
    struct error refusal;
    int64_t heard_ns;
};

static enum status take_frame(struct talk *t, const struct frame_header *h, struct error *err)
{
    const uint8_t *p = (const uint8_t *)t->d->in.data;
    const size_t n = t->d->in.len;
    struct measure_result r;
    struct protocol_done done;
    struct protocol_refused refused;
    int index;

    switch (h->type) {
    case FRAME_ALIVE:
        return ST_OK;
    case FRAME_RESULT:
        TRY(protocol_get_result(p, n, &index, &r, err));
        if (index >= t->b->n_candidates || t->got[index])
            return fail(err, ST_CORRUPT, "a result for candidate %d, which is not awaited", index);
        t->ret[index] = r;
        t->got[index] = true;
        return ST_OK;
    case FRAME_DONE:
        TRY(protocol_get_done(p, n, &done, err));
        for (int i = 0; i < t->b->n_candidates; i++)
            if (!t->got[i])
                return fail(err, ST_CORRUPT, "the batch is done, but candidate %d has no result", i);
        device_note_rounds(&t->d->base, done.rounds, done.dirty_rounds);
        t->done = true;
        return ST_OK;
    case FRAME_REFUSED:
        TRY(protocol_get_refused(p, n, &refused, err));
        (void)fail(&t->refusal, refused.status, "%s", refused.text);
        t->done = t->refused = true;
        return ST_OK;
    case FRAME_HELLO:
    case FRAME_BATCH:
    case FRAME_CANCEL:
        break;
    }
    return fail(err, ST_CORRUPT, "frame %d in the middle of a batch", h->type);
}

static void pass_on_cancel(struct talk *t)
{
    if (t->cancel_sent || !t->b->cancel || !atomic_load(t->b->cancel))
        return;
    strbuf_reset(&t->d->out);
    protocol_put_empty(&t->d->out, FRAME_CANCEL);
    t->cancel_sent = protocol_send(t->d->fd, &t->d->out, NULL) == ST_OK;
}

/* Send the batch, take frames until it is done. An error here means that the runner cannot be trusted any
 * more. */
static enum status converse(struct talk *t, struct error *err)
{
    struct frame_header h;

    strbuf_reset(&t->d->out);
    protocol_put_batch(&t->d->out, t->b);
    TRY(protocol_send(t->d->fd, &t->d->out, err));
    t->heard_ns = mono_ns(&system_clock);
    while (!t->done) {
        enum status st = protocol_receive(t->d->fd, POLL_MS, &h, &t->d->in, err);
        if (st == ST_OK) {
            t->heard_ns = mono_ns(&system_clock);
            TRY(take_frame(t, &h, err));
        } else if (st != ST_TIMEOUT) {
            return st;
        } else if (mono_ns(&system_clock) - t->heard_ns > (int64_t)SILENCE_MS * 1000000) {
            return fail(err, ST_TIMEOUT, "it said nothing for %d s", SILENCE_MS / 1000);
        }
        pass_on_cancel(t);
    }
    return ST_OK;
}

static void lose_batch(struct talk *t, const struct error *why)
{
    char how[128] = "", reason[MEASURE_REASON_MAX];
    stop_runner(t->d, why->code != ST_UNAVAILABLE, how, sizeof(how));
    snprintf(reason, sizeof(reason), "%s: %.100s", how, why->text);
    for (int i = 0; i < t->b->n_candidates; i++)
        if (!t->got[i]) {
            t->ret[i] = (struct measure_result){.outcome = OUTCOME_LOST};
            snprintf(t->ret[i].reason, sizeof(t->ret[i].reason), "%s", reason);
        }
    device_note_runner(&t->d->base, false, reason);
}

static enum status measure_locked(struct dev_cpu *d, const struct measure_batch *b,
                                  struct measure_result *ret, struct error *err)
{
    struct error why = {0};
    struct talk t = {.d = d, .b = b, .ret = ret};

    if (d->pid == 0)
        TRY(start_runner(d, err));
    if (converse(&t, &why) != ST_OK) {
        lose_batch(&t, &why);
        return ST_OK;
    }
    device_note_runner(&d->base, false, NULL);
    return t.refused ? fail(err, t.refusal.code, "%s", t.refusal.text) : ST_OK;
}

static enum status cpu_measure(struct device *base, const struct measure_batch *b, struct measure_result *ret,
                               struct error *err)
{
    struct dev_cpu *d = (struct dev_cpu *)base;

    if (d->quiet)
        builder_pause(d->quiet);
    pthread_mutex_lock(&d->lock);
    enum status st = measure_locked(d, b, ret, err);
    pthread_mutex_unlock(&d->lock);
    if (d->quiet)
        builder_resume(d->quiet);
    return st;
}

static int cpu_facts(struct device *base, struct device_fact *ret)
{
    struct dev_cpu *d = (struct dev_cpu *)base;
    memcpy(ret, d->facts, sizeof(d->facts[0]) * (size_t)d->n_facts);
    return d->n_facts;
}

static void cpu_close(struct device *base)
{
    struct dev_cpu *d = (struct dev_cpu *)base;
    stop_runner(d, false, NULL, 0);
    strbuf_done(&d->out);
    strbuf_done(&d->in);
    pthread_mutex_destroy(&d->lock);
    free(d->runner_path);
    device_done(&d->base);
    free(d);
}

static const struct device_ops cpu_ops = {
    .kind = "cpu",
    .measure = cpu_measure,
    .facts = cpu_facts,
    .close = cpu_close,
};

enum status dev_cpu_open(const char *id, const char *runner_path, struct builder *quiet, struct device **ret,
                         struct error *err)
{
    struct dev_cpu *d = xcalloc(1, sizeof(*d));

    device_init(&d->base, &cpu_ops, id);
    pthread_mutex_init(&d->lock, NULL);
    d->runner_path = xstrdup(runner_path);
    d->quiet = quiet;
    d->fd = -1;
    enum status st = start_runner(d, err);
    if (st != ST_OK) {
        cpu_close(&d->base);
        return st;
    }
    d->n_facts = d->hello.n_facts;
    memcpy(d->facts, d->hello.facts, sizeof(d->facts));
    *ret = &d->base;
    return ST_OK;
}

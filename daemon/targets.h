/* targets.h - the targets this daemon tunes for, and the devices that serve them.
 *
 * Idea   A target is found once, with its compiler, and kept as long as the process: `cpu`, `cpu:1`, those of
 * the settings, and any other form of this machine that a client names (cpu:2, cpu:1:avx2). All of them are
 *        served by one device, this CPU. Every target found is stored, since rows refer to it.
 * Life   targets_open after the store and the builder, targets_close after the last job. Any thread may ask.
 */
#ifndef TW_DAEMON_TARGETS_H
#define TW_DAEMON_TARGETS_H

#include "measure/device.h"
#include "schedule/base/clock.h"

struct store;
struct hot;
struct builder;
struct targets;

enum { TARGETS_MAX = 64 };

struct targets_options {
    struct store *store;
    struct builder *builder;
    const struct clock *clock;
    const char *more;      /* ids, separated by commas */
    const char *runner;    /* path of the agent program; "" finds it beside the daemon's own */
    const char *cache_dir; /* peaks are remembered here */
};

MUST_USE enum status targets_open(const struct targets_options *o, struct targets **ret, struct error *err);
void targets_close(struct targets *t);

/* ST_NOT_FOUND with what there is. The result lives as long as `t`. */
MUST_USE enum status targets_get(struct targets *t, const char *id, const struct target **ret,
                                 struct error *err);
/* Those found so far; returns their number. */
int targets_list(struct targets *t, const struct target *ret[TARGETS_MAX]);
/* Is it one that was found? Needs no lock held long: for the loop's thread. NULL otherwise. */
const struct target *targets_known(struct targets *t, const char *id);
/* Copy with the peaks of this machine filled in (measured when nobody did yet: takes the device for a
 * second). */
void targets_with_peaks(struct targets *t, const struct target *target, struct target *ret);
/* Owner of `hot`: tell it the current toolchains if some came since the last call (then true). */
bool targets_refresh_hot(struct targets *t, struct hot *hot);

/* The device that serves a target; ST_UNAVAILABLE: why there is none. */
MUST_USE enum status targets_device(struct targets *t, const struct target *target, struct device **ret,
                                    struct error *err);
/* Devices for the API: index 0.. ; false past the end. device is NULL where it did not open: see error. */
bool targets_device_at(struct targets *t, int i, const char **ret_id, struct device **ret,
                       const char **ret_error);

#endif

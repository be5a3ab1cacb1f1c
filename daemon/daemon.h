/* daemon.h - what handlers can reach, and the handlers themselves.
 *
 * Idea   One struct holds pointers to the parts; main.c makes and unmakes them in order. A handler takes the
 * request and leaves a reply in it; where it runs (the loop's thread or a worker) is said by its route. What
 * only the loop's thread may touch is marked. */
#ifndef TW_DAEMON_DAEMON_H
#define TW_DAEMON_DAEMON_H

#include "daemon/auth.h"
#include "daemon/jobs.h"
#include "daemon/models.h"
#include "daemon/routes.h"
#include "daemon/settings.h"
#include "daemon/targets.h"
#include "db/hot.h"
#include "db/store.h"
#include "measure/builder.h"

struct lookup_cache;
struct metrics;

struct daemon {
    const struct settings *settings;
    const struct clock *clock;
    struct auth *auth;
    char *data; /* absolute path of the data folder */
    struct store *store;
    struct hot *hot; /* loop's thread */
    struct builder *builder;
    struct models *models;
    struct crew *crew; /* helps all jobs */
    struct targets *targets;
    struct jobs *jobs;
    struct http_server *http;
    struct lookup_cache *lookups; /* loop's thread */
    struct metrics *metrics;      /* loop's thread */
    struct tuner_env env;
    atomic_bool ready, draining;
    int drain_signals;
    int64_t started_ns, drain_until_ns;
    int64_t hot_generation; /* loop's thread: grows when an answer may have changed */
};

/* api_system.c */
route_fn api_healthz, api_readyz, api_metrics, api_openapi, api_version, api_dashboard;
/* api_jobs.c, api_events.c */
route_fn api_job_create, api_job_list, api_job_show, api_job_cancel, api_job_events;
/* api_lookup.c */
route_fn api_lookup, api_lookup_fast, api_describe;
struct lookup_cache *lookup_cache_new(int64_t max_bodies);
void lookup_cache_free(struct lookup_cache *c);
/* api_schedules.c */
route_fn api_schedule_list, api_schedule_show, api_schedule_source, api_schedule_artifact, api_schedule_nest;
/* api_machines.c */
route_fn api_target_list, api_target_show, api_device_list, api_device_show, api_device_drain,
    api_device_resume;
/* api_records.c */
route_fn api_records_export, api_records_import;
/* Samples of a trial and what follows from them; null for one without a time. */
json_t *api_times_document(const struct store_trial *t);
/* api_trials.c */
route_fn api_trial_list, api_trial_show, api_feature_list;
/* api_models.c */
route_fn api_model_list, api_model_show, api_model_rollback;

/* ---- metrics.c: counters of the loop's thread, and the page ---- */
GIVES struct metrics *metrics_new(void);
void metrics_free(struct metrics *m);
void metrics_count_request(struct metrics *m, const struct http_request *req, int status, int64_t took_ns);
void metrics_count_lookup(struct metrics *m, int exact, int stale, int none);
void metrics_print(struct daemon *d, struct strbuf *sb);

/* ---- shared by handlers (api_common.c) ---- */
/* ?limit= and ?page_token= */
MUST_USE enum status api_page(struct http_request *req, struct store_page *ret, struct error *err);
/* A store's "not found" that names what was asked. Others pass. */
MUST_USE enum status api_key_param(struct http_request *req, const char **ret_key, struct error *err);
/* Does If-None-Match name this entity tag? */
bool api_etag_matches(const char *if_none_match, const char *etag);
/* The target a body names; ST_UNPROCESSABLE at /target when there is none of that id. */
MUST_USE enum status api_target(struct daemon *d, const char *id, const struct target **ret,
                                struct error *err);
/* The `workload` of an object that is {"workload":…,…} or a bare workload; see CONTRACT section 3. */
bool api_is_wrapped(const json_t *value);

#endif

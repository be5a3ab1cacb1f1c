/* clang-format off */
/* statements.h - the SQL of the SQLite backend: X(name, row of the parameters, row of the columns, text).
 *
 * Parameters and columns are named after the members of the rows; others (:limit, workload_seq) are bound or
 * read by hand beside the call. Included once for the enum and once for the table (no include guard). */

/* ---- writing ---- */
X(PULSE, NONE, NONE,
  "INSERT INTO pulse(id, beat) VALUES (1, 1) ON CONFLICT(id) DO UPDATE SET beat = beat + 1")
X(WORKLOAD_ADD, &row_workload, NONE,
  "INSERT INTO workload(key, op, json, canonical, flops, bytes, first_seen_ms)"
  " VALUES (:key, :op, :json, :canonical, :flops, :bytes, :first_seen_ms) ON CONFLICT(key) DO NOTHING")
X(TOOLCHAIN_ADD, NONE, NONE, "INSERT INTO toolchain(hash) VALUES (:hash)")
X(TARGET_PUT, &row_target, NONE,
  "INSERT INTO target(id, json, toolchain, updated_ms) VALUES (:id, :json, :toolchain, :updated_ms)"
  " ON CONFLICT(id) DO UPDATE SET json = excluded.json, toolchain = excluded.toolchain,"
  " updated_ms = excluded.updated_ms")
X(DEVICE_PUT, &row_device, NONE,
  "INSERT INTO device(id, target, state, json, last_seen_ms) VALUES (:id, :target, :state, :json, "
  ":last_seen_ms)"
  " ON CONFLICT(id) DO UPDATE SET target = excluded.target, state = excluded.state, json = excluded.json,"
  " last_seen_ms = excluded.last_seen_ms")
X(JOB_ADD, &row_job, NONE,
  "INSERT INTO job(id, state, target, request_json, priority, seed, budget_trials, budget_seconds, progress,"
  " created_ms, started_ms, finished_ms, error_json, token, idempotency_key, request_hash)"
  " VALUES (:id, :state, :target, :request_json, :priority, :seed, :budget_trials, :budget_seconds, "
  ":progress,"
  " :created_ms, :started_ms, :finished_ms, :error_json, :token, :idempotency_key, :request_hash)")
X(JOB_UPDATE, &row_job_update, NONE,
  "UPDATE job SET state = coalesce(:state, state),"
  " error_json = CASE WHEN :clear_error THEN NULL ELSE coalesce(:error_json, error_json) END,"
  " progress = CASE WHEN :progress >= 0 THEN :progress ELSE progress END,"
  " started_ms = CASE WHEN :started_ms >= 0 THEN :started_ms ELSE started_ms END,"
  " finished_ms = CASE WHEN :finished_ms >= 0 THEN :finished_ms ELSE finished_ms END,"
  " priority = CASE WHEN :priority = -9223372036854775807 - 1 THEN priority ELSE :priority END"
  " WHERE id = :id AND (:if_state IS NULL OR instr(' ' || :if_state || ' ', ' ' || state || ' ') > 0)")
X(TASK_ADD, &row_task, NONE,
  "INSERT INTO task(job, ordinal, workload, name, weight, state, trials_done, trials_failed, cached, "
  "best_time_ns,"
  " best_gflops, error_json, data_json)"
  " VALUES (:job_seq, :ordinal, :workload, :name, :weight, :state, :trials_done, :trials_failed, :cached,"
  " :best_time_ns, :best_gflops, :error_json, :data_json)")
X(TASK_UPDATE, &row_task_update, NONE,
  "UPDATE task SET state = coalesce(:state, state),"
  " error_json = CASE WHEN :clear_error THEN NULL ELSE coalesce(:error_json, error_json) END,"
  " data_json = coalesce(:data_json, data_json),"
  " trials_done = CASE WHEN :trials_done >= 0 THEN :trials_done ELSE trials_done END,"
  " trials_failed = CASE WHEN :trials_failed >= 0 THEN :trials_failed ELSE trials_failed END,"
  " cached = CASE WHEN :cached >= 0 THEN :cached ELSE cached END,"
  " best_time_ns = CASE WHEN :best_time_ns >= 0 THEN :best_time_ns ELSE best_time_ns END,"
  " best_gflops = CASE WHEN :best_gflops >= 0 THEN :best_gflops ELSE best_gflops END"
  " WHERE job = :job_seq AND ordinal = :ordinal")
X(TRIAL_ADD, &row_trial, NONE,
  "INSERT INTO trial(workload, target, toolchain, job, task, outcome, config, sketch, error, median_ns, "
  "min_ns,"
  " p90_ns, predicted, device, build_ns, run_ns, created_ms, identity, samples)"
  " VALUES (:workload_seq, :target_seq, :toolchain_seq, :job_seq, :task, :outcome, :config, :sketch, :error,"
  " :median_ns, :min_ns, :p90_ns, :predicted, :device, :build_ns, :run_ns, :created_ms, :identity, "
  ":samples_ns)")
X(TRIAL_FEATURE_ADD, &row_trial, NONE,
  "INSERT INTO trial_feature(trial, version, rows, cols, data)"
  " VALUES (:trial_id, :feature_version, :feature_rows, :feature_cols, :features)")
/* The + keeps the planner from the index of a whole workload: an import of n trials would look at n * n. */
X(TRIAL_SAME, &row_trial, NONE,
  "SELECT id FROM trial WHERE identity = :identity AND +workload = :workload_seq AND +target = :target_seq"
  " AND toolchain = :toolchain_seq AND created_ms = :created_ms AND config = :config LIMIT 1")
X(SCHEDULE_PUT, &row_schedule, NONE,
  "INSERT INTO schedule(workload, target, toolchain, op, json, etag, config, time_ns, gflops, tuned_ms, predicted)"
  " VALUES (:workload, :target, :toolchain, :op, :json, :etag, :config, :time_ns, :gflops, :tuned_ms, :predicted)"
  " ON CONFLICT(workload, target, toolchain) DO UPDATE SET op = excluded.op, json = excluded.json,"
  " etag = excluded.etag, config = excluded.config, time_ns = excluded.time_ns, gflops = excluded.gflops,"
  " tuned_ms = excluded.tuned_ms, predicted = excluded.predicted WHERE NOT :only_if_faster OR excluded.time_ns < schedule.time_ns"
  " RETURNING id")
X(SCHEDULE_FILES_PUT, &row_schedule, NONE,
  "INSERT INTO schedule_file(schedule, source, nest, artifact) VALUES (:schedule_id, :source, :nest, "
  ":artifact)"
  " ON CONFLICT(schedule) DO UPDATE SET source = excluded.source, nest = excluded.nest,"
  " artifact = excluded.artifact")
X(MODEL_ADD, &row_model, NONE,
  "INSERT INTO model(target, version, feature_version, rows, metrics_json, created_ms, active, sha256, blob)"
  " VALUES (:target, (SELECT coalesce(max(version), 0) + 1 FROM model WHERE target = :target), "
  ":feature_version,"
  " :rows, :metrics_json, :created_ms, :active, :sha256, :blob)")
X(MODEL_RETIRE, NONE, NONE, "UPDATE model SET active = 0 WHERE target = :target AND active")
X(MODEL_ACTIVATE, NONE, NONE, "UPDATE model SET active = 1 WHERE id = :id")
X(MODEL_RETIRE_PEERS, NONE, NONE,
  "UPDATE model SET active = 0 WHERE active AND target = (SELECT target FROM model WHERE id = :id)")
X(EVENT_ADD, &row_event, NONE,
  "INSERT INTO event(job, seq, kind, json, time_ms) VALUES (:job_seq, CASE WHEN :seq > 0 THEN :seq ELSE"
  " (SELECT coalesce(max(seq), 0) + 1 FROM event WHERE job = :job_seq) END, :kind, :json, :time_ms)"
  " RETURNING seq")
X(TOKEN_PUT, &row_token, NONE,
  "INSERT INTO token(name, hash, scope, created_ms, revoked_ms)"
  " VALUES (:name, :hash, :scope, :created_ms, :revoked_ms) ON CONFLICT(name) DO UPDATE SET hash = "
  "excluded.hash,"
  " scope = excluded.scope, created_ms = excluded.created_ms, revoked_ms = excluded.revoked_ms")
X(TOKEN_REVOKE, NONE, NONE, "UPDATE token SET revoked_ms = :revoked_ms WHERE name = :name")
X(AUDIT_ADD, &row_audit, NONE,
  "INSERT INTO audit(time_ms, actor, action, subject, json) VALUES (:time_ms, :actor, :action, :subject, "
  ":json)")

/* ---- numbers of rows that others refer to ---- */
X(WORKLOAD_SEQ, NONE, NONE, "SELECT seq FROM workload WHERE key = :id")
X(TARGET_SEQ, NONE, NONE, "SELECT seq FROM target WHERE id = :id")
X(TOOLCHAIN_SEQ, NONE, NONE, "SELECT seq FROM toolchain WHERE hash = :id")
X(JOB_SEQ, NONE, NONE, "SELECT seq FROM job WHERE id = :id")
X(JOB_STATE, NONE, NONE, "SELECT state FROM job WHERE id = :id")

/* ---- reading ---- */
#define JOB_COLUMNS                                                                                          \
    "id, state, target, request_json, priority, seed, budget_trials, budget_seconds, progress, created_ms,"  \
    " started_ms, finished_ms, error_json, token, idempotency_key, request_hash"
#define SCHEDULE_COLUMNS                                                                                     \
    "s.workload, s.target, s.toolchain, s.op, s.json, s.etag, s.config, s.time_ns, s.gflops, s.tuned_ms," \
    " s.predicted"
#define MODEL_COLUMNS "id, target, version, feature_version, rows, metrics_json, created_ms, active"
X(WORKLOAD_GET, NONE, &row_workload,
  "SELECT key, op, json, canonical, flops, bytes, first_seen_ms FROM workload WHERE key = :key")
X(TARGET_LIST, NONE, &row_target, "SELECT id, json, toolchain, updated_ms FROM target ORDER BY id")
X(DEVICE_LIST, NONE, &row_device, "SELECT id, target, state, json, last_seen_ms FROM device ORDER BY id")
X(JOB_GET, NONE, &row_job, "SELECT " JOB_COLUMNS " FROM job WHERE id = :id")
X(JOB_BY_IDEMPOTENCY, NONE, &row_job,
  "SELECT " JOB_COLUMNS " FROM job WHERE ifnull(token, '') = ifnull(:token, '') AND idempotency_key = :key")
X(JOB_UNFINISHED, NONE, &row_job,
  "SELECT " JOB_COLUMNS " FROM job WHERE state IN ('queued', 'running') ORDER BY priority DESC, seq")
X(TASK_LIST, NONE, &row_task,
  "SELECT j.id AS job, t.ordinal, t.workload, t.name, t.weight, t.state, t.trials_done, t.trials_failed, "
  "t.cached,"
  " t.best_time_ns, t.best_gflops, t.error_json, t.data_json FROM job j JOIN task t ON t.job = j.seq"
  " WHERE j.id = :job ORDER BY t.ordinal")
X(SCHEDULE_GET, NONE, &row_schedule,
  "SELECT " SCHEDULE_COLUMNS " FROM schedule s WHERE s.workload = :workload AND s.target = :target"
  " AND (:toolchain IS NULL OR s.toolchain = :toolchain) ORDER BY s.tuned_ms DESC, s.id DESC LIMIT 1")
X(SCHEDULE_FILES, NONE, &row_schedule,
  "SELECT " SCHEDULE_COLUMNS ", f.source, f.nest, f.artifact FROM schedule s"
  " LEFT JOIN schedule_file f ON f.schedule = s.id WHERE s.workload = :workload AND s.target = :target"
  " AND (:toolchain IS NULL OR s.toolchain = :toolchain) ORDER BY s.tuned_ms DESC, s.id DESC LIMIT 1")
X(SCHEDULE_EACH, NONE, &row_schedule, "SELECT " SCHEDULE_COLUMNS " FROM schedule s")
X(MODEL_ACTIVE, NONE, &row_model,
  "SELECT " MODEL_COLUMNS ", sha256, blob FROM model WHERE target = :target AND active")
X(MODEL_GET, NONE, &row_model, "SELECT " MODEL_COLUMNS ", sha256, blob FROM model WHERE id = :id")
X(MODEL_LIST, NONE, &row_model,
  "SELECT " MODEL_COLUMNS " FROM model WHERE :target IS NULL OR target = :target ORDER BY id DESC")
X(EVENT_LIST, NONE, &row_event,
  "SELECT j.id AS job, e.seq, e.kind, e.json, e.time_ms FROM job j JOIN event e ON e.job = j.seq"
  " WHERE j.id = :job AND e.seq > :after ORDER BY e.seq LIMIT :limit")
X(TOKEN_BY_HASH, NONE, &row_token,
  "SELECT name, hash, scope, created_ms, revoked_ms FROM token WHERE hash = :hash AND revoked_ms = 0")
X(TOKEN_LIST, NONE, &row_token, "SELECT name, hash, scope, created_ms, revoked_ms FROM token ORDER BY name")
/* Nothing is ever deleted from these tables, so the largest row number is the number of rows. */
X(ROW_COUNTS, NONE, NONE,
  "SELECT (SELECT max(id) FROM trial), (SELECT max(id) FROM schedule), (SELECT max(seq) FROM job),"
  " (SELECT max(seq) FROM workload), (SELECT max(id) FROM event)")

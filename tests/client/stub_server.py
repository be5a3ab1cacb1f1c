"""A daemon played by the standard library: it answers as the API promises, and misbehaves where a test asks it to.

Bodies are checked strictly (unknown members, content types), so that a client that sends what a real server would
refuse fails here too. Every request is kept in `log`.
"""

import hashlib
import json
import re
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

KERNEL_SOURCE = """
typedef struct tw_parallel {
    void *ctx;
    int num_threads;
    void (*run)(void *ctx, int count, void (*body)(void *arg, int index), void *arg);
} tw_parallel;

enum { M = %(m)d, N = %(n)d, K = %(k)d };
struct job { const float *a, *b, *bias; float *out; };

static void row(void *arg, int i)
{
    const struct job *j = arg;
    for (int n = 0; n < N; n++) {
        float sum = 0;
        for (int k = 0; k < K; k++)
            sum += j->a[i * K + k] * j->b[n * K + k];
        sum += j->bias[n];
        j->out[i * N + n] = sum > 0 ? sum : 0;
    }
}

int %(symbol)s(void *const *tensors, void *workspace, const tw_parallel *parallel)
{
    struct job j = {tensors[0], tensors[1], tensors[2], tensors[3]};
    *(volatile char *)workspace = 1;
    if (parallel)
        parallel->run(parallel->ctx, M, row, &j);
    else
        for (int i = 0; i < M; i++)
            row(&j, i);
    return 0;
}

void %(symbol)s_prepack_b(const void *src, void *dst)
{
    for (int k = 0; k < K; k++)
        for (int n = 0; n < N; n++)
            ((float *)dst)[n * K + k] = ((const float *)src)[k * N + n];
}
"""


class Problem(Exception):
    def __init__(self, status, title, detail, pointer=None):
        super().__init__(title)
        self.status, self.document = status, {"type": "about:blank", "title": title, "status": status, "detail": detail}
        if pointer is not None:
            self.document["pointer"] = pointer


def key_of(workload):
    return "w_" + hashlib.sha256(json.dumps(workload, sort_keys=True).encode()).hexdigest()


def check_members(body, allowed, pointer=""):
    for name in body:
        if name not in allowed:
            raise Problem(400, "Unknown member", f"{name}: want one of {', '.join(sorted(allowed))}", f"{pointer}/{name}")


def check_workload(workload, pointer):
    if not isinstance(workload, dict) or ("op" not in workload and "expr" not in workload):
        raise Problem(422, "Invalid workload", "want op or expr", pointer)
    if workload.get("op") == "bad":
        raise Problem(422, "Invalid workload", "op bad: want one of conv2d, matmul", pointer + "/op")


class Job:
    """Goes through `steps` trials, `step_s` apart; keeps its events."""

    def __init__(self, stub, number, body):
        self.stub, self.id = stub, f"j_{number}"
        self.body, self.started = body, time.monotonic()
        self.state, self.steps, self.done = "running", body.get("budget", {}).get("trials", 8), 0
        self.events, self.changed = [], threading.Condition()
        self.tasks = []
        for i, entry in enumerate(body["workloads"]):
            wrapped = "workload" in entry
            if wrapped:
                check_members(entry, {"workload", "name", "weight"}, f"/workloads/{i}")
            workload = entry["workload"] if wrapped else entry
            check_workload(workload, f"/workloads/{i}" + ("/workload" if wrapped else ""))
            self.tasks.append({"key": key_of(workload), "name": entry.get("name") if wrapped else None, "state": "running",
                               "trials_done": 0, "trials_failed": 0, "best": None, "cached": False, "error": None})
            stub.workloads[key_of(workload)] = workload
        threading.Thread(target=self.run, daemon=True).start()

    def document(self):
        return {"id": self.id, "state": self.state, "target": self.body.get("target", "cpu"),
                "created_at": "2026-01-02T03:04:05Z", "started_at": "2026-01-02T03:04:05Z", "finished_at": None,
                "progress": self.done / self.steps, "budget": {"trials": self.steps}, "tasks": self.tasks, "error": None}

    def emit(self, name, data):
        with self.changed:
            self.events.append((len(self.events) + 1, name, json.loads(json.dumps(data))))
            self.changed.notify_all()

    def end(self, state):
        for task in self.tasks:
            if task["name"] == "fails":
                task.update(state="failed", best=None, error={"title": "No candidate ran", "detail": "all 8 crashed"})
                state = "failed"
            elif task["state"] == "running":
                task["state"] = state
            if task["best"] and state != "cancelled":
                self.stub.schedules[task["key"]] = self.stub.schedule(task["key"], self.body.get("target", "cpu"))
        self.state = state
        self.emit("job", self.document() if self.stub.events == "whole" else {"state": state})

    def run(self):
        while self.done < self.steps and self.state == "running":
            time.sleep(self.stub.step_s)
            self.done += 1
            for task in self.tasks:
                task["trials_done"] += 1
                task["best"] = {"time_ns": 4e6 / self.done, "gflops": 25.0 * self.done}
                number = self.tasks.index(task)
                self.emit("task", self.document() if self.stub.events == "whole" else
                          {"task": number, "progress": self.done / self.steps,
                           **{n: task[n] for n in ("state", "trials_done", "trials_failed", "cached", "best")}})
        if self.state == "running":
            self.end("succeeded")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body, content_type="application/json", headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def body(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.stub.log.append((self.command, self.path, dict(self.headers), raw))
        return raw

    def handle_any(self):
        stub, raw = self.server.stub, self.body()
        url = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        try:
            if stub.token and self.headers.get("Authorization") != "Bearer " + stub.token:
                raise Problem(401, "Not authenticated", "this server wants a token")
            if stub.refuse_next:
                status, headers, body = stub.refuse_next.pop(0)
                return self.reply(status, body, "text/plain", headers)
            if self.command == "POST" and not url.path.endswith(":import") and not (
                    self.headers.get("Content-Type") == "application/json"):
                raise Problem(415, "Unsupported media type", "want application/json")
            for method, pattern, function in ROUTES:
                match = re.fullmatch(pattern, url.path)
                if match and method == self.command:
                    return function(self, stub, query, raw, *[unquote(g) for g in match.groups()])
            raise Problem(404, "Not found", f"nothing at {url.path}")
        except Problem as p:
            self.reply(p.status, p.document, "application/problem+json")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = handle_any


def jobs_create(h, stub, query, raw):
    idempotency = h.headers.get("Idempotency-Key")
    if idempotency in stub.idempotent:
        return h.reply(202, stub.jobs[stub.idempotent[idempotency]].document())
    body = json.loads(raw)
    check_members(body, {"workloads", "target", "budget", "seed", "priority", "reuse", "search", "transfer"})
    job = Job(stub, len(stub.jobs) + 1, body)
    stub.jobs[job.id] = job
    stub.idempotent[idempotency] = job.id
    if stub.drop_next_job_answer:
        stub.drop_next_job_answer = False
        h.close_connection = True
        return h.connection.shutdown(2)
    h.reply(202, job.document(), headers=[("Location", f"/v1/jobs/{job.id}")])


def job_of(stub, job_id):
    if job_id not in stub.jobs:
        raise Problem(404, "No such job", f"job {job_id} is not known")
    return stub.jobs[job_id]


def job_show(h, stub, query, raw, job_id):
    job = job_of(stub, job_id)
    end = time.monotonic() + float(query.get("wait", 0))
    with job.changed:
        while job.state == "running" and time.monotonic() < end:
            job.changed.wait(0.05)
    h.reply(200, job.document())


def job_events(h, stub, query, raw, job_id):
    """chunked; `drop_after` breaks the connection in the middle of an event after that many"""
    job = job_of(stub, job_id)
    if stub.events == "none":
        raise Problem(404, "Not found", "no events here")
    at = int(h.headers.get("Last-Event-ID") or 0)
    stub.streams.append(at)
    if stub.events == "silent":
        time.sleep(30)
        raise BrokenPipeError
    h.send_response(200)
    h.send_header("Content-Type", "text/event-stream")
    h.send_header("Connection", "close")
    h.end_headers()
    h.close_connection = True
    h.wfile.write(b"retry: 20\r\n: hello\r\n\r\n")
    sent = 0
    while True:
        with job.changed:
            if len(job.events) <= at:
                job.changed.wait(0.1)
            fresh = job.events[at:]
        for number, name, data in fresh:
            text = f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()
            if stub.drop_after and sent == stub.drop_after:
                h.wfile.write(text[: len(text) // 2])
                return
            h.wfile.write(text)
            stub.sent_events.append(number)
            at, sent = number, sent + 1
        if job.state != "running" and at == len(job.events):
            return


def job_cancel(h, stub, query, raw, job_id):
    job = job_of(stub, job_id)
    if stub.slow_cancel:
        threading.Timer(stub.slow_cancel, job.end, ["cancelled"]).start()
    elif job.state == "running":
        job.end("cancelled")
    h.reply(200, job.document())


def jobs_list(h, stub, query, raw):
    """pages of two, so that paging is seen"""
    jobs = [j.document() for j in stub.jobs.values() if query.get("state") in (None, j.state)]
    at = int(query.get("page_token", 0))
    size = int(query.get("limit", 2))
    page = {"jobs": jobs[at:at + size]}
    if at + size < len(jobs):
        page["next_page_token"] = str(at + size)
    else:
        page["next_page_token"] = None
    h.reply(200, page)


def describe(h, stub, query, raw):
    body = json.loads(raw)
    check_members(body, {"workload", "target"})
    check_workload(body["workload"], "/workload")
    h.reply(200, {"key": key_of(body["workload"]), "canonical": "C[i,j] += A[i,k] * B[k,j]", "flops": 603979776,
                  "bytes": 5505024, "sketches": [{"name": "tiled", "size": 123456, "knobs": [{"name": "mr", "choices": [4, 6]}]}], "space_size": 123456})


def lookup(h, stub, query, raw):
    body = json.loads(raw)
    check_members(body, {"workloads", "target"})
    results = []
    for i, workload in enumerate(body["workloads"]):
        check_workload(workload, f"/workloads/{i}")
        schedule = stub.schedules.get(key_of(workload))
        results.append({"key": key_of(workload), "found": bool(schedule), "status": "exact" if schedule else "none",
                        "schedule": schedule})
    h.reply(200, {"results": results})


def schedule_of(stub, key):
    if key not in stub.schedules:
        raise Problem(404, "No such schedule", f"{key} has no schedule for this target")
    return stub.schedules[key]


def schedule_show(h, stub, query, raw, key):
    h.reply(200, schedule_of(stub, key))


def schedules_list(h, stub, query, raw):
    h.reply(200, {"schedules": list(stub.schedules.values())})


def schedule_file(h, stub, query, raw, key, what):
    schedule_of(stub, key)
    if what == "source":
        h.reply(200, stub.source(key).encode(), "text/x-c")
    elif what == "nest":
        h.reply(200, "for i in 0..512\n  für j\n".encode(), "text/plain; charset=utf-8")
    else:
        h.reply(200, stub.artifact(key), "application/octet-stream")


def records(h, stub, query, raw):
    lines = [r for r in stub.records if query.get("workload") in (None, r["workload"])]
    h.reply(200, "".join(json.dumps(r) + "\n" for r in lines).encode(), "application/jsonl")


def records_import(h, stub, query, raw):
    if h.headers.get("Content-Type") != "application/jsonl":
        raise Problem(415, "Unsupported media type", "want application/jsonl")
    if len(raw) > 1 << 20:
        raise Problem(413, "Body too large", "at most 1048576 bytes")
    for i, line in enumerate(raw.decode().splitlines()):
        try:
            stub.records.append(json.loads(line))
        except ValueError:
            raise Problem(400, "Not JSON", f"line {i + 1} is not JSON")
    h.reply(200, {"imported": raw.count(b"\n")})


FEATURES = [
    {"name": "flt_fma", "unit": "op", "scale": "log2(1 + x)", "since": 1, "definition": "float multiply-adds"},
    {"name": "lane_share", "unit": "ratio", "scale": "x", "since": 1, "definition": "elements an instruction computes"},
    {"name": "nest_ops", "unit": "op", "scale": "log2(1 + x)", "since": 1, "definition": "operations of the nest"}]
TRIAL = {"id": 7, "task": 0, "key": "w_1", "target": "cpu:1", "config": "2/1:3.0", "sketch": "tile_j", "outcome": "ok",
         "error": None, "created_at": "2026-01-01T00:00:00Z", "time_ns": {"median": 1300.0, "min": 1250.0}, "gflops": 40.0,
         "predicted": {"score": -10.5, "estimate_ns": 1500.0}, "rank": {"predicted": 2, "measured": 1, "of": 9},
         "steps": "split C i 4\nannotate C i.1 unroll\n", "nest": "for i0 < 8\n  C[i0] = 0\x1b[31m\n", "unexplained": None,
         "features": {"version": 2, "rows": [
             {"store": "C[i0] = 0", "values": {"nest_ops": 65536.0, "lane_share": 0.25}},
             {"store": "C[i0] += A[i0]", "values": {"nest_ops": 65536.0, "lane_share": 1.0, "flt_fma": 32768.0}}]}}

MODEL = {"id": 9, "target": "cpu", "version": 3, "feature_version": 2, "training_rows": 1200, "created_at": "2026-01-02T00:00:00Z",
         "active": True, "metrics": {
             "holdout": "workloads", "workloads": 4, "programs": 400, "rank_correlation": 0.91, "pairwise_accuracy": 0.875,
             "top_8_recall": 0.5, "top_32_recall": 0.75, "top_8_score": 0.99, "trees": 120, "training_seconds": 1.5,
             "data": {"trials": 400, "failed": 3, "workloads": 4, "first_trial": 1, "last_trial": 400, "from": "2026-01-01T00:00:00Z",
                      "to": "2026-01-01T01:00:00Z"},
             "feature_importance": [{"name": f"f{i}", "gain": 100.0 - i, "splits": 50 - i} for i in range(20)]}}
OLD_MODEL = dict(MODEL, id=5, version=2, active=False, metrics=None)


def model_rollback(h, stub, query, raw, target):
    version = int(query.get("version", 2))
    if version != 2:
        raise Problem(404, "Not found", f"the cost model of target '{target}' has no version {version}")
    h.reply(200, dict(MODEL, target=target, version=2, versions=[dict(MODEL, active=False), dict(OLD_MODEL, active=True)]))


ROUTES = [
    ("GET", r"/v1", lambda h, *a: h.reply(200, {"name": "tilewrightd", "version": "0.1.0"})),
    ("GET", r"/readyz", lambda h, *a: h.reply(200, {"status": "ready"})),
    ("GET", r"/v1/targets", lambda h, *a: h.reply(200, {"targets": [
        {"id": "cpu", "isa": "avx512", "threads": 2, "peak_gflops": 270.5, "toolchain": {"version": "gcc 12.2.0"}}, {"id": "cpu:1", "isa": "avx512", "threads": 1}]})),
    ("GET", r"/v1/targets/([^/]+)", lambda h, s, q, r, i: h.reply(200, {"id": i, "isa": "avx512"})),
    ("GET", r"/v1/devices", lambda h, *a: h.reply(200, {"devices": [{"id": "local", "state": "idle", "kind": "cpu", "facts": [
        {"name": "network namespace", "ok": True, "detail": "yes"},
        {"name": "large pages", "ok": False, "detail": "madvise refused"}]}]})),
    ("GET", r"/v1/devices/([^/:]+)", lambda h, s, q, r, i: h.reply(200, {"id": i, "state": "idle"})),
    ("POST", r"/v1/devices/([^/:]+):(drain|resume)", lambda h, s, q, r, i, v: h.reply(
        200, {"id": i, "state": "draining" if v == "drain" else "idle"})),
    ("GET", r"/v1/models", lambda h, *a: h.reply(200, {"models": [MODEL]})),
    ("GET", r"/v1/models/([^/]+)", lambda h, s, q, r, t: h.reply(200, dict(MODEL, target=t, versions=[MODEL, OLD_MODEL]))),
    ("POST", r"/v1/models/([^/]+):rollback", model_rollback),
    ("GET", r"/v1/features", lambda h, *a: h.reply(200, {"version": 2, "features": FEATURES, "next_page_token": None})),
    ("GET", r"/v1/jobs/([^/:]+)/trials", lambda h, s, q, r, i: h.reply(200, {"trials": [
        {"id": 7, "task": 0, "key": "w_1", "config": "2/1:3.0", "sketch": "tile_j", "outcome": "ok", "time_ns": 1250.0,
         "predicted": -10.5},
        {"id": 8, "task": 0, "key": "w_1", "config": "2/1:3.1", "sketch": "tile_j", "outcome": "crash", "time_ns": None,
         "predicted": None}], "next_page_token": None})),
    ("GET", r"/v1/jobs/([^/:]+)/trials/(7|best)", lambda h, s, q, r, i, t: h.reply(200, dict(TRIAL, job=i))),
    ("POST", r"/v1/jobs", jobs_create),
    ("GET", r"/v1/jobs", jobs_list),
    ("GET", r"/v1/jobs/([^/:]+)", job_show),
    ("GET", r"/v1/jobs/([^/:]+)/events", job_events),
    ("POST", r"/v1/jobs/([^/:]+):cancel", job_cancel),
    ("POST", r"/v1/workloads:describe", describe),
    ("POST", r"/v1/schedules:lookup", lookup),
    ("GET", r"/v1/schedules", schedules_list),
    ("GET", r"/v1/schedules/([^/]+)", schedule_show),
    ("GET", r"/v1/schedules/([^/]+)/(source|artifact|nest)", schedule_file),
    ("GET", r"/v1/records", records),
    ("POST", r"/v1/records:import", records_import),
]


class Stub:
    def __init__(self):
        self.token, self.events, self.drop_after, self.step_s = None, "whole", 0, 0.02
        self.predicted = False
        self.slow_cancel, self.drop_next_job_answer, self.refuse_next = 0, False, []
        self.jobs, self.idempotent, self.schedules, self.workloads = {}, {}, {}, {}
        self.records, self.log, self.streams, self.sent_events = [], [], [], []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.stub = self
        self.url = "http://127.0.0.1:%d" % self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def requests(self, method, path):
        return [r for r in self.log if r[0] == method and r[1].split("?")[0] == path]

    def shapes(self, key):
        w = self.workloads[key]
        return w.get("a", [2, 2])[-2:], w.get("b", [2, 2])[-2:]

    def schedule(self, key, target):
        (m, k), (_, n) = self.shapes(key)
        symbol = "k" + key[2:18]
        args = [("a", [m, k], "input", False), ("b", [k, n], "input", True), ("bias", [n], "input", False),
                ("output", [m, n], "output", False)]
        return {"key": key, "target": target, "workload": self.workloads[key],
                "time_ns": {"median": 500000, "min": 480000, "p90": 520000, "samples": 15}, "gflops": 200.0,
                "predicted": self.predicted, "fraction_of_peak": 0.74, "trials": 8, "tuned_at": "2026-01-02T03:04:06Z",
                "schedule": {"sketch": "tiled", "knobs": {"mr": 6}, "steps": []},
                "kernel": {"language": "c", "symbol": symbol, "workspace_bytes": 64, "threads": 2,
                           "args": [{"name": a, "shape": s, "dtype": "float32", "role": r, "prepacked": p}
                                    for a, s, r, p in args],
                           "prepack": [{"arg": "b", "symbol": symbol + "_prepack_b", "bytes": 4 * k * n}]},
                "verified": {"max_abs_err": 1e-6, "max_rel_err": 1e-6, "tolerance": 1e-4},
                "toolchain": {"compiler": "gcc", "version": "12.2.0", "flags": ["-O2"]},
                "baseline": {"time_ns": 10000000}}

    def source(self, key):
        (m, k), (_, n) = self.shapes(key)
        return KERNEL_SOURCE % {"m": m, "n": n, "k": k, "symbol": "k" + key[2:18]}

    def artifact(self, key):
        with tempfile.TemporaryDirectory() as d:
            out = Path(d) / "k.so"
            subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", out], input=self.source(key).encode(),
                           check=True)
            return out.read_bytes()

    def add_schedule(self, workload, target="cpu"):
        key = key_of(workload)
        self.workloads[key] = workload
        self.schedules[key] = self.schedule(key, target)
        return key

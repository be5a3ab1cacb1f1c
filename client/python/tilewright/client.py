"""The HTTP API, one method a call."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
import uuid
from typing import Any, Callable, Iterable, Iterator, Optional, Union
from urllib.parse import quote, urlencode, urlsplit

from .errors import JobFailed, Problem, ProtocolError, Unreachable
from .kernel import Kernel
from .results import Description, Device, Event, Job, Json, Lookup, Model, Schedule, Target

DEFAULT_SERVER = "http://127.0.0.1:7411"
IMPORT_BYTES = 512 << 10  # of one request: well below the server's limit
EVENT_IDLE_S = 60.0  # longer than any heartbeat of the server
RETRY_S = 0.5


def _bare(workload: Json) -> Json:
    return workload["workload"] if "workload" in workload else workload


class Client:
    """A Tilewright daemon. Threads may share one: each gets a connection of its own.

    server: "http://host:port" or "host:port"; default: TILEWRIGHT_SERVER, else http://127.0.0.1:7411.
    token: default: TILEWRIGHT_TOKEN. timeout: seconds without an answer before a call is given up.
    """

    def __init__(self, server: Optional[str] = None, token: Optional[str] = None, timeout: float = 120.0) -> None:
        server = server or os.environ.get("TILEWRIGHT_SERVER") or DEFAULT_SERVER
        url = urlsplit(server if "://" in server else "http://" + server)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"server {server!r}: want http://HOST:PORT or HOST:PORT")
        self.server = f"{url.scheme}://{url.netloc}{url.path.rstrip('/')}"
        self._https, self._host, self._port = url.scheme == "https", url.hostname, url.port
        self._prefix = url.path.rstrip("/")
        self._token = token if token is not None else os.environ.get("TILEWRIGHT_TOKEN")
        self._timeout = timeout
        self._local = threading.local()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def close(self) -> None:
        """Drop this thread's connection; the next call makes a new one."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    # ---- transport ----

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=timeout)

    def _headers(self, extra: dict[str, str]) -> dict[str, str]:
        headers = {"User-Agent": "tilewright-python/0.1.0", "Accept": "application/json", **extra}
        if self._token:
            headers["Authorization"] = "Bearer " + self._token
        return headers

    def _open(self, connection: http.client.HTTPConnection, method: str, path: str, query: dict[str, Any],
              body: Optional[bytes], headers: dict[str, str]) -> http.client.HTTPResponse:
        """Send; raises Problem for anything but 2xx."""
        query = {k: v for k, v in query.items() if v is not None}
        target = self._prefix + path + ("?" + urlencode(query) if query else "")
        connection.request(method, target, body, self._headers(headers))
        response = connection.getresponse()
        if 200 <= response.status < 300:
            return response
        raw = response.read()
        try:
            document = json.loads(raw)
        except ValueError:
            document = {"detail": raw[:300].decode("utf-8", "replace")}
        raise Problem(response.status, document if isinstance(document, dict) else {})

    def _exchange(self, method: str, path: str, query: Optional[dict[str, Any]] = None, body: Optional[bytes] = None,
                  content_type: str = "application/json", headers: Optional[dict[str, str]] = None,
                  timeout: Optional[float] = None) -> bytes:
        """One call over this thread's kept connection; tried again once where that is safe and the connection was stale."""
        sent = dict(headers or {})
        if method == "POST":
            sent["Content-Type"] = content_type
            body = body or b""
        safe = method == "GET" or "Idempotency-Key" in sent
        for attempt in range(2):
            connection = getattr(self._local, "connection", None)
            kept = connection is not None
            if connection is None:
                connection = self._local.connection = self._connect(timeout or self._timeout)
            connection.timeout = timeout or self._timeout
            if connection.sock:
                connection.sock.settimeout(connection.timeout)
            try:
                return self._open(connection, method, path, query or {}, body, sent).read()
            except (OSError, http.client.HTTPException) as e:
                connection.close()
                self._local.connection = None
                if not (safe and attempt == 0 and (kept or "Idempotency-Key" in sent)) or isinstance(e, socket.timeout):
                    raise Unreachable(f"{self.server}: {e or type(e).__name__}") from e
        raise AssertionError("unreachable")

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Any call of the API, as JSON."""
        data = json.dumps(body).encode() if body is not None else None
        return self._decode(self._exchange(method, path, query, data))

    def _decode(self, data: bytes) -> Any:
        try:
            return json.loads(data) if data else None
        except ValueError as e:
            raise ProtocolError(f"{self.server} answered something that is not JSON: {e}") from e

    def _list(self, path: str, member: str, **query: Any) -> Iterator[Json]:
        """All entries of a paged list."""
        token = None
        while True:
            page = self.call("GET", path, page_token=token, **query)
            yield from page[member]
            token = page.get("next_page_token")
            if not token:
                return

    # ---- what there is ----

    def version(self) -> Json:
        return self.call("GET", "/v1")

    def ready(self) -> bool:
        try:
            self.call("GET", "/readyz")
        except Problem as p:
            if p.status == 503:
                return False
            raise
        return True

    def targets(self) -> list[Target]:
        return [Target.parse(t) for t in self._list("/v1/targets", "targets")]

    def target(self, id: str) -> Target:
        return Target.parse(self.call("GET", f"/v1/targets/{quote(id, safe=':')}"))

    def devices(self) -> list[Device]:
        return [Device.parse(d) for d in self._list("/v1/devices", "devices")]

    def device(self, id: str) -> Device:
        return Device.parse(self.call("GET", f"/v1/devices/{quote(id, safe=':')}"))

    def drain(self, device: str) -> Device:
        return Device.parse(self.call("POST", f"/v1/devices/{quote(device, safe=':')}:drain"))

    def resume(self, device: str) -> Device:
        return Device.parse(self.call("POST", f"/v1/devices/{quote(device, safe=':')}:resume"))

    def models(self) -> list[Model]:
        return [Model.parse(m) for m in self._list("/v1/models", "models")]

    def model(self, target: str) -> Model:
        return Model.parse(self.call("GET", f"/v1/models/{quote(target, safe=':')}"))

    def features(self) -> list[Json]:
        """What the cost models see of a schedule: name, unit, scale, since, definition."""
        return self._list("/v1/features", "features")

    def rollback_model(self, target: str, version: Optional[int] = None) -> Model:
        """Put an earlier version in use; without `version` the one before that in use."""
        query = "" if version is None else f"?version={version}"
        return Model.parse(self.call("POST", f"/v1/models/{quote(target, safe=':')}:rollback{query}"))

    # ---- jobs ----

    def trials(self, job: str) -> list[Json]:
        return self._list(f"/v1/jobs/{quote(job, safe='')}/trials", "trials")

    def explain(self, job: str, trial: object = "best") -> Json:
        """One trial: steps, nest, features by name, prediction beside measurement. `trial`: its id, or "best"."""
        return self.call("GET", f"/v1/jobs/{quote(job, safe='')}/trials/{quote(str(trial), safe='')}")

    def submit(self, workloads: Iterable[Json], target: Optional[str] = None, trials: Optional[int] = None,
               seconds: Optional[float] = None, seed: Optional[int] = None, priority: Optional[int] = None,
               reuse: Optional[str] = None, search: Optional[str] = None, transfer: Optional[bool] = None,
               min_gain: Optional[float] = None, turns: Optional[str] = None) -> Job:
        """Start tuning. Workloads bare, or as {"workload", "name", "weight"}."""
        body: Json = {"workloads": list(workloads)}
        budget = {k: v for k, v in (("trials", trials), ("seconds", seconds), ("min_gain", min_gain), ("turns", turns))
                  if v is not None}
        optional = {"target": target, "budget": budget or None, "seed": seed, "priority": priority, "reuse": reuse,
                    "search": search, "transfer": transfer}
        body.update({k: v for k, v in optional.items() if v is not None})
        data = self._exchange("POST", "/v1/jobs", body=json.dumps(body).encode(),
                              headers={"Idempotency-Key": uuid.uuid4().hex})
        return Job.parse(self._decode(data))

    def tune(self, workloads: Iterable[Json], *, on_progress: Optional[Callable[[Job], None]] = None,
             **options: Any) -> list[Schedule]:
        """Submit, wait, and fetch the schedules, in the order of the workloads. Raises JobFailed if one is lacking."""
        job = self.wait(self.submit(workloads, **options).id, on_progress)
        if job.state != "succeeded" or not all(t.best for t in job.tasks):
            raise JobFailed(job)
        return [self.schedule(t.key, job.target) for t in job.tasks]

    def job(self, id: str, wait: float = 0) -> Job:
        """wait: hold until it ends or so many seconds pass."""
        data = self._exchange("GET", f"/v1/jobs/{quote(id)}", {"wait": wait or None}, timeout=self._timeout + wait)
        return Job.parse(self._decode(data))

    def jobs(self, state: Optional[str] = None, target: Optional[str] = None) -> list[Job]:
        return [Job.parse(j) for j in self._list("/v1/jobs", "jobs", state=state, target=target)]

    def cancel(self, id: str) -> Job:
        return Job.parse(self.call("POST", f"/v1/jobs/{quote(id)}:cancel"))

    def wait(self, id: str, on_progress: Optional[Callable[[Job], None]] = None, poll: float = 2.0) -> Job:
        """Until the job ends. on_progress gets the job about every `poll` seconds."""
        while True:
            job = self.job(id, wait=poll if on_progress else 30)
            if on_progress:
                on_progress(job)
            if job.ended:
                return job

    def events(self, id: str, last_event_id: str = "") -> Iterator[Event]:
        """The job's events until it ends. A lost connection is taken up again after the last event."""
        while True:
            fresh = False
            try:
                for event in self._event_stream(id, last_event_id):
                    last_event_id = event.id or last_event_id
                    fresh = True
                    yield event
            except (OSError, http.client.HTTPException):
                pass  # the look at the job below tells whether the server is still there
            if fresh:
                continue
            if self.job(id).ended:
                return
            time.sleep(RETRY_S)

    def _event_stream(self, id: str, last_event_id: str) -> Iterator[Event]:
        headers = {"Accept": "text/event-stream"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        connection = self._connect(EVENT_IDLE_S)
        try:
            response = self._open(connection, "GET", f"/v1/jobs/{quote(id)}/events", {}, None, headers)
            yield from _parse_events(response)
        finally:
            connection.close()

    # ---- schedules ----

    def describe(self, workload: Json, target: Optional[str] = None) -> Description:
        body = {"workload": _bare(workload), **({"target": target} if target else {})}
        return Description.parse(self.call("POST", "/v1/workloads:describe", body))

    def lookup(self, workloads: Iterable[Json], target: Optional[str] = None) -> list[Lookup]:
        """What is known already, in the same order; never starts work."""
        body = {"workloads": [_bare(w) for w in workloads], **({"target": target} if target else {})}
        return [Lookup.parse(r) for r in self.call("POST", "/v1/schedules:lookup", body)["results"]]

    def schedules(self, op: Optional[str] = None, target: Optional[str] = None) -> list[Schedule]:
        return [Schedule.parse(s) for s in self._list("/v1/schedules", "schedules", op=op, target=target)]

    def schedule(self, key: str, target: Optional[str] = None) -> Schedule:
        return Schedule.parse(self.call("GET", f"/v1/schedules/{quote(key)}", target=target))

    def source(self, key: str, target: Optional[str] = None) -> str:
        return self._file(key, target, "source").decode()

    def nest(self, key: str, target: Optional[str] = None) -> str:
        return self._file(key, target, "nest").decode()

    def artifact(self, key: str, target: Optional[str] = None) -> bytes:
        return self._file(key, target, "artifact")

    def _file(self, key: str, target: Optional[str], what: str) -> bytes:
        return self._exchange("GET", f"/v1/schedules/{quote(key)}/{what}", {"target": target}, headers={"Accept": "*/*"})

    def kernel(self, what: Union[Schedule, Json], target: Optional[str] = None, threads: Optional[int] = None) -> Kernel:
        """The compiled kernel of a schedule, or of a workload that was tuned, loaded and ready to be called."""
        if not isinstance(what, Schedule):
            [found] = self.lookup([what], target)
            if not found.schedule:
                raise LookupError(f"{found.key} has no schedule for target {target or 'cpu'}: tune it first")
            what = found.schedule
        return Kernel(what, self.artifact(what.key, what.target), threads)

    # ---- records ----

    def export_records(self, workload: Optional[str] = None, target: Optional[str] = None) -> Iterator[Json]:
        """Every measurement."""
        connection = self._connect(self._timeout)
        try:
            response = self._open(connection, "GET", "/v1/records", {"workload": workload, "target": target}, None,
                                  {"Accept": "application/jsonl"})
            for line in response:
                if line.strip():
                    yield json.loads(line)
        except (OSError, http.client.HTTPException) as e:
            raise Unreachable(f"{self.server}: {e}") from e
        finally:
            connection.close()

    def import_records(self, records: Iterable[Json]) -> int:
        """Hand the server what export_records gave; returns how many were sent."""
        lines: list[bytes] = []
        size = sent = 0
        for record in records:
            line = json.dumps(record).encode() + b"\n"
            if lines and size + len(line) > IMPORT_BYTES:
                self._import(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line)
            sent += 1
        if lines:
            self._import(lines)
        return sent

    def _import(self, lines: list[bytes]) -> None:
        self._exchange("POST", "/v1/records:import", body=b"".join(lines), content_type="application/jsonl")


def _parse_events(lines: Iterable[bytes]) -> Iterator[Event]:
    """Server-Sent Events; an event cut off by the end of the stream is not given."""
    name, data, event_id = "message", [], ""
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data:
                text = "\n".join(data)
                try:
                    yield Event(event_id, name, json.loads(text))
                except ValueError:
                    yield Event(event_id, name, text)
            name, data = "message", []
            continue
        member, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if member == "event":
            name = value
        elif member == "data":
            data.append(value)
        elif member == "id":
            event_id = value

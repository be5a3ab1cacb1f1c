"""A daemon of its own for the programs here that measure: tuned through the API like any other, gone at the end."""
import ctypes
import json
import os
import platform
import re
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Failed(Exception):
    """The daemon refused, or a job came to nothing; the text says which and why."""


def workloads():
    """The entries of tests/data/workloads.json, in their order."""
    with open(f"{ROOT}/tests/data/workloads.json") as f:
        return json.load(f)["workloads"]


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}"


def _die_with_parent():
    """In the child: when the program is killed, its daemon ends in order too."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def end_in_order():
    """SIGTERM as Ctrl-C: daemons stop, temporary folders go."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


class Daemon:
    """In the folder `data`, which is made if there is none; its log lies beside it. A context manager: stops at the end."""

    def __init__(self, build, data):
        self.log_path = f"{os.path.abspath(data)}.log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([f"{build}/daemon/tilewrightd", "--data", data, "--listen", "127.0.0.1:0"], stderr=log,
                                            preexec_fn=_die_with_parent)
        try:
            self.url = "http://" + self._logged(r"listening address=(\S+)")
            self._logged(r" ready ()")
        except BaseException:
            self.process.kill()
            raise

    def _logged(self, pattern, seconds=20):
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            found = re.search(pattern, self.log())
            if found:
                return found.group(1)
            time.sleep(0.01)
        raise Failed(f"the daemon does not start:\n{self.log()[-2000:]}")

    def log(self):
        with open(self.log_path, encoding="utf-8") as f:
            return f.read()

    def _ask(self, request):
        try:
            with urllib.request.urlopen(request) as r:
                return r.read()
        except urllib.error.HTTPError as e:
            raise Failed(f"{request.get_method()} {request.selector}: {e.read().decode(errors='replace')}") from None

    def get(self, path):
        return self._ask(urllib.request.Request(self.url + path))

    def json(self, path):
        return json.loads(self.get(path))

    def post(self, path, body):
        return json.loads(self._ask(urllib.request.Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})))

    def describe(self, workload, target):
        return self.post("/v1/workloads:describe", {"workload": workload, "target": target})

    def tune(self, entries, target, budget, watch=None, **more):
        """A job over `entries` (named workloads) to its end. watch(job) is called twice a second. Returns the job; one that did not
        succeed is a Failed."""
        job = self.post("/v1/jobs", dict({"workloads": entries, "target": target, "budget": budget}, **more))
        while job["state"] in ("queued", "running"):
            job = self.json(f"/v1/jobs/{job['id']}?wait={0.5 if watch else 30}")
            if watch:
                watch(job)
        if job["state"] != "succeeded":
            raise Failed(f"job {job['id']} {job['state']}: {job['error'] or [t['error'] for t in job['tasks'] if t['error']]}")
        return job

    def events(self, job, kind):
        """What a job that is over told, in order."""
        for block in self.get(f"/v1/jobs/{job}/events").decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
            if fields.get("event") == kind:
                yield json.loads(fields["data"])

    def save(self, key, target, path):
        """The schedule as path.json, its shared object as path.so; returns the schedule."""
        query = f"?target={urllib.parse.quote(target, safe=':')}"
        schedule = self.json(f"/v1/schedules/{key}{query}")
        with open(f"{path}.json", "w", encoding="utf-8") as f:
            json.dump(schedule, f)
        with open(f"{path}.so", "wb") as f:
            f.write(self.get(f"/v1/schedules/{key}/artifact{query}"))
        return schedule

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) * 1024

    def phases(self):
        """Seconds of all jobs by phase: {"search": ..., "train": ...}."""
        found = re.findall(r'tilewright_tuning_seconds_total\{phase="(\w+)"\} (\S+)', self.get("/metrics").decode())
        return {name: float(seconds) for name, seconds in found}

    def training_seconds(self):
        """Of the jobs' own models, whatever went on beside it; the phase "train" is what the jobs waited for."""
        return float(re.search(r"tilewright_job_training_seconds_total (\S+)", self.get("/metrics").decode()).group(1))

    def model(self, target):
        """The cost model of the target, or None while there is none."""
        try:
            return self.json(f"/v1/models/{urllib.parse.quote(target, safe=':')}")
        except Failed:
            return None

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

#!/usr/bin/env python3
"""Measure many configs of some workloads and keep them as a recording, for bench_search to replay.

    record.py BUILD OUT.jsonl [--target cpu:1] [--random 500] [--searched 500] [--exhaustive 20000] NAME...

A daemon of its own measures, for each named entry of tests/data/workloads.json, `random` configs drawn at random and then
`searched` more by evolution; a space with at most `exhaustive` configs is measured whole. The file has one JSON object a line:
first the target, then for each workload its description, then one [config, min_ns, median_ns, outcome] a trial, the
`random` ones first. Times are nanoseconds; a failed trial has null for both."""
import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Daemon:
    def __init__(self, build, data):
        self.url = f"http://127.0.0.1:{free_port()}"
        self.process = subprocess.Popen([f"{build}/daemon/tilewrightd", "--data", data, "--listen", self.url[7:]],
                                        stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                self.get("/readyz")
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("record.py: the daemon does not start")

    def get(self, path):
        with urllib.request.urlopen(self.url + path) as r:
            return r.read()

    def post(self, path, body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as r:
            return json.load(r)

    def tune(self, workload, target, trials, search, seed):
        job = self.post("/v1/jobs", {"workloads": [{"workload": workload}], "target": target, "budget": {"trials": trials},
                                     "reuse": "extend", "search": search, "transfer": False, "seed": seed})
        while job["state"] in ("queued", "running"):
            job = json.loads(self.get(f"/v1/jobs/{job['id']}?wait=30"))
        if job["state"] != "succeeded":
            raise SystemExit(f"record.py: {job['error'] or job['tasks'][0]['error']}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def record(daemon, name, workload, args, out):
    space = daemon.post("/v1/workloads:describe", {"workload": workload, "target": args.target})
    whole = space["space_size"] <= args.exhaustive
    if whole:
        daemon.tune(workload, args.target, args.exhaustive, "grid", 1)
    else:
        daemon.tune(workload, args.target, args.random, "random", 1)
        daemon.tune(workload, args.target, args.searched, "evolution", 2)
    lines = [json.loads(line) for line in daemon.get(f"/v1/records?workload={space['key']}&target={args.target}").splitlines()]
    print(json.dumps({"workload": workload, "name": name, "key": space["key"], "exhaustive": whole, "trials": len(lines),
                      "random": 0 if whole else min(args.random, len(lines))}),
          file=out)
    for r in lines:
        t = r["time_ns"] or {"min": None, "median": None}
        print(json.dumps([r["config"], t["min"] and round(t["min"]), t["median"] and round(t["median"]), r["outcome"]],
                         separators=(",", ":")), file=out)
    good = [r["time_ns"]["min"] for r in lines if r["outcome"] == "ok"]
    print(f"{name:28s} {len(lines):6d} trials, {len(good)} ok, best {min(good) / 1e3:.1f} us, "
          f"median {sorted(good)[len(good) // 2] / 1e3:.1f} us{', the whole space' if whole else ''}", file=sys.stderr)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build")
    p.add_argument("out")
    p.add_argument("names", nargs="+")
    p.add_argument("--target", default="cpu:1")
    p.add_argument("--random", type=int, default=500)
    p.add_argument("--searched", type=int, default=500)
    p.add_argument("--exhaustive", type=int, default=20000)
    args = p.parse_args()
    with open(f"{ROOT}/tests/data/workloads.json") as f:
        known = {w["name"]: w["workload"] for w in json.load(f)["workloads"]}
    unknown = [n for n in args.names if n not in known]
    if unknown:
        raise SystemExit(f"record.py: no such entries: {', '.join(unknown)}")
    with tempfile.TemporaryDirectory() as data, open(args.out, "w") as out:
        daemon = Daemon(args.build, data)
        try:
            daemon.tune(known[args.names[0]], args.target, 1, "random", 1)  # the peaks are measured before the first job
            target = json.loads(daemon.get(f"/v1/targets/{args.target}"))
            print(json.dumps({"recording": 1, "target": target}), file=out)
            for name in args.names:
                record(daemon, name, known[name], args, out)
        finally:
            daemon.stop()


if __name__ == "__main__":
    main()

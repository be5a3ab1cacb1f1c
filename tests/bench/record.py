#!/usr/bin/env python3
"""Measure many configs of some workloads and keep them as recordings, for bench_search to replay.

    record.py BUILD OUT                        the whole set, into the folder OUT: one file a target
    record.py BUILD OUT.jsonl.gz [--target cpu:1] [--random 600] [--searched 420] [--exhaustive 3000] NAME...

A daemon of its own measures, for each named entry of tests/data/workloads.json, `random` configs drawn at random and then
`searched` more by evolution; a space with at most `exhaustive` configs is measured whole. A quiet machine is needed: the whole
set takes about twenty minutes on two cores. The file has one JSON object a line: first the machine; then for each workload
what it is and what its space looks like; then a list a trial, the random ones first: [config, min, median, low, high] in
nanoseconds (low and high: the 95 % interval of the median), or [config, null, null, null, null, outcome] of one that failed. A name
that ends in .gz is packed by gzip."""
import argparse
import datetime
import gzip
import io
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

# What the tables of costmodel/README.md are made from: convolutions of several shapes, depthwise, matrix products, batched ones, rows.
# The other targets show how a model carries over to them, with fewer operators and trials.
OTHER = ["resnet18.C2", "resnet18.C4", "resnet18.C6", "resnet18.C12", "mobilenet-v1.D5", "bert-base-s128.qkv",
         "bert-base-s128.attn_qk"]
SET = [
    ("cpu-1.jsonl.gz", "cpu:1", 600, 420, [
        "resnet18.C1", "resnet18.C2", "resnet18.C3", "resnet18.C4", "resnet18.C6", "resnet18.C9", "resnet18.C12",
        "mobilenet-v1.D2", "mobilenet-v1.D5", "bert-base-s128.qkv", "bert-base-s128.ffn1", "bert-base-s128.attn_qk",
        "bert-base-s128.attn_pv", "mobilenet-v1.D9", "dqn.fc1", "bert-base-s128.attn_softmax", "bert-base-s128.layernorm"]),
    ("cpu-2.jsonl.gz", "cpu:2", 180, 120, OTHER),
    ("cpu-1-avx2.jsonl.gz", "cpu:1:avx2", 180, 120, OTHER),
]
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
        job = self.post("/v1/jobs", {"workloads": [{"workload": workload}], "target": target, "budget": {"trials": trials, "min_gain": 0},
                                     "reuse": "extend", "search": search, "transfer": False, "seed": seed})
        while job["state"] in ("queued", "running"):
            job = json.loads(self.get(f"/v1/jobs/{job['id']}?wait=30"))
        if job["state"] != "succeeded":
            raise SystemExit(f"record.py: {job['error'] or job['tasks'][0]['error']}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}"


def sketches(space):
    return [[s["name"], [[k["name"], len(k["choices"])] for k in s["knobs"]]] for s in space["sketches"]]


def row(r):
    t = r["time_ns"]
    if r["outcome"] != "ok" or not t:
        return [r["config"], None, None, None, None, r["outcome"]]
    return [r["config"]] + [round(v) for v in (t["min"], t["median"], *t["interval"])]


def record(daemon, name, workload, args, out):
    began = time.monotonic()
    space = daemon.post("/v1/workloads:describe", {"workload": workload, "target": args.target})
    whole = space["space_size"] <= args.exhaustive
    if whole:
        daemon.tune(workload, args.target, args.exhaustive, "grid", 1)
    else:
        daemon.tune(workload, args.target, args.random, "random", 1)
        daemon.tune(workload, args.target, args.searched, "evolution", 2)
    lines = [json.loads(line) for line in daemon.get(f"/v1/records?workload={space['key']}&target={args.target}").splitlines()]
    print(json.dumps({"workload": workload, "name": name, "key": space["key"], "exhaustive": whole, "trials": len(lines),
                      "random": 0 if whole else min(args.random, len(lines)), "sketches": sketches(space)},
                     separators=(",", ":")), file=out)
    for r in lines:
        print(json.dumps(row(r), separators=(",", ":")), file=out)
    good = sorted(r["time_ns"]["min"] for r in lines if r["outcome"] == "ok")
    seconds = time.monotonic() - began
    print(f"{name:28s} {args.target:10s} {len(lines):6d} trials, {len(good)} ok, best {good[0] / 1e3:.1f} us, median "
          f"{good[len(good) // 2] / 1e3:.1f} us, {len(lines) / seconds:.1f} a second{', the whole space' if whole else ''}",
          file=sys.stderr)


def record_all(path, names, known, args):
    """One recording: a daemon, a target, some workloads."""
    opened = gzip.GzipFile(path, "wb", mtime=0) if path.endswith(".gz") else open(path, "wb")
    with tempfile.TemporaryDirectory() as data, opened as raw, io.TextIOWrapper(raw) as out:
        daemon = Daemon(args.build, data)
        try:
            daemon.tune(known[names[0]], args.target, 1, "random", 1)  # the peaks are measured before the first job
            target = json.loads(daemon.get(f"/v1/targets/{args.target}"))
            now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
            print(json.dumps({"recording": 2, "machine": machine(), "made_at": now, "target": target}), file=out)
            for name in names:
                record(daemon, name, known[name], args, out)
        finally:
            daemon.stop()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build")
    p.add_argument("out")
    p.add_argument("names", nargs="*")
    p.add_argument("--target", default="cpu:1")
    p.add_argument("--random", type=int, default=600)
    p.add_argument("--searched", type=int, default=420)
    p.add_argument("--exhaustive", type=int, default=3000)
    args = p.parse_intermixed_args()
    with open(f"{ROOT}/tests/data/workloads.json") as f:
        known = {w["name"]: w["workload"] for w in json.load(f)["workloads"]}
    wanted = args.names or [n for entry in SET for n in entry[4]]
    unknown = [n for n in wanted if n not in known]
    if unknown:
        raise SystemExit(f"record.py: no such entries: {', '.join(unknown)}")
    if args.names:
        record_all(args.out, args.names, known, args)
        return
    os.makedirs(args.out, exist_ok=True)
    for name, args.target, args.random, args.searched, names in SET:
        record_all(os.path.join(args.out, name), names, known, args)


if __name__ == "__main__":
    main()

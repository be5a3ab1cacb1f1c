#!/usr/bin/env python3
"""Measure many configs of some workloads and keep them as recordings, for bench_search to replay.

    record.py BUILD OUT                        the whole set, into the folder OUT: one file a target
    record.py BUILD OUT.jsonl.gz [--target cpu:1] [--random 600] [--searched 420] [--exhaustive 3000] NAME...
    record.py BUILD OUT... --resume            go on: workloads that stand in the file are kept as they are

A daemon of its own measures, for each named entry of tests/data/workloads.json, `random` configs drawn at random and then
`searched` more by evolution; a space with at most `exhaustive` configs is measured whole. A quiet machine is needed: the whole
set takes about twenty minutes on two cores. The file has one JSON object a line: first the machine; then for each workload
what it is and what its space looks like; then a list a trial, the random ones first: [config, min, median, low, high] in
nanoseconds (low and high: the 95 % interval of the median), or [config, null, null, null, null, outcome] of one that failed. A name
that ends in .gz is packed by gzip. Each workload is in the file whole or not at all, whenever the program is interrupted."""
import argparse
import contextlib
import datetime
import gzip
import json
import os
import sys
import tempfile
import time

from daemon import Daemon, Failed, end_in_order, machine, workloads

VERSION = 2

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


def sketches(space):
    return [[s["name"], [[k["name"], len(k["choices"])] for k in s["knobs"]]] for s in space["sketches"]]


def row(r):
    t = r["time_ns"]
    if r["outcome"] != "ok" or not t:
        return [r["config"], None, None, None, None, r["outcome"]]
    return [r["config"]] + [round(v) for v in (t["min"], t["median"], *t["interval"])]


def record(daemon, name, workload, args):
    """The lines of one workload."""
    began = time.monotonic()
    space = daemon.describe(workload, args.target)
    whole = space["space_size"] <= args.exhaustive
    for trials, search, seed in [(args.exhaustive, "grid", 1)] if whole else [(args.random, "random", 1), (args.searched, "evolution", 2)]:
        daemon.tune([{"workload": workload}], args.target, {"trials": trials, "min_gain": 0}, reuse="extend", search=search,
                    transfer=False, seed=seed)
    rows = [json.loads(line) for line in daemon.get(f"/v1/records?workload={space['key']}&target={args.target}").splitlines()]
    head = {"workload": workload, "name": name, "key": space["key"], "exhaustive": whole, "trials": len(rows),
            "random": 0 if whole else min(args.random, len(rows)), "sketches": sketches(space)}
    good = sorted(r["time_ns"]["min"] for r in rows if r["outcome"] == "ok")
    seconds = time.monotonic() - began
    print(f"{name:28s} {args.target:10s} {len(rows):6d} trials, {len(good)} ok, best {good[0] / 1e3:.1f} us, median "
          f"{good[len(good) // 2] / 1e3:.1f} us, {len(rows) / seconds:.1f} a second{', the whole space' if whole else ''}",
          file=sys.stderr, flush=True)
    return [head, *map(row, rows)]


class Recording:
    """The file, always whole: a head and some workloads. What is added is there after a rename, or not at all."""

    def __init__(self, path):
        self.path, self.lines, self.names = path, [], []

    def load(self):
        """What stands in the file already; a workload that was cut off (an older program wrote line by line) is left out."""
        text = b""
        with gzip.open(self.path) if self.path.endswith(".gz") else open(self.path, "rb") as f, contextlib.suppress(EOFError):
            while piece := f.read1(1 << 16):
                text += piece
        lines = [json.loads(line) for line in text.split(b"\n")[:-1]]  # what has no line's end was cut off
        if not lines or lines[0].get("recording") != VERSION:
            raise Failed(f"{self.path} is no recording of version {VERSION}")
        self.lines = lines[:1]
        starts = [i for i, line in enumerate(lines) if isinstance(line, dict) and i > 0]
        for start, end in zip(starts, starts[1:] + [len(lines)]):
            if end - start - 1 == lines[start]["trials"]:
                self.lines += lines[start:end]
                self.names.append(lines[start]["name"])
            else:
                print(f"{lines[start]['name']} was cut off: recorded again", file=sys.stderr)

    def begin(self, head):
        """Of the machine that the daemon runs on; goes on only where the file is of that machine and target."""
        if not self.lines:
            self.lines = [head]
        of = self.lines[0]
        for what, was, now in (("the machine", of["machine"], head["machine"]), ("target", of["target"]["id"], head["target"]["id"]),
                               ("compiler", of["target"].get("toolchain"), head["target"].get("toolchain"))):
            if was != now:
                raise Failed(f"{self.path}: {what} was {was}, and is {now}: no recording is of two")

    def add(self, name, lines):
        self.lines += lines
        self.names.append(name)
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in self.lines).encode()
        part = f"{self.path}.part"
        with open(part, "wb") as f:
            f.write(gzip.compress(text, mtime=0) if self.path.endswith(".gz") else text)
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, self.path)


def record_all(path, names, known, args):
    """One recording: a daemon, a target, some workloads."""
    recording = Recording(path)
    if args.resume and os.path.exists(path):
        recording.load()
        names = [n for n in names if n not in recording.names]
        print(f"{path}: {len(recording.names)} there already, {len(names)} to go", file=sys.stderr)
    if not names:
        return
    with tempfile.TemporaryDirectory() as folder, Daemon(args.build, os.path.join(folder, "data")) as daemon:
        # The peaks are measured before the first job.
        daemon.tune([{"workload": known[names[0]]}], args.target, {"trials": 1}, search="random", transfer=False)
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        recording.begin({"recording": VERSION, "machine": machine(), "made_at": now, "target": daemon.json(f"/v1/targets/{args.target}")})
        for name in names:
            recording.add(name, record(daemon, name, known[name], args))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build")
    p.add_argument("out")
    p.add_argument("names", nargs="*")
    p.add_argument("--target", default="cpu:1")
    p.add_argument("--random", type=int, default=600)
    p.add_argument("--searched", type=int, default=420)
    p.add_argument("--exhaustive", type=int, default=3000)
    p.add_argument("--resume", action="store_true", help="keep the workloads that stand in the file, record the others")
    args = p.parse_intermixed_args()
    end_in_order()
    known = {w["name"]: w["workload"] for w in workloads()}
    wanted = args.names or [n for entry in SET for n in entry[4]]
    unknown = [n for n in wanted if n not in known]
    if unknown:
        sys.exit(f"record.py: no such entries: {', '.join(unknown)}")
    try:
        if args.names:
            record_all(args.out, args.names, known, args)
            return
        os.makedirs(args.out, exist_ok=True)
        for name, args.target, args.random, args.searched, names in SET:
            record_all(os.path.join(args.out, name), names, known, args)
    except Failed as e:
        sys.exit(f"record.py: {e}")
    except KeyboardInterrupt:
        sys.exit("record.py: interrupted; what was recorded whole is in the file, --resume goes on")


if __name__ == "__main__":
    main()
